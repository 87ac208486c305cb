package storage

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/sessions"
)

const (
	// rotationGrace is how long a cookie is good after another took its place:
	// the browser may have sent requests before it had the new one.
	rotationGrace = 30 * time.Second
	// maxUserAgent, maxAddress and maxList bound what is kept and listed.
	maxUserAgent = 512
	maxAddress   = 64
	maxList      = 1000
	// touchBatch is how many rows one statement touches.
	touchBatch = 64
)

// loginRow is a login as it is stored.
type loginRow struct {
	sessions.Login
	amr                     string
	auth, created, accessed int64
	expires                 int64
	end                     ended
}

const loginColumns = `l.id, l.user_id, l.cookie_hash, l.auth_time, l.auth_nonce, l.amr, l.acr, l.persistent, l.address,
	l.user_agent, l.device_name, l.created_at, l.last_access_at, l.expires_at, l.ended_at, l.ended_by, l.ended_reason`

func (r *loginRow) dest() []any {
	return []any{&r.ID, &r.UserID, &r.CookieHash, &r.auth, &r.AuthNonce, &r.amr, &r.ACR, &r.Persistent, &r.Address,
		&r.UserAgent, &r.DeviceName, &r.created, &r.accessed, &r.expires, &r.end.at, &r.end.by, &r.end.reason}
}

func (r *loginRow) login() (sessions.Login, error) {
	l := r.Login
	if err := parse(r.amr, &l.AMR); err != nil {
		return l, err
	}
	l.AuthTime, l.CreatedAt = utc(r.auth), utc(r.created)
	l.LastAccessAt, l.ExpiresAt, l.Ended = utc(r.accessed), utc(r.expires), r.end.value()
	return l, nil
}

func (r *loginRow) live(now int64, life sessions.Lifetimes) bool {
	row := loginLife{
		ended:   r.end.at,
		expires: sql.NullInt64{Int64: r.expires, Valid: true},
		access:  sql.NullInt64{Int64: r.accessed, Valid: true},
	}
	return row.live(now, life)
}

// liveLogin is loginLife.live in SQL, for a login l of a user u.
const liveLogin = `l.ended_at IS NULL AND l.expires_at > ? AND l.last_access_at > ? AND u.locked_at IS NULL`

func (r *Realm) liveLoginArgs(now int64) []any {
	return []any{now, idleSince(now, r.life.LoginIdle, sessions.IdleSlack)}
}

