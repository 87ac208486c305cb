package web

import (
	"errors"
	"fmt"
	"net/http"

	"gatehouse.dev/gatehouse/sessions"
)

// showLogout asks before it ends anything; signed out, it says so.
func (p *Pages) showLogout(w http.ResponseWriter, r *http.Request) error {
	_, user, err := p.present(r)
	if err != nil {
		return err
	}
	if user == nil {
		return p.show(w, r, page{name: "signedout", title: "signedout.title"})
	}
	return p.show(w, r, page{name: "logout", title: "logout.title", data: person(user)})
}

// postLogout ends the browser's login and forgets its cookie.
func (p *Pages) postLogout(w http.ResponseWriter, r *http.Request) error {
	login, _, err := p.present(r)
	if err != nil {
		return err
	}
	if login != nil {
		_, err := p.cfg.Sessions.End(r.Context(), sessions.Target{Login: login.ID, OfUser: login.UserID}, sessions.Ending{
			By: sessions.Actor{Kind: sessions.ActorUser, ID: login.UserID}, Reason: sessions.ReasonLogout, At: p.now()})
		// Somebody else was faster: it is over all the same.
		if err != nil && !errors.Is(err, sessions.ErrNotFound) {
			return fmt.Errorf("signing out: %w", err)
		}
	}
	p.cfg.Cookie.Clear(w)
	return p.redirect(w, r, p.path+"/logout")
}
