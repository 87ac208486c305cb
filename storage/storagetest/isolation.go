package storagetest

import (
	"time"

	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

func failedEffect(w *world) {
	login := w.begin()
	g := w.newGrant(login, "album", refresh)
	g.Consent = &sessions.Consent{Scopes: []string{"openid"}, At: w.now()}
	session, err := w.as.InsertGrant(w.Context(), g)
	w.ok(err)
	w.redeem(g.Grant.ID)
	password := sessions.SetPassword{UserID: "alex", PHC: "evil"}
	nobody := sessions.LockUser{UserID: "nobody"}
	foreign := sessions.WithdrawConsent{AuthorizationServer: "other", UserID: "alex", ClientID: "album"}
	for name, test := range map[string]struct {
		target  sessions.Target
		effects []sessions.Effect
	}{
		"user, unknown user":          {sessions.Target{User: "alex"}, []sessions.Effect{password, nobody}},
		"user, NUL":                   {sessions.Target{User: "alex"}, []sessions.Effect{password, sessions.LockUser{UserID: "\x00"}}},
		"login, unknown user":         {sessions.Target{Login: login.ID}, []sessions.Effect{password, nobody}},
		"session, unknown user":       {sessions.Target{Session: session.ID}, []sessions.Effect{password, nobody}},
		"session, another server's":   {sessions.Target{Session: session.ID}, []sessions.Effect{password, foreign}},
		"grant, another server's":     {sessions.Target{Grant: g.Grant.ID}, []sessions.Effect{password, foreign}},
		"client, another server's":    {sessions.Target{Client: "album"}, []sessions.Effect{password, foreign}},
		"client, deleted elsewhere":   {sessions.Target{Client: "album"}, []sessions.Effect{password, sessions.DeleteClient{AuthorizationServer: "other", ClientID: "album"}}},
		"unknown session":             {sessions.Target{Session: "unknown"}, []sessions.Effect{password}},
		"unknown grant":               {sessions.Target{Grant: "unknown"}, []sessions.Effect{password}},
		"unknown login":               {sessions.Target{Login: "unknown"}, []sessions.Effect{password}},
		"unknown user":                {sessions.Target{User: "nobody"}, []sessions.Effect{password}},
		"another user's session":      {sessions.Target{Session: session.ID, OfUser: "bea"}, []sessions.Effect{password}},
		"client of a user, elsewhere": {sessions.Target{Client: "album", OfUser: "alex"}, []sessions.Effect{password, foreign}},
	} {
		if _, err := w.end(test.target, sessions.Ending{Reason: sessions.ReasonLogout, Effects: test.effects}); err == nil {
			w.Errorf("%s: no error", name)
		}
		user, err := w.realm.User(w.Context(), "alex")
		w.ok(err)
		if user.Password != "phc" || !user.LockedAt.IsZero() {
			w.Errorf("%s: left password %q, locked at %v", name, user.Password, user.LockedAt)
		}
		w.live(g.Grant.ID, true, "%s: the grant", name)
		if _, err := w.realm.LoginByCookie(w.Context(), login.CookieHash); err != nil {
			w.Errorf("%s: the login: %v", name, err)
		}
		if _, err := w.as.Consent(w.Context(), "alex", "album"); err != nil {
			w.Errorf("%s: the consent: %v", name, err)
		}
	}
}

func serversShareNothing(w *world) {
	login := w.begin()
	other := w.a.Server("other", "staff")
	w.clientAt(other, "album")
	g := w.newGrant(login, "album", refresh)
	g.Consent = &sessions.Consent{Scopes: []string{"openid"}, At: w.now()}
	// The same ids at both.
	for _, as := range []ServerStore{w.as, other} {
		_, err := as.InsertGrant(w.Context(), g)
		w.ok(err)
		if ok, err := as.Redeem(w.Context(), g.Grant.ID, w.now()); err != nil || !ok {
			w.Fatalf("redeeming: %v, %v", ok, err)
		}
	}
	session := g.Session.ID
	untouched := func(what string) {
		w.Helper()
		state, err := other.State(w.Context(), g.Grant.ID, "jti")
		w.ok(err)
		if !state.Live || state.Revoked || state.Grant.Generation != 1 || state.Session.Ended != nil {
			w.Errorf("%s reached another authorization server: %+v", what, state)
		}
		if _, err := other.Session(w.Context(), session, "alex"); err != nil {
			w.Errorf("%s hid another authorization server's session: %v", what, err)
		}
		if _, err := other.Consent(w.Context(), "alex", "album"); err != nil {
			w.Errorf("%s withdrew another authorization server's consent: %v", what, err)
		}
	}
	w.ok(w.as.RevokeToken(w.Context(), "jti", w.now().Add(time.Hour)))
	untouched("revoking a token")
	if ok, err := w.as.Advance(w.Context(), g.Grant.ID, 1, w.now()); err != nil || !ok {
		w.Fatalf("advance: %v, %v", ok, err)
	}
	untouched("refreshing")
	list, err := w.as.Sessions(w.Context(), sessions.Filter{})
	w.ok(err)
	if len(list) != 1 {
		w.Errorf("listed %d sessions, want 1", len(list))
	}
	ending := logout()
	ending.Effects = []sessions.Effect{sessions.WithdrawConsent{AuthorizationServer: "myAS", UserID: "alex", ClientID: "album"}}
	w.mustEnd(sessions.Target{Session: session, OfUser: "alex"}, ending, 1)
	untouched("ending a session")
	_, err = w.deleteClient(w.as, "myAS", "album")
	w.ok(err)
	untouched("deleting a client")
	// A server's view of another realm finds neither its users nor its logins.
	stranger := w.a.Server("stranger", "another realm")
	w.clientAt(stranger, "album")
	_, err = stranger.InsertGrant(w.Context(), g)
	w.is(err, oauth.ErrNotLive, "a grant at an authorization server of another realm")
	w.mustEnd(sessions.Target{Login: login.ID}, logout(), 1)
	if state, err := other.State(w.Context(), g.Grant.ID, ""); err != nil || state.Live {
		w.Errorf("the end of the login did not reach its other authorization server: %+v, %v", state, err)
	}
}

func realmsShareNothing(w *world) {
	login := w.begin()
	grant, _ := w.grant(login, "album", refresh)
	other := w.a.Realm("other")
	as := w.a.Server("of other", "other")
	w.userIn(other, "alex")
	w.clientAt(as, "album")
	in := w.signIn("alex", sessions.SignIn{CookieHash: login.CookieHash}) // even the same cookie
	theirs, err := other.SignIn(w.Context(), in, sessions.Ending{})
	w.ok(err)
	g := w.newGrant(theirs, "album", refresh)
	_, err = as.InsertGrant(w.Context(), g)
	w.ok(err)
	if ok, err := as.Redeem(w.Context(), g.Grant.ID, w.now()); err != nil || !ok {
		w.Fatalf("redeeming: %v, %v", ok, err)
	}
	got, err := w.realm.LoginByCookie(w.Context(), login.CookieHash)
	w.ok(err)
	if got.ID != login.ID {
		w.Error("the cookie of one realm opened a login of another")
	}
	// A login of another realm is no present login.
	if l := w.loginIn(w.realm, "alex", sessions.SignIn{Current: theirs.ID}); l.ID == theirs.ID {
		w.Error("a login of another realm went on")
	}
	for _, target := range []sessions.Target{{Login: theirs.ID}, {Login: g.LoginID, OfUser: "alex"}} {
		_, err := w.end(target, logout())
		w.is(err, sessions.ErrNotFound, "ending a login of another realm")
	}
	w.mustEnd(sessions.Target{User: "alex"}, sessions.Ending{Reason: sessions.ReasonUserLocked, Effects: []sessions.Effect{
		sessions.LockUser{UserID: "alex"}, sessions.WithdrawConsent{AuthorizationServer: "of other", UserID: "alex", ClientID: "album"},
		sessions.DeleteClient{AuthorizationServer: "of other", ClientID: "album"},
	}}, 1)
	w.live(grant, false, "the ended user's grant")
	if state, err := as.State(w.Context(), g.Grant.ID, ""); err != nil || !state.Live {
		w.Errorf("ending a user reached another realm: %+v, %v", state, err)
	}
	if _, err := other.LoginByCookie(w.Context(), login.CookieHash); err != nil {
		w.Errorf("ending a user reached another realm's login: %v", err)
	}
	if u, err := other.User(w.Context(), "alex"); err != nil || !u.LockedAt.IsZero() {
		w.Errorf("locking a user reached another realm's: %+v, %v", u, err)
	}
}
