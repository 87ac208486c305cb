//go:build unix

package main

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/oauth2"
)

const aVerifier = "a-verifier-of-at-least-forty-three-characters"

// posted sends a body as a program does, with the proof of a client unless its
// id is empty, and returns the answer.
func posted(t *testing.T, rp *relyingParty, path, body string, header http.Header) reply {
	t.Helper()
	all := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	if rp.ClientID != "" {
		proof := http.Request{Header: http.Header{}}
		proof.SetBasicAuth(url.QueryEscape(rp.ClientID), url.QueryEscape(rp.ClientSecret))
		all["Authorization"] = proof.Header["Authorization"]
	}
	maps.Copy(all, header)
	return sent(t, http.MethodPost, rp.issuer+path, strings.NewReader(body), all)
}

// sent is send with the answer as a reply.
func sent(t *testing.T, method, address string, body io.Reader, header http.Header) reply {
	t.Helper()
	res, text := send(t, method, address, body, header)
	r := reply{status: res.StatusCode, header: res.Header, body: text}
	if json.Unmarshal([]byte(text), &r.json) != nil {
		r.json = nil
	}
	return r
}

// mustFail fails unless the answer is that error of a protocol endpoint (RFC
// 6749 §5.2), and nothing else.
func (r reply) mustFail(t *testing.T, what string, status int, code string) {
	t.Helper()
	if r.status != status || r.failure() != code || r.header.Get("Content-Type") != "application/json" || r.header.Get("Cache-Control") != "no-store" || r.header.Get("Location") != "" {
		t.Errorf("%s: %.300s, %v; want %d %s", what, r, r.header, status, code)
	}
}

// TestNoEndpointTakesAParameterTwice: RFC 6749 §3.1 and §3.2. Every parameter
// that there is, one that nobody knows and one without a name.
func TestNoEndpointTakesAParameterTwice(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	for _, as := range bothServers {
		rp, service, b := o.party(as, "web"), o.party(as, "service"), newBrowser(t)
		token := rp.SignIn(b).Token
		for path, names := range map[string][]string{
			"/token":      {"grant_type", "code", "redirect_uri", "code_verifier", "refresh_token", "scope", "client_id", "client_secret", "client_assertion", "client_assertion_type", "unknown", ""},
			"/introspect": {"token", "token_type_hint", "client_id", "client_secret", "client_assertion", "client_assertion_type", "unknown", ""},
			"/revoke":     {"token", "token_type_hint", "client_id", "client_secret", "client_assertion", "client_assertion_type", "unknown", ""},
		} {
			for _, name := range names {
				for _, values := range [][]string{{"x", "x"}, {"x", "y"}, {"x", "", "y"}} {
					form := url.Values{"grant_type": {"client_credentials"}}
					if path != "/token" {
						form = url.Values{"token": {token.AccessToken}}
					}
					if first := form.Get(name); first != "" {
						values = append([]string{first}, values...)
					}
					form[name] = values
					posted(t, service, path, form.Encode(), nil).mustFail(t, as+path+" with "+name+" twice", http.StatusBadRequest, "invalid_request")
				}
			}
		}
		if rp.Userinfo(t, token.AccessToken) != http.StatusOK {
			t.Error("a refused revocation has revoked the token")
		}
		q := url.Values{"client_id": {"web"}, "redirect_uri": {rp.RedirectURL}, "response_type": {"code"}, "scope": {"openid"}, "nonce": {"n"},
			"code_challenge": {oauth2.S256ChallengeFromVerifier(aVerifier)}, "code_challenge_method": {"S256"}}
		for _, name := range []string{"response_type", "scope", "state", "nonce", "code_challenge", "code_challenge_method", "response_mode", "prompt", "max_age", "display", "ui_locales", "claims_locales",
			"id_token_hint", "login_hint", "acr_values", "claims", "request", "request_uri", "registration", "dpop_jkt", "authorization_details", "unknown", ""} {
			twice := maps.Clone(q)
			twice[name] = append(slices.Clone(q[name]), "x", "y")
			status, to := opened(b, o.Issuer(as)+"/authorize?"+twice.Encode())
			if answer := to.Query(); status != http.StatusSeeOther || !strings.HasPrefix(to.String(), rp.RedirectURL+"?") || answer.Get("error") != "invalid_request" ||
				answer.Has("code") || answer.Has("state") || answer.Get("iss") != o.Issuer(as) {
				t.Errorf("%s/authorize with %s twice: %d to %s", as, name, status, to)
			}
		}
		for _, name := range []string{"client_id", "redirect_uri"} { // nobody has vouched for where an answer may go
			twice := maps.Clone(q)
			twice[name] = append(slices.Clone(q[name]), q[name]...)
			if status, to := opened(b, o.Issuer(as)+"/authorize?"+twice.Encode()); status != http.StatusBadRequest || to.String() != "" {
				t.Errorf("%s/authorize with %s twice: %d to %s", as, name, status, to)
			}
		}
	}
	o.mustBeCalm()
}

