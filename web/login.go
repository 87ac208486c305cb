package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/signin"
	"gatehouse.dev/gatehouse/throttle"
	"gatehouse.dev/gatehouse/users"
)

// loginForm is what the sign-in page shows.
type loginForm struct {
	Fields   map[string]string // hidden
	Client   asker
	Present  string // who is signed in in this browser; empty: nobody
	Again    bool   // he must prove it again
	Switch   string // URL of this page for another account; empty: it is
	Lead     string // catalogue key of what the sign-in is for; empty: for the client
	Username string
	Offer    bool // "stay signed in"
	Remember bool // it is ticked
	Undone   bool // what was asked for has not been done

	Problem string        // catalogue key; empty: none
	Wait    time.Duration // that the problem's text names; 0: it names none
	At      time.Time     // when it is over; zero: soon
	Field   string        // the field that it is about: username, password, or empty for both
}

// showLogin is the sign-in page, or a plain page for who comes on his own.
func (p *Pages) showLogin(w http.ResponseWriter, r *http.Request) error {
	if forPlace(r.URL.Query()) {
		return p.showOwnLogin(w, r)
	}
	if q := r.URL.Query(); !q.Has("as") && !q.Has("stamp") && !q.Has("request") {
		_, user, err := p.present(r)
		if err != nil {
			return err
		}
		return p.show(w, r, page{name: "home", title: "home.title", data: person(user)})
	}
	server, i, err := p.interaction(r)
	if err != nil {
		return err
	}
	login, user, err := p.present(r)
	if err != nil {
		return err
	}
	f := loginForm{Username: typed(i.LoginHint)}
	if login != nil && !p.otherAccount(r, i) {
		f.Remember = login.Persistent
		if f.Username == "" {
			f.Username = user.Username
		}
	}
	return p.loginPage(w, r, server, i, http.StatusOK, f)
}

// postLogin judges what was typed, makes or continues a login and goes back to
// the authorization request.
func (p *Pages) postLogin(w http.ResponseWriter, r *http.Request) error {
	if forPlace(r.PostForm) {
		return p.postOwnLogin(w, r)
	}
	server, i, err := p.interaction(r)
	if err != nil {
		return err
	}
	f := p.typedIn(r)
	if f.Problem != "" {
		return p.loginPage(w, r, server, i, http.StatusUnprocessableEntity, f)
	}

	username, password := r.PostForm.Get("username"), r.PostForm.Get("password")
	login, err := p.proveAndSignIn(w, r, username, password, i.Stamp.Nonce, f.Remember)
	p.judge.Refused(r, username, signin.At{AuthorizationServer: i.Server, ClientID: i.Client.ClientID}, err)
	if status, refused := p.refused(w, &f, err); refused {
		return p.loginPage(w, r, server, i, status, f)
	}
	if err != nil {
		return err
	}

	if i.Stamp.UserID != login.UserID || i.Stamp.LoginID != login.ID {
		// What another user, or this one in another login, decided is void.
		i.Stamp.Decision, i.Stamp.Scopes, i.Stamp.Resources, i.Stamp.DecidedAt = "", nil, nil, time.Time{}
	}
	i.Stamp.SignedIn, i.Stamp.LoginID, i.Stamp.UserID = true, login.ID, login.UserID
	return p.redirect(w, r, server.Resume(i))
}

// typedIn is the form as it was filled in, with a problem where something is
// missing.
func (p *Pages) typedIn(r *http.Request) loginForm {
	username := r.PostForm.Get("username")
	f := loginForm{Username: typed(username), Remember: p.cfg.Remember && r.PostForm.Get("remember") != ""}
	switch {
	case strings.TrimSpace(username) == "":
		f.Problem, f.Field = "login.empty.username", "username"
	case r.PostForm.Get("password") == "":
		f.Problem, f.Field = "login.empty.password", "password"
	}
	return f
}

// refused says in the form why a password was refused, and with what status the
// form is shown again; false where err is no refusal.
func (p *Pages) refused(w http.ResponseWriter, f *loginForm, err error) (status int, refused bool) {
	blocked := (*throttle.Blocked)(nil)
	switch {
	case errors.As(err, &blocked):
		f.Problem, f.Wait = "login.throttled", blocked.Wait
		if blocked.Wait >= time.Minute {
			f.Problem, f.At = "login.throttled.at", p.now().Add(blocked.Wait)
		}
		w.Header().Set("Retry-After", strconv.FormatInt(int64(blocked.Wait/time.Second), 10))
		return http.StatusTooManyRequests, true
	case errors.Is(err, users.ErrCredentials), errors.Is(err, sessions.ErrProofStale):
		// Not 401, which would need a challenge (RFC 9110 §15.5.2).
		f.Problem = "login.wrong"
		return http.StatusUnprocessableEntity, true
	case errors.Is(err, users.ErrLocked), errors.Is(err, sessions.ErrUserLocked):
		f.Problem = "login.locked"
		return http.StatusUnprocessableEntity, true
	case errors.Is(err, users.ErrBusy):
		f.Problem = "login.busy"
		w.Header().Set("Retry-After", retryAfter)
		return http.StatusServiceUnavailable, true
	}
	return 0, false
}

