package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestFirstStartMakesOneKeyOfEachAlgorithm(t *testing.T) {
	h := newHouse(t)
	r := h.open()
	if got := strings.Join(r.Algorithms(), " "); got != "RS256 ES256 EdDSA PS256" {
		t.Errorf("Algorithms = %s", got)
	}
	if len(r.Keys()) != 4 || len(h.store.keys) != 4 {
		t.Fatalf("%d keys, %d stored, want 4", len(r.Keys()), len(h.store.keys))
	}
	seen := map[string]bool{}
	for i, info := range r.Keys() {
		record := h.store.keys[info.ID]
		if info.Algorithm != r.Algorithms()[i] || info.State != StateActive || !info.ActivatesAt.Equal(testStart) || !info.RetiredAt.IsZero() {
			t.Errorf("key: %+v", info)
		}
		if record.Slot != 1 || len(record.ID) < 16 || !mustKEK(t, h.kek).Current(record.Sealed) {
			t.Errorf("record: %+v", record)
		}
		var jwk map[string]string
		if err := json.Unmarshal(record.Public, &jwk); err != nil {
			t.Fatal(err)
		}
		for _, private := range []string{"d", "p", "q", "k"} {
			if jwk[private] != "" {
				t.Errorf("public JWK of %s has the member %s", info.Algorithm, private)
			}
		}
		seen[jwk["n"]+jwk["x"]] = true
	}
	if len(seen) != 4 {
		t.Error("two algorithms share a key")
	}
	if r.Root() == nil {
		t.Error("no root")
	}
}

func TestNodesThatStartTogetherAgree(t *testing.T) {
	m, kek := newMemory(), mustKEK(t, GenerateKEK())
	rings := make([]*Ring, 3)
	var group sync.WaitGroup
	for i := range rings {
		group.Go(func() {
			var err error
			if rings[i], err = Open(t.Context(), Config{Store: m, KEK: kek, Owner: "as:a"}); err != nil {
				t.Errorf("Open: %v", err)
			}
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	if len(m.keys) != 4 || len(m.roots) != 1 {
		t.Errorf("%d keys and %d roots stored, want 4 and 1", len(m.keys), len(m.roots))
	}
	for _, r := range rings[1:] {
		if string(r.JWKS()) != string(rings[0].JWKS()) || r.state.Load().etag[0] != rings[0].state.Load().etag[0] {
			t.Error("nodes publish different key sets")
		}
		for _, alg := range r.Algorithms() {
			if _, err := rings[0].Verify(mustSign(t, r, alg, "JWT", "{}")); err != nil {
				t.Errorf("%s of one node at another: %v", alg, err)
			}
		}
		if _, err := rings[0].Root().Box("p").Open(r.Root().Box("p").Seal(nil, nil), nil); err != nil {
			t.Errorf("box of one node at another: %v", err)
		}
	}
}

func TestFirstStartMakesUpForWhatTheWinnerLacks(t *testing.T) {
	h := newHouse(t)
	kept := keysOf(h.open(), "ES256")[0].ID
	all := h.store.keys
	h.store.keys = map[string]SigningKeyRecord{}
	// Between reading and storing, a node that knows only ES256 was faster.
	h.store.beforeInsert = func() { h.store.keys[kept] = all[kept] }
	r := h.open()
	if len(r.Keys()) != 4 || keysOf(r, "ES256")[0].ID != kept {
		t.Errorf("keys: %+v", r.Keys())
	}
}

func TestOpenRefuses(t *testing.T) {
	h := newHouse(t)
	kek := mustKEK(t, h.kek)
	for name, test := range map[string]struct {
		config Config
		want   error // nil: any
	}{
		"no store":             {Config{KEK: kek, Owner: testOwner}, nil},
		"no KEK":               {Config{Store: h.store, Owner: testOwner}, nil},
		"no owner":             {Config{Store: h.store, KEK: kek}, nil},
		"overlap as max-age":   {Config{Store: h.store, KEK: kek, Owner: testOwner, Overlap: 5 * time.Minute}, nil},
		"overlap negative":     {Config{Store: h.store, KEK: kek, Owner: testOwner, Overlap: -time.Hour}, nil},
		"retention negative":   {Config{Store: h.store, KEK: kek, Owner: testOwner, RetainRetired: -1}, nil},
		"store away":           {Config{Store: &memory{broken: true}, KEK: kek, Owner: testOwner}, errBroken},
		"another KEK":          {Config{Store: h.store, KEK: mustKEK(t, GenerateKEK()), Owner: testOwner}, ErrKeyUnknown},
		"another owner's keys": {Config{Store: &memory{roots: map[string]RootRecord{}, keys: h.store.keys}, KEK: kek, Owner: "as:other"}, ErrSealed},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Open(t.Context(), test.config)
			if err == nil || r != nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("Open = %v, %v, want error %v", r, err, test.want)
			}
		})
	}
}

