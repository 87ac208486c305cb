//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/storage/pgtest"
)

// While PostgreSQL is away everything that needs it is answered with 503, soon
// and in the form of its endpoint, and when it is back everything goes on by
// itself.
func TestServerOutlivesAnOutageOfItsDatabase(t *testing.T) {
	outages(t, 1)
}

func TestLongServerOutlivesOutagesOfItsDatabase(t *testing.T) {
	if !long() {
		return
	}
	outages(t, 5)
}

func outages(t *testing.T, each int) {
	server := pgtest.Start(t, pgtest.Options{})
	parties, change := faultChanges()
	n := startProcess(t, processOptions{Database: server.NewDatabase(t), Change: change})[0]
	s := newStranded(t, n, parties)
	l := newLoad(t, n, parties)
	l.outage = true
	began := time.Now()
	for i := range 2 * each {
		immediate := i%2 == 1
		l.start()
		l.await(100)
		if err := server.Stop(immediate); err != nil {
			t.Fatal(err)
		}
		poll(t, "the node says that it is not ready", func() bool { return notReady(n) })
		before := l.unavailable.Load()
		s.mustBeToldSo()
		poll(t, "the load meets the outage", func() bool { return l.unavailable.Load() > before+faultWorkers })
		if err := server.Restart(); err != nil {
			t.Fatal(err)
		}
		poll(t, "the node is ready again", func() bool { return !notReady(n) })
		l.await(100)
		l.stop()
		l.verify()
		s.mustBeUnharmed()
	}
	slowest := time.Duration(l.slowest.Load())
	t.Logf("%d outages in %s: %d sessions begun, %d refreshes and %d endings acknowledged, %d answers of 503; the slowest took %s",
		2*each, time.Since(began).Round(time.Millisecond), l.begun.Load(), l.refreshed.Load(), l.ended.Load(), l.unavailable.Load(), slowest.Round(time.Millisecond))
	t.Logf("checked afterwards: %d live sessions, %d with a refresh under way, %d endings, %d endings under way",
		l.checkedLive.Load(), l.checkedInFlight.Load(), l.checkedEnded.Load(), l.checkedUnsure.Load())
	if slowest > faultPatience {
		t.Errorf("a request took %s", slowest)
	}
	if l.checkedLive.Load() == 0 || l.checkedEnded.Load() == 0 || l.unavailable.Load() < 100 {
		t.Error("that was too little to mean anything")
	}
}

// stranded is somebody who is in the middle of everything when the database
// goes away.
type stranded struct {
	t       *testing.T
	node    *node
	desks   []*desk  // one for each form of access token
	tokens  []tokens // of a session at each
	codes   []string // not redeemed
	browser *visitor // signed in
	fresh   *visitor // not signed in, at the sign-in page
	signIn  *form    // its form, filled in
	consent *url.URL // the consent page, for browser
	allow   *form    // its form, filled in
	album   *desk    // which the user has not consented to
}

func newStranded(t *testing.T, n *node, parties []party) *stranded {
	s := &stranded{t: t, node: n}
	s.desks = desks(t, []*node{n}, parties[0], parties[len(parties)-1])[0]
	s.album = desks(t, []*node{n}, albumParty)[0][0]
	s.browser = newVisitor(wide(n), "alex", "alex-demo")
	for _, d := range s.desks {
		s.tokens = append(s.tokens, d.redeem(d.authorize(s.browser).Get("code")))
		s.codes = append(s.codes, d.authorize(s.browser).Get("code"))
	}
	s.fresh = newVisitor(wide(n), "bea", "bea-demo")
	s.signIn, _ = s.fresh.fill(s.follow(s.fresh, s.album.request()))
	page := s.follow(s.browser, s.album.request())
	s.consent = page.Request.URL
	s.allow, _ = s.browser.fill(page)
	if s.signIn == nil || !s.signIn.has("password") || s.allow == nil || !s.allow.has("decision") {
		t.Fatal("there is no sign-in page or no consent page")
	}
	return s
}

