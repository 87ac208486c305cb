//go:build unix

package main

import (
	"fmt"
	"time"
)

// What the model knows of logout: who is told, and when. A client that wants to
// be told gets one message when a session of which it has a token ends, and one
// when such a session goes on without its login. What somebody decides is told
// with the decision; what is over by time, when a sweeper has come by.

// modelSweepPause is how long after its time a sweeper may come by and still
// leave a thing alone, because it has looked at it just before.
const modelSweepPause = time.Minute

// modelGiveUp is how long a client is tried, modelLease how long a node that
// sends something has it for itself, and modelAgain the greatest distance
// between two sendings: less than the clock ever moves by itself.
const (
	modelGiveUp = 24 * time.Hour
	modelLease  = 30 * time.Second
	modelAgain  = 800 * time.Millisecond
)

// modelCause is what ends a thing.
type modelCause bool

const (
	decided modelCause = true  // somebody, at this moment
	byTime  modelCause = false // time; a sweeper makes it an ending
)

// modelTold is what a session's client is to be told: between least and most
// messages.
type modelTold struct {
	least, most int
	// Since when time has ended or detached the session, of which no sweeper has
	// surely made an ending; zero: it is not so.
	endDue, detachDue time.Time
	// loose: offline access was over by time when the login ended. It makes no
	// difference to the user whether such a session counts as detached before it
	// ends.
	loose bool
}

// announce has a session's client told, now or when a sweeper comes by.
func (m *model) announce(s *modelSession, cause modelCause, due *time.Time) {
	if s.sid == "" || s.client.silent {
		return
	}
	s.told.most++
	if cause == decided {
		s.told.least++
	} else {
		*due = m.now
	}
}

// lastCause is what ends a session whose last grant somebody has ended. Where
// others of it are over by time, that may have to be swept first.
func (s *modelSession) lastCause() modelCause {
	if !s.told.detachDue.IsZero() {
		return byTime
	}
	for _, g := range s.grants {
		if g.over == lapsedGrant {
			return byTime
		}
	}
	return decided
}

// finish marks a session as over and has that announced. A detachment that no
// sweeper has made is not made any more.
func (m *model) finish(s *modelSession, why string, cause modelCause) {
	s.over, s.ended = why, m.now
	s.told.detachDue = time.Time{}
	m.announce(s, cause, &s.told.endDue)
}

// leave notes that the login of a session ends whose offline access was over by
// time, but not swept.
func (m *model) leave(s *modelSession) {
	if s.sid == "" || s.client.silent || s.detached || s.told.loose || (s.over != "" && s.told.endDue.IsZero()) {
		return
	}
	for _, g := range s.grants {
		idle := g.over == "" && m.grant(g) == isDead || g.over == lapsedGrant
		if g.offline && !g.redeemed.IsZero() && idle {
			s.told.loose = true
			s.told.most++
			return
		}
	}
}

// swept notes that a sweeper came by: what was over by time is announced.
func (m *model) swept() {
	for _, s := range m.sessions {
		for _, due := range []*time.Time{&s.told.endDue, &s.told.detachDue} {
			if !due.IsZero() && m.now.Sub(*due) >= modelSweepPause {
				s.told.least++
				*due = time.Time{}
			}
		}
	}
}

// unsettled tells whether a sweeper may still have to announce something.
func (m *model) unsettled() bool {
	for _, s := range m.sessions {
		if t := s.told; !t.endDue.IsZero() || !t.detachDue.IsZero() || t.loose {
			return true
		}
	}
	return false
}

// modelState is what has become of a message.
type modelState string

const (
	isWaiting   modelState = "waiting"
	isSent      modelState = "sent"
	isAbandoned modelState = "abandoned"
)

// modelMessage is a message in the outbox.
type modelMessage struct {
	id      string
	n       int
	session *modelSession
	created time.Time
	state   modelState
	// It is sent again between these times; both are the same where that is
	// certain.
	earliest, latest time.Time
	attempts         int
	heard            int // how often its client heard it
	settled          time.Time
}

func (g *modelMessage) String() string {
	return fmt.Sprintf("message %d (of session %d, %s)", g.n, g.session.n, g.session.client.id)
}

// due tells whether a message is to be sent now.
func (m *model) due(g *modelMessage) bool { return g.state == isWaiting && !g.latest.After(m.now) }

// modelFault is what goes wrong when a client is told.
type modelFault int

const (
	noFault     modelFault = iota
	isRefused              // it answers 503
	isBroken               // the connection ends without an answer
	isForgotten            // it is told, and the node dies before it notes that
)

func (f modelFault) String() string {
	return [...]string{"nothing fails", "they refuse", "connections break", "the node forgets"}[f]
}

// sent notes that a message was sent once.
func (m *model) sent(g *modelMessage, f modelFault) {
	g.attempts++
	g.heard++
	last := g.created.Add(modelGiveUp)
	switch {
	case f == isForgotten:
		g.earliest, g.latest = m.now.Add(modelLease), m.now.Add(modelLease)
	case f == noFault:
		g.state, g.settled = isSent, m.now
	case !m.now.Before(last):
		g.state, g.settled = isAbandoned, m.now
	default:
		g.earliest, g.latest = m.now.Add(modelAgain/4), m.now.Add(modelAgain)
		if g.latest.After(last) { // the last sending is not before its time
			g.latest = last
		}
		if g.earliest.After(last) {
			g.earliest = last
		}
	}
}
