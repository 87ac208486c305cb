package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

const (
	// sweepPause is how much later something is looked at again at the earliest.
	sweepPause = time.Minute
	// grantsKept is how long a grant that has ended, or whose code was never
	// redeemed, is kept: what comes of it is refused with it and without it.
	grantsKept = time.Hour
)

// Sweep makes endings of what is over by time and removes what nothing needs
// any more, of one authorization server, at most limit rows of each kind.
// Ended sessions are kept for history, and longer where they still demand
// fresh proof of a login that lives. Several nodes may sweep at once. When More
// is set, another call finds more to do.
func (s *Server) Sweep(ctx context.Context, history time.Duration, limit int) (sessions.Swept, error) {
	var swept sessions.Swept
	var errs []error
	now := stamp(s.db.now())
	note := func(n int, err error, count *int) {
		*count += n
		swept.More = swept.More || n >= limit
		errs = append(errs, err)
	}
	n, ended, err := s.sweepSessions(ctx, limit)
	swept.Sessions += ended
	swept.More = swept.More || n >= limit
	errs = append(errs, err)

	old := now - history.Milliseconds()
	kept := now - grantsKept.Milliseconds()
	n, err = s.remove(ctx, `DELETE FROM grants WHERE authorization_server = ? AND id IN (SELECT id FROM grants
		WHERE authorization_server = ? AND created_at <= ? AND (removable_at IS NOT NULL OR ended_at IS NOT NULL OR redeemed_at IS NULL)
		AND (removable_at <= ? OR ended_at <= ? OR (redeemed_at IS NULL AND code_expires_at <= ?))
		ORDER BY created_at LIMIT ?)`, s.name, s.name, now, now, kept, kept, limit)
	note(n, err, &swept.Grants)
	n, err = s.remove(ctx, `DELETE FROM oauth2_sessions WHERE authorization_server = ? AND ended_at IS NOT NULL AND id IN (
		SELECT s.id FROM oauth2_sessions s LEFT JOIN logins l ON l.realm = s.realm AND l.id = s.login_id
		WHERE s.authorization_server = ? AND s.ended_at <= ? AND (s.proof_after IS NULL OR l.id IS NULL OR l.ended_at IS NOT NULL)
		AND NOT EXISTS (SELECT 1 FROM grants g WHERE g.authorization_server = s.authorization_server AND g.session_id = s.id)
		ORDER BY s.ended_at LIMIT ?)`, s.name, s.name, old, limit)
	note(n, err, &swept.History)
	for _, table := range []string{"revoked_tokens", "assertions"} {
		key := map[string]string{"revoked_tokens": "jti", "assertions": "client_id, jti"}[table]
		n, err = s.remove(ctx, `DELETE FROM `+table+` WHERE authorization_server = ? AND (`+key+`) IN (
			SELECT `+key+` FROM `+table+` WHERE authorization_server = ? AND expires_at <= ? ORDER BY expires_at LIMIT ?)`,
			s.name, s.name, now, limit)
		note(n, err, &swept.Marks)
	}
	if err := errors.Join(errs...); err != nil {
		return swept, fmt.Errorf("sweeping %s: %w", s.name, err)
	}
	return swept, nil
}

func (s *Server) remove(ctx context.Context, statement string, args ...any) (int, error) {
	return remove(ctx, s.db, statement, args...)
}

func remove(ctx context.Context, db *DB, statement string, args ...any) (int, error) {
	var n int64
	err := db.write(ctx, func(c conn) error {
		var err error
		n, err = c.exec(statement, args...)
		return err
	})
	return int(n), err
}

// sweepSessions looks at sessions that may be over and ends those that are. It
// tells how many it looked at and how many it ended.
func (s *Server) sweepSessions(ctx context.Context, limit int) (looked, ended int, err error) {
	now := stamp(s.db.now())
	var ids []string
	err = s.db.read(ctx, func(c conn) error {
		ids = nil
		return c.rows(func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			ids = append(ids, id)
			return err
		}, `SELECT id FROM oauth2_sessions WHERE authorization_server = ? AND idle_check_at <= ? AND ended_at IS NULL
			ORDER BY idle_check_at LIMIT ?`, s.name, now, limit)
	})
	if err != nil {
		return 0, 0, err
	}
	for _, id := range ids {
		over, err := s.sweepSession(ctx, id)
		if err != nil {
			return len(ids), ended, err
		}
		if over {
			ended++
		}
	}
	return len(ids), ended, nil
}

