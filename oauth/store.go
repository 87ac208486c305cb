package oauth

import (
	"context"
	"errors"
	"time"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

// Sentinel errors that a Store returns.
var (
	// ErrNotFound: no such row at this authorization server.
	ErrNotFound = errors.New("not found")
	// ErrReplayed: the assertion was used before.
	ErrReplayed = errors.New("assertion was used before")
	// ErrLoginRequired: the login is over, or an ending since its auth_time
	// demands fresh proof, or the nonce of the sign-in was used up.
	ErrLoginRequired = errors.New("user must sign in")
	// ErrNotLive: client, user, session or grant has ended.
	ErrNotLive = errors.New("not live")
)

// Grant is one authorization of a client by a user.
type Grant struct {
	ID          string // 22 characters of [A-Za-z0-9]
	SessionID   string
	ClientID    string
	UserID      string
	Scopes      []string
	Resources   []string // audience of the access tokens; never empty
	AuthTime    time.Time
	ACR         string
	AMR         []string
	Nonce       string
	RedirectURI string // as the request had it; empty where it had none
	Challenge   string // PKCE, S256; empty: none
	CodeHash    []byte // SHA-256 of the code's secret
	CodeExpires time.Time
	Secret      []byte // 32 random bytes in the MAC of its refresh tokens
	Refreshable bool   // its client has the grant type refresh_token
	Offline     bool   // offline_access was granted
	RedeemedAt  time.Time
	BurnedAt    time.Time // its code is dead without having been redeemed
	Generation  int64     // of its refresh token; 0 until redeemed, then from 1
	RotatedAt   time.Time
	LastUsedAt  time.Time
	CreatedAt   time.Time
	RemovableAt time.Time // not refreshable: when code and last access token have expired
	EndedAt     time.Time
}

// State is a grant with all that decides whether it lives, read in one statement.
type State struct {
	Grant   Grant
	Live    bool // grant, session, login where needed, client and user are live
	Lapsed  bool // Live without the login, while what of the session needs it may be over by time
	Session sessions.Session
	User    users.User // without its password
	Revoked bool       // the jti that was asked about is revoked
}

// NewGrant is what /authorize wants to be written.
type NewGrant struct {
	Grant     Grant             // SessionID is chosen by the store
	LoginID   string            // required
	Subject   string            // the sub claim
	Client    string            // name to show
	UseNonce  string            // the login's auth_nonce that must be there and is used up; empty: none
	Consent   *sessions.Consent // a decision to remember; nil: none new
	Consented time.Time         // when the user consented (or was vouched for)
	Session   sessions.Session  // ID and attributes of a session that begins, should none go on
	// Sourced says what changes of the custom attributes, of a session that
	// begins and of one that goes on alike: a value is set, nil removes. It is
	// called within the transaction, perhaps more than once, with the user as
	// the transaction reads him (without password). Default: nothing.
	Sourced func(*users.User) map[string]*string
}

// Store keeps what one authorization server must remember.
type Store interface {
	// Client returns the registered live client, or ErrNotFound.
	Client(ctx context.Context, id string) (*clients.Client, error)

	// Origins lists the web origins of the registered live clients' redirect
	// URIs (clients.Metadata.Origins).
	Origins(ctx context.Context) ([]string, error)

	// Consent returns what the user has allowed the client, or ErrNotFound.
	Consent(ctx context.Context, userID, clientID string) (*sessions.Consent, error)

	// InsertGrant writes a grant in one transaction that locks user and login
	// against ending: judges that they live, that auth_time is later than any
	// ending that demands fresh proof, uses up the nonce, remembers the
	// consent, continues the login's session of that client or begins one, sets
	// custom attributes from their sources, and ends the oldest of more than 20
	// refreshable grants. Returns the session. ErrLoginRequired, or ErrNotLive where client or user is gone or locked.
	InsertGrant(ctx context.Context, g NewGrant) (*sessions.Session, error)

	// State reads a grant by id (and whether jti, if not empty, is revoked)
	// in one statement; ErrNotFound.
	State(ctx context.Context, grantID, jti string) (*State, error)

	// Redeem marks the code redeemed: generation 1, session activated, in one
	// transaction that locks the session against ending. False where it was
	// redeemed, burned or ended before, or is no longer live.
	Redeem(ctx context.Context, grantID string, now time.Time) (bool, error)

	// Burn kills an unredeemed code.
	Burn(ctx context.Context, grantID string, now time.Time) error

	// Advance raises the generation to from+1 by one statement that takes
	// effect only while the stored one is from or lower and the grant and its
	// session are not ended; it also writes last use. False: it did not.
	Advance(ctx context.Context, grantID string, from int64, now time.Time) (bool, error)

	// CountGrace counts an answer within the grace. One statement.
	CountGrace(ctx context.Context, grantID string, generation int64) error

	// ClientToken judges a token without a grant in one statement: the client
	// lives and jti is not revoked.
	ClientToken(ctx context.Context, clientID, jti string) (bool, error)

	// RevokeToken remembers a revoked access token until it expires.
	RevokeToken(ctx context.Context, jti string, expires time.Time) error

	// UseAssertion remembers a client assertion's jti until it expires, or
	// returns ErrReplayed (RFC 7523 §3, one insert under a unique key).
	UseAssertion(ctx context.Context, clientID, jti string, expires time.Time) error
}
