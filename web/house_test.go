package web_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
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

const (
	alexPassword = "correct horse alex"
	bobPassword  = "correct horse bob"
	evil         = `"><script>alert(1)</script>`
)

// house is a realm with its pages and one authorization server on a SQLite
// file, reached over HTTP.
type house struct {
	t         *testing.T
	db        *storage.DB
	realm     *storage.Realm
	passwords *users.Passwords
	manager   *sessions.Manager
	server    *oauth.Server
	pages     *web.Pages
	base      string // of the pages
	issuer    string
	later     atomic.Int64 // how far time has been moved on
	log       *journal
}

// journal is a log that can be read while it is written.
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

func (h *house) now() time.Time       { return time.Now().Add(time.Duration(h.later.Load())) }
func (h *house) wait(d time.Duration) { h.later.Add(int64(d)) }

var houseLifetimes = sessions.Lifetimes{
	LoginIdle: 24 * time.Hour, LoginAbsolute: 720 * time.Hour, SessionIdle: 24 * time.Hour, SessionAbsolute: 720 * time.Hour,
	OfflineIdle: 720 * time.Hour, OfflineAbsolute: 8760 * time.Hour, RefreshGrace: 10 * time.Second,
}

// open builds a house; change may alter the configuration of its pages.
func open(t *testing.T, change func(*web.Config)) *house {
	t.Helper()
	return openRealm(t, storage.RealmConfig{}, change)
}

// openRealm builds a house with a realm of its own rules.
func openRealm(t *testing.T, rules storage.RealmConfig, change func(*web.Config)) *house {
	t.Helper()
	ctx := context.Background()
	h := &house{t: t, log: &journal{}}
	logger := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	h.db, err = storage.Open(ctx, storage.Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "house.db"), MaxConnections: storagetest.Connections(t), Now: h.now, Logger: logger})
	must(err)
	t.Cleanup(func() { _ = h.db.Close() })
	must(h.db.Migrate(ctx))
	rules.Name, rules.Lifetimes, rules.Servers = "default", houseLifetimes, map[string]sessions.Lifetimes{"myAS": houseLifetimes}
	h.realm = h.db.Realm(rules)
	store := h.db.For(storage.ServerConfig{Name: "myAS", Realm: "default", Lifetimes: houseLifetimes})
	h.manager = &sessions.Manager{Realm: h.realm, Now: h.now}
	h.passwords, err = users.NewPasswords(1)
	must(err)
	h.addUser("alex", alexPassword, "Alex")
	h.addUser("bob", bobPassword, "Bob "+evil)

	static := []clients.Client{houseClient("album", "Photo Album"), houseClient("evil", evil), houseClient("house", "House"), houseClient("brief", "Brief"),
		houseClient("long", "Donaudampfschifffahrtsgesellschaft: Fahrpläne & Fahrkarten")}
	static[0].LogoURI = "https://cdn.example/logo.png"
	static[1].LogoURI = "https://broken.example/logo.png"
	static[0].PolicyURI = "https://album.example/privacy"
	static[0].ClientURI, static[0].TosURI = "javascript:alert(1)", "ftp://album.example/terms"
	static[2].SkipConsent = true
	static[2].FrontchannelLogoutURI = "https://house.example/front"
	static[3].GrantTypes = []string{"authorization_code"}
	static[4].Scope += " phone address photos:write files.readwrite.all:including_shared_ones"
	static[4].ClientURI, static[4].PolicyURI, static[4].TosURI = "https://long.example/", "https://long.example/privacy", "https://long.example/terms"
	for i := range static {
		static[i].Static = true
	}
	_, err = store.SyncStatic(ctx, static)
	must(err)

	kek, err := keys.NewKEK(keys.GenerateKEK())
	must(err)
	ring, err := keys.Open(ctx, keys.Config{Store: store, KEK: kek, Owner: "as:myAS", Now: h.now})
	must(err)

	router := mux.NewRouter()
	server := httptest.NewServer(router)
	t.Cleanup(server.Close)
	h.base, h.issuer = server.URL+"/realms/default", server.URL+"/authorization-servers/myAS"

	servers := map[string]*oauth.Server{}
	cookie := sessions.Cookie{Realm: "default"}
	cfg := web.Config{
		Audit: h.realm, Uses: h.realm,
		Directory: &sessions.Directory{Manager: h.manager, Store: h.realm, Past: h.realm},
		MAC: func(text []byte) []byte {
			m := hmac.New(sha256.New, []byte("key of the house"))
			m.Write(text)
			return m.Sum(nil)
		},
		Realm: "default", Base: h.base, Servers: servers, Users: h.realm, Passwords: h.passwords, Logins: h.realm,
		Sessions: h.manager, Cookie: cookie, Lifetimes: houseLifetimes, Remember: true,
		RequestID: func(context.Context) string { return "request-4711" }, Now: h.now, Logger: logger,
	}
	if change != nil {
		change(&cfg)
	}
	h.pages, err = web.New(cfg)
	must(err)
	h.server, err = oauth.New(oauth.Config{
		Name: "myAS", Issuer: h.issuer, Keys: ring, Store: store, Logins: h.realm, Cookie: cookie, Static: static,
		Sessions:           &sessions.Manager{Store: store, Realm: h.realm, Now: h.now},
		FrontChannelLogout: true,
		Lifetimes:          houseLifetimes, Now: h.now, Logger: logger, Resources: []oauth.Resource{{Identifier: "https://api.example/photos/v1"}},
		Pages: oauth.Pages{Login: h.base + "/login", Consent: h.base + "/consent", Logout: h.base + "/logout", Error: h.pages.Error, CookiesBlocked: h.pages.CookiesBlocked},
	})
	must(err)
	servers["myAS"] = h.server
	h.server.Mount(router.PathPrefix("/authorization-servers/myAS").Subrouter())
	h.pages.Mount(router.PathPrefix("/realms/default").Subrouter())

	t.Cleanup(func() {
		for _, secret := range []string{alexPassword, bobPassword, "stamp=", "gatehouse-default=", "client_id="} {
			if strings.Contains(h.log.String(), secret) {
				t.Errorf("the log has %q:\n%s", secret, h.log)
			}
		}
	})
	return h
}

