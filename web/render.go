package web

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"
)

//go:embed templates
var templateFiles embed.FS

// page is one page to be shown.
type page struct {
	name    string   // of its template
	title   string   // catalogue key
	status  int      // 0: 200
	leaves  bool     // its form may end in a redirect to a client
	frames  []string // origins of what it shows in frames
	locales []string
	frame   *frame // what stands around a page for who is signed in; nil: nothing
	fetches bool   // our script may ask our own origin from it
	data    any
}

// frame stands around a page for who is signed in: his name, the way out, and
// the pages that belong together.
type frame struct {
	Person string
	Label  string // catalogue key of what the tabs are
	Tabs   []tab
}

// tab is one of the pages that belong together.
type tab struct {
	Text string // catalogue key
	URL  string
	Here bool // it is the page itself, or leads to it
}

// view is what templates see.
type view struct {
	Lang   string
	Title  string
	Path   string // prefix of our own URLs
	Styles []string
	Script string // URL
	Icon   string // URL
	Brand  brand
	Frame  *frame // nil: the page is a single card
	D      any    // the page's own data

	texts texts
	now   time.Time
}

// With is the view with other data, for a part that is shown many times.
func (v view) With(d any) view {
	v.D = d
	return v
}

// parseTemplates makes one template set a page, each with the layout.
func parseTemplates() (map[string]*template.Template, error) {
	out := map[string]*template.Template{}
	for _, name := range []string{"login", "home", "consent", "logout", "signedout", "error",
		"sessions", "history", "permissions", "password", "rename", "confirm",
		"adminsessions", "adminuser", "adminend"} {
		t, err := template.New("layout.html").Option("missingkey=error").
			ParseFS(templateFiles, "templates/layout.html", "templates/parts.html", "templates/cards.html", "templates/notices.html", "templates/adminparts.html",
				"templates/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("web: template %s: %w", name, err)
		}
		out[name] = t
	}
	return out, nil
}

// show renders a page completely before it writes the first byte, so that a
// failing template becomes an error page and not half a page.
func (p *Pages) show(w http.ResponseWriter, r *http.Request, pg page) error {
	t := p.catalogue.choose(pg.locales, r)
	title, err := t.text(pg.title)
	if err != nil {
		return err
	}
	v := view{Lang: t.lang, Title: title, Path: p.path, Styles: p.styles, Script: p.names["pages.js"], Icon: p.icon,
		Brand: p.brand, Frame: pg.frame, D: pg.data, texts: t, now: p.now()}
	var body bytes.Buffer
	if err := p.templates[pg.name].Execute(&body, v); err != nil {
		return fmt.Errorf("rendering page %s: %w", pg.name, err)
	}
	secure(w.Header(), pg.leaves, pg.frames...)
	if pg.fetches {
		w.Header().Set("Content-Security-Policy", w.Header().Get("Content-Security-Policy")+"; connect-src 'self'")
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", t.lang)
	if pg.status == 0 {
		pg.status = http.StatusOK
	}
	w.WriteHeader(pg.status)
	_, _ = w.Write(body.Bytes()) // fails only where the browser is gone
	return nil
}

// redirect sends the browser on with a GET (RFC 9700 §4.12: never 307).
func (p *Pages) redirect(w http.ResponseWriter, _ *http.Request, to string) error {
	secure(w.Header(), true)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// Content security policies. A page takes style sheets, scripts and images from
// our own origin and nothing else from anywhere; a file that is opened by
// itself may do nothing at all.
const (
	pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'"
	filePolicy = "default-src 'none'; frame-ancestors 'none'; sandbox"
	// An SVG file may have style of its own, which runs nothing and, under this
	// policy, loads nothing.
	svgPolicy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
)

// secure sets the headers that every page has. leaves marks sign-in, consent and
// a sign-out that an application asked for, whose policy has no form-action:
// Chromium applies it to every redirect that follows the form, up to the client.
// They are also shown in popup windows. frames are the origins that the page may
// have in frames.
func secure(h http.Header, leaves bool, frames ...string) {
	policy := pagePolicy
	if len(frames) > 0 {
		policy += "; frame-src " + strings.Join(frames, " ")
	}
	if !leaves {
		policy += "; form-action 'self'"
	}
	protect(h, policy)
	if !leaves {
		// Not on sign-in and consent: it would cut the tie between a relying
		// party and the popup window in which it lets its users sign in.
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
	}
}

// protect sets the headers that every answer has.
func protect(h http.Header, policy string) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
}
