package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/deliveries"
	"gatehouse.dev/gatehouse/keys"
	"gatehouse.dev/gatehouse/mail"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/sessions/jsonapi"
	"gatehouse.dev/gatehouse/signin"
	"gatehouse.dev/gatehouse/storage"
	"gatehouse.dev/gatehouse/users"
	"gatehouse.dev/gatehouse/web"
)

// defaultRealm has its pages at the root as well.
const defaultRealm = "default"

// house is what everything is put together from.
type house struct {
	cfg     *configs.Config
	db      *storage.DB
	kek     *keys.KEK
	metrics *metrics
	now     func() time.Time
	logger  *slog.Logger
}

// assembly is the result: the public handler, and what must be kept up behind
// it.
type assembly struct {
	handler  http.Handler
	rings    []*keys.Ring // to be reloaded from time to time
	touchers []*toucher   // to be run
	sweeps   []sweepJob   // for a sweeper
	close    []func()     // ends answers that last, when the server shuts down
	mails    *mail.Worker // to be run; nil: no mail is sent

	signers  map[string]deliveries.Signer // for a worker of deliveries
	outgoing *http.Client                 // the same
}

// assemble puts the whole server together, top to bottom. It reads the database
// and makes what a first start finds missing: keys, configured users, rows of
// configured clients. Several nodes may do so at once.
func (h *house) assemble(ctx context.Context) (*assembly, error) {
	all := &assembly{signers: map[string]deliveries.Signer{}}
	passwords, err := users.NewPasswords(0)
	if err != nil {
		return nil, err
	}
	client := newOutgoing(h.cfg.Outgoing.AllowPrivate)
	secure := strings.HasPrefix(h.cfg.PublicURL, "https:")
	router := mux.NewRouter().SkipClean(true) // a redirected DELETE is lost
	router.Use(noteRoute)
	catchAll(router)

	realms := map[string]*realm{}
	for _, name := range h.cfg.RealmNames() {
		cfg := h.cfg.Realms[name]
		lifetimes := sessions.Lifetimes{LoginIdle: cfg.Login.IdleLifetime, LoginAbsolute: cfg.Login.Lifetime}
		store := h.db.Realm(storage.RealmConfig{Name: name, Lifetimes: lifetimes, Servers: serversLifetimes(h.cfg, name),
			LogoutEndsOffline: cfg.Login.LogoutEndsOffline})
		if err := createUsers(ctx, store, cfg.Users, passwords, h.now); err != nil {
			return nil, fmt.Errorf("realm %s: %w", name, err)
		}
		t := &toucher{store: store, now: h.now, logger: h.logger}
		r := &realm{
			store: store, touch: t.touch, lifetimes: lifetimes,
			base:    h.cfg.PublicURL + realmPath(name),
			cookie:  sessions.Cookie{Realm: name, Secure: secure},
			servers: map[string]*oauth.Server{},
		}
		root, err := h.openRealmRoot(ctx, name, store)
		if err != nil {
			return nil, err
		}
		guesses, err := h.newThrottle(root, name, store, secure)
		if err != nil {
			return nil, err
		}
		r.directory = &sessions.Directory{Manager: &sessions.Manager{Realm: store, Now: h.now}, Store: store, Past: store}
		notices := &sessions.Notices{Store: store, Now: h.now}
		r.pages, err = web.New(web.Config{
			Realm:         name,
			Base:          r.base,
			Servers:       r.servers, // filled below, before anything is served
			Users:         store,
			Passwords:     passwords,
			Logins:        store,
			Sessions:      r.directory.Manager,
			Directory:     r.directory,
			MAC:           root.MAC("page forms").Sum,
			Touch:         t.touch,
			Cookie:        r.cookie,
			Lifetimes:     lifetimes,
			Remember:      cfg.Login.Remember,
			Uses:          store,
			Throttle:      guesses,
			Audit:         store,
			Notices:       notices,
			Mail:          h.cfg.SMTP.Address != "",
			Appearance:    appearance(&cfg.Appearance),
			Scopes:        h.scopeTexts(name),
			Outgoing:      client,
			ClientAddress: clientAddress,
			RequestID:     requestID,
			Now:           h.now,
			Logger:        h.logger.With("realm", name),
		})
		if err != nil {
			return nil, fmt.Errorf("realm %s: %w", name, err)
		}
		r.judge, err = signin.New(signin.Config{Users: store, Passwords: passwords, Throttle: guesses, Audit: store,
			Address: clientAddress, RequestID: requestID, Now: h.now, Logger: h.logger.With("realm", name)})
		if err != nil {
			return nil, fmt.Errorf("realm %s: %w", name, err)
		}
		realms[name] = r
		all.close = append(all.close, r.pages.Close)
		all.touchers = append(all.touchers, t)
		// The last job counts what all have left.
		all.sweeps = append(all.sweeps, sweepJob{owner: "realm:" + name, store: throttleSweep{guesses, h.now}},
			sweepJob{owner: "realm:" + name, store: noticeSweep{notices}},
			sweepJob{owner: "realm:" + name, store: auditSweep{store, cfg.Audit.Retention, h.now}},
			sweepJob{owner: "realm:" + name, store: store, history: h.history(name)})
	}

	if all.mails, err = h.newMailWorker(realms); err != nil {
		return nil, err
	}

	for _, name := range h.cfg.AuthorizationServerNames() {
		ring, sweep, err := h.authorizationServer(ctx, router, name, realms[h.cfg.AuthorizationServers[name].Realm], client)
		if err != nil {
			return nil, fmt.Errorf("authorization server %s: %w", name, err)
		}
		all.rings = append(all.rings, ring)
		all.sweeps = append(all.sweeps, sweep)
		all.signers[name] = deliveries.Signer{Issuer: h.cfg.Issuer(name), Keys: ring}
	}
	all.outgoing = client

	for _, name := range slices.Sorted(maps.Keys(realms)) {
		if err := h.mountUsersAPI(router, name, realms[name], realms[name].judge); err != nil {
			return nil, fmt.Errorf("realm %s: %w", name, err)
		}
		realms[name].pages.Mount(router.PathPrefix("/realms/" + name).Subrouter())
		if name == defaultRealm {
			realms[name].pages.Mount(router)
		}
	}

	all.handler = &edge{next: newSignpost(router), proxies: h.cfg.TrustedProxies, metrics: h.metrics, secure: secure, logger: h.logger}
	return all, nil
}

