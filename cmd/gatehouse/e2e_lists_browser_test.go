//go:build unix

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// tab is another tab of the same browser, in front of those that there are.
func (c *chromium) tab() *chromium {
	c.t.Helper()
	ctx, end := chromedp.NewContext(c.ctx, chromedp.WithNewWindow(false))
	c.t.Cleanup(end)
	ctx, stop := context.WithTimeout(ctx, time.Minute) // a page that never comes
	c.t.Cleanup(stop)
	return &chromium{ctx: ctx, t: c.t}
}

// toFront shows a tab, and hides the others.
func (c *chromium) toFront() {
	c.t.Helper()
	c.do(chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, page.BringToFront, cdp.Empty{})
		return err
	}))
}

// Over HTTP/1.1 a browser has six connections to a host. Lists that keep
// themselves up to date leave room for what else is opened.
func TestBrowserWithManyListsOpensFurtherPages(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	c, other := openBrowser(t, browserOptions{}), openBrowser(t, browserOptions{})
	c.enters(o, "alex", "alex-demo")
	for range 8 {
		further := c.tab()
		further.do(chromedp.Navigate(o.URL + "/account/sessions"))
		further.at("/account/sessions")
	}
	further := c.tab()
	further.do(chromedp.Navigate(o.URL + "/login"))
	further.at("/login")

	// Who comes back to the first one finds it up to date.
	other.enters(o, "alex", "alex-demo")
	c.toFront()
	becomes(c, countCards, 2)
}

// A question that comes while another one has the focus doesn't take it: Enter
// answers what was looked at.
func TestBrowserKeepsTheFocusOnItsQuestion(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	c := openBrowser(t, browserOptions{})
	c.enters(o, "alex", "alex-demo")
	signInFrom := func(agentName string) {
		b := newBrowser(t).As("alex", "alex-demo")
		b.Transport = agent{agentName, b.Transport}
		o.party("myAS", "trusted").SignIn(b)
	}
	const questions, focused = `document.querySelectorAll(".question").length`,
		`document.activeElement.closest(".question")?.textContent ?? "nothing"`
	signInFrom(chrome73)
	becomes(c, questions, 1)
	evaluate[bool](c, `document.querySelector(".question button[value=no]").focus(); true`)
	signInFrom(strings.Replace(chrome73, "X11; Linux x86_64", "Macintosh; Intel Mac OS X 10_15_7", 1))
	becomes(c, questions, 2)
	if got := evaluate[string](c, focused); !strings.Contains(got, "Linux") {
		t.Errorf("the focus is in %q", got)
	}
}

// Whatever users call their devices, an administrator reaches every button.
func TestEndlessNamesLeaveTheAdministratorsListWhole(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	user := openBrowser(t, browserOptions{})
	user.enters(o, "alex", "alex-demo")
	user.leave(`.entry-current a[href$="/name"]`)
	user.do(chromedp.SendKeys(chromedp.CSS("#device"), strings.Repeat("W", 80)))
	user.leave("main form button.primary")
	user.at("/account/sessions")
	for _, options := range []browserOptions{{}, {Phone: true}} {
		t.Run(fmt.Sprintf("phone %t", options.Phone), func(t *testing.T) {
			c := openBrowser(t, options)
			c.asAdmin(o)
			c.says(".table", "WWWW")
			if wide := evaluate[int](c, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
				t.Errorf("the page is %d px too wide", wide)
			}
			for i := range 2 {
				const reached = `(() => {
					const button = document.querySelectorAll(".table-act button")[%d];
					button.scrollIntoView({ block: "center" });
					const at = button.getBoundingClientRect();
					return button.contains(document.elementFromPoint(at.x + at.width / 2, at.y + at.height / 2));
				})()`
				if !evaluate[bool](c, fmt.Sprintf(reached, i)) {
					t.Errorf("nobody can click the button of line %d", i+1)
				}
			}
		})
	}
}
