package storage

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"gatehouse.dev/gatehouse/deliveries"
)

// maxDeliveryError bounds why an attempt failed, in bytes.
const maxDeliveryError = 200

// errOutcome is a mistake of the caller's.
var errOutcome = errors.New("outcome of a delivery has no known state")

var _ deliveries.Store = (*DB)(nil)

// deliveryRow is a delivery as it is stored.
type deliveryRow struct {
	deliveries.Delivery
	created, next int64
	settled       sql.NullInt64
}

const deliveryColumns = `authorization_server, id, client_id, session_id, subject, uri, alg, state,
	created_at, next_at, attempts, last_error, settled_at`

// deliveryColumnsOf are deliveryColumns of a named table.
func deliveryColumnsOf(name string) string {
	columns := strings.Split(deliveryColumns, ",")
	for i := range columns {
		columns[i] = name + "." + strings.TrimSpace(columns[i])
	}
	return strings.Join(columns, ", ")
}

func (r *deliveryRow) dest() []any {
	return []any{&r.AuthorizationServer, &r.ID, &r.ClientID, &r.SessionID, &r.Subject, &r.URI, &r.Alg, &r.State,
		&r.created, &r.next, &r.Attempts, &r.LastError, &r.settled}
}

func (r *deliveryRow) delivery() deliveries.Delivery {
	d := r.Delivery
	d.CreatedAt, d.SettledAt = utc(r.created), maybe(r.settled)
	if d.State == deliveries.Waiting { // else it is the sweeper's
		d.NextAt = utc(r.next)
	}
	return d
}

// SettleDelivery notes the outcome of the attempt that d was claimed for, the
// cause of a failure cut to 200 bytes. deliveries.ErrNotFound: another attempt
// has begun since, or it is settled.
func (db *DB) SettleDelivery(ctx context.Context, d deliveries.Delivery, outcome deliveries.Outcome) error {
	now := stamp(db.now())
	next, settled := now, any(now)
	switch outcome.State {
	case deliveries.Sent, deliveries.Abandoned:
	case deliveries.Waiting:
		next, settled = stamp(outcome.Next), nil
	default:
		return fmt.Errorf("settling a delivery: %w", errOutcome)
	}
	err := db.write(ctx, func(c conn) error {
		n, err := c.exec(`UPDATE deliveries SET state = ?, next_at = ?, last_error = ?, settled_at = ?
			WHERE authorization_server = ? AND id = ? AND attempts = ? AND state = 'waiting'`,
			string(outcome.State), next, printable(outcome.Error, maxDeliveryError), settled, d.AuthorizationServer, d.ID, d.Attempts)
		if err == nil && n == 0 {
			err = deliveries.ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("settling a delivery: %w", err)
	}
	return nil
}

// printable is legible without what a terminal would act on.
func printable(text string, max int) string {
	return legible(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text), max)
}

// ReleaseDeliveries gives back what was claimed and not begun: it is due at
// once, and the attempt is not counted. What another attempt has begun for, or
// is settled, stays as it is.
func (db *DB) ReleaseDeliveries(ctx context.Context, claimed []deliveries.Delivery) error {
	rows := slices.Clone(claimed)
	// In order, so that what locks several rows does so in the same order.
	slices.SortFunc(rows, func(a, b deliveries.Delivery) int {
		return cmp.Or(strings.Compare(a.AuthorizationServer, b.AuthorizationServer), strings.Compare(a.ID, b.ID))
	})
	now := stamp(db.now())
	for batch := range slices.Chunk(rows, endBatch) {
		args := []any{now}
		for _, d := range batch {
			args = append(args, d.AuthorizationServer, d.ID, d.Attempts)
		}
		err := db.write(ctx, func(c conn) error {
			_, err := c.exec(`UPDATE deliveries SET next_at = ?, attempts = attempts - 1
				WHERE state = 'waiting' AND (authorization_server, id, attempts) IN (VALUES `+
				placeholders(len(batch), `(CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT))`)+`)`, args...)
			return err
		})
		if err != nil {
			return fmt.Errorf("releasing deliveries: %w", err)
		}
	}
	return nil
}

// placeholders are so many rows of VALUES.
func placeholders(n int, row string) string {
	return strings.TrimSuffix(strings.Repeat(row+", ", n), ", ")
}

// Deliveries lists those of one authorization server that filter chooses,
// newest ending first, 1,000 at most.
func (db *DB) Deliveries(ctx context.Context, server string, filter deliveries.Filter) ([]deliveries.Delivery, error) {
	if !storable(server, filter.ClientID, filter.SessionID) {
		return nil, nil
	}
	where, args := []string{`authorization_server = ?`}, []any{server}
	switch filter.State {
	case "":
	case deliveries.Waiting, deliveries.Sent, deliveries.Abandoned:
		// Spelled out, as it stands in the indexes.
		where = append(where, `state = '`+string(filter.State)+`'`)
	default:
		return nil, nil
	}
	for _, equal := range []struct{ column, value string }{{"client_id", filter.ClientID}, {"session_id", filter.SessionID}} {
		if equal.value != "" {
			where, args = append(where, equal.column+` = ?`), append(args, equal.value)
		}
	}
	limit := filter.Limit
	if limit <= 0 || limit > maxList {
		limit = maxList
	}
	var found []deliveries.Delivery
	err := db.read(ctx, func(c conn) error {
		found = nil
		return c.rows(func(scan func(...any) error) error {
			var row deliveryRow
			err := scan(row.dest()...)
			found = append(found, row.delivery())
			return err
		}, `SELECT `+deliveryColumns+` FROM deliveries WHERE `+strings.Join(where, " AND ")+` ORDER BY id DESC LIMIT ?`,
			append(args, limit)...)
	})
	if err != nil {
		return nil, fmt.Errorf("listing deliveries: %w", err)
	}
	return found, nil
}

// waitingServers names the authorization servers that have something waiting,
// by one step in the index for each.
const waitingServers = `WITH RECURSIVE servers (name) AS (
		SELECT MIN(authorization_server) FROM deliveries WHERE state = 'waiting'
		UNION ALL
		SELECT (SELECT MIN(d.authorization_server) FROM deliveries d WHERE d.state = 'waiting' AND d.authorization_server > servers.name)
		FROM servers WHERE servers.name IS NOT NULL)`

// Backlog counts waiting deliveries by authorization server, each up to limit,
// and tells when the oldest of them was written. Authorization servers that have
// none are not named.
func (db *DB) Backlog(ctx context.Context, limit int) (map[string]deliveries.Waitings, error) {
	found := map[string]deliveries.Waitings{}
	err := db.read(ctx, func(c conn) error {
		clear(found)
		return c.rows(func(scan func(...any) error) error {
			var (
				server string
				w      deliveries.Waitings
				oldest sql.NullInt64
			)
			err := scan(&server, &w.Count, &oldest)
			w.Oldest = maybe(oldest)
			found[server] = w
			return err
		}, waitingServers+` SELECT servers.name,
			(SELECT COUNT(*) FROM (SELECT 1 FROM deliveries d WHERE d.authorization_server = servers.name AND d.state = 'waiting' LIMIT ?) AS waiting),
			(SELECT d.created_at FROM deliveries d WHERE d.authorization_server = servers.name AND d.state = 'waiting' ORDER BY d.id LIMIT 1)
			FROM servers WHERE servers.name IS NOT NULL`, limit)
	})
	if err != nil {
		return nil, fmt.Errorf("counting deliveries: %w", err)
	}
	return found, nil
}