// sweepSession ends a session that is over by time, or says when to look again.
func (s *Server) sweepSession(ctx context.Context, id string) (over bool, err error) {
	err = s.db.transact(ctx, func(c conn) error {
		over = false
		now := s.db.now()
		e := newEnder(c, s.realm, s.life, sessions.Ending{Reason: sessions.ReasonExpired}, now)
		l, err := e.find(`SELECT s.authorization_server, s.id, s.login_id, s.user_id, s.refreshable FROM oauth2_sessions s
			WHERE s.authorization_server = ? AND s.id = ? AND s.ended_at IS NULL`, s.name, id)
		if errors.Is(err, sessions.ErrNotFound) {
			return nil // another node was faster
		}
		if err != nil {
			return err
		}
		if err := e.lockParents([]parent{l.parent}); err != nil {
			return err
		}
		rows, err := e.lockSessions(`s.authorization_server = ? AND s.id = ?`, s.name, id)
		if err != nil || len(rows) == 0 {
			return err
		}
		var (
			row  sessionRow
			live bool
		)
		if _, err := c.row(append(row.dest(), &live), `SELECT `+sessionColumns+`, CASE WHEN `+liveSession+` THEN 1 ELSE 0 END
			FROM oauth2_sessions s`+sessionJoins+` WHERE s.authorization_server = ? AND s.id = ?`,
			append(s.liveSessionArgs(stamp(now)), s.name, id)...); err != nil {
			return err
		}
		if !live {
			_, err := e.endSessions(rows)
			over = true
			return err
		}
		_, err = c.exec(`UPDATE oauth2_sessions SET idle_check_at = ? WHERE authorization_server = ? AND id = ?`,
			max(row.overAt(s.life), stamp(now.Add(sweepPause))), s.name, id)
		return err
	})
	return over, err
}

// overAt is when a live session may be over at the earliest, as things stand.
func (r *sessionRow) overAt(life sessions.Lifetimes) int64 {
	slack := sessions.IdleSlack
	if r.Offline && r.offlineExpires.Valid {
		return min(r.offlineExpires.Int64, r.used+(life.OfflineIdle+slack).Milliseconds())
	}
	if r.refreshable || r.LoginID == "" {
		return min(r.expires, r.used+(life.SessionIdle+slack).Milliseconds())
	}
	return r.expires
}

// Sweep makes endings of logins that are over by time, with their sessions at
// every authorization server (those with offline access are detached), and
// removes ended ones after history; at most limit of each.
func (r *Realm) Sweep(ctx context.Context, history time.Duration, limit int) (sessions.Swept, error) {
	var swept sessions.Swept
	now := stamp(r.db.now())
	var ids []string
	err := r.db.read(ctx, func(c conn) error {
		ids = nil
		return c.rows(func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			ids = append(ids, id)
			return err
		}, `SELECT id FROM logins WHERE realm = ? AND check_at <= ? AND ended_at IS NULL ORDER BY check_at LIMIT ?`, r.name, now, limit)
	})
	for i := 0; err == nil && i < len(ids); i++ {
		err = r.sweepLogin(ctx, ids[i], &swept)
	}
	swept.More = len(ids) >= limit
	if err == nil {
		// A session that is kept may still demand fresh proof of its login.
		swept.History, err = remove(ctx, r.db, `DELETE FROM logins WHERE realm = ? AND ended_at IS NOT NULL AND id IN (
			SELECT l.id FROM logins l WHERE l.realm = ? AND l.ended_at <= ?
			AND NOT EXISTS (SELECT 1 FROM oauth2_sessions s WHERE s.realm = l.realm AND s.login_id = l.id)
			ORDER BY l.ended_at LIMIT ?)`, r.name, r.name, now-history.Milliseconds(), limit)
		swept.More = swept.More || swept.History >= limit
	}
	if err != nil {
		return swept, fmt.Errorf("sweeping realm %s: %w", r.name, err)
	}
	return swept, nil
}

func (r *Realm) sweepLogin(ctx context.Context, id string, swept *sessions.Swept) error {
	logins, ended := 0, 0
	err := r.db.transact(ctx, func(c conn) error {
		logins, ended = 0, 0
		now := r.db.now()
		var row loginRow
		found, err := c.row(row.dest(), `SELECT `+loginColumns+` FROM logins l WHERE l.realm = ? AND l.id = ?`+c.locking("FOR UPDATE"), r.name, id)
		if err != nil || !found || row.end.at.Valid {
			return err
		}
		if row.live(stamp(now), r.life) {
			next := min(row.expires, row.accessed+(r.life.LoginIdle+sessions.IdleSlack).Milliseconds())
			_, err := c.exec(`UPDATE logins SET check_at = ? WHERE realm = ? AND id = ?`, max(next, stamp(now.Add(sweepPause))), r.name, id)
			return err
		}
		logins = 1
		ended, err = newEnder(c, r.name, r.life, sessions.Ending{Reason: sessions.ReasonExpired}, now).endLogin(id)
		return err
	})
	swept.Logins += logins
	swept.Sessions += ended
	return err
}
