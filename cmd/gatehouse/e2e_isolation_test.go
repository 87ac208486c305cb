//go:build unix

package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"

	"gatehouse.dev/gatehouse/configs"
)

// withStaff adds a realm that has a user alex, too, and an authorization
// server in it.
func withStaff(cfg *configs.Config) {
	staff := *cfg.Realms[defaultRealm]
	staff.Users = []configs.User{{Username: "alex", Password: "alex-staff", Email: "alex@staff.example"}}
	cfg.Realms["staff"] = &staff
	as := *cfg.AuthorizationServers["myAS"]
	as.Realm, as.Clients = "staff", nil
	cfg.AuthorizationServers["staffAS"] = &as
}

// loot is everything that a client of one authorization server can have in
// hand, all of it alive.
type loot struct {
	from            *relyingParty
	access, refresh string
	idToken, sid    string
	code            string
	sent            sentOff
	clientToken     string // of the client credentials grant
	assertion       func() string
	browser         *browser
}

func gather(t *testing.T, o *office, as string, keys map[string]map[string]any) *loot {
	t.Helper()
	b := newBrowser(t)
	if as == "staffAS" {
		b.As("alex", "alex-staff")
	}
	rp := o.party(as, "web")
	signed := rp.SignIn(b)
	l := &loot{from: rp, access: signed.Token.AccessToken, refresh: signed.Token.RefreshToken, sid: signed.SID, browser: b}
	l.idToken, _ = signed.Token.Extra("id_token").(string)
	l.code, l.sent = rp.Code(b)
	r := o.party(as, "service").Token(t, url.Values{"grant_type": {"client_credentials"}})
	l.clientToken, _ = r.json["access_token"].(string)
	l.assertion = func() string { return assertionFor(t, keys["ES256"], "machine-ES256", o.Issuer(as)) }
	l.mustLive(t, o)
	return l
}

// mustLive fails the test where anything of the loot is worth nothing at home;
// the code is not tried, because that would use it up.
func (l *loot) mustLive(t *testing.T, o *office) {
	t.Helper()
	inspector := o.party(l.from.as, "inspector")
	for name, token := range map[string]string{"access token": l.access, "refresh token": l.refresh, "client's token": l.clientToken} {
		if !inspector.Active(t, token) {
			t.Errorf("the %s is worth nothing at its own server", name)
		}
	}
	if l.from.Userinfo(t, l.access) != http.StatusOK || inquire(t, http.MethodGet, l.from.issuer+"/sessions/"+l.sid, inquiry{bearer: l.access}).status != http.StatusOK {
		t.Error("the access token is worth nothing at its own server")
	}
	if r := inquire(t, http.MethodPost, l.from.issuer+"/token", assertionInquiry(l.assertion())); r.status != http.StatusOK {
		t.Errorf("the assertion is worth nothing at its own server: %s", r)
	}
}

