//go:build unix

package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/deliveries"
	"gatehouse.dev/gatehouse/sessions"
)

// endingRow is one way in which sessions end.
type endingRow struct {
	name    string
	prepare func(*scene) // more than every scene has; nil: nothing
	act     func(*scene)
	outcome
}

// What the person's first browser, and all of his, is signed in at.
var (
	partsHere = []string{"album", "calendar", "kiosk"}
	partsAll  = []string{"album", "calendar", "kiosk", "phone"}
)

func TestEveryEndingIsInForceInTheHistoryAndTold(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, database string) {
		st := openStage(t, database)
		for _, rows := range [][]endingRow{endingsOnPages(), endingsByClients(), endingsOverUsersAPI(), endingsByCommand(), endingsOffline(), endingsByMisuse()} {
			for _, row := range rows {
				t.Run(row.name, func(t *testing.T) { row.play(t, st) })
			}
		}
		if list := decodeJSON[[]deliveryItem](t, st.operate(t, "", "deliveries", "list", "--as", "myAS", "--state", string(deliveries.Waiting), "-o", "json")); len(list) != 0 {
			t.Errorf("there wait %+v", list)
		}
	})
}

func (row endingRow) play(t *testing.T, st *stage) {
	s := newScene(t, st, nil)
	if row.prepare != nil {
		row.prepare(s)
	}
	row.act(s)
	s.check(row.outcome)
}

func byUser(reason sessions.Reason, over ...string) outcome {
	return outcome{over: over, reason: reason, by: "user"}
}

// endingsOnPages are what a user does in his browser.
func endingsOnPages() []endingRow {
	const list = "/account/sessions"
	endMany := func(what string) func(*scene) {
		return func(s *scene) { s.press(s.here, list+"/end?what="+what, list+"/end", nil) }
	}
	endOne := func(name string) func(*scene) {
		return func(s *scene) {
			path := list + "/" + s.entry(name) + "/end"
			s.press(s.here, path, path, nil)
		}
	}
	return []endingRow{
		{name: "sign-out page", act: func(s *scene) { signOut(s.here, s.URL) }, outcome: byUser(sessions.ReasonLogout, partsHere...)},
		{name: "end_session with a hint", act: endSessionWithHint, outcome: byUser(sessions.ReasonLogout, partsHere...)},
		{name: "account page, another browser", act: endOne("phone"), outcome: byUser(sessions.ReasonLogout, "phone")},
		{name: "account page, this browser", act: endOne("album"), outcome: byUser(sessions.ReasonLogout, partsHere...)},
		{name: "account page, all others", act: endMany("others"), outcome: byUser(sessions.ReasonLogout, "phone")},
		{name: "account page, everything", act: endMany("all"), outcome: byUser(sessions.ReasonLogout, partsAll...)},
		{
			name: "password page",
			act: func(s *scene) {
				const next = "another-password-of-his"
				s.press(s.here, "/account/password", "/account/password", url.Values{"old": {stagePassword}, "new": {next}, "again": {next}})
			},
			outcome: byUser(sessions.ReasonPasswordChanged, "phone"),
		},
		{
			name: "consent withdrawn",
			act: func(s *scene) {
				s.press(s.here, "/account/permissions/withdraw?server=myAS&client=album", "/account/permissions/withdraw", nil)
			},
			outcome: byUser(sessions.ReasonConsentWithdrawn, "album", "phone"),
		},
		{
			name: "it was somebody else who signed in",
			act:  func(s *scene) { s.disown() }, outcome: byUser(sessions.ReasonDisowned, "phone"),
		},
		{
			name: "another user signs in over it",
			act: func(s *scene) {
				s.newcomer = s.person(s.t, "over-"+s.name)
				s.parts["newcomer"] = s.enter(s.t, s.newcomer, s.here.As("over-"+s.name, stagePassword), s.party("myAS", "album"),
					oauth2.SetAuthURLParam("prompt", "select_account"))
			},
			outcome: outcome{over: partsHere, reason: sessions.ReasonOtherUser, by: "newcomer"},
		},
		{
			name: "the same user signs in once more, which ends nothing",
			act: func(s *scene) {
				if again := s.enter(s.t, s.id, s.here, s.party("myAS", "album"), oauth2.SetAuthURLParam("prompt", "login")); again.sid != s.parts["album"].sid {
					s.t.Error("it is another session")
				}
			},
		},
		{
			name: "end_session with the hint of another browser, which ends nothing",
			act: func(s *scene) {
				to := sentTo(s.here, s.Issuer("myAS")+"/end_session?"+url.Values{"id_token_hint": {s.parts["phone"].idToken}}.Encode())
				if status, _ := opened(s.here, to.String()); status != http.StatusOK {
					s.t.Errorf("the sign-out page answers %d", status)
				}
			},
		},
	}
}

