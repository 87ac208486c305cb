package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"gatehouse.dev/gatehouse/clients"
)

// assertionType is the only client_assertion_type there is (RFC 7523 §2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// errClient is one answer for unknown clients and wrong proofs: which of the
// two it was is withheld.
func errClient(cause string) *Error {
	return refuse("invalid_client", "Client authentication failed: %s.", cause)
}

// authenticateClient proves the client of a request to the token,
// introspection or revocation endpoint (RFC 6749 §2.3, RFC 7523 §2.2): by
// exactly the one method that it is registered with.
func (s *Server) authenticateClient(ctx context.Context, r *http.Request, form url.Values) (*clients.Client, error) {
	p, err := presented(r, form)
	if err != nil {
		return nil, err
	}
	if p.id == "" {
		return nil, errClient("no client_id")
	}
	c, err := s.client(ctx, p.id)
	if errors.Is(err, ErrNotFound) {
		// The same work as for a client that is there.
		subtle.ConstantTimeCompare(make([]byte, sha256.Size), hashOf(p.secret))
		return nil, errClient("unknown client, or wrong or missing proof")
	}
	if err != nil {
		return nil, err
	}
	if c.TokenEndpointAuthMethod != p.method {
		return nil, errClient("the client is registered with another token_endpoint_auth_method")
	}
	switch p.method {
	case clients.AuthNone:
		return c, nil
	case clients.AuthPrivateKeyJWT:
		return c, s.checkAssertion(ctx, c, p.assertion)
	}
	want, ok := s.registry.secret(c)
	if !ok || subtle.ConstantTimeCompare(want, hashOf(p.secret)) != 1 {
		return nil, errClient("unknown client, or wrong or missing proof")
	}
	return c, nil
}

// proof is what a request presents.
type proof struct {
	method, id, secret, assertion string
}

// presented reads the proof; more than one method at once is refused (RFC 6749
// §2.3: "MUST NOT use more than one authentication method in each request").
func presented(r *http.Request, form url.Values) (proof, error) {
	p := proof{method: clients.AuthNone, id: form.Get("client_id")}
	used := 0
	if header := r.Header.Get("Authorization"); header != "" {
		used++
		p.method = clients.AuthClientSecretBasic
		id, secret, err := basic(header)
		if err != nil {
			return p, err
		}
		if p.id != "" && p.id != id {
			return p, invalidRequest("client_id differs from the one in the Authorization header.")
		}
		p.id, p.secret = id, secret
	}
	if form.Has("client_secret") {
		used++
		p.method, p.secret = clients.AuthClientSecretPost, form.Get("client_secret")
	}
	if form.Has("client_assertion") || form.Has("client_assertion_type") {
		used++
		p.method, p.assertion = clients.AuthPrivateKeyJWT, form.Get("client_assertion")
		if form.Get("client_assertion_type") != assertionType {
			return p, invalidRequest("client_assertion_type must be %s.", assertionType)
		}
		issuer, err := assertionIssuer(p.assertion)
		if err != nil {
			return p, err
		}
		if p.id != "" && p.id != issuer {
			return p, errClient("client_id differs from the assertion's iss")
		}
		p.id = issuer
	}
	if used > 1 {
		return p, invalidRequest("More than one method of client authentication was used.")
	}
	return p, nil
}

// basic reads RFC 6749 §2.3.1: id and secret are form-encoded before they are
// put into HTTP Basic.
func basic(header string) (id, secret string, err error) {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", errClient("the Authorization header is not of the Basic scheme")
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return "", "", errClient("the Authorization header can't be read")
	}
	id, secret, ok := strings.Cut(string(raw), ":")
	if !ok {
		return "", "", errClient("the Authorization header can't be read")
	}
	if id, err = url.QueryUnescape(id); err == nil {
		secret, err = url.QueryUnescape(secret)
	}
	if err != nil {
		return "", "", errClient("id and secret must be form-encoded in the Authorization header (RFC 6749 section 2.3.1)")
	}
	return id, secret, nil
}

func hashOf(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}
