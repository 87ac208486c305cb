package storagetest

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

func attributesMerge(w *world) {
	_, session := w.grant(w.begin(), "album", refresh)
	_, other := w.grant(w.login("alex"), "album", refresh)
	set := func(value string) *string { return &value }
	odd := "Älex' \"phone\"\n\x00 </script>\u2028 %s ?"
	for _, step := range []struct {
		change map[string]*string
		want   map[string]string
	}{
		{nil, map[string]string{}},
		{map[string]*string{"absent": nil}, map[string]string{}},
		{map[string]*string{"a": set("1"), "b": set("2")}, map[string]string{"a": "1", "b": "2"}},
		{map[string]*string{"b": set(odd), "c": set("")}, map[string]string{"a": "1", "b": odd, "c": ""}},
		{map[string]*string{"a": nil, "c": set("3")}, map[string]string{"b": odd, "c": "3"}},
		{map[string]*string{"b": nil, "c": nil, "absent": nil}, map[string]string{}},
		{map[string]*string{"a": set("again")}, map[string]string{"a": "again"}},
	} {
		before, err := w.as.Session(w.Context(), session.ID, "alex")
		w.ok(err)
		got, err := w.as.ChangeAttributes(w.Context(), session.ID, "alex", step.change)
		w.ok(err)
		if !maps.Equal(got.CustomAttributes, step.want) {
			w.Errorf("%v: answered %q, want %q", step.change, got.CustomAttributes, step.want)
		}
		read, err := w.as.Session(w.Context(), session.ID, "alex")
		w.ok(err)
		if fmt.Sprint(*read) != fmt.Sprint(*got) {
			w.Errorf("answered %+v, and reads %+v", got, read)
		}
		before.CustomAttributes = step.want
		if fmt.Sprint(*read) != fmt.Sprint(*before) {
			w.Errorf("something else changed: %+v, was %+v", read, before)
		}
	}
	if s, err := w.as.Session(w.Context(), other.ID, "alex"); err != nil || len(s.CustomAttributes) > 0 {
		w.Errorf("another session has %+v, %v", s, err)
	}
	// The session goes on with what it has.
	if s, err := w.as.InsertGrant(w.Context(), w.newGrant(&sessions.Login{ID: session.LoginID, UserID: "alex", AuthTime: w.now()}, "album", refresh)); err != nil || s.CustomAttributes["a"] != "again" {
		w.Errorf("another grant of the session: %+v, %v", s, err)
	}
}

func attributesRefusals(w *world) {
	login := w.begin()
	w.user("bea")
	w.client("gone")
	_, session := w.grant(login, "album", refresh)
	_, pending := w.authorize(w.login("alex"), "album", refresh)
	_, ended := w.grant(w.login("alex"), "album", refresh)
	w.mustEnd(sessions.Target{Session: ended.ID}, logout(), 1)
	_, orphan := w.grant(w.login("alex"), "gone", refresh)
	_, err := w.deleteClient(w.as, "myAS", "gone")
	w.ok(err)
	value := "x"
	change := map[string]*string{"a": &value}
	refused := func(as ServerStore, id, user, what string) {
		w.Helper()
		s, err := as.ChangeAttributes(w.Context(), id, user, change)
		if s != nil {
			w.Errorf("%s: answered %+v", what, s)
		}
		w.is(err, sessions.ErrNotFound, "%s", what)
	}
	refused(w.as, "unknown", "alex", "unknown id")
	refused(w.as, "", "alex", "no id")
	refused(w.as, session.ID, "", "no user")
	refused(w.as, session.ID, "bea", "another user")
	refused(w.as, session.ID+"\x00", "alex", "NUL")
	refused(w.as, session.ID+"\xff", "alex", "not UTF-8")
	refused(w.as, strings.ToUpper(session.ID), "alex", "another case")
	refused(w.as, pending.ID, "alex", "no code redeemed yet")
	refused(w.as, ended.ID, "alex", "ended")
	refused(w.as, orphan.ID, "alex", "client deleted")
	refused(w.a.Server("other", "staff"), session.ID, "alex", "another authorization server")
	refused(w.a.Server("myAS", "staff"), "session", "alex", "prefix")
	if s, err := w.as.Session(w.Context(), session.ID, "alex"); err != nil || len(s.CustomAttributes) > 0 {
		w.Errorf("after all refusals: %+v, %v", s, err)
	}
	w.pass(Lifetimes.SessionIdle + sessions.IdleSlack)
	refused(w.as, session.ID, "alex", "idle")
}

