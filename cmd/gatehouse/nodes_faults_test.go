//go:build unix

package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// faultWorkers are the clients that refresh and end sessions while
	// something breaks.
	faultWorkers = 16
	// faultPatience is how long a request may take when the database is away.
	faultPatience = 5 * time.Second
)

// faultChanges are the changes of the configuration for tests with a load: two
// authorization servers, one for each form of access token, a user for each
// worker, a grace that a slow restart doesn't outlast, and sign-ins that are
// cut short without consequences.
func faultChanges() (parties []party, change []func(string) string) {
	jwt, opaque := houseParties("myAS", 4), houseParties("partnerAS", 4)
	names := make([]string, faultWorkers)
	for i := range names {
		names[i] = fmt.Sprintf("user-%d", i)
	}
	return append(jwt, opaque...), []func(string) string{
		withParties(jwt), withParties(opaque), withUsers(names...),
		substitute("visibility: client", "visibility: user"),
		substitute("refresh_grace: 10s", "refresh_grace: 2m"),
		substitute("    pkce: all\n", "    pkce: all\n    session: {idle_lifetime: 24h, lifetime: 720h, refresh_grace: 2m, history: 720h}\n"),
		substitute("    login: {", "    throttle: {account: 1000, address: 100000}\n    login: {"),
	}
}

// load is many clients at work, who note what was acknowledged to them.
type load struct {
	t       testing.TB
	outage  bool // answers of 503 are to be expected
	workers []*faultWorker
	running sync.WaitGroup
	stopped atomic.Bool

	acknowledged atomic.Int64 // refreshes and endings, for await
	due          atomic.Int64
	reached      chan struct{}

	begun, refreshed, ended, unavailable    atomic.Int64 // requests of the load
	checkedLive, checkedOlder, checkedEnded atomic.Int64
	checkedInFlight, checkedUnsure          atomic.Int64
	slowest                                 atomic.Int64 // ns
}

// faultWorker is one client. Nobody else touches its sessions, so at most one
// request about each is under way.
type faultWorker struct {
	*load
	browser  *visitor
	desks    []*desk
	sessions []*heldSession // one for each desk; nil: none
	over     []*heldSession // whose ending was acknowledged
	unsure   []*heldSession // whose ending had no answer
	code     *issued        // whose redemption had no answer
}

// heldSession is a session as its client knows it.
type heldSession struct {
	desk            *desk
	sid             string
	access, refresh string // of the newest answer that arrived whole
	before, older   string // the refresh tokens before that one
	inFlight        bool   // a later refresh had no answer
}

func newLoad(t testing.TB, n *node, parties []party) *load {
	l := &load{t: t}
	for i := range faultWorkers {
		w := &faultWorker{load: l, desks: desks(t, []*node{n}, parties...)[0], sessions: make([]*heldSession, len(parties))}
		w.desks[0].http.Timeout = time.Minute // they share the client
		name := fmt.Sprintf("user-%d", i)
		w.browser = newVisitor(w.desks[0].http.Transport, name, name+"-demo")
		l.workers = append(l.workers, w)
	}
	return l
}

// start sets all to work.
func (l *load) start() {
	l.stopped.Store(false)
	for _, w := range l.workers {
		l.running.Go(func() {
			for !l.stopped.Load() && w.step() {
			}
		})
	}
}

// stop returns when all have stopped, which they also do by themselves where a
// request has no answer.
func (l *load) stop() {
	l.stopped.Store(true)
	l.running.Wait()
	for _, w := range l.workers {
		w.desks[0].http.CloseIdleConnections()
	}
}

// await returns after so many more refreshes and endings were acknowledged.
func (l *load) await(more int64) {
	l.t.Helper()
	l.reached = make(chan struct{})
	l.due.Store(l.acknowledged.Load() + more)
	select {
	case <-l.reached:
	case <-time.After(time.Minute):
		l.t.Fatalf("the load stands still at %d", l.acknowledged.Load())
	}
}

func (l *load) acknowledge(count *atomic.Int64) {
	count.Add(1)
	due := l.due.Load()
	if due > 0 && l.acknowledged.Add(1) >= due && l.due.CompareAndSwap(due, 0) {
		close(l.reached)
	}
}

// step does one thing. False: a request had no answer.
func (w *faultWorker) step() bool {
	i := rand.IntN(len(w.desks))
	s := w.sessions[i]
	switch what := rand.IntN(100); {
	case s == nil:
		return w.begin(i)
	case what < 6 && !s.inFlight:
		return w.end(i, s, s)
	case what < 8 && !s.inFlight:
		// By another client, so that the user must sign in again.
		if other := w.sessions[i^1]; other != nil && !other.inFlight {
			return w.end(i, s, other)
		}
	}
	return w.refresh(s)
}

