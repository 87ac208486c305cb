package storagetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/mail"
	"gatehouse.dev/gatehouse/sessions"
)

// from is a sign-in from a device and an address; mails go to the user.
func from(device, address string) sessions.SignIn {
	return sessions.SignIn{Address: address, UserAgent: "agent of " + device,
		Noticing: sessions.Noticing{Device: hash(device), MailTo: "alex@example.com", Language: "de"}}
}

// noticed signs alex in and tells what was new.
func (w *world) noticed(in sessions.SignIn) (*sessions.Login, string) {
	w.Helper()
	before := w.open("alex")
	login := w.loginIn(w.realm, "alex", in)
	var words []string
	for _, n := range w.open("alex") {
		if slices.ContainsFunc(before, func(o sessions.Notice) bool { return o.ID == n.ID }) {
			continue
		}
		if n.LoginID != login.ID || n.UserID != "alex" || n.Address != in.Address || n.UserAgent != in.UserAgent || !n.At.Equal(w.now()) || n.Ended || len(n.ID) != 26 {
			w.Errorf("the notice is %+v", n)
		}
		words = append(words, news(n))
	}
	if len(words) > 1 {
		w.Errorf("%d notices of one sign-in", len(words))
	}
	return login, strings.Join(words, ",")
}

func news(n sessions.Notice) string {
	return strings.TrimSpace(map[bool]string{true: "device"}[n.Device] + " " + map[bool]string{true: "network"}[n.Network])
}

func (w *world) open(user string) []sessions.Notice {
	w.Helper()
	list, err := w.realm.OpenNotices(w.Context(), user, "", w.now().Add(-sessions.NoticeShown), 1000)
	w.ok(err)
	return list
}

// answer answers a notice in another login.
func (w *world) answer(user, id string, answer sessions.Answer) error {
	return w.realm.AnswerNotice(w.Context(), user, id, "another login", answer,
		sessions.Ending{By: sessions.Actor{Kind: sessions.ActorUser, ID: user}, Reason: sessions.ReasonLogout})
}

func newIsNoticed(w *world) {
	w.user("alex")
	for _, step := range []struct{ device, address, want string }{
		{"laptop", "192.0.2.7", ""}, // the first sign-in ever
		{"laptop", "192.0.2.7", ""},
		{"laptop", "192.0.2.250", ""},
		{"laptop", "::ffff:192.0.2.9", ""},
		{"laptop", "192.0.3.7", "network"},
		{"phone", "192.0.2.7", "device"},
		{"phone", "192.0.3.9", ""},
		{"phone", "2001:db8:1:2::1", "network"},
		{"laptop", "2001:db8:1:ffff::9", ""},
		{"laptop", "2001:db8:2::1", "network"},
		{"tablet", "198.51.100.1", "device network"},
		{"tablet", "", ""},
		{"tablet", "not an address", ""},
	} {
		w.pass(time.Second)
		if _, got := w.noticed(from(step.device, step.address)); got != step.want {
			w.Errorf("from %s at %q: new is %q, want %q", step.device, step.address, got, step.want)
		}
	}
	var told []string
	for _, e := range w.events(audit.Filter{Types: []audit.Type{audit.NewDevice}}) {
		told = append(told, fmt.Sprintf("%s %s %s %s", e.Actor, e.UserID, e.Address, e.Detail))
	}
	if want := []string{"user:alex alex 198.51.100.1 device network", "user:alex alex 2001:db8:2::1 network", "user:alex alex 2001:db8:1:2::1 network",
		"user:alex alex 192.0.2.7 device", "user:alex alex 192.0.3.7 network"}; !slices.Equal(told, want) {
		w.Errorf("recorded %q, want %q", told, want)
	}
}

func unmarkedSignIn(w *world) {
	w.user("alex")
	w.noticed(from("laptop", "192.0.2.7"))
	if _, got := w.noticed(sessions.SignIn{Address: "198.51.100.1", Noticing: sessions.Noticing{MailTo: "alex@example.com"}}); got != "" {
		w.Errorf("a sign-in that names no device is noticed: %q", got)
	}
	if _, got := w.noticed(from("laptop", "198.51.100.1")); got != "network" {
		w.Errorf("after it new is %q, want network", got)
	}
	// What is refused is not remembered.
	in := w.signIn("alex", from("phone", "192.0.2.7"))
	in.Password = "another"
	_, err := w.realm.SignIn(w.Context(), in, sessions.Ending{})
	w.is(err, sessions.ErrProofStale, "a sign-in by another password")
	if _, got := w.noticed(from("phone", "192.0.2.7")); got != "device" {
		w.Errorf("after a refused sign-in new is %q, want device", got)
	}
}

