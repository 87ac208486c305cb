package oauth_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/sessions"
)

// claims reads the payload of a JWT without verifying it.
func claims(t testing.TB, token string) map[string]any {
	t.Helper()
	return decoded(t, token, 1)
}

// decoded is a part of a JWT: 0 is the header, 1 the payload.
func decoded(t testing.TB, token string, i int) map[string]any {
	t.Helper()
	part := strings.Split(token, ".")
	if len(part) != 3 {
		t.Fatalf("%q is not a JWT", token)
	}
	raw, err := base64.RawURLEncoding.DecodeString(part[i])
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func sha256Base64(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// verified is what independent code makes of an ID token: coreos/go-oidc, from
// the issuer's URL alone.
func (s *as) verified(t *testing.T, client, token string) *oidc.IDToken {
	t.Helper()
	provider, err := oidc.NewProvider(t.Context(), s.issuer)
	if err != nil {
		t.Fatal(err)
	}
	got, err := provider.Verifier(&oidc.Config{ClientID: client, Now: s.h.now}).Verify(t.Context(), token)
	if err != nil {
		t.Fatalf("ID token of %s: %v", client, err)
	}
	return got
}

// OpenID Connect Core §2 and §3.1.3.6.
func TestIDTokenVerifiesWithIndependentCode(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		for _, alg := range clients.IDTokenAlgs() {
			client := "id-" + strings.ToLower(alg)
			b := h.signedIn("alex")
			signedIn := h.now().Unix()
			h.wait(time.Minute)
			tk := s.authorize(b, client, "nonce", "n-0S6_WzA2Mj")
			token := s.verified(t, client, tk.ID)
			if err := token.VerifyAccessToken(tk.Access); err != nil {
				t.Errorf("%s: at_hash: %v", alg, err)
			}
			if header := decoded(t, tk.ID, 0); header["alg"] != alg || header["typ"] != "JWT" || header["kid"] == nil || len(header) != 3 {
				t.Errorf("header %v", header)
			}
			c := claims(t, tk.ID)
			hash := sha256.Sum256([]byte(tk.Access))
			atHash := base64.RawURLEncoding.EncodeToString(hash[:16])
			if alg == "EdDSA" {
				hash := sha512.Sum512([]byte(tk.Access))
				atHash = base64.RawURLEncoding.EncodeToString(hash[:32])
			}
			now := h.now().Unix()
			for name, want := range map[string]any{"iss": s.issuer, "sub": h.userID("alex"), "aud": client, "exp": float64(now + 3600), "iat": float64(now),
				"auth_time": float64(signedIn), "nonce": "n-0S6_WzA2Mj", "at_hash": atHash, "sid": s.state(tk.Refresh).Session.ID,
				"acr": nil} { // none is invented: defect 11 of fosite
				if c[name] != want {
					t.Errorf("%s: %s is %v, want %v", alg, name, c[name], want)
				}
			}
			if len(c) != 10 { // those above without acr, and amr
				t.Errorf("%s: claims %v", alg, c)
			}
			for name, config := range map[string]*oidc.Config{"another client": {ClientID: "other", Now: h.now}, "after its time": {ClientID: client, Now: func() time.Time { return h.now().Add(time.Hour + time.Second) }}} {
				provider, err := oidc.NewProvider(t.Context(), s.issuer)
				h.must(err)
				if _, err := provider.Verifier(config).Verify(t.Context(), tk.ID); err == nil {
					t.Errorf("%s: an ID token verifies for %s", alg, name)
				}
			}
		}
	}
}

// RFC 9068 §2, verified as a resource server would, with the published keys.
func TestJWTAccessTokenVerifiesWithIndependentCode(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	tk := s.authorize(h.signedIn("alex"), "web", "resource", api, "scope", "openid api:read")
	own := s.tokens(s.post("/token", "machine", form("grant_type", "client_credentials")))

	var set jose.JSONWebKeySet
	a := h.do(bare, http.MethodGet, s.issuer+"/jwks", "")
	h.must(json.Unmarshal([]byte(a.body), &set))
	for _, key := range set.Keys {
		if !key.IsPublic() || !key.Valid() || key.KeyID == "" || key.Algorithm == "" || key.Use != "sig" {
			t.Errorf("published key %q for %q: public %t, valid %t", key.KeyID, key.Algorithm, key.IsPublic(), key.Valid())
		}
	}
	sid := s.state(tk.Refresh).Session.ID
	now := float64(h.now().Unix())
	for name, test := range map[string]struct {
		token string
		want  map[string]any
	}{
		"user's": {tk.Access, map[string]any{"iss": s.issuer, "sub": h.userID("alex"), "aud": api, "client_id": "web", "exp": now + 300, "iat": now,
			"scope": "openid api:read", "auth_time": now, "sid": sid}},
		"client's own": {own.Access, map[string]any{"iss": s.issuer, "sub": "machine", "aud": s.issuer, "client_id": "machine", "exp": now + 300, "iat": now,
			"scope": "api:read api:write", "auth_time": nil, "sid": nil, "grant_id": nil}},
	} {
		token, err := jwt.ParseSigned(test.token, []jose.SignatureAlgorithm{jose.ES256})
		h.must(err)
		if typ := token.Headers[0].ExtraHeaders["typ"]; typ != "at+jwt" {
			t.Errorf("%s: typ %v", name, typ)
		}
		keys := set.Key(token.Headers[0].KeyID)
		if len(keys) != 1 {
			t.Fatalf("%s: %d published keys", name, len(keys))
		}
		var got map[string]any
		h.must(token.Claims(keys[0], &got))
		for claim, want := range test.want {
			if got[claim] != want {
				t.Errorf("%s: %s is %v, want %v", name, claim, got[claim], want)
			}
		}
		if jti, _ := got["jti"].(string); len(jti) != 22 {
			t.Errorf("%s: jti %v", name, got["jti"])
		}
	}
}

func TestOpaqueAccessTokenTellsNothing(t *testing.T) {
	h := open(t, options{})
	tk := h.opaque.authorize(h.signedIn("alex"), "web")
	body := strings.TrimPrefix(tk.Access, "1.")
	raw, err := base64.RawURLEncoding.DecodeString(body)
	h.must(err)
	for _, telling := range []string{"alex", "web", "openid", h.userID("alex"), h.opaque.state(tk.Refresh).Session.ID} {
		if strings.Contains(string(raw), telling) || strings.Contains(body, telling) {
			t.Errorf("an opaque token says %q", telling)
		}
	}
}

// What is worth something at one server is worth nothing at the other, though
// both are behind one host, one realm and one database.
func TestNothingOfOneServerCountsAtTheOther(t *testing.T) {
	h := open(t, options{Static: assertionClients()})
	b := h.signedIn("alex")
	for i, s := range h.servers() {
		other := h.servers()[1-i]
		tk := s.authorize(b, "web")
		other.alive(tk.Access, false)
		if other.active(tk.Refresh) {
			t.Error("a refresh token is active at the other server")
		}
		other.refresh("web", tk.Refresh).fails(badRequest, "invalid_grant")
		other.revoke("web", tk.Refresh)
		other.revoke("web", tk.Access)
		code := s.code(b, "web")
		other.redeem("web", code).fails(badRequest, "invalid_grant")
		other.redeem("web", code, "code_verifier", strings.Repeat("x", 43)).fails(badRequest, "invalid_grant") // and does not burn it
		other.refused(b.follow(other.request("web", "id_token_hint", tk.ID)), "invalid_request")
		assertion := signed(t, "ES256", "p256", clientKeys()["p256"], s.assertionClaims("asserts", map[string]any{"jti": "same"}))
		other.assert(assertion).fails(http.StatusUnauthorized, "invalid_client")
		s.tokens(s.assert(assertion))
		own := s.tokens(s.post("/token", "machine", form("grant_type", "client_credentials")))
		if other.active(own.Access) {
			t.Error("a client's own token is active at the other server")
		}

		s.tokens(s.redeem("web", code))
		s.alive(tk.Access, true)
		s.tokens(s.refresh("web", tk.Refresh))
		_, err := s.manager().End(t.Context(), sessions.Target{Session: s.state(tk.Refresh).Session.ID}, sessions.Ending{Reason: sessions.ReasonLogout})
		h.must(err)
		there := other.authorize(b, "web")
		other.alive(there.Access, true)
		h.wait(time.Second)
		b = h.signedIn("alex")
	}
	// A consent that was given to a client of one server is none of the other's.
	h.jwt.authorized(b.decide(b.follow(h.jwt.request("asks")), "allow"))
	h.opaque.refused(b.follow(h.opaque.request("asks", "prompt", "none")), "consent_required")
}

// A token that somebody makes with the same claims is not one of ours.
func TestTokensSignedByOthersAreRefused(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	tk := s.authorize(h.signedIn("alex"), "web")
	c, kid := claims(t, tk.Access), decoded(t, tk.Access, 0)["kid"].(string)
	for name, token := range map[string]string{
		"another key":      signed(t, "ES256", "p256", clientKeys()["p256"], c),
		"our kid":          signed(t, "ES256", kid, clientKeys()["p256"], c),
		"our kid, RS256":   signed(t, "RS256", kid, clientKeys()["rsa"], c),
		"our kid, HS256":   signed(t, "HS256", kid, []byte(strings.Repeat("k", 32)), c),
		"alg none":         unsigned(tk.Access),
		"the wrong typ":    tk.ID,
		"another's claims": splice(tk.Access, s.authorize(h.signedIn("bob"), "web").Access),
	} {
		if s.userinfo(token).status != http.StatusUnauthorized || s.active(token) {
			t.Errorf("%s: accepted", name)
		}
	}
}

// splice puts the payload of one JWT between header and signature of another.
func splice(token, payload string) string {
	part := strings.Split(token, ".")
	return part[0] + "." + strings.Split(payload, ".")[1] + "." + part[2]
}

// An old key goes on verifying after another has taken over, also on a node
// that learns of the new one from a token.
func TestRotatedKeysVerifyOnAllNodes(t *testing.T) {
	h := open(t, options{})
	second := h.second()
	old := h.jwt.authorize(h.signedIn("alex"), "web")
	h.must(h.jwt.ring.Rotate(t.Context(), "ES256", true))
	fresh := h.jwt.authorize(h.signedIn("alex"), "web")
	if decoded(t, old.Access, 0)["kid"] == decoded(t, fresh.Access, 0)["kid"] {
		t.Fatal("the key was not rotated")
	}
	for _, s := range []*as{h.jwt, second.jwt} {
		s.alive(old.Access, true)
		s.alive(fresh.Access, true)
	}
	// Keys that nobody has are not looked for again and again.
	c := claims(t, old.Access)
	for range 3 {
		if second.jwt.active(signed(t, "ES256", "unknown", clientKeys()["p256"], c)) {
			t.Error("a token of an unknown key is active")
		}
	}
}
