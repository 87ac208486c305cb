package storagetest

import (
	"fmt"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

func sessionList(w *world) {
	login := w.begin()
	w.client("news")
	w.user("bea")
	_, first := w.grant(login, "album", refresh)
	w.pass(time.Second)
	_, second := w.grant(login, "news", plain)
	w.pass(time.Second)
	_, third := w.grant(w.login("alex"), "album", offline)
	w.authorize(w.login("alex"), "album", refresh) // never redeemed
	_, foreign := w.grant(w.login("bea"), "album", refresh)
	_, ended := w.grant(w.login("alex"), "album", refresh)
	w.mustEnd(sessions.Target{Session: ended.ID}, logout(), 1)
	for _, test := range []struct {
		filter sessions.Filter
		want   []*sessions.Session
	}{
		{sessions.Filter{UserID: "alex"}, []*sessions.Session{third, second, first}},
		{sessions.Filter{UserID: "alex", Limit: 2}, []*sessions.Session{third, second}},
		{sessions.Filter{UserID: "alex", ClientID: "album"}, []*sessions.Session{third, first}},
		{sessions.Filter{UserID: "bea"}, []*sessions.Session{foreign}},
		{sessions.Filter{UserID: "nobody"}, nil},
		{sessions.Filter{UserID: "alex\x00"}, nil},
		{sessions.Filter{UserID: "alex", ClientID: "unknown"}, nil},
		{sessions.Filter{ClientID: "news"}, []*sessions.Session{second}},
	} {
		list, err := w.as.Sessions(w.Context(), test.filter)
		w.ok(err)
		var got, want []string
		for _, s := range list {
			got = append(got, s.ID)
		}
		for _, s := range test.want {
			want = append(want, s.ID)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			w.Errorf("%+v: listed %q, want %q", test.filter, got, want)
		}
	}
	for name, key := range map[string][2]string{
		"unknown": {"unknown", "alex"}, "foreign": {foreign.ID, "alex"}, "ended": {ended.ID, "alex"},
		"no user": {first.ID, ""}, "other case": {first.ID, "ALEX"}, "NUL": {first.ID + "\x00", "alex"},
	} {
		_, err := w.as.Session(w.Context(), key[0], key[1])
		w.is(err, sessions.ErrNotFound, "%s", name)
	}
	_, err := w.a.Server("other", "staff").Session(w.Context(), first.ID, "alex")
	w.is(err, sessions.ErrNotFound, "at another authorization server")
	w.pass(Lifetimes.SessionIdle + sessions.IdleSlack - 2*time.Second - time.Millisecond)
	if got := w.listed("alex"); !strings.Contains(got, first.ID) {
		w.Errorf("within the slack the list is %q", got)
	}
	w.pass(time.Millisecond)
	if got := w.listed("alex"); got != third.ID+" "+second.ID {
		w.Errorf("behind the slack the list is %q", got)
	}
}

func endingRefusals(w *world) {
	login := w.begin()
	grant, session := w.grant(login, "album", refresh)
	goneGrant, gone := w.grant(w.login("alex"), "album", refresh)
	w.mustEnd(sessions.Target{Session: gone.ID}, logout(), 1)
	idle, _ := w.grant(w.login("alex"), "album", refresh)
	idleSession := w.state(idle).Session.ID
	w.pass(Lifetimes.SessionIdle + sessions.IdleSlack - time.Millisecond)
	if ok, err := w.as.Advance(w.Context(), grant, 1, w.now()); err != nil || !ok {
		w.Fatalf("advance: %v, %v", ok, err)
	}
	w.pass(time.Millisecond)
	for name, target := range map[string]sessions.Target{
		"unknown session":            {Session: "unknown"},
		"NUL":                        {Session: session.ID + "\x00"},
		"ended session":              {Session: gone.ID},
		"idle session":               {Session: idleSession},
		"another user's session":     {Session: session.ID, OfUser: "bea"},
		"another client's session":   {Session: session.ID, OfUser: "alex", OfClient: "news"},
		"unknown grant":              {Grant: "unknown"},
		"grant of an ended session":  {Grant: goneGrant},
		"another user's grant":       {Grant: grant, OfUser: "bea"},
		"another client's grant":     {Grant: grant, OfClient: "news"},
		"unknown client":             {Client: "unknown"},
		"unknown client of a user":   {Client: "unknown", OfUser: "alex"},
		"client of an unknown user":  {Client: "album", OfUser: "nobody"},
		"client that is another one": {Client: "album", OfClient: "news"},
		"unknown login":              {Login: "unknown"},
		"another user's login":       {Login: login.ID, OfUser: "bea"},
		"unknown user":               {User: "nobody"},
		"user that is another one":   {User: "alex", OfUser: "bea"},
	} {
		_, err := w.end(target, logout())
		w.is(err, sessions.ErrNotFound, "%s", name)
	}
	for name, target := range map[string]sessions.Target{
		"nothing": {}, "two things": {Session: session.ID, Grant: grant}, "a login": {Login: login.ID}, "a user": {User: "alex"},
	} {
		if _, err := w.as.End(w.Context(), target, logout()); err == nil {
			w.Errorf("an authorization server ended %s", name)
		}
	}
	for name, target := range map[string]sessions.Target{
		"nothing": {}, "two things": {Login: login.ID, User: "alex"}, "a session": {Session: session.ID}, "a client": {Client: "album"},
		"a client's": {User: "alex", OfClient: "album"},
	} {
		if _, err := w.realm.End(w.Context(), target, logout()); err == nil {
			w.Errorf("a realm ended %s", name)
		}
	}
	w.live(grant, true, "the grant after all refusals")
	w.mustEnd(sessions.Target{Session: session.ID, OfUser: "alex", OfClient: "album"}, logout(), 1)
}

func endedSession(w *world) {
	login := w.begin()
	other, _ := w.grant(w.login("alex"), "album", refresh)
	first, session := w.grant(login, "album", refresh)
	second, _ := w.authorize(login, "album", offline)
	ending := sessions.Ending{By: sessions.Actor{Kind: sessions.ActorClient, ID: "news"}, Reason: sessions.ReasonEndedByClient}
	w.mustEnd(sessions.Target{Session: session.ID}, ending, 1)
	for _, grant := range []string{first, second} {
		state := w.state(grant)
		if state.Live || state.Grant.EndedAt.IsZero() {
			w.Errorf("a grant of the ended session: live %v, ended %v", state.Live, state.Grant.EndedAt)
		}
		want := sessions.Ended{At: w.now(), By: ending.By, Reason: ending.Reason}
		if state.Session.Ended == nil || *state.Session.Ended != want {
			w.Errorf("the session ended as %+v, want %+v", state.Session.Ended, want)
		}
	}
	w.pass(time.Second)
	_, err := w.end(sessions.Target{Session: session.ID}, logout())
	w.is(err, sessions.ErrNotFound, "ending it again")
	if ended := w.state(first).Session.Ended; ended.By != ending.By {
		w.Errorf("ending it again made it %+v", ended)
	}
	if ok, _ := w.as.Advance(w.Context(), first, 1, w.now()); ok {
		w.Error("its refresh token still works")
	}
	w.live(other, true, "another login's session")
	if _, err := w.realm.LoginByCookie(w.Context(), login.CookieHash); err != nil {
		w.Errorf("the login of an ended session: %v", err)
	}
}

func backDoor(w *world) {
	w.client("album")
	w.client("news")
	own := sessions.Actor{Kind: sessions.ActorClient, ID: "album"}
	other := sessions.Actor{Kind: sessions.ActorClient, ID: "news"}
	user := sessions.Actor{Kind: sessions.ActorUser, ID: "album"} // a user may be called what a client is
	for _, test := range []struct {
		by     sessions.Actor
		reason sessions.Reason
		proof  bool
	}{
		{own, sessions.ReasonLogout, false},
		{own, sessions.ReasonEndedByClient, false},
		{other, sessions.ReasonEndedByClient, true},
		{user, sessions.ReasonLogout, true},
		{sessions.Actor{Kind: sessions.ActorOperator, ID: "album"}, sessions.ReasonEndedByOperator, true},
		{sessions.Actor{}, sessions.ReasonConsentWithdrawn, true},
		{sessions.Actor{}, "", true},
		{sessions.Actor{}, sessions.ReasonExpired, false},
		{sessions.Actor{}, sessions.ReasonRefreshReuse, false},
		{sessions.Actor{}, sessions.ReasonCodeReplay, false},
		{sessions.Actor{}, sessions.ReasonSuperseded, false},
		{other, sessions.ReasonRevoked, false},
	} {
		name := fmt.Sprintf("%s, %s", test.by, test.reason)
		id := w.user(w.id("user", 10)).ID
		login := w.login(id)
		again := func(login *sessions.Login, client string, want bool, what string) {
			w.Helper()
			_, err := w.as.InsertGrant(w.Context(), w.newGrant(login, client, refresh))
			if want {
				w.is(err, oauth.ErrLoginRequired, "%s: %s", name, what)
			} else {
				w.is(err, nil, "%s: %s", name, what)
			}
		}
		_, session := w.grant(login, "album", refresh)
		w.pass(time.Minute)
		w.mustEnd(sessions.Target{Session: session.ID}, sessions.Ending{By: test.by, Reason: test.reason}, 1)
		again(login, "album", test.proof, "the same login")
		again(login, "news", false, "another client")
		again(w.login(id), "album", false, "another login")
		// Proof at the moment of the ending is not later than the ending.
		login.AuthTime = w.now()
		again(login, "album", test.proof, "auth_time of the ending")
		w.pass(time.Millisecond)
		again(w.loginIn(w.realm, id, sessions.SignIn{Current: login.ID}), "album", false, "a later auth_time")
	}
}

func lastGrant(w *world) {
	login := w.begin()
	first, session := w.grant(login, "album", refresh)
	second, _ := w.grant(login, "album", offline)
	code, _ := w.grant(login, "album", plain)
	waiting, _ := w.authorize(login, "album", refresh)
	burned, _ := w.authorize(login, "album", refresh)
	w.ok(w.as.Burn(w.Context(), burned, w.now()))
	revoke := sessions.Ending{By: sessions.Actor{Kind: sessions.ActorClient, ID: "album"}, Reason: sessions.ReasonRevoked}
	w.mustEnd(sessions.Target{Grant: first}, revoke, 0)
	w.live(first, false, "the first grant")
	w.live(second, true, "the second grant")
	_, err := w.end(sessions.Target{Grant: first}, revoke)
	w.is(err, sessions.ErrNotFound, "ending it again")
	w.mustEnd(sessions.Target{Grant: second}, revoke, 0)
	if s := w.state(waiting).Session; s.Offline || s.Ended != nil {
		w.Errorf("without its offline grant the session is %+v", s)
	}
	w.live(waiting, true, "a grant whose code waits")
	w.pass(time.Minute) // now it can't be redeemed any more
	third, _ := w.grant(login, "album", refresh)
	w.mustEnd(sessions.Target{Grant: third}, revoke, 1)
	w.live(code, false, "a grant without refresh token when the session has ended")
	if ended := w.state(code).Session.Ended; ended == nil || ended.Reason != sessions.ReasonRevoked {
		w.Errorf("the session ended as %+v", ended)
	}
	if w.listed("alex") != "" {
		w.Error("the session is still listed")
	}
	// Without refresh tokens a grant's end is not its session's.
	code, other := w.grant(login, "album", plain)
	if other.ID == session.ID {
		w.Fatal("the ended session went on")
	}
	w.mustEnd(sessions.Target{Grant: code}, revoke, 0)
	if w.listed("alex") != other.ID {
		w.Errorf("after the end of a grant without refresh token the list is %q", w.listed("alex"))
	}
}

func loginDetaches(w *world) {
	login := w.begin()
	w.client("news")
	w.client("mail")
	second := w.a.Server("second", "staff")
	w.clientAt(second, "album")
	g := w.newGrant(login, "album", refresh)
	_, err := second.InsertGrant(w.Context(), g)
	w.ok(err)
	online, _ := w.grant(login, "album", refresh)
	held, detached := w.grant(login, "news", offline)
	besides, _ := w.grant(login, "news", refresh)
	waiting, _ := w.authorize(login, "news", offline)
	neverUsed, _ := w.authorize(login, "mail", offline)
	elsewhere, _ := w.grant(w.login("alex"), "album", refresh)
	w.mustEnd(sessions.Target{Login: login.ID}, logout(), 3)

	for what, grant := range map[string]string{
		"an online session's": online, "an offline session's online one": besides,
		"an offline code that was not redeemed": waiting, "the same, alone in its session": neverUsed,
	} {
		state := w.state(grant)
		if state.Live || state.Grant.EndedAt.IsZero() {
			w.Errorf("%s grant: live %v, ended %v", what, state.Live, state.Grant.EndedAt)
		}
		if ok, _ := w.as.Redeem(w.Context(), grant, w.now()); ok {
			w.Errorf("%s code was redeemed", what)
		}
	}
	if state, err := second.State(w.Context(), g.Grant.ID, ""); err != nil || state.Live {
		w.Errorf("the session at another authorization server of the realm: %+v, %v", state, err)
	}
	w.live(elsewhere, true, "another login's grant")
	state := w.state(held)
	if !state.Live || !state.Session.Detached || state.Session.Ended != nil || !state.Session.Offline {
		w.Errorf("the offline grant: live %v, session %+v", state.Live, state.Session)
	}
	if ok, err := w.as.Advance(w.Context(), held, 1, w.now()); err != nil || !ok {
		w.Errorf("refreshing offline: %v, %v", ok, err)
	}
	if s, err := w.as.Session(w.Context(), detached.ID, "alex"); err != nil || !s.Detached {
		w.Errorf("the detached session is shown as %+v, %v", s, err)
	}
	_, err = w.end(sessions.Target{Login: login.ID}, logout())
	w.is(err, sessions.ErrNotFound, "ending the login again")
	w.mustEnd(sessions.Target{Session: detached.ID, OfUser: "alex"}, logout(), 1)
	w.live(held, false, "the detached session's grant when it has ended")
}

func userEnds(w *world) {
	login := w.begin()
	w.user("bea")
	second := w.a.Server("second", "staff")
	w.clientAt(second, "album")
	g := w.newGrant(login, "album", refresh)
	_, err := second.InsertGrant(w.Context(), g)
	w.ok(err)
	var grants []string
	for _, k := range []kind{plain, refresh, offline} {
		grant, _ := w.grant(w.login("alex"), "album", k)
		grants = append(grants, grant)
	}
	gone := w.login("alex")
	detached, _ := w.grant(gone, "album", offline)
	w.mustEnd(sessions.Target{Login: gone.ID}, logout(), 0)
	w.live(detached, true, "the detached grant")
	foreign, _ := w.grant(w.login("bea"), "album", refresh)
	w.mustEnd(sessions.Target{User: "alex"}, sessions.Ending{Reason: sessions.ReasonPasswordChanged,
		Effects: []sessions.Effect{sessions.SetPassword{UserID: "alex", PHC: "new"}}}, 5)
	for i, grant := range append(grants, detached) {
		w.live(grant, false, "grant %d of the user", i)
	}
	if state, err := second.State(w.Context(), g.Grant.ID, ""); err != nil || state.Live {
		w.Errorf("at another authorization server: %+v, %v", state, err)
	}
	if list, _ := w.realm.Logins(w.Context(), "alex"); len(list) != 0 || w.listed("alex") != "" {
		w.Errorf("left are %d logins and sessions %q", len(list), w.listed("alex"))
	}
	_, err = w.as.InsertGrant(w.Context(), w.newGrant(login, "album", plain))
	w.is(err, oauth.ErrLoginRequired, "a grant of an ended login")
	w.live(foreign, true, "another user's grant")
	if u, _ := w.realm.User(w.Context(), "alex"); u.Password != "new" {
		w.Errorf("password is %q", u.Password)
	}
	w.mustEnd(sessions.Target{User: "alex"}, logout(), 0)
}
