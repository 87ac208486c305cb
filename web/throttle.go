package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"gatehouse.dev/gatehouse/throttle"
	"gatehouse.dev/gatehouse/users"
)

// gate counts an attempt when its turn has come, and settles it with the verdict.
func (p *Pages) gate(r *http.Request, username string) users.Gate {
	if p.cfg.Throttle == nil {
		return nil
	}
	return func(context.Context) (func(error), error) {
		admission, err := p.admit(r, username)
		if err != nil {
			return nil, err
		}
		return func(verdict error) { p.settle(r, admission, verdict) }, nil
	}
}

// admit counts an attempt to sign in, before its password is hashed. It returns
// *throttle.Blocked where there were too many. A name that can be nobody's is
// counted as any other.
func (p *Pages) admit(r *http.Request, username string) (*throttle.Admission, error) {
	a := throttle.Attempt{Account: username, Address: p.cfg.ClientAddress(r)}
	if key, err := users.Key(strings.TrimSpace(username)); err == nil {
		a.Account = key
		if a.UserID, err = p.knownUser(r, key); err != nil {
			return nil, err
		}
	}
	return p.cfg.Throttle.Admit(r.Context(), a)
}

// knownUser is the id of the account if this browser has signed in to it before.
func (p *Pages) knownUser(r *http.Request, key string) (string, error) {
	user, err := p.cfg.Users.UserByName(r.Context(), key)
	switch {
	case errors.Is(err, users.ErrNotFound):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("reading the user: %w", err)
	case !p.cfg.Throttle.Known(r, user.ID):
		return "", nil
	}
	return user.ID, nil
}

// settle gives an attempt back unless the password was wrong: it was right, or
// nobody has judged it.
func (p *Pages) settle(r *http.Request, admission *throttle.Admission, judged error) {
	if errors.Is(judged, users.ErrCredentials) {
		return
	}
	// Who has the right password must not fail for this; the counter expires.
	if err := admission.GiveBack(r.Context()); err != nil {
		p.log(r, slog.LevelWarn, err)
	}
}
