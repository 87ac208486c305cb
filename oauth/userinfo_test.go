package oauth_test

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestUserinfoTellsWhatTheScopesAskFor(t *testing.T) {
	h := open(t, options{})
	sub := h.userID("alex")
	for _, s := range h.servers() {
		b := h.signedIn("alex")
		for scope, want := range map[string]map[string]any{
			"openid":           {"sub": sub},
			"openid email":     {"sub": sub, "email": "alex@example.com", "email_verified": true},
			"openid phone":     {"sub": sub, "phone_number": "+41441234567", "phone_number_verified": false},
			"openid address":   {"sub": sub, "address": map[string]any{"country": "CH"}},
			"openid profile":   {"sub": sub, "name": "ALEX", "given_name": "alex", "preferred_username": "alex", "updated_at": 1.7e9},
			"openid api:read":  {"sub": sub},
			"openid api:write": {"sub": sub},
		} {
			tk := s.authorize(b, "web", "scope", scope)
			a := s.userinfo(tk.Access)
			if a.status != http.StatusOK || !reflect.DeepEqual(a.json(), want) || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Content-Type") != "application/json" {
				t.Errorf("scope %q: %d %s, want %v", scope, a.status, a.body, want)
			}
			if claims(t, tk.ID)["sub"] != sub {
				t.Error("sub of the ID token is another") // OpenID Connect Core §5.3.4
			}
		}
	}
}

// RFC 6750 §2: header or form, never the URL, never twice.
func TestUserinfoTakesTheTokenOnceAndNotInTheURL(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		tk := s.authorize(h.signedIn("alex"), "web")
		at, header := s.at+"/userinfo", []string{"Authorization", "Bearer " + tk.Access}
		for name, a := range map[string]answer{
			"GET":              h.do(bare, http.MethodGet, at, "", header...),
			"POST":             h.do(bare, http.MethodPost, at, "", header...),
			"lower case":       h.do(bare, http.MethodGet, at, "", "Authorization", "bearer "+tk.Access),
			"form":             h.do(bare, http.MethodPost, at, form("access_token", tk.Access).Encode()),
			"POST without one": h.do(bare, http.MethodPost, at, "x", append(header, "Content-Type", "application/json")...),
		} {
			if a.status != http.StatusOK {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
		}
		for name, a := range map[string]answer{
			"nothing":       h.do(bare, http.MethodGet, at, ""),
			"in the URL":    h.do(bare, http.MethodGet, at+"?access_token="+tk.Access, ""),
			"URL of a POST": h.do(bare, http.MethodPost, at+"?access_token="+tk.Access, "x=y"),
			"another kind":  h.do(bare, http.MethodPost, at, form("access_token", tk.Access).Encode(), "Content-Type", "text/plain"),
			"GET with form": h.do(bare, http.MethodGet, at, form("access_token", tk.Access).Encode(), "Content-Type", "application/x-www-form-urlencoded"),
			"basic":         h.do(bare, http.MethodGet, at, "", "Authorization", basic("web", "web-secret-of-the-house")),
			"no scheme":     h.do(bare, http.MethodGet, at, "", "Authorization", tk.Access),
			"DPoP":          h.do(bare, http.MethodGet, at, "", "Authorization", "DPoP "+tk.Access),
		} {
			a.fails(http.StatusUnauthorized, "invalid_token")
			// RFC 6750 §3.1: no error code where there were no credentials.
			if challenge := a.header.Get("WWW-Authenticate"); challenge != `Bearer realm="`+s.issuer+`"` {
				t.Errorf("%s: WWW-Authenticate: %s", name, challenge)
			}
		}
		for _, a := range []answer{
			h.do(bare, http.MethodPost, at, form("access_token", tk.Access).Encode(), header...),
			h.do(bare, http.MethodPost, at, form("access_token", tk.Access, "+access_token", tk.Access).Encode()),
			h.do(bare, http.MethodGet, at, "", append(header, header...)...),
			h.do(bare, http.MethodPost, at, "access_token=%zz"),
		} {
			a.bearerFails(badRequest, "invalid_request")
		}
		h.do(bare, http.MethodPost, at, "access_token="+strings.Repeat("x", 64<<10)).bearerFails(http.StatusRequestEntityTooLarge, "invalid_request")
		if a := h.do(bare, http.MethodPut, at, "", header...); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, POST" {
			t.Errorf("PUT: %d, Allow %q", a.status, a.header.Get("Allow"))
		}
	}
}

func TestUserinfoRefusesTokensThatAreNotForIt(t *testing.T) {
	h := open(t, options{})
	for i, s := range h.servers() {
		b := h.signedIn("alex")
		other := h.servers()[1-i].authorize(b, "web")
		tk := s.authorize(b, "web")
		for name, token := range map[string]string{
			"for another resource":    s.authorize(b, "web", "resource", api).Access,
			"a client's own":          s.tokens(s.post("/token", "machine", form("grant_type", "client_credentials"))).Access,
			"of another server":       other.Access,
			"an ID token":             tk.ID,
			"a refresh token":         tk.Refresh,
			"a code":                  s.code(b, "web"),
			"garbage":                 "garbage",
			"garbage with a dot":      "1.AAAA",
			"garbage with two dots":   "a.b.c",
			"with something attached": tk.Access + "A",
		} {
			if a := s.userinfo(token); a.status != http.StatusUnauthorized || !strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
				t.Errorf("%s: %d %s", name, a.status, a.header.Get("WWW-Authenticate"))
			}
		}
		// For the issuer and a resource: it is for both.
		if a := s.userinfo(s.authorize(b, "web", "resource", api, "+resource", s.issuer).Access); a.status != http.StatusOK {
			t.Errorf("for the issuer too: %d %s", a.status, a.body)
		}
		a := s.userinfo(s.authorize(b, "web", "scope", "profile email").Access).bearerFails(http.StatusForbidden, "insufficient_scope")
		if !strings.Contains(a.header.Get("WWW-Authenticate"), `scope="openid"`) {
			t.Errorf("WWW-Authenticate: %s", a.header.Get("WWW-Authenticate"))
		}
	}
}
