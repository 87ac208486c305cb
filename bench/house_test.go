//go:build linux

package bench

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gatehouse.dev/gatehouse/storage/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// settingsOf reads GATEHOUSE_BENCH. False: nothing is to be measured.
func settingsOf(t *testing.T) (Settings, bool) {
	t.Helper()
	text, asked := os.LookupEnv("GATEHOUSE_BENCH")
	if !asked {
		return Settings{}, false
	}
	s, err := ParseSettings(text)
	if err != nil {
		t.Fatalf("GATEHOUSE_BENCH: %v", err)
	}
	return s, true
}

// Names and numbers of what is served.
const (
	poolSize   = 16 // connections to the database: the product's default
	appCount   = 10 // clients that sign users in, at each authorization server
	ownerCount = 64 // users whose sessions are ended
	password   = "bench-password"
	verifier   = "the-verifier-of-every-authorization-request-of-the-bench"
	challenge  = "__T9ZsCEzKuoUxURtZ78NMZGeFkDhZy4WLOaQHZVv8c"
	callback   = "http://localhost:9009/callback"
	programID  = "program" // a client without users, which introspects
	appScope   = "openid profile email"
)

func appID(n int) string { return fmt.Sprintf("app-%d", n%appCount) }

// secretOf is a client's secret: 256 bits, as the server would make it.
func secretOf(client string) string { return client + "-secret-0123456789abcdefghijklmnopqrstuvwxyz" }

// house is everything that is started: PostgreSQL and one or more servers.
type house struct {
	t        testing.TB
	dir      string
	server   *pgtest.Server
	database string // URL
	base     string // host and port of public_url
	kek      string
	binary   string
	db       *pgx.Conn
}

// newHouse starts PostgreSQL and builds the product.
func newHouse(t testing.TB, settings map[string]string) *house {
	t.Helper()
	all := map[string]string{"shared_buffers": "512MB", "pg_stat_statements.track": "top"}
	for name, value := range settings {
		all[name] = value
	}
	h := &house{t: t, dir: t.TempDir(), server: pgtest.Start(t, pgtest.Options{MaxConnections: 150,
		Preload: []string{"pg_stat_statements"}, Settings: all})}
	h.database = h.server.NewDatabase(t)
	h.binary = build(t, h.dir, "gatehouse", "gatehouse.dev/gatehouse/cmd/gatehouse")
	kek := make([]byte, 32)
	rand.Read(kek)
	h.kek = base64.StdEncoding.EncodeToString(kek)
	// Known before the server starts: it stands in its configuration.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.base = l.Addr().String()
	l.Close()
	if h.db, err = pgx.Connect(t.Context(), h.database); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.db.Close(context.WithoutCancel(t.Context())) })
	h.exec(`CREATE EXTENSION pg_stat_statements`)
	return h
}

// Issuer is the issuer of an authorization server, of every node and the floor.
func (h *house) Issuer(as string) string { return "http://" + h.base + pathOf(as) }

func pathOf(as string) string { return "/authorization-servers/" + as }

// serve starts the product: the first node, or another one at a port of its own.
func (h *house) serve(name string, first bool, flags ...string) *program {
	h.t.Helper()
	listen := "127.0.0.1:0"
	if first {
		listen = h.base
	}
	file := filepath.Join(h.dir, name+".yaml")
	if err := os.WriteFile(file, []byte(h.config(listen)), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return run(h.t, h.dir, name, h.binary, append([]string{"serve", "--config", file}, flags...)...)
}

// config is the operator's file.
func (h *house) config(listen string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `listen: %s
public_url: http://%s
operations_listen: 127.0.0.1:0
trusted_proxies: [127.0.0.1/32]
database: %q
key_encryption_key: %s
realms:
  default:
    login: {idle_lifetime: 24h, lifetime: 720h, remember: true}
    throttle: {account: 1000, address: 1000000, window: 1s}
    users:
      - {username: bench, password: %s, name: Bench, email: bench@example.com}
authorization_servers:
`, listen, h.base, h.database, h.kek, password)
	for _, as := range []string{"jwt", "opaque"} {
		fmt.Fprintf(&b, `  %s:
    realm: default
    access_token: {format: %s, lifetime: 2h}
    session: {idle_lifetime: 24h, lifetime: 720h, refresh_grace: 10s, history: 720h}
    offline: {idle_lifetime: 720h, lifetime: 8760h}
    pkce: all
    session_api: {visibility: user}
    clients:
      - {client_id: %s, client_secret: %s, grant_types: [client_credentials], scope: reports, introspection: true}
`, as, as, programID, secretOf(programID))
		for n := range appCount {
			fmt.Fprintf(&b, "      - {client_id: %s, client_name: Application %d, client_secret: %s, redirect_uris: [%q],\n"+
				"         grant_types: [authorization_code, refresh_token], scope: %s, id_token_signed_response_alg: ES256, skip_consent: true}\n",
				appID(n), n, secretOf(appID(n)), callback, appScope)
		}
	}
	return b.String()
}

// floorConfig is what bench/floor reads; its fields are those of its config.
type floorConfig struct {
	Listen      string
	Database    string
	Connections int
	Base        string            // scheme, host and port of issuers
	Secrets     map[string]string // of clients
	Documents   map[string]document
}

type document struct {
	Header map[string]string
	Body   string
}

// serveFloor starts the floor. It serves the documents that the product does,
// so that they are of the same length.
func (h *house) serveFloor(product *program) *program {
	h.t.Helper()
	c := floorConfig{Listen: "127.0.0.1:0", Database: h.database, Connections: poolSize, Base: "http://" + h.base,
		Secrets: map[string]string{programID: secretOf(programID)}, Documents: map[string]document{}}
	for n := range appCount {
		c.Secrets[appID(n)] = secretOf(appID(n))
	}
	to := dial(h.t, product.Address)
	defer to.Close()
	for _, path := range []string{pathOf("jwt") + "/jwks", pathOf("jwt") + "/.well-known/openid-configuration"} {
		a, err := to.do(encode(Request{Method: http.MethodGet, Path: path}))
		if err != nil || a.Status != http.StatusOK {
			h.t.Fatalf("%s: %d, %v", path, a.Status, err)
		}
		d := document{Header: map[string]string{}, Body: string(a.Body)}
		for name := range a.Header {
			if name != "Date" && name != "Content-Length" {
				d.Header[name] = a.Header.Get(name)
			}
		}
		c.Documents[path] = d
	}
	file := filepath.Join(h.dir, "floor.json")
	text, err := json.Marshal(c)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return run(h.t, h.dir, "floor", build(h.t, h.dir, "floor", "gatehouse.dev/gatehouse/bench/floor"), file)
}

func (h *house) exec(statement string, args ...any) {
	h.t.Helper()
	if _, err := h.db.Exec(h.t.Context(), statement, args...); err != nil {
		h.t.Fatalf("%v\n%s", err, statement)
	}
}

// number runs a statement that tells one number.
func (h *house) number(statement string, args ...any) (n int64) {
	h.t.Helper()
	if err := h.db.QueryRow(h.t.Context(), statement, args...).Scan(&n); err != nil {
		h.t.Fatalf("%v\n%s", err, statement)
	}
	return n
}

// text runs a statement that tells one text.
func (h *house) text(statement string, args ...any) (s string) {
	h.t.Helper()
	if err := h.db.QueryRow(h.t.Context(), statement, args...).Scan(&s); err != nil {
		h.t.Fatalf("%v\n%s", err, statement)
	}
	return s
}
