package jsonapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"gatehouse.dev/gatehouse/sessions"
)

// patch sends a document to a path of the current session.
func (f *fixture) patch(path, body string, headers ...string) *httptest.ResponseRecorder {
	f.t.Helper()
	if !slices.Contains(headers, "Content-Type") {
		headers = append(headers, "Content-Type", mediaType)
	}
	return f.send("PATCH", path, body, headers...)
}

// own is a document about the caller's session, with more members of data.
func own(more string) string {
	if more != "" {
		more = "," + more
	}
	return `{"data":{"type":"oauth2-session","id":"` + phoneID + `"` + more + `}}`
}

func custom(members string) string { return own(`"attributes":{"customAttributes":{` + members + `}}`) }

func TestChangesAreMerged(t *testing.T) {
	for _, path := range both("/session") {
		for _, contentType := range []string{mediaType, "application/json", "application/json; charset=utf-8", mediaType + `; profile="x"`} {
			f := newFixture(t)
			for _, step := range []struct {
				body, want string
			}{
				{own(""), `{}`},
				{own(`"attributes":{}`), `{}`},
				{custom(``), `{}`},
				{custom(`"deviceName":"Älex' <phone>"`), `{"deviceName":"Älex' <phone>"}`},
				{custom(`"color":"blue","a/b~c":"x"`), `{"a/b~c":"x","color":"blue","deviceName":"Älex' <phone>"}`},
				{custom(`"deviceName":null,"a":null,"color":"red"`), `{"a/b~c":"x","color":"red"}`},
				{custom(`"deviceName":"\ud83d\ude00\\ud800"`), `{"a/b~c":"x","color":"red","deviceName":"😀\\ud800"}`},
				{` {"meta":{"x":[1,{}]},"jsonapi":{"version":"1.1"},` + custom(`"a/b~c":null`)[1:] + "\r\n ", `{"color":"red","deviceName":"😀\\ud800"}`},
				{own(`"lid":"x","links":{},"meta":null,"attributes":{"customAttributes":{"deviceName":null}},"relationships":{}`), `{"color":"red"}`},
			} {
				w := f.patch(path, step.body, "Content-Type", contentType)
				checkHeaders(t, w)
				if w.Code != 200 {
					t.Fatalf("%s: %d %s", step.body, w.Code, w.Body)
				}
				want := documentHead + strings.Replace(phoneResource, `"customAttributes":{}`, `"customAttributes":`+step.want, 1) +
					`,"links":{"self":"` + testBase + `/session/"}}`
				if got := w.Body.String(); got != want {
					t.Errorf("%s: got\n%s\nwant\n%s", step.body, got, want)
				}
				if got := f.do("GET", "/session/").Body.String(); got != want {
					t.Errorf("%s: reads\n%s\nwant\n%s", step.body, got, want)
				}
			}
		}
	}
	f := newFixture(t)
	if w := f.patch("/session/?fields[oauth2-session]=customAttributes", custom(`"a":"1"`)); !strings.Contains(w.Body.String(), `"attributes":{"customAttributes":{"a":"1"}},`) {
		t.Error(w.Body)
	}
}

