package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// What a page says has been done was said by us, to who is signed in, a moment
// ago: a link that somebody else made has it say nothing.
func TestLinksDoNotSayWhatHasBeenDone(t *testing.T) {
	h := open(t, nil)
	root, other := h.admin("root"), h.admin("other")
	login := h.loginOf("bob", "192.0.2.1", "curl/8")
	bob := "/admin/users/" + h.userID("bob")
	quiet := func(name string, b *browser, path string) {
		t.Helper()
		if a := b.get(h.base + path).expect(200); strings.Contains(a.body, `class="notice`) {
			t.Errorf("%s: %s is believed", name, path)
		}
	}
	for _, done := range []string{"ended", "others", "named", "withdrawn", "password", "confirmed", "disowned", "undone", "end", "lock", "unlock"} {
		for _, seal := range []string{"", ".", ".x", ".zzzzzz.", ".zzzzzz.AAAA"} {
			for _, path := range []string{"/account/sessions", "/account/permissions", "/account/password", "/admin/sessions", bob} {
				quiet("made up", root, path+"?done="+done+seal)
			}
		}
	}
	for _, ended := range []string{"0", "1", "100", "1.", "1.x", "1.zzzzzz.AAAA", "-1", "x"} {
		quiet("made up", root, "/admin/sessions?ended="+ended)
		quiet("made up", root, bob+"?ended="+ended)
	}

	of := func(a answer, name string) string {
		t.Helper()
		to, err := url.Parse(a.location())
		if err != nil || a.status != http.StatusSeeOther || to.Query().Get(name) == "" {
			t.Fatalf("%d to %s", a.status, a.location())
		}
		return to.Query().Get(name)
	}
	ended := of(root.submit(root.askEnd(url.Values{"one": {login.ID}}).expect(200)), "ended")
	locked := of(root.submit(root.get(h.base+bob+"/lock").expect(200)), "done")
	named := of(root.submit(root.get(h.base+"/account/sessions/"+h.logins("root")[0].ID+"/name").expect(200), "device", "mine"), "done")
	for path, text := range map[string]string{
		"/admin/sessions?ended=" + ended: "One session was ended.", bob + "?done=" + locked: "The account was locked", "/account/sessions?done=" + named: "The device has its new name.",
	} {
		root.get(h.base+path).expect(200, text)
		quiet("said to another", other, path)
	}
	_, seal, _ := strings.Cut(named, ".")
	quiet("said of something else", root, "/account/sessions?done=password."+seal)
	_, seal, _ = strings.Cut(ended, ".")
	quiet("said of another number", root, "/admin/sessions?ended=7."+seal)
	quiet("said in another place", root, bob+"?done="+ended)
	_, form := root.get(h.base + "/account/password").form()
	quiet("the seal of a form", root, "/account/sessions?done=password."+form.Get("seal"))
	h.wait(3 * time.Minute)
	quiet("said long ago", root, "/admin/sessions?ended="+ended)
	quiet("said long ago", root, bob+"?done="+locked)
	quiet("said long ago", root, "/account/sessions?done="+named)
	// Nor is it a form's seal.
	root.postTo("/account/password", url.Values{"seal": {named}, "old": {adminPassword}, "new": {"another password"}, "again": {"another password"}}).expect(403)
}
