package sessions

import (
	"context"
	"time"
)

// Login is one browser signed in to a realm.
type Login struct {
	ID           string    // 64 lower-case hexadecimal characters, not derived from the cookie
	UserID       string    // UUID
	CookieHash   []byte    // SHA-256 of the cookie's value
	AuthTime     time.Time // when the user last proved who he is
	AuthNonce    string    // nonce of the authorization request that this sign-in answered; used up once
	AMR          []string  // RFC 8176
	ACR          string    // empty where unknown; never invented
	Persistent   bool      // survives a restart of the browser
	Address      string    // IP address of the sign-in
	UserAgent    string    // at most 512 bytes
	DeviceName   string    // what the user calls the device
	CreatedAt    time.Time //
	LastAccessAt time.Time // written at most once a minute
	ExpiresAt    time.Time // absolute end
	// Former: it was asked for by the cookie before the present one. Whoever has
	// that may go on for a moment, but what was proven since is not his: AuthTime
	// must not count as fresh.
	Former bool
	Ended  *Ended // nil while it lives
}

// SignIn is a password (or better) that was just proven in a browser.
type SignIn struct {
	UserID     string
	AuthTime   time.Time
	AuthNonce  string
	AMR        []string
	ACR        string
	Persistent bool
	Address    string
	UserAgent  string
	Password   string // the hash that was checked: the account must still have it. Empty: not judged
	CookieHash []byte // of the new cookie: it is rotated at every sign-in
	ExpiresAt  time.Time
	Current    string // id of the login of the browser's present cookie; empty: none
	Revokes    bool   // that cookie is void at once, also for requests under way
	Noticing   Noticing
}

// Consent is what a user has allowed a client, remembered until withdrawn.
type Consent struct {
	UserID    string
	ClientID  string
	Scopes    []string
	Resources []string
	At        time.Time
}

// RealmStore keeps the logins of one realm and ends across its authorization
// servers. Times are UTC and exact to the millisecond.
type RealmStore interface {
	// LoginByCookie returns the live login of that cookie hash (the current
	// one, or the previous one within 30 s of its rotation: Login.Former), or
	// ErrNotFound.
	LoginByCookie(ctx context.Context, cookieHash []byte) (*Login, error)
	// SignIn records a sign-in. Where in.Current is a live login of the same
	// user, that login goes on with its sids: new cookie, AuthTime, AuthNonce,
	// absolute lifetime. Where it is another user's, that login ends (as by
	// ending) in the same transaction and a new one begins. The user's row is
	// locked and must be live: ErrUserLocked otherwise; and it must still have
	// in.Password, so that no sign-in by an old password survives its change:
	// ErrProofStale otherwise. Nothing is written then. The device and the network
	// are remembered, and where the user had signed in before, but not from both
	// of them, a Notice is left, in the same transaction. A login that goes on is
	// on a known device.
	SignIn(ctx context.Context, in SignIn, ending Ending) (*Login, error)
	// Logins lists the user's live logins, newest first.
	Logins(ctx context.Context, userID string) ([]Login, error)
	// End ends what target names (Login, User, Entry, or Client with
	// AuthorizationServer and OfUser) at every authorization server of the
	// realm, in one transaction, with ending.Effects, and tells how many
	// sessions ended. ErrNotFound: no such live login or no such user, or
	// nothing of the user's at the client. ErrProofStale: see SetPassword.
	End(ctx context.Context, target Target, ending Ending) (int, error)
	// Touch writes last-use times, each only forward.
	Touch(ctx context.Context, touches []Touch) error
}

// Touch says that a login or a session was used.
type Touch struct {
	LoginID             string // empty: none
	AuthorizationServer string // with SessionID; empty: none
	SessionID           string
	At                  time.Time
}
