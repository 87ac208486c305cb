//go:build unix

package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"golang.org/x/oauth2"
)

// openChromium opens a real browser with a profile of its own. The preferences,
// JSON, are what its settings page would have written; empty: the usual ones.
func openChromium(t *testing.T, preferences string) *chromium {
	t.Helper()
	return openBrowser(t, browserOptions{Preferences: preferences})
}

// browserOptions are whose browser it is. The zero value is a desktop's, with
// scripts.
type browserOptions struct {
	Preferences string // JSON, as the settings page writes it
	Profile     string // directory; default: a fresh one
	Phone       bool   // 390 by 844 with a finger, not 1280 by 800 with a mouse
	NoScript    bool   // scripts of pages don't run
	Dark        bool   // the person prefers dark colours
	Language    string // of Accept-Language; default: the browser's
}

func openBrowser(t *testing.T, o browserOptions) *chromium {
	t.Helper()
	took(t, "chromium")
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
		"/Applications/Chromium.app/Contents/MacOS/Chromium", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Fatal("Chromium is not installed; install it with: sudo apt-get install chromium")
	}
	if o.Profile == "" {
		o.Profile = browserProfile(t)
	}
	if o.Preferences != "" {
		if err := os.MkdirAll(filepath.Join(o.Profile, "Default"), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(o.Profile, "Default", "Preferences"), o.Preferences)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.UserDataDir(o.Profile),
		chromedp.Flag("lang", "en"), chromedp.Env("LANGUAGE=en"), chromedp.DisableGPU,
		chromedp.WSURLReadTimeout(2*time.Minute))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium refuses to sandbox for root
	}
	ctx, end := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(end)
	ctx, endAllocator := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(endAllocator)
	ctx, endBrowser := chromedp.NewContext(ctx)
	t.Cleanup(endBrowser)
	c := &chromium{ctx: ctx, t: t}
	t.Cleanup(c.close)
	viewport := chromedp.EmulateViewport(1280, 800)
	if o.Phone {
		viewport = chromedp.EmulateViewport(390, 844, chromedp.EmulatePortrait, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	c.do(viewport, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		theme := "light"
		if o.Dark {
			theme = "dark"
		}
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}})
		if err == nil && o.NoScript {
			_, err = cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		}
		if err == nil && o.Language != "" {
			_, err = cdp.Call(ctx, target, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Accept-Language": o.Language}})
		}
		return err
	}))
	return c
}

