package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"gatehouse.dev/gatehouse/sessions"
)

// defaultScanLimit is RealmConfig.ScanLimit where it is 0.
const defaultScanLimit = 3 * time.Second

// timelyLogin tells of a login l whether it lives by its own marks and times.
const timelyLogin = `(l.ended_at IS NULL AND l.expires_at > ? AND l.last_access_at > ?)`

func (r *Realm) timelyLoginArgs(now int64) []any { return r.liveLoginArgs(now) }

// spot is an entry that was found, before it is read.
type spot struct {
	session  bool
	server   string // of a session
	id       string // of the login or session
	position int64
}

// Entries lists what lives in the realm, newest first. A page costs four
// statements at most, however many entries it has and whatever is in them, and
// one more for a condition at most. sessions.ErrTooSlow: a list of the realm with
// conditions took longer than RealmConfig.ScanLimit.
func (r *Realm) Entries(ctx context.Context, q sessions.EntryQuery) ([]sessions.Entry, error) {
	if !storable(q.UserID) || !storable(q.IDs...) {
		return nil, nil
	}
	var found []sessions.Entry
	list := func(c conn) error {
		l := lister{Realm: r, c: c, q: q, now: stamp(r.db.now())}
		spots, err := l.find()
		if err == nil && len(spots) > 0 {
			found, err = l.read(spots)
		}
		return err
	}
	var err error
	if len(q.Conditions) > 0 && q.UserID == "" {
		err = r.db.readLimited(ctx, r.scanLimit, list)
	} else {
		err = r.db.read(ctx, list)
	}
	if err != nil {
		return nil, fmt.Errorf("listing entries: %w", err)
	}
	return found, nil
}

// readLimited is read for a statement whose cost can grow with the tables:
// sessions.ErrTooSlow where it takes longer than most.
func (db *DB) readLimited(ctx context.Context, most time.Duration, f func(conn) error) error {
	ctx, done := limit(ctx)
	defer done()
	if db.postgres {
		err := db.reads.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			c := conn{db: tx, postgres: true, origin: db.origin(ctx), told: &db.told}
			if _, err := c.exec(fmt.Sprintf(`SET LOCAL statement_timeout = %d`, max(most.Milliseconds(), 1))); err != nil {
				return err
			}
			return f(c)
		}, db.begin)
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == "57014" && ctx.Err() == nil {
			return fmt.Errorf("%w: %w", sessions.ErrTooSlow, err)
		}
		return db.translate(err)
	}
	// Unlike elsewhere the driver may break a statement off: nothing is written
	// here, and what it then says is not believed. Waiting for a connection
	// doesn't count.
	return db.translate(db.reads.WithContext(ctx).Connection(func(tx *gorm.DB) error {
		within, cancel := context.WithTimeout(ctx, most)
		defer cancel()
		err := f(conn{db: tx.WithContext(within), origin: db.origin(ctx), told: &db.told})
		if within.Err() != nil && ctx.Err() == nil {
			return sessions.ErrTooSlow
		}
		return err
	}))
}

// lister is one call of Entries.
type lister struct {
	*Realm
	c   conn
	q   sessions.EntryQuery
	now int64

	isFew     bool // what few has found
	leader    int  // index of the condition by which it is few; -1: it is not by a condition
	manyNames bool // more than few users meet a condition on names
}

// branch is the part of a statement that chooses one kind of entries.
type branch struct {
	where []string
	args  []any
}

func (b *branch) add(condition string, args ...any) {
	b.where, b.args = append(b.where, condition), append(b.args, args...)
}

// clientKey names a client.
type clientKey struct{ server, id string }

