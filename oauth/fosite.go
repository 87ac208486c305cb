package oauth

import (
	"context"
	"html/template"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"github.com/ory/fosite"
	"github.com/ory/fosite/i18n"

	"gatehouse.dev/gatehouse/clients"
)

// newFosite configures the protocol core of one authorization server. Every
// field whose getter would otherwise fill a default lazily (a data race) is
// set here. Grants, codes and tokens are handled by this package's own
// handlers, one for each grant type: fosite's keep rows where we have values.
func newFosite(s *Server) *fosite.Fosite {
	return &fosite.Fosite{
		Store: clientManager{s},
		Config: &fosite.Config{
			AccessTokenLifespan:   s.cfg.AccessTokenLifetime,
			AuthorizeCodeLifespan: CodeLifetime,
			IDTokenLifespan:       IDTokenLifetime,
			IDTokenIssuer:         s.cfg.Issuer,
			AccessTokenIssuer:     s.cfg.Issuer,
			ScopeStrategy:         fosite.ExactScopeStrategy,
			// The non-standard audience parameter means nothing here; RFC 8707 does.
			AudienceMatchingStrategy: func([]string, []string) error { return nil },
			AllowedPromptValues:      []string{"none", "login", "consent", "select_account"},
			TokenURL:                 s.cfg.Issuer + "/token",
			JWKSFetcherStrategy:      noFetcher{},
			RedirectSecureChecker:    fosite.IsRedirectURISecure,
			// A short state is the client's business (PKCE protects it);
			// fosite takes 1 for the least.
			MinParameterEntropy:          1,
			ClientAuthenticationStrategy: s.fositeClient,
			ResponseModeHandlerExtension: fosite.NewDefaultResponseModeHandler(),
			MessageCatalog:               i18n.NewDefaultMessageCatalog(nil),
			FormPostHTMLTemplate:         template.Must(template.New("unused").Parse("")),
			ClientSecretsHasher:          noHasher{},
			HTTPClient:                   retryablehttp.NewClient(),
			AuthorizeEndpointHandlers:    fosite.AuthorizeEndpointHandlers{codeIssuer{s}},
			TokenEndpointHandlers:        fosite.TokenEndpointHandlers{codeGrant{s}, refreshGrant{s}, clientCredentialsGrant{s}},
		},
	}
}

// fositeClient is a client as fosite wants to see it.
type fositeClient struct{ *clients.Client }

func (c fositeClient) GetID() string                      { return c.ClientID }
func (c fositeClient) GetHashedSecret() []byte            { return nil }
func (c fositeClient) GetRedirectURIs() []string          { return c.RedirectURIs }
func (c fositeClient) GetGrantTypes() fosite.Arguments    { return c.GrantTypes }
func (c fositeClient) GetResponseTypes() fosite.Arguments { return c.ResponseTypes }
func (c fositeClient) GetScopes() fosite.Arguments        { return c.Scopes() }
func (c fositeClient) IsPublic() bool                     { return c.Public() }
func (c fositeClient) GetAudience() fosite.Arguments      { return nil }
func (c fositeClient) GetResponseModes() []fosite.ResponseModeType {
	return []fosite.ResponseModeType{fosite.ResponseModeDefault, fosite.ResponseModeQuery, fosite.ResponseModeFormPost}
}

// fositeClient proves the client of a token request.
func (s *Server) fositeClient(ctx context.Context, r *http.Request, form url.Values) (fosite.Client, error) {
	c, err := s.authenticateClient(ctx, r, form)
	if err != nil {
		return nil, err
	}
	return fositeClient{c}, nil
}

// clientManager looks clients up for fosite.
type clientManager struct{ s *Server }

func (m clientManager) GetClient(ctx context.Context, id string) (fosite.Client, error) {
	c, err := m.s.client(ctx, id)
	if err != nil {
		return nil, err
	}
	return fositeClient{c}, nil
}

// Assertions are judged by authenticateClient alone; fosite's own check would
// not be atomic. These refuse, should anything ever reach them.
func (clientManager) ClientAssertionJWTValid(context.Context, string) error {
	return fosite.ErrInvalidClient
}

func (clientManager) SetClientAssertionJWT(context.Context, string, time.Time) error {
	return fosite.ErrInvalidClient
}

type noFetcher struct{}

func (noFetcher) Resolve(context.Context, string, bool) (*joseSet, error) {
	return nil, fosite.ErrInvalidClient
}

type noHasher struct{}

func (noHasher) Compare(context.Context, []byte, []byte) error { return fosite.ErrInvalidClient }
func (noHasher) Hash(context.Context, []byte) ([]byte, error) {
	return nil, fosite.ErrInvalidClient
}

// flow is the fosite session of one request: what the grant's handler has
// decided, for the answer to be made from.
type flow struct {
	subject string
	issue   *issue
	request *authorization
}

func (*flow) SetExpiresAt(fosite.TokenType, time.Time)       {}
func (*flow) GetExpiresAt(fosite.TokenType) (none time.Time) { return }
func (*flow) GetUsername() string                            { return "" }
func (f *flow) GetSubject() string                           { return f.subject }
func (f *flow) Clone() fosite.Session                        { c := *f; return &c }

var (
	_ fosite.Client             = fositeClient{}
	_ fosite.ResponseModeClient = fositeClient{}
	_ fosite.Session            = (*flow)(nil)
)
