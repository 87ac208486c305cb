package oauth_test

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
)

// OpenID Connect Discovery 1.0 §3, RFC 8414 §2.
func TestMetadataIsTheSameAtBothPathsAndNamesOnlyWhatAnswers(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		one := h.do(bare, http.MethodGet, s.issuer+"/.well-known/openid-configuration", "")
		two := h.do(bare, http.MethodGet, s.issuer+"/.well-known/oauth-authorization-server", "")
		if one.status != http.StatusOK || one.body != two.body || one.header.Get("Content-Type") != "application/json" || one.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Fatalf("%d %v\n%s\n%s", one.status, one.header, one.body, two.body)
		}
		m := one.json()
		if m["issuer"] != s.issuer {
			t.Errorf("issuer %v", m["issuer"])
		}
		endpoints := 0
		for name, value := range m {
			if !strings.HasSuffix(name, "_endpoint") && name != "jwks_uri" {
				continue
			}
			endpoints++
			method := http.MethodPost
			if name == "jwks_uri" || name == "authorization_endpoint" {
				method = http.MethodGet
			}
			if a := h.do(bare, method, value.(string), ""); a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed || a.status >= 500 {
				t.Errorf("%s does not answer: %d", name, a.status)
			}
		}
		if endpoints != 7 {
			t.Errorf("%d endpoints in the metadata", endpoints)
		}
		for name, want := range map[string][]any{
			"response_types_supported": {"code"}, "response_modes_supported": {"query", "form_post"}, "code_challenge_methods_supported": {"S256"},
			"grant_types_supported": {"authorization_code", "refresh_token", "client_credentials"}, "subject_types_supported": {"public"},
			"token_endpoint_auth_methods_supported":         {"client_secret_basic", "client_secret_post", "private_key_jwt", "none"},
			"introspection_endpoint_auth_methods_supported": {"client_secret_basic", "client_secret_post", "private_key_jwt"},
		} {
			if !reflect.DeepEqual(m[name], want) {
				t.Errorf("%s: %v, want %v", name, m[name], want)
			}
		}
		for _, name := range []string{"claims_parameter_supported", "request_parameter_supported", "request_uri_parameter_supported"} {
			if m[name] != false {
				t.Errorf("%s: %v", name, m[name]) // the default of the last is true
			}
		}
		if m["authorization_response_iss_parameter_supported"] != true {
			t.Error("iss of RFC 9207 is not announced")
		}
		for list, want := range map[string][]string{"id_token_signing_alg_values_supported": clients.IDTokenAlgs(), "token_endpoint_auth_signing_alg_values_supported": clients.AssertionAlgs()} {
			got := m[list].([]any)
			for _, alg := range want {
				if !slices.Contains(got, any(alg)) {
					t.Errorf("%s lacks %s", list, alg)
				}
			}
			if slices.Contains(got, any("none")) || slices.Contains(got, any("HS256")) || len(got) != len(want) {
				t.Errorf("%s: %v", list, got)
			}
		}
		if !slices.Contains(m["scopes_supported"].([]any), any("api:read")) {
			t.Error("a scope of a resource is missing")
		}
		for _, path := range []string{"/par", "/register", "/device_authorization", "/check_session", "/authorize/", "/Token", "//token"} {
			if a := h.do(bare, http.MethodPost, s.at+path, ""); a.status != http.StatusNotFound {
				t.Errorf("%s answers %d, but is not announced", path, a.status)
			}
		}
		if a := h.do(bare, http.MethodPost, s.issuer+"/.well-known/openid-configuration", ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") == "" {
			t.Errorf("POST: %d", a.status)
		}
	}
}

