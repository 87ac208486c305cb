//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/storage"
	"gatehouse.dev/gatehouse/users"
)

const (
	// stagePassword is everybody's.
	stagePassword = "the-password-of-all-players"
	stageAdmin    = "stage-admin"
)

// stage is a server whose clients are told of endings, and all that was played
// on it: each session, and how often its client is owed a message.
type stage struct {
	*office
	realm    *storage.Realm
	ears     map[string]*ear // by authorization server
	ahead    atomic.Int64    // of time, by which the server's clock is
	file     string          // configuration of the commands
	database string
	kek      configs.Secret

	phc       string
	people    int
	neighbour *part
	known     map[string]*part // by sid
	owed      map[string]int   // by sid
}

// stageClients are the clients of an authorization server of the stage: two
// with refresh tokens and one with offline access at myAS, where whoever holds
// a token sees all sessions of its user, and one without refresh tokens at
// partnerAS, where a client sees its own.
func stageClients(as string) []clients.Metadata {
	inspector := clients.Metadata{ClientID: "inspector", GrantTypes: []string{clients.GrantClientCredentials}, Introspection: true}
	if as == "partnerAS" {
		return []clients.Metadata{inspector, {ClientID: "kiosk", GrantTypes: []string{clients.GrantAuthorizationCode}, Scope: "openid profile email"}}
	}
	code := []string{clients.GrantAuthorizationCode, clients.GrantRefreshToken}
	return []clients.Metadata{inspector,
		{ClientID: "album", GrantTypes: code, Scope: "openid profile email"},
		{ClientID: "calendar", GrantTypes: code, Scope: "openid profile email", IDTokenSignedAlg: "ES256"},
		{ClientID: "backup", GrantTypes: code, Scope: "openid offline_access"},
		{ClientID: "fair", GrantTypes: code, Scope: "openid profile email"}}
}

// openStage starts a server on a database; empty: a SQLite file.
func openStage(t *testing.T, database string, changes ...func(*configs.Config)) *stage {
	t.Helper()
	st := &stage{office: &office{t: t, parties: map[string]*relyingParty{}}, ears: map[string]*ear{}, database: database,
		known: map[string]*part{}, owed: map[string]int{}}
	st.app = httptest.NewServer(http.HandlerFunc(st.callback))
	t.Cleanup(st.app.Close)
	for _, as := range bothServers {
		st.ears[as] = newEar(t)
	}
	fresh := st.database == ""
	if fresh {
		st.database = "sqlite:" + filepath.Join(t.TempDir(), "gatehouse.db")
	}
	st.open(t, nil, func(cfg *configs.Config) {
		if fresh {
			prepared.copy(t, cfg)
		}
		st.kek = cfg.KeyEncryptionKey
		for _, change := range changes {
			change(cfg)
		}
	})
	passwords, err := users.NewPasswords(0)
	if err != nil {
		t.Fatal(err)
	}
	if st.phc, err = passwords.Hash(t.Context(), stagePassword); err != nil {
		t.Fatal(err)
	}
	st.person(t, stageAdmin, users.RoleSessionAdmin)
	st.file = writeConfig(t, st.database, string(st.kek))
	return st
}

// open starts the server on the stage's database; nil: on a port of its own.
func (st *stage) open(t *testing.T, public net.Listener, change func(*configs.Config)) {
	t.Helper()
	st.testServer = startServer(t, serverOptions{Database: st.database, Public: public,
		Now: func() time.Time { return time.Now().Add(time.Duration(st.ahead.Load())) },
		Config: func(cfg *configs.Config) {
			cfg.Realms[defaultRealm].Users = nil
			for name, as := range cfg.AuthorizationServers {
				as.AccessToken.Lifetime = 24 * time.Hour // so that it is the ending that they die of
				as.Clients = nil
				for _, m := range stageClients(name) {
					as.Clients = append(as.Clients, st.client(t, name, as, m))
				}
			}
			change(cfg)
		}})
	for name, e := range st.ears {
		if e.issuer == "" { // it stays the same
			e.issuer = st.Issuer(name)
		}
	}
	var err error
	if st.realm, err = openRealm(st.Config, st.db, defaultRealm); err != nil {
		t.Fatal(err)
	}
}

// client completes the metadata of a client of the stage.
func (st *stage) client(t *testing.T, name string, as *configs.AuthorizationServer, m clients.Metadata) clients.Metadata {
	t.Helper()
	m.ClientSecret = officeSecret(name, m.ClientID)
	if slices.Contains(m.GrantTypes, clients.GrantAuthorizationCode) {
		m.RedirectURIs = []string{st.app.URL + "/" + name + "/" + m.ClientID}
		m.PostLogoutRedirectURIs = []string{st.app.URL + byePath + m.ClientID}
		m.BackchannelLogoutURI = st.ears[name].URL + "/" + m.ClientID
	}
	m.Defaults(as.AccessToken.Format)
	if faults := m.Validate(); len(faults) > 0 {
		t.Fatalf("client %s: %v", m.ClientID, faults)
	}
	return m
}

