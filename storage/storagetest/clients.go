package storagetest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

func (w *world) deleteClient(as ServerStore, server, id string) (int, error) {
	return as.End(w.Context(), sessions.Target{Client: id}, sessions.Ending{
		Reason: sessions.ReasonClientDeleted, At: w.now(),
		Effects: []sessions.Effect{sessions.DeleteClient{AuthorizationServer: server, ClientID: id}},
	})
}

func clientIsReadAsWritten(w *world) {
	age, rotate := int64(60), false
	want := clients.Client{Metadata: clients.Metadata{
		ClientID: "album", ClientSecret: "must not be kept", ClientName: "Photo Album",
		RedirectURIs: []string{"https://album.example/cb?a=b", "http://127.0.0.1/cb"}, GrantTypes: []string{"refresh_token"},
		JWKS: json.RawMessage(`{"keys":[]}`), DefaultMaxAge: &age, RefreshTokenRotation: &rotate,
	}, SecretSHA: hash("secret")}
	given := want
	w.ok(w.as.InsertClient(w.Context(), &given))
	if given.UID == "" || given.Number != 1 || !given.CreatedAt.Equal(w.now()) {
		w.Errorf("inserting set UID %q, number %d, created %v", given.UID, given.Number, given.CreatedAt)
	}
	want.UID, want.Number, want.CreatedAt, want.ClientSecret = given.UID, given.Number, given.CreatedAt, ""
	got, err := w.as.Client(w.Context(), "album")
	w.ok(err)
	list, err := w.as.Clients(w.Context())
	w.ok(err)
	if !reflect.DeepEqual(*got, want) || !reflect.DeepEqual(list, []clients.Client{want}) {
		w.Errorf("read %+v and %+v, want %+v", *got, list, want)
	}
	origins, err := w.as.Origins(w.Context())
	w.ok(err)
	if !reflect.DeepEqual(origins, []string{"http://127.0.0.1", "https://album.example"}) {
		w.Errorf("origins are %q", origins)
	}
	again := clients.Client{Metadata: clients.Metadata{ClientID: "album"}}
	w.is(w.as.InsertClient(w.Context(), &again), w.a.ErrClientExists, "inserting it again")
	for _, id := range []string{"", "ALBUM", "unknown", "album\x00", "\xff\xfe", strings.Repeat("a", 10000)} {
		_, err := w.as.Client(w.Context(), id)
		w.is(err, oauth.ErrNotFound, "client %.20q", id)
		if live, err := w.as.ClientToken(w.Context(), id, "jti"); live || err != nil {
			w.Errorf("a token of client %.20q: %v, %v", id, live, err)
		}
	}
	_, err = w.a.Server("other", "staff").Client(w.Context(), "album")
	w.is(err, oauth.ErrNotFound, "another authorization server's client")
}

func clientNumbers(w *world) {
	seen := map[int64]bool{}
	for _, as := range []ServerStore{w.as, w.a.Server("second", "staff")} {
		for _, id := range []string{"a", "b"} {
			seen[w.clientAt(as, id).Number] = true
		}
	}
	if len(seen) != 4 {
		w.Errorf("four clients of a realm have the numbers %v", seen)
	}
	if c := w.clientAt(w.a.Server("third", "another realm"), "a"); c.Number != 1 {
		w.Errorf("the first client of another realm has number %d", c.Number)
	}
}