func houseClient(id, name string) clients.Client {
	c := clients.Client{Metadata: clients.Metadata{
		ClientID: id, ClientSecret: id + "-secret-of-the-house", ClientName: name,
		RedirectURIs: []string{"https://" + id + ".example/callback"}, PostLogoutRedirectURIs: []string{"https://" + id + ".example/bye"}, Scope: "openid profile email offline_access photos:read",
		GrantTypes: []string{"authorization_code", "refresh_token"},
	}}
	c.Defaults(clients.FormatJWT)
	return c
}

func (h *house) addUser(name, password, shown string) {
	h.t.Helper()
	phc, err := h.passwords.Hash(context.Background(), password)
	if err != nil {
		h.t.Fatal(err)
	}
	err = h.realm.InsertUser(context.Background(), &users.User{ID: uuid.NewString(), Username: name, Password: phc,
		Claims: users.Claims{Name: shown}, Salt: make([]byte, 32), CreatedAt: h.now()})
	if err != nil {
		h.t.Fatal(err)
	}
}

// lock locks an account, as an operator does.
func (h *house) lock(name string) {
	h.t.Helper()
	id := h.userID(name)
	if _, err := h.manager.End(context.Background(), sessions.Target{User: id}, sessions.Ending{
		By: sessions.Actor{Kind: sessions.ActorOperator, ID: "test"}, Reason: sessions.ReasonUserLocked,
		Effects: []sessions.Effect{sessions.LockUser{UserID: id}}}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) userID(name string) string {
	h.t.Helper()
	u, err := h.realm.UserByName(context.Background(), name)
	if err != nil {
		h.t.Fatal(err)
	}
	return u.ID
}

// logins are the user's live ones.
func (h *house) logins(name string) []sessions.Login {
	h.t.Helper()
	list, err := h.realm.Logins(context.Background(), h.userID(name))
	if err != nil {
		h.t.Fatal(err)
	}
	return list
}

// request is an authorization request of a client, with parameters changed.
func (h *house) request(client string, change ...string) string {
	q := url.Values{"client_id": {client}, "response_type": {"code"}, "scope": {"openid profile photos:read"}, "state": {"st-1"},
		"nonce": {"nonce-1"}, "redirect_uri": {"https://" + client + ".example/callback"}}
	for i := 0; i < len(change); i += 2 {
		q.Set(change[i], change[i+1])
	}
	return h.issuer + "/authorize?" + q.Encode()
}

// stamp is the stamp in a URL of /authorize or of a page.
func (h *house) stamp(at string) oauth.Stamp {
	h.t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		h.t.Fatal(err)
	}
	q := u.Query()
	if !q.Has("stamp") {
		sealed := q.Get("gatehouse_stamp")
		q.Del("gatehouse_stamp")
		q = url.Values{"as": {"myAS"}, "stamp": {sealed}, "request": {q.Encode()}}
	}
	i, err := h.server.Interaction(context.Background(), httptest.NewRequest(http.MethodGet, "/login?"+q.Encode(), nil))
	if err != nil {
		h.t.Fatalf("no stamp in %s: %v", at, err)
	}
	return i.Stamp
}

