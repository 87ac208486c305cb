package jsonapi

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gorilla/mux"

	"gatehouse.dev/gatehouse/sessions"
)

const (
	testBase = "https://id.example/authorization-servers/myAS"

	phoneID   = "kQBhsGhsBfrhUx8t8jBKLfobSZyK4bDA6wTddCRc" // alex, oidc-client: the caller's own
	laptopID  = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" // alex, oidc-client
	albumID   = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" // alex, photo-album
	endedID   = "cccccccccccccccccccccccccccccccccccccccc" // alex, ended
	foreignID = "dddddddddddddddddddddddddddddddddddddddd" // kim, oidc-client
	unknownID = "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
)

// at reads a time of 2020-09-07.
func at(clock string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, "2020-09-07T"+clock+"Z")
	if err != nil {
		panic(err)
	}
	return t
}

// store keeps sessions in a map. Like PostgreSQL it fails on text that is not
// UTF-8 or holds a NUL.
type store struct {
	mu       sync.Mutex
	sessions map[string]*sessions.Session
	calls    []string // of every method, in order
	endings  []sessions.Ending
	longest  int   // id that was asked for, in bytes
	fail     error // of every call
}

func (s *store) begin(call, id string) error {
	s.calls = append(s.calls, call)
	s.longest = max(s.longest, len(id))
	if s.fail != nil {
		return s.fail
	}
	if !utf8.ValidString(id) || strings.Contains(id, "\x00") {
		return errors.New("invalid byte sequence for encoding UTF8")
	}
	return nil
}

func (s *store) Session(_ context.Context, id, userID string) (*sessions.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin("Session", id); err != nil {
		return nil, err
	}
	found, ok := s.sessions[id]
	if !ok || found.UserID != userID || found.Ended != nil {
		return nil, sessions.ErrNotFound
	}
	c := *found
	return &c, nil
}

func (s *store) Sessions(_ context.Context, f sessions.Filter) ([]sessions.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin("Sessions", ""); err != nil {
		return nil, err
	}
	if f.UserID == "" || f.Limit == 0 || (f.After.ID != "" && f.Before.ID != "") {
		return nil, fmt.Errorf("filter %+v", f)
	}
	order := func(a, b sessions.Position) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), strings.Compare(a.ID, b.ID))
	}
	at := func(one sessions.Session) sessions.Position {
		return sessions.Position{CreatedAt: one.CreatedAt, ID: one.ID}
	}
	var list []sessions.Session
	for _, one := range s.sessions {
		if one.Ended == nil && one.UserID == f.UserID && (f.ClientID == "" || one.ClientID == f.ClientID) &&
			(f.After.ID == "" || order(f.After, at(*one)) < 0) && (f.Before.ID == "" || order(at(*one), f.Before) < 0) {
			list = append(list, *one)
		}
	}
	slices.SortFunc(list, func(a, b sessions.Session) int { return order(at(a), at(b)) })
	if f.Before.ID != "" {
		return list[max(0, len(list)-f.Limit):], nil
	}
	return list[:min(len(list), f.Limit)], nil
}

func (s *store) ChangeAttributes(_ context.Context, id, userID string, change map[string]*string) (*sessions.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin("ChangeAttributes", id); err != nil {
		return nil, err
	}
	found, ok := s.sessions[id]
	if !ok || found.UserID != userID || found.Ended != nil {
		return nil, sessions.ErrNotFound
	}
	attributes := maps.Clone(found.CustomAttributes)
	if attributes == nil {
		attributes = map[string]string{}
	}
	for name, value := range change {
		if value == nil {
			delete(attributes, name)
		} else {
			attributes[name] = *value
		}
	}
	found.CustomAttributes = attributes
	c := *found
	return &c, nil
}

func (s *store) End(_ context.Context, t sessions.Target, e sessions.Ending) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin("End", t.Session); err != nil {
		return 0, err
	}
	if t.OfUser == "" || t.All == (t.Session != "") {
		return 0, fmt.Errorf("target %+v", t)
	}
	n := 0
	for id, found := range s.sessions {
		if (t.All || id == t.Session) && id != t.Except && found.Ended == nil && found.UserID == t.OfUser && (t.OfClient == "" || found.ClientID == t.OfClient) {
			found.Ended = &sessions.Ended{At: e.At, By: e.By, Reason: e.Reason}
			n++
		}
	}
	if n == 0 {
		return 0, sessions.ErrNotFound
	}
	s.endings = append(s.endings, e)
	return n, nil
}

