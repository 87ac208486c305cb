package relyingparty_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"gatehouse.dev/gatehouse/relyingparty"
)

// logoutClaims are those of a good logout token about the user's session.
func (f *fakeIssuer) logoutClaims() map[string]any {
	now := time.Now()
	return map[string]any{"iss": f.URL, "aud": clientID, "sub": "alex-1", "sid": ownSession, "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(),
		"jti": rand.Text(), "events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}}
}

// signLogout signs claims as a logout token; typ "" leaves the header out.
func (f *fakeIssuer) signLogout(t *testing.T, claims map[string]any, typ string, key any, alg jose.SignatureAlgorithm) string {
	t.Helper()
	options := &jose.SignerOptions{}
	if typ != "" {
		options = options.WithType(jose.ContentType(typ))
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, options)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (p *party) goodLogout(change ...func(map[string]any)) string {
	p.t.Helper()
	claims := p.logoutClaims()
	for _, c := range change {
		c(claims)
	}
	return p.signLogout(p.t, claims, "logout+jwt", p.key, jose.ES256)
}

// tell posts as an issuer does: no browser, no cookies.
func (p *party) tell(token string) answered {
	p.t.Helper()
	return p.tellBody("application/x-www-form-urlencoded", url.Values{"logout_token": {token}}.Encode())
}

func (p *party) tellBody(media, body string) answered {
	p.t.Helper()
	req, err := http.NewRequest(http.MethodPost, p.url+"/backchannel-logout", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", media)
	return (&party{fakeIssuer: p.fakeIssuer, url: p.url, client: &http.Client{}, log: p.log, t: p.t}).do(req)
}

func TestLogoutTokenEndsTheSession(t *testing.T) {
	for name, change := range map[string]func(map[string]any){
		"session and subject": func(map[string]any) {},
		"session alone":       func(c map[string]any) { delete(c, "sub") },
		"subject alone":       func(c map[string]any) { delete(c, "sid") },
		"more in its event":   func(c map[string]any) { c["events"].(map[string]any)["https://example.com/other"] = map[string]any{} },
		"several audiences":   func(c map[string]any) { c["aud"] = []string{"calendar", clientID} },
		"a type to the full":  func(map[string]any) {},
	} {
		t.Run(name, func(t *testing.T) {
			p := openParty(t, newFakeIssuer(t))
			p.signIn()
			token := p.goodLogout(change)
			if name == "a type to the full" {
				token = p.signLogout(t, p.logoutClaims(), "application/logout+jwt", p.key, jose.ES256)
			}
			res := p.tell(token)
			if res.status != http.StatusOK || res.header.Get("Cache-Control") != "no-store" || res.body != "" || len(res.header["Set-Cookie"]) > 0 {
				t.Errorf("%d %q %v", res.status, res.body, res.header)
			}
			p.mu.Lock()
			p.calls = nil
			p.mu.Unlock()
			if page := p.get("/"); p.title(page) != "Your session was ended" {
				t.Errorf("the user sees %q", p.title(page))
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if len(p.calls) > 0 {
				t.Errorf("the issuer was asked: %v", p.calls)
			}
		})
	}
}

func TestLogoutTokenOfAnotherSessionEndsNothing(t *testing.T) {
	for name, change := range map[string]func(map[string]any){
		"another session":                      func(c map[string]any) { c["sid"] = otherSession },
		"another subject":                      func(c map[string]any) { c["sub"] = "bea-1" },
		"another subject alone":                func(c map[string]any) { c["sub"] = "bea-1"; delete(c, "sid") },
		"another session of nobody in special": func(c map[string]any) { c["sid"] = otherSession; delete(c, "sub") },
	} {
		t.Run(name, func(t *testing.T) {
			p := openParty(t, newFakeIssuer(t))
			p.signIn()
			if res := p.tell(p.goodLogout(change)); res.status != http.StatusOK {
				t.Errorf("%d %s", res.status, res.body)
			}
			p.mustBeSignedIn()
		})
	}
}

// Each defect of OpenID Connect Back-Channel Logout 1.0 §2.6, and of the
// request, by itself.
func TestLogoutTokenWithADefectIsRefused(t *testing.T) {
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const event = "http://schemas.openid.net/event/backchannel-logout"
	tokens := map[string]func(*party) string{
		"none":         func(*party) string { return "" },
		"not a JWS":    func(*party) string { return "logout" },
		"two parts":    func(p *party) string { return p.goodLogout()[:strings.LastIndex(p.goodLogout(), ".")] },
		"unsigned":     func(p *party) string { t := p.goodLogout(); return t[:strings.LastIndex(t, ".")+1] },
		"a stranger's": func(p *party) string { return p.signLogout(t, p.logoutClaims(), "logout+jwt", stranger, jose.ES256) },
		"alg none": func(p *party) string {
			payload, _ := json.Marshal(p.logoutClaims())
			return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"logout+jwt"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload) + "."
		},
		"an algorithm that is not announced": func(p *party) string {
			return p.signLogout(t, p.logoutClaims(), "logout+jwt", []byte(strings.Repeat("0123456789", 4)), jose.HS256)
		},
		"no type":            func(p *party) string { return p.signLogout(t, p.logoutClaims(), "", p.key, jose.ES256) },
		"an ID token's type": func(p *party) string { return p.signLogout(t, p.logoutClaims(), "JWT", p.key, jose.ES256) },
		"an access token's type": func(p *party) string {
			return p.signLogout(t, p.logoutClaims(), "at+jwt", p.key, jose.ES256)
		},
		"changed claims": func(p *party) string {
			one, two := strings.Split(p.goodLogout(), "."), strings.Split(p.goodLogout(), ".")
			return one[0] + "." + two[1] + "." + one[2]
		},
	}
	for name, change := range map[string]func(map[string]any){
		"another issuer":         func(c map[string]any) { c["iss"] = "https://op.example" },
		"no issuer":              func(c map[string]any) { delete(c, "iss") },
		"another audience":       func(c map[string]any) { c["aud"] = "calendar" },
		"no audience":            func(c map[string]any) { delete(c, "aud") },
		"no iat":                 func(c map[string]any) { delete(c, "iat") },
		"from the future":        func(c map[string]any) { c["iat"] = time.Now().Add(10 * time.Minute).Unix() },
		"old":                    func(c map[string]any) { c["iat"] = time.Now().Add(-time.Hour).Unix() },
		"no exp":                 func(c map[string]any) { delete(c, "exp") },
		"expired":                func(c map[string]any) { c["exp"] = time.Now().Add(-time.Second).Unix() },
		"no events":              func(c map[string]any) { delete(c, "events") },
		"another event":          func(c map[string]any) { c["events"] = map[string]any{"https://example.com/other": map[string]any{}} },
		"events as a list":       func(c map[string]any) { c["events"] = []string{event} },
		"an event that is null":  func(c map[string]any) { c["events"] = map[string]any{event: nil} },
		"an event that is text":  func(c map[string]any) { c["events"] = map[string]any{event: "yes"} },
		"an event that is list":  func(c map[string]any) { c["events"] = map[string]any{event: []int{}} },
		"neither sub nor sid":    func(c map[string]any) { delete(c, "sub"); delete(c, "sid") },
		"a nonce":                func(c map[string]any) { c["nonce"] = "n-1" },
		"an empty nonce":         func(c map[string]any) { c["nonce"] = "" },
		"a nonce that is null":   func(c map[string]any) { c["nonce"] = nil },
		"no jti":                 func(c map[string]any) { delete(c, "jti") },
		"a jti that is a number": func(c map[string]any) { c["jti"] = 1 },
	} {
		tokens[name] = func(p *party) string { return p.goodLogout(change) }
	}
	p := openParty(t, newFakeIssuer(t))
	p.signIn()
	refused := func(name string, res answered) {
		t.Helper()
		var said map[string]string
		if err := json.Unmarshal([]byte(res.body), &said); err != nil || res.status != http.StatusBadRequest || said["error"] != "invalid_request" ||
			said["error_description"] == "" || res.header.Get("Cache-Control") != "no-store" || res.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s %v", name, res.status, res.body, res.header)
		}
	}
	for name, token := range tokens {
		refused(name, p.tell(token(p)))
	}
	good := url.Values{"logout_token": {p.goodLogout()}}
	refused("a token twice", p.tellBody("application/x-www-form-urlencoded", good.Encode()+"&"+good.Encode()))
	refused("as text", p.tellBody("text/plain", good.Encode()))
	refused("as JSON", p.tellBody("application/json", `{"logout_token":"`+p.goodLogout()+`"}`))
	refused("too long", p.tellBody("application/x-www-form-urlencoded", good.Encode()+"&pad="+strings.Repeat("x", 20<<10)))
	req, err := http.NewRequest(http.MethodPost, p.url+"/backchannel-logout?"+good.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	refused("in the query", p.do(req))
	p.mustBeSignedIn()
	if res := p.get("/backchannel-logout?" + good.Encode()); res.status != http.StatusNotFound {
		t.Errorf("GET: %d", res.status)
	}
	p.mustBeSignedIn()
	// The same token, without a defect, is good.
	if res := p.tell(good.Get("logout_token")); res.status != http.StatusOK || p.signedIn() {
		t.Errorf("the good one: %d %s", res.status, res.body)
	}
}

// What comes again is acknowledged, so that it doesn't come for ever, and ends
// nothing that began since.
func TestLogoutTokenThatCameBeforeEndsNothing(t *testing.T) {
	p := openParty(t, newFakeIssuer(t))
	p.signIn()
	claims := p.logoutClaims()
	delete(claims, "sid") // else it would be about the ended session alone
	sign := func() string { return p.signLogout(t, maps.Clone(claims), "logout+jwt", p.key, jose.ES256) }
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if res := p.tell(sign()); res.status != http.StatusOK {
				t.Errorf("%d %s", res.status, res.body)
			}
		})
	}
	all.Wait()
	if p.signedIn() {
		t.Fatal("the session was not ended")
	}
	p.signIn()
	if res := p.tell(sign()); res.status != http.StatusOK {
		t.Errorf("again: %d %s", res.status, res.body)
	}
	p.mustBeSignedIn()
}

