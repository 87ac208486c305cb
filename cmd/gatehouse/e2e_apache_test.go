//go:build unix

package main

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/deliveries"
)

// intranet is an office with two more relying parties, each an Apache.
type intranet struct {
	*office
	first, second *apache
}

func openIntranet(t *testing.T) *intranet {
	t.Helper()
	needsApache(t)
	n := &intranet{}
	n.office = openOffice(t, "", func(cfg *configs.Config) {
		as := cfg.AuthorizationServers[demoServer]
		for _, party := range []struct {
			address, id string
			apache      **apache
		}{{"127.0.0.1", "intranet", &n.first}, {"127.0.0.2", "wiki", &n.second}} {
			a, client := startApache(t, party.address, party.id, cfg.PublicURL)
			*party.apache = a
			as.Clients = append(as.Clients, client)
		}
	})
	return n
}

// visitorOfBoth is a browser that is signed in at both Apaches.
type visitorOfBoth struct {
	*browser
	first, second string // ids of its sessions there
}

func (n *intranet) visitor(t *testing.T) visitorOfBoth {
	t.Helper()
	b := newBrowser(t)
	v := visitorOfBoth{browser: b, first: n.first.SignIn(b), second: n.second.SignIn(b)}
	if v.first == v.second {
		t.Fatalf("both clients have the session %s", v.first)
	}
	return v
}

// toldWithin is how long the way of a logout message may take here.
const toldWithin = time.Minute

// mustTurn waits until an Apache shows the browser the sign-in form instead of
// the page of a session.
func (n *intranet) mustTurn(a *apache, b *browser, sid string) {
	b.t.Helper()
	ctx, end := context.WithTimeout(b.t.Context(), toldWithin)
	defer end()
	a.turns(ctx, b, sid)
}

// mustStay checks that an Apache still shows the browser its page, in the same
// session.
func (n *intranet) mustStay(a *apache, b *browser, sid string) {
	b.t.Helper()
	if s := a.Open(b); s.SignIn || s.User != b.Username || s.SID != sid {
		b.t.Errorf("%s shows %s in the session %q, want that for %s in %q", a.ClientID, s, s.SID, b.Username, sid)
	}
}

// settle ends what another browser has at both, and waits until both were told:
// by then they have also been told of what ended before.
func (n *intranet) settle(t *testing.T) {
	t.Helper()
	last := n.visitor(t)
	n.endEntry(t, "alex", "/me/sessions", last.first)
	n.mustTurn(n.first, last.browser, last.first)
	n.mustTurn(n.second, last.browser, last.second)
}

// mustHaveAcknowledged checks that Apache took every message that it was sent,
// also about sessions that it didn't know any more.
func (n *intranet) mustHaveAcknowledged(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(toldWithin)
	for waiting := n.deliveries(t, deliveries.Waiting); len(waiting) > 0; waiting = n.deliveries(t, deliveries.Waiting) {
		if time.Now().After(deadline) {
			t.Fatalf("%d messages are not acknowledged, the last to %s after %d attempts: %s", len(waiting), waiting[0].ClientID, waiting[0].Attempts, waiting[0].LastError)
		}
		<-tick.C
	}
	if len(n.deliveries(t, deliveries.Sent)) == 0 {
		t.Error("no message was sent")
	}
}

