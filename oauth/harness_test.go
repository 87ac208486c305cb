package oauth_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/keys"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage"
	"gatehouse.dev/gatehouse/storage/storagetest"
	"gatehouse.dev/gatehouse/users"
	"gatehouse.dev/gatehouse/web"
)

// The two authorization servers of a house, by the format of their access
// tokens.
const (
	jwtServer    = "jwt"
	opaqueServer = "opaque"
)

const (
	alexPassword = "correct horse alex"
	bobPassword  = "correct horse bob"
	api          = "https://api.example"   // a resource; the client rs may introspect tokens for it
	files        = "https://files.example" // another one
)

// begin is when every test begins.
var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Lifetimes of a house, far enough apart to tell them from each other.
var lifetimes = sessions.Lifetimes{
	LoginIdle: 10 * time.Hour, LoginAbsolute: 100 * time.Hour,
	SessionIdle: 2 * time.Hour, SessionAbsolute: 20 * time.Hour,
	OfflineIdle: 200 * time.Hour, OfflineAbsolute: 1000 * time.Hour,
	RefreshGrace: 10 * time.Second,
}

// options change how a house is built.
type options struct {
	Static    []clients.Client // default: staticClients()
	Server    func(*oauth.Config)
	Lifetimes sessions.Lifetimes // default: lifetimes
}

// house is a realm with its pages and two authorization servers on a SQLite
// file, reached over HTTP.
type house struct {
	t           testing.TB
	o           options
	path        string // of the database
	db          *storage.DB
	realm       *storage.Realm
	base        string // public URL
	at          string // where this node is reached
	jwt, opaque *as
	later       *atomic.Int64 // how far time has been moved on
	log         *journal
	secrets     *journal // what must never be in the log, one a line
}

// as is one authorization server of a house.
type as struct {
	h      *house
	name   string
	issuer string
	at     string // where this node answers for the issuer
	server *oauth.Server
	store  *storage.Server
	ring   *keys.Ring
	static map[string]clients.Client
}

func (h *house) now() time.Time       { return begin.Add(time.Duration(h.later.Load())) }
func (h *house) wait(d time.Duration) { h.later.Add(int64(d)) }

// servers are both, for what must hold whatever the format of access tokens.
func (h *house) servers() []*as { return []*as{h.jwt, h.opaque} }

// journal is text that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

var (
	kek       = keys.GenerateKEK()
	passwords = sync.OnceValues(func() (*users.Passwords, error) { return users.NewPasswords(2) })
	template  = sync.OnceValues(makeTemplate)
)

