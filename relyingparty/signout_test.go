package relyingparty_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// leave presses "Sign out everywhere" and returns what the issuer is asked.
func (p *party) leave() url.Values {
	p.t.Helper()
	res := p.post("/sign-out", nil)
	to, err := url.Parse(res.location)
	if err != nil || res.status != http.StatusSeeOther || !strings.HasPrefix(res.location, p.fakeIssuer.URL+"/bye?") {
		p.t.Fatalf("signing out: %d to %q\n%s", res.status, res.location, res.body)
	}
	return to.Query()
}

func TestSignOutIsAnsweredOnceAndInItsBrowser(t *testing.T) {
	f := newFakeIssuer(t)
	f.metadata = func(m map[string]any) { m["end_session_endpoint"] = f.URL + "/bye" }
	p := openParty(t, f)
	p.signIn()
	asked := p.leave()
	if asked.Get("client_id") != clientID || asked.Get("post_logout_redirect_uri") != p.url+"/signed-out" || len(asked.Get("state")) < 40 ||
		strings.Count(asked.Get("id_token_hint"), ".") != 2 {
		t.Errorf("the issuer is asked %v", asked)
	}
	if p.signedIn() {
		t.Error("the user is still signed in here")
	}
	answer := "/signed-out?state=" + url.QueryEscape(asked.Get("state"))
	if res := p.anotherBrowser().get(answer); res.status != http.StatusBadRequest {
		t.Errorf("in another browser: %d", res.status)
	}
	for _, bad := range []string{"", "?state=", "?state=x", "?state=" + strings.Repeat("x", 43), "?" + strings.TrimPrefix(answer, "/signed-out?") + "&state=x", "?state=%zz"} {
		if res := p.get("/signed-out" + bad); res.status != http.StatusBadRequest {
			t.Errorf("%q: %d", bad, res.status)
		}
	}
	if res := p.get(answer); res.status != http.StatusSeeOther || res.location != "/logged-out?everywhere" {
		t.Errorf("the answer: %d to %q", res.status, res.location)
	}
	if res := p.get("/logged-out?everywhere"); !strings.Contains(res.body, `id="everywhere"`) {
		t.Error(res.body)
	}
	if res := p.get(answer); res.status != http.StatusBadRequest {
		t.Errorf("once more: %d", res.status)
	}
	if res := p.post("/sign-out", nil); res.location != "/" {
		t.Errorf("without a user: to %q", res.location)
	}
}

// An issuer without the endpoint is told of the own session.
func TestSignOutWithoutAnEndpointEndsTheOwnSession(t *testing.T) {
	f := newFakeIssuer(t)
	p := openParty(t, f)
	p.signIn()
	if body := p.get("/").body; strings.Contains(body, `id="sign-out"`) {
		t.Error("the page offers what the issuer doesn't")
	}
	if res := p.post("/sign-out", nil); res.location != "/logged-out" || p.signedIn() {
		t.Errorf("to %q", res.location)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if last := f.calls[len(f.calls)-1]; last != "DELETE /session/" {
		t.Errorf("the last call is %s", last)
	}
}
