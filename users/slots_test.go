package users

import (
	"context"
	"errors"
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
	if _, err := p.Authenticate(ctx, noUsers{}, "alex", "correct horse"); !errors.Is(err, ErrBusy) {
		t.Errorf("checking with no slot free: %v", err)
	}
	if _, err := p.Hash(ctx, "correct horse"); !errors.Is(err, ErrBusy) {
		t.Errorf("hashing with no slot free: %v", err)
	}
	p.slots.Release(1)
	if _, err := p.Authenticate(t.Context(), noUsers{}, "alex", "correct horse"); !errors.Is(err, ErrCredentials) {
		t.Errorf("with a slot free: %v", err)
	}
	if !p.slots.TryAcquire(1) {
		t.Error("a slot was not given back")
	}
}

// noUsers is a Store without users.
type noUsers struct{ Store }

func (noUsers) UserByName(context.Context, string) (*User, error) { return nil, ErrNotFound }
