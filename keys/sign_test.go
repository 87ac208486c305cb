package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

func unb64(t testing.TB, text string) []byte {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatalf("base64url %q: %v", text, err)
	}
	return data
}

// verifyByHand verifies a token against a published key set with nothing but
// the standard library, as RFC 7515 §5.2 and RFC 7518 §3 have it.
func verifyByHand(t testing.TB, jwks []byte, token string) error {
	t.Helper()
	parts := strings.Split(token, ".")
	var header struct{ Alg, Kid, Typ string }
	if err := json.Unmarshal(unb64(t, parts[0]), &header); err != nil {
		t.Fatal(err)
	}
	var set struct {
		Keys []struct{ Kty, Use, Alg, Kid, N, E, Crv, X, Y string }
	}
	if err := json.Unmarshal(jwks, &set); err != nil {
		t.Fatal(err)
	}
	signed, signature := []byte(parts[0]+"."+parts[1]), unb64(t, parts[2])
	digest := sha256.Sum256(signed)
	for _, key := range set.Keys {
		if key.Kid != header.Kid {
			continue
		}
		if key.Use != "sig" || key.Alg != header.Alg {
			return fmt.Errorf("key has use %q, alg %q for a token with %q", key.Use, key.Alg, header.Alg)
		}
		number := func(s string) *big.Int { return new(big.Int).SetBytes(unb64(t, s)) }
		switch header.Alg {
		case "RS256":
			return rsa.VerifyPKCS1v15(&rsa.PublicKey{N: number(key.N), E: int(number(key.E).Int64())}, crypto.SHA256, digest[:], signature)
		case "PS256":
			return rsa.VerifyPSS(&rsa.PublicKey{N: number(key.N), E: int(number(key.E).Int64())}, crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: 32})
		case "ES256":
			public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, unb64(t, key.X)...), unb64(t, key.Y)...))
			if err != nil {
				return err
			}
			if len(signature) != 64 {
				return fmt.Errorf("signature of %d bytes", len(signature))
			}
			if !ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
				return errors.New("ES256 does not verify")
			}
			return nil
		case "EdDSA":
			if key.Crv != "Ed25519" || !ed25519.Verify(unb64(t, key.X), signed, signature) {
				return errors.New("EdDSA does not verify")
			}
			return nil
		}
	}
	return fmt.Errorf("no key %q", header.Kid)
}

func TestSignedTokensVerifyEverywhere(t *testing.T) {
	r := newHouse(t).open()
	server := httptest.NewServer(r.JWKSHandler())
	defer server.Close()
	remote := oidc.NewRemoteKeySet(t.Context(), server.URL)
	for _, alg := range r.Algorithms() {
		t.Run(alg, func(t *testing.T) {
			payload := `{"iss":"https://op.example","sub":"` + alg + `"}`
			token := mustSign(t, r, alg, "at+jwt", payload)
			if got, err := r.Verify(token, "at+jwt"); err != nil || string(got) != payload {
				t.Errorf("Verify = %s, %v", got, err)
			}
			if got, err := remote.VerifySignature(t.Context(), token); err != nil || string(got) != payload {
				t.Errorf("go-oidc: %s, %v", got, err)
			}
			if err := verifyByHand(t, r.JWKS(), token); err != nil {
				t.Errorf("by hand: %v", err)
			}
			var header map[string]any
			if err := json.Unmarshal(unb64(t, strings.Split(token, ".")[0]), &header); err != nil {
				t.Fatal(err)
			}
			if len(header) != 3 || header["alg"] != alg || header["typ"] != "at+jwt" || header["kid"] != keysOf(r, alg)[0].ID {
				t.Errorf("header: %v", header)
			}
		})
	}
	if _, err := r.Sign("HS256", "JWT", nil); !errors.Is(err, ErrKeyUnknown) {
		t.Errorf("Sign with HS256: %v", err)
	}
	if _, err := r.Sign("none", "JWT", nil); !errors.Is(err, ErrKeyUnknown) {
		t.Errorf("Sign with none: %v", err)
	}
}

