package keys

import (
	"context"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// RootConfig is what OpenRoot needs.
type RootConfig struct {
	Store RootStore        // required; bound to Owner
	KEK   *KEK             // required
	Owner string           // required; e.g. "as:myAS" or "realm:default", part of what is sealed and derived
	Now   func() time.Time // default: time.Now
}

// Root is the root secret of one owner, in all its versions. It is safe for
// concurrent use and does not change once it is open.
type Root struct {
	config   RootConfig
	versions []rootVersion // the newest, which seals, first
}

type rootVersion struct {
	id     string
	number int
	secret []byte
}

// OpenRoot loads the owner's root secret. If there is none it makes the first
// version; if another node does so at the same moment, both have the one that
// was stored. Returns ErrSealed if a version does not open under the KEK.
func OpenRoot(ctx context.Context, config RootConfig) (*Root, error) {
	switch {
	case config.Store == nil:
		return nil, errors.New("opening root secret: no store")
	case config.KEK == nil:
		return nil, errors.New("opening root secret: no key-encryption key")
	case config.Owner == "":
		return nil, errors.New("opening root secret: no owner")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	r := &Root{config: config}

	records, err := config.Store.Roots(ctx)
	if err == nil && len(records) == 0 {
		if err = r.insertFirst(ctx); err == nil || errors.Is(err, ErrExists) {
			// Read back even what was just written: then there is one truth,
			// whoever won.
			records, err = config.Store.Roots(ctx)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("loading root secret of %s: %w", config.Owner, err)
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("loading root secret of %s: not there after it was stored", config.Owner)
	}
	for _, record := range records {
		version, err := r.open(record)
		if err != nil {
			return nil, fmt.Errorf("opening root secret %s of %s: %w", record.ID, config.Owner, err)
		}
		r.versions = append(r.versions, version)
	}
	slices.SortFunc(r.versions, func(a, b rootVersion) int { return b.number - a.number })
	return r, nil
}

func (r *Root) insertFirst(ctx context.Context) error {
	const first = "1"
	secret := make([]byte, secretSize)
	rand.Read(secret)
	return r.config.Store.InsertRoot(ctx, RootRecord{
		ID:        first,
		Sealed:    r.config.KEK.Seal(secret, r.aad(first)),
		CreatedAt: stamp(r.config.Now()),
	})
}

func (r *Root) open(record RootRecord) (rootVersion, error) {
	number, err := strconv.Atoi(record.ID)
	if err != nil || number < 1 || strconv.Itoa(number) != record.ID {
		return rootVersion{}, fmt.Errorf("id %q is not a positive decimal number", record.ID)
	}
	secret, err := r.config.KEK.Open(record.Sealed, r.aad(record.ID))
	if err != nil {
		return rootVersion{}, err
	}
	if len(secret) != secretSize {
		return rootVersion{}, ErrSealed
	}
	return rootVersion{id: record.ID, number: number, secret: secret}, nil
}

// aad quotes its parts, so that no owner can be spelled to look like another
// owner's root.
func (r *Root) aad(id string) string { return fmt.Sprintf("root %q %q", r.config.Owner, id) }

// Rewrap seals every version that is not under the current key-encryption key
// anew, and returns how many it was. What was derived stays as it is. It can
// be repeated, and run while servers work.
func (r *Root) Rewrap(ctx context.Context) (int, error) {
	records, err := r.config.Store.Roots(ctx)
	if err != nil {
		return 0, fmt.Errorf("loading root secret of %s: %w", r.config.Owner, err)
	}
	n := 0
	for _, record := range records {
		if r.config.KEK.Current(record.Sealed) {
			continue
		}
		secret, err := r.config.KEK.Open(record.Sealed, r.aad(record.ID))
		if err != nil {
			return n, fmt.Errorf("opening root secret %s of %s: %w", record.ID, r.config.Owner, err)
		}
		record.Sealed = r.config.KEK.Seal(secret, r.aad(record.ID))
		if err := r.config.Store.ReplaceRoot(ctx, record); err != nil {
			return n, fmt.Errorf("storing root secret %s of %s: %w", record.ID, r.config.Owner, err)
		}
		n++
	}
	return n, nil
}

// String names the owner, never the secret.
func (r *Root) String() string { return "root secret of " + r.config.Owner }

// GoString is String: a secret must not reach a log through %#v either.
func (r *Root) GoString() string { return r.String() }

// derive returns the subkey of one version for one kind of use and purpose.
func (r *Root) derive(v rootVersion, kind, purpose string) []byte {
	return subkey(v.secret, fmt.Sprintf("gatehouse/1 %s %q %q", kind, r.config.Owner, purpose))
}

// Box seals and opens values for one purpose. It is safe for concurrent use.
type Box struct {
	versions []boxVersion // the newest first
}

type boxVersion struct {
	id   string // of the root's version
	aead cipher.AEAD
}

// Box returns the box for a purpose, e.g. "opaque access token". Purposes are
// constants of the program; boxes of different purposes do not open each
// other's values. Its keys are derived here, once: keep the box.
func (r *Root) Box(purpose string) *Box {
	b := &Box{}
	for _, v := range r.versions {
		b.versions = append(b.versions, boxVersion{id: v.id, aead: newAEAD(r.derive(v, "box", purpose))})
	}
	return b
}

// Seal encrypts plaintext and binds aad to it (XChaCha20-Poly1305, random
// nonce) under the newest version of the root secret. The result is
// "<version>.<base64url of nonce and ciphertext>": URL-safe ASCII, 56
// characters and four thirds of the plaintext long. Open takes at most 16 KiB
// of it, which is a plaintext of some 12,200 bytes.
func (b *Box) Seal(plaintext, aad []byte) string {
	return seal(b.versions[0].aead, b.versions[0].id, plaintext, aad)
}

// Open returns what Seal was given. Returns ErrSealed for everything that was
// not sealed by this box with this aad, and for more than 16 KiB.
func (b *Box) Open(s string, aad []byte) ([]byte, error) {
	id, body, ok := strings.Cut(s, ".")
	if !ok {
		return nil, ErrSealed
	}
	for i := range b.versions {
		if b.versions[i].id == id {
			return open(b.versions[i].aead, body, aad)
		}
	}
	return nil, ErrSealed
}

// MAC authenticates values for one purpose with HMAC-SHA256 (RFC 2104). It is
// safe for concurrent use.
type MAC struct {
	versions []macVersion // the newest first
}

type macVersion struct {
	id string
	// hashes are keyed once and reset, which saves the two blocks that the
	// key costs, and the allocations, at every call.
	hashes *sync.Pool
}

// MAC returns the MAC for a purpose, e.g. "refresh token". As with Box,
// purposes are constants of the program, a MAC and a Box of one purpose share
// no key, and the MAC is to be kept.
func (r *Root) MAC(purpose string) *MAC {
	m := &MAC{}
	for _, v := range r.versions {
		key := r.derive(v, "mac", purpose)
		m.versions = append(m.versions, macVersion{
			id:     v.id,
			hashes: &sync.Pool{New: func() any { return hmac.New(sha256.New, key) }},
		})
	}
	return m
}

// KeyID returns the version of the root secret that Sum uses: decimal digits.
func (m *MAC) KeyID() string { return m.versions[0].id }

// Sum returns the 32 bytes of the MAC of data under the newest version. Data
// of several parts must be joined so that no two lists of parts give the same
// bytes.
func (m *MAC) Sum(data []byte) []byte { return m.versions[0].sum(data) }

// Verify tells, in constant time, whether sum is the whole MAC of data under
// the version keyID. It is false for a version that is not there.
func (m *MAC) Verify(keyID string, data, sum []byte) bool {
	for i := range m.versions {
		if m.versions[i].id == keyID {
			return hmac.Equal(m.versions[i].sum(data), sum)
		}
	}
	return false
}

func (v *macVersion) sum(data []byte) []byte {
	h := v.hashes.Get().(hash.Hash)
	defer v.hashes.Put(h)
	h.Reset()
	h.Write(data)
	return h.Sum(make([]byte, 0, sha256.Size))
}

// stamp is the form in which times are stored: UTC, whole milliseconds.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
