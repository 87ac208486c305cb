//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/configs"
)

// TestUsersAPIExample: the answer to the contract's own example has its members
// and those that are documented beside them, and strings where it has strings.
func TestUsersAPIExample(t *testing.T) {
	c := openCounter(t)
	if r := c.call("GET", "/api/users/v1", "/me/sessions", basic("alex", "alex-demo")); r.status != 200 || r.body != "{}" {
		t.Errorf("without sessions: %s", r)
	}
	b := newBrowser(t)
	b.Transport = agent{chrome73, b.Transport}
	began := time.Now().Add(-time.Millisecond).UnixMilli()
	_, _, sid := c.tokens(b, "myAS", "desk", "openid offline_access")
	r := c.call("GET", "/api/users/v1", "/me/sessions", basic("alex", "alex-demo"))
	var doc struct {
		UserID   string
		Sessions []map[string]any
	}
	if err := json.Unmarshal([]byte(r.body), &doc); err != nil || doc.UserID != c.userID("alex") || len(doc.Sessions) != 1 || len(r.json) != 2 {
		t.Fatalf("%s: %v", r, err)
	}
	s := doc.Sessions[0]
	for _, name := range []string{"loginTime", "lastAccessTime", "expiryTime"} {
		text, _ := s[name].(string)
		var at int64
		if _, err := fmt.Sscan(text, &at); err != nil || at < began || (name != "expiryTime" && at > time.Now().UnixMilli()) || fmt.Sprint(at) != text {
			t.Errorf("%s is %v", name, s[name])
		}
		delete(s, name)
	}
	id, _ := s["id"].(string)
	if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" {
		t.Errorf("id is %q", id)
	}
	delete(s, "id")
	apps, _ := s["applications"].([]any)
	if len(apps) != 1 {
		t.Fatalf("applications: %v", apps)
	}
	app := apps[0].(map[string]any)
	if uid, _ := app["id"].(string); len(uid) != 36 {
		t.Errorf("the application's id is %v", app["id"])
	}
	if number, _ := app["appId"].(string); number == "" || strings.Trim(number, "0123456789") != "" {
		t.Errorf("appId is %v", app["appId"])
	}
	delete(app, "id")
	delete(app, "appId")
	got, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"applications":[{"appName":"Desk of myAS","authorizationServer":"myAS","scopes":["openid","offline_access"],"sessionIds":["` + sid +
		`"],"subject":"alex"}],"current":false,"device":{"browser":"Chrome","os":"Linux","type":"desktop"},"ip":"127.0.0.1","userAgent":"` + chrome73 + `"}`
	if string(got) != want {
		t.Errorf("the session is\n%s, want\n%s", got, want)
	}
	if !strings.HasPrefix(r.body, `{"userId":"`+doc.UserID+`","sessions":[{"applications":[{"id":"`) || r.header.Get("Content-Type") != "application/json" {
		t.Errorf("%s", r)
	}
}

// agent sends a user agent's name.
type agent struct {
	name string
	next http.RoundTripper
}

func (a agent) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", a.name)
	return a.next.RoundTrip(r)
}

// TestUsersAPIEndsAtEveryServer: what a login was used for at two authorization
// servers is dead when the call returns, and its browser has to sign in.
func TestUsersAPIEndsAtEveryServer(t *testing.T) {
	c := openCounter(t)
	b := newBrowser(t)
	type held struct{ as, access, refresh, sid string }
	var all []held
	for _, as := range bothServers {
		access, refresh, sid := c.tokens(b, as, "desk", "openid")
		all = append(all, held{as, access, refresh, sid})
	}
	live := func(h held) (lives []string) {
		if c.with(c.Issuer(h.as)+"/userinfo", h.access) == 200 {
			lives = append(lives, "userinfo")
		}
		if c.with(c.Issuer(h.as)+"/session/", h.access) == 200 {
			lives = append(lives, "session API")
		}
		for _, token := range []string{h.access, h.refresh} {
			if r := c.form(c.Issuer(h.as)+"/introspect", "desk", url.Values{"token": {token}}); r.json["active"] == true {
				lives = append(lives, "introspection")
			}
		}
		return lives
	}
	for _, h := range all {
		if got := live(h); len(got) != 4 {
			t.Fatalf("at %s it lives at %v", h.as, got)
		}
	}
	ids := c.live("alex")
	if len(ids) != 1 {
		t.Fatalf("alex has the entries %q", ids)
	}
	if r := c.call("DELETE", "/api/users/v1", "/"+c.userID("alex")+"/sessions/"+ids[0], basic("admin", "admin-demo")); r.status != 204 {
		t.Fatalf("%s", r)
	}
	for _, h := range all {
		if got := live(h); len(got) != 0 {
			t.Errorf("at %s it lives at %v", h.as, got)
		}
		if r := c.form(c.Issuer(h.as)+"/token", "desk", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {h.refresh}}); r.status != 400 {
			t.Errorf("at %s the refresh token gives %s", h.as, r)
		}
	}
	res := b.Page(c.Issuer("myAS") + "/authorize?" + url.Values{"response_type": {"code"}, "client_id": {"desk"}, "nonce": {"n"},
		"redirect_uri": {"https://desk.example/callback"}, "scope": {"openid"}}.Encode())
	if to, err := res.Location(); err != nil || to.Path != "/login" {
		t.Errorf("the browser is sent to %v", to)
	} else if page := text(t, b.Page(to.String())); !strings.Contains(page, `name="password"`) {
		t.Errorf("the page is no sign-in form: %.300s", page)
	}
}

