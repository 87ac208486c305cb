package configs

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/mail"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/language"

	"gatehouse.dev/gatehouse/clients"
)

// Appearance is what an operator makes of a realm's pages. Empty fields leave
// the product's own look.
type Appearance struct {
	Name       string           `yaml:"name"`        // in front of every page
	LogoFile   string           `yaml:"logo_file"`   // relative to the configuration file
	Accent     string           `yaml:"accent"`      // #rrggbb in lower case; both accents are set, or none
	AccentDark string           `yaml:"accent_dark"` // the same, on dark ground
	Links      []AppearanceLink `yaml:"links"`       // at the foot of every page

	logo      []byte
	logoMedia string
}

// AppearanceLink leads to a page of the operator's.
type AppearanceLink struct {
	Text string `yaml:"text"`
	URL  string `yaml:"url"` // https, http on a loopback host, or mailto
}

// Logo is what LogoFile held when the configuration was read, and its media
// type: image/png, image/jpeg, image/webp or image/svg+xml. Nil and empty where
// there is none.
func (a *Appearance) Logo() (body []byte, media string) { return a.logo, a.logoMedia }

// Scope describes a permission for people.
type Scope struct {
	Name string             `yaml:"name"`
	Text map[string]*string `yaml:"text"` // by language (BCP 47); completes "would like to:"
}

// What accents must be readable on: the cards of the pages, which have these
// colours, and the writing on a button in the accent's colour, which on light
// ground is the card's and on dark ground is darker than the card.
const (
	LightCard = "#ffffff"
	DarkCard  = "#1a2126"
	// MinContrast is the contrast that text needs (WCAG 2.2, 1.4.3).
	MinContrast = 4.5
)

const (
	maxLogoFile   = 256 << 10
	maxLinks      = 6
	maxName       = 60  // characters
	maxLinkText   = 40  // characters
	maxScopeText  = 200 // characters
	badShownText  = "must be 1 to %d characters, without spaces around and control characters"
	badColour     = "must be a colour of the form #rrggbb (put it in quotes)"
	badLanguage   = "has a key that is no language tag in its usual spelling, such as en, de or pt-BR"
	badScopeTexts = "must have a text in at least one language"
)

var hexColour = regexp.MustCompile(`^#[0-9A-Fa-f]{6}$`)

// appearance checks what an operator makes of the pages, reads the logo and
// completes the colours.
func (v validation) appearance(path string, a *Appearance) {
	if a.Name != "" {
		v.check(path+".name", shownFault(a.Name, maxName))
	}
	v.logo(path+".logo_file", a)
	v.accents(path, a)
	if len(a.Links) > maxLinks {
		v.check(path+".links", fmt.Sprintf("must be at most %d", maxLinks))
	}
	for i, link := range a.Links {
		at := element(path+".links", i)
		v.check(at+".text", shownFault(link.Text, maxLinkText))
		v.check(at+".url", linkFault(link.URL))
	}
}

// shownFault judges a text of one line that pages show.
func shownFault(text string, limit int) string {
	if text == "" || utf8.RuneCountInString(text) > limit || strings.TrimSpace(text) != text || strings.ContainsFunc(text, unicode.IsControl) {
		return fmt.Sprintf(badShownText, limit)
	}
	return ""
}

func linkFault(raw string) string {
	const want = "must be an https URL, an http URL of a loopback host, or mailto: and a mail address"
	u, err := url.Parse(raw)
	switch {
	case err != nil || strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }):
		return want
	case u.Scheme == "mailto":
		if address, err := mail.ParseAddress(u.Opaque); err != nil || address.Address != u.Opaque || u.RawQuery != "" {
			return want
		}
		return ""
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())), u.Hostname() == "":
		return want
	case u.User != nil:
		return "must have no user name or password"
	}
	return ""
}

func (v validation) logo(path string, a *Appearance) {
	if a.LogoFile == "" {
		return
	}
	if v.source.ReadFile == nil {
		v.check(path, "refers to a file that cannot be read")
		return
	}
	body, err := v.source.ReadFile(v.source.relative(a.LogoFile))
	switch {
	case errors.Is(err, errTooLarge), len(body) > maxLogoFile:
		v.check(path, fmt.Sprintf("refers to a file of more than %d KiB", maxLogoFile>>10))
		return
	case err != nil:
		v.check(path, fileFault(err))
		return
	}
	media := http.DetectContentType(body)
	switch {
	case media == "image/png", media == "image/jpeg", media == "image/webp":
	case isSVG(body):
		media = "image/svg+xml"
	default:
		v.check(path, "refers to a file that is not a PNG, JPEG, WebP or SVG image")
		return
	}
	a.logo, a.logoMedia = body, media
}

