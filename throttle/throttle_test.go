package throttle_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/storage"
	"gatehouse.dev/gatehouse/throttle"
)

// mac is a MAC under a key.
func mac(key string) func([]byte) []byte {
	return func(data []byte) []byte {
		h := hmac.New(sha256.New, []byte(key))
		h.Write(data)
		return h.Sum(nil)
	}
}

// gate is a throttle on a database, with a clock.
type gate struct {
	*testing.T
	*throttle.Throttle
	mu     sync.Mutex
	time   time.Time
	folder string
	realm  *storage.Realm
}

func (g *gate) now() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.time
}

func (g *gate) pass(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.time = g.time.Add(d)
}

// open makes a throttle on a new database; change may alter its configuration.
func open(t *testing.T, change func(*throttle.Config)) *gate {
	t.Helper()
	g := &gate{T: t, time: time.Date(2031, 5, 6, 7, 8, 9, 123_456_789, time.UTC), folder: t.TempDir()}
	db, err := storage.Open(t.Context(), storage.Config{URL: "sqlite:" + filepath.Join(g.folder, "gate.db"), Now: g.now, Logger: slog.New(slog.DiscardHandler)})
	g.must(err)
	t.Cleanup(func() { g.must(db.Close()) })
	g.must(db.Migrate(t.Context()))
	g.realm = db.Realm(storage.RealmConfig{Name: "staff"})
	cfg := throttle.Config{Realm: "staff", Secure: true, Store: g.realm, MAC: mac("key"), Now: g.now}
	if change != nil {
		change(&cfg)
	}
	g.Throttle, err = throttle.New(cfg)
	g.must(err)
	return g
}

func (g *gate) must(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// try makes an attempt: how long it has to wait, 0 where it was admitted.
func (g *gate) try(a throttle.Attempt) (*throttle.Admission, time.Duration) {
	g.Helper()
	admission, err := g.Admit(g.Context(), a)
	if blocked := (*throttle.Blocked)(nil); errors.As(err, &blocked) {
		return nil, blocked.Wait
	}
	g.must(err)
	return admission, 0
}

// fails makes n attempts whose passwords are wrong, and tells how many were
// admitted.
func (g *gate) fails(n int, a throttle.Attempt) int {
	g.Helper()
	admitted := 0
	for range n {
		if _, wait := g.try(a); wait == 0 {
			admitted++
		}
	}
	return admitted
}

func (g *gate) waits(a throttle.Attempt, want time.Duration, what string) {
	g.Helper()
	if _, got := g.try(a); got != want {
		g.Errorf("%s: waits %v, want %v", what, got, want)
	}
}

func TestAttacksAreLimited(t *testing.T) {
	for _, c := range []struct {
		name    string
		attempt func(i int) throttle.Attempt
		tries   int
		want    int // how many are admitted
	}{
		{"one account from one address", func(int) throttle.Attempt { return throttle.Attempt{Account: "alex", Address: "203.0.113.9"} }, 40, 10},
		{"one account from many addresses", func(i int) throttle.Attempt {
			return throttle.Attempt{Account: "alex", Address: fmt.Sprintf("203.0.113.%d", i)}
		}, 200, 10},
		{"one account from many networks", func(i int) throttle.Attempt {
			return throttle.Attempt{Account: "alex", Address: fmt.Sprintf("2001:db8:%x::1", i)}
		}, 200, 10},
		{"many accounts from one address", func(i int) throttle.Attempt {
			return throttle.Attempt{Account: fmt.Sprint("user", i), Address: "203.0.113.9"}
		}, 200, 100},
		{"many accounts from one IPv6 network", func(i int) throttle.Attempt {
			return throttle.Attempt{Account: fmt.Sprint("user", i), Address: fmt.Sprintf("2001:db8:1:2:%x:%x::%x", i, i*7, i)}
		}, 200, 100},
		{"many accounts from one IPv6 network with zones", func(i int) throttle.Attempt {
			return throttle.Attempt{Account: fmt.Sprint("user", i), Address: fmt.Sprintf("fe80::1%%eth%d", i)}
		}, 200, 100},
		{"many accounts from one address in many spellings", func(i int) throttle.Attempt {
			return throttle.Attempt{Account: fmt.Sprint("user", i), Address: []string{"203.0.113.9", "::ffff:203.0.113.9", "::ffff:cb00:7109"}[i%3]}
		}, 200, 100},
		{"many accounts from nobody knows where", func(i int) throttle.Attempt {
			return throttle.Attempt{Account: fmt.Sprint("user", i)}
		}, 200, 100},
		{"no account", func(i int) throttle.Attempt { return throttle.Attempt{Address: fmt.Sprintf("203.0.113.%d", i)} }, 40, 10},
		{"what is no name", func(i int) throttle.Attempt {
			return throttle.Attempt{Account: "\xff\x00", Address: fmt.Sprintf("203.0.113.%d", i)}
		}, 40, 10},
		{"many people at many places", func(i int) throttle.Attempt {
			return throttle.Attempt{Account: fmt.Sprint("user", i), Address: fmt.Sprintf("203.0.113.%d", i)}
		}, 200, 200},
		{"many people in neighbouring networks", func(i int) throttle.Attempt {
			return throttle.Attempt{Account: fmt.Sprint("user", i), Address: fmt.Sprintf("2001:db8:1:%x::1", i)}
		}, 200, 200},
		{"an IPv4 address is no network", func(i int) throttle.Attempt {
			return throttle.Attempt{Account: fmt.Sprint("user", i), Address: fmt.Sprintf("::ffff:203.0.113.%d", i)}
		}, 200, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := open(t, nil)
			admitted := 0
			for i := range c.tries {
				admitted += g.fails(1, c.attempt(i))
			}
			if admitted != c.want {
				t.Errorf("%d of %d were admitted, want %d", admitted, c.tries, c.want)
			}
		})
	}
}

