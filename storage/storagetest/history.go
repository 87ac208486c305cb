package storagetest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/deliveries"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

func (w *world) past(q sessions.PastQuery) []sessions.Past {
	w.Helper()
	found, err := w.realm.Past(w.Context(), q)
	w.ok(err)
	for i := range found {
		if i > 0 && found[i].Position >= found[i-1].Position {
			w.Errorf("line %d has position %d behind %d", i, found[i].Position, found[i-1].Position)
		}
	}
	return found
}

// directory holds the rules over the world's realm.
func (w *world) directory() *sessions.Directory {
	return &sessions.Directory{Manager: &sessions.Manager{Realm: w.realm, Now: w.now}, Store: w.realm, Past: w.realm}
}

func pastShows(w *world) {
	w.user("alex")
	registered := toldMetadata("album")
	registered.ClientName = "Client album"
	w.ok(w.as.InsertClient(w.Context(), &clients.Client{Metadata: registered}))
	w.client("calendar")
	login := w.loginIn(w.realm, "alex", sessions.SignIn{Address: "192.0.2.7", UserAgent: "Mozilla/5.0"})
	w.ok(w.realm.NameLogin(w.Context(), "alex", login.ID, "Kitchen"))
	_, album := w.grant(login, "album", refresh)
	_, calendar := w.grant(login, "calendar", offline)
	empty := w.login("alex")
	w.authorize(empty, "album", refresh) // which never had a token
	if past := w.past(sessions.PastQuery{UserID: "alex"}); len(past) != 0 {
		w.Fatalf("before anything has ended: %+v", past)
	}

	w.pass(time.Minute)
	first := w.now()
	w.mustEnd(sessions.Target{Login: login.ID}, logout(), 1) // the calendar is detached
	w.pass(time.Minute)
	second := w.now()
	w.mustEnd(sessions.Target{Login: empty.ID}, sessions.Ending{By: sessions.Actor{Kind: sessions.ActorUser, ID: "gone"}, Reason: sessions.ReasonEndedByAdmin}, 1)
	w.pass(time.Minute)
	third := w.now()
	w.mustEnd(sessions.Target{Session: calendar.ID}, sessions.Ending{By: sessions.Actor{Kind: sessions.ActorClient, ID: "album"}, Reason: sessions.ReasonEndedByClient}, 1)

	app := func(client string, s *sessions.Session, scopes ...string) []sessions.PastApplication {
		return []sessions.PastApplication{{Name: "Client " + client, AuthorizationServer: "myAS", ClientID: client, SessionID: s.ID, Scopes: scopes}}
	}
	want := []sessions.Past{
		{ID: entryID("myAS", calendar), UserID: "alex", Username: "name-alex", Applications: app("calendar", calendar, "openid", "offline_access"),
			Address: "192.0.2.7", UserAgent: "Mozilla/5.0", DeviceName: "Kitchen", CreatedAt: calendar.CreatedAt, EndedBy: "Client album",
			Ended: sessions.Ended{At: third, By: sessions.Actor{Kind: sessions.ActorClient, ID: "album"}, Reason: sessions.ReasonEndedByClient}},
		{ID: empty.ID, UserID: "alex", Username: "name-alex", Login: true, CreatedAt: empty.CreatedAt,
			Ended: sessions.Ended{At: second, By: sessions.Actor{Kind: sessions.ActorUser, ID: "gone"}, Reason: sessions.ReasonEndedByAdmin}},
		{ID: login.ID, UserID: "alex", Username: "name-alex", Login: true, Applications: app("album", album, "openid"),
			Address: "192.0.2.7", UserAgent: "Mozilla/5.0", DeviceName: "Kitchen", CreatedAt: login.CreatedAt, EndedBy: "name-alex",
			Ended: sessions.Ended{At: first, By: sessions.Actor{Kind: sessions.ActorUser, ID: "alex"}, Reason: sessions.ReasonLogout}},
	}
	shows := func(told sessions.Telling, at time.Time) {
		w.Helper()
		want[2].Applications[0].Told, want[2].Applications[0].ToldAt = told, at
		got := w.past(sessions.PastQuery{UserID: "alex"})
		for i := range got {
			got[i].Position = 0
		}
		if !reflect.DeepEqual(got, want) {
			w.Errorf("found\n%+v, want\n%+v", got, want)
		}
	}
	shows(sessions.ToldWaiting, time.Time{})
	all := deliveries.Claiming{Limit: 10, PerClient: 10}
	sent := w.claims(all, "album", "of a login")
	w.pass(time.Second)
	shows(sessions.ToldWaiting, time.Time{}) // being on its way is not having arrived
	w.ok(w.settle(sent[0], deliveries.Outcome{State: deliveries.Sent}))
	shows(sessions.ToldAcknowledged, w.now())
	// What ends by time is the server's doing, and a session can end before its login.
	again := w.login("alex")
	_, session := w.grant(again, "album", refresh)
	w.pass(time.Second)
	w.mustEnd(sessions.Target{Session: session.ID}, logout(), 1)
	w.pass(Lifetimes.LoginIdle + sessions.IdleSlack + time.Second)
	if _, err := w.realm.Sweep(w.Context(), 24*time.Hour, 100); err != nil {
		w.Fatal(err)
	}
	w.ok(w.settle(w.claims(all, "album", "of a session")[0], deliveries.Outcome{State: deliveries.Abandoned, Error: "no route"}))
	got := w.past(sessions.PastQuery{UserID: "alex", Limit: 2})
	if len(got) != 2 || got[0].ID != again.ID || got[0].Ended.Reason != sessions.ReasonExpired || got[0].EndedBy != "" || len(got[0].Applications) != 0 ||
		got[1].ID != entryID("myAS", session) || got[1].Login || got[1].Applications[0].Told != sessions.ToldNever || !got[1].Applications[0].ToldAt.IsZero() {
		w.Errorf("found %+v", got)
	}
}