// assertionFor signs a client assertion (RFC 7523 §3).
func assertionFor(t *testing.T, private map[string]any, client, audience string) string {
	t.Helper()
	text, err := json.Marshal(private)
	if err != nil {
		t.Fatal(err)
	}
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON(text); err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(jwt.Claims{Issuer: client, Subject: client, Audience: jwt.Audience{audience},
		ID: oauth2.GenerateVerifier(), Expiry: jwt.NewNumericDate(time.Now().Add(time.Minute))}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func assertionInquiry(assertion string) inquiry {
	return inquiry{form: url.Values{"grant_type": {"client_credentials"}, "client_assertion": {assertion},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}}}
}

func TestNothingOfOneAuthorizationServerIsWorthAnythingAtAnother(t *testing.T) {
	t.Parallel()
	keys, withKeys := withKeyClients(t)
	o := openOffice(t, "", withStaff, withKeys)
	loots := map[string]*loot{}
	for _, as := range []string{"myAS", "partnerAS", "staffAS"} {
		loots[as] = gather(t, o, as, keys)
	}
	for from, l := range loots {
		for at, home := range loots {
			if from != at {
				t.Run(from+" at "+at, func(t *testing.T) { bringAbroad(t, o, l, home) })
			}
		}
	}
	for _, l := range loots {
		l.mustLive(t, o) // nobody could harm it from abroad
		if r := l.from.Redeem(t, l.code, l.sent); r.status != http.StatusOK {
			t.Errorf("the code of %s was lost abroad: %s", l.from.as, r)
		}
	}
}

// bringAbroad tries everything of l at every endpoint of home's server. Home's
// client has the same client_id as l's, and its own credentials are used where
// the endpoint demands some.
func bringAbroad(t *testing.T, o *office, l, home *loot) {
	at := home.from
	inspector := o.party(at.as, "inspector")
	refused := func(name string, r reply, status int, code string) {
		t.Helper()
		if r.status != status || r.failure() != code {
			t.Errorf("%s: %s, want %d %s", name, r, status, code)
		}
	}

	// The token endpoint, and client credentials at all that take some.
	code := url.Values{"grant_type": {"authorization_code"}, "code": {l.code}, "redirect_uri": {l.from.RedirectURL}, "code_verifier": {l.sent.verifier}}
	refused("code", at.Token(t, code), http.StatusBadRequest, "invalid_grant")
	code.Set("redirect_uri", at.RedirectURL)
	refused("code, own redirect URI", at.Token(t, code), http.StatusBadRequest, "invalid_grant")
	refused("refresh token", at.Refresh(t, l.refresh), http.StatusBadRequest, "invalid_grant")
	for endpoint, form := range map[string]url.Values{
		"/token":      {"grant_type": {"refresh_token"}, "refresh_token": {home.refresh}},
		"/introspect": {"token": {home.access}},
		"/revoke":     {"token": {home.access}},
	} {
		refused("client secret at "+endpoint, inquire(t, http.MethodPost, at.issuer+endpoint, inquiry{id: l.from.ClientID, secret: l.from.ClientSecret, form: form}),
			http.StatusUnauthorized, "invalid_client")
		withAssertion := assertionInquiry(l.assertion())
		form = maps.Clone(form)
		maps.Copy(form, url.Values{"client_assertion": withAssertion.form["client_assertion"], "client_assertion_type": withAssertion.form["client_assertion_type"]})
		refused("client assertion at "+endpoint, inquire(t, http.MethodPost, at.issuer+endpoint, inquiry{form: form}), http.StatusUnauthorized, "invalid_client")
	}
	service := url.Values{"grant_type": {"client_credentials"}}
	refused("service's secret", inquire(t, http.MethodPost, at.issuer+"/token", inquiry{id: "service", secret: officeSecret(l.from.as, "service"), form: service}),
		http.StatusUnauthorized, "invalid_client")

	// Every token at introspection, revocation and where access tokens go.
	for name, token := range map[string]string{"access token": l.access, "refresh token": l.refresh, "ID token": l.idToken, "client's token": l.clientToken, "code": l.code} {
		for _, asker := range []*relyingParty{inspector, at} {
			if asker.Active(t, token) {
				t.Errorf("introspection by %s: the %s is active", asker.ClientID, name)
			}
			// RFC 7009 §2.2: as for any unknown token.
			if r := asker.Ask(t, "/revoke", url.Values{"token": {token}}); r.status != http.StatusOK {
				t.Errorf("revocation of the %s by %s: %s", name, asker.ClientID, r)
			}
		}
		refused(name+" at userinfo", inquire(t, http.MethodGet, at.issuer+"/userinfo", inquiry{bearer: token}), http.StatusUnauthorized, "invalid_token")
		refused(name+" posted to userinfo", inquire(t, http.MethodPost, at.issuer+"/userinfo", inquiry{form: url.Values{"access_token": {token}}}), http.StatusUnauthorized, "invalid_token")
		for _, path := range []string{"/session/", "/sessions/", "/sessions/" + home.sid + "/", "/sessions/" + l.sid + "/"} {
			refused(name+" at "+path, inquire(t, http.MethodGet, at.issuer+path, inquiry{bearer: token}), http.StatusUnauthorized, "ACCESS_TOKEN_INVALID")
			if path != "/sessions/" {
				refused(name+" ending "+path, inquire(t, http.MethodDelete, at.issuer+path, inquiry{bearer: token}), http.StatusUnauthorized, "ACCESS_TOKEN_INVALID")
			}
		}
	}

	// The session id, asked for with a token that is good here.
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		refused(method+" of the session id", inquire(t, method, at.issuer+"/sessions/"+l.sid+"/", inquiry{bearer: home.access}), http.StatusNotFound, "SESSION_NOT_FOUND")
	}
	if list := inquire(t, http.MethodGet, at.issuer+"/sessions/", inquiry{bearer: home.access}); list.status != http.StatusOK || strings.Contains(list.body, l.sid) {
		t.Errorf("the list of sessions: %s", list)
	}

	// The ID token as a hint at the authorization endpoint, and the stamp of a
	// page at the pages.
	request, _ := at.Begin(oauth2.SetAuthURLParam("id_token_hint", l.idToken), oauth2.SetAuthURLParam("prompt", "none"))
	if to := sentTo(home.browser, request); to.Query().Get("error") != "invalid_request" || to.Query().Has("code") {
		t.Errorf("id_token_hint: the browser was sent to %q", to)
	}
	foreign, _ := l.from.Begin()
	page := sentTo(newBrowser(t), foreign)
	if !strings.HasSuffix(page.Path, "/login") {
		t.Fatalf("the browser was sent to %q", page)
	}
	swapped := page.Query()
	swapped.Set("as", at.as)
	for _, base := range []string{o.URL, o.URL + "/realms/staff"} {
		for _, path := range []string{"/login", "/consent"} {
			if status, _ := opened(newBrowser(t), base+path+"?"+swapped.Encode()); status != http.StatusBadRequest {
				t.Errorf("a stamp at %s%s of %s: %d", base, path, at.as, status)
			}
		}
	}
}

