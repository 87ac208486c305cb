//go:build unix

package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

func TestDemoWalkFindsEverythingAsDocumented(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	code, stdout, stderr := command(t, "", "demo", "--walk")
	if code != exitOK || !strings.HasSuffix(stdout, "Every answer was as documented.\n") {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	for _, want := range []string{"1. ", "GET session:", "GET sessions:", "DELETE the session", "> DELETE http://", "< HTTP/1.1 204", "< HTTP/1.1 401", "oauth2-session"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the transcript has no %q", want)
		}
	}
	for _, secret := range []string{"alex-demo", "oidc-client-demo", "b2lkYy1jbGllbnQ", "Bearer ey."} {
		if strings.Contains(stdout, secret) {
			t.Errorf("the transcript has %q", secret)
		}
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) != 0 {
		t.Errorf("the demo leaves %v behind (%v)", left, err)
	}
}

// tamper changes the answers to some requests.
type tamper struct {
	method, path string // suffix of the path; "" for all
	change       func(res *http.Response, body string) string
}

func (t tamper) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || r.Method != t.method || !strings.HasSuffix(r.URL.Path, t.path) {
		return res, err
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	res.Body.Close()
	res.Header.Del("Content-Length")
	res.Body = io.NopCloser(strings.NewReader(t.change(res, string(body))))
	return res, nil
}

func replace(from, to string) func(*http.Response, string) string {
	return func(_ *http.Response, body string) string { return strings.ReplaceAll(body, from, to) }
}

func TestDemoWalkFindsWhatIsWrong(t *testing.T) {
	s, operate := operatorFixture(t)
	header := func(name, value string) func(*http.Response, string) string {
		return func(res *http.Response, body string) string { res.Header.Set(name, value); return body }
	}
	status := func(code int) func(*http.Response, string) string {
		return func(res *http.Response, body string) string { res.StatusCode = code; return body }
	}
	tests := map[string]tamper{
		"another issuer":                {"GET", "/openid-configuration", replace(`"issuer":"http`, `"issuer":"httpx`)},
		"another key":                   {"GET", "/jwks", replace(`"n":"`, `"n":"AQAB`)},
		"a token that may be kept":      {"POST", "/token", header("Cache-Control", "public")},
		"another content type":          {"GET", "/session/", header("Content-Type", "application/json")},
		"another status":                {"GET", "/session/", status(203)},
		"a renamed attribute":           {"GET", "/session/", replace("customAttributes", "customattributes")},
		"an attribute too many":         {"GET", "/session/", replace(`"current":true`, `"current":true,"ip":"127.0.0.1"`)},
		"attributes in another order":   {"GET", "/session/", replace(`"customAttributes":{},"clientId":"oidc-client"`, `"clientId":"oidc-client","customAttributes":{}`)},
		"no custom attributes":          {"GET", "/session/", replace(`"customAttributes":{}`, `"customAttributes":null`)},
		"times without milliseconds":    {"GET", "/session/", func(_ *http.Response, body string) string { return cutMilliseconds(body) }},
		"another type":                  {"GET", "/session/", replace("oauth2-session", "session")},
		"another id":                    {"GET", "/session/", func(_ *http.Response, body string) string { return swapCase(body) }},
		"not the current one":           {"GET", "/session/", replace(`"current":true`, `"current":false`)},
		"no meta":                       {"GET", "/session/", replace(`"meta"`, `"Meta"`)},
		"a list that is one":            {"GET", "/sessions/", replace(`"data":[`, `"data":[],"was":[`)},
		"both are current":              {"GET", "/sessions/", replace(`"current":false`, `"current":true`)},
		"a deletion with a body":        {"DELETE", "", func(*http.Response, string) string { return "{}" }},
		"a deletion that is 200":        {"DELETE", "", status(200)},
		"a deletion that may be cached": {"DELETE", "", header("Cache-Control", "max-age=1")},
		"a challenge without an error":  {"GET", "/session/", header("WWW-Authenticate", "Bearer")},
		"another error code":            {"GET", "/session/", replace("ACCESS_TOKEN_INVALID", "INVALID")},
	}
	walk := func(t *testing.T, transport http.RoundTripper) (string, error) {
		// The sessions of the walk before would be listed too.
		operate("", "sessions", "end", "--as", "myAS", "--all-of-user", "alex")
		var out bytes.Buffer
		err := newDemoWalk(s.Config, streams{out: &out}, transport).run(t.Context())
		return out.String(), err
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			out, err := walk(t, tt)
			if !errors.Is(err, errWalk) || !strings.Contains(out, "WRONG: ") {
				t.Errorf("%v, want errWalk\n%s", err, out)
			}
		})
	}
	if out, err := walk(t, http.DefaultTransport); err != nil {
		t.Errorf("%v where nothing is wrong\n%s", err, out)
	}
}

// cutMilliseconds takes the decimals out of every time.
func cutMilliseconds(body string) string {
	var b strings.Builder
	for i := 0; i < len(body); i++ {
		if body[i] == '.' && i+4 < len(body) && body[i+4] == 'Z' {
			i += 3
			continue
		}
		b.WriteByte(body[i])
	}
	return b.String()
}

// swapCase makes another id of the resource's id.
func swapCase(body string) string {
	const before = `"id":"`
	i := strings.Index(body, before)
	if i < 0 {
		return body
	}
	id := body[i+len(before) : i+len(before)+40]
	other := strings.Repeat("0", 40)
	return strings.ReplaceAll(body, id, other)
}

func TestSecretsAreShortened(t *testing.T) {
	for _, secret := range []string{"a", "abcdef", "abcdefg", strings.Repeat("x", 300)} {
		got := shorten(secret)
		if len(strings.TrimSuffix(got, "…")) > len(secret)/3 || !strings.HasSuffix(got, "…") {
			t.Errorf("%q becomes %q", secret, got)
		}
	}
	if got := shortenQuery("code=abcdefghijklmnopqrstuvwxyz&client_id=x&password=abcdefghijklmnop"); got != "code=abcdef…&client_id=x&password=…" {
		t.Errorf("query: %q", got)
	}
	if got := shortenHeader("Set-Cookie", "name=abcdefghijklmnopqrstuvwxyz; Path=/; HttpOnly"); got != "name=abcdef…; Path=/; HttpOnly" {
		t.Errorf("cookie: %q", got)
	}
	if got := string(shortenJSON([]byte(`{"b":1,"access_token":"abcdefghijklmnopqrstuvwxyz"}`))); got != `{"b":1,"access_token":"abcdef…"}` {
		t.Errorf("JSON: %s", got)
	}
}
