package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// algorithms are what a ring signs with, in the order of preference in which
// they are published. RS256 leads because every relying party knows it
// (OpenID Connect Core §15.1 demands it).
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA, jose.PS256}

// rsaBits is the size of RSA keys: what RFC 7518 §3.3 and FAPI 2.0 ask for at
// least.
const rsaBits = 2048

// signingKey is one opened key. Its fields do not change; its signers grow.
type signingKey struct {
	record  SigningKeyRecord
	private crypto.Signer
	public  crypto.PublicKey // of private, never of the record

	signers     sync.Map // typ to jose.Signer
	signerCount atomic.Int32
}

// maxSigners bounds the prepared signers of a key. A typ is a constant of the
// program; should one ever come from a request, memory must not grow with it.
const maxSigners = 32

// generate returns a new key for an algorithm, sealed for the owner.
func generate(kek *KEK, owner, algorithm string, now time.Time) (SigningKeyRecord, error) {
	var private crypto.Signer
	var err error
	switch jose.SignatureAlgorithm(algorithm) {
	case jose.RS256, jose.PS256:
		private, err = rsa.GenerateKey(rand.Reader, rsaBits)
	case jose.ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("algorithm %q: %w", algorithm, ErrKeyUnknown)
	}
	if err != nil {
		return SigningKeyRecord{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return SigningKeyRecord{}, err
	}
	record := SigningKeyRecord{ID: rand.Text(), Algorithm: algorithm, CreatedAt: stamp(now)}
	record.Sealed = kek.Seal(der, signingKeyAAD(owner, record))
	record.Public, err = json.Marshal(publicJWK(record, private.Public()))
	return record, err
}

// openSigningKey returns the key of a record. Returns ErrSealed if it was not
// sealed for this owner, algorithm and kid under a configured KEK, and another
// error if it does not fit its algorithm or is not what its record publishes.
func openSigningKey(kek *KEK, owner string, record SigningKeyRecord) (*signingKey, error) {
	der, err := kek.Open(record.Sealed, signingKeyAAD(owner, record))
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, ErrSealed // the cause could quote key material
	}
	key := &signingKey{record: record}
	fits := false
	switch private := parsed.(type) {
	case *rsa.PrivateKey:
		key.private = private
		fits = (record.Algorithm == string(jose.RS256) || record.Algorithm == string(jose.PS256)) && private.N.BitLen() >= rsaBits
	case *ecdsa.PrivateKey:
		key.private = private
		fits = record.Algorithm == string(jose.ES256) && private.Curve == elliptic.P256()
	case ed25519.PrivateKey:
		key.private = private
		fits = record.Algorithm == string(jose.EdDSA)
	}
	if !fits {
		return nil, fmt.Errorf("not a key for %s", record.Algorithm)
	}
	key.public = key.private.Public()

	// A difference means that somebody wrote to the database who could not
	// seal: better not to start than to sign or publish beside such a row.
	var published jose.JSONWebKey
	if err := published.UnmarshalJSON(record.Public); err != nil {
		return nil, fmt.Errorf("its public JWK is malformed")
	}
	public, ok := key.public.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || published.KeyID != record.ID || published.Algorithm != record.Algorithm || !public.Equal(published.Key) {
		return nil, fmt.Errorf("its public JWK is another key's")
	}
	return key, nil
}

// same tells whether the key was opened from this very record, so that a
// reload need not open it again.
func (k *signingKey) same(record SigningKeyRecord) bool {
	return k.record.ID == record.ID && k.record.Algorithm == record.Algorithm &&
		k.record.Sealed == record.Sealed && bytes.Equal(k.record.Public, record.Public) &&
		k.record.Slot == record.Slot && k.record.CreatedAt.Equal(record.CreatedAt) && k.record.ActivatesAt.Equal(record.ActivatesAt)
}

// signer returns the prepared signer for a type. An empty typ makes tokens
// without that header.
func (k *signingKey) signer(typ string) (jose.Signer, error) {
	if signer, ok := k.signers.Load(typ); ok {
		return signer.(jose.Signer), nil
	}
	options := &jose.SignerOptions{}
	if typ != "" {
		options.WithType(jose.ContentType(typ))
	}
	algorithm := jose.SignatureAlgorithm(k.record.Algorithm)
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: algorithm,
		Key:       jose.JSONWebKey{Key: k.private, KeyID: k.record.ID, Algorithm: k.record.Algorithm},
	}, options)
	if err != nil {
		return nil, err
	}
	if k.signerCount.Add(1) <= maxSigners {
		k.signers.Store(typ, signer)
	}
	return signer, nil
}

func publicJWK(record SigningKeyRecord, public crypto.PublicKey) jose.JSONWebKey {
	return jose.JSONWebKey{Key: public, KeyID: record.ID, Algorithm: record.Algorithm, Use: "sig"}
}

// signingKeyAAD binds a sealed key to its owner, algorithm and kid: a row that
// is copied to another authorization server, or relabelled from PS256 to
// RS256, does not open.
func signingKeyAAD(owner string, record SigningKeyRecord) string {
	return fmt.Sprintf("signing key %q %q %q", owner, record.Algorithm, record.ID)
}
