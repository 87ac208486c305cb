//go:build unix

package main

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/deliveries"
	"gatehouse.dev/gatehouse/storage"
)

// The history says which application was told of an ending and which was not,
// to the user and to an administrator, as the outbox has it at that moment.
func TestHistorySaysWhoWasTold(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, database string) {
		answers, closed := newEar(t), newEar(t)
		s := startServer(t, serverOptions{Database: database, Config: func(cfg *configs.Config) {
			demoClient(cfg, demoFirst).BackchannelLogoutURI = answers.URL + "/" + demoFirst
			demoClient(cfg, demoSecond).BackchannelLogoutURI = closed.URL + "/" + demoSecond
		}})
		answers.issuer = s.Issuer(demoServer)
		closed.close()
		calendar := party{demoServer, demoSecond, "calendar-demo", "http://localhost:9002/callback"}
		b := newBrowser(t)
		sids := map[string]string{}
		for _, p := range []party{albumParty, calendar} {
			d := &desk{party: p, issuer: s.Issuer(demoServer), http: &http.Client{}, t: t}
			b.visitor.username, b.visitor.password = b.Username, b.Password
			sids[p.id] = d.introspect(d.redeem(d.authorize(b.visitor).Get("code")).Access).SID
		}
		signOut(b, s.URL)
		owed := func(client string, state deliveries.State) []deliveries.Delivery {
			t.Helper()
			list, err := s.db.Deliveries(t.Context(), demoServer, deliveries.Filter{ClientID: client, SessionID: sids[client], State: state})
			if err != nil {
				t.Fatal(err)
			}
			return list
		}
		pollSlowly(t, "one application has answered, and the other was tried", func() bool {
			waiting := owed(demoSecond, deliveries.Waiting)
			return len(owed(demoFirst, deliveries.Sent)) == 1 && len(waiting) == 1 && waiting[0].LastError != ""
		})
		told := "told " + owed(demoFirst, deliveries.Sent)[0].SettledAt.UTC().Format("2006-01-02 15:04") + " UTC"

		user, err := s.db.Realm(storage.RealmConfig{Name: defaultRealm}).UserByName(t.Context(), "alex")
		if err != nil {
			t.Fatal(err)
		}
		pages := map[string]*browser{
			s.URL + "/account/history":        newBrowser(t),
			s.URL + "/admin/users/" + user.ID: newBrowser(t).As("admin", "admin-demo"),
		}
		says := func(album, calendar string) {
			t.Helper()
			for address, b := range pages {
				lines := pastApplications(b, address)
				if len(lines) != 2 || !saidOnce(lines, "Photo Album", album) || !saidOnce(lines, "Calendar", calendar) {
					t.Errorf("%s says %q, want that Photo Album was %q and Calendar %q", address, lines, album, calendar)
				}
			}
		}
		says(told, "not yet told")

		pollSlowly(t, "the other is given up", func() bool {
			for _, d := range owed(demoSecond, deliveries.Waiting) {
				err := s.db.SettleDelivery(t.Context(), d, deliveries.Outcome{State: deliveries.Abandoned, Error: "given up"})
				if err != nil && !errors.Is(err, deliveries.ErrNotFound) { // it may be tried once more meanwhile
					t.Fatal(err)
				}
			}
			return len(owed(demoSecond, deliveries.Abandoned)) == 1
		})
		says(told, "could not be told")
	})
}

// saidOnce tells whether one line begins with an application and ends with words.
func saidOnce(lines []string, application, words string) bool {
	n := 0
	for _, line := range lines {
		if strings.HasPrefix(line, application+" ") && strings.HasSuffix(line, " "+words) {
			n++
		}
	}
	return n == 1
}

// pastApplications are the applications in the history on a page, each with
// what is said of it. The browser's user signs in where he is asked to.
func pastApplications(b *browser, address string) (lines []string) {
	b.t.Helper()
	page := b.Page(address)
	for range 8 {
		if to, err := page.Location(); err == nil {
			page = b.Page(to.String())
			continue
		}
		f, _ := b.visitor.fill(page)
		if f == nil {
			break
		}
		page = b.Submit(page, url.Values{"username": {b.Username}, "password": {b.Password}})
	}
	page = b.Page(address) // a sign-in may have led to another page of the same kind
	root, err := html.Parse(strings.NewReader(text(b.t, page)))
	if err != nil || page.StatusCode != http.StatusOK {
		b.t.Fatalf("%s: %s, %v", address, page.Status, err)
	}
	for list := range root.Descendants() {
		if attribute(list, "class") != "past-apps" {
			continue
		}
		for n := range list.Descendants() {
			if n.Type == html.ElementNode && n.Data == "li" {
				lines = append(lines, content(n))
			}
		}
	}
	return lines
}
