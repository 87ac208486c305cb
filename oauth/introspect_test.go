package oauth_test

import (
	"net/http"
	"reflect"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/sessions"
)

// introspect asks about a token as a client.
func (s *as) introspect(client, token string) map[string]any {
	s.h.t.Helper()
	a := s.post("/introspect", client, form("token", token))
	if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
		s.h.t.Fatalf("introspection: %d %v %s", a.status, a.header, a.body)
	}
	return a.json()
}

// inactive is all that is said of what may not be seen (RFC 7662 §2.2).
var inactive = map[string]any{"active": false}

// Defect 12 of fosite: any client could look at any token.
func TestTokenIsShownToThoseItConcernsAlone(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		b := h.signedIn("alex")
		plain, forAPI := s.authorize(b, "web"), s.authorize(b, "web", "resource", api)
		forFiles := s.authorize(b, "web", "resource", files)
		both := s.authorize(b, "web", "resource", api, "+resource", files)
		for _, test := range []struct {
			client, token string
			shown         bool
		}{
			{"web", plain.Access, true}, {"scanner", plain.Access, true}, {"rs", plain.Access, false}, {"other", plain.Access, false}, {"machine", plain.Access, false},
			{"web", forAPI.Access, true}, {"scanner", forAPI.Access, true}, {"rs", forAPI.Access, true}, {"other", forAPI.Access, false}, {"machine", forAPI.Access, false},
			{"rs", forFiles.Access, false}, {"rs", both.Access, true},
			{"web", plain.Refresh, true}, {"scanner", plain.Refresh, true}, {"rs", forAPI.Refresh, false}, {"other", plain.Refresh, false}, {"post", plain.Refresh, false},
			{"scanner", plain.ID, false}, {"web", plain.ID, false}, // an ID token is no access token
			{"scanner", "x", false}, {"scanner", "1.AAAA", false}, {"scanner", "a.b.c", false}, {"scanner", "a.b.c.d", false},
			{"scanner", plain.Access + "x", false}, {"scanner", plain.Access[:len(plain.Access)-3], false}, {"scanner", plain.Refresh + "x", false},
		} {
			v := s.introspect(test.client, test.token)
			if test.shown != (v["active"] == true) || !test.shown && !reflect.DeepEqual(v, inactive) {
				t.Errorf("%s is answered %v, want active %t", test.client, v, test.shown)
			}
		}
	}
}

func TestWhatIntrospectionSays(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		tk := s.authorize(h.signedIn("alex"), "web", "resource", api, "scope", "openid api:read")
		id := claims(t, tk.ID)
		now := float64(h.now().Unix())
		v := s.introspect("rs", tk.Access)
		jti, _ := v["jti"].(string)
		delete(v, "jti")
		if want := map[string]any{"active": true, "scope": "openid api:read", "client_id": "web", "username": "alex", "token_type": "Bearer", "exp": now + 300, "iat": now,
			"sub": h.userID("alex"), "aud": api, "iss": s.issuer, "sid": id["sid"], "auth_time": now, "amr": []any{"pwd"}}; !reflect.DeepEqual(v, want) || len(jti) != 22 {
			t.Errorf("introspection of an access token, jti %q:\n%v, want\n%v", jti, v, want)
		}
		v = s.introspect("web", tk.Refresh)
		for name, want := range map[string]any{"active": true, "client_id": "web", "sub": id["sub"], "sid": id["sid"], "iss": s.issuer, "scope": "openid api:read", "token_type": nil} {
			if v[name] != want {
				t.Errorf("%s of a refresh token: %v, want %v", name, v[name], want)
			}
		}
	}
}

func TestIntrospectionIsForConfidentialClientsByPOST(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	tk := s.authorize(h.signedIn("alex"), "spa")
	s.post("/introspect", "spa", form("token", tk.Access)).fails(http.StatusUnauthorized, "invalid_client")
	h.do(bare, http.MethodPost, s.at+"/introspect", form("token", tk.Access).Encode()).fails(http.StatusUnauthorized, "invalid_client")
	h.do(bare, http.MethodPost, s.at+"/introspect", form("token", tk.Access).Encode(), "Authorization", "Bearer "+tk.Access).fails(http.StatusUnauthorized, "invalid_client")
	proof := basic("scanner", "scanner-secret-of-the-house")
	h.do(bare, http.MethodGet, s.at+"/introspect?token="+tk.Access, "", "Authorization", proof).fails(http.StatusMethodNotAllowed, "invalid_request")
	// Defect 12 of fosite: what stands in the URL stands in logs.
	h.do(bare, http.MethodPost, s.at+"/introspect?token="+tk.Access, "token_type_hint=access_token", "Authorization", proof).fails(badRequest, "invalid_request")
	if a := h.do(bare, http.MethodPost, s.at+"/introspect?token="+tk.Access, "token=x", "Authorization", proof); !reflect.DeepEqual(a.json(), inactive) {
		t.Errorf("the token of the URL was read: %s", a.body)
	}
	s.post("/introspect", "scanner", form()).fails(badRequest, "invalid_request")
	s.post("/introspect", "scanner", form("token", "")).fails(badRequest, "invalid_request")
	s.post("/introspect", "scanner", form("token", tk.Access, "+token", tk.Access)).fails(badRequest, "invalid_request")
	if v := s.post("/introspect", "scanner", form("token", tk.Access, "token_type_hint", "refresh_token")).json(); v["active"] != true {
		t.Error("a wrong hint hides the token") // RFC 7662 §2.1
	}
}

