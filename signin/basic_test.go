package signin_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/signin"
	"gatehouse.dev/gatehouse/storage"
	"gatehouse.dev/gatehouse/throttle"
	"gatehouse.dev/gatehouse/users"
)

const password = "correct horse alex"

// gatepost is a realm whose passwords are judged.
type gatepost struct {
	*testing.T
	*signin.Basic
	judge     *signin.Judge
	realm     *storage.Realm
	passwords *users.Passwords
	attempts  atomic.Int64 // that reached the throttle, which is where hashing begins
	mu        sync.Mutex
	time      time.Time
}

func (g *gatepost) now() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.time
}

func (g *gatepost) pass(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.time = g.time.Add(d)
}

// counted counts the attempts that reach the throttle.
type counted struct {
	throttle.Store
	g *gatepost
}

func (c counted) CountAttempt(ctx context.Context, counters []throttle.Counter, rule throttle.Rule, now time.Time) ([]throttle.Counted, time.Time, error) {
	c.g.attempts.Add(1)
	return c.Store.CountAttempt(ctx, counters, rule, now)
}

func open(t *testing.T) *gatepost {
	t.Helper()
	g := &gatepost{T: t, time: time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	db, err := storage.Open(t.Context(), storage.Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "gate.db"), Now: g.now, Logger: slog.New(slog.DiscardHandler)})
	must(err)
	t.Cleanup(func() { must(db.Close()) })
	must(db.Migrate(t.Context()))
	g.realm = db.Realm(storage.RealmConfig{Name: "staff"})
	g.passwords, err = users.NewPasswords(1)
	must(err)
	for _, name := range []string{"alex", "bea"} {
		phc, err := g.passwords.Hash(t.Context(), "correct horse "+name)
		must(err)
		must(g.realm.InsertUser(t.Context(), &users.User{ID: "id-" + name, Username: name, Password: phc, Salt: []byte("s"), CreatedAt: g.now()}))
	}
	limits, err := throttle.New(throttle.Config{Realm: "staff", Store: counted{g.realm, g}, Now: g.now, Limits: throttle.Limits{Account: 3},
		MAC: func(data []byte) []byte {
			m := hmac.New(sha256.New, []byte("key"))
			m.Write(data)
			return m.Sum(nil)
		}})
	must(err)
	g.judge, err = signin.New(signin.Config{Users: g.realm, Passwords: g.passwords, Throttle: limits, Audit: g.realm, Wait: time.Minute,
		Address: func(*http.Request) string { return "192.0.2.1" }, Now: g.now, Logger: slog.New(slog.DiscardHandler)})
	must(err)
	g.Basic = signin.NewBasic(g.judge)
	return g
}

func request() *http.Request { return httptest.NewRequest(http.MethodGet, "/", nil) }

// wants makes a call and tells what must come of it, and whether a password was
// hashed.
func (g *gatepost) wants(name, typed string, want error, hashed bool, what string) {
	g.Helper()
	before := g.attempts.Load()
	user, err := g.Authenticate(request(), name, typed)
	if (want == nil) != (err == nil) || !errors.Is(err, want) || (err == nil && user.Username != name) {
		g.Errorf("%s: %v, want %v", what, err, want)
	}
	if got := g.attempts.Load() > before; got != hashed {
		g.Errorf("%s: the throttle was asked: %v, want %v", what, got, hashed)
	}
}

func TestRightPasswordIsHashedOnceInAWhile(t *testing.T) {
	g := open(t)
	g.wants("alex", password, nil, true, "at first")
	for range 50 {
		g.wants("alex", password, nil, false, "polling")
	}
	g.pass(30 * time.Second)
	g.wants("alex", password, nil, true, "after a while")
	g.wants("bea", password, users.ErrCredentials, true, "alex's password of bea")
	g.wants("bea", "correct horse bea", nil, true, "bea")
	g.wants("alex", password, nil, false, "alex, still")
}

func TestNewPasswordAndLockAreEffectiveAtOnce(t *testing.T) {
	g := open(t)
	g.wants("alex", password, nil, true, "at first")
	phc, err := g.passwords.Hash(t.Context(), "another horse")
	if err != nil {
		t.Fatal(err)
	}
	end := func(effect sessions.Effect) {
		t.Helper()
		if _, err := g.realm.End(t.Context(), sessions.Target{User: "id-alex"}, sessions.Ending{Reason: sessions.ReasonPasswordChanged, Effects: []sessions.Effect{effect}}); err != nil {
			t.Fatal(err)
		}
	}
	end(sessions.SetPassword{UserID: "id-alex", PHC: phc})
	g.wants("alex", password, users.ErrCredentials, true, "the old password")
	g.wants("alex", "another horse", nil, true, "the new one")
	g.wants("alex", "another horse", nil, false, "the new one again")
	end(sessions.LockUser{UserID: "id-alex"})
	g.wants("alex", "another horse", users.ErrLocked, false, "locked")
	g.wants("alex", "wrong", users.ErrCredentials, true, "locked, wrong")
}

// A guess must not learn from what is remembered that it is right while the
// throttle would not have looked at it.
func TestGuessIsNotSparedTheThrottle(t *testing.T) {
	g := open(t)
	g.wants("alex", password, nil, true, "the owner")
	for i := range 3 {
		g.wants("alex", fmt.Sprint("guess ", i), users.ErrCredentials, true, "a guess")
	}
	for _, typed := range []string{"guess", password, password} {
		before := g.attempts.Load()
		_, err := g.Authenticate(request(), "alex", typed)
		if blocked := (*throttle.Blocked)(nil); !errors.As(err, &blocked) || g.attempts.Load() == before {
			t.Errorf("%q while the account is blocked: %v", typed, err)
		}
	}
	events, err := g.realm.Events(t.Context(), audit.Filter{Result: audit.Refused})
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, e := range events {
		count[e.Reason] += e.Count
	}
	if count[audit.WrongCredentials] != 3 || count[audit.Throttled] != 3 {
		t.Errorf("recorded: %v", count)
	}
}

// However many calls there are, a person at the sign-in page waits for one of
// them at most.
func TestManyCallsDontStarveSignIns(t *testing.T) {
	g := open(t)
	stop := make(chan struct{})
	var group sync.WaitGroup
	var done atomic.Int64
	for i := range 40 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = g.Authenticate(request(), fmt.Sprint("nobody", i), "wrong")
					done.Add(1)
				}
			}
		})
	}
	for done.Load() < 3 { // the calls are under way
		if _, err := g.judge.Authenticate(request(), "bea", "correct horse bea"); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		before := g.attempts.Load()
		if _, err := g.judge.Authenticate(request(), "alex", password); err != nil {
			t.Error(err)
		}
		// Its own, the one that had its turn, and one that came in between reading the two.
		if n := g.attempts.Load() - before; n > 4 {
			t.Errorf("a sign-in had to wait for %d others", n-1)
		}
	}
	close(stop)
	group.Wait()
}
