package relyingparty_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/relyingparty"
)

const (
	sessionWasEnded = "Your session was ended"
	cannotBeReached = "can&#39;t be reached at the moment"
)

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestFaultsOfTheSessionAPIAreShownAndEndNothing(t *testing.T) {
	text := func(media, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", media)
			_, _ = w.Write([]byte(body))
		}
	}
	const document = "application/vnd.api+json"
	for name, tt := range map[string]struct {
		sessions http.HandlerFunc
		says     string
	}{
		"503":                {status(503), cannotBeReached},
		"500":                {status(500), cannotBeReached},
		"403":                {status(403), "may not see your sessions"},
		"404":                {status(404), "could not be read"},
		"204":                {status(204), "could not be read"},
		"HTML":               {text("text/html", "<html>"), "could not be read"},
		"no type":            {text("", "{}"), "could not be read"},
		"not JSON":           {text(document, "{"), "could not be read"},
		"another form":       {text(document, `{"data":{}}`), "could not be read"},
		"other things":       {text(document, `{"data":[{"type":"users","id":"1"}]}`), "could not be read"},
		"an id that is none": {text(document, `{"data":[{"type":"oauth2-session","id":"../x"}]}`), "could not be read"},
		"oversized":          {text(document, `{"data":[`+strings.Repeat(" ", 2<<20)+`]}`), "could not be read"},
		"sends it on": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, "could not be read"},
		"breaks off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", document)
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"data":[`))
		}, cannotBeReached},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeIssuer(t)
			f.sessions = tt.sessions
			p := openParty(t, f)
			p.signIn()
			if page := p.get("/"); page.status != http.StatusOK || !strings.Contains(page.body, tt.says) || strings.Contains(page.body, `action="/sessions/`) {
				t.Errorf("%d, want %q:\n%s", page.status, tt.says, page.body)
			}
			// What can't be done is not said to be done.
			for path, done := range map[string]string{"/sessions/end": "The session was ended", "/sessions/end-others": "All other sessions were ended"} {
				if name == "404" && path == "/sessions/end" || name == "204" {
					continue
				}
				if res := p.post(path, url.Values{"id": {otherSession}}); res.status != http.StatusSeeOther {
					t.Errorf("%s: %d", path, res.status)
				}
				if page := p.get("/"); !strings.Contains(page.body, `id="notice"`) || strings.Contains(page.body, done) {
					t.Errorf("%s says nothing, or that it was done:\n%s", path, page.body)
				}
			}
			if len(f.leaked) != 0 {
				t.Errorf("sent on: %q", f.leaked)
			}
		})
	}
}

func TestEndedSessionIsNoticed(t *testing.T) {
	dead := func(f *fakeIssuer) { // as a server answers after an ending
		f.mu.Lock()
		defer f.mu.Unlock()
		f.sessions = status(401)
		f.token = func(w http.ResponseWriter, _ *http.Request, renewal bool) bool {
			if renewal {
				answerError(w, 400, "invalid_grant")
			}
			return renewal
		}
	}
	for name, use := range map[string]func(*party){
		"at the next page":      func(p *party) { p.get("/") },
		"at a renewal":          func(p *party) { p.post("/renew", nil) },
		"when ending one":       func(p *party) { p.post("/sessions/end", url.Values{"id": {otherSession}}) },
		"when ending all":       func(p *party) { p.post("/sessions/end-others", nil) },
		"when it can't refresh": func(p *party) { p.get("/") },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeIssuer(t)
			if name == "when it can't refresh" {
				f.answer = func(a map[string]any) { delete(a, "refresh_token") }
			}
			p := openParty(t, f)
			p.signIn()
			dead(f)
			use(p)
			f.mu.Lock()
			f.calls, f.renewals = nil, 0
			f.mu.Unlock()
			if page := p.get("/"); p.title(page) != sessionWasEnded || !strings.Contains(page.body, "Sign in again") {
				t.Errorf("the page says %q", p.title(page))
			}
			// Its tokens are gone, so nothing is asked with them.
			for _, path := range []string{"/renew", "/sessions/end", "/sessions/end-others"} {
				p.post(path, url.Values{"id": {otherSession}})
			}
			p.post("/log-out", nil)
			if len(f.calls) != 0 || f.renewals != 0 {
				t.Errorf("after the ending: calls %q, %d renewals", f.calls, f.renewals)
			}
			if page := p.get("/"); p.title(page) == sessionWasEnded {
				t.Error("after logging out the ended session is still shown")
			}
		})
	}
}

