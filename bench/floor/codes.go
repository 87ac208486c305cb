package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// authorize answers the authorization request of a browser that is signed in.
func (s *server) authorize(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	cookie, err := r.Cookie("gatehouse-default")
	if err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	hash := sha256.Sum256([]byte(cookie.Value))
	var l login
	if err := s.pool.QueryRow(r.Context(), statements.loginByCookie, "default", hash[:], hash[:], now-30_000, now, now-day).Scan(l.dest()...); err != nil {
		return err
	}
	code, err := s.insert(r.Context(), query, &l, now)
	if err != nil {
		return err
	}
	to := url.Values{"code": {code}, "state": {query.Get("state")}, "iss": {s.issuer}}
	headers(w.Header())
	w.Header().Set("Location", query.Get("redirect_uri")+"?"+to.Encode())
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// insert writes the grant and its session in one transaction.
func (s *server) insert(ctx context.Context, query url.Values, l *login, now int64) (string, error) {
	client, id := query.Get("client_id"), randomID(22)
	secret := base64.RawURLEncoding.EncodeToString(random(32))
	codeHash := sha256.Sum256([]byte(secret))
	list, err := json.Marshal(strings.Fields(query.Get("scope")))
	if err != nil {
		return "", err
	}
	scopes := string(list)
	if list, err = json.Marshal([]string{s.issuer}); err != nil {
		return "", err
	}
	resources := string(list)
	err = pgx.BeginTxFunc(ctx, s.pool, readCommitted, func(tx pgx.Tx) error {
		var owner user
		if err := tx.QueryRow(ctx, statements.lockUser, "default", l.user).Scan(owner.dest()...); err != nil {
			return err
		}
		var (
			life           loginLife
			user, uid, clt string
		)
		if err := tx.QueryRow(ctx, statements.lockLogin, "default", l.id).Scan(append(life.dest(), &user)...); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, statements.client, s.name, client).Scan(&uid, &clt); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, statements.sessionsOfLogin,
			append(append([]any{l.user}, live(now)...), "default", l.id, s.name, client)...)
		if err != nil {
			return err
		}
		for rows.Next() {
			var (
				of, attributes string
				open, live     int64
				offline        bool
				proof          *int64
			)
			if err := rows.Scan(&of, &open, &live, &offline, &proof, &attributes); err != nil {
				rows.Close()
				return err
			}
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return err
		}
		var (
			sid, origin, attributes, had               string
			offline                                    bool
			authenticated, consented, created, used, x int64
			offlineExpires, activated                  *int64
		)
		if err := tx.QueryRow(ctx, statements.upsert, s.name, randomID(40), "default", client, uid, l.user, l.user, l.id, "browser",
			scopes, true, false, l.authTime, now, "{}", now, now, l.authTime+30*day, nil, now+day,
			now<<20|rand.Int64N(1<<19)<<1|1, //nolint:gosec // spreads, hides nothing
			randomID(64), "{}", "{}").
			Scan(&sid, &origin, &attributes, &had, &offline, &authenticated, &consented, &created, &used, &x, &offlineExpires, &activated); err != nil {
			return err
		}
		if err := drain(tx.Query(ctx, statements.waiting, s.name, sid, now)); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, statements.insertGrant, s.name, id, sid, client, l.user, scopes, resources, l.authTime, l.acr, l.amr,
			query.Get("nonce"), query.Get("redirect_uri"), query.Get("code_challenge"), codeHash[:], now+60_000, random(32), true, false, now, nil)
		return err
	})
	return id + "." + secret, err
}

// markRedeemed marks a code redeemed in one transaction.
func (s *server) markRedeemed(ctx context.Context, id string, now int64) error {
	return pgx.BeginTxFunc(ctx, s.pool, readCommitted, func(tx pgx.Tx) error {
		var (
			g grant
			o session
		)
		if err := tx.QueryRow(ctx, statements.lockGrant, s.name, id).Scan(append(g.dest(), o.dest()...)...); err != nil {
			return err
		}
		changed, err := tx.Exec(ctx, statements.redeem, now, now, now, s.name, id, now)
		if err != nil {
			return err
		}
		if changed.RowsAffected() != 1 {
			return errGrant
		}
		if err := drain(tx.Query(ctx, statements.inUse, s.name, o.id, id)); err != nil {
			return err
		}
		if o.activated != nil {
			return nil
		}
		_, err = tx.Exec(ctx, statements.activate, now, s.name, o.id)
		return err
	})
}
