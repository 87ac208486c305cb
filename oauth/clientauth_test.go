package oauth_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/clients"
)

// token sends a client-credentials request, with parameters and headers as they are.
func (s *as) token(form string, header ...string) answer {
	s.h.t.Helper()
	return s.h.do(bare, http.MethodPost, s.at+"/token", form, header...)
}

const own = "grant_type=client_credentials"

// RFC 6749 §2.3.1: form-encoded before it goes into HTTP Basic.
func TestSecretsWithAnyCharactersAreProven(t *testing.T) {
	static := staticClients()
	odd := []string{"plain-and-long-enough", "a:b:c", "100%", "%41", "a+b c", "pässwörd-日本", "&=?#/", `"\'`, " x ", "+", "%", ":"}
	for i, secret := range odd {
		for _, method := range []string{clients.AuthClientSecretBasic, clients.AuthClientSecretPost} {
			static = append(static, client(oddID(i, method), machine, func(c *clients.Client) { c.ClientSecret, c.TokenEndpointAuthMethod = secret, method }))
		}
	}
	h := open(t, options{Static: static})
	s := h.jwt
	for i, secret := range odd {
		for _, method := range []string{clients.AuthClientSecretBasic, clients.AuthClientSecretPost} {
			id := oddID(i, method)
			s.tokens(s.post("/token", id, form("grant_type", "client_credentials")))
			for _, wrong := range []string{secret + "x", strings.ToUpper(secret) + "X", ""} {
				if method == clients.AuthClientSecretBasic {
					s.token(own, "Authorization", basic(id, wrong)).fails(http.StatusUnauthorized, "invalid_client")
				} else {
					s.token(form("grant_type", "client_credentials", "client_id", id, "client_secret", wrong).Encode()).fails(http.StatusUnauthorized, "invalid_client")
				}
			}
		}
	}
}

func oddID(i int, method string) string {
	return "odd:" + string(rune('a'+i)) + " " + method // colon and space: encoded, too
}

func TestBrokenProofOfAClientIsRefused(t *testing.T) {
	h := open(t, options{})
	const secret = "machine-secret-of-the-house"
	raw := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	for _, s := range h.servers() {
		s.tokens(s.token(own, "Authorization", strings.Replace(basic("machine", secret), "Basic", "bAsIc", 1)))
		s.tokens(s.token(own+"&client_id=machine", "Authorization", basic("machine", secret)))
		for name, header := range map[string]string{
			"no colon": raw("machine"), "not base64": "Basic !!!", "empty": "Basic ", "scheme alone": "Basic", "another scheme": "Bearer " + secret,
			"digest": `Digest username="machine"`, "bad escape": raw("machine:%zz"), "no id": raw(":" + secret), "no secret": raw("machine:"),
			"wrong": raw("machine:wrong"), "unknown": raw("nobody:" + secret), "public client": raw("spa:"), "another's secret": raw("machine:web-secret-of-the-house"),
			"nul": raw("machine\x00:" + secret), "case": raw("MACHINE:" + secret), "url-safe base64": "Basic " + base64.URLEncoding.EncodeToString([]byte("machine:\xff\xfe\xff?>")),
		} {
			if a := s.token(own, "Authorization", header).fails(http.StatusUnauthorized, "invalid_client"); !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic realm=") {
				t.Errorf("%s: WWW-Authenticate: %q", name, a.header.Get("WWW-Authenticate"))
			}
		}
		for _, body := range []string{own, own + "&client_id=machine", own + "&client_id=nobody", own + "&client_secret=" + secret,
			own + "&client_id=machine&client_secret=" + secret, // registered for basic
			own + "&client_id=post", own + "&client_id=post&client_secret=wrong", own + "&client_id="} {
			s.token(body).fails(http.StatusUnauthorized, "invalid_client")
		}
		// RFC 6749 §2.3: one method in a request. Nothing counts in the URL.
		s.token(own+"&client_secret="+secret, "Authorization", basic("machine", secret)).fails(badRequest, "invalid_request")
		s.token(own+"&client_id=other", "Authorization", basic("machine", secret)).fails(badRequest, "invalid_request")
		s.token(own+"&client_assertion=x&client_assertion_type=y", "Authorization", basic("machine", secret)).fails(badRequest, "invalid_request")
		s.token(own+"&client_id=machine&client_id=machine", "Authorization", basic("machine", secret)).fails(badRequest, "invalid_request")
		h.do(bare, http.MethodPost, s.at+"/token?client_id=post&client_secret=post-secret-of-the-house", own).fails(http.StatusUnauthorized, "invalid_client")
		// A client registered for another method.
		s.token(own, "Authorization", basic("post", "post-secret-of-the-house")).fails(http.StatusUnauthorized, "invalid_client")
		s.token("grant_type=authorization_code&code=x", "Authorization", basic("spa", "")).fails(http.StatusUnauthorized, "invalid_client")
	}
}

// Which client_ids there are is withheld from who has no secret.
func TestUnknownClientIsAnsweredLikeAWrongSecret(t *testing.T) {
	h := open(t, options{})
	for _, path := range []string{"/token", "/introspect", "/revoke"} {
		ask := func(id string) answer {
			return h.do(bare, http.MethodPost, h.jwt.at+path, own+"&token=x", "Authorization", basic(id, "wrong"))
		}
		unknown, wrong := ask("nobody").fails(http.StatusUnauthorized, "invalid_client"), ask("machine").fails(http.StatusUnauthorized, "invalid_client")
		if unknown.body != wrong.body || unknown.header.Get("WWW-Authenticate") != wrong.header.Get("WWW-Authenticate") {
			t.Errorf("%s tells an unknown client from a wrong secret:\n%s\n%s", path, unknown.body, wrong.body)
		}
	}
}

