//go:build unix

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/storage/pgtest"
)

// bothServers are the authorization servers of the demo: JWT and opaque access
// tokens.
var bothServers = []string{"myAS", "partnerAS"}

// office is a server together with the relying parties of its authorization
// servers. All have clients of the same ids, with secrets of their own.
type office struct {
	*testServer
	app *httptest.Server // where all redirect URIs are

	t       testing.TB
	mu      sync.Mutex
	parties map[string]*relyingParty // by the path of their redirect URI
	next    string                   // where the relying parties send the browser on; empty: nowhere
	told    []string                 // requests of frames: path and query
	kept    map[string]string        // the relying parties' own sessions: subject by issuer and sid
}

// openOffice starts a server on a database (empty: a SQLite file) with the
// clients of officeClients at every authorization server. The changes come
// before the clients.
func openOffice(t testing.TB, database string, changes ...func(*configs.Config)) *office {
	t.Helper()
	return openOfficeWith(t, serverOptions{Database: database}, changes...)
}

// openOfficeWith is openOffice with other options than the database, but for
// Config, which the changes stand for.
func openOfficeWith(t testing.TB, options serverOptions, changes ...func(*configs.Config)) *office {
	t.Helper()
	o := &office{t: t, parties: map[string]*relyingParty{}}
	o.app = httptest.NewServer(http.HandlerFunc(o.callback))
	t.Cleanup(o.app.Close)
	options.Config = func(cfg *configs.Config) {
		for _, change := range changes {
			change(cfg)
		}
		for name, as := range cfg.AuthorizationServers {
			for _, m := range officeClients() {
				if len(m.GrantTypes) > 1 {
					m.RedirectURIs, m.PostLogoutRedirectURIs = []string{o.app.URL + "/" + name + "/" + m.ClientID}, []string{o.app.URL + byePath + m.ClientID}
					if m.ApplicationType != clients.ApplicationNative {
						m.FrontchannelLogoutURI = o.app.URL + frontPath + m.ClientID
					}
				}
				if m.ApplicationType == clients.ApplicationNative {
					m.RedirectURIs = []string{"http://127.0.0.1/" + name + "/" + m.ClientID}
				}
				if m.TokenEndpointAuthMethod != clients.AuthNone {
					m.ClientSecret = officeSecret(name, m.ClientID)
				}
				m.Defaults(as.AccessToken.Format)
				if faults := m.Validate(); len(faults) > 0 {
					t.Fatalf("client %s: %v", m.ClientID, faults)
				}
				as.Clients = append(as.Clients, m)
			}
		}
	}
	o.testServer = startServer(t, options)
	return o
}

func officeSecret(as, id string) string { return id + "-secret-at-" + as + "+ /%" }

func officeClients() []clients.Metadata {
	code := []string{clients.GrantAuthorizationCode, clients.GrantRefreshToken}
	const scope = "openid profile email offline_access"
	return []clients.Metadata{
		{ClientID: "web", ClientName: "Web", GrantTypes: code, Scope: scope},
		{ClientID: "post", GrantTypes: code, Scope: scope, TokenEndpointAuthMethod: clients.AuthClientSecretPost, IDTokenSignedAlg: "ES256"},
		{ClientID: "ps", GrantTypes: code, Scope: scope, IDTokenSignedAlg: "PS256"},
		{ClientID: "ed", GrantTypes: code, Scope: scope, IDTokenSignedAlg: "EdDSA"},
		{ClientID: "native", GrantTypes: code, Scope: scope, TokenEndpointAuthMethod: clients.AuthNone, ApplicationType: clients.ApplicationNative},
		{ClientID: "trusted", GrantTypes: code, Scope: scope, SkipConsent: true},
		{ClientID: "service", GrantTypes: []string{clients.GrantClientCredentials}, Scope: "reports archive"},
		{ClientID: "service-post", GrantTypes: []string{clients.GrantClientCredentials}, Scope: "reports", TokenEndpointAuthMethod: clients.AuthClientSecretPost},
		{ClientID: "inspector", GrantTypes: []string{clients.GrantClientCredentials}, Scope: "reports", Introspection: true},
	}
}

// onBothDatabases runs a test on SQLite and on PostgreSQL.
func onBothDatabases(t *testing.T, test func(t *testing.T, database string)) {
	t.Run("SQLite", func(t *testing.T) { t.Parallel(); test(t, "") })
	t.Run("PostgreSQL", func(t *testing.T) { t.Parallel(); test(t, pgtest.Shared(t).NewDatabase(t)) })
}

