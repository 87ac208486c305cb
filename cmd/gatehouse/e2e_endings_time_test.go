//go:build unix

package main

import (
	"log/slog"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage/pgtest"
)

const (
	// lasting is longer than any of these scenes.
	lasting = 200 * time.Hour
	// announcedWithin is by when a client knows that a session is over by time.
	announcedWithin = 5 * time.Minute
	// passEvery is the longest pause of the sweeper.
	passEvery = 90 * time.Second
	// haste is when, before the time is over, nothing may have happened yet, and
	// what the machine has to see that.
	haste = time.Minute
)

// lapse is one way in which time ends sessions. The second browser signs in
// half of the time later.
type lapse struct {
	name    string
	login   configs.Login
	session configs.Session // of myAS; at partnerAS they last
	offline configs.Offline
	after   time.Duration // the sign-in, which is the last use where idleness is what ends it
	slack   time.Duration // for uses that were not written
	prepare func(*scene)  // before half of the time is over; nil: nothing
	halfway func(*scene)  // when it is; nil: nothing
	outcome
}

func lapses() []lapse {
	enter := func(s *scene) {
		s.parts["backup"] = s.enter(s.t, s.id, s.here, s.party("myAS", "backup"), oauth2.SetAuthURLParam("scope", "openid offline_access"))
	}
	detach := func(s *scene) {
		enter(s)
		signOut(s.here, s.URL)
		signedOut := byUser(sessions.ReasonLogout, partsHere...)
		signedOut.detached = []string{"backup"}
		s.check(signedOut)
	}
	expired := func(over ...string) outcome {
		return outcome{over: over, reason: sessions.ReasonExpired, by: "server"}
	}
	detached := expired(partsHere...)
	detached.detached = []string{"backup"}
	login := configs.Login{IdleLifetime: lasting, Lifetime: lasting}
	return []lapse{
		{
			name: "an idle session", login: login, session: configs.Session{IdleLifetime: time.Hour, Lifetime: lasting}, after: time.Hour, slack: sessions.IdleSlack,
			prepare: enter, // goes on by its offline access
			halfway: func(s *scene) { s.use("calendar") },
			outcome: expired("album"),
		},
		{
			name: "a session in use", login: login, session: configs.Session{IdleLifetime: 2 * time.Hour, Lifetime: 3 * time.Hour}, after: 3 * time.Hour,
			prepare: enter, // the same
			halfway: func(s *scene) { s.use("album", "calendar") },
			outcome: expired("album", "calendar"),
		},
		{
			name: "an idle login", login: configs.Login{IdleLifetime: 2 * time.Hour, Lifetime: lasting}, session: configs.Session{IdleLifetime: lasting, Lifetime: lasting},
			after: 2 * time.Hour, slack: sessions.IdleSlack, prepare: enter, outcome: detached,
		},
		{
			name: "a login in use", login: configs.Login{IdleLifetime: 3 * time.Hour, Lifetime: 3 * time.Hour}, session: configs.Session{IdleLifetime: lasting, Lifetime: lasting},
			after: 3 * time.Hour, prepare: enter, outcome: detached,
		},
		{
			name: "an idle session without a login", login: login, session: configs.Session{IdleLifetime: lasting, Lifetime: lasting},
			offline: configs.Offline{IdleLifetime: 2 * time.Hour, Lifetime: lasting}, after: 2 * time.Hour, slack: sessions.IdleSlack,
			prepare: detach, outcome: expired("backup"),
		},
		{
			name: "a session without a login in use", login: login, session: configs.Session{IdleLifetime: lasting, Lifetime: lasting},
			offline: configs.Offline{IdleLifetime: 2 * time.Hour, Lifetime: 3 * time.Hour}, after: 3 * time.Hour,
			prepare: detach, halfway: func(s *scene) { s.use("backup") },
			outcome: expired("backup"),
		},
	}
}

// Whatever time ends is told to the clients within five minutes of the last
// use that counted, however badly the passes of the sweeper fall, and not
// before it is over.
func TestWhatTimeEndsIsInForceInTheHistoryAndToldWithinMinutes(t *testing.T) {
	if most := sweepEvery/2 + sweepEvery; most > passEvery {
		t.Errorf("a node sweeps every %s, want %s at most", most, passEvery)
	}
	onBothDatabases(t, func(t *testing.T, database string) {
		for _, l := range lapses() {
			t.Run(l.name, func(t *testing.T) {
				own := database
				if own != "" {
					own = pgtest.Shared(t).NewDatabase(t)
				}
				l.play(t, own)
			})
		}
	})
}

