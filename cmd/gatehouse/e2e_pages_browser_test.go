//go:build unix

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"golang.org/x/oauth2"

	"gatehouse.dev/gatehouse/configs"
)

// everyBrowser are the browsers that people have.
var everyBrowser = map[string]browserOptions{
	"desktop":                  {},
	"phone":                    {Phone: true},
	"desktop without scripts":  {NoScript: true},
	"phone without scripts":    {Phone: true, NoScript: true},
	"dark phone, German words": {Phone: true, Dark: true, Language: "de-CH, en;q=0.5"},
}

func prompt(value string) oauth2.AuthCodeOption { return oauth2.SetAuthURLParam("prompt", value) }

// visit sends the browser from a relying party to its authorization server.
func (c *chromium) visit(rp *relyingParty, options ...oauth2.AuthCodeOption) (state string) {
	c.t.Helper()
	request, state := rp.Begin(options...)
	c.do(chromedp.Navigate(request))
	return state
}

// at waits until the browser shows the page of that path.
func (c *chromium) at(path string) {
	c.t.Helper()
	if err := c.soon(func(ctx context.Context) (bool, error) {
		return chromedp.Run(ctx, chromedp.Evaluate[bool]("location.pathname === "+quoteJS(path)+
			" && document.readyState === 'complete' && document.querySelector('h1') !== null"))
	}); err != nil {
		c.fail(fmt.Errorf("the browser doesn't come to %s: %w", path, err))
	}
}

// told checks what the relying party was told.
func (c *chromium) told(want string) {
	c.t.Helper()
	if said := c.text("#result"); said != want {
		c.t.Errorf("the relying party says %q, want %q", said, want)
	}
}

// value is what an input holds.
func (c *chromium) value(selector string) string {
	c.t.Helper()
	v, err := chromedp.Run(c.ctx, chromedp.Value(chromedp.CSS(selector)))
	if err != nil {
		c.fail(err)
	}
	return v
}

// evaluate runs a script as a debugger does, also where scripts are off.
func evaluate[T any](c *chromium, script string) T {
	c.t.Helper()
	v, err := chromedp.Run(c.ctx, chromedp.Evaluate[T](script))
	if err != nil {
		c.fail(err)
	}
	return v
}

// watch notes where the browser sends requests, and what its policies refuse,
// until stop is called.
func (c *chromium) watch() (stop func() (hosts, refused []string)) {
	c.t.Helper()
	var mu sync.Mutex
	var hosts, refused []string
	c.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		if _, err := cdp.Call(ctx, target, network.Enable, network.EnableParams{}); err != nil {
			return err
		}
		_, err := cdp.Call(ctx, target, cdplog.Enable, cdp.Empty{})
		return err
	}))
	if err := chromedp.Listen(c.ctx, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if to, err := url.Parse(e.Request.URL); err == nil && to.Scheme != "data" {
				hosts = append(hosts, to.Scheme+"://"+to.Host)
			}
		case *cdplog.EventEntryAdded:
			if e.Entry.Source == cdplog.EntrySourceSecurity || strings.Contains(e.Entry.Text, "Content Security Policy") {
				refused = append(refused, e.Entry.Text)
			}
		}
	}); err != nil {
		c.fail(err)
	}
	return func() ([]string, []string) {
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(hosts)
		return slices.Compact(hosts), refused
	}
}