func TestMalformedDocuments(t *testing.T) {
	nested := func(depth int) string {
		return own(`"meta":` + strings.Repeat(`[`, depth) + strings.Repeat(`]`, depth))
	}
	valid := custom(`"a":"1"`)
	for name, body := range map[string]string{
		"empty": "", "blank": " ", "null": "null", "string": `"x"`, "array": "[" + valid + "]", "object": "{}", "BOM": "\uFEFF" + valid,
		"form": "data=x", "cut off": valid[:len(valid)-1], "trailing data": valid + "{}", "trailing bracket": valid + "}", "two documents": valid + "\n" + valid,
		"trailing NUL": valid + "\x00", "comment": valid + "//", "trailing comma": strings.Replace(valid, `"1"`, `"1",`, 1), "single quotes": strings.ReplaceAll(valid, `"`, `'`),
		"not UTF-8": strings.Replace(valid, `"1"`, "\"\xff\"", 1), "overlong UTF-8": strings.Replace(valid, `"1"`, "\"\xc0\xaf\"", 1), "UTF-16": "\xfe\xff\x00{\x00}",
		"raw surrogate": strings.Replace(valid, `"1"`, "\"\xed\xa0\x80\"", 1), "raw line end": strings.Replace(valid, `"1"`, "\"\n\"", 1),
		"high surrogate": strings.Replace(valid, `"1"`, `"\ud800"`, 1), "low surrogate": strings.Replace(valid, `"1"`, `"\udc00"`, 1),
		"two high surrogates": strings.Replace(valid, `"1"`, `"\ud800\ud800"`, 1), "high surrogate and text": strings.Replace(valid, `"1"`, `"\ud800x"`, 1),
		"surrogate behind a backslash": strings.Replace(valid, `"1"`, `"\\\ud800"`, 1), "surrogate in a name": strings.Replace(valid, `"a"`, `"\uD800"`, 1),
		"name twice": strings.Replace(valid, `"a":"1"`, `"a":"1","a":"1"`, 1), "name twice, escaped": strings.Replace(valid, `"a":"1"`, `"a":"1","\u0061":"1"`, 1),
		"data twice": valid[:len(valid)-1] + `,"data":null}`, "id twice": strings.Replace(valid, `"id"`, `"id":"x","id"`, 1), "unknown member twice": own(`"x":1,"x":1`),
		"twice deep within": own(`"meta":[{"x":1,"x":1}]`), "too deep": nested(15), "much too deep": nested(8000),
		"no data": `{"meta":{}}`, "data in other case": strings.Replace(valid, `"data"`, `"Data"`, 1), "data null": `{"data":null}`, "data array": `{"data":[` + valid[8:len(valid)-1] + `]}`, "data string": `{"data":"x"}`,
		"no type": `{"data":{"id":"` + phoneID + `"}}`, "no id": `{"data":{"type":"oauth2-session"}}`, "type null": `{"data":{"type":null,"id":"` + phoneID + `"}}`,
		"id number": `{"data":{"type":"oauth2-session","id":1}}`, "id array": `{"data":{"type":"oauth2-session","id":["` + phoneID + `"]}}`,
		"attributes null": own(`"attributes":null`), "attributes array": own(`"attributes":[]`), "attributes string": own(`"attributes":"x"`), "relationships array": own(`"relationships":[]`),
		"errors": `{"errors":[]}`,
	} {
		for _, path := range both("/session") {
			f := newFixture(t)
			w := f.patch(path, body)
			checkHeaders(t, w)
			if object := checkError(t, w, 400, "MALFORMED_DOCUMENT"); object.Source != nil {
				t.Errorf("%s: source %+v", name, object.Source)
			}
			if len(f.store.calls) > 0 {
				t.Errorf("%s: store: %v", name, f.store.calls)
			}
		}
	}
	if w := newFixture(t).patch("/session/", nested(14)); w.Code != 200 {
		t.Errorf("deep, but not too deep: %d %s", w.Code, w.Body)
	}
}

func TestDocumentsAreBounded(t *testing.T) {
	body := custom(`"a":"1"`)
	for _, path := range both("/session") {
		f := newFixture(t)
		if w := f.patch(path, body+strings.Repeat(" ", maxDocument-len(body))); w.Code != 200 {
			t.Errorf("of 16 KiB: %d", w.Code)
		}
		f = newFixture(t)
		checkError(t, f.patch(path, body+strings.Repeat(" ", maxDocument-len(body)+1)), 413, "DOCUMENT_TOO_LARGE")
		// Told by nobody how long it will be, and never read to its end.
		read := &counter{}
		r := httptest.NewRequest("PATCH", testBase+path, read)
		r.Header.Set("Content-Type", mediaType)
		r.ContentLength = -1
		w := httptest.NewRecorder()
		f.router().ServeHTTP(w, r)
		checkError(t, w, 413, "DOCUMENT_TOO_LARGE")
		if read.n > maxDocument+1 || len(f.store.calls) > 0 {
			t.Errorf("read %d bytes, store %v", read.n, f.store.calls)
		}
		r = httptest.NewRequest("PATCH", testBase+path, io.MultiReader(strings.NewReader(body[:20]), failing{}))
		r.Header.Set("Content-Type", mediaType)
		w = httptest.NewRecorder()
		f.router().ServeHTTP(w, r)
		checkError(t, w, 400, "MALFORMED_DOCUMENT")
	}
}

