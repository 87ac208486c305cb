package oauth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
)

// clientKeys are private keys of clients by kid, made once.
var clientKeys = sync.OnceValue(func() map[string]crypto.Signer {
	keys := map[string]crypto.Signer{}
	for kid, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521(), "another": elliptic.P256()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			panic(err)
		}
		keys[kid] = key
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	keys["rsa"], keys["ed"] = key, ed
	return keys
})

// keySet is a JSON Web Key Set of the public halves.
func keySet(kids ...string) json.RawMessage {
	var set jose.JSONWebKeySet
	for _, kid := range kids {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: clientKeys()[kid].Public(), KeyID: kid})
	}
	raw, err := json.Marshal(set)
	if err != nil {
		panic(err)
	}
	return raw
}

// signed is a JWT with these claims.
func signed(t testing.TB, alg, kid string, key any, claims map[string]any) string {
	t.Helper()
	o := (&jose.SignerOptions{}).WithType("JWT")
	if kid != "" {
		o = o.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: key}, o)
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
	out, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var jtis atomic.Int64

// assertionClaims are those of a good assertion with some replaced; nil takes
// one out.
func (s *as) assertionClaims(client string, replace map[string]any) map[string]any {
	now := s.h.now().Unix()
	c := map[string]any{"iss": client, "sub": client, "aud": s.issuer, "exp": now + 60, "iat": now, "jti": fmt.Sprint("jti-", jtis.Add(1))}
	for name, value := range replace {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

// assert asks for a token by an assertion.
func (s *as) assert(assertion string, pairs ...string) answer {
	s.h.t.Helper()
	s.h.secret(assertion)
	return s.token(form(append([]string{"grant_type", "client_credentials", "client_assertion", assertion,
		"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, pairs...)...).Encode())
}

func asserting(kids ...string) func(*clients.Client) {
	return func(c *clients.Client) {
		c.ClientSecret, c.TokenEndpointAuthMethod, c.JWKS = "", clients.AuthPrivateKeyJWT, keySet(kids...)
	}
}

func assertionClients() []clients.Client {
	return append(staticClients(), client("asserts", machine, asserting("rsa", "p256", "p384", "p521", "ed")), client("kidless", machine, asserting("p256", "ed")),
		client("twins", machine, asserting("p256", "another")), client("neighbour", machine, asserting("another")),
		client("pinned", machine, asserting("rsa", "p256"), func(c *clients.Client) { c.TokenEndpointAuthAlg = "ES256" }))
}

func TestAssertionOfEveryAlgorithmProvesTheClient(t *testing.T) {
	h := open(t, options{Static: assertionClients()})
	for _, s := range h.servers() {
		for alg, kid := range map[string]string{"RS256": "rsa", "RS384": "rsa", "RS512": "rsa", "PS256": "rsa", "PS384": "rsa", "PS512": "rsa",
			"ES256": "p256", "ES384": "p384", "ES512": "p521", "EdDSA": "ed"} {
			for _, aud := range []any{s.issuer, s.issuer + "/token", []string{"https://elsewhere.example", s.issuer}} {
				tk := s.tokens(s.assert(signed(t, alg, kid, clientKeys()[kid], s.assertionClaims("asserts", map[string]any{"aud": aud}))))
				if !s.active(tk.Access) {
					t.Errorf("%s: token is not active", alg)
				}
			}
		}
		s.tokens(s.assert(signed(t, "ES256", "", clientKeys()["p256"], s.assertionClaims("kidless", nil)), "client_id", "kidless"))
		s.tokens(s.assert(signed(t, "ES256", "p256", clientKeys()["p256"], s.assertionClaims("pinned", nil))))
	}
}

func TestWrongAssertionIsRefused(t *testing.T) {
	h := open(t, options{Static: assertionClients()})
	s := h.jwt
	now, key := h.now().Unix(), clientKeys()["p256"]
	wrong := map[string]string{}
	for name, replace := range map[string]map[string]any{
		"aud missing": {"aud": nil}, "aud another": {"aud": "https://elsewhere.example"}, "aud the other server": {"aud": h.opaque.issuer}, "aud with a slash": {"aud": s.issuer + "/"},
		"aud the prefix": {"aud": h.base}, "iss missing": {"iss": nil}, "iss unknown": {"iss": "nobody"}, "iss another client's": {"iss": "neighbour"},
		"sub missing": {"sub": nil}, "sub another's": {"sub": "neighbour"}, "exp missing": {"exp": nil}, "exp past": {"exp": now - 61}, "exp too far": {"exp": now + 3600 + 61},
		"nbf in the future": {"nbf": now + 61}, "iat in the future": {"iat": now + 61}, "jti missing": {"jti": nil}, "jti empty": {"jti": ""},
		"jti long": {"jti": strings.Repeat("j", 256)}, "jti with NUL": {"jti": "a\x00"}, "jti no ASCII": {"jti": "jtï"}, "exp a word": {"exp": "soon"}, "aud a number": {"aud": 7},
	} {
		wrong[name] = signed(t, "ES256", "p256", key, s.assertionClaims("asserts", replace))
	}
	good := s.assertionClaims("asserts", nil)
	payload := strings.Split(signed(t, "ES256", "p256", key, good), ".")
	public, err := x509.MarshalPKIXPublicKey(clientKeys()["rsa"].Public())
	h.must(err)
	wrong["alg none"] = unsigned(strings.Join(payload, "."))
	wrong["HS256 with the public key"] = signed(t, "HS256", "rsa", public, good)
	wrong["HS256 with the public key as PEM"] = signed(t, "HS256", "rsa", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), good)
	wrong["another client's key"] = signed(t, "ES256", "another", clientKeys()["another"], good)
	wrong["another key under that kid"] = signed(t, "ES256", "p256", clientKeys()["another"], good)
	wrong["a key of another type under that kid"] = signed(t, "ES256", "rsa", key, good)
	wrong["signature cut"] = strings.Join(payload, ".")[:len(strings.Join(payload, "."))-2]
	wrong["signature missing"] = payload[0] + "." + payload[1] + "."
	wrong["long"] = strings.Repeat("x", 17<<10)
	wrong["empty"] = ""
	wrong["two parts"] = payload[0] + "." + payload[1]
	wrong["another alg than registered"] = signed(t, "RS256", "rsa", clientKeys()["rsa"], s.assertionClaims("pinned", nil))
	wrong["one of two keys without kid"] = signed(t, "ES256", "", key, s.assertionClaims("twins", nil))
	wrong["of a client with a secret"] = signed(t, "ES256", "p256", key, s.assertionClaims("machine", nil))
	wrong["of a public client"] = signed(t, "ES256", "p256", key, s.assertionClaims("spa", nil))
	for name, assertion := range wrong {
		if a := s.assert(assertion); a.status != http.StatusUnauthorized || a.json()["error"] != "invalid_client" || a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	one := func() string { return signed(t, "ES256", "p256", key, s.assertionClaims("asserts", nil)) }
	s.assert(one(), "client_id", "neighbour").fails(http.StatusUnauthorized, "invalid_client")
	s.assert(one(), "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer").fails(badRequest, "invalid_request")
	s.assert(one(), "-client_assertion_type", "").fails(badRequest, "invalid_request")
	s.assert(one(), "-client_assertion", "").fails(http.StatusUnauthorized, "invalid_client")
	s.assert(one(), "client_secret", "x").fails(badRequest, "invalid_request")
	s.token(own+"&client_id=asserts").fails(http.StatusUnauthorized, "invalid_client")
	s.tokens(s.assert(one()))
}

// Clocks differ by a minute at most.
func TestAssertionWithinTheLeewayIsTaken(t *testing.T) {
	h := open(t, options{Static: assertionClients()})
	s := h.jwt
	now := h.now().Unix()
	for _, replace := range []map[string]any{{"exp": now - 59}, {"exp": now + 3600}, {"nbf": now + 59}, {"iat": now + 59}, {"iat": nil}, {"nbf": now}} {
		s.tokens(s.assert(signed(t, "ES256", "p256", clientKeys()["p256"], s.assertionClaims("asserts", replace))))
	}
}

// Defect 13 of fosite: the check was neither atomic nor scoped.
func TestAssertionCountsOnceOnAllNodes(t *testing.T) {
	h := open(t, options{Static: assertionClients()})
	second := h.second()
	sign := func(client, kid string, replace map[string]any) string {
		return signed(t, "ES256", kid, clientKeys()[kid], h.jwt.assertionClaims(client, replace))
	}
	a := sign("asserts", "p256", map[string]any{"jti": "one"})
	h.jwt.tokens(h.jwt.assert(a))
	for _, s := range []*as{h.jwt, second.jwt} {
		s.assert(a).fails(http.StatusUnauthorized, "invalid_client")
		h.do(bare, http.MethodPost, s.at+"/introspect", form("token", "x", "client_assertion", a, "client_assertion_type",
			"urn:ietf:params:oauth:client-assertion-type:jwt-bearer").Encode()).fails(http.StatusUnauthorized, "invalid_client")
	}
	second.jwt.assert(sign("asserts", "p256", map[string]any{"jti": "one"})).fails(http.StatusUnauthorized, "invalid_client")
	second.jwt.tokens(second.jwt.assert(sign("neighbour", "another", map[string]any{"jti": "one"}))) // another client's jti
	// A wrong signature does not use up the jti.
	forged := signed(t, "ES256", "p256", clientKeys()["another"], h.jwt.assertionClaims("asserts", map[string]any{"jti": "two"}))
	h.jwt.assert(forged).fails(http.StatusUnauthorized, "invalid_client")
	h.jwt.tokens(h.jwt.assert(sign("asserts", "p256", map[string]any{"jti": "two"})))
	// It counts once until it has expired, leeway included.
	h.wait(119 * time.Second)
	h.jwt.assert(a).fails(http.StatusUnauthorized, "invalid_client")

	racing := sign("asserts", "p256", nil)
	answers := make([]answer, 8)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = []*as{h.jwt, second.jwt}[i%2].assert(racing) })
	}
	wg.Wait()
	if n := len(slices.DeleteFunc(answers, func(a answer) bool { return a.status != http.StatusOK })); n != 1 {
		t.Errorf("one assertion counted %d times", n)
	}
}

// Defect 14 of fosite: unbounded, and a new HTTP client each time.
func TestKeysBehindAJWKSURI(t *testing.T) {
	var answers atomic.Pointer[http.HandlerFunc]
	var asked atomic.Int64
	keySetServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		(*answers.Load())(w, r)
	}))
	t.Cleanup(keySetServer.Close)
	serve := func(f http.HandlerFunc) { answers.Store(&f) }
	publish := func(kids ...string) {
		serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(keySet(kids...)) })
	}
	remote := func(id string) clients.Client {
		return client(id, machine, func(c *clients.Client) {
			c.ClientSecret, c.TokenEndpointAuthMethod, c.JWKSURI = "", clients.AuthPrivateKeyJWT, keySetServer.URL+"/"+url.PathEscape(id)
		})
	}
	h := open(t, options{Static: append(staticClients(), remote("remote"), remote("broken")), Server: func(c *oauth.Config) { c.Outgoing = keySetServer.Client() }})
	s := h.jwt
	assert := func(client, kid string) answer {
		return s.assert(signed(t, "ES256", kid, clientKeys()[kid], s.assertionClaims(client, nil)))
	}

	publish("p256")
	s.tokens(assert("remote", "p256"))
	s.tokens(assert("remote", "p256"))
	if n := asked.Load(); n != 1 {
		t.Errorf("the key set was fetched %d times, want once", n)
	}
	// Rotated: an unknown kid looks again, but only every half minute.
	publish("another")
	for range 3 {
		assert("remote", "another").fails(http.StatusUnauthorized, "invalid_client")
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("an unknown kid had the key set fetched %d times", n-1)
	}
	h.wait(31 * time.Second)
	s.tokens(assert("remote", "another"))
	assert("remote", "p256").fails(http.StatusUnauthorized, "invalid_client")
	// A key that was withdrawn is refused after five minutes at most.
	publish("p256")
	h.wait(5 * time.Minute)
	assert("remote", "another").fails(http.StatusUnauthorized, "invalid_client")

	for name, f := range map[string]http.HandlerFunc{
		"an error": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"not there": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write(keySet("p256"))
		},
		"no JSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"no keys": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) },
		"empty":   func(http.ResponseWriter, *http.Request) {},
		"a symmetric key": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[{"kty":"oct","kid":"p256","k":"AAAA"}]}`))
		},
		"more than 256 KiB": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, "%s%s", keySet("p256"), strings.Repeat(" ", 256<<10))
		},
	} {
		serve(f)
		if a := assert("broken", "p256"); a.status != http.StatusUnauthorized || a.json()["error"] != "invalid_client" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		h.wait(5 * time.Minute)
	}
	publish("p256")
	s.tokens(assert("broken", "p256"))
}

func TestWithoutAnOutgoingClientNoKeysAreFetched(t *testing.T) {
	server := httptest.NewServer(unwanted(t))
	t.Cleanup(server.Close)
	h := open(t, options{Static: append(staticClients(), client("remote", machine, func(c *clients.Client) {
		c.ClientSecret, c.TokenEndpointAuthMethod, c.JWKSURI = "", clients.AuthPrivateKeyJWT, server.URL
	}))})
	h.jwt.assert(signed(t, "ES256", "p256", clientKeys()["p256"], h.jwt.assertionClaims("remote", nil))).fails(http.StatusUnauthorized, "invalid_client")
}
