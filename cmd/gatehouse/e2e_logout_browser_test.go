//go:build unix

package main

import (
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/configs"
)

// Where relying parties are gone back to after a logout, what frames open, the
// page that tells who is signed in at one, and a page that posts a logout request.
const (
	byePath   = "/bye/"
	frontPath = "/front/"
	homePath  = "/home/"
	postPath  = "/post-logout-request"
)

// endSession is a logout request to an authorization server.
func (o *office) endSession(as string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return o.Issuer(as) + "/end_session?" + q.Encode()
}

// leaving answers for relying parties what has to do with logout.
func (o *office) leaving(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	switch {
	case strings.HasPrefix(r.URL.Path, byePath):
		fmt.Fprintf(w, `<h1>Bye</h1><p id="result">bye %s</p>`, html.EscapeString(r.URL.Query().Get("state")))
	case strings.HasPrefix(r.URL.Path, frontPath):
		o.mu.Lock()
		o.told = append(o.told, r.URL.Path+"?"+r.URL.RawQuery)
		// By the sid alone: a frame of another site has no cookie to go by.
		delete(o.kept, r.URL.Query().Get("iss")+" "+r.URL.Query().Get("sid"))
		o.mu.Unlock()
		fmt.Fprint(w, `<p>noted</p><script>if (top !== self) { try { top.location = "https://evil.example/" } catch {} }</script>`)
	case strings.HasPrefix(r.URL.Path, homePath):
		who := ""
		if cookie, err := r.Cookie(homeCookie(strings.TrimPrefix(r.URL.Path, homePath))); err == nil {
			key, _ := url.QueryUnescape(cookie.Value)
			o.mu.Lock()
			who = o.kept[key]
			o.mu.Unlock()
		}
		result := "nobody is signed in"
		if who != "" {
			result = who + " is signed in"
		}
		fmt.Fprintf(w, `<h1>Home</h1><p id="result">%s</p>`, html.EscapeString(result))
	case r.URL.Path == postPath:
		to := r.URL.Query()
		fmt.Fprintf(w, `<form method="post" action="%s">`, html.EscapeString(to.Get("to")))
		for name, values := range to {
			if name != "to" {
				fmt.Fprintf(w, `<input type="hidden" name="%s" value="%s">`, html.EscapeString(name), html.EscapeString(values[0]))
			}
		}
		fmt.Fprint(w, `<button id="post">Post</button></form>`)
	default:
		w.Header().Del("Content-Type")
		return false
	}
	return true
}

