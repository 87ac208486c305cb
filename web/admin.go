package web

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"gatehouse.dev/gatehouse/sessions"
)

const (
	// adminPath is below which the administrators' pages are.
	adminPath = "/admin"
	// adminProof is how old a sign-in may be for them: whoever finds a browser
	// that somebody has left must not get at everybody's sessions.
	adminProof = 15 * time.Minute
	// askProof is how old it may be for a question, so that there is time left to
	// answer it.
	askProof = 10 * time.Minute
	// actAdminEnd is what the form's seal names that ends a selection; its
	// subject is digestOf the ids.
	actAdminEnd = "admin end"
)

// What administrators' pages refuse.
var (
	errNotAdmin   = problem{http.StatusForbidden, "notadmin"}
	errOwnAccount = problem{http.StatusForbidden, "ownaccount"}       // nobody locks himself out
	errChosen     = problem{http.StatusUnprocessableEntity, "chosen"} // nothing was chosen
)

// mountAdmin adds the administrators' pages.
func (p *Pages) mountAdmin(r *mux.Router) {
	get := func(path string, h func(http.ResponseWriter, *http.Request, *visitor) error) {
		r.Handle(adminPath+path, p.page(methods{http.MethodGet: p.administer(adminProof, h)}))
	}
	get("", p.showAdmin)
	get("/", p.showAdmin)
	get("/sessions", p.showAdminSessions)
	get("/users", p.suggestUsers)
	get("/users/{user}", p.showAdminUser)
	r.Handle(adminPath+"/end", p.page(methods{
		http.MethodGet: p.administer(askProof, p.askAdminEnd), http.MethodPost: p.administer(adminProof, p.postAdminEnd)}))
	r.Handle(adminPath+"/users/{user}/{act:end|lock|unlock}", p.page(methods{
		http.MethodGet: p.administer(askProof, p.askAdminAct), http.MethodPost: p.administer(adminProof, p.postAdminAct)}))
}

// administer passes what an administrator asks for on to h. Who is not signed
// in, or has not proven within maxAge who he is, is sent to the sign-in page; who
// has not the role, as the account says now, gets the page that says so, and that
// is recorded.
func (p *Pages) administer(maxAge time.Duration, h func(http.ResponseWriter, *http.Request, *visitor) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		login, user, err := p.present(r)
		if err != nil {
			return err
		}
		if v := (&visitor{login, user}); login != nil && !v.person().Admin {
			return adminProblem(p.cfg.Directory.Refuse(r.Context(), v.person(), "", "pages of administrators"))
		}
		v, err := p.signedIn(w, r, adminPlace(r), maxAge)
		if err != nil || v == nil {
			return err
		}
		return adminProblem(h(w, r, v))
	}
}

// adminProblem translates what the Directory refuses.
func adminProblem(err error) error {
	switch {
	case errors.Is(err, sessions.ErrForbidden):
		return errNotAdmin
	case errors.Is(err, sessions.ErrUserNotFound):
		return errGone
	case errors.Is(err, sessions.ErrSelf):
		return errOwnAccount
	}
	return err
}

// adminFrame stands around the administrators' pages.
func (p *Pages) adminFrame(v *visitor) *frame {
	return &frame{Person: person(v.user), Label: "admin.tabs", Tabs: []tab{
		{Text: "admin.tab", URL: p.path + adminPath + "/sessions", Here: true},
		{Text: "admin.tab.account", URL: p.path + accountPath + "/sessions"},
	}}
}

// showAdmin leads to the first of the pages.
func (p *Pages) showAdmin(w http.ResponseWriter, r *http.Request, _ *visitor) error {
	return p.redirect(w, r, p.path+adminPath+"/sessions")
}

// userPath is where the administrators' page of a user is.
func (p *Pages) userPath(id string) string {
	return p.path + adminPath + "/users/" + url.PathEscape(id)
}

// suggestion is a user whose name is being typed, as our script reads it.
type suggestion struct {
	URL      string `json:"url"`
	Username string `json:"username"`
	Name     string `json:"name,omitempty"`
	Email    string `json:"email,omitempty"`
	Locked   bool   `json:"locked,omitempty"`
}

