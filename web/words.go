package web

import (
	"fmt"
	"html"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	tags "golang.org/x/text/language"
)

// Bounds on what a browser or client says about languages.
const (
	maxLocales     = 10
	maxLocaleBytes = 512
)

// choose picks the texts by the authorization request's ui_locales (OpenID
// Connect Core 1.0 §3.1.2.1), then the browser's Accept-Language, then English.
func (c *catalogue) choose(locales []string, r *http.Request) texts {
	if len(locales) == 0 {
		locales = uiLocales(r)
	}
	var wanted []string
	for _, l := range append(slices.Clone(locales[:min(len(locales), maxLocales)]), r.Header.Get("Accept-Language")) {
		if l != "" && len(l) <= maxLocaleBytes {
			wanted = append(wanted, l)
		}
	}
	_, i := tags.MatchStrings(c.matcher, wanted...)
	return c.languages[i]
}

// uiLocales are the ui_locales of a request that is no page's of a sign-in: its
// own, or those of the authorization request that it carries, which nobody has
// checked yet. A form counts once it is parsed.
func uiLocales(r *http.Request) []string {
	for _, v := range []url.Values{r.URL.Query(), r.PostForm} {
		if l := strings.Fields(v.Get("ui_locales")); len(l) > 0 {
			return l
		}
		if q, err := url.ParseQuery(v.Get("request")); err == nil && q.Has("ui_locales") {
			return strings.Fields(q.Get("ui_locales"))
		}
	}
	return nil
}

// text is the text of a key, or an error where the catalogue has none.
func (t texts) text(key string) (string, error) {
	s, ok := t.of[key]
	if !ok {
		return "", fmt.Errorf("no text %q in %s", key, t.lang)
	}
	return s, nil
}

// plural is the text of a key for n things.
func (t texts) plural(key string, n int64) (string, error) {
	s, err := t.text(key + "[" + t.form(n) + "]")
	return strings.ReplaceAll(s, "{n}", strconv.FormatInt(n, 10)), err
}

// T is the text of a key, which has no placeholders.
func (v view) T(key string) (string, error) {
	s, err := v.texts.text(key)
	if err == nil && placeholder.MatchString(s) {
		err = fmt.Errorf("text %q takes a name", key)
	}
	return s, err
}

// Name is a text with a single placeholder, for which name stands.
func (v view) Name(key, name string) (template.HTML, error) {
	s, err := v.texts.text(key)
	if err != nil {
		return "", err
	}
	found := placeholder.FindAllString(s, -1)
	if len(found) != 1 {
		return "", fmt.Errorf("text %q takes %d names", key, len(found))
	}
	return v.Fill(key, strings.Trim(found[0], "{}"), name)
}

// Fill is a text with its placeholders filled: pairs of a placeholder and its
// value. A string is what somebody else chose: it is escaped, emphasised, and
// isolated, so that its direction marks can't rearrange our sentence. HTML is
// ours and stands as it is.
func (v view) Fill(key string, pairs ...any) (template.HTML, error) {
	s, err := v.texts.text(key)
	if err != nil {
		return "", err
	}
	if len(pairs)%2 != 0 {
		return "", fmt.Errorf("text %q: a placeholder without a value", key)
	}
	values := map[string]string{}
	for pair := range slices.Chunk(pairs, 2) {
		name, _ := pair[0].(string)
		switch value := pair[1].(type) {
		case template.HTML:
			values["{"+name+"}"] = string(value)
		case string:
			values["{"+name+"}"] = "<strong><bdi>" + html.EscapeString(value) + "</bdi></strong>"
		default:
			return "", fmt.Errorf("text %q: %s is a %T", key, name, value)
		}
	}
	var out strings.Builder
	for {
		at := placeholder.FindStringIndex(s)
		if at == nil {
			break
		}
		value, ok := values[s[at[0]:at[1]]]
		if !ok {
			return "", fmt.Errorf("text %q: nothing for %s", key, s[at[0]:at[1]])
		}
		out.WriteString(html.EscapeString(s[:at[0]]) + value)
		s = s[at[1]:]
	}
	out.WriteString(html.EscapeString(s))
	return template.HTML(out.String()), nil // #nosec G203 -- escaped above
}

// Wait is a time in words, in one unit and never shorter than it is.
func (v view) Wait(d time.Duration) (string, error) {
	unit, n := "wait.seconds", up(d, time.Second)
	if n >= 60 {
		unit, n = "wait.minutes", up(d, time.Minute)
	}
	if n >= 60 && unit == "wait.minutes" {
		unit, n = "wait.hours", up(d, time.Hour)
	}
	return v.texts.plural(unit, n)
}

// Plural is the text of a key for n things.
func (v view) Plural(key string, n int) (string, error) { return v.texts.plural(key, int64(n)) }

// up is how often the unit fits into d, rounded up.
func up(d, unit time.Duration) int64 { return int64((d + unit - 1) / unit) }

// Countdown is Wait in an element that our script counts down. It carries the
// words, so that the script needs none of its own.
func (v view) Countdown(d time.Duration) (template.HTML, error) {
	words, err := v.Wait(d)
	if err != nil {
		return "", err
	}
	var data strings.Builder
	for _, unit := range []string{"seconds", "minutes", "hours"} {
		for _, form := range v.texts.forms() {
			s, err := v.texts.text("wait." + unit + "[" + form + "]")
			if err != nil {
				return "", err
			}
			data.WriteString(` data-` + unit + `-` + form + `="` + html.EscapeString(s) + `"`)
		}
	}
	// A timer's changes are not announced, those of the alert around it would be.
	return template.HTML(fmt.Sprintf(`<strong role="timer" data-left="%d"%s>%s</strong>`, // #nosec G203 -- escaped here
		up(d, time.Second), data.String(), html.EscapeString(words))), nil
}

// Clock is the time of day in an element that our script sets to the reader's
// time zone; until then in UTC, and saying so. Never earlier than it is.
func (v view) Clock(at time.Time) (template.HTML, error) {
	at = at.UTC().Add(time.Minute - time.Millisecond).Truncate(time.Minute)
	s, err := v.texts.text("time.utc")
	if err != nil {
		return "", err
	}
	return element(at, "time", strings.ReplaceAll(s, "{time}", at.Format("15:04"))), nil
}

// Moment is a point in time for people who look it up in a log, UTC; our script
// sets it to the reader's time zone.
func (v view) Moment(at time.Time) (template.HTML, error) {
	s, err := v.texts.text("time.utc")
	if err != nil {
		return "", err
	}
	return element(at.UTC(), "moment", strings.ReplaceAll(s, "{time}", at.UTC().Format("2006-01-02 15:04:05"))), nil
}

// Date is the day in words, UTC.
func (v view) Date(at time.Time) (template.HTML, error) {
	at = at.UTC()
	s, err := v.texts.text("date")
	if err != nil {
		return "", err
	}
	month, err := v.texts.text("month." + strconv.Itoa(int(at.Month())))
	if err != nil {
		return "", err
	}
	return element(at, "", strings.NewReplacer("{day}", strconv.Itoa(at.Day()), "{month}", month, "{year}", strconv.Itoa(at.Year())).Replace(s)), nil
}

func element(at time.Time, local, text string) template.HTML {
	if local != "" {
		local = ` data-local="` + local + `"`
	}
	return template.HTML(`<time datetime="` + at.Format(time.RFC3339) + `"` + local + `>` + html.EscapeString(text) + `</time>`) // #nosec G203 -- escaped here
}
