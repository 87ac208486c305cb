package web

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/feature/plural"
	tags "golang.org/x/text/language"
)

// textFiles hold every text that a person sees, a file a language. Its name is
// the language's tag (BCP 47); docs/pages.md describes its form.
//
//go:embed texts
var textFiles embed.FS

// fallback is the language of who speaks none of ours, and the one whose keys
// and placeholders the others must have.
const fallback = "en"

// catalogue is all texts in all languages.
type catalogue struct {
	languages []texts // the fallback first, then by tag
	matcher   tags.Matcher
}

// texts are the texts of one language. A text with plural forms stands under
// one key a form: key[one], key[other].
type texts struct {
	lang string // BCP 47
	tag  tags.Tag
	of   map[string]string
}

var (
	textKey     = regexp.MustCompile(`^[a-z]+(\.[a-z0-9_]+)*(\[(zero|one|two|few|many|other)\])?$`)
	placeholder = regexp.MustCompile(`\{[a-z]+\}`)
)

// loadCatalogue reads the texts below dir and returns every fault there is: a
// line that is none, a key that stands there twice, that a language lacks or
// has too many, a placeholder that the fallback's text has not, a plural form
// that the language needs or does not know.
func loadCatalogue(files fs.FS, dir string) (*catalogue, error) {
	names, err := fs.Glob(files, dir+"/*.txt")
	if err != nil {
		return nil, fmt.Errorf("web: texts: %w", err)
	}
	var (
		c      catalogue
		faults []error
	)
	for _, name := range names {
		source, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, fmt.Errorf("web: texts: %w", err)
		}
		lang := strings.TrimSuffix(path.Base(name), ".txt")
		tag, err := tags.Parse(lang)
		if err != nil || tag.String() != lang {
			faults = append(faults, fmt.Errorf("%s: the name is no language tag in its usual spelling", name))
			continue
		}
		t := texts{lang: lang, tag: tag}
		var bad []error
		t.of, bad = parseTexts(name, string(source))
		faults = append(faults, bad...)
		c.languages = append(c.languages, t)
	}
	i := slices.IndexFunc(c.languages, func(t texts) bool { return t.lang == fallback })
	if i < 0 {
		return nil, errors.Join(append(faults, fmt.Errorf("web: there are no texts in %s", fallback))...)
	}
	first := c.languages[i]
	c.languages = slices.Insert(slices.Delete(c.languages, i, i+1), 0, first)
	all := make([]tags.Tag, len(c.languages))
	for i, t := range c.languages {
		faults = append(faults, t.compare(first)...)
		all[i] = t.tag
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("web: texts: %w", errors.Join(faults...))
	}
	c.matcher = tags.NewMatcher(all)
	return &c, nil
}

// parseTexts reads lines `key = text`. Empty ones and those that begin with #
// are left out.
func parseTexts(name, source string) (map[string]string, []error) {
	of := map[string]string{}
	var faults []error
	for i, line := range strings.Split(source, "\n") {
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Errorf("%s:%d: %s", name, i+1, fmt.Sprintf(format, args...)))
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, text, ok := strings.Cut(line, " = ")
		switch {
		case !ok || !textKey.MatchString(key):
			fault("not of the form key = text")
		case text == "" || strings.TrimSpace(text) != text || strings.Contains(text, "  "):
			fault("%s: empty, or a space too many", key)
		case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
			fault("%s: control characters, or not UTF-8", key)
		case strings.ContainsAny(placeholder.ReplaceAllString(text, ""), "{}"):
			fault("%s: a brace that belongs to no {name}", key)
		case of[key] != "":
			fault("%s: the key stands there twice", key)
		default:
			of[key] = text
		}
	}
	return of, faults
}

// base is a key without its plural form.
func base(key string) (name, form string) {
	name, form, _ = strings.Cut(strings.TrimSuffix(key, "]"), "[")
	return name, form
}

// compare says where the texts of a language are not those of the first.
func (t texts) compare(first texts) []error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %s", t.lang, fmt.Sprintf(format, args...)))
	}
	mine, theirs := t.shape(), first.shape()
	for _, name := range slices.Sorted(maps.Keys(theirs)) {
		want, got := theirs[name], mine[name]
		if got == nil {
			fault("%s is missing", name)
			continue
		}
		if (want[""] != nil) != (got[""] != nil) {
			fault("%s must have plural forms in all languages, or in none", name)
			continue
		}
		if got[""] != nil {
			if !slices.Equal(got[""], want[""]) {
				fault("%s has the placeholders %v, and not %v", name, got[""], want[""])
			}
			continue
		}
		if forms, needed := slices.Sorted(maps.Keys(got)), t.forms(); !slices.Equal(forms, needed) {
			fault("%s has the plural forms %v, and not %v", name, forms, needed)
		}
		for form, holders := range got {
			// One thing may be named without its number: "one minute".
			if !slices.Equal(without(holders, "{n}"), without(want["other"], "{n}")) || form == "other" && !slices.Contains(holders, "{n}") {
				fault("%s[%s] has the placeholders %v, and not %v", name, form, holders, want["other"])
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(mine)) {
		if theirs[name] == nil {
			fault("%s is a key that %s has not", name, first.lang)
		}
	}
	return faults
}

// shape is, by key and plural form, the placeholders of the texts.
func (t texts) shape() map[string]map[string][]string {
	out := map[string]map[string][]string{}
	for key, text := range t.of {
		name, form := base(key)
		if out[name] == nil {
			out[name] = map[string][]string{}
		}
		holders := append([]string{}, placeholder.FindAllString(text, -1)...) // never nil
		slices.Sort(holders)
		out[name][form] = slices.Compact(holders)
	}
	return out
}

func without(list []string, one string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == one })
}

// forms are the plural forms that the language has for whole numbers, sorted.
func (t texts) forms() []string {
	seen := map[string]bool{}
	for n := range 200 {
		seen[t.form(int64(n))] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// form is the plural form for n (CLDR's cardinal rules).
func (t texts) form(n int64) string {
	switch plural.Cardinal.MatchPlural(t.tag, int(n%1_000_000), 0, 0, 0, 0) {
	case plural.Zero:
		return "zero"
	case plural.One:
		return "one"
	case plural.Two:
		return "two"
	case plural.Few:
		return "few"
	case plural.Many:
		return "many"
	}
	return "other"
}
