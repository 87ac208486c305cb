package clients

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"fmt"

	"github.com/go-jose/go-jose/v4"
)

// maxKeys bounds the keys of one client.
const maxKeys = 32

// minRSABits is the smallest RSA modulus (RFC 7518 §3.3).
const minRSABits = 2048

// keyFaults says what is wrong with a client's JSON Web Key Set (RFC 7517
// §5). Index is the key's. Keys of a type that the server can't use are
// passed over, as §5 asks; with signs set, at least one must be usable for
// signatures of algorithm alg ("": of any). No fault repeats anything of a
// key.
func keyFaults(raw json.RawMessage, signs bool, alg string) []Fault {
	whole := func(message string) []Fault { return []Fault{{"jwks", -1, message}} }
	// A map, because struct fields would match their names in any case.
	var set map[string]json.RawMessage
	var keys []map[string]json.RawMessage
	if json.Unmarshal(raw, &set) != nil || json.Unmarshal(set["keys"], &keys) != nil {
		return whole("must be a JSON Web Key Set: an object whose member keys is an array of objects (RFC 7517 §5)")
	}
	if n := len(keys); n == 0 || n > maxKeys {
		return whole(fmt.Sprintf("must have 1 to %d keys", maxKeys))
	}
	var faults []Fault
	usable := false
	for i, members := range keys {
		fits, fault := inspectKey(members, alg)
		if fault != "" {
			faults = append(faults, Fault{"jwks", i, fault})
		}
		usable = usable || fits
	}
	if signs && len(faults) == 0 && !usable {
		return whole("has no public key for signatures that fits the client's algorithm")
	}
	return faults
}

// inspectKey reports whether one JSON Web Key can verify signatures of
// algorithm alg, and what is wrong with it.
func inspectKey(members map[string]json.RawMessage, alg string) (usable bool, fault string) {
	// RFC 7518 §6, RFC 8037 §2; `priv` is that of the AKP key type.
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} {
		if _, has := members[private]; has {
			return false, "holds a private or symmetric key: register public keys only"
		}
	}
	var kty string
	if json.Unmarshal(members["kty"], &kty) != nil {
		return false, "must have a key type in kty (RFC 7517 §4.1)"
	}
	text, err := json.Marshal(members)
	if err != nil {
		return false, "is not a JSON Web Key"
	}
	var key jose.JSONWebKey
	switch err := key.UnmarshalJSON(text); {
	case err != nil && (kty == "RSA" || kty == "EC"):
		return false, "is not a well-formed public key (RFC 7518 §6)"
	case err != nil:
		return false, "" // a type that we do not know
	case !key.Valid() || !key.IsPublic():
		return false, "is not a well-formed public key (RFC 7518 §6)"
	}
	if rsaKey, is := key.Key.(*rsa.PublicKey); is && (rsaKey.N.BitLen() < minRSABits || rsaKey.E < 3 || rsaKey.E%2 == 0) {
		return false, fmt.Sprintf("must have at least %d bits and an odd exponent (RFC 7518 §3.3)", minRSABits)
	}
	return key.Use != "enc" && (key.Algorithm == "" || alg == "" || key.Algorithm == alg) && verifies(key.Key, alg), ""
}

// verifies reports whether a public key is of the kind that alg needs; any
// kind will do where alg is empty.
func verifies(key any, alg string) bool {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return alg == "" || alg[:2] == "RS" || alg[:2] == "PS"
	case *ecdsa.PublicKey:
		return alg == "" || alg == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[key.Curve.Params().BitSize]
	case ed25519.PublicKey:
		return alg == "" || alg == "EdDSA"
	}
	return false
}
