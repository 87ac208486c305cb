package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/google/uuid"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

// clientRow is a client as it is stored.
type clientRow struct {
	clients.Client
	metadata string
	created  int64
	deleted  sql.NullInt64
}

const clientColumns = `uid, number, static, secret_sha, metadata, created_at, deleted_at`

func (r *clientRow) dest() []any {
	return []any{&r.UID, &r.Number, &r.Static, &r.SecretSHA, &r.metadata, &r.created, &r.deleted}
}

func (r *clientRow) client() (clients.Client, error) {
	c := r.Client
	if len(c.SecretSHA) == 0 {
		c.SecretSHA = nil
	}
	c.CreatedAt, c.DeletedAt = utc(r.created), maybe(r.deleted)
	return c, parse(r.metadata, &c.Metadata)
}

// metadataOf is what is stored of a client's metadata: not its secret.
func metadataOf(m clients.Metadata) string {
	m.ClientSecret = ""
	return document(m)
}

// Client returns the live client of that id, or oauth.ErrNotFound. A static
// one comes without its secret.
func (s *Server) Client(ctx context.Context, id string) (*clients.Client, error) {
	if !storable(id) {
		return nil, fmt.Errorf("reading client: %w", oauth.ErrNotFound)
	}
	var client clients.Client
	err := s.db.read(ctx, func(c conn) error {
		var row clientRow
		found, err := c.row(row.dest(), `SELECT `+clientColumns+` FROM clients
			WHERE authorization_server = ? AND client_id = ? AND deleted_at IS NULL`, s.name, id)
		if err != nil {
			return err
		}
		if !found {
			return oauth.ErrNotFound
		}
		client, err = row.client()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading client: %w", err)
	}
	return &client, nil
}

// Clients lists the live clients, static ones included, by client_id.
func (s *Server) Clients(ctx context.Context) ([]clients.Client, error) {
	var found []clients.Client
	err := s.db.read(ctx, func(c conn) error {
		return c.rows(func(scan func(...any) error) error {
			var row clientRow
			if err := scan(row.dest()...); err != nil {
				return err
			}
			client, err := row.client()
			found = append(found, client)
			return err
		}, `SELECT `+clientColumns+` FROM clients WHERE authorization_server = ? AND deleted_at IS NULL ORDER BY client_id`, s.name)
	})
	if err != nil {
		return nil, fmt.Errorf("listing clients: %w", err)
	}
	return found, nil
}

// Origins lists the web origins of the live clients' redirect URIs, sorted,
// each once.
func (s *Server) Origins(ctx context.Context) ([]string, error) {
	all, err := s.Clients(ctx)
	if err != nil {
		return nil, err
	}
	var origins []string
	for i := range all {
		origins = append(origins, all[i].Origins()...)
	}
	slices.Sort(origins)
	return slices.Compact(origins), nil
}

// InsertClient registers a client and sets its UID, Number and, where it is
// zero, CreatedAt. ErrClientExists where a live one has its id. The id of a
// deleted one can be registered anew; its sessions and consents stay dead.
func (s *Server) InsertClient(ctx context.Context, client *clients.Client) error {
	inserted := *client
	err := s.db.transact(ctx, func(c conn) error {
		if err := s.lockNumbers(c); err != nil {
			return err
		}
		row, err := s.clientRow(c, client.ClientID)
		if err != nil {
			return err
		}
		if row != nil && !row.deleted.Valid {
			return ErrClientExists
		}
		inserted = *client
		return s.writeClient(c, &inserted, row)
	})
	if isDuplicate(err) {
		err = ErrClientExists
	}
	if err != nil {
		return fmt.Errorf("inserting client: %w", err)
	}
	*client = inserted
	return nil
}

// SyncStatic makes the rows of static clients those of the operator's file:
// inserted, changed or revived, without their secrets. A static client that is
// not among them is deleted and its sessions end, for the reason
// client_deleted; ended tells how many. It can be repeated, and what failed
// half-way goes on then. A registered client whose id the file takes becomes
// the file's, and keeps its UID.
func (s *Server) SyncStatic(ctx context.Context, static []clients.Client) (ended int, err error) {
	keep := map[string]bool{}
	for _, client := range static {
		keep[client.ClientID] = true
	}
	var gone []string
	err = s.db.transact(ctx, func(c conn) error {
		gone = nil
		if err := s.lockNumbers(c); err != nil {
			return err
		}
		for _, client := range static {
			row, err := s.clientRow(c, client.ClientID)
			if err != nil {
				return err
			}
			client.Static, client.SecretSHA = true, nil
			if row != nil && !row.deleted.Valid {
				err = s.changeClient(c, &client, row)
			} else {
				err = s.writeClient(c, &client, row)
			}
			if err != nil {
				return fmt.Errorf("client %s: %w", client.ClientID, err)
			}
		}
		// Deleted ones too, as long as they have sessions: the last attempt may
		// not have come to its end.
		return c.rows(func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			if !keep[id] {
				gone = append(gone, id)
			}
			return err
		}, `SELECT client_id FROM clients WHERE authorization_server = ? AND static AND (deleted_at IS NULL OR EXISTS (
				SELECT 1 FROM oauth2_sessions s WHERE s.authorization_server = clients.authorization_server
				AND s.client_id = clients.client_id AND s.ended_at IS NULL))
			ORDER BY client_id`, s.name)
	})
	if err != nil {
		return 0, fmt.Errorf("writing static clients: %w", err)
	}
	for _, id := range gone {
		n, err := s.End(ctx, sessions.Target{Client: id}, sessions.Ending{Reason: sessions.ReasonClientDeleted, At: s.db.now(),
			Effects: []sessions.Effect{sessions.DeleteClient{AuthorizationServer: s.name, ClientID: id}}})
		if err != nil && !errors.Is(err, sessions.ErrNotFound) { // another node may have been faster
			return ended, fmt.Errorf("deleting static client %s: %w", id, err)
		}
		ended += n
	}
	return ended, nil
}