func TestRealmsShareNeitherUsersNorLogins(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "", withStaff)
	customer, staff := o.party("myAS", "trusted"), o.party("staffAS", "trusted")

	// The same name, two people.
	b := newBrowser(t)
	first := customer.SignIn(b)
	colleague := newBrowser(t).As("alex", "alex-staff")
	second := staff.SignIn(colleague)
	if first.ID.Subject == second.ID.Subject || first.SID == second.SID {
		t.Errorf("both realms' alex is %s in session %s", first.ID.Subject, first.SID)
	}
	if info := inquire(t, http.MethodGet, staff.issuer+"/userinfo", inquiry{bearer: second.Token.AccessToken}); info.json["sub"] != second.ID.Subject || strings.Contains(info.body, "example.com") {
		t.Errorf("staff's userinfo: %s", info)
	}

	// Neither password is good in the other realm.
	for password, rp := range map[string]*relyingParty{"alex-demo": staff, "alex-staff": customer} {
		stranger := newBrowser(t).As("alex", password)
		request, _ := rp.Begin()
		callback, final := stranger.Authorize(request)
		if page := text(t, final); callback != nil || !strings.Contains(page, "User name or password is wrong.") {
			t.Errorf("%s at %s: %v, %s", password, rp.as, callback, page)
		}
	}
	// Nor are users of one realm known to the other.
	request, _ := staff.Begin()
	callback, final := newBrowser(t).As("bea", "bea-demo").Authorize(request)
	if page := text(t, final); callback != nil || !strings.Contains(page, "User name or password is wrong.") {
		t.Errorf("bea at the realm staff: %v, %s", callback, page)
	}

	// A login of one realm is none of the other, whatever the cookie is called.
	if answer := staff.Silent(b); answer.Get("error") != "login_required" {
		t.Errorf("staff's server takes the other realm's login: %v", answer)
	}
	home, err := url.Parse(o.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range []struct {
		from, to *browser
		cookie   string
		rp       *relyingParty
	}{{b, newBrowser(t), "gatehouse-default", staff}, {colleague, newBrowser(t), "gatehouse-staff", customer}} {
		value := ""
		for _, cookie := range pair.from.Jar.Cookies(home) {
			if cookie.Name == pair.cookie {
				value = cookie.Value
			}
		}
		if value == "" {
			t.Fatalf("the browser has no cookie %s", pair.cookie)
		}
		for _, name := range []string{"gatehouse-default", "gatehouse-staff"} {
			pair.to.Jar.SetCookies(home, []*http.Cookie{{Name: name, Value: value, Path: "/"}})
		}
		if answer := pair.rp.Silent(pair.to); answer.Get("error") != "login_required" {
			t.Errorf("%s takes the value of the other realm's cookie: %v", pair.rp.as, answer)
		}
	}

	// One browser in both; signing out of one realm leaves the other.
	b.As("alex", "alex-staff")
	staff.SignIn(b)
	if customer.Silent(b).Get("code") == "" || staff.Silent(b).Get("code") == "" {
		t.Error("one browser can't be signed in to both realms")
	}
	signOut(b, o.URL+"/realms/staff")
	if staff.Silent(b).Get("error") != "login_required" || customer.Silent(b).Get("code") == "" {
		t.Error("signing out of the realm staff ended more or less than that")
	}
	if customer.Userinfo(t, first.Token.AccessToken) != http.StatusOK || staff.Userinfo(t, second.Token.AccessToken) != http.StatusOK {
		t.Error("signing out of the realm staff in one browser ended other sessions")
	}
}
