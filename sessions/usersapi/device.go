package usersapi

import (
	"strings"
	"unicode"

	"github.com/mileusna/useragent"
)

const (
	// maxUserAgent bounds what of a user agent is looked at, in bytes.
	maxUserAgent = 512
	// maxDevice bounds what is said of a device, in bytes.
	maxDevice = 64
)

// device is what a user agent tells of itself. It may be lying.
type device struct {
	Browser string `json:"browser,omitempty"`
	OS      string `json:"os,omitempty"`
	Type    string `json:"type"` // desktop, mobile, tablet, other
	Name    string `json:"name,omitempty"`
}

func newDevice(agent, name string) *device {
	if len(agent) > maxUserAgent {
		agent = agent[:maxUserAgent]
	}
	ua := useragent.Parse(agent)
	d := &device{Browser: short(ua.Name), OS: short(ua.OS), Type: "other", Name: name}
	switch {
	case ua.Bot:
	case ua.Tablet:
		d.Type = "tablet"
	case ua.Mobile:
		d.Type = "mobile"
	case ua.Desktop:
		d.Type = "desktop"
	}
	return d
}

// short is a text without control characters, cut to a bound.
func short(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, text)
	if len(text) > maxDevice {
		text = strings.ToValidUTF8(text[:maxDevice], "")
	}
	return text
}
