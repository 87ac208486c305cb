package web

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gatehouse.dev/gatehouse/sessions"
)

// adminPage is how many entries a page of the administrators' list has: at most
// sessions.MaxSelection, since all of them can be chosen.
const adminPage = 50

// maxFilter bounds one value of the administrators' filter, in bytes.
const maxFilter = 512

// sinces are the times that the list can be narrowed to, in their order.
var sinces = []struct {
	Name string // in the URL and of the catalogue
	back time.Duration
}{{"hour", time.Hour}, {"day", 24 * time.Hour}, {"week", 7 * 24 * time.Hour}, {"month", 30 * 24 * time.Hour}}

// adminFilter is what the administrators' list is narrowed to, as it stands in
// the URL. Empty members narrow nothing.
type adminFilter struct {
	User        string // name
	Application string // authorization server, a slash, and client_id
	Browser     string // one of sessions.Browsers
	Address     string // IP address, as typed
	Since       string // one of sinces
}

// filterNames are the names of the filter's members in URLs and forms.
var filterNames = []string{"user", "application", "browser", "address", "since"}

// member is the member of that name.
func (f *adminFilter) member(name string) *string {
	return map[string]*string{"user": &f.User, "application": &f.Application, "browser": &f.Browser, "address": &f.Address, "since": &f.Since}[name]
}

// readFilter takes the filter from a query. What can't be one is an error, since
// passing it over would show more than was asked for.
func readFilter(v url.Values) (adminFilter, error) {
	var f adminFilter
	for _, name := range filterNames {
		value := strings.TrimSpace(v.Get(name))
		if len(v[name]) > 1 || len(value) > maxFilter || !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
			return f, errForm
		}
		*f.member(name) = value
	}
	return f, nil
}

// values are the filter as a query.
func (f *adminFilter) values() url.Values {
	v := url.Values{}
	for _, name := range filterNames {
		if value := *f.member(name); value != "" {
			v.Set(name, value)
		}
	}
	return v
}

// Any tells whether the list is narrowed.
func (f adminFilter) Any() bool { return f != adminFilter{} }

// BadAddress tells whether what was typed as an address is none.
func (f adminFilter) BadAddress() bool {
	_, err := netip.ParseAddr(f.Address)
	return f.Address != "" && err != nil
}

// conditions are the filter for the Directory.
func (f *adminFilter) conditions(now time.Time) []sessions.Condition {
	var list []sessions.Condition
	equal := func(by, text, server string) {
		if text != "" {
			list = append(list, sessions.Condition{By: by, Operator: sessions.OpEqual, Text: text, Server: server})
		}
	}
	equal(sessions.ByUsername, f.User, "")
	equal(sessions.ByBrowser, f.Browser, "")
	equal(sessions.ByAddress, f.Address, "")
	if server, client, ok := strings.Cut(f.Application, "/"); ok {
		list = append(list, sessions.Condition{By: sessions.ByClient, Operator: sessions.OpEqual, Text: client, Server: server})
	} else {
		equal(sessions.ByClient, f.Application, "") // which nothing is
	}
	if f.Since != "" {
		since := now // of what isn't offered nothing is shown
		for _, s := range sinces {
			if s.Name == f.Since {
				since = now.Add(-s.back)
			}
		}
		list = append(list, sessions.Condition{By: sessions.ByCreated, Operator: sessions.OpGreaterEqual, Time: since})
	}
	return list
}

// positions reads which page of a list is asked for.
func positions(v url.Values) (after, before int64, err error) {
	for name, into := range map[string]*int64{"after": &after, "before": &before} {
		text := v.Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 || strconv.FormatInt(n, 10) != text {
			return 0, 0, errForm
		}
		*into = n
	}
	if after != 0 && before != 0 {
		return 0, 0, errForm
	}
	return after, before, nil
}

// listQuery is the query of the administrators' list, put together anew from what
// is known of it: the filter, which page, and what is searched for.
func listQuery(v url.Values) (url.Values, error) {
	f, err := readFilter(v)
	if err != nil {
		return nil, err
	}
	if _, _, err := positions(v); err != nil {
		return nil, err
	}
	out := f.values()
	for _, name := range []string{"after", "before"} {
		if position := v.Get(name); position != "" {
			out.Set(name, position)
		}
	}
	if q := strings.TrimSpace(v.Get("q")); q != "" && len(q) <= sessions.MaxSearch && utf8.ValidString(q) {
		out.Set("q", q)
	}
	return out, nil
}

// query is the query of a request, or an error where it can't be read.
func query(r *http.Request) (url.Values, error) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errForm, err)
	}
	return v, nil
}
