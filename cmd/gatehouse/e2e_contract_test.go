//go:build unix

package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/configs"
)

// slashes are the ends that every path of the session API may have.
var slashes = map[string]string{"with the slash": "/", "without it": ""}

// contractOffice is a server whose authorization servers declare the same
// custom attributes; its clock goes forward by later.
func contractOffice(t *testing.T, database string, changes ...func(*configs.Config)) (o *office, later *atomic.Int64) {
	t.Helper()
	later = &atomic.Int64{}
	now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	return openOfficeWith(t, serverOptions{Database: database, Now: now}, append(changes, func(cfg *configs.Config) {
		openToUsers(cfg)
		for _, as := range cfg.AuthorizationServers {
			as.SessionAPI.CustomAttributes = []configs.CustomAttribute{
				{Name: "deviceName", Pattern: ".{1,80}", Updatable: true}, {Name: "place", Pattern: "kitchen|hall", Updatable: true}, {Name: "fixed", Pattern: ".*"}}
		}
	})...), later
}

// call is one request to the session API.
type call struct {
	method, path, token string
	body                string // of type application/vnd.api+json unless header says another
	header              http.Header
}

// ask sends it and holds the answer against the API's description.
func (c call) ask(t *testing.T, api *sessionAPI) reply {
	t.Helper()
	header := http.Header{}
	if c.body != "" {
		header.Set("Content-Type", "application/vnd.api+json")
	}
	if c.token != "" {
		header.Set("Authorization", "Bearer "+c.token)
	}
	maps.Copy(header, c.header)
	res, body := send(t, c.method, api.issuer+c.path, strings.NewReader(c.body), header)
	r := reply{status: res.StatusCode, header: res.Header, body: body}
	if json.Unmarshal([]byte(body), &r.json) != nil {
		r.json = nil
	}
	path, _, _ := strings.Cut(c.path, "?")
	api.check(t, c.method, strings.TrimSuffix(path, "/")+"/", r)
	return r
}

// ofSession is the document that changes custom attributes of a session.
func ofSession(kind, id, attributes string) string {
	return `{"data":{"type":"` + kind + `","id":"` + id + `","attributes":` + attributes + `}}`
}

// ids are the sessions in a document, sorted; nil where it has no data.
func (r reply) ids(t *testing.T) []string {
	t.Helper()
	var ids []string
	data, many := r.json["data"].([]any)
	if one := r.json["data"]; !many && one != nil {
		data = []any{one}
	}
	for _, one := range data {
		session, _ := one.(map[string]any)
		if session["type"] != "oauth2-session" {
			t.Errorf("type is %v", session["type"])
		}
		ids = append(ids, session["id"].(string))
	}
	slices.Sort(ids)
	return ids
}

