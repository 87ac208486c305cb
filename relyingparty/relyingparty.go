package relyingparty

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

const (
	// callTimeout bounds one call of the issuer.
	callTimeout = 10 * time.Second
	// attemptLife is how long a sign-in may take.
	attemptLife = 10 * time.Minute
	// visitLife is how long a visit is kept that nobody comes back to.
	visitLife = 24 * time.Hour
	// renewBefore is how long before its expiry an access token is renewed.
	renewBefore = 30 * time.Second
	// maxForm bounds the body of a posted form, in bytes.
	maxForm = 16 << 10
)

// Config is what New needs.
type Config struct {
	// Issuer is the issuer identifier of the OpenID Provider. Required.
	Issuer string
	// ClientID is the id under which it knows this application. Required.
	ClientID string
	// ClientSecret is used with client_secret_basic. Empty: a public client.
	ClientSecret string
	// URL is where browsers reach this application, without a path. Required.
	// The redirect URI is {URL}/callback.
	URL string
	// Name is what the application calls itself. Default: ClientID.
	Name string
	// Scopes are asked for at sign-in. Default: openid profile email.
	Scopes []string
	// Most is how many visits, and how many sign-ins under way, are remembered;
	// the one that was not used for longest is forgotten first. Default: 10,000.
	Most int
	// Transport makes the calls of the issuer. Default: like
	// http.DefaultTransport, with connections of its own.
	Transport http.RoundTripper
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Logger gets one event for each failure. Default: slog.Default().
	Logger *slog.Logger
}

// RelyingParty is the application. It is safe for many requests at once.
type RelyingParty struct {
	cfg       Config
	base      *url.URL
	origin    string // of base
	client    *http.Client
	oauth     oauth2.Config // without endpoint
	cookie    string        // name of the cookie of a visit
	binding   string        // name of the cookie that binds sign-ins under way to a browser
	attempts  *shelf[*attempt]
	visits    *shelf[*visit]
	told      *backchannel
	leavings  *shelf[leaving]
	templates map[string]*template.Template
	styleURL  string
	theme     int
	protect   *http.CrossOriginProtection
	mux       *http.ServeMux
}

