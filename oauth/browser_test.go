package oauth_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/clients"
)

// verifier is the PKCE verifier of all requests of this package's tests.
const verifier = "a-verifier-of-at-least-forty-three-characters"

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// browser is one person's, with its own cookies.
type browser struct {
	h      *house
	login  string // id of the login that it began with
	client *http.Client
}

func (h *house) browser() *browser {
	jar, err := cookiejar.New(nil)
	h.must(err)
	return &browser{h: h, client: &http.Client{Jar: jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (b *browser) setCookie(value string) {
	u, err := url.Parse(b.h.base)
	b.h.must(err)
	b.client.Jar.SetCookies(u, []*http.Cookie{{Name: realmCookie.Name(), Value: value, Path: "/"}})
}

// answer is what came back.
type answer struct {
	t      testing.TB
	url    string // that was asked
	status int
	header http.Header
	body   string
}

// do sends one request; header are pairs.
func (h *house) do(client *http.Client, method, to, body string, header ...string) answer {
	h.t.Helper()
	req, err := http.NewRequest(method, to, strings.NewReader(body))
	h.must(err)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
		if header[i] == "Content-Type" {
			req.Header.Set(header[i], header[i+1])
		}
	}
	res, err := client.Do(req)
	h.must(err)
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	h.must(err)
	return answer{h.t, to, res.StatusCode, res.Header, string(text)}
}

// get sends one request and follows nothing.
func (b *browser) get(to string) answer {
	b.h.t.Helper()
	return b.h.do(b.client, http.MethodGet, to, "")
}

// follow follows redirects as long as they stay in the house.
func (b *browser) follow(to string) answer {
	b.h.t.Helper()
	for range 10 {
		a := b.get(to)
		if a.status != http.StatusSeeOther {
			return a
		}
		if to = a.location(); !strings.HasPrefix(to, b.h.base+"/") {
			return a
		}
	}
	b.h.t.Fatalf("a loop of redirects, the last to %s", to)
	return answer{}
}

// location is where a redirect leads, absolute.
func (a answer) location() string {
	a.t.Helper()
	here, err := url.Parse(a.url)
	if err != nil {
		a.t.Fatal(err)
	}
	u, err := here.Parse(a.header.Get("Location"))
	if err != nil {
		a.t.Fatal(err)
	}
	return u.String()
}

var (
	formAction = regexp.MustCompile(`<form method="post" action="([^"]*)"`)
	hidden     = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
)

// form reads the page's form: where it goes and its hidden fields, with more.
func (a answer) form(more ...string) (string, url.Values) {
	a.t.Helper()
	m := formAction.FindStringSubmatch(a.body)
	if m == nil {
		a.t.Fatalf("%d without a form:\n%s", a.status, a.body)
	}
	here, err := url.Parse(a.url)
	if err != nil {
		a.t.Fatal(err)
	}
	to, err := here.Parse(html.UnescapeString(m[1]))
	if err != nil {
		a.t.Fatal(err)
	}
	v := url.Values{}
	for _, f := range hidden.FindAllStringSubmatch(a.body, -1) {
		v.Set(html.UnescapeString(f[1]), html.UnescapeString(f[2]))
	}
	for i := 0; i < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return to.String(), v
}

// submit posts the page's form and follows nothing.
func (b *browser) submit(page answer, more ...string) answer {
	b.h.t.Helper()
	to, v := page.form(more...)
	return b.h.do(b.client, http.MethodPost, to, v.Encode(), "Sec-Fetch-Site", "same-origin")
}

// signIn fills in the sign-in page and follows.
func (b *browser) signIn(page answer, name string) answer {
	b.h.t.Helper()
	page.isPage("/login")
	a := b.submit(page, "username", name, "password", map[string]string{"alex": alexPassword, "bob": bobPassword}[name])
	if a.status != http.StatusSeeOther {
		b.h.t.Fatalf("signing in: %d\n%s", a.status, a.body)
	}
	return b.follow(a.location())
}

// decide answers the consent page and follows.
func (b *browser) decide(page answer, decision string) answer {
	b.h.t.Helper()
	page.isPage("/consent")
	a := b.submit(page, "decision", decision)
	if a.status != http.StatusSeeOther {
		b.h.t.Fatalf("deciding: %d\n%s", a.status, a.body)
	}
	return b.follow(a.location())
}

// isPage fails unless the answer is that page.
func (a answer) isPage(path string) answer {
	a.t.Helper()
	u, err := url.Parse(a.url)
	if err != nil || u.Path != path || a.status != http.StatusOK {
		a.t.Fatalf("%d at %s, want the page %s; it leads to %s\n%s", a.status, a.url, path, a.header.Get("Location"), a.body)
	}
	return a
}

// isError fails unless the answer is an error page without a redirect.
func (a answer) isError(status int, texts ...string) answer {
	a.t.Helper()
	if a.status != status || a.header.Get("Location") != "" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		a.t.Fatalf("%d, %q to %q, want an error page with %d\n%s", a.status, a.header.Get("Content-Type"), a.header.Get("Location"), status, a.body)
	}
	for _, text := range texts {
		if !strings.Contains(html.UnescapeString(a.body), text) {
			a.t.Errorf("page lacks %q:\n%s", text, a.body)
		}
	}
	return a
}

// change copies values with pairs set; a name with a leading - is taken out, one
// with a leading + added.
func change(v url.Values, pairs ...string) url.Values {
	v = maps.Clone(v)
	for i := 0; i < len(pairs); i += 2 {
		switch name, value := pairs[i], pairs[i+1]; name[0] {
		case '-':
			v.Del(name[1:])
		case '+':
			v[name[1:]] = append(append([]string(nil), v[name[1:]]...), value)
		default:
			v.Set(name, value)
		}
	}
	return v
}

// params are those of an authorization request of a client, changed.
func (s *as) params(client string, pairs ...string) url.Values {
	v := url.Values{"client_id": {client}, "response_type": {"code"}, "scope": {"openid profile"}, "state": {"st-1"}, "nonce": {"nonce-1"},
		"code_challenge": {challengeOf(verifier)}, "code_challenge_method": {"S256"}}
	if uris := s.static[client].RedirectURIs; len(uris) > 0 {
		v.Set("redirect_uri", uris[0])
	}
	return change(v, pairs...)
}

// request is the URL of an authorization request of a client, changed.
func (s *as) request(client string, pairs ...string) string {
	return s.at + "/authorize?" + s.params(client, pairs...).Encode()
}

// authorized reads a code out of the answer that the client got, and checks
// what every such answer must have.
func (s *as) authorized(a answer) string {
	s.h.t.Helper()
	v := s.response(a)
	if v.Get("code") == "" || v.Has("error") {
		s.h.t.Fatalf("no code for the client: %d to %s\n%s", a.status, a.header.Get("Location"), a.body)
	}
	s.h.secret(v.Get("code"))
	return v.Get("code")
}

// response reads the authorization response out of a redirect to the client.
func (s *as) response(a answer) url.Values {
	s.h.t.Helper()
	to := a.header.Get("Location")
	if a.status != http.StatusSeeOther || to == "" || strings.HasPrefix(to, s.h.base) {
		s.h.t.Fatalf("%d to %q, want a redirect to the client\n%s", a.status, to, a.body)
	}
	u, err := url.Parse(to)
	s.h.must(err)
	v := u.Query()
	if len(v["iss"]) != 1 || v.Get("iss") != s.issuer {
		s.h.t.Errorf("iss of the response is %q, want %q (RFC 9207)", v["iss"], s.issuer)
	}
	if a.body != "" || a.header.Get("Referrer-Policy") != "no-referrer" || a.header.Get("Cache-Control") != "no-store" {
		s.h.t.Errorf("redirect with headers %v and body %q", a.header, a.body)
	}
	return v
}

// refused fails unless the client got that error through the browser.
func (s *as) refused(a answer, code string) url.Values {
	s.h.t.Helper()
	v := s.response(a)
	if v.Get("error") != code || v.Has("code") {
		s.h.t.Fatalf("error %q (%s), want %s", v.Get("error"), v.Get("error_description"), code)
	}
	if !describes(v.Get("error_description")) {
		s.h.t.Errorf("error_description %q has characters that it may not have (RFC 6749 §4.1.2.1)", v.Get("error_description"))
	}
	return v
}

// describes reports whether text may be an error_description.
func describes(text string) bool {
	return text != "" && strings.IndexFunc(text, func(r rune) bool { return r < 0x20 || r > 0x7e || r == '"' || r == '\\' }) < 0
}

// code is a fresh authorization code for the browser's user.
func (s *as) code(b *browser, client string, pairs ...string) string {
	s.h.t.Helper()
	return s.authorized(b.follow(s.request(client, pairs...)))
}

// bare is a client of HTTP without cookies.
var bare = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// basic is the value of an Authorization header (RFC 6749 §2.3.1).
func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// post sends a form to an endpoint as a client proves itself.
func (s *as) post(path, client string, form url.Values) answer {
	s.h.t.Helper()
	c, form := s.static[client], maps.Clone(form)
	var header []string
	switch c.TokenEndpointAuthMethod {
	case clients.AuthClientSecretBasic:
		header = []string{"Authorization", basic(client, c.ClientSecret)}
	case clients.AuthClientSecretPost:
		form.Set("client_id", client)
		form.Set("client_secret", c.ClientSecret)
	default:
		form.Set("client_id", client)
	}
	return s.h.do(bare, http.MethodPost, s.at+path, form.Encode(), header...)
}

// redeem sends a code to the token endpoint.
func (s *as) redeem(client, code string, pairs ...string) answer {
	s.h.t.Helper()
	v := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier}}
	if uris := s.static[client].RedirectURIs; len(uris) > 0 {
		v.Set("redirect_uri", uris[0])
	}
	return s.post("/token", client, change(v, pairs...))
}

