//go:build unix

package pgtest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// A home is the folder of one test process: the template that its servers are
// copied from, and a numbered folder for each server.
type home struct {
	dir      string // absolute, short enough for a Unix socket's path below it
	bin      string // the folder of the server binaries
	password string // of the superuser, asked for on loopback ports only
	account  *syscall.Credential

	guard      *exec.Cmd
	guardStdin io.WriteCloser // held open: the guard acts when it closes

	mu      sync.Mutex
	servers int
}

// guardScript waits for the end of its input, which is the end of the test
// process or of its use of the home, then stops what still runs and removes the
// home. $1 is the home, $2 is pg_ctl.
const guardScript = `
read -r line
for pidfile in "$1"/*/data/postmaster.pid; do
	[ -e "$pidfile" ] && "$2" stop -s -m immediate -t 20 -D "${pidfile%/postmaster.pid}"
done
cd / && rm -rf "$1"
`

// newHome makes the folder, starts its guard and runs initdb.
func newHome() (_ *home, err error) {
	bin, err := findBinaries(installations)
	if err != nil {
		return nil, err
	}
	account, err := unprivileged(os.Geteuid())
	if err != nil {
		return nil, err
	}
	// Not os.TempDir: TMPDIR may be closed to the server's user, or too long for
	// a Unix socket's path (103 bytes on macOS).
	dir, err := os.MkdirTemp("/tmp", "gatehouse-pg-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for PostgreSQL: %w", err)
	}
	h := &home{dir: dir, bin: bin, password: rand.Text(), account: account}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	if account != nil {
		if err := os.Chown(dir, int(account.Uid), int(account.Gid)); err != nil {
			return nil, fmt.Errorf("giving %s to the server's user: %w", dir, err)
		}
	}
	if err := h.startGuard(); err != nil {
		return nil, err
	}
	if err := h.initTemplate(); err != nil {
		return nil, err
	}
	return h, nil
}

// unprivileged returns the account that servers run under: nil, meaning the
// caller's own, unless the caller is root, as which PostgreSQL refuses to run.
func unprivileged(euid int) (*syscall.Credential, error) {
	if euid != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseInt(u.Uid, 10, 64)
		if err != nil || uid <= 0 || uid > 1<<32-2 {
			continue // macOS: nobody is -2
		}
		gid, err := strconv.ParseInt(u.Gid, 10, 64)
		if err != nil || gid <= 0 || gid > 1<<32-2 {
			continue
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")
}

// command prepares a program to run as the servers' user, in the home, apart
// from the terminal (so that Ctrl-C reaches the test process only) and from
// PostgreSQL settings in the environment.
func (h *home) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = h.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.dir, "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: h.account}
	return cmd
}

func (h *home) startGuard() error {
	guard := h.command("/bin/sh", "-c", guardScript, "pgtest-guard", h.dir, filepath.Join(h.bin, "pg_ctl"))
	stdin, err := guard.StdinPipe()
	if err != nil {
		return fmt.Errorf("starting the guard: %w", err)
	}
	if err := guard.Start(); err != nil {
		return fmt.Errorf("starting the guard: %w", err)
	}
	h.guard, h.guardStdin = guard, stdin
	return nil
}

// initTemplate runs initdb once; servers start from copies of its result, which
// take a tenth of the time.
func (h *home) initTemplate() error {
	pwfile := filepath.Join(h.dir, "password")
	if err := os.WriteFile(pwfile, []byte(h.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("writing the superuser's password: %w", err)
	}
	if h.account != nil {
		if err := os.Chown(pwfile, int(h.account.Uid), int(h.account.Gid)); err != nil {
			return fmt.Errorf("giving %s to the server's user: %w", pwfile, err)
		}
	}
	return run(h.command(filepath.Join(h.bin, "initdb"),
		"--pgdata="+h.template(), "--username="+superuser, "--pwfile="+pwfile,
		"--auth-local=trust", "--auth-host=scram-sha-256",
		"--encoding=UTF8", "--locale=C", "--no-sync"))
}

func (h *home) template() string { return filepath.Join(h.dir, "template") }

// newFolder makes the folder of another server, with its data ready to start
// from, and returns its path.
func (h *home) newFolder() (string, error) {
	h.mu.Lock()
	h.servers++
	dir := filepath.Join(h.dir, strconv.Itoa(h.servers))
	h.mu.Unlock()
	if err := run(h.command("mkdir", "-m", "700", dir)); err != nil {
		return "", err
	}
	if err := run(h.command("cp", "-Rp", h.template(), filepath.Join(dir, "data"))); err != nil {
		return "", err
	}
	return dir, nil
}

// close has the guard stop what still runs and remove the folder, and waits for
// it.
func (h *home) close() error {
	if h.guard == nil {
		return os.RemoveAll(h.dir)
	}
	closed := h.guardStdin.Close()
	// The script's status is that of rm.
	return errors.Join(closed, h.guard.Wait())
}

// run runs cmd to its end; the error has what it printed.
func run(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("running %s: %w\n%s", cmd.Path, err, strings.TrimSpace(string(out)))
	}
	return nil
}
