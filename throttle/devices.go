package throttle

import (
	"crypto/hmac"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"
)

const (
	// proofSize is how many bytes of the MAC stand in the cookie.
	proofSize = 16
	// maxProofs is how many accounts a cookie knows.
	maxProofs = 5
	// deviceLifetime is how long the cookie lives after the last sign-in;
	// browsers keep none for longer than 400 days (RFC 6265bis §5.5).
	deviceLifetime = 365 * 24 * time.Hour
)

// CookieName is the name of the cookie of known browsers. It has a dot, which a
// realm's name has not, so it is no realm's login cookie.
func (t *Throttle) CookieName() string {
	if t.cfg.Secure {
		return "__Host-gatehouse-known." + t.cfg.Realm
	}
	return "gatehouse-known." + t.cfg.Realm
}

// Known tells whether the request's cookie shows that somebody has signed in to
// the account in this browser before.
func (t *Throttle) Known(r *http.Request, userID string) bool {
	want, known := t.proof(userID), false
	for _, proof := range t.proofs(r) {
		known = hmac.Equal(proof, want) || known
	}
	return known && userID != ""
}

// Remember adds the account to the browser's cookie, in front of those that it
// has, of which the oldest give way. To be called after a sign-in to the
// account, and never otherwise. The cookie holds nothing but a MAC of realm and
// user id for each account: the same in all browsers of the user, and no use as
// proof of anything else.
func (t *Throttle) Remember(w http.ResponseWriter, r *http.Request, userID string) {
	if userID == "" {
		return
	}
	value := t.proof(userID)
	for _, proof := range t.proofs(r) {
		if !hmac.Equal(proof, value[:proofSize]) && len(value) < maxProofs*proofSize {
			value = append(value, proof...)
		}
	}
	http.SetCookie(w, &http.Cookie{Name: t.CookieName(), Value: base64.RawURLEncoding.EncodeToString(value), Path: "/",
		MaxAge: int(deviceLifetime / time.Second), Secure: t.cfg.Secure, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// proof is what the cookie has for an account.
func (t *Throttle) proof(userID string) []byte {
	sum := t.cfg.MAC(fmt.Appendf(nil, "known device %q %q", t.cfg.Realm, userID))
	return append(make([]byte, 0, maxProofs*proofSize), sum[:proofSize]...)
}

// proofs are those of the request's cookie, as it has them; none where it is
// not of our making.
func (t *Throttle) proofs(r *http.Request) [][]byte {
	cookie, err := r.Cookie(t.CookieName())
	if err != nil || len(cookie.Value) > base64.RawURLEncoding.EncodedLen(maxProofs*proofSize) {
		return nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cookie.Value)
	if err != nil || len(raw)%proofSize != 0 {
		return nil
	}
	var list [][]byte
	for ; len(raw) > 0; raw = raw[proofSize:] {
		list = append(list, raw[:proofSize])
	}
	return list
}
