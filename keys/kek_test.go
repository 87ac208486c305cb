package keys

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestNewKEK(t *testing.T) {
	secret := bytes.Repeat([]byte{0xfb, 0xff}, 16) // has "+", "/", "-", "_" in its text forms
	std := base64.StdEncoding.EncodeToString(secret)
	for _, test := range []struct {
		name, key string
		ok        bool
	}{
		{"standard", std, true},
		{"standard without padding", strings.TrimRight(std, "="), true},
		{"URL-safe", base64.URLEncoding.EncodeToString(secret), true},
		{"URL-safe without padding", base64.RawURLEncoding.EncodeToString(secret), true},
		{"as a file ends", std + "\r\n", true},
		{"empty", "", false},
		{"blank", "  \n", false},
		{"31 bytes", base64.StdEncoding.EncodeToString(secret[:31]), false},
		{"33 bytes", base64.StdEncoding.EncodeToString(append([]byte{1}, secret...)), false},
		{"16 bytes", base64.StdEncoding.EncodeToString(secret[:16]), false},
		{"hexadecimal", hex.EncodeToString(secret), false},
		{"not base64", strings.Repeat("!", 44), false},
		{"too much padding", std + "=", false},
		{"stray last bits", strings.TrimRight(std, "=")[:42] + "9", false},
		{"line break inside", std[:20] + "\n" + std[21:], false},
		{"reference not replaced", "${GATEHOUSE_KEY}", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			k, err := NewKEK(test.key)
			if (err == nil) != test.ok {
				t.Fatalf("NewKEK: %v, want ok %t", err, test.ok)
			}
			if _, err := NewKEK(std, test.key); (err == nil) != test.ok {
				t.Errorf("NewKEK with it as previous: %v, want ok %t", err, test.ok)
			}
			if err != nil {
				if len(test.key) > 8 && strings.Contains(err.Error(), test.key[:8]) {
					t.Errorf("error %q quotes the key", err)
				}
				return
			}
			if got, err := mustKEK(t, std).Open(k.Seal([]byte("x"), "a"), "a"); err != nil || string(got) != "x" {
				t.Errorf("the same key in another spelling does not open: %v", err)
			}
		})
	}
}

func TestKEKOpenRefuses(t *testing.T) {
	key := GenerateKEK()
	k, stranger := mustKEK(t, key), mustKEK(t, GenerateKEK())
	sealed := k.Seal([]byte("secret"), "aad")
	if got, err := k.Open(sealed, "aad"); err != nil || string(got) != "secret" {
		t.Fatalf("Open = %q, %v", got, err)
	}
	id, body, _ := strings.Cut(sealed, ".")
	foreignID, _, _ := strings.Cut(stranger.Seal(nil, ""), ".")
	for name, test := range map[string]struct{ sealed, aad string }{
		"other aad":          {sealed, "aae"},
		"no aad":             {sealed, ""},
		"empty":              {"", "aad"},
		"no body":            {id + ".", "aad"},
		"no id":              {"." + body, "aad"},
		"no separator":       {id + body, "aad"},
		"unknown key":        {foreignID + "." + body, "aad"},
		"cut":                {sealed[:len(sealed)-4], "aad"},
		"longer":             {sealed + "AAAA", "aad"},
		"line break":         {sealed + "\n", "aad"},
		"altered ciphertext": {flip(sealed, len(sealed)-8), "aad"},
		"altered nonce":      {flip(sealed, len(id)+3), "aad"},
		"only a nonce":       {id + "." + body[:32], "aad"},
		"oversized":          {sealed + strings.Repeat("A", maxSealed), "aad"},
		"under another key":  {id + "." + strings.SplitN(stranger.Seal([]byte("secret"), "aad"), ".", 2)[1], "aad"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := k.Open(test.sealed, test.aad); !errors.Is(err, ErrSealed) || got != nil {
				t.Errorf("Open = %q, %v, want ErrSealed", got, err)
			}
		})
	}
	if _, err := stranger.Open(sealed, "aad"); !errors.Is(err, ErrKeyUnknown) || !errors.Is(err, ErrSealed) {
		t.Errorf("Open under a key that is not configured: %v, want ErrSealed and ErrKeyUnknown", err)
	}
	if text := fmt.Sprintf("%v %+v %s", k, k, k); strings.Contains(text, key) || strings.Contains(text, "[") {
		t.Errorf("printing the KEK gives %q", text)
	}
}

func TestPreviousKEKOpensAndCurrentSeals(t *testing.T) {
	older, old, current := GenerateKEK(), GenerateKEK(), GenerateKEK()
	before := mustKEK(t, old, older)
	sealed := before.Seal([]byte("secret"), "aad")
	if !before.Current(sealed) {
		t.Error("Current is false for what was just sealed")
	}
	k := mustKEK(t, current, old, older)
	if got, err := k.Open(sealed, "aad"); err != nil || string(got) != "secret" {
		t.Fatalf("Open under the previous key = %q, %v", got, err)
	}
	if k.Current(sealed) {
		t.Error("Current is true for a value under the previous key")
	}
	if _, err := mustKEK(t, old).Open(k.Seal([]byte("secret"), "aad"), "aad"); !errors.Is(err, ErrKeyUnknown) {
		t.Errorf("sealed under a previous key: %v", err)
	}
	for _, garbage := range []string{"", ".", "x", "x.y"} {
		if k.Current(garbage) {
			t.Errorf("Current(%q) is true", garbage)
		}
	}
}

// flip changes the character at i into another of the base64url alphabet.
func flip(s string, i int) string {
	c := byte('A')
	if s[i] == c {
		c = 'B'
	}
	return s[:i] + string(c) + s[i+1:]
}