// lockNumbers makes whoever registers clients in a realm come one after the
// other: the next number is the highest and one.
func (s *Server) lockNumbers(c conn) error {
	if !c.postgres {
		return nil
	}
	h := fnv.New64a()
	h.Write([]byte("gatehouse clients of realm " + s.realm))
	_, err := c.exec(`SELECT pg_advisory_xact_lock(?)`, int64(h.Sum64())) //nolint:gosec // any 64 bits are a lock's name
	return err
}

// clientRow locks the row of a client, live or not; nil where there is none.
func (s *Server) clientRow(c conn, id string) (*clientRow, error) {
	var row clientRow
	found, err := c.row(row.dest(), `SELECT `+clientColumns+` FROM clients
		WHERE authorization_server = ? AND client_id = ?`+c.locking("FOR UPDATE"), s.name, id)
	if err != nil || !found {
		return nil, err
	}
	return &row, nil
}

// writeClient inserts a client, or writes it over a deleted one.
func (s *Server) writeClient(c conn, client *clients.Client, deleted *clientRow) error {
	uid, err := uuid.NewRandom()
	if err != nil {
		return err
	}
	client.UID, client.DeletedAt = uid.String(), time.Time{}
	if client.CreatedAt.IsZero() {
		client.CreatedAt = utc(stamp(s.db.now()))
	}
	uri, alg := toldAt(&client.Metadata)
	if deleted != nil {
		client.Number = deleted.Number
		_, err := c.exec(`UPDATE clients SET uid = ?, name = ?, static = ?, secret_sha = ?, metadata = ?, created_at = ?, deleted_at = NULL,
			backchannel_logout_uri = ?, id_token_alg = ?
			WHERE authorization_server = ? AND client_id = ?`, client.UID, client.Name(), client.Static, secret(client),
			metadataOf(client.Metadata), stamp(client.CreatedAt), uri, alg, s.name, client.ClientID)
		return s.clientCreated(c, client, err)
	}
	if _, err := c.row([]any{&client.Number}, `SELECT COALESCE(MAX(number), 0) + 1 FROM clients WHERE realm = ?`, s.realm); err != nil {
		return err
	}
	_, err = c.exec(`INSERT INTO clients (authorization_server, client_id, realm, uid, number, name, static, secret_sha, metadata, created_at,
			backchannel_logout_uri, id_token_alg)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, s.name, client.ClientID, s.realm, client.UID, client.Number, client.Name(),
		client.Static, secret(client), metadataOf(client.Metadata), stamp(client.CreatedAt), uri, alg)
	return s.clientCreated(c, client, err)
}

// clientCreated tells of a client that was written, unless that failed.
func (s *Server) clientCreated(c conn, client *clients.Client, err error) error {
	if err != nil {
		return err
	}
	return c.record(s.realm, s.db.now(), audit.Event{Type: audit.ClientCreated, AuthorizationServer: s.name,
		ClientID: client.ClientID, Detail: client.Name()})
}

// changeClient gives a live client the metadata of the file, if they differ.
func (s *Server) changeClient(c conn, client *clients.Client, row *clientRow) error {
	metadata := metadataOf(client.Metadata)
	uri, alg := toldAt(&client.Metadata)
	if row.Static && row.metadata == metadata {
		// A node of the previous release may have written them.
		_, err := c.exec(`UPDATE clients SET backchannel_logout_uri = ?, id_token_alg = ?
			WHERE authorization_server = ? AND client_id = ? AND (backchannel_logout_uri IS DISTINCT FROM CAST(? AS TEXT) OR id_token_alg IS DISTINCT FROM CAST(? AS TEXT))`,
			uri, alg, s.name, client.ClientID, uri, alg)
		return err
	}
	_, err := c.exec(`UPDATE clients SET name = ?, static = ?, secret_sha = NULL, metadata = ?, backchannel_logout_uri = ?, id_token_alg = ?
		WHERE authorization_server = ? AND client_id = ?`, client.Name(), true, metadata, uri, alg, s.name, client.ClientID)
	return err
}

// secret is a client's secret_sha; NULL where it has none.
func secret(client *clients.Client) any {
	if client.SecretSHA == nil {
		return nil
	}
	return client.SecretSHA
}
