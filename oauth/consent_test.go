package oauth_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestConsentIsAskedRememberedAndAskedAgainForMore(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		b := h.signedIn("alex")
		s.authorized(b.decide(b.follow(s.request("asks")), "allow"))
		h.wait(time.Minute)
		s.code(b, "asks", "prompt", "none")
		s.code(b, "asks", "scope", "openid", "prompt", "none")
		for name, more := range map[string][]string{
			"scope":    {"scope", "openid profile email"},
			"resource": {"resource", api},
			"offline":  {"scope", "openid offline_access"},
		} {
			s.refused(b.follow(s.request("asks", append(more, "prompt", "none")...)), "consent_required")
			page := b.follow(s.request("asks", more...))
			if !strings.Contains(page.url, "/consent") {
				t.Errorf("more %s is not asked", name)
			}
		}
		s.authorized(b.decide(b.follow(s.request("asks", "scope", "openid email")), "allow"))
		s.code(b, "asks", "scope", "openid profile email", "prompt", "none") // what was allowed before stays allowed

		s.refused(h.signedIn("bob").follow(s.request("asks", "prompt", "none")), "consent_required")
	}
}

func TestConsentWithoutScopesIsAskedToo(t *testing.T) {
	h := open(t, options{})
	s, b := h.jwt, h.signedIn("alex")
	s.refused(b.follow(s.request("asks", "-scope", "", "prompt", "none")), "consent_required")
	b.follow(s.request("asks", "-scope", "")).isPage("/consent")
}

func TestDenialIsTold(t *testing.T) {
	h := open(t, options{})
	s, b := h.jwt, h.signedIn("alex")
	if v := s.refused(b.decide(b.follow(s.request("asks")), "deny"), "access_denied"); v.Get("state") != "st-1" {
		t.Errorf("state %q", v.Get("state"))
	}
	s.refused(b.follow(s.request("asks", "prompt", "none")), "consent_required") // nothing was remembered
	b.follow(s.request("asks")).isPage("/consent")
	// Denying more takes away nothing of what was allowed.
	s.authorized(b.decide(b.follow(s.request("asks")), "allow"))
	s.refused(b.decide(b.follow(s.request("asks", "scope", "openid email")), "deny"), "access_denied")
	s.code(b, "asks", "prompt", "none")
}

func TestPromptConsentAsksAgain(t *testing.T) {
	h := open(t, options{})
	s, b := h.jwt, h.signedIn("alex")
	s.authorized(b.decide(b.follow(s.request("asks")), "allow"))
	for _, client := range []string{"asks", "web"} { // also where the operator vouches for the client
		for range 2 {
			s.authorized(b.decide(b.follow(s.request(client, "prompt", "consent")), "allow"))
		}
	}
	s.refused(b.get(s.request("asks", "prompt", "none consent")), "invalid_request")
}

func TestSkippedConsentIsNeverAsked(t *testing.T) {
	h := open(t, options{})
	h.jwt.code(h.signedIn("alex"), "web", "scope", "openid profile email phone address offline_access api:read", "prompt", "none", "resource", api)
}

func TestDecisionInAnotherLoginIsVoid(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	alex, bob, elsewhere := h.signedIn("alex"), h.signedIn("bob"), h.signedIn("alex")
	page := alex.follow(s.request("asks")).isPage("/consent")
	for name, thief := range map[string]*browser{"another user's": bob, "the same user's other": elsewhere} {
		to, v := page.form("decision", "allow")
		if a := h.do(thief.client, http.MethodPost, to, v.Encode(), "Sec-Fetch-Site", "same-origin"); a.status != http.StatusForbidden {
			t.Errorf("%s login may decide: %d to %s", name, a.status, a.header.Get("Location"))
		}
	}
	back := alex.submit(page, "decision", "allow").location()
	for name, thief := range map[string]*browser{"another user's": bob, "the same user's other": elsewhere} {
		if a := thief.get(back); !strings.HasPrefix(a.location(), h.base+"/consent?") {
			t.Errorf("a decision carried to %s login leads to %d %s", name, a.status, a.location())
		}
	}
	denied := alex.submit(alex.follow(s.request("asks")), "decision", "deny").location()
	if a := bob.get(denied); !strings.HasPrefix(a.location(), h.base+"/consent?") {
		t.Errorf("a denial carried to another user's login leads to %d %s", a.status, a.location())
	}
	h.browser().get(back) // without any login: no code either
	if a := h.browser().follow(back); a.status == http.StatusSeeOther {
		t.Errorf("without a login: %s", a.header.Get("Location"))
	}
	s.authorized(alex.get(back))
}

// Login CSRF: a form that another site posts decides nothing.
func TestDecisionFromAnotherSiteIsRefused(t *testing.T) {
	h := open(t, options{})
	s, b := h.jwt, h.signedIn("alex")
	to, v := b.follow(s.request("asks")).form("decision", "allow")
	if a := h.do(b.client, http.MethodPost, to, v.Encode(), "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"); a.status != http.StatusForbidden {
		t.Errorf("%d to %s", a.status, a.header.Get("Location"))
	}
	s.refused(b.follow(s.request("asks", "prompt", "none")), "consent_required")
}
