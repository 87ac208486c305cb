//go:build unix

package storage

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage/storagetest"
)

// Logins of before, and those that a node of the previous release still makes,
// get their family of browsers; what has ended needs none.
func TestBrowsersOfThePreviousReleaseAreRead(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		db := openMigrated(t, Config{URL: url})
		fill(t, db, 1200)
		exec := func(statement string) {
			t.Helper()
			must(t, db.write(t.Context(), func(c conn) error { _, err := c.exec(statement); return err }))
		}
		exec(`UPDATE logins SET browser = NULL`)
		exec(`UPDATE logins SET ended_at = 1 WHERE id = 'l1'`)
		must(t, db.Migrate(t.Context()))
		left := map[string]int{}
		must(t, db.read(t.Context(), func(c conn) error {
			return c.rows(func(scan func(...any) error) error {
				var (
					browser string
					n       int
				)
				err := scan(&browser, &n)
				left[browser] = n
				return err
			}, `SELECT COALESCE(browser, ''), COUNT(*) FROM logins GROUP BY browser`)
		}))
		if left[""] != 1 || left["Chrome"] != 1198 || left["Other"] != 1 {
			t.Errorf("read: %v", left)
		}
	})
}

// A search for users is one statement and reads no table from end to end.
func TestAccountsAreFoundByOneStatement(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		db := openMigrated(t, Config{URL: url})
		fill(t, db, 3000)
		r := record(t, db)
		found, err := entriesRealm(db, nil).FindAccounts(t.Context(), "u", sessions.MaxAccounts)
		must(t, err)
		run := r.taken()
		if len(found) != sessions.MaxAccounts || len(run) != 1 {
			t.Errorf("found %d by %d statements", len(found), len(run))
		}
	})
}

// TestLongAdminListWalksIndexes: with a million logins and a million sessions,
// of a hundred thousand users, a page of the administrators' list costs what it
// has, whatever it is filtered by, and so does a search for users.
func TestLongAdminListWalksIndexes(t *testing.T) {
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
		middle := began.Add(time.Duration(n/2) * time.Millisecond)
		recent := began.Add(time.Duration(n-n/100) * time.Millisecond)
		of := func(client string) sessions.Condition {
			return sessions.Condition{By: sessions.ByClient, Operator: sessions.OpEqual, Server: "myAS", Text: client}
		}
		by := func(by, operator, text string) sessions.Condition {
			return sessions.Condition{By: by, Operator: operator, Text: text}
		}
		since := func(at time.Time) sessions.Condition {
			return sessions.Condition{By: sessions.ByCreated, Operator: sessions.OpGreaterEqual, Time: at}
		}
		const page = 26
		list := func(before int64, conditions ...sessions.Condition) func() (int, error) {
			return func() (int, error) {
				found, err := realm.Entries(t.Context(), sessions.EntryQuery{Limit: page, Before: before, Conditions: conditions})
				return len(found), err
			}
		}
		search := func(text string) func() (int, error) {
			return func() (int, error) {
				found, err := realm.FindAccounts(t.Context(), text, sessions.MaxAccounts)
				return len(found), err
			}
		}
		half := stamp(middle) << positionShift
		r := record(t, db)
		for _, tt := range []struct {
			name string
			call func() (int, error)
			want int // -1: some
		}{
			{"first page", list(0), page},
			{"page in the middle", list(half), page},
			{"user", list(0, by(sessions.ByUsername, "eq", "user77")), -1},
			{"user, many of that beginning", list(0, by(sessions.ByUsername, "sw", "user")), page},
			{"address", list(0, by(sessions.ByAddress, "eq", "10.17.20.0")), -1},
			{"since", list(0, since(recent)), page},
			{"browser of most", list(0, by(sessions.ByBrowser, "eq", "Chrome")), page},
			{"browser of few", list(0, by(sessions.ByBrowser, "eq", "Firefox")), page},
			{"browser of hardly any", list(0, by(sessions.ByBrowser, "eq", "Other")), -1},
			{"browser, from the middle", list(half, by(sessions.ByBrowser, "eq", "Firefox")), page},
			{"browser of nobody", list(0, by(sessions.ByBrowser, "eq", "Opera")), 0},
			{"application of most", list(0, of("common")), page},
			{"application of few", list(0, of("middling")), page},
			{"application of hardly any", list(0, of("rare")), page},
			{"application, from the middle", list(half, of("middling")), page},
			{"application of nobody", list(0, of("none")), 0},
			{"application, since", list(0, of("middling"), since(recent)), -1},
			{"application and browser", list(0, of("common"), by(sessions.ByBrowser, "eq", "Chrome")), page},
			{"application and user", list(0, of("common"), by(sessions.ByUsername, "eq", "user77")), -1},
			{"application and address", list(0, of("common"), by(sessions.ByAddress, "eq", "10.17.20.0")), -1},
			{"search, all users", search("u"), sessions.MaxAccounts},
			{"search, some users", search("user77"), sessions.MaxAccounts},
			{"search, an address", search("u777@"), 1},
			{"search, a name", search("user 777 "), 1},
			{"search, nobody", search("nobody"), 0},
		} {
			r.taken()
			start := time.Now()
			found, err := tt.call()
			took := time.Since(start)
			must(t, err)
			if (tt.want >= 0 && found != tt.want) || (tt.want < 0 && found == 0) {
				t.Errorf("%s: %d are found, want %d", tt.name, found, tt.want)
			}
			buffers := 0
			for _, statement := range r.taken() {
				if strings.HasPrefix(statement.sql, "SET ") {
					continue
				}
				for _, table := range scans(db, t, statement) {
					// A look whether there are many stops at a thousand.
					if slices.Contains(bigTables, table) && !strings.HasPrefix(statement.sql, "SELECT 1 ") {
						t.Errorf("%s reads all of %s: %.300s", tt.name, table, statement.sql)
					}
				}
				if db.postgres {
					buffers += hits(t, db, statement)
				}
			}
			t.Logf("%-32s %4d found %8.1f ms %6d buffers", tt.name, found, float64(took.Microseconds())/1000, buffers)
			if buffers > 5000 {
				t.Errorf("%s touches %d buffers", tt.name, buffers)
			}
			if took > 2*time.Second {
				t.Errorf("%s takes %v", tt.name, took)
			}
		}
	})
}
