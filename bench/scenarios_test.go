//go:build linux

package bench

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// Numbers of the rows that the scenarios use: of logins, but for owners, which
// are users. The floor's begin at floorLogins.
const (
	tokenLogins   = 64   // whose tokens are introspected, from 0
	listLogins    = 64   // first login with ten sessions
	listCount     = 16   // how many
	refreshLogins = 100  // first login with a refresh token
	refreshCount  = 640  // ten for each of 64 workers
	flowLogins    = 1000 // first login of the code flow
	flowEnd       = 30_000

	floorLogins = 100_000
	floorOwners = 10_000 // what is added to the number of an owner's login

	firstOwner = 900_000   // first user whose sessions are ended
	ownerLogin = 950_000   // first login with a token of an owner
	ownerFirst = 1_000_000 // first session that is ended, and its login
)

// owned is the shape of the sessions that are ended: each in a login of its
// own, of 64 users.
var owned = shape{
	userOfLogin:    fmt.Sprintf("%d + n %% %d", firstOwner, ownerCount),
	loginOfSession: "n",
	appOfSession:   fmt.Sprintf("n %% %d", appCount),
	ended:          "false",
}

// stage is one target with all that its scenarios need.
type stage struct {
	h *house
	p *program

	jwt, opaque []tokens // of users who are signed in
	lists       []tokens // of users with ten sessions
	owners      []tokens // by number of the owner
	refreshes   []*tokens
	turns       []int        // of each worker with its refresh tokens
	flow        atomic.Int64 // the login of the next code flow
	logins      int          // where the target's logins begin
}

// counter numbers the sessions that are there to be ended, the product's and
// the floor's alike.
type counter struct{ next, end atomic.Int64 }

func (c *counter) take() (int, bool) {
	n := c.next.Add(1) - 1
	return int(n), n < c.end.Load()
}

// loadStages loads what both targets need.
func (h *house) loadStages() {
	h.t.Helper()
	for _, from := range []int{0, floorLogins} {
		h.loadUsers(from/loginsOfUser, (from+flowEnd)/loginsOfUser)
		h.loadLogins(household, from, from+flowEnd)
	}
	h.loadUsers(firstOwner, firstOwner+ownerCount)
	h.loadLogins(owned, ownerLogin, ownerLogin+ownerCount)
	h.loadLogins(owned, ownerLogin+floorOwners, ownerLogin+floorOwners+ownerCount)
	h.exec(`VACUUM (ANALYZE)`)
}

// newStage signs in to everything.
func newStage(t testing.TB, h *house, p *program, logins, owners int) *stage {
	t.Helper()
	s := &stage{h: h, p: p, owners: make([]tokens, ownerCount), turns: make([]int, ownerCount), logins: logins}
	s.flow.Store(flowLogins)
	for n := range tokenLogins {
		s.jwt = append(s.jwt, mustFlow(t, p, "jwt", appID(0), logins+n))
		s.opaque = append(s.opaque, mustFlow(t, p, "opaque", appID(0), logins+n))
	}
	for n := range listCount {
		var last tokens
		for app := range appCount {
			last = mustFlow(t, p, "jwt", appID(app), logins+listLogins+n)
		}
		s.lists = append(s.lists, last)
	}
	for n := range refreshCount {
		held := mustFlow(t, p, "jwt", appID(0), logins+refreshLogins+n)
		s.refreshes = append(s.refreshes, &held)
	}
	for n := range ownerCount {
		number := ownerLogin + owners + n
		s.owners[number%ownerCount] = mustFlow(t, p, "jwt", appID(0), number)
	}
	return s
}

// scenario is one thing that is measured. Either it has requests, which wrk
// sends, or an operation, which our driver repeats.
type scenario struct {
	name      string
	threshold float64                     // at 16 connections
	requests  func(*stage) []Request      // nil: operation
	operation func(*stage) operation      // which our driver repeats
	supply    func(*stage, time.Duration) // before each round, outside of the measured time
	silent    bool                        // the database isn't asked
}

func each(held []tokens, request func(tokens) Request) []Request {
	all := make([]Request, len(held))
	for i, one := range held {
		all[i] = request(one)
	}
	return all
}

// scenarios are all that are measured, with what is demanded of them. ending
// numbers the sessions that are there to be ended.
func scenarios(ending *counter) []scenario {
	get := func(path string) func(*stage) []Request {
		return func(*stage) []Request { return []Request{{Method: http.MethodGet, Path: pathOf("jwt") + path}} }
	}
	return []scenario{
		{name: "client credentials jwt", threshold: 0.7, silent: true, requests: func(*stage) []Request { return []Request{clientCredentials("jwt")} }},
		{name: "client credentials opaque", threshold: 0.5, silent: true, requests: func(*stage) []Request { return []Request{clientCredentials("opaque")} }},
		{name: "introspection jwt", threshold: 0.5, requests: introspections("jwt")},
		{name: "introspection opaque", threshold: 0.5, requests: introspections("opaque")},
		{name: "refresh", threshold: 0.5, operation: refreshing},
		{name: "code flow", operation: flowing},
		{name: "list of 10 sessions", threshold: 0.5, requests: func(s *stage) []Request {
			return each(s.lists, func(held tokens) Request { return bearer(http.MethodGet, "jwt", "/sessions/", held.Access) })
		}},
		{name: "end a session", operation: func(s *stage) operation { return ends(s, ending) }, supply: func(s *stage, during time.Duration) {
			// More than can be ended in the time; a round in which they run out is shorter.
			from := int(ending.end.Load())
			to := from + 4000*int(during/time.Second+1)
			s.h.loadLogins(owned, from, to)
			s.h.loadSessions("jwt", owned, from, to)
			// Plans that were made for smaller tables are thrown away.
			s.h.exec(`ANALYZE logins, oauth2_sessions, grants`)
			ending.next.Store(int64(from))
			ending.end.Store(int64(to))
		}},
		{name: "userinfo", threshold: 0.5, requests: func(s *stage) []Request {
			return each(s.jwt, func(held tokens) Request { return bearer(http.MethodGet, "jwt", "/userinfo", held.Access) })
		}},
		{name: "jwks", threshold: 0.8, silent: true, requests: get("/jwks")},
		{name: "discovery", threshold: 0.8, silent: true, requests: get("/.well-known/openid-configuration")},
	}
}

