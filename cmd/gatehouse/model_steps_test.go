//go:build unix

package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// run takes the steps of a sequence, asks after each one, and asks about
// everything at the end.
func (w *world) run(script modelScript) {
	for i := range script {
		w.taken = i + 1
		w.house.steps++
		w.tick()
		s := &script[i]
		// While the rules leave open what lives, nothing is done but asking.
		for w.model.open() {
			w.note("waits until it is decided what lives")
			w.wait(modelSlack + modelBatch)
		}
		w.transport.node = s.node
		w.step(s)
		w.show()
		for _, a := range s.asks {
			w.ask(a)
		}
	}
	w.askAll()
	w.tidy()
	w.house.done["detached"] += w.detachments
}

// newest takes the n-th newest of a list; nil where it is empty.
func newest[T any](list []*T, n int) *T {
	if len(list) == 0 {
		return nil
	}
	return list[len(list)-1-n%len(list)]
}

// step takes one step. What it chooses from may be empty: then it does nothing.
func (w *world) step(s *modelStep) {
	b, u, c := w.browsers[s.browser], w.users[s.user], w.clients[s.client]
	switch s.op {
	case opAuthorize:
		w.authorize(s, b, u, c)
	case opSignIn:
		w.signIn(b, u)
	case opSignOut:
		w.signOut(b, s.variant >= 6)
	case opRedeem:
		w.redeem(newest(w.grants, s.pick), s.variant)
	case opRefresh:
		w.refresh(newest(w.kind(true), s.pick), s.variant)
	case opRevoke:
		w.revoke(newest(w.kind(s.variant%2 == 1), s.pick), s.variant)
	case opEnd:
		w.end(newest(w.kind(false), s.pick), newest(w.sessions, s.pick/2), s.variant)
	case opOperatorEnd:
		w.operatorEnd(s, u, c)
	case opLock:
		w.lock(u)
	case opPassword:
		w.setPassword(u)
	case opWithdraw:
		w.withdraw(s, b, u, c)
	case opWait:
		w.note("%s pass", s.wait)
		w.wait(s.wait)
	case opSweep:
		w.sweep()
	case opFlush:
		w.here().flush(w.t.Context())
	case opLogout:
		w.logout(s, b, newest(w.hints, s.pick), c)
	case opAccount:
		w.account(s, b)
	case opDelete:
		w.deleteClient(w.clients[len(w.clients)-1])
	case opDeliver:
		w.deliver(s, c)
	case opOutbox:
		w.outbox()
	}
}

// kind are the refresh tokens, or the access tokens.
func (w *world) kind(refresh bool) (list []*modelToken) {
	for _, t := range w.tokens {
		if (t.generation > 0) == refresh {
			list = append(list, t)
		}
	}
	return list
}

// Authorization requests come without a prompt, with prompt=none, with
// prompt=login, and for offline access; of those that lead to the sign-in page
// few fill it in, because checking a password takes long.
func (w *world) authorize(s *modelStep, b *modelBrowser, u *modelUser, c *modelClient) {
	if !w.register(c) {
		return
	}
	offline := c.refreshes && s.pick%3 == 1
	prompt := map[int]string{1: "none", 2: "none"}[s.variant]
	typed := s.variant >= 10 && s.pick >= 11
	if typed && s.variant == 10 {
		prompt = "login"
	}
	request := w.request(c, offline, prompt)
	for _, session := range w.sessions {
		// Behind 20 grants of one session the oldest ends, which is not the
		// model's subject.
		if session.login == b.login && session.client == c && len(session.grants) >= 15 {
			return
		}
	}
	w.note("browser %d authorizes %s (offline %v, prompt %q)", b.n, c.id, offline, prompt)
	must := w.mustSignIn(b.login, c, offline)
	mayAsk := c.asks && (b.login == nil || !w.consents[modelConsent{b.login.user, c, offline}])
	var way modelWay
	switch {
	case prompt == "none":
		way = w.open(b, request, "", "")
		refusal := way.failure == "login_required" || (mayAsk && way.failure == "consent_required")
		switch {
		case way.code == "" && !refusal, way.code != "" && (must == isDead || mayAsk), way.code == "" && must == isLive && !mayAsk:
			w.fail("prompt=none of %s at browser %d got code %v, error %q; the model says %s to the login and %v to asking for consent",
				c.id, b.n, way.code != "", way.failure, must, mayAsk)
		}
		w.did("prompt=none: " + map[bool]string{true: "code", false: way.failure}[way.code != ""])
	case typed:
		way = w.typed(s, b, u, request, must, prompt == "login")
	default:
		way = w.open(b, request, "", "")
		if must != isEither && way.signIn != (must == isDead) {
			w.fail("the request of %s at browser %d leads to the sign-in page: %v; the model says %s to the login", c.id, b.n, way.signIn, must)
		}
		if way.signIn && w.signIn(b, u) {
			way = w.open(b, request, "", "")
		}
		if way.code == "" && !(way.signIn && u.locked) {
			w.fail("the request of %s at browser %d got no code but %+v", c.id, b.n, way)
		}
	}
	if way.code == "" {
		w.note("no code")
		return
	}
	g := w.model.authorize(b.login, c, offline, way.code)
	w.note("grant %d of session %d", g.n, g.session.n)
	w.did("code")
	if s.variant%4 != 0 {
		w.redeem(g, 0)
	}
}

