package relyingparty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// maxAnswer bounds what is read of one answer of the issuer, in bytes.
const maxAnswer = 1 << 20

var (
	// errUnavailable: the issuer can't be reached, or says that it can't answer now.
	errUnavailable = errors.New("the authorization server can't be reached")
	// errRefused: the issuer answered, with a refusal or with what can't be accepted.
	errRefused = errors.New("the authorization server's answer")
	// errEnded: the session is over; its tokens are not accepted any more.
	errEnded = errors.New("the session has ended")
	// errTooLarge: an answer is longer than maxAnswer.
	errTooLarge = errors.New("answer too large")
)

// bounded lets no answer be longer than maxAnswer, whoever reads it.
type bounded struct{ base http.RoundTripper }

// RoundTrip makes one call (http.RoundTripper).
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	res.Body = &boundedBody{ReadCloser: res.Body, left: maxAnswer}
	return res, nil
}

// CloseIdleConnections passes on what http.Client asks for.
func (b bounded) CloseIdleConnections() {
	if c, ok := b.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

type boundedBody struct {
	io.ReadCloser
	left int
}

// Read fails with errTooLarge beyond the bound.
func (b *boundedBody) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into[:min(len(into), b.left+1)])
	if n > b.left {
		return 0, errTooLarge
	}
	b.left -= n
	return n, err
}

// outgoing is a context for calls of the issuer on behalf of a request. It
// doesn't end with the request: a renewal whose answer nobody reads would lose
// the new refresh token, and using the former one later would look like theft.
func (p *RelyingParty) outgoing(r *http.Request) (context.Context, context.CancelFunc) {
	ctx := oidc.ClientContext(context.WithoutCancel(r.Context()), p.client)
	return context.WithTimeout(ctx, 2*callTimeout)
}

// issuer is what the issuer says of itself, at one time.
type issuer struct {
	provider *oidc.Provider
	verifier *oidc.IDTokenVerifier
	oauth    oauth2.Config
	sendsISS bool // its authorization responses have iss (RFC 9207 §3)
	userinfo bool

	endSession string // URL of its logout endpoint; empty: it has none
}

// discover reads the metadata (OpenID Connect Discovery 1.0 §4). Returns
// errUnavailable, or errRefused for metadata that can't be used.
func (p *RelyingParty) discover(ctx context.Context) (*issuer, error) {
	provider, err := oidc.NewProvider(ctx, p.cfg.Issuer)
	var mismatch *oidc.IssuerMismatchError
	if errors.As(err, &mismatch) {
		return nil, fmt.Errorf("%w names another issuer: %w", errRefused, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: metadata: %s", errUnavailable, short(err.Error(), 300))
	}
	var metadata struct {
		Authorization string `json:"authorization_endpoint"`
		Token         string `json:"token_endpoint"`
		Userinfo      string `json:"userinfo_endpoint"`
		JWKS          string `json:"jwks_uri"`
		SendsISS      bool   `json:"authorization_response_iss_parameter_supported"`
		EndSession    string `json:"end_session_endpoint"`
	}
	if err := provider.Claims(&metadata); err != nil {
		return nil, fmt.Errorf("%w has unusable metadata: %w", errRefused, err)
	}
	endpoints := []string{metadata.Authorization, metadata.Token, metadata.JWKS}
	if metadata.Userinfo != "" {
		endpoints = append(endpoints, metadata.Userinfo)
	}
	if metadata.EndSession != "" {
		endpoints = append(endpoints, metadata.EndSession)
	}
	for _, endpoint := range endpoints {
		u, err := webURL(endpoint)
		if err != nil {
			return nil, fmt.Errorf("%w has unusable metadata: %w", errRefused, err)
		}
		if u.Scheme == "http" && strings.HasPrefix(p.cfg.Issuer, "https:") {
			return nil, fmt.Errorf("%w names an endpoint without https: %s", errRefused, endpoint)
		}
	}
	i := &issuer{
		provider: provider,
		verifier: provider.Verifier(&oidc.Config{ClientID: p.cfg.ClientID, Now: p.cfg.Now}),
		oauth:    p.oauth,
		sendsISS: metadata.SendsISS,
		userinfo: metadata.Userinfo != "",

		endSession: metadata.EndSession,
	}
	i.oauth.Endpoint = provider.Endpoint()
	// Not found out by trial: a second trial would spend the code twice.
	i.oauth.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	if p.cfg.ClientSecret != "" {
		i.oauth.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	}
	return i, nil
}

// tokenError translates an error of the token endpoint (RFC 6749 §5.2).
func tokenError(err error) error {
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(err, &refused) && refused.Response != nil && refused.Response.StatusCode < http.StatusInternalServerError:
		if refused.ErrorCode == "invalid_grant" {
			return fmt.Errorf("%w: %s", errEnded, refused.ErrorCode)
		}
		return fmt.Errorf("%w: token endpoint: %s", errRefused, refused.Response.Status)
	case errors.As(err, &refused), unreachable(err):
		return fmt.Errorf("%w: token endpoint", errUnavailable)
	}
	// Not the text itself: it may quote what was answered.
	return fmt.Errorf("%w: token endpoint: no usable token", errRefused)
}

// unreachable reports whether an http.Client got no answer.
func unreachable(err error) bool {
	var failed *url.Error
	return errors.As(err, &failed)
}
