package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

// accountRow is a user as administrators see him.
type accountRow struct {
	sessions.Account
	claims  string
	created int64
	locked  sql.NullInt64
}

const accountColumns = `u.id, u.username, u.claims, u.created_at, u.locked_at`

func (r *accountRow) dest() []any {
	return []any{&r.ID, &r.Username, &r.claims, &r.created, &r.locked}
}

func (r *accountRow) account() (sessions.Account, error) {
	var claims users.Claims
	err := parse(r.claims, &claims)
	a := r.Account
	a.Name, a.Email, a.CreatedAt, a.LockedAt = claims.Name, claims.Email, utc(r.created), maybe(r.locked)
	return a, err
}

// thenJoin joins what stands on its left first. SQLite has to be told so.
func (c conn) thenJoin() string {
	if c.postgres {
		return `JOIN`
	}
	return `CROSS JOIN`
}

// FindAccounts lists up to limit users whose user name, e-mail address or
// display name begins with the text, in this order. One statement walks an index
// for each and reads no more of it than it lists.
func (r *Realm) FindAccounts(ctx context.Context, text string, limit int) ([]sessions.Account, error) {
	if !storable(text) || text == "" || limit <= 0 {
		return nil, nil
	}
	var found []sessions.Account
	err := r.db.read(ctx, func(c conn) error {
		found = nil
		var (
			walks []string
			args  []any
		)
		walk := func(rank, column, prefix string) {
			condition, values := compare(column, sessions.OpStartsWith, prefix)
			walks = append(walks, `SELECT * FROM (SELECT u.id AS id, `+rank+` AS place, `+column+` AS sorted FROM users u
				WHERE u.realm = ? AND `+condition+` ORDER BY `+column+` LIMIT ?) w`+rank)
			args = append(append(append(args, r.name), values...), limit)
		}
		key, _ := usernameKey(sessions.Condition{Operator: sessions.OpStartsWith, Text: text})
		walk(`1`, `u.username_key`, key)
		walk(`2`, `u.email_key`, users.SearchKey(text))
		walk(`3`, `u.name_key`, users.SearchKey(text))
		return c.rows(func(scan func(...any) error) error {
			var row accountRow
			if err := scan(row.dest()...); err != nil {
				return err
			}
			account, err := row.account()
			found = append(found, account)
			return err
		}, `SELECT `+accountColumns+` FROM (SELECT h.id AS id, MIN(h.place) AS place FROM (`+strings.Join(walks, ` UNION ALL `)+`) h GROUP BY h.id) f
			`+c.thenJoin()+` users u ON u.realm = ? AND u.id = f.id ORDER BY f.place, u.username_key LIMIT ?`, append(args, r.name, limit)...)
	})
	if err != nil {
		return nil, fmt.Errorf("searching for users: %w", err)
	}
	return found, nil
}

// Account returns a user, locked or not, or sessions.ErrUserNotFound.
func (r *Realm) Account(ctx context.Context, userID string) (*sessions.Account, error) {
	if !storable(userID) {
		return nil, fmt.Errorf("reading an account: %w", sessions.ErrUserNotFound)
	}
	var account sessions.Account
	err := r.db.read(ctx, func(c conn) error {
		var row accountRow
		found, err := c.row(row.dest(), `SELECT `+accountColumns+` FROM users u WHERE u.realm = ? AND u.id = ?`, r.name, userID)
		if err == nil && !found {
			err = sessions.ErrUserNotFound
		}
		if err == nil {
			account, err = row.account()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading an account: %w", err)
	}
	return &account, nil
}

// UnlockAccount lets a locked user sign in again, or returns
// sessions.ErrUserNotFound.
func (r *Realm) UnlockAccount(ctx context.Context, userID string, by sessions.Actor) error {
	err := r.unlock(ctx, userID, by.String())
	if errors.Is(err, users.ErrNotFound) {
		err = sessions.ErrUserNotFound
	}
	if err != nil {
		return fmt.Errorf("unlocking a user: %w", err)
	}
	return nil
}

// ClientChoices lists up to limit clients of the realm that there are, by name.
func (r *Realm) ClientChoices(ctx context.Context, limit int) ([]sessions.ClientChoice, error) {
	var found []sessions.ClientChoice
	err := r.db.read(ctx, func(c conn) error {
		found = nil
		return c.rows(func(scan func(...any) error) error {
			var choice sessions.ClientChoice
			err := scan(&choice.AuthorizationServer, &choice.ClientID, &choice.Name)
			found = append(found, choice)
			return err
		}, `SELECT c.authorization_server, c.client_id, c.name FROM clients c WHERE c.realm = ? AND c.deleted_at IS NULL
			ORDER BY lower(c.name), c.authorization_server, c.client_id LIMIT ?`, r.name, max(limit, 0))
	})
	if err != nil {
		return nil, fmt.Errorf("listing clients: %w", err)
	}
	return found, nil
}
