//go:build linux

package bench

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// sample is how many users each operation is done for.
	sample = 200
	// mostGrowth is how many times more pages an operation may touch at any size
	// than at the smallest.
	mostGrowth = 1.5
	// swept is how many sessions, and how many logins, one pass looks at.
	swept = 200
	// loadBatch is how many sessions are loaded at once.
	loadBatch = 500_000
)

// Operations in the order of the table.
var (
	bounded  = []string{"list", "end", "refresh", "introspect"}
	measured = append(append([]string{}, bounded...), "sweep")
)

func TestScale(t *testing.T) {
	s, asked := settingsOf(t)
	if !asked {
		return
	}
	needWrk(t)
	h := newHouse(t, map[string]string{"shared_buffers": "2GB", "max_wal_size": "8GB", "synchronous_commit": "off",
		"maintenance_work_mem": "512MB", "autovacuum": "off"})
	node := h.serve("node-1", true)
	var sizes []Size
	loaded := 0
	for _, size := range s.Sizes() {
		began := time.Now()
		h.grow(loaded, size)
		loaded = size
		fmt.Printf("%s sessions are loaded after %s more\n", grouped(size), time.Since(began).Round(time.Second))
		sizes = append(sizes, h.measureSize(t, node, size))
		fmt.Printf("%s\n", SizeTable(sizes, measured))
	}
	for i, size := range sizes {
		for _, operation := range bounded {
			if growth := Growth(sizes, operation, i); growth > mostGrowth || growth == 0 {
				t.Errorf("%s at %d sessions touches %.2f times the pages of %d sessions, want at most %.1f",
					operation, size.Sessions, growth, sizes[0].Sessions, mostGrowth)
			}
		}
	}
	nodes, _ := measureNodes(t, h, s, node, loaded, nil)
	text := conditions(t, h, s).String() + fmt.Sprintf(" Demanded of %s: <= %.1f.\n\n", strings.Join(bounded, ", "), mostGrowth) +
		SizeTable(sizes, measured) + "\n" + nodes
	fmt.Printf("\n%s\n", text)
	writeReport(t, s, "scale", text)
}

// secondary are the indexes that are made anew where much is loaded: filling
// them row by row, at random places, takes several times as long. Primary keys
// stay.
const secondary = `SELECT COALESCE(json_agg(json_build_object('name', indexname, 'definition', indexdef))::text, '[]') FROM pg_indexes
	WHERE schemaname = 'public' AND tablename IN ('users', 'logins', 'oauth2_sessions', 'grants')
	AND indexname NOT IN (SELECT conname FROM pg_constraint)`

// grow loads sessions, with all that they hang below, from one number to another.
func (h *house) grow(from, to int) {
	h.t.Helper()
	indexes := readJSON[[]struct{ Name, Definition string }](h.t, []byte(h.text(secondary)))
	rebuild := to-from >= loadBatch
	if rebuild {
		for _, index := range indexes {
			h.exec(`DROP INDEX ` + index.Name)
		}
	}
	for batch := from; batch < to; batch += loadBatch {
		end := min(batch+loadBatch, to)
		ofLogin := func(n int) int { return (n + sessionsOfLogin - 1) / sessionsOfLogin }
		ofUser := func(n int) int { return (ofLogin(n) + loginsOfUser - 1) / loginsOfUser }
		if ofUser(batch) < ofUser(end) {
			h.loadUsers(ofUser(batch), ofUser(end))
		}
		if ofLogin(batch) < ofLogin(end) {
			h.loadLogins(household, ofLogin(batch), ofLogin(end))
		}
		h.loadSessions("jwt", household, batch, end)
	}
	if rebuild {
		for _, index := range indexes {
			h.exec(index.Definition)
		}
	}
	h.exec(`VACUUM (ANALYZE)`)
	h.exec(`CHECKPOINT`)
}

// signed is a loaded session whose user's browser got tokens for it.
type signed struct {
	tokens
	session, app int
}

// sampled gets tokens for live sessions spread over all that are loaded.
func (h *house) sampled(t testing.TB, p *program, loaded, count int, random *rand.Rand) []signed {
	t.Helper()
	taken := map[int]bool{}
	var all []signed
	for len(all) < count {
		n := random.IntN(loaded)
		// One session of a user only, and none that has ended: see household.
		user := n / (loginsOfUser * sessionsOfLogin)
		if n%5 == 4 || taken[user] {
			continue
		}
		taken[user] = true
		app := n % (loginsOfUser * sessionsOfLogin)
		all = append(all, signed{mustFlow(t, p, "jwt", appID(app), n/sessionsOfLogin), n, app})
	}
	return all
}

