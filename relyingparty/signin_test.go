package relyingparty_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"gatehouse.dev/gatehouse/relyingparty"
)

func TestSignsInAndShowsWhatItKnows(t *testing.T) {
	p := openParty(t, newFakeIssuer(t))
	start := p.get("/")
	if start.status != http.StatusOK || !strings.Contains(start.body, `action="/sign-in"`) || len(start.header["Set-Cookie"]) != 0 {
		t.Errorf("the start page: %d %v %s", start.status, start.header, start.body)
	}
	p.signIn()
	page := p.get("/")
	for _, want := range []string{"Photo Album", "alex@example.com", ">yes</dd>", "valid for 4 min 5", "this session", `value="` + otherSession + `"`, "End all other sessions",
		"amr", "pwd", "access-t… (45 characters)"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page lacks %q:\n%s", want, page.body)
		}
	}
	if strings.Contains(page.body, `value="`+ownSession+`"`) {
		t.Error("the own session is ended by the button of the others")
	}
}

func TestAnswersThatAreNotForThisRequestAreRefused(t *testing.T) {
	change := func(f func(url.Values)) func(*party, url.Values) answered {
		return func(p *party, v url.Values) answered { f(v); return p.callback(v) }
	}
	for name, refused := range map[string]func(*party, url.Values) answered{
		"no state":      change(func(v url.Values) { v.Del("state") }),
		"empty state":   change(func(v url.Values) { v.Set("state", "") }),
		"unknown state": change(func(v url.Values) { v.Set("state", strings.Repeat("A", 43)) }),
		"changed state": change(func(v url.Values) { v.Set("state", v.Get("state")[1:]+"A") }),
		"two states":    change(func(v url.Values) { v.Add("state", "x") }),
		"no iss":        change(func(v url.Values) { v.Del("iss") }),
		"wrong iss":     change(func(v url.Values) { v.Set("iss", "https://attacker.example") }),
		"iss and slash": change(func(v url.Values) { v.Set("iss", v.Get("iss")+"/") }),
		"two iss":       change(func(v url.Values) { v.Add("iss", "https://attacker.example") }),
		"no code":       change(func(v url.Values) { v.Del("code") }),
		"two codes":     change(func(v url.Values) { v.Add("code", "good") }),
		"another code":  change(func(v url.Values) { v.Set("code", "bad") }),
		"no parameters": change(func(v url.Values) { clear(v) }),
		"no query":      func(p *party, v url.Values) answered { return p.get("/callback") },
		"broken query":  func(p *party, v url.Values) answered { return p.get("/callback?" + v.Encode() + "&%zz") },
		"posted": func(p *party, v url.Values) answered {
			return p.post("/callback", v)
		},
		"in a browser that began nothing": func(p *party, v url.Values) answered { return p.anotherBrowser().callback(v) },
		"in a browser that began another": func(p *party, v url.Values) answered {
			other := p.anotherBrowser()
			other.begin()
			return other.callback(v)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := openParty(t, newFakeIssuer(t))
			res := refused(p, p.begin())
			if res.status < 400 || strings.Contains(strings.Join(res.header["Set-Cookie"], ""), "rp-") {
				t.Errorf("%d to %q, %v", res.status, res.location, res.header["Set-Cookie"])
			}
			if p.signedIn() {
				t.Error("somebody is signed in")
			}
		})
	}
}

func TestStateIsGoodOnce(t *testing.T) {
	p := openParty(t, newFakeIssuer(t))
	answer := p.begin()
	const tries = 8
	results := make(chan answered, tries)
	var all sync.WaitGroup
	for range tries {
		all.Go(func() {
			req, _ := http.NewRequest(http.MethodGet, p.url+"/callback?"+answer.Encode(), nil)
			results <- p.do(req)
		})
	}
	all.Wait()
	good := 0
	for range tries {
		if res := <-results; res.status == http.StatusSeeOther {
			good++
		} else if res.status != http.StatusBadRequest {
			t.Errorf("a replay gets %d", res.status)
		}
	}
	if good != 1 {
		t.Errorf("%d of %d tries with one state succeeded", good, tries)
	}
}

