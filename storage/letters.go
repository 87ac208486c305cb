package storage

import (
	"context"
	"fmt"
	"time"

	"gatehouse.dev/gatehouse/mail"
)

var _ mail.Store = (*DB)(nil)

// dueLetters are the notices whose mail is due, behind the columns of a SELECT.
const dueLetters = ` FROM notices n WHERE n.mail_state = 'waiting' AND n.mail_next_at <= ? AND n.realm IN ?`

// ClaimLetters takes up to limit letters of those realms that are due, the
// longest due first, and counts an attempt for each. Each goes to one caller, of
// whatever node, until its lease is over.
func (db *DB) ClaimLetters(ctx context.Context, realms []string, limit int, lease time.Duration) ([]mail.Letter, error) {
	if len(realms) == 0 {
		return nil, nil
	}
	var claimed []mail.Letter
	now := stamp(db.now())
	err := db.read(ctx, func(c conn) error {
		var one int
		due, err := c.row([]any{&one}, `SELECT 1`+dueLetters+` LIMIT 1`, now, realms)
		if err == nil && !due {
			// The usual case: no transaction, which would take SQLite's lock.
			limit = 0
		}
		return err
	})
	if err == nil && limit > 0 {
		err = db.transact(ctx, func(c conn) error {
			claimed = nil
			if err := c.rows(func(scan func(...any) error) error {
				var (
					l  mail.Letter
					at int64
				)
				err := scan(append(noticeDest(&l.Notice, &at), &l.Realm, &l.To, &l.Language, &l.Attempts)...)
				l.Notice.At = utc(at)
				l.Attempts++
				claimed = append(claimed, l)
				return err
			}, `SELECT `+noticeColumns+`, n.realm, n.mail_to, n.mail_language, n.mail_attempts`+dueLetters+` ORDER BY n.mail_next_at LIMIT ?`+
				c.locking("FOR UPDATE SKIP LOCKED"), now, realms, limit); err != nil {
				return err
			}
			for _, l := range claimed {
				if _, err := c.exec(`UPDATE notices SET mail_next_at = ?, mail_attempts = ? WHERE realm = ? AND id = ?`,
					now+lease.Milliseconds(), l.Attempts, l.Realm, l.Notice.ID); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("claiming letters: %w", err)
	}
	return claimed, nil
}

// SettleLetter notes the outcome of the attempt that l was claimed for, and
// forgets the address of what is settled. mail.ErrNotFound: another attempt has
// begun since, or the notice has gone.
func (db *DB) SettleLetter(ctx context.Context, l mail.Letter, outcome mail.Outcome) error {
	var n int64
	err := db.write(ctx, func(c conn) error {
		var err error
		const still = ` WHERE realm = ? AND id = ? AND mail_state = 'waiting' AND mail_attempts = ?`
		if outcome.State == mail.Waiting {
			n, err = c.exec(`UPDATE notices SET mail_next_at = ?`+still, stamp(outcome.Next), l.Realm, l.Notice.ID, l.Attempts)
		} else {
			n, err = c.exec(`UPDATE notices SET mail_state = ?, mail_to = ''`+still, string(outcome.State), l.Realm, l.Notice.ID, l.Attempts)
		}
		return err
	})
	if err == nil && n == 0 {
		err = mail.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("settling a letter: %w", err)
	}
	return nil
}
