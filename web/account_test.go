package web_test

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage"
	"gatehouse.dev/gatehouse/throttle"
	"gatehouse.dev/gatehouse/web"
)

// headings are the names of the cards on a page, in its order.
func (a answer) headings() []string {
	var out []string
	for _, m := range regexp.MustCompile(`<h3 id="entry-[^"]*">(.*?)</h3>`).FindAllStringSubmatch(a.body, -1) {
		out = append(out, regexp.MustCompile(`<[^>]*>`).ReplaceAllString(m[1], ""))
	}
	return out
}

func TestAccountPageTellsWhatLives(t *testing.T) {
	h := busy(t)
	b := h.browser()
	b.agent = agentChrome
	page := b.enter("alex", alexPassword).expect(200, "This browser", "Safari on iOS", "127.0.0.1", "also while you are away", "use the permission <strong><bdi>photos:read", "4 hours ago",
		"see your email address", "Access without a browser")
	// Of each when it began, and of each application when it was allowed.
	directory := &sessions.Directory{Manager: h.manager, Store: h.realm, Past: h.realm}
	entries, err := directory.Own(t.Context(), sessions.Person{UserID: h.userID("alex")}, sessions.EntryQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		_, shown, _ := strings.Cut(page.body, `<article class="card entry`+map[bool]string{true: " entry-current"}[e.ID == entries[0].ID]+`" data-key="`+e.ID+`"`)
		shown, _, _ = strings.Cut(shown, "</article>")
		began := map[bool]string{true: "Signed in", false: "Since"}[e.Login]
		if at := e.CreatedAt.UTC(); !strings.Contains(shown, "<dt>"+began+`</dt><dd><time datetime="`+at.Format(time.RFC3339)+`" data-local="at">`+at.Format("2006-01-02 15:04")+" UTC") {
			t.Errorf("%s: not %s %s:\n%s", e.ID, began, at, shown)
		}
		for _, app := range e.Applications {
			if at := app.ConsentedAt.UTC(); !strings.Contains(shown, `Allowed on <time datetime="`+at.Format(time.RFC3339)+`">`+at.Format("2 January 2006")) {
				t.Errorf("%s: %s was not allowed on %s:\n%s", e.ID, app.Name, at, shown)
			}
		}
	}
	_, current, _ := strings.Cut(page.body, "entry-current")
	current, _, _ = strings.Cut(current, "</article>")
	if !strings.Contains(current, "<dt>Last active</dt><dd><time ") || !strings.Contains(current, "just now") || strings.Count(page.body, "<dt>Last active</dt>") != 1 {
		t.Errorf("the current one doesn't tell when it was used:\n%s", current)
	}
	want := []string{"Chrome on Linux", "Firefox on Windows", "Alex’s phone", "Donaudampfschifffahrtsgesellschaft: Fahrpläne &amp; Fahrkarten"}
	if got := page.headings(); !slices.Equal(got, want) {
		t.Errorf("the page has %q, want %q", got, want)
	}
	if strings.Count(page.body, `class="badge">This browser`) != 1 || strings.Index(page.body, "This browser") > strings.Index(page.body, "Firefox on Windows") {
		t.Error("the current one is not marked, or not the first")
	}
	// Somebody else sees nothing of it.
	bob := h.browser()
	if got := bob.enter("bob", bobPassword).headings(); len(got) != 1 || strings.Contains(bob.get(h.base+"/account/history").body, "Firefox") {
		t.Errorf("bob sees %q", got)
	}
	bob.get(h.base+"/account/history").expect(200, "Nothing has ended yet.")
	bob.get(h.base+"/account/permissions").expect(200, "You have not allowed any application")
	bob.get(h.base+"/account/sessions").expect(200, "No application has access without a browser.")
	if strings.Contains(bob.get(h.base+"/account/sessions").body, "everywhere else") {
		t.Error("who is signed in once can sign out everywhere else")
	}
	// What ended is told, with why and by whom.
	const self = `<span>Signed out</span><span class="soft">by yourself</span>`
	if history := b.get(h.base+"/account/history").expect(200, self); strings.Contains(strings.ReplaceAll(history.body, self, ""), ">by ") {
		t.Errorf("somebody else ended something:\n%s", history.body)
	}
	gives := h.browser()
	token := gives.use("album", "openid offline_access", "alex", alexPassword)
	gives.submit(gives.get(h.base + "/logout"))
	h.post("album", "/revoke", url.Values{"token": {token}})
	history := b.get(h.base+"/account/history").expect(200, "Signed out", "Photo Album", "Brief", "Firefox on Windows",
		`<span>Given back by the application</span><span class="soft">by <strong><bdi>Photo Album</bdi></strong></span>`)
	if n := strings.Count(history.body, "<tr>"); n != 1+5+2 {
		t.Errorf("the history has %d lines:\n%s", n-1, history.body)
	}
	for _, before := range []string{"0", "-1", "x", "99999999999999999999", "1e3"} {
		b.get(h.base + "/account/history?before=" + before).expect(404)
	}
	b.get(h.base+"/account/history?before=1").expect(200, "Nothing has ended yet.", `href="/realms/default/account/history"`)
}

