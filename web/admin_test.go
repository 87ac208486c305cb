package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/storage"
	"gatehouse.dev/gatehouse/users"
)

const adminPassword = "correct horse admin"

// addAdmin adds an administrator.
func (h *house) addAdmin(name string) {
	h.t.Helper()
	phc, err := h.passwords.Hash(context.Background(), adminPassword)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.realm.InsertUser(context.Background(), &users.User{ID: uuid.NewString(), Username: name, Password: phc,
		Roles: []string{users.RoleSessionAdmin}, Salt: make([]byte, 32), CreatedAt: h.now()}); err != nil {
		h.t.Fatal(err)
	}
}

// admin is the browser of an administrator who has just signed in.
func (h *house) admin(name string) *browser {
	h.t.Helper()
	h.addAdmin(name)
	b := h.browser()
	b.proveAdmin(name)
	return b
}

// proveAdmin signs an administrator in on the way to the list.
func (b *browser) proveAdmin(name string) answer {
	b.h.t.Helper()
	return b.proveAdminFor(name, "/admin/sessions")
}

// proveAdminFor signs an administrator in who asks for a page, and follows.
func (b *browser) proveAdminFor(name, path string) answer {
	b.h.t.Helper()
	sent := b.submit(b.get(b.h.base+path), "username", name, "password", adminPassword)
	if sent.status != http.StatusSeeOther {
		b.h.t.Fatalf("signing in: %d\n%s", sent.status, sent.body)
	}
	here, _ := url.Parse(b.h.base)
	to, err := here.Parse(sent.location())
	if err != nil {
		b.h.t.Fatal(err)
	}
	return b.get(to.String())
}

// loginOf makes a login of a user, without a browser.
func (h *house) loginOf(user, address, agent string) *sessions.Login {
	h.t.Helper()
	_, hash := sessions.Cookie{Realm: "default"}.New()
	login, err := h.realm.SignIn(context.Background(), sessions.SignIn{UserID: h.userID(user), AuthTime: h.now(), Address: address,
		UserAgent: agent, CookieHash: hash, ExpiresAt: h.now().Add(24 * time.Hour)}, sessions.Ending{})
	if err != nil {
		h.t.Fatal(err)
	}
	return login
}

// recorded counts events of a type with their occurrences.
func (h *house) recorded(what audit.Type) (n int) {
	h.t.Helper()
	events, err := h.realm.Events(context.Background(), audit.Filter{Types: []audit.Type{what}})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range events {
		n += e.Count
	}
	return n
}

// adminPaths are those of all pages of administrators, for a user.
func adminPaths(user string) (get, post []string) {
	get = []string{"/admin", "/admin/sessions", "/admin/sessions?q=a", "/admin/end?id=" + strings.Repeat("0", 64), "/admin/users?q=a", "/admin/users/" + user}
	for _, act := range []string{"end", "lock", "unlock"} {
		get = append(get, "/admin/users/"+user+"/"+act)
		post = append(post, "/admin/users/"+user+"/"+act)
	}
	return get, append(post, "/admin/end")
}

// postTo posts a form to one of the administrators' pages.
func (b *browser) postTo(path string, v url.Values, header ...string) answer {
	b.h.t.Helper()
	return b.do(http.MethodPost, b.h.base+path, v.Encode(), header...)
}

// askEnd asks for the page that asks whether a selection is to end.
func (b *browser) askEnd(v url.Values) answer {
	b.h.t.Helper()
	return b.do(http.MethodGet, b.h.base+"/admin/end?"+v.Encode(), "")
}

func TestAdminPagesAreForAdministrators(t *testing.T) {
	h := open(t, nil)
	login := h.loginOf("bob", "192.0.2.1", "curl/8")
	get, post := adminPaths(h.userID("bob"))
	nobody, alex := h.browser(), h.browser()
	alex.signIn(h.request("album"), "alex", alexPassword)
	form := url.Values{"id": {login.ID}, "confirmed": {"yes"}, "seal": {"x"}}
	for _, path := range get {
		if a := nobody.do(http.MethodGet, h.base+path, ""); a.status != http.StatusSeeOther || !strings.Contains(a.location(), "/login?") {
			t.Errorf("%s of nobody: %d, %s", path, a.status, a.location())
		}
		before := h.recorded(audit.AccessRefused)
		a := alex.get(h.base + path)
		a.expect(http.StatusForbidden, "This page is for administrators")
		if strings.Contains(a.body, "bob") {
			t.Errorf("%s tells who there is", path)
		}
		if n := h.recorded(audit.AccessRefused) - before; n != 1 {
			t.Errorf("%s: %d refusals are recorded", path, n)
		}
	}
	for _, path := range post {
		if a := nobody.postTo(path, form); a.status != http.StatusSeeOther || !strings.Contains(a.location(), "/login?") {
			t.Errorf("%s of nobody: %d, %s", path, a.status, a.location())
		}
		alex.postTo(path, form).expect(http.StatusForbidden, "This page is for administrators")
	}
	h.addAdmin("root")
	root := h.browser()
	root.proveAdmin("root").expect(200, "Sessions of everybody", "bob", "192.0.2.1")
	// The role is the account's as it is now: a locked administrator is none.
	h.lock("root")
	if a := root.do(http.MethodGet, h.base+"/admin/sessions", ""); a.status != http.StatusSeeOther {
		t.Errorf("a locked administrator: %d", a.status)
	}
	if len(h.logins("bob")) != 1 {
		t.Error("bob was signed out")
	}
}

