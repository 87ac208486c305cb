package web

import (
	"io/fs"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCatalogueIsComplete(t *testing.T) {
	for key, e := range catalogue {
		for column, text := range e {
			if text == "" {
				t.Errorf("%s: no text in %s", key, languages[column])
			}
			if strings.Count(text, "%s") != strings.Count(e[0], "%s") || strings.Count(text, "%s") > 1 {
				t.Errorf("%s: %q takes another number of names", key, text)
			}
		}
	}
	for _, p := range []problem{errLink, errForm, errFormType, errLarge, errCrossSite, errNotAsked, errMethod,
		errMissing, errUnavailable, errInternal, errRequest, errCookies} {
		for _, part := range []string{".title", ".text"} {
			if _, ok := catalogue["error."+p.name+part]; !ok {
				t.Errorf("no text for %s%s", p.name, part)
			}
		}
	}
	for name, key := range scopeText {
		if _, ok := catalogue[key]; !ok {
			t.Errorf("no text for scope %s", name)
		}
	}
}

// TestTemplatesUseTheCatalogue finds keys that a template names and the
// catalogue lacks, a name for a text that takes none and the other way round.
func TestTemplatesUseTheCatalogue(t *testing.T) {
	call := regexp.MustCompile(`[^D]\.(T|Name) "([^"]+)"`)
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil || len(files) < 7 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		source, err := fs.ReadFile(templateFiles, file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllStringSubmatch(string(source), -1) {
			e, ok := catalogue[m[2]]
			if !ok {
				t.Errorf("%s: no text %q", file, m[2])
			} else if named := strings.Contains(e[0], "%s"); named != (m[1] == "Name") {
				t.Errorf("%s: %s %q, but its text is %q", file, m[1], m[2], e[0])
			}
		}
		for _, forbidden := range []string{"<script", "style=", " on", "javascript:", "<style", "http://", "https://"} {
			if forbidden == " on" && !regexp.MustCompile(` on[a-z]+=`).Match(source) {
				continue
			}
			if forbidden != " on" && strings.Contains(string(source), forbidden) {
				t.Errorf("%s has %q", file, forbidden)
			}
		}
	}
}

func TestLanguage(t *testing.T) {
	for _, c := range []struct {
		name    string
		locales []string
		query   string
		accept  string
		want    string
	}{
		{"nothing said", nil, "", "", "en"},
		{"browser", nil, "", "de-CH,de;q=0.9,en;q=0.8", "de"},
		{"browser prefers another that we have not", nil, "", "fr, de;q=0.5", "de"},
		{"request before browser", []string{"en-GB"}, "", "de", "en"},
		{"request in the order of preference", []string{"fr", "de", "en"}, "", "en", "de"},
		{"request names only what we have not", []string{"fr"}, "", "de", "de"},
		{"query of an authorization request", nil, "?ui_locales=fr+de", "en", "de"},
		{"quality zero", nil, "", "de;q=0, en", "en"},
		{"nonsense", []string{"\x00", "zz-zz-zz-zz", "%%"}, "", ";;;,,,q=", "en"},
		{"too long to be read", []string{"de-" + strings.Repeat("x", 600)}, "", "de" + strings.Repeat(",de", 400), "en"},
		{"the eleventh is not read", []string{"x", "x", "x", "x", "x", "x", "x", "x", "x", "x", "de"}, "", "", "en"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/login"+c.query, nil)
			r.Header.Set("Accept-Language", c.accept)
			if got := language(c.locales, r).lang; got != c.want {
				t.Errorf("language %q, want %q", got, c.want)
			}
		})
	}
}

func TestLanguageLeavesTheRequestAlone(t *testing.T) {
	locales := append(make([]string, 0, 4), "de")
	language(locales, httptest.NewRequest("GET", "/", nil))
	if all := locales[:2]; all[1] != "" {
		t.Errorf("wrote %q behind the request's locales", all[1])
	}
}

