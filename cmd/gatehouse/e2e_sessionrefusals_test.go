//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/configs"
)

func TestSessionAPIVisibilityOfClients(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "") // partnerAS: visibility client
	api, inspector := newSessionAPI(t, o.Issuer("partnerAS")), o.party("partnerAS", "inspector")
	b := newBrowser(t)
	web, post := hold(t, o.party("partnerAS", "web"), b), hold(t, o.party("partnerAS", "post"), b)
	phone := hold(t, o.party("partnerAS", "web"), newBrowser(t))
	if all := api.list(t, web.second); len(all) != 2 || all[web.sid].ID == "" || all[phone.sid].ID == "" {
		t.Errorf("a client sees %v, want its own two sessions", all)
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		if r := api.call(t, method, "/sessions/"+post.sid, web.second); r.status != http.StatusNotFound || r.failure() != "SESSION_NOT_FOUND" {
			t.Errorf("%s of another client's session: %s", method, r)
		}
	}
	post.mustLive(t, inspector)
	if r := api.call(t, http.MethodDelete, "/sessions/"+phone.sid, web.second); r.status != http.StatusNoContent {
		t.Errorf("ending the client's own other session: %s", r)
	}
	phone.mustBeDead(t, api, inspector)
}

func TestSessionAPIRefusals(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "", openToUsers)
	for _, as := range bothServers {
		api := newSessionAPI(t, o.Issuer(as))
		h := hold(t, o.party(as, "web"), newBrowser(t))
		own := o.party(as, "service").Token(t, url.Values{"grant_type": {"client_credentials"}})
		service, _ := own.json["access_token"].(string)
		revoked := o.party(as, "web").SignIn(newBrowser(t)).Token.AccessToken
		o.party(as, "web").Ask(t, "/revoke", url.Values{"token": {revoked}})
		for _, path := range []string{"/session", "/sessions", "/sessions/" + h.sid} {
			for name, tt := range map[string]struct {
				method, token string
				header        []string
				query         string
				status        int
				code          string
				challenge     string // the end of WWW-Authenticate; "-": none
			}{
				"no credentials":       {http.MethodGet, "", nil, "", 401, "ACCESS_TOKEN_MISSING", `Bearer realm="` + o.Issuer(as) + `"`},
				"another scheme":       {http.MethodGet, "", []string{"Authorization", "Basic YWxleDphbGV4LWRlbW8="}, "", 401, "ACCESS_TOKEN_MISSING", `Bearer realm="` + o.Issuer(as) + `"`},
				"token in the query":   {http.MethodGet, "", nil, "?access_token=" + h.second, 401, "ACCESS_TOKEN_MISSING", `Bearer realm="` + o.Issuer(as) + `"`},
				"no token":             {http.MethodGet, "", []string{"Authorization", "Bearer "}, "", 401, "ACCESS_TOKEN_MISSING", `Bearer realm="` + o.Issuer(as) + `"`},
				"malformed token":      {http.MethodGet, "a.b.c", nil, "", 401, "ACCESS_TOKEN_INVALID", `error="invalid_token"`},
				"forged token":         {http.MethodGet, h.second[:len(h.second)-6] + "AAAAAA", nil, "", 401, "ACCESS_TOKEN_INVALID", `error="invalid_token"`},
				"refresh token":        {http.MethodGet, h.refresh, nil, "", 401, "ACCESS_TOKEN_INVALID", `error="invalid_token"`},
				"revoked token":        {http.MethodGet, revoked, nil, "", 401, "ACCESS_TOKEN_INVALID", `error="invalid_token"`},
				"client's own token":   {http.MethodGet, service, nil, "", 403, "NO_USER_SESSION", "-"},
				"unknown method":       {http.MethodPut, h.second, nil, "", 405, "METHOD_NOT_ALLOWED", "-"},
				"POST":                 {http.MethodPost, h.second, nil, "", 405, "METHOD_NOT_ALLOWED", "-"},
				"parametrised Accept":  {http.MethodGet, h.second, []string{"Accept", "application/vnd.api+json; version=1"}, "", 406, "NOT_ACCEPTABLE", "-"},
				"unknown parameter":    {http.MethodGet, h.second, nil, "?unknown=1", 400, "UNSUPPORTED_QUERY_PARAMETER", "-"},
				"nothing wrong":        {http.MethodGet, h.second, []string{"Accept", "application/json, application/vnd.api+json"}, "", 200, "", "-"},
				"scheme in small case": {http.MethodGet, "", []string{"Authorization", "bearer " + h.second}, "", 200, "", "-"},
			} {
				r := api.call(t, tt.method, path+tt.query, tt.token, tt.header...)
				challenge := r.header.Get("WWW-Authenticate")
				if r.status != tt.status || r.failure() != tt.code || (tt.challenge == "-") != (challenge == "") || !strings.HasSuffix(challenge, strings.TrimPrefix(tt.challenge, "-")) {
					t.Errorf("%s%s: %s: %s, challenge %q; want %d %s, %q", as, path, name, r, challenge, tt.status, tt.code, tt.challenge)
				}
				if allow := r.header.Get("Allow"); (r.status == http.StatusMethodNotAllowed) != strings.Contains(allow, http.MethodGet) {
					t.Errorf("%s%s: %s: Allow is %q", as, path, name, allow)
				}
			}
		}
		h.mustLive(t, o.party(as, "inspector"))
	}
}

