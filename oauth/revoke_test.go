package oauth_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

func countDots(token string) int { return strings.Count(token, ".") }

// revoke revokes a token as a client; the answer says nothing (RFC 7009 §2.2).
func (s *as) revoke(client, token string) {
	s.h.t.Helper()
	a := s.post("/revoke", client, form("token", token))
	if a.status != http.StatusOK || a.body != "" || a.header.Get("Cache-Control") != "no-store" {
		s.h.t.Fatalf("revocation: %d %v %q", a.status, a.header, a.body)
	}
}

func TestRevokedAccessTokenEndsNothingButItself(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		for _, client := range []string{"web", "spa"} {
			tk := s.authorize(h.signedIn("alex"), client)
			s.revoke(client, tk.Access)
			s.alive(tk.Access, false)
			s.revoke(client, tk.Access)
			s.ended(tk.Refresh, "")
			again := s.tokens(s.refresh(client, tk.Refresh))
			s.alive(again.Access, true)
			s.alive(tk.Access, false)
		}
		own := s.tokens(s.post("/token", "machine", form("grant_type", "client_credentials")))
		s.revoke("machine", own.Access)
		if s.active(own.Access) {
			t.Error("a client's own token was not revoked")
		}
	}
}

func TestRevokedRefreshTokenEndsItsGrantAndTheSessionWithTheLast(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		b := h.signedIn("alex")
		first, second := s.authorize(b, "web"), s.authorize(b, "web")
		s.revoke("web", first.Refresh)
		s.alive(first.Access, false)
		s.refresh("web", first.Refresh).fails(badRequest, "invalid_grant")
		s.ended(second.Refresh, "")
		s.alive(second.Access, true)
		s.revoke("web", second.Refresh)
		s.ended(second.Refresh, sessions.ReasonRevoked)
		s.alive(second.Access, false)
		s.revoke("web", second.Refresh)
		s.code(b, "web", "prompt", "none") // its own act: the user may come back silently

		// One that was rotated away still names its grant.
		old := s.authorize(b, "spa")
		current := s.tokens(s.refresh("spa", old.Refresh))
		h.wait(time.Hour)
		s.revoke("spa", old.Refresh)
		s.refresh("spa", current.Refresh).fails(badRequest, "invalid_grant")
	}
}

// Defect 9 of fosite answered 200.
func TestRevocationOfAnotherClientsTokenIsRefusedAndEndsNothing(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		tk := s.authorize(h.signedIn("alex"), "web")
		for _, client := range []string{"other", "spa", "scanner", "machine"} {
			s.post("/revoke", client, form("token", tk.Access)).fails(badRequest, "unauthorized_client")
			s.post("/revoke", client, form("token", tk.Refresh)).fails(badRequest, "unauthorized_client")
		}
		for _, token := range []string{tk.Access, tk.Refresh} {
			h.do(bare, http.MethodPost, s.at+"/revoke", form("token", token).Encode()).fails(http.StatusUnauthorized, "invalid_client")
			h.do(bare, http.MethodPost, s.at+"/revoke", form("token", token, "client_id", "web").Encode()).fails(http.StatusUnauthorized, "invalid_client")
			h.do(bare, http.MethodPost, s.at+"/revoke", form("token", token).Encode(), "Authorization", basic("web", "wrong")).fails(http.StatusUnauthorized, "invalid_client")
			h.do(bare, http.MethodPost, s.at+"/revoke?token="+token, "x=y", "Authorization", basic("web", "web-secret-of-the-house")).fails(badRequest, "invalid_request")
		}
		s.alive(tk.Access, true)
		s.tokens(s.refresh("web", tk.Refresh))
	}
}

func TestRevocationOfUnknownTokensIsNoError(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	b := h.signedIn("alex")
	tk, foreign := s.authorize(b, "web"), h.opaque.authorize(b, "web")
	forged := strings.Split(tk.Refresh, ".")
	forged[3] = strings.Repeat("A", 43)
	for _, token := range []string{"x", "a.b.c", "1.AAAA", strings.Repeat("A", 22) + ".1.1." + strings.Repeat("A", 43), strings.Join(forged, "."),
		tk.ID, foreign.Access, foreign.Refresh, tk.Access + "x", strings.Repeat("x", 20_000)} {
		s.revoke("web", token)
	}
	s.alive(tk.Access, true)
	s.tokens(s.refresh("web", tk.Refresh))
	h.opaque.alive(foreign.Access, true)
	s.post("/revoke", "web", form("token", tk.Access, "token_type_hint", "refresh_token")) // RFC 7009 §2.1: a hint is a hint
	s.alive(tk.Access, false)
	s.post("/revoke", "web", form("token_type_hint", "access_token")).fails(badRequest, "invalid_request")
	s.post("/revoke", "web", form("token", "x", "+token", "y")).fails(badRequest, "invalid_request")
}
