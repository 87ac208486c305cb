package web_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/throttle"
	"gatehouse.dev/gatehouse/users"
	"gatehouse.dev/gatehouse/web"
)

// tally counts the passwords that are judged. Its clock, the throttle's, stands
// still unless it is moved on: what the machine takes to hash passwords must
// not count as waiting.
type tally struct {
	users.Store
	judged atomic.Int64
	mu     sync.Mutex
	time   time.Time
}

// UserByName is the user. Only judging a password reads him within a time.
func (c *tally) UserByName(ctx context.Context, key string) (*users.User, error) {
	if _, ok := ctx.Deadline(); ok {
		c.judged.Add(1)
	}
	return c.Store.UserByName(ctx, key)
}

func (c *tally) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time
}

func (c *tally) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time = c.time.Add(d)
}

const addressHeader = "X-Test-Address"

// openThrottled is open with limits. Browsers say where they are.
func openThrottled(t *testing.T, limits throttle.Limits, more ...func(*web.Config)) (*house, *tally) {
	t.Helper()
	clock := &tally{time: time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)}
	h := open(t, func(cfg *web.Config) {
		var err error
		cfg.Throttle, err = throttle.New(throttle.Config{Realm: "default", Store: cfg.Users.(throttle.Store), Limits: limits, Now: clock.now,
			MAC: func(data []byte) []byte {
				m := hmac.New(sha256.New, []byte("key"))
				m.Write(data)
				return m.Sum(nil)
			}})
		if err != nil {
			t.Fatal(err)
		}
		clock.Store, cfg.Users, cfg.PasswordWait = cfg.Users, clock, time.Minute
		cfg.ClientAddress = func(r *http.Request) string {
			if address := r.Header.Get(addressHeader); address != "" {
				return address
			}
			return "192.0.2.1"
		}
		for _, change := range more {
			change(cfg)
		}
	})
	return h, clock
}

// try posts the sign-in page, from an address.
func (b *browser) try(page answer, username, password, address string) answer {
	b.h.t.Helper()
	to, v := page.form("username", username, "password", password)
	return b.do(http.MethodPost, to, v.Encode(), addressHeader, address)
}

// forget takes all cookies from the browser but the one of known browsers.
func (b *browser) forget() {
	b.h.t.Helper()
	u, err := url.Parse(b.h.base)
	if err != nil {
		b.h.t.Fatal(err)
	}
	var kept []*http.Cookie
	for _, c := range b.client.Jar.Cookies(u) {
		if strings.HasPrefix(c.Name, "gatehouse-known.") {
			kept = append(kept, &http.Cookie{Name: c.Name, Value: c.Value, Path: "/"})
		}
	}
	if b.client.Jar, err = cookiejar.New(nil); err != nil {
		b.h.t.Fatal(err)
	}
	b.client.Jar.SetCookies(u, kept)
}

func TestTooManyFailedSignInsHaveToWait(t *testing.T) {
	h, clock := openThrottled(t, throttle.Limits{Account: 3})
	b := h.browser()
	page := b.get(h.request("album"))
	for range 3 {
		b.try(page, "alex", "wrong password", "").expect(422, "User name or password is wrong.")
	}
	const want = `>30 seconds</strong>.`
	// The right password makes no difference: nobody looks at it.
	judged := clock.judged.Load()
	for _, password := range []string{"wrong password", alexPassword} {
		a := b.try(page, " Alex ", password, "").expect(429, want, "Too many attempts to sign in have failed. You can try again in <strong role=\"timer\" data-left=\"30\"", "<title>Sign-in failed – Sign in – Gatehouse</title>",
			`role="alert"`, `name="stamp"`, `autocomplete="current-password"`)
		if a.header.Get("Retry-After") != "30" || a.header.Get("Set-Cookie") != "" || a.header.Get("Cache-Control") != "no-store" ||
			a.header.Get("Content-Security-Policy") == "" || strings.Contains(a.body, password) {
			t.Errorf("headers %v", a.header)
		}
	}
	if n := clock.judged.Load() - judged; judged != 3 || n != 0 {
		t.Errorf("%d and %d passwords were judged, want 3 and none", judged, n)
	}
	b.accept = "de"
	b.try(page, "alex", "wrong password", "").expect(429, "Zu viele Anmeldeversuche sind fehlgeschlagen. In <strong role=\"timer\"", ">30 Sekunden</strong> können Sie")
	b.accept = ""
	clock.pass(30 * time.Second)
	b.try(page, "alex", "wrong password", "").expect(422)
	a := b.try(page, "alex", alexPassword, "").expect(429, ">one minute</strong>, at <time datetime=", " UTC</time>.")
	if a.header.Get("Retry-After") != "60" {
		t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
	}
	clock.pass(time.Minute)
	// The form of the refusal works.
	b.try(a, "alex", alexPassword, "").expect(303)
	if len(h.logins("alex")) != 1 {
		t.Error("there is no login")
	}
	// Empty fields are no attempt.
	for range 5 {
		b.try(page, "bob", "", "").expect(422)
	}
	b.try(page, "bob", bobPassword, "").expect(303)
}

