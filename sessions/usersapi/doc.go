// Package usersapi is the users dialect of the session API over HTTP, for one
// realm: people, help desks and scripts see and end login sessions with the
// applications used in them, at all authorization servers of the realm. It
// follows the session API of WSO2 Identity Server.
//
//	GET    /me/sessions                 the caller's own
//	DELETE /me/sessions                 ends them
//	DELETE /me/sessions/{id}            ends one of them
//	GET    /{user-id}/sessions          a user's, for administrators, like all that follow
//	GET    /{user-id}/sessions/{id}     one of them
//	DELETE /{user-id}/sessions          ends them
//	DELETE /{user-id}/sessions/{id}     ends one of them
//	GET    /sessions                    those of the realm, in pages
//	GET    /sessions-api.yaml           the contract (OpenAPI 3.1), for everybody
//
// Each path answers with and without a slash at its end and never redirects.
// HEAD answers like GET, OPTIONS tells the methods, any other method is 405.
//
// A request is judged in this order, and the first refusal is the answer:
//
//  1. method (405)
//  2. who calls (401, 429, 503)
//  3. scope and role (403), which are recorded where they are missing
//  4. query parameters (400), ids in the path (400)
//  5. the user (404), the session (404, or 204 for one that is to be ended)
//
// Who calls, Config.Caller proves, from what the request itself carries. There
// are no cookies, so there is nothing that another site could make a browser
// send along, and no CORS headers, so no script of another origin reads an
// answer. The package holds no rules about sessions, which are the Directory's,
// and imports nothing of ours but them.
package usersapi