// endSessionWithHint comes back to the client without a question (RP-Initiated
// Logout 1.0 §2).
func endSessionWithHint(s *scene) {
	album := s.parts["album"]
	to := sentTo(s.here, album.rp.issuer+"/end_session?"+url.Values{"id_token_hint": {album.idToken}, "state": {"some-state"},
		"post_logout_redirect_uri": {s.app.URL + byePath + "album"}}.Encode())
	if to = sentTo(s.here, to.String()); to.String() != s.app.URL+byePath+"album?state=some-state" {
		s.t.Errorf("the sign-out led to %q", to)
	}
}

// disown says on the account page that it was somebody else who signed in in the
// second browser.
func (s *scene) disown() {
	s.t.Helper()
	asked, err := s.realm.OpenNotices(s.t.Context(), s.id, "", time.Time{}, 2)
	if err != nil || len(asked) != 1 {
		s.t.Fatalf("there are the questions %+v, %v; want one", asked, err)
	}
	s.press(s.here, "/account/sessions", "/account/notices/"+asked[0].ID, url.Values{"answer": {string(sessions.AnswerNo)}})
}

// endingsByClients are what a client does.
func endingsByClients() []endingRow {
	end := func(by string, path func(*scene) string) func(*scene) {
		return func(s *scene) { s.must(s.api(http.MethodDelete, path(s), s.parts[by]), http.StatusNoContent) }
	}
	fixed := func(path string) func(*scene) string { return func(*scene) string { return path } }
	revoke := func(s *scene, p *part, token string) {
		s.must(p.rp.Ask(s.t, "/revoke", url.Values{"token": {token}}), http.StatusOK)
	}
	album := func(reason sessions.Reason, over ...string) outcome {
		return outcome{over: over, reason: reason, by: "client:album"}
	}
	var second *part
	again := func(s *scene) { second = s.enter(s.t, s.id, s.here, s.party("myAS", "album")) }
	return []endingRow{
		{name: "DELETE session", act: end("album", fixed("/session/")), outcome: album(sessions.ReasonLogout, "album")},
		{
			name:    "DELETE sessions by id, a sibling",
			act:     end("album", func(s *scene) string { return "/sessions/" + s.parts["calendar"].sid + "/" }),
			outcome: album(sessions.ReasonEndedByClient, "calendar"),
		},
		{
			name:    "DELETE sessions by id, another browser's",
			act:     end("album", func(s *scene) string { return "/sessions/" + s.parts["phone"].sid + "/" }),
			outcome: album(sessions.ReasonEndedByClient, "phone"),
		},
		{name: "DELETE sessions", act: end("album", fixed("/sessions/")), outcome: album(sessions.ReasonEndedByClient, "album", "calendar", "phone")},
		{
			name:    "DELETE sessions but the current one",
			act:     end("album", fixed("/sessions/?excludeCurrent=true")),
			outcome: album(sessions.ReasonEndedByClient, "calendar", "phone"),
		},
		{
			name:    "DELETE sessions by a client that sees its own",
			act:     end("kiosk", fixed("/sessions/")),
			outcome: outcome{over: []string{"kiosk"}, reason: sessions.ReasonEndedByClient, by: "client:kiosk"},
		},
		{
			name: "revocation of the last refresh token",
			act:  func(s *scene) { revoke(s, s.parts["album"], s.parts["album"].refresh) }, outcome: album(sessions.ReasonRevoked, "album"),
		},
		{
			name: "revocation of one refresh token of two ends nothing", prepare: again,
			act: func(s *scene) { revoke(s, second, second.refresh) },
		},
		{
			name: "revocation of the first and of the last refresh token", prepare: again,
			act: func(s *scene) {
				revoke(s, second, second.refresh)
				revoke(s, s.parts["album"], s.parts["album"].refresh)
			},
			outcome: album(sessions.ReasonRevoked, "album"),
		},
		{
			name: "revocation of an access token ends nothing",
			act: func(s *scene) {
				p := s.parts["album"]
				revoke(s, p, p.access)
				if p.rp.Active(s.t, p.access) {
					s.t.Error("it is active")
				}
				s.use("album") // and goes on with another
			},
		},
	}
}

