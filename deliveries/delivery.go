package deliveries

import (
	"context"
	"errors"
	"time"
)

// ErrNotFound: there is no such delivery, or another node has it by now.
var ErrNotFound = errors.New("no such delivery")

// State is what has become of a delivery.
type State string

// States of a delivery.
const (
	Waiting   State = "waiting"   // to be sent, or to be sent again
	Sent      State = "sent"      // the client acknowledged it
	Abandoned State = "abandoned" // the client could not be told in time
)

// Delivery is the message to one client that one of its sessions has ended.
type Delivery struct {
	ID                  string // jti of the logout token, the same at each sending; 22 or more characters of [A-Za-z0-9_-]
	AuthorizationServer string
	ClientID            string // the audience
	SessionID           string // the sid
	Subject             string // the sub, as issued to the client
	URI                 string // backchannel_logout_uri when the session ended
	Alg                 string // id_token_signed_response_alg of the client when the session ended
	State               State
	CreatedAt           time.Time // of the ending
	NextAt              time.Time // when it is due; while it is claimed, the end of the lease
	Attempts            int       // how often sending began
	LastError           string    // why the last attempt failed; at most 200 bytes, printable; empty: it didn't
	SettledAt           time.Time // when it became Sent or Abandoned; zero: it is Waiting
}

// Claiming is what a worker asks for.
type Claiming struct {
	Servers   []string      // names of the authorization servers whose tokens the worker can sign
	Limit     int           // deliveries, at most
	PerClient int           // deliveries of one client, at most; those of Busy count
	Busy      map[Party]int // what the worker has in flight of each client
	Lease     time.Duration // how long nobody else may send them
}

// Party is a client of one authorization server.
type Party struct{ AuthorizationServer, ClientID string }

// Outcome is what became of one sending.
type Outcome struct {
	State State     // Sent, Abandoned, or Waiting to be sent again at Next
	Next  time.Time // with Waiting
	Error string    // why it failed; empty: it did not
}

// Filter chooses deliveries of one authorization server; empty members choose all.
type Filter struct {
	State     State
	ClientID  string
	SessionID string
	Limit     int // 0: 1,000
}

// Store keeps the deliveries of the whole database. Times are UTC and exact to
// the millisecond. sessions.ErrUnavailable where the database can't be reached.
type Store interface {
	// ClaimDeliveries takes deliveries that are due, of all authorization
	// servers, oldest first, as far as the bounds of c let it, and counts an
	// attempt for each. Each goes to one caller, of whatever node, until its
	// lease is over. What clients at their bound have waiting is neither read
	// nor locked.
	ClaimDeliveries(ctx context.Context, c Claiming) ([]Delivery, error)
	// SettleDelivery notes the outcome of the attempt that d was claimed for.
	// ErrNotFound: another attempt has begun since.
	SettleDelivery(ctx context.Context, d Delivery, outcome Outcome) error
	// ReleaseDeliveries gives back what was claimed and not begun: it is due
	// at once, and the attempt is not counted.
	ReleaseDeliveries(ctx context.Context, claimed []Delivery) error
	// Deliveries lists those of one authorization server, newest first.
	Deliveries(ctx context.Context, server string, filter Filter) ([]Delivery, error)
	// Backlog counts waiting deliveries by authorization server, each up to
	// limit, and tells when the oldest of them was due.
	Backlog(ctx context.Context, limit int) (map[string]Waitings, error)
}

// Waitings is what one authorization server has waiting.
type Waitings struct {
	Count  int
	Oldest time.Time // CreatedAt of the oldest; zero: there is none
}
