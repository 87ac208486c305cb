package oauth_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

// TestLogoutIsDecidedInOnePlace holds Logout.Decide against its table, for every
// combination of what it looks at.
func TestLogoutIsDecidedInOnePlace(t *testing.T) {
	client := &clients.Client{Metadata: clients.Metadata{ClientID: "web"}}
	for _, login := range []*sessions.Login{nil, {ID: "login", UserID: "alex"}} {
		for _, c := range []*clients.Client{nil, client} {
			for _, verified := range []bool{false, true} {
				for _, subject := range []string{"", "alex", "bob"} {
					for _, sid := range []string{"", "sid"} {
						for _, usedIn := range []bool{false, true} {
							for _, meant := range []bool{false, true} {
								for _, uri := range []string{"", "https://web.example/bye"} {
									want := oauth.LogoutAsks
									switch {
									case login == nil:
										want = oauth.LogoutOver
									case c != nil && verified && subject == "alex" && meant && sid != "" && usedIn:
										want = oauth.LogoutEnds
									}
									l := &oauth.Logout{Client: c, Verified: verified, Subject: subject, Session: sid, RedirectURI: uri}
									p := oauth.Presence{Login: login, UsedIn: usedIn, Meant: meant}
									if got := l.Decide(p); got != want {
										t.Errorf("%+v, %+v: %v, want %v", l, p, got, want)
									}
								}
							}
						}
					}
				}
			}
		}
	}
	if (oauth.LogoutDecision)(0) != oauth.LogoutAsks {
		t.Error("who forgets to decide ends something")
	}
}

func TestReturnFromLogout(t *testing.T) {
	client := &clients.Client{Metadata: clients.Metadata{ClientID: "web"}}
	for _, c := range []struct {
		name      string
		l         oauth.Logout
		ended     bool
		to        string
		automatic bool
	}{
		{"nothing named", oauth.Logout{Client: client, Verified: true, State: "s"}, true, "", false},
		{"nobody known", oauth.Logout{RedirectURI: "https://web.example/bye"}, true, "", false},
		{"ended by the user's word", oauth.Logout{Client: client, RedirectURI: "https://web.example/bye", State: "a b&c=d#\"<"}, true,
			"https://web.example/bye?state=a+b%26c%3Dd%23%22%3C", true},
		{"nothing ended, no hint", oauth.Logout{Client: client, RedirectURI: "https://web.example/bye"}, false, "https://web.example/bye", false},
		{"nothing ended, hint", oauth.Logout{Client: client, Verified: true, RedirectURI: "https://web.example/bye"}, false, "https://web.example/bye", true},
		{"query that is there", oauth.Logout{Client: client, RedirectURI: "https://web.example/bye?a=%2F&b", State: "x"}, true, "https://web.example/bye?a=%2F&b&state=x", true},
		{"private-use scheme", oauth.Logout{Client: client, RedirectURI: "com.example.app:/bye", State: "x"}, true, "com.example.app:/bye?state=x", true},
	} {
		if to, automatic := c.l.Return(c.ended); to != c.to || automatic != c.automatic {
			t.Errorf("%s: %q, %v", c.name, to, automatic)
		}
	}
}

// endSession is the URL of a logout request.
func (s *as) endSession(pairs ...string) string {
	return s.at + "/end_session?" + change(url.Values{}, pairs...).Encode()
}

// posted is where the browser is sent that posts a logout request, as another
// site has it posted: without cookies.
func (s *as) posted(pairs ...string) string {
	s.h.t.Helper()
	a := s.h.do(bare, http.MethodPost, s.at+"/end_session", change(url.Values{}, pairs...).Encode(), "Sec-Fetch-Site", "cross-site", "Origin", "https://web.example")
	to := a.location()
	if a.status != http.StatusSeeOther || !strings.HasPrefix(to, s.h.base+"/logout?") || a.header.Get("Set-Cookie") != "" {
		s.h.t.Fatalf("%d to %s %v\n%s", a.status, to, a.header, a.body)
	}
	return to
}

