// Package keys holds the secrets of one authorization server or realm: which
// key signs, which keys still verify, when they change, and the root secret
// from which everything symmetric is derived.
//
// Three layers, each of which protects the one below it:
//
//   - [KEK], the key-encryption key, comes from the operator and is never
//     stored. Several can be configured: the current one seals, all open.
//   - [Root], one random secret for each owner, is stored sealed under the
//     KEK. [Root.Box] and [Root.MAC] derive a key of their own for every
//     purpose, so that what was sealed for one purpose, or by one
//     authorization server, opens nowhere else.
//   - [Ring], the signing keys of one authorization server (RS256, ES256,
//     EdDSA, PS256), stored sealed under the KEK. A new key is published
//     longer than anybody may cache the key set before it signs; a retired one
//     goes on verifying until its retention is over.
//
// Several nodes share one [Store] and need no coordination but its unique
// indexes: whoever loses the race to make a key reads the winner's.
//
// What is verified is verified with the public half of a sealed private key.
// The public JWK that stands beside it in the store is there to be read by
// people: whoever can write to the database, but has no KEK, cannot have a key
// of his own accepted.
//
// The package does not judge claims (issuer, audience, times), does not fetch
// or trust foreign keys, does not schedule anything (the server calls
// [Ring.Reload]), and does not know what its purposes mean.
package keys
