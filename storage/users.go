package storage

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/keys"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

// RealmConfig names a realm.
type RealmConfig struct {
	Name      string             // required
	Lifetimes sessions.Lifetimes // LoginIdle and LoginAbsolute are required
	// Servers are the lifetimes of the realm's authorization servers by name,
	// for lists across them: sessions of others don't live. Default: none.
	Servers map[string]sessions.Lifetimes
	// ScanLimit is how long one statement of a list with conditions may take.
	// Default: 3 s.
	ScanLimit time.Duration
	// LogoutEndsOffline: a user who ends a login ends its sessions with
	// offline_access too, which are detached otherwise.
	LogoutEndsOffline bool
}

// Realm is a database as one realm sees it: users, logins, and endings across
// the realm's authorization servers.
type Realm struct {
	roots
	db   *DB
	name string
	life sessions.Lifetimes

	servers   map[string]sessions.Lifetimes
	scanLimit time.Duration
	alone     string // liveSession with the idle lifetimes of the realm's servers

	endsOffline bool // RealmConfig.LogoutEndsOffline
}

var (
	_ users.Store         = (*Realm)(nil)
	_ sessions.RealmStore = (*Realm)(nil)
	_ sessions.EntryStore = (*Realm)(nil)
	_ sessions.PastStore  = (*Realm)(nil)
	_ keys.RootStore      = (*Realm)(nil)
)

// Realm returns the view of one realm.
func (db *DB) Realm(config RealmConfig) *Realm {
	if config.ScanLimit <= 0 {
		config.ScanLimit = defaultScanLimit
	}
	return &Realm{roots: roots{db: db, owner: "realm:" + config.Name}, db: db, name: config.Name, life: config.Lifetimes,
		servers: config.Servers, scanLimit: config.ScanLimit, alone: liveSessionOf(config.Servers),
		endsOffline: config.LogoutEndsOffline}
}

// userRow is a user as it is stored.
type userRow struct {
	users.User
	claims, roles string
	created       int64
	locked        sql.NullInt64
}

const userColumns = `u.id, u.username, u.claims, u.roles, u.salt, u.created_at, u.locked_at`

func (r *userRow) dest() []any {
	return []any{&r.ID, &r.Username, &r.claims, &r.roles, &r.Salt, &r.created, &r.locked}
}

func (r *userRow) user() (users.User, error) {
	u := r.User
	if err := parse(r.claims, &u.Claims); err != nil {
		return u, err
	}
	if err := parse(r.roles, &u.Roles); err != nil {
		return u, err
	}
	u.CreatedAt, u.LockedAt = utc(r.created), maybe(r.locked)
	return u, nil
}

// User returns the account with that id, or users.ErrNotFound.
func (r *Realm) User(ctx context.Context, id string) (*users.User, error) {
	return r.user(ctx, `u.id = ?`, id)
}

// UserByName returns the account whose users.Key is key, or users.ErrNotFound.
func (r *Realm) UserByName(ctx context.Context, key string) (*users.User, error) {
	return r.user(ctx, `u.username_key = ?`, key)
}

func (r *Realm) user(ctx context.Context, where, value string) (*users.User, error) {
	if !storable(value) {
		return nil, users.ErrNotFound
	}
	var user users.User
	err := r.db.read(ctx, func(c conn) error {
		var row userRow
		found, err := c.row(append(row.dest(), &row.Password),
			`SELECT `+userColumns+`, u.password FROM users u WHERE u.realm = ? AND `+where, r.name, value)
		if err != nil {
			return err
		}
		if !found {
			return users.ErrNotFound
		}
		user, err = row.user()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading user: %w", err)
	}
	return &user, nil
}

// Users lists up to limit accounts by users.Key, from behind after ("" is the
// beginning).
func (r *Realm) Users(ctx context.Context, after string, limit int) ([]users.User, error) {
	var found []users.User
	err := r.db.read(ctx, func(c conn) error {
		return c.rows(func(scan func(...any) error) error {
			var row userRow
			if err := scan(append(row.dest(), &row.Password)...); err != nil {
				return err
			}
			user, err := row.user()
			found = append(found, user)
			return err
		}, `SELECT `+userColumns+`, u.password FROM users u
			WHERE u.realm = ? AND u.username_key > ? ORDER BY u.username_key LIMIT ?`, r.name, legible(after, 4096), max(limit, 0))
	})
	if err != nil {
		return nil, fmt.Errorf("listing users: %w", err)
	}
	return found, nil
}

// InsertUser adds an account, or returns users.ErrExists where the name or the
// id is taken.
func (r *Realm) InsertUser(ctx context.Context, u *users.User) error {
	key, err := users.Key(u.Username)
	if err != nil {
		return fmt.Errorf("inserting user: %w", err)
	}
	err = r.db.transact(ctx, func(c conn) error {
		_, err := c.exec(`INSERT INTO users
			(realm, id, username, username_key, password, claims, roles, salt, created_at, locked_at, name_key, email_key)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			r.name, u.ID, u.Username, key, u.Password, document(u.Claims), list(u.Roles), blob(u.Salt),
			stamp(u.CreatedAt), nullable(u.LockedAt), users.SearchKey(u.Claims.Name), users.SearchKey(u.Claims.Email))
		if err != nil {
			return err
		}
		return c.record(r.name, r.db.now(), audit.Event{Type: audit.UserCreated, UserID: u.ID, Detail: u.Username})
	})
	if isDuplicate(err) {
		err = users.ErrExists
	}
	if err != nil {
		return fmt.Errorf("inserting user: %w", err)
	}
	return nil
}

// UnlockUser lets a locked account sign in again, or returns users.ErrNotFound.
func (r *Realm) UnlockUser(ctx context.Context, id string) error {
	if err := r.unlock(ctx, id, ""); err != nil {
		return fmt.Errorf("unlocking user: %w", err)
	}
	return nil
}

// unlock is UnlockUser by an actor; empty: by whom the call comes.
func (r *Realm) unlock(ctx context.Context, id, by string) error {
	if !storable(id) {
		return users.ErrNotFound
	}
	return r.db.transact(ctx, func(c conn) error {
		n, err := c.exec(`UPDATE users SET locked_at = NULL WHERE realm = ? AND id = ?`, r.name, id)
		if err == nil && n == 0 {
			err = users.ErrNotFound
		}
		if err != nil {
			return err
		}
		return c.record(r.name, r.db.now(), audit.Event{Type: audit.UserUnlocked, Actor: by, UserID: id})
	})
}

// UpgradePassword replaces the hash old by a stronger one of the same password.
// Where old is no longer the hash, nothing happens, and that is no error.
func (r *Realm) UpgradePassword(ctx context.Context, id, old, phc string) error {
	err := r.db.write(ctx, func(c conn) error {
		_, err := c.exec(`UPDATE users SET password = ? WHERE realm = ? AND id = ? AND password = ?`, phc, r.name, id, old)
		return err
	})
	if err != nil {
		return fmt.Errorf("upgrading password hash: %w", err)
	}
	return nil
}

// blob is a value for a column that is never NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