// A thief's answer must not use up the state that the victim still needs, and
// an answer with the wrong iss must.
func TestStateOfAnotherBrowserIsNotSpent(t *testing.T) {
	p := openParty(t, newFakeIssuer(t))
	answer := p.begin()
	if res := p.anotherBrowser().callback(answer); res.status != http.StatusBadRequest {
		t.Errorf("another browser gets %d", res.status)
	}
	if res := p.callback(answer); res.status != http.StatusSeeOther {
		t.Errorf("and then its owner %d: %s", res.status, p.title(res))
	}
	answer = p.begin()
	wrong := url.Values{"code": answer["code"], "state": answer["state"], "iss": {"https://attacker.example"}}
	p.callback(wrong)
	if res := p.callback(answer); res.status != http.StatusBadRequest {
		t.Errorf("after a mix-up the state is good again: %d", res.status)
	}
}

func TestSignInTakesTenMinutesAtMost(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	p := openParty(t, newFakeIssuer(t), func(c *relyingparty.Config) {
		c.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	})
	answer := p.begin()
	mu.Lock()
	now = now.Add(10 * time.Minute)
	mu.Unlock()
	if res := p.callback(answer); res.status != http.StatusBadRequest || p.signedIn() {
		t.Errorf("after 10 minutes: %d", res.status)
	}
}

func TestErrorAnswersAreEscapedAndSpendTheState(t *testing.T) {
	for code, status := range map[string]int{"access_denied": 200, "server_error": 502, "login_required": 400, `"><script>alert(1)</script>`: 400, strings.Repeat("x", 3000): 400} {
		p := openParty(t, newFakeIssuer(t))
		answer := p.begin()
		failed := url.Values{"state": answer["state"], "iss": answer["iss"], "error": {code}, "error_description": {"<img src=x onerror=alert(1)>" + strings.Repeat("y", 3000)},
			"code": {"good"}}
		res := p.callback(failed)
		if res.status != status || strings.Contains(res.body, "<script") || strings.Contains(res.body, "<img") || len(res.body) > 5000 {
			t.Errorf("%.30q: %d\n%s", code, res.status, res.body)
		}
		if !strings.Contains(res.body, "&lt;img src=x") {
			t.Errorf("%.30q: the description isn't shown:\n%s", code, res.body)
		}
		if res := p.callback(answer); res.status != http.StatusBadRequest || p.signedIn() {
			t.Errorf("%.30q: a code after an error: %d", code, res.status)
		}
		// From somebody else it isn't even shown.
		failed["state"], failed["iss"] = p.begin()["state"], []string{"https://attacker.example"}
		if res := p.callback(failed); strings.Contains(res.body, "onerror") {
			t.Errorf("the text of another issuer is shown")
		}
	}
}