// pastPaged: whoever follows the pages sees each line exactly once, though all
// of a user ended in the same millisecond and more ends meanwhile.
func pastPaged(w *world) {
	w.user("alex")
	w.client("album")
	want := map[string]bool{}
	for i := range 40 {
		login := w.login("alex")
		want[login.ID] = true
		if i%4 == 0 {
			_, s := w.grant(login, "album", offline)
			w.mustEnd(sessions.Target{Login: login.ID}, logout(), 0)
			want[entryID("myAS", s)] = true
		}
		if i%3 == 0 {
			w.pass(time.Millisecond)
		}
	}
	w.mustEnd(sessions.Target{User: "alex"}, logout(), 10)
	d, alex := w.directory(), sessions.Person{UserID: "alex"}
	for _, size := range []int{1, 7, sessions.MaxPast} {
		seen, q := map[string]int{}, sessions.PastQuery{Limit: size}
		for pages := 0; ; pages++ {
			page, err := d.History(w.Context(), alex, "", q)
			w.ok(err)
			if len(page.Past) > size || pages > 100 {
				w.Fatalf("page %d has %d lines", pages, len(page.Past))
			}
			for _, past := range page.Past {
				seen[past.ID]++
			}
			if !page.Older {
				break
			}
			q.Before = page.Past[len(page.Past)-1].Position
			extra := w.login("alex")
			w.pass(time.Millisecond)
			w.mustEnd(sessions.Target{Login: extra.ID}, logout(), 0)
		}
		for id := range want {
			if seen[id] != 1 {
				w.Errorf("in pages of %d %s was seen %d times", size, id, seen[id])
			}
		}
	}
	for _, q := range []sessions.PastQuery{{Limit: -1}, {Limit: sessions.MaxPast + 1}, {Before: -1}} {
		if _, err := d.History(w.Context(), alex, "", q); err == nil {
			w.Errorf("%+v is answered", q)
		}
	}
	for _, before := range []int64{1, 1 << 20, 1<<20 - 1, 1<<63 - 1} { // whatever somebody writes into a URL
		if _, err := d.History(w.Context(), alex, "", sessions.PastQuery{Before: before}); err != nil {
			w.Errorf("before %d: %v", before, err)
		}
	}
}

