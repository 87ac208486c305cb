package main

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse.dev/gatehouse/sessions"
)

// How often and how much is swept. An ending by time is told to nobody later
// than a pass and a batch after it was due.
const (
	sweepEvery = time.Minute
	sweepLeast = sweepEvery / 2          // between two passes, at least
	sweepMost  = sweepLeast + sweepEvery // and at most
	sweepBatch = 200                     // rows of each kind in one call
	sweepLong  = 500                     // batches in one pass
	// sweepCount is how many waiting rows of a kind are counted; one more stands
	// for all beyond.
	sweepCount = 10_000
)

// sweepable is what one realm or authorization server has to be swept of.
type sweepable interface {
	Sweep(ctx context.Context, history time.Duration, limit int) (sessions.Swept, error)
}

// countable is a sweepable that tells how many rows of each kind wait.
type countable interface {
	Waiting(ctx context.Context, history time.Duration, limit int) (map[string]int, error)
}

// sweeper makes endings of what is over by time and removes what nothing needs
// any more. Every node has one; they may run at the same time.
type sweeper struct {
	jobs    []sweepJob
	metrics *sweepMetrics
	logger  *slog.Logger
}

type sweepJob struct {
	owner   string // "realm:staff", "as:myAS"
	store   sweepable
	history time.Duration
}

// run sweeps until ctx is done, at uneven times, so that nodes that started
// together don't stay together.
func (s *sweeper) run(ctx context.Context) {
	for {
		pause := time.NewTimer(sweepLeast + rand.N(sweepMost-sweepLeast)) //nolint:gosec // spreads, hides nothing
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		s.pass(ctx)
	}
}

// pass sweeps everything once, in small batches.
func (s *sweeper) pass(ctx context.Context) {
	for _, job := range s.jobs {
		var sum sessions.Swept
		for batch := 0; batch < sweepLong && ctx.Err() == nil; batch++ {
			swept, err := job.store.Sweep(ctx, job.history, sweepBatch)
			sum.Add(swept)
			if err != nil {
				if ctx.Err() == nil {
					s.metrics.failed.WithLabelValues(job.owner).Inc()
					s.logger.WarnContext(ctx, "sweeping failed", "owner", job.owner, "error", err)
				}
				break
			}
			if !swept.More {
				break
			}
		}
		s.metrics.note(job.owner, sum)
		sum.More = false
		if sum != (sessions.Swept{}) {
			s.logger.InfoContext(ctx, "swept", "owner", job.owner, "logins_expired", sum.Logins, "sessions_expired", sum.Sessions,
				"grants_removed", sum.Grants, "history_removed", sum.History, "deliveries_removed", sum.Deliveries,
				"marks_removed", sum.Marks)
		}
		s.count(ctx, job)
	}
}

// count notes what a pass has left, also where it failed. What can't be counted
// keeps its last figure.
func (s *sweeper) count(ctx context.Context, job sweepJob) {
	store, ok := job.store.(countable)
	if !ok || ctx.Err() != nil {
		return // counted by another job of the owner
	}
	waiting, err := store.Waiting(ctx, job.history, sweepCount+1)
	if err != nil {
		if ctx.Err() == nil {
			s.logger.WarnContext(ctx, "waiting rows not counted", "owner", job.owner, "error", err)
		}
		return
	}
	for kind, n := range waiting {
		s.metrics.waiting.WithLabelValues(job.owner, kind).Set(float64(n))
	}
}

// sweepMetrics are the sweeper's figures.
type sweepMetrics struct {
	swept   *prometheus.CounterVec // owner, kind
	failed  *prometheus.CounterVec // owner
	waiting *prometheus.GaugeVec   // owner, kind
}

func newSweepMetrics(registry *prometheus.Registry) *sweepMetrics {
	m := &sweepMetrics{
		swept: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_swept_total",
			Help: "Rows that were expired (login, session) or removed (grant, history, delivery, mark), by realm or authorization server.",
		}, []string{"owner", "kind"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_sweep_failures_total",
			Help: "Sweeps that failed, by realm or authorization server.",
		}, []string{"owner"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gatehouse_sweep_waiting",
			Help: "Rows that were left after this node's last pass: to be looked at (login, session, history, delivery) or to be removed (grant, mark), " +
				"by realm or authorization server. 10001 stands for more than 10000.",
		}, []string{"owner", "kind"}),
	}
	registry.MustRegister(m.swept, m.failed, m.waiting)
	return m
}

func (m *sweepMetrics) note(owner string, s sessions.Swept) {
	for kind, n := range map[string]int{"login": s.Logins, "session": s.Sessions, "grant": s.Grants, "history": s.History,
		"delivery": s.Deliveries, "mark": s.Marks} {
		m.swept.WithLabelValues(owner, kind).Add(float64(n))
	}
}
