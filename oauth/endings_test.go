package oauth_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// caller is who an access token lets ask at the session API.
func (s *as) caller(token string) sessions.Caller {
	s.h.t.Helper()
	c, err := s.callerOf(token)
	s.h.must(err)
	return c
}

func (s *as) callerOf(token string) (sessions.Caller, error) {
	r, err := http.NewRequest(http.MethodGet, s.at+"/session/", nil)
	s.h.must(err)
	r.Header.Set("Authorization", "Bearer "+token)
	return s.server.Caller(r)
}

// No return through the back door (docs/concepts.md): an ending by anybody but the
// client itself demands fresh proof.
func TestEndingByAnotherClientDemandsFreshProof(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		b := h.signedIn("alex")
		mine, others := s.authorize(b, "web"), s.authorize(b, "other")
		h.wait(time.Minute)
		h.must(s.manager().EndOne(t.Context(), s.caller(others.Access), s.caller(mine.Access).SessionID))
		s.ended(mine.Refresh, sessions.ReasonEndedByClient)
		s.alive(mine.Access, false)
		s.refused(b.get(s.request("web", "prompt", "none")), "login_required")
		for range 2 {
			b.follow(s.request("web")).isPage("/login") // not by single sign-on
		}
		s.code(b, "other", "prompt", "none") // who ended it is not concerned
		h.wait(time.Second)
		tk := s.tokens(s.redeem("web", s.authorized(b.signIn(b.follow(s.request("web")), "alex"))))
		if s.caller(tk.Access).SessionID == claims(t, mine.ID)["sid"] {
			t.Error("the ended session came back")
		}
		s.alive(tk.Access, true)
		s.alive(mine.Access, false)
		s.code(b, "web", "prompt", "none")
		h.wait(time.Second)
	}
}

func TestEndingByUserOrOperatorDemandsFreshProof(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	for _, by := range []sessions.Actor{{Kind: sessions.ActorUser, ID: "alex"}, {Kind: sessions.ActorOperator, ID: "root"}, {Kind: sessions.ActorClient, ID: "other"}} {
		b := h.signedIn("alex")
		tk := s.authorize(b, "web")
		_, err := s.manager().End(t.Context(), sessions.Target{Session: s.caller(tk.Access).SessionID}, sessions.Ending{By: by, Reason: sessions.ReasonLogout})
		h.must(err)
		s.refused(b.get(s.request("web", "prompt", "none")), "login_required")
		b.follow(s.request("web")).isPage("/login")
		h.wait(time.Second)
	}
}

// As at any relying party: its own logout is not the login's.
func TestEndingByTheClientItselfAllowsASilentReturn(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		b := h.signedIn("alex")
		tk := s.authorize(b, "web")
		c := s.caller(tk.Access)
		h.must(s.manager().EndOne(t.Context(), c, c.SessionID))
		s.ended(tk.Refresh, sessions.ReasonLogout)
		s.alive(tk.Access, false)
		again := s.tokens(s.redeem("web", s.code(b, "web", "prompt", "none")))
		if s.caller(again.Access).SessionID == c.SessionID {
			t.Error("the ended session came back")
		}
		s.alive(tk.Access, false)
	}
}

func TestCallerOfTheSessionAPIIsAUserWithALiveToken(t *testing.T) {
	h := open(t, options{})
	for i, s := range h.servers() {
		b := h.signedIn("alex")
		tk := s.authorize(b, "web", "scope", "openid api:read")
		if c := s.caller(tk.Access); c.UserID != h.userID("alex") || c.ClientID != "web" || len(c.SessionID) != 40 || strings.Join(c.Scopes, " ") != "openid api:read" {
			t.Errorf("caller %+v", c)
		}
		s.caller(s.authorize(b, "web", "resource", api, "+resource", s.issuer).Access)
		own := s.tokens(s.post("/token", "machine", form("grant_type", "client_credentials"))).Access
		if _, err := s.callerOf(own); !errors.Is(err, sessions.ErrCallerNoUser) {
			t.Errorf("a client's own token: %v", err)
		}
		revoked := s.authorize(b, "web").Access
		s.revoke("web", revoked)
		for name, token := range map[string]string{"for another resource": s.authorize(b, "web", "resource", api).Access, "of the other server": h.servers()[1-i].authorize(b, "web").Access,
			"an ID token": tk.ID, "a refresh token": tk.Refresh, "revoked": revoked, "garbage": "x"} {
			if _, err := s.callerOf(token); !errors.Is(err, sessions.ErrCallerInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		r, err := http.NewRequest(http.MethodGet, s.at+"/session/?access_token="+tk.Access, nil)
		h.must(err)
		if _, err := s.server.Caller(r); !errors.Is(err, sessions.ErrCallerMissing) {
			t.Errorf("a token in the URL: %v", err)
		}
	}
}

// RFC 6749 §4.1.2.1, §5.2: what the server can't know now is 503, and nothing
// half-done.
func TestStorageThatIsDownIsTemporary(t *testing.T) {
	h := open(t, options{})
	type prepared struct {
		s             *as
		tk, own       tokens
		code, refresh string
	}
	b := h.signedIn("alex")
	var all []prepared
	for _, s := range h.servers() {
		tk := s.authorize(b, "web")
		all = append(all, prepared{s, tk, s.tokens(s.post("/token", "machine", form("grant_type", "client_credentials"))), s.code(b, "web"), tk.Refresh})
	}
	h.must(h.db.Close())
	for _, p := range all {
		s := p.s
		for name, a := range map[string]answer{
			"code":                     s.redeem("web", p.code),
			"refresh":                  s.refresh("web", p.refresh),
			"introspection":            s.post("/introspect", "web", form("token", p.tk.Access)),
			"introspection, refresh":   s.post("/introspect", "web", form("token", p.refresh)),
			"introspection, a client":  s.post("/introspect", "machine", form("token", p.own.Access)),
			"revocation":               s.post("/revoke", "web", form("token", p.tk.Access)),
			"revocation, refresh":      s.post("/revoke", "web", form("token", p.refresh)),
			"userinfo":                 s.userinfo(p.tk.Access),
			"a client unknown so far":  s.token(own, "Authorization", basic("registered", "secret")),
			"another client's attempt": s.redeem("other", p.code),
		} {
			if a.status != http.StatusServiceUnavailable || a.json()["error"] != "temporarily_unavailable" || a.header.Get("Retry-After") == "" || a.header.Get("WWW-Authenticate") != "" {
				t.Errorf("%s: %d %s %v", name, a.status, a.body, a.header)
			}
		}
		if a := b.get(s.request("web")).isError(http.StatusServiceUnavailable); a.header.Get("Retry-After") == "" {
			t.Error("page without Retry-After")
		}
		b.get(s.request("web", "client_id", "registered")).isError(http.StatusServiceUnavailable)
		s.refused(b.get(s.request("web", "prompt", "none")), "temporarily_unavailable")
		if _, err := s.callerOf(p.tk.Access); !errors.Is(err, sessions.ErrUnavailable) {
			t.Errorf("caller: %v", err)
		}
		// What needs no storage works: keys, metadata, a client's own token.
		s.tokens(s.post("/token", "machine", form("grant_type", "client_credentials")))
		if a := h.do(bare, http.MethodGet, s.issuer+"/jwks", ""); a.status != http.StatusOK {
			t.Errorf("jwks: %d", a.status)
		}
	}
	if !strings.Contains(h.log.String(), "request failed") {
		t.Error("the log does not know why")
	}
}
