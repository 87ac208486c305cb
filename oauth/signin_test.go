package oauth_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/clients"
)

func TestSignInLeadsToACodeAndIsSharedByTheRealm(t *testing.T) {
	h := open(t, options{})
	b := h.browser()
	h.jwt.authorized(b.signIn(b.follow(h.jwt.request("web")), "alex"))
	h.jwt.code(b, "other")
	h.opaque.code(b, "web")
	h.jwt.refused(h.browser().follow(h.jwt.request("web", "prompt", "none")), "login_required")
}

// OpenID Connect Core §3.1.2.1: met by a sign-in for that very request, once.
func TestDemandedSignInIsMetOnceAndByThisRequestAlone(t *testing.T) {
	h := open(t, options{})
	for _, demand := range [][]string{{"prompt", "login"}, {"max_age", "0"}, {"prompt", "select_account"}} {
		for _, s := range h.servers() {
			b := h.signedIn("alex")
			h.wait(time.Second)
			request := s.request("web", demand...)
			other := s.request("web", append([]string{"state", "another"}, demand...)...)
			otherPage := b.follow(other).isPage("/login")

			page := b.follow(request).isPage("/login")
			a := b.submit(page, "username", "alex", "password", alexPassword)
			back := a.location()
			b.follow(other).isPage("/login") // that sign-in answers the first request, not this one
			code := s.authorized(b.follow(back))
			if id := claims(t, s.tokens(s.redeem("web", code)).ID); id["auth_time"] != float64(h.now().Unix()) {
				t.Errorf("%q: auth_time %v, want %d", demand, id["auth_time"], h.now().Unix())
			}
			// The back button, the same link again, the other tab: all ask again.
			for _, again := range []string{back, back, request, other} {
				b.follow(again).isPage("/login")
			}
			s.authorized(b.signIn(otherPage, "alex"))
		}
	}
}

func TestDemandedSignInSurvivesTheConsentPage(t *testing.T) {
	h := open(t, options{})
	s, b := h.jwt, h.signedIn("alex")
	h.wait(time.Second)
	page := b.signIn(b.follow(s.request("asks", "prompt", "login consent")), "alex").isPage("/consent")
	back := b.submit(page, "decision", "allow").location()
	s.authorized(b.get(back))
	b.follow(back).isPage("/login") // and is used up all the same
}

func TestDefaultMaxAgeOfTheClientDemandsASignIn(t *testing.T) {
	sixty := int64(60)
	h := open(t, options{Static: append(staticClients(), client("aged", func(c *clients.Client) { c.DefaultMaxAge = &sixty }))})
	b, s := h.signedIn("alex"), h.jwt
	s.code(b, "aged")
	h.wait(61 * time.Second)
	b.follow(s.request("aged")).isPage("/login")
	s.code(b, "aged", "max_age", "3600")
}

func TestMaxAgeIsMetByAge(t *testing.T) {
	h := open(t, options{})
	b, s := h.signedIn("alex"), h.jwt
	h.wait(time.Minute)
	s.code(b, "web", "max_age", "60")
	h.wait(time.Second)
	s.refused(b.follow(s.request("web", "max_age", "60", "prompt", "none")), "login_required")
	page := b.follow(s.request("web", "max_age", "60")).isPage("/login")
	s.code(b, "web", "max_age", "61")
	u, err := url.Parse(h.base)
	h.must(err)
	thief := h.browser()
	thief.client.Jar.SetCookies(u, b.client.Jar.Cookies(u))
	s.authorized(b.signIn(page, "alex"))
	s.code(b, "web", "max_age", "60")
	// What was proven is not for who holds the cookie of before.
	s.code(thief, "web")
	thief.follow(s.request("web", "max_age", "60")).isPage("/login")
	s.refused(thief.get(s.request("web", "max_age", "3600", "prompt", "none")), "login_required")
}