// begin makes a session of a party.
func (w *faultWorker) begin(i int) bool {
	d := w.desks[i]
	began := time.Now()
	to, last, err := w.browser.authorize(w.t.Context(), d.request())
	w.took(time.Since(began) / 4) // the requests of a sign-in
	if last == nil {
		return w.unanswered(err)
	}
	defer last.Body.Close()
	if to == nil {
		if f, _ := w.browser.fill(last); f != nil && f.has("password") && last.StatusCode == http.StatusServiceUnavailable {
			return true // a slow machine has too many passwords to check at once
		}
		w.mustBeAway("an authorization request", wholeReply{status: last.StatusCode, header: last.Header}, "")
		return true
	}
	code := to.Query().Get("code")
	if code == "" {
		w.t.Errorf("an authorization request is answered %s", to.Query().Get("error"))
		return false
	}
	return w.redeem(i, code)
}

func (w *faultWorker) redeem(i int, code string) bool {
	d := w.desks[i]
	answer, first, err := w.token(d, url.Values{"grant_type": {"authorization_code"}, "code": {code},
		"redirect_uri": {d.redirectURI}, "code_verifier": {pkceVerifier}})
	switch {
	case err != nil:
		w.code = &issued{party: i, code: code}
		return w.unanswered(err)
	case first.Status != http.StatusOK:
		w.mustBeAway("redeeming a code", answer, "temporarily_unavailable")
		return true
	}
	w.begun.Add(1)
	w.sessions[i] = &heldSession{desk: d, access: first.Access, refresh: first.Refresh, sid: sessionOf(w.t, answer.body)}
	return true
}

func (w *faultWorker) refresh(s *heldSession) bool {
	s.inFlight = true
	answer, next, err := w.token(s.desk, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s.refresh}})
	switch {
	case err != nil:
		if notSent(err) {
			s.inFlight = false
		}
		return w.unanswered(err)
	case next.Status != http.StatusOK:
		w.mustBeAway("a refresh", answer, "temporarily_unavailable")
		return true
	}
	w.succeeds(s, next)
	w.acknowledge(&w.refreshed)
	return true
}

// succeeds takes the answer to a refresh.
func (w *faultWorker) succeeds(s *heldSession, next tokens) {
	if generation(next.Refresh) != generation(s.refresh)+1 {
		w.t.Errorf("refresh token %d is followed by %d", generation(s.refresh), generation(next.Refresh))
	}
	s.older, s.before = s.before, s.refresh
	s.access, s.refresh, s.inFlight = next.Access, next.Refresh, false
}

// end ends a session with the token of itself or of another one.
func (w *faultWorker) end(i int, s, by *heldSession) bool {
	path := "/sessions/" + s.sid + "/"
	if by == s {
		path = "/session/"
	}
	answer, err := s.desk.ask(http.MethodDelete, path, nil, by.access)
	switch {
	case err != nil && notSent(err):
	case err != nil:
		w.sessions[i], w.unsure = nil, append(w.unsure, s)
	case answer.status == http.StatusNoContent:
		w.sessions[i], w.over = nil, append(w.over, s)
		w.acknowledge(&w.ended)
	default:
		w.sessions[i], w.unsure = nil, append(w.unsure, s)
		w.mustBeAway("an ending", answer, "TEMPORARILY_UNAVAILABLE")
	}
	w.took(answer.took)
	if err != nil {
		return w.unanswered(err)
	}
	return true
}

func (w *faultWorker) token(d *desk, form url.Values) (wholeReply, tokens, error) {
	answer, err := d.ask(http.MethodPost, "/token", form, "")
	w.took(answer.took)
	var t tokens
	if err == nil {
		err = json.Unmarshal(answer.body, &t)
	}
	t.Status = answer.status
	return answer, t, err
}

// mustBeAway fails the test unless an answer says that the server can't reach
// its storage, in the form of its endpoint, and during an outage.
func (w *faultWorker) mustBeAway(what string, answer wholeReply, says string) {
	w.unavailable.Add(1)
	if !w.outage || !away(answer, says) {
		w.t.Errorf("%s is answered %d %s", what, answer.status, answer.body)
	}
}

// away reports whether an answer is a 503 that says when to come back.
func away(answer wholeReply, says string) bool {
	seconds, err := strconv.Atoi(answer.header.Get("Retry-After"))
	return answer.status == http.StatusServiceUnavailable && err == nil && seconds > 0 && strings.Contains(string(answer.body), says)
}

func (w *faultWorker) unanswered(err error) bool {
	if w.outage {
		w.t.Errorf("a request has no answer: %v", err)
	}
	return false
}

func (l *load) took(d time.Duration) {
	for {
		slowest := l.slowest.Load()
		if int64(d) <= slowest || l.slowest.CompareAndSwap(slowest, int64(d)) {
			return
		}
	}
}

