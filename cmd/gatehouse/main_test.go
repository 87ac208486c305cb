//go:build unix

package main

import (
	"bytes"
	"os"
	"testing"

	"gatehouse.dev/gatehouse/storage/pgtest"
)

func TestMain(m *testing.M) {
	code := pgtest.Run(m)
	binary.remove()
	os.Exit(code)
}

// command runs the program in this process and returns its exit code and what
// it wrote.
func command(t testing.TB, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, streams{in: bytes.NewBufferString(stdin), out: &out, err: &errs})
	return code, out.String(), errs.String()
}
