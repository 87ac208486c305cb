//go:build unix

package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/storage/pgtest"
)

const (
	allowOfSession  = "DELETE, GET, HEAD, OPTIONS, PATCH"
	allowOfSessions = "DELETE, GET, HEAD, OPTIONS"
)

// refusal is a row of the session API's table of cases.
type refusal struct {
	name   string
	method string
	path   string // {W} is the id of the caller's session; without the slash at the end
	token  string // name; empty: none
	header http.Header
	body   string
	status int
	code   string
	// What else is in the answer; empty: nothing.
	challenge string // WWW-Authenticate behind the realm
	parameter string // errors[0].source.parameter
	pointer   string // errors[0].source.pointer
	allow     string
	later     time.Duration // how much later it is asked
}

// refusedChange is the row of a PATCH that sets custom attributes.
func refusedChange(name, attributes, code, pointer string) refusal {
	return refusal{name: name, method: "PATCH", path: "/session", token: "live", body: ofSession("oauth2-session", "{W}", attributes), status: 422, code: code, pointer: pointer}
}

func refusals() []refusal {
	const invalid = `, error="invalid_token"`
	jsonAPI := func(kind string) http.Header { return http.Header{"Content-Type": {kind}} }
	const small = `{"customAttributes":{"place":"hall"}}`
	all := []refusal{
		refusedChange("undeclared attribute", `{"customAttributes":{"other":"x"}}`, "CUSTOM_ATTRIBUTE_UNKNOWN", "/data/attributes/customAttributes/other"),
		refusedChange("undeclared attribute removed", `{"customAttributes":{"o/t~r":null}}`, "CUSTOM_ATTRIBUTE_UNKNOWN", "/data/attributes/customAttributes/o~1t~0r"),
		refusedChange("undeclared member", `{"color":"red"}`, "CUSTOM_ATTRIBUTE_UNKNOWN", "/data/attributes/color"),
		refusedChange("frozen attribute", `{"customAttributes":{"fixed":"x"}}`, "CUSTOM_ATTRIBUTE_NOT_UPDATABLE", "/data/attributes/customAttributes/fixed"),
		refusedChange("frozen attribute removed", `{"customAttributes":{"fixed":null}}`, "CUSTOM_ATTRIBUTE_NOT_UPDATABLE", "/data/attributes/customAttributes/fixed"),
		refusedChange("attribute of ours", `{"clientId":"x"}`, "CUSTOM_ATTRIBUTE_NOT_UPDATABLE", "/data/attributes/clientId"),
		refusedChange("bad value", `{"customAttributes":{"place":"garden"}}`, "CUSTOM_ATTRIBUTE_INVALID", "/data/attributes/customAttributes/place"),
		refusedChange("part of the value", `{"customAttributes":{"place":"hall\n"}}`, "CUSTOM_ATTRIBUTE_INVALID", "/data/attributes/customAttributes/place"),
		refusedChange("value too long", `{"customAttributes":{"deviceName":"`+strings.Repeat("x", 81)+`"}}`, "CUSTOM_ATTRIBUTE_INVALID", "/data/attributes/customAttributes/deviceName"),
		refusedChange("value that is no text", `{"customAttributes":{"place":1}}`, "CUSTOM_ATTRIBUTE_INVALID", "/data/attributes/customAttributes/place"),

		{name: "no document", method: "PATCH", path: "/session", token: "live", header: jsonAPI("application/vnd.api+json"), status: 400, code: "MALFORMED_DOCUMENT"},
		{name: "not JSON", method: "PATCH", path: "/session", token: "live", body: `{"data":`, status: 400, code: "MALFORMED_DOCUMENT"},
		{name: "JSON, no document", method: "PATCH", path: "/session", token: "live", body: `{"customAttributes":{}}`, status: 400, code: "MALFORMED_DOCUMENT"},
		{name: "list", method: "PATCH", path: "/session", token: "live", body: `{"data":[]}`, status: 400, code: "MALFORMED_DOCUMENT"},
		{name: "member twice", method: "PATCH", path: "/session", token: "live", body: ofSession("oauth2-session", "{W}", `{"customAttributes":{"place":"hall","place":"kitchen"}}`), status: 400, code: "MALFORMED_DOCUMENT"},
		{name: "over 16 KiB", method: "PATCH", path: "/session", token: "live", body: ofSession("oauth2-session", "{W}", `{"customAttributes":{"place":"`+strings.Repeat("x", 16<<10)+`"}}`), status: 413, code: "DOCUMENT_TOO_LARGE"},
		{name: "another type", method: "PATCH", path: "/session", token: "live", body: ofSession("sessions", "{W}", small), status: 409, code: "RESOURCE_MISMATCH", pointer: "/data/type"},
		{name: "id of another session", method: "PATCH", path: "/session", token: "live", body: ofSession("oauth2-session", "{P}", small), status: 409, code: "RESOURCE_MISMATCH", pointer: "/data/id"},
		{name: "unknown id", method: "PATCH", path: "/session", token: "live", body: ofSession("oauth2-session", strings.Repeat("A", 40), small), status: 409, code: "RESOURCE_MISMATCH", pointer: "/data/id"},
		{name: "JSON:API with a parameter", method: "PATCH", path: "/session", token: "live", header: jsonAPI("application/vnd.api+json; charset=utf-8"), body: ofSession("oauth2-session", "{W}", small), status: 415, code: "UNSUPPORTED_MEDIA_TYPE"},
		{name: "a form", method: "PATCH", path: "/session", token: "live", header: jsonAPI("application/x-www-form-urlencoded"), body: "data=x", status: 415, code: "UNSUPPORTED_MEDIA_TYPE"},
		{name: "text", method: "PATCH", path: "/session", token: "live", header: jsonAPI("text/plain"), body: ofSession("oauth2-session", "{W}", small), status: 415, code: "UNSUPPORTED_MEDIA_TYPE"},

		{name: "unknown id", method: "GET", path: "/sessions/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", token: "live", status: 404, code: "SESSION_NOT_FOUND"},
		{name: "unknown id", method: "DELETE", path: "/sessions/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", token: "live", status: 404, code: "SESSION_NOT_FOUND"},
		{name: "another user's id", method: "GET", path: "/sessions/{S}", token: "live", status: 404, code: "SESSION_NOT_FOUND"},
		{name: "another user's id", method: "DELETE", path: "/sessions/{S}", token: "live", status: 404, code: "SESSION_NOT_FOUND"},
		{name: "another authorization server's id", method: "GET", path: "/sessions/{N}", token: "live", status: 404, code: "SESSION_NOT_FOUND"},
		{name: "another authorization server's id", method: "DELETE", path: "/sessions/{N}", token: "live", status: 404, code: "SESSION_NOT_FOUND"},
		{name: "already ended", method: "GET", path: "/sessions/{D}", token: "live", status: 404, code: "SESSION_NOT_FOUND"},
		{name: "already ended", method: "DELETE", path: "/sessions/{D}", token: "live", status: 404, code: "SESSION_NOT_FOUND"},

		{name: "sort key", method: "GET", path: "/sessions?sort=clientId", token: "live", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: "sort"},
		{name: "page", method: "GET", path: "/sessions?page[number]=1", token: "live", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: "page[number]"},
		{name: "exception that is none", method: "DELETE", path: "/sessions?excludeCurrent=yes", token: "live", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: "excludeCurrent"},
		{name: "exception of one", method: "DELETE", path: "/sessions/{P}?excludeCurrent=true", token: "live", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: "excludeCurrent"},
		{name: "exception of the current one", method: "DELETE", path: "/session?excludeCurrent=true", token: "live", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: "excludeCurrent"},
		{name: "filter", method: "DELETE", path: "/sessions?filter[clientId]=web", token: "live", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: "filter[clientId]"},

		{name: "method", method: "POST", path: "/session", token: "live", status: 405, code: "METHOD_NOT_ALLOWED", allow: allowOfSession},
		{name: "method", method: "PUT", path: "/session", token: "live", status: 405, code: "METHOD_NOT_ALLOWED", allow: allowOfSession},
		{name: "method", method: "BREW", path: "/session", status: 405, code: "METHOD_NOT_ALLOWED", allow: allowOfSession},
		{name: "method", method: "POST", path: "/sessions", token: "live", status: 405, code: "METHOD_NOT_ALLOWED", allow: allowOfSessions},
		{name: "method", method: "PATCH", path: "/sessions", token: "live", status: 405, code: "METHOD_NOT_ALLOWED", allow: allowOfSessions},
		{name: "method", method: "PATCH", path: "/sessions/{W}", token: "live", status: 405, code: "METHOD_NOT_ALLOWED", allow: allowOfSessions},
		{name: "method", method: "POST", path: "/sessions/{S}", token: "live", status: 405, code: "METHOD_NOT_ALLOWED", allow: allowOfSessions},
	}
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/session", ""}, {"PATCH", "/session", ofSession("oauth2-session", "{W}", small)}, {"DELETE", "/session", ""}, {"GET", "/sessions", ""},
		{"DELETE", "/sessions", ""}, {"GET", "/sessions/{W}", ""}, {"DELETE", "/sessions/{W}", ""},
	} {
		every := func(r refusal) refusal {
			r.method, r.body = c.method, c.body
			r.path = c.path + r.path
			return r
		}
		all = append(all,
			every(refusal{name: "no credentials", status: 401, code: "ACCESS_TOKEN_MISSING"}),
			every(refusal{name: "credentials of a client", header: http.Header{"Authorization": {"Basic d2ViOnNlY3JldA=="}}, status: 401, code: "ACCESS_TOKEN_MISSING"}),
			every(refusal{name: "malformed token", token: "malformed", status: 401, code: "ACCESS_TOKEN_INVALID", challenge: invalid}),
			every(refusal{name: "expired token", token: "live", later: 5*time.Minute + time.Second, status: 401, code: "ACCESS_TOKEN_INVALID", challenge: invalid}),
			every(refusal{name: "revoked token", token: "revoked", status: 401, code: "ACCESS_TOKEN_INVALID", challenge: invalid}),
			every(refusal{name: "token of another authorization server", token: "foreign", status: 401, code: "ACCESS_TOKEN_INVALID", challenge: invalid}),
			every(refusal{name: "token of an ended session", token: "ended", status: 401, code: "ACCESS_TOKEN_INVALID", challenge: invalid}),
			every(refusal{name: "token without a user", token: "machine", status: 403, code: "NO_USER_SESSION"}),
			every(refusal{name: "unknown parameter", path: "?unknown=1", token: "live", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: "unknown"}),
			every(refusal{name: "include", path: "?include=client", token: "live", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: "include"}),
			every(refusal{name: "Accept", header: http.Header{"Accept": {"application/vnd.api+json; charset=utf-8", "application/vnd.api+json;version=1"}}, token: "live", status: 406, code: "NOT_ACCEPTABLE"}),
			every(refusal{name: "Content-Type", header: jsonAPI("application/vnd.api+json; version=1"), token: "live", status: 415, code: "UNSUPPORTED_MEDIA_TYPE"}),
		)
	}
	return all
}

