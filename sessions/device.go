package sessions

import (
	"strings"
	"unicode"

	"github.com/mileusna/useragent"
)

const (
	// maxAgent bounds what of a user agent is looked at, in bytes.
	maxAgent = 512
	// maxDevice bounds what is said of a device, in bytes.
	maxDevice = 64
)

// Types of a Device.
const (
	DeviceDesktop = "desktop"
	DeviceMobile  = "mobile"
	DeviceTablet  = "tablet"
	DeviceOther   = "other"
)

// Device is what a user agent tells of itself. It may be lying. Its texts are
// valid UTF-8 of at most 64 bytes without control characters.
type Device struct {
	Browser string // empty: it says nothing
	OS      string // empty: it says nothing
	Type    string // DeviceDesktop, DeviceMobile, DeviceTablet, DeviceOther
}

// DeviceOf reads a user agent, whatever it is.
func DeviceOf(agent string) Device {
	if len(agent) > maxAgent {
		agent = agent[:maxAgent]
	}
	ua := useragent.Parse(agent)
	d := Device{Browser: brief(ua.Name), OS: brief(ua.OS), Type: DeviceOther}
	switch {
	case ua.Bot:
	case ua.Tablet:
		d.Type = DeviceTablet
	case ua.Mobile:
		d.Type = DeviceMobile
	case ua.Desktop:
		d.Type = DeviceDesktop
	}
	return d
}

// brief is a text without control characters, cut to a bound.
func brief(text string) string {
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
