package web_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"gatehouse.dev/gatehouse/throttle"
	"gatehouse.dev/gatehouse/web"
)

// TestScreenshots writes a picture of every page, at two widths, in two themes
// and in all languages, into the folder that GATEHOUSE_SCREENSHOTS names:
// PAGE-LANGUAGE-WIDTH-THEME.png. It does nothing where the variable is not set.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("GATEHOUSE_SCREENSHOTS")
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	only := os.Getenv("GATEHOUSE_SCREENSHOTS_OF") // a part of a name; empty: all
	for _, lang := range []string{"en", "de"} {
		for theme, setting := range map[string]string{"light": "preferredColorScheme=1", "dark": "preferredColorScheme=0"} {
			tab := chromium(t, lang, chromedp.Flag("blink-settings", setting), chromedp.Flag("hide-scrollbars", true), chromedp.UserAgent(agentChrome))
			for _, s := range slices.Concat(scenes, adminScenes) {
				base := s.name + "-" + lang
				if !strings.Contains(base+"-"+theme, only) {
					continue
				}
				h := s.house(t)
				s.walk(walker{t, tab, h})
				for _, width := range []int64{1280, 390} {
					if err := chromedp.Do(tab, chromedp.EmulateViewport(width, 800)); err != nil {
						t.Fatal(err)
					}
					shot, err := chromedp.Run(tab, chromedp.FullScreenshot(100))
					if err != nil {
						t.Fatal(err)
					}
					name := filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", base, width, theme))
					if err := os.WriteFile(name, smaller(t, shot), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				h.forgetCookies(tab)
			}
		}
	}
}

// forgetCookies empties the browser between two scenes.
func (h *house) forgetCookies(tab context.Context) {
	h.t.Helper()
	gone := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Clear-Site-Data", `"cookies"`)
		for _, name := range []string{"gatehouse-default", "gatehouse-known.default"} {
			http.SetCookie(w, &http.Cookie{Name: name, Path: "/", MaxAge: -1})
		}
	}))
	defer gone.Close()
	// Cookies of a host are for all of its ports.
	if err := chromedp.Do(tab, chromedp.Navigate(gone.URL)); err != nil {
		h.t.Fatal(err)
	}
}

// walker goes through the pages in a real browser.
type walker struct {
	t   *testing.T
	tab context.Context
	h   *house
}

func (w walker) do(actions ...chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	ctx, end := context.WithTimeout(w.tab, 30*time.Second)
	defer end()
	if err := chromedp.Do(ctx, actions...); err != nil {
		w.t.Fatal(err)
	}
}

func (w walker) open(to string) { w.t.Helper(); w.do(chromedp.Navigate(to)) }

// signIn fills in the form and waits until the browser is on another page.
func (w walker) signIn(username, password string) {
	w.t.Helper()
	w.do(chromedp.WaitVisible(chromedp.CSS("#username")))
	for id, value := range map[string]string{"username": username, "password": password} {
		if _, err := chromedp.Run(w.tab, chromedp.Evaluate[string](fmt.Sprintf("document.getElementById(%q).value = %q", id, value))); err != nil {
			w.t.Fatal(err)
		}
	}
	if _, err := chromedp.RunResponse(w.tab, chromedp.Click(chromedp.CSS("form button.primary"))); err != nil {
		w.t.Fatal(err)
	}
}

// scene is a page in one state.
type scene struct {
	name  string
	house func(*testing.T) *house
	walk  func(walker)
}

// plain is the product as it comes, with a client that has a logo.
func plain(t *testing.T) *house {
	client, _ := cdn(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(picture(t, 128, 128)) })
	return open(t, func(cfg *web.Config) { cfg.Outgoing = client })
}

// branded is a house with an operator's look, long names and many permissions.
func branded(t *testing.T) *house {
	h := open(t, func(cfg *web.Config) {
		cfg.Appearance = web.Appearance{
			Name: "Stadtwerke Musterhausen", Accent: "#9b1c4a", AccentDark: "#f19ab9",
			Links: []web.Link{{Text: "Help", URL: "https://help.example/"}, {Text: "Privacy", URL: "https://www.example/privacy"}, {Text: "Imprint", URL: "https://www.example/imprint"}},
		}
		cfg.Scopes = map[string]web.ScopeTexts{"myAS": {
			"photos:read": {"en": "see all your photos and albums", "de": "alle Ihre Fotos und Alben sehen"},
		}}
	})
	h.addUser("maximiliane", "correct horse maximiliane", "Maximiliane Freifrau von Hohenstein-Wackerbarth")
	return h
}

