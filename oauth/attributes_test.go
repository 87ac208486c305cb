package oauth_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

// declare gives the authorization servers of a house custom attributes.
func declare(t *testing.T, list ...sessions.Attribute) func(*oauth.Config) {
	t.Helper()
	attributes, err := sessions.NewAttributes(list)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *oauth.Config) { c.Sessions.Attributes = attributes }
}

// attributes are those of the session that an authorization with these headers
// made or continued.
func (s *as) attributes(b *browser, client string, header ...string) map[string]string {
	s.h.t.Helper()
	a := s.h.do(b.client, http.MethodGet, s.request(client), "", header...)
	tk := s.tokens(s.redeem(client, s.authorized(a)))
	sid, _ := claims(s.h.t, tk.ID)["sid"].(string)
	session, err := s.store.Session(s.h.t.Context(), sid, s.h.userID("alex"))
	s.h.must(err)
	return session.CustomAttributes
}

func TestAuthorizationSetsAttributesFromTheBrowsersRequest(t *testing.T) {
	h := open(t, options{Server: declare(t,
		sessions.Attribute{Name: "agent", Source: sessions.Source{Kind: sessions.SourceUserAgent}},
		sessions.Attribute{Name: "country", Pattern: "[A-Z]{2}", Source: sessions.Source{Kind: sessions.SourceHeader, Name: "x-country"}},
		sessions.Attribute{Name: "note", Updatable: true})})
	for _, s := range h.servers() {
		b := h.signedIn("alex")
		for name, tt := range map[string]struct {
			header []string
			want   map[string]string
		}{
			"both":                {[]string{"User-Agent", "Firefox/1.0 (Zürich)", "X-Country", "CH"}, map[string]string{"agent": "Firefox/1.0 (Zürich)", "country": "CH"}},
			"none":                {[]string{"User-Agent", ""}, map[string]string{}},
			"one":                 {[]string{"User-Agent", "", "X-COUNTRY", "AT"}, map[string]string{"country": "AT"}},
			"mismatch":            {[]string{"User-Agent", "x", "X-Country", "Schweiz-secret"}, map[string]string{"agent": "x"}},
			"header twice":        {[]string{"User-Agent", "x", "X-Country", "CH", "X-Country", "AT"}, map[string]string{"agent": "x"}},
			"header twice, alike": {[]string{"User-Agent", "x", "X-Country", "CH", "X-Country", "CH"}, map[string]string{"agent": "x"}},
			"a list":              {[]string{"User-Agent", "x", "X-Country", "CH, AT"}, map[string]string{"agent": "x"}},
			"empty":               {[]string{"User-Agent", "x", "X-Country", ""}, map[string]string{"agent": "x"}},
			"another header":      {[]string{"User-Agent", "x", "X-Country-", "CH", "Note", "x", "agent", "y"}, map[string]string{"agent": "x"}},
			"500 characters":      {[]string{"User-Agent", strings.Repeat("a", 500)}, map[string]string{"agent": strings.Repeat("a", 500)}},
			"501 characters":      {[]string{"User-Agent", strings.Repeat("a-secret-", 56)[:501], "X-Country", "CH"}, map[string]string{"country": "CH"}},
			"tab":                 {[]string{"User-Agent", "a-secret\tb"}, map[string]string{}},
			"not UTF-8":           {[]string{"User-Agent", "a-secret\xff"}, map[string]string{}},
		} {
			if got := s.attributes(b, "web", tt.header...); !maps.Equal(got, tt.want) {
				t.Errorf("%s: %q, want %q", name, got, tt.want)
			}
		}
	}
	// What was left out is in the log by name, and nowhere by value.
	for _, part := range []string{"custom attribute left out", "attribute=country", "attribute=agent", sessions.ErrAttributeAbsent.Error(), sessions.ErrAttributeInvalid.Error()} {
		if !strings.Contains(h.log.String(), part) {
			t.Errorf("the log has no %q", part)
		}
	}
	for _, value := range []string{"secret", "Firefox", "AT"} {
		if strings.Contains(h.log.String(), value) {
			t.Errorf("the log has the value %q", value)
		}
	}
}

