package web

import (
	"errors"
	"fmt"
	"html"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// product is the name of who has no other.
const product = "Gatehouse"

// Media types of images.
const (
	mediaPNG  = "image/png"
	mediaJPEG = "image/jpeg"
	mediaWebP = "image/webp"
	mediaGIF  = "image/gif"
	mediaSVG  = "image/svg+xml"
)

// Appearance is what an operator makes of a realm's pages. The zero value is
// the product's own.
type Appearance struct {
	Name string // in front of every page and in its title; empty: the product's
	Logo *Image // nil: the product's mark, or a monogram where Name is set

	// Accent and AccentDark are colours, #rrggbb, of buttons and links on light
	// and on dark ground: both or none. Whoever chooses them sees to it that
	// Accent is readable on white and AccentDark on the dark card.
	Accent, AccentDark string

	Links []Link // at the foot of every page
}

// Image is a picture of our own.
type Image struct {
	Body  []byte
	Media string // image/png, image/jpeg, image/webp or image/svg+xml
}

// Link leads to another site.
type Link struct {
	Text string
	URL  string // absolute, https, http or mailto
}

// brand is Appearance as templates see it.
type brand struct {
	Name     string
	Logo     string // URL; empty: none
	Monogram string // where there is no logo, but a name; empty: the product's mark
	Links    []Link
}

var hexColour = regexp.MustCompile(`^#[0-9a-f]{6}$`)

// loadAppearance makes files and links of the configuration's appearance.
func (p *Pages) loadAppearance(a Appearance) error {
	p.brand = brand{Name: a.Name, Links: a.Links}
	p.icon = p.names["mark.svg"]
	p.styles = []string{p.names["style.css"]}
	switch {
	case a.Name == "":
		p.brand.Name = product
	case a.Logo == nil:
		p.brand.Monogram = monogram(a.Name)
	}
	if a.Logo != nil {
		ext, ok := map[string]string{mediaPNG: ".png", mediaJPEG: ".jpg", mediaWebP: ".webp", mediaSVG: ".svg"}[a.Logo.Media]
		if !ok || len(a.Logo.Body) == 0 {
			return fmt.Errorf("web: a logo of type %q", a.Logo.Media)
		}
		p.brand.Logo = p.addAsset("logo."+digest(a.Logo.Body)+ext, a.Logo.Media, a.Logo.Body)
		p.icon = p.brand.Logo
	}
	if a.Accent == "" && a.AccentDark == "" {
		return nil
	}
	if !hexColour.MatchString(a.Accent) || !hexColour.MatchString(a.AccentDark) {
		return errors.New("web: accent colours must be both of the form #rrggbb")
	}
	css := accentStyle(a.Accent, a.AccentDark)
	p.styles = append(p.styles, p.addAsset("realm-"+digest(css)+".css", "text/css; charset=utf-8", css))
	return nil
}

// accentStyle is a style sheet that replaces the accent and what is mixed from
// it. It stands behind style.css, whose tokens it sets.
func accentStyle(light, dark string) []byte {
	tokens := func(accent, toward, ground, on string) string {
		return fmt.Sprintf(":root{--accent:%s;--accent-strong:%s;--accent-tint:%s;--on-accent:%s}",
			accent, mix(accent, toward, 0.2), mix(accent, ground, 0.9), on)
	}
	return []byte(tokens(light, "#000000", "#ffffff", "#ffffff") + "\n@media (prefers-color-scheme:dark){" +
		tokens(dark, "#ffffff", darkCard, "#0b1013") + "}\n")
}

// darkCard is the colour of cards on dark ground, as in style.css.
const darkCard = "#1a2126"

// mix is a colour on its way to another, from 0 (not begun) to 1 (arrived).
func mix(from, to string, part float64) string {
	var out strings.Builder
	out.WriteByte('#')
	for i := 1; i < 7; i += 2 {
		a, _ := strconv.ParseUint(from[i:i+2], 16, 8) // both are #rrggbb
		b, _ := strconv.ParseUint(to[i:i+2], 16, 8)
		fmt.Fprintf(&out, "%02x", int(float64(a)*(1-part)+float64(b)*part+0.5))
	}
	return out.String()
}

// monogram is what stands for a name on a tile: the first letter or digit of
// its first word and of its last.
func monogram(name string) string {
	var letters []rune
	for _, word := range strings.Fields(name) {
		for _, c := range word {
			if unicode.IsLetter(c) || unicode.IsDigit(c) {
				letters = append(letters, unicode.ToUpper(c))
				break
			}
		}
	}
	switch len(letters) {
	case 0:
		return "?"
	case 1:
		return string(letters)
	}
	return string(letters[0]) + string(letters[len(letters)-1])
}

// monogramTile is a monogram as a picture, in the colours of style.css's tile.
func monogramTile(name string) asset {
	letters := monogram(name)
	size := 30
	if utf8.RuneCountInString(letters) > 1 {
		size = 25
	}
	return asset{media: mediaSVG, body: fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">`+
		`<rect width="64" height="64" fill="#3c4a55"/><text x="32" y="33" fill="#ffffff" font-family="sans-serif" font-size="%d" font-weight="600" `+
		`text-anchor="middle" dominant-baseline="central">%s</text></svg>`, size, html.EscapeString(letters))}
}
