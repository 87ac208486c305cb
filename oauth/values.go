package oauth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"
)

const alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// randomID returns n characters of [A-Za-z0-9] from the system's CSPRNG, each
// as likely as any other.
func randomID(n int) string {
	out := make([]byte, 0, n)
	buf := make([]byte, n+n/4+8)
	for len(out) < n {
		rand.Read(buf) // never fails (crypto/rand)
		for _, b := range buf {
			// 248 = 4*62: bytes above it would favour the first letters.
			if b < 248 && len(out) < n {
				out = append(out, alphanumeric[b%62])
			}
		}
	}
	return string(out)
}

// Lengths of identifiers, in characters.
const (
	sessionIDLength = 40
	grantIDLength   = 22
	tokenIDLength   = 22
)

func isID(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// newCode makes an authorization code, "<grant id>.<256 random bits>", and the
// hash under which the grant knows it.
func newCode(grantID string) (code string, hash []byte) {
	var secret [32]byte
	rand.Read(secret[:])
	text := base64.RawURLEncoding.EncodeToString(secret[:])
	sum := sha256.Sum256([]byte(text))
	return grantID + "." + text, sum[:]
}

// parseCode splits a code; false where it can't be one.
func parseCode(code string) (grantID string, hash []byte, ok bool) {
	grantID, secret, ok := strings.Cut(code, ".")
	if !ok || !isID(grantID, grantIDLength) || len(secret) != 43 {
		return "", nil, false
	}
	sum := sha256.Sum256([]byte(secret))
	return grantID, sum[:], true
}

// refreshValue is what a refresh token says: "grant.generation.key id.MAC".
// It can be made again at any time, so none is ever stored.
type refreshValue struct {
	grantID    string
	generation int64
	keyID      string
	mac        []byte
}

// newRefresh makes the refresh token of a grant's generation.
func (s *Server) newRefresh(g *Grant, generation int64) string {
	sum := s.refresh.Sum(s.refreshMessage(g, generation))
	return g.ID + "." + strconv.FormatInt(generation, 10) + "." + s.refresh.KeyID() + "." + base64.RawURLEncoding.EncodeToString(sum)
}

// refreshMessage is what the MAC is over: server, grant, generation, secret.
// The parts can't contain a zero byte, and the secret comes last.
func (s *Server) refreshMessage(g *Grant, generation int64) []byte {
	m := make([]byte, 0, 128)
	m = append(m, s.cfg.Name...)
	m = append(m, 0)
	m = append(m, g.ID...)
	m = append(m, 0)
	m = strconv.AppendInt(m, generation, 10)
	m = append(m, 0)
	return append(m, g.Secret...)
}

// parseRefresh splits a refresh token; false where it can't be one.
func parseRefresh(token string) (v refreshValue, ok bool) {
	if len(token) > 512 {
		return v, false
	}
	parts := strings.Split(token, ".")
	if len(parts) != 4 || !isID(parts[0], grantIDLength) {
		return v, false
	}
	generation, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || generation < 1 || strconv.FormatInt(generation, 10) != parts[1] {
		return v, false
	}
	// The decoder passes over line breaks, by which a token would have many spellings.
	mac, err := base64.RawURLEncoding.Strict().DecodeString(parts[3])
	if err != nil || len(parts[3]) != base64.RawURLEncoding.EncodedLen(sha256.Size) {
		return v, false
	}
	return refreshValue{parts[0], generation, parts[2], mac}, true
}

// proven reports whether the MAC is ours for that grant.
func (s *Server) proven(g *Grant, v refreshValue) bool {
	return s.refresh.Verify(v.keyID, s.refreshMessage(g, v.generation), v.mac)
}

// verifies reports whether a PKCE verifier belongs to an S256 challenge (RFC
// 7636 §4.6).
func verifies(verifier, challenge string) bool {
	sum := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) == 1
}

// isVerifier checks the form of a code_verifier (RFC 7636 §4.1).
func isVerifier(v string) bool {
	if len(v) < 43 || len(v) > 128 {
		return false
	}
	return strings.IndexFunc(v, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune("-._~", r)
	}) < 0
}

// isChallenge checks the form of an S256 code_challenge: 32 bytes in base64url.
func isChallenge(v string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(v)
	return err == nil && len(raw) == sha256.Size && len(v) == base64.RawURLEncoding.EncodedLen(sha256.Size) // no line breaks
}

// isPrintable reports whether s is 1 to most characters of printable ASCII
// (VSCHAR, RFC 6749 App. A): the only text of strangers that reaches a row's key.
func isPrintable(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
