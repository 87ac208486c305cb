// Package deliveries tells clients that sessions have ended: OpenID Connect
// Back-Channel Logout 1.0, incorporating errata set 1.
//
// # Written with the ending
//
// Whoever ends a session writes, in the same transaction, one [Delivery] for
// each session that had issued a token and whose client registered a
// backchannel_logout_uri. What is needed to tell the client is copied then: the
// client may be changed or deleted before it is told. So no ending is forgotten,
// whatever happens to the process that made it.
//
// # Carried out by workers
//
// Every node has a [Worker]. It claims deliveries that are due, for a lease, so
// that one node sends each; signs the logout token anew at each sending, with
// the delivery's id as its jti; and notes the outcome. A claim whose lease is
// over is taken again: a message is sent at least once, and twice only where a
// node died, or lost the database, between sending it and noting that it did.
// What fails is sent again, at growing distances, for at least 24 hours.
//
// A client has only so many messages in flight on a node, so that one that is
// slow or dead delays nobody else.
package deliveries
