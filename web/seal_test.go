package web_test

import "testing"

// TestAnothersSealIsVoid: a form that was shown to somebody else, or in another
// login of the same user, does nothing, even to what is the sender's own.
func TestAnothersSealIsVoid(t *testing.T) {
	h := open(t, nil)
	alex, elsewhere, bob := h.browser(), h.browser(), h.browser()
	alex.use("album", "openid", "alex", alexPassword)
	elsewhere.enter("alex", alexPassword)
	token := bob.use("album", "openid", "bob", bobPassword)
	own := h.logins("bob")[0].ID
	alexes := h.logins("alex")
	withdraw := h.base + "/account/permissions/withdraw?client=album&server=myAS"
	password := h.base + "/account/password"
	name := func(id string) string { return h.base + "/account/sessions/" + id + "/name" }
	for form, of := range map[string]struct {
		shown string // to alex
		sent  string // page of whoever sends it
		more  []string
	}{
		"password": {password, password, []string{"new", "another password", "again", "another password", "end", "yes"}},
		"rename":   {name(alexes[1].ID), name(own), []string{"device", "taken"}},
		"withdraw": {withdraw, withdraw, nil},
	} {
		_, void := alex.get(of.shown).expect(200).form()
		for who, send := range map[string]struct {
			*browser
			old string
		}{"bob": {bob, bobPassword}, "alex in another login": {elsewhere, alexPassword}} {
			at := of.sent
			if form == "rename" && who != "bob" {
				at = of.shown // the same entry, in another login
			}
			good := send.get(at).expect(200)
			a := send.submit(good, append([]string{"seal", void.Get("seal"), "old", send.old}, of.more...)...)
			if a.status != 403 || a.location() != "" {
				t.Errorf("%s by %s: %d %s", form, who, a.status, a.location())
			}
		}
	}
	for _, of := range []string{"alex", "bob"} {
		for _, l := range h.logins(of) {
			if l.DeviceName != "" {
				t.Errorf("a device of %s became %q", of, l.DeviceName)
			}
		}
	}
	if _, ok := h.refreshes("album", token); !ok || len(h.logins("alex")) != 2 {
		t.Error("something has ended")
	}
	h.browser().enter("alex", alexPassword)
	h.browser().enter("bob", bobPassword)
	// With the seals that they were shown they can.
	bob.submit(bob.get(name(own)), "device", "mine").expect(303)
	bob.submit(bob.get(withdraw)).expect(303)
	bob.submit(bob.get(password), "old", bobPassword, "new", "another password", "again", "another password").expect(303)
}
