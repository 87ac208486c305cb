package storagetest

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

func (w *world) entries(q sessions.EntryQuery) []sessions.Entry {
	w.Helper()
	found, err := w.realm.Entries(w.Context(), q)
	w.ok(err)
	if !slices.IsSortedFunc(found, func(a, b sessions.Entry) int { return int(min(max(b.Position-a.Position, -1), 1)) }) {
		w.Errorf("not newest first: %+v", found)
	}
	return found
}

// ids are the entries' ids as the test names them.
func ids(found []sessions.Entry, names map[string]string) string {
	var out []string
	for _, e := range found {
		name := names[e.ID]
		if name == "" {
			name = e.ID
		}
		out = append(out, name)
	}
	return strings.Join(out, " ")
}

func entryID(as string, s *sessions.Session) string {
	return sessions.EntryID(sessions.Key{AuthorizationServer: as, ID: s.ID})
}

func entriesShow(w *world) {
	w.user("alex")
	album, calendar := w.client("album"), w.client("calendar")
	login := w.loginIn(w.realm, "alex", sessions.SignIn{Address: "192.0.2.7", UserAgent: "Mozilla/5.0"})
	_, first := w.grant(login, "album", refresh)
	w.pass(time.Second)
	_, second := w.grant(login, "calendar", offline)
	if _, err := w.as.InsertGrant(w.Context(), w.newGrant(login, "album", plain)); err != nil { // one more of the same session
		w.Fatal(err)
	}
	w.pass(time.Second)
	empty := w.login("alex")
	w.authorize(empty, "album", refresh) // which never had a token
	found := w.entries(sessions.EntryQuery{})
	if len(found) != 2 || found[0].ID != empty.ID || len(found[0].Applications) != 0 || found[1].Position == 0 {
		w.Fatalf("found %+v", found)
	}
	e := found[1]
	e.Position = 0
	want := sessions.Entry{ID: login.ID, UserID: "alex", Username: "name-alex", Login: true, Address: "192.0.2.7", UserAgent: "Mozilla/5.0",
		CreatedAt: login.CreatedAt, LastAccessAt: login.LastAccessAt, ExpiresAt: login.LastAccessAt.Add(Lifetimes.LoginIdle),
		Applications: []sessions.Application{
			{ID: album.UID, Number: int64(album.Number), Name: "Client album", AuthorizationServer: "myAS", ClientID: "album", SessionID: first.ID, Scopes: []string{"openid"},
				ConsentedAt: second.ConsentedAt, CreatedAt: first.CreatedAt, LastUsedAt: second.LastUsedAt},
			{ID: calendar.UID, Number: int64(calendar.Number), Name: "Client calendar", AuthorizationServer: "myAS", ClientID: "calendar", SessionID: second.ID,
				Scopes: []string{"openid", "offline_access"}, ConsentedAt: second.ConsentedAt, CreatedAt: second.CreatedAt, LastUsedAt: second.LastUsedAt, Offline: true},
		}}
	if !reflect.DeepEqual(e, want) {
		w.Errorf("found\n%+v, want\n%+v", e, want)
	}
	// What outlives its login is an entry of its own.
	w.mustEnd(sessions.Target{Login: login.ID}, logout(), 1)
	found = w.entries(sessions.EntryQuery{UserID: "alex"})
	if len(found) != 2 || found[1].ID != entryID("myAS", second) || found[1].Login || found[1].Address+found[1].UserAgent != "" ||
		len(found[1].Applications) != 1 || found[1].Applications[0].SessionID != second.ID || !found[1].CreatedAt.Equal(second.CreatedAt) {
		w.Errorf("after the login's end: %+v", found)
	}
	if len(found[1].ID) != 64 || !found[1].Has(sessions.Key{AuthorizationServer: "myAS", ID: second.ID}) || found[1].Has(sessions.Key{}) {
		w.Errorf("its id is %q", found[1].ID)
	}
	for _, q := range []sessions.EntryQuery{{UserID: "nobody"}, {UserID: "\x00"}, {UserID: "alex", Offset: 2}} {
		if found := w.entries(q); len(found) != 0 {
			w.Errorf("%+v: %+v", q, found)
		}
	}
	if found := w.entries(sessions.EntryQuery{UserID: "alex", Offset: 1, Limit: 1}); len(found) != 1 || found[0].ID == empty.ID {
		w.Errorf("with an offset: %+v", found)
	}
}

