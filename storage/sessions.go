package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/sessions"
)

// errPositions is a mistake of the caller's.
var errPositions = errors.New("a list is bounded at one end only")

// liveSession tells of a session s with sessionJoins whether a grant of it can
// live, or would if it had one: the rule of grantRow.live, with slack for
// last-use times that are written in batches.
const liveSession = `s.ended_at IS NULL AND c.uid IS NOT NULL AND c.deleted_at IS NULL AND u.locked_at IS NULL
	AND ((s.detached_at IS NULL AND s.expires_at > ?
			AND (s.login_id IS NULL OR (l.ended_at IS NULL AND l.expires_at > ? AND l.last_access_at > ?))
			AND ((s.login_id IS NOT NULL AND NOT s.refreshable) OR s.last_used_at > ?
				OR EXISTS (SELECT 1 FROM grants g WHERE g.authorization_server = s.authorization_server AND g.session_id = s.id
					AND g.ended_at IS NULL AND ((s.login_id IS NOT NULL AND NOT g.refreshable) OR g.last_used_at > ?))))
		OR (s.offline AND s.offline_expires_at > ?
			AND EXISTS (SELECT 1 FROM grants g WHERE g.authorization_server = s.authorization_server AND g.session_id = s.id
				AND g.offline AND g.ended_at IS NULL AND g.redeemed_at IS NOT NULL AND (s.last_used_at > ? OR g.last_used_at > ?))))`

// liveSessionOf is liveSession for sessions of several authorization servers,
// each with its own idle lifetimes; those of any other don't live. Its arguments
// are those of Realm.aloneArgs.
func liveSessionOf(servers map[string]sessions.Lifetimes) string {
	idle, offline := strings.Builder{}, strings.Builder{}
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		when := " WHEN '" + strings.ReplaceAll(name, "'", "''") + "' THEN "
		fmt.Fprint(&idle, when, (servers[name].SessionIdle + sessions.IdleSlack).Milliseconds())
		fmt.Fprint(&offline, when, (servers[name].OfflineIdle + sessions.IdleSlack).Milliseconds())
	}
	since := func(cases string) string {
		if cases == "" {
			return `CAST(? AS BIGINT)` // nothing was used later than now
		}
		return `(CAST(? AS BIGINT) - CASE s.authorization_server` + cases + ` ELSE 0 END)`
	}
	i, o := since(idle.String()), since(offline.String())
	parts := strings.Split(liveSession, "?")
	values := []string{"?", "?", "?", i, i, "?", o, o, ""}
	if len(parts) != len(values) {
		panic("storage: liveSession and liveSessionOf have grown apart")
	}
	var text strings.Builder
	for n, part := range parts {
		text.WriteString(part + values[n])
	}
	return text.String()
}

// aloneArgs are the arguments of Realm.alone.
func (r *Realm) aloneArgs(now int64) []any {
	return []any{now, now, idleSince(now, r.life.LoginIdle, sessions.IdleSlack), now, now, now, now, now}
}

func (s *Server) liveSessionArgs(now int64) []any {
	idle := idleSince(now, s.life.SessionIdle, sessions.IdleSlack)
	offline := idleSince(now, s.life.OfflineIdle, sessions.IdleSlack)
	return []any{now, now, idleSince(now, s.life.LoginIdle, sessions.IdleSlack), idle, idle, now, offline, offline}
}

// Session returns a live, activated session of the user, or
// sessions.ErrNotFound.
func (s *Server) Session(ctx context.Context, id, userID string) (*sessions.Session, error) {
	if !storable(id, userID) {
		return nil, fmt.Errorf("reading session: %w", sessions.ErrNotFound)
	}
	found, err := s.sessions(ctx, `s.id = ? AND s.user_id = ?`, []any{id, userID}, newestFirst, 1)
	if err == nil && len(found) == 0 {
		err = sessions.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading session: %w", err)
	}
	return &found[0], nil
}

// The two directions of a list, which walk one index.
const (
	newestFirst = `s.created_at DESC, s.id`
	oldestFirst = `s.created_at, s.id DESC`
)

// Sessions lists the live, activated sessions that filter names, newest first.
func (s *Server) Sessions(ctx context.Context, filter sessions.Filter) ([]sessions.Session, error) {
	if filter.After.ID != "" && filter.Before.ID != "" {
		return nil, errPositions
	}
	if !storable(filter.UserID, filter.ClientID, filter.After.ID, filter.Before.ID) {
		return nil, nil
	}
	where, args, order := `s.ended_at IS NULL`, []any(nil), newestFirst
	if filter.UserID != "" {
		where, args = where+` AND s.user_id = ?`, append(args, filter.UserID)
	}
	if filter.ClientID != "" {
		where, args = where+` AND s.client_id = ?`, append(args, filter.ClientID)
	}
	// The first comparison bounds the walk of the index, the second one decides.
	if at := filter.After; at.ID != "" {
		created := stamp(at.CreatedAt)
		where, args = where+` AND s.created_at <= ? AND (s.created_at < ? OR s.id > ?)`, append(args, created, created, at.ID)
	}
	if at := filter.Before; at.ID != "" {
		created := stamp(at.CreatedAt)
		where, args = where+` AND s.created_at >= ? AND (s.created_at > ? OR s.id < ?)`, append(args, created, created, at.ID)
		order = oldestFirst
	}
	limit := filter.Limit
	if limit <= 0 {
		limit = maxList
	}
	found, err := s.sessions(ctx, where, args, order, limit)
	if err != nil {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	if order == oldestFirst {
		slices.Reverse(found)
	}
	return found, nil
}

func (s *Server) sessions(ctx context.Context, where string, args []any, order string, limit int) ([]sessions.Session, error) {
	var found []sessions.Session
	err := s.db.read(ctx, func(c conn) error {
		var err error
		found, err = s.sessionsOn(c, where, args, order, limit)
		return err
	})
	return found, err
}

// liveLoginOfUser goes on with the join of logins in sessionJoins. It says what
// is so anyway, of a login that counts, so that the live logins of a user can be
// read at one go instead of one after the other.
const liveLoginOfUser = ` AND l.user_id = s.user_id AND l.ended_at IS NULL`

func (s *Server) sessionsOn(c conn, where string, args []any, order string, limit int) ([]sessions.Session, error) {
	now := stamp(s.db.now())
	args = append(append([]any{s.name, s.realm}, args...), s.liveSessionArgs(now)...)
	var found []sessions.Session
	err := c.rows(func(scan func(...any) error) error {
		var row sessionRow
		if err := scan(row.dest()...); err != nil {
			return err
		}
		session, err := row.session(now, s.life)
		found = append(found, session)
		return err
	}, `SELECT `+sessionColumns+` FROM oauth2_sessions s`+sessionJoins+liveLoginOfUser+`
		WHERE s.authorization_server = ? AND s.realm = ? AND `+where+` AND s.activated_at IS NOT NULL AND `+liveSession+`
		ORDER BY `+order+` LIMIT ?`, append(args, limit)...)
	return found, err
}
