//go:build unix

package main

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"golang.org/x/oauth2"

	"gatehouse.dev/gatehouse/configs"
)

// axeScript is axe-core, which judges a page's accessibility by the rules of
// WCAG 2.2 A and AA, contrast included, and by good practice.
const axeScript = "testdata/axe/node_modules/axe-core/axe.min.js"

// axeFinding is a rule that a page breaks.
type axeFinding struct {
	ID     string   `json:"id"`
	Impact string   `json:"impact"` // minor, moderate, serious or critical
	Help   string   `json:"help"`
	Nodes  []string `json:"nodes"` // what breaks it, as HTML and why
}

// findings runs axe-core on the page that the browser shows, and tells how many
// rules the page keeps and which it breaks.
func (c *chromium) findings() (kept int, broken []axeFinding) {
	c.t.Helper()
	script, err := os.ReadFile(axeScript)
	if err != nil {
		c.t.Fatal("axe-core is not installed; install it with: make packages")
	}
	c.text("h1")
	result, err := chromedp.Run(c.ctx, chromedp.Evaluate[struct {
		Kept   int          `json:"kept"`
		Broken []axeFinding `json:"broken"`
	}](string(script)+`;axe.run(document).then(r => ({kept: r.passes.length, broken: r.violations.map(v => (
		{id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.map(n => n.html + "\n" + n.failureSummary)}))}))`, chromedp.EvalAwaitPromise))
	if err != nil {
		c.fail(err)
	}
	return result.Kept, result.Broken
}

// axe fails for every rule that the page breaks.
func (c *chromium) axe(page string) {
	c.t.Helper()
	kept, broken := c.findings()
	for _, f := range broken {
		c.t.Errorf("%s breaks %s (%s): %s\n%s", page, f.ID, f.Impact, f.Help, strings.Join(f.Nodes, "\n"))
	}
	if kept < 10 {
		c.t.Errorf("%s: axe-core looked at %d rules only", page, kept)
	}
}

// What axe-core must find, it finds: the test below is worth as much as this.
func TestInaccessiblePageIsFound(t *testing.T) {
	t.Parallel()
	took(t, "axe-core")
	c := openBrowser(t, browserOptions{})
	c.do(chromedp.Navigate("data:text/html," + url.PathEscape(`<!doctype html><title></title><h1>Page</h1>
		<p style="color:#aaa;background:#fff">too pale</p><img src="data:,"><input name="q"><button></button>`)))
	_, broken := c.findings()
	found := map[string]bool{}
	for _, f := range broken {
		found[f.ID] = true
	}
	for _, rule := range []string{"color-contrast", "image-alt", "label", "button-name", "document-title", "html-has-lang"} {
		if !found[rule] {
			t.Errorf("%s is not found in %v", rule, found)
		}
	}
}

// The pages by their states; each in both themes, at two widths.
func TestPagesAreAccessible(t *testing.T) {
	t.Parallel()
	took(t, "axe-core")
	const changed = "a better password"
	for _, options := range []browserOptions{{}, {Phone: true}, {Dark: true}, {Phone: true, Dark: true, Language: "de"}} {
		t.Run(fmt.Sprintf("phone %t, dark %t", options.Phone, options.Dark), func(t *testing.T) {
			o := openOffice(t, "", func(cfg *configs.Config) { cfg.Realms["default"].Throttle.Account = 1 })
			c := openBrowser(t, options)
			rp := o.party("myAS", "web")

			c.visit(rp)
			c.axe("sign-in")
			c.leave("form[action$='/login'] button.primary")
			c.axe("sign-in without a user name")
			c.signIn("bea", "")
			c.axe("sign-in without a password")
			c.signIn("bea", "wrong")
			c.axe("sign-in with a wrong password")
			c.signIn("bea", "wrong")
			c.axe("sign-in that has to wait")
			c.signIn("alex", "alex-demo")
			c.axe("consent")
			c.leave("a[href*='account=other']")
			c.axe("sign-in with another account")
			c.do(chromedp.Navigate(o.URL + "/login"))
			c.axe("home, signed in")
			o.party("partnerAS", "trusted").SignIn(newBrowser(t), scope("openid offline_access"))
			for _, page := range []string{"sessions", "permissions", "history", "password", "sessions/end?what=others", "sessions/end?what=all"} {
				c.do(chromedp.Navigate(o.URL + "/account/" + page))
				c.axe("account, " + page)
			}
			c.do(chromedp.Navigate(o.URL + "/account/sessions"))
			c.leave(".entry:not(.entry-current) a[href$='/end']")
			c.axe("account, end")
			c.do(chromedp.Navigate(o.URL + "/account/sessions"))
			c.leave(".entry-current a[href$='/name']")
			c.axe("account, name")
			c.do(chromedp.Navigate(o.URL + "/account/password"))
			c.leave("main form button.primary")
			c.axe("account, password, empty")
			c.do(chromedp.Navigate(o.URL + "/login?to=account&again=1"))
			c.axe("account, sign-in once more")
			c.visit(rp, prompt("login"))
			c.axe("sign-in once more")
			c.visit(rp, oauth2.SetAuthURLParam("redirect_uri", "https://elsewhere.example/callback"))
			c.axe("error of a request")
			c.do(chromedp.Navigate(o.URL + "/consent?as=myAS&stamp=x&request=y"))
			c.axe("error of a link")
			c.visit(rp)
			c.decide("allow")
			c.text("#result") // the tokens are there: an application to be named
			c.do(chromedp.Navigate(o.URL + "/account/permissions"))
			c.axe("account, permissions with one")
			c.leave(`a[href*="client=web"]`)
			c.axe("account, withdraw")
			c.do(chromedp.Navigate(o.URL + "/account/password"))
			c.text("#again")
			for id, value := range map[string]string{"#old": "alex-demo", "#new": changed, "#again": changed} {
				c.do(chromedp.SendKeys(chromedp.CSS(id), value))
			}
			c.leave("main form button.primary")
			c.at("/account/sessions")
			c.text(".notice-good")
			c.axe("account, password changed")
			c.do(chromedp.Navigate(o.URL + "/account/history"))
			c.text(".past")
			c.axe("account, history of what has ended")
			trusted := o.party("myAS", "trusted")
			c.visit(trusted, oauth2.SetAuthURLParam("scope", "openid offline_access"))
			c.text("#result")
			c.do(chromedp.Navigate(o.URL + "/logout"))
			c.axe("sign-out")
			c.do(chromedp.Navigate(o.endSession("myAS", "client_id", "web", "logout_hint", "bea", "post_logout_redirect_uri", o.app.URL+byePath+"web")))
			c.axe("sign-out for an application")
			c.do(chromedp.Navigate(o.endSession("myAS", "client_id", "web", "post_logout_redirect_uri", "https://elsewhere.example/")))
			c.axe("error of a logout request")
			c.do(chromedp.Navigate(o.URL + "/logout"))
			c.leave("form[action$='/logout'] button")
			c.axe("signed out of applications")
			c.do(chromedp.Navigate(o.URL + "/logout"))
			c.axe("signed out")
			c.do(chromedp.Navigate(o.endSession("myAS", "client_id", "web", "post_logout_redirect_uri", o.app.URL+byePath+"web")))
			c.axe("signed out, with a way back")
			c.do(chromedp.Navigate(o.URL + "/login"))
			c.axe("home, signed out")

			blocked := options
			blocked.Preferences = `{"profile": {"default_content_setting_values": {"cookies": 2}}}`
			c = openBrowser(t, blocked)
			c.visit(rp)
			c.signIn("alex", changed)
			c.axe("cookies blocked")
		})
	}
}
