//go:build unix

package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/oauth2"
)

// accountBrowsers are the browsers that the account pages are walked in.
var accountBrowsers = map[string]browserOptions{
	"desktop":                 {},
	"phone":                   {Phone: true},
	"desktop without scripts": {NoScript: true},
	"phone without scripts":   {Phone: true, NoScript: true},
}

func scope(value string) oauth2.AuthCodeOption { return oauth2.SetAuthURLParam("scope", value) }

// arrivedAt is what came of the relying party's last request.
func arrivedAt(t *testing.T, rp *relyingParty, state string) *landing {
	t.Helper()
	rp.mu.Lock()
	defer rp.mu.Unlock()
	a := rp.arrived[state]
	if a == nil || a.Token == nil {
		t.Fatalf("%s has no token: %+v", rp.ClientID, a)
	}
	return a
}

// enters signs the browser in for the account page.
func (c *chromium) enters(o *office, username, password string) {
	c.t.Helper()
	c.do(chromedp.Navigate(o.URL + "/account"))
	c.signIn(username, password)
	c.at("/account/sessions")
}

// cards are the names of the entries on the account page.
func (c *chromium) cards() string {
	c.t.Helper()
	return evaluate[string](c, `[...document.querySelectorAll(".entry h3")].map((h) => h.textContent).join(", ")`)
}

// becomes waits until a script's value is what is wanted.
func becomes[T comparable](c *chromium, script string, want T) {
	c.t.Helper()
	var got T
	if err := c.soon(func(ctx context.Context) (_ bool, err error) {
		got, err = chromedp.Run(ctx, chromedp.Evaluate[T](script))
		return got == want, err
	}); err != nil {
		c.t.Errorf("%s is %v, want %v: %v", script, got, want, err)
	}
}

const countCards = `document.querySelectorAll(".entry").length`

// confirms sends the form of a page that asks first, and comes to where it leads.
func (c *chromium) confirms(path string) {
	c.t.Helper()
	c.leave("main form button.primary")
	c.at(path)
}

func TestBrowserAccountPageTellsAndEnds(t *testing.T) {
	t.Parallel()
	for name, options := range accountBrowsers {
		t.Run(name, func(t *testing.T) {
			o := openOffice(t, "")
			web, post, inspector := o.party("myAS", "web"), o.party("partnerAS", "post"), o.party("myAS", "inspector")
			partner := o.party("partnerAS", "inspector")
			second := openBrowser(t, browserOptions{})
			state := second.visit(web)
			second.signIn("alex", "alex-demo")
			second.decide("allow")
			web.mustHaveWelcomed(second, state, "GET")
			lost := arrivedAt(t, web, state).Token
			third := openBrowser(t, browserOptions{})
			state = third.visit(post, scope("openid offline_access"))
			third.signIn("alex", "alex-demo")
			third.decide("allow")
			post.mustHaveWelcomed(third, state, "GET")
			offline := arrivedAt(t, post, state).Token

			c := openBrowser(t, options)
			stop := c.watch()
			state = c.visit(web)
			c.signIn("alex", "alex-demo")
			c.text("#result")
			kept := arrivedAt(t, web, state).Token
			c.do(chromedp.Navigate(o.URL + "/account"))
			c.at("/account/sessions")
			if n := evaluate[int](c, countCards); n != 3 || !strings.Contains(c.text(".entry-current"), "This browser") ||
				!evaluate[bool](c, `document.querySelector(".entry").classList.contains("entry-current")`) {
				t.Errorf("the page has %d entries:\n%s", n, c.text("main"))
			}
			if page := c.text("main"); strings.Count(page, "Web") != 2 || !strings.Contains(page, "post") || !strings.Contains(page, "127.0.0.1") || !strings.Contains(page, "partnerAS") {
				t.Errorf("the page says\n%s", page)
			}
			if wide := evaluate[int](c, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
				t.Errorf("the page is %d pixels too wide", wide)
			}

			// One ends: that browser is out at its next request, and its tokens are dead.
			c.leave(`.entry:not(.entry-current):last-child a[href$="/end"]`) // the oldest
			if page := c.text("main"); !strings.Contains(page, "This ends") || !strings.Contains(page, "Web") {
				t.Errorf("the question is\n%s", page)
			}
			c.confirms("/account/sessions")
			c.text(".notice-good")
			if n := evaluate[int](c, countCards); n != 2 {
				t.Errorf("afterwards there are %d entries", n)
			}
			second.visit(web, prompt("none"))
			second.told("error login_required by GET")
			if inspector.Active(t, lost.AccessToken) || inspector.Active(t, lost.RefreshToken) || web.Refresh(t, lost.RefreshToken).status != 400 {
				t.Error("the tokens of what ended live")
			}
			if !inspector.Active(t, kept.AccessToken) || !partner.Active(t, offline.AccessToken) {
				t.Error("other tokens are dead")
			}

			// All others end, offline access too, and the current one stays.
			c.leave(`a[href*="what=others"]`)
			c.confirms("/account/sessions")
			if n := evaluate[int](c, countCards); n != 1 || !inspector.Active(t, kept.AccessToken) {
				t.Errorf("left are %d entries", n)
			}
			if partner.Active(t, offline.AccessToken) || post.Refresh(t, offline.RefreshToken).status != 400 {
				t.Error("offline access lives on")
			}
			third.visit(post, prompt("none"))
			third.told("error login_required by GET")

			// A permission that was withdrawn is asked for anew.
			c.leave(`a[href$="/account/permissions"]`)
			c.at("/account/permissions")
			c.leave(`article:has(h2) a[href*="client=web"]`)
			c.confirms("/account/permissions")
			if inspector.Active(t, kept.AccessToken) {
				t.Error("what was withdrawn lives")
			}
			c.visit(web)
			c.at("/consent")

			c.do(chromedp.Navigate(o.URL + "/account/history"))
			if page := c.text("main"); !strings.Contains(page, "The permission was withdrawn") || strings.Count(page, "Signed out") != 2 {
				t.Errorf("the history says\n%s", page)
			}

			// The end of everything signs this browser out, too.
			c.do(chromedp.Navigate(o.URL + "/account/sessions"))
			c.leave(`a[href*="what=all"]`)
			c.confirms("/logout")
			if title := c.text("h1"); title != "You are signed out" {
				t.Errorf("the page says %q", title)
			}
			c.do(chromedp.Navigate(o.URL + "/account"))
			c.at("/login")
			if _, refused := stop(); len(refused) > 0 {
				t.Errorf("the browser refused %q", refused)
			}
		})
	}
}