func (n *intranet) deliveries(t *testing.T, state deliveries.State) []deliveries.Delivery {
	t.Helper()
	found, err := n.db.Deliveries(t.Context(), demoServer, deliveries.Filter{State: state})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// endEntry ends the browser session that an OAuth 2.0 session belongs to,
// through the users API.
func (n *intranet) endEntry(t *testing.T, who, path, sid string) {
	t.Helper()
	entry := n.URL + "/api/users/v1" + path + "/" + n.entry(t, who, path, sid)
	if r := inquire(t, http.MethodDelete, entry, inquiry{id: who, secret: peoplesPasswords[who]}); r.status != http.StatusNoContent {
		t.Fatalf("ending %s: %s", entry, r)
	}
}

// entry is the id of the browser session that an OAuth 2.0 session belongs to.
func (n *intranet) entry(t *testing.T, who, path, sid string) string {
	t.Helper()
	r := inquire(t, http.MethodGet, n.URL+"/api/users/v1"+path, inquiry{id: who, secret: peoplesPasswords[who]})
	var all struct {
		Sessions []struct {
			ID           string
			Applications []struct{ SessionIDs []string }
		}
	}
	if err := json.Unmarshal([]byte(r.body), &all); err != nil || r.status != http.StatusOK {
		t.Fatalf("%s: %s", path, r)
	}
	for _, entry := range all.Sessions {
		for _, application := range entry.Applications {
			if slices.Contains(application.SessionIDs, sid) {
				return entry.ID
			}
		}
	}
	t.Fatalf("%s doesn't list %s: %s", path, sid, r)
	return ""
}

// apacheReach is what an ending ends of the browser that it is about.
type apacheReach int

const (
	endsNothing apacheReach = iota
	endsFirst               // the session at the first Apache
	endsBoth
)

// apacheEndings are the ways in which a session of Apache's client ends.
var apacheEndings = map[string]struct {
	ends apacheReach
	end  func(t *testing.T, n *intranet, v visitorOfBoth)
}{
	"left out": {endsNothing, func(*testing.T, *intranet, visitorOfBoth) {}},
	"JSON:API, another client in the same browser": {endsFirst, func(t *testing.T, n *intranet, v visitorOfBoth) {
		n.endByClient(t, v.browser, v.first)
	}},
	"JSON:API, another client in another browser": {endsFirst, func(t *testing.T, n *intranet, v visitorOfBoth) {
		n.endByClient(t, newBrowser(t), v.first)
	}},
	"users API, the user": {endsBoth, func(t *testing.T, n *intranet, v visitorOfBoth) {
		n.endEntry(t, "alex", "/me/sessions", v.first)
	}},
	"users API, an administrator": {endsBoth, func(t *testing.T, n *intranet, v visitorOfBoth) {
		n.endEntry(t, "admin", "/"+n.userID(t, "alex")+"/sessions", v.first)
	}},
	"sign-out page": {endsBoth, func(_ *testing.T, n *intranet, v visitorOfBoth) {
		signOut(v.browser, n.URL)
	}},
	"account page, another browser": {endsBoth, func(t *testing.T, n *intranet, v visitorOfBoth) {
		b := newBrowser(t)
		n.party(demoServer, "trusted").SignIn(b)
		n.confirm(t, b, "/account/sessions/"+n.entry(t, "alex", "/me/sessions", v.first)+"/end")
	}},
	"account page, its own browser": {endsBoth, func(t *testing.T, n *intranet, v visitorOfBoth) {
		n.confirm(t, v.browser, "/account/sessions/"+n.entry(t, "alex", "/me/sessions", v.first)+"/end")
	}},
	"administrators' page": {endsBoth, func(t *testing.T, n *intranet, v visitorOfBoth) {
		b := newBrowser(t).As("admin", "admin-demo")
		n.party(demoServer, "trusted").SignIn(b)
		list := b.Page(n.URL + "/admin/sessions")
		asked := n.submit(t, b, list, "/admin/end", url.Values{"one": {n.entry(t, "alex", "/me/sessions", v.first)}})
		if asked.StatusCode != http.StatusOK {
			t.Fatalf("choosing: %s\n%s", asked.Status, text(t, asked))
		}
		if done := n.submit(t, b, asked, "/admin/end", nil); done.StatusCode != http.StatusSeeOther {
			t.Fatalf("ending: %s\n%s", done.Status, text(t, done))
		}
	}},
	"Apache's own logout, by end_session": {endsBoth, func(t *testing.T, n *intranet, v visitorOfBoth) {
		page, _ := n.first.follow(v.browser, n.first.logout())
		if page.Request.URL.String() != n.first.URL+"/" {
			t.Fatalf("logging out led to %s at %s:\n%s", page.Status, page.Request.URL.Redacted(), text(t, page))
		}
	}},
}

// logout is the link of Apache that ends its session and the server's, and leads
// to its start page (OpenID Connect RP-Initiated Logout 1.0 §2).
func (a *apache) logout() string {
	return a.URL + "/protected/redirect_uri?logout=" + url.QueryEscape(a.URL+"/")
}

// confirm opens a page that asks first, and says yes.
func (n *intranet) confirm(t *testing.T, b *browser, path string) {
	t.Helper()
	if res := n.submit(t, b, b.Page(n.URL+path), path, nil); res.StatusCode != http.StatusSeeOther {
		t.Fatalf("%s: %s\n%s", path, res.Status, text(t, res))
	}
}

// submit sends the form of a page that leads to a path, with more values.
func (n *intranet) submit(t *testing.T, b *browser, page *http.Response, path string, more url.Values) *http.Response {
	t.Helper()
	for _, f := range forms(page) {
		if f.action.Path != path {
			continue
		}
		maps.Copy(f.values, more)
		req, err := f.request(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		res, err := b.visitor.do(req)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	t.Fatalf("nothing at %s is sent to %s: %s\n%s", page.Request.URL.Redacted(), path, page.Status, text(t, page))
	return nil
}

// endByClient signs a browser in at a sibling client, and ends a session with
// its token.
func (n *intranet) endByClient(t *testing.T, b *browser, sid string) {
	t.Helper()
	token := n.party(demoServer, "trusted").SignIn(b).Token.AccessToken
	if r := inquire(t, http.MethodDelete, n.Issuer(demoServer)+"/sessions/"+sid+"/", inquiry{bearer: token}); r.status != http.StatusNoContent {
		t.Fatalf("ending %s: %s", sid, r)
	}
}

func (n *intranet) userID(t *testing.T, username string) string {
	t.Helper()
	r := inquire(t, http.MethodGet, n.URL+"/api/users/v1/me/sessions", inquiry{id: username, secret: peoplesPasswords[username]})
	id, _ := r.json["userId"].(string)
	if id == "" {
		t.Fatalf("the id of %s: %s", username, r)
	}
	return id
}

func TestEndingIsOverAtApacheAndNowhereElse(t *testing.T) {
	t.Parallel()
	n := openIntranet(t)
	for name, ending := range apacheEndings {
		t.Run(name, func(t *testing.T) {
			ended, other := n.visitor(t), n.visitor(t)
			ending.end(t, n, ended)
			if ending.ends != endsNothing {
				n.mustTurn(n.first, ended.browser, ended.first)
			}
			if ending.ends == endsBoth {
				n.mustTurn(n.second, ended.browser, ended.second)
			}
			n.settle(t)
			if ending.ends == endsNothing {
				n.mustStay(n.first, ended.browser, ended.first)
			}
			if ending.ends != endsBoth {
				n.mustStay(n.second, ended.browser, ended.second)
			}
			n.mustStay(n.first, other.browser, other.first)
			n.mustStay(n.second, other.browser, other.second)
			n.mustHaveAcknowledged(t)
			if ending.ends == endsNothing {
				return
			}
			if again := n.first.SignIn(ended.browser); again == ended.first {
				t.Errorf("the ended session %s came back", again)
			}
		})
	}
}

func TestBrowserIsSignedOutOfApache(t *testing.T) {
	t.Parallel()
	n := openIntranet(t)
	ended, other := openBrowser(t, browserOptions{}), openBrowser(t, browserOptions{Phone: true})
	open := func(c *chromium, a *apache) { c.do(chromedp.Navigate(a.protected())) }
	welcomed := func(c *chromium, a *apache) (sid string) {
		t.Helper()
		if user := c.text("#user"); user != "alex" || c.location() != a.protected() {
			t.Fatalf("%s at %s welcomes %q", a.ClientID, c.location(), user)
		}
		return c.text("#sid")
	}
	sid := ""
	for _, c := range []*chromium{other, ended} {
		open(c, n.first)
		c.signIn("alex", "alex-demo")
		if c == other {
			c.decide("allow") // remembered, for the other browser too
		}
		sid = welcomed(c, n.first)
		open(c, n.second)
		if c == other {
			c.decide("allow")
		}
		welcomed(c, n.second)
	}

	n.endByClient(t, newBrowser(t), sid)

	for deadline := time.Now().Add(toldWithin); ; {
		open(ended, n.first)
		if at := ended.location(); at == n.URL+"/login" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Apache was not told of the ending; the browser is at %s", ended.location())
		}
		ended.do(chromedp.Sleep(50 * time.Millisecond))
	}
	open(ended, n.second)
	welcomed(ended, n.second)
	for _, a := range []*apache{n.first, n.second} {
		open(other, a)
		welcomed(other, a)
	}

	open(ended, n.first)
	ended.signIn("alex", "alex-demo")
	if again := welcomed(ended, n.first); again == sid {
		t.Errorf("the ended session %s came back", sid)
	}
}
