//go:build unix

package storage

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage/storagetest"
	"gatehouse.dev/gatehouse/users"
)

func entriesRealm(db *DB, servers map[string]sessions.Lifetimes) *Realm {
	return db.Realm(RealmConfig{Name: "staff", Lifetimes: storagetest.Lifetimes, Servers: servers})
}

func only(by, operator, text string) []sessions.Condition {
	return []sessions.Condition{{By: by, Operator: operator, Text: text}}
}

// bigTables are those that no list may read from end to end.
var bigTables = []string{"logins", "oauth2_sessions", "grants", "users", "l", "s", "g", "u", "o", "n"}

// A user with 100 logins of 5 applications each costs as many statements as one
// with a single login.
func TestEntriesCostAConstantNumberOfStatements(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		db := openMigrated(t, Config{URL: url})
		s := newScene(t, db)
		s.realm = entriesRealm(db, map[string]sessions.Lifetimes{"myAS": storagetest.Lifetimes})
		ctx := t.Context()
		for i := range 5 {
			must(t, s.as.InsertClient(ctx, &clients.Client{Metadata: clients.Metadata{ClientID: fmt.Sprint("app", i)}}))
		}
		n := 0
		add := func(logins, applications int) {
			now := time.Now()
			for range logins {
				n++
				login, err := s.realm.SignIn(ctx, sessions.SignIn{UserID: "alex", AuthTime: now, CookieHash: fmt.Appendf(nil, "cookie %d", n), ExpiresAt: now.Add(time.Hour)}, sessions.Ending{})
				must(t, err)
				for a := range applications {
					id := fmt.Sprintf("%d-%d", n, a)
					_, err := s.as.InsertGrant(ctx, oauth.NewGrant{LoginID: login.ID, Session: sessions.Session{ID: "session" + id}, Grant: oauth.Grant{
						ID: "grant" + id, ClientID: fmt.Sprint("app", a), UserID: "alex", AuthTime: login.AuthTime, CreatedAt: now, CodeExpires: now.Add(time.Minute)}})
					must(t, err)
					if ok, err := s.as.Redeem(ctx, "grant"+id, now); err != nil || !ok {
						t.Fatal(ok, err)
					}
				}
			}
		}
		r := record(t, db)
		cost := func(q sessions.EntryQuery, entries, applications int) (run int) {
			t.Helper()
			r.taken()
			found, err := s.realm.Entries(ctx, q)
			must(t, err)
			run = len(r.taken())
			got := 0
			for _, e := range found {
				got += len(e.Applications)
			}
			if len(found) != entries || got != applications {
				t.Errorf("%+v: %d entries with %d applications, want %d with %d", q, len(found), got, entries, applications)
			}
			return run
		}
		must(t, db.write(ctx, func(c conn) error { _, err := c.exec(`DELETE FROM logins`); return err })) // the scene's own
		add(1, 1)
		own, all := cost(sessions.EntryQuery{UserID: "alex"}, 1, 1), cost(sessions.EntryQuery{Limit: 200}, 1, 1)
		add(99, 5)
		if got := cost(sessions.EntryQuery{UserID: "alex"}, 100, 99*5+1); got != own || got > 4 {
			t.Errorf("a user's list cost %d statements, and costs %d", own, got)
		}
		if got := cost(sessions.EntryQuery{Limit: 200}, 100, 99*5+1); got != all || got > 4 {
			t.Errorf("the realm's list cost %d statements, and costs %d", all, got)
		}
		t.Logf("a list costs %d statements", own)
	})
}

