//go:build unix

package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"gatehouse.dev/gatehouse/configs"
)

func TestIndependentRelyingPartiesSignUsersIn(t *testing.T) {
	algs := map[string]string{"web": "RS256", "post": "ES256", "ps": "PS256", "ed": "EdDSA", "native": "RS256"}
	onBothDatabases(t, func(t *testing.T, database string) {
		o := openOffice(t, database)
		for _, as := range bothServers {
			for id, alg := range algs {
				t.Run(as+"/"+id, func(t *testing.T) {
					t.Parallel()
					signInRefreshRevoke(t, o.party(as, id), o.party(as, "inspector"), alg)
				})
			}
		}
	})
}

// signInRefreshRevoke is the life of a session as a relying party sees it.
func signInRefreshRevoke(t *testing.T, rp, inspector *relyingParty, alg string) {
	signed := rp.SignIn(newBrowser(t))
	if signed.Alg != alg {
		t.Errorf("the ID token is signed with %s, registered is %s", signed.Alg, alg)
	}
	if !isSessionID(signed.SID) {
		t.Errorf("sid is %q", signed.SID)
	}
	if scope := signed.Token.Extra("scope"); scope != "openid profile email" {
		t.Errorf("scope is %v", scope)
	}
	if jwt := strings.Count(signed.Token.AccessToken, ".") == 2; jwt != (rp.as == "myAS") {
		t.Errorf("at %s, that the access token is a JWT is %t", rp.as, jwt)
	}

	info, err := rp.provider.UserInfo(t.Context(), oauth2.StaticTokenSource(signed.Token))
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		PreferredUsername string `json:"preferred_username"`
	}
	if err := info.Claims(&claims); err != nil || info.Subject != signed.ID.Subject || info.Email != "alex@example.com" || claims.PreferredUsername != "alex" {
		t.Errorf("userinfo says %+v, %+v, %v; the ID token says %s", info, claims, err, signed.ID.Subject)
	}

	// x/oauth2 refreshes what its Expiry calls expired.
	expired := *signed.Token
	expired.Expiry = time.Now().Add(-time.Minute)
	fresh, err := rp.TokenSource(t.Context(), &expired).Token()
	if err != nil {
		t.Fatal(err)
	}
	if fresh.AccessToken == signed.Token.AccessToken || fresh.RefreshToken == "" || fresh.RefreshToken == signed.Token.RefreshToken {
		t.Error("the refresh did not bring new tokens")
	}
	refreshed := &landing{Token: fresh}
	if err := rp.verify(t.Context(), refreshed); err != nil {
		t.Fatal(err)
	}
	// OpenID Connect Core §12.2.
	if refreshed.ID.Subject != signed.ID.Subject || refreshed.SID != signed.SID || refreshed.ID.Nonce != "" || refreshed.Alg != alg {
		t.Errorf("the refreshed ID token says %+v, sid %s", refreshed.ID, refreshed.SID)
	}

	for name, token := range map[string]string{"first access token": signed.Token.AccessToken, "access token": fresh.AccessToken, "refresh token": fresh.RefreshToken} {
		r := inspector.Ask(t, "/introspect", url.Values{"token": {token}})
		if r.json["active"] != true || r.json["sid"] != signed.SID || r.json["sub"] != signed.ID.Subject || r.json["client_id"] != rp.ClientID ||
			r.json["scope"] != "openid profile email" || r.json["iss"] != rp.issuer || r.json["username"] != "alex" {
			t.Errorf("introspection of the %s: %s", name, r)
		}
	}

	if r := rp.Ask(t, "/revoke", url.Values{"token": {fresh.AccessToken}}); r.status != http.StatusOK {
		t.Errorf("revocation answered %s", r)
	}
	if inspector.Active(t, fresh.AccessToken) || rp.Userinfo(t, fresh.AccessToken) != http.StatusUnauthorized {
		t.Error("the revoked access token lives")
	}
	if !inspector.Active(t, signed.Token.AccessToken) || !inspector.Active(t, fresh.RefreshToken) {
		t.Error("the revocation of one access token reached further")
	}
	if r := rp.Ask(t, "/revoke", url.Values{"token": {fresh.RefreshToken}, "token_type_hint": {"refresh_token"}}); r.status != http.StatusOK {
		t.Errorf("revocation answered %s", r)
	}
	if inspector.Active(t, signed.Token.AccessToken) || inspector.Active(t, fresh.RefreshToken) {
		t.Error("the session outlives the revocation of its refresh token")
	}
	fresh.Expiry = expired.Expiry
	if _, err := rp.TokenSource(t.Context(), fresh).Token(); !isOAuth(err, "invalid_grant") {
		t.Errorf("a refresh with the revoked refresh token: %v", err)
	}
}

