//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"golang.org/x/oauth2"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage"
)

// counter is a server with two realms of people, reached over TLS, and what is
// needed to call its users API in every way.
type counter struct {
	*testServer
	t        *testing.T
	ca       *authority // of the server's certificate
	clientCA *authority // of those that it takes
	realms   map[string]*storage.Realm
	contract validator.Validator
}

const (
	allScopes = "openid internal_login internal_session_view internal_session_delete"
	chrome73  = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/73.0.3683.103 Safari/537.36"
)

var peoplesPasswords = map[string]string{"alex": "alex-demo", "bea": "bea-demo", "admin": "admin-demo", "boss": "boss-staff", "staff alex": "alex-staff"}

// openCounter has alex, bea and admin in the realm default, with two
// authorization servers, and another alex and the administrator boss in staff.
func openCounter(t *testing.T, changes ...func(*configs.Config)) *counter {
	t.Helper()
	c := &counter{t: t, ca: newAuthority(t, "ca"), clientCA: newAuthority(t, "client ca"), realms: map[string]*storage.Realm{}}
	dir := t.TempDir()
	_, _, certificate, key := issue(t, c.ca, "server")
	c.testServer = startServer(t, serverOptions{Config: func(cfg *configs.Config) {
		cfg.PublicURL = strings.Replace(cfg.PublicURL, "http:", "https:", 1)
		cfg.TLS = configs.TLS{
			CertificateFile: writeFile(t, filepath.Join(dir, "cert.pem"), certificate),
			KeyFile:         writeFile(t, filepath.Join(dir, "key.pem"), key),
			ClientCAFile:    writeFile(t, filepath.Join(dir, "ca.pem"), c.clientCA.pem),
		}
		withStaff(cfg)
		cfg.Realms["staff"].Users = append(cfg.Realms["staff"].Users, configs.User{Username: "boss", Password: "boss-staff", Roles: []string{"session-admin"}})
		for _, realm := range cfg.Realms {
			realm.UsersAPI.CertificateUser = configs.CertificateCN
		}
		for name, as := range cfg.AuthorizationServers {
			for _, m := range []clients.Metadata{
				{ClientID: "desk", ClientName: "Desk of " + name, ClientSecret: "desk-secret", Scope: allScopes + " offline_access", SkipConsent: true,
					RedirectURIs: []string{"https://desk.example/callback"}, GrantTypes: []string{"authorization_code", "refresh_token"}},
				{ClientID: "other", ClientSecret: "other-secret", Scope: "openid", SkipConsent: true,
					RedirectURIs: []string{"https://desk.example/callback"}, GrantTypes: []string{"authorization_code"}},
				{ClientID: "robot", ClientSecret: "robot-secret", Scope: "reports internal_session_view", GrantTypes: []string{"client_credentials"}},
			} {
				m.Defaults(as.AccessToken.Format)
				as.Clients = append(as.Clients, m)
			}
		}
		for _, change := range changes {
			change(cfg)
		}
	}})
	db, err := storage.Open(t.Context(), storage.Config{URL: string(c.Config.Database)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	for _, name := range c.Config.RealmNames() {
		if c.realms[name], err = openRealm(c.Config, db, name); err != nil {
			t.Fatal(err)
		}
	}
	description, err := os.ReadFile(repository + "/sessions/usersapi/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	document, err := libopenapi.NewDocument(bytes.Replace(description, []byte(`url: "{base}"`), []byte(`url: "`+c.URL+`/api/users/v1"`), 1))
	if err != nil {
		t.Fatal(err)
	}
	var errs []error
	if c.contract, errs = validator.NewValidator(document); len(errs) > 0 {
		t.Fatal(errs)
	}
	return c
}

func realmOf(person string) string {
	if person == "boss" || person == "staff alex" {
		return "staff"
	}
	return "default"
}

func username(person string) string { return strings.TrimPrefix(person, "staff ") }

func (c *counter) userID(person string) string {
	c.t.Helper()
	user, err := c.realms[realmOf(person)].UserByName(c.t.Context(), username(person))
	if err != nil {
		c.t.Fatal(err)
	}
	return user.ID
}

// login signs a person in to nothing in particular, in one more browser.
func (c *counter) login(person string) *sessions.Login {
	c.t.Helper()
	now := time.Now()
	hash := make([]byte, 32)
	rand.Read(hash)
	login, err := c.realms[realmOf(person)].SignIn(c.t.Context(), sessions.SignIn{UserID: c.userID(person), AuthTime: now, CookieHash: hash,
		ExpiresAt: now.Add(time.Hour), Address: "192.0.2.7", UserAgent: chrome73}, sessions.Ending{})
	if err != nil {
		c.t.Fatal(err)
	}
	return login
}

// live are the ids of a person's live entries.
func (c *counter) live(person string) []string {
	c.t.Helper()
	entries, err := c.realms[realmOf(person)].Entries(c.t.Context(), sessions.EntryQuery{UserID: c.userID(person)})
	if err != nil {
		c.t.Fatal(err)
	}
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	return ids
}

// audited is how often each of some events stands in a realm's record, by type
// and reason.
func (c *counter) audited(realm string) map[string]int {
	c.t.Helper()
	events, err := c.realms[realm].Events(c.t.Context(), audit.Filter{})
	if err != nil {
		c.t.Fatal(err)
	}
	count := map[string]int{}
	for _, e := range events {
		count[strings.TrimSpace(fmt.Sprint(e.Type, " ", e.Reason))] += e.Count
	}
	return count
}

// proof is what a request carries; the zero value is nothing.
type proof struct {
	header      http.Header
	certificate *tls.Certificate
	cookies     []*http.Cookie
}

func header(name, value string) proof { return proof{header: http.Header{name: {value}}} }

func basic(user, password string) proof {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return proof{header: r.Header}
}

func bearerProof(token string) proof { return header("Authorization", "Bearer "+token) }

// certificate is a client certificate by an authority.
func (c *counter) certificate(by *authority, change func(*x509.Certificate)) proof {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, &key.PublicKey, by.key)
	if err != nil {
		c.t.Fatal(err)
	}
	return proof{certificate: &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
}

func named(name string) func(*x509.Certificate) {
	return func(template *x509.Certificate) { template.Subject = pkix.Name{CommonName: name} }
}

// call sends one request to the users API and holds the answer against its
// description.
func (c *counter) call(method, base, path string, p proof) reply {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.URL+base+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	maps.Copy(req.Header, p.header)
	for _, cookie := range p.cookies {
		req.AddCookie(cookie)
	}
	config := &tls.Config{RootCAs: c.ca.pool()}
	if p.certificate != nil { // also where the server doesn't name its authority
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.certificate, nil }
	}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		return reply{body: err.Error()}
	}
	r := reply{status: res.StatusCode, header: res.Header, body: text(c.t, res)}
	if json.Unmarshal([]byte(r.body), &r.json) != nil {
		r.json = nil
	}
	c.check(method, path, r)
	return r
}

func (c *counter) check(method, path string, r reply) {
	c.t.Helper()
	if r.status == http.StatusNotFound && r.json["request_id"] != nil {
		return // there is no such realm
	}
	if _, below, ok := strings.Cut(path, "/api/users/v1"); ok {
		path = below
	}
	if r.status == http.StatusMethodNotAllowed {
		method = http.MethodGet // where the description has the answer to other methods
	}
	path, query, _ := strings.Cut(path, "?")
	path = strings.TrimSuffix(path, "/") + "?" + query
	req, err := http.NewRequestWithContext(context.Background(), method, c.URL+"/api/users/v1"+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	res := &http.Response{StatusCode: r.status, Header: r.header, Body: io.NopCloser(strings.NewReader(r.body)), Request: req}
	if r.status == http.StatusNoContent {
		res.Body = http.NoBody
	}
	if ok, faults := c.contract.ValidateHttpResponse(req, res); !ok {
		for _, fault := range faults {
			c.t.Errorf("%s %s answered %s against its description: %s: %s", method, path, r, fault.Message, fault.Reason)
			for _, detail := range fault.SchemaValidationErrors {
				c.t.Errorf("  at %s: %s", detail.FieldPath, detail.Reason)
			}
		}
	}
	if strings.Contains(r.body, "null") || r.header.Get("Cache-Control") != "no-store" || r.header.Get("Access-Control-Allow-Origin") != "" ||
		r.header.Get("Set-Cookie") != "" || (r.status == http.StatusNoContent) != (r.body == "") {
		c.t.Errorf("%s %s: %v, %s", method, path, r.header, r)
	}
}

// tokens are what a person's browser got at a client of an authorization server.
func (c *counter) tokens(b *browser, as, client, scope string) (access, refresh, sid string) {
	c.t.Helper()
	issuer := c.Issuer(as)
	const verifier = "a-verifier-that-is-known-to-everybody-who-reads-this"
	values, final := b.Authorize(issuer + "/authorize?" + url.Values{"response_type": {"code"}, "client_id": {client}, "nonce": {"n"},
		"redirect_uri": {"https://desk.example/callback"}, "scope": {scope}, "code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)},
		"code_challenge_method": {"S256"}}.Encode())
	if values.Get("code") == "" {
		c.t.Fatalf("no code: %v %s", values, final.Status)
	}
	r := c.form(issuer+"/token", client, url.Values{"grant_type": {"authorization_code"}, "code": {values.Get("code")}, "redirect_uri": {"https://desk.example/callback"},
		"code_verifier": {verifier}})
	access, _ = r.json["access_token"].(string)
	refresh, _ = r.json["refresh_token"].(string)
	claims := map[string]any{}
	if idToken, _ := r.json["id_token"].(string); idToken != "" {
		_ = json.Unmarshal(unbase64(strings.Split(idToken, ".")[1]), &claims)
	}
	sid, _ = claims["sid"].(string)
	if access == "" || sid == "" {
		c.t.Fatalf("no token: %s", r)
	}
	return access, refresh, sid
}

// form posts a form to an authorization server as a client.
func (c *counter) form(address, client string, form url.Values) reply {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(client, client+"-secret")
	return c.send(req)
}

func (c *counter) send(req *http.Request) reply {
	c.t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.ca.pool()}}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	r := reply{status: res.StatusCode, header: res.Header, body: text(c.t, res)}
	if json.Unmarshal([]byte(r.body), &r.json) != nil {
		r.json = nil
	}
	return r
}

