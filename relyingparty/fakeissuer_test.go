package relyingparty_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"gatehouse.dev/gatehouse/relyingparty"
)

const (
	clientID     = "photos"
	clientSecret = "a secret of the client: 100%"
	accessToken  = "access-token-0123456789-0123456789-0123456789"
	refreshToken = "refresh-token-0123456789-0123456789-0123456789"
	ownSession   = "kQBhsGhsBfrhUx8t8jBKLfobSZyK4bDA6wTddCRc"
	otherSession = "AQBhsGhsBfrhUx8t8jBKLfobSZyK4bDA6wTddCRc"
)

// fakeIssuer is an OpenID Provider that says what a test wants it to. Its hooks
// are set before it is used.
type fakeIssuer struct {
	*httptest.Server
	key *ecdsa.PrivateKey

	metadata func(map[string]any)                                            // changes the metadata
	claims   func(map[string]any)                                            // changes the ID token's claims
	sign     func(claims []byte) string                                      // default: ES256 with key
	answer   func(map[string]any)                                            // changes the token response
	token    func(w http.ResponseWriter, r *http.Request, renewal bool) bool // answers instead; false: doesn't
	userinfo http.HandlerFunc
	sessions http.HandlerFunc

	mu        sync.Mutex
	challenge string // of the request that the code answers
	nonce     string
	calls     []string // METHOD path?query of the session API
	renewals  int
	leaked    []string // what came to where nothing should come
}

func newFakeIssuer(t *testing.T) *fakeIssuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeIssuer{key: key}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Server.Close)
	return f
}

func (f *fakeIssuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/.well-known/openid-configuration":
		m := map[string]any{"issuer": f.URL, "authorization_endpoint": f.URL + "/authorize", "token_endpoint": f.URL + "/token",
			"jwks_uri": f.URL + "/jwks", "userinfo_endpoint": f.URL + "/userinfo", "authorization_response_iss_parameter_supported": true,
			"id_token_signing_alg_values_supported": []string{"ES256"}}
		if f.metadata != nil {
			f.metadata(m)
		}
		answerJSON(w, "application/json", m)
	case r.URL.Path == "/jwks":
		answerJSON(w, "application/json", jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: f.key.Public(), KeyID: "1", Algorithm: "ES256", Use: "sig"}}})
	case r.URL.Path == "/token":
		f.serveToken(w, r)
	case r.URL.Path == "/userinfo":
		if f.userinfo != nil {
			f.userinfo(w, r)
			return
		}
		answerJSON(w, "application/json", map[string]any{"sub": "alex-1", "name": "Alex", "email": "alex@example.com"})
	case strings.HasPrefix(r.URL.Path, "/session"):
		f.mu.Lock()
		f.calls = append(f.calls, r.Method+" "+r.URL.RequestURI())
		f.mu.Unlock()
		if r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if f.sessions != nil {
			f.sessions(w, r)
			return
		}
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		sessionDocument(w, "Calendar")
	default:
		body, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		f.leaked = append(f.leaked, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(body))
		f.mu.Unlock()
		http.NotFound(w, r)
	}
}

// sessionDocument answers with the own session and one of another application.
func sessionDocument(w http.ResponseWriter, other string) {
	session := func(id, name string, current bool) map[string]any {
		return map[string]any{"type": "oauth2-session", "id": id, "attributes": map[string]any{"clientId": "x", "clientName": name,
			"authenticationTimestamp": "2026-03-02T13:43:22.890Z", "current": current}}
	}
	answerJSON(w, "application/vnd.api+json", map[string]any{"data": []any{session(otherSession, other, false), session(ownSession, "Photo Album", true)}})
}

func answerJSON(w http.ResponseWriter, media string, v any) {
	w.Header().Set("Content-Type", media)
	_ = json.NewEncoder(w).Encode(v)
}

func answerError(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": "<b>no</b>"})
}

func (f *fakeIssuer) serveToken(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	id, _ = url.QueryUnescape(id)
	secret, _ = url.QueryUnescape(secret) // RFC 6749 §2.3.1
	renewal := r.FormValue("grant_type") == "refresh_token"
	f.mu.Lock()
	defer f.mu.Unlock()
	if renewal {
		f.renewals++
	}
	if f.token != nil && f.token(w, r, renewal) {
		return
	}
	if id != clientID || secret != clientSecret {
		answerError(w, http.StatusUnauthorized, "invalid_client")
		return
	}
	sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	if !renewal && (r.FormValue("code") != "good" || f.challenge != base64.RawURLEncoding.EncodeToString(sum[:])) {
		answerError(w, http.StatusBadRequest, "invalid_grant")
		return
	}
	now := time.Now()
	hash := sha256.Sum256([]byte(accessToken))
	claims := map[string]any{"iss": f.URL, "aud": clientID, "sub": "alex-1", "sid": ownSession, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"auth_time": now.Unix(), "amr": []string{"pwd"}, "at_hash": base64.RawURLEncoding.EncodeToString(hash[:16])}
	if !renewal {
		claims["nonce"] = f.nonce
	}
	if f.claims != nil {
		f.claims(claims)
	}
	payload, _ := json.Marshal(claims)
	if f.sign == nil {
		f.sign = func(claims []byte) string { return signed(jose.ES256, f.key, claims) }
	}
	answer := map[string]any{"access_token": accessToken, "token_type": "Bearer", "expires_in": 300, "refresh_token": refreshToken, "id_token": f.sign(payload)}
	if f.answer != nil {
		f.answer(answer)
	}
	answerJSON(w, "application/json", answer)
}