func TestHistoryHasPages(t *testing.T) {
	h := open(t, nil)
	for range 45 {
		in := h.browser()
		in.signIn(h.request("house"), "alex", alexPassword)
	}
	b := h.browser()
	b.enter("alex", alexPassword)
	b.submit(b.get(h.base + "/account/sessions/end?what=others"))
	path, lines := "/account/history", 0
	for pages := 0; path != ""; pages++ {
		page := b.get(h.base + path).expect(200)
		lines += strings.Count(page.body, "<tr>") - 1
		_, next, _ := strings.Cut(page.body, `<a class="button small-button" href="/realms/default/account/history?`)
		path, _, _ = strings.Cut(next, `"`)
		if path != "" {
			path = "/account/history?" + path
		}
		if pages > 5 {
			t.Fatal("the pages don't end")
		}
	}
	if lines != 45 {
		t.Errorf("the pages have %d lines", lines)
	}
}

func TestQuestionKnowsThatLogoutEndsOfflineAccess(t *testing.T) {
	h := openRealm(t, storage.RealmConfig{LogoutEndsOffline: true}, nil)
	phone, b := h.browser(), h.browser()
	token := phone.use("album", "openid offline_access", "alex", alexPassword)
	id := h.logins("alex")[0].ID
	b.enter("alex", alexPassword)
	page := b.get(h.base+"/account/sessions/"+id+"/end").expect(200, "End this sign-in?", "This ends", "Photo Album")
	if strings.Contains(page.body, "This goes on") {
		t.Errorf("the page says that something goes on:\n%s", page.body)
	}
	b.submit(page)
	if _, ok := h.refreshes("album", token); ok {
		t.Error("offline access goes on")
	}
}

