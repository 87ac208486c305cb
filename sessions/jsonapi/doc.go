// Package jsonapi is the JSON:API dialect of the session API over HTTP, for one
// authorization server: relying parties that hold a user's access token see and
// end the user's OAuth 2.0 sessions.
//
//	GET    /session/          the session that the token belongs to
//	PATCH  /session/          changes its custom attributes
//	DELETE /session/          ends it
//	GET    /sessions/         the live sessions that the caller may see
//	DELETE /sessions/         ends them
//	GET    /sessions/{id}/    one of them
//	DELETE /sessions/{id}/    ends one of them
//	GET    /session-api.yaml  the contract (OpenAPI 3.1), for everybody
//
// Each path but the last answers with and without the trailing slash and never redirects.
// HEAD answers like GET, OPTIONS tells the methods, any other method is 405.
//
// A request is judged in this order, and the first refusal is the answer, with
// all the faults of its kind (at most 100):
//
//  1. method (405): the same for every id, so it tells nothing about sessions
//  2. access token (401), user (403), scope (403)
//  3. Accept (406), Content-Type (415), query parameters (400)
//  4. the document (413, 400, 409), what it changes (422)
//  5. the session itself (404)
//
// Nothing but the methods can be learned without a live access token. For a
// session that the caller may not see the answer is the one for a session that
// does not exist.
//
// Documents follow JSON:API 1.1 (https://jsonapi.org/format/1.1/). The package
// holds no rules about sessions, which are the Manager's; it does not verify
// tokens, which is left to Config.Caller; it sets no CORS headers and recovers
// no panics, which whoever wraps it does for all endpoints.
package jsonapi
