package storagetest

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/deliveries"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

// told registers a client that is to be told of endings.
func (w *world) told(as ServerStore, id string) {
	w.Helper()
	c := &clients.Client{Metadata: toldMetadata(id)}
	w.ok(as.InsertClient(w.Context(), c))
}

func toldMetadata(id string) clients.Metadata {
	return clients.Metadata{ClientID: id, BackchannelLogoutURI: "https://" + id + ".example/logout?a=b&c=d"}
}

// outbox are the deliveries of an authorization server, newest first.
func (w *world) outbox(server string) []deliveries.Delivery {
	w.Helper()
	found, err := w.a.Deliveries.Deliveries(w.Context(), server, deliveries.Filter{})
	w.ok(err)
	return found
}

// news tells, as sorted "server session" lines, of what deliveries the
// authorization servers have had since the last call.
func (w *world) news(seen map[string]bool) string {
	w.Helper()
	var lines []string
	for _, server := range []string{"myAS", "other"} {
		for _, d := range w.outbox(server) {
			if key := server + d.ID; !seen[key] {
				seen[key] = true
				lines = append(lines, server+" "+d.SessionID)
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

// cast is a user with sessions of every kind in one login. A session is told of
// if it was activated and its client registered an address.
type cast struct {
	user                      string
	login                     *sessions.Login
	grant                     string // of the session at the client told
	told, held, silent, never string // sessions at myAS: told, of offline access, of a client without address, never activated
	elsewhere                 string // told, at the authorization server other
}

// company registers the clients of a cast.
func (w *world) company() {
	w.told(w.as, "told")
	w.told(w.as, "held")
	w.told(w.as, "never")
	w.client("silent")
	w.told(w.a.Server("other", "staff"), "told")
}

func (w *world) cast() *cast {
	w.Helper()
	c := &cast{user: w.user(w.id("user", 12)).ID}
	c.login = w.login(c.user)
	id := func(_ string, s *sessions.Session) string { return s.ID }
	var session *sessions.Session
	c.grant, session = w.grant(c.login, "told", refresh)
	c.told = session.ID
	c.held, c.silent = id(w.grant(c.login, "held", offline)), id(w.grant(c.login, "silent", refresh))
	c.never = id(w.authorize(c.login, "never", refresh))
	other, g := w.a.Server("other", "staff"), w.newGrant(c.login, "told", refresh)
	_, err := other.InsertGrant(w.Context(), g)
	w.ok(err)
	if ok, err := other.Redeem(w.Context(), g.Grant.ID, w.now()); err != nil || !ok {
		w.Fatalf("redeeming elsewhere: %v, %v", ok, err)
	}
	c.elsewhere = g.Session.ID
	return c
}

// lines is what news says of sessions of the cast.
func (c *cast) lines(of ...string) string {
	var lines []string
	for _, id := range of {
		server := "myAS"
		if id == c.elsewhere {
			server = "other"
		}
		lines = append(lines, server+" "+id)
	}
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

// endingsAreTold goes through every act that ends sessions.
func endingsAreTold(w *world) {
	w.company()
	w.cast() // must hear of nothing
	seen := map[string]bool{}
	realmEnd := func(target sessions.Target, reason sessions.Reason, effects ...sessions.Effect) {
		w.Helper()
		_, err := w.realm.End(w.Context(), target, sessions.Ending{Reason: reason, At: w.now(), Effects: effects})
		w.ok(err)
	}
	end := func(target sessions.Target, reason sessions.Reason, effects ...sessions.Effect) {
		w.Helper()
		_, err := w.as.End(w.Context(), target, sessions.Ending{Reason: reason, At: w.now(), Effects: effects})
		w.ok(err)
	}
	entry := func(session string) string {
		return sessions.EntryID(sessions.Key{AuthorizationServer: "myAS", ID: session})
	}
	for _, test := range []struct {
		name string
		act  func(c *cast)
		want func(c *cast) []string
	}{
		{"session", func(c *cast) { end(sessions.Target{Session: c.told, OfUser: c.user}, sessions.ReasonEndedByClient) }, toldOnly},
		{"session of a client without address", func(c *cast) { end(sessions.Target{Session: c.silent}, sessions.ReasonLogout) }, nobody},
		{"session that never had a token", func(c *cast) { end(sessions.Target{Session: c.never}, sessions.ReasonLogout) }, nobody},
		{"all of a user at an authorization server", func(c *cast) { end(sessions.Target{All: true, OfUser: c.user}, sessions.ReasonLogout) },
			func(c *cast) []string { return []string{c.told, c.held} }},
		{"all but one", func(c *cast) { end(sessions.Target{All: true, OfUser: c.user, Except: c.told}, sessions.ReasonLogout) }, heldOnly},
		{"a client's of a user, consent withdrawn", func(c *cast) {
			end(sessions.Target{Client: "told", OfUser: c.user}, sessions.ReasonConsentWithdrawn,
				sessions.WithdrawConsent{AuthorizationServer: "myAS", UserID: c.user, ClientID: "told"})
		}, toldOnly},
		{"last grant revoked", func(c *cast) { end(sessions.Target{Grant: c.grant}, sessions.ReasonRevoked) }, toldOnly},
		{"refresh token used again", func(c *cast) { end(sessions.Target{Grant: c.grant}, sessions.ReasonRefreshReuse) }, toldOnly},
		{"code used again", func(c *cast) { end(sessions.Target{Grant: c.grant}, sessions.ReasonCodeReplay) }, toldOnly},
		{"one grant of two", func(c *cast) {
			w.grant(c.login, "told", refresh)
			end(sessions.Target{Grant: c.grant}, sessions.ReasonRevoked)
		}, nobody},
		{"login, of which one session is detached", func(c *cast) { realmEnd(sessions.Target{Login: c.login.ID}, sessions.ReasonLogout) }, everybody},
		{"entry of a login", func(c *cast) {
			realmEnd(sessions.Target{Entry: c.login.ID, OfUser: c.user}, sessions.ReasonEndedByAdmin)
		}, everybody},
		{"sign-in of another user", func(c *cast) {
			_, err := w.realm.SignIn(w.Context(), w.signIn(w.user(w.id("user", 12)).ID, sessions.SignIn{Current: c.login.ID}),
				sessions.Ending{Reason: sessions.ReasonOtherUser})
			w.ok(err)
		}, everybody},
		{"sign-in of the same user", func(c *cast) { w.loginIn(w.realm, c.user, sessions.SignIn{Current: c.login.ID}) }, nobody},
		{"user", func(c *cast) { realmEnd(sessions.Target{User: c.user}, sessions.ReasonEndedByOperator) }, everybody},
		{"user locked", func(c *cast) {
			realmEnd(sessions.Target{User: c.user}, sessions.ReasonUserLocked, sessions.LockUser{UserID: c.user})
		}, everybody},
		{"password changed", func(c *cast) {
			realmEnd(sessions.Target{User: c.user}, sessions.ReasonPasswordChanged, sessions.SetPassword{UserID: c.user, PHC: "new"})
		}, everybody},
		{"user, but for one login", func(c *cast) {
			w.grant(w.login(c.user), "silent", refresh)
			realmEnd(sessions.Target{User: c.user, ExceptEntryOf: sessions.Key{AuthorizationServer: "myAS", ID: c.told}}, sessions.ReasonLogout)
		}, nobody},
		// What was detached is told of again when it ends.
		{"detached session", func(c *cast) {
			realmEnd(sessions.Target{Login: c.login.ID}, sessions.ReasonLogout)
			w.is(w.newsIs(seen, c.lines(everybody(c)...)), nil, "the login before it")
			w.pass(time.Second)
			end(sessions.Target{Session: c.held}, sessions.ReasonLogout)
		}, heldOnly},
		{"entry of a detached session", func(c *cast) {
			realmEnd(sessions.Target{Login: c.login.ID}, sessions.ReasonLogout)
			w.is(w.newsIs(seen, c.lines(everybody(c)...)), nil, "the login before it")
			realmEnd(sessions.Target{Entry: entry(c.held), OfUser: c.user}, sessions.ReasonEndedByAdmin)
		}, heldOnly},
	} {
		c := w.cast()
		w.news(seen)
		test.act(c)
		w.is(w.newsIs(seen, c.lines(test.want(c)...)), nil, "%s", test.name)
		w.pass(time.Second)
	}
}

func nobody(*cast) []string      { return nil }
func toldOnly(c *cast) []string  { return []string{c.told} }
func heldOnly(c *cast) []string  { return []string{c.held} }
func everybody(c *cast) []string { return []string{c.told, c.held, c.elsewhere} }

// newsIs is an error unless the news are want.
func (w *world) newsIs(seen map[string]bool, want string) error {
	w.Helper()
	if got := w.news(seen); got != want {
		return fmt.Errorf("told %q, want %q", got, want)
	}
	return nil
}

func endingsByTimeAreTold(w *world) {
	w.company()
	seen := map[string]bool{}
	c := w.cast()
	use := func() {
		w.ok(w.realm.Touch(w.Context(), []sessions.Touch{{LoginID: c.login.ID, At: w.now()}}))
	}
	// The session idle in a login that is in use: the user is back before the
	// sweeper is.
	w.pass(Lifetimes.SessionIdle + sessions.IdleSlack + time.Minute)
	use()
	_, again := w.grant(c.login, "told", refresh)
	w.is(w.newsIs(seen, c.lines(c.told)), nil, "a session in whose place another began")
	// And now the sweeper is first.
	w.pass(Lifetimes.SessionIdle + sessions.IdleSlack + time.Minute)
	use()
	w.sweep()
	w.is(w.newsIs(seen, c.lines(again.ID)), nil, "a session that the sweeper found idle")
	// The login idle: what offline access keeps is detached.
	w.pass(Lifetimes.LoginIdle + sessions.IdleSlack + time.Minute)
	w.sweep()
	w.is(w.newsIs(seen, c.lines(c.held, c.elsewhere)), nil, "a login that the sweeper found idle")
	w.pass(Lifetimes.OfflineIdle + sessions.IdleSlack + time.Minute)
	w.sweep()
	w.is(w.newsIs(seen, c.lines(c.held)), nil, "a detached session that the sweeper found idle")

	// What goes on alone because the rest of the user ended is detached.
	c = w.cast()
	w.pass(Lifetimes.LoginIdle + sessions.IdleSlack + time.Minute)
	_, err := w.realm.End(w.Context(), sessions.Target{User: c.user, ExceptEntryOf: sessions.Key{AuthorizationServer: "myAS", ID: c.held}}, logout())
	w.ok(err)
	w.is(w.newsIs(seen, c.lines(c.told, c.held, c.elsewhere)), nil, "a session that the end of a user spared")
}

func endingsOfClientsAreTold(w *world) {
	w.company()
	seen := map[string]bool{}
	c := w.cast()
	_, err := w.as.End(w.Context(), sessions.Target{Client: "held"}, sessions.Ending{Reason: sessions.ReasonEndedByOperator, At: w.now()})
	w.ok(err)
	w.is(w.newsIs(seen, c.lines(c.held)), nil, "all sessions of a client")
	_, err = w.deleteClient(w.as, "myAS", "told")
	w.ok(err)
	w.is(w.newsIs(seen, c.lines(c.told)), nil, "a client deleted with its sessions")

	// Who has the id of a deleted client now is not told of the other's sessions.
	c = &cast{user: c.user, login: w.login(c.user)}
	w.told(w.as, "told")
	_, old := w.grant(c.login, "told", refresh)
	w.user("bea")
	w.mustEnd(sessions.Target{User: "bea"}, sessions.Ending{
		Effects: []sessions.Effect{sessions.DeleteClient{AuthorizationServer: "myAS", ClientID: "told"}}}, 0)
	w.told(w.as, "told")
	w.mustEnd(sessions.Target{All: true, OfUser: c.user, Except: old.ID}, logout(), 2) // silent, and never
	w.mustEnd(sessions.Target{All: true, OfUser: c.user}, logout(), 1)
	w.is(w.newsIs(seen, ""), nil, "a session of the client that had the id before")

	// The file: what is in it is told at the address that it has there, and what
	// left it at its last.
	file := []clients.Client{{Metadata: toldMetadata("static")}, {Metadata: toldMetadata("gone")}}
	sync := func() {
		w.Helper()
		_, err := w.as.SyncStatic(w.Context(), file)
		w.ok(err)
	}
	sync()
	login := w.login("bea")
	_, static := w.grant(login, "static", refresh)
	_, gone := w.grant(login, "gone", refresh)
	file = file[:1]
	file[0].BackchannelLogoutURI, file[0].IDTokenSignedAlg = "https://moved.example/", "ES256"
	w.pass(time.Second)
	sync()
	w.is(w.newsIs(seen, c.lines(gone.ID)), nil, "a client that left the file")
	if d := w.outbox("myAS")[0]; d.URI != toldMetadata("gone").BackchannelLogoutURI {
		w.Errorf("a client that left the file is told at %q", d.URI)
	}
	w.pass(time.Second)
	w.mustEnd(sessions.Target{Session: static.ID}, logout(), 1)
	if d := w.outbox("myAS")[0]; d.URI != "https://moved.example/" || d.Alg != "ES256" {
		w.Errorf("a client that the file moved is told at %q with %q", d.URI, d.Alg)
	}
	w.news(seen)
	// The file takes a registered client over, and then its address away.
	_, taken := w.grant(login, "held", refresh)
	file = append(file, clients.Client{Metadata: clients.Metadata{ClientID: "held"}})
	sync()
	w.mustEnd(sessions.Target{Session: taken.ID}, logout(), 1)
	w.is(w.newsIs(seen, ""), nil, "a client that lost its address")
}

func deliverySnapshot(w *world) {
	login := w.begin()
	m := toldMetadata("album2")
	m.IDTokenSignedAlg = "PS256"
	w.ok(w.as.InsertClient(w.Context(), &clients.Client{Metadata: m}))
	w.told(w.as, "plain")
	g := w.newGrant(login, "album2", refresh)
	g.Subject = "subject as issued"
	_, err := w.as.InsertGrant(w.Context(), g)
	w.ok(err)
	w.redeem(g.Grant.ID)
	_, other := w.grant(login, "plain", plain)
	w.mustEnd(sessions.Target{Session: g.Session.ID}, logout(), 1)
	ended := w.now()
	// Whatever happens to the client afterwards.
	_, err = w.deleteClient(w.as, "myAS", "album2")
	w.ok(err)
	w.client("album2")
	w.pass(time.Second)
	w.mustEnd(sessions.Target{Session: other.ID}, logout(), 1)
	list := w.outbox("myAS")
	if len(list) != 2 {
		w.Fatalf("%d deliveries, want 2", len(list))
	}
	id := list[1].ID
	want := deliveries.Delivery{ID: id, AuthorizationServer: "myAS", ClientID: "album2", SessionID: g.Session.ID, Subject: "subject as issued",
		URI: m.BackchannelLogoutURI, Alg: "PS256", State: deliveries.Waiting, CreatedAt: ended, NextAt: ended}
	if !reflect.DeepEqual(list[1], want) {
		w.Errorf("written %+v, want %+v", list[1], want)
	}
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{22,}$`).MatchString(id) || list[0].ID == id {
		w.Errorf("ids are %q and %q", id, list[0].ID)
	}
	if list[0].Alg != "RS256" {
		w.Errorf("a client that says nothing is told with %q", list[0].Alg)
	}
}

func undoneEndingIsNotTold(w *world) {
	w.company()
	c := w.cast()
	called := 0
	w.a.OnDelivery(func() { called++ })
	bad := sessions.Ending{Reason: sessions.ReasonLogout, Effects: []sessions.Effect{
		sessions.WithdrawConsent{AuthorizationServer: "myAS", UserID: c.user, ClientID: "told"}, sessions.LockUser{UserID: "nobody"}}}
	for _, target := range []sessions.Target{{Session: c.told}, {Grant: c.grant}, {All: true, OfUser: c.user}, {Client: "told"}, {Login: c.login.ID}, {User: c.user}} {
		if _, err := w.end(target, bad); err == nil {
			w.Errorf("%+v ended", target)
		}
	}
	for _, target := range []sessions.Target{{Session: "unknown"}, {Session: c.told, OfUser: "bea"}, {Session: c.told, OfClient: "silent"}} {
		_, err := w.end(target, logout())
		w.is(err, sessions.ErrNotFound, "ending %+v", target)
	}
	// A sign-in that fails behind the end of the other user's login: its place is taken.
	in := w.signIn("nobody", sessions.SignIn{Current: c.login.ID})
	_, err := w.realm.SignIn(w.Context(), in, sessions.Ending{Reason: sessions.ReasonOtherUser})
	w.is(err, sessions.ErrUserLocked, "signing in nobody")
	in = w.signIn(w.user("bea").ID, sessions.SignIn{Current: c.login.ID, CookieHash: w.loginOf("carl").CookieHash})
	if _, err := w.realm.SignIn(w.Context(), in, sessions.Ending{Reason: sessions.ReasonOtherUser}); err == nil {
		w.Error("a second login got the cookie of another")
	}
	if got := w.news(map[string]bool{}); got != "" || called != 0 {
		w.Errorf("told %q, announced %d times", got, called)
	}
	w.live(c.grant, true, "after all refusals")
}

// loginOf makes a user and signs him in.
func (w *world) loginOf(id string) *sessions.Login {
	w.Helper()
	return w.login(w.user(id).ID)
}

func deliveriesAnnounced(w *world) {
	w.company()
	c := w.cast()
	var seen []int // how many there were at each call
	w.a.OnDelivery(func() { seen = append(seen, len(w.outbox("myAS"))) })
	w.mustEnd(sessions.Target{Session: c.silent}, logout(), 1)
	w.mustEnd(sessions.Target{Session: c.never}, logout(), 1)
	if len(seen) != 0 {
		w.Errorf("announced nothing, %d times", len(seen))
	}
	w.mustEnd(sessions.Target{Session: c.told}, logout(), 1)
	w.mustEnd(sessions.Target{Login: c.login.ID}, logout(), 1)
	if fmt.Sprint(seen) != "[1 2]" {
		w.Errorf("at the announcements there were %v deliveries, want 1 and then 2", seen)
	}
	var replaced atomic.Int64
	w.a.OnDelivery(func() { replaced.Add(1) })
	w.mustEnd(sessions.Target{Session: c.held}, logout(), 1)
	if len(seen) != 2 || replaced.Load() != 1 {
		w.Errorf("the first function was called %d times, the second %d", len(seen), replaced.Load())
	}
}

// raceEndingsToTell ends one session in several ways at once.
func raceEndingsToTell(w *world) {
	w.company()
	for range 10 {
		c := w.cast()
		before := len(w.outbox("myAS"))
		w.race(8, func(i int, as ServerStore, realm RealmStore) bool {
			ending := logout()
			ending.At = w.now()
			var err error
			switch i % 4 {
			case 0, 1:
				_, err = as.End(w.Context(), sessions.Target{Session: c.told, OfUser: c.user}, ending)
			case 2:
				_, err = as.End(w.Context(), sessions.Target{All: true, OfUser: c.user, Except: c.held}, ending)
			case 3:
				_, err = as.InsertGrant(w.Context(), w.newGrant(c.login, "silent", refresh))
			}
			if err != nil && !errorsAre(err, sessions.ErrNotFound, oauth.ErrLoginRequired) {
				w.Errorf("case %d: %v", i%4, err)
			}
			return err == nil
		})
		list := w.outbox("myAS")
		if len(list) != before+1 || list[0].SessionID != c.told {
			w.Fatalf("%d deliveries for one session that ended", len(list)-before)
		}
		w.pass(time.Second)
	}
}
