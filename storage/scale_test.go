//go:build unix

package storage

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage/pgtest"
	"gatehouse.dev/gatehouse/users"
)

const (
	// listed is how many sessions the user has whose list is measured.
	listed = 10
	// dueRows is how many rows of each kind are due for the sweeper, whatever the
	// size of the tables.
	dueRows = 50
	// mostGrowth is how much more of the buffers a call may touch when there are
	// a hundred times as many rows, and spareHits what the deeper trees of its
	// indexes may cost beyond that.
	mostGrowth = 1.5
	spareHits  = 8
)

// deed is a call of the product with the statements that it ran.
type deed struct {
	name       string
	statements []statement
}

// capture makes the calls that must not get dearer, each on a user of its own
// whose name ends with -a, and returns their statements with the values of the
// twin whose name ends with -b. So each can be run on fresh rows, many times.
func capture(t *testing.T, db *DB) []deed {
	t.Helper()
	ctx, now := t.Context(), time.Now()
	realm := db.Realm(RealmConfig{Name: "staff", Lifetimes: dayLong})
	as := db.For(ServerConfig{Name: "myAS", Realm: "staff", Lifetimes: dayLong})
	for i := range 100 { // of many
		must(t, as.InsertClient(ctx, &clients.Client{Metadata: clients.Metadata{ClientID: fmt.Sprint("client-", i),
			BackchannelLogoutURI: "https://client.example/logout"}}))
	}
	twins := map[string]string{}
	newGrant := func(login *sessions.Login, name string, n int) oauth.NewGrant {
		return oauth.NewGrant{LoginID: login.ID, Subject: name, Consented: now, Session: sessions.Session{ID: fmt.Sprintf("%s-session-%d", name, n)},
			Grant: oauth.Grant{ID: fmt.Sprintf("%s-grant-%d", name, n), ClientID: fmt.Sprint("client-", n), UserID: name, AuthTime: now,
				CreatedAt: now, CodeExpires: now.Add(time.Minute), Refreshable: true, Offline: n == 3}}
	}
	signIn := func(name string, many int) *sessions.Login {
		must(t, realm.InsertUser(ctx, &users.User{ID: name, Username: name, CreatedAt: now}))
		login, err := realm.SignIn(ctx, sessions.SignIn{UserID: name, AuthTime: now, CookieHash: []byte(name), ExpiresAt: now.Add(time.Hour)}, sessions.Ending{})
		must(t, err)
		for n := range many {
			g := newGrant(login, name, n)
			_, err := as.InsertGrant(ctx, g)
			must(t, err)
			_, err = as.Redeem(ctx, g.Grant.ID, now)
			must(t, err)
		}
		return login
	}
	pair := func(name string, many int) *sessions.Login {
		a, b := signIn(name+"-a", many), signIn(name+"-b", many)
		twins[a.ID], twins[name+"-a"] = b.ID, name+"-b"
		for n := range many + 1 {
			for _, kind := range []string{"session", "grant"} {
				twins[fmt.Sprintf("%s-a-%s-%d", name, kind, n)] = fmt.Sprintf("%s-b-%s-%d", name, kind, n)
			}
		}
		return a
	}
	alex := signIn("alex", listed)
	r := record(t, db)
	var deeds []deed
	do := func(name string, call func() error) {
		t.Helper()
		r.taken()
		if err := call(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		run := r.taken()
		if len(run) == 0 {
			t.Fatalf("%s ran no statement", name)
		}
		deeds = append(deeds, deed{name, run})
	}
	one := func(_ any, err error) error { return err }
	user := sessions.Ending{By: sessions.Actor{Kind: sessions.ActorUser, ID: "alex"}, Reason: sessions.ReasonLogout}

	do("list of sessions", func() error {
		found, err := as.Sessions(ctx, sessions.Filter{UserID: "alex"})
		if err == nil && len(found) != listed {
			err = fmt.Errorf("%d sessions", len(found))
		}
		return err
	})
	do("one session", func() error { return one(as.Session(ctx, "alex-session-4", "alex")) })
	do("introspection", func() error { return one(as.State(ctx, "alex-grant-4", "jti")) })
	do("token of a client", func() error { return one(as.ClientToken(ctx, "client-4", "jti")) })
	do("browser's login", func() error { return one(realm.LoginByCookie(ctx, []byte("alex"))) })
	do("last use", func() error {
		return realm.Touch(ctx, []sessions.Touch{{LoginID: alex.ID, AuthorizationServer: "myAS", SessionID: "alex-session-4", At: now.Add(time.Second)}})
	})
	pair("refresh", 4)
	do("refresh", func() error {
		return errors.Join(one(as.State(ctx, "refresh-a-grant-1", "")), one(as.Advance(ctx, "refresh-a-grant-1", 1, now)), as.CountGrace(ctx, "refresh-a-grant-1", 2))
	})
	login := pair("authorize", 4)
	do("authorization and redemption", func() error {
		g := newGrant(login, "authorize-a", 4)
		return errors.Join(one(as.InsertGrant(ctx, g)), one(as.Redeem(ctx, g.Grant.ID, now)))
	})
	pair("session", 4)
	do("ending one session", func() error {
		return one(as.End(ctx, sessions.Target{Session: "session-a-session-1", OfUser: "session-a"}, user))
	})
	pair("grant", 4)
	do("ending a grant", func() error { return one(as.End(ctx, sessions.Target{Grant: "grant-a-grant-1"}, user)) })
	pair("all", 4)
	do("ending all of a user's sessions", func() error { return one(as.End(ctx, sessions.Target{All: true, OfUser: "all-a"}, user)) })
	login = pair("login", 4)
	do("ending a login", func() error { return one(realm.End(ctx, sessions.Target{Login: login.ID}, user)) })
	pair("user", 4)
	do("ending a user", func() error { return one(realm.End(ctx, sessions.Target{User: "user-a"}, user)) })
	const history = 30 * 24 * time.Hour
	do("sweeping a realm", func() error {
		return errors.Join(one(realm.Sweep(ctx, history, 200)), one(realm.SweepThrottle(ctx, now, 200)))
	})
	do("sweeping an authorization server", func() error { return one(as.Sweep(ctx, history, 200)) })
	do("counting what waits", func() error {
		return errors.Join(one(realm.Waiting(ctx, history, 10_001)), one(as.Waiting(ctx, history, 10_001)))
	})
	for _, d := range deeds {
		for _, s := range d.statements {
			for i, v := range s.vars {
				switch v := v.(type) {
				case string:
					if twin, ok := twins[v]; ok {
						s.vars[i] = twin
					}
				case []byte:
					if twin, ok := twins[string(v)]; ok {
						s.vars[i] = []byte(twin)
					}
				case int64:
					// A place in the realm's list, which no other session may have.
					if i == 20 && strings.Contains(s.sql, "idle_check_at, position, entry_id)") {
						s.vars[i] = v + 2
					}
				}
			}
		}
	}
	return deeds
}

// No statement of these calls reads a table of SQLite from end to end, whatever
// is in it.
func TestSQLiteSearchesByIndexes(t *testing.T) {
	db := openMigrated(t, Config{URL: databases["SQLite"](t), MaxConnections: 1})
	searches := 0
	for _, d := range capture(t, db) {
		for _, s := range d.statements {
			for _, line := range queryPlan(t, db, s) {
				searches += strings.Count(line, "SEARCH")
				if regexp.MustCompile(`^SCAN (v|CONSTANT|\d|a|b|c|removable|waiting|\()`).MatchString(line) {
					continue // what a statement brings with it, or has found before
				}
				if strings.HasPrefix(line, "SCAN") || strings.Contains(line, "AUTOMATIC") {
					t.Errorf("%s: %s in %s", d.name, line, s.sql)
				}
			}
		}
	}
	if searches < 50 {
		t.Errorf("the plans have %d searches only", searches)
	}
}

func queryPlan(t *testing.T, db *DB, s statement) (lines []string) {
	t.Helper()
	rows, err := db.pools[0].QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+s.sql, s.vars...)
	if err != nil {
		t.Fatalf("%s: %v", s.sql, err)
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		var id int
		must(t, rows.Scan(&id, &id, &id, &line))
		lines = append(lines, line)
	}
	must(t, rows.Err())
	return lines
}