// counter is a body without end.
type counter struct{ n int }

func (c *counter) Read(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("connection is gone") }

func TestContentOfChanges(t *testing.T) {
	for name, headers := range map[string][]string{
		"none": {"Content-Type", ""}, "text": {"Content-Type", "text/plain"}, "form": {"Content-Type", "application/x-www-form-urlencoded"},
		"other parameter": {"Content-Type", mediaType + "; charset=utf-8"}, "extension": {"Content-Type", mediaType + `; ext="x"`},
		"merge patch": {"Content-Type", "application/merge-patch+json"}, "compressed": {"Content-Type", mediaType, "Content-Encoding", "gzip"},
	} {
		for _, path := range both("/session") {
			for _, body := range []string{"", custom(`"a":"1"`)} {
				f := newFixture(t)
				checkError(t, f.send("PATCH", path, body, headers...), 415, "UNSUPPORTED_MEDIA_TYPE")
				if len(f.store.calls) > 0 {
					t.Errorf("%s: store: %v", name, f.store.calls)
				}
			}
		}
	}
}

func TestDocumentsOfOtherResources(t *testing.T) {
	for name, c := range map[string]struct {
		kind, id string
		pointers []string
	}{
		"other type":            {"session", phoneID, []string{"/data/type"}},
		"no type":               {"", phoneID, []string{"/data/type"}},
		"type in other case":    {"OAuth2-session", phoneID, []string{"/data/type"}},
		"another own session":   {"oauth2-session", laptopID, []string{"/data/id"}},
		"another user's":        {"oauth2-session", foreignID, []string{"/data/id"}},
		"unknown":               {"oauth2-session", unknownID, []string{"/data/id"}},
		"no id":                 {"oauth2-session", "", []string{"/data/id"}},
		"id and something":      {"oauth2-session", phoneID + "x", []string{"/data/id"}},
		"id in other case":      {"oauth2-session", strings.ToLower(phoneID), []string{"/data/id"}},
		"both":                  {"x", "y", []string{"/data/type", "/data/id"}},
		"id where the type is":  {phoneID, "oauth2-session", []string{"/data/type", "/data/id"}},
		"another's, other type": {"x", foreignID, []string{"/data/type", "/data/id"}},
	} {
		for _, path := range both("/session") {
			f := newFixture(t)
			body, _ := json.Marshal(map[string]any{"data": map[string]any{"type": c.kind, "id": c.id,
				"attributes": map[string]any{"clientId": "x", "customAttributes": map[string]any{"unknown": "x", "a": "1"}}}})
			w := f.patch(path, string(body))
			checkHeaders(t, w)
			if got := pointers(checkErrors(t, w, 409, "RESOURCE_MISMATCH")); !slices.Equal(got, c.pointers) {
				t.Errorf("%s: %v", name, got)
			}
			if len(f.store.calls) > 0 {
				t.Errorf("%s: store: %v", name, f.store.calls)
			}
		}
	}
}

func pointers(list []errorObject) []string {
	var out []string
	for _, object := range list {
		if object.Source == nil || object.Source.Pointer == nil {
			out = append(out, "no pointer")
			continue
		}
		out = append(out, *object.Source.Pointer)
	}
	return out
}

