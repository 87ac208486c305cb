package clients

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestRedirectURIMatchesExactly(t *testing.T) {
	const registered = "https://client.example/cb?a=1"
	tests := []struct {
		name, requested string
		want            bool
	}{
		{"the same", registered, true},
		{"empty", "", false},
		{"no query", "https://client.example/cb", false},
		{"another query", "https://client.example/cb?a=2", false},
		{"longer query", "https://client.example/cb?a=1&b=2", false},
		{"trailing slash", "https://client.example/cb/?a=1", false},
		{"trailing slash at the end", "https://client.example/cb?a=1/", false},
		{"upper-case scheme", "HTTPS://client.example/cb?a=1", false},
		{"upper-case host", "https://Client.example/cb?a=1", false},
		{"upper-case path", "https://client.example/CB?a=1", false},
		{"default port", "https://client.example:443/cb?a=1", false},
		{"another port", "https://client.example:8443/cb?a=1", false},
		{"plain http", "http://client.example/cb?a=1", false},
		{"fragment", registered + "#x", false},
		{"empty fragment", registered + "#", false},
		{"userinfo", "https://user@client.example/cb?a=1", false},
		{"empty userinfo", "https://@client.example/cb?a=1", false},
		{"userinfo that looks like the host", "https://client.example@evil.example/cb?a=1", false},
		{"percent-encoded path", "https://client.example/%63b?a=1", false},
		{"percent-encoded query", "https://client.example/cb?a=%31", false},
		{"percent-encoded host", "https://client%2eexample/cb?a=1", false},
		{"dot segment", "https://client.example/x/../cb?a=1", false},
		{"encoded dot segment", "https://client.example/x/%2e%2e/cb?a=1", false},
		{"double slash", "https://client.example//cb?a=1", false},
		{"subdomain", "https://a.client.example/cb?a=1", false},
		{"trailing dot", "https://client.example./cb?a=1", false},
		{"host suffix", "https://client.example.evil.example/cb?a=1", false},
		{"backslash", `https://client.example\@evil.example/cb?a=1`, false},
		{"backslash path", `https://client.example\cb?a=1`, false},
		{"tab", "https://client.example/c\tb?a=1", false},
		{"newline", registered + "\n", false},
		{"carriage return", registered + "\r", false},
		{"leading space", " " + registered, false},
		{"null", registered + "\x00", false},
		{"scheme-relative", "//client.example/cb?a=1", false},
		{"relative", "/cb?a=1", false},
		{"prefix", registered[:len(registered)-1], false},
		{"not ASCII", "https://client.exämple/cb?a=1", false},
		{"script", "javascript:alert(1)", false},
	}
	for _, application := range []string{ApplicationWeb, ApplicationNative} {
		m := &Metadata{ApplicationType: application, RedirectURIs: []string{registered}}
		for _, test := range tests {
			if got := m.MatchRedirectURI(test.requested); got != test.want {
				t.Errorf("%s, %s client: MatchRedirectURI(%q) = %v, want %v", test.name, application, test.requested, got, test.want)
			}
		}
	}
}

