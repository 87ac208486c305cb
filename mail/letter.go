package mail

import (
	"context"
	"errors"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// ErrNotFound: there is no such letter, or another node has it by now.
var ErrNotFound = errors.New("no such letter")

// State is what has become of a letter.
type State string

// States of a letter.
const (
	Waiting   State = "waiting"   // to be sent, or to be sent again
	Sent      State = "sent"      // the mail server took it
	Abandoned State = "abandoned" // the mail server doesn't want it, or could not be reached in time
	Held      State = "held"      // the user got too many before it; never sent
)

// Letter is a mail about a notice that is due.
type Letter struct {
	Realm    string
	Notice   sessions.Notice
	To       string // address
	Language string // BCP 47
	Attempts int    // how often sending began, this time included
}

// Outcome is what became of one attempt.
type Outcome struct {
	State State     // Sent, Abandoned, or Waiting to be sent again at Next
	Next  time.Time // with Waiting
}

// Store keeps the letters of the whole database.
type Store interface {
	// ClaimLetters takes up to limit letters of those realms that are due, the
	// longest due first, and counts an attempt for each. Each goes to one caller,
	// of whatever node, until its lease is over.
	ClaimLetters(ctx context.Context, realms []string, limit int, lease time.Duration) ([]Letter, error)
	// SettleLetter notes the outcome of the attempt that l was claimed for. A
	// letter that is settled no longer has an address. ErrNotFound: another
	// attempt has begun since, or the notice has gone.
	SettleLetter(ctx context.Context, l Letter, outcome Outcome) error
}

// Text is what a mail says.
type Text struct {
	Subject  string // one line
	Body     string // plain text, lines end with \n
	Sender   string // name in front of the sender's address; empty: that of the configuration
	Language string // BCP 47
}
