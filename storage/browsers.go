package storage

import (
	"context"
	"fmt"

	"gatehouse.dev/gatehouse/sessions"
)

// readBrowsers gives the live logins that have none their family of browsers:
// those from before there was such a column, and those that a node of the
// previous release has made since.
func (db *DB) readBrowsers(ctx context.Context) error {
	type kind struct{ realm, browser string }
	for {
		n, ids := 0, map[kind][]string{}
		err := db.read(ctx, func(c conn) error {
			n = 0
			clear(ids)
			return c.rows(func(scan func(...any) error) error {
				var realm, id, agent string
				err := scan(&realm, &id, &agent)
				of := kind{realm, sessions.BrowserFamily(agent)}
				ids[of] = append(ids[of], id)
				n++
				return err
			}, `SELECT realm, id, user_agent FROM logins WHERE browser IS NULL AND ended_at IS NULL ORDER BY realm, id LIMIT ?`, nameBatch)
		})
		for of, ids := range ids {
			if err != nil {
				break
			}
			err = db.write(ctx, func(c conn) error {
				// One that has signed in anew meanwhile has its own.
				_, err := c.exec(`UPDATE logins SET browser = ? WHERE realm = ? AND id IN ? AND browser IS NULL`, of.browser, of.realm, ids)
				return err
			})
		}
		if err != nil {
			return fmt.Errorf("reading browsers of logins: %w", err)
		}
		if n < nameBatch {
			return nil
		}
	}
}
