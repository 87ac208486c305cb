package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/keys"
	"gatehouse.dev/gatehouse/storage"
)

func newKeys(s streams) *cobra.Command {
	return group(&cobra.Command{Use: "keys", Short: "Look after the keys of an authorization server"},
		newKeysList(s), newKeysRotate(s), newKeysRewrap(s))
}

// ring opens the keys of the authorization server.
func (d *serverDoor) ring(ctx context.Context, logger *slog.Logger) (*keys.Ring, error) {
	kek, err := openKEK(d.root)
	if err != nil {
		return nil, err
	}
	return keys.Open(ctx, keys.Config{Store: d.store, KEK: kek, Owner: "as:" + d.name, Now: time.Now, Logger: logger})
}

func newKeysList(s streams) *cobra.Command {
	var a serverCommand
	var output string
	c := &cobra.Command{
		Use:   "list --as NAME --config FILE",
		Short: "List the signing keys",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			return a.with(c.Context(), s, func(d *serverDoor) error {
				ring, err := d.ring(c.Context(), commandLogger(s))
				if err != nil {
					return err
				}
				return listKeys(s, output, ring)
			})
		},
	}
	outputFlag(c, &output)
	return a.flags(c)
}

func listKeys(s streams, output string, ring *keys.Ring) error {
	return list(s.out, output, ring.Keys(), "ID\tALGORITHM\tSTATE\tCREATED\tACTIVATES\tRETIRED", func(i keys.Info) []string {
		return []string{i.ID, i.Algorithm, string(i.State), when(i.CreatedAt), when(i.ActivatesAt), when(i.RetiredAt)}
	})
}

func newKeysRotate(s streams) *cobra.Command {
	var a serverCommand
	var algorithm, output string
	var now bool
	c := &cobra.Command{
		Use:   "rotate --as NAME --config FILE",
		Short: "Make the next signing key, which signs once everybody can have it",
		Long: "Make the next signing key of each algorithm, or of one. It is published at once and\n" +
			"signs 15 minutes later; the one before it goes on verifying. With --now it signs at once,\n" +
			"for a key that may have leaked: relying parties have to fetch the key set again, and\n" +
			"other nodes take up to 30 seconds to know the key.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			return a.with(c.Context(), s, func(d *serverDoor) error {
				ring, err := d.ring(c.Context(), commandLogger(s))
				if err != nil {
					return err
				}
				if err := ring.Rotate(c.Context(), algorithm, now); err != nil {
					return err
				}
				return listKeys(s, output, ring)
			})
		},
	}
	c.Flags().StringVar(&algorithm, "alg", "", "only this `algorithm`")
	c.Flags().BoolVar(&now, "now", false, "let the new key sign at once")
	outputFlag(c, &output)
	return a.flags(c)
}

func newKeysRewrap(s streams) *cobra.Command {
	var file, as string
	c := &cobra.Command{
		Use:   "rewrap --config FILE",
		Short: "Seal everything under the current key-encryption key",
		Long: "Seal what is still under one of previous_key_encryption_keys under key_encryption_key,\n" +
			"for all authorization servers and realms or, with --as, for one authorization server.\n" +
			"Afterwards the previous keys can be taken out of the configuration.",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			if _, ok := cfg.AuthorizationServers[as]; as != "" && !ok {
				return usagef("no authorization server %q is configured", as)
			}
			kek, err := openKEK(cfg)
			if err != nil {
				return err
			}
			db, err := openDatabase(c.Context(), cfg, time.Now, commandOrigin, commandLogger(s))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, db.Close()) }()
			n, err := rewrap(c.Context(), cfg, db, kek, as, commandLogger(s))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(s.out, "%s sealed anew\n", count(n, "key"))
			return err
		},
	}
	configFlag(c, &file)
	c.Flags().StringVar(&as, "as", "", "only this authorization server's, by `name`")
	return c
}

// rewrap seals the keys of one authorization server, or of all and of the
// realms, under the current key-encryption key, and tells how many were not.
func rewrap(ctx context.Context, cfg *configs.Config, db *storage.DB, kek *keys.KEK, as string, logger *slog.Logger) (int, error) {
	total := 0
	for _, name := range cfg.AuthorizationServerNames() {
		if as != "" && name != as {
			continue
		}
		store := db.For(storage.ServerConfig{Name: name, Realm: cfg.AuthorizationServers[name].Realm, Lifetimes: serverLifetimes(cfg, name)})
		ring, err := keys.Open(ctx, keys.Config{Store: store, KEK: kek, Owner: "as:" + name, Now: time.Now, Logger: logger})
		if err != nil {
			return total, err
		}
		n, err := ring.Rewrap(ctx)
		total += n
		if err != nil {
			return total, err
		}
	}
	if as != "" {
		return total, nil
	}
	for _, name := range cfg.RealmNames() {
		store, err := openRealm(cfg, db, name)
		if err != nil {
			return total, err
		}
		roots, err := store.Roots(ctx)
		if err != nil {
			return total, err
		}
		if len(roots) == 0 {
			continue // opening it would make one
		}
		root, err := keys.OpenRoot(ctx, keys.RootConfig{Store: store, KEK: kek, Owner: "realm:" + name, Now: time.Now})
		if err != nil {
			return total, err
		}
		n, err := root.Rewrap(ctx)
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
