//go:build unix

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
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

const (
	superuser = "postgres"

	// patience bounds each start and each stop. A start after Stop(true) replays
	// the write-ahead log, on a machine that may be busy with other tests.
	patience = time.Minute
)

// Options are the settings of one server. The zero value suits most tests.
type Options struct {
	// MaxConnections is max_connections; 0 means 100.
	MaxConnections int
	// Preload lists shared_preload_libraries, such as "pg_stat_statements". The
	// test itself runs CREATE EXTENSION.
	Preload []string
	// Durable keeps fsync and full_page_writes on, as they are in production. By
	// default they are off, for speed: commits then survive Stop(true), but not
	// the end of the machine.
	Durable bool
	// TCP makes the server listen on a free port of 127.0.0.1 too, and URL name
	// that port instead of the Unix socket: for tests that put a proxy between.
	TCP bool
	// Settings are further settings of postgresql.conf, by name. They win over
	// the ones above.
	Settings map[string]string
}

// A Server is one PostgreSQL server of this test process. Its methods may be
// called from several goroutines.
type Server struct {
	home    *home
	dir     string // holds data/, log and the socket
	options Options
	port    int

	mu      sync.Mutex
	process *exec.Cmd
	exited  chan struct{} // closed when process has ended; nil before the first start
}

// Start starts a server for one test and stops it when the test ends. It fails
// the test where PostgreSQL is not installed or does not start.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	count(t)
	h, err := theHome()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	s, err := start(h, opts)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Stop(true), os.RemoveAll(s.dir)); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return s
}

// errPortTaken is the failure of a start because another program listens on the
// port.
var errPortTaken = errors.New("the port is taken")

func start(h *home, opts Options) (*Server, error) {
	dir, err := h.newFolder()
	if err != nil {
		return nil, err
	}
	s := &Server{home: h, dir: dir, options: opts, port: 5432}
	// A port found free can be lost before the server binds it.
	for range 10 {
		if opts.TCP {
			if s.port, err = freePort(); err != nil {
				break
			}
		}
		if err = s.launch(); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

// freePort returns a port of 127.0.0.1 nobody listens on, from below the ranges
// that systems give to outgoing connections: one of those could take the port
// while the server is stopped.
func freePort() (int, error) {
	var err error
	for range 50 {
		port := 20000 + rand.IntN(12000)
		var l net.Listener
		if l, err = net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("looking for a free port: %w", err)
}

// URL returns the postgres:// URL of a database of the server, for the
// superuser, as pgx and libpq take it. It stays the same over Stop and Restart.
func (s *Server) URL(database string) string {
	if !s.options.TCP {
		return s.socketURL(database)
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, s.home.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// socketURL is URL over the Unix socket, which no other server can be behind.
func (s *Server) socketURL(database string) string {
	q := url.Values{"sslmode": {"disable"}, "host": {s.dir}, "port": {strconv.Itoa(s.port)}}
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database, RawQuery: q.Encode()}
	return u.String()
}

// NewDatabase creates an empty database (UTF-8, collation C) with a name of its
// own and returns its URL. The database is dropped when the test ends, whoever
// is still connected to it.
func (s *Server) NewDatabase(t testing.TB) string {
	t.Helper()
	count(t)
	name := fmt.Sprintf("test_%d", nextDatabase())
	quoted := pgx.Identifier{name}.Sanitize()
	err := s.exec("CREATE DATABASE " + quoted + " TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")
	if err != nil {
		t.Fatalf("pgtest: creating a database: %v", err)
	}
	t.Cleanup(func() {
		if !s.running() {
			return // the test stopped its server; the data goes with it
		}
		if err := s.exec("DROP DATABASE IF EXISTS " + quoted + " WITH (FORCE)"); err != nil {
			t.Errorf("pgtest: dropping a database: %v", err)
		}
	})
	return s.URL(name)
}

// exec runs one statement in the database postgres.
func (s *Server) exec(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.socketURL("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// Stop stops the server and returns when it is gone. With immediate it goes as
// in a crash, connections cut and nothing written, and recovers at Restart;
// otherwise it ends connections and shuts down in order. Stopping a stopped
// server does nothing.
func (s *Server) Stop(immediate bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop(immediate)
}

// Restart starts the server again with the same data, socket and port, and
// returns when it accepts connections. A running server is stopped first, in
// order.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.stop(false); err != nil {
		return err
	}
	return s.launch()
}

func (s *Server) stop(immediate bool) error {
	if s.exited == nil {
		return nil
	}
	signal := syscall.SIGINT // fast shutdown
	if immediate {
		signal = syscall.SIGQUIT
	}
	// A process that has ended in the meantime is what we want.
	if err := s.process.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping PostgreSQL: %w", err)
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(patience):
		err := s.process.Process.Kill()
		<-s.exited
		return errors.Join(fmt.Errorf("PostgreSQL did not stop within %v and was killed", patience), err)
	}
}

func (s *Server) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exited == nil {
		return false
	}
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// launch starts the process and waits until it accepts connections. The caller
// holds s.mu, or is the only one that knows s.
func (s *Server) launch() error {
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	defer log.Close()
	cmd := s.home.command(filepath.Join(s.home.bin, "postgres"), s.arguments()...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	exited := make(chan struct{})
	go func() {
		// The status says nothing that the log doesn't.
		_ = cmd.Wait()
		close(exited)
	}()
	s.process, s.exited = cmd, exited
	if err := s.awaitReady(); err != nil {
		text := s.logTail()
		// PostgreSQL says so in English: it runs with LC_ALL=C.
		if strings.Contains(text, "Address already in use") {
			err = errors.Join(errPortTaken, err)
		}
		return fmt.Errorf("starting PostgreSQL: %w; its log ends:\n%s", errors.Join(err, s.stop(true)), text)
	}
	return nil
}

func (s *Server) arguments() []string {
	connections := s.options.MaxConnections
	if connections == 0 {
		connections = 100
	}
	settings := [][2]string{
		{"unix_socket_directories", s.dir},
		{"unix_socket_permissions", "0700"},
		{"listen_addresses", ""},
		{"port", strconv.Itoa(s.port)},
		{"max_connections", strconv.Itoa(connections)},
		{"shared_preload_libraries", strings.Join(s.options.Preload, ",")},
		{"logging_collector", "off"},
	}
	if s.options.TCP {
		settings = append(settings, [2]string{"listen_addresses", "127.0.0.1"})
	}
	if !s.options.Durable {
		settings = append(settings, [2]string{"fsync", "off"}, [2]string{"full_page_writes", "off"})
	}
	for name, value := range s.options.Settings {
		settings = append(settings, [2]string{name, value})
	}
	args := []string{"-D", filepath.Join(s.dir, "data")}
	for _, pair := range settings {
		args = append(args, "-c", pair[0]+"="+pair[1])
	}
	return args
}

// awaitReady returns when the server answers a statement, or with an error when
// its process has ended or patience has.
func (s *Server) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.socketURL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.exited:
			return errors.New("the server ended at once")
		case <-ctx.Done():
			return fmt.Errorf("not ready within %v: %w", patience, err)
		case <-retry.C:
		}
	}
}

// logTail returns the last lines of the server's log, for an error.
func (s *Server) logTail() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