// New checks the configuration. It makes no call: the issuer may start later.
func New(cfg Config) (*RelyingParty, error) {
	if cfg.ClientID == "" {
		return nil, errors.New("relyingparty: the client id is missing")
	}
	if _, err := webURL(cfg.Issuer); err != nil {
		return nil, fmt.Errorf("relyingparty: issuer: %w", err)
	}
	base, err := webURL(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("relyingparty: URL: %w", err)
	}
	if strings.Trim(base.Path, "/") != "" {
		return nil, fmt.Errorf("relyingparty: URL %q has a path", cfg.URL)
	}
	base.Path = ""
	if cfg.Name == "" {
		cfg.Name = cfg.ClientID
	}
	if len(cfg.Scopes) == 0 {
		cfg.Scopes = []string{"openid", "profile", "email"}
	}
	if cfg.Most <= 0 {
		cfg.Most = 10_000
	}
	if cfg.Transport == nil {
		cfg.Transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	p := &RelyingParty{
		cfg:    cfg,
		base:   base,
		origin: base.Scheme + "://" + base.Host,
		client: &http.Client{
			Transport: bounded{cfg.Transport},
			Timeout:   callTimeout,
			// Nothing that carries a code, a token or a secret is sent on.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		attempts: newShelf[*attempt](cfg.Most, attemptLife, cfg.Now),
		visits:   newShelf[*visit](cfg.Most, visitLife, cfg.Now),
		told:     newBackchannel(cfg),
		leavings: newShelf[leaving](cfg.Most, attemptLife, cfg.Now),
		theme:    themeOf(cfg.Name),
		protect:  http.NewCrossOriginProtection(),
		mux:      http.NewServeMux(),
	}
	// A reverse proxy may have replaced the Host header; the public origin is ours all the same.
	if err := p.protect.AddTrustedOrigin(p.origin); err != nil {
		return nil, fmt.Errorf("relyingparty: URL: %w", err)
	}
	p.oauth = oauth2.Config{ClientID: cfg.ClientID, ClientSecret: cfg.ClientSecret, RedirectURL: p.origin + "/callback", Scopes: cfg.Scopes}
	p.cookie, p.binding = p.cookieName(""), p.cookieName("-begin")
	if p.templates, p.styleURL, err = loadPages(); err != nil {
		return nil, err
	}
	p.Mount(p.mux)
	return p, nil
}

// webURL parses an absolute http or https URL without user, query or fragment.
func webURL(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.User != nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return nil, fmt.Errorf("%q is not an absolute http or https URL without query and fragment", address)
	}
	return u, nil
}

// cookieName is a name for this client of this issuer alone: cookies don't
// know ports, and several applications may run on localhost.
func (p *RelyingParty) cookieName(suffix string) string {
	sum := sha256.Sum256([]byte(p.cfg.Issuer + "\x00" + p.cfg.ClientID))
	name := "rp-" + hex.EncodeToString(sum[:6]) + suffix
	if p.base.Scheme == "https" {
		return "__Host-" + name
	}
	return name
}

// Mount adds the application to a mux, at its root.
func (p *RelyingParty) Mount(m *http.ServeMux) {
	for pattern, h := range map[string]handler{
		"GET /{$}":                  p.home,
		"POST /sign-in":             p.signIn,
		"GET /callback":             p.callback,
		"POST /renew":               p.postRenew,
		"POST /sessions/end":        p.postEnd,
		"POST /sessions/end-others": p.postEndOthers,
		"POST /log-out":             p.postLogOut,
		"POST /sign-out":            p.postSignOut,
		"GET " + signedOutPath:      p.signedOut,
		"GET /logged-out":           p.loggedOut,
		"GET /style.css":            p.style,
		"GET /icon.svg":             p.icon,
		"/":                         p.missing,
	} {
		m.Handle(pattern, p.page(h))
	}
	m.HandleFunc("POST /backchannel-logout", p.backchannelLogout) // for the issuer, not for browsers
}

// ServeHTTP answers one request.
func (p *RelyingParty) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

// handler answers one request; an error becomes a page.
type handler func(w http.ResponseWriter, r *http.Request) error

// page sets the headers that every answer has, refuses posts from other sites,
// and bounds and parses forms.
func (p *RelyingParty) page(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.secure(w.Header())
		if err := p.protect.Check(r); err != nil {
			p.fail(w, r, &failure{status: http.StatusForbidden, title: "This came from another page",
				text: "What you asked for was sent by another site, so nothing was done.", cause: err})
			return
		}
		if p.elsewhere(r) {
			http.Redirect(w, r, p.origin+"/", http.StatusSeeOther)
			return
		}
		if r.Method == http.MethodPost {
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			if err := r.ParseForm(); err != nil {
				p.fail(w, r, badRequest("The form could not be read.", err))
				return
			}
		}
		if err := h(w, r); err != nil {
			p.fail(w, r, err)
		}
	})
}

// elsewhere reports whether the browser reads a page under a loopback address
// although this application is at localhost: its cookies would be missing when
// the issuer sends it back.
func (p *RelyingParty) elsewhere(r *http.Request) bool {
	if r.Method != http.MethodGet || p.base.Hostname() != "localhost" {
		return false
	}
	host := (&url.URL{Host: r.Host}).Hostname()
	return host == "127.0.0.1" || host == "::1"
}

// secure sets the headers that every answer has. Chromium holds form-action
// against the redirects that follow a form, and ours leads to the issuer.
func (p *RelyingParty) secure(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' "+originOf(p.cfg.Issuer)+
		"; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Cache-Control", "no-store")
}

// originOf is the origin of a URL that webURL has accepted.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
