//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/keys"
	"gatehouse.dev/gatehouse/storage"
	"gatehouse.dev/gatehouse/storage/storagetest"
)

// serverOptions change what startServer starts. The zero value is the demo's
// configuration on a fresh SQLite file.
type serverOptions struct {
	Config      func(*configs.Config) // changes the configuration; PublicURL is set before it is called
	Database    string                // default: a SQLite file in a temporary directory
	KEK         string                // default: a fresh one
	Now         func() time.Time      // default: time.Now
	Connections int                   // of the database at most; default: storagetest.Connections
	Public      net.Listener          // default: on a port of its own
}

// testServer is a server in this process, on a port of its own.
type testServer struct {
	URL        string // public_url
	Operations string // URL of the operations listener
	Config     *configs.Config
	Log        *buffer // log events as JSON, one a line

	db   *storage.DB
	t    testing.TB
	end  context.CancelFunc
	done chan error // what wait returned
	once sync.Once
	err  error
}

// startServer starts a server that ends with the test.
func startServer(t testing.TB, o serverOptions) *testServer {
	t.Helper()
	public, operations := o.Public, listenLoopback(t)
	if public == nil {
		public = listenLoopback(t)
	}
	cfg, err := demoConfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg.PublicURL = fmt.Sprintf("http://localhost:%d", public.Addr().(*net.TCPAddr).Port)
	switch {
	case o.Database != "":
		cfg.Database = configs.Secret(o.Database)
	case o.KEK == "" && o.Now == nil:
		prepared.copy(t, cfg)
	}
	if o.KEK != "" {
		cfg.KeyEncryptionKey = configs.Secret(o.KEK)
	}
	if o.Config != nil {
		o.Config(cfg)
	}
	if o.Connections == 0 {
		o.Connections = storagetest.Connections(t)
	}
	log := &buffer{}
	i, err := start(t.Context(), cfg, startOptions{public: public, operations: operations, now: o.Now, connections: o.Connections,
		logger: slog.New(slog.NewJSONHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	s := &testServer{URL: cfg.PublicURL, Operations: "http://" + operations.Addr().String(), Config: cfg, Log: log, db: i.db, t: t, end: end, done: make(chan error, 1)}
	go func() { s.done <- i.wait(ctx) }()
	t.Cleanup(s.Close)
	return s
}

// Issuer is the issuer of an authorization server.
func (s *testServer) Issuer(as string) string { return s.Config.Issuer(as) }

// Close ends the server as SIGTERM does, and fails the test if that goes wrong.
// It may be called more than once.
func (s *testServer) Close() {
	s.t.Helper()
	s.once.Do(func() {
		s.end()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		s.err = <-s.done
	})
	if s.err != nil {
		s.t.Errorf("ending the server: %v", s.err)
	}
}

// prepared is a database of the demo's configuration with keys and without
// users, made once: making RSA keys takes longer than most tests.
var prepared preparedDatabase

type preparedDatabase struct {
	once    sync.Once
	content []byte
	kek     configs.Secret
	err     error
}

// copy gives cfg a copy of the database and its key.
func (p *preparedDatabase) copy(t testing.TB, cfg *configs.Config) {
	t.Helper()
	p.once.Do(func() { p.content, p.kek, p.err = prepareDatabase() })
	if p.err != nil {
		t.Fatalf("preparing a database: %v", p.err)
	}
	writeFile(t, strings.TrimPrefix(string(cfg.Database), "sqlite:"), string(p.content))
	cfg.KeyEncryptionKey = p.kek
}

func prepareDatabase() (content []byte, kek configs.Secret, err error) {
	err = withDemo(func(cfg *configs.Config) error {
		kek = cfg.KeyEncryptionKey
		cfg.Realms[defaultRealm].Users = nil
		cfg.Listen, cfg.OperationsListen = "127.0.0.1:0", ""
		i, err := start(context.Background(), cfg, startOptions{logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		ended, end := context.WithCancel(context.Background())
		end()
		if err := i.wait(ended); err != nil {
			return err
		}
		content, err = os.ReadFile(strings.TrimPrefix(string(cfg.Database), "sqlite:"))
		return err
	})
	return content, kek, err
}

func listenLoopback(t testing.TB) net.Listener {
	t.Helper()
	var err error
	for range 50 {
		var l net.Listener
		// Not of the range that :0 and outgoing connections draw from: a port is
		// given up and taken again.
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(10_000))); err == nil {
			return l
		}
	}
	t.Fatal(err)
	return nil
}

// buffer is a bytes.Buffer for many.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// browser is a person with a browser, for tests. It follows no redirects by
// itself; Authorize does.
type browser struct {
	*http.Client          // with the browser's cookies
	Username     string   // default: alex
	Password     string   // default: alex-demo
	Decision     string   // on the consent page: allow (default) or deny
	visitor      *visitor //
	t            testing.TB
}

// newBrowser opens a browser without cookies, of the demo's user alex.
func newBrowser(t testing.TB) *browser {
	t.Helper()
	v := newVisitor(&http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, "", "")
	t.Cleanup(v.client.CloseIdleConnections)
	return &browser{Client: v.client, Username: "alex", Password: "alex-demo", visitor: v, t: t}
}

// As makes it the browser of another user.
func (b *browser) As(username, password string) *browser {
	b.Username, b.Password = username, password
	return b
}

// At makes the browser reach a node, whatever the host in a URL is.
func (b *browser) At(n *node) *browser {
	b.Transport = n.transport()
	return b
}

// Authorize opens an authorization request and goes on, signing in and
// consenting where it is asked, until it is sent to another origin. It returns
// that URL's parameters (those in the fragment where the query has none) and
// the last answer of the server. Where the way ends before, callback is nil and
// final is the page or error at its end, with its body to be read.
func (b *browser) Authorize(request string) (callback url.Values, final *http.Response) {
	b.t.Helper()
	v := *b.visitor
	v.username, v.password, v.decision = b.Username, b.Password, b.Decision
	to, final, err := v.authorize(b.t.Context(), request)
	if err != nil && final == nil {
		b.t.Fatalf("authorization request: %v", err)
	}
	if to == nil {
		return nil, final
	}
	callback = to.Query()
	if len(callback) == 0 {
		if callback, err = url.ParseQuery(to.Fragment); err != nil {
			b.t.Fatalf("callback %s: %v", to, err)
		}
	}
	return callback, final
}

// Page opens a URL as a page, without following redirects.
func (b *browser) Page(address string) *http.Response {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	res, err := b.visitor.do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

// Submit fills in the page's form that has all of the fields and buttons in
// values, and sends it.
func (b *browser) Submit(page *http.Response, values url.Values) *http.Response {
	b.t.Helper()
	for _, f := range forms(page) {
		ours := true
		for name := range values {
			ours = ours && f.has(name)
		}
		if !ours {
			continue
		}
		for name, value := range values {
			f.values[name] = value
		}
		req, err := f.request(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		res, err := b.visitor.do(req)
		if err != nil {
			b.t.Fatal(err)
		}
		return res
	}
	b.t.Fatalf("the page at %s has no form with %v", page.Request.URL.Path, values)
	return nil
}

// text reads a body to its end.
func text(t testing.TB, res *http.Response) string {
	t.Helper()
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// writeConfig writes the demo's configuration with another database and a key
// into a temporary directory, and returns its path. Each change is applied to
// the text.
func writeConfig(t testing.TB, database, kek string, changes ...func(string) string) string {
	t.Helper()
	if kek == "" {
		kek = keys.GenerateKEK()
	}
	text := string(configs.Demo())
	for _, change := range append([]func(string) string{
		setLine("database", fmt.Sprintf("%q", database)),
		func(text string) string { return text + fmt.Sprintf("\nkey_encryption_key: %q\n", kek) },
	}, changes...) {
		text = change(text)
	}
	return writeFile(t, filepath.Join(t.TempDir(), "gatehouse.yaml"), text)
}

// setLine is a change of a configuration's text: the value of a key at its top.
func setLine(key, value string) func(string) string {
	return func(text string) string {
		lines := strings.Split(text, "\n")
		for i, line := range lines {
			if strings.HasPrefix(line, key+":") {
				lines[i] = key + ": " + value
				return strings.Join(lines, "\n")
			}
		}
		return text + "\n" + key + ": " + value + "\n"
	}
}
