//go:build unix

package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/storage"
)

func openTestDB(t *testing.T, migrated bool) *storage.DB {
	t.Helper()
	db, err := storage.Open(t.Context(), storage.Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "gatehouse.db"), Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if migrated {
		if err := db.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

func TestReadiness(t *testing.T) {
	tests := []struct {
		name    string
		migrate bool
		change  func(*readiness)
		status  int
		reason  string
	}{
		{"ready", true, func(*readiness) {}, 200, ""},
		{"shutting down", true, func(r *readiness) { r.stopping.Store(true) }, 503, "shutting down"},
		{"database closed", true, func(r *readiness) { r.db.Close() }, 503, "database is not reachable"},
		{"migrations pending", false, func(*readiness) {}, 503, "migrations are not applied"},
		{"our clock is ahead", true, func(r *readiness) { r.now = func() time.Time { return time.Now().Add(1100 * time.Millisecond) } }, 503, "clock"},
		{"our clock is behind", true, func(r *readiness) { r.now = func() time.Time { return time.Now().Add(-1100 * time.Millisecond) } }, 503, "clock"},
		{"the clocks are a little apart", true, func(r *readiness) { r.now = func() time.Time { return time.Now().Add(500 * time.Millisecond) } }, 200, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ready := &readiness{db: openTestDB(t, tt.migrate), now: time.Now}
			tt.change(ready)
			out := httptest.NewRecorder()
			operations(ready, newMetrics()).ServeHTTP(out, httptest.NewRequest(http.MethodGet, "/readyz", nil))
			if out.Code != tt.status || !strings.Contains(out.Body.String(), tt.reason) {
				t.Errorf("%d %s, want %d with %q", out.Code, out.Body, tt.status, tt.reason)
			}
			out = httptest.NewRecorder()
			operations(ready, newMetrics()).ServeHTTP(out, httptest.NewRequest(http.MethodGet, "/healthz", nil))
			if out.Code != http.StatusOK {
				t.Errorf("/healthz: %d, want 200 as long as the process lives", out.Code)
			}
		})
	}
}

func TestOperationsAnswersNothingElse(t *testing.T) {
	handler := operations(&readiness{db: openTestDB(t, true), now: time.Now}, newMetrics())
	for request, want := range map[string]int{"GET /": 404, "GET /debug/pprof/": 404, "POST /readyz": 405, "GET /readyz/": 404, "DELETE /metrics": 405, "GET /metrics": 200} {
		method, path, _ := strings.Cut(request, " ")
		out := httptest.NewRecorder()
		handler.ServeHTTP(out, httptest.NewRequest(method, path, nil))
		if out.Code != want {
			t.Errorf("%s: %d, want %d", request, out.Code, want)
		}
	}
}
