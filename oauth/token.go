package oauth

import (
	"context"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ory/fosite"

	"gatehouse.dev/gatehouse/clients"
)

// readForm parses a bounded form body. Parameters may not be repeated (RFC
// 6749 §3.2) but for those named; parameters in the URL are not read, so that
// no secret gets into anybody's access log.
func readForm(w http.ResponseWriter, r *http.Request, repeatable ...string) (url.Values, error) {
	if !isForm(r) {
		e := invalidRequest("The body must be application/x-www-form-urlencoded.")
		e.Status = http.StatusUnsupportedMediaType
		return nil, e
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return nil, unreadable(err)
	}
	dropEmpty(r.PostForm) // in place: fosite reads the same
	if name, is := repeated(r.PostForm, repeatable...); is {
		return nil, invalidRequest("The parameter %s is given more than once.", name)
	}
	return r.PostForm, nil
}

// isForm reports whether the body is said to be a form.
func isForm(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/x-www-form-urlencoded"
}

// dropEmpty takes away parameters without a value: they are as if they had been
// left out (RFC 6749 §3.1, §3.2).
func dropEmpty(form url.Values) {
	for name, values := range form {
		values = slices.DeleteFunc(values, func(v string) bool { return v == "" })
		if len(values) == 0 {
			delete(form, name)
		} else {
			form[name] = values
		}
	}
}

// repeated names a parameter with more than one value, if there is one. Its name
// may be empty.
func repeated(form url.Values, repeatable ...string) (name string, is bool) {
	for name, values := range form {
		if len(values) > 1 && !slices.Contains(repeatable, name) {
			return name, true
		}
	}
	return "", false
}

// token is the token endpoint (RFC 6749 §3.2).
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	body, err := s.answerToken(w, r)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	w.Header().Set("Pragma", "no-cache") // RFC 6749 §5.1
	writeJSON(w, http.StatusOK, body)
}

func (s *Server) answerToken(w http.ResponseWriter, r *http.Request) (map[string]any, error) {
	form, err := readForm(w, r, "resource")
	if err != nil {
		return nil, err
	}
	// fosite answers invalid_request to a grant_type that it doesn't know.
	switch form.Get("grant_type") {
	case "":
		return nil, invalidRequest("grant_type is missing.")
	case clients.GrantAuthorizationCode, clients.GrantRefreshToken, clients.GrantClientCredentials:
	default:
		return nil, refuse("unsupported_grant_type", "This server does not know that grant_type.")
	}
	ctx := r.Context()
	session := &flow{}
	access, err := s.fosite.NewAccessRequest(ctx, r, session)
	if err != nil {
		return nil, err
	}
	response, err := s.fosite.NewAccessResponse(ctx, access)
	if err != nil {
		return nil, err
	}
	return response.ToMap(), nil
}

// populate turns what a handler decided into the token response.
func (s *Server) populate(requester fosite.AccessRequester, responder fosite.AccessResponder) error {
	i := requester.GetSession().(*flow).issue
	now := s.now()
	token, err := s.sign(i.client, s.claims(i, now))
	if err != nil {
		return err
	}
	responder.SetAccessToken(token)
	responder.SetTokenType("Bearer")
	responder.SetExpiresIn(s.cfg.AccessTokenLifetime)
	if len(i.scopes) > 0 {
		responder.SetScopes(i.scopes)
	}
	if i.refresh != "" {
		responder.SetExtra("refresh_token", i.refresh)
	}
	if i.grant != nil && slices.Contains(i.scopes, "openid") {
		idToken, err := s.idToken(i, token, now)
		if err != nil {
			return err
		}
		responder.SetExtra("id_token", idToken)
	}
	return nil
}

// narrowed is the requested subset of what was granted: all of it where
// nothing is asked for. False where something else is asked for.
func narrowed(granted, requested []string) ([]string, bool) {
	if len(requested) == 0 {
		return granted, true
	}
	for _, r := range requested {
		if !slices.Contains(granted, r) {
			return nil, false
		}
	}
	return unique(requested), true
}

// handles reports whether a request is of that grant type and nothing else.
func handles(requester fosite.AccessRequester, grant string) bool {
	return requester.GetGrantTypes().ExactOne(grant)
}

// codeGrant, refreshGrant and clientCredentialsGrant are the grant handlers,
// fosite.TokenEndpointHandler each.
type (
	codeGrant              struct{ s *Server }
	refreshGrant           struct{ s *Server }
	clientCredentialsGrant struct{ s *Server }
)

// CanSkipClientAuth is false: every client proves itself, a public one by
// its registration and PKCE.
func (codeGrant) CanSkipClientAuth(context.Context, fosite.AccessRequester) bool { return false }

// CanSkipClientAuth is false.
func (refreshGrant) CanSkipClientAuth(context.Context, fosite.AccessRequester) bool { return false }

// CanSkipClientAuth is false.
func (clientCredentialsGrant) CanSkipClientAuth(context.Context, fosite.AccessRequester) bool {
	return false
}

// CanHandleTokenEndpointRequest is true for grant_type=authorization_code.
func (codeGrant) CanHandleTokenEndpointRequest(_ context.Context, r fosite.AccessRequester) bool {
	return handles(r, clients.GrantAuthorizationCode)
}

// CanHandleTokenEndpointRequest is true for grant_type=refresh_token.
func (refreshGrant) CanHandleTokenEndpointRequest(_ context.Context, r fosite.AccessRequester) bool {
	return handles(r, clients.GrantRefreshToken)
}

// CanHandleTokenEndpointRequest is true for grant_type=client_credentials.
func (clientCredentialsGrant) CanHandleTokenEndpointRequest(_ context.Context, r fosite.AccessRequester) bool {
	return handles(r, clients.GrantClientCredentials)
}

// PopulateTokenEndpointResponse makes the answer.
func (h codeGrant) PopulateTokenEndpointResponse(ctx context.Context, r fosite.AccessRequester, w fosite.AccessResponder) error {
	if !h.CanHandleTokenEndpointRequest(ctx, r) {
		return fosite.ErrUnknownRequest
	}
	return h.s.populate(r, w)
}

// PopulateTokenEndpointResponse makes the answer.
func (h refreshGrant) PopulateTokenEndpointResponse(ctx context.Context, r fosite.AccessRequester, w fosite.AccessResponder) error {
	if !h.CanHandleTokenEndpointRequest(ctx, r) {
		return fosite.ErrUnknownRequest
	}
	return h.s.populate(r, w)
}

// PopulateTokenEndpointResponse makes the answer.
func (h clientCredentialsGrant) PopulateTokenEndpointResponse(ctx context.Context, r fosite.AccessRequester, w fosite.AccessResponder) error {
	if !h.CanHandleTokenEndpointRequest(ctx, r) {
		return fosite.ErrUnknownRequest
	}
	return h.s.populate(r, w)
}

// clientOf is the proven client of a token request.
func clientOf(r fosite.AccessRequester) *clients.Client { return r.GetClient().(fositeClient).Client }

// requestedScopes are the scopes of a token request.
func requestedScopes(r fosite.AccessRequester) []string {
	return strings.Fields(r.GetRequestForm().Get("scope"))
}

var (
	_ fosite.TokenEndpointHandler = codeGrant{}
	_ fosite.TokenEndpointHandler = refreshGrant{}
	_ fosite.TokenEndpointHandler = clientCredentialsGrant{}
)
