package sessions

import (
	"context"
	"errors"
	"time"
)

// Sentinel errors of this package.
var (
	// ErrNotFound: there is no such live thing, or the caller may not see it.
	// Which of the two is withheld.
	ErrNotFound = errors.New("no such session")
	// ErrUserLocked: the account is locked or gone.
	ErrUserLocked = errors.New("user is locked")
	// ErrProofStale: what was proven is no longer the account's proof.
	ErrProofStale = errors.New("password was changed meanwhile")
	// ErrUnavailable: the database can't be reached; trying again later is right.
	ErrUnavailable = errors.New("storage is unavailable")

	// ErrCallerMissing: a request carries no credentials.
	ErrCallerMissing = errors.New("no access token")
	// ErrCallerInvalid: the access token is malformed, expired, revoked, of
	// another authorization server or audience, or its session has ended.
	ErrCallerInvalid = errors.New("access token is not valid")
	// ErrCallerNoUser: the access token belongs to a client alone.
	ErrCallerNoUser = errors.New("access token has no user")
)

// Origins of a session.
const (
	OriginBrowser = "browser"
	OriginDevice  = "device"
)

// Session is one client in one login, or in none.
type Session struct {
	ID               string // the sid: 40 characters of [A-Za-z0-9]
	ClientID         string
	ClientName       string
	UserID           string
	Subject          string   // as issued to the client
	LoginID          string   // empty: it has none
	Origin           string   //
	Scopes           []string // of the latest grant
	AuthenticatedAt  time.Time
	ConsentedAt      time.Time
	CustomAttributes map[string]string
	CreatedAt        time.Time
	LastUsedAt       time.Time
	ExpiresAt        time.Time // absolute end, as things stand
	Offline          bool      // has outlived, or can outlive, its login
	Detached         bool      // its login is over
	Ended            *Ended    // nil while it lives
}

// Ended says how a thing came to its end.
type Ended struct {
	At     time.Time
	By     Actor
	Reason Reason
}

// Actor is who acted. The zero value is the server itself.
type Actor struct {
	Kind string // user, client, operator, or empty for the server
	ID   string // user id, client_id, operating-system user
}

// Kinds of actors.
const (
	ActorUser     = "user"
	ActorClient   = "client"
	ActorOperator = "operator"
)

// String is the form kept in rows and logs: "client:photo-album", "server".
func (a Actor) String() string {
	if a.Kind == "" {
		return "server"
	}
	return a.Kind + ":" + a.ID
}

// Reason is why a thing ended.
type Reason string

// Reasons, as they stand in rows, logs and answers.
const (
	ReasonLogout           Reason = "logout"            // the user or the client said so
	ReasonEndedByClient    Reason = "ended_by_client"   // over the session API
	ReasonEndedByOperator  Reason = "ended_by_operator" //
	ReasonEndedByAdmin     Reason = "ended_by_admin"    // a user who looks after others' sessions
	ReasonOtherUser        Reason = "other_user"        // another user signed in over it
	ReasonRevoked          Reason = "revoked"           // RFC 7009, last refreshable grant
	ReasonRefreshReuse     Reason = "refresh_reuse"     // RFC 9700 §4.14.2
	ReasonCodeReplay       Reason = "code_replay"       // RFC 6749 §4.1.2
	ReasonPasswordChanged  Reason = "password_changed"  //
	ReasonUserLocked       Reason = "user_locked"       //
	ReasonConsentWithdrawn Reason = "consent_withdrawn" //
	ReasonDisowned         Reason = "disowned"          // the user said that it was somebody else who signed in
	ReasonClientDeleted    Reason = "client_deleted"    //
	ReasonSuperseded       Reason = "superseded"        // the oldest of too many grants
	ReasonExpired          Reason = "expired"           //
)

// Target names what ends; exactly one of the first seven is set.
type Target struct {
	Grant   string // the grant, and its session where no refreshable grant is left
	Session string
	Login   string // with its sessions; those with offline_access are detached
	User    string // everything of the user: logins, sessions, detached ones
	Client  string // every session of the client
	All     bool   // every session of OfUser, who must be named, at one authorization server
	Entry   string // the login or the session without a live login of that Entry.ID; OfUser must be named

	OfUser   string // only if it belongs to this user
	OfClient string // only if it belongs to this client
	Except   string // with All: not this session
	Lapsed   bool   // with Session: only its grants that need the login and are over by time; it goes on by others
	// ExceptEntryOf excepts, with User, the live login that this session is in,
	// with all that is in it; where it is in none, the session itself.
	ExceptEntryOf Key
	// ExceptLogin excepts, with User, this live login of the user, with all
	// that is in it. Not with ExceptEntryOf.
	ExceptLogin string
	// Nothing, with User: nothing ends, only the effects are written.
	Nothing bool
	// AuthorizationServer is, with Client and OfUser, where the client is, for
	// a RealmStore, which has many. The user's sessions at the client end.
	AuthorizationServer string
}

// Ending is who ends something and why.
type Ending struct {
	By      Actor
	Reason  Reason
	At      time.Time
	Effects []Effect // written in the same transaction
	Asked   Asker    // with Login: the client at whose request the user ends it; for the record
}

// Asker is a client that asked for a sign-out. The zero value is none.
type Asker struct{ AuthorizationServer, ClientID string }

// Effect is a change that belongs into the transaction of an ending. A store
// knows all of them.
type Effect interface{ effect() }

// LockUser locks the account.
type LockUser struct{ UserID string }

// SetPassword replaces the account's password.
type SetPassword struct {
	UserID, PHC string
	// Judged is the hash that the account must still have, ErrProofStale
	// otherwise: of two who know the old password only one changes it. Empty:
	// it may have any.
	Judged string
}

// WithdrawConsent forgets what a user allowed a client of one authorization server.
type WithdrawConsent struct{ AuthorizationServer, UserID, ClientID string }

// DeleteClient marks a client of one authorization server as gone.
type DeleteClient struct{ AuthorizationServer, ClientID string }

func (LockUser) effect()        {}
func (SetPassword) effect()     {}
func (WithdrawConsent) effect() {}
func (DeleteClient) effect()    {}

// Store keeps the sessions of one authorization server. Every call sees only
// what is live by marks and by time.
type Store interface {
	// Session returns a live session of the user, or ErrNotFound.
	Session(ctx context.Context, id, userID string) (*Session, error)
	// Sessions lists the live, activated sessions that filter names, newest
	// first, and by id where they began in the same millisecond.
	Sessions(ctx context.Context, filter Filter) ([]Session, error)
	// ChangeAttributes merges change into the custom attributes of a live,
	// activated session of the user and returns the session with them: a value
	// is set, nil removes. It is one step beside other changes, and nothing is
	// written once the session has ended: ErrNotFound.
	ChangeAttributes(ctx context.Context, id, userID string, change map[string]*string) (*Session, error)
	// End ends what target names (Grant, Session, Client or All) in one transaction
	// with ending.Effects and tells how many sessions ended. ErrNotFound where
	// nothing live matched. Ending by anybody but the session's own client also
	// demands fresh proof before that login may authorize that client again.
	End(ctx context.Context, target Target, ending Ending) (int, error)
}

// Filter chooses sessions of one authorization server; empty members choose all.
type Filter struct {
	UserID   string
	ClientID string
	After    Position // only those behind it, the first ones
	Before   Position // only those ahead of it, the last ones; not with After
	Limit    int      // 0: 1,000
}

// Position is a place in the order of Store.Sessions, whether or not a session
// is there. An empty ID is none.
type Position struct {
	CreatedAt time.Time
	ID        string
}