func TestBrowserGoesEveryWayThroughThePages(t *testing.T) {
	t.Parallel()
	for name, options := range everyBrowser {
		t.Run(name, func(t *testing.T) {
			o := openOffice(t, "", func(cfg *configs.Config) { cfg.Realms["default"].Throttle.Account = 3 })
			c := openBrowser(t, options)
			stop := c.watch()
			web, post, trusted := o.party("myAS", "web"), o.party("myAS", "post"), o.party("myAS", "trusted")

			c.visit(web, oauth2.SetAuthURLParam("redirect_uri", "https://elsewhere.example/callback"))
			c.at("/authorization-servers/myAS/authorize") // an error page: nobody is sent there
			c.visit(web, prompt("none"))
			c.told("error login_required by GET")

			c.visit(web)
			c.at("/login")
			c.signIn("alex", "wrong")
			c.text("[role=alert]")
			c.at("/login")
			if typed := c.value("#username"); typed != "alex" {
				t.Errorf("the user name is lost: %q", typed)
			}
			if typed := c.value("#password"); typed != "" {
				t.Errorf("the page gives the password back: %q", typed)
			}
			c.signIn("alex", "alex-demo")
			c.at("/consent")
			if text := c.text("main"); !strings.Contains(text, "Web") || !strings.Contains(text, "alex") {
				t.Errorf("the consent page doesn't say who asks whom:\n%s", text)
			}
			c.decide("deny")
			c.told("error access_denied by GET")

			c.visit(web)
			c.at("/consent") // a refusal is not remembered, the sign-in is
			c.decide("allow")
			web.mustHaveWelcomed(c, latest(web), http.MethodGet)
			state := c.visit(web)
			web.mustHaveWelcomed(c, state, http.MethodGet)
			state = c.visit(web, prompt("none"))
			web.mustHaveWelcomed(c, state, http.MethodGet)

			c.visit(web, prompt("consent"))
			c.at("/consent")
			c.decide("allow")
			web.mustHaveWelcomed(c, latest(web), http.MethodGet)

			state = c.visit(web, prompt("login"))
			c.at("/login")
			c.signIn("alex", "alex-demo")
			web.mustHaveWelcomed(c, state, http.MethodGet)

			state = c.visit(trusted)
			trusted.mustHaveWelcomed(c, state, http.MethodGet) // single sign-on, without any page

			// Another user over the first: by the way out that the consent page offers.
			c.visit(post)
			c.at("/consent")
			c.leave("a[href*='account=other']")
			c.at("/login")
			if typed := c.value("#username"); typed != "" {
				t.Errorf("who is not that user is proposed as %q", typed)
			}
			state = latest(post)
			c.signIn("bea", "bea-demo")
			c.at("/consent")
			if text := c.text("main"); !strings.Contains(text, "bea") || strings.Contains(text, "alex") {
				t.Errorf("the consent page is not about bea:\n%s", text)
			}
			c.decide("allow")
			post.mustHaveWelcomed(c, state, http.MethodGet)
			c.visit(web, prompt("none"))
			c.told("error consent_required by GET") // alex allowed it, bea did not

			// form_post takes a click where scripts are off.
			state = c.visit(post, formPost())
			if options.NoScript {
				c.leave("button")
			}
			post.mustHaveWelcomed(c, state, http.MethodPost)

			// Too many guesses cost a wait, which the page names.
			c.visit(web, prompt("login"))
			for range 4 {
				c.at("/login")
				c.signIn("admin", "wrong")
				c.text("[role=alert]")
			}
			if text := c.text("main"); !strings.ContainsAny(text, "0123456789") {
				t.Errorf("the page doesn't say how long to wait:\n%s", text)
			}

			hosts, refused := stop()
			for _, host := range hosts {
				if host != o.URL && host != o.app.URL {
					t.Errorf("a request went to %s", host)
				}
			}
			if len(hosts) < 2 || len(refused) > 0 {
				t.Errorf("requests went to %q; the browser refused %q", hosts, refused)
			}
		})
	}
}

// latest is the state of the relying party's last request.
func latest(rp *relyingParty) string {
	rp.mu.Lock()
	defer rp.mu.Unlock()
	return rp.last
}

func TestBrowserStaysSignedInAcrossARestart(t *testing.T) {
	t.Parallel()
	for name, browser := range everyBrowser {
		for when, stay := range map[string]bool{"asked for": true, "not asked for": false} {
			t.Run(name+", "+when, func(t *testing.T) {
				o := openOffice(t, "")
				rp := o.party("myAS", "trusted")
				browser := browser
				browser.Profile = browserProfile(t)
				c := openBrowser(t, browser)
				state := c.visit(rp)
				c.text("#remember")
				if evaluate[bool](c, "document.querySelector('#remember').checked") {
					t.Error("staying signed in is ticked before anybody asked for it")
				}
				if stay {
					c.do(chromedp.Click(chromedp.CSS("#remember")))
				}
				c.signIn("alex", "alex-demo")
				rp.mustHaveWelcomed(c, state, http.MethodGet)
				c.close()

				c = openBrowser(t, browser)
				state = c.visit(rp)
				if stay {
					rp.mustHaveWelcomed(c, state, http.MethodGet)
					return
				}
				c.at("/login")
			})
		}
	}
}

