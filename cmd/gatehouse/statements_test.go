//go:build unix

package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse.dev/gatehouse/storage/pgtest"
)

// measured is how often each operation is repeated while it is measured.
const measured = 50

// background are the statements that no request runs, by what stands in them:
// while one of them is seen, a measurement is not valid.
var background = map[string]string{
	"last-use times in a batch":   "WITH v (authorization_server, id, at)",
	"signing keys read again":     "FROM signing_keys",
	"root secrets read again":     "FROM roots",
	"search for what has run out": "check_at <=",
	"removal of what has run out": "DELETE FROM",
	"count of what has run out":   "AS waiting",
	"search for mails":            "mail_next_at <=",
	"a claim that is half seen":   halfAClaim,
	"old deliveries looked at":    "d.state <> 'waiting'",
	"a transaction half seen":     halfATransaction,
}

// halfATransaction stands for the beginning or the end of a transaction of the
// background, the rest of which fell outside the measurement.
const halfATransaction = "half a transaction"

// claimPart stands in the statement by which a node looks for deliveries about
// once a second, in a transaction with claimSetting. That is too often to
// measure in between, so whole ones are left out; nothing is due, and they write
// nothing.
const (
	claimPart    = "UPDATE deliveries SET attempts = deliveries.attempts"
	claimSetting = "SELECT set_config("
	halfAClaim   = "half a claim of deliveries"
)

// withoutClaims takes the claims of deliveries, with what opens and closes their
// transactions, out of counted statements.
func withoutClaims(found map[string]int) (claims int) {
	calls := func(which func(statement string) bool, less int) (n int) {
		for statement := range found {
			if which(statement) {
				n += found[statement]
				if found[statement] -= less; found[statement] <= 0 {
					delete(found, statement)
				}
			}
		}
		return n
	}
	contains := func(part string) func(string) bool {
		return func(statement string) bool { return strings.Contains(statement, part) }
	}
	begins := func(word string) func(string) bool {
		return func(statement string) bool { return strings.HasPrefix(strings.ToLower(statement), word) }
	}
	const all = 1 << 30
	claims = calls(contains(claimPart), all)
	whole := calls(contains(claimSetting), all) == claims
	whole = calls(begins("begin"), claims) >= claims && whole
	whole = calls(begins("commit"), claims) >= claims && whole
	if !whole {
		found[halfAClaim] = 1
	}
	return claims
}

// markHalves adds halfATransaction to counted statements if transactions were
// opened and closed another number of times than whole ones of the operations
// would be: each of these opens and closes the same number.
func markHalves(found map[string]int) {
	ends := map[string]int{}
	for statement, n := range found {
		ends[strings.ToLower(strings.Fields(statement)[0])] += n
	}
	opened, closed := ends["begin"], ends["commit"]+ends["rollback"]
	if opened != closed || opened%measured != 0 {
		found[halfATransaction] = 1
	}
}

func TestHalvesOfTransactionsAreMarked(t *testing.T) {
	for _, tt := range []struct {
		found map[string]int
		half  bool
	}{
		{map[string]int{"SELECT 1": measured}, false},
		{map[string]int{"begin": 2 * measured, "commit": measured, "ROLLBACK": measured, "UPDATE x": 1}, false},
		{map[string]int{"commit": 1}, true},
		{map[string]int{"begin": 1}, true},
		{map[string]int{"begin": 1, "commit": 1}, true},
		{map[string]int{"begin": measured, "commit": measured + 1}, true},
		{map[string]int{"begin isolation level serializable": measured, "commit": measured}, false},
	} {
		markHalves(tt.found)
		if _, half := tt.found[halfATransaction]; half != tt.half {
			t.Errorf("%v: half is %t, want %t", tt.found, half, tt.half)
		}
	}
}

