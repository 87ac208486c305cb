package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/sessions"
)

const (
	// defaultConnections is Config.MaxConnections where it is 0.
	defaultConnections = 16
	// patience bounds a call whose context has no deadline, waiting for a
	// connection included.
	patience = 15 * time.Second
	// attempts is how often a transaction is tried that PostgreSQL breaks off.
	attempts = 8
	// lockedAttempts is the same for SQLite's lock, each with the driver's wait
	// of a second.
	lockedAttempts = 4
)

// Config is what Open needs.
type Config struct {
	URL            string // required; "sqlite:PATH" or "postgres://…"
	MaxConnections int    // default: 16
	Now            func() time.Time
	Logger         *slog.Logger // default: slog.Default(). Never gets values of rows.
	// Origin tells from where a call comes, for audit events. Default: from the
	// server itself.
	Origin func(context.Context) audit.Origin
}

// DB is one database. It is safe for concurrent use.
type DB struct {
	now    func() time.Time
	logger *slog.Logger
	origin func(context.Context) audit.Origin
	dialect
	closed   atomic.Bool
	told     told
	delivers atomic.Pointer[func()]
}

// dialect is what SQLite and PostgreSQL do differently.
type dialect struct {
	reads, writes *gorm.DB // the same pool for PostgreSQL
	pools         []*sql.DB
	postgres      bool
	path          string // of a SQLite database
	begin         *sql.TxOptions
	clock         string // statement that tells the database's time in milliseconds
}

// Open opens a database and reaches it once. It does not migrate. Now defaults
// to time.Now. Returns sessions.ErrUnavailable where it can't be reached.
func Open(ctx context.Context, config Config) (*DB, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.Origin == nil {
		config.Origin = func(context.Context) audit.Origin { return audit.Origin{} }
	}
	if config.MaxConnections == 0 {
		config.MaxConnections = defaultConnections
	}
	if config.MaxConnections < 0 {
		return nil, fmt.Errorf("opening database: %d connections", config.MaxConnections)
	}
	db := &DB{now: config.Now, logger: config.Logger, origin: config.Origin}
	var err error
	path, isSQLite := strings.CutPrefix(config.URL, "sqlite:")
	switch {
	case isSQLite:
		db.dialect, err = openSQLite(ctx, path, config.MaxConnections)
	case strings.HasPrefix(config.URL, "postgres://"), strings.HasPrefix(config.URL, "postgresql://"):
		db.dialect, err = openPostgres(config.URL, config.MaxConnections)
	default:
		err = errors.New("its URL begins neither with sqlite: nor with postgres://")
	}
	if err == nil {
		err = db.Ping(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening database: %w", db.translate(err)), db.dialect.close())
	}
	return db, nil
}

// Close closes all connections. Calls that are under way fail.
func (db *DB) Close() error {
	db.closed.Store(true)
	return db.dialect.close()
}

func (d *dialect) close() error {
	var errs []error
	for _, pool := range d.pools {
		errs = append(errs, pool.Close())
	}
	return errors.Join(errs...)
}

// Ping tells whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	_, err := db.Clock(ctx)
	return err
}

