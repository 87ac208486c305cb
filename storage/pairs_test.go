//go:build unix

package storage

import (
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// filter is a condition of the administrators' list, and which of the logins and
// sessions that fill writes meet it.
type filter struct {
	name string
	sessions.Condition
	meets func(i int) bool
}

// mostTogether are the exemptions from mostBuffers: two filters of which neither
// leads to a few rows, and both are met by a small part of what meets one. No
// index has both, so the one is walked, and the other looked at, until the page
// is full; RealmConfig.ScanLimit is what bounds the time. They read no table from
// end to end either.
var mostTogether = map[string]int{
	"common and Firefox":     20_000, // one of 150 for each of 26
	"middling and Firefox":   40_000, // all of the 6,667, since nothing meets both
	"middling and 192.0.2.1": 40_000,
	"rare and Firefox":       7_000, // all of the thousand
	"rare and 192.0.2.1":     7_000,
	"common and 192.0.2.1":   7_000, // one of 40 for each of 26
	"Firefox and 192.0.2.1":  10_000,
}

// pairWalks are first pages of the administrators' list with two filters of
// different kinds.
func pairWalks(t *testing.T, realm *Realm, n int, recent time.Time) (walks []walk) {
	t.Helper()
	const page = 26
	eq := func(by, text string, meets func(i int) bool) filter {
		f := filter{text, sessions.Condition{By: by, Operator: sessions.OpEqual, Text: text}, meets}
		if by == sessions.ByClient {
			f.Server = "myAS"
		}
		return f
	}
	rare := func(i int) bool { return i%1000 == 3 }
	middling := func(i int) bool { return !rare(i) && i%150 == 7 }
	other := func(i int) bool { return i%5000 == 7 }
	firefox := func(i int) bool { return !other(i) && i%150 == 9 }
	never := func(int) bool { return false }
	kinds := [][]filter{
		{
			eq(sessions.ByClient, "common", func(i int) bool { return !rare(i) && !middling(i) }),
			eq(sessions.ByClient, "middling", middling), eq(sessions.ByClient, "rare", rare), eq(sessions.ByClient, "none", never),
		},
		{
			eq(sessions.ByBrowser, "Chrome", func(i int) bool { return !other(i) && !firefox(i) }),
			eq(sessions.ByBrowser, "Firefox", firefox), eq(sessions.ByBrowser, "Other", other), eq(sessions.ByBrowser, "Opera", never),
		},
		{
			eq(sessions.ByAddress, "192.0.2.1", func(i int) bool { return i%40 == 11 }),
			eq(sessions.ByAddress, "10.17.20.0", func(i int) bool { return i == 17+20*250 }), eq(sessions.ByAddress, "198.51.100.1", never),
		},
		{
			eq(sessions.ByUsername, "user77", func(i int) bool { return 1+i%(n/10) == 77 }), eq(sessions.ByUsername, "nobody", never),
		},
		{
			{"since", sessions.Condition{By: sessions.ByCreated, Operator: sessions.OpGreaterEqual, Time: recent}, func(i int) bool { return i >= n-n/100 }},
		},
	}
	// Every tenth session has no login, and is an entry of its own, of no browser
	// and no address.
	together := func(a, b filter) (found int) {
		ofClient := a.By == sessions.ByClient || b.By == sessions.ByClient
		ofBrowser := a.By == sessions.ByBrowser || b.By == sessions.ByBrowser || a.By == sessions.ByAddress || b.By == sessions.ByAddress
		for i := 1; i <= n && found < page; i++ {
			if !a.meets(i) || !b.meets(i) {
				continue
			}
			if !ofClient || i%10 != 0 {
				found++ // the login
			}
			if !ofBrowser && i%10 == 0 {
				found++ // the session
			}
		}
		return min(found, page)
	}
	for k, kind := range kinds {
		for _, others := range kinds[k+1:] {
			for _, a := range kind {
				for _, b := range others {
					name := a.name + " and " + b.name
					walks = append(walks, walk{name: name, want: together(a, b), call: func() (int, error) {
						found, err := realm.Entries(t.Context(), sessions.EntryQuery{Limit: page, Conditions: []sessions.Condition{a.Condition, b.Condition}})
						return len(found), err
					}})
				}
			}
		}
	}
	return walks
}

// Where one of two filters leads to a few rows SQLite walks its index, which it
// can't choose by itself, whatever their order is.
func TestFilterOfFewLeads(t *testing.T) {
	db := openMigrated(t, Config{URL: databases["SQLite"](t)})
	fill(t, db, 12_000) // more than a few have the browser, and a name of that beginning
	realm := entriesRealm(db, nil)
	eq := func(by, text string) sessions.Condition {
		return sessions.Condition{By: by, Operator: sessions.OpEqual, Text: text}
	}
	chrome := eq(sessions.ByBrowser, "Chrome")
	names := sessions.Condition{By: sessions.ByUsername, Operator: sessions.OpStartsWith, Text: "user"}
	r := record(t, db)
	for _, tt := range []struct {
		index string // what the logins are found by
		few   sessions.Condition
		many  sessions.Condition
		found int
	}{
		{"logins_address", eq(sessions.ByAddress, "10.17.20.0"), chrome, 1},
		{"logins_address", eq(sessions.ByAddress, "10.17.20.0"), names, 1},
		{"logins_user_position", eq(sessions.ByUsername, "user77"), chrome, 10},
		{"sqlite_autoindex_logins_1", eq(sessions.ByEntryID, "l4711"), chrome, 1},
		{"logins_user_agent", eq(sessions.ByUserAgent, "Rare/5007"), names, 1},
	} {
		for _, conditions := range [][]sessions.Condition{{tt.few, tt.many}, {tt.many, tt.few}} {
			r.taken()
			found, err := realm.Entries(t.Context(), sessions.EntryQuery{Conditions: conditions})
			must(t, err)
			if len(found) != tt.found {
				t.Errorf("%+v: %d are found, want %d", conditions, len(found), tt.found)
			}
			plan := ""
			for _, s := range r.taken() {
				if strings.Contains(s.sql, ") w0") {
					plan = strings.Join(queryPlan(t, db, s), "; ")
				}
			}
			if !strings.Contains(plan, "SEARCH l USING INDEX "+tt.index+" ") {
				t.Errorf("%+v: %s", conditions, plan)
			}
		}
	}
}
