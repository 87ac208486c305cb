package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"gatehouse.dev/gatehouse/throttle"
	"gatehouse.dev/gatehouse/web"
)

// faults are what is wrong with a page as HTML, as something to be used with a
// keyboard or a screen reader, and as something that stays with itself.
func faults(body, lang string) []string {
	var out []string
	fault := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if strings.Count(body, "<!DOCTYPE html>") != 1 {
		fault("no doctype")
	}
	out = append(out, unbalanced(body)...)
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		return append(out, err.Error())
	}
	count, ids, labels, refers := map[string]int{}, map[string]bool{}, map[string]bool{}, []string{}
	var inputs []*html.Node
	var title, language string
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		count[n.Data]++
		at := map[string]string{}
		for _, a := range n.Attr {
			at[a.Key] = a.Val
			switch {
			case a.Key == "style", strings.HasPrefix(a.Key, "on"):
				fault("inline %s on %s", a.Key, n.Data)
			case a.Key == "id" && ids[a.Val]:
				fault("id %s twice", a.Val)
			case a.Key == "id":
				ids[a.Val] = true
			case a.Key == "tabindex", a.Key == "accesskey":
				fault("%s on %s", a.Key, n.Data)
			case slices.Contains([]string{"aria-describedby", "aria-controls", "aria-labelledby", "data-reveals", "data-copies"}, a.Key):
				refers = append(refers, a.Val)
			case slices.Contains([]string{"src", "action", "srcset", "data", "poster", "formaction"}, a.Key) || a.Key == "href" && n.Data != "a":
				if n.Data == "iframe" {
					break // judged below
				}
				if !strings.HasPrefix(a.Val, "/") || strings.HasPrefix(a.Val, "//") {
					fault("%s of %s is %q", a.Key, n.Data, a.Val)
				}
			}
		}
		switch n.Data {
		case "html":
			language = at["lang"]
		case "title":
			title = text(n)
		case "script":
			if at["src"] == "" || strings.TrimSpace(text(n)) != "" {
				fault("an inline script")
			}
		case "style", "object", "embed", "base":
			fault("a %s", n.Data)
		case "iframe": // of a client that is told of a sign-out
			if !strings.HasPrefix(at["src"], "https://") || at["title"] == "" || at["sandbox"] != "allow-scripts allow-same-origin allow-forms" {
				fault("a frame %v", at)
			}
		case "img":
			if _, ok := at["alt"]; !ok {
				fault("an image without alt")
			}
		case "label":
			labels[at["for"]] = true
		case "input":
			if at["type"] != "hidden" {
				inputs = append(inputs, n)
			}
		case "button", "a":
			if strings.TrimSpace(text(n)) == "" && at["aria-label"] == "" {
				fault("a %s without words", n.Data)
			}
			if at["type"] == "" && n.Data == "button" {
				fault("a button without type")
			}
			if at["target"] == "_blank" && at["rel"] != "noopener noreferrer" {
				fault("a link out that tells where it was")
			}
			if n.Data == "a" && !slices.ContainsFunc([]string{"/", "http://127.0.0.1", "https://"}, func(p string) bool { return strings.HasPrefix(at["href"], p) }) {
				fault("a link to %q", at["href"])
			}
		}
	}
	for _, n := range inputs {
		at := map[string]string{}
		for _, a := range n.Attr {
			at[a.Key] = a.Val
		}
		if !labels[at["id"]] || at["id"] == "" {
			fault("input %s without a label", at["name"])
		}
		if at["autocomplete"] == "" && at["type"] != "checkbox" {
			fault("input %s without autocomplete", at["name"])
		}
	}
	for _, id := range refers {
		if !ids[id] {
			fault("no element with id %s", id)
		}
	}
	for name, want := range map[string]int{"h1": 1, "main": 1, "title": 1, "html": 1, "header": 1} {
		if count[name] != want {
			fault("%d %s", count[name], name)
		}
	}
	if strings.TrimSpace(title) == "" || language != lang {
		fault("title %q, language %q", title, language)
	}
	return out
}

// unbalanced finds elements that are not closed where HTML's parser would mend
// it silently.
func unbalanced(body string) []string {
	void := []string{"meta", "link", "input", "img", "br"}
	var open, out []string
	z := html.NewTokenizer(strings.NewReader(body))
	for {
		switch z.Next() {
		case html.ErrorToken:
			if len(open) > 0 {
				out = append(out, fmt.Sprint("not closed: ", open))
			}
			return out
		case html.StartTagToken:
			if name, _ := z.TagName(); !slices.Contains(void, string(name)) {
				open = append(open, string(name))
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			if len(open) == 0 || open[len(open)-1] != string(name) {
				return append(out, fmt.Sprintf("</%s> closes %v", name, open))
			}
			open = open[:len(open)-1]
		}
	}
}

func text(n *html.Node) string {
	var out strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			out.WriteString(d.Data)
		}
	}
	return out.String()
}