// with asks with an access token.
func (c *counter) with(address, token string) int {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return c.send(req).status
}

// as is a way to prove that one is a person.
func (c *counter) as(person, way string) proof {
	c.t.Helper()
	server := map[string]string{"default": "partnerAS", "staff": "staffAS"}[realmOf(person)]
	switch way {
	case "basic":
		return basic(username(person), peoplesPasswords[person])
	case "bearer":
		access, _, _ := c.tokens(newBrowser(c.t).As(username(person), peoplesPasswords[person]), server, "desk", allScopes)
		return bearerProof(access)
	case "certificate":
		return c.certificate(c.clientCA, named(username(person)))
	case "cookie":
		b := newBrowser(c.t).As(username(person), peoplesPasswords[person])
		c.tokens(b, server, "desk", "openid")
		home, err := url.Parse(c.URL)
		if err != nil {
			c.t.Fatal(err)
		}
		return proof{cookies: b.Jar.Cookies(home)}
	}
	return proof{}
}

// Every call, in every way to prove who one is, as each person. What the
// answers are is written down by hand; {alex} is alex's id and {login} one of
// alex's logins.
func TestUsersAPICalls(t *testing.T) {
	c := openCounter(t)
	alex := c.userID("alex")
	people := []string{"alex", "bea", "admin", "boss"}
	const ends, missed, refused, viewed = "ends", "access_refused not_found", "access_refused not_allowed", "sessions_viewed"
	type answer struct {
		status int
		code   string
		effect string // ends: what is alex's; or the event that is recorded
	}
	nobody := answer{401, "401", ""}
	forbidden, mayNotEnd := answer{403, "403", refused}, answer{403, "USM-10010", refused}
	for _, tt := range []struct {
		method, path string
		want         [4]answer // of alex, bea, admin, and another realm's boss
	}{
		{"GET", "/me/sessions", [4]answer{{200, "", ""}, {200, "", ""}, {200, "", ""}, nobody}},
		{"DELETE", "/me/sessions", [4]answer{{204, "", ends}, {204, "", ""}, {204, "", ""}, nobody}},
		{"DELETE", "/me/sessions/{login}", [4]answer{{204, "", ends}, {204, "", missed}, {204, "", missed}, nobody}},
		{"GET", "/{alex}/sessions", [4]answer{forbidden, forbidden, {200, "", viewed}, nobody}},
		{"GET", "/{alex}/sessions/{login}", [4]answer{forbidden, forbidden, {200, "", viewed}, nobody}},
		{"DELETE", "/{alex}/sessions", [4]answer{mayNotEnd, mayNotEnd, {204, "", ends}, nobody}},
		{"DELETE", "/{alex}/sessions/{login}", [4]answer{mayNotEnd, mayNotEnd, {204, "", ends}, nobody}},
		{"GET", "/sessions", [4]answer{forbidden, forbidden, {200, "", viewed}, nobody}},
	} {
		for _, way := range []string{"nothing", "cookie", "basic", "bearer", "certificate"} {
			for i, person := range people {
				want := tt.want[i]
				if way == "nothing" || way == "cookie" {
					want = nobody
				}
				name := strings.Join([]string{tt.method, tt.path, "with", way, "as", person}, " ")
				p := c.as(person, way)
				login := c.login("alex")
				base := "/api/users/v1"
				if i%2 == 1 {
					base = "/t/default/api/users/v1"
				}
				before := c.audited("default")
				r := c.call(tt.method, base, strings.NewReplacer("{alex}", alex, "{login}", login.ID).Replace(tt.path), p)
				code, _ := r.json["code"].(string)
				if r.status != want.status || code != want.code {
					t.Errorf("%s: %s, want %d %s", name, r, want.status, want.code)
				}
				if ended := !slices.Contains(c.live("alex"), login.ID); ended != (want.effect == ends) {
					t.Errorf("%s: alex's login has ended: %v", name, ended)
				}
				after := c.audited("default")
				if want.effect != ends && want.effect != "" && after[want.effect] != before[want.effect]+1 {
					t.Errorf("%s: %q was recorded %d times", name, want.effect, after[want.effect]-before[want.effect])
				}
				if asked := after["ending_requested"] - before["ending_requested"]; (asked == 1) != (person == "admin" && want.effect == ends) {
					t.Errorf("%s: ending_requested was recorded %d times", name, asked)
				}
				if want.status == 401 {
					if challenges := r.header["Www-Authenticate"]; len(challenges) != 2 || !strings.HasPrefix(challenges[0], `Basic realm="default"`) ||
						!strings.HasPrefix(challenges[1], `Bearer realm="default"`) {
						t.Errorf("%s: challenges %q", name, challenges)
					}
				}
				if want.status == 200 && tt.path != "/me/sessions" && !strings.Contains(r.body, login.ID) {
					t.Errorf("%s: %s has not alex's login", name, r)
				}
				if want.status == 200 && tt.path == "/me/sessions" && strings.Contains(r.body, login.ID) != (person == "alex") {
					t.Errorf("%s: %s", name, r)
				}
			}
		}
	}
	events, err := c.realms["default"].Events(t.Context(), audit.Filter{UserID: alex, Types: []audit.Type{audit.LoginEnded}})
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]bool{}
	for _, e := range events {
		reasons[e.Actor+" "+e.Reason] = true
	}
	if want := map[string]bool{"user:" + alex + " logout": true, "user:" + c.userID("admin") + " ended_by_admin": true}; !maps.Equal(reasons, want) {
		t.Errorf("alex's logins were ended by %v", reasons)
	}
}