func staticClients(w *world) {
	file := func(ids ...string) (list []clients.Client) {
		for _, id := range ids {
			list = append(list, clients.Client{Static: true, SecretSHA: hash("must not be kept"),
				Metadata: clients.Metadata{ClientID: id, ClientSecret: "must not be kept", ClientName: "Static " + id}})
		}
		return list
	}
	sync := func(want int, list []clients.Client) {
		w.Helper()
		ended, err := w.as.SyncStatic(w.Context(), list)
		w.ok(err)
		if ended != want {
			w.Errorf("%d sessions ended, want %d", ended, want)
		}
	}
	read := func(id string) *clients.Client {
		w.Helper()
		c, err := w.as.Client(w.Context(), id)
		w.ok(err)
		if c.ClientSecret != "" || c.SecretSHA != nil || !c.Static {
			w.Errorf("static client is kept as %+v", c)
		}
		return c
	}
	other := w.a.Server("other", "staff")
	_, err := other.SyncStatic(w.Context(), file("a", "c"))
	w.ok(err)
	w.user("alex")
	w.client("registered")
	sync(0, file("a", "b"))
	a, b := read("a"), read("b")
	login := w.login("alex")
	ofA, _ := w.grant(login, "a", refresh)
	ofB, _ := w.grant(login, "b", refresh)
	ofRegistered, _ := w.grant(login, "registered", refresh)

	renamed := file("a", "b")
	renamed[0].ClientName = "Renamed"
	sync(0, renamed)
	if c := read("a"); c.ClientName != "Renamed" || c.UID != a.UID || c.Number != a.Number {
		w.Errorf("a changed client is %+v, was %+v", c, a)
	}
	sync(1, file("a"))
	_, err = w.as.Client(w.Context(), "b")
	w.is(err, oauth.ErrNotFound, "a client that left the file")
	w.live(ofB, false, "a grant of a client that left the file")
	w.live(ofA, true, "a grant of a client that stayed")
	w.live(ofRegistered, true, "a grant of a registered client")
	if reason := w.state(ofB).Session.Ended.Reason; reason != sessions.ReasonClientDeleted {
		w.Errorf("its session ended for reason %q", reason)
	}
	if c, err := other.Client(w.Context(), "c"); err != nil || c.ClientID != "c" {
		w.Errorf("another authorization server's static client: %v", err)
	}
	sync(0, file("a", "b"))
	if c := read("b"); c.UID == b.UID || c.Number != b.Number {
		w.Errorf("a revived client is %+v, was %+v", c, b)
	}
	w.live(ofB, false, "a grant from before the client was revived")

	// The file may take over what was registered.
	sync(0, file("a", "b", "registered"))
	read("registered")
	w.live(ofRegistered, true, "a grant of a client that the file took over")
	sync(2, nil)
	sync(0, nil)
	if list, err := w.as.Clients(w.Context()); err != nil || len(list) != 0 {
		w.Errorf("an empty file left %+v, %v", list, err)
	}
}

func deletedClient(w *world) {
	login := w.begin()
	unredeemed, _ := w.authorize(login, "album", refresh)
	grant, session := w.grant(login, "album", refresh)
	held, _ := w.grant(w.login("alex"), "album", offline)
	n, err := w.deleteClient(w.as, "myAS", "album")
	w.ok(err)
	if n != 2 {
		w.Errorf("%d sessions ended, want 2", n)
	}
	for _, g := range []string{unredeemed, grant, held} {
		w.live(g, false, "a grant of a deleted client")
	}
	if ok, err := w.as.Redeem(w.Context(), unredeemed, w.now()); ok || err != nil {
		w.Errorf("redeeming a code of a deleted client: %v, %v", ok, err)
	}
	if ok, err := w.as.Advance(w.Context(), grant, 1, w.now()); ok || err != nil {
		w.Errorf("refreshing at a deleted client: %v, %v", ok, err)
	}
	if live, err := w.as.ClientToken(w.Context(), "album", "jti"); live || err != nil {
		w.Errorf("a token of a deleted client: %v, %v", live, err)
	}
	_, err = w.as.Session(w.Context(), session.ID, "alex")
	w.is(err, sessions.ErrNotFound, "its session")
	_, err = w.as.InsertGrant(w.Context(), w.newGrant(w.login("alex"), "album", plain))
	w.is(err, oauth.ErrNotLive, "a new grant")
	for _, id := range []string{"album", "unknown"} {
		_, err = w.deleteClient(w.as, "myAS", id)
		w.is(err, sessions.ErrNotFound, "deleting %q", id)
	}
}

func revivedClient(w *world) {
	login := w.begin()
	g := w.newGrant(login, "album", refresh)
	g.Consent = &sessions.Consent{Scopes: []string{"openid"}, At: w.now()}
	before, err := w.as.InsertGrant(w.Context(), g)
	w.ok(err)
	w.redeem(g.Grant.ID)
	old, err := w.as.Client(w.Context(), "album")
	w.ok(err)
	_, err = w.deleteClient(w.as, "myAS", "album")
	w.ok(err)
	again := w.client("album")
	if again.UID == old.UID {
		w.Error("the UID was given twice")
	}
	w.live(g.Grant.ID, false, "a grant of the client that had the id before")
	_, err = w.as.Consent(w.Context(), "alex", "album")
	w.is(err, oauth.ErrNotFound, "a consent to the client that had the id before")
	w.pass(time.Second)
	login = w.loginIn(w.realm, "alex", sessions.SignIn{Current: login.ID})
	if _, after := w.grant(login, "album", refresh); after.ID == before.ID {
		w.Error("the session of the client that had the id before went on")
	}
}

