//go:build unix

package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage/storagetest"
	"gatehouse.dev/gatehouse/throttle"
	"gatehouse.dev/gatehouse/users"
)

// statement is one that was run, with its values.
type statement struct {
	sql  string
	vars []any
}

// recorder keeps what a database is told.
type recorder struct {
	mu  sync.Mutex
	run []statement
}

func record(t *testing.T, db *DB) *recorder {
	t.Helper()
	r := &recorder{}
	hook := func(tx *gorm.DB) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.run = append(r.run, statement{tx.Statement.SQL.String(), slices.Clone(tx.Statement.Vars)})
	}
	// What gorm writes is seen by its callbacks, all other statements by told.
	db.told.watch = func(text string, args []any) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.run = append(r.run, statement{text, slices.Clone(args)})
	}
	pools := []*gorm.DB{db.writes}
	if db.reads != db.writes {
		pools = append(pools, db.reads)
	}
	for _, pool := range pools {
		for _, err := range []error{
			pool.Callback().Row().Before("gorm:row").Register("record", hook),
			pool.Callback().Raw().Before("gorm:raw").Register("record", hook),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return r
}

// taken returns what was run since it was called last.
func (r *recorder) taken() []statement {
	r.mu.Lock()
	defer r.mu.Unlock()
	run := r.run
	r.run = nil
	return run
}

// scene is a user who is signed in and has granted a client.
type scene struct {
	realm *Realm
	as    *Server
	login *sessions.Login
	grant oauth.NewGrant
}

func newScene(t *testing.T, db *DB) *scene {
	t.Helper()
	s := &scene{
		realm: db.Realm(RealmConfig{Name: "staff", Lifetimes: storagetest.Lifetimes,
			Servers: map[string]sessions.Lifetimes{"myAS": storagetest.Lifetimes}}),
		as: db.For(ServerConfig{Name: "myAS", Realm: "staff", Lifetimes: storagetest.Lifetimes}),
	}
	ctx, now := t.Context(), time.Now()
	must(t, s.realm.InsertUser(ctx, &users.User{ID: "alex", Username: "alex", CreatedAt: now}))
	must(t, s.as.InsertClient(ctx, &clients.Client{Metadata: clients.Metadata{ClientID: "album"}}))
	var err error
	s.login, err = s.realm.SignIn(ctx, sessions.SignIn{UserID: "alex", AuthTime: now, CookieHash: []byte("cookie"),
		ExpiresAt: now.Add(time.Hour)}, sessions.Ending{})
	must(t, err)
	s.grant = oauth.NewGrant{
		Grant: oauth.Grant{ID: "grant", ClientID: "album", UserID: "alex", AuthTime: now, CreatedAt: now,
			CodeExpires: now.Add(time.Minute), Refreshable: true, Offline: true},
		LoginID: s.login.ID, Consent: &sessions.Consent{At: now}, Consented: now, Session: sessions.Session{ID: "session"},
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// what are all the calls whose cost must not grow with other users' rows, and
// how many statements each may run; 0: any number.
func (s *scene) what(ctx context.Context) []struct {
	name  string
	count int
	call  func() error
} {
	now := time.Now()
	withdraw := sessions.Ending{Effects: []sessions.Effect{
		sessions.WithdrawConsent{AuthorizationServer: "myAS", UserID: "alex", ClientID: "album"}, sessions.SetPassword{UserID: "alex"}}}
	attempt := []throttle.Counter{{Kind: throttle.KindAccount, Bucket: 1, Allowed: 1}, {Kind: throttle.KindAddress, Bucket: 1, Allowed: 9}}
	rule := throttle.Rule{Window: time.Hour, FirstWait: time.Minute}
	return []struct {
		name  string
		count int
		call  func() error
	}{
		{"InsertGrant", 0, func() error { _, err := s.as.InsertGrant(ctx, s.grant); return err }},
		{"Redeem", 0, func() error { _, err := s.as.Redeem(ctx, "grant", now); return err }},
		{"State", 1, func() error { _, err := s.as.State(ctx, "grant", "jti"); return err }},
		{"Advance", 1, func() error { _, err := s.as.Advance(ctx, "grant", 1, now); return err }},
		{"CountGrace", 1, func() error { return s.as.CountGrace(ctx, "grant", 2) }},
		{"Burn", 1, func() error { return s.as.Burn(ctx, "grant", now) }},
		{"ClientToken", 1, func() error { _, err := s.as.ClientToken(ctx, "album", "jti"); return err }},
		{"RevokeToken", 1, func() error { return s.as.RevokeToken(ctx, "jti", now) }},
		{"UseAssertion", 1, func() error { return s.as.UseAssertion(ctx, "album", "jti", now) }},
		{"Client", 1, func() error { _, err := s.as.Client(ctx, "album"); return err }},
		{"Consent", 1, func() error { _, err := s.as.Consent(ctx, "alex", "album"); return err }},
		{"Session", 1, func() error { _, err := s.as.Session(ctx, "session", "alex"); return err }},
		{"Sessions", 1, func() error { _, err := s.as.Sessions(ctx, sessions.Filter{UserID: "alex"}); return err }},
		{"Sessions of a client", 1, func() error { _, err := s.as.Sessions(ctx, sessions.Filter{ClientID: "album"}); return err }},
		{"Sessions behind", 1, func() error {
			_, err := s.as.Sessions(ctx, sessions.Filter{UserID: "alex", After: sessions.Position{CreatedAt: now, ID: "session"}})
			return err
		}},
		{"Sessions ahead", 1, func() error {
			_, err := s.as.Sessions(ctx, sessions.Filter{UserID: "alex", Before: sessions.Position{CreatedAt: now, ID: "session"}})
			return err
		}},
		{"ChangeAttributes", 3, func() error {
			_, err := s.as.ChangeAttributes(ctx, "session", "alex", map[string]*string{"a": new(string)})
			return err
		}},
		{"LoginByCookie", 1, func() error { _, err := s.realm.LoginByCookie(ctx, []byte("cookie")); return err }},
		{"Logins", 1, func() error { _, err := s.realm.Logins(ctx, "alex"); return err }},
		{"User", 1, func() error { _, err := s.realm.User(ctx, "alex"); return err }},
		{"UserByName", 1, func() error { _, err := s.realm.UserByName(ctx, "alex"); return err }},
		{"Users", 1, func() error { _, err := s.realm.Users(ctx, "a", 10); return err }},
		{"Touch", 2, func() error {
			return s.realm.Touch(ctx, []sessions.Touch{{LoginID: s.login.ID, AuthorizationServer: "myAS", SessionID: "session", At: now}})
		}},
		{"CountAttempt", 1, func() error {
			_, _, err := s.realm.CountAttempt(ctx, attempt, rule, now)
			return err
		}},
		{"CountAttempt, blocked", 2, func() error {
			_, _, err := s.realm.CountAttempt(ctx, attempt, rule, now)
			return err
		}},
		{"GiveBackAttempt", 1, func() error {
			return s.realm.GiveBackAttempt(ctx, []throttle.Counted{{Counter: attempt[0], BeganAt: now}, {Counter: attempt[1], BeganAt: now}}, rule)
		}},
		{"SweepThrottle", 1, func() error { _, err := s.realm.SweepThrottle(ctx, now, 10); return err }},
		{"SignIn", 0, func() error {
			_, err := s.realm.SignIn(ctx, sessions.SignIn{UserID: "alex", AuthTime: now, Current: s.login.ID, CookieHash: []byte("new")}, sessions.Ending{})
			return err
		}},
		{"End of a grant", 0, func() error {
			_, err := s.as.End(ctx, sessions.Target{Grant: "grant"}, withdraw)
			return err
		}},
		{"End of a session", 0, func() error {
			_, _ = s.as.End(ctx, sessions.Target{Session: "session", OfUser: "alex"}, sessions.Ending{})
			return nil
		}},
		{"End of all of a user's sessions", 0, func() error {
			_, _ = s.as.End(ctx, sessions.Target{All: true, OfUser: "alex", Except: "other"}, sessions.Ending{})
			return nil
		}},
		{"End of a user's sessions at a client", 0, func() error {
			_, err := s.as.End(ctx, sessions.Target{Client: "album", OfUser: "alex"}, withdraw)
			return err
		}},
		{"End of a login", 0, func() error {
			_, _ = s.realm.End(ctx, sessions.Target{Login: s.login.ID}, sessions.Ending{})
			return nil
		}},
		{"End of a user", 0, func() error {
			_, err := s.realm.End(ctx, sessions.Target{User: "alex"}, sessions.Ending{Effects: []sessions.Effect{sessions.LockUser{UserID: "alex"}}})
			return err
		}},
		{"Past", 4, func() error { _, err := s.realm.Past(ctx, sessions.PastQuery{UserID: "alex"}); return err }},
		{"Permissions", 1, func() error { _, err := s.realm.Permissions(ctx, "alex"); return err }},
		{"Mark", 1, func() error { _, _ = s.realm.Mark(ctx, "alex", s.login.ID); return nil }},
		{"End of a permission", 0, func() error {
			_, _ = s.realm.End(ctx, sessions.Target{Client: "album", AuthorizationServer: "myAS", OfUser: "alex"}, sessions.Ending{})
			return nil
		}},
		{"End of all but a login", 0, func() error {
			_, err := s.realm.End(ctx, sessions.Target{User: "alex", ExceptLogin: s.login.ID}, sessions.Ending{})
			return err
		}},
		{"End of a client", 0, func() error {
			_, err := s.as.End(ctx, sessions.Target{Client: "album"}, sessions.Ending{})
			return err
		}},
	}
}

// scans tells of a plan which tables it reads from end to end, under the
// settings that the statement ran with.
func scans(db *DB, t *testing.T, s statement, settings ...string) []string {
	t.Helper()
	explain, lines := "EXPLAIN QUERY PLAN ", regexp.MustCompile(`^SCAN (\S+)`)
	if db.postgres {
		explain, lines = "EXPLAIN ", regexp.MustCompile(`Seq Scan on (\w+)|(Nested Loop without)`)
	}
	var found []string
	for _, line := range plan(t, db, explain, s, settings) {
		if m := lines.FindStringSubmatch(line); m != nil {
			found = append(found, m[1])
		}
	}
	return found
}

// plan is what the database says to explain and the statement, line by line.
func plan(t *testing.T, db *DB, explain string, s statement, settings []string) (lines []string) {
	t.Helper()
	tx, err := db.pools[0].BeginTx(t.Context(), nil)
	must(t, err)
	defer func() { must(t, tx.Rollback()) }()
	for _, setting := range settings {
		_, err := tx.ExecContext(t.Context(), setting)
		must(t, err)
	}
	rows, err := tx.QueryContext(t.Context(), explain+s.sql, s.vars...)
	if err != nil {
		t.Fatalf("%s: %v", s.sql, err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			line string
			id   int
		)
		dest := []any{&line}
		if !db.postgres {
			dest = []any{&id, &id, &id, &line}
		}
		must(t, rows.Scan(dest...))
		lines = append(lines, line)
	}
	must(t, rows.Err())
	return lines
}

func TestStatementsWalkIndexes(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		db := openMigrated(t, Config{URL: url, MaxConnections: 1})
		s := newScene(t, db)
		r := record(t, db)
		if db.postgres {
			// Tables are too small for PostgreSQL to prefer an index by itself.
			_, err := db.pools[0].ExecContext(t.Context(), "SET enable_seqscan = off")
			must(t, err)
		}
		for _, what := range s.what(t.Context()) {
			r.taken()
			must(t, what.call())
			run := r.taken()
			if len(run) == 0 || (what.count > 0 && len(run) != what.count) {
				t.Errorf("%s ran %d statements, want %d", what.name, len(run), what.count)
			}
			for _, statement := range run {
				for _, table := range scans(db, t, statement) {
					// v is what Touch brings with it.
					if table != "v" && table != "CONSTANT" && !regexp.MustCompile(`^\d`).MatchString(table) {
						t.Errorf("%s reads all of %s: %s", what.name, table, statement.sql)
					}
				}
			}
		}
	})
}

// What changes at every refresh or use may stand in no index, so that
// PostgreSQL updates the row in place, in the room that the fill factor leaves.
func TestBusyColumnsAreNotIndexed(t *testing.T) {
	busy := []string{"last_used_at", "last_access_at", "generation", "rotated_at", "grace_uses"}
	eachDatabase(t, func(t *testing.T, url string) {
		db := openMigrated(t, Config{URL: url})
		statement := `SELECT COALESCE(sql, '') FROM sqlite_master WHERE type = 'index'`
		if db.postgres {
			statement = `SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'`
		}
		n := 0
		must(t, db.read(t.Context(), func(c conn) error {
			return c.rows(func(scan func(...any) error) error {
				var definition string
				n++
				if err := scan(&definition); err != nil {
					return err
				}
				for _, column := range busy {
					if strings.Contains(definition, column) {
						t.Errorf("%s is in an index: %s", column, definition)
					}
				}
				return nil
			}, statement)
		}))
		if n < 15 {
			t.Errorf("saw %d indexes only", n)
		}
		if !db.postgres {
			return
		}
		must(t, db.read(t.Context(), func(c conn) error {
			var filled int
			_, err := c.row([]any{&filled}, `SELECT COUNT(*) FROM pg_class
				WHERE relname IN ('logins', 'oauth2_sessions', 'grants') AND 'fillfactor=80' = ANY (reloptions)`)
			if filled != 3 {
				t.Errorf("%d of 3 tables have the fill factor", filled)
			}
			return err
		}))
	})
}

func TestUniqueIndexForbidsTwins(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		db := openMigrated(t, Config{URL: url})
		s := newScene(t, db)
		_, err := s.as.InsertGrant(t.Context(), s.grant)
		must(t, err)
		twin := func(id, change string) error {
			return db.write(t.Context(), func(c conn) error {
				columns := `realm, client_id, client_uid, user_id, subject, login_id, origin, scopes, refreshable, offline,
					authenticated_at, consented_at, custom_attributes, created_at, last_used_at, expires_at, idle_check_at`
				values := strings.Replace(columns, "login_id", change, 1)
				_, err := c.exec(`INSERT INTO oauth2_sessions (authorization_server, id, `+columns+`, detached_at, ended_at)
					SELECT authorization_server, ?, `+values+`, CASE WHEN ? = 'detached' THEN CAST(1 AS BIGINT) END, CASE WHEN ? = 'ended' THEN CAST(1 AS BIGINT) END
					FROM oauth2_sessions WHERE id = 'session'`, id, id, id)
				return err
			})
		}
		if err := twin("twin", "login_id"); !isDuplicate(err) {
			t.Errorf("a second live session of the client in the login: %v", err)
		}
		must(t, twin("detached", "login_id"))
		must(t, twin("ended", "login_id"))
		for i := range 2 { // devices
			must(t, twin(fmt.Sprint("device", i), "NULL"))
		}
	})
}

// A caller that goes away must not make a compare-and-set look as if it had
// taken effect.
func TestCancelledCallDoesNotPretend(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		db := openMigrated(t, Config{URL: url})
		s := newScene(t, db)
		_, err := s.as.InsertGrant(t.Context(), s.grant)
		must(t, err)
		if ok, err := s.as.Redeem(t.Context(), "grant", time.Now()); err != nil || !ok {
			t.Fatal(ok, err)
		}
		from, answered := int64(1), 0
		for range 200 {
			ctx, cancel := context.WithCancel(t.Context())
			var group sync.WaitGroup
			group.Go(func() {
				for range rand.IntN(1 << rand.IntN(18)) {
					_, _ = db.closed.Load(), time.Now()
				}
				cancel()
			})
			ok, _ := s.as.Advance(ctx, "grant", from, time.Now())
			group.Wait()
			state, err := s.as.State(t.Context(), "grant", "")
			must(t, err)
			if ok {
				answered++
				if state.Grant.Generation != from+1 {
					t.Fatalf("advancing from %d was answered, and the generation is %d", from, state.Grant.Generation)
				}
			}
			from = state.Grant.Generation
		}
		t.Logf("%d of 200 were answered", answered)
	})
}