// Each authorization server has its own lifetimes, and one that is not the
// realm's, or no longer there, has nothing live.
func TestEntriesLiveByTheirServersLifetimes(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		now := time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)
		db := openMigrated(t, Config{URL: url, Now: func() time.Time { return now }})
		short, long := storagetest.Lifetimes, storagetest.Lifetimes
		short.SessionIdle, long.SessionIdle = 10*time.Minute, 50*time.Minute
		servers := map[string]sessions.Lifetimes{"short": short, "long": long}
		realm := entriesRealm(db, servers)
		ctx := t.Context()
		must(t, realm.InsertUser(ctx, &users.User{ID: "alex", Username: "alex", CreatedAt: now}))
		login, err := realm.SignIn(ctx, sessions.SignIn{UserID: "alex", AuthTime: now, CookieHash: []byte("c"), ExpiresAt: now.Add(time.Hour)}, sessions.Ending{})
		must(t, err)
		for _, name := range []string{"short", "long", "gone"} {
			as := db.For(ServerConfig{Name: name, Realm: "staff", Lifetimes: long})
			must(t, as.InsertClient(ctx, &clients.Client{Metadata: clients.Metadata{ClientID: "album", ClientName: name}}))
			_, err := as.InsertGrant(ctx, oauth.NewGrant{LoginID: login.ID, Session: sessions.Session{ID: "session"}, Grant: oauth.Grant{
				ID: "grant", ClientID: "album", UserID: "alex", AuthTime: now, CreatedAt: now, CodeExpires: now.Add(time.Minute), Refreshable: true}})
			must(t, err)
			_, err = as.Redeem(ctx, "grant", now)
			must(t, err)
		}
		shown := func() (names []string) {
			t.Helper()
			found, err := realm.Entries(ctx, sessions.EntryQuery{})
			must(t, err)
			for _, e := range found {
				for _, a := range e.Applications {
					names = append(names, a.AuthorizationServer)
				}
			}
			return names
		}
		if got := shown(); !slices.Equal(got, []string{"long", "short"}) {
			t.Errorf("shown: %q", got)
		}
		now = now.Add(20 * time.Minute)
		if got := shown(); !slices.Equal(got, []string{"long"}) {
			t.Errorf("after 20 minutes shown: %q", got)
		}
	})
}

// Rows of before, and those that a node of the previous release still writes,
// get places and ids.
func TestEntriesOfThePreviousReleaseAreNamed(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		db := openMigrated(t, Config{URL: url})
		s := newScene(t, db)
		_, err := s.as.InsertGrant(t.Context(), s.grant)
		must(t, err)
		must(t, db.write(t.Context(), func(c conn) error { _, err := c.exec(`UPDATE oauth2_sessions SET entry_id = NULL`); return err }))
		must(t, db.Migrate(t.Context()))
		var id string
		must(t, db.read(t.Context(), func(c conn) error {
			_, err := c.row([]any{&id}, `SELECT entry_id FROM oauth2_sessions`)
			return err
		}))
		if want := sessions.EntryID(sessions.Key{AuthorizationServer: "myAS", ID: "session"}); id != want {
			t.Errorf("named %q, want %q", id, want)
		}
		if !db.postgres {
			return
		}
		must(t, db.read(t.Context(), func(c conn) error {
			_, err := c.row([]any{&id}, `SELECT encode(sha256(decode('myAS' || '/' || 'session', 'escape')), 'hex')`)
			return err
		}))
		if want := sessions.EntryID(sessions.Key{AuthorizationServer: "myAS", ID: "session"}); id != want {
			t.Errorf("the migration names %q, want %q", id, want)
		}
		var position int64
		must(t, db.write(t.Context(), func(c conn) error {
			_, err := c.row([]any{&position}, `INSERT INTO logins (realm, id, user_id, cookie_hash, auth_time, auth_nonce, amr, acr, persistent, address,
				user_agent, device_name, created_at, last_access_at, expires_at)
				VALUES ('staff', 'old', 'alex', 'x', 1, '', '[]', '', TRUE, '', '', '', 1, 1, 1) RETURNING position`)
			return err
		}))
		if at := utc(position >> positionShift); time.Since(at).Abs() > time.Minute || position&1 != 0 {
			t.Errorf("the previous release's login stands at %v", at)
		}
	})
}

// A filter that reads too much is broken off, and the database goes on.
func TestEntriesOfASlowFilterAreRefused(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		db := openMigrated(t, Config{URL: url, MaxConnections: 2})
		fill(t, db, 3000)
		realm := db.Realm(RealmConfig{Name: "staff", Lifetimes: storagetest.Lifetimes, ScanLimit: time.Nanosecond})
		q := sessions.EntryQuery{Conditions: only(sessions.ByUserAgent, "co", "no such browser")}
		for range 3 {
			if _, err := realm.Entries(t.Context(), q); !errors.Is(err, sessions.ErrTooSlow) {
				t.Errorf("with no time: %v", err)
			}
		}
		if _, err := realm.Entries(t.Context(), sessions.EntryQuery{}); err != nil {
			t.Errorf("without a filter: %v", err)
		}
		if found, err := entriesRealm(db, nil).Entries(t.Context(), q); err != nil || len(found) != 0 {
			t.Errorf("with time: %v, %v", found, err)
		}
	})
}