func pastOwn(w *world) {
	login := w.begin()
	w.user("bea")
	w.grant(login, "album", refresh)
	w.mustEnd(sessions.Target{Login: login.ID}, logout(), 1)
	elsewhere := w.a.Realm("other realm")
	w.userIn(elsewhere, "alex")
	for _, q := range []sessions.PastQuery{{UserID: "bea"}, {UserID: ""}, {UserID: "\x00"}} {
		if got := w.past(q); len(got) != 0 {
			w.Errorf("%q has %+v", q.UserID, got)
		}
	}
	if got, err := elsewhere.Past(w.Context(), sessions.PastQuery{UserID: "alex"}); err != nil || len(got) != 0 {
		w.Errorf("another realm has %+v, %v", got, err)
	}
	d := w.directory()
	_, err := d.History(w.Context(), sessions.Person{}, "", sessions.PastQuery{})
	if err == nil {
		w.Error("nobody has a history")
	}
	_, err = d.History(w.Context(), sessions.Person{UserID: "bea"}, "alex", sessions.PastQuery{})
	w.is(err, sessions.ErrForbidden, "somebody else's history")
	admin := sessions.Person{UserID: "bea", Admin: true}
	_, err = d.History(w.Context(), admin, "nobody", sessions.PastQuery{})
	w.is(err, sessions.ErrUserNotFound, "nobody's history")
	page, err := d.History(w.Context(), admin, "alex", sessions.PastQuery{})
	if err != nil || len(page.Past) != 1 || page.Older {
		w.Errorf("an administrator sees %+v, %v", page, err)
	}
	events, err := w.realm.Events(w.Context(), audit.Filter{UserID: "alex", Types: []audit.Type{audit.SessionsViewed, audit.AccessRefused}})
	w.ok(err)
	var got []string
	for _, e := range events {
		got = append(got, fmt.Sprint(e.Type, " ", e.Actor, " ", e.Detail))
	}
	slices.Sort(got)
	if want := []string{"access_refused user:bea history of a user", "sessions_viewed user:bea history of the user"}; !slices.Equal(got, want) {
		w.Errorf("audited %q", got)
	}
}

// consent remembers that the login's user allowed a client of a server something.
func (w *world) consent(as ServerStore, login *sessions.Login, client string, k kind) (grant string, session *sessions.Session) {
	w.Helper()
	g := w.newGrant(login, client, k)
	g.Consent = &sessions.Consent{UserID: login.UserID, ClientID: client, Scopes: g.Grant.Scopes, Resources: []string{"https://api.example"}, At: w.now()}
	session, err := as.InsertGrant(w.Context(), g)
	w.ok(err)
	_, err = as.Redeem(w.Context(), g.Grant.ID, w.now())
	w.ok(err)
	return g.Grant.ID, session
}