// The cases that the session API refuses, for JWT and for opaque access tokens,
// with and without the slash at the end of the path. None changes anything.
func TestCasesOfTheSessionAPI(t *testing.T) {
	t.Parallel()
	o, later := contractOffice(t, "")
	for as, other := range map[string]string{"myAS": "partnerAS", "partnerAS": "myAS"} {
		api, b := newSessionAPI(t, o.Issuer(as)), newBrowser(t)
		parties := map[string]*landing{"W": o.party(as, "web").SignIn(b), "P": o.party(as, "post").SignIn(b), "D": o.party(as, "ps").SignIn(b),
			"S": o.party(as, "web").SignIn(newBrowser(t).As("bea", "bea-demo")), "N": o.party(other, "web").SignIn(b)}
		own := o.party(as, "service").Token(t, url.Values{"grant_type": {"client_credentials"}})
		machine, _ := own.json["access_token"].(string)
		revoked := o.party(as, "ed").SignIn(newBrowser(t)).Token.AccessToken
		if r := o.party(as, "ed").Ask(t, "/revoke", url.Values{"token": {revoked}}); r.status != 200 || machine == "" {
			t.Fatalf("%s, %s", r, own)
		}
		if r := (call{method: "DELETE", path: "/session/", token: parties["D"].Token.AccessToken}).ask(t, api); r.status != 204 {
			t.Fatal(r)
		}
		tokens := map[string]string{"": "", "live": parties["W"].Token.AccessToken, "malformed": "a.b.c", "revoked": revoked,
			"foreign": parties["N"].Token.AccessToken, "ended": parties["D"].Token.AccessToken, "machine": machine}
		for _, row := range refusals() {
			for _, slash := range slashes {
				row.try(t, api, slash, tokens[row.token], parties, later.Store)
			}
		}
		if r := (call{method: "GET", path: "/session/", token: tokens["live"]}).ask(t, api); r.status != 200 || !strings.Contains(r.body, `"customAttributes":{}`) {
			t.Errorf("%s: after all refusals: %s", as, r)
		}
		for letter, s := range parties {
			at := map[bool]string{true: other, false: as}[letter == "N"]
			if got := live(t, o, at, s); got != (letter != "D") {
				t.Errorf("%s: after all refusals %s is live: %t", as, letter, got)
			}
		}
	}
	o.mustBeCalm()
}

