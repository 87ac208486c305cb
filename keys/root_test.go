package keys

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

func mustRoot(t testing.TB, store RootStore, kek *KEK, owner string) *Root {
	t.Helper()
	r, err := OpenRoot(t.Context(), RootConfig{Store: store, KEK: kek, Owner: owner})
	if err != nil {
		t.Fatalf("OpenRoot: %v", err)
	}
	return r
}

func TestRootIsMadeOnceAndStaysTheSame(t *testing.T) {
	m, kek := newMemory(), mustKEK(t, GenerateKEK())
	sealed := mustRoot(t, m, kek, "realm:default").Box("p").Seal([]byte("x"), nil)
	if got, err := mustRoot(t, m, kek, "realm:default").Box("p").Open(sealed, nil); err != nil || string(got) != "x" {
		t.Errorf("after a restart Open = %q, %v", got, err)
	}
	record := m.roots["1"]
	if len(m.roots) != 1 || !kek.Current(record.Sealed) || record.CreatedAt.IsZero() {
		t.Errorf("stored: %+v", m.roots)
	}
}

func TestRootLoserOfTheRaceReadsTheWinners(t *testing.T) {
	m, kek := newMemory(), mustKEK(t, GenerateKEK())
	var winner *Root
	m.beforeInsert = func() { winner = mustRoot(t, m, kek, "as:a") }
	loser := mustRoot(t, m, kek, "as:a")
	if got, err := loser.Box("p").Open(winner.Box("p").Seal([]byte("x"), nil), nil); err != nil || string(got) != "x" {
		t.Errorf("Open = %q, %v", got, err)
	}
}

func TestOpenRootRefuses(t *testing.T) {
	key := GenerateKEK()
	kek := mustKEK(t, key)
	stored := newMemory()
	mustRoot(t, stored, kek, "as:a")
	record := stored.roots["1"]

	with := func(records ...RootRecord) *memory {
		m := newMemory()
		for _, r := range records {
			m.roots[r.ID] = r
		}
		return m
	}
	renamed := func(id string) RootRecord {
		r := record
		r.ID, r.Sealed = id, kek.Seal(make([]byte, secretSize), (&Root{config: RootConfig{Owner: "as:a"}}).aad(id))
		return r
	}
	short := record
	short.Sealed = kek.Seal([]byte("short"), (&Root{config: RootConfig{Owner: "as:a"}}).aad("1"))
	moved := record
	moved.ID = "2"
	for name, test := range map[string]struct {
		config RootConfig
		want   error // nil: any
	}{
		"another owner's":     {RootConfig{Store: with(record), KEK: kek, Owner: "as:b"}, ErrSealed},
		"another KEK":         {RootConfig{Store: with(record), KEK: mustKEK(t, GenerateKEK()), Owner: "as:a"}, ErrKeyUnknown},
		"another version's":   {RootConfig{Store: with(moved), KEK: kek, Owner: "as:a"}, ErrSealed},
		"of the wrong length": {RootConfig{Store: with(short), KEK: kek, Owner: "as:a"}, ErrSealed},
		"id not a number":     {RootConfig{Store: with(renamed("x")), KEK: kek, Owner: "as:a"}, nil},
		"id zero":             {RootConfig{Store: with(renamed("0")), KEK: kek, Owner: "as:a"}, nil},
		"id with a sign":      {RootConfig{Store: with(renamed("+1")), KEK: kek, Owner: "as:a"}, nil},
		"store away":          {RootConfig{Store: &memory{broken: true}, KEK: kek, Owner: "as:a"}, errBroken},
		"no store":            {RootConfig{KEK: kek, Owner: "as:a"}, nil},
		"no KEK":              {RootConfig{Store: with(record), Owner: "as:a"}, nil},
		"no owner":            {RootConfig{Store: with(record), KEK: kek}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := OpenRoot(t.Context(), test.config)
			if err == nil || r != nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("OpenRoot = %v, %v, want error %v", r, err, test.want)
			}
		})
	}
}

// versions returns a store with root versions 1 to n of an owner.
func versions(t *testing.T, kek *KEK, owner string, n int) *memory {
	m := newMemory()
	for i := range n {
		id := fmt.Sprint(i + 1)
		m.roots[id] = RootRecord{ID: id, Sealed: kek.Seal(bytes.Repeat([]byte{byte(i)}, secretSize), (&Root{config: RootConfig{Owner: owner}}).aad(id))}
	}
	return m
}

