//go:build unix

package main

import (
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gatehouse.dev/gatehouse/storage/pgtest"
)

// A locked account has nothing left, whatever was on its way at that moment at
// whichever node.
func TestNothingOutlivesALock(t *testing.T) {
	lockings(t, 3, false)
}

func TestNothingOutlivesAnEndOfEverythingAndALock(t *testing.T) {
	lockings(t, 2, true)
}

func TestLongNothingOutlivesALock(t *testing.T) {
	if !long() {
		return
	}
	lockings(t, 12, false)
	lockings(t, 12, true)
}

// lockings locks as many users, one after the other, in the middle of what they
// do. With endFirst everything of the user is ended before, at work as well.
func lockings(t *testing.T, rounds int, endFirst bool) {
	names := make([]string, rounds)
	for i := range names {
		names[i] = fmt.Sprintf("user-%d", i)
	}
	jwt, opaque := houseParties("myAS", 4), houseParties("partnerAS", 4)
	database := pgtest.Shared(t).NewDatabase(t)
	nodes := startProcess(t, processOptions{Database: database, Nodes: 2, Change: []func(string) string{
		withParties(jwt), withParties(opaque), withUsers(names...)}})
	db := openRows(t, database)

	bystander := newVisitor(wide(nodes[0]), "bea", "bea-demo")
	others := desks(t, nodes, jwt[0])
	of := others[0][0].redeem(others[0][0].authorize(bystander).Get("code"))

	late := 0
	for _, name := range names {
		r := &lockRound{t: t, nodes: nodes, user: name, desks: desks(t, nodes, append(jwt, opaque...)...), rows: db}
		r.signInBefore()
		r.work(endFirst)
		r.mustBeGone()
		late += r.late
		t.Logf("%s: %d browsers, %d codes and %d token answers before the lock; %d authorizations came too late", name, len(r.browsers), len(r.codes), len(r.tokens), r.late)
		if len(r.codes) == 0 || len(r.tokens) == 0 {
			t.Errorf("%s was locked before he did anything", name)
		}
	}
	if late == 0 {
		t.Error("every user was locked after all was done")
	}
	if !others[1][0].alive(of.Access) {
		t.Error("the locks ended another user's session")
	}
}

// lockBrowsers are signed in before the others begin.
const lockBrowsers = 4

// lockRound is what one user does until he is locked, and what he got by it.
type lockRound struct {
	t     *testing.T
	nodes []*node
	user  string
	desks [][]*desk
	rows  *rows

	mu       sync.Mutex
	browsers []*visitor
	codes    []issued // not redeemed
	tokens   []issued
	late     int // authorizations that got no code
}

// issued is a code, or an answer of the token endpoint, of one party.
type issued struct {
	party  int
	code   string
	tokens tokens
}