func TestAttributesThatAreRefused(t *testing.T) {
	const unknown, frozen, invalid = "CUSTOM_ATTRIBUTE_UNKNOWN", "CUSTOM_ATTRIBUTE_NOT_UPDATABLE", "CUSTOM_ATTRIBUTE_INVALID"
	at := func(name string) string { return "/data/attributes/customAttributes/" + name }
	for name, c := range map[string]struct {
		body string
		want [][2]string // code and pointer
	}{
		"undeclared":              {custom(`"x":"1"`), [][2]string{{unknown, at("x")}}},
		"undeclared, removed":     {custom(`"x":null`), [][2]string{{unknown, at("x")}}},
		"other case":              {custom(`"DeviceName":"x"`), [][2]string{{unknown, at("DeviceName")}}},
		"no name":                 {custom(`"":"x"`), [][2]string{{unknown, at("")}}},
		"name with slash, tilde":  {custom(`"x/y~z~1":"1"`), [][2]string{{unknown, at("x~1y~0z~01")}}},
		"name with quote":         {custom(`"\"\u0000Ä":"1"`), [][2]string{{unknown, at("\"\x00Ä")}}},
		"frozen":                  {custom(`"frozen":"x"`), [][2]string{{frozen, at("frozen")}}},
		"frozen, removed":         {custom(`"frozen":null`), [][2]string{{frozen, at("frozen")}}},
		"does not match":          {custom(`"color":"green"`), [][2]string{{invalid, at("color")}}},
		"matches in part":         {custom(`"color":"red "`), [][2]string{{invalid, at("color")}}},
		"alternative at the end":  {custom(`"color":"redblue"`), [][2]string{{invalid, at("color")}}},
		"empty":                   {custom(`"a/b~c":""`), [][2]string{{invalid, at("a~1b~0c")}}},
		"too long":                {custom(`"deviceName":"` + strings.Repeat("ü", 81) + `"`), [][2]string{{invalid, at("deviceName")}}},
		"too long by default":     {custom(`"a":"` + strings.Repeat("x", 201) + `"`), [][2]string{{invalid, at("a")}}},
		"line end":                {custom(`"color":"red\n"`), [][2]string{{invalid, at("color")}}},
		"number":                  {custom(`"a":1`), [][2]string{{invalid, at("a")}}},
		"boolean":                 {custom(`"a":true`), [][2]string{{invalid, at("a")}}},
		"array":                   {custom(`"a":["1"]`), [][2]string{{invalid, at("a")}}},
		"object":                  {custom(`"a":{"b":"1"}`), [][2]string{{invalid, at("a")}}},
		"removal of all":          {own(`"attributes":{"customAttributes":null}`), [][2]string{{invalid, "/data/attributes/customAttributes"}}},
		"list of attributes":      {own(`"attributes":{"customAttributes":[{"a":"1"}]}`), [][2]string{{invalid, "/data/attributes/customAttributes"}}},
		"our attribute":           {own(`"attributes":{"clientId":"oidc-client"}`), [][2]string{{frozen, "/data/attributes/clientId"}}},
		"our timestamp":           {own(`"attributes":{"expiresTimestamp":"2099-01-01T00:00:00.000Z"}`), [][2]string{{frozen, "/data/attributes/expiresTimestamp"}}},
		"no attribute":            {own(`"attributes":{"deviceName":"x"}`), [][2]string{{unknown, "/data/attributes/deviceName"}}},
		"attribute in other case": {own(`"attributes":{"customattributes":{"a":"1"}}`), [][2]string{{unknown, "/data/attributes/customattributes"}}},
		"relationship":            {own(`"relationships":{"user/x":{"data":null}}`), [][2]string{{unknown, "/data/relationships/user~1x"}}},
		"all at once": {own(`"relationships":{"r":1},"attributes":{"x":1,"current":true,"customAttributes":{"z":"1","frozen":"x","color":"green","deviceName":"fine"}}`),
			[][2]string{{frozen, "/data/attributes/current"}, {unknown, "/data/attributes/x"}, {unknown, "/data/relationships/r"},
				{invalid, at("color")}, {frozen, at("frozen")}, {unknown, at("z")}}},
		"ours and all": {own(`"attributes":{"clientId":1,"customAttributes":7}`),
			[][2]string{{frozen, "/data/attributes/clientId"}, {invalid, "/data/attributes/customAttributes"}}},
		"one of many": {custom(`"deviceName":"fine","a":"fine","x":"1"`), [][2]string{{unknown, at("x")}}},
	} {
		for _, path := range both("/session") {
			f := newFixture(t)
			f.store.sessions[phoneID].CustomAttributes = map[string]string{"deviceName": "old", "frozen": "xx"}
			w := f.patch(path, c.body)
			checkHeaders(t, w)
			var doc struct{ Errors []errorObject }
			if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
				t.Fatal(err)
			}
			var got [][2]string
			for _, object := range doc.Errors {
				if object.Status != "422" || object.ID != "trace-1" || object.Title == "" || object.Detail == "" || object.Source == nil || object.Source.Parameter != nil {
					t.Fatalf("%s: %+v", name, object)
				}
				got = append(got, [2]string{object.Code, *object.Source.Pointer})
			}
			if w.Code != 422 || !slices.Equal(got, c.want) {
				t.Errorf("%s: %d %v, want %v", name, w.Code, got, c.want)
			}
			if len(f.store.calls) > 0 || f.store.sessions[phoneID].CustomAttributes["deviceName"] != "old" {
				t.Errorf("%s: something was changed: %v", name, f.store.calls)
			}
		}
	}
	f := newFixture(t)
	var members []string
	for i := range 1000 {
		members = append(members, fmt.Sprintf(`"x%d":"1"`, i))
	}
	if got := checkErrors(t, f.patch("/session/", custom(strings.Join(members, ","))), 422, unknown); len(got) != maxProblems {
		t.Errorf("%d errors", len(got))
	}
}

