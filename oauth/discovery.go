package oauth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"gatehouse.dev/gatehouse/clients"
)

// describe makes the metadata document (OpenID Connect Discovery 1.0 §3, RFC
// 8414 §2). It names only what works.
func (s *Server) describe() ([]byte, error) {
	scopes := []string{"openid", "profile", "email", "phone", "address", "offline_access"}
	for _, resource := range s.cfg.Resources {
		scopes = append(scopes, resource.Scopes...)
	}
	authMethods := []string{clients.AuthClientSecretBasic, clients.AuthClientSecretPost, clients.AuthPrivateKeyJWT}
	withNone := append(slices.Clone(authMethods), clients.AuthNone)
	algs := make([]string, len(assertionAlgs))
	for i, alg := range assertionAlgs {
		algs[i] = string(alg)
	}
	metadata := map[string]any{
		"issuer":                                s.cfg.Issuer,
		"authorization_endpoint":                s.cfg.Issuer + "/authorize",
		"token_endpoint":                        s.cfg.Issuer + "/token",
		"jwks_uri":                              s.cfg.Issuer + "/jwks",
		"userinfo_endpoint":                     s.cfg.Issuer + "/userinfo",
		"introspection_endpoint":                s.cfg.Issuer + "/introspect",
		"revocation_endpoint":                   s.cfg.Issuer + "/revoke",
		"scopes_supported":                      unique(scopes),
		"response_types_supported":              []string{"code"},
		"response_modes_supported":              []string{modeQuery, modeFormPost},
		"grant_types_supported":                 []string{clients.GrantAuthorizationCode, clients.GrantRefreshToken, clients.GrantClientCredentials},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": s.cfg.Keys.Algorithms(),
		"code_challenge_methods_supported":      []string{"S256"},
		"prompt_values_supported":               []string{"none", "login", "consent", "select_account"},
		"claims_supported": []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "at_hash", "sid",
			"name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website",
			"gender", "birthdate", "zoneinfo", "locale", "updated_at", "email", "email_verified", "phone_number", "phone_number_verified", "address"},
		"claims_parameter_supported":                     false,
		"request_parameter_supported":                    false,
		"request_uri_parameter_supported":                false,
		"authorization_response_iss_parameter_supported": true,
		"ui_locales_supported":                           []string{"en", "de"},
		// OpenID Connect Back-Channel Logout 1.0 §2.1.
		"backchannel_logout_supported":         true,
		"backchannel_logout_session_supported": true,
		// Public clients name themselves at the token and revocation endpoints.
		"token_endpoint_auth_methods_supported":                    withNone,
		"token_endpoint_auth_signing_alg_values_supported":         algs,
		"revocation_endpoint_auth_methods_supported":               withNone,
		"revocation_endpoint_auth_signing_alg_values_supported":    algs,
		"introspection_endpoint_auth_methods_supported":            authMethods,
		"introspection_endpoint_auth_signing_alg_values_supported": algs,
	}
	s.describeLogout(metadata)
	body, err := json.Marshal(metadata)
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	return body, nil
}

// Metadata serves the metadata document, for wherever it is looked for.
func (s *Server) Metadata() http.Handler {
	return anyOrigin(methods{http.MethodGet: s.serveMetadata, http.MethodHead: s.serveMetadata})
}

// Values of the document's headers, made once.
var (
	metadataType    = []string{"application/json"}
	metadataCaching = []string{"public, max-age=300"}
	noSniff         = []string{"nosniff"}
)

func (s *Server) serveMetadata(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h["Content-Type"], h["Cache-Control"], h["X-Content-Type-Options"] = metadataType, metadataCaching, noSniff
	h["Content-Length"] = s.metadataLength // or it is sent in chunks
	_, _ = w.Write(s.metadata)
}
