//go:build unix

package storage

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage/pgtest"
	"gatehouse.dev/gatehouse/storage/storagetest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// databases are the kinds of database that everything must work on.
var databases = map[string]func(t *testing.T) string{
	"SQLite":     func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "a b?c#d.db") },
	"PostgreSQL": func(t *testing.T) string { return pgtest.Shared(t).NewDatabase(t) },
}

// eachDatabase runs a test on every kind of database.
func eachDatabase(t *testing.T, test func(t *testing.T, url string)) {
	for name, newDatabase := range databases {
		t.Run(name, func(t *testing.T) { test(t, newDatabase(t)) })
	}
}

func open(t *testing.T, config Config) *DB {
	t.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	db, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func openMigrated(t *testing.T, config Config) *DB {
	t.Helper()
	db := open(t, config)
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

func TestConformance(t *testing.T) {
	for name, newDatabase := range databases {
		for _, connections := range []int{8, 1} {
			t.Run(name+map[int]string{8: "", 1: "WithOneConnection"}[connections], func(t *testing.T) {
				storagetest.Run(t, func(t *testing.T, now func() time.Time) (a, b storagetest.Handles) {
					config := Config{URL: newDatabase(t), MaxConnections: connections, Now: now,
						Origin: func(context.Context) audit.Origin { return storagetest.Origin }}
					return handles(openMigrated(t, config)), handles(openMigrated(t, config))
				})
			})
		}
	}
}

func handles(db *DB) storagetest.Handles {
	return storagetest.Handles{
		Server: func(name, realm string) storagetest.ServerStore {
			return db.For(ServerConfig{Name: name, Realm: realm, Lifetimes: storagetest.Lifetimes})
		},
		Realm: func(name string) storagetest.RealmStore {
			return db.Realm(RealmConfig{Name: name, Lifetimes: storagetest.Lifetimes, ScanLimit: time.Minute,
				Servers: map[string]sessions.Lifetimes{"myAS": storagetest.Lifetimes, "other": storagetest.Lifetimes}})
		},
		Deliveries: db,
		OnDelivery: db.OnDelivery,
		Thorough: func(name string) storagetest.RealmStore {
			return db.Realm(RealmConfig{Name: name, Lifetimes: storagetest.Lifetimes, LogoutEndsOffline: true})
		},
		ErrClientExists: ErrClientExists,
		Letters:         db,
	}
}
