package storagetest

import (
	"fmt"
	"maps"
	"time"

	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

// says is what sources say of any user: a value, or nothing for nil.
func says(change map[string]*string) func(*users.User) map[string]*string {
	return func(*users.User) map[string]*string { return change }
}

// sourcedGrant is a grant whose session gets attributes from sources, at once
// redeemed.
func (w *world) sourcedGrant(as ServerStore, login *sessions.Login, client string, sourced func(*users.User) map[string]*string) *sessions.Session {
	w.Helper()
	g := w.newGrant(login, client, refresh)
	g.Sourced = sourced
	session, err := as.InsertGrant(w.Context(), g)
	w.ok(err)
	if ok, err := as.Redeem(w.Context(), g.Grant.ID, w.now()); err != nil || !ok {
		w.Fatalf("redeeming: %v, %v", ok, err)
	}
	read, err := as.Session(w.Context(), session.ID, login.UserID)
	w.ok(err)
	if !maps.Equal(read.CustomAttributes, session.CustomAttributes) {
		w.Errorf("the grant was answered with %q, and %q is read", session.CustomAttributes, read.CustomAttributes)
	}
	return session
}

func attributesFromSources(w *world) {
	login := w.begin()
	set := func(value string) *string { return &value }
	client := func(id string, change map[string]*string) {
		w.Helper()
		_, err := w.as.ChangeAttributes(w.Context(), id, "alex", change)
		w.ok(err)
	}
	has := func(s *sessions.Session, what string, want map[string]string) {
		w.Helper()
		if !maps.Equal(s.CustomAttributes, want) {
			w.Errorf("%s: the attributes are %q, want %q", what, s.CustomAttributes, want)
		}
	}
	odd := "Älex' \"phone\"\n\x00 </script>\u2028 %s ? $1"
	first := w.sourcedGrant(w.as, login, "album", says(map[string]*string{"agent": set(odd), "city": nil}))
	has(first, "begun", map[string]string{"agent": odd})
	client(first.ID, map[string]*string{"note": set(odd), "city": set("a client's"), "agent": set("a client's")})
	w.pass(time.Second)
	next := func(what string, change map[string]*string, want map[string]string) {
		w.Helper()
		s := w.sourcedGrant(w.as, login, "album", says(change))
		if s.ID != first.ID {
			w.Fatalf("%s: another session", what)
		}
		has(s, what, want)
	}
	next("the source wins, and what it doesn't have stays", map[string]*string{"agent": set("2")}, map[string]string{"agent": "2", "note": odd, "city": "a client's"})
	next("the same again", map[string]*string{"agent": set("2")}, map[string]string{"agent": "2", "note": odd, "city": "a client's"})
	next("a source that has nothing now", map[string]*string{"agent": nil, "city": set("Bern")}, map[string]string{"note": odd, "city": "Bern"})
	next("no sources any more", nil, map[string]string{"note": odd, "city": "Bern"})
	next("all are gone", map[string]*string{"note": nil, "city": nil}, map[string]string{})
	next("and come back", map[string]*string{"city": set("")}, map[string]string{"city": ""})

	// A session that begins has nothing of one that was ended.
	w.mustEnd(sessions.Target{Session: first.ID}, sessions.Ending{By: sessions.Actor{Kind: sessions.ActorClient, ID: "album"}, Reason: sessions.ReasonLogout}, 1)
	again := w.sourcedGrant(w.as, login, "album", says(map[string]*string{"agent": set("3")}))
	has(again, "begun again", map[string]string{"agent": "3"})
	if again.ID == first.ID {
		w.Error("the ended session went on")
	}
	state := w.listed("alex")
	if state != again.ID {
		w.Errorf("listed are %q", state)
	}
}

// attributesOfUser wants the user as the transaction reads him, and no other.
func attributesOfUser(w *world) {
	w.client("album")
	for _, id := range []string{"alex", "bea"} {
		w.ok(w.realm.InsertUser(w.Context(), &users.User{ID: id, Username: "name-" + id, Password: "phc", CreatedAt: w.now(),
			Claims: users.Claims{Email: id + "@example.com", Address: &users.Address{Locality: "city of " + id}}}))
	}
	for _, id := range []string{"alex", "bea"} {
		s := w.sourcedGrant(w.as, w.login(id), "album", func(u *users.User) map[string]*string {
			if u.ID != id || u.Password != "" {
				w.Errorf("the sources are told of %+v", u)
			}
			return map[string]*string{"email": &u.Claims.Email, "city": &u.Claims.Address.Locality, "name": &u.Username}
		})
		if want := (map[string]string{"email": id + "@example.com", "city": "city of " + id, "name": "name-" + id}); !maps.Equal(s.CustomAttributes, want) {
			w.Errorf("the attributes are %q, want %q", s.CustomAttributes, want)
		}
	}
	// Of who may not sign in, nothing is asked.
	login := w.login("bea")
	w.mustEnd(sessions.Target{User: "alex"}, sessions.Ending{Effects: []sessions.Effect{sessions.LockUser{UserID: "alex"}}}, 1)
	for what, g := range map[string]oauth.NewGrant{
		"a locked user":   w.newGrant(&sessions.Login{ID: login.ID, UserID: "alex", AuthTime: w.now()}, "album", refresh),
		"an unknown user": w.newGrant(&sessions.Login{ID: login.ID, UserID: "nobody", AuthTime: w.now()}, "album", refresh),
	} {
		g.Sourced = func(u *users.User) map[string]*string {
			w.Errorf("%s: the sources are told of %+v", what, u)
			return nil
		}
		_, err := w.as.InsertGrant(w.Context(), g)
		w.is(err, oauth.ErrNotLive, "%s", what)
	}
}

func sourcesShareNothing(w *world) {
	login := w.begin()
	w.client("news")
	other := w.a.Server("other", "staff")
	w.clientAt(other, "album")
	value := func(text string) map[string]*string { return map[string]*string{"agent": &text} }
	want := map[*sessions.Session]string{
		w.sourcedGrant(w.as, login, "album", says(value("1"))):           "1",
		w.sourcedGrant(other, login, "album", says(value("2"))):          "2",
		w.sourcedGrant(w.as, login, "news", says(value("3"))):            "3",
		w.sourcedGrant(w.as, w.login("alex"), "album", says(value("4"))): "4",
	}
	w.sourcedGrant(other, login, "album", says(value("2")))
	for s, agent := range want {
		as := w.as
		if agent == "2" {
			as = other
		}
		read, err := as.Session(w.Context(), s.ID, "alex")
		w.ok(err)
		if read.CustomAttributes["agent"] != agent || len(read.CustomAttributes) != 1 {
			w.Errorf("session %s has %q", agent, read.CustomAttributes)
		}
	}
}

// raceSourcesAndChanges sets authorizations against changes by the client, at
// two nodes: no change of either is lost.
func raceSourcesAndChanges(w *world) {
	login := w.begin()
	session := w.sourcedGrant(w.as, login, "album", nil)
	for range 5 {
		w.race(16, func(i int, as ServerStore, _ RealmStore) bool {
			value := fmt.Sprint(i)
			err := patiently(func() error {
				if i%4 != 0 {
					_, err := as.ChangeAttributes(w.Context(), session.ID, "alex", map[string]*string{fmt.Sprint("client", i): &value})
					return err
				}
				g := w.newGrant(login, "album", plain)
				g.Sourced = says(map[string]*string{"agent": &value, fmt.Sprint("source", i): &value})
				_, err := as.InsertGrant(w.Context(), g)
				return err
			})
			w.is(err, nil, "%d", i)
			return true
		})
		s, err := w.as.Session(w.Context(), session.ID, "alex")
		w.ok(err)
		if len(s.CustomAttributes) != 12+4+1 {
			w.Errorf("%d attributes are there: %q", len(s.CustomAttributes), s.CustomAttributes)
		}
		clear := map[string]*string{"agent": nil}
		for name := range s.CustomAttributes {
			clear[name] = nil
		}
		_, err = w.as.ChangeAttributes(w.Context(), session.ID, "alex", clear)
		w.ok(err)
	}
}

// raceToBegin lets many authorizations begin one session: each wins over those
// before it, and what each alone says is there in the end.
func raceToBegin(w *world) {
	w.begin()
	for range 5 {
		login := w.login("alex")
		w.race(8, func(i int, as ServerStore, _ RealmStore) bool {
			value := fmt.Sprint(i)
			g := w.newGrant(login, "album", plain)
			g.Sourced = says(map[string]*string{"agent": &value, "source" + value: &value})
			err := patiently(func() error {
				_, err := as.InsertGrant(w.Context(), g)
				return err
			})
			w.is(err, nil, "grant %d", i)
			if i == 0 {
				if ok, err := as.Redeem(w.Context(), g.Grant.ID, w.now()); err != nil || !ok {
					w.Errorf("redeeming: %v, %v", ok, err)
				}
			}
			return true
		})
		list, err := w.as.Sessions(w.Context(), sessions.Filter{UserID: "alex", Limit: 10})
		w.ok(err)
		found := false
		for _, s := range list {
			if s.LoginID == login.ID {
				found = true
				if len(s.CustomAttributes) != 9 {
					w.Errorf("%d attributes are there: %q", len(s.CustomAttributes), s.CustomAttributes)
				}
			}
		}
		if !found {
			w.Error("the session is not listed")
		}
	}
}