// The calls of the session API with their success, for JWT and for opaque access
// tokens, with and without the slash at the end of the path. Steps follow on one
// another; W, P and T are sessions of one login, E one of another, and N a new
// one of the first.
func TestCallsOfTheSessionAPI(t *testing.T) {
	t.Parallel()
	o, _ := contractOffice(t, "")
	for _, as := range bothServers {
		for name, slash := range slashes {
			t.Run(as+" "+name, func(t *testing.T) {
				api := newSessionAPI(t, o.Issuer(as))
				b, elsewhere := newBrowser(t), newBrowser(t)
				all := map[string]*landing{"W": o.party(as, "web").SignIn(b), "P": o.party(as, "post").SignIn(b), "T": o.party(as, "trusted").SignIn(b),
					"E": o.party(as, "web").SignIn(elsewhere)}
				stranger := o.party(as, "web").SignIn(newBrowser(t).As("bea", "bea-demo"))
				for _, step := range []struct {
					method, path, by, body string
					status                 int
					data                   string // letters of the sessions in the answer
					many                   bool   // they are an array
					custom                 string // custom attributes of the one session
					left                   string // letters of the sessions that are live afterwards
				}{
					{method: "GET", path: "/session", by: "W", status: 200, data: "W", custom: `{}`, left: "WPTE"},
					{method: "PATCH", path: "/session", by: "W", body: ofSession("oauth2-session", "{W}", `{"customAttributes":{"deviceName":"Tablet","place":"hall"}}`),
						status: 200, data: "W", custom: `{"deviceName":"Tablet","place":"hall"}`, left: "WPTE"},
					{method: "PATCH", path: "/session", by: "W", body: ofSession("oauth2-session", "{W}", `{"customAttributes":{"deviceName":null}}`),
						status: 200, data: "W", custom: `{"place":"hall"}`, left: "WPTE"},
					{method: "GET", path: "/sessions", by: "P", status: 200, data: "WPTE", many: true, left: "WPTE"},
					{method: "GET", path: "/sessions/{W}", by: "P", status: 200, data: "W", custom: `{"place":"hall"}`, left: "WPTE"},
					{method: "DELETE", path: "/sessions/{P}", by: "E", status: 204, left: "WTE"},
					{method: "DELETE", path: "/sessions/{W}", by: "W", status: 204, left: "TE"},
					{method: "DELETE", path: "/session", by: "T", status: 204, left: "E"},
					{method: "GET", path: "/sessions", by: "E", status: 200, data: "E", many: true, left: "E"},
					{method: "DELETE", path: "/sessions?excludeCurrent=true", by: "N", status: 204, left: "N"},
					{method: "DELETE", path: "/sessions?excludeCurrent=false", by: "N", status: 204, left: ""},
					{method: "DELETE", path: "/sessions", by: "N", status: 204, left: ""},
				} {
					if all[step.by] == nil || !live(t, o, as, all[step.by]) {
						all[step.by] = o.party(as, "trusted").SignIn(b)
					}
					named := func(text string) string {
						for letter, s := range all {
							text = strings.ReplaceAll(text, "{"+letter+"}", s.SID)
						}
						return text
					}
					path, query, asked := strings.Cut(named(step.path), "?")
					path += slash
					if asked {
						path += "?" + query
					}
					r := call{method: step.method, path: path, token: all[step.by].Token.AccessToken, body: named(step.body)}.ask(t, api)
					what := step.method + " " + step.path + " by " + step.by
					if _, many := r.json["data"].([]any); r.status != step.status || many != step.many {
						t.Fatalf("%s: %s", what, r)
					}
					var want []string
					for _, letter := range strings.Split(step.data, "") {
						want = append(want, all[letter].SID)
					}
					slices.Sort(want)
					if got := r.ids(t); !slices.Equal(got, want) {
						t.Errorf("%s: sessions %q, want %q", what, got, want)
					}
					if step.custom != "" && !strings.Contains(r.body, `"attributes":{"customAttributes":`+step.custom+`,"clientId":"`) {
						t.Errorf("%s: %s, want customAttributes %s", what, r, step.custom)
					}
					if length := r.header.Get("Content-Length"); step.status == 204 && (length != "" || r.header.Get("Content-Type") != "") ||
						step.status == 200 && length != strconv.Itoa(len(r.body)) {
						t.Errorf("%s: headers %v", what, r.header)
					}
					for letter, s := range all {
						if got := live(t, o, as, s); got != strings.Contains(step.left, letter) {
							t.Errorf("after %s: %s is live: %t", what, letter, got)
						}
					}
				}
				if !live(t, o, as, stranger) {
					t.Error("a session of another user has ended")
				}
			})
		}
	}
	o.mustBeCalm()
}

// live tells whether the access token of what came of a sign-in is good.
func live(t *testing.T, o *office, as string, s *landing) bool {
	t.Helper()
	return o.party(as, "web").Userinfo(t, s.Token.AccessToken) == http.StatusOK
}

// mustBeCalm fails where a request panicked or was answered with 500.
func (s *testServer) mustBeCalm() {
	s.t.Helper()
	if len(s.Log.String()) == 0 {
		s.t.Error("the server wrote no log")
	}
	for line := range strings.Lines(s.Log.String()) {
		var event struct {
			Message string `json:"msg"`
			Status  int
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			s.t.Errorf("log line %q: %v", line, err)
		}
		if strings.Contains(line, "panic") || event.Status == http.StatusInternalServerError {
			s.t.Errorf("the server was not calm: %s", line)
		}
	}
}

