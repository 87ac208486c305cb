package jsonapi

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// linksOf are the top-level links of a list, without the issuer.
func linksOf(t *testing.T, w *httptest.ResponseRecorder) (links struct{ Self, First, Prev, Next string }) {
	t.Helper()
	var doc struct{ Links map[string]*string }
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	for name, into := range map[string]*string{"self": &links.Self, "first": &links.First, "prev": &links.Prev, "next": &links.Next} {
		value, ok := doc.Links[name]
		if !ok {
			t.Errorf("no link %s: %s", name, w.Body)
		}
		if value == nil {
			continue
		}
		var below bool
		if *into, below = strings.CutPrefix(*value, testBase); !below {
			t.Errorf("%s leads away: %s", name, *value)
		}
	}
	if len(doc.Links) != 4 {
		t.Errorf("links: %v", doc.Links)
	}
	return links
}

// many gives alex 23 sessions in all, of which some began together.
func many(f *fixture) {
	for i := range 20 {
		s := f.add(fmt.Sprintf("%040d", i), "alex", []string{"oidc-client", "photo-album"}[i%2])
		s.CreatedAt = at("10:00:00").Add(time.Duration(i/4) * time.Second)
		s.LastUsedAt = at("14:00:00").Add(time.Duration(i%5) * time.Minute)
		s.ConsentedAt = time.Time{}
		s.ExpiresAt = at("20:00:00")
	}
}

// A list that is walked forwards and backwards over its links is the list.
func TestPagesMakeUpTheList(t *testing.T) {
	for _, sort := range []string{"", "-createdTimestamp", "createdTimestamp", "lastUsedTimestamp", "-lastUsedTimestamp,createdTimestamp",
		"consentTimestamp", "-expiresTimestamp,-consentTimestamp,lastUsedTimestamp", "authenticationTimestamp"} {
		for _, client := range []string{"", "photo-album"} {
			f := newFixture(t)
			many(f)
			values := url.Values{}
			if sort != "" {
				values.Set("sort", sort)
			}
			if client != "" {
				values.Set("filter[clientId]", client)
			}
			whole := f.do("GET", "/sessions/?"+values.Encode())
			want, links := ids(t, whole), linksOf(t, whole)
			if links.Prev != "" || links.Next != "" || (len(want) != 23 && client == "") || (len(want) != 11 && client != "") {
				t.Fatalf("sort %q, client %q: %d sessions, %+v", sort, client, len(want), links)
			}
			for size := 1; size <= 24; size += 1 + size/4 {
				name := fmt.Sprintf("sort %q, client %q, size %d", sort, client, size)
				values.Set("page[size]", fmt.Sprint(size))
				first := "/sessions/?" + values.Encode()
				var got []string
				var pages [][]string
				last := ""
				for target := first; target != ""; {
					w := f.do("GET", target)
					page, links := ids(t, w), linksOf(t, w)
					if links.Self != target || links.First != first || (links.Prev == "") != (target == first) {
						t.Fatalf("%s: %s has links %+v", name, target, links)
					}
					if len(page) > size || (len(page) < size && links.Next != "") {
						t.Fatalf("%s: a page of %d, next %q", name, len(page), links.Next)
					}
					got, pages = append(got, page...), append(pages, page)
					last, target = target, links.Next
				}
				if !slices.Equal(got, want) {
					t.Fatalf("%s: forwards\n%v, want\n%v", name, got, want)
				}
				for target := linksOf(t, f.do("GET", last)).Prev; target != ""; {
					w := f.do("GET", target)
					pages = pages[:len(pages)-1]
					if page := ids(t, w); !slices.Equal(page, pages[len(pages)-1]) {
						t.Fatalf("%s: backwards %v, want %v", name, page, pages[len(pages)-1])
					}
					links := linksOf(t, w)
					if target = links.Prev; links.Next == "" {
						t.Errorf("%s: backwards without a way back", name)
					}
				}
				if len(pages) > 1 {
					t.Errorf("%s: backwards, %d pages were missed", name, len(pages)-1)
				}
			}
		}
	}
}

