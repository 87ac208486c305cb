package configs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing wrong with a configuration file. Its message never
// repeats a value of the file, of the environment or of a file referred to,
// since any of them may be a secret.
type Fault struct {
	File    string // as given to Load or Parse
	Path    string // such as authorization_servers.myAS.clients[0].client_id; empty: the file as a whole
	Line    int    // from 1
	Column  int    // from 1, in characters
	Message string
}

// Error is the fault in one line: file:line:column: path: message.
func (f Fault) Error() string {
	path := ""
	if f.Path != "" {
		path = f.Path + ": "
	}
	return fmt.Sprintf("%s:%d:%d: %s%s", f.File, f.Line, f.Column, path, f.Message)
}

// Faults is all that is wrong with a configuration file, in the order of the
// file. It is the error of Load and Parse.
type Faults []Fault

// Error has one line for each fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

func (f Faults) sort() {
	slices.SortStableFunc(f, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// suggest is a "did you mean" for a name that is not among known, empty if
// none is close.
func suggest(name string, known []string) string {
	best, distance := "", min(3, len(name)/2+1)
	for _, candidate := range known {
		if d := editDistance(strings.ToLower(name), candidate); d < distance {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %s?", best)
}

// editDistance counts the insertions, deletions, substitutions and swaps of
// neighbours that make b of a (optimal string alignment).
func editDistance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			change := 1
			if a[i] == b[j] {
				change = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+change)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
