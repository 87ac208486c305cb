package sessions

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"time"
)

// Cookie is the login cookie of one realm: 256 random bits, known to the
// database as a hash only.
type Cookie struct {
	Realm  string
	Secure bool // https: __Host- prefix (RFC 6265bis §4.1.3.2); false only for a loopback http public_url
}

// Name is the cookie's name.
func (c Cookie) Name() string {
	if c.Secure {
		return "__Host-gatehouse-" + c.Realm
	}
	return "gatehouse-" + c.Realm
}

// Hash reads the request's cookie; nil where there is none that could be ours.
func (c Cookie) Hash(r *http.Request) []byte {
	cookie, err := r.Cookie(c.Name())
	if err != nil || len(cookie.Value) != base64.RawURLEncoding.EncodedLen(32) {
		return nil
	}
	sum := sha256.Sum256([]byte(cookie.Value))
	return sum[:]
}

// New makes a cookie value and its hash.
func (c Cookie) New() (value string, hash []byte) {
	var raw [32]byte
	rand.Read(raw[:]) // never fails (crypto/rand)
	value = base64.RawURLEncoding.EncodeToString(raw[:])
	sum := sha256.Sum256([]byte(value))
	return value, sum[:]
}

// Set writes the cookie. A zero expires makes it end with the browser.
func (c Cookie) Set(w http.ResponseWriter, value string, expires time.Time) {
	http.SetCookie(w, &http.Cookie{Name: c.Name(), Value: value, Path: "/", Expires: expires,
		Secure: c.Secure, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// Clear removes the cookie.
func (c Cookie) Clear(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{Name: c.Name(), Path: "/", MaxAge: -1,
		Secure: c.Secure, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}
