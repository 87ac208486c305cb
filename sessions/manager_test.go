package sessions_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// recorder notes what a Manager asks of its stores.
type recorder struct {
	sessions.Store
	sessions.RealmStore
	session sessions.Session
	filter  sessions.Filter
	target  sessions.Target
	ending  sessions.Ending
	asked   string
}

func (r *recorder) Session(_ context.Context, id, userID string) (*sessions.Session, error) {
	r.asked = "session"
	if id != r.session.ID || userID != r.session.UserID {
		return nil, sessions.ErrNotFound
	}
	return &r.session, nil
}

func (r *recorder) Sessions(_ context.Context, f sessions.Filter) ([]sessions.Session, error) {
	r.asked, r.filter = "list", f
	return []sessions.Session{r.session}, nil
}

// ofServer and ofRealm are its two faces.
type ofServer struct{ *recorder }

func (s ofServer) End(_ context.Context, t sessions.Target, e sessions.Ending) (int, error) {
	s.asked, s.target, s.ending = "server", t, e
	return 1, nil
}

type ofRealm struct{ *recorder }

func (s ofRealm) End(_ context.Context, t sessions.Target, e sessions.Ending) (int, error) {
	s.asked, s.target, s.ending = "realm", t, e
	return 1, nil
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func newManager(visibility string) (*sessions.Manager, *recorder) {
	r := &recorder{session: sessions.Session{ID: "s1", UserID: "u1", ClientID: "c1"}}
	return &sessions.Manager{Store: storeOf{ofServer{r}}, Realm: realmOf{ofRealm{r}}, Visibility: visibility, Now: func() time.Time { return noon }}, r
}

// storeOf and realmOf pick the End that is theirs.
type storeOf struct{ ofServer }

func (s storeOf) Session(ctx context.Context, id, user string) (*sessions.Session, error) {
	return s.recorder.Session(ctx, id, user)
}
func (s storeOf) Sessions(ctx context.Context, f sessions.Filter) ([]sessions.Session, error) {
	return s.recorder.Sessions(ctx, f)
}

type realmOf struct{ ofRealm }

func TestCallerWithoutUserClientOrSessionSeesNothing(t *testing.T) {
	for _, c := range []sessions.Caller{{}, {UserID: "u1"}, {UserID: "u1", ClientID: "c1"}, {ClientID: "c1", SessionID: "s1"}, {UserID: "u1", SessionID: "s1"}} {
		m, r := newManager(sessions.VisibilityUser)
		if _, err := m.Current(t.Context(), c); err == nil {
			t.Errorf("%+v has a current session", c)
		}
		if _, err := m.One(t.Context(), c, "s1"); err == nil {
			t.Errorf("%+v sees a session", c)
		}
		if _, err := m.List(t.Context(), c, sessions.Query{}); err == nil {
			t.Errorf("%+v sees all sessions", c)
		}
		if err := m.EndOne(t.Context(), c, "s1"); err == nil {
			t.Errorf("%+v ends a session", c)
		}
		if r.asked != "" {
			t.Errorf("%+v reached the store: %s", c, r.asked)
		}
	}
}

func TestVisibilityNarrowsToTheCallingClient(t *testing.T) {
	own := sessions.Caller{UserID: "u1", ClientID: "c1", SessionID: "s1"}
	sibling := sessions.Caller{UserID: "u1", ClientID: "c2", SessionID: "s2"}
	for _, c := range []struct {
		name, visibility string
		caller           sessions.Caller
		sees             bool
		client           string
	}{
		{"user, own", sessions.VisibilityUser, own, true, ""},
		{"user, sibling", sessions.VisibilityUser, sibling, true, ""},
		{"client, own", sessions.VisibilityClient, own, true, "c1"},
		{"client, sibling", sessions.VisibilityClient, sibling, false, "c2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, r := newManager(c.visibility)
			if _, err := m.One(t.Context(), c.caller, "s1"); (err == nil) != c.sees || (err != nil && !errors.Is(err, sessions.ErrNotFound)) {
				t.Errorf("One: %v", err)
			}
			if _, err := m.List(t.Context(), c.caller, sessions.Query{}); err != nil || r.filter != (sessions.Filter{UserID: "u1", ClientID: c.client, Limit: sessions.MaxPage + 1}) {
				t.Errorf("List asked for %+v, %v", r.filter, err)
			}
			if err := m.EndOne(t.Context(), c.caller, "s1"); err != nil {
				t.Error(err)
			}
			if want := (sessions.Target{Session: "s1", OfUser: "u1", OfClient: c.client}); r.target != want {
				t.Errorf("EndOne named %+v, want %+v", r.target, want)
			}
		})
	}
}

