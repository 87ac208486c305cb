//go:build unix

package main

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/storage/pgtest"
)

// A node that is killed in the middle of its work has kept what it answered,
// and left nothing by halves.
func TestKilledNodeKeepsWhatItAnswered(t *testing.T) {
	kills(t, 2)
}

func TestLongKilledNodeKeepsWhatItAnswered(t *testing.T) {
	if !long() {
		return
	}
	kills(t, 10)
}

func kills(t *testing.T, n int) {
	databases := map[string]func(testing.TB) string{
		"sqlite":     func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "gatehouse.db") },
		"postgresql": func(t testing.TB) string { return pgtest.Shared(t).NewDatabase(t) },
	}
	for name, database := range databases {
		t.Run(name, func(t *testing.T) { killUnderLoad(t, database(t), n) })
	}
}

func killUnderLoad(t *testing.T, database string, kills int) {
	parties, change := faultChanges()
	n := startProcess(t, processOptions{Database: database, Change: change})[0]
	l := newLoad(t, n, parties)
	began := time.Now()
	refreshes, endings := 0, 0
	for range kills {
		l.start()
		l.await(200 + rand.Int64N(200))
		// Not at the moment of an answer.
		<-time.After(rand.N(30 * time.Millisecond))
		n.Kill()
		l.stop()
		r, e := l.inFlight()
		refreshes, endings = refreshes+r, endings+e
		n = restarted(n)
		l.verify()
	}
	t.Logf("%d kills in %s: %d sessions begun, %d refreshes and %d endings acknowledged; %d refreshes and %d endings under way at a kill",
		kills, time.Since(began).Round(time.Millisecond), l.begun.Load(), l.refreshed.Load(), l.ended.Load(), refreshes, endings)
	t.Logf("checked after the restarts: %d live sessions, %d with a refresh under way, %d of both with an older token, %d endings, %d endings under way",
		l.checkedLive.Load(), l.checkedInFlight.Load(), l.checkedOlder.Load(), l.checkedEnded.Load(), l.checkedUnsure.Load())
	if l.refreshed.Load() < int64(100*kills) || l.ended.Load() < int64(5*kills) || refreshes < 2*kills {
		t.Error("that was too little to mean anything")
	}
	if l.checkedLive.Load()+l.checkedInFlight.Load() < int64(faultWorkers*kills) || l.checkedInFlight.Load() != int64(refreshes) || l.checkedEnded.Load() < l.ended.Load() {
		t.Error("not everything was checked")
	}
}
