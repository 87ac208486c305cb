package storagetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/deliveries"
	"gatehouse.dev/gatehouse/sessions"
)

const lease = time.Minute

func errorsAre(err error, any ...error) bool {
	return slices.ContainsFunc(any, func(one error) bool { return errors.Is(err, one) })
}

// owe lets sessions of new clients end, one for each of the ids, a second apart,
// and returns the deliveries in this order.
func (w *world) owe(as ServerStore, server string, login *sessions.Login, ids ...string) []deliveries.Delivery {
	w.Helper()
	for _, id := range ids {
		if _, err := as.Client(w.Context(), id); err != nil {
			w.told(as, id)
		}
		g := w.newGrant(login, id, refresh)
		session, err := as.InsertGrant(w.Context(), g)
		w.ok(err)
		if ok, err := as.Redeem(w.Context(), g.Grant.ID, w.now()); err != nil || !ok {
			w.Fatalf("redeeming: %v, %v", ok, err)
		}
		w.pass(time.Second)
		_, err = as.End(w.Context(), sessions.Target{Session: session.ID}, sessions.Ending{At: w.now(), By: sessions.Actor{Kind: sessions.ActorClient, ID: id}})
		w.ok(err)
	}
	found, err := w.a.Deliveries.Deliveries(w.Context(), server, deliveries.Filter{Limit: len(ids)})
	w.ok(err)
	slices.Reverse(found)
	return found
}

func (w *world) claim(c deliveries.Claiming) []deliveries.Delivery {
	w.Helper()
	if c.Lease == 0 {
		c.Lease = lease
	}
	if c.Servers == nil {
		c.Servers = []string{"myAS", "other", "far"}
	}
	claimed, err := w.a.Deliveries.ClaimDeliveries(w.Context(), c)
	w.ok(err)
	return claimed
}

// of names the clients of deliveries, in order.
func of(list []deliveries.Delivery) string {
	var names []string
	for _, d := range list {
		names = append(names, d.ClientID)
	}
	return strings.Join(names, " ")
}

func (w *world) claims(c deliveries.Claiming, want, what string) []deliveries.Delivery {
	w.Helper()
	got := w.claim(c)
	if of(got) != want {
		w.Errorf("%s: claimed %q, want %q", what, of(got), want)
	}
	return got
}

func (w *world) settle(d deliveries.Delivery, o deliveries.Outcome) error {
	return w.b.Deliveries.SettleDelivery(w.Context(), d, o)
}

