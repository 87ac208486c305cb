package main

import (
	"context"
	"fmt"
	"time"

	"gatehouse.dev/gatehouse/keys"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage"
	"gatehouse.dev/gatehouse/throttle"
)

// openRealmRoot opens the root secret of a realm, which a first start makes.
func (h *house) openRealmRoot(ctx context.Context, realm string, store *storage.Realm) (*keys.Root, error) {
	root, err := keys.OpenRoot(ctx, keys.RootConfig{Store: store, KEK: h.kek, Owner: "realm:" + realm, Now: h.now})
	if err != nil {
		return nil, fmt.Errorf("realm %s: %w", realm, err)
	}
	return root, nil
}

// newThrottle limits the password guesses of a realm, under a subkey of the
// realm's root secret.
func (h *house) newThrottle(root *keys.Root, realm string, store *storage.Realm, secure bool) (*throttle.Throttle, error) {
	cfg := h.cfg.Realms[realm].Throttle
	return throttle.New(throttle.Config{
		Realm:  realm,
		Secure: secure,
		Store:  store,
		MAC:    root.MAC("throttle").Sum,
		Limits: throttle.Limits{
			Account: int(cfg.Account),
			Address: int(cfg.Address),
			Device:  2 * int(cfg.Account),
			Window:  cfg.Window,
		},
		Now: h.now,
	})
}

// throttleSweep has a realm's expired counters swept.
type throttleSweep struct {
	throttle *throttle.Throttle
	now      func() time.Time
}

func (s throttleSweep) Sweep(ctx context.Context, _ time.Duration, limit int) (sessions.Swept, error) {
	n, err := s.throttle.Sweep(ctx, s.now(), limit)
	return sessions.Swept{Marks: n, More: n >= limit}, err
}