func introspections(as string) func(*stage) []Request {
	return func(s *stage) []Request {
		held := s.jwt
		if as == "opaque" {
			held = s.opaque
		}
		return each(held, func(held tokens) Request { return introspection(as, programID, held.Access) })
	}
}

// refreshing lets each worker refresh tokens of its own in turn.
func refreshing(s *stage) operation {
	const own = refreshCount / ownerCount
	return func(worker int, c *conn) error {
		held := s.refreshes[worker*own+s.turns[worker]%own]
		s.turns[worker]++
		a, err := c.do(encode(refresh("jwt", appID(0), held.Refresh)))
		if err != nil {
			return err
		}
		got, err := readTokens(a)
		if err == nil {
			*held = got
		}
		return err
	}
}

// flowing goes the way of a browser that is signed in, of one login after the
// other.
func flowing(s *stage) operation {
	return func(_ int, c *conn) error {
		n := s.flow.Add(1) - 1
		login := flowLogins + int(n-flowLogins)%(flowEnd-flowLogins)
		_, err := flow(c, "jwt", appID(0), cookieOf(s.logins+login))
		return err
	}
}

// ends ends one session after the other.
func ends(s *stage, ending *counter) operation {
	return func(_ int, c *conn) error {
		n, ok := ending.take()
		if !ok {
			return errOver
		}
		return expect(c, bearer(http.MethodDelete, "jwt", "/sessions/"+sessionID(n)+"/", s.owners[n%ownerCount].Access), http.StatusNoContent)
	}
}

// once does what is measured once.
func (sc scenario) once(t testing.TB, s *stage) {
	t.Helper()
	if sc.supply != nil {
		sc.supply(s, time.Second)
	}
	c := dial(t, s.p.Address)
	defer c.Close()
	var err error
	if sc.requests != nil {
		err = expect(c, sc.requests(s)[0], http.StatusOK)
	} else {
		err = sc.operation(s)(0, c)
	}
	if err != nil {
		t.Fatalf("%s, %s: %v", s.p.Name, sc.name, err)
	}
}

// round measures one round.
func (sc scenario) round(t testing.TB, s *stage, connections int, during time.Duration) Result {
	t.Helper()
	if sc.supply != nil {
		sc.supply(s, during)
	}
	return sc.measure(t, s, connections, during)
}

// measure is round with everything at hand that it needs.
func (sc scenario) measure(t testing.TB, s *stage, connections int, during time.Duration) Result {
	t.Helper()
	if sc.requests != nil {
		return wrk(t, s.h.dir, s.p, connections, during, sc.requests(s))
	}
	r, err := drive(t, s.p, connections, during, sc.operation(s))
	if err != nil {
		t.Errorf("%s, %s: %v", s.p.Name, sc.name, err)
	}
	return r
}

// checkFloor fails where the floor does not send the statements that the
// product sends: its figures would mean nothing.
func checkFloor(t *testing.T, h *house, all []scenario, product, floor *stage) {
	t.Helper()
	for _, sc := range all {
		var stale string
		// What the background does, half seen, differs once and not again.
		for range 3 {
			var sent [2]map[string]int
			for i, s := range []*stage{product, floor} {
				sent[i] = sentBy(t, h, sc, s)
			}
			if (len(sent[0]) == 0) != sc.silent {
				stale = fmt.Sprintf("the database counted %d statements of the product", len(sent[0]))
			} else if stale = difference(sent[0], sent[1]); stale == "" {
				break
			}
		}
		if stale != "" {
			t.Errorf("the floor is stale: %s sends other statements than the product:\n%s", sc.name, stale)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// sentBy are the statements that one operation of a scenario costs.
func sentBy(t *testing.T, h *house, sc scenario, s *stage) map[string]int {
	t.Helper()
	sc.once(t, s) // what only a first time costs
	if sc.supply != nil {
		sc.supply(s, time.Second)
	}
	c := dial(t, s.p.Address)
	defer c.Close()
	h.statements()
	if sc.requests != nil {
		if err := expect(c, sc.requests(s)[0], http.StatusOK); err != nil {
			t.Fatal(err)
		}
	} else if err := sc.operation(s)(0, c); err != nil {
		t.Fatal(err)
	}
	return h.statements()
}

// poll waits for another process.
func poll(t testing.TB, what string, during time.Duration, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, ctx.Err())
		}
	}
}
