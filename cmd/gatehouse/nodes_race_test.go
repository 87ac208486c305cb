//go:build unix

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"gatehouse.dev/gatehouse/storage/pgtest"
)

// racers is how many requests race, half of them at each of two nodes.
const racers = 64

// couple is two nodes of one PostgreSQL database, a browser that is signed in,
// and a connection to the database.
type couple struct {
	nodes   []*node
	desks   [][]*desk // by node, then as the parties were given
	browser *visitor
	rows    *rows
}

func startCouple(t *testing.T, parties []party, change ...func(string) string) *couple {
	t.Helper()
	database := pgtest.Shared(t).NewDatabase(t)
	c := &couple{nodes: startProcess(t, processOptions{Database: database, Nodes: 2, Change: change}), rows: openRows(t, database)}
	c.desks = desks(t, c.nodes, parties...)
	c.browser = newVisitor(wide(c.nodes[0]), "alex", "alex-demo")
	return c
}

// begin authorizes a party and redeems the code at the first node.
func (c *couple) begin(t *testing.T, party int, more ...string) tokens {
	t.Helper()
	d := c.desks[0][party]
	first := d.redeem(d.authorize(c.browser, more...).Get("code"))
	if first.Status != http.StatusOK || first.Refresh == "" {
		t.Fatalf("the code of %s: %d %s", d.id, first.Status, first.Error)
	}
	return first
}

// winner finds the one answer that is not a refusal.
func winner(t *testing.T, answers []tokens) tokens {
	t.Helper()
	var won []tokens
	for _, a := range answers {
		switch {
		case a.Status == http.StatusOK && a.Access != "":
			won = append(won, a)
		case !a.refused():
			t.Errorf("a loser gets %d %s", a.Status, a.Error)
		}
	}
	if len(won) != 1 {
		t.Fatalf("%d of %d won", len(won), len(answers))
	}
	return won[0]
}

func TestOneCodeIsRedeemedOnceOnAllNodes(t *testing.T) {
	redemptions(t, 3)
}

func TestLongOneCodeIsRedeemedOnceOnAllNodes(t *testing.T) {
	if !long() {
		return
	}
	redemptions(t, 60)
}

func redemptions(t *testing.T, rounds int) {
	c := startCouple(t, []party{albumParty, portalParty})
	for round := range rounds {
		party := round % 2
		var won tokens
		// A code that comes again more than 2 s after its redemption ends what
		// came of it: a race on a machine that slow is run again.
		inTime := func() bool {
			code := c.desks[0][party].authorize(c.browser).Get("code")
			answers := make([]tokens, racers)
			took := race(racers, func(i int) { answers[i] = c.desks[i%2][party].redeem(code) })
			won = winner(t, answers)
			return took < 2*time.Second
		}
		for attempt := 1; !inTime(); attempt++ {
			if attempt == 5 {
				t.Fatalf("%d redemptions take more than 2 s", racers)
			}
		}
		for i, at := range c.desks {
			if !at[party].alive(won.Access) {
				t.Errorf("round %d: the winner's token is dead at node %d: a race must not end a session", round, i)
			}
		}
		if again := c.desks[1][party].refresh(won.Refresh); again.Status != http.StatusOK {
			t.Errorf("round %d: the winner's refresh token gets %d %s", round, again.Status, again.Error)
		}
	}
}

func TestRacingRefreshesGetOneSuccessor(t *testing.T) {
	refreshes(t, 4)
}

func TestLongRacingRefreshesGetOneSuccessor(t *testing.T) {
	if !long() {
		return
	}
	refreshes(t, 100)
}

const generationOf = `SELECT generation FROM grants WHERE authorization_server = $1 AND id = $2`