func reauthenticationNoticed(w *world) {
	w.user("alex")
	login, _ := w.noticed(from("laptop", "192.0.2.7"))
	for _, step := range []struct{ device, address, want string }{
		{"laptop", "192.0.2.7", ""},
		{"cleared", "192.0.2.7", ""}, // the browser has lost one of its cookies
		{"cleared", "198.51.100.1", "network"},
	} {
		in := from(step.device, step.address)
		in.Current = login.ID
		again, got := w.noticed(in)
		if again.ID != login.ID || got != step.want {
			w.Errorf("again from %s at %s: login %v, new is %q, want %q", step.device, step.address, again.ID == login.ID, got, step.want)
		}
	}
	if _, got := w.noticed(from("cleared", "192.0.2.7")); got != "" {
		w.Errorf("the browser is new: %q", got)
	}
	// Another user's login proves nothing of this one.
	w.user("bea")
	bea := w.loginIn(w.realm, "bea", from("laptop", "192.0.2.7"))
	in := from("foreign", "192.0.2.7")
	in.Current = bea.ID
	if _, got := w.noticed(in); got != "device" {
		w.Errorf("over another's login new is %q, want device", got)
	}
}

func knownBounded(w *world) {
	w.user("alex")
	w.noticed(from("first", "192.0.2.7"))
	for i := range sessions.MaxKnown {
		w.pass(time.Second)
		w.noticed(from("first", "192.0.2.7")) // which keeps it
		if _, got := w.noticed(from(fmt.Sprint("device ", i), "192.0.2.7")); got != "device" {
			w.Fatalf("device %d: new is %q", i, got)
		}
	}
	w.pass(time.Second)
	for device, want := range map[string]string{"first": "", fmt.Sprint("device ", sessions.MaxKnown-1): "", "device 0": "device"} {
		if _, got := w.noticed(from(device, "192.0.2.7")); got != want {
			w.Errorf("%s: new is %q, want %q", device, got, want)
		}
	}
	for i := range sessions.MaxNotices {
		w.pass(time.Second)
		w.noticed(from(fmt.Sprint("further device ", i), "192.0.2.7"))
	}
	if n := len(w.open("alex")); n != sessions.MaxNotices {
		w.Errorf("%d notices are kept, want %d", n, sessions.MaxNotices)
	}
}

func noticeAnswered(w *world) {
	w.user("alex")
	w.user("bea")
	first, _ := w.noticed(from("laptop", "192.0.2.7"))
	login, _ := w.noticed(from("phone", "192.0.2.7"))
	w.pass(time.Second)
	id := w.open("alex")[0].ID
	for _, answer := range []sessions.Answer{sessions.AnswerYes, sessions.AnswerNo} {
		w.is(w.answer("bea", id, answer), sessions.ErrNotFound, "another user says %s", answer)
		w.is(w.answer("alex", "unknown", answer), sessions.ErrNotFound, "%s to nothing", answer)
		w.is(w.answer("alex", "\xff", answer), sessions.ErrNotFound, "%s to what can't be", answer)
	}
	w.is(w.realm.AnswerNotice(w.Context(), "alex", id, login.ID, sessions.AnswerYes, logout()), sessions.ErrAnswer, "yes in the login itself")
	if list, err := w.realm.OpenNotices(w.Context(), "alex", login.ID, time.Time{}, 10); err != nil || len(list) != 0 {
		w.Errorf("the login is asked about itself: %+v, %v", list, err)
	}
	// A thief with two browsers doesn't vouch for himself.
	twin, _ := w.noticed(from("another phone", "192.0.2.7"))
	w.is(w.realm.AnswerNotice(w.Context(), "alex", id, twin.ID, sessions.AnswerYes, logout()), sessions.ErrAnswer, "yes in a login that is in question")
	for _, by := range []string{first.ID, twin.ID} {
		list, err := w.realm.OpenNotices(w.Context(), "alex", by, time.Time{}, 10)
		w.ok(err)
		if len(list) == 0 {
			w.Fatalf("nothing is asked in %.8s", by)
		}
		if last := list[len(list)-1]; last.ID != id || last.OnlyNo != (by == twin.ID) {
			w.Errorf("asked in %.8s: %+v", by, last)
		}
	}
	for _, n := range w.open("alex") {
		if n.LoginID == twin.ID {
			w.ok(w.answer("alex", n.ID, sessions.AnswerNo))
		}
	}
	if n := len(w.open("alex")); n != 1 {
		w.Fatalf("%d open notices, want 1", n)
	}
	w.wantRecorded("yes, twice", func() {
		w.ok(w.answer("alex", id, sessions.AnswerYes))
		w.ok(w.answer("alex", id, sessions.AnswerYes))
	}, "new_device_answer|success|yes|user:alex||alex|||"+login.ID)
	if n := len(w.open("alex")); n != 0 {
		w.Errorf("%d open notices after an answer", n)
	}
	if _, err := w.realm.LoginByCookie(w.Context(), login.CookieHash); err != nil {
		w.Errorf("yes has ended the login: %v", err)
	}
	// Who has looked more closely may say so.
	w.ok(w.answer("alex", id, sessions.AnswerNo))
	_, err := w.realm.LoginByCookie(w.Context(), login.CookieHash)
	w.is(err, sessions.ErrNotFound, "the login after no")
}