// proveAndSignIn judges a password and records the sign-in, which answers the
// authorization request of that nonce; empty: none. Where the password was
// replaced in between, it is judged once more.
func (p *Pages) proveAndSignIn(w http.ResponseWriter, r *http.Request, username, password, nonce string, persistent bool) (*sessions.Login, error) {
	for again := true; ; again = false {
		user, err := p.judge.Authenticate(r, username, password)
		if err != nil {
			return nil, err
		}
		login, err := p.signIn(w, r, user, sessions.SignIn{AuthNonce: nonce, Persistent: persistent})
		if again && errors.Is(err, sessions.ErrProofStale) {
			continue
		}
		return login, err
	}
}

// signIn writes the login, completing in, and sets its new cookie.
func (p *Pages) signIn(w http.ResponseWriter, r *http.Request, user *users.User, in sessions.SignIn) (*sessions.Login, error) {
	current, _, err := p.present(r)
	if err != nil {
		return nil, err
	}
	now := p.now()
	value, hash := p.cfg.Cookie.New()
	in.UserID, in.AuthTime, in.AMR, in.Password = user.ID, now, []string{"pwd"}, user.Password
	in.Address, in.UserAgent = p.cfg.ClientAddress(r), userAgent(r)
	in.CookieHash, in.ExpiresAt = hash, now.Add(p.cfg.Lifetimes.LoginAbsolute)
	if current != nil {
		in.Current = current.ID
	}
	var device string
	in.Noticing, device = p.noticing(r, user)
	login, err := p.cfg.Logins.SignIn(r.Context(), in, sessions.Ending{
		By: sessions.Actor{Kind: sessions.ActorUser, ID: user.ID}, Reason: sessions.ReasonOtherUser, At: now})
	if err != nil {
		return nil, fmt.Errorf("recording a sign-in: %w", err)
	}
	var expires time.Time
	if in.Persistent {
		expires = in.ExpiresAt
	}
	p.cfg.Cookie.Set(w, value, expires)
	p.putState(w, r, login)
	if device != "" {
		p.deviceCookie().Set(w, device)
	}
	if p.cfg.Throttle != nil {
		p.cfg.Throttle.Remember(w, r, user.ID)
	}
	return login, nil
}

func (p *Pages) loginPage(w http.ResponseWriter, r *http.Request, server *oauth.Server, i *oauth.Interaction, status int, f loginForm) error {
	login, user, err := p.present(r)
	if err != nil {
		return err
	}
	f.Fields, f.Client, f.Offer = server.Fields(i), p.asker(i.Server, i.Client), p.cfg.Remember
	switch {
	case login == nil:
	case p.otherAccount(r, i):
		f.Present, f.Fields[accountParam] = person(user), accountOther
	default:
		f.Present, f.Again, f.Switch = person(user), true, p.switchAccount(f.Fields)
	}
	return p.show(w, r, page{name: "login", title: "login.title", status: status, leaves: true,
		locales: i.UILocales, data: f})
}

// Parameters of the sign-in page: with another account than the present one.
const (
	accountParam = "account"
	accountOther = "other"
)

// otherAccount tells whether the sign-in is to be with any account, and not
// with the one that is signed in.
func (p *Pages) otherAccount(r *http.Request, i *oauth.Interaction) bool {
	return r.FormValue(accountParam) == accountOther || slices.Contains(i.Prompt, "select_account")
}

// switchAccount is the URL of the sign-in page of an interaction for another
// account.
func (p *Pages) switchAccount(fields map[string]string) string {
	v := url.Values{accountParam: {accountOther}}
	for name, value := range fields {
		v.Set(name, value)
	}
	return p.path + "/login?" + v.Encode()
}

// typed is a user name as it may stand in the form again.
func typed(name string) string {
	if len(name) > users.MaxUsername || !utf8.ValidString(name) {
		return ""
	}
	return name
}

// userAgent is the request's, as a login keeps it: UTF-8, at most 512 bytes.
func userAgent(r *http.Request) string {
	ua := r.UserAgent()
	if len(ua) > maxUserAgent {
		ua = ua[:maxUserAgent]
	}
	// An empty replacement can only shorten it, also where a character was cut.
	return strings.ToValidUTF8(ua, "")
}

// person is what pages call a user; empty for none.
func person(u *users.User) string {
	switch {
	case u == nil:
		return ""
	case u.Claims.Name != "" && u.Claims.Name != u.Username:
		return u.Claims.Name + " (" + u.Username + ")"
	}
	return u.Username
}
