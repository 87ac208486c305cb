//go:build unix

package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/audit"
)

// TestAuditTellsWhoDidWhatToWhom: what people, clients and operators did over
// HTTP and at the command line stands in `gatehouse audit list`, and what was
// typed where it doesn't belong does not.
func TestAuditTellsWhoDidWhatToWhom(t *testing.T) {
	s, operate := operatorFixture(t)
	issuer := s.Issuer("myAS")
	events := func(args ...string) []auditItem {
		t.Helper()
		return decodeJSON[[]auditItem](t, operate("", append([]string{"audit", "list", "-o", "json", "--limit", "1000"}, args...)...))
	}
	started := events()
	created := map[audit.Type]int{}
	for _, e := range started {
		created[e.Type]++
		if e.Actor != "server" || e.Address != "" || e.RequestID != "" {
			t.Errorf("at the start: %+v", e)
		}
	}
	if created[audit.UserCreated] != 3 || created[audit.ClientCreated] != 5 || created[audit.KeyRotated] != 8 || len(created) != 3 {
		t.Errorf("at the start: %v", created)
	}

	alex := newBrowser(t).As("alex", "alex-demo")
	first := redeem(t, issuer, alex, demoFirst)
	second := redeem(t, issuer, alex, demoSecond)
	const secret = "correct horse battery staple"
	for range 3 {
		newBrowser(t).As(secret, "x").Authorize(authorizeURL(issuer))
	}
	newBrowser(t).As("bea", "wrong "+secret).Authorize(authorizeURL(issuer))
	inquire(t, http.MethodDelete, issuer+"/sessions/"+second.sid+"/", inquiry{bearer: first.accessToken})
	operate("", "users", "lock", "alex")
	operate("new "+secret+"\n", "users", "set-password", "bea", "--password-stdin")
	operate("", "keys", "rotate", "--as", "myAS", "--alg", "ES256")
	newBrowser(t).As("alex", "alex-demo").Authorize(authorizeURL(issuer))

	users := map[string]string{}
	for _, u := range decodeJSON[[]userItem](t, operate("", "users", "list", "-o", "json")) {
		users[u.Username] = u.ID
	}
	all := events()
	me := operator().String()
	type want struct {
		event                       audit.Type
		result                      audit.Result
		reason, actor, user, client string
		session, as                 string
		count                       int
		overHTTP                    bool
	}
	wants := []want{
		{audit.SignIn, audit.Refused, audit.Locked, audit.Anonymous, "alex", demoFirst, "", "myAS", 1, true},
		{audit.KeyRotated, audit.Success, "", me, "", "", "", "myAS", 1, false},
		{audit.PasswordChanged, audit.Success, "", me, "bea", "", "", "", 1, false},
		{audit.UserLocked, audit.Success, "", me, "alex", "", "", "", 1, false},
		{audit.LoginEnded, audit.Success, "user_locked", me, "alex", "", "", "", 1, false},
		{audit.SessionEnded, audit.Success, "user_locked", me, "alex", demoFirst, first.sid, "myAS", 1, false},
		{audit.SessionEnded, audit.Success, "ended_by_client", "client:" + demoFirst, "alex", demoSecond, second.sid, "myAS", 1, true},
		{audit.SignIn, audit.Refused, audit.WrongCredentials, audit.Anonymous, "bea", demoFirst, "", "myAS", 1, true},
		{audit.SignIn, audit.Refused, audit.WrongCredentials, audit.Anonymous, "", demoFirst, "", "myAS", 3, true},
		{audit.Consent, audit.Success, "", "user:" + users["alex"], "alex", demoFirst, "", "myAS", 1, true},
		{audit.SignIn, audit.Success, "", "user:" + users["alex"], "alex", "", "", "", 1, true},
	}
	all = slices.DeleteFunc(all, func(e auditItem) bool {
		return slices.ContainsFunc(started, func(s auditItem) bool { return s.ID == e.ID })
	})
	for _, w := range wants {
		i := slices.IndexFunc(all, func(e auditItem) bool {
			return e.Type == w.event && e.Result == w.result && e.Reason == w.reason && e.Actor == w.actor && e.Username == w.user &&
				e.UserID == users[w.user] && e.ClientID == w.client && e.SessionID == w.session && e.AuthorizationServer == w.as
		})
		if i < 0 {
			t.Errorf("missing: %+v", w)
			continue
		}
		e := all[i]
		all = slices.Delete(all, i, i+1)
		if e.Count != w.count && !(e.Counted() && e.Count < w.count) { // a new minute may have begun
			t.Errorf("%+v happened %d times, want %d", w, e.Count, w.count)
		}
		if w.overHTTP {
			if e.Address != "127.0.0.1" && e.Address != "::1" && e.Address != "::/64" {
				t.Errorf("%+v came from %q", w, e.Address)
			}
			if e.RequestID == "" || !strings.Contains(s.Log.String(), e.RequestID) {
				t.Errorf("%+v has request id %q, which the log doesn't know", w, e.RequestID)
			}
		} else if e.Address != "" || e.RequestID != "" {
			t.Errorf("%+v came from %q by request %q", w, e.Address, e.RequestID)
		}
	}
	for _, e := range all {
		if !e.Counted() {
			t.Errorf("not expected: %+v", e)
		}
	}

	text := operate("", "audit", "list", "-o", "json", "--limit", "1000") + operate("", "audit", "list", "--limit", "1000") + s.Log.String()
	if strings.Contains(text, secret) || strings.Contains(text, "horse") || strings.Contains(text, first.accessToken) {
		t.Error("what was typed, or a token, stands in the audit log")
	}

	for _, tt := range []struct {
		args []string
		want func(auditItem) bool
		min  int
	}{
		{[]string{"--user", "alex"}, func(e auditItem) bool { return e.Username == "alex" }, 8},
		{[]string{"--user", users["bea"]}, func(e auditItem) bool { return e.Username == "bea" }, 3},
		{[]string{"--session", second.sid}, func(e auditItem) bool { return e.SessionID == second.sid }, 1},
		{[]string{"--client", demoSecond, "--as", "myAS"}, func(e auditItem) bool { return e.ClientID == demoSecond && e.AuthorizationServer == "myAS" }, 2},
		{[]string{"--result", "refused"}, func(e auditItem) bool { return e.Result == audit.Refused }, 3},
		{[]string{"--type", "consent", "--type", "user_locked"}, func(e auditItem) bool { return e.Type == audit.Consent || e.Type == audit.UserLocked }, 2},
		{[]string{"--address", "127.0.0.1", "--since", "1h"}, func(e auditItem) bool { return e.Address == "127.0.0.1" }, 0},
		{[]string{"--since", "1h", "--user", "alex"}, func(e auditItem) bool { return time.Since(e.LastAt) < time.Hour }, 8},
	} {
		got := events(tt.args...)
		if len(got) < tt.min || slices.ContainsFunc(got, func(e auditItem) bool { return !tt.want(e) }) {
			t.Errorf("audit list %q: %+v", tt.args, got)
		}
	}
	if got := events("--until", "1h"); len(got) != 0 {
		t.Errorf("events before the server was started: %+v", got)
	}
	page1 := decodeJSON[[]auditItem](t, operate("", "audit", "list", "-o", "json", "--limit", "5"))
	page2 := decodeJSON[[]auditItem](t, operate("", "audit", "list", "-o", "json", "--limit", "5", "--before", page1[4].ID))
	if len(page1) != 5 || len(page2) != 5 || page2[0].ID >= page1[4].ID {
		t.Errorf("pages %+v and %+v", page1, page2)
	}
}

// Counted is audit.Event.Counted of an item.
func (i *auditItem) Counted() bool {
	return (&audit.Event{Type: i.Type, Result: i.Result}).Counted()
}

func TestMoment(t *testing.T) {
	now := time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"":                          {},
		"2031-05-06":                now.Truncate(24 * time.Hour),
		"2031-05-06T05:08:09-02:00": now,
		"90m":                       now.Add(-90 * time.Minute),
		"7d":                        now.AddDate(0, 0, -7),
		"0s":                        now,
	} {
		if got, err := moment(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, bad := range []string{"yesterday", "-1h", "7", "1.5d", "-7d", "2031-13-01", "2031-05-06 07:08", "99999999d"} {
		if got, err := moment(bad, now); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}