// keep remembers an arrival as a session of the relying party's own, under issuer
// and sid, which a cookie of its pages names.
func (o *office) keep(w http.ResponseWriter, rp *relyingParty, a *landing) {
	key := rp.issuer + " " + a.SID
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.kept == nil {
		o.kept = map[string]string{}
	}
	o.kept[key] = a.ID.Subject
	http.SetCookie(w, &http.Cookie{Name: homeCookie(rp.as), Value: url.QueryEscape(key), Path: homePath, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// homeCookie is the cookie of an authorization server's relying party. Those of
// one authorization server share it.
func homeCookie(as string) string { return "home-" + as }

// hint is the ID token of the relying party's latest sign-in, and its sid.
func (rp *relyingParty) hint(t *testing.T, state string) (idToken, sid string) {
	t.Helper()
	rp.mu.Lock()
	defer rp.mu.Unlock()
	a := rp.arrived[state]
	if a == nil || a.Token == nil {
		t.Fatalf("nobody has arrived: %+v", a)
	}
	idToken, _ = a.Token.Extra("id_token").(string)
	return idToken, a.SID
}

// TestBrowserSignsOutAtAnApplicationsWish goes every way of RP-Initiated Logout
// 1.0. The applications are on another site than the server.
func TestBrowserSignsOutAtAnApplicationsWish(t *testing.T) {
	t.Parallel()
	for name, options := range everyBrowser {
		t.Run(name, func(t *testing.T) {
			o := openOffice(t, "")
			c := openBrowser(t, options)
			stop := c.watch()
			trusted, other := o.party("myAS", "trusted"), o.party("partnerAS", "trusted")
			bye := o.app.URL + byePath + "trusted"
			signIn := func() (hint string) {
				t.Helper()
				state := c.visit(trusted)
				c.signIn("alex", "alex-demo")
				trusted.mustHaveWelcomed(c, state, http.MethodGet)
				hint, _ = trusted.hint(t, state)
				return hint
			}
			signedIn := func(want bool) {
				t.Helper()
				state := c.visit(trusted, prompt("none"))
				if want {
					trusted.mustHaveWelcomed(c, state, http.MethodGet)
					return
				}
				c.told("error login_required by GET")
			}

			// With the ID token of this browser's session: no question.
			first := signIn()
			state := c.visit(other)
			other.mustHaveWelcomed(c, state, http.MethodGet) // in the same login
			c.do(chromedp.Navigate(o.endSession("myAS", "id_token_hint", first, "post_logout_redirect_uri", bye, "state", "st <1>")))
			c.told("bye st <1>")
			signedIn(false)

			// With one of another issuer, although of this login, of another user, or
			// of a login that is over, and with none: a question.
			signIn()
			state = c.visit(other)
			other.mustHaveWelcomed(c, state, http.MethodGet)
			foreign, _ := other.hint(t, state)
			theirs := trusted.SignIn(newBrowser(t).As("bea", "bea-demo")).Token
			beas, _ := theirs.Extra("id_token").(string)
			c.do(chromedp.Navigate(o.endSession("myAS", "id_token_hint", foreign, "post_logout_redirect_uri", bye)))
			c.at("/logout")
			c.text("form[action$='/logout'] button")
			signedIn(true)
			for _, pairs := range [][]string{{"id_token_hint", foreign, "client_id", "trusted"}, {"id_token_hint", beas}, {"id_token_hint", first}, {"client_id", "trusted"}} {
				ask := o.endSession("myAS", append(pairs, "post_logout_redirect_uri", bye, "state", "2")...)
				c.do(chromedp.Navigate(ask))
				c.at("/logout")
				if text := c.text("main"); !strings.Contains(text, "trusted") || !strings.Contains(text, "alex") {
					t.Errorf("the page doesn't say who asks whom:\n%s", text)
				}
				c.leave("main a[href*='/login']") // he stays
				c.at("/login")
				signedIn(true)
				c.do(chromedp.Navigate(ask))
				c.at("/logout")
				c.leave("form[action$='/logout'] button")
				if pairs[1] == foreign { // it proves nothing: nobody is sent on
					c.at("/logout")
					c.until("document.querySelector(\"main form, main a[href*='/bye/']\") === null")
				} else {
					c.told("bye 2")
				}
				signedIn(false)
				signIn()
			}
			if beas == "" || !trusted.Active(t, theirs.AccessToken) {
				t.Error("bea was signed out by her own hint in another's browser")
			}

			// A page of another site may post it, too.
			hint := signInAgain(t, c, trusted)
			c.do(chromedp.Navigate(o.app.URL + postPath + "?" + url.Values{"to": {o.Issuer("myAS") + "/end_session"}, "id_token_hint": {hint},
				"post_logout_redirect_uri": {bye}, "state": {"posted"}}.Encode()))
			c.leave("#post")
			c.told("bye posted")
			signedIn(false)

			// Nobody is sent to where the application didn't register.
			hint = signIn()
			for _, uri := range []string{o.app.URL + "/", o.app.URL + byePath + "web", "https://evil.example/", "//evil.example/", bye + "#"} {
				c.do(chromedp.Navigate(o.endSession("myAS", "id_token_hint", hint, "post_logout_redirect_uri", uri)))
				c.at("/authorization-servers/myAS/end_session")
			}
			signedIn(true)

			// Without an application there is nowhere to go.
			c.do(chromedp.Navigate(o.endSession("myAS")))
			c.at("/logout")
			c.leave("form[action$='/logout'] button")
			c.at("/logout")
			if !evaluate[bool](c, "document.querySelector('.seal') !== null") {
				t.Errorf("the page doesn't say that he is signed out:\n%s", c.text("main"))
			}
			signedIn(false)
			c.do(chromedp.Navigate(o.endSession("myAS", "client_id", "trusted", "post_logout_redirect_uri", bye, "state", "3")))
			c.at("/logout")
			c.leave("main a[href*='/bye/']") // by the person's own click
			c.told("bye 3")

			hosts, refused := stop()
			for _, host := range hosts {
				if host != o.URL && host != o.app.URL {
					t.Errorf("a request went to %s", host)
				}
			}
			if len(refused) > 0 {
				t.Errorf("the browser refused %q", refused)
			}
		})
	}
}

// signInAgain signs a browser in again that is signed in, and returns the ID token.
func signInAgain(t *testing.T, c *chromium, rp *relyingParty) string {
	t.Helper()
	state := c.visit(rp)
	rp.mustHaveWelcomed(c, state, http.MethodGet)
	hint, _ := rp.hint(t, state)
	return hint
}

// subject is whose an arrival was.
func (rp *relyingParty) subject(state string) string {
	rp.mu.Lock()
	defer rp.mu.Unlock()
	return rp.arrived[state].ID.Subject
}

// TestBrowserTellsApplicationsInFrames: Front-Channel Logout 1.0, with scripts and
// without, of clients of two authorization servers: who was signed in at their own
// pages isn't any more, in the same browser with the same cookies. A frame can't
// take the page over.
func TestBrowserTellsApplicationsInFrames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"desktop", "phone without scripts"} {
		t.Run(name, func(t *testing.T) {
			o := openOffice(t, "", func(cfg *configs.Config) {
				for _, as := range cfg.AuthorizationServers {
					as.FrontChannelLogout = true
				}
			})
			c := openBrowser(t, everyBrowser[name])
			stop := c.watch()
			want := []string{}
			var hint string
			homes := map[string]string{} // what they say to who is signed in
			for i, rp := range []*relyingParty{o.party("myAS", "trusted"), o.party("partnerAS", "trusted")} {
				state := c.visit(rp)
				if i == 0 {
					c.signIn("alex", "alex-demo")
				}
				rp.mustHaveWelcomed(c, state, http.MethodGet)
				var sid string
				hint, sid = rp.hint(t, state)
				homes[o.app.URL+homePath+rp.as] = rp.subject(state) + " is signed in"
				want = append(want, frontPath+"trusted?"+url.Values{"iss": {rp.issuer}, "sid": {sid}}.Encode())
			}
			for home, signedIn := range homes {
				c.do(chromedp.Navigate(home))
				c.told(signedIn)
			}
			began := time.Now()
			c.do(chromedp.Navigate(o.endSession("partnerAS", "id_token_hint", hint, "post_logout_redirect_uri", o.app.URL+byePath+"trusted", "state", "told")))
			c.told("bye told")
			if took := time.Since(began); name == "desktop" && took > 4*time.Second {
				t.Errorf("the page waited for %v although its frames had loaded", took)
			}
			o.mu.Lock()
			told := slices.Sorted(slices.Values(o.told))
			o.mu.Unlock()
			slices.Sort(want)
			if !slices.Equal(told, want) {
				t.Errorf("frames opened %q, want %q", told, want)
			}
			for home := range homes {
				c.do(chromedp.Navigate(home))
				c.told("nobody is signed in")
			}
			hosts, _ := stop()
			for _, host := range hosts {
				if host != o.URL && host != o.app.URL {
					t.Errorf("a request went to %s", host)
				}
			}
		})
	}
}

// TestBrowserWatchesTheSession: Session Management 1.0 §3, as far as a browser
// lets a frame read a cookie. Over plain http the cookie is SameSite=Lax, which a
// frame of another site doesn't have: to such a page every session has changed.
func TestBrowserWatchesTheSession(t *testing.T) {
	t.Parallel()
	var o *office
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<h1>Watching</h1><iframe id="op" src="%s/check_session"></iframe><script>
const state = new URLSearchParams(location.search).get("session_state");
const asked = (message) => new Promise((answered) => {
  addEventListener("message", (e) => { if (e.origin === %q) answered(e.data) }, {once: true});
  document.getElementById("op").contentWindow.postMessage(message, %q);
});
</script>`, o.Issuer("myAS"), o.URL, o.URL)
	}))
	t.Cleanup(app.Close)
	near := strings.Replace(app.URL, "127.0.0.1", "localhost", 1) + "/watch"
	far := app.URL + "/watch"
	o = openOffice(t, "", func(cfg *configs.Config) {
		as := cfg.AuthorizationServers["myAS"]
		as.SessionManagement = true
		m := clients.Metadata{ClientID: "watcher of sessions", ClientSecret: "watcher-secret", RedirectURIs: []string{near, far}, Scope: "openid", SkipConsent: true}
		m.Defaults(as.AccessToken.Format)
		as.Clients = append(as.Clients, m)
	})
	c := openBrowser(t, browserOptions{})
	request := func(redirect string, more ...string) string {
		q := url.Values{"client_id": {"watcher of sessions"}, "response_type": {"code"}, "scope": {"openid"}, "nonce": {"n"}, "redirect_uri": {redirect}}
		for i := 0; i < len(more); i += 2 {
			q.Set(more[i], more[i+1])
		}
		return o.Issuer("myAS") + "/authorize?" + q.Encode()
	}
	ask := func(message string) string {
		t.Helper()
		c.at("/watch")
		answer, err := chromedp.Run(c.ctx, chromedp.Evaluate[string]("asked("+message+")", chromedp.EvalAwaitPromise))
		if err != nil {
			c.fail(err)
		}
		return answer
	}
	const whole = `"watcher of sessions " + state`
	mustSay := func(want, message string) {
		t.Helper()
		if got := ask(message); got != want {
			t.Errorf("the frame says %q to %s, want %q", got, message, want)
		}
	}

	stop := c.watch()
	c.do(chromedp.Navigate(request(near)))
	c.signIn("alex", "alex-demo")
	mustSay("unchanged", whole)
	mustSay("changed", `"another client " + state`)
	mustSay("changed", `"watcher of sessions " + state + "x"`)
	for _, malformed := range []string{`"watcher of sessions"`, `""`, `{}`, `null`, `"a b"`, `"watcher of sessions " + state.split(".")[0]`, `"x".repeat(2000) + " " + state`} {
		mustSay("error", malformed)
	}
	watched := evaluate[string](c, "location.href")
	if _, refused := stop(); len(refused) > 0 {
		t.Errorf("the browser refused %q", refused)
	}

	c.do(chromedp.Navigate(request(far)))
	mustSay("changed", whole)

	c.do(chromedp.Navigate(o.URL + "/logout"))
	c.leave("form[action$='/logout'] button")
	c.do(chromedp.Navigate(watched))
	mustSay("changed", whole)

	c.do(chromedp.Navigate(request(near)))
	c.signIn("bea", "bea-demo")
	mustSay("unchanged", whole)
	c.do(chromedp.Navigate(watched)) // alex's
	mustSay("changed", whole)
}