// TestEveryPageIsSoundHTML, in every language and state.
func TestEveryPageIsSoundHTML(t *testing.T) {
	client, _ := cdn(t, func(http.ResponseWriter, *http.Request) {})
	for _, lang := range []string{"en", "de"} {
		h, _ := openThrottled(t, throttle.Limits{Account: 1, FirstWait: 90 * time.Second}, func(cfg *web.Config) {
			cfg.Outgoing = client
			cfg.Appearance = web.Appearance{Name: "Example & " + evil, Accent: "#9b1c4a", AccentDark: "#f19ab9",
				Links: []web.Link{{Text: "Help " + evil, URL: "https://help.example/"}}}
			cfg.Scopes = map[string]web.ScopeTexts{"myAS": {"photos:read": {"de": "sehen " + evil}}}
		})
		nobody, in := h.browser(), h.browser()
		nobody.accept, in.accept = lang, lang
		login := nobody.get(h.request("evil"))
		consent := atConsent(h, in, h.request("long", "scope", "openid profile photos:read email offline_access", "resource", "https://api.example/photos/v1"), "alex", alexPassword)
		in.get(in.submit(consent, "decision", "allow").location())
		record := func(f func(http.ResponseWriter, *http.Request)) answer {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodGet, "/authorize?a=b", nil)
			r.Header.Set("Accept-Language", lang)
			f(w, r)
			return answer{t, "", w.Code, w.Header(), w.Body.String()}
		}
		leaving := h.browser()
		leaving.accept = lang
		leaving.signIn(h.request("house"), "alex", alexPassword)
		h.uses(leaving, "house")
		h.uses(leaving, "evil", "scope", "openid offline_access")
		// One attempt is allowed: who fails first is nobody that the test needs.
		const name = "nobody"
		pages := map[string]answer{
			"login":              login,
			"login, no name":     nobody.submit(login, "username", "", "password", "x"),
			"login, no password": nobody.submit(login, "username", "x", "password", ""),
			"login, wrong":       nobody.submit(login, "username", name, "password", "x"),
			"login, throttled":   nobody.submit(login, "username", name, "password", "x"),
			"login, again":       in.get(h.request("album", "prompt", "login")),
			"login, other":       in.get(h.request("album", "prompt", "select_account")),
			"consent":            consent,
			"consent, more":      in.get(h.request("long", "scope", "openid profile phone address photos:write", "resource", "https://api.example/photos/v1")),
			"consent, again":     in.get(h.request("long", "scope", "openid profile", "prompt", "consent")),
			"home":               nobody.get(h.base + "/login"),
			"home, signed in":    in.get(h.base + "/login"),
			"logout":             in.get(h.base + "/logout"),
			"signed out":         nobody.get(h.base + "/logout"),
			"logout, asked":      in.get(h.endSession("client_id", "evil", "logout_hint", evil, "post_logout_redirect_uri", "https://evil.example/bye")),
			"signed out, back":   nobody.get(h.endSession("client_id", "evil", "post_logout_redirect_uri", "https://evil.example/bye", "state", evil)),
			"logout, uses":       leaving.get(h.base + "/logout"),
			"signed out, frames": leaving.submit(leaving.get(h.endSession("client_id", "house", "post_logout_redirect_uri", "https://house.example/bye"))),
			"link":               nobody.get(h.base + "/login?as=myAS&request=client_id%3Dalbum"),
			"missing":            nobody.get(h.base + "/static/none"),
			"method":             nobody.do(http.MethodPut, h.base+"/login", ""),
			"request":            nobody.get(h.issuer + "/authorize?client_id=nobody"),
			"cookies":            record(h.pages.CookiesBlocked),
		}
		// Alex sits at one of several browsers, and some are over.
		old, alone := h.browser(), h.browser()
		alone.use("album", "openid offline_access", "alex", alexPassword)
		alone.submit(alone.get(h.base + "/logout"))
		old.use("evil", "openid photos:read offline_access", "alex", alexPassword)
		for _, l := range h.logins("alex") {
			if err := h.realm.NameLogin(t.Context(), l.UserID, l.ID, evil); err != nil {
				t.Fatal(err)
			}
		}
		other := h.logins("alex")[0].ID
		password := in.get(h.base + "/account/password")
		for name, path := range map[string]string{
			"sessions": "/account/sessions", "history": "/account/history", "history, older": "/account/history?before=1",
			"permissions": "/account/permissions", "end": "/account/sessions/" + other + "/end", "end, others": "/account/sessions/end?what=others",
			"end, all": "/account/sessions/end?what=all", "name": "/account/sessions/" + other + "/name", "withdraw": "/account/permissions/withdraw?server=myAS&client=evil",
			"gone": "/account/sessions/x/end",
		} {
			pages["account, "+name] = in.get(h.base + path)
		}
		pages["account, password"] = password
		pages["account, sessions, done"] = in.follow(in.submit(in.get(h.base+"/account/sessions/"+other+"/name"), "device", "evil")).expect(200, `class="notice notice-good"`)
		pages["account, password, short"] = in.submit(password, "old", alexPassword, "new", "x", "again", "x")
		pages["account, password, differ"] = in.submit(password, "old", alexPassword, "new", "a new password", "again", "x")
		pages["account, stale"] = in.do(http.MethodPost, h.base+"/account/password", "seal=x")
		pages["account, sign-in"] = nobody.get(h.base + "/account")
		pages["account, sign-in again"] = in.get(h.base + "/login?to=account&again=1")
		pages["account, sign-in, not done"] = nobody.follow(nobody.do(http.MethodPost, h.base+"/account/password", "")).expect(200, "notice-bad")
		pages["account, password, not done"] = in.follow(nobody.do(http.MethodPost, h.base+"/account/password", "")).expect(200, "notice-bad")
		pages["account, sign-in other"] = in.get(h.base + "/login?to=account&account=other")
		for _, status := range []int{400, 403, 404, 405, 413, 500, 503} {
			pages[fmt.Sprint("error ", status)] = record(func(w http.ResponseWriter, r *http.Request) { h.pages.Error(w, r, status, "some_"+evil, evil) })
		}
		for name, a := range pages {
			for _, fault := range faults(a.body, lang) {
				t.Errorf("%s, %s: %s", lang, name, fault)
			}
			if a.header.Get("Content-Language") != lang {
				t.Errorf("%s, %s: Content-Language %q", lang, name, a.header.Get("Content-Language"))
			}
		}
		// Deny comes first and is no less a button than allow.
		deny, allow := strings.Index(consent.body, `<button type="submit" class="button" name="decision" value="deny">`), strings.Index(consent.body, `<button type="submit" class="button" name="decision" value="allow">`)
		if deny < 0 || allow < deny {
			t.Errorf("deny at %d, allow at %d", deny, allow)
		}
		// What is new is marked only where there is something old.
		for page, want := range map[string]int{"consent": 0, "consent, more": 3, "consent, again": 0} {
			if n := strings.Count(pages[page].body, `class="badge"`); n != want {
				t.Errorf("%s: %d are marked as new, want %d", page, n, want)
			}
		}
	}
	if got := faults(`<!DOCTYPE html><html><body><p style="x"><div></p><img src="https://evil.example/x.png"><script>x</script><input name="a"></body></html>`, "en"); len(got) < 9 {
		t.Errorf("of a bad page only %q are found", got)
	}
}