// deadClientsSession is what is left when a session begins while its client is
// deleted: a row that nobody ended.
func deadClientsSession(w *world) {
	login := w.begin()
	grant, before := w.grant(login, "album", refresh)
	w.user("bea")
	w.mustEnd(sessions.Target{User: "bea"}, sessions.Ending{
		Effects: []sessions.Effect{sessions.DeleteClient{AuthorizationServer: "myAS", ClientID: "album"}}}, 0)
	if w.state(grant).Session.Ended != nil {
		w.Fatal("a realm ended the sessions of a client")
	}
	dead := func(what string) {
		w.Helper()
		w.live(grant, false, "%s: its grant", what)
		if w.listed("alex") != "" {
			w.Errorf("%s: its session is listed", what)
		}
		if ok, err := w.as.Redeem(w.Context(), grant, w.now()); ok || err != nil {
			w.Errorf("%s: redeeming: %v, %v", what, ok, err)
		}
	}
	dead("deleted")
	w.client("album")
	dead("revived")
	if _, after := w.grant(login, "album", refresh); after.ID == before.ID {
		w.Error("the dead client's session went on")
	}
	w.live(grant, false, "the dead client's grant, after the new one was used")
}

func manySessionsOfClient(w *world) {
	w.client("album")
	w.client("keep")
	var kept string
	const n = 105 // more than one batch
	for i := range n {
		id := fmt.Sprintf("user%d", i)
		w.user(id)
		login := w.login(id)
		w.authorize(login, "album", refresh)
		kept, _ = w.authorize(login, "keep", refresh)
	}
	w.mustEnd(sessions.Target{Client: "album"}, sessions.Ending{Reason: sessions.ReasonEndedByOperator}, n)
	w.mustEnd(sessions.Target{Client: "album"}, sessions.Ending{Reason: sessions.ReasonEndedByOperator}, 0)
	w.live(kept, true, "another client's grant")
	if _, err := w.as.Client(w.Context(), "album"); err != nil {
		w.Errorf("a client whose sessions ended: %v", err)
	}
}

func assertionOnce(w *world) {
	expires := w.now().Add(time.Minute)
	use := func(as ServerStore, client, jti string, want error) {
		w.Helper()
		w.is(as.UseAssertion(w.Context(), client, jti, expires), want, "assertion %.20q of %s", jti, client)
	}
	use(w.as, "album", "jti", nil)
	use(w.as, "album", "jti", oauth.ErrReplayed)
	use(w.as, "album", "JTI", nil)
	use(w.as, "other client", "jti", nil)
	use(w.a.Server("other", "staff"), "album", "jti", nil)
	for _, odd := range []string{"", "a\x00", "\xff", strings.Repeat("long", 5000)} {
		use(w.as, "album", odd, nil)
		use(w.as, "album", odd, oauth.ErrReplayed)
	}
	w.pass(time.Minute - time.Millisecond)
	use(w.as, "album", "jti", oauth.ErrReplayed)
	w.pass(time.Millisecond)
	expires = w.now().Add(time.Minute)
	use(w.as, "album", "jti", nil) // the assertion had expired: it can't be replayed
	use(w.as, "album", "jti", oauth.ErrReplayed)
}

func revokedToken(w *world) {
	grant, _ := w.grant(w.begin(), "album", refresh)
	other := w.a.Server("other", "staff")
	w.clientAt(other, "album")
	w.ok(other.RevokeToken(w.Context(), "jti", w.now().Add(time.Minute)))
	judge := func(jti string, revoked bool) {
		w.Helper()
		state, err := w.as.State(w.Context(), grant, jti)
		w.ok(err)
		live, err := w.as.ClientToken(w.Context(), "album", jti)
		w.ok(err)
		if state.Revoked != revoked || live == revoked || !state.Live {
			w.Errorf("jti %q: revoked %v, client token lives %v, grant lives %v; want revoked %v", jti, state.Revoked, live, state.Live, revoked)
		}
	}
	judge("jti", false)
	for range 2 {
		w.ok(w.as.RevokeToken(w.Context(), "jti", w.now().Add(time.Minute)))
		judge("jti", true)
	}
	judge("", false)
	judge("JTI", false)
}
