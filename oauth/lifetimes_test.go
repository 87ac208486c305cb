package oauth_test

import (
	"database/sql"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// form makes form values of pairs.
func form(pairs ...string) url.Values { return change(url.Values{}, pairs...) }

// rewind sets the grant of a refresh token back to its first generation.
func (h *house) rewind(token string) {
	h.t.Helper()
	id, _, _ := strings.Cut(token, ".")
	db, err := sql.Open("sqlite", // storage's driver
		"file:"+h.path+"?_pragma=busy_timeout(5000)")
	h.must(err)
	defer func() { _ = db.Close() }()
	_, err = db.Exec(`UPDATE grants SET generation = 1 WHERE id = ?`, id)
	h.must(err)
}

// keepUp uses a refresh token every hour for that long.
func (s *as) keepUp(client string, tk tokens, hours int) tokens {
	s.h.t.Helper()
	for range hours {
		s.h.wait(time.Hour)
		tk = s.tokens(s.refresh(client, tk.Refresh))
	}
	return tk
}

func TestAccessTokenLivesFiveMinutes(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		tk := s.authorize(h.signedIn("alex"), "web")
		if tk.Expires != 300 {
			t.Errorf("expires_in %d", tk.Expires)
		}
		h.wait(299 * time.Second)
		s.alive(tk.Access, true)
		h.wait(time.Second)
		s.alive(tk.Access, false)
	}
}

// Defect 6 of fosite: without a cap.
func TestSessionEndsAtItsAbsoluteLifetimeHoweverBusy(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	tk := s.keepUp("web", s.authorize(h.signedIn("alex"), "web"), 19)
	h.wait(time.Hour - time.Minute)
	tk = s.tokens(s.refresh("web", tk.Refresh))
	s.alive(tk.Access, true)
	h.wait(time.Minute)
	s.alive(tk.Access, false)
	s.refresh("web", tk.Refresh).fails(badRequest, "invalid_grant")
}

func TestSessionEndsWhenIdle(t *testing.T) {
	h := open(t, options{})
	s, b := h.jwt, h.signedIn("alex")
	tk := s.authorize(b, "web")
	h.wait(2*time.Hour - time.Second)
	tk = s.tokens(s.refresh("web", tk.Refresh))
	h.wait(2 * time.Hour)
	s.refresh("web", tk.Refresh).fails(badRequest, "invalid_grant")
	// It does not come back to life because the user does.
	h.wait(sessions.IdleSlack)
	s.tokens(s.redeem("web", s.code(b, "web", "prompt", "none")))
	s.refresh("web", tk.Refresh).fails(badRequest, "invalid_grant")
}

func TestSessionEndsWithItsIdleLogin(t *testing.T) {
	h := open(t, options{Lifetimes: sessions.Lifetimes{
		LoginIdle: time.Hour, LoginAbsolute: 100 * time.Hour, SessionIdle: 50 * time.Hour, SessionAbsolute: 100 * time.Hour,
		OfflineIdle: 200 * time.Hour, OfflineAbsolute: 1000 * time.Hour, RefreshGrace: 10 * time.Second}})
	s, b := h.jwt, h.signedIn("alex")
	web := s.authorize(b, "web")
	s.authorize(b, "norefresh")
	h.wait(59 * time.Minute)
	web = s.tokens(s.refresh("web", web.Refresh)) // also a use of the login
	h.wait(59 * time.Minute)
	spa := s.tokens(s.redeem("norefresh", s.code(b, "norefresh", "prompt", "none")))
	s.alive(spa.Access, true)
	h.wait(time.Hour + sessions.IdleSlack)
	s.refused(b.get(s.request("web", "prompt", "none")), "login_required")
	b.follow(s.request("web")).isPage("/login")
	s.refresh("web", web.Refresh).fails(badRequest, "invalid_grant")
}

func TestSessionEndsWithItsLoginsAbsoluteLifetime(t *testing.T) {
	h := open(t, options{Lifetimes: sessions.Lifetimes{
		LoginIdle: 500 * time.Hour, LoginAbsolute: 100 * time.Hour, SessionIdle: 500 * time.Hour, SessionAbsolute: 500 * time.Hour,
		OfflineIdle: 200 * time.Hour, OfflineAbsolute: 1000 * time.Hour, RefreshGrace: 10 * time.Second}})
	s, b := h.jwt, h.signedIn("alex")
	h.wait(100*time.Hour - time.Minute)
	tk := s.authorize(b, "web")
	offline := s.authorize(b, "other", "scope", "openid offline_access")
	s.alive(tk.Access, true)
	h.wait(time.Minute)
	s.alive(tk.Access, false)
	s.refused(b.get(s.request("web", "prompt", "none")), "login_required")
	s.refresh("web", tk.Refresh).fails(badRequest, "invalid_grant")
	after := s.tokens(s.refresh("other", offline.Refresh))
	if _, there := claims(t, after.ID)["sid"]; there {
		t.Error("an ID token speaks of the session of a login that is over")
	}
}

func TestSigningInAgainRestartsTheAbsoluteLifetime(t *testing.T) {
	h := open(t, options{})
	s, b := h.jwt, h.signedIn("alex")
	tk := s.keepUp("web", s.authorize(b, "web"), 19)
	s.authorized(b.signIn(b.follow(s.request("web", "prompt", "login")), "alex"))
	s.keepUp("web", tk, 3)
}