// logins is how many live ones a user has.
func (h *house) logins(name string) int {
	h.t.Helper()
	list, err := h.realm.Logins(context.Background(), h.userID(name))
	h.must(err)
	return len(list)
}

func (a answer) mustGo(to string) {
	a.t.Helper()
	if a.status != http.StatusSeeOther || a.location() != to {
		a.t.Errorf("%d to %q, want %q\n%s", a.status, a.location(), to, a.body)
	}
}

// RP-Initiated Logout 1.0 §2: with the ID token of a session of this browser
// nobody is asked.
func TestLogoutWithTheOwnSessionsHintNeedsNoWord(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		for name, ask := range map[string]func(b *browser, pairs ...string) answer{
			"GET":                    func(b *browser, pairs ...string) answer { return b.follow(s.endSession(pairs...)) },
			"POST from another site": func(b *browser, pairs ...string) answer { return b.follow(s.posted(pairs...)) },
		} {
			b, elsewhere := h.signedIn("alex"), h.signedIn("alex")
			tk, other := s.authorize(b, "web"), s.authorize(b, "other")
			kept := s.authorize(elsewhere, "web")
			before := h.logins("alex")
			a := ask(b, "id_token_hint", tk.ID, "post_logout_redirect_uri", "https://web.example/bye?from=op", "state", "st/1 é", "nobody_knows", "this")
			a.mustGo("https://web.example/bye?from=op&state=st%2F1+%C3%A9")
			if !strings.Contains(a.header.Get("Set-Cookie"), "Max-Age=0") {
				t.Errorf("%s: the cookie stays: %v", name, a.header)
			}
			s.alive(tk.Access, false)
			s.alive(other.Access, false)
			s.alive(kept.Access, true)
			if n := h.logins("alex"); n != before-1 {
				t.Errorf("%s: %d logins, want %d", name, n, before-1)
			}
			// Once more, as by the back button: nothing to end, the same way on.
			ask(b, "id_token_hint", tk.ID, "post_logout_redirect_uri", "https://web.example/bye", "client_id", "web").mustGo("https://web.example/bye")
			// And with nowhere to go.
			ask(b, "id_token_hint", tk.ID).isPage("/logout").isError(http.StatusOK, "You are signed out")
		}
	}
}

// As long a state as is taken comes back, also of characters that JSON may write
// as six.
func TestLogoutBringsTheWholeStateBack(t *testing.T) {
	h := open(t, options{})
	for _, state := range []string{strings.Repeat("<", 2048), strings.Repeat("\"", 2048), strings.Repeat("é", 1024)} {
		b := h.signedIn("alex")
		hint := h.jwt.authorize(b, "web").ID
		b.follow(h.jwt.endSession("id_token_hint", hint, "post_logout_redirect_uri", "https://web.example/bye", "state", state)).
			mustGo("https://web.example/bye?" + url.Values{"state": {state}}.Encode())
	}
}

func TestExpiredHintOfARetiredKeyIsAHint(t *testing.T) {
	h := open(t, options{Lifetimes: sessions.Lifetimes{LoginIdle: 900 * time.Hour, LoginAbsolute: 900 * time.Hour, SessionIdle: 900 * time.Hour,
		SessionAbsolute: 900 * time.Hour, OfflineIdle: 900 * time.Hour, OfflineAbsolute: 900 * time.Hour, RefreshGrace: 10 * time.Second}})
	s := h.jwt
	b := h.signedIn("alex")
	tk := s.authorize(b, "web")
	h.must(s.ring.Rotate(context.Background(), "RS256", false))
	h.wait(90 * time.Hour) // within the login's lifetime
	h.must(s.ring.Reload(context.Background()))
	if s.authorize(b, "web").ID == tk.ID {
		t.Fatal("the key was not rotated")
	}
	b.follow(s.endSession("id_token_hint", tk.ID, "post_logout_redirect_uri", "https://web.example/bye")).mustGo("https://web.example/bye")
	if h.logins("alex") != 0 {
		t.Error("the login lives")
	}
}

