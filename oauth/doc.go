// Package oauth is one authorization server: an OAuth 2.0 authorization server
// (RFC 6749, RFC 9700) and OpenID Provider (OpenID Connect Core 1.0) for one
// issuer. A Server is assembled from one Config; two Servers share nothing but
// what the Config gives them.
//
// One file an endpoint: authorize.go, token.go (with code.go, refresh.go,
// clientcredentials.go), introspect.go, revoke.go, userinfo.go, discovery.go.
// Errors leave through errors.go only. fosite parses and validates requests and
// drives the grant handlers of this package; it is known here and nowhere else.
//
// What it holds in its hands are values: codes, access tokens, refresh tokens
// and stamps. What must be remembered goes to the Store that it declares.
// It renders no pages: it sends the browser to one and takes it back.
package oauth