func TestPromptNoneNeverShowsAPage(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		s.refused(h.browser().get(s.request("web", "prompt", "none")), "login_required")
		b := h.signedIn("alex")
		s.code(b, "web", "prompt", "none")
		s.refused(b.get(s.request("web", "prompt", "none", "max_age", "0")), "login_required")
		s.refused(b.get(s.request("asks", "prompt", "none")), "consent_required")
		b.setCookie(strings.Repeat("A", 43))
		s.refused(b.get(s.request("web", "prompt", "none")), "login_required")
		b.setCookie("short")
		s.refused(b.get(s.request("web", "prompt", "none")), "login_required")
	}
}

func TestIDTokenHintNamesTheUser(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	alex, bob := h.signedIn("alex"), h.signedIn("bob")
	tk := s.authorize(alex, "web")
	ofBob := s.authorize(bob, "web").ID
	h.wait(3 * time.Hour) // an expired one still names the user
	s.code(alex, "web", "id_token_hint", tk.ID, "prompt", "none")
	s.code(alex, "web", "id_token_hint", tk.ID)
	s.refused(alex.get(s.request("web", "id_token_hint", ofBob, "prompt", "none")), "login_required")

	// The person whom the client expects may sign in; anybody else is refused,
	// by an answer and not by a loop.
	s.authorized(alex.signIn(alex.follow(s.request("web", "id_token_hint", ofBob)), "bob"))
	s.refused(bob.signIn(bob.follow(s.request("web", "id_token_hint", tk.ID, "state", "2")), "bob"), "login_required")

	foreign := h.opaque.authorize(h.signedIn("alex"), "web").ID
	other := s.authorize(h.signedIn("alex"), "other").ID
	for name, hint := range map[string]string{
		"another server's": foreign, "another client's": other, "an access token": tk.Access, "a refresh token": tk.Refresh,
		"garbage": "a.b.c", "cut": tk.ID[:len(tk.ID)-2], "unsigned": unsigned(tk.ID),
	} {
		if s.response(bob.get(s.request("web", "id_token_hint", hint))).Get("error") != "invalid_request" {
			t.Errorf("hint that is %s was not refused", name)
		}
	}
}

// unsigned is a JWT with alg none and the same payload.
func unsigned(token string) string {
	part := strings.Split(token, ".")
	return "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0." + part[1] + "."
}

func TestReturnWithoutTheCookieIsAPageAndNoLoop(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	b := h.browser()
	back := b.submit(b.follow(s.request("web")), "username", "alex", "password", alexPassword).location()
	forgetful := h.browser()
	forgetful.get(back).isError(http.StatusBadRequest, "ookie")
	s.authorized(b.follow(back))
}

// stamped takes apart the URL by which a page sends the browser back.
func stamped(t *testing.T, back string) (base string, v url.Values) {
	t.Helper()
	u, err := url.Parse(back)
	if err != nil {
		t.Fatal(err)
	}
	v = u.Query()
	if v.Get("gatehouse_stamp") == "" {
		t.Fatalf("%s has no stamp", back)
	}
	u.RawQuery = ""
	return u.String() + "?", v
}

