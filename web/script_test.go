package web_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"gatehouse.dev/gatehouse/throttle"
)

// told evaluates an expression in the browser until it is what is wanted, for
// at most ten seconds.
func told(t *testing.T, tab context.Context, expression, want string) {
	t.Helper()
	got := ""
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		var err error
		if got, err = chromedp.Run(tab, chromedp.Evaluate[string](expression)); err != nil {
			t.Fatalf("%s: %v", expression, err)
		}
		if got == want {
			return
		}
	}
	t.Errorf("%s is %q, want %q", expression, got, want)
}

// TestScriptImprovesThePages: what only a script can do, under our own policy.
func TestScriptImprovesThePages(t *testing.T) {
	h, _ := openThrottled(t, throttle.Limits{Account: 1, FirstWait: 5 * time.Second})
	tab := chromium(t, "de")
	w := walker{t, tab, h}
	w.open(h.request("album", "ui_locales", "de"))
	told(t, tab, `document.activeElement.id`, "username")
	toggle := chromedp.CSS("button[data-reveals]")
	told(t, tab, `document.querySelector("button[data-reveals]").textContent`, "Anzeigen")
	w.do(chromedp.WaitVisible(toggle), chromedp.Click(toggle))
	told(t, tab, `document.getElementById("password").type`, "text")
	told(t, tab, `document.querySelector("button[data-reveals]").getAttribute("aria-label")`, "Passwort verbergen")
	w.do(chromedp.Click(toggle))
	told(t, tab, `document.getElementById("password").type`, "password")

	// Whoever can see what he types sends it as a password all the same.
	w.do(chromedp.Click(toggle))
	told(t, tab, `document.getElementById("password").type`, "text")
	told(t, tab, `document.forms[0].addEventListener("submit", (e) => { e.preventDefault(); document.title = document.getElementById("password").type; }); document.forms[0].requestSubmit(); document.title`, "password")

	w.open(h.request("album", "ui_locales", "de"))
	w.signIn("alex", "wrong password")
	told(t, tab, `document.activeElement.id`, "password")
	told(t, tab, `document.getElementById("username").value`, "alex")
	w.signIn("alex", "wrong password")
	told(t, tab, `window.seen = []; const timer = document.querySelector("[role=timer]");
		new MutationObserver(() => seen.push(timer.textContent)).observe(timer, {childList: true}); "watching"`, "watching")
	told(t, tab, `document.getElementById("problem").textContent`, "Sie können es jetzt noch einmal versuchen.")
	told(t, tab, `seen.length > 0 && seen.every((text) => /^([2-5] Sekunden|einer Sekunde)$/.test(text)) ? "counted" : seen.join()`, "counted")

	w.open(h.request("album", "redirect_uri", "https://other.example/", "ui_locales", "de"))
	w.do(chromedp.WaitVisible(chromedp.CSS("button[data-copies]")))
	told(t, tab, `document.querySelector("time[data-local]").textContent.includes("UTC") ? "UTC" : "local"`, "local")
}

// TestSearchThatNeedsASignInLeadsThere: who types when his sign-in is too old for
// suggestions comes to the sign-in page, and from there to what he searched for.
func TestSearchThatNeedsASignInLeadsThere(t *testing.T) {
	h := open(t, nil)
	h.addAdmin("root")
	for i := range 21 {
		h.addAccount(fmt.Sprintf("many-%02d", i))
	}
	tab := chromium(t, "en")
	w := walker{t, tab, h}
	w.asRoot("/admin/sessions")
	field := chromedp.CSS("#q")
	w.do(chromedp.SendKeys(field, "many"))
	told(t, tab, `document.querySelectorAll(".suggestions li").length + " " + document.querySelector(".combo [role=status]").textContent`,
		"20 20 users. There are more. Type more letters.")
	told(t, tab, `getComputedStyle(document.querySelector(".suggestions"), "::after").content`, `"There are more. Type more letters."`)
	w.do(chromedp.SendKeys(field, "-1"))
	told(t, tab, `document.querySelector(".combo [role=status]").textContent + getComputedStyle(document.querySelector(".suggestions"), "::after").content`, "10 usersnone")
	h.wait(16 * time.Minute)
	ctx, end := context.WithTimeout(tab, 30*time.Second)
	defer end()
	if _, err := chromedp.RunResponse(ctx, chromedp.SendKeys(field, "2")); err != nil {
		t.Fatal(err)
	}
	told(t, tab, `location.pathname.replace("/realms/default", "")`, "/login")
	w.signIn("root", adminPassword)
	told(t, tab, `location.pathname.replace("/realms/default", "") + location.search + " " + document.querySelectorAll(".people li").length`, "/admin/sessions?q=many-12 1")
}

// TestBackAfterAnEndingShowsAPage: the question is a page that the browser can
// show once more, and not a form that it would have to send again.
func TestBackAfterAnEndingShowsAPage(t *testing.T) {
	h := open(t, nil)
	h.addAdmin("root")
	h.loginOf("bob", "192.0.2.1", "curl/8")
	tab := chromium(t, "en", chromedp.Flag("disable-back-forward-cache", true)) // which is not always used
	w := walker{t, tab, h}
	w.asRoot("/admin/sessions?user=bob")
	w.click(".table-act button")
	told(t, tab, `document.querySelector("h1").textContent`, "End these sessions?")
	w.click(".choice button")
	told(t, tab, `document.querySelector(".notice").textContent`, "One session was ended.")
	w.do(chromedp.NavigateBack())
	told(t, tab, `document.querySelector(".notice")?.textContent ?? document.title`, "Nothing was ended: what you chose was already over.")
	told(t, tab, `new URLSearchParams(location.search).get("user")`, "bob")
}