// A registered client's secret stands in its row as a hash.
func TestRegisteredClientIsProvenAndGoesAtOnce(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		c := client("registered", machine)
		sum := sha256.Sum256([]byte(c.ClientSecret))
		c.Static, c.SecretSHA = false, sum[:]
		h.must(s.store.InsertClient(t.Context(), &c))
		s.static["registered"] = c
		tk := s.tokens(s.post("/token", "registered", form("grant_type", "client_credentials")))
		s.token(own, "Authorization", basic("registered", "wrong")).fails(http.StatusUnauthorized, "invalid_client")
		if !s.active(tk.Access) {
			t.Error("the token of a registered client is not active")
		}
	}
	// Of one server, not of the other.
	c := client("of-one-server", machine)
	sum := sha256.Sum256([]byte(c.ClientSecret))
	c.Static, c.SecretSHA = false, sum[:]
	h.must(h.jwt.store.InsertClient(t.Context(), &c))
	h.opaque.token(own, "Authorization", basic(c.ClientID, c.ClientSecret)).fails(http.StatusUnauthorized, "invalid_client")
}

func TestClientCredentials(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		tk := s.tokens(s.post("/token", "machine", form("grant_type", "client_credentials")))
		if tk.Refresh != "" || tk.ID != "" || tk.Scope != "api:read api:write" {
			t.Errorf("a client's own token: %+v", tk)
		}
		v := s.post("/introspect", "machine", form("token", tk.Access)).json()
		if v["active"] != true || v["sub"] != "machine" || v["client_id"] != "machine" || v["aud"] != s.issuer || v["sid"] != nil || v["username"] != nil {
			t.Errorf("introspection: %v", v)
		}
		if tk := s.tokens(s.post("/token", "machine", form("grant_type", "client_credentials", "scope", "api:read", "resource", api))); tk.Scope != "api:read" {
			t.Errorf("scope %q", tk.Scope)
		}
		for _, scope := range []string{"openid", "offline_access", "profile", "api:read email", "admin", "api:read api:delete"} {
			s.post("/token", "machine", form("grant_type", "client_credentials", "scope", scope)).fails(badRequest, "invalid_scope")
		}
		s.post("/token", "machine", form("grant_type", "client_credentials", "resource", "https://unknown.example")).fails(badRequest, "invalid_target")
		for _, client := range []string{"web", "spa", "post"} {
			s.post("/token", client, form("grant_type", "client_credentials")).fails(badRequest, "unauthorized_client")
		}
		s.post("/token", "machine", form("grant_type", "authorization_code", "code", "x")).fails(badRequest, "unauthorized_client")
		s.post("/token", "machine", form("grant_type", "refresh_token", "refresh_token", "x")).fails(badRequest, "unauthorized_client")
	}
}

func TestTokenEndpointTakesFormsOnly(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	proof := []string{"Authorization", basic("machine", "machine-secret-of-the-house")}
	for _, kind := range []string{"application/json", "multipart/form-data; boundary=x", "text/plain", "", "application/x-www-form-urlencoded; charset"} {
		s.token(own, append(proof, "Content-Type", kind)...).fails(http.StatusUnsupportedMediaType, "invalid_request")
	}
	s.tokens(s.token(own, append(proof, "Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")...))
	s.token(own+"&filler="+strings.Repeat("x", 64<<10), proof...).fails(http.StatusRequestEntityTooLarge, "invalid_request")
	s.token("grant_type=%zz", proof...).fails(badRequest, "invalid_request")
	s.token("", proof...).fails(badRequest, "invalid_request")
	s.token("scope=api:read", proof...).fails(badRequest, "invalid_request")
	s.token(own+"&scope=api:read&scope=api:write", proof...).fails(badRequest, "invalid_request")
	s.token(own+"&"+own, proof...).fails(badRequest, "invalid_request")
	// Defect 10 of fosite: invalid_request.
	for _, grant := range []string{"password", "implicit", "urn:ietf:params:oauth:grant-type:device_code", "urn:ietf:params:oauth:grant-type:jwt-bearer",
		"urn:ietf:params:oauth:grant-type:token-exchange", "CLIENT_CREDENTIALS", "client_credentials refresh_token", "client_credentials%20", "x"} {
		s.token("grant_type="+grant, proof...).fails(badRequest, "unsupported_grant_type")
	}
	for _, path := range []string{"/token", "/introspect", "/revoke"} {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodHead} {
			a := h.do(bare, method, s.at+path+"?"+own, "", proof...)
			if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != http.MethodPost {
				t.Errorf("%s %s: %d, Allow %q", method, path, a.status, a.header.Get("Allow"))
			}
		}
		h.do(bare, http.MethodPost, s.at+path, "token="+strings.Repeat("x", 64<<10), proof...).fails(http.StatusRequestEntityTooLarge, "invalid_request")
		h.do(bare, http.MethodPost, s.at+path, `{"token":"x"}`, append(proof, "Content-Type", "application/json")...).fails(http.StatusUnsupportedMediaType, "invalid_request")
	}
}
