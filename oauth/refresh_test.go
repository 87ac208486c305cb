package oauth_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

func TestRefreshRotatesAndIssuesAnew(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		first := s.authorize(h.signedIn("alex"), "web")
		h.wait(time.Minute)
		second := s.tokens(s.refresh("web", first.Refresh))
		if second.Refresh == first.Refresh || second.Access == first.Access || second.Refresh == "" {
			t.Error("nothing new came of a refresh")
		}
		s.alive(first.Access, true) // an access token lives as long as it says
		s.alive(second.Access, true)
		h.wait(time.Minute)
		s.tokens(s.refresh("web", second.Refresh))
	}
}

// Defect 3 of fosite: reuse was punished before the client was checked.
func TestRefreshTokenOfAnotherClientEndsNothing(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		for _, holder := range []string{"web", "spa"} {
			old := s.authorize(h.signedIn("alex"), holder)
			current := s.tokens(s.refresh(holder, old.Refresh))
			h.wait(time.Hour) // far behind the grace
			for _, thief := range []string{"other", "spa2"} {
				s.refresh(thief, old.Refresh).fails(badRequest, "invalid_grant")
				s.refresh(thief, current.Refresh).fails(badRequest, "invalid_grant")
			}
			s.refresh("norefresh", old.Refresh).fails(badRequest, "unauthorized_client")
			s.refresh(holder, old.Refresh, "scope", "openid admin").fails(badRequest, "invalid_scope")
			s.ended(old.Refresh, "")
			s.tokens(s.refresh(holder, current.Refresh))
		}
	}
}

func TestForgedRefreshTokenEndsNothing(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	old := s.authorize(h.signedIn("alex"), "web")
	current := s.tokens(s.refresh("web", old.Refresh))
	h.wait(time.Hour)
	part := strings.Split(current.Refresh, ".")
	join := func(i int, with string) string {
		p := append([]string(nil), part...)
		p[i] = with
		return strings.Join(p, ".")
	}
	another := s.authorize(h.signedIn("alex"), "web")
	for _, forged := range []string{
		join(0, strings.Repeat("A", 22)), join(0, strings.Split(another.Refresh, ".")[0]), join(1, "1"), join(1, "3"), join(1, "03"), join(1, "0"), join(1, "-1"),
		join(1, "9223372036854775807"), join(1, "9223372036854775808"), join(2, "2"), join(2, ""), join(3, ""), join(3, strings.Repeat("A", 43)),
		current.Refresh + "A", current.Refresh[:len(current.Refresh)-1], current.Refresh + ".", "." + current.Refresh, "x", "...", current.Access, current.ID,
		strings.Repeat("A", 600),
	} {
		s.refresh("web", forged).fails(badRequest, "invalid_grant")
	}
	s.refresh("web", "").fails(badRequest, "invalid_request")
	h.opaque.refresh("web", current.Refresh).fails(badRequest, "invalid_grant")
	s.tokens(s.refresh("web", current.Refresh))
}

// Defect 4 of fosite, RFC 6749 §6.
func TestScopeIsNarrowedForOneAccessTokenOnly(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		const granted = "openid profile email"
		tk := s.authorize(h.signedIn("alex"), "web", "scope", granted)
		narrow := s.tokens(s.refresh("web", tk.Refresh, "scope", "profile"))
		if narrow.Scope != "profile" || narrow.ID != "" {
			t.Errorf("scope %q, ID token %q", narrow.Scope, narrow.ID)
		}
		if v := s.post("/introspect", "web", form("token", narrow.Access)).json(); v["scope"] != "profile" {
			t.Errorf("the access token has scope %v", v["scope"])
		}
		s.userinfo(narrow.Access).bearerFails(http.StatusForbidden, "insufficient_scope")
		for _, wider := range []string{"openid profile email api:read", "api:read", "offline_access", "OPENID", "*"} {
			s.refresh("web", narrow.Refresh, "scope", wider).fails(badRequest, "invalid_scope")
		}
		if full := s.tokens(s.refresh("web", narrow.Refresh)); full.Scope != granted || full.ID == "" {
			t.Errorf("after a narrowed refresh the scope is %q", full.Scope)
		}
	}
}

// Defect 5 of fosite.
func TestRepeatWithinTheGraceGetsTheIdenticalSuccessor(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		first := s.authorize(h.signedIn("alex"), "web")
		second := s.tokens(s.refresh("web", first.Refresh))
		h.wait(10*time.Second - time.Millisecond)
		for range 3 {
			again := s.tokens(s.refresh("web", first.Refresh))
			if again.Refresh != second.Refresh || again.Access == second.Access {
				t.Errorf("a repeat got %q, not the identical %q", again.Refresh, second.Refresh)
			}
		}
		s.tokens(s.refresh("web", second.Refresh))
	}
}