// realm is what the authorization servers of one realm share.
type realm struct {
	store     *storage.Realm
	touch     func(sessions.Touch)
	lifetimes sessions.Lifetimes
	base      string // URL below which the pages are
	cookie    sessions.Cookie
	servers   map[string]*oauth.Server
	pages     *web.Pages
	judge     *signin.Judge
	directory *sessions.Directory
}

// realmPath is where the pages of a realm say they are.
func realmPath(name string) string {
	if name == defaultRealm {
		return ""
	}
	return "/realms/" + name
}

// authorizationServer assembles one authorization server from its four parts,
// keys, protocol, session API and the realm's pages, and mounts it.
func (h *house) authorizationServer(ctx context.Context, router *mux.Router, name string, r *realm, client *http.Client) (*keys.Ring, sweepJob, error) {
	cfg := h.cfg.AuthorizationServers[name]
	none := sweepJob{}
	issuer := h.cfg.Issuer(name)
	path := strings.TrimPrefix(issuer, h.cfg.PublicURL)
	logger := h.logger.With("as", name)
	lifetimes := serverLifetimes(h.cfg, name)
	store := h.db.For(storage.ServerConfig{Name: name, Realm: cfg.Realm, Lifetimes: lifetimes})
	static := staticClients(cfg.Clients)
	if ended, err := store.SyncStatic(ctx, static); err != nil {
		return nil, none, err
	} else if ended > 0 {
		logger.InfoContext(ctx, "sessions of clients that are no longer configured ended", "count", ended)
	}

	ring, err := keys.Open(ctx, keys.Config{
		Store:  store,
		KEK:    h.kek,
		Owner:  "as:" + name,
		Now:    h.now,
		Logger: logger,
	})
	if err != nil {
		return nil, none, err
	}

	declared, err := sessions.NewAttributes(attributes(cfg.SessionAPI.CustomAttributes))
	if err != nil {
		return nil, none, err
	}
	manager := &sessions.Manager{Store: store, Realm: r.store, Visibility: cfg.SessionAPI.Visibility, Attributes: declared, Now: h.now}
	server, err := oauth.New(oauth.Config{
		Name:                name,
		Issuer:              issuer,
		Keys:                ring,
		Store:               store,
		Sessions:            manager,
		Logins:              r.store,
		Cookie:              r.cookie,
		Static:              static,
		AccessTokenFormat:   cfg.AccessToken.Format,
		AccessTokenAlg:      cfg.AccessToken.SigningAlg,
		AccessTokenLifetime: cfg.AccessToken.Lifetime,
		Lifetimes:           lifetimes,
		PKCE:                cfg.PKCE,
		Resources:           resources(cfg.Resources),
		FrontChannelLogout:  cfg.FrontChannelLogout,
		SessionManagement:   cfg.SessionManagement,
		Pages: oauth.Pages{
			Login:          r.base + "/login",
			Consent:        r.base + "/consent",
			Logout:         r.base + "/logout",
			Error:          r.pages.Error,
			CookiesBlocked: r.pages.CookiesBlocked,
		},
		ClientAddress: clientAddress,
		Outgoing:      client,
		Touch:         r.touch,
		RequestID:     requestID,
		Now:           h.now,
		Logger:        logger,
	})
	if err != nil {
		return nil, none, err
	}

	api := jsonapi.New(jsonapi.Config{
		Base:      issuer,
		Manager:   manager,
		Caller:    server.Caller,
		Read:      cfg.SessionAPI.Scopes.Read,
		Manage:    cfg.SessionAPI.Scopes.Manage,
		RequestID: requestID,
		Now:       h.now,
		Logger:    logger,
	})

	r.servers[name] = server // the pages find it by name

	below := router.PathPrefix(path).Subrouter()
	below.Use(noteServer(name))
	server.Mount(below)
	dialect := below.NewRoute().Subrouter()
	dialect.Use(func(next http.Handler) http.Handler { return server.CORS(next, api.Fail) })
	api.Mount(dialect)
	// RFC 8414 §3.1: the well-known part stands between host and issuer path.
	router.Path("/.well-known/oauth-authorization-server" + path).Handler(noteServer(name)(server.Metadata()))
	return ring, sweepJob{owner: "as:" + name, store: store, history: cfg.Session.History}, nil
}