func attributesShareNothing(w *world) {
	login := w.begin()
	other := w.a.Server("other", "staff")
	w.clientAt(other, "album")
	g := w.newGrant(login, "album", refresh)
	for _, as := range []ServerStore{w.as, other} { // the same ids at both
		_, err := as.InsertGrant(w.Context(), g)
		w.ok(err)
		if ok, err := as.Redeem(w.Context(), g.Grant.ID, w.now()); err != nil || !ok {
			w.Fatalf("redeeming: %v, %v", ok, err)
		}
	}
	value := "x"
	_, err := w.as.ChangeAttributes(w.Context(), g.Session.ID, "alex", map[string]*string{"a": &value})
	w.ok(err)
	if s, err := other.Session(w.Context(), g.Session.ID, "alex"); err != nil || len(s.CustomAttributes) > 0 {
		w.Errorf("a change reached another authorization server: %+v, %v", s, err)
	}
	w.mustEnd(sessions.Target{All: true, OfUser: "alex"}, logout(), 1)
	if s, err := other.Session(w.Context(), g.Session.ID, "alex"); err != nil || s.Ended != nil {
		w.Errorf("ending all reached another authorization server: %+v, %v", s, err)
	}
}

// patiently calls f until the database has room for it: beside many writers of
// another process SQLite gives up at times, and says so.
func patiently(f func() error) error {
	err := sessions.ErrUnavailable
	for try := 0; try < 20 && errors.Is(err, sessions.ErrUnavailable); try++ {
		err = f()
	}
	return err
}

// raceAttributes wants that no change is lost beside others, at two nodes.
func raceAttributes(w *world) {
	_, session := w.grant(w.begin(), "album", refresh)
	won := w.race(32, func(i int, as ServerStore, _ RealmStore) bool {
		name, value := fmt.Sprint("name", i), fmt.Sprint("value", i)
		err := patiently(func() error {
			_, err := as.ChangeAttributes(w.Context(), session.ID, "alex", map[string]*string{name: &value, "shared": &value})
			return err
		})
		w.is(err, nil, "change %d", i)
		return err == nil
	})
	s, err := w.as.Session(w.Context(), session.ID, "alex")
	w.ok(err)
	if won != 32 || len(s.CustomAttributes) != 33 {
		w.Errorf("%d changes were answered, and %d attributes are there: %v", won, len(s.CustomAttributes), s.CustomAttributes)
	}
}

// raceAttributesAndEnding wants that nothing changes behind an ending.
func raceAttributesAndEnding(w *world) {
	w.begin()
	for range 10 {
		_, session := w.grant(w.login("alex"), "album", refresh)
		w.race(8, func(i int, as ServerStore, _ RealmStore) bool {
			value := fmt.Sprint(i)
			change := func() error {
				_, err := as.ChangeAttributes(w.Context(), session.ID, "alex", map[string]*string{"a": &value})
				return err
			}
			if i == 5 {
				err := patiently(func() error {
					_, err := as.End(w.Context(), sessions.Target{All: true, OfUser: "alex"}, logout())
					return err
				})
				w.is(err, nil, "ending all")
				w.is(patiently(change), sessions.ErrNotFound, "a change behind the ending")
				return true
			}
			err := patiently(change)
			if err != nil && !errors.Is(err, sessions.ErrNotFound) {
				w.Errorf("changing: %v", err)
			}
			return err == nil
		})
	}
}

