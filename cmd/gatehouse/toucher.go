package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// Last-used times: how exact they are, how late they are written, and how many
// at once.
const (
	touchEvery = time.Minute     // of one login or session
	touchFlush = 5 * time.Second // how long they are gathered
	touchBatch = 500             // rows in one call of the store
	touchMax   = 100_000         // remembered; more are left out until some are forgotten
)

// toucher gathers the last-used times of one realm's logins and sessions and
// writes them in batches, never on a request's path. A time that is lost with
// the process makes a login look idle at most a minute earlier than it was,
// which sessions.IdleSlack allows for.
type toucher struct {
	store  sessions.RealmStore
	now    func() time.Time
	logger *slog.Logger

	mu      sync.Mutex
	pending map[touchID]time.Time // to be written
	written map[touchID]time.Time // when last taken, so that a minute passes until the next time
}

type touchID struct{ login, server, session string }

// touch notes a use. It never waits for the database.
func (t *toucher) touch(use sessions.Touch) {
	if use.LoginID != "" {
		t.note(touchID{login: use.LoginID}, use.At)
	}
	if use.SessionID != "" {
		t.note(touchID{server: use.AuthorizationServer, session: use.SessionID}, use.At)
	}
}

func (t *toucher) note(id touchID, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last, known := t.written[id]
	if known && at.Sub(last) < touchEvery {
		return
	}
	if !known && len(t.written) >= touchMax {
		return
	}
	if t.pending == nil {
		t.pending, t.written = map[touchID]time.Time{}, map[touchID]time.Time{}
	}
	t.pending[id], t.written[id] = at, at
}

// run flushes until ctx is done, and then once more.
func (t *toucher) run(ctx context.Context) {
	ticker := time.NewTicker(touchFlush)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			t.flush(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), touchFlush)
			defer cancel()
			t.flush(last)
			return
		}
	}
}

// flush writes what is pending. What can't be written is forgotten: the next
// use of the same login or session notes it again.
func (t *toucher) flush(ctx context.Context) {
	t.mu.Lock()
	pending := t.pending
	t.pending = map[touchID]time.Time{}
	if t.written == nil {
		t.written = map[touchID]time.Time{}
	}
	now := t.now()
	for id, at := range t.written {
		if now.Sub(at) >= touchEvery {
			delete(t.written, id)
		}
	}
	t.mu.Unlock()

	batch := make([]sessions.Touch, 0, min(len(pending), touchBatch))
	write := func() {
		if len(batch) == 0 {
			return
		}
		if err := t.store.Touch(ctx, batch); err != nil {
			t.logger.WarnContext(ctx, "last-used times not written", "count", len(batch), "error", err)
			t.forget(batch)
		}
		batch = batch[:0]
	}
	for id, at := range pending {
		batch = append(batch, sessions.Touch{LoginID: id.login, AuthorizationServer: id.server, SessionID: id.session, At: at})
		if len(batch) == touchBatch {
			write()
		}
	}
	write()
}

func (t *toucher) forget(batch []sessions.Touch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, use := range batch {
		delete(t.written, touchID{login: use.LoginID, server: use.AuthorizationServer, session: use.SessionID})
	}
}