// find chooses the entries by their place. Logins, sessions without one, and
// sessions whose login is over by time but not yet by mark are three walks of an
// index each, of which no more is read than is asked for.
func (l *lister) find() ([]spot, error) {
	limit := l.q.Limit
	if limit <= 0 || limit > sessions.MaxEntries+1 {
		limit = sessions.MaxEntries
	}
	order := "DESC"
	if l.q.After != 0 && l.q.Before == 0 {
		order = "ASC"
	}
	from, to := l.bounds()
	logins, alone, late := &branch{}, &branch{}, &branch{}
	few, leader, err := l.few()
	if err != nil {
		return nil, err
	}
	l.isFew, l.leader = few, leader
	loginTables, loginPlace, place, latePlace := `logins l`, `l.position`, `s.position`, unordered(`s.position`)
	client := l.client()
	if client != nil {
		loginTables, loginPlace = l.tablesOfClient(few), `s.position`
		if err := l.inOrder(few); err != nil {
			return nil, err
		}
	}
	if few {
		loginPlace, place = unordered(loginPlace), unordered(place)
	}
	if client != nil {
		l.ofClient(logins, client, loginPlace, few)
	} else {
		logins.add(`l.realm = ? AND `+loginPlace+` > ? AND `+loginPlace+` < ?`, l.name, from, to)
	}
	logins.add(timelyLogin, l.timelyLoginArgs(l.now)...)
	logins.add(`EXISTS (SELECT 1 FROM users u WHERE u.realm = l.realm AND u.id = l.user_id AND u.locked_at IS NULL)`)
	realm := `s.realm`
	if client != nil && !few {
		realm += ` || ''` // by an index of the client
	}
	alone.add(realm+` = ? AND `+place+` > ? AND `+place+` < ? AND s.ended_at IS NULL AND (s.login_id IS NULL OR s.detached_at IS NOT NULL)`, l.name, from, to)
	overdue := &branch{}
	overdue.add(`o.realm = ? AND o.ended_at IS NULL`, l.name)
	overdue.add(`NOT (o.expires_at > ? AND o.last_access_at > ?)`, l.timelyLoginArgs(l.now)...)
	if l.q.UserID != "" {
		logins.add(`l.user_id = ?`, l.q.UserID)
		alone.add(`s.user_id = ?`, l.q.UserID)
		overdue.add(`o.user_id = ?`, l.q.UserID)
	} else {
		overdue.add(`o.check_at <= ?`, l.now) // the sweeper's index
	}
	if len(l.q.IDs) > 0 {
		logins.add(`l.id IN ?`, l.q.IDs)
		alone.add(`s.entry_id IN ?`, l.q.IDs)
		late.add(`s.entry_id IN ?`, l.q.IDs)
	}
	late.add(`s.realm = ? AND `+latePlace+` > ? AND `+latePlace+` < ? AND s.ended_at IS NULL AND s.detached_at IS NULL`, l.name, from, to)
	late.add(`s.login_id IN (SELECT o.id FROM logins o WHERE `+strings.Join(overdue.where, " AND ")+`)`, overdue.args...)
	onlyLogins, none, err := l.conditions(logins, alone, late)
	if err != nil || none {
		return nil, err
	}
	var (
		text []string
		args []any
	)
	walk := func(columns, tables, position string, b *branch) {
		text = append(text, `SELECT * FROM (SELECT `+columns+` FROM `+tables+` WHERE `+strings.Join(b.where, " AND ")+
			` ORDER BY `+position+` `+order+` LIMIT ?) w`+fmt.Sprint(len(text)))
		args = append(append(args, b.args...), limit+l.q.Offset)
	}
	walk(`0 AS kind, '' AS server, l.id AS id, `+strings.TrimSuffix(loginPlace, unordered(``))+` AS position`, loginTables, loginPlace, logins)
	if !onlyLogins {
		for i, b := range []*branch{alone, late} {
			b.add(`s.activated_at IS NOT NULL AND `+l.alone, l.aloneArgs(l.now)...)
			walk(`1 AS kind, s.authorization_server AS server, s.id AS id, s.position AS position`, `oauth2_sessions s`+sessionJoins, []string{place, latePlace}[i], b)
		}
	}
	var spots []spot
	err = l.c.rows(func(scan func(...any) error) error {
		var s spot
		err := scan(&s.session, &s.server, &s.id, &s.position)
		spots = append(spots, s)
		return err
	}, `SELECT e.kind, e.server, e.id, e.position FROM (`+strings.Join(text, ` UNION ALL `)+`) e ORDER BY e.position `+order+` LIMIT ? OFFSET ?`,
		append(args, limit, l.q.Offset)...)
	if order == "ASC" {
		slices.Reverse(spots)
	}
	return spots, err
}

// unordered is a position whose index is not walked, because something else
// leads to the few rows that can be meant. The databases don't know that by
// themselves: they would go through all rows in order.
func unordered(position string) string { return position + ` + 0` }