// Fetch §3.2: browser applications of registered clients may read the answers.
func TestCrossOriginAnswersAreForOriginsOfClients(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	registered := client("registered", func(c *clients.Client) { c.RedirectURIs = []string{"https://registered.example:8443/cb"} })
	registered.Static = false
	h.must(s.store.InsertClient(t.Context(), &registered))
	for _, path := range []string{"/token", "/introspect", "/revoke", "/userinfo"} {
		for origin, allowed := range map[string]bool{
			"https://spa.example": true, "https://two.example": true, "https://registered.example:8443": true, "https://evil.example": false, "null": false,
			"https://registered.example": false, "http://spa.example": false, "https://spa.example:444": false, "https://spa.example.evil.example": false,
			"https://SPA.example": false, "https://spa.example/cb": false, "*": false,
		} {
			want := map[bool]string{true: origin}[allowed]
			for name, a := range map[string]answer{
				"request": h.do(bare, http.MethodPost, s.at+path, "x=y", "Origin", origin),
				"preflight": h.do(bare, http.MethodOptions, s.at+path, "", "Origin", origin, "Access-Control-Request-Method", "POST",
					"Access-Control-Request-Headers", "authorization"),
			} {
				got := a.header.Get("Access-Control-Allow-Origin")
				methods := strings.Contains(a.header.Get("Access-Control-Allow-Methods"), "POST")
				if got != want || !strings.Contains(a.header.Get("Vary"), "Origin") || a.header.Get("Access-Control-Allow-Credentials") != "" ||
					name == "preflight" && (a.status != http.StatusNoContent || methods != allowed) {
					t.Errorf("%s of %s for %s: %d %v", name, path, origin, a.status, a.header)
				}
			}
		}
		if a := h.do(bare, http.MethodPost, s.at+path, "x=y"); a.header.Get("Access-Control-Allow-Origin") != "" || a.header.Get("Vary") != "Origin" {
			t.Errorf("%s without Origin: %v", path, a.header)
		}
		if a := h.do(bare, http.MethodOptions, s.at+path, ""); a.status != http.StatusMethodNotAllowed {
			t.Errorf("OPTIONS %s: %d", path, a.status)
		}
	}
	// What is anybody's anyway, and what nobody's script has business with.
	for _, path := range []string{"/jwks", "/.well-known/openid-configuration"} {
		for _, method := range []string{http.MethodGet, http.MethodOptions} {
			if a := h.do(bare, method, s.at+path, "", "Origin", "https://evil.example", "Access-Control-Request-Method", "GET"); a.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%s %s: %v", method, path, a.header)
			}
		}
	}
	if a := h.do(bare, http.MethodGet, s.request("spa", "prompt", "none"), "", "Origin", "https://spa.example"); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("a script may read authorization responses")
	}
}

func TestServerNeedsAllOfItsParts(t *testing.T) {
	h := open(t, options{})
	var whole oauth.Config
	h.o.Server = func(c *oauth.Config) { whole = *c }
	h.second()
	if _, err := oauth.New(whole); err != nil {
		t.Fatal(err)
	}
	for name, lacking := range map[string]func(*oauth.Config){
		"name":            func(c *oauth.Config) { c.Name = "" },
		"issuer":          func(c *oauth.Config) { c.Issuer = "" },
		"keys":            func(c *oauth.Config) { c.Keys = nil },
		"store":           func(c *oauth.Config) { c.Store = nil },
		"sessions":        func(c *oauth.Config) { c.Sessions = nil },
		"logins":          func(c *oauth.Config) { c.Logins = nil },
		"login page":      func(c *oauth.Config) { c.Pages.Login = "" },
		"consent page":    func(c *oauth.Config) { c.Pages.Consent = "" },
		"sign-out page":   func(c *oauth.Config) { c.Pages.Logout = "" },
		"error page":      func(c *oauth.Config) { c.Pages.Error = nil },
		"page on cookies": func(c *oauth.Config) { c.Pages.CookiesBlocked = nil },
	} {
		cfg := whole
		if lacking(&cfg); func() bool { _, err := oauth.New(cfg); return err == nil }() {
			t.Errorf("a server without %s", name)
		}
	}
}
