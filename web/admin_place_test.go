package web_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// signInAgain fills in the sign-in page and follows.
func (b *browser) signInAgain(page answer, username, password string) answer {
	b.h.t.Helper()
	return b.follow(b.submit(page, "username", username, "password", password))
}

// unsaid is a URL without what its page says has been done.
func unsaid(t *testing.T, to string) string {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Del("done")
	q.Del("ended")
	u.RawQuery = q.Encode()
	return u.String()
}

// Whoever confirmed something, and had to sign in before it was done, is told
// that it was not: on the way, and where he comes back to.
func TestWhoHadToSignInIsToldThatNothingWasDone(t *testing.T) {
	const before, after = "What you asked for has not been done. Sign in", "before you signed in has not been done."
	h := open(t, nil)
	root := h.admin("root")
	bob := h.userID("bob")
	login := h.loginOf("bob", "192.0.2.1", "curl/8")
	lock := root.get(h.base + "/admin/users/" + bob + "/lock")
	end := root.askEnd(url.Values{"one": {login.ID}, "query": {"user=bob"}})
	h.wait(16 * time.Minute)
	for _, tt := range []struct {
		form       answer
		place, say string
	}{{lock, "/admin/users/" + bob, "Lock the account"}, {end, "/admin/sessions?user=bob", "Sessions of everybody"}} {
		page := root.follow(root.submit(tt.form)).expect(200, before, `role="alert"`, "be sure that it is you", `name="password"`)
		page = root.submit(page, "username", "root", "password", "wrong").expect(422, before)
		other, _, _ := strings.Cut(regexp.MustCompile(`<a href="([^"]*account=other[^"]*)"`).FindString(page.body), `" `)
		if !strings.Contains(other, "undone=1") {
			t.Errorf("the way to another account forgets it: %s", other)
		}
		back := root.signInAgain(page, "root", adminPassword).expect(200, after, `class="notice notice-bad" role="alert"`, tt.say)
		if got := strings.TrimPrefix(unsaid(t, back.url), h.base); got != tt.place {
			t.Errorf("comes back to %s, want %s", got, tt.place)
		}
		h.wait(16 * time.Minute)
	}
	if u, err := h.realm.UserByName(t.Context(), "bob"); err != nil || !u.LockedAt.IsZero() || len(h.logins("bob")) != 1 {
		t.Fatalf("it was done: %+v, %v", u, err)
	}
	// What only was looked at needs no such word.
	if page := root.get(h.base+"/admin/users/"+bob).expect(200, `name="password"`); strings.Contains(page.body, before) {
		t.Error("it is said of a page that was only asked for")
	}

	alex := h.browser()
	alex.enter("alex", alexPassword)
	for path, say := range map[string]string{"/account/sessions/end?what=others": "Where you are signed in", "/account/password": "New password"} {
		page := alex.get(h.base + path)
		h.lock("alex")
		if err := h.realm.UnlockUser(t.Context(), h.userID("alex")); err != nil {
			t.Fatal(err)
		}
		in := alex.follow(alex.submit(page)).expect(200, before, "has ended.", `name="password"`)
		back := alex.signInAgain(in, "alex", alexPassword).expect(200, after, say)
		alex.get(back.url).expect(200, after)
		h.wait(3 * time.Minute)
		if again := alex.get(back.url).expect(200); strings.Contains(again.body, after) {
			t.Errorf("%s: it is still said after minutes", path)
		}
		// A link can't have it said to who has been signed in for a while.
		if a := alex.get(h.base+"/login?to=account&undone=1").expect(200, "Where you are signed in"); strings.Contains(a.body, after) {
			t.Error("a link has it said")
		}
	}
}

// A question that is shown can be answered for five minutes at least.
func TestQuestionsOfAdministratorsLeaveTimeToAnswer(t *testing.T) {
	h := open(t, nil)
	root := h.admin("root")
	bob := h.userID("bob")
	login := h.loginOf("bob", "192.0.2.1", "curl/8")
	asks := []string{"/admin/users/" + bob + "/lock", "/admin/users/" + bob + "/unlock", "/admin/users/" + bob + "/end", "/admin/end?one=" + login.ID}
	h.wait(8 * time.Minute)
	lock := root.get(h.base+asks[0]).expect(200, "Lock this account?")
	for _, path := range asks[1:] {
		root.do(http.MethodGet, h.base+path, "").expect(200)
	}
	h.wait(5 * time.Minute)
	for _, path := range asks {
		if a := root.do(http.MethodGet, h.base+path, ""); a.status != http.StatusSeeOther || !strings.Contains(a.location(), "/login?again=1") || !strings.Contains(a.location(), "undone=1") {
			t.Errorf("%s is asked after 13 minutes: %d, %s", path, a.status, a.location())
		}
	}
	root.get(h.base+"/admin/users/"+bob).expect(200, "192.0.2.1")
	root.follow(root.submit(lock)).expect(200, "The account was locked")
}

