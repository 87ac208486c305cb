package configs

import (
	"fmt"
	"strings"
	"testing"
)

func TestUnsafeYAMLIsRefused(t *testing.T) {
	bomb := "a: &a [x, x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [*%c, *%c]\n", c, c, c-1, c-1)
	}
	for name, text := range map[string]string{
		"anchor":               "listen: &a x",
		"alias":                "listen: *a",
		"alias bomb":           bomb,
		"merge key":            "realms: {default: {<<: {login: {}}}}",
		"tag":                  "listen: !!str x",
		"local tag":            "listen: !secret x",
		"directive":            "%YAML 1.2\n---\nlisten: x",
		"explicit key":         "? listen\n: x",
		"two documents":        minimal + "---\nlisten: x",
		"tabs":                 "realms:\n\tdefault: {}",
		"no end of quotes":     "listen: \"x\n",
		"no end of brackets":   "listen: [x\n",
		"colon in plain value": "listen: a: b",
		"not UTF-8":            "listen: \xff",
		"null character":       "listen: \x00",
		"UTF-16":               "\xff\xfel\x00i\x00",
		"deep brackets":        "listen: " + strings.Repeat("[", maxFile-9),
		"deep braces":          strings.Repeat("{a: ", maxFile/4),
		"deep dashes":          strings.Repeat("- ", maxFile/2),
		"deep block":           deepBlock(),
		"long mapping":         strings.Repeat("a: 1\n", maxKeys+1),
		"empty entries":        "a:\n" + strings.Repeat("-\n", maxEmpty+1),
		"empty keys":           strings.Repeat("- a:\n  b: # c\n", maxEmpty/2+1),
		"too large":            strings.Repeat("#", maxFile+1),
	} {
		faults := at(t, text)
		if len(faults) == 0 {
			t.Errorf("%s: no fault", name)
		}
		for _, fault := range faults {
			if !strings.HasSuffix(fault, ": ") {
				t.Errorf("%s: the decoder saw it (%s)", name, fault)
			}
		}
	}
}

func deepBlock() string {
	var out strings.Builder
	for i := range 500 {
		// The keys get shorter, so that the colons move to the left.
		out.WriteString(strings.Repeat(" ", i) + strings.Repeat("k", 1+2*(500-i)) + ":\n")
	}
	return out.String()
}

func TestSyntaxMessageQuotesNothing(t *testing.T) {
	_, err := parse("listen: \"\\q\"")
	if want := "gatehouse.yaml:1:11: not valid YAML: found unknown escape character"; err == nil || err.Error() != want {
		t.Errorf("the fault is %v, want %s", err, want)
	}
}
