package web

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

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