// masked is an answer without what is of one answer only: the trace id, the
// timestamp and the Date.
func masked(t *testing.T, r reply) string {
	t.Helper()
	header := r.header.Clone()
	header.Del("Date")
	var lines strings.Builder
	if err := header.Write(&lines); err != nil { // sorted by name
		t.Fatal(err)
	}
	body := r.body
	for mask, pattern := range map[string]*regexp.Regexp{"TRACE": traceID, "TIME": timestampOfMeta} {
		if n := len(pattern.FindAllString(body, -1)); n != 1 {
			t.Errorf("%d times %s in %s", n, pattern, body)
		}
		body = pattern.ReplaceAllString(body, mask)
	}
	return strconv.Itoa(r.status) + "\n" + strings.ReplaceAll(lines.String(), "\r\n", "\n") + "\n" + body
}

var (
	traceID         = regexp.MustCompile(`"id":"[A-Z2-7]{26}"`)
	timestampOfMeta = regexp.MustCompile(`"timestamp":"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"`)
)

// sessionNotFound is what is said of a session that the caller may not see, of
// one that there never was and of one that has ended, byte by byte.
const sessionNotFound = `404
Cache-Control: no-store
Content-Length: 255
Content-Security-Policy: default-src 'none'; frame-ancestors 'none'; base-uri 'none'
Content-Type: application/vnd.api+json
Referrer-Policy: no-referrer
Vary: Origin
Vary: Accept
X-Content-Type-Options: nosniff
X-Frame-Options: DENY

{"meta":{"type":"jsonapi.metadata.document",TIME},"errors":[{TRACE,"status":"404","code":"SESSION_NOT_FOUND","title":"Session not found","detail":"There is no such session, or it has ended."}]}`

func TestForeignUnknownAndEndedSessionsHaveTheSameBytes(t *testing.T) {
	t.Parallel()
	o, _ := contractOffice(t, "")
	for as, other := range map[string]string{"myAS": "partnerAS", "partnerAS": "myAS"} {
		api := newSessionAPI(t, o.Issuer(as))
		b := newBrowser(t)
		own, ended := o.party(as, "web").SignIn(b), o.party(as, "post").SignIn(b)
		call{method: http.MethodDelete, path: "/session/", token: ended.Token.AccessToken}.ask(t, api)
		stranger, neighbour := o.party(as, "web").SignIn(newBrowser(t).As("bea", "bea-demo")), o.party(other, "web").SignIn(b)
		for name, id := range map[string]string{
			"another user's": stranger.SID, "another authorization server's": neighbour.SID, "ended": ended.SID,
			"unknown": strings.Repeat("A", 40), "short": "x", "long": strings.Repeat("x", 1000), "longer than one's own": own.SID + "A", "in lower case": strings.ToLower(own.SID),
			"quotes": "%27%22%3B--", "NUL": "%00", "not UTF-8": "%FF%FE", "line end": own.SID + "%0D%0A", "dots": "%2E%2E", "wildcard": "%25",
		} {
			for _, slash := range slashes {
				for _, method := range []string{http.MethodGet, http.MethodDelete} {
					r := call{method: method, path: "/sessions/" + id + slash, token: own.Token.AccessToken}.ask(t, api)
					if got := masked(t, r); got != sessionNotFound {
						t.Errorf("%s: %s of %s session id:\n%s\nwant\n%s", as, method, name, got, sessionNotFound)
					}
				}
			}
		}
		for which, s := range map[string]*landing{"a stranger's": stranger, "one's own": own} {
			if !live(t, o, as, s) {
				t.Errorf("%s session has ended", which)
			}
		}
		if !live(t, o, other, neighbour) {
			t.Error("the session at the other authorization server has ended")
		}
	}
	o.mustBeCalm()
}