// try sends the row's request and holds the answer against the row.
func (row refusal) try(t *testing.T, api *sessionAPI, slash, token string, parties map[string]*landing, later func(int64)) {
	t.Helper()
	named := func(text string) string {
		for letter, s := range parties {
			text = strings.ReplaceAll(text, "{"+letter+"}", s.SID)
		}
		return text
	}
	path, query, asked := strings.Cut(named(row.path), "?")
	if path += slash; asked {
		path += "?" + query
	}
	later(int64(row.later))
	r := call{method: row.method, path: path, token: token, body: named(row.body), header: row.header}.ask(t, api)
	later(0)
	challenge := ""
	if row.status == 401 || row.challenge != "" {
		challenge = `Bearer realm="` + api.issuer + `"` + row.challenge
	}
	retry := map[bool]string{true: "5"}[row.status == 503]
	source, _ := firstError(r)["source"].(map[string]any)
	parameter, _ := source["parameter"].(string)
	pointer, _ := source["pointer"].(string)
	if r.status != row.status || r.failure() != row.code || parameter != row.parameter || pointer != row.pointer || len(source) > 1 ||
		r.header.Get("WWW-Authenticate") != challenge || r.header.Get("Allow") != row.allow || r.header.Get("Retry-After") != retry {
		t.Errorf("%s: %s %s: %s, %v; want %+v", row.name, row.method, path, r, r.header, row)
	}
}

