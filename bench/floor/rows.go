package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// login is what decides about a login.
type loginLife struct{ ended, expires, access *int64 }

func (l *loginLife) dest() []any { return []any{&l.ended, &l.expires, &l.access} }

type grant struct {
	id, session, client, user, scopes, resources, acr, amr, nonce, redirectURI, challenge string
	authTime, codeExpires, generation, created                                            int64
	codeHash, secret                                                                      []byte
	refreshable, offline                                                                  bool
	redeemed, burned, rotated, used, removable, ended                                     *int64
}

func (g *grant) dest() []any {
	return []any{&g.id, &g.session, &g.client, &g.user, &g.scopes, &g.resources, &g.authTime, &g.acr, &g.amr, &g.nonce,
		&g.redirectURI, &g.challenge, &g.codeHash, &g.codeExpires, &g.secret, &g.refreshable, &g.offline,
		&g.redeemed, &g.burned, &g.generation, &g.rotated, &g.used, &g.created, &g.removable, &g.ended}
}

type session struct {
	id, realm, client, clientUID, clientName, user, subject, login, origin, scopes, attributes string
	refreshable, offline                                                                       bool
	authenticated, consented, created, used, expires                                           int64
	offlineExpires, detached, activated, ended                                                 *int64
	endedBy, endedReason                                                                       *string
	clientUp, userUp                                                                           int64
	life                                                                                       loginLife
}

func (s *session) dest() []any {
	return append([]any{&s.id, &s.realm, &s.client, &s.clientUID, &s.clientName, &s.user, &s.subject, &s.login, &s.origin,
		&s.scopes, &s.attributes, &s.refreshable, &s.offline, &s.authenticated, &s.consented, &s.created, &s.used, &s.expires,
		&s.offlineExpires, &s.detached, &s.activated, &s.ended, &s.endedBy, &s.endedReason, &s.clientUp, &s.userUp}, s.life.dest()...)
}

type user struct {
	id, name, claims, roles string
	salt                    []byte
	created                 int64
	locked                  *int64
}

func (u *user) dest() []any {
	return []any{&u.id, &u.name, &u.claims, &u.roles, &u.salt, &u.created, &u.locked}
}

// state is a grant with what it hangs below.
type state struct {
	grant   grant
	session session
	user    user
	revoked bool
}

func (s *server) state(ctx context.Context, grantID, jti string) (*state, error) {
	var st state
	dest := append(append(append(st.grant.dest(), st.session.dest()...), st.user.dest()...), &st.revoked)
	return &st, s.pool.QueryRow(ctx, statements.state, jti, s.name, grantID).Scan(dest...)
}

type login struct {
	id, user, nonce, amr, acr, address, agent, device string
	cookieHash                                        []byte
	authTime, created, accessed, expires              int64
	persistent                                        bool
	ended                                             *int64
	endedBy, endedReason                              *string
}

func (l *login) dest() []any {
	return []any{&l.id, &l.user, &l.cookieHash, &l.authTime, &l.nonce, &l.amr, &l.acr, &l.persistent, &l.address,
		&l.agent, &l.device, &l.created, &l.accessed, &l.expires, &l.ended, &l.endedBy, &l.endedReason}
}

const (
	hour = int64(time.Hour / time.Millisecond)
	day  = 24 * hour
)

// live are the parameters of liveSession.
func live(now int64) []any {
	return []any{now, now, now - day, now - day, now - day, now, now - 30*day, now - 30*day}
}

// readCommitted is the isolation of the server's transactions.
var readCommitted = pgx.TxOptions{IsoLevel: pgx.ReadCommitted}

// drain reads the ids of a result to its end.
func drain(rows pgx.Rows, err error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
	}
	return rows.Err()
}
