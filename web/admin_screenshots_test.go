package web_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/uuid"

	"gatehouse.dev/gatehouse/users"
)

// agents are browsers that people have.
var agents = []string{
	"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 14_0) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15",
	"Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36",
}

// crowded is a house in which a lot goes on: people with several browsers and
// applications, one of them locked, and an administrator called root.
func crowded(t *testing.T) *house {
	h := open(t, nil)
	h.addAdmin("root")
	people := []struct{ name, shown, email string }{
		{"maximiliane", "Maximiliane Freifrau von Hohenstein-Wackerbarth", "maximiliane@example.com"},
		{"marc.dubois", "Marc Dubois", "marc.dubois@example.com"}, {"maria", "María José Fernández", "maria@example.com"},
		{"matteo", "Matteo Rossi", ""}, {"mallory", "Mallory", "mallory@example.com"},
	}
	for _, p := range people {
		if err := h.realm.InsertUser(t.Context(), &users.User{ID: uuid.NewString(), Username: p.name, CreatedAt: h.now().Add(-400 * 24 * time.Hour),
			Claims: users.Claims{Name: p.shown, Email: p.email}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 9 {
		p := people[i%4]
		login := h.loginOf(p.name, fmt.Sprintf([]string{"192.0.2.%d", "2001:db8:85a3:8d3:1319:8a2e:370:%d"}[i%2], 11*i+3), agents[i%len(agents)])
		if i == 4 {
			if err := h.realm.NameLogin(t.Context(), h.userID(p.name), login.ID, "The phone in the kitchen"); err != nil {
				t.Fatal(err)
			}
		}
		h.wait(37 * time.Minute)
	}
	h.lock("mallory")
	for i, scope := range []string{"openid profile", "openid profile offline_access"} {
		b := h.browser()
		to := atConsent(h, b, h.request([]string{"album", "long"}[i], "scope", scope), "alex", alexPassword)
		b.redeem(b.submit(to, "decision", "allow"), []string{"album", "long"}[i])
		if i == 1 {
			b.submit(b.get(h.base + "/logout"))
		} else {
			b.redeem(b.get(h.request("house", "scope", "openid")), "house")
		}
		h.wait(25 * time.Minute)
	}
	return h
}

// redeem follows an answer to the client and redeems the code that it brings.
func (b *browser) redeem(a answer, client string) {
	b.h.t.Helper()
	for strings.HasPrefix(a.location(), b.h.issuer) {
		a = b.get(a.location())
	}
	to, err := url.Parse(a.location())
	if err != nil || to.Query().Get("code") == "" {
		b.h.t.Fatalf("no code: %d, %s, %v", a.status, a.location(), err)
	}
	token := b.do(http.MethodPost, b.h.issuer+"/token", url.Values{"grant_type": {"authorization_code"}, "code": {to.Query().Get("code")},
		"redirect_uri": {"https://" + client + ".example/callback"}}.Encode(),
		"Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(client+":"+client+"-secret-of-the-house")))
	token.expect(http.StatusOK)
}

// asRoot signs the administrator in and opens a page.
func (w walker) asRoot(path string) {
	w.t.Helper()
	w.open(w.h.base + "/admin")
	w.signIn("root", adminPassword)
	w.do(chromedp.WaitVisible(chromedp.CSS("#q")))
	if path != "/admin/sessions" {
		w.open(w.h.base + path)
	}
}

// tooLate confirms a lock when the sign-in is too old for it.
func (w walker) tooLate() {
	w.t.Helper()
	w.asRoot("/admin/users/" + w.h.userID("marc.dubois") + "/lock")
	w.h.wait(16 * time.Minute)
	w.click(".choice button")
}

// manyPeople adds more than a search shows.
func (w walker) manyPeople() {
	for i := range 20 {
		w.h.addAccount(fmt.Sprintf("mitarbeiter.%02d", i))
	}
}

var adminScenes = []scene{
	{"admin-sessions", crowded, func(w walker) { w.asRoot("/admin/sessions") }},
	{"admin-search", crowded, func(w walker) {
		w.asRoot("/admin/sessions")
		w.do(chromedp.SendKeys(chromedp.CSS("#q"), "ma"), chromedp.WaitVisible(chromedp.CSS(".suggestions li")))
	}},
	{"admin-found", crowded, func(w walker) { w.asRoot("/admin/sessions?q=ma&user=&browser=Firefox&address=nonsense") }},
	{"admin-user", crowded, func(w walker) {
		user := w.h.userID("alex")
		w.asRoot("/admin/users/" + user)
	}},
	{"admin-user-locked", crowded, func(w walker) {
		w.asRoot("/admin/users/" + w.h.userID("marc.dubois") + "/lock")
		w.click(".choice button")
	}},
	{"admin-lock", crowded, func(w walker) { w.asRoot("/admin/users/" + w.h.userID("alex") + "/lock") }},
	{"admin-undone-asked", crowded, func(w walker) { w.tooLate() }},
	{"admin-undone", crowded, func(w walker) {
		w.tooLate()
		w.signIn("root", adminPassword)
	}},
	{"admin-search-more", crowded, func(w walker) {
		w.manyPeople()
		w.asRoot("/admin/sessions")
		w.do(chromedp.SendKeys(chromedp.CSS("#q"), "m"), chromedp.WaitVisible(chromedp.CSS(".suggestions[data-more] li")))
	}},
	{"admin-found-more", crowded, func(w walker) {
		w.manyPeople()
		w.asRoot("/admin/sessions?q=m")
	}},
	{"admin-end", crowded, func(w walker) {
		w.asRoot("/admin/sessions")
		w.do(chromedp.Click(chromedp.CSS("tr:nth-child(2) input[name=id]")), chromedp.Click(chromedp.CSS("tr:nth-child(4) input[name=id]")))
		if _, err := chromedp.RunResponse(w.tab, chromedp.Click(chromedp.CSS(".table-foot button"))); err != nil {
			w.t.Fatal(err)
		}
	}},
	{"admin-refused", plain, func(w walker) {
		w.open(w.h.request("album"))
		w.signIn("alex", alexPassword)
		w.open(w.h.base + "/admin")
	}},
}
