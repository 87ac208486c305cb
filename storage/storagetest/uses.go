package storagetest

import (
	"fmt"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/sessions"
)

// usesOf are the uses of a login: server, client, session, and whether it
// outlives the login.
func (w *world) usesOf(realm RealmStore, login string) string {
	w.Helper()
	found, err := realm.Uses(w.Context(), login)
	w.ok(err)
	var list []string
	for _, use := range found {
		list = append(list, fmt.Sprintf("%s/%s %s %q %v", use.AuthorizationServer, use.ClientID, use.ID, use.ClientName, use.Outlives))
	}
	return fmt.Sprint(list)
}

func usesOfALogin(w *world) {
	login := w.begin()
	w.client("news")
	w.client("mail")
	w.client("chat")
	second := w.a.Server("second", "staff")
	w.clientAt(second, "album")
	g := w.newGrant(login, "album", refresh)
	elsewhere, err := second.InsertGrant(w.Context(), g)
	w.ok(err)
	if ok, err := second.Redeem(w.Context(), g.Grant.ID, w.now()); err != nil || !ok {
		w.Fatalf("redeeming: %v, %v", ok, err)
	}
	_, album := w.grant(login, "album", refresh)
	_, news := w.grant(login, "news", offline)
	w.authorize(login, "mail", offline) // without a token nothing was used
	_, gone := w.grant(login, "chat", plain)
	w.mustEnd(sessions.Target{Session: gone.ID}, logout(), 1)
	_, foreign := w.grant(w.login("alex"), "album", refresh)

	want := fmt.Sprint([]string{
		fmt.Sprintf("myAS/album %s %q false", album.ID, "Client album"),
		fmt.Sprintf("second/album %s %q false", elsewhere.ID, "Client album"),
		fmt.Sprintf("myAS/news %s %q true", news.ID, "Client news"),
	})
	if got := w.usesOf(w.b.Realm("staff"), login.ID); got != want {
		w.Errorf("the login is used for %s, want %s", got, want)
	}
	for name, id := range map[string]string{"nobody's": "unknown", "none": "", "NUL": login.ID + "\x00"} {
		if got := w.usesOf(w.realm, id); got != "[]" {
			w.Errorf("%s login is used for %s", name, got)
		}
	}
	if got := w.usesOf(w.a.Realm("other"), login.ID); got != "[]" {
		w.Errorf("another realm tells of %s", got)
	}

	at := func(server, id string) sessions.Key { return sessions.Key{AuthorizationServer: server, ID: id} }
	for _, c := range []struct {
		what   string
		key    sessions.Key
		client string
		login  string
		want   bool
	}{
		{"a live session", at("myAS", album.ID), "album", login.ID, true},
		{"one at the second server", at("second", elsewhere.ID), "album", login.ID, true},
		{"an ended one", at("myAS", gone.ID), "chat", login.ID, true},
		{"another client's", at("myAS", album.ID), "news", login.ID, false},
		{"another login's", at("myAS", foreign.ID), "album", login.ID, false},
		{"another server's", at("second", album.ID), "album", login.ID, false},
		{"none", at("myAS", ""), "album", login.ID, false},
		{"an unknown one", at("myAS", "unknown"), "album", login.ID, false},
		{"one of no login", at("myAS", album.ID), "album", "", false},
		{"NUL", at("myAS", album.ID+"\x00"), "album", login.ID, false},
	} {
		if got, err := w.realm.UsedIn(w.Context(), c.key, c.client, c.login); err != nil || got != c.want {
			w.Errorf("%s: %v, %v, want %v", c.what, got, err, c.want)
		}
	}
	if used, err := w.a.Realm("other").UsedIn(w.Context(), at("myAS", album.ID), "album", login.ID); err != nil || used {
		w.Errorf("another realm knows of it: %v, %v", used, err)
	}

	// What was foretold is what happens.
	w.mustEnd(sessions.Target{Login: login.ID}, logout(), 3) // with mail's, which nobody has seen
	if s, err := w.as.Session(w.Context(), news.ID, "alex"); err != nil || !s.Detached {
		w.Errorf("the offline session: %+v, %v", s, err)
	}
	if got := w.usesOf(w.realm, login.ID); got != "[]" {
		w.Errorf("an ended login is used for %s", got)
	}
}

func logoutEndsOffline(w *world) {
	login := w.begin()
	w.client("news")
	_, _ = w.grant(login, "album", refresh)
	held, session := w.grant(login, "news", offline)
	realm := w.a.Thorough("staff")
	found, err := realm.Uses(w.Context(), login.ID)
	w.ok(err)
	for _, use := range found {
		if use.Outlives {
			w.Errorf("%s is said to outlive the login", use.ClientID)
		}
	}
	if n, err := realm.End(w.Context(), sessions.Target{Login: login.ID}, logout()); err != nil || n != 2 || len(found) != 2 {
		w.Errorf("%d sessions of %d ended, %v", n, len(found), err)
	}
	w.live(held, false, "the offline grant")
	_, err = w.as.Session(w.Context(), session.ID, "alex")
	w.is(err, sessions.ErrNotFound, "the offline session")

	// By anything but a logout it outlives the login.
	login = w.login("alex")
	held, _ = w.grant(login, "news", offline)
	if _, err := realm.End(w.Context(), sessions.Target{Login: login.ID}, sessions.Ending{Reason: sessions.ReasonOtherUser}); err != nil {
		w.Error(err)
	}
	w.live(held, true, "the offline grant when another user has signed in")

	// By the entry as by the login.
	login = w.login("alex")
	held, _ = w.grant(login, "news", offline)
	if _, err := realm.End(w.Context(), sessions.Target{Entry: login.ID, OfUser: "alex"}, logout()); err != nil {
		w.Error(err)
	}
	w.live(held, false, "the offline grant of an entry")
}

func askerIsAudited(w *world) {
	for _, asked := range []sessions.Asker{{}, {AuthorizationServer: "myAS", ClientID: "album"}} {
		if asked.ClientID == "" {
			w.user("alex")
			w.client("album")
		}
		login := w.login("alex")
		ending := logout()
		ending.Asked = asked
		w.mustEnd(sessions.Target{Login: login.ID}, ending, 0)
		events, err := w.realm.Events(w.Context(), audit.Filter{Types: []audit.Type{audit.LoginEnded}, Limit: 1})
		w.ok(err)
		if len(events) != 1 || events[0].LoginID != login.ID || events[0].ClientID != asked.ClientID ||
			events[0].AuthorizationServer != asked.AuthorizationServer || events[0].Actor != "user:alex" {
			w.Errorf("asked by %+v: %+v", asked, events)
		}
		w.pass(1e9)
	}
}