// What requests cost the database, counted by the database itself
// (pg_stat_statements, transaction ids): docs and design promise these numbers.
func TestRequestsCostTheStatementsThatArePromised(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{Preload: []string{"pg_stat_statements"}, Settings: map[string]string{"autovacuum": "off"}})
	database := server.NewDatabase(t)
	machine, register := withMachine(t)
	jwt := houseParties("myAS", 11)
	nodes := startProcess(t, processOptions{Database: database, Change: []func(string) string{withParties(jwt), register}})
	m := newMeter(t, server, database)

	at := desks(t, nodes, albumParty, portalParty, party{"myAS", "reports", "reports-demo", ""}, party{as: "myAS", id: "machine"})[0]
	album, portal, reports, program := at[0], at[1], at[2], at[3]
	house := desks(t, nodes, jwt...)[0]
	alex := newVisitor(wide(nodes[0]), "alex", "alex-demo")
	atAlbum := album.redeem(album.authorize(alex).Get("code"))
	atPortal := portal.redeem(portal.authorize(alex).Get("code"))
	bea := newVisitor(wide(nodes[0]), "bea", "bea-demo")
	atHouse := house[0].redeem(house[0].authorize(bea).Get("code"))
	assertions := 0

	ok := func(what string, status int) {
		if status != http.StatusOK {
			t.Errorf("%s: %d", what, status)
		}
	}
	active := func(d *desk, token string) {
		if !d.introspect(token).Active {
			t.Error("introspection: not active")
		}
	}
	refreshed := func(d *desk, held *tokens) func() {
		return func() {
			*held = d.refresh(held.Refresh)
			ok("refresh", held.Status)
		}
	}

	page := func(v *visitor) func() {
		return func() {
			res, err := v.client.Get(nodes[0].PublicURL + "/account/sessions")
			if err != nil {
				t.Fatal(err)
			}
			if body := text(t, res); !strings.Contains(body, "This browser") {
				t.Errorf("account page: %s", body)
			}
			ok("account page", res.StatusCode)
		}
	}
	for _, tt := range []struct {
		name      string
		operation func()
		costs     map[string]int // by a statement's first word; of each operation
		writes    int            // transactions that write, of each operation
	}{
		{"refresh, JWT", refreshed(album, &atAlbum), map[string]int{"SELECT": 1, "UPDATE": 1}, 1},
		{"refresh, opaque", refreshed(portal, &atPortal), map[string]int{"SELECT": 1, "UPDATE": 1}, 1},
		{"client credentials", func() { ok("token", reports.token("grant_type", "client_credentials").Status) }, nil, 0},
		{"client credentials, private_key_jwt", func() {
			assertions++
			ok("token", machine.token(program, machine.assertion(program, fmt.Sprint("assertion ", assertions))).Status)
		}, map[string]int{"INSERT": 1}, 1},
		{"introspection, JWT", func() { active(album, atAlbum.Access) }, map[string]int{"SELECT": 1}, 0},
		{"introspection, opaque", func() { active(portal, atPortal.Access) }, map[string]int{"SELECT": 1}, 0},
		{"introspection by another client", func() { active(reports, atAlbum.Access) }, map[string]int{"SELECT": 1}, 0},
		{"userinfo, JWT", func() { ok("userinfo", album.userinfo(atAlbum.Access)) }, map[string]int{"SELECT": 1}, 0},
		{"userinfo, opaque", func() { ok("userinfo", portal.userinfo(atPortal.Access)) }, map[string]int{"SELECT": 1}, 0},
		{"account page", page(alex), map[string]int{"SELECT": 6, "WITH": 1}, 0},
	} {
		r := m.measure(tt.name, tt.operation)
		want := map[string]int{}
		for word, n := range tt.costs {
			want[word] = n * measured
		}
		if got := r.byWord(); !maps.Equal(got, want) {
			t.Errorf("%d times %s cost %v, want %v:\n%s", measured, tt.name, got, want, r)
		}
		if r.writes != int64(tt.writes*measured) {
			t.Errorf("%d times %s are %d transactions that write, want %d", measured, tt.name, r.writes, tt.writes*measured)
		}
	}

	list := func() { ok("sessions", house[0].send(http.MethodGet, "/sessions/", nil, atHouse.Access, nil)) }
	one := m.measure("sessions, 1", list)
	for _, d := range house[1:10] {
		ok("another session", d.redeem(d.authorize(bea).Get("code")).Status)
	}
	ten := m.measure("sessions, 10", list)
	if n := m.sessionsOf("bea"); n != 10 {
		t.Errorf("there are %d sessions, want 10", n)
	}
	if !maps.Equal(one.byWord(), ten.byWord()) || one.byWord()["SELECT"] != one.calls() || ten.writes != 0 {
		t.Errorf("the list of 1 session costs\n%sthe list of 10\n%s", one, ten)
	}
	if many := m.measure("account page, 10", page(bea)); many.byWord()["SELECT"] != 6*measured || many.calls() != 7*measured || many.writes != 0 {
		t.Errorf("the account page with 10 applications costs\n%s", many)
	}
	t.Logf("a list of sessions costs %d statements, of 1 session as of 10", one.calls()/measured)
}