// A refused access token alone is no ended session: the refresh token tells.
func TestRefusedAccessTokenIsRenewedOnce(t *testing.T) {
	f := newFakeIssuer(t)
	p := openParty(t, f)
	p.signIn()
	refusals := 1
	f.sessions = func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if refusals > 0 {
			refusals--
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		sessionDocument(w, "Calendar")
	}
	f.answer = func(a map[string]any) { a["access_token"] = accessToken + "2" }
	f.claims = func(c map[string]any) { delete(c, "at_hash") }
	p.mustBeSignedIn()
	if f.renewals != 1 {
		t.Errorf("%d renewals, want 1", f.renewals)
	}
	refusals = 100
	if page := p.get("/"); p.title(page) != sessionWasEnded || f.renewals != 2 {
		t.Errorf("a new access token that is refused as well: %q after %d renewals", p.title(page), f.renewals)
	}
}

func TestHostileRenewalsAreNotAdopted(t *testing.T) {
	for name, tt := range map[string]struct {
		hostile func(*fakeIssuer)
		says    string
	}{
		"another subject":        {func(f *fakeIssuer) { f.claims = func(c map[string]any) { c["sub"] = "bea-2" } }, "could not be accepted"},
		"another audience":       {func(f *fakeIssuer) { f.claims = func(c map[string]any) { c["aud"] = "calendar" } }, "could not be accepted"},
		"another issuer":         {func(f *fakeIssuer) { f.claims = func(c map[string]any) { c["iss"] = "https://attacker.example" } }, "could not be accepted"},
		"another type of token":  {func(f *fakeIssuer) { f.answer = func(a map[string]any) { a["token_type"] = "mac" } }, "could not be accepted"},
		"invalid_client":         {func(f *fakeIssuer) { f.token = tokenError(401, "invalid_client") }, "could not be accepted"},
		"503":                    {func(f *fakeIssuer) { f.token = tokenError(503, "temporarily_unavailable") }, cannotBeReached},
		"invalid_grant with 500": {func(f *fakeIssuer) { f.token = tokenError(500, "invalid_grant") }, cannotBeReached},
		"oversized": {func(f *fakeIssuer) {
			f.answer = func(a map[string]any) { a["access_token"] = strings.Repeat("x", 2<<20) }
		}, "could not be accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeIssuer(t)
			p := openParty(t, f)
			p.signIn()
			tt.hostile(f)
			p.post("/renew", nil)
			if page := p.get("/"); !strings.Contains(page.body, tt.says) || !strings.Contains(page.body, "alex-1") || strings.Contains(page.body, "bea-2") {
				t.Errorf("want %q:\n%s", tt.says, page.body)
			}
			f.mu.Lock()
			f.token, f.claims, f.answer = nil, nil, nil
			f.mu.Unlock()
			p.post("/renew", nil)
			if page := p.get("/"); !strings.Contains(page.body, "The tokens were renewed") {
				t.Errorf("a good renewal after it:\n%s", page.body)
			}
		})
	}
}

func tokenError(status int, code string) func(http.ResponseWriter, *http.Request, bool) bool {
	return func(w http.ResponseWriter, _ *http.Request, _ bool) bool { answerError(w, status, code); return true }
}

func TestTabsThatRenewAtOnceRenewOnce(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	f := newFakeIssuer(t)
	p := openParty(t, f, func(c *relyingparty.Config) {
		c.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	})
	p.signIn()
	mu.Lock()
	now = now.Add(4*time.Minute + 31*time.Second) // 29 s before the access token expires
	mu.Unlock()
	var tabs sync.WaitGroup
	for range 8 {
		tabs.Go(func() {
			if !p.signedIn() {
				t.Error("a tab is not signed in")
			}
		})
	}
	tabs.Wait()
	if f.renewals != 1 {
		t.Errorf("%d renewals, want 1", f.renewals)
	}
}

