package web

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"

	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/signin"
	"gatehouse.dev/gatehouse/users"
)

// visitor is who is signed in at a page of ours that is about himself, or about
// others.
type visitor struct {
	login *sessions.Login
	user  *users.User
}

// person is the visitor as sessions.Directory knows people.
func (v *visitor) person() sessions.Person {
	return sessions.Person{UserID: v.user.ID, Admin: v.user.Has(users.RoleSessionAdmin), Login: v.login.ID}
}

// Parameters of the sign-in page where it is for a page of ours, and not for an
// authorization request.
const (
	placeParam = "to"    // a name that placePath knows
	againParam = "again" // who is signed in is asked once more
	overParam  = "over"  // the sign-in that the browser had is over
	doneParam  = "done"  // he has just signed in, so there must be a cookie
	// what he asked for has not been done; anybody can make a link that says so
	undoneParam = "undone"
)

// places are the pages that one can sign in for, by the name that stands in the
// URL of the sign-in page. Nothing but these, the page of a user (ofUser) and the
// administrators' list as it was narrowed (ofList) is ever gone to: a page's
// address is never taken from outside.
var places = map[string]string{
	"account":     "/account/sessions",
	"history":     "/account/history",
	"permissions": "/account/permissions",
	"password":    "/account/password",
	"admin":       "/admin/sessions",
}

// ofUser, with a user's id behind it, names the administrators' page about him.
const ofUser = "user:"

// ofList, with the query behind it that listQuery makes, names a page of the
// administrators' list.
const ofList = "admin?"

// adminPlace names the administrators' page that a request is for; where it asks
// for an act, that from which it came.
func adminPlace(r *http.Request) string {
	user, list := mux.Vars(r)["user"], ""
	switch {
	case user != "":
	case strings.HasSuffix(r.URL.Path, adminPath+"/sessions"):
		list = r.URL.RawQuery
	case strings.HasSuffix(r.URL.Path, adminPath+"/end"):
		v := r.URL.Query()
		if r.Method == http.MethodPost {
			v = r.PostForm
		}
		user, list = v.Get("user"), v.Get("query")
	}
	if name := ofUser + user; placePath(name) != "" {
		return name
	}
	if v, err := url.ParseQuery(list); err == nil {
		if q, err := listQuery(v); err == nil && len(q) > 0 {
			return ofList + q.Encode()
		}
	}
	return "admin"
}

// placePath is the path, with its query, of the page with this name; empty: there
// is none.
func placePath(name string) string {
	if id, ok := strings.CutPrefix(name, ofUser); ok {
		if parsed, err := uuid.Parse(id); err != nil || parsed.String() != id {
			return ""
		}
		return adminPath + "/users/" + id
	}
	if query, ok := strings.CutPrefix(name, ofList); ok {
		v, err := url.ParseQuery(query)
		if err != nil {
			return ""
		}
		if v, err = listQuery(v); err != nil || len(v) == 0 || v.Encode() != query {
			return ""
		}
		return places["admin"] + "?" + query
	}
	return places[name]
}

// signedIn returns who is signed in, for a page of ours. Where nobody is, or
// where the sign-in is older than maxAge (0: it may be of any age), it sends the
// browser to the sign-in page, from where it comes to the place of that name,
// and returns nil and no error: the answer is written. To be asked once more
// keeps the login, and what is done in it. Who sent a form, or wanted a question of
// administrators, is told that nothing came of it.
func (p *Pages) signedIn(w http.ResponseWriter, r *http.Request, place string, maxAge time.Duration) (*visitor, error) {
	login, user, err := p.present(r)
	if err != nil {
		return nil, err
	}
	q := url.Values{placeParam: {place}}
	if r.Method == http.MethodPost || maxAge == askProof { // the place doesn't show that something was asked for
		q.Set(undoneParam, "1")
	}
	switch {
	case login == nil && p.cfg.Cookie.Hash(r) != nil:
		p.putState(w, r, nil)
		q.Set(overParam, "1")
	case login == nil:
	case maxAge > 0 && (login.Former || p.now().Sub(login.AuthTime) > maxAge):
		q.Set(againParam, "1")
	default:
		p.touch(r, login)
		return &visitor{login, user}, nil
	}
	return nil, p.redirect(w, r, p.path+"/login?"+q.Encode())
}

// putState tells pages that watch the browser's state who is signed in, where a
// server lets them (OpenID Connect Session Management 1.0).
func (p *Pages) putState(w http.ResponseWriter, r *http.Request, login *sessions.Login) {
	for _, server := range p.cfg.Servers {
		if server.SessionManagement() {
			p.cfg.Cookie.State().Put(w, r, login)
			return
		}
	}
}

