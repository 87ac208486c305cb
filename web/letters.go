package web

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/mail"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

// deviceCookie marks the realm's browsers.
func (p *Pages) deviceCookie() sessions.DeviceCookie {
	return sessions.DeviceCookie{Realm: p.cfg.Cookie.Realm, Secure: p.cfg.Cookie.Secure}
}

// noticing is what a sign-in of user tells of the browser, and the value of the
// device cookie that is to be set once it is recorded; empty: none. A mail is in
// the user's own language, if it is one of ours, or else in that of the page.
func (p *Pages) noticing(r *http.Request, user *users.User) (sessions.Noticing, string) {
	if p.cfg.Notices == nil {
		return sessions.Noticing{}, ""
	}
	cookie := p.deviceCookie()
	value := cookie.Value(r)
	n := sessions.Noticing{Device: cookie.Mark(value, user.ID)}
	if p.cfg.Mail {
		n.MailTo = user.Claims.Email
		n.Language = p.catalogue.choose(append([]string{user.Claims.Locale}, uiLocales(r)...), r).lang
	}
	return n, value
}

// Letter words the mail about a notice in one of our languages, or English where
// it is another. It names the device as far as it can be said in plain words,
// the address and the time, and where to look; nothing in it changes anything.
func (p *Pages) Letter(n sessions.Notice, language string) (mail.Text, error) {
	t := p.catalogue.in(language)
	out := mail.Text{Sender: p.cfg.Appearance.Name, Language: t.lang}
	when, err := t.moment(n.At)
	if err != nil {
		return out, err
	}
	device, err := t.plainDevice(n.UserAgent)
	if err != nil {
		return out, err
	}
	fill := func(key string, pairs ...string) string {
		if err != nil {
			return ""
		}
		var s string
		s, err = t.plain(key, pairs...)
		return s
	}
	out.Subject = fill("mail.notice.subject", "name", p.brand.Name)
	out.Body = strings.Join([]string{
		fill(news(n, "mail.notice.device", "mail.notice.network", "mail.notice.both"), "name", p.brand.Name), "",
		fill("mail.notice.what", "device", device),
		fill("mail.notice.from", "address", n.Address),
		fill("mail.notice.when", "time", when), "",
		fill("mail.notice.you"), "",
		fill("mail.notice.other"), "",
		p.cfg.Base + accountPath + "/sessions", "",
		fill("mail.notice.why"), "",
	}, "\n")
	if err != nil {
		return mail.Text{}, fmt.Errorf("wording a mail: %w", err)
	}
	return out, nil
}

// news chooses the catalogue key that says what is new.
func news(n sessions.Notice, device, network, both string) string {
	switch {
	case !n.Network:
		return device
	case !n.Device:
		return network
	}
	return both
}

// in are the texts of a language as catalogue.choose names it, or the fallback's.
func (c *catalogue) in(lang string) texts {
	for _, t := range c.languages {
		if t.lang == lang {
			return t
		}
	}
	return c.languages[0]
}

// plain is a text with its placeholders filled, for where nothing is escaped:
// pairs of a placeholder and its value.
func (t texts) plain(key string, pairs ...string) (string, error) {
	s, err := t.text(key)
	if err != nil {
		return "", err
	}
	for i := range pairs {
		if i%2 == 0 {
			pairs[i] = "{" + pairs[i] + "}"
		}
	}
	if want := len(placeholder.FindAllString(s, -1)); want != len(pairs)/2 {
		return "", fmt.Errorf("text %q takes %d values", key, want)
	}
	return strings.NewReplacer(pairs...).Replace(s), nil
}

// moment is a point in time in words, UTC.
func (t texts) moment(at time.Time) (string, error) {
	at = at.UTC()
	month, err := t.text("month." + strconv.Itoa(int(at.Month())))
	if err != nil {
		return "", err
	}
	date, err := t.plain("date", "day", strconv.Itoa(at.Day()), "month", month, "year", strconv.Itoa(at.Year()))
	if err != nil {
		return "", err
	}
	clock, err := t.plain("time.utc", "time", at.Format("15:04"))
	return date + ", " + clock, err
}

// deviceWords are the browsers and operating systems that a mail names. Whoever
// signs in writes the user agent, and could write an address to go to, or a
// sentence; a mail says what we wrote and nothing else.
var deviceWords = []string{
	"Chrome", "Edge", "Firefox", "Internet Explorer", "Mobile Safari", "Opera", "Opera Mini", "Opera Touch", "Safari", "Samsung Browser", "Vivaldi",
	"Android", "ChromeOS", "CrOS", "FreeBSD", "Harmony", "Linux", "Windows", "Windows Phone", "iOS", "macOS",
}

// plainDevice is a device in plain words.
func (t texts) plainDevice(agent string) (string, error) {
	d := sessions.DeviceOf(agent)
	switch browser, system := slices.Contains(deviceWords, d.Browser), slices.Contains(deviceWords, d.OS); {
	case browser && system:
		return t.plain("device.on", "browser", d.Browser, "system", d.OS)
	case browser:
		return d.Browser, nil
	case system:
		return d.OS, nil
	}
	return t.text("device.unknown")
}
