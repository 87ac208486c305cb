package sessions_test

import (
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/sessions"
)

func TestBrowserFamily(t *testing.T) {
	const gecko, webkit = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 ", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
	for agent, want := range map[string]string{
		gecko + "Firefox/140.0":                              "Firefox",
		webkit + "Chrome/140.0.0.0 Safari/537.36":            "Chrome",
		webkit + "HeadlessChrome/140.0.0.0 Safari/537.36":    "Chrome",
		webkit + "Chrome/140.0.0.0 Safari/537.36 Edg/140.0":  "Edge",
		webkit + "Chrome/140.0.0.0 Safari/537.36 OPR/120.0":  "Opera",
		webkit + "Chrome/140.0.0.0 Safari/537.36 Vivaldi/7":  "Vivaldi",
		webkit + "SamsungBrowser/28.0 Chrome/130.0 Safari/5": "Samsung Browser",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1": "Safari",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/140.0 Mobile/15E148 Safari/604.1":  "Chrome",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 14_0) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15":                      "Safari",
		"curl/8.0":                  sessions.OtherBrowser,
		"":                          sessions.OtherBrowser,
		"<script>alert(1)</script>": sessions.OtherBrowser,
		"\xff\x00":                  sessions.OtherBrowser,
		strings.Repeat("x/1 (", 9999) + "Firefox/140.0": sessions.OtherBrowser,
		"Other/1 ": sessions.OtherBrowser,
	} {
		if got := sessions.BrowserFamily(agent); got != want {
			t.Errorf("%.120q is of %q, want %q", agent, got, want)
		}
	}
}
