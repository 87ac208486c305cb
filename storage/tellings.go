package storage

import (
	"database/sql"
	"time"

	"gatehouse.dev/gatehouse/deliveries"
	"gatehouse.dev/gatehouse/sessions"
)

// telling is what became of the latest message about a session.
type telling struct {
	told sessions.Telling
	at   time.Time // when the client acknowledged it; zero: it did not
}

// tellings reads what the clients of sessions know of their endings, or, of
// sessions that go on without their login, of its end: one statement for 100
// sessions of an authorization server. Sessions of which nobody was to be told
// are not in the map.
func tellings(c conn, keys []doomed) (map[doomed]telling, error) {
	found := map[doomed]telling{}
	err := inBatches(keys, func(server string, ids []string) error {
		// Ids are in the order of time, so that the latest is what stays.
		return c.rows(func(scan func(...any) error) error {
			var (
				session string
				state   deliveries.State
				settled sql.NullInt64
			)
			err := scan(&session, &state, &settled)
			t := telling{told: sessions.ToldWaiting}
			switch state {
			case deliveries.Sent:
				t = telling{sessions.ToldAcknowledged, maybe(settled)}
			case deliveries.Abandoned:
				t.told = sessions.ToldNever
			}
			found[doomed{server, session}] = t
			return err
		}, `SELECT session_id, state, settled_at FROM deliveries WHERE authorization_server = ? AND session_id IN ? ORDER BY id`, server, ids)
	})
	return found, err
}
