//go:build linux

package bench

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// background are parts of the statements that no request runs.
var background = []string{"WITH v (authorization_server, id, at)", "FROM signing_keys", "FROM roots", "check_at <=", "DELETE FROM",
	"AS waiting", "d.state <> 'waiting'", "pg_stat_statements", "pg_database", "clock_timestamp"}

// The node looks for deliveries about once a second, in a transaction that
// begins with a setting and ends after a claim.
const (
	claimSetting = "SELECT set_config("
	claimPart    = "UPDATE deliveries SET attempts = deliveries.attempts"
)

// withoutClaims takes the claims of deliveries, with what opens and closes their
// transactions, out of counted statements.
func withoutClaims(found map[string]int) {
	for part, word := range map[string]string{claimSetting: "begin", claimPart: "commit"} {
		n := 0
		for statement, calls := range found {
			if strings.Contains(statement, part) {
				n += calls
				delete(found, statement)
			}
		}
		for statement := range found {
			if strings.HasPrefix(strings.ToLower(statement), word) {
				if found[statement] -= n; found[statement] <= 0 {
					delete(found, statement)
				}
			}
		}
	}
}

// statements are what the database was sent since the last call, and how often,
// without what runs in the background.
func (h *house) statements() map[string]int {
	h.t.Helper()
	ctx := context.WithoutCancel(h.t.Context())
	rows, err := h.db.Query(ctx, `SELECT s.query, s.calls FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = current_database()`)
	if err != nil {
		h.t.Fatal(err)
	}
	found := map[string]int{}
	var text string
	var calls int
	if _, err := pgx.ForEachRow(rows, []any{&text, &calls}, func() error {
		if !slices.ContainsFunc(background, func(part string) bool { return strings.Contains(text, part) }) {
			found[strings.Join(strings.Fields(text), " ")] += calls
		}
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
	withoutClaims(found)
	h.exec(`SELECT pg_stat_statements_reset()`)
	return found
}

// difference tells of two readings what one has more of than the other.
func difference(product, floor map[string]int) string {
	var b strings.Builder
	names := slices.Concat(slices.Collect(maps.Keys(product)), slices.Collect(maps.Keys(floor)))
	slices.Sort(names)
	for _, statement := range slices.Compact(names) {
		if product[statement] != floor[statement] {
			fmt.Fprintf(&b, "  product %d, floor %d times: %s\n", product[statement], floor[statement], statement)
		}
	}
	return b.String()
}

func TestClaimsAreNoStatementsOfRequests(t *testing.T) {
	found := map[string]int{"begin": 5, "commit": 4, claimSetting + "$1, $2, TRUE)": 3, "WITH x " + claimPart + " + 1": 3, "UPDATE grants": 2}
	withoutClaims(found)
	if !maps.Equal(found, map[string]int{"begin": 2, "commit": 1, "UPDATE grants": 2}) {
		t.Errorf("what is left is %v", found)
	}
	found = map[string]int{"begin": 1, "commit": 1, claimSetting + "$1, $2, TRUE)": 1, claimPart: 1}
	if withoutClaims(found); len(found) > 0 {
		t.Errorf("what is left is %v", found)
	}
}

func TestDifferenceOfStatements(t *testing.T) {
	product := map[string]int{"SELECT a": 1, "UPDATE b": 2}
	if d := difference(product, maps.Clone(product)); d != "" {
		t.Errorf("the same differ: %s", d)
	}
	for want, floor := range map[string]map[string]int{
		"product 2, floor 0 times: UPDATE b": {"SELECT a": 1},
		"product 0, floor 1 times: SELECT c": {"SELECT a": 1, "UPDATE b": 2, "SELECT c": 1},
		"product 2, floor 1 times: UPDATE b": {"SELECT a": 1, "UPDATE b": 1},
		"product 1, floor 0 times: SELECT a": nil,
	} {
		if d := difference(product, floor); !strings.Contains(d, want) {
			t.Errorf("%v and %v: %q, want %q", product, floor, d, want)
		}
	}
}
