package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gorilla/mux"

	"gatehouse.dev/gatehouse/sessions"
)

// accountPath is below which the pages are that are about who is signed in.
const accountPath = "/account"

// What is done from these pages, as their forms' seals name it.
const (
	actEnd      = "end"      // subject: an entry's id
	actOthers   = "others"   //
	actAll      = "all"      //
	actRename   = "rename"   // subject: an entry's id
	actWithdraw = "withdraw" // subject: authorization server and client_id
	actPassword = "password"
)

// mountAccount adds the pages about who is signed in.
func (p *Pages) mountAccount(r *mux.Router) {
	list := func(h func(http.ResponseWriter, *http.Request, *visitor) error) handler {
		return p.visit("account", 0, h)
	}
	r.Handle(accountPath, p.page(methods{http.MethodGet: p.toAccount}))
	r.Handle(accountPath+"/", p.page(methods{http.MethodGet: p.toAccount}))
	r.Handle(accountPath+"/sessions", p.page(methods{http.MethodGet: list(p.showSessions)}))
	r.Handle(accountPath+"/sessions/events", p.page(methods{http.MethodGet: p.events}))
	r.Handle(accountPath+"/sessions/end", p.page(methods{http.MethodGet: list(p.askEndMany), http.MethodPost: list(p.postEndMany)}))
	r.Handle(accountPath+"/sessions/{id}/end", p.page(methods{http.MethodGet: list(p.askEnd), http.MethodPost: list(p.postEnd)}))
	r.Handle(accountPath+"/sessions/{id}/name", p.page(methods{http.MethodGet: list(p.showRename), http.MethodPost: list(p.postRename)}))
	p.mountNotices(r)
	r.Handle(accountPath+"/history", p.page(methods{http.MethodGet: p.visit("history", 0, p.showHistory)}))
	r.Handle(accountPath+"/permissions", p.page(methods{http.MethodGet: p.visit("permissions", 0, p.showPermissions)}))
	r.Handle(accountPath+"/permissions/withdraw", p.page(methods{
		http.MethodGet: p.visit("permissions", 0, p.askWithdraw), http.MethodPost: p.visit("permissions", 0, p.postWithdraw)}))
	r.Handle(accountPath+"/password", p.page(methods{
		http.MethodGet: p.visit("password", 0, p.showPassword), http.MethodPost: p.visit("password", 0, p.postPassword)}))
}

// toAccount leads to the first of the pages.
func (p *Pages) toAccount(w http.ResponseWriter, r *http.Request) error {
	return p.redirect(w, r, p.path+accountPath+"/sessions")
}

// accountFrame stands around the pages about who is signed in.
func (p *Pages) accountFrame(v *visitor, here string) *frame {
	f := &frame{Person: person(v.user), Label: "account.tabs"}
	for _, name := range []string{"sessions", "permissions", "history", "password"} {
		f.Tabs = append(f.Tabs, tab{Text: "account.tab." + name, URL: p.path + accountPath + "/" + name, Here: name == here})
	}
	if v.person().Admin {
		f.Tabs = append(f.Tabs, tab{Text: "admin.tab", URL: p.path + adminPath + "/sessions"})
	}
	return f
}

// dones are what a page can say has been done: the value of the parameter
// "done" behind a redirect, and the key "done.<value>" of its text.
var dones = []string{"ended", "others", "named", "withdrawn", "password", "confirmed", "disowned", undone}

// undone is said where something was asked for and, since who asked had to sign
// in first, has not been done.
const undone = "undone"

// done is a URL of ours whose page says what has just been done: one of dones,
// or the name of an adminAct.
func (p *Pages) done(to string, v *visitor, what string) string { return p.saying(to, v, "done", what) }

// doneText is the catalogue key of what has just been done; empty: nothing.
func (p *Pages) doneText(r *http.Request, v *visitor) string {
	if done := p.said(r, v, "done"); slices.Contains(dones, done) {
		return "done." + done
	}
	return ""
}

// sessionList is what the page "Sessions" shows.
type sessionList struct {
	Done     string // catalogue key; empty: nothing was done
	Notices  questions
	Browsers []card // the current one first
	Alone    []card // access without a browser
	Events   string // URL of the stream that tells of changes
	Mark     string // of what is shown
	Others   string // URLs of the pages that ask
	All      string
	Only     bool // there is nothing but the current one
	Full     bool // there are more than are shown
}

