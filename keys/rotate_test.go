package keys

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// states returns the states of an algorithm's keys, newest first.
func states(r *Ring, alg string) string {
	var out []string
	for _, info := range keysOf(r, alg) {
		out = append(out, string(info.State))
	}
	return strings.Join(out, " ")
}

// kidOf returns the kid in the header of what r signs now.
func kidOf(t *testing.T, r *Ring, alg string) string {
	t.Helper()
	header := string(unb64(t, strings.Split(mustSign(t, r, alg, "JWT", "{}"), ".")[0]))
	for _, info := range r.Keys() {
		if strings.Contains(header, info.ID) {
			return info.ID
		}
	}
	t.Fatalf("header %s names no key", header)
	return ""
}

func (h *house) rotate(r *Ring, alg string, immediately bool) {
	h.Helper()
	if err := r.Rotate(h.Context(), alg, immediately); err != nil {
		h.Fatalf("Rotate: %v", err)
	}
}

func (h *house) reload(r *Ring) {
	h.Helper()
	if err := r.Reload(h.Context()); err != nil {
		h.Fatalf("Reload: %v", err)
	}
}

func TestRotatedKeyIsPublishedBeforeItSigns(t *testing.T) {
	h := newHouse(t)
	r, other := h.open(), h.open()
	old := kidOf(t, r, "ES256")
	oldToken := mustSign(t, r, "ES256", "JWT", "{}")

	h.advance(time.Hour)
	h.rotate(r, "ES256", false)
	next := keysOf(r, "ES256")[0]
	if states(r, "ES256") != "next active" || states(r, "EdDSA") != "active" {
		t.Fatalf("states %s, of another algorithm %s", states(r, "ES256"), states(r, "EdDSA"))
	}
	if want := testStart.Add(time.Hour + 15*time.Minute); !next.ActivatesAt.Equal(want) || !next.RetiredAt.IsZero() {
		t.Errorf("activates at %s, want %s", next.ActivatesAt, want)
	}
	if !strings.Contains(string(r.JWKS()), next.ID) || kidOf(t, r, "ES256") != old {
		t.Error("the next key is not published, or signs already")
	}
	if strings.Contains(string(other.JWKS()), next.ID) {
		t.Error("another node has the key before it reloads")
	}
	h.reload(other)
	if string(other.JWKS()) != string(r.JWKS()) {
		t.Error("nodes publish different key sets")
	}

	h.advance(15*time.Minute - time.Millisecond)
	if kidOf(t, r, "ES256") != old {
		t.Error("the next key signs before its time")
	}
	h.advance(time.Millisecond)
	if kidOf(t, r, "ES256") != next.ID || kidOf(t, other, "ES256") != next.ID {
		t.Error("the next key does not sign at its time")
	}
	if states(r, "ES256") != "active retired" || !keysOf(r, "ES256")[1].RetiredAt.Equal(next.ActivatesAt) {
		t.Errorf("keys: %+v", keysOf(r, "ES256"))
	}
	for _, node := range []*Ring{r, other} {
		if _, err := node.Verify(oldToken); err != nil {
			t.Errorf("the retired key's token: %v", err)
		}
		if err := verifyByHand(t, node.JWKS(), oldToken); err != nil {
			t.Errorf("the retired key is not published: %v", err)
		}
	}
}

func TestRotateAll(t *testing.T) {
	h := newHouse(t)
	r := h.open()
	h.rotate(r, "", false)
	for _, alg := range r.Algorithms() {
		if states(r, alg) != "next active" {
			t.Errorf("%s: %s", alg, states(r, alg))
		}
	}
}

func TestRotateAgainMakesNoSecondNext(t *testing.T) {
	h := newHouse(t)
	r, other := h.open(), h.open()
	h.rotate(r, "EdDSA", false)
	h.rotate(r, "EdDSA", false)
	h.rotate(other, "EdDSA", false) // which has not reloaded
	if states(r, "EdDSA") != "next active" || states(other, "EdDSA") != "next active" || len(h.store.keys) != 5 {
		t.Errorf("%s; %s; %d keys stored", states(r, "EdDSA"), states(other, "EdDSA"), len(h.store.keys))
	}
}

func TestRotationsAtTheSameMomentMakeOneKey(t *testing.T) {
	for _, immediately := range []bool{false, true} {
		t.Run(fmt.Sprintf("immediately %t", immediately), func(t *testing.T) {
			h := newHouse(t)
			winner, loser := h.open(), h.open()
			h.advance(time.Hour)
			h.store.beforeInsert = func() { h.rotate(winner, "EdDSA", immediately) }
			h.rotate(loser, "EdDSA", immediately)
			if len(h.store.keys) != 5 {
				t.Errorf("%d keys stored, want 5", len(h.store.keys))
			}
			if kidOf(t, winner, "EdDSA") != kidOf(t, loser, "EdDSA") || string(winner.JWKS()) != string(loser.JWKS()) {
				t.Error("nodes do not agree")
			}
		})
	}
}

func TestRotateAllKeepsWhatAnotherNodeRotated(t *testing.T) {
	h := newHouse(t)
	winner, loser := h.open(), h.open()
	h.advance(time.Hour)
	h.store.beforeInsert = func() { h.rotate(winner, "EdDSA", false) }
	h.rotate(loser, "", false)
	if len(h.store.keys) != 8 {
		t.Errorf("%d keys stored, want 8", len(h.store.keys))
	}
	for _, alg := range loser.Algorithms() {
		if states(loser, alg) != "next active" {
			t.Errorf("%s: %s", alg, states(loser, alg))
		}
	}
}

