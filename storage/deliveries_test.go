//go:build unix

package storage

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/deliveries"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage/storagetest"
)

// Sessions end, and are detached, in one place each, where their clients are
// told: no other statement may do it.
func TestSessionsEndInOnePlace(t *testing.T) {
	files, err := filepath.Glob("*.go")
	must(t, err)
	written := regexp.MustCompile(`(?s)UPDATE oauth2_sessions[^` + "`" + `]*?\b(ended_at|detached_at) = `)
	found := map[string][]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		must(t, err)
		for _, m := range written.FindAllSubmatch(text, -1) {
			column := string(m[1])
			found[column] = append(found[column], file)
		}
	}
	for _, column := range []string{"ended_at", "detached_at"} {
		if !slices.Equal(found[column], []string{"ending.go"}) {
			t.Errorf("%s of sessions is written in %q, want one statement of ending.go", column, found[column])
		}
	}
}

// busyHouse is the scene with clients that are to be told, and a user with a
// session at each of them in many logins.
func busyHouse(t *testing.T, db *DB, parties, logins int) *scene {
	t.Helper()
	s := newScene(t, db)
	_, err := s.as.InsertGrant(t.Context(), s.grant)
	must(t, err)
	if ok, err := s.as.Redeem(t.Context(), "grant", time.Now()); err != nil || !ok {
		t.Fatal(ok, err)
	}
	for i := range parties {
		id := fmt.Sprintf("party-%03d", i)
		must(t, s.as.InsertClient(t.Context(), &clients.Client{Metadata: clients.Metadata{ClientID: id, BackchannelLogoutURI: "https://" + id + ".example/"}}))
	}
	must(t, db.transact(t.Context(), func(c conn) error {
		for i := range logins {
			if _, err := c.exec(`INSERT INTO oauth2_sessions (authorization_server, id, realm, client_id, client_uid, user_id, subject, login_id,
					origin, scopes, refreshable, offline, authenticated_at, consented_at, custom_attributes, activated_at, created_at, last_used_at,
					expires_at, idle_check_at, position, entry_id)
				SELECT s.authorization_server, CAST(? AS TEXT) || p.client_id, s.realm, p.client_id, p.uid, s.user_id, s.subject, CAST(? AS TEXT),
					s.origin, s.scopes, s.refreshable, s.offline, s.authenticated_at, s.consented_at, s.custom_attributes, s.activated_at, s.created_at, s.last_used_at,
					s.expires_at, s.idle_check_at, CAST(? AS BIGINT) + p.number * 2, CAST(? AS TEXT) || p.client_id
				FROM oauth2_sessions s, clients p WHERE s.id = 'session' AND p.client_id LIKE 'party-%'`,
				fmt.Sprintf("session-%d-", i), fmt.Sprint("login-", i), i*100_000, fmt.Sprintf("entry-%d-", i)); err != nil {
				return err
			}
		}
		return nil
	}))
	return s
}

// A user with 1,000 sessions at 50 clients ends in one transaction of few
// statements, and every client is told of each of its sessions.
func TestThousandSessionsAreToldOfInOneTransaction(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		const parties, logins = 50, 20
		db := openMigrated(t, Config{URL: url})
		s := busyHouse(t, db, parties, logins)
		r := record(t, db)
		announced := 0
		db.OnDelivery(func() { announced++ })
		began := time.Now()
		n, err := s.realm.End(t.Context(), sessions.Target{User: "alex"}, sessions.Ending{Reason: sessions.ReasonLogout})
		took := time.Since(began)
		must(t, err)
		run := len(r.taken())
		t.Logf("%d sessions at %d clients ended with %d statements in %s", n, parties, run, took.Round(time.Millisecond))
		// For each 100 sessions: the ending, its audit events, the messages, the
		// grants. Around them: user, logins, their ending and audit, the locks.
		if n != parties*logins+1 || run > 6+4*11 || announced != 1 {
			t.Errorf("%d sessions ended with %d statements, announced %d times", n, run, announced)
		}
		list, err := db.Deliveries(t.Context(), "myAS", deliveries.Filter{})
		must(t, err)
		told := map[string]int{}
		for _, d := range list {
			told[d.ClientID]++
		}
		if len(list) != parties*logins || len(told) != parties {
			t.Errorf("%d deliveries for %d clients", len(list), len(told))
		}
		for client, n := range told {
			if n != logins {
				t.Errorf("%s is told %d times", client, n)
			}
		}
		backlog, err := db.Backlog(t.Context(), 10_000)
		must(t, err)
		if backlog["myAS"].Count != parties*logins {
			t.Errorf("the backlog is %+v", backlog)
		}
	})
}

