package oauth_test

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
)

// state is the browser state cookie that the browser holds; empty: none.
func (b *browser) state() string {
	u, err := url.Parse(b.h.base)
	b.h.must(err)
	for _, c := range b.client.Jar.Cookies(u) {
		if c.Name == realmCookie.State().Name() {
			return c.Value
		}
	}
	return ""
}

// unchanged does what the script of the check session iframe does.
func unchanged(sessionState, client, origin, browserState string) bool {
	hash, salt, _ := strings.Cut(sessionState, ".")
	sum := sha256.Sum256([]byte(client + " " + origin + " " + browserState + " " + salt))
	return salt != "" && browserState != "" && hash == base64.RawURLEncoding.EncodeToString(sum[:])
}

// Session Management 1.0 §2, §3.2.
func TestSessionStateFollowsTheLogin(t *testing.T) {
	h := open(t, options{Server: func(cfg *oauth.Config) { cfg.SessionManagement = true }})
	s := h.jwt
	b := h.browser()
	first := s.response(b.signIn(b.follow(s.request("web")), "alex"))
	one, held := first.Get("session_state"), b.state()
	if !unchanged(one, "web", "https://web.example", held) || strings.ContainsAny(one, " ") {
		t.Fatalf("session_state %q, cookie %q", one, held)
	}
	for name, other := range map[string]bool{
		"another client":   unchanged(one, "other", "https://web.example", held),
		"another origin":   unchanged(one, "web", "https://evil.example", held),
		"no cookie":        unchanged(one, "web", "https://web.example", ""),
		"another state":    unchanged(one, "web", "https://web.example", held[1:]+held[:1]),
		"no session_state": unchanged("", "web", "https://web.example", held),
	} {
		if other {
			t.Errorf("%s is told unchanged", name)
		}
	}
	// The salt is another one each time, the state is not.
	again := s.response(b.follow(s.request("web", "prompt", "none"))).Get("session_state")
	if again == one || !unchanged(again, "web", "https://web.example", b.state()) || b.state() != held {
		t.Errorf("again: %q, cookie %q", again, b.state())
	}
	// The same login at the realm's other server, proven once more, and a form.
	if !unchanged(h.opaque.response(b.follow(h.opaque.request("web"))).Get("session_state"), "web", "https://web.example", held) {
		t.Error("the realm's other server says changed")
	}
	s.response(b.signIn(b.follow(s.request("web", "prompt", "login")), "alex"))
	if b.state() != held {
		t.Error("the state has changed with a proof in the same login")
	}
	form := b.follow(s.request("web", "response_mode", "form_post"))
	if _, v := form.form(); !unchanged(v.Get("session_state"), "web", "https://web.example", held) {
		t.Errorf("form_post: %v", v)
	}
	// Not for answers without an OpenID Connect sign-in, errors, and where no page can watch.
	for name, a := range map[string]url.Values{
		"no openid": s.response(b.follow(s.request("web", "scope", "profile"))),
		"error":     s.response(b.follow(s.request("web", "scope", "nonsense"))),
		"no origin": s.response(b.follow(s.request("native", "redirect_uri", "com.example.app:/cb"))),
	} {
		if a.Has("session_state") {
			t.Errorf("%s: %v", name, a)
		}
	}
	// Signing out, and another user's sign-in, change it.
	b.submit(b.get(h.base + "/logout"))
	if b.state() != "" {
		t.Error("the state stays after a sign-out")
	}
	s.response(b.signIn(b.follow(s.request("web")), "bob"))
	bobs := b.state()
	if bobs == "" || bobs == held || unchanged(one, "web", "https://web.example", bobs) {
		t.Errorf("bob's state is %q, alex's was %q", bobs, held)
	}
	s.response(b.signIn(b.follow(s.request("web", "prompt", "select_account")), "alex"))
	if b.state() == bobs || b.state() == held {
		t.Error("the state is that of a former login")
	}
	// A login that has ended elsewhere is noticed at the next visit.
	h.wait(lifetimes.LoginAbsolute)
	s.refused(b.get(s.request("web", "prompt", "none")), "login_required")
	if b.state() != "" {
		t.Error("the state outlives the login")
	}
	// The cookie is no credential, and the login's id is not in it.
	stranger := h.browser()
	stranger.setCookie(held)
	s.refused(stranger.get(s.request("web", "prompt", "none")), "login_required")
}

