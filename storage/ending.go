package storage

import (
	"database/sql"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/sessions"
)

// endBatch is how many rows one statement of an ending names, and how many
// sessions of a client end in one transaction.
const endBatch = 100

// ender ends things within one transaction. Its callers have locked the parent
// (the package's comment says which), and the ender locks what it ends.
type ender struct {
	c      conn
	realm  string
	life   sessions.Lifetimes
	ending sessions.Ending
	at     int64

	detachesNone bool // a login ends with its sessions with offline_access
}

func newEnder(c conn, realm string, life sessions.Lifetimes, ending sessions.Ending, now time.Time) ender {
	if ending.At.IsZero() {
		ending.At = now
	}
	return ender{c: c, realm: realm, life: life, ending: ending, at: stamp(ending.At)}
}

// newEnder is an ender of what people and operators end in the realm.
func (r *Realm) newEnder(c conn, ending sessions.Ending, now time.Time) ender {
	e := newEnder(c, r.name, r.life, ending, now)
	e.detachesNone = r.endsOffline && ending.Reason == sessions.ReasonLogout
	return e
}

// doomed is a session that is locked and will end, or be detached.
type doomed struct{ server, id string }

// endSessions is where sessions end, whoever asks, and where it is noted that
// their clients have to be told. It ends their grants too, so that a refresh
// that is under way meets the ending in the row it changes.
func (e ender) endSessions(rows []doomed) (int, error) {
	n := 0
	err := inBatches(rows, func(server string, ids []string) error {
		changed, err := e.c.exec(`UPDATE oauth2_sessions SET ended_at = ?, idle_check_at = ?, ended_by = ?, ended_reason = ?,
			proof_after = CASE WHEN client_id = ? THEN NULL ELSE CAST(? AS BIGINT) END
			WHERE authorization_server = ? AND id IN ? AND ended_at IS NULL`,
			e.at, e.at, e.ending.By.String(), string(e.ending.Reason), e.exempt(), e.proofAfter(), server, ids)
		if err != nil {
			return err
		}
		n += int(changed)
		if err := e.auditSessions(audit.SessionEnded, "ended_at", server, ids); err != nil {
			return err
		}
		if err := e.tell(audit.SessionEnded, "ended_at", server, ids); err != nil {
			return err
		}
		_, err = e.c.exec(`UPDATE grants SET ended_at = ?, ended_reason = ?
			WHERE authorization_server = ? AND session_id IN ? AND ended_at IS NULL`,
			e.at, string(e.ending.Reason), server, ids)
		return err
	})
	return n, err
}

// exempt is the client that may come back without fresh proof, because it
// ended its own session.
func (e ender) exempt() string {
	if e.ending.By.Kind == sessions.ActorClient {
		return e.ending.By.ID
	}
	return ""
}

// proofAfter is the time that a later auth_time must be behind, or NULL where
// nobody decided that the user should be out: the session just came to its end,
// or a token of it was abused.
func (e ender) proofAfter() any {
	switch e.ending.Reason {
	case sessions.ReasonExpired, sessions.ReasonRevoked, sessions.ReasonRefreshReuse,
		sessions.ReasonSuperseded, sessions.ReasonCodeReplay:
		return nil
	}
	return e.at
}

// detach takes sessions from their login that is over, of which their clients
// have to be told. What they hold beyond redeemed offline grants ends. When such
// a session ends in its turn, its client is told again: then its refresh tokens
// are dead too.
func (e ender) detach(rows []doomed) error {
	return inBatches(rows, func(server string, ids []string) error {
		if _, err := e.c.exec(`UPDATE oauth2_sessions SET detached_at = ?
			WHERE authorization_server = ? AND id IN ? AND detached_at IS NULL AND ended_at IS NULL`,
			e.at, server, ids); err != nil {
			return err
		}
		if err := e.auditSessions(audit.SessionDetached, "detached_at", server, ids); err != nil {
			return err
		}
		if err := e.tell(audit.SessionDetached, "detached_at", server, ids); err != nil {
			return err
		}
		_, err := e.c.exec(`UPDATE grants SET ended_at = ?, ended_reason = ?
			WHERE authorization_server = ? AND session_id IN ? AND ended_at IS NULL
			AND NOT (offline AND redeemed_at IS NOT NULL)`, e.at, string(e.ending.Reason), server, ids)
		return err
	})
}