func refreshes(t *testing.T, rounds int) {
	c := startCouple(t, []party{albumParty, portalParty})
	current := []tokens{c.begin(t, 0), c.begin(t, 1)}
	for round := range rounds {
		party := round % 2
		old := current[party].Refresh
		as := c.desks[0][party].as
		before := c.rows.number(generationOf, as, grantID(old))
		answers := make([]tokens, racers)
		race(racers, func(i int) { answers[i] = c.desks[i%2][party].refresh(old) })
		for i, a := range answers {
			if a.Status != http.StatusOK || a.Refresh == "" || a.Refresh == old || a.Refresh != answers[0].Refresh {
				t.Fatalf("round %d: refresh %d of %d gets %d %s with another successor than the first", round, i, racers, a.Status, a.Error)
			}
		}
		if after := c.rows.number(generationOf, as, grantID(old)); after != before+1 {
			t.Errorf("round %d: generation %d became %d", round, before, after)
		}
		for i, at := range c.desks {
			if a := answers[racers/2+i]; !at[party].alive(a.Access) {
				t.Errorf("round %d: a token of the race is dead at node %d", round, i)
			}
		}
		current[party] = answers[0]
	}
}

func TestRacingRefreshesWithoutGraceHaveOneWinner(t *testing.T) {
	c := startCouple(t, []party{albumParty}, substitute("refresh_grace: 10s", "refresh_grace: 0s"))
	for range 3 {
		first := c.begin(t, 0)
		answers := make([]tokens, racers)
		race(racers, func(i int) { answers[i] = c.desks[i%2][0].refresh(first.Refresh) })
		won := winner(t, answers)
		// Whoever came second has used the token again, which ends what came of it.
		if after := c.rows.number(generationOf, "myAS", grantID(first.Refresh)); after != 2 {
			t.Errorf("generation 1 became %d", after)
		}
		for i, at := range c.desks {
			if where := at[0].lives(won.Access); len(where) > 0 {
				t.Errorf("without grace a token used twice ends the session, but at node %d it lives at %v", i, where)
			}
		}
	}
}

// A code that was used at one node is refused at the other: within the 2 s of
// a client's own repetition without consequences, later with the end of what
// came of it (RFC 6749 §4.1.2).
func TestUsedCodeIsRefusedAtTheSecondNode(t *testing.T) {
	c := startCouple(t, []party{albumParty, portalParty})
	for i := range c.desks[0] {
		a, b := c.desks[0][i], c.desks[1][i]
		code := a.authorize(c.browser).Get("code")
		first := a.redeem(code)
		if first.Status != http.StatusOK {
			t.Fatalf("redemption: %d %s", first.Status, first.Error)
		}
		c.rows.run(`UPDATE grants SET redeemed_at = redeemed_at + 60000 WHERE authorization_server = $1 AND id = $2`, a.as, grantID(code))
		if again := b.redeem(code); !again.refused() {
			t.Errorf("%s: a used code gets %d %s at the second node", a.as, again.Status, again.Error)
		}
		if !b.alive(first.Access) {
			t.Errorf("%s: a repetition at once ends the session", a.as)
		}
		c.rows.run(`UPDATE grants SET redeemed_at = redeemed_at - 120000 WHERE authorization_server = $1 AND id = $2`, a.as, grantID(code))
		if again := b.redeem(code); !again.refused() {
			t.Errorf("%s: a used code gets %d %s at the second node, later", a.as, again.Status, again.Error)
		}
		if where := a.lives(first.Access); len(where) > 0 {
			t.Errorf("%s: a replayed code leaves the session alive at %v of the first node", a.as, where)
		}
		if again := a.refresh(first.Refresh); !again.refused() {
			t.Errorf("%s: a replayed code leaves the refresh token alive: %d", a.as, again.Status)
		}
	}
}

