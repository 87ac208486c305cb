package storagetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/sessions"
)

func entryEnds(w *world) {
	w.user("alex")
	w.user("bea")
	w.client("album")
	other := w.a.Server("other", "staff")
	w.clientAt(other, "album")
	login, beas := w.login("alex"), w.login("bea")
	mine, session := w.grant(login, "album", refresh)
	g := w.newGrant(login, "album", refresh)
	_, err := other.InsertGrant(w.Context(), g)
	w.ok(err)
	_, err = other.Redeem(w.Context(), g.Grant.ID, w.now())
	w.ok(err)
	_, beasSession := w.grant(beas, "album", offline)
	w.mustEnd(sessions.Target{Login: beas.ID}, logout(), 0)
	alone := entryID("myAS", beasSession)

	ending := logout()
	end := func(id, user string) (int, error) {
		e := ending
		e.At = w.now()
		return w.realm.End(w.Context(), sessions.Target{Entry: id, OfUser: user}, e)
	}
	for name, c := range map[string][2]string{
		"unknown": {strings.Repeat("0", 64), "alex"}, "somebody else's login": {login.ID, "bea"}, "somebody else's session": {alone, "alex"},
		"ended": {beas.ID, "bea"}, "session in a login": {entryID("myAS", session), "alex"}, "session id": {session.ID, "alex"},
		"wrong server": {entryID("other", beasSession), "bea"}, "NUL": {"\x00", "alex"}, "nobody's": {login.ID, "nobody"},
	} {
		_, err := end(c[0], c[1])
		w.is(err, sessions.ErrNotFound, "%s", name)
	}
	for _, t := range []sessions.Target{{Entry: login.ID}, {Entry: login.ID, OfUser: "alex", Login: login.ID}, {Entry: login.ID, OfUser: "alex", OfClient: "album"},
		{Login: login.ID, ExceptEntryOf: sessions.Key{AuthorizationServer: "myAS", ID: session.ID}}} {
		if _, err := w.realm.End(w.Context(), t, ending); err == nil {
			w.Errorf("%+v: no error", t)
		}
	}
	w.live(mine, true, "after refusals")
	ending = sessions.Ending{By: sessions.Actor{Kind: sessions.ActorUser, ID: "admin"}, Reason: sessions.ReasonEndedByAdmin,
		Effects: []sessions.Effect{sessions.Note{Kind: sessions.NoteEnding, By: sessions.Actor{Kind: sessions.ActorUser, ID: "admin"}, UserID: "alex", Detail: login.ID}}}
	if n, err := end(login.ID, "alex"); err != nil || n != 2 {
		w.Errorf("ending the login ended %d sessions, %v; want those at two servers", n, err)
	}
	w.live(mine, false, "of the ended login")
	if state, err := other.State(w.Context(), g.Grant.ID, ""); err != nil || state.Live {
		w.Errorf("the other server's grant lives, %v", err)
	}
	ending.Effects = nil
	if n, err := end(alone, "bea"); err != nil || n != 1 {
		w.Errorf("ending the session without a login ended %d, %v", n, err)
	}
	if left := w.entries(sessions.EntryQuery{}); len(left) != 0 {
		w.Errorf("left: %+v", left)
	}
	events, err := w.realm.Events(w.Context(), audit.Filter{UserID: "alex", Types: []audit.Type{audit.EndingRequested, audit.LoginEnded, audit.SessionEnded}})
	w.ok(err)
	count := map[audit.Type]int{}
	for _, e := range events {
		if count[e.Type]++; e.Actor != "user:admin" {
			w.Errorf("audited: %+v", e)
		}
	}
	if count[audit.EndingRequested] != 1 || count[audit.LoginEnded] != 1 || count[audit.SessionEnded] != 2 {
		w.Errorf("audited: %v", count)
	}
}

func endAllBut(w *world) {
	for i, current := range []string{"login", "alone", "late", "none", "foreign"} {
		user := fmt.Sprint("user", i)
		w.user(user)
		album := fmt.Sprint("album", i)
		w.client(album)
		kept, other, gone := w.login(user), w.login(user), w.login(user)
		inLogin, session := w.grant(kept, album, offline)
		inOther, _ := w.grant(other, album, offline)
		alone, aloneSession := w.grant(gone, album, offline)
		w.mustEnd(sessions.Target{Login: gone.ID}, logout(), 0)
		late := w.login(user)
		lateGrant, lateSession := w.grant(late, album, offline)
		w.pass(Lifetimes.LoginIdle - time.Minute)
		w.ok(w.realm.Touch(w.Context(), []sessions.Touch{{LoginID: kept.ID, At: w.now()}, {LoginID: other.ID, At: w.now()}}))
		w.pass(5 * time.Minute) // late is over by time
		t := sessions.Target{User: user}
		switch current {
		case "login":
			t.ExceptEntryOf = sessions.Key{AuthorizationServer: "myAS", ID: session.ID}
		case "alone":
			t.ExceptEntryOf = sessions.Key{AuthorizationServer: "myAS", ID: aloneSession.ID}
		case "late":
			t.ExceptEntryOf = sessions.Key{AuthorizationServer: "myAS", ID: lateSession.ID}
		case "foreign":
			t.ExceptEntryOf = sessions.Key{AuthorizationServer: "other", ID: session.ID}
		}
		if _, err := w.end(t, logout()); err != nil {
			w.Fatal(err)
		}
		for grant, want := range map[string]bool{inLogin: current == "login", inOther: false, alone: current == "alone", lateGrant: current == "late"} {
			w.live(grant, want, "all but %s", current)
		}
		want := map[string]string{"login": kept.ID, "alone": entryID("myAS", aloneSession), "late": entryID("myAS", lateSession)}[current]
		if got := ids(w.entries(sessions.EntryQuery{UserID: user}), nil); got != want {
			w.Errorf("all but %s: left %q, want %q", current, got, want)
		}
	}
}

