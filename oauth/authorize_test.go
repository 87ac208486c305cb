package oauth_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
)

// RFC 9700 §4.1.3 and §4.11.2: compared byte by byte, and what does not match
// is told to the person alone.
func TestMismatchedRedirectURIIsNeverRedirectedTo(t *testing.T) {
	h := open(t, options{})
	b := h.signedIn("alex")
	for client, uris := range map[string][]string{
		"web": {
			"https://web.example/cb/", "https://web.example/CB", "https://web.example/cb?x=1", "https://web.example/cb#f", "https://web.example/cb%20",
			"https://web.example:443/cb", "https://web.example.evil.example/cb", "https://web.example@evil.example/cb", "https://evil.example/cb",
			"http://web.example/cb", "//web.example/cb", "https:web.example/cb", "https://web.example/x/../cb", `https://web.example\@evil.example/cb`,
			"https://web.example/cb\r\nSet-Cookie: a=b", "https://web.example/cb\x00", " https://web.example/cb", "javascript:alert(1)", "data:text/html,x", "https://two.example/second?tab=1",
			"/cb", "https://web.example/cb https://evil.example/",
		},
		"two": {"https://two.example/second", "https://two.example/second?tab=2", "https://two.example/second?tab=1&x=1", "https://two.example/cb?tab=1"},
		"native": {
			"http://localhost/cb", "http://localhost:4711/cb", "https://127.0.0.1:4711/cb", "http://127.0.0.1:4711/other", "http://127.0.0.1:4711/cb?x=1",
			"http://127.0.0.1.evil.example/cb", "http://127.0.0.1:80@evil.example/cb", "http://127.0.0.2:4711/cb", "http://127.0.0.1:0/cb",
			"http://127.0.0.1:99999/cb", "http://[::1]:4711/cb", "http://127.0.0.1:4711/cb#f", "com.example.app:/other", "com.example.app.evil:/cb",
		},
	} {
		for _, uri := range uris {
			for _, prompt := range []string{"login", "none"} {
				b.get(h.jwt.request(client, "redirect_uri", uri, "prompt", prompt)).isError(http.StatusBadRequest, "redirect_uri")
			}
		}
	}
	b.get(h.jwt.request("web", "+redirect_uri", "https://evil.example/")).isError(http.StatusBadRequest, "redirect_uri")
	b.get(h.jwt.request("web", "+client_id", "other")).isError(http.StatusBadRequest, "client_id")
	for _, unknown := range []string{"", "nobody", "web\x00", "WEB", "web ", strings.Repeat("w", 300), "wéb"} {
		b.get(h.jwt.request("web", "client_id", unknown)).isError(http.StatusBadRequest, "not known")
	}
}

func TestRedirectURIMayBeLeftOutOnlyWhereThereIsOneAndNoOpenID(t *testing.T) {
	h := open(t, options{})
	b := h.signedIn("alex")
	s := h.jwt
	b.get(s.request("web", "-redirect_uri", "")).isError(http.StatusBadRequest, "redirect_uri is missing")
	b.get(s.request("two", "-redirect_uri", "", "scope", "api:read")).isError(http.StatusBadRequest, "redirect_uri is missing")

	a := b.get(s.request("web", "-redirect_uri", "", "scope", "api:read"))
	code := s.authorized(a)
	if !strings.HasPrefix(a.location(), "https://web.example/cb?") {
		t.Errorf("code sent to %s", a.location())
	}
	// RFC 6749 §4.1.3: left out there, it may be left out here.
	s.redeem("web", code, "redirect_uri", "https://other.example/cb").fails(http.StatusBadRequest, "invalid_grant")
	s.tokens(s.redeem("web", code, "-redirect_uri", ""))
}

func TestRedirectURIKeepsItsQueryAndNativeClientsTheirPort(t *testing.T) {
	h := open(t, options{})
	b := h.signedIn("alex")
	s := h.jwt
	for client, uris := range map[string][]string{
		"two":    {"https://two.example/second?tab=1"},
		"native": {"http://127.0.0.1/cb", "http://127.0.0.1:4711/cb", "http://127.0.0.1:61000/cb", "com.example.app:/cb"},
	} {
		for _, uri := range uris {
			a := b.get(s.request(client, "redirect_uri", uri))
			code := s.authorized(a)
			if to := a.header.Get("Location"); !strings.HasPrefix(to, uri) {
				t.Errorf("code for %s sent to %s", uri, to)
			}
			s.tokens(s.redeem(client, code, "redirect_uri", uri))
		}
	}
	if v := s.response(b.get(s.request("two", "redirect_uri", "https://two.example/second?tab=1"))); v.Get("tab") != "1" {
		t.Error("the registered query is gone")
	}
}