// A document is judged only when token, scope and query are.
func TestChangesAreJudgedInOrder(t *testing.T) {
	f := newFixture(t)
	f.demand("s", "s")
	f.denied, f.store.fail = sessions.ErrCallerMissing, errors.New("broken")
	query, accept, contentType := "?x", mediaType+";x=1", "text/plain"
	body := strings.Repeat("x", maxDocument+1)
	for _, step := range []struct {
		status int
		repair func()
	}{
		{401, func() { f.denied = nil }},
		{403, func() { f.caller.Scopes = []string{"s"} }},
		{406, func() { accept = "*/*" }},
		{415, func() { contentType = mediaType }},
		{400, func() { query = "" }},
		{413, func() { body = "{}" }},
		{400, func() { body = strings.Replace(custom(`"x":"1"`), phoneID, laptopID, 1) }},
		{409, func() { body = custom(`"x":"1"`) }},
		{422, func() { body = custom(`"a":"1"`) }},
		{500, func() { f.store.fail = nil }},
		{200, func() {}},
	} {
		if w := f.patch("/session/"+query, body, "Accept", accept, "Content-Type", contentType); w.Code != step.status {
			t.Errorf("%d, want %d: %s", w.Code, step.status, w.Body)
		}
		step.repair()
	}
}

func TestChangesSideBySideAreAllKept(t *testing.T) {
	f := newFixture(t)
	handler := f.router()
	var group sync.WaitGroup
	names := []string{"deviceName", "a/b~c", "a", "b"}
	for _, name := range names {
		group.Go(func() {
			r := httptest.NewRequest("PATCH", testBase+"/session/", strings.NewReader(custom(`"`+name+`":"x"`)))
			r.Header.Set("Content-Type", mediaType)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != 200 {
				t.Errorf("%s: %d %s", name, w.Code, w.Body)
			}
		})
	}
	group.Wait()
	if got := f.store.sessions[phoneID].CustomAttributes; len(got) != len(names) {
		t.Errorf("left is %v", got)
	}
}

// What is taken means one thing to every reader, and every refusal is one of the
// contract.
func FuzzChange(f *testing.F) {
	for _, seed := range []string{"", "{}", own(""), custom(`"a":"1","frozen":null`), own(`"attributes":{"x":1},"relationships":{"y":2}`),
		custom(`"\ud83d\ude00":"\ud800"`), custom(`"a":"1","a":"2"`), `{"data":{"type":"x","id":"y"}}`, strings.Repeat("[", 100), "\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		value, err := decode(body)
		if err == nil {
			var plain any
			d := json.NewDecoder(strings.NewReader(string(body)))
			d.UseNumber()
			if !utf8.Valid(body) || d.Decode(&plain) != nil || fmt.Sprint(plain) != fmt.Sprint(value) {
				t.Fatalf("%q: %v is not %v", body, value, plain)
			}
		}
		change, found, err := readChange(body, phoneID)
		var (
			one  *problem
			list problems
		)
		switch {
		case err == nil:
			if value == nil {
				t.Fatalf("%q taken", body)
			}
		case errors.As(err, &list):
			if list[0].status != 409 {
				t.Errorf("%q: %v", body, err)
			}
		case !errors.As(err, &one) || one.status != 400:
			t.Errorf("%q: %v", body, err)
		}
		for _, p := range found {
			if p.status != 422 || !strings.HasPrefix(*p.source.Pointer, "/data/") {
				t.Errorf("%q: %+v", body, p)
			}
		}
		if err != nil && len(change) > 0 {
			t.Errorf("%q: refused, and %v", body, slices.Collect(maps.Keys(change)))
		}
	})
}
