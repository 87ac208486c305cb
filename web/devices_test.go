package web_test

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
)

func TestDeviceGetsAName(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	b.agent = agentChrome
	b.enter("alex", alexPassword)
	id := h.logins("alex")[0].ID
	path := h.base + "/account/sessions/" + id + "/name"
	for name, want := range map[string]string{"Küche": "Küche", "  two words ": "two words", evil: `&#34;&gt;&lt;script&gt;`, "": "Chrome on Linux", "\u202eesrever": "<bdi>\u202eesrever</bdi>"} {
		if a := b.submit(b.get(path).expect(200), "device", name); a.said() != "/realms/default/account/sessions?done=named" {
			t.Fatalf("%q: %d %s", name, a.status, a.location())
		}
		b.get(h.base+"/account/sessions").expect(200, want)
		if n := h.logins("alex")[0].DeviceName; n != strings.TrimSpace(name) {
			t.Errorf("%q became %q", name, n)
		}
	}
	b.submit(b.get(path), "device", "kept")
	for name, shown := range map[string]string{strings.Repeat("a", 81): "", strings.Repeat("ü", 81): "", strings.Repeat("🏠", 81): "", "a\x00b": "a\uFFFDb", "a\nb": "",
		"a\x7f": "", "\xff": "\uFFFD", "a\u0085b": "", `"><b>` + "\t</b>": "&#34;&gt;&lt;b&gt;\t&lt;/b&gt;"} {
		// What was typed stays, to be made shorter.
		b.submit(b.get(path), "device", name).expect(422, "A name has at most 80 characters", `value="`+cmp.Or(shown, name)+`"`)
		if n := h.logins("alex")[0].DeviceName; n != "kept" {
			t.Fatalf("%q became %q", name, n)
		}
	}
	for _, name := range []string{strings.Repeat("ü", 80), strings.Repeat("🏠", 80), "\u0634\u200c\u0645", "👩\u200d🚀", "!"} {
		page := b.get(path)
		// A browser counts what it lets in by halves of a surrogate pair.
		if limit := regexp.MustCompile(`maxlength="(\d+)"`).FindStringSubmatch(page.body); len(limit) != 2 {
			t.Fatal("the field has no bound")
		} else if n, err := strconv.Atoi(limit[1]); err != nil || n < len(utf16.Encode([]rune(name))) {
			t.Errorf("the field has %s, too few for %q", limit[0], name)
		}
		b.submit(page, "device", name)
		if n := h.logins("alex")[0].DeviceName; n != name {
			t.Errorf("%q became %q", name, n)
		}
	}
	// A name without anything to see would be a card without a title.
	for _, name := range []string{"\u200b\u200b", "\u00a0\u3000", "\u200b \u200b", "\u202e", "\ufeff", "\u2800", "\u3164\u115f", "\u034f\ufe0f", "\U000e0041", "\ue000"} {
		b.submit(b.get(path), "device", "kept")
		if a := b.submit(b.get(path), "device", name); a.status != 303 || h.logins("alex")[0].DeviceName != "" {
			t.Errorf("%q: %d, became %q", name, a.status, h.logins("alex")[0].DeviceName)
		}
	}
	b.submit(b.get(path), "device", strings.Repeat("a", 70_000)).expect(413)
}

// afterHeading is what stands between a heading with a text and the next one of
// its rank, or the form.
func (a answer) afterHeading(text string) string {
	_, after, _ := strings.Cut(a.body, "<h2>"+text+"</h2>")
	after, _, _ = strings.Cut(after, "<h2>")
	after, _, _ = strings.Cut(after, "<form")
	return after
}

func TestEndOfManyNamesTheBrowsersThatEnd(t *testing.T) {
	h := open(t, nil)
	away, phone, work, b := h.browser(), h.browser(), h.browser(), h.browser()
	away.use("long", "openid offline_access", "alex", alexPassword)
	away.submit(away.get(h.base + "/logout"))
	phone.agent, work.agent, b.agent = agentIPhone, agentFirefox, agentChrome
	phone.use("album", "openid", "alex", alexPassword)
	phone.use("brief", "openid", "alex", alexPassword)
	if err := h.realm.NameLogin(t.Context(), h.userID("alex"), h.logins("alex")[0].ID, evil); err != nil {
		t.Fatal(err)
	}
	work.signIn(h.request("house"), "alex", alexPassword) // no application has a token in it
	b.use("album", "openid", "alex", alexPassword)
	b.use("brief", "openid", "alex", alexPassword)
	names := func(part string) []string {
		var out []string
		for _, m := range regexp.MustCompile(`<h3>(?:<bdi>)?([^<]+)|<strong><bdi>([^<]+)`).FindAllStringSubmatch(part, -1) {
			out = append(out, strings.TrimSpace(m[1]+m[2]))
		}
		return out
	}
	const named, alone, long = "&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;", "Access without a browser", "Donaudampfschifffahrtsgesellschaft: Fahrpläne &amp; Fahrkarten"
	others := []string{"Firefox on Windows", named, "Brief", "Photo Album", alone, long}
	here := []string{"Brief", "Photo Album"}
	page := b.get(h.base + "/account/sessions/end?what=others").expect(200)
	if got := names(page.afterHeading("This ends")); !slices.Equal(got, others) {
		t.Errorf("to end all others names %q, want %q", got, others)
	}
	if got := names(page.afterHeading("This goes on in this browser")); !slices.Equal(got, here) {
		t.Errorf("to go on names %q, want %q", got, here)
	}
	if part := page.afterHeading("This ends"); !strings.Contains(part, "Safari on iOS · 127.0.0.1") || strings.Contains(part, ">This browser<") {
		t.Errorf("the browsers that end can't be told:\n%s", part)
	}
	page = b.get(h.base + "/account/sessions/end?what=all").expect(200)
	if got, want := names(page.afterHeading("This ends")), append(append([]string{"Chrome on Linux"}, here...), others...); !slices.Equal(got, want) {
		t.Errorf("to end everything names %q, want %q", got, want)
	}
	if part := page.afterHeading("This ends"); strings.Count(part, ">This browser<") != 1 || strings.Contains(page.body, "This goes on") {
		t.Errorf("the present browser is not marked once, or something goes on:\n%s", page.body)
	}
}
