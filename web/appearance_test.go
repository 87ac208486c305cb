package web

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"gatehouse.dev/gatehouse/configs"
)

// tokens reads the colours of a style sheet by theme.
func tokens(t *testing.T, css string) (light, dark map[string]string) {
	t.Helper()
	parts := strings.Split(css, "@media (prefers-color-scheme")
	if len(parts) < 2 {
		t.Fatal("no dark theme")
	}
	read := func(part string, into map[string]string) map[string]string {
		for _, m := range regexp.MustCompile(`--([a-z-]+):\s*(#[0-9a-f]{6})`).FindAllStringSubmatch(part, -1) {
			into[m[1]] = m[2]
		}
		return into
	}
	light = read(parts[0], map[string]string{})
	dark = read(parts[1], map[string]string{})
	return light, dark
}

// TestColoursCanBeRead: every pair of writing and ground that the style sheet
// uses, in both themes, also with an operator's accent of the least contrast.
func TestColoursCanBeRead(t *testing.T) {
	css, err := staticFiles.ReadFile("static/style.css")
	if err != nil {
		t.Fatal(err)
	}
	light, dark := tokens(t, string(css))
	if light["card"] != configs.LightCard || dark["card"] != configs.DarkCard || darkCard != configs.DarkCard {
		t.Errorf("cards are %s and %s: accents are judged against others", light["card"], dark["card"])
	}
	pairs := []struct {
		text, ground string
		least        float64
	}{
		{"text", "card", 7}, {"text", "ground", 7}, {"text", "arch", 7}, {"text", "note-tint", 7},
		{"soft", "card", 4.5}, {"soft", "ground", 4.5}, {"soft", "arch", 4.5},
		{"accent", "card", 4.5}, {"accent-strong", "card", 4.5}, {"accent-strong", "accent-tint", 4.5},
		{"on-accent", "accent", 4.5}, {"on-accent", "accent-strong", 4.5},
		{"bad", "card", 4.5}, {"bad", "bad-tint", 4.5}, {"bad", "note-tint", 4.5}, {"on-bad", "bad", 4.5}, {"soft", "note-tint", 4.5},
		{"text", "accent-tint", 7}, {"soft", "accent-tint", 4.5}, {"bad", "accent-tint", 4.5}, {"good", "good-tint", 4.5}, {"on-tile", "tile", 4.5},
		{"input", "card", 3}, {"accent", "ground", 3}, {"accent", "arch", 3}, {"accent", "note-tint", 4.5},
	}
	judge := func(name string, of map[string]string, own bool) {
		for _, p := range pairs {
			if of[p.text] == "" || of[p.ground] == "" {
				t.Fatalf("%s: no colour %s or %s", name, p.text, p.ground)
			}
			least := p.least
			if own && p.ground == "note-tint" {
				least = 4 // a link in a notice, which is underlined
			}
			if got := configs.Contrast(of[p.text], of[p.ground]); got < least {
				t.Errorf("%s: %s on %s has %.2f:1, and needs %.1f:1", name, p.text, p.ground, got, least)
			}
		}
	}
	judge("light", light, false)
	judge("dark", dark, false)
	for _, accent := range []struct{ light, dark string }{{"#767676", "#8a8a8a"}, {"#9b1c4a", "#f19ab9"}, {"#000000", "#ffffff"}, {"#b45309", "#ffd400"}} {
		if configs.Contrast(accent.light, configs.LightCard) < configs.MinContrast || configs.Contrast(accent.dark, configs.DarkCard) < configs.MinContrast {
			t.Fatalf("%v would be refused", accent)
		}
		ownLight, ownDark := tokens(t, strings.Replace(string(accentStyle(accent.light, accent.dark)), "@media (prefers-color-scheme:", "@media (prefers-color-scheme", 1))
		for _, theme := range []struct {
			name      string
			base, own map[string]string
		}{{"light", light, ownLight}, {"dark", dark, ownDark}} {
			of := map[string]string{}
			for k, v := range theme.base {
				of[k] = v
			}
			for k, v := range theme.own {
				if of[k] == "" {
					t.Errorf("the realm's style sheet sets %s, which there is not", k)
				}
				of[k] = v
			}
			judge(accent.light+" "+theme.name, of, true)
		}
	}
}