// A call costs with a million sessions what it costs with ten thousand: the
// same plans, and the same pages but for deeper indexes.
func TestLongCallsCostTheSameWithMillionSessions(t *testing.T) {
	if !long() {
		return
	}
	url := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"autovacuum": "off", "shared_buffers": "256MB", "jit": "off"}}).NewDatabase(t)
	db := openMigrated(t, Config{URL: url, MaxConnections: 4})
	w := &warehouse{T: t, db: db.pools[0], now: time.Now().UnixMilli(), deeds: capture(t, db)}
	w.due()
	w.fill(0, 12_400)
	small := w.measure(10_000)
	w.fill(12_400, 1_240_000)
	large := w.measure(1_000_000)
	for i, d := range w.deeds {
		a, b := small[i], large[i]
		t.Logf("%-32s %5d buffers with 10,000 sessions, %5d with 1,000,000", d.name, a.hits, b.hits)
		spare := spareHits * len(d.statements)
		if d.name == "list of sessions" {
			spare = 0
		}
		if float64(b.hits) > mostGrowth*float64(a.hits)+float64(spare) {
			t.Errorf("%s touches %d buffers, and with a hundred times the rows %d:\n%s", d.name, a.hits, b.hits, strings.Join(b.each, "\n"))
		}
		// What the sweeper asks for at once may be a good part of a small table.
		if !slices.Equal(a.plans, b.plans) && !strings.HasPrefix(d.name, "sweeping") {
			t.Errorf("%s has other plans:\n%s\nwith a hundred times the rows:\n%s", d.name, strings.Join(a.plans, "\n"), strings.Join(b.plans, "\n"))
		}
		for _, plan := range b.plans {
			if strings.Contains(plan, "Seq Scan") {
				t.Errorf("%s reads a table from end to end: %s", d.name, plan)
			}
		}
	}
}

