package web

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// The parts that pages about sessions have in common; templates/cards.html has
// their templates: "session", "applications", "past", "pager", "confirm".

// card is an entry of a list of sessions: a browser that is signed in, or an
// application's access without one.
type card struct {
	ID       string
	Login    bool
	Current  bool            // it is the browser that the page is shown in
	Name     string          // what the user calls the device
	Device   sessions.Device // of a login
	Address  string
	Created  time.Time
	Active   time.Time
	Expires  time.Time
	Apps     []application
	Username string // where the list is of many users; empty: it is of one
	End      string // URL of the page that asks whether to end it; empty: none
	Rename   string // URL of the page that names its device; empty: none
}

// application is a client as it is used in an entry.
type application struct {
	session   sessions.Key
	Client    asker
	Server    string // name of its authorization server; empty: the realm has one only
	Scopes    []scope
	Consented time.Time
	Used      time.Time
	Offline   bool             // goes on when the browser is signed out
	Device    bool             // was authorized on a device
	Told      sessions.Telling // in a history
	ToldAt    time.Time
}

// card is an entry as pages show it in a language.
func (p *Pages) card(e *sessions.Entry, v *visitor, lang string) card {
	c := card{ID: e.ID, Login: e.Login, Current: e.Login && e.ID == v.login.ID, Name: e.DeviceName, Address: e.Address,
		Device: sessions.DeviceOf(e.UserAgent), Created: e.CreatedAt, Active: e.LastAccessAt, Expires: e.ExpiresAt}
	for i := range e.Applications {
		a := &e.Applications[i]
		c.Apps = append(c.Apps, application{Client: plainAsker(a.Name), Server: p.serverName(a.AuthorizationServer),
			Scopes: p.scopesInWords(a.AuthorizationServer, a.Scopes, lang), Consented: a.ConsentedAt, Used: a.LastUsedAt,
			Offline: a.Offline, Device: a.Device, session: sessions.Key{AuthorizationServer: a.AuthorizationServer, ID: a.SessionID}})
	}
	return c
}

// plainAsker is a client of which no more than its name is known.
func plainAsker(name string) asker { return asker{Name: name, Monogram: monogram(name)} }

// serverName is the name of an authorization server, where there is something
// to tell apart.
func (p *Pages) serverName(name string) string {
	if len(p.cfg.Servers) < 2 {
		return ""
	}
	return name
}

// scopesInWords are permissions as the consent page says them.
func (p *Pages) scopesInWords(server string, scopes []string, lang string) []scope {
	said := p.cfg.Scopes[server]
	out := make([]scope, 0, len(scopes))
	for _, s := range scopes {
		out = append(out, scope{Name: s, Key: scopeText[s], Said: said.in(lang, s)})
	}
	return out
}

// pastRow is a line of a history.
type pastRow struct {
	Login   bool
	Name    string
	Device  sessions.Device
	Address string
	Created time.Time
	Ended   time.Time
	Reason  string // catalogue key of why, and by whom where nobody is named
	By      string // who ended it, for the placeholder of "past.by"; empty: the reason says it
	Self    bool   // whoever reads it ended it himself
	Apps    []application
}

// pastRow is a line of a history as pages show it. all tells names that are for
// administrators alone: whose account another one is.
func (p *Pages) pastRow(e *sessions.Past, all bool, lang string) pastRow {
	row := pastRow{Login: e.Login, Name: e.DeviceName, Device: sessions.DeviceOf(e.UserAgent), Address: e.Address,
		Created: e.CreatedAt, Ended: e.Ended.At, Reason: reasonText(e.Ended.Reason)}
	switch by := e.Ended.By; {
	case by.Kind == sessions.ActorClient:
		row.By = cmp.Or(e.EndedBy, by.ID)
	case by.Kind == sessions.ActorUser && all:
		row.By = cmp.Or(e.EndedBy, by.ID)
	case by.Kind == sessions.ActorUser:
		row.Self = by.ID == e.UserID
	case by.Kind == sessions.ActorOperator && all:
		row.By = by.ID
	}
	for i := range e.Applications {
		a := &e.Applications[i]
		row.Apps = append(row.Apps, application{Client: plainAsker(a.Name), Server: p.serverName(a.AuthorizationServer),
			Scopes: p.scopesInWords(a.AuthorizationServer, a.Scopes, lang), Told: a.Told, ToldAt: a.ToldAt})
	}
	return row
}

// reasons are the reasons of endings that have a text.
var reasons = []sessions.Reason{
	sessions.ReasonLogout, sessions.ReasonEndedByClient, sessions.ReasonEndedByOperator, sessions.ReasonEndedByAdmin,
	sessions.ReasonOtherUser, sessions.ReasonRevoked, sessions.ReasonRefreshReuse, sessions.ReasonCodeReplay,
	sessions.ReasonPasswordChanged, sessions.ReasonUserLocked, sessions.ReasonConsentWithdrawn, sessions.ReasonDisowned,
	sessions.ReasonClientDeleted, sessions.ReasonSuperseded, sessions.ReasonExpired,
}

// reasonText is the catalogue key of a reason.
func reasonText(reason sessions.Reason) string {
	if !slices.Contains(reasons, reason) {
		return "reason.other" // of a later release beside this one
	}
	return "reason." + string(reason)
}

// pager leads through a list that has more than a page.
type pager struct {
	First string // URL of the newest; empty: it is this page
	Older string // URL of what comes behind; empty: nothing does
}

// question is a page that asks before something is done, and tells what will
// happen.
type question struct {
	Title  string        // catalogue key
	Text   string        // catalogue key
	Name   string        // for the only placeholder of Text; empty: it has none
	Card   *card         // what it is about; nil: several things
	Many   bool          // it is about all browsers, or all but this one, and access without a browser
	Logins []card        // browsers that end, where there are many
	Ends   []application // what ends; where there are many, without a browser
	Stays  []application // what goes on
	Notes  []string      // catalogue keys of what else there is to know
	Action string        // URL that the form goes to
	Fields map[string]string
	Submit string // catalogue key
	Gives  bool   // it takes nothing away
	Back   string // URL
}

// askFirst shows a question.
func (p *Pages) askFirst(w http.ResponseWriter, r *http.Request, f *frame, q question) error {
	return p.show(w, r, page{name: "confirm", title: q.Title, frame: f, data: q})
}

// lang is the language of a page for who is signed in.
func (p *Pages) lang(r *http.Request) string { return p.catalogue.choose(nil, r).lang }

// apps are the applications of cards, each once for each authorization server,
// by name.
func apps(cards []card, choose func(card, application) bool) []application {
	var out []application
	for _, c := range cards {
		for _, a := range c.Apps {
			known := func(o application) bool { return o.Client.Name == a.Client.Name && o.Server == a.Server }
			if choose(c, a) && !slices.ContainsFunc(out, known) {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, func(a, b application) int {
		return cmp.Or(strings.Compare(a.Client.Name, b.Client.Name), strings.Compare(a.Server, b.Server))
	})
	return out
}

// withQuery is a path with parameters: pairs of name and value.
func withQuery(path string, pairs ...string) string {
	v := url.Values{}
	for pair := range slices.Chunk(pairs, 2) {
		v.Set(pair[0], pair[1])
	}
	return path + "?" + v.Encode()
}
