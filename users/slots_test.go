package users

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestPasswordChecksWaitForTheirTurn(t *testing.T) {
	p, err := NewPasswords(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.slots.Acquire(t.Context(), 1); err != nil { // somebody is at it
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := p.Authenticate(ctx, noUsers{}, "alex", "correct horse", nil); !errors.Is(err, ErrBusy) {
		t.Errorf("checking with no slot free: %v", err)
	}
	if _, err := p.Hash(ctx, "correct horse"); !errors.Is(err, ErrBusy) {
		t.Errorf("hashing with no slot free: %v", err)
	}
	p.slots.Release(1)
	if _, err := p.Authenticate(t.Context(), noUsers{}, "alex", "correct horse", nil); !errors.Is(err, ErrCredentials) {
		t.Errorf("with a slot free: %v", err)
	}
	if !p.slots.TryAcquire(1) {
		t.Error("a slot was not given back")
	}
}

// noUsers is a Store without users.
type noUsers struct{ Store }

func (noUsers) UserByName(context.Context, string) (*User, error) { return nil, ErrNotFound }

// TestGateSeesNoMoreThanRuns: the attempts of a burst are counted one by one, so
// that a limit on failures is not reached by sign-ins that only wait.
func TestGateSeesNoMoreThanRuns(t *testing.T) {
	p, err := NewPasswords(1)
	if err != nil {
		t.Fatal(err)
	}
	var undecided, most, verdicts atomic.Int64
	gate := func(context.Context) (func(error), error) {
		most.Store(max(most.Load(), undecided.Add(1)))
		return func(verdict error) {
			if errors.Is(verdict, ErrCredentials) {
				verdicts.Add(1)
			}
			undecided.Add(-1)
		}, nil
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() { _, _ = p.Authenticate(t.Context(), noUsers{}, "alex", "correct horse", gate) })
	}
	group.Wait()
	if most.Load() != 1 || verdicts.Load() != 8 {
		t.Errorf("%d attempts were undecided at once, %d verdicts came", most.Load(), verdicts.Load())
	}
}

func TestGateThatRefusesIsAsked(t *testing.T) {
	p, err := NewPasswords(1)
	if err != nil {
		t.Fatal(err)
	}
	refusal := errors.New("too many")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = p.Authenticate(t.Context(), noUsers{}, "alex", "correct horse", func(context.Context) (func(error), error) { return nil, refusal })
	runtime.ReadMemStats(&after)
	if !errors.Is(err, refusal) {
		t.Errorf("error %v", err)
	}
	if cost := after.TotalAlloc - before.TotalAlloc; cost > 1<<20 {
		t.Errorf("a refused attempt cost %d bytes: it was hashed", cost)
	}
	if !p.slots.TryAcquire(1) {
		t.Error("a slot was not given back")
	}
}
