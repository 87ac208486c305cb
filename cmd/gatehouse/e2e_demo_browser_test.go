//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// demoBrowser is a person's browser at the demo.
type demoBrowser struct {
	*chromium
	demo *runningDemo
}

// screen is the size of a screen in CSS pixels.
type screen struct {
	name          string
	width, height int64
	phone         bool
}

var screens = []screen{{"desktop", 1280, 800, false}, {"phone", 390, 844, true}}

func openDemoBrowser(t *testing.T, d *runningDemo, s screen) *demoBrowser {
	t.Helper()
	c := openChromium(t, "")
	var options []chromedp.EmulateViewportOption
	if s.phone {
		options = append(options, chromedp.EmulateMobile)
	}
	c.do(chromedp.EmulateViewport(s.width, s.height, options...))
	return &demoBrowser{chromium: c, demo: d}
}

// open goes to an application's page.
func (b *demoBrowser) open(address string) {
	b.t.Helper()
	b.do(chromedp.Navigate(address + "/"))
	b.fits()
}

// press submits the form of an application's page by its button, and waits for
// what the next page must have.
func (b *demoBrowser) press(button, then string) {
	b.t.Helper()
	b.text(button)
	// What is there already could not tell that the next page has come.
	if there, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](fmt.Sprintf("document.querySelector(%q) !== null", then))); err != nil || there {
		b.t.Fatalf("the page at %s has %s before %s is pressed, %v", b.location(), then, button, err)
	}
	b.do(chromedp.Click(chromedp.CSS(button)))
	b.text(then)
	b.fits()
}

// prove signs in at the server, by the names of its fields alone.
func (b *demoBrowser) prove(username, password string) {
	b.t.Helper()
	b.must(chromedp.WaitVisible(chromedp.CSS("input[name=username]")))
	b.do(chromedp.SetValue(chromedp.CSS("input[name=username]"), username),
		chromedp.SendKeys(chromedp.CSS("input[name=password]"), password),
		chromedp.Submit(chromedp.CSS("input[name=password]")))
}

// must is do with a bound, for what waits.
func (b *demoBrowser) must(action chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, end := context.WithTimeout(b.ctx, 20*time.Second)
	defer end()
	if err := chromedp.Do(ctx, action); err != nil {
		b.fail(err)
	}
}

// fits checks that the page is no wider than the screen and that its style
// sheet was let in by the policy.
func (b *demoBrowser) fits() {
	b.t.Helper()
	over, err := chromedp.Run(b.ctx, chromedp.Evaluate[float64]("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
	if err != nil || over > 0 {
		b.t.Errorf("the page at %s is %v pixels too wide, %v", b.location(), over, err)
	}
	rules, err := chromedp.Run(b.ctx, chromedp.Evaluate[int]("document.styleSheets[0].cssRules.length"))
	if err != nil || rules == 0 {
		b.t.Errorf("the page at %s has %d style rules, %v", b.location(), rules, err)
	}
}

// sessions are the applications whose sessions the page lists, the current one
// in brackets.
func (b *demoBrowser) sessions() string {
	b.t.Helper()
	b.text("#sessions")
	names, err := chromedp.Run(b.ctx, chromedp.Evaluate[[]string](`[...document.querySelectorAll("#sessions > li")].map(s =>
		s.querySelector(".badge") ? "[" + s.dataset.application + "]" : s.dataset.application)`))
	if err != nil {
		b.fail(err)
	}
	return fmt.Sprint(names)
}

func (b *demoBrowser) mustList(want string) {
	b.t.Helper()
	if got := b.sessions(); got != want {
		b.t.Errorf("the page at %s lists %s, want %s", b.location(), got, want)
	}
}

const (
	signInButton = "#sign-in"
	sessionsPage = "#sessions"
	endedPage    = "#ended"
)

func TestBrowserSeesASessionEndedInTheDemo(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	for _, s := range screens {
		t.Run(s.name, func(t *testing.T) {
			b := openDemoBrowser(t, d, s)

			// 1. Signs in at Photo Album.
			b.open(d.Photos)
			b.must(chromedp.Click(chromedp.CSS(signInButton)))
			b.prove("bea", "bea-demo")
			if s.name == screens[0].name { // consent is remembered
				b.decide("allow")
			}
			b.text(sessionsPage)
			b.fits()
			b.mustList("[[Photo Album]]")

			// 2. Single sign-on at Calendar: no form in between.
			b.open(d.Calendar)
			b.press(signInButton, sessionsPage)
			b.mustList("[[Calendar] Photo Album]")

			// 3. Photo Album lists both and marks its own.
			b.open(d.Photos)
			b.mustList("[[Photo Album] Calendar]")

			// 4. It ends the other.
			b.press("#sessions form[action='/sessions/end'] button", "#notice")
			b.mustList("[[Photo Album]]")

			// 5. Which notices at its next renewal, and wants the password then.
			b.open(d.Calendar)
			if title := b.text(endedPage + " h1"); title != endedElsewhere {
				t.Errorf("Calendar says %q", title)
			}
			b.must(chromedp.Click(chromedp.CSS(signInButton)))
			b.prove("bea", "bea-demo")
			b.text(sessionsPage)
			b.mustList("[[Calendar] Photo Album]")

			// Own log-out; single sign-on stays.
			b.press("#log-out", "#logged-out")
			b.press(signInButton, sessionsPage)
			b.mustList("[[Calendar] Photo Album]")

			// The other way round, for the next screen.
			b.press("#end-others", "#notice")
			b.press("#log-out", "#logged-out")
			b.open(d.Photos)
			b.text(endedPage)
		})
	}
	if err := d.End(os.Interrupt); err != nil {
		t.Errorf("%v\n%s", err, d.Log)
	}
}

// A page that was open when its session ended: its button renews, and tells.
func TestBrowserRenewsAndEndsAllOthersInTheDemo(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	one, two := openDemoBrowser(t, d, screens[0]), openDemoBrowser(t, d, screens[1])
	for _, b := range []*demoBrowser{one, two} {
		b.open(d.Calendar)
		b.must(chromedp.Click(chromedp.CSS(signInButton)))
		b.prove("alex", "alex-demo")
		b.text(sessionsPage)
	}
	one.open(d.Calendar)
	one.mustList("[[Calendar] Calendar]")
	two.press("#renew", "#notice")
	if said := two.text("#notice"); said != "The tokens were renewed." {
		t.Errorf("the renewal says %q", said)
	}
	if state := two.text("#access-token"); !strings.HasPrefix(state, "valid for 4 min 5") && !strings.HasPrefix(state, "valid for 5 min") {
		t.Errorf("after a renewal the access token is %q", state)
	}
	one.press("#end-others", "#notice")
	one.mustList("[[Calendar]]")
	two.press("#renew", endedPage)
}
