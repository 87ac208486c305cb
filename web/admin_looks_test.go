package web_test

import (
	"context"
	"maps"
	"net/url"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/audit"
)

// look is a recorded view of others' sessions.
type look struct{ actor, user, detail string }

// looks counts views; those of one minute are one row with a count.
func (h *house) looks() map[look]int {
	h.t.Helper()
	events, err := h.realm.Events(context.Background(), audit.Filter{Types: []audit.Type{audit.SessionsViewed}})
	if err != nil {
		h.t.Fatal(err)
	}
	n := map[look]int{}
	for _, e := range events {
		n[look{e.Actor, e.UserID, e.Detail}] += e.Count
	}
	return n
}

// Every page on which an administrator sees what others do leaves a record of
// who looked at whom, each time; a refusal, and a page that shows nothing, leave
// none.
func TestAdministratorsLooksAreRecorded(t *testing.T) {
	h := open(t, nil)
	h.loginOf("bob", "192.0.2.1", "curl/8")
	ended := h.loginOf("bob", "192.0.2.2", "curl/8")
	root, alex := h.admin("root"), h.browser()
	alex.signIn(h.request("album"), "alex", alexPassword)
	h.wait(time.Minute) // of the sign-in, which showed the list
	bob := h.userID("bob")
	at := h.base + "/admin/users/" + bob
	get := func(b *browser, address string, status int) func() {
		return func() { b.get(address).expect(status) }
	}
	const all, named, account, list, past, search = "all of the realm", "the user's in the list of the realm", "the user's account", "all of the user's", "history of the user", "search for users"
	for _, tt := range []struct {
		name string
		look func()
		user string
		want []string // details, each once
	}{
		{"the list", get(root, h.base+"/admin/sessions", 200), "", []string{all}},
		{"the list, narrowed", get(root, h.base+"/admin/sessions?browser=Other", 200), "", []string{all}},
		{"the list, narrowed to a user", get(root, h.base+"/admin/sessions?user=bob", 200), bob, []string{named}},
		{"the list, narrowed to a user and more", get(root, h.base+"/admin/sessions?user=%20BOB&browser=Firefox&since=hour", 200), bob, []string{named}},
		{"the list, narrowed to nobody", get(root, h.base+"/admin/sessions?user=bo", 200), "", []string{all}},
		{"the list, narrowed to what can be no name", get(root, h.base+"/admin/sessions?user=b%20%20o", 200), "", []string{all}},
		{"a search", get(root, h.base+"/admin/sessions?q=bo", 200), "", []string{search, all}},
		{"suggestions", get(root, h.base+"/admin/users?q=bo", 200), "", []string{search}},
		{"a user", get(root, at, 200), bob, []string{account, list, past}},
		{"a user once more", get(root, at, 200), bob, []string{account, list, past}},
		{"asking whether to end everything", get(root, at+"/end", 200), bob, []string{account, list}},
		{"asking whether to lock, which ends everything", get(root, at+"/lock", 200), bob, []string{account, list}},
		{"asking whether to unlock", get(root, at+"/unlock", 200), bob, []string{account}},
		{"asking whether to end a selection", func() { root.askEnd(url.Values{"id": {ended.ID}}).expect(200, "192.0.2.2") }, "",
			[]string{"a selection of the realm's"}},
		{"no search", get(root, h.base+"/admin/users?q=", 200), "", nil},
		{"a list for which an address is wrong", get(root, h.base+"/admin/sessions?address=x", 422), "", nil},
		{"the list for a user", get(alex, h.base+"/admin/sessions?q=bo", 403), "", nil},
		{"another user for a user", get(alex, at, 403), "", nil},
	} {
		before, want := h.looks(), map[look]int{}
		tt.look()
		for _, detail := range tt.want {
			want[look{"user:" + h.userID("root"), tt.user, detail}] = 1
		}
		got := h.looks()
		for l, n := range before {
			if got[l] -= n; got[l] == 0 {
				delete(got, l)
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s left %v, want %v", tt.name, got, want)
		}
	}
}
