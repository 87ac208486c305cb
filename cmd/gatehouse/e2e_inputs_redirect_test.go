//go:build unix

package main

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/configs"
)

// withSites adds clients to both authorization servers whose redirect URIs are
// worth changing.
func withSites(cfg *configs.Config) {
	for _, as := range cfg.AuthorizationServers {
		for _, m := range []clients.Metadata{
			{ClientID: "site", RedirectURIs: []string{"https://client.example/app/cb"}},
			{ClientID: "queried", RedirectURIs: []string{"https://client.example/cb?a=1"}},
			{ClientID: "local", RedirectURIs: []string{"http://localhost:7000/cb"}},
			{ClientID: "phone", RedirectURIs: []string{"http://127.0.0.1/cb", "com.example.app:/cb"}, ApplicationType: clients.ApplicationNative},
			{ClientID: "phone6", RedirectURIs: []string{"http://[::1]:7000/cb"}, ApplicationType: clients.ApplicationNative},
			{ClientID: "desk", RedirectURIs: []string{"http://localhost:7000/cb"}, ApplicationType: clients.ApplicationNative},
		} {
			m.Scope, m.SkipConsent, m.TokenEndpointAuthMethod = "openid", true, clients.AuthNone
			m.Defaults(as.AccessToken.Format)
			as.Clients = append(as.Clients, m)
		}
	}
}

