package main

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse.dev/gatehouse/deliveries"
)

const (
	// backlogEvery is how often waiting deliveries are counted.
	backlogEvery = 15 * time.Second
	// backlogCount is how many of an authorization server are counted; one more
	// stands for all beyond.
	backlogCount = 10_000
)

// newMessenger makes the worker that sends logout messages, for all
// authorization servers of the process.
func (h *house) newMessenger(signers map[string]deliveries.Signer, client *http.Client, m *deliveryMetrics) (*deliveries.Worker, error) {
	return deliveries.New(deliveries.Config{
		Store:     h.db,
		Signers:   signers,
		Client:    client,
		UserAgent: userAgent(),
		Now:       h.now,
		Logger:    h.logger,
		Count:     func(server, outcome string) { m.total.WithLabelValues(server, outcome).Inc() },
	})
}

// userAgent is what requests of ours call themselves: a product with its
// version (RFC 9110 §10.1.5).
func userAgent() string {
	version, _, _ := strings.Cut(versionText(), " ")
	return "Gatehouse/" + strings.Trim(version, "()")
}

// backlog counts the deliveries that wait, for the metrics.
type backlog struct {
	store interface {
		Backlog(ctx context.Context, limit int) (map[string]deliveries.Waitings, error)
	}
	metrics *deliveryMetrics
	known   map[string]bool // authorization servers that have a figure
	now     func() time.Time
	logger  *slog.Logger
}

// newBacklog begins with the configured authorization servers, which have a
// figure also where nothing ever waited.
func newBacklog(h *house, m *deliveryMetrics) *backlog {
	b := &backlog{store: h.db, metrics: m, known: map[string]bool{}, now: h.now, logger: h.logger}
	for _, name := range h.cfg.AuthorizationServerNames() {
		b.known[name] = true
	}
	return b
}

// run counts until ctx is done, at uneven times.
func (b *backlog) run(ctx context.Context) {
	for {
		b.count(ctx)
		pause := time.NewTimer(backlogEvery/2 + rand.N(backlogEvery)) //nolint:gosec // spreads, hides nothing
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// count notes what waits now. What can't be counted keeps its last figure.
func (b *backlog) count(ctx context.Context) {
	waiting, err := b.store.Backlog(ctx, backlogCount+1)
	if err != nil {
		if ctx.Err() == nil {
			b.logger.WarnContext(ctx, "waiting deliveries not counted", "error", err)
		}
		return
	}
	for name := range waiting {
		b.known[name] = true
	}
	for name := range b.known {
		w, age := waiting[name], time.Duration(0)
		if !w.Oldest.IsZero() {
			age = max(0, b.now().Sub(w.Oldest))
		}
		b.metrics.waiting.WithLabelValues(name).Set(float64(w.Count))
		b.metrics.oldest.WithLabelValues(name).Set(age.Seconds())
	}
}

// deliveryMetrics are the figures of logout messages.
type deliveryMetrics struct {
	total   *prometheus.CounterVec // as, outcome
	waiting *prometheus.GaugeVec   // as
	oldest  *prometheus.GaugeVec   // as
}

func newDeliveryMetrics(registry *prometheus.Registry) *deliveryMetrics {
	m := &deliveryMetrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_deliveries_total",
			Help: "Logout messages that this node sent, by authorization server and outcome: sent, failed (to be sent again), abandoned.",
		}, []string{"as", "outcome"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gatehouse_deliveries_waiting",
			Help: "Logout messages that wait to be sent, of all nodes, by authorization server. 10001 stands for more than 10000.",
		}, []string{"as"}),
		oldest: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gatehouse_deliveries_oldest_seconds",
			Help: "How long ago the session ended whose logout message has waited longest, by authorization server; 0 where none waits.",
		}, []string{"as"}),
	}
	registry.MustRegister(m.total, m.waiting, m.oldest)
	return m
}