// firstError is the first error object of an answer.
func firstError(r reply) map[string]any {
	all, _ := r.json["errors"].([]any)
	if len(all) == 0 {
		return nil
	}
	first, _ := all[0].(map[string]any)
	return first
}

// demanded is the scope that a call demands in the next test.
func demanded(method string) string {
	if method == "GET" {
		return "sessions:read"
	}
	return "sessions:manage"
}

func TestCasesOfMissingScopes(t *testing.T) {
	t.Parallel()
	o, later := contractOffice(t, "", func(cfg *configs.Config) {
		for _, as := range cfg.AuthorizationServers {
			as.SessionAPI.Scopes = configs.SessionScopes{Read: "sessions:read", Manage: "sessions:manage"}
		}
	})
	for _, as := range bothServers {
		api, s := newSessionAPI(t, o.Issuer(as)), o.party(as, "web").SignIn(newBrowser(t))
		for _, c := range [][2]string{{"GET", "/session"}, {"PATCH", "/session"}, {"DELETE", "/session"}, {"GET", "/sessions"}, {"DELETE", "/sessions"},
			{"GET", "/sessions/{W}"}, {"DELETE", "/sessions/{W}"}, {"GET", "/sessions/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}} {
			for _, slash := range slashes {
				refusal{name: "scope missing", method: c[0], path: c[1], status: 403, code: "INSUFFICIENT_SCOPE",
					challenge: `, error="insufficient_scope", scope="` + demanded(c[0]) + `"`}.try(t, api, slash, s.Token.AccessToken, map[string]*landing{"W": s}, later.Store)
			}
		}
		if !live(t, o, as, s) {
			t.Errorf("%s: the session has ended", as)
		}
	}
	o.mustBeCalm()
}

// Storage that can't be reached is told, whatever is asked, and leaves nothing
// half-done.
func TestCasesOfUnreachableStorage(t *testing.T) {
	t.Parallel()
	postgres := pgtest.Start(t, pgtest.Options{})
	for name, database := range map[string]string{"SQLite": "", "PostgreSQL": postgres.NewDatabase(t)} {
		t.Run(name, func(t *testing.T) {
			o, later := contractOffice(t, database)
			signedIn := map[string]*landing{}
			for _, as := range bothServers {
				signedIn[as] = o.party(as, "web").SignIn(newBrowser(t))
			}
			var err error
			if database == "" {
				err = o.db.Close()
			} else {
				err = postgres.Stop(true)
			}
			if err != nil {
				t.Fatal(err)
			}
			for as, s := range signedIn {
				api := newSessionAPI(t, o.Issuer(as))
				for _, c := range []struct{ method, path, body string }{
					{"GET", "/session", ""}, {"PATCH", "/session", ofSession("oauth2-session", s.SID, `{"customAttributes":{"place":"hall"}}`)}, {"DELETE", "/session", ""},
					{"GET", "/sessions", ""}, {"DELETE", "/sessions", ""}, {"DELETE", "/sessions?excludeCurrent=true", ""},
					{"GET", "/sessions/{W}", ""}, {"DELETE", "/sessions/{W}", ""}, {"GET", "/sessions/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", ""},
				} {
					for _, slash := range slashes {
						refusal{name: name, method: c.method, path: c.path, body: c.body, status: 503, code: "TEMPORARILY_UNAVAILABLE"}.
							try(t, api, slash, s.Token.AccessToken, map[string]*landing{"W": s}, later.Store)
					}
				}
			}
			o.mustBeCalm()
			if database == "" {
				return
			}
			if err := postgres.Restart(); err != nil {
				t.Fatal(err)
			}
			for as, s := range signedIn {
				r := (call{method: "GET", path: "/session/", token: s.Token.AccessToken}).ask(t, newSessionAPI(t, o.Issuer(as)))
				if r.status != 200 || !strings.Contains(r.body, `"customAttributes":{}`) {
					t.Errorf("%s: after the outage: %s", as, r)
				}
			}
		})
	}
}