// typed opens a request and fills in the sign-in page where it comes to it.
func (w *world) typed(s *modelStep, b *modelBrowser, u *modelUser, request string, must verdict, forced bool) modelWay {
	asked := forced || must == isDead
	if asked && s.pick == 15 {
		// A password that was replaced proves nothing.
		if way := w.open(b, request, u.name, w.house.passwords[1-u.password]); way.code != "" {
			w.fail("user %d signs in at browser %d with another password than his", u.n, b.n)
		}
		w.did("wrong password")
		return modelWay{}
	}
	before := b.login
	way := w.open(b, request, u.name, w.house.passwords[u.password])
	switch {
	case asked && u.locked:
		if way.code != "" {
			w.fail("the locked user %d signs in at browser %d", u.n, b.n)
		}
		return modelWay{}
	case must == isEither:
		asked = w.present(b) == nil || before == nil || w.present(b).AuthTime.Equal(w.now)
	}
	if way.code == "" && !u.locked {
		w.fail("the request at browser %d got no code but %+v after user %d could sign in", b.n, way, u.n)
	}
	if asked && way.code != "" {
		w.note("user %d types his password", u.n)
		w.signedIn(b, u)
		w.did("sign-in by the page")
	}
	return way
}

// signOut signs a browser out, from the sign-out page or without having seen it.
func (w *world) signOut(b *modelBrowser, page bool) {
	if page {
		w.signOutByPage(b)
		return
	}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.house.cfg.PublicURL+"/logout", strings.NewReader(""))
	if err != nil {
		w.fail("signing out: %v", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := b.by.do(req)
	if err != nil || res.StatusCode != http.StatusOK {
		w.fail("signing out at browser %d: %v, %v", b.n, res, err)
	}
	w.note("sign-out at browser %d", b.n)
	if b.login != nil {
		w.endLogin(b.login, "signed out", decided)
		w.did("sign-out")
	}
	b.login = nil
}

// redeem presents a code: variant 0 to 6 as its client does, whether or not it
// was redeemed before, and else as somebody else does or with a wrong verifier.
func (w *world) redeem(g *modelGrant, variant int) {
	if g == nil {
		return
	}
	c, verifier := g.session.client, pkceVerifier
	by := c
	switch {
	case variant >= 10:
		verifier = strings.Repeat("w", 43)
	case variant >= 8:
		by = w.another(c)
	}
	a := w.asClient(by, "/token", "grant_type", "authorization_code", "code", g.code, "redirect_uri", c.redirectURI, "code_verifier", verifier)
	right := by == c && verifier == pkceVerifier
	w.note("%s redeems the code of grant %d (right verifier: %v): %d", by.id, g.n, verifier == pkceVerifier, a.status)
	if want := right && w.code(g) == isLive; want != (a.status == http.StatusOK) {
		w.fail("redeeming the code of grant %d is answered with %d %s; the model says it is good: %v (%s)", g.n, a.status, a.Error, want, w.why(g))
	}
	switch {
	case a.status == http.StatusOK:
		w.model.redeem(g, a.Access, a.Refresh)
		w.name(g.session, a.ID)
		if (a.Refresh != "") != c.refreshes {
			w.fail("%s got a refresh token: %v", c.id, a.Refresh != "")
		}
		w.did("redeemed")
	case a.Access+a.Refresh != "":
		w.fail("a refused code got tokens")
	case right && !g.redeemed.IsZero():
		if w.now.Sub(g.redeemed) > modelReplayGrace && w.grant(g) != isDead {
			w.endGrant(g, "its code was redeemed twice")
			w.did("code replayed")
		} else {
			w.did("code repeated in time or too late")
		}
	case by == c && verifier != pkceVerifier && g.redeemed.IsZero():
		if g.over == "" {
			g.over = "a wrong verifier burned its code"
			w.did("code burned")
		}
	}
}

// another is another client of the same authorization server.
func (w *world) another(c *modelClient) *modelClient {
	for _, other := range modelClients {
		if other != c && other.server == c.server && other.refreshes == c.refreshes {
			return other
		}
	}
	for _, other := range modelClients {
		if other != c && other.server == c.server {
			return other
		}
	}
	return c
}

// name takes a session's id from the ID token: a session that goes on keeps it,
// and no two have the same.
func (w *world) name(s *modelSession, idToken string) {
	var claims struct {
		SID     string `json:"sid"`
		Subject string `json:"sub"`
	}
	parts := strings.Split(idToken, ".")
	if len(parts) != 3 {
		w.fail("session %d has no ID token", s.n)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	w.hints = append(w.hints, &modelHint{s, idToken, claims.SID != ""})
	if err != nil || claims.SID == "" != s.detached || claims.Subject != s.login.user.id {
		w.fail("session %d (detached: %v) has an ID token with a sid: %v; or of another user, or: %v", s.n, s.detached, claims.SID != "", err)
	}
	if s.detached {
		return
	}
	for _, other := range w.sessions {
		if other != s && other.sid == claims.SID {
			w.fail("session %d has the sid of session %d, which it is not (%s)", s.n, other.n, other.over)
		}
	}
	if s.sid != "" && s.sid != claims.SID {
		w.fail("session %d, which goes on, has another sid than before", s.n)
	}
	s.sid, s.subject = claims.SID, claims.Subject
}

// refresh presents a refresh token of any generation, by its client or, as
// variants 10 and 11, by another one.
func (w *world) refresh(t *modelToken, variant int) {
	if t == nil {
		return
	}
	g, c := t.grant, t.grant.session.client
	by := c
	if variant >= 10 {
		by = w.another(c)
	}
	a := w.asClient(by, "/token", "grant_type", "refresh_token", "refresh_token", t.value)
	w.note("%s refreshes with %s: %d", by.id, t, a.status)
	want := by == c && w.token(t) == isLive
	if want != (a.status == http.StatusOK) {
		w.fail("%s refreshes with %s and is answered %d %s; the model says it is good: %v (%s)", by.id, t, a.status, a.Error, want, w.why(g))
	}
	switch {
	case a.status != http.StatusOK && a.Access+a.Refresh != "":
		w.fail("a refused refresh got tokens")
	case a.status == http.StatusOK:
		w.issue(g, a.Access)
		w.name(g.session, a.ID)
		switch {
		case !c.rotates, t.generation < g.generation:
			if a.Refresh != g.refresh[g.generation-1] {
				w.fail("%s got another refresh token than the current one of grant %d", by.id, g.n)
			}
			w.did("refreshed with the same token in return")
		default:
			if a.Refresh == "" || a.Refresh == t.value {
				w.fail("the refresh token of grant %d was not rotated", g.n)
			}
			g.generation++
			g.rotated = w.now
			w.hold(g, a.Refresh)
			w.did("rotated")
		}
		w.refreshed(g)
	case by == c && w.grant(g) == isLive && w.now.Sub(g.rotated) >= modelGrace:
		w.endGrant(g, "a refresh token was used again")
		w.did("refresh token reused")
	case by == c && w.grant(g) == isLive:
		w.did("old refresh token in the grace")
	}
}

// revoke revokes a token, by its client or, as variants 10 and 11, by another.
func (w *world) revoke(t *modelToken, variant int) {
	if t == nil {
		return
	}
	c := t.grant.session.client
	by := c
	if variant >= 10 {
		by = w.another(c)
	}
	a := w.asClient(by, "/revoke", "token", t.value)
	w.note("%s revokes %s: %d", by.id, t, a.status)
	if by == c && a.status != http.StatusOK && !c.deleted {
		w.fail("%s can't revoke %s: %d %s", by.id, t, a.status, a.Error)
	}
	switch {
	case by != c:
	case t.generation == 0:
		t.revoked = true
		w.did("access token revoked")
	default:
		w.endGrant(t.grant, "its refresh token was revoked")
		w.did("refresh token revoked")
	}
}

// why tells why a grant is over.
func (w *world) why(g *modelGrant) string {
	for _, reason := range []string{g.over, g.session.over, g.session.login.over} {
		if reason != "" {
			return reason
		}
	}
	return "nothing ended it; its login was used " + w.now.Sub(g.session.login.used).Round(time.Second).String() + " ago"
}
