package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// touchStore is a realm's store that notes last-used times, and panics at
// everything else.
type touchStore struct {
	sessions.RealmStore
	mu    sync.Mutex
	calls [][]sessions.Touch
	err   error
}

func (s *touchStore) Touch(_ context.Context, touches []sessions.Touch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, append([]sessions.Touch(nil), touches...))
	return s.err
}

func (s *touchStore) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, call := range s.calls {
		n += len(call)
	}
	return n
}

func TestLastUsedTimesAreWrittenOnceAMinute(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	store := &touchStore{}
	touches := &toucher{store: store, now: func() time.Time { return now }, logger: slog.New(slog.DiscardHandler)}
	use := func() {
		touches.touch(sessions.Touch{LoginID: "l", AuthorizationServer: "as", SessionID: "s", At: now})
		touches.flush(t.Context())
	}
	use()
	if n := store.count(); n != 2 {
		t.Fatalf("%d times written, want one of the login and one of the session", n)
	}
	now = now.Add(59 * time.Second)
	use()
	if n := store.count(); n != 2 {
		t.Errorf("%d times written within a minute, want 2", n)
	}
	now = now.Add(time.Second)
	use()
	if n := store.count(); n != 4 {
		t.Errorf("%d times written after a minute, want 4", n)
	}
	touches.touch(sessions.Touch{AuthorizationServer: "another", SessionID: "s", At: now})
	touches.flush(t.Context())
	if n := store.count(); n != 5 {
		t.Errorf("%d times written, want 5: another authorization server's session of the same id is another", n)
	}
}

func TestLastUsedTimesGoInBatches(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	store := &touchStore{}
	touches := &toucher{store: store, now: func() time.Time { return now }, logger: slog.New(slog.DiscardHandler)}
	for i := range touchBatch + 1 {
		touches.touch(sessions.Touch{LoginID: fmt.Sprint(i), At: now})
	}
	if n := store.count(); n != 0 {
		t.Fatalf("%d times written on the request's path", n)
	}
	touches.flush(t.Context())
	if len(store.calls) != 2 || store.count() != touchBatch+1 {
		t.Errorf("%d calls with %d times, want 2 with %d", len(store.calls), store.count(), touchBatch+1)
	}
}

func TestLastUsedTimesAreBounded(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	touches := &toucher{store: &touchStore{}, now: func() time.Time { return now }, logger: slog.New(slog.DiscardHandler)}
	for i := range touchMax + 10 {
		touches.touch(sessions.Touch{LoginID: fmt.Sprint(i), At: now})
	}
	if len(touches.pending) > touchMax || len(touches.written) > touchMax {
		t.Errorf("%d pending and %d written times are kept, want at most %d", len(touches.pending), len(touches.written), touchMax)
	}
	now = now.Add(touchEvery)
	touches.flush(t.Context())
	if len(touches.written) != 0 {
		t.Errorf("%d times are kept for longer than a minute", len(touches.written))
	}
}

func TestLastUsedTimeThatFailedIsWrittenAtTheNextUse(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	store := &touchStore{err: errors.New("no database")}
	touches := &toucher{store: store, now: func() time.Time { return now }, logger: slog.New(slog.DiscardHandler)}
	touches.touch(sessions.Touch{LoginID: "l", At: now})
	touches.flush(t.Context())
	store.err = nil
	now = now.Add(time.Second)
	touches.touch(sessions.Touch{LoginID: "l", At: now})
	touches.flush(t.Context())
	if n := store.count(); n != 2 {
		t.Errorf("%d times given to the store, want 2: the one that failed and the next", n)
	}
}

func TestLastUsedTimesAreFlushedAtTheEnd(t *testing.T) {
	store := &touchStore{}
	touches := &toucher{store: store, now: time.Now, logger: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { touches.run(ctx); close(done) }()
	touches.touch(sessions.Touch{LoginID: "l", At: time.Now()})
	cancel()
	<-done
	if n := store.count(); n != 1 {
		t.Errorf("%d times written when the server ended, want 1", n)
	}
}