// TestUsersAPIRealmsShareNothing: two realms have a user of the same name.
func TestUsersAPIRealmsShareNothing(t *testing.T) {
	c := openCounter(t)
	customer, colleague := c.login("alex"), c.login("staff alex")
	const customers, staff = "/t/default/api/users/v1", "/t/staff/api/users/v1"
	for _, tt := range []struct {
		base   string
		proof  proof
		status int
		sees   string
	}{
		{customers, basic("alex", "alex-demo"), 200, customer.ID},
		{staff, basic("alex", "alex-staff"), 200, colleague.ID},
		{customers, basic("alex", "alex-staff"), 401, ""},
		{staff, basic("alex", "alex-demo"), 401, ""},
		{staff, c.as("alex", "bearer"), 401, ""},
		{customers, c.as("staff alex", "bearer"), 401, ""},
		{staff, c.as("alex", "cookie"), 401, ""},
	} {
		r := c.call("GET", tt.base, "/me/sessions", tt.proof)
		if r.status != tt.status || strings.Contains(r.body, customer.ID) != (tt.sees == customer.ID) || strings.Contains(r.body, colleague.ID) != (tt.sees == colleague.ID) {
			t.Errorf("at %s: %s", tt.base, r)
		}
	}
	boss := basic("boss", "boss-staff")
	for _, tt := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/" + c.userID("alex") + "/sessions", 404, "UMG-10001"},
		{"GET", "/" + c.userID("alex") + "/sessions/" + customer.ID, 404, "UMG-10001"},
		{"DELETE", "/" + c.userID("alex") + "/sessions", 404, "UMG-10001"},
		{"DELETE", "/" + c.userID("alex") + "/sessions/" + customer.ID, 404, "UMG-10001"},
		{"GET", "/" + c.userID("staff alex") + "/sessions/" + customer.ID, 404, "USM-10009"},
		{"DELETE", "/" + c.userID("staff alex") + "/sessions/" + customer.ID, 204, ""},
		{"DELETE", "/me/sessions/" + customer.ID, 204, ""},
		{"DELETE", "/me/sessions", 204, ""},
	} {
		r := c.call(tt.method, staff, tt.path, boss)
		if code, _ := r.json["code"].(string); r.status != tt.status || code != tt.code {
			t.Errorf("%s %s: %s", tt.method, tt.path, r)
		}
	}
	if r := c.call("GET", staff, "/sessions?limit=100", boss); r.status != 200 || strings.Contains(r.body, customer.ID) || !strings.Contains(r.body, colleague.ID) ||
		!strings.Contains(r.body, `"userId":"`+c.userID("staff alex")+`"`) {
		t.Errorf("boss sees %s", r)
	}
	if !slices.Contains(c.live("alex"), customer.ID) || !slices.Contains(c.live("staff alex"), colleague.ID) {
		t.Error("something of one realm was ended from the other")
	}
	for _, path := range []string{"/t/nowhere/api/users/v1/me/sessions", "/t//api/users/v1/me/sessions"} {
		if r := c.call("GET", "", path, boss); r.status != 404 {
			t.Errorf("%s: %s", path, r)
		}
	}
}

