package web_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

// addAccount adds a user who can't sign in.
func (h *house) addAccount(name string) {
	h.t.Helper()
	if err := h.realm.InsertUser(h.t.Context(), &users.User{ID: uuid.NewString(), Username: name, CreatedAt: h.now()}); err != nil {
		h.t.Fatal(err)
	}
}

func TestAdminListIsNarrowed(t *testing.T) {
	h := open(t, nil)
	b := h.admin("root")
	const firefox, edge = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0"
	h.wait(time.Second) // two of one millisecond are in no order
	h.loginOf("alex", "192.0.2.1", firefox)
	h.wait(time.Second)
	h.loginOf("bob", "2001:db8::7", edge)
	h.wait(time.Second)
	used := h.browser()
	used.get(used.submit(atConsent(h, used, h.request("long", "scope", "openid profile"), "alex", alexPassword), "decision", "allow").location())
	h.wait(2 * time.Hour)
	b.proveAdmin("root")
	h.loginOf("bob", "192.0.2.9", firefox)
	row := regexp.MustCompile(`(?s)<tr role="row">\s*<td.*?</tr>`)
	shown := func(filter ...string) string {
		v := url.Values{}
		for i := 0; i < len(filter); i += 2 {
			v.Set(filter[i], filter[i+1])
		}
		page := b.get(h.base + "/admin/sessions?" + v.Encode()).expect(200)
		var list []string
		for _, r := range row.FindAllString(page.body, -1) {
			for _, address := range []string{"192.0.2.1<", "2001:db8::7<", "192.0.2.9<", "127.0.0.1<"} {
				if strings.Contains(r, address) {
					list = append(list, strings.TrimSuffix(address, "<"))
				}
			}
		}
		return strings.Join(list, " ")
	}
	for _, tt := range []struct {
		filter []string
		want   string
	}{
		{nil, "192.0.2.9 127.0.0.1 2001:db8::7 192.0.2.1 127.0.0.1"},
		{[]string{"user", "ALEX"}, "127.0.0.1 192.0.2.1"},
		{[]string{"user", "ale"}, ""},
		{[]string{"browser", "Firefox"}, "192.0.2.9 192.0.2.1"},
		{[]string{"browser", "Edge"}, "2001:db8::7"},
		{[]string{"browser", "Netscape"}, ""},
		{[]string{"address", "2001:DB8:0::7"}, "2001:db8::7"},
		{[]string{"address", "192.0.2.1"}, "192.0.2.1"},
		{[]string{"since", "hour"}, "192.0.2.9"},
		{[]string{"since", "day"}, "192.0.2.9 127.0.0.1 2001:db8::7 192.0.2.1 127.0.0.1"},
		{[]string{"since", "yesterday"}, ""},
		{[]string{"application", "myAS/album"}, ""},
		{[]string{"application", "album"}, ""},
		{[]string{"user", "bob", "browser", "Firefox", "since", "hour"}, "192.0.2.9"},
		{[]string{"user", "alex", "browser", "Edge"}, ""},
	} {
		if got := shown(tt.filter...); got != tt.want {
			t.Errorf("%q shows %q, want %q", tt.filter, got, tt.want)
		}
	}
	b.get(h.base+"/admin/sessions?address=192.0.2").expect(422, "Enter an IPv4 or IPv6 address", `aria-invalid="true"`)
	for _, bad := range []string{"before=x", "before=-1", "after=0", "before=1&after=2", "user=a&user=b", "user=%ff", "user=%00", "user=" + strings.Repeat("a", 600), "%zz"} {
		if a := b.get(h.base + "/admin/sessions?" + bad); a.status != http.StatusBadRequest {
			t.Errorf("%.40s: %d", bad, a.status)
		}
	}
}

// TestAdminListIsPaged: the links go through all entries, both ways, and keep
// what the list is narrowed to.
func TestAdminListIsPaged(t *testing.T) {
	h := open(t, nil)
	b := h.admin("root")
	want := map[string]bool{}
	for i := range 120 {
		want[h.loginOf("alex", fmt.Sprintf("192.0.2.%d", i), "curl/8").ID] = true
	}
	link := func(a answer, rel string) string {
		m := regexp.MustCompile(`<a class="button small-button" rel="` + rel + `" href="([^"]*)"`).FindStringSubmatch(a.body)
		if m == nil {
			return ""
		}
		to, err := url.Parse(h.base)
		if err == nil {
			to, err = to.Parse(strings.ReplaceAll(m[1], "&amp;", "&"))
		}
		if err != nil || to.Query().Get("user") != "alex" {
			t.Errorf("the link %s: %v", m[1], err)
		}
		return to.String()
	}
	box := regexp.MustCompile(`name="id" value="([0-9a-f]{64})"`)
	for _, way := range []struct{ on, back string }{{"next", "prev"}, {"prev", "next"}} {
		seen := map[string]int{}
		page := b.get(h.base + "/admin/sessions?user=alex").expect(200)
		if way.on == "prev" {
			for link(page, "next") != "" {
				page = b.get(link(page, "next"))
			}
		}
		for pages := 1; ; pages++ {
			for _, m := range box.FindAllStringSubmatch(page.body, -1) {
				seen[m[1]]++
			}
			if pages > 1 && link(page, way.back) == "" {
				t.Errorf("page %d has no way back", pages)
			}
			to := link(page, way.on)
			if to == "" || pages > 9 {
				break
			}
			page = b.get(to).expect(200)
		}
		for id := range want {
			if seen[id] != 1 {
				t.Errorf("%s: %s was seen %d times", way.on, id, seen[id])
			}
		}
		if len(seen) != len(want) {
			t.Errorf("%s: %d were seen, want %d", way.on, len(seen), len(want))
		}
	}
}

// The search shows twenty people and says where there are more.
func TestSearchSaysThatThereAreMore(t *testing.T) {
	const more = "There are more. Type more letters."
	h := open(t, nil)
	b := h.admin("root")
	people := regexp.MustCompile(`(?s)<ul class="people">.*?</ul>`)
	for n, want := range []bool{sessions.MaxAccounts: false, sessions.MaxAccounts + 1: true} {
		if n < sessions.MaxAccounts {
			h.addAccount(fmt.Sprintf("many-%02d", n))
			continue
		}
		page := b.get(h.base + "/admin/sessions?q=many").expect(200)
		if shown := strings.Count(people.FindString(page.body), "<li>"); shown != sessions.MaxAccounts || strings.Contains(page.body, "<p>"+more) != want {
			t.Errorf("of %d it shows %d, and says %v that there are more", n, shown, strings.Contains(page.body, "<p>"+more))
		}
		var doc struct {
			Users []struct{}
			More  bool
		}
		if err := json.Unmarshal([]byte(b.get(h.base+"/admin/users?q=many").expect(200).body), &doc); err != nil || len(doc.Users) != sessions.MaxAccounts || doc.More != want {
			t.Errorf("of %d it suggests %d, more %v, %v", n, len(doc.Users), doc.More, err)
		}
		h.addAccount(fmt.Sprintf("many-%02d", n))
	}
}
