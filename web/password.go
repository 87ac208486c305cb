package web

import (
	"context"
	"errors"
	"net/http"

	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/signin"
	"gatehouse.dev/gatehouse/users"
)

// passwordForm is what the page that changes the password shows.
type passwordForm struct {
	loginForm        // Problem, Wait, At and Field, as at sign-in
	Action    string // URL
	Seal      map[string]string
	Name      string // of the user, for password managers
	EndOthers bool   // it is ticked
	Min       int
	Done      string // catalogue key of what has just been done; empty: nothing
}

// Fields of the form.
const (
	oldField   = "old"
	newField   = "new"
	againField = "again"
	endField   = "end"
)

// showPassword is the page that changes the password.
func (p *Pages) showPassword(w http.ResponseWriter, r *http.Request, v *visitor) error {
	return p.passwordPage(w, r, v, http.StatusOK, passwordForm{EndOthers: true, Done: p.doneText(r, v)})
}

func (p *Pages) passwordPage(w http.ResponseWriter, r *http.Request, v *visitor, status int, f passwordForm) error {
	f.Action, f.Seal = p.path+accountPath+"/password", map[string]string{sealField: p.seal(v, actPassword, "")}
	f.Name, f.Min = v.user.Username, users.MinPassword
	return p.show(w, r, page{name: "password", title: "account.password", status: status, frame: p.accountFrame(v, "password"), data: f})
}

// unfit is why a password can't be the new one: a catalogue key and the field
// that it is about. What is asked of it is its length, and that it is not one of
// those that are guessed first (OWASP ASVS 5.0 §6.2): no mixture of kinds of
// characters, and no bound below 1,024 bytes.
func unfit(user *users.User, old, password, again string) (problem, field string) {
	switch {
	case old == "":
		return "password.empty.old", oldField
	case password == "":
		return "password.empty.new", newField
	}
	err := users.Acceptable(user.Username, password)
	switch {
	case errors.Is(err, users.ErrWeak) && len(password) > users.MaxPassword:
		return "password.long", newField
	case errors.Is(err, users.ErrWeak):
		return "password.short", newField
	case password == old:
		return "password.same", newField
	case errors.Is(err, users.ErrNamesake):
		return "password.name", newField
	case err != nil:
		return "password.common", newField
	case password != again:
		return "password.differ", againField
	}
	return "", ""
}

// postPassword changes the password of who knows the old one, and ends
// everything else of him unless he wants it to go on. His login goes on with
// another cookie.
func (p *Pages) postPassword(w http.ResponseWriter, r *http.Request, v *visitor) error {
	if err := p.sealed(r, v, actPassword, ""); err != nil {
		return err
	}
	old, password := r.PostForm.Get(oldField), r.PostForm.Get(newField)
	f := passwordForm{EndOthers: r.PostForm.Get(endField) != ""}
	if f.Problem, f.Field = unfit(v.user, old, password, r.PostForm.Get(againField)); f.Problem != "" {
		return p.passwordPage(w, r, v, http.StatusUnprocessableEntity, f)
	}
	err := p.changePassword(w, r, v, old, password, f.EndOthers)
	p.judge.Refused(r, v.user.Username, signin.At{}, err)
	if status, refused := p.refused(w, &f.loginForm, err); refused {
		if f.Problem == "login.wrong" {
			f.Problem, f.Field = "password.wrong", oldField
		}
		return p.passwordPage(w, r, v, status, f)
	}
	if err != nil {
		return err
	}
	return p.redirect(w, r, p.done(p.path+accountPath+"/sessions", v, "password"))
}

func (p *Pages) changePassword(w http.ResponseWriter, r *http.Request, v *visitor, old, password string, endOthers bool) error {
	user, err := p.judge.Authenticate(r, v.user.Username, old)
	if err != nil {
		return err
	}
	if user.ID != v.user.ID {
		return users.ErrCredentials // the name is another's by now
	}
	ctx, cancel := context.WithTimeout(r.Context(), p.cfg.PasswordWait)
	defer cancel()
	phc, err := p.cfg.Passwords.Hash(ctx, password)
	if err != nil {
		return err
	}
	if err := p.cfg.Directory.ChangePassword(r.Context(), v.person(), phc, user.Password, endOthers); err != nil {
		return err
	}
	// Whoever may have the old cookie has nothing any more. The change stands,
	// also where this comes too late because the login has just been ended.
	user.Password = phc
	if _, err := p.signIn(w, r, user, sessions.SignIn{Persistent: v.login.Persistent, Revokes: true}); err != nil &&
		!errors.Is(err, sessions.ErrProofStale) && !errors.Is(err, sessions.ErrUserLocked) {
		return err
	}
	return nil
}