// relyingParty is one client, built from x/oauth2 and go-oidc.
type relyingParty struct {
	oauth2.Config
	as       string
	issuer   string
	provider *oidc.Provider

	mu      sync.Mutex
	begun   map[string]sentOff  // by state
	last    string              // state of the latest request
	arrived map[string]*landing // by state
}

// sentOff is an authorization request on its way.
type sentOff struct{ nonce, verifier string }

// landing is what came of an authorization request.
type landing struct {
	Token *oauth2.Token
	ID    *oidc.IDToken
	SID   string // the ID token's
	Alg   string // the ID token's signature algorithm
	Nonce string // as asked for
	Error string // error of the authorization response
	Err   error  // why the relying party refused the response
}

// party is the relying party of a client, discovered at its issuer.
func (o *office) party(as, id string) *relyingParty {
	o.t.Helper()
	path := "/" + as + "/" + id
	o.mu.Lock()
	defer o.mu.Unlock()
	if rp := o.parties[path]; rp != nil {
		return rp
	}
	provider, err := oidc.NewProvider(context.Background(), o.Issuer(as))
	if err != nil {
		o.t.Fatal(err)
	}
	rp := &relyingParty{as: as, issuer: o.Issuer(as), provider: provider, begun: map[string]sentOff{}, arrived: map[string]*landing{}}
	rp.Config = oauth2.Config{ClientID: id, ClientSecret: officeSecret(as, id), Endpoint: provider.Endpoint(), RedirectURL: o.app.URL + path,
		Scopes: []string{oidc.ScopeOpenID, "profile", "email"}}
	rp.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	switch id {
	case "post", "service-post":
		rp.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	case "native":
		rp.ClientSecret, rp.Endpoint.AuthStyle = "", oauth2.AuthStyleInParams
	}
	o.parties[path] = rp
	return rp
}

// Begin makes an authorization request and remembers it under its state.
func (rp *relyingParty) Begin(options ...oauth2.AuthCodeOption) (request, state string) {
	b := sentOff{nonce: oauth2.GenerateVerifier(), verifier: oauth2.GenerateVerifier()}
	state = oauth2.GenerateVerifier()
	rp.mu.Lock()
	rp.begun[state], rp.last = b, state
	rp.mu.Unlock()
	return rp.AuthCodeURL(state, append([]oauth2.AuthCodeOption{oidc.Nonce(b.nonce), oauth2.S256ChallengeOption(b.verifier)}, options...)...), state
}