func TestUnseenSessionsAreIndistinguishable(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "", openToUsers)
	for as, other := range map[string]string{"myAS": "partnerAS", "partnerAS": "myAS"} {
		api := newSessionAPI(t, o.Issuer(as))
		b := newBrowser(t)
		own, ended := hold(t, o.party(as, "web"), b), hold(t, o.party(as, "post"), b)
		if r := api.call(t, http.MethodDelete, "/session", ended.second); r.status != http.StatusNoContent {
			t.Fatal(r)
		}
		stranger := hold(t, o.party(as, "web"), newBrowser(t).As("bea", "bea-demo"))
		neighbour := hold(t, o.party(other, "web"), b)
		first := ""
		for name, id := range map[string]string{"ended": ended.sid, "stranger's": stranger.sid, "neighbour's": neighbour.sid,
			"unknown": strings.Repeat("A", 40), "malformed": "x", "quote": "%27", "NUL": "%00", "one too many": own.sid + "A", "lower case": strings.ToLower(own.sid)} {
			for _, method := range []string{http.MethodGet, http.MethodDelete} {
				r := inquire(t, method, api.issuer+"/sessions/"+id+"/", inquiry{bearer: own.second})
				headers := fmt.Sprint(r.header["Content-Type"], r.header["Cache-Control"], r.header["Www-Authenticate"], r.header["Content-Length"])
				got := fmt.Sprint(r.status, withoutTime(t, r), headers)
				if first == "" {
					first = got
				}
				if r.status != http.StatusNotFound || got != first {
					t.Errorf("%s of the %s id: %s, others got %s", method, name, got, first)
				}
			}
		}
		stranger.mustLive(t, o.party(as, "inspector"))
		neighbour.mustLive(t, o.party(other, "inspector"))
	}
}