// Clock returns the database's time, exact to the millisecond.
func (db *DB) Clock(ctx context.Context) (time.Time, error) {
	var ms int64
	err := db.read(ctx, func(c conn) error {
		_, err := c.row([]any{&ms}, db.clock)
		return err
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("asking the database for its time: %w", err)
	}
	return utc(ms), nil
}

// gormConfig is gorm as this package uses it: connections, placeholders and
// transactions; no logging, since it would log values.
func gormConfig() *gorm.Config {
	return &gorm.Config{
		SkipDefaultTransaction:   true,
		DisableAutomaticPing:     true,
		DisableNestedTransaction: true,
		Logger:                   logger.Discard,
	}
}

// conn runs statements on one connection, within a transaction or not.
type conn struct {
	db       *gorm.DB
	postgres bool
	origin   audit.Origin // of the call
	told     *told        // statements
	owing    *bool        // set where the transaction writes deliveries; nil outside of one
}

// row reads the first row of a result into dest; false where there is none.
func (c conn) row(dest []any, statement string, args ...any) (bool, error) {
	found := false
	err := c.rows(func(scan func(...any) error) error {
		if found {
			return nil
		}
		found = true
		return scan(dest...)
	}, statement, args...)
	return found && err == nil, err
}

// rows calls each for every row of a result.
func (c conn) rows(each func(scan func(...any) error) error, statement string, args ...any) error {
	rows, err := c.query(statement, args)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// exec runs a statement and tells how many rows it changed.
func (c conn) exec(statement string, args ...any) (int64, error) {
	if spreads(args) {
		result := c.db.Exec(statement, args...)
		return result.RowsAffected, result.Error
	}
	result, err := c.db.Statement.ConnPool.ExecContext(c.db.Statement.Context, c.placed(statement, args), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// query runs a statement that returns rows.
func (c conn) query(statement string, args []any) (*sql.Rows, error) {
	if spreads(args) {
		return c.db.Raw(statement, args...).Rows()
	}
	return c.db.Statement.ConnPool.QueryContext(c.db.Statement.Context, c.placed(statement, args), args...)
}

// spreads tells whether an argument is a list, which stands for a placeholder
// for each of its items. gorm writes those statements; all others are the same
// text each time, and go by it to the connection and its prepared statements.
func spreads(args []any) bool {
	for _, arg := range args {
		switch arg.(type) {
		case nil, string, int64, int, bool, []byte:
		default:
			switch reflect.TypeOf(arg).Kind() {
			case reflect.Slice, reflect.Array, reflect.Map:
				return true
			}
		}
	}
	return false
}

// placed gives a statement the placeholders of the database. No statement has a
// question mark in a literal or an operator.
func (c conn) placed(statement string, args []any) string {
	if c.postgres {
		statement = c.told.numbered(statement)
	}
	c.told.tell(statement, args)
	return statement
}

// locking is a locking clause on PostgreSQL, and nothing on SQLite, whose
// transactions exclude each other from their beginning.
func (c conn) locking(clause string) string {
	if c.postgres {
		return " " + clause
	}
	return ""
}

// read runs statements that change nothing, outside a transaction.
func (db *DB) read(ctx context.Context, f func(conn) error) error {
	return db.do(ctx, db.reads, f)
}

// write runs one statement that commits by itself.
func (db *DB) write(ctx context.Context, f func(conn) error) error {
	return db.retry(ctx, func(ctx context.Context) error { return db.do(ctx, db.writes, f) })
}

func (db *DB) do(ctx context.Context, pool *gorm.DB, f func(conn) error) error {
	if db.postgres {
		ctx, cancel := limit(ctx)
		defer cancel()
		return db.translate(f(conn{db: pool.WithContext(ctx), postgres: true, origin: db.origin(ctx), told: &db.told}))
	}
	return db.doSQLite(ctx, pool, f)
}

// transact runs f in a transaction and commits unless f returns an error. f
// may run several times.
func (db *DB) transact(ctx context.Context, f func(conn) error) error {
	var owing bool
	err := db.retry(ctx, func(ctx context.Context) error {
		owing = false
		if !db.postgres {
			return db.transactSQLite(ctx, func(c conn) error {
				c.owing = &owing
				return f(c)
			})
		}
		return db.translate(db.writes.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			return f(conn{tx, true, db.origin(ctx), &db.told, &owing})
		}, db.begin))
	})
	if err == nil && owing {
		db.delivered()
	}
	return err
}

// retry repeats what PostgreSQL broke off for a deadlock or a serialization
// failure, and what found SQLite's lock taken. Neither has changed anything.
func (db *DB) retry(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := limit(ctx)
	defer cancel()
	for attempt := 1; ; attempt++ {
		err := f(ctx)
		last := attempts
		switch {
		case err == nil:
			return nil
		case locked(err):
			last = lockedAttempts
		case !brokenOff(err):
			return err
		}
		if attempt >= last {
			return fmt.Errorf("%w: %w", sessions.ErrUnavailable, err)
		}
		// Both parties of a deadlock may be here; they must not meet again.
		pause := time.NewTimer(rand.N(time.Duration(attempt) * 4 * time.Millisecond)) //nolint:gosec // spreads, hides nothing
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return fmt.Errorf("%w: %w", sessions.ErrUnavailable, err)
		}
	}
}

// limit gives a context without a deadline one: nothing waits for ever.
func limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, patience)
}