// redirectMutants are redirect URIs that differ from what the client
// registered, by client.
var redirectMutants = map[string][]string{
	"site": {
		// scheme and slashes
		"HTTPS://client.example/app/cb", "http://client.example/app/cb", "httpss://client.example/app/cb", "https:/client.example/app/cb", "https:client.example/app/cb",
		"https:///client.example/app/cb", "//client.example/app/cb", "/app/cb", "app/cb", "?x", "javascript://client.example/app/cb", "data:text/html,x", "x-https://client.example/app/cb",
		// host
		"https://Client.example/app/cb", "https://client.EXAMPLE/app/cb", "https://client.example./app/cb", "https://client.example../app/cb", "https://.client.example/app/cb",
		"https://www.client.example/app/cb", "https://client.example.evil.example/app/cb", "https://evil-client.example/app/cb", "https://client.exampleevil/app/cb",
		"https://xn--client-9za.example/app/cb", "https://cl\u0456ent.example/app/cb", "https://client\u3002example/app/cb", "https://\uff43lient.example/app/cb",
		"https://client%2eexample/app/cb", "https://%63lient.example/app/cb", "https://client.example%00.evil.example/app/cb", "https://client.example%2f.evil.example/app/cb",
		"https://[client.example]/app/cb", "https:///app/cb",
		// port
		"https://client.example:443/app/cb", "https://client.example:8443/app/cb", "https://client.example:/app/cb", "https://client.example:0/app/cb", "https://client.example:443evil.example/app/cb",
		// userinfo
		"https://a@client.example/app/cb", "https://@client.example/app/cb", "https://a:b@client.example/app/cb", "https://client.example@evil.example/app/cb",
		"https://client.example%40evil.example/app/cb", "https://client.example:x@evil.example/app/cb", "https://evil.example#@client.example/app/cb", "https://evil.example?@client.example/app/cb",
		// path
		"https://client.example/app/cb/", "https://client.example/app/cb//", "https://client.example//app/cb", "https://client.example/APP/cb", "https://client.example/app/Cb", "https://client.example/app/cb2",
		"https://client.example/app", "https://client.example/app/", "https://client.example/", "https://client.example", "https://client.example/app/c", "https://client.example/app/cb/x", "https://client.example/app/cb;x=1",
		// dot segments and encodings
		"https://client.example/app/./cb", "https://client.example/app/x/../cb", "https://client.example/x/../app/cb", "https://client.example/app/cb/..", "https://client.example/app/cb/.",
		"https://client.example/app/%2e/cb", "https://client.example/app/x/%2e%2e/cb", "https://client.example/app/x/%2E./cb", "https://client.example/app%2fcb", "https://client.example/app/%63b", "https://client.example/app/c%62",
		"https://client.example/app/cb%20", "https://client.example/app/cb%00", "https://client.example/app/cb%0d%0ax", "https://client.example/app/cb%", "https://client.example/app/cb%zz", "https://client.example/app/cb%252e",
		// query and fragment
		"https://client.example/app/cb?", "https://client.example/app/cb?a=1", "https://client.example/app/cb?code=x", "https://client.example/app/cb#", "https://client.example/app/cb#x", "https://client.example/app/cb?#", "https://client.example/app/cb%23", "https://client.example/app/cb%3Fa=1", "https://client.example/app/cb&x=1",
		// backslashes, blanks and control characters
		`https://client.example\app\cb`, `https:\\client.example/app/cb`, `https://client.example\@evil.example/app/cb`, `https://evil.example\.client.example/app/cb`, `https://client.example/app/cb\`, `https://client.example/app\cb`, `https://client.example/app/cb%5c`,
		" https://client.example/app/cb", "https://client.example/app/cb ", "\thttps://client.example/app/cb", "https://client.example/app/cb\t", "https://client.example/app/\tcb", "ht\ntps://client.example/app/cb", "https://client.example/app/cb\n", "https://client.example/app/cb\r\nLocation: https://evil.example/",
		"https://client.example/app/cb\x00", "https://client.example/app/cb\x01", "https://client.example/app/cb\x7f", "https://client.example/app/cb\u0085", "https://client.example/app/cb\u00a0", "https://client.example/app/cb\u200b", "https://client.example/app/cb\u2028", "\ufeffhttps://client.example/app/cb", "https://client.example/app/cb\xff",
		// two in one, and another's
		"https://client.example/app/cb https://evil.example/", "https://client.example/app/cb,https://evil.example/", "https://client.example/cb?a=1", "https://evil.example/?https://client.example/app/cb", "https://client.example/app/cb" + strings.Repeat("/x", 1500),
	},
	"queried": {"https://client.example/cb", "https://client.example/cb?", "https://client.example/cb?a=2", "https://client.example/cb?A=1", "https://client.example/cb?a=1&", "https://client.example/cb?a=1&b=2", "https://client.example/cb?b=2&a=1",
		"https://client.example/cb?a=1&a=1", "https://client.example/cb?a=%31", "https://client.example/cb?%61=1", "https://client.example/cb?a=1#", "https://client.example/cb?a=1/", "https://client.example/cb/?a=1", "https://client.example/cb?a=1;b", "https://client.example/cb?a=1+", "https://client.example/cb??a=1"},
	"local": {"http://localhost/cb", "http://localhost:7001/cb", "http://localhost:07000/cb", "http://LOCALHOST:7000/cb", "http://localhost.:7000/cb", "http://127.0.0.1:7000/cb", "http://[::1]:7000/cb", "http://app.localhost:7000/cb", "https://localhost:7000/cb", "http://localhost:70000/cb", "http://localhost:7000@evil.example/cb"},
	"phone": {"http://localhost/cb", "http://localhost:4711/cb", "http://[::1]/cb", "http://[::1]:4711/cb", "https://127.0.0.1/cb", "https://127.0.0.1:4711/cb", "HTTP://127.0.0.1:4711/cb", "http://127.0.0.1:4711/", "http://127.0.0.1:4711/cb/", "http://127.0.0.1:4711/CB", "http://127.0.0.1:4711/cb?", "http://127.0.0.1:4711/cb?x=1", "http://127.0.0.1:4711/cb#", "http://127.0.0.1:4711/%63b", "http://127.0.0.1:4711/x/../cb", "http://127.0.0.1:4711//cb", `http://127.0.0.1:4711\cb`,
		"http://127.0.0.1:/cb", "http://127.0.0.1:0/cb", "http://127.0.0.1:65536/cb", "http://127.0.0.1:08080/cb", "http://127.0.0.1:-1/cb", "http://127.0.0.1:+1/cb", "http://127.0.0.1:1e3/cb", "http://127.0.0.1: 80/cb", "http://127.0.0.1:80:81/cb", "http://127.0.0.1:80@evil.example/cb", "http://127.0.0.1@evil.example/cb", "http://a@127.0.0.1:4711/cb",
		"http://127.0.0.1./cb", "http://127.0.0.1.:4711/cb", "http://127.0.0.2:4711/cb", "http://127.0.0.01:4711/cb", "http://127.0.0.10:4711/cb", "http://127.1:4711/cb", "http://127.0.1:4711/cb", "http://2130706433:4711/cb", "http://0x7f.0.0.1:4711/cb", "http://0177.0.0.1:4711/cb", "http://0.0.0.0:4711/cb", "http://127.0.0.1.evil.example:4711/cb", "http://[::ffff:127.0.0.1]:4711/cb", "http://127.0.0.1%2eevil.example/cb", "http://\uff11\uff12\uff17.0.0.1:4711/cb",
		"com.example.app:/cb2", "com.example.app:/", "com.example.app:cb", "com.example.app://cb", "com.example.app:///cb", "com.example.app:4711/cb", "COM.example.app:/cb", "com.example.app2:/cb", "com.example.app:/cb?x", "com.example.app:/cb#x", "com.example.app:/%63b"},
	"phone6": {"http://127.0.0.1:7000/cb", "http://localhost:7000/cb", "http://[0:0:0:0:0:0:0:1]:7000/cb", "http://[::01]:7000/cb", "http://[::1%25lo]:7000/cb", "http://[::1%lo]:7000/cb", "http://[::2]:7000/cb", "http://[::]:7000/cb", "http://::1:7000/cb", "http://[::1]7000/cb", "http://[::1]:/cb", "http://[::1]:7000x/cb", "http://[::1]@evil.example/cb", "http://[::1].evil.example:7000/cb", "http://[::1]:7000/cb/"},
	"desk":   {"http://localhost:4711/cb", "http://localhost/cb", "http://127.0.0.1:7000/cb", "http://[::1]:7000/cb", "http://localhost:7000/cb/", "http://Localhost:7000/cb", "http://localhost.localdomain:7000/cb"},
}

