package deliveries

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// leastGiveUp is the least time for which a client has to be tried: one that
// is down over a night, or a whole day, must still be told.
const leastGiveUp = 24 * time.Hour

const (
	// storing bounds one call of the store.
	storing = 5 * time.Second
	// storeAgain is the pause after a settlement that the store didn't take.
	storeAgain = time.Second
	// failingFor is how long a client counts as failing after its last failure.
	failingFor = 10 * time.Minute
)

// Outcomes of a sending, for Config.Count.
const (
	CountSent      = "sent"      // acknowledged
	CountFailed    = "failed"    // to be sent again
	CountAbandoned = "abandoned" // failed, and never sent again
)

// Config is what New needs.
type Config struct {
	// Store keeps the deliveries. Required.
	Store Store
	// Signers are the authorization servers of this process, by name. Required.
	Signers map[string]Signer
	// Client makes the requests. It decides which addresses may be reached.
	// Its cookies, time limit and following of redirects are not used. Required.
	Client *http.Client
	// UserAgent is what requests call themselves. Default: Gatehouse.
	UserAgent string
	// Timeout bounds one request, from the look-up of the name to the end of
	// the answer. Default: 5 s.
	Timeout time.Duration
	// Concurrency is how many requests are under way at most. Default: 64.
	Concurrency int
	// PerClient is how many of them are to one client at most; to one whose
	// last one failed, it is 1. Default: 4.
	PerClient int
	// Lease is how long a claim holds, at least twice Timeout. What a node that
	// died had claimed is sent again after that time. Default: 30 s.
	Lease time.Duration
	// Poll is how often is looked for deliveries that nobody woke the worker
	// for: due again, left by another node, written by a command. It varies by a
	// half, so that nodes that started together don't stay together. Default: 1 s.
	Poll time.Duration
	// Backoff is the distance of repetitions.
	Backoff Backoff
	// GiveUpAfter is the time since the ending after which a failure is the
	// last one; at least 24 h. Default: 72 h.
	GiveUpAfter time.Duration
	// Grace is how long requests under way may go on when Run is told to end.
	// Default: 3 s.
	Grace time.Duration
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Logger gets what failed. Default: slog.Default().
	Logger *slog.Logger
	// Count is called with the authorization server and the outcome
	// (CountSent, ...) of each sending. Default: nothing is counted.
	Count func(server, outcome string)
}