// lapse ends the grants of a locked session that need its login and are over
// because the session's time was over: what keeps the session, an offline grant,
// must not bring them back.
func (e ender) lapse(row doomed) error {
	idle := idleSince(e.at, e.life.SessionIdle, 0)
	_, err := e.c.exec(`UPDATE grants SET ended_at = ?, ended_reason = ?
		WHERE authorization_server = ? AND session_id = ? AND ended_at IS NULL AND NOT (offline AND redeemed_at IS NOT NULL)
		AND EXISTS (SELECT 1 FROM oauth2_sessions s WHERE s.authorization_server = grants.authorization_server AND s.id = grants.session_id
			AND (s.expires_at <= ? OR (s.refreshable AND s.last_used_at <= ? AND COALESCE(grants.last_used_at, grants.created_at) <= ?)))`,
		e.at, string(e.ending.Reason), row.server, row.id, e.at, idle, idle)
	return err
}

// inBatches calls f for the ids of one authorization server at a time.
func inBatches(rows []doomed, f func(server string, ids []string) error) error {
	byServer := map[string][]string{}
	for _, row := range rows {
		byServer[row.server] = append(byServer[row.server], row.id)
	}
	servers := make([]string, 0, len(byServer))
	for server := range byServer {
		servers = append(servers, server)
	}
	slices.Sort(servers)
	for _, server := range servers {
		for ids := range slices.Chunk(byServer[server], endBatch) {
			if err := f(server, ids); err != nil {
				return err
			}
		}
	}
	return nil
}

// lockSessions locks live sessions s in the order that everybody keeps.
func (e ender) lockSessions(where string, args ...any) ([]doomed, error) {
	var rows []doomed
	err := e.c.rows(func(scan func(...any) error) error {
		var row doomed
		err := scan(&row.server, &row.id)
		rows = append(rows, row)
		return err
	}, `SELECT s.authorization_server, s.id FROM oauth2_sessions s WHERE `+where+` AND s.ended_at IS NULL
		ORDER BY s.authorization_server, s.id`+e.c.locking("FOR UPDATE"), args...)
	return rows, err
}

// lockUser locks a user against whoever inserts below him; false where there is
// none.
func (e ender) lockUser(id string) (bool, error) {
	var one int
	return e.c.row([]any{&one}, `SELECT 1 FROM users WHERE realm = ? AND id = ?`+e.c.locking("FOR UPDATE"), e.realm, id)
}

// lockLogins locks logins in order of id.
func (e ender) lockLogins(ids []string) error {
	slices.Sort(ids)
	for ids := range slices.Chunk(slices.Compact(ids), endBatch) {
		err := e.c.rows(func(func(...any) error) error { return nil },
			`SELECT id FROM logins WHERE realm = ? AND id IN ? ORDER BY id`+e.c.locking("FOR UPDATE"), e.realm, ids)
		if err != nil {
			return err
		}
	}
	return nil
}

// parent is what a session hangs below.
type parent struct{ login, user string }

// lockParents locks the parents of sessions against whoever inserts below
// them: users, then logins.
func (e ender) lockParents(parents []parent) error {
	var logins, users []string
	for _, p := range parents {
		if p.login != "" {
			logins = append(logins, p.login)
		} else {
			users = append(users, p.user)
		}
	}
	slices.Sort(users)
	for _, id := range slices.Compact(users) {
		if _, err := e.lockUser(id); err != nil {
			return err
		}
	}
	return e.lockLogins(logins)
}

