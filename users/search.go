package users

import (
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// maxSearchKey bounds a search key, which an index holds, in bytes.
const maxSearchKey = 512

// SearchKey is the form of a display name or email address in which it is
// searched: compatibility forms, however a letter is composed, and cases are one
// (Unicode NFKC and case folding). Accents tell letters apart. A text that begins
// with another has a key that begins with the other's, but for a last letter to
// which a mark is added. A key has at most 512 bytes; what is longer is cut.
func SearchKey(text string) string {
	// Folding may leave what composes anew.
	key := norm.NFKC.String(cases.Fold().String(norm.NFKC.String(text)))
	if len(key) <= maxSearchKey {
		return key
	}
	cut := maxSearchKey
	for !utf8.RuneStart(key[cut]) {
		cut--
	}
	return key[:cut]
}
