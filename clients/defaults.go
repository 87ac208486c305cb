package clients

// Defaults fills in what RFC 7591 §2 and OpenID Connect Dynamic Client
// Registration 1.0 §2 define for members that were left out: grant types,
// response types, authentication method, ID token algorithm, application
// type and subject type. asFormat is the access token format of the
// authorization server (FormatJWT or FormatOpaque) and stands in for a
// missing access_token_format; empty leaves that open. What is set stays as
// it is, valid or not, and a second call changes nothing.
func (m *Metadata) Defaults(asFormat string) {
	if len(m.GrantTypes) == 0 {
		m.GrantTypes = []string{GrantAuthorizationCode}
	}
	if len(m.ResponseTypes) == 0 && m.Allows(GrantAuthorizationCode) {
		m.ResponseTypes = []string{ResponseCode}
	}
	fill(&m.TokenEndpointAuthMethod, AuthClientSecretBasic)
	fill(&m.IDTokenSignedAlg, "RS256")
	fill(&m.ApplicationType, ApplicationWeb)
	fill(&m.SubjectType, "public")
	fill(&m.AccessTokenFormat, asFormat)
}

func fill(member *string, value string) {
	if *member == "" {
		*member = value
	}
}

// Application types (OpenID Connect Dynamic Client Registration 1.0 §2).
const (
	ApplicationWeb    = "web"
	ApplicationNative = "native"
)

// ResponseCode is the only response type that this server answers; the
// implicit and hybrid ones are left out, as RFC 9700 §2.1.2 advises.
const ResponseCode = "code"

// AuthMethods are the values of token_endpoint_auth_method that Validate
// accepts.
func AuthMethods() []string {
	return []string{AuthClientSecretBasic, AuthClientSecretPost, AuthPrivateKeyJWT, AuthNone}
}

// GrantTypes are the values of grant_types that Validate accepts.
func GrantTypes() []string {
	return []string{GrantAuthorizationCode, GrantRefreshToken, GrantClientCredentials}
}

// IDTokenAlgs are the values of id_token_signed_response_alg that Validate
// accepts (RFC 7518 §3.1, RFC 8037 §3.1). `none` and the symmetric ones are
// not among them.
func IDTokenAlgs() []string { return []string{"RS256", "ES256", "EdDSA", "PS256"} }

// AssertionAlgs are the algorithms with which a client may sign a
// private_key_jwt assertion (RFC 7523 §2.2): asymmetric ones only.
func AssertionAlgs() []string {
	return []string{
		"RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
		"ES256", "ES384", "ES512", "EdDSA",
	}
}

// UsesSecret reports whether the client proves itself at the token endpoint
// with a client secret (RFC 6749 §2.3.1).
func (m *Metadata) UsesSecret() bool {
	return m.TokenEndpointAuthMethod == AuthClientSecretBasic || m.TokenEndpointAuthMethod == AuthClientSecretPost
}
