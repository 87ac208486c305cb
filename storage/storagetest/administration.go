package storagetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

func entriesOfClient(w *world) {
	for _, id := range []string{"alex", "bea"} {
		w.user(id)
	}
	w.client("album")
	w.client("news")
	other := w.a.Server("other", "staff")
	w.clientAt(other, "album")
	names := map[string]string{}
	add := func(name, user, address string) *sessions.Login {
		w.pass(time.Minute)
		login := w.loginIn(w.realm, user, sessions.SignIn{Address: address, UserAgent: chrome})
		names[login.ID] = name
		return login
	}
	a, b, c := add("a", "alex", "192.0.2.1"), add("b", "bea", "192.0.2.2"), add("c", "alex", "192.0.2.1")
	add("unused", "alex", "192.0.2.1")
	// The client is used in another order than that of the logins.
	for i, login := range []*sessions.Login{c, a, b} {
		w.pass(time.Minute)
		w.grant(login, "album", refresh)
		if i == 0 {
			w.grant(login, "news", refresh)
		}
	}
	w.authorize(add("never used", "alex", "192.0.2.1"), "album", refresh)
	gone := add("gone", "bea", "192.0.2.1")
	_, lasting := w.grant(gone, "album", offline)
	names[entryID("myAS", lasting)] = "d"
	w.mustEnd(sessions.Target{Login: gone.ID}, logout(), 0)
	elsewhere := add("e", "bea", "192.0.2.1")
	g := w.newGrant(elsewhere, "album", refresh)
	_, err := other.InsertGrant(w.Context(), g)
	w.ok(err)
	_, err = other.Redeem(w.Context(), g.Grant.ID, w.now())
	w.ok(err)

	of := func(server, client string) sessions.Condition {
		return sessions.Condition{By: sessions.ByClient, Operator: sessions.OpEqual, Server: server, Text: client}
	}
	text := func(by, operator, text string) sessions.Condition {
		return sessions.Condition{By: by, Operator: operator, Text: text}
	}
	at := func(operator string, t time.Time) sessions.Condition {
		return sessions.Condition{By: sessions.ByCreated, Operator: operator, Time: t}
	}
	type conditions []sessions.Condition
	for _, tt := range []struct {
		want string
		conditions
	}{
		{"d b a c", conditions{of("myAS", "album")}},
		{"c", conditions{of("myAS", "news")}},
		{"e", conditions{of("other", "album")}},
		{"", conditions{of("other", "news")}},
		{"", conditions{of("myAS", "ALBUM")}},
		{"", conditions{of("", "album")}},
		{"", conditions{of("my\x00AS", "album")}},
		{"", conditions{{By: sessions.ByClient, Operator: sessions.OpStartsWith, Server: "myAS", Text: "album"}}},
		{"d b", conditions{of("myAS", "album"), text(sessions.ByUsername, "eq", "name-bea")}},
		{"a c", conditions{of("myAS", "album"), text(sessions.ByAddress, "eq", "192.0.2.1")}},
		{"b a c", conditions{of("myAS", "album"), text(sessions.ByBrowser, "eq", "Chrome")}},
		{"", conditions{of("myAS", "album"), text(sessions.ByBrowser, "eq", "Firefox")}},
		{"c", conditions{of("myAS", "album"), text(sessions.ByApplication, "eq", "client news")}},
		{"d b c", conditions{of("myAS", "album"), at("ge", b.CreatedAt)}},
		{"b a", conditions{of("myAS", "album"), at("le", b.CreatedAt)}},
		{"d", conditions{of("myAS", "album"), at("ge", c.CreatedAt.Add(time.Millisecond))}},
		{"", conditions{of("myAS", "album"), at("ge", w.now().Add(time.Minute))}},
	} {
		if got := ids(w.entries(sessions.EntryQuery{Conditions: tt.conditions}), names); got != tt.want {
			w.Errorf("%+v: found %q, want %q", tt.conditions, got, tt.want)
		}
	}
	// Page by page, forward and back, each comes once, and in the same order.
	d := w.directory()
	admin := sessions.Person{UserID: "alex", Admin: true}
	q := sessions.EntryQuery{Limit: 1, Conditions: conditions{of("myAS", "album")}}
	var forward, back []string
	for {
		page, err := d.All(w.Context(), admin, q)
		w.ok(err)
		forward = append(forward, ids(page.Entries, names))
		if !page.Older || len(forward) > 9 {
			break
		}
		q.Before = page.Entries[0].Position
	}
	q.After, q.Before = q.Before-1, 0
	for {
		page, err := d.All(w.Context(), admin, q)
		w.ok(err)
		back = append(back, ids(page.Entries, names))
		if !page.Newer || len(back) > 9 {
			break
		}
		q.After = page.Entries[0].Position
	}
	if got := strings.Join(forward, " ") + " | " + strings.Join(back, " "); got != "d b a c | a b d" {
		w.Errorf("page by page: %q", got)
	}
	if _, err := d.All(w.Context(), admin, sessions.EntryQuery{Conditions: conditions{of("myAS", "album"), of("myAS", "news")}}); err == nil {
		w.Error("two clients at once are no error")
	}
}