func TestRecordsThatWereTamperedWithAreRefused(t *testing.T) {
	kek := mustKEK(t, firstKEK())
	reseal := func(r *SigningKeyRecord, private crypto.Signer) {
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		r.Sealed = kek.Seal(der, signingKeyAAD(testOwner, *r))
		if r.Public, err = json.Marshal(publicJWK(*r, private.Public())); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		alg    string
		change func(r *SigningKeyRecord, other SigningKeyRecord) // other: the PS256 key's
		want   error                                             // nil: any
	}{
		"public key of another":  {"RS256", func(r *SigningKeyRecord, o SigningKeyRecord) { r.Public = relabel(t, o.Public, r.ID, r.Algorithm) }, nil},
		"public JWK as it is":    {"RS256", func(r *SigningKeyRecord, o SigningKeyRecord) { r.Public = o.Public }, nil},
		"public kid":             {"RS256", func(r *SigningKeyRecord, _ SigningKeyRecord) { r.Public = relabel(t, r.Public, "x", r.Algorithm) }, nil},
		"public alg":             {"RS256", func(r *SigningKeyRecord, _ SigningKeyRecord) { r.Public = relabel(t, r.Public, r.ID, "PS256") }, nil},
		"public JWK malformed":   {"RS256", func(r *SigningKeyRecord, _ SigningKeyRecord) { r.Public = json.RawMessage(`{`) }, nil},
		"public JWK missing":     {"RS256", func(r *SigningKeyRecord, _ SigningKeyRecord) { r.Public = nil }, nil},
		"private key of another": {"RS256", func(r *SigningKeyRecord, o SigningKeyRecord) { r.Sealed = o.Sealed }, ErrSealed},
		"private and public":     {"RS256", func(r *SigningKeyRecord, o SigningKeyRecord) { r.Sealed, r.Public = o.Sealed, o.Public }, ErrSealed},
		"another algorithm":      {"RS256", func(r *SigningKeyRecord, _ SigningKeyRecord) { r.Algorithm, r.Slot = "PS256", 9 }, ErrSealed},
		"another kid":            {"EdDSA", func(r *SigningKeyRecord, _ SigningKeyRecord) { r.ID = "AAAAAAAAAAAAAAAAAAAAAAAAAA" }, ErrSealed},
		"sealed value altered":   {"EdDSA", func(r *SigningKeyRecord, _ SigningKeyRecord) { r.Sealed = flip(r.Sealed, len(r.Sealed)-6) }, ErrSealed},
		"sealed, but no key": {"EdDSA", func(r *SigningKeyRecord, _ SigningKeyRecord) {
			r.Sealed = kek.Seal([]byte("x"), signingKeyAAD(testOwner, *r))
		}, ErrSealed},
		"sealed, RSA for EdDSA": {"EdDSA", func(r *SigningKeyRecord, _ SigningKeyRecord) {
			k, _ := rsa.GenerateKey(rand.Reader, 2048)
			reseal(r, k)
		}, nil},
		"sealed, P-384 for ES256": {"ES256", func(r *SigningKeyRecord, _ SigningKeyRecord) {
			k, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			reseal(r, k)
		}, nil},
		"sealed, RSA of 1,024 bits": {"RS256", func(r *SigningKeyRecord, _ SigningKeyRecord) {
			k, _ := rsa.GenerateKey(rand.Reader, 1024)
			reseal(r, k)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			running := h.open()
			jwks := string(running.JWKS())
			other := h.store.keys[keysOf(running, "PS256")[0].ID]
			h.store.change(keysOf(running, test.alg)[0].ID, func(r *SigningKeyRecord) { test.change(r, other) })

			if r, err := Open(t.Context(), Config{Store: h.store, KEK: kek, Owner: testOwner}); err == nil || r != nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("Open = %v, want error %v", err, test.want)
			}
			if err := running.Reload(t.Context()); err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("Reload = %v, want error %v", err, test.want)
			}
			if string(running.JWKS()) != jwks {
				t.Error("a refused reload changed the key set")
			}
		})
	}
}