func (r *lockRound) note(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// browser opens the user's browser number i, at a node.
func (r *lockRound) browser(i int) *visitor {
	b := newVisitor(r.desks[i%2][0].http.Transport, r.user, r.user+"-demo")
	r.note(func() { r.browsers = append(r.browsers, b) })
	return b
}

func (r *lockRound) signInBefore() {
	for i := range lockBrowsers {
		if code := r.desks[i%2][0].authorize(r.browser(i)).Get("code"); code == "" {
			r.t.Fatalf("%s can't sign in", r.user)
		}
	}
}

// work lets 64 browsers sign in, and 64 tabs of the browsers that are signed in
// authorize, and locks the user while they do.
func (r *lockRound) work(endFirst bool) {
	before := slices.Clone(r.browsers)
	enough := make(chan struct{})
	begin := sync.OnceFunc(func() { close(enough) })
	var signedIn atomic.Int32
	var locked atomic.Bool
	var commands sync.WaitGroup
	commands.Go(func() {
		defer locked.Store(true)
		<-enough
		if endFirst {
			r.command("sessions", "end", "--as", "myAS", "--all-of-user", r.user)
			r.mustBeSignedOut(before, "after the end of everything")
			r.mustHaveNone("after the end of everything", map[string]string{
				"sessions of ended logins": `SELECT count(*) FROM oauth2_sessions s JOIN logins l ON l.realm = s.realm AND l.id = s.login_id
					WHERE s.user_id = (SELECT id FROM users WHERE username = $1) AND l.ended_at IS NOT NULL AND s.ended_at IS NULL`,
				"grants of ended sessions": `SELECT count(*) FROM grants g JOIN oauth2_sessions s ON s.authorization_server = g.authorization_server AND s.id = g.session_id
					WHERE s.user_id = (SELECT id FROM users WHERE username = $1) AND s.ended_at IS NOT NULL AND g.ended_at IS NULL`,
			})
		}
		r.command("users", "lock", r.user)
	})
	race(2*racers, func(i int) {
		if i%2 == 0 {
			r.use(r.browser(i/2), i/2)
			if signedIn.Add(1) == 4 {
				begin()
			}
			return
		}
		// At most so often: the lock must meet them, not starve.
		for turn := 0; turn < 12 && !locked.Load(); turn++ {
			if !r.use(before[i/2%lockBrowsers], i/2+turn, "prompt", "none") {
				return
			}
		}
	})
	begin()
	commands.Wait()
}

// use authorizes a party at one node, redeems the code at the other and
// refreshes at the first; of every fourth code it makes no use. It reports
// whether there was a code.
func (r *lockRound) use(b *visitor, i int, more ...string) bool {
	party := i / 2 % len(r.desks[0])
	here, there := r.desks[i%2][party], r.desks[(i+1)%2][party]
	if i%3 == 0 {
		more = append(more, "scope", "openid offline_access")
	}
	code := here.authorize(b, more...).Get("code")
	switch {
	case code == "":
		r.note(func() { r.late++ })
		return false
	case i%4 == 0:
		r.note(func() { r.codes = append(r.codes, issued{party: party, code: code}) })
		return true
	}
	first := there.redeem(code)
	if r.took(party, first) {
		r.took(party, here.refresh(first.Refresh))
	}
	return true
}

// took notes an answer of the token endpoint, and reports whether it is one
// with tokens.
func (r *lockRound) took(party int, answer tokens) bool {
	if answer.Status == http.StatusOK && answer.Refresh != "" {
		r.note(func() { r.tokens = append(r.tokens, issued{party: party, tokens: answer}) })
		return true
	}
	if !answer.refused() {
		r.t.Errorf("the token endpoint answers %d %s", answer.Status, answer.Error)
	}
	return false
}

// command runs the program as an operator does, beside the nodes.
func (r *lockRound) command(args ...string) {
	out, err := exec.Command(binary.path(r.t), append(args, "--config", r.nodes[1].ConfigFile)...).CombinedOutput()
	if err != nil {
		r.t.Errorf("gatehouse %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (r *lockRound) mustBeSignedOut(browsers []*visitor, when string) {
	for i, b := range browsers {
		for _, at := range r.desks {
			if code, failure := at[i%len(at)].silent(b); code != "" || failure != "login_required" {
				r.t.Errorf("%s, browser %d of %s gets a code: %t, error %q, want login_required", when, i, r.user, code != "", failure)
			}
		}
	}
}

// mustBeGone tries all that the user ever got, cookies and codes at both nodes,
// and looks into the database and the operator's list.
func (r *lockRound) mustBeGone() {
	r.t.Helper()
	r.mustBeSignedOut(r.browsers, "after the lock")
	for i, at := range r.desks {
		for _, c := range r.codes {
			if a := at[c.party].redeem(c.code); !a.refused() {
				r.t.Errorf("after the lock a code at node %d gets %d %s", i, a.Status, a.Error)
			}
		}
		for n := i; n < len(r.tokens); n += len(r.desks) {
			d, token := at[r.tokens[n].party], r.tokens[n].tokens
			if d.introspect(token.Access).Active {
				r.t.Errorf("after the lock an access token is active at node %d", i)
			}
			if a := d.refresh(token.Refresh); !a.refused() {
				r.t.Errorf("after the lock a refresh token at node %d gets %d %s", i, a.Status, a.Error)
			}
			if n%8 > 1 {
				continue // the other endpoints judge by the same statement
			}
			if where := d.lives(token.Access); len(where) > 0 {
				r.t.Errorf("after the lock an access token lives at %v of node %d", where, i)
			}
		}
	}
	const live = ` WHERE user_id = (SELECT id FROM users WHERE username = $1) AND ended_at IS NULL`
	r.mustHaveNone("after the lock", map[string]string{
		"live logins":   `SELECT count(*) FROM logins` + live,
		"live sessions": `SELECT count(*) FROM oauth2_sessions` + live,
		"live grants":   `SELECT count(*) FROM grants` + live,
	})
	for _, as := range []string{"myAS", "partnerAS"} {
		code, out, errs := command(r.t, "", "sessions", "list", "--as", as, "--user", r.user, "-o", "json", "--config", r.nodes[0].ConfigFile)
		if code != exitOK || strings.TrimSpace(out) != "[]" {
			r.t.Errorf("after the lock the sessions at %s are %s %s", as, out, errs)
		}
	}
}

// mustHaveNone counts rows of the user.
func (r *lockRound) mustHaveNone(when string, counts map[string]string) {
	for what, statement := range counts {
		var n int
		if err := r.rows.QueryRow(r.t.Context(), statement, r.user).Scan(&n); err != nil {
			r.t.Errorf("counting %s: %v", what, err)
		} else if n != 0 {
			r.t.Errorf("%s, %s has %d %s", when, r.user, n, what)
		}
	}
}
