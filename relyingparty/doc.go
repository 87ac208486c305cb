// Package relyingparty is a small application whose users sign in with an
// OpenID Provider, and which shows them what it knows: their claims, the state
// of its tokens, and their sessions at all applications, which they can end
// over the session API. The demo runs two of them and the end-to-end tests
// drive them.
//
// It stands on independent libraries (go-oidc, x/oauth2) and imports nothing
// of ours, so that it finds where the server and the specifications differ. It
// uses the authorization code flow with PKCE (RFC 7636), state, nonce and the
// iss parameter (RFC 9207), keeps everything in memory, and is no template for
// an application that has data of its own to protect.
//
// It receives back-channel logout (OpenID Connect Back-Channel Logout 1.0), at
// {URL}/backchannel-logout. Where no message comes, it learns that its session
// was ended elsewhere at its next renewal or call of the session API.
package relyingparty