// endless is a body of n bytes whose length nobody tells beforehand.
func endless(prefix string, n int) io.Reader {
	return io.MultiReader(strings.NewReader(prefix), strings.NewReader(strings.Repeat("x", n)))
}

// TestOversizedInputsAreRefused: each with the error that is documented for it.
func TestOversizedInputsAreRefused(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "", openToUsers)
	const form, jsonAPI = "application/x-www-form-urlencoded", "application/vnd.api+json"
	for _, as := range bothServers {
		rp, b := o.party(as, "web"), newBrowser(t)
		s := rp.SignIn(b)
		token, issuer := s.Token.AccessToken, o.Issuer(as)
		bearer := "Bearer " + token
		for _, row := range []struct {
			name, method, address, kind, authorization string
			body                                       string
			status                                     int
			code                                       string // of JSON; empty: a page
		}{
			{"token", "POST", issuer + "/token", form, "", "grant_type=client_credentials&x=" + strings.Repeat("x", 64<<10), 413, "invalid_request"},
			{"token, many parameters", "POST", issuer + "/token", form, "", "grant_type=client_credentials" + strings.Repeat("&a", 20_000), 400, "invalid_request"},
			{"token, many different parameters", "POST", issuer + "/token", form, "", "grant_type=client_credentials&" + manyParameters(5000), 401, "invalid_client"},
			{"introspection", "POST", issuer + "/introspect", form, "", "token=" + strings.Repeat("x", 64<<10), 413, "invalid_request"},
			{"revocation", "POST", issuer + "/revoke", form, "", "token=" + strings.Repeat("x", 64<<10), 413, "invalid_request"},
			{"userinfo", "POST", issuer + "/userinfo", form, "", "access_token=" + strings.Repeat("x", 64<<10), 413, "invalid_request"},
			{"userinfo, long token", "GET", issuer + "/userinfo", "", "Bearer " + strings.Repeat("x", 60_000), "", 401, "invalid_token"},
			{"change", "PATCH", issuer + "/session/", jsonAPI, bearer, ofSession("oauth2-session", s.SID, `{"customAttributes":{"deviceName":"`+strings.Repeat("x", 16<<10)+`"}}`), 413, "DOCUMENT_TOO_LARGE"},
			{"session, long token", "GET", issuer + "/session/", "", "Bearer " + strings.Repeat("x", 60_000), "", 401, "ACCESS_TOKEN_INVALID"},
			{"sessions, long id", "GET", issuer + "/sessions/" + strings.Repeat("x", 60_000), "", bearer, "", 404, "SESSION_NOT_FOUND"},
			{"sessions, long query", "GET", issuer + "/sessions/?" + strings.Repeat("x", 60_000), "", bearer, "", 400, "UNSUPPORTED_QUERY_PARAMETER"},
			{"posted authorization request", "POST", issuer + "/authorize", form, "", "client_id=web&x=" + strings.Repeat("x", 8<<10), 413, ""},
			{"authorization request", "GET", issuer + "/authorize?client_id=web&x=" + strings.Repeat("x", 8<<10), "", "", "", 400, ""},
			{"authorization request, long stamp", "GET", issuer + "/authorize?client_id=nobody&gatehouse_stamp=" + strings.Repeat("x", 50_000), "", "", "", 400, ""},
			{"sign-in", "POST", o.URL + "/login", form, "", "username=alex&password=" + strings.Repeat("x", 64<<10), 413, ""},
			{"sign-in of the realm", "POST", o.URL + "/realms/default/login", form, "", "username=" + strings.Repeat("x", 64<<10), 413, ""},
			{"consent", "POST", o.URL + "/consent", form, "", "decision=allow&stamp=" + strings.Repeat("x", 64<<10), 413, ""},
			{"sign-out", "POST", o.URL + "/logout", form, "", strings.Repeat("x", 64<<10+1), 413, ""},
			{"posted logout request", "POST", issuer + "/end_session", form, "", "client_id=web&x=" + strings.Repeat("x", 8<<10), 413, ""},
			{"logout request", "GET", issuer + "/end_session?client_id=web&x=" + strings.Repeat("x", 8<<10), "", "", "", 400, ""},
			{"sign-out page, long stamp", "GET", o.URL + "/logout?as=" + as + "&stamp=" + strings.Repeat("x", 50_000), "", "", "", 200, ""},
			{"login page, long request", "GET", o.URL + "/login?as=" + as + "&stamp=x&request=" + strings.Repeat("x", 50_000), "", "", "", 400, ""},
		} {
			header := http.Header{"Accept": {"*/*"}}
			if row.code == "" {
				header.Set("Accept", "text/html")
			}
			for name, value := range map[string]string{"Content-Type": row.kind, "Authorization": row.authorization} {
				if value != "" {
					header.Set(name, value)
				}
			}
			bodies := map[string]func() io.Reader{"": func() io.Reader { return strings.NewReader(row.body) }}
			if row.status == http.StatusRequestEntityTooLarge {
				bodies[", no length told"] = func() io.Reader { return endless(row.body, 1) }
				bodies[", no end either"] = func() io.Reader { return endless(row.body, 3<<20) }
			}
			for how, body := range bodies {
				r := sent(t, row.method, row.address, body(), header)
				page := strings.HasPrefix(r.header.Get("Content-Type"), "text/html")
				if r.status != row.status || r.failure() != row.code || page != (row.code == "") || r.header.Get("Location") != "" {
					t.Errorf("%s: %s%s: %.300s, %v; want %d %s", as, row.name, how, r, r.header, row.status, row.code)
				}
				if strings.Contains(row.name, "authorization request") && strings.Contains(row.address+row.body, strings.Repeat("x", 8<<10)) && !strings.Contains(row.name, "stamp") && !strings.Contains(r.body, "PAR") {
					t.Errorf("%s: %s does not name PAR: %.300s", as, row.name, r.body)
				}
			}
		}
		// What people type may be long, and is wrong then like any other.
		stranger := newBrowser(t)
		request, _ := rp.Begin()
		login := sentTo(stranger, request).String()
		for name, typed := range map[string]url.Values{"password": {"username": {"alex"}, "password": {strings.Repeat("x", 50_000)}}, "name": {"username": {strings.Repeat("x", 50_000)}, "password": {"x"}}} {
			res := stranger.Submit(stranger.Page(login), typed)
			if page := text(t, res); res.StatusCode != http.StatusUnprocessableEntity || len(page) > 70_000 {
				t.Errorf("%s: a long %s: %s, %d bytes", as, name, res.Status, len(page))
			}
		}
		// Headers above 64 KiB are refused before anybody reads them.
		for name, header := range map[string]http.Header{
			"Authorization": {"Authorization": {"Bearer " + strings.Repeat("x", 80<<10)}}, "Cookie": {"Cookie": {"gatehouse-default=" + strings.Repeat("x", 80<<10)}},
			"many": {"X-Filler": slices.Repeat([]string{strings.Repeat("x", 1000)}, 80)}, "Accept": {"Accept": {strings.Repeat("application/vnd.api+json;x=1,", 3000)}}, "User-Agent": {"User-Agent": {strings.Repeat("x", 80<<10)}},
		} {
			for _, address := range []string{issuer + "/session/", issuer + "/authorize?client_id=web", issuer + "/userinfo", issuer + "/jwks", o.URL + "/login"} {
				if r := sent(t, http.MethodGet, address, nil, header); r.status != http.StatusRequestHeaderFieldsTooLarge {
					t.Errorf("%s: %d with a long %s header, want 431", address, r.status, name)
				}
			}
		}
		if r := sent(t, http.MethodGet, issuer+"/authorize?x="+strings.Repeat("x", 80<<10), nil, nil); r.status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%d for a request line of 80 KiB, want 431", r.status)
		}
		// A long cookie that fits is none of ours, and costs nothing.
		if r := sent(t, http.MethodGet, o.URL+"/login", nil, http.Header{"Cookie": {"gatehouse-default=" + strings.Repeat("x", 50_000)}}); r.status != http.StatusOK {
			t.Errorf("the sign-in page with a long cookie: %d", r.status)
		}
		if rp.Userinfo(t, token) != http.StatusOK {
			t.Error("the session has ended")
		}
	}
	o.mustBeCalm()
}

