package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse.dev/gatehouse/mail"
	"gatehouse.dev/gatehouse/sessions"
)

// newMailWorker sends the mails about sign-ins from elsewhere, of all realms;
// nil where the configuration has no mail server.
func (h *house) newMailWorker(realms map[string]*realm) (*mail.Worker, error) {
	c := h.cfg.SMTP
	if c.Address == "" {
		return nil, nil
	}
	sender, err := mail.NewSMTP(mail.SMTPConfig{Address: c.Address, From: c.From, Username: c.Username, Password: string(c.Password), TLS: mail.TLS(c.TLS)})
	if err != nil {
		return nil, err
	}
	attempts := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_mails_total",
		Help: "Attempts to send a mail, by realm and what came of them: sent, abandoned, or waiting for another attempt.",
	}, []string{"realm", "state"})
	h.metrics.registry.MustRegister(attempts)
	w := &mail.Worker{
		Store:   h.db,
		Sender:  sender,
		Compose: map[string]func(sessions.Notice, string) (mail.Text, error){},
		Settled: func(realm string, state mail.State) { attempts.WithLabelValues(realm, string(state)).Inc() },
		Now:     h.now,
		Logger:  h.logger,
	}
	for name, r := range realms {
		w.Compose[name] = r.pages.Letter
		for _, state := range []mail.State{mail.Sent, mail.Abandoned, mail.Waiting} {
			attempts.WithLabelValues(name, string(state))
		}
	}
	return w, nil
}

// noticeSweep has a realm's old notices, known devices and networks removed.
type noticeSweep struct{ notices *sessions.Notices }

func (s noticeSweep) Sweep(ctx context.Context, _ time.Duration, limit int) (sessions.Swept, error) {
	n, err := s.notices.Sweep(ctx, limit)
	return sessions.Swept{Marks: n, More: n >= limit}, err
}
