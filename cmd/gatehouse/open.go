package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/keys"
	"gatehouse.dev/gatehouse/storage"
	"gatehouse.dev/gatehouse/users"
)

// configFlag adds --config, without which no command knows its database.
func configFlag(c *cobra.Command, file *string) {
	c.Flags().StringVarP(file, "config", "c", "", "configuration `file` (required)")
}

// loadConfig reads the configuration that --config names.
func loadConfig(file string) (*configs.Config, error) {
	if file == "" {
		return nil, usagef("--config FILE is missing")
	}
	cfg, err := configs.Load(file, os.LookupEnv)
	if faults := (configs.Faults)(nil); errors.As(err, &faults) {
		return nil, fmt.Errorf("the configuration has %s:\n%w", count(len(faults), "fault"), err)
	}
	return cfg, err
}

// openDatabase connects to the configured database and brings its tables up to
// date. origin is for audit events.
func openDatabase(ctx context.Context, cfg *configs.Config, now func() time.Time,
	origin func(context.Context) audit.Origin, logger *slog.Logger) (*storage.DB, error) {
	return openStorage(ctx, storage.Config{URL: string(cfg.Database), Now: now, Logger: logger, Origin: origin})
}

// openStorage is openDatabase for all that storage can be told.
func openStorage(ctx context.Context, cfg storage.Config) (*storage.DB, error) {
	db, err := storage.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// openKEK returns the configured key-encryption keys.
func openKEK(cfg *configs.Config) (*keys.KEK, error) {
	previous := make([]string, len(cfg.PreviousKeyEncryptionKeys))
	for i, key := range cfg.PreviousKeyEncryptionKeys {
		previous[i] = string(key)
	}
	kek, err := keys.NewKEK(string(cfg.KeyEncryptionKey), previous...)
	if err != nil {
		return nil, fmt.Errorf("key_encryption_key: %w", err)
	}
	return kek, nil
}

// createUsers adds the configured users that a realm does not have. Those that
// it has stay as they are, also where the file says otherwise.
func createUsers(ctx context.Context, store users.Store, list []configs.User, passwords *users.Passwords, now func() time.Time) error {
	for _, u := range list {
		key, err := users.Key(u.Username)
		if err != nil {
			return fmt.Errorf("user %q: %w", u.Username, err)
		}
		_, err = store.UserByName(ctx, key)
		if err == nil {
			continue
		}
		if !errors.Is(err, users.ErrNotFound) {
			return fmt.Errorf("user %q: %w", u.Username, err)
		}
		user := newUser(u.Username, now)
		user.Claims = users.Claims{Name: u.Name, Email: u.Email}
		user.Roles = u.Roles
		if u.Password != "" {
			if user.Password, err = passwords.Hash(ctx, string(u.Password)); err != nil {
				return fmt.Errorf("user %q: %w", u.Username, err)
			}
		}
		// Another node may have been faster.
		if err := store.InsertUser(ctx, user); err != nil && !errors.Is(err, users.ErrExists) {
			return fmt.Errorf("user %q: %w", u.Username, err)
		}
	}
	return nil
}

// newUser is an account with nothing but what every account has.
func newUser(username string, now func() time.Time) *users.User {
	salt := make([]byte, 32)
	rand.Read(salt)
	return &users.User{ID: uuid.NewString(), Username: username, Salt: salt, CreatedAt: now().UTC().Truncate(time.Millisecond)}
}

// count is a number with its noun: "1 session", "3 sessions".
func count(n int, noun string) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
