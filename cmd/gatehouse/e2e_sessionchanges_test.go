//go:build unix

package main

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"gatehouse.dev/gatehouse/configs"
)

// change sends a PATCH with custom attributes for the token's own session.
func (api *sessionAPI) change(t *testing.T, token, id, attributes string) reply {
	t.Helper()
	body := `{"data":{"type":"oauth2-session","id":"` + id + `","attributes":{"customAttributes":` + attributes + `}}}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, api.issuer+"/session/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/vnd.api+json")
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{status: res.StatusCode, header: res.Header, body: string(text)}
}

func TestSessionsAreChangedAndEndedOverTheAPI(t *testing.T) {
	declared := func(cfg *configs.Config) {
		openToUsers(cfg)
		for _, as := range cfg.AuthorizationServers {
			as.SessionAPI.CustomAttributes = nil
		}
		cfg.AuthorizationServers["myAS"].SessionAPI.CustomAttributes = []configs.CustomAttribute{
			{Name: "deviceName", Pattern: ".{1,80}", Updatable: true}, {Name: "place", Pattern: "kitchen|hall", Updatable: true}, {Name: "fixed", Pattern: ".*"}}
	}
	onBothDatabases(t, func(t *testing.T, database string) {
		o := openOffice(t, database, declared)
		api, other := newSessionAPI(t, o.Issuer("myAS")), newSessionAPI(t, o.Issuer("partnerAS"))
		inspector := o.party("myAS", "inspector")
		browser := newBrowser(t)
		web, post := hold(t, o.party("myAS", "web"), browser), hold(t, o.party("myAS", "post"), browser)
		tablet := hold(t, o.party("myAS", "web"), newBrowser(t))
		abroad := hold(t, o.party("partnerAS", "web"), browser)
		stranger := hold(t, o.party("myAS", "web"), newBrowser(t).As("bea", "bea-demo"))

		// Two applications' instances write at the same time.
		var group sync.WaitGroup
		for _, attributes := range []string{`{"deviceName":"Kitchen tablet"}`, `{"place":"kitchen"}`} {
			group.Go(func() {
				if r := api.change(t, web.second, web.sid, attributes); r.status != http.StatusOK {
					t.Errorf("%s: %s", attributes, r)
				}
			})
		}
		group.Wait()
		const set = `"customAttributes":{"deviceName":"Kitchen tablet","place":"kitchen"}`
		for _, h := range []*holding{web, post} { // every client of the user sees them
			if r := api.call(t, http.MethodGet, "/sessions/"+web.sid, h.second); !strings.Contains(r.body, set) {
				t.Errorf("the changed session: %s", r)
			}
		}
		for name, tt := range map[string]struct {
			token, id, attributes string
			status                int
		}{
			"pattern":           {web.second, web.sid, `{"place":"garden"}`, 422},
			"undeclared":        {web.second, web.sid, `{"other":"x"}`, 422},
			"not updatable":     {web.second, web.sid, `{"fixed":"x","deviceName":"x"}`, 422},
			"another's id":      {web.second, post.sid, `{"deviceName":"x"}`, 409},
			"a stranger's id":   {web.second, stranger.sid, `{"deviceName":"x"}`, 409},
			"malformed":         {web.second, web.sid, `{"deviceName":"x","deviceName":"y"}`, 400},
			"too large":         {web.second, web.sid, `{"deviceName":"` + strings.Repeat("x", 17<<10) + `"}`, 413},
			"no token":          {"", web.sid, `{"deviceName":"x"}`, 401},
			"of another server": {abroad.second, web.sid, `{"deviceName":"x"}`, 401},
		} {
			if r := api.change(t, tt.token, tt.id, tt.attributes); r.status != tt.status {
				t.Errorf("%s: %s, want %d", name, r, tt.status)
			}
		}
		if r := other.change(t, abroad.second, abroad.sid, `{"deviceName":"x"}`); r.status != 422 {
			t.Errorf("at a server that declares none: %s", r)
		}
		if r := api.call(t, http.MethodGet, "/session", web.second); !strings.Contains(r.body, set) {
			t.Errorf("after all refusals: %s", r)
		}

		// The list page by page, over the links.
		seen, next := map[string]bool{}, o.Issuer("myAS")+"/sessions/?page[size]=1"
		for pages := 0; next != "" && pages < 5; pages++ {
			r := inquire(t, http.MethodGet, next, inquiry{bearer: web.second})
			data, _ := r.json["data"].([]any)
			links, _ := r.json["links"].(map[string]any)
			if len(data) != 1 || links == nil {
				t.Fatalf("a page of one: %s", r)
			}
			seen[data[0].(map[string]any)["id"].(string)] = true
			next, _ = links["next"].(string)
		}
		if len(seen) != 3 || next != "" || !seen[web.sid] || !seen[post.sid] || !seen[tablet.sid] {
			t.Errorf("the pages have %v, then %q", seen, next)
		}
		query := "?" + url.Values{"sort": {"createdTimestamp"}, "filter[clientId]": {web.rp.ClientID}, "fields[oauth2-session]": {"clientId"}}.Encode()
		if r := api.call(t, http.MethodGet, "/sessions/"+query, web.second); strings.Index(r.body, web.sid) > strings.Index(r.body, tablet.sid) ||
			strings.Contains(r.body, post.sid) || strings.Contains(r.body, "createdTimestamp\":") {
			t.Errorf("sorted, filtered and sparse: %s", r)
		}

		// Everything else ends; then everything.
		if r := api.call(t, http.MethodDelete, "/sessions?excludeCurrent=true", web.second); r.status != http.StatusNoContent {
			t.Fatal(r)
		}
		web.mustLive(t, inspector)
		post.mustBeDead(t, api, inspector)
		tablet.mustBeDead(t, api, inspector)
		abroad.mustLive(t, o.party("partnerAS", "inspector"))
		stranger.mustLive(t, inspector)
		if r := api.call(t, http.MethodDelete, "/sessions", web.second); r.status != http.StatusNoContent {
			t.Fatal(r)
		}
		web.mustBeDead(t, api, inspector)
		stranger.mustLive(t, inspector)
		if r := inquire(t, http.MethodGet, o.Issuer("myAS")+"/session-api.yaml", inquiry{}); r.status != http.StatusOK || !strings.Contains(r.body, o.Issuer("myAS")) {
			t.Errorf("the contract: %.200s", r)
		}
	})
}