// endingsOverUsersAPI are by a user himself and by an administrator.
func endingsOverUsersAPI() []endingRow {
	end := func(person string, path func(*scene) string) func(*scene) {
		return func(s *scene) {
			by := person
			if by == "" {
				by = s.name
			}
			s.must(s.users(http.MethodDelete, path(s), by), http.StatusNoContent)
		}
	}
	admin := func(over ...string) outcome {
		return outcome{over: over, reason: sessions.ReasonEndedByAdmin, by: "admin"}
	}
	return []endingRow{
		{
			name: "one's own, one", act: end("", func(s *scene) string { return "/me/sessions/" + s.entry("album") }),
			outcome: byUser(sessions.ReasonLogout, partsHere...),
		},
		{name: "one's own, all", act: end("", func(*scene) string { return "/me/sessions" }), outcome: byUser(sessions.ReasonLogout, partsAll...)},
		{
			name: "an administrator, one", act: end(stageAdmin, func(s *scene) string { return "/" + s.id + "/sessions/" + s.entry("phone") }),
			outcome: admin("phone"),
		},
		{name: "an administrator, all", act: end(stageAdmin, func(s *scene) string { return "/" + s.id + "/sessions" }), outcome: admin(partsAll...)},
		{name: "somebody else's ends nothing", act: end("neighbour", func(s *scene) string { return "/me/sessions/" + s.entry("album") })},
	}
}

// endingsByCommand are an operator's.
func endingsByCommand() []endingRow {
	operate := func(args func(*scene) []string) func(*scene) {
		return func(s *scene) { s.operate(s.t, "yet-another-password", args(s)...) }
	}
	operator := func(reason sessions.Reason, over ...string) outcome {
		return outcome{over: over, reason: reason, by: "operator"}
	}
	return []endingRow{
		{
			name: "sessions end, one",
			act: operate(func(s *scene) []string {
				return []string{"sessions", "end", "--as", "myAS", "--session", s.parts["album"].sid}
			}),
			outcome: operator(sessions.ReasonEndedByOperator, "album"),
		},
		{
			name:    "sessions end, of a user at one authorization server",
			act:     operate(func(s *scene) []string { return []string{"sessions", "end", "--as", "myAS", "--user", s.name} }),
			outcome: operator(sessions.ReasonEndedByOperator, "album", "calendar", "phone"),
		},
		{
			name:    "sessions end, all of a user",
			act:     operate(func(s *scene) []string { return []string{"sessions", "end", "--as", "myAS", "--all-of-user", s.name} }),
			outcome: operator(sessions.ReasonEndedByOperator, partsAll...),
		},
		{
			name: "sessions end, of a client", prepare: func(s *scene) { s.openStall("stall") },
			act:     operate(func(*scene) []string { return []string{"sessions", "end", "--as", "myAS", "--client", "stall"} }),
			outcome: operator(sessions.ReasonEndedByOperator, "stall", "neighbour's stall"),
		},
		{
			name: "clients delete", prepare: func(s *scene) { s.openStall("booth") },
			act:     operate(func(*scene) []string { return []string{"clients", "delete", "booth", "--as", "myAS"} }),
			outcome: operator(sessions.ReasonClientDeleted, "booth", "neighbour's booth"),
		},
		{
			name: "users set-password", act: operate(func(s *scene) []string { return []string{"users", "set-password", s.name, "--password-stdin"} }),
			outcome: operator(sessions.ReasonPasswordChanged, partsAll...),
		},
		{
			name: "users lock", act: operate(func(s *scene) []string { return []string{"users", "lock", s.name} }),
			outcome: operator(sessions.ReasonUserLocked, partsAll...),
		},
	}
}

// openStall registers a client by command, and signs the person and the
// neighbour in there.
func (s *scene) openStall(id string) {
	s.t.Helper()
	m := s.client(s.t, "myAS", s.Config.AuthorizationServers["myAS"], clients.Metadata{ClientID: id, Scope: "openid profile email",
		GrantTypes: []string{clients.GrantAuthorizationCode, clients.GrantRefreshToken}})
	m.ClientSecret = "" // is made by the command
	document, err := json.Marshal(m)
	if err != nil {
		s.t.Fatal(err)
	}
	added := decodeJSON[map[string]string](s.t, s.operate(s.t, string(document), "clients", "add", "--as", "myAS", "--metadata", "-"))
	rp := s.party("myAS", id)
	rp.ClientSecret = added["client_secret"]
	s.enterBoth(id, rp)
}

// enterBoth signs the person and the neighbour in at a client.
func (s *scene) enterBoth(name string, rp *relyingParty) {
	s.t.Helper()
	s.parts[name] = s.enter(s.t, s.id, s.here, rp)
	s.parts["neighbour's "+name] = s.enter(s.t, s.neighbour.user, s.neighbour.browser, rp)
}