func TestBrowserAccountPageUpdatesByItself(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	c, other := openBrowser(t, browserOptions{}), openBrowser(t, browserOptions{})
	c.enters(o, "alex", "alex-demo")
	web := o.party("myAS", "trusted")
	state := c.visit(web)
	web.mustHaveWelcomed(c, state, "GET")
	c.do(chromedp.Navigate(o.URL + "/account"))
	c.at("/account/sessions")
	evaluate[bool](c, `window.stays = true; document.querySelector("details").open = true; document.querySelector('a[href$="/name"]').focus(); true`)
	other.enters(o, "alex", "alex-demo")
	becomes(c, countCards, 2)
	becomes(c, `document.getElementById("news").textContent`, "The list has changed and is up to date.")
	if !evaluate[bool](c, `window.stays && document.querySelector("details").open && document.activeElement.matches(".entry-current a[href$='/name']")`) {
		t.Error("the page was loaded anew, or lost what was open, or the focus")
	}
	if at := evaluate[string](c, `document.querySelector(".entry time").textContent`); strings.Contains(at, "UTC") {
		t.Errorf("a time of the new list is %q", at)
	}
	// What ends elsewhere goes from the list as it came.
	third := openBrowser(t, browserOptions{})
	third.enters(o, "alex", "alex-demo")
	becomes(c, countCards, 3)
	third.do(chromedp.Navigate(o.URL + "/logout"))
	third.leave("form[action$='/logout'] button")
	becomes(c, countCards, 2)
	if !evaluate[bool](c, "window.stays === true") {
		t.Error("the page was loaded anew for an ending")
	}
	// The other one is ended: its own page shows itself signed out.
	c.leave(`.entry:not(.entry-current) a[href$="/end"]`)
	c.confirms("/account/sessions")
	other.at("/login")
	if said := other.text(".lead"); said != "Your sign-in in this browser has ended. Sign in again to see your account." {
		t.Errorf("the page says %q", said)
	}
	// A stream that is open doesn't keep the server.
	began := time.Now()
	o.Close()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the server took %s to end", took)
	}
}

func TestBrowserChangesThePassword(t *testing.T) {
	t.Parallel()
	for name, options := range accountBrowsers {
		t.Run(name, func(t *testing.T) {
			o := openOffice(t, "")
			c := openBrowser(t, options)
			post := o.party("myAS", "post")
			held := post.SignIn(newBrowser(t)).Token
			c.enters(o, "alex", "alex-demo")
			c.leave(`a[href$="/account/password"]`)
			c.at("/account/password")
			fill := func(old, password, again string) {
				t.Helper()
				for id, value := range map[string]string{"#old": old, "#new": password, "#again": again} {
					c.do(chromedp.SendKeys(chromedp.CSS(id), value))
				}
				c.leave("main form button.primary")
			}
			fill("alex-demo", "a better password", "another password")
			if said := c.text("#problem"); said != "This is not the new password that you entered above." {
				t.Errorf("the page says %q", said)
			}
			fill("wrong", "a better password", "a better password")
			if said := c.text("#problem"); said != "That is not your present password." {
				t.Errorf("the page says %q", said)
			}
			fill("alex-demo", "a better password", "a better password")
			c.at("/account/sessions")
			if said := c.text(".notice-good"); said != "Your password is changed." || evaluate[int](c, countCards) != 1 {
				t.Errorf("the page says %q and shows %s", said, c.cards())
			}
			if post.Active(t, held.AccessToken) {
				t.Error("a token of another sign-in lives")
			}
			again := newBrowser(t).As("alex", "alex-demo")
			request, _ := post.Begin()
			if callback, final := again.Authorize(request); callback != nil || final.StatusCode != 422 {
				t.Error("the old password is still good")
			}
			post.SignIn(newBrowser(t).As("alex", "a better password"))
		})
	}
}

