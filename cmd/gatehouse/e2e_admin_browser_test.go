//go:build unix

package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// asAdmin signs the demo's administrator in on the way to the list.
func (c *chromium) asAdmin(o *office) {
	c.t.Helper()
	c.do(chromedp.Navigate(o.URL + "/admin"))
	c.at("/login")
	c.signIn("admin", "admin-demo")
	c.at("/admin/sessions")
}

// says waits until what matches a selector shows a text.
func (c *chromium) says(selector, want string) {
	c.t.Helper()
	said := ""
	if err := c.soon(func(ctx context.Context) (_ bool, err error) {
		said, err = chromedp.Run(ctx, chromedp.Text(chromedp.CSS(selector), chromedp.NodeVisible))
		return strings.Contains(said, want), err
	}); err != nil {
		c.t.Errorf("%s says %q, want %q: %v", selector, said, want, err)
	}
}

// until waits until an expression is true.
func (c *chromium) until(expression string) {
	c.t.Helper()
	if err := c.soon(func(ctx context.Context) (bool, error) {
		return chromedp.Run(ctx, chromedp.Evaluate[bool](expression))
	}); err != nil {
		c.fail(fmt.Errorf("it never becomes true that %s: %w", expression, err))
	}
}

// confirm answers the page that asks first.
func (c *chromium) confirm(title string) {
	c.t.Helper()
	c.says("h1", title)
	c.leave(".choice button")
}

// signedIn is the latest access token of a relying party that a browser stands
// at.
func (c *chromium) signedIn(rp *relyingParty, state string) string {
	c.t.Helper()
	rp.mustHaveWelcomed(c, state, http.MethodGet)
	rp.mu.Lock()
	defer rp.mu.Unlock()
	return rp.arrived[state].Token.AccessToken
}

// TestAdministratorFindsEndsAndLocks: in every browser an administrator finds a
// user, ends one session, several, and locks the account. What he ends is over
// at the next request, and who is locked out can't sign in until he is let in.
func TestAdministratorFindsEndsAndLocks(t *testing.T) {
	t.Parallel()
	for name, options := range everyBrowser {
		if options.Language != "" {
			continue // the texts below are English
		}
		t.Run(name, func(t *testing.T) {
			o := openOffice(t, "")
			rp := o.party("myAS", "trusted")
			admin, bea := openBrowser(t, options), openBrowser(t, browserOptions{})
			stop := admin.watch()
			state := bea.visit(rp)
			bea.signIn("bea", "bea-demo")
			token := bea.signedIn(rp, state)
			alexes := []*browser{newBrowser(t), newBrowser(t)}
			for i, b := range alexes {
				b.Transport = agent{chrome73, b.Transport}
				if i == 0 {
					rp.SignIn(b)
				} else {
					o.party("partnerAS", "trusted").SignIn(b)
				}
			}
			over := func(what string) {
				t.Helper()
				if rp.Active(t, token) {
					t.Errorf("%s: bea's token is active", what)
				}
				bea.visit(rp)
				bea.at("/login")
			}

			admin.asAdmin(o)
			admin.do(chromedp.SendKeys(chromedp.CSS("#q"), "BEA@"))
			if options.NoScript {
				admin.leave(".find button")
				admin.leave(".people a")
			} else {
				admin.says(".suggestions li", "bea@example.com")
				admin.press(kb.ArrowDown)
				admin.press(kb.Enter)
			}
			admin.says("h1", "Bea (bea)")
			user := strings.TrimPrefix(admin.location(), o.URL)
			admin.leave(".table-act button")
			admin.confirm("End these sessions?")
			admin.at(user)
			admin.says(".notice", "One session was ended.")
			over("ended")
			admin.says(".past", "Ended by an administrator")

			// Those of a filtered list that are ticked.
			state = latest(rp)
			bea.signIn("bea", "bea-demo")
			token = bea.signedIn(rp, state)
			admin.do(chromedp.Navigate(o.URL + "/admin/sessions"))
			admin.do(chromedp.SendKeys(chromedp.CSS("#f-user"), "Alex"))
			admin.leave(".filter button")
			if n := evaluate[int](admin, "document.querySelectorAll('.table tbody tr').length"); n != 2 {
				t.Fatalf("the list shows %d sessions of alex", n)
			}
			for row := 1; row <= 2; row++ {
				admin.do(chromedp.Click(chromedp.CSS(fmt.Sprintf("tr:nth-child(%d) input[name=id]", row))))
			}
			if !options.NoScript {
				admin.says(".table-foot button", "(2)")
			}
			admin.leave(".table-foot button")
			admin.confirm("End these sessions?")
			admin.says(".notice", "2 sessions were ended.")
			if at := evaluate[string](admin, "location.search"); !strings.Contains(at, "user=Alex") {
				t.Errorf("the list is no longer narrowed: %s", at)
			}
			for i, b := range alexes {
				if answer := rp.Silent(b); answer.Get("error") != "login_required" {
					t.Errorf("alex's browser %d is answered %v", i, answer)
				}
			}
			if !rp.Active(t, token) {
				t.Error("bea's session ended with those of alex")
			}

			// Locked out, and let in again.
			admin.do(chromedp.Navigate(o.URL + user))
			admin.leave("a[href$='/lock']")
			admin.confirm("Lock this account?")
			admin.says(".notice", "The account was locked")
			over("locked")
			bea.signIn("bea", "bea-demo")
			bea.says("#problem", "This account is locked.")
			admin.leave("a[href$='/unlock']")
			admin.confirm("Unlock this account?")
			admin.says(".notice", "The account was unlocked.")
			if rp.Active(t, token) {
				t.Error("unlocking brought a token back")
			}
			state = bea.visit(rp)
			bea.signIn("bea", "bea-demo")
			if !rp.Active(t, bea.signedIn(rp, state)) {
				t.Error("bea's new token is not active")
			}

			// Who is no administrator gets nothing.
			bea.do(chromedp.Navigate(o.URL + user))
			bea.says("h1", "This page is for administrators")
			if hosts, refused := stop(); len(refused) > 0 || len(hosts) != 1 || hosts[0] != o.URL {
				t.Errorf("the pages ask %q, and their policy refuses %q", hosts, refused)
			}
		})
	}
}