func TestEndsOneAllOthersAndItsOwn(t *testing.T) {
	f := newFakeIssuer(t)
	p := openParty(t, f)
	p.signIn()
	p.post("/sessions/end", url.Values{"id": {otherSession}})
	p.post("/sessions/end-others", nil)
	res := p.post("/log-out", nil)
	want := []string{"DELETE /sessions/" + otherSession + "/", "DELETE /sessions/?excludeCurrent=true", "DELETE /session/"}
	if got := slices.DeleteFunc(slices.Clone(f.calls), func(c string) bool { return strings.HasPrefix(c, "GET ") }); !slices.Equal(got, want) {
		t.Errorf("the session API was called with %q", got)
	}
	if cookie := strings.Join(res.header["Set-Cookie"], ""); !strings.Contains(cookie, "Max-Age=0") || res.location != "/logged-out" {
		t.Errorf("logging out: to %q, cookie %q", res.location, cookie)
	}
	if p.signedIn() {
		t.Error("after logging out somebody is signed in")
	}
	p.signIn()
	if res := p.post("/sessions/end", url.Values{"id": {ownSession}}); res.location != "/logged-out" || p.signedIn() {
		t.Errorf("ending the own session by its id leads to %q", res.location)
	}
}

// Whatever the server answers, the user is logged out here.
func TestLogsOutAlone(t *testing.T) {
	for name, sessions := range map[string]http.HandlerFunc{"503": status(503), "403": status(403), "500": status(500)} {
		f := newFakeIssuer(t)
		p := openParty(t, f)
		p.signIn()
		f.sessions = sessions
		res := p.post("/log-out", nil)
		if page := p.get(res.location); !strings.Contains(page.body, "could not be told") || p.signedIn() {
			t.Errorf("%s: %s\n%s", name, res.location, page.body)
		}
	}
}

