package sessions

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"time"
)

// DeviceCookie marks the browsers in which somebody has signed in to a realm, so
// that users can be told of sign-ins from others: 256 random bits, which prove
// nothing and outlive sign-ins. The database knows them as a hash only, another
// one for each user of the browser.
type DeviceCookie struct {
	Realm  string
	Secure bool // as Cookie.Secure
}

// Name is the cookie's name. It has a dot, which a realm's name has not, so it
// is no realm's login cookie.
func (c DeviceCookie) Name() string {
	if c.Secure {
		return "__Host-gatehouse-device." + c.Realm
	}
	return "gatehouse-device." + c.Realm
}

// Value is the value of the request's cookie, or a new one where it has none
// that could be ours.
func (c DeviceCookie) Value(r *http.Request) string {
	if cookie, err := r.Cookie(c.Name()); err == nil {
		if raw, err := base64.RawURLEncoding.Strict().DecodeString(cookie.Value); err == nil && len(raw) == 32 {
			return cookie.Value
		}
	}
	var raw [32]byte
	rand.Read(raw[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// Mark is what the database knows of a cookie's value for a user: SHA-256 over
// both.
func (c DeviceCookie) Mark(value, userID string) []byte {
	sum := sha256.Sum256([]byte(value + "\x00" + userID))
	return sum[:]
}

// Set writes the cookie, for as long as browsers keep one (RFC 6265bis §5.5). To
// be called after a sign-in.
func (c DeviceCookie) Set(w http.ResponseWriter, value string) {
	http.SetCookie(w, &http.Cookie{Name: c.Name(), Value: value, Path: "/", MaxAge: int(NoticeKept / time.Second),
		Secure: c.Secure, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}
