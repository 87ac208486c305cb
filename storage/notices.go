package storage

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/mail"
	"gatehouse.dev/gatehouse/sessions"
)

var _ sessions.NoticeStore = (*Realm)(nil)

// Kinds of rows of known_marks.
const (
	markUser    = "user" // the user has signed in before
	markDevice  = "device"
	markNetwork = "network"
)

// maxMailTo bounds an address (RFC 5321 §4.5.3.1.3, without the angle brackets).
const maxMailTo = 254

// remember notes from where a user has signed in, and leaves a notice where he
// has not signed in from there before. goesOn: the browser has had the login, so
// it is known whatever its cookie says.
//
// The row of kind 'user' comes first. Who has it waits for nobody with other
// rows of the user, and sees what all before him have written: of several
// sign-ins at once from one new device one finds it new, and mails are counted.
func (r *Realm) remember(c conn, login *sessions.Login, goesOn bool, in sessions.Noticing, now time.Time) error {
	if len(in.Device) == 0 {
		return nil
	}
	id := rand.Text()
	const row = `(?, ?, ?, ?, ?, ?)`
	rows, args := []string{row, row}, []any{
		r.name, login.UserID, markUser, "", id, stamp(now),
		r.name, login.UserID, markDevice, hex.EncodeToString(in.Device), id, stamp(now)}
	if network := sessions.Network(login.Address); network != "" {
		rows, args = append(rows, row), append(args, r.name, login.UserID, markNetwork, network, id, stamp(now))
	}
	fresh := map[string]bool{}
	if err := c.rows(func(scan func(...any) error) error {
		var kind, first string
		err := scan(&kind, &first)
		fresh[kind] = first == id
		return err
	}, `INSERT INTO known_marks AS k (realm, user_id, kind, mark, notice_id, last_seen) VALUES `+strings.Join(rows, ", ")+`
		ON CONFLICT (realm, user_id, kind, mark) DO UPDATE SET
			last_seen = CASE WHEN excluded.last_seen > k.last_seen THEN excluded.last_seen ELSE k.last_seen END
		RETURNING kind, notice_id`, args...); err != nil {
		return err
	}
	for _, kind := range []string{markDevice, markNetwork} {
		if !fresh[kind] {
			continue
		}
		if _, err := c.exec(`DELETE FROM known_marks WHERE realm = ? AND user_id = ? AND kind = ? AND mark IN (
			SELECT mark FROM known_marks WHERE realm = ? AND user_id = ? AND kind = ? AND notice_id <> ?
			ORDER BY last_seen DESC, mark LIMIT ? OFFSET ?)`,
			r.name, login.UserID, kind, r.name, login.UserID, kind, id, maxList, sessions.MaxKnown-1); err != nil {
			return err
		}
	}
	n := sessions.Notice{ID: id, UserID: login.UserID, LoginID: login.ID, Device: fresh[markDevice] && !goesOn, Network: fresh[markNetwork],
		Address: login.Address, UserAgent: login.UserAgent, At: now}
	if fresh[markUser] || !n.Device && !n.Network {
		return nil
	}
	return r.insertNotice(c, n, in)
}

