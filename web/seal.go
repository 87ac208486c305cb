package web

import (
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// sealLifetime is how long a form that was shown may be sent.
const sealLifetime = time.Hour

// sealField is the hidden field that has a form's seal.
const sealField = "seal"

// saidLifetime is how long a page says what has just been done.
const saidLifetime = 2 * time.Minute

// seal returns what stands in a form that does action to subject, as the value
// of the hidden field "seal". It is good for an hour, in the login in which the
// form was shown, for this action and subject alone: a form that was shown to
// another user, in another login or one that is over, or for something else is
// void. Actions are constants of the program; the subject is an id, or empty.
// Cross-site requests are refused besides, for every form.
func (p *Pages) seal(v *visitor, action, subject string) string {
	return p.sealFor(v, action, subject, sealLifetime)
}

func (p *Pages) sealFor(v *visitor, action, subject string, lifetime time.Duration) string {
	expires := strconv.FormatInt(p.now().Add(lifetime).Unix(), 36)
	return expires + "." + p.sealOf(v, action, subject, expires)
}

// sealed returns errStale unless the form has a seal for that visitor, action
// and subject.
func (p *Pages) sealed(r *http.Request, v *visitor, action, subject string) error {
	if !p.holds(r.PostForm.Get(sealField), v, action, subject) {
		return errStale
	}
	return nil
}

// holds tells whether a seal is for that visitor, action and subject, and not
// over.
func (p *Pages) holds(seal string, v *visitor, action, subject string) bool {
	expires, sum, _ := strings.Cut(seal, ".")
	at, err := strconv.ParseInt(expires, 36, 64)
	return err == nil && p.now().Unix() <= at && subtle.ConstantTimeCompare([]byte(sum), []byte(p.sealOf(v, action, subject, expires))) == 1
}

// saying is a URL of ours whose page says what has just been done: the parameter
// of that name has what, which is without a dot, and a seal for the visitor. A
// link that somebody else made can't have a page say anything.
func (p *Pages) saying(to string, v *visitor, name, what string) string {
	path, query, _ := strings.Cut(to, "?")
	q, err := url.ParseQuery(query)
	if err != nil {
		return to
	}
	q.Set(name, what+"."+p.sealFor(v, "said "+name, what, saidLifetime))
	return path + "?" + q.Encode()
}

// said is what saying has put into the parameter of that name; empty: nothing,
// or too long ago.
func (p *Pages) said(r *http.Request, v *visitor, name string) string {
	what, seal, _ := strings.Cut(r.URL.Query().Get(name), ".")
	if !p.holds(seal, v, "said "+name, what) {
		return ""
	}
	return what
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