func TestEndOfOneSignIn(t *testing.T) {
	h := open(t, nil)
	phone, b, bob := h.browser(), h.browser(), h.browser()
	token := phone.use("album", "openid offline_access", "alex", alexPassword)
	other := phone.use("long", "openid", "alex", alexPassword)
	id := h.logins("alex")[0].ID
	b.enter("alex", alexPassword)
	bob.enter("bob", bobPassword)
	path := h.base + "/account/sessions/" + id + "/end"

	page := b.get(path).expect(200, "End this sign-in?", "This ends", "Donaudampf", "This goes on", "Photo Album", "You find it under")
	if strings.Index(page.body, "This goes on") < strings.Index(page.body, "Donaudampf") || strings.Index(page.body, "Photo Album") < strings.Index(page.body, "This goes on") {
		t.Error("what ends and what goes on is mixed up")
	}
	// Another user's entry isn't there, nor are others that are none.
	for _, of := range []string{id, h.logins("alex")[0].ID} {
		bob.get(h.base+"/account/sessions/"+of+"/end").expect(404, "That isn’t there any more")
		bob.get(h.base+"/account/sessions/"+of+"/name").expect(404, "That isn’t there any more")
	}
	for _, of := range []string{"x", "%00", "%ff", strings.Repeat("a", 4000), strings.Repeat("0", 64)} {
		b.get(h.base + "/account/sessions/" + of + "/end").expect(404)
	}
	// Nothing was ended by asking.
	if n := len(h.logins("alex")); n != 2 {
		t.Fatalf("alex has %d logins", n)
	}
	a := b.submit(page)
	if a.status != 303 || a.said() != "/realms/default/account/sessions?done=ended" {
		t.Fatalf("ending: %d %s\n%s", a.status, a.location(), a.body)
	}
	page = b.follow(a).expect(200, "It has ended, and its access is gone.")
	if got := page.headings(); len(got) != 2 || got[1] != "Photo Album" {
		t.Errorf("left are %q", got)
	}
	if _, ok := h.refreshes("long", other); ok {
		t.Error("what ended still refreshes")
	}
	next, ok := h.refreshes("album", token)
	if !ok {
		t.Error("offline access ended with the sign-in")
	}
	phone.get(h.request("album")).expect(200, `name="password"`)
	// The offline access by itself.
	_, alone, _ := strings.Cut(page.body, `data-key="`)
	_, alone, _ = strings.Cut(alone, `data-key="`)
	alone, _, _ = strings.Cut(alone, `"`)
	b.get(h.base + "/account/sessions/" + alone + "/name").expect(404)
	b.submit(b.get(h.base+"/account/sessions/"+alone+"/end").expect(200, "End this access?", "Photo Album"))
	if _, ok := h.refreshes("album", next); ok {
		t.Error("the offline access still refreshes")
	}
	// Once more it isn't there.
	b.get(path).expect(404)

	// The own one signs the browser out.
	own := h.logins("alex")[0].ID
	a = b.submit(b.get(h.base+"/account/sessions/"+own+"/end").expect(200, "Sign out here?"))
	if a.status != 303 || a.location() != "/realms/default/logout" || !strings.Contains(a.header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("ending the own: %d %s %q", a.status, a.location(), a.header.Get("Set-Cookie"))
	}
	b.get(h.base+"/logout").expect(200, "You are signed out")
	if n := len(h.logins("alex")); n != 0 {
		t.Errorf("alex has %d logins left", n)
	}
}

func TestEndOfManySignIns(t *testing.T) {
	h := open(t, nil)
	first, second, b := h.browser(), h.browser(), h.browser()
	token := first.use("album", "openid offline_access", "alex", alexPassword)
	first.submit(first.get(h.base + "/logout"))
	second.use("long", "openid", "alex", alexPassword)
	b.use("brief", "openid", "alex", alexPassword)
	for _, what := range []string{"", "x", "ALL"} {
		b.get(h.base + "/account/sessions/end?what=" + what).expect(404)
		b.do("POST", h.base+"/account/sessions/end", "what="+what).expect(404)
	}
	page := b.get(h.base+"/account/sessions/end?what=others").expect(200, "Sign out everywhere else?", "This goes on", "Brief")
	ends, _, _ := strings.Cut(page.body, "This goes on")
	if !strings.Contains(ends, "Photo Album") || !strings.Contains(ends, "Donaudampf") || strings.Contains(ends, ">Brief<") {
		t.Errorf("what ends is wrong:\n%s", page.body)
	}
	others := b.submit(page)
	if others.said() != "/realms/default/account/sessions?done=others" {
		t.Fatalf("%d %s", others.status, others.location())
	}
	page = b.follow(others).expect(200, "You are signed out everywhere else.")
	if got := page.headings(); len(got) != 1 {
		t.Errorf("left are %q", got)
	}
	if _, ok := h.refreshes("album", token); ok {
		t.Error("offline access goes on")
	}
	second.get(h.base+"/account").expect(200, "Your sign-in in this browser has ended.")
	if a := b.get(h.request("brief", "scope", "openid", "prompt", "none")); !strings.Contains(a.location(), "code=") {
		t.Errorf("the current one is gone: %s", a.location())
	}
	a := b.submit(b.get(h.base+"/account/sessions/end?what=all").expect(200, "Sign out everywhere?"))
	if a.location() != "/realms/default/logout" || !strings.Contains(a.header.Get("Set-Cookie"), "Max-Age=0") || len(h.logins("alex")) != 0 {
		t.Errorf("ending everything: %d %s, %d logins", a.status, a.location(), len(h.logins("alex")))
	}
}