func endingAllOfUser(w *world) {
	w.begin()
	w.user("bea")
	w.client("news")
	by := sessions.Ending{By: sessions.Actor{Kind: sessions.ActorClient, ID: "album"}, Reason: sessions.ReasonEndedByClient}
	login := w.login("alex")
	own, current := w.grant(login, "album", refresh)
	elsewhere, _ := w.grant(w.login("alex"), "album", offline)
	news, _ := w.grant(login, "news", refresh)
	gone := w.login("alex")
	detached, _ := w.grant(gone, "album", offline)
	w.mustEnd(sessions.Target{Login: gone.ID}, logout(), 0)
	pending, _ := w.authorize(w.login("alex"), "album", refresh)
	foreign, _ := w.grant(w.login("bea"), "album", refresh)

	for name, target := range map[string]sessions.Target{
		"everybody's":              {All: true},
		"everybody's at a client":  {All: true, OfClient: "album"},
		"all and a session":        {All: true, OfUser: "alex", Session: current.ID},
		"all and a client":         {All: true, OfUser: "alex", Client: "album"},
		"all and a login":          {All: true, OfUser: "alex", Login: login.ID},
		"a session with exception": {Session: current.ID, Except: "x"},
		"a client with exception":  {Client: "album", OfUser: "alex", Except: current.ID},
	} {
		if _, err := w.as.End(w.Context(), target, by); err == nil || errors.Is(err, sessions.ErrNotFound) {
			w.Errorf("%s: %v", name, err)
		}
	}
	for name, target := range map[string]sessions.Target{
		"all": {All: true, OfUser: "alex"}, "a user with all": {User: "alex", All: true}, "a user with exception": {User: "alex", Except: current.ID},
	} {
		if _, err := w.realm.End(w.Context(), target, by); err == nil || errors.Is(err, sessions.ErrNotFound) {
			w.Errorf("a realm ended %s: %v", name, err)
		}
	}
	for name, target := range map[string]sessions.Target{
		"unknown user":             {All: true, OfUser: "nobody"},
		"unknown client":           {All: true, OfUser: "alex", OfClient: "unknown"},
		"NUL":                      {All: true, OfUser: "alex\x00"},
		"NUL in the exception":     {All: true, OfUser: "alex", Except: "\x00"},
		"the only one is excepted": {All: true, OfUser: "bea", Except: w.listed("bea")},
	} {
		_, err := w.end(target, by)
		w.is(err, sessions.ErrNotFound, "%s", name)
	}
	for _, grant := range []string{own, elsewhere, news, detached, foreign} {
		w.live(grant, true, "a grant after all refusals")
	}

	// Visible to the client are its own; the current one stays.
	w.mustEnd(sessions.Target{All: true, OfUser: "alex", OfClient: "album", Except: current.ID}, by, 3)
	for what, grant := range map[string]string{"another login's": elsewhere, "a detached": detached, "an unredeemed": pending} {
		w.live(grant, false, "%s grant", what)
	}
	w.live(own, true, "the excepted session's grant")
	w.live(news, true, "another client's grant")
	w.mustEnd(sessions.Target{All: true, OfUser: "alex"}, by, 2)
	w.live(own, false, "the current session's grant")
	w.live(news, false, "another client's grant")
	w.live(foreign, true, "another user's grant")
	if state := w.state(news); state.Session.Ended == nil || state.Session.Ended.By != by.By || state.Session.Ended.Reason != by.Reason {
		w.Errorf("the session ended as %+v", state.Session.Ended)
	}
	_, err := w.end(sessions.Target{All: true, OfUser: "alex"}, by)
	w.is(err, sessions.ErrNotFound, "nothing left")
	if _, err := w.realm.LoginByCookie(w.Context(), login.CookieHash); err != nil {
		w.Errorf("the login: %v", err)
	}
	// Its own sessions the client may begin again; others need fresh proof.
	_, err = w.as.InsertGrant(w.Context(), w.newGrant(login, "album", refresh))
	w.is(err, nil, "the ending client's next grant")
	_, err = w.as.InsertGrant(w.Context(), w.newGrant(login, "news", refresh))
	if err == nil {
		w.Error("another client came back without fresh proof")
	}
}

