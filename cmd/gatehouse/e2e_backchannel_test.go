//go:build unix

package main

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/deliveries"
	"gatehouse.dev/gatehouse/keys"
	"gatehouse.dev/gatehouse/storage/pgtest"
)

// The demo's Calendar is told that Photo Album ended its session, and knows it
// without asking anybody.
func TestApplicationIsToldThatItsSessionEnded(t *testing.T) {
	p := openParties(t)
	b := newBrowser(t)
	page := p.Photos.MustSignIn(b)
	p.Calendar.MustSignIn(b)
	p.Photos.Press(b, p.Photos.Open(b), "/sessions/end-others", 0)
	pollSlowly(t, "Calendar is told", func() bool {
		list, err := p.db.Deliveries(t.Context(), demoServer, deliveries.Filter{ClientID: demoSecond, State: deliveries.Sent})
		return err == nil && len(list) == 1
	})
	p.Photos.Press(b, page, "/log-out", 0)
	p.Close()
	p.Calendar.mustSay(p.Calendar.Open(b), endedElsewhere)
}

// told are the deliveries of the demo's server as the command lists them.
func toldItems(t *testing.T, operate func(stdin string, args ...string) string, args ...string) []deliveryItem {
	t.Helper()
	return decodeJSON[[]deliveryItem](t, operate("", append([]string{"deliveries", "list", "--as", demoServer, "-o", "json"}, args...)...))
}

// A relying party that is down when a session ends is told when it is back, in
// a new token with the same jti; an operator sees both.
func TestClientThatWasDownIsToldWhenItIsBack(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, database string) {
		e := newEar(t)
		kek := keys.GenerateKEK()
		s := startServer(t, serverOptions{Database: database, KEK: kek, Config: func(cfg *configs.Config) {
			demoClient(cfg, demoFirst).BackchannelLogoutURI = e.URL + "/" + demoFirst
			demoClient(cfg, demoFirst).IDTokenSignedAlg = "ES256"
		}})
		e.issuer = s.Issuer(demoServer)
		file := writeConfig(t, string(s.Config.Database), kek)
		operate := func(stdin string, args ...string) string {
			code, stdout, stderr := command(t, stdin, append(args, "--config", file)...)
			if code != exitOK {
				t.Fatalf("gatehouse %s: exit %d: %s", strings.Join(args, " "), code, stderr)
			}
			return stdout
		}
		d := &desk{party: albumParty, issuer: s.Issuer(demoServer), http: &http.Client{}, t: t}
		first := d.redeem(d.authorize(newVisitor(nil, "alex", "alex-demo")).Get("code"))
		sid := d.introspect(first.Access).SID
		e.close()
		if status := d.end(first.Access, sid); status != http.StatusNoContent {
			t.Fatalf("ending: %d", status)
		}
		var waiting []deliveryItem
		pollSlowly(t, "the delivery has failed", func() bool {
			waiting = toldItems(t, operate, "--session", sid)
			return len(waiting) == 1 && waiting[0].LastError != ""
		})
		w := waiting[0]
		if w.State != deliveries.Waiting || w.ClientID != demoFirst || w.SessionID != sid || w.Subject == "" || w.URI != e.URL+"/"+demoFirst ||
			w.Attempts < 1 || w.NextAt.IsZero() || !w.SettledAt.IsZero() || !strings.Contains(w.LastError, "connection refused") {
			t.Errorf("waiting is %+v", w)
		}
		if list := toldItems(t, operate, "--state", "sent"); len(list) != 0 {
			t.Errorf("sent are %+v", list)
		}
		if table := operate("", "deliveries", "list", "--as", demoServer, "--client", demoFirst); !strings.Contains(table, sid) || !strings.Contains(table, "waiting") {
			t.Errorf("the table is\n%s", table)
		}
		e.back()
		pollSlowly(t, "the client is told", func() bool { return e.told()[sid] > 0 })
		pollSlowly(t, "the server knows", func() bool { return len(toldItems(t, operate, "--state", "sent")) == 1 })
		heard := e.all()[0]
		if heard.ID != w.ID || heard.Subject != w.Subject || heard.Client != demoFirst {
			t.Errorf("heard %+v, of the delivery %+v", heard, w)
		}
		if sent := toldItems(t, operate, "--client", demoFirst)[0]; sent.Attempts < 2 || sent.LastError != "" || sent.SettledAt.IsZero() || !sent.NextAt.IsZero() {
			t.Errorf("sent is %+v", sent)
		}
		if other := toldItems(t, operate, "--client", demoSecond); len(other) != 0 {
			t.Errorf("of another client: %+v", other)
		}
	})
}