func TestAdminPagesWantAFreshSignIn(t *testing.T) {
	h := open(t, nil)
	b := h.admin("root")
	before := h.logins("root")
	victim := h.loginOf("bob", "192.0.2.1", "curl/8")
	confirm := b.askEnd(url.Values{"id": {victim.ID}}).expect(200)
	lock := b.get(h.base + "/admin/users/" + h.userID("bob") + "/lock").expect(200)
	h.wait(16 * time.Minute)
	get, _ := adminPaths(h.userID("bob"))
	for _, path := range get {
		if a := b.do(http.MethodGet, h.base+path, ""); a.status != http.StatusSeeOther || !strings.Contains(a.location(), "/login?") {
			t.Errorf("%s after 16 minutes: %d, %s", path, a.status, a.location())
		}
	}
	for _, page := range []answer{confirm, lock} {
		if a := b.submit(page); a.status != http.StatusSeeOther || !strings.Contains(a.location(), "/login?") {
			t.Errorf("a form after 16 minutes: %d, %s", a.status, a.location())
		}
	}
	if len(h.logins("bob")) != 1 {
		t.Error("bob was signed out")
	}
	// Who holds the cookie of before the proof hasn't proven anything.
	thief := h.browser()
	thief.client.Jar.SetCookies(mustURL(t, h.base), b.client.Jar.Cookies(mustURL(t, h.base)))
	b.proveAdmin("root").expect(200, "Sessions of everybody")
	thief.get(h.base+"/account/sessions").expect(200, "This browser")
	if a := thief.do(http.MethodGet, h.base+"/admin/sessions", ""); a.status != http.StatusSeeOther || !strings.Contains(a.location(), "/login?") {
		t.Errorf("with the cookie of before: %d, %s", a.status, a.location())
	}
	if after := h.logins("root"); len(after) != 1 || after[0].ID != before[0].ID {
		t.Errorf("the login is another: %+v", after)
	}
	b.get(h.base+"/admin/users/"+h.userID("bob")).expect(200, "192.0.2.1")
}

// Who has to prove who he is on the way to a user's page comes to that page; and
// a link that leads there shows nothing to those who may not see it.
func TestFreshSignInLeadsToTheUsersPage(t *testing.T) {
	h := open(t, nil)
	b := h.admin("root")
	h.loginOf("bob", "192.0.2.1", "curl/8")
	path := "/admin/users/" + h.userID("bob")
	h.wait(16 * time.Minute)
	for _, asked := range []string{path, path + "/lock", path + "/end"} {
		b.proveAdminFor("root", asked).expect(http.StatusOK, "192.0.2.1", "<h1><bdi>")
		h.wait(16 * time.Minute)
	}
	stranger := h.browser()
	stranger.enter("alex", alexPassword)
	stranger.get(h.base+"/login?"+url.Values{"to": {"user:" + h.userID("bob")}}.Encode()).expect(http.StatusForbidden, "This page is for administrators")
}

