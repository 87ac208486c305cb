package web

import (
	"net/http"

	"github.com/gorilla/mux"

	"gatehouse.dev/gatehouse/sessions"
)

// adminUser is what the administrators' page of a user shows.
type adminUser struct {
	sessions.Account
	entryTable
	Shown string // what pages call him
	URL   string // of this page
	Self  bool   // it is the administrator's own account
	Full  bool   // there are more entries than are shown
	Done  string // catalogue key of what was just done; empty: nothing
	Past  []pastRow
	Pager pager // of the history
}

// showAdminUser is the administrators' page of a user.
func (p *Pages) showAdminUser(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if _, err := query(r); err != nil {
		return err
	}
	before, err := beforeParam(r)
	if err != nil {
		return err
	}
	id := mux.Vars(r)["user"]
	account, err := p.cfg.Directory.Account(r.Context(), v.person(), id)
	if err != nil {
		return err
	}
	entries, err := p.cfg.Directory.Of(r.Context(), v.person(), id, sessions.EntryQuery{Limit: sessions.MaxSelection})
	if err != nil {
		return err
	}
	past, err := p.cfg.Directory.History(r.Context(), v.person(), id, sessions.PastQuery{Before: before, Limit: historyLines})
	if err != nil {
		return err
	}
	u := adminUser{Account: *account, Shown: accountName(account), URL: p.userPath(id), Self: id == v.user.ID,
		Full: len(entries) == sessions.MaxSelection, Pager: pastPager(p.userPath(id), before, past),
		entryTable: entryTable{Rows: p.rows(r, v, entries), Choose: true, Ended: p.endedCount(r, v)}, Done: p.doneText(r, v)}
	for i := range past.Past {
		u.Past = append(u.Past, p.pastRow(&past.Past[i], true, p.lang(r)))
	}
	for _, act := range adminActs {
		if p.said(r, v, "done") == act.name {
			u.Done = act.said
		}
	}
	return p.show(w, r, page{name: "adminuser", title: "admin.user.title", frame: p.adminFrame(v), data: u})
}

// accountName is what pages call a user whom administrators look at.
func accountName(a *sessions.Account) string {
	if a.Name != "" && a.Name != a.Username {
		return a.Name + " (" + a.Username + ")"
	}
	return a.Username
}

// adminAct is something that an administrator does to a user as a whole.
type adminAct struct {
	name string // in the URL
	text string // how the catalogue keys of its question begin
	said string // catalogue key of what is said when it is done
	ends bool   // everything of the user ends
}

// adminActs are all of them.
var adminActs = []adminAct{
	{"end", "admin.endall", "admin.user.wasended", true},
	{"lock", "admin.lock", "admin.user.waslocked", true},
	{"unlock", "admin.unlock", "admin.user.wasunlocked", false},
}

// actOf is the act that a path names.
func actOf(r *http.Request) adminAct {
	for _, act := range adminActs {
		if act.name == mux.Vars(r)["act"] {
			return act
		}
	}
	return adminAct{}
}

// seal is what the act is called in the seal of its form; the subject is the
// user's id.
func (a adminAct) seal() string { return "admin " + a.name + " user" }

// askAdminAct asks whether something is to be done to a user.
func (p *Pages) askAdminAct(w http.ResponseWriter, r *http.Request, v *visitor) error {
	id, act := mux.Vars(r)["user"], actOf(r)
	account, err := p.cfg.Directory.Account(r.Context(), v.person(), id)
	if err != nil {
		return err
	}
	if act.name == "lock" && id == v.user.ID {
		return errOwnAccount
	}
	q := question{Title: act.text + ".title", Text: act.text + ".text", Name: accountName(account), Submit: act.text + ".submit", Gives: !act.ends,
		Action: p.userPath(id) + "/" + act.name, Back: p.userPath(id), Fields: map[string]string{sealField: p.seal(v, act.seal(), id)}}
	if act.ends {
		entries, err := p.cfg.Directory.Of(r.Context(), v.person(), id, sessions.EntryQuery{})
		if err != nil {
			return err
		}
		lang, cards := p.lang(r), make([]card, len(entries))
		for i := range entries {
			cards[i] = p.card(&entries[i], v, lang)
		}
		q.Ends = apps(cards, func(card, application) bool { return true })
		q.Notes = []string{"admin.note.offline", "end.note.tokens"}
	}
	return p.askFirst(w, r, p.adminFrame(v), q)
}

// postAdminAct does it.
func (p *Pages) postAdminAct(w http.ResponseWriter, r *http.Request, v *visitor) error {
	id, act := mux.Vars(r)["user"], actOf(r)
	err := p.sealed(r, v, act.seal(), id)
	if err != nil {
		return err
	}
	switch act.name {
	case "end":
		err = p.cfg.Directory.EndAll(r.Context(), v.person(), id, false)
	case "lock":
		err = p.cfg.Directory.Lock(r.Context(), v.person(), id)
	case "unlock":
		err = p.cfg.Directory.Unlock(r.Context(), v.person(), id)
	default:
		err = errMissing
	}
	if err != nil {
		return err
	}
	return p.redirect(w, r, p.done(p.userPath(id), v, act.name))
}
