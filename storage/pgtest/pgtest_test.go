//go:build unix

package pgtest

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { Main(m) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	// The test's own context has ended when cleanups run.
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func query(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	var value string
	if err := conn.QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func execute(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestSharedIsOneServer(t *testing.T) {
	if a, b := Shared(t), Shared(t); a != b {
		t.Errorf("two calls gave servers in %s and %s", a.dir, b.dir)
	}
}

func TestNewDatabasesAreFreshAndApart(t *testing.T) {
	s := Shared(t)
	var urls []string
	for range 2 {
		url := s.NewDatabase(t)
		conn := connect(t, url)
		if got := query(t, conn, "SELECT count(*)::text FROM pg_tables WHERE schemaname = 'public'"); got != "0" {
			t.Errorf("a new database has %s tables", got)
		}
		execute(t, conn, "CREATE TABLE mine (n int)")
		settings := query(t, conn, `SELECT pg_encoding_to_char(encoding) || ' ' || datcollate || ' ' || datctype
			FROM pg_database WHERE datname = current_database()`)
		if settings != "UTF8 C C" {
			t.Errorf("encoding, collation and character type are %q, want UTF8 C C", settings)
		}
		urls = append(urls, url)
	}
	if urls[0] == urls[1] {
		t.Errorf("both databases have the URL %s", urls[0])
	}
}

func TestNewDatabaseIsDroppedThoughConnected(t *testing.T) {
	var conn *pgx.Conn
	t.Run("user", func(inner *testing.T) {
		conn = connect(t, Shared(inner).NewDatabase(inner)) // closed by the outer test
	})
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the connection to the dropped database still works")
	}
	name := conn.Config().Database
	admin := connect(t, Shared(t).URL("postgres"))
	if got := query(t, admin, "SELECT count(*)::text FROM pg_database WHERE datname = '"+name+"'"); got != "0" {
		t.Errorf("%s is still there", name)
	}
}

func TestParallelTestsShareTheServer(t *testing.T) {
	for i := range 8 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			conn := connect(t, Shared(t).NewDatabase(t))
			execute(t, conn, "CREATE TABLE mine (n int)")
			execute(t, conn, "INSERT INTO mine VALUES ("+strconv.Itoa(i)+")")
			if got := query(t, conn, "SELECT string_agg(n::text, ',') FROM mine"); got != strconv.Itoa(i) {
				t.Errorf("the table holds %s, want %d alone", got, i)
			}
		})
	}
}

