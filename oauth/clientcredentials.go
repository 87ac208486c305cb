package oauth

import (
	"context"
	"slices"
	"strings"

	"github.com/ory/fosite"

	"gatehouse.dev/gatehouse/clients"
)

// userScopes mean something only where there is a user.
var userScopes = []string{"openid", "offline_access", "profile", "email", "address", "phone"}

// userScopePrefix begins the scopes of the users' session API, which is for
// users too.
const userScopePrefix = "internal_"

// HandleTokenEndpointRequest gives a client a token for itself (RFC 6749 §4.4).
// It reads nothing and writes nothing; there is no refresh token (§4.4.3).
func (h clientCredentialsGrant) HandleTokenEndpointRequest(_ context.Context, r fosite.AccessRequester) error {
	s, client := h.s, clientOf(r)
	if client.Public() || !client.Allows(clients.GrantClientCredentials) {
		return refuse("unauthorized_client", "The client is not registered for the grant type client_credentials.")
	}
	allowed := slices.DeleteFunc(client.Scopes(), func(scope string) bool {
		return slices.Contains(userScopes, scope) || strings.HasPrefix(scope, userScopePrefix)
	})
	scopes, ok := narrowed(allowed, requestedScopes(r))
	if !ok {
		return refuse("invalid_scope", "A scope was asked for that the client is not registered for, or that needs a user.")
	}
	audience, err := s.audience(client, r.GetRequestForm()["resource"])
	if err != nil {
		return err
	}
	// RFC 9068 §2.2: without a resource owner, sub is the client.
	r.GetSession().(*flow).issue = &issue{client: client, subject: client.ClientID, scopes: scopes, audience: audience}
	return nil
}

// audience judges the resource parameters of a request (RFC 8707 §2): each one
// of this server's resources, open to this client, or the issuer itself.
// Without any it is the issuer.
func (s *Server) audience(client *clients.Client, requested []string) ([]string, error) {
	if len(requested) == 0 {
		return []string{s.cfg.Issuer}, nil
	}
	for _, r := range requested {
		if r == s.cfg.Issuer {
			continue
		}
		known := slices.ContainsFunc(s.cfg.Resources, func(known Resource) bool { return known.Identifier == r })
		if !known || (len(client.Resources) > 0 && !slices.Contains(client.Resources, r)) {
			return nil, refuse("invalid_target", "The server does not know that resource, or the client may not ask for it.")
		}
	}
	return unique(requested), nil
}
