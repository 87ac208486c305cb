package clients

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Authentication methods at the token endpoint (RFC 7591 §2, OIDC Core §9).
const (
	AuthNone              = "none"
	AuthClientSecretBasic = "client_secret_basic"
	AuthClientSecretPost  = "client_secret_post"
	AuthPrivateKeyJWT     = "private_key_jwt"
)

// Grant types that this server knows (RFC 7591 §2).
const (
	GrantAuthorizationCode = "authorization_code"
	GrantRefreshToken      = "refresh_token"
	GrantClientCredentials = "client_credentials"
)

// Access token formats.
const (
	FormatJWT    = "jwt"    // RFC 9068
	FormatOpaque = "opaque" // sealed, means nothing to anybody but the issuer
)

// Metadata is what an operator's file, a registration request or a row says
// of a client. Names are those of RFC 7591 §2 and OpenID Connect Dynamic
// Client Registration 1.0 §2, to the letter; the last group is our own.
type Metadata struct {
	ClientID                string          `json:"client_id" yaml:"client_id"`
	ClientSecret            string          `json:"client_secret,omitempty" yaml:"client_secret"` // only in a file or a registration answer, never stored
	ClientName              string          `json:"client_name,omitempty" yaml:"client_name"`
	ClientURI               string          `json:"client_uri,omitempty" yaml:"client_uri"`
	LogoURI                 string          `json:"logo_uri,omitempty" yaml:"logo_uri"`
	PolicyURI               string          `json:"policy_uri,omitempty" yaml:"policy_uri"`
	TosURI                  string          `json:"tos_uri,omitempty" yaml:"tos_uri"`
	Contacts                []string        `json:"contacts,omitempty" yaml:"contacts"`
	ApplicationType         string          `json:"application_type,omitempty" yaml:"application_type"` // web (default) or native
	RedirectURIs            []string        `json:"redirect_uris,omitempty" yaml:"redirect_uris"`
	PostLogoutRedirectURIs  []string        `json:"post_logout_redirect_uris,omitempty" yaml:"post_logout_redirect_uris"`
	BackchannelLogoutURI    string          `json:"backchannel_logout_uri,omitempty" yaml:"backchannel_logout_uri"`
	BackchannelLogoutSID    bool            `json:"backchannel_logout_session_required,omitempty" yaml:"backchannel_logout_session_required"`
	FrontchannelLogoutURI   string          `json:"frontchannel_logout_uri,omitempty" yaml:"frontchannel_logout_uri"`
	FrontchannelLogoutSID   bool            `json:"frontchannel_logout_session_required,omitempty" yaml:"frontchannel_logout_session_required"`
	GrantTypes              []string        `json:"grant_types,omitempty" yaml:"grant_types"`                               // default: authorization_code
	ResponseTypes           []string        `json:"response_types,omitempty" yaml:"response_types"`                         // default: code where authorization_code is allowed
	Scope                   string          `json:"scope,omitempty" yaml:"scope"`                                           // space-separated
	TokenEndpointAuthMethod string          `json:"token_endpoint_auth_method,omitempty" yaml:"token_endpoint_auth_method"` // default: client_secret_basic
	TokenEndpointAuthAlg    string          `json:"token_endpoint_auth_signing_alg,omitempty" yaml:"token_endpoint_auth_signing_alg"`
	JWKS                    json.RawMessage `json:"jwks,omitempty" yaml:"jwks"` // a JSON Web Key Set (RFC 7517 §5), public keys only
	JWKSURI                 string          `json:"jwks_uri,omitempty" yaml:"jwks_uri"`
	IDTokenSignedAlg        string          `json:"id_token_signed_response_alg,omitempty" yaml:"id_token_signed_response_alg"` // default: RS256
	SubjectType             string          `json:"subject_type,omitempty" yaml:"subject_type"`                                 // public only
	DefaultMaxAge           *int64          `json:"default_max_age,omitempty" yaml:"default_max_age"`                           // seconds
	RequireAuthTime         bool            `json:"require_auth_time,omitempty" yaml:"require_auth_time"`

	// Beyond RFC 7591.
	AccessTokenFormat    string   `json:"access_token_format,omitempty" yaml:"access_token_format"`       // jwt or opaque; default: the authorization server's
	SkipConsent          bool     `json:"skip_consent,omitempty" yaml:"skip_consent"`                     // the operator vouches for a client of the house
	RefreshTokenRotation *bool    `json:"refresh_token_rotation,omitempty" yaml:"refresh_token_rotation"` // default: true
	RequirePKCE          bool     `json:"require_pkce,omitempty" yaml:"require_pkce"`
	Resources            []string `json:"resources,omitempty" yaml:"resources"`         // RFC 8707 resources it may ask for; empty: all of the authorization server
	Introspection        bool     `json:"introspection,omitempty" yaml:"introspection"` // may introspect any token of the authorization server
}

// Client is a registered client of one authorization server.
type Client struct {
	Metadata

	UID       string    // UUID, never reused
	Number    int64     // unique in the realm; the users dialect's appId
	Static    bool      // stands in the operator's file; its secret is there, not in the row
	SecretSHA []byte    // SHA-256 of a secret this server generated (256 bits); nil otherwise
	CreatedAt time.Time // UTC
	DeletedAt time.Time // zero: live
}

// Public reports whether the client can't keep a secret (RFC 6749 §2.1).
func (m *Metadata) Public() bool { return m.TokenEndpointAuthMethod == AuthNone }

// Allows reports whether the client may use grant type g.
func (m *Metadata) Allows(g string) bool { return slices.Contains(m.GrantTypes, g) }

// Scopes are the scopes the client may ask for.
func (m *Metadata) Scopes() []string { return strings.Fields(m.Scope) }

// Rotates reports whether a refresh gives this client a new refresh token.
func (m *Metadata) Rotates() bool { return m.RefreshTokenRotation == nil || *m.RefreshTokenRotation }

// Name is what people are shown: client_name, or the id where it has none.
func (m *Metadata) Name() string {
	if m.ClientName != "" {
		return m.ClientName
	}
	return m.ClientID
}