// The message may be faster than the end of the sign-in that it is about.
func TestLogoutDuringTheSignInHolds(t *testing.T) {
	f := newFakeIssuer(t)
	var p *party
	f.userinfo = func(w http.ResponseWriter, r *http.Request) { // the ID token has arrived, the visit not begun
		if res := p.tell(p.goodLogout()); res.status != http.StatusOK {
			t.Errorf("%d %s", res.status, res.body)
		}
		answerJSON(w, "application/json", map[string]any{"sub": "alex-1"})
	}
	p = openParty(t, f)
	p.callback(p.begin())
	if page := p.get("/"); p.title(page) != "Your session was ended" {
		t.Errorf("the user sees %q", p.title(page))
	}
}

// Several browsers have sessions of their own, unless a token names the
// subject alone.
func TestLogoutTokenEndsOneOfSeveralBrowsers(t *testing.T) {
	f := newFakeIssuer(t)
	sid := ownSession
	f.claims = func(c map[string]any) { c["sid"] = sid }
	one := openParty(t, f)
	one.signIn()
	two := one.anotherBrowser()
	sid = otherSession
	two.signIn()
	if res := one.tell(one.goodLogout()); res.status != http.StatusOK || one.signedIn() || !two.signedIn() {
		t.Errorf("%d; one is signed in: %t, two: %t", res.status, one.signedIn(), two.signedIn())
	}
	sid = ownSession[1:] + "x"
	one.signIn()
	if res := one.tell(one.goodLogout(func(c map[string]any) { delete(c, "sid") })); res.status != http.StatusOK || one.signedIn() || two.signedIn() {
		t.Errorf("%d; one is signed in: %t, two: %t", res.status, one.signedIn(), two.signedIn())
	}
}

// A relying party in which nobody has signed in yet still judges.
func TestLogoutTokenIsJudgedBeforeAnySignIn(t *testing.T) {
	p := openParty(t, newFakeIssuer(t))
	if res := p.tell(p.goodLogout(func(c map[string]any) { c["aud"] = "calendar" })); res.status != http.StatusBadRequest {
		t.Errorf("with another audience: %d", res.status)
	}
	if res := p.tell(p.goodLogout()); res.status != http.StatusOK {
		t.Errorf("a good one: %d %s", res.status, res.body)
	}
	away := newFakeIssuer(t)
	token := openParty(t, away).goodLogout()
	q := openParty(t, away, func(c *relyingparty.Config) { c.Transport = http.NewFileTransport(http.Dir(t.TempDir())) })
	if res := q.tell(token); res.status != http.StatusBadRequest {
		t.Errorf("with an issuer that is away: %d %s", res.status, res.body)
	}
}