func TestEndOneSaysWhoAndWhy(t *testing.T) {
	for id, reason := range map[string]sessions.Reason{"s1": sessions.ReasonLogout, "s2": sessions.ReasonEndedByClient} {
		m, r := newManager(sessions.VisibilityUser)
		if err := m.EndOne(t.Context(), sessions.Caller{UserID: "u1", ClientID: "c1", SessionID: "s1"}, id); err != nil {
			t.Fatal(err)
		}
		if r.ending.By.String() != "client:c1" || r.ending.Reason != reason || !r.ending.At.Equal(noon) {
			t.Errorf("%s: %+v", id, r.ending)
		}
	}
}

func TestEndGoesWhereTheTargetLives(t *testing.T) {
	for _, c := range []struct {
		target sessions.Target
		want   string
	}{
		{sessions.Target{Grant: "g"}, "server"}, {sessions.Target{Session: "s"}, "server"}, {sessions.Target{Client: "c"}, "server"},
		{sessions.Target{Login: "l"}, "realm"}, {sessions.Target{User: "u"}, "realm"},
	} {
		m, r := newManager("")
		if n, err := m.End(t.Context(), c.target, sessions.Ending{}); n != 1 || err != nil || r.asked != c.want {
			t.Errorf("%+v went to %s: %d, %v", c.target, r.asked, n, err)
		}
		if r.ending.By.String() != "server" {
			t.Errorf("nobody is called %s", r.ending.By)
		}
	}
}

func TestCookieIsHardened(t *testing.T) {
	for _, c := range []struct {
		cookie sessions.Cookie
		want   string
	}{
		{sessions.Cookie{Realm: "default", Secure: true}, "__Host-gatehouse-default=VALUE; Path=/; HttpOnly; Secure; SameSite=Lax"},
		{sessions.Cookie{Realm: "default"}, "gatehouse-default=VALUE; Path=/; HttpOnly; SameSite=Lax"},
	} {
		w := httptest.NewRecorder()
		c.cookie.Set(w, "VALUE", time.Time{})
		if got := w.Header().Get("Set-Cookie"); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestCookieHashTakesOnlyWhatCouldBeOurs(t *testing.T) {
	cookie := sessions.Cookie{Realm: "default"}
	value, hash := cookie.New()
	if other, otherHash := cookie.New(); other == value || string(otherHash) == string(hash) {
		t.Fatal("two cookies are the same")
	}
	request := func(name, value string) *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Cookie", name+"="+value)
		return r
	}
	if got := cookie.Hash(request(cookie.Name(), value)); string(got) != string(hash) {
		t.Fatalf("hash %x, want %x", got, hash)
	}
	for name, r := range map[string]*http.Request{
		"no cookie":       httptest.NewRequest(http.MethodGet, "/", nil),
		"other realm":     request("gatehouse-other", value),
		"empty":           request(cookie.Name(), ""),
		"too short":       request(cookie.Name(), value[1:]),
		"too long":        request(cookie.Name(), value+"A"),
		"prefixed cookie": request("__Host-gatehouse-default", value),
	} {
		if got := cookie.Hash(r); got != nil {
			t.Errorf("%s: %x", name, got)
		}
	}
}
