package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/sessions"
)

// errTarget is a mistake of the caller's.
var errTarget = errors.New("target names not exactly one thing that this store can end")

// errEffect is a mistake of the caller's too.
var errEffect = errors.New("effect belongs to another authorization server")

// effects writes the effects of an ending and tells how many of them changed
// something. sessions.ErrNotFound where a user is not there. Only effects on
// server are taken, unless server is empty.
func (e ender) effects(server string) (int64, error) {
	var total int64
	for _, effect := range e.ending.Effects {
		var (
			n     int64
			err   error
			event audit.Event
		)
		switch effect := effect.(type) {
		case sessions.LockUser:
			event = audit.Event{Type: audit.UserLocked, UserID: effect.UserID}
			// A lock keeps the time at which it began.
			n, err = e.onUser(`UPDATE users SET locked_at = COALESCE(locked_at, ?) WHERE realm = ? AND id = ?`, e.at, effect.UserID)
		case sessions.SetPassword:
			event = audit.Event{Type: audit.PasswordChanged, UserID: effect.UserID}
			n, err = e.setPassword(effect)
		case sessions.WithdrawConsent:
			event = audit.Event{Type: audit.ConsentWithdraw, AuthorizationServer: effect.AuthorizationServer,
				UserID: effect.UserID, ClientID: effect.ClientID}
			if server != "" && server != effect.AuthorizationServer {
				return 0, errEffect
			}
			if storable(effect.AuthorizationServer, effect.UserID, effect.ClientID) {
				n, err = e.c.exec(`DELETE FROM consents WHERE authorization_server = ? AND user_id = ? AND client_id = ? AND realm = ?`,
					effect.AuthorizationServer, effect.UserID, effect.ClientID, e.realm)
			}
		case sessions.DeleteClient:
			event = audit.Event{Type: audit.ClientDeleted, AuthorizationServer: effect.AuthorizationServer, ClientID: effect.ClientID}
			if server != "" && server != effect.AuthorizationServer {
				return 0, errEffect
			}
			if storable(effect.AuthorizationServer, effect.ClientID) {
				n, err = e.c.exec(`UPDATE clients SET deleted_at = ?, secret_sha = NULL
					WHERE authorization_server = ? AND client_id = ? AND realm = ? AND deleted_at IS NULL`,
					e.at, effect.AuthorizationServer, effect.ClientID, e.realm)
			}
		case sessions.Note:
			n = 1
		default:
			err = fmt.Errorf("effect %T is unknown", effect)
		}
		if err != nil {
			return 0, err
		}
		total += n
		if n == 0 {
			continue // nothing was done, and so there is nothing to tell of
		}
		event.Actor = e.ending.By.String()
		if note, ok := effect.(sessions.Note); ok {
			event = noteEvent(note)
		}
		if err := e.c.record(e.realm, utc(e.at), event); err != nil {
			return 0, err
		}
	}
	return total, nil
}

func (e ender) onUser(statement string, value any, id string) (int64, error) {
	n, err := e.c.exec(statement, value, e.realm, id)
	if err == nil && n == 0 {
		err = sessions.ErrNotFound
	}
	return n, err
}

// setPassword replaces the password of a locked user; sessions.ErrProofStale
// where it is no longer the one that was judged.
func (e ender) setPassword(effect sessions.SetPassword) (int64, error) {
	same, err := hasPassword(e.c, e.realm, effect.UserID, effect.Judged)
	if err == nil && !same {
		err = sessions.ErrProofStale
	}
	if err != nil {
		return 0, err
	}
	return e.onUser(`UPDATE users SET password = ? WHERE realm = ? AND id = ?`, effect.PHC, effect.UserID)
}

