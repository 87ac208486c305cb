//go:build unix

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"gatehouse.dev/gatehouse/deliveries"
)

// modelConcurrency is how many messages a node of the model's house sends at
// once.
const modelConcurrency = 16

// modelPost is the worker of a node that tells clients, and what the model has
// to know of it: when it has nothing left to do, and, where a node is to die
// before it notes what it has sent, what becomes of that.
type modelPost struct {
	deliveries.Store
	worker *deliveries.Worker
	idle   chan struct{} // gets a value when nothing is due and nothing is under way

	mu      sync.Mutex
	forgets map[string]bool // clients of which nothing is noted
}

func (h *modelHouse) newPost(t *testing.T, store deliveries.Store, all *assembly) *modelPost {
	t.Helper()
	p := &modelPost{Store: store, idle: make(chan struct{}, 1)}
	var err error
	p.worker, err = deliveries.New(deliveries.Config{
		Store: p, Signers: all.signers, Client: &http.Client{Transport: h.ear}, Now: h.clock.Now, Logger: slog.New(slog.DiscardHandler),
		Concurrency: modelConcurrency, Poll: 2 * time.Millisecond, Lease: modelLease, GiveUpAfter: modelGiveUp,
		Backoff: deliveries.Backoff{First: modelAgain, Most: modelAgain},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ClaimDeliveries implements deliveries.Store. A worker that may take as many as
// ever has nothing under way.
func (p *modelPost) ClaimDeliveries(ctx context.Context, c deliveries.Claiming) ([]deliveries.Delivery, error) {
	found, err := p.Store.ClaimDeliveries(ctx, c)
	if err == nil && len(found) == 0 && c.Limit == modelConcurrency {
		select {
		case p.idle <- struct{}{}:
		default:
		}
	}
	return found, err
}

// SettleDelivery implements deliveries.Store.
func (p *modelPost) SettleDelivery(ctx context.Context, d deliveries.Delivery, outcome deliveries.Outcome) error {
	p.mu.Lock()
	forgets := p.forgets[d.ClientID]
	p.mu.Unlock()
	if forgets {
		return nil
	}
	return p.Store.SettleDelivery(ctx, d, outcome)
}

// forget sets whose messages the node dies over.
func (p *modelPost) forget(clients map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgets = clients
}

// run has the worker send all that is due. It reports whether it came to an end.
func (p *modelPost) run(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	select {
	case <-p.idle: // of the last time
	default:
	}
	var running sync.WaitGroup
	running.Go(func() { p.worker.Run(ctx) })
	defer running.Wait()
	defer cancel()
	patience := time.NewTimer(time.Minute)
	defer patience.Stop()
	select {
	case <-p.idle:
		return true
	case <-patience.C:
		return false
	}
}

// modelHeard is what a client was told.
type modelHeard struct{ uri, id, client, server, sid, subject, alg string }

// modelEar is where all clients are told of endings: the transport of the
// workers. It verifies by independent code what it hears.
type modelEar struct {
	house *modelHouse
	keys  map[string]*oidc.RemoteKeySet // by authorization server

	mu     sync.Mutex
	answer func(modelHeard) modelFault
	heard  []modelHeard
	faults []string // what was wrong with what was heard
}

func newModelEar(ctx context.Context, h *modelHouse) *modelEar {
	e := &modelEar{house: h, keys: map[string]*oidc.RemoteKeySet{}}
	ctx = oidc.ClientContext(ctx, &http.Client{Transport: &modelTransport{house: h, address: "10.255.255.255:4711"}})
	for _, s := range []*modelServer{modelMyAS, modelPartnerAS} {
		e.keys[s.name] = oidc.NewRemoteKeySet(ctx, h.cfg.Issuer(s.name)+"/jwks")
	}
	return e
}

// listen forgets what was heard and answers so from now on.
func (e *modelEar) listen(answer func(modelHeard) modelFault) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer, e.heard, e.faults = answer, nil, nil
}

// all is what was heard, and what was wrong with it.
func (e *modelEar) all() ([]modelHeard, []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard, e.faults
}

// RoundTrip implements http.RoundTripper.
func (e *modelEar) RoundTrip(req *http.Request) (*http.Response, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	in, err := e.verify(req)
	if err != nil {
		e.faults = append(e.faults, fmt.Sprintf("%s %s: %v", req.Method, req.URL, err))
	}
	status, fault := http.StatusOK, noFault
	// Of a sequence that failed, messages may be left.
	if err == nil && (e.house.present[in.subject] || !e.house.users[in.subject]) {
		fault = e.answer(in)
		e.heard = append(e.heard, in)
	}
	switch fault {
	case isBroken:
		return nil, errors.New("the connection is broken")
	case isRefused:
		status = http.StatusServiceUnavailable
	}
	return &http.Response{StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

// verify judges a logout token as its client has to (OpenID Connect Back-Channel
// Logout 1.0 §2.5, §2.6).
func (e *modelEar) verify(req *http.Request) (modelHeard, error) {
	in := modelHeard{uri: req.URL.String()}
	if req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		return in, errors.New("not a posted form")
	}
	if err := req.ParseForm(); err != nil {
		return in, err
	}
	token := req.PostForm.Get("logout_token")
	if len(req.PostForm) != 1 || len(req.PostForm["logout_token"]) != 1 {
		return in, errors.New("not a logout token alone")
	}
	host, _, _ := strings.Cut(req.URL.Host, ".")
	in.client = host
	var c *modelClient
	for _, each := range e.house.clients() {
		if each.id == host {
			c = each
		}
	}
	if c == nil {
		return in, errors.New("nobody is there")
	}
	in.server, in.alg = c.server.name, c.alg
	encoded, _, _ := strings.Cut(token, ".")
	header, err := base64.RawURLEncoding.DecodeString(encoded)
	var h struct{ Typ string }
	if err == nil {
		err = json.Unmarshal(header, &h)
	}
	if err != nil || h.Typ != "logout+jwt" {
		return in, fmt.Errorf("type %q: %w", h.Typ, err)
	}
	verifier := oidc.NewVerifier(e.house.cfg.Issuer(c.server.name), e.keys[c.server.name],
		&oidc.Config{ClientID: c.id, SupportedSigningAlgs: []string{c.alg}, Now: e.house.clock.Now})
	said, err := verifier.VerifyLogout(req.Context(), token)
	if err != nil {
		return in, err
	}
	now := e.house.clock.Now()
	if len(said.Audience) != 1 || said.IssuedAt.Unix() != now.Unix() || said.Expiry.Sub(said.IssuedAt) != deliveries.TokenLifetime {
		return in, fmt.Errorf("for %v, from %s to %s, at %s", said.Audience, said.IssuedAt, said.Expiry, now)
	}
	in.id, in.sid, in.subject = said.TokenID, said.SessionID, said.Subject
	return in, nil
}