// fewRows is how many rows are few enough to be put in order when they are read.
const fewRows = 1000

// few tells whether something in the query leads to a few rows by an index, and
// the first condition that does. For what can be few or many, that many entries
// of the index are looked at.
func (l *lister) few() (few bool, leader int, err error) {
	if l.q.UserID != "" || len(l.q.IDs) > 0 {
		return true, -1, nil
	}
	for i, c := range l.q.Conditions {
		if !storable(c.Text) {
			continue // nothing meets it
		}
		b, table := branch{}, `logins l`
		b.add(`l.realm = ?`, l.name)
		text := asciiLower(c.Text)
		switch {
		case c.Operator != sessions.OpEqual && c.Operator != sessions.OpStartsWith:
			continue
		case c.By == sessions.ByUsername:
			table = `users n`
			key, ok := usernameKey(c)
			if !ok {
				continue
			}
			condition, args := compare(`n.username_key`, c.Operator, key)
			b = branch{}
			b.add(`n.realm = ? AND `+condition, append([]any{l.name}, args...)...)
		case c.By == sessions.ByEntryID:
			condition, args := compare(`l.id`, c.Operator, text)
			b.add(condition, args...)
		case c.By == sessions.ByUserAgent:
			condition, args := compare(l.userAgent(), c.Operator, text)
			b.add(`l.ended_at IS NULL AND `+condition, args...)
		case c.By == sessions.ByAddress:
			b.add(`l.ended_at IS NULL AND l.address = ?`, canonical(c.Text))
		case c.By == sessions.ByBrowser && (!l.c.postgres || l.client() != nil): // else PostgreSQL walks the browser's index in order
			b.add(`l.ended_at IS NULL AND l.browser = ?`, c.Text)
		default:
			continue
		}
		one := 0
		found, err := l.c.row([]any{&one}, `SELECT 1 FROM `+table+` WHERE `+strings.Join(b.where, " AND ")+` LIMIT 1 OFFSET ?`, append(b.args, fewRows)...)
		if err != nil {
			return false, -1, err
		}
		if !found {
			return true, i, nil
		}
		l.manyNames = l.manyNames || c.By == sessions.ByUsername
	}
	return false, -1, nil
}

// bounds are the positions between which the entries are. A time is a bound,
// too: nothing is used before it begins.
func (l *lister) bounds() (from, to int64) {
	from, to = l.q.After, int64(math.MaxInt64)
	if l.q.Before != 0 {
		to = l.q.Before
	}
	for _, c := range l.q.Conditions {
		switch {
		case c.Operator == sessions.OpLessEqual && (c.By == sessions.ByCreated || c.By == sessions.ByLastAccess):
			to = min(to, lowest(c.Time.Add(time.Millisecond)))
		case c.Operator == sessions.OpGreaterEqual && c.By == sessions.ByCreated:
			from = max(from, lowest(c.Time)-1)
		}
	}
	return from, to
}

// lowest is below or at the positions of what began at that time. Behind the
// end of time shifts would leave the range of numbers.
func lowest(at time.Time) int64 {
	return min(max(stamp(at), 0), math.MaxInt64>>positionShift) << positionShift
}

// read reads the entries at the spots with their applications. What has ended
// since it was found is left out.
func (l *lister) read(spots []spot) ([]sessions.Entry, error) {
	var logins []any
	alone := map[string][]any{}
	place := map[string]int64{}
	for _, s := range spots {
		if !s.session {
			logins, place[s.id] = append(logins, s.id), s.position
			continue
		}
		alone[s.server] = append(alone[s.server], s.id)
		place[sessions.EntryID(sessions.Key{AuthorizationServer: s.server, ID: s.id})] = s.position
	}
	var found []sessions.Entry
	if len(logins) > 0 {
		var err error
		if found, err = l.logins(logins, place); err != nil {
			return nil, err
		}
		of := map[string]*sessions.Entry{}
		for i := range found {
			of[found[i].ID] = &found[i]
		}
		if err := l.applications(`s.realm = ? AND s.login_id IN ? AND s.detached_at IS NULL`, []any{l.name, logins}, func(row *applicationRow) {
			if e := of[row.LoginID]; e != nil && e.UserID == row.UserID {
				e.Applications = append(e.Applications, row.application())
			}
		}); err != nil {
			return nil, err
		}
	}
	if len(alone) > 0 {
		where, args := []string(nil), []any(nil)
		for server, ids := range alone {
			where, args = append(where, `(s.authorization_server = ? AND s.id IN ?)`), append(args, server, ids)
		}
		// Not by an index of the realm: the key leads.
		if err := l.applications(`s.realm || '' = ? AND (`+strings.Join(where, ` OR `)+`)`, append([]any{l.name}, args...), func(row *applicationRow) {
			e := row.entry(l.now, l.servers[row.server])
			if e.Position = place[e.ID]; e.Position != 0 {
				found = append(found, e)
			}
		}); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(found, func(a, b sessions.Entry) int { return cmp.Compare(b.Position, a.Position) })
	for i := range found {
		slices.SortFunc(found[i].Applications, func(a, b sessions.Application) int {
			return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Number, b.Number))
		})
	}
	return found, nil
}

