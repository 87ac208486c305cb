package web

import (
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// sealLifetime is how long a form that was shown may be sent.
const sealLifetime = time.Hour

// sealField is the hidden field that has a form's seal.
const sealField = "seal"

// seal returns what stands in a form that does action to subject, as the value
// of the hidden field "seal". It is good for an hour, in the login in which the
// form was shown, for this action and subject alone: a form that was shown to
// another user, in another login or one that is over, or for something else is
// void. Actions are constants of the program; the subject is an id, or empty.
// Cross-site requests are refused besides, for every form.
func (p *Pages) seal(v *visitor, action, subject string) string {
	expires := strconv.FormatInt(p.now().Add(sealLifetime).Unix(), 36)
	return expires + "." + p.sealOf(v, action, subject, expires)
}

// sealed returns errStale unless the form has a seal for that visitor, action
// and subject.
func (p *Pages) sealed(r *http.Request, v *visitor, action, subject string) error {
	expires, sum, _ := strings.Cut(r.PostForm.Get(sealField), ".")
	at, err := strconv.ParseInt(expires, 36, 64)
	if err != nil || p.now().Unix() > at || subtle.ConstantTimeCompare([]byte(sum), []byte(p.sealOf(v, action, subject, expires))) != 1 {
		return errStale
	}
	return nil
}

// sealOf is the MAC of a form. Its parts are quoted, so that no two lists of
// them are the same.
func (p *Pages) sealOf(v *visitor, action, subject, expires string) string {
	var text []byte
	for _, part := range []string{"page form", p.cfg.Realm, v.user.ID, v.login.ID, action, subject, expires} {
		text = append(strconv.AppendQuote(text, part), ' ')
	}
	return base64.RawURLEncoding.EncodeToString(p.cfg.MAC(text))
}
