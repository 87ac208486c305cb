package relyingparty

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

//go:embed templates
var templateFiles embed.FS

//go:embed static/style.css
var styleSheet []byte

// brands are the header's colours of the themes of style.css.
var brands = [...]string{"#3a4bb0", "#9a3f16", "#7a2e6b", "#2f6330", "#235b8c", "#0f6663"}

// themeOf is the theme of an application: each has a colour of its own, as far
// as there are colours.
func themeOf(name string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	return int(h.Sum32() % uint32(len(brands)))
}

// page is one page to be shown.
type page struct {
	name   string // of its template
	title  string
	status int // 0: 200
	user   string
	data   any
}

// view is what templates see.
type view struct {
	App    string
	Mark   string // first letter of App
	Theme  int
	Title  string
	Style  string // URL
	Issuer string // origin
	User   string // who is signed in; empty: nobody
	D      any    // the page's own data
}

// loadPages parses the templates, each with the layout, and names the style
// sheet after its content.
func loadPages() (templates map[string]*template.Template, styleURL string, err error) {
	templates = map[string]*template.Template{}
	for _, name := range []string{"start", "user", "ended", "loggedout", "failure"} {
		t, err := template.New("layout.html").Option("missingkey=error").
			ParseFS(templateFiles, "templates/layout.html", "templates/"+name+".html")
		if err != nil {
			return nil, "", fmt.Errorf("relyingparty: template %s: %w", name, err)
		}
		templates[name] = t
	}
	sum := sha256.Sum256(styleSheet)
	return templates, "/style.css?" + hex.EncodeToString(sum[:8]), nil
}

