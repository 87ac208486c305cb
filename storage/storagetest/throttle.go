package storagetest

import (
	"errors"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/throttle"
)

var throttleRule = throttle.Rule{Window: 15 * time.Minute, FirstWait: 30 * time.Second}

func account(bucket int64, allowed int) throttle.Counter {
	return throttle.Counter{Kind: throttle.KindAccount, Bucket: bucket, Allowed: allowed}
}

func address(bucket int64, allowed int) throttle.Counter {
	return throttle.Counter{Kind: throttle.KindAddress, Bucket: bucket, Allowed: allowed}
}

// attempt counts at the realm, and tells what was counted and how long to wait.
func (w *world) attempt(counters ...throttle.Counter) ([]throttle.Counted, time.Duration) {
	w.Helper()
	counted, until, err := w.realm.CountAttempt(w.Context(), counters, throttleRule, w.now())
	w.ok(err)
	if (len(counted) == 0) == until.IsZero() {
		w.Fatalf("counted %+v, and blocked until %v", counted, until)
	}
	if len(counted) == 0 {
		return nil, until.Sub(w.now())
	}
	return counted, 0
}

// counts wants an attempt to be the n-th, with a wait behind it.
func (w *world) counts(c throttle.Counter, n int, wait time.Duration) throttle.Counted {
	w.Helper()
	counted, blocked := w.attempt(c)
	if len(counted) != 1 {
		w.Fatalf("attempt %d is blocked for %v", n, blocked)
	}
	got := counted[0]
	var until time.Time
	if wait > 0 {
		until = w.now().Add(wait)
	}
	if got.Counter != c || got.Attempts != n || !got.BlockedUntil.Equal(until) {
		w.Errorf("counted %+v, want the attempt %d of %+v and a wait of %v", got, n, c, wait)
	}
	return got
}

// blocks wants an attempt to be refused.
func (w *world) blocks(c throttle.Counter, wait time.Duration) {
	w.Helper()
	if counted, got := w.attempt(c); len(counted) > 0 || got != wait {
		w.Errorf("counted %+v, wait %v; want a wait of %v", counted, got, wait)
	}
}

func attemptsBlocked(w *world) {
	c := account(7, 3)
	w.counts(c, 1, 0)
	w.pass(time.Minute)
	w.counts(c, 2, 0)
	w.counts(c, 3, 30*time.Second)
	w.blocks(c, 30*time.Second)
	w.pass(29 * time.Second)
	for range 5 {
		w.blocks(c, time.Second) // which makes it no longer
	}
	w.pass(999 * time.Millisecond)
	w.blocks(c, time.Millisecond)
	w.counts(account(8, 3), 1, 0)
	w.counts(address(7, 3), 1, 0)
	w.pass(time.Millisecond)
	w.counts(c, 4, time.Minute)

	strict := account(9, 1)
	w.counts(strict, 1, 30*time.Second)
	w.blocks(strict, 30*time.Second)
}

func attemptsWaits(w *world) {
	c := account(65535, 2)
	w.counts(c, 1, 0)
	for i, wait := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute,
		15 * time.Minute, 15 * time.Minute} {
		w.counts(c, i+2, wait)
		w.blocks(c, wait)
		w.pass(wait)
	}
	for i := range 40 { // far beyond where a wait would overflow
		w.counts(c, i+9, 15*time.Minute)
		w.pass(15 * time.Minute)
	}
	// A limit that was lowered counts at once, one that was raised too.
	w.counts(account(65535, 1), 49, 15*time.Minute)
	w.pass(15 * time.Minute)
	w.counts(account(65535, 100), 50, 0)
}

func attemptsAllOrNone(w *world) {
	one, two := account(1, 1), address(1, 5)
	counted, _ := w.attempt(two, one)
	if len(counted) != 2 {
		w.Fatalf("counted %+v", counted)
	}
	for range 5 {
		if counted, wait := w.attempt(one, two); len(counted) > 0 || wait != 30*time.Second {
			w.Errorf("counted %+v, wait %v", counted, wait)
		}
	}
	w.counts(two, 2, 0)

	// Where both are blocked, the longer wait is told.
	w.counts(account(2, 1), 1, 30*time.Second)
	w.pass(10 * time.Second)
	w.counts(address(2, 1), 1, 30*time.Second)
	if counted, wait := w.attempt(account(2, 1), address(2, 1)); len(counted) > 0 || wait != 30*time.Second {
		w.Errorf("counted %+v, wait %v", counted, wait)
	}
}

