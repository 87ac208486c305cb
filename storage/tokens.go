package storage

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

// ClientToken judges a token without a grant in one statement: the client lives
// and jti is not revoked.
func (s *Server) ClientToken(ctx context.Context, clientID, jti string) (bool, error) {
	if !storable(clientID, jti) {
		return false, nil
	}
	var live bool
	err := s.db.read(ctx, func(c conn) error {
		_, err := c.row([]any{&live}, `SELECT
			EXISTS (SELECT 1 FROM clients WHERE authorization_server = ? AND client_id = ? AND deleted_at IS NULL)
			AND NOT EXISTS (SELECT 1 FROM revoked_tokens WHERE authorization_server = ? AND jti = ?)`,
			s.name, clientID, s.name, jti)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("judging a client's token: %w", err)
	}
	return live, nil
}

// RevokeToken remembers a revoked access token until it expires.
func (s *Server) RevokeToken(ctx context.Context, jti string, expires time.Time) error {
	err := s.db.write(ctx, func(c conn) error {
		_, err := c.exec(`INSERT INTO revoked_tokens (authorization_server, jti, expires_at) VALUES (?, ?, ?)
			ON CONFLICT (authorization_server, jti) DO NOTHING`, s.name, jti, stamp(expires))
		return err
	})
	if err != nil {
		return fmt.Errorf("revoking a token: %w", err)
	}
	return nil
}

// UseAssertion remembers a client assertion's jti until it expires, or returns
// oauth.ErrReplayed (RFC 7523 §3): one insert under a unique key, which only an
// expired row gives way to.
func (s *Server) UseAssertion(ctx context.Context, clientID, jti string, expires time.Time) error {
	hash := sha256.Sum256([]byte(jti))
	err := s.db.write(ctx, func(c conn) error {
		n, err := c.exec(`INSERT INTO assertions (authorization_server, client_id, jti, expires_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (authorization_server, client_id, jti) DO UPDATE SET expires_at = excluded.expires_at
			WHERE assertions.expires_at <= ?`, s.name, clientID, hash[:], stamp(expires), stamp(s.db.now()))
		if err == nil && n == 0 {
			err = oauth.ErrReplayed
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("using an assertion: %w", err)
	}
	return nil
}

// Consent returns what the user has allowed the client, or oauth.ErrNotFound.
// What was allowed to a client that was deleted is not allowed to another one
// that has its id now.
func (s *Server) Consent(ctx context.Context, userID, clientID string) (*sessions.Consent, error) {
	if !storable(userID, clientID) {
		return nil, fmt.Errorf("reading consent: %w", oauth.ErrNotFound)
	}
	consent := sessions.Consent{UserID: userID, ClientID: clientID}
	err := s.db.read(ctx, func(c conn) error {
		var (
			scopes, resources string
			at                int64
		)
		found, err := c.row([]any{&scopes, &resources, &at}, `SELECT k.scopes, k.resources, k.consented_at FROM consents k
			JOIN clients c ON c.authorization_server = k.authorization_server AND c.client_id = k.client_id AND c.uid = k.client_uid
			WHERE k.authorization_server = ? AND k.user_id = ? AND k.client_id = ? AND k.realm = ? AND c.deleted_at IS NULL`,
			s.name, userID, clientID, s.realm)
		if err != nil {
			return err
		}
		if !found {
			return oauth.ErrNotFound
		}
		consent.At = utc(at)
		if err := parse(scopes, &consent.Scopes); err != nil {
			return err
		}
		return parse(resources, &consent.Resources)
	})
	if err != nil {
		return nil, fmt.Errorf("reading consent: %w", err)
	}
	return &consent, nil
}
