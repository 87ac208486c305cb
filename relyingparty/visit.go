package relyingparty

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// visit is a browser in which a user is signed in, or was until the session
// was ended elsewhere.
type visit struct {
	key    string  // on the shelf
	issuer *issuer // as it was at the sign-in
	of     who     // the same

	overElsewhere atomic.Bool // the issuer has told so

	mu sync.Mutex // held during calls with its tokens, so that two tabs don't renew at once

	out          bool // logged out here
	ended        bool // the session was ended elsewhere: there are no tokens any more
	notice       string
	bad          bool // the notice is of something that went wrong
	accessToken  string
	refreshToken string
	expires      time.Time // of the access token; zero: unknown
	renewed      time.Time // when the tokens came
	subject      string
	sid          string // OpenID Connect session id; empty: none
	identity     map[string]any
	user         map[string]any // claims of userinfo; nil: none

	idToken string // the latest, as it came: the hint of a sign-out
}

// who is whom an ID token was about; logout tokens say the same.
type who struct{ subject, sid string }

// adopt takes over new tokens, whose ID token was verified.
func (v *visit) adopt(token *oauth2.Token, identity *oidc.IDToken, now time.Time) error {
	v.accessToken, v.expires, v.renewed = token.AccessToken, expiry(token, now), now
	if token.RefreshToken != "" {
		v.refreshToken = token.RefreshToken
	}
	if identity == nil { // not every renewal brings one
		return nil
	}
	var claims map[string]any
	if err := identity.Claims(&claims); err != nil {
		return fmt.Errorf("%w: ID token: claims", errRefused)
	}
	v.subject, v.identity = identity.Subject, claims
	v.idToken, _ = token.Extra("id_token").(string)
	v.sid, _ = claims["sid"].(string)
	return nil
}

// end notes that the session is over elsewhere.
func (v *visit) end() {
	v.ended = true
	v.accessToken, v.refreshToken, v.idToken, v.notice = "", "", "", ""
}

// say is shown on the next page.
func (v *visit) say(bad bool, text string) { v.notice, v.bad = text, bad }

// open finds the request's visit and locks it; the caller unlocks it with
// close. It is nil where nobody is signed in.
func (p *RelyingParty) open(r *http.Request) *visit {
	key := cookieKey(r, p.cookie)
	if key == "" {
		return nil
	}
	v, ok := p.visits.get(key)
	if !ok {
		return nil
	}
	v.mu.Lock()
	if v.out { // while this waited
		v.mu.Unlock()
		return nil
	}
	if v.overElsewhere.Load() && !v.ended {
		v.end()
	}
	return v
}

func (v *visit) close() { v.mu.Unlock() }

// renew gets new tokens (RFC 6749 §6, OpenID Connect Core §12). Returns
// errEnded, after which the visit has ended, errUnavailable or errRefused.
func (p *RelyingParty) renew(ctx context.Context, v *visit) error {
	if v.refreshToken == "" {
		return fmt.Errorf("%w: there is no refresh token", errRefused)
	}
	token, err := v.issuer.oauth.TokenSource(ctx, &oauth2.Token{RefreshToken: v.refreshToken}).Token()
	if err != nil {
		if err = tokenError(err); errors.Is(err, errEnded) {
			v.end()
		}
		return err
	}
	var identity *oidc.IDToken
	if raw, _ := token.Extra("id_token").(string); raw != "" {
		if identity, err = p.verify(ctx, v.issuer, raw, token); err != nil {
			return err
		}
		if identity.Subject != v.subject { // §12.2
			return fmt.Errorf("%w: ID token of another subject", errRefused)
		}
	}
	return v.adopt(token, identity, p.cfg.Now())
}

// freshen renews an access token that is about to expire, if it can be.
func (p *RelyingParty) freshen(ctx context.Context, v *visit) error {
	if v.refreshToken == "" || v.expires.IsZero() || v.expires.Sub(p.cfg.Now()) > renewBefore {
		return nil
	}
	return p.renew(ctx, v)
}

