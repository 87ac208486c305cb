package oauth

import (
	"context"
	"errors"
	"slices"

	"github.com/ory/fosite"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/sessions"
)

// errRefresh is the one answer to a refresh token that is not good.
func errRefresh() *Error {
	return invalidGrant("The refresh token is unknown, expired, revoked, was used before, or belongs to another client.")
}

// HandleTokenEndpointRequest refreshes (RFC 6749 §6): one read, and one
// compare-and-set that is the only write. Judged in this order: MAC, client,
// requested scope, liveness, generation; so that nobody but the client that
// holds the grant can have it ended.
func (h refreshGrant) HandleTokenEndpointRequest(ctx context.Context, r fosite.AccessRequester) error {
	s, client, form := h.s, clientOf(r), r.GetRequestForm()
	if !client.Allows(clients.GrantRefreshToken) {
		return refuse("unauthorized_client", "The client is not registered for the grant type refresh_token.")
	}
	if form.Get("refresh_token") == "" {
		return invalidRequest("refresh_token is missing.")
	}
	value, ok := parseRefresh(form.Get("refresh_token"))
	if !ok {
		return errRefresh()
	}
	state, err := s.refreshState(ctx, client, value)
	if err != nil {
		return err
	}
	g := &state.Grant
	scopes, ok := narrowed(s.stillScopes(client, g.Scopes), requestedScopes(r))
	if !ok {
		return refuse("invalid_scope", "A scope was asked for that the authorization does not cover.")
	}
	audience, ok := narrowed(s.stillResources(client, g.Resources), form["resource"])
	if !ok || len(audience) == 0 {
		return refuse("invalid_target", "A resource was asked for that the authorization does not cover.")
	}
	if !state.Live {
		return errRefresh()
	}
	if err := s.lapse(ctx, state); err != nil {
		return err
	}
	generation, err := s.rotate(ctx, client, g, value.generation)
	if err != nil {
		return err
	}
	// What lives without the login must not keep the login alive.
	s.touch(state, !g.Offline && !state.Session.Detached)
	r.GetSession().(*flow).issue = &issue{client: client, subject: state.Session.Subject, scopes: scopes, audience: audience,
		grant: g, session: &state.Session, refresh: s.newRefresh(g, generation)}
	return nil
}

// stillScopes are those of a grant's scopes that the client is registered for
// today: what an operator took away ends with the next refresh.
func (s *Server) stillScopes(client *clients.Client, granted []string) []string {
	registered := client.Scopes()
	return slices.DeleteFunc(slices.Clone(granted), func(scope string) bool { return !slices.Contains(registered, scope) })
}

// stillResources are those of a grant's resources that the client may ask for
// today.
func (s *Server) stillResources(client *clients.Client, granted []string) []string {
	return slices.DeleteFunc(slices.Clone(granted), func(resource string) bool {
		_, err := s.audience(client, []string{resource})
		return err != nil
	})
}

// refreshState reads the grant behind a refresh token and proves the token and
// its client.
func (s *Server) refreshState(ctx context.Context, client *clients.Client, v refreshValue) (*State, error) {
	state, err := s.cfg.Store.State(ctx, v.grantID, "")
	if errors.Is(err, ErrNotFound) {
		return nil, errRefresh()
	}
	if err != nil {
		return nil, err
	}
	g := &state.Grant
	if !g.Refreshable || g.RedeemedAt.IsZero() || !s.proven(g, v) || g.ClientID != client.ClientID {
		return nil, errRefresh()
	}
	return state, nil
}

// rotate judges the generation that was presented and returns the one to hand
// out (RFC 9700 §4.14.2).
func (s *Server) rotate(ctx context.Context, client *clients.Client, g *Grant, presented int64) (int64, error) {
	if !client.Rotates() {
		// The token stays; that it was used is noted in a batch.
		if presented != g.Generation {
			return 0, errRefresh()
		}
		return presented, nil
	}
	now := s.now()
	if presented >= g.Generation {
		// Higher than the row: a fail-over lost the commit of a rotation that
		// the client was told of; the MAC says that it was ours.
		advanced, err := s.cfg.Store.Advance(ctx, g.ID, presented, now)
		if err != nil {
			return 0, err
		}
		if advanced {
			return presented + 1, nil
		}
		// Somebody was faster. See what there is now.
		state, err := s.cfg.Store.State(ctx, g.ID, "")
		if err != nil {
			return 0, err
		}
		if !state.Live || presented >= state.Grant.Generation {
			return 0, errRefresh()
		}
		*g, now = state.Grant, s.now()
	}
	grace := s.cfg.Lifetimes.RefreshGrace
	graceful := grace > 0 && now.Sub(g.RotatedAt) < grace // clocks of nodes differ: the age may be negative
	switch {
	case graceful && presented == g.Generation-1:
		// The client's own race, or an answer that it lost: the same again.
		if err := s.cfg.Store.CountGrace(ctx, g.ID, g.Generation); err != nil {
			return 0, err
		}
		return g.Generation, nil
	case graceful:
		return 0, errRefresh()
	}
	if err := s.endGrant(ctx, g.ID, sessions.Ending{Reason: sessions.ReasonRefreshReuse}); err != nil {
		return 0, err
	}
	return 0, errRefresh()
}