func claimsOldestFirst(w *world) {
	w.user("alex")
	login := w.login("alex")
	all := deliveries.Claiming{Limit: 100, PerClient: 100}
	w.claims(all, "", "with nothing to do")
	owed := w.owe(w.as, "myAS", login, "z", "a", "m", "b", "z")
	for _, none := range []deliveries.Claiming{{Limit: 10}, {PerClient: 10}, {Limit: -1, PerClient: 10}, {Limit: 10, PerClient: -1}} {
		w.claims(none, "", "within no bound")
	}
	w.claims(deliveries.Claiming{Limit: 2, PerClient: 100}, "z a", "two of five")
	rest := w.claims(all, "m b z", "the rest")
	w.claims(all, "", "what is claimed")
	want := owed[2]
	want.Attempts, want.NextAt = 1, w.now().Add(lease)
	if !reflect.DeepEqual(rest[0], want) {
		w.Errorf("claimed %+v, want %+v", rest[0], want)
	}

	// Put off, acknowledged, given up.
	w.ok(w.settle(rest[0], deliveries.Outcome{State: deliveries.Waiting, Next: w.now().Add(time.Hour), Error: "status 500\x00\n\x1b[31m" + strings.Repeat("é", 200)}))
	w.ok(w.settle(rest[1], deliveries.Outcome{State: deliveries.Sent}))
	w.ok(w.settle(rest[2], deliveries.Outcome{State: deliveries.Abandoned, Error: "no route"}))
	list := w.outbox("myAS")
	slices.Reverse(list)
	if d := list[2]; d.State != deliveries.Waiting || !d.NextAt.Equal(w.now().Add(time.Hour)) || len(d.LastError) > 200 || len(d.LastError) < 199 ||
		!strings.HasPrefix(d.LastError, "status 500   [31mé") || !d.SettledAt.IsZero() || d.Attempts != 1 {
		w.Errorf("put off: %+v", d)
	}
	if d := list[3]; d.State != deliveries.Sent || d.LastError != "" || !d.SettledAt.Equal(w.now()) || !d.NextAt.IsZero() {
		w.Errorf("acknowledged: %+v", d)
	}
	if d := list[4]; d.State != deliveries.Abandoned || d.LastError != "no route" || !d.SettledAt.Equal(w.now()) {
		w.Errorf("given up: %+v", d)
	}
	for _, d := range rest {
		if d.ID == rest[0].ID {
			continue
		}
		w.is(w.settle(d, deliveries.Outcome{State: deliveries.Sent}), deliveries.ErrNotFound, "settling it again")
	}
	for name, state := range map[string]deliveries.State{"none": "", "unknown": "lost"} {
		if err := w.settle(rest[0], deliveries.Outcome{State: state}); err == nil || errors.Is(err, deliveries.ErrNotFound) {
			w.Errorf("settling with the state %s: %v", name, err)
		}
	}
	w.pass(lease)
	w.claims(all, "z a", "when the first leases are over")
	w.pass(time.Hour - lease - time.Millisecond)
	w.claims(deliveries.Claiming{Limit: 100, PerClient: 100, Lease: 2 * time.Hour}, "z a", "before what was put off is due")
	w.pass(time.Millisecond)
	w.claims(all, "m", "when it is due")

	for _, test := range []struct {
		filter deliveries.Filter
		want   string
	}{
		{deliveries.Filter{}, "z b m a z"},
		{deliveries.Filter{Limit: 2}, "z b"},
		{deliveries.Filter{State: deliveries.Waiting}, "m a z"},
		{deliveries.Filter{State: deliveries.Waiting, Limit: 1}, "m"},
		{deliveries.Filter{State: deliveries.Sent}, "b"},
		{deliveries.Filter{State: deliveries.Abandoned}, "z"},
		{deliveries.Filter{ClientID: "z"}, "z z"},
		{deliveries.Filter{ClientID: "z", State: deliveries.Waiting}, "z"},
		{deliveries.Filter{SessionID: owed[1].SessionID}, "a"},
		{deliveries.Filter{SessionID: owed[1].SessionID, ClientID: "b"}, ""},
		{deliveries.Filter{State: "lost"}, ""},
		{deliveries.Filter{State: "waiting' OR '1'='1"}, ""},
		{deliveries.Filter{ClientID: "a\x00"}, ""},
	} {
		got, err := w.a.Deliveries.Deliveries(w.Context(), "myAS", test.filter)
		w.ok(err)
		if of(got) != test.want {
			w.Errorf("%+v: %q, want %q", test.filter, of(got), test.want)
		}
	}
}

func claimHandedOver(w *world) {
	w.user("alex")
	owed := w.owe(w.as, "myAS", w.login("alex"), "a")
	all := deliveries.Claiming{Limit: 10, PerClient: 10}
	first := w.claims(all, "a", "at first")[0]
	w.pass(lease - time.Millisecond)
	w.claims(all, "", "within the lease")
	w.pass(time.Millisecond)
	second := w.claims(all, "a", "when the lease is over")[0]
	if second.ID != owed[0].ID || first.ID != owed[0].ID || first.Attempts != 1 || second.Attempts != 2 {
		w.Errorf("handed over %+v, from %+v", second, first)
	}
	for _, outcome := range []deliveries.Outcome{{State: deliveries.Sent}, {State: deliveries.Abandoned}, {State: deliveries.Waiting, Next: w.now()}} {
		w.is(w.settle(first, outcome), deliveries.ErrNotFound, "the overtaken attempt: %s", outcome.State)
	}
	w.ok(w.a.Deliveries.ReleaseDeliveries(w.Context(), []deliveries.Delivery{first}))
	w.claims(all, "", "what the overtaken one gave back")
	// Late, but nobody else has begun.
	w.pass(2 * lease)
	w.ok(w.settle(second, deliveries.Outcome{State: deliveries.Sent}))
	w.claims(all, "", "what was acknowledged")
	w.is(w.settle(deliveries.Delivery{AuthorizationServer: "myAS", ID: "unknown", Attempts: 1}, deliveries.Outcome{State: deliveries.Sent}),
		deliveries.ErrNotFound, "an unknown one")
	foreign := second
	foreign.AuthorizationServer = "other"
	w.is(w.settle(foreign, deliveries.Outcome{State: deliveries.Sent}), deliveries.ErrNotFound, "another authorization server's")
}

