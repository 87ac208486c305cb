package deliveries_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/deliveries"
)

func TestRepetitionsHaveTheSameIDAndANewTime(t *testing.T) {
	o := newOffice(t)
	var good atomic.Bool
	r := newRecipient(t, func(w http.ResponseWriter, _ *http.Request) {
		if !good.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	o.store.add(1, deliveries.Delivery{ClientID: "album", URI: r.URL})
	w, _ := o.run(o.config())
	gaps := []time.Duration{}
	for n := 1; n <= 14; n++ {
		await(t, fmt.Sprintf("attempt %d has failed", n), func() bool { return o.store.settlements() == n })
		gaps = append(gaps, o.store.all()[0].NextAt.Sub(o.clock.now()))
		if n == 14 {
			good.Store(true)
		}
		o.clock.advance(gaps[n-1])
		w.Wake()
	}
	await(t, "it is sent at last", func() bool { return o.store.count(deliveries.Sent) == 1 })
	ids, issued := map[any]bool{}, map[any]bool{}
	for _, token := range r.got() {
		claims := part(t, token, 1)
		if _, ok := claims["nonce"]; ok {
			t.Error("a logout token with a nonce")
		}
		ids[claims["jti"]], issued[claims["iat"]] = true, true
	}
	if len(ids) != 1 || len(issued) < 10 {
		t.Errorf("%d tokens have %d ids and %d times", len(r.got()), len(ids), len(issued))
	}
	for i, gap := range gaps {
		most := min(2*time.Second<<i, 30*time.Minute)
		if gap < 500*time.Millisecond || gap > most {
			t.Errorf("%s before repetition %d, want at most %s", gap, i+1, most)
		}
	}
	if d := o.store.all()[0]; d.LastError != "" || d.Attempts != 15 {
		t.Errorf("in the end the delivery is %+v", d)
	}
}

func TestClientThatCantBeToldIsGivenUp(t *testing.T) {
	o := newOffice(t)
	r := newRecipient(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) })
	o.store.add(1, deliveries.Delivery{ClientID: "album", URI: r.URL})
	ended := o.clock.now()
	cfg := o.config()
	cfg.GiveUpAfter = 24 * time.Hour
	w, _ := o.run(cfg)
	for n := 1; ; n++ {
		await(t, fmt.Sprintf("sending %d is judged", n), func() bool { return o.store.settlements() == n })
		d := o.store.all()[0]
		if d.State != deliveries.Waiting {
			break
		}
		if d.NextAt.After(ended.Add(24 * time.Hour)) {
			t.Fatalf("the next sending is %s after the ending", d.NextAt.Sub(ended))
		}
		o.clock.advance(d.NextAt.Sub(o.clock.now()))
		w.Wake()
	}
	d := o.store.all()[0]
	if !d.SettledAt.Equal(ended.Add(24*time.Hour)) || d.LastError != "status 410" {
		t.Errorf("given up after %s: %q", d.SettledAt.Sub(ended), d.LastError)
	}
	n := len(r.got())
	if counted := o.outcomes(n); n < 40 || counted["myAS abandoned"] != 1 {
		t.Errorf("%d sendings in a day, counted %v", n, counted)
	}
	if log := o.log.String(); !strings.Contains(log, "given up") || !strings.Contains(log, "level=ERROR") {
		t.Error("the log does not tell of it")
	}
}

// What there is no key for is not sent, is noted, and doesn't make the worker
// spin.
func TestDeliveryThatCantBeSignedWaits(t *testing.T) {
	o := newOffice(t)
	r := newRecipient(t, ok)
	o.store.add(1, deliveries.Delivery{ClientID: "album", URI: r.URL, Alg: "HS256"})
	o.run(o.config())
	await(t, "it has failed", func() bool { return o.store.all()[0].LastError != "" })
	if why := o.store.all()[0].LastError; !strings.Contains(why, `"HS256"`) {
		t.Errorf("the error is %q", why)
	}
	before := o.store.asked()
	await(t, "it looks again", func() bool { return o.store.asked() > before+3 })
	if d := o.store.all()[0]; d.Attempts != 1 || d.State != deliveries.Waiting {
		t.Errorf("%s after %d attempts", d.State, d.Attempts)
	}
	if len(r.got()) != 0 {
		t.Error("something was sent")
	}
}

