package main

import (
	"strconv"
	"strings"
)

// The statements are those of the package storage, put together in the same
// way, with "?" for parameters. numbered makes of them what PostgreSQL takes.
func numbered(statement string) string {
	var b strings.Builder
	n := 0
	for i := range len(statement) {
		if statement[i] != '?' {
			b.WriteByte(statement[i])
			continue
		}
		n++
		b.WriteString("$" + strconv.Itoa(n))
	}
	return b.String()
}

const (
	grantColumns = `g.id, g.session_id, g.client_id, g.user_id, g.scopes, g.resources, g.auth_time, g.acr, g.amr, g.nonce,
	g.redirect_uri, g.challenge, g.code_hash, g.code_expires_at, g.secret, g.refreshable, g.offline,
	g.redeemed_at, g.burned_at, g.generation, g.rotated_at, g.last_used_at, g.created_at, g.removable_at, g.ended_at`

	loginLifeColumns = `l.ended_at, l.expires_at, l.last_access_at`

	sessionColumns = `s.id, s.realm, s.client_id, s.client_uid, COALESCE(c.name, ''), s.user_id, s.subject,
	COALESCE(s.login_id, ''), s.origin, s.scopes, s.custom_attributes, s.refreshable, s.offline,
	s.authenticated_at, s.consented_at, s.created_at, s.last_used_at, s.expires_at, s.offline_expires_at,
	s.detached_at, s.activated_at, s.ended_at, s.ended_by, s.ended_reason,
	CASE WHEN c.uid IS NOT NULL AND c.deleted_at IS NULL THEN 1 ELSE 0 END,
	CASE WHEN u.locked_at IS NULL THEN 1 ELSE 0 END, ` + loginLifeColumns

	sessionJoins = `
	LEFT JOIN clients c ON c.authorization_server = s.authorization_server AND c.client_id = s.client_id AND c.uid = s.client_uid
	JOIN users u ON u.realm = s.realm AND u.id = s.user_id
	LEFT JOIN logins l ON l.realm = s.realm AND l.id = s.login_id`

	userColumns = `u.id, u.username, u.claims, u.roles, u.salt, u.created_at, u.locked_at`

	loginColumns = `l.id, l.user_id, l.cookie_hash, l.auth_time, l.auth_nonce, l.amr, l.acr, l.persistent, l.address,
	l.user_agent, l.device_name, l.created_at, l.last_access_at, l.expires_at, l.ended_at, l.ended_by, l.ended_reason`

	liveSession = `s.ended_at IS NULL AND c.uid IS NOT NULL AND c.deleted_at IS NULL AND u.locked_at IS NULL
	AND ((s.detached_at IS NULL AND s.expires_at > ?
			AND (s.login_id IS NULL OR (l.ended_at IS NULL AND l.expires_at > ? AND l.last_access_at > ?))
			AND ((s.login_id IS NOT NULL AND NOT s.refreshable) OR s.last_used_at > ?
				OR EXISTS (SELECT 1 FROM grants g WHERE g.authorization_server = s.authorization_server AND g.session_id = s.id
					AND g.ended_at IS NULL AND ((s.login_id IS NOT NULL AND NOT g.refreshable) OR g.last_used_at > ?))))
		OR (s.offline AND s.offline_expires_at > ?
			AND EXISTS (SELECT 1 FROM grants g WHERE g.authorization_server = s.authorization_server AND g.session_id = s.id
				AND g.offline AND g.ended_at IS NULL AND g.redeemed_at IS NOT NULL AND (s.last_used_at > ? OR g.last_used_at > ?))))`

	liveLogin = `l.ended_at IS NULL AND l.expires_at > ? AND l.last_access_at > ? AND u.locked_at IS NULL`

	fromGrants = ` FROM grants g JOIN oauth2_sessions s ON s.authorization_server = g.authorization_server AND s.id = g.session_id` +
		sessionJoins + ` WHERE g.authorization_server = ? AND g.id = ?`
)