// measureSize does each operation for users spread over what is loaded.
func (h *house) measureSize(t testing.TB, p *program, loaded int) Size {
	t.Helper()
	random := rand.New(rand.NewPCG(1, uint64(loaded))) // the same users each time
	users := h.sampled(t, p, loaded, sample, random)
	c := dial(t, p.Address)
	defer c.Close()
	must := func(r Request, status int) answer {
		a, err := c.do(encode(r))
		if err != nil || a.Status != status {
			t.Fatalf("%s %s: %d %s, %v", r.Method, r.Path, a.Status, a.Body, err)
		}
		return a
	}
	size := Size{Sessions: loaded, Pages: map[string]float64{}}
	operations := map[string]func(*signed){
		"list": func(s *signed) { must(bearer(http.MethodGet, "jwt", "/sessions/", s.Access), http.StatusOK) },
		"refresh": func(s *signed) {
			got, err := readTokens(must(refresh("jwt", appID(s.app), s.Refresh), http.StatusOK))
			if err != nil {
				t.Fatal(err)
			}
			s.tokens = got
		},
		"introspect": func(s *signed) { must(introspection("jwt", programID, s.Access), http.StatusOK) },
		"end": func(s *signed) {
			must(bearer(http.MethodDelete, "jwt", "/sessions/"+sessionID(s.session)+"/", s.Access), http.StatusNoContent)
		},
	}
	for _, name := range []string{"list", "introspect", "refresh", "end"} { // ending last: there is nothing after it
		if name != "end" {
			for i := range users {
				operations[name](&users[i])
			}
		}
		h.pages() // counts anew
		for i := range users {
			operations[name](&users[i])
		}
		size.Pages[name] = float64(h.pages()) / sample
	}
	size.Pages["sweep"] = h.measureSweep(t, loaded, random)
	size.Bytes = h.number(`SELECT pg_database_size(current_database())`)
	return size
}

// pages are how many pages all statements since the last call have touched,
// without those of the background.
func (h *house) pages() int64 {
	h.t.Helper()
	n := h.number(`SELECT COALESCE(SUM(shared_blks_hit + shared_blks_read), 0)::bigint FROM pg_stat_statements s
		JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = current_database()
		AND NOT EXISTS (SELECT 1 FROM unnest($1::text[]) part WHERE position(part IN s.query) > 0)`, background)
	h.exec(`SELECT pg_stat_statements_reset()`)
	return n
}

// measureSweep lets the server's sweeper look at sessions and logins that are
// due, and tells the pages for each of these rows. Nobody asks the server for
// anything meanwhile.
func (h *house) measureSweep(t testing.TB, loaded int, random *rand.Rand) float64 {
	t.Helper()
	numbers := make([]int, swept)
	for i := range numbers {
		numbers[i] = random.IntN(loaded/5)*5 + random.IntN(4) // not ended
	}
	// What flows have made is not due now, so that only these are.
	soon := time.Now().Add(time.Hour).UnixMilli()
	h.exec(`UPDATE oauth2_sessions SET idle_check_at = $1 WHERE authorization_server = 'jwt' AND idle_check_at < $1 AND ended_at IS NULL`, soon)
	h.exec(`UPDATE logins SET check_at = $1 WHERE realm = 'default' AND check_at < $1 AND ended_at IS NULL`, soon)
	h.exec(`UPDATE oauth2_sessions s SET idle_check_at = 1 FROM unnest($1::int[]) n
		WHERE s.authorization_server = 'jwt' AND s.id = `+sqlSessionID("n")+` AND s.ended_at IS NULL`, numbers)
	h.exec(`UPDATE logins l SET check_at = 1 FROM unnest($1::int[]) n
		WHERE l.realm = 'default' AND l.id = `+sqlLoginID(fmt.Sprintf("n / %d", sessionsOfLogin))+` AND l.ended_at IS NULL`, numbers)
	const left = `SELECT (SELECT count(*) FROM oauth2_sessions WHERE authorization_server = 'jwt' AND idle_check_at = 1 AND ended_at IS NULL)
		+ (SELECT count(*) FROM logins WHERE realm = 'default' AND check_at = 1 AND ended_at IS NULL)`
	due := h.number(left)
	h.exec(`VACUUM (ANALYZE) oauth2_sessions, logins`)
	h.exec(`SELECT pg_stat_statements_reset()`)
	// A pass comes every 30 to 90 seconds; its last statements are about the
	// assertions of the two authorization servers.
	poll(t, "the sweeper's pass", 5*time.Minute, func() bool {
		return h.number(`SELECT COALESCE(SUM(calls), 0)::bigint FROM pg_stat_statements WHERE query LIKE 'DELETE FROM assertions%'`) >= 2 && h.number(left) == 0
	})
	pages := h.number(`SELECT COALESCE(SUM(shared_blks_hit + shared_blks_read), 0)::bigint FROM pg_stat_statements s
		JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = current_database()
		AND query NOT LIKE '%pg_stat_statements%' AND query NOT LIKE '%count(*)%'`)
	return float64(pages) / float64(max(due, 1))
}