func TestGuessesAtOnceDoNotSlipPast(t *testing.T) {
	g := open(t, nil)
	var (
		group    sync.WaitGroup
		admitted atomic.Int64
	)
	for i := range 64 {
		group.Go(func() {
			admitted.Add(int64(g.fails(1, throttle.Attempt{Account: "alex", Address: fmt.Sprintf("203.0.113.%d", i)})))
		})
	}
	group.Wait()
	if admitted.Load() != 10 {
		t.Errorf("%d of 64 were admitted, want 10", admitted.Load())
	}
}

func TestWaitsGrowAndAreForgotten(t *testing.T) {
	g := open(t, nil)
	a := throttle.Attempt{Account: "alex", Address: "203.0.113.9"}
	g.fails(10, a)
	for _, wait := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute, 15 * time.Minute} {
		g.waits(a, wait, "after a failure")
		g.pass(wait - 1500*time.Millisecond)
		g.waits(a, 2*time.Second, "hammering, which is answered in whole seconds")
		g.pass(1499 * time.Millisecond)
		g.waits(a, time.Second, "at the end")
		g.pass(time.Millisecond)
		if g.fails(2, a) != 1 {
			t.Errorf("after a wait of %v not one attempt was admitted", wait)
		}
	}
	g.pass(30 * time.Minute)
	if n := g.fails(20, a); n != 10 {
		t.Errorf("a window after the wait %d attempts are admitted, want 10", n)
	}
	// A few failures are forgotten a window after the first.
	b := throttle.Attempt{Account: "bea", Address: "203.0.113.10"}
	for range 5 {
		if n := g.fails(9, b); n != 9 {
			t.Errorf("%d attempts were admitted, want 9", n)
		}
		g.pass(15 * time.Minute)
	}
}

func TestRightPasswordIsGivenBack(t *testing.T) {
	g := open(t, nil)
	a := throttle.Attempt{Account: "alex", Address: "203.0.113.9"}
	g.fails(9, a)
	for range 20 {
		admission, wait := g.try(a)
		if wait != 0 {
			t.Fatalf("the owner waits %v", wait)
		}
		// The browser may have gone when the password has been judged.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		g.must(admission.GiveBack(ctx))
	}
	// The owner's sign-ins give the attacker nothing.
	if n := g.fails(10, a); n != 1 {
		t.Errorf("after 9 failures %d were admitted, want 1", n)
	}
}

// An attacker who can sign in to an account of his own gets no more guesses at
// others by doing so.
func TestOwnAccountDoesNotClearTheAddress(t *testing.T) {
	g := open(t, nil)
	guesses := 0
	for i := range 200 {
		guesses += g.fails(1, throttle.Attempt{Account: fmt.Sprint("victim", i), Address: "203.0.113.9"})
		if admission, wait := g.try(throttle.Attempt{Account: "mallory", Address: "203.0.113.9"}); wait == 0 {
			g.must(admission.GiveBack(t.Context()))
		}
	}
	if guesses != 100 {
		t.Errorf("%d guesses, want 100", guesses)
	}
}

