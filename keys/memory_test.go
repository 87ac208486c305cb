package keys

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

var (
	testStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	errBroken = errors.New("the database is away")
)

const testOwner = "as:test"

// memory is a Store with the unique indexes that the interfaces demand.
type memory struct {
	mu     sync.Mutex
	roots  map[string]RootRecord
	keys   map[string]SigningKeyRecord
	broken bool

	// beforeInsert runs, if set, before an insertion takes the lock: here a
	// test lets another node be first.
	beforeInsert func()
}

func newMemory() *memory {
	return &memory{roots: map[string]RootRecord{}, keys: map[string]SigningKeyRecord{}}
}

// lock also returns the error of a broken store.
func (m *memory) lock() error {
	m.mu.Lock()
	if m.broken {
		return errBroken
	}
	return nil
}

func (m *memory) Roots(context.Context) ([]RootRecord, error) {
	defer m.mu.Unlock()
	if err := m.lock(); err != nil {
		return nil, err
	}
	return slices.Collect(maps.Values(m.roots)), nil
}

func (m *memory) InsertRoot(_ context.Context, root RootRecord) error {
	m.interpose()
	defer m.mu.Unlock()
	if err := m.lock(); err != nil {
		return err
	}
	if _, ok := m.roots[root.ID]; ok {
		return ErrExists
	}
	m.roots[root.ID] = root
	return nil
}

func (m *memory) ReplaceRoot(_ context.Context, root RootRecord) error {
	defer m.mu.Unlock()
	if err := m.lock(); err != nil {
		return err
	}
	stored := m.roots[root.ID]
	stored.Sealed = root.Sealed
	m.roots[root.ID] = stored
	return nil
}

func (m *memory) SigningKeys(context.Context) ([]SigningKeyRecord, error) {
	defer m.mu.Unlock()
	if err := m.lock(); err != nil {
		return nil, err
	}
	return slices.Collect(maps.Values(m.keys)), nil
}

func (m *memory) InsertSigningKeys(_ context.Context, records []SigningKeyRecord) error {
	m.interpose()
	defer m.mu.Unlock()
	if err := m.lock(); err != nil {
		return err
	}
	for _, record := range records {
		for _, other := range m.keys {
			if other.ID == record.ID || other.Algorithm == record.Algorithm && other.Slot == record.Slot {
				return ErrExists
			}
		}
	}
	for _, record := range records {
		m.keys[record.ID] = record
	}
	return nil
}

func (m *memory) DeleteSigningKeys(_ context.Context, ids []string) error {
	defer m.mu.Unlock()
	if err := m.lock(); err != nil {
		return err
	}
	for _, id := range ids {
		delete(m.keys, id)
	}
	return nil
}

func (m *memory) ReplaceSigningKey(_ context.Context, record SigningKeyRecord) error {
	defer m.mu.Unlock()
	if err := m.lock(); err != nil {
		return err
	}
	if stored, ok := m.keys[record.ID]; ok {
		stored.Sealed = record.Sealed
		m.keys[record.ID] = stored
	}
	return nil
}

func (m *memory) interpose() {
	m.mu.Lock()
	f := m.beforeInsert
	m.beforeInsert = nil
	m.mu.Unlock()
	if f != nil {
		f()
	}
}

// change replaces one stored signing key.
func (m *memory) change(id string, f func(*SigningKeyRecord)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	record := m.keys[id]
	delete(m.keys, id)
	f(&record)
	m.keys[record.ID] = record
}

// first is a store as the first start leaves it, made once for all tests
// because RSA keys are slow to make.
var first = sync.OnceValues(func() (*memory, string) {
	m, kek := newMemory(), GenerateKEK()
	k, err := NewKEK(kek)
	if err != nil {
		panic(err)
	}
	if _, err := Open(context.Background(), Config{Store: m, KEK: k, Owner: testOwner, Now: func() time.Time { return testStart }}); err != nil {
		panic(err)
	}
	return m, kek
})

// firstKEK is the key-encryption key of first's contents.
func firstKEK() string {
	_, kek := first()
	return kek
}

// house is a store, the key-encryption key of its contents, and a clock.
type house struct {
	*testing.T
	store *memory
	kek   string

	mu  sync.Mutex
	now time.Time
}

func newHouse(t *testing.T) *house {
	t.Helper()
	m, kek := first()
	return &house{
		T:     t,
		store: &memory{roots: maps.Clone(m.roots), keys: maps.Clone(m.keys)},
		kek:   kek,
		now:   testStart,
	}
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *house) advance(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// open returns a ring on the store, as one more node would have it.
func (h *house) open() *Ring {
	h.Helper()
	r, err := Open(h.Context(), Config{Store: h.store, KEK: mustKEK(h.T, h.kek), Owner: testOwner, Now: h.clock})
	if err != nil {
		h.Fatalf("Open: %v", err)
	}
	return r
}

func mustKEK(t testing.TB, current string, previous ...string) *KEK {
	t.Helper()
	k, err := NewKEK(current, previous...)
	if err != nil {
		t.Fatalf("NewKEK: %v", err)
	}
	return k
}

func mustSign(t testing.TB, r *Ring, alg, typ, payload string) string {
	t.Helper()
	token, err := r.Sign(alg, typ, []byte(payload))
	if err != nil {
		t.Fatalf("Sign(%s): %v", alg, err)
	}
	return token
}

// keysOf returns what Keys says of one algorithm.
func keysOf(r *Ring, alg string) []Info {
	return slices.DeleteFunc(r.Keys(), func(i Info) bool { return i.Algorithm != alg })
}

// undeletable is a store that fails at deleting only.
type undeletable struct{ *memory }

func (undeletable) DeleteSigningKeys(context.Context, []string) error { return errBroken }
