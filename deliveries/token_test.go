package deliveries_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"gatehouse.dev/gatehouse/deliveries"
	"gatehouse.dev/gatehouse/keys"
)

const issuer = "https://op.example/authorization-servers/myAS"

// pair is the keys of a test, one for each of two algorithms.
type pair map[string]crypto.Signer

func newPair(t testing.TB) pair {
	t.Helper()
	first, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	second, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return pair{"ES256": first, "RS256": second}
}

// Sign is keys.Ring's.
func (p pair) Sign(alg, typ string, payload []byte) (string, error) {
	key, ok := p[alg]
	if !ok {
		return "", fmt.Errorf("signing with %q: %w", alg, keys.ErrKeyUnknown)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: jose.JSONWebKey{Key: key, KeyID: "kid-" + alg}},
		(&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

// verify is what an independent recipient makes of a token.
func (p pair) verify(token, client string, now time.Time) (*oidc.LogoutToken, error) {
	set := &oidc.StaticKeySet{}
	for _, key := range p {
		set.PublicKeys = append(set.PublicKeys, key.Public())
	}
	return oidc.NewVerifier(issuer, set, &oidc.Config{ClientID: client, SupportedSigningAlgs: []string{"ES256", "RS256"},
		Now: func() time.Time { return now }}).VerifyLogout(context.Background(), token)
}

// part is one of a token's first two parts.
func part(t testing.TB, token string, i int) map[string]any {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[i])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestLogoutTokenHasTheFormOfTheSpecification(t *testing.T) {
	p, now := newPair(t), time.Unix(1767225600, 5e8)
	d := deliveries.Delivery{ID: "jti-0123456789-0123456789", ClientID: "album", SessionID: "sid-1", Subject: "alex"}
	for alg, want := range map[string]string{"": "RS256", "RS256": "RS256", "ES256": "ES256"} {
		d.Alg = alg
		token, err := deliveries.LogoutToken(deliveries.Signer{Issuer: issuer, Keys: p}, d, now)
		if err != nil {
			t.Fatal(err)
		}
		if header := part(t, token, 0); !maps.Equal(header, map[string]any{"alg": want, "kid": "kid-" + want, "typ": "logout+jwt"}) {
			t.Errorf("alg %q: header %v", alg, header)
		}
		claims, _ := json.Marshal(part(t, token, 1))
		const form = `{"aud":"album","events":{"http://schemas.openid.net/event/backchannel-logout":{}},"exp":1767225720,"iat":1767225600,` +
			`"iss":"` + issuer + `","jti":"jti-0123456789-0123456789","sid":"sid-1","sub":"alex"}`
		if string(claims) != form {
			t.Errorf("claims\n%s, want\n%s", claims, form)
		}
		read, err := p.verify(token, "album", now)
		if err != nil || read.TokenID != d.ID || read.SessionID != "sid-1" || read.Subject != "alex" || !read.IssuedAt.Equal(now.Truncate(time.Second)) {
			t.Errorf("alg %q: a recipient reads %+v, %v", alg, read, err)
		}
		if _, err := p.verify(token, "calendar", now); err == nil {
			t.Error("another client takes the token")
		}
		if _, err := p.verify(token, "album", now.Add(deliveries.TokenLifetime+time.Second)); err == nil {
			t.Error("the token is taken after its time")
		}
	}
}

func TestLogoutTokenThatCantBeMadeIsNone(t *testing.T) {
	p := newPair(t)
	signer := deliveries.Signer{Issuer: issuer, Keys: p}
	if token, err := deliveries.LogoutToken(signer, deliveries.Delivery{ID: "1", ClientID: "album"}, time.Now()); err == nil {
		t.Errorf("a token about nobody: %s", token)
	}
	token, err := deliveries.LogoutToken(signer, deliveries.Delivery{ID: "1", ClientID: "album", SessionID: "sid-1", Alg: "PS256"}, time.Now())
	if !errors.Is(err, keys.ErrKeyUnknown) || token != "" {
		t.Errorf("without a key: %q, %v, want ErrKeyUnknown", token, err)
	}
}
