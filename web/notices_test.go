package web_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"gatehouse.dev/gatehouse/mail"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
	"gatehouse.dev/gatehouse/web"
)

const firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

// openNoticing is a house that tells of sign-ins from elsewhere, and where
// requests come from.
func openNoticing(t *testing.T, change func(*web.Config)) (*house, *atomic.Value) {
	t.Helper()
	from := &atomic.Value{}
	from.Store("192.0.2.7")
	var store sessions.NoticeStore
	h := open(t, func(cfg *web.Config) {
		store = cfg.Logins.(sessions.NoticeStore)
		cfg.Notices = &sessions.Notices{Store: store, Now: cfg.Now}
		cfg.Mail = true
		cfg.ClientAddress = func(*http.Request) string { return from.Load().(string) }
		if change != nil {
			change(cfg)
		}
	})
	phc, err := h.passwords.Hash(context.Background(), "correct horse eve")
	if err != nil {
		t.Fatal(err)
	}
	for name, claims := range map[string]users.Claims{"eve": {Email: "eve@example.com"}, "fritz": {Email: "fritz@example.com", Locale: "de-AT"}, "fred": {Email: "fred@example.com", Locale: "fr"}} {
		if err := h.realm.InsertUser(context.Background(), &users.User{ID: uuid.NewString(), Username: name, Password: phc, Claims: claims,
			Salt: make([]byte, 32), CreatedAt: h.now()}); err != nil {
			t.Fatal(err)
		}
	}
	return h, from
}

// noticed are the notices that a user has not answered, as "device network".
func (h *house) noticed(name string) []string {
	h.t.Helper()
	list, err := h.realm.OpenNotices(context.Background(), h.userID(name), "", time.Time{}, 100)
	if err != nil {
		h.t.Fatal(err)
	}
	out := []string{}
	for _, n := range list {
		out = append(out, strings.TrimSpace(map[bool]string{true: "device"}[n.Device]+" "+map[bool]string{true: "network"}[n.Network]))
	}
	return out
}