// isOAuth reports whether x/oauth2 was refused with an error code.
func isOAuth(err error, code string) bool {
	var refused *oauth2.RetrieveError
	return errors.As(err, &refused) && refused.ErrorCode == code
}

func TestSecondClientNeedsNoForm(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	b := newBrowser(t)
	first := o.party("myAS", "web").SignIn(b)

	// Each of these is answered by one redirect to the client: no form, no page.
	for _, id := range []string{"web", "trusted"} {
		rp := o.party("myAS", id)
		request, _ := rp.Begin()
		if to := sentTo(b, request); !strings.HasPrefix(to.String(), rp.RedirectURL+"?") || to.Query().Get("code") == "" {
			t.Errorf("%s: the browser was sent to %q", id, to)
		}
		if again := rp.SignIn(b); again.ID.Subject != first.ID.Subject || (again.SID == first.SID) != (id == "web") {
			t.Errorf("%s: sid %s, sub %s after sid %s, sub %s", id, again.SID, again.ID.Subject, first.SID, first.ID.Subject)
		}
	}

	// The realm's other server takes the login over, and asks for consent alone.
	for as, id := range map[string]string{"myAS": "post", "partnerAS": "web"} {
		request, _ := o.party(as, id).Begin()
		if to := sentTo(b, request); to.Path != "/consent" {
			t.Errorf("%s at %s: the browser was sent to %q", id, as, to)
		}
	}
	request, _ := o.party("partnerAS", "trusted").Begin()
	if to := sentTo(newBrowser(t), request); to.Path != "/login" {
		t.Errorf("a browser that never signed in was sent to %q", to)
	}
}

func TestDeniedConsentReachesTheClient(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	for _, as := range bothServers {
		b := newBrowser(t)
		b.Decision = "deny"
		for range 2 { // a refusal is not remembered
			if a := o.party(as, "web").Arrive(b); a.Error != "access_denied" || a.Err != nil || a.Token != nil {
				t.Errorf("%s: %+v", as, a)
			}
		}
		if answer := o.party(as, "web").Silent(b); answer.Get("error") != "consent_required" {
			t.Errorf("%s: prompt=none after the refusal: %v", as, answer)
		}
		b.Decision = "allow"
		o.party(as, "web").SignIn(b)
	}
}