// While a new authorization server is rolled out node by node, those who don't
// know it yet leave its messages to those who do.
func TestWorkerLeavesWhatItCantSignToOthers(t *testing.T) {
	o := newOffice(t)
	r := newRecipient(t, ok)
	o.store.add(1, deliveries.Delivery{ClientID: "album", AuthorizationServer: "newAS", URI: r.URL})
	o.run(o.config())
	before := o.store.asked()
	await(t, "it looks some times", func() bool { return o.store.asked() > before+3 })
	if d := o.store.all()[0]; d.Attempts != 0 || d.State != deliveries.Waiting || !d.NextAt.Equal(d.CreatedAt) {
		t.Errorf("%s after %d attempts, due at %s", d.State, d.Attempts, d.NextAt)
	}
	cfg := o.config()
	cfg.Signers = map[string]deliveries.Signer{"newAS": {Issuer: issuer, Keys: o.keys}}
	o.run(cfg)
	await(t, "who knows it has sent it", func() bool { return o.store.all()[0].State == deliveries.Sent })
	if d := o.store.all()[0]; d.Attempts != 1 || len(r.got()) != 1 {
		t.Errorf("sent %d times after %d attempts", len(r.got()), d.Attempts)
	}
}

// One client that never answers, with as much waiting for it as there may be,
// delays nobody.
func TestClientThatHangsDelaysNobody(t *testing.T) {
	o := newOffice(t)
	dead := newRecipient(t, hang)
	good := newRecipient(t, ok)
	o.store.add(500, deliveries.Delivery{ClientID: "dead", URI: dead.URL})
	for i := range 100 {
		o.store.add(1, deliveries.Delivery{ClientID: fmt.Sprintf("client-%d", i), URI: good.URL})
	}
	cfg := o.config()
	cfg.Poll = time.Hour // nothing of it hangs on this
	// Whoever waits for the dead one waits longer than this test does.
	cfg.Timeout, cfg.Lease, cfg.Grace = time.Hour, 2*time.Hour, time.Millisecond
	o.run(cfg)
	took := await(t, "100 clients are told", func() bool { return o.store.count(deliveries.Sent) == 100 })
	if n := len(dead.got()); n > 4 {
		t.Errorf("%d requests are under way to one client", n)
	}
	t.Logf("100 clients told in %s", took)
}

