package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// server is one authorization server.
type server struct {
	*secrets
	issuer  string
	clients map[string][sha256.Size]byte // hashes of secrets
	pool    *pgxpool.Pool
}

func newServer(name string, c config, pool *pgxpool.Pool) (*server, error) {
	keys, err := newSecrets(name)
	if err != nil {
		return nil, err
	}
	s := &server{secrets: keys, issuer: c.Base + "/authorization-servers/" + name, clients: map[string][sha256.Size]byte{}, pool: pool}
	for id, secret := range c.Secrets {
		s.clients[id] = sha256.Sum256([]byte(secret))
	}
	return s, nil
}

func (s *server) mount(mux *http.ServeMux) {
	at := "/authorization-servers/" + s.name
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET " + at + "/authorize":            s.authorize,
		"POST " + at + "/token":               s.token,
		"POST " + at + "/introspect":          s.introspect,
		"GET " + at + "/userinfo":             s.userinfo,
		"GET " + at + "/sessions/{$}":         s.list,
		"DELETE " + at + "/sessions/{id}/{$}": s.end,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
}

var errClient = errors.New("wrong client secret")

// authenticate proves the client, as the server does.
func (s *server) authenticate(r *http.Request) (string, error) {
	id, secret, ok := r.BasicAuth()
	if !ok {
		return "", errClient
	}
	id, err := url.QueryUnescape(id)
	if err != nil {
		return "", err
	}
	if secret, err = url.QueryUnescape(secret); err != nil {
		return "", err
	}
	want := s.clients[id]
	sum := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(want[:], sum[:]) != 1 {
		return "", errClient
	}
	return id, r.ParseForm()
}

// caller reads the bearer token and the state behind it.
func (s *server) caller(r *http.Request) (*claims, *state, error) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	c, err := s.read(token)
	if err != nil {
		return nil, nil, err
	}
	st, err := s.state(r.Context(), c.Grant, c.ID)
	return c, st, err
}

// write sends an answer with the headers of the server's.
func write(w http.ResponseWriter, kind string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	headers(h)
	_, err = w.Write(body)
	return err
}

func headers(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
}

// tokenAnswer is the answer to a token request.
type tokenAnswer struct {
	Access  string `json:"access_token"`
	Expires int64  `json:"expires_in"`
	ID      string `json:"id_token,omitempty"`
	Refresh string `json:"refresh_token,omitempty"`
	Scope   string `json:"scope,omitempty"`
	Type    string `json:"token_type"`
}

var errGrant = errors.New("not a grant of this client")

func (s *server) token(w http.ResponseWriter, r *http.Request) error {
	client, err := s.authenticate(r)
	if err != nil {
		return err
	}
	now := time.Now()
	var answer *tokenAnswer
	switch r.PostForm.Get("grant_type") {
	case "client_credentials":
		c := s.claims(client, client, s.issuer, "reports", now)
		answer = &tokenAnswer{Scope: c.Scope}
		answer.Access, err = s.issue(c)
	case "refresh_token":
		answer, err = s.refresh(r.Context(), client, r.PostForm.Get("refresh_token"), now)
	default:
		answer, err = s.redeem(r.Context(), client, r.PostForm, now)
	}
	if err != nil {
		return err
	}
	answer.Expires, answer.Type = int64(lifetime/time.Second), "bearer"
	w.Header().Set("Pragma", "no-cache")
	return write(w, "application/json", answer)
}

func (s *server) claims(client, subject, audience, scope string, now time.Time) *claims {
	return &claims{Issuer: s.issuer, Subject: subject, Audience: audience, ClientID: client, Expires: now.Add(lifetime).Unix(),
		IssuedAt: now.Unix(), ID: randomID(22), Scope: scope}
}

// answer makes the tokens of a grant.
func (s *server) answer(st *state, generation int64, nonce string, now time.Time) (*tokenAnswer, error) {
	g := &st.grant
	var scopes, audience, amr []string
	for text, into := range map[string]*[]string{g.scopes: &scopes, g.resources: &audience, g.amr: &amr} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			return nil, err
		}
	}
	c := s.claims(g.client, st.session.subject, audience[0], strings.Join(scopes, " "), now)
	c.AuthTime, c.ACR, c.AMR, c.Session, c.Grant = g.authTime/1000, g.acr, amr, st.session.id, g.id
	access, err := s.issue(c)
	if err != nil {
		return nil, err
	}
	id, err := sign(s.id, &idClaims{Issuer: s.issuer, Subject: st.session.subject, Audience: g.client, Expires: now.Add(time.Hour).Unix(),
		IssuedAt: now.Unix(), AuthTime: g.authTime / 1000, Nonce: nonce, ACR: g.acr, AMR: amr, AtHash: atHash(access), Session: st.session.id})
	return &tokenAnswer{Access: access, ID: id, Refresh: s.refreshToken(g.id, generation, g.secret), Scope: c.Scope}, err
}

