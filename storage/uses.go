package storage

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/sessions"
)

var _ sessions.UseStore = (*Realm)(nil)

// outlivesLogin tells of a session s whether it goes on without its login, as
// things stand at the time of its one argument: by a redeemed grant with
// offline_access.
const outlivesLogin = `s.offline_expires_at > ? AND EXISTS (SELECT 1 FROM grants g
	WHERE g.authorization_server = s.authorization_server AND g.session_id = s.id
	AND g.offline AND g.redeemed_at IS NOT NULL AND g.ended_at IS NULL)`

// Uses lists what would end, or be detached, if the user ended the login now. A
// session that is over by time only may be among it until it is swept.
func (r *Realm) Uses(ctx context.Context, loginID string) ([]sessions.Use, error) {
	if !storable(loginID) {
		return nil, nil
	}
	var found []sessions.Use
	err := r.db.read(ctx, func(c conn) error {
		return c.rows(func(scan func(...any) error) error {
			var (
				use      sessions.Use
				outlives int
			)
			err := scan(&use.AuthorizationServer, &use.ID, &use.ClientID, &use.ClientName, &outlives)
			use.Outlives = outlives == 1 && !r.endsOffline
			found = append(found, use)
			return err
		}, `SELECT s.authorization_server, s.id, s.client_id, COALESCE(c.name, ''), CASE WHEN `+outlivesLogin+` THEN 1 ELSE 0 END
			FROM oauth2_sessions s
			LEFT JOIN clients c ON c.authorization_server = s.authorization_server AND c.client_id = s.client_id AND c.uid = s.client_uid
			WHERE s.realm = ? AND s.login_id = ? AND s.ended_at IS NULL AND s.detached_at IS NULL AND s.activated_at IS NOT NULL
			ORDER BY s.authorization_server, s.id LIMIT ?`, stamp(r.db.now()), r.name, loginID, sessions.MaxUses)
	})
	if err != nil {
		return nil, fmt.Errorf("listing uses of a login: %w", err)
	}
	slices.SortStableFunc(found, func(a, b sessions.Use) int {
		return cmp.Or(strings.Compare(a.ClientName, b.ClientName), strings.Compare(a.ClientID, b.ClientID))
	})
	return found, nil
}

// UsedIn tells whether a session, live or ended, is the client's and of that
// login.
func (r *Realm) UsedIn(ctx context.Context, session sessions.Key, clientID, loginID string) (bool, error) {
	if !storable(session.AuthorizationServer, session.ID, clientID, loginID) {
		return false, nil
	}
	found := false
	err := r.db.read(ctx, func(c conn) error {
		var (
			one int
			err error
		)
		found, err = c.row([]any{&one}, `SELECT 1 FROM oauth2_sessions WHERE authorization_server = ? AND id = ?
			AND client_id = ? AND realm = ? AND login_id = ?`, session.AuthorizationServer, session.ID, clientID, r.name, loginID)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("reading a session's login: %w", err)
	}
	return found, nil
}
