package storagetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/keys"
	"gatehouse.dev/gatehouse/sessions"
)

// Origin is what the views of Handles must tell of calls that name no origin.
var Origin = audit.Origin{Actor: "operator:root", Address: "192.0.2.1", RequestID: "REQUEST"}

// events are the events of the realm, newest first.
func (w *world) events(filter audit.Filter) []audit.Event {
	w.Helper()
	events, err := w.realm.Events(w.Context(), filter)
	w.ok(err)
	return events
}

// told is an event in a line: what, result, why, who, at which authorization
// server, and whom or what it is about.
func told(e *audit.Event) string {
	return strings.Join([]string{string(e.Type), string(e.Result), e.Reason, e.Actor, e.AuthorizationServer, e.UserID, e.ClientID, e.SessionID, e.LoginID}, "|")
}

// recorded runs act and returns what was recorded of it, sorted.
func (w *world) recorded(act func()) []string {
	w.Helper()
	w.pass(time.Second)
	before := w.now()
	act()
	var lines []string
	for _, e := range w.events(audit.Filter{Since: before}) {
		lines = append(lines, told(&e))
		if e.RequestID != Origin.RequestID || e.Address == "" || e.Count != 1 || !e.At.Equal(before) || !e.LastAt.Equal(before) {
			w.Errorf("%s: request %q, address %q, %d times, at %v to %v, want one at %v", told(&e), e.RequestID, e.Address, e.Count, e.At, e.LastAt, before)
		}
	}
	slices.Sort(lines)
	return lines
}

func (w *world) wantRecorded(what string, act func(), want ...string) {
	w.Helper()
	w.wantTold(what, w.recorded(act), want...)
}