func (s *server) refresh(ctx context.Context, client, token string, now time.Time) (*tokenAnswer, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 4 {
		return nil, errGrant
	}
	generation, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return nil, err
	}
	sum, err := base64.RawURLEncoding.DecodeString(parts[3])
	if err != nil {
		return nil, err
	}
	st, err := s.state(ctx, parts[0], "")
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(sum, s.refreshSum(parts[0], generation, st.grant.secret)) || st.grant.client != client {
		return nil, errGrant
	}
	at := now.UnixMilli()
	changed, err := s.pool.Exec(ctx, statements.advance, generation+1, at, at, s.name, parts[0], generation)
	if err != nil {
		return nil, err
	}
	if changed.RowsAffected() != 1 {
		return nil, errGrant
	}
	return s.answer(st, generation+1, "", now)
}

func (s *server) redeem(ctx context.Context, client string, form url.Values, now time.Time) (*tokenAnswer, error) {
	id, secret, _ := strings.Cut(form.Get("code"), ".")
	st, err := s.state(ctx, id, "")
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256([]byte(secret))
	proof := sha256.Sum256([]byte(form.Get("code_verifier")))
	if subtle.ConstantTimeCompare(st.grant.codeHash, hash[:]) != 1 || st.grant.client != client ||
		subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(proof[:])), []byte(st.grant.challenge)) != 1 {
		return nil, errGrant
	}
	if err := s.markRedeemed(ctx, id, now.UnixMilli()); err != nil {
		return nil, err
	}
	return s.answer(st, 1, st.grant.nonce, now)
}

func (s *server) introspect(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.authenticate(r); err != nil {
		return err
	}
	c, err := s.read(r.PostForm.Get("token"))
	if err != nil {
		return err
	}
	answer := struct {
		Active    bool     `json:"active"`
		Scope     string   `json:"scope,omitempty"`
		ClientID  string   `json:"client_id,omitempty"`
		Username  string   `json:"username,omitempty"`
		TokenType string   `json:"token_type,omitempty"`
		Expires   int64    `json:"exp,omitempty"`
		IssuedAt  int64    `json:"iat,omitempty"`
		Subject   string   `json:"sub,omitempty"`
		Audience  string   `json:"aud,omitempty"`
		Issuer    string   `json:"iss,omitempty"`
		ID        string   `json:"jti,omitempty"`
		Session   string   `json:"sid,omitempty"`
		AuthTime  int64    `json:"auth_time,omitempty"`
		ACR       string   `json:"acr,omitempty"`
		AMR       []string `json:"amr,omitempty"`
	}{Active: true, Scope: c.Scope, ClientID: c.ClientID, TokenType: "Bearer", Expires: c.Expires, IssuedAt: c.IssuedAt, Subject: c.Subject,
		Audience: c.Audience, Issuer: c.Issuer, ID: c.ID, Session: c.Session, AuthTime: c.AuthTime, ACR: c.ACR, AMR: c.AMR}
	st, err := s.state(r.Context(), c.Grant, c.ID)
	if err != nil {
		return err
	}
	answer.Username = st.user.name
	return write(w, "application/json", answer)
}

func (s *server) userinfo(w http.ResponseWriter, r *http.Request) error {
	_, st, err := s.caller(r)
	if err != nil {
		return err
	}
	var known struct {
		Name     string `json:"name"`
		Email    string `json:"email"`
		Verified bool   `json:"email_verified"`
	}
	if err := json.Unmarshal([]byte(st.user.claims), &known); err != nil {
		return err
	}
	return write(w, "application/json", struct {
		Subject   string `json:"sub"`
		Name      string `json:"name,omitempty"`
		Preferred string `json:"preferred_username"`
		Email     string `json:"email,omitempty"`
		Verified  bool   `json:"email_verified"`
	}{st.session.subject, known.Name, st.user.name, known.Email, known.Verified})
}
