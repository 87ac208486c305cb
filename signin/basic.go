package signin

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"gatehouse.dev/gatehouse/users"
)

const (
	// proofLifetime is how long a password that was right need not be hashed
	// again, so that a script that polls doesn't cost a hash each time.
	proofLifetime = 30 * time.Second
	// maxProofs bounds for how many accounts that is remembered.
	maxProofs = 4096
	// basicWait is how long a call may wait for its turn.
	basicWait = 3 * time.Second
)

// Basic judges the user name and password of HTTP Basic (RFC 7617), which come
// with every call. It is safe for concurrent use.
//
// All calls together have one turn at a time among the password checks, so
// that however many there are, a person at the sign-in page waits for one of
// them at most. A password that was right is remembered for some seconds, as a
// MAC under a key of this process over account, password hash and password: a
// new hash makes it worthless. The account itself is read at each call. Whoever
// tries another password for an account has what was remembered of it
// forgotten, so that a guess is never spared the throttle but by the first one
// being right.
type Basic struct {
	*Judge
	turn *semaphore.Weighted
	key  [32]byte

	mu     sync.Mutex
	proofs map[string]proof // by user id
}

type proof struct {
	mac     [sha256.Size]byte
	expires time.Time
}

// NewBasic returns a Basic that judges as j does.
func NewBasic(j *Judge) *Basic {
	b := &Basic{Judge: &Judge{cfg: j.cfg}, turn: semaphore.NewWeighted(1), proofs: map[string]proof{}}
	b.cfg.Wait = min(j.cfg.Wait, basicWait)
	rand.Read(b.key[:]) // never fails (crypto/rand)
	return b
}

// Authenticate judges a user name and password and records a refusal. It
// returns what Judge.Authenticate does.
func (b *Basic) Authenticate(r *http.Request, username, password string) (*users.User, error) {
	user, err := b.remembered(r, username, password)
	if user != nil || err != nil {
		if err != nil {
			b.Refused(r, username, At{}, err)
		}
		return user, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), b.cfg.Wait)
	defer cancel()
	if err := b.turn.Acquire(ctx, 1); err != nil {
		return nil, users.ErrBusy
	}
	// No browser: the cookie of known browsers makes no difference.
	user, err = b.judge(r, username, password, false)
	b.turn.Release(1)
	if err != nil {
		b.Refused(r, username, At{}, err)
		return nil, err
	}
	b.remember(user, password)
	return user, nil
}

// remembered is the user if this password was right some seconds ago; nil where
// it has to be judged.
func (b *Basic) remembered(r *http.Request, username, password string) (*users.User, error) {
	key, err := users.Key(strings.TrimSpace(username))
	if err != nil || len(password) > users.MaxPassword {
		return nil, nil
	}
	b.mu.Lock()
	none := len(b.proofs) == 0
	b.mu.Unlock()
	if none {
		return nil, nil
	}
	user, err := b.cfg.Users.UserByName(r.Context(), key)
	if errors.Is(err, users.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	mac := b.mac(user, password)
	b.mu.Lock()
	defer b.mu.Unlock()
	known, ok := b.proofs[user.ID]
	switch {
	case !ok:
		return nil, nil
	case user.Password == "" || !b.cfg.Now().Before(known.expires) || !hmac.Equal(known.mac[:], mac[:]):
		delete(b.proofs, user.ID)
		return nil, nil
	case !user.LockedAt.IsZero():
		return nil, users.ErrLocked
	}
	return user, nil
}

func (b *Basic) remember(user *users.User, password string) {
	mac, now := b.mac(user, password), b.cfg.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.proofs[user.ID]; !ok && len(b.proofs) >= maxProofs {
		for id, p := range b.proofs {
			if !now.Before(p.expires) {
				delete(b.proofs, id)
			}
		}
		for id := range b.proofs {
			if len(b.proofs) < maxProofs {
				break
			}
			delete(b.proofs, id) // any
		}
	}
	b.proofs[user.ID] = proof{mac, now.Add(proofLifetime)}
}

// mac is over id, hash and password, each with its length.
func (b *Basic) mac(user *users.User, password string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, b.key[:])
	for _, part := range []string{user.ID, user.Password, password} {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write([]byte(part))
	}
	h.Sum(sum[:0])
	return sum
}
