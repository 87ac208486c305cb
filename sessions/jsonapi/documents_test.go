package jsonapi

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

const (
	phoneResource = `{"type":"oauth2-session","id":"kQBhsGhsBfrhUx8t8jBKLfobSZyK4bDA6wTddCRc","attributes":{` +
		`"customAttributes":{},"clientId":"oidc-client","consentTimestamp":"2020-09-07T13:43:54.139Z",` +
		`"authenticationTimestamp":"2020-09-07T13:43:22.890Z","clientName":"OIDC-CLIENT","scopes":["openid","email"],` +
		`"createdTimestamp":"2020-09-07T13:43:54.200Z","lastUsedTimestamp":"2020-09-07T14:07:00.000Z",` +
		`"expiresTimestamp":"2020-09-07T23:59:59.999Z","offline":false,"current":true},` +
		`"links":{"self":"https://id.example/authorization-servers/myAS/sessions/kQBhsGhsBfrhUx8t8jBKLfobSZyK4bDA6wTddCRc/"}}`
	firstAndOnly = `"links":{"self":"` + testBase + `/sessions/","first":"` + testBase + `/sessions/","prev":null,"next":null}}`
	documentHead = `{"meta":{"type":"jsonapi.metadata.document","timestamp":"2020-09-07T14:07:54.086Z"},"data":`
)

func TestDocumentsToTheLetter(t *testing.T) {
	f := newFixture(t)
	delete(f.store.sessions, laptopID)
	album := f.store.sessions[albumID]
	album.ClientName, album.Offline = `Fotos & <Früchte>`, true
	album.Scopes, album.ConsentedAt = nil, time.Time{}
	album.AuthenticatedAt = at("13:43:22.890").In(time.FixedZone("", 2*3600))
	album.CustomAttributes = map[string]string{"b": "2", "a": "1", "no longer declared": "3"}
	albumResource := `{"type":"oauth2-session","id":"` + albumID + `","attributes":{` +
		`"customAttributes":{"a":"1","b":"2"},"clientId":"photo-album","consentTimestamp":null,` +
		`"authenticationTimestamp":"2020-09-07T13:43:22.890Z","clientName":"Fotos & <Früchte>","scopes":[],` +
		`"createdTimestamp":"2020-09-07T11:00:00.000Z","lastUsedTimestamp":"2020-09-07T14:07:00.000Z",` +
		`"expiresTimestamp":"2020-09-07T23:59:59.999Z","offline":true,"current":false},` +
		`"links":{"self":"` + testBase + `/sessions/` + albumID + `/"}}`

	for path, want := range map[string]string{
		"/session":              documentHead + phoneResource + `,"links":{"self":"` + testBase + `/session/"}}`,
		"/sessions":             documentHead + `[` + phoneResource + `,` + albumResource + `],` + firstAndOnly,
		"/sessions/" + phoneID:  documentHead + phoneResource + `,"links":{"self":"` + testBase + `/sessions/` + phoneID + `/"}}`,
		"/sessions/" + albumID:  documentHead + albumResource + `,"links":{"self":"` + testBase + `/sessions/` + albumID + `/"}}`,
		"/sessions/" + endedID:  notFoundDocument,
		"/sessions/" + laptopID: notFoundDocument,
	} {
		for _, path := range both(path) {
			t.Run(path, func(t *testing.T) {
				w := f.do("GET", path)
				if got := w.Body.String(); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
				checkHeaders(t, w)
			})
		}
	}
}

// The example of the contract, which has only the first four attributes.
func TestContractExampleIsContained(t *testing.T) {
	const example = `{"meta":{"type":"jsonapi.metadata.document","timestamp":"2020-09-07T14:07:54.086Z"},` +
		`"data":{"type":"oauth2-session","id":"kQBhsGhsBfrhUx8t8jBKLfobSZyK4bDA6wTddCRc","attributes":{` +
		`"customAttributes":{},"clientId":"oidc-client","consentTimestamp":"2020-09-07T13:43:54.139Z",` +
		`"authenticationTimestamp":"2020-09-07T13:43:22.890Z"}}}`
	got := newFixture(t).do("GET", "/session/").Body.String()
	if !strings.HasPrefix(got, strings.TrimSuffix(example, "}}}")) {
		t.Errorf("got\n%s", got)
	}
}

func TestNoSessionsIsAnEmptyArray(t *testing.T) {
	f := newFixture(t)
	clear(f.store.sessions)
	want := documentHead + `[],` + firstAndOnly
	if got := f.do("GET", "/sessions/").Body.String(); got != want {
		t.Errorf("got %s", got)
	}
}

// What identifies the user or his devices is not for relying parties.
func TestDocumentsKeepSubjectAndLogin(t *testing.T) {
	f := newFixture(t)
	for _, path := range []string{"/session/", "/sessions/", "/sessions/" + albumID + "/"} {
		if body := f.do("GET", path).Body.String(); strings.Contains(body, "secret") || strings.Contains(body, `"alex"`) {
			t.Errorf("%s: %s", path, body)
		}
	}
}

