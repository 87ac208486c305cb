package keys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// jwksMaxAge is how long others may cache the key set.
const jwksMaxAge = 5 * time.Minute

// Config is what Open needs.
type Config struct {
	Store Store            // required; bound to Owner
	KEK   *KEK             // required
	Owner string           // required; e.g. "as:myAS", part of what is sealed and derived
	Now   func() time.Time // default: time.Now

	// Overlap is how long a new key is published before it signs. Default 15
	// minutes; must be longer than the 5 minutes for which the key set may be
	// cached, and should leave room for the interval at which nodes reload.
	Overlap time.Duration

	// RetainRetired is how long a key verifies after another has taken over.
	// Default 400 days, for the sake of id_token_hint in logout requests
	// (OpenID Connect RP-Initiated Logout 1.0 §2), which come with ID tokens
	// long expired. Must be no shorter than the longest-lived token.
	RetainRetired time.Duration

	Logger *slog.Logger // default: discards; key ids and algorithms only
}

// Ring is the signing keys and the root secret of one authorization server. It
// is safe for concurrent use; signing and verifying take no lock.
type Ring struct {
	config Config
	root   *Root
	state  atomic.Pointer[state]
	mu     sync.Mutex // held from reading the store to storing state, so that an older reading never replaces a newer
}

// state is the keys at one reading of the store. It does not change.
type state struct {
	byAlgorithm map[string][]*signingKey // highest slot first, never empty slices
	byID        map[string]*signingKey
	jwks        []byte
	etag        []string // value of the header
	length      []string // likewise
}

// Open loads the keys of one authorization server. What is missing, which at
// the first start is all, it makes: the root secret, and for each algorithm one
// key that signs at once. Nodes that start together end with the same keys.
// Returns ErrSealed if anything does not open under the KEK.
func Open(ctx context.Context, config Config) (*Ring, error) {
	if config.Store == nil {
		return nil, errors.New("opening keys: no store")
	}
	if config.Overlap == 0 {
		config.Overlap = 15 * time.Minute
	}
	if config.Overlap <= jwksMaxAge {
		return nil, fmt.Errorf("opening keys: overlap of %s is not longer than %s, for which the key set is cached", config.Overlap, jwksMaxAge)
	}
	if config.RetainRetired == 0 {
		config.RetainRetired = 400 * 24 * time.Hour
	}
	if config.RetainRetired < 0 {
		return nil, fmt.Errorf("opening keys: retention of %s is negative", config.RetainRetired)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	root, err := OpenRoot(ctx, RootConfig{Store: config.Store, KEK: config.KEK, Owner: config.Owner, Now: config.Now})
	if err != nil {
		return nil, err
	}
	r := &Ring{config: config, root: root}
	r.mu.Lock()
	defer r.mu.Unlock()

	// Each turn but the last is lost to another node that stored at least one
	// of the missing keys, so as many turns as there are algorithms, and one
	// to read, always suffice.
	for range len(algorithms) + 1 {
		s, err := r.read(ctx)
		if err != nil {
			return nil, err
		}
		missing := s.missing()
		if len(missing) == 0 {
			if err := r.publish(ctx, s); err != nil {
				return nil, err
			}
			return r, nil
		}
		if err := r.insertFirst(ctx, missing); err != nil && !errors.Is(err, ErrExists) {
			return nil, fmt.Errorf("storing first signing keys of %s: %w", config.Owner, err)
		}
	}
	return nil, fmt.Errorf("loading signing keys of %s: not there after they were stored", config.Owner)
}

// Root returns the root secret that belongs to the ring.
func (r *Ring) Root() *Root { return r.root }

// Algorithms returns the names of the signature algorithms, as in discovery
// documents, the preferred one first. The slice is the caller's.
func (r *Ring) Algorithms() []string {
	names := make([]string, 0, len(algorithms))
	for _, a := range algorithms {
		names = append(names, string(a))
	}
	return names
}

// Reload takes over what other nodes have rotated, and deletes keys that have
// been retired for longer than RetainRetired. The server calls it
// periodically, more often than Overlap less the 5 minutes of the key set's
// cache. On an error the keys stay as they were, unless it is of the deletion.
func (r *Ring) Reload(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reload(ctx)
}

// reload is Reload for a caller who holds mu.
func (r *Ring) reload(ctx context.Context) error {
	s, err := r.read(ctx)
	if err != nil {
		return err
	}
	if missing := s.missing(); len(missing) > 0 {
		return fmt.Errorf("loading signing keys of %s: no key for %q", r.config.Owner, missing)
	}
	return r.publish(ctx, s)
}

func (r *Ring) insertFirst(ctx context.Context, missing []string) error {
	var records []SigningKeyRecord
	for _, algorithm := range missing {
		record, err := r.generate(algorithm)
		if err != nil {
			return err
		}
		record.Slot, record.ActivatesAt = 1, record.CreatedAt
		records = append(records, record)
	}
	return r.insert(ctx, records)
}

func (r *Ring) generate(algorithm string) (SigningKeyRecord, error) {
	return generate(r.config.KEK, r.config.Owner, algorithm, r.config.Now())
}

func (r *Ring) insert(ctx context.Context, records []SigningKeyRecord) error {
	if err := r.config.Store.InsertSigningKeys(ctx, records); err != nil {
		return err
	}
	for _, record := range records {
		r.config.Logger.InfoContext(ctx, "signing key made", "owner", r.config.Owner,
			"kid", record.ID, "alg", record.Algorithm, "activates_at", record.ActivatesAt)
	}
	return nil
}

// read returns what the store has now, without the key set. Records of
// algorithms that this release does not know, but a newer one beside it does,
// are passed over.
func (r *Ring) read(ctx context.Context) (*state, error) {
	records, err := r.config.Store.SigningKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("loading signing keys of %s: %w", r.config.Owner, err)
	}
	before := r.state.Load()
	s := &state{byAlgorithm: map[string][]*signingKey{}, byID: map[string]*signingKey{}}
	for _, record := range records {
		if !slices.Contains(algorithms, jose.SignatureAlgorithm(record.Algorithm)) {
			continue
		}
		var key *signingKey
		if before != nil {
			key = before.byID[record.ID]
		}
		if key == nil || !key.same(record) {
			if key, err = openSigningKey(r.config.KEK, r.config.Owner, record); err != nil {
				return nil, fmt.Errorf("opening signing key %s of %s: %w", record.ID, r.config.Owner, err)
			}
		}
		s.byID[record.ID] = key
		s.byAlgorithm[record.Algorithm] = append(s.byAlgorithm[record.Algorithm], key)
	}
	for _, list := range s.byAlgorithm {
		slices.SortFunc(list, func(a, b *signingKey) int { return cmp.Compare(b.record.Slot, a.record.Slot) })
	}
	return s, nil
}

