package jsonapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/sessions"
)

const notFoundDocument = `{"meta":{"type":"jsonapi.metadata.document","timestamp":"2020-09-07T14:07:54.086Z"},` +
	`"errors":[{"id":"trace-1","status":"404","code":"SESSION_NOT_FOUND","title":"Session not found",` +
	`"detail":"There is no such session, or it has ended."}]}`

// allowed are the methods of the paths.
var allowed = map[string]string{
	"/session":             "DELETE, GET, HEAD, OPTIONS, PATCH",
	"/sessions":            "DELETE, GET, HEAD, OPTIONS",
	"/sessions/" + albumID: "DELETE, GET, HEAD, OPTIONS",
}

// calls are the calls that do something.
var calls = [][2]string{
	{"GET", "/session"}, {"HEAD", "/session"}, {"PATCH", "/session"}, {"DELETE", "/session"},
	{"GET", "/sessions"}, {"HEAD", "/sessions"}, {"DELETE", "/sessions"},
	{"GET", "/sessions/" + albumID}, {"HEAD", "/sessions/" + albumID}, {"DELETE", "/sessions/" + albumID},
}

func TestRefusals(t *testing.T) {
	const realm = `Bearer realm="https://id.example/authorization-servers/myAS"`
	type refusal struct {
		name      string
		given     func(*fixture)
		query     string
		headers   []string
		status    int
		code      string
		challenge string // WWW-Authenticate
		parameter string // source.parameter
		reached   bool   // the store was asked
	}
	deny := func(err error) func(*fixture) {
		return func(f *fixture) { f.denied = fmt.Errorf("caller: %w", err) }
	}
	for _, c := range []refusal{
		{name: "no token", given: deny(sessions.ErrCallerMissing), status: 401, code: "ACCESS_TOKEN_MISSING", challenge: realm},
		{name: "bad token", given: deny(sessions.ErrCallerInvalid), status: 401, code: "ACCESS_TOKEN_INVALID", challenge: realm + `, error="invalid_token"`},
		{name: "no user", given: deny(sessions.ErrCallerNoUser), status: 403, code: "NO_USER_SESSION"},
		{name: "caller without user", given: func(f *fixture) { f.caller.UserID = "" }, status: 403, code: "NO_USER_SESSION"},
		{name: "caller without session", given: func(f *fixture) { f.caller.SessionID = "" }, status: 403, code: "NO_USER_SESSION"},
		{name: "caller without client", given: func(f *fixture) { f.caller.ClientID = "" }, status: 500, code: "INTERNAL"},
		{name: "caller not found", given: deny(sessions.ErrNotFound), status: 500, code: "INTERNAL"},
		{name: "caller unclassified", given: deny(errors.New("secret cause")), status: 500, code: "INTERNAL"},
		{name: "caller's storage away", given: deny(sessions.ErrUnavailable), status: 503, code: "TEMPORARILY_UNAVAILABLE"},
		{name: "token judged bad because storage is away", given: deny(errors.Join(sessions.ErrCallerInvalid, sessions.ErrUnavailable)),
			status: 503, code: "TEMPORARILY_UNAVAILABLE"},
		{name: "no scopes", given: func(f *fixture) { f.demand("s.read", "s.manage"); f.caller.Scopes = nil },
			status: 403, code: "INSUFFICIENT_SCOPE", challenge: realm + `, error="insufficient_scope", scope="%s"`},
		{name: "prefix of the scope", given: func(f *fixture) { f.demand("sessions", "sessions") },
			status: 403, code: "INSUFFICIENT_SCOPE", challenge: realm + `, error="insufficient_scope", scope="sessions"`},
		{name: "one scope of two", given: func(f *fixture) { f.demand("openid  email", "openid  email") },
			status: 403, code: "INSUFFICIENT_SCOPE", challenge: realm + `, error="insufficient_scope", scope="openid email"`},
		{name: "Accept", headers: []string{"Accept", "application/vnd.api+json; charset=utf-8"}, status: 406, code: "NOT_ACCEPTABLE"},
		{name: "Content-Type", headers: []string{"Content-Type", "application/vnd.api+json; charset=utf-8"}, status: 415, code: "UNSUPPORTED_MEDIA_TYPE"},
		{name: "include", query: "include=client", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: "include"},
		{name: "page", query: "page%5Bnumber%5D=1", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: "page[number]"},
		{name: "filter", query: "&filter[userId]=x&y", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: "filter[userId] y"},
		{name: "fields", query: "fields[other]=", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: "fields[other]"},
		{name: "exclude in other case", query: "excludecurrent=true", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: "excludecurrent"},
		{name: "several", query: "include=a&x=1&include=b&%zz", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: "include x %zz"},
		{name: "token in the query", query: "access_token=secret", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: "access_token"},
		{name: "undecodable", query: "a%zz=1", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: "a%zz"},
		{name: "not UTF-8", query: "a%ff=1", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: "a\uFFFD"},
		{name: "long", query: strings.Repeat("x", 5000), status: 400, code: "UNSUPPORTED_QUERY_PARAMETER", parameter: strings.Repeat("x", maxParameter)},
		{name: "nameless", query: "=1", status: 400, code: "UNSUPPORTED_QUERY_PARAMETER"},
		{name: "storage away", given: func(f *fixture) { f.store.fail = fmt.Errorf("dial: %w", sessions.ErrUnavailable) },
			status: 503, code: "TEMPORARILY_UNAVAILABLE", reached: true},
		{name: "storage broken", given: func(f *fixture) { f.store.fail = errors.New("secret cause") },
			status: 500, code: "INTERNAL", reached: true},
	} {
		for _, call := range calls {
			for _, path := range both(call[1]) {
				t.Run(c.name+" "+call[0]+" "+path, func(t *testing.T) {
					f := newFixture(t)
					if c.given != nil {
						c.given(f)
					}
					target := path
					if c.query != "" {
						target += "?" + c.query
					}
					w := f.call(call[0], target, c.headers...)
					checkHeaders(t, w)
					var parameters []string
					for _, object := range checkErrors(t, w, c.status, c.code) {
						if (object.Source != nil) != (c.status == 400) {
							t.Errorf("source: %+v", object.Source)
						} else if object.Source != nil {
							parameters = append(parameters, *object.Source.Parameter)
						}
					}
					if got := strings.Join(parameters, " "); got != c.parameter {
						t.Errorf("source: %q, want %q", got, c.parameter)
					}
					challenge := c.challenge
					if strings.Contains(challenge, "%s") {
						scope := "s.read"
						if call[0] == "DELETE" || call[0] == "PATCH" {
							scope = "s.manage"
						}
						challenge = fmt.Sprintf(challenge, scope)
					}
					if got := w.Header().Get("WWW-Authenticate"); got != challenge {
						t.Errorf("WWW-Authenticate: %q, want %q", got, challenge)
					}
					if got := w.Header().Get("Retry-After"); (got == "5") != (c.status == 503) || (got == "") == (c.status == 503) {
						t.Errorf("Retry-After: %q", got)
					}
					if (len(f.store.calls) > 0) != c.reached || len(f.store.endings) > 0 {
						t.Errorf("store: calls %v, endings %v", f.store.calls, f.store.endings)
					}
					if strings.Contains(w.Body.String(), "secret") {
						t.Errorf("the cause or a value left with the answer: %s", w.Body)
					}
				})
			}
		}
	}
}