func TestClientCredentialsGrant(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	for _, as := range bothServers {
		inspector := o.party(as, "inspector")
		for _, id := range []string{"service", "service-post"} {
			rp := o.party(as, id)
			config := clientcredentials.Config{ClientID: id, ClientSecret: rp.ClientSecret, TokenURL: rp.Endpoint.TokenURL,
				AuthStyle: rp.Endpoint.AuthStyle, Scopes: []string{"reports"}}
			token, err := config.Token(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if token.RefreshToken != "" || token.Extra("id_token") != nil {
				t.Errorf("%s: a client got a user's tokens", id)
			}
			r := inspector.Ask(t, "/introspect", url.Values{"token": {token.AccessToken}})
			if r.json["active"] != true || r.json["client_id"] != id || r.json["scope"] != "reports" || r.json["sid"] != nil || r.json["username"] != nil {
				t.Errorf("introspection: %s", r)
			}
			if status := rp.Userinfo(t, token.AccessToken); status < 400 {
				t.Errorf("userinfo answers a client's own token with %d", status)
			}

			for name, refusal := range map[string]struct {
				change func(*clientcredentials.Config)
				code   string
			}{
				"wrong secret":   {func(c *clientcredentials.Config) { c.ClientSecret += "x" }, "invalid_client"},
				"empty secret":   {func(c *clientcredentials.Config) { c.ClientSecret = "" }, "invalid_client"},
				"unknown client": {func(c *clientcredentials.Config) { c.ClientID = "nobody" }, "invalid_client"},
				"other scope":    {func(c *clientcredentials.Config) { c.Scopes = []string{"reports", "admin"} }, "invalid_scope"},
				"other method": {func(c *clientcredentials.Config) {
					c.AuthStyle = oauth2.AuthStyleInHeader + oauth2.AuthStyleInParams - c.AuthStyle
				}, "invalid_client"},
				"other grant": {func(c *clientcredentials.Config) { c.ClientID, c.ClientSecret = "web", officeSecret(as, "web") }, ""},
			} {
				refused := config
				refusal.change(&refused)
				_, err := refused.Token(t.Context())
				if refusal.code == "" { // which of the two client errors depends on the method
					if err == nil {
						t.Errorf("%s at %s: %s was accepted", id, as, name)
					}
				} else if !isOAuth(err, refusal.code) {
					t.Errorf("%s at %s: %s: %v, want %s", id, as, name, err, refusal.code)
				}
			}
		}
	}
}

func TestOfflineAccessOutlivesTheLogin(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	for _, as := range bothServers {
		t.Run(as, func(t *testing.T) {
			b := newBrowser(t)
			bound := o.party(as, "web").SignIn(b)
			offline := o.party(as, "post").SignIn(b, oauth2.SetAuthURLParam("scope", "openid offline_access"))
			signOut(b, o.URL)
			if r := o.party(as, "web").Refresh(t, bound.Token.RefreshToken); r.failure() != "invalid_grant" {
				t.Errorf("a refresh token of the login: %s", r)
			}
			rp := o.party(as, "post")
			expired := *offline.Token
			expired.Expiry = time.Now().Add(-time.Minute)
			fresh, err := rp.TokenSource(t.Context(), &expired).Token()
			if err != nil {
				t.Fatalf("the offline session did not outlive its login: %v", err)
			}
			a := &landing{Token: fresh}
			if err := rp.verify(t.Context(), a); err != nil || a.SID != "" || a.ID.Subject != offline.ID.Subject {
				t.Errorf("the ID token of a detached session: %+v, sid %q, %v", a.ID, a.SID, err)
			}
			if rp.Userinfo(t, fresh.AccessToken) != http.StatusOK {
				t.Error("userinfo refuses the offline session")
			}
		})
	}
}

func TestNativeAppsUseAnyLoopbackPort(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	for _, as := range bothServers {
		b := newBrowser(t)
		rp := o.party(as, "native")
		rp.SignIn(b) // on the office's own port
		app := httptest.NewServer(http.HandlerFunc(o.callback))
		t.Cleanup(app.Close)
		rp.RedirectURL = app.URL + "/" + as + "/native"
		rp.SignIn(b)

		for _, uri := range []string{
			strings.Replace(rp.RedirectURL, "127.0.0.1", "localhost", 1),
			strings.Replace(rp.RedirectURL, "127.0.0.1", "127.0.0.2", 1),
			strings.Replace(rp.RedirectURL, "http:", "https:", 1),
			rp.RedirectURL + "/",
			rp.RedirectURL + "?x=y",
			app.URL + "/",
			"https://attacker.example/" + as + "/native",
		} {
			request, _ := rp.Begin(oauth2.SetAuthURLParam("redirect_uri", uri))
			if status, to := opened(b, request); status != http.StatusBadRequest || to.String() != "" {
				t.Errorf("%s: redirect_uri %s: %d to %q", as, uri, status, to)
			}
		}
	}
}

func TestCodesAreForWhoAskedForThem(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	for _, as := range bothServers {
		for _, id := range []string{"web", "post", "native"} {
			rp, other := o.party(as, id), o.party(as, "ps")
			b := newBrowser(t)
			rp.SignIn(b)
			good := func(code string, sent sentOff) url.Values {
				return url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {rp.RedirectURL}, "code_verifier": {sent.verifier}}
			}
			for name, refusal := range map[string]struct {
				by     *relyingParty
				change func(url.Values)
				code   string
			}{
				"another client":      {other, func(url.Values) {}, "invalid_grant"},
				"no verifier":         {rp, func(v url.Values) { v.Del("code_verifier") }, "invalid_grant"},
				"wrong verifier":      {rp, func(v url.Values) { v.Set("code_verifier", oauth2.GenerateVerifier()) }, "invalid_grant"},
				"wrong redirect URI":  {rp, func(v url.Values) { v.Set("redirect_uri", rp.RedirectURL+"/x") }, "invalid_grant"},
				"no redirect URI":     {rp, func(v url.Values) { v.Del("redirect_uri") }, "invalid_grant"},
				"a character changed": {rp, func(v url.Values) { v.Set("code", v.Get("code")[:len(v.Get("code"))-4]+"AAAA") }, "invalid_grant"},
				"no code":             {rp, func(v url.Values) { v.Del("code") }, "invalid_request"},
				"two codes":           {rp, func(v url.Values) { v.Add("code", v.Get("code")) }, "invalid_request"},
			} {
				form := good(rp.Code(b))
				refusal.change(form)
				if r := refusal.by.Token(t, form); r.status != http.StatusBadRequest || r.failure() != refusal.code {
					t.Errorf("%s at %s: %s: %s, want %s", id, as, name, r, refusal.code)
				}
			}
			form := good(rp.Code(b))
			if r := rp.Token(t, form); r.status != http.StatusOK {
				t.Errorf("%s at %s: %s", id, as, r)
			}
			if r := rp.Token(t, form); r.failure() != "invalid_grant" {
				t.Errorf("%s at %s: a second redemption: %s", id, as, r)
			}
		}
	}
}

