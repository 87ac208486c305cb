package jsonapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAccept(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  bool
	}{
		{nil, true},
		{[]string{""}, true},
		{[]string{"*/*"}, true},
		{[]string{"application/json"}, true},
		{[]string{"text/html, application/xhtml+xml, */*;q=0.8"}, true},
		{[]string{"application/vnd.api+json"}, true},
		{[]string{" Application/VND.API+json "}, true},
		{[]string{"application/vnd.api+json;q=0.5"}, true},
		{[]string{`application/vnd.api+json; profile="https://a.example https://b.example"`}, true},
		{[]string{`application/vnd.api+json; ext=""`}, true},
		{[]string{"application/vnd.api+json; charset=utf-8, application/vnd.api+json"}, true},
		{[]string{"application/vnd.api+json; charset=utf-8", "application/vnd.api+json"}, true},
		{[]string{`application/vnd.api+json;ext="https://a.example/x", application/vnd.api+json`}, true},
		{[]string{`text/html;x="application/vnd.api+json;x=1, y"`}, true}, // named within a string only
		{[]string{`text/html;x="`, "application/vnd.api+json"}, true},

		{[]string{"application/vnd.api+json; charset=utf-8"}, false},
		{[]string{"application/vnd.api+json;charset=utf-8, */*"}, false},
		{[]string{"application/json, application/vnd.api+json;version=1"}, false},
		{[]string{"application/vnd.api+json;version=1", "application/vnd.api+json;charset=utf-8"}, false},
		{[]string{`application/vnd.api+json;ext="https://a.example/x"`}, false},
		{[]string{`application/vnd.api+json;ext="https://a.example/x";profile="https://b.example"`}, false},
		{[]string{`application/vnd.api+json;ext="https://a.example/x", application/vnd.api+json;charset=utf-8`}, false},
		{[]string{`application/vnd.api+json;x="a, application/vnd.api+json"`}, false},
		{[]string{`application/vnd.api+json;x="\", application/vnd.api+json"`}, false},
		{[]string{`application/vnd.api+json;x="\", application/vnd.api+json,"`}, false},
		{[]string{`application/vnd.api+json;x="never closed, application/vnd.api+json`}, false},
		{[]string{"APPLICATION/VND.API+JSON;CHARSET=utf-8"}, false},
		{[]string{"application/vnd.api+json;profile=a;charset=utf-8"}, false},
		{[]string{"application/vnd.api+json;q=0"}, false},
		{[]string{"application/vnd.api+json;q=0.000"}, false},
		{[]string{"application/vnd.api+json;q=x"}, false},
		{[]string{"application/vnd.api+json;q=NaN"}, false},
		{[]string{"application/vnd.api+json;q=1;q=0"}, false},
		{[]string{"application/vnd.api+json;="}, false},
		{[]string{"application/vnd.api+json;charset"}, false},
	} {
		if got := acceptable(c.lines); got != c.want {
			t.Errorf("%q: %t", c.lines, got)
		}
	}
}

func TestContentType(t *testing.T) {
	for _, c := range []struct {
		header string
		body   string
		want   bool
	}{
		{"", "", true},
		{"", "{}", true},
		{"application/vnd.api+json", "", true},
		{"Application/Vnd.Api+JSON", "{}", true},
		{"application/vnd.api+json; profile=x", "{}", true},
		{"application/json", "{}", true},
		{"application/json; charset=utf-8", "{}", true},
		{"application/x-www-form-urlencoded", "", true},
		{"nonsense;;", "", true},

		{"application/vnd.api+json; charset=utf-8", "", false},
		{"application/vnd.api+json; charset=utf-8", "{}", false},
		{`application/vnd.api+json; ext="https://a.example"`, "", false},
		{"application/vnd.api+json; q=1", "", false},
		{"application/vnd.api+json;=", "", false},
		{"application/x-www-form-urlencoded", "a=b", false},
		{"text/plain", "{}", false},
		{"application/jsonp", "{}", false},
		{"application/merge-patch+json", "{}", false},
		{"application/json;=", "{}", false},
		{"nonsense;;", "{}", false},
	} {
		r := httptest.NewRequest("DELETE", "/", strings.NewReader(c.body))
		if c.body == "" {
			r = httptest.NewRequest("DELETE", "/", http.NoBody)
		}
		if c.header != "" {
			r.Header.Set("Content-Type", c.header)
		}
		if got := supportedContent(r, false); got != c.want {
			t.Errorf("%q with %q: %t", c.header, c.body, got)
		}
		// Where a document is read, it has a type even if it is empty.
		named := strings.Contains(strings.ToLower(c.header), "json")
		if got := supportedContent(r, true); got != (c.want && named) {
			t.Errorf("%q with %q as a document: %t", c.header, c.body, got)
		}
		r.Header.Set("Content-Encoding", "gzip")
		if supportedContent(r, true) {
			t.Errorf("%q with %q: an encoded document", c.header, c.body)
		}
	}
}

func FuzzAccept(f *testing.F) {
	for _, seed := range []string{"", "*/*", "application/vnd.api+json;q=0", `application/vnd.api+json;x="\",`, `a;b="c,d",e`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if !acceptable([]string{header, mediaType}) || !acceptable([]string{mediaType + "," + header}) {
			t.Errorf("%q spoils the plain type", header)
		}
		if !strings.Contains(strings.ToLower(header), mediaType) && !acceptable([]string{header}) {
			t.Errorf("%q refused without naming the type", header)
		}
		if strings.Join(split(header), ",") != header {
			t.Errorf("%q is split into %q", header, split(header))
		}
		r := httptest.NewRequest("GET", "/", http.NoBody)
		r.Header.Set("Content-Type", header)
		supportedContent(r, true)
	})
}