func TestOptionsReachTheServer(t *testing.T) {
	tests := []struct {
		name string
		opts Options
		want map[string]string
	}{
		{"defaults", Options{}, map[string]string{
			"max_connections": "100", "fsync": "off", "full_page_writes": "off", "synchronous_commit": "on",
			"listen_addresses": "", "shared_preload_libraries": "",
		}},
		{"all set", Options{MaxConnections: 23, Durable: true, TCP: true, Settings: map[string]string{"work_mem": "5MB"}}, map[string]string{
			"max_connections": "23", "fsync": "on", "full_page_writes": "on",
			"listen_addresses": "127.0.0.1", "work_mem": "5MB",
		}},
		{"settings win", Options{MaxConnections: 23, Settings: map[string]string{"max_connections": "24"}}, map[string]string{
			"max_connections": "24",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, Start(t, test.opts).URL("postgres"))
			for name, want := range test.want {
				if got := query(t, conn, "SELECT current_setting('"+name+"')"); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestPreloadedLibraryWorks(t *testing.T) {
	s := Start(t, Options{Preload: []string{"pg_stat_statements"}})
	conn := connect(t, s.NewDatabase(t))
	execute(t, conn, "CREATE EXTENSION pg_stat_statements")
	execute(t, conn, "CREATE TABLE counted (n int)")
	if got := query(t, conn, "SELECT sum(calls)::text FROM pg_stat_statements WHERE query LIKE 'CREATE TABLE counted%'"); got != "1" {
		t.Errorf("the statement was counted %s times, want once", got)
	}
}

func TestRestartKeepsAddressAndCommits(t *testing.T) {
	for name, opts := range map[string]Options{"socket": {}, "port": {TCP: true}} {
		for _, immediate := range []bool{false, true} {
			t.Run(name+" immediate="+strconv.FormatBool(immediate), func(t *testing.T) {
				t.Parallel()
				s := Start(t, opts)
				url := s.NewDatabase(t)
				before := connect(t, url)
				execute(t, before, "CREATE TABLE kept AS SELECT 'yes' AS answer")

				if err := s.Stop(immediate); err != nil {
					t.Fatal(err)
				}
				if conn, err := pgx.Connect(t.Context(), url); err == nil {
					_ = conn.Close(t.Context())
					t.Fatal("a stopped server took a connection")
				}
				if err := before.Ping(t.Context()); err == nil {
					t.Error("a connection outlived its server")
				}
				if err := s.Stop(immediate); err != nil {
					t.Errorf("stopping a stopped server: %v", err)
				}

				if err := s.Restart(); err != nil {
					t.Fatal(err)
				}
				if got := query(t, connect(t, url), "SELECT answer FROM kept"); got != "yes" {
					t.Errorf("after the restart the answer is %q", got)
				}
			})
		}
	}
}

func TestRestartOfRunningServerIsANewProcess(t *testing.T) {
	s := Start(t, Options{})
	started := func() string {
		return query(t, connect(t, s.URL("postgres")), "SELECT pg_postmaster_start_time()::text")
	}
	before := started()
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if after := started(); after == before {
		t.Errorf("the server that started at %s still runs", before)
	}
}

func TestPortAsksForThePassword(t *testing.T) {
	s := Start(t, Options{TCP: true})
	good, err := url.Parse(s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	for name, user := range map[string]*url.Userinfo{
		"none": url.User(superuser), "wrong": url.UserPassword(superuser, "guess"), "other user": url.UserPassword("nobody", s.home.password),
	} {
		t.Run(name, func(t *testing.T) {
			bad := *good
			bad.User = user
			conn, err := pgx.Connect(t.Context(), bad.String())
			if err == nil {
				_ = conn.Close(t.Context())
				t.Fatal("connected")
			}
		})
	}
}

func TestSocketIsClosedToOthers(t *testing.T) {
	s := Start(t, Options{})
	for _, dir := range []string{s.home.dir, s.dir} {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if perm := info.Mode().Perm(); perm != 0o700 {
			t.Errorf("%s has mode %o, want 700", dir, perm)
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; owner == 0 {
			t.Errorf("%s belongs to root", dir)
		}
	}
}

func TestServersFilesGoWithTheTest(t *testing.T) {
	var s *Server
	t.Run("user", func(t *testing.T) { s = Start(t, Options{}) })
	if _, err := os.Stat(s.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", s.dir, err)
	}
	if s.running() {
		t.Error("the server still runs")
	}
}

func TestFailedStartShowsTheLog(t *testing.T) {
	h, err := theHome()
	if err != nil {
		t.Fatal(err)
	}
	_, err = start(h, Options{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("the error is %v, want one that quotes the server's", err)
	}
	left, err := filepath.Glob(filepath.Join(h.dir, "*", "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	if max := 1; len(left) > max { // the shared server's
		t.Errorf("servers left running: %q", left)
	}
}

func TestTakenPortIsToldApart(t *testing.T) {
	h, err := theHome()
	if err != nil {
		t.Fatal(err)
	}
	first := Start(t, Options{TCP: true})
	dir, err := h.newFolder()
	if err != nil {
		t.Fatal(err)
	}
	second := &Server{home: h, dir: dir, options: Options{TCP: true}, port: first.port}
	if err := second.launch(); !errors.Is(err, errPortTaken) {
		t.Errorf("starting on a taken port gave %v, want errPortTaken", err)
	}
}

func TestUsesCountsEachTestOnce(t *testing.T) {
	Shared(t)
	before := Uses()
	Shared(t).NewDatabase(t)
	if got := Uses(); got != before {
		t.Errorf("more uses by one test raised the count from %d to %d", before, got)
	}
	// A name of its own at every run, for -count.
	t.Run("subtest"+strconv.FormatInt(nextDatabase(), 10), func(t *testing.T) { Shared(t) })
	if got := Uses(); got != before+1 {
		t.Errorf("a subtest raised the count from %d to %d, want by one", before, got)
	}
}

func TestReportAppendsOneLine(t *testing.T) {
	name := filepath.Join(t.TempDir(), "uses")
	var wg sync.WaitGroup
	for n := range 5 {
		wg.Go(func() {
			if err := report(name, n); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 5 {
		t.Errorf("five reports made %q", lines)
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, "postgresql ") {
			t.Errorf("odd line %q", line)
		}
	}
	if err := report("", 1); err != nil {
		t.Errorf("without a file: %v", err)
	}
	if err := report(filepath.Join(name, "below-a-file"), 1); err == nil {
		t.Error("an unwritable file was no error")
	}
}

// TestMain of this package runs in the child too; the variable makes the child
// start a server and then hang until it is killed.
const orphanVariable = "PGTEST_ORPHAN"

func TestServersEndWithAKilledTestProcess(t *testing.T) {
	if os.Getenv(orphanVariable) != "" {
		s := Start(t, Options{})
		os.Stdout.WriteString("orphan " + s.home.dir + " " + strconv.Itoa(s.process.Process.Pid) + "\n")
		select {}
	}
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), orphanVariable+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var dir string
	var pid int
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) == 3 && f[0] == "orphan" {
			dir = f[1]
			if pid, err = strconv.Atoi(f[2]); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed, as meant
	if pid == 0 {
		t.Fatal("the child started no server")
	}

	await(t, "the end of the orphan's server", func() bool {
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	})
	await(t, "the removal of its folder", func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, fs.ErrNotExist)
	})
}

// await polls what another process does on its own time.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}