func TestPostsOfOtherSitesAndStrangersDoNothing(t *testing.T) {
	f := newFakeIssuer(t)
	p := openParty(t, f)
	p.signIn()
	calls := len(f.calls)
	for _, path := range []string{"/sign-in", "/renew", "/sessions/end", "/sessions/end-others", "/log-out", "/sign-out"} {
		for _, headers := range [][]string{
			{"Sec-Fetch-Site", "cross-site", "Origin", "https://attacker.example"},
			{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:1"},
			{"Sec-Fetch-Site", "", "Origin", "https://attacker.example"},
			{"Sec-Fetch-Site", "", "Origin", "null"},
		} {
			if res := p.post(path, url.Values{"id": {otherSession}}, headers...); res.status != http.StatusForbidden || res.location != "" {
				t.Errorf("%s with %q: %d", path, headers, res.status)
			}
		}
		if res := p.get(path); res.status != http.StatusNotFound {
			t.Errorf("GET %s: %d", path, res.status)
		}
	}
	for _, id := range []string{"", "..", "../session", "x/y", "a?b", "%2e%2e", strings.Repeat("x", 200), "a b"} {
		if res := p.post("/sessions/end", url.Values{"id": {id}}); res.status != http.StatusBadRequest {
			t.Errorf("ending %q: %d", id, res.status)
		}
	}
	if res := p.post("/sessions/end", url.Values{"id": {strings.Repeat("x", 100<<10)}}); res.status != http.StatusBadRequest {
		t.Errorf("a form of 100 KiB: %d", res.status)
	}
	stranger := p.anotherBrowser()
	for _, path := range []string{"/renew", "/sessions/end", "/sessions/end-others"} {
		if res := stranger.post(path, url.Values{"id": {otherSession}}); res.status != http.StatusForbidden {
			t.Errorf("%s of a stranger: %d", path, res.status)
		}
	}
	if len(f.calls) != calls || f.renewals != 0 {
		t.Errorf("the issuer was asked: %q, %d renewals", f.calls[calls:], f.renewals)
	}
	p.mustBeSignedIn()
}

func TestCookiesAndHeaders(t *testing.T) {
	f := newFakeIssuer(t)
	p := openParty(t, f)
	begun := p.post("/sign-in", nil)
	planted := begun.header["Set-Cookie"]
	signed := p.callback(p.begin())
	for _, cookie := range append(planted, signed.header["Set-Cookie"]...) {
		for _, want := range []string{"HttpOnly", "SameSite=Lax", "Path=/"} {
			if !strings.Contains(cookie, want) {
				t.Errorf("the cookie %q lacks %s", cookie, want)
			}
		}
	}
	name, _, _ := strings.Cut(signed.header.Get("Set-Cookie"), "=")
	other := openParty(t, f, func(c *relyingparty.Config) { c.ClientID = "calendar" })
	if otherName, _, _ := strings.Cut(other.post("/sign-in", nil).header.Get("Set-Cookie"), "="); strings.HasPrefix(otherName, name) {
		t.Errorf("two clients share the cookies %s and %s", name, otherName)
	}
	// A visit's cookie is new at each sign-in.
	again := p.callback(p.begin())
	if again.header.Get("Set-Cookie") == signed.header.Get("Set-Cookie") {
		t.Error("a sign-in keeps the cookie")
	}
	secure := openParty(t, f, func(c *relyingparty.Config) { c.URL = "https://photos.example" })
	if cookie := secure.post("/sign-in", nil, "Origin", "https://photos.example").header.Get("Set-Cookie"); !strings.HasPrefix(cookie, "__Host-rp-") || !strings.Contains(cookie, "Secure") {
		t.Errorf("over https the cookie is %q", cookie)
	}
	for _, path := range []string{"/", "/logged-out", "/style.css", "/icon.svg", "/nothing", "/callback"} {
		h := p.get(path).header
		policy := h.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "script-src") ||
			!strings.Contains(policy, "form-action 'self' "+f.URL+";") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") == "" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	f := newFakeIssuer(t)
	p := openParty(t, f, func(c *relyingparty.Config) { c.Most = 2 })
	first := p.begin()
	p.begin()
	p.begin()
	if res := p.callback(first); res.status != http.StatusBadRequest {
		t.Errorf("the oldest of three sign-ins under way, with room for two: %d", res.status)
	}
	browsers := []*party{p.anotherBrowser(), p.anotherBrowser(), p.anotherBrowser()}
	for _, b := range browsers {
		b.signIn()
	}
	if browsers[0].signedIn() || !browsers[1].signedIn() || !browsers[2].signedIn() {
		t.Error("with room for two visits, not the latest two are kept")
	}
	// Whoever doesn't sign in pushes nobody out.
	for range 5 {
		p.anotherBrowser().begin()
	}
	browsers[2].mustBeSignedIn()
}

func TestVisitIsForgottenAfterADay(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	p := openParty(t, newFakeIssuer(t), func(c *relyingparty.Config) {
		c.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	})
	p.signIn()
	mu.Lock()
	now = now.Add(24 * time.Hour)
	mu.Unlock()
	if p.signedIn() {
		t.Error("a visit is kept for ever")
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	good := relyingparty.Config{Issuer: "https://op.example/as", ClientID: "x", URL: "http://localhost:9001"}
	if _, err := relyingparty.New(good); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
	for name, change := range map[string]func(*relyingparty.Config){
		"no issuer":         func(c *relyingparty.Config) { c.Issuer = "" },
		"issuer of a file":  func(c *relyingparty.Config) { c.Issuer = "file:///x" },
		"issuer with query": func(c *relyingparty.Config) { c.Issuer += "?x=y" },
		"no client id":      func(c *relyingparty.Config) { c.ClientID = "" },
		"no URL":            func(c *relyingparty.Config) { c.URL = "" },
		"URL without host":  func(c *relyingparty.Config) { c.URL = "http://:80" },
		"URL with path":     func(c *relyingparty.Config) { c.URL += "/x" },
		"URL with user":     func(c *relyingparty.Config) { c.URL = "http://a@localhost" },
	} {
		cfg := good
		change(&cfg)
		if _, err := relyingparty.New(cfg); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
