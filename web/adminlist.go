package web

import (
	"errors"
	"net/http"
	"strconv"

	"gatehouse.dev/gatehouse/sessions"
)

// adminList is what the administrators' list shows.
type adminList struct {
	Search   string // as typed
	Searched bool
	Found    []accountRow

	Filter  adminFilter
	More    bool   // than are found here
	Done    string // catalogue key of what was just done; empty: nothing
	Query   string // the filter and the page, encoded
	Clients []option
	Browser []option
	Since   []option

	entryTable
	Slow         bool   // the filter reads too much
	Newer, Older string // URLs; empty: there is nothing
}

// option is a choice of a select element.
type option struct {
	Value  string
	Label  string // of somebody else's choosing
	Key    string // of the catalogue, in place of a label
	Chosen bool
}

// accountRow is a user who was found.
type accountRow struct {
	sessions.Account
	URL string
}

// entryTable is a table of entries.
type entryTable struct {
	Rows   []entryRow
	Users  bool   // it tells whose they are
	Choose bool   // they can be ended
	Ended  *int64 // how many were ended just now; nil: nothing was tried
}

// EndedCount is how many were ended just now.
func (t entryTable) EndedCount() int64 { return *t.Ended }

// entryRow is an entry as the administrators' tables show it.
type entryRow struct {
	card
	URL   string // of its user's page
	Agent string // as the browser says it
}

// showAdminSessions is the list of all live entries of the realm, with the
// search for users.
func (p *Pages) showAdminSessions(w http.ResponseWriter, r *http.Request, v *visitor) error {
	values, err := query(r)
	if err != nil {
		return err
	}
	l := adminList{Search: values.Get("q"), Searched: values.Has("q"), entryTable: entryTable{Users: true, Choose: true, Ended: p.endedCount(r, v)}, Done: p.doneText(r, v)}
	if l.Filter, err = readFilter(values); err != nil {
		return err
	}
	q := sessions.EntryQuery{Limit: adminPage}
	if q.After, q.Before, err = positions(values); err != nil {
		return err
	}
	if l.Searched {
		var found []sessions.Account
		if found, l.More, err = p.find(r, v, l.Search); err != nil {
			return err
		}
		for _, u := range found {
			l.Found = append(l.Found, accountRow{u, p.userPath(u.ID)})
		}
	}
	here, err := listQuery(values)
	if err != nil {
		return err
	}
	here.Del("q") // who goes on from the list does not search once more
	l.Query = here.Encode()
	if err := p.offer(r, v, &l); err != nil {
		return err
	}
	status := http.StatusOK
	if l.Filter.BadAddress() {
		status = http.StatusUnprocessableEntity
	} else if err := p.list(r, v, q, &l); err != nil {
		return err
	}
	return p.show(w, r, page{name: "adminsessions", title: "admin.title", status: status, frame: p.adminFrame(v), fetches: true, data: l})
}

// offer fills in what the filter can be set to.
func (p *Pages) offer(r *http.Request, v *visitor, l *adminList) error {
	choices, err := p.cfg.Directory.ClientChoices(r.Context(), v.person())
	if err != nil {
		return err
	}
	l.Clients = []option{{Key: "admin.filter.any"}}
	for _, c := range choices {
		value := c.AuthorizationServer + "/" + c.ClientID
		label := c.Name
		if label == "" {
			label = c.ClientID
		}
		if len(p.cfg.Servers) > 1 {
			label += " (" + c.AuthorizationServer + ")"
		}
		l.Clients = append(l.Clients, option{Value: value, Label: label, Chosen: value == l.Filter.Application})
	}
	l.Browser = []option{{Key: "admin.filter.any"}}
	for _, name := range sessions.Browsers() {
		o := option{Value: name, Label: name, Chosen: name == l.Filter.Browser}
		if name == sessions.OtherBrowser {
			o.Label, o.Key = "", "admin.filter.browser.other"
		}
		l.Browser = append(l.Browser, o)
	}
	l.Since = []option{{Key: "admin.filter.always"}}
	for _, s := range sinces {
		l.Since = append(l.Since, option{Value: s.Name, Key: "admin.filter." + s.Name, Chosen: s.Name == l.Filter.Since})
	}
	return nil
}

// list reads a page of entries.
func (p *Pages) list(r *http.Request, v *visitor, q sessions.EntryQuery, l *adminList) error {
	q.Conditions = l.Filter.conditions(p.now())
	found, err := p.cfg.Directory.All(r.Context(), v.person(), q)
	if errors.Is(err, sessions.ErrTooSlow) {
		l.Slow = true
		return nil
	}
	if err != nil {
		return err
	}
	l.Rows = p.rows(r, v, found.Entries)
	link := func(name string, position int64) string {
		to := l.Filter.values()
		to.Set(name, strconv.FormatInt(position, 10))
		return p.path + adminPath + "/sessions?" + to.Encode()
	}
	n := len(found.Entries)
	if found.Newer && n > 0 {
		l.Newer = link("after", found.Entries[0].Position)
	} else if found.Newer {
		l.Newer = p.path + adminPath + "/sessions?" + l.Filter.values().Encode() // what stood here is gone
	}
	if found.Older && n > 0 {
		l.Older = link("before", found.Entries[n-1].Position)
	}
	return nil
}

// rows are entries as a table shows them.
func (p *Pages) rows(r *http.Request, v *visitor, entries []sessions.Entry) []entryRow {
	lang, rows := p.lang(r), make([]entryRow, len(entries))
	for i := range entries {
		e := &entries[i]
		rows[i] = entryRow{card: p.card(e, v, lang), URL: p.userPath(e.UserID), Agent: e.UserAgent}
		rows[i].Username = e.Username
	}
	return rows
}

// find searches for users, and tells whether there are more than it returns.
func (p *Pages) find(r *http.Request, v *visitor, text string) (found []sessions.Account, more bool, err error) {
	if found, err = p.cfg.Directory.Search(r.Context(), v.person(), text); len(found) > sessions.MaxAccounts {
		return found[:sessions.MaxAccounts], true, err
	}
	return found, false, err
}

// ended is a URL of ours whose page says how many entries were ended.
func (p *Pages) ended(to string, v *visitor, n int) string {
	return p.saying(to, v, "ended", strconv.Itoa(n))
}

// endedCount is how many entries were ended just now; nil: nothing was tried.
func (p *Pages) endedCount(r *http.Request, v *visitor) *int64 {
	n, err := strconv.ParseInt(p.said(r, v, "ended"), 10, 64)
	if err != nil || n < 0 || n > sessions.MaxSelection {
		return nil
	}
	return &n
}