// person adds an account and returns its id.
func (st *stage) person(t *testing.T, name string, roles ...string) string {
	t.Helper()
	u := newUser(name, time.Now)
	u.Password, u.Roles = st.phc, roles
	if err := st.realm.InsertUser(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	return u.ID
}

// operate runs a command on the stage's database.
func (st *stage) operate(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	code, stdout, stderr := command(t, stdin, append(args, "--config", st.file)...)
	if code != exitOK {
		t.Fatalf("gatehouse %s: exit %d: %s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

// part is what one client holds of one session.
type part struct {
	rp                       *relyingParty
	browser                  *browser
	user                     string // id
	sid, subject             string
	access, refresh, idToken string // refresh is empty where the client gets none
	code                     string // redeemed
	sent                     sentOff
	over                     *outcome // how the session ended; nil while it lives
}

// enter signs a browser's user in at a client.
func (st *stage) enter(t *testing.T, user string, b *browser, rp *relyingParty, options ...oauth2.AuthCodeOption) *part {
	t.Helper()
	p := &part{rp: rp, browser: b, user: user}
	p.code, p.sent = rp.Code(b, options...)
	p.take(t, rp.Redeem(t, p.code, p.sent))
	var claims struct {
		Sub, SID string
	}
	if err := json.Unmarshal(unbase64(strings.Split(p.idToken+"..", ".")[1]), &claims); err != nil || claims.SID == "" {
		t.Fatalf("%s: the ID token's claims are %+v, %v", rp.ClientID, claims, err)
	}
	p.sid, p.subject = claims.SID, claims.Sub
	if st.known[p.sid] == nil {
		st.known[p.sid] = p
	}
	return p
}

// take takes the tokens of an answer.
func (p *part) take(t *testing.T, r reply) {
	t.Helper()
	if r.status != http.StatusOK {
		t.Fatalf("%s gets no tokens: %s", p.rp.ClientID, r)
	}
	p.access, _ = r.json["access_token"].(string)
	p.refresh, _ = r.json["refresh_token"].(string)
	if id, _ := r.json["id_token"].(string); id != "" {
		p.idToken = id
	}
}

// scene is a person with two browsers, signed in at two clients and at one of
// another authorization server in the one, and at one in the other; and a
// neighbour, who is not to notice anything.
type scene struct {
	*stage
	t           *testing.T
	id, name    string // of the person
	newcomer    string // id of somebody else; set by the scenes that have one
	here, there *browser
	parts       map[string]*part // by name
}

// newScene plays it. Before the second browser and the neighbour come in,
// between is called, unless it is nil.
func newScene(t *testing.T, st *stage, between func(*scene)) *scene {
	t.Helper()
	st.people++
	s := &scene{stage: st, t: t, name: fmt.Sprintf("player-%d", st.people), here: newBrowser(t), there: newBrowser(t), parts: map[string]*part{}}
	s.id = st.person(t, s.name)
	s.here.As(s.name, stagePassword)
	s.there.As(s.name, stagePassword)
	s.parts["album"] = st.enter(t, s.id, s.here, st.party("myAS", "album"))
	s.parts["calendar"] = st.enter(t, s.id, s.here, st.party("myAS", "calendar"))
	s.parts["kiosk"] = st.enter(t, s.id, s.here, st.party("partnerAS", "kiosk"))
	if between != nil {
		between(s)
	}
	s.parts["phone"] = st.enter(t, s.id, s.there, st.party("myAS", "album"))
	if st.neighbour == nil {
		// The stage's, so that he has been there for all that happened on it.
		b := newBrowser(st.t).As("neighbour", stagePassword)
		st.neighbour = st.enter(t, st.person(t, "neighbour"), b, st.party("myAS", "album"))
	}
	s.parts["neighbour"] = st.neighbour
	return s
}

// use refreshes the tokens of parts that have refresh tokens, which is a use of
// their sessions.
func (s *scene) use(names ...string) {
	s.t.Helper()
	for _, name := range names {
		if p := s.parts[name]; p.refresh != "" {
			p.take(s.t, p.rp.Refresh(s.t, p.refresh))
		}
	}
}

// api sends a request to the session API with a part's access token.
func (s *scene) api(method, path string, p *part) reply {
	s.t.Helper()
	return inquire(s.t, method, p.rp.issuer+path, inquiry{bearer: p.access})
}

// users sends a request to the users dialect with a person's password.
func (s *scene) users(method, path, person string) reply {
	s.t.Helper()
	return inquire(s.t, method, s.URL+usersAPIPath+path, inquiry{id: person, secret: stagePassword})
}

// must fails the scene where an answer has another status.
func (s *scene) must(r reply, status int) reply {
	s.t.Helper()
	if r.status != status {
		s.t.Fatalf("answered %s, want %d", r, status)
	}
	return r
}

// entry is the id of the line in the person's list that a part stands in.
func (s *scene) entry(name string) string {
	s.t.Helper()
	var list struct {
		Sessions []struct {
			ID           string
			Applications []struct{ SessionIDs []string }
		}
	}
	r := s.must(s.users(http.MethodGet, "/me/sessions", s.name), http.StatusOK)
	if err := json.Unmarshal([]byte(r.body), &list); err != nil {
		s.t.Fatal(err)
	}
	for _, e := range list.Sessions {
		for _, a := range e.Applications {
			if slices.Contains(a.SessionIDs, s.parts[name].sid) {
				return e.ID
			}
		}
	}
	s.t.Fatalf("%s is not in %s", name, r)
	return ""
}

// press opens a page, fills in its form that goes to path, and sends it; the
// answer must lead somewhere.
func (s *scene) press(b *browser, address, path string, values url.Values) {
	s.t.Helper()
	page := b.Page(s.URL + address)
	for _, f := range forms(page) {
		if f.action.Path != path {
			continue
		}
		for name, value := range values {
			if !f.has(name) {
				s.t.Fatalf("the form at %s has no field %s", address, name)
			}
			f.values[name] = value
		}
		req, err := f.request(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		res, err := b.visitor.do(req)
		if err != nil {
			s.t.Fatal(err)
		}
		if res.StatusCode != http.StatusSeeOther {
			s.t.Fatalf("the form at %s is answered %s: %s", address, res.Status, text(s.t, res))
		}
		return
	}
	s.t.Fatalf("%s at %s has no form that goes to %s", page.Status, address, path)
}