func entriesOfBrowser(w *world) {
	w.user("alex")
	login := w.loginIn(w.realm, "alex", sessions.SignIn{UserAgent: firefox})
	of := func(browser string) []sessions.Entry {
		return w.entries(sessions.EntryQuery{Conditions: []sessions.Condition{{By: sessions.ByBrowser, Operator: sessions.OpEqual, Text: browser}}})
	}
	if len(of("Firefox")) != 1 || len(of("Chrome"))+len(of("firefox"))+len(of("")) != 0 {
		w.Errorf("of Firefox %d, of Chrome %d", len(of("Firefox")), len(of("Chrome")))
	}
	// The browser was brought up to date, or the cookie went elsewhere.
	w.loginIn(w.realm, "alex", sessions.SignIn{UserAgent: chrome, Current: login.ID})
	if len(of("Chrome")) != 1 || len(of("Firefox")) != 0 {
		w.Errorf("after a sign-in with another: of Chrome %d, of Firefox %d", len(of("Chrome")), len(of("Firefox")))
	}
	w.loginIn(w.realm, "alex", sessions.SignIn{UserAgent: "<script>alert(1)</script>"})
	if len(of(sessions.OtherBrowser)) != 1 {
		w.Errorf("of no known browser: %d", len(of(sessions.OtherBrowser)))
	}
}

