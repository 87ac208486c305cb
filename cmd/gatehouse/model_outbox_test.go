//go:build unix

package main

import (
	"sync"

	"gatehouse.dev/gatehouse/deliveries"
	"gatehouse.dev/gatehouse/sessions"
)

// outbox holds the outbox against the model: every message that is new is one
// that the model calls for, none is missing, none is there twice, and each is in
// the state that it must be in.
func (w *world) outbox() {
	seen := map[string]bool{}
	for _, s := range []*modelServer{modelMyAS, modelPartnerAS} {
		for _, d := range w.listed(s) {
			g := w.messages[d.ID]
			if g == nil {
				g = w.arrived(&d)
			}
			w.compareMessage(g, &d)
			seen[d.ID] = true
		}
	}
	for id, g := range w.messages {
		// What was settled goes with the history.
		if !seen[id] && (g.state == isWaiting || w.now.Sub(g.settled) < modelHistory) {
			w.fail("%s is gone", g)
		}
	}
	for _, s := range w.sessions {
		found := 0
		for _, g := range w.messages {
			if g.session == s {
				found++
			}
		}
		t := &s.told
		if found < t.least || found > t.most {
			w.fail("of session %d of %s (%s; detached: %v) there are %d messages; the model says %d to %d",
				s.n, s.client.id, s.over, s.detached, found, t.least, t.most)
		}
		if s.over != "" && t.endDue.IsZero() && !t.loose {
			t.least, t.most = found, found // for good
		}
	}
}

// listed are the messages of this sequence, the newest first.
func (w *world) listed(s *modelServer) []deliveries.Delivery {
	for limit := len(w.messages) + 10; ; limit = 1000 {
		list, err := w.here().db.Deliveries(w.t.Context(), s.name, deliveries.Filter{Limit: limit})
		if err != nil {
			w.fail("listing deliveries: %v", err)
		}
		whole := len(list) < limit
		var own []deliveries.Delivery
		for _, d := range list {
			// Ids are in the order of time.
			whole = whole || d.CreatedAt.Before(w.began)
			if w.house.present[d.Subject] || !w.house.users[d.Subject] {
				own = append(own, d)
			}
		}
		if whole || limit == 1000 {
			return own
		}
	}
}

// arrived takes a message into the model, as one of a session that may have it.
func (w *world) arrived(d *deliveries.Delivery) *modelMessage {
	for _, s := range w.sessions {
		if s.sid == "" || s.sid != d.SessionID || s.client.server.name != d.AuthorizationServer {
			continue
		}
		g := &modelMessage{id: d.ID, n: len(w.messages), session: s, created: d.CreatedAt, state: isWaiting,
			earliest: d.CreatedAt, latest: d.CreatedAt}
		if g.created.Before(w.began) || g.created.After(w.now) {
			w.fail("%s is of %s before now", g, w.now.Sub(g.created))
		}
		w.messages[d.ID] = g
		w.did("message written")
		return g
	}
	w.fail("a message to %s is of no session that has a token", d.ClientID)
	return nil
}

// compareMessage holds a message against the model.
func (w *world) compareMessage(g *modelMessage, d *deliveries.Delivery) {
	s := g.session
	if d.ClientID != s.client.id || d.SessionID != s.sid || d.Subject != s.subject || d.Alg != s.client.alg || d.URI != s.client.uri() ||
		!d.CreatedAt.Equal(g.created) {
		w.fail("%s is to %s at %s, signed by %s, of its session: %v, of its user: %v", g, d.ClientID, d.URI, d.Alg, d.SessionID == s.sid, d.Subject == s.subject)
	}
	if string(d.State) != string(g.state) || d.Attempts != g.attempts {
		w.fail("%s is %s after %d attempts; the model says %s after %d", g, d.State, d.Attempts, g.state, g.attempts)
	}
	if g.state == isWaiting && (d.NextAt.Before(g.earliest) || d.NextAt.After(g.latest)) {
		w.fail("%s is due in %s, want %s to %s", g, d.NextAt.Sub(w.now), g.earliest.Sub(w.now), g.latest.Sub(w.now))
	}
	if g.state != isWaiting && !d.SettledAt.Equal(g.settled) {
		w.fail("%s was settled %s away from when it was", g, d.SettledAt.Sub(g.settled))
	}
}