// entriesAgree: an entry shows a session as long as a grant of it lives, in its
// login or by itself, at each moment and by whatever it dies.
func entriesAgree(w *world) {
	w.user("alex")
	for _, id := range []string{"a-plain", "b-refresh", "c-offline", "deleted"} {
		w.client(id)
	}
	login := w.login("alex")
	type held struct {
		grant   string
		session *sessions.Session
	}
	var all []held
	for i, k := range []kind{plain, refresh, offline, offline} {
		client := []string{"a-plain", "b-refresh", "c-offline", "deleted"}[i]
		grant, session := w.grant(login, client, k)
		all = append(all, held{grant, session})
	}
	if _, err := w.end(sessions.Target{Client: "deleted"}, sessions.Ending{Effects: []sessions.Effect{
		sessions.DeleteClient{AuthorizationServer: "myAS", ClientID: "deleted"}}}); err != nil {
		w.Fatal(err)
	}
	check := func(when string) {
		w.Helper()
		_, loginErr := w.realm.LoginByCookie(w.Context(), login.CookieHash)
		for _, user := range []string{"", "alex"} {
			shown, logins := map[string]string{}, 0
			for _, e := range w.entries(sessions.EntryQuery{UserID: user}) {
				if e.Login {
					logins++
				}
				for _, a := range e.Applications {
					if shown[a.SessionID] != "" {
						w.Errorf("%s: session %s is shown twice", when, a.SessionID)
					}
					shown[a.SessionID] = e.ID
				}
			}
			if (loginErr == nil) != (logins == 1) {
				w.Errorf("%s: %d logins are shown, reading it: %v", when, logins, loginErr)
			}
			for _, h := range all {
				live := w.state(h.grant).Live
				if live != (shown[h.session.ID] != "") {
					w.Errorf("%s: session of %s lives: %v, shown in %q", when, h.session.ClientID, live, shown[h.session.ID])
				}
				if want := map[bool]string{true: login.ID, false: entryID("myAS", h.session)}[loginErr == nil]; live && shown[h.session.ID] != want {
					w.Errorf("%s: session of %s is shown in %q, want %q", when, h.session.ClientID, shown[h.session.ID], want)
				}
			}
		}
	}
	check("at first")
	w.pass(Lifetimes.SessionIdle + sessions.IdleSlack + time.Second)
	check("when what is refreshed has been idle")
	w.pass(Lifetimes.LoginIdle)
	check("when the login is over by time, and nobody has swept")
	if _, err := w.realm.Sweep(w.Context(), time.Hour, 100); err != nil {
		w.Fatal(err)
	}
	check("when the sweeper was there")
	w.pass(Lifetimes.OfflineIdle + sessions.IdleSlack)
	check("when all are idle")
	if found := w.entries(sessions.EntryQuery{}); len(found) != 0 {
		w.Errorf("at the end there is %+v", found)
	}
	// A locked user's are dead.
	again := w.login("alex")
	w.grant(again, "c-offline", offline)
	w.mustEnd(sessions.Target{User: "alex"}, sessions.Ending{Reason: sessions.ReasonUserLocked, Effects: []sessions.Effect{sessions.LockUser{UserID: "alex"}}}, 1+1)
	if found := w.entries(sessions.EntryQuery{}); len(found) != 0 {
		w.Errorf("of a locked user there is %+v", found)
	}
}

const (
	chrome  = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/73.0 Safari/537.36"
	firefox = "Mozilla/5.0 (Windows NT 10.0; rv:70.0) Gecko/20100101 Firefox/70.0 100%_!"
)

