package web

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

const (
	// shownParam is the field of the form of a sign-out that no application
	// asked for: the login that it was shown to. It gives nobody anything; it
	// keeps a form that was left open from ending somebody else's sign-in.
	shownParam = "login"
	// maxNames and maxFrames bound what the pages name and tell.
	maxNames  = 20
	maxHint   = 64 // bytes of a hint that is shown
	maxFrames = 50
	// framesWait is for how many seconds frames may keep the browser from going on.
	framesWait = 5
)

// logoutForm is what the sign-out page shows.
type logoutForm struct {
	Fields map[string]string // hidden
	Client asker             // who asked; empty: nobody did
	Person string
	Hint   string // whom the application means, if not the person; empty: it named nobody
	Other  bool   // it means another sign-in
	Ends   appNames
	Stays  appNames
	Stay   string // URL for who stays signed in
}

// signedOut is what the page after a sign-out shows.
type signedOut struct {
	Ended, Kept appNames
	Client      string       // name of the application that asked
	Back        template.URL // where it wants to be gone back to; empty: nowhere
	Frames      []string     // URLs
	Wait        int          // seconds
}

// appNames are names of applications, to be listed.
type appNames struct {
	Names []string
	More  int // that are not among them
}

// namesOf names the applications of uses, each once.
func namesOf(uses []sessions.Use, outlives bool) appNames {
	var names []string
	for _, use := range uses {
		name := use.ClientName
		if name == "" {
			name = use.ClientID
		}
		if use.Outlives == outlives && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	shown := names[:min(len(names), maxNames)]
	return appNames{shown, len(names) - len(shown)}
}

// showLogout is where people sign out, by themselves or because an application
// sent them (oauth.Server's /end_session). It asks, unless Logout.Decide says that
// there is no need to.
func (p *Pages) showLogout(w http.ResponseWriter, r *http.Request) error {
	l, login, user, err := p.logoutOf(r)
	if err != nil {
		return err
	}
	presence, err := p.presence(r, l, login, user)
	if err != nil {
		return err
	}
	switch decision := l.Decide(presence); {
	case decision == oauth.LogoutOver:
		return p.signedOut(w, r, l, nil, false)
	case decision == oauth.LogoutEnds && r.Method == http.MethodGet: // HEAD has no consequences
		return p.signOut(w, r, l, login)
	}
	return p.askLogout(w, r, l, presence, user)
}

// postLogout is the user's word: it ends the browser's login, if it is the one
// that the form was shown to.
func (p *Pages) postLogout(w http.ResponseWriter, r *http.Request) error {
	l, login, user, err := p.logoutOf(r)
	if err != nil {
		return err
	}
	byApplication := l.Server != "" || r.PostForm.Has(oauth.PageStamp)
	shown := r.PostForm.Get(shownParam)
	if byApplication {
		shown = l.LoginID
	}
	switch {
	case login == nil:
		// It is over, perhaps by this very form, sent twice.
		p.cfg.Cookie.Clear(w)
		return p.signedOut(w, r, l, nil, l.LoginID != "")
	case shown != login.ID && (byApplication || shown != ""):
		presence, err := p.presence(r, l, login, user)
		if err != nil {
			return err
		}
		return p.askLogout(w, r, l, presence, user)
	}
	return p.signOut(w, r, l, login)
}

// logoutOf is what an application asked for, and who is signed in; nil: nobody.
func (p *Pages) logoutOf(r *http.Request) (*oauth.Logout, *sessions.Login, *users.User, error) {
	l, err := p.logoutRequest(r)
	if err != nil {
		return nil, nil, nil, err
	}
	login, user, err := p.present(r)
	return l, login, user, err
}

// logoutRequest is what an application asked for at /end_session. Where there is
// nothing of the kind, or it is too old or not ours, nobody has asked, and
// nobody is sent anywhere.
func (p *Pages) logoutRequest(r *http.Request) (*oauth.Logout, error) {
	none := &oauth.Logout{}
	server, ok := p.cfg.Servers[oauth.PageServer(r)]
	if !ok {
		return none, nil
	}
	l, err := server.Logout(r.Context(), r)
	if errors.Is(err, oauth.ErrStamp) {
		return none, nil
	}
	return l, err
}

// presence is what the browser's login has to do with a request.
func (p *Pages) presence(r *http.Request, l *oauth.Logout, login *sessions.Login, user *users.User) (oauth.Presence, error) {
	presence := oauth.Presence{Login: login}
	if login == nil {
		return presence, nil
	}
	presence.Meant = l.Hint == "" || slices.ContainsFunc([]string{user.Username, user.Claims.Email, user.ID}, func(name string) bool {
		return strings.EqualFold(name, l.Hint)
	})
	if l.Client == nil || l.Session == "" {
		return presence, nil
	}
	var err error
	presence.UsedIn, err = p.cfg.Uses.UsedIn(r.Context(), sessions.Key{AuthorizationServer: l.Server, ID: l.Session}, l.Client.ClientID, login.ID)
	if err != nil {
		return presence, fmt.Errorf("reading what a hint names: %w", err)
	}
	return presence, nil
}

// askLogout asks the user, who is signed in, and says what would end.
func (p *Pages) askLogout(w http.ResponseWriter, r *http.Request, l *oauth.Logout, presence oauth.Presence, user *users.User) error {
	uses, err := p.cfg.Uses.Uses(r.Context(), presence.Login.ID)
	if err != nil {
		return fmt.Errorf("reading what a login is used for: %w", err)
	}
	f := logoutForm{Person: person(user), Ends: namesOf(uses, false), Stays: namesOf(uses, true), Stay: p.path + "/login"}
	if l.Server == "" {
		f.Fields = map[string]string{shownParam: presence.Login.ID}
	} else {
		shown := *l
		shown.LoginID = presence.Login.ID
		f.Fields = p.cfg.Servers[l.Server].LogoutFields(&shown)
		f.Other = l.Verified && (l.Subject != user.ID || l.Session != "" && !presence.UsedIn)
	}
	// Without a client that proved itself, what the hint says is anybody's, and
	// could be a message to the user in our name.
	if !presence.Meant && l.Verified && len(l.Hint) <= maxHint && !strings.ContainsFunc(l.Hint, unicode.IsSpace) {
		f.Hint = l.Hint
	}
	f.Other = f.Other || !presence.Meant
	if l.Client != nil {
		f.Client = p.asker(l.Server, l.Client)
	}
	if locales := strings.Join(p.localesOf(l, r), " "); locales != "" {
		f.Fields["ui_locales"] = locales
		f.Stay += "?" + url.Values{"ui_locales": {locales}}.Encode()
	}
	return p.show(w, r, page{name: "logout", title: "logout.title", leaves: l.RedirectURI != "", locales: l.UILocales, data: f})
}

// localesOf are the languages that a request asks for: the application's, or
// those of a page that linked here.
func (p *Pages) localesOf(l *oauth.Logout, r *http.Request) []string {
	locales := l.UILocales
	if len(locales) == 0 {
		locales = uiLocales(r)
	}
	if locales = locales[:min(len(locales), maxLocales)]; len(strings.Join(locales, " ")) > maxLocaleBytes {
		return nil
	}
	return locales
}

// signOut ends the browser's login and forgets its cookies.
func (p *Pages) signOut(w http.ResponseWriter, r *http.Request, l *oauth.Logout, login *sessions.Login) error {
	// Before the ending, when it can still be told what the login was used for.
	uses, err := p.cfg.Uses.Uses(r.Context(), login.ID)
	if err != nil {
		return fmt.Errorf("reading what a login is used for: %w", err)
	}
	ending := sessions.Ending{By: sessions.Actor{Kind: sessions.ActorUser, ID: login.UserID}, Reason: sessions.ReasonLogout, At: p.now()}
	if l.Client != nil && l.Verified { // anybody can name a client
		ending.Asked = sessions.Asker{AuthorizationServer: l.Server, ClientID: l.Client.ClientID}
	}
	_, err = p.cfg.Sessions.End(r.Context(), sessions.Target{Login: login.ID, OfUser: login.UserID}, ending)
	// Somebody else was faster: it is over all the same.
	if err != nil && !errors.Is(err, sessions.ErrNotFound) {
		return fmt.Errorf("signing out: %w", err)
	}
	p.cfg.Cookie.Clear(w)
	return p.signedOut(w, r, l, uses, true)
}

// signedOut says what has ended, has frames tell the applications that want to
// be told so, and takes the browser back to the one that asked. ended: a login
// of this browser has just ended.
func (p *Pages) signedOut(w http.ResponseWriter, r *http.Request, l *oauth.Logout, uses []sessions.Use, ended bool) error {
	p.cfg.Cookie.State().Put(w, r, nil)
	frames, origins := p.frames(r, uses)
	to, automatic := l.Return(ended)
	if automatic && to != "" && len(frames) == 0 {
		return p.redirect(w, r, to)
	}
	d := signedOut{Ended: namesOf(uses, false), Kept: namesOf(uses, true), Frames: frames, Wait: framesWait}
	if to != "" {
		// A registered URI, whose scheme was checked at registration.
		d.Back, d.Client = template.URL(to), l.Client.Name() //nolint:gosec // as said
	}
	return p.show(w, r, page{name: "signedout", title: "signedout.title", frames: origins, locales: l.UILocales, data: d})
}

// frames are the URLs that tell clients in frames of their ended or detached
// sessions, and their origins. What can't be had of a client doesn't undo the
// sign-out.
func (p *Pages) frames(r *http.Request, uses []sessions.Use) (frames, origins []string) {
	for _, use := range uses {
		server, ok := p.cfg.Servers[use.AuthorizationServer]
		if !ok || len(frames) == maxFrames {
			continue
		}
		to, err := server.FrontChannel(context.WithoutCancel(r.Context()), use.ClientID, use.ID)
		if err != nil {
			p.log(r, slog.LevelWarn, fmt.Errorf("telling a client by a frame: %w", err))
		}
		if to != "" {
			frames, origins = append(frames, to), append(origins, clients.Origin(to))
		}
	}
	slices.Sort(origins)
	return frames, slices.Compact(origins)
}
