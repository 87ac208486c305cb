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
	"strconv"
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
		r.Handle(adminPath+path, p.page(methods{http.MethodGet: p.administer(h)}))
	}
	get("", p.showAdmin)
	get("/", p.showAdmin)
	get("/sessions", p.showAdminSessions)
	get("/users", p.suggestUsers)
	get("/users/{user}", p.showAdminUser)
	r.Handle(adminPath+"/end", p.page(methods{http.MethodPost: p.administer(p.postAdminEnd)}))
	r.Handle(adminPath+"/users/{user}/{act:end|lock|unlock}", p.page(methods{
		http.MethodGet: p.administer(p.askAdminAct), http.MethodPost: p.administer(p.postAdminAct)}))
}

// administer passes what an administrator asks for on to h. Who is not signed
// in, or has not proven for long who he is, is sent to the sign-in page; who has
// not the role, as the account says now, gets the page that says so, and that is
// recorded.
func (p *Pages) administer(h func(http.ResponseWriter, *http.Request, *visitor) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		login, user, err := p.present(r)
		if err != nil {
			return err
		}
		if v := (&visitor{login, user}); login != nil && !v.person().Admin {
			return adminProblem(p.cfg.Directory.Refuse(r.Context(), v.person(), "", "pages of administrators"))
		}
		v, err := p.signedIn(w, r, adminPlace(r), adminProof)
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

// suggestUsers answers with the users that q begins, as JSON.
func (p *Pages) suggestUsers(w http.ResponseWriter, r *http.Request, v *visitor) error {
	q, err := query(r)
	if err != nil {
		return err
	}
	found, err := p.cfg.Directory.Search(r.Context(), v.person(), q.Get("q"))
	if err != nil {
		return err
	}
	list := []suggestion{}
	for _, u := range found {
		list = append(list, suggestion{p.userPath(u.ID), u.Username, u.Name, u.Email, !u.LockedAt.IsZero()})
	}
	body, err := json.Marshal(map[string]any{"users": list})
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

// postAdminEnd asks whether the chosen entries are to end, and ends them where
// that was answered.
func (p *Pages) postAdminEnd(w http.ResponseWriter, r *http.Request, v *visitor) error {
	ids, err := chosen(r.PostForm)
	if err != nil {
		return err
	}
	user, list := r.PostForm.Get("user"), r.PostForm.Get("query")
	back, err := p.wayBack(user, list)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return errChosen
	}
	if r.PostForm.Has(sealField) {
		if err := p.sealed(r, v, actAdminEnd, digestOf(ids)); err != nil {
			return err
		}
		n, err := p.cfg.Directory.EndSelection(r.Context(), v.person(), ids)
		if err != nil {
			return err
		}
		return p.redirect(w, r, withEnded(back, n))
	}
	found, err := p.cfg.Directory.Selected(r.Context(), v.person(), ids)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return p.redirect(w, r, withEnded(back, 0))
	}
	e := adminEnding{entryTable: entryTable{Rows: p.rows(r, v, found), Users: true}, Action: p.path + adminPath + "/end", Back: back.String(),
		Fields: map[string]string{"ids": strings.Join(ids, " "), "user": user, "query": list, sealField: p.seal(v, actAdminEnd, digestOf(ids))}}
	for _, row := range e.Rows {
		e.Stays = e.Stays || row.Login && slices.ContainsFunc(row.Apps, func(a application) bool { return a.Offline })
	}
	return p.show(w, r, page{name: "adminend", title: "admin.end.title", frame: p.adminFrame(v), data: e})
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
// list as it was narrowed. It is put together anew from what is known, and so
// never leads elsewhere.
func (p *Pages) wayBack(user, list string) (*url.URL, error) {
	if user != "" {
		return &url.URL{Path: p.base.Path + adminPath + "/users/" + user, RawPath: p.userPath(user)}, nil
	}
	v, err := url.ParseQuery(list)
	if err != nil {
		return nil, errForm
	}
	f, err := readFilter(v)
	if err != nil {
		return nil, err
	}
	return &url.URL{Path: p.base.Path + adminPath + "/sessions", RawPath: p.path + adminPath + "/sessions", RawQuery: f.values().Encode()}, nil
}

// withEnded is a URL whose page says how many entries were ended.
func withEnded(to *url.URL, n int) string {
	v := to.Query()
	v.Set("ended", strconv.Itoa(n))
	to.RawQuery = v.Encode()
	return to.String()
}
