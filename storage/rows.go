package storage

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

// never stands for "not" among times in milliseconds; no row has it.
const never int64 = 0

// stamp is a time as it is stored.
func stamp(t time.Time) int64 { return t.UnixMilli() }

// nullable is a time as it is stored, or NULL for the zero time.
func nullable(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

// utc is a time as it was stored.
func utc(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// maybe is a time as it was stored, or the zero time for NULL.
func maybe(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return utc(ms.Int64)
}

// storable tells whether all of the texts can be in a row at all. PostgreSQL
// refuses others even where they are only compared.
func storable(texts ...string) bool {
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
			return false
		}
	}
	return true
}

// legible makes a text that somebody else chose storable, and cuts it to max
// bytes.
func legible(text string, max int) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	if len(text) <= max {
		return text
	}
	for max > 0 && !utf8.RuneStart(text[max]) {
		max--
	}
	return text[:max]
}

// list is a list as it is stored.
func list(items []string) string {
	if len(items) == 0 {
		return "[]"
	}
	return document(items)
}

// document is a value as it is stored as JSON.
func document(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings, lists and maps of them always marshal
	}
	return string(text)
}

// parse reads what document wrote. The usual empty values cost nothing.
func parse(text string, into any) error {
	if text == "[]" || text == "{}" || text == "null" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("reading a stored document: %w", err)
	}
	return nil
}

// actor reads what sessions.Actor.String wrote.
func actor(text string) sessions.Actor {
	kind, id, ok := strings.Cut(text, ":")
	if !ok {
		return sessions.Actor{}
	}
	return sessions.Actor{Kind: kind, ID: id}
}

// ended are the columns ended_at, ended_by and ended_reason.
type ended struct {
	at         sql.NullInt64
	by, reason sql.NullString
}

func (e *ended) value() *sessions.Ended {
	if !e.at.Valid {
		return nil
	}
	return &sessions.Ended{At: utc(e.at.Int64), By: actor(e.by.String), Reason: sessions.Reason(e.reason.String)}
}

// loginLife is what decides whether a login lives.
type loginLife struct {
	ended, expires, access sql.NullInt64 // all NULL where a session has no login
}

const loginLifeColumns = `l.ended_at, l.expires_at, l.last_access_at`

func (l *loginLife) dest() []any { return []any{&l.ended, &l.expires, &l.access} }

func (l *loginLife) live(now int64, life sessions.Lifetimes) bool {
	return l.expires.Valid && !l.ended.Valid && l.expires.Int64 > now &&
		l.access.Int64 > idleSince(now, life.LoginIdle, sessions.IdleSlack)
}

// idleSince is the time at or before which something was used last that is
// idle now.
func idleSince(now int64, idle, slack time.Duration) int64 {
	return now - (idle + slack).Milliseconds()
}

// sessionRow is a session with all that decides whether it lives, and what of
// it is shown. It is read from oauth2_sessions s, clients c of the same
// client_uid, users u and logins l.
type sessionRow struct {
	sessions.Session
	realm, clientUID string
	clientUp         bool // client is registered and of the session's UID
	userUp           bool // user is not locked
	refreshable      bool
	scopes, attrs    string
	login            loginLife

	authenticated, consented, created, used, expires int64
	offlineExpires, detached, activated              sql.NullInt64
	end                                              ended
}

const sessionColumns = `s.id, s.realm, s.client_id, s.client_uid, COALESCE(c.name, ''), s.user_id, s.subject,
	COALESCE(s.login_id, ''), s.origin, s.scopes, s.custom_attributes, s.refreshable, s.offline,
	s.authenticated_at, s.consented_at, s.created_at, s.last_used_at, s.expires_at, s.offline_expires_at,
	s.detached_at, s.activated_at, s.ended_at, s.ended_by, s.ended_reason,
	CASE WHEN c.uid IS NOT NULL AND c.deleted_at IS NULL THEN 1 ELSE 0 END,
	CASE WHEN u.locked_at IS NULL THEN 1 ELSE 0 END, ` + loginLifeColumns

const sessionJoins = `
	LEFT JOIN clients c ON c.authorization_server = s.authorization_server AND c.client_id = s.client_id AND c.uid = s.client_uid
	JOIN users u ON u.realm = s.realm AND u.id = s.user_id
	LEFT JOIN logins l ON l.realm = s.realm AND l.id = s.login_id`

func (r *sessionRow) dest() []any {
	return append([]any{&r.ID, &r.realm, &r.ClientID, &r.clientUID, &r.ClientName, &r.UserID, &r.Subject,
		&r.LoginID, &r.Origin, &r.scopes, &r.attrs, &r.refreshable, &r.Offline,
		&r.authenticated, &r.consented, &r.created, &r.used, &r.expires, &r.offlineExpires,
		&r.detached, &r.activated, &r.end.at, &r.end.by, &r.end.reason, &r.clientUp, &r.userUp}, r.login.dest()...)
}

