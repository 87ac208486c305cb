package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"

	"gatehouse.dev/gatehouse/storage"
)

// maxClockSkew is how far the database's clock may be from this node's.
const maxClockSkew = time.Second

// readiness tells whether this node should be sent requests.
type readiness struct {
	db       *storage.DB
	now      func() time.Time
	stopping atomic.Bool
}

// reasons returns why the node is not ready; none: it is. The answers are for
// operators: they name what is wrong, and no secrets.
func (r *readiness) reasons(ctx context.Context) []string {
	if r.stopping.Load() {
		return []string{"shutting down"}
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if err := r.db.Ping(ctx); err != nil {
		return []string{"database is not reachable"}
	}
	var reasons []string
	if pending, err := r.db.Pending(ctx); err != nil {
		reasons = append(reasons, "migrations can't be read")
	} else if pending > 0 {
		reasons = append(reasons, fmt.Sprintf("%d migrations are not applied", pending))
	}
	before := r.now()
	clock, err := r.db.Clock(ctx)
	after := r.now()
	if err != nil {
		reasons = append(reasons, "the database's clock can't be read")
	} else if skew := skewed(clock, before, after); skew > maxClockSkew || skew < -maxClockSkew {
		reasons = append(reasons, fmt.Sprintf("the database's clock is %s away from this node's", skew.Round(time.Millisecond)))
	}
	return reasons
}

// skewed is how far clock is outside of the time in which it was asked for.
func skewed(clock, before, after time.Time) time.Duration {
	switch {
	case clock.Before(before):
		return clock.Sub(before)
	case clock.After(after):
		return clock.Sub(after)
	}
	return 0
}

// operations is the handler of the operations listener: /healthz, /readyz and
// /metrics. It is never public.
func operations(ready *readiness, m *metrics) http.Handler {
	router := mux.NewRouter().SkipClean(true)
	router.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		writeStatus(w, http.StatusOK, nil)
	}).Methods(http.MethodGet, http.MethodHead)
	router.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
		reasons := ready.reasons(r.Context())
		status := http.StatusOK
		if len(reasons) > 0 {
			status = http.StatusServiceUnavailable
		}
		writeStatus(w, status, reasons)
	}).Methods(http.MethodGet, http.MethodHead)
	router.Handle("/metrics", m.handler()).Methods(http.MethodGet, http.MethodHead)
	catchAll(router)
	return router
}

func writeStatus(w http.ResponseWriter, status int, reasons []string) {
	answer := struct {
		Status  string   `json:"status"`
		Reasons []string `json:"reasons,omitempty"`
	}{"ok", reasons}
	if status != http.StatusOK {
		answer.Status = "unavailable"
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // fails only where the caller is gone
}