func TestWithdrawnPermissionIsAskedAnew(t *testing.T) {
	h := open(t, nil)
	b, bob := h.browser(), h.browser()
	token := b.use("album", "openid offline_access", "alex", alexPassword)
	bob.use("album", "openid", "bob", bobPassword)
	page := b.get(h.base+"/account/permissions").expect(200, "Photo Album", "keep this access while you are away")
	b.get(h.base + "/account/permissions/withdraw?server=myAS&client=long").expect(404)
	b.get(h.base + "/account/permissions/withdraw?server=other&client=album").expect(404)
	b.get(h.base + "/account/permissions/withdraw").expect(404)
	if !strings.Contains(page.body, `href="/realms/default/account/permissions/withdraw?client=album&amp;server=myAS"`) {
		t.Fatal(page.body)
	}
	page = b.get(h.base+"/account/permissions/withdraw?client=album&server=myAS").expect(200, "Withdraw this permission?", "Photo Album")
	// The seal is for this client.
	to, form := page.form("client", "long")
	b.do("POST", to, form.Encode()).expect(403)
	withdrawn := b.submit(page)
	if withdrawn.said() != "/realms/default/account/permissions?done=withdrawn" {
		t.Fatalf("%d %s", withdrawn.status, withdrawn.location())
	}
	b.follow(withdrawn).expect(200, "The permission is withdrawn", "You have not allowed any application")
	b.submit(page).expect(404, "That isn’t there any more")
	if _, ok := h.refreshes("album", token); ok {
		t.Error("the token still refreshes")
	}
	a := b.get(h.request("album", "prompt", "none"))
	if !strings.Contains(a.location(), "error=consent_required") {
		t.Errorf("silently: %s", a.location())
	}
	a = b.get(h.request("album")).expect(200, "Allow access?")
	if strings.Contains(a.body, "You allowed") {
		t.Error("the consent is still remembered")
	}
	b.get(b.submit(a, "decision", "allow").location()).expect(200, `name="password"`, "would like to be sure that it is you")
	b.get(h.base+"/account/history").expect(200, "The permission was withdrawn")
	if a := bob.get(h.request("album", "scope", "openid", "prompt", "none")); !strings.Contains(a.location(), "code=") {
		t.Errorf("bob's is gone as well: %s", a.location())
	}
}