// Sessions that end between two pages leave neither gaps nor dead ends.
func TestPagesWhileSessionsEnd(t *testing.T) {
	for _, sort := range []string{"", "&sort=createdTimestamp"} {
		f := newFixture(t)
		many(f)
		end := func(list []string) {
			for _, id := range list {
				f.store.sessions[id].Ended = &sessions.Ended{}
			}
		}
		first := f.do("GET", "/sessions/?page[size]=5"+sort)
		second := f.do("GET", linksOf(t, first).Next)
		third := f.do("GET", linksOf(t, second).Next)
		rest := ids(t, third)
		end(ids(t, second))
		if got := ids(t, f.do("GET", linksOf(t, first).Next)); !slices.Equal(got, rest) {
			t.Errorf("%q: behind the first page %v, want %v", sort, got, rest)
		}
		if got := ids(t, f.do("GET", linksOf(t, third).Prev)); !slices.Equal(got, ids(t, first)) {
			t.Errorf("%q: ahead of the third page %v", sort, got)
		}
		// Nothing is left behind the first page.
		whole := ids(t, f.do("GET", "/sessions/?"+strings.TrimPrefix(sort, "&")))
		end(whole[5:])
		empty := f.do("GET", linksOf(t, first).Next)
		links := linksOf(t, empty)
		if len(ids(t, empty)) != 0 || links.Next != "" || links.Prev == "" {
			t.Fatalf("%q: %v, %+v", sort, ids(t, empty), links)
		}
		if got := ids(t, f.do("GET", links.Prev)); !slices.Equal(got, ids(t, first)) {
			t.Errorf("%q: back from an empty page %v", sort, got)
		}
		// Nothing is left ahead of the third page, but something at its beginning.
		f.store.sessions[rest[0]].Ended = nil
		end(ids(t, first))
		empty = f.do("GET", linksOf(t, third).Prev)
		links = linksOf(t, empty)
		if len(ids(t, empty)) != 0 || links.Prev != "" || links.Next == "" {
			t.Fatalf("%q: %v, %+v", sort, ids(t, empty), links)
		}
		if got := ids(t, f.do("GET", links.Next)); !slices.Equal(got, rest[:1]) {
			t.Errorf("%q: on from an empty page %v, want %v", sort, got, rest[:1])
		}
	}
}

func TestListWithoutSizeHasAThousand(t *testing.T) {
	f := newFixture(t)
	for i := range 1100 {
		f.add(fmt.Sprintf("%040d", i), "alex", "oidc-client").CreatedAt = at("10:00:00").Add(time.Duration(i) * time.Second)
	}
	for _, sort := range []string{"", "?sort=createdTimestamp"} {
		first := f.do("GET", "/sessions/"+sort)
		links := linksOf(t, first)
		if len(ids(t, first)) != 1000 || links.Prev != "" || links.Next == "" {
			t.Fatalf("%d sessions, %+v", len(ids(t, first)), links)
		}
		if rest := f.do("GET", links.Next); len(ids(t, rest)) != 103 || linksOf(t, rest).Next != "" {
			t.Errorf("then %d", len(ids(t, rest)))
		}
	}
}

func TestSortOfTooManyIsRefused(t *testing.T) {
	f := newFixture(t)
	for i := range 10_050 {
		f.add(fmt.Sprintf("%040d", i), "alex", "photo-album")
	}
	if got := *checkError(t, f.do("GET", "/sessions/?sort=expiresTimestamp&page[size]=1"), 400, "UNSUPPORTED_QUERY_PARAMETER").Source.Parameter; got != "sort" {
		t.Error(got)
	}
	for _, query := range []string{"?page[size]=1", "?sort=-createdTimestamp&page[size]=1", "?sort=expiresTimestamp&filter[clientId]=oidc-client"} {
		if w := f.do("GET", "/sessions/"+query); w.Code != 200 {
			t.Errorf("%s: %d", query, w.Code)
		}
	}
}

// The default order is read by pages, whatever the list's length.
func TestDefaultOrderReadsOnePage(t *testing.T) {
	f := newFixture(t)
	many(f)
	next := "/sessions/?page[size]=2"
	for range 3 {
		f.store.calls = nil
		next = linksOf(t, f.do("GET", next)).Next
		if len(f.store.calls) > 2 {
			t.Errorf("calls: %v", f.store.calls)
		}
	}
}

// A position is no way around whose list it is.
func TestCursorOpensNoOtherList(t *testing.T) {
	f := newFixture(t)
	mine := linksOf(t, f.do("GET", "/sessions/?page[size]=1")).Next
	f.caller.UserID, f.caller.SessionID = "kim", foreignID
	if got := ids(t, f.do("GET", mine)); len(got) != 0 {
		t.Errorf("kim sees %v", got)
	}
	f.caller.UserID, f.caller.SessionID, f.caller.ClientID = "alex", albumID, "photo-album"
	f.config.Manager.Visibility = sessions.VisibilityClient
	if got := ids(t, f.do("GET", mine)); !slices.Equal(got, []string{albumID}) {
		t.Errorf("photo-album sees %v", got)
	}
	if got := ids(t, f.do("GET", "/sessions/?filter[clientId]=oidc-client")); len(got) != 0 {
		t.Errorf("photo-album sees by filter %v", got)
	}
	for _, query := range []string{"?sort=createdTimestamp", "?filter[clientId]=photo-album"} {
		if got := ids(t, f.do("GET", "/sessions/"+query)); !slices.Equal(got, []string{albumID}) {
			t.Errorf("photo-album sees by %s %v", query, got)
		}
	}
	f.config.Manager.Visibility = sessions.VisibilityUser
	for query, want := range map[string][]string{"oidc-client": {phoneID, laptopID}, "photo-album": {albumID}, "other": nil, "oidc-client,photo-album": nil, "%25": nil} {
		if got := ids(t, f.do("GET", "/sessions/?filter[clientId]="+query)); !slices.Equal(got, want) {
			t.Errorf("client %s: %v, want %v", query, got, want)
		}
	}
}