func (c *Config) defaults() {
	for _, d := range []struct {
		value *time.Duration
		unset time.Duration
	}{
		{&c.Timeout, 5 * time.Second}, {&c.Lease, 30 * time.Second}, {&c.Poll, time.Second}, {&c.Grace, 3 * time.Second},
		{&c.GiveUpAfter, 72 * time.Hour}, {&c.Backoff.First, 2 * time.Second}, {&c.Backoff.Most, 30 * time.Minute},
	} {
		if *d.value == 0 {
			*d.value = d.unset
		}
	}
	if c.UserAgent == "" {
		c.UserAgent = "Gatehouse"
	}
	if c.Concurrency == 0 {
		c.Concurrency = 64
	}
	if c.PerClient == 0 {
		c.PerClient = 4
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Count == nil {
		c.Count = func(string, string) {}
	}
}

// Worker sends deliveries. Any number may work on one store, in one process or
// many: what keeps them from sending the same is the store's claims alone.
type Worker struct {
	cfg    Config
	client *http.Client
	// servers are the names of cfg.Signers. Another node may know more of them:
	// while configurations differ, it is the one that sends.
	servers []string
	wake    chan struct{}
	freed   chan struct{}

	mu       sync.Mutex
	inFlight int
	busy     map[Party]int
	failing  map[Party]time.Time // since when nothing was acknowledged: of the last failure
	wanting  bool                // the last claim may have left something that is due
	away     bool                // the store did not answer the last claim
}

// New checks the configuration.
func New(cfg Config) (*Worker, error) {
	if cfg.Store == nil || cfg.Client == nil || cfg.Signers == nil {
		return nil, errors.New("deliveries: Store, Signers and Client are required")
	}
	cfg.defaults()
	switch {
	case cfg.GiveUpAfter < leastGiveUp:
		return nil, fmt.Errorf("deliveries: GiveUpAfter is less than %s", leastGiveUp)
	case cfg.Lease < 2*cfg.Timeout:
		return nil, errors.New("deliveries: Lease is less than twice Timeout")
	case cfg.PerClient < 1 || cfg.Concurrency < cfg.PerClient:
		return nil, errors.New("deliveries: PerClient is not between 1 and Concurrency")
	case cfg.Timeout < 0 || cfg.Poll < 0 || cfg.Grace < 0 || cfg.Backoff.First < 0 || cfg.Backoff.Most < cfg.Backoff.First:
		return nil, errors.New("deliveries: a time is negative, or Backoff.Most less than Backoff.First")
	}
	w := &Worker{cfg: cfg, servers: slices.Sorted(maps.Keys(cfg.Signers)), wake: make(chan struct{}, 1), freed: make(chan struct{}, 1), busy: map[Party]int{}, failing: map[Party]time.Time{}}
	w.client = &http.Client{
		Transport: cfg.Client.Transport,
		// A token goes to the registered URI and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return w, nil
}

// Wake tells the worker that something new may be due. It never waits; many
// calls may count as one.
func (w *Worker) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run sends deliveries until ctx is done. Then it claims nothing more, and
// returns when what is under way has ended or, after Grace, was broken off and
// given back.
func (w *Worker) Run(ctx context.Context) {
	open := context.WithoutCancel(ctx)
	requests, breakOff := context.WithCancel(open)
	defer breakOff()
	store, leave := context.WithCancel(open)
	defer leave()
	var running sync.WaitGroup
	for ctx.Err() == nil {
		for _, d := range w.claim(ctx, store) {
			running.Go(func() { w.deliver(requests, store, &d) })
		}
		pause := time.NewTimer(w.cfg.Poll/2 + rand.N(w.cfg.Poll)) //nolint:gosec // spreads, hides nothing
		select {
		case <-ctx.Done():
		case <-w.wake:
		case <-w.freed:
		case <-pause.C:
		}
		pause.Stop()
	}
	ended := make(chan struct{})
	go func() { running.Wait(); close(ended) }()
	// Two limits: for the requests, and then for writing down what came of them.
	for _, limit := range []struct {
		after time.Duration
		stop  func()
	}{{w.cfg.Grace, breakOff}, {storing, leave}} {
		timer := time.NewTimer(limit.after)
		select {
		case <-ended:
			timer.Stop()
			return
		case <-timer.C:
			limit.stop()
		}
	}
	<-ended
}

// claim takes as much as there is room for. What it takes while ctx ends is
// given back.
func (w *Worker) claim(ctx, store context.Context) []Delivery {
	c := w.claiming()
	if c.Limit == 0 {
		return nil
	}
	// Not broken off by ctx: whether the claim was made would not be known then.
	bounded, cancel := context.WithTimeout(store, storing)
	defer cancel()
	claimed, err := w.cfg.Store.ClaimDeliveries(bounded, c)
	w.noteStore(ctx, err)
	if err != nil {
		return nil
	}
	if ctx.Err() != nil && len(claimed) > 0 {
		w.release(store, claimed)
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanting = len(claimed) >= c.Limit
	w.inFlight += len(claimed)
	for i := range claimed {
		w.busy[claimed[i].party()]++
	}
	for p, n := range w.busy {
		// There may be more of a client that has as many as it may have.
		w.wanting = w.wanting || n >= w.bound(p)
	}
	return claimed
}

func (d *Delivery) party() Party { return Party{d.AuthorizationServer, d.ClientID} }

// bound is how many requests to a client may be under way. The caller holds mu.
func (w *Worker) bound(p Party) int {
	if _, failing := w.failing[p]; failing {
		return 1
	}
	return w.cfg.PerClient
}

// claiming is what there is room for. Clients that fail get a request at a
// time, so that many of them leave room for the others: each may take as long
// as Timeout.
func (w *Worker) claiming() Claiming {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := Claiming{Servers: w.servers, Limit: w.cfg.Concurrency - w.inFlight, PerClient: w.cfg.PerClient, Lease: w.cfg.Lease, Busy: maps.Clone(w.busy)}
	w.wanting = true // what becomes free while the store is asked is not known to it
	now := w.cfg.Now()
	for p, last := range w.failing {
		if now.Sub(last) > failingFor {
			delete(w.failing, p)
			continue
		}
		c.Busy[p] = w.cfg.PerClient - max(0, 1-w.busy[p])
	}
	return c
}

// deliver sends one delivery and notes what came of it.
func (w *Worker) deliver(requests, store context.Context, d *Delivery) {
	why := w.send(requests, d)
	defer w.done(d, why)
	if why != "" && requests.Err() != nil {
		w.release(store, []Delivery{*d})
		return
	}
	outcome, counted := w.judge(d, why)
	w.log(store, d, outcome)
	w.settle(store, d, outcome)
	w.cfg.Count(d.AuthorizationServer, counted)
}

// judge decides what a sending means.
func (w *Worker) judge(d *Delivery, why string) (Outcome, string) {
	if why == "" {
		return Outcome{State: Sent}, CountSent
	}
	now := w.cfg.Now()
	last := d.CreatedAt.Add(w.cfg.GiveUpAfter)
	if !now.Before(last) {
		return Outcome{State: Abandoned, Error: why}, CountAbandoned
	}
	next := now.Add(w.cfg.Backoff.after(d.Attempts, rand.Float64())) //nolint:gosec // spreads, hides nothing
	if next.After(last) {
		next = last // so that the last sending is not before its time
	}
	return Outcome{State: Waiting, Next: next.UTC().Truncate(time.Millisecond), Error: why}, CountFailed
}

func (w *Worker) log(ctx context.Context, d *Delivery, o Outcome) {
	level, text := slog.LevelDebug, "client told of an ending"
	switch {
	case o.State == Abandoned:
		level, text = slog.LevelError, "client not told of an ending: given up"
	case o.State == Waiting && d.Attempts <= 1:
		level, text = slog.LevelWarn, "client not told of an ending yet"
	case o.State == Waiting:
		level, text = slog.LevelInfo, "client not told of an ending yet"
	}
	w.cfg.Logger.Log(ctx, level, text, "as", d.AuthorizationServer, "client_id", d.ClientID, "session", d.SessionID, "delivery", d.ID,
		"attempt", d.Attempts, "next", o.Next, "error", o.Error)
}

// settle notes an outcome. It tries until the lease is over: what is not noted
// is sent again.
func (w *Worker) settle(store context.Context, d *Delivery, o Outcome) {
	patience, cancel := context.WithTimeout(store, w.cfg.Lease-w.cfg.Timeout)
	defer cancel()
	for {
		bounded, done := context.WithTimeout(patience, storing)
		err := w.cfg.Store.SettleDelivery(bounded, *d, o)
		done()
		if err == nil || errors.Is(err, ErrNotFound) {
			return // or another attempt has begun, which will be noted
		}
		pause := time.NewTimer(storeAgain)
		select {
		case <-pause.C:
		case <-patience.Done():
			pause.Stop()
			w.cfg.Logger.WarnContext(store, "outcome of a delivery not stored, it will be sent again", "as", d.AuthorizationServer,
				"client_id", d.ClientID, "delivery", d.ID, "error", err)
			return
		}
	}
}

// release gives back what was claimed and did not arrive. If that fails it is
// due when the lease is over.
func (w *Worker) release(store context.Context, claimed []Delivery) {
	bounded, cancel := context.WithTimeout(store, storing)
	defer cancel()
	if err := w.cfg.Store.ReleaseDeliveries(bounded, claimed); err != nil && !errors.Is(err, ErrNotFound) {
		w.cfg.Logger.WarnContext(store, "deliveries not given back", "count", len(claimed), "error", err)
	}
}

// done makes room for others.
func (w *Worker) done(d *Delivery, why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := d.party()
	if why == "" {
		if _, failing := w.failing[p]; failing {
			delete(w.failing, p)
			w.wanting = true // more may go to it than a claim was made for
		}
	} else {
		w.failing[p] = w.cfg.Now()
	}
	w.inFlight--
	if w.busy[p]--; w.busy[p] <= 0 {
		delete(w.busy, p)
	}
	if w.wanting {
		select {
		case w.freed <- struct{}{}:
		default:
		}
	}
}

// noteStore logs that the store went away and that it came back, not every
// call in between.
func (w *Worker) noteStore(ctx context.Context, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil && !w.away:
		w.cfg.Logger.WarnContext(ctx, "deliveries can't be claimed", "error", err)
	case err == nil && w.away:
		w.cfg.Logger.InfoContext(ctx, "deliveries can be claimed again")
	}
	w.away = err != nil
}
