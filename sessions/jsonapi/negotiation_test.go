package jsonapi

import (
	"net/http"
	"net/http/httptest"
	"net/url"
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
		if got := supportedContent(r); got != c.want {
			t.Errorf("%q with %q: %t", c.header, c.body, got)
		}
	}
}

func TestQueryParameters(t *testing.T) {
	supported := []string{"page[size]", "excludeCurrent"}
	for _, c := range []struct {
		query, name string
		found       bool
	}{
		{"", "", false},
		{"&&", "", false},
		{"page[size]=1", "", false},
		{"page%5Bsize%5D=1&excludeCurrent", "", false},
		{"excludecurrent=true", "excludecurrent", true},
		{"excludeCurrent=true&include=", "include", true},
		{"excludeCurrent=%zz", "excludeCurrent", true},
		{"excludeCurrent=true;x", "excludeCurrent", true},
		{"excludeCurrent;=true", "excludeCurrent;", true},
		{"page[size", "page[size", true},
		{"+excludeCurrent", " excludeCurrent", true},
		{"=", "", true},
		{"%", "%", true},
	} {
		if name, found := unsupportedParameter(c.query, supported); name != c.name || found != c.found {
			t.Errorf("%q: %q, %t", c.query, name, found)
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
		supportedContent(r)
	})
}

func FuzzQueryParameters(f *testing.F) {
	for _, seed := range []string{"", "a=b", "a;b", "%zz=1", "page[size]=1&sort=", "&=&"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		name, found := unsupportedParameter(query, []string{"page[size]"})
		values, err := url.ParseQuery(query)
		if err != nil {
			if !found {
				t.Errorf("%q: undecodable and taken", query)
			}
			return
		}
		for key := range values {
			if key != "page[size]" && !found {
				t.Errorf("%q: %q taken", query, key)
			}
		}
		if _, ok := values[name]; found && !ok {
			t.Errorf("%q: %q is not in it", query, name)
		}
	})
}