// showSessions lists where the visitor is signed in.
func (p *Pages) showSessions(w http.ResponseWriter, r *http.Request, v *visitor) error {
	// The mark comes first: what changes in between is told of by the stream.
	mark, err := p.cfg.Directory.Mark(r.Context(), v.person())
	if err != nil && !errors.Is(err, sessions.ErrNotFound) {
		return err
	}
	cards, err := p.cards(r, v)
	if err != nil {
		return err
	}
	notices, err := p.notices(r, v)
	if err != nil {
		return err
	}
	path := p.path + accountPath + "/sessions"
	list := sessionList{Done: p.doneText(r, v), Notices: notices, Events: path + "/events", Mark: mark, Full: len(cards) >= sessions.MaxEntries,
		Others: withQuery(path+"/end", "what", actOthers), All: withQuery(path+"/end", "what", actAll)}
	for _, c := range cards {
		c.End = path + "/" + c.ID + "/end"
		switch {
		case !c.Login:
			list.Alone = append(list.Alone, c)
			continue
		default:
			c.Rename = path + "/" + c.ID + "/name"
		}
		if c.Current {
			list.Browsers = append([]card{c}, list.Browsers...)
		} else {
			list.Browsers = append(list.Browsers, c)
		}
	}
	list.Only = len(cards) <= 1
	return p.show(w, r, page{name: "sessions", title: "account.sessions", frame: p.accountFrame(v, "sessions"), fetches: true, data: list})
}

// cards are all of the visitor's entries, newest first.
func (p *Pages) cards(r *http.Request, v *visitor) ([]card, error) {
	entries, err := p.cfg.Directory.Own(r.Context(), v.person(), sessions.EntryQuery{})
	if err != nil {
		return nil, err
	}
	lang, out := p.lang(r), make([]card, len(entries))
	for i := range entries {
		out[i] = p.card(&entries[i], v, lang)
	}
	return out, nil
}

// one is the visitor's entry that the URL names, or errGone.
func (p *Pages) one(r *http.Request, v *visitor) (card, error) {
	found, err := p.cfg.Directory.Own(r.Context(), v.person(), sessions.EntryQuery{Limit: 1, Conditions: []sessions.Condition{
		{By: sessions.ByEntryID, Operator: sessions.OpEqual, Text: mux.Vars(r)["id"]}}})
	if err != nil {
		return card{}, err
	}
	if len(found) == 0 {
		return card{}, errGone
	}
	return p.card(&found[0], v, p.lang(r)), nil
}

// askEnd asks whether one entry is to end.
func (p *Pages) askEnd(w http.ResponseWriter, r *http.Request, v *visitor) error {
	c, err := p.one(r, v)
	if err != nil {
		return err
	}
	back := p.path + accountPath + "/sessions"
	q := question{Title: "end.title", Text: "end.text", Card: &c, Action: back + "/" + c.ID + "/end", Back: back, Submit: "end.submit",
		Fields: map[string]string{sealField: p.seal(v, actEnd, c.ID)}}
	switch {
	case c.Current:
		q.Title, q.Text, q.Submit = "end.current.title", "end.current.text", "end.current.submit"
	case !c.Login:
		q.Title, q.Text, q.Submit = "end.alone.title", "end.alone.text", "end.alone.submit"
	}
	// What is used without the browser goes on without it, unless the realm says
	// otherwise.
	stays := map[sessions.Key]bool{}
	if c.Login {
		uses, err := p.cfg.Uses.Uses(r.Context(), c.ID)
		if err != nil {
			return fmt.Errorf("reading what a login is used for: %w", err)
		}
		for _, use := range uses {
			stays[use.Key] = use.Outlives
		}
	}
	q.Ends = apps([]card{c}, func(_ card, a application) bool { return !stays[a.session] })
	q.Stays = apps([]card{c}, func(_ card, a application) bool { return stays[a.session] })
	if len(q.Stays) > 0 {
		q.Notes = append(q.Notes, "end.note.stays")
	}
	q.Notes = append(q.Notes, "end.note.tokens")
	return p.askFirst(w, r, p.accountFrame(v, "sessions"), q)
}

// postEnd ends one entry. Where it is the browser's own login, the browser is
// signed out.
func (p *Pages) postEnd(w http.ResponseWriter, r *http.Request, v *visitor) error {
	id := mux.Vars(r)["id"]
	if err := p.sealed(r, v, actEnd, id); err != nil {
		return err
	}
	err := p.cfg.Directory.EndOwn(r.Context(), v.person(), id)
	if errors.Is(err, sessions.ErrNotFound) {
		return errGone
	}
	if err != nil {
		return err
	}
	if id == v.login.ID {
		return p.toSignedOut(w, r)
	}
	return p.redirect(w, r, p.done(p.path+accountPath+"/sessions", v, "ended"))
}

// toSignedOut takes the cookies of a login that has ended, and goes to the page
// that says so.
func (p *Pages) toSignedOut(w http.ResponseWriter, r *http.Request) error {
	p.cfg.Cookie.Clear(w)
	p.cfg.Cookie.State().Put(w, r, nil)
	return p.redirect(w, r, p.path+"/logout")
}

// many tells what a request is to end: all, or all but the current login.
func many(v url.Values) (what string, err error) {
	what = v.Get("what")
	if what != actOthers && what != actAll {
		return "", errMissing
	}
	return what, nil
}

