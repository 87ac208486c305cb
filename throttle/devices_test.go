package throttle_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/throttle"
)

// browser keeps the cookie of known browsers.
type browser struct {
	t      *testing.T
	cookie *http.Cookie
}

func (b *browser) request() *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/login", nil)
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	return r
}

// remember signs the browser in to an account.
func (b *browser) remember(g *gate, userID string) *http.Cookie {
	b.t.Helper()
	w := httptest.NewRecorder()
	g.Remember(w, b.request(), userID)
	list := w.Result().Cookies()
	if len(list) != 1 {
		b.t.Fatalf("%d cookies were set", len(list))
	}
	b.cookie = list[0]
	return b.cookie
}

func TestCookieOfKnownBrowsers(t *testing.T) {
	for secure, name := range map[bool]string{true: "__Host-gatehouse-known.staff", false: "gatehouse-known.staff"} {
		g := open(t, func(cfg *throttle.Config) { cfg.Secure = secure })
		c := (&browser{t: t}).remember(g, "4e0c4d5e-alex")
		if c.Name != name || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.Secure != secure {
			t.Errorf("cookie %+v", c)
		}
		if days := c.MaxAge / (24 * 60 * 60); days < 300 || days > 400 {
			t.Errorf("it lives for %d days", days)
		}
		raw, err := base64.RawURLEncoding.DecodeString(c.Value)
		if err != nil || len(raw) != 16 || strings.Contains(string(raw), "alex") {
			t.Errorf("its value is %q", raw)
		}
		// It is the same in every browser, so it follows none.
		if other := (&browser{t: t}).remember(g, "4e0c4d5e-alex"); other.Value != c.Value {
			t.Error("two browsers of one user differ")
		}
	}
}

func TestForeignCookiesMakeNoBrowserKnown(t *testing.T) {
	g := open(t, nil)
	own, other := (&browser{t: t}).remember(g, "alex"), (&browser{t: t}).remember(g, "bea")
	realm := open(t, func(cfg *throttle.Config) { cfg.Realm = "guests" })
	key := open(t, func(cfg *throttle.Config) { cfg.MAC = mac("another key") })
	raw, err := base64.RawURLEncoding.DecodeString(own.Value)
	g.must(err)
	encode := base64.RawURLEncoding.EncodeToString
	flipped := append([]byte{}, raw...)
	flipped[15] ^= 1
	for _, c := range []struct {
		name, cookie, value, user string
		want                      bool
	}{
		{"own", own.Name, own.Value, "alex", true},
		{"own behind another's", own.Name, other.Value[:0] + encode(append(make([]byte, 16), raw...)), "alex", true},
		{"own, for another account", own.Name, own.Value, "bea", false},
		{"own, for no account", own.Name, own.Value, "", false},
		{"own, in another letter case", own.Name, own.Value, "Alex", false},
		{"another user's", own.Name, other.Value, "alex", false},
		{"another realm's", own.Name, (&browser{t: t}).remember(realm, "alex").Value, "alex", false},
		{"another key's", own.Name, (&browser{t: t}).remember(key, "alex").Value, "alex", false},
		{"under another name", "gatehouse-known.staff", own.Value, "alex", false},
		{"under another realm's name", "__Host-gatehouse-known.guests", own.Value, "alex", false},
		{"under the login cookie's name", "__Host-gatehouse-staff", own.Value, "alex", false},
		{"none", own.Name, "", "alex", false},
		{"zeros", own.Name, encode(make([]byte, 16)), "alex", false},
		{"one bit flipped", own.Name, encode(flipped), "alex", false},
		{"cut", own.Name, encode(raw[:15]), "alex", false},
		{"cut to a byte", own.Name, encode(raw[:1]), "alex", false},
		{"one byte more", own.Name, encode(append(raw[:16:16], 0)), "alex", false},
		{"shifted", own.Name, encode(append(append(make([]byte, 8), raw...), make([]byte, 8)...)), "alex", false},
		{"among too many", own.Name, encode(append(make([]byte, 80), raw...)), "alex", false},
		{"padded", own.Name, own.Value + "==", "alex", false},
		{"hexadecimal", own.Name, fmt.Sprintf("%x", raw), "alex", false},
		{"the id itself", own.Name, "alex", "alex", false},
		{"no base64", own.Name, strings.Repeat("!", 22), "alex", false},
		{"huge", own.Name, strings.Repeat("A", 100_000), "alex", false},
	} {
		r := httptest.NewRequest(http.MethodPost, "/login", nil)
		r.Header.Set("Cookie", c.cookie+"="+c.value)
		if got := g.Known(r, c.user); got != c.want {
			t.Errorf("%s: known %v, want %v", c.name, got, c.want)
		}
	}
	if g.Known(httptest.NewRequest(http.MethodPost, "/login", nil), "alex") {
		t.Error("known without a cookie")
	}
}

func TestCookieHasAHandfulOfAccounts(t *testing.T) {
	g := open(t, nil)
	b := &browser{t: t}
	known := func() string {
		var list []string
		for i := range 9 {
			if user := fmt.Sprint("user", i); g.Known(b.request(), user) {
				list = append(list, user)
			}
		}
		return strings.Join(list, " ")
	}
	for i := range 7 {
		b.remember(g, fmt.Sprint("user", i))
	}
	if got := known(); got != "user2 user3 user4 user5 user6" {
		t.Errorf("it knows %s", got)
	}
	for range 3 {
		b.remember(g, "user2") // which is in front now, once
	}
	b.remember(g, "user7")
	if got := known(); got != "user2 user4 user5 user6 user7" {
		t.Errorf("it knows %s", got)
	}
	if raw, err := base64.RawURLEncoding.DecodeString(b.cookie.Value); err != nil || len(raw) != 5*16 {
		t.Errorf("it has %d bytes", len(raw))
	}
	// What is not of our making is not kept.
	b.cookie.Value = "rubbish"
	b.remember(g, "user1")
	if got := known(); got != "user1" {
		t.Errorf("it knows %s", got)
	}
	w := httptest.NewRecorder()
	g.Remember(w, b.request(), "")
	if len(w.Result().Cookies()) != 0 {
		t.Error("nobody is remembered")
	}
}