// The server reaches no private address that the operator doesn't allow,
// whoever registered it.
func TestLogoutReachesNoPrivateAddress(t *testing.T) {
	e := newEar(t)
	s := startServer(t, serverOptions{Config: func(cfg *configs.Config) {
		cfg.Outgoing.AllowPrivate = nil
		demoClient(cfg, demoFirst).BackchannelLogoutURI = e.URL + "/" + demoFirst
	}})
	e.issuer = s.Issuer(demoServer)
	d := &desk{party: albumParty, issuer: s.Issuer(demoServer), http: &http.Client{}, t: t}
	first := d.redeem(d.authorize(newVisitor(nil, "alex", "alex-demo")).Get("code"))
	if status := d.send(http.MethodDelete, "/session/", nil, first.Access, nil); status != http.StatusNoContent {
		t.Fatalf("ending: %d", status)
	}
	pollSlowly(t, "the sending was refused", func() bool {
		list, err := s.db.Deliveries(t.Context(), demoServer, deliveries.Filter{})
		return err == nil && len(list) == 1 && strings.Contains(list[0].LastError, "is not a public address")
	})
	if heard := e.all(); len(heard) > 0 {
		t.Errorf("heard %v", heard)
	}
}

// Of a session that never had a token nobody is told; nor is a client without
// a logout URI.
func TestOnlySessionsWithTokensAreAnnounced(t *testing.T) {
	e := newEar(t)
	s := startServer(t, serverOptions{Config: func(cfg *configs.Config) {
		demoClient(cfg, demoFirst).BackchannelLogoutURI = e.URL + "/" + demoFirst
		demoClient(cfg, demoSecond).BackchannelLogoutURI = ""
	}})
	e.issuer = s.Issuer(demoServer)
	calendar := party{demoServer, demoSecond, "calendar-demo", "http://localhost:9002/callback"}
	one := &desk{party: albumParty, issuer: s.Issuer(demoServer), http: &http.Client{}, t: t}
	two := &desk{party: calendar, issuer: s.Issuer(demoServer), http: &http.Client{}, t: t}
	v := newVisitor(nil, "alex", "alex-demo")
	if code := one.authorize(v).Get("code"); code == "" { // and is never redeemed
		t.Fatal("no code")
	}
	other := two.redeem(two.authorize(v).Get("code"))
	third := one.redeem(one.authorize(newVisitor(nil, "alex", "alex-demo")).Get("code"))
	sid := one.introspect(third.Access).SID
	if status := two.send(http.MethodDelete, "/sessions/", nil, other.Access, nil); status != http.StatusNoContent {
		t.Fatalf("ending: %d", status)
	}
	pollSlowly(t, "the client is told", func() bool { return len(e.all()) > 0 })
	list, err := s.db.Deliveries(t.Context(), demoServer, deliveries.Filter{})
	if err != nil || len(list) != 1 || list[0].SessionID != sid || e.all()[0].SID != sid {
		t.Errorf("deliveries %+v, %v", list, err)
	}
}

