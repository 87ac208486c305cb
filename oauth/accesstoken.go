package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/keys"
	"gatehouse.dev/gatehouse/sessions"
)

// audience marshals as a string where it has one member (RFC 7519 §4.1.3).
type audience []string

// MarshalJSON writes a string or an array.
func (a audience) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]string(a))
}

// UnmarshalJSON reads a string or an array.
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if err := json.Unmarshal(b, &one); err == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// accessClaims are what an access token says, as a JWT (RFC 9068 §2.2) and
// sealed as an opaque token alike. Times are Unix seconds.
type accessClaims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	ClientID string   `json:"client_id"`
	Expires  int64    `json:"exp"`
	IssuedAt int64    `json:"iat"`
	ID       string   `json:"jti"`
	Scope    string   `json:"scope,omitempty"`
	AuthTime int64    `json:"auth_time,omitempty"`
	ACR      string   `json:"acr,omitempty"`
	AMR      []string `json:"amr,omitempty"`
	Session  string   `json:"sid,omitempty"`
	Grant    string   `json:"grant_id,omitempty"` // what liveness is asked of; absent in client-credentials tokens
}

func (c *accessClaims) scopes() []string { return strings.Fields(c.Scope) }

// sign makes the token in the client's format.
func (s *Server) sign(c *clients.Client, claims *accessClaims) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("access token: %w", err)
	}
	format := c.AccessTokenFormat
	if format == "" {
		format = s.cfg.AccessTokenFormat
	}
	if format == clients.FormatOpaque {
		return s.opaque.Seal(payload, []byte(s.cfg.Name)), nil
	}
	return s.cfg.Keys.Sign(s.cfg.AccessTokenAlg, "at+jwt", payload)
}

// errToken is the one answer to any access token that is not good (RFC 6750 §3.1).
func errToken() *Error {
	return refuse("invalid_token", "The access token is malformed, expired, revoked, not meant for this server, or its session has ended.")
}

// read verifies an access token of this authorization server by itself: that
// it is ours and has not expired. Whether it still lives is liveness' to say.
// The error wraps sessions.ErrUnavailable where not even that can be told.
func (s *Server) read(ctx context.Context, token string) (*accessClaims, bool, error) {
	var payload []byte
	var err error
	// A JWT has two dots, an opaque token one.
	if strings.Count(token, ".") == 2 {
		payload, err = s.verify(ctx, token, "at+jwt")
	} else {
		payload, err = s.opaque.Open(token, []byte(s.cfg.Name))
	}
	if errors.Is(err, sessions.ErrUnavailable) {
		return nil, false, err
	}
	if err != nil {
		return nil, false, nil
	}
	var claims accessClaims
	if err := json.Unmarshal(payload, &claims); err != nil {
		return nil, false, nil
	}
	if claims.Issuer != s.cfg.Issuer || claims.ID == "" || s.cfg.Now().Unix() >= claims.Expires {
		return nil, false, nil
	}
	return &claims, true, nil
}

// searchPause is how often a key that this node doesn't know makes it look for
// new ones.
const searchPause = 5 * time.Second

// keySearch is the last look for new keys.
type keySearch struct {
	mu  sync.Mutex // held while looking: others wait for what is found
	at  time.Time
	err error // sessions.ErrUnavailable: nothing is known of unknown keys
}

// verify verifies a JWT of ours. Another node may have rotated keys at once, so
// an unknown one makes this node look, at most every few seconds. While it
// can't look, a token of an unknown key may be good: sessions.ErrUnavailable.
func (s *Server) verify(ctx context.Context, token, typ string) ([]byte, error) {
	payload, err := s.cfg.Keys.Verify(token, typ)
	if !errors.Is(err, keys.ErrKeyUnknown) {
		return payload, err
	}
	s.search.mu.Lock()
	defer s.search.mu.Unlock()
	if age := s.cfg.Now().Sub(s.search.at); age < 0 || age >= searchPause {
		// That one caller goes away must not look like an outage to the others.
		s.search.err = s.cfg.Keys.Reload(context.WithoutCancel(ctx))
		s.search.at = s.cfg.Now()
	}
	payload, err = s.cfg.Keys.Verify(token, typ)
	if errors.Is(err, keys.ErrKeyUnknown) && s.search.err != nil {
		return nil, fmt.Errorf("looking for new keys: %w", s.search.err)
	}
	return payload, err
}

