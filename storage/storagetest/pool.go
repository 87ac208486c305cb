package storagetest

import (
	"os"
	"strconv"
	"testing"
)

// PoolVariable names the environment variable that says how many connections
// the databases of handler and end-to-end tests may open. `make test-long` runs
// those tests with one: whoever waits for a second connection while he holds
// the first then waits for himself, and the test fails.
const PoolVariable = "GATEHOUSE_TEST_POOL"

// Connections is the size of a test's database pool, as storage.Config has it:
// that of PoolVariable, or 0, the default, where it is not set.
func Connections(t testing.TB) int {
	t.Helper()
	value := os.Getenv(PoolVariable)
	if value == "" {
		return 0
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q, want a number of connections", PoolVariable, value)
	}
	return n
}