func TestAdminFormsAreGoodForWhatTheyShow(t *testing.T) {
	h := open(t, nil)
	root, other := h.admin("root"), h.admin("other")
	bob := h.userID("bob")
	first, second := h.loginOf("bob", "192.0.2.1", "curl/8"), h.loginOf("bob", "192.0.2.2", "curl/8")
	confirm := root.askEnd(url.Values{"id": {first.ID}}).expect(200, "End these sessions?", "192.0.2.1")
	_, form := confirm.form()
	with := func(change ...string) url.Values {
		v := url.Values{}
		for name, values := range form {
			v[name] = slices.Clone(values)
		}
		for i := 0; i < len(change); i += 2 {
			v.Set(change[i], change[i+1])
		}
		return v
	}
	both := with()
	both["id"] = []string{first.ID, second.ID}
	_, lock := root.get(h.base+"/admin/users/"+bob+"/lock").expect(200, "Lock this account?").form()
	_, endAll := root.get(h.base+"/admin/users/"+bob+"/end").expect(200, "End everything of this user?").form()
	for name, send := range map[string]func() answer{
		"another administrator's":    func() answer { return other.postTo("/admin/end", form) },
		"for another session":        func() answer { return root.postTo("/admin/end", with("id", second.ID)) },
		"for more":                   func() answer { return root.postTo("/admin/end", both) },
		"without a seal":             func() answer { return root.postTo("/admin/end", with("seal", "")) },
		"with a made-up seal":        func() answer { return root.postTo("/admin/end", with("seal", "AAAA")) },
		"with the seal of a lock":    func() answer { return root.postTo("/admin/end", with("seal", lock.Get("seal"))) },
		"another's lock":             func() answer { return other.postTo("/admin/users/"+bob+"/lock", lock) },
		"a lock to end all":          func() answer { return root.postTo("/admin/users/"+bob+"/end", lock) },
		"an end of all to lock":      func() answer { return root.postTo("/admin/users/"+bob+"/lock", endAll) },
		"a lock of another account":  func() answer { return root.postTo("/admin/users/"+h.userID("alex")+"/lock", lock) },
		"a lock without a seal":      func() answer { return root.postTo("/admin/users/"+bob+"/lock", url.Values{}) },
		"an unlock without a seal":   func() answer { return root.postTo("/admin/users/"+bob+"/unlock", url.Values{}) },
		"from another site":          func() answer { return root.postTo("/admin/end", form, "Sec-Fetch-Site", "cross-site") },
		"from a neighbouring site":   func() answer { return root.postTo("/admin/users/"+bob+"/lock", lock, "Sec-Fetch-Site", "same-site") },
		"of another type":            func() answer { return root.postTo("/admin/end", form, "Content-Type", "text/plain") },
		"in the query of a GET":      func() answer { return root.do(http.MethodGet, h.base+"/admin/end?"+form.Encode(), "") },
		"by another method":          func() answer { return root.do(http.MethodDelete, h.base+"/admin/users/"+bob, "") },
		"with a long form":           func() answer { return root.postTo("/admin/end", with("query", strings.Repeat("a", 70_000))) },
		"an act that there is not":   func() answer { return root.postTo("/admin/users/"+bob+"/delete", lock) },
		"with a way to another host": func() answer { return root.postTo("/admin/end", with("query", "user=%zz")) },
	} {
		if a := send(); a.status < 400 || a.status >= 500 {
			t.Errorf("%s: %d\n%s", name, a.status, a.body)
		}
		if n := len(h.logins("bob")); n != 2 {
			t.Fatalf("%s: bob has %d logins left", name, n)
		}
	}
	a := root.postTo("/admin/end", form)
	if to := a.said(); a.status != http.StatusSeeOther || !strings.HasSuffix(to, "/admin/sessions?ended=1") {
		t.Errorf("the form itself: %d, %s", a.status, to)
	}
	if left := h.logins("bob"); len(left) != 1 || left[0].ID != second.ID {
		t.Errorf("left: %+v", left)
	}
	// A form of a sign-in that has ended since is void, also in the next one.
	if _, err := h.manager.End(t.Context(), sessions.Target{User: h.userID("root")}, sessions.Ending{Reason: sessions.ReasonLogout}); err != nil {
		t.Fatal(err)
	}
	root.proveAdmin("root")
	if a := root.postTo("/admin/users/"+bob+"/lock", lock); a.status < 400 {
		t.Errorf("the form of an ended sign-in: %d", a.status)
	}
	if len(h.logins("bob")) != 1 {
		t.Error("bob was signed out")
	}
}

