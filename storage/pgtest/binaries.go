//go:build unix

package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// needed are the programs of a PostgreSQL installation that the package runs.
// A machine with PostgreSQL's client alone has a folder without them.
var needed = []string{"initdb", "postgres", "pg_ctl"}

// installations are the patterns of the folders where packages put server
// binaries outside PATH: Debian and Ubuntu, Red Hat and Fedora, Homebrew on
// Apple silicon and on Intel. Within one pattern the newest version wins.
var installations = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql@*/bin",
}

// findBinaries returns the folder of the server binaries: the one on PATH, or
// else the newest of the first of the patterns that matches one. The error says
// how to install them.
func findBinaries(patterns []string) (string, error) {
	if initdb, err := exec.LookPath("initdb"); err == nil {
		// A link on PATH (Homebrew) may have been made for initdb alone.
		if resolved, err := filepath.EvalSymlinks(initdb); err == nil {
			initdb = resolved
		}
		if dir := filepath.Dir(initdb); complete(dir) {
			return dir, nil
		}
	}
	for _, pattern := range patterns {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("looking for PostgreSQL in %s: %w", pattern, err)
		}
		newest, best := "", -1
		for _, dir := range dirs {
			if v := majorVersion(dir); v > best && complete(dir) {
				newest, best = dir, v
			}
		}
		if newest != "" {
			return newest, nil
		}
	}
	return "", errors.New("PostgreSQL's server binaries are not installed; install them with: " + installLine(runtime.GOOS))
}

// complete reports whether dir holds every program of needed.
func complete(dir string) bool {
	for _, name := range needed {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode().Perm()&0o111 == 0 {
			return false
		}
	}
	return true
}

// majorVersion returns the version in the name of an installation's folder,
// 15 for /usr/lib/postgresql/15/bin, or 0 where it has none.
func majorVersion(bin string) int {
	name := filepath.Base(filepath.Dir(bin))
	digits := strings.TrimLeft(name, "abcdefghijklmnopqrstuvwxyz-@")
	digits, _, _ = strings.Cut(digits, ".")
	v, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return v
}

// installLine is the command that installs PostgreSQL on a system of the given
// runtime.GOOS.
func installLine(goos string) string {
	if goos == "darwin" {
		return "brew install postgresql@17"
	}
	return "sudo apt-get install postgresql"
}
