package sessions

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDevices(t *testing.T) {
	for agent, want := range map[string]Device{
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/73.0.3683.103 Safari/537.36":                               {"Chrome", "Linux", DeviceDesktop},
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:70.0) Gecko/20100101 Firefox/70.0":                                                          {"Firefox", "Windows", DeviceDesktop},
		"Mozilla/5.0 (iPhone; CPU iPhone OS 13_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.0 Mobile/15E148 Safari/604.1": {"Safari", "iOS", DeviceMobile},
		"Mozilla/5.0 (iPad; CPU OS 12_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1 Mobile/15E148 Safari/604.1":          {"Safari", "iOS", DeviceTablet},
		"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)":                                                                {"Googlebot", "", DeviceOther},
		"": {"", "", DeviceOther},
	} {
		if got := DeviceOf(agent); got != want {
			t.Errorf("%s: %+v, want %+v", agent, got, want)
		}
	}
	for _, agent := range []string{strings.Repeat("a", 600), strings.Repeat("ä", 300) + "/1", "\xff\x00<script>/1.0 (\u202e)", "(((((", "a/\x7f(;;;)"} {
		d := DeviceOf(agent)
		for _, text := range []string{d.Browser, d.OS} {
			if len(text) > maxDevice || !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\x7f") {
				t.Errorf("%q: %+v", agent, d)
			}
		}
	}
}

// FuzzDevice: strangers write user agents.
func FuzzDevice(f *testing.F) {
	f.Add("Mozilla/5.0 (X11; Linux x86_64) Chrome/73.0")
	f.Fuzz(func(t *testing.T, agent string) {
		if d := DeviceOf(agent); len(d.Browser) > maxDevice || len(d.OS) > maxDevice || !utf8.ValidString(d.Browser+d.OS) {
			t.Errorf("%+v", d)
		}
	})
}