func TestNativeLoopbackRedirectURIHasAnyPort(t *testing.T) {
	const v4, v6 = "http://127.0.0.1/cb?a=1", "http://[::1]:7000/cb"
	m := &Metadata{ApplicationType: ApplicationNative, RedirectURIs: []string{v4, v6, "http://localhost:7000/cb", "http://127.0.0.1"}}
	tests := []struct {
		name, requested string
		want            bool
	}{
		{"as registered", v4, true},
		{"a port", "http://127.0.0.1:51000/cb?a=1", true},
		{"highest port", "http://127.0.0.1:65535/cb?a=1", true},
		{"IPv6, another port", "http://[::1]:51000/cb", true},
		{"IPv6, no port", "http://[::1]/cb", true},
		{"no path, a port", "http://127.0.0.1:51000", true},
		{"localhost as registered", "http://localhost:7000/cb", true},
		{"localhost, another port", "http://localhost:51000/cb", false},
		{"localhost for the literal", "http://localhost/cb?a=1", false},
		{"no path registered, but a slash", "http://127.0.0.1:51000/", false},
		{"port 0", "http://127.0.0.1:0/cb?a=1", false},
		{"port above 65535", "http://127.0.0.1:65536/cb?a=1", false},
		{"empty port", "http://127.0.0.1:/cb?a=1", false},
		{"leading zero", "http://127.0.0.1:0080/cb?a=1", false},
		{"signed port", "http://127.0.0.1:+80/cb?a=1", false},
		{"letters in port", "http://127.0.0.1:80a/cb?a=1", false},
		{"two ports", "http://127.0.0.1:80:81/cb?a=1", false},
		{"another path", "http://127.0.0.1:51000/cb2?a=1", false},
		{"another query", "http://127.0.0.1:51000/cb?a=2", false},
		{"no query", "http://127.0.0.1:51000/cb", false},
		{"trailing slash", "http://127.0.0.1:51000/cb/?a=1", false},
		{"https", "https://127.0.0.1:51000/cb?a=1", false},
		{"upper-case scheme", "HTTP://127.0.0.1:51000/cb?a=1", false},
		{"another loopback address", "http://127.0.0.2:51000/cb?a=1", false},
		{"short form", "http://127.1:51000/cb?a=1", false},
		{"decimal form", "http://2130706433:51000/cb?a=1", false},
		{"long IPv6", "http://[0:0:0:0:0:0:0:1]:51000/cb", false},
		{"mapped IPv6", "http://[::ffff:127.0.0.1]:51000/cb?a=1", false},
		{"zone", "http://[::1%25eth0]:51000/cb", false},
		{"longer address", "http://127.0.0.11:51000/cb?a=1", false},
		{"longer name", "http://127.0.0.1.evil.example:51000/cb?a=1", false},
		{"userinfo", "http://127.0.0.1:51000@evil.example/cb?a=1", false},
		{"userinfo without port", "http://127.0.0.1@evil.example/cb?a=1", false},
		{"own userinfo", "http://a@127.0.0.1:51000/cb?a=1", false},
		{"fragment", "http://127.0.0.1:51000/cb?a=1#x", false},
		{"backslash", `http://127.0.0.1:51000\@evil.example/cb?a=1`, false},
		{"encoded slash in authority", "http://127.0.0.1%2f:51000/cb?a=1", false},
		{"encoded path", "http://127.0.0.1:51000/%63b?a=1", false},
		{"dot segment", "http://127.0.0.1:51000/x/../cb?a=1", false},
		{"newline", "http://127.0.0.1:51000/cb?a=1\n", false},
		{"tab in port", "http://127.0.0.1:5\t1/cb?a=1", false},
		{"the other family", "http://[::1]:51000/cb?a=1", false},
	}
	for _, test := range tests {
		if got := m.MatchRedirectURI(test.requested); got != test.want {
			t.Errorf("%s: MatchRedirectURI(%q) = %v, want %v", test.name, test.requested, got, test.want)
		}
	}
	m.ApplicationType = ApplicationWeb
	if m.MatchRedirectURI("http://127.0.0.1:51000/cb?a=1") {
		t.Error("a web client got the freedom of port that RFC 8252 gives native ones")
	}
}