func entriesFilters(w *world) {
	for _, id := range []string{"alex", "Alexandra", "bea"} {
		w.user(id) // with the names name-alex, name-Alexandra, name-bea
	}
	w.client("album")
	w.client("Calendar")
	began := w.now()
	names := map[string]string{}
	add := func(name, user, address, agent string, clients ...string) *sessions.Login {
		login := w.loginIn(w.realm, user, sessions.SignIn{Address: address, UserAgent: agent})
		names[login.ID] = name
		for _, c := range clients {
			w.grant(login, c, refresh)
		}
		w.pass(time.Minute)
		return login
	}
	a := add("a", "alex", "192.0.2.1", chrome, "album", "Calendar")
	add("b", "Alexandra", "2001:db8::1", firefox, "Calendar")
	add("c", "bea", "192.0.2.10", "curl/8", "album")
	gone := add("gone", "bea", "192.0.2.1", chrome)
	_, offlineSession := w.grant(gone, "Calendar", offline)
	names[entryID("myAS", offlineSession)] = "d"
	w.mustEnd(sessions.Target{Login: gone.ID}, logout(), 0)
	w.pass(10 * time.Minute)
	w.ok(w.realm.Touch(w.Context(), []sessions.Touch{{LoginID: a.ID, At: w.now()}}))

	by := func(by, operator, text string) sessions.Condition {
		return sessions.Condition{By: by, Operator: operator, Text: text}
	}
	at := func(by, operator string, t time.Time) sessions.Condition {
		return sessions.Condition{By: by, Operator: operator, Time: t}
	}
	const user, id, app, agent, address, created, access = sessions.ByUsername, sessions.ByEntryID, sessions.ByApplication,
		sessions.ByUserAgent, sessions.ByAddress, sessions.ByCreated, sessions.ByLastAccess
	dID := entryID("myAS", offlineSession)
	type conditions []sessions.Condition
	for _, tt := range []struct {
		want string
		conditions
	}{
		{"d c b a", nil},
		{"a", conditions{by(user, "eq", "name-alex")}},
		{"b", conditions{by(user, "eq", " NAME-ALEXANDRA ")}},
		{"", conditions{by(user, "eq", "alex")}},
		{"", conditions{by(user, "eq", "a\x01b")}},
		{"b a", conditions{by(user, "sw", "Name-Alex")}},
		{"d c", conditions{by(user, "sw", "name-b")}},
		{"d c", conditions{by(user, "ew", "BEA")}},
		{"b a", conditions{by(user, "co", "-alex")}},
		{"", conditions{by(user, "co", "%")}},
		{"", conditions{by(user, "sw", "name_")}},
		{"a", conditions{by(id, "eq", strings.ToUpper(a.ID))}},
		{"d", conditions{by(id, "eq", dID)}},
		{"d", conditions{by(id, "sw", dID[:20])}},
		{"d", conditions{by(id, "ew", dID[30:])}},
		{"d", conditions{by(id, "co", dID[10:50])}},
		{"", conditions{by(id, "eq", dID[:63])}},
		{"", conditions{by(id, "eq", gone.ID)}},
		{"d b a", conditions{by(app, "eq", "CLIENT CALENDAR")}},
		{"c a", conditions{by(app, "eq", "client album")}},
		{"d c b a", conditions{by(app, "sw", "client")}},
		{"d b a", conditions{by(app, "co", "lend")}},
		{"c a", conditions{by(app, "ew", "bum")}},
		{"", conditions{by(app, "eq", "Client")}},
		{"a", conditions{by(app, "eq", "client album"), by(app, "eq", "client calendar")}},
		{"a", conditions{by(agent, "eq", strings.ToUpper(chrome))}},
		{"b a", conditions{by(agent, "sw", "mozilla/5.0 (")}},
		{"c", conditions{by(agent, "sw", "curl")}},
		{"a", conditions{by(agent, "co", "chrome/73")}},
		{"b", conditions{by(agent, "ew", "70.0 100%_!")}},
		{"", conditions{by(agent, "co", "mozilla%firefox")}},
		{"b", conditions{by(agent, "co", "%_!")}},
		{"a", conditions{by(address, "eq", "192.0.2.1")}},
		{"a", conditions{by(address, "eq", "::ffff:192.0.2.1")}},
		{"b", conditions{by(address, "eq", "2001:DB8:0::0001")}},
		{"", conditions{by(address, "eq", "192.0.2")}},
		{"", conditions{by(address, "sw", "192.0.2.1")}},
		{"c b a", conditions{at(created, "le", began.Add(2*time.Minute))}},
		{"b a", conditions{at(created, "le", began.Add(2*time.Minute-time.Millisecond))}},
		{"d c", conditions{at(created, "ge", began.Add(2*time.Minute))}},
		{"d", conditions{at(created, "ge", began.Add(2*time.Minute+time.Millisecond))}},
		{"c b", conditions{at(created, "ge", began.Add(time.Minute)), at(created, "le", began.Add(3*time.Minute))}},
		{"", conditions{at(created, "le", time.UnixMilli(0))}},
		{"d c b a", conditions{at(created, "le", time.UnixMilli(1<<42))}},
		{"", conditions{at(created, "ge", time.UnixMilli(1<<42))}},
		{"c b", conditions{at(access, "le", began.Add(3*time.Minute))}},
		{"d c b", conditions{at(access, "le", w.now().Add(-time.Millisecond))}},
		{"a", conditions{at(access, "ge", w.now())}},
		{"a", conditions{by(user, "sw", "name-alex"), by(agent, "co", "chrome"), by(address, "eq", "192.0.2.1"), by(app, "eq", "client album"),
			at(created, "le", began), at(access, "ge", began)}},
		{"", conditions{by(user, "eq", "name-bea"), by(agent, "co", "chrome")}},
		{"", conditions{by("unknown", "eq", "x")}},
		{"", conditions{by(agent, "le", "x")}},
		{"", conditions{at(access, "eq", began)}},
		{"", conditions{by(agent, "eq", "\x00")}},
		{"", conditions{by(agent, "co", "'; DROP TABLE logins; --")}},
	} {
		if got := ids(w.entries(sessions.EntryQuery{Conditions: tt.conditions}), names); got != tt.want {
			w.Errorf("%+v: found %q, want %q", tt.conditions, got, tt.want)
		}
		// The same rules hold in a user's own list.
		var own string
		for _, of := range []string{"bea", "Alexandra", "alex"} {
			own += " " + ids(w.entries(sessions.EntryQuery{UserID: of, Conditions: tt.conditions}), names)
		}
		if got := strings.Join(strings.Fields(own), " "); got != tt.want {
			w.Errorf("%+v: found %q one by one, want %q", tt.conditions, got, tt.want)
		}
	}
}

