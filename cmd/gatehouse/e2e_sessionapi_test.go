//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"gatehouse.dev/gatehouse/configs"
)

// sessionAPI calls the session API of one authorization server and holds every
// answer against its OpenAPI description.
type sessionAPI struct {
	issuer      string
	description validator.Validator
}

func newSessionAPI(t *testing.T, issuer string) *sessionAPI {
	t.Helper()
	text, err := os.ReadFile(repository + "/sessions/jsonapi/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// The description's server is a template; paths are matched below it.
	text = bytes.Replace(text, []byte(`url: "{issuer}"`), []byte(`url: "`+issuer+`"`), 1)
	document, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	description, errs := validator.NewValidator(document)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return &sessionAPI{issuer: issuer, description: description}
}

// call sends one request, without and with the slash at the end of the path in
// turn for requests that change nothing, and checks the answer's form.
func (api *sessionAPI) call(t *testing.T, method, path, token string, header ...string) reply {
	t.Helper()
	q := inquiry{bearer: token, header: http.Header{}}
	for i := 0; i < len(header); i += 2 {
		q.header.Set(header[i], header[i+1])
	}
	path, query, _ := strings.Cut(path, "?")
	path = strings.TrimSuffix(path, "/")
	if query != "" {
		query = "?" + query
	}
	r := inquire(t, method, api.issuer+path+"/"+query, q)
	if method != http.MethodDelete {
		if other := inquire(t, method, api.issuer+path+query, q); other.status != r.status || withoutTime(t, other) != withoutTime(t, r) {
			t.Errorf("%s %s with the slash: %s; without: %s", method, path, r, other)
		}
	}
	api.check(t, method, path+"/"+query, r)
	return r
}

// check holds an answer against the description.
func (api *sessionAPI) check(t *testing.T, method, path string, r reply) {
	t.Helper()
	switch {
	case method == http.MethodGet, method == http.MethodDelete:
	case method == http.MethodPatch && r.status != http.StatusMethodNotAllowed:
	default:
		method = http.MethodGet // where the description has the answers to other methods
	}
	req, err := http.NewRequest(method, api.issuer+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res := &http.Response{StatusCode: r.status, Header: r.header, Body: io.NopCloser(strings.NewReader(r.body)), Request: req}
	if ok, faults := api.description.ValidateHttpResponse(req, res); !ok {
		for _, fault := range faults {
			t.Errorf("%s %s answered %s against its description: %s: %s", method, path, r, fault.Message, fault.Reason)
			for _, detail := range fault.SchemaValidationErrors {
				t.Errorf("  at %s: %s", detail.FieldPath, detail.Reason)
			}
		}
	}
	if r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s %s: Cache-Control is %q", method, path, r.header.Get("Cache-Control"))
	}
	if kind := r.header.Get("Content-Type"); r.status != http.StatusNoContent && kind != "application/vnd.api+json" {
		t.Errorf("%s %s: Content-Type is %q", method, path, kind)
	}
	if r.status == http.StatusNoContent && r.body != "" {
		t.Errorf("%s %s: a 204 with a body", method, path)
	}
}

// list is the user's sessions, by id, as a token sees them.
func (api *sessionAPI) list(t *testing.T, token string) map[string]sessionResource {
	t.Helper()
	r := api.call(t, http.MethodGet, "/sessions/", token)
	var document struct{ Data []sessionResource }
	if err := json.Unmarshal([]byte(r.body), &document); err != nil || r.status != http.StatusOK {
		t.Fatalf("list of sessions: %s, %v", r, err)
	}
	byID := map[string]sessionResource{}
	for _, s := range document.Data {
		byID[s.ID] = s
	}
	return byID
}

// withoutTime is an answer's body without what is of one answer only.
func withoutTime(t *testing.T, r reply) string {
	t.Helper()
	if r.json == nil {
		return r.body
	}
	var document map[string]any
	if err := json.Unmarshal([]byte(r.body), &document); err != nil {
		t.Fatal(err)
	}
	if meta, ok := document["meta"].(map[string]any); ok {
		delete(meta, "timestamp")
	}
	data, _ := document["data"].([]any)
	for _, s := range append(data, document["data"]) {
		if s, ok := s.(map[string]any); ok {
			delete(s["attributes"].(map[string]any), "lastUsedTimestamp") // written in batches
		}
	}
	if all, ok := document["errors"].([]any); ok {
		for _, e := range all {
			delete(e.(map[string]any), "id")
		}
	}
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// openToUsers lets clients of both servers see all sessions of a user.
func openToUsers(cfg *configs.Config) {
	for _, as := range cfg.AuthorizationServers {
		as.SessionAPI.Visibility = configs.VisibilityUser
	}
}

// holding is what a client holds of one session: everything that must die
// with it.
type holding struct {
	rp            *relyingParty
	sid           string
	first, second string // access tokens
	refresh       string
	code          string // unredeemed, of a second grant
	sent          sentOff
}

// hold signs in at a client and gathers a holding.
func hold(t *testing.T, rp *relyingParty, b *browser) *holding {
	t.Helper()
	signed := rp.SignIn(b)
	r := rp.Refresh(t, signed.Token.RefreshToken)
	h := &holding{rp: rp, sid: signed.SID, first: signed.Token.AccessToken}
	h.second, _ = r.json["access_token"].(string)
	h.refresh, _ = r.json["refresh_token"].(string)
	h.code, h.sent = rp.Code(b)
	return h
}

// mustLive checks that everything that can be tried without using it up lives.
func (h *holding) mustLive(t *testing.T, inspector *relyingParty) {
	t.Helper()
	for _, token := range []string{h.first, h.second} {
		r := inspector.Ask(t, "/introspect", url.Values{"token": {token}})
		if r.json["active"] != true || r.json["sid"] != h.sid {
			t.Errorf("introspection of a live session's token: %s", r)
		}
		if h.rp.Userinfo(t, token) != http.StatusOK || inquire(t, http.MethodGet, h.rp.issuer+"/session/", inquiry{bearer: token}).status != http.StatusOK {
			t.Error("an access token of a live session is refused")
		}
	}
	if !inspector.Active(t, h.refresh) {
		t.Error("the refresh token of a live session is not active")
	}
}

// mustBeDead checks that nothing of it is worth anything anywhere.
func (h *holding) mustBeDead(t *testing.T, api *sessionAPI, inspector *relyingParty) {
	t.Helper()
	for _, token := range []string{h.first, h.second} {
		if inspector.Active(t, token) || h.rp.Active(t, token) {
			t.Error("introspection: an access token of the ended session is active")
		}
		if status := h.rp.Userinfo(t, token); status != http.StatusUnauthorized {
			t.Errorf("userinfo answers an access token of the ended session with %d", status)
		}
		for method, path := range map[string]string{http.MethodGet: "/sessions/", http.MethodDelete: "/session/"} {
			if r := api.call(t, method, path, token); r.status != http.StatusUnauthorized || r.failure() != "ACCESS_TOKEN_INVALID" {
				t.Errorf("the session API answers an access token of the ended session: %s", r)
			}
		}
	}
	if inspector.Active(t, h.refresh) {
		t.Error("introspection: the refresh token of the ended session is active")
	}
	if r := h.rp.Refresh(t, h.refresh); r.status != http.StatusBadRequest || r.failure() != "invalid_grant" {
		t.Errorf("a refresh in the ended session: %s", r)
	}
	if r := h.rp.Redeem(t, h.code, h.sent); r.status != http.StatusBadRequest || r.failure() != "invalid_grant" {
		t.Errorf("a code of the ended session: %s", r)
	}
}

func TestSessionIsOneIdentityEverywhere(t *testing.T) {
	onBothDatabases(t, func(t *testing.T, database string) {
		o := openOffice(t, database, openToUsers)
		for _, as := range bothServers {
			t.Run(as, func(t *testing.T) {
				api, inspector := newSessionAPI(t, o.Issuer(as)), o.party(as, "inspector")
				b := newBrowser(t)
				web := hold(t, o.party(as, "web"), b)
				post := hold(t, o.party(as, "post"), b)
				phone := hold(t, o.party(as, "web"), newBrowser(t))
				bea := hold(t, o.party(as, "web"), newBrowser(t).As("bea", "bea-demo"))
				for _, h := range []*holding{web, post, phone} {
					h.mustLive(t, inspector)
					if as == "myAS" {
						var claims struct{ Sid string }
						if err := json.Unmarshal(unbase64(strings.Split(h.second, ".")[1]), &claims); err != nil || claims.Sid != h.sid {
							t.Errorf("the access token's sid is %q, the ID token's %q", claims.Sid, h.sid)
						}
					}
					var own struct{ Data sessionResource }
					r := api.call(t, http.MethodGet, "/session/", h.second)
					if err := json.Unmarshal([]byte(r.body), &own); err != nil || own.Data.ID != h.sid || !own.Data.Attributes.Current || own.Data.Attributes.ClientID != h.rp.ClientID {
						t.Errorf("own session: %s", r)
					}
					all := api.list(t, h.second)
					if len(all) != 3 {
						t.Errorf("the user has %d sessions, want 3: %v", len(all), all)
					}
					for _, other := range []*holding{web, post, phone} {
						s, ok := all[other.sid]
						if !ok || s.Attributes.Current != (other == h) || s.Attributes.ClientID != other.rp.ClientID {
							t.Errorf("in the list of %s, %s is %+v", h.sid, other.sid, s)
						}
						r := api.call(t, http.MethodGet, "/sessions/"+other.sid, h.second)
						if data, _ := r.json["data"].(map[string]any); r.status != http.StatusOK || data["id"] != other.sid {
							t.Errorf("one session: %s", r)
						}
					}
				}
				// A stranger's session does not exist.
				for _, method := range []string{http.MethodGet, http.MethodDelete} {
					if r := api.call(t, method, "/sessions/"+bea.sid, web.second); r.status != http.StatusNotFound {
						t.Errorf("%s of another user's session: %s", method, r)
					}
				}
				bea.mustLive(t, inspector)
			})
		}
	})
}

func TestEndedSessionIsDeadEverywhere(t *testing.T) {
	// ending is a way to end the session of a victim; by is another session of
	// the same user.
	type ending struct {
		path   func(h *holding) string
		own    bool // it is ended with its own token
		silent bool // signing in again needs no form
	}
	endings := map[string]ending{
		"by a sibling":           {func(h *holding) string { return "/sessions/" + h.sid }, false, false},
		"by itself":              {func(*holding) string { return "/session" }, true, true},
		"by itself under its id": {func(h *holding) string { return "/sessions/" + h.sid }, true, true},
	}
	onBothDatabases(t, func(t *testing.T, database string) {
		o := openOffice(t, database, openToUsers)
		for _, as := range bothServers {
			for name, e := range endings {
				t.Run(as+"/"+name, func(t *testing.T) {
					api, inspector := newSessionAPI(t, o.Issuer(as)), o.party(as, "inspector")
					b := newBrowser(t)
					web, trusted := o.party(as, "web"), o.party(as, "trusted")
					victim, sibling := hold(t, web, b), hold(t, trusted, b)
					elsewhere := hold(t, web, newBrowser(t))
					victim.mustLive(t, inspector)

					by := sibling
					if e.own {
						by = victim
					}
					if r := api.call(t, http.MethodDelete, e.path(victim), by.second); r.status != http.StatusNoContent {
						t.Fatalf("ending the session: %s", r)
					}
					victim.mustBeDead(t, api, inspector)
					for _, other := range []*holding{sibling, elsewhere} {
						other.mustLive(t, inspector)
						if all := api.list(t, other.second); len(all) < 2 || all[victim.sid].ID != "" {
							t.Errorf("the list after the ending: %v", all)
						}
					}
					if r := sibling.rp.Redeem(t, sibling.code, sibling.sent); r.status != http.StatusOK {
						t.Errorf("a code of another session: %s", r)
					}
					if r := api.call(t, http.MethodDelete, "/sessions/"+victim.sid, sibling.second); r.status != http.StatusNotFound {
						t.Errorf("ending it a second time: %s", r)
					}

					// The browser still is signed in.
					if trusted.Silent(b).Get("code") == "" {
						t.Error("the login ended with the session of one client")
					}
					answer := web.Silent(b)
					request, _ := web.Begin()
					to := sentTo(b, request)
					if e.silent {
						if answer.Get("code") == "" || to.Query().Get("code") == "" {
							t.Errorf("who signed himself out must sign in with a form: %v, %s", answer, to)
						}
					} else if answer.Get("error") != "login_required" || answer.Has("code") || to.Path != "/login" {
						t.Errorf("an ended session came back without proof: %v, %s", answer, to)
					}
					again := web.SignIn(b)
					if again.SID == victim.sid || web.Userinfo(t, again.Token.AccessToken) != http.StatusOK {
						t.Errorf("signing in again after session %s: %s", victim.sid, again.SID)
					}
					if web.Silent(b).Get("code") == "" {
						t.Error("fresh proof was not enough")
					}
				})
			}
		}
	})
}
