package storage

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// maxTexts bounds how many statements are kept. This package has about a
// hundred; filters that people write make more.
const maxTexts = 1000

// told are the statements that a database is told: those of PostgreSQL with its
// placeholders, by their text with question marks. The zero value is ready; it
// is safe for concurrent use.
type told struct {
	known sync.Map
	count atomic.Int64
	watch func(statement string, args []any) // of tests; nil: nobody watches
}

// tell says to whoever watches that a statement, which gorm doesn't write, is
// going to be run. A nil told has nobody.
func (t *told) tell(statement string, args []any) {
	if t != nil && t.watch != nil {
		t.watch(statement, args)
	}
}

// numbered replaces each question mark by $1, $2 and so on.
func (t *told) numbered(statement string) string {
	if known, ok := t.known.Load(statement); ok {
		return known.(string)
	}
	var out strings.Builder
	n := 0
	for part := range strings.SplitAfterSeq(statement, "?") {
		text, placeholder := strings.CutSuffix(part, "?")
		out.WriteString(text)
		if placeholder {
			n++
			out.WriteString("$" + strconv.Itoa(n))
		}
	}
	if t.count.Add(1) <= maxTexts {
		t.known.Store(statement, out.String())
	}
	return out.String()
}