// logins reads the live logins of those ids at their places, without
// applications.
func (l *lister) logins(ids []any, place map[string]int64) ([]sessions.Entry, error) {
	var found []sessions.Entry
	err := l.c.rows(func(scan func(...any) error) error {
		var (
			row  loginRow
			name string
		)
		if err := scan(append(row.dest(), &name)...); err != nil {
			return err
		}
		idle := row.accessed + l.life.LoginIdle.Milliseconds()
		found = append(found, sessions.Entry{ID: row.ID, Position: place[row.ID], UserID: row.UserID, Username: name, Login: true,
			Address: row.Address, UserAgent: row.UserAgent, DeviceName: row.DeviceName, CreatedAt: utc(row.created),
			LastAccessAt: utc(row.accessed), ExpiresAt: utc(min(row.expires, idle))})
		return nil
	}, `SELECT `+loginColumns+`, u.username FROM logins l JOIN users u ON u.realm = l.realm AND u.id = l.user_id
		WHERE l.realm = ? AND l.id IN ? AND u.locked_at IS NULL AND `+timelyLogin,
		append([]any{l.name, ids}, l.timelyLoginArgs(l.now)...)...)
	return found, err
}

// applicationRow is a session with what an Application needs besides.
type applicationRow struct {
	sessionRow
	server, uid, username string
	number                int64
	scopeList             []string
}

func (r *applicationRow) application() sessions.Application {
	return sessions.Application{ID: r.uid, Number: r.number, Name: r.ClientName, AuthorizationServer: r.server, ClientID: r.ClientID,
		SessionID: r.ID, Scopes: r.scopeList, ConsentedAt: utc(r.consented), CreatedAt: utc(r.created), LastUsedAt: utc(r.used),
		Offline: r.Offline, Device: r.Origin == sessions.OriginDevice}
}

// entry is the entry of a session without a login.
func (r *applicationRow) entry(now int64, life sessions.Lifetimes) sessions.Entry {
	expires, idle := r.expires, life.SessionIdle
	if r.Offline && r.offlineExpires.Valid {
		expires, idle = r.offlineExpires.Int64, life.OfflineIdle
	}
	return sessions.Entry{ID: sessions.EntryID(sessions.Key{AuthorizationServer: r.server, ID: r.ID}), UserID: r.UserID, Username: r.username,
		Applications: []sessions.Application{r.application()}, CreatedAt: utc(r.created), LastAccessAt: utc(r.used),
		// Uses of a grant that are not yet written to the session count as well.
		ExpiresAt: utc(max(min(expires, r.used+idle.Milliseconds()), now))}
}

// applications calls each for the live, activated sessions that where chooses.
func (l *lister) applications(where string, args []any, each func(*applicationRow)) error {
	return l.c.rows(func(scan func(...any) error) error {
		var row applicationRow
		if err := scan(append(row.dest(), &row.server, &row.uid, &row.number, &row.username)...); err != nil {
			return err
		}
		if err := parse(row.scopes, &row.scopeList); err != nil {
			return err
		}
		each(&row)
		return nil
	}, `SELECT `+sessionColumns+`, s.authorization_server, c.uid, c.number, u.username FROM oauth2_sessions s`+sessionJoins+`
		WHERE `+where+` AND s.ended_at IS NULL AND s.activated_at IS NOT NULL AND `+l.alone,
		append(args, l.aloneArgs(l.now)...)...)
}