func TestSignersDoNotGrowWithoutBound(t *testing.T) {
	r := newHouse(t).open()
	for i := range 3 * maxSigners {
		typ := fmt.Sprint("type", i)
		if _, err := r.Verify(mustSign(t, r, "EdDSA", typ, "{}"), typ); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	r.state.Load().byAlgorithm["EdDSA"][0].signers.Range(func(any, any) bool { n++; return true })
	if n != maxSigners {
		t.Errorf("%d signers kept, want %d", n, maxSigners)
	}
}

// forge signs a token with any header under a private key of the ring: what
// an attacker could not do, so that only the rule in question refuses it.
func forge(t testing.TB, key *signingKey, header, payload string) string {
	t.Helper()
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	digest := sha256.Sum256([]byte(input))
	var signature []byte
	var err error
	switch private := key.private.(type) {
	case *rsa.PrivateKey:
		if strings.Contains(header, "PS256") {
			signature, err = rsa.SignPSS(rand.Reader, private, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: 32})
		} else {
			signature, err = rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest[:])
		}
	case ed25519.PrivateKey:
		signature = ed25519.Sign(private, []byte(input))
	default:
		t.Fatalf("forging with %T", private)
	}
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + b64(signature)
}

func TestVerifyRefuses(t *testing.T) {
	h := newHouse(t)
	r := h.open()
	state := r.state.Load()
	ed, rs, ps := state.byAlgorithm["EdDSA"][0], state.byAlgorithm["RS256"][0], state.byAlgorithm["PS256"][0]
	const payload = `{"sub":"alex"}`
	good := mustSign(t, r, "EdDSA", "at+jwt", payload)
	parts := strings.Split(good, ".")

	edHeader := func(more string) string {
		return fmt.Sprintf(`{"alg":"EdDSA","kid":%q,"typ":"at+jwt"%s}`, ed.record.ID, more)
	}
	if got, err := r.Verify(forge(t, ed, edHeader(`,"x":"ignored"`), payload), "at+jwt"); err != nil || string(got) != payload {
		t.Fatalf("an unknown parameter that is not critical must be ignored: %s, %v", got, err)
	}

	// Another authorization server's ring, and a stranger's key under our kid.
	elsewhere, err := Open(t.Context(), Config{Store: newMemory(), KEK: mustKEK(t, h.kek), Owner: "as:other", Now: h.clock})
	if err != nil {
		t.Fatal(err)
	}
	_, strangersKey, _ := ed25519.GenerateKey(rand.Reader)
	stranger := &signingKey{private: strangersKey}
	strangersJWK, _ := json.Marshal(jose.JSONWebKey{Key: strangersKey.Public(), KeyID: ed.record.ID})

	// HS256 with the published key as the secret, in the forms that are tried.
	hs256 := func(secret []byte) string {
		input := b64(fmt.Appendf(nil, `{"alg":"HS256","kid":%q,"typ":"at+jwt"}`, rs.record.ID)) + "." + parts[1]
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(input))
		return input + "." + b64(mac.Sum(nil))
	}
	none := func(alg string) string {
		return b64(fmt.Appendf(nil, `{"alg":%q,"kid":%q,"typ":"at+jwt"}`, alg, ed.record.ID)) + "." + parts[1] + "."
	}
	last := strings.Index("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", good[len(good)-1:])

	type refusal struct {
		token string
		want  error
	}
	table := map[string]refusal{
		"empty":                     {"", ErrSignature},
		"dots":                      {"..", ErrSignature},
		"alg none":                  {none("none"), ErrSignature},
		"alg None":                  {none("None"), ErrSignature},
		"alg none, our signature":   {none("none") + parts[2], ErrSignature},
		"HS256 with the modulus":    {hs256(rs.public.(*rsa.PublicKey).N.Bytes()), ErrSignature},
		"HS256 with the JWK":        {hs256(rs.record.Public), ErrSignature},
		"HS256 with Ed25519 key":    {hs256(ed.public.(ed25519.PublicKey)), ErrSignature},
		"RS512":                     {forge(t, rs, fmt.Sprintf(`{"alg":"RS512","kid":%q,"typ":"at+jwt"}`, rs.record.ID), payload), ErrSignature},
		"no alg":                    {forge(t, ed, fmt.Sprintf(`{"kid":%q,"typ":"at+jwt"}`, ed.record.ID), payload), ErrSignature},
		"PS256 with the RS256 key":  {forge(t, rs, fmt.Sprintf(`{"alg":"PS256","kid":%q,"typ":"at+jwt"}`, rs.record.ID), payload), ErrSignature},
		"RS256 with the PS256 key":  {forge(t, ps, fmt.Sprintf(`{"alg":"RS256","kid":%q,"typ":"at+jwt"}`, ps.record.ID), payload), ErrSignature},
		"EdDSA under the RSA kid":   {forge(t, ed, fmt.Sprintf(`{"alg":"EdDSA","kid":%q,"typ":"at+jwt"}`, rs.record.ID), payload), ErrSignature},
		"RS256 kid of PS256":        {forge(t, rs, fmt.Sprintf(`{"alg":"PS256","kid":%q,"typ":"at+jwt"}`, ps.record.ID), payload), ErrSignature},
		"unknown kid":               {forge(t, ed, `{"alg":"EdDSA","kid":"AAAAAAAAAAAAAAAAAAAAAAAAAA","typ":"at+jwt"}`, payload), ErrKeyUnknown},
		"no kid":                    {forge(t, ed, `{"alg":"EdDSA","typ":"at+jwt"}`, payload), ErrKeyUnknown},
		"another server's":          {mustSign(t, elsewhere, "EdDSA", "at+jwt", payload), ErrKeyUnknown},
		"a stranger's under ours":   {forge(t, stranger, edHeader(""), payload), ErrSignature},
		"kid twice":                 {forge(t, ed, edHeader(`,"kid":"x"`), payload), ErrSignature},
		"kid a number":              {forge(t, ed, `{"alg":"EdDSA","kid":1,"typ":"at+jwt"}`, payload), ErrSignature},
		"typ JWT":                   {mustSign(t, r, "EdDSA", "JWT", payload), ErrSignature},
		"typ logout+jwt":            {mustSign(t, r, "EdDSA", "logout+jwt", payload), ErrSignature},
		"typ longer":                {mustSign(t, r, "EdDSA", "at+jwt2", payload), ErrSignature},
		"typ with another tree":     {mustSign(t, r, "EdDSA", "text/at+jwt", payload), ErrSignature},
		"typ prefix twice":          {mustSign(t, r, "EdDSA", "application/application/at+jwt", payload), ErrSignature},
		"no typ":                    {mustSign(t, r, "EdDSA", "", payload), ErrSignature},
		"typ a list":                {forge(t, ed, fmt.Sprintf(`{"alg":"EdDSA","kid":%q,"typ":["at+jwt"]}`, ed.record.ID), payload), ErrSignature},
		"crit":                      {forge(t, ed, edHeader(`,"crit":["exp"],"exp":1`), payload), ErrSignature},
		"crit of b64":               {forge(t, ed, edHeader(`,"crit":["b64"],"b64":true`), payload), ErrSignature},
		"crit empty":                {forge(t, ed, edHeader(`,"crit":[]`), payload), ErrSignature},
		"crit null":                 {forge(t, ed, edHeader(`,"crit":null`), payload), ErrSignature},
		"b64":                       {forge(t, ed, edHeader(`,"b64":false`), payload), ErrSignature},
		"jwk, ours":                 {forge(t, ed, edHeader(`,"jwk":`+string(ed.record.Public)), payload), ErrSignature},
		"jwk, its own":              {forge(t, stranger, edHeader(`,"jwk":`+string(strangersJWK)), payload), ErrSignature},
		"jku":                       {forge(t, ed, edHeader(`,"jku":"https://evil.example/jwks"`), payload), ErrSignature},
		"x5u":                       {forge(t, ed, edHeader(`,"x5u":"https://evil.example/cert"`), payload), ErrSignature},
		"x5c":                       {forge(t, ed, edHeader(`,"x5c":[]`), payload), ErrSignature},
		"payload changed":           {parts[0] + "." + b64([]byte(`{"sub":"eve"}`)) + "." + parts[2], ErrSignature},
		"payload empty":             {parts[0] + ".." + parts[2], ErrSignature},
		"header changed":            {b64([]byte(edHeader(`,"x":1`))) + "." + parts[1] + "." + parts[2], ErrSignature},
		"signature changed":         {flip(good, len(good)-10), ErrSignature},
		"signature cut":             {good[:len(good)-4], ErrSignature},
		"signature missing":         {parts[0] + "." + parts[1] + ".", ErrSignature},
		"signature respelled":       {good[:len(good)-1] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last^1]), ErrSignature},
		"padded":                    {good + "==", ErrSignature},
		"two parts":                 {parts[0] + "." + parts[1], ErrSignature},
		"four parts":                {good + "." + parts[2], ErrSignature},
		"five parts, as a JWE":      {good + ".a.a", ErrSignature},
		"space before":              {" " + good, ErrSignature},
		"line break after":          {good + "\n", ErrSignature},
		"line break inside":         {good[:10] + "\n" + good[10:], ErrSignature},
		"standard alphabet":         {strings.NewReplacer("-", "+", "_", "/").Replace(forge(t, ed, edHeader(`,"x":"???"`), payload)), ErrSignature},
		"general JSON":              {fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, parts[1], parts[0], parts[2]), ErrSignature},
		"flattened JSON":            {fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`, parts[1], parts[0], parts[2]), ErrSignature},
		"oversized":                 {mustSign(t, r, "EdDSA", "at+jwt", strings.Repeat("x", maxToken)), ErrSignature},
		"header not an object":      {b64([]byte(`"EdDSA"`)) + "." + parts[1] + "." + parts[2], ErrSignature},
		"header null":               {b64([]byte(`null`)) + "." + parts[1] + "." + parts[2], ErrSignature},
		"a value sealed by the box": {r.Root().Box("p").Seal([]byte(payload), nil), ErrSignature},
	}
	for name, test := range table {
		t.Run(name, func(t *testing.T) {
			got, err := r.Verify(test.token, "at+jwt")
			if !errors.Is(err, test.want) || got != nil {
				t.Fatalf("Verify = %s, %v, want %v", got, err, test.want)
			}
			if errors.Is(err, ErrSignature) && errors.Is(err, ErrKeyUnknown) {
				t.Error("both errors at once")
			}
			if strings.Contains(err.Error(), "alex") || strings.Contains(err.Error(), "evil") || strings.Contains(err.Error(), ed.record.ID) {
				t.Errorf("error %q quotes the token", err)
			}
		})
	}
}

func TestVerifyComparesTypes(t *testing.T) {
	r := newHouse(t).open()
	for _, test := range []struct {
		typ    string
		wanted []string
		ok     bool
	}{
		{"at+jwt", []string{"at+jwt"}, true},
		{"at+jwt", []string{"application/at+jwt"}, true},
		{"application/at+jwt", []string{"at+jwt"}, true},
		{"Application/AT+JWT", []string{"at+jwt"}, true},
		{"JWT", []string{"at+jwt", "jwt"}, true},
		{"JWT", nil, true},
		{"", nil, true},
		{"", []string{"JWT", ""}, true},
		{"", []string{"JWT"}, false},
		{"JWT", []string{""}, false},
		{"JWT", []string{"at+jwt", "logout+jwt"}, false},
		{"at+jwt", []string{"JWT"}, false},
		{"application/", []string{""}, false},
		{"application/x/jwt", []string{"x/jwt"}, false},
	} {
		_, err := r.Verify(mustSign(t, r, "EdDSA", test.typ, "{}"), test.wanted...)
		if test.ok && err != nil || !test.ok && !errors.Is(err, ErrSignature) {
			t.Errorf("typ %q, wanted %q: %v, want ok %t", test.typ, test.wanted, err, test.ok)
		}
	}
}

func FuzzVerify(f *testing.F) {
	m, kek := first()
	r, err := Open(f.Context(), Config{Store: m, KEK: mustKEK(f, kek), Owner: testOwner})
	if err != nil {
		f.Fatal(err)
	}
	const payload = `{"sub":"alex"}`
	signed := map[string]bool{}
	for _, alg := range r.Algorithms() {
		token := mustSign(f, r, alg, "at+jwt", payload)
		signed[token] = true
		f.Add(token)
		f.Add(token[:len(token)-2])
		f.Add(" " + token)
	}
	f.Add("")
	f.Add("..")
	f.Add(b64([]byte(`{"alg":"none"}`)) + ".e30.")
	f.Add(b64([]byte(`{"alg":"EdDSA","jwk":{},"crit":["b64"]}`)) + ".e30.AAAA")
	f.Fuzz(func(t *testing.T, token string) {
		got, err := r.Verify(token, "at+jwt")
		switch {
		case signed[token] && (err != nil || string(got) != payload):
			t.Errorf("Verify(%q) = %s, %v", token, got, err)
		case !signed[token] && !errors.Is(err, ErrSignature) && !errors.Is(err, ErrKeyUnknown):
			t.Errorf("Verify(%q) = %s, %v", token, got, err)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	r, token := benchmarkRing(b), map[string]string{}
	payload := []byte(strings.Repeat("x", 500))
	for _, alg := range r.Algorithms() {
		b.Run(alg, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				token[alg], _ = r.Sign(alg, "at+jwt", payload)
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	r := benchmarkRing(b)
	for _, alg := range r.Algorithms() {
		token := mustSign(b, r, alg, "at+jwt", strings.Repeat("x", 500))
		b.Run(alg, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Verify(token, "at+jwt"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func benchmarkRing(b *testing.B) *Ring {
	m, kek := first()
	r, err := Open(b.Context(), Config{Store: m, KEK: mustKEK(b, kek), Owner: testOwner})
	if err != nil {
		b.Fatal(err)
	}
	return r
}