func accountsFound(w *world) {
	add := func(realm RealmStore, id, name, display, email string) {
		w.ok(realm.InsertUser(w.Context(), &users.User{ID: id, Username: name, Password: "phc", CreatedAt: w.now(),
			Claims: users.Claims{Name: display, Email: email}}))
	}
	add(w.realm, "1", "alex", "Alex Example", "alex@example.com")
	add(w.realm, "2", "Alexandra", "Sandra 50%", "Sandra_@Example.com")
	add(w.realm, "3", "bea", "Alexis 'x'", "bea@example.com")
	add(w.realm, "4", "carl", "", "")
	add(w.realm, "5", "Älva", "Älva", "")
	add(w.realm, "7", "oezlem", "Özlem Öztürk", "O\u0308zlem@Example.com")
	add(w.realm, "8", "emil", "E\u0301mile Straße", "äb@bücher.example")
	add(w.realm, "9", "ivan", "ＩＶＡＮ Иванов", strings.Repeat("ü", 400)+"@example.com")
	add(w.a.Realm("other"), "6", "alexey", "Alexey", "alexey@example.com")
	w.mustEnd(sessions.Target{User: "2"}, sessions.Ending{Reason: sessions.ReasonUserLocked, Effects: []sessions.Effect{sessions.LockUser{UserID: "2"}}}, 0)
	for _, tt := range []struct{ text, want string }{
		{"alex", "1 2 3"}, {"ALEXA", "2"}, {"alexi", "3"}, {"alex@", "1"}, {"SANDRA", "2"}, {"sandra_", "2"}, {"sandra 50%", "2"},
		{"sandra%", ""}, {"%", ""}, {"_", ""}, {"l", ""}, {"c", "4"}, {"äl", "5"}, {"ÄL", "5"}, {"alexis '", "3"}, {"bea", "3"},
		{"Özlem", "7"}, {"özlem", "7"}, {"ÖZLEM ÖZT", "7"}, {"O\u0308zlem", "7"}, {"o\u0308zlem o\u0308", "7"}, {"özlem@", "7"}, {"ozlem", ""},
		{"Émile", "8"}, {"émile", "8"}, {"E\u0301MILE", "8"}, {"émile STRASSE", "8"}, {"émile straß", "8"}, {"ÄB@BÜ", "8"}, {"äb@bu\u0308", "8"},
		{"ivan и", "9"}, {"IVAN ИВАНОВ", "9"}, {"ｉｖａｎ и", "9"}, {strings.Repeat("Ü", 200), "9"}, {strings.Repeat("Ü", 400), "9"},
		{"' OR 1=1 --", ""}, {"\x00", ""}, {"\xff", ""}, {"", ""}, {"alexey", ""}, {strings.Repeat("a", 5000), ""},
	} {
		found, err := w.realm.FindAccounts(w.Context(), tt.text, sessions.MaxAccounts)
		w.ok(err)
		var got []string
		for _, a := range found {
			got = append(got, a.ID)
		}
		if strings.Join(got, " ") != tt.want {
			w.Errorf("%q finds %q, want %q", tt.text, got, tt.want)
		}
	}
	found, err := w.realm.FindAccounts(w.Context(), "alexandra", 5)
	w.ok(err)
	want := sessions.Account{ID: "2", Username: "Alexandra", Name: "Sandra 50%", Email: "Sandra_@Example.com", CreatedAt: w.now(), LockedAt: w.now()}
	if len(found) != 1 || found[0] != want {
		w.Errorf("found %+v, want %+v", found, want)
	}
	one, err := w.realm.Account(w.Context(), "2")
	w.ok(err)
	if *one != want {
		w.Errorf("read %+v, want %+v", *one, want)
	}
	for _, id := range []string{"6", "", "\x00", "nobody"} {
		_, err := w.realm.Account(w.Context(), id)
		w.is(err, sessions.ErrUserNotFound, "Account(%q)", id)
		w.is(w.realm.UnlockAccount(w.Context(), id, sessions.Actor{}), sessions.ErrUserNotFound, "UnlockAccount(%q)", id)
	}
	for i := range 30 {
		add(w.realm, fmt.Sprint("many-", i), fmt.Sprintf("many-%02d", i), fmt.Sprintf("Many %02d", 29-i), fmt.Sprintf("many-%02d@example.com", i))
	}
	if found, err := w.realm.FindAccounts(w.Context(), "many", sessions.MaxAccounts); err != nil || len(found) != sessions.MaxAccounts || found[19].Username != "many-19" {
		w.Errorf("of many: %d, %v, the last %+v", len(found), err, found[len(found)-1])
	}
}

func clientChoices(w *world) {
	w.client("news")
	w.client("album")
	other := w.a.Server("other", "staff")
	w.clientAt(other, "album")
	w.clientAt(w.a.Server("foreign", "elsewhere"), "spy")
	w.client("deleted")
	if _, err := w.end(sessions.Target{Client: "deleted"}, sessions.Ending{Effects: []sessions.Effect{
		sessions.DeleteClient{AuthorizationServer: "myAS", ClientID: "deleted"}}}); err != nil {
		w.Fatal(err)
	}
	found, err := w.realm.ClientChoices(w.Context(), 10)
	w.ok(err)
	want := []sessions.ClientChoice{{AuthorizationServer: "myAS", ClientID: "album", Name: "Client album"},
		{AuthorizationServer: "other", ClientID: "album", Name: "Client album"}, {AuthorizationServer: "myAS", ClientID: "news", Name: "Client news"}}
	if !slices.Equal(found, want) {
		w.Errorf("offered: %+v", found)
	}
	if found, err := w.realm.ClientChoices(w.Context(), 2); err != nil || len(found) != 2 {
		w.Errorf("of two: %+v, %v", found, err)
	}
}

// occurrences counts what is recorded of those types, by type and actor.
func (w *world) occurrences(types ...audit.Type) map[string]int {
	w.Helper()
	found, err := w.realm.Events(w.Context(), audit.Filter{Types: types})
	w.ok(err)
	count := map[string]int{}
	for _, e := range found {
		count[fmt.Sprint(e.Type, " ", e.Actor)] += e.Count
	}
	return count
}

