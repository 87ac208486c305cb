//go:build unix

package main

import (
	"net/http"
	"net/url"
	"strings"

	"gatehouse.dev/gatehouse/sessions"
)

// page sends a browser's request, a form's if there is one and else that of an
// address, and follows redirects within the server. It returns the last answer,
// or where the browser was sent to elsewhere.
func (w *world) page(b *modelBrowser, address string, f *form) (last *http.Response, to *url.URL) {
	for range 6 {
		req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, address, nil)
		if f != nil {
			req, err = f.request(w.t.Context())
			f = nil
		}
		if err != nil {
			w.fail("request of a browser: %v", err)
		}
		res, err := b.by.do(req)
		if err != nil || res.StatusCode >= http.StatusInternalServerError {
			w.fail("a browser's %s %s is answered with %v, %v", req.Method, req.URL.Path, res, err)
		}
		location, err := res.Location()
		if err != nil || res.StatusCode/100 != 3 {
			return res, nil
		}
		if location.Scheme+"://"+location.Host != w.house.cfg.PublicURL {
			return res, location
		}
		address = location.String()
	}
	w.fail("a page has no end")
	return nil, nil
}

// asks is the form of a page that is posted to path; nil where there is none.
func asks(page *http.Response, path string) *form {
	for _, f := range forms(page) {
		if f.post && f.action.Path == path {
			return f
		}
	}
	return nil
}

// live tells whether a browser has a live login.
func (w *world) live(b *modelBrowser) bool { return w.login(b.login) == isLive }

// signOutByPage opens the sign-out page and presses its button.
func (w *world) signOutByPage(b *modelBrowser) {
	page, _ := w.page(b, w.house.cfg.PublicURL+"/logout", nil)
	f := asks(page, "/logout")
	if (f != nil) != w.live(b) {
		w.fail("the sign-out page asks at browser %d: %v, whose login is live: %v", b.n, f != nil, w.live(b))
	}
	w.note("the sign-out page at browser %d (asks: %v)", b.n, f != nil)
	if f == nil {
		return
	}
	w.page(b, "", f)
	w.endLogin(b.login, "signed out by the page", decided)
	b.login = nil
	w.did("sign-out by the page")
}

// logout sends a browser from an application to sign out, with an ID token that
// the application has, or, as variants 9 to 11, without one.
func (w *world) logout(s *modelStep, b *modelBrowser, hint *modelHint, c *modelClient) {
	if s.variant >= 9 {
		hint = nil
	}
	query := url.Values{"state": {"gone"}}
	if hint != nil {
		c = hint.session.client
		query.Set("id_token_hint", hint.value)
	} else {
		query.Set("client_id", c.id)
	}
	if c.deleted || c.id == modelGuest && !c.registered {
		return
	}
	query.Set("post_logout_redirect_uri", c.home())
	page, to := w.page(b, w.issuer(c.server)+"/end_session?"+query.Encode(), nil)
	f := asks(page, "/logout")
	w.note("%s has browser %d sign out (hint of session: %v; asks: %v)", c.id, b.n, hint != nil, f != nil)
	l := b.login
	if !w.live(b) {
		// Nobody is sent away without a click because somebody wrote a client_id.
		if f != nil || (to != nil) != (hint != nil) {
			w.fail("nobody is signed in at browser %d; it is asked: %v, and sent back: %v", b.n, f != nil, to != nil)
		}
		return
	}
	// A hint without sid is of a session that had lost its login, so it tells
	// nothing of whose browser this is.
	proven := hint != nil && hint.sid && hint.session.login == l
	// What has ended long ago may be forgotten.
	forgotten := proven && hint.session.over != "" && w.now.Sub(hint.session.ended) >= modelHistory
	if proven != (f == nil) && !forgotten {
		w.fail("browser %d is asked: %v; the hint proves that it may be signed out: %v", b.n, f != nil, proven)
	}
	if f != nil {
		if s.variant%2 == 1 {
			w.did("logout by an application: stays")
			return
		}
		_, to = w.page(b, "", f)
		w.did("logout by an application: asked")
	} else {
		w.did("logout by an application: by its hint")
	}
	if to == nil || !strings.HasPrefix(to.String(), c.home()) || to.Query().Get("state") != "gone" {
		w.fail("browser %d is sent to %v after the logout", b.n, to)
	}
	w.endLogin(l, "logged out by "+c.id, decided)
	b.login = nil
}