func signed(alg jose.SignatureAlgorithm, key any, claims []byte) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
	if err != nil {
		return err.Error()
	}
	jws, err := signer.Sign(claims)
	if err != nil {
		return err.Error()
	}
	out, _ := jws.CompactSerialize()
	return out
}

// party is a relying party of a fake issuer, and the browser of its user.
type party struct {
	*fakeIssuer
	url    string
	client *http.Client
	log    *strings.Builder
	t      *testing.T
}

// openParty starts a relying party; change may change its configuration.
func openParty(t *testing.T, f *fakeIssuer, change ...func(*relyingparty.Config)) *party {
	t.Helper()
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	log := &strings.Builder{}
	cfg := relyingparty.Config{Issuer: f.URL, ClientID: clientID, ClientSecret: clientSecret, URL: server.URL, Name: "Photo Album",
		Logger: slog.New(slog.NewTextHandler(log, nil))}
	for _, c := range change {
		c(&cfg)
	}
	p, err := relyingparty.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	handler = p
	return (&party{fakeIssuer: f, url: server.URL, log: log, t: t}).anotherBrowser()
}

// anotherBrowser is the same application in a browser without cookies.
func (p *party) anotherBrowser() *party {
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	other := *p
	other.client = &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &other
}

// answered is what a browser got.
type answered struct {
	status   int
	header   http.Header
	body     string
	location string
}

func (p *party) do(req *http.Request) answered {
	p.t.Helper()
	res, err := p.client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, secret := range []string{accessToken, refreshToken, clientSecret} {
		if strings.Contains(string(body), secret) {
			p.t.Errorf("%s %s shows a secret: %s", req.Method, req.URL.Path, secret)
		}
	}
	return answered{status: res.StatusCode, header: res.Header, body: string(body), location: res.Header.Get("Location")}
}

func (p *party) get(path string) answered {
	p.t.Helper()
	req, err := http.NewRequest(http.MethodGet, p.url+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.do(req)
}

// post sends a form as the application's own pages do; headers change that.
func (p *party) post(path string, form url.Values, headers ...string) answered {
	p.t.Helper()
	req, err := http.NewRequest(http.MethodPost, p.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", p.url)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return p.do(req)
}

// begin presses "Sign in" and returns the good answer of the issuer.
func (p *party) begin() url.Values {
	p.t.Helper()
	res := p.post("/sign-in", nil)
	to, err := url.Parse(res.location)
	if err != nil || res.status != http.StatusSeeOther || !strings.HasPrefix(res.location, p.fakeIssuer.URL+"/authorize?") {
		p.t.Fatalf("signing in: %d to %q: %s", res.status, res.location, res.body)
	}
	q := to.Query()
	if q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 || len(q.Get("state")) < 40 || len(q.Get("nonce")) < 40 ||
		q.Get("response_type") != "code" || q.Get("redirect_uri") != p.url+"/callback" || q.Get("client_id") != clientID {
		p.t.Fatalf("the authorization request is %s", res.location)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.challenge, p.nonce = q.Get("code_challenge"), q.Get("nonce")
	return url.Values{"code": {"good"}, "state": {q.Get("state")}, "iss": {p.fakeIssuer.URL}}
}

func (p *party) callback(answer url.Values) answered {
	p.t.Helper()
	return p.get("/callback?" + answer.Encode())
}

// signIn signs in, which must succeed.
func (p *party) signIn() {
	p.t.Helper()
	if res := p.callback(p.begin()); res.status != http.StatusSeeOther || res.location != "/" {
		p.t.Fatalf("signing in: %d to %q\n%s\n%s", res.status, res.location, res.body, p.log)
	}
	p.mustBeSignedIn()
}

func (p *party) signedIn() bool {
	p.t.Helper()
	return strings.Contains(p.get("/").body, `id="access-token"`)
}

func (p *party) mustBeSignedIn() {
	p.t.Helper()
	if res := p.get("/"); !strings.Contains(res.body, `id="access-token"`) {
		p.t.Fatalf("nobody is signed in: %s", p.title(res))
	}
}

var heading = regexp.MustCompile(`(?s)<h1[^>]*>(.*?)</h1>`)

func (p *party) title(res answered) string {
	if m := heading.FindStringSubmatch(res.body); m != nil {
		return m[1]
	}
	return res.body
}
