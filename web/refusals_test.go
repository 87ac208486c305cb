package web_test

import (
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/web"
)

// static asks for a file to which a page refers.
func (b *browser) static(reference string, page answer) answer {
	b.h.t.Helper()
	m := regexp.MustCompile(reference).FindStringSubmatch(page.body)
	if m == nil {
		b.h.t.Fatalf("no %s in\n%s", reference, page.body)
	}
	return b.do(http.MethodGet, strings.TrimSuffix(b.h.base, "/realms/default")+html.UnescapeString(m[1]), "")
}

// TestHeadersOfEveryPage: the policy is as strict as each page and file allows.
func TestHeadersOfEveryPage(t *testing.T) {
	logo := picture(t, 8, 8)
	client, _ := cdn(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "cdn.example" {
			_, _ = w.Write(logo)
		}
	})
	h := open(t, func(cfg *web.Config) {
		cfg.Outgoing = client
		cfg.Appearance = web.Appearance{Name: "Example", Accent: "#9b1c4a", AccentDark: "#f19ab9",
			Logo: &web.Image{Body: []byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`), Media: "image/svg+xml"}}
	})
	files := map[string]string{"style sheet": "text/css; charset=utf-8", "realm's style sheet": "text/css; charset=utf-8",
		"script": "text/javascript; charset=utf-8", "realm's logo": "image/svg+xml", "client's logo": "image/png", "client's monogram": "image/svg+xml"}
	in := h.browser()
	consent := atConsent(h, in, h.request("album"), "alex", alexPassword)
	login := h.browser().get(h.request("album"))
	leaving := h.browser()
	leaving.signIn(h.request("house"), "alex", alexPassword)
	h.uses(leaving, "house")
	const (
		leaves = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'"
		strict = leaves + "; form-action 'self'"
		framed = leaves + "; frame-src https://house.example; form-action 'self'"
		file   = "default-src 'none'; frame-ancestors 'none'; sandbox"
		svg    = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
	)
	record := func(f func(http.ResponseWriter, *http.Request)) answer {
		w := httptest.NewRecorder()
		f(w, httptest.NewRequest(http.MethodGet, "/", nil))
		return answer{t, "", w.Code, w.Header(), w.Body.String()}
	}
	for _, c := range []struct {
		name   string
		answer answer
		status int
		policy string
	}{
		{"login", login, 200, leaves},
		{"failed login", in.submit(login, "username", "alex", "password", "x"), 422, leaves},
		{"done login", h.browser().submit(login, "username", "alex", "password", alexPassword), 303, leaves},
		{"login without request", in.get(h.base + "/login"), 200, strict},
		{"stale link", in.get(h.base + "/login?as=myAS"), 400, strict},
		{"consent", consent, 200, leaves},
		{"consent, no logo", in.get(h.request("evil")), 200, leaves},
		{"done consent", in.submit(consent, "decision", "deny"), 303, leaves},
		{"cookies blocked", h.browser().get(consent.url), 400, strict},
		{"logout", in.get(h.base + "/logout"), 200, strict},
		{"signed out", h.browser().get(h.base + "/logout"), 200, strict},
		{"logout for an application", in.get(h.endSession("client_id", "album", "post_logout_redirect_uri", "https://album.example/bye")), 200, leaves},
		{"logout for an application without a page", in.get(h.endSession("client_id", "album")), 200, strict},
		{"signed out, with a way back", h.browser().get(h.endSession("client_id", "album", "post_logout_redirect_uri", "https://album.example/bye")), 200, strict},
		{"signed out, with frames", leaving.submit(leaving.get(h.base + "/logout")), 200, framed},
		{"logout refused", in.get(h.endSession("client_id", "nobody")), 400, strict},
		{"method", in.do(http.MethodPut, h.base+"/login", ""), 405, strict},
		{"cross-site", in.do(http.MethodPost, h.base+"/login", "", "Sec-Fetch-Site", "cross-site"), 403, strict},
		{"missing file", in.get(h.base + "/static/none.css"), 404, strict},
		{"authorization server's error", in.get(h.issuer + "/authorize?client_id=nobody"), 400, strict},
		{"blocked cookies", record(h.pages.CookiesBlocked), 400, strict},
		{"unavailable", record(func(w http.ResponseWriter, r *http.Request) { h.pages.Error(w, r, 503, "temporarily_unavailable", "") }), 503, strict},
		{"style sheet", in.static(`href="([^"]*/style[^"]*)"`, login), 200, file},
		{"realm's style sheet", in.static(`href="([^"]*/realm[^"]*)"`, login), 200, file},
		{"script", in.static(`src="([^"]*/pages[^"]*)"`, login), 200, file},
		{"realm's logo", in.static(`href="([^"]*/logo[^"]*)"`, login), 200, svg},
		{"client's logo", in.static(`src="([^"]*/client-logo[^"]*)"`, login), 200, file},
		{"client's monogram", in.do(http.MethodGet, h.base+"/static/client-logo?as=myAS&client=evil", ""), 200, svg},
		{"client without a logo", in.do(http.MethodGet, h.base+"/static/client-logo?as=myAS&client=house", ""), 404, strict},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.answer.status != c.status {
				t.Fatalf("status %d, want %d\n%s", c.answer.status, c.status, c.answer.body)
			}
			cache, opener := "no-store", "same-origin"
			if c.policy == leaves {
				opener = "" // shown in popup windows of relying parties
			}
			media, isFile := files[c.name]
			switch {
			case c.name == "client's logo":
				cache, opener = "public, max-age=3600", ""
			case c.name == "client's monogram":
				cache, opener = "public, max-age=300", ""
			case isFile:
				cache, opener = "public, max-age=31536000, immutable", ""
			}
			for name, want := range map[string]string{
				"Content-Security-Policy": c.policy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
				"Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": opener, "Cache-Control": cache,
				"Permissions-Policy": "camera=(), geolocation=(), microphone=()", "Cross-Origin-Resource-Policy": "same-origin",
			} {
				if got := c.answer.header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if !isFile {
				media = "text/html; charset=utf-8"
			}
			if got := c.answer.header.Get("Content-Type"); c.status != 303 && got != media {
				t.Errorf("type %q, want %q", got, media)
			}
		})
	}
}

// TestPostsOfOtherSitesAreRefused, and change nothing.
func TestPostsOfOtherSitesAreRefused(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	consent := atConsent(h, b, h.request("album"), "alex", alexPassword)
	loginTo, login := b.get(h.request("house", "prompt", "login")).form("username", "bob", "password", bobPassword)
	consentTo, decide := consent.form("decision", "allow")
	own := "http://" + strings.Split(h.base, "/")[2]
	for _, post := range []struct {
		to   string
		form url.Values
	}{{loginTo, login}, {consentTo, decide}, {h.base + "/logout", nil}} {
		for _, header := range [][]string{
			{"Sec-Fetch-Site", "cross-site"},
			{"Sec-Fetch-Site", "same-site"},
			{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"},
			{"Sec-Fetch-Site", "", "Origin", "https://evil.example"},
			{"Sec-Fetch-Site", "", "Origin", "null"},
			{"Sec-Fetch-Site", "", "Origin", own + ".evil.example"},
		} {
			a := b.do(http.MethodPost, post.to, post.form.Encode(), header...)
			a.expect(403, "This came from another site")
			if a.location() != "" || a.header.Get("Set-Cookie") != "" {
				t.Errorf("%s %v: headers %v", post.to, header, a.header)
			}
		}
	}
	if len(h.logins("alex")) != 1 || len(h.logins("bob")) != 0 {
		t.Error("logins have changed")
	}
	b.do(http.MethodPost, consentTo, decide.Encode(), "Sec-Fetch-Site", "", "Origin", own).expect(303)
	b.do(http.MethodPost, h.base+"/logout", "", "Sec-Fetch-Site", "", "Origin", own).expect(200, "You are signed out")
}

// TestForeignStampsAreRefused with words that help.
func TestForeignStampsAreRefused(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	_, good := b.get(h.request("album")).form()
	_, other := b.get(h.request("house")).form()
	with := func(name, value string) url.Values {
		v := url.Values{}
		for k := range good {
			v.Set(k, good.Get(k))
		}
		if v.Set(name, value); value == "" {
			v.Del(name)
		}
		return v
	}
	for name, v := range map[string]url.Values{
		"no server":         with("as", ""),
		"unknown server":    with("as", "other"),
		"no stamp":          with("stamp", ""),
		"tampered stamp":    with("stamp", good.Get("stamp")[:len(good.Get("stamp"))-2]),
		"another's stamp":   with("stamp", other.Get("stamp")),
		"no request":        with("request", ""),
		"another's request": with("request", other.Get("request")),
		"request longer":    with("request", good.Get("request")+"&x=y"),
		"no query":          with("request", "%zz"),
		"request too long":  with("request", good.Get("request")+"&x="+strings.Repeat("a", 9000)),
	} {
		for _, page := range []string{"/login", "/consent"} {
			for method, a := range map[string]answer{
				"GET": b.get(h.base + page + "?" + v.Encode()), "POST": b.do(http.MethodPost, h.base+page, v.Encode())} {
				if a.status != 400 || !strings.Contains(a.body, "This sign-in can’t go on") || !strings.Contains(a.body, "Go back to the application") ||
					!strings.Contains(a.body, "request-4711") || a.location() != "" {
					t.Errorf("%s: %s %s: %d\n%s", name, method, page, a.status, a.body)
				}
			}
		}
	}
	b.get(h.base + "/login?" + good.Encode()).expect(200)
	h.wait(oauth.StampLifetime + time.Second)
	b.get(h.base+"/login?"+good.Encode()).expect(400, "more than half an hour")
}

func TestUnreadableFormsAreRefused(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	to, form := b.get(h.request("album")).form("username", "alex", "password", alexPassword)
	b.do(http.MethodPost, to, form.Encode()+"&x="+strings.Repeat("a", 64<<10)).expect(413, "The form was too long")
	b.do(http.MethodPost, to, form.Encode()+"&%zz").expect(400, "The form was incomplete")
	for _, media := range []string{"", "text/plain", "application/json", "multipart/form-data; boundary=x", "///"} {
		b.do(http.MethodPost, to, form.Encode(), "Content-Type", media).expect(415)
	}
	multipart := "--x\r\nContent-Disposition: form-data; name=\"as\"\r\n\r\nmyAS\r\n--x--\r\n"
	b.do(http.MethodPost, to, multipart, "Content-Type", "multipart/form-data; boundary=x").expect(415)
	// What is typed counts only in the body: URLs end up in logs.
	b.do(http.MethodPost, to+"?"+url.Values{"username": {"alex"}, "password": {alexPassword}}.Encode(),
		url.Values{"as": form["as"], "stamp": form["stamp"], "request": form["request"]}.Encode()).expect(422)
	if len(h.logins("alex")) != 0 {
		t.Error("signed in")
	}
}

// TestLongestRequestFitsTheForm: what /authorize takes, the pages take as well.
func TestLongestRequestFitsTheForm(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	request := h.request("house", "state", strings.Repeat("%", 2600)) // three bytes each in a URL, five in the form
	if len(request) < 7900 {
		t.Fatalf("only %d bytes", len(request))
	}
	page := b.get(request).expect(200)
	b.submit(page, "username", "alex", "password", strings.Repeat("\xff", 1024)).expect(422)
	b.submit(page, "username", "alex", "password", alexPassword).expect(303)
}

func TestMethods(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, http.MethodTrace, "FOO"} {
		for page, allow := range map[string]string{"/login": "GET, HEAD, POST", "/consent": "GET, HEAD, POST", "/logout": "GET, HEAD, POST", "/static/x": "GET, HEAD"} {
			if a := b.do(method, h.base+page, ""); a.status != 405 || a.header.Get("Allow") != allow {
				t.Errorf("%s %s: %d, Allow %q", method, page, a.status, a.header.Get("Allow"))
			}
		}
	}
	b.do(http.MethodPost, h.base+"/static/x", "").expect(405)
	if a := b.do(http.MethodHead, h.base+"/login", ""); a.status != 200 || a.body != "" {
		t.Errorf("HEAD: %d, %d bytes", a.status, len(a.body))
	}
}

func TestSigningOut(t *testing.T) {
	h := open(t, nil)
	b, elsewhere := h.browser(), h.browser()
	b.signIn(h.request("house"), "alex", alexPassword)
	elsewhere.signIn(h.request("house"), "alex", alexPassword)
	page := b.get(h.base+"/logout").expect(200, "Sign out?", "Alex (alex)")
	if len(h.logins("alex")) != 2 {
		t.Fatal("a GET has ended a login")
	}
	a := b.submit(page).expect(200, "You are signed out")
	if a.location() != "" || !strings.Contains(a.header.Get("Set-Cookie"), "Max-Age=0") || b.cookie() != "" {
		t.Errorf("sent to %s, cookie %q", a.location(), a.header.Get("Set-Cookie"))
	}
	if len(h.logins("alex")) != 1 {
		t.Error("not exactly this browser's login has ended")
	}
	b.get(h.base+"/logout").expect(200, "You are signed out")
	b.submit(page).expect(200, "You are signed out") // once more, by the back button
	elsewhere.get(h.base+"/logout").expect(200, "Sign out?")
}

// TestStorageGone: an honest page with the request id; the cause is logged once.
func TestStorageGone(t *testing.T) {
	h := open(t, nil)
	b := h.browser()
	consent := atConsent(h, b, h.request("album"), "alex", alexPassword)
	consentTo, decide := consent.form("decision", "allow")
	loginTo, login := b.get(h.request("album", "prompt", "login")).form("username", "alex", "password", alexPassword)
	cookie := b.cookie()
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	for name, ask := range map[string]func() answer{
		"login":        func() answer { return b.get(h.base + "/login?" + login.Encode()) },
		"sign in":      func() answer { return b.do(http.MethodPost, loginTo, login.Encode()) },
		"consent":      func() answer { return b.get(consent.url) },
		"decide":       func() answer { return b.do(http.MethodPost, consentTo, decide.Encode()) },
		"logout":       func() answer { return b.get(h.base + "/logout") },
		"sign out":     func() answer { return b.do(http.MethodPost, h.base+"/logout", "") },
		"bare sign-in": func() answer { return b.get(h.base + "/login") },
	} {
		before := strings.Count(h.log.String(), "request-4711")
		a := ask()
		if a.status != 503 || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "request-4711") || a.location() != "" {
			t.Errorf("%s: %d %v\n%s", name, a.status, a.header, a.body)
		}
		if strings.Contains(a.body, "sql") || strings.Contains(a.body, "database") {
			t.Errorf("%s tells the cause:\n%s", name, a.body)
		}
		if n := strings.Count(h.log.String(), "request-4711") - before; n != 1 {
			t.Errorf("%s: logged %d times", name, n)
		}
	}
	if b.cookie() != cookie {
		t.Error("the cookie has changed")
	}
}

func TestErrorPageShowsCodeAndDescriptionAsText(t *testing.T) {
	h := open(t, nil)
	for _, c := range []struct {
		status            int
		code, description string
		want              []string
	}{
		{400, "invalid_request", "The redirect_uri is not registered.", []string{"<code>invalid_request</code>", "The redirect_uri is not registered.", "tell those who run the application"}},
		{400, evil, evil, []string{"&lt;script&gt;alert(1)&lt;/script&gt;"}},
		{403, "access_denied", "", []string{"<code>access_denied</code>"}},
		{404, "", "", []string{"There is nothing here"}},
		{405, "", "", []string{"This page can’t be used like that"}},
		{413, "invalid_request", strings.Repeat("long ", 2000), []string{"long long"}},
		{500, "server_error", "", []string{"Something went wrong", "Request ID", "request-4711"}},
		{502, "", "", []string{"Something went wrong"}},
		{503, "temporarily_unavailable", "", []string{"Not available just now", "Wait a few seconds"}},
	} {
		w := httptest.NewRecorder()
		h.pages.Error(w, httptest.NewRequest(http.MethodGet, "/authorize", nil), c.status, c.code, c.description)
		a := answer{t, "", w.Code, w.Header(), w.Body.String()}.expect(c.status, c.want...)
		if strings.Contains(a.body, "<script>") {
			t.Error("markup came through")
		}
		if retry := a.header.Get("Retry-After") != ""; retry != (c.status == 503) {
			t.Errorf("%d: Retry-After %v", c.status, retry)
		}
	}
	w := httptest.NewRecorder()
	w.Header().Set("Retry-After", "1")
	h.pages.Error(w, httptest.NewRequest(http.MethodGet, "/authorize", nil), 503, "", "")
	if w.Header().Get("Retry-After") != "1" {
		t.Error("another's Retry-After was replaced")
	}
}