func TestAdminSeesAndEndsOfHisRealmOnly(t *testing.T) {
	h := open(t, nil)
	b := h.admin("root")
	elsewhere := h.db.Realm(storage.RealmConfig{Name: "elsewhere", Lifetimes: houseLifetimes})
	stranger := &users.User{ID: uuid.NewString(), Username: "stranger", CreatedAt: h.now()}
	if err := elsewhere.InsertUser(t.Context(), stranger); err != nil {
		t.Fatal(err)
	}
	_, hash := sessions.Cookie{Realm: "elsewhere"}.New()
	foreign, err := elsewhere.SignIn(t.Context(), sessions.SignIn{UserID: stranger.ID, AuthTime: h.now(), CookieHash: hash, ExpiresAt: h.now().Add(24 * time.Hour)}, sessions.Ending{})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{stranger.ID, uuid.NewString(), "x", "%00", "%ff", strings.Repeat("a", 3000)} {
		get, post := adminPaths(user)
		for _, path := range get[5:] {
			if a := b.get(h.base + path); a.status != http.StatusNotFound {
				t.Errorf("%.80s: %d", path, a.status)
			}
		}
		for _, path := range post[:3] {
			if a := b.postTo(path, url.Values{"seal": {"x"}}); a.status < 400 || a.status >= 500 {
				t.Errorf("%.80s: %d", path, a.status)
			}
		}
	}
	if a := b.get(h.base + "/admin/sessions?q=stranger"); strings.Contains(a.body, stranger.ID) {
		t.Error("the search finds a user of another realm")
	}
	mine := h.loginOf("bob", "192.0.2.1", "curl/8")
	page := b.askEnd(url.Values{"id": {mine.ID, foreign.ID, strings.Repeat("0", 64)}}).expect(200, "192.0.2.1")
	if strings.Contains(page.body, "stranger") || strings.Count(page.body, "<tr ") != 2 {
		t.Errorf("the page shows:\n%s", page.body)
	}
	to, form := page.form()
	form["id"] = nil
	for _, m := range hidden.FindAllStringSubmatch(page.body, -1) {
		if m[1] == "id" {
			form.Add("id", m[2])
		}
	}
	if a := b.do(http.MethodPost, to, form.Encode()); !strings.Contains(a.location(), "ended=1") {
		t.Errorf("%d, %s", a.status, a.location())
	}
	if _, err := elsewhere.LoginByCookie(t.Context(), hash); err != nil {
		t.Errorf("the other realm's login: %v", err)
	}
	if len(h.logins("bob")) != 0 {
		t.Error("bob is still signed in")
	}
	// Only ids that there are no more: nothing to ask about.
	none := b.askEnd(url.Values{"id": {foreign.ID}})
	if !strings.Contains(none.location(), "ended=0") {
		t.Errorf("%d, %s", none.status, none.location())
	}
	b.follow(none).expect(200, "Nothing was ended")
	b.askEnd(url.Values{}).expect(422, "Nothing was chosen")
	b.postTo("/admin/end", url.Values{}).expect(422, "Nothing was chosen")
	many := url.Values{}
	for i := range sessions.MaxSelection + 1 {
		many.Add("id", fmt.Sprintf("%064d", i))
	}
	for name, v := range map[string]url.Values{"too many": many, "short": {"id": {"abc"}}, "capitals": {"id": {strings.Repeat("A", 64)}}, "evil": {"one": {evil}}} {
		for _, a := range []answer{b.askEnd(v), b.postTo("/admin/end", v)} {
			if a.status != http.StatusBadRequest {
				t.Errorf("%s: %d", name, a.status)
			}
		}
	}
}

