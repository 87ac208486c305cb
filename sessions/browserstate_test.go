package sessions_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

func TestBrowserStateIsForScriptsAndNoCredential(t *testing.T) {
	login, other := &sessions.Login{ID: strings.Repeat("a", 64)}, &sessions.Login{ID: strings.Repeat("b", 64)}
	secure, plain := sessions.Cookie{Realm: "default", Secure: true}.State(), sessions.Cookie{Realm: "default"}.State()
	elsewhere := sessions.Cookie{Realm: "staff", Secure: true}.State()
	if secure.Name() != "__Host-gatehouse-default.state" || plain.Name() != "gatehouse-default.state" {
		t.Errorf("names %q and %q", secure.Name(), plain.Name())
	}
	value := secure.Of(login)
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`).MatchString(value) || value == secure.Of(other) || value == elsewhere.Of(login) || strings.Contains(value, login.ID[:8]) ||
		value != plain.Of(login) || secure.Of(nil) != "" {
		t.Errorf("state %q", value)
	}
	until := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, c := range map[string]struct {
		state sessions.BrowserState
		held  string
		login *sessions.Login
		want  string // Set-Cookie
	}{
		"https":                  {secure, "", login, "__Host-gatehouse-default.state=" + value + "; Path=/; Secure; SameSite=None"},
		"http":                   {plain, "", login, "gatehouse-default.state=" + value + "; Path=/; SameSite=Lax"},
		"persistent":             {secure, "", &sessions.Login{ID: login.ID, Persistent: true, ExpiresAt: until}, "__Host-gatehouse-default.state=" + value + "; Path=/; Expires=Wed, 02 Jan 2030 03:04:05 GMT; Secure; SameSite=None"},
		"as it is":               {secure, value, login, ""},
		"another one":            {secure, "x", login, "__Host-gatehouse-default.state=" + value + "; Path=/; Secure; SameSite=None"},
		"nobody is signed in":    {secure, value, nil, "__Host-gatehouse-default.state=; Path=/; Max-Age=0; Secure; SameSite=None"},
		"nobody was, nobody is":  {secure, "", nil, ""},
		"an empty one is no one": {secure, "-", nil, "__Host-gatehouse-default.state=; Path=/; Max-Age=0; Secure; SameSite=None"},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
		if c.held != "" {
			r.AddCookie(&http.Cookie{Name: c.state.Name(), Value: strings.Trim(c.held, "-")})
		}
		c.state.Put(w, r, c.login)
		if got := w.Header().Get("Set-Cookie"); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
