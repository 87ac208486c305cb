package storage

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*/*.sql
var migrations embed.FS

// versionTable is goose's record of what was applied.
const versionTable = "goose_db_version"

// Pending tells how many migrations the database lacks. A database that is
// ahead of this program lacks none.
func (db *DB) Pending(ctx context.Context) (int, error) {
	provider, err := db.provider()
	if err != nil {
		return 0, err
	}
	return db.pending(ctx, provider)
}

// Migrate applies what is pending, forward only. Any number of processes may do
// so at once: one does it, the others wait for it.
func (db *DB) Migrate(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("migrating the database: %w", db.translate(err))
		}
	}()
	if !db.postgres {
		// goose has no lock for SQLite.
		unlock, err := lockFile(ctx, db.path+".lock")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unlock()) }()
	}
	provider, err := db.provider()
	if err != nil {
		return err
	}
	// The usual start finds nothing, and then neither waits for a lock nor
	// needs the right to create tables.
	if n, err := db.pending(ctx, provider); err != nil {
		return err
	} else if n == 0 {
		return db.settle(ctx, provider)
	}
	// goose's Up would look for pending ones, and create the table of versions,
	// before it takes the lock.
	for _, source := range provider.ListSources() {
		result, err := provider.ApplyVersion(ctx, source.Version, true)
		if errors.Is(err, goose.ErrAlreadyApplied) {
			continue
		}
		if err != nil {
			return err
		}
		db.logger.InfoContext(ctx, "database migrated", "version", source.Version, "duration", result.Duration)
	}
	return errors.Join(db.nameEntries(ctx), db.fillTold(ctx), db.readBrowsers(ctx), db.keyUsers(ctx))
}

func (db *DB) provider() (*goose.Provider, error) {
	dialect, folder := goose.DialectSQLite3, "migrations/sqlite"
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true), goose.WithSlog(db.logger)}
	if db.postgres {
		dialect, folder = goose.DialectPostgres, "migrations/postgres"
		options = append(options, goose.WithSessionLocker(advisoryLock{}))
	}
	files, err := fs.Sub(migrations, folder)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(dialect, db.pools[0], files, options...)
}

// settle does what a migration leaves to this program, unless a newer one has
// taken the database over.
func (db *DB) settle(ctx context.Context, provider *goose.Provider) error {
	var latest int64
	if err := db.read(ctx, func(c conn) error {
		_, err := c.row([]any{&latest}, `SELECT COALESCE(MAX(version_id), 0) FROM `+versionTable+` WHERE is_applied`)
		return err
	}); err != nil {
		return err
	}
	sources := provider.ListSources()
	if latest > sources[len(sources)-1].Version {
		return nil
	}
	return errors.Join(db.nameEntries(ctx), db.fillTold(ctx), db.readBrowsers(ctx), db.keyUsers(ctx))
}

// advisoryLock is goose's own session locker for PostgreSQL, only that it asks
// more often than once a second. It asks, and does not wait in the server,
// because a statement that waits there keeps CREATE INDEX CONCURRENTLY waiting.
type advisoryLock struct{}

var _ lock.SessionLocker = advisoryLock{}

// SessionLock waits for the lock as long as ctx allows.
func (advisoryLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for {
		var locked bool
		if err := conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", lock.DefaultLockID).Scan(&locked); err != nil || locked {
			return err
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// SessionUnlock releases the lock.
func (advisoryLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", lock.DefaultLockID)
	return err
}

// pending is goose's HasPending without its side effect of creating the table
// of versions.
func (db *DB) pending(ctx context.Context, provider *goose.Provider) (int, error) {
	there := `SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '` + versionTable + `')`
	if db.postgres {
		there = `SELECT to_regclass('` + versionTable + `') IS NOT NULL`
	}
	var (
		exists bool
		latest int64
	)
	err := db.read(ctx, func(c conn) error {
		if _, err := c.row([]any{&exists}, there); err != nil || !exists {
			return err
		}
		_, err := c.row([]any{&latest}, `SELECT COALESCE(MAX(version_id), 0) FROM `+versionTable+` WHERE is_applied`)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("looking for pending migrations: %w", err)
	}
	n := 0
	for _, source := range provider.ListSources() {
		if source.Version > latest {
			n++
		}
	}
	return n, nil
}
