package storage

import (
	"context"
	"fmt"

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
			err = db.transact(ctx, func(c conn) error {
				for _, k := range unkeyed {
					if _, err := c.exec(`UPDATE users SET name_key = ?, email_key = ? WHERE realm = ? AND id = ?`, k.name, k.email, k.realm, k.id); err != nil {
						return err
					}
				}
				return nil
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
