package storage

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/throttle"
)

var _ throttle.Store = (*Realm)(nil)

// countAttempt inserts fresh counters or counts in those that are there, in the
// order of kind, so that attempts made at once lock rows in one order. None of
// the counters changes while one of them is blocked: the select decides that
// before anything is locked, and the last WHERE decides it again for each row,
// as it is once it is locked. excluded is the counter as if it began now, and
// so began_at in it is the present. It takes the values of v, FirstWait and
// Window in milliseconds.
const countAttempt = `WITH v (kind, bucket, allowed, now) AS (VALUES %[1]s)
	INSERT INTO throttle_counters AS t (realm, kind, bucket, attempts, allowed, began_at, blocked_until, expires_at)
	SELECT ?, v.kind, v.bucket, 1, v.allowed, v.now,
		CASE WHEN v.allowed <= 1 THEN v.now + %[2]d END,
		CASE WHEN v.allowed <= 1 THEN v.now + %[2]d + %[3]d ELSE v.now + %[3]d END
	FROM v WHERE NOT EXISTS (SELECT 1 FROM v AS o JOIN throttle_counters b ON b.kind = o.kind AND b.bucket = o.bucket
		WHERE b.realm = ? AND b.blocked_until > o.now)
	ORDER BY v.kind
	ON CONFLICT (realm, kind, bucket) DO UPDATE SET
		attempts = CASE WHEN ` + throttleOver + ` THEN 1 ELSE t.attempts + 1 END,
		allowed = excluded.allowed,
		began_at = CASE WHEN ` + throttleOver + ` THEN excluded.began_at ELSE t.began_at END,
		blocked_until = CASE WHEN ` + throttleOver + ` THEN excluded.blocked_until
			WHEN ` + throttleFree + ` THEN NULL ELSE excluded.began_at + ` + throttleWait + ` END,
		expires_at = CASE WHEN ` + throttleOver + ` THEN excluded.expires_at
			WHEN ` + throttleFree + ` THEN t.expires_at ELSE excluded.began_at + ` + throttleWait + ` + %[3]d END
	WHERE t.blocked_until IS NULL OR t.blocked_until <= excluded.began_at
	RETURNING kind, bucket, allowed, attempts, began_at, blocked_until`

// What countAttempt asks of a counter t that is there.
const (
	throttleOver = `t.expires_at <= excluded.began_at`
	throttleFree = `t.attempts + 1 < excluded.allowed`
	// A wait is at most a day, less than 2^27 ms, so the shift can't overflow.
	throttleWait = `CASE WHEN t.attempts + 1 - excluded.allowed >= 24 THEN %[3]d
		WHEN CAST(%[2]d AS BIGINT) << CAST(t.attempts + 1 - excluded.allowed AS INTEGER) >= %[3]d THEN %[3]d
		ELSE CAST(%[2]d AS BIGINT) << CAST(t.attempts + 1 - excluded.allowed AS INTEGER) END`
)

// CountAttempt counts an attempt in all of the counters or in none, and then
// returns until when one of them is blocked.
func (r *Realm) CountAttempt(ctx context.Context, counters []throttle.Counter, rule throttle.Rule, now time.Time) ([]throttle.Counted, time.Time, error) {
	var values []any
	for _, c := range counters {
		values = append(values, string(c.Kind), c.Bucket, c.Allowed, stamp(now))
	}
	statement := fmt.Sprintf(countAttempt, throttleRows(len(counters)), rule.FirstWait.Milliseconds(), rule.Window.Milliseconds())
	var counted []throttle.Counted
	err := r.db.write(ctx, func(c conn) error {
		counted = nil
		return c.rows(func(scan func(...any) error) error {
			var (
				one     throttle.Counted
				began   int64
				blocked sql.NullInt64
			)
			if err := scan(&one.Kind, &one.Bucket, &one.Allowed, &one.Attempts, &began, &blocked); err != nil {
				return err
			}
			one.BeganAt, one.BlockedUntil = utc(began), maybe(blocked)
			counted = append(counted, one)
			return nil
		}, statement, append(slices.Clone(values), r.name, r.name)...)
	})
	if err == nil && len(counted) == len(counters) {
		return counted, time.Time{}, nil
	}
	if err == nil && len(counted) > 0 {
		// Another attempt blocked one of them since the statement began.
		err = r.GiveBackAttempt(ctx, counted, rule)
	}
	var until sql.NullInt64
	if err == nil {
		err = r.db.read(ctx, func(c conn) error {
			_, err := c.row([]any{&until}, `WITH v (kind, bucket, allowed, now) AS (VALUES `+throttleRows(len(counters))+`)
				SELECT MAX(b.blocked_until) FROM v JOIN throttle_counters b ON b.realm = ? AND b.kind = v.kind AND b.bucket = v.bucket`,
				append(values, r.name)...)
			return err
		})
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("counting an attempt: %w", err)
	}
	// It may have been given back in the meantime: then it is free now.
	return nil, utc(max(until.Int64, stamp(now))), nil
}

// GiveBackAttempt takes a counted attempt, and the wait that it began, out of
// its counters again. Where the attempts that are left are fewer than allowed,
// the counter is as free as it was before.
func (r *Realm) GiveBackAttempt(ctx context.Context, counted []throttle.Counted, rule throttle.Rule) error {
	if len(counted) == 0 {
		return nil
	}
	var args []any
	for _, c := range counted {
		args = append(args, string(c.Kind), c.Bucket, stamp(c.BeganAt), nullable(c.BlockedUntil))
	}
	err := r.db.write(ctx, func(c conn) error {
		_, err := c.exec(`WITH v (kind, bucket, began_at, blocked_until) AS (VALUES `+throttleRows(len(counted))+`)
			UPDATE throttle_counters SET attempts = throttle_counters.attempts - 1,
				blocked_until = CASE WHEN throttle_counters.attempts - 1 >= throttle_counters.allowed
					AND (v.blocked_until IS NULL OR throttle_counters.blocked_until <> v.blocked_until) THEN throttle_counters.blocked_until END,
				expires_at = CASE WHEN throttle_counters.attempts - 1 >= throttle_counters.allowed
					THEN throttle_counters.expires_at ELSE throttle_counters.began_at + CAST(? AS BIGINT) END
			FROM v WHERE throttle_counters.realm = ? AND throttle_counters.kind = v.kind AND throttle_counters.bucket = v.bucket
			AND throttle_counters.began_at = v.began_at AND throttle_counters.attempts > 0`,
			append(args, rule.Window.Milliseconds(), r.name)...)
		return err
	})
	if err != nil {
		return fmt.Errorf("giving an attempt back: %w", err)
	}
	return nil
}

// SweepThrottle removes up to limit counters that have expired.
func (r *Realm) SweepThrottle(ctx context.Context, now time.Time, limit int) (int, error) {
	var n int64
	err := r.db.write(ctx, func(c conn) error {
		var err error
		// One that has begun anew since it was selected stays.
		n, err = c.exec(`DELETE FROM throttle_counters WHERE realm = ? AND expires_at <= ? AND (kind, bucket) IN (
			SELECT kind, bucket FROM throttle_counters WHERE realm = ? AND expires_at <= ? ORDER BY expires_at LIMIT ?)`,
			r.name, stamp(now), r.name, stamp(now), limit)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("sweeping counters of attempts: %w", err)
	}
	return int(n), nil
}

// throttleRows are n rows of v, the counters that a statement is about.
func throttleRows(n int) string {
	const row = `(CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS BIGINT))`
	return strings.TrimSuffix(strings.Repeat(row+", ", n), ", ")
}