// warehouse is a PostgreSQL database that is filled with other people's rows.
type warehouse struct {
	*testing.T
	db    *sql.DB
	now   int64
	deeds []deed

	filled int // how often it was
}

func (w *warehouse) exec(statement string, args ...any) {
	w.Helper()
	if _, err := w.db.ExecContext(context.Background(), statement, args...); err != nil {
		w.Fatalf("%s: %v", statement, err)
	}
}

// copies inserts copies of a row of alex's, one for each i from from on before
// to, with the columns that the JSON object changes.
func (w *warehouse) copies(table, key string, from, to int, where, change string) {
	w.Helper()
	// Places in the list of the realm are unique, and so are the ids in it.
	w.filled++
	switch table {
	case "logins":
		change += fmt.Sprintf(` || jsonb_build_object('position', (%d0000000::bigint + i) * 2)`, w.filled)
	case "oauth2_sessions":
		change += fmt.Sprintf(` || jsonb_build_object('position', (%d0000000::bigint + i) * 2 + 1, 'entry_id', md5('%d' || i) || md5('e' || i))`, w.filled, w.filled)
	}
	w.exec(fmt.Sprintf(`INSERT INTO %s SELECT r.* FROM %s t, generate_series(%d, %d) i,
		LATERAL (SELECT i / 4 AS j, %d::bigint AS now, (i::bigint * 7919) %% 2500000 * 1000 AS ago) x,
		LATERAL jsonb_populate_record(t, %s) r WHERE %s AND %s`, table, table, from, to-1, w.now, change, key, where))
}

const (
	ofAlexUser    = `t.id = 'alex'`
	ofAlexLogin   = `t.cookie_hash = 'alex'`
	ofAlexSession = `t.id = 'alex-session-4'`
	ofAlexGrant   = `t.id = 'alex-grant-4'`
)