func TestIntrospectionOfRefreshTokens(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		b := h.signedIn("alex")
		first := s.authorize(b, "web")
		second := s.tokens(s.refresh("web", first.Refresh))
		h.wait(10*time.Second - time.Millisecond)
		for name, token := range map[string]string{"current": second.Refresh, "previous, within the grace": first.Refresh} {
			if !s.active(token) {
				t.Errorf("%s: not active", name)
			}
		}
		h.wait(time.Millisecond)
		if s.active(first.Refresh) || !s.active(second.Refresh) {
			t.Error("after the grace the previous one is active, or the current one is not")
		}
		s.ended(first.Refresh, "") // looking is not using
		if code := s.code(b, "web"); s.active(code) {
			t.Error("a code is active")
		}
		h.wait(2 * time.Hour)
		if s.active(second.Refresh) {
			t.Error("an idle one is active")
		}
		again := s.authorize(b, "other")
		_, err := s.manager().End(t.Context(), sessions.Target{Session: s.state(again.Refresh).Session.ID}, sessions.Ending{Reason: sessions.ReasonLogout})
		h.must(err)
		if s.active(again.Refresh) {
			t.Error("one of an ended session is active")
		}
	}
}

// Liveness is asked of the database: an ending is in force on all nodes at once.
func TestEndingIsInForceOnAllNodesAtOnce(t *testing.T) {
	h := open(t, options{})
	second := h.second()
	for i, s := range h.servers() {
		there := second.servers()[i]
		for name, end := range map[string]func(tokens) sessions.Target{
			"grant":   func(tk tokens) sessions.Target { return sessions.Target{Grant: s.state(tk.Refresh).Grant.ID} },
			"session": func(tk tokens) sessions.Target { return sessions.Target{Session: s.state(tk.Refresh).Session.ID} },
			"login":   func(tk tokens) sessions.Target { return sessions.Target{Login: s.state(tk.Refresh).Session.LoginID} },
			"user":    func(tokens) sessions.Target { return sessions.Target{User: h.userID("alex")} },
			"client":  func(tokens) sessions.Target { return sessions.Target{Client: "web"} },
		} {
			b := h.signedIn("alex")
			tk, code := s.authorize(b, "web"), s.code(b, "web")
			there.alive(tk.Access, true)
			_, err := s.manager().End(t.Context(), end(tk), sessions.Ending{Reason: sessions.ReasonLogout})
			h.must(err)
			there.alive(tk.Access, false)
			if a := there.refresh("web", tk.Refresh); a.status != badRequest || there.active(tk.Refresh) {
				t.Errorf("%s ended: the refresh token works", name)
			}
			if a := there.redeem("web", code); name != "grant" && a.status != badRequest {
				t.Errorf("%s ended: the code works", name)
			}
			h.wait(time.Second)
		}
		tk := s.authorize(h.signedIn("alex"), "spa")
		if a := s.post("/revoke", "spa", form("token", tk.Access)); a.status != http.StatusOK {
			t.Errorf("revocation: %d", a.status)
		}
		there.alive(tk.Access, false)
	}
}

func TestTokensOfAClientsOwnFormatAreReadByItsServer(t *testing.T) {
	h := open(t, options{Static: append(staticClients(),
		client("jot", func(c *clients.Client) { c.AccessTokenFormat = clients.FormatJWT }),
		client("seal", func(c *clients.Client) { c.AccessTokenFormat = clients.FormatOpaque }))})
	for _, s := range h.servers() {
		b := h.signedIn("alex")
		for client, dots := range map[string]int{"jot": 2, "seal": 1} {
			tk := s.authorize(b, client)
			if n := countDots(tk.Access); n != dots {
				t.Errorf("%s at %s: %d dots", client, s.name, n)
			}
			s.alive(tk.Access, true)
		}
	}
}
