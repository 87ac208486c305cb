//go:build unix

package main

import (
	"io"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/storage"
)

// TestGuessedPasswordsAreThrottled: the server as it is put together limits
// guesses as its configuration says, by the address that the proxy tells, and
// its sweepers remove the counters.
func TestGuessedPasswordsAreThrottled(t *testing.T) {
	s := startServer(t, serverOptions{Config: func(c *configs.Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
		c.Realms["default"].Throttle = configs.Throttle{Account: 2, Address: 4, Window: time.Minute}
	}})
	at := authorizeURL(s.Issuer("myAS"))
	try := func(v *visitor, address string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
		for err == nil {
			req.Header.Set("X-Forwarded-For", address)
			var res *http.Response
			if res, err = v.do(req); err != nil {
				break
			}
			if location, none := res.Location(); none == nil && req.Method == http.MethodGet {
				req, err = http.NewRequestWithContext(t.Context(), http.MethodGet, location.String(), nil)
				continue
			}
			if req.Method == http.MethodPost {
				body, _ := io.ReadAll(res.Body)
				return res, string(body)
			}
			f, _ := v.fill(res)
			if f == nil {
				t.Fatalf("no sign-in page: %s", res.Status)
			}
			req, err = f.request(t.Context())
		}
		t.Fatal(err)
		return nil, ""
	}
	wants := func(status int, username, password, address string) *http.Response {
		t.Helper()
		res, body := try(newVisitor(nil, username, password), address)
		if res.StatusCode != status || strings.Contains(body, "Too many attempts") != (status == http.StatusTooManyRequests) {
			t.Errorf("%s from %s: %s\n%s", username, address, res.Status, body)
		}
		return res
	}

	// The owner signs in once; the browser is known from then on.
	owner := newVisitor(nil, "alex", "alex-demo")
	res, _ := try(owner, "203.0.113.1")
	if cookies := res.Header.Values("Set-Cookie"); res.StatusCode != http.StatusSeeOther ||
		!slices.ContainsFunc(cookies, func(c string) bool { return strings.HasPrefix(c, "gatehouse-known.default=") }) {
		t.Fatalf("%s with %d cookies", res.Status, len(cookies))
	}

	wants(422, "alex", "guess", "198.51.100.1")
	guessed := time.Now()
	wants(422, "alex", "guess", "198.51.100.2")
	res = wants(429, "alex", "alex-demo", "198.51.100.3")
	least := int(math.Ceil((30*time.Second - time.Since(guessed)).Seconds()))
	if after, err := strconv.Atoi(res.Header.Get("Retry-After")); err != nil || after < least || after > 30 {
		t.Errorf("Retry-After %q, want %d to 30", res.Header.Get("Retry-After"), least)
	}
	wants(429, "ALEX", "guess", "203.0.113.1")
	// Signed in, the browser would go straight on: it is asked for the password once more.
	at += "&prompt=login"
	if res, body := try(owner, "203.0.113.1"); res.StatusCode != http.StatusSeeOther {
		t.Errorf("the owner in the known browser: %s\n%s", res.Status, body)
	}
	for i, name := range []string{"bea", "nobody", "nobody-else", "admin"} {
		wants(422, name, "guess", []string{"2001:db8::1", "2001:db8::2:1"}[i%2])
	}
	wants(429, "somebody", "guess", "2001:db8::ffff")
	wants(303, "bea", "bea-demo", "2001:db8:0:1::1")
	s.Close()

	// What the sweepers of the next start find.
	db, err := storage.Open(t.Context(), storage.Config{URL: string(s.Config.Database)})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	kek, err := openKEK(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Now().Add(time.Hour) }
	h := &house{cfg: s.Config, db: db, kek: kek, now: now}
	realm := db.Realm(storage.RealmConfig{Name: "default"})
	root, err := h.openRealmRoot(t.Context(), "default", realm)
	if err != nil {
		t.Fatal(err)
	}
	guesses, err := h.newThrottle(root, "default", realm, false)
	if err != nil {
		t.Fatal(err)
	}
	swept, err := throttleSweep{guesses, now}.Sweep(t.Context(), 0, 3)
	if err != nil || swept.Marks != 3 || !swept.More {
		t.Errorf("swept %+v, %v", swept, err)
	}
	if swept, err = (throttleSweep{guesses, now}).Sweep(t.Context(), 0, 100); err != nil || swept.Marks < 5 || swept.More {
		t.Errorf("swept %+v, %v", swept, err)
	}
}
