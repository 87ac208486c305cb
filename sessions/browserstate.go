package sessions

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
)

// BrowserState is the cookie that tells the check session iframe of a realm's
// authorization servers who is signed in (OpenID Connect Session Management 1.0
// §3.2: the OP browser state). Scripts of the realm's origin can read it. It is no
// credential: nothing opens with it, and the login's id can't be had from it.
type BrowserState struct{ cookie Cookie }

// State is the browser state that goes with the login cookie.
func (c Cookie) State() BrowserState { return BrowserState{c} }

// Name is the cookie's name. No login cookie has it: dots don't occur in the
// names of realms.
func (b BrowserState) Name() string { return b.cookie.Name() + ".state" }

// Of is the state in which a login is, 43 characters of [A-Za-z0-9_-]; empty
// without a login.
func (b BrowserState) Of(login *Login) string {
	if login == nil {
		return ""
	}
	sum := sha256.Sum256([]byte("browser state\x00" + b.cookie.Realm + "\x00" + login.ID))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Put writes the state of a login where the browser has another one, and takes
// it away where there is no login.
func (b BrowserState) Put(w http.ResponseWriter, r *http.Request, login *Login) {
	value, held := b.Of(login), ""
	cookie, err := r.Cookie(b.Name())
	if err == nil {
		held = cookie.Value
	}
	if value == held && (err == nil) == (value != "") {
		return
	}
	//nolint:gosec // a script must read it; over http, on a loopback host, a browser would drop a secure one
	c := &http.Cookie{Name: b.Name(), Value: value, Path: "/", Secure: b.cookie.Secure, SameSite: http.SameSiteLaxMode}
	if b.cookie.Secure {
		c.SameSite = http.SameSiteNoneMode // it is read in frames of other sites
	}
	switch {
	case value == "":
		c.MaxAge = -1
	case login.Persistent:
		c.Expires = login.ExpiresAt
	}
	http.SetCookie(w, c)
}