// press presses keys one after the other: text, or one of kb's.
func (c *chromium) press(keys string) {
	c.t.Helper()
	c.do(chromedp.KeyEvent(keys))
}

// tabTo presses Tab until what matches a selector has the focus, and checks on
// the way that one can see where the focus is.
func (c *chromium) tabTo(selector string) {
	c.t.Helper()
	var way []string
	for range 20 {
		if evaluate[bool](c, "document.activeElement.matches("+quoteJS(selector)+")") {
			return
		}
		c.press("\t")
		way = append(way, evaluate[string](c, "document.activeElement.outerHTML.slice(0, 80)"))
		if !evaluate[bool](c, `(() => { const e = document.activeElement; if (e === document.body) return true;
			const s = getComputedStyle(e); return s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2 })()`) {
			c.t.Errorf("one can't see that the focus is at %s", way[len(way)-1])
		}
	}
	c.t.Fatalf("Tab never comes to %s, but to:\n%s", selector, strings.Join(way, "\n"))
}

func quoteJS(s string) string { return "\"" + strings.ReplaceAll(s, "\"", "\\\"") + "\"" }

// Nothing but Tab, Space, Enter, and what is typed into fields.
func TestPagesAreWalkedByKeyboard(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	c := openBrowser(t, browserOptions{})
	rp, second := o.party("myAS", "web"), o.party("myAS", "post")
	const tab, space, enter = "\t", " ", "\r"

	state := c.visit(rp)
	c.text("#username")
	c.until("document.activeElement.id === 'username'") // without a key being pressed
	c.press("alex" + tab)
	c.tabTo("#password")
	c.press("wrong" + enter)
	c.text("[role=alert]")
	c.tabTo("#password")
	c.press("alex-demo")
	c.tabTo("#remember")
	c.press(space)
	if !evaluate[bool](c, "document.querySelector('#remember').checked") {
		t.Error("Space doesn't tick the box")
	}
	c.tabTo("form[action$='/login'] button.primary")
	c.press(enter)
	c.at("/consent")
	c.tabTo("button[value=allow]")
	c.press(space)
	rp.mustHaveWelcomed(c, state, http.MethodGet)

	c.visit(second)
	c.at("/consent")
	c.tabTo("button[value=deny]")
	c.press(enter)
	c.told("error access_denied by GET")

	c.visit(second)
	c.at("/consent")
	c.tabTo("a[href*='account=other']")
	c.press(enter)
	c.at("/login")

	// An error page leads back to the request, which goes on from there.
	c.visit(second)
	c.at("/consent")
	stale, err := url.Parse(evaluate[string](c, "location.href"))
	if err != nil {
		t.Fatal(err)
	}
	query := stale.Query()
	query.Set("stamp", "not-a-stamp-of-ours")
	c.do(chromedp.Navigate(o.URL + "/consent?" + query.Encode()))
	c.text("h1")
	c.tabTo("main a[href*='/authorize']")
	c.press(enter)
	c.at("/consent")

	c.do(chromedp.Navigate(o.URL + "/login"))
	c.at("/login")
	c.tabTo("form[action$='/logout'] button")
	c.press(enter)
	c.at("/logout")
	c.visit(rp, prompt("none"))
	c.told("error login_required by GET")

	// A sign-out that an application asks for: first not, then so.
	state = c.visit(rp)
	c.signIn("alex", "alex-demo")
	rp.mustHaveWelcomed(c, state, http.MethodGet)
	ask := o.endSession("myAS", "client_id", "web", "post_logout_redirect_uri", o.app.URL+byePath+"web", "state", "by keyboard")
	c.do(chromedp.Navigate(ask))
	c.at("/logout")
	c.tabTo("main a[href$='/login']")
	c.press(enter)
	c.at("/login")
	c.do(chromedp.Navigate(ask))
	c.at("/logout")
	c.tabTo("form[action$='/logout'] button")
	c.press(space)
	c.told("bye by keyboard")
	c.do(chromedp.Navigate(ask))
	c.at("/logout")
	c.tabTo("main a[href*='/bye/']")
	c.press(enter)
	c.told("bye by keyboard")
}
