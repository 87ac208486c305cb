package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestAdminPagesAreProtected: other sites can neither frame nor send them, and
// what they may load is bounded.
func TestAdminPagesAreProtected(t *testing.T) {
	h := open(t, nil)
	root := h.admin("root")
	login := h.loginOf("bob", "192.0.2.1", "curl/8")
	bob, alex := h.userID("bob"), h.userID("alex")
	h.lock("alex")
	confirm := root.askEnd(url.Values{"one": {login.ID}}).expect(200, "End these sessions?")
	pages := map[string]answer{"/admin/end": confirm}
	for _, path := range []string{"/admin/sessions", "/admin/sessions?q=b", "/admin/users/" + bob,
		"/admin/users/" + bob + "/end", "/admin/users/" + bob + "/lock", "/admin/users/" + alex + "/unlock"} {
		pages[path] = root.get(h.base + path).expect(200)
	}
	pages["/admin/sessions?address=nonsense"] = root.get(h.base + "/admin/sessions?address=nonsense").expect(422)
	pages["nobody"] = root.get(h.base + "/admin/users/nobody").expect(404)
	pages["own account"] = root.get(h.base + "/admin/users/" + h.userID("root") + "/lock").expect(403)
	for path, a := range pages {
		policy := "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
		if path == "/admin/sessions" || strings.HasPrefix(path, "/admin/sessions?") {
			policy += "; connect-src 'self'" // suggestions
		}
		for name, want := range map[string]string{"Content-Security-Policy": policy, "X-Frame-Options": "DENY", "Cache-Control": "no-store",
			"Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin", "X-Content-Type-Options": "nosniff"} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
	if a := root.get(h.base + "/admin/users?q=b").expect(200); a.header.Get("X-Frame-Options") != "DENY" || !strings.Contains(a.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Errorf("suggestions: %v", a.header)
	}

	// Each of these forms would do, were it not for where it comes from.
	own := "http://" + strings.Split(h.base, "/")[2]
	forms := []string{"/admin/users/" + bob + "/end", "/admin/users/" + bob + "/lock", "/admin/users/" + alex + "/unlock", "/admin/end"}
	for _, path := range forms {
		to, form := pages[path].form()
		for name, header := range map[string][]string{
			"another site's":     {"Sec-Fetch-Site", "cross-site"},
			"a sibling's":        {"Sec-Fetch-Site", "same-site"},
			"another origin's":   {"Sec-Fetch-Site", "", "Origin", "https://evil.example"},
			"no origin's":        {"Sec-Fetch-Site", "", "Origin", "null"},
			"a similar origin's": {"Sec-Fetch-Site", "", "Origin", own + ".evil.example"},
		} {
			a := root.do(http.MethodPost, to, form.Encode(), header...)
			if a.status != 403 || !strings.Contains(a.body, "another site") || a.location() != "" || a.header.Get("Set-Cookie") != "" {
				t.Errorf("%s, %s: %d %v", path, name, a.status, a.header)
			}
		}
		root.do(http.MethodPost, to, form.Encode(), "Content-Type", "text/plain").expect(415)
		root.do(http.MethodPost, to, form.Encode()+"&x="+strings.Repeat("x", 70_000)).expect(413)
	}
	// Nor does the step before the question.
	root.postTo("/admin/end", url.Values{"one": {login.ID}}, "Sec-Fetch-Site", "cross-site").expect(403, "another site")
	if len(h.logins("bob")) != 1 {
		t.Fatal("bob was signed out")
	}
	for user, locked := range map[string]bool{"alex": true, "bob": false} {
		if u, err := h.realm.UserByName(t.Context(), user); err != nil || u.LockedAt.IsZero() == locked {
			t.Fatalf("%s: %+v, %v", user, u, err)
		}
	}
	for _, path := range forms {
		to, form := pages[path].form()
		root.do(http.MethodPost, to, form.Encode(), "Sec-Fetch-Site", "", "Origin", own).expect(303)
	}
}
