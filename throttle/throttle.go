package throttle

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

const (
	// defaultBuckets is Config.Buckets where it is 0.
	defaultBuckets = 1 << 16
	// maxWindow bounds Limits.Window.
	maxWindow = 24 * time.Hour
	// patience bounds what is done for a request that may be over.
	patience = 5 * time.Second
)

// Limits say how many attempts may fail before each further one costs a wait.
// The zero value of a field is its default.
type Limits struct {
	Account   int           // for one account; default: 10
	Address   int           // for one address; default: 100
	Device    int           // for one account, from browsers that have signed in to it before; default: 20
	Window    time.Duration // the time in which they are counted, and the longest wait; default: 15 min, at most a day
	FirstWait time.Duration // default: 30 s, or Window if that is shorter
}

func (l *Limits) setDefaults() {
	if l.Account == 0 {
		l.Account = 10
	}
	if l.Address == 0 {
		l.Address = 100
	}
	if l.Device == 0 {
		l.Device = 20
	}
	if l.Window == 0 {
		l.Window = 15 * time.Minute
	}
	if l.FirstWait == 0 {
		l.FirstWait = min(30*time.Second, l.Window)
	}
}

// Config is what New needs.
type Config struct {
	Realm  string // required
	Secure bool   // https: the cookie has the __Host- prefix; false only for a loopback http public_url
	Store  Store  // required; the realm's
	// MAC is a pseudorandom function under a subkey of the realm that serves
	// nothing else, the same on all nodes and after a restart; 16 bytes or
	// more. Required.
	MAC     func([]byte) []byte
	Limits  Limits
	Buckets int              // how many counters of each kind there can be; default: 65,536
	Now     func() time.Time // default: time.Now
}

// Throttle limits the password guesses of one realm. It is safe for concurrent
// use.
type Throttle struct {
	cfg  Config
	rule Rule
}

// New checks the configuration.
func New(cfg Config) (*Throttle, error) {
	cfg.Limits.setDefaults()
	if cfg.Buckets == 0 {
		cfg.Buckets = defaultBuckets
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	l := cfg.Limits
	switch {
	case cfg.Realm == "" || cfg.Store == nil || cfg.MAC == nil:
		return nil, errors.New("throttle: realm, store and MAC are required")
	case len(cfg.MAC(nil)) < proofSize:
		return nil, fmt.Errorf("throttle: the MAC has fewer than %d bytes", proofSize)
	case l.Account < 1 || l.Address < 1 || l.Device < 1:
		return nil, errors.New("throttle: limits must be 1 or more")
	case l.Window < time.Millisecond || l.Window > maxWindow:
		return nil, fmt.Errorf("throttle: the window must be from 1 ms to %s", maxWindow)
	case l.FirstWait < time.Millisecond || l.FirstWait > l.Window:
		return nil, errors.New("throttle: the first wait must be from 1 ms to the window")
	case cfg.Buckets < 1:
		return nil, errors.New("throttle: there must be a bucket")
	}
	return &Throttle{cfg: cfg, rule: Rule{Window: l.Window.Truncate(time.Millisecond), FirstWait: l.FirstWait.Truncate(time.Millisecond)}}, nil
}

// Attempt is a password that somebody wants to have checked.
type Attempt struct {
	// Account is what was typed, in the form that decides whether two names
	// are the same; as it is where it can be nobody's name.
	Account string
	// Address is the IP address that the attempt comes from. All whose
	// address is unknown share one counter.
	Address string
	// UserID is the id of the account if Known has said of the request that
	// the browser has signed in to it before; otherwise empty.
	UserID string
}

// Blocked is the refusal of an attempt. It says nothing about whether the
// account exists.
type Blocked struct {
	Wait time.Duration // until another attempt may be admitted; whole seconds, at least one
}

func (b *Blocked) Error() string {
	return fmt.Sprintf("too many failed attempts: blocked for %s", b.Wait)
}

// Admission is an attempt that was counted. Its password may be checked.
type Admission struct {
	throttle *Throttle
	counted  []Counted
}

// Admit counts an attempt, or refuses it with a *Blocked and counts nothing.
//
// A known browser is judged by its own counter, whatever the account's and the
// address's say. Once that is blocked it is like any other: so who has stolen
// the cookie can't lock the owner out with it, and has so many guesses more and
// no further ones.
func (t *Throttle) Admit(ctx context.Context, a Attempt) (*Admission, error) {
	now := t.cfg.Now()
	var device time.Time
	if a.UserID != "" {
		admission, until, err := t.count(ctx, now, t.counter(KindDevice, a.UserID, t.cfg.Limits.Device))
		if err != nil || admission != nil {
			return admission, err
		}
		device = until
	}
	admission, until, err := t.count(ctx, now,
		t.counter(KindAccount, a.Account, t.cfg.Limits.Account), t.counter(KindAddress, network(a.Address), t.cfg.Limits.Address))
	if err != nil || admission != nil {
		return admission, err
	}
	if !device.IsZero() && device.Before(until) {
		until = device
	}
	wait := (until.Sub(now) + time.Second - 1).Truncate(time.Second)
	return nil, &Blocked{Wait: max(wait, time.Second)}
}

func (t *Throttle) count(ctx context.Context, now time.Time, counters ...Counter) (*Admission, time.Time, error) {
	counted, until, err := t.cfg.Store.CountAttempt(ctx, counters, t.rule, now)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("counting an attempt to sign in: %w", err)
	}
	if len(counted) == 0 {
		return nil, until, nil
	}
	return &Admission{t, counted}, time.Time{}, nil
}

// GiveBack takes the attempt out of its counters again: its password was right,
// or was not judged. It does so even if ctx has been cancelled, since whoever
// asked may have gone.
func (a *Admission) GiveBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := a.throttle.cfg.Store.GiveBackAttempt(ctx, a.counted, a.throttle.rule); err != nil {
		return fmt.Errorf("giving an attempt to sign in back: %w", err)
	}
	return nil
}

// Sweep removes up to limit counters that have expired at the time now and
// returns how many it removed; where it is limit, there may be more. It can run
// at several nodes at once.
func (t *Throttle) Sweep(ctx context.Context, now time.Time, limit int) (int, error) {
	return t.cfg.Store.SweepThrottle(ctx, now, limit)
}

// counter is the one for a value.
func (t *Throttle) counter(kind Kind, value string, allowed int) Counter {
	sum := t.cfg.MAC(fmt.Appendf(nil, "counter %q %q", kind, value))
	return Counter{Kind: kind, Bucket: int64(binary.BigEndian.Uint64(sum) % uint64(t.cfg.Buckets)), Allowed: allowed} // #nosec G115 -- below Buckets, an int
}

// network is what counts as one address: an IPv4 address, also where it is
// written as IPv6; of an IPv6 address the first 64 bits, as a network's users
// choose the rest at will. What is no address stands for itself.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	if ip = ip.Unmap(); ip.Is4() {
		return ip.String()
	}
	return netip.PrefixFrom(ip, 64).Masked().String() // without the zone
}