// demand sets the scopes.
func (f *fixture) demand(read, manage string) { f.config.Read, f.config.Manage = read, manage }

// call sends a request with the document that the call reads, if any.
func (f *fixture) call(method, target string, headers ...string) *httptest.ResponseRecorder {
	f.t.Helper()
	if method != "PATCH" {
		return f.do(method, target, headers...)
	}
	if !slices.Contains(headers, "Content-Type") {
		headers = append(headers, "Content-Type", "application/vnd.api+json")
	}
	return f.send(method, target, `{"data":{"type":"oauth2-session","id":"`+phoneID+`","attributes":{"customAttributes":{"color":"red"}}}}`, headers...)
}

// checkErrors demands error objects of that status and code.
func checkErrors(t *testing.T, w *httptest.ResponseRecorder, status int, code string) []errorObject {
	t.Helper()
	var doc struct {
		Meta struct {
			Type, Timestamp string
		}
		Errors []errorObject
	}
	decoder := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&doc); err != nil {
		t.Fatalf("status %d: %v", w.Code, err)
	}
	if len(doc.Errors) == 0 {
		t.Fatal("no errors")
	}
	for _, object := range doc.Errors {
		if w.Code != status || object.Status != fmt.Sprint(status) || object.Code != code {
			t.Errorf("status %d, %+v; want %d %s", w.Code, object, status, code)
		}
		if object.ID != "trace-1" || object.Title == "" || object.Detail == "" ||
			doc.Meta.Type != "jsonapi.metadata.document" || doc.Meta.Timestamp != "2020-09-07T14:07:54.086Z" {
			t.Errorf("document: %+v", doc)
		}
	}
	return doc.Errors
}

