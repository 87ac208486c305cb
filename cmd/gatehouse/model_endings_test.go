//go:build unix

package main

import (
	"errors"
	"net/http"
	"strings"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage"
)

// end ends sessions over the session API with an access token: its own, one of
// all, all, or all but its own.
func (w *world) end(t *modelToken, s *modelSession, variant int) {
	if t == nil {
		return
	}
	own := t.grant.session
	c := own.client
	good := w.token(t)
	path, want, what := "/session/", http.StatusNoContent, []*modelSession{own}
	switch {
	case variant < 5 && s.sid != "":
		path, what = "/sessions/"+s.sid+"/", []*modelSession{s}
		if !w.visible(s, own) || w.session(s) == isDead {
			want, what = http.StatusNotFound, nil
		}
	case variant < 8:
	default:
		path, what = "/sessions/", nil
		for _, each := range w.sessions {
			// A session that has given out no token yet is ended as well.
			if each.login.user == own.login.user && each.client.server == c.server && (each.client == c || !c.server.ownOnly) &&
				!(variant >= 10 && each == own) {
				what = append(what, each)
			}
		}
		if variant >= 10 {
			path += "?excludeCurrent=true"
		}
	}
	if good == isDead {
		want, what = http.StatusUnauthorized, nil
	}
	a := w.withToken(t, http.MethodDelete, path)
	w.note("%s sends DELETE %s with %s: %d", c.id, strings.Replace(path, s.sid, "SID", 1), t, a.status)
	if a.status != want {
		w.fail("DELETE with %s is answered %d, want %d: the token is %s (%s)", t, a.status, want, good, w.why(t.grant))
	}
	if good == isLive {
		w.use(own)
		w.did("DELETE over the session API")
	}
	for _, each := range what {
		w.endForGood(each, c, "ended over the session API by "+c.id)
	}
}

// operatorEnd ends what the commands end: a session, a login, everything of a
// user, or his sessions at one client.
func (w *world) operatorEnd(s *modelStep, u *modelUser, c *modelClient) {
	const why = "ended by the operator"
	end := func(server string, target sessions.Target, ended bool) {
		_, err := w.here().managers[server].End(w.t.Context(), target, sessions.Ending{By: operator(), Reason: sessions.ReasonEndedByOperator})
		if err != nil && !errors.Is(err, sessions.ErrNotFound) || ended && err != nil {
			w.fail("ending %+v: %v", target, err)
		}
		w.did("end by the operator")
	}
	switch s.variant {
	case 0, 1, 2, 3, 4:
		session := newest(w.sessions, s.pick)
		if session == nil || session.sid == "" {
			return
		}
		w.note("the operator ends session %d", session.n)
		live := w.session(session) == isLive
		end(session.client.server.name, sessions.Target{Session: session.sid}, live)
		if live {
			w.endForGood(session, nil, why)
		}
	case 5, 6, 7:
		l := newest(w.logins, s.pick)
		if l == nil {
			return
		}
		w.note("the operator ends login %d", l.n)
		end(modelMyAS.name, sessions.Target{Login: l.id}, w.login(l) == isLive)
		w.endLogin(l, why, decided)
	case 8, 9:
		w.note("the operator ends everything of user %d", u.n)
		end(modelMyAS.name, sessions.Target{User: u.id}, true)
		w.endUser(u, nil, why)
	default:
		w.note("the operator ends the sessions of user %d at %s", u.n, c.id)
		end(c.server.name, sessions.Target{Client: c.id, OfUser: u.id}, false)
		w.endAt(u, c, why)
	}
}

// endAt tells the model that the sessions of a user at a client ended.
func (w *world) endAt(u *modelUser, c *modelClient, why string) {
	for _, s := range w.sessions {
		if s.login.user == u && s.client == c {
			w.endForGood(s, nil, why)
		}
	}
}

// lock locks a user, or unlocks the one that is locked.
func (w *world) lock(u *modelUser) {
	for _, other := range w.users {
		if other.locked {
			u = other
		}
	}
	if u.locked {
		w.note("user %d is unlocked", u.n)
		if err := w.here().realm.UnlockUser(w.t.Context(), u.id); err != nil {
			w.fail("unlocking: %v", err)
		}
		u.locked = false
		w.did("unlock")
		return
	}
	w.note("user %d is locked", u.n)
	w.affect(u, sessions.ReasonUserLocked, sessions.LockUser{UserID: u.id})
	u.locked = true
	w.did("lock")
}

