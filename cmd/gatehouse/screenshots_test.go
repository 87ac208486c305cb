//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestScreenshots writes pictures of the demo's applications, at two widths and
// in two themes, into the folder that GATEHOUSE_SCREENSHOTS names:
// demo-PAGE-WIDTH-THEME.png. It does nothing where the variable is not set.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("GATEHOUSE_SCREENSHOTS")
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d := startDemo(t)
	for i, theme := range []string{"light", "dark"} {
		b := &demoBrowser{chromium: openBrowser(t, browserOptions{Dark: theme == "dark"}), demo: d}
		shoot := func(page string) {
			t.Helper()
			for _, width := range []int64{1280, 390} {
				b.do(chromedp.EmulateViewport(width, 800))
				picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
				if err != nil {
					t.Fatal(err)
				}
				name := filepath.Join(dir, fmt.Sprintf("demo-%s-%d-%s.png", page, width, theme))
				if err := os.WriteFile(name, picture, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		b.open(d.Photos)
		shoot("start")
		b.must(chromedp.Click(chromedp.CSS(signInButton)))
		b.prove("alex", "alex-demo")
		if i == 0 { // consent is remembered
			b.decide("allow")
		}
		b.text(sessionsPage)
		b.open(d.Calendar)
		b.press(signInButton, sessionsPage)
		b.open(d.Photos)
		shoot("sessions")
		b.press("#sessions form[action='/sessions/end'] button", "#notice")
		shoot("other-ended")
		b.open(d.Calendar)
		shoot("ended")
		b.open(d.Photos)
		b.press("#log-out", "#logged-out")
		shoot("logged-out")
	}
}
