package storage

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/sessions"
)

const (
	auditInsert = `INSERT INTO audit_events (realm, id, at, last_at, occurrences, type, result, reason, actor,
		authorization_server, user_id, client_id, session_id, login_id, address, request_id, detail) `
	// auditHead and auditTail are what the rows of one statement have in common.
	auditHead = `CAST(? AS BIGINT), CAST(? AS BIGINT), 1, CAST(? AS TEXT), '` + string(audit.Success) + `', CAST(? AS TEXT), CAST(? AS TEXT)`
	auditTail = `CAST(? AS TEXT), CAST(? AS TEXT), ''`
	// What happens once, under an id made of its own, is told of once.
	auditOnce = ` ON CONFLICT (realm, id) DO NOTHING`
)

// maxDetail bounds what an event says beside its members, in bytes.
const maxDetail = 1024

// record writes an event in the transaction of c.
func (c conn) record(realm string, now time.Time, event audit.Event) error {
	e := event
	if e.At.IsZero() {
		e.At = now
	}
	if e.LastAt.IsZero() {
		e.LastAt = e.At
	}
	e.Result = cmp.Or(e.Result, audit.Success)
	e.Actor = cmp.Or(e.Actor, c.origin.Actor, sessions.Actor{}.String())
	e.RequestID = cmp.Or(e.RequestID, c.origin.RequestID)
	id, again := audit.NewID(e.At), ``
	if e.Counted() {
		id = e.CountedID()
		again = ` ON CONFLICT (realm, id) DO UPDATE SET occurrences = audit_events.occurrences + 1,
			last_at = CASE WHEN excluded.last_at > audit_events.last_at THEN excluded.last_at ELSE audit_events.last_at END`
	} else {
		e.Address = cmp.Or(e.Address, c.origin.Address)
	}
	_, err := c.exec(auditInsert+`VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`+again,
		realm, id, stamp(e.At), stamp(e.LastAt), max(e.Count, 1), string(e.Type), string(e.Result), legible(e.Reason, maxDetail),
		legible(e.Actor, maxDetail), e.AuthorizationServer, legible(e.UserID, maxDetail), legible(e.ClientID, maxDetail),
		legible(e.SessionID, maxDetail), legible(e.LoginID, maxDetail), legible(e.Address, maxAddress), legible(e.RequestID, maxAddress),
		legible(e.Detail, maxDetail))
	return err
}

// user is a user as who acts.
func user(id string) string { return sessions.Actor{Kind: sessions.ActorUser, ID: id}.String() }

// head and tail are the values of auditHead and auditTail.
func (e ender) head(event audit.Type) []any {
	return []any{e.at, e.at, string(event), string(e.ending.Reason), e.ending.By.String()}
}

func (e ender) tail() []any {
	return []any{legible(e.c.origin.Address, maxAddress), legible(e.c.origin.RequestID, maxAddress)}
}

// prefix is how the ids of this ending's events begin; the id of the thing
// follows. mark keeps apart what can happen to one thing in one millisecond.
func (e ender) prefix(mark string) string { return audit.Prefix(utc(e.at)) + mark }

// mark is that of a session that ended or was detached.
func mark(event audit.Type) string {
	if event == audit.SessionDetached {
		return "d"
	}
	return "s"
}

// auditSessions tells of sessions of one authorization server that have just
// ended, or were detached: when is the column that says so.
func (e ender) auditSessions(event audit.Type, when, server string, ids []string) error {
	args := append([]any{e.realm, e.prefix(mark(event))}, e.head(event)...)
	args = append(args, e.tail()...)
	_, err := e.c.exec(auditInsert+`SELECT CAST(? AS TEXT), CAST(? AS TEXT) || s.id, `+auditHead+`,
			s.authorization_server, s.user_id, s.client_id, s.id, COALESCE(s.login_id, ''), `+auditTail+`
		FROM oauth2_sessions s WHERE s.authorization_server = ? AND s.id IN ? AND s.`+when+` = ? AND s.activated_at IS NOT NULL`+auditOnce,
		append(args, server, ids, e.at)...)
	return err
}

// auditLogins tells of logins, chosen by where, that have just ended.
func (e ender) auditLogins(where string, args ...any) error {
	all := append([]any{e.realm, e.prefix("l")}, e.head(audit.LoginEnded)...)
	all = append(all, e.ending.Asked.AuthorizationServer, legible(e.ending.Asked.ClientID, maxDetail))
	all = append(all, e.tail()...)
	_, err := e.c.exec(auditInsert+`SELECT CAST(? AS TEXT), CAST(? AS TEXT) || l.id, `+auditHead+`, CAST(? AS TEXT), l.user_id, CAST(? AS TEXT), '', l.id, `+auditTail+`
		FROM logins l WHERE l.realm = ? AND `+where+` AND l.ended_at = ?`+auditOnce,
		append(append(append(all, e.realm), args...), e.at)...)
	return err
}