// fill adds people with a login for every 4 numbers i: of 4 logins one ended
// before the history began (and was put off by the sweeper), one within it, two
// live; each has a session at 4 of 100 clients, of which one without refresh tokens and one with offline access,
// which outlives the login. A user has 2.5 logins.
func (w *warehouse) fill(from, to int) {
	w.Helper()
	w.copies("users", ofAlexUser, from/10, to/10+1, fmt.Sprintf(`(i >= %d OR i = 0) AND NOT EXISTS (SELECT 1 FROM users o WHERE o.id = 'u-' || i)`, from/10),
		`jsonb_build_object('id', 'u-' || i, 'username', 'u-' || i, 'username_key', 'u-' || i)`)
	w.copies("logins", ofAlexLogin, from, to, `i % 4 = 0`, `jsonb_build_object('id', md5('l' || j) || md5('m' || j), 'user_id', 'u-' || (j * 4 / 10),
		'cookie_hash', '\x' || md5('c' || j), 'created_at', now - ago - 86400000, 'auth_time', now - ago - 86400000,
		'expires_at', now + 864000000, 'last_access_at', now - 60000,
		'check_at', CASE j % 4 WHEN 0 THEN now - ago - 2592000000 + (ago + 86400000) WHEN 2 THEN now - ago ELSE now + 86400000 END,
		'ended_at', CASE j % 4 WHEN 0 THEN now - ago - 2592000000 WHEN 2 THEN now - ago END, 'ended_reason', CASE WHEN j % 2 = 0 THEN 'logout' END)`)
	w.copies("oauth2_sessions", ofAlexSession, from, to, `(j % 4 <> 0 OR i % 4 = 3)`, `jsonb_build_object('id', left(md5('s' || i) || md5('t' || i), 40),
		'user_id', 'u-' || (j * 4 / 10), 'subject', 'u-' || (j * 4 / 10), 'login_id', md5('l' || j) || md5('m' || j),
		'client_id', 'client-' || (i % 4 + 4 * (j % 25)),
		'client_uid', (SELECT uid FROM clients o WHERE o.authorization_server = 'myAS' AND o.client_id = 'client-' || (i % 4 + 4 * (j % 25))),
		'refreshable', i % 4 <> 0, 'offline', i % 4 = 3, 'offline_expires_at', CASE WHEN i % 4 = 3 THEN now + 8640000000 END,
		'created_at', now - ago - 80000000, 'last_used_at', now - 60000, 'expires_at', now + 864000000, 'idle_check_at', CASE WHEN j % 4 = 2 AND i % 4 <> 3 THEN now - ago ELSE now + 86400000 END,
		'detached_at', CASE WHEN j % 2 = 0 AND i % 4 = 3 THEN now - ago END,
		'ended_at', CASE WHEN j % 4 = 2 AND i % 4 <> 3 THEN now - ago END, 'ended_reason', CASE WHEN j % 4 = 2 AND i % 4 <> 3 THEN 'logout' END,
		'proof_after', CASE WHEN j % 4 = 2 AND i % 4 = 1 THEN now - ago END)`)
	// Grants of ended sessions are there for an hour, and those without refresh
	// tokens until their tokens expire.
	w.copies("grants", ofAlexGrant, from, to, `CASE WHEN i % 4 = 3 THEN true WHEN j % 4 = 2 THEN ago < 3600000 WHEN i % 4 = 0 THEN j % 100 = 1 ELSE j % 2 = 1 END`,
		`jsonb_build_object('id', left(md5('g' || i), 22), 'session_id', left(md5('s' || i) || md5('t' || i), 40), 'user_id', 'u-' || (j * 4 / 10),
		'client_id', 'client-' || (i % 4 + 4 * (j % 25)), 'refreshable', i % 4 <> 0, 'offline', i % 4 = 3,
		'created_at', CASE WHEN i % 4 = 0 THEN now - 60000 ELSE now - ago - 80000000 END, 'last_used_at', now - 60000,
		'removable_at', CASE WHEN i % 4 = 0 THEN now + 300000 END,
		'ended_at', CASE WHEN j % 4 = 2 AND i % 4 <> 3 THEN now - ago END)`)
	w.tell(from, to)
}

// tell adds the messages about what has ended within the history, all of them
// settled: one of each ten in vain.
func (w *warehouse) tell(from, to int) {
	w.Helper()
	w.exec(`INSERT INTO deliveries (authorization_server, id, client_id, session_id, subject, uri, alg, state, created_at, next_at, attempts, last_error, settled_at)
		SELECT 'myAS', lpad(to_hex($3 - ago), 12, '0') || 's' || session, 'client-' || (i % 4 + 4 * (j % 25)), session, 'u-' || (j * 4 / 10), 'https://client.example/logout',
			'RS256', CASE WHEN i % 10 = 0 THEN 'abandoned' ELSE 'sent' END, $3 - ago, $3 - ago + 1000, 1, '', $3 - ago + 1000
		FROM generate_series($1::int, $2::int) i, LATERAL (SELECT i / 4 AS j, (i::bigint * 7919) % 2500000 * 1000 AS ago, left(md5('s' || i) || md5('t' || i), 40) AS session) x
		WHERE j % 4 = 2`, from, to-1, w.now)
}