// End ends a login, a user, an entry, or what a user has at a client, at every authorization server of the realm, in
// one transaction with ending.Effects, and tells how many sessions ended;
// detached ones are not counted. sessions.ErrNotFound: no such live login, or
// no such user.
func (r *Realm) End(ctx context.Context, target sessions.Target, ending sessions.Ending) (int, error) {
	if !storable(target.Login, target.User, target.OfUser, target.Entry, target.ExceptEntryOf.AuthorizationServer, target.ExceptEntryOf.ID,
		target.ExceptLogin, target.Client, target.AuthorizationServer) {
		return 0, sessions.ErrNotFound
	}
	switch {
	case target.Entry != "":
		return r.endEntry(ctx, target, ending)
	case target.AuthorizationServer != "":
		return r.endPermission(ctx, target, ending)
	case target.Grant+target.Session+target.Client+target.OfClient+target.Except != "" || target.All || target.Lapsed || (target.Login == "") == (target.User == ""):
		return 0, errTarget
	}
	excepts := target.ExceptEntryOf != sessions.Key{}
	if (target.User == "" && (excepts || target.ExceptLogin != "" || target.Nothing)) || (excepts && target.ExceptLogin != "") {
		return 0, errTarget
	}
	var n int
	err := r.db.transact(ctx, func(c conn) error {
		now := r.db.now()
		e := r.newEnder(c, ending, now)
		if target.User != "" {
			if target.OfUser != "" && target.OfUser != target.User {
				return sessions.ErrNotFound
			}
			if err := e.lockUsersOfEffects(target.User); err != nil {
				return err
			}
			if _, err := e.effects(""); err != nil {
				return err
			}
			if target.Nothing {
				return nil
			}
			var err error
			n, err = e.endUser(target.User, target.ExceptEntryOf, target.ExceptLogin)
			return err
		}
		if err := e.lockUsersOfEffects(); err != nil {
			return err
		}
		login, err := r.current(c, target.Login, stamp(now))
		if err != nil {
			return err
		}
		if login == nil || (target.OfUser != "" && target.OfUser != login.UserID) {
			return sessions.ErrNotFound
		}
		if _, err := e.effects(""); err != nil {
			return err
		}
		n, err = e.endLogin(login.ID)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ending in realm %s: %w", r.name, err)
	}
	return n, nil
}

// End ends a grant, a session, a client's sessions or all of one user's with
// ending.Effects, and tells how many sessions ended. A grant, a session, or
// sessions of one user (OfUser) end in one transaction; all sessions of a client end in
// batches, after a first transaction with the effects, so that a deleted
// client is dead at once. sessions.ErrNotFound where nothing live matched.
func (s *Server) End(ctx context.Context, target sessions.Target, ending sessions.Ending) (int, error) {
	if !storable(target.Grant, target.Session, target.Client, target.OfUser, target.OfClient, target.Except) {
		return 0, sessions.ErrNotFound
	}
	named := 0
	for _, id := range []string{target.Grant, target.Session, target.Client} {
		if id != "" {
			named++
		}
	}
	if target.All {
		named++
	}
	// Without a user "all" would be everybody's.
	if named != 1 || target.Login+target.User+target.ExceptLogin+target.AuthorizationServer != "" || target.Nothing || (target.All && target.OfUser == "") || (target.Except != "" && !target.All) ||
		(target.Lapsed && target.Session == "") {
		return 0, errTarget
	}
	var (
		n   int
		err error
	)
	switch {
	case target.All:
		n, err = s.endOfUser(ctx, target, ending)
	case target.Lapsed:
		n, err = s.endLapsed(ctx, target, ending)
	case target.Client == "":
		n, err = s.endOne(ctx, target, ending)
	case target.OfClient != "" && target.OfClient != target.Client:
		err = sessions.ErrNotFound
	case target.OfUser != "":
		target.OfClient = target.Client
		n, err = s.endOfUser(ctx, target, ending)
	default:
		n, err = s.endClient(ctx, target.Client, ending)
	}
	if err != nil {
		return 0, fmt.Errorf("ending at authorization server %s: %w", s.name, err)
	}
	return n, nil
}

// endLapsed ends what of a session is over by time, if there is any. A session
// can be in that state for long, and each use of it asks; so it looks before it
// locks.
func (s *Server) endLapsed(ctx context.Context, target sessions.Target, ending sessions.Ending) (int, error) {
	var open bool
	err := s.db.read(ctx, func(c conn) error {
		_, err := c.row([]any{&open}, `SELECT EXISTS (SELECT 1 FROM grants WHERE authorization_server = ? AND session_id = ?
			AND ended_at IS NULL AND NOT (offline AND redeemed_at IS NOT NULL))`, s.name, target.Session)
		return err
	})
	if err != nil || !open {
		return 0, err
	}
	return s.endOne(ctx, target, ending)
}

// endOne ends a grant or a session.
func (s *Server) endOne(ctx context.Context, target sessions.Target, ending sessions.Ending) (int, error) {
	// One statement finds what the caller may end and nothing else, so that an
	// unknown, a foreign and an ended one can't be told apart.
	where, args := ``, []any(nil)
	if target.OfUser != "" {
		where, args = where+` AND s.user_id = ?`, append(args, target.OfUser)
	}
	if target.OfClient != "" {
		where, args = where+` AND s.client_id = ?`, append(args, target.OfClient)
	}
	var n int
	err := s.db.transact(ctx, func(c conn) error {
		now := s.db.now()
		e := newEnder(c, s.realm, s.life, ending, now)
		if err := e.lockUsersOfEffects(); err != nil {
			return err
		}
		var (
			f   located
			err error
		)
		if target.Grant != "" {
			f, err = e.find(`SELECT s.authorization_server, s.id, s.login_id, s.user_id, g.refreshable FROM grants g
				JOIN oauth2_sessions s ON s.authorization_server = g.authorization_server AND s.id = g.session_id
				WHERE g.authorization_server = ? AND g.id = ? AND g.ended_at IS NULL AND s.ended_at IS NULL`+where,
				append([]any{s.name, target.Grant}, args...)...)
		} else {
			f, err = e.find(`SELECT s.authorization_server, s.id, s.login_id, s.user_id, s.refreshable
				FROM oauth2_sessions s`+sessionJoins+` WHERE s.authorization_server = ? AND s.id = ?`+where+` AND `+liveSession,
				append(append([]any{s.name, target.Session}, args...), s.liveSessionArgs(stamp(now))...)...)
		}
		if err != nil {
			return err
		}
		if err := e.lockParents([]parent{f.parent}); err != nil {
			return err
		}
		rows, err := e.lockSessions(`s.authorization_server = ? AND s.id = ?`, s.name, f.session.id)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return sessions.ErrNotFound // ended while we waited
		}
		if _, err := e.effects(s.name); err != nil {
			return err
		}
		switch {
		case target.Grant != "":
			n, err = e.endGrant(f.session, target.Grant, f.refreshable)
		case target.Lapsed:
			err = e.lapse(f.session)
		default:
			n, err = e.endSessions(rows)
		}
		return err
	})
	return n, err
}

