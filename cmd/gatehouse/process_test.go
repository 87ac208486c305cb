//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/keys"
)

// binary is the program, built once for all tests that need it as a process.
var binary builtProgram

type builtProgram struct {
	once sync.Once
	dir  string
	err  error
}

func (b *builtProgram) path(t testing.TB) string {
	t.Helper()
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "gatehouse-test-"); b.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", filepath.Join(b.dir, "gatehouse"), ".").CombinedOutput()
		if err != nil {
			b.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if b.err != nil {
		t.Fatalf("building gatehouse: %v", b.err)
	}
	return filepath.Join(b.dir, "gatehouse")
}

func (b *builtProgram) remove() {
	if b.dir != "" {
		os.RemoveAll(b.dir)
	}
}

// processOptions say what startProcess starts.
type processOptions struct {
	Database string                // required
	KEK      string                // default: a fresh one
	Nodes    int                   // default: 1
	Change   []func(string) string // changes of the configuration's text, such as setLine
	Flags    []string              // further ones of serve
}

// node is one server as a process of its own.
type node struct {
	URL        string // its own address
	PublicURL  string // the same for all nodes: the address of the first
	Operations string
	ConfigFile string
	Log        *buffer

	t       testing.TB
	flags   []string
	command *exec.Cmd
	said    chan string // its first line
	exited  chan error
	once    sync.Once
	err     error
}

// startProcess starts `gatehouse serve` once or several times, all at the same
// moment, against one database, and waits until all are ready. All have the
// public_url of the first, so they are one issuer; each is reached at its own
// address with Client. They are killed when the test ends.
func startProcess(t testing.TB, o processOptions) []*node {
	t.Helper()
	program := binary.path(t)
	// Every port but the first is chosen by the system; the first must be known
	// before, because it stands in all files.
	first := listenLoopback(t)
	address := first.Addr().String()
	publicURL := fmt.Sprintf("http://localhost:%d", first.Addr().(*net.TCPAddr).Port)
	first.Close()

	nodes := make([]*node, max(1, o.Nodes))
	kek := o.KEK
	if kek == "" {
		kek = keys.GenerateKEK()
	}
	for i := range nodes {
		changes := append([]func(string) string{
			setLine("listen", "127.0.0.1:0"),
			setLine("public_url", publicURL),
			setLine("operations_listen", "127.0.0.1:0"),
		}, o.Change...)
		if i == 0 {
			changes = append(changes, setLine("listen", address))
		}
		nodes[i] = &node{t: t, PublicURL: publicURL, Log: &buffer{}, said: make(chan string, 1), exited: make(chan error, 1), flags: o.Flags,
			ConfigFile: writeConfig(t, o.Database, kek, changes...)}
	}
	for _, n := range nodes {
		n.launch(program)
	}
	for _, n := range nodes {
		n.awaitReady()
	}
	return nodes
}

// launch runs the process.
func (n *node) launch(program string) {
	n.t.Helper()
	n.command = exec.Command(program, append([]string{"serve", "--config", n.ConfigFile}, n.flags...)...)
	n.command.Stderr = n.Log
	out, err := n.command.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.command.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(n.Kill)
	go func() {
		reader := bufio.NewReader(out)
		text, _ := reader.ReadString('\n')
		n.said <- text
		_, _ = io.Copy(io.Discard, reader)
		n.exited <- n.command.Wait()
	}()
}

// awaitReady waits until the process says where it listens, and is ready.
func (n *node) awaitReady() {
	n.t.Helper()
	select {
	case text := <-n.said:
		// gatehouse listens on URL, for operations on URL
		_, rest, _ := strings.Cut(strings.TrimSpace(text), "listens on ")
		url, operations, ok := strings.Cut(rest, ", for operations on ")
		if !ok {
			n.t.Fatalf("gatehouse serve said %q:\n%s", text, n.Log)
		}
		n.URL, n.Operations = url, operations
	case <-time.After(time.Minute):
		n.t.Fatalf("gatehouse serve did not start:\n%s", n.Log)
	}
	res, err := http.Get(n.Operations + "/readyz")
	if err != nil {
		n.t.Fatal(err)
	}
	if body := text(n.t, res); res.StatusCode != http.StatusOK {
		n.t.Fatalf("gatehouse serve is not ready: %s", body)
	}
}

// Client is a client without cookies that reaches this node, whatever the host
// in a URL is, and follows no redirects.
func (n *node) Client() *http.Client {
	return &http.Client{Transport: n.transport(), CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

func (n *node) transport() http.RoundTripper {
	address := strings.TrimPrefix(n.URL, "http://")
	t := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	n.t.Cleanup(t.CloseIdleConnections)
	return t
}

// Issuer is the issuer of an authorization server, the same on all nodes.
func (n *node) Issuer(as string) string { return n.PublicURL + "/authorization-servers/" + as }

// Stop ends the process with SIGTERM and returns how it exited.
func (n *node) Stop() error { return n.signal(syscall.SIGTERM) }

// Kill ends the process at once. It may be called more than once, and after
// Stop.
func (n *node) Kill() { _ = n.signal(syscall.SIGKILL) }

func (n *node) signal(s os.Signal) error {
	n.once.Do(func() {
		if err := n.command.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
			n.t.Errorf("ending gatehouse: %v", err)
		}
		n.err = <-n.exited
	})
	return n.err
}

func writeFile(t testing.TB, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