func TestOfflineSessionOutlivesItsLoginAndEndsAtItsOwnTimes(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		b := h.signedIn("alex")
		tk := s.authorize(b, "web", "scope", "openid offline_access")
		online := s.authorize(b, "other")
		began := h.now()
		_, err := s.manager().End(t.Context(), sessions.Target{Login: b.login}, sessions.Ending{Reason: sessions.ReasonLogout})
		h.must(err)
		s.refresh("other", online.Refresh).fails(badRequest, "invalid_grant")
		s.alive(online.Access, false)
		tk = s.tokens(s.refresh("web", tk.Refresh))
		if _, there := claims(t, tk.ID)["sid"]; there {
			t.Error("an ID token speaks of the session of a login that is over")
		}
		for range 5 {
			h.wait(199 * time.Hour)
			tk = s.tokens(s.refresh("web", tk.Refresh))
		}
		h.later.Store(int64(began.Add(1000*time.Hour - time.Second).Sub(begin)))
		tk = s.tokens(s.refresh("web", tk.Refresh))
		s.alive(tk.Access, true)
		h.wait(time.Second)
		s.refresh("web", tk.Refresh).fails(badRequest, "invalid_grant")
		s.alive(tk.Access, false)
	}
}

func TestOfflineSessionEndsWhenIdle(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	tk := s.authorize(h.signedIn("alex"), "web", "scope", "openid offline_access")
	h.wait(200*time.Hour - time.Second)
	tk = s.tokens(s.refresh("web", tk.Refresh))
	h.wait(200 * time.Hour)
	s.refresh("web", tk.Refresh).fails(badRequest, "invalid_grant")
}

// An offline grant keeps its session, but what of it needs the login and was
// refused once, because the session was idle or too old for it, stays dead.
func TestUseOfAnOfflineGrantBringsNothingBack(t *testing.T) {
	for name, revive := range map[string]func(s *as, b *browser, offline tokens){
		"refresh":       func(s *as, _ *browser, offline tokens) { s.tokens(s.refresh("web", offline.Refresh)) },
		"access token":  func(s *as, _ *browser, offline tokens) { s.alive(offline.Access, true) },
		"authorization": func(s *as, b *browser, _ tokens) { s.authorize(b, "web") },
	} {
		t.Run("idle, "+name, func(t *testing.T) {
			h := open(t, options{Lifetimes: idleSoon})
			for _, s := range h.servers() {
				b := h.signedIn("alex")
				plain := s.authorize(b, "web")
				offline := s.authorize(b, "web", "scope", "openid offline_access")
				h.wait(2 * time.Minute)
				s.refresh("web", plain.Refresh).fails(badRequest, "invalid_grant")
				revive(s, b, offline)
				s.refresh("web", plain.Refresh).fails(badRequest, "invalid_grant")
				s.alive(plain.Access, false)
				s.tokens(s.refresh("web", offline.Refresh))
			}
		})
	}
	t.Run("too old, authorization", func(t *testing.T) {
		h := open(t, options{})
		s, b := h.jwt, h.signedIn("alex")
		plain := s.keepUp("web", s.authorize(b, "web"), 19)
		s.authorize(b, "web", "scope", "openid offline_access")
		h.wait(time.Hour)
		s.refresh("web", plain.Refresh).fails(badRequest, "invalid_grant")
		s.authorized(b.signIn(b.follow(s.request("web")), "alex"))
		s.refresh("web", plain.Refresh).fails(badRequest, "invalid_grant")
	})
}

// idleSoon are lifetimes by which a session is idle while its access tokens live.
var idleSoon = sessions.Lifetimes{
	LoginIdle: 10 * time.Hour, LoginAbsolute: 100 * time.Hour, SessionIdle: time.Minute, SessionAbsolute: 20 * time.Hour,
	OfflineIdle: 200 * time.Hour, OfflineAbsolute: 1000 * time.Hour, RefreshGrace: 10 * time.Second,
}

func TestSessionEndsWithItsUser(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		b := h.signedIn("alex")
		tk := s.authorize(b, "web", "scope", "openid offline_access")
		id := h.userID("alex")
		_, err := s.manager().End(t.Context(), sessions.Target{User: id},
			sessions.Ending{Reason: sessions.ReasonUserLocked, Effects: []sessions.Effect{sessions.LockUser{UserID: id}}})
		h.must(err)
		s.alive(tk.Access, false)
		s.refresh("web", tk.Refresh).fails(badRequest, "invalid_grant")
		s.refused(b.follow(s.request("web", "prompt", "none")), "login_required")
		h.must(h.realm.UnlockUser(t.Context(), id))
		s.alive(tk.Access, false)
		s.refused(b.follow(s.request("web", "prompt", "none")), "login_required")
	}
}

func TestSessionEndsWithItsClient(t *testing.T) {
	h := open(t, options{})
	for _, s := range h.servers() {
		b := h.signedIn("alex")
		tk, own := s.authorize(b, "other", "scope", "openid offline_access"), s.tokens(s.post("/token", "machine", form("grant_type", "client_credentials")))
		for _, client := range []string{"other", "machine"} {
			_, err := s.manager().End(t.Context(), sessions.Target{Client: client},
				sessions.Ending{Reason: sessions.ReasonClientDeleted, Effects: []sessions.Effect{sessions.DeleteClient{AuthorizationServer: s.name, ClientID: client}}})
			h.must(err)
		}
		s.alive(tk.Access, false)
		if s.active(own.Access) {
			t.Error("the own token of a client that is gone is active")
		}
		s.refresh("other", tk.Refresh).fails(badRequest, "invalid_grant")
		s.refused(b.follow(s.request("other")), "access_denied")
	}
}