// A visitor who has not signed in writes nothing, whatever he opens.
func TestAnonymousVisitWritesNothing(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{Preload: []string{"pg_stat_statements"}, Settings: map[string]string{"autovacuum": "off"}})
	database := server.NewDatabase(t)
	nodes := startProcess(t, processOptions{Database: database})
	m := newMeter(t, server, database)
	client := &http.Client{Transport: wide(nodes[0]), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	get := func(address, cookie string) (status int, to *url.URL) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if cookie != "" {
			req.AddCookie(&http.Cookie{Name: "gatehouse-default", Value: cookie})
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text(t, res)
		if to, err = res.Location(); err != nil {
			to = &url.URL{}
		}
		return res.StatusCode, to
	}
	at := desks(t, nodes, albumParty, portalParty)[0]
	way := func(cookie string) func() {
		return func() {
			for _, d := range at {
				status, to := get(d.request(), cookie)
				if to.Path != "/login" {
					t.Fatalf("the authorization request is answered with %d to %s, want the sign-in page", status, to)
				}
				if status, _ := get(to.String(), cookie); status != http.StatusOK {
					t.Errorf("the sign-in page is %d", status)
				}
				if status, to := get(d.request("prompt", "none"), cookie); to.Query().Get("error") != "login_required" {
					t.Errorf("prompt=none is answered with %d to %s, want login_required", status, to)
				}
			}
		}
	}
	for _, tt := range []struct {
		name  string
		visit func()
	}{
		{"authorization request that ends at the sign-in page", way("")},
		{"the same with a cookie of nobody's", way(strings.Repeat("A", 43))},
		{"GET /login", func() {
			if status, _ := get(nodes[0].PublicURL+"/login", ""); status != http.StatusOK {
				t.Errorf("/login is %d", status)
			}
		}},
	} {
		before := m.tables()
		r := m.measure(tt.name, tt.visit)
		after := m.tables()
		if !maps.Equal(before, after) {
			t.Errorf("%s changes rows: before %v, after %v", tt.name, before, after)
		}
		if r.writes != 0 || r.byWord()["SELECT"] != r.calls() {
			t.Errorf("%s: %d transactions write:\n%s", tt.name, r.writes, r)
		}
		t.Logf("%d times %s: %d statements", measured, tt.name, r.calls())
	}
}

// The commits of a refresh are counted as the difference that 500 refreshes more
// make over the whole life of a process: connections report what they committed
// when they end.
func TestRefreshCommitsOnceForWriting(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{Preload: []string{"pg_stat_statements"}, Settings: map[string]string{"autovacuum": "off"}})
	database := server.NewDatabase(t)
	n := startProcess(t, processOptions{Database: database})[0]
	d := desks(t, []*node{n}, albumParty)[0][0]
	held := d.redeem(d.authorize(newVisitor(wide(n), "alex", "alex-demo")).Get("code"))
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	m := newMeter(t, server, database)
	lifeWith := func(refreshes int) int64 {
		before := m.commits()
		m.number(`SELECT count(pg_stat_statements_reset())`)
		again := restarted(n)
		at := desks(t, []*node{again}, albumParty)[0][0]
		for range refreshes {
			if held = at.refresh(held.Refresh); held.Status != http.StatusOK {
				t.Fatalf("refresh: %d %s", held.Status, held.Error)
			}
		}
		if err := again.Stop(); err != nil {
			t.Fatal(err)
		}
		made := m.commits() - before
		return made - int64(withoutClaims(m.statements()))
	}
	// Each is its own transaction: one statement that reads, one that writes. A
	// connection commits as well when it begins, and when it learns a statement;
	// how many do hangs on what the process does at the same time, not on how
	// many refreshes there are.
	const more, want, stray = 10 * measured, 2 * 10 * measured, measured
	got := -lifeWith(measured) + lifeWith(measured+more)
	t.Logf("%d refreshes more are %d commits more", more, got)
	if got < want-stray || got > want+stray {
		t.Errorf("%d refreshes more are %d commits more, want %d", more, got, want)
	}
}

// meter reads what a database counted. It is connected to another one of the
// same server, so that it doesn't count itself.
type meter struct {
	*rows
	database string // URL
	name     string
}

func newMeter(t testing.TB, server *pgtest.Server, database string) *meter {
	t.Helper()
	config, err := pgx.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	m := &meter{openRows(t, server.URL("postgres")), database, config.Database}
	if _, err := m.Exec(t.Context(), `CREATE EXTENSION IF NOT EXISTS pg_stat_statements`); err != nil {
		t.Fatal(err)
	}
	return m
}

