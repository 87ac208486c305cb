package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"gatehouse.dev/gatehouse/sessions"
)

// dust is something to sweep: so many batches, and then nothing.
type dust struct {
	batches int
	fails   error
	calls   int
	history time.Duration
}

func (d *dust) Sweep(_ context.Context, history time.Duration, limit int) (sessions.Swept, error) {
	d.calls++
	d.history = history
	if d.fails != nil {
		return sessions.Swept{}, d.fails
	}
	if d.batches == 0 {
		return sessions.Swept{}, nil
	}
	d.batches--
	return sessions.Swept{Sessions: limit, Grants: 1, More: d.batches > 0}, nil
}

func TestSweeperSweepsInBatchesAndCounts(t *testing.T) {
	registry := prometheus.NewRegistry()
	var log bytes.Buffer
	much, nothing, broken := &dust{batches: 3}, &dust{}, &dust{fails: errors.New("no space left")}
	s := &sweeper{metrics: newSweepMetrics(registry), logger: slog.New(slog.NewTextHandler(&log, nil)), jobs: []sweepJob{
		{"as:broken", broken, time.Hour}, {"as:much", much, time.Hour}, {"realm:nothing", nothing, 2 * time.Hour}}}
	s.pass(t.Context())
	if broken.calls != 1 || much.calls != 3 || nothing.calls != 1 || nothing.history != 2*time.Hour {
		t.Errorf("calls: broken %d, much %d, nothing %d with history %s", broken.calls, much.calls, nothing.calls, nothing.history)
	}
	for _, c := range []struct {
		counter prometheus.Counter
		want    float64
	}{
		{s.metrics.swept.WithLabelValues("as:much", "session"), 3 * sweepBatch},
		{s.metrics.swept.WithLabelValues("as:much", "grant"), 3},
		{s.metrics.swept.WithLabelValues("as:broken", "session"), 0},
		{s.metrics.failed.WithLabelValues("as:broken"), 1},
		{s.metrics.failed.WithLabelValues("as:much"), 0},
	} {
		var m dto.Metric
		if err := c.counter.Write(&m); err != nil {
			t.Fatal(err)
		}
		if got := m.GetCounter().GetValue(); got != c.want {
			t.Errorf("%s is %g, want %g", c.counter.Desc(), got, c.want)
		}
	}
	if got := log.String(); strings.Count(got, "msg=swept") != 1 || !strings.Contains(got, "sessions_expired=600") || !strings.Contains(got, "no space left") {
		t.Errorf("log:\n%s", got)
	}
}

// countedDust is dust that is counted as well.
type countedDust struct {
	dust
	waiting map[string]int
	fails   error
	limit   int
}

func (d *countedDust) Waiting(_ context.Context, history time.Duration, limit int) (map[string]int, error) {
	d.limit, d.history = limit, history
	return d.waiting, d.fails
}

func TestSweeperTellsWhatItLeft(t *testing.T) {
	var log bytes.Buffer
	counted := &countedDust{dust: dust{fails: errors.New("no space left")}, waiting: map[string]int{"session": 10_001, "grant": 7}}
	gone := &countedDust{fails: errors.New("not now")}
	s := &sweeper{metrics: newSweepMetrics(prometheus.NewRegistry()), logger: slog.New(slog.NewTextHandler(&log, nil)), jobs: []sweepJob{
		{"as:counted", counted, time.Hour}, {"as:gone", gone, time.Hour}, {"realm:uncounted", &dust{}, time.Hour}}}
	waits := func(kind string, want float64) {
		t.Helper()
		var m dto.Metric
		if err := s.metrics.waiting.WithLabelValues("as:counted", kind).Write(&m); err != nil {
			t.Fatal(err)
		}
		if got := m.GetGauge().GetValue(); got != want {
			t.Errorf("%g of kind %s wait, want %g", got, kind, want)
		}
	}
	s.pass(t.Context())
	waits("session", 10_001)
	waits("grant", 7)
	if counted.limit != sweepCount+1 || counted.history != time.Hour || !strings.Contains(log.String(), "not now") {
		t.Errorf("counted to %d with history %s; log:\n%s", counted.limit, counted.history, log.String())
	}
	counted.waiting["session"] = 0
	s.pass(t.Context())
	waits("session", 0)
	// What can't be counted is not 0.
	counted.fails, counted.waiting = errors.New("not now"), nil
	s.pass(t.Context())
	waits("grant", 7)
}

// The bounds of docs/logout.md: whatever time ends is told within five minutes,
// of which one is left to the pass and the message, as long as a pass has no
// more than so many rows of a kind to look at.
func TestExpiryIsToldWithinFiveMinutes(t *testing.T) {
	for what, most := range map[string]time.Duration{"what is idle": sessions.IdleSlack + sweepMost, "what has lived for long enough": sweepMost} {
		if most > 4*time.Minute {
			t.Errorf("%s may be over for %s before a pass begins that makes an ending of it", what, most)
		}
	}
	if rows := sweepBatch * sweepLong; rows != 100_000 {
		t.Errorf("a pass ends %d of a kind at most, want 100,000", rows)
	}
}

func TestSweeperStopsWithTheServer(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	endless := &dust{batches: 1 << 30}
	s := &sweeper{metrics: newSweepMetrics(prometheus.NewRegistry()), logger: slog.New(slog.DiscardHandler), jobs: []sweepJob{{"as:endless", endless, time.Hour}}}
	s.pass(ctx)
	if endless.calls != sweepLong {
		t.Errorf("one pass made %d calls, want %d", endless.calls, sweepLong)
	}
	cancel()
	s.run(ctx) // returns
	if endless.calls != sweepLong {
		t.Error("it swept on after the server had ended")
	}
}
