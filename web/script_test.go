package web_test

import (
	"context"
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
