//go:build unix

package main

import (
	"fmt"
	"net/http"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/deliveries"
)

// A node that is killed between its answer to an ending and the delivery owes
// nothing: whoever is left, or starts next, tells the client.
func TestKilledNodeLosesNoDelivery(t *testing.T) {
	for name, database := range deliveryDatabases() {
		for when, heard := range map[string]int{"at the answer": 0, "amid the deliveries": 12} {
			t.Run(name+" "+when, func(t *testing.T) {
				t.Parallel()
				killBeforeDelivery(t, database(t), heard)
			})
		}
	}
}

// killBeforeDelivery kills the node when so many messages were heard.
func killBeforeDelivery(t *testing.T, database string, heard int) {
	e := newEar(t)
	all := houseParties("myAS", 8)
	n := startProcess(t, processOptions{Database: database, Change: []func(string) string{withToldParties(all, e)}})[0]
	e.issuer = n.Issuer("myAS")
	at := desks(t, []*node{n}, all...)[0]
	// Half of the clients never answer the node that will be killed, so that it
	// has claimed, sent and not noted some, and others it has not got to.
	e.answers(func(client string, _ int) int {
		if id, _ := strconv.Atoi(client[len("house-"):]); id%2 == 0 {
			return 0
		}
		return http.StatusOK
	})
	var sids []string
	var last tokens
	for range 6 {
		v := newVisitor(wide(n), "alex", "alex-demo")
		for _, d := range at {
			last = d.redeem(d.authorize(v).Get("code"))
			sids = append(sids, d.introspect(last.Access).SID)
		}
	}
	if status := at[0].send(http.MethodDelete, "/sessions/", nil, last.Access, nil); status != http.StatusNoContent {
		t.Fatalf("ending: %d", status)
	}
	pollSlowly(t, "some are heard", func() bool { return len(e.all()) >= heard })
	n.Kill()
	killed, under := e.told(), len(e.all())
	e.answers(func(string, int) int { return http.StatusOK })
	restarted(n)
	pollSlowly(t, "all are told", func() bool { return len(e.told()) == len(sids) })
	ids := map[string]string{}
	for _, h := range e.all() {
		if ids[h.SID] == "" {
			ids[h.SID] = h.ID
		}
		if ids[h.SID] != h.ID {
			t.Errorf("session %s was told as %s and as %s", h.SID, ids[h.SID], h.ID)
		}
	}
	for _, sid := range sids {
		if ids[sid] == "" {
			t.Errorf("nobody was told of %s", sid)
		}
	}
	if len(killed) == len(sids) || heard > 0 && under == len(killed) {
		t.Errorf("of %d sessions %d were told, and %d messages heard, when the node was killed: that means little", len(sids), len(killed), under)
	}
	t.Logf("%d of %d were told before the kill, %d messages in all", len(killed), len(sids), len(e.all()))
}

// A user with 1,000 sessions at 50 clients ends everything: that is answered at
// once, and all clients are told, each of each session once, whatever number of
// nodes there is.
func TestThousandSessionsAreToldOnceEach(t *testing.T) {
	for name, database := range deliveryDatabases() {
		t.Run(name, func(t *testing.T) {
			nodes := 1
			if name == "postgresql" {
				nodes = 2
			}
			endThousand(t, database(t), nodes)
		})
	}
}

