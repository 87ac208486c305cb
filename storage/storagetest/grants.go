package storagetest

import (
	"reflect"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

func grantIsReadAsWritten(w *world) {
	login := w.begin()
	g := w.newGrant(login, "album", offline)
	g.Grant.ACR, g.Grant.AMR, g.Grant.Nonce = "acr", []string{"pwd"}, "nonce ? $1"
	g.Grant.RedirectURI, g.Grant.Challenge, g.Grant.RemovableAt = "https://album.example/cb?a=?", "challenge", w.now().Add(time.Hour)
	g.Session.CustomAttributes = map[string]string{"deviceName": "Älex' phone"}
	session, err := w.as.InsertGrant(w.Context(), g)
	w.ok(err)
	want := sessions.Session{
		ID: g.Session.ID, ClientID: "album", ClientName: "Client album", UserID: "alex", Subject: "alex", LoginID: login.ID,
		Origin: sessions.OriginBrowser, Scopes: g.Grant.Scopes, AuthenticatedAt: login.AuthTime, ConsentedAt: w.now(),
		CustomAttributes: g.Session.CustomAttributes, CreatedAt: w.now(), LastUsedAt: w.now(),
		ExpiresAt: login.AuthTime.Add(Lifetimes.OfflineAbsolute), Offline: true,
	}
	state := w.state(g.Grant.ID)
	g.Grant.SessionID = session.ID
	for _, got := range []sessions.Session{*session, state.Session} {
		if !reflect.DeepEqual(got, want) {
			w.Errorf("session is %+v, want %+v", got, want)
		}
	}
	if !reflect.DeepEqual(state.Grant, g.Grant) {
		w.Errorf("grant is %+v, want %+v", state.Grant, g.Grant)
	}
	if !state.Live || state.Revoked || state.User.Username != "name-alex" || state.User.Password != "" || len(state.User.Salt) == 0 {
		w.Errorf("state is %+v", state)
	}
	w.redeem(g.Grant.ID)
	listed, err := w.as.Session(w.Context(), session.ID, "alex")
	w.ok(err)
	if !reflect.DeepEqual(*listed, want) {
		w.Errorf("session is %+v, want %+v", *listed, want)
	}
	for _, id := range []string{"", "unknown", strings.ToUpper(g.Grant.ID), g.Grant.ID + "\x00", "\xff"} {
		_, err := w.as.State(w.Context(), id, "")
		w.is(err, oauth.ErrNotFound, "grant %q", id)
	}
	_, err = w.a.Server("other", "staff").State(w.Context(), g.Grant.ID, "")
	w.is(err, oauth.ErrNotFound, "another authorization server's grant")
}

func timesInUTC(w *world) {
	// Half an hour and 45 minutes off, and finer than a millisecond.
	odd := w.time.In(time.FixedZone("Kathmandu", 5*3600+45*60)).Add(987_654 * time.Nanosecond)
	w.time = odd
	want := odd.UTC().Truncate(time.Millisecond)
	check := func(what string, got time.Time) {
		w.Helper()
		if got.Location() != time.UTC || !got.Equal(want) {
			w.Errorf("%s came back as %v, want %v", what, got, want)
		}
	}
	user, err := w.realm.User(w.Context(), w.user("alex").ID)
	w.ok(err)
	check("users.created_at", user.CreatedAt)
	client, err := w.as.Client(w.Context(), w.client("album").ClientID)
	w.ok(err)
	check("clients.created_at", client.CreatedAt)
	made := w.login("alex")
	login, err := w.realm.LoginByCookie(w.Context(), made.CookieHash)
	w.ok(err)
	for _, l := range []*sessions.Login{made, login} {
		check("auth_time", l.AuthTime)
		check("last_access_at", l.LastAccessAt)
		check("expires_at", l.ExpiresAt.Add(-Lifetimes.LoginAbsolute))
	}
	made.AuthTime = odd
	grant, session := w.grant(made, "album", refresh)
	state := w.state(grant)
	check("grants.created_at", state.Grant.CreatedAt)
	check("redeemed_at", state.Grant.RedeemedAt)
	check("last_used_at", state.Grant.LastUsedAt)
	check("code_expires_at", state.Grant.CodeExpires.Add(-time.Minute))
	check("authenticated_at", session.AuthenticatedAt)
	check("consented_at", state.Session.ConsentedAt)
	check("session expires_at", session.ExpiresAt.Add(-Lifetimes.SessionAbsolute))
	w.mustEnd(sessions.Target{Session: session.ID}, logout(), 1)
	check("ended_at", w.state(grant).Session.Ended.At)
	check("grant ended_at", w.state(grant).Grant.EndedAt)
}

// grantRefusals also looks for what a refused grant left behind: nothing.
func grantRefusals(w *world) {
	lock := func(user string) {
		w.mustEnd(sessions.Target{User: user}, sessions.Ending{Effects: []sessions.Effect{sessions.LockUser{UserID: user}}}, 0)
	}
	for name, test := range map[string]struct {
		spoil func(g *oauth.NewGrant)
		want  error
	}{
		"unknown user":   {func(g *oauth.NewGrant) { g.Grant.UserID = "nobody" }, oauth.ErrNotLive},
		"NUL in user":    {func(g *oauth.NewGrant) { g.Grant.UserID = "\x00" }, oauth.ErrNotLive},
		"another user":   {func(g *oauth.NewGrant) { g.Grant.UserID = w.user("bea").ID }, oauth.ErrLoginRequired},
		"locked user":    {func(g *oauth.NewGrant) { lock(g.Grant.UserID) }, oauth.ErrNotLive},
		"unknown client": {func(g *oauth.NewGrant) { g.Grant.ClientID = "unknown" }, oauth.ErrNotLive},
		"NUL in client":  {func(g *oauth.NewGrant) { g.Grant.ClientID = "album\x00" }, oauth.ErrNotLive},
		"no login":       {func(g *oauth.NewGrant) { g.LoginID = "" }, oauth.ErrLoginRequired},
		"unknown login":  {func(g *oauth.NewGrant) { g.LoginID = "unknown" }, oauth.ErrLoginRequired},
		"login ended":    {func(g *oauth.NewGrant) { w.mustEnd(sessions.Target{Login: g.LoginID}, logout(), 0) }, oauth.ErrLoginRequired},
		"login idle":     {func(*oauth.NewGrant) { w.pass(Lifetimes.LoginIdle + sessions.IdleSlack) }, oauth.ErrLoginRequired},
		"login expired":  {func(*oauth.NewGrant) { w.pass(Lifetimes.LoginAbsolute) }, oauth.ErrLoginRequired},
		"auth_time too old": {func(g *oauth.NewGrant) {
			g.Grant.AuthTime = w.now().Add(-Lifetimes.SessionAbsolute)
		}, oauth.ErrLoginRequired},
		"no nonce":       {func(g *oauth.NewGrant) { g.UseNonce = "other" }, oauth.ErrLoginRequired},
		"client deleted": {func(*oauth.NewGrant) { _, err := w.deleteClient(w.as, "myAS", "album"); w.ok(err) }, oauth.ErrNotLive},
	} {
		user := w.user(w.id("user", 10)).ID
		if _, err := w.as.Client(w.Context(), "album"); err != nil {
			w.client("album")
		}
		login := w.loginIn(w.realm, user, sessions.SignIn{AuthNonce: "nonce"})
		g := w.newGrant(login, "album", refresh)
		g.UseNonce, g.Consent = "nonce", &sessions.Consent{Scopes: []string{"openid"}, At: w.now()}
		id := g.Grant.ID
		test.spoil(&g)
		_, err := w.as.InsertGrant(w.Context(), g)
		w.is(err, test.want, "%s", name)
		if _, err := w.as.State(w.Context(), id, ""); err == nil {
			w.Errorf("%s: the refused grant was written", name)
		}
		if _, err := w.as.Consent(w.Context(), user, "album"); err == nil {
			w.Errorf("%s: the consent of a refused grant was written", name)
		}
		if l, err := w.realm.LoginByCookie(w.Context(), login.CookieHash); err == nil && l.AuthNonce != "nonce" {
			w.Errorf("%s: the refused grant used up the nonce", name)
		}
	}
}

func nonceOnce(w *world) {
	w.begin()
	login := w.loginIn(w.realm, "alex", sessions.SignIn{AuthNonce: "nonce"})
	for _, step := range []struct {
		nonce string
		want  error
	}{
		{"another", oauth.ErrLoginRequired}, {"", nil}, {"nonce", nil}, {"nonce", oauth.ErrLoginRequired}, {"", nil},
	} {
		g := w.newGrant(login, "album", plain)
		g.UseNonce = step.nonce
		_, err := w.as.InsertGrant(w.Context(), g)
		w.is(err, step.want, "nonce %q", step.nonce)
	}
}

func consentReplaced(w *world) {
	login := w.begin()
	allow := func(scopes ...string) {
		w.Helper()
		g := w.newGrant(login, "album", refresh)
		g.Consent = &sessions.Consent{UserID: "alex", ClientID: "album", Scopes: scopes, Resources: []string{"https://api.example"}, At: w.now()}
		_, err := w.as.InsertGrant(w.Context(), g)
		w.ok(err)
		w.redeem(g.Grant.ID)
		got, err := w.as.Consent(w.Context(), "alex", "album")
		w.ok(err)
		if !reflect.DeepEqual(got, g.Consent) {
			w.Errorf("consent is %+v, want %+v", got, g.Consent)
		}
	}
	none := func(what string) {
		w.Helper()
		_, err := w.as.Consent(w.Context(), "alex", "album")
		w.is(err, oauth.ErrNotFound, "%s", what)
	}
	none("before the first")
	allow("openid", "email")
	w.pass(time.Second)
	allow("openid") // not both
	w.authorize(login, "album", plain)
	if got, _ := w.as.Consent(w.Context(), "alex", "album"); got == nil || len(got.Scopes) != 1 {
		w.Errorf("a grant without a decision changed the consent: %+v", got)
	}
	for _, pair := range [][2]string{{"bea", "album"}, {"alex", "other"}, {"", ""}, {"alex\x00", "album"}} {
		_, err := w.as.Consent(w.Context(), pair[0], pair[1])
		w.is(err, oauth.ErrNotFound, "consent of %q to %q", pair[0], pair[1])
	}
	withdraw := logout()
	withdraw.Reason = sessions.ReasonConsentWithdrawn
	withdraw.Effects = []sessions.Effect{sessions.WithdrawConsent{AuthorizationServer: "myAS", UserID: "alex", ClientID: "album"}}
	w.mustEnd(sessions.Target{Client: "album", OfUser: "alex"}, withdraw, 1)
	none("withdrawn")
	_, err := w.end(sessions.Target{Client: "album", OfUser: "alex"}, withdraw)
	w.is(err, sessions.ErrNotFound, "withdrawing it again")
	// A consent without sessions is withdrawn too.
	w.pass(time.Second)
	login = w.loginIn(w.realm, "alex", sessions.SignIn{Current: login.ID})
	allow("openid")
	w.mustEnd(sessions.Target{User: "alex"}, logout(), 1)
	w.mustEnd(sessions.Target{Client: "album", OfUser: "alex"}, withdraw, 0)
	none("withdrawn without a session")
}

func sessionGoesOn(w *world) {
	login := w.begin()
	first, session := w.grant(login, "album", refresh)
	w.pass(10 * time.Minute)
	g := w.newGrant(login, "album", refresh)
	g.Grant.Scopes = []string{"openid", "email"}
	g.Session.CustomAttributes = map[string]string{"a": "of one that would begin"}
	again, err := w.as.InsertGrant(w.Context(), g)
	w.ok(err)
	want := *session
	want.Scopes, want.ConsentedAt, want.LastUsedAt = g.Grant.Scopes, w.now(), w.now()
	if !reflect.DeepEqual(*again, want) {
		w.Errorf("the second grant's session is %+v, want %+v", *again, want)
	}
	w.live(first, true, "the first grant")

	// Signing in again keeps the sid and restarts the absolute lifetime.
	w.pass(10 * time.Minute)
	login2 := w.loginIn(w.realm, "alex", sessions.SignIn{Current: login.ID})
	_, renewed := w.authorize(login2, "album", offline)
	if renewed.ID != session.ID || !renewed.AuthenticatedAt.Equal(w.now()) || !renewed.Offline ||
		!renewed.ExpiresAt.Equal(w.now().Add(Lifetimes.OfflineAbsolute)) {
		w.Errorf("after signing in again the session is %+v", renewed)
	}
	// Another tab's older auth_time takes nothing back.
	if _, late := w.authorize(login, "album", plain); !late.AuthenticatedAt.Equal(login2.AuthTime) || !late.Offline ||
		!late.ExpiresAt.Equal(renewed.ExpiresAt) {
		w.Errorf("after an older grant the session is %+v", late)
	}
	w.client("news")
	if _, other := w.authorize(login2, "news", refresh); other.ID == session.ID {
		w.Error("two clients share a session")
	}
	if _, other := w.authorize(w.login("alex"), "album", refresh); other.ID == session.ID {
		w.Error("two logins share a session")
	}
}

func overDoesNotComeBack(w *world) {
	login := w.begin()
	first, session := w.grant(login, "album", refresh)
	keep := func(d time.Duration) {
		w.pass(d)
		w.ok(w.realm.Touch(w.Context(), []sessions.Touch{{LoginID: login.ID, At: w.now()}}))
	}
	keep(Lifetimes.SessionIdle + sessions.IdleSlack)
	w.live(first, false, "an idle grant")
	second, after := w.grant(login, "album", refresh)
	if after.ID == session.ID {
		w.Error("an idle session went on")
	}
	w.live(second, true, "the new grant")
	w.live(first, false, "the idle session's grant, after the client was used again")
	if ended := w.state(first).Session.Ended; ended == nil || ended.Reason != sessions.ReasonExpired {
		w.Errorf("the idle session ended as %+v", ended)
	}
	for w.now().Before(login.AuthTime.Add(Lifetimes.SessionAbsolute)) {
		keep(50 * time.Minute)
	}
	_, err := w.as.InsertGrant(w.Context(), w.newGrant(login, "album", refresh))
	w.is(err, oauth.ErrLoginRequired, "a grant when the lifetime since auth_time is over")
	login = w.loginIn(w.realm, "alex", sessions.SignIn{Current: login.ID})
	third, last := w.grant(login, "album", refresh)
	w.live(third, true, "the grant after signing in again")
	if last.ID == after.ID {
		w.Error("an expired session went on")
	}
	w.live(second, false, "the expired session's grant")
}

func oldestGrantEnds(w *world) {
	login := w.begin()
	var ids []string
	first, session := w.grant(login, "album", offline)
	ids = append(ids, first)
	for range 20 {
		w.pass(time.Second)
		id, _ := w.grant(login, "album", refresh)
		ids = append(ids, id)
		code, _ := w.grant(login, "album", plain) // these don't count
		w.live(code, true, "a grant without refresh token")
	}
	for i, id := range ids {
		w.live(id, i > 0, "grant %d of 21", i)
	}
	got := w.state(ids[1]).Session
	if got.ID != session.ID || got.Offline || got.Ended != nil {
		w.Errorf("without its offline grant the session is %+v", got)
	}
	// Codes take no place of grants that are in use, however many there are:
	// whoever can send the browser to /authorize can make them.
	var codes []string
	for range 25 {
		w.pass(time.Second)
		code, _ := w.authorize(login, "album", refresh)
		codes = append(codes, code)
	}
	for _, id := range ids[1:] {
		w.live(id, true, "a grant in use, behind 25 codes")
	}
	for i, code := range codes {
		w.live(code, i >= 5, "code %d of 25", i)
	}
	w.redeem(codes[24])
	w.live(ids[1], false, "the oldest, when a code was redeemed")
	w.live(ids[2], true, "the one behind it")
	w.live(codes[24], true, "the newest")
}
