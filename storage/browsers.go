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
	type unread struct{ realm, id, agent string }
	for {
		var batch []unread
		err := db.read(ctx, func(c conn) error {
			batch = nil
			return c.rows(func(scan func(...any) error) error {
				var u unread
				err := scan(&u.realm, &u.id, &u.agent)
				batch = append(batch, u)
				return err
			}, `SELECT realm, id, user_agent FROM logins WHERE browser IS NULL AND ended_at IS NULL ORDER BY realm, id LIMIT ?`, nameBatch)
		})
		if err == nil && len(batch) > 0 {
			err = db.transact(ctx, func(c conn) error {
				for _, u := range batch {
					// One that has signed in anew meanwhile has its own.
					if _, err := c.exec(`UPDATE logins SET browser = ? WHERE realm = ? AND id = ? AND browser IS NULL`,
						sessions.BrowserFamily(u.agent), u.realm, u.id); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err != nil {
			return fmt.Errorf("reading browsers of logins: %w", err)
		}
		if len(batch) < nameBatch {
			return nil
		}
	}
}
