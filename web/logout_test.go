package web_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/storage"
)

// endSession is a logout request to the authorization server.
func (h *house) endSession(pairs ...string) string {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return h.issuer + "/end_session?" + q.Encode()
}

// uses takes the browser, in which somebody is signed in, to a client, with
// consent where it is asked for, and has the client get its tokens. It returns
// the ID token.
func (h *house) uses(b *browser, client string, change ...string) (idToken string) {
	h.t.Helper()
	a := b.get(h.request(client, change...))
	if a.status == http.StatusOK {
		a = b.get(b.submit(a, "decision", "allow").expect(303).location())
	}
	to, err := url.Parse(a.location())
	if err != nil || to.Query().Get("code") == "" {
		h.t.Fatalf("no code for %s: %d to %s\n%s", client, a.status, a.location(), a.body)
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {to.Query().Get("code")}, "redirect_uri": {"https://" + client + ".example/callback"}}
	req, err := http.NewRequest(http.MethodPost, h.issuer+"/token", strings.NewReader(form.Encode()))
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
	var tokens struct {
		ID string `json:"id_token"`
	}
	if err := json.NewDecoder(res.Body).Decode(&tokens); err != nil || res.StatusCode != http.StatusOK || tokens.ID == "" {
		h.t.Fatalf("no tokens for %s: %s, %v", client, res.Status, err)
	}
	return tokens.ID
}

// leaving signs alex in, has him use clients, the last with offline access, and
// gives the browser his cookie.
func (w walker) leaving(clients ...string) {
	w.t.Helper()
	b := w.h.browser()
	b.signIn(w.h.request("house"), "alex", alexPassword)
	for i, client := range clients {
		var change []string
		if i == len(clients)-1 && i > 0 {
			change = []string{"scope", "openid offline_access"}
		}
		w.h.uses(b, client, change...)
	}
	given := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		http.SetCookie(out, &http.Cookie{Name: "gatehouse-default", Value: b.cookie(), Path: "/"})
	}))
	defer given.Close()
	w.open(given.URL) // cookies of a host are for all of its ports
}

// press submits a form and waits until the browser is on another page.
func (w walker) press(selector string) {
	w.t.Helper()
	if _, err := chromedp.RunResponse(w.tab, chromedp.Click(chromedp.CSS(selector))); err != nil {
		w.t.Fatal(err)
	}
}

// TestSignOutSaysWhatEnds, before and after, and what goes on.
func TestSignOutSaysWhatEnds(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	b.signIn(h.request("house"), "alex", alexPassword)
	b.get(h.base+"/logout").expect(200, "Signing out ends your sign-in in this browser.", "Stay signed in")
	hint := h.uses(b, "house")
	h.uses(b, "album")
	h.uses(b, "evil", "scope", "openid offline_access")
	const albums, evils = "<li><bdi>Photo Album</bdi></li>", "<li><bdi>&#34;&gt;&lt;script&gt;"
	page := b.get(h.base+"/logout").expect(200, "and with it your sessions at:", "<li><bdi>House</bdi></li>", albums, "You allowed access while you are away", evils)
	for _, a := range []answer{page, b.get(h.endSession("client_id", "album", "logout_hint", "alex")).expect(200, "<strong><bdi>Photo Album</bdi></strong> asks you to sign out.")} {
		ends, stays, _ := strings.Cut(a.body, "You allowed access")
		if !strings.Contains(ends, albums) || strings.Contains(ends, evils) || !strings.Contains(stays, evils) || strings.Contains(stays, albums) {
			t.Errorf("the page mixes what ends and what stays:\n%s", a.body)
		}
		if !strings.Contains(a.body, `<a class="button" href="/realms/default/login">Stay signed in</a>`) {
			t.Errorf("no way to stay:\n%s", a.body)
		}
	}
	b.get(h.base+"/login").expect(200, "You are signed in as") // where "Stay signed in" leads
	if len(h.logins("alex")) != 1 {
		t.Fatal("somebody was signed out by looking")
	}
	a := b.get(h.endSession("id_token_hint", hint)).expect(200, "You are signed out", "Your sessions have ended at:", "<li><bdi>House</bdi></li>", albums, "keep the access", evils)
	ended, kept, _ := strings.Cut(a.body, "keep the access")
	if strings.Contains(ended, evils) || strings.Contains(kept, albums) || b.cookie() != "" || len(h.logins("alex")) != 0 {
		t.Errorf("the page mixes what has ended and what goes on:\n%s", a.body)
	}
	// What was signed out of is not told to whoever comes next.
	if a := b.get(h.base + "/logout"); strings.Contains(a.body, "<bdi>") {
		t.Errorf("the page names applications:\n%s", a.body)
	}
	events, err := h.realm.Events(context.Background(), audit.Filter{Types: []audit.Type{audit.LoginEnded}, ClientID: "house"})
	if err != nil || len(events) != 1 || events[0].Actor != "user:"+h.userID("alex") || events[0].Reason != "logout" || events[0].AuthorizationServer != "myAS" {
		t.Errorf("recorded: %+v, %v", events, err)
	}
}

// TestManyApplicationsAreCounted: the page stays readable.
func TestManyApplicationsAreCounted(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	b.signIn(h.request("house"), "alex", alexPassword)
	store := h.db.For(storage.ServerConfig{Name: "myAS", Realm: "default", Lifetimes: houseLifetimes})
	for i := range 22 {
		c := houseClient(fmt.Sprintf("app-%02d", i), fmt.Sprintf("App %02d", i))
		sum := sha256.Sum256([]byte(c.ClientSecret))
		c.SecretSHA, c.ClientSecret = sum[:], ""
		if err := store.InsertClient(context.Background(), &c); err != nil {
			t.Fatal(err)
		}
		h.uses(b, c.ClientID)
	}
	a := b.get(h.base+"/logout").expect(200, "App 00", "App 19", "and 2 more")
	if strings.Contains(a.body, "App 20") {
		t.Errorf("more names than a page has:\n%s", a.body)
	}
}

// TestLogoutHintIsWhoeverItNames: name, mail address and sub, in any case.
func TestLogoutHintIsWhoeverItNames(t *testing.T) {
	h := open(t, nil)
	for hint, known := range map[string]bool{"": true, "alex": true, " ALEX ": true, h.userID("alex"): true, "bob": false, h.userID("bob"): false, "ale": false, "alex@evil.example": false} {
		b := h.browser()
		b.signIn(h.request("house"), "alex", alexPassword)
		a := b.get(h.endSession("id_token_hint", h.uses(b, "house"), "logout_hint", hint, "post_logout_redirect_uri", "https://house.example/bye"))
		if out := b.cookie() == ""; out != known || known == strings.Contains(a.body, "The request is about") {
			t.Errorf("%q: signed out %v, want %v\n%s", hint, out, known, a.body)
		}
	}
}