func noticeEndsLogin(w *world) {
	w.user("alex")
	w.client("album")
	w.client("news")
	kept, _ := w.noticed(from("laptop", "192.0.2.7"))
	keptGrant, _ := w.grant(kept, "album", refresh)
	login, _ := w.noticed(from("phone", "198.51.100.1"))
	online, _ := w.grant(login, "album", refresh)
	held, _ := w.grant(login, "news", offline)
	again := from("phone", "203.0.113.1")
	again.Current = login.ID
	w.noticed(again) // the same login, from another network
	id := w.open("alex")[1].ID
	w.ok(w.answer("alex", id, sessions.AnswerNo))
	w.live(online, false, "its session")
	w.live(held, false, "its session with offline access")
	w.live(keptGrant, true, "the other login's session")
	_, err := w.realm.LoginByCookie(w.Context(), login.CookieHash)
	w.is(err, sessions.ErrNotFound, "the login's cookie")
	if ended := w.state(held).Session.Ended; ended == nil || ended.Reason != sessions.ReasonLogout || ended.By.ID != "alex" {
		w.Errorf("the offline session ended %+v", ended)
	}
	if n := len(w.open("alex")); n != 0 {
		w.Errorf("%d open notices of a login that was disowned", n)
	}
	w.wantRecorded("no once more", func() { w.ok(w.answer("alex", id, sessions.AnswerNo)) })
	w.wantRecorded("yes behind no", func() { w.ok(w.answer("alex", id, sessions.AnswerYes)) })

	// Whoever it was is a stranger again.
	if _, got := w.noticed(from("phone", "198.51.100.1")); got != "device network" {
		w.Errorf("the disowned device comes back: new is %q", got)
	}
	// What was detached before is ended as well.
	login, _ = w.noticed(from("tablet", "192.0.2.7"))
	held, _ = w.grant(login, "news", offline)
	w.mustEnd(sessions.Target{Login: login.ID}, logout(), 0)
	w.live(held, true, "the detached session")
	for _, n := range w.open("alex") {
		if n.LoginID == login.ID {
			w.ok(w.answer("alex", n.ID, sessions.AnswerNo))
		}
	}
	w.live(held, false, "the detached session of a disowned login")
}

func noticesOfEnded(w *world) {
	w.user("alex")
	w.noticed(from("laptop", "192.0.2.7"))
	login, _ := w.noticed(from("phone", "192.0.2.7"))
	w.pass(time.Minute)
	w.mustEnd(sessions.Target{Login: login.ID}, logout(), 0)
	w.pass(sessions.NoticeShown - time.Millisecond)
	if list := w.open("alex"); len(list) != 1 || !list[0].Ended {
		w.Errorf("notices of a login that has ended: %+v", list)
	}
	w.pass(time.Millisecond)
	if list := w.open("alex"); len(list) != 0 {
		w.Errorf("notices of a login that ended long ago: %+v", list)
	}
}