// Nothing but the keyboard: from the search to one ending, the end of everything,
// a lock and its undoing.
func TestAdministratorsPagesAreWalkedByKeyboard(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	rp := o.party("myAS", "trusted")
	older := rp.SignIn(newBrowser(t).As("bea", "bea-demo")).Token.AccessToken
	newer := rp.SignIn(newBrowser(t).As("bea", "bea-demo")).Token.AccessToken
	c := openBrowser(t, browserOptions{})
	c.asAdmin(o)
	const space, enter = " ", "\r"
	active := func() string {
		return evaluate[string](c, "document.querySelector('#q').getAttribute('aria-activedescendant') || 'none'")
	}
	expanded := func(want string) {
		t.Helper()
		c.until("document.querySelector('#q').getAttribute('aria-expanded') === '" + want + "'")
	}

	// The combobox, as WAI-ARIA has it.
	c.tabTo("#q")
	c.press("a")
	expanded("true")
	if said := evaluate[string](c, "document.querySelector('.combo [role=status]').textContent"); said != "2 users" {
		t.Errorf("it is announced that there are %q", said)
	}
	var way []string
	for _, key := range []string{kb.ArrowDown, kb.ArrowDown, kb.ArrowDown, kb.ArrowUp, kb.ArrowUp} {
		c.press(key)
		way = append(way, active())
	}
	if got := strings.Join(way, " "); got != "q-list-0 q-list-1 none q-list-1 q-list-0" {
		t.Errorf("the arrows lead to %s", got)
	}
	c.press(kb.Escape)
	expanded("false")
	if typed := c.value("#q"); typed != "a" {
		t.Errorf("Escape leaves %q in the field", typed)
	}
	c.press(kb.ArrowDown)
	expanded("true")
	c.press("dmin")
	c.until("document.querySelectorAll('.suggestions li').length === 1")
	c.press(enter) // nothing is chosen: the form is sent
	c.do(chromedp.WaitVisible(chromedp.CSS(".people a")))

	// One of the list.
	c.tabTo("#all")
	c.press(space)
	if n := evaluate[int](c, "document.querySelectorAll('input[name=id]:checked').length"); n != 3 {
		t.Errorf("%d are ticked", n)
	}
	c.press(space)
	for range 3 { // the administrator's own box and button are ahead of bea's
		c.press("\t")
	}
	c.tabTo("tr:nth-child(2) .table-head a")
	c.press(enter)
	c.says("h1", "Bea (bea)")
	user := strings.TrimPrefix(c.location(), o.URL)

	// One by its button; then all that is left; then the account itself.
	for _, step := range []struct{ to, key, question, notice string }{
		{".table-act button", space, "End these sessions?", "One session was ended."},
		{"a[href$='/end']", enter, "End everything of this user?", "Everything of this user was ended."},
		{"a[href$='/lock']", enter, "Lock this account?", "The account was locked"},
		{"a[href$='/unlock']", enter, "Unlock this account?", "The account was unlocked."},
	} {
		c.tabTo(step.to)
		c.press(step.key)
		c.says("h1", step.question)
		c.tabTo(".choice button")
		c.back()
		if !evaluate[bool](c, "document.activeElement.matches('.choice a.button')") {
			t.Errorf("%s Shift-Tab doesn't lead back to the way out", step.question)
		}
		c.tabTo(".choice button")
		c.press(step.key)
		c.at(user)
		c.says(".notice", step.notice)
		if step.to == ".table-act button" && (rp.Active(t, newer) || !rp.Active(t, older)) {
			t.Error("not exactly the newest session has ended")
		}
	}
	if rp.Active(t, older) || rp.Active(t, newer) {
		t.Error("a token of what was ended is active")
	}
	rp.SignIn(newBrowser(t).As("bea", "bea-demo"))
}