func TestRepeatedParametersAreRefused(t *testing.T) {
	h := open(t, options{})
	b := h.signedIn("alex")
	s := h.jwt
	for name := range s.params("web", "prompt", "none", "max_age", "5", "claims", "{}", "anything", "x") {
		if name == "client_id" || name == "redirect_uri" {
			continue // their test is above
		}
		v := s.refused(b.get(s.request("web", "+"+name, "1", "+"+name, "2")), "invalid_request")
		if want := map[bool]string{true: "", false: "st-1"}[name == "state"]; v.Get("state") != want {
			t.Errorf("state in the answer to a repeated %s: %q", name, v.Get("state"))
		}
	}
	s.code(b, "web", "resource", api, "+resource", files) // RFC 8707 §2
}

func TestRequestThatIsTooLongNamesPAR(t *testing.T) {
	h := open(t, options{})
	b := h.signedIn("alex")
	s := h.jwt
	s.code(b, "web", "filler", strings.Repeat("x", 7000))
	b.get(s.request("web", "filler", strings.Repeat("x", 8<<10))).isError(http.StatusBadRequest, "invalid_request", "pushed authorization request")
	h.do(b.client, http.MethodPost, s.at+"/authorize", s.params("web", "filler", strings.Repeat("x", 8<<10)).Encode()).
		isError(http.StatusRequestEntityTooLarge, "invalid_request", "pushed authorization request")
}

func TestPostedRequestBecomesAGet(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	// Posted from another site, it comes without the cookie (SameSite=Lax).
	a := h.do(bare, http.MethodPost, s.at+"/authorize", s.params("web").Encode())
	if a.status != http.StatusSeeOther || a.location() != s.request("web") {
		t.Fatalf("%d to %s", a.status, a.location())
	}
	s.authorized(h.signedIn("alex").follow(a.location()))

	h.do(bare, http.MethodPost, s.at+"/authorize?client_id=other", s.params("web").Encode()).isError(http.StatusBadRequest, "body alone")
	if a := h.do(bare, http.MethodPost, s.at+"/authorize", "client_id=%zz").isError(http.StatusBadRequest); strings.Contains(a.body, "8 KiB") {
		t.Error("a broken form is called too long")
	}
	h.do(bare, http.MethodGet, s.at+"/authorize?client_id=%zz", "").isError(http.StatusBadRequest)
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch} {
		if a := h.do(bare, method, s.request("web"), ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, POST" {
			t.Errorf("%s: %d, Allow %q", method, a.status, a.header.Get("Allow"))
		}
	}
}

