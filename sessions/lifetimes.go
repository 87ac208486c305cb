package sessions

import "time"

// Lifetimes are how long things live at one authorization server, and at the
// realm it belongs to. Stores judge liveness by them.
type Lifetimes struct {
	LoginIdle       time.Duration // realm: since last access
	LoginAbsolute   time.Duration // realm: since the sign-in
	SessionIdle     time.Duration // since last use, where the client has refresh tokens
	SessionAbsolute time.Duration // since authentication
	OfflineIdle     time.Duration // sessions with offline_access
	OfflineAbsolute time.Duration
	RefreshGrace    time.Duration // a repeated refresh within it gets the same answer
}

// IdleSlack is how much later than idle times say a session is judged idle
// where only batched last-use times are known.
const IdleSlack = 2 * time.Minute

// Swept counts what one pass of a sweeper did.
type Swept struct {
	Logins     int  // made endings of
	Sessions   int  // made endings of, with their login or by themselves
	Grants     int  // removed
	History    int  // ended logins and sessions removed
	Deliveries int  // settled messages about sessions that are not kept any more removed
	Marks      int  // revoked tokens and used assertions removed, since they have expired
	More       bool // there may be more to do at once
}

// Add sums up.
func (s *Swept) Add(o Swept) {
	s.Logins += o.Logins
	s.Sessions += o.Sessions
	s.Grants += o.Grants
	s.History += o.History
	s.Deliveries += o.Deliveries
	s.Marks += o.Marks
	s.More = s.More || o.More
}