// insertNotice writes a notice with its mail, makes room for it, and records it.
// The caller has the user's row of known_marks.
func (r *Realm) insertNotice(c conn, n sessions.Notice, in sessions.Noticing) error {
	at, state := stamp(n.At), mail.State("")
	if in.MailTo != "" && len(in.MailTo) <= maxMailTo && storable(in.MailTo) {
		state = mail.Waiting
		var sent int
		if _, err := c.row([]any{&sent}, `SELECT COUNT(*) FROM notices WHERE realm = ? AND user_id = ? AND at > ? AND mail_state IN ('waiting', 'sent', 'abandoned')`,
			r.name, n.UserID, at-sessions.MailWindow.Milliseconds()); err != nil {
			return err
		}
		if sent >= sessions.MaxMails {
			state = mail.Held
		}
	}
	to := ""
	if state == mail.Waiting {
		to = in.MailTo
	}
	if _, err := c.exec(`INSERT INTO notices (realm, id, user_id, login_id, new_device, new_network, address, user_agent, at,
		mail_state, mail_to, mail_language, mail_next_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.name, n.ID, n.UserID, n.LoginID, n.Device, n.Network, n.Address, n.UserAgent, at,
		string(state), to, legible(in.Language, maxAddress), at); err != nil {
		return err
	}
	if _, err := c.exec(`DELETE FROM notices WHERE realm = ? AND id IN (
		SELECT id FROM notices WHERE realm = ? AND user_id = ? AND id <> ? ORDER BY at DESC, id LIMIT ? OFFSET ?)`,
		r.name, r.name, n.UserID, n.ID, maxList, sessions.MaxNotices-1); err != nil {
		return err
	}
	return c.record(r.name, n.At, audit.Event{Type: audit.NewDevice, Actor: user(n.UserID), UserID: n.UserID, LoginID: n.LoginID,
		Address: n.Address, Detail: newWords(n)})
}

// newWords is what is new, as audit events say it.
func newWords(n sessions.Notice) string {
	var words []string
	if n.Device {
		words = append(words, markDevice)
	}
	if n.Network {
		words = append(words, markNetwork)
	}
	return strings.Join(words, " ")
}

const noticeColumns = `n.id, n.user_id, n.login_id, n.new_device, n.new_network, n.address, n.user_agent, n.at`

func noticeDest(n *sessions.Notice, at *int64) []any {
	return []any{&n.ID, &n.UserID, &n.LoginID, &n.Device, &n.Network, &n.Address, &n.UserAgent, at}
}

// inQuestion tells whether a login of a user is itself asked about.
const inQuestion = `EXISTS (SELECT 1 FROM notices o WHERE o.realm = ? AND o.user_id = ? AND o.login_id = ? AND o.answer = '')`

// OpenNotices lists notices of the user that are not answered, newest first:
// those whose login lives or has ended later than endedAfter, but for those of
// the login by, which asks.
func (r *Realm) OpenNotices(ctx context.Context, userID, by string, endedAfter time.Time, limit int) ([]sessions.Notice, error) {
	var found []sessions.Notice
	if !storable(userID, by) {
		return nil, nil
	}
	err := r.db.read(ctx, func(c conn) error {
		found = nil
		return c.rows(func(scan func(...any) error) error {
			var (
				n  sessions.Notice
				at int64
			)
			err := scan(append(noticeDest(&n, &at), &n.Ended, &n.OnlyNo)...)
			n.At = utc(at)
			found = append(found, n)
			return err
		}, `SELECT `+noticeColumns+`, CASE WHEN l.ended_at IS NULL THEN 0 ELSE 1 END, CASE WHEN `+inQuestion+` THEN 1 ELSE 0 END FROM notices n
			JOIN logins l ON l.realm = n.realm AND l.id = n.login_id
			WHERE n.realm = ? AND n.user_id = ? AND n.answer = '' AND n.login_id <> ? AND (l.ended_at IS NULL OR l.ended_at > ?)
			ORDER BY n.at DESC, n.id LIMIT ?`, r.name, userID, by, r.name, userID, by, stamp(endedAfter), max(limit, 0))
	})
	if err != nil {
		return nil, fmt.Errorf("listing notices: %w", err)
	}
	return found, nil
}

// AnswerNotice notes what the user says of a notice in the login by;
// sessions.AnswerNo ends the login that it is about, with everything that began
// in it, as by ending. sessions.ErrNotFound: the user has no such notice.
// sessions.ErrAnswer: he says yes in that very login, or in another one that is
// in question.
func (r *Realm) AnswerNotice(ctx context.Context, userID, id, by string, answer sessions.Answer, ending sessions.Ending) error {
	if !storable(userID, id, by) {
		return sessions.ErrNotFound
	}
	return r.db.transact(ctx, func(c conn) error {
		e := newEnder(c, r.name, r.life, ending, r.db.now())
		var login string
		found, err := c.row([]any{&login}, `SELECT login_id FROM notices WHERE realm = ? AND id = ? AND user_id = ?`, r.name, id, userID)
		if err != nil {
			return err
		}
		if !found {
			return sessions.ErrNotFound
		}
		var noted int64
		if answer == sessions.AnswerYes {
			var unsure bool
			if _, err := c.row([]any{&unsure}, `SELECT CASE WHEN `+inQuestion+` THEN 1 ELSE 0 END`, r.name, userID, by); err != nil {
				return err
			}
			if unsure || login == by {
				return sessions.ErrAnswer
			}
			noted, err = c.exec(`UPDATE notices SET answer = ?, answered_at = ? WHERE realm = ? AND id = ? AND answer = ''`,
				string(answer), e.at, r.name, id)
		} else {
			noted, err = e.disown(userID, login)
		}
		if err != nil || noted == 0 {
			return err
		}
		return c.record(r.name, utc(e.at), audit.Event{Type: audit.NewDeviceAnswer, Reason: string(answer), Actor: ending.By.String(),
			UserID: userID, LoginID: login})
	})
}

// disown ends a login with everything that began in it, answers the notices of
// it with no, and forgets what became known by them. It tells how many notices
// had another answer, or none.
func (e ender) disown(userID, login string) (int64, error) {
	var over sql.NullInt64
	found, err := e.c.row([]any{&over}, `SELECT ended_at FROM logins WHERE realm = ? AND id = ? AND user_id = ?`+e.c.locking("FOR UPDATE"),
		e.realm, login, userID)
	if err != nil {
		return 0, err
	}
	if found {
		// All sessions before the login, which would detach some of them.
		rows, err := e.lockSessions(`s.realm = ? AND s.login_id = ?`, e.realm, login)
		if err != nil {
			return 0, err
		}
		if _, err := e.endSessions(rows); err != nil {
			return 0, err
		}
	}
	if found && !over.Valid {
		if _, err := e.endLogin(login); err != nil {
			return 0, err
		}
	}
	// First what sign-ins lock first.
	var one int
	if _, err := e.c.row([]any{&one}, `SELECT 1 FROM known_marks WHERE realm = ? AND user_id = ? AND kind = ? AND mark = ''`+e.c.locking("FOR UPDATE"),
		e.realm, userID, markUser); err != nil {
		return 0, err
	}
	noted, err := e.c.exec(`UPDATE notices SET answer = ?, answered_at = ? WHERE realm = ? AND user_id = ? AND login_id = ? AND answer <> ?`,
		string(sessions.AnswerNo), e.at, e.realm, userID, login, string(sessions.AnswerNo))
	if err != nil || noted == 0 {
		return 0, err
	}
	// Who comes back from there is new once more.
	_, err = e.c.exec(`DELETE FROM known_marks WHERE realm = ? AND user_id = ? AND kind <> '`+markUser+`' AND notice_id IN (
		SELECT id FROM notices WHERE realm = ? AND user_id = ? AND login_id = ?)`, e.realm, userID, e.realm, userID, login)
	return noted, err
}

// SweepNotices removes up to limit notices, and as many known devices and
// networks, from before that time, and tells how many.
func (r *Realm) SweepNotices(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := remove(ctx, r.db, `DELETE FROM notices WHERE realm = ? AND id IN (
		SELECT id FROM notices WHERE realm = ? AND at < ? ORDER BY at LIMIT ?)`, r.name, r.name, stamp(before), limit)
	if err == nil {
		var marks int
		// One that has been used since it was selected stays.
		marks, err = remove(ctx, r.db, `DELETE FROM known_marks WHERE realm = ? AND kind <> '`+markUser+`' AND last_seen < ? AND (user_id, kind, mark) IN (
			SELECT user_id, kind, mark FROM known_marks WHERE realm = ? AND kind <> '`+markUser+`' AND last_seen < ? ORDER BY last_seen LIMIT ?)`,
			r.name, stamp(before), r.name, stamp(before), limit)
		n += marks
	}
	if err != nil {
		return n, fmt.Errorf("sweeping notices: %w", err)
	}
	return n, nil
}