func TestNewestRootSealsAndOlderOnesOpen(t *testing.T) {
	kek := mustKEK(t, GenerateKEK())
	ninth := mustRoot(t, versions(t, kek, "as:a", 9), kek, "as:a")
	tenth := mustRoot(t, versions(t, kek, "as:a", 10), kek, "as:a") // "10" sorts before "9" as text

	old := ninth.Box("p").Seal([]byte("old"), nil)
	if got, err := tenth.Box("p").Open(old, nil); err != nil || string(got) != "old" {
		t.Errorf("Open of version 9 = %q, %v", got, err)
	}
	sealed := tenth.Box("p").Seal([]byte("new"), nil)
	if !strings.HasPrefix(sealed, "10.") {
		t.Errorf("sealed by version %.3s, want 10", sealed)
	}
	if _, err := ninth.Box("p").Open(sealed, nil); !errors.Is(err, ErrSealed) {
		t.Errorf("Open of a version that is not here: %v", err)
	}
	if _, err := tenth.Box("p").Open("9"+strings.TrimPrefix(sealed, "10"), nil); !errors.Is(err, ErrSealed) {
		t.Errorf("Open of a relabelled value: %v", err)
	}

	oldMAC, newMAC := ninth.MAC("p"), tenth.MAC("p")
	if newMAC.KeyID() != "10" || !newMAC.Verify("9", []byte("d"), oldMAC.Sum([]byte("d"))) {
		t.Error("the MAC of version 9 does not verify")
	}
	if newMAC.Verify("10", []byte("d"), oldMAC.Sum([]byte("d"))) || oldMAC.Verify("10", []byte("d"), newMAC.Sum([]byte("d"))) {
		t.Error("a MAC verifies under a version that did not make it")
	}
}

func TestBoxOpenRefuses(t *testing.T) {
	kek := mustKEK(t, GenerateKEK())
	root := mustRoot(t, newMemory(), kek, "as:a")
	box := root.Box("opaque token")
	aad := []byte("aad")
	sealed := box.Seal([]byte("claims"), aad)
	if got, err := box.Open(sealed, aad); err != nil || string(got) != "claims" {
		t.Fatalf("Open = %q, %v", got, err)
	}
	if empty, err := box.Open(box.Seal(nil, nil), nil); err != nil || len(empty) != 0 {
		t.Fatalf("Open of an empty value = %q, %v", empty, err)
	}
	{
		largest := strings.Repeat("x", 12200)
		if got, err := box.Open(box.Seal([]byte(largest), nil), nil); err != nil || string(got) != largest {
			t.Fatalf("Open of 12,200 bytes: %v", err)
		}
	}
	if strings.Trim(sealed, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		t.Errorf("%q is not URL-safe", sealed)
	}
	if box.Seal([]byte("claims"), aad) == sealed {
		t.Error("sealing twice gives the same value")
	}

	// Same bytes of root secret, other owner: the derivation must differ.
	twins := func(owner string) *Root { return mustRoot(t, versions(t, kek, owner, 1), kek, owner) }
	last := sealed[len(sealed)-1:]
	alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	stray := sealed[:len(sealed)-1] + string(alphabet[strings.Index(alphabet, last)^1])
	if len(sealed[2:])%4 == 0 {
		t.Fatal("this plaintext leaves no stray bits; choose another length")
	}
	for name, test := range map[string]struct {
		box    *Box
		sealed string
		aad    []byte
	}{
		"another purpose":            {box, root.Box("stamp").Seal([]byte("x"), aad), aad},
		"another owner":              {box, mustRoot(t, newMemory(), kek, "as:b").Box("opaque token").Seal([]byte("x"), aad), aad},
		"another owner, same secret": {twins("as:a").Box("p"), twins("as:b").Box("p").Seal([]byte("x"), aad), aad},
		"owner and purpose shifted":  {twins(`as:a" "p`).Box("q"), twins("as:a").Box(`p" "q`).Seal([]byte("x"), aad), aad},
		"other aad":                  {box, sealed, []byte("aae")},
		"no aad":                     {box, sealed, nil},
		"empty":                      {box, "", aad},
		"only a version":             {box, "1.", aad},
		"no version":                 {box, sealed[1:], aad},
		"unknown version":            {box, "2" + sealed[1:], aad},
		"no separator":               {box, strings.Replace(sealed, ".", "", 1), aad},
		"cut":                        {box, sealed[:len(sealed)-4], aad},
		"padded":                     {box, sealed + "=", aad},
		"longer":                     {box, sealed + "A", aad},
		"line break at the end":      {box, sealed + "\n", aad},
		"line break inside":          {box, sealed[:20] + "\r\n" + sealed[20:], aad},
		"stray last bits":            {box, stray, aad},
		"altered":                    {box, flip(sealed, len(sealed)-6), aad},
		"altered nonce":              {box, flip(sealed, 4), aad},
		"under the KEK":              {box, kek.Seal([]byte("claims"), "aad"), aad},
		"oversized":                  {box, box.Seal(make([]byte, maxSealed), aad), aad},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := test.box.Open(test.sealed, test.aad); !errors.Is(err, ErrSealed) || got != nil {
				t.Errorf("Open = %q, %v, want ErrSealed", got, err)
			}
		})
	}
}

