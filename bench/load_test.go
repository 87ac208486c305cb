//go:build linux

package bench

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"
)

// Rows that are loaded rather than made through the server are numbered. Their
// ids are hashes of the number, hence spread over the indexes like real ones,
// and are found again without asking the database. What stands here in Go
// stands in loading's statements in SQL.

// cookieOf is the cookie of the numbered login.
func cookieOf(n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "cookie %d", n))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// sessionID is the id of the numbered session.
func sessionID(n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "session %d", n))
	return hex.EncodeToString(sum[:])[:40]
}

// shape says how numbered rows hang together: SQL expressions of n.
type shape struct {
	userOfLogin    string // number of the user that login n belongs to
	loginOfSession string
	appOfSession   string // number of the application that session n is at
	ended          string // whether session n has ended
}

// Realistic proportions: a user has five logins, one for each of his browsers,
// each with sessions at two of the applications; one session in five has ended.
const (
	loginsOfUser    = 5
	sessionsOfLogin = 2
)

var household = shape{
	userOfLogin:    fmt.Sprintf("n / %d", loginsOfUser),
	loginOfSession: fmt.Sprintf("n / %d", sessionsOfLogin),
	appOfSession:   fmt.Sprintf("n %% %d", loginsOfUser*sessionsOfLogin),
	ended:          "n % 5 = 4",
}

const (
	hashOf    = `sha256(convert_to('%s ' || (%s), 'UTF8'))`
	agentText = `Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36`
)

func sqlUserID(n string) string { return fmt.Sprintf(`md5('user ' || (%s))::uuid::text`, n) }
func sqlLoginID(n string) string {
	return `encode(` + fmt.Sprintf(hashOf, "login", n) + `, 'hex')`
}
func sqlSessionID(n string) string {
	return `left(encode(` + fmt.Sprintf(hashOf, "session", n) + `, 'hex'), 40)`
}
func sqlCookieHash(n string) string {
	return `sha256(convert_to(translate(rtrim(encode(` + fmt.Sprintf(hashOf, "cookie", n) + `, 'base64'), '='), '+/', '-_'), 'UTF8'))`
}

// loadUsers adds the users from to to-1, who have the password of the user bench.
func (h *house) loadUsers(from, to int) {
	h.t.Helper()
	h.exec(`INSERT INTO users (realm, id, username, username_key, password, claims, roles, salt, created_at, name_key, email_key)
		SELECT 'default', `+sqlUserID("n")+`, 'user-' || n, 'user-' || n, b.password,
			'{"name":"User Number ' || n || '","email":"user-' || n || '@example.com","email_verified":true}',
			b.roles, `+fmt.Sprintf(hashOf, "salt", "n")+`, b.created_at, 'user number ' || n, 'user-' || n || '@example.com'
		FROM generate_series($1::int, $2::int) n, users b WHERE b.realm = 'default' AND b.username = 'bench'`, from, to-1)
}

// loadLogins adds the logins from to to-1, begun within the last twelve hours.
// The sweeper has no reason to look at them before two hours are over.
func (h *house) loadLogins(s shape, from, to int) {
	h.t.Helper()
	now := time.Now().UnixMilli()
	h.exec(`INSERT INTO logins (realm, id, user_id, cookie_hash, auth_time, auth_nonce, amr, acr, persistent, address, user_agent,
			device_name, created_at, last_access_at, expires_at, check_at, position, browser)
		SELECT 'default', `+sqlLoginID("n")+`, `+sqlUserID(s.userOfLogin)+`, `+sqlCookieHash("n")+`,
			$3::bigint - n % 43200000, left(encode(`+fmt.Sprintf(hashOf, "nonce", "n")+`, 'hex'), 22), '["pwd"]', '', true,
			'192.0.2.' || n % 256, $4, '', $3::bigint - n % 43200000, $3::bigint - n % 3600000,
			$3::bigint - n % 43200000 + 2592000000, $3::bigint + 7200000 + n % 72000000,
			(($3::bigint - n % 43200000) << 20) | ((n % 524288)::bigint << 1), 'Chrome'
		FROM generate_series($1::int, $2::int) n`, from, to-1, now, agentText)
}

// loadSessions adds the sessions from to to-1 at an authorization server, those
// that live with a redeemed grant each. The grants of ended ones are removed
// within the hour, while the session stays for the history.
func (h *house) loadSessions(as string, s shape, from, to int) {
	h.t.Helper()
	now := time.Now().UnixMilli()
	login, app := "("+s.loginOfSession+")", "('app-' || ("+s.appOfSession+"))"
	// The expression of the login's number takes the place of its n.
	user := sqlUserID(fmt.Sprintf(`SELECT %s FROM (SELECT %s AS n) AS of_login`, s.userOfLogin, login))
	const scopes = `'["openid","profile","email"]'`
	ended := fmt.Sprintf("CASE WHEN %s THEN $3::bigint - n %% 1728000000 END", s.ended)
	h.exec(`INSERT INTO oauth2_sessions (authorization_server, id, realm, client_id, client_uid, user_id, subject, login_id, origin, scopes,
			refreshable, offline, authenticated_at, consented_at, custom_attributes, activated_at, created_at, last_used_at, expires_at,
			idle_check_at, ended_at, ended_by, ended_reason, position, entry_id)
		SELECT $4::text, `+sqlSessionID("n")+`, 'default', `+app+`, c.uid, `+user+`, `+user+`, `+sqlLoginID(login)+`, 'browser', `+scopes+`,
			true, false, $3::bigint - n % 43200000, $3::bigint - n % 43200000, '{}', $3::bigint - n % 43200000,
			$3::bigint - n % 43200000, $3::bigint - n % 3600000, $3::bigint - n % 43200000 + 2592000000,
			$3::bigint + 7200000 + n % 72000000, `+ended+`, CASE WHEN `+s.ended+` THEN 'user' END, CASE WHEN `+s.ended+` THEN 'signed_out' END,
			(($3::bigint - n % 43200000) << 20) | ((n % 524288)::bigint << 1) | 1,
			encode(sha256(convert_to($4 || '/' || `+sqlSessionID("n")+`, 'UTF8')), 'hex')
		FROM generate_series($1::int, $2::int) n
		JOIN clients c ON c.authorization_server = $4 AND c.client_id = `+app, from, to-1, now, as)
	h.exec(`INSERT INTO grants (authorization_server, id, session_id, client_id, user_id, scopes, resources, auth_time, acr, amr, nonce,
			redirect_uri, challenge, code_hash, code_expires_at, secret, refreshable, offline, redeemed_at, generation, rotated_at,
			grace_uses, last_used_at, created_at)
		SELECT $4::text, left(encode(`+fmt.Sprintf(hashOf, "grant", "n")+`, 'hex'), 22), `+sqlSessionID("n")+`, `+app+`, `+user+`, `+scopes+`,
			'["' || $5::text || '"]', $3::bigint - n % 43200000, '', '["pwd"]', left(encode(`+fmt.Sprintf(hashOf, "nonce", "n")+`, 'hex'), 22),
			$6::text, $7::text, `+fmt.Sprintf(hashOf, "code", "n")+`, $3::bigint - n % 43200000 + 60000, `+fmt.Sprintf(hashOf, "secret", "n")+`,
			true, false, $3::bigint - n % 43200000 + 500, 1 + n % 20, $3::bigint - n % 3600000, 0, $3::bigint - n % 3600000,
			$3::bigint - n % 43200000
		FROM generate_series($1::int, $2::int) n WHERE NOT (`+s.ended+`)`, from, to-1, now, as, h.Issuer(as), callback, challenge)
}
