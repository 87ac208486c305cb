package signin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/throttle"
	"gatehouse.dev/gatehouse/users"
)

// Audit keeps the audit events of a realm.
type Audit interface {
	// Record writes one event; those that audit.Event.Counted names are counted.
	Record(ctx context.Context, event audit.Event) error
}

// Config is what a Judge is made of.
type Config struct {
	Users     users.Store        // required; the realm's
	Passwords *users.Passwords   // required
	Throttle  *throttle.Throttle // the realm's. Default: nothing limits guesses
	Audit     Audit              // required; the realm's
	// Wait is how long an attempt may wait for its turn to have its password
	// checked. Default: 5 s.
	Wait time.Duration
	// Address tells the IP address that a request comes from. Required.
	Address func(*http.Request) string
	// RequestID is what log events carry. Default: none.
	RequestID func(context.Context) string
	Now       func() time.Time // default: time.Now
	Logger    *slog.Logger     // default: slog.Default()
}

// Judge judges user names and passwords of one realm. It is safe for concurrent
// use.
type Judge struct{ cfg Config }

// New returns the Judge that cfg describes.
func New(cfg Config) (*Judge, error) {
	if cfg.Users == nil || cfg.Passwords == nil || cfg.Audit == nil || cfg.Address == nil {
		return nil, errors.New("signin: users, passwords, audit and address are required")
	}
	if cfg.Wait <= 0 {
		cfg.Wait = 5 * time.Second
	}
	if cfg.RequestID == nil {
		cfg.RequestID = func(context.Context) string { return "" }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Judge{cfg: cfg}, nil
}

// Authenticate judges a user name and password that a browser sent, waiting a
// bounded time for its turn. Beside what users.Passwords.Authenticate returns
// it may be *throttle.Blocked. Whoever calls it records a refusal with Refused.
func (j *Judge) Authenticate(r *http.Request, username, password string) (*users.User, error) {
	return j.judge(r, username, password, true)
}

func (j *Judge) judge(r *http.Request, username, password string, browser bool) (*users.User, error) {
	ctx, cancel := context.WithTimeout(r.Context(), j.cfg.Wait)
	defer cancel()
	user, err := j.cfg.Passwords.Authenticate(ctx, j.cfg.Users, username, password, j.gate(r, username, browser))
	if err != nil {
		return nil, fmt.Errorf("judging a sign-in: %w", err)
	}
	return user, nil
}

// gate counts an attempt when its turn has come, and settles it with the verdict.
func (j *Judge) gate(r *http.Request, username string, browser bool) users.Gate {
	if j.cfg.Throttle == nil {
		return nil
	}
	return func(context.Context) (func(error), error) {
		admission, err := j.admit(r, username, browser)
		if err != nil {
			return nil, err
		}
		return func(verdict error) { j.settle(r, admission, verdict) }, nil
	}
}

// admit counts an attempt to sign in, before its password is hashed. It returns
// *throttle.Blocked where there were too many. A name that can be nobody's is
// counted as any other.
func (j *Judge) admit(r *http.Request, username string, browser bool) (*throttle.Admission, error) {
	a := throttle.Attempt{Account: username, Address: j.cfg.Address(r)}
	if key, err := users.Key(strings.TrimSpace(username)); err == nil {
		a.Account = key
		if browser {
			if a.UserID, err = j.knownUser(r, key); err != nil {
				return nil, err
			}
		}
	}
	return j.cfg.Throttle.Admit(r.Context(), a)
}

// knownUser is the id of the account if this browser has signed in to it before.
func (j *Judge) knownUser(r *http.Request, key string) (string, error) {
	user, err := j.cfg.Users.UserByName(r.Context(), key)
	switch {
	case errors.Is(err, users.ErrNotFound):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("reading the user: %w", err)
	case !j.cfg.Throttle.Known(r, user.ID):
		return "", nil
	}
	return user.ID, nil
}

// settle gives an attempt back unless the password was wrong: it was right, or
// nobody has judged it.
func (j *Judge) settle(r *http.Request, admission *throttle.Admission, judged error) {
	if errors.Is(judged, users.ErrCredentials) {
		return
	}
	// Who has the right password must not fail for this; the counter expires.
	if err := admission.GiveBack(r.Context()); err != nil {
		j.log(r, slog.LevelWarn, err)
	}
}

// At says what an attempt to sign in was for: the client of an authorization
// server, or neither.
type At struct{ AuthorizationServer, ClientID string }

// Refused records an attempt to sign in that was refused, if err is such a
// refusal. It names the account only if there is one: what was typed may be a
// password in the wrong field. Throttled attempts cost who makes them nothing,
// so they are counted by account alone; addresses would let anybody fill the
// database.
func (j *Judge) Refused(r *http.Request, username string, at At, err error) {
	event := audit.Event{Type: audit.SignIn, Result: audit.Refused, Reason: reason(err), Actor: audit.Anonymous,
		At: j.cfg.Now().UTC().Truncate(time.Millisecond)}
	if event.Reason == "" {
		return
	}
	if event.Reason != audit.Throttled {
		event.Address = audit.Network(j.cfg.Address(r))
		event.AuthorizationServer, event.ClientID = at.AuthorizationServer, at.ClientID
	}
	if key, err := users.Key(strings.TrimSpace(username)); err == nil {
		user, err := j.cfg.Users.UserByName(r.Context(), key)
		switch {
		case err == nil:
			event.UserID = user.ID
		case !errors.Is(err, users.ErrNotFound):
			j.log(r, slog.LevelWarn, err)
		}
	}
	// Who guesses and hangs up before the answer is recorded all the same. Where
	// that fails, the log says so; the answer is what it would have been.
	if err := j.cfg.Audit.Record(context.WithoutCancel(r.Context()), event); err != nil {
		j.log(r, slog.LevelError, err)
	}
}

// reason is why a sign-in was refused; empty where err is no refusal.
func reason(err error) string {
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

func (j *Judge) log(r *http.Request, level slog.Level, err error) {
	j.cfg.Logger.Log(r.Context(), level, "sign-in", "request_id", j.cfg.RequestID(r.Context()), "error", err)
}
