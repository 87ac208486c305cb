package jsonapi

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// refused are the names of the parameters that parseQuery refuses.
func refused(t testing.TB, raw string, supported []string) []string {
	t.Helper()
	_, err := parseQuery(raw, supported)
	if err == nil {
		return nil
	}
	var list problems
	if !errors.As(err, &list) {
		t.Fatalf("%q: %v", raw, err)
	}
	var names []string
	for _, p := range list {
		if p.status != 400 || p.code != "UNSUPPORTED_QUERY_PARAMETER" || p.source.Parameter == nil {
			t.Errorf("%q: %+v", raw, p)
		}
		names = append(names, *p.source.Parameter)
	}
	return names
}

func TestQueryParameters(t *testing.T) {
	place := encodeCursor(&sessions.Session{ID: albumID, CreatedAt: at("11:00:00")}, nil)
	used := sessions.Order{{By: sessions.LastUsed}}
	placeOfUsed := encodeCursor(&sessions.Session{ID: albumID, CreatedAt: at("11:00:00"), LastUsedAt: at("12:00:00")}, used)
	raw := func(text string) string { return encodeText(text) }
	for _, c := range []struct {
		query   string
		refused string // names, separated by spaces
	}{
		{"", ""}, {"&&", ""},
		{"page[size]=1", ""}, {"page%5Bsize%5D=1000", ""},
		{"sort=createdTimestamp", ""}, {"sort=-lastUsedTimestamp,expiresTimestamp,-consentTimestamp,authenticationTimestamp", ""},
		{"filter[clientId]=a%20b%2Cc", ""},
		{"fields[oauth2-session]=", ""}, {"fields[oauth2-session]", ""}, {"fields[oauth2-session]=clientId,current", ""},
		{"page[after]=" + place, ""}, {"page[before]=" + place, ""}, {"sort=lastUsedTimestamp&page[after]=" + placeOfUsed, ""},

		{"page[size]=0", "page[size]"}, {"page[size]=1001", "page[size]"}, {"page[size]=-1", "page[size]"}, {"page[size]=%2B1", "page[size]"},
		{"page[size]=01", "page[size]"}, {"page[size]=1.0", "page[size]"}, {"page[size]=1e2", "page[size]"}, {"page[size]=", "page[size]"},
		{"page[size]", "page[size]"}, {"page[size]=+1", "page[size]"}, {"page[size]=99999999999999999999", "page[size]"}, {"page[size]=%D9%A1", "page[size]"},
		{"page[size]=1&page[size]=1", "page[size]"}, {"page[size]=1&page%5Bsize%5D=2", "page[size]"},
		{"sort=", "sort"}, {"sort", "sort"}, {"sort=-", "sort"}, {"sort=id", "sort"}, {"sort=clientId", "sort"}, {"sort=CreatedTimestamp", "sort"},
		{"sort=createdTimestamp,", "sort"}, {"sort=,createdTimestamp", "sort"}, {"sort=--createdTimestamp", "sort"}, {"sort=+createdTimestamp", "sort"},
		{"sort=createdTimestamp,-createdTimestamp", "sort"}, {"sort=createdTimestamp&sort=createdTimestamp", "sort"}, {"sort=lastUsedAt", "sort"},
		{"filter[clientId]=", "filter[clientId]"}, {"filter[clientId]", "filter[clientId]"}, {"filter[clientId]=a&filter[clientId]=b", "filter[clientId]"},
		{"filter[clientId]=%00", "filter[clientId]"}, {"filter[clientId]=%ff", "filter[clientId]"}, {"filter=a", "filter"}, {"filter[clientID]=a", "filter[clientID]"},
		{"filter[clientId]=%ff&filter[clientId]=b", "filter[clientId]"},
		{"fields[oauth2-session]=secret", "fields[oauth2-session]"}, {"fields[oauth2-session]=clientId,", "fields[oauth2-session]"},
		{"fields[oauth2-session]=id", "fields[oauth2-session]"}, {"fields[oauth2-session]=,", "fields[oauth2-session]"},
		{"fields[oauth2-session]=%20clientId", "fields[oauth2-session]"}, {"fields=clientId", "fields"}, {"fields[OAUTH2-session]=", "fields[OAUTH2-session]"},
		{"page[after]=", "page[after]"}, {"page[after]=x", "page[after]"}, {"page[after]=" + place + "=", "page[after]"},
		{"page[after]=" + place[1:], "page[after]"}, {"page[after]=" + place + "A", "page[after]"}, {"page[after]=%0A" + place, "page[after]"},
		{"page[after]=" + place + "%0D%0A", "page[after]"}, {"page[after]=" + strings.Repeat("A", 5000), "page[after]"},
		{"page[after]=" + placeOfUsed, "page[after]"}, {"sort=lastUsedTimestamp&page[after]=" + place, "page[after]"},
		{"sort=-lastUsedTimestamp&page[after]=" + placeOfUsed, "page[after]"}, {"sort=-createdTimestamp&page[after]=" + place, "page[after]"},
		{"page[after]=" + place + "&page[before]=" + place, "page[before]"},
		{"page[after]=" + raw("|1599476400000|"+albumID[1:]), "page[after]"}, {"page[after]=" + raw("|1599476400000|"+albumID+"b"), "page[after]"},
		{"page[after]=" + raw("|1599476400000|"+albumID[1:]+"'"), "page[after]"}, {"page[after]=" + raw("|1599476400000|"+albumID[2:]+"ü"), "page[after]"},
		{"page[after]=" + raw("|+1599476400000|"+albumID), "page[after]"}, {"page[after]=" + raw("|01599476400000|"+albumID), "page[after]"},
		{"page[after]=" + raw("|9223372036854775807|"+albumID), "page[after]"}, {"page[after]=" + raw("|-9223372036854775808|"+albumID), "page[after]"},
		{"page[after]=" + raw("||"+albumID), "page[after]"}, {"page[after]=" + raw("|1599476400000|x|"+albumID), "page[after]"},
		{"page[after]=" + raw("1599476400000|"+albumID), "page[after]"}, {"page[after]=" + raw("x|1599476400000|"+albumID), "page[after]"},
		{"excludeCurrent=true", "excludeCurrent"}, {"excludecurrent=true&include=", "excludecurrent include"},
		{"include", "include"}, {"include=a&include=b", "include"}, {"page[size]=1&x=1&page[size]=0&sort=x&include=y", "x page[size] include sort"},
		{"page[size]=%zz", "page[size]"}, {"page[size]=1;x", "page[size]"}, {"page[size];=1", "page[size];"}, {"page[size", "page[size"},
		{"+sort", " sort"}, {"=", ""}, {"%", "%"}, {"a%zz=1", "a%zz"}, {"a%ff", "a\uFFFD"}, {strings.Repeat("x", 500), strings.Repeat("x", maxParameter)},
	} {
		want := []string{}
		if c.refused != "" || c.query == "=" {
			want = strings.Split(c.refused, " ")
		}
		if c.query == "+sort" {
			want = []string{" sort"}
		}
		if got := refused(t, c.query, paramsOfList); !slices.Equal(got, want) {
			t.Errorf("%q: refused %q, want %q", c.query, got, want)
		}
	}
	for query, keep := range map[string]bool{"": false, "excludeCurrent=true": true, "excludeCurrent=false": false} {
		if q, err := parseQuery(query, paramsOfEndAll); err != nil || q.keepCurrent != keep {
			t.Errorf("%q: %t, %v", query, q.keepCurrent, err)
		}
	}
	for _, query := range []string{"excludeCurrent", "excludeCurrent=", "excludeCurrent=TRUE", "excludeCurrent=1", "excludeCurrent=yes",
		"excludeCurrent=true&excludeCurrent=true", "excludeCurrent=true&excludeCurrent=false", "excludeCurrent=%20true", "excludeCurrent=%ff"} {
		if got := refused(t, query, paramsOfEndAll); !slices.Equal(got, []string{"excludeCurrent"}) {
			t.Errorf("%q: refused %q", query, got)
		}
	}
}

