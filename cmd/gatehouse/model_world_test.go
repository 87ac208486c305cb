//go:build unix

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"pgregory.net/rapid"

	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

// world is one sequence: three users of its own, three browsers, and the model
// of what happened.
type world struct {
	*model
	house     *modelHouse
	t         *rapid.T
	transport *modelTransport
	users     []*modelUser
	clients   []*modelClient
	browsers  []*modelBrowser
	messages  map[string]*modelMessage // what is known of the outbox, by id
	began     time.Time
	taken     int    // steps
	notes     string // what the present step did
}

type modelBrowser struct {
	n     int
	by    *visitor
	login *modelLogin // its present one, live or not
}

// newWorld begins a sequence, at a full second later than everything before.
func newWorld(t *rapid.T, h *modelHouse) *world {
	h.sequences++
	now := h.clock.Now()
	h.clock.Advance(now.Truncate(time.Second).Add(time.Second).Sub(now))
	w := &world{model: &model{now: h.clock.Now(), consents: map[modelConsent]bool{}}, house: h, t: t,
		transport: &modelTransport{house: h, address: h.address()}, messages: map[string]*modelMessage{}, began: h.clock.Now()}
	w.clients = h.clients()
	h.present = map[string]bool{}
	for i := range 3 {
		u := newUser(fmt.Sprintf("user-%d-%d", h.sequences, i), h.clock.Now)
		u.Password = h.phcs[0]
		if err := h.nodes[0].realm.InsertUser(t.Context(), u); err != nil {
			w.fail("inserting a user: %v", err)
		}
		h.users[u.ID], h.present[u.ID] = true, true
		w.users = append(w.users, &modelUser{id: u.ID, name: u.Username, n: i})
		w.browsers = append(w.browsers, &modelBrowser{n: i, by: newVisitor(w.transport, "", "")})
	}
	return w
}

// fail ends the sequence. What it says must be the same when the sequence is
// repeated, so no tokens and ids stand in it.
func (w *world) fail(format string, args ...any) {
	w.show()
	w.t.Fatalf("after step %d: %s", w.taken, fmt.Sprintf(format, args...))
}

// note adds to what is shown of the present step.
func (w *world) note(format string, args ...any) {
	if w.notes != "" {
		w.notes += "; "
	}
	w.notes += fmt.Sprintf(format, args...)
}

// show logs the present step, unless it did nothing.
func (w *world) show() {
	if w.notes != "" {
		w.t.Logf("%3d  %s  %s", w.taken, w.now.Format("02T15:04:05.000"), w.notes)
	}
	w.notes = ""
}

// did counts what was done.
func (w *world) did(what string) { w.house.done[what]++ }

// wait lets time pass. The batches of the time before were written by then.
func (w *world) wait(by time.Duration) {
	for _, n := range w.house.nodes {
		n.flush(w.t.Context())
	}
	w.house.clock.Advance(by)
	w.model.move(by)
}

// tick keeps two steps from having the same time.
func (w *world) tick() {
	w.house.clock.Advance(time.Millisecond)
	w.model.move(time.Millisecond)
}

// modelAnswer is an answer of a protocol endpoint or of the session API.
type modelAnswer struct {
	status  int
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
	Error   string `json:"error"`
	Active  bool   `json:"active"`
	SID     string `json:"sid"`
	Data    json.RawMessage
}

// send sends a request to the present node.
func (w *world) send(method, address string, form url.Values, authorize func(*http.Request)) modelAnswer {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, address, body)
	if err != nil {
		w.fail("%s: %v", method, err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	authorize(req)
	res, err := w.transport.RoundTrip(req)
	if err != nil {
		w.fail("%s: %v", method, err)
	}
	answer := modelAnswer{status: res.StatusCode}
	text, err := io.ReadAll(res.Body)
	// Errors of the session API are lists where those of OAuth 2.0 are texts.
	if err == nil && len(bytes.TrimSpace(text)) > 0 && res.StatusCode < http.StatusInternalServerError {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil || res.StatusCode >= http.StatusInternalServerError {
		w.fail("%s %s is answered with %d: %v", method, req.URL.Path, res.StatusCode, err)
	}
	return answer
}

// issuer is the issuer of an authorization server.
func (w *world) issuer(s *modelServer) string { return w.house.cfg.Issuer(s.name) }

// asClient sends a form as a client: pairs of name and value.
func (w *world) asClient(c *modelClient, path string, pairs ...string) modelAnswer {
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	if c.public {
		form.Set("client_id", c.id)
	}
	return w.send(http.MethodPost, w.issuer(c.server)+path, form, func(r *http.Request) {
		if !c.public {
			r.SetBasicAuth(c.id, c.secret)
		}
	})
}

// withToken sends a request with an access token.
func (w *world) withToken(t *modelToken, method, path string) modelAnswer {
	return w.send(method, w.issuer(t.grant.session.client.server)+path, nil, func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+t.value)
	})
}

// asInspector introspects a token.
func (w *world) asInspector(t *modelToken) modelAnswer {
	inspector := &modelClient{id: modelInspector, secret: modelInspector + "-secret", server: t.grant.session.client.server}
	return w.asClient(inspector, "/introspect", "token", t.value)
}

// modelWay is where an authorization request led to.
type modelWay struct {
	code, failure string
	signIn        bool // to the sign-in page, which nobody filled in
}

