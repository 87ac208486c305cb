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
	Store      Store      // one authorization server's; nil for a realm's pages
	Realm      RealmStore // required
	Visibility string     // default: VisibilityUser
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
	return s, nil
}

// All lists what the caller may see, newest first.
func (m *Manager) All(ctx context.Context, c Caller) ([]Session, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	f := Filter{UserID: c.UserID}
	if m.Visibility == VisibilityClient {
		f.ClientID = c.ClientID
	}
	list, err := m.Store.Sessions(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	return list, nil
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

// End is the only way in which grants, sessions and logins end before their
// time. It is in force at every endpoint of every node when it returns, and
// tells how many sessions it ended. ErrNotFound: nothing live matched.
func (m *Manager) End(ctx context.Context, target Target, ending Ending) (int, error) {
	if ending.At.IsZero() {
		ending.At = m.Now()
	}
	var n int
	var err error
	if target.Grant != "" || target.Session != "" || target.Client != "" {
		n, err = m.Store.End(ctx, target, ending)
	} else {
		n, err = m.Realm.End(ctx, target, ending)
	}
	if err != nil {
		return 0, fmt.Errorf("ending (%s, %s): %w", ending.By, ending.Reason, err)
	}
	return n, nil
}