func endThousand(t *testing.T, database string, count int) {
	const logins, clients = 20, 50
	e := newEar(t)
	all := houseParties("myAS", clients)
	nodes := startProcess(t, processOptions{Database: database, Nodes: count, Change: []func(string) string{withToldParties(all, e),
		substitute("    login: {", "    throttle: {account: 1000, address: 100000}\n    login: {")}})
	e.issuer = nodes[0].Issuer("myAS")
	// One client fails the first time that it is told something.
	e.answers(func(client string, nth int) int {
		if client == "house-7" && nth == 1 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	at := desks(t, nodes, all...)
	held := make([]tokens, logins)
	race(4, func(worker int) {
		for i := worker; i < logins; i += 4 {
			n := i % count
			v := newVisitor(wide(nodes[n]), "alex", "alex-demo")
			for _, d := range at[n] {
				if held[i] = d.redeem(d.authorize(v).Get("code")); held[i].Status != http.StatusOK {
					t.Errorf("redeeming: %d %s", held[i].Status, held[i].Error)
				}
			}
		}
	})
	if t.Failed() {
		return
	}
	began := time.Now()
	status := at[0][clients-1].send(http.MethodDelete, "/sessions/", nil, held[0].Access, nil)
	tookAtMost(t, "ending 1,000 sessions", time.Since(began), time.Second)
	if status != http.StatusNoContent {
		t.Fatalf("ending: %d", status)
	}
	pollSlowly(t, "all are told", func() bool { return len(e.told()) == logins*clients })
	tookAtMost(t, "telling 50 clients of 1,000 endings, one of them at the second time,", time.Since(began), 30*time.Second)
	pollSlowly(t, "all is noted", func() bool { return figure(t, nodes, "sent") == logins*clients })
	heard, ids := map[string]int{}, map[string]string{}
	for _, h := range e.all() {
		heard[h.SID]++
		if ids[h.SID] != "" && ids[h.SID] != h.ID {
			t.Errorf("session %s was told as %s and as %s", h.SID, ids[h.SID], h.ID)
		}
		ids[h.SID] = h.ID
		if want := 1; h.Client != "house-7" && heard[h.SID] != want || heard[h.SID] > 2 {
			t.Errorf("%s was told %d times of session %s", h.Client, heard[h.SID], h.SID)
		}
	}
	if n := figure(t, nodes, "failed"); n != logins || len(e.all()) != logins*clients+logins {
		t.Errorf("%d failed sendings, %d messages", n, len(e.all()))
	}
	for i, n := range nodes {
		sent := figure(t, []*node{n}, "sent")
		t.Logf("node %d sent %d", i, sent)
		if sent < logins*clients/count/10 {
			t.Errorf("node %d sent only %d", i, sent)
		}
	}
}

// One client that hangs keeps no other waiting: of 101 that have to be told of
// the same ending, 100 have acknowledged theirs at once.
func TestHangingClientKeepsNobodyWaiting(t *testing.T) {
	for name, database := range deliveryDatabases() {
		t.Run(name, func(t *testing.T) { endBesideHanging(t, database(t)) })
	}
}

func endBesideHanging(t *testing.T, database string) {
	const clientCount, hanging = 101, "house-50"
	e := newEar(t)
	e.answers(func(client string, _ int) int {
		if client == hanging {
			return 0
		}
		return http.StatusNoContent
	})
	all := houseParties(demoServer, clientCount)
	s := startServer(t, serverOptions{Database: database, Config: func(cfg *configs.Config) {
		as := cfg.AuthorizationServers[demoServer]
		for _, p := range all {
			m := clients.Metadata{ClientID: p.id, ClientSecret: p.secret, RedirectURIs: []string{p.redirectURI}, Scope: "openid profile", SkipConsent: true,
				BackchannelLogoutURI: e.URL + "/" + p.id}
			m.Defaults(as.AccessToken.Format)
			as.Clients = append(as.Clients, m)
		}
	}})
	e.issuer = s.Issuer(demoServer)
	v := newVisitor(nil, "alex", "alex-demo")
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	var d *desk
	var last tokens
	for _, p := range all {
		d = &desk{party: p, issuer: e.issuer, http: client, t: t}
		if last = d.redeem(d.authorize(v).Get("code")); last.Status != http.StatusOK {
			t.Fatalf("redeeming for %s: %d %s", p.id, last.Status, last.Error)
		}
	}
	if status := d.send(http.MethodDelete, "/sessions/", nil, last.Access, nil); status != http.StatusNoContent {
		t.Fatalf("ending: %d", status)
	}
	began := time.Now()
	pollSlowly(t, "all but one are told", func() bool { return len(e.told()) == clientCount-1 })
	// 2 seconds are what is promised. The race detector makes the server and the
	// clients, which share this process, several times slower.
	limit := 2 * time.Second
	if raced() {
		limit = 6 * time.Second
	}
	tookAtMost(t, "telling 100 clients beside one that hangs", time.Since(began), limit)
	tried := false
	for _, h := range e.all() {
		if h.Client == hanging {
			tried = true
			if h.Status != 0 {
				t.Errorf("the client that hangs answered %d", h.Status)
			}
		}
	}
	waiting, err := s.db.Deliveries(t.Context(), demoServer, deliveries.Filter{ClientID: hanging})
	if err != nil || len(waiting) != 1 || waiting[0].State != deliveries.Waiting || !tried {
		t.Errorf("to the client that hangs are owed %+v, %v; it was tried: %t", waiting, err, tried)
	}
}

// raced tells whether the race detector watches this program.
func raced() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// figure is the sum of a counter of deliveries over nodes.
func figure(t testing.TB, nodes []*node, outcome string) (sum int) {
	t.Helper()
	line := regexp.MustCompile(fmt.Sprintf(`(?m)^gatehouse_deliveries_total\{as="myAS",outcome="%s"\} (\d+)$`, outcome))
	for _, n := range nodes {
		res, err := http.Get(n.Operations + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		if m := line.FindStringSubmatch(text(t, res)); m != nil {
			count, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			sum += count
		}
	}
	return sum
}