// visit makes a page's handler of one that needs to know who is signed in; as
// signedIn.
func (p *Pages) visit(place string, maxAge time.Duration, h func(http.ResponseWriter, *http.Request, *visitor) error) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		v, err := p.signedIn(w, r, place, maxAge)
		if err != nil || v == nil {
			return err
		}
		return h(w, r, v)
	}
}

// touch notes that a person uses his login. What our script fetches by itself
// is no use of it, or a page that is left open would keep him signed in.
func (p *Pages) touch(r *http.Request, login *sessions.Login) {
	if dest := r.Header.Get("Sec-Fetch-Dest"); p.cfg.Touch != nil && (dest == "" || dest == "document") {
		p.cfg.Touch(sessions.Touch{LoginID: login.ID, At: p.now()})
	}
}

// place is where the sign-in of a request leads to, and its name.
func (p *Pages) place(r *http.Request) (name, path string, err error) {
	name = r.FormValue(placeParam)
	if path = placePath(name); path == "" {
		return "", "", errMissing
	}
	return name, p.path + path, nil
}

// forPlace tells whether the sign-in page is asked for a page of ours.
func forPlace(v url.Values) bool { return v.Has(placeParam) && !v.Has("as") && !v.Has("stamp") }

// showOwnLogin is the sign-in page for a page of ours.
func (p *Pages) showOwnLogin(w http.ResponseWriter, r *http.Request) error {
	_, path, err := p.place(r)
	if err != nil {
		return err
	}
	login, user, err := p.present(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	again, other := q.Has(againParam), q.Get(accountParam) == accountOther
	if login != nil && !again && !other {
		if q.Has(undoneParam) && p.now().Sub(login.AuthTime) < saidLifetime {
			path = p.done(path, &visitor{login, user}, undone)
		}
		return p.redirect(w, r, path)
	}
	if login == nil && q.Has(doneParam) && p.cfg.Cookie.Hash(r) == nil {
		p.CookiesBlocked(w, r)
		return nil
	}
	f := loginForm{}
	if login != nil && !other {
		f.Username, f.Remember = user.Username, login.Persistent
	}
	return p.ownLoginPage(w, r, http.StatusOK, f)
}

// postOwnLogin judges what was typed and goes to the page of ours.
func (p *Pages) postOwnLogin(w http.ResponseWriter, r *http.Request) error {
	name, _, err := p.place(r)
	if err != nil {
		return err
	}
	f := p.typedIn(r)
	if f.Problem != "" {
		return p.ownLoginPage(w, r, http.StatusUnprocessableEntity, f)
	}
	username, password := r.PostForm.Get("username"), r.PostForm.Get("password")
	_, err = p.proveAndSignIn(w, r, username, password, "", f.Remember)
	p.judge.Refused(r, username, signin.At{}, err)
	if status, refused := p.refused(w, &f, err); refused {
		return p.ownLoginPage(w, r, status, f)
	}
	if err != nil {
		return err
	}
	to := url.Values{placeParam: {name}, doneParam: {"1"}}
	if r.PostForm.Has(undoneParam) {
		to.Set(undoneParam, "1")
	}
	return p.redirect(w, r, p.path+"/login?"+to.Encode())
}

// ownLoginPage shows the sign-in page for a page of ours.
func (p *Pages) ownLoginPage(w http.ResponseWriter, r *http.Request, status int, f loginForm) error {
	name, _, err := p.place(r)
	if err != nil {
		return err
	}
	_, user, err := p.present(r)
	if err != nil {
		return err
	}
	f.Offer, f.Lead, f.Fields = p.cfg.Remember, "login.own", map[string]string{placeParam: name}
	if r.FormValue(overParam) != "" {
		f.Lead = "login.over"
	}
	other := url.Values{placeParam: {name}, accountParam: {accountOther}}
	if f.Undone = r.FormValue(undoneParam) != ""; f.Undone {
		f.Fields[undoneParam] = "1"
		other.Set(undoneParam, "1")
	}
	switch {
	case user == nil:
	case r.FormValue(accountParam) == accountOther:
		f.Present, f.Fields[accountParam] = person(user), accountOther
	default:
		f.Present, f.Lead, f.Fields[againParam] = person(user), "login.own.again", "1"
		f.Switch = p.path + "/login?" + other.Encode()
	}
	return p.show(w, r, page{name: "login", title: "login.title", status: status, data: f})
}

// beginAgain is where the sign-in for a page of ours is begun anew; empty where
// the request is not about one.
func (p *Pages) beginAgain(r *http.Request) string {
	if !forPlace(r.URL.Query()) {
		return ""
	}
	name, _, err := p.place(r)
	if err != nil {
		return ""
	}
	return p.path + "/login?" + url.Values{placeParam: {name}}.Encode()
}
