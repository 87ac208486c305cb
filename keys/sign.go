package keys

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// maxToken bounds the tokens that are verified, in bytes. It is checked before
// anything is decoded.
const maxToken = 16 << 10

// Sign returns payload as a compact JWS (RFC 7515 §7.1) with the headers alg,
// kid and typ, signed by the active key of alg. typ is a constant of the
// program, e.g. "JWT" or "at+jwt"; empty leaves the header out. A token of
// more than 16 KiB is made, but Verify won't take it. Returns ErrKeyUnknown
// for an algorithm that the ring does not have.
func (r *Ring) Sign(alg, typ string, payload []byte) (string, error) {
	list := r.state.Load().byAlgorithm[alg]
	if len(list) == 0 {
		return "", fmt.Errorf("signing with %q: %w", alg, ErrKeyUnknown)
	}
	key := list[active(list, r.config.Now())]
	signer, err := key.signer(typ)
	if err != nil {
		return "", fmt.Errorf("signing with key %s: %w", key.record.ID, err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing with key %s: %w", key.record.ID, err)
	}
	return jws.CompactSerialize()
}

// Verify returns the payload of a token that this ring has signed: a compact
// JWS of at most 16 KiB, its kid that of one of our keys (retired ones
// included), its alg that key's, without critical extensions and without a key
// or the address of one. With typ given, the token's typ must be one of them;
// upper and lower case and a leading "application/" make no difference (RFC
// 7515 §4.1.9), and "" stands for a token without typ. Whoever accepts one kind
// of token only must name it, else the others pass too (RFC 8725 §3.11).
//
// Claims, times among them, are not judged. Returns ErrKeyUnknown for a kid
// that is not here, ErrSignature for everything else that is wrong; the
// errors contain nothing of the token.
func (r *Ring) Verify(token string, typ ...string) ([]byte, error) {
	if len(token) > maxToken {
		return nil, fmt.Errorf("token over %d bytes: %w", maxToken, ErrSignature)
	}
	if !isCompact(token) {
		return nil, fmt.Errorf("token is not a compact JWS: %w", ErrSignature)
	}
	if name := forbiddenHeader(token); name != "" {
		return nil, fmt.Errorf("token has the header parameter %s: %w", name, ErrSignature)
	}
	// go-jose's errors quote the token, so they are not passed on.
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, fmt.Errorf("token malformed, or its algorithm none of ours: %w", ErrSignature)
	}
	header := &jws.Signatures[0].Protected
	key := r.state.Load().byID[header.KeyID]
	if key == nil {
		return nil, fmt.Errorf("kid of token: %w", ErrKeyUnknown)
	}
	// RFC 8725 §3.1: the key says which algorithm, not the token. An RSA key
	// would verify RS256 and PS256 alike.
	if header.Algorithm != key.record.Algorithm {
		return nil, fmt.Errorf("algorithm of token is not its key's: %w", ErrSignature)
	}
	if len(typ) > 0 && !typeAmong(header.ExtraHeaders[jose.HeaderType], typ) {
		return nil, fmt.Errorf("token is of another type: %w", ErrSignature)
	}
	payload, err := jws.Verify(key.public)
	if err != nil {
		return nil, fmt.Errorf("token does not verify: %w", ErrSignature)
	}
	return payload, nil
}

// forbidden are header parameters that no token of ours has: critical
// extensions, of which we understand none (RFC 7515 §4.1.11), and keys or
// where to fetch them (RFC 8725 §3.10).
var forbidden = []string{"crit", "b64", "jwk", "jku", "x5u", "x5c"}

// forbiddenHeader returns the first forbidden parameter that the header of a
// compact token has, whatever its value. A header that is not an object has
// none; parsing refuses it.
func forbiddenHeader(token string) string {
	part, _, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return ""
	}
	var header map[string]json.RawMessage
	if json.Unmarshal(raw, &header) != nil {
		return ""
	}
	for _, name := range forbidden {
		if _, ok := header[name]; ok {
			return name
		}
	}
	return ""
}

// isCompact tells whether token is three parts of canonical base64url. go-jose
// takes line breaks and stray last bits, by which one token would have many
// spellings.
func isCompact(token string) bool {
	parts := 0
	for part := range strings.SplitSeq(token, ".") {
		parts++
		if parts > 3 || part == "" && parts != 2 || !isCanonical(part) {
			return false
		}
	}
	return parts == 3
}

// isCanonical tells whether s is base64url without padding as an encoder
// writes it (RFC 4648 §3.5).
func isCanonical(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	// Only the last group can have bits to spare.
	_, err := base64.RawURLEncoding.Strict().DecodeString(s[len(s)-len(s)%4:])
	return err == nil
}

func typeAmong(header any, wanted []string) bool {
	typ, ok := header.(string)
	if !ok && header != nil {
		return false
	}
	for _, w := range wanted {
		if strings.EqualFold(shortType(typ), shortType(w)) {
			return true
		}
	}
	return false
}

// shortType leaves out the "application/" of a media type where RFC 7515
// §4.1.9 lets it be left out: if no other slash follows.
func shortType(typ string) string {
	const prefix = "application/"
	if len(typ) > len(prefix) && strings.EqualFold(typ[:len(prefix)], prefix) && !strings.Contains(typ[len(prefix):], "/") {
		return typ[len(prefix):]
	}
	return typ
}
