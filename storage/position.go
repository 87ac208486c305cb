package storage

import (
	"context"
	"fmt"
	"math/rand/v2"

	"gatehouse.dev/gatehouse/sessions"
)

const (
	// positionShift is how many bits of a position stand below its millisecond.
	positionShift = 20
	// positionAttempts is how often a position that is taken is chosen anew.
	positionAttempts = 8
	// nameBatch is how many entries are named in one transaction.
	nameBatch = 500
)

// newPosition is the place in the list of its realm of what begins now: its
// millisecond, 19 random bits, and one that keeps sessions and logins apart.
// Unique indexes see to the rest.
func newPosition(at int64, session bool) int64 {
	p := at<<positionShift | rand.Int64N(1<<(positionShift-1))<<1 //nolint:gosec // spreads, hides nothing
	if session {
		p |= 1
	}
	return p
}

// transactAgain is transact for what takes a new position, which may be taken.
func (db *DB) transactAgain(ctx context.Context, f func(conn) error) error {
	for attempt := 1; ; attempt++ {
		err := db.transact(ctx, f)
		if !isDuplicate(err) || attempt == positionAttempts {
			return err
		}
	}
}

// nameEntries gives the sessions that have none the id of their entry: those
// from before there were such ids, and those that a node of the previous
// release has made since.
func (db *DB) nameEntries(ctx context.Context) error {
	for {
		var unnamed []sessions.Key
		err := db.read(ctx, func(c conn) error {
			unnamed = nil
			return c.rows(func(scan func(...any) error) error {
				var k sessions.Key
				err := scan(&k.AuthorizationServer, &k.ID)
				unnamed = append(unnamed, k)
				return err
			}, `SELECT authorization_server, id FROM oauth2_sessions WHERE entry_id IS NULL LIMIT ?`, nameBatch)
		})
		if err == nil && len(unnamed) > 0 {
			err = db.transact(ctx, func(c conn) error {
				for _, k := range unnamed {
					if _, err := c.exec(`UPDATE oauth2_sessions SET entry_id = ? WHERE authorization_server = ? AND id = ?`,
						sessions.EntryID(k), k.AuthorizationServer, k.ID); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err != nil {
			return fmt.Errorf("naming entries: %w", err)
		}
		if len(unnamed) < nameBatch {
			return nil
		}
	}
}
