//go:build unix

package main

import (
	"net/http"
	"net/url"
	"sync"
	"testing"

	"golang.org/x/oauth2"

	"gatehouse.dev/gatehouse/storage/pgtest"
)

// TestOneConnectionIsEnough: whoever holds a connection of the pool never waits
// for another one, so a server with a single connection is slow at worst. Many
// at once do all that clients do.
func TestOneConnectionIsEnough(t *testing.T) {
	t.Parallel()
	for name, database := range map[string]string{"SQLite": "", "PostgreSQL": pgtest.Shared(t).NewDatabase(t)} {
		t.Run(name, func(t *testing.T) {
			o := openOfficeWith(t, serverOptions{Database: database, Connections: 1}, openToUsers)
			var group sync.WaitGroup
			for _, as := range bothServers {
				// What fails the test at once must happen on its own goroutine.
				api, service, inspector := newSessionAPI(t, o.Issuer(as)), o.party(as, "service"), o.party(as, "inspector")
				var held []*holding
				for _, user := range []string{"alex", "bea"} {
					b := newBrowser(t).As(user, user+"-demo")
					for _, client := range []string{"web", "post"} {
						held = append(held, hold(t, o.party(as, client), b), hold(t, o.party(as, client), newBrowser(t).As(user, user+"-demo")))
					}
				}
				for _, h := range held {
					group.Go(func() {
						h.mustLive(t, inspector)
						if r := h.rp.Redeem(t, h.code, h.sent); r.status != http.StatusOK {
							t.Errorf("%s: redeeming: %s", as, r)
						}
						if r := h.rp.Refresh(t, h.refresh); r.status != http.StatusOK {
							t.Errorf("%s: refreshing: %s", as, r)
						}
						if r := service.Token(t, url.Values{"grant_type": {"client_credentials"}}); r.status != http.StatusOK {
							t.Errorf("%s: client credentials: %s", as, r)
						}
						if as == "myAS" {
							if r := api.change(t, h.second, h.sid, `{"deviceName":"Tablet"}`); r.status != http.StatusOK {
								t.Errorf("%s: changing: %s", as, r)
							}
						}
						if r := inquire(t, http.MethodGet, api.issuer+"/sessions/?page[size]=1", inquiry{bearer: h.second}); r.status != http.StatusOK {
							t.Errorf("%s: listing: %s", as, r)
						}
						if r := h.rp.Ask(t, "/revoke", url.Values{"token": {h.first}}); r.status != http.StatusOK {
							t.Errorf("%s: revoking: %s", as, r)
						}
						if r := inquire(t, http.MethodDelete, api.issuer+"/sessions/"+h.sid+"/", inquiry{bearer: h.second}); r.status != http.StatusNoContent {
							t.Errorf("%s: ending: %s", as, r)
						}
					})
				}
			}
			group.Wait()
			// Signing in, out and in again, and everything that ends with it.
			b := newBrowser(t)
			web := o.party("myAS", "web")
			first := web.SignIn(b, oauth2.SetAuthURLParam("scope", "openid offline_access"))
			signOut(b, o.URL)
			again := web.SignIn(b)
			if first.SID == again.SID || web.Userinfo(t, again.Token.AccessToken) != http.StatusOK {
				t.Errorf("sessions %s and %s", first.SID, again.SID)
			}
			if r := (call{method: http.MethodDelete, path: "/sessions/", token: again.Token.AccessToken}).ask(t, newSessionAPI(t, o.Issuer("myAS"))); r.status != http.StatusNoContent {
				t.Errorf("ending everything: %s", r)
			}
			o.mustBeCalm()
		})
	}
}