// refresh sends a refresh token to the token endpoint.
func (s *as) refresh(client, token string, pairs ...string) answer {
	s.h.t.Helper()
	return s.post("/token", client, change(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}, pairs...))
}

// tokens is a token response.
type tokens struct {
	Access  string `json:"access_token"`
	Type    string `json:"token_type"`
	Expires int64  `json:"expires_in"`
	Scope   string `json:"scope"`
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
}

// tokens reads a successful token response.
func (s *as) tokens(a answer) (out tokens) {
	s.h.t.Helper()
	if a.status != http.StatusOK {
		s.h.t.Fatalf("token response: %d %s", a.status, a.body)
	}
	s.h.must(json.Unmarshal([]byte(a.body), &out))
	for _, secret := range []string{out.Access, out.Refresh, out.ID} {
		s.h.secret(secret)
	}
	if out.Access == "" || out.Type != "Bearer" || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Pragma") != "no-cache" ||
		a.header.Get("Content-Type") != "application/json" {
		s.h.t.Errorf("token response with headers %v: %s", a.header, a.body)
	}
	return out
}

// authorize goes all the way from an authorization request to tokens.
func (s *as) authorize(b *browser, client string, pairs ...string) tokens {
	s.h.t.Helper()
	return s.tokens(s.redeem(client, s.code(b, client, pairs...)))
}

