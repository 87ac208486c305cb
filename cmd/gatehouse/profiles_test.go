//go:build unix

package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/storage/pgtest"
)

var profilePaths = []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/allocs", "/debug/pprof/goroutine", "/debug/pprof/profile?seconds=1", "/debug/pprof/trace?seconds=1"}

func status(t *testing.T, url string) int {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	text(t, res)
	return res.StatusCode
}

func TestProfilesAreServedOnlyToOperatorsWhoAskForThem(t *testing.T) {
	for _, profile := range []bool{false, true} {
		o := processOptions{Database: pgtest.Shared(t).NewDatabase(t)}
		if profile {
			o.Flags = []string{"--profile"}
		}
		n := startProcess(t, o)[0]
		want := http.StatusNotFound
		if profile {
			want = http.StatusOK
		}
		for _, path := range profilePaths {
			if got := status(t, n.Operations+path); got != want {
				t.Errorf("--profile is %t: %s on the operations listener is %d, want %d", profile, path, got, want)
			}
			if got := status(t, n.URL+path); got != http.StatusNotFound {
				t.Errorf("--profile is %t: %s on the public listener is %d, want 404", profile, path, got)
			}
		}
		for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/": 404, "/debug/pprof": 404, "/debug/vars": 404} {
			if profile && path == "/debug/pprof" {
				want = http.StatusOK // sent on to the index
			}
			if got := status(t, n.Operations+path); got != want {
				t.Errorf("--profile is %t: %s on the operations listener is %d, want %d", profile, path, got, want)
			}
		}
	}
}

func TestProfilesNameNoSecrets(t *testing.T) {
	out := httptest.NewRecorder()
	withProfiles(operations(&readiness{db: openTestDB(t, true), now: time.Now}, newMetrics())).
		ServeHTTP(out, httptest.NewRequest(http.MethodGet, profilesPath+"cmdline", nil))
	// The index doesn't know a profile of that name, which has what a command
	// line may have.
	if out.Code != http.StatusNotFound {
		t.Errorf("cmdline is answered with %d %s, want 404", out.Code, out.Body)
	}
}

func TestProfilesNeedAnOperationsListener(t *testing.T) {
	config := writeConfig(t, "sqlite:"+t.TempDir()+"/gatehouse.db", "", setLine("operations_listen", `""`))
	code, _, stderr := command(t, "", "serve", "--profile", "--config", config)
	if code != exitUsage || !strings.Contains(stderr, "operations_listen") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