// reading is what the database counted.
type reading struct {
	statements map[string]int // calls by text
	writes     int64          // transactions that got an id, because they write
}

// measure runs an operation often enough that every cache is warm, and then as
// often as measured while the database counts.
func (m *meter) measure(name string, operation func()) *reading {
	m.t.Helper()
	for range 5 {
		operation()
	}
	// Last-use times are written at most once a minute, and keys read every 30 s:
	// there is time for a measurement in between.
	var disturbed string
	for range 10 {
		m.number(`SELECT count(pg_stat_statements_reset())`)
		began := m.transactions()
		for range measured {
			operation()
		}
		r := &reading{statements: m.statements(), writes: m.transactions() - began}
		withoutClaims(r.statements)
		markHalves(r.statements)
		if disturbed = r.disturbance(); disturbed == "" {
			return r
		}
	}
	m.t.Fatalf("%s could not be measured: each time there were %s", name, disturbed)
	return nil
}

func (m *meter) statements() map[string]int {
	m.t.Helper()
	found := map[string]int{}
	result, err := m.Query(m.t.Context(), `SELECT s.query, s.calls FROM pg_stat_statements s
		JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = $1`, m.name)
	if err != nil {
		m.t.Fatal(err)
	}
	var query string
	var calls int
	if _, err := pgx.ForEachRow(result, []any{&query, &calls}, func() error {
		found[query] += calls
		return nil
	}); err != nil {
		m.t.Fatal(err)
	}
	return found
}

// transactions is the next transaction id: only what writes or locks gets one.
func (m *meter) transactions() int64 {
	return m.number(`SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint`)
}

// commits is how many transactions the database has committed, once nobody is
// connected to it.
func (m *meter) commits() int64 {
	m.t.Helper()
	poll(m.t.(*testing.T), "the server's connections end", func() bool {
		return m.number(`SELECT count(*) FROM pg_stat_activity WHERE datname = $1`, m.name) == 0
	})
	return m.number(`SELECT xact_commit FROM pg_stat_database WHERE datname = $1`, m.name)
}

// tables tells of each table what would be another value after any change: its
// rows with their place and the transaction that wrote them.
func (m *meter) tables() map[string]string {
	m.t.Helper()
	// Connected only while nothing is measured.
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, m.database)
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close(ctx)
	result, err := conn.Query(ctx, `SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename`)
	if err != nil {
		m.t.Fatal(err)
	}
	names, err := pgx.CollectRows(result, pgx.RowTo[string])
	if err != nil || len(names) < 8 {
		m.t.Fatalf("tables %v, %v", names, err)
	}
	found := map[string]string{}
	for _, name := range names {
		var state string
		if err := conn.QueryRow(ctx, `SELECT count(*) || ' ' || COALESCE(md5(string_agg(concat_ws(' ', r.ctid, r.xmin, r.xmax, r), ',' ORDER BY r.ctid)), '')
			FROM `+pgx.Identifier{name}.Sanitize()+` r`).Scan(&state); err != nil {
			m.t.Fatalf("%s: %v", name, err)
		}
		found[name] = state
	}
	return found
}

// sessionsOf counts a user's live sessions.
func (m *meter) sessionsOf(user string) int64 {
	m.t.Helper()
	return openRows(m.t, m.database).number(`SELECT count(*) FROM oauth2_sessions s JOIN users u ON u.id = s.user_id
		WHERE u.username = $1 AND s.ended_at IS NULL`, user)
}

// disturbance names the background's work among the statements; empty if there
// is none.
func (r *reading) disturbance() string {
	for name, part := range background {
		for statement := range r.statements {
			if strings.Contains(statement, part) {
				return name
			}
		}
	}
	return ""
}

func (r *reading) calls() (n int) {
	for _, calls := range r.statements {
		n += calls
	}
	return n
}

// byWord counts the calls by the first word of statements.
func (r *reading) byWord() map[string]int {
	found := map[string]int{}
	for statement, calls := range r.statements {
		found[strings.ToUpper(strings.Fields(statement)[0])] += calls
	}
	return found
}

func (r *reading) String() string {
	var b strings.Builder
	for _, statement := range slices.Sorted(maps.Keys(r.statements)) {
		fmt.Fprintf(&b, "  %d times %s\n", r.statements[statement], strings.Join(strings.Fields(statement), " "))
	}
	return b.String()
}
