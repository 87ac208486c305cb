//go:build unix

package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

// long tells whether the tests for `make test-long` run.
func long() bool { return os.Getenv("GATEHOUSE_LONG") != "" }

const (
	// renewEvery is how often a page that keeps its user signed in renews its
	// token by prompt=none, and renewals how often that is in a day.
	renewEvery = 5 * time.Minute
	renewals   = int(24 * time.Hour / renewEvery)
	// renewedToken is the lifetime of its access tokens.
	renewedToken = 5 * time.Minute
)

var dayBegins = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// dayLong are lifetimes that a day doesn't exceed.
var dayLong = sessions.Lifetimes{
	LoginIdle: 24 * time.Hour, LoginAbsolute: 720 * time.Hour, SessionIdle: 24 * time.Hour, SessionAbsolute: 720 * time.Hour,
	OfflineIdle: 720 * time.Hour, OfflineAbsolute: 8760 * time.Hour, RefreshGrace: 10 * time.Second,
}

// A day of silent renewals leaves no more rows behind than the first minutes of
// it did.
func TestSilentRenewalsLeaveNothingBehind(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) { renew(t, url, 4) })
}

func TestLongSilentRenewalsOfThousandLeaveNothingBehind(t *testing.T) {
	if !long() {
		return
	}
	for name, newDatabase := range map[string]func(*testing.T) string{"SQLite": inMemory, "PostgreSQL": databases["PostgreSQL"]} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			renew(t, newDatabase(t), 1000)
		})
	}
}

// inMemory is a SQLite database on a file system in memory, where there is one:
// half a million commits wait for no disk there.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "gatehouse-")
	if err != nil {
		return databases["SQLite"](t)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return "sqlite:" + filepath.Join(dir, "growth.db")
}

// crowd are users who are signed in, each at a client without refresh tokens.
type crowd struct {
	*testing.T
	db     *DB
	realm  *Realm
	as     *Server
	clock  atomic.Int64 // ms
	logins []string
}

func newCrowd(t *testing.T, url string, size int) *crowd {
	t.Helper()
	c := &crowd{T: t, logins: make([]string, size)}
	c.clock.Store(dayBegins.UnixMilli())
	c.db = openMigrated(t, Config{URL: url, Now: c.now})
	c.realm = c.db.Realm(RealmConfig{Name: "staff", Lifetimes: dayLong})
	c.as = c.db.For(ServerConfig{Name: "myAS", Realm: "staff", Lifetimes: dayLong})
	must(t, c.as.InsertClient(t.Context(), &clients.Client{Metadata: clients.Metadata{ClientID: "page"}}))
	c.all(func(i int) error {
		id := fmt.Sprint("user-", i)
		if err := c.realm.InsertUser(t.Context(), &users.User{ID: id, Username: id, CreatedAt: c.now()}); err != nil {
			return err
		}
		login, err := c.realm.SignIn(t.Context(), sessions.SignIn{UserID: id, AuthTime: dayBegins, CookieHash: []byte(id),
			ExpiresAt: c.now().Add(dayLong.LoginAbsolute)}, sessions.Ending{})
		if err == nil {
			c.logins[i] = login.ID
		}
		return err
	})
	return c
}

func (c *crowd) now() time.Time { return time.UnixMilli(c.clock.Load()).UTC() }

