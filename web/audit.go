package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/throttle"
	"gatehouse.dev/gatehouse/users"
)

// auditRefusal records a sign-in that was refused, if err is such a refusal. It
// names the account only if there is one: what was typed may be a password in
// the wrong field. Throttled attempts cost who makes them nothing, so they are
// counted by account alone; addresses would let anybody fill the database.
func (p *Pages) auditRefusal(r *http.Request, username string, i *oauth.Interaction, err error) {
	event := audit.Event{Type: audit.SignIn, Result: audit.Refused, Reason: refusal(err), Actor: audit.Anonymous, At: p.now()}
	if event.Reason == "" {
		return
	}
	if event.Reason != audit.Throttled {
		event.Address = audit.Network(p.cfg.ClientAddress(r))
		event.AuthorizationServer, event.ClientID = i.Server, i.Client.ClientID
	}
	if key, err := users.Key(strings.TrimSpace(username)); err == nil {
		user, err := p.cfg.Users.UserByName(r.Context(), key)
		switch {
		case err == nil:
			event.UserID = user.ID
		case !errors.Is(err, users.ErrNotFound):
			p.log(r, slog.LevelWarn, err)
		}
	}
	p.record(r, event)
}

// refusal is the reason of a refused sign-in; empty where err is none.
func refusal(err error) string {
	blocked := (*throttle.Blocked)(nil)
	switch {
	case errors.As(err, &blocked):
		return audit.Throttled
	case errors.Is(err, users.ErrCredentials), errors.Is(err, sessions.ErrProofStale):
		return audit.WrongCredentials
	case errors.Is(err, users.ErrLocked), errors.Is(err, sessions.ErrUserLocked):
		return audit.Locked
	}
	return ""
}

// auditDenial records that a user denied a client's request.
func (p *Pages) auditDenial(r *http.Request, i *oauth.Interaction, login *sessions.Login) {
	p.record(r, audit.Event{
		Type: audit.Consent, Result: audit.Refused, At: p.now(),
		Actor:               sessions.Actor{Kind: sessions.ActorUser, ID: login.UserID}.String(),
		AuthorizationServer: i.Server, ClientID: i.Client.ClientID, UserID: login.UserID, LoginID: login.ID,
		Detail: strings.Join(append(append([]string(nil), i.Scopes...), i.Resources...), " "),
	})
}

// record writes an event of something that changes nothing else. Where that
// fails, the log says so; the answer is what it would have been.
func (p *Pages) record(r *http.Request, event audit.Event) {
	// Who guesses and hangs up before the answer is recorded all the same.
	if err := p.cfg.Audit.Record(context.WithoutCancel(r.Context()), event); err != nil {
		p.log(r, slog.LevelError, err)
	}
}
