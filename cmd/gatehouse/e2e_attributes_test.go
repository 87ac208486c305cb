//go:build unix

package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

// withHeaders is a browser's way that adds headers to each request, as a browser
// or a proxy in between does.
type withHeaders struct {
	http.RoundTripper
	header map[string]string
}

func (w withHeaders) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, value := range w.header {
		r.Header.Set(name, value)
	}
	return w.RoundTripper.RoundTrip(r)
}

// customAttributes are those of the token's own session.
func (api *sessionAPI) customAttributes(t *testing.T, token string) map[string]string {
	t.Helper()
	r := api.call(t, http.MethodGet, "/session/", token)
	var document struct {
		Data struct {
			Attributes struct {
				CustomAttributes map[string]string `json:"customAttributes"`
			} `json:"attributes"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(r.body), &document); err != nil || r.status != http.StatusOK {
		t.Fatalf("the session: %s, %v", r, err)
	}
	return document.Data.Attributes.CustomAttributes
}

func TestServerSetsDeclaredAttributesAtSignIn(t *testing.T) {
	declared := func(cfg *configs.Config) {
		openToUsers(cfg)
		cfg.AuthorizationServers["myAS"].SessionAPI.CustomAttributes = []configs.CustomAttribute{
			{Name: "agent", Source: "user_agent"}, {Name: "mail", Source: "claim:email"}, {Name: "city", Source: "claim:address.locality"},
			{Name: "country", Pattern: "[A-Z]{2}", Source: "header:X-Country"}, {Name: "place", Source: "header:X-Place", Updatable: true},
			{Name: "ip", Source: "client_address"}, {Name: "note", Updatable: true}}
		cfg.AuthorizationServers["partnerAS"].SessionAPI.CustomAttributes = []configs.CustomAttribute{{Name: "agent", Source: "claim:name"}}
	}
	onBothDatabases(t, func(t *testing.T, database string) {
		o := openOffice(t, database, declared)
		api, other := newSessionAPI(t, o.Issuer("myAS")), newSessionAPI(t, o.Issuer("partnerAS"))
		sent := map[string]string{"User-Agent": "Firefox/1.0 (Zürich)", "X-Country": "CH", "X-Place": "hall", "X-Forwarded-For": "192.0.2.7", "Forwarded": "for=192.0.2.7"}
		browser := newBrowser(t)
		browser.Transport = withHeaders{browser.Transport, sent}
		web, abroad := hold(t, o.party("myAS", "web"), browser), hold(t, o.party("partnerAS", "web"), browser)
		has := func(what string, want map[string]string) {
			t.Helper()
			if got := api.customAttributes(t, web.second); !maps.Equal(got, want) {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		want := map[string]string{"agent": "Firefox/1.0 (Zürich)", "mail": "alex@example.com", "country": "CH", "place": "hall", "ip": "127.0.0.1"}
		has("nobody in between is trusted", want)
		if got := other.customAttributes(t, abroad.second); !maps.Equal(got, map[string]string{"agent": "Alex"}) {
			t.Errorf("at the other authorization server: %q", got)
		}

		// What the server vouches for is not the client's to change.
		for attributes, code := range map[string]string{
			`{"ip":"192.0.2.7"}`:                           "CUSTOM_ATTRIBUTE_NOT_UPDATABLE",
			`{"mail":null}`:                                "CUSTOM_ATTRIBUTE_NOT_UPDATABLE",
			`{"city":"Bern","note":"x"}`:                   "CUSTOM_ATTRIBUTE_NOT_UPDATABLE",
			`{"agent":"Firefox/1.0"}`:                      "CUSTOM_ATTRIBUTE_NOT_UPDATABLE",
			`{"place":"a\tb"}`:                             "CUSTOM_ATTRIBUTE_INVALID",
			`{"place":"` + strings.Repeat("x", 501) + `"}`: "CUSTOM_ATTRIBUTE_INVALID",
			`{"X-Country":"CH"}`:                           "CUSTOM_ATTRIBUTE_UNKNOWN",
		} {
			if r := api.change(t, web.second, web.sid, attributes); r.status != http.StatusUnprocessableEntity || !strings.Contains(r.body, `"code":"`+code+`"`) {
				t.Errorf("%.60s: %s, want 422 %s", attributes, r, code)
			}
		}
		if r := other.change(t, abroad.second, abroad.sid, `{"agent":"x"}`); r.status != http.StatusUnprocessableEntity {
			t.Errorf("at the other authorization server: %s", r)
		}
		has("after all refusals", want)
		if r := api.change(t, web.second, web.sid, `{"place":"kitchen","note":"mine"}`); r.status != http.StatusOK {
			t.Fatal(r)
		}
		want["place"], want["note"] = "kitchen", "mine"
		has("changed by the client", want)

		// The next authorization asks the sources anew.
		delete(sent, "X-Place")
		sent["X-Country"], sent["User-Agent"] = "Switzerland", "Firefox/2.0"
		if again := o.party("myAS", "web").SignIn(browser); again.SID != web.sid {
			t.Fatal("another session")
		}
		delete(want, "place")
		delete(want, "country")
		want["agent"] = "Firefox/2.0"
		has("authorized again", want)
		has("and read again", api.customAttributes(t, web.first))
	})
}

func TestAddressOfASessionIsWhatTrustedProxiesTell(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		trusted []netip.Prefix
		header  map[string]string
		want    string
	}{
		"a trusted proxy":             {[]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, map[string]string{"X-Forwarded-For": "198.51.100.1, 192.0.2.7"}, "192.0.2.7"},
		"a trusted proxy, IPv6":       {[]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, map[string]string{"Forwarded": `for="[2001:db8::9]:80"`}, "2001:db8::9"},
		"a trusted proxy, says none":  {[]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, nil, "127.0.0.1"},
		"another network is trusted":  {[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, map[string]string{"X-Forwarded-For": "192.0.2.7"}, "127.0.0.1"},
		"nobody is trusted":           {nil, map[string]string{"X-Forwarded-For": "192.0.2.7", "Forwarded": "for=192.0.2.7"}, "127.0.0.1"},
		"a proxy's headers disagree":  {[]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, map[string]string{"X-Forwarded-For": "192.0.2.7", "Forwarded": "for=192.0.2.8"}, "127.0.0.1"},
		"a proxy passes on a forgery": {[]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, map[string]string{"X-Forwarded-For": "10.0.0.1, 192.0.2.7"}, "192.0.2.7"},
	} {
		o := openOffice(t, "", func(cfg *configs.Config) {
			openToUsers(cfg)
			cfg.TrustedProxies = tt.trusted
			cfg.AuthorizationServers["myAS"].SessionAPI.CustomAttributes = []configs.CustomAttribute{{Name: "ip", Source: "client_address"}}
		})
		browser := newBrowser(t)
		browser.Transport = withHeaders{browser.Transport, tt.header}
		signed := o.party("myAS", "web").SignIn(browser)
		if got := newSessionAPI(t, o.Issuer("myAS")).customAttributes(t, signed.Token.AccessToken); got["ip"] != tt.want || len(got) != 1 {
			t.Errorf("%s: %q, want %s", name, got, tt.want)
		}
	}
}

// The file, the protocol and the accounts must know the same claims.
func TestEveryClaimOfTheConfigurationIsKnown(t *testing.T) {
	t.Parallel()
	var texts func(prefix string, of reflect.Type) []string
	texts = func(prefix string, of reflect.Type) (names []string) {
		for i := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			switch kind := of.Field(i).Type; {
			case kind.Kind() == reflect.String:
				names = append(names, prefix+name)
			case kind.Kind() == reflect.Pointer:
				names = append(names, texts(prefix+name+".", kind.Elem())...)
			}
		}
		return names
	}
	has, want := configs.ClaimSources(), texts("", reflect.TypeFor[users.Claims]())
	slices.Sort(has)
	slices.Sort(want)
	if !slices.Equal(has, want) {
		t.Errorf("the configuration knows %q, accounts have %q", has, want)
	}
	page := document(t, "docs/configuration.md")
	for _, claim := range has {
		if !strings.Contains(page, "`"+claim+"`") {
			t.Errorf("docs/configuration.md does not name the claim %s", claim)
		}
	}
	startServer(t, serverOptions{Config: func(cfg *configs.Config) { // refuses claims that it doesn't know
		var list []configs.CustomAttribute
		for _, claim := range has {
			list = append(list, configs.CustomAttribute{Name: strings.ReplaceAll(claim, ".", "-"), Source: configs.SourceClaim + claim})
		}
		cfg.AuthorizationServers["myAS"].SessionAPI.CustomAttributes = list
	}})
}

func TestExampleOfSourcesLoads(t *testing.T) {
	_, rest, _ := strings.Cut(document(t, "docs/configuration.md"), "### Attributes that the server sets\n\n```yaml\n")
	example, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("docs/configuration.md has no example")
	}
	text := "authorization_servers:\n  a:\n"
	for line := range strings.Lines(example) {
		text += "    " + line
	}
	cfg, err := configs.Source{Name: "x", AllowNoKey: true, Data: []byte(text)}.Parse()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	list := cfg.AuthorizationServers["a"].SessionAPI.CustomAttributes
	if _, err := sessions.NewAttributes(attributes(list)); err != nil || len(list) != 4 || list[2].Source != "claim:address.locality" {
		t.Errorf("it gives %+v, %v", list, err)
	}
}

func TestDefaultPatternsOfAttributesAreTheDomains(t *testing.T) {
	cfg, err := configs.Source{Name: "x", AllowNoKey: true, Data: []byte(`authorization_servers: {a: {session_api: {custom_attributes: [{name: a}, {name: b, source: user_agent}]}}}`)}.Parse()
	if err != nil {
		t.Fatal(err)
	}
	list := attributes(cfg.AuthorizationServers["a"].SessionAPI.CustomAttributes)
	if list[0].Pattern != sessions.DefaultPattern || list[1].Pattern != sessions.DefaultSourcedPattern || list[1].Source.Kind != sessions.SourceUserAgent {
		t.Errorf("they are %+v", list)
	}
}
