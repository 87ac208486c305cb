package web

import (
	"fmt"
	"html"
	"html/template"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// At is a point in time, to the minute, UTC; our script sets it to the reader's
// time zone.
func (v view) At(at time.Time) (template.HTML, error) {
	text, err := v.at(at)
	return element(at.UTC(), "at", text), err
}

func (v view) at(at time.Time) (string, error) {
	s, err := v.texts.text("time.utc")
	return strings.ReplaceAll(s, "{time}", at.UTC().Format("2006-01-02 15:04")), err
}

// agoWords is how long ago something can be told by its distance; what is older
// is told by its time.
const agoWords = 7 * 24 * time.Hour

// Ago is a point in the past in words, "5 minutes ago", which our script keeps
// up to date. What is a week old or more is At.
func (v view) Ago(at time.Time) (template.HTML, error) {
	ago := v.now.Sub(at)
	if ago >= agoWords {
		return v.At(at)
	}
	var (
		text string
		err  error
	)
	switch {
	case ago < time.Minute:
		text, err = v.texts.text("ago.now")
	case ago < time.Hour:
		text, err = v.texts.plural("ago.minutes", int64(ago/time.Minute))
	case ago < 24*time.Hour:
		text, err = v.texts.plural("ago.hours", int64(ago/time.Hour))
	default:
		text, err = v.texts.plural("ago.days", int64(ago/(24*time.Hour)))
	}
	if err != nil {
		return "", err
	}
	exact, err := v.at(at)
	if err != nil {
		return "", err
	}
	now, err := v.texts.text("ago.now")
	return template.HTML(fmt.Sprintf(`<time datetime="%s" data-local="ago" data-now="%s" title="%s">%s</time>`, // #nosec G203 -- escaped here
		at.UTC().Format(time.RFC3339), html.EscapeString(now), html.EscapeString(exact), html.EscapeString(text))), err
}

// Browser is what a user agent tells of itself, in words: "Chrome on Linux".
func (v view) Browser(d sessions.Device) (string, error) {
	switch {
	case d.Browser != "" && d.OS != "":
		s, err := v.texts.text("device.on")
		return strings.NewReplacer("{browser}", d.Browser, "{system}", d.OS).Replace(s), err
	case d.Browser+d.OS != "":
		return d.Browser + d.OS, nil
	}
	return v.texts.text("device.unknown")
}
