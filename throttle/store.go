package throttle

import (
	"context"
	"time"
)

// Kind is what a counter counts for.
type Kind string

// The kinds of counters.
const (
	KindAccount Kind = "account" // an account as it was typed
	KindAddress Kind = "address" // an IPv4 address, or an IPv6 network of 64 bits
	KindDevice  Kind = "device"  // the browsers that have signed in to an account
)

// Counter names one counter of a realm.
type Counter struct {
	Kind    Kind
	Bucket  int64 // from 0 to Config.Buckets - 1
	Allowed int   // how many attempts it takes before it blocks; at least 1
}

// Counted is an attempt that a counter has taken.
type Counted struct {
	Counter
	Attempts     int       // in this counter, with this one
	BeganAt      time.Time // the first of them
	BlockedUntil time.Time // zero: the counter takes another one now
}

// Rule is the time that counters keep. Both are whole milliseconds, FirstWait
// at most Window and Window at most a day.
type Rule struct {
	Window    time.Duration // a counter is forgotten so long after it began or, if it has blocked, after its wait
	FirstWait time.Duration // the wait at the allowed number of attempts, doubled by each further one up to Window
}

// Store keeps the counters of one realm. Counters that have expired count for
// nothing, whether or not they have been removed.
type Store interface {
	// CountAttempt counts an attempt at the time now in all of the counters,
	// each of another kind, or in none of them. It returns what was counted,
	// in any order; where one of the counters is blocked, nothing and the
	// time until which. The decision is one statement, so it holds for
	// attempts made at once, also at several nodes.
	CountAttempt(ctx context.Context, counters []Counter, rule Rule, now time.Time) ([]Counted, time.Time, error)
	// GiveBackAttempt takes a counted attempt, and the wait that it began,
	// out of its counters again. Counters that have begun anew are left alone.
	GiveBackAttempt(ctx context.Context, counted []Counted, rule Rule) error
	// SweepThrottle removes up to limit counters that have expired at the
	// time now, and returns how many it removed.
	SweepThrottle(ctx context.Context, now time.Time, limit int) (int, error)
}
