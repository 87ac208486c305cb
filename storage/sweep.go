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
	// historyPause is how much later an ended row that is still needed is looked
	// at again.
	historyPause = 24 * time.Hour
)

// What there is to sweep, behind the columns of a SELECT.
const (
	dueSessions     = ` FROM oauth2_sessions WHERE authorization_server = ? AND idle_check_at <= ? AND ended_at IS NULL`
	removableGrants = ` FROM (
		SELECT id FROM (SELECT id FROM grants WHERE authorization_server = ? AND removable_at <= ? ORDER BY removable_at LIMIT ?) AS a
		UNION SELECT id FROM (SELECT id FROM grants WHERE authorization_server = ? AND ended_at <= ? ORDER BY ended_at LIMIT ?) AS b
		UNION SELECT id FROM (SELECT id FROM grants WHERE authorization_server = ? AND redeemed_at IS NULL AND code_expires_at <= ?
			ORDER BY code_expires_at LIMIT ?) AS c) AS removable`
	oldSessions     = ` FROM oauth2_sessions s WHERE s.authorization_server = ? AND s.idle_check_at <= ? AND s.ended_at IS NOT NULL`
	expiredMarks    = ` WHERE authorization_server = ? AND expires_at <= ?`
	dueLogins       = ` FROM logins WHERE realm = ? AND check_at <= ? AND ended_at IS NULL`
	oldDeliveries   = ` FROM deliveries d WHERE d.authorization_server = ? AND d.next_at <= ? AND d.state <> 'waiting'`
	oldLogins       = ` FROM logins l WHERE l.realm = ? AND l.check_at <= ? AND l.ended_at IS NOT NULL`
	expiredCounters = ` FROM throttle_counters WHERE realm = ? AND expires_at <= ?`
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

	n, err = s.remove(ctx, `DELETE FROM grants WHERE authorization_server = ? AND id IN (SELECT id`+removableGrants+` LIMIT ?)`,
		append(append([]any{s.name}, s.removableArgs(now, limit)...), limit)...)
	note(n, err, &swept.Grants)
	n, removed, err := s.sweepHistory(ctx, now-history.Milliseconds(), limit)
	swept.History += removed
	swept.More = swept.More || n >= limit
	errs = append(errs, err)
	n, removed, err = s.sweepDeliveries(ctx, now-history.Milliseconds(), limit)
	swept.Deliveries += removed
	swept.More = swept.More || n >= limit
	errs = append(errs, err)
	for _, table := range []string{"revoked_tokens", "assertions"} {
		key := map[string]string{"revoked_tokens": "jti", "assertions": "client_id, jti"}[table]
		n, err = s.remove(ctx, `DELETE FROM `+table+` WHERE authorization_server = ? AND (`+key+`) IN (
			SELECT `+key+` FROM `+table+expiredMarks+` ORDER BY expires_at LIMIT ?)`,
			s.name, s.name, now, limit)
		note(n, err, &swept.Marks)
	}
	if err := errors.Join(errs...); err != nil {
		return swept, fmt.Errorf("sweeping %s: %w", s.name, err)
	}
	return swept, nil
}

// removableArgs are those of removableGrants.
func (s *Server) removableArgs(now int64, limit int) []any {
	kept := now - grantsKept.Milliseconds()
	return []any{s.name, now, limit, s.name, kept, limit, s.name, kept, limit}
}

