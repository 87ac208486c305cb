package oauth

import (
	"net/http"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/clients"
)

// introspection is the answer of RFC 7662 §2.2. Everything else stays away
// from an answer whose active is false.
type introspection struct {
	Active    bool     `json:"active"`
	Scope     string   `json:"scope,omitempty"`
	ClientID  string   `json:"client_id,omitempty"`
	Username  string   `json:"username,omitempty"`
	TokenType string   `json:"token_type,omitempty"`
	Expires   int64    `json:"exp,omitempty"`
	IssuedAt  int64    `json:"iat,omitempty"`
	Subject   string   `json:"sub,omitempty"`
	Audience  audience `json:"aud,omitempty"`
	Issuer    string   `json:"iss,omitempty"`
	ID        string   `json:"jti,omitempty"`
	Session   string   `json:"sid,omitempty"`
	AuthTime  int64    `json:"auth_time,omitempty"`
	ACR       string   `json:"acr,omitempty"`
	AMR       []string `json:"amr,omitempty"`
}

// introspect is the introspection endpoint (RFC 7662). A token is shown to its
// own client, to the introspection clients of a resource in its audience, and
// to clients flagged for it; to all others it is not active.
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) {
	answer, err := s.answerIntrospection(w, r)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func (s *Server) answerIntrospection(w http.ResponseWriter, r *http.Request) (*introspection, error) {
	form, err := readForm(w, r)
	if err != nil {
		return nil, err
	}
	client, err := s.authenticateClient(r.Context(), r, form)
	if err != nil {
		return nil, err
	}
	if client.Public() {
		// RFC 7662 §2.1: the endpoint demands authorization, which a public
		// client can't give; it would make token scanning free.
		return nil, errClient("a public client may not introspect")
	}
	token := form.Get("token")
	if token == "" {
		return nil, invalidRequest("token is missing.")
	}
	if _, ok := parseRefresh(token); ok {
		return s.introspectRefresh(r, client, token)
	}
	return s.introspectAccess(r, client, token)
}

func (s *Server) introspectAccess(r *http.Request, client *clients.Client, token string) (*introspection, error) {
	claims, ok, err := s.read(r.Context(), token)
	if err != nil {
		return nil, err
	}
	if !ok || !s.mayIntrospect(client, claims) {
		return &introspection{}, nil
	}
	state, ok, err := s.living(r.Context(), claims)
	if err != nil {
		return nil, err
	}
	if !ok {
		return &introspection{}, nil
	}
	answer := &introspection{Active: true, Scope: claims.Scope, ClientID: claims.ClientID, TokenType: "Bearer",
		Expires: claims.Expires, IssuedAt: claims.IssuedAt, Subject: claims.Subject, Audience: claims.Audience, Issuer: claims.Issuer,
		ID: claims.ID, Session: claims.Session, AuthTime: claims.AuthTime, ACR: claims.ACR, AMR: claims.AMR}
	if state != nil {
		answer.Username = state.User.Username
	}
	return answer, nil
}

// mayIntrospect is the one place that decides who may look at a token.
func (s *Server) mayIntrospect(client *clients.Client, claims *accessClaims) bool {
	if client.Introspection || claims.ClientID == client.ClientID {
		return true
	}
	return slices.ContainsFunc(s.cfg.Resources, func(known Resource) bool {
		return slices.Contains(claims.Audience, known.Identifier) && slices.Contains(known.IntrospectionClients, client.ClientID)
	})
}

// introspectRefresh shows a refresh token to its own client and to flagged ones.
func (s *Server) introspectRefresh(r *http.Request, client *clients.Client, token string) (*introspection, error) {
	state, err := s.ownRefresh(r.Context(), token, func(g *Grant) bool { return client.Introspection || g.ClientID == client.ClientID })
	if err != nil {
		return nil, err
	}
	if state == nil {
		return &introspection{}, nil
	}
	v, _ := parseRefresh(token)
	g := &state.Grant
	grace := s.cfg.Lifetimes.RefreshGrace
	current := v.generation >= g.Generation || (v.generation == g.Generation-1 && grace > 0 && s.now().Sub(g.RotatedAt) < grace)
	if !state.Live || !current {
		return &introspection{}, nil
	}
	return &introspection{Active: true, Scope: strings.Join(g.Scopes, " "), ClientID: g.ClientID, Username: state.User.Username,
		Expires: state.Session.ExpiresAt.Unix(), IssuedAt: g.CreatedAt.Unix(), Subject: state.Session.Subject, Audience: audience(g.Resources), Issuer: s.cfg.Issuer,
		Session: state.Session.ID, AuthTime: g.AuthTime.Unix(), ACR: g.ACR, AMR: g.AMR}, nil
}