func TestUsersAPITokens(t *testing.T) {
	c := openCounter(t)
	alex, admin := c.userID("alex"), c.userID("admin")
	c.login("alex")
	token := func(person, as, client, scope string) string {
		access, _, _ := c.tokens(newBrowser(t).As(username(person), peoplesPasswords[person]), as, client, scope)
		return access
	}
	adminsLogin := token("admin", "myAS", "desk", "openid internal_login")
	adminsView := token("admin", "myAS", "desk", "openid internal_session_view")
	adminsDelete := token("admin", "partnerAS", "desk", "openid internal_session_delete")
	none := token("admin", "myAS", "other", "openid")
	ended, _, sid := c.tokens(newBrowser(t).As("admin", "admin-demo"), "myAS", "desk", allScopes)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, c.Issuer("myAS")+"/sessions/"+sid+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+ended)
	if r := c.send(req); r.status != 204 {
		t.Fatalf("ending the session: %s", r)
	}
	robot := c.form(c.Issuer("myAS")+"/token", "robot", url.Values{"grant_type": {"client_credentials"}})
	if robot.json["scope"] != "reports" {
		t.Errorf("a client without a user got %s", robot)
	}
	if r := c.form(c.Issuer("myAS")+"/token", "robot", url.Values{"grant_type": {"client_credentials"}, "scope": {"internal_session_view"}}); r.status != 400 || r.failure() != "invalid_scope" {
		t.Errorf("a client without a user asks for the scope: %s", r)
	}
	values, _ := newBrowser(t).As("admin", "admin-demo").Authorize(c.Issuer("myAS") + "/authorize?" + url.Values{"response_type": {"code"}, "client_id": {"other"},
		"nonce": {"n"}, "redirect_uri": {"https://desk.example/callback"}, "scope": {"openid internal_session_view"}}.Encode())
	if values.Get("error") != "invalid_scope" {
		t.Errorf("a client that is not registered for the scope: %v", values)
	}
	robotToken, _ := robot.json["access_token"].(string)
	foreign := token("boss", "staffAS", "desk", allScopes)
	user := "/" + alex + "/sessions"
	for _, tt := range []struct {
		name, method, path string
		proof
		status int
		code   string
	}{
		{"view without its scope", "GET", user, bearerProof(adminsLogin), 403, "403"},
		{"delete without its scope", "DELETE", user, bearerProof(adminsView), 403, "403"},
		{"view with delete's scope", "GET", "/sessions", bearerProof(adminsDelete), 403, "403"},
		{"own with view's scope", "GET", "/me/sessions", bearerProof(adminsView), 403, "403"},
		{"own without any", "GET", "/me/sessions", bearerProof(none), 403, "403"},
		{"view", "GET", user, bearerProof(adminsView), 200, ""},
		{"view as a proxy sends it", "GET", user, header("Authorization", "bearer "+adminsView), 200, ""},
		{"own", "GET", "/me/sessions", bearerProof(adminsLogin), 200, ""},
		{"ended", "GET", "/me/sessions", bearerProof(ended), 401, "401"},
		{"another realm's", "GET", "/me/sessions", bearerProof(foreign), 401, "401"},
		{"another realm's administrator's", "GET", "/sessions", bearerProof(foreign), 401, "401"},
		{"without a user", "GET", "/sessions", bearerProof(robotToken), 403, "403"},
		{"without a user, own", "DELETE", "/me/sessions", bearerProof(robotToken), 403, "403"},
		{"changed", "GET", "/me/sessions", bearerProof(adminsLogin[:len(adminsLogin)-3] + "AAA"), 401, "401"},
		{"rubbish", "GET", "/me/sessions", bearerProof("a.b.c"), 401, "401"},
		{"empty", "GET", "/me/sessions", bearerProof(""), 401, "401"},
		{"unknown scheme", "GET", "/me/sessions", header("Authorization", "Digest x"), 401, "401"},
		{"scheme of another binding", "GET", "/me/sessions", header("Authorization", "DPoP "+adminsLogin), 401, "401"},
		{"in the query", "GET", "/me/sessions?access_token=" + adminsLogin, proof{}, 401, "401"},
		{"two", "GET", "/me/sessions", proof{header: http.Header{"Authorization": {"Bearer " + adminsLogin, "Bearer " + adminsLogin}}}, 401, "401"},
		{"basic and bearer", "GET", "/me/sessions", proof{header: http.Header{"Authorization": {basic("admin", "admin-demo").header.Get("Authorization"), "Bearer " + adminsLogin}}}, 401, "401"},
		{"malformed basic", "GET", "/me/sessions", header("Authorization", "Basic !"), 401, "401"},
		{"wrong password", "GET", "/me/sessions", basic("admin", "wrong"), 401, "401"},
		{"unknown user", "GET", "/me/sessions", basic("nobody", "wrong"), 401, "401"},
		{"client's secret", "GET", "/me/sessions", basic("desk", "desk-secret"), 401, "401"},
		{"delete", "DELETE", user, bearerProof(adminsDelete), 204, ""},
	} {
		r := c.call(tt.method, "/api/users/v1", tt.path, tt.proof)
		if code, _ := r.json["code"].(string); r.status != tt.status || code != tt.code {
			t.Errorf("%s: %s, want %d %s", tt.name, r, tt.status, tt.code)
		}
		challenge := strings.Join(r.header["Www-Authenticate"], "\n")
		if tt.status == 403 && strings.Contains(tt.name, "scope") && !strings.Contains(challenge, `error="insufficient_scope", scope="internal_`) {
			t.Errorf("%s: challenge %q", tt.name, challenge)
		}
		if tt.name == "ended" && !strings.Contains(challenge, `error="invalid_token"`) {
			t.Errorf("%s: challenge %q", tt.name, challenge)
		}
	}
	// The session that the token belongs to stays where that is asked for.
	access, _, _ := c.tokens(newBrowser(t).As("admin", "admin-demo"), "partnerAS", "desk", allScopes)
	c.login("admin")
	current := func(path string) (own int) {
		r := c.call("GET", "/api/users/v1", path, bearerProof(access))
		return strings.Count(r.body, `"current":true`)
	}
	if current("/me/sessions") != 1 || current("/"+admin+"/sessions") != 1 || current("/sessions") != 1 {
		t.Error("not one session is the current one")
	}
	if r := c.call("GET", "/api/users/v1", "/me/sessions", basic("admin", "admin-demo")); strings.Contains(r.body, `"current":true`) {
		t.Errorf("with a password there is a current session: %s", r)
	}
	if r := c.call("DELETE", "/api/users/v1", "/me/sessions?excludeCurrent=true", bearerProof(access)); r.status != 204 || len(c.live("admin")) != 1 || current("/me/sessions") != 1 {
		t.Errorf("%s; left: %q", r, c.live("admin"))
	}
	if r := c.call("DELETE", "/api/users/v1", "/me/sessions?excludeCurrent=false", bearerProof(access)); r.status != 204 || len(c.live("admin")) != 0 {
		t.Errorf("%s; left: %q", r, c.live("admin"))
	}
	// A role that is taken away is gone at the next call; so is a locked account.
	if _, err := c.realms["default"].End(t.Context(), sessions.Target{User: admin}, sessions.Ending{Reason: sessions.ReasonUserLocked,
		Effects: []sessions.Effect{sessions.LockUser{UserID: admin}}}); err != nil {
		t.Fatal(err)
	}
	before := c.audited("default")
	for _, p := range []proof{basic("admin", "admin-demo"), c.certificate(c.clientCA, named("admin"))} {
		if r := c.call("GET", "/api/users/v1", "/sessions", p); r.status != 401 {
			t.Errorf("of a locked account: %s", r)
		}
	}
	if n := c.audited("default")["sign_in locked"] - before["sign_in locked"]; n != 2 {
		t.Errorf("%d refusals of a locked account were recorded, want 2", n)
	}
}

