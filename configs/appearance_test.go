package configs

import (
	"bytes"
	"errors"
	"image"
	"image/png"
	"math"
	"os"
	"strings"
	"testing"
)

// withAppearance parses a configuration with an appearance, in flow style.
func withAppearance(t *testing.T, appearance string, files map[string]string) (*Appearance, Faults) {
	t.Helper()
	text := "key_encryption_key: " + testKey + "\nrealms:\n  default:\n    appearance: " + appearance + "\nauthorization_servers: {a: {}}\n"
	c, err := Parse("/etc/gatehouse/gatehouse.yaml", []byte(text), testEnv, testFiles(files))
	var faults Faults
	if errors.As(err, &faults) {
		return nil, faults
	}
	if err != nil {
		t.Fatal(err)
	}
	return &c.Realms["default"].Appearance, nil
}

func pngFile(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	if err := png.Encode(&out, image.NewRGBA(image.Rect(0, 0, 4, 4))); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

const svgFile = `<?xml version="1.0" encoding="UTF-8"?>
<!-- drawn by hand -->
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path d="M0 0h1v1z"/></svg>`

func TestAppearance(t *testing.T) {
	files := map[string]string{"/etc/gatehouse/logo.png": pngFile(t), "/srv/logo.svg": svgFile}
	a, faults := withAppearance(t, `{name: Example, logo_file: logo.png, accent: "#9B1C4A", accent_dark: "#f19ab9", links: [{text: Help, url: "https://help.example/"}, {text: Mail, url: "mailto:help@example.com"}]}`, files)
	if faults != nil {
		t.Fatal(faults)
	}
	if body, media := a.Logo(); string(body) != files["/etc/gatehouse/logo.png"] || media != "image/png" || a.Accent != "#9b1c4a" || a.AccentDark != "#f19ab9" || len(a.Links) != 2 {
		t.Errorf("%+v with %d bytes of %s", a, len(body), media)
	}
	if a, faults = withAppearance(t, `{logo_file: /srv/logo.svg, accent: "#102a54"}`, files); faults != nil {
		t.Fatal(faults)
	}
	if _, media := a.Logo(); media != "image/svg+xml" {
		t.Errorf("logo of type %s", media)
	}
	if ratio := Contrast(a.AccentDark, DarkCard); ratio < MinContrast || ratio > 9 {
		t.Errorf("the dark accent is %s, %.1f:1", a.AccentDark, ratio)
	}
	if a, faults = withAppearance(t, "{}", nil); faults != nil || a.Accent != "" || a.AccentDark != "" {
		t.Errorf("empty: %+v, %v", a, faults)
	}
}

func TestAppearanceFaults(t *testing.T) {
	files := map[string]string{
		"/etc/gatehouse/big.png": pngFile(t) + strings.Repeat("x", 256<<10), "/etc/gatehouse/page.svg": "<html><svg xmlns='http://www.w3.org/2000/svg'/></html>",
		"/etc/gatehouse/cut.svg": svgFile[:len(svgFile)-3], "/etc/gatehouse/other.svg": "<svg/>", "/etc/gatehouse/icon.gif": "GIF89a\x01\x00\x01\x00", "/etc/gatehouse/empty.png": "",
	}
	for _, c := range []struct{ appearance, place, want string }{
		{`{accent: "#77cbc1"}`, "4:26: realms.default.appearance.accent", "contrast of 1.8:1 to white, and text needs 4.5:1"},
		{`{accent: "#777777"}`, "4:26: realms.default.appearance.accent", "contrast of 4.4:1 to white, and text needs 4.5:1"},
		{`{accent: "#17605c", accent_dark: "#17605c"}`, "4:50: realms.default.appearance.accent_dark", "to the dark card"},
		{`{accent_dark: "#77cbc1"}`, "4:31: realms.default.appearance.accent_dark", "needs accent"},
		{`{accent: teal}`, "4:26: realms.default.appearance.accent", "form #rrggbb"},
		{`{accent: "#fff"}`, "4:26: realms.default.appearance.accent", "form #rrggbb"},
		{`{accent: "#17605c;}"}`, "4:26: realms.default.appearance.accent", "form #rrggbb"},
		{`{name: " x"}`, "4:24: realms.default.appearance.name", "1 to 60 characters"},
		{`{name: "` + strings.Repeat("ü", 61) + `"}`, "4:24: realms.default.appearance.name", "1 to 60 characters"},
		{`{name: "a\u0007"}`, "4:24: realms.default.appearance.name", "control characters"},
		{`{logo_file: none.png}`, "4:29: realms.default.appearance.logo_file", "does not exist"},
		{`{logo_file: big.png}`, "4:29: realms.default.appearance.logo_file", "more than 256 KiB"},
		{`{logo_file: page.svg}`, "4:29: realms.default.appearance.logo_file", "not a PNG, JPEG, WebP or SVG"},
		{`{logo_file: cut.svg}`, "4:29: realms.default.appearance.logo_file", "not a PNG, JPEG, WebP or SVG"},
		{`{logo_file: other.svg}`, "4:29: realms.default.appearance.logo_file", "not a PNG, JPEG, WebP or SVG"},
		{`{logo_file: icon.gif}`, "4:29: realms.default.appearance.logo_file", "not a PNG, JPEG, WebP or SVG"},
		{`{logo_file: empty.png}`, "4:29: realms.default.appearance.logo_file", "not a PNG, JPEG, WebP or SVG"},
		{`{links: [{text: x, url: "javascript:alert(1)"}]}`, "4:41: realms.default.appearance.links[0].url", "https URL"},
		{`{links: [{text: x, url: "http://www.example/"}]}`, "4:41: realms.default.appearance.links[0].url", "https URL"},
		{`{links: [{text: x, url: "https:///x"}]}`, "4:41: realms.default.appearance.links[0].url", "https URL"},
		{`{links: [{text: x, url: "//www.example/"}]}`, "4:41: realms.default.appearance.links[0].url", "https URL"},
		{`{links: [{text: x, url: "https://a:b@www.example/"}]}`, "4:41: realms.default.appearance.links[0].url", "no user name or password"},
		{`{links: [{text: x, url: "mailto:a@example.com?subject=x"}]}`, "4:41: realms.default.appearance.links[0].url", "mail address"},
		{`{links: [{url: "https://www.example/"}]}`, "4:26: realms.default.appearance.links[0].text", "1 to 40 characters"},
		{`{colour: red}`, "4:18: realms.default.appearance.colour", "unknown key"},
		{`{"": x}`, "4:18: realms.default.appearance.?", "unknown key"},
	} {
		_, faults := withAppearance(t, c.appearance, files)
		if len(faults) != 1 || !strings.Contains(faults[0].Error(), c.place) || !strings.Contains(faults[0].Message, c.want) {
			t.Errorf("%s:\n%v\nwant %s: %s", c.appearance, faults, c.place, c.want)
		}
	}
	many := `{links: [` + strings.Repeat(`{text: x, url: "https://x.example/"},`, 7) + `]}`
	if _, faults := withAppearance(t, many, nil); len(faults) != 1 || faults[0].Path != "realms.default.appearance.links" {
		t.Errorf("seven links: %v", faults)
	}
}

func TestScopeTexts(t *testing.T) {
	parse := func(scopes string) (*Config, Faults) {
		c, err := Parse("x.yaml", []byte("key_encryption_key: "+testKey+"\nauthorization_servers:\n  a:\n    scopes: "+scopes+"\n"), testEnv, nil)
		var faults Faults
		errors.As(err, &faults)
		return c, faults
	}
	c, faults := parse(`[{name: "photos:read", text: {en: see your photos, de: Ihre Fotos sehen, pt-BR: ver suas fotos}}]`)
	if faults != nil || *c.AuthorizationServers["a"].Scopes[0].Text["pt-BR"] != "ver suas fotos" {
		t.Fatal(faults)
	}
	for scopes, want := range map[string]string{
		`[{name: "a b", text: {en: x}}]`:                              "scopes[0].name: must be one scope name",
		`[{text: {en: x}}]`:                                           "scopes[0].name: must be one scope name",
		`[{name: a, text: {en: x}}, {name: a, text: {en: x}}]`:        "scopes[1].name: is described twice",
		`[{name: a}]`:                                                 "scopes[0].text: must have a text",
		`[{name: a, text: {}}]`:                                       "scopes[0].text: must have a text",
		`[{name: a, text: {en: }}]`:                                   "scopes[0].text.en: must be 1 to 200",
		`[{name: a, text: {english please: x}}]`:                      "scopes[0].text: has a key that is no language tag",
		`[{name: a, text: {DE: x}}]`:                                  "scopes[0].text: has a key that is no language tag",
		`[{name: a, text: {en: "` + strings.Repeat("x", 201) + `"}}]`: "scopes[0].text.en: must be 1 to 200",
		`[{name: a, text: see}]`:                                      "scopes[0].text: must be a mapping",
	} {
		if _, faults := parse(scopes); len(faults) != 1 || !strings.Contains(faults[0].Error(), want) {
			t.Errorf("%s:\n%v\nwant %s", scopes, faults, want)
		}
	}
}

// TestExampleOfThePagesGuideLoads takes the guide's example as it stands there.
func TestExampleOfThePagesGuideLoads(t *testing.T) {
	guide, err := os.ReadFile("../docs/pages.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(guide), "```yaml\n")
	example, _, found := strings.Cut(example, "```")
	if !found {
		t.Fatal("the guide has no example")
	}
	c, err := Parse("x.yaml", []byte("key_encryption_key: "+testKey+"\n"+example), testEnv, testFiles(map[string]string{"logo.svg": svgFile}))
	if err != nil {
		t.Fatal(err)
	}
	if a := c.Realms["default"].Appearance; a.Name == "" || a.logoMedia != "image/svg+xml" || len(a.Links) != 3 || len(c.AuthorizationServers["main"].Scopes) != 1 {
		t.Errorf("%+v", a)
	}
}

// TestContrast against values that WCAG's own examples and tools give.
func TestContrast(t *testing.T) {
	for pair, want := range map[[2]string]float64{
		{"#000000", "#ffffff"}: 21, {"#ffffff", "#ffffff"}: 1, {"#767676", "#ffffff"}: 4.54, {"#777777", "#ffffff"}: 4.48, {"#ff0000", "#ffffff"}: 4.0,
	} {
		if got := Contrast(pair[0], pair[1]); math.Abs(got-want) > 0.01 || got != Contrast(pair[1], pair[0]) {
			t.Errorf("%v: %.3f, want %.2f", pair, got, want)
		}
	}
}