// What workers, sweepers and operators ask of deliveries walks indexes.
func TestStatementsOfDeliveriesWalkIndexes(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		db := openMigrated(t, Config{URL: url, MaxConnections: 1})
		s := busyHouse(t, db, 3, 2)
		ctx := t.Context()
		_, err := s.realm.End(ctx, sessions.Target{User: "alex"}, sessions.Ending{})
		must(t, err)
		r := record(t, db)
		if db.postgres {
			_, err := db.pools[0].ExecContext(ctx, "SET enable_seqscan = off")
			must(t, err)
		}
		var claimed []deliveries.Delivery
		claim := func() error {
			var err error
			claimed, err = db.ClaimDeliveries(ctx, deliveries.Claiming{Servers: []string{"myAS"}, Limit: 4, PerClient: 2, Lease: time.Minute})
			if err == nil && len(claimed) != 4 {
				err = fmt.Errorf("claimed %d", len(claimed))
			}
			return err
		}
		list := func(f deliveries.Filter) func() error {
			return func() error { _, err := db.Deliveries(ctx, "myAS", f); return err }
		}
		// CTEs are no tables; and a list that was sent with its statement neither.
		steps := regexp.MustCompile(`^(servers|parties|due|waiting|\d.*|CONSTANT)$`)
		for _, what := range []struct {
			name string
			call func() error
			most int // statements
		}{
			{"claim", claim, 5},
			{"settle", func() error { return db.SettleDelivery(ctx, claimed[0], deliveries.Outcome{State: deliveries.Sent}) }, 1},
			{"release", func() error { return db.ReleaseDeliveries(ctx, claimed[1:]) }, 1},
			{"list", list(deliveries.Filter{}), 1},
			{"list of waiting ones", list(deliveries.Filter{State: deliveries.Waiting}), 1},
			{"list of abandoned ones", list(deliveries.Filter{State: deliveries.Abandoned}), 1},
			{"list of a session", list(deliveries.Filter{SessionID: "session"}), 1},
			{"list of a client", list(deliveries.Filter{ClientID: "album", State: deliveries.Waiting}), 1},
			{"backlog", func() error { _, err := db.Backlog(ctx, 100); return err }, 1},
			{"sweep", func() error {
				_, _, err := s.as.sweepDeliveries(ctx, time.Now().Add(time.Hour).UnixMilli(), 10)
				return err
			}, 2},
			{"tellings", func() error {
				return db.read(ctx, func(c conn) error {
					_, err := tellings(c, []doomed{{"myAS", "session"}, {"myAS", "session-0-party-001"}})
					return err
				})
			}, 1},
		} {
			r.taken()
			must(t, what.call())
			run := r.taken()
			if len(run) == 0 || len(run) > what.most {
				t.Errorf("%s ran %d statements, want at most %d", what.name, len(run), what.most)
			}
			for _, statement := range run {
				if strings.HasPrefix(statement.sql, "SET") {
					continue
				}
				for _, table := range scans(db, t, statement) {
					if !steps.MatchString(table) {
						t.Errorf("%s reads all of %s: %s", what.name, table, statement.sql)
					}
				}
			}
		}
	})
}

