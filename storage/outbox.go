package storage

import (
	"context"
	"fmt"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/clients"
)

// defaultIDTokenAlg is what signs for a client that has not said otherwise
// (OpenID Connect Dynamic Client Registration 1.0 §2).
const defaultIDTokenAlg = "RS256"

const outboxInsert = `INSERT INTO deliveries (authorization_server, id, client_id, session_id, subject, uri, alg, state,
	created_at, next_at, attempts, last_error) `

// OnDelivery has f called after each transaction of this process that wrote
// deliveries and was committed. f runs on the goroutine of whoever ended
// something, and so must not block; a second call replaces the first f. Those
// that other processes write, or that one wrote whose commit got lost, are found
// by asking for them from time to time.
func (db *DB) OnDelivery(f func()) { db.delivers.Store(&f) }

// delivered calls what OnDelivery was given.
func (db *DB) delivered() {
	if f := db.delivers.Load(); f != nil {
		(*f)()
	}
}

// tell writes a delivery for each session of one authorization server that has
// just ended or was just detached (event; when is the column that says so), if
// it was activated and its client is to be told. A client that was deleted, in
// this transaction or before, is told too: its row keeps the address. One that
// was registered anew under the id of a deleted one is not told of the other's
// sessions.
func (e ender) tell(event audit.Type, when, server string, ids []string) error {
	n, err := e.c.exec(outboxInsert+`SELECT s.authorization_server, CAST(? AS TEXT) || s.id, s.client_id, s.id, s.subject,
			c.backchannel_logout_uri, c.id_token_alg, 'waiting', CAST(? AS BIGINT), CAST(? AS BIGINT), 0, ''
		FROM oauth2_sessions s
		JOIN clients c ON c.authorization_server = s.authorization_server AND c.client_id = s.client_id AND c.uid = s.client_uid
		WHERE s.authorization_server = ? AND s.id IN ? AND s.`+when+` = ? AND s.activated_at IS NOT NULL
			AND c.backchannel_logout_uri <> ''
		ON CONFLICT (authorization_server, id) DO NOTHING`,
		e.prefix(mark(event)), e.at, e.at, server, ids, e.at)
	if err == nil && n > 0 && e.c.owing != nil {
		*e.c.owing = true
	}
	return err
}

// toldAt is a client's backchannel_logout_uri and id_token_alg, as they are
// stored beside its metadata.
func toldAt(m *clients.Metadata) (uri, alg string) {
	alg = m.IDTokenSignedAlg
	if alg == "" {
		alg = defaultIDTokenAlg
	}
	return m.BackchannelLogoutURI, alg
}

// fillTold gives the clients that a node of a release without these columns
// wrote what toldAt makes of their metadata.
func (db *DB) fillTold(ctx context.Context) error {
	type row struct{ server, id, metadata string }
	for {
		var lacking []row
		err := db.read(ctx, func(c conn) error {
			lacking = nil
			return c.rows(func(scan func(...any) error) error {
				var r row
				err := scan(&r.server, &r.id, &r.metadata)
				lacking = append(lacking, r)
				return err
			}, `SELECT authorization_server, client_id, metadata FROM clients WHERE backchannel_logout_uri IS NULL LIMIT ?`, nameBatch)
		})
		if err == nil && len(lacking) > 0 {
			err = db.transact(ctx, func(c conn) error {
				for _, r := range lacking {
					var m clients.Metadata
					if err := parse(r.metadata, &m); err != nil {
						return err
					}
					uri, alg := toldAt(&m)
					if _, err := c.exec(`UPDATE clients SET backchannel_logout_uri = ?, id_token_alg = ?
						WHERE authorization_server = ? AND client_id = ? AND metadata = ?`, uri, alg, r.server, r.id, r.metadata); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err != nil {
			return fmt.Errorf("filling in where clients are told: %w", err)
		}
		if len(lacking) < nameBatch {
			return nil
		}
	}
}
