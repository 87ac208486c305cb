//go:build unix

package pgtest

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

// process is what the tests of one process have in common. A test process is
// made of functions that only meet in package variables, so this is one.
var process struct {
	mu     sync.Mutex
	home   *home
	broken error // why there is no home; the next test gets the same answer
	shared *Server
	users  map[string]bool // names of the tests that took part

	databases atomic.Int64
}

// usesFile is the environment variable that may name a file to which Run
// appends "postgresql N", N being Uses, for a report over all packages.
const usesFile = "GATEHOUSE_TEST_USES"

func theHome() (*home, error) {
	process.mu.Lock()
	defer process.mu.Unlock()
	if process.home == nil && process.broken == nil {
		process.home, process.broken = newHome()
	}
	return process.home, process.broken
}

func count(t testing.TB) {
	process.mu.Lock()
	defer process.mu.Unlock()
	if process.users == nil {
		process.users = make(map[string]bool)
	}
	process.users[t.Name()] = true
}

func nextDatabase() int64 { return process.databases.Add(1) }

// Uses returns how many tests (subtests and benchmarks count by their own names)
// have used a server of this process so far.
func Uses() int {
	process.mu.Lock()
	defer process.mu.Unlock()
	return len(process.users)
}

// Shared returns the server that all tests of the process share: 300
// connections, not durable, on a Unix socket. The first call starts it. Tests
// must not stop it, and keep to databases from NewDatabase.
func Shared(t testing.TB) *Server {
	t.Helper()
	count(t)
	h, err := theHome()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	process.mu.Lock()
	defer process.mu.Unlock()
	if process.shared == nil {
		s, err := start(h, Options{MaxConnections: 300})
		if err != nil {
			process.broken = err
			t.Fatalf("pgtest: %v", err)
		}
		process.shared = s
	}
	return process.shared
}

// Main is the whole body of a TestMain: it runs the tests, stops the servers and
// exits.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main for a TestMain with more to do: it runs the tests, stops the
// servers, prints in how many tests PostgreSQL took part, and returns the exit
// code. Where the environment variable GATEHOUSE_TEST_USES names a file, it
// appends the line "postgresql N" to it.
func Run(m *testing.M) int {
	code := m.Run()
	if err := finish(); err != nil {
		fmt.Fprintf(os.Stderr, "pgtest: %v\n", err)
		code = max(code, 1)
	}
	return code
}

func finish() error {
	n := Uses()
	if n == 0 {
		return nil
	}
	fmt.Printf("PostgreSQL took part in %d tests\n", n)
	err := report(os.Getenv(usesFile), n)

	process.mu.Lock()
	defer process.mu.Unlock()
	if process.shared != nil {
		err = errors.Join(err, process.shared.Stop(true))
		process.shared = nil
	}
	if process.home != nil {
		err = errors.Join(err, process.home.close())
		process.home = nil
	}
	return err
}

// report appends one line to the file of uses; an empty name means none is
// wanted. Packages run side by side, so the line goes out in one write.
func report(name string, n int) (err error) {
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("reporting the uses of PostgreSQL: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := fmt.Fprintf(f, "postgresql %d\n", n); err != nil {
		return fmt.Errorf("reporting the uses of PostgreSQL: %w", err)
	}
	return nil
}