func claimReleased(w *world) {
	w.user("alex")
	w.owe(w.as, "myAS", w.login("alex"), "a", "b", "c")
	all := deliveries.Claiming{Limit: 10, PerClient: 10}
	claimed := w.claims(all, "a b c", "at first")
	w.ok(w.settle(claimed[2], deliveries.Outcome{State: deliveries.Sent}))
	w.ok(w.a.Deliveries.ReleaseDeliveries(w.Context(), nil))
	w.ok(w.a.Deliveries.ReleaseDeliveries(w.Context(), []deliveries.Delivery{claimed[2], claimed[0]}))
	again := w.claims(all, "a", "what was given back")
	if again[0].Attempts != 1 {
		w.Errorf("%d attempts are counted", again[0].Attempts)
	}
	if w.outbox("myAS")[0].State != deliveries.Sent {
		w.Error("what was acknowledged was given back")
	}
}

func claimBound(w *world) {
	w.user("alex")
	login, other := w.login("alex"), w.a.Server("other", "staff")
	w.owe(w.as, "myAS", login, "dead", "dead", "dead", "dead", "slow", "slow", "slow", "live")
	w.owe(other, "other", login, "dead")
	busy := func(n int) map[deliveries.Party]int {
		return map[deliveries.Party]int{{AuthorizationServer: "myAS", ClientID: "dead"}: n, {AuthorizationServer: "nowhere", ClientID: "x\x00"}: 1}
	}
	give := func(claimed []deliveries.Delivery) {
		w.Helper()
		w.ok(w.a.Deliveries.ReleaseDeliveries(w.Context(), claimed))
	}
	for _, test := range []struct {
		c    deliveries.Claiming
		want string
	}{
		{deliveries.Claiming{Limit: 10, PerClient: 2, Busy: busy(2)}, "slow slow live dead"},
		{deliveries.Claiming{Limit: 10, PerClient: 2, Busy: busy(5)}, "slow slow live dead"},
		{deliveries.Claiming{Limit: 10, PerClient: 1}, "dead slow live dead"},
		{deliveries.Claiming{Limit: 10, PerClient: 3, Busy: busy(2)}, "dead slow slow slow live dead"},
		{deliveries.Claiming{Limit: 3, PerClient: 2, Busy: busy(2)}, "slow slow live"},
		{deliveries.Claiming{Limit: 2, PerClient: 100}, "dead dead"},
	} {
		got := w.claim(test.c)
		// What is released is due from then on, so that only the number counts.
		want := strings.Fields(test.want)
		names := strings.Fields(of(got))
		slices.Sort(want)
		slices.Sort(names)
		if !slices.Equal(names, want) {
			w.Errorf("%+v: claimed %q, want %q", test.c, names, want)
		}
		give(got)
		w.pass(time.Second)
	}
}

func deliveriesShareNothing(w *world) {
	w.user("alex")
	other, far := w.a.Server("other", "staff"), w.a.Server("far", "students")
	students := w.a.Realm("students")
	w.userIn(students, "alex")
	login, theirs := w.login("alex"), w.loginIn(students, "alex", sessions.SignIn{})
	w.owe(w.as, "myAS", login, "a")
	w.owe(other, "other", login, "a", "b")
	w.owe(far, "far", theirs, "a", "c", "c")
	backlog := func(limit int, want string) {
		w.Helper()
		found, err := w.b.Deliveries.Backlog(w.Context(), limit)
		w.ok(err)
		var lines []string
		for server, waiting := range found {
			list := w.outbox(server)
			oldest := list[slices.IndexFunc(list, func(d deliveries.Delivery) bool { return d.State == deliveries.Waiting })]
			for _, d := range list {
				if d.State == deliveries.Waiting && d.CreatedAt.Before(oldest.CreatedAt) {
					oldest = d
				}
			}
			lines = append(lines, fmt.Sprint(server, " ", waiting.Count, " ", waiting.Oldest.Equal(oldest.CreatedAt)))
		}
		slices.Sort(lines)
		if got := strings.Join(lines, ", "); got != want {
			w.Errorf("the backlog is %q, want %q", got, want)
		}
	}
	backlog(10, "far 3 true, myAS 1 true, other 2 true")
	backlog(2, "far 2 true, myAS 1 true, other 2 true")
	for server, want := range map[string]string{"myAS": "a", "other": "b a", "far": "c c a", "nowhere": "", "myAS\x00": "", "MYAS": ""} {
		if got := of(w.outbox(server)); got != want {
			w.Errorf("%s lists %q, want %q", server, got, want)
		}
	}
	// A worker gets what it can sign, and leaves the rest to those who can.
	for _, none := range [][]string{{}, {"nowhere"}, {"MYAS", "far\x00"}, {"o", "otherwise"}} {
		w.claims(deliveries.Claiming{Servers: none, Limit: 10, PerClient: 10}, "", fmt.Sprintf("for %q", none))
	}
	claimed := w.claims(deliveries.Claiming{Servers: []string{"far", "myAS", "nowhere"}, Limit: 10, PerClient: 10}, "a a c c", "of two authorization servers")
	w.claims(deliveries.Claiming{Limit: 10, PerClient: 10}, "a b", "of the third")
	w.ok(w.settle(claimed[0], deliveries.Outcome{State: deliveries.Sent}))
	w.ok(w.settle(claimed[1], deliveries.Outcome{State: deliveries.Abandoned}))
	backlog(10, "far 2 true, other 2 true")
	// A sweeper removes what is its authorization server's.
	w.pass(2 * history)
	for _, as := range []ServerStore{other, far, w.as} {
		for range 3 {
			_, err := as.Sweep(w.Context(), history, 100)
			w.ok(err)
		}
		if as == other && (len(w.outbox("myAS")) != 1 || len(w.outbox("far")) != 3) {
			w.Error("a sweeper removed another authorization server's")
		}
	}
	w.pass(history)
	backlog(10, "far 2 true, other 2 true")
}