func TestHostileTokensAreRefused(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := func(name string, value any) func(*fakeIssuer) {
		return func(f *fakeIssuer) { f.claims = func(c map[string]any) { c[name] = value } }
	}
	without := func(name string) func(*fakeIssuer) {
		return func(f *fakeIssuer) { f.claims = func(c map[string]any) { delete(c, name) } }
	}
	answer := func(change func(map[string]any)) func(*fakeIssuer) { return func(f *fakeIssuer) { f.answer = change } }
	instead := func(h http.HandlerFunc) func(*fakeIssuer) {
		return func(f *fakeIssuer) {
			f.token = func(w http.ResponseWriter, r *http.Request, _ bool) bool { h(w, r); return true }
		}
	}
	for name, tt := range map[string]struct {
		hostile func(*fakeIssuer)
		status  int
	}{
		"wrong nonce":                  {set("nonce", "another"), 502},
		"no nonce":                     {without("nonce"), 502},
		"ID token of another audience": {set("aud", "calendar"), 502},
		"no audience":                  {without("aud"), 502},
		"many audiences, no azp":       {set("aud", []string{clientID, "calendar"}), 502},
		"azp is another":               {set("azp", "calendar"), 502},
		"ID token of another issuer":   {set("iss", "https://attacker.example"), 502},
		"no issuer":                    {without("iss"), 502},
		"expired":                      {set("exp", time.Now().Add(-time.Minute).Unix()), 502},
		"no expiry":                    {without("exp"), 502},
		"not yet valid":                {set("nbf", time.Now().Add(time.Hour).Unix()), 502},
		"no subject":                   {without("sub"), 502},
		"subject is a number":          {set("sub", 7), 502},
		"of another access token":      {set("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), 502},
		"signed by another": {func(f *fakeIssuer) {
			f.sign = func(c []byte) string { return signed(jose.ES256, other, c) }
		}, 502},
		"alg none": {func(f *fakeIssuer) {
			f.sign = func(c []byte) string {
				return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(c) + "."
			}
		}, 502},
		"HS256 with the secret": {func(f *fakeIssuer) {
			f.sign = func(c []byte) string { return signed(jose.HS256, []byte(strings.Repeat(clientSecret, 2)), c) }
		}, 502},
		"no ID token":           {answer(func(a map[string]any) { delete(a, "id_token") }), 502},
		"ID token is a list":    {answer(func(a map[string]any) { a["id_token"] = []string{"x"} }), 502},
		"ID token is no JWT":    {answer(func(a map[string]any) { a["id_token"] = "<script>" }), 502},
		"no access token":       {answer(func(a map[string]any) { delete(a, "access_token") }), 502},
		"another type of token": {answer(func(a map[string]any) { a["token_type"] = "DPoP" }), 502},
		"no type of token":      {answer(func(a map[string]any) { delete(a, "token_type") }), 502},
		"an error with 200":     {answer(func(a map[string]any) { a["error"] = "invalid_grant" }), 502},
		"invalid_grant":         {instead(func(w http.ResponseWriter, _ *http.Request) { answerError(w, 400, "invalid_grant") }), 502},
		"invalid_client":        {instead(func(w http.ResponseWriter, _ *http.Request) { answerError(w, 401, "invalid_client") }), 502},
		"503":                   {instead(func(w http.ResponseWriter, _ *http.Request) { answerError(w, 503, "temporarily_unavailable") }), 503},
		"HTML":                  {instead(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }), 502},
		"oversized": {instead(func(w http.ResponseWriter, _ *http.Request) {
			answerJSON(w, "application/json", map[string]string{"access_token": strings.Repeat("x", 3<<20), "token_type": "Bearer"})
		}), 502},
		"sends the code on": {instead(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}), 502},
		"userinfo of another subject": {func(f *fakeIssuer) {
			f.userinfo = func(w http.ResponseWriter, _ *http.Request) {
				answerJSON(w, "application/json", map[string]string{"sub": "bea-2", "name": "Bea"})
			}
		}, 502},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeIssuer(t)
			tt.hostile(f)
			p := openParty(t, f)
			res := p.callback(p.begin())
			if res.status != tt.status || strings.Contains(res.body, "<script>") || strings.Contains(res.body, "<b>") {
				t.Errorf("%d, want %d: %s", res.status, tt.status, p.title(res))
			}
			if p.signedIn() {
				t.Error("somebody is signed in")
			}
			if len(f.leaked) != 0 {
				t.Errorf("sent on: %q", f.leaked)
			}
			for _, secret := range []string{clientSecret, accessToken, refreshToken} {
				if strings.Contains(p.log.String(), secret) {
					t.Errorf("the log has %q:\n%s", secret, p.log)
				}
			}
		})
	}
}

func TestUnusableMetadataBeginNothing(t *testing.T) {
	endpoint := func(name, value string) func(map[string]any) { return func(m map[string]any) { m[name] = value } }
	for name, tt := range map[string]struct {
		change func(map[string]any)
		status int
	}{
		"another issuer":             {endpoint("issuer", "https://attacker.example"), 502},
		"no issuer":                  {endpoint("issuer", ""), 502},
		"authorization by script":    {endpoint("authorization_endpoint", "javascript:alert(1)"), 502},
		"no authorization endpoint":  {endpoint("authorization_endpoint", ""), 502},
		"token endpoint is a file":   {endpoint("token_endpoint", "file:///etc/passwd"), 502},
		"relative key set":           {endpoint("jwks_uri", "/jwks"), 502},
		"oversized":                  {endpoint("x", strings.Repeat("x", 3<<20)), 503},
		"userinfo with another user": {endpoint("userinfo_endpoint", "http://u:p@localhost/"), 502},
	} {
		f := newFakeIssuer(t)
		f.metadata = tt.change
		p := openParty(t, f)
		if res := p.post("/sign-in", nil); res.status != tt.status || res.location != "" {
			t.Errorf("%s: %d to %q, want %d", name, res.status, res.location, tt.status)
		}
	}
	f := newFakeIssuer(t)
	p := openParty(t, f)
	f.Server.Close()
	if res := p.post("/sign-in", nil); res.status != http.StatusServiceUnavailable || !strings.Contains(res.body, "can&#39;t be reached") {
		t.Errorf("without an issuer: %d %s", res.status, res.body)
	}
	if res := p.get("/"); res.status != http.StatusOK {
		t.Errorf("the start page without an issuer: %d", res.status)
	}
}