// accountForm opens a page of the account and returns the form that asks there,
// nil where there is none. Nobody sees it who is not signed in; who does so uses
// his login.
func (w *world) accountForm(b *modelBrowser, path, query string) *form {
	page, _ := w.page(b, w.house.cfg.PublicURL+path+query, nil)
	if at := page.Request.URL.Path; (at != "/login") != w.live(b) {
		w.fail("the account page at browser %d leads to %s; its login is live: %v", b.n, at, w.live(b))
	}
	if !w.live(b) {
		w.note("nobody is signed in at browser %d", b.n)
		return nil
	}
	b.login.used = w.now
	return asks(page, path)
}

// account ends from the account page all other sign-ins, all, one sign-in, or
// one session that goes on without one.
func (w *world) account(s *modelStep, b *modelBrowser) {
	const path = "/account/sessions/"
	l := b.login
	switch {
	case s.variant < 6:
		what := "others"
		if s.variant >= 4 {
			what = "all"
		}
		f := w.accountForm(b, path+"end", "?what="+what)
		if !w.live(b) {
			return
		}
		if f == nil {
			w.fail("the account page at browser %d doesn't ask whether to end %s", b.n, what)
		}
		w.page(b, "", f)
		w.note("user %d ends %s at browser %d", l.user.n, what, b.n)
		w.did("account page: " + what)
		if what == "others" {
			w.endUser(l.user, l, "ended by another browser")
			return
		}
		w.endUser(l.user, nil, "everything ended on the account page")
		b.login = nil
	case s.variant < 9:
		target := newest(w.logins, s.pick)
		if target == nil {
			return
		}
		may := w.live(b) && target.user == l.user && w.login(target) == isLive
		if f := w.accountForm(b, path+target.id+"/end", ""); !w.pressed(b, f, may) {
			return
		}
		w.note("login %d ends from browser %d", target.n, b.n)
		w.endLogin(target, "ended on the account page", decided)
		if target == l {
			b.login = nil
		}
		w.did("account page: a login")
	default:
		var detached []*modelSession
		for _, each := range w.sessions {
			if each.detached {
				detached = append(detached, each)
			}
		}
		target := newest(detached, s.pick)
		if target == nil {
			return
		}
		may := w.live(b) && target.login.user == l.user && w.session(target) == isLive
		id := sessions.EntryID(sessions.Key{AuthorizationServer: target.client.server.name, ID: target.sid})
		if f := w.accountForm(b, path+id+"/end", ""); !w.pressed(b, f, may) {
			return
		}
		w.note("session %d ends from browser %d", target.n, b.n)
		w.endForGood(target, nil, "ended on the account page")
		w.did("account page: a detached session")
	}
}

// pressed presses a form's button if it is there, as it must be if it may.
func (w *world) pressed(b *modelBrowser, f *form, may bool) bool {
	if (f != nil) != may {
		w.fail("the account page at browser %d asks: %v; the model says %v", b.n, f != nil, may)
	}
	if f != nil {
		w.page(b, "", f)
	}
	return may
}

// withdrawByPage has whoever sits at a browser take back what he has allowed a
// client.
func (w *world) withdrawByPage(b *modelBrowser, c *modelClient) {
	may := w.live(b) && w.consents[modelConsent{b.login.user, c, false}]
	f := w.accountForm(b, "/account/permissions/withdraw", "?"+url.Values{"server": {c.server.name}, "client": {c.id}}.Encode())
	if !w.pressed(b, f, may) {
		return
	}
	w.note("user %d withdraws his consent to %s on the account page", b.login.user.n, c.id)
	w.withdrawn(b.login.user, c)
	w.did("consent withdrawn on the account page")
}
