//go:build unix

package storage

import (
	"fmt"
	"testing"

	"gatehouse.dev/gatehouse/users"
)

// Attributes from sources travel with the statements that an authorization runs
// in any case, whether a session begins or goes on, with the same or another value.
func TestSourcesCostNoStatement(t *testing.T) {
	eachDatabase(t, func(t *testing.T, url string) {
		ran := func(sourced func(int) func(*users.User) map[string]*string) (counts []int, attributes []string) {
			db := openMigrated(t, Config{URL: url, MaxConnections: 1})
			s := newScene(t, db)
			r := record(t, db)
			for i := range 4 {
				s.grant.Grant.ID = fmt.Sprint("grant", i)
				if sourced != nil {
					s.grant.Sourced = sourced(i)
				}
				r.taken()
				session, err := s.as.InsertGrant(t.Context(), s.grant)
				must(t, err)
				counts = append(counts, len(r.taken()))
				attributes = append(attributes, fmt.Sprint(session.CustomAttributes))
			}
			must(t, db.write(t.Context(), func(c conn) error {
				for _, table := range []string{"users", "logins", "clients", "oauth2_sessions", "grants", "consents"} {
					if _, err := c.exec(`DELETE FROM ` + table); err != nil {
						return err
					}
				}
				return nil
			}))
			return counts, attributes
		}
		without, _ := ran(nil)
		with, attributes := ran(func(i int) func(*users.User) map[string]*string {
			return func(u *users.User) map[string]*string {
				agent := fmt.Sprint("agent ", i/2)
				return map[string]*string{"agent": &agent, "name": &u.Username, "absent": nil}
			}
		})
		if fmt.Sprint(without) != fmt.Sprint(with) {
			t.Errorf("authorizations run %v statements, with sources %v", without, with)
		}
		if want := "[map[agent:agent 0 name:alex] map[agent:agent 0 name:alex] map[agent:agent 1 name:alex] map[agent:agent 1 name:alex]]"; fmt.Sprint(attributes) != want {
			t.Errorf("the attributes are %v, want %s", attributes, want)
		}
	})
}
