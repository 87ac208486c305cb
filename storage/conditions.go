package storage

import (
	"math"
	"net/netip"
	"strings"
	"unicode/utf8"

	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

// lastRune is behind everything that begins with a text.
const lastRune = string(utf8.MaxRune)

// conditions adds the conditions of the query to logins and to both kinds of
// sessions without one. onlyLogins: no session can meet them. none: nothing can.
func (l *lister) conditions(logins *branch, alone ...*branch) (onlyLogins, none bool, err error) {
	for i, c := range l.q.Conditions {
		if !storable(c.Text) {
			return false, true, nil
		}
		// Where another condition leads to few rows SQLite, which doesn't know how
		// many each has, must not walk the index of this one.
		hidden := l.isFew && i != l.leader && !l.c.postgres
		of := func(column string) string {
			if hidden {
				return column + ` || ''`
			}
			return column
		}
		switch c.By {
		case sessions.ByUsername:
			none = !l.byUsername(c, hidden || (l.manyNames && !l.c.postgres), logins, alone)
		case sessions.ByEntryID:
			text := asciiLower(c.Text)
			condition, args := compare(of(`l.id`), c.Operator, text)
			logins.add(condition, args...)
			for _, b := range alone {
				condition, args := compare(of(`s.entry_id`), c.Operator, text)
				b.add(condition, args...)
			}
		case sessions.ByApplication:
			none, err = l.byApplication(c, logins, alone)
		case sessions.ByUserAgent:
			condition, args := compare(of(l.userAgent()), c.Operator, asciiLower(c.Text))
			logins.add(condition, args...)
			onlyLogins = true
		case sessions.ByAddress:
			none = canonical(c.Text) == "" || c.Operator != sessions.OpEqual
			logins.add(of(`l.address`)+` = ?`, canonical(c.Text))
			onlyLogins = true
		case sessions.ByBrowser:
			none = c.Operator != sessions.OpEqual
			logins.add(of(`l.browser`)+` = ?`, c.Text)
			onlyLogins = true
		case sessions.ByClient: // chooses what is walked of the logins: ofClient
			none = c.Operator != sessions.OpEqual || !storable(c.Server)
			chosen := `s.authorization_server = ? AND s.client_id = ?`
			if l.isFew { // something else leads to them
				chosen = `s.authorization_server || '' = ? AND s.client_id || '' = ?`
			}
			for _, b := range alone {
				b.add(chosen, c.Server, c.Text)
			}
		case sessions.ByCreated: // is a bound
		case sessions.ByLastAccess:
			operator := map[string]string{sessions.OpLessEqual: " <= ?", sessions.OpGreaterEqual: " >= ?"}[c.Operator]
			if operator == "" {
				return false, true, nil
			}
			logins.add(`l.last_access_at`+operator, stamp(c.Time))
			for _, b := range alone {
				b.add(`s.last_used_at`+operator, stamp(c.Time))
			}
		default:
			none = true
		}
		if none || err != nil {
			return false, true, err
		}
	}
	return onlyLogins, false, nil
}

// client is the query's condition on a client; nil where it has none.
func (l *lister) client() *sessions.Condition {
	for i, c := range l.q.Conditions {
		if c.By == sessions.ByClient {
			return &l.q.Conditions[i]
		}
	}
	return nil
}

// tablesOfClient are what logins with a client's sessions are read from: the
// sessions first, unless something else leads to few logins. SQLite has to be
// told which.
func (l *lister) tablesOfClient(few bool) string {
	if !few {
		return `oauth2_sessions s` + sessionJoins
	}
	others, _, _ := strings.Cut(sessionJoins, `LEFT JOIN logins`)
	return `logins l ` + l.c.thenJoin() + ` oauth2_sessions s ON s.realm = l.realm AND s.login_id = l.id` + others
}

const inOrderSettings = `SELECT set_config('enable_sort', 'off', true), set_config('jit', 'off', true)`

// inOrder has PostgreSQL walk the index of a client's sessions in its order,
// unless something else leads to few logins. It takes a session's realm, server,
// client and user for independent of each other, finds the client's sessions
// fewer by orders of magnitude than they are, and would rather read and sort all
// of them. What it thinks of a sort that it can't avoid would have it compile the
// statement, which takes longer than anything else here.
func (l *lister) inOrder(few bool) error {
	if few || !l.c.postgres {
		return nil
	}
	var sort, compile string
	_, err := l.c.row([]any{&sort, &compile}, inOrderSettings) // until readLimited's transaction ends
	return err
}

// ofClient chooses logins by a client's sessions in them, of which each login
// has one at most. Their places are those of the list, so that no more of them
// are read than a page has.
func (l *lister) ofClient(logins *branch, client *sessions.Condition, place string, few bool) {
	realm, server, id := `s.realm || ''`, `s.authorization_server`, `s.client_id` // not by an index of the realm
	switch {
	case few && l.c.postgres: // nor by one of the client
		realm, server, id = `l.realm`, server+` || ''`, id+` || ''`
	case few:
		realm = `l.realm`
	}
	logins.add(realm+` = ? AND `+server+` = ? AND `+id+` = ?`, l.name, client.Server, client.Text)
	from, to := l.q.After, int64(math.MaxInt64)
	if l.q.Before != 0 {
		to = l.q.Before
	}
	for _, c := range l.q.Conditions {
		if c.By != sessions.ByCreated {
			continue
		}
		switch c.Operator {
		case sessions.OpLessEqual: // the client may have been used later
			logins.add(`l.created_at <= ?`, stamp(c.Time))
		case sessions.OpGreaterEqual:
			logins.add(`l.created_at >= ?`, stamp(c.Time))
			from = max(from, lowest(c.Time)-1) // but never earlier
		}
	}
	logins.add(place+` > ? AND `+place+` < ?`, from, to)
	logins.add(`s.ended_at IS NULL AND s.login_id IS NOT NULL AND s.detached_at IS NULL AND s.activated_at IS NOT NULL AND `+l.alone, l.aloneArgs(l.now)...)
}

// compare is a condition on a text that is, or is taken, in lower case.
func compare(column, operator, text string) (string, []any) {
	switch operator {
	case sessions.OpEqual:
		return column + ` = ?`, []any{text}
	case sessions.OpStartsWith: // a range, which walks an index; LIKE does not
		return column + ` >= ? AND ` + column + ` < ?`, []any{text, text + lastRune}
	case sessions.OpEndsWith:
		return column + ` LIKE ? ESCAPE '!'`, []any{"%" + likeText(text)}
	case sessions.OpContains:
		return column + ` LIKE ? ESCAPE '!'`, []any{"%" + likeText(text) + "%"}
	}
	return `1 = 0`, nil
}

func likeText(text string) string {
	return strings.NewReplacer(`!`, `!!`, `%`, `!%`, `_`, `!_`).Replace(text)
}

// asciiLower is what the databases' lower makes of a text.
func asciiLower(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, text)
}

