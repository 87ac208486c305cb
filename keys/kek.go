package keys

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// secretSize is the size of key-encryption keys, root secrets and the keys
// derived from them, in bytes.
const secretSize = 32

// maxSealed bounds, in characters without the prefix, what is opened: more is
// refused before it is decoded.
const maxSealed = 16 << 10

// KEK is the key-encryption key: the current one, which seals, and previous
// ones, which only open. It is safe for concurrent use.
type KEK struct {
	keys []wrappingKey // the current one first
}

type wrappingKey struct {
	id   string
	aead cipher.AEAD
}

// NewKEK returns the key-encryption key that seals under current and opens
// under current and previous. Each is 32 bytes in base64 (RFC 4648 §4 or §5),
// padded or not; white space around it is ignored. Errors never contain key
// material.
func NewKEK(current string, previous ...string) (*KEK, error) {
	k := &KEK{keys: make([]wrappingKey, 0, 1+len(previous))}
	for i, text := range append([]string{current}, previous...) {
		key, err := newWrappingKey(text)
		if err != nil && i == 0 {
			return nil, fmt.Errorf("key-encryption key: %w", err)
		} else if err != nil {
			return nil, fmt.Errorf("previous key-encryption key %d: %w", i, err)
		}
		k.keys = append(k.keys, key)
	}
	return k, nil
}

// GenerateKEK returns a new random key-encryption key as NewKEK takes it: 44
// characters of base64.
func GenerateKEK() string {
	key := make([]byte, secretSize)
	rand.Read(key) // never fails: crypto/rand ends the process instead
	return base64.StdEncoding.EncodeToString(key)
}

func newWrappingKey(text string) (wrappingKey, error) {
	text = strings.TrimSpace(text)
	std := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimSuffix(text, "="))
	secret, err := base64.RawStdEncoding.Strict().DecodeString(std)
	if err != nil {
		return wrappingKey{}, fmt.Errorf("want %d bytes in base64, got %d characters that are not base64", secretSize, len(text))
	}
	if len(secret) != secretSize {
		return wrappingKey{}, fmt.Errorf("want %d bytes in base64, got %d bytes", secretSize, len(secret))
	}
	// The id is stored in the clear, so it comes from the same one-way
	// function as the key that seals, under a label of its own.
	return wrappingKey{
		id:   base64.RawURLEncoding.EncodeToString(subkey(secret, "gatehouse/1 key-encryption key id")[:8]),
		aead: newAEAD(subkey(secret, "gatehouse/1 key-encryption key")),
	}, nil
}

// Seal encrypts plaintext, binds aad to it (XChaCha20-Poly1305, random nonce),
// and returns "<id of the key>.<base64url of nonce and ciphertext>". Open
// needs the same aad.
func (k *KEK) Seal(plaintext []byte, aad string) string {
	return seal(k.keys[0].aead, k.keys[0].id, plaintext, []byte(aad))
}

// Open returns what Seal was given. Returns ErrSealed if sealed is not a
// value that was sealed with this aad under one of the keys, and ErrKeyUnknown
// with it if sealed names a key that is not configured.
func (k *KEK) Open(sealed, aad string) ([]byte, error) {
	id, body, ok := strings.Cut(sealed, ".")
	if !ok {
		return nil, ErrSealed
	}
	for _, key := range k.keys {
		if key.id == id {
			return open(key.aead, body, []byte(aad))
		}
	}
	return nil, fmt.Errorf("%w: key-encryption key %q is not configured: %w", ErrSealed, id[:min(len(id), 32)], ErrKeyUnknown)
}

// Current tells whether sealed names the current key; if not, it wants to be
// sealed anew before the previous key is taken away. Nothing is decrypted.
func (k *KEK) Current(sealed string) bool {
	id, _, ok := strings.Cut(sealed, ".")
	return ok && id == k.keys[0].id
}

// String returns the id of the current key, never the key.
func (k *KEK) String() string { return "key-encryption key " + k.keys[0].id }

// subkey derives a key of 32 bytes from a secret for one use (RFC 5869).
func subkey(secret []byte, info string) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, info, secretSize)
	if err != nil {
		panic(err) // only for lengths over 255 hashes, and weak secrets in FIPS mode; ours are constant
	}
	return key
}

func newAEAD(key []byte) cipher.AEAD {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		panic(err) // only for a key that is not of 32 bytes
	}
	return aead
}

// sealedEncoding is strict, so that one ciphertext has one text form: what is
// looked up or revoked by its text cannot be spelled another way.
var sealedEncoding = base64.RawURLEncoding.Strict()

// seal returns "<prefix>.<base64url(nonce ‖ ciphertext)>".
func seal(aead cipher.AEAD, prefix string, plaintext, aad []byte) string {
	buf := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plaintext)+chacha20poly1305.Overhead)
	rand.Read(buf) // 192 bits: random nonces do not meet
	buf = aead.Seal(buf, buf, plaintext, aad)

	text := make([]byte, 0, len(prefix)+1+sealedEncoding.EncodedLen(len(buf)))
	text = append(append(text, prefix...), '.')
	return string(sealedEncoding.AppendEncode(text, buf))
}

// open undoes seal for the part behind the prefix. Any failure is ErrSealed.
func open(aead cipher.AEAD, body string, aad []byte) ([]byte, error) {
	// encoding/base64 skips line breaks even when it is strict.
	if len(body) > maxSealed || strings.ContainsAny(body, "\r\n") {
		return nil, ErrSealed
	}
	buf, err := sealedEncoding.DecodeString(body)
	if err != nil || len(buf) < chacha20poly1305.NonceSizeX+chacha20poly1305.Overhead {
		return nil, ErrSealed
	}
	nonce, ciphertext := buf[:chacha20poly1305.NonceSizeX], buf[chacha20poly1305.NonceSizeX:]
	plaintext, err := aead.Open(ciphertext[:0], nonce, ciphertext, aad)
	if err != nil {
		return nil, ErrSealed
	}
	return plaintext, nil
}