// measureNodes compares one, two and four nodes, with the bound that limit sets
// to each (nil: none), and tells what two do relative to one.
func measureNodes(t *testing.T, h *house, s Settings, first *program, loaded int, limit func(*program)) (table string, gains map[string]float64) {
	t.Helper()
	h.exec(`ALTER SYSTEM SET pg_stat_statements.track = 'none'`)
	h.exec(`SELECT pg_reload_conf()`)
	random := rand.New(rand.NewPCG(2, uint64(loaded))) // the same users each time
	users := h.sampled(t, first, loaded, 4*ownerCount, random)
	postmaster := h.postmaster(t)
	nodes := []*program{first}
	for i := 2; i <= 4; i++ {
		nodes = append(nodes, h.serve(fmt.Sprintf("node-%d", i), false))
	}
	if limit != nil {
		for _, node := range nodes {
			limit(node)
		}
	}
	const connections = 32
	gains = map[string]float64{}
	var rows [][]string
	alone := map[string]float64{}
	for _, operation := range []string{"introspection", "refresh"} {
		for _, count := range []int{1, 2, 4} {
			var rates, nodeCPU, databaseCPU, driverCPU []float64
			failures := 0
			for range s.Rounds {
				share := connections / count
				results := make([]Result, count)
				database, driver, began := familyCPU(t, postmaster), ownCPU(t), time.Now()
				var wg sync.WaitGroup
				for i := range count {
					wg.Go(func() {
						mine := users[i*len(users)/count : (i+1)*len(users)/count]
						if operation == "introspection" {
							requests := make([]Request, len(mine))
							for k := range mine {
								requests[k] = introspection("jwt", programID, mine[k].Access)
							}
							results[i] = wrk(t, h.dir, nodes[i], share, s.Round, requests)
							return
						}
						turns := make([]int, share)
						own := len(mine) / share
						r, err := drive(t, nodes[i], share, s.Round, func(worker int, c *conn) error {
							held := &mine[worker*own+turns[worker]%own]
							turns[worker]++
							a, err := c.do(encode(refresh("jwt", appID(held.app), held.Refresh)))
							if err != nil {
								return err
							}
							got, err := readTokens(a)
							if err == nil {
								held.tokens = got
							}
							return err
						})
						if err != nil {
							t.Errorf("%s, refresh: %v", nodes[i].Name, err)
						}
						results[i] = r
					})
				}
				wg.Wait()
				took := time.Since(began).Seconds()
				sum, cpu := 0.0, 0.0
				for _, r := range results {
					sum += r.Rate()
					cpu += r.CPU.Seconds() / took
					failures += r.Errors
				}
				rates, nodeCPU = append(rates, sum), append(nodeCPU, cpu)
				databaseCPU = append(databaseCPU, (familyCPU(t, postmaster)-database).Seconds()/took)
				driverCPU = append(driverCPU, (ownCPU(t)-driver).Seconds()/took)
			}
			if failures > 0 {
				t.Errorf("%s at %d nodes: %d errors", operation, count, failures)
			}
			if count == 1 {
				alone[operation] = Median(rates)
			}
			if count == 2 {
				gains[operation] = Median(rates) / alone[operation]
			}
			percent := func(values []float64) string { return fmt.Sprintf("%.0f%%", 100*Median(values)) }
			rows = append(rows, []string{operation, fmt.Sprint(count), rate(Median(rates)), fmt.Sprintf("%.2f", Median(rates)/alone[operation]),
				percent(nodeCPU), percent(databaseCPU), percent(driverCPU), fmt.Sprint(failures)})
		}
	}
	table = fmt.Sprintf("With %s sessions and %d connections in all; 100%% is one processor.\n\n", grouped(loaded), connections) +
		Table([]string{"operation", "nodes", "a second", "of one node", "CPU of the nodes", "of PostgreSQL", "of the client", "errors"}, rows)
	return table, gains
}
