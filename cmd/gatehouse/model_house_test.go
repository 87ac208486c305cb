//go:build unix

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage"
)

// The two authorization servers of the model's house, which share a realm. At
// myAS a session is idle before its login is, at partnerAS the other way round.
var (
	modelMyAS = &modelServer{name: "myAS", idle: 40 * time.Minute, lifetime: 5 * time.Hour,
		offlineIdle: 3 * time.Hour, offlineMaximum: 20 * time.Hour}
	modelPartnerAS = &modelServer{name: "partnerAS", idle: 2 * time.Hour, lifetime: 20 * time.Hour,
		offlineIdle: 4 * time.Hour, offlineMaximum: 12 * time.Hour, ownOnly: true}
)

// modelClients are a confidential client whose users are asked for consent, a
// public one, one at the other authorization server, one whose refresh tokens
// stay the same and who does not want to be told of endings, and one without
// refresh tokens.
var modelClients = []*modelClient{
	{id: "album", secret: "album-secret", server: modelMyAS, redirectURI: "http://localhost:9001/callback", refreshes: true, rotates: true, asks: true, alg: "ES256"},
	{id: "app", server: modelMyAS, redirectURI: "http://127.0.0.1/callback", public: true, refreshes: true, rotates: true, alg: "ES256"},
	{id: "portal", secret: "portal-secret", server: modelPartnerAS, redirectURI: "http://localhost:9003/callback", refreshes: true, rotates: true, alg: "EdDSA"},
	{id: "steady", secret: "steady-secret", server: modelMyAS, redirectURI: "http://localhost:9002/callback", refreshes: true, alg: "ES256", silent: true},
	{id: "kiosk", secret: "kiosk-secret", server: modelPartnerAS, redirectURI: "http://localhost:9004/callback", alg: "ES256"},
}

// modelInspector is registered at both servers and may introspect everything.
const modelInspector = "inspector"

// modelGuest is a client that does not stand in the file: each sequence that
// wants it registers it anew, and deletes it.
const modelGuest = "guest"

func modelGuestClient() *modelClient {
	return &modelClient{id: modelGuest, server: modelPartnerAS, redirectURI: "http://127.0.0.1/guest", public: true,
		refreshes: true, rotates: true, alg: "ES256"}
}

// modelConfig is the demo's configuration with the model's times and clients.
func modelConfig(t *testing.T, database string) *configs.Config {
	t.Helper()
	cfg, err := demoConfig(memoryDir(t))
	if err != nil {
		t.Fatal(err)
	}
	if database != "" {
		cfg.Database = configs.Secret(database)
	}
	realm := cfg.Realms[defaultRealm]
	realm.Users = nil
	realm.Login.IdleLifetime, realm.Login.Lifetime = modelLoginIdle, modelLoginLifetime
	for _, s := range []*modelServer{modelMyAS, modelPartnerAS} {
		as := cfg.AuthorizationServers[s.name]
		as.AccessToken.Lifetime = modelAccess
		as.Session = configs.Session{IdleLifetime: s.idle, Lifetime: s.lifetime, RefreshGrace: modelGrace, History: modelHistory}
		as.Offline = configs.Offline{IdleLifetime: s.offlineIdle, Lifetime: s.offlineMaximum}
		as.SessionAPI.Visibility = sessions.VisibilityUser
		if s.ownOnly {
			as.SessionAPI.Visibility = sessions.VisibilityClient
		}
		as.Clients = []clients.Metadata{{ClientID: modelInspector, ClientSecret: modelInspector + "-secret", Introspection: true,
			GrantTypes: []string{clients.GrantClientCredentials}, TokenEndpointAuthMethod: clients.AuthClientSecretBasic}}
	}
	for _, c := range modelClients {
		as := cfg.AuthorizationServers[c.server.name]
		as.Clients = append(as.Clients, c.metadata())
	}
	return cfg
}

// metadata is a client's registration.
func (c *modelClient) metadata() clients.Metadata {
	m := clients.Metadata{ClientID: c.id, ClientSecret: c.secret, RedirectURIs: []string{c.redirectURI},
		GrantTypes: []string{clients.GrantAuthorizationCode}, ResponseTypes: []string{clients.ResponseCode}, Scope: "openid profile",
		TokenEndpointAuthMethod: clients.AuthClientSecretBasic, SkipConsent: !c.asks, IDTokenSignedAlg: c.alg,
		PostLogoutRedirectURIs: []string{c.home()}}
	if !c.silent {
		m.BackchannelLogoutURI = c.uri()
	}
	if c.public {
		m.TokenEndpointAuthMethod, m.ApplicationType = clients.AuthNone, "native"
	}
	if c.refreshes {
		m.GrantTypes = append(m.GrantTypes, clients.GrantRefreshToken)
		m.Scope += " offline_access"
		m.RefreshTokenRotation = &c.rotates
	}
	return m
}

