package oauth_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/sessions"
)

func TestLogoutOfADeletedClient(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	registered := client("registered")
	registered.Static = false
	h.must(s.store.InsertClient(t.Context(), &registered))
	s.static["registered"] = registered
	hint := s.idToken("registered", h.userID("alex"), "")
	// A hint without sid says who asks, and no more.
	h.browser().follow(s.endSession("id_token_hint", hint, "post_logout_redirect_uri", "https://registered.example/bye")).mustGo("https://registered.example/bye")
	b := h.signedIn("alex")
	b.follow(s.endSession("id_token_hint", hint, "post_logout_redirect_uri", "https://registered.example/bye")).isError(http.StatusOK, "Sign out?", "asks you")
	b.follow(s.endSession("id_token_hint", s.idToken("registered", h.userID("bob"), ""))).isError(http.StatusOK, "Sign out?", "another sign-in")
	_, err := s.manager().End(t.Context(), sessions.Target{Client: "registered"}, sessions.Ending{Reason: sessions.ReasonClientDeleted,
		Effects: []sessions.Effect{sessions.DeleteClient{AuthorizationServer: s.name, ClientID: "registered"}}})
	h.must(err)
	h.wait(time.Minute)
	s = h.second().jwt // a node whose cache never knew the client
	page := b.follow(s.endSession("id_token_hint", hint, "post_logout_redirect_uri", "https://registered.example/bye")).isError(http.StatusOK, "Sign out?")
	if strings.Contains(page.body, "registered") {
		t.Errorf("the page knows a deleted client:\n%s", page.body)
	}
	b.submit(page).isError(http.StatusOK, "You are signed out")
}

// idToken signs an ID token as the server would, long expired; change may alter
// its claims and the type in its header. An empty sid is left out.
func (s *as) idToken(client, subject, sid string, change ...func(claims map[string]any, typ *string)) string {
	s.h.t.Helper()
	typ, claims := "JWT", map[string]any{"iss": s.issuer, "sub": subject, "aud": client, "exp": 1, "iat": 1}
	if sid != "" {
		claims["sid"] = sid
	}
	for _, f := range change {
		f(claims, &typ)
	}
	payload, err := json.Marshal(claims)
	s.h.must(err)
	token, err := s.ring.Sign("RS256", typ, payload)
	s.h.must(err)
	return token
}

func ofType(value string) func(map[string]any, *string) {
	return func(_ map[string]any, typ *string) { *typ = value }
}

func with(name string, value any) func(map[string]any, *string) {
	return func(claims map[string]any, _ *string) { claims[name] = value }
}

// RFC 8725 §3.11: what is signed for something else is no hint.
func TestOtherTokensOfOursAreNoHints(t *testing.T) {
	h := open(t, options{})
	s := h.jwt
	b := h.signedIn("alex")
	s.authorize(b, "web")
	alex := h.userID("alex")
	for name, token := range map[string]string{
		"a logout token by its type":  s.idToken("web", alex, "", ofType("logout+jwt")),
		"an access token by its type": s.idToken("web", alex, "", ofType("at+jwt")),
		"a logout token by its claim": s.idToken("web", alex, "", with("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}})),
		"without a subject":           s.idToken("web", "", ""),
		"of another issuer":           h.opaque.idToken("web", alex, ""),
		"of a client that is none":    s.idToken("nobody", alex, ""),
	} {
		page := b.follow(s.endSession("id_token_hint", token)).isError(http.StatusOK, "Sign out?")
		if strings.Contains(page.body, "asks you") {
			t.Errorf("%s proves a client", name)
		}
	}
	both := []string{"web", "other"}
	for name, c := range map[string]struct{ token, client string }{
		"azp that is not the client":     {s.idToken("web", alex, "", with("azp", "other"), with("aud", both)), "web"},
		"azp that is not in the aud":     {s.idToken("other", alex, "", with("azp", "web")), "web"},
		"several, and none of them asks": {s.idToken("web", alex, "", with("aud", both)), "strict"},
		"several, and nobody says who":   {s.idToken("web", alex, "", with("aud", both)), ""},
		"another client's own":           {s.idToken("other", alex, ""), "web"},
	} {
		a := b.get(s.endSession("id_token_hint", c.token, "client_id", c.client))
		if a.status != 400 || !strings.Contains(a.body, "was issued to the client_id") {
			t.Errorf("%s: %d to %s", name, a.status, a.location())
		}
	}
	if h.logins("alex") != 1 {
		t.Error("the login has ended")
	}
	for _, token := range []string{s.idToken("web", alex, "", with("aud", both), with("azp", "web")), s.idToken("web", alex, "", with("aud", both))} {
		h.browser().follow(s.endSession("id_token_hint", token, "client_id", "web", "post_logout_redirect_uri", "https://web.example/bye")).mustGo("https://web.example/bye")
	}
}

// FuzzLogoutRequest: whatever is asked, nobody is sent anywhere but to our own
// page, and that to nothing but what the client registered.
func FuzzLogoutRequest(f *testing.F) {
	h := open(f, options{})
	s := h.jwt
	router := mux.NewRouter()
	s.server.Mount(router)
	f.Add("client_id=web&post_logout_redirect_uri=https://web.example/bye&state=s")
	f.Add("client_id=web&post_logout_redirect_uri=https://web.example/bye%3Ffrom=op&ui_locales=de&logout_hint=alex")
	f.Add("client_id=native&post_logout_redirect_uri=http://127.0.0.1:80/bye")
	f.Add("client_id=native&post_logout_redirect_uri=http://127.0.0.1:80@evil.example/bye")
	f.Add("id_token_hint=a.b.c&post_logout_redirect_uri=https://web.example/bye")
	f.Add("state=a&state=b")
	f.Fuzz(func(t *testing.T, query string) {
		w := httptest.NewRecorder()
		router.ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/end_session", RawQuery: query}, Header: http.Header{}})
		to := w.Header().Get("Location")
		if w.Code != http.StatusSeeOther {
			if to != "" || w.Code < 400 || w.Code >= 500 {
				t.Fatalf("%d to %q", w.Code, to)
			}
			return
		}
		page, err := url.Parse(to)
		if err != nil || !strings.HasPrefix(to, h.base+"/logout?") {
			t.Fatalf("sent to %q", to)
		}
		l, err := s.server.Logout(context.Background(), httptest.NewRequest(http.MethodGet, "/logout?"+page.RawQuery, nil))
		if err != nil || l.Verified || l.LoginID != "" {
			t.Fatalf("%+v, %v", l, err)
		}
		back, automatic := l.Return(false)
		if back == "" {
			return
		}
		target, err := url.Parse(back)
		registered := err == nil && (target.Host == "web.example" || strings.HasSuffix(target.Host, ".example") && target.Path == "/bye" ||
			target.Hostname() == "127.0.0.1" && l.Client.ApplicationType == clients.ApplicationNative || target.Scheme == "com.example.app")
		if automatic || !registered || target.User != nil {
			t.Errorf("leads to %q, automatic %v, for %q", back, automatic, l.Client.ClientID)
		}
	})
}