// auditMisuse tells of a grant that has just ended because something of it was
// used once more.
func (e ender) auditMisuse(server, grant string) error {
	if e.ending.Reason != sessions.ReasonRefreshReuse && e.ending.Reason != sessions.ReasonCodeReplay {
		return nil
	}
	args := append([]any{e.realm, audit.NewID(utc(e.at))}, e.head(audit.TokenMisuse)...)
	args = append(args, e.tail()...)
	_, err := e.c.exec(auditInsert+`SELECT CAST(? AS TEXT), CAST(? AS TEXT), `+auditHead+`,
			g.authorization_server, g.user_id, g.client_id, g.session_id, '', `+auditTail+`
		FROM grants g WHERE g.authorization_server = ? AND g.id = ?`, append(args, server, grant)...)
	return err
}

// Record writes one event of the realm by itself, such as a refused sign-in,
// which nothing else is written with. Those that audit.Event.Counted names are
// one row a minute.
func (r *Realm) Record(ctx context.Context, event audit.Event) error {
	err := r.db.write(ctx, func(c conn) error { return c.record(r.name, r.db.now(), event) })
	if err != nil {
		return fmt.Errorf("recording %s: %w", event.Type, err)
	}
	return nil
}

// Events lists the events of the realm that filter chooses, newest first;
// 1,000 where it names no limit.
func (r *Realm) Events(ctx context.Context, filter audit.Filter) ([]audit.Event, error) {
	if err := filter.Check(); err != nil {
		return nil, fmt.Errorf("listing audit events: %w", err)
	}
	where, args := []string{`realm = ?`}, []any{r.name}
	add := func(condition string, values ...any) {
		where, args = append(where, condition), append(args, values...)
	}
	for _, equal := range []struct{ column, value string }{
		{"client_id", filter.ClientID}, {"authorization_server", filter.AuthorizationServer},
		{"result", string(filter.Result)},
	} {
		if equal.value != "" {
			add(equal.column+` = ?`, legible(equal.value, maxDetail))
		}
	}
	// The second conditions are those of the indexes.
	if filter.UserID != "" {
		add(`user_id = ? AND user_id <> ''`, legible(filter.UserID, maxDetail))
	}
	if filter.SessionID != "" {
		add(`session_id = ? AND session_id <> ''`, legible(filter.SessionID, maxDetail))
	}
	if len(filter.Addresses) > 0 {
		add(`address IN ?`, filter.Addresses)
	}
	if len(filter.Types) > 0 {
		types := make([]string, len(filter.Types))
		for i, t := range filter.Types {
			types[i] = string(t)
		}
		add(`type IN ?`, types)
	}
	if !filter.Since.IsZero() {
		// Counted ones stand at the beginning of their minute.
		add(`id >= ? AND last_at >= ?`, audit.Prefix(audit.Minute(filter.Since)), stamp(filter.Since))
	}
	if !filter.Until.IsZero() {
		add(`id < ?`, audit.Prefix(filter.Until))
	}
	if filter.Before != "" {
		add(`id < ?`, filter.Before)
	}
	limit := filter.Limit
	if limit <= 0 || limit > maxList {
		limit = maxList
	}
	var found []audit.Event
	err := r.db.read(ctx, func(c conn) error {
		return c.rows(func(scan func(...any) error) error {
			var (
				e        audit.Event
				at, last int64
			)
			err := scan(&e.ID, &at, &last, &e.Count, &e.Type, &e.Result, &e.Reason, &e.Actor, &e.AuthorizationServer,
				&e.UserID, &e.ClientID, &e.SessionID, &e.LoginID, &e.Address, &e.RequestID, &e.Detail)
			e.At, e.LastAt = utc(at), utc(last)
			found = append(found, e)
			return err
		}, `SELECT id, at, last_at, occurrences, type, result, reason, actor, authorization_server,
			user_id, client_id, session_id, login_id, address, request_id, detail
			FROM audit_events WHERE `+strings.Join(where, " AND ")+` ORDER BY id DESC LIMIT ?`, append(args, limit)...)
	})
	if err != nil {
		return nil, fmt.Errorf("listing audit events: %w", err)
	}
	return found, nil
}

// SweepAudit removes up to limit events of the realm from before that time, the
// oldest first, and tells how many.
func (r *Realm) SweepAudit(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := remove(ctx, r.db, `DELETE FROM audit_events WHERE realm = ? AND id IN (
		SELECT id FROM audit_events WHERE realm = ? AND id < ? ORDER BY id LIMIT ?)`, r.name, r.name, audit.Prefix(before), limit)
	if err != nil {
		return n, fmt.Errorf("sweeping audit events: %w", err)
	}
	return n, nil
}