// raceGrantsAndEndingAll sets authorizations against the end of all: whatever
// began before it is over, and nothing begins behind it without fresh proof.
func raceGrantsAndEndingAll(w *world) {
	w.client("album")
	for round := range 25 {
		user := w.user(fmt.Sprint("user", round)).ID
		login := w.login(user)
		keptGrant, kept := w.grant(w.login(user), "album", refresh)
		w.grant(login, "album", refresh) // goes on, until it is ended
		var grants sync.Map
		w.race(8, func(i int, as ServerStore, _ RealmStore) bool {
			if i == 5 {
				err := patiently(func() error {
					_, err := as.End(w.Context(), sessions.Target{All: true, OfUser: user, Except: kept.ID}, sessions.Ending{
						By: sessions.Actor{Kind: sessions.ActorClient, ID: "news"}, Reason: sessions.ReasonEndedByClient, At: w.now()})
					return err
				})
				w.is(err, nil, "ending all")
				return true
			}
			return w.tryGrant(as, login, kind(i%3), &grants)
		})
		grants.Range(func(id, _ any) bool {
			w.live(id.(string), false, "a grant beside the end of all")
			return true
		})
		w.live(keptGrant, true, "the excepted session's grant")
		if got := w.listed(user); got != kept.ID {
			w.Errorf("left are %q, want %q", got, kept.ID)
		}
	}
}

func listPages(w *world) {
	w.begin()
	w.client("news")
	w.user("bea")
	w.grant(w.login("bea"), "album", refresh)
	for i := range 9 { // three at a time begin in one millisecond
		w.grant(w.login("alex"), []string{"album", "news"}[i%2], refresh)
		if i%3 == 2 {
			w.grant(w.login("bea"), "album", refresh)
			w.pass(time.Millisecond)
		}
	}
	for _, client := range []string{"", "album", "news"} {
		all := func(f sessions.Filter) []sessions.Session {
			w.Helper()
			f.UserID, f.ClientID = "alex", client
			list, err := w.as.Sessions(w.Context(), f)
			w.ok(err)
			return list
		}
		at := func(s sessions.Session) sessions.Position {
			return sessions.Position{CreatedAt: s.CreatedAt, ID: s.ID}
		}
		ids := func(list []sessions.Session) string {
			var ids []string
			for _, s := range list {
				ids = append(ids, s.ID)
			}
			return strings.Join(ids, " ")
		}
		whole := all(sessions.Filter{})
		for i, s := range whole {
			for limit := 1; limit <= len(whole); limit++ {
				if got, want := ids(all(sessions.Filter{After: at(s), Limit: limit})), ids(whole[i+1:min(len(whole), i+1+limit)]); got != want {
					w.Errorf("client %q: %d behind %d: %q, want %q", client, limit, i, got, want)
				}
				if got, want := ids(all(sessions.Filter{Before: at(s), Limit: limit})), ids(whole[max(0, i-limit):i]); got != want {
					w.Errorf("client %q: %d ahead of %d: %q, want %q", client, limit, i, got, want)
				}
			}
		}
		// A position need not be a session's.
		first, last := whole[0], whole[len(whole)-1]
		for _, c := range []struct {
			filter sessions.Filter
			want   []sessions.Session
		}{
			{sessions.Filter{After: sessions.Position{CreatedAt: first.CreatedAt.Add(time.Hour), ID: "x"}}, whole},
			{sessions.Filter{After: sessions.Position{CreatedAt: last.CreatedAt.Add(-time.Hour), ID: "0"}}, nil},
			{sessions.Filter{Before: sessions.Position{CreatedAt: last.CreatedAt.Add(-time.Hour), ID: "0"}}, whole},
			{sessions.Filter{Before: sessions.Position{CreatedAt: first.CreatedAt.Add(time.Hour), ID: "x"}}, nil},
			{sessions.Filter{After: sessions.Position{CreatedAt: first.CreatedAt, ID: "0"}}, whole},
			{sessions.Filter{After: sessions.Position{CreatedAt: last.CreatedAt, ID: "zzz"}}, nil},
			{sessions.Filter{After: sessions.Position{CreatedAt: first.CreatedAt, ID: "\x00"}}, nil},
			{sessions.Filter{Before: sessions.Position{CreatedAt: first.CreatedAt, ID: "\xff"}}, nil},
		} {
			if got := ids(all(c.filter)); got != ids(c.want) {
				w.Errorf("client %q: %+v: %q, want %q", client, c.filter, got, ids(c.want))
			}
		}
	}
	position := sessions.Position{CreatedAt: w.now(), ID: "x"}
	if list, err := w.as.Sessions(w.Context(), sessions.Filter{UserID: "alex", After: position, Before: position}); err == nil {
		w.Errorf("a list that is bounded at both ends has %d", len(list))
	}
}