// TestAdminPagesEscapeWhatOthersChose: user names, names, addresses, devices,
// user agents and what was searched for.
func TestAdminPagesEscapeWhatOthersChose(t *testing.T) {
	for _, lang := range []string{"en", "de"} {
		h := open(t, nil)
		b := h.browser()
		b.accept = lang
		h.addAdmin("root")
		b.proveAdmin("root")
		sly := &users.User{ID: uuid.NewString(), Username: `sly'<b>`, CreatedAt: h.now(), Claims: users.Claims{Name: "Sly " + evil, Email: `"<img/src=x>"@example.com`}}
		if err := h.realm.InsertUser(t.Context(), sly); err != nil {
			t.Fatal(err)
		}
		named := h.loginOf(`sly'<b>`, "192.0.2.1", "Mozilla/5.0 "+evil)
		if err := h.realm.NameLogin(t.Context(), sly.ID, named.ID, evil); err != nil {
			t.Fatal(err)
		}
		h.loginOf(`sly'<b>`, "192.0.2.1", evil)
		used := h.browser()
		used.get(used.submit(atConsent(h, used, h.request("evil"), "alex", alexPassword), "decision", "allow").location())
		pages := map[string]answer{
			"list":         b.get(h.base + "/admin/sessions?q=" + url.QueryEscape("sly'<b>")),
			"search":       b.get(h.base + "/admin/sessions?q=" + url.QueryEscape(evil)),
			"filtered":     b.get(h.base + "/admin/sessions?" + url.Values{"user": {evil}, "application": {evil}, "browser": {evil}, "since": {evil}}.Encode()),
			"no address":   b.get(h.base + "/admin/sessions?" + url.Values{"address": {evil}}.Encode()),
			"user":         b.get(h.base + "/admin/users/" + sly.ID),
			"lock":         b.get(h.base + "/admin/users/" + sly.ID + "/lock"),
			"unlock":       b.get(h.base + "/admin/users/" + sly.ID + "/unlock"),
			"end all":      b.get(h.base + "/admin/users/" + sly.ID + "/end"),
			"end":          b.askEnd(url.Values{"one": {named.ID}, "user": {sly.ID}}),
			"none chosen":  b.askEnd(url.Values{"query": {evil}}),
			"nobody there": b.get(h.base + "/admin/users/" + url.PathEscape(`"><script>`)),
			"own account":  b.get(h.base + "/admin/users/" + h.userID("root") + "/lock"),
		}
		for name, a := range pages {
			for _, fault := range faults(a.body, lang) {
				t.Errorf("%s, %s: %s", lang, name, fault)
			}
			if policy := a.header.Get("Content-Security-Policy"); !strings.Contains(policy, "script-src 'self'") || !strings.Contains(policy, "form-action 'self'") ||
				!strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: policy %q, cache %q", name, policy, a.header.Get("Cache-Control"))
			}
		}
		if n := strings.Count(pages["list"].body, "Sly"); n == 0 {
			t.Error("the search doesn't find who is searched for")
		}
		if policy := pages["list"].header.Get("Content-Security-Policy"); !strings.Contains(policy, "connect-src 'self'") {
			t.Errorf("suggestions can't be fetched: %s", policy)
		}
		a := b.get(h.base + "/admin/users?q=sly")
		if a.status != 200 || a.header.Get("Content-Type") != "application/json" || a.header.Get("X-Content-Type-Options") != "nosniff" ||
			a.header.Get("Cache-Control") != "no-store" || strings.Contains(a.body, "<") {
			t.Errorf("suggestions: %d %v\n%s", a.status, a.header, a.body)
		}
		var doc struct{ Users []map[string]any }
		if err := json.Unmarshal([]byte(a.body), &doc); err != nil || len(doc.Users) != 1 || doc.Users[0]["name"] != "Sly "+evil ||
			!strings.HasSuffix(fmt.Sprint(doc.Users[0]["url"]), "/admin/users/"+sly.ID) {
			t.Errorf("suggestions: %v, %s", err, a.body)
		}
	}
}

func TestAdminLocksAndUnlocksOnThePages(t *testing.T) {
	h := open(t, nil)
	b := h.admin("root")
	victim := h.browser()
	victim.signIn(h.request("album"), "bob", bobPassword)
	bob, at := h.userID("bob"), h.base+"/admin/users/"+h.userID("bob")
	b.get(at).expect(200, "127.0.0.1", "Lock the account")
	lock := b.get(at+"/lock").expect(200, "Lock this account?", "Bob")
	if len(h.logins("bob")) != 1 {
		t.Fatal("the question alone ended something")
	}
	locked := b.submit(lock)
	if locked.said() != "/realms/default/admin/users/"+bob+"?done=lock" {
		t.Fatalf("locking: %d, %s", locked.status, locked.location())
	}
	b.follow(locked).expect(200, "The account was locked", "Unlock the account", "is not signed in anywhere")
	victim.get(h.request("album")).expect(200, `name="password"`)
	victim.submit(victim.get(h.request("album")), "username", "bob", "password", bobPassword).expect(422, "This account is locked")
	if a := b.submit(b.get(at+"/unlock").expect(200, "Unlock this account?")); a.status != http.StatusSeeOther {
		t.Fatalf("unlocking: %d", a.status)
	}
	victim.signIn(h.request("album"), "bob", bobPassword)
	b.submit(b.get(at+"/end").expect(200, "End everything of this user?"))
	if len(h.logins("bob")) != 0 {
		t.Error("bob is still signed in")
	}
	// Not oneself.
	own := h.base + "/admin/users/" + h.userID("root")
	b.get(own).expect(200, "This is your own account")
	b.get(own+"/lock").expect(403, "This can’t be done to your own account")
	if got := []int{h.recorded(audit.UserLocked), h.recorded(audit.UserUnlocked), h.recorded(audit.EndingRequested)}; !slices.Equal(got, []int{1, 1, 1}) {
		t.Errorf("recorded: %v", got)
	}
}