// checkError demands exactly one.
func checkError(t *testing.T, w *httptest.ResponseRecorder, status int, code string) errorObject {
	t.Helper()
	list := checkErrors(t, w, status, code)
	if len(list) != 1 {
		t.Errorf("errors: %+v", list)
	}
	return list[0]
}

// Whose id it is, or that it never was one, shows neither in the answer nor in
// what the store is asked.
func TestNotFoundIsTheSameForAll(t *testing.T) {
	for name, id := range map[string]string{
		"unknown": unknownID, "another user's": foreignID, "ended": endedID,
		"short": "x", "long": strings.Repeat("x", 5000), "longer than one of ours": albumID + "x",
		"one of ours and much more": albumID + strings.Repeat("x", 5000), "own in other case": strings.ToLower(phoneID),
		"NUL": albumID + "%00", "not UTF-8": "%FF%FE", "quotes": "%27%22%3B--", "blanks": "%20" + albumID,
		"dots": "..", "line end": albumID + "%0A", "wildcard": "%25", "other digits": strings.Repeat("%D9%A1", 40),
	} {
		for method, call := range map[string]string{"GET": "Session", "HEAD": "Session", "DELETE": "End"} {
			for _, path := range both("/sessions/" + id) {
				t.Run(name+" "+method, func(t *testing.T) {
					f := newFixture(t)
					w := f.do(method, path)
					if w.Code != http.StatusNotFound || w.Body.String() != notFoundDocument {
						t.Errorf("%d %s", w.Code, w.Body)
					}
					checkHeaders(t, w)
					if len(w.Header()) != 5 {
						t.Errorf("headers: %v", w.Header())
					}
					if !slices.Equal(f.store.calls, []string{call}) || len(f.store.endings) > 0 || f.store.longest > 64 {
						t.Errorf("store: calls %v, endings %v, longest id %d", f.store.calls, f.store.endings, f.store.longest)
					}
				})
			}
		}
	}
}

// Where the session ended after its token was checked, the token is not valid.
func TestOwnSessionGone(t *testing.T) {
	for _, call := range [][2]string{{"GET", "/session"}, {"PATCH", "/session"}, {"DELETE", "/session"}} {
		for _, path := range both(call[1]) {
			f := newFixture(t)
			f.store.sessions[phoneID].Ended = &sessions.Ended{}
			w := f.call(call[0], path)
			checkError(t, w, 401, "ACCESS_TOKEN_INVALID")
			if got := w.Header().Get("WWW-Authenticate"); got != `Bearer realm="`+testBase+`", error="invalid_token"` {
				t.Errorf("WWW-Authenticate: %q", got)
			}
		}
	}
}

func TestMethodsNotAllowed(t *testing.T) {
	for path, allow := range allowed {
		for _, path := range both(path) {
			for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "get", "BREW"} {
				if slices.Contains(strings.Split(allow, ", "), method) {
					continue
				}
				f := newFixture(t)
				f.denied = sessions.ErrCallerMissing // judged later
				w := f.do(method, path+"?x", "Accept", "application/vnd.api+json;x=1")
				checkHeaders(t, w)
				checkError(t, w, 405, "METHOD_NOT_ALLOWED")
				if got := w.Header().Get("Allow"); got != allow {
					t.Errorf("%s %s: Allow %q, want %q", method, path, got, allow)
				}
				if len(f.store.calls) > 0 {
					t.Errorf("%s %s: store: %v", method, path, f.store.calls)
				}
			}
		}
	}
}

// Each fault is taken away in turn, and the next one shows.
func TestOrderOfChecks(t *testing.T) {
	f := newFixture(t)
	f.demand("s", "s")
	f.denied, f.store.fail = sessions.ErrCallerMissing, errors.New("broken")
	query := "?include=x"
	headers := []string{"Accept", "application/vnd.api+json;x=1", "Content-Type", "application/vnd.api+json;x=1"}
	for _, step := range []struct {
		status int
		repair func()
	}{
		{401, func() { f.denied, f.caller.UserID = nil, "" }},
		{403, func() { f.caller.UserID = "alex" }},
		{403, func() { f.caller.Scopes = []string{"s"} }},
		{406, func() { headers = headers[2:] }},
		{415, func() { headers = nil }},
		{400, func() { query = "" }},
		{500, func() { f.store.fail = nil }},
		{404, func() {}},
	} {
		for _, method := range []string{"GET", "DELETE"} {
			if w := f.do(method, "/sessions/"+foreignID+"/"+query, headers...); w.Code != step.status {
				t.Errorf("%s: %d, want %d: %s", method, w.Code, step.status, w.Body)
			}
		}
		step.repair()
	}
}

