package oauth_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
)

// audienceOf is what introspection tells of a token's audience.
func (s *as) audienceOf(token string) []string {
	s.h.t.Helper()
	switch aud := s.introspect("scanner", token)["aud"].(type) {
	case string:
		return []string{aud}
	case []any:
		var list []string
		for _, a := range aud {
			list = append(list, a.(string))
		}
		return list
	}
	return nil
}

// RFC 8707 §2.
func TestAudienceIsTheIssuerOrWhatWasAskedFor(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		b := h.signedIn("alex")
		for name, test := range map[string]struct{ asked, want []string }{
			"nothing":     {nil, []string{s.issuer}},
			"the issuer":  {[]string{"resource", s.issuer}, []string{s.issuer}},
			"one":         {[]string{"resource", api}, []string{api}},
			"two":         {[]string{"resource", api, "+resource", files}, []string{api, files}},
			"one twice":   {[]string{"resource", api, "+resource", api}, []string{api}},
			"one and us":  {[]string{"resource", api, "+resource", s.issuer}, []string{api, s.issuer}},
			"audience":    {[]string{"audience", files}, []string{s.issuer}}, // no parameter of ours
			"audience, 2": {[]string{"resource", api, "audience", files}, []string{api}},
		} {
			tk := s.authorize(b, "web", test.asked...)
			if aud := s.audienceOf(tk.Access); !reflect.DeepEqual(aud, test.want) {
				t.Errorf("%s: audience %q, want %q", name, aud, test.want)
			}
			again := s.tokens(s.refresh("web", tk.Refresh))
			if aud := s.audienceOf(again.Access); !reflect.DeepEqual(aud, test.want) {
				t.Errorf("%s, refreshed: audience %q, want %q", name, aud, test.want)
			}
		}
	}
}

func TestResourceThatIsUnknownOrNotTheClientsIsRefused(t *testing.T) {
	h := open(t, options{})
	for i, s := range h.servers() {
		b := h.signedIn("alex")
		for _, resource := range []string{"https://unknown.example", api + "/", api + "#f", strings.ToUpper(api), "api", h.servers()[1-i].issuer} {
			s.refused(b.get(s.request("web", "resource", resource)), "invalid_target")
			s.refused(b.get(s.request("web", "resource", api, "+resource", resource)), "invalid_target")
			s.post("/token", "machine", form("grant_type", "client_credentials", "resource", resource)).fails(badRequest, "invalid_target")
		}
		s.code(b, "limited", "resource", api)
		s.code(b, "limited", "resource", s.issuer)
		s.refused(b.get(s.request("limited", "resource", files)), "invalid_target")
		s.refused(b.get(s.request("limited", "resource", api, "+resource", files)), "invalid_target")
	}
}

// RFC 8707 §2.2: narrowed for one access token; the grant keeps what it was given.
func TestResourcesAreNarrowedAtTheTokenEndpoint(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		b := h.signedIn("alex")
		both := []string{"resource", api, "+resource", files}
		tk := s.tokens(s.redeem("web", s.code(b, "web", both...), "resource", files))
		if aud := s.audienceOf(tk.Access); !reflect.DeepEqual(aud, []string{files}) {
			t.Errorf("audience %q", aud)
		}
		tk = s.tokens(s.refresh("web", tk.Refresh, "resource", api))
		if aud := s.audienceOf(tk.Access); !reflect.DeepEqual(aud, []string{api}) {
			t.Errorf("audience %q", aud)
		}
		for _, more := range []string{s.issuer, "https://unknown.example"} {
			s.refresh("web", tk.Refresh, "resource", more).fails(badRequest, "invalid_target")
			s.refresh("web", tk.Refresh, "resource", api, "+resource", more).fails(badRequest, "invalid_target")
			s.redeem("web", s.code(b, "web", both...), "resource", more).fails(badRequest, "invalid_target")
		}
		tk = s.tokens(s.refresh("web", tk.Refresh))
		if aud := s.audienceOf(tk.Access); !reflect.DeepEqual(aud, []string{api, files}) {
			t.Errorf("after narrowed ones the audience is %q", aud)
		}
		// Asked for without one, a grant is for the issuer alone.
		plain := s.authorize(b, "web")
		s.refresh("web", plain.Refresh, "resource", api).fails(badRequest, "invalid_target")
	}
}

func TestRefreshLeavesOutWhatTheClientHasLost(t *testing.T) {
	// with is the same house with another registration of the client.
	with := func(h *house, change func(*clients.Client), server func(*oauth.Config)) *house {
		return h.restarted(func(n *house) {
			n.o.Static, n.o.Server = staticClients(), server
			i := slices.IndexFunc(n.o.Static, func(c clients.Client) bool { return c.ClientID == "web" })
			change(&n.o.Static[i])
		})
	}
	keep := func(*clients.Client) {}
	h := open(t, options{})
	for i, s := range h.servers() {
		b := h.signedIn("alex")
		tk := s.authorize(b, "web", "scope", "openid profile email", "resource", api, "+resource", files)
		lost := with(h, func(c *clients.Client) { c.Scope, c.Resources = "openid profile api:read", []string{api} }, nil).servers()[i]
		check := func(s *as, scope string, audience ...string) {
			t.Helper()
			tk = s.tokens(s.refresh("web", tk.Refresh))
			if said, _ := s.introspect("scanner", tk.Access)["scope"].(string); said != scope || tk.Scope != "" && tk.Scope != scope {
				t.Errorf("the scope is %q, answered %q, want %q", said, tk.Scope, scope)
			}
			if aud := s.audienceOf(tk.Access); !reflect.DeepEqual(aud, audience) {
				t.Errorf("the audience is %q, want %q", aud, audience)
			}
		}
		check(lost, "openid profile", api)
		lost.refresh("web", tk.Refresh, "scope", "openid email").fails(badRequest, "invalid_scope")
		lost.refresh("web", tk.Refresh, "resource", files).fails(badRequest, "invalid_target")
		check(lost, "openid profile", api)
		// It is not granted what it got meanwhile, and the grant keeps what it was given.
		check(with(h, func(c *clients.Client) { c.Scope += " more"; c.Resources = []string{api, files, s.issuer} }, nil).servers()[i], "openid profile email", api, files)

		// Nor is a token made for a resource that the server has lost, or for none at all.
		gone := with(h, keep, func(c *oauth.Config) { c.Resources = []oauth.Resource{{Identifier: files}} }).servers()[i]
		check(gone, "openid profile email", files)
		none := with(h, keep, func(c *oauth.Config) { c.Resources = nil }).servers()[i]
		none.refresh("web", tk.Refresh).fails(badRequest, "invalid_target")
		check(with(h, keep, nil).servers()[i], "openid profile email", api, files)
	}
}