// endLogin ends a locked login with its sessions, but for those that offline
// access lets outlive it, and tells how many sessions ended.
func (e ender) endLogin(id string) (int, error) {
	if _, err := e.c.exec(`UPDATE logins SET ended_at = ?, check_at = ?, ended_by = ?, ended_reason = ?
		WHERE realm = ? AND id = ? AND ended_at IS NULL`,
		e.at, e.at, e.ending.By.String(), string(e.ending.Reason), e.realm, id); err != nil {
		return 0, err
	}
	if err := e.auditLogins(`l.id = ?`, id); err != nil {
		return 0, err
	}
	const ofLogin = `s.realm = ? AND s.login_id = ? AND s.detached_at IS NULL`
	rows, err := e.lockSessions(ofLogin, e.realm, id)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	if e.detachesNone {
		return e.endSessions(rows)
	}
	// Only now, with the sessions locked: a code redeemed in between counts.
	outliving := map[doomed]bool{}
	if err := e.c.rows(func(scan func(...any) error) error {
		var row doomed
		err := scan(&row.server, &row.id)
		outliving[row] = true
		return err
	}, `SELECT s.authorization_server, s.id FROM oauth2_sessions s
		JOIN grants g ON g.authorization_server = s.authorization_server AND g.session_id = s.id
		WHERE `+ofLogin+` AND s.ended_at IS NULL AND s.offline_expires_at > ?
		AND g.offline AND g.redeemed_at IS NOT NULL AND g.ended_at IS NULL`, e.realm, id, e.at); err != nil {
		return 0, err
	}
	var over, detached []doomed
	for _, row := range rows {
		if outliving[row] {
			detached = append(detached, row)
		} else {
			over = append(over, row)
		}
	}
	if err := e.detach(detached); err != nil {
		return 0, err
	}
	return e.endSessions(over)
}

// endUser ends everything of a locked user but what except is in, or what is in
// the live login exceptLogin, and tells how many sessions ended.
func (e ender) endUser(id string, except sessions.Key, exceptLogin string) (int, error) {
	var logins []string
	if err := e.c.rows(func(scan func(...any) error) error {
		var login string
		err := scan(&login)
		logins = append(logins, login)
		return err
	}, `SELECT id FROM logins WHERE realm = ? AND user_id = ? AND ended_at IS NULL ORDER BY id`+e.c.locking("FOR UPDATE"),
		e.realm, id); err != nil {
		return 0, err
	}
	login, session, err := e.excepted(id, except)
	if err == nil && exceptLogin != "" {
		login, err = e.exceptedLogin(id, exceptLogin)
	}
	if err != nil {
		return 0, err
	}
	if _, err := e.c.exec(`UPDATE logins SET ended_at = ?, check_at = ?, ended_by = ?, ended_reason = ?
		WHERE realm = ? AND user_id = ? AND ended_at IS NULL AND id <> ?`,
		e.at, e.at, e.ending.By.String(), string(e.ending.Reason), e.realm, id, login); err != nil {
		return 0, err
	}
	for ids := range slices.Chunk(logins, endBatch) {
		if err := e.auditLogins(`l.id IN ?`, ids); err != nil {
			return 0, err
		}
	}
	rows, err := e.lockSessions(`s.realm = ? AND s.user_id = ? AND (s.login_id IS NULL OR s.login_id <> ? OR s.detached_at IS NOT NULL)
		AND NOT (s.authorization_server = ? AND s.id = ?)`, e.realm, id, login, session.server, session.id)
	if err != nil {
		return 0, err
	}
	return e.endSessions(rows)
}

// endOfUser locks a user, so that nobody can begin a session of his or remember
// a consent, writes the effects, which are on server, and ends those of his live
// sessions s that where finds. sessions.ErrNotFound where neither changed
// anything.
func (e ender) endOfUser(server, user, where string, args ...any) (int, error) {
	if err := e.lockUsersOfEffects(user); err != nil {
		return 0, err
	}
	changed, err := e.effects(server)
	if err != nil {
		return 0, err
	}
	rows, err := e.lockSessions(where, args...)
	if err != nil {
		return 0, err
	}
	n, err := e.endSessions(rows)
	if err == nil && n == 0 && changed == 0 {
		err = sessions.ErrNotFound
	}
	return n, err
}