// LoginByCookie returns the live login of that cookie hash, the current one or
// the one before it within 30 s of its rotation, or sessions.ErrNotFound.
func (r *Realm) LoginByCookie(ctx context.Context, cookieHash []byte) (*sessions.Login, error) {
	var login sessions.Login
	err := r.db.read(ctx, func(c conn) error {
		now := stamp(r.db.now())
		var row loginRow
		found, err := c.row(row.dest(), `SELECT `+loginColumns+` FROM logins l
			JOIN users u ON u.realm = l.realm AND u.id = l.user_id
			WHERE l.realm = ? AND (l.cookie_hash = ? OR (l.previous_cookie_hash = ? AND l.cookie_rotated_at > ?)) AND `+liveLogin,
			append([]any{r.name, blob(cookieHash), blob(cookieHash), now - rotationGrace.Milliseconds()}, r.liveLoginArgs(now)...)...)
		if err != nil {
			return err
		}
		if !found {
			return sessions.ErrNotFound
		}
		login, err = row.login()
		login.Former = !bytes.Equal(login.CookieHash, cookieHash)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading login: %w", err)
	}
	return &login, nil
}

// Logins lists the user's live logins, newest first, 1,000 at most.
func (r *Realm) Logins(ctx context.Context, userID string) ([]sessions.Login, error) {
	var found []sessions.Login
	if !storable(userID) {
		return nil, nil
	}
	err := r.db.read(ctx, func(c conn) error {
		now := stamp(r.db.now())
		return c.rows(func(scan func(...any) error) error {
			var row loginRow
			if err := scan(row.dest()...); err != nil {
				return err
			}
			login, err := row.login()
			found = append(found, login)
			return err
		}, `SELECT `+loginColumns+` FROM logins l
			JOIN users u ON u.realm = l.realm AND u.id = l.user_id
			WHERE l.realm = ? AND l.user_id = ? AND `+liveLogin+` ORDER BY l.created_at DESC, l.id LIMIT ?`,
			append(append([]any{r.name, userID}, r.liveLoginArgs(now)...), maxList)...)
	})
	if err != nil {
		return nil, fmt.Errorf("listing logins: %w", err)
	}
	return found, nil
}

// SignIn records a sign-in. A live in.Current of the same user goes on under
// its id with the new cookie; one of another user ends as by ending.
// sessions.ErrUserLocked where the user is locked or gone, sessions.ErrProofStale
// where he no longer has the password that was checked: nothing is written.
// in.Noticing is remembered, and may leave a notice.
func (r *Realm) SignIn(ctx context.Context, in sessions.SignIn, ending sessions.Ending) (*sessions.Login, error) {
	if !storable(in.UserID, in.Current) {
		return nil, fmt.Errorf("recording sign-in: %w", sessions.ErrUserLocked)
	}
	var login sessions.Login
	err := r.db.transactAgain(ctx, func(c conn) error {
		now := r.db.now()
		e := newEnder(c, r.name, r.life, ending, now)
		if err := e.lockUsersOfEffects(); err != nil {
			return err
		}
		if up, err := userUp(c, r.name, in.UserID); err != nil {
			return err
		} else if !up {
			return sessions.ErrUserLocked
		}
		if same, err := hasPassword(c, r.name, in.UserID, in.Password); err != nil {
			return err
		} else if !same {
			return sessions.ErrProofStale
		}
		current, err := r.current(c, in.Current, stamp(now))
		if err != nil {
			return err
		}
		goesOn := false
		switch {
		case current == nil:
			login, err = r.beginLogin(c, in, now)
		case current.UserID == in.UserID:
			goesOn = true
			login, err = r.continueLogin(c, *current, in, now)
		default:
			if _, err := e.effects(""); err != nil {
				return err
			}
			if _, err := e.endLogin(current.ID); err != nil {
				return err
			}
			login, err = r.beginLogin(c, in, now)
		}
		if err != nil {
			return err
		}
		if err := c.record(r.name, now, audit.Event{Type: audit.SignIn, Actor: user(in.UserID), UserID: in.UserID,
			LoginID: login.ID, Address: in.Address, Detail: strings.Join(in.AMR, " ")}); err != nil {
			return err
		}
		return r.remember(c, &login, goesOn, in.Noticing, now)
	})
	if err != nil {
		return nil, fmt.Errorf("recording sign-in: %w", err)
	}
	return &login, nil
}

// current locks the browser's present login; nil where it has no live one.
func (r *Realm) current(c conn, id string, now int64) (*sessions.Login, error) {
	if id == "" {
		return nil, nil
	}
	var row loginRow
	found, err := c.row(row.dest(), `SELECT `+loginColumns+` FROM logins l WHERE l.realm = ? AND l.id = ?`+
		c.locking("FOR UPDATE"), r.name, id)
	if err != nil || !found || !row.live(now, r.life) {
		return nil, err
	}
	login, err := row.login()
	return &login, err
}

func (r *Realm) beginLogin(c conn, in sessions.SignIn, now time.Time) (sessions.Login, error) {
	var id [32]byte
	rand.Read(id[:]) // never fails (crypto/rand)
	l := renewed(sessions.Login{ID: hex.EncodeToString(id[:]), UserID: in.UserID, CreatedAt: utc(stamp(now))}, in, now)
	_, err := c.exec(`INSERT INTO logins (realm, id, user_id, cookie_hash, auth_time, auth_nonce, amr, acr, persistent,
		address, user_agent, device_name, created_at, last_access_at, expires_at, position, browser, check_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.name, l.ID, l.UserID, blob(l.CookieHash), stamp(l.AuthTime), l.AuthNonce, list(l.AMR), l.ACR, l.Persistent,
		l.Address, l.UserAgent, l.DeviceName, stamp(l.CreatedAt), stamp(l.LastAccessAt), stamp(l.ExpiresAt), newPosition(stamp(l.CreatedAt), false),
		sessions.BrowserFamily(l.UserAgent), min(stamp(l.ExpiresAt), stamp(l.LastAccessAt.Add(r.life.LoginIdle+sessions.IdleSlack))))
	return l, err
}

func (r *Realm) continueLogin(c conn, before sessions.Login, in sessions.SignIn, now time.Time) (sessions.Login, error) {
	l, previous := renewed(before, in, now), blob(before.CookieHash)
	if in.Revokes {
		previous = nil
	}
	_, err := c.exec(`UPDATE logins SET cookie_hash = ?, previous_cookie_hash = ?, cookie_rotated_at = ?, auth_time = ?,
		auth_nonce = ?, amr = ?, acr = ?, persistent = ?, address = ?, user_agent = ?, browser = ?, last_access_at = ?, expires_at = ?
		WHERE realm = ? AND id = ?`,
		blob(l.CookieHash), previous, stamp(now), stamp(l.AuthTime),
		l.AuthNonce, list(l.AMR), l.ACR, l.Persistent, l.Address, l.UserAgent, sessions.BrowserFamily(l.UserAgent), stamp(l.LastAccessAt), stamp(l.ExpiresAt),
		r.name, l.ID)
	return l, err
}

// renewed is a login after a sign-in.
func renewed(l sessions.Login, in sessions.SignIn, now time.Time) sessions.Login {
	l.CookieHash, l.AuthNonce, l.AMR, l.ACR = in.CookieHash, in.AuthNonce, in.AMR, in.ACR
	l.AuthTime, l.ExpiresAt, l.LastAccessAt = utc(stamp(in.AuthTime)), utc(stamp(in.ExpiresAt)), utc(stamp(now))
	l.Persistent = in.Persistent
	l.Address, l.UserAgent = legible(in.Address, maxAddress), legible(in.UserAgent, maxUserAgent)
	return l
}

// userUp locks a user against ending and tells whether he is there and not
// locked.
func userUp(c conn, realm, id string) (bool, error) {
	var locked sql.NullInt64
	found, err := c.row([]any{&locked}, `SELECT locked_at FROM users WHERE realm = ? AND id = ?`+c.locking("FOR SHARE"), realm, id)
	return found && !locked.Valid, err
}

// hasPassword tells whether a locked user still has the password hash that a
// sign-in was judged by; any will do for an empty one.
func hasPassword(c conn, realm, id, phc string) (bool, error) {
	if phc == "" {
		return true, nil
	}
	var has string
	found, err := c.row([]any{&has}, `SELECT password FROM users WHERE realm = ? AND id = ?`, realm, id)
	return found && has == phc, err
}

// Touch writes last-use times, each only forward.
func (r *Realm) Touch(ctx context.Context, touches []sessions.Touch) error {
	logins, clients := map[touched]int64{}, map[touched]int64{}
	for _, t := range touches {
		at := stamp(t.At)
		if t.LoginID != "" {
			key := touched{id: t.LoginID}
			logins[key] = max(logins[key], at)
		}
		if t.SessionID != "" {
			key := touched{t.AuthorizationServer, t.SessionID}
			clients[key] = max(clients[key], at)
		}
	}
	const values = `WITH v (authorization_server, id, at) AS (VALUES %s) `
	err := r.touch(ctx, logins, values+`UPDATE logins SET last_access_at = v.at FROM v
		WHERE logins.realm = ? AND logins.id = v.id AND logins.last_access_at < v.at AND logins.ended_at IS NULL`)
	if err == nil {
		err = r.touch(ctx, clients, values+`UPDATE oauth2_sessions SET last_used_at = v.at FROM v
			WHERE oauth2_sessions.realm = ? AND oauth2_sessions.authorization_server = v.authorization_server
			AND oauth2_sessions.id = v.id AND oauth2_sessions.last_used_at < v.at AND oauth2_sessions.ended_at IS NULL`)
	}
	if err != nil {
		return fmt.Errorf("writing last use: %w", err)
	}
	return nil
}

// touched is what a touch names; without a server it is a login.
type touched struct{ server, id string }

func (r *Realm) touch(ctx context.Context, last map[touched]int64, statement string) error {
	rows := make([]touched, 0, len(last))
	for key := range last {
		if storable(key.server, key.id) {
			rows = append(rows, key)
		}
	}
	// In order, so that what locks several rows does so in the same order.
	slices.SortFunc(rows, func(a, b touched) int {
		return cmp.Or(strings.Compare(a.server, b.server), strings.Compare(a.id, b.id))
	})
	for batch := range slices.Chunk(rows, touchBatch) {
		var args []any
		for _, key := range batch {
			args = append(args, key.server, key.id, last[key])
		}
		const one = `(CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT))`
		text := fmt.Sprintf(statement, strings.TrimSuffix(strings.Repeat(one+", ", len(batch)), ", "))
		if err := r.db.write(ctx, func(c conn) error {
			_, err := c.exec(text, append(args, r.name)...)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}
