package oauth_test

import (
	"testing"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// TestParameterWithoutAValueIsOmitted: RFC 6749 §3.1 and §3.2, "Parameters sent
// without a value MUST be treated as if they were omitted from the request."
func TestParameterWithoutAValueIsOmitted(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		b := h.signedIn("alex")
		for _, name := range []string{"max_age", "resource", "request", "request_uri", "registration", "prompt", "response_mode", "id_token_hint", "ui_locales"} {
			s.code(b, "web", name, "")
		}
		// Twice, once without a value, is once.
		s.code(b, "web", "+scope", "")
		code := s.code(b, "spa")
		s.tokens(s.redeem("spa", code, "client_secret", "", "client_assertion", "", "client_assertion_type", "", "resource", ""))
		plain := s.code(b, "web", "-code_challenge", "", "-code_challenge_method", "")
		tk := s.tokens(s.redeem("web", plain, "code_verifier", ""))
		s.tokens(s.refresh("web", tk.Refresh, "scope", "", "resource", ""))
		s.tokens(s.token(own+"&client_secret=", "Authorization", basic("machine", "machine-secret-of-the-house")))
		// What is demanded is missing where it has no value.
		s.refresh("web", "").fails(badRequest, "invalid_request")
		s.redeem("web", "").fails(badRequest, "invalid_request")
		s.token("grant_type=", "Authorization", basic("machine", "machine-secret-of-the-house")).fails(badRequest, "invalid_request")
	}
}

// TestOfflineRefreshDoesNotKeepTheLogin: what lives without the login says
// nothing of whether somebody still sits at the browser.
func TestOfflineRefreshDoesNotKeepTheLogin(t *testing.T) {
	h := open(t, options{Lifetimes: sessions.Lifetimes{
		LoginIdle: time.Hour, LoginAbsolute: 100 * time.Hour, SessionIdle: 50 * time.Hour, SessionAbsolute: 100 * time.Hour,
		OfflineIdle: 200 * time.Hour, OfflineAbsolute: 1000 * time.Hour, RefreshGrace: 10 * time.Second}})
	s, b := h.jwt, h.signedIn("alex")
	tk := s.authorize(b, "web", "scope", "openid offline_access")
	for range 3 {
		h.wait(30 * time.Minute)
		tk = s.tokens(s.refresh("web", tk.Refresh))
	}
	s.refused(b.get(s.request("web", "prompt", "none")), "login_required")
	s.tokens(s.refresh("web", tk.Refresh))
}

// TestAnswerToMaxAgeIsNotRepeatedLater: the sign-in that a request demanded
// answers it once, also while it is young enough to pass by its age.
func TestAnswerToMaxAgeIsNotRepeatedLater(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		b := h.signedIn("alex")
		h.wait(2 * time.Minute)
		page := b.follow(s.request("web", "max_age", "60")).isPage("/login")
		back := b.submit(page, "username", "alex", "password", alexPassword).location()
		s.authorized(b.follow(back))
		h.wait(2 * time.Minute)
		b.follow(back).isPage("/login")
	}
}

// TestRepeatedParameterIsFoundBesideANamelessOne: which of two repeated
// parameters is found first is chance; one without a name must not hide the
// other, nor pass itself.
func TestRepeatedParameterIsFoundBesideANamelessOne(t *testing.T) {
	h := open(t, options{})
	s, b := h.jwt, h.signedIn("alex")
	proof := basic("machine", "machine-secret-of-the-house")
	for range 20 {
		v := s.refused(b.get(s.request("web", "+state", "st-2", "+", "1", "+", "2")), "invalid_request")
		if v.Has("state") {
			t.Error("one of two states was sent back")
		}
		for _, nameless := range []string{"&=1&=2", "&=1&=2&scope=api:read&scope=api:write"} {
			s.token(own+nameless, "Authorization", proof).fails(badRequest, "invalid_request")
			for _, path := range []string{"/introspect", "/revoke"} {
				h.do(bare, "POST", s.at+path, "token=x"+nameless, "Authorization", proof).fails(badRequest, "invalid_request")
			}
		}
	}
}
