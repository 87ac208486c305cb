package oauth

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/url"
	"slices"

	"github.com/ory/fosite"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/sessions"
)

// HandleTokenEndpointRequest redeems an authorization code (RFC 6749 §4.1.3,
// RFC 7636 §4.6): one read, one compare-and-set.
func (h codeGrant) HandleTokenEndpointRequest(ctx context.Context, r fosite.AccessRequester) error {
	s, client, form := h.s, clientOf(r), r.GetRequestForm()
	if !client.Allows(clients.GrantAuthorizationCode) {
		return refuse("unauthorized_client", "The client is not registered for the grant type authorization_code.")
	}
	if form.Get("code") == "" {
		return invalidRequest("code is missing.")
	}
	state, err := s.codeState(ctx, client, form)
	if err != nil {
		return err
	}
	audience, ok := narrowed(state.Grant.Resources, form["resource"])
	if !ok {
		return refuse("invalid_target", "A resource was asked for that the authorization does not cover.")
	}
	redeemed, err := s.cfg.Store.Redeem(ctx, state.Grant.ID, s.now())
	if err != nil {
		return err
	}
	if !redeemed {
		return errCode()
	}
	g := &state.Grant
	g.Generation = 1
	i := &issue{client: client, subject: state.Session.Subject, scopes: g.Scopes, audience: audience, grant: g, session: &state.Session, first: true}
	if g.Refreshable {
		i.refresh = s.newRefresh(g, g.Generation)
	}
	r.GetSession().(*flow).issue = i
	return nil
}

// errCode is the one answer to a code that is unknown, used, expired, dead or
// not this client's.
func errCode() *Error {
	return invalidGrant("The authorization code is unknown, expired, was used before, or belongs to another client or redirect URI.")
}

// codeState reads the grant behind a code and judges everything but the
// redemption itself. What is wrong by somebody else's doing ends nothing.
func (s *Server) codeState(ctx context.Context, client *clients.Client, form url.Values) (*State, error) {
	grantID, hash, ok := parseCode(form.Get("code"))
	if !ok {
		return nil, errCode()
	}
	state, err := s.cfg.Store.State(ctx, grantID, "")
	if errors.Is(err, ErrNotFound) {
		return nil, errCode()
	}
	if err != nil {
		return nil, err
	}
	g := &state.Grant
	if subtle.ConstantTimeCompare(g.CodeHash, hash) != 1 || g.ClientID != client.ClientID {
		return nil, errCode()
	}
	// RFC 6749 §4.1.3: identical if it was in the authorization request.
	if given := form.Get("redirect_uri"); given != g.RedirectURI && (g.RedirectURI != "" || !slices.Contains(client.RedirectURIs, given)) {
		return nil, errCode()
	}
	now := s.now()
	if err := checkVerifier(g, form); err != nil {
		// A wrong verifier means that the code is in wrong hands: it burns,
		// or a thief could go on guessing and a downgrade might succeed.
		if g.RedeemedAt.IsZero() {
			if burnErr := s.cfg.Store.Burn(ctx, g.ID, now); burnErr != nil {
				return nil, burnErr
			}
		}
		return nil, err
	}
	if !g.RedeemedAt.IsZero() {
		// RFC 6749 §4.1.2: a code used twice revokes what came of it. Not
		// within the time in which a client repeats a request whose answer it lost.
		if state.Live && now.Sub(g.RedeemedAt) > codeReplayGrace {
			if err := s.endGrant(ctx, g.ID, sessions.Ending{Reason: sessions.ReasonCodeReplay}); err != nil {
				return nil, err
			}
		}
		return nil, errCode()
	}
	if !g.BurnedAt.IsZero() || !now.Before(g.CodeExpires) || !state.Live {
		return nil, errCode()
	}
	return state, nil
}

// checkVerifier judges PKCE (RFC 7636 §4.6, RFC 9700 §4.8.2: a verifier
// without a challenge is refused, or an attacker could strip the challenge).
func checkVerifier(g *Grant, form url.Values) error {
	verifier := form.Get("code_verifier")
	switch {
	case g.Challenge == "" && !form.Has("code_verifier"):
		return nil
	case g.Challenge == "":
		return invalidGrant("There is a code_verifier, but the authorization request had no code_challenge.")
	case !isVerifier(verifier) || !verifies(verifier, g.Challenge):
		return invalidGrant("code_verifier is missing or does not belong to the code_challenge (PKCE).")
	}
	return nil
}

// endGrant ends a grant; that it has ended meanwhile is no error.
func (s *Server) endGrant(ctx context.Context, id string, ending sessions.Ending) error {
	ending.At = s.now()
	_, err := s.cfg.Sessions.End(ctx, sessions.Target{Grant: id}, ending)
	if errors.Is(err, sessions.ErrNotFound) {
		return nil
	}
	return err
}