func TestDiscoveryNamesWhatWorks(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "", func(cfg *configs.Config) { cfg.BasePath = "/auth-login/rest/oauth2" })
	for _, as := range bothServers {
		rp := o.party(as, "web")
		var metadata struct {
			Issuer     string   `json:"issuer"`
			Introspect string   `json:"introspection_endpoint"`
			Revoke     string   `json:"revocation_endpoint"`
			Algs       []string `json:"id_token_signing_alg_values_supported"`
			Challenges []string `json:"code_challenge_methods_supported"`
		}
		if err := rp.provider.Claims(&metadata); err != nil {
			t.Fatal(err)
		}
		want := regexp.MustCompile(`^http://localhost:\d+/auth-login/rest/oauth2/authorization-servers/` + as + `$`)
		if !want.MatchString(metadata.Issuer) || metadata.Introspect != metadata.Issuer+"/introspect" || metadata.Revoke != metadata.Issuer+"/revoke" ||
			!slices.Equal(metadata.Challenges, []string{"S256"}) {
			t.Errorf("%s: %+v", as, metadata)
		}
		for _, alg := range []string{oidc.RS256, oidc.ES256, oidc.PS256, oidc.EdDSA} {
			if !slices.Contains(metadata.Algs, alg) {
				t.Errorf("%s does not offer %s", as, alg)
			}
		}
		rp.SignIn(newBrowser(t)) // below the base path, too
		path := strings.TrimPrefix(metadata.Issuer, o.URL)
		if r := inquire(t, http.MethodGet, o.URL+"/.well-known/oauth-authorization-server"+path, inquiry{}); r.json["issuer"] != metadata.Issuer {
			t.Errorf("RFC 8414's place: %s", r)
		}
	}
}