// A redirected DELETE is lost, and an empty id must never name everything.
func TestOddPathsDoNothing(t *testing.T) {
	for _, path := range []string{"/sessions//", "//sessions/", "/sessions/x/y/", "/sessions/" + albumID + "//", "/./session", "/session//", "/sessions/%2F/"} {
		for _, method := range []string{"GET", "DELETE", "PATCH"} {
			f := newFixture(t)
			if w := f.do(method, path); w.Code != http.StatusNotFound || w.Header().Get("Location") != "" {
				t.Errorf("%s %s: %d %v", method, path, w.Code, w.Header())
			}
			if len(f.store.calls) > 0 {
				t.Errorf("%s %s: store: %v", method, path, f.store.calls)
			}
		}
	}
	if got := pathID(httptest.NewRequest("DELETE", "/", nil)); got == "" {
		t.Error("a request without an id names the empty one")
	}
}

func TestCausesAreLoggedOnce(t *testing.T) {
	for name, c := range map[string]struct {
		given func(*fixture)
		level string // empty: nothing to log
	}{
		"broken":    {func(f *fixture) { f.store.fail = errors.New("broken pipe 7") }, "ERROR"},
		"away":      {func(f *fixture) { f.store.fail = fmt.Errorf("broken pipe 7: %w", sessions.ErrUnavailable) }, "WARN"},
		"bad token": {func(f *fixture) { f.denied = fmt.Errorf("broken pipe 7: %w", sessions.ErrCallerInvalid) }, "DEBUG"},
		"no token":  {func(f *fixture) { f.denied = sessions.ErrCallerMissing }, ""},
		"not found": {func(f *fixture) { delete(f.store.sessions, albumID) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			c.given(f)
			w := f.do("DELETE", "/sessions/"+albumID+"/")
			log := f.log.String()
			if c.level == "" {
				if log != "" {
					t.Errorf("logged: %s", log)
				}
				return
			}
			if strings.Count(log, "\n") != 1 || strings.Count(log, "broken pipe 7") != 1 || !strings.Contains(log, "level="+c.level) ||
				!strings.Contains(log, "request_id=trace-1") || !strings.Contains(log, "path=/sessions/{id}") {
				t.Errorf("logged: %s", log)
			}
			if strings.Contains(w.Body.String(), "broken pipe 7") {
				t.Errorf("told: %s", w.Body)
			}
		})
	}
}

// A request that was given up, or that ran out of time, is nobody's fault here.
func TestCancelledRequestIsUnavailable(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.store.fail = ctx.Err()
	w := httptest.NewRecorder()
	f.router().ServeHTTP(w, httptest.NewRequestWithContext(ctx, "DELETE", testBase+"/session/", nil))
	checkError(t, w, 503, "TEMPORARILY_UNAVAILABLE")
	if w.Header().Get("Retry-After") == "" || !strings.Contains(f.log.String(), "level=WARN") {
		t.Errorf("headers %v, log %s", w.Header(), f.log.String())
	}
}

// The error id is never empty, and the one in the log.
func TestErrorIDWithoutRequestID(t *testing.T) {
	for _, requestID := range []func(context.Context) string{nil, func(context.Context) string { return "" }} {
		f := newFixture(t)
		f.config.RequestID = requestID
		f.store.fail = errors.New("broken")
		var doc struct{ Errors []errorObject }
		if err := json.Unmarshal(f.do("GET", "/session/").Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		if id := doc.Errors[0].ID; len(id) < 20 || !strings.Contains(f.log.String(), "request_id="+id) {
			t.Errorf("id %q, log %s", id, f.log.String())
		}
	}
}

func TestChallengeIsQuoted(t *testing.T) {
	if got := challenge(`https://a/"\`, "", ""); got != `Bearer realm="https://a/\"\\"` {
		t.Error(got)
	}
}