// follow opens a page through redirects.
func (s *stranded) follow(v *visitor, address string) *http.Response {
	s.t.Helper()
	for range 5 {
		req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, address, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		res, err := v.do(req)
		if err != nil {
			s.t.Fatal(err)
		}
		to, err := res.Location()
		if err != nil {
			return res
		}
		address = to.String()
	}
	s.t.Fatalf("redirects without end at %s", address)
	return nil
}

// mustBeToldSo asks every endpoint. Nothing of it may have an effect.
func (s *stranded) mustBeToldSo() {
	s.t.Helper()
	for i, d := range s.desks {
		s.protocol(d, s.tokens[i], s.codes[i])
		s.sessionAPI(d, s.tokens[i].Access)
		s.public(d)
	}
	s.pagesAre503()
	s.operations()
}

// told holds an answer against what it has to be.
func (s *stranded) told(what string, answer wholeReply, err error, says string) {
	s.t.Helper()
	switch {
	case err != nil:
		s.t.Errorf("%s has no answer: %v", what, err)
	case !away(answer, says):
		s.t.Errorf("%s is answered %d, Retry-After %q: %.300s", what, answer.status, answer.header.Get("Retry-After"), answer.body)
	case answer.took > faultPatience:
		s.t.Errorf("%s takes %s", what, answer.took)
	case strings.Contains(answer.header.Get("WWW-Authenticate"), "error="):
		s.t.Errorf("%s says %s", what, answer.header.Get("WWW-Authenticate"))
	}
}