// json reads a JSON object.
func (a answer) json() map[string]any {
	a.t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		a.t.Fatalf("%d %q: %v", a.status, a.body, err)
	}
	return v
}

// fails fails unless the answer is that error of a protocol endpoint (RFC 6749
// §5.2).
func (a answer) fails(status int, code string) answer {
	a.t.Helper()
	v := a.json()
	if a.status != status || v["error"] != code {
		a.t.Fatalf("%d %v (%v), want %d %s", a.status, v["error"], v["error_description"], status, code)
	}
	description, _ := v["error_description"].(string)
	if !describes(description) || a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
		a.t.Errorf("error with headers %v: %s", a.header, a.body)
	}
	if challenge := a.header.Get("WWW-Authenticate"); status == http.StatusUnauthorized && challenge == "" {
		a.t.Error("401 without WWW-Authenticate (RFC 9110 §11.6.1)")
	}
	return a
}

// active asks, as the client scanner, whether a token is active, and checks at
// the same time that userinfo is of the same opinion about access tokens.
func (s *as) active(token string) bool {
	s.h.t.Helper()
	v := s.post("/introspect", "scanner", url.Values{"token": {token}}).json()
	active, ok := v["active"].(bool)
	if !ok || !active && len(v) != 1 {
		s.h.t.Fatalf("introspection answers %v", v)
	}
	return active
}

// userinfo asks for the user's claims.
func (s *as) userinfo(token string) answer {
	s.h.t.Helper()
	return s.h.do(bare, http.MethodGet, s.at+"/userinfo", "", "Authorization", "Bearer "+token)
}

// alive fails unless an access token is in force everywhere, or nowhere.
func (s *as) alive(token string, want bool) {
	s.h.t.Helper()
	status := s.userinfo(token).status
	if active := s.active(token); active != want || (status == http.StatusOK) != want {
		s.h.t.Errorf("access token is active: %t, userinfo: %d; want alive %t", active, status, want)
	}
}

// bearerFails fails unless the answer is that error of an endpoint that takes
// an access token (RFC 6750 §3).
func (a answer) bearerFails(status int, code string) answer {
	a.t.Helper()
	a.fails(status, code)
	if challenge := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, "Bearer realm=") || !strings.Contains(challenge, `error="`+code+`"`) {
		a.t.Errorf("WWW-Authenticate: %s", challenge)
	}
	return a
}