// back presses Shift-Tab.
func (c *chromium) back() {
	c.t.Helper()
	c.do(chromedp.KeyEvent("\t", chromedp.KeyModifiers(chromedp.ModifierShift)))
}

// Nothing but Tab, Shift-Tab, Space, Enter, and what is typed into fields.
func TestAccountPagesAreWalkedByKeyboard(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	o.party("myAS", "trusted").SignIn(newBrowser(t))
	c := openBrowser(t, browserOptions{})
	const space, enter = " ", "\r"
	c.do(chromedp.Navigate(o.URL + "/account"))
	c.text("#username")
	c.press("alex\t")
	c.tabTo("#password")
	c.press("alex-demo" + enter)
	c.at("/account/sessions")
	c.tabTo(`.entry-current a[href$="/name"]`)
	c.press(enter)
	c.text("#device")
	c.until("document.activeElement.id === 'device'") // without a key being pressed
	c.press("Kitchen" + enter)
	c.at("/account/sessions")
	if got := c.text(".entry-current h3"); got != "Kitchen" {
		t.Errorf("the device is called %q", got)
	}
	c.tabTo(".entry:not(.entry-current) summary")
	c.press(enter)
	if !evaluate[bool](c, `document.querySelector(".entry:not(.entry-current) details").open`) {
		t.Error("Enter doesn't show what was allowed")
	}
	c.tabTo(`.entry:not(.entry-current) a[href$="/end"]`)
	c.press(enter)
	c.text("main form")
	c.tabTo("main form a.button") // not now
	c.press(enter)
	c.at("/account/sessions")
	c.tabTo(`.entry:not(.entry-current) a[href$="/end"]`)
	c.press(enter)
	c.text("main form")
	c.tabTo("main form button")
	c.press(space)
	c.at("/account/sessions")
	c.text(".notice-good")
	for _, page := range []string{"permissions", "history", "password"} {
		c.tabTo(`nav a[href$="/account/` + page + `"]`)
		c.press(enter)
		c.at("/account/" + page)
	}
	c.until("document.activeElement.id === 'old'") // without a key being pressed

	// Another password, and other sign-ins go on: they are not ticked to end.
	web := o.party("myAS", "web")
	held := web.SignIn(newBrowser(t)).Token
	c.press("alex-demo")
	for _, field := range []string{"#new", "#again"} {
		c.tabTo(field)
		c.press("a better password")
	}
	c.tabTo("#end")
	c.press(space)
	if evaluate[bool](c, `document.querySelector("#end").checked`) {
		t.Error("Space doesn't take the tick away")
	}
	c.tabTo("main form button.primary")
	c.press(space)
	c.at("/account/sessions")
	c.says(".notice-good", "Your password is changed.")
	if n := evaluate[int](c, countCards); n != 2 || !web.Active(t, held.AccessToken) {
		t.Errorf("the page has %d entries, and the other's token is active: %t", n, web.Active(t, held.AccessToken))
	}

	c.tabTo(`nav a[href$="/account/permissions"]`)
	c.press(enter)
	c.at("/account/permissions")
	c.tabTo(`a[href*="client=web"]`)
	c.press(enter)
	c.at("/account/permissions/withdraw")
	c.tabTo("main form button")
	c.press(enter)
	c.at("/account/permissions")
	c.says(".notice-good", "The permission is withdrawn")
	if web.Active(t, held.AccessToken) {
		t.Error("what was withdrawn lives")
	}

	c.tabTo(`nav a[href$="/account/sessions"]`)
	c.press(enter)
	c.at("/account/sessions")
	c.tabTo(`a[href*="what=others"]`)
	c.press(enter)
	c.at("/account/sessions/end")
	c.tabTo("main form button")
	c.back()
	if !evaluate[bool](c, `document.activeElement.matches("main form a.button")`) {
		t.Error("Shift-Tab doesn't lead back to the way out")
	}
	c.tabTo("main form button")
	c.press(space)
	c.at("/account/sessions")
	c.says(".notice-good", "You are signed out everywhere else.")
	if n := evaluate[int](c, countCards); n != 1 {
		t.Errorf("left are %d entries", n)
	}
}
