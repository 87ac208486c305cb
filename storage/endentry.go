package storage

import (
	"context"
	"database/sql"
	"fmt"
	"unicode/utf8"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/sessions"
)

// endEntry ends what stands in one line of a user's list: a live login, or a
// session without one. sessions.ErrNotFound where it isn't there or is another
// user's, and nothing is written then.
func (r *Realm) endEntry(ctx context.Context, target sessions.Target, ending sessions.Ending) (int, error) {
	if target.OfUser == "" || target != (sessions.Target{Entry: target.Entry, OfUser: target.OfUser}) {
		return 0, errTarget
	}
	var n int
	err := r.db.transact(ctx, func(c conn) error {
		now := r.db.now()
		e := r.newEnder(c, ending, now)
		if err := e.lockUsersOfEffects(); err != nil {
			return err
		}
		known := 0
		login, err := c.row([]any{&known}, `SELECT 1 FROM logins WHERE realm = ? AND id = ? AND user_id = ?`, r.name, target.Entry, target.OfUser)
		if err != nil {
			return err
		}
		if login {
			current, err := r.current(c, target.Entry, stamp(now))
			if err != nil {
				return err
			}
			if current == nil {
				return sessions.ErrNotFound
			}
			if _, err := e.effects(""); err != nil {
				return err
			}
			n, err = e.endLogin(current.ID)
			return err
		}
		n, err = r.endAlone(e, target, stamp(now))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ending in realm %s: %w", r.name, err)
	}
	return n, nil
}

// endAlone ends a live session that is in no live login.
func (r *Realm) endAlone(e ender, target sessions.Target, now int64) (int, error) {
	f, err := e.find(`SELECT s.authorization_server, s.id, s.login_id, s.user_id, s.refreshable
		FROM oauth2_sessions s`+sessionJoins+` WHERE s.realm = ? AND s.user_id = ? AND s.entry_id = ? AND s.activated_at IS NOT NULL
		AND (s.login_id IS NULL OR s.detached_at IS NOT NULL OR NOT `+timelyLogin+`) AND `+r.alone,
		append(append([]any{r.name, target.OfUser, target.Entry}, r.timelyLoginArgs(now)...), r.aloneArgs(now)...)...)
	if err != nil {
		return 0, err
	}
	if err := e.lockParents([]parent{f.parent}); err != nil {
		return 0, err
	}
	rows, err := e.lockSessions(`s.authorization_server = ? AND s.id = ?`, f.session.server, f.session.id)
	if err != nil {
		return 0, err
	}
	if len(rows) == 0 {
		return 0, sessions.ErrNotFound // ended while we waited
	}
	if _, err := e.effects(""); err != nil {
		return 0, err
	}
	return e.endSessions(rows)
}

// excepted is what of a locked user's things the exception keeps: the live
// login that the session is in, or else the session. Where the session's login
// is over by time only, it is detached, as it is not to end with the login.
func (e ender) excepted(user string, except sessions.Key) (login string, session doomed, err error) {
	if except == (sessions.Key{}) {
		return "", doomed{}, nil
	}
	var (
		life     loginLife
		id       sql.NullString
		detached sql.NullInt64
	)
	found, err := e.c.row(append([]any{&id, &detached}, life.dest()...), `SELECT s.login_id, s.detached_at, `+loginLifeColumns+`
		FROM oauth2_sessions s LEFT JOIN logins l ON l.realm = s.realm AND l.id = s.login_id
		WHERE s.realm = ? AND s.authorization_server = ? AND s.id = ? AND s.user_id = ? AND s.ended_at IS NULL`,
		e.realm, except.AuthorizationServer, except.ID, user)
	switch {
	case err != nil || !found:
		return "", doomed{}, err
	case id.Valid && !detached.Valid && life.live(e.at, e.life):
		return id.String, doomed{}, nil
	}
	session = doomed{except.AuthorizationServer, except.ID}
	if id.Valid && !detached.Valid {
		err = e.detach([]doomed{session})
	}
	return "", session, err
}

// exceptedLogin is the login that the exception keeps; empty where it is not a
// live one of the locked user.
func (e ender) exceptedLogin(user, id string) (string, error) {
	var life loginLife
	found, err := e.c.row(life.dest(), `SELECT `+loginLifeColumns+` FROM logins l WHERE l.realm = ? AND l.id = ? AND l.user_id = ?`, e.realm, id, user)
	if err != nil || !found || !life.live(e.at, e.life) {
		return "", err
	}
	return id, nil
}

// UserNamed is the id of the user whom a condition on that name means, locked or
// not, or sessions.ErrUserNotFound.
func (r *Realm) UserNamed(ctx context.Context, text string) (string, error) {
	key, ok := usernameKey(sessions.Condition{Operator: sessions.OpEqual, Text: text})
	if !ok || !storable(text) {
		return "", sessions.ErrUserNotFound
	}
	var id string
	err := r.db.read(ctx, func(c conn) error {
		found, err := c.row([]any{&id}, `SELECT u.id FROM users u WHERE u.realm = ? AND u.username_key = ?`, r.name, key)
		if err == nil && !found {
			err = sessions.ErrUserNotFound
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("looking for a user by name: %w", err)
	}
	return id, nil
}

// HasUser tells whether there is a user with that id, locked or not.
func (r *Realm) HasUser(ctx context.Context, id string) (bool, error) {
	found := false
	if !storable(id) {
		return false, nil
	}
	err := r.db.read(ctx, func(c conn) error {
		var (
			one int
			err error
		)
		found, err = c.row([]any{&one}, `SELECT 1 FROM users WHERE realm = ? AND id = ?`, r.name, id)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("reading user: %w", err)
	}
	return found, nil
}

// NameLogin sets the device name of a live login of the user, or returns
// sessions.ErrNotFound.
func (r *Realm) NameLogin(ctx context.Context, userID, id, name string) error {
	if !storable(userID, id) {
		return fmt.Errorf("naming a device: %w", sessions.ErrNotFound)
	}
	err := r.db.write(ctx, func(c conn) error {
		n, err := c.exec(`UPDATE logins SET device_name = ? WHERE realm = ? AND id = ? AND user_id = ?
			AND ended_at IS NULL AND expires_at > ? AND last_access_at > ?`,
			append([]any{legible(name, sessions.MaxDeviceName*utf8.UTFMax), r.name, id, userID}, r.liveLoginArgs(stamp(r.db.now()))...)...)
		if err == nil && n == 0 {
			err = sessions.ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("naming a device: %w", err)
	}
	return nil
}

// Note records what a person did, or tried to do, that changed nothing.
func (r *Realm) Note(ctx context.Context, note sessions.Note) error {
	err := r.db.transact(ctx, func(c conn) error {
		event := noteEvent(note)
		// Of who has proven who he is the whole address is kept.
		event.Address = legible(c.origin.Address, maxAddress)
		return c.record(r.name, r.db.now(), event)
	})
	if err != nil {
		return fmt.Errorf("recording in realm %s: %w", r.name, err)
	}
	return nil
}

// noteEvent is the audit event of a note.
func noteEvent(note sessions.Note) audit.Event {
	e := audit.Event{Actor: note.By.String(), UserID: note.UserID, Detail: note.Detail}
	switch note.Kind {
	case sessions.NoteViewed:
		e.Type = audit.SessionsViewed
	case sessions.NoteEnding:
		e.Type = audit.EndingRequested
	case sessions.NoteMissed:
		e.Type, e.Result, e.Reason = audit.AccessRefused, audit.Refused, audit.NotFound
	default:
		e.Type, e.Result, e.Reason = audit.AccessRefused, audit.Refused, audit.NotAllowed
	}
	return e
}