// encodeText makes what looks like a cursor.
func encodeText(text string) string {
	return url.QueryEscape(cursorEncoding.EncodeToString([]byte(text)))
}

func TestProblemsOfOneAnswerAreBounded(t *testing.T) {
	var query strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&query, "x%d&", i)
	}
	if got := refused(t, query.String(), paramsOfList); len(got) != maxProblems {
		t.Errorf("%d problems", len(got))
	}
}

func TestCursorsAreTheirPlaces(t *testing.T) {
	s := &sessions.Session{ID: albumID, CreatedAt: at("11:00:00.123"), LastUsedAt: at("12:00:00.5"), ExpiresAt: at("23:59:59.999")}
	for _, order := range []sessions.Order{
		nil,
		{{By: sessions.Created}},
		{{By: sessions.LastUsed, Descending: true}, {By: sessions.Expires}},
		{{By: sessions.Consented}}, // never: the zero time
		{{By: sessions.Expires}, {By: sessions.Created, Descending: true}},
	} {
		cursor := encodeCursor(s, order)
		got, ok := decodeCursor(cursor, order)
		if !ok || got.ID != s.ID || !got.CreatedAt.Equal(s.CreatedAt) {
			t.Fatalf("%v: %+v, %t", order, got, ok)
		}
		for _, key := range order {
			if want := key.By.In(s); !key.By.In(got).Equal(*want) {
				t.Errorf("%v: %v, want %v", order, key.By.In(got), want)
			}
		}
	}
	if s := (&sessions.Session{ID: albumID, CreatedAt: time.UnixMilli(maxTime)}); !ok2(decodeCursor(encodeCursor(s, nil), nil)) {
		t.Error("the last time that can be")
	}
	if s := (&sessions.Session{ID: albumID, CreatedAt: time.UnixMilli(maxTime + 1)}); ok2(decodeCursor(encodeCursor(s, nil), nil)) {
		t.Error("a time behind the last")
	}
}

