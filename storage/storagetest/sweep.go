package storagetest

import (
	"sync"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

const history = 24 * time.Hour

// sweep runs the sweepers of realm and authorization server until there is
// nothing left to do at once.
func (w *world) sweep() sessions.Swept {
	w.Helper()
	var sum sessions.Swept
	for range 100 {
		realm, err := w.realm.Sweep(w.Context(), history, 7)
		w.ok(err)
		server, err := w.as.Sweep(w.Context(), history, 7)
		w.ok(err)
		sum.Add(realm)
		sum.Add(server)
		if !realm.More && !server.More {
			return sum
		}
	}
	w.Fatal("the sweeper never says that it is done")
	return sum
}

// swept fails unless a sweep did what is wanted.
func (w *world) swept(want sessions.Swept, what string) {
	w.Helper()
	got := w.sweep()
	got.More = false
	if got != want {
		w.Errorf("%s: swept %+v, want %+v", what, got, want)
	}
}

// ended fails unless a session has ended for that reason, or lives where the
// reason is empty.
func (w *world) ended(grant string, reason sessions.Reason, what string) {
	w.Helper()
	s := w.state(grant).Session
	switch {
	case s.Ended == nil && reason != "":
		w.Errorf("%s: the session has not ended", what)
	case s.Ended != nil && (s.Ended.Reason != reason || s.Ended.By != (sessions.Actor{})):
		w.Errorf("%s: the session ended by %s for %s, want %q", what, s.Ended.By, s.Ended.Reason, reason)
	}
}

func sweepExpires(w *world) {
	login := w.begin()
	w.client("news")
	w.client("mail")
	plainGrant, _ := w.grant(login, "mail", plain)
	online, _ := w.grant(login, "album", refresh)
	held, _ := w.grant(login, "news", offline)
	w.swept(sessions.Swept{}, "at once")
	for grant, what := range map[string]string{plainGrant: "plain", online: "online", held: "offline"} {
		w.ended(grant, "", what)
	}
	// In use up to now: the sweeper looks, and looks away.
	w.pass(Lifetimes.SessionIdle)
	w.ok(w.realm.Touch(w.Context(), []sessions.Touch{{LoginID: login.ID, AuthorizationServer: "myAS", SessionID: w.state(online).Session.ID, At: w.now()}}))
	w.pass(sessions.IdleSlack + time.Minute)
	w.swept(sessions.Swept{}, "in use")
	w.ended(online, "", "in use")

	// Idle: one session ends by itself, and the others go on.
	w.pass(Lifetimes.SessionIdle)
	w.ok(w.realm.Touch(w.Context(), []sessions.Touch{{LoginID: login.ID, At: w.now()}}))
	w.swept(sessions.Swept{Sessions: 1}, "idle")
	w.ended(online, sessions.ReasonExpired, "idle")

	// The login idle: the plain session ends with it, the offline one is detached.
	w.pass(Lifetimes.LoginIdle + sessions.IdleSlack + time.Minute)
	w.swept(sessions.Swept{Logins: 1, Sessions: 1, Grants: 1}, "the login idle; the grant that ended an hour ago goes")
	w.ended(held, "", "offline")
	if state := w.state(held); !state.Live || !state.Session.Detached {
		w.Errorf("the offline session: live %v, detached %v", state.Live, state.Session.Detached)
	}

	// The offline session idle in its turn.
	w.pass(Lifetimes.OfflineIdle + sessions.IdleSlack + time.Minute)
	w.swept(sessions.Swept{Sessions: 1, Grants: 1, History: 2}, "offline idle: the other two sessions are old enough to go")
	w.ended(held, sessions.ReasonExpired, "offline")
	w.pass(history)
	w.swept(sessions.Swept{Grants: 1, History: 1}, "in the end the last session goes")
	w.swept(sessions.Swept{History: 1}, "and the login behind it")
	w.swept(sessions.Swept{}, "nothing is left")
}

// sweepWithoutOffline: a session that has no grant that outlives the login ends
// in its own time, whatever it had before or could have got.
func sweepWithoutOffline(w *world) {
	w.begin()
	// used has the session used just before it is over, and the sweeper look at it.
	used := func(login *sessions.Login, grant string) {
		w.Helper()
		w.pass(Lifetimes.SessionIdle + sessions.IdleSlack/2)
		w.ok(w.realm.Touch(w.Context(), []sessions.Touch{{LoginID: login.ID, AuthorizationServer: "myAS", SessionID: w.state(grant).Session.ID, At: w.now()}}))
		if got := w.sweep(); got.Sessions != 0 {
			w.Errorf("swept %+v of what is in use", got)
		}
	}
	for what, begin := range map[string]func(*sessions.Login) string{
		"begun with a code for an offline grant, never redeemed": func(login *sessions.Login) string {
			w.authorize(login, "album", offline)
			online, _ := w.grant(login, "album", refresh)
			return online
		},
		"with a code for an offline grant, when the sweeper came": func(login *sessions.Login) string {
			online, _ := w.grant(login, "album", refresh)
			w.authorize(login, "album", offline)
			used(login, online)
			return online
		},
		"with an offline grant that was revoked": func(login *sessions.Login) string {
			online, _ := w.grant(login, "album", refresh)
			held, _ := w.grant(login, "album", offline)
			used(login, online)
			w.mustEndAny(sessions.Target{Grant: held})
			return online
		},
		"with an offline grant that was revoked while a code for another waits": func(login *sessions.Login) string {
			online, _ := w.grant(login, "album", refresh)
			held, _ := w.grant(login, "album", offline)
			used(login, online)
			w.authorize(login, "album", offline)
			w.mustEndAny(sessions.Target{Grant: held})
			return online
		},
	} {
		login := w.login("alex")
		online := begin(login)
		w.pass(Lifetimes.SessionIdle + sessions.IdleSlack + time.Minute)
		w.ok(w.realm.Touch(w.Context(), []sessions.Touch{{LoginID: login.ID, At: w.now()}}))
		if got := w.sweep(); got.Sessions != 1 {
			w.Errorf("a session %s: swept %+v, want a session", what, got)
		}
		w.ended(online, sessions.ReasonExpired, what)
		w.mustEnd(sessions.Target{Login: login.ID}, logout(), 0)
	}
}

func sweepSpares(w *world) {
	login := w.begin()
	waiting, _ := w.authorize(login, "album", refresh)
	w.swept(sessions.Swept{}, "a code that can be redeemed")
	w.redeem(waiting)
	abandoned, _ := w.authorize(login, "album", refresh)
	w.pass(2 * time.Minute)
	w.swept(sessions.Swept{}, "a code that has just expired")
	w.pass(grantsKept)
	w.ok(w.realm.Touch(w.Context(), []sessions.Touch{{LoginID: login.ID, AuthorizationServer: "myAS", SessionID: w.state(waiting).Session.ID, At: w.now()}}))
	w.swept(sessions.Swept{Grants: 1}, "an abandoned code")
	if _, err := w.as.State(w.Context(), abandoned, ""); err == nil {
		w.Error("the abandoned grant is still there")
	}
	w.live(waiting, true, "the redeemed grant")

	// A session that was ended by the user goes, once its login has ended: until
	// then it demands fresh proof.
	w.mustEnd(sessions.Target{Session: w.state(waiting).Session.ID}, logout(), 1)
	for range 30 {
		w.pass(time.Hour)
		w.ok(w.realm.Touch(w.Context(), []sessions.Touch{{LoginID: login.ID, At: w.now()}}))
		if w.now().After(login.ExpiresAt) {
			break
		}
		if got := w.sweep(); got.Logins+got.History != 0 {
			w.Errorf("swept %+v while the login lives", got)
		}
		if _, err := w.as.InsertGrant(w.Context(), w.newGrant(login, "album", refresh)); err == nil {
			w.Fatal("the way back through the login is open")
		}
	}
	w.pass(history)
	if got := w.sweep(); got.Logins != 1 || got.History != 1 {
		w.Errorf("swept %+v", got)
	}
}

// grantsKept is how long the store keeps what a refused token may still name.
const grantsKept = time.Hour

func sweepMarks(w *world) {
	w.client("album")
	w.ok(w.as.RevokeToken(w.Context(), "soon", w.now().Add(time.Minute)))
	w.ok(w.as.RevokeToken(w.Context(), "later", w.now().Add(time.Hour)))
	w.ok(w.as.UseAssertion(w.Context(), "album", "one", w.now().Add(time.Minute)))
	w.ok(w.a.Server("second", "staff").RevokeToken(w.Context(), "soon", w.now().Add(time.Minute)))
	w.pass(time.Minute)
	w.swept(sessions.Swept{Marks: 2}, "what has expired, of this authorization server")
	if ok, err := w.as.ClientToken(w.Context(), "album", "later"); err != nil || ok {
		w.Errorf("the other revoked token is good again: %v, %v", ok, err)
	}
}

// sweepRenewals is a day of silent renewals, every five minutes, each an
// authorization of its own.
func sweepRenewals(w *world) {
	login := w.begin()
	w.client("news")
	kept, _ := w.grant(login, "album", refresh)
	for n := range 80 {
		w.pass(5 * time.Minute)
		last := w.newGrant(login, "news", plain)
		last.Grant.RemovableAt = w.now().Add(6 * time.Minute)
		session, err := w.as.InsertGrant(w.Context(), last)
		w.ok(err)
		w.redeem(last.Grant.ID)
		w.ok(w.realm.Touch(w.Context(), []sessions.Touch{{LoginID: login.ID, AuthorizationServer: "myAS", SessionID: session.ID, At: w.now()},
			{AuthorizationServer: "myAS", SessionID: w.state(kept).Session.ID, At: w.now()}}))
		if got := w.sweep(); n > 2 && got.Grants != 1 {
			w.Fatalf("renewal %d: swept %+v, want the grant before", n, got)
		}
		w.live(last.Grant.ID, true, "renewal %d", n)
	}
	w.live(kept, true, "the other client's grant")
}

func raceSweepers(w *world) {
	login := w.begin()
	var grants []string
	for range 10 {
		name := w.id("client", 12)
		w.client(name)
		grant, _ := w.grant(login, name, refresh)
		grants = append(grants, grant)
	}
	w.pass(Lifetimes.LoginIdle * 2)
	var total sessions.Swept
	var mu sync.Mutex
	var group sync.WaitGroup
	for _, h := range []Handles{w.a, w.b, w.a, w.b} {
		realm, server := h.Realm("staff"), h.Server("myAS", "staff")
		group.Go(func() {
			one, err := realm.Sweep(w.Context(), history, 100)
			if err != nil {
				w.Error(err)
			}
			two, err := server.Sweep(w.Context(), history, 100)
			if err != nil {
				w.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			total.Add(one)
			total.Add(two)
		})
	}
	group.Wait()
	if total.Logins != 1 || total.Sessions != 10 {
		w.Errorf("four sweepers at once: %+v, want one login and ten sessions", total)
	}
	for _, grant := range grants {
		w.ended(grant, sessions.ReasonExpired, "after the race")
	}
}
