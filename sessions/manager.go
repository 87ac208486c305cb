package sessions

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Caller is who asks over a dialect: proven, live, with a user.
type Caller struct {
	UserID    string
	ClientID  string
	SessionID string
	Scopes    []string
}

// Visibility of a session API.
const (
	VisibilityUser   = "user"   // all of the user's sessions at the authorization server
	VisibilityClient = "client" // only the calling client's own
)

// Manager holds the rules of one authorization server's sessions, or of a
// realm's logins where Store is nil.
type Manager struct {
	Store      Store       // one authorization server's; nil for a realm's pages
	Realm      RealmStore  // required
	Visibility string      // default: VisibilityUser
	Attributes *Attributes // custom attributes that sessions show. Default: none
	Now        func() time.Time
}

// errCaller: an empty id would choose everybody's sessions.
var errCaller = errors.New("a caller has a user, a client and a session")

func (c Caller) check() error {
	if c.UserID == "" || c.ClientID == "" || c.SessionID == "" {
		return errCaller
	}
	return nil
}

// Current returns the caller's own session, or ErrNotFound.
func (m *Manager) Current(ctx context.Context, c Caller) (*Session, error) {
	return m.One(ctx, c, c.SessionID)
}

// One returns a session that the caller may see, or ErrNotFound.
func (m *Manager) One(ctx context.Context, c Caller, id string) (*Session, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	s, err := m.Store.Session(ctx, id, c.UserID)
	if err != nil {
		return nil, fmt.Errorf("reading a session: %w", err)
	}
	if m.Visibility == VisibilityClient && s.ClientID != c.ClientID {
		return nil, fmt.Errorf("reading a session: %w", ErrNotFound)
	}
	m.Attributes.shown(s)
	return s, nil
}

// Change sets and removes custom attributes of the caller's own session: a
// string sets a value, nil removes it. It returns the session as it is then.
// AttributeFaults: something in change is refused, and nothing was changed.
// ErrNotFound: the session has ended.
func (m *Manager) Change(ctx context.Context, c Caller, change map[string]any) (*Session, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if err := m.Attributes.Check(change); err != nil {
		return nil, fmt.Errorf("changing a session: %w", err)
	}
	values := make(map[string]*string, len(change))
	for name, value := range change {
		values[name] = nil
		if text, ok := value.(string); ok {
			values[name] = &text
		}
	}
	s, err := m.Store.ChangeAttributes(ctx, c.SessionID, c.UserID, values)
	if err != nil {
		return nil, fmt.Errorf("changing a session: %w", err)
	}
	m.Attributes.shown(s)
	return s, nil
}

// EndOne ends a session that the caller may see. For one that he may not see,
// or that is not there, the answer is the same: ErrNotFound.
func (m *Manager) EndOne(ctx context.Context, c Caller, id string) error {
	if err := c.check(); err != nil {
		return err
	}
	t := Target{Session: id, OfUser: c.UserID}
	if m.Visibility == VisibilityClient {
		t.OfClient = c.ClientID
	}
	reason := ReasonEndedByClient
	if id == c.SessionID {
		reason = ReasonLogout
	}
	_, err := m.End(ctx, t, Ending{By: Actor{Kind: ActorClient, ID: c.ClientID}, Reason: reason})
	return err
}

// EndAll ends every session that the caller may see, in one transaction, and
// tells how many there were; none is no error. keepCurrent excepts the
// caller's own.
func (m *Manager) EndAll(ctx context.Context, c Caller, keepCurrent bool) (int, error) {
	if err := c.check(); err != nil {
		return 0, err
	}
	t := Target{All: true, OfUser: c.UserID}
	if m.Visibility == VisibilityClient {
		t.OfClient = c.ClientID
	}
	if keepCurrent {
		t.Except = c.SessionID
	}
	n, err := m.End(ctx, t, Ending{By: Actor{Kind: ActorClient, ID: c.ClientID}, Reason: ReasonEndedByClient})
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	return n, err
}

// End is the only way in which grants, sessions and logins end before their
// time. It is in force at every endpoint of every node when it returns, and
// tells how many sessions it ended. ErrNotFound: nothing live matched.
func (m *Manager) End(ctx context.Context, target Target, ending Ending) (int, error) {
	if ending.At.IsZero() {
		ending.At = m.Now()
	}
	var n int
	var err error
	if target.AuthorizationServer == "" && (target.Grant != "" || target.Session != "" || target.Client != "" || target.All) {
		n, err = m.Store.End(ctx, target, ending)
	} else {
		n, err = m.Realm.End(ctx, target, ending)
	}
	if err != nil {
		return 0, fmt.Errorf("ending (%s, %s): %w", ending.By, ending.Reason, err)
	}
	return n, nil
}
