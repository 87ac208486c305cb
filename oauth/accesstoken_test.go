package oauth_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
)

// published fails unless a token is signed with alg, says that it is of type
// typ, and verifies by the key set that the issuer publishes.
func (s *as) published(token, alg, typ string) {
	s.h.t.Helper()
	var set jose.JSONWebKeySet
	s.h.must(json.Unmarshal([]byte(s.h.do(bare, http.MethodGet, s.issuer+"/jwks", "").body), &set))
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
	if err != nil {
		s.h.t.Fatalf("%s: %v", alg, err)
	}
	header := jws.Signatures[0].Protected
	if header.Algorithm != alg || header.ExtraHeaders[jose.HeaderType] != typ {
		s.h.t.Errorf("the header is %+v, want %s and %s", header, alg, typ)
	}
	keys := set.Key(header.KeyID)
	if len(keys) != 1 || keys[0].Algorithm != alg {
		s.h.t.Fatalf("%s: %d keys of the set have the token's kid", alg, len(keys))
	}
	if _, err := jws.Verify(keys[0]); err != nil {
		s.h.t.Errorf("%s: %v", alg, err)
	}
}

// RFC 9068 §2.1: RS256 must be among the algorithms that are supported.
func TestAccessTokensAreSignedWithTheConfiguredAlgorithm(t *testing.T) {
	for _, alg := range append(clients.IDTokenAlgs(), "") {
		h := open(t, options{Server: func(c *oauth.Config) { c.AccessTokenAlg = alg }})
		s := h.jwt
		want := alg
		if want == "" {
			want = "ES256"
		}
		tk := s.authorize(h.signedIn("alex"), "web")
		own := s.tokens(s.post("/token", "machine", form("grant_type", "client_credentials")))
		for _, token := range []string{tk.Access, own.Access, s.tokens(s.refresh("web", tk.Refresh)).Access} {
			s.published(token, want, "at+jwt")
			if !s.active(token) {
				t.Errorf("%s: it is not active", want)
			}
		}
		s.published(tk.ID, "RS256", "JWT") // the client's choice, and not this one
		s.alive(tk.Access, true)
		// Another choice refuses nothing that was issued before.
		other := h.restarted(func(n *house) { n.o.Server = func(c *oauth.Config) { c.AccessTokenAlg = "PS256" } })
		other.jwt.alive(tk.Access, true)
		if strings.Count(h.opaque.authorize(h.signedIn("bob"), "web").Access, ".") != 1 {
			t.Error("an opaque token has become a JWT")
		}
	}
}

func TestServerRefusesAlgorithmsWithoutKeys(t *testing.T) {
	h := open(t, options{})
	for _, alg := range []string{"none", "HS256", "ES512", "es256", " "} {
		_, err := oauth.New(oauth.Config{Name: "jwt", Issuer: h.jwt.issuer, Keys: h.jwt.ring, Store: h.jwt.store, Logins: h.realm, Sessions: h.jwt.manager(),
			Pages: oauth.Pages{Login: "x", Consent: "x", Logout: "x", Error: func(http.ResponseWriter, *http.Request, int, string, string) {}, CookiesBlocked: http.NotFound}, AccessTokenAlg: alg})
		if err == nil || !strings.Contains(err.Error(), "access tokens") {
			t.Errorf("algorithm %s: %v", alg, err)
		}
	}
}
