//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/relyingparty"
)

// parties are the demo's applications at a server of its own.
type parties struct {
	*testServer
	Photos, Calendar *application
	clock            *clock
}

// application is one of them.
type application struct {
	URL    string
	tokens *tokenRecorder
	t      *testing.T
}

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// tokenRecorder sees the tokens that an application gets.
type tokenRecorder struct {
	base http.RoundTripper
	mu   sync.Mutex
	all  []string
}

func (r *tokenRecorder) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := r.base.RoundTrip(req)
	if err != nil || !strings.HasSuffix(req.URL.Path, "/token") {
		return res, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	res.Body = io.NopCloser(bytes.NewReader(body))
	var got map[string]any
	if json.Unmarshal(body, &got) == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, name := range []string{"access_token", "refresh_token", "id_token"} {
			if token, _ := got[name].(string); token != "" {
				r.all = append(r.all, token)
			}
		}
	}
	return res, err
}

// openParties starts a server and both applications.
func openParties(t *testing.T) *parties {
	t.Helper()
	p := &parties{clock: &clock{now: time.Now()}}
	both := []*demoParty{{client: demoFirst}, {client: demoSecond}}
	p.testServer = startServer(t, serverOptions{Now: p.clock.Now, Config: func(cfg *configs.Config) {
		prepared.copy(t, cfg)
		for _, party := range both {
			if err := party.listen(cfg); err != nil {
				t.Fatal(err)
			}
		}
	}})
	apps := make([]*application, len(both))
	for i, party := range both {
		apps[i] = &application{URL: party.url, tokens: &tokenRecorder{base: http.DefaultTransport}, t: t}
		app, err := relyingparty.New(relyingparty.Config{Issuer: p.Issuer(demoServer), ClientID: party.client, URL: party.url, Name: party.name,
			ClientSecret: demoClient(p.Config, party.client).ClientSecret, Transport: apps[i].tokens, Now: p.clock.Now, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- app.Serve(ctx, party.listener) }()
		t.Cleanup(func() {
			end()
			if err := <-done; err != nil {
				t.Errorf("%s: %v", party.name, err)
			}
		})
	}
	p.Photos, p.Calendar = apps[0], apps[1]
	return p
}

// Open shows the application's page.
func (a *application) Open(b *browser) *http.Response { return a.page(b.Page(a.URL + "/")) }

// page checks what holds for every page: no token stands in it.
func (a *application) page(res *http.Response) *http.Response {
	a.t.Helper()
	body := text(a.t, res)
	res.Body = io.NopCloser(strings.NewReader(body))
	a.tokens.mu.Lock()
	defer a.tokens.mu.Unlock()
	for _, token := range a.tokens.all {
		if strings.Contains(body, token) {
			a.t.Errorf("the page at %s has a token in full", res.Request.URL)
		}
	}
	return res
}

// Press sends the page's form for an action, and shows the page that follows
// where that is one of the application.
func (a *application) Press(b *browser, page *http.Response, action string, n int) *http.Response {
	a.t.Helper()
	for _, f := range forms(page) {
		if f.action.Path != action {
			continue
		}
		if n--; n >= 0 {
			continue
		}
		req, err := f.request(a.t.Context())
		if err != nil {
			a.t.Fatal(err)
		}
		res, err := b.visitor.do(req)
		if err != nil {
			a.t.Fatal(err)
		}
		to, err := res.Location()
		if err != nil || !strings.HasPrefix(to.String(), a.URL+"/") {
			return res
		}
		return a.page(b.Page(to.String()))
	}
	a.t.Fatalf("the page has no such form for %s:\n%s", action, text(a.t, page))
	return nil
}

// SignIn signs the browser's user in and shows the application's page. ok is
// false where the server doesn't lead back.
func (a *application) SignIn(b *browser) (page *http.Response, ok bool) {
	a.t.Helper()
	res := a.Press(b, a.Open(b), "/sign-in", 0)
	to, err := res.Location()
	if err != nil {
		a.t.Fatalf("signing in: %s\n%s", res.Status, text(a.t, res))
	}
	callback, _ := b.Authorize(to.String())
	if callback == nil {
		return nil, false
	}
	if res = b.Page(a.URL + "/callback?" + callback.Encode()); res.StatusCode != http.StatusSeeOther {
		a.t.Fatalf("callback: %s\n%s", res.Status, text(a.t, res))
	}
	return a.Open(b), true
}

// MustSignIn is SignIn that succeeds.
func (a *application) MustSignIn(b *browser) *http.Response {
	a.t.Helper()
	page, ok := a.SignIn(b)
	if !ok {
		a.t.Fatal("the server doesn't lead back")
	}
	return page
}

// shown is what a page of an application says.
type shown struct {
	Title    string
	Notice   string
	Received string
	Sessions []string // names of applications, the current one in brackets
}

// Read reads a page of an application.
func (a *application) Read(page *http.Response) shown {
	a.t.Helper()
	body := text(a.t, page)
	page.Body = io.NopCloser(strings.NewReader(body))
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	var s shown
	for n := range root.Descendants() {
		switch {
		case n.Type != html.ElementNode:
		case n.Data == "h1":
			s.Title = content(n)
		case attribute(n, "id") == "notice":
			s.Notice = content(n)
		case attribute(n, "id") == "received":
			s.Received = content(n)
		case present(n, "data-application"):
			name := attribute(n, "data-application")
			if strings.Contains(attribute(n, "class"), "current") {
				name = "[" + name + "]"
			}
			s.Sessions = append(s.Sessions, name)
		}
	}
	return s
}

func content(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func (a *application) mustShow(page *http.Response, want ...string) {
	a.t.Helper()
	if got := a.Read(page).Sessions; fmt.Sprint(got) != fmt.Sprint(want) {
		a.t.Errorf("%s shows the sessions %v, want %v", a.URL, got, want)
	}
}

func (a *application) mustSay(page *http.Response, title string) {
	a.t.Helper()
	if got := a.Read(page).Title; got != title {
		a.t.Errorf("%s says %q, want %q", a.URL, got, title)
	}
}

const endedElsewhere = "Your session was ended"

func TestPartyEndsASessionAndTheOtherNotices(t *testing.T) {
	p := openParties(t)
	b := newBrowser(t)
	p.Photos.mustShow(p.Photos.MustSignIn(b), "[Photo Album]")
	b.As("alex", "wrong") // so that single sign-on is all there is
	p.Calendar.mustShow(p.Calendar.MustSignIn(b), "[Calendar]", "Photo Album")
	page := p.Photos.Open(b)
	p.Photos.mustShow(page, "[Photo Album]", "Calendar")

	page = p.Photos.Press(b, page, "/sessions/end", 0)
	p.Photos.mustShow(page, "[Photo Album]")

	// Calendar's page was open and shows its buttons still.
	if res := b.post(p.Calendar.URL+"/renew", nil); res.StatusCode != http.StatusSeeOther {
		t.Errorf("renewing: %s", res.Status)
	}
	p.Calendar.mustSay(p.Calendar.Open(b), endedElsewhere)

	// The user's password is wanted: no way back by single sign-on alone.
	if _, ok := p.Calendar.SignIn(b); ok {
		t.Error("the ended session came back without a password")
	}
	b.As("alex", "alex-demo")
	p.clock.Advance(time.Second) // the proof must be later than the ending
	p.Calendar.mustShow(p.Calendar.MustSignIn(b), "[Calendar]", "Photo Album")
}

// post sends a form of an application's own pages.
func (b *browser) post(address string, values url.Values) *http.Response {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, address, strings.NewReader(values.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := b.visitor.do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

func TestPartyEndsAllOthersInAllBrowsers(t *testing.T) {
	p := openParties(t)
	one, two, bea := newBrowser(t), newBrowser(t), newBrowser(t).As("bea", "bea-demo")
	for _, b := range []*browser{one, two, bea} {
		p.Photos.MustSignIn(b)
		p.Calendar.MustSignIn(b)
	}
	page := p.Photos.Open(one)
	if s := p.Photos.Read(page); len(s.Sessions) != 4 || s.Sessions[0] != "[Photo Album]" {
		t.Errorf("before: %v", s.Sessions)
	}
	page = p.Photos.Press(one, p.Photos.Open(one), "/sessions/end-others", 0)
	p.Photos.mustShow(page, "[Photo Album]")
	p.Calendar.mustSay(p.Calendar.Open(one), endedElsewhere)
	p.Photos.mustSay(p.Photos.Open(two), endedElsewhere)
	p.Calendar.mustSay(p.Calendar.Open(two), endedElsewhere)
	p.Photos.mustShow(p.Photos.Open(bea), "[Photo Album]", "Calendar") // another user
}

func TestPartyLogsOutAndSingleSignOnStays(t *testing.T) {
	p := openParties(t)
	b := newBrowser(t)
	page := p.Photos.MustSignIn(b)
	p.Calendar.MustSignIn(b)
	p.Photos.mustSay(p.Photos.Press(b, page, "/log-out", 0), "You are logged out")
	p.Photos.mustSay(p.Photos.Open(b), "Welcome to Photo Album")
	p.Calendar.mustShow(p.Calendar.Open(b), "[Calendar]")
	p.Photos.mustShow(p.Photos.MustSignIn(b.As("alex", "wrong")), "[Photo Album]", "Calendar")
}

// RP-Initiated Logout 1.0: by the application's button, with its ID token.
func TestPartySignsOutEverywhere(t *testing.T) {
	p := openParties(t)
	b, elsewhere := newBrowser(t), newBrowser(t)
	page := p.Photos.MustSignIn(b)
	p.Calendar.MustSignIn(b)
	p.Calendar.MustSignIn(elsewhere)
	to := p.Photos.Press(b, page, "/sign-out", 0)
	for range 3 {
		at, err := to.Location()
		if err != nil {
			t.Fatalf("%s at %s\n%s", to.Status, to.Request.URL.Path, text(t, to))
		}
		if to = b.Page(at.String()); strings.HasPrefix(at.String(), p.Photos.URL) {
			break
		}
	}
	if at, err := to.Location(); err != nil || at.String() != p.Photos.URL+"/logged-out?everywhere" {
		t.Fatalf("came back to %v, %v", at, err)
	}
	back := to.Request.URL.String()
	p.Photos.mustSay(b.Page(p.Photos.URL+"/logged-out?everywhere"), "You are logged out")
	p.Photos.mustSay(p.Photos.Open(b), "Welcome to Photo Album")
	p.Calendar.mustSay(p.Calendar.Open(b), endedElsewhere)
	p.Calendar.mustShow(p.Calendar.Open(elsewhere), "[Calendar]") // another browser's sign-in
	if _, ok := p.Photos.SignIn(b.As("alex", "wrong")); ok {
		t.Error("single sign-on has outlived the sign-out")
	}
	// The answer is good once, and in this browser.
	for _, other := range []*browser{b, elsewhere} {
		if res := p.Photos.page(other.Page(back)); res.StatusCode != http.StatusBadRequest {
			t.Errorf("the answer once more: %s", res.Status)
		}
	}
}

func TestPartyRenewsByItself(t *testing.T) {
	p := openParties(t)
	b := newBrowser(t)
	first := p.Photos.Read(p.Photos.MustSignIn(b)).Received
	p.clock.Advance(4*time.Minute + 20*time.Second)
	if now := p.Photos.Read(p.Photos.Open(b)).Received; now != first {
		t.Errorf("with 40 s left the tokens of %s were renewed at %s", first, now)
	}
	p.clock.Advance(15 * time.Second)
	second := p.Photos.Read(p.Photos.Open(b)).Received
	if second == first {
		t.Error("with 25 s left the tokens were not renewed")
	}
	p.clock.Advance(10 * time.Second)
	page := p.Photos.Press(b, p.Photos.Open(b), "/renew", 0)
	if s := p.Photos.Read(page); s.Received == second || s.Notice != "The tokens were renewed." {
		t.Errorf("the button: %+v", s)
	}
	p.clock.Advance(time.Hour) // long after the access token
	p.Photos.mustShow(p.Photos.Open(b), "[Photo Album]")

	// An ending in between is noticed by the renewal, after the access token's time too.
	page = p.Calendar.MustSignIn(b)
	p.Calendar.Press(b, page, "/sessions/end-others", 0)
	p.clock.Advance(time.Hour)
	p.Photos.mustSay(p.Photos.Open(b), endedElsewhere)
}

func TestPartyRefusals(t *testing.T) {
	p := openParties(t)
	alex, bea := newBrowser(t), newBrowser(t).As("bea", "bea-demo")
	p.Photos.MustSignIn(alex)
	theirs := text(t, p.Photos.MustSignIn(bea))
	sid := regexp.MustCompile(`<code>sid</code></dt><dd><bdi>([A-Za-z0-9]{40})<`).FindStringSubmatch(theirs)
	if sid == nil {
		t.Fatalf("no sid on\n%s", theirs)
	}
	alex.post(p.Photos.URL+"/sessions/end", url.Values{"id": {sid[1]}})
	if s := p.Photos.Read(p.Photos.Open(alex)); s.Notice != "That session had ended already." {
		t.Errorf("ending another user's session: %+v", s)
	}
	p.Photos.mustShow(p.Photos.Open(bea), "[Photo Album]")

	// The answer to alex is worth nothing in bea's browser, nor a second time.
	res := p.Photos.Press(alex, p.Photos.Open(newBrowser(t)), "/sign-in", 0)
	to, err := res.Location()
	if err != nil {
		t.Fatal(err)
	}
	callback, _ := alex.Authorize(to.String())
	if res := bea.Page(p.Photos.URL + "/callback?" + callback.Encode()); res.StatusCode != http.StatusBadRequest {
		t.Errorf("alex's answer in bea's browser: %s", res.Status)
	}
	if res := p.Calendar.page(alex.Page(p.Calendar.URL + "/callback?" + callback.Encode())); res.StatusCode != http.StatusBadRequest {
		t.Errorf("Photo Album's answer at Calendar: %s", res.Status)
	}
	if res := alex.Page(p.Photos.URL + "/callback?" + callback.Encode()); res.StatusCode != http.StatusSeeOther {
		t.Errorf("alex's answer in alex's browser: %s", res.Status)
	}
	if res := alex.Page(p.Photos.URL + "/callback?" + callback.Encode()); res.StatusCode != http.StatusBadRequest {
		t.Errorf("a second time: %s", res.Status)
	}

	// Whoever says no is not signed in.
	carol := newBrowser(t).As("admin", "admin-demo")
	carol.Decision = "deny"
	res = p.Photos.Press(carol, p.Photos.Open(carol), "/sign-in", 0)
	if to, err = res.Location(); err != nil {
		t.Fatal(err)
	}
	callback, _ = carol.Authorize(to.String())
	p.Photos.mustSay(carol.Page(p.Photos.URL+"/callback?"+callback.Encode()), "You are not signed in")
	p.Photos.mustSay(p.Photos.Open(carol), "Welcome to Photo Album")

	// Under another name of this machine a browser is led to the right one.
	if res := carol.Page(strings.Replace(p.Photos.URL, "localhost", "127.0.0.1", 1) + "/"); res.Header.Get("Location") != p.Photos.URL+"/" {
		t.Errorf("at 127.0.0.1: %s to %q", res.Status, res.Header.Get("Location"))
	}

	// The server goes away.
	page := p.Photos.Open(alex)
	p.Close()
	if res := p.Photos.Press(carol, p.Photos.Open(carol), "/sign-in", 0); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("signing in without a server: %s", res.Status)
	}
	if body := text(t, p.Photos.Open(alex)); !strings.Contains(body, "can&#39;t be reached") || !strings.Contains(body, "You are still signed in here") {
		t.Errorf("the user's page without a server:\n%s", body)
	}
	if said := text(t, p.Photos.Press(alex, page, "/log-out", 0)); !strings.Contains(said, "could not be told") {
		t.Errorf("logging out without a server:\n%s", said)
	}
	p.Photos.mustSay(p.Photos.Open(alex), "Welcome to Photo Album")
}

// The demo's two applications are told apart at a glance.
func TestPartiesLookDifferent(t *testing.T) {
	p := openParties(t)
	b := newBrowser(t)
	theme := regexp.MustCompile(`theme-\d`)
	photos, calendar := theme.FindString(text(t, p.Photos.Open(b))), theme.FindString(text(t, p.Calendar.Open(b)))
	if photos == "" || photos == calendar {
		t.Errorf("Photo Album has %q, Calendar %q", photos, calendar)
	}
	style := text(t, b.Page(p.Photos.URL+"/style.css"))
	for _, used := range []string{photos, calendar} {
		if strings.Count(style, "."+used+" {") != 2 { // light and dark
			t.Errorf("the style sheet doesn't know %s", used)
		}
	}
}
