package users

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"
	"golang.org/x/sync/semaphore"
	"golang.org/x/text/secure/precis"
)

// Bounds on what a person types. A password longer than MaxPassword is
// refused before it is hashed.
const (
	MaxUsername = 255
	MaxPassword = 1024 // bytes
	MinPassword = 8    // characters, for new passwords (NIST SP 800-63B §5.1.1.2)
)

// params are OWASP's second choice for Argon2id: 19 MiB, two passes, one lane.
var params = argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}

// Key is the form of a user name that decides whether two are the same:
// PRECIS UsernameCaseMapped (RFC 8265 §3.3). ErrCredentials where the text
// can't be a user name.
func Key(username string) (string, error) {
	if username == "" || len(username) > MaxUsername || !utf8.ValidString(username) {
		return "", ErrCredentials
	}
	key, err := precis.UsernameCaseMapped.String(username)
	if err != nil {
		return "", ErrCredentials
	}
	return key, nil
}

// Passwords hashes and checks passwords. At most Config.Concurrency run at
// once, so that a burst of sign-ins can't take processor and memory from
// everything else; the rest wait as long as their context allows.
type Passwords struct {
	slots *semaphore.Weighted
	dummy string
}

// NewPasswords allows concurrency checks at once; 0 stands for half the
// processors, at least one.
func NewPasswords(concurrency int) (*Passwords, error) {
	if concurrency <= 0 {
		concurrency = max(1, runtime.GOMAXPROCS(0)/2)
	}
	// What an unknown user name is checked against, so that it costs what a
	// wrong password costs and tells no one who has an account.
	dummy, err := argon2id.CreateHash(rand.Text(), &params)
	if err != nil {
		return nil, fmt.Errorf("preparing password hashing: %w", err)
	}
	return &Passwords{slots: semaphore.NewWeighted(int64(concurrency)), dummy: dummy}, nil
}

// Hash returns the PHC string of a password, ErrWeak where it is empty or too
// long, or ErrBusy. Whether a person may choose it is for Acceptable to say:
// what an operator's file or an older rule allowed is hashed all the same.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	if password == "" || len(password) > MaxPassword {
		return "", ErrWeak
	}
	if err := p.slots.Acquire(ctx, 1); err != nil {
		return "", ErrBusy
	}
	defer p.slots.Release(1)
	phc, err := argon2id.CreateHash(password, &params)
	if err != nil {
		return "", fmt.Errorf("hashing a password: %w", err)
	}
	return phc, nil
}

// Gate admits a password check. It is called when the check's turn has come,
// before anything is hashed, and what it returns when the verdict is known
// (nil, or an error of Authenticate), before the next one has its turn: so no
// more attempts are undecided at any time than run at once. An error of the
// gate is Authenticate's.
type Gate func(ctx context.Context) (settle func(verdict error), err error)

// Authenticate judges a user name and password in one realm: the user,
// ErrCredentials, ErrLocked (only to who knows the password), ErrBusy, or the
// gate's error. The gate may be nil. User.Password is the hash that was checked.
func (p *Passwords) Authenticate(ctx context.Context, store Store, username, password string, gate Gate) (*User, error) {
	if len(password) > MaxPassword {
		return nil, ErrCredentials
	}
	user, used, err := p.check(ctx, store, username, password, gate)
	if err != nil {
		return nil, err
	}
	if weaker(used) {
		if phc, err := p.Hash(ctx, password); err == nil {
			if err := store.UpgradePassword(ctx, user.ID, user.Password, phc); err != nil {
				return nil, err
			}
			user.Password = phc
		}
	}
	return user, nil
}

// check does what needs a slot: it asks the gate, reads the user and hashes.
func (p *Passwords) check(ctx context.Context, store Store, username, password string, gate Gate) (user *User, used *argon2id.Params, err error) {
	if err := p.slots.Acquire(ctx, 1); err != nil {
		return nil, nil, ErrBusy
	}
	defer p.slots.Release(1)
	if gate != nil {
		settle, refusal := gate(ctx)
		if refusal != nil {
			return nil, nil, refusal
		}
		defer func() { settle(err) }() // the named result
	}
	key, err := Key(strings.TrimSpace(username))
	if err == nil {
		user, err = store.UserByName(ctx, key)
	}
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrCredentials) {
		return nil, nil, err
	}
	phc := p.dummy
	if user != nil && user.Password != "" {
		phc = user.Password
	}
	match, used, err := argon2id.CheckHash(password, phc)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("checking a password: %w", err)
	case user == nil || user.Password == "" || !match:
		return nil, nil, ErrCredentials
	case !user.LockedAt.IsZero():
		return nil, nil, ErrLocked
	}
	return user, used, nil
}

func weaker(used *argon2id.Params) bool {
	return used.Memory < params.Memory || used.Iterations < params.Iterations
}
