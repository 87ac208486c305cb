package oauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gorilla/mux"
	"github.com/ory/fosite"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/keys"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

// Values of Config.PKCE: who must use PKCE (RFC 7636). A client with
// require_pkce must always.
const (
	PKCEAll    = "all"    // every client
	PKCENonce  = "nonce"  // every client but a confidential one that sends an OpenID Connect nonce (OAuth 2.1 §7.5.1)
	PKCEPublic = "public" // public clients
)

// Lifetimes that are no operator's choice.
const (
	CodeLifetime    = 60 * time.Second // RFC 6749 §4.1.2 allows ten minutes; redirects need seconds
	IDTokenLifetime = time.Hour
	codeReplayGrace = 2 * time.Second // a client's own retry of a redemption costs nothing
	clockSlack      = 5 * time.Minute // marks outlive what they forbid by it: clocks of nodes differ
)

// Bounds on what is read from outside.
const (
	maxAuthorizeRequest = 8 << 10  // parameters of /authorize, bytes
	maxForm             = 64 << 10 // bodies of the other endpoints, bytes
)

// Config is everything one authorization server is made of.
type Config struct {
	Name     string              // required; as it stands in paths and rows
	Issuer   string              // required; URL without a trailing slash
	Keys     *keys.Ring          // required
	Store    Store               // required
	Sessions *sessions.Manager   // required; its Attributes say which of them are set at an authorization
	Logins   sessions.RealmStore // required
	Cookie   sessions.Cookie     // the realm's
	Static   []clients.Client    // of the operator's file, with their secrets

	AccessTokenFormat   string        // default: clients.FormatJWT
	AccessTokenAlg      string        // default: ES256
	AccessTokenLifetime time.Duration // default: 5m
	Lifetimes           sessions.Lifetimes
	PKCE                string // default: PKCENonce
	Resources           []Resource

	FrontChannelLogout bool // the sign-out page tells clients in frames (OpenID Connect Front-Channel Logout 1.0)
	SessionManagement  bool // clients can watch in a frame who is signed in (OpenID Connect Session Management 1.0)

	// ClientAddress tells the browser's IP address. Default: the connection's.
	ClientAddress func(*http.Request) string

	Pages     Pages                        // required
	Outgoing  *http.Client                 // fetches jwks_uri; it refuses private addresses. Default: none is fetched
	Touch     func(sessions.Touch)         // notes a use, off the request's path. Default: nothing
	RequestID func(context.Context) string // default: empty
	Now       func() time.Time             // default: time.Now
	Logger    *slog.Logger                 // default: slog.Default
}

// Resource is a protected resource that tokens can be for (RFC 8707).
type Resource struct {
	Identifier           string   // absolute URI without fragment
	Scopes               []string // what it knows; for documentation
	IntrospectionClients []string // client_ids that may introspect tokens for it
}

// Pages are the realm's pages, given at wiring.
type Pages struct {
	Login   string // absolute URL of the sign-in page
	Consent string // absolute URL of the consent page
	Logout  string // absolute URL of the sign-out page
	// Error shows an error page for a person: status, an OAuth error code and
	// a description.
	Error func(w http.ResponseWriter, r *http.Request, status int, code, description string)
	// CookiesBlocked shows the page for a browser that keeps no cookie of ours.
	CookiesBlocked func(w http.ResponseWriter, r *http.Request)
}

// Server is one authorization server. It is safe for concurrent use.
type Server struct {
	cfg      Config
	stamps   Stamps
	logouts  *keys.Box // seals logout requests
	opaque   *keys.Box // seals opaque access tokens
	refresh  *keys.MAC // of refresh tokens
	fosite   *fosite.Fosite
	registry *registry
	keySets  *keySets
	metadata []byte
	// metadataLength is the value of the document's Content-Length.
	metadataLength []string
	search         keySearch
}

// New assembles a Server, or says what its Config lacks.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Name == "", cfg.Issuer == "":
		return nil, errors.New("oauth: a server needs a name and an issuer")
	case cfg.Keys == nil, cfg.Store == nil, cfg.Sessions == nil, cfg.Logins == nil:
		return nil, errors.New("oauth: a server needs keys, a store, sessions and logins")
	case cfg.Pages.Login == "", cfg.Pages.Consent == "", cfg.Pages.Logout == "", cfg.Pages.Error == nil, cfg.Pages.CookiesBlocked == nil:
		return nil, errors.New("oauth: a server needs all of its pages")
	}
	if cfg.AccessTokenFormat == "" {
		cfg.AccessTokenFormat = clients.FormatJWT
	}
	if cfg.AccessTokenAlg == "" {
		cfg.AccessTokenAlg = "ES256"
	}
	if !slices.Contains(cfg.Keys.Algorithms(), cfg.AccessTokenAlg) {
		return nil, fmt.Errorf("oauth: there are no keys to sign access tokens with %s", cfg.AccessTokenAlg)
	}
	if cfg.AccessTokenLifetime == 0 {
		cfg.AccessTokenLifetime = 5 * time.Minute
	}
	if cfg.PKCE == "" {
		cfg.PKCE = PKCENonce
	}
	if cfg.ClientAddress == nil {
		cfg.ClientAddress = connectionAddress
	}
	for _, source := range cfg.Sessions.Attributes.Sources() {
		if _, known := claim(&users.User{}, source.Name); source.Kind == sessions.SourceClaim && !known {
			return nil, fmt.Errorf("oauth: a custom attribute's source is the claim %q, which no user can have", source.Name)
		}
	}
	if cfg.Touch == nil {
		cfg.Touch = func(sessions.Touch) {}
	}
	if cfg.RequestID == nil {
		cfg.RequestID = func(context.Context) string { return "" }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Server{cfg: cfg}
	root := cfg.Keys.Root()
	s.stamps = Stamps{Box: root.Box("stamp"), Server: cfg.Name, Now: cfg.Now}
	s.logouts = root.Box("logout request")
	s.opaque = root.Box("access token")
	s.refresh = root.MAC("refresh token")
	var err error
	if s.registry, err = newRegistry(cfg.Static, cfg.Store); err != nil {
		return nil, err
	}
	s.keySets = newKeySets(cfg.Outgoing, cfg.Now)
	s.fosite = newFosite(s)
	if s.metadata, err = s.describe(); err != nil {
		return nil, err
	}
	s.metadataLength = []string{strconv.Itoa(len(s.metadata))}
	return s, nil
}

// Mount registers every endpoint on r, whose paths begin behind the issuer.
func (s *Server) Mount(r *mux.Router) {
	for path, handler := range map[string]http.Handler{
		"/authorize":                        methods{http.MethodGet: s.authorize, http.MethodPost: s.authorizePost},
		"/token":                            s.cors(methods{http.MethodPost: s.token}),
		"/introspect":                       s.cors(methods{http.MethodPost: s.introspect}),
		"/revoke":                           s.cors(methods{http.MethodPost: s.revoke}),
		"/userinfo":                         s.cors(methods{http.MethodGet: s.userinfo, http.MethodPost: s.userinfo}),
		"/jwks":                             anyOrigin(s.cfg.Keys.JWKSHandler()),
		"/.well-known/openid-configuration": s.Metadata(),
		"/.well-known/oauth-authorization-server": s.Metadata(),
	} {
		r.Path(path).Handler(handler)
	}
	s.mountLogout(r)
}

// client returns a static or registered client, or ErrNotFound.
func (s *Server) client(ctx context.Context, id string) (*clients.Client, error) {
	return s.registry.client(ctx, id)
}

// now is the node's time as rows and claims have it.
func (s *Server) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Millisecond) }
