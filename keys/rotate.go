package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Rotate makes the next key of an algorithm, or of all for alg "". It signs
// after Overlap; where a next key waits already, nothing is made, so that
// rotations at the same time, or a command repeated, do not pile keys up.
//
// With immediately a new key signs at once, also before a next one that waits
// (for a key that leaked, that one may have leaked with it). That costs:
// relying parties that cached the key set must fetch it again at the unknown
// kid, and other nodes answer ErrKeyUnknown to the new key's tokens until they
// reload.
//
// Keys that have signed go on verifying. Returns ErrKeyUnknown for an
// algorithm that the ring does not have.
func (r *Ring) Rotate(ctx context.Context, alg string, immediately bool) error {
	names := r.Algorithms()
	if alg != "" {
		if !slices.Contains(names, alg) {
			return fmt.Errorf("rotating %q: %w", alg, ErrKeyUnknown)
		}
		names = []string{alg}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.reload(ctx); err != nil {
		return err
	}
	found := map[string]int{} // highest slot before this call
	for _, name := range names {
		found[name] = r.state.Load().byAlgorithm[name][0].record.Slot
	}

	// An insertion is refused only after another node has inserted one; the
	// bound is against a store that errs.
	made := map[string]SigningKeyRecord{}
	for range 3 * len(algorithms) {
		var records []SigningKeyRecord
		now := r.config.Now()
		for _, name := range names {
			newest := r.state.Load().byAlgorithm[name][0].record
			waiting := newest.ActivatesAt.After(now)
			if immediately && newest.Slot > found[name] && !waiting || !immediately && (newest.Slot > found[name] || waiting) {
				continue // somebody has done what was asked for
			}
			record, ok := made[name]
			if !ok {
				var err error
				if record, err = r.generate(name); err != nil {
					return fmt.Errorf("making signing key for %s: %w", r.config.Owner, err)
				}
				made[name] = record
			}
			record.Slot, record.ActivatesAt = newest.Slot+1, stamp(now)
			if !immediately {
				record.ActivatesAt = stamp(now.Add(r.config.Overlap))
			}
			records = append(records, record)
		}
		if len(records) == 0 {
			return nil
		}
		err := r.insert(ctx, records)
		if err != nil && !errors.Is(err, ErrExists) {
			return fmt.Errorf("storing next signing keys of %s: %w", r.config.Owner, err)
		}
		if reloadErr := r.reload(ctx); reloadErr != nil {
			return reloadErr
		}
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("storing next signing keys of %s: %w", r.config.Owner, ErrExists)
}

// Rewrap seals the root secret and all signing keys that are not under the
// current key-encryption key anew, and returns how many it was. Run once every
// server has the new key-encryption key as its current one; afterwards the
// previous one can be taken from the configuration. It can be repeated, and
// servers go on working meanwhile.
func (r *Ring) Rewrap(ctx context.Context) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.root.Rewrap(ctx)
	if err != nil {
		return n, err
	}
	records, err := r.config.Store.SigningKeys(ctx)
	if err != nil {
		return n, fmt.Errorf("loading signing keys of %s: %w", r.config.Owner, err)
	}
	for _, record := range records {
		if r.config.KEK.Current(record.Sealed) {
			continue
		}
		aad := signingKeyAAD(r.config.Owner, record)
		der, err := r.config.KEK.Open(record.Sealed, aad)
		if err != nil {
			return n, fmt.Errorf("opening signing key %s of %s: %w", record.ID, r.config.Owner, err)
		}
		record.Sealed = r.config.KEK.Seal(der, aad)
		if err := r.config.Store.ReplaceSigningKey(ctx, record); err != nil {
			return n, fmt.Errorf("storing signing key %s of %s: %w", record.ID, r.config.Owner, err)
		}
		n++
	}
	return n, r.reload(ctx)
}

// State is where a signing key is in its life.
type State string

// A key is published in all three states; it signs in one.
const (
	StateNext    State = "next"    // published, signs from ActivatesAt
	StateActive  State = "active"  // signs
	StateRetired State = "retired" // only verifies
)

// Info tells of one signing key what an operator may see.
type Info struct {
	ID          string    `json:"id"` // kid
	Algorithm   string    `json:"algorithm"`
	State       State     `json:"state"`
	CreatedAt   time.Time `json:"created_at"`
	ActivatesAt time.Time `json:"activates_at"`
	RetiredAt   time.Time `json:"retired_at,omitzero"` // zero unless retired
}

// Keys returns all keys as they stand now, by algorithm in the order of
// Algorithms, the newest of each first.
func (r *Ring) Keys() []Info {
	return r.state.Load().infos(r.config.Now())
}

func (s *state) infos(now time.Time) []Info {
	infos := make([]Info, 0, len(s.byID))
	for _, key := range s.ordered() {
		list := s.byAlgorithm[key.record.Algorithm]
		i := slices.Index(list, key)
		info := Info{
			ID:          key.record.ID,
			Algorithm:   key.record.Algorithm,
			State:       StateNext,
			CreatedAt:   key.record.CreatedAt,
			ActivatesAt: key.record.ActivatesAt,
			RetiredAt:   retiredAt(list, i, now),
		}
		switch {
		case i == active(list, now):
			info.State = StateActive
		case !info.RetiredAt.IsZero():
			info.State = StateRetired
		}
		infos = append(infos, info)
	}
	return infos
}

// ordered returns all keys, by algorithm and then the newest first: the same
// order on every node, so that the key set has one ETag.
func (s *state) ordered() []*signingKey {
	keys := make([]*signingKey, 0, len(s.byID))
	for _, a := range algorithms {
		keys = append(keys, s.byAlgorithm[string(a)]...)
	}
	return keys
}
