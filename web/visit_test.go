package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/web"
)

// enter signs in for the account page.
func (b *browser) enter(username, password string) answer {
	b.h.t.Helper()
	a := b.submit(b.get(b.h.base+"/account").expect(200, `name="username"`), "username", username, "password", password)
	if a.status != http.StatusSeeOther {
		b.h.t.Fatalf("signing in: %d\n%s", a.status, a.body)
	}
	return b.get(b.h.base + strings.TrimPrefix(a.location(), "/realms/default"))
}

func TestSignInForOurOwnPages(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	page := b.get(h.base+"/account").expect(200, "to see your account", `name="to" value="account"`)
	if !strings.HasSuffix(page.url, "/login?to=account") {
		t.Errorf("the way to the account leads to %s", page.url)
	}
	b.submit(page, "username", "", "password", "x").expect(422, "Enter your user name.", `name="to" value="account"`)
	b.submit(page, "username", "alex", "password", "wrong").expect(422, "User name or password is wrong.")
	b.enter("alex", alexPassword).expect(200, "Where you are signed in", "This browser", "Alex (alex)")
	if n := len(h.logins("alex")); n != 1 {
		t.Fatalf("alex has %d logins", n)
	}
	// Who is signed in goes on at once, and another application finds the login.
	if a := b.do("GET", h.base+"/login?to=permissions", ""); a.status != 303 || a.location() != "/realms/default/account/permissions" {
		t.Errorf("%d %s", a.status, a.location())
	}
	b.get(h.request("album")).expect(200, "Allow access?")
	b.get(h.base+"/login?to=account&account=other").expect(200, "with another account, that sign-in ends")

	// A page can be gone to by its name alone.
	for _, to := range []string{"", "nowhere", "https://evil.example/", "//evil.example", "/account/sessions", "account/../../x", "Account", "account\n",
		"user:", "user:alex", "user:../sessions", "user:" + strings.ToUpper(someUser), "user:" + someUser + "/lock", "user:{" + someUser + "}",
		"user:urn:uuid:" + someUser, "user:" + strings.ReplaceAll(someUser, "-", ""), "admin?", "admin?%zz", "admin?to=https://evil.example/", "admin?user=a&user=b",
		"admin?user=a&next=//evil.example", "admin?user=a#b", "admin?before=x", "admin?before=1&after=2", "admin?user=b&browser=Edge", "admin?user=%ff",
		"admin?user=" + strings.Repeat("a", 600), "admin/../x?user=a", "account?user=a", "admin? user=a", "admin?user=a\r\nX: y"} {
		for _, more := range []string{"", "&done=1", "&again=1", "&over=1"} {
			a := b.do("GET", h.base+"/login?to="+url.QueryEscape(to)+more, "")
			if a.status != 404 || a.location() != "" {
				t.Errorf("to %q%s: %d %s", to, more, a.status, a.location())
			}
		}
		a := b.do("POST", h.base+"/login", url.Values{"to": {to}, "username": {"alex"}, "password": {alexPassword}}.Encode())
		if a.status != 404 || a.location() != "" {
			t.Errorf("posted to %q: %d %s", to, a.status, a.location())
		}
	}
	// An authorization request is answered as ever, whatever stands beside it.
	if a := h.browser().get(h.request("album") + "&to=account"); !strings.Contains(a.body, "Photo Album") {
		t.Errorf("with a place beside it an authorization request gets\n%s", a.body)
	}
}

// someUser is the id of nobody.
const someUser = "0b0e1f0a-6a53-4c0e-9d52-6f0e6a6f6c11"

func TestSignInForOurOwnPagesWithoutCookies(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	page := b.get(h.base + "/account")
	a := b.submit(page, "username", "alex", "password", alexPassword)
	b.client.Jar = nil // nothing was kept
	page = b.do("GET", h.base+strings.TrimPrefix(a.location(), "/realms/default"), "").expect(400, "Your browser keeps no cookies of ours")
	if !strings.Contains(page.body, `href="/realms/default/login?to=account"`) {
		t.Errorf("there is no way to try again:\n%s", page.body)
	}
}

