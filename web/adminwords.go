package web

import (
	"html"
	"html/template"
	"strings"
)

// Plurals are all plural forms of a text as attributes, for a script that
// counts: data-NAME-one, data-NAME-other.
func (v view) Plurals(name, key string) (template.HTMLAttr, error) {
	var out strings.Builder
	for _, form := range v.texts.forms() {
		s, err := v.texts.text(key + "[" + form + "]")
		if err != nil {
			return "", err
		}
		out.WriteString(` data-` + name + `-` + form + `="` + html.EscapeString(s) + `"`)
	}
	return template.HTMLAttr(strings.TrimSpace(out.String())), nil // #nosec G203 -- escaped above
}

// Count is the text of a key for n things.
func (v view) Count(key string, n int64) (string, error) { return v.texts.plural(key, n) }

// Called is what an entry is called: by the user, or by its browser and system.
func (v view) Called(e entryRow) (string, error) {
	switch {
	case !e.Login:
		return v.T("admin.list.alone")
	case e.Name != "":
		return e.Name, nil
	}
	return v.Browser(e.Device)
}