func TestSparseFieldsets(t *testing.T) {
	const head = `{"type":"oauth2-session","id":"` + phoneID + `","attributes":`
	for fields, want := range map[string]string{
		"":                                `{}`,
		"current":                         `{"current":true}`,
		"offline,clientId,offline":        `{"clientId":"oidc-client","offline":false}`,
		"customAttributes":                `{"customAttributes":{}}`,
		"lastUsedTimestamp,scopes":        `{"scopes":["openid","email"],"lastUsedTimestamp":"2020-09-07T14:07:00.000Z"}`,
		strings.Join(attributeNames, ","): strings.TrimSuffix(strings.SplitAfter(phoneResource, `"current":true}`)[0][len(head):], ``),
	} {
		for _, path := range []string{"/session", "/session/", "/sessions", "/sessions/", "/sessions/" + phoneID, "/sessions/" + phoneID + "/"} {
			f := newFixture(t)
			query := "?" + url.Values{paramFields: {fields}}.Encode()
			w := f.do("GET", path+query)
			if !strings.Contains(w.Body.String(), head+want+`,"links":{`) {
				t.Errorf("%s, %q: %s", path, fields, w.Body)
			}
			if self := `"links":{"self":"` + testBase + strings.TrimSuffix(path, "/") + "/" + query + `"`; !strings.Contains(w.Body.String(), self) {
				t.Errorf("%s, %q: self is not %s: %s", path, fields, self, w.Body)
			}
		}
	}
	// What never was is null, not left out, where it is asked for.
	f := newFixture(t)
	f.store.sessions[phoneID].ConsentedAt = time.Time{}
	if w := f.do("GET", "/session/?fields[oauth2-session]=consentTimestamp"); !strings.Contains(w.Body.String(), `{"consentTimestamp":null}`) {
		t.Error(w.Body)
	}
}

func TestEndingAllSessions(t *testing.T) {
	for _, c := range []struct {
		query, visibility string
		left              []string // of alex
	}{
		{"", sessions.VisibilityUser, nil},
		{"?excludeCurrent=false", sessions.VisibilityUser, nil},
		{"?excludeCurrent=true", sessions.VisibilityUser, []string{phoneID}},
		{"", sessions.VisibilityClient, []string{albumID}},
		{"?excludeCurrent=true", sessions.VisibilityClient, []string{phoneID, albumID}},
	} {
		for _, path := range both("/sessions") {
			f := newFixture(t)
			f.config.Manager.Visibility = c.visibility
			for range 2 { // the second time nothing is left to end
				w := f.do("DELETE", path+c.query)
				checkHeaders(t, w)
				if w.Code != 204 {
					t.Fatalf("%s%s: %d %s", path, c.query, w.Code, w.Body)
				}
			}
			f.config.Manager.Visibility = sessions.VisibilityUser
			if got := ids(t, f.do("GET", "/sessions/")); !slices.Equal(got, c.left) {
				t.Errorf("%s%s, %s: left %v, want %v", path, c.query, c.visibility, got, c.left)
			}
			if f.store.sessions[foreignID].Ended != nil {
				t.Errorf("%s%s: kim's session ended", path, c.query)
			}
			ends := 0
			for _, call := range f.store.calls {
				if call == "End" {
					ends++
				}
			}
			if ends != 2 || len(f.store.endings) != 1 || f.store.endings[0].Reason != sessions.ReasonEndedByClient || f.store.endings[0].By.String() != "client:oidc-client" {
				t.Errorf("%s%s: calls %v, endings %+v", path, c.query, f.store.calls, f.store.endings)
			}
		}
	}
	// A parameter that is not understood ends nothing.
	for _, query := range []string{"excludeCurrent=yes", "excludecurrent=true", "excludeCurrent=true&excludeCurrent=false", "filter[clientId]=photo-album", "page[size]=1", "excludeCurrent=true;"} {
		f := newFixture(t)
		checkError(t, f.do("DELETE", "/sessions/?"+query), 400, "UNSUPPORTED_QUERY_PARAMETER")
		if len(f.store.calls) > 0 {
			t.Errorf("%s: %v", query, f.store.calls)
		}
	}
}