// makeTemplate makes a database with users, clients and keys, to be copied for
// each test: making RSA keys takes long.
func makeTemplate() (content []byte, err error) {
	dir, err := os.MkdirTemp("", "template")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, now := context.Background(), func() time.Time { return begin.Add(-time.Hour) }
	path := filepath.Join(dir, "house.db")
	db, err := storage.Open(ctx, storage.Config{URL: "sqlite:" + path, Now: now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	if err := fill(ctx, db, now); err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

func fill(ctx context.Context, db *storage.DB, now func() time.Time) error {
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	realm := db.Realm(storage.RealmConfig{Name: "default", Lifetimes: lifetimes})
	p, err := passwords()
	if err != nil {
		return err
	}
	for name, password := range map[string]string{"alex": alexPassword, "bob": bobPassword} {
		phc, err := p.Hash(ctx, password)
		if err != nil {
			return err
		}
		if err := realm.InsertUser(ctx, &users.User{ID: uuid.NewString(), Username: name, Password: phc, Salt: make([]byte, 32),
			CreatedAt: now(), Claims: users.Claims{Name: strings.ToUpper(name), GivenName: name, Email: name + "@example.com", EmailVerified: true,
				PhoneNumber: "+41441234567", Address: &users.Address{Country: "CH"}, UpdatedAt: 1_700_000_000}}); err != nil {
			return err
		}
	}
	for _, name := range []string{jwtServer, opaqueServer} {
		store := db.For(storage.ServerConfig{Name: name, Realm: "default", Lifetimes: lifetimes})
		if _, err := store.SyncStatic(ctx, staticClients()); err != nil {
			return err
		}
		k, err := keys.NewKEK(kek)
		if err != nil {
			return err
		}
		if _, err := keys.Open(ctx, keys.Config{Store: store, KEK: k, Owner: "as:" + name, Now: now}); err != nil {
			return err
		}
	}
	return nil
}

// open builds a house.
func open(t testing.TB, o options) *house {
	t.Helper()
	content, err := template()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "house.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, o: o, path: path, later: &atomic.Int64{}, log: &journal{}, secrets: &journal{}}
	t.Cleanup(h.checkLog)
	h.start("")
	return h
}

// second is another node of the same house: its own process but for the clock,
// on the same database, behind the same public URL.
func (h *house) second() *house {
	h.t.Helper()
	n := *h
	n.start(h.base)
	return &n
}

// restarted is another node of the same house, with another clock or configuration.
func (h *house) restarted(change func(*house)) *house {
	h.t.Helper()
	n := *h
	n.later = &atomic.Int64{}
	n.later.Store(h.later.Load())
	change(&n)
	n.start(h.base)
	return &n
}

// start assembles a node. It says of itself that it is at base; empty: where it is.
func (h *house) start(base string) {
	h.t.Helper()
	ctx := context.Background()
	logger := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	life := h.o.Lifetimes
	if life == (sessions.Lifetimes{}) {
		life = lifetimes
	}
	db, err := storage.Open(ctx, storage.Config{URL: "sqlite:" + h.path, MaxConnections: storagetest.Connections(h.t), Now: h.now, Logger: logger})
	h.must(err)
	h.t.Cleanup(func() { _ = db.Close() })
	h.db = db
	h.realm = h.db.Realm(storage.RealmConfig{Name: "default", Lifetimes: life})

	router := mux.NewRouter().SkipClean(true)
	server := httptest.NewServer(router)
	h.t.Cleanup(server.Close)
	h.base, h.at = base, server.URL
	if base == "" {
		h.base = h.at
	}

	servers := map[string]*oauth.Server{}
	p, err := passwords()
	h.must(err)
	pages, err := web.New(web.Config{Realm: "default", Base: h.base, Servers: servers, Users: h.realm, Passwords: p, Logins: h.realm, Audit: h.realm, Uses: h.realm,
		Sessions: &sessions.Manager{Realm: h.realm, Now: h.now}, MAC: func(text []byte) []byte { return text }, Cookie: realmCookie,
		Directory: &sessions.Directory{Manager: &sessions.Manager{Realm: h.realm, Now: h.now}, Store: h.realm, Past: h.realm},
		Lifetimes: life, Remember: true, Now: h.now, Logger: logger})
	h.must(err)
	for _, name := range []string{jwtServer, opaqueServer} {
		servers[name] = h.startServer(name, life, pages, router, logger)
	}
	pages.Mount(router)
}

var realmCookie = sessions.Cookie{Realm: "default"}

func (h *house) startServer(name string, life sessions.Lifetimes, pages *web.Pages, router *mux.Router, logger *slog.Logger) *oauth.Server {
	h.t.Helper()
	ctx := context.Background()
	path := "/authorization-servers/" + name
	s := &as{h: h, name: name, issuer: h.base + path, at: h.at + path, static: map[string]clients.Client{}}
	s.store = h.db.For(storage.ServerConfig{Name: name, Realm: "default", Lifetimes: life})
	k, err := keys.NewKEK(kek)
	h.must(err)
	s.ring, err = keys.Open(ctx, keys.Config{Store: s.store, KEK: k, Owner: "as:" + name, Now: h.now, Logger: logger})
	h.must(err)
	static := h.o.Static
	if static == nil {
		static = staticClients()
	} else {
		_, err := s.store.SyncStatic(ctx, static)
		h.must(err)
	}
	for _, c := range static {
		s.static[c.ClientID] = c
		if c.ClientSecret != "" {
			h.secret(c.ClientSecret)
		}
	}
	cfg := oauth.Config{
		Name: name, Issuer: s.issuer, Keys: s.ring, Store: s.store, Logins: h.realm, Cookie: realmCookie, Static: static,
		Sessions: &sessions.Manager{Store: s.store, Realm: h.realm, Now: h.now}, Lifetimes: life, AccessTokenFormat: name,
		Resources: []oauth.Resource{{Identifier: api, Scopes: []string{"api:read"}, IntrospectionClients: []string{"rs"}}, {Identifier: files}},
		Pages:     oauth.Pages{Login: h.base + "/login", Consent: h.base + "/consent", Logout: h.base + "/logout", Error: pages.Error, CookiesBlocked: pages.CookiesBlocked},
		Touch:     func(t sessions.Touch) { _ = h.realm.Touch(ctx, []sessions.Touch{t}) },
		Now:       h.now, Logger: logger,
	}
	if h.o.Server != nil {
		h.o.Server(&cfg)
	}
	s.server, err = oauth.New(cfg)
	h.must(err)
	s.server.Mount(router.PathPrefix(path).Subrouter())
	if name == jwtServer {
		h.jwt = s
	} else {
		h.opaque = s
	}
	return s.server
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// secret notes what must never be in the log.
func (h *house) secret(value string) {
	if value != "" {
		_, _ = h.secrets.Write([]byte(value + "\n"))
	}
}

// checkLog is part of every test: no secret that was in it is in its log.
func (h *house) checkLog() {
	log := h.log.String()
	for _, secret := range append(strings.Fields(h.secrets.String()), alexPassword, bobPassword, "gatehouse_stamp", "code_verifier") {
		if strings.Contains(log, secret) {
			h.t.Errorf("the log has %q:\n%s", secret, log)
		}
	}
}

// userID is the id of an account.
func (h *house) userID(name string) string {
	h.t.Helper()
	u, err := h.realm.UserByName(context.Background(), name)
	h.must(err)
	return u.ID
}

// signedIn is a browser in which the user has just signed in.
func (h *house) signedIn(name string) *browser {
	h.t.Helper()
	b := h.browser()
	value, hash := realmCookie.New()
	now := h.now()
	login, err := h.realm.SignIn(context.Background(), sessions.SignIn{UserID: h.userID(name), AuthTime: now, AMR: []string{"pwd"},
		CookieHash: hash, ExpiresAt: now.Add(lifetimes.LoginAbsolute)}, sessions.Ending{Reason: sessions.ReasonOtherUser, At: now})
	h.must(err)
	h.secret(value)
	b.login = login.ID
	b.setCookie(value)
	return b
}

// manager is what ends sessions at an authorization server.
func (s *as) manager() *sessions.Manager {
	return &sessions.Manager{Store: s.store, Realm: s.h.realm, Now: s.h.now}
}

// staticClients are the clients of both servers.
func staticClients() []clients.Client {
	all := []clients.Client{
		client("web"), client("other"),
		client("asks", func(c *clients.Client) { c.SkipConsent = false }),
		client("norefresh", func(c *clients.Client) { c.GrantTypes = []string{clients.GrantAuthorizationCode} }),
		client("norotate", func(c *clients.Client) { off := false; c.RefreshTokenRotation = &off }),
		client("strict", func(c *clients.Client) { c.RequirePKCE = true }),
		client("limited", func(c *clients.Client) { c.Resources = []string{api} }),
		client("rs", machine), client("machine", machine),
		client("scanner", machine, func(c *clients.Client) { c.Introspection = true }),
		client("post", func(c *clients.Client) { c.TokenEndpointAuthMethod = clients.AuthClientSecretPost }),
		client("spa", public), client("spa2", public),
		client("native", public, func(c *clients.Client) {
			c.ApplicationType, c.RedirectURIs = clients.ApplicationNative, []string{"http://127.0.0.1/cb", "com.example.app:/cb"}
			c.PostLogoutRedirectURIs = []string{"http://127.0.0.1/bye", "com.example.app:/bye"}
		}),
		client("two", func(c *clients.Client) { c.RedirectURIs = append(c.RedirectURIs, "https://two.example/second?tab=1") }),
	}
	for _, alg := range clients.IDTokenAlgs() {
		all = append(all, client("id-"+strings.ToLower(alg), func(c *clients.Client) { c.IDTokenSignedAlg = alg }))
	}
	return all
}

// client is a confidential client of the house with all scopes.
func client(id string, change ...func(*clients.Client)) clients.Client {
	c := clients.Client{Static: true, Metadata: clients.Metadata{
		ClientID: id, ClientSecret: id + "-secret-of-the-house", ClientName: "Client " + id,
		RedirectURIs: []string{"https://" + id + ".example/cb"}, SkipConsent: true,
		PostLogoutRedirectURIs: []string{"https://" + id + ".example/bye", "https://" + id + ".example/bye?from=op"},
		Scope:                  "openid profile email phone address offline_access api:read api:write",
		GrantTypes:             []string{clients.GrantAuthorizationCode, clients.GrantRefreshToken},
	}}
	for _, f := range change {
		f(&c)
	}
	c.Defaults("")
	return c
}

func public(c *clients.Client) {
	c.ClientSecret, c.TokenEndpointAuthMethod = "", clients.AuthNone
}

func machine(c *clients.Client) {
	c.RedirectURIs, c.GrantTypes = nil, []string{clients.GrantClientCredentials}
}

// unwanted is a page or an endpoint that nobody should have asked.
func unwanted(t testing.TB) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s %s was asked", r.Method, r.URL.Path) })
}