func TestMonograms(t *testing.T) {
	for name, want := range map[string]string{"Photo Album": "PA", "calendar": "C", "  über uns ": "ÜU", "Ärzte ohne Grenzen e.V.": "ÄE", "(beta) App": "BA",
		"": "?", "…": "?", "42": "4", "<script>": "S", "\u202eevil": "E", "写真 帳": "写帳"} {
		if got := monogram(name); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
}

func TestAppearanceIsChecked(t *testing.T) {
	for name, a := range map[string]Appearance{
		"one accent":        {Accent: "#17605c"},
		"no colour":         {Accent: "red", AccentDark: "#ffffff"},
		"more than colours": {Accent: "#17605c;}body{display:none", AccentDark: "#ffffff"},
		"capitals":          {Accent: "#17605C", AccentDark: "#FFFFFF"},
		"a logo of HTML":    {Logo: &Image{Body: []byte("<p>"), Media: "text/html"}},
		"an empty logo":     {Logo: &Image{Media: "image/png"}},
	} {
		p := &Pages{}
		if err := p.loadAssets(); err != nil {
			t.Fatal(err)
		}
		if p.loadAppearance(a) == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestStaticFilesAreNamedAfterTheirContent(t *testing.T) {
	p := &Pages{path: "/realms/staff"}
	if err := p.loadAssets(); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"style.css", "mark.svg", "pages.js"} {
		name := p.names[file]
		if !regexp.MustCompile(`^/realms/staff/static/[a-z]+\.[0-9a-f]{16}\.[a-z]+$`).MatchString(name) {
			t.Errorf("%s is served as %q", file, name)
		}
		a := p.assets[name[strings.LastIndex(name, "/")+1:]]
		if len(a.body) == 0 || a.media == "" {
			t.Errorf("%s: %d bytes of type %q", file, len(a.body), a.media)
		}
		// Nothing that a file loads comes from elsewhere.
		if text := strings.ReplaceAll(string(a.body), "http://www.w3.org/2000/svg", ""); regexp.MustCompile(`https?:|//[a-z]+\.|@import|url\(`).MatchString(text) {
			t.Errorf("%s refers to another host", file)
		}
	}
	if err := p.loadAppearance(Appearance{Accent: "#17605c", AccentDark: "#77cbc1"}); err != nil {
		t.Fatal(err)
	}
	if len(p.styles) != 2 || !regexp.MustCompile(`^/realms/staff/static/realm-[0-9a-f]{16}\.css$`).MatchString(p.styles[1]) {
		t.Errorf("style sheets %v", p.styles)
	}
}

// TestAgainLeadsNowhereElse: the link that asks once more is a path of ours.
func TestAgainLeadsNowhereElse(t *testing.T) {
	for _, c := range []struct{ method, target, want string }{
		{"GET", "/authorize?b=2&a=1", "/authorize?a=1&b=2"},
		{"GET", "/authorize?gatehouse_stamp=x&a=1", "/authorize?a=1"},
		{"GET", "/login", "/login"},
		{"POST", "/login", ""},
		{"HEAD", "/login", ""},
		{"GET", "http://h.example//evil.example/x", ""},
		{"GET", "http://h.example/%5Cevil.example", "/%5Cevil.example"},
		{"GET", "http://h.example/%2F/evil.example", "/%2F/evil.example"},
		{"GET", "/login?%zz", ""},
	} {
		r := httptest.NewRequest(c.method, "/", nil)
		u, err := r.URL.Parse(c.target)
		if err != nil {
			t.Fatal(err)
		}
		if r.URL = u; again(r) != c.want {
			t.Errorf("%s %s: %q, want %q", c.method, c.target, again(r), c.want)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	if r.URL.Path = "\\\\evil.example"; again(r) != "" {
		t.Errorf("%q", again(r))
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

// FuzzImageType: no bytes that a client's host sends make it fail, and what it
// takes is of a type that browsers don't run.
func FuzzImageType(f *testing.F) {
	for _, head := range []string{"\x89PNG\r\n\x1a\n", "GIF89a", "\xff\xd8\xff", "RIFF\x40\x00\x00\x00WEBPVP8X", "RIFF\x40\x00\x00\x00WEBPVP8L", "<svg/>"} {
		f.Add([]byte(head + strings.Repeat("\x01", 40)))
		f.Add([]byte(head))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		media, err := imageType(body)
		if err == nil && media != mediaPNG && media != mediaJPEG && media != mediaGIF && media != mediaWebP {
			t.Errorf("type %q", media)
		}
	})
}
