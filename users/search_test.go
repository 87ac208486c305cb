package users_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"gatehouse.dev/gatehouse/users"
)

func TestSearchKeyFoldsWhatIsTheSameToPeople(t *testing.T) {
	for _, same := range [][]string{
		{"özlem öztürk", "Özlem Öztürk", "ÖZLEM ÖZTÜRK", "O\u0308zlem O\u0308ztu\u0308rk"},
		{"émile", "Émile", "E\u0301MILE"},
		{"strasse", "Straße", "STRASSE", "STRAẞE"},
		{"ab@bücher.example", "ＡＢ@Bücher.example", "ab@BU\u0308CHER.EXAMPLE"},
		{"σοφοσ", "σοφος", "ΣΟΦΟΣ"},
		{"", ""},
	} {
		for _, text := range same {
			if got := users.SearchKey(text); got != same[0] {
				t.Errorf("%q became %q, want %q", text, got, same[0])
			}
		}
	}
	for _, other := range []string{"ozlem", "oezlem", "öezlem"} {
		if users.SearchKey(other) == users.SearchKey("Özlem") {
			t.Errorf("%q is taken for Özlem", other)
		}
	}
}

func TestSearchKeyIsBounded(t *testing.T) {
	for _, letter := range []string{"a", "ü", "\ufdfa", "😀", "u\u0308"} {
		for _, n := range []int{100, 511, 512, 513, 5000} {
			key := users.SearchKey("x" + strings.Repeat(letter, n))
			if len(key) > 512 || !utf8.ValidString(key) || !strings.HasPrefix(key, "x") {
				t.Errorf("%d times %q: a key of %d bytes", n, letter, len(key))
			}
		}
	}
}