// notSent reports whether a request can't have arrived.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// generation is that of a refresh token.
func generation(token string) int {
	n, err := strconv.Atoi(strings.Split(token+".", ".")[1])
	if err != nil {
		return -1
	}
	return n
}

// sessionOf is the sid of the ID token in an answer of the token endpoint.
func sessionOf(t testing.TB, answer []byte) string {
	var with struct {
		ID string `json:"id_token"`
	}
	var claims struct {
		SID string `json:"sid"`
	}
	err := json.Unmarshal(answer, &with)
	if err == nil {
		var payload []byte
		if payload, err = base64.RawURLEncoding.DecodeString(strings.Split(with.ID+"..", ".")[1]); err == nil {
			err = json.Unmarshal(payload, &claims)
		}
	}
	if err != nil || claims.SID == "" {
		t.Errorf("an ID token without sid: %v", err)
	}
	return claims.SID
}

// verify holds what was acknowledged, and what had no answer, against what the
// server says now, and settles what was open.
func (l *load) verify() {
	l.t.Helper()
	race(len(l.workers), func(i int) { l.workers[i].verify() })
}

func (w *faultWorker) verify() {
	for i, s := range w.sessions {
		if s != nil {
			w.mustLive(i, s)
		}
	}
	for _, s := range w.unsure {
		w.mustBeWhole(s)
	}
	w.unsure = nil
	for _, s := range w.over {
		w.mustBeOver(s)
	}
	if w.code != nil {
		w.mustBeRedeemable(*w.code)
		w.code = nil
	}
}

// mustLive uses the newest refresh token that was acknowledged. Where a later
// refresh was under way, it is the current one or the one before, and gets
// within the grace the same successor every time. The one before the one before
// would be good if the newest refresh had been forgotten.
func (w *faultWorker) mustLive(i int, s *heldSession) {
	if s.older != "" {
		if again := s.desk.refresh(s.older); !again.refused() {
			w.t.Errorf("an acknowledged refresh is forgotten: a token two generations old gets %d %s", again.Status, again.Error)
		}
		w.checkedOlder.Add(1)
	}
	used := s.refresh
	next := s.desk.refresh(used)
	if next.Status != http.StatusOK {
		w.t.Errorf("the newest refresh token (a later refresh under way: %t) gets %d %s", s.inFlight, next.Status, next.Error)
		w.sessions[i] = nil
		return
	}
	count := &w.checkedLive
	if s.inFlight {
		count = &w.checkedInFlight
	}
	w.succeeds(s, next)
	if again := s.desk.refresh(used); again.Refresh != s.refresh {
		w.t.Errorf("the refresh token before the newest gets %d, and not the newest", again.Status)
	}
	if !s.desk.alive(s.access) {
		w.t.Error("the access token of a live session is dead")
	}
	count.Add(1)
}

// mustBeOver asks everywhere for a session whose ending was acknowledged.
func (w *faultWorker) mustBeOver(s *heldSession) {
	if where := s.desk.lives(s.access); len(where) > 0 {
		w.t.Errorf("an acknowledged ending of a session at %s does not hold at %v", s.desk.as, where)
	}
	if again := s.desk.refresh(s.refresh); !again.refused() {
		w.t.Errorf("the refresh token of an ended session gets %d %s", again.Status, again.Error)
	}
	w.checkedEnded.Add(1)
}

// mustBeWhole wants a session whose ending had no answer dead or alive in all
// its parts.
func (w *faultWorker) mustBeWhole(s *heldSession) {
	w.checkedUnsure.Add(1)
	where := s.desk.lives(s.access)
	if len(where) == 0 {
		w.over = append(w.over, s)
		return
	}
	if !s.desk.alive(s.access) {
		w.t.Errorf("a session whose ending had no answer lives at %v only", where)
	}
	if next := s.desk.refresh(s.refresh); next.Status != http.StatusOK {
		w.t.Errorf("a session whose ending had no answer lives, and its refresh token gets %d %s", next.Status, next.Error)
	}
}

// mustBeRedeemable uses a code whose redemption had no answer once more.
func (w *faultWorker) mustBeRedeemable(c issued) {
	d := w.desks[c.party]
	switch again := d.redeem(c.code); {
	case again.refused():
	case again.Status != http.StatusOK || !d.alive(again.Access):
		w.t.Errorf("a code whose redemption had no answer gets %d %s", again.Status, again.Error)
	}
}

// inFlight counts the refreshes and endings that had no answer.
func (l *load) inFlight() (refreshes, endings int) {
	for _, w := range l.workers {
		endings += len(w.unsure)
		for _, s := range w.sessions {
			if s != nil && s.inFlight {
				refreshes++
			}
		}
	}
	return refreshes, endings
}
