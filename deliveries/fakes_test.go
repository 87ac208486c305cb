package deliveries_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/deliveries"
)

// clock is set by the test.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 3, 2, 14, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// memory is a Store that forgets. Its hooks are set before it is used.
type memory struct {
	now     func() time.Time
	claimed func()       // called after a claim that took something
	settle  func() error // instead of a settlement, where it returns an error

	mu       sync.Mutex
	rows     []*deliveries.Delivery
	claims   int
	released int
	settled  int
	down     error // of claims
}

func (m *memory) add(n int, d deliveries.Delivery) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for range n {
		row := d
		row.ID = fmt.Sprintf("delivery-%06d-0123456789", len(m.rows))
		row.SessionID, row.Subject, row.State = fmt.Sprintf("sid-%d", len(m.rows)), "alex", deliveries.Waiting
		if row.AuthorizationServer == "" {
			row.AuthorizationServer = "myAS"
		}
		if row.CreatedAt.IsZero() {
			row.CreatedAt = m.now()
		}
		row.NextAt = row.CreatedAt
		m.rows = append(m.rows, &row)
	}
}

func (m *memory) ClaimDeliveries(_ context.Context, c deliveries.Claiming) ([]deliveries.Delivery, error) {
	m.mu.Lock()
	m.claims++
	if m.down != nil {
		defer m.mu.Unlock()
		return nil, m.down
	}
	now, busy := m.now(), map[deliveries.Party]int{}
	for p, n := range c.Busy {
		busy[p] = n
	}
	due := slices.Clone(m.rows)
	slices.SortStableFunc(due, func(a, b *deliveries.Delivery) int { return a.NextAt.Compare(b.NextAt) })
	var taken []deliveries.Delivery
	for _, d := range due {
		p := deliveries.Party{AuthorizationServer: d.AuthorizationServer, ClientID: d.ClientID}
		if !slices.Contains(c.Servers, d.AuthorizationServer) || d.State != deliveries.Waiting || d.NextAt.After(now) || len(taken) == c.Limit || busy[p] >= c.PerClient {
			continue
		}
		busy[p]++
		d.Attempts++
		d.NextAt = now.Add(c.Lease)
		taken = append(taken, *d)
	}
	m.mu.Unlock()
	if m.claimed != nil && len(taken) > 0 {
		m.claimed()
	}
	return taken, nil
}

func (m *memory) SettleDelivery(_ context.Context, d deliveries.Delivery, o deliveries.Outcome) error {
	if m.settle != nil {
		if err := m.settle(); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, row := range m.rows {
		if row.ID == d.ID && row.Attempts == d.Attempts && row.State == deliveries.Waiting {
			row.State, row.LastError, row.NextAt = o.State, o.Error, o.Next
			m.settled++
			if o.State != deliveries.Waiting {
				row.SettledAt = m.now()
			}
			return nil
		}
	}
	return deliveries.ErrNotFound
}

func (m *memory) ReleaseDeliveries(_ context.Context, list []deliveries.Delivery) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, row := range m.rows {
		for i := range list {
			if row.ID == list[i].ID && row.Attempts == list[i].Attempts {
				row.Attempts--
				row.NextAt = m.now()
				m.released++
			}
		}
	}
	return nil
}

func (m *memory) Deliveries(context.Context, string, deliveries.Filter) ([]deliveries.Delivery, error) {
	return m.all(), nil
}

func (m *memory) Backlog(context.Context, int) (map[string]deliveries.Waitings, error) {
	return nil, nil
}

func (m *memory) all() []deliveries.Delivery {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]deliveries.Delivery, len(m.rows))
	for i, row := range m.rows {
		list[i] = *row
	}
	return list
}

func (m *memory) count(state deliveries.State) (n int) {
	for _, d := range m.all() {
		if d.State == state {
			n++
		}
	}
	return n
}

// settlements is how many outcomes were noted.
func (m *memory) settlements() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settled
}

func (m *memory) asked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.claims
}

// recipient is a client's end of the channel. It keeps what it was sent.
type recipient struct {
	*httptest.Server
	mu     sync.Mutex
	tokens []string
}

// newRecipient answers with what answer does, after it has kept the token.
func newRecipient(t testing.TB, answer http.HandlerFunc) *recipient {
	t.Helper()
	r := &recipient{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body := req.PostFormValue("logout_token")
		r.mu.Lock()
		r.tokens = append(r.tokens, body)
		r.mu.Unlock()
		answer(w, req)
	}))
	t.Cleanup(func() {
		r.CloseClientConnections()
		r.Close()
	})
	return r
}

func (r *recipient) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.tokens)
}

func ok(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

// hang answers when its client has gone.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// office is one store, and workers.
type office struct {
	t     testing.TB
	clock *clock
	store *memory
	keys  pair
	log   *syncBuffer

	mu      sync.Mutex
	counted map[string]int
}

func newOffice(t testing.TB) *office {
	c := newClock()
	return &office{t: t, clock: c, store: &memory{now: c.now}, keys: newPair(t), log: &syncBuffer{}, counted: map[string]int{}}
}

func (o *office) config() deliveries.Config {
	return deliveries.Config{
		Store: o.store, Signers: map[string]deliveries.Signer{"myAS": {Issuer: issuer, Keys: o.keys}},
		Client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, UserAgent: "Gatehouse/1.2.3",
		Poll: 20 * time.Millisecond, Now: o.clock.now, Logger: slog.New(slog.NewTextHandler(o.log, nil)),
		Count: func(server, outcome string) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.counted[server+" "+outcome]++
		},
	}
}

// outcomes are what was counted, as soon as there are n; they are counted when
// they have been settled.
func (o *office) outcomes(n int) map[string]int {
	o.t.Helper()
	var found map[string]int
	await(o.t, "outcomes to be counted", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		found = maps.Clone(o.counted)
		sum := 0
		for _, of := range found {
			sum += of
		}
		return sum >= n
	})
	return found
}

// run starts a worker, which ends with the test or when the returned function
// is called.
func (o *office) run(cfg deliveries.Config) (w *deliveries.Worker, stop func()) {
	o.t.Helper()
	w, err := deliveries.New(cfg)
	if err != nil {
		o.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	stop = func() {
		cancel()
		running.Wait()
	}
	o.t.Cleanup(stop)
	return w, stop
}

// await polls until something holds, for as long as a slow machine may need.
func await(t testing.TB, what string, holds func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !holds() {
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("waited in vain: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
	return time.Since(began)
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
