package oauth

import (
	"context"
	"errors"
	"net/http"
	"time"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/sessions"
)

// revoke is the revocation endpoint (RFC 7009). A refresh token ends its grant,
// and the session where that was the last refreshable one; an access token ends
// only itself. An unknown token is answered like a revoked one (§2.2). What a
// token is shows from its form, so token_type_hint is not read (§2.1).
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	if err := s.answerRevocation(w, r); err != nil {
		s.writeError(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
}

func (s *Server) answerRevocation(w http.ResponseWriter, r *http.Request) error {
	form, err := readForm(w, r)
	if err != nil {
		return err
	}
	ctx := r.Context()
	client, err := s.authenticateClient(ctx, r, form)
	if err != nil {
		return err
	}
	token := form.Get("token")
	if token == "" {
		return invalidRequest("token is missing.")
	}
	if _, ok := parseRefresh(token); ok {
		return s.revokeRefresh(ctx, client, token)
	}
	claims, ok, err := s.read(ctx, token)
	if err != nil {
		return err
	}
	if !ok {
		return nil
	}
	if claims.ClientID != client.ClientID {
		return errOtherClient()
	}
	return s.cfg.Store.RevokeToken(ctx, claims.ID, time.Unix(claims.Expires, 0).Add(clockSlack))
}

// errOtherClient: RFC 7009 §2.1 demands that the client is told.
func errOtherClient() *Error {
	return refuse("unauthorized_client", "The token was issued to another client.")
}

func (s *Server) revokeRefresh(ctx context.Context, client *clients.Client, token string) error {
	state, err := s.ownRefresh(ctx, token, func(*Grant) bool { return true })
	if err != nil || state == nil {
		return err
	}
	if state.Grant.ClientID != client.ClientID {
		return errOtherClient()
	}
	return s.endGrant(ctx, state.Grant.ID, sessions.Ending{By: sessions.Actor{Kind: sessions.ActorClient, ID: client.ClientID}, Reason: sessions.ReasonRevoked})
}

// ownRefresh reads the grant behind a refresh token of ours, of any
// generation; nil where the token is not ours or may not be seen.
func (s *Server) ownRefresh(ctx context.Context, token string, may func(*Grant) bool) (*State, error) {
	v, ok := parseRefresh(token)
	if !ok {
		return nil, nil
	}
	state, err := s.cfg.Store.State(ctx, v.grantID, "")
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	g := &state.Grant
	if !g.Refreshable || g.RedeemedAt.IsZero() || !s.proven(g, v) || !may(g) {
		return nil, nil
	}
	return state, nil
}
