package oauth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"gatehouse.dev/gatehouse/keys"
)

// memoryRoot is a keys.RootStore for one owner.
type memoryRoot struct {
	mu      sync.Mutex
	records []keys.RootRecord
}

func (m *memoryRoot) Roots(context.Context) ([]keys.RootRecord, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]keys.RootRecord(nil), m.records...), nil
}

func (m *memoryRoot) InsertRoot(_ context.Context, r keys.RootRecord) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records = append(m.records, r)
	return nil
}

func (m *memoryRoot) ReplaceRoot(context.Context, keys.RootRecord) error { return nil }

func newRoot(t testing.TB) *keys.Root {
	t.Helper()
	kek, err := keys.NewKEK(keys.GenerateKEK())
	if err != nil {
		t.Fatal(err)
	}
	root, err := keys.OpenRoot(context.Background(), keys.RootConfig{Store: &memoryRoot{}, KEK: kek, Owner: "as:test"})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestIDsAreOfTheirLengthAndEvenlyDrawn(t *testing.T) {
	seen, counts := map[string]bool{}, map[byte]int{}
	const draws = 2000
	for range draws {
		id := randomID(sessionIDLength)
		if !isID(id, sessionIDLength) || seen[id] {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
		for i := range len(id) {
			counts[id[i]]++
		}
	}
	// 80,000 letters of 62 kinds: 1290 each, six standard deviations are 214.
	for _, c := range []byte(alphanumeric) {
		if n := counts[c]; n < 1290-214 || n > 1290+214 {
			t.Errorf("%c was drawn %d times", c, n)
		}
	}
	for _, id := range []string{"", "a", strings.Repeat("a", 39), strings.Repeat("a", 41), strings.Repeat("a", 39) + "-", strings.Repeat("a", 38) + "é", strings.Repeat("a", 39) + "\x00"} {
		if isID(id, sessionIDLength) {
			t.Errorf("%q passes for an id", id)
		}
	}
}

func TestCodeIsKnownByItsHash(t *testing.T) {
	grant := randomID(grantIDLength)
	code, hash := newCode(grant)
	id, got, ok := parseCode(code)
	if !ok || id != grant || !bytes.Equal(got, hash) || len(hash) != sha256.Size {
		t.Errorf("code %q: %q, %x, %t", code, id, got, ok)
	}
	if bytes.Contains([]byte(code), hash) {
		t.Error("the code contains its hash")
	}
	if again, _ := newCode(grant); again == code {
		t.Error("the same code twice")
	}
	for _, bad := range []string{"", ".", grant, grant + ".", "." + code, code + "x", code[:len(code)-1], code + ".x", strings.ToUpper(grant[:21]) + code[22:], "é" + code[2:]} {
		if id, _, ok := parseCode(bad); ok {
			t.Errorf("%q passes for a code of %q", bad, id)
		}
	}
}

func TestRefreshTokenIsRecomputableAndBoundToEverything(t *testing.T) {
	root := newRoot(t)
	s := &Server{cfg: Config{Name: "myAS"}, refresh: root.MAC("refresh token")}
	g := &Grant{ID: randomID(grantIDLength), Secret: []byte("a secret of the grant, 32 bytes.")}
	token := s.newRefresh(g, 7)
	if token != s.newRefresh(g, 7) {
		t.Error("made again it is another")
	}
	v, ok := parseRefresh(token)
	if !ok || v.grantID != g.ID || v.generation != 7 || v.keyID != "1" || !s.proven(g, v) {
		t.Fatalf("%+v, %t", v, ok)
	}
	another := *g
	another.ID = randomID(grantIDLength)
	secret := *g
	secret.Secret = []byte("another secret of it, 32 bytes..")
	generation, key, sum := v, v, v
	generation.generation, key.keyID, sum.mac = 8, "2", append([]byte{v.mac[0] ^ 1}, v.mac[1:]...)
	elsewhere := &Server{cfg: Config{Name: "myAS2"}, refresh: s.refresh}
	purpose := &Server{cfg: s.cfg, refresh: root.MAC("another purpose")}
	for name, proven := range map[string]bool{
		"another grant": s.proven(&another, v), "another secret": s.proven(&secret, v), "another generation": s.proven(g, generation), "another key": s.proven(g, key),
		"another MAC": s.proven(g, sum), "a shorter MAC": s.proven(g, refreshValue{v.grantID, 7, "1", v.mac[:31]}), "no MAC": s.proven(g, refreshValue{v.grantID, 7, "1", nil}),
		"another server": elsewhere.proven(g, v), "another purpose": purpose.proven(g, v),
	} {
		if proven {
			t.Errorf("%s: proven", name)
		}
	}
}

func TestWhatIsNoRefreshTokenIsNotParsed(t *testing.T) {
	id, mac := strings.Repeat("A", grantIDLength), base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	if _, ok := parseRefresh(id + ".1.1." + mac); !ok {
		t.Fatal("a good one is refused")
	}
	for _, bad := range []string{
		"", "....", id, id + ".1.1", id + ".1.1." + mac + ".", "." + id + ".1.1." + mac, id[1:] + ".1.1." + mac, id + "A.1.1." + mac, id + ".0.1." + mac, id + ".-1.1." + mac,
		id + ".+1.1." + mac, id + ".01.1." + mac, id + ".1e0.1." + mac, id + "..1." + mac, id + ".x.1." + mac, id + ". 1.1." + mac, id + ".9223372036854775808.1." + mac,
		id + ".1.1." + mac + "=", id + ".1.1." + mac[:42] + "B", id + ".1.1." + mac[:42] + "\n" + mac[42:], id + ".1.1.+" + mac[1:], id + ".1.1." + strings.Repeat("A", 600),
	} {
		if v, ok := parseRefresh(bad); ok {
			t.Errorf("%q passes for a refresh token: %+v", bad, v)
		}
	}
}

// RFC 7636 §4.1, §4.2, appendix B.
func TestVerifierAndChallenge(t *testing.T) {
	const verifier, challenge = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	if !isVerifier(verifier) || !isChallenge(challenge) || !verifies(verifier, challenge) {
		t.Error("the example of RFC 7636 is refused")
	}
	if verifies(challenge, challenge) || verifies("", challenge) || verifies(verifier, "") || verifies(verifier, challenge+"=") || verifies(verifier, strings.ToLower(challenge)) {
		t.Error("a wrong one is taken")
	}
	for _, bad := range []string{"", strings.Repeat("a", 42), strings.Repeat("a", 129), strings.Repeat("a", 43) + " ", strings.Repeat("a", 43) + "+", strings.Repeat("a", 43) + "/", strings.Repeat("a", 43) + "=", strings.Repeat("é", 43), strings.Repeat("a", 43) + "\x00"} {
		if isVerifier(bad) {
			t.Errorf("%q passes for a verifier", bad)
		}
	}
	for _, good := range []string{strings.Repeat("a", 43), strings.Repeat("~", 128), strings.Repeat("-._~aZ09", 8)} {
		if !isVerifier(good) {
			t.Errorf("%q is refused", good)
		}
	}
	for _, bad := range []string{"", challenge + "=", challenge[1:], challenge + "A", challenge[:42] + "N", strings.Replace(challenge, "-", "+", 1), challenge[:20] + "\n" + challenge[20:], "plain"} {
		if isChallenge(bad) {
			t.Errorf("%q passes for a challenge", bad)
		}
	}
}

func TestPrintableTextIsVSCHARAlone(t *testing.T) {
	for text, want := range map[string]bool{"a": true, " ~": true, strings.Repeat("x", 255): true, strings.Repeat("x", 256): false, "": false, "\x00": false, "a\n": false, "\x7f": false, "é": false, "\xff": false} {
		if isPrintable(text, 255) != want {
			t.Errorf("%q: want %t", text, want)
		}
	}
}

// RFC 7519 §4.1.3.
func TestAudienceIsAStringOrAnArray(t *testing.T) {
	for text, want := range map[string]audience{`"a"`: {"a"}, `["a","b"]`: {"a", "b"}, `["a"]`: {"a"}, `[]`: {}, `""`: {""}} {
		var got audience
		if err := json.Unmarshal([]byte(text), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for _, bad := range []string{`7`, `{}`, `[7]`, `["a",7]`, `true`, `[["a"]]`} {
		if err := json.Unmarshal([]byte(bad), new(audience)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	for want, list := range map[string]audience{`"a"`: {"a"}, `["a","b"]`: {"a", "b"}} {
		if got, err := json.Marshal(list); err != nil || string(got) != want {
			t.Errorf("%q: %s, %v", list, got, err)
		}
	}
}

// RFC 6749 §5.2: %x20-21 / %x23-5B / %x5D-7E.
func TestDescriptionsKeepToTheirCharacters(t *testing.T) {
	for text, want := range map[string]string{"plain text!": "plain text!", `a "b" \c`: `a 'b' 'c`, "é\n\x00\x7f": "????", "日本": "??", "\xff": "?"} {
		if got := describable(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestBasicHeaderIsFormEncoded(t *testing.T) {
	encode := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	for header, want := range map[string][2]string{
		encode("id:secret"): {"id", "secret"}, encode("a%3Ab:c%3Ad"): {"a:b", "c:d"}, encode("id:a:b"): {"id", "a:b"}, encode("a+b:c+d"): {"a b", "c d"},
		encode("%C3%A9:%25"): {"é", "%"}, encode(":"): {"", ""}, "basic  " + encode("id:x")[6:]: {"id", "x"},
	} {
		if id, secret, err := basic(header); err != nil || id != want[0] || secret != want[1] {
			t.Errorf("%q: %q, %q, %v", header, id, secret, err)
		}
	}
	for _, bad := range []string{"", "Basic", "Basic ", "Basic !", encode("id"), encode("%zz:x"), encode("id:%"), encode("id:%4"), "Bearer " + encode("id:x")[6:], encode("id:x")[6:], "Basic\t" + encode("id:x")[6:]} {
		var e *Error
		if id, _, err := basic(bad); !errors.As(err, &e) || e.Code != "invalid_client" {
			t.Errorf("%q is read as of %q: %v", bad, id, err)
		}
	}
}

func TestStampBelongsToOneServerRequestAndHalfHour(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	box := newRoot(t).Box("stamp")
	s := Stamps{Box: box, Server: "myAS", Now: func() time.Time { return now }}
	query := url.Values{"client_id": {"web"}, "resource": {"a", "b"}}
	stamp := s.Begin()
	stamp.SignedIn, stamp.LoginID, stamp.Decision, stamp.Scopes = true, "l", DecisionAllow, []string{"openid"}
	sealed := s.Seal(stamp, query)
	if got, err := s.Open(sealed, url.Values{"resource": {"a", "b"}, "client_id": {"web"}, stampParam: {"anything"}}); err != nil || !reflect.DeepEqual(got, stamp) {
		t.Errorf("%+v, %v", got, err)
	}
	if s.Begin().Nonce == stamp.Nonce {
		t.Error("the same nonce twice")
	}
	open := func(s Stamps, sealed string, query url.Values) error { _, err := s.Open(sealed, query); return err }
	for name, err := range map[string]error{
		"another server":    open(Stamps{Box: box, Server: "myAS2", Now: s.Now}, sealed, query),
		"another order":     open(s, sealed, url.Values{"client_id": {"web"}, "resource": {"b", "a"}}),
		"one value less":    open(s, sealed, url.Values{"client_id": {"web"}, "resource": {"a"}}),
		"one more":          open(s, sealed, url.Values{"client_id": {"web"}, "resource": {"a", "b"}, "x": {"y"}}),
		"joined":            open(s, sealed, url.Values{"client_id": {"web&resource=a"}, "resource": {"b"}}),
		"another purpose":   open(Stamps{Box: newRoot(t).Box("stamp"), Server: "myAS", Now: s.Now}, sealed, query),
		"cut":               open(s, sealed[:len(sealed)-1], query),
		"empty":             open(s, "", query),
		"of another clock":  open(Stamps{Box: box, Server: "myAS", Now: func() time.Time { return now.Add(-2 * time.Minute) }}, sealed, query),
		"half an hour gone": open(Stamps{Box: box, Server: "myAS", Now: func() time.Time { return now.Add(StampLifetime + time.Millisecond) }}, sealed, query),
		"no stamp inside":   open(s, box.Seal([]byte("[]"), s.bound(query)), query),
	} {
		if !errors.Is(err, ErrStamp) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := open(Stamps{Box: box, Server: "myAS", Now: func() time.Time { return now.Add(StampLifetime) }}, sealed, query); err != nil {
		t.Errorf("after half an hour exactly: %v", err)
	}
}

func TestKeysFitTheirAlgorithms(t *testing.T) {
	for name, key := range map[string]string{
		"P-256": `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`,
		"small": `{"kty":"RSA","e":"AQAB","n":"vTwpISk9wD9cMUDbT9g1KaRkO6iTq0vYQT3vBRkBHsEOXxZRVRkBcfBh5KYsHYsO1VNCKYsz3Mb7pGbvUQaCUQ"}`,
	} {
		var k jose.JSONWebKey
		if err := json.Unmarshal([]byte(key), &k); err != nil {
			t.Fatal(name, err)
		}
		for alg, want := range map[string]bool{"ES256": name == "P-256", "ES384": false, "ES512": false, "RS256": false, "PS512": false, "EdDSA": false, "HS256": false, "none": false} {
			if fits(k, alg) != want {
				t.Errorf("%s for %s: want %t", name, alg, want)
			}
		}
	}
}