func TestUsersAPICertificates(t *testing.T) {
	c := openCounter(t, func(cfg *configs.Config) { cfg.Realms["staff"].UsersAPI.CertificateUser = configs.CertificateSANMail })
	stranger := newAuthority(t, "client ca") // of the same name
	mail := func(addresses ...string) func(*x509.Certificate) {
		return func(template *x509.Certificate) { template.EmailAddresses = addresses }
	}
	for _, tt := range []struct {
		name, base string
		proof
		status int // 0: there is no connection
	}{
		{"good", "/api/users/v1", c.certificate(c.clientCA, named("alex")), 200},
		{"other letters", "/api/users/v1", c.certificate(c.clientCA, named("ALEX")), 200},
		{"unknown name", "/api/users/v1", c.certificate(c.clientCA, named("nobody")), 401},
		{"no name", "/api/users/v1", c.certificate(c.clientCA, named("")), 401},
		{"two names", "/api/users/v1", c.certificate(c.clientCA, func(template *x509.Certificate) {
			cn := asn1.ObjectIdentifier{2, 5, 4, 3}
			template.Subject = pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: cn, Value: "alex"}, {Type: cn, Value: "bea"}}}
		}), 401},
		{"another attribute", "/api/users/v1", c.certificate(c.clientCA, mail("alex")), 401},
		{"another authority", "/api/users/v1", c.certificate(stranger, named("alex")), 0},
		{"expired", "/api/users/v1", c.certificate(c.clientCA, func(template *x509.Certificate) {
			named("alex")(template)
			template.NotAfter = time.Now().Add(-time.Minute)
		}), 0},
		{"for servers", "/api/users/v1", c.certificate(c.clientCA, func(template *x509.Certificate) {
			named("alex")(template)
			template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), 0},
		{"mail in the realm that takes it", "/t/staff/api/users/v1", c.certificate(c.clientCA, mail("boss")), 200},
		{"two mails", "/t/staff/api/users/v1", c.certificate(c.clientCA, mail("boss", "alex")), 401},
		{"name in the realm that takes mail", "/t/staff/api/users/v1", c.certificate(c.clientCA, named("boss")), 401},
		{"and a token that is refused", "/api/users/v1", proof{certificate: c.certificate(c.clientCA, named("alex")).certificate,
			header: http.Header{"Authorization": {"Bearer x"}}}, 401},
		{"in headers", "/api/users/v1", proof{header: http.Header{"X-Client-Cert": {url.QueryEscape(c.clientCA.pem)}, "X-Ssl-Client-S-Dn": {"CN=alex"},
			"X-Forwarded-Client-Cert": {`Subject="CN=alex"`}, "Client-Cert": {":AAAA:"}, "X-Forwarded-User": {"alex"}}}, 401},
	} {
		if r := c.call("GET", tt.base, "/me/sessions", tt.proof); r.status != tt.status {
			t.Errorf("%s: %s, want %d", tt.name, r, tt.status)
		}
	}
}

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