func (s *stranded) protocol(d *desk, held tokens, code string) {
	stranger := &desk{party: party{d.as, "registered-elsewhere", "its-secret", ""}, issuer: d.issuer, http: d.http, t: d.t}
	for _, c := range []struct {
		what, path string
		form       url.Values
		by         *desk
	}{
		{"a refresh", "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {held.Refresh}}, d},
		{"a redemption", "/token", url.Values{"grant_type": {"authorization_code"}, "code": {code},
			"redirect_uri": {d.redirectURI}, "code_verifier": {pkceVerifier}}, d},
		{"a redemption with a wrong verifier", "/token", url.Values{"grant_type": {"authorization_code"}, "code": {code},
			"redirect_uri": {d.redirectURI}, "code_verifier": {"another" + pkceVerifier}}, d},
		{"a client that may be registered", "/token", url.Values{"grant_type": {"client_credentials"}}, stranger},
		{"introspection of an access token", "/introspect", url.Values{"token": {held.Access}}, d},
		{"introspection of a refresh token", "/introspect", url.Values{"token": {held.Refresh}}, d},
		{"revocation of an access token", "/revoke", url.Values{"token": {held.Access}}, d},
		{"revocation of a refresh token", "/revoke", url.Values{"token": {held.Refresh}}, d},
	} {
		answer, err := c.by.ask(http.MethodPost, c.path, c.form, "")
		s.told(c.what, answer, err, `"error":"temporarily_unavailable"`)
	}
	answer, err := d.ask(http.MethodGet, "/userinfo", nil, held.Access)
	s.told("userinfo", answer, err, `"error":"temporarily_unavailable"`)
}

func (s *stranded) sessionAPI(d *desk, access string) {
	for _, c := range []struct{ method, path, body, origin string }{
		{http.MethodGet, "/session/", "", ""},
		{http.MethodGet, "/sessions/", "", ""},
		{http.MethodGet, "/sessions/some-id/", "", ""},
		{http.MethodPatch, "/session/", `{"data":{"type":"oauth2-session","id":"some-id","attributes":{}}}`, ""},
		{http.MethodDelete, "/session/", "", ""},
		{http.MethodDelete, "/sessions/some-id/", "", ""},
		{http.MethodDelete, "/sessions/", "", ""},
		{http.MethodDelete, "/sessions/?excludeCurrent=true", "", ""},
		{http.MethodGet, "/sessions/", "", "http://localhost:9009"},
		{http.MethodGet, "/sessions/", "", "https://registered-elsewhere.example"},
	} {
		what := c.method + " " + c.path + " " + c.origin
		req, err := http.NewRequestWithContext(s.t.Context(), c.method, d.issuer+c.path, strings.NewReader(c.body))
		if err != nil {
			s.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+access)
		if c.body != "" {
			req.Header.Set("Content-Type", "application/vnd.api+json")
		}
		if c.origin != "" {
			req.Header.Set("Origin", c.origin)
		}
		answer, err := readReply(d.http, req)
		s.told(what, answer, err, `"code":"TEMPORARILY_UNAVAILABLE"`)
		var document struct {
			Errors []struct{ Status string }
		}
		if err := json.Unmarshal(answer.body, &document); err != nil || len(document.Errors) != 1 || document.Errors[0].Status != "503" ||
			answer.header.Get("Content-Type") != "application/vnd.api+json" {
			s.t.Errorf("%s is answered %s %s, not with an error of JSON:API", what, answer.header.Get("Content-Type"), answer.body)
		}
	}
}

// public is what needs no database.
func (s *stranded) public(d *desk) {
	for _, path := range []string{"/jwks", "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"} {
		answer, err := d.ask(http.MethodGet, path, nil, "")
		if err != nil || answer.status != http.StatusOK || answer.took > faultPatience {
			s.t.Errorf("%s: %d in %s, %v", path, answer.status, answer.took, err)
		}
	}
}

func (s *stranded) pagesAre503() {
	browse := func(what string, v *visitor, req *http.Request, err error) wholeReply {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
		began := time.Now()
		res, err := v.do(req)
		if err != nil {
			s.t.Errorf("%s has no answer: %v", what, err)
			return wholeReply{}
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			s.t.Error(err)
		}
		return wholeReply{res.StatusCode, res.Header, body, time.Since(began)}
	}
	get := func(address string) (*http.Request, error) {
		return http.NewRequestWithContext(s.t.Context(), http.MethodGet, address, nil)
	}
	post := func(f *form) (*http.Request, error) { return f.request(s.t.Context()) }
	unknown := &desk{party: party{"myAS", "registered-elsewhere", "", "http://localhost/"}, issuer: s.album.issuer}
	logout := &form{action: s.consent.JoinPath("../logout"), post: true}
	for what, c := range map[string]struct {
		by      *visitor
		request func() (*http.Request, error)
	}{
		"/authorize": {s.browser, func() (*http.Request, error) { return get(s.desks[0].request()) }},
		"/authorize of a client that may be registered": {s.fresh, func() (*http.Request, error) { return get(unknown.request()) }},
		"the sign-in page of somebody signed in":        {s.browser, func() (*http.Request, error) { return get(s.signIn.action.String()) }},
		"signing in":                                    {s.fresh, func() (*http.Request, error) { return post(s.signIn) }},
		"the consent page":                              {s.browser, func() (*http.Request, error) { return get(s.consent.String()) }},
		"consenting":                                    {s.browser, func() (*http.Request, error) { return post(s.allow) }},
		"the sign-out page":                             {s.browser, func() (*http.Request, error) { return get(logout.action.String()) }},
		"signing out":                                   {s.browser, func() (*http.Request, error) { return post(logout) }},
	} {
		req, err := c.request()
		answer := browse(what, c.by, req, err)
		s.told(what, answer, nil, "<html")
		if len(answer.header.Values("Set-Cookie")) > 0 {
			s.t.Errorf("%s changes cookies", what)
		}
	}
	// Nobody looks at a page that answers prompt=none; the client is told.
	req, err := get(s.desks[0].request("prompt", "none"))
	answer := browse("prompt=none", s.browser, req, err)
	to, err := url.Parse(answer.header.Get("Location"))
	if err != nil || answer.status != http.StatusSeeOther || to.Query().Get("error") != "temporarily_unavailable" || to.Host != "localhost:9009" {
		s.t.Errorf("prompt=none is answered %d to %s", answer.status, to)
	}
	// Whoever is not signed in needs no database to be asked.
	req, err = get(s.album.request())
	if answer := browse("/authorize of somebody new", s.fresh, req, err); answer.status != http.StatusSeeOther {
		s.t.Errorf("/authorize of somebody new is answered %d", answer.status)
	}
}

func (s *stranded) operations() {
	for path, want := range map[string]int{"/readyz": http.StatusServiceUnavailable, "/healthz": http.StatusOK, "/metrics": http.StatusOK} {
		began := time.Now()
		res, err := http.Get(s.node.Operations + path)
		if err != nil {
			s.t.Fatal(err)
		}
		body := text(s.t, res)
		if res.StatusCode != want || time.Since(began) > faultPatience {
			s.t.Errorf("%s: %d in %s", path, res.StatusCode, time.Since(began))
		}
		if path == "/readyz" && !strings.Contains(body, "database is not reachable") {
			s.t.Errorf("%s: %s", path, body)
		}
	}
}

// mustBeUnharmed goes on where everything was left, and gets to the same place
// again.
func (s *stranded) mustBeUnharmed() {
	s.t.Helper()
	for i, d := range s.desks {
		if !d.alive(s.tokens[i].Access) {
			s.t.Errorf("after the outage the access token of %s is dead", d.as)
		}
		if next := d.refresh(s.tokens[i].Refresh); next.Status != http.StatusOK {
			s.t.Errorf("after the outage the refresh token of %s gets %d %s", d.as, next.Status, next.Error)
		}
		first := d.redeem(s.codes[i])
		if first.Status != http.StatusOK {
			s.t.Errorf("after the outage a code of %s gets %d %s", d.as, first.Status, first.Error)
		}
		s.tokens[i] = first
		s.codes[i] = d.authorize(s.browser).Get("code")
	}
	if code := s.album.authorize(newVisitor(s.desks[0].http.Transport, "bea", "bea-demo")).Get("code"); code == "" {
		s.t.Error("after the outage nobody can sign in")
	}
}

// A token that was signed with a key which the node has not seen yet may be
// good: while it can't look, it doesn't say that the token is not, nor that it
// has revoked it.
func TestTokenOfAnUnknownKeyIsNotRefusedInAnOutage(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{})
	database := server.NewDatabase(t)
	nodes := startProcess(t, processOptions{Database: database, Nodes: 2})
	if code, _, errs := command(t, "", "keys", "rotate", "--as", "myAS", "--now", "--config", nodes[1].ConfigFile); code != exitOK {
		t.Fatal(errs)
	}
	nodes[1].Kill()
	nodes[1] = restarted(nodes[1])
	at := desks(t, nodes, albumParty)
	b := newVisitor(wide(nodes[1]), "alex", "alex-demo")
	held := at[1][0].redeem(at[1][0].authorize(b).Get("code"))
	if held.Access == "" {
		t.Fatalf("no access token: %d", held.Status)
	}
	if err := server.Stop(false); err != nil {
		t.Fatal(err)
	}
	d := at[0][0]
	s := &stranded{t: t, node: nodes[0]}
	// More than once: the node does not look again for some seconds.
	for i := range 3 {
		for _, c := range []struct{ method, path, says string }{
			{http.MethodPost, "/introspect", "temporarily_unavailable"},
			{http.MethodPost, "/revoke", "temporarily_unavailable"},
			{http.MethodGet, "/userinfo", "temporarily_unavailable"},
			{http.MethodGet, "/session/", "TEMPORARILY_UNAVAILABLE"},
		} {
			bearer, body := held.Access, url.Values(nil)
			if c.method == http.MethodPost {
				bearer, body = "", url.Values{"token": {held.Access}}
			}
			answer, err := d.ask(c.method, c.path, body, bearer)
			s.told(fmt.Sprintf("%s, time %d,", c.path, i+1), answer, err, c.says)
		}
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	poll(t, "the token is good when the node can look", func() bool { return d.userinfo(held.Access) == http.StatusOK })
}