func ok2(_ *sessions.Session, ok bool) bool { return ok }

// Whatever comes in, what is taken was asked for by name, once, and says itself
// again in the links.
func FuzzQuery(f *testing.F) {
	place := encodeCursor(&sessions.Session{ID: albumID, CreatedAt: at("11:00:00")}, nil)
	for _, seed := range []string{"", "a=b", "a;b", "%zz=1", "page[size]=10&sort=-createdTimestamp", "&=&", "page[after]=" + place,
		"fields[oauth2-session]=clientId,scopes&filter[clientId]=x", "page%5Bbefore%5D=" + place + "&page[size]=1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		names := refused(t, raw, paramsOfList)
		values, err := url.ParseQuery(raw)
		if err != nil && names == nil {
			t.Fatalf("%q: undecodable and taken", raw)
		}
		if names != nil {
			return
		}
		for name, list := range values {
			if !slices.Contains(paramsOfList, name) || len(list) != 1 {
				t.Errorf("%q: %q taken", raw, name)
			}
		}
		q, _ := parseQuery(raw, paramsOfList)
		if q.list.Size < 0 || q.list.Size > sessions.MaxPage || (values.Has(paramClient) && q.list.ClientID == "") || (q.list.After != nil && q.list.Before != nil) {
			t.Errorf("%q: %+v", raw, q)
		}
		if (q.list.After != nil) != values.Has(paramAfter) || (q.list.Before != nil) != values.Has(paramBefore) {
			t.Errorf("%q: a position was lost", raw)
		}
		// What a link of the list says is the same list.
		again, err := parseQuery(q.values.Encode(), paramsOfList)
		if err != nil || !reflect.DeepEqual(again, q) {
			t.Errorf("%q: its own link is %+v, %v; want %+v", raw, again, err, q)
		}
		if got, want := orderText(q.list.Order), values.Get(paramSort); got != want {
			t.Errorf("%q: order %q", raw, got)
		}
		for _, at := range []*sessions.Session{q.list.After, q.list.Before} {
			if at != nil && encodeCursor(at, q.list.Order) != values.Get(paramAfter)+values.Get(paramBefore) {
				t.Errorf("%q: one place has two cursors", raw)
			}
		}
	})
}
