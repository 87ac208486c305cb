package web_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/throttle"
	"gatehouse.dev/gatehouse/web"
)

// refused are the counted and denied events of the house, oldest first.
func (h *house) refused() []audit.Event {
	h.t.Helper()
	events, err := h.realm.Events(context.Background(), audit.Filter{Result: audit.Refused})
	if err != nil {
		h.t.Fatal(err)
	}
	return events
}

func TestRefusedSignInIsAudited(t *testing.T) {
	for _, tt := range []struct {
		name, username, password, address string
		lock                              bool
		user, reason, from                string // of the event; no reason: there is none
	}{
		{"wrong password", "alex", "wrong", "2001:db8:1:2:3::4", false, "alex", audit.WrongCredentials, "2001:db8:1:2::/64"},
		{"other spelling of the name", " ALEX ", "wrong", "192.0.2.4", false, "alex", audit.WrongCredentials, "192.0.2.4"},
		{"unknown name", "Tr0ub4dor&3", "wrong", "192.0.2.4", false, "", audit.WrongCredentials, "192.0.2.4"},
		{"name that nobody can have", "a\x01b", "wrong", "192.0.2.4", false, "", audit.WrongCredentials, "192.0.2.4"},
		{"locked account", "alex", alexPassword, "192.0.2.4", true, "alex", audit.Locked, "192.0.2.4"},
		{"locked account, wrong password", "alex", "wrong", "192.0.2.4", true, "alex", audit.WrongCredentials, "192.0.2.4"},
		{"no address", "alex", "wrong", "unix socket", false, "alex", audit.WrongCredentials, ""},
		{"no name", "", "wrong", "192.0.2.4", false, "", "", ""},
		{"no password", "alex", "", "192.0.2.4", false, "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, _ := openThrottled(t, throttle.Limits{Account: 100})
			if tt.lock {
				h.lock("alex")
			}
			b := h.browser()
			b.try(b.get(h.request("album")), tt.username, tt.password, tt.address)
			events := h.refused()
			if tt.reason == "" {
				if len(events) != 0 {
					t.Fatalf("audited: %+v", events)
				}
				return
			}
			if len(events) != 1 {
				t.Fatalf("%d events: %+v", len(events), events)
			}
			e, user := events[0], ""
			if tt.user != "" {
				user = h.userID(tt.user)
			}
			if e.Type != audit.SignIn || e.Reason != tt.reason || e.UserID != user || e.Address != tt.from || e.Actor != audit.Anonymous ||
				e.AuthorizationServer != "myAS" || e.ClientID != "album" || e.LoginID != "" || e.Detail != "" {
				t.Errorf("audited: %+v", e)
			}
			if strings.Contains(h.log.String(), "Tr0ub4dor") {
				t.Error("what was typed for a name stands in the log")
			}
		})
	}
}

// TestFloodOfThrottledAttemptsFillsNothing: attempts that cost nobody anything
// are one row for an account, from wherever they come.
func TestFloodOfThrottledAttemptsFillsNothing(t *testing.T) {
	h, _ := openThrottled(t, throttle.Limits{Account: 1})
	b := h.browser()
	page := b.get(h.request("album"))
	b.try(page, "alex", "wrong", "192.0.2.1").expect(http.StatusUnprocessableEntity)
	const n = 20
	for i := range n {
		b.try(page, "alex", "wrong", "198.51.100."+string(rune('0'+i%10))).expect(http.StatusTooManyRequests)
	}
	rows, total := 0, 0
	for _, e := range h.refused() {
		if e.Reason == audit.Throttled {
			rows, total = rows+1, total+e.Count
			if e.Address != "" || e.UserID != h.userID("alex") {
				t.Errorf("throttled: %+v", e)
			}
		}
	}
	if rows < 1 || rows > 2 || total != n { // a new minute may have begun
		t.Errorf("%d attempts in %d rows, want %d in one", total, rows, n)
	}
}

func TestDenialIsAudited(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	page := atConsent(h, b, h.request("album"), "alex", alexPassword)
	b.submit(page, "decision", "deny")
	events := h.refused()
	if len(events) != 1 {
		t.Fatalf("%d events: %+v", len(events), events)
	}
	e := events[0]
	if e.Type != audit.Consent || e.Actor != "user:"+h.userID("alex") || e.UserID != h.userID("alex") || e.ClientID != "album" ||
		e.AuthorizationServer != "myAS" || e.LoginID != h.logins("alex")[0].ID || !strings.Contains(e.Detail, "openid") {
		t.Errorf("audited: %+v", e)
	}
	// A page that decides nothing is no denial.
	b.submit(page, "decision", "perhaps")
	if events := h.refused(); len(events) != 1 {
		t.Errorf("a decision that is none was audited: %+v", events)
	}
}

// brokenAudit keeps nothing.
type brokenAudit struct{ context chan context.Context }

func (a brokenAudit) Record(ctx context.Context, _ audit.Event) error {
	a.context <- ctx
	return errors.New("disk is full")
}

// TestAuditThatFailsIsLogged: the answer is what it would have been, and who
// hangs up does not keep an attempt from being recorded.
func TestAuditThatFailsIsLogged(t *testing.T) {
	broken := brokenAudit{make(chan context.Context, 1)}
	h := open(t, func(cfg *web.Config) { cfg.Audit = broken })
	b := h.browser()
	b.submit(b.get(h.request("album")), "username", "alex", "password", "wrong").expect(http.StatusUnprocessableEntity)
	select {
	case ctx := <-broken.context:
		if ctx.Done() != nil {
			t.Error("an attempt is recorded only as long as the browser waits")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was recorded")
	}
	if !strings.Contains(h.log.String(), "disk is full") {
		t.Errorf("the log doesn't tell:\n%s", h.log)
	}
}