// session is what callers see of the row.
func (r *sessionRow) session(now int64, life sessions.Lifetimes) (sessions.Session, error) {
	s := r.Session
	if err := parse(r.scopes, &s.Scopes); err != nil {
		return s, err
	}
	s.CustomAttributes = map[string]string{}
	if err := parse(r.attrs, &s.CustomAttributes); err != nil {
		return s, err
	}
	s.AuthenticatedAt, s.ConsentedAt = utc(r.authenticated), utc(r.consented)
	s.CreatedAt, s.LastUsedAt = utc(r.created), utc(r.used)
	s.Ended = r.end.value()
	s.Detached = r.detached.Valid || (s.LoginID != "" && !r.login.live(now, life))
	switch {
	case s.Offline && r.offlineExpires.Valid:
		s.ExpiresAt = utc(r.offlineExpires.Int64)
	case r.login.expires.Valid:
		s.ExpiresAt = utc(min(r.expires, r.login.expires.Int64))
	default:
		s.ExpiresAt = utc(r.expires)
	}
	return s, nil
}

// marked tells whether a mark forbids the session to live: its own, or one of
// its client or user.
func (r *sessionRow) marked() bool { return r.end.at.Valid || !r.clientUp || !r.userUp }

// attached tells whether the session lives by its login, or, having none, by
// its own times; used is the last use of it or of one grant.
func (r *sessionRow) attached(now, used int64, refreshable bool, life sessions.Lifetimes) bool {
	if r.detached.Valid || r.expires <= now {
		return false
	}
	if r.LoginID != "" && !r.login.live(now, life) {
		return false
	}
	// Where there are no refresh tokens nothing tells of use but the login.
	if r.LoginID != "" && !refreshable {
		return true
	}
	return max(used, r.used) > idleSince(now, life.SessionIdle, 0)
}

// lapsed tells whether what of the session lives by its login may be over by
// the session's own time while an offline grant keeps the session.
func (r *sessionRow) lapsed(now int64, life sessions.Lifetimes) bool {
	return r.Offline && !r.detached.Valid && !r.attached(now, never, r.refreshable, life)
}

// outliving tells whether a redeemed offline grant that was used last at used
// lives, with or without the login.
func (r *sessionRow) outliving(now, used int64, life sessions.Lifetimes) bool {
	return r.offlineExpires.Valid && r.offlineExpires.Int64 > now &&
		max(used, r.used) > idleSince(now, life.OfflineIdle, 0)
}

// grantRow is a grant as it is stored.
type grantRow struct {
	oauth.Grant
	scopes, resources, amr                                string
	authTime, codeExpires, created                        int64
	redeemed, burned, rotated, used, removable, grantEnds sql.NullInt64
}

const grantColumns = `g.id, g.session_id, g.client_id, g.user_id, g.scopes, g.resources, g.auth_time, g.acr, g.amr, g.nonce,
	g.redirect_uri, g.challenge, g.code_hash, g.code_expires_at, g.secret, g.refreshable, g.offline,
	g.redeemed_at, g.burned_at, g.generation, g.rotated_at, g.last_used_at, g.created_at, g.removable_at, g.ended_at`

func (r *grantRow) dest() []any {
	g := &r.Grant
	return []any{&g.ID, &g.SessionID, &g.ClientID, &g.UserID, &r.scopes, &r.resources, &r.authTime, &g.ACR, &r.amr, &g.Nonce,
		&g.RedirectURI, &g.Challenge, &g.CodeHash, &r.codeExpires, &g.Secret, &g.Refreshable, &g.Offline,
		&r.redeemed, &r.burned, &g.Generation, &r.rotated, &r.used, &r.created, &r.removable, &r.grantEnds}
}

func (r *grantRow) grant() (oauth.Grant, error) {
	g := r.Grant
	for _, field := range []struct {
		text string
		into *[]string
	}{{r.scopes, &g.Scopes}, {r.resources, &g.Resources}, {r.amr, &g.AMR}} {
		if err := parse(field.text, field.into); err != nil {
			return g, err
		}
	}
	g.AuthTime, g.CodeExpires, g.CreatedAt = utc(r.authTime), utc(r.codeExpires), utc(r.created)
	g.RedeemedAt, g.BurnedAt, g.RotatedAt = maybe(r.redeemed), maybe(r.burned), maybe(r.rotated)
	g.LastUsedAt, g.RemovableAt, g.EndedAt = maybe(r.used), maybe(r.removable), maybe(r.grantEnds)
	return g, nil
}

// live tells whether a grant of session s lives, whether or not its code was
// redeemed. It is the rule of the whole server.
func (r *grantRow) live(s *sessionRow, now int64, life sessions.Lifetimes) bool {
	if r.grantEnds.Valid || r.burned.Valid || s.marked() {
		return false
	}
	used := never
	if r.used.Valid {
		used = r.used.Int64
	}
	// A code can't be redeemed once the login is over, offline_access or not.
	if r.Offline && r.redeemed.Valid {
		return s.outliving(now, used, life)
	}
	return s.attached(now, used, r.Refreshable, life)
}