func (w *world) wantTold(what string, got []string, want ...string) {
	w.Helper()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.Errorf("%s is recorded as\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// actsAreAudited goes through everything that leaves an event, and through
// things that don't.
func actsAreAudited(w *world) {
	const operator = "operator:root"
	w.wantRecorded("a new user", func() { w.user("alex") }, "user_created|success||"+operator+"||alex|||")
	w.wantRecorded("a new client", func() { w.client("album"); w.client("news") },
		"client_created|success||"+operator+"|myAS||album||", "client_created|success||"+operator+"|myAS||news||")
	var login *sessions.Login
	got := w.recorded(func() { login = w.login("alex") })
	w.wantTold("a sign-in", got, "sign_in|success||user:alex||alex|||"+login.ID)

	var plainSession, offlineSession *sessions.Session
	w.wantRecorded("an authorization without a new consent", func() { _, plainSession = w.authorize(login, "album", refresh) })
	w.wantRecorded("an authorization with a new consent", func() {
		g := w.newGrant(login, "news", offline)
		g.Consent = &sessions.Consent{Scopes: []string{"openid", "offline_access"}, At: w.now()}
		var err error
		offlineSession, err = w.as.InsertGrant(w.Context(), g)
		w.ok(err)
		w.redeem(g.Grant.ID)
	}, "consent|success||user:alex|myAS|alex|news||"+login.ID)
	w.wantRecorded("the ending of a session without tokens", func() {
		w.mustEnd(sessions.Target{Session: plainSession.ID}, logout(), 1)
	})
	w.wantRecorded("a logout", func() {
		w.mustEnd(sessions.Target{Login: login.ID}, logout(), 0)
	}, "login_ended|success|logout|user:alex||alex|||"+login.ID,
		"session_detached|success|logout|user:alex|myAS|alex|news|"+offlineSession.ID+"|"+login.ID)
	w.wantRecorded("a new password", func() {
		ending := sessions.Ending{By: sessions.Actor{Kind: sessions.ActorUser, ID: "alex"}, Reason: sessions.ReasonPasswordChanged,
			Effects: []sessions.Effect{sessions.SetPassword{UserID: "alex", PHC: "other"}}}
		w.mustEnd(sessions.Target{User: "alex"}, ending, 1)
	}, "password_changed|success||user:alex||alex|||",
		"session_ended|success|password_changed|user:alex|myAS|alex|news|"+offlineSession.ID+"|"+login.ID)

	login = w.login("alex")
	_, first := w.grant(login, "album", refresh)
	grant, second := w.grant(login, "news", refresh)
	w.wantRecorded("a refresh token used again", func() {
		w.mustEnd(sessions.Target{Grant: grant}, sessions.Ending{Reason: sessions.ReasonRefreshReuse}, 1)
	}, "token_misuse|success|refresh_reuse|server|myAS|alex|news|"+second.ID+"|",
		"session_ended|success|refresh_reuse|server|myAS|alex|news|"+second.ID+"|"+login.ID)
	w.wantRecorded("a lock", func() {
		ending := sessions.Ending{By: sessions.Actor{Kind: sessions.ActorOperator, ID: "kim"}, Reason: sessions.ReasonUserLocked,
			Effects: []sessions.Effect{sessions.LockUser{UserID: "alex"}}}
		w.mustEnd(sessions.Target{User: "alex"}, ending, 1)
	}, "user_locked|success||operator:kim||alex|||",
		"login_ended|success|user_locked|operator:kim||alex|||"+login.ID,
		"session_ended|success|user_locked|operator:kim|myAS|alex|album|"+first.ID+"|"+login.ID)
	w.wantRecorded("an unlocking", func() { w.ok(w.realm.UnlockUser(w.Context(), "alex")) }, "user_unlocked|success||"+operator+"||alex|||")

	login = w.login("alex")
	_, expiring := w.grant(login, "album", refresh)
	w.pass(Lifetimes.LoginAbsolute)
	w.wantRecorded("what is over by time", func() {
		_, err := w.realm.Sweep(w.Context(), time.Hour, 100)
		w.ok(err)
		_, err = w.as.Sweep(w.Context(), time.Hour, 100)
		w.ok(err)
	}, "login_ended|success|expired|server||alex|||"+login.ID,
		"session_ended|success|expired|server|myAS|alex|album|"+expiring.ID+"|"+login.ID)

	w.wantRecorded("a key", func() {
		w.ok(w.as.InsertSigningKeys(w.Context(), []keys.SigningKeyRecord{{ID: "k1", Algorithm: "ES256", Slot: 1, Sealed: "s", CreatedAt: w.now(), ActivatesAt: w.now()}}))
	}, "key_rotated|success||"+operator+"|myAS||||")
	withdraw := sessions.Ending{By: sessions.Actor{Kind: sessions.ActorUser, ID: "alex"}, Reason: sessions.ReasonConsentWithdrawn,
		Effects: []sessions.Effect{sessions.WithdrawConsent{AuthorizationServer: "myAS", UserID: "alex", ClientID: "news"}}}
	w.wantRecorded("a consent withdrawn", func() {
		w.mustEnd(sessions.Target{Client: "news", OfUser: "alex"}, withdraw, 0)
	}, "consent_withdrawn|success||user:alex|myAS|alex|news||")
	w.wantRecorded("a client that has left the file", func() {
		_, err := w.as.SyncStatic(w.Context(), []clients.Client{{Metadata: clients.Metadata{ClientID: "kiosk"}}})
		w.ok(err)
		_, err = w.as.SyncStatic(w.Context(), nil)
		w.ok(err)
	}, "client_created|success||"+operator+"|myAS||kiosk||", "client_deleted|success||server|myAS||kiosk||")
}

// undoneActs: what was refused or rolled back leaves no event that says it was
// done.
func undoneActs(w *world) {
	login := w.begin()
	grant, session := w.grant(login, "album", refresh)
	w.wantRecorded("a sign-in of a user who is not there", func() {
		_, err := w.realm.SignIn(w.Context(), w.signIn("nobody", sessions.SignIn{}), logout())
		w.is(err, sessions.ErrUserLocked, "sign-in")
	})
	w.wantRecorded("a sign-in with a password that was replaced", func() {
		_, err := w.realm.SignIn(w.Context(), w.signIn("alex", sessions.SignIn{Password: "old"}), logout())
		w.is(err, sessions.ErrProofStale, "sign-in")
	})
	w.wantRecorded("an ending whose effect fails", func() {
		_, err := w.end(sessions.Target{Session: session.ID}, sessions.Ending{Reason: sessions.ReasonLogout, Effects: []sessions.Effect{
			sessions.SetPassword{UserID: "alex", PHC: "evil"}, sessions.LockUser{UserID: "nobody"}}})
		w.is(err, sessions.ErrNotFound, "ending")
	})
	w.wantRecorded("an ending of what is not there", func() {
		_, err := w.end(sessions.Target{Session: "unknown"}, sessions.Ending{Reason: sessions.ReasonLogout,
			Effects: []sessions.Effect{sessions.SetPassword{UserID: "alex", PHC: "evil"}}})
		w.is(err, sessions.ErrNotFound, "ending")
	})
	w.wantRecorded("unlocking nobody", func() {
		if err := w.realm.UnlockUser(w.Context(), "nobody"); err == nil {
			w.Error("nobody was unlocked")
		}
	})
	w.wantRecorded("a name that is taken", func() {
		u, err := w.realm.User(w.Context(), "alex")
		w.ok(err)
		u.ID = "other"
		if err := w.realm.InsertUser(w.Context(), u); err == nil {
			w.Error("a name was given twice")
		}
	})
	w.wantRecorded("withdrawing a consent that was never given", func() {
		_, err := w.end(sessions.Target{Client: "album", OfUser: "bea"}, sessions.Ending{Effects: []sessions.Effect{
			sessions.WithdrawConsent{AuthorizationServer: "myAS", UserID: "bea", ClientID: "album"}}})
		w.is(err, sessions.ErrNotFound, "withdrawing")
	})
	w.wantRecorded("a second redemption, a refresh, and reading", func() {
		if again, err := w.as.Redeem(w.Context(), grant, w.now()); err != nil || again {
			w.Errorf("redeeming again: %v, %v", again, err)
		}
		if ok, err := w.as.Advance(w.Context(), grant, 1, w.now()); err != nil || !ok {
			w.Errorf("refreshing: %v, %v", ok, err)
		}
		w.state(grant)
		w.listed("alex")
	})
}

// refusedSignIns: one row for account, network, client, reason and minute.
func refusedSignIns(w *world) {
	minute := audit.Minute(w.now().Add(time.Minute))
	w.pass(minute.Sub(w.now()))
	refuse := func(user, address, reason string) {
		w.ok(w.realm.Record(w.Context(), audit.Event{Type: audit.SignIn, Result: audit.Refused, Actor: audit.Anonymous,
			UserID: user, Address: address, Reason: reason, At: w.now()}))
	}
	for range 5 {
		w.pass(11 * time.Second)
		refuse("alex", "192.0.2.9", audit.WrongCredentials)
	}
	refuse("bea", "192.0.2.9", audit.WrongCredentials)
	refuse("alex", "192.0.2.10", audit.WrongCredentials)
	refuse("alex", "192.0.2.9", audit.Locked)
	refuse("alex", "", audit.Throttled)
	w.pass(5 * time.Second)
	refuse("alex", "192.0.2.9", audit.WrongCredentials)

	var lines []string
	for _, e := range w.events(audit.Filter{Result: audit.Refused}) {
		lines = append(lines, fmt.Sprintf("%s %s %s %d %v-%v", e.UserID, e.Address, e.Reason, e.Count, e.At.Sub(minute), e.LastAt.Sub(minute)))
	}
	slices.Sort(lines)
	want := []string{
		"alex  throttled 1 55s-55s",
		"alex 192.0.2.10 wrong_credentials 1 55s-55s",
		"alex 192.0.2.9 locked 1 55s-55s",
		"alex 192.0.2.9 wrong_credentials 1 1m0s-1m0s",
		"alex 192.0.2.9 wrong_credentials 5 11s-55s",
		"bea 192.0.2.9 wrong_credentials 1 55s-55s",
	}
	if !slices.Equal(lines, want) {
		w.Errorf("counted:\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	// A count that began before the time asked for, and went on after it, is told.
	if n := len(w.events(audit.Filter{Since: minute.Add(30 * time.Second), UserID: "alex", Types: []audit.Type{audit.SignIn}, Addresses: []string{"192.0.2.9"}})); n != 3 {
		w.Errorf("%d counts reach over the time asked for, want 3", n)
	}
}

// raceRefusedSignIns: attempts at two nodes are counted in one row, none lost.
func raceRefusedSignIns(w *world) {
	realms := []RealmStore{w.realm, w.b.Realm("staff")}
	const n = 32
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			errs[i] = realms[i%2].Record(w.Context(), audit.Event{Type: audit.SignIn, Result: audit.Refused, UserID: "alex", At: w.now()})
		})
	}
	wg.Wait()
	w.ok(errors.Join(errs...))
	if events := w.events(audit.Filter{}); len(events) != 1 || events[0].Count != n {
		w.Errorf("%d attempts are counted as %+v", n, events)
	}
}

// auditFilter: each member chooses, several narrow down, and another realm's
// events are nobody else's.
func auditFilter(w *world) {
	record := func(e audit.Event) {
		w.pass(time.Second)
		w.ok(w.realm.Record(w.Context(), e))
	}
	began := w.now()
	record(audit.Event{Type: audit.SignIn, UserID: "alex", Detail: "1"})
	record(audit.Event{Type: audit.SignIn, UserID: "bea", Detail: "2", Address: "192.0.2.7"})
	record(audit.Event{Type: audit.Consent, UserID: "alex", ClientID: "album", AuthorizationServer: "myAS", Detail: "3"})
	record(audit.Event{Type: audit.Consent, UserID: "alex", ClientID: "album", AuthorizationServer: "other", Result: audit.Refused, Detail: "4"})
	record(audit.Event{Type: audit.SessionEnded, UserID: "alex", ClientID: "news", AuthorizationServer: "myAS", SessionID: "s1", Detail: "5"})
	w.ok(w.a.Realm("guests").Record(w.Context(), audit.Event{Type: audit.SignIn, UserID: "alex", SessionID: "s1", Detail: "foreign"}))
	for _, test := range []struct {
		filter audit.Filter
		want   string
	}{
		{audit.Filter{}, "5 4 3 2 1"},
		{audit.Filter{Limit: 2}, "5 4"},
		{audit.Filter{UserID: "alex"}, "5 4 3 1"},
		{audit.Filter{UserID: "nobody"}, ""},
		{audit.Filter{UserID: "a\x00"}, ""},
		{audit.Filter{UserID: "alex", Types: []audit.Type{audit.Consent, audit.SessionEnded}}, "5 4 3"},
		{audit.Filter{ClientID: "album"}, "4 3"},
		{audit.Filter{ClientID: "album", AuthorizationServer: "myAS"}, "3"},
		{audit.Filter{SessionID: "s1"}, "5"},
		{audit.Filter{Result: audit.Refused}, "4"},
		{audit.Filter{Addresses: []string{"192.0.2.7", "192.0.2.8"}}, "2"},
		{audit.Filter{Since: began.Add(3 * time.Second)}, "5 4 3"},
		{audit.Filter{Until: began.Add(3 * time.Second)}, "2 1"},
		{audit.Filter{Since: began.Add(2 * time.Second), Until: began.Add(4 * time.Second)}, "3 2"},
	} {
		var got []string
		for _, e := range w.events(test.filter) {
			got = append(got, e.Detail)
		}
		if strings.Join(got, " ") != test.want {
			w.Errorf("%+v chooses %q, want %q", test.filter, got, test.want)
		}
	}
	for _, bad := range []audit.Filter{{Types: []audit.Type{"nothing"}}, {Result: "maybe"}, {Before: "x' OR 1=1"}, {Before: "0123456789ab"}} {
		if _, err := w.realm.Events(w.Context(), bad); err == nil {
			w.Errorf("%+v is answered", bad)
		}
	}
}

// auditPages: pages by the last id lose and repeat nothing, also among events
// of the same millisecond.
func auditPages(w *world) {
	const n = 25
	for range n {
		w.ok(w.realm.Record(w.Context(), audit.Event{Type: audit.SignIn, UserID: "alex"}))
	}
	seen := map[string]bool{}
	filter := audit.Filter{UserID: "alex", Limit: 7}
	for page := 0; ; page++ {
		events := w.events(filter)
		for _, e := range events {
			if seen[e.ID] || (filter.Before != "" && e.ID >= filter.Before) {
				w.Errorf("%s comes twice or out of order", e.ID)
			}
			seen[e.ID] = true
		}
		if len(events) < filter.Limit {
			break
		}
		filter.Before = events[len(events)-1].ID
	}
	if len(seen) != n {
		w.Errorf("%d of %d events were told", len(seen), n)
	}
}

// auditSweep: what is old enough goes, the oldest first, and nothing else.
func auditSweep(w *world) {
	for i := range 6 {
		w.ok(w.realm.Record(w.Context(), audit.Event{Type: audit.SignIn, Detail: fmt.Sprint(i)}))
		w.ok(w.a.Realm("guests").Record(w.Context(), audit.Event{Type: audit.SignIn}))
		w.pass(time.Hour)
	}
	for _, want := range []struct {
		n    int
		left string
	}{{2, "5 4 3 2"}, {1, "5 4 3"}, {0, "5 4 3"}} {
		n, err := w.realm.SweepAudit(w.Context(), w.now().Add(-3*time.Hour), 2)
		w.ok(err)
		var left []string
		for _, e := range w.events(audit.Filter{}) {
			left = append(left, e.Detail)
		}
		if n != want.n || strings.Join(left, " ") != want.left {
			w.Errorf("%d removed, %q left, want %d and %q", n, left, want.n, want.left)
		}
	}
	if events, err := w.a.Realm("guests").Events(w.Context(), audit.Filter{}); err != nil || len(events) != 6 {
		w.Errorf("another realm has %d events left, %v", len(events), err)
	}
}
