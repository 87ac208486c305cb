//go:build unix

package main

import (
	"encoding/json"
	"net/http"
)

// Questions about a token.
const (
	askIntrospection = iota
	askUserinfo
	askSession
	askSessions
	modelQuestions
)

// ask asks one question about one token at one node.
func (w *world) ask(a modelAsk) {
	if t := newest(w.tokens, a.pick); t != nil {
		w.transport.node = a.node
		w.question(t, a.question)
	}
}

// askAll asks about every token that there ever was, and for every list.
func (w *world) askAll() {
	for i, t := range w.tokens {
		w.transport.node = i % 2
		w.question(t, i%modelQuestions)
	}
	for i, s := range w.sessions {
		for _, t := range w.kind(false) {
			if t.grant.session == s && w.token(t) == isLive {
				w.transport.node = i % 2
				w.question(t, askSessions)
				break
			}
		}
	}
}

// question asks about a token and compares the answer with the model's. A
// refresh token can only be introspected.
func (w *world) question(t *modelToken, which int) {
	want, got, where := w.token(t), false, "introspection"
	node := w.transport.node
	switch {
	case t.generation > 0 || which == askIntrospection:
		a := w.asInspector(t)
		got = a.Active
		if a.status != http.StatusOK || (got && t.grant.session.sid != a.SID) {
			w.fail("introspection of %s: %d, another sid than that of its session", t, a.status)
		}
	case which == askUserinfo:
		where, got = "userinfo", w.accepted(t, "/userinfo").status == http.StatusOK
	case which == askSession:
		where, got = "GET /session/", w.accepted(t, "/session/").status == http.StatusOK
	default:
		a := w.accepted(t, "/sessions/")
		where, got = "GET /sessions/", a.status == http.StatusOK
		if got {
			w.compare(t, a.Data)
		}
	}
	w.house.asked[want]++
	if (want == isLive && !got) || (want == isDead && got) {
		w.fail("%s at node %d accepts %s: %v; the model says %s (%s)", where, node, t, got, want, w.why(t.grant))
	}
	if got && t.generation == 0 {
		w.use(t.grant.session)
	}
}

// accepted asks with an access token; anything but 200 and 401 is a failure.
func (w *world) accepted(t *modelToken, path string) modelAnswer {
	a := w.withToken(t, http.MethodGet, path)
	if a.status != http.StatusOK && a.status != http.StatusUnauthorized {
		w.fail("GET %s with %s is %d", path, t, a.status)
	}
	return a
}

// compare holds a list of sessions against the model's.
func (w *world) compare(t *modelToken, data json.RawMessage) {
	var list []struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		w.fail("list of sessions: %v", err)
	}
	listed := map[string]bool{}
	for _, item := range list {
		listed[item.ID] = true
	}
	if len(listed) != len(list) {
		w.fail("a list of sessions has one twice")
	}
	for _, s := range w.sessions {
		if s.sid == "" {
			continue
		}
		v := isDead
		if w.visible(s, t.grant.session) {
			v = w.session(s)
		}
		w.house.asked[v]++
		if (v == isLive && !listed[s.sid]) || (v == isDead && listed[s.sid]) {
			w.fail("the list for %s has session %d of %s: %v; the model says %s (%s)", t, s.n, s.client.id, listed[s.sid], v, s.over)
		}
		delete(listed, s.sid)
	}
	if len(listed) > 0 {
		w.fail("the list for %s has %d sessions that nobody knows", t, len(listed))
	}
}
