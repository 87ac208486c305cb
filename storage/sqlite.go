package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
)

// openSQLite opens a database file, creating it where it is missing, with one
// writing connection and a pool of reading ones: writers that wait in this
// process's queue wait shorter than those that poll the file's lock.
func openSQLite(ctx context.Context, path string, connections int) (dialect, error) {
	d := dialect{path: path, clock: `SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)`}
	if path == "" || strings.HasPrefix(path, ":memory:") {
		return d, errors.New("SQLite needs the path of a file")
	}
	// SQLite would create it readable by everybody.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return d, err
	}
	if err := file.Close(); err != nil {
		return d, err
	}
	base := "file:" + (&url.URL{Path: path}).EscapedPath() + "?"
	// synchronous=FULL: what was acknowledged survives a power cut.
	pragmas := url.Values{"_pragma": {"busy_timeout(1000)", "synchronous(FULL)", "foreign_keys(1)"}}

	pragmas.Set("_txlock", "immediate")
	if d.writes, err = d.openPool(base+pragmas.Encode(), 1); err != nil {
		return d, err
	}
	// The switch to WAL does not wait for other connections; it fails. It is
	// kept in the file.
	unlock, err := lockFile(ctx, path+".lock")
	if err != nil {
		return d, err
	}
	var mode string
	_, err = conn{db: d.writes.WithContext(ctx)}.row([]any{&mode}, "PRAGMA journal_mode = WAL")
	if err := errors.Join(err, unlock()); err != nil {
		return d, err
	}
	if mode != "wal" {
		return d, fmt.Errorf("SQLite can't keep a write-ahead log beside %s: journal mode is %q", path, mode)
	}

	pragmas.Del("_txlock")
	pragmas.Add("_pragma", "query_only(1)")
	d.reads, err = d.openPool(base+pragmas.Encode(), max(1, connections-1))
	return d, err
}

func (d *dialect) openPool(dsn string, connections int) (*gorm.DB, error) {
	pool, err := sql.Open(sqlite.DriverName, dsn)
	if err != nil {
		return nil, err
	}
	d.pools = append(d.pools, pool)
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	return gorm.Open(&sqlite.Dialector{Conn: pool}, gormConfig())
}

// doSQLite waits for a connection as long as ctx allows, and then runs the
// statements to their end: the driver reports a statement that it did not run,
// because its context was done, as the one before it, with its count of
// changed rows. A statement waits for the file's lock for a second at most.
func (db *DB) doSQLite(ctx context.Context, pool *gorm.DB, f func(conn) error) error {
	ctx, cancel := limit(ctx)
	defer cancel()
	return db.translate(pool.WithContext(ctx).Connection(func(tx *gorm.DB) error {
		return f(conn{db: tx.WithContext(context.WithoutCancel(ctx)), origin: db.origin(ctx), told: &db.told})
	}))
}

// transactSQLite is doSQLite for a transaction.
func (db *DB) transactSQLite(ctx context.Context, f func(conn) error) error {
	return db.doSQLite(ctx, db.writes, func(c conn) error {
		return c.db.Transaction(func(tx *gorm.DB) error {
			if err := ctx.Err(); err != nil {
				return err // nobody waits for it any more
			}
			return f(conn{db: tx, origin: c.origin, told: c.told})
		})
	})
}