// Alex signs out his phone's other sessions, one from the phone, then the phone.
func TestEndingSessions(t *testing.T) {
	for _, slash := range []string{"", "/"} {
		f := newFixture(t)
		if got := ids(t, f.do("GET", "/sessions"+slash)); !slices.Equal(got, []string{phoneID, laptopID, albumID}) {
			t.Fatalf("at first: %v", got)
		}
		for _, step := range []struct {
			id     string
			reason sessions.Reason
			left   []string
		}{
			{albumID, sessions.ReasonEndedByClient, []string{phoneID, laptopID}},
			{laptopID, sessions.ReasonEndedByClient, []string{phoneID}},
			{phoneID, sessions.ReasonLogout, nil},
		} {
			w := f.do("DELETE", "/sessions/"+step.id+slash)
			if w.Code != http.StatusNoContent {
				t.Fatalf("ending %s: %d %s", step.id, w.Code, w.Body)
			}
			checkHeaders(t, w)
			if got := ids(t, f.do("GET", "/sessions"+slash)); !slices.Equal(got, step.left) {
				t.Errorf("after %s: %v", step.id, got)
			}
			ending := f.store.endings[len(f.store.endings)-1]
			if ending.Reason != step.reason || ending.By.String() != "client:oidc-client" || !ending.At.Equal(at("14:07:54.086")) {
				t.Errorf("ending: %+v", ending)
			}
			if again := f.do("DELETE", "/sessions/"+step.id+slash); again.Code != http.StatusNotFound {
				t.Errorf("a second time: %d", again.Code)
			}
		}
		if f.store.sessions[foreignID].Ended != nil {
			t.Error("kim's session ended")
		}
	}
}

func TestLogoutOfOwnSession(t *testing.T) {
	for _, path := range both("/session") {
		f := newFixture(t)
		if w := f.do("DELETE", path); w.Code != http.StatusNoContent {
			t.Fatalf("%s: %d", path, w.Code)
		}
		if len(f.store.endings) != 1 || f.store.sessions[phoneID].Ended == nil || f.store.endings[0].Reason != sessions.ReasonLogout {
			t.Errorf("%s: endings %+v", path, f.store.endings)
		}
	}
}

func TestClientVisibility(t *testing.T) {
	f := newFixture(t)
	f.config.Manager.Visibility = sessions.VisibilityClient
	if got := ids(t, f.do("GET", "/sessions/")); !slices.Equal(got, []string{phoneID, laptopID}) {
		t.Errorf("list: %v", got)
	}
	if w := f.do("GET", "/sessions/"+laptopID+"/"); w.Code != http.StatusOK {
		t.Errorf("own client's: %d", w.Code)
	}
	for _, method := range []string{"GET", "DELETE"} {
		if w := f.do(method, "/sessions/"+albumID+"/"); w.Body.String() != notFoundDocument {
			t.Errorf("%s of another client's: %d %s", method, w.Code, w.Body)
		}
	}
	if f.store.sessions[albumID].Ended != nil {
		t.Error("another client's session ended")
	}
}

func TestHeadAnswersLikeGet(t *testing.T) {
	f := newFixture(t)
	server := httptest.NewServer(f.router())
	defer server.Close()
	for _, path := range []string{"/session", "/sessions/", "/sessions/" + albumID, "/sessions/" + unknownID + "/", "/sessions/?x"} {
		var answers [2]*http.Response
		for i, method := range []string{"GET", "HEAD"} {
			r, err := http.NewRequest(method, server.URL+"/authorization-servers/myAS"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err != nil || (len(body) == 0) != (method == "HEAD") {
				t.Errorf("%s %s: body %q, %v", method, path, body, err)
			}
			answer.Header.Del("Date")
			answers[i] = answer
		}
		get, _ := json.Marshal(answers[0].Header)
		head, _ := json.Marshal(answers[1].Header)
		if answers[0].StatusCode != answers[1].StatusCode || string(get) != string(head) {
			t.Errorf("%s: GET %d %s, HEAD %d %s", path, answers[0].StatusCode, get, answers[1].StatusCode, head)
		}
	}
}

func TestOptionsNeedsNoToken(t *testing.T) {
	f := newFixture(t)
	f.denied = sessions.ErrCallerMissing
	for path, allow := range allowed {
		for _, path := range both(path) {
			w := f.do("OPTIONS", path)
			if w.Code != http.StatusNoContent || w.Header().Get("Allow") != allow {
				t.Errorf("%s: %d, Allow %q", path, w.Code, w.Header().Get("Allow"))
			}
			checkHeaders(t, w)
		}
	}
}

// A wrapper that allows origins has its own Vary.
func TestVaryIsAdded(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("Vary", "Origin")
	newFixture(t).router().ServeHTTP(w, httptest.NewRequest("GET", testBase+"/session/", nil))
	if got := w.Header().Values("Vary"); !slices.Equal(got, []string{"Origin", "Accept"}) {
		t.Errorf("Vary: %v", got)
	}
}