// sweepHistory looks at ended sessions that are old enough to go, removes those
// that nothing needs, and puts off the others. It tells how many of each.
func (s *Server) sweepHistory(ctx context.Context, old int64, limit int) (looked, removed int, err error) {
	var gone, needed []string
	var logins []string
	err = s.db.read(ctx, func(c conn) error {
		gone, needed, logins = nil, nil, nil
		return c.rows(func(scan func(...any) error) error {
			var (
				id, login string
				free      bool
			)
			if err := scan(&id, &login, &free); err != nil {
				return err
			}
			if free {
				gone, logins = append(gone, id), append(logins, login)
			} else {
				needed = append(needed, id)
			}
			return nil
		}, `SELECT s.id, COALESCE(s.login_id, ''), CASE WHEN (s.proof_after IS NULL
				OR NOT EXISTS (SELECT 1 FROM logins l WHERE l.realm = s.realm AND l.id = s.login_id AND l.ended_at IS NULL))
			AND NOT EXISTS (SELECT 1 FROM grants g WHERE g.authorization_server = s.authorization_server AND g.session_id = s.id)
			THEN 1 ELSE 0 END`+oldSessions+` ORDER BY s.idle_check_at LIMIT ?`, s.name, old, limit)
	})
	if err == nil && len(needed) > 0 {
		_, err = s.remove(ctx, `UPDATE oauth2_sessions SET idle_check_at = ? WHERE authorization_server = ? AND id IN ? AND ended_at IS NOT NULL`,
			old+historyPause.Milliseconds(), s.name, needed)
	}
	// What has ended stays ended, so nothing can need now what nothing needed then.
	if err == nil && len(gone) > 0 {
		removed, err = s.remove(ctx, `DELETE FROM oauth2_sessions WHERE authorization_server = ? AND id IN ? AND ended_at IS NOT NULL`, s.name, gone)
	}
	if err == nil && removed > 0 {
		// Their logins may have waited for this.
		_, err = s.remove(ctx, `UPDATE logins SET check_at = ended_at WHERE realm = ? AND id IN ? AND ended_at IS NOT NULL AND check_at > ended_at`,
			s.realm, logins)
	}
	return len(gone) + len(needed), removed, err
}

// sortOut reads ids, each with 1 where it is still needed, and parts those that
// can go from those that can't.
func (db *DB) sortOut(ctx context.Context, statement string, args ...any) (gone, needed []string, err error) {
	err = db.read(ctx, func(c conn) error {
		gone, needed = nil, nil
		return c.rows(func(scan func(...any) error) error {
			var (
				id   string
				kept bool
			)
			if err := scan(&id, &kept); err != nil {
				return err
			}
			if kept {
				needed = append(needed, id)
			} else {
				gone = append(gone, id)
			}
			return nil
		}, statement, args...)
	})
	return gone, needed, err
}

// sweepDeliveries looks at deliveries that have been settled for long enough to
// go, removes those whose session is not kept any more, and puts off the others.
// It tells how many it looked at and how many it removed.
func (s *Server) sweepDeliveries(ctx context.Context, old int64, limit int) (looked, removed int, err error) {
	gone, needed, err := s.db.sortOut(ctx, `SELECT d.id, CASE WHEN EXISTS (SELECT 1 FROM oauth2_sessions s
			WHERE s.authorization_server = d.authorization_server AND s.id = d.session_id) THEN 1 ELSE 0 END`+oldDeliveries+`
		ORDER BY d.next_at LIMIT ?`, s.name, old, limit)
	// Neither comes back: a settled delivery stays settled, and a session that was
	// removed stays away.
	if err == nil && len(needed) > 0 {
		_, err = s.remove(ctx, `UPDATE deliveries SET next_at = ? WHERE authorization_server = ? AND id IN ? AND state <> 'waiting'`,
			old+historyPause.Milliseconds(), s.name, needed)
	}
	if err == nil && len(gone) > 0 {
		removed, err = s.remove(ctx, `DELETE FROM deliveries WHERE authorization_server = ? AND id IN ? AND state <> 'waiting'`, s.name, gone)
	}
	return len(gone) + len(needed), removed, err
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
		}, `SELECT id`+dueSessions+` ORDER BY idle_check_at LIMIT ?`, s.name, now, limit)
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
			row            sessionRow
			live, outlives bool
		)
		if _, err := c.row(append(row.dest(), &live, &outlives), `SELECT `+sessionColumns+`, CASE WHEN `+liveSession+` THEN 1 ELSE 0 END,
				CASE WHEN `+outlivesLogin+` THEN 1 ELSE 0 END
			FROM oauth2_sessions s`+sessionJoins+` WHERE s.authorization_server = ? AND s.id = ?`,
			append(s.liveSessionArgs(stamp(now)), stamp(now), s.name, id)...); err != nil {
			return err
		}
		if !live {
			_, err := e.endSessions(rows)
			over = true
			return err
		}
		_, err = c.exec(`UPDATE oauth2_sessions SET idle_check_at = ? WHERE authorization_server = ? AND id = ?`,
			max(row.overAt(s.life, outlives), stamp(now.Add(sweepPause))), s.name, id)
		return err
	})
	return over, err
}

