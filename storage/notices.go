package storage

import (
	"context"
	"crypto/rand"
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
// has not signed in from there before; where he has, and is still asked about
// it, the login shares the question. goesOn: the browser has had the login, so
// it is known whatever its cookie says.
//
// The row of kind 'user' comes first. Who has it waits for nobody with other
// rows of the user, and sees what all before him have written: of several
// sign-ins at once from one new device one finds it new, and mails are counted.
func (r *Realm) remember(c conn, login *sessions.Login, goesOn bool, in sessions.Noticing, now time.Time) error {
	if len(in.Device) == 0 {
		return nil
	}
	id, device := rand.Text(), hex.EncodeToString(in.Device)
	const row = `(?, ?, ?, ?, ?, ?)`
	rows, args := []string{row, row}, []any{
		r.name, login.UserID, markUser, "", id, stamp(now),
		r.name, login.UserID, markDevice, device, id, stamp(now)}
	if network := sessions.Network(login.Address); network != "" {
		rows, args = append(rows, row), append(args, r.name, login.UserID, markNetwork, network, id, stamp(now))
	}
	fresh, known := map[string]bool{}, map[string]string{}
	if err := c.rows(func(scan func(...any) error) error {
		var kind, first string
		err := scan(&kind, &first)
		if first == id {
			fresh[kind] = true
		} else {
			known[kind] = first
		}
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
	if fresh[markUser] {
		return nil
	}
	if goesOn {
		if fresh[markDevice] {
			if err := r.markAsLogin(c, login, device); err != nil {
				return err
			}
		}
	} else if err := r.shareDoubts(c, login, device, known); err != nil {
		return err
	}
	if !n.Device && !n.Network {
		return nil
	}
	instead, err := r.makeRoom(c, n.UserID)
	switch {
	case err != nil:
		return err
	case instead != "":
		err = r.crowd(c, n, instead)
	default:
		err = r.insertNotice(c, n, in)
	}
	if err != nil {
		return err
	}
	return c.record(r.name, n.At, audit.Event{Type: audit.NewDevice, Actor: user(n.UserID), UserID: n.UserID, LoginID: n.LoginID,
		Address: n.Address, Detail: newWords(n)})
}

// insertNotice writes a notice with its mail. The caller has the user's row of
// known_marks.
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
	_, err := c.exec(`INSERT INTO notices (realm, id, user_id, login_id, new_device, new_network, address, user_agent, device, at,
		mail_state, mail_to, mail_language, mail_next_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.name, n.ID, n.UserID, n.LoginID, n.Device, n.Network, n.Address, n.UserAgent, hex.EncodeToString(in.Device), at,
		string(state), to, legible(in.Language, maxAddress), at)
	return err
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

// OpenNotices lists notices of the user that are not answered, newest first:
// those that are about a login that lives or has ended later than endedAfter,
// but for those of the browser that asks in the login by.
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
			err := scan(append(noticeDest(&n, &at), &n.Crowded, &n.Ended, &n.OnlyNo)...)
			n.At = utc(at)
			found = append(found, n)
			return err
		}, `WITH live AS (`+doubtsOf+` AND ended_at IS NULL), late AS (`+doubtsOf+` AND ended_at > ?)
			SELECT `+noticeColumns+`, n.crowded, CASE WHEN `+isAbout("live")+` THEN 0 ELSE 1 END, CASE WHEN n.crowded OR `+inQuestion+` THEN 1 ELSE 0 END
			FROM notices n WHERE n.realm = ? AND n.user_id = ? AND n.answer = '' AND n.login_id <> ?
			AND NOT EXISTS (SELECT 1 FROM logins b WHERE b.realm = n.realm AND b.id = ? AND b.doubt = n.id)
			AND (`+isAbout("live")+` OR `+isAbout("late")+`)
			ORDER BY n.at DESC, n.id LIMIT ?`,
			r.name, userID, r.name, userID, stamp(endedAfter), by, r.name, userID, by, r.name, userID, by, by, max(limit, 0))
	})
	if err != nil {
		return nil, fmt.Errorf("listing notices: %w", err)
	}
	return found, nil
}

// AnswerNotice notes what the user says of a notice in the login by;
// sessions.AnswerNo ends the logins that it is about, with everything that began
// in them, as by ending. sessions.ErrNotFound: the user has no such notice.
// sessions.ErrAnswer: he says yes in such a login, or in another one that is in
// question, or to a notice that stands for sign-ins that it doesn't show.
func (r *Realm) AnswerNotice(ctx context.Context, userID, id, by string, answer sessions.Answer, ending sessions.Ending) error {
	if !storable(userID, id, by) {
		return sessions.ErrNotFound
	}
	return r.db.transact(ctx, func(c conn) error {
		e := newEnder(c, r.name, r.life, ending, r.db.now())
		if answer == sessions.AnswerNo {
			// A sign-in that would share the question is over, or has not begun.
			if found, err := e.lockUser(userID); err != nil {
				return err
			} else if !found {
				return sessions.ErrNotFound
			}
		}
		var (
			login, before   string
			device, crowded bool
		)
		found, err := c.row([]any{&login, &before, &device, &crowded}, `SELECT login_id, answer, new_device, crowded FROM notices
			WHERE realm = ? AND id = ? AND user_id = ?`, r.name, id, userID)
		if err != nil {
			return err
		}
		if !found {
			return sessions.ErrNotFound
		}
		var noted int64
		if answer == sessions.AnswerYes {
			var unsure bool
			if _, err := c.row([]any{&unsure}, `SELECT CASE WHEN `+inQuestion+` THEN 1 ELSE 0 END`, by, r.name, userID, by); err != nil {
				return err
			}
			if unsure || login == by || crowded && before == "" {
				return sessions.ErrAnswer
			}
			noted, err = e.vouch(id, login, device && before == "")
		} else {
			noted, err = e.disown(userID, id)
		}
		if err != nil || noted == 0 {
			return err
		}
		return c.record(r.name, utc(e.at), audit.Event{Type: audit.NewDeviceAnswer, Reason: string(answer), Actor: ending.By.String(),
			UserID: userID, LoginID: login})
	})
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