func permissionsWithdrawn(w *world) {
	login := w.begin()
	w.client("calendar")
	bea := w.user("bea")
	beas := w.login(bea.ID)
	other := w.a.Server("other", "staff")
	w.clientAt(other, "album")
	elsewhere, far := w.a.Realm("other realm"), w.a.Server("far", "other realm")
	w.userIn(elsewhere, "alex")
	w.clientAt(far, "album")
	theirs := w.loginIn(elsewhere, "alex", sessions.SignIn{})

	album, _ := w.consent(w.as, login, "album", offline)
	calendar, _ := w.consent(w.as, login, "calendar", refresh)
	atOther, _ := w.consent(other, login, "album", refresh)
	beasAlbum, _ := w.consent(w.as, beas, "album", refresh)
	farGrant, _ := w.consent(far, theirs, "album", refresh)
	second := w.login("alex")
	twice, _ := w.consent(w.as, second, "album", refresh)

	d, alex := w.directory(), sessions.Person{UserID: "alex"}
	listed := func() string {
		list, err := d.Permissions(w.Context(), alex)
		w.ok(err)
		var out []string
		for _, p := range list {
			if !slices.Contains(p.Scopes, "openid") || !slices.Equal(p.Resources, []string{"https://api.example"}) || !p.At.Equal(w.now()) {
				w.Errorf("a permission is %+v", p)
			}
			out = append(out, p.Name+" "+p.AuthorizationServer+"/"+p.ClientID)
		}
		return strings.Join(out, ", ")
	}
	if got := listed(); got != "Client album myAS/album, Client album other/album, Client calendar myAS/calendar" {
		w.Errorf("listed are %s", got)
	}
	for _, tt := range [][2]string{{"myAS", "nobody"}, {"nowhere", "album"}, {"far", "album"}, {"", "album"}, {"myAS", ""}, {"\x00", "album"}, {"myAS", "\xff"}} {
		w.is(d.Withdraw(w.Context(), alex, tt[0], tt[1]), sessions.ErrNotFound, "withdrawing %q", tt)
	}
	w.ok(d.Withdraw(w.Context(), alex, "myAS", "album"))
	if got := listed(); got != "Client album other/album, Client calendar myAS/calendar" {
		w.Errorf("afterwards %s", got)
	}
	w.live(album, false, "the withdrawn, offline access")
	w.live(twice, false, "the withdrawn in another login")
	w.live(calendar, true, "another client")
	w.live(beasAlbum, true, "another user")
	for as, grant := range map[ServerStore]string{other: atOther, far: farGrant} {
		if s, err := as.State(w.Context(), grant, ""); err != nil || !s.Live {
			w.Errorf("at another server: %+v, %v", s, err)
		}
	}
	// Who took it back must be asked anew, and prove who he is.
	if k, err := w.as.Consent(w.Context(), "alex", "album"); err == nil && k != nil {
		w.Errorf("the consent is still %+v", k)
	}
	_, err := w.as.InsertGrant(w.Context(), w.newGrant(login, "album", refresh))
	w.is(err, oauth.ErrLoginRequired, "a silent return")
	w.is(d.Withdraw(w.Context(), alex, "myAS", "album"), sessions.ErrNotFound, "withdrawing once more")
	past := w.past(sessions.PastQuery{UserID: "alex"})
	if len(past) != 2 || past[0].Ended.Reason != sessions.ReasonConsentWithdrawn || past[0].EndedBy != "name-alex" || past[0].Login {
		w.Errorf("the history has %+v", past)
	}
	events, err := w.realm.Events(w.Context(), audit.Filter{UserID: "alex", Types: []audit.Type{audit.ConsentWithdraw}})
	if err != nil || len(events) != 1 || events[0].ClientID != "album" || events[0].AuthorizationServer != "myAS" || events[0].Actor != "user:alex" {
		w.Errorf("audited %+v, %v", events, err)
	}
	for _, target := range []sessions.Target{
		{Client: "album", AuthorizationServer: "myAS"},
		{AuthorizationServer: "myAS", OfUser: "alex"},
		{Client: "album", AuthorizationServer: "myAS", OfUser: "alex", User: "alex"},
	} {
		if _, err := w.realm.End(w.Context(), target, logout()); err == nil {
			w.Errorf("%+v is taken", target)
		}
	}
}

func endAllButLogin(w *world) {
	for i, current := range []string{"live", "without applications", "over", "foreign", "unknown"} {
		user := fmt.Sprint("user", i)
		w.user(user)
		album := fmt.Sprint("album", i)
		w.client(album)
		kept, other, bare := w.login(user), w.login(user), w.login(user)
		gone := w.login(user)
		w.user("not-" + user)
		foreign := w.login("not-" + user)
		inKept, _ := w.grant(kept, album, refresh)
		inOther, _ := w.grant(other, album, offline)
		alone, _ := w.grant(gone, album, offline)
		inForeign, _ := w.grant(foreign, album, refresh)
		w.mustEnd(sessions.Target{Login: gone.ID}, logout(), 0)
		login := map[string]string{"live": kept.ID, "without applications": bare.ID, "over": gone.ID, "foreign": foreign.ID, "unknown": "x"}[current]
		w.ok(w.directory().EndOthers(w.Context(), sessions.Person{UserID: user, Login: login}))
		for grant, want := range map[string]bool{inKept: current == "live", inOther: false, alone: false, inForeign: true} {
			w.live(grant, want, "all but %s", current)
		}
		want := map[string]string{"live": kept.ID, "without applications": bare.ID}[current]
		if got := ids(w.entries(sessions.EntryQuery{UserID: user}), nil); got != want {
			w.Errorf("all but %s: left %q, want %q", current, got, want)
		}
	}
	if err := w.directory().EndOthers(w.Context(), sessions.Person{UserID: "user0"}); err == nil {
		w.Error("who sits at no browser has nothing to keep")
	}
	for _, target := range []sessions.Target{
		{Login: "x", ExceptLogin: "x"}, {Login: "x", Nothing: true},
		{User: "user0", ExceptLogin: "x", ExceptEntryOf: sessions.Key{AuthorizationServer: "myAS", ID: "x"}},
	} {
		if _, err := w.realm.End(w.Context(), target, logout()); err == nil {
			w.Errorf("%+v is taken", target)
		}
	}
}

