//go:build unix

package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// ear is the back-channel end of many clients at once, each at a path of its
// id. It verifies what it is told by independent code.
type ear struct {
	URL    string
	issuer string // set before something is told
	t      testing.TB

	mu      sync.Mutex
	server  *httptest.Server
	answer  func(client string, nth int) int // status for the nth time that a client is told the same; 0: none, ever
	heard   []logoutHeard
	times   map[string]int                   // by jti
	provide map[string]*oidc.IDTokenVerifier // by client
	asked   *oidc.Provider                   // the issuer, when it was asked about itself
}

// logoutHeard is one logout token that was good.
type logoutHeard struct {
	Client, ID, SID, Subject string
	Status                   int // of the answer
}

// newEar listens from now on, and acknowledges everything.
func newEar(t testing.TB) *ear {
	t.Helper()
	e := &ear{t: t, times: map[string]int{}, provide: map[string]*oidc.IDTokenVerifier{}, answer: func(string, int) int { return http.StatusOK }}
	e.open(listenLoopback(t))
	t.Cleanup(e.close)
	return e
}

func (e *ear) open(l net.Listener) {
	server := httptest.NewUnstartedServer(e)
	server.Listener.Close()
	server.Listener = l
	server.Start()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.URL, e.server = server.URL, server
}

// close goes away: connections are refused.
func (e *ear) close() {
	e.mu.Lock()
	server := e.server
	e.server = nil
	e.mu.Unlock()
	if server != nil {
		server.CloseClientConnections()
		server.Close()
	}
}

// back listens again where it was.
func (e *ear) back() {
	e.t.Helper()
	l, err := net.Listen("tcp", strings.TrimPrefix(e.URL, "http://"))
	if err != nil {
		e.t.Fatal(err)
	}
	e.open(l)
}

// answers changes what it answers.
func (e *ear) answers(answer func(client string, nth int) int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func (e *ear) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	client := strings.TrimPrefix(r.URL.Path, "/")
	told := r.PostFormValue("logout_token") // read to its end, so that the server sees a sender that hangs up
	verifier, err := e.verifier(r, client)
	if err != nil {
		if hungUp(r) {
			return // it was killed while it was asked
		}
		e.t.Errorf("asking the issuer: %v", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	token, err := verifier.VerifyLogout(e.t.Context(), told)
	if err != nil && hungUp(r) || r.Context().Err() != nil {
		return // it was killed while it was asked
	}
	if err != nil || r.Method != http.MethodPost || len(r.PostForm) != 1 || token.SessionID == "" || token.Subject == "" {
		e.t.Errorf("%s was told %+v: %v", client, token, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	e.times[token.TokenID]++
	status := e.answer(client, e.times[token.TokenID])
	e.heard = append(e.heard, logoutHeard{client, token.TokenID, token.SessionID, token.Subject, status})
	e.mu.Unlock()
	if status == 0 {
		<-r.Context().Done()
		return
	}
	w.WriteHeader(status)
}

func (e *ear) verifier(r *http.Request, client string) (*oidc.IDTokenVerifier, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.asked == nil {
		// Not bound to the request: the key set is asked for later too.
		provider, err := oidc.NewProvider(e.t.Context(), e.issuer)
		if err != nil {
			return nil, err
		}
		e.asked = provider
	}
	if e.provide[client] == nil {
		e.provide[client] = e.asked.Verifier(&oidc.Config{ClientID: client})
	}
	return e.provide[client], nil
}

// all is what was heard.
func (e *ear) all() []logoutHeard {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.heard)
}

// told counts, for each session, the acknowledged messages.
func (e *ear) told() map[string]int {
	found := map[string]int{}
	for _, h := range e.all() {
		if h.Status == http.StatusOK || h.Status == http.StatusNoContent {
			found[h.SID]++
		}
	}
	return found
}

// pollSlowly is poll that leaves the processor to the processes it waits for.
func pollSlowly(t *testing.T, what string, done func() bool) {
	t.Helper()
	poll(t, what, func() bool {
		if done() {
			return true
		}
		<-time.After(20 * time.Millisecond)
		return false
	})
}

// withToldParties registers parties (as withParties does) that are told of
// endings by an ear.
func withToldParties(parties []party, e *ear) func(string) string {
	return func(text string) string {
		text = withParties(parties)(text)
		for _, p := range parties {
			text = strings.Replace(text, fmt.Sprintf("{client_id: %s,", p.id), fmt.Sprintf("{client_id: %s, backchannel_logout_uri: %q,", p.id, e.URL+"/"+p.id), 1)
		}
		return text
	}
}

// hungUp tells whether whoever sent a request is gone, or goes within a moment:
// the end of a process is seen at one of its connections before another.
func hungUp(r *http.Request) bool {
	select {
	case <-r.Context().Done():
		return true
	case <-time.After(3 * time.Second):
		return false
	}
}