func entriesShareNothing(w *world) {
	login := w.begin()
	_, session := w.grant(login, "album", offline)
	elsewhere := w.a.Realm("other realm")
	w.userIn(elsewhere, "alex")
	theirs := w.loginIn(elsewhere, "alex", sessions.SignIn{})
	found, err := elsewhere.Entries(w.Context(), sessions.EntryQuery{})
	w.ok(err)
	if len(found) != 1 || found[0].ID != theirs.ID || len(found[0].Applications) != 0 {
		w.Errorf("the other realm has %+v", found)
	}
	for _, id := range []string{login.ID, entryID("myAS", session)} {
		_, err := elsewhere.End(w.Context(), sessions.Target{Entry: id, OfUser: "alex"}, logout())
		w.is(err, sessions.ErrNotFound, "ending from another realm")
		found, err := elsewhere.Entries(w.Context(), sessions.EntryQuery{Conditions: []sessions.Condition{{By: sessions.ByEntryID, Operator: "eq", Text: id}}})
		if err != nil || len(found) != 0 {
			w.Errorf("from another realm: %+v, %v", found, err)
		}
	}
	w.is(elsewhere.NameLogin(w.Context(), "alex", login.ID, "mine"), sessions.ErrNotFound, "naming from another realm")
	_, err = elsewhere.End(w.Context(), sessions.Target{User: "alex"}, logout())
	w.ok(err)
	if got := w.entries(sessions.EntryQuery{}); len(got) != 1 || got[0].ID != login.ID || len(got[0].Applications) != 1 {
		w.Errorf("after the end of everything in the other realm: %+v", got)
	}
	if known, err := elsewhere.HasUser(w.Context(), "bea"); err != nil || known {
		w.Errorf("bea is known: %v, %v", known, err)
	}
}

func deviceNamed(w *world) {
	login := w.begin()
	w.ok(w.realm.NameLogin(w.Context(), "alex", login.ID, "Küche"))
	if got := w.entries(sessions.EntryQuery{UserID: "alex"}); got[0].DeviceName != "Küche" {
		w.Errorf("found %+v", got)
	}
	long := strings.Repeat("🏠", sessions.MaxDeviceName)
	w.ok(w.realm.NameLogin(w.Context(), "alex", login.ID, long))
	if got := w.entries(sessions.EntryQuery{UserID: "alex"}); got[0].DeviceName != long {
		w.Errorf("the longest name became %q", got[0].DeviceName)
	}
	w.is(w.realm.NameLogin(w.Context(), "bea", login.ID, "x"), sessions.ErrNotFound, "somebody else's")
	w.is(w.realm.NameLogin(w.Context(), "alex", "\x00", "x"), sessions.ErrNotFound, "NUL")
	w.mustEnd(sessions.Target{Login: login.ID}, logout(), 0)
	w.is(w.realm.NameLogin(w.Context(), "alex", login.ID, "x"), sessions.ErrNotFound, "ended")
}

func notesAudited(w *world) {
	w.user("alex")
	by := sessions.Actor{Kind: sessions.ActorUser, ID: "admin"}
	for range 3 {
		w.ok(w.realm.Note(w.Context(), sessions.Note{Kind: sessions.NoteViewed, By: by, UserID: "alex", Detail: "all"}))
		w.ok(w.realm.Note(w.Context(), sessions.Note{Kind: sessions.NoteRefused, By: by, UserID: "alex", Detail: "list"}))
	}
	w.ok(w.realm.Note(w.Context(), sessions.Note{Kind: sessions.NoteRefused, By: sessions.Actor{Kind: sessions.ActorUser, ID: "bea"}, UserID: "alex", Detail: "list"}))
	w.ok(w.realm.Note(w.Context(), sessions.Note{Kind: sessions.NoteMissed, By: by, UserID: "alex", Detail: "none"}))
	events, err := w.realm.Events(w.Context(), audit.Filter{Types: []audit.Type{audit.SessionsViewed, audit.AccessRefused}})
	w.ok(err)
	var got []string
	for _, e := range events {
		got = append(got, fmt.Sprint(e.Type, " ", e.Result, " ", e.Reason, " ", e.Actor, " ", e.UserID, " ", e.Detail, " ", e.Count, " ", e.Address == Origin.Address))
	}
	slices.Sort(got)
	want := []string{"access_refused refused not_allowed user:admin alex list 3 true", "access_refused refused not_allowed user:bea alex list 1 true",
		"access_refused refused not_found user:admin alex none 1 true", "sessions_viewed success  user:admin alex all 3 true"}
	if !slices.Equal(got, want) {
		w.Errorf("audited:\n%s", strings.Join(got, "\n"))
	}
}
