// Package clients holds what an OAuth 2.0 client (relying party) is: the
// metadata of RFC 7591 and OpenID Connect Dynamic Client Registration 1.0
// under their registered names, a few members of our own, and the rules that
// make metadata valid. Configuration, storage and the protocol share it.
//
// It deliberately does not authenticate clients (package oauth does) and knows
// neither files nor databases.
package clients
