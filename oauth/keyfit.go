package oauth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"

	"github.com/go-jose/go-jose/v4"
)

// fits reports whether a key is of the kind that alg needs (RFC 7518 §3,
// RFC 8037 §3.1), so that a set may hold keys of several kinds without kids.
func fits(key jose.JSONWebKey, alg string) bool {
	switch k := key.Key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= 2048 && (alg[:2] == "RS" || alg[:2] == "PS")
	case *ecdsa.PublicKey:
		return map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[k.Curve.Params().BitSize] == alg
	case ed25519.PublicKey:
		return alg == string(jose.EdDSA)
	}
	return false
}