func attemptsGivenBack(w *world) {
	back := func(counted ...throttle.Counted) {
		w.Helper()
		w.ok(w.realm.GiveBackAttempt(w.Context(), counted, throttleRule))
	}
	c := account(1, 3)
	w.counts(c, 1, 0)
	second := w.counts(c, 2, 0)
	back(second)
	second = w.counts(c, 2, 0)
	third := w.counts(c, 3, 30*time.Second)
	back(third) // with the wait that it began
	w.counts(c, 3, 30*time.Second)
	back(second) // two failures are left, fewer than are allowed
	w.counts(c, 3, 30*time.Second)
	w.pass(30 * time.Second)
	fourth := w.counts(c, 4, time.Minute)
	w.pass(time.Minute)
	fifth := w.counts(c, 5, 2*time.Minute)
	back(fourth) // another's wait stays
	w.blocks(c, 2*time.Minute)
	back(fifth)
	w.counts(c, 4, time.Minute)

	// A window that failures have not filled ends when it would have.
	d := account(2, 2)
	began := w.counts(d, 1, 0)
	w.pass(14 * time.Minute)
	back(w.counts(d, 2, 30*time.Second))
	w.pass(time.Minute)
	anew := w.counts(d, 1, 0)
	back(began) // of a counter that has begun anew since
	w.counts(d, 2, 30*time.Second)
	back(anew)
	back(anew)
	back(anew) // more often than it was counted
	w.counts(d, 1, 0)

	one, two := account(3, 9), address(3, 9)
	for range 3 {
		counted, _ := w.attempt(one, two)
		back(counted...)
	}
	w.counts(one, 1, 0)
	w.counts(two, 1, 0)
	back()
	back(throttle.Counted{Counter: account(99, 1), Attempts: 1, BeganAt: w.now()}) // swept
}

func attemptsExpire(w *world) {
	free, blocked := account(1, 3), account(2, 1)
	w.counts(free, 1, 0)
	w.counts(blocked, 1, 30*time.Second)
	swept := func(limit, want int) {
		w.Helper()
		n, err := w.realm.SweepThrottle(w.Context(), w.now(), limit)
		w.ok(err)
		if n != want {
			w.Errorf("swept %d counters, want %d", n, want)
		}
	}
	w.pass(15*time.Minute - time.Millisecond)
	swept(10, 0)
	w.counts(free, 2, 0)
	w.pass(time.Millisecond)
	w.counts(free, 1, 0) // in place: an expired one need not be swept
	swept(10, 0)
	w.counts(blocked, 2, time.Minute) // it is remembered until a window after its wait
	w.pass(16*time.Minute - time.Millisecond)
	swept(10, 1)
	w.counts(blocked, 3, 2*time.Minute)
	w.pass(17 * time.Minute)
	w.counts(blocked, 1, 30*time.Second)

	for i := range int64(5) {
		w.counts(address(i, 9), 1, 0)
	}
	w.pass(time.Hour)
	swept(4, 4)
	swept(4, 2)
	swept(4, 0)
}

func attemptsOfRealms(w *world) {
	c := account(1, 1)
	w.counts(c, 1, 30*time.Second)
	staff := w.realm
	w.realm = w.b.Realm("guests")
	other := w.counts(c, 1, 30*time.Second)
	w.ok(w.realm.GiveBackAttempt(w.Context(), []throttle.Counted{other}, throttleRule))
	w.counts(c, 1, 30*time.Second)
	w.realm = staff
	w.blocks(c, 30*time.Second)
	w.pass(time.Hour)
	n, err := w.realm.SweepThrottle(w.Context(), w.now(), 10)
	w.ok(err)
	if n != 1 {
		w.Errorf("swept %d counters, want its own", n)
	}
	w.counts(c, 1, 30*time.Second)
}

// raceAttempts: of guesses made at once, at two nodes, as many are admitted as
// are allowed, at a new counter and at one that has expired.
func raceAttempts(w *world) {
	for range 3 {
		won := w.race(64, func(_ int, _ ServerStore, realm RealmStore) bool {
			counted, _, err := realm.CountAttempt(w.Context(), []throttle.Counter{account(1, 10), address(1, 100)}, throttleRule, w.now())
			if err != nil {
				w.Errorf("counting: %v", err)
			}
			return len(counted) > 0
		})
		if won != 10 {
			w.Errorf("%d of 64 were admitted, want 10", won)
		}
		// Those that were refused are not in the other counter.
		w.counts(address(1, 100), 11, 0)
		w.pass(time.Hour)
	}
	// After a wait one is admitted.
	w.counts(account(2, 1), 1, 30*time.Second)
	w.pass(30 * time.Second)
	if won := w.race(32, func(_ int, _ ServerStore, realm RealmStore) bool {
		counted, _, err := realm.CountAttempt(w.Context(), []throttle.Counter{account(2, 1)}, throttleRule, w.now())
		return err == nil && len(counted) > 0
	}); won != 1 {
		w.Errorf("%d of 32 were admitted after the wait, want 1", won)
	}
}

// raceAttemptsCrossing: attempts at counters that they share in part, some of
// them given back and all of them swept over, leave what was not given back.
func raceAttemptsCrossing(w *world) {
	var (
		mu   sync.Mutex
		left = map[throttle.Counter]int{}
	)
	w.race(64, func(i int, _ ServerStore, realm RealmStore) bool {
		counters := []throttle.Counter{account(int64(i%3), 1000), address(int64(i%2), 1000)}
		counted, _, err := realm.CountAttempt(w.Context(), counters, throttleRule, w.now())
		if err == nil && len(counted) != 2 {
			err = errors.New("refused")
		}
		if err == nil && i%4 == 0 {
			err = realm.GiveBackAttempt(w.Context(), counted, throttleRule)
		} else {
			mu.Lock()
			left[counters[0]]++
			left[counters[1]]++
			mu.Unlock()
		}
		if _, sweeping := realm.SweepThrottle(w.Context(), w.now(), 10); err == nil {
			err = sweeping
		}
		if err != nil {
			w.Errorf("attempt %d: %v", i, err)
		}
		return err == nil
	})
	for c, n := range left {
		w.counts(c, n+1, 0)
	}
}