// Whatever else is presented, the user is asked, and nothing has ended before he
// says so.
func TestLogoutAsks(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	mine, second, bob := h.signedIn("alex"), h.signedIn("alex"), h.signedIn("bob")
	tk := s.authorize(mine, "web")
	ofSecond, ofBob := s.authorize(second, "web").ID, s.authorize(bob, "web").ID
	ofServer := h.opaque.authorize(mine, "web").ID
	part := strings.Split(tk.ID, ".")
	changed := part[0] + "." + strings.Split(ofSecond, ".")[1] + "." + part[2]
	const back = "https://web.example/bye"
	for name, c := range map[string]struct {
		pairs []string
		says  string
		back  string // where "Sign out" leads; empty: to the signed-out page
	}{
		"nothing":                            {nil, "Sign out?", ""},
		"client_id alone":                    {[]string{"client_id", "web"}, "asks you to sign out", ""},
		"client_id and URI":                  {[]string{"client_id", "web", "post_logout_redirect_uri", back, "state", "s"}, "asks you to sign out", back + "?state=s"},
		"another user's hint":                {[]string{"id_token_hint", ofBob, "post_logout_redirect_uri", back}, "another sign-in", back},
		"a hint of another browser's login":  {[]string{"id_token_hint", ofSecond, "post_logout_redirect_uri", back}, "another sign-in", back},
		"own hint, another user meant":       {[]string{"id_token_hint", tk.ID, "logout_hint", "bob"}, "The request is about", ""},
		"another server's hint":              {[]string{"id_token_hint", ofServer}, "Sign out?", ""},
		"another server's hint with an URI":  {[]string{"id_token_hint", ofServer, "post_logout_redirect_uri", back}, "Sign out?", ""},
		"another server's hint, client, URI": {[]string{"id_token_hint", ofServer, "client_id", "web", "post_logout_redirect_uri", back}, "asks you", ""},
		"a changed hint, client, URI":        {[]string{"id_token_hint", changed, "client_id", "web", "post_logout_redirect_uri", back, "state", "s"}, "asks you", ""},
		"an unsigned hint, client, URI":      {[]string{"id_token_hint", unsigned(tk.ID), "client_id", "web", "post_logout_redirect_uri", back}, "asks you", ""},
		"an access token":                    {[]string{"id_token_hint", tk.Access}, "Sign out?", ""},
		"a refresh token":                    {[]string{"id_token_hint", tk.Refresh}, "Sign out?", ""},
		"garbage":                            {[]string{"id_token_hint", "a.b.c", "client_id", "web"}, "asks you", ""},
		"a cut hint":                         {[]string{"id_token_hint", tk.ID[:len(tk.ID)-2]}, "Sign out?", ""},
		"an unsigned hint":                   {[]string{"id_token_hint", unsigned(tk.ID)}, "Sign out?", ""},
		"a logout_hint alone":                {[]string{"logout_hint", "bob\r\nevil: 1 <b>"}, "The request is about", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := h.signedIn("alex")
			if strings.HasPrefix(name, "own hint") || strings.HasPrefix(name, "an access") {
				b = mine
			}
			n := h.logins("alex")
			page := b.follow(s.endSession(c.pairs...)).isPage("/logout")
			page.isError(http.StatusOK, "Sign out?", c.says, "ALEX (alex)")
			if h.logins("alex") != n || page.header.Get("Set-Cookie") != "" {
				t.Fatal("something has ended without a word")
			}
			if b == mine {
				return
			}
			a := b.submit(page)
			if h.logins("alex") != n-1 {
				t.Error("the login lives on")
			}
			if c.back != "" {
				a.mustGo(c.back)
				return
			}
			a.isError(http.StatusOK, "You are signed out")
		})
	}
	s.alive(tk.Access, true)
}