// endingsOffline are of a session that outlives its login: its client is told
// when it is detached, and again when it ends.
func endingsOffline() []endingRow {
	enter := func(s *scene) {
		s.parts["backup"] = s.enter(s.t, s.id, s.here, s.party("myAS", "backup"), oauth2.SetAuthURLParam("scope", "openid offline_access"))
	}
	detached := byUser(sessions.ReasonLogout, partsHere...)
	detached.detached = []string{"backup"}
	detach := func(s *scene) {
		enter(s)
		signOut(s.here, s.URL)
		s.check(detached)
	}
	const list = "/account/sessions"
	return []endingRow{
		{name: "a sign-out detaches", prepare: enter, act: func(s *scene) { signOut(s.here, s.URL) }, outcome: detached},
		{
			name: "everything, detached before", prepare: detach,
			act:     func(s *scene) { s.press(s.there, list+"/end?what=all", list+"/end", nil) },
			outcome: byUser(sessions.ReasonLogout, "backup", "phone"),
		},
		{
			name: "all others, detached before", prepare: detach,
			act:     func(s *scene) { s.press(s.there, list+"/end?what=others", list+"/end", nil) },
			outcome: byUser(sessions.ReasonLogout, "backup"),
		},
		{
			name: "account page, detached before", prepare: detach,
			act: func(s *scene) {
				path := list + "/" + s.entry("backup") + "/end"
				s.press(s.there, path, path, nil)
			},
			outcome: byUser(sessions.ReasonLogout, "backup"),
		},
		{
			name: "everything, in its login", prepare: enter,
			act:     func(s *scene) { s.press(s.here, list+"/end?what=all", list+"/end", nil) },
			outcome: byUser(sessions.ReasonLogout, strings.Split("album calendar kiosk phone backup", " ")...),
		},
		{
			name: "it was somebody else who signed in, with offline access",
			prepare: func(s *scene) {
				s.parts["backup"] = s.enter(s.t, s.id, s.there, s.party("myAS", "backup"), oauth2.SetAuthURLParam("scope", "openid offline_access"))
			},
			act: func(s *scene) { s.disown() }, outcome: byUser(sessions.ReasonDisowned, "phone", "backup"),
		},
		{
			name: "consent withdrawn, detached before", prepare: detach,
			act: func(s *scene) {
				s.press(s.there, "/account/permissions/withdraw?server=myAS&client=backup", "/account/permissions/withdraw", nil)
			},
			outcome: byUser(sessions.ReasonConsentWithdrawn, "backup"),
		},
		{
			name: "DELETE sessions, detached before", prepare: detach,
			act:     func(s *scene) { s.must(s.api(http.MethodDelete, "/sessions/", s.parts["phone"]), http.StatusNoContent) },
			outcome: outcome{over: []string{"backup", "phone"}, reason: sessions.ReasonEndedByClient, by: "client:album"},
		},
		{
			name: "users lock, detached before", prepare: detach, act: func(s *scene) { s.operate(s.t, "", "users", "lock", s.name) },
			outcome: outcome{over: []string{"backup", "phone"}, reason: sessions.ReasonUserLocked, by: "operator"},
		},
	}
}

// endingsByMisuse are what a client, or a thief, is caught at. They move the
// clock, which that of the commands doesn't follow.
func endingsByMisuse() []endingRow {
	reuse := func(s *scene, p *part) {
		old := p.refresh
		p.take(s.t, p.rp.Refresh(s.t, old))
		s.ahead.Add(int64(s.Config.AuthorizationServers["myAS"].Session.RefreshGrace + time.Second))
		s.must(p.rp.Refresh(s.t, old), http.StatusBadRequest)
	}
	return []endingRow{
		{
			name: "reuse of a refresh token", act: func(s *scene) { reuse(s, s.parts["album"]) },
			outcome: outcome{over: []string{"album"}, reason: sessions.ReasonRefreshReuse, by: "server"},
		},
		{
			name: "reuse of one refresh token of two, which ends nothing",
			act:  func(s *scene) { reuse(s, s.enter(s.t, s.id, s.here, s.party("myAS", "album"))) },
		},
		{
			name: "replay of a code",
			act: func(s *scene) {
				p := s.parts["album"]
				s.ahead.Add(int64(3 * time.Second)) // a client may repeat a request at once
				s.must(p.rp.Redeem(s.t, p.code, p.sent), http.StatusBadRequest)
			},
			outcome: outcome{over: []string{"album"}, reason: sessions.ReasonCodeReplay, by: "server"},
		},
	}
}
