package storage

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	gosqlite "github.com/glebarez/go-sqlite"
	"github.com/jackc/pgx/v5/pgconn"
	sqlite3 "modernc.org/sqlite/lib"

	"gatehouse.dev/gatehouse/sessions"
)

// ErrClientExists: the authorization server has a live client of that id.
var ErrClientExists = errors.New("client exists already")

// errClosed is the cause of what fails after Close.
var errClosed = errors.New("database was closed")

// translate adds sessions.ErrUnavailable to an error that says that the
// database can't be reached or doesn't answer in time.
func (db *DB) translate(err error) error {
	switch {
	case err == nil, errors.Is(err, sessions.ErrUnavailable):
		return err
	case db.closed.Load():
		return fmt.Errorf("%w: %w", sessions.ErrUnavailable, errClosed)
	case unreachable(err):
		return fmt.Errorf("%w: %w", sessions.ErrUnavailable, err)
	}
	return err
}

func unreachable(err error) bool {
	var (
		network net.Error
		connect *pgconn.ConnectError
		pg      *pgconn.PgError
		lite    *gosqlite.Error
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone), errors.Is(err, sql.ErrTxDone),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		// A transaction is "done" before its time when its context is.
		return true
	case errors.As(err, &connect), errors.As(err, &network):
		return true
	case errors.As(err, &pg):
		return pgUnreachable(pg.Code)
	case errors.As(err, &lite):
		switch lite.Code() & 0xff { // the rest is detail
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT,
			sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL:
			return true
		}
		return false
	}
	return pgconn.SafeToRetry(err)
}

// pgUnreachable judges a SQLSTATE (PostgreSQL, appendix A).
func pgUnreachable(code string) bool {
	switch code {
	case "57014", // query_canceled: a timeout
		"55P03", // lock_not_available
		"25006": // read_only_sql_transaction: a standby
		return true
	}
	return strings.HasPrefix(code, "08") || // connection exception
		strings.HasPrefix(code, "53") || // insufficient resources
		strings.HasPrefix(code, "57P") // shutdown, crash, not yet up
}

// brokenOff tells whether PostgreSQL broke a transaction off that may simply
// be repeated.
func brokenOff(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40P01" || pg.Code == "40001")
}

// locked tells whether another process kept SQLite's one lock for longer than
// the driver waits. The statement, or the transaction that it was to begin, has
// changed nothing.
func locked(err error) bool {
	var lite *gosqlite.Error
	return errors.As(err, &lite) && lite.Code()&0xff == sqlite3.SQLITE_BUSY
}

// isDuplicate tells whether a statement failed at a unique index.
func isDuplicate(err error) bool {
	var (
		pg   *pgconn.PgError
		lite *gosqlite.Error
	)
	if errors.As(err, &pg) {
		return pg.Code == "23505"
	}
	return errors.As(err, &lite) &&
		(lite.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || lite.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}