// TestRefusalTellsNothing: who has an account can be read neither from the
// answer nor from when it comes.
func TestRefusalTellsNothing(t *testing.T) {
	h, clock := openThrottled(t, throttle.Limits{Account: 3})
	page := h.browser().get(h.request("album"))
	answers := map[string][]string{}
	names := []string{"alex", "nobody", "no body\u0007"}
	for _, name := range names {
		for i := range 6 {
			b := h.browser()
			a := b.try(page, name, "wrong password", fmt.Sprintf("198.51.100.%d", i))
			text := fmt.Sprint(a.status, a.header["Retry-After"], a.header["Set-Cookie"], seals.ReplaceAllString(a.body, ""))
			answers[name] = append(answers[name], strings.ReplaceAll(text, `value="`+name+`"`, ""))
			if i == 4 {
				clock.pass(30 * time.Second)
			}
		}
		clock.pass(-30 * time.Second)
	}
	for _, name := range names[1:] {
		for i := range answers[name] {
			if answers[name][i] != answers["alex"][i] {
				t.Errorf("attempt %d of %q:\n%s\nof alex:\n%s", i, name, answers[name][i], answers["alex"][i])
			}
		}
	}
	if !strings.HasPrefix(answers["alex"][2], "422") || !strings.HasPrefix(answers["alex"][3], "429") || !strings.HasPrefix(answers["alex"][5], "422") {
		t.Errorf("answers:\n%s", strings.Join(answers["alex"], "\n"))
	}
}

// TestGuessesAtOnceAreNotHashed: an attempt is counted before its password is
// judged, and so of many at once as many are judged as are allowed.
func TestGuessesAtOnceAreNotHashed(t *testing.T) {
	h, tally := openThrottled(t, throttle.Limits{Account: 10})
	page := h.browser().get(h.request("album"))
	to, v := page.form("username", "alex", "password", "wrong password")
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		got   = map[int]int{}
	)
	for i := range 64 {
		b := h.browser()
		group.Go(func() {
			a := b.do(http.MethodPost, to, v.Encode(), addressHeader, fmt.Sprintf("198.51.100.%d", i))
			mu.Lock()
			defer mu.Unlock()
			got[a.status]++
		})
	}
	group.Wait()
	if got[422] != 10 || got[429] != 54 {
		t.Errorf("answers by status: %v, want 10 of 422 and 54 of 429", got)
	}
	if n := tally.judged.Load(); n != 10 {
		t.Errorf("%d of 64 passwords were judged, want 10", n)
	}
}

func TestOneAddressTriesManyAccounts(t *testing.T) {
	h, _ := openThrottled(t, throttle.Limits{Address: 4})
	b := h.browser()
	page := b.get(h.request("album"))
	for i := range 4 {
		b.try(page, fmt.Sprint("somebody", i), "wrong password", fmt.Sprintf("2001:db8::%d", i)).expect(422)
	}
	b.try(page, "alex", alexPassword, "2001:db8::ffff:ffff:ffff:ffff").expect(429)
	b.try(page, "alex", alexPassword, "2001:db8:0:1::1").expect(303)
}