func TestPasswordIsChanged(t *testing.T) {
	h := open(t, nil)
	b, other := h.browser(), h.browser()
	b.enter("alex", alexPassword)
	token := other.use("album", "openid offline_access", "alex", alexPassword)
	own := h.logins("alex")[1].ID
	path := h.base + "/account/password"
	page := b.get(path).expect(200, `value="alex"`, `id="end" name="end" type="checkbox" value="yes" aria-describedby="end-what" checked`)
	for name, tt := range map[string]struct{ old, new, again, want string }{
		"no old one":    {"", "a new password", "a new password", "Enter the password that you have now."},
		"no new one":    {alexPassword, "", "", "Enter a new password."},
		"too short":     {alexPassword, "1234567", "1234567", "fewer than 8 characters"},
		"too long":      {alexPassword, strings.Repeat("x", 1025), strings.Repeat("x", 1025), "longer than 1,024 bytes"},
		"the same":      {alexPassword, alexPassword, alexPassword, "is the one that you have"},
		"the user name": {alexPassword, "  ALEX  ", "  ALEX  ", "Your user name is no password."},
		"common":        {alexPassword, "PassWord", "PassWord", "This password is one of the commonest."},
		"one character": {alexPassword, "        ", "        ", "This password is one of the commonest."},
		"they differ":   {alexPassword, "a new password", "a new Password", "not the new password that you entered above"},
		"wrong old one": {"wrong password", "a new password", "a new password", "That is not your present password."},
	} {
		if a := b.submit(page, "old", tt.old, "new", tt.new, "again", tt.again); a.status != 422 || !strings.Contains(a.body, tt.want) || strings.Contains(a.body, `value="a new`) {
			t.Errorf("%s: %d\n%s", name, a.status, a.body)
		}
	}
	if u, err := h.realm.UserByName(context.Background(), "alex"); err != nil || len(h.logins("alex")) != 2 {
		t.Fatal(u, err)
	}
	// Long ones of any characters are taken, and without the tick nothing ends.
	long := strings.Repeat("äö", 256)
	to, form := page.form("old", alexPassword, "new", long, "again", long)
	cookie := b.client.Jar.Cookies(mustURL(t, h.base))
	if a := b.do("POST", to, form.Encode()); a.status != 303 || a.said() != "/realms/default/account/sessions?done=password" {
		t.Fatalf("%d %s\n%s", a.status, a.location(), a.body)
	}
	if now := b.client.Jar.Cookies(mustURL(t, h.base)); len(now) == 0 || now[0].Value == cookie[0].Value {
		t.Error("the cookie is the old one")
	}
	// Who copied the old one has nothing any more, not even for a moment.
	thief := h.browser()
	thief.client.Jar.SetCookies(mustURL(t, h.base), cookie)
	if a := thief.do("GET", path, ""); a.status != 303 || !strings.Contains(a.location(), "/login?") {
		t.Errorf("the cookie of before opens the page: %d %s", a.status, a.location())
	}
	token, ok := h.refreshes("album", token)
	if list := h.logins("alex"); !ok || len(list) != 2 || list[1].ID != own {
		t.Errorf("without the tick left are %+v", list)
	}
	page = b.get(path)
	b.submit(page, "old", alexPassword, "new", "another password", "again", "another password", "end", "yes").expect(422, "That is not your present password.")
	changed := b.submit(page, "old", long, "new", "another password", "again", "another password", "end", "yes").expect(303)
	if _, ok = h.refreshes("album", token); ok {
		t.Error("offline access goes on")
	}
	if list := h.logins("alex"); len(list) != 1 || list[0].ID != own {
		t.Errorf("left are %+v", list)
	}
	b.follow(changed).expect(200, "Your password is changed.", "This browser")
	fresh := h.browser()
	fresh.submit(fresh.get(h.base+"/account"), "username", "alex", "password", alexPassword).expect(422)
	if a := fresh.submit(fresh.get(h.base+"/account"), "username", "alex", "password", "another password"); a.status != 303 {
		t.Errorf("the new password: %d", a.status)
	}
	events, err := h.realm.Events(context.Background(), audit.Filter{Types: []audit.Type{audit.PasswordChanged}})
	if err != nil || len(events) != 2 || events[0].Actor != "user:"+h.userID("alex") {
		t.Errorf("audited %+v, %v", events, err)
	}
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestOldPasswordIsThrottled(t *testing.T) {
	h, _ := openThrottled(t, throttle.Limits{Account: 3, Device: 3, FirstWait: 90 * time.Second})
	b := h.browser()
	b.enter("alex", alexPassword)
	page := b.get(h.base + "/account/password")
	for i := range 8 {
		a := b.submit(page, "old", "a guess", "new", "another password", "again", "another password")
		if a.status == http.StatusTooManyRequests {
			a.expect(429, "Too many attempts", "role=\"timer\"")
			if i < 3 {
				t.Errorf("throttled after %d guesses", i)
			}
			// Nor with the right one.
			b.submit(page, "old", alexPassword, "new", "another password", "again", "another password").expect(429)
			return
		}
		a.expect(422, "That is not your present password.")
	}
	t.Error("eight guesses are not throttled")
}

// TestAccountPagesAreProtected: other sites can neither frame nor send them, and
// what they may load is bounded.
func TestAccountPagesAreProtected(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	token := b.use("album", "openid", "alex", alexPassword)
	id := h.logins("alex")[0].ID
	forms := []string{"/account/sessions/" + id + "/end", "/account/sessions/" + id + "/name", "/account/sessions/end?what=others", "/account/sessions/end?what=all", "/account/password",
		"/account/permissions/withdraw?client=album&server=myAS"}
	for _, path := range append(forms, "/account/sessions", "/account/history", "/account/permissions") {
		a := b.get(h.base + path).expect(200)
		policy := a.header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%s: the policy lacks %s: %s", path, part, policy)
			}
		}
		if strings.Contains(policy, "connect-src 'self'") != (path == "/account/sessions") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: the policy is %s", path, policy)
		}
		for name, want := range map[string]string{"X-Frame-Options": "DENY", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Opener-Policy": "same-origin", "X-Content-Type-Options": "nosniff"} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
	}
	for _, path := range forms {
		to, form := b.get(h.base+path).form("device", "x", "old", alexPassword, "new", "another password", "again", "another password")
		for name, header := range map[string][]string{
			"another site's":   {"Sec-Fetch-Site", "cross-site"},
			"a sibling's":      {"Sec-Fetch-Site", "same-site"},
			"another origin's": {"Sec-Fetch-Site", "", "Origin", "https://evil.example"},
		} {
			if a := b.do("POST", to, form.Encode(), header...); a.status != 403 || !strings.Contains(a.body, "another site") {
				t.Errorf("%s, %s: %d", path, name, a.status)
			}
		}
		b.do("POST", to, form.Encode(), "Content-Type", "text/plain").expect(415)
		b.do("POST", to, form.Encode()+"&x="+strings.Repeat("x", 70_000)).expect(413)
		if a := b.do("PUT", to, ""); a.status != 405 || a.header.Get("Allow") != "GET, HEAD, POST" {
			t.Errorf("PUT %s: %d %s", path, a.status, a.header.Get("Allow"))
		}
	}
	b.do("POST", h.base+"/account/sessions", "").expect(405)
	if a := b.do("GET", h.base+"/account/sessions/events", "", "Sec-Fetch-Site", "cross-site"); a.status != 403 {
		t.Errorf("another site's stream: %d", a.status)
	}
	if n := len(h.logins("alex")); n != 1 || h.logins("alex")[0].DeviceName != "" {
		t.Error("something was done")
	}
	b.get(h.base+"/account/permissions").expect(200, "Photo Album")
	if _, ok := h.refreshes("album", token); !ok {
		t.Error("an application's access has ended")
	}
}

// TestAccountPageUsesTheLogin: a page that is looked at is a use, what a script
// fetches by itself is none.
func TestAccountPageUsesTheLogin(t *testing.T) {
	var touched []sessions.Touch
	h := open(t, func(c *web.Config) { c.Touch = func(t sessions.Touch) { touched = append(touched, t) } })
	b := h.browser()
	b.enter("alex", alexPassword)
	touched = nil
	b.do("GET", h.base+"/account/sessions", "", "Sec-Fetch-Dest", "empty")
	if len(touched) != 0 {
		t.Errorf("a script's: %+v", touched)
	}
	b.do("GET", h.base+"/account/sessions", "", "Sec-Fetch-Dest", "document")
	if len(touched) != 1 || touched[0].LoginID != h.logins("alex")[0].ID {
		t.Errorf("a person's: %+v", touched)
	}
}
