package oauth_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

// state reads the grant behind a code or a refresh token.
func (s *as) state(value string) *oauth.State {
	s.h.t.Helper()
	id, _, _ := strings.Cut(value, ".")
	state, err := s.store.State(context.Background(), id, "")
	s.h.must(err)
	return state
}

// ended fails unless the session behind a code or refresh token has ended for
// that reason; the empty reason stands for one that goes on.
func (s *as) ended(value string, reason sessions.Reason) {
	s.h.t.Helper()
	end := s.state(value).Session.Ended
	switch {
	case end == nil && reason != "":
		s.h.t.Errorf("the session goes on, want it ended by %s", reason)
	case end != nil && end.Reason != reason:
		s.h.t.Errorf("the session has ended by %s, want %q", end.Reason, reason)
	}
}

const badRequest = http.StatusBadRequest

// Defect 1 of fosite: a wrong verifier, and then none, redeemed the code.
func TestWrongVerifierBurnsTheCode(t *testing.T) {
	h := open(t, options{Server: func(c *oauth.Config) { c.PKCE = oauth.PKCEPublic }})
	b := h.signedIn("alex")
	for _, s := range h.servers() {
		for _, client := range []string{"web", "spa"} {
			for name, wrong := range map[string][]string{
				"another":   {"code_verifier", strings.Repeat("x", 43)},
				"short":     {"code_verifier", "short"},
				"long":      {"code_verifier", strings.Repeat("x", 129)},
				"empty":     {"code_verifier", ""},
				"none":      {"-code_verifier", ""},
				"challenge": {"code_verifier", challengeOf(verifier)},
				"a form":    {"code_verifier", verifier + "+/"},
			} {
				code := s.code(b, client)
				s.redeem(client, code, wrong...).fails(badRequest, "invalid_grant")
				for _, retry := range [][]string{nil, {"-code_verifier", ""}, wrong} {
					if a := s.redeem(client, code, retry...); a.status != badRequest {
						t.Errorf("%s verifier at %s, retried with %q: %d", name, client, retry, a.status)
					}
				}
			}
		}
	}
}

// RFC 9700 §4.8.2: an attacker could have stripped the challenge.
func TestVerifierWithoutAChallengeIsRefused(t *testing.T) {
	h := open(t, options{})
	s, b := h.jwt, h.signedIn("alex")
	for _, given := range []string{verifier, "short"} {
		code := s.code(b, "web", "-code_challenge", "", "-code_challenge_method", "")
		s.redeem("web", code, "code_verifier", given).fails(badRequest, "invalid_grant")
		s.redeem("web", code, "-code_verifier", "").fails(badRequest, "invalid_grant") // burnt
	}
	s.tokens(s.redeem("web", s.code(b, "web", "-code_challenge", "", "-code_challenge_method", ""), "-code_verifier", ""))
}

// Defect 2 of fosite: eight of eight.
func TestCodeIsRedeemedOnce(t *testing.T) {
	h := open(t, options{})
	second := h.second()
	for _, pair := range [][2]*as{{h.jwt, second.jwt}, {h.opaque, second.opaque}} {
		code := pair[0].code(h.signedIn("alex"), "web")
		answers := make([]answer, 8)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() { answers[i] = pair[i%2].redeem("web", code) })
		}
		wg.Wait()
		won := 0
		for _, a := range answers {
			if a.status == http.StatusOK {
				won++
				pair[0].alive(pair[0].tokens(a).Access, true)
				continue
			}
			a.fails(badRequest, "invalid_grant")
		}
		if won != 1 {
			t.Errorf("the code was redeemed %d times", won)
		}
	}
}

// RFC 6749 §4.1.2; defect 2 of fosite.
func TestReplayOfACodeEndsGrantAndSession(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		for _, client := range []string{"web", "spa"} {
			b := h.signedIn("alex")
			code := s.code(b, client)
			tk := s.tokens(s.redeem(client, code))
			h.wait(2*time.Second + time.Millisecond)
			s.redeem(client, code).fails(badRequest, "invalid_grant")
			s.ended(code, sessions.ReasonCodeReplay)
			s.alive(tk.Access, false)
			s.refresh(client, tk.Refresh).fails(badRequest, "invalid_grant")
			// Nobody decided that the user should be out.
			s.code(b, client, "prompt", "none")
		}
	}
}

func TestReplayOfACodeLeavesOtherGrantsOfTheSession(t *testing.T) {
	h := open(t, options{})
	s, b := h.jwt, h.signedIn("alex")
	code := s.code(b, "web")
	first, second := s.tokens(s.redeem("web", code)), s.authorize(b, "web")
	h.wait(3 * time.Second)
	s.redeem("web", code).fails(badRequest, "invalid_grant")
	s.ended(code, "")
	s.alive(first.Access, false)
	s.alive(second.Access, true)
	s.tokens(s.refresh("web", second.Refresh))
}