// relabel returns a JWK with another kid and alg.
func relabel(t *testing.T, jwk json.RawMessage, kid, alg string) json.RawMessage {
	var members map[string]any
	if err := json.Unmarshal(jwk, &members); err != nil {
		t.Fatal(err)
	}
	members["kid"], members["alg"] = kid, alg
	out, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPublicJWKMayBeStoredInAnotherSpelling(t *testing.T) {
	h := newHouse(t)
	id := keysOf(h.open(), "RS256")[0].ID
	// As a JSON column does: members in another order, white space.
	h.store.change(id, func(r *SigningKeyRecord) {
		r.Public = json.RawMessage(strings.ReplaceAll(string(relabel(t, r.Public, id, "RS256")), `":"`, `": "`))
	})
	h.open()
}

func TestKeysOfNewerReleasesArePassedOver(t *testing.T) {
	h := newHouse(t)
	h.store.keys["x"] = SigningKeyRecord{ID: "x", Algorithm: "ES384", Sealed: "y", Slot: 1}
	r := h.open()
	if len(r.Keys()) != 4 || strings.Contains(string(r.JWKS()), "ES384") {
		t.Errorf("keys: %+v", r.Keys())
	}
	if _, err := r.Sign("ES384", "JWT", nil); !errors.Is(err, ErrKeyUnknown) {
		t.Errorf("Sign: %v", err)
	}
}

func TestKeySignsAlthoughTheClockIsBehind(t *testing.T) {
	h := newHouse(t)
	h.advance(-time.Second)
	r := h.open()
	if _, err := r.Verify(mustSign(t, r, "ES256", "JWT", "{}")); err != nil {
		t.Error(err)
	}
	if info := keysOf(r, "ES256")[0]; info.State != StateActive {
		t.Errorf("state %s, want active", info.State)
	}
	first := kidOf(t, r, "ES256")
	h.advance(time.Second)
	h.rotate(r, "ES256", false)
	h.advance(-time.Second)
	if kidOf(t, r, "ES256") != first || states(r, "ES256") != "next active" {
		t.Errorf("states %s, want the first key to sign", states(r, "ES256"))
	}
}

func TestReloadKeepsTheKeysIfItFails(t *testing.T) {
	h := newHouse(t)
	r := h.open()
	token := mustSign(t, r, "EdDSA", "JWT", "{}")
	h.store.broken = true
	if err := r.Reload(t.Context()); !errors.Is(err, errBroken) {
		t.Errorf("Reload: %v", err)
	}
	h.store.broken = false
	stored := h.store.keys
	h.store.keys = map[string]SigningKeyRecord{}
	if err := r.Reload(t.Context()); err == nil {
		t.Error("Reload of an empty store: no error")
	}
	if _, err := r.Verify(token); err != nil {
		t.Error(err)
	}
	h.store.keys = stored
	if err := r.Reload(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestReloadKeepsPreparedKeys(t *testing.T) {
	h := newHouse(t)
	r := h.open()
	before := r.state.Load().byAlgorithm["RS256"][0]
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.state.Load().byAlgorithm["RS256"][0] != before {
		t.Error("an unchanged key was opened again")
	}
}

func TestRewrapMovesToTheCurrentKEK(t *testing.T) {
	h := newHouse(t)
	r := h.open()
	if n, err := r.Rewrap(t.Context()); n != 0 || err != nil {
		t.Errorf("Rewrap with nothing to do = %d, %v", n, err)
	}
	if err := r.Rotate(t.Context(), "EdDSA", false); err != nil {
		t.Fatal(err)
	}
	token, sealed := mustSign(t, r, "EdDSA", "JWT", "{}"), r.Root().Box("p").Seal([]byte("x"), nil)
	infos, current := r.Keys(), GenerateKEK()

	both, err := Open(t.Context(), Config{Store: h.store, KEK: mustKEK(t, current, h.kek), Owner: testOwner, Now: h.clock})
	if err != nil {
		t.Fatalf("Open with the previous KEK: %v", err)
	}
	h.store.broken = true
	if _, err := both.Rewrap(t.Context()); !errors.Is(err, errBroken) {
		t.Errorf("Rewrap with the store away: %v", err)
	}
	h.store.broken = false
	if n, err := both.Rewrap(t.Context()); n != 6 || err != nil {
		t.Errorf("Rewrap = %d, %v, want 6: the root and five keys", n, err)
	}
	if n, err := both.Rewrap(t.Context()); n != 0 || err != nil {
		t.Errorf("Rewrap again = %d, %v", n, err)
	}
	if _, err := Open(t.Context(), Config{Store: h.store, KEK: mustKEK(t, h.kek), Owner: testOwner}); !errors.Is(err, ErrKeyUnknown) {
		t.Errorf("the previous KEK alone still opens: %v", err)
	}
	h.kek = current
	after := h.open()
	if got, err := after.Verify(token); err != nil || string(got) != "{}" {
		t.Errorf("Verify = %s, %v", got, err)
	}
	if got, err := after.Root().Box("p").Open(sealed, nil); err != nil || string(got) != "x" {
		t.Errorf("Open = %s, %v", got, err)
	}
	if !slices.Equal(after.Keys(), infos) {
		t.Errorf("keys changed:\n%+v\n%+v", infos, after.Keys())
	}
}

func TestRingIsConcurrent(t *testing.T) {
	h := newHouse(t)
	nodes := []*Ring{h.open(), h.open()}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var users, rotators sync.WaitGroup
	for i := range 4 {
		users.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				r, alg := nodes[i%2], []string{"ES256", "EdDSA"}[n%2]
				payload := fmt.Sprint(i, n)
				token, err := r.Sign(alg, fmt.Sprint("type", n%3), []byte(payload))
				if err != nil {
					t.Errorf("Sign: %v", err)
					return
				}
				if got, err := r.Verify(token, fmt.Sprint("type", n%3)); err != nil || string(got) != payload {
					t.Errorf("Verify = %s, %v", got, err)
					return
				}
				if !json.Valid(r.JWKS()) || len(r.Keys()) < 4 {
					t.Error("key set broken")
				}
			}
		})
	}
	for i, r := range nodes {
		rotators.Go(func() {
			for n := range 10 {
				alg := []string{"ES256", "EdDSA"}[n%2]
				if err := r.Rotate(ctx, alg, (n+i)%2 == 0); err != nil {
					t.Errorf("Rotate: %v", err)
				}
				h.advance(6 * time.Minute)
				if err := r.Reload(ctx); err != nil {
					t.Errorf("Reload: %v", err)
				}
			}
		})
	}
	rotators.Wait()
	cancel()
	users.Wait()
	slots := map[string]bool{}
	for _, record := range h.store.keys {
		slot := fmt.Sprint(record.Algorithm, record.Slot)
		if slots[slot] {
			t.Errorf("two keys in slot %s", slot)
		}
		slots[slot] = true
	}
}