func TestRefusedAttemptsCountForNothing(t *testing.T) {
	g := open(t, nil)
	g.fails(10, throttle.Attempt{Account: "alex", Address: "203.0.113.1"})
	// Whoever hammers a blocked account, a neighbour of ours, blocks nobody's address.
	if n := g.fails(300, throttle.Attempt{Account: "alex", Address: "203.0.113.9"}); n != 0 {
		t.Fatalf("%d were admitted", n)
	}
	if n := g.fails(9, throttle.Attempt{Account: "bea", Address: "203.0.113.9"}); n != 9 {
		t.Errorf("%d of bea's attempts were admitted", n)
	}
}

func TestKnownBrowserIsNotLockedOut(t *testing.T) {
	g := open(t, nil)
	owner := throttle.Attempt{Account: "alex", Address: "203.0.113.9", UserID: "id-of-alex"}
	stranger := throttle.Attempt{Account: "alex", Address: "203.0.113.9"}
	g.fails(10, stranger)
	for i := range 200 { // the owner's address is blocked as well
		g.fails(1, throttle.Attempt{Account: fmt.Sprint("victim", i), Address: "203.0.113.9"})
	}
	g.waits(stranger, 30*time.Second, "whoever is not known")
	for range 50 {
		admission, wait := g.try(owner)
		if wait != 0 {
			t.Fatalf("the owner waits %v", wait)
		}
		g.must(admission.GiveBack(t.Context()))
	}
	if n := g.fails(30, owner); n != 20 {
		t.Errorf("%d attempts from known browsers were admitted, want 20", n)
	}
	g.waits(owner, 30*time.Second, "a known browser that has failed too often")
	// Another account's known browsers have their own counter.
	g.waits(throttle.Attempt{Account: "bea", Address: "203.0.113.9", UserID: "id-of-bea"}, 0, "another known browser")
}

// Who has stolen the cookie has as many guesses more as it allows, and can't
// lock the owner out with it.
func TestStolenCookieIsWorthLittle(t *testing.T) {
	g := open(t, nil)
	thief := throttle.Attempt{Account: "alex", Address: "198.51.100.1", UserID: "id-of-alex"}
	if n := g.fails(20, thief); n != 20 {
		t.Fatalf("%d of 20 were admitted", n)
	}
	owner := throttle.Attempt{Account: "alex", Address: "203.0.113.9", UserID: "id-of-alex"}
	admission, wait := g.try(owner)
	if wait != 0 {
		t.Fatalf("the owner waits %v", wait)
	}
	g.must(admission.GiveBack(t.Context()))
	if n := g.fails(100, thief); n != 10 {
		t.Errorf("the thief has %d guesses more, want those that anybody has", n)
	}
	g.pass(10 * time.Second)
	g.waits(thief, 20*time.Second, "the thief")
	if n := g.fails(10, throttle.Attempt{Account: "bea", Address: "198.51.100.2"}); n != 10 {
		t.Errorf("%d attempts at another account were admitted", n)
	}
}

func TestInventedNamesFillBoundedRows(t *testing.T) {
	g := open(t, func(cfg *throttle.Config) { cfg.Buckets = 16 })
	for i := range 300 {
		a := throttle.Attempt{Account: fmt.Sprint("invented", i), Address: fmt.Sprintf("2001:db8:%x::1", i)}
		if i%3 == 0 {
			a.UserID = fmt.Sprint("id", i)
		}
		g.fails(1, a)
	}
	n, err := g.Sweep(t.Context(), g.now().Add(48*time.Hour), 1000)
	g.must(err)
	if n > 3*16 || n < 2*16 {
		t.Errorf("%d counters, want at most 16 of each kind", n)
	}
	// By default there are so many that people hardly ever share one.
	g = open(t, func(cfg *throttle.Config) { cfg.Limits = throttle.Limits{Account: 1, Address: 1} })
	n = 0
	for i := range 200 {
		n += g.fails(1, throttle.Attempt{Account: fmt.Sprint("a", i), Address: fmt.Sprintf("198.51.%d.1", i)})
	}
	if n < 195 {
		t.Errorf("%d of 200 have counters of their own", n)
	}
}

func TestSweepRemovesWhatHasExpired(t *testing.T) {
	g := open(t, nil)
	for i := range 5 {
		g.fails(1, throttle.Attempt{Account: fmt.Sprint("user", i), Address: "203.0.113.9"})
	}
	swept := func(limit, want int) {
		t.Helper()
		if n, err := g.Sweep(t.Context(), g.now(), limit); err != nil || n != want {
			t.Errorf("swept %d, %v; want %d", n, err, want)
		}
	}
	swept(100, 0)
	g.pass(15 * time.Minute)
	swept(4, 4)
	swept(4, 2)
	swept(4, 0)
}