// A client with very many messages that are due costs the claim of another's no
// more than one with a hundred, at its bound or not, whatever the database knows
// of the table. There are 20,000, and 100,000 for make test-long.
func TestClaimDoesNotReadWhatADeadClientHasWaiting(t *testing.T) {
	db := openMigrated(t, Config{URL: databases["PostgreSQL"](t), MaxConnections: 1})
	ctx := t.Context()
	exec := func(statement string, args ...any) {
		t.Helper()
		if _, err := db.pools[0].ExecContext(ctx, statement, args...); err != nil {
			t.Fatal(err)
		}
	}
	fill := func(client string, n int, state string) {
		t.Helper()
		exec(`INSERT INTO deliveries SELECT 'myAS', $1 || '-' || i, $1, 'session-' || i, 's', 'https://x.example/', 'RS256', $3::text, 1, i, 0, '',
			CASE WHEN $3 <> 'waiting' THEN i END FROM generate_series(1, $2::bigint) i`, client, n, state)
	}
	exec(`ALTER TABLE deliveries SET (autovacuum_enabled = off)`)
	r := record(t, db)
	// read is how many rows and index entries have been read up to now.
	read := func() (n int) {
		t.Helper()
		exec(`SELECT pg_stat_force_next_flush()`)
		must(t, db.pools[0].QueryRowContext(ctx, `SELECT seq_tup_read + (SELECT SUM(idx_tup_read) FROM pg_stat_user_indexes i WHERE i.relid = t.relid)
			FROM pg_stat_user_tables t WHERE relname = 'deliveries'`).Scan(&n))
		return n
	}
	// claim tells how many the claim has read.
	claim := func(busy int, want string) int {
		t.Helper()
		before := read()
		claimed, err := db.ClaimDeliveries(ctx, deliveries.Claiming{Servers: []string{"myAS"}, Limit: 20, PerClient: 4, Lease: time.Minute,
			Busy: map[deliveries.Party]int{{AuthorizationServer: "myAS", ClientID: "dead"}: busy}})
		must(t, err)
		rows := read() - before
		got := map[string]int{}
		for _, d := range claimed {
			got[d.ClientID]++
		}
		if fmt.Sprint(got) != want {
			t.Errorf("claimed %v, want %s", got, want)
		}
		must(t, db.ReleaseDeliveries(ctx, claimed))
		return rows
	}
	// buffers are what a claim touches.
	buffers := func(busy int, want string) int {
		t.Helper()
		r.taken()
		claim(busy, want)
		run := r.taken()
		tx, err := db.pools[0].BeginTx(ctx, nil)
		must(t, err)
		defer tx.Rollback() //nolint:errcheck // what is measured is undone
		var text []byte
		for _, s := range run {
			switch {
			case strings.HasPrefix(s.sql, "SELECT set_config"):
				_, err := tx.ExecContext(ctx, s.sql)
				must(t, err)
			case strings.HasPrefix(s.sql, "WITH"):
				must(t, tx.QueryRowContext(ctx, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+db.told.numbered(s.sql), s.vars...).Scan(&text))
			}
		}
		var explained []struct {
			Plan planNode
			JIT  json.RawMessage
		}
		must(t, json.Unmarshal(text, &explained))
		if explained[0].JIT != nil {
			t.Errorf("a claim is compiled before it is run: %s", explained[0].JIT)
		}
		return explained[0].Plan.Hits + explained[0].Plan.Reads
	}
	const both, live = "map[dead:4 live:4]", "map[live:4]"
	fill("live", 10, "waiting")
	fill("dead", 100, "waiting")
	exec(`ANALYZE deliveries`)
	small, smallBound := buffers(0, both), buffers(4, live)
	exec(`DELETE FROM deliveries WHERE client_id = 'dead'`)
	exec(`VACUUM (FULL, ANALYZE) deliveries`)
	for range 10 { // so that a plan is made, and would be kept
		claim(0, live)
	}
	many := 20_000
	if long() {
		many = 100_000
	}
	fill("dead", many, "waiting")
	for _, knows := range []string{"none", "all"} {
		if knows == "all" {
			exec(`VACUUM (ANALYZE) deliveries`)
		}
		rows := claim(0, both) + claim(4, live)
		big, bigBound := buffers(0, both), buffers(4, live)
		t.Logf("with %d messages of a dead client, of which the database knows %s, two claims read %d rows; one touches %d buffers, "+
			"and %d with the client at its bound. With 100 messages: %d and %d", many, knows, rows, big, bigBound, small, smallBound)
		if rows > 200 || big > 3*small || bigBound > 3*smallBound {
			t.Error("a claim gets dearer with what a client has waiting")
		}
	}
}