func TestRacingRefreshesGetTheIdenticalSuccessor(t *testing.T) {
	h := open(t, options{})
	second := h.second()
	for _, pair := range [][2]*as{{h.jwt, second.jwt}, {h.opaque, second.opaque}} {
		first := pair[0].authorize(h.signedIn("alex"), "web")
		answers := make([]answer, 8)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() { answers[i] = pair[i%2].refresh("web", first.Refresh) })
		}
		wg.Wait()
		got := map[string]bool{}
		for _, a := range answers {
			got[pair[0].tokens(a).Refresh] = true
		}
		if len(got) != 1 {
			t.Errorf("racing refreshes got %d different successors", len(got))
		}
		for token := range got {
			pair[1].tokens(pair[1].refresh("web", token))
		}
	}
}

func TestOlderGenerationWithinTheGraceEndsNothing(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	first := s.authorize(h.signedIn("alex"), "web")
	second := s.tokens(s.refresh("web", first.Refresh))
	third := s.tokens(s.refresh("web", second.Refresh))
	h.wait(10*time.Second - time.Millisecond)
	s.refresh("web", first.Refresh).fails(badRequest, "invalid_grant")
	s.ended(first.Refresh, "")
	s.tokens(s.refresh("web", third.Refresh))
}

// RFC 9700 §4.14.2.
func TestRefreshTokenReuseEndsSession(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		for _, client := range []string{"web", "spa"} {
			for name, rotations := range map[string]int{"previous": 1, "older": 3} {
				b := h.signedIn("alex")
				first := s.authorize(b, client)
				last := first
				for range rotations {
					h.wait(time.Minute)
					last = s.tokens(s.refresh(client, last.Refresh))
				}
				h.wait(10 * time.Second)
				s.refresh(client, first.Refresh).fails(badRequest, "invalid_grant")
				s.ended(first.Refresh, sessions.ReasonRefreshReuse)
				s.alive(last.Access, false)
				if a := s.refresh(client, last.Refresh); a.status != badRequest {
					t.Errorf("%s generation reused: the current one still works", name)
				}
				s.code(b, client, "prompt", "none") // the login is none of its business
			}
		}
	}
}

func TestRefreshTokenReuseLeavesOtherGrantsOfTheSession(t *testing.T) {
	h := open(t, options{})
	s, b := h.jwt, h.signedIn("alex")
	first, second := s.authorize(b, "web"), s.authorize(b, "web")
	s.tokens(s.refresh("web", first.Refresh))
	h.wait(time.Minute)
	s.refresh("web", first.Refresh).fails(badRequest, "invalid_grant")
	s.ended(second.Refresh, "")
	s.alive(first.Access, false)
	s.alive(second.Access, true)
	s.tokens(s.refresh("web", second.Refresh))
}

func TestWithoutRotationTheTokenStays(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	tk := s.authorize(h.signedIn("alex"), "norotate")
	for range 3 {
		h.wait(time.Hour)
		if again := s.tokens(s.refresh("norotate", tk.Refresh)); again.Refresh != tk.Refresh {
			t.Error("the token was rotated")
		}
	}
}

// Defect 6 of fosite: the first iat for ever. OpenID Connect Core §12.2.
func TestRefreshHasFreshTimesAndTheOldAuthTime(t *testing.T) {
	h := open(t, options{})
	s, b := h.jwt, h.signedIn("alex")
	signedIn := h.now().Unix()
	h.wait(time.Minute)
	first := s.authorize(b, "web")
	for range 3 {
		h.wait(time.Hour)
		tk := s.tokens(s.refresh("web", first.Refresh))
		id, access, was := claims(t, tk.ID), claims(t, tk.Access), claims(t, first.ID)
		now := float64(h.now().Unix())
		if id["iat"] != now || access["iat"] != now || id["exp"] != now+3600 || access["exp"] != now+300 {
			t.Errorf("iat %v and %v, exp %v and %v at %v", id["iat"], access["iat"], id["exp"], access["exp"], now)
		}
		if id["auth_time"] != float64(signedIn) || access["auth_time"] != float64(signedIn) {
			t.Errorf("auth_time %v and %v, want %d", id["auth_time"], access["auth_time"], signedIn)
		}
		if _, there := id["nonce"]; there {
			t.Error("a refreshed ID token has a nonce")
		}
		for _, name := range []string{"iss", "sub", "aud", "sid"} {
			if id[name] != was[name] {
				t.Errorf("%s was %v and is %v", name, was[name], id[name])
			}
		}
		if access["jti"] == claims(t, first.Access)["jti"] {
			t.Error("the jti is the old one")
		}
		first = tk
	}
}

// Generations are counted from the row; a value beyond it is one whose commit a
// fail-over lost, and the client goes on with it.
func TestRefreshAfterALostCommitGoesOn(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	first := s.authorize(h.signedIn("alex"), "web")
	second := s.tokens(s.refresh("web", first.Refresh))
	h.rewind(first.Refresh)
	third := s.tokens(s.refresh("web", second.Refresh))
	if g := s.state(first.Refresh).Grant.Generation; g != 3 {
		t.Errorf("generation %d, want 3", g)
	}
	s.tokens(s.refresh("web", third.Refresh))
}