// The administrators' pages by their states; each in both themes, at two widths.
func TestAdministratorsPagesAreAccessible(t *testing.T) {
	t.Parallel()
	took(t, "axe-core")
	for _, options := range []browserOptions{{}, {Phone: true}, {Dark: true}, {Phone: true, Dark: true, Language: "de"}} {
		t.Run(fmt.Sprintf("phone %t, dark %t", options.Phone, options.Dark), func(t *testing.T) {
			o := openOffice(t, "")
			b := newBrowser(t).As("bea", "bea-demo")
			b.Transport = agent{chrome73, b.Transport}
			o.party("myAS", "trusted").SignIn(b)
			c := openBrowser(t, options)
			c.asAdmin(o)
			c.axe("list")
			c.do(chromedp.SendKeys(chromedp.CSS("#q"), "b"), chromedp.WaitVisible(chromedp.CSS(".suggestions li")))
			c.press(kb.ArrowDown)
			c.axe("list with suggestions")
			c.do(chromedp.Navigate(o.URL + "/admin/sessions?q=b"))
			user := evaluate[string](c, "document.querySelector('.people a').pathname")
			c.axe("list with users found")
			c.do(chromedp.Navigate(o.URL + "/admin/sessions?address=nonsense&browser=Opera"))
			c.axe("list with a wrong filter")
			c.do(chromedp.Navigate(o.URL + "/admin/sessions?browser=Opera"))
			c.axe("empty list")
			c.do(chromedp.Navigate(o.URL + user))
			c.axe("user")
			c.leave(".table-act button")
			c.axe("end one")
			c.do(chromedp.Navigate(o.URL + user + "/end"))
			c.axe("end everything")
			c.do(chromedp.Navigate(o.URL + user + "/lock"))
			c.axe("lock")
			c.leave(".choice button")
			c.axe("locked user")
			c.do(chromedp.Navigate(o.URL + user + "/unlock"))
			c.axe("unlock")
			c.do(chromedp.Navigate(o.URL + "/admin/users/nobody"))
			c.axe("no such user")
		})
	}
}