// ourScript is the script that every page has, served by ourselves.
var ourScript = regexp.MustCompile(`<script src="/static/[A-Za-z0-9.-]+"[a-z ]*></script>`)

// TestMismatchedRedirectURIsAreShownToThePersonAlone: RFC 9700 §4.1.3 and
// §4.11.2. The browser is signed in, and consent is skipped: where a redirect
// URI is taken, a code is on its way.
func TestMismatchedRedirectURIsAreShownToThePersonAlone(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "", withSites)
	b := newBrowser(t)
	for _, as := range bothServers {
		o.party(as, "trusted").SignIn(b)
		request := func(client string, redirects ...string) url.Values {
			return url.Values{"client_id": {client}, "response_type": {"code"}, "scope": {"openid"}, "state": {"st"}, "nonce": {"n"}, "redirect_uri": redirects,
				"code_challenge": {oauth2.S256ChallengeFromVerifier("a-verifier-of-at-least-forty-three-characters")}, "code_challenge_method": {"S256"}}
		}
		with := func(v url.Values, name, value string) url.Values {
			v = maps.Clone(v)
			v.Set(name, value)
			return v
		}
		// What is registered, or differs in the port of the loopback literal, is
		// redirected to: the others are refused for what they are.
		for client, uris := range map[string][]string{"site": {"https://client.example/app/cb"}, "queried": {"https://client.example/cb?a=1"}, "local": {"http://localhost:7000/cb"},
			"phone": {"http://127.0.0.1/cb", "http://127.0.0.1:4711/cb", "http://127.0.0.1:65535/cb", "com.example.app:/cb"}, "phone6": {"http://[::1]/cb", "http://[::1]:1/cb"}, "desk": {"http://localhost:7000/cb"}} {
			for _, uri := range uris {
				status, to := opened(b, o.Issuer(as)+"/authorize?"+request(client, uri).Encode())
				if status != http.StatusSeeOther || !strings.HasPrefix(to.String(), uri) || to.Query().Get("code") == "" {
					t.Errorf("%s: %s is answered by %d to %q", client, uri, status, to)
				}
			}
		}
		refused := func(what string, query url.Values) {
			t.Helper()
			res := b.Page(o.Issuer(as) + "/authorize?" + query.Encode())
			body := ourScript.ReplaceAllString(text(t, res), "")
			if res.StatusCode != http.StatusBadRequest || res.Header.Get("Location") != "" || res.Header.Get("Refresh") != "" ||
				!strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") || !strings.Contains(body, "redirect_uri") {
				t.Errorf("%s: %s: %s to %q\n%.300s", as, what, res.Status, res.Header.Get("Location"), body)
			}
			for _, leads := range []string{"client.example", "evil.example", "4711", "http-equiv", "<script", "action=\"http"} {
				if strings.Contains(body, leads) {
					t.Errorf("%s: %s: the page has %q", as, what, leads)
				}
			}
		}
		for client, uris := range redirectMutants {
			for _, uri := range uris {
				q := request(client, uri)
				refused(uri, q)
				refused("form_post "+uri, with(q, "response_mode", "form_post"))
				refused("silent "+uri, with(q, "prompt", "none"))
				refused("a bad request and "+uri, with(q, "response_type", "token"))
			}
		}
		const good, bad = "https://client.example/app/cb", "https://evil.example/"
		for what, uris := range map[string][]string{"good and bad": {good, bad}, "bad and good": {bad, good}, "twice the good one": {good, good}, "thrice": {good, bad, good}, "none": {}, "an empty one": {""}} {
			refused(what, request("site", uris...))
		}
		// The same by POST, which becomes a GET of ours and nothing else.
		for _, uri := range redirectMutants["site"][:20] {
			post, err := http.NewRequestWithContext(t.Context(), http.MethodPost, o.Issuer(as)+"/authorize", strings.NewReader(request("site", uri).Encode()))
			if err != nil {
				t.Fatal(err)
			}
			post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			res, err := b.Do(post)
			if err != nil {
				t.Fatal(err)
			}
			text(t, res)
			if to := res.Header.Get("Location"); res.StatusCode == http.StatusSeeOther && strings.HasPrefix(to, o.Issuer(as)+"/authorize?") {
				q, err := url.ParseQuery(strings.TrimPrefix(to, o.Issuer(as)+"/authorize?"))
				if err != nil {
					t.Fatal(err)
				}
				refused("posted "+uri, q)
			} else {
				t.Errorf("%s: posted %s: %s to %q", as, uri, res.Status, to)
			}
		}
	}
	o.mustBeCalm()
}
