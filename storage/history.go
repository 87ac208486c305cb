package storage

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/sessions"
)

// A position in a history is the millisecond of the ending and, in the bits
// below, how many lines of that millisecond stand behind it at most. So each
// line has its own, also where everything of a user ended at once.
const (
	pastMask = 1<<positionShift - 1
	// maxTies bounds how many lines of one millisecond are gone through.
	maxTies = 4096
)

// Past lists a part of a user's history, newest ending first, in four statements
// and one for each authorization server and hundred sessions.
func (r *Realm) Past(ctx context.Context, q sessions.PastQuery) ([]sessions.Past, error) {
	if !storable(q.UserID) || q.UserID == "" || q.Before < 0 {
		return nil, nil
	}
	if q.Limit <= 0 || q.Limit > sessions.MaxPast+1 {
		q.Limit = sessions.MaxPast
	}
	var found []sessions.Past
	err := r.db.read(ctx, func(c conn) error {
		h := historian{Realm: r, c: c, q: q, to: int64(1) << 43} // far from now, and it can still be shifted
		if q.Before != 0 {
			h.to = q.Before >> positionShift
			h.skip = int(min(pastMask-q.Before&pastMask+1, maxTies))
		}
		var err error
		found, err = h.read()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading a history: %w", err)
	}
	return found, nil
}

// historian is one call of Past.
type historian struct {
	*Realm
	c    conn
	q    sessions.PastQuery
	to   int64 // the latest ending that is looked at
	skip int   // so many lines of that millisecond were shown before
}

// pastLine is a line before it is numbered.
type pastLine struct {
	sessions.Past
	at  int64
	key string // of the order within a millisecond
	as  string // where a client that ended it is; empty: not known
}

func (h *historian) read() ([]sessions.Past, error) {
	lines, err := h.logins()
	if err != nil {
		return nil, err
	}
	// Between two endings of logins there is nothing to look for but what ended
	// by itself; behind the last of them it is for the next page to tell.
	from := int64(0)
	if len(lines) == h.q.Limit+h.skip {
		from = lines[len(lines)-1].at
	}
	alone, err := h.alone(from)
	if err != nil {
		return nil, err
	}
	lines = append(lines, alone...)
	slices.SortFunc(lines, func(a, b *pastLine) int {
		return cmp.Or(cmp.Compare(b.at, a.at), strings.Compare(a.key, b.key))
	})
	skipped := 0
	for skipped < h.skip && skipped < len(lines) && lines[skipped].at == h.to {
		skipped++
	}
	for i, line := range lines {
		tie := 0
		if i > 0 && lines[i-1].at == line.at {
			tie = int(pastMask-lines[i-1].Position&pastMask) + 1
		}
		line.Position = line.at<<positionShift | int64(pastMask-min(tie, pastMask))
	}
	lines = lines[skipped:min(len(lines), skipped+h.q.Limit)]
	if err := h.applications(lines); err != nil {
		return nil, err
	}
	if err := h.nameEnders(lines); err != nil {
		return nil, err
	}
	told, err := h.told(lines)
	if err != nil {
		return nil, err
	}
	past := make([]sessions.Past, len(lines))
	for i, line := range lines {
		slices.SortFunc(line.Applications, func(a, b sessions.PastApplication) int {
			return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.SessionID, b.SessionID))
		})
		for n := range line.Applications {
			a := &line.Applications[n]
			t := told[doomed{a.AuthorizationServer, a.SessionID}]
			a.Told, a.ToldAt = t.told, t.at
		}
		past[i] = line.Past
	}
	return past, nil
}