// manyParameters are n of them, each with another name.
func manyParameters(n int) string {
	var out strings.Builder
	for i := range n {
		out.WriteString("&p" + strings.Repeat("a", i%5) + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)))
	}
	return out.String()[1:]
}

// postAlone is the Allow header of an endpoint that takes forms alone.
const postAlone = "POST"

// TestMethodsAndContentTypesOfEveryEndpoint that the metadata document names,
// and of the pages.
func TestMethodsAndContentTypesOfEveryEndpoint(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "")
	for _, as := range bothServers {
		issuer := o.Issuer(as)
		allow := map[string]string{
			issuer + "/authorize": "GET, POST", issuer + "/token": postAlone, issuer + "/introspect": postAlone, issuer + "/revoke": postAlone, issuer + "/userinfo": "GET, POST",
			issuer + "/jwks": "GET, HEAD", issuer + "/.well-known/openid-configuration": "GET, HEAD", issuer + "/.well-known/oauth-authorization-server": "GET, HEAD",
			o.URL + "/.well-known/oauth-authorization-server" + strings.TrimPrefix(issuer, o.URL): "GET, HEAD", issuer + "/session-api.yaml": "GET, HEAD, OPTIONS",
			issuer + "/end_session": "GET, POST",
			o.URL + "/login":        "GET, HEAD, POST", o.URL + "/consent": "GET, HEAD, POST", o.URL + "/logout": "GET, HEAD, POST",
			o.URL + "/realms/default/login": "GET, HEAD, POST", o.URL + "/realms/default/consent": "GET, HEAD, POST", o.URL + "/realms/default/logout": "GET, HEAD, POST",
		}
		for name, value := range sent(t, http.MethodGet, issuer+"/.well-known/openid-configuration", nil, nil).json {
			address, _ := value.(string)
			if (strings.HasSuffix(name, "_endpoint") || name == "jwks_uri") && allow[address] == "" {
				t.Errorf("%s, %s, is not in this test", name, address)
			}
		}
		for address, methods := range allow {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"} {
				if slices.Contains(strings.Split(methods, ", "), method) {
					continue
				}
				r := sent(t, method, address, strings.NewReader("a=b"), http.Header{"Content-Type": {"application/x-www-form-urlencoded"}})
				if r.status != http.StatusMethodNotAllowed || r.header.Get("Allow") != methods || r.header.Get("Location") != "" || strings.Contains(r.header.Get("Cache-Control"), "public") {
					t.Errorf("%s %s: %d, Allow %q, %v; want 405 with %q", method, address, r.status, r.header.Get("Allow"), r.header, methods)
				}
			}
		}
		token := o.party(as, "web").SignIn(newBrowser(t)).Token.AccessToken
		for _, kind := range []string{"", "application/json", "text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded2", "application/x-www-form-urlencoded; charset", "application/*", "///", "application/xml"} {
			header := http.Header{}
			if kind != "" {
				header.Set("Content-Type", kind)
			}
			bodies := map[string]string{
				"/token": "grant_type=client_credentials", "/introspect": "token=" + token, "/revoke": "token=" + token,
			}
			for path, body := range bodies {
				for _, content := range []string{body, `{"token":"` + token + `","grant_type":"client_credentials"}`, "--x\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n" + token + "\r\n--x--\r\n", ""} {
					proof := header.Clone()
					proof["Content-Type"] = header["Content-Type"]
					posted(t, o.party(as, "web"), path, content, proof).mustFail(t, as+path+" with "+kind, http.StatusUnsupportedMediaType, "invalid_request")
				}
			}
			for _, address := range []string{issuer + "/authorize", issuer + "/end_session", o.URL + "/login", o.URL + "/consent", o.URL + "/logout", o.URL + "/realms/default/login"} {
				r := sent(t, http.MethodPost, address, strings.NewReader("client_id=web&username=alex&password=alex-demo"), header)
				if r.status != http.StatusUnsupportedMediaType || !strings.HasPrefix(r.header.Get("Content-Type"), "text/html") || r.header.Get("Location") != "" || r.header.Get("Set-Cookie") != "" {
					t.Errorf("POST %s with %q: %d, %v", address, kind, r.status, r.header)
				}
			}
			// The token in a body that is no form is not read; the header's is.
			header.Set("Accept", "application/json")
			if r := sent(t, http.MethodPost, issuer+"/userinfo", strings.NewReader("access_token="+token), header); r.status != http.StatusUnauthorized {
				t.Errorf("userinfo reads %q: %s", kind, r)
			}
		}
		if o.party(as, "web").Userinfo(t, token) != http.StatusOK {
			t.Error("a refused revocation has revoked the token")
		}
	}
	o.mustBeCalm()
}