// TestRestartLeadsBackToTheRequest: a page that can't go on offers the same
// request once more, of a client of ours and nothing else.
func TestRestartLeadsBackToTheRequest(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	_, good := b.get(h.request("album", "ui_locales", "de")).form()
	start := func(v url.Values) string {
		page := b.get(h.base + "/login?" + v.Encode()).expect(400)
		_, rest, found := strings.Cut(page.body, `<a class="button primary" href="`)
		if !found {
			return ""
		}
		to, _, _ := strings.Cut(rest, `"`)
		return html.UnescapeString(to)
	}
	stale := url.Values{"as": good["as"], "request": good["request"], "stamp": {"stale"}}
	to := start(stale)
	if to != h.issuer+"/authorize?"+good.Get("request") {
		t.Errorf("leads to %s", to)
	}
	b.get(to).expect(200, `<html lang="de">`, `name="username"`)
	b.get(h.base+"/login?"+stale.Encode()).expect(400, `<html lang="de">`)
	for name, v := range map[string]url.Values{
		"another server":  {"as": {"other"}, "request": good["request"]},
		"another client":  {"as": {"myAS"}, "request": {"client_id=nobody"}},
		"no client":       {"as": {"myAS"}, "request": {"https://evil.example/"}},
		"no request":      {"as": {"myAS"}, "stamp": {"x"}},
		"too long":        {"as": {"myAS"}, "request": {good.Get("request") + "&x=" + strings.Repeat("a", 9000)}},
		"an unreadable":   {"as": {"myAS"}, "request": {"client_id=album&%zz"}},
		"its stamp alone": {"as": {"myAS"}, "request": {"gatehouse_stamp=x"}},
	} {
		if to := start(v); to != "" {
			t.Errorf("%s: leads to %s", name, to)
		}
	}
}
