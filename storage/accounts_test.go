//go:build unix

package storage

import (
	"testing"

	"gatehouse.dev/gatehouse/sessions"
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