// history is how long the logins of a realm are kept when they have ended: as
// long as the sessions of any of its authorization servers.
func (h *house) history(realm string) time.Duration {
	var longest time.Duration
	for _, as := range h.cfg.AuthorizationServers {
		if as.Realm == realm {
			longest = max(longest, as.Session.History)
		}
	}
	return longest
}

// serverLifetimes are the lifetimes of an authorization server's sessions with
// those of its realm's logins.
func serverLifetimes(c *configs.Config, name string) sessions.Lifetimes {
	as := c.AuthorizationServers[name]
	login := c.Realms[as.Realm].Login
	return sessions.Lifetimes{
		LoginIdle:       login.IdleLifetime,
		LoginAbsolute:   login.Lifetime,
		SessionIdle:     as.Session.IdleLifetime,
		SessionAbsolute: as.Session.Lifetime,
		OfflineIdle:     as.Offline.IdleLifetime,
		OfflineAbsolute: as.Offline.Lifetime,
		RefreshGrace:    as.Session.RefreshGrace,
	}
}

// serversLifetimes are those of the realm's authorization servers, by name.
func serversLifetimes(c *configs.Config, realm string) map[string]sessions.Lifetimes {
	of := map[string]sessions.Lifetimes{}
	for _, name := range c.AuthorizationServerNames() {
		if c.AuthorizationServers[name].Realm == realm {
			of[name] = serverLifetimes(c, name)
		}
	}
	return of
}

func staticClients(list []clients.Metadata) []clients.Client {
	static := make([]clients.Client, len(list))
	for i, metadata := range list {
		static[i] = clients.Client{Metadata: metadata, Static: true}
	}
	return static
}

func appearance(a *configs.Appearance) web.Appearance {
	out := web.Appearance{Name: a.Name, Accent: a.Accent, AccentDark: a.AccentDark}
	if body, media := a.Logo(); body != nil {
		out.Logo = &web.Image{Body: body, Media: media}
	}
	for _, l := range a.Links {
		out.Links = append(out.Links, web.Link{Text: l.Text, URL: l.URL})
	}
	return out
}

// scopeTexts are the operator's words for scopes, by authorization server of a
// realm.
func (h *house) scopeTexts(realm string) map[string]web.ScopeTexts {
	out := map[string]web.ScopeTexts{}
	for name, as := range h.cfg.AuthorizationServers {
		if as.Realm != realm {
			continue
		}
		out[name] = web.ScopeTexts{}
		for _, s := range as.Scopes {
			texts := map[string]string{}
			for lang, text := range s.Text {
				texts[lang] = *text
			}
			out[name][s.Name] = texts
		}
	}
	return out
}

func attributes(list []configs.CustomAttribute) []sessions.Attribute {
	out := make([]sessions.Attribute, len(list))
	for i, a := range list {
		kind, name, _ := strings.Cut(a.Source, ":")
		out[i] = sessions.Attribute{Name: a.Name, Pattern: a.Pattern, Updatable: a.Updatable, Source: sessions.Source{Kind: kind, Name: name}}
	}
	return out
}

func resources(list []configs.Resource) []oauth.Resource {
	out := make([]oauth.Resource, len(list))
	for i, r := range list {
		out[i] = oauth.Resource{Identifier: r.Identifier, Scopes: r.Scopes, IntrospectionClients: r.IntrospectionClients}
	}
	return out
}