func noticesSwept(w *world) {
	w.user("alex")
	w.noticed(from("laptop", "192.0.2.7"))
	w.noticed(from("phone", "192.0.2.7"))
	sweep := func(limit int) int {
		n, err := w.realm.SweepNotices(w.Context(), w.now().Add(-sessions.NoticeKept), limit)
		w.ok(err)
		return n
	}
	w.pass(sessions.NoticeKept)
	if n := sweep(100); n != 0 {
		w.Errorf("%d rows removed that are just old enough to stay", n)
	}
	w.noticed(from("laptop", "198.51.100.1"))
	w.pass(time.Millisecond)
	// One notice; the phone and the first network. The laptop was used since.
	for _, want := range []int{2, 1, 0} {
		if n := sweep(1); n != want {
			w.Errorf("%d rows removed, want %d", n, want)
		}
	}
	// That nothing is known any more makes it no first sign-in.
	w.pass(sessions.NoticeKept + time.Hour)
	sweep(100)
	if _, got := w.noticed(from("laptop", "192.0.2.7")); got != "device network" {
		w.Errorf("after a long absence new is %q", got)
	}
}

func noticesShareNothing(w *world) {
	w.user("alex")
	w.user("bea")
	other := w.a.Realm("other")
	w.userIn(other, "alex")
	w.noticed(from("laptop", "192.0.2.7"))
	w.noticed(from("phone", "192.0.2.7"))
	id := w.open("alex")[0].ID
	w.loginIn(other, "alex", from("tablet", "198.51.100.1"))
	w.loginIn(other, "alex", from("phone", "192.0.2.7"))
	if list, err := other.OpenNotices(w.Context(), "alex", "", time.Time{}, 10); err != nil || len(list) != 1 || news(list[0]) != "device network" || list[0].ID == id {
		w.Errorf("the other realm's notices: %+v, %v", list, err)
	}
	if list := w.open("bea"); len(list) != 0 {
		w.Errorf("another user's notices: %+v", list)
	}
	w.is(other.AnswerNotice(w.Context(), "alex", id, "", sessions.AnswerNo, logout()), sessions.ErrNotFound, "no in the other realm")
	letters, err := w.a.Letters.ClaimLetters(w.Context(), []string{"other"}, 10, time.Minute)
	if err != nil || len(letters) != 1 || letters[0].Realm != "other" {
		w.Errorf("the other realm's letters: %+v, %v", letters, err)
	}
}

// claim claims letters of the realm.
func (w *world) claimLetters(limit int) []mail.Letter {
	w.Helper()
	list, err := w.a.Letters.ClaimLetters(w.Context(), []string{"staff", "unknown"}, limit, time.Minute)
	w.ok(err)
	return list
}

func lettersSettled(w *world) {
	w.user("alex")
	w.noticed(from("laptop", "192.0.2.7"))
	if list := w.claimLetters(10); len(list) != 0 {
		w.Errorf("letters of a first sign-in: %+v", list)
	}
	for device, to := range map[string]string{"phone": "alex@example.com", "silent": "", "endless": strings.Repeat("x", 300) + "@example.com"} {
		in := from(device, "192.0.2.7")
		in.Noticing.MailTo = to
		w.noticed(in)
	}
	list := w.claimLetters(10)
	if len(list) != 1 {
		w.Fatalf("%d letters are due, want 1", len(list))
	}
	l := list[0]
	if l.Realm != "staff" || l.To != "alex@example.com" || l.Language != "de" || l.Attempts != 1 || news(l.Notice) != "device" || l.Notice.UserAgent != "agent of phone" || !l.Notice.At.Equal(w.now()) {
		w.Errorf("the letter is %+v", l)
	}
	if list := w.claimLetters(10); len(list) != 0 {
		w.Errorf("a letter is claimed twice: %+v", list)
	}
	// Its lease is over: somebody else has it, and the first one has lost it.
	w.pass(time.Minute)
	again := w.claimLetters(10)
	if len(again) != 1 || again[0].Attempts != 2 {
		w.Fatalf("after its lease the letter is %+v", again)
	}
	w.is(w.b.Letters.SettleLetter(w.Context(), l, mail.Outcome{State: mail.Sent}), mail.ErrNotFound, "settling a lost letter")
	w.ok(w.b.Letters.SettleLetter(w.Context(), again[0], mail.Outcome{State: mail.Waiting, Next: w.now().Add(time.Hour)}))
	w.pass(time.Hour - time.Millisecond)
	if list := w.claimLetters(10); len(list) != 0 {
		w.Errorf("a letter is due too early: %+v", list)
	}
	w.pass(time.Millisecond)
	last := w.claimLetters(10)
	if len(last) != 1 || last[0].Attempts != 3 || last[0].To != "alex@example.com" {
		w.Fatalf("the letter to be sent again is %+v", last)
	}
	w.ok(w.b.Letters.SettleLetter(w.Context(), last[0], mail.Outcome{State: mail.Sent}))
	w.is(w.b.Letters.SettleLetter(w.Context(), last[0], mail.Outcome{State: mail.Abandoned}), mail.ErrNotFound, "settling it twice")
	w.pass(24 * time.Hour)
	if list := w.claimLetters(10); len(list) != 0 {
		w.Errorf("a letter that was sent is due: %+v", list)
	}
}

