package mail

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

const (
	// every is how often a worker looks for letters, and batch how many it takes,
	// and sends, at once.
	every = 5 * time.Second
	batch = 4
	// lease is how long nobody else sends them: longer than sendTimeout by far.
	lease = 2 * time.Minute
	// firstWait doubles with every attempt, up to longestWait, until patience is
	// over.
	firstWait   = time.Minute
	longestWait = time.Hour
	patience    = 24 * time.Hour
)

// Sender gives mails to a mail server.
type Sender interface {
	// Send gives one mail to the server. id is the same for the same mail.
	// ErrRefused: there is no use in sending it again.
	Send(ctx context.Context, to, id string, at time.Time, text Text) error
}

// Worker sends the letters that are due. Any number of them, on any number of
// nodes, may work on one database.
type Worker struct {
	Store  Store  // required
	Sender Sender // required
	// Compose words the mails of each realm, by its name; those of others are left
	// alone. Required.
	Compose map[string]func(notice sessions.Notice, language string) (Text, error)
	// Settled is told of each attempt: Sent, Abandoned, or Waiting where it failed
	// for the time being. Default: nobody is.
	Settled func(realm string, state State)
	Now     func() time.Time // required
	Logger  *slog.Logger     // required; never gets an address
}

// Run sends until ctx is done, and returns when what it had begun is settled.
func (w *Worker) Run(ctx context.Context) {
	for {
		for ctx.Err() == nil && w.Pass(ctx) {
		}
		// At uneven times, so that nodes that started together don't stay together.
		pause := time.NewTimer(every/2 + rand.N(every)) //nolint:gosec // spreads, hides nothing
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// Pass claims what is due, sends it, and tells whether there may be more.
func (w *Worker) Pass(ctx context.Context) bool {
	realms := make([]string, 0, len(w.Compose))
	for name := range w.Compose {
		realms = append(realms, name)
	}
	letters, err := w.Store.ClaimLetters(ctx, realms, batch, lease)
	if err != nil {
		if ctx.Err() == nil {
			w.Logger.WarnContext(ctx, "mails not claimed", "error", err)
		}
		return false
	}
	var sending sync.WaitGroup
	for _, l := range letters {
		sending.Go(func() { w.send(ctx, l) })
	}
	sending.Wait()
	return len(letters) == batch
}

// send sends one letter and notes what became of it.
func (w *Worker) send(ctx context.Context, l Letter) {
	logger := w.Logger.With("realm", l.Realm, "notice", l.Notice.ID, "attempt", l.Attempts)
	outcome := w.outcome(ctx, logger, l)
	// What has been sent is noted, also where the server is about to end.
	noting, cancel := context.WithTimeout(context.WithoutCancel(ctx), every)
	defer cancel()
	switch err := w.Store.SettleLetter(noting, l, outcome); {
	case errors.Is(err, ErrNotFound):
		logger.WarnContext(ctx, "a mail was settled by another attempt")
	case err != nil:
		logger.ErrorContext(ctx, "what became of a mail was not noted", "state", outcome.State, "error", err)
	}
	if w.Settled != nil {
		w.Settled(l.Realm, outcome.State)
	}
}

func (w *Worker) outcome(ctx context.Context, logger *slog.Logger, l Letter) Outcome {
	late := w.Now().Sub(l.Notice.At) >= patience
	if late {
		// It waited for a server without mail, say. Nobody needs it any more.
		logger.WarnContext(ctx, "mail abandoned: it is too late for it")
		return Outcome{State: Abandoned}
	}
	text, err := w.Compose[l.Realm](l.Notice, l.Language)
	if err == nil {
		err = w.Sender.Send(ctx, l.To, l.Notice.ID, l.Notice.At, text)
	}
	switch {
	case err == nil:
		logger.InfoContext(ctx, "mail sent")
		return Outcome{State: Sent}
	case errors.Is(err, ErrRefused):
		logger.WarnContext(ctx, "mail abandoned", "error", err)
		return Outcome{State: Abandoned}
	}
	wait := min(firstWait<<min(l.Attempts-1, 10), longestWait)
	if ctx.Err() != nil {
		wait = 0 // another node may have it at once
	} else {
		logger.WarnContext(ctx, "mail not sent, and sent again later", "wait", wait, "error", err)
	}
	return Outcome{State: Waiting, Next: w.Now().Add(wait)}
}