func TestImmediateRotationIsNotLostToOneThatWaits(t *testing.T) {
	h := newHouse(t)
	winner, loser := h.open(), h.open()
	h.advance(time.Hour)
	old := kidOf(t, loser, "EdDSA")
	h.store.beforeInsert = func() { h.rotate(winner, "EdDSA", false) }
	h.rotate(loser, "EdDSA", true)
	if kidOf(t, loser, "EdDSA") == old || states(loser, "EdDSA") != "active retired retired" {
		t.Errorf("after an immediate rotation the old key signs: %s", states(loser, "EdDSA"))
	}
}

func TestImmediateRotationPassesOverTheNextKey(t *testing.T) {
	h := newHouse(t)
	r, other := h.open(), h.open()
	h.rotate(r, "EdDSA", false)
	waiting := keysOf(r, "EdDSA")[0].ID
	h.advance(time.Minute)
	h.rotate(r, "EdDSA", true)
	fresh := keysOf(r, "EdDSA")[0]
	if kidOf(t, r, "EdDSA") != fresh.ID || fresh.ID == waiting || !fresh.ActivatesAt.Equal(testStart.Add(time.Minute)) {
		t.Errorf("keys: %+v", keysOf(r, "EdDSA"))
	}
	token := mustSign(t, r, "EdDSA", "JWT", "{}")
	if _, err := other.Verify(token); !errors.Is(err, ErrKeyUnknown) {
		t.Errorf("a node that has not reloaded: %v, want ErrKeyUnknown", err)
	}
	h.reload(other)
	if _, err := other.Verify(token); err != nil {
		t.Errorf("after its reload: %v", err)
	}
	h.advance(time.Hour)
	if kidOf(t, r, "EdDSA") != fresh.ID || states(r, "EdDSA") != "active retired retired" {
		t.Errorf("the key that was passed over came back: %s", states(r, "EdDSA"))
	}
	for _, info := range keysOf(r, "EdDSA")[1:] {
		if !info.RetiredAt.Equal(fresh.ActivatesAt) {
			t.Errorf("retired at %s, want %s", info.RetiredAt, fresh.ActivatesAt)
		}
	}
}

func TestRotateRefuses(t *testing.T) {
	h := newHouse(t)
	r := h.open()
	for _, alg := range []string{"HS256", "none", "es256", "ES384", " "} {
		if err := r.Rotate(t.Context(), alg, true); !errors.Is(err, ErrKeyUnknown) {
			t.Errorf("Rotate(%q): %v", alg, err)
		}
	}
	h.store.broken = true
	if err := r.Rotate(t.Context(), "EdDSA", true); !errors.Is(err, errBroken) {
		t.Errorf("Rotate with the store away: %v", err)
	}
	h.store.broken = false
	h.store.beforeInsert = func() { h.store.broken = true }
	if err := r.Rotate(t.Context(), "EdDSA", true); !errors.Is(err, errBroken) {
		t.Errorf("Rotate with the store gone midway: %v", err)
	}
	if states(r, "EdDSA") != "active" {
		t.Errorf("states: %s", states(r, "EdDSA"))
	}
}

func TestRetiredKeysAreDeletedAfterTheirRetention(t *testing.T) {
	h := newHouse(t)
	r := h.open()
	first := kidOf(t, r, "EdDSA")
	token := mustSign(t, r, "EdDSA", "JWT", "{}")
	h.rotate(r, "EdDSA", false)
	h.advance(15*time.Minute + 400*24*time.Hour)
	h.reload(r)
	if _, err := r.Verify(token); err != nil {
		t.Errorf("at the end of its retention: %v", err)
	}

	h.advance(time.Millisecond)
	h.reload(r)
	if _, err := r.Verify(token); !errors.Is(err, ErrKeyUnknown) {
		t.Errorf("after its retention: %v, want ErrKeyUnknown", err)
	}
	if _, ok := h.store.keys[first]; ok || strings.Contains(string(r.JWKS()), first) || states(r, "EdDSA") != "active" {
		t.Errorf("stored %t, states %s", ok, states(r, "EdDSA"))
	}
	// Keys that were never rotated sign on, however old.
	if len(h.store.keys) != 4 || states(r, "RS256") != "active" {
		t.Errorf("%d keys, RS256 %s", len(h.store.keys), states(r, "RS256"))
	}
	h.rotate(r, "EdDSA", true)
	if slot := h.store.keys[keysOf(r, "EdDSA")[0].ID].Slot; slot != 3 {
		t.Errorf("slot %d, want 3: slots are not used again", slot)
	}
}

func TestRetiredKeyIsGoneEvenIfItCannotBeDeleted(t *testing.T) {
	h := newHouse(t)
	r := h.open()
	token := mustSign(t, r, "EdDSA", "JWT", "{}")
	h.rotate(r, "EdDSA", true)
	h.advance(401 * 24 * time.Hour)
	r.config.Store = undeletable{h.store}
	if err := r.Reload(t.Context()); !errors.Is(err, errBroken) {
		t.Errorf("Reload: %v", err)
	}
	if _, err := r.Verify(token); !errors.Is(err, ErrKeyUnknown) {
		t.Errorf("Verify: %v", err)
	}
}
