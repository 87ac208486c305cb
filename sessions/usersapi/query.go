package usersapi

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"gatehouse.dev/gatehouse/sessions"
)

// Query parameters of the dialect.
const (
	paramFilter  = "filter"
	paramLimit   = "limit"
	paramOffset  = "offset"
	paramSince   = "since"
	paramUntil   = "until"
	paramExclude = "excludeCurrent"
)

// What calls take.
var (
	paramsOfUser  = []string{paramFilter, paramLimit, paramOffset}
	paramsOfRealm = []string{paramFilter, paramLimit, paramSince, paramUntil}
	paramsOfEnd   = []string{paramExclude}
)

// How many sessions a page of the realm has, and how many it has at most.
const (
	defaultLimit = 20
	maxLimit     = 100
)

// maxOffset bounds what is passed over.
const maxOffset = 100_000

// query is what the query parameters of a request say.
type query struct {
	list        sessions.EntryQuery
	filter      string // as it was given
	keepCurrent bool
}

// parseQuery reads the parameters that a call takes. One that it does not take,
// that comes twice, or that can't be read is an error: what is passed over (a
// filter, an exception) must not turn into a wider answer.
func parseQuery(raw string, supported []string) (query, error) {
	var q query
	seen := map[string]bool{}
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(part, "=")
		name, nameErr := url.QueryUnescape(rawName)
		value, valueErr := url.QueryUnescape(rawValue)
		switch {
		case nameErr != nil || valueErr != nil || strings.Contains(part, ";"):
			return q, invalidRequest("A query parameter can't be read.")
		case !slices.Contains(supported, name):
			return q, invalidRequest("The call takes no other query parameters than " + listed(supported) + ".")
		case seen[name]:
			return q, invalidRequest("The query parameter " + name + " is given more than once.")
		}
		seen[name] = true
		if err := q.read(name, value, supported); err != nil {
			return q, err
		}
	}
	if q.list.After != 0 && q.list.Before != 0 && q.list.After >= q.list.Before {
		return q, invalidData("Nothing stands between since and until.")
	}
	return q, nil
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (q *query) read(name, value string, supported []string) error {
	number := func(least, most int64, into func(int64)) error {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < least || n > most || strconv.FormatInt(n, 10) != value {
			return invalidData("The value of " + name + " is a whole number from " + strconv.FormatInt(least, 10) + " to " + strconv.FormatInt(most, 10) + ".")
		}
		into(n)
		return nil
	}
	switch name {
	case paramLimit:
		most := int64(sessions.MaxEntries)
		if slices.Contains(supported, paramSince) {
			most = maxLimit
		}
		return number(1, most, func(n int64) { q.list.Limit = int(n) })
	case paramOffset:
		return number(0, maxOffset, func(n int64) { q.list.Offset = int(n) })
	case paramSince:
		return number(1, 1<<62, func(n int64) { q.list.After = n })
	case paramUntil:
		return number(1, 1<<62, func(n int64) { q.list.Before = n })
	case paramFilter:
		var fault string
		if q.list.Conditions, fault = parseFilter(value); fault != "" {
			return invalidData(fault)
		}
		q.filter = value
	case paramExclude:
		if value != "true" && value != "false" {
			return invalidData("The value of excludeCurrent is true or false.")
		}
		q.keepCurrent = value == "true"
	}
	return nil
}