func (w *world) setPassword(u *modelUser) {
	u.password = 1 - u.password
	w.note("user %d gets another password", u.n)
	w.affect(u, sessions.ReasonPasswordChanged, sessions.SetPassword{UserID: u.id, PHC: w.house.phcs[u.password]})
	w.did("password")
}

// affect changes an account and ends everything of it.
func (w *world) affect(u *modelUser, reason sessions.Reason, effect sessions.Effect) {
	_, err := w.here().managers[modelMyAS.name].End(w.t.Context(), sessions.Target{User: u.id},
		sessions.Ending{By: operator(), Reason: reason, Effects: []sessions.Effect{effect}})
	if err != nil {
		w.fail("ending everything of user %d: %v", u.n, err)
	}
	w.endUser(u, nil, string(reason))
}

// withdraw takes a user's consent to a client back, with its sessions.
// withdraw takes a user's consent back: from the account page, or as it does.
func (w *world) withdraw(s *modelStep, b *modelBrowser, u *modelUser, c *modelClient) {
	if s.variant >= 4 && c.asks {
		w.withdrawByPage(b, c)
		return
	}
	w.note("user %d withdraws his consent to %s", u.n, c.id)
	_, err := w.here().managers[c.server.name].End(w.t.Context(), sessions.Target{Client: c.id, OfUser: u.id}, sessions.Ending{
		By: sessions.Actor{Kind: sessions.ActorUser, ID: u.id}, Reason: sessions.ReasonConsentWithdrawn,
		Effects: []sessions.Effect{sessions.WithdrawConsent{AuthorizationServer: c.server.name, UserID: u.id, ClientID: c.id}}})
	if err != nil && !errors.Is(err, sessions.ErrNotFound) {
		w.fail("withdrawing a consent: %v", err)
	}
	w.withdrawn(u, c)
	w.did("consent withdrawn")
}

// withdrawn tells the model of a withdrawn consent.
func (w *world) withdrawn(u *modelUser, c *modelClient) {
	delete(w.consents, modelConsent{u, c, false})
	delete(w.consents, modelConsent{u, c, true})
	w.endAt(u, c, "consent withdrawn")
}

// sweep has the present node do what it does once a minute.
func (w *world) sweep() {
	w.note("node %d sweeps", w.transport.node)
	w.here().sweeper.pass(w.t.Context())
	w.model.swept()
	w.did("sweep")
}

// sweepEndings sweeps what can be over by time, and nothing else.
func (w *world) sweepEndings() {
	n := w.here()
	_, err := n.realm.Sweep(w.t.Context(), modelHistory, sweepBatch)
	for _, store := range n.stores {
		if err == nil {
			_, err = store.Sweep(w.t.Context(), modelHistory, sweepBatch)
		}
	}
	if err != nil {
		w.fail("sweeping: %v", err)
	}
	w.model.swept()
}

// register registers the guest when it is first wanted. It reports whether there
// is a client.
func (w *world) register(c *modelClient) bool {
	if c.id != modelGuest || c.registered {
		return !c.deleted
	}
	client := &clients.Client{Metadata: c.metadata()}
	err := w.here().stores[c.server.name].InsertClient(w.t.Context(), client)
	if err != nil && !errors.Is(err, storage.ErrClientExists) { // a sequence that failed has left it
		w.fail("registering a client: %v", err)
	}
	c.registered = true
	return true
}

// deleteClient deletes the guest, with its sessions.
func (w *world) deleteClient(c *modelClient) {
	if !c.registered || c.deleted {
		return
	}
	w.note("the client %s is deleted", c.id)
	_, err := w.here().managers[c.server.name].End(w.t.Context(), sessions.Target{Client: c.id}, sessions.Ending{By: operator(),
		Reason: sessions.ReasonClientDeleted, Effects: []sessions.Effect{sessions.DeleteClient{AuthorizationServer: c.server.name, ClientID: c.id}}})
	if err != nil {
		w.fail("deleting a client: %v", err)
	}
	c.deleted = true
	for _, s := range w.sessions {
		if s.client == c {
			w.endForGood(s, nil, "its client was deleted")
		}
	}
	w.did("client deleted")
}
