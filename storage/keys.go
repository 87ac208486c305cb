package storage

import (
	"context"
	"encoding/json"
	"fmt"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/keys"
)

// roots are the root secrets of one owner.
type roots struct {
	db    *DB
	owner string // "as:<authorization server>" or "realm:<realm>"
}

// Roots returns all versions of the owner's root secret.
func (r roots) Roots(ctx context.Context) ([]keys.RootRecord, error) {
	var found []keys.RootRecord
	err := r.db.read(ctx, func(c conn) error {
		return c.rows(func(scan func(...any) error) error {
			var (
				record  keys.RootRecord
				created int64
			)
			if err := scan(&record.ID, &record.Sealed, &created); err != nil {
				return err
			}
			record.CreatedAt = utc(created)
			found = append(found, record)
			return nil
		}, `SELECT id, sealed, created_at FROM roots WHERE owner = ? ORDER BY created_at, id`, r.owner)
	})
	if err != nil {
		return nil, fmt.Errorf("reading root secrets: %w", err)
	}
	return found, nil
}

// InsertRoot adds a version, or returns keys.ErrExists.
func (r roots) InsertRoot(ctx context.Context, root keys.RootRecord) error {
	err := r.db.write(ctx, func(c conn) error {
		_, err := c.exec(`INSERT INTO roots (owner, id, sealed, created_at) VALUES (?, ?, ?, ?)`,
			r.owner, root.ID, root.Sealed, stamp(root.CreatedAt))
		return err
	})
	if isDuplicate(err) {
		err = keys.ErrExists
	}
	if err != nil {
		return fmt.Errorf("inserting root secret: %w", err)
	}
	return nil
}

// ReplaceRoot stores another Sealed for the version with this ID.
func (r roots) ReplaceRoot(ctx context.Context, root keys.RootRecord) error {
	err := r.db.write(ctx, func(c conn) error {
		_, err := c.exec(`UPDATE roots SET sealed = ? WHERE owner = ? AND id = ?`, root.Sealed, r.owner, root.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("replacing root secret: %w", err)
	}
	return nil
}

// SigningKeys returns all keys of the authorization server.
func (s *Server) SigningKeys(ctx context.Context) ([]keys.SigningKeyRecord, error) {
	var found []keys.SigningKeyRecord
	err := s.db.read(ctx, func(c conn) error {
		return c.rows(func(scan func(...any) error) error {
			var (
				record             keys.SigningKeyRecord
				public             string
				created, activates int64
			)
			if err := scan(&record.ID, &record.Algorithm, &record.Slot, &record.Sealed, &public, &created, &activates); err != nil {
				return err
			}
			if public != "" {
				record.Public = json.RawMessage(public)
			}
			record.CreatedAt, record.ActivatesAt = utc(created), utc(activates)
			found = append(found, record)
			return nil
		}, `SELECT id, algorithm, slot, sealed, public, created_at, activates_at FROM signing_keys
			WHERE owner = ? ORDER BY algorithm, slot`, s.owner)
	})
	if err != nil {
		return nil, fmt.Errorf("reading signing keys: %w", err)
	}
	return found, nil
}

// InsertSigningKeys adds all of the keys or none; keys.ErrExists where an
// algorithm's slot or an ID is taken.
func (s *Server) InsertSigningKeys(ctx context.Context, records []keys.SigningKeyRecord) error {
	err := s.db.transact(ctx, func(c conn) error {
		for _, k := range records {
			if _, err := c.exec(`INSERT INTO signing_keys
				(owner, id, algorithm, slot, sealed, public, created_at, activates_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
				s.owner, k.ID, k.Algorithm, k.Slot, k.Sealed, string(k.Public), stamp(k.CreatedAt), stamp(k.ActivatesAt)); err != nil {
				return err
			}
			if err := c.record(s.realm, s.db.now(), audit.Event{Type: audit.KeyRotated, AuthorizationServer: s.name,
				Detail: k.Algorithm + " " + k.ID}); err != nil {
				return err
			}
		}
		return nil
	})
	if isDuplicate(err) {
		err = keys.ErrExists
	}
	if err != nil {
		return fmt.Errorf("inserting signing keys: %w", err)
	}
	return nil
}

// DeleteSigningKeys removes the keys with these IDs; those that are gone
// already are no error.
func (s *Server) DeleteSigningKeys(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	err := s.db.write(ctx, func(c conn) error {
		_, err := c.exec(`DELETE FROM signing_keys WHERE owner = ? AND id IN ?`, s.owner, ids)
		return err
	})
	if err != nil {
		return fmt.Errorf("deleting signing keys: %w", err)
	}
	return nil
}

// ReplaceSigningKey stores another Sealed for the key with this ID; one that is
// gone stays gone.
func (s *Server) ReplaceSigningKey(ctx context.Context, key keys.SigningKeyRecord) error {
	err := s.db.write(ctx, func(c conn) error {
		_, err := c.exec(`UPDATE signing_keys SET sealed = ? WHERE owner = ? AND id = ?`, key.Sealed, s.owner, key.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("replacing signing key: %w", err)
	}
	return nil
}