// browser is one person's, with its own cookies.
type browser struct {
	h      *house
	client *http.Client
	accept string // Accept-Language
	agent  string // User-Agent. Default: of a test
}

func (h *house) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return &browser{h: h, client: &http.Client{Jar: jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// answer is what came back.
type answer struct {
	t      *testing.T
	url    string // that was asked
	status int
	header http.Header
	body   string
}

func (a answer) location() string { return a.header.Get("Location") }

// said is where the answer leads, without the seal of what is said there.
func (a answer) said() string {
	return regexp.MustCompile(`\b((?:done|ended)=[a-z0-9]+)\.[^&]*`).ReplaceAllString(a.location(), "$1")
}

// follow goes where an answer leads.
func (b *browser) follow(a answer) answer {
	b.h.t.Helper()
	here, err := url.Parse(a.url)
	if err == nil {
		here, err = here.Parse(a.location())
	}
	if err != nil || a.status != http.StatusSeeOther {
		b.h.t.Fatalf("%d to %q, %v\n%s", a.status, a.location(), err, a.body)
	}
	return b.get(here.String())
}

// do sends one request; header are pairs.
func (b *browser) do(method, to, body string, header ...string) answer {
	b.h.t.Helper()
	req, err := http.NewRequest(method, to, strings.NewReader(body))
	if err != nil {
		b.h.t.Fatal(err)
	}
	req.Header.Set("User-Agent", cmp.Or(b.agent, "Mozilla/5.0 (test)"))
	if b.accept != "" {
		req.Header.Set("Accept-Language", b.accept)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i+1] == "" {
			req.Header.Del(header[i])
		} else {
			req.Header.Set(header[i], header[i+1])
		}
	}
	res, err := b.client.Do(req)
	if err != nil {
		b.h.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.h.t.Fatal(err)
	}
	return answer{b.h.t, to, res.StatusCode, res.Header, string(text)}
}

// get follows redirects as long as they stay in the house.
func (b *browser) get(to string) answer {
	b.h.t.Helper()
	house, _, _ := strings.Cut(b.h.base, "/realms/")
	for range 10 {
		a := b.do(http.MethodGet, to, "")
		next, err := url.Parse(a.location())
		if err != nil {
			b.h.t.Fatal(err)
		}
		if a.status != http.StatusSeeOther {
			return a
		}
		here, _ := url.Parse(to)
		if to = here.ResolveReference(next).String(); !strings.HasPrefix(to, house+"/") {
			return a
		}
	}
	b.h.t.Fatalf("too many redirects, the last to %s", to)
	return answer{}
}

var (
	formAction = regexp.MustCompile(`<form method="post" action="([^"]*)"`)
	hidden     = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
)

// form reads the page's form: where it goes and its hidden fields, with more.
func (a answer) form(more ...string) (string, url.Values) {
	a.t.Helper()
	m := formAction.FindStringSubmatch(a.body)
	if m == nil {
		a.t.Fatalf("%d without a form:\n%s", a.status, a.body)
	}
	here, err := url.Parse(a.url)
	if err != nil {
		a.t.Fatal(err)
	}
	to, err := here.Parse(html.UnescapeString(m[1]))
	if err != nil {
		a.t.Fatal(err)
	}
	v := url.Values{}
	for _, f := range hidden.FindAllStringSubmatch(a.body, -1) {
		v.Set(html.UnescapeString(f[1]), html.UnescapeString(f[2]))
	}
	for i := 0; i < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return to.String(), v
}

// submit posts the page's form.
func (b *browser) submit(page answer, more ...string) answer {
	b.h.t.Helper()
	to, v := page.form(more...)
	return b.do(http.MethodPost, to, v.Encode())
}

// signIn goes from an authorization request through the sign-in page.
func (b *browser) signIn(request, username, password string) answer {
	b.h.t.Helper()
	a := b.submit(b.get(request), "username", username, "password", password)
	if a.status != http.StatusSeeOther {
		b.h.t.Fatalf("signing in: %d\n%s", a.status, a.body)
	}
	return a
}

// expect fails unless the answer has the status and every text.
func (a answer) expect(status int, texts ...string) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d\n%s", a.status, status, a.body)
	}
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			a.t.Errorf("page lacks %q:\n%s", text, a.body)
		}
	}
	return a
}
