package jsonapi

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gatehouse.dev/gatehouse/sessions"
)

// Query parameters of the dialect. No call takes "include": a session has no
// relationships.
const (
	paramFields  = "fields[oauth2-session]"
	paramSize    = "page[size]"
	paramAfter   = "page[after]"
	paramBefore  = "page[before]"
	paramClient  = "filter[clientId]"
	paramSort    = "sort"
	paramExclude = "excludeCurrent"
)

// What calls take.
var (
	paramsOfOne    = []string{paramFields}
	paramsOfList   = []string{paramSize, paramAfter, paramBefore, paramClient, paramSort, paramFields}
	paramsOfEndAll = []string{paramExclude}
)

// sortKeys are the attributes that sort takes.
var sortKeys = map[string]sessions.Timestamp{
	"authenticationTimestamp": sessions.Authenticated,
	"consentTimestamp":        sessions.Consented,
	"createdTimestamp":        sessions.Created,
	"lastUsedTimestamp":       sessions.LastUsed,
	"expiresTimestamp":        sessions.Expires,
}

const (
	// maxProblems bounds the error objects of one answer.
	maxProblems = 100
	// maxParameter bounds, in bytes, the name of a query parameter in an error.
	maxParameter = 128
)

// query is what the query parameters of a request say.
type query struct {
	fields      []string // names of attributes; nil: all
	list        sessions.Query
	keepCurrent bool
	values      url.Values // as they were given, each once; for links
}

// parseQuery reads the parameters that a call takes, and returns a problem for
// each one that it does not take, that comes twice, or whose value is none. Parts
// that can't be decoded count as not taken, under the name they are written with:
// url.Values would drop them, and what is dropped (a filter, an exception) must
// not turn into a wider answer.
func parseQuery(raw string, supported []string) (query, error) {
	q := query{values: url.Values{}}
	faults := faults{}
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, ok := decodePart(part)
		switch {
		case !ok || !slices.Contains(supported, name):
			faults.add(name, "This call does not take the query parameter named in source.")
		case q.values.Has(name):
			faults.add(name, "The query parameter named in source is given more than once.")
		case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
			q.values.Set(name, "") // it was given
			faults.add(name, "The value of the query parameter named in source is not UTF-8 text.")
		default:
			q.values.Set(name, value)
		}
	}
	for _, name := range supported {
		if !q.values.Has(name) || faults.of(name) {
			continue
		}
		// Positions are read below, when the order is known.
		if detail := q.read(name, q.values.Get(name)); detail != "" {
			faults.add(name, detail)
		}
	}
	if !faults.of(paramSort) {
		q.readPositions(&faults)
	}
	return q, faults.err()
}

// decodePart takes "name=value" apart; false where it can't be decoded.
func decodePart(part string) (name, value string, ok bool) {
	rawName, rawValue, _ := strings.Cut(part, "=")
	name, err := url.QueryUnescape(rawName)
	if err != nil {
		return rawName, "", false
	}
	value, err = url.QueryUnescape(rawValue)
	return name, value, err == nil && !strings.Contains(part, ";")
}

// read takes the value of a parameter, or says what is wrong with it.
func (q *query) read(name, value string) (detail string) {
	switch name {
	case paramFields:
		return q.readFields(value)
	case paramSort:
		return q.readOrder(value)
	case paramSize:
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > sessions.MaxPage || strconv.Itoa(n) != value {
			return "The size of a page is a number from 1 to " + strconv.Itoa(sessions.MaxPage) + "."
		}
		q.list.Size = n
	case paramClient:
		// An empty client chooses every client's sessions.
		if value == "" {
			return "The client that lists are filtered by has an id."
		}
		q.list.ClientID = value
	case paramExclude:
		if value != "true" && value != "false" {
			return "The value is true or false."
		}
		q.keepCurrent = value == "true"
	}
	return ""
}

func (q *query) readFields(value string) (detail string) {
	q.fields = []string{}
	if value == "" {
		return "" // JSON:API 1.1, Sparse Fieldsets: no fields
	}
	for name := range strings.SplitSeq(value, ",") {
		if !slices.Contains(attributeNames, name) {
			return "A name in the query parameter named in source is not one of an attribute."
		}
		q.fields = append(q.fields, name)
	}
	return ""
}

func (q *query) readOrder(value string) (detail string) {
	for key := range strings.SplitSeq(value, ",") {
		name, descending := strings.CutPrefix(key, "-")
		by, ok := sortKeys[name]
		if !ok || slices.ContainsFunc(q.list.Order, func(k sessions.OrderKey) bool { return k.By == by }) {
			return "Sessions are sorted by timestamp attributes, each named once, with a minus sign for descending order."
		}
		q.list.Order = append(q.list.Order, sessions.OrderKey{By: by, Descending: descending})
	}
	return ""
}

func (q *query) readPositions(faults *faults) {
	for _, position := range []struct {
		name string
		into **sessions.Session
	}{{paramAfter, &q.list.After}, {paramBefore, &q.list.Before}} {
		if !q.values.Has(position.name) || faults.of(position.name) {
			continue
		}
		s, ok := decodeCursor(q.values.Get(position.name), q.list.Order)
		if !ok {
			faults.add(position.name, "The value is not one that a link of this list in this order has.")
			continue
		}
		*position.into = s
	}
	if q.list.After != nil && q.list.Before != nil {
		faults.add(paramBefore, "A page begins behind a position or ends ahead of one, not both.")
	}
}

// faults collects what is wrong with query parameters, once for each.
type faults struct {
	names []string
	list  problems
}

func (f *faults) of(name string) bool { return slices.Contains(f.names, name) }

func (f *faults) add(name, detail string) {
	if len(f.names) == maxProblems || f.of(name) {
		return
	}
	f.names = append(f.names, name)
	f.list = append(f.list, unsupportedQueryParameter(name, detail))
}

// err is nil where nothing is wrong.
func (f *faults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	return f.list
}