// statements are ready to be sent.
var statements = struct {
	state, clientToken, advance, sessions                                      string
	loginByCookie                                                              string
	lockUser, lockLogin, client, sessionsOfLogin, upsert, waiting, insertGrant string
	lockGrant, redeem, inUse, activate                                         string
	find, lockLogins, lockSession, endSession, audit, tell, endGrants          string
}{
	state: numbered(`SELECT ` + grantColumns + `, ` + sessionColumns + `, ` + userColumns + `,
		EXISTS (SELECT 1 FROM revoked_tokens r WHERE r.authorization_server = g.authorization_server AND r.jti = ?)` + fromGrants),
	clientToken: numbered(`SELECT
		EXISTS (SELECT 1 FROM clients WHERE authorization_server = ? AND client_id = ? AND deleted_at IS NULL)
		AND NOT EXISTS (SELECT 1 FROM revoked_tokens WHERE authorization_server = ? AND jti = ?)`),
	advance: numbered(`UPDATE grants SET generation = ?, rotated_at = ?, last_used_at = ?, grace_uses = 0
		WHERE authorization_server = ? AND id = ? AND generation <= ? AND redeemed_at IS NOT NULL AND ended_at IS NULL
		AND EXISTS (SELECT 1 FROM oauth2_sessions s WHERE s.authorization_server = grants.authorization_server
			AND s.id = grants.session_id AND s.ended_at IS NULL)`),
	sessions: numbered(`SELECT ` + sessionColumns + ` FROM oauth2_sessions s` + sessionJoins + ` AND l.user_id = s.user_id AND l.ended_at IS NULL
		WHERE s.authorization_server = ? AND s.realm = ? AND s.ended_at IS NULL AND s.user_id = ? AND s.activated_at IS NOT NULL AND ` + liveSession + `
		ORDER BY s.created_at DESC, s.id LIMIT ?`),

	loginByCookie: numbered(`SELECT ` + loginColumns + ` FROM logins l
		JOIN users u ON u.realm = l.realm AND u.id = l.user_id
		WHERE l.realm = ? AND (l.cookie_hash = ? OR (l.previous_cookie_hash = ? AND l.cookie_rotated_at > ?)) AND ` + liveLogin),
	lockUser: numbered(`SELECT ` + userColumns + ` FROM users u WHERE u.realm = ? AND u.id = ? FOR SHARE`),
	lockLogin: numbered(`SELECT ` + loginLifeColumns + `, l.user_id FROM logins l
		WHERE l.realm = ? AND l.id = ? FOR SHARE`),
	client: numbered(`SELECT uid, name FROM clients
		WHERE authorization_server = ? AND client_id = ? AND deleted_at IS NULL`),
	sessionsOfLogin: numbered(`SELECT s.id, CASE WHEN s.ended_at IS NULL AND s.detached_at IS NULL THEN 1 ELSE 0 END,
			CASE WHEN s.user_id = ? AND ` + liveSession + ` THEN 1 ELSE 0 END, s.offline, s.proof_after, s.custom_attributes
		FROM oauth2_sessions s` + sessionJoins + `
		WHERE s.realm = ? AND s.login_id = ? AND s.authorization_server = ? AND s.client_id = ?`),
	upsert: numbered(`INSERT INTO oauth2_sessions (authorization_server, id, realm, client_id, client_uid, user_id, subject, login_id, origin,
			scopes, refreshable, offline, authenticated_at, consented_at, custom_attributes, created_at, last_used_at,
			expires_at, offline_expires_at, idle_check_at, position, entry_id)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (authorization_server, login_id, client_id) WHERE ended_at IS NULL AND detached_at IS NULL AND login_id IS NOT NULL
		DO UPDATE SET
			scopes = excluded.scopes, refreshable = excluded.refreshable,
			offline = (oauth2_sessions.offline OR excluded.offline),
			offline_expires_at = CASE
				WHEN oauth2_sessions.offline_expires_at IS NULL THEN excluded.offline_expires_at
				WHEN excluded.authenticated_at > oauth2_sessions.authenticated_at
					THEN oauth2_sessions.offline_expires_at + excluded.authenticated_at - oauth2_sessions.authenticated_at
				ELSE oauth2_sessions.offline_expires_at END,
			expires_at = CASE WHEN excluded.authenticated_at > oauth2_sessions.authenticated_at
				THEN excluded.expires_at ELSE oauth2_sessions.expires_at END,
			authenticated_at = CASE WHEN excluded.authenticated_at > oauth2_sessions.authenticated_at
				THEN excluded.authenticated_at ELSE oauth2_sessions.authenticated_at END,
			consented_at = excluded.consented_at,
			custom_attributes = CASE WHEN oauth2_sessions.custom_attributes = ? THEN ? ELSE oauth2_sessions.custom_attributes END,
			last_used_at = CASE WHEN excluded.last_used_at > oauth2_sessions.last_used_at
				THEN excluded.last_used_at ELSE oauth2_sessions.last_used_at END
		RETURNING id, origin, custom_attributes, scopes, offline, authenticated_at, consented_at,
			created_at, last_used_at, expires_at, offline_expires_at, activated_at`),
	waiting: numbered(`SELECT id FROM grants WHERE authorization_server = ? AND session_id = ? AND refreshable
		AND ended_at IS NULL AND burned_at IS NULL AND redeemed_at IS NULL AND code_expires_at > ? ORDER BY created_at, id`),
	insertGrant: numbered(`INSERT INTO grants (authorization_server, id, session_id, client_id, user_id, scopes, resources,
		auth_time, acr, amr, nonce, redirect_uri, challenge, code_hash, code_expires_at, secret, refreshable, offline,
		generation, grace_uses, created_at, removable_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?)`),

	lockGrant: numbered(`SELECT ` + grantColumns + `, ` + sessionColumns + `
		` + fromGrants + ` FOR UPDATE OF s`),
	redeem: numbered(`UPDATE grants SET redeemed_at = ?, generation = 1, rotated_at = ?, last_used_at = ?
		WHERE authorization_server = ? AND id = ?
		AND redeemed_at IS NULL AND burned_at IS NULL AND ended_at IS NULL AND code_expires_at > ?`),
	inUse: numbered(`SELECT id FROM grants WHERE authorization_server = ? AND session_id = ? AND refreshable
		AND ended_at IS NULL AND burned_at IS NULL AND redeemed_at IS NOT NULL AND id <> ? ORDER BY created_at, id`),
	activate: numbered(`UPDATE oauth2_sessions SET activated_at = ? WHERE authorization_server = ? AND id = ? AND activated_at IS NULL`),

	find: numbered(`SELECT s.authorization_server, s.id, s.login_id, s.user_id, s.refreshable
		FROM oauth2_sessions s` + sessionJoins + ` WHERE s.authorization_server = ? AND s.id = ? AND s.user_id = ? AND ` + liveSession),
	lockLogins: numbered(`SELECT id FROM logins WHERE realm = ? AND id IN (?) ORDER BY id FOR UPDATE`),
	lockSession: numbered(`SELECT s.authorization_server, s.id FROM oauth2_sessions s WHERE s.authorization_server = ? AND s.id = ? AND s.ended_at IS NULL
		ORDER BY s.authorization_server, s.id FOR UPDATE`),
	endSession: numbered(`UPDATE oauth2_sessions SET ended_at = ?, idle_check_at = ?, ended_by = ?, ended_reason = ?,
		proof_after = CASE WHEN client_id = ? THEN NULL ELSE CAST(? AS BIGINT) END
		WHERE authorization_server = ? AND id IN (?) AND ended_at IS NULL`),
	audit: numbered(`INSERT INTO audit_events (realm, id, at, last_at, occurrences, type, result, reason, actor,
		authorization_server, user_id, client_id, session_id, login_id, address, request_id, detail) ` +
		`SELECT CAST(? AS TEXT), CAST(? AS TEXT) || s.id, CAST(? AS BIGINT), CAST(? AS BIGINT), 1, CAST(? AS TEXT), 'success', CAST(? AS TEXT), CAST(? AS TEXT),
			s.authorization_server, s.user_id, s.client_id, s.id, COALESCE(s.login_id, ''), CAST(? AS TEXT), CAST(? AS TEXT), ''
		FROM oauth2_sessions s WHERE s.authorization_server = ? AND s.id IN (?) AND s.ended_at = ? AND s.activated_at IS NOT NULL ON CONFLICT (realm, id) DO NOTHING`),
	tell: numbered(`INSERT INTO deliveries (authorization_server, id, client_id, session_id, subject, uri, alg, state,
	created_at, next_at, attempts, last_error) SELECT s.authorization_server, CAST(? AS TEXT) || s.id, s.client_id, s.id, s.subject,
			c.backchannel_logout_uri, c.id_token_alg, 'waiting', CAST(? AS BIGINT), CAST(? AS BIGINT), 0, ''
		FROM oauth2_sessions s
		JOIN clients c ON c.authorization_server = s.authorization_server AND c.client_id = s.client_id AND c.uid = s.client_uid
		WHERE s.authorization_server = ? AND s.id IN (?) AND s.ended_at = ? AND s.activated_at IS NOT NULL
			AND c.backchannel_logout_uri <> ''
		ON CONFLICT (authorization_server, id) DO NOTHING`),
	endGrants: numbered(`UPDATE grants SET ended_at = ?, ended_reason = ?
		WHERE authorization_server = ? AND session_id IN (?) AND ended_at IS NULL`),
}
