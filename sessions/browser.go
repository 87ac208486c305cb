package sessions

import "slices"

// OtherBrowser is the family of whatever is none of the others.
const OtherBrowser = "Other"

// Browsers are the families that BrowserFamily tells apart, in the order in
// which people expect them.
func Browsers() []string {
	return []string{"Chrome", "Edge", "Firefox", "Safari", "Opera", "Samsung Browser", "Vivaldi", OtherBrowser}
}

// BrowserFamily is the family of browsers that a user agent says it is of. It
// may be lying.
func BrowserFamily(agent string) string {
	name := DeviceOf(agent).Browser
	switch name {
	case "Headless Chrome":
		return "Chrome"
	case "Opera Mini", "Opera Touch":
		return "Opera"
	case "Mobile Safari":
		return "Safari"
	}
	if slices.Contains(Browsers(), name) {
		return name
	}
	return OtherBrowser
}