// living judges in one statement whether a token that read accepted still
// lives. The state is nil for a token without a user.
func (s *Server) living(ctx context.Context, c *accessClaims) (*State, bool, error) {
	if c.Grant == "" {
		ok, err := s.cfg.Store.ClientToken(ctx, c.ClientID, c.ID)
		return nil, ok, err
	}
	state, err := s.cfg.Store.State(ctx, c.Grant, c.ID)
	if errors.Is(err, ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	ok := state.Live && !state.Revoked && state.Grant.ClientID == c.ClientID && state.Session.ID == c.Session
	if ok {
		if err := s.lapse(ctx, state); err != nil {
			return nil, false, err
		}
		s.touch(state, false)
	}
	return state, ok, nil
}

// lapse ends what of a session is over by time before its use is noted: being
// used later must not bring back what was refused before. It writes once, when
// an offline session is used after an idle time.
func (s *Server) lapse(ctx context.Context, state *State) error {
	if !state.Lapsed {
		return nil
	}
	_, err := s.cfg.Sessions.End(ctx, sessions.Target{Session: state.Session.ID, Lapsed: true},
		sessions.Ending{Reason: sessions.ReasonExpired, At: s.now()})
	if errors.Is(err, sessions.ErrNotFound) {
		return nil // ended meanwhile
	}
	return err
}

// touch notes that a session was used; by its login's own browser or by a
// refresh, the login too.
func (s *Server) touch(state *State, login bool) {
	t := sessions.Touch{AuthorizationServer: s.cfg.Name, SessionID: state.Session.ID, At: s.now()}
	if login {
		t.LoginID = state.Session.LoginID
	}
	s.cfg.Touch(t)
}

// bearer takes the access token out of a request: the Authorization header, or
// where form is allowed a POST body's access_token (RFC 6750 §2.1, §2.2), never
// the query, never two at once. ErrCallerMissing where there is none.
func bearer(r *http.Request, form bool) (string, error) {
	var tokens []string
	for _, header := range r.Header.Values("Authorization") {
		scheme, token, ok := strings.Cut(header, " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") {
			return "", sessions.ErrCallerMissing
		}
		tokens = append(tokens, strings.TrimSpace(token))
	}
	if form && r.Method == http.MethodPost {
		tokens = append(tokens, r.PostForm["access_token"]...)
	}
	switch {
	case len(tokens) == 0:
		return "", sessions.ErrCallerMissing
	case len(tokens) > 1:
		return "", invalidRequest("The access token is given more than once.")
	}
	return tokens[0], nil
}

// Caller proves who asks over the session API: a live access token of this
// authorization server, with the issuer in its audience, that belongs to a
// user. Errors wrap sessions.ErrCallerMissing, ErrCallerInvalid,
// ErrCallerNoUser or ErrUnavailable.
func (s *Server) Caller(r *http.Request) (sessions.Caller, error) {
	token, err := bearer(r, false)
	if errors.Is(err, sessions.ErrCallerMissing) {
		return sessions.Caller{}, err
	}
	if err != nil {
		return sessions.Caller{}, fmt.Errorf("%w: %w", sessions.ErrCallerInvalid, err)
	}
	claims, ok, err := s.read(r.Context(), token)
	if err != nil {
		return sessions.Caller{}, err
	}
	if !ok || !slices.Contains(claims.Audience, s.cfg.Issuer) {
		return sessions.Caller{}, sessions.ErrCallerInvalid
	}
	state, ok, err := s.living(r.Context(), claims)
	switch {
	case err != nil:
		return sessions.Caller{}, err
	case !ok:
		return sessions.Caller{}, sessions.ErrCallerInvalid
	case state == nil:
		return sessions.Caller{}, sessions.ErrCallerNoUser
	}
	return sessions.Caller{UserID: state.Grant.UserID, ClientID: claims.ClientID, SessionID: claims.Session, Scopes: claims.scopes()}, nil
}

// issue is what a grant handler decided to hand out.
type issue struct {
	client   *clients.Client
	subject  string
	scopes   []string
	audience []string
	grant    *Grant            // nil for client credentials
	session  *sessions.Session // with grant
	refresh  string            // the refresh token to hand out; empty: none
	first    bool              // the code's own answer: its ID token carries the nonce
}

// claims are those of the access token to be made now.
func (s *Server) claims(i *issue, now time.Time) *accessClaims {
	c := &accessClaims{Issuer: s.cfg.Issuer, Subject: i.subject, Audience: i.audience, ClientID: i.client.ClientID,
		IssuedAt: now.Unix(), Expires: now.Add(s.cfg.AccessTokenLifetime).Unix(), ID: randomID(tokenIDLength), Scope: strings.Join(i.scopes, " ")}
	if i.grant != nil {
		c.AuthTime, c.ACR, c.AMR = i.grant.AuthTime.Unix(), i.grant.ACR, i.grant.AMR
		c.Session, c.Grant = i.session.ID, i.grant.ID
	}
	return c
}