func selectionEnds(w *world) {
	for _, id := range []string{"alex", "bea", "admin"} {
		w.user(id)
	}
	w.client("album")
	d, admin := w.directory(), sessions.Person{UserID: "admin", Admin: true}
	first, second, kept := w.login("alex"), w.login("bea"), w.login("bea")
	token, _ := w.grant(first, "album", refresh)
	keptToken, _ := w.grant(kept, "album", refresh)
	gone := w.login("bea")
	lastingToken, lasting := w.grant(gone, "album", offline)
	w.mustEnd(sessions.Target{Login: gone.ID}, logout(), 0)
	elsewhere := w.a.Realm("other")
	w.userIn(elsewhere, "bea")
	foreign := w.loginIn(elsewhere, "bea", sessions.SignIn{})

	chosen := []string{first.ID, second.ID, entryID("myAS", lasting)}
	seen, err := d.Selected(w.Context(), admin, append(chosen, foreign.ID, gone.ID, "\x00", ""))
	if err == nil && len(seen) != 0 {
		w.Errorf("with an id that nothing has: %+v", seen)
	}
	if seen, err = d.Selected(w.Context(), admin, append(chosen, foreign.ID, gone.ID, "")); err != nil || len(seen) != 3 {
		w.Errorf("selected: %+v, %v", seen, err)
	}
	if n, err := d.EndSelection(w.Context(), admin, append(chosen, first.ID, foreign.ID, gone.ID)); err != nil || n != 3 {
		w.Errorf("ended %d, %v", n, err)
	}
	w.live(token, false, "of a chosen login")
	w.live(lastingToken, false, "of a chosen session")
	w.live(keptToken, true, "of a login that was not chosen")
	if left := w.entries(sessions.EntryQuery{}); len(left) != 1 || left[0].ID != kept.ID {
		w.Errorf("left: %+v", left)
	}
	if _, err := elsewhere.LoginByCookie(w.Context(), foreign.CookieHash); err != nil {
		w.Errorf("the other realm's: %v", err)
	}
	got := w.occurrences(audit.EndingRequested, audit.AccessRefused)
	if got["ending_requested user:admin"] != 3 || got["access_refused user:admin"] != 1 {
		w.Errorf("recorded: %v", got)
	}
	for _, none := range [][]string{nil, {}} {
		if n, err := d.EndSelection(w.Context(), admin, none); err != nil || n != 0 {
			w.Errorf("of none ended %d, %v", n, err)
		}
		if seen, err := d.Selected(w.Context(), admin, none); err != nil || len(seen) != 0 {
			w.Errorf("of none selected %+v, %v", seen, err)
		}
	}
	var many []string
	for i := range sessions.MaxSelection + 1 {
		many = append(many, fmt.Sprintf("%064d", i))
	}
	if _, err := d.EndSelection(w.Context(), admin, append(many, kept.ID)); err == nil {
		w.Error("more than can be chosen are no error")
	}
	w.live(keptToken, true, "after refusals")
}

func adminLocks(w *world) {
	for _, id := range []string{"alex", "admin"} {
		w.user(id)
	}
	w.client("album")
	d, admin := w.directory(), sessions.Person{UserID: "admin", Admin: true}
	gone := w.login("alex")
	lasting, _ := w.grant(gone, "album", offline)
	w.mustEnd(sessions.Target{Login: gone.ID}, logout(), 0)
	token, _ := w.grant(w.login("alex"), "album", refresh)
	own := w.login("admin")

	w.is(d.Lock(w.Context(), admin, "admin"), sessions.ErrSelf, "his own account")
	w.is(d.Lock(w.Context(), admin, "nobody"), sessions.ErrUserNotFound, "nobody's")
	w.is(d.Lock(w.Context(), admin, ""), sessions.ErrUserNotFound, "no account")
	if _, err := w.realm.LoginByCookie(w.Context(), own.CookieHash); err != nil {
		w.Errorf("the administrator's own login: %v", err)
	}
	w.live(token, true, "after refusals")
	w.ok(d.Lock(w.Context(), admin, "alex"))
	w.live(token, false, "of a locked user")
	w.live(lasting, false, "detached, of a locked user")
	account, err := d.Account(w.Context(), admin, "alex")
	w.ok(err)
	if !account.LockedAt.Equal(w.now()) {
		w.Errorf("locked at %v", account.LockedAt)
	}
	_, err = w.realm.SignIn(w.Context(), w.signIn("alex", sessions.SignIn{}), sessions.Ending{})
	w.is(err, sessions.ErrUserLocked, "a sign-in of the locked user")
	w.is(d.Unlock(w.Context(), admin, "nobody"), sessions.ErrUserNotFound, "unlocking nobody")
	w.ok(d.Unlock(w.Context(), admin, "alex"))
	w.live(token, false, "of a user unlocked again")
	w.live(lasting, false, "detached, of a user unlocked again")
	w.login("alex")
	if got := w.occurrences(audit.UserLocked, audit.UserUnlocked); got["user_locked user:admin"] != 1 || got["user_unlocked user:admin"] != 1 || len(got) != 2 {
		w.Errorf("recorded: %v", got)
	}
}