// realm is a store that this dialect has no business with: its methods panic.
type realm struct{ sessions.RealmStore }

// fixture is one authorization server's session API.
type fixture struct {
	t      testing.TB
	store  *store
	config Config
	caller sessions.Caller // who asks
	denied error           // of Config.Caller
	log    bytes.Buffer
}

// newFixture makes one whose answers are held against the contract.
func newFixture(t testing.TB) *fixture {
	f := &fixture{
		t:     t,
		store: &store{sessions: map[string]*sessions.Session{}},
		caller: sessions.Caller{UserID: "alex", ClientID: "oidc-client", SessionID: phoneID,
			Scopes: []string{"openid", "sessions.read", "sessions.manage"}},
	}
	now := func() time.Time { return at("14:07:54.086") }
	declared, err := sessions.NewAttributes([]sessions.Attribute{
		{Name: "deviceName", Pattern: ".{1,80}", Updatable: true}, {Name: "a/b~c", Updatable: true}, {Name: "color", Pattern: "red|blue", Updatable: true},
		{Name: "frozen", Pattern: "x*"}, {Name: "a", Updatable: true}, {Name: "b", Updatable: true}})
	if err != nil {
		panic(err)
	}
	f.config = Config{
		Base:      testBase,
		Manager:   &sessions.Manager{Store: f.store, Realm: &realm{}, Attributes: declared, Now: now},
		Caller:    func(*http.Request) (sessions.Caller, error) { return f.caller, f.denied },
		RequestID: func(context.Context) string { return "trace-1" },
		Now:       now,
		Logger:    slog.New(slog.NewTextHandler(&f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	f.add(phoneID, "alex", "oidc-client")
	f.add(laptopID, "alex", "oidc-client").CreatedAt = at("12:00:00")
	f.add(albumID, "alex", "photo-album").CreatedAt = at("11:00:00")
	f.add(endedID, "alex", "oidc-client").Ended = &sessions.Ended{}
	f.add(foreignID, "kim", "oidc-client")
	return f
}

func (f *fixture) add(id, user, client string) *sessions.Session {
	s := &sessions.Session{
		ID: id, UserID: user, ClientID: client, ClientName: strings.ToUpper(client), Subject: "secret-subject",
		LoginID: "secret-login", Scopes: []string{"openid", "email"}, AuthenticatedAt: at("13:43:22.890"),
		ConsentedAt: at("13:43:54.139"), CreatedAt: at("13:43:54.2"), LastUsedAt: at("14:07:00"),
		ExpiresAt: at("23:59:59.9999"), // truncated on the wire, never rounded into the next day
	}
	f.store.sessions[id] = s
	return s
}

// router mounts the handler as an authorization server does.
func (f *fixture) router() http.Handler {
	root := mux.NewRouter().SkipClean(true)
	New(f.config).Mount(root.PathPrefix("/authorization-servers/myAS").Subrouter())
	return root
}

// do sends a request; headers are names and values by turns.
func (f *fixture) do(method, target string, headers ...string) *httptest.ResponseRecorder {
	f.t.Helper()
	return f.send(method, target, "", headers...)
}

// send sends a request with a body.
func (f *fixture) send(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	f.t.Helper()
	r := httptest.NewRequest(method, testBase+target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	f.router().ServeHTTP(w, r)
	for _, fault := range contractFaults(method, target, w.Code, w.Header(), w.Body.Bytes()) {
		f.t.Errorf("%s %s: %d is not as the contract says: %s\n%s", method, target, w.Code, fault, w.Body)
	}
	return w
}

// checkHeaders are those of every answer.
func checkHeaders(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	want := map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Vary": "Accept",
		"Content-Type": "application/vnd.api+json", "Content-Length": fmt.Sprint(w.Body.Len())}
	if w.Code == http.StatusNoContent {
		want["Content-Type"], want["Content-Length"] = "", ""
		if w.Body.Len() > 0 {
			t.Errorf("204 with a body: %s", w.Body)
		}
	}
	for name, value := range want {
		if got := w.Header().Get(name); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
}

// ids lists the ids in a collection, in order.
func ids(t *testing.T, w *httptest.ResponseRecorder) []string {
	t.Helper()
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	var list []string
	for _, part := range strings.Split(w.Body.String(), `"type":"oauth2-session","id":"`)[1:] {
		id, _, _ := strings.Cut(part, `"`)
		list = append(list, id)
	}
	return list
}

func both(path string) []string { return []string{path, path + "/"} }
