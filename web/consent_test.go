package web_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/sessions"
)

// atConsent signs a browser in and takes it to the consent page.
func atConsent(h *house, b *browser, request, user, password string) answer {
	h.t.Helper()
	return b.get(b.signIn(request, user, password).location()).expect(200, `name="decision"`)
}

func TestConsentGoesBackWithTheDecision(t *testing.T) {
	for _, c := range []struct{ decision, want string }{{"allow", "code="}, {"deny", "error=access_denied"}} {
		t.Run(c.decision, func(t *testing.T) {
			h := open(t, nil)
			b := h.browser()
			page := atConsent(h, b, h.request("album"), "alex", alexPassword)
			a := b.submit(page, "decision", c.decision).expect(303)
			if !strings.HasPrefix(a.location(), h.issuer+"/authorize?") {
				t.Fatalf("sent to %s", a.location())
			}
			s, l := h.stamp(a.location()), h.logins("alex")[0]
			if s.Decision != c.decision || s.LoginID != l.ID || s.UserID != l.UserID || s.DecidedAt.IsZero() ||
				strings.Join(s.Scopes, " ") != "openid profile photos:read" {
				t.Errorf("stamp %+v", s)
			}
			end := b.get(a.location())
			if !strings.HasPrefix(end.location(), "https://album.example/callback?") || !strings.Contains(end.location(), c.want) {
				t.Errorf("ended at %d %s", end.status, end.location())
			}
		})
	}
}

func TestConsentPageSaysWhatIsAsked(t *testing.T) {
	h := open(t, nil)
	page := atConsent(h, h.browser(), h.request("album", "scope", "openid email offline_access photos:read"), "alex", alexPassword)
	page.expect(200, "<strong><bdi>Photo Album</bdi></strong> would like to:", "see your email address",
		"keep this access while you are away", "use the permission <strong><bdi>photos:read</bdi></strong>", "You are signed in as <strong><bdi>Alex (alex)",
		`<span class="tile" aria-hidden="true">PA</span>`, `<a href="https://album.example/privacy" target="_blank" rel="noopener noreferrer">`)
	if strings.Contains(page.body, "javascript:") || strings.Contains(page.body, "Terms of service") {
		t.Error("there is a link to what is no page")
	}
	brief := atConsent(h, h.browser(), h.request("brief", "scope", "openid offline_access"), "alex", alexPassword)
	if strings.Contains(brief.body, "while you are away") {
		t.Error("a client without refresh tokens asks for what it can't have")
	}
}

// TestConsentPageBindsItsForm to the login that it is shown to, also where
// nobody signed in on the way, and takes no earlier decision along.
func TestConsentPageBindsItsForm(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	b.signIn(h.request("house"), "alex", alexPassword)
	page := b.get(h.request("album")).expect(200, `name="decision"`)
	if asked := h.stamp(page.url); asked.LoginID != "" || asked.UserID != "" {
		t.Fatalf("the request already names a login: %+v", asked)
	}
	_, form := page.form()
	if s, l := h.stamp("/consent?"+form.Encode()), h.logins("alex")[0]; s.LoginID != l.ID || s.UserID != l.UserID || s.SignedIn {
		t.Errorf("stamp %+v of login %s", s, l.ID)
	}
	allowed, err := url.Parse(b.submit(page, "decision", "allow").expect(303).location())
	if err != nil {
		t.Fatal(err)
	}
	q := allowed.Query()
	form.Set("stamp", q.Get("gatehouse_stamp"))
	if h.stamp("/consent?"+form.Encode()).Decision != "allow" {
		t.Fatal("not decided")
	}
	_, again := b.get(h.base + "/consent?" + form.Encode()).form()
	if s := h.stamp("/consent?" + again.Encode()); s.Decision != "" || s.Scopes != nil || !s.DecidedAt.IsZero() {
		t.Errorf("an earlier decision stands in the form: %+v", s)
	}
	if end := b.get(allowed.String()); !strings.Contains(end.location(), "code=") {
		t.Errorf("ended at %d %s", end.status, end.location())
	}
}

// TestConsentOfAnotherLoginIsRefused: a form decides only for the user and the
// login that it was shown to.
func TestConsentOfAnotherLoginIsRefused(t *testing.T) {
	h := open(t, nil)
	alex, again, bob := h.browser(), h.browser(), h.browser()
	page := atConsent(h, alex, h.request("album"), "alex", alexPassword)
	again.signIn(h.request("house"), "alex", alexPassword)
	bob.signIn(h.request("house"), "bob", bobPassword)
	to, form := page.form("decision", "allow")
	for name, b := range map[string]*browser{"another user": bob, "same user, another login": again, "nobody": h.browser()} {
		a := b.do(http.MethodPost, to, form.Encode()).expect(403, "This question was not meant for you")
		if a.location() != "" {
			t.Errorf("%s: sent to %s", name, a.location())
		}
	}
	// The link to the page, taken to bob's browser, asks bob, and does not say
	// that it was he who signed in.
	_, bobs := bob.get(page.url).form()
	if s := h.stamp("/consent?" + bobs.Encode()); s.UserID != h.userID("bob") || s.SignedIn {
		t.Errorf("stamp of bob's form: %+v", s)
	}
	// The browser that it was shown to, after somebody else has signed in.
	alex.submit(alex.get(h.request("house", "prompt", "login")), "username", "bob", "password", bobPassword).expect(303)
	alex.do(http.MethodPost, to, form.Encode()).expect(403)
}