// Neither names nor addresses are kept, and without the key nobody knows whose
// counter is whose.
func TestNamesAndAddressesAreNotKept(t *testing.T) {
	g := open(t, nil)
	g.fails(10, throttle.Attempt{Account: "victim-of-the-day", Address: "203.0.113.91", UserID: "id-of-the-victim"})
	g.fails(30, throttle.Attempt{Account: "victim-of-the-day", Address: "2001:db8:77::91"})
	files, err := os.ReadDir(g.folder)
	g.must(err)
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(g.folder, file.Name()))
		g.must(err)
		for _, told := range []string{"victim", "203.0.113.91", "2001:db8:77"} {
			if bytes.Contains(content, []byte(told)) {
				t.Errorf("%s has %q", file.Name(), told)
			}
		}
	}
	var buckets []int64
	for _, key := range []string{"key", "another key"} {
		store := &spy{Store: g.realm}
		other, err := throttle.New(throttle.Config{Realm: "staff", Store: store, MAC: mac(key), Now: g.now})
		g.must(err)
		_, _ = other.Admit(t.Context(), throttle.Attempt{Account: "alex", Address: "alex"})
		buckets = append(buckets, store.asked[0].Bucket, store.asked[1].Bucket)
	}
	for i := range buckets {
		for j := range i {
			if buckets[i] == buckets[j] {
				t.Errorf("one bucket for two kinds or keys: %v", buckets)
			}
		}
	}
}

// spy notes which counters a store was asked for.
type spy struct {
	throttle.Store
	asked []throttle.Counter
}

func (s *spy) CountAttempt(ctx context.Context, counters []throttle.Counter, rule throttle.Rule, now time.Time) ([]throttle.Counted, time.Time, error) {
	s.asked = append(s.asked, counters...)
	return s.Store.CountAttempt(ctx, counters, rule, now)
}

func TestUnreachableStoreAdmitsNobody(t *testing.T) {
	g := open(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, a := range []throttle.Attempt{{Account: "alex", Address: "203.0.113.9"}, {Account: "alex", UserID: "id-of-alex"}} {
		admission, err := g.Admit(ctx, a)
		if blocked := (*throttle.Blocked)(nil); admission != nil || err == nil || errors.As(err, &blocked) {
			t.Errorf("admitted %v, error %v", admission, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*throttle.Config){
		"no realm":              func(c *throttle.Config) { c.Realm = "" },
		"no store":              func(c *throttle.Config) { c.Store = nil },
		"no MAC":                func(c *throttle.Config) { c.MAC = nil },
		"short MAC":             func(c *throttle.Config) { c.MAC = func([]byte) []byte { return make([]byte, 15) } },
		"negative account":      func(c *throttle.Config) { c.Limits.Account = -1 },
		"negative address":      func(c *throttle.Config) { c.Limits.Address = -1 },
		"negative device":       func(c *throttle.Config) { c.Limits.Device = -1 },
		"negative window":       func(c *throttle.Config) { c.Limits.Window = -1 },
		"window below a tick":   func(c *throttle.Config) { c.Limits.Window = time.Microsecond },
		"window beyond a day":   func(c *throttle.Config) { c.Limits.Window = 25 * time.Hour },
		"negative wait":         func(c *throttle.Config) { c.Limits.FirstWait = -time.Second },
		"wait below a tick":     func(c *throttle.Config) { c.Limits.FirstWait = time.Microsecond },
		"wait beyond window":    func(c *throttle.Config) { c.Limits.Window, c.Limits.FirstWait = time.Minute, 2*time.Minute },
		"negative many buckets": func(c *throttle.Config) { c.Buckets = -1 },
	} {
		cfg := throttle.Config{Realm: "staff", Store: &storage.Realm{}, MAC: mac("key")}
		if _, err := throttle.New(cfg); err != nil {
			t.Fatal(err)
		}
		change(&cfg)
		if _, err := throttle.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// A short window shortens the first wait that nobody has chosen.
	if _, err := throttle.New(throttle.Config{Realm: "staff", Store: &storage.Realm{}, MAC: mac("key"), Limits: throttle.Limits{Window: time.Second}}); err != nil {
		t.Error(err)
	}
}