// The stamp says that a user has signed in, and what he decided: of one
// request, of one server, for half an hour.
func TestStampIsWorthNothingElsewhere(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	b := h.browser()
	allowed := func(pairs ...string) string {
		t.Helper()
		page := b.follow(s.request("asks", pairs...))
		if strings.Contains(page.url, "/login") {
			page = b.signIn(page, "alex")
		}
		return b.submit(page.isPage("/consent"), "decision", "allow").location()
	}
	base, v := stamped(t, allowed("prompt", "consent"))
	stamp := v.Get("gatehouse_stamp")
	_, ofAnother := stamped(t, allowed("prompt", "consent", "state", "another"))

	for name, q := range map[string]url.Values{
		"tampered":            change(v, "gatehouse_stamp", stamp[:len(stamp)-4]+"AAAA"),
		"cut":                 change(v, "gatehouse_stamp", stamp[:len(stamp)-1]),
		"empty":               change(v, "gatehouse_stamp", ""),
		"garbage":             change(v, "gatehouse_stamp", "1.AAAA"),
		"of another request":  change(v, "gatehouse_stamp", ofAnother.Get("gatehouse_stamp")),
		"for more scopes":     change(v, "scope", "openid profile email"),
		"for another client":  change(v, "client_id", "other", "redirect_uri", "https://other.example/cb", "prompt", "consent"),
		"for a longer state":  change(v, "state", "st-2"),
		"with one more value": change(v, "+ui_locales", "de"),
	} {
		if a := b.get(base + q.Encode()); !strings.HasPrefix(a.location(), h.base+"/consent?") {
			t.Errorf("a stamp %s leads to %d %s", name, a.status, a.location())
		}
	}
	if a := b.get(strings.Replace(base, s.at, h.opaque.at, 1) + v.Encode()); !strings.HasPrefix(a.location(), h.base+"/consent?") {
		t.Errorf("another server's stamp leads to %d %s", a.status, a.location())
	}
	for name, page := range map[string]string{"login": h.base + "/login?", "consent": h.base + "/consent?"} {
		for _, as := range []string{"opaque", "nobody", ""} {
			q := url.Values{"as": {as}, "stamp": {stamp}, "request": {withoutStamp(v).Encode()}}
			if a := b.get(page + q.Encode()); a.status != http.StatusBadRequest {
				t.Errorf("the page %s takes a stamp of another server %q: %d", name, as, a.status)
			}
		}
	}

	h.wait(30*time.Minute + time.Second)
	if a := b.get(base + v.Encode()); !strings.HasPrefix(a.location(), h.base+"/consent?") {
		t.Errorf("an old stamp leads to %d %s", a.status, a.location())
	}
	_, v = stamped(t, allowed("prompt", "consent"))
	h.wait(30 * time.Minute)
	s.authorized(b.get(base + v.Encode()))
}

func withoutStamp(v url.Values) url.Values { return change(v, "-gatehouse_stamp", "") }

func TestStampOfASignInThatIsTooOldStartsOver(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	b := h.browser()
	page := b.follow(s.request("web", "prompt", "login")).isPage("/login")
	h.wait(31 * time.Minute)
	if a := b.submit(page, "username", "alex", "password", alexPassword); a.status != http.StatusBadRequest {
		t.Errorf("an old sign-in page is taken: %d", a.status)
	}
	back := b.submit(b.follow(s.request("web", "prompt", "login")), "username", "alex", "password", alexPassword).location()
	h.wait(31 * time.Minute)
	b.follow(back).isPage("/login")
}

// Another user's sign-in in the same browser ends the login of the first.
func TestAnotherUserEndsTheLogin(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	b := h.signedIn("alex")
	first := s.authorize(b, "web")
	s.authorized(b.signIn(b.follow(s.request("web", "prompt", "login")), "bob"))
	s.alive(first.Access, false)
	s.refresh("web", first.Refresh).fails(http.StatusBadRequest, "invalid_grant")
}

// Re-authentication keeps the login and its sids.
func TestSigningInAgainContinuesTheSession(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	b := h.signedIn("alex")
	first := s.authorize(b, "web")
	h.wait(time.Minute)
	second := s.tokens(s.redeem("web", s.authorized(b.signIn(b.follow(s.request("web", "prompt", "login")), "alex"))))
	if a, b := claims(t, first.ID), claims(t, second.ID); a["sid"] != b["sid"] || a["auth_time"] == b["auth_time"] {
		t.Errorf("sid %v, then %v; auth_time %v, then %v", a["sid"], b["sid"], a["auth_time"], b["auth_time"])
	}
	s.alive(first.Access, true)
	s.tokens(s.refresh("web", first.Refresh))
}