// What is wrong is told to the client, before anybody has to sign in.
func TestErrorsOfTheRequestGoToTheClient(t *testing.T) {
	h := open(t, options{})
	b := h.browser()
	for _, test := range []struct {
		code  string
		pairs []string
	}{
		{"unsupported_response_type", []string{"response_type", "token"}},
		{"unsupported_response_type", []string{"response_type", "id_token"}},
		{"unsupported_response_type", []string{"response_type", "code token"}},
		{"unsupported_response_type", []string{"response_type", "code id_token"}},
		{"unsupported_response_type", []string{"response_type", "none"}},
		{"unsupported_response_type", []string{"response_type", "CODE"}},
		{"invalid_request", []string{"-response_type", ""}},
		{"invalid_request", []string{"response_type", ""}},
		{"invalid_request", []string{"response_mode", "fragment"}},
		{"invalid_request", []string{"response_mode", "jwt"}},
		{"invalid_request", []string{"response_mode", "web_message"}},
		{"request_not_supported", []string{"request", "eyJhbGciOiJub25lIn0.e30."}},
		{"request_uri_not_supported", []string{"request_uri", "urn:ietf:params:oauth:request_uri:x"}},
		{"request_uri_not_supported", []string{"request_uri", "https://evil.example/"}},
		{"registration_not_supported", []string{"registration", "{}"}},
		{"invalid_scope", []string{"scope", "openid admin"}},
		{"invalid_scope", []string{"scope", "openid api:*"}},
		{"invalid_scope", []string{"scope", "OPENID"}},
		{"invalid_scope", []string{"scope", "openid internal_session_view"}},
		{"invalid_request", []string{"prompt", "sometimes"}},
		{"invalid_request", []string{"prompt", "none sometimes"}},
		{"invalid_request", []string{"prompt", "none login"}},
		{"invalid_request", []string{"prompt", "none consent"}},
		{"invalid_request", []string{"prompt", "NONE"}},
		{"invalid_request", []string{"max_age", "-1"}},
		{"invalid_request", []string{"max_age", "soon"}},
		{"invalid_request", []string{"max_age", "1.5"}},
		{"invalid_request", []string{"nonce", strings.Repeat("n", 513)}},
		{"invalid_request", []string{"nonce", "a\x00b"}},
		{"invalid_request", []string{"nonce", "\xff"}},
		{"invalid_request", []string{"id_token_hint", "garbage"}},
		{"invalid_request", []string{"code_challenge_method", "plain"}},
		{"invalid_request", []string{"-code_challenge_method", ""}}, // its default is plain (RFC 7636 §4.3)
		{"invalid_request", []string{"code_challenge_method", "s256"}},
		{"invalid_request", []string{"-code_challenge", ""}},
		{"invalid_request", []string{"code_challenge", ""}},
		{"invalid_request", []string{"code_challenge", "short"}},
		{"invalid_request", []string{"code_challenge", challengeOf(verifier) + "="}},
		{"invalid_request", []string{"code_challenge", strings.Repeat("A", 44)}},
		{"invalid_request", []string{"code_challenge", strings.Repeat("/", 43)}},
		{"invalid_target", []string{"resource", "https://unknown.example"}},
		{"invalid_target", []string{"resource", api, "+resource", "https://unknown.example"}},
		{"invalid_target", []string{"resource", api + "/"}},
	} {
		for _, s := range h.servers() {
			if v := s.refused(b.get(s.request("web", test.pairs...)), test.code); v.Get("state") != "st-1" {
				t.Errorf("%q: state %q", test.pairs, v.Get("state"))
			}
		}
	}
}

// OAuth 2.1 §7.5.1: PKCE, unless a confidential client sends a nonce and the
// operator leaves it at that.
func TestPKCEPolicy(t *testing.T) {
	type want struct{ web, webNonce, webNonceWithoutOpenID, strictNonce, spa, spaNonce bool }
	for policy, want := range map[string]want{
		oauth.PKCEAll:    {true, true, true, true, true, true},
		oauth.PKCENonce:  {true, false, true, true, true, true},
		"":               {true, false, true, true, true, true},
		oauth.PKCEPublic: {false, false, false, true, true, true},
	} {
		h := open(t, options{Server: func(c *oauth.Config) { c.PKCE = policy }})
		b, s := h.signedIn("alex"), h.jwt
		for _, test := range []struct {
			name     string
			required bool
			client   string
			pairs    []string
		}{
			{"web", want.web, "web", []string{"-nonce", ""}},
			{"web with a nonce", want.webNonce, "web", nil},
			{"web with a nonce without openid", want.webNonceWithoutOpenID, "web", []string{"scope", "api:read"}},
			{"a client with require_pkce and a nonce", want.strictNonce, "strict", nil},
			{"a public client", want.spa, "spa", []string{"-nonce", ""}},
			{"a public client with a nonce", want.spaNonce, "spa", nil},
		} {
			without := b.get(s.request(test.client, append([]string{"-code_challenge", "", "-code_challenge_method", ""}, test.pairs...)...))
			if test.required {
				if v := s.refused(without, "invalid_request"); !strings.Contains(v.Get("error_description"), "PKCE is required") {
					t.Errorf("policy %q, %s: %s", policy, test.name, v.Get("error_description"))
				}
			} else {
				s.tokens(s.redeem(test.client, s.authorized(without), "-code_verifier", ""))
			}
			s.code(b, test.client, test.pairs...)
		}
	}
}

