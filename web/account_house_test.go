package web_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// Browsers as they name themselves.
const (
	agentChrome  = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
	agentIPhone  = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1"
	agentFirefox = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"
)

// use goes through sign-in and consent at a client, where it is asked, and
// redeems the code. It returns the refresh token.
func (b *browser) use(client, scope, username, password string) string {
	b.h.t.Helper()
	a := b.get(b.h.request(client, "scope", scope))
	if strings.Contains(a.body, `name="password"`) {
		a = b.get(b.submit(a, "username", username, "password", password).location())
	}
	if strings.Contains(a.body, `name="decision"`) {
		a = b.get(b.submit(a, "decision", "allow").location())
	}
	to, err := url.Parse(a.location())
	if err != nil || to.Query().Get("code") == "" {
		b.h.t.Fatalf("no code: %d %s\n%s", a.status, a.location(), a.body)
	}
	return b.h.redeem(client, to.Query().Get("code"))
}

func (h *house) redeem(client, code string) string {
	h.t.Helper()
	answer := h.post(client, "/token", url.Values{"grant_type": {"authorization_code"}, "code": {code},
		"redirect_uri": {"https://" + client + ".example/callback"}})
	token, _ := answer["refresh_token"].(string)
	if answer["access_token"] == nil {
		h.t.Fatalf("no token: %v", answer)
	}
	return token
}

// post asks an endpoint of the authorization server as a client. An answer
// without a body is an empty map.
func (h *house) post(client, path string, form url.Values) map[string]any {
	h.t.Helper()
	req, err := http.NewRequest(http.MethodPost, h.issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(client, client+"-secret-of-the-house")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	answer := map[string]any{}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil && !errors.Is(err, io.EOF) { // a revocation has none
		h.t.Fatal(err)
	}
	return answer
}

// refreshes tells whether a refresh token is good for another, and which.
func (h *house) refreshes(client, token string) (string, bool) {
	h.t.Helper()
	next, ok := h.post(client, "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})["refresh_token"].(string)
	return next, ok
}

// busy is a house in which alex has used applications in several browsers, some
// of which have ended.
func busy(t *testing.T) *house {
	h := plain(t)
	h.wait(-6 * 24 * time.Hour)
	for i, agent := range []string{agentFirefox, agentChrome} {
		b := h.browser()
		b.agent = agent
		b.use([]string{"album", "brief"}[i], "openid profile email photos:read", "alex", alexPassword)
		h.wait(26 * time.Hour)
		b.submit(b.enterAgain("alex", alexPassword, "/account/sessions/end?what=all"))
	}
	old := h.browser()
	old.agent = agentFirefox
	old.use("long", "openid offline_access", "alex", alexPassword)
	h.wait(40 * time.Minute)
	old.submit(old.get(h.base + "/logout"))
	h.wait(-time.Duration(h.later.Load()) - 24*time.Hour)
	phone := h.browser()
	phone.agent = agentIPhone
	h.wait(20 * time.Hour) // so it was four hours ago
	phone.use("album", "openid profile email photos:read offline_access", "alex", alexPassword)
	phone.use("brief", "openid", "alex", alexPassword)
	logins := h.logins("alex")
	if err := h.realm.NameLogin(t.Context(), h.userID("alex"), logins[0].ID, "Alex’s phone"); err != nil {
		t.Fatal(err)
	}
	h.wait(3 * time.Hour)
	work := h.browser()
	work.agent = agentFirefox
	work.use("long", "openid profile", "alex", alexPassword)
	h.wait(12 * time.Minute)
	h.wait(-time.Duration(h.later.Load())) // until now
	return h
}

// asked is a house in which alex is asked about sign-ins, in a browser that is
// itself in question.
func asked(t *testing.T) *house {
	h, _ := openNoticing(t, nil)
	h.wait(-3 * time.Hour)
	for i, agent := range []string{agentChrome, agentFirefox, agentIPhone} {
		b := h.browser()
		b.agent = agent
		b.signIn(h.request("album"), "alex", alexPassword)
		if i == 1 {
			b.submit(b.get(h.base + "/logout"))
		}
		h.wait(time.Hour)
	}
	return h
}

// enterAgain signs in for the account page, where that is needed, and goes on to
// one of them.
func (b *browser) enterAgain(username, password, path string) answer {
	b.h.t.Helper()
	if a := b.get(b.h.base + "/account"); strings.Contains(a.body, `name="password"`) {
		b.submit(a, "username", username, "password", password)
	}
	return b.get(b.h.base + path).expect(200)
}

// enter signs the real browser in and opens an account page.
func (w walker) enter(path string) {
	w.t.Helper()
	w.open(w.h.base + "/account")
	w.signIn("alex", alexPassword)
	w.open(w.h.base + path)
}

// click follows what leads to another page.
func (w walker) click(selector string) {
	w.t.Helper()
	if _, err := chromedp.RunResponse(w.tab, chromedp.Click(chromedp.CSS(selector))); err != nil {
		w.t.Fatal(err)
	}
}

// fill fills in fields by their ids and sends the form.
func (w walker) fill(values map[string]string) {
	w.t.Helper()
	for id, value := range values {
		if _, err := chromedp.Run(w.tab, chromedp.Evaluate[string](fmt.Sprintf("document.getElementById(%q).value = %q", id, value))); err != nil {
			w.t.Fatal(err)
		}
	}
	w.click("main form button.primary")
}
