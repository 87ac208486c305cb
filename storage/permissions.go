package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"gatehouse.dev/gatehouse/sessions"
)

// Permissions lists what a user has allowed clients of the realm that there are,
// by name.
func (r *Realm) Permissions(ctx context.Context, userID string) ([]sessions.Permission, error) {
	if !storable(userID) || userID == "" || len(r.servers) == 0 {
		return nil, nil
	}
	var found []sessions.Permission
	err := r.db.read(ctx, func(c conn) error {
		found = nil
		return c.rows(func(scan func(...any) error) error {
			var (
				p                 sessions.Permission
				scopes, resources string
				at                int64
			)
			if err := scan(&p.AuthorizationServer, &p.ClientID, &p.Name, &scopes, &resources, &at); err != nil {
				return err
			}
			p.At = utc(at)
			if err := parse(scopes, &p.Scopes); err != nil {
				return err
			}
			err := parse(resources, &p.Resources)
			found = append(found, p)
			return err
		}, `SELECT k.authorization_server, k.client_id, c.name, k.scopes, k.resources, k.consented_at FROM consents k
			JOIN clients c ON c.authorization_server = k.authorization_server AND c.client_id = k.client_id AND c.uid = k.client_uid
			WHERE k.authorization_server IN ? AND k.user_id = ? AND k.realm = ? AND c.deleted_at IS NULL
			ORDER BY c.name, k.authorization_server, k.client_id LIMIT ?`,
			slices.Sorted(maps.Keys(r.servers)), userID, r.name, maxList)
	})
	if err != nil {
		return nil, fmt.Errorf("listing permissions: %w", err)
	}
	return found, nil
}

// endPermission ends what a user has at a client of one of the realm's
// authorization servers, with the effects. sessions.ErrNotFound where neither
// changes anything.
func (r *Realm) endPermission(ctx context.Context, target sessions.Target, ending sessions.Ending) (int, error) {
	if target.OfUser == "" || target.Client == "" ||
		target != (sessions.Target{Client: target.Client, AuthorizationServer: target.AuthorizationServer, OfUser: target.OfUser}) {
		return 0, errTarget
	}
	var n int
	err := r.db.transact(ctx, func(c conn) error {
		e := newEnder(c, r.name, r.life, ending, r.db.now())
		var err error
		n, err = e.endOfUser(target.AuthorizationServer, target.OfUser, `s.authorization_server = ? AND s.user_id = ? AND s.client_id = ? AND s.realm = ?`,
			target.AuthorizationServer, target.OfUser, target.Client, r.name)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ending in realm %s: %w", r.name, err)
	}
	return n, nil
}

// Mark stands for all that lives of a user. sessions.ErrNotFound where the login
// is not a live one of his.
func (r *Realm) Mark(ctx context.Context, userID, loginID string) (string, error) {
	if !storable(userID, loginID) || userID == "" || loginID == "" {
		return "", fmt.Errorf("reading a mark: %w", sessions.ErrNotFound)
	}
	const apart = "\x00" // between values; no text in a row has it
	sum, live := sha256.New(), false
	err := r.db.read(ctx, func(c conn) error {
		sum.Reset()
		live = false
		now := stamp(r.db.now())
		// The login comes first, so that a limit never cuts it off.
		text := `SELECT CASE WHEN l.id = ? THEN 0 ELSE 1 END AS place, '' AS server, l.id AS id, l.device_name AS detail,
				l.created_at AS since, 0 AS detached FROM logins l
			JOIN users u ON u.realm = l.realm AND u.id = l.user_id
			WHERE l.realm = ? AND l.user_id = ? AND ` + liveLogin
		args := append([]any{loginID, r.name, userID}, r.liveLoginArgs(now)...)
		if len(r.servers) > 0 {
			text += ` UNION ALL SELECT 2, s.authorization_server, s.id, s.scopes, s.consented_at, CASE WHEN s.detached_at IS NULL THEN 0 ELSE 1 END
				FROM oauth2_sessions s WHERE s.authorization_server IN ? AND s.user_id = ? AND s.realm = ?
				AND s.ended_at IS NULL AND s.activated_at IS NOT NULL`
			args = append(args, slices.Sorted(maps.Keys(r.servers)), userID, r.name)
		}
		return c.rows(func(scan func(...any) error) error {
			var (
				server, id, detail     string
				place, since, detached int64
			)
			err := scan(&place, &server, &id, &detail, &since, &detached)
			live = live || place == 0
			fmt.Fprint(sum, server, apart, id, apart, detail, apart, since, apart, detached, apart)
			return err
		}, text+` ORDER BY 1, 2, 3 LIMIT ?`, append(args, maxList)...)
	})
	if err == nil && !live {
		err = sessions.ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("reading a mark: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16]), nil
}