// show renders a page completely before it writes the first byte.
func (p *RelyingParty) show(w http.ResponseWriter, _ *http.Request, pg page) error {
	var body bytes.Buffer
	err := p.templates[pg.name].Execute(&body, view{App: p.cfg.Name, Mark: initial(p.cfg.Name), Theme: p.theme, Title: pg.title,
		Style: p.styleURL, Issuer: originOf(p.cfg.Issuer), User: pg.user, D: pg.data})
	if err != nil {
		return fmt.Errorf("rendering page %s: %w", pg.name, err)
	}
	if pg.status == 0 {
		pg.status = http.StatusOK
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(pg.status)
	_, _ = w.Write(body.Bytes()) // fails only where the browser is gone
	return nil
}

func initial(name string) string {
	r, _ := utf8.DecodeRuneInString(name)
	return strings.ToUpper(string(r))
}

func (p *RelyingParty) style(w http.ResponseWriter, r *http.Request) error {
	if strings.HasSuffix(p.styleURL, "?"+r.URL.RawQuery) {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(styleSheet) // fails only where the browser is gone
	return nil
}

var iconTemplate = template.Must(template.New("icon").Parse(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">` +
	`<rect width="32" height="32" rx="8" fill="{{.Brand}}"/><text x="16" y="23" font-family="sans-serif" font-size="20" ` +
	`font-weight="bold" text-anchor="middle" fill="#ffffff">{{.Mark}}</text></svg>`))

func (p *RelyingParty) icon(w http.ResponseWriter, _ *http.Request) error {
	var body bytes.Buffer
	if err := iconTemplate.Execute(&body, map[string]string{"Brand": brands[p.theme], "Mark": initial(p.cfg.Name)}); err != nil {
		return fmt.Errorf("rendering the icon: %w", err)
	}
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Header().Set("Content-Type", "image/svg+xml")
	_, _ = w.Write(body.Bytes()) // fails only where the browser is gone
	return nil
}

// failure is an error with a page of its own.
type failure struct {
	status      int
	title       string
	text        string
	code        string // of an error response, shown as it came
	description string // likewise
	again       bool   // a sign-in may help
	cause       error  // for the log
}

// Error is for the log.
func (f *failure) Error() string { return f.title + ": " + f.cause.Error() }

// Unwrap is the cause.
func (f *failure) Unwrap() error { return f.cause }

func badRequest(text string, cause error) *failure {
	return &failure{status: http.StatusBadRequest, title: "This can't be answered", text: text, cause: cause}
}

func (p *RelyingParty) missing(http.ResponseWriter, *http.Request) error {
	return &failure{status: http.StatusNotFound, title: "There is no such page", text: "The address may have been mistyped.",
		cause: errors.New("no such page")}
}

// fail shows an error. What it says to the person is fixed; the cause is in
// the log.
func (p *RelyingParty) fail(w http.ResponseWriter, r *http.Request, err error) {
	p.log(r, err)
	var f *failure
	switch {
	case errors.As(err, &f):
	case errors.Is(err, errUnavailable):
		f = &failure{status: http.StatusServiceUnavailable, title: "Signing in isn't possible at the moment", again: true,
			text: "The authorization server can't be reached. Nothing is wrong with your account; try again in a moment."}
	case errors.Is(err, errRefused):
		f = &failure{status: http.StatusBadGateway, title: "You are not signed in", again: true,
			text: "The authorization server's answer could not be accepted. Nothing was shared."}
	default:
		f = &failure{status: http.StatusInternalServerError, title: "Something went wrong", text: "The application has made a mistake; its log tells more."}
	}
	err = p.show(w, r, page{name: "failure", title: f.title, status: f.status, data: map[string]any{
		"Text": f.text, "Code": f.code, "Description": f.description, "Again": f.again}})
	if err != nil {
		p.log(r, err)
		http.Error(w, "Something went wrong.", http.StatusInternalServerError)
	}
}

// log tells of a failure, without parameters.
func (p *RelyingParty) log(r *http.Request, err error) {
	p.cfg.Logger.WarnContext(r.Context(), "request failed", "client_id", p.cfg.ClientID, "method", r.Method, "path", short(r.URL.Path, 100),
		"error", short(err.Error(), 500))
}

// short is a text of at most n bytes and an ellipsis.
func short(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// fact is a name and what it is.
type fact struct{ Name, Value string }

// userView is the data of the user's page.
type userView struct {
	Name       string // what to call the user
	Notice     string
	Bad        bool
	List       *sessionList // nil: not available
	ListFault  string       // why
	Person     []fact
	Access     string // state of the access token
	Stale      bool   // it has expired
	Preview    string
	Renewed    string
	Refresh    bool
	Identity   []fact // ID token claims
	Now        time.Time
	HasProfile bool // Person is from userinfo
	CanSignOut bool // the issuer has a logout endpoint
}

// userPage is the page of somebody who is signed in. The notice is shown once.
func (p *RelyingParty) userPage(v *visit, list *sessionList, listErr error) page {
	now := p.cfg.Now()
	u := userView{Name: v.name(), Notice: v.notice, Bad: v.bad, List: list, Preview: preview(v.accessToken), Refresh: v.refreshToken != "",
		Renewed: clock(v.renewed), Identity: facts(v.identity), Now: now, HasProfile: v.user != nil,
		CanSignOut: v.issuer.endSession != ""}
	v.notice = ""
	u.Person = facts(v.user)
	switch {
	case v.expires.IsZero():
		u.Access = "valid; the server didn't say for how long"
	case v.expires.After(now):
		u.Access = "valid for " + span(v.expires.Sub(now)) + ", until " + clock(v.expires)
	default:
		u.Access, u.Stale = "expired since "+clock(v.expires), true
	}
	switch {
	case listErr == nil:
	case errors.Is(listErr, errForbidden):
		u.ListFault = "This application may not see your sessions."
	case errors.Is(listErr, errUnavailable):
		u.ListFault = "The authorization server can't be reached at the moment, so your sessions can't be shown. You are still signed in here."
	default:
		u.ListFault = "The authorization server's answer could not be read, so your sessions can't be shown."
	}
	return page{name: "user", title: "Your sessions", user: u.Name, data: u}
}

// name is what to call the user.
func (v *visit) name() string {
	for _, claims := range []map[string]any{v.user, v.identity} {
		for _, claim := range []string{"name", "preferred_username", "email"} {
			if s, ok := claims[claim].(string); ok && strings.TrimSpace(s) != "" {
				return short(s, 60)
			}
		}
	}
	return short(v.subject, 60)
}

// preview is what may be shown of a token.
func preview(token string) string {
	if len(token) < 32 {
		return "…"
	}
	return short(token[:8], 8) + "… (" + strconv.Itoa(len(token)) + " characters)"
}

// shownFirst are the claims that are shown before the others, in this order.
var shownFirst = []string{"name", "preferred_username", "email", "email_verified", "sub", "sid", "iss", "aud", "auth_time", "amr", "acr"}

// maxFacts bounds how many claims are shown.
const maxFacts = 60

// facts are claims to be shown.
func facts(claims map[string]any) []fact {
	names := make([]string, 0, len(claims))
	for name := range claims {
		names = append(names, name)
	}
	rank := func(name string) int {
		if i := slices.Index(shownFirst, name); i >= 0 {
			return i
		}
		return len(shownFirst)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	var out []fact
	for _, name := range names[:min(len(names), maxFacts)] {
		out = append(out, fact{Name: short(name, 100), Value: worded(name, claims[name])})
	}
	if len(names) > maxFacts {
		out = append(out, fact{Name: "…", Value: fmt.Sprintf("and %d more", len(names)-maxFacts)})
	}
	return out
}

// worded is a claim's value for people.
func worded(name string, value any) string {
	switch value := value.(type) {
	case string:
		return short(value, 500)
	case bool:
		if value {
			return "yes"
		}
		return "no"
	case float64:
		if slices.Contains([]string{"exp", "iat", "nbf", "auth_time", "updated_at"}, name) && value > 0 && value < 1e11 {
			return clock(time.Unix(int64(value), 0))
		}
	case []any:
		var parts []string
		for _, part := range value {
			s, ok := part.(string)
			if !ok {
				parts = nil
				break
			}
			parts = append(parts, s)
		}
		if parts != nil {
			return short(strings.Join(parts, ", "), 500)
		}
	}
	text, err := json.Marshal(value)
	if err != nil {
		return "?"
	}
	return short(string(text), 500)
}

// clock is a time for people.
func clock(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04:05 UTC") }

// span is a duration for people, exact to a second below an hour.
func span(d time.Duration) string {
	d = d.Truncate(time.Second)
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return strconv.Itoa(int(d.Hours()/24)) + " days"
}

// Ago is how long ago something was, for a list of sessions.
func (u userView) Ago(t time.Time) string {
	if d := u.Now.Sub(t); d >= 2*time.Second {
		return span(d) + " ago"
	}
	return "just now"
}

// In is when something will be, for a list of sessions.
func (u userView) In(t time.Time) string {
	if d := t.Sub(u.Now); d > 0 {
		return "in " + span(d)
	}
	return "now"
}