// userAgent is a login's user agent as its index has it.
func (l *lister) userAgent() string {
	if l.c.postgres {
		return `lower(l.user_agent COLLATE "C")`
	}
	return `lower(l.user_agent)`
}

// canonical is an IP address as logins have it; empty where it is none.
func canonical(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	return a.Unmap().WithZone("").String()
}

// usernameKey is what a condition on user names is compared with; false where
// nobody can have the name.
func usernameKey(c sessions.Condition) (string, bool) {
	key, err := users.Key(strings.TrimSpace(c.Text))
	if err == nil {
		return key, true
	}
	// A part of a name need be none.
	return strings.ToLower(c.Text), c.Operator != sessions.OpEqual
}

// byUsername compares names as the realm does; false where nobody can have the
// name. hidden: SQLite, which would gather the users first, must not.
func (l *lister) byUsername(c sessions.Condition, hidden bool, logins *branch, alone []*branch) bool {
	key, ok := usernameKey(c)
	if !ok {
		return false
	}
	condition, args := compare(`n.username_key`, c.Operator, key)
	of := func(column string) string {
		if hidden {
			condition := strings.ReplaceAll(condition, `n.username_key`, `n.username_key || ''`)
			return `EXISTS (SELECT 1 FROM users n WHERE n.realm = ? AND n.id = ` + column + ` AND ` + condition + `)`
		}
		return column + ` IN (SELECT n.id FROM users n WHERE n.realm = ? AND ` + condition + `)`
	}
	logins.add(of(`l.user_id`), append([]any{l.name}, args...)...)
	for _, b := range alone {
		b.add(of(`s.user_id`), append([]any{l.name}, args...)...)
	}
	return true
}

// byApplication finds the clients of such a name first, which are few. A login
// is chosen by what lives in it.
func (l *lister) byApplication(c sessions.Condition, logins *branch, alone []*branch) (none bool, err error) {
	name := `lower(c.name)`
	if l.c.postgres {
		name = `lower(c.name COLLATE "C")`
	}
	condition, args := compare(name, c.Operator, asciiLower(c.Text))
	clients := map[string][]any{}
	if err := l.c.rows(func(scan func(...any) error) error {
		var k clientKey
		err := scan(&k.server, &k.id)
		clients[k.server] = append(clients[k.server], k.id)
		return err
	}, `SELECT c.authorization_server, c.client_id FROM clients c WHERE c.realm = ? AND c.deleted_at IS NULL AND `+condition,
		append([]any{l.name}, args...)...); err != nil || len(clients) == 0 {
		return true, err
	}
	var (
		where []string
		ids   []any
	)
	for server, of := range clients {
		where, ids = append(where, `(s.authorization_server = ? AND s.client_id IN ?)`), append(ids, server, of)
	}
	chosen := `(` + strings.Join(where, ` OR `) + `)`
	// The l of sessionJoins hides that of the outer statement. PostgreSQL sees for
	// itself whether an application has so few sessions that it is better to begin
	// with them; SQLite must not gather those of an application that all use.
	inside := `FROM oauth2_sessions s` + sessionJoins + ` WHERE s.realm = ? AND ` + chosen + `
		AND s.ended_at IS NULL AND s.detached_at IS NULL AND s.activated_at IS NOT NULL AND ` + l.alone
	if l.c.postgres {
		inside = `l.id IN (SELECT s.login_id ` + inside + `)`
	} else {
		inside = `EXISTS (SELECT 1 FROM (SELECT s.login_id AS login_id ` + inside + `) x WHERE x.login_id = l.id)`
	}
	logins.add(inside, append(append([]any{l.name}, ids...), l.aloneArgs(l.now)...)...)
	if !l.c.postgres { // as above: the place leads, and the client is looked at
		chosen = strings.NewReplacer(`s.authorization_server =`, `s.authorization_server || '' =`, `s.client_id IN`, `s.client_id || '' IN`).Replace(chosen)
	}
	for _, b := range alone {
		b.add(chosen, ids...)
	}
	return false, nil
}