// publish takes out the keys whose retention is over, makes s the ring's state
// and then deletes those keys from the store.
func (r *Ring) publish(ctx context.Context, s *state) error {
	now := r.config.Now()
	var expired []string
	for algorithm, list := range s.byAlgorithm {
		kept := make([]*signingKey, 0, len(list))
		for i, key := range list {
			if since := retiredAt(list, i, now); !since.IsZero() && now.Sub(since) > r.config.RetainRetired {
				expired = append(expired, key.record.ID)
				delete(s.byID, key.record.ID)
				continue
			}
			kept = append(kept, key)
		}
		s.byAlgorithm[algorithm] = kept
	}
	if err := s.marshal(); err != nil {
		return fmt.Errorf("marshalling key set of %s: %w", r.config.Owner, err)
	}
	r.state.Store(s)

	if len(expired) == 0 {
		return nil
	}
	slices.Sort(expired)
	if err := r.config.Store.DeleteSigningKeys(ctx, expired); err != nil {
		return fmt.Errorf("deleting retired signing keys of %s: %w", r.config.Owner, err)
	}
	r.config.Logger.InfoContext(ctx, "retired signing keys deleted", "owner", r.config.Owner, "kids", expired)
	return nil
}

func (s *state) missing() []string {
	var names []string
	for _, a := range algorithms {
		if len(s.byAlgorithm[string(a)]) == 0 {
			names = append(names, string(a))
		}
	}
	return names
}

// active returns the index of the key that signs: the highest slot whose time
// has come.
func active(list []*signingKey, now time.Time) int {
	for i, key := range list {
		if !key.record.ActivatesAt.After(now) {
			return i
		}
	}
	// Only where this node's clock is behind that of the node that made the
	// first key. There is no older key that anybody could have cached.
	return len(list) - 1
}

// retiredAt returns since when a key in a higher slot signs in place of
// list[i], zero if none does.
func retiredAt(list []*signingKey, i int, now time.Time) time.Time {
	var since time.Time
	for _, newer := range list[:i] {
		at := newer.record.ActivatesAt
		if !at.After(now) && (since.IsZero() || at.Before(since)) {
			since = at
		}
	}
	return since
}