// callback is the redirect URI of every relying party, for GET and form_post.
func (o *office) callback(w http.ResponseWriter, r *http.Request) {
	if o.leaving(w, r) {
		return
	}
	o.mu.Lock()
	rp, next := o.parties[r.URL.Path], o.next
	o.mu.Unlock()
	if rp == nil || r.ParseForm() != nil {
		http.NotFound(w, r)
		return
	}
	a := rp.finish(r.Context(), r.Form)
	if next != "" {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	switch {
	case a.Err != nil:
		fmt.Fprintf(w, `<p id="result">refused</p><pre>%v</pre>`, a.Err)
	case a.Error != "":
		fmt.Fprintf(w, `<p id="result">error %s by %s</p>`, a.Error, r.Method)
	default:
		o.keep(w, rp, a)
		fmt.Fprintf(w, `<p id="result">welcome %s by %s</p>`, a.ID.Subject, r.Method)
	}
}

// finish judges an authorization response as OpenID Connect Core §3.1.2.7 and
// RFC 9207 §2.4 ask, and redeems its code.
func (rp *relyingParty) finish(ctx context.Context, response url.Values) *landing {
	state := response.Get("state")
	rp.mu.Lock()
	b, ok := rp.begun[state]
	delete(rp.begun, state)
	rp.mu.Unlock()
	a := &landing{Nonce: b.nonce, Error: response.Get("error")}
	switch {
	case !ok:
		a.Err = fmt.Errorf("state %q is not one of ours", state)
	case response.Get("iss") != rp.issuer:
		a.Err = fmt.Errorf("iss is %q, want %q", response.Get("iss"), rp.issuer)
	case a.Error == "":
		a.Err = rp.redeem(ctx, response.Get("code"), b, a)
	}
	rp.mu.Lock()
	defer rp.mu.Unlock()
	rp.arrived[state] = a
	return a
}

// redeem exchanges a code and verifies the ID token that comes with it.
func (rp *relyingParty) redeem(ctx context.Context, code string, b sentOff, a *landing) (err error) {
	if a.Token, err = rp.Exchange(ctx, code, oauth2.VerifierOption(b.verifier)); err != nil {
		return err
	}
	if err := rp.verify(ctx, a); err != nil {
		return err
	}
	if a.ID.Nonce != b.nonce {
		return fmt.Errorf("nonce is %q, want %q", a.ID.Nonce, b.nonce)
	}
	return nil
}

// verify reads the ID token of a token response into a.
func (rp *relyingParty) verify(ctx context.Context, a *landing) (err error) {
	raw, _ := a.Token.Extra("id_token").(string)
	if a.ID, err = rp.provider.Verifier(&oidc.Config{ClientID: rp.ClientID}).Verify(ctx, raw); err != nil {
		return err
	}
	if err := a.ID.VerifyAccessToken(a.Token.AccessToken); err != nil {
		return err
	}
	var header struct{ Alg string }
	if err := json.Unmarshal(unbase64(strings.Split(raw, ".")[0]), &header); err != nil {
		return err
	}
	a.Alg = header.Alg
	var claims struct {
		SID string `json:"sid"`
	}
	err = a.ID.Claims(&claims)
	a.SID = claims.SID
	return err
}

// Arrive sends a browser through an authorization request to the relying
// party's callback, signing in and consenting where it is asked.
func (rp *relyingParty) Arrive(b *browser, options ...oauth2.AuthCodeOption) *landing {
	b.t.Helper()
	request, state := rp.Begin(options...)
	to := rp.follow(b, request)
	res, err := http.Get(to)
	if err != nil {
		b.t.Fatal(err)
	}
	body := text(b.t, res)
	rp.mu.Lock()
	defer rp.mu.Unlock()
	a := rp.arrived[state]
	if a == nil {
		b.t.Fatalf("%s at %s did not get its own state back: %s", rp.ClientID, rp.issuer, body)
	}
	return a
}

// SignIn is Arrive that must succeed.
func (rp *relyingParty) SignIn(b *browser, options ...oauth2.AuthCodeOption) *landing {
	b.t.Helper()
	a := rp.Arrive(b, options...)
	if a.Err != nil || a.Error != "" {
		b.t.Fatalf("%s at %s: error %q, %v", rp.ClientID, rp.issuer, a.Error, a.Err)
	}
	return a
}

// Code is the way to a code that nobody has redeemed.
func (rp *relyingParty) Code(b *browser, options ...oauth2.AuthCodeOption) (code string, sent sentOff) {
	b.t.Helper()
	request, state := rp.Begin(options...)
	to, err := url.Parse(rp.follow(b, request))
	if err != nil || to.Query().Get("code") == "" {
		b.t.Fatalf("there is no code in %s", to)
	}
	rp.mu.Lock()
	defer rp.mu.Unlock()
	return to.Query().Get("code"), rp.begun[state]
}

// follow walks an authorization request up to the redirect to the client.
func (rp *relyingParty) follow(b *browser, request string) string {
	b.t.Helper()
	callback, final := b.Authorize(request)
	if callback == nil {
		b.t.Fatalf("%s at %s: the way ended with %s at %s: %s", rp.ClientID, rp.issuer, final.Status, final.Request.URL.Path, text(b.t, final))
	}
	to, err := final.Location()
	if err != nil {
		b.t.Fatal(err)
	}
	return to.String()
}

// Silent asks with prompt=none and returns the parameters of the answer.
func (rp *relyingParty) Silent(b *browser) url.Values {
	b.t.Helper()
	request, _ := rp.Begin(oauth2.SetAuthURLParam("prompt", "none"))
	to := sentTo(b, request)
	if !strings.HasPrefix(to.String(), rp.RedirectURL) {
		b.t.Fatalf("prompt=none led to %q", to)
	}
	return to.Query()
}

// opened opens a page and returns its status and where it sends the browser.
func opened(b *browser, address string) (status int, to *url.URL) {
	b.t.Helper()
	res := b.Page(address)
	to, err := res.Location()
	if err != nil {
		to = &url.URL{}
	}
	return res.StatusCode, to
}

// sentTo is where a page sends the browser; an empty URL where it does not.
func sentTo(b *browser, address string) *url.URL {
	b.t.Helper()
	_, to := opened(b, address)
	return to
}

// signOut ends the browser's login at the realm whose pages are below base.
func signOut(b *browser, base string) {
	b.t.Helper()
	if page := b.Submit(b.Page(base+"/logout"), nil); page.StatusCode >= http.StatusBadRequest {
		b.t.Fatalf("signing out: %s", page.Status)
	}
}

// Token asks the token endpoint.
func (rp *relyingParty) Token(t testing.TB, form url.Values) reply {
	t.Helper()
	return rp.Ask(t, "/token", form)
}

// Refresh asks for new tokens without changing anything at the relying party.
func (rp *relyingParty) Refresh(t testing.TB, token string) reply {
	t.Helper()
	return rp.Token(t, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

// Redeem exchanges a code.
func (rp *relyingParty) Redeem(t testing.TB, code string, sent sentOff) reply {
	t.Helper()
	return rp.Token(t, url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {rp.RedirectURL}, "code_verifier": {sent.verifier}})
}

// Active introspects a token.
func (rp *relyingParty) Active(t testing.TB, token string) bool {
	t.Helper()
	a := rp.Ask(t, "/introspect", url.Values{"token": {token}})
	active, ok := a.json["active"].(bool)
	if a.status != http.StatusOK || !ok || (!active && len(a.json) != 1) {
		t.Errorf("introspection answered %s", a)
	}
	return active
}

// Ask posts a form to an endpoint with the client's proof.
func (rp *relyingParty) Ask(t testing.TB, endpoint string, form url.Values) reply {
	t.Helper()
	q := inquiry{form: url.Values{}}
	for name, values := range form {
		q.form[name] = values
	}
	if rp.Endpoint.AuthStyle == oauth2.AuthStyleInHeader {
		q.id, q.secret = rp.ClientID, rp.ClientSecret
	} else {
		q.form.Set("client_id", rp.ClientID)
		if rp.ClientSecret != "" {
			q.form.Set("client_secret", rp.ClientSecret)
		}
	}
	return inquire(t, http.MethodPost, rp.issuer+endpoint, q)
}

// Userinfo is the status that an access token gets there.
func (rp *relyingParty) Userinfo(t testing.TB, token string) int {
	t.Helper()
	return inquire(t, http.MethodGet, rp.issuer+"/userinfo", inquiry{bearer: token}).status
}

// inquiry is what inquire sends beside method and address.
type inquiry struct {
	bearer     string
	id, secret string // of HTTP Basic, form-encoded as RFC 6749 §2.3.1 asks
	form       url.Values
	header     http.Header
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
	json   map[string]any // nil where the body is no JSON object
}

// failure is the error code of an OAuth 2.0 error, or of a session API's.
func (r reply) failure() string {
	if code, ok := r.json["error"].(string); ok {
		return code
	}
	if all, ok := r.json["errors"].([]any); ok && len(all) == 1 {
		code, _ := all[0].(map[string]any)["code"].(string)
		return code
	}
	return ""
}

// String is for messages; it holds tokens of the test's own server only.
func (r reply) String() string { return fmt.Sprintf("%d %s", r.status, r.body) }

// inquire sends one request, as a program without cookies.
func inquire(t testing.TB, method, address string, q inquiry) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(q.form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if q.form == nil {
		req.Body, req.ContentLength = http.NoBody, 0
	} else {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, values := range q.header {
		req.Header[name] = values
	}
	if q.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+q.bearer)
	}
	if q.id != "" {
		req.SetBasicAuth(url.QueryEscape(q.id), url.QueryEscape(q.secret))
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	r := reply{status: res.StatusCode, header: res.Header, body: text(t, res)}
	if json.Unmarshal([]byte(r.body), &r.json) != nil {
		r.json = nil
	}
	return r
}

// unbase64 decodes a part of a JWT; nil where it can't be decoded.
func unbase64(part string) []byte {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return nil
	}
	return raw
}

// took notes that an outside program takes part in a test, for the report of
// `make test`.
func took(t testing.TB, program string) {
	t.Helper()
	tookPart(t, program, 1)
}

// tookPart is took for a number of tests; 0: one was left out for want of the
// program.
func tookPart(t testing.TB, program string, tests int) {
	t.Helper()
	name := os.Getenv("GATEHOUSE_TEST_USES")
	if name == "" {
		return
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// One write: other packages append at the same time.
	if _, err := fmt.Fprintf(f, "%s %d\n", program, tests); err != nil {
		t.Fatal(err)
	}
}