// isSVG tells whether a file is well-formed XML with an svg element of SVG's
// namespace around it.
func isSVG(body []byte) bool {
	d := xml.NewDecoder(bytes.NewReader(body))
	root := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return root
		}
		if err != nil {
			return false
		}
		if start, is := token.(xml.StartElement); is && !root {
			if start.Name.Local != "svg" || start.Name.Space != "http://www.w3.org/2000/svg" {
				return false
			}
			root = true
		}
	}
}

// accents checks the colours against what they stand on. Where the file leaves
// the dark one open it is the light one, lightened until it can be read.
func (v validation) accents(path string, a *Appearance) {
	if a.Accent == "" {
		if a.AccentDark != "" {
			v.check(path+".accent_dark", "needs accent")
		}
		return
	}
	a.Accent, a.AccentDark = strings.ToLower(a.Accent), strings.ToLower(a.AccentDark)
	if fault := accentFault(a.Accent, LightCard, "white"); fault != "" {
		v.check(path+".accent", fault)
		return
	}
	if a.AccentDark == "" {
		a.AccentDark = lightened(a.Accent)
	}
	v.check(path+".accent_dark", accentFault(a.AccentDark, DarkCard, "the dark card ("+DarkCard+")"))
}

func accentFault(colour, ground, name string) string {
	if !hexColour.MatchString(colour) {
		return badColour
	}
	if ratio := Contrast(colour, ground); ratio < MinContrast {
		// Rounded down: 4.49 must not read as 4.5.
		return fmt.Sprintf("has a contrast of %.1f:1 to %s, and text needs %.1f:1 (WCAG 2.2, 1.4.3)", math.Floor(ratio*10)/10, name, MinContrast)
	}
	return ""
}

// lightened is a colour mixed with as much white as it needs on dark ground.
func lightened(colour string) string {
	for part := 0.0; part < 1; part += 0.05 {
		var mixed strings.Builder
		mixed.WriteByte('#')
		for _, c := range channels(colour) {
			fmt.Fprintf(&mixed, "%02x", int(c+(255-c)*part+0.5))
		}
		if Contrast(mixed.String(), DarkCard) >= MinContrast+1 {
			return mixed.String()
		}
	}
	return LightCard
}

// Contrast is the contrast ratio of two colours #rrggbb, from 1 to 21 (WCAG 2.2,
// "contrast ratio").
func Contrast(a, b string) float64 {
	light, dark := luminance(a), luminance(b)
	if light < dark {
		light, dark = dark, light
	}
	return (light + 0.05) / (dark + 0.05)
}

// luminance is WCAG's relative luminance.
func luminance(colour string) float64 {
	c := channels(colour)
	for i := range c {
		if c[i] /= 255; c[i] <= 0.04045 {
			c[i] /= 12.92
		} else {
			c[i] = math.Pow((c[i]+0.055)/1.055, 2.4)
		}
	}
	return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2]
}

// channels are red, green and blue of #rrggbb, 0 to 255.
func channels(colour string) [3]float64 {
	var out [3]float64
	for i := range out {
		n, _ := strconv.ParseUint(colour[1+2*i:3+2*i], 16, 8) // the form was checked
		out[i] = float64(n)
	}
	return out
}

// scopes checks an operator's words for permissions.
func (v validation) scopes(path string, list []Scope) {
	seen := map[string]bool{}
	for i, scope := range list {
		at := element(path, i)
		switch {
		case !clients.ScopeToken(scope.Name):
			v.check(at+".name", "must be one scope name (RFC 6749 §3.3)")
		case seen[scope.Name]:
			v.check(at+".name", "is described twice")
		}
		seen[scope.Name] = true
		if len(scope.Text) == 0 {
			v.check(at+".text", badScopeTexts)
		}
		for lang, text := range scope.Text {
			if tag, err := language.Parse(lang); err != nil || tag.String() != lang {
				v.check(at+".text", badLanguage)
				continue
			}
			v.check(member(at+".text", lang), shownFault(*text, maxScopeText))
		}
	}
}