// fosite refuses what has fewer than 8 characters.
func TestStateAndNonceMayBeShortOrAbsent(t *testing.T) {
	h := open(t, options{})
	b, s := h.signedIn("alex"), h.jwt
	for _, text := range []string{"", "1", "ab", `"><script>`, "ümlaut & co", "a b+c"} {
		pairs := []string{"state", text, "nonce", text}
		if text == "" {
			pairs = []string{"-state", "", "-nonce", ""}
		}
		a := b.get(s.request("web", pairs...))
		if v := s.response(a); v.Get("state") != text || v.Has("state") != (text != "") {
			t.Errorf("state %q came back as %q", text, v["state"])
		}
		id := claims(t, s.tokens(s.redeem("web", s.authorized(a))).ID)
		if nonce, there := id["nonce"]; there != (text != "") || there && nonce != text {
			t.Errorf("nonce %q came back as %v", text, nonce)
		}
		if v := s.refused(b.get(s.request("web", append(pairs, "scope", "openid admin")...)), "invalid_scope"); v.Get("state") != text || v.Has("state") != (text != "") {
			t.Errorf("state %q came back in an error as %q", text, v["state"])
		}
	}
}

// OAuth 2.0 Form Post Response Mode §2.
func TestFormPostIsEscapedAndRunsNothingButItsOwnScript(t *testing.T) {
	h := open(t, options{})
	b, s := h.signedIn("alex"), h.jwt
	const evil = `"><script>alert(1)</script>`
	for _, pairs := range [][]string{nil, {"scope", "openid admin"}, {"prompt", "none login"}} {
		a := b.follow(s.request("web", append([]string{"response_mode", "form_post", "state", evil}, pairs...)...))
		if a.status != http.StatusOK || strings.Contains(a.body, "alert(1)</script>") {
			t.Fatalf("%d\n%s", a.status, a.body)
		}
		to, v := a.form()
		if to != "https://web.example/cb" || v.Get("state") != evil || v.Get("iss") != s.issuer || v.Has("code") != (pairs == nil) || v.Has("error") == (pairs == nil) {
			t.Errorf("%s gets %v", to, v)
		}
		_, script, _ := strings.Cut(a.body, "<script>")
		script, _, _ = strings.Cut(script, "</script>")
		policy := a.header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "script-src 'sha256-"+sha256Base64(script)+"'") ||
			!strings.Contains(policy, "frame-ancestors 'none'") || !strings.Contains(policy, "base-uri 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("policy %q for the script %q", policy, script)
		}
		for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"} {
			if a.header.Get(name) != want {
				t.Errorf("%s: %q", name, a.header.Get(name))
			}
		}
		if pairs == nil {
			h.secret(v.Get("code"))
			s.tokens(s.redeem("web", v.Get("code")))
		}
	}
	// One who asks for a mode that isn't there is answered in the default one.
	s.refused(b.get(s.request("web", "response_mode", "form_post.jwt")), "invalid_request")
}

func TestClientWithoutTheGrantGetsNoCode(t *testing.T) {
	static := append(staticClients(), client("nocode", func(c *clients.Client) {
		c.GrantTypes, c.ResponseTypes = []string{clients.GrantClientCredentials}, []string{"code"}
	}))
	h := open(t, options{Static: static})
	h.jwt.refused(h.signedIn("alex").get(h.jwt.request("nocode")), "unauthorized_client")
}

// OpenID Connect Core §11: offline_access is left out where nothing can come of it.
func TestOfflineAccessIsIgnoredForAClientWithoutRefreshTokens(t *testing.T) {
	h := open(t, options{})
	tk := h.jwt.authorize(h.signedIn("alex"), "norefresh", "scope", "openid offline_access")
	if scopes := strings.Fields(tk.Scope); slices.Contains(scopes, "offline_access") || tk.Refresh != "" {
		t.Errorf("scope %q, refresh token %q", tk.Scope, tk.Refresh)
	}
}

// An anonymous request writes nothing: not even a cookie.
func TestAnonymousRequestLeavesNoTrace(t *testing.T) {
	h := open(t, options{})
	b := h.browser()
	page := b.follow(h.jwt.request("web")).isPage("/login")
	if page.header.Get("Set-Cookie") != "" {
		t.Errorf("cookie %q", page.header.Get("Set-Cookie"))
	}
	u, err := url.Parse(page.url)
	h.must(err)
	if u.Query().Get("stamp") == "" || u.Query().Get("request") == "" {
		t.Errorf("page without the request: %s", page.url)
	}
}