// open opens an authorization request in a browser. Consent is given where
// it is asked for; the sign-in page is filled in if username is not empty.
func (w *world) open(b *modelBrowser, request, username, password string) modelWay {
	b.by.username, b.by.password = username, password
	home := w.house.cfg.PublicURL
	next := func() (*http.Request, error) {
		return http.NewRequestWithContext(w.t.Context(), http.MethodGet, request, nil)
	}
	last := ""
	busy := 0
	for range 24 {
		req, err := next()
		if err != nil {
			w.fail("request of a browser: %v", err)
		}
		res, err := b.by.do(req)
		if err != nil {
			w.fail("request of a browser: %v", err)
		}
		if res.StatusCode == http.StatusServiceUnavailable && req.URL.Path == "/login" && busy < 10 {
			// Passwords are checked one after the other within a bounded time,
			// which a machine with other work may exceed: nothing was done.
			busy++
			continue
		}
		if res.StatusCode >= http.StatusInternalServerError {
			w.fail("a browser's %s %s is answered with %d", req.Method, req.URL.Path, res.StatusCode)
		}
		if to, err := res.Location(); err == nil && res.StatusCode/100 == 3 {
			switch {
			case to.Scheme+"://"+to.Host != home:
				return modelWay{code: to.Query().Get("code"), failure: to.Query().Get("error")}
			case to.Path == "/login" && username == "":
				return modelWay{signIn: true}
			}
			next = func() (*http.Request, error) {
				return http.NewRequestWithContext(w.t.Context(), http.MethodGet, to.String(), nil)
			}
			continue
		}
		f, wanted := b.by.fill(res)
		if f == nil || wanted == last {
			return modelWay{failure: fmt.Sprintf("page %s with %d", req.URL.Path, res.StatusCode)}
		}
		last = wanted
		next = func() (*http.Request, error) { return f.request(w.t.Context()) }
	}
	return modelWay{failure: "no end"}
}

// request is the URL of an authorization request.
func (w *world) request(c *modelClient, offline bool, prompt string) string {
	challenge := sha256.Sum256([]byte(pkceVerifier))
	query := url.Values{"response_type": {"code"}, "client_id": {c.id}, "redirect_uri": {c.redirectURI}, "scope": {"openid"}, "state": {"a-state"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"}}
	if offline {
		query.Set("scope", "openid offline_access")
	}
	if prompt != "" {
		query.Set("prompt", prompt)
	}
	return w.issuer(c.server) + "/authorize?" + query.Encode()
}

// cookie is the login cookie of the realm, and where it belongs.
func (w *world) cookie() (sessions.Cookie, *url.URL) {
	home, err := url.Parse(w.house.cfg.PublicURL)
	if err != nil {
		w.fail("public URL: %v", err)
	}
	return sessions.Cookie{Realm: defaultRealm}, home
}

// present is the browser's login as the pages find it; nil where it has none.
func (w *world) present(b *modelBrowser) *sessions.Login {
	cookie, home := w.cookie()
	req := &http.Request{Header: http.Header{}}
	for _, c := range b.by.client.Jar.Cookies(home) {
		req.AddCookie(c)
	}
	hash := cookie.Hash(req)
	if hash == nil {
		return nil
	}
	login, err := w.here().realm.LoginByCookie(w.t.Context(), hash)
	if err != nil && !errors.Is(err, sessions.ErrNotFound) {
		w.fail("reading a login: %v", err)
	}
	return login
}

// here is the present node.
func (w *world) here() *modelNode { return w.house.nodes[w.transport.node] }

// signIn records a sign-in as the sign-in page does once it knows the password,
// which takes too long to be typed every time. It reports whether the user was
// taken.
func (w *world) signIn(b *modelBrowser, u *modelUser) bool {
	cookie, home := w.cookie()
	value, hash := cookie.New()
	in := sessions.SignIn{UserID: u.id, AuthTime: w.now, AMR: []string{"pwd"}, Address: "10.0.0.1", UserAgent: "a browser",
		CookieHash: hash, ExpiresAt: w.now.Add(modelLoginLifetime)}
	if before := w.present(b); before != nil {
		in.Current = before.ID
	}
	_, err := w.here().realm.SignIn(w.t.Context(), in, sessions.Ending{
		By: sessions.Actor{Kind: sessions.ActorUser, ID: u.id}, Reason: sessions.ReasonOtherUser, At: w.now})
	if locked := errors.Is(err, sessions.ErrUserLocked) || errors.Is(err, users.ErrLocked); locked != u.locked || (err != nil && !locked) {
		w.fail("user %d (locked: %v) signs in at browser %d: %v", u.n, u.locked, b.n, err)
	}
	if err != nil {
		w.note("user %d is locked and can't sign in at browser %d", u.n, b.n)
		return false
	}
	b.by.client.Jar.SetCookies(home, []*http.Cookie{{Name: cookie.Name(), Value: value, Path: "/"}})
	w.note("user %d signs in at browser %d", u.n, b.n)
	w.signedIn(b, u)
	return true
}

// signedIn tells the model of a sign-in.
func (w *world) signedIn(b *modelBrowser, u *modelUser) {
	before := b.login
	b.login = w.model.signIn(u, before)
	login := w.present(b)
	if login == nil || login.UserID != u.id {
		w.fail("browser %d has no login of user %d after the sign-in", b.n, u.n)
	}
	if b.login == before && login.ID != before.id {
		w.fail("browser %d has another login after the same user has signed in again", b.n)
	}
	if b.login != before && before != nil && login.ID == before.id {
		w.fail("browser %d goes on with a login that is over", b.n)
	}
	b.login.id = login.ID
	w.did("sign-in")
}