// A hint is no credential: without the login's cookie it ends nothing.
func TestHintWithoutTheLoginEndsNothing(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	b := h.signedIn("alex")
	tk := s.authorize(b, "web")
	stranger := h.browser()
	stranger.follow(s.endSession("id_token_hint", tk.ID)).isError(http.StatusOK, "You are signed out")
	stranger.follow(s.endSession("id_token_hint", tk.ID, "post_logout_redirect_uri", "https://web.example/bye")).mustGo("https://web.example/bye")
	s.alive(tk.Access, true)
	// Nobody is sent on who proved nothing; he may click.
	page := stranger.follow(s.endSession("client_id", "web", "post_logout_redirect_uri", "https://web.example/bye", "state", "s"))
	page.isError(http.StatusOK, "You are signed out", `href="https://web.example/bye?state=s"`)
	stranger.follow(s.endSession("id_token_hint", "a.b.c", "post_logout_redirect_uri", "https://web.example/bye")).isError(http.StatusOK, "You are signed out")
}

// The session that the hint names may have ended before its login does, and
// HEAD has no consequences.
func TestLogoutAfterTheSessionsOwnEnd(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	b := h.signedIn("alex")
	tk := s.authorize(b, "web")
	if _, err := s.manager().End(context.Background(), sessions.Target{All: true, OfUser: h.userID("alex")}, sessions.Ending{Reason: sessions.ReasonEndedByOperator}); err != nil {
		t.Fatal(err)
	}
	to := b.get(s.endSession("id_token_hint", tk.ID)).location()
	if a := h.do(b.client, http.MethodHead, to, ""); a.status != http.StatusOK || a.header.Get("Set-Cookie") != "" || h.logins("alex") != 1 {
		t.Errorf("HEAD: %d %v, %d logins", a.status, a.header, h.logins("alex"))
	}
	b.get(to).isError(http.StatusOK, "You are signed out")
	if h.logins("alex") != 0 {
		t.Error("the login lives")
	}
}