// TestStampThatWasShownToNobodyDecidesNothing: the stamp that leads to the
// sign-in page names no login.
func TestStampThatWasShownToNobodyDecidesNothing(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	b.signIn(h.request("house"), "alex", alexPassword)
	_, form := h.browser().get(h.request("album")).form("decision", "allow")
	b.do(http.MethodPost, h.base+"/consent", form.Encode()).expect(403)
}

func TestConsentFormNeedsADecision(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	page := atConsent(h, b, h.request("album"), "alex", alexPassword)
	for _, decision := range []string{"", "yes", "Allow", "allow deny"} {
		b.submit(page, "decision", decision).expect(400, "The form was incomplete")
	}
}

func TestConsentWithoutLogin(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	page := atConsent(h, b, h.request("album"), "alex", alexPassword)

	blocked := h.browser().do(http.MethodGet, page.url, "").expect(400, "Your browser keeps no cookies of ours", "Allow cookies for")
	if blocked.location() != "" {
		t.Errorf("sent to %s", blocked.location())
	}

	// The login ended in the meantime: the browser signs in again and goes on.
	if _, err := h.manager.End(context.Background(), sessions.Target{Login: h.logins("alex")[0].ID}, sessions.Ending{
		By: sessions.Actor{Kind: sessions.ActorOperator, ID: "test"}, Reason: sessions.ReasonEndedByOperator}); err != nil {
		t.Fatal(err)
	}
	a := b.get(page.url).expect(200, "<h1>Sign in</h1>")
	b.get(b.submit(a, "username", "alex", "password", alexPassword).expect(303).location()).expect(200, `name="decision"`)
}

// TestNotYouLeadsToAnotherAccount: the way from consent to another sign-in and
// back, with nothing of the first user taken along.
func TestNotYouLeadsToAnotherAccount(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	page := atConsent(h, b, h.request("album"), "alex", alexPassword)
	_, rest, _ := strings.Cut(page.body, `<a href="/realms/default/login?`)
	query, _, _ := strings.Cut(rest, `"`)
	login := b.get(h.base+"/login?"+strings.ReplaceAll(query, "&amp;", "&")).expect(200, `name="username" type="text" value=""`)
	a := b.submit(login, "username", "bob", "password", bobPassword).expect(303)
	b.get(a.location()).expect(200, "(bob)", `name="decision"`)
	if len(h.logins("alex")) != 0 {
		t.Error("alex is still signed in")
	}
}

// TestNamesOfOthersAreText: what clients and users call themselves is shown as
// text.
func TestNamesOfOthersAreText(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	login := b.get(h.request("evil"))
	a := b.submit(login, "username", "bob", "password", bobPassword)
	consent := b.get(a.expect(303).location())
	for name, page := range map[string]answer{"login": login, "consent": consent, "logout": b.get(h.base + "/logout")} {
		page.expect(200, "&lt;script&gt;alert(1)&lt;/script&gt;")
		if strings.Contains(page.body, "<script>") {
			t.Errorf("%s: markup came through", name)
		}
	}
}

func TestPagesSpeakTheReadersLanguage(t *testing.T) {
	h := open(t, nil)
	for _, c := range []struct{ locales, accept, want string }{
		{"", "", `<html lang="en">`},
		{"", "de-AT, en;q=0.5", `<html lang="de">`},
		{"de", "en", `<html lang="de">`},
		{"fr en", "de", `<html lang="en">`},
	} {
		b := h.browser()
		b.accept = c.accept
		request := h.request("album", "ui_locales", c.locales)
		login := b.get(request).expect(200, c.want)
		b.submit(login, "username", "alex", "password", "wrong").expect(422, c.want)
		atConsent(h, b, request, "alex", alexPassword).expect(200, c.want)
		b.get(h.issuer+"/authorize?client_id=nobody&ui_locales="+strings.ReplaceAll(c.locales, " ", "+")).expect(400, c.want)
	}
	b := h.browser()
	b.accept = "de"
	b.get(h.base+"/logout").expect(200, `<html lang="de">`, "Sie sind abgemeldet")
}