// due adds what the sweeper finds.
func (w *warehouse) due() {
	w.Helper()
	const long = `now - 5184000000` // 60 days ago
	w.copies("clients", `t.client_id = 'client-0'`, 100, 2000, `true`, `jsonb_build_object('client_id', 'client-' || i, 'uid', 'uid-' || i, 'number', 100000 + i)`)
	w.copies("logins", ofAlexLogin, 0, dueRows, `true`, `jsonb_build_object('id', 'due-' || i, 'cookie_hash', '\xd0' || md5('d' || i), 'check_at', now - 1000)`)
	w.copies("logins", ofAlexLogin, 0, dueRows, `true`, `jsonb_build_object('id', 'old-' || i, 'cookie_hash', '\xd1' || md5('d' || i), 'check_at', `+long+`, 'ended_at', `+long+`)`)
	w.copies("oauth2_sessions", ofAlexSession, 0, dueRows, `true`, `jsonb_build_object('id', 'due-' || i, 'login_id', 'due-' || i, 'user_id', 'nobody', 'idle_check_at', now - 1000)`)
	w.copies("oauth2_sessions", ofAlexSession, 0, dueRows, `true`, `jsonb_build_object('id', 'old-' || i, 'login_id', 'gone-' || i, 'user_id', 'nobody', 'idle_check_at', `+long+`, 'ended_at', `+long+`)`)
	w.copies("grants", ofAlexGrant, 0, dueRows, `true`, `jsonb_build_object('id', 'due-' || i, 'session_id', 'due-' || i, 'created_at', now - 600000, 'removable_at', now - 1000)`)
	w.exec(`INSERT INTO deliveries SELECT 'myAS', '0' || i, 'client-1', 'gone-' || i, 's', 'https://client.example/logout', 'RS256', 'sent', `+strings.Replace(long, "now", "$1::bigint", 1)+`,
		`+strings.Replace(long, "now", "$1::bigint", 1)+`, 1, '', `+strings.Replace(long, "now", "$1::bigint", 1)+` FROM generate_series(1, $2::bigint) i`, w.now, dueRows)
	w.exec(`INSERT INTO revoked_tokens SELECT 'myAS', 'due-' || i, $1::bigint - 1000 FROM generate_series(1, $2::bigint) i`, w.now, dueRows)
	w.exec(`INSERT INTO revoked_tokens SELECT 'myAS', 'not due-' || i, $1::bigint + 600000 FROM generate_series(1, $2::bigint) i`, w.now, 400*dueRows)
	w.exec(`INSERT INTO assertions SELECT 'myAS', 'machine', decode(md5(i::text), 'hex'), $1::bigint - 1000 FROM generate_series(1, $2::bigint) i`, w.now, dueRows)
	w.exec(`INSERT INTO assertions SELECT 'myAS', 'machine', decode(md5('n' || i), 'hex'), $1::bigint + 600000 FROM generate_series(1, $2::bigint) i`, w.now, 400*dueRows)
	w.exec(`INSERT INTO throttle_counters SELECT 'staff', 'account', i, 1, 1, $1::bigint, NULL, $1::bigint + 600000 * sign(i - $2::bigint - 0.5) FROM generate_series(1, 400 * $2::bigint) i`, w.now, dueRows)
}

// cost is what the statements of a deed touch.
type cost struct {
	hits  int
	plans []string // nodes and indexes of each statement
	each  []string // hits and text of each statement
}

// measure runs every deed, and undoes it.
func (w *warehouse) measure(least int) []cost {
	w.Helper()
	w.exec(`VACUUM (ANALYZE)`)
	var n int
	must(w.T, w.db.QueryRowContext(w.Context(), `SELECT COUNT(*) FROM oauth2_sessions`).Scan(&n))
	if n < least {
		w.Fatalf("there are %d sessions, want %d", n, least)
	}
	costs := make([]cost, len(w.deeds))
	for i, d := range w.deeds {
		tx, err := w.db.BeginTx(w.Context(), nil)
		must(w.T, err)
		for _, s := range d.statements {
			var text []byte
			if err := tx.QueryRowContext(w.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+s.sql, s.vars...).Scan(&text); err != nil {
				w.Fatalf("%s: %s: %v", d.name, s.sql, err)
			}
			var explained []struct{ Plan planNode }
			must(w.T, json.Unmarshal(text, &explained))
			p := explained[0].Plan
			costs[i].hits += p.Hits + p.Reads
			costs[i].plans = append(costs[i].plans, p.String())
			costs[i].each = append(costs[i].each, fmt.Sprintf("%6d %s %s", p.Hits+p.Reads, p, strings.Join(strings.Fields(s.sql), " ")))
		}
		must(w.T, tx.Rollback())
	}
	return costs
}

// planNode is a part of a plan.
type planNode struct {
	Type  string `json:"Node Type"`
	Index string `json:"Index Name"`
	Table string `json:"Relation Name"`
	Hits  int    `json:"Shared Hit Blocks"`
	Reads int    `json:"Shared Read Blocks"`
	Plans []planNode
}

// String is the node with all below it.
func (p planNode) String() string {
	name := p.Type
	for _, of := range []string{p.Index, p.Table} {
		if of != "" {
			name += " " + of
			break
		}
	}
	var below []string
	for _, sub := range p.Plans {
		below = append(below, sub.String())
	}
	if len(below) == 0 {
		return name
	}
	return name + "(" + strings.Join(below, ", ") + ")"
}