// What is wrong gets a page and ends nothing, and nobody is sent anywhere.
func TestLogoutRefusals(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	b := h.signedIn("alex")
	tk := s.authorize(b, "web")
	hint := []string{"id_token_hint", tk.ID}
	type refusal struct {
		pairs  []string
		status int
		says   string
	}
	cases := map[string]refusal{
		"unknown client":                   {[]string{"client_id", "nobody"}, 400, "not known"},
		"client of no hint":                {append(hint, "client_id", "other"), 400, "was issued to the client_id"},
		"unknown client with a hint":       {append(hint, "client_id", "nobody"), 400, "was issued to the client_id"},
		"URI of nobody":                    {[]string{"post_logout_redirect_uri", "https://web.example/bye"}, 400, "needs an id_token_hint or a client_id"},
		"hint twice":                       {append(hint, "+id_token_hint", "x"), 400, "more than once"},
		"client twice":                     {[]string{"client_id", "web", "+client_id", "web"}, 400, "more than once"},
		"URI twice":                        {append(hint, "post_logout_redirect_uri", "https://web.example/bye", "+post_logout_redirect_uri", "https://evil.example/"), 400, "more than once"},
		"state twice":                      {append(hint, "state", "a", "+state", "b"), 400, "more than once"},
		"state too long":                   {append(hint, "state", strings.Repeat("x", 2049)), 400, "longer than"},
		"logout_hint too long":             {append(hint, "logout_hint", strings.Repeat("x", 513)), 400, "longer than"},
		"ui_locales too long":              {append(hint, "ui_locales", strings.Repeat("de ", 200)), 400, "longer than"},
		"state with control characters":    {append(hint, "state", "a\x01"), 400, "control characters"},
		"state that is no text":            {append(hint, "state", "\xff"), 400, "not UTF-8"},
		"authorization request's redirect": {append(hint, "post_logout_redirect_uri", "https://web.example/cb"), 400, "not registered"},
		"another client's URI":             {append(hint, "post_logout_redirect_uri", "https://other.example/bye"), 400, "not registered"},
	}
	for _, uri := range []string{
		"https://evil.example/", "//web.example/bye", "/bye", "https://web.example/bye/", "https://web.example/bye#", "https://web.example/bye#x", "https://web.example/bye?",
		"https://web.example/bye?from=op&x", "https://WEB.example/bye", "HTTPS://web.example/bye", "https://web.example:443/bye", "http://web.example/bye",
		"https://web.example@evil.example/bye", "https://user@web.example/bye", `https://web.example\@evil.example/bye`, `https://web.example/\bye`,
		"https://web.example.evil.example/bye", "https://web.example/%62ye", "https://web.example/x/../bye", "https://web.example/bye\x00", "https://web.example/bye\r\nSet-Cookie: a=b",
		" https://web.example/bye", "https://web.example/bye ", "javascript:alert(1)", "data:text/html,x", "http://127.0.0.1:9/bye",
	} {
		cases["URI "+uri] = refusal{append(hint, "post_logout_redirect_uri", uri), 400, "not registered"}
		cases["URI for a client "+uri] = refusal{[]string{"client_id", "web", "post_logout_redirect_uri", uri}, 400, "not registered"}
	}
	for name, c := range cases {
		b.get(s.endSession(c.pairs...)).isError(c.status, c.says)
		a := h.do(b.client, http.MethodPost, s.at+"/end_session", change(url.Values{}, c.pairs...).Encode()).isError(c.status, c.says)
		if h.logins("alex") != 1 || a.header.Get("Set-Cookie") != "" {
			t.Fatalf("%s has ended the login", name)
		}
	}
	long := strings.Repeat("x", 9000)
	b.get(s.endSession("id_token_hint", long)).isError(400, "longer than 8 KiB")
	h.do(b.client, http.MethodPost, s.at+"/end_session", "id_token_hint="+long).isError(413, "longer than 8 KiB")
	b.get(s.at+"/end_session?client_id=%zz").isError(400, "can't be read")
	h.do(b.client, http.MethodPost, s.at+"/end_session", "client_id=%zz").isError(400)
	h.do(b.client, http.MethodPost, s.at+"/end_session?client_id=web", "state=x").isError(400, "in the body alone")
	h.do(b.client, http.MethodPost, s.at+"/end_session", `{"client_id":"web"}`, "Content-Type", "application/json").isError(415)
	for _, method := range []string{http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions} {
		if a := h.do(b.client, method, s.endSession(hint...), ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, POST" {
			t.Errorf("%s: %d, Allow %q", method, a.status, a.header.Get("Allow"))
		}
	}
	s.alive(tk.Access, true)
}

// RFC 8252 §7.3, §8.3: the port of a loopback literal is a native client's to
// choose.
func TestNativeClientsComeBackToAnyPort(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	for uri, ok := range map[string]bool{
		"http://127.0.0.1:51234/bye": true, "com.example.app:/bye": true, "http://127.0.0.1:51234/": false, "http://localhost:51234/bye": false,
		"http://127.0.0.1:51234@evil.example/bye": false, "com.example.app:/bye/": false, "com.example.app://bye": false,
	} {
		b := h.signedIn("alex")
		tk := s.authorize(b, "native")
		a := b.follow(s.endSession("id_token_hint", tk.ID, "post_logout_redirect_uri", uri))
		if ok {
			a.mustGo(uri)
		} else {
			a.isError(400, "not registered")
		}
	}
}

