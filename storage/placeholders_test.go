//go:build unix

package storage

import (
	"fmt"
	"testing"
)

func TestPlaceholdersAreNumbered(t *testing.T) {
	var known told
	for statement, want := range map[string]string{
		"":                                "",
		"SELECT 1":                        "SELECT 1",
		"?":                               "$1",
		"a = ? AND b = ?":                 "a = $1 AND b = $2",
		"(?, ?, ?), (?)":                  "($1, $2, $3), ($4)",
		"a = ?::text OR ? = b":            "a = $1::text OR $2 = b",
		"?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?": "$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11",
	} {
		for range 2 {
			if got := known.numbered(statement); got != want {
				t.Errorf("%q: %q, want %q", statement, got, want)
			}
		}
	}
}

// Statements that strangers shape are not kept without bound.
func TestKeptStatementsAreBounded(t *testing.T) {
	var known told
	for i := range 3 * maxTexts {
		if got, want := known.numbered(fmt.Sprintf("SELECT %d, ?", i)), fmt.Sprintf("SELECT %d, $1", i); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
	n := 0
	known.known.Range(func(any, any) bool { n++; return true })
	if n != maxTexts {
		t.Errorf("%d statements are kept, want %d", n, maxTexts)
	}
}
