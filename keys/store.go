package keys

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

var (
	// ErrExists is returned by a store when a record that must be unique is
	// there already: a root with this id, a signing key in this slot.
	ErrExists = errors.New("key exists already")

	// ErrSealed is returned for a sealed value that does not open: malformed,
	// too long, altered, or sealed under another key, for another purpose, by
	// another owner or with other associated data. Which, is not told.
	ErrSealed = errors.New("sealed value does not open")

	// ErrKeyUnknown is returned where a key is named that is not here: a token
	// with the kid of no key in this ring, an algorithm that has no keys, a
	// key-encryption key that is not configured. A token of this server can
	// meet it on a node that has not reloaded since an immediate rotation.
	ErrKeyUnknown = errors.New("key unknown")

	// ErrSignature is returned for a token that is not a compact JWS signed by
	// a key of this ring for one of the wanted types.
	ErrSignature = errors.New("signature does not verify")
)

// RootRecord is one version of an owner's root secret, as it is stored.
type RootRecord struct {
	ID        string    // the version, a decimal number without leading zeros from "1" up; the highest seals
	Sealed    string    // 32 bytes under a key-encryption key (KEK.Seal), about 110 characters of ASCII
	CreatedAt time.Time // UTC, whole milliseconds
}

// RootStore keeps the root secrets of one owner; it is bound to that owner.
type RootStore interface {
	// Roots returns all versions, in any order; none is not an error.
	Roots(ctx context.Context) ([]RootRecord, error)

	// InsertRoot adds a version. Returns ErrExists if the owner has a root of
	// this ID, and changes nothing then.
	InsertRoot(ctx context.Context, root RootRecord) error

	// ReplaceRoot stores another Sealed for the root with this ID.
	ReplaceRoot(ctx context.Context, root RootRecord) error
}

// SigningKeyRecord is one signing key, as it is stored.
type SigningKeyRecord struct {
	ID          string          // the kid, 26 characters of [A-Z2-7], random
	Algorithm   string          // RS256, ES256, EdDSA or PS256 (RFC 7518 §3.1, RFC 8037 §3.1)
	Sealed      string          // PKCS #8 under a key-encryption key (KEK.Seal), at most about 1,700 characters of ASCII
	Public      json.RawMessage // the public JWK (RFC 7517 §4); informative, see the package comment
	CreatedAt   time.Time       // UTC, whole milliseconds
	ActivatesAt time.Time       // UTC, whole milliseconds: signs from here on, until a key in a higher slot does
	Slot        int             // counts up from 1 for each algorithm; unique with owner and algorithm
}

// SigningKeyStore keeps the signing keys of one owner; it is bound to that
// owner.
type SigningKeyStore interface {
	// SigningKeys returns all keys, retired ones included, in any order; none
	// is not an error.
	SigningKeys(ctx context.Context) ([]SigningKeyRecord, error)

	// InsertSigningKeys adds all of the keys or none. Returns ErrExists if an
	// (Algorithm, Slot) or an ID of them is taken.
	InsertSigningKeys(ctx context.Context, keys []SigningKeyRecord) error

	// DeleteSigningKeys removes the keys with these IDs; those that are gone
	// already are no error.
	DeleteSigningKeys(ctx context.Context, ids []string) error

	// ReplaceSigningKey stores another Sealed for the key with this ID. One
	// that is gone stays gone, and is no error.
	ReplaceSigningKey(ctx context.Context, key SigningKeyRecord) error
}

// Store keeps everything that this package keeps for one authorization
// server. A realm, which signs nothing, needs a RootStore only.
type Store interface {
	RootStore
	SigningKeyStore
}