// home is the start page, or the user's.
func (p *RelyingParty) home(w http.ResponseWriter, r *http.Request) error {
	v := p.open(r)
	if v == nil {
		return p.show(w, r, page{name: "start", title: "Welcome"})
	}
	defer v.close()
	if !v.ended {
		ctx, cancel := p.outgoing(r)
		defer cancel()
		list, err := p.list(ctx, v)
		if err == nil || !errors.Is(err, errEnded) {
			if err != nil {
				p.log(r, err)
			}
			return p.show(w, r, p.userPage(v, list, err))
		}
		p.log(r, err)
	}
	return p.show(w, r, page{name: "ended", title: "Your session was ended"})
}

// change runs one action with the session of a signed-in user and shows the
// user's page again, where the visit's notice says what came of it.
func (p *RelyingParty) change(w http.ResponseWriter, r *http.Request, act func(context.Context, *visit) error) error {
	v := p.open(r)
	if v == nil {
		return &failure{status: http.StatusForbidden, title: "You are not signed in", again: true,
			text: "Nothing was done.", cause: errors.New("no visit")}
	}
	defer v.close()
	if !v.ended {
		ctx, cancel := p.outgoing(r)
		defer cancel()
		if err := act(ctx, v); err != nil {
			p.log(r, err)
			v.tell(err)
		}
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// tell makes a failed action the notice of the next page. That the session has
// ended has a page of its own.
func (v *visit) tell(err error) {
	switch {
	case errors.Is(err, errEnded):
	case errors.Is(err, errUnavailable):
		v.say(true, "The authorization server can't be reached at the moment. Nothing was done; try again.")
	case errors.Is(err, errForbidden):
		v.say(true, "The authorization server doesn't allow that to this application.")
	default:
		v.say(true, "The authorization server's answer could not be accepted.")
	}
}

func (p *RelyingParty) postRenew(w http.ResponseWriter, r *http.Request) error {
	return p.change(w, r, func(ctx context.Context, v *visit) error {
		if v.refreshToken == "" {
			v.say(true, "There is no refresh token, so the tokens can't be renewed. Sign in again when they have expired.")
			return nil
		}
		if err := p.renew(ctx, v); err != nil {
			return err
		}
		v.say(false, "The tokens were renewed.")
		return nil
	})
}

func (p *RelyingParty) postEnd(w http.ResponseWriter, r *http.Request) error {
	id := r.PostForm.Get("id")
	if !sessionID.MatchString(id) {
		return badRequest("There is no such session.", errors.New("malformed session id"))
	}
	if v := p.open(r); v != nil {
		own := v.sid == id
		v.close()
		if own { // not to be told then that somebody else ended it
			return p.postLogOut(w, r)
		}
	}
	return p.change(w, r, func(ctx context.Context, v *visit) error {
		err := p.end(ctx, v, "/sessions/"+id+"/")
		if errors.Is(err, errMissing) {
			v.say(false, "That session had ended already.")
			return nil
		}
		if err == nil {
			v.say(false, "The session was ended.")
		}
		return err
	})
}

func (p *RelyingParty) postEndOthers(w http.ResponseWriter, r *http.Request) error {
	return p.change(w, r, func(ctx context.Context, v *visit) error {
		err := p.end(ctx, v, "/sessions/?excludeCurrent=true")
		if err == nil {
			v.say(false, "All other sessions were ended.")
		}
		return err
	})
}

// postLogOut ends the session at the issuer and, whatever that answers, here.
func (p *RelyingParty) postLogOut(w http.ResponseWriter, r *http.Request) error {
	to := "/logged-out"
	if v := p.open(r); v != nil {
		defer v.close()
		if !v.ended {
			ctx, cancel := p.outgoing(r)
			defer cancel()
			if err := p.end(ctx, v, "/session/"); err != nil && !errors.Is(err, errEnded) && !errors.Is(err, errMissing) {
				p.log(r, err)
				to = "/logged-out?alone"
			}
		}
		v.end()
		v.out = true
		p.visits.remove(v.key)
	}
	p.setCookie(w, p.cookie, "")
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

func (p *RelyingParty) loggedOut(w http.ResponseWriter, r *http.Request) error {
	return p.show(w, r, page{name: "loggedout", title: "You are logged out", data: r.URL.RawQuery})
}
