//go:build unix

// Package pgtest starts throw-away PostgreSQL servers for tests, from the
// binaries installed on the machine.
//
// A package whose tests need a database takes a fresh one from the server that
// all tests of the process share, and stops that server in TestMain:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		url := pgtest.Shared(t).NewDatabase(t)
//		…
//	}
//
// A test that stops its server, or needs settings of its own, calls Start.
//
// A server listens on a Unix socket in a folder that only its own user may
// enter, because whoever reaches a PostgreSQL superuser may run programs as the
// server's user; a loopback port (Options.TCP) is guarded by a random password.
// Everything lives in one folder below /tmp for each test process. A guard
// process stops the servers and removes the folder when the test process ends,
// however it ends: killed, timed out or interrupted.
//
// The package never skips a test. Where PostgreSQL is missing, tests fail with
// the line that installs it.
package pgtest