func deliveriesSwept(w *world) {
	w.company()
	c := w.cast()
	w.mustEnd(sessions.Target{Login: c.login.ID}, logout(), 4) // all but held, which is detached
	all := deliveries.Claiming{Limit: 10, PerClient: 10}
	for _, d := range w.claim(all) {
		if d.AuthorizationServer == "myAS" {
			w.ok(w.settle(d, deliveries.Outcome{State: deliveries.Sent}))
		}
	}
	count := func(want int, what string) {
		w.Helper()
		if got := len(w.outbox("myAS")); got != want {
			w.Errorf("%s: %d deliveries, want %d", what, got, want)
		}
	}
	swept := func(want int, what string) {
		w.Helper()
		if got := w.sweep(); got.Deliveries != want {
			w.Errorf("%s: swept %+v, want %d deliveries", what, got, want)
		}
	}
	use := func() {
		w.ok(w.realm.Touch(w.Context(), []sessions.Touch{{AuthorizationServer: "myAS", SessionID: c.held, At: w.now()}}))
	}
	w.pass(history - time.Millisecond)
	use()
	swept(0, "within the history")
	count(2, "within the history")
	w.pass(2 * time.Hour) // grants go an hour after their ending
	use()
	swept(1, "behind it the delivery goes with its session")
	swept(0, "at once again")
	count(1, "that of the session that goes on stays")
	w.pass(history)
	use()
	swept(0, "a day later")
	count(1, "a day later")
	// In the end, and told again.
	w.mustEnd(sessions.Target{Session: c.held}, logout(), 1)
	w.pass(2 * history)
	swept(1, "what was settled goes with the session")
	count(1, "what waits stays without its session")
	for _, d := range w.claim(all) {
		w.ok(w.settle(d, deliveries.Outcome{State: deliveries.Abandoned}))
	}
	w.pass(history - time.Millisecond)
	swept(0, "what was given up, within the history")
	w.pass(time.Millisecond)
	swept(1, "what was given up")
	count(0, "in the end")
}

// raceToClaim lets several workers of two nodes claim and settle all that waits.
func raceToClaim(w *world) {
	w.user("alex")
	login := w.login("alex")
	const clients, each = 6, 5
	for range each {
		for i := range clients {
			w.owe(w.as, "myAS", login, fmt.Sprint("client", i))
		}
	}
	var (
		mu    sync.Mutex
		group sync.WaitGroup
		taken = map[string]int{}
	)
	for i := range 8 {
		store := w.of(i).Deliveries
		group.Go(func() {
			for empty := 0; empty < 3; {
				claimed, err := store.ClaimDeliveries(w.Context(), deliveries.Claiming{Servers: []string{"myAS"}, Limit: 4, PerClient: 2, Lease: lease})
				if err != nil {
					w.Errorf("claiming: %v", err)
					return
				}
				if len(claimed) == 0 {
					empty++
				}
				mu.Lock()
				for _, d := range claimed {
					taken[d.ID]++
				}
				mu.Unlock()
				w.settleAll(w.Context(), store, claimed)
			}
		})
	}
	group.Wait()
	for id, n := range taken {
		if n != 1 {
			w.Errorf("%s was claimed %d times", id, n)
		}
	}
	if len(taken) != clients*each {
		w.Errorf("%d were claimed, want %d", len(taken), clients*each)
	}
}

func (w *world) settleAll(ctx context.Context, store deliveries.Store, claimed []deliveries.Delivery) {
	for _, d := range claimed {
		if err := store.SettleDelivery(ctx, d, deliveries.Outcome{State: deliveries.Sent}); err != nil {
			w.Errorf("settling: %v", err)
		}
	}
}