// The seal says what was proven to one server, for half an hour.
func TestSealedLogoutIsWorthNothingElsewhere(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	b := h.signedIn("alex")
	tk := s.authorize(b, "web")
	to, err := url.Parse(b.get(s.endSession("id_token_hint", tk.ID, "post_logout_redirect_uri", "https://web.example/bye")).location())
	h.must(err)
	good := to.Query()
	consent := b.follow(s.request("asks"))
	_, of := consent.form()
	open := func(v url.Values) error {
		server := map[string]*as{jwtServer: h.jwt, opaqueServer: h.opaque}[v.Get("as")]
		_, err := server.server.Logout(context.Background(), httptest.NewRequest(http.MethodGet, "/logout?"+v.Encode(), nil))
		return err
	}
	h.must(open(good))
	stamp := good.Get("stamp")
	bad := map[string]url.Values{
		"another server": change(good, "as", opaqueServer), "cut": change(good, "stamp", stamp[:len(stamp)-2]), "changed": change(good, "stamp", stamp[:60]+map[bool]string{true: "B", false: "A"}[stamp[60] == 'A']+stamp[61:]),
		"none": change(good, "-stamp", ""), "a stamp of /authorize": change(good, "stamp", of.Get("stamp")), "twice as long": change(good, "stamp", stamp+stamp),
	}
	for name, v := range bad {
		if err := open(v); !errors.Is(err, oauth.ErrStamp) {
			t.Errorf("%s: %v", name, err)
		}
		// The page then asks as if nobody had sent the browser, and sends it nowhere.
		page := b.get(h.base+"/logout?"+v.Encode()).isError(http.StatusOK, "Sign out?")
		if strings.Contains(page.body, "web.example") || h.logins("alex") != 1 {
			t.Errorf("%s:\n%s", name, page.body)
		}
		if !v.Has("stamp") {
			continue // posted, it would be a plain sign-out by the user's own hand
		}
		h.do(b.client, http.MethodPost, h.base+"/logout", v.Encode(), "Sec-Fetch-Site", "same-origin").isError(http.StatusOK, "Sign out?")
		if h.logins("alex") != 1 {
			t.Fatalf("%s: posted, it has ended the login", name)
		}
	}
	// What /end_session sealed is no form of a page: it has to be shown first.
	page := h.do(b.client, http.MethodPost, h.base+"/logout", good.Encode(), "Sec-Fetch-Site", "same-origin").isError(http.StatusOK, "Sign out?")
	h.wait(29 * time.Minute)
	h.must(open(good))
	h.wait(2 * time.Minute)
	if err := open(good); !errors.Is(err, oauth.ErrStamp) {
		t.Errorf("after 31 minutes: %v", err)
	}
	b.submit(page).isError(http.StatusOK, "Sign out?")
	if h.logins("alex") != 1 {
		t.Error("a form that is too old has ended the login")
	}
}

// TestLogoutFormIsForOneLogin: left open, it ends nobody else's sign-in.
func TestLogoutFormIsForOneLogin(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	for name, address := range map[string]string{"an application's": s.endSession("client_id", "web", "post_logout_redirect_uri", "https://web.example/bye"), "the page's own": h.base + "/logout"} {
		b, bob := h.signedIn("alex"), h.signedIn("bob")
		page := b.follow(address)
		_, form := page.form()
		before := h.logins("bob")
		a := h.do(bob.client, http.MethodPost, h.base+"/logout", form.Encode(), "Sec-Fetch-Site", "same-origin").isError(http.StatusOK, "Sign out?", "BOB (bob)")
		if h.logins("bob") != before {
			t.Fatalf("%s form of alex has ended bob's login", name)
		}
		for _, site := range []string{"cross-site", "same-site"} {
			h.do(b.client, http.MethodPost, h.base+"/logout", form.Encode(), "Sec-Fetch-Site", site).isError(http.StatusForbidden)
		}
		bob.submit(a)
		if h.logins("bob") != before-1 {
			t.Errorf("%s: bob's own word ends nothing", name)
		}
		first := b.submit(page)
		again := b.submit(page)
		if first.location() != again.location() || first.status != again.status {
			t.Errorf("%s: sent twice, it leads to %d %s and %d %s", name, first.status, first.location(), again.status, again.location())
		}
	}
}

func TestLanguageOfALogoutStays(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	for _, address := range []string{s.endSession("client_id", "web", "ui_locales", "de-CH en"), h.base + "/logout?ui_locales=de"} {
		b := h.signedIn("alex")
		page := b.follow(address).isError(http.StatusOK, `<html lang="de">`, "Abmelden?")
		b.submit(page).isError(http.StatusOK, `<html lang="de">`, "Sie sind abgemeldet")
	}
	b := h.signedIn("alex")
	b.get(s.endSession("client_id", "nobody", "ui_locales", "de")).isError(400, `<html lang="de">`)
}
