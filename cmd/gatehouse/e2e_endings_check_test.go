//go:build unix

package main

import (
	"maps"
	"net/http"
	"slices"
	"testing"

	"gatehouse.dev/gatehouse/deliveries"
	"gatehouse.dev/gatehouse/sessions"
)

// outcome is what came of an ending: the names of the parts that are over, and
// of those that were detached from their login; all others live.
type outcome struct {
	over, detached []string
	reason         sessions.Reason
	by             string // user, newcomer, admin, operator, server or client:ID
}

// actor is who stands in the history.
func (s *scene) actor(by string) string {
	switch by {
	case "user":
		return "user:" + s.id
	case "newcomer":
		return "user:" + s.newcomer
	case "admin":
		admin, err := s.realm.UserByName(s.t.Context(), stageAdmin)
		if err != nil {
			s.t.Fatal(err)
		}
		return "user:" + admin.ID
	case "operator":
		return operator().String()
	}
	return by
}

// check is the one judgement of all endings: what is over is dead everywhere and
// stands in the history with its reason and who did it, what is not over lives
// and gets new tokens, and the clients of what ended or was detached, and no
// others, were told so.
func (s *scene) check(want outcome) {
	s.t.Helper()
	want.by = s.actor(want.by)
	for _, name := range append(slices.Clone(want.over), want.detached...) {
		p := s.parts[name]
		if p == nil || p.over != nil {
			s.t.Fatalf("there is no live part %s", name)
		}
		s.owed[p.sid]++
	}
	for _, name := range want.over {
		s.parts[name].over = &want
	}
	s.settle(s.t)
	s.mustBeTold(s.t)
	var live []string
	for _, name := range slices.Sorted(maps.Keys(s.parts)) {
		p := s.parts[name]
		s.mustStandInHistory(name, p)
		if p.over != nil {
			s.mustBeOver(name, p)
		} else {
			s.mustLive(name, p)
			live = append(live, name)
		}
	}
	s.use(live...)
}

// settle waits until no message waits to be sent.
func (st *stage) settle(t *testing.T) {
	t.Helper()
	pollSlowly(t, "nothing waits to be told", func() bool {
		for _, as := range bothServers {
			list, err := st.db.Deliveries(t.Context(), as, deliveries.Filter{State: deliveries.Waiting})
			if err != nil {
				t.Fatal(err)
			}
			if len(list) > 0 {
				return false
			}
		}
		return true
	})
}

// mustBeTold holds all that was ever heard on the stage against what was owed.
// The ears have verified each token.
func (st *stage) mustBeTold(t *testing.T) {
	t.Helper()
	heard := map[string][]string{} // messages by sid; one that is sent twice is one
	for as, e := range st.ears {
		for _, m := range e.all() {
			if p := st.known[m.SID]; p == nil || p.rp.as != as || p.rp.ClientID != m.Client || p.subject != m.Subject {
				t.Errorf("at %s %s was told of session %s of %s", as, m.Client, m.SID, m.Subject)
			}
			if !slices.Contains(heard[m.SID], m.ID) {
				heard[m.SID] = append(heard[m.SID], m.ID)
			}
		}
	}
	for sid, p := range st.known {
		if got, want := len(heard[sid]), st.owed[sid]; got != want {
			t.Errorf("%s was told %d times of session %s of %s, want %d", p.rp.ClientID, got, sid, p.browser.Username, want)
			st.owed[sid] = got // so that the next scene doesn't fail for it too
		}
	}
}

// mustStandInHistory looks for a session in its user's history.
func (s *scene) mustStandInHistory(name string, p *part) {
	s.t.Helper()
	past, err := s.realm.Past(s.t.Context(), sessions.PastQuery{UserID: p.user})
	if err != nil {
		s.t.Fatal(err)
	}
	var lines int
	for _, line := range past {
		for _, a := range line.Applications {
			if a.SessionID != p.sid || a.AuthorizationServer != p.rp.as {
				continue
			}
			lines++
			if p.over == nil {
				continue
			}
			if line.Ended.Reason != p.over.reason || line.Ended.By.String() != p.over.by || line.Ended.At.IsZero() {
				s.t.Errorf("%s: the history says %s by %s, want %s by %s", name, line.Ended.Reason, line.Ended.By, p.over.reason, p.over.by)
			}
			if a.Told != sessions.ToldAcknowledged || a.ToldAt.IsZero() {
				s.t.Errorf("%s: the history says that its client was told %q at %s", name, a.Told, a.ToldAt)
			}
		}
	}
	want := 0
	if p.over != nil {
		want = 1
	}
	if lines != want {
		s.t.Errorf("%s stands in the history %d times, want %d", name, lines, want)
	}
}

// sibling is another live session of the user, at the same authorization
// server, whose client sees all of them; nil: there is none.
func (s *scene) sibling(p *part) *part {
	for _, other := range s.parts {
		if other != p && other.over == nil && other.user == p.user && other.rp.as == p.rp.as && p.rp.as == "myAS" {
			return other
		}
	}
	return nil
}

func (s *scene) mustBeOver(name string, p *part) {
	s.t.Helper()
	inspector := s.party(p.rp.as, "inspector")
	for kind, token := range map[string]string{"access": p.access, "refresh": p.refresh} {
		if token != "" && inspector.Active(s.t, token) {
			s.t.Errorf("%s: introspection says that the %s token is active", name, kind)
		}
	}
	if status := p.rp.Userinfo(s.t, p.access); status != http.StatusUnauthorized {
		s.t.Errorf("%s: userinfo answers %d", name, status)
	}
	for _, path := range []string{"/session/", "/sessions/", "/sessions/" + p.sid + "/"} {
		if r := s.api(http.MethodGet, path, p); r.status != http.StatusUnauthorized || r.failure() != "ACCESS_TOKEN_INVALID" {
			s.t.Errorf("%s: GET %s is answered %s", name, path, r)
		}
	}
	if p.refresh != "" {
		r := p.rp.Refresh(s.t, p.refresh)
		refused := r.status == http.StatusBadRequest && r.failure() == "invalid_grant"
		if p.over.reason == sessions.ReasonClientDeleted { // and forgotten by now, or within seconds
			refused = refused || r.status == http.StatusUnauthorized && r.failure() == "invalid_client"
		}
		if !refused {
			s.t.Errorf("%s: a refresh is answered %s", name, r)
		}
	}
	if other := s.sibling(p); other != nil {
		if r := s.api(http.MethodGet, "/sessions/"+p.sid+"/", other); r.status != http.StatusNotFound || r.failure() != "SESSION_NOT_FOUND" {
			s.t.Errorf("%s: for another session it is answered %s", name, r)
		}
	}
}

func (s *scene) mustLive(name string, p *part) {
	s.t.Helper()
	inspector := s.party(p.rp.as, "inspector")
	for kind, token := range map[string]string{"access": p.access, "refresh": p.refresh} {
		if token != "" && !inspector.Active(s.t, token) {
			s.t.Errorf("%s: introspection says that the %s token is not active", name, kind)
		}
	}
	if status := p.rp.Userinfo(s.t, p.access); status != http.StatusOK {
		s.t.Errorf("%s: userinfo answers %d", name, status)
	}
	by := p
	if other := s.sibling(p); other != nil {
		by = other
	}
	for _, r := range []reply{s.api(http.MethodGet, "/session/", p), s.api(http.MethodGet, "/sessions/"+p.sid+"/", by)} {
		if data, _ := r.json["data"].(map[string]any); r.status != http.StatusOK || data["id"] != p.sid {
			s.t.Errorf("%s: the session API answers %s", name, r)
		}
	}
}
