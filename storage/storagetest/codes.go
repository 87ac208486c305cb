package storagetest

import (
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

func redeemOnce(w *world) {
	login := w.begin()
	grant, session := w.authorize(login, "album", refresh)
	if _, err := w.as.Session(w.Context(), session.ID, "alex"); err == nil || w.listed("alex") != "" {
		w.Error("a session is shown before its first token")
	}
	if g := w.state(grant).Grant; g.Generation != 0 || !g.RedeemedAt.IsZero() {
		w.Errorf("before its code is redeemed the grant is %+v", g)
	}
	w.pass(time.Second)
	w.redeem(grant)
	if g := w.state(grant).Grant; g.Generation != 1 || !g.RedeemedAt.Equal(w.now()) || !g.LastUsedAt.Equal(w.now()) {
		w.Errorf("redeemed, the grant is %+v", g)
	}
	if w.listed("alex") != session.ID {
		w.Errorf("listed %q", w.listed("alex"))
	}
	at := w.now()
	w.pass(time.Second)
	if ok, err := w.as.Redeem(w.Context(), grant, w.now()); ok || err != nil {
		w.Errorf("redeeming it again: %v, %v", ok, err)
	}
	w.ok(w.as.Burn(w.Context(), grant, w.now()))
	g := w.state(grant)
	if !g.Grant.RedeemedAt.Equal(at) || !g.Grant.BurnedAt.IsZero() || !g.Live {
		w.Errorf("after a second try the grant is %+v", g.Grant)
	}
}

func redeemRefusals(w *world) {
	w.client("album")
	for name, spoil := range map[string]func(login *sessions.Login, grant string, session *sessions.Session){
		"expired": func(*sessions.Login, string, *sessions.Session) { w.pass(time.Minute) },
		"burned": func(_ *sessions.Login, grant string, _ *sessions.Session) {
			w.ok(w.as.Burn(w.Context(), grant, w.now()))
		},
		"grant ended": func(_ *sessions.Login, grant string, _ *sessions.Session) {
			w.mustEndAny(sessions.Target{Grant: grant})
		},
		"session ended": func(_ *sessions.Login, _ string, session *sessions.Session) {
			w.mustEnd(sessions.Target{Session: session.ID}, logout(), 1)
		},
		"login ended": func(login *sessions.Login, _ string, _ *sessions.Session) {
			w.mustEnd(sessions.Target{Login: login.ID}, logout(), 1)
		},
		"login expired": func(login *sessions.Login, _ string, _ *sessions.Session) {
			in := w.signIn(login.UserID, sessions.SignIn{Current: login.ID})
			in.ExpiresAt = w.now().Add(time.Second)
			_, err := w.realm.SignIn(w.Context(), in, sessions.Ending{})
			w.ok(err)
			w.pass(time.Second)
		},
		"user locked": func(login *sessions.Login, _ string, _ *sessions.Session) {
			w.mustEnd(sessions.Target{User: login.UserID},
				sessions.Ending{Effects: []sessions.Effect{sessions.LockUser{UserID: login.UserID}}}, 1)
		},
		"client deleted": func(*sessions.Login, string, *sessions.Session) {
			_, err := w.deleteClient(w.as, "myAS", "album")
			w.ok(err)
			w.client("album")
		},
	} {
		for _, k := range []kind{plain, refresh, offline} {
			user := w.user(w.id("user", 10)).ID
			login := w.login(user)
			grant, session := w.authorize(login, "album", k)
			spoil(login, grant, session)
			if ok, err := w.as.Redeem(w.Context(), grant, w.now()); ok || err != nil {
				w.Errorf("%s: redeemed a code of kind %d: %v, %v", name, k, ok, err)
			}
			if g := w.state(grant).Grant; g.Generation != 0 || !g.RedeemedAt.IsZero() {
				w.Errorf("%s: the refused grant is %+v", name, g)
			}
			if w.listed(user) != "" {
				w.Errorf("%s: the refused code activated its session", name)
			}
		}
	}
	for _, id := range []string{"", "unknown", "\x00", "\xff"} {
		if ok, err := w.as.Redeem(w.Context(), id, w.now()); ok || err != nil {
			w.Errorf("redeeming %q: %v, %v", id, ok, err)
		}
		w.ok(w.as.Burn(w.Context(), id, w.now()))
	}
}

func generations(w *world) {
	login := w.begin()
	grant, session := w.authorize(login, "album", refresh)
	advance := func(from int64, want bool, generation int64, what string) {
		w.Helper()
		w.pass(time.Second)
		got, err := w.as.Advance(w.Context(), grant, from, w.now())
		w.ok(err)
		g := w.state(grant).Grant
		if got != want || g.Generation != generation {
			w.Errorf("%s: advancing from %d: %v, generation %d; want %v, %d", what, from, got, g.Generation, want, generation)
		}
		if want && (!g.RotatedAt.Equal(w.now()) || !g.LastUsedAt.Equal(w.now())) {
			w.Errorf("%s: rotated at %v, last used at %v", what, g.RotatedAt, g.LastUsedAt)
		}
	}
	advance(1, false, 0, "before the code is redeemed")
	w.redeem(grant)
	advance(0, false, 1, "from before the first")
	advance(1, true, 2, "from the current one")
	advance(1, false, 2, "from the previous one")
	advance(2, true, 3, "from the current one")
	advance(7, true, 8, "after a fail-over lost commits")
	w.ok(w.as.CountGrace(w.Context(), grant, 8))
	w.ok(w.as.CountGrace(w.Context(), grant, 3))
	w.ok(w.as.CountGrace(w.Context(), "unknown\x00", 3))
	other := w.a.Server("other", "staff")
	if ok, err := other.Advance(w.Context(), grant, 8, w.now()); ok || err != nil {
		w.Errorf("advancing at another authorization server: %v, %v", ok, err)
	}
	for _, id := range []string{"", "unknown", "\xff"} {
		if ok, err := w.as.Advance(w.Context(), id, 8, w.now()); ok || err != nil {
			w.Errorf("advancing %q: %v, %v", id, ok, err)
		}
	}
	w.mustEnd(sessions.Target{Session: session.ID}, logout(), 1)
	advance(8, false, 8, "after the session ended")
}

// liveness goes through what a grant's life hangs on.
func liveness(w *world) {
	L := Lifetimes
	touchLogin := func(login *sessions.Login, _ string, _ *sessions.Session) {
		w.ok(w.realm.Touch(w.Context(), []sessions.Touch{{LoginID: login.ID, At: w.now()}}))
	}
	touchSession := func(login *sessions.Login, _ string, s *sessions.Session) {
		w.ok(w.realm.Touch(w.Context(), []sessions.Touch{{AuthorizationServer: "myAS", SessionID: s.ID, At: w.now()}}))
	}
	use := func(_ *sessions.Login, grant string, _ *sessions.Session) {
		if ok, err := w.as.Advance(w.Context(), grant, 99, w.now()); err != nil || !ok {
			w.Errorf("advance: %v, %v", ok, err)
		}
	}
	endLogin := func(login *sessions.Login, _ string, _ *sessions.Session) {
		_, err := w.end(sessions.Target{Login: login.ID}, logout())
		w.ok(err)
	}
	type act = func(*sessions.Login, string, *sessions.Session)
	const ms = time.Millisecond
	for _, test := range []struct {
		name  string
		kind  kind
		pass  time.Duration
		act   []act
		after time.Duration
		want  bool
	}{
		{"fresh", plain, 0, nil, 0, true},
		{"without refresh tokens a session has no idle time", plain, L.SessionIdle + 5*time.Minute, nil, 0, true},
		{"it dies with the idle login", plain, L.LoginIdle + sessions.IdleSlack, nil, 0, false},
		{"it lives with the login that is used", plain, L.LoginIdle, []act{touchLogin}, L.LoginIdle, true},
		{"it dies with the login that ends", plain, 0, []act{endLogin}, 0, false},
		{"a refresh token in time", refresh, L.SessionIdle - ms, nil, 0, true},
		{"a refresh token that idled, at once", refresh, L.SessionIdle, nil, 0, false},
		{"a refresh token that was used", refresh, L.SessionIdle - ms, []act{use}, L.SessionIdle - ms, true},
		{"a refresh token whose session was used", refresh, L.SessionIdle - ms, []act{touchSession}, L.SessionIdle - ms, true},
		{"a refresh token dies with the idle login", refresh, L.SessionIdle - ms, []act{use}, L.SessionIdle + 5*time.Minute, false},
		{"a refresh token dies with the login that ends", refresh, 0, []act{endLogin}, 0, false},
		{"offline, the login idle", offline, L.LoginIdle * 2, nil, 0, true},
		{"offline, the login expired", offline, L.LoginAbsolute, nil, 0, true},
		{"offline, the login ended", offline, 0, []act{endLogin}, 0, true},
		{"offline in time", offline, L.OfflineIdle - ms, nil, 0, true},
		{"offline that idled", offline, L.OfflineIdle, nil, 0, false},
		{"offline that was used", offline, L.OfflineIdle - ms, []act{use}, L.OfflineIdle - ms, true},
		{"detached that idled", offline, 0, []act{endLogin}, L.OfflineIdle, false},
		{"detached that was used", offline, time.Hour, []act{endLogin, use}, L.OfflineIdle - ms, true},
	} {
		login := w.login(w.user(w.id("user", 10)).ID)
		grant, session := w.grant(login, w.client(w.id("client", 10)).ClientID, test.kind)
		w.pass(test.pass)
		for _, act := range test.act {
			act(login, grant, session)
		}
		w.pass(test.after)
		w.live(grant, test.want, "%s", test.name)
	}
	for _, test := range []struct {
		kind       kind
		life, step time.Duration
	}{{refresh, L.SessionAbsolute, 29 * time.Minute}, {plain, L.SessionAbsolute, 29 * time.Minute}, {offline, L.OfflineAbsolute, 23 * time.Hour}} {
		user := w.user(w.id("user", 10)).ID
		login := w.login(user)
		client := w.client(w.id("client", 10)).ClientID
		grant, session := w.grant(login, client, test.kind)
		for began := w.now(); w.now().Sub(began) < test.life; w.pass(min(test.step, test.life-w.now().Sub(began))) {
			w.live(grant, true, "kind %d after %v", test.kind, w.now().Sub(began))
			w.ok(w.realm.Touch(w.Context(), []sessions.Touch{{LoginID: login.ID, AuthorizationServer: "myAS", SessionID: session.ID, At: w.now()}}))
		}
		w.live(grant, false, "kind %d after its lifetime", test.kind)
	}
}

// listAgrees compares the list's judgement, which is SQL, with that of a
// grant's, which is not.
func listAgrees(w *world) {
	w.client("album")
	w.user("alex")
	type made struct {
		session string
		grants  []string
	}
	var all []made
	for i := range 12 {
		login := w.login("alex")
		var m made
		for j := range 1 + i%3 {
			grant, session := w.authorize(login, "album", kind((i+j)%3))
			if (i+j)%4 != 3 {
				w.redeem(grant)
			}
			m.session = session.ID
			m.grants = append(m.grants, grant)
		}
		switch i % 4 {
		case 1:
			w.mustEndAny(sessions.Target{Login: login.ID})
		case 2:
			w.mustEndAny(sessions.Target{Grant: m.grants[0]})
		}
		all = append(all, m)
		w.pass(time.Minute)
	}
	for _, pass := range []time.Duration{0, 10 * time.Minute, 25 * time.Minute, time.Hour, 11 * time.Hour, 13 * time.Hour, 30 * 24 * time.Hour} {
		w.pass(pass)
		for _, m := range all {
			live := false
			for _, grant := range m.grants {
				state := w.state(grant)
				live = live || (state.Live && !state.Grant.RedeemedAt.IsZero())
			}
			_, err := w.as.Session(w.Context(), m.session, "alex")
			// With slack the list may show for two minutes more what is over,
			// and a session without refresh tokens goes on when its grant does
			// not; it must never hide what lives.
			if live && err != nil {
				w.Errorf("session %s has a live grant and isn't shown: %v", m.session, err)
			}
		}
	}
	if w.listed("alex") != "" {
		w.Errorf("after all lifetimes the list is %q", w.listed("alex"))
	}
}

func (w *world) mustEndAny(target sessions.Target) {
	w.Helper()
	_, err := w.end(target, logout())
	w.ok(err)
}
