package storage

import (
	"context"
	"fmt"
	"strings"

	"gatehouse.dev/gatehouse/users"
)

// keyUsers gives the users that have none the keys by which administrators
// search: those from before there were such keys, and those that a node of the
// previous release has added since.
func (db *DB) keyUsers(ctx context.Context) error {
	type keys struct{ realm, id, name, email string }
	for {
		var unkeyed []keys
		err := db.read(ctx, func(c conn) error {
			unkeyed = nil
			return c.rows(func(scan func(...any) error) error {
				var (
					k      keys
					text   string
					claims users.Claims
				)
				if err := scan(&k.realm, &k.id, &text); err != nil {
					return err
				}
				if err := parse(text, &claims); err != nil {
					return err
				}
				k.name, k.email = users.SearchKey(claims.Name), users.SearchKey(claims.Email)
				unkeyed = append(unkeyed, k)
				return nil
			}, `SELECT u.realm, u.id, u.claims FROM users u WHERE u.name_key IS NULL ORDER BY u.realm, u.id LIMIT ?`, nameBatch)
		})
		if err == nil && len(unkeyed) > 0 {
			var args []any
			for _, k := range unkeyed {
				args = append(args, k.realm, k.id, k.name, k.email)
			}
			const one = `(CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT))`
			err = db.write(ctx, func(c conn) error {
				_, err := c.exec(`WITH v (realm, id, name, email) AS (VALUES `+strings.TrimSuffix(strings.Repeat(one+", ", len(unkeyed)), ", ")+`)
					UPDATE users SET name_key = v.name, email_key = v.email FROM v
					WHERE users.realm = v.realm AND users.id = v.id AND users.name_key IS NULL`, args...)
				return err
			})
		}
		if err != nil {
			return fmt.Errorf("making search keys of users: %w", err)
		}
		if len(unkeyed) < nameBatch {
			return nil
		}
	}
}