func mailsBounded(w *world) {
	w.user("alex")
	w.noticed(from("laptop", "192.0.2.7"))
	for i := range sessions.MaxMails + 3 {
		w.pass(time.Second)
		w.noticed(from(fmt.Sprint("device ", i), "192.0.2.7"))
	}
	if n := len(w.claimLetters(100)); n != sessions.MaxMails {
		w.Errorf("%d letters within the hour, want %d", n, sessions.MaxMails)
	}
	if n := len(w.open("alex")); n != sessions.MaxMails+3 {
		w.Errorf("%d notices, want %d", n, sessions.MaxMails+3)
	}
	w.pass(sessions.MailWindow - time.Minute) // their leases are over, and so they are claimed once more
	w.claimLetters(100)
	w.pass(2 * time.Minute)
	w.noticed(from("later", "192.0.2.7"))
	late := 0
	for _, l := range w.claimLetters(100) {
		if l.Notice.UserAgent == "agent of later" {
			late++
		}
	}
	if late != 1 {
		w.Errorf("%d letters of a sign-in an hour later, want 1", late)
	}
}

// Two sign-ins at once from one new device make one notice at most; and at the
// first sign-ins ever, one is the first.
func raceOneDevice(w *world) {
	for round := range 4 {
		user := fmt.Sprint("racer-", round)
		w.user(user)
		if round%2 == 0 {
			w.loginIn(w.realm, user, from("laptop", "192.0.2.7"))
		}
		won := w.race(12, func(_ int, _ ServerStore, realm RealmStore) bool {
			_, err := realm.SignIn(w.Context(), w.signIn(user, from("phone", "198.51.100.1")), sessions.Ending{})
			if err != nil {
				w.Error(err)
			}
			return err == nil
		})
		if n, want := len(w.open(user)), (round+1)%2; won != 12 || n != want {
			w.Errorf("%d sign-ins at once left %d notices, want %d", won, n, want)
		}
	}
}

func raceManyDevices(w *world) {
	w.user("alex")
	w.noticed(from("laptop", "192.0.2.7"))
	w.race(16, func(i int, _ ServerStore, realm RealmStore) bool {
		_, err := realm.SignIn(w.Context(), w.signIn("alex", from(fmt.Sprint("device ", i), fmt.Sprintf("198.51.%d.1", 100+i%4))), sessions.Ending{})
		if err != nil {
			w.Error(err)
		}
		for _, n := range w.open("alex") {
			if i%3 == 0 {
				err = w.answer("alex", n.ID, sessions.AnswerNo)
			}
		}
		if err != nil {
			w.Error(err)
		}
		return true
	})
	if n := len(w.events(audit.Filter{Types: []audit.Type{audit.NewDevice}})); n != 16 {
		w.Errorf("%d notices of 16 new devices", n)
	}
	if n := len(w.claimLetters(100)); n != sessions.MaxMails {
		w.Errorf("%d letters of 16 sign-ins at once, want %d", n, sessions.MaxMails)
	}
}

func raceLetters(w *world) {
	w.user("alex")
	w.noticed(from("laptop", "192.0.2.7"))
	for i := range sessions.MaxMails {
		w.noticed(from(fmt.Sprint("device ", i), "192.0.2.7"))
	}
	var mu sync.Mutex
	got := map[string]int{}
	w.race(12, func(i int, _ ServerStore, _ RealmStore) bool {
		list, err := w.of(i).Letters.ClaimLetters(w.Context(), []string{"staff"}, 2, time.Minute)
		if err != nil {
			w.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, l := range list {
			got[l.Notice.ID]++
		}
		return len(list) > 0
	})
	for _, l := range w.claimLetters(100) { // those that others had locked when they were asked for
		got[l.Notice.ID]++
	}
	for id, n := range got {
		if n != 1 {
			w.Errorf("letter %s was claimed %d times", id, n)
		}
	}
	if len(got) != sessions.MaxMails {
		w.Errorf("%d letters were claimed, want %d", len(got), sessions.MaxMails)
	}
}