func TestMACVerifyRefuses(t *testing.T) {
	kek := mustKEK(t, GenerateKEK())
	root := mustRoot(t, newMemory(), kek, "as:a")
	m, data := root.MAC("refresh token"), []byte("data")
	sum := m.Sum(data)
	if len(sum) != 32 || !m.Verify(m.KeyID(), data, sum) || !bytes.Equal(sum, m.Sum(data)) {
		t.Fatal("its own MAC does not verify")
	}
	independent := hmac.New(sha256.New, root.derive(root.versions[0], "mac", "refresh token"))
	independent.Write(data)
	if !bytes.Equal(independent.Sum(nil), sum) {
		t.Error("not the HMAC-SHA256 of the data")
	}
	altered := slices.Clone(sum)
	altered[31] ^= 1
	for name, test := range map[string]struct {
		keyID     string
		data, sum []byte
	}{
		"other data":      {"1", []byte("date"), sum},
		"no data":         {"1", nil, sum},
		"altered":         {"1", data, altered},
		"cut":             {"1", data, sum[:16]},
		"empty":           {"1", data, nil},
		"longer":          {"1", data, append(slices.Clone(sum), 0)},
		"unknown key id":  {"2", data, sum},
		"no key id":       {"", data, sum},
		"another purpose": {"1", data, root.MAC("cursor").Sum(data)},
		"another owner":   {"1", data, mustRoot(t, newMemory(), kek, "as:b").MAC("refresh token").Sum(data)},
	} {
		t.Run(name, func(t *testing.T) {
			if m.Verify(test.keyID, test.data, test.sum) {
				t.Error("verifies")
			}
		})
	}
	v := root.versions[0]
	if bytes.Equal(root.derive(v, "mac", "p"), root.derive(v, "box", "p")) {
		t.Error("a box and a MAC of one purpose share a key")
	}
}

func TestRootIsNotPrinted(t *testing.T) {
	root := mustRoot(t, newMemory(), mustKEK(t, GenerateKEK()), "as:a")
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		secret := root.versions[0].secret
		text := fmt.Sprintf(format, root)
		if strings.Contains(text, string(secret)) || strings.Contains(text, fmt.Sprint(secret[0], " ", secret[1])) || !strings.Contains(text, "root secret of as:a") {
			t.Errorf("%s gives %s", format, text)
		}
	}
}

func TestBoxAndMACAreConcurrent(t *testing.T) {
	root := mustRoot(t, newMemory(), mustKEK(t, GenerateKEK()), "as:a")
	box, mac := root.Box("p"), root.MAC("p")
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 200 {
				data := fmt.Appendf(nil, "%d %d", i, j)
				if got, err := box.Open(box.Seal(data, data), data); err != nil || !bytes.Equal(got, data) {
					t.Errorf("Open = %q, %v", got, err)
				}
				if !mac.Verify("1", data, mac.Sum(data)) {
					t.Errorf("MAC of %q does not verify", data)
				}
			}
		})
	}
	group.Wait()
}

func FuzzBoxOpen(f *testing.F) {
	root := mustRoot(f, newMemory(), mustKEK(f, GenerateKEK()), "as:a")
	box := root.Box("p")
	sealed := box.Seal([]byte("claims"), []byte("aad"))
	for _, seed := range []string{sealed, "", "1.", ".", "1.AAAA", sealed[:40], sealed + "\n", "2" + sealed[1:]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := box.Open(s, []byte("aad")); (err == nil) != (s == sealed) || err != nil && (!errors.Is(err, ErrSealed) || got != nil) {
			t.Errorf("Open(%q) = %q, %v", s, got, err)
		}
	})
}

func BenchmarkBoxOpen(b *testing.B) {
	box := mustRoot(b, newMemory(), mustKEK(b, GenerateKEK()), "as:a").Box("p")
	sealed, aad := box.Seal(make([]byte, 400), []byte("aad")), []byte("aad")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := box.Open(sealed, aad); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMACVerify(b *testing.B) {
	mac := mustRoot(b, newMemory(), mustKEK(b, GenerateKEK()), "as:a").MAC("p")
	data := make([]byte, 80)
	sum := mac.Sum(data)
	b.ReportAllocs()
	for b.Loop() {
		if !mac.Verify("1", data, sum) {
			b.Fatal("does not verify")
		}
	}
}