// home is where a client wants people to be sent who have signed out.
func (c *modelClient) home() string { return c.redirectURI + "/signed-out" }

// uri is where a client is told of endings.
func (c *modelClient) uri() string { return "https://" + c.id + ".example/backchannel-logout" }

// memoryDir is a directory in memory where the system has one: most of what
// SQLite does on a disk is waiting for it, and nothing here loses power.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "gatehouse-model-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// modelNode is one node: an assembly of its own with its own pool of
// connections, without a listener and without anything in the background.
type modelNode struct {
	*assembly
	realm    *storage.Realm
	db       *storage.DB
	managers map[string]*sessions.Manager // by authorization server
	stores   map[string]*storage.Server   // the same
	sweeper  *sweeper
	post     *modelPost
}

// modelHouse is two nodes on one database, and what all sequences share.
type modelHouse struct {
	nodes     [2]*modelNode
	clock     *clock
	cfg       *configs.Config
	passwords []string // that users can have
	phcs      []string // cheap ones, one for each password
	sequences int
	users     map[string]bool // ids, of all sequences
	present   map[string]bool // ids, of the present sequence
	ear       *modelEar
	steps     int
	done      map[string]int // how often what was done, by what
	asked     map[verdict]int
}

// clients are all that there can be.
func (h *modelHouse) clients() []*modelClient {
	return append(slices.Clone(modelClients), modelGuestClient())
}

// openModelHouse starts two nodes; an empty database is a fresh SQLite file.
func openModelHouse(t *testing.T, database string) *modelHouse {
	t.Helper()
	h := &modelHouse{clock: &clock{now: time.Now().UTC().Truncate(time.Hour)}, cfg: modelConfig(t, database),
		passwords: []string{"the first of the passwords", "the second of the passwords"},
		users:     map[string]bool{}, done: map[string]int{}, asked: map[verdict]int{}}
	h.ear = newModelEar(t.Context(), h)
	for _, password := range h.passwords {
		phc, err := argon2id.CreateHash(password, &argon2id.Params{Memory: 8, Iterations: 1, Parallelism: 1, SaltLength: 16, KeyLength: 32})
		if err != nil {
			t.Fatal(err)
		}
		h.phcs = append(h.phcs, phc)
	}
	for i := range h.nodes {
		h.nodes[i] = h.openNode(t)
	}
	return h
}

func (h *modelHouse) openNode(t *testing.T) *modelNode {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	db, err := openDatabase(t.Context(), h.cfg, h.clock.Now, requestOrigin, logger)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	kek, err := openKEK(h.cfg)
	if err != nil {
		t.Fatal(err)
	}
	metrics := newMetrics()
	all, err := (&house{cfg: h.cfg, db: db, kek: kek, metrics: metrics, now: h.clock.Now, logger: logger}).assemble(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	realm, err := openRealm(h.cfg, db, defaultRealm)
	if err != nil {
		t.Fatal(err)
	}
	n := &modelNode{assembly: all, realm: realm, db: db, post: h.newPost(t, db, all), managers: map[string]*sessions.Manager{}, stores: map[string]*storage.Server{},
		sweeper: &sweeper{jobs: all.sweeps, metrics: newSweepMetrics(metrics.registry), logger: logger}}
	for name, as := range h.cfg.AuthorizationServers {
		store := db.For(storage.ServerConfig{Name: name, Realm: as.Realm, Lifetimes: serverLifetimes(h.cfg, name)})
		n.stores[name], n.managers[name] = store, &sessions.Manager{Store: store, Realm: realm, Now: h.clock.Now}
	}
	return n
}

// flush writes the last uses that a node has gathered.
func (n *modelNode) flush(ctx context.Context) {
	for _, t := range n.touchers {
		t.flush(ctx)
	}
}

// modelTransport hands requests to the nodes in turn, so that no way through
// the pages depends on one of them.
type modelTransport struct {
	house   *modelHouse
	node    int
	address string // of who sends them
}

// RoundTrip implements http.RoundTripper.
func (t *modelTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	in := req.Clone(req.Context())
	in.RemoteAddr, in.RequestURI, in.Host = t.address, req.URL.RequestURI(), req.URL.Host
	if in.Body == nil {
		in.Body = http.NoBody
	}
	out := httptest.NewRecorder()
	t.house.nodes[t.node].handler.ServeHTTP(out, in)
	t.node = 1 - t.node
	res := out.Result()
	res.Request = req
	return res, nil
}

// address is one that no other sequence has.
func (h *modelHouse) address() string {
	n := h.sequences
	return fmt.Sprintf("10.%d.%d.%d:4711", n>>16&255, n>>8&255, n&255)
}
