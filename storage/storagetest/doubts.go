package storagetest

import (
	"fmt"
	"slices"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// newNotice signs alex in and gives the notice that the sign-in left.
func (w *world) newNotice(in sessions.SignIn) (*sessions.Login, string) {
	w.Helper()
	login := w.loginIn(w.realm, "alex", in)
	for _, n := range w.open("alex") {
		if n.LoginID == login.ID {
			return login, n.ID
		}
	}
	w.Fatalf("the sign-in from %s at %s left no notice", in.UserAgent, in.Address)
	return nil, ""
}

// quiet signs alex in where nothing is new.
func (w *world) quiet(in sessions.SignIn) *sessions.Login {
	w.Helper()
	login, news := w.noticed(in)
	if news != "" {
		w.Fatalf("the sign-in from %s at %s is news: %s", in.UserAgent, in.Address, news)
	}
	return login
}

func (w *world) say(login *sessions.Login, id string, answer sessions.Answer) error {
	return w.realm.AnswerNotice(w.Context(), "alex", id, login.ID, answer, logout())
}

func (w *world) lives(login *sessions.Login, want bool, what string) {
	w.Helper()
	var err error
	if _, err = w.realm.LoginByCookie(w.Context(), login.CookieHash); want {
		w.is(err, nil, "%s", what)
	} else {
		w.is(err, sessions.ErrNotFound, "%s", what)
	}
}

// questions are what alex is asked in a login; those that can't be answered with
// yes have a "!", and those that stand for others too another one.
func (w *world) questions(by *sessions.Login) []string {
	w.Helper()
	list, err := w.realm.OpenNotices(w.Context(), "alex", by.ID, w.now().Add(-sessions.NoticeShown), 1000)
	w.ok(err)
	ids := []string{}
	for _, n := range list {
		ids = append(ids, n.ID+map[bool]string{true: "!"}[n.OnlyNo]+map[bool]string{true: "!"}[n.Crowded])
	}
	return ids
}

func (w *world) asks(by *sessions.Login, what string, want ...string) {
	w.Helper()
	if got := w.questions(by); !slices.Equal(got, append([]string{}, want...)) {
		w.Errorf("%s is asked %q, want %q", what, got, want)
	}
}

func signInAgainSharesQuestion(w *world) {
	w.user("alex")
	w.client("album")
	owner := w.quiet(from("laptop", "192.0.2.7"))
	kept, _ := w.grant(owner, "album", refresh)
	first, id := w.newNotice(from("phone", "192.0.2.7"))
	detached := w.quiet(from("phone", "192.0.2.7"))
	held, _ := w.grant(detached, "album", offline)
	w.mustEnd(sessions.Target{Login: detached.ID}, logout(), 0)
	w.mustEnd(sessions.Target{Login: first.ID}, logout(), 0)
	w.live(held, true, "the detached session")
	again := w.quiet(from("phone", "192.0.2.7"))
	online, _ := w.grant(again, "album", refresh)
	w.is(w.say(again, id, sessions.AnswerYes), sessions.ErrAnswer, "yes in the same browser, signed out and in")
	w.asks(again, "the same browser, signed out and in")

	w.pass(time.Second)
	_, other := w.newNotice(from("tablet", "192.0.2.7"))
	w.is(w.say(again, other, sessions.AnswerYes), sessions.ErrAnswer, "yes for another login in a browser that is in question")
	w.asks(again, "the browser in question", other+"!")
	later := w.quiet(from("laptop", "192.0.2.7"))
	w.asks(later, "the owner's browser", other, id)

	// The question stands as long as somebody lives by it.
	w.pass(sessions.NoticeShown + time.Hour)
	for _, n := range w.open("alex") {
		if n.ID == id && n.Ended {
			w.Error("the question is over though a login shares it")
		}
	}
	later = w.quiet(from("laptop", "192.0.2.7"))
	again = w.quiet(from("phone", "192.0.2.7"))
	w.asks(later, "the owner's browser a month later", other, id)
	w.is(w.say(again, other, sessions.AnswerYes), sessions.ErrAnswer, "yes a month later")

	w.ok(w.say(later, id, sessions.AnswerNo))
	w.lives(again, false, "the login that shares the question")
	w.live(online, false, "a session in it")
	w.live(held, false, "a detached session of another one that shared it")
	if ended := w.state(kept).Session.Ended; ended != nil {
		w.Errorf("the session in the owner's browser ended: %+v", ended)
	}
	w.lives(later, true, "the owner's login")
	w.asks(later, "the owner's browser after no", other)
	_, id = w.newNotice(from("phone", "192.0.2.7"))

	// Once it is answered, the browser is one of the user's own.
	again = w.quiet(from("phone", "192.0.2.7"))
	w.ok(w.say(later, id, sessions.AnswerYes))
	w.ok(w.say(again, other, sessions.AnswerYes))
	w.lives(again, true, "the login after yes")
	// Who has looked more closely ends all that the answer was about.
	w.ok(w.say(later, id, sessions.AnswerNo))
	w.lives(again, false, "the login that shared the question, after all")
	w.lives(later, true, "the owner's login, after all")
}

func droppedMarkSharesQuestion(w *world) {
	w.user("alex")
	owner := w.quiet(from("laptop", "192.0.2.7"))
	login, id := w.newNotice(from("phone", "192.0.2.7"))
	for _, device := range []string{"dropped", "dropped again"} {
		in := from(device, "192.0.2.7")
		in.Current = login.ID
		if on := w.quiet(in); on.ID != login.ID {
			w.Fatal("the login doesn't go on")
		}
		login = w.quiet(from(device, "192.0.2.7"))
		w.is(w.say(login, id, sessions.AnswerYes), sessions.ErrAnswer, "yes with the mark %s", device)
	}
	w.ok(w.say(owner, id, sessions.AnswerNo))
	w.lives(login, false, "the login with another mark")
	w.lives(owner, true, "the owner's login")
	w.newNotice(from("dropped", "192.0.2.7"))
	w.newNotice(from("dropped again", "192.0.2.7"))
}

func networkSharesQuestion(w *world) {
	const away = "198.51.100.7"
	w.user("alex")
	owner := w.quiet(from("laptop", "192.0.2.7"))
	for _, device := range []string{"phone", "watch"} {
		_, id := w.newNotice(from(device, "192.0.2.7"))
		w.ok(w.say(owner, id, sessions.AnswerYes))
	}
	before := w.quiet(from("phone", "192.0.2.7"))
	_, id := w.newNotice(from("phone", away))
	same := w.quiet(from("phone", away))
	w.is(w.say(same, id, sessions.AnswerYes), sessions.ErrAnswer, "yes in the browser that the network is asked of")
	w.asks(same, "the browser that the network is asked of")
	home := w.quiet(from("phone", "192.0.2.7"))
	w.asks(home, "that browser at home", id)
	watch := w.quiet(from("watch", away))
	w.asks(watch, "another known browser in that network", id)
	w.pass(time.Second)
	fresh, its := w.newNotice(from("tablet", away))
	vouched, known := w.newNotice(from("desktop", away))
	w.ok(w.say(owner, known, sessions.AnswerYes))
	w.asks(fresh, "a new browser in that network", id+"!")
	w.asks(vouched, "a browser that the user knows in that network", its, id)

	w.ok(w.say(owner, id, sessions.AnswerNo))
	for what, login := range map[string]*sessions.Login{"the same browser": same, "a new browser there": fresh} {
		w.lives(login, false, what)
	}
	for what, login := range map[string]*sessions.Login{"an older login": before, "at home": home, "a known browser there": watch,
		"a browser that the user knows": vouched, "the owner": owner} {
		w.lives(login, true, what)
	}
	w.asks(owner, "the owner")
	w.newNotice(from("tablet", "192.0.2.7"))
}

func floodKeepsQuestions(w *world) {
	w.user("alex")
	owner := w.quiet(from("laptop", "192.0.2.7"))
	thief, id := w.newNotice(from("phone", "192.0.2.7"))
	again := w.quiet(from("phone", "192.0.2.7"))
	w.mustEnd(sessions.Target{Login: thief.ID}, logout(), 0)
	_, answered := w.newNotice(from("answered", "192.0.2.7"))
	w.ok(w.say(owner, answered, sessions.AnswerYes))
	over, past := w.newNotice(from("over", "192.0.2.7"))
	w.mustEnd(sessions.Target{Login: over.ID}, logout(), 0)
	flood := func(n int, name string) (last *sessions.Login) {
		for i := range n {
			w.pass(time.Second)
			last = w.loginIn(w.realm, "alex", from(fmt.Sprint(name, i), "192.0.2.7"))
		}
		return last
	}
	// The answered one gives way first, then the one whose login is over.
	flood(sessions.MaxNotices-3, "device ")
	flood(1, "makes the answered one go ")
	w.is(w.say(owner, answered, sessions.AnswerNo), sessions.ErrNotFound, "the answered notice")
	if !slices.Contains(w.questions(owner), past) {
		w.Error("the question about a login that is over went before an answered one")
	}
	newest := flood(1, "makes the one over go ")
	if got := w.questions(owner); len(got) != sessions.MaxNotices || slices.Contains(got, past) || !slices.Contains(got, id) {
		w.Fatalf("%d questions, want %d, without %s and with %s", len(got), sessions.MaxNotices, past, id)
	}
	last := flood(5, "too many ")
	w.pass(time.Second)
	twin := w.quiet(from("too many 0", "192.0.2.7"))
	got := w.questions(owner)
	if len(got) != sessions.MaxNotices || !slices.Contains(got, id) {
		w.Fatalf("%d questions, want %d with %s", len(got), sessions.MaxNotices, id)
	}
	crowded := got[0][:26]
	if got[0] != crowded+"!!" {
		w.Errorf("a notice that stands for others can be answered with yes")
	}
	for what, by := range map[string]*sessions.Login{"the one in question": again, "one without a notice": last, "its browser, again": twin} {
		w.is(w.say(by, id, sessions.AnswerYes), sessions.ErrAnswer, "yes in %s", what)
	}
	w.is(w.say(owner, crowded, sessions.AnswerYes), sessions.ErrAnswer, "yes to a notice that stands for others")
	w.ok(w.say(owner, crowded, sessions.AnswerNo))
	for what, login := range map[string]*sessions.Login{"the newest": newest, "the last": last, "its browser, again": twin} {
		w.lives(login, false, what)
	}
	w.lives(again, true, "what another question is about")
	w.ok(w.say(owner, id, sessions.AnswerNo))
	w.lives(again, false, "the first one in question")
	w.lives(owner, true, "the owner's login")
	// Of whom the question gave way, he is new once more.
	w.newNotice(from("over", "192.0.2.7"))
}

// Whoever signs in again while the question is answered with no is ended with
// the others, or begins as a stranger.
func raceToShareQuestion(w *world) {
	w.user("alex")
	owner := w.quiet(from("laptop", "192.0.2.7"))
	for range 6 {
		_, id := w.newNotice(from("phone", "192.0.2.7"))
		w.race(8, func(i int, _ ServerStore, realm RealmStore) bool {
			var err error
			if i == 3 {
				err = realm.AnswerNotice(w.Context(), "alex", id, owner.ID, sessions.AnswerNo, logout())
			} else {
				_, err = realm.SignIn(w.Context(), w.signIn("alex", from("phone", "192.0.2.7")), sessions.Ending{})
			}
			if err != nil {
				w.Error(err)
			}
			return err == nil
		})
		open := w.open("alex")
		logins, err := w.realm.Logins(w.Context(), "alex")
		w.ok(err)
		for _, login := range logins {
			if login.ID != owner.ID && len(open) == 0 {
				w.Error("a login outlived the answer, and nobody is asked about it")
			}
		}
		for _, n := range open {
			w.ok(w.say(owner, n.ID, sessions.AnswerNo))
		}
		if logins, err := w.realm.Logins(w.Context(), "alex"); err != nil || len(logins) != 1 {
			w.Errorf("%d logins after all answers, want the owner's: %v", len(logins), err)
		}
	}
}
