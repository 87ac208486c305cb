package storagetest

import (
	"bytes"
	"reflect"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

func loginIsReadAsWritten(w *world) {
	w.user("alex")
	in := w.signIn("alex", sessions.SignIn{
		AuthNonce: "nonce", AMR: []string{"pwd", "otp"}, ACR: "urn:acr", Persistent: true,
		Address: "2001:db8::1", UserAgent: "Mozilla\x00\xff " + strings.Repeat("ä", 600),
	})
	login, err := w.realm.SignIn(w.Context(), in, sessions.Ending{})
	w.ok(err)
	if len(login.ID) != 64 || strings.Trim(login.ID, "0123456789abcdef") != "" {
		w.Errorf("id %q is not 64 lower-case hexadecimal characters", login.ID)
	}
	if len(login.UserAgent) > 512 || !strings.HasPrefix(login.UserAgent, "Mozilla\uFFFD\uFFFD ä") {
		w.Errorf("user agent is %q", login.UserAgent)
	}
	want := sessions.Login{
		ID: login.ID, UserID: "alex", CookieHash: in.CookieHash, AuthTime: w.now(), AuthNonce: "nonce", AMR: in.AMR, ACR: in.ACR,
		Persistent: true, Address: in.Address, UserAgent: login.UserAgent, CreatedAt: w.now(), LastAccessAt: w.now(),
		ExpiresAt: w.now().Add(Lifetimes.LoginAbsolute),
	}
	read, err := w.realm.LoginByCookie(w.Context(), in.CookieHash)
	w.ok(err)
	list, err := w.realm.Logins(w.Context(), "alex")
	w.ok(err)
	if len(list) != 1 {
		w.Fatalf("listed %d logins, want 1", len(list))
	}
	for _, got := range []sessions.Login{*login, *read, list[0]} {
		if !reflect.DeepEqual(got, want) {
			w.Errorf("read %+v, want %+v", got, want)
		}
	}
	w.pass(time.Second)
	second := w.login("alex")
	if list, _ = w.realm.Logins(w.Context(), "alex"); len(list) != 2 || list[0].ID != second.ID {
		w.Errorf("logins are not listed newest first: %+v", list)
	}
	for _, none := range [][]byte{nil, {}, hash("unknown")} {
		_, err := w.realm.LoginByCookie(w.Context(), none)
		w.is(err, sessions.ErrNotFound, "cookie hash %x", none)
	}
	_, err = w.a.Realm("other").LoginByCookie(w.Context(), in.CookieHash)
	w.is(err, sessions.ErrNotFound, "another realm's cookie")
}

func cookieRotation(w *world) {
	w.user("alex")
	first := w.login("alex")
	w.pass(time.Hour - time.Minute)
	again := w.loginIn(w.realm, "alex", sessions.SignIn{Current: first.ID, AuthNonce: "n2"})
	if again.ID != first.ID || !again.CreatedAt.Equal(first.CreatedAt) {
		w.Error("signing in again did not continue the login")
	}
	if !again.AuthTime.Equal(w.now()) || !again.ExpiresAt.Equal(w.now().Add(Lifetimes.LoginAbsolute)) || again.AuthNonce != "n2" {
		w.Errorf("signing in again left %+v", again)
	}
	if bytes.Equal(first.CookieHash, again.CookieHash) {
		w.Error("the cookie was not rotated")
	}
	for _, step := range []struct {
		pass     time.Duration
		old, new error
	}{
		{0, nil, nil},
		{30*time.Second - time.Millisecond, nil, nil},
		{time.Millisecond, sessions.ErrNotFound, nil},
		{time.Minute, sessions.ErrNotFound, nil},
	} {
		w.pass(step.pass)
		_, err := w.realm.LoginByCookie(w.Context(), first.CookieHash)
		w.is(err, step.old, "the previous cookie %v after its rotation", w.now().Sub(again.AuthTime))
		_, err = w.realm.LoginByCookie(w.Context(), again.CookieHash)
		w.is(err, step.new, "the new cookie")
	}
	if list, _ := w.realm.Logins(w.Context(), "alex"); len(list) != 1 {
		w.Errorf("%d logins, want 1", len(list))
	}
}

func signInRefusals(w *world) {
	w.user("alex")
	w.user("locked")
	w.userIn(w.a.Realm("other"), "foreign")
	current := w.login("alex")
	w.mustEnd(sessions.Target{User: "locked"}, sessions.Ending{Effects: []sessions.Effect{sessions.LockUser{UserID: "locked"}}}, 0)
	for _, user := range []string{"", "nobody", "locked", "foreign", "alex\x00", "\xff"} {
		in := w.signIn(user, sessions.SignIn{Current: current.ID})
		_, err := w.realm.SignIn(w.Context(), in, sessions.Ending{})
		w.is(err, sessions.ErrUserLocked, "sign-in of %q", user)
		_, err = w.realm.LoginByCookie(w.Context(), in.CookieHash)
		w.is(err, sessions.ErrNotFound, "the cookie of a refused sign-in of %q", user)
	}
	// A sign-in by a password that was changed while it was judged.
	stale := w.signIn("alex", sessions.SignIn{Current: current.ID, Password: "phc"})
	w.mustEnd(sessions.Target{Login: w.login("alex").ID}, sessions.Ending{Effects: []sessions.Effect{sessions.SetPassword{UserID: "alex", PHC: "new"}}}, 0)
	_, err := w.realm.SignIn(w.Context(), stale, sessions.Ending{})
	w.is(err, sessions.ErrProofStale, "sign-in by the old password")
	_, err = w.realm.LoginByCookie(w.Context(), stale.CookieHash)
	w.is(err, sessions.ErrNotFound, "the cookie of a sign-in by the old password")
	stale.Password = "new"
	if login, err := w.realm.SignIn(w.Context(), stale, sessions.Ending{}); err != nil || login.ID != current.ID {
		w.Errorf("sign-in by the new password: %+v, %v", login, err)
	}
	current.CookieHash = stale.CookieHash
	if _, err := w.realm.LoginByCookie(w.Context(), current.CookieHash); err != nil {
		w.Errorf("a refused sign-in ended the browser's login: %v", err)
	}
	// What is no live login is no present login.
	ended := w.login("alex")
	w.mustEnd(sessions.Target{Login: ended.ID}, logout(), 0)
	for _, id := range []string{"unknown", ended.ID} {
		if login := w.loginIn(w.realm, "alex", sessions.SignIn{Current: id}); login.ID == id {
			w.Errorf("a sign-in over %q continued it", id)
		}
	}
}

func signInOfAnother(w *world) {
	login := w.begin()
	grant, _ := w.grant(login, "album", refresh)
	w.user("bea")
	second := w.loginIn(w.realm, "bea", sessions.SignIn{Current: login.ID})
	if second.ID == login.ID || second.UserID != "bea" {
		w.Errorf("the second user has login %+v", second)
	}
	_, err := w.realm.LoginByCookie(w.Context(), login.CookieHash)
	w.is(err, sessions.ErrNotFound, "the first user's cookie")
	state := w.state(grant)
	if state.Live || state.Session.Ended == nil || state.Session.Ended.Reason != sessions.ReasonOtherUser {
		w.Errorf("the first user's session: live %v, ended %+v", state.Live, state.Session.Ended)
	}
}

func loginDiesByTime(w *world) {
	w.user("alex")
	for name, test := range map[string]struct {
		keep bool // touched all the while
		pass time.Duration
		want error
	}{
		"in time":      {false, Lifetimes.LoginIdle, nil},
		"within slack": {false, Lifetimes.LoginIdle + sessions.IdleSlack - time.Millisecond, nil},
		"idle":         {false, Lifetimes.LoginIdle + sessions.IdleSlack, sessions.ErrNotFound},
		"used":         {true, Lifetimes.LoginAbsolute - time.Millisecond, nil},
		"expired":      {true, Lifetimes.LoginAbsolute, sessions.ErrNotFound},
	} {
		login := w.login("alex")
		w.pass(test.pass)
		if test.keep {
			w.ok(w.realm.Touch(w.Context(), []sessions.Touch{{LoginID: login.ID, At: w.now()}}))
		}
		_, err := w.realm.LoginByCookie(w.Context(), login.CookieHash)
		w.is(err, test.want, "%s: by cookie", name)
		list, err := w.realm.Logins(w.Context(), "alex")
		w.ok(err)
		if (len(list) > 0 && list[0].ID == login.ID) != (test.want == nil) {
			w.Errorf("%s: listed %d", name, len(list))
		}
		_, err = w.end(sessions.Target{Login: login.ID}, logout())
		w.is(err, test.want, "%s: ending it", name)
		w.pass(24 * time.Hour)
	}
}

func touchForward(w *world) {
	login := w.begin()
	_, session := w.grant(login, "album", refresh)
	start := w.now()
	w.pass(5 * time.Minute)
	touch := func(d time.Duration) sessions.Touch {
		return sessions.Touch{LoginID: login.ID, AuthorizationServer: "myAS", SessionID: session.ID, At: start.Add(d)}
	}
	for _, step := range []struct {
		touches []sessions.Touch
		want    time.Duration
	}{
		{nil, 0},
		{[]sessions.Touch{touch(time.Minute), touch(3 * time.Minute), touch(2 * time.Minute)}, 3 * time.Minute},
		{[]sessions.Touch{touch(2 * time.Minute)}, 3 * time.Minute},
		{[]sessions.Touch{{LoginID: "unknown", At: w.now()}, {AuthorizationServer: "other", SessionID: session.ID, At: w.now()},
			{LoginID: "\xff", At: w.now()}, {}}, 3 * time.Minute},
		{[]sessions.Touch{touch(4 * time.Minute)}, 4 * time.Minute},
	} {
		w.ok(w.realm.Touch(w.Context(), step.touches))
		w.ok(w.a.Realm("other").Touch(w.Context(), []sessions.Touch{touch(time.Hour)}))
		got, err := w.realm.LoginByCookie(w.Context(), login.CookieHash)
		w.ok(err)
		s, err := w.as.Session(w.Context(), session.ID, "alex")
		w.ok(err)
		if !got.LastAccessAt.Equal(start.Add(step.want)) || !s.LastUsedAt.Equal(start.Add(step.want)) {
			w.Errorf("last use is %v and %v behind, want %v", got.LastAccessAt.Sub(start), s.LastUsedAt.Sub(start), step.want)
		}
	}
	var many []sessions.Touch
	for range 300 {
		many = append(many, sessions.Touch{LoginID: w.id("login", 64), At: w.now()})
	}
	w.ok(w.realm.Touch(w.Context(), append(many, touch(time.Hour))))
	got, err := w.realm.LoginByCookie(w.Context(), login.CookieHash)
	w.ok(err)
	if !got.LastAccessAt.Equal(start.Add(time.Hour)) {
		w.Errorf("the last of many touches was not written: %v", got.LastAccessAt)
	}
}