func throttled(t *testing.T) *house {
	h, _ := openThrottled(t, throttle.Limits{Account: 1, FirstWait: 95 * time.Second})
	return h
}

func throttledBriefly(t *testing.T) *house {
	h, _ := openThrottled(t, throttle.Limits{Account: 1, FirstWait: 40 * time.Second})
	return h
}

func (w walker) fail(f func(http.ResponseWriter, *http.Request)) {
	w.t.Helper()
	house, err := url.Parse(strings.TrimSuffix(w.h.base, "/realms/default"))
	if err != nil {
		w.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/authorize", f)
	mux.Handle("/", httputil.NewSingleHostReverseProxy(house)) // style sheets
	s := httptest.NewServer(mux)
	w.t.Cleanup(s.Close)
	w.open(s.URL + "/authorize")
}

var scenes = []scene{
	{"sign-in", plain, func(w walker) { w.open(w.h.request("album")) }},
	{"sign-in-wrong", plain, func(w walker) {
		w.open(w.h.request("album"))
		w.signIn("alex", "wrong password")
	}},
	{"sign-in-empty", plain, func(w walker) {
		w.open(w.h.request("album"))
		w.signIn("alex", "")
	}},
	{"sign-in-throttled", throttled, func(w walker) {
		w.open(w.h.request("album"))
		w.signIn("alex", "wrong password")
		w.signIn("alex", "wrong password")
	}},
	{"sign-in-throttled-briefly", throttledBriefly, func(w walker) {
		w.open(w.h.request("album"))
		w.signIn("alex", "wrong password")
		w.signIn("alex", "wrong password")
	}},
	{"sign-in-again", plain, func(w walker) {
		w.open(w.h.request("album"))
		w.signIn("alex", alexPassword)
		w.open(w.h.request("album", "prompt", "login"))
	}},
	{"sign-in-other", plain, func(w walker) {
		w.open(w.h.request("album"))
		w.signIn("alex", alexPassword)
		w.open(w.h.request("album", "prompt", "select_account"))
	}},
	{"sign-in-branded", branded, func(w walker) { w.open(w.h.request("long")) }},
	{"consent", plain, func(w walker) {
		w.open(w.h.request("album", "scope", "openid profile email offline_access"))
		w.signIn("alex", alexPassword)
	}},
	{"consent-branded", branded, func(w walker) {
		b := w.h.browser()
		before := atConsent(w.h, b, w.h.request("long", "scope", "openid profile"), "maximiliane", "correct horse maximiliane")
		b.get(b.submit(before, "decision", "allow").location())
		w.open(w.h.request("long", "scope", "openid profile email phone address photos:read photos:write files.readwrite.all:including_shared_ones offline_access",
			"resource", "https://api.example/photos/v1"))
		w.signIn("maximiliane", "correct horse maximiliane")
	}},
	{"sign-in-account", plain, func(w walker) { w.open(w.h.base + "/account") }},
	{"account-sessions", busy, func(w walker) { w.enter("/account/sessions") }},
	{"account-sessions-first", plain, func(w walker) { w.enter("/account/sessions") }},
	{"account-history", busy, func(w walker) { w.enter("/account/history") }},
	{"account-permissions", busy, func(w walker) { w.enter("/account/permissions") }},
	{"account-password", busy, func(w walker) { w.enter("/account/password") }},
	{"account-password-short", busy, func(w walker) {
		w.enter("/account/password")
		w.fill(map[string]string{"old": alexPassword, "new": "short", "again": "short"})
	}},
	{"account-end", busy, func(w walker) {
		w.enter("/account/sessions")
		w.click(".entry:not(.entry-current) a.button-bad")
	}},
	{"account-end-all", busy, func(w walker) {
		w.enter("/account/sessions")
		w.click(".ending a.button-bad")
	}},
	{"account-end-others", busy, func(w walker) {
		w.enter("/account/sessions")
		w.click(".ending a.button:not(.button-bad)")
	}},
	{"account-notices", asked, func(w walker) {
		w.enter("/account/sessions")
		w.do(chromedp.Click(chromedp.CSS(".questions summary")))
	}},
	{"account-rename-long", busy, func(w walker) {
		w.enter("/account/sessions")
		w.click(".entry-current a.button:not(.button-bad)")
		w.fill(map[string]string{"device": strings.Repeat("Küchentisch ", 8)})
	}},
	{"account-rename", busy, func(w walker) {
		w.enter("/account/sessions")
		w.click(".entry-current a.button:not(.button-bad)")
	}},
	{"account-withdraw", busy, func(w walker) {
		w.enter("/account/permissions")
		w.click("a.button-bad")
	}},
	{"account-stale", busy, func(w walker) {
		w.enter("/account/sessions/" + strings.Repeat("0", 64) + "/end")
	}},
	{"home", plain, func(w walker) { w.open(w.h.base + "/login") }},
	{"home-signed-in", plain, func(w walker) {
		w.open(w.h.request("album"))
		w.signIn("alex", alexPassword)
		w.open(w.h.base + "/login")
	}},
	{"sign-out", plain, func(w walker) {
		w.open(w.h.request("album"))
		w.signIn("alex", alexPassword)
		w.open(w.h.base + "/logout")
	}},
	{"signed-out", plain, func(w walker) { w.open(w.h.base + "/logout") }},
	{"sign-out-asked", plain, func(w walker) {
		w.leaving("album", "house", "long")
		w.open(w.h.endSession("client_id", "album", "post_logout_redirect_uri", "https://album.example/bye"))
	}},
	{"sign-out-asked-other", branded, func(w walker) {
		w.leaving("album")
		w.open(w.h.endSession("client_id", "long", "logout_hint", "maximiliane@example.org"))
	}},
	{"signed-out-ended", plain, func(w walker) {
		w.leaving("album", "house", "long")
		w.open(w.h.base + "/logout")
		w.press("form[action$='/logout'] button")
	}},
	{"signed-out-back", plain, func(w walker) {
		w.open(w.h.endSession("client_id", "album", "post_logout_redirect_uri", "https://album.example/bye"))
	}},
	{"error-request", plain, func(w walker) { w.open(w.h.request("album", "redirect_uri", "https://other.example/")) }},
	{"error-link", plain, func(w walker) {
		w.open(w.h.base + "/login?" + url.Values{"as": {"myAS"}, "stamp": {"x"}, "request": {"client_id=album"}}.Encode())
	}},
	{"error-cookies", plain, func(w walker) { w.fail(w.h.pages.CookiesBlocked) }},
	{"error-unavailable", plain, func(w walker) {
		w.fail(func(out http.ResponseWriter, r *http.Request) {
			w.h.pages.Error(out, r, 503, "temporarily_unavailable", "")
		})
	}},
	{"error-missing", plain, func(w walker) { w.open(w.h.base + "/static/nothing") }},
}

// smaller writes a picture with a palette: the colours that it has most of, and
// for the others the nearest of those.
func smaller(t *testing.T, shot []byte) []byte {
	t.Helper()
	from, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		t.Fatal(err)
	}
	flat := image.NewRGBA(from.Bounds())
	draw.Draw(flat, flat.Bounds(), from, from.Bounds().Min, draw.Src)
	at := func(i int) color.RGBA {
		return color.RGBA{flat.Pix[4*i], flat.Pix[4*i+1], flat.Pix[4*i+2], 0xff}
	}
	count := map[color.RGBA]int{}
	for i := range len(flat.Pix) / 4 {
		count[at(i)]++
	}
	colours := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int {
		return cmp.Or(count[b]-count[a], cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)))
	})
	palette := color.Palette{}
	for _, c := range colours[:min(256, len(colours))] {
		palette = append(palette, c)
	}
	few := image.NewPaletted(flat.Bounds(), palette)
	nearest := map[color.RGBA]uint8{}
	for i := range few.Pix {
		c := at(i)
		index, known := nearest[c]
		if !known {
			index = uint8(palette.Index(c))
			nearest[c] = index
		}
		few.Pix[i] = index
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, few); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
