package main

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
)

// attributes of a session, as the server shows them.
type attributes struct {
	Custom        json.RawMessage `json:"customAttributes"`
	Client        string          `json:"clientId"`
	Consented     string          `json:"consentTimestamp"`
	Authenticated string          `json:"authenticationTimestamp"`
	ClientName    string          `json:"clientName"`
	Scopes        json.RawMessage `json:"scopes"`
	Created       string          `json:"createdTimestamp"`
	Used          string          `json:"lastUsedTimestamp"`
	Expires       string          `json:"expiresTimestamp"`
	Offline       bool            `json:"offline"`
	Current       bool            `json:"current"`
}

type links struct {
	Self string `json:"self"`
}

type resource struct {
	Type       string     `json:"type"`
	ID         string     `json:"id"`
	Attributes attributes `json:"attributes"`
	Links      links      `json:"links"`
}

func timestamp(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

// list answers GET /sessions/.
func (s *server) list(w http.ResponseWriter, r *http.Request) error {
	c, st, err := s.caller(r)
	if err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	args := append(append([]any{s.name, "default", st.grant.user}, live(now)...), 1001)
	rows, err := s.pool.Query(r.Context(), statements.sessions, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	data := []resource{}
	for rows.Next() {
		var one session
		if err := rows.Scan(one.dest()...); err != nil {
			return err
		}
		data = append(data, resource{"oauth2-session", one.id, attributes{
			Custom: json.RawMessage(one.attributes), Client: one.client,
			Consented: timestamp(one.consented), Authenticated: timestamp(one.authenticated),
			ClientName: one.clientName, Scopes: json.RawMessage(one.scopes), Created: timestamp(one.created), Used: timestamp(one.used),
			Expires: timestamp(one.expires), Offline: one.offline, Current: one.id == c.Session,
		}, links{s.issuer + "/sessions/" + one.id + "/"}})
	}
	if err := rows.Err(); err != nil {
		return err
	}
	type meta struct {
		Type      string `json:"type"`
		Timestamp string `json:"timestamp"`
	}
	type pageLinks struct {
		Self  string  `json:"self"`
		First string  `json:"first"`
		Prev  *string `json:"prev"`
		Next  *string `json:"next"`
	}
	self := s.issuer + "/sessions/"
	return write(w, "application/vnd.api+json", struct {
		Meta  meta       `json:"meta"`
		Data  []resource `json:"data"`
		Links pageLinks  `json:"links"`
	}{meta{"jsonapi.metadata.document", timestamp(now)}, data, pageLinks{self, self, nil, nil}})
}

// end answers DELETE /sessions/{id}/.
func (s *server) end(w http.ResponseWriter, r *http.Request) error {
	c, st, err := s.caller(r)
	if err != nil {
		return err
	}
	ctx, now := r.Context(), time.Now().UnixMilli()
	by, reason := "client:"+c.ClientID, "ended_by_client"
	err = pgx.BeginTxFunc(ctx, s.pool, readCommitted, func(tx pgx.Tx) error {
		var (
			as, id, user string
			login        *string
			refreshable  bool
		)
		if err := tx.QueryRow(ctx, statements.find, append([]any{s.name, r.PathValue("id"), st.grant.user}, live(now)...)...).
			Scan(&as, &id, &login, &user, &refreshable); err != nil {
			return err
		}
		if err := drain(tx.Query(ctx, statements.lockLogins, "default", login)); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, statements.lockSession, s.name, id).Scan(&as, &id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, statements.endSession, now, now, by, reason, c.ClientID, now, s.name, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, statements.audit, "default", randomID(13), now, now, "session_ended", reason, by,
			"127.0.0.1", randomID(26), s.name, id, now); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, statements.tell, randomID(13), now, now, s.name, id, now); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, statements.endGrants, now, reason, s.name, id)
		return err
	})
	if err != nil {
		return err
	}
	headers(w.Header())
	w.Header().Set("Vary", "Accept")
	w.WriteHeader(http.StatusNoContent)
	return nil
}