func TestSessionManagementIsOffUnlessAskedFor(t *testing.T) {
	h := open(t, options{})
	b := h.browser()
	v := h.jwt.response(b.signIn(b.follow(h.jwt.request("web")), "alex"))
	m := h.do(bare, http.MethodGet, h.jwt.at+"/.well-known/openid-configuration", "").json()
	if v.Has("session_state") || b.state() != "" || m["check_session_iframe"] != nil || m["frontchannel_logout_supported"] != nil {
		t.Errorf("%v, %q, %v", v, b.state(), m)
	}
	h = open(t, options{Server: func(cfg *oauth.Config) { cfg.SessionManagement, cfg.FrontChannelLogout = true, true }})
	s := h.jwt
	m = h.do(bare, http.MethodGet, s.at+"/.well-known/openid-configuration", "").json()
	if m["check_session_iframe"] != s.issuer+"/check_session" || m["frontchannel_logout_supported"] != true || m["frontchannel_logout_session_supported"] != true {
		t.Errorf("metadata %v", m)
	}
	a := h.do(bare, http.MethodGet, s.at+"/check_session", "")
	_, script, _ := strings.Cut(a.body, "<script>")
	script, _, _ = strings.Cut(script, "</script>")
	sum := sha256.Sum256([]byte(script))
	policy := a.header.Get("Content-Security-Policy")
	if a.status != http.StatusOK || a.header.Get("X-Frame-Options") != "" || a.header.Get("Set-Cookie") != "" || strings.Contains(policy, "frame-ancestors") ||
		policy != "default-src 'none'; script-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'; base-uri 'none'; form-action 'none'" {
		t.Errorf("%d %v\n%s", a.status, a.header, a.body)
	}
	if !strings.Contains(html.UnescapeString(a.body), `data-cookie="`+realmCookie.State().Name()+`"`) || !strings.Contains(a.header.Get("Content-Type"), "text/html") {
		t.Error(a.body)
	}
	if a := h.do(bare, http.MethodPost, s.at+"/check_session", ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %v", a.status, a.header)
	}
}

// Front-Channel Logout 1.0 §3: clients whose sessions end are told in frames, and
// nobody else is.
func TestSignOutPageTellsClientsInFrames(t *testing.T) {
	front := func(id, uri string) clients.Client {
		return client(id, func(c *clients.Client) { c.FrontchannelLogoutURI = uri })
	}
	static := []clients.Client{front("web", "https://web.example/front?a=%2F&b"), front("other", "https://other.example/front"), client("deaf"), client("scanner", machine,
		func(c *clients.Client) { c.Introspection = true }), front("unused", "https://unused.example/front")}
	for _, c := range static {
		if faults := c.Validate(); len(faults) > 0 {
			t.Fatalf("%s: %v", c.ClientID, faults)
		}
	}
	h := open(t, options{Static: static, Server: func(cfg *oauth.Config) { cfg.FrontChannelLogout = cfg.Name == jwtServer }})
	s := h.jwt
	frames := func(a answer) []string {
		var out []string
		for _, part := range strings.Split(a.body, `<iframe src="`)[1:] {
			to, _, _ := strings.Cut(part, `"`)
			out = append(out, html.UnescapeString(to))
		}
		slices.Sort(out)
		return out
	}
	b, elsewhere := h.signedIn("alex"), h.signedIn("alex")
	web, other := s.authorize(b, "web"), s.authorize(b, "other", "scope", "openid offline_access")
	s.authorize(b, "deaf")
	h.opaque.authorize(b, "web") // a server that doesn't
	s.authorize(elsewhere, "web")
	s.code(b, "unused") // without a token nobody knows of a session

	a := b.follow(s.endSession("id_token_hint", web.ID, "post_logout_redirect_uri", "https://web.example/bye", "state", "st"))
	a.isPage("/logout").isError(http.StatusOK, "You are signed out", `href="https://web.example/bye?state=st"`, `<noscript><meta http-equiv="refresh" content="5;url=https://web.example/bye?state=st"></noscript>`,
		"keep the access")
	sid := func(tk tokens) string { return claims(t, tk.ID)["sid"].(string) }
	iss := "iss=" + url.QueryEscape(s.issuer) + "&sid="
	want := []string{"https://other.example/front?" + iss + sid(other), "https://web.example/front?a=%2F&b&" + iss + sid(web)}
	if got := frames(a); !slices.Equal(got, want) {
		t.Errorf("frames %q, want %q", got, want)
	}
	if policy := a.header.Get("Content-Security-Policy"); !strings.Contains(policy, "; frame-src https://other.example https://web.example;") || !strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("policy %q", policy)
	}
	// Once more there is nobody to tell.
	b.follow(s.endSession("id_token_hint", web.ID, "post_logout_redirect_uri", "https://web.example/bye")).mustGo("https://web.example/bye")

	// By the user's own hand they are told as well.
	b = h.signedIn("alex")
	s.authorize(b, "other")
	a = b.submit(b.get(h.base + "/logout"))
	if got := frames(a); len(got) != 1 || !strings.HasPrefix(got[0], "https://other.example/front?iss=") || strings.Contains(a.body, "http-equiv") {
		t.Errorf("frames %q\n%s", got, a.body)
	}
	// Nobody is told of what lives.
	b = h.signedIn("alex")
	s.authorize(b, "other")
	if page := b.get(h.base + "/logout"); len(frames(page)) != 0 || strings.Contains(page.header.Get("Content-Security-Policy"), "frame-src") {
		t.Errorf("frames %q before anything ended", frames(page))
	}
}
