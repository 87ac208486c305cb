package storage

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/deliveries"
)

// waitingParties names the clients of some authorization servers that have
// something waiting, by one step in the index deliveries_due for each: of a
// client with a hundred thousand waiting messages it reads one entry, as of any
// other. A table with a row for each such client was rejected: whoever ends the
// first session of a client, and whoever settles its last message, would meet in
// that row.
const waitingParties = waitingServers + `, parties (server, client) AS (
		SELECT servers.name, (SELECT MIN(d.client_id) FROM deliveries d WHERE d.state = 'waiting' AND d.authorization_server = servers.name)
		FROM servers WHERE servers.name IN ?
		UNION ALL
		SELECT parties.server, (SELECT MIN(d.client_id) FROM deliveries d
			WHERE d.state = 'waiting' AND d.authorization_server = parties.server AND d.client_id > parties.client)
		FROM parties WHERE parties.client IS NOT NULL)`

// dueOfParty is what one client has that is due, the oldest first.
const dueOfParty = `SELECT d.authorization_server, d.id, d.next_at FROM deliveries d
	WHERE d.state = 'waiting' AND d.authorization_server = %s AND d.client_id = %s AND d.next_at <= ? ORDER BY d.next_at LIMIT `

// claimPostgres locks, of each client, as many due deliveries as the worker may
// still take and nobody else is taking at this moment, and takes the oldest of
// them. A client at its bound has the limit 0, which looks at nothing.
var claimPostgres = waitingParties + `, chosen AS MATERIALIZED (
		SELECT due.authorization_server, due.id, due.next_at FROM parties
		LEFT JOIN json_to_recordset(CAST(? AS json)) AS busy (server text, client text, n bigint)
			ON busy.server = parties.server AND busy.client = parties.client
		CROSS JOIN LATERAL (` + fmt.Sprintf(dueOfParty, "parties.server", "parties.client") + `
			GREATEST(CAST(? AS BIGINT) - COALESCE(busy.n, 0), 0) FOR UPDATE SKIP LOCKED) due
		WHERE parties.client IS NOT NULL ORDER BY due.next_at, due.id LIMIT ?)
	UPDATE deliveries SET attempts = deliveries.attempts + 1, next_at = ? FROM chosen
	WHERE deliveries.authorization_server = chosen.authorization_server AND deliveries.id = chosen.id
	RETURNING chosen.next_at, ` + deliveryColumnsOf("deliveries")

// candidate is a delivery that is due, and since when.
type candidate struct {
	server, id string
	due        int64
}

// claimed is a delivery that was taken, and since when it was due.
type claimed struct {
	deliveryRow
	due int64
}

// ClaimDeliveries takes deliveries that are due, of claiming's authorization
// servers, those first that have been due for longest. It counts an attempt for
// each, and nobody else gets them before the lease is over.
func (db *DB) ClaimDeliveries(ctx context.Context, claiming deliveries.Claiming) ([]deliveries.Delivery, error) {
	claiming.Servers = slices.DeleteFunc(slices.Clone(claiming.Servers), func(name string) bool { return !storable(name) })
	if claiming.Limit <= 0 || claiming.PerClient <= 0 || len(claiming.Servers) == 0 {
		return nil, nil
	}
	claim := db.claimSQLite
	if db.postgres {
		claim = db.claimPostgres
	}
	now := db.now()
	taken, err := claim(ctx, claiming, stamp(now), stamp(now.Add(claiming.Lease)))
	if err != nil {
		return nil, fmt.Errorf("claiming deliveries: %w", err)
	}
	slices.SortFunc(taken, func(a, b claimed) int {
		return cmp.Or(cmp.Compare(a.due, b.due), strings.Compare(a.ID, b.ID))
	})
	found := make([]deliveries.Delivery, len(taken))
	for i := range taken {
		found[i] = taken[i].delivery()
	}
	return found, nil
}

func (db *DB) claimPostgres(ctx context.Context, claiming deliveries.Claiming, now, lease int64) ([]claimed, error) {
	type party struct {
		Server string `json:"server"`
		Client string `json:"client"`
		N      int    `json:"n"`
	}
	busy := []party{}
	for p, n := range claiming.Busy {
		if storable(p.AuthorizationServer, p.ClientID) {
			busy = append(busy, party{p.AuthorizationServer, p.ClientID, n})
		}
	}
	var taken []claimed
	err := db.transact(ctx, func(c conn) error {
		taken = nil
		// A plan that was made while nothing waited reads all that waits, and would
		// be used until the next ANALYZE. And what the planner takes steps through an
		// index for is so much that it would compile the statement, for 20 ms each
		// time, where running it takes one.
		if _, err := c.exec(`SELECT set_config('plan_cache_mode', 'force_custom_plan', TRUE), set_config('jit', 'off', TRUE)`); err != nil {
			return err
		}
		return c.rows(func(scan func(...any) error) error {
			var row claimed
			err := scan(append([]any{&row.due}, row.dest()...)...)
			taken = append(taken, row)
			return err
		}, claimPostgres, claiming.Servers, document(busy), now, min(claiming.PerClient, claiming.Limit), claiming.Limit, lease)
	})
	return taken, err
}

// claimSQLite looks, without keeping writers waiting, and then takes what is
// still due: SQLite knows no lateral join, and a statement costs no journey.
func (db *DB) claimSQLite(ctx context.Context, claiming deliveries.Claiming, now, lease int64) ([]claimed, error) {
	var due []candidate
	err := db.read(ctx, func(c conn) error {
		due = nil
		var parties []deliveries.Party
		if err := c.rows(func(scan func(...any) error) error {
			var p deliveries.Party
			err := scan(&p.AuthorizationServer, &p.ClientID)
			parties = append(parties, p)
			return err
		}, waitingParties+` SELECT server, client FROM parties WHERE client IS NOT NULL`, claiming.Servers); err != nil {
			return err
		}
		for _, p := range parties {
			may := min(claiming.PerClient-claiming.Busy[p], claiming.Limit)
			if may <= 0 {
				continue
			}
			if err := c.rows(func(scan func(...any) error) error {
				var found candidate
				err := scan(&found.server, &found.id, &found.due)
				due = append(due, found)
				return err
			}, fmt.Sprintf(dueOfParty, "?", "?")+`?`, p.AuthorizationServer, p.ClientID, now, may); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(due) == 0 {
		return nil, err
	}
	slices.SortFunc(due, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.due, b.due), strings.Compare(a.id, b.id))
	})
	due = due[:min(len(due), claiming.Limit)]
	args, since := []any{lease, now}, map[[2]string]int64{}
	for _, d := range due {
		args = append(args, d.server, d.id)
		since[[2]string{d.server, d.id}] = d.due
	}
	var taken []claimed
	err = db.write(ctx, func(c conn) error {
		taken = nil
		return c.rows(func(scan func(...any) error) error {
			var row claimed
			err := scan(row.dest()...)
			row.due = since[[2]string{row.AuthorizationServer, row.ID}]
			taken = append(taken, row)
			return err
		}, `UPDATE deliveries SET attempts = attempts + 1, next_at = ?
			WHERE state = 'waiting' AND next_at <= ? AND (authorization_server, id) IN (VALUES `+placeholders(len(due), `(?, ?)`)+`)
			RETURNING `+deliveryColumns, args...)
	})
	return taken, err
}