// all lets every user do something, several at once.
func (c *crowd) all(do func(i int) error) {
	c.Helper()
	var group sync.WaitGroup
	var next atomic.Int64
	for range 8 {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(c.logins); i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					c.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	if c.Failed() {
		c.FailNow()
	}
}

// renewal is what /authorize with prompt=none and the token endpoint write.
func (c *crowd) renewal(i, n int) error {
	now, id := c.now(), fmt.Sprintf("grant-%d-%d", i, n)
	user := fmt.Sprint("user-", i)
	_, err := c.as.InsertGrant(c.Context(), oauth.NewGrant{
		Grant: oauth.Grant{ID: id, ClientID: "page", UserID: user, Scopes: []string{"openid"}, AuthTime: dayBegins, CreatedAt: now,
			CodeExpires: now.Add(oauth.CodeLifetime), RemovableAt: now.Add(oauth.CodeLifetime + renewedToken)},
		LoginID: c.logins[i], Subject: user, Consented: now, Session: sessions.Session{ID: fmt.Sprintf("session-%d-%d", i, n)},
	})
	if err != nil {
		return err
	}
	redeemed, err := c.as.Redeem(c.Context(), id, now)
	if err == nil && !redeemed {
		err = fmt.Errorf("the code of %s is not good", id)
	}
	return err
}

// sweep runs the sweepers to their end and returns how many grants they removed.
func (c *crowd) sweep() (grants int) {
	c.Helper()
	for {
		realm, err := c.realm.Sweep(c.Context(), 24*time.Hour, 200)
		must(c.T, err)
		server, err := c.as.Sweep(c.Context(), 24*time.Hour, 200)
		must(c.T, err)
		grants += server.Grants
		if realm.Logins+realm.Sessions+realm.History+server.Sessions+server.History > 0 {
			c.Fatalf("swept %+v, %+v: something has ended", realm, server)
		}
		if !realm.More && !server.More {
			return grants
		}
	}
}

// rows counts a table's.
func (c *crowd) rows(table string) (n int) {
	c.Helper()
	must(c.T, c.db.read(c.Context(), func(conn conn) error {
		_, err := conn.row([]any{&n}, `SELECT COUNT(*) FROM `+table)
		return err
	}))
	return n
}

func (c *crowd) waiting() map[string]int {
	c.Helper()
	waiting, err := c.as.Waiting(c.Context(), 24*time.Hour, 10_001)
	must(c.T, err)
	return waiting
}

func renew(t *testing.T, url string, size int) {
	c := newCrowd(t, url, size)
	began, early, most, removed := time.Now(), 0, 0, 0
	for n := range renewals {
		c.clock.Add(renewEvery.Milliseconds())
		c.all(func(i int) error { return c.renewal(i, n) })
		touches := make([]sessions.Touch, size)
		for i, login := range c.logins {
			touches[i] = sessions.Touch{LoginID: login, At: c.now()}
		}
		must(t, c.realm.Touch(t.Context(), touches))
		most = max(most, c.rows("grants"))
		// The sweeper comes once a minute; the next minute is that in which the
		// grants before these are over.
		c.clock.Add(time.Minute.Milliseconds())
		waits := c.waiting()["grant"]
		swept := c.sweep()
		if left := c.waiting(); waits != min(swept, 10_001) || left["grant"] != 0 {
			t.Fatalf("renewal %d: %d grants waited, %d were removed, %d wait now", n, waits, swept, left["grant"])
		}
		c.clock.Add(-time.Minute.Milliseconds())
		removed += swept
		if grants := c.rows("grants"); grants != size {
			t.Fatalf("renewal %d: after the sweep there are %d grants, and %d that live", n, grants, size)
		}
		if n == 1 {
			early = most
		}
		last := fmt.Sprintf("grant-%d-%d", n%size, n)
		if state, err := c.as.State(t.Context(), last, ""); err != nil || !state.Live {
			t.Fatalf("renewal %d is not live: %v", n, err)
		}
	}
	t.Logf("%d users, %d renewals in %s: at most %d grants, %d removed; %d sessions", size, size*renewals, time.Since(began).Round(time.Millisecond), most, removed, c.rows("oauth2_sessions"))
	if most > early || removed != size*(renewals-1) {
		t.Errorf("there were up to %d grants, %d in the beginning; %d were removed", most, early, removed)
	}
	for table, want := range map[string]int{"oauth2_sessions": size, "logins": size, "consents": 0} {
		if got := c.rows(table); got != want {
			t.Errorf("%d rows in %s, want %d", got, table, want)
		}
	}
	c.clock.Add((oauth.CodeLifetime + renewedToken).Milliseconds())
	if c.sweep(); c.rows("grants") != 0 {
		t.Errorf("when all access tokens have expired %d grants are left", c.rows("grants"))
	}
}

// What is old enough to go and still needed is looked at once a day, however
// much of it there is, and goes when nothing needs it any more.
func TestSweeperPutsOffWhatIsStillNeeded(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		c := newCrowd(t, url, 3)
		must(t, c.as.InsertClient(t.Context(), &clients.Client{Metadata: clients.Metadata{ClientID: "app"}}))
		const history = 24 * time.Hour
		held := func(i int, offline bool) string {
			now, id := c.now(), fmt.Sprint("held-", i)
			session, err := c.as.InsertGrant(t.Context(), oauth.NewGrant{LoginID: c.logins[i], Subject: "s", Consented: now, Session: sessions.Session{ID: "session-" + id},
				Grant: oauth.Grant{ID: id, ClientID: "app", UserID: fmt.Sprint("user-", i), AuthTime: dayBegins, CreatedAt: now,
					CodeExpires: now.Add(time.Minute), Refreshable: true, Offline: offline}})
			must(t, err)
			if ok, err := c.as.Redeem(t.Context(), id, now); err != nil || !ok {
				t.Fatal(ok, err)
			}
			return session.ID
		}
		use := func() {
			must(t, c.realm.Touch(t.Context(), []sessions.Touch{{LoginID: c.logins[1], At: c.now()}, {LoginID: c.logins[2], At: c.now()},
				{AuthorizationServer: "myAS", SessionID: "session-held-0", At: c.now()}}))
		}
		// sweep runs a pass and tells what of the history went; of those that
		// were looked at, none may be looked at again.
		sweep := func(waitLogins, waitSessions, goLogins, goSessions int, what string) {
			t.Helper()
			use()
			realmWaits, err := c.realm.Waiting(t.Context(), history, 100)
			must(t, err)
			asWaits, err := c.as.Waiting(t.Context(), history, 100)
			must(t, err)
			as, err := c.as.Sweep(t.Context(), history, 100)
			must(t, err)
			realm, err := c.realm.Sweep(t.Context(), history, 100)
			must(t, err)
			if got, want := [4]int{realmWaits["history"], asWaits["history"], realm.History, as.History}, [4]int{waitLogins, waitSessions, goLogins, goSessions}; got != want {
				t.Errorf("%s: logins and sessions that waited, and that went: %v, want %v", what, got, want)
			}
			realmWaits, err = c.realm.Waiting(t.Context(), history, 100)
			must(t, err)
			asWaits, err = c.as.Waiting(t.Context(), history, 100)
			must(t, err)
			if realmWaits["history"]+asWaits["history"] != 0 {
				t.Errorf("%s: after the pass %v and %v wait", what, realmWaits, asWaits)
			}
		}
		user := sessions.Ending{By: sessions.Actor{Kind: sessions.ActorUser, ID: "user"}, Reason: sessions.ReasonLogout}
		// A login that ended, with a session that outlives it; a session that was
		// ended in a login that lives; and both over.
		detached, ended := held(0, true), held(1, false)
		held(2, false)
		end := func(store interface {
			End(context.Context, sessions.Target, sessions.Ending) (int, error)
		}, target sessions.Target) {
			t.Helper()
			_, err := store.End(t.Context(), target, user)
			must(t, err)
		}
		end(c.realm, sessions.Target{Login: c.logins[0]})
		end(c.as, sessions.Target{Session: ended})
		end(c.realm, sessions.Target{Login: c.logins[2]})
		sweep(0, 0, 0, 0, "at once")
		c.clock.Add((20 * time.Hour).Milliseconds())
		sweep(0, 0, 0, 0, "within the history")
		c.clock.Add((5 * time.Hour).Milliseconds())
		sweep(2, 2, 1, 1, "behind it, what nothing needs goes")
		sweep(0, 0, 0, 0, "at once again")
		c.clock.Add((20 * time.Hour).Milliseconds())
		sweep(0, 0, 0, 0, "within a day")
		c.clock.Add((5 * time.Hour).Milliseconds())
		sweep(1, 1, 0, 0, "a day later")
		end(c.as, sessions.Target{Session: detached})
		end(c.realm, sessions.Target{Login: c.logins[1]})
		c.clock.Add((25 * time.Hour).Milliseconds())
		sweep(2, 2, 2, 2, "when nothing needs them they go, the logins at once behind their sessions")
	})
}
