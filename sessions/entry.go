package sessions

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"
)

// Sentinel errors of what is asked for a whole realm.
var (
	// ErrForbidden: the person may not do that, whether or not there is
	// anything that it could be done to.
	ErrForbidden = errors.New("not allowed")
	// ErrUserNotFound: the realm has no such user.
	ErrUserNotFound = errors.New("no such user in the realm")
	// ErrTooSlow: a filter would read more than it may.
	ErrTooSlow = errors.New("the filter takes too long")
)

const (
	// MaxEntries is how many entries one answer has at most.
	MaxEntries = 1000
	// MaxConditions is how many conditions a query has at most.
	MaxConditions = 16
	// MaxDeviceName bounds the name that a user gives a device, in characters
	// (code points), of which each takes up to four bytes.
	MaxDeviceName = 80
)

// Key names a session among those of all authorization servers. The zero value
// names none.
type Key struct{ AuthorizationServer, ID string }

// Entry is a line of the list that people and help desks see: a live login with
// the applications used in it, or a session without a live login, by itself.
type Entry struct {
	ID           string // 64 lower-case hexadecimal characters: the login's id, or EntryID
	Position     int64  // the place in the order of all of the realm's entries, newest first; no two have the same
	UserID       string
	Username     string
	Login        bool          // it is a login; otherwise it has no address, user agent and device name
	Applications []Application // of the same user; by name
	Address      string
	UserAgent    string
	DeviceName   string    // what the user calls the device
	CreatedAt    time.Time // of the sign-in, or of the session
	LastAccessAt time.Time // written at most once a minute
	ExpiresAt    time.Time // by the absolute lifetime or by being idle, whichever comes first, as things stand
}

// Has tells whether the session is one of the entry's.
func (e *Entry) Has(session Key) bool {
	for _, a := range e.Applications {
		if a.AuthorizationServer == session.AuthorizationServer && a.SessionID == session.ID && session.ID != "" {
			return true
		}
	}
	return false
}

// Application is a client with its live session in an entry.
type Application struct {
	ID                  string // the client's UID, a UUID
	Number              int64  // of the client, unique in the realm
	Name                string
	AuthorizationServer string
	ClientID            string
	SessionID           string   // the sid
	Scopes              []string // of the latest grant
	ConsentedAt         time.Time
	CreatedAt           time.Time // of the session
	LastUsedAt          time.Time // of the session; written at most once a minute
	Offline             bool      // has outlived, or can outlive, its login
	Device              bool      // was authorized on a device, without a browser of its own
}

// EntryID is the id of the entry of a session without a live login.
func EntryID(session Key) string {
	sum := sha256.Sum256([]byte(session.AuthorizationServer + "/" + session.ID))
	return hex.EncodeToString(sum[:])
}

// Attribute names of conditions.
const (
	ByUsername     = "username"
	ByEntryID      = "id"
	ByApplication  = "application" // the name of any
	ByUserAgent    = "user agent"
	ByAddress      = "address"
	ByCreated      = "created"
	ByLastAccess   = "last access"
	ByClient       = "client"  // the application with this client_id at Condition.Server; one condition at most
	ByBrowser      = "browser" // the family, as BrowserFamily tells it
	OpEqual        = "eq"
	OpStartsWith   = "sw"
	OpEndsWith     = "ew"
	OpContains     = "co"
	OpLessEqual    = "le"
	OpGreaterEqual = "ge"
)

// Condition is something that an entry must be. Texts are compared without
// regard to the case of ASCII letters, user names as the realm compares them.
// Texts take eq, sw, ew and co, times le and ge; an address, a client and a
// browser take eq.
type Condition struct {
	By, Operator string
	Text         string
	Server       string // authorization server of a client
	Time         time.Time
}

// EntryQuery chooses entries of a realm; empty members choose all. With a
// condition on a client the position of a login is that of the client's session
// in it: the list is in the order in which the client was first used.
type EntryQuery struct {
	UserID     string
	IDs        []string    // these only; at most MaxSelection. nil: any
	Conditions []Condition // all of them hold; at most MaxConditions
	After      int64       // only positions above it; without Before the lowest of them. 0: none
	Before     int64       // only positions below it. 0: none
	Limit      int         // 0: MaxEntries
	Offset     int         // so many are left out first
}

// EntryStore lists what lives in a realm, at all of its authorization servers.
type EntryStore interface {
	// Entries lists what the query chooses, newest first. ErrTooSlow: a
	// condition would have it read too much.
	Entries(ctx context.Context, q EntryQuery) ([]Entry, error)
	// HasUser tells whether there is a user with that id, locked or not.
	HasUser(ctx context.Context, id string) (bool, error)
	// UserNamed is the id of the user whom a condition ByUsername with OpEqual and
	// that text means, locked or not, or ErrUserNotFound.
	UserNamed(ctx context.Context, text string) (string, error)
	// NameLogin sets the device name of a live login of the user, or returns
	// ErrNotFound.
	NameLogin(ctx context.Context, userID, id, name string) error
	AccountStore
	// Note records what a person did, or tried to do, that changed nothing.
	Note(ctx context.Context, note Note) error
	// Mark stands for all that lives of a user: it is another one once
	// something of it has begun, ended, changed its name or its permissions. At
	// most 1,000 things are looked at. It is one cheap statement. ErrNotFound: the
	// login is not a live one of the user.
	Mark(ctx context.Context, userID, loginID string) (string, error)
}

// NoteKind is what a Note tells of.
type NoteKind string

// Kinds of notes.
const (
	NoteViewed  NoteKind = "viewed"  // an administrator saw entries
	NoteRefused NoteKind = "refused" // somebody was refused
	NoteEnding  NoteKind = "ending"  // an administrator ended entries
	NoteMissed  NoteKind = "missed"  // what somebody wanted to end isn't there, or isn't his
)

// Note is for the record of who did what to whom. As an Effect it is written
// with an ending.
type Note struct {
	Kind   NoteKind
	By     Actor
	UserID string // whom; empty: nobody in particular
	Detail string // which entries
}

func (Note) effect() {}
