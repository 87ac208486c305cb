package storage

import (
	"context"
	"fmt"
	"time"

	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

// State reads a grant by id, and whether jti, if not empty, is revoked, in one
// statement; oauth.ErrNotFound.
func (s *Server) State(ctx context.Context, grantID, jti string) (*oauth.State, error) {
	if !storable(grantID, jti) {
		return nil, fmt.Errorf("reading grant: %w", oauth.ErrNotFound)
	}
	var state oauth.State
	err := s.db.read(ctx, func(c conn) error {
		var (
			grant   grantRow
			session sessionRow
			user    userRow
			now     = stamp(s.db.now())
		)
		found, err := c.row(append(append(append(grant.dest(), session.dest()...), user.dest()...), &state.Revoked),
			`SELECT `+grantColumns+`, `+sessionColumns+`, `+userColumns+`,
				EXISTS (SELECT 1 FROM revoked_tokens r WHERE r.authorization_server = g.authorization_server AND r.jti = ?)
			FROM grants g JOIN oauth2_sessions s ON s.authorization_server = g.authorization_server AND s.id = g.session_id`+
				sessionJoins+` WHERE g.authorization_server = ? AND g.id = ?`, jti, s.name, grantID)
		if err != nil {
			return err
		}
		if !found {
			return oauth.ErrNotFound
		}
		state.Live = grant.live(&session, now, s.life)
		state.Lapsed = state.Live && session.lapsed(now, s.life)
		if state.Grant, err = grant.grant(); err != nil {
			return err
		}
		if state.Session, err = session.session(now, s.life); err != nil {
			return err
		}
		state.User, err = user.user()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading grant: %w", err)
	}
	return &state, nil
}

// Redeem marks a code redeemed: generation 1, session activated. False where it
// was redeemed, burned or ended before, has expired, or is not live.
func (s *Server) Redeem(ctx context.Context, grantID string, now time.Time) (bool, error) {
	if !storable(grantID) {
		return false, nil
	}
	at, redeemed := stamp(now), false
	err := s.db.transact(ctx, func(c conn) error {
		redeemed = false
		var (
			grant   grantRow
			session sessionRow
		)
		// Exclusively, since the session is activated: two codes of one session
		// would otherwise wait for each other's share.
		found, err := c.row(append(grant.dest(), session.dest()...), `SELECT `+grantColumns+`, `+sessionColumns+`
			FROM grants g JOIN oauth2_sessions s ON s.authorization_server = g.authorization_server AND s.id = g.session_id`+
			sessionJoins+` WHERE g.authorization_server = ? AND g.id = ?`+c.locking("FOR UPDATE OF s"), s.name, grantID)
		if err != nil || !found || !grant.live(&session, at, s.life) {
			return err
		}
		// What was read of the grant may be older than the lock; the statement
		// judges it once more.
		n, err := c.exec(`UPDATE grants SET redeemed_at = ?, generation = 1, rotated_at = ?, last_used_at = ?
			WHERE authorization_server = ? AND id = ?
			AND redeemed_at IS NULL AND burned_at IS NULL AND ended_at IS NULL AND code_expires_at > ?`,
			at, at, at, s.name, grantID, at)
		if err != nil || n == 0 {
			return err
		}
		redeemed = true
		if grant.Refreshable {
			// By then this grant is the newest in use, whenever it was made.
			superseded, err := supersede(c, s.name, session.ID, at, maxRefreshable-1, `redeemed_at IS NOT NULL AND id <> ?`, grantID)
			if err != nil {
				return err
			}
			if superseded {
				e := newEnder(c, s.realm, s.life, sessions.Ending{Reason: sessions.ReasonSuperseded}, now)
				if err := e.settleOffline(doomed{s.name, session.ID}); err != nil {
					return err
				}
			}
		}
		if session.activated.Valid {
			return nil
		}
		_, err = c.exec(`UPDATE oauth2_sessions SET activated_at = ? WHERE authorization_server = ? AND id = ? AND activated_at IS NULL`,
			at, s.name, session.ID)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("redeeming a code: %w", err)
	}
	return redeemed, nil
}

// Burn kills an unredeemed code. A redeemed one stays redeemed.
func (s *Server) Burn(ctx context.Context, grantID string, now time.Time) error {
	if !storable(grantID) {
		return nil
	}
	err := s.db.write(ctx, func(c conn) error {
		_, err := c.exec(`UPDATE grants SET burned_at = ? WHERE authorization_server = ? AND id = ?
			AND redeemed_at IS NULL AND burned_at IS NULL`, stamp(now), s.name, grantID)
		return err
	})
	if err != nil {
		return fmt.Errorf("burning a code: %w", err)
	}
	return nil
}

// Advance raises the generation of a grant's refresh token to from+1, by one
// statement that takes effect only while the stored generation is from or
// lower, the code was redeemed, and grant and session have not ended. False:
// it did not.
func (s *Server) Advance(ctx context.Context, grantID string, from int64, now time.Time) (bool, error) {
	if !storable(grantID) {
		return false, nil
	}
	at, advanced := stamp(now), false
	err := s.db.write(ctx, func(c conn) error {
		n, err := c.exec(`UPDATE grants SET generation = ?, rotated_at = ?, last_used_at = ?, grace_uses = 0
			WHERE authorization_server = ? AND id = ? AND generation <= ? AND redeemed_at IS NOT NULL AND ended_at IS NULL
			AND EXISTS (SELECT 1 FROM oauth2_sessions s WHERE s.authorization_server = grants.authorization_server
				AND s.id = grants.session_id AND s.ended_at IS NULL)`, from+1, at, at, s.name, grantID, from)
		advanced = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("advancing a refresh token: %w", err)
	}
	return advanced, nil
}

// CountGrace counts that the token of this generation, the current one, was
// given out again.
func (s *Server) CountGrace(ctx context.Context, grantID string, generation int64) error {
	if !storable(grantID) {
		return nil
	}
	err := s.db.write(ctx, func(c conn) error {
		_, err := c.exec(`UPDATE grants SET grace_uses = grace_uses + 1
			WHERE authorization_server = ? AND id = ? AND generation = ? AND ended_at IS NULL`, s.name, grantID, generation)
		return err
	})
	if err != nil {
		return fmt.Errorf("counting a repeated refresh: %w", err)
	}
	return nil
}
