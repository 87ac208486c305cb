package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/storage"
)

func newMigrate(s streams) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "migrate --config FILE",
		Short: "Create the database's tables or bring them up to date, as serve does at its start",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			n, err := migrate(c.Context(), cfg, commandLogger(s))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(s.out, "%s applied\n", count(n, "migration"))
			return err
		},
	}
	configFlag(c, &file)
	return c
}

func migrate(ctx context.Context, cfg *configs.Config, logger *slog.Logger) (n int, err error) {
	db, err := storage.Open(ctx, storage.Config{URL: string(cfg.Database), Now: time.Now, Logger: logger})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	pending, err := db.Pending(ctx)
	if err != nil {
		return 0, err
	}
	if err := db.Migrate(ctx); err != nil {
		return 0, err
	}
	return pending, nil
}

// commandLogger logs what a command that isn't a server has to say: warnings.
func commandLogger(s streams) *slog.Logger {
	return slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