func onlyAdmins(w *world) {
	w.user("alex")
	w.user("bea")
	login := w.login("alex")
	d, c, bea := w.directory(), w.Context(), sessions.Person{UserID: "bea"}
	one := func(_ any, err error) error { return err }
	calls := []func(sessions.Person) error{
		func(p sessions.Person) error { return one(d.Search(c, p, "alex")) },
		func(p sessions.Person) error { return one(d.Account(c, p, "alex")) },
		func(p sessions.Person) error { return one(d.ClientChoices(c, p)) },
		func(p sessions.Person) error { return one(d.Selected(c, p, []string{login.ID})) },
		func(p sessions.Person) error { return one(d.EndSelection(c, p, []string{login.ID})) },
		func(p sessions.Person) error { return d.Lock(c, p, "alex") },
		func(p sessions.Person) error { return d.Unlock(c, p, "alex") },
	}
	for i, call := range calls {
		w.is(call(bea), sessions.ErrForbidden, "call %d", i)
		if err := call(sessions.Person{Admin: true}); err == nil {
			w.Errorf("call %d of nobody: no error", i)
		}
	}
	if got := w.occurrences(audit.AccessRefused)["access_refused user:bea"]; got != len(calls) {
		w.Errorf("%d refusals are recorded, want %d", got, len(calls))
	}
	if _, err := w.realm.LoginByCookie(c, login.CookieHash); err != nil {
		w.Errorf("after the refusals: %v", err)
	}
	if account, err := w.realm.Account(c, "alex"); err != nil || !account.LockedAt.IsZero() {
		w.Errorf("after the refusals: %+v, %v", account, err)
	}
	admin := sessions.Person{UserID: "bea", Admin: true}
	for _, text := range []string{"", " ", strings.Repeat("a", sessions.MaxSearch+1), "\xff"} {
		if found, err := d.Search(c, admin, text); err != nil || len(found) != 0 {
			w.Errorf("search for %.10q: %+v, %v", text, found, err)
		}
	}
	if found, err := d.Search(c, admin, " name-A "); err != nil || len(found) != 1 {
		w.Errorf("search: %+v, %v", found, err)
	}
	if got := w.occurrences(audit.SessionsViewed)["sessions_viewed user:bea"]; got != 1 {
		w.Errorf("%d searches are recorded, want 1", got)
	}
}

// namedLooks: a list that is narrowed to a user is a look at him, and no other is.
func namedLooks(w *world) {
	w.user("alex")
	w.user("bea")
	w.login("alex")
	d, c, admin := w.directory(), w.Context(), sessions.Person{UserID: "bea", Admin: true}
	views := func() map[string]int {
		w.Helper()
		events, err := w.realm.Events(c, audit.Filter{Types: []audit.Type{audit.SessionsViewed}})
		w.ok(err)
		of := map[string]int{}
		for _, e := range events {
			of[e.UserID] += e.Count
		}
		return of
	}
	for _, looked := range []struct {
		user     string
		found    int
		operator string
		names    []string
	}{
		{"alex", 1, "eq", []string{"NAME-alex "}}, {"bea", 0, "eq", []string{"name-bea"}}, {"", 0, "eq", []string{"name"}},
		{"", 1, "sw", []string{"name-alex"}}, {"alex", 0, "eq", []string{"nobody", "name-alex"}}, {"", 0, "eq", []string{"", "\x00", "\xff"}},
	} {
		before := views()
		q := sessions.EntryQuery{}
		for _, name := range looked.names {
			q.Conditions = append(q.Conditions, sessions.Condition{By: sessions.ByUsername, Operator: looked.operator, Text: name})
		}
		if page, err := d.All(c, admin, q); err != nil || len(page.Entries) != looked.found {
			w.Errorf("list of %q: %+v, %v", looked.names, page, err)
		}
		before[looked.user]++
		if after := views(); !maps.Equal(after, before) {
			w.Errorf("after a list of %q views by user are %v, want %v", looked.names, after, before)
		}
	}
}