// entriesPaged: whoever follows the pages, forward and back, sees each entry
// that was there all the time exactly once, though many began in the same
// millisecond and others come and go.
func entriesPaged(w *world) {
	w.user("alex")
	w.client("album")
	const n = 60
	want := map[string]bool{}
	var doomed []string
	for i := range n {
		login := w.login("alex")
		if i%5 == 0 {
			_, s := w.grant(login, "album", offline)
			w.mustEnd(sessions.Target{Login: login.ID}, logout(), 0)
			want[entryID("myAS", s)] = true
			continue
		}
		if i%7 == 0 {
			doomed = append(doomed, login.ID)
			continue
		}
		want[login.ID] = true
	}
	change := func() {
		w.login("alex")
		if len(doomed) > 0 {
			w.mustEnd(sessions.Target{Login: doomed[0]}, logout(), 0)
			doomed = doomed[1:]
		}
	}
	d := sessions.Directory{Manager: &sessions.Manager{Realm: w.realm, Now: w.now}, Store: w.realm}
	admin := sessions.Person{UserID: "alex", Admin: true}
	for _, size := range []int{1, 7} {
		seen := map[string]int{}
		note := func(p sessions.EntryPage, when string) {
			if len(p.Entries) > size {
				w.Fatalf("%s: a page has %d entries", when, len(p.Entries))
			}
			for _, e := range p.Entries {
				if seen[e.ID]++; seen[e.ID] > 1 {
					w.Errorf("%s, pages of %d: %s comes again", when, size, e.ID)
				}
			}
		}
		all := func(when string) {
			for id := range want {
				if seen[id] != 1 {
					w.Errorf("%s, pages of %d: %s was seen %d times", when, size, id, seen[id])
				}
			}
			clear(seen)
		}
		page, err := d.All(w.Context(), admin, sessions.EntryQuery{Limit: size})
		w.ok(err)
		if page.Newer {
			w.Error("something is newer than the first page")
		}
		// The first of all stays, so that every other page has something ahead: what
		// is new may be anywhere among those of its millisecond.
		doomed = slices.DeleteFunc(doomed, func(id string) bool { return id == page.Entries[0].ID })
		for steps := 0; ; steps++ {
			note(page, "forward")
			if !page.Older || steps > 4*n {
				break
			}
			change()
			last := page.Entries[len(page.Entries)-1].Position
			if page, err = d.All(w.Context(), admin, sessions.EntryQuery{Limit: size, Before: last}); err != nil || !page.Newer {
				w.Fatalf("page behind %d: newer %v, %v", last, page.Newer, err)
			}
		}
		all("forward")
		for steps := 0; ; steps++ {
			note(page, "back")
			if !page.Newer || steps > 4*n {
				break
			}
			first := page.Entries[0].Position
			if page, err = d.All(w.Context(), admin, sessions.EntryQuery{Limit: size, After: first}); err != nil || !page.Older {
				w.Fatalf("page ahead of %d: older %v, %v", first, page.Older, err)
			}
		}
		all("back")
	}
}