// An old refresh token is refused at the second node; once the grace is over it
// ends the session (RFC 9700 §4.14.2).
func TestReusedRefreshTokenEndsTheSessionAtTheSecondNode(t *testing.T) {
	c := startCouple(t, []party{albumParty, portalParty})
	for i := range c.desks[0] {
		a, b := c.desks[0][i], c.desks[1][i]
		first := c.begin(t, i)
		second := a.refresh(first.Refresh)
		third := a.refresh(second.Refresh)
		if third.Status != http.StatusOK {
			t.Fatalf("refreshing twice: %d %s", third.Status, third.Error)
		}
		if again := b.refresh(first.Refresh); !again.refused() {
			t.Errorf("%s: a token two generations old gets %d %s", a.as, again.Status, again.Error)
		}
		if again := b.refresh(second.Refresh); again.Refresh != third.Refresh {
			t.Errorf("%s: the previous token gets %d, and not its successor", a.as, again.Status)
		}
		if !b.alive(third.Access) {
			t.Errorf("%s: within the grace the session ends", a.as)
		}
		c.rows.run(`UPDATE grants SET rotated_at = rotated_at - 60000 WHERE authorization_server = $1 AND id = $2`, a.as, grantID(first.Refresh))
		if again := b.refresh(second.Refresh); !again.refused() {
			t.Errorf("%s: a reused token gets %d %s", a.as, again.Status, again.Error)
		}
		if where := a.lives(third.Access); len(where) > 0 {
			t.Errorf("%s: reuse leaves the session alive at %v of the first node", a.as, where)
		}
		if again := a.refresh(third.Refresh); !again.refused() {
			t.Errorf("%s: reuse leaves the newest refresh token alive: %d", a.as, again.Status)
		}
	}
}

// machine is a client that proves itself with assertions (RFC 7523).
type machine struct{ signer jose.Signer }

// withMachine returns it with what registers it at myAS.
func withMachine(t testing.TB) (*machine, func(string) string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "one"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	return &machine{signer}, withClients("myAS", fmt.Sprintf("      - {client_id: machine, grant_types: [client_credentials], scope: reports,\n"+
		"         token_endpoint_auth_method: private_key_jwt, jwks: %s}\n", set))
}

// assertion is one for the desk's issuer, with that jti.
func (m *machine) assertion(d *desk, jti string) string {
	now := time.Now()
	assertion, err := jwt.Signed(m.signer).Claims(jwt.Claims{Issuer: "machine", Subject: "machine", Audience: jwt.Audience{d.issuer},
		ID: jti, IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Minute))}).Serialize()
	if err != nil {
		d.t.Error(err)
	}
	return assertion
}

// token asks for a token with an assertion.
func (m *machine) token(d *desk, assertion string) tokens {
	return d.token("grant_type", "client_credentials", "client_assertion", assertion,
		"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
}

func TestClientAssertionIsGoodOnceOnAllNodes(t *testing.T) {
	m, register := withMachine(t)
	c := startCouple(t, []party{{as: "myAS", id: "machine"}}, register)
	used := m.assertion(c.desks[0][0], "used at A")
	if first := m.token(c.desks[0][0], used); first.Status != http.StatusOK {
		t.Fatalf("an assertion at the first node: %d %s", first.Status, first.Error)
	}
	for what, assertion := range map[string]string{"the assertion": used, "its jti in another one": m.assertion(c.desks[1][0], "used at A")} {
		if again := m.token(c.desks[1][0], assertion); again.Status != http.StatusUnauthorized || again.Error != "invalid_client" || again.Access != "" {
			t.Errorf("%s at the second node: %d %s", what, again.Status, again.Error)
		}
	}
	good := 0
	raced := m.assertion(c.desks[0][0], "raced for")
	answers := make([]tokens, racers)
	race(racers, func(i int) { answers[i] = m.token(c.desks[i%2][0], raced) })
	for _, a := range answers {
		switch {
		case a.Status == http.StatusOK && a.Access != "":
			good++
		case a.Status != http.StatusUnauthorized || a.Error != "invalid_client" || a.Access != "":
			t.Errorf("an assertion in the race gets %d %s", a.Status, a.Error)
		}
	}
	if good != 1 {
		t.Errorf("one jti is good %d times", good)
	}
}