func passwordChanged(w *world) {
	current := w.begin()
	other := w.login("alex")
	grant, _ := w.grant(other, "album", offline)
	d, alex := w.directory(), sessions.Person{UserID: "alex", Login: current.ID}
	w.ok(d.ChangePassword(w.Context(), alex, "second", "phc", false))
	w.live(grant, true, "when nothing is to end")
	w.is(d.ChangePassword(w.Context(), alex, "third", "phc", true), sessions.ErrProofStale, "judged by the old one")
	w.live(grant, true, "when nothing was changed")
	if u, err := w.realm.User(w.Context(), "alex"); err != nil || u.Password != "second" {
		w.Errorf("the password is %+v, %v", u, err)
	}
	w.ok(d.ChangePassword(w.Context(), alex, "third", "second", true))
	w.live(grant, false, "when the others are to end")
	if got := ids(w.entries(sessions.EntryQuery{UserID: "alex"}), nil); got != current.ID {
		w.Errorf("left is %q", got)
	}
	events, err := w.realm.Events(w.Context(), audit.Filter{UserID: "alex", Types: []audit.Type{audit.PasswordChanged}})
	if err != nil || len(events) != 2 || events[0].Actor != "user:alex" {
		w.Errorf("audited %+v, %v", events, err)
	}
	// A sign-in that was judged by the old one comes too late.
	_, err = w.realm.SignIn(w.Context(), w.signIn("alex", sessions.SignIn{Password: "second"}), logout())
	w.is(err, sessions.ErrProofStale, "signing in by the old one")
	if past := w.past(sessions.PastQuery{UserID: "alex"}); len(past) != 1 || past[0].ID != other.ID || past[0].Ended.Reason != sessions.ReasonPasswordChanged {
		w.Errorf("the history has %+v", past)
	}
	for _, p := range []sessions.Person{{UserID: "alex"}, {Login: current.ID}} {
		if d.ChangePassword(w.Context(), p, "x", "third", true) == nil {
			w.Errorf("%+v changed the password", p)
		}
	}
}

func markFollows(w *world) {
	login := w.begin()
	w.client("calendar")
	w.user("bea")
	alex := sessions.Person{UserID: "alex", Login: login.ID}
	d, seen := w.directory(), map[string]string{}
	last := ""
	is := func(what string, another bool) {
		w.Helper()
		mark, err := d.Mark(w.Context(), alex)
		w.ok(err)
		if another == (mark == last) {
			w.Errorf("%s: the mark is another one: %v", what, mark != last)
		}
		seen[what], last = mark, mark
	}
	is("at first", true)
	is("asked again", false)
	w.pass(time.Minute)
	is("later", false)
	beas := w.login("bea")
	w.grant(beas, "album", offline)
	is("somebody else's", false)
	other := w.login("alex")
	is("a login", true)
	w.ok(w.realm.NameLogin(w.Context(), "alex", other.ID, "Kitchen"))
	is("a name", true)
	w.authorize(other, "calendar", refresh)
	is("no token yet", false)
	_, session := w.grant(other, "album", offline)
	is("a session", true)
	w.ok(w.realm.Touch(w.Context(), []sessions.Touch{{LoginID: other.ID, At: w.now()}}))
	is("a use", false)
	w.mustEnd(sessions.Target{Login: other.ID}, logout(), 1)
	is("an end", true)
	w.mustEnd(sessions.Target{Session: session.ID}, logout(), 1)
	if is("the end of what outlived it", true); last != seen["somebody else's"] {
		w.Error("when all is as it was, the mark is another one")
	}
	for _, p := range []sessions.Person{{UserID: "alex", Login: other.ID}, {UserID: "alex", Login: beas.ID}, {UserID: "bea", Login: login.ID}, {UserID: "alex"}, {UserID: "alex", Login: "\x00"}} {
		_, err := d.Mark(w.Context(), p)
		w.is(err, sessions.ErrNotFound, "mark of %+v", p)
	}
	w.pass(Lifetimes.LoginIdle + sessions.IdleSlack + time.Second)
	_, err := d.Mark(w.Context(), alex)
	w.is(err, sessions.ErrNotFound, "mark by a login that is over by time")
}