// browserProfile is a directory for a browser to keep things in. It is not of
// t.TempDir: the browser's helpers may write for a moment after its end.
func browserProfile(t *testing.T) string {
	t.Helper()
	profile, err := os.MkdirTemp("", "gatehouse-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(profile) })
	return profile
}

// close ends the browser as a person does. It may be called more than once.
func (c *chromium) close() { c.once.Do(func() { _ = chromedp.Cancel(c.ctx) }) }

// chromium is a person's real browser with one tab.
type chromium struct {
	ctx  context.Context
	t    *testing.T
	once sync.Once
}

// do runs actions, and shows where the browser is when one fails.
func (c *chromium) do(actions ...chromedp.Action[chromedp.Void]) {
	c.t.Helper()
	if err := chromedp.Do(c.ctx, actions...); err != nil {
		c.fail(err)
	}
}

func (c *chromium) fail(err error) {
	c.t.Helper()
	ctx, end := context.WithTimeout(context.WithoutCancel(c.ctx), 5*time.Second)
	defer end()
	at, _ := chromedp.Run(ctx, chromedp.Location())
	shown, _ := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
	at, _, _ = strings.Cut(at, "?")
	c.t.Fatalf("%v; the browser is at %s and shows:\n%s", err, at, shown)
}

// soon repeats an attempt until it is done. It may fail, as everything does
// while the browser is between two pages. The wait is bounded, so that a way that
// leads nowhere tells where it ended.
func (c *chromium) soon(attempt func(ctx context.Context) (done bool, err error)) error {
	ctx, end := context.WithTimeout(c.ctx, 30*time.Second)
	defer end()
	for {
		done, err := attempt(ctx)
		if err == nil && done {
			return nil
		}
		select {
		case <-ctx.Done():
			return cmp.Or(err, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// text is what the first element that matches a selector shows, once it is
// there.
func (c *chromium) text(selector string) (shown string) {
	c.t.Helper()
	if err := c.soon(func(ctx context.Context) (_ bool, err error) {
		shown, err = chromedp.Run(ctx, chromedp.Text(chromedp.CSS(selector), chromedp.NodeVisible))
		return true, err
	}); err != nil {
		c.fail(err)
	}
	return strings.TrimSpace(shown)
}

// location is where the browser is, without the query.
func (c *chromium) location() string {
	c.t.Helper()
	at, err := chromedp.Run(c.ctx, chromedp.Location())
	if err != nil {
		c.fail(err)
	}
	at, _, _ = strings.Cut(at, "?")
	return at
}

// signIn fills in the sign-in page.
func (c *chromium) signIn(username, password string) {
	c.t.Helper()
	c.text("form[action$='/login'] button.primary")
	c.do(chromedp.SetValue(chromedp.CSS("#username"), username), chromedp.SendKeys(chromedp.CSS("#password"), password))
	c.leave("form[action$='/login'] button.primary")
}

// leave clicks what leads to another page, and waits until that one is read to
// its end.
func (c *chromium) leave(selector string) {
	c.t.Helper()
	c.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := chromedp.Evaluate[bool]("window.here = true")(ctx, target)
		return err
	}), chromedp.Click(chromedp.CSS(selector)))
	if err := c.soon(func(ctx context.Context) (bool, error) {
		return chromedp.Run(ctx, chromedp.Evaluate[bool]("window.here !== true && document.readyState === 'complete'"))
	}); err != nil {
		c.fail(fmt.Errorf("the browser stays where it is: %w", err))
	}
}

// decide answers the consent page.
func (c *chromium) decide(decision string) {
	c.t.Helper()
	c.text("button[name=decision]")
	c.leave("button[name=decision][value=" + decision + "]")
}

func formPost() oauth2.AuthCodeOption { return oauth2.SetAuthURLParam("response_mode", "form_post") }

func TestBrowserSignsInAndConsents(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	c := openChromium(t, "")
	for _, as := range bothServers {
		rp := o.party(as, "web")
		request, state := rp.Begin()
		c.do(chromedp.Navigate(request))
		if as == "myAS" { // the second server takes the login over
			c.signIn("alex", "wrong")
			if problem := c.text("#problem"); problem != "User name or password is wrong." {
				t.Errorf("after a wrong password the page says %q", problem)
			}
			if at := c.location(); at != o.URL+"/login" {
				t.Errorf("after a wrong password the browser is at %s", at)
			}
			// A policy that blocked our own style sheet would show here.
			rules, err := chromedp.Run(c.ctx, chromedp.Evaluate[int]("document.styleSheets[0].cssRules.length"))
			if err != nil || rules == 0 {
				t.Errorf("the page has %d style rules, %v", rules, err)
			}
			c.signIn("alex", "alex-demo")
		}
		c.decide("allow")
		rp.mustHaveWelcomed(c, state, http.MethodGet)

		// The next visit needs nobody's help.
		request, state = rp.Begin()
		c.do(chromedp.Navigate(request))
		rp.mustHaveWelcomed(c, state, http.MethodGet)

		request, _ = o.party(as, "post").Begin()
		c.do(chromedp.Navigate(request))
		c.decide("deny")
		if said := c.text("#result"); said != "error access_denied by GET" {
			t.Errorf("after a refusal the relying party says %q", said)
		}
	}
}

// mustHaveWelcomed checks that the browser stands at the relying party, signed
// in by a response of the given method.
func (rp *relyingParty) mustHaveWelcomed(c *chromium, state, method string) {
	c.t.Helper()
	said := c.text("#result")
	rp.mu.Lock()
	defer rp.mu.Unlock()
	a := rp.arrived[state]
	if a == nil || a.ID == nil || said != "welcome "+a.ID.Subject+" by "+method {
		c.t.Fatalf("%s says %q: %+v", rp.ClientID, said, a)
	}
	if at := c.location(); at != rp.RedirectURL {
		c.t.Errorf("the browser is at %s, want %s", at, rp.RedirectURL)
	}
}

func TestBrowserPostsTheResponse(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	c := openChromium(t, "")
	rp := o.party("myAS", "web")
	request, state := rp.Begin(formPost())
	c.do(chromedp.Navigate(request))
	c.signIn("alex", "alex-demo")
	c.decide("allow")
	rp.mustHaveWelcomed(c, state, http.MethodPost)

	request, state = rp.Begin(formPost(), oauth2.SetAuthURLParam("prompt", "none"))
	c.do(chromedp.Navigate(request))
	rp.mustHaveWelcomed(c, state, http.MethodPost)

	// A refusal takes the same way.
	request, _ = o.party("myAS", "post").Begin(formPost(), oauth2.SetAuthURLParam("prompt", "none"))
	c.do(chromedp.Navigate(request))
	if said := c.text("#result"); said != "error consent_required by POST" {
		t.Errorf("the relying party says %q", said)
	}
}

func TestBrowserFollowsTheRelyingPartyToAnotherOrigin(t *testing.T) {
	t.Parallel()
	welcome := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<p id="elsewhere">Here you are</p>`))
	}))
	t.Cleanup(welcome.Close)
	o := openOffice(t, "")
	o.mu.Lock()
	o.next = welcome.URL + "/"
	o.mu.Unlock()
	// Chromium holds a form-action against every redirect that follows the form:
	// ours is followed by the code's, and that by the relying party's.
	for as, options := range map[string][]oauth2.AuthCodeOption{"myAS": nil, "partnerAS": {formPost()}} {
		for name, browser := range everyBrowser {
			t.Run(as+", "+name, func(t *testing.T) {
				c := openBrowser(t, browser)
				posted := func() {
					if browser.NoScript && options != nil {
						c.leave("button:not([name])") // of the page that posts the response
					}
				}
				request, _ := o.party(as, "trusted").Begin(options...) // straight from the sign-in form
				c.do(chromedp.Navigate(request))
				c.signIn("alex", "alex-demo")
				posted()
				c.text("#elsewhere")
				request, _ = o.party(as, "web").Begin(append(options, prompt("consent"))...) // from the consent form
				c.do(chromedp.Navigate(request))
				c.decide("allow")
				posted()
				c.text("#elsewhere")
				if at := c.location(); at != welcome.URL+"/" {
					t.Errorf("the browser is at %s", at)
				}
			})
		}
	}
}

func TestBrowserWithoutCookiesGetsAPageAndNoLoop(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	for name, browser := range everyBrowser {
		if browser.Language != "" {
			continue // the texts below are English
		}
		t.Run(name, func(t *testing.T) {
			browser.Preferences = `{"profile": {"default_content_setting_values": {"cookies": 2}}}`
			c := openBrowser(t, browser)
			for _, as := range bothServers {
				request, _ := o.party(as, "web").Begin()
				c.do(chromedp.Navigate(request))
				c.signIn("alex", "alex-demo")
				if title := c.text("h1:not(:has(~ form))"); title != "Your browser keeps no cookies of ours" {
					t.Errorf("%s: the page says %q", as, title)
				}
				if at := c.location(); at != o.Issuer(as)+"/authorize" {
					t.Errorf("%s: the browser is at %s", as, at)
				}
			}
		})
	}
}