// endOfUser ends the sessions of one user, but for target.Except: those at one
// client where target.OfClient is set, and else all.
func (s *Server) endOfUser(ctx context.Context, target sessions.Target, ending sessions.Ending) (int, error) {
	where, args := `s.authorization_server = ? AND s.user_id = ?`, []any{s.name, target.OfUser}
	if target.OfClient != "" {
		where, args = where+` AND s.client_id = ?`, append(args, target.OfClient)
	}
	if target.Except != "" {
		where, args = where+` AND s.id <> ?`, append(args, target.Except)
	}
	var n int
	err := s.db.transact(ctx, func(c conn) error {
		e := newEnder(c, s.realm, s.life, ending, s.db.now())
		var err error
		n, err = e.endOfUser(s.name, target.OfUser, where, args...)
		return err
	})
	return n, err
}

// endClient ends all sessions of a client, or, where the client is dead, those
// that it had when it died.
func (s *Server) endClient(ctx context.Context, id string, ending sessions.Ending) (int, error) {
	if ending.At.IsZero() {
		ending.At = s.db.now()
	}
	var (
		changed int64
		deleted sql.NullInt64
		known   bool
	)
	err := s.db.transact(ctx, func(c conn) error {
		e := newEnder(c, s.realm, s.life, ending, ending.At)
		if err := e.lockUsersOfEffects(); err != nil {
			return err
		}
		var err error
		if changed, err = e.effects(s.name); err != nil {
			return err
		}
		known, err = c.row([]any{&deleted}, `SELECT deleted_at FROM clients WHERE authorization_server = ? AND client_id = ?`, s.name, id)
		return err
	})
	if err != nil {
		return 0, err
	}
	up := known && !deleted.Valid
	ending.Effects = nil // they are written
	total := 0
	for after := ""; ; {
		n, last, err := s.endBatchOfClient(ctx, id, after, up, ending)
		total += n
		if err != nil {
			return total, err
		}
		if last == "" {
			break
		}
		after = last
	}
	if total == 0 && changed == 0 && !up {
		return 0, sessions.ErrNotFound
	}
	return total, nil
}

// endBatchOfClient ends the next sessions behind the id after, and returns the
// last id it came to; empty at the end.
func (s *Server) endBatchOfClient(ctx context.Context, id, after string, up bool, ending sessions.Ending) (n int, last string, err error) {
	where := `s.authorization_server = ? AND s.client_id = ? AND s.ended_at IS NULL AND s.id > ?`
	if !up {
		// The id may be registered anew at this very moment.
		where += ` AND NOT EXISTS (SELECT 1 FROM clients c WHERE c.authorization_server = s.authorization_server
			AND c.client_id = s.client_id AND c.uid = s.client_uid AND c.deleted_at IS NULL)`
	}
	err = s.db.transact(ctx, func(c conn) error {
		n, last = 0, ""
		e := newEnder(c, s.realm, s.life, ending, ending.At)
		var (
			ids     []string
			parents []parent
		)
		if err := c.rows(func(scan func(...any) error) error {
			var (
				id, user string
				login    sql.NullString
			)
			err := scan(&id, &login, &user)
			ids = append(ids, id)
			parents = append(parents, parent{login.String, user})
			return err
		}, `SELECT s.id, s.login_id, s.user_id FROM oauth2_sessions s WHERE `+where+` ORDER BY s.id LIMIT ?`,
			s.name, id, after, endBatch); err != nil || len(ids) == 0 {
			return err
		}
		if err := e.lockParents(parents); err != nil {
			return err
		}
		rows, err := e.lockSessions(`s.authorization_server = ? AND s.id IN ?`, s.name, ids)
		if err != nil {
			return err
		}
		n, err = e.endSessions(rows)
		if len(ids) == endBatch {
			last = ids[len(ids)-1]
		}
		return err
	})
	if err != nil {
		return 0, "", err
	}
	return n, last, nil
}