// TestUsersAPIPages follows the links of a realm's list, and tries what is
// refused.
func TestUsersAPIPages(t *testing.T) {
	c := openCounter(t)
	admin := basic("admin", "admin-demo")
	want := map[string]bool{}
	for range 23 {
		want[c.login("alex").ID] = true
		want[c.login("bea").ID] = true
	}
	const filter = `userAgent co "Chrome/73" and ipAddress eq 192.0.2.7 and loginId sw A`
	for _, tt := range []struct {
		query  string
		people string
		pages  int
	}{{"", "alex bea", 3}, {"?limit=46", "alex bea", 1}, {"?limit=5&filter=" + url.QueryEscape(filter), "alex", 5}} {
		seen, pages := map[string]bool{}, 0
		for at := "/t/default/api/users/v1/sessions" + tt.query; at != ""; pages++ {
			r := c.call("GET", "", at, admin)
			resources, _ := r.json["Resources"].([]any)
			if r.status != 200 || len(resources) == 0 || pages > 10 {
				t.Fatalf("%s: %s", at, r)
			}
			for _, s := range resources {
				id, _ := s.(map[string]any)["id"].(string)
				if seen[id] || !want[id] {
					t.Errorf("%s is seen twice or unknown", id)
				}
				seen[id] = true
			}
			at, _ = r.json["next"].(string)
			if _, back := r.json["previous"]; back != (pages > 0) {
				t.Errorf("page %d: previous is there: %v", pages, back)
			}
		}
		if n := 23 * len(strings.Fields(tt.people)); len(seen) != n || pages != tt.pages {
			t.Errorf("%s: %d sessions in %d pages, want %d in %d", tt.query, len(seen), pages, n, tt.pages)
		}
	}
	own := "/" + c.userID("alex") + "/sessions"
	for path, code := range map[string]string{
		"/sessions?limit=0": "USM-10011", "/sessions?limit=101": "USM-10011", "/sessions?limit=x": "USM-10011", "/sessions?limit=+5": "USM-10011", "/sessions?limit=": "USM-10011",
		"/sessions?since=-1": "USM-10011", "/sessions?until=0": "USM-10011", "/sessions?since=5&until=5": "USM-10011", "/sessions?until=99999999999999999999": "USM-10011",
		"/sessions?filter=": "USM-10011", "/sessions?filter=loginId": "USM-10011", "/sessions?filter=password+co+a": "USM-10011", "/sessions?filter=loginTime+eq+1": "USM-10011",
		"/sessions?offset=1": "UE-10000", "/sessions?limit=1&limit=2": "UE-10000", "/sessions?%zz": "UE-10000", "/sessions?filter=a;b": "UE-10000",
		own + "?since=1": "UE-10000", own + "?limit=1001": "USM-10011", own + "?offset=-1": "USM-10011", own + "?filter=x": "USM-10011",
		"/" + strings.Repeat("x", 129) + "/sessions": "USM-10008", "/a%20b/sessions": "USM-10008", own + "/a%00b": "USM-10009", own + "/" + strings.Repeat("x", 129): "USM-10009",
	} {
		if r := c.call("GET", "/api/users/v1", path, admin); r.status != 400 || r.json["code"] != code || r.json["traceId"] == "" {
			t.Errorf("GET %s: %s, want 400 %s", path, r, code)
		}
	}
	before := len(c.live("alex"))
	for path, code := range map[string]string{own + "?excludeCurrent=yes": "USM-10011", own + "?excludecurrent=true": "UE-10000", own + "?filter=loginId+eq+a": "UE-10000",
		own + "?excludeCurrent=true&excludeCurrent=false": "UE-10000"} {
		if r := c.call("DELETE", "/api/users/v1", path, admin); r.status != 400 || r.json["code"] != code {
			t.Errorf("DELETE %s: %s, want 400 %s", path, r, code)
		}
	}
	if len(c.live("alex")) != before {
		t.Error("a call that was refused ended something")
	}
	if r := c.call("GET", "/api/users/v1", own+"?limit=5&offset=20", admin); r.status != 200 || strings.Count(r.body, `"loginTime"`) != 3 {
		t.Errorf("behind an offset: %s", r)
	}
	if r := c.call("GET", "/api/users/v1", "/sessions/", admin); r.status != 200 {
		t.Errorf("with a slash: %s", r)
	}
	for _, method := range []string{"POST", "PUT", "PATCH"} {
		if r := c.call(method, "/api/users/v1", "/sessions", admin); r.status != 405 || r.header.Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("%s: %s %q", method, r, r.header.Get("Allow"))
		}
	}
}

