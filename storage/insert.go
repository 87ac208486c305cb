package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

// maxRefreshable is how many redeemed live refreshable grants a session has at
// most, and how many codes for such grants.
const maxRefreshable = 20

// errText is a mistake of the caller's, who should have refused the request.
var errText = errors.New("grant has a text that is not UTF-8 or contains NUL")

// InsertGrant writes a grant and what comes with it in one transaction: the
// nonce of the sign-in is used up, the consent remembered, the login's session
// of that client continued or a new one begun, its custom attributes set from
// their sources, and the oldest of more than 20 refreshable grants ended.
// Returns the session. oauth.ErrNotLive where client or user is gone or locked;
// oauth.ErrLoginRequired where the login is over, is another user's, lacks the
// nonce, or can't vouch for a new session: an ending demands an auth_time that
// is later, or the lifetime of a session since auth_time is over.
func (s *Server) InsertGrant(ctx context.Context, g oauth.NewGrant) (*sessions.Session, error) {
	if !storable(g.LoginID, g.Grant.UserID, g.Grant.ClientID) {
		return nil, fmt.Errorf("inserting a grant: %w", oauth.ErrNotLive)
	}
	if !storable(g.Grant.ID, g.Session.ID, g.Subject, g.UseNonce, g.Session.Origin, g.Grant.Nonce, g.Grant.RedirectURI,
		g.Grant.Challenge, g.Grant.ACR) {
		return nil, fmt.Errorf("inserting a grant: %w", errText)
	}
	var session *sessions.Session
	err := s.db.transactAgain(ctx, func(c conn) error {
		i := insertion{Server: s, c: c, g: g, now: s.db.now()}
		i.at = stamp(i.now)
		for _, step := range []func() error{i.judge, i.useNonce, i.remember, i.continueOrBegin, i.makeRoom, i.insert} {
			if err := step(); err != nil {
				return err
			}
		}
		var err error
		session, err = i.result()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("inserting a grant: %w", err)
	}
	return session, nil
}

// insertion is the transaction of InsertGrant.
type insertion struct {
	*Server
	c   conn
	g   oauth.NewGrant
	now time.Time
	at  int64

	clientUID, clientName string
	login                 loginLife
	sourced               map[string]*string // what sources change of the custom attributes
	attrs                 string             // those of the session that goes on, as they were read; empty: none goes on
	session               sessionRow
	superseded            bool
}

// judge locks user and login, in this order, against ending and judges that
// they and the client live.
func (i *insertion) judge() error {
	if err := i.judgeUser(); err != nil {
		return err
	}
	// Who will change the row must not share it first: two of them would wait
	// for each other.
	lock := "FOR SHARE"
	if i.g.UseNonce != "" {
		lock = "FOR UPDATE"
	}
	var user string
	found, err := i.c.row(append(i.login.dest(), &user), `SELECT `+loginLifeColumns+`, l.user_id FROM logins l
		WHERE l.realm = ? AND l.id = ?`+i.c.locking(lock), i.realm, i.g.LoginID)
	if err != nil {
		return err
	}
	if !found || user != i.g.Grant.UserID || !i.login.live(i.at, i.life) {
		return oauth.ErrLoginRequired
	}
	// Not locked: every authorization would write to this row. A session that
	// begins while its client is deleted is dead by the mark, and stays so when
	// the id is registered anew, since it has the UID of the deleted one.
	found, err = i.c.row([]any{&i.clientUID, &i.clientName}, `SELECT uid, name FROM clients
		WHERE authorization_server = ? AND client_id = ? AND deleted_at IS NULL`, i.name, i.g.Grant.ClientID)
	if err == nil && !found {
		err = oauth.ErrNotLive
	}
	return err
}

// judgeUser locks the user against being locked out and asks the sources what
// they say of him.
func (i *insertion) judgeUser() error {
	var row userRow
	found, err := i.c.row(row.dest(), `SELECT `+userColumns+` FROM users u WHERE u.realm = ? AND u.id = ?`+i.c.locking("FOR SHARE"),
		i.realm, i.g.Grant.UserID)
	if err != nil {
		return err
	}
	if !found || row.locked.Valid {
		return oauth.ErrNotLive
	}
	if i.g.Sourced == nil {
		return nil
	}
	user, err := row.user()
	if err == nil {
		i.sourced = i.g.Sourced(&user)
	}
	return err
}

// useNonce takes the nonce of the sign-in from the login.
func (i *insertion) useNonce() error {
	if i.g.UseNonce == "" {
		return nil
	}
	n, err := i.c.exec(`UPDATE logins SET auth_nonce = '' WHERE realm = ? AND id = ? AND auth_nonce = ?`,
		i.realm, i.g.LoginID, i.g.UseNonce)
	if err == nil && n == 0 {
		err = oauth.ErrLoginRequired
	}
	return err
}

// remember writes the consent, in the place of what was allowed before.
func (i *insertion) remember() error {
	if i.g.Consent == nil {
		return nil
	}
	_, err := i.c.exec(`INSERT INTO consents
		(authorization_server, user_id, client_id, realm, client_uid, scopes, resources, consented_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (authorization_server, user_id, client_id) DO UPDATE SET realm = excluded.realm,
			client_uid = excluded.client_uid, scopes = excluded.scopes, resources = excluded.resources, consented_at = excluded.consented_at`,
		i.name, i.g.Grant.UserID, i.g.Grant.ClientID, i.realm, i.clientUID,
		list(i.g.Consent.Scopes), list(i.g.Consent.Resources), stamp(i.g.Consent.At))
	if err != nil {
		return err
	}
	return i.c.record(i.realm, i.now, audit.Event{Type: audit.Consent, Actor: user(i.g.Grant.UserID), AuthorizationServer: i.name,
		UserID: i.g.Grant.UserID, ClientID: i.g.Grant.ClientID, LoginID: i.g.LoginID,
		Detail: strings.Join(append(slices.Clone(i.g.Consent.Scopes), i.g.Consent.Resources...), " ")})
}

// continueOrBegin judges the back door, ends a session of the login and client
// that is over by time, and continues the live one or begins a new one.
func (i *insertion) continueOrBegin() error {
	authTime := stamp(i.g.Grant.AuthTime)
	var over, lasting []doomed
	if err := i.c.rows(func(scan func(...any) error) error {
		var (
			id, attrs  string
			open, live bool
			offline    bool
			proofAfter sql.NullInt64
		)
		if err := scan(&id, &open, &live, &offline, &proofAfter, &attrs); err != nil {
			return err
		}
		if proofAfter.Valid && proofAfter.Int64 >= authTime {
			return oauth.ErrLoginRequired
		}
		switch {
		case open && live:
			i.attrs = attrs
			if offline {
				lasting = append(lasting, doomed{i.name, id})
			}
		case open:
			over = append(over, doomed{i.name, id})
		}
		return nil
	}, `SELECT s.id, CASE WHEN s.ended_at IS NULL AND s.detached_at IS NULL THEN 1 ELSE 0 END,
			CASE WHEN s.user_id = ? AND `+liveSession+` THEN 1 ELSE 0 END, s.offline, s.proof_after, s.custom_attributes
		FROM oauth2_sessions s`+sessionJoins+`
		WHERE s.realm = ? AND s.login_id = ? AND s.authorization_server = ? AND s.client_id = ?`,
		append(append([]any{i.g.Grant.UserID}, i.liveSessionArgs(i.at)...), i.realm, i.g.LoginID, i.name, i.g.Grant.ClientID)...); err != nil {
		return err
	}
	// A session that is over must not come back to life, with its old tokens,
	// because it is used again.
	e := newEnder(i.c, i.realm, i.life, sessions.Ending{Reason: sessions.ReasonExpired}, i.now)
	if _, err := e.endSessions(over); err != nil {
		return err
	}
	for _, row := range lasting {
		if err := e.lapse(row); err != nil {
			return err
		}
	}
	return i.upsert(authTime)
}

// upsert begins a session, or continues the one that the unique index finds.
func (i *insertion) upsert(authTime int64) error {
	g, s := i.g.Grant, i.g.Session
	if s.Origin == "" {
		s.Origin = sessions.OriginBrowser
	}
	begun := document(merge(s.CustomAttributes, i.sourced))
	goesOn, err := withSourced(i.attrs, i.sourced)
	if err != nil {
		return err
	}
	idle, offlineExpires := i.life.SessionIdle, any(nil)
	if g.Offline { // its code may never be redeemed
		idle, offlineExpires = min(idle, i.life.OfflineIdle), authTime+i.life.OfflineAbsolute.Milliseconds()
	}
	row := &i.session
	// Expiry moves with auth_time only: who has not proven anew who he is must
	// not prolong a session. Two tabs can come in the wrong order.
	found, err := i.c.row([]any{&row.ID, &row.Origin, &row.attrs, &row.scopes, &row.Offline, &row.authenticated, &row.consented,
		&row.created, &row.used, &row.expires, &row.offlineExpires, &row.activated}, `
		INSERT INTO oauth2_sessions (authorization_server, id, realm, client_id, client_uid, user_id, subject, login_id, origin,
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
			created_at, last_used_at, expires_at, offline_expires_at, activated_at`,
		i.name, s.ID, i.realm, g.ClientID, i.clientUID, g.UserID, i.g.Subject, i.g.LoginID, s.Origin,
		list(g.Scopes), g.Refreshable, g.Offline, authTime, stamp(i.g.Consented), begun, i.at, i.at,
		authTime+i.life.SessionAbsolute.Milliseconds(), offlineExpires, i.at+idle.Milliseconds(),
		newPosition(i.at, true), sessions.EntryID(sessions.Key{AuthorizationServer: i.name, ID: s.ID}), i.attrs, goesOn)
	if err == nil && !found {
		err = errors.New("session was neither begun nor continued")
	}
	if err != nil {
		return err
	}
	// The grant would be dead before its code is used.
	if row.expires <= i.at || (g.Offline && row.offlineExpires.Int64 <= i.at) {
		return oauth.ErrLoginRequired
	}
	return i.settleAttributes()
}

// makeRoom ends the oldest codes of a session that has as many waiting as it
// may. Whoever can send the browser to /authorize can make codes, so they must
// not take the place of grants that are in use: for those, Redeem makes room.
func (i *insertion) makeRoom() error {
	if !i.g.Grant.Refreshable {
		return nil
	}
	var err error
	i.superseded, err = supersede(i.c, i.name, i.session.ID, i.at, maxRefreshable-1, `redeemed_at IS NULL AND code_expires_at > ?`, i.at)
	return err
}

// supersede ends the oldest of a session's live refreshable grants that where
// chooses, but for so many, and tells whether there were any.
func supersede(c conn, server, session string, at int64, keep int, where string, args ...any) (bool, error) {
	var ids []string
	if err := c.rows(func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		ids = append(ids, id)
		return err
	}, `SELECT id FROM grants WHERE authorization_server = ? AND session_id = ? AND refreshable
		AND ended_at IS NULL AND burned_at IS NULL AND `+where+` ORDER BY created_at, id`,
		append([]any{server, session}, args...)...); err != nil || len(ids) <= keep {
		return false, err
	}
	_, err := c.exec(`UPDATE grants SET ended_at = ?, ended_reason = ?
		WHERE authorization_server = ? AND id IN ? AND ended_at IS NULL`,
		at, string(sessions.ReasonSuperseded), server, ids[:len(ids)-keep])
	return true, err
}