func TestPageThatIsOverSaysSo(t *testing.T) {
	h := open(t, nil)
	b, other := h.browser(), h.browser()
	b.enter("alex", alexPassword)
	other.get(h.base+"/account/history").expect(200, "to see your account")
	h.lock("alex")
	b.get(h.base+"/account/sessions").expect(200, "Your sign-in in this browser has ended.", `name="to" value="account"`)
	a := b.do("POST", h.base+"/account/sessions/end", "what=all")
	if a.status != 303 || a.location() != "/realms/default/login?over=1&to=account&undone=1" {
		t.Errorf("a form of who is signed out gets %d %s", a.status, a.location())
	}
	if a := b.do("GET", h.base+"/account/sessions/events", ""); a.status != 204 || a.body != "" {
		t.Errorf("a stream of who is signed out gets %d %q", a.status, a.body)
	}
}

// TestSealOfAForm: a form does what it was made for, in the login in which it
// was shown, and nothing else.
func TestSealOfAForm(t *testing.T) {
	h := open(t, nil)
	alex, again, bob := h.browser(), h.browser(), h.browser()
	alex.enter("alex", alexPassword)
	again.enter("alex", alexPassword)
	bob.enter("bob", bobPassword)
	logins := h.logins("alex")
	first, second := logins[1].ID, logins[0].ID
	asked := func(b *browser, path string) url.Values {
		t.Helper()
		_, v := b.get(h.base + path).expect(200).form()
		return v
	}
	seal := asked(alex, "/account/sessions/"+second+"/end").Get("seal")
	for name, tt := range map[string]struct {
		by   *browser
		path string
		form url.Values
	}{
		"no seal":               {alex, "/account/sessions/" + second + "/end", url.Values{}},
		"an empty one":          {alex, "/account/sessions/" + second + "/end", url.Values{"seal": {""}}},
		"a changed one":         {alex, "/account/sessions/" + second + "/end", url.Values{"seal": {seal + "x"}}},
		"a shortened one":       {alex, "/account/sessions/" + second + "/end", url.Values{"seal": {seal[:len(seal)-1]}}},
		"a longer time":         {alex, "/account/sessions/" + second + "/end", url.Values{"seal": {"z" + seal}}},
		"another subject's":     {alex, "/account/sessions/" + first + "/end", url.Values{"seal": {seal}}},
		"another action's":      {alex, "/account/sessions/" + second + "/name", url.Values{"seal": {seal}, "device": {"x"}}},
		"for everything":        {alex, "/account/sessions/end", url.Values{"seal": {seal}, "what": {"all"}}},
		"others' for all":       {alex, "/account/sessions/end", url.Values{"seal": asked(alex, "/account/sessions/end?what=others")["seal"], "what": {"all"}}},
		"in another login":      {again, "/account/sessions/" + second + "/end", url.Values{"seal": {seal}}},
		"another user's":        {bob, "/account/sessions/" + second + "/end", url.Values{"seal": {seal}}},
		"another user's, all":   {bob, "/account/sessions/end", url.Values{"seal": asked(alex, "/account/sessions/end?what=all")["seal"], "what": {"all"}}},
		"a password without":    {alex, "/account/password", url.Values{"old": {alexPassword}, "new": {"another password"}, "again": {"another password"}}},
		"a password, other act": {alex, "/account/password", url.Values{"seal": {seal}, "old": {alexPassword}, "new": {"another password"}, "again": {"another password"}}},
		"a permission without":  {alex, "/account/permissions/withdraw", url.Values{"server": {"myAS"}, "client": {"album"}}},
	} {
		t.Run(name, func(t *testing.T) {
			a := tt.by.do("POST", h.base+tt.path, tt.form.Encode())
			a.t = t
			a.expect(403, "This form is no longer valid", `href="/realms/default/account/sessions"`)
		})
	}
	if n := len(h.logins("alex")); n != 2 {
		t.Fatalf("alex has %d logins left", n)
	}
	h.wait(61 * time.Minute)
	alex.do("POST", h.base+"/account/sessions/"+second+"/end", url.Values{"seal": {seal}}.Encode()).expect(403, "This form is no longer valid")
	alex.submit(alex.get(h.base + "/account/sessions/" + second + "/end"))
	if left := h.logins("alex"); len(left) != 1 || left[0].ID != first {
		t.Errorf("left are %+v", left)
	}
}

func TestAccountNeedsItsParts(t *testing.T) {
	for name, change := range map[string]func(*web.Config){
		"no directory": func(c *web.Config) { c.Directory = nil },
		"no past":      func(c *web.Config) { d := *c.Directory; d.Past = nil; c.Directory = &d },
		"no MAC":       func(c *web.Config) { c.MAC = nil },
	} {
		var kept web.Config
		open(t, func(c *web.Config) { kept = *c })
		change(&kept)
		if _, err := web.New(kept); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}
