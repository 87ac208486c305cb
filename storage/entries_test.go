//go:build unix

package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
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

// fill writes n live logins of n/10 users, and a tenth as many sessions without
// one, a millisecond apart.
func fill(t *testing.T, db *DB, n int) (first time.Time) {
	t.Helper()
	now := stamp(db.now())
	began := now - int64(n)
	series := `WITH RECURSIVE series (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM series WHERE i < ?)`
	blobOf := `CAST('c' || i AS BLOB)`
	if db.postgres {
		series = `WITH series (i) AS (SELECT CAST(generate_series(1, ?) AS BIGINT))`
		blobOf = `CAST('c' || i AS BYTEA)`
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	run := func(statement string, args ...any) {
		t.Helper()
		must(t, db.write(ctx, func(c conn) error { _, err := c.exec(statement, args...); return err }))
	}
	tenth := max(n/10, 1)
	run(`INSERT INTO users (realm, id, username, username_key, password, claims, roles, salt, created_at) `+series+`
		SELECT 'staff', 'u' || i, 'user' || i, 'user' || i, '', '{"name":"User ' || i || ' of many","email":"U' || i || '@example.com"}', '[]', `+blobOf+`, 1 FROM series`, tenth)
	run(`INSERT INTO clients (authorization_server, client_id, realm, uid, number, name, static, metadata, created_at)
		VALUES ('myAS', 'common', 'staff', 'uid-common', 1, 'Common', ?, '{}', 1), ('myAS', 'rare', 'staff', 'uid-rare', 2, 'Rare', ?, '{}', 1),
			('myAS', 'middling', 'staff', 'uid-middling', 3, 'Middling', ?, '{}', 1)`, false, false, false)
	run(`INSERT INTO logins (realm, id, user_id, cookie_hash, auth_time, auth_nonce, amr, acr, persistent, address, user_agent, device_name,
			created_at, last_access_at, expires_at, check_at, position, browser) `+series+`
		SELECT 'staff', 'l' || i, 'u' || (1 + i % ?), `+blobOf+`, 1, '', '[]', '', ?, '10.' || (i % 250) || '.' || (i / 250 % 250) || '.' || (i / 62500),
			CASE WHEN i % 5000 = 7 THEN 'Rare/' || i ELSE 'Mozilla/5.0 (X11; Linux x86_64) Chrome/' || (70 + i % 50) END, '',
			? + i, ? + i, ?, ?, (? + i) * 1048576 + 2 * (i % 1000),
			CASE WHEN i % 5000 = 7 THEN 'Other' WHEN i % 150 = 9 THEN 'Firefox' ELSE 'Chrome' END FROM series`,
		n, tenth, true, began, began, now+3_600_000, now+3_600_000, began)
	run(`INSERT INTO oauth2_sessions (authorization_server, id, realm, client_id, client_uid, user_id, subject, login_id, origin, scopes, refreshable, offline,
			authenticated_at, consented_at, custom_attributes, activated_at, detached_at, created_at, last_used_at, expires_at, idle_check_at, position, entry_id) `+series+`
		SELECT 'myAS', 's' || i, 'staff', CASE WHEN i % 1000 = 3 THEN 'rare' WHEN i % 150 = 7 THEN 'middling' ELSE 'common' END,
			CASE WHEN i % 1000 = 3 THEN 'uid-rare' WHEN i % 150 = 7 THEN 'uid-middling' ELSE 'uid-common' END,
			'u' || (1 + i % ?), 'sub', CASE WHEN i % 10 = 0 THEN NULL ELSE 'l' || i END, 'browser', '[]', ?, ?, 1, 1, '{}', 1, NULL,
			? + i, ? + i, ?, ?, (? + i) * 1048576 + 2 * (i % 1000) + 1, 'e' || i FROM series`,
		n, tenth, false, false, began, began, now+3_600_000, now+3_600_000, began)
	run(`INSERT INTO grants (authorization_server, id, session_id, client_id, user_id, scopes, resources, auth_time, acr, amr, nonce, redirect_uri,
			challenge, code_hash, code_expires_at, secret, refreshable, offline, redeemed_at, generation, grace_uses, created_at) `+series+`
		SELECT 'myAS', 'g' || i, 's' || i, 'common', 'u' || (1 + i % ?), '[]', '[]', 1, '', '[]', '', '', '', `+blobOf+`, 1, `+blobOf+`, ?, ?, 1, 0, 0, ? FROM series`,
		n, tenth, false, false, began)
	if db.postgres {
		run(`ANALYZE`)
	}
	return utc(began)
}

// TestLongEntriesWalkIndexes: with a million logins and a million sessions a
// page costs what it has, whatever is filtered by.
func TestLongEntriesWalkIndexes(t *testing.T) {
	if os.Getenv("GATEHOUSE_LONG") == "" {
		return
	}
	n := 1_000_000
	if text := os.Getenv("GATEHOUSE_LONG_ROWS"); text != "" {
		n, _ = strconv.Atoi(text)
	}
	eachDatabase(t, func(t *testing.T, url string) {
		fixed := time.Now()
		db := openMigrated(t, Config{URL: url, Now: func() time.Time { return fixed }})
		began := fill(t, db, n)
		life := storagetest.Lifetimes
		life.LoginIdle, life.SessionIdle = 24*time.Hour, 24*time.Hour
		realm := db.Realm(RealmConfig{Name: "staff", Lifetimes: life, ScanLimit: time.Minute, Servers: map[string]sessions.Lifetimes{"myAS": life}})
		first, err := realm.Entries(t.Context(), sessions.EntryQuery{Limit: 21})
		must(t, err)
		if len(first) != 21 {
			t.Fatalf("the first page has %d entries", len(first))
		}
		middle := began.Add(time.Duration(n/2) * time.Millisecond)
		at := func(by, operator string) []sessions.Condition {
			return []sessions.Condition{{By: by, Operator: operator, Time: middle}}
		}
		r := record(t, db)
		for _, tt := range []struct {
			name string
			q    sessions.EntryQuery
			want int // entries; -1: any
		}{
			{"first page", sessions.EntryQuery{Limit: 21}, 21},
			{"next page", sessions.EntryQuery{Limit: 21, Before: first[20].Position}, 21},
			{"page in the middle", sessions.EntryQuery{Limit: 21, Before: stamp(middle) << positionShift}, 21},
			{"page before the middle", sessions.EntryQuery{Limit: 21, After: stamp(middle) << positionShift}, 21},
			{"of a user", sessions.EntryQuery{UserID: "u77"}, -1},
			{"loginId eq", sessions.EntryQuery{Limit: 21, Conditions: only(sessions.ByUsername, "eq", "user77")}, -1},
			{"loginId sw", sessions.EntryQuery{Limit: 21, Conditions: only(sessions.ByUsername, "sw", "user777")}, -1},
			{"sessionId eq", sessions.EntryQuery{Limit: 21, Conditions: only(sessions.ByEntryID, "eq", "l4711")}, 1},
			{"sessionId eq, without a login", sessions.EntryQuery{Limit: 21, Conditions: only(sessions.ByEntryID, "eq", "e4710")}, 1},
			{"sessionId sw", sessions.EntryQuery{Limit: 21, Conditions: only(sessions.ByEntryID, "sw", "l4711")}, -1},
			{"userAgent eq", sessions.EntryQuery{Limit: 21, Conditions: only(sessions.ByUserAgent, "eq", "mozilla/5.0 (X11; linux x86_64) chrome/73")}, 21},
			{"userAgent sw", sessions.EntryQuery{Limit: 21, Conditions: only(sessions.ByUserAgent, "sw", "rare/50")}, -1},
			{"ipAddress eq", sessions.EntryQuery{Limit: 21, Conditions: only(sessions.ByAddress, "eq", "10.17.20.0")}, -1},
			{"appName eq", sessions.EntryQuery{Limit: 21, Conditions: only(sessions.ByApplication, "eq", "common")}, 21},
			{"appName sw", sessions.EntryQuery{Limit: 21, Conditions: only(sessions.ByApplication, "sw", "COMM")}, 21},
			{"loginTime le", sessions.EntryQuery{Limit: 21, Conditions: at(sessions.ByCreated, "le")}, 21},
			{"loginTime ge", sessions.EntryQuery{Limit: 21, Conditions: at(sessions.ByCreated, "ge")}, 21},
			{"lastAccessTime le", sessions.EntryQuery{Limit: 21, Conditions: at(sessions.ByLastAccess, "le")}, 21},
			{"lastAccessTime ge", sessions.EntryQuery{Limit: 21, Conditions: at(sessions.ByLastAccess, "ge")}, 21},
		} {
			r.taken()
			start := time.Now()
			found, err := realm.Entries(t.Context(), tt.q)
			took := time.Since(start)
			must(t, err)
			if len(found) == 0 || (tt.want >= 0 && len(found) != tt.want) {
				t.Errorf("%s: %d entries, want %d", tt.name, len(found), tt.want)
			}
			buffers := 0
			for _, statement := range r.taken() {
				if strings.HasPrefix(statement.sql, "SET ") || strings.Contains(statement.sql, "FROM clients c WHERE") {
					continue // the clients of a realm are few
				}
				for _, table := range scans(db, t, statement) {
					if slices.Contains(bigTables, table) {
						t.Errorf("%s reads all of %s: %.300s", tt.name, table, statement.sql)
					}
				}
				if db.postgres {
					buffers += hits(t, db, statement)
				}
			}
			t.Logf("%-32s %4d entries %8.1f ms %6d buffers", tt.name, len(found), float64(took.Microseconds())/1000, buffers)
			if buffers > 5000 {
				t.Errorf("%s touches %d buffers", tt.name, buffers)
			}
		}
	})
}

// hits is how many buffers a statement touches.
func hits(t *testing.T, db *DB, s statement) (n int) {
	t.Helper()
	rows, err := db.pools[0].QueryContext(t.Context(), "EXPLAIN (ANALYZE, BUFFERS) "+s.sql, s.vars...)
	must(t, err)
	defer rows.Close()
	first := true
	for rows.Next() {
		var line string
		must(t, rows.Scan(&line))
		// The first line that tells of buffers is the whole statement's.
		if m := regexp.MustCompile(`Buffers:.*`).FindString(line); m != "" && first {
			first = false
			for _, part := range regexp.MustCompile(`(hit|read)=(\d+)`).FindAllStringSubmatch(m, -1) {
				one, _ := strconv.Atoi(part[2])
				n += one
			}
		}
	}
	must(t, rows.Err())
	return n
}