func TestAuthorizationSetsAttributesFromClaimsOfTheUser(t *testing.T) {
	of := func(name, claim string) sessions.Attribute {
		return sessions.Attribute{Name: name, Source: sessions.Source{Kind: sessions.SourceClaim, Name: claim}}
	}
	h := open(t, options{Server: declare(t, of("mail", "email"), of("phone", "phone_number"), of("user", "preferred_username"),
		of("country", "address.country"), of("city", "address.locality"), of("nick", "nickname"))})
	for _, s := range h.servers() {
		want := map[string]string{"mail": "alex@example.com", "phone": "+41441234567", "user": "alex", "country": "CH"}
		if got := s.attributes(h.signedIn("alex"), "web"); !maps.Equal(got, want) { // the scopes are openid and profile
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAuthorizationSetsTheClientsAddress(t *testing.T) {
	address := sessions.Attribute{Name: "ip", Source: sessions.Source{Kind: sessions.SourceClientAddress}}
	h := open(t, options{Server: declare(t, address)})
	if got := h.jwt.attributes(h.signedIn("alex"), "web", "X-Forwarded-For", "192.0.2.7", "Forwarded", "for=192.0.2.7"); got["ip"] != "127.0.0.1" {
		t.Errorf("by default it is %q, want the connection's", got)
	}
	h = open(t, options{Server: func(c *oauth.Config) {
		declare(t, address)(c)
		c.ClientAddress = func(r *http.Request) string { return r.Header.Get("X-Address") }
	}})
	if got := h.jwt.attributes(h.signedIn("alex"), "web", "X-Address", "2001:db8::9"); got["ip"] != "2001:db8::9" {
		t.Errorf("it is %q", got)
	}
}

// What a client set goes on, but for what has a source.
func TestNextAuthorizationSetsAttributesAnew(t *testing.T) {
	h := open(t, options{Server: declare(t,
		sessions.Attribute{Name: "agent", Updatable: true, Source: sessions.Source{Kind: sessions.SourceUserAgent}},
		sessions.Attribute{Name: "note", Updatable: true})})
	s, b := h.jwt, h.signedIn("alex")
	s.attributes(b, "web", "User-Agent", "one")
	text := func(value string) *string { return &value }
	for _, tt := range []struct{ agent, want string }{{"one", "one"}, {"two", "two"}, {"", ""}, {"three", "three"}} {
		list, err := s.store.Sessions(t.Context(), sessions.Filter{UserID: h.userID("alex")})
		h.must(err)
		_, err = s.store.ChangeAttributes(t.Context(), list[0].ID, h.userID("alex"), map[string]*string{"agent": text("the client's"), "note": text("kept")})
		h.must(err)
		got := s.attributes(b, "web", "User-Agent", tt.agent)
		want := map[string]string{"agent": tt.want, "note": "kept"}
		if tt.want == "" {
			delete(want, "agent")
		}
		if !maps.Equal(got, want) {
			t.Errorf("by %q: %q, want %q", tt.agent, got, want)
		}
	}
	// A refresh is no authorization: the client's server asks, not the browser.
	tk := s.authorize(b, "other")
	before, err := s.store.Sessions(t.Context(), sessions.Filter{UserID: h.userID("alex"), ClientID: "other"})
	h.must(err)
	s.tokens(s.refresh("other", tk.Refresh))
	after, err := s.store.Sessions(t.Context(), sessions.Filter{UserID: h.userID("alex"), ClientID: "other"})
	h.must(err)
	if len(before[0].CustomAttributes) == 0 || !maps.Equal(before[0].CustomAttributes, after[0].CustomAttributes) {
		t.Errorf("%q, after a refresh %q", before[0].CustomAttributes, after[0].CustomAttributes)
	}
}

func TestServerRefusesSourcesThatNoUserHas(t *testing.T) {
	h := open(t, options{})
	base := oauth.Config{Name: "jwt", Issuer: h.jwt.issuer, Keys: h.jwt.ring, Store: h.jwt.store, Logins: h.realm, Sessions: h.jwt.manager(),
		Pages: oauth.Pages{Login: "x", Consent: "x", Logout: "x", Error: func(http.ResponseWriter, *http.Request, int, string, string) {}, CookiesBlocked: http.NotFound}}
	if _, err := oauth.New(base); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sub", "email_verified", "address", "roles", "address."} {
		c := base
		c.Sessions = h.jwt.manager()
		declare(t, sessions.Attribute{Name: "a", Source: sessions.Source{Kind: sessions.SourceClaim, Name: name}})(&c)
		if _, err := oauth.New(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("claim %s: %v", name, err)
		}
	}
}