func (l lapse) play(t *testing.T, database string) {
	st := openStage(t, database, func(cfg *configs.Config) {
		cfg.Realms[defaultRealm].Login = l.login
		for name, as := range cfg.AuthorizationServers {
			s := l.session
			if name != "myAS" {
				s.IdleLifetime, s.Lifetime = lasting, lasting
			}
			as.Session.IdleLifetime, as.Session.Lifetime = s.IdleLifetime, s.Lifetime
			if l.offline != (configs.Offline{}) {
				as.Offline = l.offline
			}
		}
	})
	now := func() time.Time { return time.Now().Add(time.Duration(st.ahead.Load())) }
	moveTo := func(at time.Time) { st.ahead.Store(int64(time.Until(at))) }
	sweep := st.otherNode(t, now)

	began := now()
	var used time.Time // for the last time
	s := newScene(t, st, func(s *scene) {
		if l.prepare != nil {
			l.prepare(s)
		}
		used = now()
		st.ahead.Add(int64(l.after / 2))
	})
	if l.halfway != nil {
		l.halfway(s)
	}
	heard := st.messages()
	over := began.Add(l.after + l.slack)
	moveTo(over.Add(-haste))
	sweep()
	st.settle(t)
	if late := now().Sub(over); late >= 0 {
		t.Fatalf("the machine is too slow: what was to live has been over for %s", late)
	}
	if got := st.messages(); got != heard {
		t.Errorf("%d messages were sent before the time was over", got-heard)
	}
	moveTo(used.Add(l.after + l.slack))
	for _, name := range l.over { // also before anybody sweeps
		if p := s.parts[name]; s.party(p.rp.as, "inspector").Active(t, p.access) {
			t.Errorf("the time of %s is over, and its token is active", name)
		}
	}
	for at := now(); st.messages() < heard+len(l.over)+len(l.detached); at = at.Add(passEvery) {
		if at.After(used.Add(l.after + announcedWithin)) {
			t.Fatalf("%d messages were sent within %s, want %d", st.messages()-heard, announcedWithin, len(l.over)+len(l.detached))
		}
		moveTo(at)
		sweep()
		st.settle(t)
	}
	s.check(l.outcome)
}

// messages is how many were heard.
func (st *stage) messages() int {
	n := 0
	for _, e := range st.ears {
		n += len(e.all())
	}
	return n
}

// otherNode is the sweeper of one more node on the stage's database, which has
// its passes when it is called.
func (st *stage) otherNode(t *testing.T, now func() time.Time) (sweep func()) {
	t.Helper()
	kek, err := openKEK(st.Config)
	if err != nil {
		t.Fatal(err)
	}
	m, logger := newMetrics(), slog.New(slog.DiscardHandler)
	all, err := (&house{cfg: st.Config, db: st.db, kek: kek, metrics: m, now: now, logger: logger}).assemble(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &sweeper{jobs: all.sweeps, metrics: newSweepMetrics(m.registry), logger: logger}
	return func() { s.pass(t.Context()) }
}

// A client that has left the configuration file is told of the end of its
// sessions, when the server starts without it.
func TestClientThatLeftTheFileIsTold(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, database string) {
		st := openStage(t, database)
		s := newScene(t, st, nil)
		s.enterBoth("fair", st.party("myAS", "fair"))
		address, err := url.Parse(st.URL)
		if err != nil {
			t.Fatal(err)
		}
		st.Close()
		public, err := net.Listen("tcp", "127.0.0.1:"+address.Port())
		if err != nil {
			t.Fatal(err)
		}
		st.open(t, public, func(cfg *configs.Config) {
			cfg.KeyEncryptionKey = st.kek
			as := cfg.AuthorizationServers["myAS"]
			as.Clients = slices.DeleteFunc(as.Clients, func(m clients.Metadata) bool { return m.ClientID == "fair" })
		})
		s.check(outcome{over: []string{"fair", "neighbour's fair"}, reason: sessions.ReasonClientDeleted, by: "server"})
	})
}
