package web

import (
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

func ourCatalogue(t *testing.T) *catalogue {
	t.Helper()
	c, err := loadCatalogue(textFiles, "texts")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCatalogueIsComplete: all languages have all keys with the same
// placeholders, which loading checks, and the keys that the code makes exist.
func TestCatalogueIsComplete(t *testing.T) {
	c := ourCatalogue(t)
	if len(c.languages) < 2 || c.languages[0].lang != "en" {
		t.Fatalf("%d languages", len(c.languages))
	}
	for _, l := range c.languages {
		for _, p := range []problem{errLink, errForm, errFormType, errLarge, errCrossSite, errNotAsked, errMethod,
			errMissing, errUnavailable, errInternal, errRequest, errCookies} {
			for _, part := range []string{".title", ".text"} {
				if _, err := l.text("error." + p.name + part); err != nil {
					t.Error(err)
				}
			}
		}
		for _, key := range scopeText {
			if _, err := l.text(key); err != nil {
				t.Error(err)
			}
		}
		v := view{texts: l}
		for month := range 12 {
			if _, err := v.Date(time.Date(2031, time.Month(month+1), 1, 0, 0, 0, 0, time.UTC)); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestCatalogueRefuses what would show a person a hole.
func TestCatalogueRefuses(t *testing.T) {
	const en = "a.title = Hello\na.name = Hello {name}\na.things[one] = one thing\na.things[other] = {n} things\n"
	load := func(files ...string) error {
		dir := fstest.MapFS{}
		for i := 0; i < len(files); i += 2 {
			dir["texts/"+files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
		}
		_, err := loadCatalogue(dir, "texts")
		return err
	}
	const de = "# Kommentar\n\na.title = Hallo\na.name = {name}, hallo\na.things[one] = ein Ding\na.things[other] = {n} Dinge\n"
	const pl = "a.title = a\na.name = {name}\na.things[one] = {n} a\na.things[few] = {n} b\na.things[many] = {n} c\n"
	if err := load("en.txt", en, "de.txt", de); err != nil {
		t.Fatal(err)
	}
	if err := load("en.txt", en, "pl.txt", pl); err != nil {
		t.Fatal(err)
	}
	replaced := func(old, text string) string {
		if !strings.Contains(de, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(de, old, text, 1)
	}
	for name, c := range map[string]struct{ file, text, want string }{
		"no line":                {"de.txt", replaced("a.title = Hallo", "a.title"), "de.txt:3: not of the form"},
		"a key of capitals":      {"de.txt", replaced("a.title", "a.Title"), "de.txt:3: not of the form"},
		"no text":                {"de.txt", replaced("= Hallo", "=  "), "de.txt:3: a.title: empty"},
		"a space too many":       {"de.txt", replaced("Hallo\n", "Hallo \n"), "a space too many"},
		"a tab":                  {"de.txt", replaced("Hallo", "Hal\tlo"), "control characters"},
		"no UTF-8":               {"de.txt", replaced("Hallo", "Hal\xfflo"), "not UTF-8"},
		"a brace":                {"de.txt", replaced("Hallo", "{Hallo"), "a brace that belongs to no {name}"},
		"a key twice":            {"de.txt", de + "a.title = Hallo\n", "stands there twice"},
		"a key missing":          {"de.txt", replaced("a.title = Hallo\n", ""), "de: a.title is missing"},
		"a key too many":         {"de.txt", de + "a.more = mehr\n", "de: a.more is a key that en has not"},
		"another placeholder":    {"de.txt", replaced("{name}", "{client}"), "de: a.name has the placeholders [{client}], and not [{name}]"},
		"no placeholder":         {"de.txt", replaced("{name}, ", ""), "de: a.name has the placeholders"},
		"a plural form missing":  {"de.txt", replaced("a.things[one] = ein Ding\n", ""), "de: a.things has the plural forms [other], and not [one other]"},
		"an unknown plural form": {"de.txt", de + "a.things[few] = Dinge\n", "plural forms [few one other]"},
		"plural without number":  {"de.txt", replaced("{n} ", ""), "a.things[other] has the placeholders"},
		"a plural of one":        {"de.txt", replaced("a.title", "a.title[one]"), "must have plural forms in all languages, or in none"},
		"English rules":          {"pl.txt", strings.ReplaceAll(de, "#", "#"), "pl: a.things has the plural forms [one other], and not [few many one]"},
		"no language":            {"zz-zz-zz.txt", de, "no language tag"},
		"an unusual spelling":    {"DE.txt", de, "no language tag in its usual spelling"},
	} {
		if err := load("en.txt", en, c.file, c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if err := load("de.txt", de); err == nil {
		t.Error("loaded without English")
	}
	if err := load("en.txt", "a = \x00\nb\n"); err == nil || strings.Count(err.Error(), "en.txt:") != 2 {
		t.Errorf("not all faults at once: %v", err)
	}
}

// TestTemplatesUseTheCatalogue finds keys that a template names and the
// catalogue lacks, and texts that nobody uses.
func TestTemplatesUseTheCatalogue(t *testing.T) {
	english := ourCatalogue(t).languages[0]
	used := map[string]bool{}
	call := regexp.MustCompile(`(?:[^A-Za-z]|\$v)\.(T|Name|Fill) "([^"]+)"`)
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		source, err := fs.ReadFile(templateFiles, file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllStringSubmatch(string(source), -1) {
			used[m[2]] = true
			text, err := english.text(m[2])
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			n := len(slices.Compact(slices.Sorted(slices.Values(placeholder.FindAllString(text, -1)))))
			if want := map[string]bool{"T": n == 0, "Name": n == 1, "Fill": n > 0}[m[1]]; !want {
				t.Errorf("%s: %s %q, but its text is %q", file, m[1], m[2], text)
			}
		}
	}
	// What Go names is a literal of its own, without the plural form.
	sources, err := filepath.Glob("*.go")
	if err != nil || len(sources) < 10 {
		t.Fatal(sources, err)
	}
	var program strings.Builder
	for _, file := range sources {
		if source, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		} else if !strings.HasSuffix(file, "_test.go") {
			program.Write(source)
		}
	}
	made := regexp.MustCompile(`^(admin\.(endall|lock|unlock)\.|admin\.filter\.(hour|day|week|month)|admin\.(ended|find\.found)$|account\.tab\.|done\.|end\.(others|all)\.|reason\.|error\.[a-z]+\.(title|text)|scope\.|month\.|wait\.|date$|time\.utc$|login\.(empty|wrong|locked|busy|throttled)|[a-z]+\.title$|consent\.(about|policy|terms)|logout\.more|notice\.over)`)
	for key := range english.of {
		name, _ := base(key)
		if !used[key] && !made.MatchString(key) && !made.MatchString(name) && !strings.Contains(program.String(), strconv.Quote(name)) {
			t.Errorf("nobody uses %s", key)
		}
	}
}

// TestEveryReasonHasWords: what can stand in a history can be told.
func TestEveryReasonHasWords(t *testing.T) {
	source, err := os.ReadFile("../sessions/session.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`Reason\w+ +Reason = "(\w+)"`).FindAllStringSubmatch(string(source), -1)
	if len(found) < 14 {
		t.Fatalf("there are %d reasons only", len(found))
	}
	english := ourCatalogue(t).languages[0]
	for _, m := range found {
		if key := reasonText(sessions.Reason(m[1])); key != "reason."+m[1] {
			t.Errorf("%s is told as %s", m[1], key)
		} else if _, err := english.text(key); err != nil {
			t.Error(err)
		}
	}
	if key := reasonText("of_a_later_release"); key != "reason.other" {
		t.Errorf("an unknown one is told as %s", key)
	}
}

func TestLanguage(t *testing.T) {
	c := ourCatalogue(t)
	for _, tt := range []struct {
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
		{"authorization request behind a page", nil, "?as=x&stamp=y&request=client_id%3Da%26ui_locales%3Dde", "en", "de"},
		{"unreadable request behind a page", nil, "?request=%25zz", "de", "de"},
		{"quality zero", nil, "", "de;q=0, en", "en"},
		{"nonsense", []string{"\x00", "zz-zz-zz-zz", "%%"}, "", ";;;,,,q=", "en"},
		{"too long to be read", []string{"de-" + strings.Repeat("x", 600)}, "", "de" + strings.Repeat(",de", 400), "en"},
		{"the eleventh is not read", []string{"x", "x", "x", "x", "x", "x", "x", "x", "x", "x", "de"}, "", "", "en"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/login"+tt.query, nil)
			r.Header.Set("Accept-Language", tt.accept)
			if got := c.choose(tt.locales, r).lang; got != tt.want {
				t.Errorf("language %q, want %q", got, tt.want)
			}
		})
	}
	locales := append(make([]string, 0, 4), "de")
	c.choose(locales, httptest.NewRequest("GET", "/", nil))
	if all := locales[:2]; all[1] != "" {
		t.Errorf("wrote %q behind the request's locales", all[1])
	}
}

func TestWaitInWords(t *testing.T) {
	c := ourCatalogue(t)
	for d, want := range map[time.Duration]map[string]string{
		time.Millisecond:                {"en": "one second", "de": "einer Sekunde"},
		time.Second:                     {"en": "one second", "de": "einer Sekunde"},
		30 * time.Second:                {"en": "30 seconds", "de": "30 Sekunden"},
		59*time.Second + 1:              {"en": "one minute", "de": "einer Minute"},
		time.Minute:                     {"en": "one minute", "de": "einer Minute"},
		61 * time.Second:                {"en": "2 minutes", "de": "2 Minuten"},
		15 * time.Minute:                {"en": "15 minutes", "de": "15 Minuten"},
		59*time.Minute + 30*time.Second: {"en": "one hour", "de": "einer Stunde"},
		time.Hour:                       {"en": "one hour", "de": "einer Stunde"},
		90 * time.Minute:                {"en": "2 hours", "de": "2 Stunden"},
		24 * time.Hour:                  {"en": "24 hours", "de": "24 Stunden"},
	} {
		for _, l := range c.languages {
			if got, err := (view{texts: l}).Wait(d); err != nil || got != want[l.lang] {
				t.Errorf("%v is %q, %v; want %q", d, got, err, want[l.lang])
			}
		}
	}
}

func TestTimesInWords(t *testing.T) {
	c := ourCatalogue(t)
	at := time.Date(2031, 5, 6, 0, 4, 30, 0, time.FixedZone("", 2*3600))
	for i, want := range []string{"5 May 2031", "5. Mai 2031"} {
		v := view{texts: c.languages[i]}
		if got, err := v.Date(at); err != nil || !strings.Contains(string(got), ">"+want+"<") {
			t.Errorf("%s, %v; want %s", got, err, want)
		}
		// Never earlier than it is.
		if got, err := v.Clock(at); err != nil || string(got) != `<time datetime="2031-05-05T22:05:00Z" data-local="time">22:05 UTC</time>` {
			t.Errorf("%s, %v", got, err)
		}
	}
}

// TestNamesInTextsAreEscaped: Name and Fill build HTML themselves.
func TestNamesInTextsAreEscaped(t *testing.T) {
	v := view{texts: ourCatalogue(t).languages[0]}
	got, err := v.Name("login.for", `</bdi><script>alert("1")</script>&{client}`)
	want := `to continue to <strong><bdi>&lt;/bdi&gt;&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;&amp;{client}</bdi></strong>`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
	for name, fault := range map[string]func() error{
		"a missing text":            func() error { _, err := v.Name("no.such.key", "x"); return err },
		"a text without its name":   func() error { _, err := v.T("login.for"); return err },
		"a name without its place":  func() error { _, err := v.Name("login.title", "x"); return err },
		"a placeholder left open":   func() error { _, err := v.Fill("login.for"); return err },
		"a value that is no text":   func() error { _, err := v.Fill("login.for", "client", 1); return err },
		"a placeholder and no more": func() error { _, err := v.Fill("login.for", "client"); return err },
	} {
		if fault() == nil {
			t.Errorf("%s is no error", name)
		}
	}
}
