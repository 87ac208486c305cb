package web_test

import (
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

func TestQuestionsTellWhyThereIsNoYes(t *testing.T) {
	const (
		yes, end, change = `value="yes"`, "No, end it and change my password", "No, change my password"
		why              = "If it was you, there is nothing to do here. You can say so in a browser that you used before."
		fold             = `<details class="questions"`
	)
	h, _ := openNoticing(t, nil)
	home, fresh := h.browser(), h.browser()
	home.enter("alex", alexPassword)
	fresh.signIn(h.request("album"), "alex", alexPassword)
	count := func(who string, b *browser, want map[string]int) answer {
		t.Helper()
		page := b.get(h.base + "/account/sessions").expect(200)
		for part, n := range want {
			if got := strings.Count(page.body, part); got != n {
				t.Errorf("%s has %d times %q, want %d:\n%s", who, got, part, n, page.body)
			}
		}
		for _, fault := range faults(page.body, "en") {
			t.Errorf("%s: %s", who, fault)
		}
		return page
	}
	later := []*browser{h.browser(), h.browser(), h.browser()}
	for _, b := range later {
		h.wait(time.Minute)
		b.signIn(h.request("album"), "alex", alexPassword)
	}
	count("a browser that is known", home, map[string]int{yes: 4, end: 4, change: 0, why: 0, fold: 0})
	count("one in question", fresh, map[string]int{yes: 0, end: 3, change: 0, why: 3, fold: 0})

	for _, b := range later[:2] {
		b.submit(b.get(h.base + "/logout"))
	}
	count("a browser that is known, two being over", home, map[string]int{yes: 4, end: 2, change: 2, why: 0, fold: 0})
	page := count("one in question, two being over", fresh, map[string]int{yes: 0, end: 1, change: 2, why: 2, fold: 1, fold + " data-key=\"notices-over\">\n<summary>2 questions about sign-ins that are over</summary>": 1})
	if before, in, _ := strings.Cut(page.body, fold); strings.Count(before, "<article class=\"card question\"") != 1 || !strings.Contains(before, end) ||
		strings.Count(in, change) != 2 || strings.Count(in, why) != 1 {
		t.Errorf("what is over stands apart, below the others, with one word about it:\n%s", page.body)
	}

	// What the page says of the answer is true of a sign-in that is over too.
	for range 2 {
		const answered = "/account/sessions?done=confirmed"
		page := home.get(h.base + "/account/sessions")
		page.body, _, _ = strings.Cut(page.body, "</form>") // the newest
		a := home.submit(page, "answer", "yes")
		if !strings.HasSuffix(a.said(), answered) {
			t.Fatalf("yes: %d to %s", a.status, a.location())
		}
		if page := home.follow(a).expect(200, "Thank you. We won’t ask about that sign-in again."); strings.Contains(page.body, "goes on") {
			t.Errorf("a sign-in that may be over goes on:\n%s", page.body)
		}
	}
}

func TestQuestionForManySignInsTellsWhyThereIsNoYes(t *testing.T) {
	h, _ := openNoticing(t, nil)
	home := h.browser()
	home.enter("alex", alexPassword)
	// From as many browsers as there is room for, and one more.
	for i := range sessions.MaxNotices + 1 {
		h.wait(time.Second)
		mark := make([]byte, 32)
		mark[0], mark[1] = 1, byte(i)
		if _, err := h.realm.SignIn(t.Context(), sessions.SignIn{UserID: h.userID("alex"), AuthTime: h.now(), Address: "192.0.2.9", UserAgent: firefox, CookieHash: mark,
			ExpiresAt: h.now().Add(time.Hour), Noticing: sessions.Noticing{Device: mark}}, sessions.Ending{Reason: sessions.ReasonOtherUser}); err != nil {
			t.Fatal(err)
		}
	}
	page := home.get(h.base + "/account/sessions").expect(200)
	first, _, _ := strings.Cut(page.body, "</article>")
	const why = "This question stands for other sign-ins too"
	if !strings.Contains(first, why) || strings.Contains(first, `value="yes"`) || strings.Contains(page.body, "You can say so in a browser") {
		t.Errorf("the question that stands for two doesn't say so:\n%s", first)
	}
	if strings.Count(page.body, why) != 1 || strings.Count(page.body, `value="yes"`) != strings.Count(page.body, `value="no"`)-1 {
		t.Errorf("other questions say so too:\n%s", page.body)
	}
}

func TestHistoryTellsThatASignInWasDisowned(t *testing.T) {
	for lang, want := range map[string]string{
		"en": `<span>Reported as a stranger’s sign-in</span><span class="soft">by yourself</span>`,
		"de": `<span>Als fremde Anmeldung gemeldet</span><span class="soft">von Ihnen selbst</span>`,
	} {
		h, _ := openNoticing(t, nil)
		home := h.browser()
		home.accept = lang
		home.enter("alex", alexPassword)
		h.browser().signIn(h.request("album"), "alex", alexPassword)
		home.submit(home.get(h.base+"/account/sessions"), "answer", "no")
		home.get(h.base+"/account/history").expect(200, want)
		// An administrator is told who it was.
		root := h.admin("root")
		root.accept = lang
		reason, _, _ := strings.Cut(want, `<span class="soft">`)
		page := root.get(h.base+"/admin/users/"+h.userID("alex")).expect(200, reason, "<bdi>alex</bdi></strong></span>")
		if _, by, _ := strings.Cut(want, reason); strings.Contains(page.body, by) {
			t.Errorf("%s: an administrator reads what is said to alex:\n%s", lang, page.body)
		}
	}
}