// TestUsersAPIThrottlesGuesses: guesses over the API and at the sign-in page
// are counted together, and polling with the right password costs nobody a turn.
func TestUsersAPIThrottlesGuesses(t *testing.T) {
	c := openCounter(t, func(cfg *configs.Config) { cfg.Realms["default"].Throttle.Account = 3 })
	if r := c.call("GET", "/api/users/v1", "/me/sessions", basic("alex", "alex-demo")); r.status != 200 {
		t.Fatalf("%s", r)
	}
	for i := range 3 {
		if r := c.call("GET", "/api/users/v1", "/me/sessions", basic("alex", fmt.Sprint("guess ", i))); r.status != 401 {
			t.Errorf("guess %d: %s", i, r)
		}
	}
	for _, password := range []string{"another", "alex-demo", "alex-demo"} {
		r := c.call("GET", "/api/users/v1", "/me/sessions", basic("alex", password))
		if r.status != 429 || r.json["code"] != "429" || r.header.Get("Retry-After") == "" {
			t.Errorf("afterwards %q gets %s", password, r)
		}
	}
	_, final := newBrowser(t).Authorize(authorizeURL(c.Issuer("myAS")))
	if final.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the sign-in page answers %s", final.Status)
	}
	if count := c.audited("default"); count["sign_in wrong_credentials"] != 3 || count["sign_in throttled"] != 4 {
		t.Errorf("recorded: %v", count)
	}
	if r := c.call("GET", "/api/users/v1", "/me/sessions", basic("bea", "bea-demo")); r.status != 200 {
		t.Errorf("another account: %s", r)
	}
}

func TestUsersAPIPageNamesWhatThereIs(t *testing.T) {
	page, contract := document(t, "docs/users-api.md"), document(t, "sessions/usersapi/openapi.yaml")
	for _, code := range regexp.MustCompile(`\b(USM|UMG|UE|SE)-\d{5}\b`).FindAllString(contract, -1) {
		if !strings.Contains(page, "`"+code+"`") {
			t.Errorf("docs/users-api.md does not explain %s", code)
		}
	}
	for _, name := range []string{"userId", "applications", "sessionIds", "authorizationServer", "scopes", "userAgent", "ip", "loginTime", "lastAccessTime", "id",
		"current", "expiryTime", "device", "loginId", "sessionId", "appName", "ipAddress", "limit", "offset", "since", "until", "filter", "excludeCurrent"} {
		if !strings.Contains(page, "`"+name+"`") || !strings.Contains(contract, name) {
			t.Errorf("docs/users-api.md does not explain %s, or the contract has none", name)
		}
	}
}