// overAt is when a live session may be over at the earliest, as things stand.
// outlives: a redeemed grant with offline_access keeps it. A code for one, which
// may never be redeemed, doesn't.
func (r *sessionRow) overAt(life sessions.Lifetimes, outlives bool) int64 {
	slack := sessions.IdleSlack
	if outlives && r.offlineExpires.Valid {
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
		}, `SELECT id`+dueLogins+` ORDER BY check_at LIMIT ?`, r.name, now, limit)
	})
	for i := 0; err == nil && i < len(ids); i++ {
		err = r.sweepLogin(ctx, ids[i], &swept)
	}
	swept.More = len(ids) >= limit
	if err == nil {
		var looked int
		looked, swept.History, err = r.sweepHistory(ctx, now-history.Milliseconds(), limit)
		swept.More = swept.More || looked >= limit
	}
	if err != nil {
		return swept, fmt.Errorf("sweeping realm %s: %w", r.name, err)
	}
	return swept, nil
}

// sweepHistory is that of a Server, for logins: they stay as long as a session
// names them.
func (r *Realm) sweepHistory(ctx context.Context, old int64, limit int) (looked, removed int, err error) {
	gone, needed, err := r.db.sortOut(ctx, `SELECT l.id, CASE WHEN EXISTS (SELECT 1 FROM oauth2_sessions s
			WHERE s.realm = l.realm AND s.login_id = l.id) THEN 1 ELSE 0 END`+oldLogins+`
		ORDER BY l.check_at LIMIT ?`, r.name, old, limit)
	if err == nil && len(needed) > 0 {
		_, err = remove(ctx, r.db, `UPDATE logins SET check_at = ? WHERE realm = ? AND id IN ? AND ended_at IS NOT NULL`,
			old+historyPause.Milliseconds(), r.name, needed)
	}
	if err == nil && len(gone) > 0 {
		removed, err = remove(ctx, r.db, `DELETE FROM logins WHERE realm = ? AND id IN ? AND ended_at IS NOT NULL`, r.name, gone)
	}
	return len(gone) + len(needed), removed, err
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

// Waiting counts what Sweep would find to do at this moment, at most limit rows
// of each kind: "session" and "history" are live and ended ones that are to be
// looked at, "delivery" settled ones too, "grant" and "mark" what is to be
// removed.
func (s *Server) Waiting(ctx context.Context, history time.Duration, limit int) (map[string]int, error) {
	now := stamp(s.db.now())
	waiting, err := s.db.waiting(ctx, limit, []backlog{
		{"session", dueSessions, []any{s.name, now}},
		{"grant", removableGrants, s.removableArgs(now, limit)},
		{"history", oldSessions, []any{s.name, now - history.Milliseconds()}},
		{"delivery", oldDeliveries, []any{s.name, now - history.Milliseconds()}},
		{"mark", " FROM revoked_tokens" + expiredMarks, []any{s.name, now}},
		{"mark", " FROM assertions" + expiredMarks, []any{s.name, now}},
	})
	if err != nil {
		return nil, fmt.Errorf("counting what waits for the sweeper of %s: %w", s.name, err)
	}
	return waiting, nil
}

// Waiting counts what Sweep and SweepThrottle would find to do at this moment,
// at most limit rows of each kind: "login" and "history" are live and ended ones
// that are to be looked at, "mark" what is to be removed.
func (r *Realm) Waiting(ctx context.Context, history time.Duration, limit int) (map[string]int, error) {
	now := stamp(r.db.now())
	waiting, err := r.db.waiting(ctx, limit, []backlog{
		{"login", dueLogins, []any{r.name, now}},
		{"history", oldLogins, []any{r.name, now - history.Milliseconds()}},
		{"mark", expiredCounters, []any{r.name, now}},
	})
	if err != nil {
		return nil, fmt.Errorf("counting what waits for the sweeper of realm %s: %w", r.name, err)
	}
	return waiting, nil
}

// backlog is one kind of row that waits.
type backlog struct {
	kind, from string
	args       []any
}

// waiting counts no further than to limit, so that it costs no more than a
// sweep, however much has piled up.
func (db *DB) waiting(ctx context.Context, limit int, backlogs []backlog) (map[string]int, error) {
	waiting := map[string]int{}
	for _, b := range backlogs {
		var n int
		err := db.read(ctx, func(c conn) error {
			_, err := c.row([]any{&n}, `SELECT COUNT(*) FROM (SELECT 1`+b.from+` LIMIT ?) AS waiting`, append(b.args, limit)...)
			return err
		})
		if err != nil {
			return nil, err
		}
		waiting[b.kind] = min(waiting[b.kind]+n, limit)
	}
	return waiting, nil
}