// TestLogoOrigin: what is put into the policy means one origin and ends no
// directive.
func TestLogoOrigin(t *testing.T) {
	p := &Pages{origin: "http://localhost:8080"}
	for uri, want := range map[string]string{
		"https://cdn.example/logo.png":                         "https://cdn.example",
		"https://cdn.example:8443/a;b,c?d='":                   "https://cdn.example:8443",
		"https://[2001:db8::1]/logo.png":                       "https://[2001:db8::1]",
		"http://localhost:8080/static/logo.png":                "", // our own origin: shown, nothing to allow
		"":                                                     "-",
		"/logo.png":                                            "-",
		"logo.png":                                             "-",
		"//cdn.example/logo.png":                               "-",
		"http://cdn.example/logo.png":                          "-",
		"http://localhost:8081/logo.png":                       "-",
		"data:image/png;base64,AAAA":                           "-",
		"javascript:alert(1)":                                  "-",
		"https://*/logo.png":                                   "-",
		"https://*.example/logo.png":                           "-",
		"https://a;script-src/logo.png":                        "-",
		"https://a,b/logo.png":                                 "-",
		"https://a'unsafe-inline'/logo.png":                    "-",
		"https://user:secret@cdn.example/logo.png":             "-",
		"https:///logo.png":                                    "-",
		"https://cdn.example%3B/logo.png":                      "-",
		"https://cdn.example:*/logo.png":                       "-",
		"https://cdn.example\r\nSet-Cookie: a=b/logo.png":      "-",
		"https://bücher.example/logo.png":                      "-",
		"https://cdn.example; script-src 'unsafe-inline'/x.js": "-",
	} {
		logo, origin := p.logo(uri)
		switch {
		case want == "-" && (logo != "" || origin != ""):
			t.Errorf("%q is shown as %q from %q", uri, logo, origin)
		case want != "-" && (logo != uri || origin != want):
			t.Errorf("%q gives %q from %q, want %q", uri, logo, origin, want)
		}
	}
}

func TestUserAgentIsBoundedText(t *testing.T) {
	for _, ua := range []string{"", "Mozilla/5.0", strings.Repeat("a", 600), strings.Repeat("a", 511) + "ü", "a\xffb\xc3", strings.Repeat("\xc3", 600)} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("User-Agent", ua)
		got := userAgent(r)
		if len(got) > 512 || !utf8.ValidString(got) {
			t.Errorf("user agent of %d bytes became %d bytes, valid %v", len(ua), len(got), utf8.ValidString(got))
		}
	}
}

func TestStaticFilesAreNamedAfterTheirContent(t *testing.T) {
	p := &Pages{path: "/realms/staff"}
	if err := p.loadAssets(); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"style.css", "mark.svg"} {
		name := p.names[file]
		if !regexp.MustCompile(`^/realms/staff/static/[a-z]+\.[0-9a-f]{16}\.[a-z]+$`).MatchString(name) {
			t.Errorf("%s is served as %q", file, name)
		}
		a := p.assets[name[strings.LastIndex(name, "/")+1:]]
		if len(a.body) == 0 || a.media == "" {
			t.Errorf("%s: %d bytes of type %q", file, len(a.body), a.media)
		}
	}
}

// TestEmphasisedNamesAreEscaped: Name builds HTML itself.
func TestEmphasisedNamesAreEscaped(t *testing.T) {
	v := view{texts: texts{column: 0}}
	got, err := v.Name("login.for", `</bdi><script>alert("1")</script>&`)
	want := `to continue to <strong><bdi>&lt;/bdi&gt;&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;&amp;</bdi></strong>`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := v.Name("no.such.key", "x"); err == nil {
		t.Error("a missing text is no error")
	}
}

func TestOriginOfBase(t *testing.T) {
	for _, base := range []string{"", "localhost:8080", "http://", "https://id.example/", "https://id.example?x=1",
		"https://id.example#x", "ftp://id.example", "https://u@id.example", "/realms/staff", "http://[::1", "https://id.example/a/"} {
		if _, err := New(Config{Base: base}); err == nil || !strings.Contains(err.Error(), "base URL") {
			t.Errorf("base %q: %v", base, err)
		}
	}
	if _, err := New(Config{Base: "https://id.example/realms/staff"}); err == nil || !strings.Contains(err.Error(), "required") {
		t.Errorf("empty configuration: %v", err)
	}
}
