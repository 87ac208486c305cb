package web

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/signin"
	"gatehouse.dev/gatehouse/throttle"
	"gatehouse.dev/gatehouse/users"
)

const (
	maxBody      = 64 << 10 // bytes of a form; it carries the authorization request, encoded
	maxUserAgent = 512      // bytes of a login's user agent
)

// Audit keeps the audit events of a realm that no other row is written with.
type Audit interface {
	// Record writes one event; those that audit.Event.Counted names are counted.
	Record(ctx context.Context, event audit.Event) error
}

// Config is everything that a realm's pages are made of.
type Config struct {
	Realm string // required
	// Base is the public URL with the realm's prefix, absolute, without a
	// trailing slash: http://localhost:8080, https://id.example/realms/staff.
	// Required.
	Base string

	// Servers are the realm's authorization servers by name. Required; as they
	// in turn need the pages, the map may be filled after New, but not after
	// the first request.
	Servers   map[string]*oauth.Server
	Users     users.Store         // required
	Passwords *users.Passwords    // required
	Logins    sessions.RealmStore // required
	Sessions  *sessions.Manager   // required; its Realm is set
	Directory *sessions.Directory // required; the realm's, with its Past
	Cookie    sessions.Cookie     // required
	Lifetimes sessions.Lifetimes  // LoginAbsolute is required
	Remember  bool                // offer "stay signed in"
	Uses      sessions.UseStore   // required; says on the sign-out page what ends

	// Throttle limits how often passwords can be guessed; the realm's.
	// Default: nothing does.
	Throttle *throttle.Throttle

	Audit Audit // required

	// MAC authenticates the forms of pages for who is signed in, under a key of
	// the realm: 32 bytes of a text. Required.
	MAC func([]byte) []byte
	// Touch notes that a login was used. Default: nothing does.
	Touch func(sessions.Touch)
	// Watch is how often an open account page is looked at for changes.
	// Default: 2 s.
	Watch time.Duration

	// Notices tell users of sign-ins from elsewhere; the realm's. Default: they
	// are not told.
	Notices *sessions.Notices
	// Mail: users with an address are told by mail as well. Whoever sets it sends
	// what Letter words.
	Mail bool

	// Appearance is what the realm's operator makes of the pages. Default: the
	// product's own.
	Appearance Appearance
	// Scopes describe permissions on the consent page, by authorization server.
	// Default: those of OpenID Connect are described, others are named.
	Scopes map[string]ScopeTexts
	// Outgoing fetches the logos of clients; it refuses private addresses.
	// Default: none are fetched, and monograms are shown.
	Outgoing *http.Client

	// PasswordWait is how long a sign-in may wait for its turn to have its
	// password checked. Default: 5 s.
	PasswordWait time.Duration

	// ClientAddress tells the browser's IP address. Default: the connection's.
	ClientAddress func(*http.Request) string
	// RequestID is what error pages show and log events carry. Default: none.
	RequestID func(context.Context) string
	Now       func() time.Time // default: time.Now
	Logger    *slog.Logger     // default: slog.Default()
}

// Pages are the pages of one realm. They are safe for concurrent use.
type Pages struct {
	cfg       Config
	judge     *signin.Judge
	base      *url.URL
	path      string // of Base, escaped; empty or begins with a slash
	protect   *http.CrossOriginProtection
	catalogue *catalogue
	logos     *logos
	streams   *streams
	brand     brand
	styles    []string // paths of style sheets
	icon      string   // path
	templates map[string]*template.Template
	assets    map[string]asset  // by name as served
	names     map[string]string // file name to path as served
}