func TestDiscoverySaysThatLogoutIsTold(t *testing.T) {
	s := startServer(t, serverOptions{})
	res, err := http.Get(s.Issuer(demoServer) + "/.well-known/openid-configuration")
	if err != nil {
		t.Fatal(err)
	}
	var said map[string]any
	if err := json.Unmarshal([]byte(text(t, res)), &said); err != nil {
		t.Fatal(err)
	}
	if said["backchannel_logout_supported"] != true || said["backchannel_logout_session_supported"] != true {
		t.Errorf("the metadata say %v, %v", said["backchannel_logout_supported"], said["backchannel_logout_session_supported"])
	}
}

// The figures of deliveries: what waits has an age, what was sent is counted.
func TestDeliveriesAreCounted(t *testing.T) {
	e := newEar(t)
	s := startServer(t, serverOptions{Config: func(cfg *configs.Config) {
		demoClient(cfg, demoFirst).BackchannelLogoutURI = e.URL + "/" + demoFirst
	}})
	e.issuer = s.Issuer(demoServer)
	figures := func() string {
		res, err := http.Get(s.Operations + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		return text(t, res)
	}
	for _, name := range []string{"myAS", "partnerAS"} {
		pollSlowly(t, "there is a figure", func() bool {
			f := figures()
			return strings.Contains(f, `gatehouse_deliveries_waiting{as="`+name+`"} 0`) && strings.Contains(f, `gatehouse_deliveries_oldest_seconds{as="`+name+`"} 0`)
		})
	}
	d := &desk{party: albumParty, issuer: s.Issuer(demoServer), http: &http.Client{}, t: t}
	first := d.redeem(d.authorize(newVisitor(nil, "alex", "alex-demo")).Get("code"))
	e.close()
	if status := d.send(http.MethodDelete, "/session/", nil, first.Access, nil); status != http.StatusNoContent {
		t.Fatalf("ending: %d", status)
	}
	// The server counts every 15 seconds; this, now.
	m := &metrics{registry: prometheus.NewRegistry()}
	b := &backlog{store: s.db, metrics: newDeliveryMetrics(m.registry), known: map[string]bool{"partnerAS": true}, logger: slog.New(slog.DiscardHandler),
		now: func() time.Time { return time.Now().Add(time.Hour) }}
	counted := func(want ...string) {
		t.Helper()
		b.count(t.Context())
		answer := httptest.NewRecorder()
		m.handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		for _, w := range want {
			if !strings.Contains(answer.Body.String(), w) {
				t.Errorf("the figures lack %s:\n%s", w, answer.Body)
			}
		}
	}
	counted(`gatehouse_deliveries_waiting{as="myAS"} 1`, `gatehouse_deliveries_oldest_seconds{as="myAS"} 36`,
		`gatehouse_deliveries_waiting{as="partnerAS"} 0`, `gatehouse_deliveries_oldest_seconds{as="partnerAS"} 0`)
	pollSlowly(t, "a failure is counted", func() bool {
		return strings.Contains(figures(), `gatehouse_deliveries_total{as="myAS",outcome="failed"}`)
	})
	e.back()
	pollSlowly(t, "what was sent is counted", func() bool {
		return strings.Contains(figures(), `gatehouse_deliveries_total{as="myAS",outcome="sent"} 1`)
	})
	counted(`gatehouse_deliveries_waiting{as="myAS"} 0`, `gatehouse_deliveries_oldest_seconds{as="myAS"} 0`)
}

// deliveryDatabases are the databases of tests that start processes.
func deliveryDatabases() map[string]func(testing.TB) string {
	return map[string]func(testing.TB) string{
		"sqlite":     func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "gatehouse.db") },
		"postgresql": func(t testing.TB) string { return pgtest.Shared(t).NewDatabase(t) },
	}
}

// tookAtMost fails the test if something took longer.
func tookAtMost(t testing.TB, what string, took, limit time.Duration) {
	t.Helper()
	t.Logf("%s took %s", what, took.Round(time.Millisecond))
	if took > limit {
		t.Errorf("%s took %s, want %s at most", what, took, limit)
	}
}