func (i *insertion) insert() error {
	g := i.g.Grant
	_, err := i.c.exec(`INSERT INTO grants (authorization_server, id, session_id, client_id, user_id, scopes, resources,
		auth_time, acr, amr, nonce, redirect_uri, challenge, code_hash, code_expires_at, secret, refreshable, offline,
		generation, grace_uses, created_at, removable_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?)`,
		i.name, g.ID, i.session.ID, g.ClientID, g.UserID, list(g.Scopes), list(g.Resources),
		stamp(g.AuthTime), g.ACR, list(g.AMR), g.Nonce, g.RedirectURI, g.Challenge, blob(g.CodeHash), stamp(g.CodeExpires),
		blob(g.Secret), g.Refreshable, g.Offline, stamp(g.CreatedAt), nullable(g.RemovableAt))
	if err != nil || !i.superseded {
		return err
	}
	e := newEnder(i.c, i.realm, i.life, sessions.Ending{Reason: sessions.ReasonSuperseded}, i.now)
	return e.settleOffline(doomed{i.name, i.session.ID})
}

// result is the session as it is now.
func (i *insertion) result() (*sessions.Session, error) {
	row := &i.session
	row.ClientID, row.ClientName = i.g.Grant.ClientID, i.clientName
	if i.g.Client != "" {
		row.ClientName = i.g.Client
	}
	row.UserID, row.Subject, row.LoginID, row.login = i.g.Grant.UserID, i.g.Subject, i.g.LoginID, i.login
	session, err := row.session(i.at, i.life)
	return &session, err
}