// askEndMany asks whether everything is to end, or everything but the browser's
// own login.
func (p *Pages) askEndMany(w http.ResponseWriter, r *http.Request, v *visitor) error {
	what, err := many(r.URL.Query())
	if err != nil {
		return err
	}
	cards, err := p.cards(r, v)
	if err != nil {
		return err
	}
	back := p.path + accountPath + "/sessions"
	q := question{Title: "end." + what + ".title", Text: "end." + what + ".text", Submit: "end." + what + ".submit",
		Action: back + "/end", Back: back, Notes: []string{"end.note.offline", "end.note.tokens"},
		Fields: map[string]string{"what": what, sealField: p.seal(v, what, "")}}
	q.Many = true
	stays := func(c card, _ application) bool { return what == actOthers && c.Current }
	q.Ends = apps(cards, func(c card, _ application) bool { return !c.Login })
	q.Stays = apps(cards, stays)
	for _, c := range cards {
		switch {
		case !c.Login || stays(c, application{}):
		case c.Current:
			q.Logins = append([]card{c}, q.Logins...)
		default:
			q.Logins = append(q.Logins, c)
		}
	}
	return p.askFirst(w, r, p.accountFrame(v, "sessions"), q)
}

// postEndMany ends everything, or everything but the browser's own login.
func (p *Pages) postEndMany(w http.ResponseWriter, r *http.Request, v *visitor) error {
	what, err := many(r.PostForm)
	if err != nil {
		return err
	}
	if err := p.sealed(r, v, what, ""); err != nil {
		return err
	}
	if what == actAll {
		if err := p.cfg.Directory.EndAllOwn(r.Context(), v.person(), false); err != nil {
			return err
		}
		return p.toSignedOut(w, r)
	}
	if err := p.cfg.Directory.EndOthers(r.Context(), v.person()); err != nil {
		return err
	}
	return p.redirect(w, r, p.done(p.path+accountPath+"/sessions", v, actOthers))
}

// renaming is the page that names a device.
type renaming struct {
	Card    card
	Name    string
	Problem string // catalogue key; empty: none
	Action  string
	Fields  map[string]string
	Back    string
}

// showRename asks for the name of a login's device.
func (p *Pages) showRename(w http.ResponseWriter, r *http.Request, v *visitor) error {
	c, err := p.one(r, v)
	if err != nil {
		return err
	}
	return p.renamePage(w, r, v, c, http.StatusOK, renaming{Name: c.Name})
}

func (p *Pages) renamePage(w http.ResponseWriter, r *http.Request, v *visitor, c card, status int, f renaming) error {
	if !c.Login {
		return errGone
	}
	f.Back = p.path + accountPath + "/sessions"
	f.Card, f.Action = c, f.Back+"/"+c.ID+"/name"
	f.Fields = map[string]string{sealField: p.seal(v, actRename, c.ID)}
	return p.show(w, r, page{name: "rename", title: "rename.title", status: status, frame: p.accountFrame(v, "sessions"), data: f})
}

// postRename names a login's device; an empty name takes it away.
func (p *Pages) postRename(w http.ResponseWriter, r *http.Request, v *visitor) error {
	id := mux.Vars(r)["id"]
	if err := p.sealed(r, v, actRename, id); err != nil {
		return err
	}
	name := r.PostForm.Get("device")
	err := p.cfg.Directory.Name(r.Context(), v.person(), id, name)
	switch {
	case errors.Is(err, sessions.ErrDeviceName):
		c, err := p.one(r, v)
		if err != nil {
			return err
		}
		return p.renamePage(w, r, v, c, http.StatusUnprocessableEntity, renaming{Name: strings.ToValidUTF8(name, "\uFFFD"), Problem: "rename.bad"})
	case errors.Is(err, sessions.ErrNotFound):
		return errGone
	case err != nil:
		return err
	}
	return p.redirect(w, r, p.done(p.path+accountPath+"/sessions", v, "named"))
}

// historyLines is how many lines a page of the history has.
const historyLines = 20

// past is what the page "History" shows.
type past struct {
	Rows  []pastRow
	Pager pager
}

// showHistory lists what has ended of the visitor's.
func (p *Pages) showHistory(w http.ResponseWriter, r *http.Request, v *visitor) error {
	before, err := beforeParam(r)
	if err != nil {
		return err
	}
	found, err := p.cfg.Directory.History(r.Context(), v.person(), "", sessions.PastQuery{Before: before, Limit: historyLines})
	if err != nil {
		return err
	}
	path, lang := p.path+accountPath+"/history", p.lang(r)
	data := past{Pager: pastPager(path, before, found)}
	for i := range found.Past {
		data.Rows = append(data.Rows, p.pastRow(&found.Past[i], false, lang))
	}
	return p.show(w, r, page{name: "history", title: "account.history", frame: p.accountFrame(v, "history"), data: data})
}

// beforeParam is the position in a history that the URL names; 0: none.
func beforeParam(r *http.Request) (int64, error) {
	text := r.URL.Query().Get("before")
	if text == "" {
		return 0, nil
	}
	before, err := strconv.ParseInt(text, 10, 64)
	if err != nil || before <= 0 {
		return 0, errMissing
	}
	return before, nil
}

// pastPager leads through a history at path.
func pastPager(path string, before int64, page sessions.PastPage) pager {
	var out pager
	if before != 0 {
		out.First = path
	}
	if page.Older {
		out.Older = withQuery(path, "before", strconv.FormatInt(page.Past[len(page.Past)-1].Position, 10))
	}
	return out
}