// deliver has the worker of a node, or those of both at once, tell clients. Of
// one client, or of all, that may fail.
func (w *world) deliver(s *modelStep, c *modelClient) {
	fault := noFault
	switch {
	case s.pick >= 13:
		fault = isForgotten
	case s.pick >= 10:
		fault = isBroken
	case s.pick >= 5:
		fault = isRefused
	}
	var by []*modelNode
	if s.variant%3 == 2 {
		by = w.house.nodes[:]
	} else {
		by = []*modelNode{w.here()}
	}
	if s.variant%2 == 0 {
		c = nil
	}
	w.carryOut(by, fault, c)
}

// carryOut has nodes tell clients of all that is due, and holds what they hear
// against the model. Telling c (nil: anybody) has that fault.
func (w *world) carryOut(by []*modelNode, fault modelFault, c *modelClient) {
	w.outbox()
	failing, forgets := map[string]bool{}, map[string]bool{}
	for _, each := range w.clients {
		failing[each.id] = fault != noFault && (c == nil || each == c)
		forgets[each.id] = failing[each.id] && fault == isForgotten
	}
	w.house.ear.listen(func(in modelHeard) modelFault {
		if failing[in.client] {
			return fault
		}
		return noFault
	})
	ended := make([]bool, len(by))
	var running sync.WaitGroup
	for i, n := range by {
		n.post.forget(forgets)
		running.Go(func() { ended[i] = n.post.run(w.t.Context()) })
	}
	running.Wait()
	heard, faults := w.house.ear.all()
	for i := range ended {
		if !ended[i] {
			w.fail("a worker comes to no end")
		}
	}
	if len(faults) > 0 {
		w.fail("a client is told something that it can't verify: %s", faults[0])
	}
	told := map[string]bool{}
	for _, in := range heard {
		g := w.messages[in.id]
		if g == nil {
			w.fail("%s is told something that was not in the outbox", in.client)
		}
		s := g.session
		if in.client != s.client.id || in.uri != s.client.uri() || in.server != s.client.server.name || in.sid != s.sid || in.subject != s.subject {
			w.fail("%s: %s is told at %s of its session: %v, of its user: %v", g, in.client, in.uri, in.sid == s.sid, in.subject == s.subject)
		}
		if told[in.id] || !w.due(g) {
			w.fail("%s is sent: twice: %v; when it was due: %v", g, told[in.id], w.due(g))
		}
		told[in.id] = true
	}
	for id, g := range w.messages {
		if w.due(g) && !told[id] {
			w.fail("%s was due and is not sent", g)
		}
	}
	for id := range told {
		g, f := w.messages[id], noFault
		if failing[g.session.client.id] {
			f = fault
		}
		if g.attempts > 0 {
			w.did("message sent again")
		}
		w.model.sent(g, f)
		w.did("message " + string(g.state) + ": " + f.String())
	}
	w.note("%d nodes tell clients %d messages; %s", len(by), len(told), fault)
	if len(told) > 0 {
		w.outbox()
	}
}

// tidy ends a sequence: what is over by time is swept, all that lives ends, and
// all that waits is told, so that in the end each session that a client knows of
// was announced, as often as the model says, and each message was acknowledged
// and noted once.
func (w *world) tidy() {
	if w.unsettled() {
		w.wait(modelSweepPause)
		w.sweepEndings()
		w.outbox()
	}
	w.deleteClient(w.clients[len(w.clients)-1])
	for _, u := range w.users {
		if !w.lives(u) {
			continue
		}
		_, err := w.here().managers[modelMyAS.name].End(w.t.Context(), sessions.Target{User: u.id},
			sessions.Ending{By: operator(), Reason: sessions.ReasonEndedByOperator})
		if err != nil {
			w.fail("ending everything of user %d: %v", u.n, err)
		}
		w.endUser(u, nil, "the sequence is over")
	}
	if w.unsettled() {
		w.wait(modelSweepPause)
		w.sweepEndings()
	}
	w.outbox()
	waiting, later := false, false
	for _, g := range w.messages {
		waiting = waiting || g.state == isWaiting
		later = later || g.state == isWaiting && !w.due(g)
	}
	if later {
		w.wait(modelLease)
	}
	if waiting {
		w.carryOut([]*modelNode{w.here()}, noFault, nil)
	}
	for _, g := range w.messages {
		if g.state == isWaiting || g.heard != g.attempts {
			w.fail("%s is %s in the end, heard %d times", g, g.state, g.heard)
		}
	}
}

// lives tells whether there is something of a user that nobody has ended.
func (w *world) lives(u *modelUser) bool {
	for _, l := range w.logins {
		if l.user == u && l.over == "" {
			return true
		}
	}
	for _, s := range w.sessions {
		if s.login.user == u && (s.over == "" || !s.told.endDue.IsZero() || s.told.loose) {
			return true
		}
	}
	return false
}