// Signing in once more leads to the list as it was: narrowed, searched, and at
// the same page.
func TestFreshSignInLeadsToTheListAsItWas(t *testing.T) {
	h := open(t, nil)
	root := h.admin("root")
	for _, query := range []string{"", "browser=Chrome&user=bea", "before=1795378520000", "after=12&application=myAS%2Falbum", "q=al", "address=2001%3Adb8%3A%3A7&q=%C3%A4%26b&since=hour&user=a+b"} {
		h.wait(16 * time.Minute)
		asked := h.base + "/admin/sessions"
		if query != "" {
			asked += "?" + query
		}
		page := root.get(asked).expect(200, `name="password"`)
		if a := root.signInAgain(page, "root", adminPassword).expect(200, "Sessions of everybody"); a.url != asked {
			t.Errorf("%s leads to %s", asked, a.url)
		}
	}
	// Of what it doesn't know it takes nothing along.
	h.wait(16 * time.Minute)
	page := root.get(h.base+"/admin/sessions?user=bob&done=lock&next=https://evil.example/").expect(200, `name="to" value="admin?user=bob"`)
	if a := root.signInAgain(page, "root", adminPassword); a.url != h.base+"/admin/sessions?user=bob" {
		t.Errorf("leads to %s", a.url)
	}
}

// Ending entries of a page of the list, or choosing none, leads back to that page.
func TestEndingLeadsBackToThePageOfTheList(t *testing.T) {
	h := open(t, nil)
	root := h.admin("root")
	for i := range 60 {
		h.loginOf("bob", fmt.Sprintf("192.0.2.%d", i), "curl/8")
		h.wait(time.Second)
	}
	older := regexp.MustCompile(`rel="next" href="/realms/default(/admin/sessions\?[^"]*)"`).FindStringSubmatch(root.get(h.base + "/admin/sessions?user=bob").body)
	if older == nil {
		t.Fatal("there is no second page")
	}
	second := html.UnescapeString(older[1])
	if !strings.Contains(second, "before=") || !strings.Contains(second, "user=bob") {
		t.Fatalf("the second page is %s", second)
	}
	page := root.get(h.base+second).expect(200, `<form method="get" action="/realms/default/admin/end">`)
	query := hidden.FindStringSubmatch(page.body)
	ids := regexp.MustCompile(`name="id" value="([0-9a-f]{64})"`).FindAllStringSubmatch(page.body, -1)
	if query == nil || query[1] != "query" || len(ids) != 10 {
		t.Fatalf("%q, %d entries", query, len(ids))
	}
	of := url.Values{"query": {html.UnescapeString(query[2])}}
	link := `href="/realms/default` + html.EscapeString(second) + `"`
	root.askEnd(of).expect(422, "Nothing was chosen", link)
	of["id"] = []string{ids[0][1], ids[1][1]}
	question := root.askEnd(of).expect(200, "End these sessions?", link)
	_, form := question.form("seal", "x")
	root.postTo("/admin/end", form).expect(403, "This form is no longer valid", link)
	ended := root.submit(question)
	if to := unsaid(t, ended.location()); to != "/realms/default"+second {
		t.Errorf("leads to %s, want %s", to, second)
	}
	root.follow(ended).expect(200, "2 sessions were ended.")
	// From a user's page to that page.
	user := h.userID("bob")
	root.askEnd(url.Values{"user": {user}}).expect(422, "Nothing was chosen", `href="/realms/default/admin/users/`+user+`"`)
	// The question is a page that can be asked for once more, as by the browser's button; its answer is none.
	root.follow(root.askEnd(of)).expect(200, "Nothing was ended")
	of.Set("seal", form.Get("seal"))
	root.askEnd(of).expect(400)
}
