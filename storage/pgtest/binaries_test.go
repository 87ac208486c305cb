//go:build unix

package pgtest

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// installation makes a folder bin below root/name with the given programs.
func installation(t *testing.T, root, name string, programs ...string) string {
	t.Helper()
	bin := filepath.Join(root, name, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		if err := os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

func TestFindBinariesTakesTheNewestCompleteInstallation(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	root := t.TempDir()
	installation(t, root, "9.6", needed...)
	want := installation(t, root, "15", needed...)
	installation(t, root, "17", "psql")               // the client alone
	installation(t, root, "18", "initdb", "postgres") // no pg_ctl
	got, err := findBinaries([]string{filepath.Join(root, "none*", "bin"), filepath.Join(root, "*", "bin")})
	if err != nil || got != want {
		t.Errorf("found %q, %v, want %q", got, err, want)
	}
}

func TestFindBinariesPrefersPath(t *testing.T) {
	root := t.TempDir()
	want := installation(t, root, "16", needed...)
	installation(t, root, "17", needed...)
	links := t.TempDir()
	if err := os.Symlink(filepath.Join(want, "initdb"), filepath.Join(links, "initdb")); err != nil {
		t.Fatal(err)
	}
	want, err := filepath.EvalSymlinks(want) // macOS: /var is a link
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", links)
	got, err := findBinaries([]string{filepath.Join(root, "*", "bin")})
	if err != nil || got != want {
		t.Errorf("found %q, %v, want %q", got, err, want)
	}
}

func TestMissingBinariesErrorSaysHowToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	root := t.TempDir()
	installation(t, root, "17", "psql")
	bin := installation(t, root, "16", needed...)
	if err := os.Chmod(filepath.Join(bin, "postgres"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := findBinaries([]string{filepath.Join(root, "*", "bin")})
	if err == nil || !strings.Contains(err.Error(), installLine(runtime.GOOS)) {
		t.Errorf("the error is %v, want one with %q", err, installLine(runtime.GOOS))
	}
}

func TestInstallLine(t *testing.T) {
	for goos, want := range map[string]string{
		"linux": "sudo apt-get install postgresql", "darwin": "brew install postgresql@17",
	} {
		if got := installLine(goos); got != want {
			t.Errorf("on %s: %q, want %q", goos, got, want)
		}
	}
}

func TestMajorVersion(t *testing.T) {
	for bin, want := range map[string]int{
		"/usr/lib/postgresql/15/bin":              15,
		"/usr/lib/postgresql/9.6/bin":             9,
		"/usr/pgsql-16/bin":                       16,
		"/opt/homebrew/opt/postgresql@17/bin":     17,
		"/opt/homebrew/opt/postgresql/bin":        0,
		"/usr/lib/postgresql/seventeen/bin":       0,
		"/usr/lib/postgresql/17-alpha/bin":        0,
		"/usr/local/opt/postgresql@18.1_beta/bin": 18,
	} {
		if got := majorVersion(bin); got != want {
			t.Errorf("%s: %d, want %d", bin, got, want)
		}
	}
}

func TestOnlyRootChangesAccount(t *testing.T) {
	account, err := unprivileged(1000)
	if err != nil || account != nil {
		t.Errorf("for an ordinary user: %v, %v, want the user's own", account, err)
	}
	account, err = unprivileged(0)
	if err != nil {
		t.Fatal(err)
	}
	if account == nil || account.Uid == 0 || account.Gid == 0 {
		t.Errorf("for root: %+v, want an unprivileged account", account)
	}
}
