package relyingparty

import (
	"errors"
	"net/http"
	"net/url"
)

// leaving is a sign-out under way at the issuer. It is kept under its state.
type leaving struct{ browser string } // key of the cookie of the browser in which it began

// signedOutPath is where the issuer sends the browser back to; it is registered
// as post_logout_redirect_uri.
const signedOutPath = "/signed-out"

// postSignOut forgets the user here and asks the issuer to end the sign-in too,
// with all that was used in it in this browser (OpenID Connect RP-Initiated
// Logout 1.0 §2). An issuer that doesn't offer that is told of the own session
// alone.
func (p *RelyingParty) postSignOut(w http.ResponseWriter, r *http.Request) error {
	v := p.open(r)
	if v == nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return nil
	}
	endpoint, hint := v.issuer.endSession, v.idToken
	if endpoint == "" {
		v.close()
		return p.postLogOut(w, r)
	}
	defer v.close()
	v.end()
	v.out = true
	p.visits.remove(v.key)
	p.setCookie(w, p.cookie, "")

	browser := cookieKey(r, p.binding)
	if browser == "" {
		value := random()
		browser = keyOf(value)
		p.setCookie(w, p.binding, value)
	}
	state := random()
	p.leavings.put(keyOf(state), leaving{browser})
	to := url.Values{"client_id": {p.cfg.ClientID}, "post_logout_redirect_uri": {p.origin + signedOutPath}, "state": {state}}
	if hint != "" {
		to.Set("id_token_hint", hint)
	}
	http.Redirect(w, r, endpoint+"?"+to.Encode(), http.StatusSeeOther)
	return nil
}

// signedOut is where the issuer sends the browser back to. Only the answer to a
// sign-out that this browser began, once, counts as one.
func (p *RelyingParty) signedOut(w http.ResponseWriter, r *http.Request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(query["state"]) > 1 {
		return badRequest("The answer could not be read.", errors.New("malformed answer to a sign-out"))
	}
	browser := cookieKey(r, p.binding)
	if _, ok := p.leavings.take(keyOf(query.Get("state")), func(l leaving) bool { return browser != "" && l.browser == browser }); !ok {
		return badRequest("It answers no sign-out of this browser, or one that was answered before.", errors.New("unknown state of a sign-out"))
	}
	http.Redirect(w, r, "/logged-out?everywhere", http.StatusSeeOther)
	return nil
}