// A node of the previous release writes clients without saying where they are
// told.
func TestClientsOfThePreviousReleaseAreTold(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		db := openMigrated(t, Config{URL: url})
		as := db.For(ServerConfig{Name: "myAS", Realm: "staff", Lifetimes: storagetest.Lifetimes})
		ctx := t.Context()
		told := func() string {
			t.Helper()
			var lines []string
			must(t, db.read(ctx, func(c conn) error {
				return c.rows(func(scan func(...any) error) error {
					var id, uri, alg string
					err := scan(&id, &uri, &alg)
					lines = append(lines, id+" "+uri+" "+alg)
					return err
				}, `SELECT client_id, COALESCE(backchannel_logout_uri, '?'), COALESCE(id_token_alg, '?') FROM clients ORDER BY client_id`)
			}))
			return strings.Join(lines, ", ")
		}
		// PostgreSQL itself could not read the metadata of the second.
		odd := clients.Metadata{ClientID: "b", BackchannelLogoutURI: "https://b.example/?a&<b>", IDTokenSignedAlg: "EdDSA",
			JWKS: json.RawMessage(`{"keys":[{"kid":"\u0000\ud800"}]}`)}
		static := []clients.Client{{Metadata: clients.Metadata{ClientID: "a", BackchannelLogoutURI: "https://a.example/"}}}
		for _, m := range []clients.Metadata{odd, {ClientID: "c"}} {
			must(t, as.InsertClient(ctx, &clients.Client{Metadata: m}))
		}
		_, err := as.SyncStatic(ctx, static)
		must(t, err)
		want := "a https://a.example/ RS256, b https://b.example/?a&<b> EdDSA, c  RS256"
		if got := told(); got != want {
			t.Fatalf("registered: %q, want %q", got, want)
		}
		change := func(statement string) {
			t.Helper()
			must(t, db.write(ctx, func(c conn) error { _, err := c.exec(statement); return err }))
		}
		change(`UPDATE clients SET backchannel_logout_uri = NULL, id_token_alg = NULL`)
		must(t, db.Migrate(ctx))
		if got := told(); got != want {
			t.Errorf("after a start: %q, want %q", got, want)
		}
		change(`UPDATE clients SET backchannel_logout_uri = 'https://old.example/' WHERE static`)
		_, err = as.SyncStatic(ctx, static)
		must(t, err)
		if got := told(); got != want {
			t.Errorf("after the file was read: %q, want %q", got, want)
		}
	})
}

func TestTellingsAreOfTheLatestMessage(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		now := time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)
		db := openMigrated(t, Config{URL: url, Now: func() time.Time { return now }})
		ctx := t.Context()
		insert := func(server, session string, n int) {
			t.Helper()
			must(t, db.write(ctx, func(c conn) error {
				_, err := c.exec(outboxInsert+`VALUES (?, ?, 'album', ?, 's', 'https://x.example/', 'RS256', 'waiting', 1, ?, 0, '')`,
					server, fmt.Sprintf("%03d%s", n, session), session, n)
				return err
			}))
		}
		outcomes := []deliveries.State{deliveries.Sent, deliveries.Abandoned, deliveries.Waiting, deliveries.Abandoned, deliveries.Sent, deliveries.Sent}
		insert("myAS", "once", 1)
		insert("myAS", "never", 2)
		insert("myAS", "waiting", 3)
		insert("myAS", "twice", 4)
		insert("myAS", "twice", 5)
		insert("other", "never", 6)
		claimed, err := db.ClaimDeliveries(ctx, deliveries.Claiming{Servers: []string{"myAS", "other"}, Limit: 10, PerClient: 10, Lease: time.Minute})
		must(t, err)
		for i, d := range claimed {
			now = now.Add(time.Second)
			must(t, db.SettleDelivery(ctx, d, deliveries.Outcome{State: outcomes[i], Next: now}))
		}
		keys := []doomed{{"myAS", "once"}, {"myAS", "never"}, {"myAS", "waiting"}, {"myAS", "twice"}, {"myAS", "untold"}, {"other", "never"}, {"other", "once"}}
		for i := range 150 { // more than one batch
			keys = append(keys, doomed{"myAS", fmt.Sprint("unknown", i)})
		}
		var got map[doomed]telling
		must(t, db.read(ctx, func(c conn) error {
			var err error
			got, err = tellings(c, keys)
			return err
		}))
		want := map[doomed]telling{
			{"myAS", "once"}:    {sessions.ToldAcknowledged, now.Add(-5 * time.Second)},
			{"myAS", "never"}:   {told: sessions.ToldNever},
			{"myAS", "waiting"}: {told: sessions.ToldWaiting},
			{"myAS", "twice"}:   {sessions.ToldAcknowledged, now.Add(-time.Second)},
			{"other", "never"}:  {sessions.ToldAcknowledged, now},
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("tellings are %v, want %v", got, want)
		}
	})
}
