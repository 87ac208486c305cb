package jsonapi

import (
	"encoding/json"
	"maps"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/sessions"
)

// updatable are the patterns of the fixture's attributes that clients may
// change.
var updatable = map[string]*regexp.Regexp{
	"deviceName": regexp.MustCompile(`^.{1,80}$`), "color": regexp.MustCompile(`^(red|blue)$`),
	"a/b~c": regexp.MustCompile(`^.{1,200}$`), "a": regexp.MustCompile(`^.{1,200}$`), "b": regexp.MustCompile(`^.{1,200}$`),
}

// patchCodes are the codes of a PATCH with a live token, by status.
var patchCodes = map[int][]string{
	400: {"MALFORMED_DOCUMENT"}, 409: {"RESOURCE_MISMATCH"}, 413: {"DOCUMENT_TOO_LARGE"},
	422: {"CUSTOM_ATTRIBUTE_UNKNOWN", "CUSTOM_ATTRIBUTE_NOT_UPDATABLE", "CUSTOM_ATTRIBUTE_INVALID"},
}

// FuzzPatch sends documents to the endpoint: one that is accepted changes
// nothing but declared, updatable custom attributes of the caller's own
// session, to values that match; one that is refused changes nothing, and is
// answered by a documented error.
func FuzzPatch(f *testing.F) {
	for _, seed := range []string{"", own(""), custom(`"a":"1"`), custom(`"deviceName":null,"color":"blue"`), custom(`"frozen":"x"`), custom(`"color":"green"`),
		own(`"attributes":{"clientId":"x"}`), own(`"attributes":{"customAttributes":{"a":"1"},"offline":true}`), strings.Replace(custom(`"a":"1"`), phoneID, laptopID, 1),
		custom(`"deviceName":"` + strings.Repeat("x", 81) + `"`), custom(`"a":1`), own(`"relationships":{"user":{}},"attributes":{"customAttributes":{"a":"x"}}`)} {
		f.Add(seed)
	}
	x := newFixture(f)
	x.store.sessions[phoneID].CustomAttributes = map[string]string{"deviceName": "phone", "frozen": "xx"}
	before, router := snapshot(x.store), x.router()
	f.Fuzz(func(t *testing.T, body string) {
		x.log.Reset()
		x.store.calls = nil
		for id, s := range before {
			s.CustomAttributes = maps.Clone(s.CustomAttributes)
			x.store.sessions[id] = &s
		}
		r := httptest.NewRequest("PATCH", testBase+"/session/", strings.NewReader(body))
		r.Header.Set("Content-Type", mediaType)
		w := httptest.NewRecorder()
		router.ServeHTTP(w, r)
		after := snapshot(x.store)
		if w.Code != 200 {
			if !reflect.DeepEqual(before, after) {
				t.Errorf("%q: %d, and something changed", body, w.Code)
			}
			var answer struct {
				Errors []struct{ Code string }
			}
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || len(answer.Errors) == 0 {
				t.Fatalf("%q: %d %s", body, w.Code, w.Body)
			}
			for _, e := range answer.Errors {
				if !slices.Contains(patchCodes[w.Code], e.Code) {
					t.Errorf("%q: %d %s", body, w.Code, e.Code)
				}
			}
			return
		}
		old, now := before[phoneID].CustomAttributes, after[phoneID].CustomAttributes
		for _, name := range append(slices.Collect(maps.Keys(old)), slices.Collect(maps.Keys(now))...) {
			was, had := old[name]
			is, has := now[name]
			pattern := updatable[name]
			if (had != has || was != is) && (pattern == nil || has && !pattern.MatchString(is)) {
				t.Errorf("%q: %s was %q, %t, and is %q, %t", body, name, was, had, is, has)
			}
		}
		// It says nothing else of the session, and what it says came to pass.
		// Maps: a struct's fields would take names in any case.
		var document map[string]any
		if err := json.Unmarshal([]byte(body), &document); err != nil {
			t.Fatalf("%q was accepted: %v", body, err)
		}
		attributes, _ := document["data"].(map[string]any)["attributes"].(map[string]any)
		want := maps.Clone(old)
		for member, changes := range attributes {
			if member != "customAttributes" {
				t.Errorf("%q was accepted with %q", body, member)
				continue
			}
			for name, value := range changes.(map[string]any) {
				if delete(want, name); value != nil {
					want[name] = value.(string)
				}
			}
		}
		if !maps.Equal(want, now) {
			t.Errorf("%q: left is %q, want %q", body, now, want)
		}
		for id, s := range after {
			was := before[id]
			if id == phoneID {
				was.CustomAttributes, s.CustomAttributes = nil, nil // judged above
			}
			if !reflect.DeepEqual(was, s) {
				t.Errorf("%q: session %s was %+v, and is %+v", body, id, was, s)
			}
		}
		// The answer is what is stored.
		var answer struct {
			Data struct {
				ID         string
				Attributes struct{ CustomAttributes map[string]string }
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Data.ID != phoneID || !maps.Equal(answer.Data.Attributes.CustomAttributes, now) {
			t.Errorf("%q: stored is %q, answered %s", body, now, w.Body)
		}
	})
}

// snapshot copies what is stored.
func snapshot(s *store) map[string]sessions.Session {
	out := map[string]sessions.Session{}
	for id, one := range s.sessions {
		c := *one
		c.CustomAttributes = maps.Clone(one.CustomAttributes)
		out[id] = c
	}
	return out
}
