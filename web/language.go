package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	tags "golang.org/x/text/language"
)

// Bounds on what a browser or client says about languages.
const (
	maxLocales     = 10
	maxLocaleBytes = 512
)

// texts are the catalogue in one language.
type texts struct {
	lang   string // BCP 47
	column int
}

// text is the text of a key, or an error where the catalogue has none.
func (t texts) text(key string) (string, error) {
	e, ok := catalogue[key]
	if !ok {
		return "", fmt.Errorf("no text %q", key)
	}
	return e[t.column], nil
}

var (
	languages = []tags.Tag{tags.English, tags.German} // the catalogue's columns
	matcher   = tags.NewMatcher(languages)
)

// language chooses by the authorization request's ui_locales (OpenID Connect
// Core 1.0 §3.1.2.1), then the browser's Accept-Language, then English.
// Without locales, ui_locales is looked for in the request's own query.
func language(locales []string, r *http.Request) texts {
	if len(locales) == 0 {
		locales = strings.Fields(r.URL.Query().Get("ui_locales"))
	}
	var wanted []string
	for _, l := range append(slices.Clone(locales[:min(len(locales), maxLocales)]), r.Header.Get("Accept-Language")) {
		if l != "" && len(l) <= maxLocaleBytes {
			wanted = append(wanted, l)
		}
	}
	_, column := tags.MatchStrings(matcher, wanted...)
	return texts{lang: languages[column].String(), column: column}
}