// suggestUsers answers with the users that q begins, and whether there are more, as
// JSON.
func (p *Pages) suggestUsers(w http.ResponseWriter, r *http.Request, v *visitor) error {
	q, err := query(r)
	if err != nil {
		return err
	}
	found, more, err := p.find(r, v, q.Get("q"))
	if err != nil {
		return err
	}
	list := []suggestion{}
	for _, u := range found {
		list = append(list, suggestion{p.userPath(u.ID), u.Username, u.Name, u.Email, !u.LockedAt.IsZero()})
	}
	body, err := json.Marshal(map[string]any{"users": list, "more": more})
	if err != nil {
		return fmt.Errorf("writing suggestions: %w", err)
	}
	protect(w.Header(), filePolicy)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // fails only where the browser is gone
	return nil
}

// adminEnding is the page that asks before chosen entries end.
type adminEnding struct {
	entryTable
	Action, Back string
	Fields       map[string]string
	Stays        bool // some applications' access goes on
}

// selection is what a request names to be ended: ids, where they were chosen, and
// where the browser goes on. errChosen: there are no ids.
type selection struct {
	ids        []string
	user, list string
	back       string // URL
}

func (p *Pages) selection(v url.Values) (s selection, err error) {
	if s.ids, err = chosen(v); err != nil {
		return s, err
	}
	s.user, s.list = v.Get("user"), v.Get("query")
	if s.back, err = p.wayBack(s.user, s.list); err != nil {
		return s, err
	}
	if len(s.ids) == 0 {
		return s, errChosen
	}
	return s, nil
}

// askAdminEnd asks whether the chosen entries are to end.
func (p *Pages) askAdminEnd(w http.ResponseWriter, r *http.Request, v *visitor) error {
	q, err := query(r)
	if err != nil {
		return err
	}
	s, err := p.selection(q)
	if err != nil {
		return err
	}
	if q.Has(sealField) {
		return errForm // an answer, which URLs must not have: others get to see them
	}
	found, err := p.cfg.Directory.Selected(r.Context(), v.person(), s.ids)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return p.redirect(w, r, p.ended(s.back, v, 0))
	}
	e := adminEnding{entryTable: entryTable{Rows: p.rows(r, v, found), Users: true}, Action: p.path + adminPath + "/end", Back: s.back,
		Fields: map[string]string{"ids": strings.Join(s.ids, " "), "user": s.user, "query": s.list, sealField: p.seal(v, actAdminEnd, digestOf(s.ids))}}
	for _, row := range e.Rows {
		e.Stays = e.Stays || row.Login && slices.ContainsFunc(row.Apps, func(a application) bool { return a.Offline })
	}
	return p.show(w, r, page{name: "adminend", title: "admin.end.title", frame: p.adminFrame(v), data: e})
}

// postAdminEnd ends them.
func (p *Pages) postAdminEnd(w http.ResponseWriter, r *http.Request, v *visitor) error {
	s, err := p.selection(r.PostForm)
	if err != nil {
		return err
	}
	if err := p.sealed(r, v, actAdminEnd, digestOf(s.ids)); err != nil {
		return err
	}
	n, err := p.cfg.Directory.EndSelection(r.Context(), v.person(), s.ids)
	if err != nil {
		return err
	}
	return p.redirect(w, r, p.ended(s.back, v, n))
}

// chosen are the ids of entries that a form names, in order: one by its own
// button, those that are ticked, or those that the page that asks has taken up.
func chosen(v url.Values) ([]string, error) {
	ids := slices.Concat(v["id"], strings.Fields(v.Get("ids")))
	if one := v.Get("one"); one != "" {
		ids = []string{one}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if len(ids) > sessions.MaxSelection {
		return nil, errForm
	}
	for _, id := range ids {
		if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" {
			return nil, errForm
		}
	}
	return ids, nil
}

// digestOf stands for a list of ids.
func digestOf(ids []string) string {
	sum := sha256.Sum256([]byte(strings.Join(ids, " ")))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// wayBack is where the browser goes on after an act: to a user's page, or to the
// page of the list as it was narrowed. It is put together anew from what is known,
// and so never leads elsewhere.
func (p *Pages) wayBack(user, list string) (string, error) {
	if user != "" {
		return p.userPath(user), nil
	}
	v, err := url.ParseQuery(list)
	if err != nil {
		return "", errForm
	}
	if v, err = listQuery(v); err != nil {
		return "", err
	}
	to := p.path + adminPath + "/sessions"
	if len(v) > 0 {
		to += "?" + v.Encode()
	}
	return to, nil
}