// endGrant ends one grant of a locked session, and the session with it where
// the grant was its last that could be refreshed. sessions.ErrNotFound where
// the grant had ended.
func (e ender) endGrant(session doomed, id string, refreshable bool) (int, error) {
	changed, err := e.c.exec(`UPDATE grants SET ended_at = ?, ended_reason = ?
		WHERE authorization_server = ? AND id = ? AND ended_at IS NULL`, e.at, string(e.ending.Reason), session.server, id)
	if err != nil {
		return 0, err
	}
	if changed == 0 {
		return 0, sessions.ErrNotFound
	}
	if err := e.auditMisuse(session.server, id); err != nil {
		return 0, err
	}
	if refreshable {
		more, err := e.refreshable(session)
		if err != nil {
			return 0, err
		}
		if !more {
			return e.endSessions([]doomed{session})
		}
	}
	return 0, e.settleOffline(session)
}

// refreshable tells whether a session has a grant left that has, or can still
// get, a refresh token.
func (e ender) refreshable(session doomed) (bool, error) {
	var one int
	return e.c.row([]any{&one}, `SELECT 1 FROM grants WHERE authorization_server = ? AND session_id = ? AND refreshable
		AND ended_at IS NULL AND burned_at IS NULL AND (redeemed_at IS NOT NULL OR code_expires_at > ?) LIMIT 1`,
		session.server, session.id, e.at)
}

// settleOffline takes offline from a session that has no such grant left. Of one
// that had it the sweeper thinks that it lives for long, and so has to look anew.
func (e ender) settleOffline(session doomed) error {
	const left = `EXISTS (SELECT 1 FROM grants g WHERE g.authorization_server = oauth2_sessions.authorization_server
		AND g.session_id = oauth2_sessions.id AND g.offline AND g.ended_at IS NULL)`
	_, err := e.c.exec(`UPDATE oauth2_sessions SET idle_check_at = ?, offline = `+left+`,
		offline_expires_at = CASE WHEN `+left+` THEN offline_expires_at END
		WHERE authorization_server = ? AND id = ? AND offline AND detached_at IS NULL`,
		e.at, session.server, session.id)
	return err
}

// usersOfEffects are the users whose rows effects change, in order of id.
func (e ender) usersOfEffects() []string {
	var ids []string
	for _, effect := range e.ending.Effects {
		switch effect := effect.(type) {
		case sessions.LockUser:
			ids = append(ids, effect.UserID)
		case sessions.SetPassword:
			ids = append(ids, effect.UserID)
		}
	}
	slices.SortFunc(ids, strings.Compare)
	return slices.Compact(ids)
}

// lockUsersOfEffects locks the users that effects change, and others with
// them, before anything below a user is locked. sessions.ErrNotFound where one
// of them is not there.
func (e ender) lockUsersOfEffects(others ...string) error {
	ids := append(e.usersOfEffects(), others...)
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		if !storable(id) {
			return sessions.ErrNotFound
		}
		found, err := e.lockUser(id)
		if err == nil && !found {
			err = sessions.ErrNotFound
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// located is a session that a target names, and what it hangs below.
type located struct {
	session     doomed
	parent      parent
	refreshable bool // of the grant, where a grant was asked for
}

// find runs a statement that locates a session, without a lock: what it reads
// never changes. sessions.ErrNotFound where there is none.
func (e ender) find(statement string, args ...any) (located, error) {
	var (
		l     located
		login sql.NullString
	)
	ok, err := e.c.row([]any{&l.session.server, &l.session.id, &login, &l.parent.user, &l.refreshable}, statement, args...)
	if err == nil && !ok {
		err = sessions.ErrNotFound
	}
	l.parent.login = login.String
	return l, err
}
