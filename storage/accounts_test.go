//go:build unix

package storage

import (
	"strings"
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

// Users of before, and those that a node of the previous release still adds, are
// found as others are once a node of this one starts; what has a key keeps it.
func TestUsersOfThePreviousReleaseAreFound(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		db := openMigrated(t, Config{URL: url})
		fill(t, db, 12_000) // more users than one batch
		realm := entriesRealm(db, nil)
		exec := func(statement string) {
			t.Helper()
			must(t, db.write(t.Context(), func(c conn) error { _, err := c.exec(statement); return err }))
		}
		exec(`UPDATE users SET name_key = NULL, email_key = NULL`)
		exec(`UPDATE users SET claims = '{"name":"Özlem","email":"Ö@example.com"}' WHERE id = 'u1'`)
		exec(`UPDATE users SET claims = '{}' WHERE id = 'u2'`)
		exec(`UPDATE users SET name_key = 'kept', email_key = '' WHERE id = 'u3'`)
		finds := func(text, want string) {
			t.Helper()
			found, err := realm.FindAccounts(t.Context(), text, 2)
			must(t, err)
			var got []string
			for _, a := range found {
				got = append(got, a.ID)
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%q finds %q, want %q", text, got, want)
			}
		}
		finds("özlem", "")
		must(t, db.Migrate(t.Context()))
		finds("özlem", "u1")
		finds("ö@", "u1")
		finds("kept", "u3")
		finds("user 1200 of", "u1200")
		finds("U1200@", "u1200")
		left := 0
		must(t, db.read(t.Context(), func(c conn) error {
			_, err := c.row([]any{&left}, `SELECT COUNT(*) FROM users WHERE name_key IS NULL OR email_key IS NULL`)
			return err
		}))
		if left != 0 {
			t.Errorf("%d users have no key", left)
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
