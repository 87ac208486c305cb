//go:build unix

package storage

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage/pgtest"
	"gatehouse.dev/gatehouse/storage/storagetest"
	"gatehouse.dev/gatehouse/users"
)

func TestOpenRefusesOtherURLs(t *testing.T) {
	for _, url := range []string{
		"", "gatehouse.db", "sqlite", "sqlite:", "sqlite::memory:", "mysql://root:hunter2@localhost/db", "postgres:/x",
		"postgres://alex:hunter2@localhost:port/db", "postgres://alex:hunter2@localhost/db?sslmode=never",
		"sqlite:" + filepath.Join(t.TempDir(), "no", "such", "folder.db"), "sqlite:" + t.TempDir(),
	} {
		db, err := Open(t.Context(), Config{URL: url, Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			t.Errorf("%q was opened", url)
			db.Close()
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
	if _, err := Open(t.Context(), Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "x.db"), MaxConnections: -1}); err == nil {
		t.Error("a negative number of connections was taken")
	}
}

func TestConcurrentStartsMigrateOnce(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		var group sync.WaitGroup
		for range 6 {
			db := open(t, Config{URL: url, MaxConnections: 1})
			group.Go(func() {
				if err := db.Migrate(t.Context()); err != nil {
					t.Error(err)
				}
				if n, err := db.Pending(t.Context()); err != nil || n != 0 {
					t.Errorf("after migrating %d migrations are pending, %v", n, err)
				}
			})
		}
		// Opening is concurrent too.
		for range 6 {
			group.Go(func() {
				db, err := Open(t.Context(), Config{URL: url, Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Error(err)
					return
				}
				if err := errors.Join(db.Migrate(t.Context()), db.Close()); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	})
}

func TestPendingLeavesNoTrace(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		db := open(t, Config{URL: url})
		files, err := migrations.ReadDir("migrations/sqlite")
		must(t, err)
		for range 2 {
			if n, err := db.Pending(t.Context()); err != nil || n != len(files) {
				t.Errorf("%d migrations are pending, %v; want %d", n, err, len(files))
			}
		}
		if err := db.write(t.Context(), func(c conn) error {
			_, err := c.exec(`CREATE TABLE ` + versionTable + ` (version_id INTEGER, is_applied BOOLEAN)`)
			return err
		}); err != nil {
			t.Errorf("asking what is pending created the table of versions: %v", err)
		}
		// A database that a newer program has migrated is let be.
		if err := db.write(t.Context(), func(c conn) error {
			_, err := c.exec(`INSERT INTO `+versionTable+` VALUES (999, ?)`, true)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if n, err := db.Pending(t.Context()); err != nil || n != 0 {
			t.Errorf("ahead of this program %d migrations are pending, %v", n, err)
		}
		if err := db.Migrate(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestClockIsTheDatabases(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		db := open(t, Config{URL: url, Now: func() time.Time { return time.Time{} }})
		before := time.Now().Truncate(time.Millisecond)
		clock, err := db.Clock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if clock.Before(before.Add(-time.Second)) || clock.After(time.Now().Add(time.Second)) || clock.Location() != time.UTC {
			t.Errorf("the database's time is %v, ours %v", clock, before)
		}
		if err := db.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestSQLiteFilesAreForTheirOwnerOnly(t *testing.T) {
	folder := t.TempDir()
	db := openMigrated(t, Config{URL: "sqlite:" + filepath.Join(folder, "gatehouse.db")})
	_ = db.Realm(RealmConfig{Name: "staff"}).InsertUser(t.Context(), &users.User{ID: "alex", Username: "alex"})
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 4 {
		t.Errorf("%d files, want the database, its log, its index and the lock", len(files))
	}
	for _, file := range files {
		info, err := file.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %v", file.Name(), info.Mode())
		}
	}
}

// calls are one of each way to reach the database.
func calls(db *DB) map[string]func(context.Context) error {
	realm := db.Realm(RealmConfig{Name: "staff", Lifetimes: storagetest.Lifetimes})
	as := db.For(ServerConfig{Name: "myAS", Realm: "staff", Lifetimes: storagetest.Lifetimes})
	return map[string]func(context.Context) error{
		"ping":    db.Ping,
		"migrate": db.Migrate,
		"read":    func(ctx context.Context) error { _, err := realm.User(ctx, "alex"); return err },
		"list":    func(ctx context.Context) error { _, err := as.Sessions(ctx, sessions.Filter{}); return err },
		"write":   func(ctx context.Context) error { return as.RevokeToken(ctx, rest(), time.Now()) },
		"touch": func(ctx context.Context) error {
			return realm.Touch(ctx, []sessions.Touch{{LoginID: "x", At: time.Now()}})
		},
		"transaction": func(ctx context.Context) error { _, err := as.InsertGrant(ctx, oauth.NewGrant{}); return err },
		"end": func(ctx context.Context) error {
			_, err := as.End(ctx, sessions.Target{Session: "x"}, sessions.Ending{})
			return err
		},
		"client": func(ctx context.Context) error {
			return as.InsertClient(ctx, &clients.Client{Metadata: clients.Metadata{ClientID: rest()}})
		},
	}
}

// rest makes names that don't repeat.
func rest() string { return strings.ReplaceAll(time.Now().Format(time.RFC3339Nano), ":", "") }

func wantUnavailable(t *testing.T, db *DB, ctx context.Context, want bool, what string, only ...string) {
	t.Helper()
	for name, call := range calls(db) {
		if len(only) > 0 && !strings.Contains(strings.Join(only, " "), name) {
			continue
		}
		if err := call(ctx); errors.Is(err, sessions.ErrUnavailable) != want {
			t.Errorf("%s: %s: error %v, want unavailable %v", what, name, err, want)
		}
	}
}

func TestUnreachableDatabaseIsUnavailable(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{})
	db := openMigrated(t, Config{URL: server.NewDatabase(t)})
	wantUnavailable(t, db, t.Context(), false, "up")
	if err := server.Stop(true); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		wantUnavailable(t, db, t.Context(), true, "down")
	}
	if _, err := Open(t.Context(), Config{URL: server.URL("postgres")}); !errors.Is(err, sessions.ErrUnavailable) {
		t.Errorf("opening: %v", err)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	wantUnavailable(t, db, t.Context(), false, "up again")
}

func TestClosedDatabaseIsUnavailable(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		db, err := Open(t.Context(), Config{URL: url, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Migrate(t.Context()), db.Close(), db.Close()); err != nil {
			t.Fatal(err)
		}
		wantUnavailable(t, db, t.Context(), true, "closed")
	})
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		db := openMigrated(t, Config{URL: url, MaxConnections: 1})
		wantUnavailable(t, db, t.Context(), false, "before")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantUnavailable(t, db, ctx, true, "cancelled")

		// Every connection is taken.
		held, release := make(chan struct{}), make(chan struct{})
		var group sync.WaitGroup
		group.Go(func() {
			if err := db.transact(t.Context(), func(conn) error {
				close(held)
				<-release
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
		<-held
		ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if db.postgres {
			wantUnavailable(t, db, ctx, true, "no connection free")
		} else {
			wantUnavailable(t, db, ctx, true, "no writing connection free", "write", "touch", "transaction", "end", "client")
		}
		close(release)
		group.Wait()
		wantUnavailable(t, db, t.Context(), false, "after")
	})
}

// A second process writes, and does not come to an end.
func TestLockedSQLiteIsUnavailableToWriters(t *testing.T) {
	url := databases["SQLite"](t)
	db, other := openMigrated(t, Config{URL: url}), open(t, Config{URL: url})
	err := other.transact(t.Context(), func(c conn) error {
		wantUnavailable(t, db, t.Context(), true, "locked", "write")
		wantUnavailable(t, db, t.Context(), false, "locked", "ping", "read", "list")
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	wantUnavailable(t, db, t.Context(), false, "unlocked")
}

func TestBrokenOffTransactionIsRepeated(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		db := openMigrated(t, Config{URL: url})
		for _, test := range []struct {
			code        string
			fails, runs int
			unavailable bool
		}{
			{"40P01", 2, 3, false}, {"40001", attempts - 1, attempts, false}, {"40P01", 100, attempts, true}, {"23505", 1, 1, false},
		} {
			runs := 0
			err := db.transact(t.Context(), func(c conn) error {
				runs++
				if _, err := c.exec(`INSERT INTO revoked_tokens VALUES ('myAS', ?, 1)`, test.code+string(rune('a'+test.fails))); err != nil {
					return err
				}
				if runs <= test.fails {
					return &pgconn.PgError{Code: test.code}
				}
				return nil
			})
			if runs != test.runs || errors.Is(err, sessions.ErrUnavailable) != test.unavailable {
				t.Errorf("%s, %d times: ran %d times, want %d; error %v", test.code, test.fails, runs, test.runs, err)
			}
		}
	})
}
