package sessions

import (
	"context"
	"time"
)

// Past is a line of the history: a login that has ended, with the applications
// whose sessions ended with it, or a session that ended by itself.
type Past struct {
	ID           string // as Entry.ID was
	Position     int64  // the place in the order of a user's history, newest ending first; no two have the same
	UserID       string
	Username     string
	Login        bool // it is a login
	Applications []PastApplication
	Address      string // of the login, also of one that a session was in
	UserAgent    string
	DeviceName   string
	CreatedAt    time.Time
	Ended        Ended
	EndedBy      string // name of the user or client that ended it, as it is now; empty: none, or the server itself
}

// PastApplication is a client with its session that has ended, and what became
// of the message that told it so.
type PastApplication struct {
	Name                string
	AuthorizationServer string
	ClientID            string
	SessionID           string
	Scopes              []string
	Told                Telling
	ToldAt              time.Time // with ToldAcknowledged; zero otherwise
}

// Telling is whether a client knows of an ending.
type Telling string

// Values of Telling.
const (
	ToldNothing      Telling = ""             // nothing is sent to the client: it registered no address, or never had a token
	ToldWaiting      Telling = "waiting"      // it was not reached yet
	ToldAcknowledged Telling = "acknowledged" // it answered that it knows
	ToldNever        Telling = "abandoned"    // it could not be reached
)

// PastQuery chooses a part of a user's history.
type PastQuery struct {
	UserID string // required
	Before int64  // only positions below it. 0: none
	Limit  int    // at most MaxPast; 0: MaxPast
}

// MaxPast is how many lines of a history one answer has at most.
const MaxPast = 100

// PastPage is a part of a user's history.
type PastPage struct {
	Past  []Past
	Older bool // there are lines behind it
}

// Permission is what a user has allowed a client, as the account page lists it.
type Permission struct {
	AuthorizationServer string
	ClientID            string
	Name                string // of the client
	Scopes              []string
	Resources           []string
	At                  time.Time
}

// PastStore tells what has ended in a realm, and what its users have allowed.
type PastStore interface {
	// Past lists a part of a user's history, newest ending first. Sessions that
	// never had a token are left out.
	Past(ctx context.Context, q PastQuery) ([]Past, error)
	// Permissions lists what a user has allowed clients that there are, by name.
	Permissions(ctx context.Context, userID string) ([]Permission, error)
}