// through reaches a fake issuer under another name.
type through struct{ to string }

func (h through) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(h.to, "http://")
	return http.DefaultTransport.RoundTrip(r)
}

func TestIssuerWithHTTPSNamesNoEndpointWithout(t *testing.T) {
	for endpoint, want := range map[string]int{"https://op.example/token": http.StatusSeeOther, "http://op.example/token": http.StatusBadGateway} {
		f := newFakeIssuer(t)
		f.metadata = func(m map[string]any) {
			for name, value := range m {
				if s, ok := value.(string); ok {
					m[name] = strings.Replace(s, f.URL, "https://op.example", 1)
				}
			}
			m["token_endpoint"] = endpoint
		}
		p := openParty(t, f, func(c *relyingparty.Config) { c.Issuer, c.Transport = "https://op.example", through{f.URL} })
		if res := p.post("/sign-in", nil); res.status != want {
			t.Errorf("%s: %d, want %d", endpoint, res.status, want)
		}
	}
}

func TestIssuerWithoutISSIsTakenAndAWrongOneIsNot(t *testing.T) {
	f := newFakeIssuer(t)
	f.metadata = func(m map[string]any) { delete(m, "authorization_response_iss_parameter_supported") }
	p := openParty(t, f)
	answer := p.begin()
	answer.Set("iss", "https://attacker.example")
	if res := p.callback(answer); res.status != http.StatusBadRequest {
		t.Errorf("a wrong iss of an issuer that needs none: %d", res.status)
	}
	answer = p.begin()
	answer.Del("iss")
	if res := p.callback(answer); res.status != http.StatusSeeOther {
		t.Errorf("no iss of an issuer that needs none: %d", res.status)
	}
}

func TestMissingUserinfoIsNoFailure(t *testing.T) {
	for name, userinfo := range map[string]http.HandlerFunc{
		"500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"oversized": func(w http.ResponseWriter, _ *http.Request) {
			answerJSON(w, "application/json", map[string]string{"sub": "alex-1", "name": strings.Repeat("x", 3<<20)})
		},
	} {
		f := newFakeIssuer(t)
		f.userinfo = userinfo
		p := openParty(t, f)
		p.signIn()
		if page := p.get("/"); !strings.Contains(page.body, "told no more") || len(page.body) > 20_000 {
			t.Errorf("%s: %d bytes:\n%.5000s", name, len(page.body), page.body)
		}
	}
}

func TestHostileClaimsAreEscapedAndCut(t *testing.T) {
	f := newFakeIssuer(t)
	hostile := map[string]any{"sub": "alex-1", "name": "<script>alert(1)</script>", "<b>": "<i>" + strings.Repeat("z", 100_000), "list": []any{"<u>", 1, map[string]any{"a": "<s>"}}}
	for i := range 200 {
		hostile["claim"+strings.Repeat("i", i)] = i
	}
	f.userinfo = func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(hostile) }
	f.sessions = func(w http.ResponseWriter, _ *http.Request) {
		sessionDocument(w, `"><script>alert(2)</script>`+strings.Repeat("z", 100_000))
	}
	p := openParty(t, f)
	p.signIn()
	page := p.get("/")
	for _, never := range []string{"<script", "<i>", "<b>", "<u>", "<s>"} {
		if strings.Contains(page.body, never) {
			t.Errorf("the page has %s", never)
		}
	}
	if len(page.body) > 40_000 || !strings.Contains(page.body, "and 14") {
		t.Errorf("the page has %d bytes:\n%.3000s", len(page.body), page.body)
	}
}
