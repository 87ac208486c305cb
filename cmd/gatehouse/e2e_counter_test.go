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
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
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