// New checks the configuration and prepares templates and static files.
func New(cfg Config) (*Pages, error) {
	base, err := url.Parse(cfg.Base)
	switch {
	case err != nil:
		return nil, fmt.Errorf("web: base URL: %w", err)
	case base.Scheme != "http" && base.Scheme != "https", base.Host == "", base.User != nil,
		base.RawQuery != "", base.Fragment != "", strings.HasSuffix(base.Path, "/"):
		return nil, fmt.Errorf("web: base URL %q is not an absolute http or https URL without trailing slash", cfg.Base)
	case cfg.Realm == "" || cfg.Servers == nil || cfg.Users == nil || cfg.Passwords == nil ||
		cfg.Logins == nil || cfg.Sessions == nil || cfg.Sessions.Realm == nil || cfg.Cookie.Realm == "" || cfg.Audit == nil || cfg.Uses == nil:
		return nil, errors.New("web: realm, servers, users, passwords, logins, sessions, cookie, audit and uses are required")
	case cfg.Directory == nil || cfg.Directory.Manager == nil || cfg.Directory.Store == nil || cfg.Directory.Past == nil || cfg.MAC == nil:
		return nil, errors.New("web: a directory with manager, store and past, and a MAC, are required")
	case cfg.Lifetimes.LoginAbsolute <= 0:
		return nil, errors.New("web: a login's lifetime must be positive")
	}
	if cfg.ClientAddress == nil {
		cfg.ClientAddress = connectionAddress
	}
	if cfg.RequestID == nil {
		cfg.RequestID = func(context.Context) string { return "" }
	}
	if cfg.PasswordWait <= 0 {
		cfg.PasswordWait = 5 * time.Second
	}
	if cfg.Watch <= 0 {
		cfg.Watch = 2 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	p := &Pages{cfg: cfg, base: base, path: base.EscapedPath(), protect: http.NewCrossOriginProtection(), streams: newStreams()}
	// A reverse proxy may have replaced the Host header; the public origin is ours all the same.
	if err := p.protect.AddTrustedOrigin(base.Scheme + "://" + base.Host); err != nil {
		return nil, fmt.Errorf("web: base URL: %w", err)
	}
	if p.judge, err = signin.New(signin.Config{Users: cfg.Users, Passwords: cfg.Passwords, Throttle: cfg.Throttle, Audit: cfg.Audit,
		Wait: cfg.PasswordWait, Address: cfg.ClientAddress, RequestID: cfg.RequestID, Now: cfg.Now, Logger: cfg.Logger}); err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	if err := p.loadAssets(); err != nil {
		return nil, err
	}
	if err := p.loadAppearance(cfg.Appearance); err != nil {
		return nil, err
	}
	if p.templates, err = parseTemplates(); err != nil {
		return nil, err
	}
	if p.catalogue, err = loadCatalogue(textFiles, "texts"); err != nil {
		return nil, err
	}
	if p.logos, err = newLogos(cfg.Outgoing, cfg.Now, cfg.Logger); err != nil {
		return nil, err
	}
	return p, nil
}

// Mount adds the pages to a router whose root is Base.
func (p *Pages) Mount(r *mux.Router) {
	r.Handle("/login", p.page(methods{http.MethodGet: p.showLogin, http.MethodPost: p.postLogin}))
	r.Handle("/consent", p.page(methods{http.MethodGet: p.showConsent, http.MethodPost: p.postConsent}))
	r.Handle("/logout", p.page(methods{http.MethodGet: p.showLogout, http.MethodPost: p.postLogout}))
	p.mountAccount(r)
	p.mountAdmin(r)
	r.Handle("/static/client-logo", p.page(methods{http.MethodGet: p.clientLogo}))
	r.Handle("/static/{name}", p.page(methods{http.MethodGet: p.static}))
}

// handler answers one method of a page; an error becomes an error page.
type handler func(w http.ResponseWriter, r *http.Request) error

// methods are a page's handlers. HEAD is answered as GET.
type methods map[string]handler

// page dispatches by method, refuses POSTs from other sites, bounds and parses
// forms, and turns errors into pages.
func (p *Pages) page(m methods) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		h, ok := m[method]
		if !ok {
			w.Header().Set("Allow", m.allow())
			p.fail(w, r, errMethod)
			return
		}
		if method == http.MethodPost {
			if err := p.form(w, r); err != nil {
				p.fail(w, r, err)
				return
			}
		}
		if err := h(w, r); err != nil {
			p.fail(w, r, err)
		}
	})
}

// allow is the value of the Allow header (RFC 9110 §10.2.1).
func (m methods) allow() string {
	var list []string
	for method := range m {
		list = append(list, method)
	}
	if _, ok := m[http.MethodGet]; ok {
		list = append(list, http.MethodHead)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// form refuses what another site sent and parses the rest, within bounds.
func (p *Pages) form(w http.ResponseWriter, r *http.Request) error {
	if err := p.protect.Check(r); err != nil {
		return errCrossSite
	}
	// Another type would be parsed later, out of sight, by FormValue.
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/x-www-form-urlencoded" {
		return errFormType
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return errLarge
		}
		return errForm
	}
	return nil
}

// interaction finds the authorization request behind a page.
func (p *Pages) interaction(r *http.Request) (*oauth.Server, *oauth.Interaction, error) {
	server, ok := p.cfg.Servers[oauth.PageServer(r)]
	if !ok {
		return nil, nil, oauth.ErrStamp
	}
	i, err := server.Interaction(r.Context(), r)
	if err != nil {
		return nil, nil, err
	}
	return server, i, nil
}

// present is the browser's login and its user; both nil where it has none.
func (p *Pages) present(r *http.Request) (*sessions.Login, *users.User, error) {
	hash := p.cfg.Cookie.Hash(r)
	if hash == nil {
		return nil, nil, nil
	}
	login, err := p.cfg.Logins.LoginByCookie(r.Context(), hash)
	if errors.Is(err, sessions.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the login: %w", err)
	}
	user, err := p.cfg.Users.User(r.Context(), login.UserID)
	if errors.Is(err, users.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the user: %w", err)
	}
	return login, user, nil
}

// now is the time as rows keep it: UTC, exact to the millisecond.
func (p *Pages) now() time.Time { return p.cfg.Now().UTC().Truncate(time.Millisecond) }

// connectionAddress is the IP address at the other end of the connection.
func connectionAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