func TestLoopbackLiteralEndsWithItsHost(t *testing.T) {
	for _, uri := range []string{
		"http://127.0.0.1.evil.example/", "http://127.0.0.1@evil.example/", "http://127.0.0.1:80@evil.example/", "http://127.0.0.11/", "http://[::1]x/",
		"http://127.0.0.1:80:81/", "http://127.0.0.1#x", `http://127.0.0.1\`, "http://127.0.0.1%2f", "http://localhost/", "https://127.0.0.1/", "http://127.0.0.1:/",
	} {
		if host, rest, ok := splitLoopback(uri); ok {
			t.Errorf("%q is taken for %s and %s", uri, host, rest)
		}
	}
}

func TestUnsafeRegisteredURIsNeverMatch(t *testing.T) {
	for _, uri := range []string{"https://client.example/cb#x", "https://a@client.example/cb", "https://client.example/\tcb", "/cb", ""} {
		m := &Metadata{RedirectURIs: []string{uri}, PostLogoutRedirectURIs: []string{uri}}
		if m.MatchRedirectURI(uri) || m.MatchPostLogoutRedirectURI(uri) {
			t.Errorf("%q matched because it was registered", uri)
		}
	}
}

func TestPostLogoutRedirectURIMatchesExactly(t *testing.T) {
	m := &Metadata{
		ApplicationType:        ApplicationNative,
		RedirectURIs:           []string{"https://client.example/cb"},
		PostLogoutRedirectURIs: []string{"http://127.0.0.1:9001/", "https://client.example/bye"},
	}
	for requested, want := range map[string]bool{
		"http://127.0.0.1:9001/":       true,
		"https://client.example/bye":   true,
		"http://127.0.0.1:9002/":       true, // RFC 8252 §7.3
		"http://127.0.0.1:9002/other":  false,
		"http://[::1]:9001/":           false,
		"http://localhost:9001/":       false,
		"http://127.0.0.1:9001":        false,
		"https://client.example/bye/":  false,
		"https://client.example/bye?":  false,
		"https://client.example/bye#":  false,
		"https://client.example/cb":    false,
		"https://CLIENT.example/bye":   false,
		"https://x@client.example/bye": false,
		"":                             false,
	} {
		if got := m.MatchPostLogoutRedirectURI(requested); got != want {
			t.Errorf("MatchPostLogoutRedirectURI(%q) = %v, want %v", requested, got, want)
		}
	}
	m.ApplicationType = ApplicationWeb
	if m.MatchPostLogoutRedirectURI("http://127.0.0.1:9002/") {
		t.Error("a web client got the freedom of port that RFC 8252 gives native ones")
	}
}

func TestOriginsAreThoseOfWebRedirectURIs(t *testing.T) {
	m := &Metadata{RedirectURIs: []string{
		"https://b.example/cb", "https://B.example:443/cb2", "http://localhost:9001/cb", "http://127.0.0.1:80/", "http://[::1]:9001/x",
		"https://a.example:8443/cb", "com.example.app:/cb", "javascript:alert(1)", "https://", "https://a@c.example/", "null",
	}}
	want := []string{"http://127.0.0.1", "http://[::1]:9001", "http://localhost:9001", "https://a.example:8443", "https://b.example"}
	if got := m.Origins(); !slices.Equal(got, want) {
		t.Errorf("Origins() = %q, want %q", got, want)
	}
}

// loopbackLiteral is RFC 8252 §7.3 once more, in another way than the matcher's:
// host, port and what follows.
var loopbackLiteral = regexp.MustCompile(`^(http://(?:127\.0\.0\.1|\[::1\]))(?::([1-9][0-9]{0,4}))?((?:[/?].*)?)$`)

// FuzzMatchRedirectURI holds the matcher to its promise: whatever matches is
// byte for byte a registered URI, or for a native client one of the loopback
// literals with another port. Whatever is registered, nothing matches that a
// browser could take for another place than we do.
func FuzzMatchRedirectURI(f *testing.F) {
	known := []string{"https://client.example/cb?a=1", "http://127.0.0.1/cb", "http://[::1]:7000/cb", "com.example.app:/cb"}
	for _, seed := range append(known, "http://127.0.0.1:8080/cb", "http://[::1]:1/cb", "http://127.0.0.1:80@evil.example/cb", "http://127.0.0.1:1/cb#",
		"https://client.example/%63b", "http://127.0.0.1:65536/cb", "http://127.0.0.1:1\n/cb") {
		f.Add(seed, seed, true)
		f.Add("http://127.0.0.1:1/cb", seed, true)
		f.Add("http://127.0.0.1:1/cb", seed, false)
	}
	f.Fuzz(func(t *testing.T, registered, requested string, native bool) {
		m := &Metadata{ApplicationType: ApplicationWeb, RedirectURIs: append([]string{registered}, known...)}
		if native {
			m.ApplicationType = ApplicationNative
		}
		exact := slices.Contains(m.RedirectURIs, requested)
		if m.MatchRedirectURI(requested) {
			butForThePort := func(one string) bool {
				a, b := loopbackLiteral.FindStringSubmatch(one), loopbackLiteral.FindStringSubmatch(requested)
				return a != nil && b != nil && a[1] == b[1] && a[3] == b[3]
			}
			if !exact && (!native || !slices.ContainsFunc(m.RedirectURIs, butForThePort)) {
				t.Errorf("matched %q with %q registered, native: %t", requested, registered, native)
			}
			u, err := url.Parse(requested)
			if err != nil || u.Scheme == "" || u.User != nil || strings.ContainsFunc(requested, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' || r == '#' }) {
				t.Errorf("matched %q, which two readers can take for two places", requested)
			}
			if again := u.String(); err == nil && again != requested && !strings.HasSuffix(requested, "?") {
				if v, err := url.Parse(again); err != nil || v.Host != u.Host || v.Scheme != u.Scheme {
					t.Errorf("matched %q, which is %q when it is written again", requested, again)
				}
			}
			return
		}
		if exact && redirectFault(requested, native) == "" {
			t.Errorf("%q may be registered, is registered, and doesn't match", requested)
		}
	})
}