func TestReplayOfACodeByItsClientsRetryEndsNothing(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	code := s.code(h.signedIn("alex"), "web")
	tk := s.tokens(s.redeem("web", code))
	for range 3 {
		s.redeem("web", code).fails(badRequest, "invalid_grant")
		h.wait(time.Second)
	}
	h.wait(-time.Second)
	s.redeem("web", code).fails(badRequest, "invalid_grant") // two seconds exactly
	s.alive(tk.Access, true)
	s.tokens(s.refresh("web", tk.Refresh))
}

func TestReplayOfACodeByAnybodyElseEndsNothing(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		code := s.code(h.signedIn("alex"), "spa")
		tk := s.tokens(s.redeem("spa", code))
		h.wait(time.Minute)
		for name, a := range map[string]answer{
			"another client":         s.redeem("other", code, "redirect_uri", "https://spa.example/cb"),
			"another public client":  s.redeem("spa2", code, "redirect_uri", "https://spa.example/cb"),
			"a wrong verifier":       s.redeem("spa", code, "code_verifier", strings.Repeat("x", 43)),
			"no verifier":            s.redeem("spa", code, "-code_verifier", ""),
			"a wrong redirect URI":   s.redeem("spa", code, "redirect_uri", "https://spa.example/other"),
			"no redirect URI":        s.redeem("spa", code, "-redirect_uri", ""),
			"another secret":         s.redeem("spa", code[:len(code)-1]+map[bool]string{true: "B", false: "A"}[code[len(code)-1] == 'A']),
			"the other server":       h.servers()[map[string]int{jwtServer: 1, opaqueServer: 0}[s.name]].redeem("spa", code),
			"a resource not granted": s.redeem("spa", code, "-redirect_uri", "", "resource", api),
		} {
			if a.fails(badRequest, "invalid_grant").status != badRequest {
				t.Error(name)
			}
		}
		s.alive(tk.Access, true)
		s.tokens(s.refresh("spa", tk.Refresh))
	}
}

// A stranger who tries a code that is not yet redeemed does not burn it.
func TestCodeOfAnotherClientOrRedirectURIIsRefusedAndNotBurnt(t *testing.T) {
	h := open(t, options{})
	s, b := h.jwt, h.signedIn("alex")
	code := s.code(b, "web")
	for _, a := range []answer{
		s.redeem("other", code, "redirect_uri", "https://web.example/cb"),
		s.redeem("spa", code, "redirect_uri", "https://web.example/cb", "code_verifier", strings.Repeat("x", 43)),
		s.redeem("web", code, "redirect_uri", "https://web.example/CB"),
		s.redeem("web", code, "redirect_uri", ""),
		s.redeem("web", code, "-redirect_uri", ""),
		h.opaque.redeem("web", code),
		s.redeem("web", ""+code+"x"),
		s.redeem("web", "x"),
		s.redeem("web", strings.Replace(code, ".", "..", 1)),
		s.redeem("web", "."),
	} {
		a.fails(badRequest, "invalid_grant")
	}
	s.redeem("web", code, "resource", api).fails(badRequest, "invalid_target")
	s.redeem("web", "", "-code", "").fails(badRequest, "invalid_request")
	s.tokens(s.redeem("web", code))
}

// Defect 11 of fosite: 15 minutes.
func TestCodeLivesSixtySeconds(t *testing.T) {
	h := open(t, options{})
	s, b := h.jwt, h.signedIn("alex")
	code := s.code(b, "web")
	h.wait(60 * time.Second)
	s.redeem("web", code).fails(badRequest, "invalid_grant")
	code = s.code(b, "web")
	h.wait(60*time.Second - time.Millisecond)
	s.tokens(s.redeem("web", code))
}

func TestCodeDiesWithItsSessionAndLogin(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		b := h.signedIn("alex")
		tk := s.authorize(b, "web")
		code := s.code(b, "web", "scope", "openid offline_access")
		_, err := s.manager().End(t.Context(), sessions.Target{Session: s.state(tk.Refresh).Session.ID}, sessions.Ending{Reason: sessions.ReasonLogout})
		h.must(err)
		s.redeem("web", code).fails(badRequest, "invalid_grant")
		s.alive(tk.Access, false)

		h.wait(time.Second)
		b = h.signedIn("alex")
		code = s.code(b, "web", "scope", "openid offline_access")
		_, err = s.manager().End(t.Context(), sessions.Target{Login: b.login}, sessions.Ending{Reason: sessions.ReasonLogout})
		h.must(err)
		s.redeem("web", code).fails(badRequest, "invalid_grant")
	}
}

func TestClientWithoutRefreshTokensGetsNone(t *testing.T) {
	h := open(t, options{})
	s, b := h.jwt, h.signedIn("alex")
	if tk := s.authorize(b, "norefresh"); tk.Refresh != "" {
		t.Error("a refresh token for a client without the grant type")
	}
	if tk := s.authorize(b, "web"); tk.Refresh == "" {
		t.Error("no refresh token for a client with the grant type")
	}
	s.refresh("norefresh", s.authorize(b, "web").Refresh).fails(badRequest, "unauthorized_client")
}