// disown answers one of the user's notices, newest first, with no.
func (h *house) disown(name string, i int) {
	h.t.Helper()
	notices := sessions.Notices{Store: h.realm, Now: h.now}
	list, err := notices.Open(context.Background(), sessions.Person{UserID: h.userID(name)})
	if err == nil {
		err = notices.Answer(context.Background(), sessions.Person{UserID: h.userID(name)}, list[i].ID, sessions.AnswerNo)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func TestSignInFromElsewhereIsNoticed(t *testing.T) {
	h, from := openNoticing(t, nil)
	wants := func(what string, want ...string) {
		t.Helper()
		if got := h.noticed("alex"); !slices.Equal(got, append([]string{}, want...)) {
			t.Errorf("%s: notices %q, want %q", what, got, want)
		}
	}
	first := h.browser()
	a := first.signIn(h.request("album"), "alex", alexPassword)
	wants("the first sign-in")
	var device *http.Cookie
	for _, line := range a.header.Values("Set-Cookie") {
		if c, err := http.ParseSetCookie(line); err == nil && c.Name == "gatehouse-device.default" {
			device = c
		}
	}
	if device == nil || !device.HttpOnly || device.SameSite != http.SameSiteLaxMode || device.Path != "/" || device.MaxAge != 400*24*3600 || device.Domain != "" || len(device.Value) != 43 {
		t.Fatalf("the device cookie is %+v", device)
	}
	again := first.signIn(h.request("album", "prompt", "login"), "alex", alexPassword)
	if !strings.Contains(strings.Join(again.header.Values("Set-Cookie"), "\n"), "gatehouse-device.default="+device.Value) {
		t.Error("the browser's mark is another at its second sign-in")
	}
	first.submit(first.get(h.base + "/logout"))
	first.signIn(h.request("album"), "alex", alexPassword)
	wants("the same browser, signed out and in")

	second := h.browser()
	second.submit(second.get(h.request("album")), "username", "alex", "password", "wrong").expect(422)
	wants("a wrong password elsewhere")
	second.signIn(h.request("album"), "alex", alexPassword)
	wants("another browser", "device")
	from.Store("192.0.2.200")
	h.browser().signIn(h.request("album"), "bob", bobPassword)
	first.signIn(h.request("album", "prompt", "login"), "alex", alexPassword)
	wants("another address of the network", "device")
	from.Store("2001:db8::1")
	first.signIn(h.request("album", "prompt", "login"), "alex", alexPassword)
	wants("another network", "network", "device")

	// One browser, two users: what is known of one is not known of the other.
	first.signIn(h.request("album", "prompt", "select_account"), "bob", bobPassword)
	if got := h.noticed("bob"); !slices.Equal(got, []string{"device network"}) {
		t.Errorf("bob's notices are %q", got)
	}
	// A cookie that is not of our making is no mark.
	for _, value := range []string{"", "x", strings.Repeat("!", 43), strings.Repeat("A", 4000)} {
		b := h.browser()
		page := b.get(h.request("album"))
		to, v := page.form("username", "eve", "password", "correct horse eve")
		before := len(h.noticed("eve"))
		a := b.do(http.MethodPost, to, v.Encode(), "Cookie", "gatehouse-device.default="+value)
		if value != "" && (a.status != 303 || !strings.Contains(strings.Join(a.header.Values("Set-Cookie"), "\n"), "gatehouse-device.default=")) {
			t.Errorf("with the mark %.10q: %d", value, a.status)
		}
		if value != "" && len(h.noticed("eve")) != before+1 {
			t.Errorf("with the mark %.10q the browser is known", value)
		}
	}
}

func TestNothingIsMarkedWithoutNotices(t *testing.T) {
	h := open(t, nil)
	if a := h.browser().signIn(h.request("album"), "alex", alexPassword); strings.Contains(strings.Join(a.header.Values("Set-Cookie"), "\n"), "device") {
		t.Errorf("a mark is set: %q", a.header.Values("Set-Cookie"))
	}
}

func TestDeviceCookieHasItsPrefixOverHTTPS(t *testing.T) {
	if name := (sessions.DeviceCookie{Realm: "staff", Secure: true}).Name(); name != "__Host-gatehouse-device.staff" {
		t.Errorf("the cookie is %s", name)
	}
	// No realm's login cookie has the name of another realm's mark.
	if (sessions.DeviceCookie{Realm: "staff"}).Name() == (sessions.Cookie{Realm: "device-staff"}).Name() {
		t.Error("a login cookie and a mark have one name")
	}
	c := sessions.DeviceCookie{Realm: "staff"}
	if a, b := c.Mark("value", "alex"), c.Mark("value", "bea"); len(a) != 32 || slices.Equal(a, b) {
		t.Error("users of one browser can be told to be so")
	}
}

func TestAccountPageAsksWhetherItWasYou(t *testing.T) {
	for lang, words := range map[string][]string{
		"en": {"Was this you?", "a device that was not used before", "Firefox on Linux", "192.0.2.7", "Yes, it was me", "No, end it and change my password", "Thank you.", "has been ended"},
		"de": {"Waren Sie das?", "auf einem Gerät angemeldet", "Firefox unter Linux", "192.0.2.7", "Ja, das war ich", "Nein, beenden und mein Passwort ändern", "Danke.", "wurde beendet"},
	} {
		h, _ := openNoticing(t, nil)
		home := h.browser()
		home.accept = lang
		if page := home.enter("alex", alexPassword); strings.Contains(page.body, words[0]) {
			t.Errorf("the first sign-in is asked about:\n%s", page.body)
		}
		elsewhere := func() *browser {
			b := h.browser()
			b.accept = lang
			page := b.get(h.request("album"))
			to, v := page.form("username", "alex", "password", alexPassword)
			if a := b.do(http.MethodPost, to, v.Encode(), "User-Agent", firefox); a.status != 303 {
				t.Fatalf("signing in elsewhere: %d", a.status)
			}
			return b
		}
		other := elsewhere()
		page := home.get(h.base+"/account/sessions").expect(200, words[:6]...)
		for _, fault := range faults(page.body, lang) {
			t.Errorf("%s: %s", lang, fault)
		}
		// The one who may be a thief is not asked.
		if page := other.get(h.base + "/account/sessions").expect(200); strings.Contains(page.body, "notice-") || strings.Contains(page.body, `name="answer"`) {
			t.Errorf("the new browser is asked about itself")
		}
		a := home.submit(page, "answer", "yes")
		if a.status != 303 || a.said() != "/realms/default/account/sessions?done=confirmed" {
			t.Fatalf("yes: %d to %s", a.status, a.location())
		}
		if page := home.follow(a).expect(200, words[6]); strings.Contains(page.body, words[0]) {
			t.Error("what was answered is asked again")
		}
		other.get(h.base + "/account/sessions").expect(200)

		other = elsewhere()
		if page := elsewhere().get(h.base+"/account/sessions").expect(200, words[0], words[5]); strings.Contains(page.body, words[4]) {
			t.Error("a browser that is in question vouches for another")
		}
		h.disown("alex", 0)
		a = home.submit(home.get(h.base+"/account/sessions"), "answer", "no")
		if a.status != 303 || a.said() != "/realms/default/account/password?done=disowned" {
			t.Fatalf("no: %d to %s", a.status, a.location())
		}
		page = home.follow(a).expect(200, words[7], `name="new"`)
		for _, fault := range faults(page.body, lang) {
			t.Errorf("%s, password: %s", lang, fault)
		}
		if page := other.get(h.base + "/account/sessions"); !strings.Contains(page.body, `name="password"`) {
			t.Errorf("the sign-in that was disowned goes on:\n%s", page.body)
		}
		if n := len(h.logins("alex")); n != 2 {
			t.Errorf("%d logins are left, want 2", n)
		}
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	h, _ := openNoticing(t, nil)
	alex, thief, bob := h.browser(), h.browser(), h.browser()
	alex.enter("alex", alexPassword)
	thief.signIn(h.request("album"), "alex", alexPassword)
	bob.enter("bob", bobPassword)
	h.browser().signIn(h.request("album"), "bob", bobPassword)
	page := alex.get(h.base + "/account/sessions").expect(200)
	to, v := page.form()
	bobsTo, bobs := bob.get(h.base + "/account/sessions").expect(200).form()
	with := func(v url.Values, pairs ...string) string {
		out := url.Values{}
		for key, values := range v {
			out[key] = values
		}
		for i := 0; i < len(pairs); i += 2 {
			out.Set(pairs[i], pairs[i+1])
		}
		return out.Encode()
	}
	for _, tt := range []struct {
		name   string
		who    *browser
		to     string
		body   string
		header []string
		want   int
	}{
		{"no seal", alex, to, "answer=no", nil, 403},
		{"another's seal", alex, to, with(bobs, "answer", "no"), nil, 403},
		{"in another login of the same user", thief, to, with(v, "answer", "yes"), nil, 403},
		{"by another user", bob, to, with(v, "answer", "no"), nil, 403},
		{"by another user with a seal of his", bob, to, with(bobs, "answer", "no"), nil, 403},
		{"another notice by its seal", alex, bobsTo, with(v, "answer", "no"), nil, 403},
		{"another site's form", alex, to, with(v, "answer", "no"), []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, 403},
		{"no answer", alex, to, with(v), nil, 400},
		{"another answer", alex, to, with(v, "answer", "perhaps"), nil, 400},
		{"signed out", h.browser(), to, with(v, "answer", "no"), nil, 303},
	} {
		a := tt.who.do(http.MethodPost, tt.to, tt.body, tt.header...)
		if a.status != tt.want && (tt.want != 403 || a.status != 400) {
			t.Errorf("%s: %d, want %d", tt.name, a.status, tt.want)
		}
		if n, m := len(h.noticed("alex")), len(h.logins("alex")); n != 1 || m != 2 {
			t.Fatalf("%s: %d notices and %d logins, want 1 and 2", tt.name, n, m)
		}
	}
	if a := alex.do(http.MethodGet, to, ""); a.status != 405 {
		t.Errorf("GET: %d", a.status)
	}
	// The same form a second time does no harm.
	for range 2 {
		if a := alex.do(http.MethodPost, to, with(v, "answer", "no")); a.status != 303 {
			t.Errorf("no: %d", a.status)
		}
	}
	if n := len(h.logins("alex")); n != 1 {
		t.Errorf("%d logins are left, want 1", n)
	}
}

func TestMailIsInTheUsersLanguage(t *testing.T) {
	h, _ := openNoticing(t, nil)
	for _, tt := range []struct{ name, accept, locales, want string }{
		{"eve", "de", "", "de"},
		{"eve", "de", "en", "en"},
		{"eve", "", "", "en"},
		{"fritz", "en", "en", "de"},
		{"fred", "de", "", "de"},
		{"fred", "", "", "en"},
	} {
		request := h.request("album")
		if tt.locales != "" {
			request = h.request("album", "ui_locales", tt.locales)
		}
		h.browser().signIn(request, tt.name, "correct horse eve") // the first
		h.wait(2 * time.Hour)
		b := h.browser()
		b.accept = tt.accept
		b.signIn(request, tt.name, "correct horse eve")
		list, err := h.db.ClaimLetters(t.Context(), []string{"default"}, 10, 100*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		list = slices.DeleteFunc(list, func(l mail.Letter) bool { return h.now().Sub(l.Notice.At) > time.Hour })
		if len(list) != 1 || list[0].Language != tt.want || list[0].To != tt.name+"@example.com" {
			t.Errorf("%s, who reads %q and asks for %q: letters %+v, want one in %s", tt.name, tt.accept, tt.locales, list, tt.want)
		}
	}
	// Who has no address is told on the page alone.
	h.browser().signIn(h.request("album"), "alex", alexPassword)
	h.browser().signIn(h.request("album"), "alex", alexPassword)
	list, err := h.db.ClaimLetters(t.Context(), []string{"default"}, 10, time.Hour)
	if err != nil || len(list) != 0 || len(h.noticed("alex")) != 1 {
		t.Errorf("letters to nobody: %+v, %v", list, err)
	}
}

func TestNoMailWaitsWithoutAServer(t *testing.T) {
	h, _ := openNoticing(t, func(cfg *web.Config) { cfg.Mail = false })
	for range 2 {
		h.browser().signIn(h.request("album"), "eve", "correct horse eve")
	}
	list, err := h.db.ClaimLetters(t.Context(), []string{"default"}, 10, time.Hour)
	if err != nil || len(list) != 0 || len(h.noticed("eve")) != 1 {
		t.Errorf("letters %+v, %v, notices %q", list, err, h.noticed("eve"))
	}
}

func TestLetterSaysWhatHappened(t *testing.T) {
	h, _ := openNoticing(t, func(cfg *web.Config) { cfg.Appearance.Name = "Häuser & Söhne" })
	n := sessions.Notice{ID: "ID", Device: true, Address: "192.0.2.7", UserAgent: firefox, At: time.Date(2031, 5, 6, 7, 8, 59, 0, time.UTC)}
	for lang, want := range map[string][]string{
		"en": {"New sign-in to your account at Häuser & Söhne", "Somebody has just signed in to your account at Häuser & Söhne from a device that was not used before.",
			"Device: Firefox on Linux\nAddress: 192.0.2.7\nTime: 6 May 2031, 07:08 UTC\n", "\n" + h.base + "/account/sessions\n"},
		"de": {"Neue Anmeldung an Ihrem Konto bei Häuser & Söhne", "auf einem Gerät angemeldet", "Gerät: Firefox unter Linux\nAdresse: 192.0.2.7\nZeit: 6. Mai 2031, 07:08 UTC\n",
			"\n" + h.base + "/account/sessions\n"},
		"xx": {"New sign-in to your account"},
	} {
		text, err := h.pages.Letter(n, lang)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(text.Subject, want[0]) || text.Sender != "Häuser & Söhne" {
			t.Errorf("%s: subject %q of %q", lang, text.Subject, text.Sender)
		}
		for _, part := range want[1:] {
			if !strings.Contains(text.Body, part) {
				t.Errorf("%s: the body lacks %q:\n%s", lang, part, text.Body)
			}
		}
		if strings.Count(text.Body, "://") != 1 || strings.Contains(text.Body, "?") || strings.Contains(text.Body, n.ID) {
			t.Errorf("%s: the body has another link, or one that does something:\n%s", lang, text.Body)
		}
	}
	bodies := map[string]bool{}
	for _, what := range []sessions.Notice{{Device: true}, {Network: true}, {Device: true, Network: true}} {
		text, err := h.pages.Letter(what, "en")
		if err != nil {
			t.Fatal(err)
		}
		bodies[text.Body] = true
	}
	if len(bodies) != 3 {
		t.Errorf("%d texts say what is new, want 3", len(bodies))
	}
	// Whoever signs in writes the user agent; he must not write the mail.
	for _, agent := range []string{"", "Evil.example/1.0 (https://evil.example/reset)", "Go to evil.example now/1.0", "x\r\nBcc: eve@example.com/1", "\u202emoc.live/2",
		"Mozilla/5.0 (Call +41 44 000 00 00; rv:1) Click-Here/1.0", strings.Repeat("evil ", 1000) + "/1.0"} {
		n.UserAgent = agent
		text, err := h.pages.Letter(n, "en")
		if err != nil {
			t.Fatal(err)
		}
		if low := strings.ToLower(text.Subject + text.Body); strings.Contains(low, "evil") || strings.Contains(low, "eve@") || strings.Contains(low, "+41") || strings.ContainsRune(low, '\u202e') || strings.Contains(low, "\r") {
			t.Errorf("the user agent %.60q is in the mail:\n%s", agent, text.Body)
		}
	}
}