func TestWhatIsNoFailureIsGivenBack(t *testing.T) {
	h, _ := openThrottled(t, throttle.Limits{Account: 2, Address: 2})
	h.addUser("locked", "correct horse locked", "")
	h.lock("locked")
	h.browser().try(h.browser().get(h.request("album")), "alex", "wrong password", "").expect(422)
	for range 4 {
		b := h.browser() // which is known nowhere
		page := b.get(h.request("album"))
		b.try(page, "locked", "correct horse locked", "").expect(422, "This account is locked.")
		b.try(page, "alex", alexPassword, "").expect(303)
	}
	h.browser().try(h.browser().get(h.request("album")), "alex", "wrong password", "").expect(422)
	h.browser().try(h.browser().get(h.request("album")), "alex", alexPassword, "").expect(429)
}

func TestOwnersBrowserGetsInDuringAnAttack(t *testing.T) {
	h, _ := openThrottled(t, throttle.Limits{Account: 3, Address: 5, Device: 4})
	owner, bobs, attacker := h.browser(), h.browser(), h.browser()
	a := owner.signIn(h.request("house"), "alex", alexPassword)
	cookies := a.header.Values("Set-Cookie")
	if len(cookies) != 2 || !strings.HasPrefix(cookies[1], "gatehouse-known.default=") || !strings.Contains(cookies[1], "HttpOnly") ||
		!strings.Contains(cookies[1], "SameSite=Lax") || !strings.Contains(cookies[1], "Max-Age=31536000") {
		t.Errorf("cookies %d: %v", len(cookies), strings.Join(cookies[min(1, len(cookies)):], "\n"))
	}
	bobs.signIn(h.request("house"), "bob", bobPassword)
	owner.forget()
	bobs.forget()

	page := attacker.get(h.request("album"))
	for i := range 8 { // the account, and the address that all of them share
		attacker.try(page, "alex", "wrong password", fmt.Sprintf("198.51.100.%d", i))
		attacker.try(page, fmt.Sprint("somebody", i), "wrong password", "")
	}
	attacker.try(page, "alex", alexPassword, "").expect(429)
	attacker.try(page, "alex", alexPassword, "203.0.113.77").expect(429)
	// Another user's browser is no better, nor is one with a cookie of its own making.
	bobs.try(bobs.get(h.request("album")), "alex", alexPassword, "203.0.113.77").expect(429)
	u, err := url.Parse(h.base)
	if err != nil {
		t.Fatal(err)
	}
	attacker.client.Jar.SetCookies(u, []*http.Cookie{{Name: "gatehouse-known.default", Value: strings.Repeat("A", 22), Path: "/"}})
	attacker.try(page, "alex", alexPassword, "203.0.113.77").expect(429)

	ownersPage := owner.get(h.request("album"))
	owner.try(ownersPage, "alex", "mistyped", "").expect(422)
	owner.try(ownersPage, "alex", alexPassword, "").expect(303)
	if len(h.logins("alex")) != 2 {
		t.Errorf("alex has %d logins", len(h.logins("alex")))
	}
	// Known for one account, it is like any other for the rest.
	owner.forget()
	owner.try(ownersPage, "bob", bobPassword, "").expect(429)
	// It has a limit of its own.
	for range 3 {
		owner.try(ownersPage, "alex", "wrong password", "").expect(422)
	}
	owner.try(ownersPage, "alex", alexPassword, "").expect(429)
}

func TestFailedSignInMakesNoBrowserKnown(t *testing.T) {
	h, _ := openThrottled(t, throttle.Limits{})
	b := h.browser()
	page := b.get(h.request("album"))
	for _, password := range []string{"wrong password", "", bobPassword} {
		if a := b.try(page, "alex", password, "").expect(422); a.header.Get("Set-Cookie") != "" {
			t.Errorf("cookie %q", a.header.Get("Set-Cookie"))
		}
	}
}