func TestSessionAPIDemandsConfiguredScopes(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "", func(cfg *configs.Config) {
		for _, as := range cfg.AuthorizationServers {
			as.SessionAPI.Scopes = configs.SessionScopes{Read: "sessions:read", Manage: "sessions:manage"}
			for i := range as.Clients {
				if as.Clients[i].Allows(clients.GrantAuthorizationCode) {
					as.Clients[i].Scope += " sessions:read sessions:manage"
				}
			}
		}
	})
	for as, demoClient := range map[string]string{"myAS": "oidc-client", "partnerAS": "partner-portal"} {
		api := newSessionAPI(t, o.Issuer(as))
		rp := o.party(as, "web")
		rp.ClientID, rp.ClientSecret = demoClient, demoClient+"-demo"
		rp.RedirectURL = map[string]string{"myAS": "http://localhost:9001/callback", "partnerAS": "http://localhost:9003/callback"}[as]
		b := newBrowser(t)
		tokenOf := func(scope string) (token, sid string) {
			code, sent := rp.Code(b, oauth2.SetAuthURLParam("scope", scope))
			r := rp.Redeem(t, code, sent)
			token, _ = r.json["access_token"].(string)
			id, _ := r.json["id_token"].(string)
			var claims struct{ Sid string }
			if parts := strings.Split(id, "."); len(parts) != 3 || json.Unmarshal(unbase64(parts[1]), &claims) != nil {
				t.Fatalf("%s: %s", as, r)
			}
			return token, claims.Sid
		}
		none, sid := tokenOf("openid")
		read, _ := tokenOf("openid sessions:read")
		manage, _ := tokenOf("openid sessions:manage")
		for _, tt := range []struct {
			method, path, token string
			missing             string // empty: allowed
			status              int
		}{
			{http.MethodGet, "/session", none, "sessions:read", 403},
			{http.MethodGet, "/sessions", none, "sessions:read", 403},
			{http.MethodGet, "/sessions/" + sid, none, "sessions:read", 403},
			{http.MethodGet, "/sessions/" + sid, manage, "sessions:read", 403},
			{http.MethodDelete, "/session", none, "sessions:manage", 403},
			{http.MethodDelete, "/session", read, "sessions:manage", 403},
			{http.MethodDelete, "/sessions/" + sid, read, "sessions:manage", 403},
			{http.MethodGet, "/session", read, "", 200},
			{http.MethodGet, "/sessions", read, "", 200},
			{http.MethodDelete, "/sessions/" + sid, manage, "", 204},
		} {
			r := api.call(t, tt.method, tt.path, tt.token)
			if r.status != tt.status || (tt.missing != "" && (r.failure() != "INSUFFICIENT_SCOPE" ||
				!strings.HasSuffix(r.header.Get("WWW-Authenticate"), `error="insufficient_scope", scope="`+tt.missing+`"`))) {
				t.Errorf("%s: %s %s: %s, challenge %q", as, tt.method, tt.path, r, r.header.Get("WWW-Authenticate"))
			}
		}
	}
}

func TestSessionAPIAnswersOriginsOfClients(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "", openToUsers)
	for _, as := range bothServers {
		h := hold(t, o.party(as, "web"), newBrowser(t))
		for origin, allowed := range map[string]bool{
			o.app.URL: true,
			strings.Replace(o.app.URL, "http:", "https:", 1): false,
			o.app.URL + "0":            false,
			"https://attacker.example": false,
			"null":                     false,
		} {
			for _, path := range []string{"/session/", "/sessions/", "/sessions/" + h.sid, "/sessions/" + h.sid + "/"} {
				want := ""
				if allowed {
					want = origin
				}
				preflight := inquire(t, http.MethodOptions, h.rp.issuer+path, inquiry{header: http.Header{"Origin": {origin},
					"Access-Control-Request-Method": {http.MethodDelete}, "Access-Control-Request-Headers": {"authorization"}}})
				got := preflight.header.Get("Access-Control-Allow-Origin")
				methods, headers := preflight.header.Get("Access-Control-Allow-Methods"), preflight.header.Get("Access-Control-Allow-Headers")
				if got != want || preflight.status != http.StatusNoContent || strings.Contains(methods, http.MethodDelete) != allowed || strings.Contains(headers, "Authorization") != allowed {
					t.Errorf("%s%s: preflight for %s: %d, origin %q, methods %q, headers %q", as, path, origin, preflight.status, got, methods, headers)
				}
				for _, token := range []string{h.second, "refused"} {
					r := inquire(t, http.MethodGet, h.rp.issuer+path, inquiry{bearer: token, header: http.Header{"Origin": {origin}}})
					if got := r.header.Get("Access-Control-Allow-Origin"); got != want || r.header.Get("Access-Control-Allow-Credentials") != "" ||
						!strings.Contains(strings.Join(r.header.Values("Vary"), ", "), "Origin") {
						t.Errorf("%s%s: %d for %s: allowed origin %q, Vary %q", as, path, r.status, origin, got, r.header.Values("Vary"))
					}
				}
			}
		}
	}
}