// told says of the sessions of the lines what their clients were told. Of
// those that are not in the answer nothing was sent.
func (h *historian) told(lines []*pastLine) (map[doomed]telling, error) {
	var keys []doomed
	for _, line := range lines {
		for _, a := range line.Applications {
			keys = append(keys, doomed{a.AuthorizationServer, a.SessionID})
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	return tellings(h.c, keys)
}

// logins reads logins that have ended, without their applications.
func (h *historian) logins() ([]*pastLine, error) {
	var lines []*pastLine
	err := h.c.rows(func(scan func(...any) error) error {
		var (
			line    pastLine
			created int64
			end     ended
		)
		err := scan(&line.ID, &line.Username, &line.Address, &line.UserAgent, &line.DeviceName, &created, &end.at, &end.by, &end.reason)
		line.Login, line.CreatedAt = true, utc(created)
		line.end(h.q.UserID, "0"+line.ID, end)
		lines = append(lines, &line)
		return err
	}, `SELECT l.id, u.username, l.address, l.user_agent, l.device_name, l.created_at, l.ended_at, l.ended_by, l.ended_reason
		FROM logins l JOIN users u ON u.realm = l.realm AND u.id = l.user_id
		WHERE l.realm = ? AND l.user_id = ? AND l.ended_at IS NOT NULL AND l.ended_at <= ? ORDER BY l.ended_at DESC, l.id LIMIT ?`,
		h.Realm.name, h.q.UserID, h.to, h.q.Limit+h.skip)
	return lines, err
}

// end writes how a line came to its end.
func (l *pastLine) end(user, key string, end ended) {
	l.UserID, l.key, l.at = user, key, end.at.Int64
	if e := end.value(); e != nil {
		l.Ended = *e
	}
}

// alone reads sessions that ended by themselves, and not with their login.
func (h *historian) alone(from int64) ([]*pastLine, error) {
	var lines []*pastLine
	err := h.c.rows(func(scan func(...any) error) error {
		var (
			line    pastLine
			a       sessions.PastApplication
			created int64
			scopes  string
			end     ended
		)
		if err := scan(&a.AuthorizationServer, &a.SessionID, &a.ClientID, &a.Name, &scopes, &line.Username, &line.Address, &line.UserAgent,
			&line.DeviceName, &created, &end.at, &end.by, &end.reason); err != nil {
			return err
		}
		line.ID = sessions.EntryID(sessions.Key{AuthorizationServer: a.AuthorizationServer, ID: a.SessionID})
		line.CreatedAt, line.as = utc(created), a.AuthorizationServer
		line.end(h.q.UserID, "1"+line.ID, end)
		err := parse(scopes, &a.Scopes)
		line.Applications = []sessions.PastApplication{a}
		lines = append(lines, &line)
		return err
	}, `SELECT s.authorization_server, s.id, s.client_id, COALESCE(c.name, s.client_id), s.scopes, u.username, COALESCE(l.address, ''),
			COALESCE(l.user_agent, ''), COALESCE(l.device_name, ''), s.created_at, s.ended_at, s.ended_by, s.ended_reason
		FROM oauth2_sessions s`+sessionJoins+`
		WHERE s.realm = ? AND s.user_id = ? AND s.ended_at IS NOT NULL AND s.ended_at <= ? AND s.ended_at >= ? AND s.activated_at IS NOT NULL
		AND (s.detached_at IS NOT NULL OR l.ended_at IS NULL OR l.ended_at <> s.ended_at)
		ORDER BY s.ended_at DESC, s.entry_id LIMIT ?`,
		h.Realm.name, h.q.UserID, h.to, from, h.q.Limit+h.skip)
	return lines, err
}

// applications reads the sessions that ended with the lines' logins.
func (h *historian) applications(lines []*pastLine) error {
	of, ids := map[string]*pastLine{}, []string(nil)
	for _, line := range lines {
		if line.Login {
			of[line.ID], ids = line, append(ids, line.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return h.c.rows(func(scan func(...any) error) error {
		var (
			a             sessions.PastApplication
			login, scopes string
		)
		if err := scan(&login, &a.AuthorizationServer, &a.SessionID, &a.ClientID, &a.Name, &scopes); err != nil {
			return err
		}
		if err := parse(scopes, &a.Scopes); err != nil {
			return err
		}
		of[login].Applications = append(of[login].Applications, a)
		return nil
	}, `SELECT s.login_id, s.authorization_server, s.id, s.client_id, COALESCE(c.name, s.client_id), s.scopes
		FROM oauth2_sessions s`+sessionJoins+`
		WHERE s.realm = ? AND s.login_id IN ? AND s.detached_at IS NULL AND s.activated_at IS NOT NULL AND s.user_id = ?
		AND s.ended_at = l.ended_at`, h.Realm.name, ids, h.q.UserID)
}

// nameEnders writes who ended the lines, as he is called now.
func (h *historian) nameEnders(lines []*pastLine) error {
	ids := map[string][]string{}
	servers := maps.Clone(h.servers)
	for _, line := range lines {
		if by := line.Ended.By; by.Kind == sessions.ActorUser || by.Kind == sessions.ActorClient {
			ids[by.Kind] = append(ids[by.Kind], by.ID)
		}
		if line.as != "" && servers != nil {
			servers[line.as] = sessions.Lifetimes{}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	type key struct{ kind, as, id string }
	names := map[key]string{}
	var (
		text []string
		args []any
	)
	if users := ids[sessions.ActorUser]; len(users) > 0 {
		slices.Sort(users)
		text = append(text, `SELECT '`+sessions.ActorUser+`', '', u.id, u.username FROM users u WHERE u.realm = ? AND u.id IN ?`)
		args = append(args, h.Realm.name, slices.Compact(users))
	}
	if clients := ids[sessions.ActorClient]; len(clients) > 0 && len(servers) > 0 {
		slices.Sort(clients)
		text = append(text, `SELECT '`+sessions.ActorClient+`', c.authorization_server, c.client_id, c.name FROM clients c
			WHERE c.authorization_server IN ? AND c.client_id IN ? AND c.realm = ?`)
		args = append(args, slices.Sorted(maps.Keys(servers)), slices.Compact(clients), h.Realm.name)
	}
	if len(text) == 0 {
		return nil
	}
	if err := h.c.rows(func(scan func(...any) error) error {
		var (
			k    key
			name string
		)
		err := scan(&k.kind, &k.as, &k.id, &name)
		names[k] = name
		if k.kind == sessions.ActorClient {
			names[key{k.kind, "", k.id}] = name // of a login no server is known
		}
		return err
	}, strings.Join(text, ` UNION ALL `), args...); err != nil {
		return err
	}
	for _, line := range lines {
		as := line.as
		if line.Ended.By.Kind == sessions.ActorUser {
			as = ""
		}
		line.EndedBy = names[key{line.Ended.By.Kind, as, line.Ended.By.ID}]
	}
	return nil
}