// Many clients that never answer get one request at a time, once they are
// known for it, and leave room.
func TestManyClientsThatHangLeaveRoom(t *testing.T) {
	o := newOffice(t)
	var known atomic.Bool
	dead := newRecipient(t, func(w http.ResponseWriter, r *http.Request) {
		if known.Load() {
			hang(w, r)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	good := newRecipient(t, ok)
	owe := func(n int) {
		for i := range 20 {
			o.store.add(n, deliveries.Delivery{ClientID: fmt.Sprintf("dead-%d", i), URI: dead.URL})
		}
	}
	owe(1)
	cfg := o.config()
	// Whoever waits for the dead ones waits longer than this test does.
	cfg.Timeout, cfg.Lease, cfg.Grace = time.Hour, 2*time.Hour, time.Millisecond
	w, _ := o.run(cfg)
	await(t, "all are known for failing", func() bool { return o.store.settlements() == 20 })
	known.Store(true)
	owe(30)
	o.store.add(100, deliveries.Delivery{ClientID: "good", URI: good.URL, CreatedAt: o.clock.now().Add(time.Millisecond)})
	o.clock.advance(time.Millisecond)
	w.Wake()
	await(t, "the other one is told", func() bool { return o.store.count(deliveries.Sent) == 100 })
}

// A client that has failed gets as many at once as others when it is back.
func TestBacklogFlowsWhenAClientIsBack(t *testing.T) {
	o := newOffice(t)
	var good atomic.Bool
	var now, most atomic.Int64
	r := newRecipient(t, func(w http.ResponseWriter, _ *http.Request) {
		if !good.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-time.After(5 * time.Millisecond)
		now.Add(-1)
	})
	o.store.add(100, deliveries.Delivery{ClientID: "album", URI: r.URL})
	cfg := o.config()
	cfg.Poll = time.Hour // so that nothing is owed to it
	w, _ := o.run(cfg)
	await(t, "all have failed once", func() bool {
		for _, d := range o.store.all() {
			if d.LastError == "" {
				return false
			}
		}
		return true
	})
	good.Store(true)
	o.clock.advance(2 * time.Second)
	w.Wake()
	await(t, "all are sent", func() bool { return o.store.count(deliveries.Sent) == 100 })
	if n := most.Load(); n < 2 || n > 4 {
		t.Errorf("at most %d were under way to the client, want 2 to 4", n)
	}
}

func TestWorkersSendEachDeliveryOnce(t *testing.T) {
	o := newOffice(t)
	r := newRecipient(t, ok)
	for i := range 10 {
		o.store.add(30, deliveries.Delivery{ClientID: fmt.Sprintf("client-%d", i), URI: r.URL, Alg: "ES256"})
	}
	for range 3 {
		o.run(o.config())
	}
	await(t, "all are sent", func() bool { return o.store.count(deliveries.Sent) == 300 })
	ids := map[any]int{}
	for _, token := range r.got() {
		ids[part(t, token, 1)["jti"]]++
	}
	if len(r.got()) != 300 || len(ids) != 300 {
		t.Errorf("%d tokens for %d deliveries", len(r.got()), len(ids))
	}
}

// What a node had claimed when it died is sent by another when the lease is
// over, and not before.
func TestLeaseThatIsOverIsTakenAgain(t *testing.T) {
	o := newOffice(t)
	r := newRecipient(t, ok)
	o.store.add(1, deliveries.Delivery{ClientID: "album", URI: r.URL})
	cfg := o.config()
	if taken, err := o.store.ClaimDeliveries(t.Context(), deliveries.Claiming{Servers: []string{"myAS"}, Limit: 1, PerClient: 1, Lease: 30 * time.Second}); err != nil || len(taken) != 1 {
		t.Fatal(taken, err) // by a node that is no more
	}
	w, _ := o.run(cfg)
	before := o.store.asked()
	await(t, "the worker looks", func() bool { return o.store.asked() > before+2 })
	if len(r.got()) != 0 {
		t.Error("it was sent although another node has it")
	}
	o.clock.advance(30 * time.Second)
	w.Wake()
	await(t, "it is sent", func() bool { return o.store.count(deliveries.Sent) == 1 })
	if d := o.store.all()[0]; d.Attempts != 2 {
		t.Errorf("%d attempts", d.Attempts)
	}
}

func TestWakeSendsAtOnce(t *testing.T) {
	o := newOffice(t)
	r := newRecipient(t, ok)
	cfg := o.config()
	cfg.Poll = time.Hour
	w, _ := o.run(cfg)
	await(t, "the worker has looked", func() bool { return o.store.asked() == 1 })
	for i := range 5 {
		o.store.add(1, deliveries.Delivery{ClientID: "album", URI: r.URL})
		var wakers sync.WaitGroup
		for range 100 {
			wakers.Go(w.Wake)
		}
		wakers.Wait() // it waits for nobody
		await(t, "it is sent", func() bool { return o.store.count(deliveries.Sent) == i+1 })
	}
}

// More than fits goes out without a poll or a wake in between.
func TestRoomIsUsedAsItComes(t *testing.T) {
	o := newOffice(t)
	r := newRecipient(t, ok)
	cfg := o.config()
	cfg.Poll, cfg.Concurrency, cfg.PerClient = time.Hour, 3, 2
	for i := range 4 {
		o.store.add(10, deliveries.Delivery{ClientID: fmt.Sprintf("client-%d", i), URI: r.URL})
	}
	o.run(cfg)
	await(t, "all are sent", func() bool { return o.store.count(deliveries.Sent) == 40 })
}

// At a shutdown what is under way may finish; what doesn't is given back and is
// due at once for others, as if it had not been tried.
func TestShutdownLosesNothing(t *testing.T) {
	o := newOffice(t)
	release := make(chan struct{})
	good := newRecipient(t, func(w http.ResponseWriter, _ *http.Request) { <-release })
	dead := newRecipient(t, hang)
	// A worker each: one has as much time as it needs, for the other it is over.
	o.store.add(1, deliveries.Delivery{ClientID: "good", URI: good.URL})
	cfg := o.config()
	cfg.Grace = time.Hour
	_, stop := o.run(cfg)
	await(t, "the good one is under way", func() bool { return len(good.got()) == 1 })
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	ended := func() bool {
		select {
		case <-stopped:
			return true
		default:
			return false
		}
	}
	<-time.After(50 * time.Millisecond)
	if ended() {
		t.Error("the worker did not wait for what is under way")
	}
	close(release)
	await(t, "the worker ends", ended)
	o.store.add(1, deliveries.Delivery{ClientID: "dead", URI: dead.URL})
	cfg.Timeout, cfg.Lease, cfg.Grace = time.Hour, 2*time.Hour, 50*time.Millisecond
	_, stop = o.run(cfg)
	await(t, "the dead one is under way", func() bool { return len(dead.got()) == 1 })
	stopped = make(chan struct{})
	go func() { stop(); close(stopped) }()
	await(t, "the other worker ends", ended)
	all := o.store.all()
	if all[0].State != deliveries.Sent {
		t.Errorf("what was under way and answered is %s", all[0].State)
	}
	if d := all[1]; d.State != deliveries.Waiting || d.Attempts != 0 || d.NextAt.After(o.clock.now()) || d.LastError != "" {
		t.Errorf("what was broken off is %+v", d)
	}
	if counted := o.outcomes(1); counted["myAS sent"] != 1 || len(counted) != 1 {
		t.Errorf("counted %v", counted)
	}
}

func TestWhatIsClaimedDuringAShutdownIsGivenBack(t *testing.T) {
	o := newOffice(t)
	r := newRecipient(t, ok)
	ctx, cancel := context.WithCancel(context.Background())
	o.store.claimed = cancel
	o.store.add(3, deliveries.Delivery{ClientID: "album", URI: r.URL})
	w, err := deliveries.New(o.config())
	if err != nil {
		t.Fatal(err)
	}
	w.Run(ctx)
	for _, d := range o.store.all() {
		if d.Attempts != 0 || d.State != deliveries.Waiting || d.NextAt.After(o.clock.now()) {
			t.Errorf("%+v", d)
		}
	}
	if len(r.got()) != 0 || o.store.released != 3 {
		t.Errorf("%d were sent, %d given back", len(r.got()), o.store.released)
	}
}

// An outcome that the store did not take is offered again; a store that is away
// is asked again.
func TestStoreThatIsAwayForAWhile(t *testing.T) {
	o := newOffice(t)
	r := newRecipient(t, ok)
	var refused atomic.Int64
	o.store.settle = func() error {
		if refused.Add(1) == 1 {
			return errors.New("database is away")
		}
		return nil
	}
	o.store.down = errors.New("database is away")
	o.store.add(1, deliveries.Delivery{ClientID: "album", URI: r.URL})
	o.run(o.config())
	await(t, "it asks again", func() bool { return o.store.asked() > 3 })
	o.store.mu.Lock()
	o.store.down = nil
	o.store.mu.Unlock()
	await(t, "it is sent", func() bool { return o.store.count(deliveries.Sent) == 1 })
	if len(r.got()) != 1 || strings.Count(o.log.String(), "can't be claimed") != 1 || !strings.Contains(o.log.String(), "can be claimed again") {
		t.Errorf("sent %d times:\n%s", len(r.got()), o.log)
	}
}

func TestNewRefusesWhatCantWork(t *testing.T) {
	o := newOffice(t)
	for name, change := range map[string]func(*deliveries.Config){
		"no store":                     func(c *deliveries.Config) { c.Store = nil },
		"no signers":                   func(c *deliveries.Config) { c.Signers = nil },
		"no client":                    func(c *deliveries.Config) { c.Client = nil },
		"given up within a day":        func(c *deliveries.Config) { c.GiveUpAfter = 24*time.Hour - time.Second },
		"a lease as long as a request": func(c *deliveries.Config) { c.Lease = 5 * time.Second },
		"more for one than for all":    func(c *deliveries.Config) { c.Concurrency, c.PerClient = 2, 3 },
		"nothing for anybody":          func(c *deliveries.Config) { c.PerClient = -1 },
		"a backoff that shrinks":       func(c *deliveries.Config) { c.Backoff = deliveries.Backoff{First: time.Minute, Most: time.Second} },
	} {
		cfg := o.config()
		change(&cfg)
		if _, err := deliveries.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
