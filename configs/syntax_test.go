package configs

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
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

// TestLargestFilesAreQuick holds the parser to a bound: what is refused for
// its size or shape must not take long, nor what is just below the limits.
func TestLargestFilesAreQuick(t *testing.T) {
	group := strings.Repeat("  a: 1\n", maxKeys-1)
	fill := func(text string) string { return strings.Repeat(text, maxFile/len(text)) }
	for name, text := range map[string]string{
		"mappings":       strings.Repeat("- b: 1\n"+group, maxFile/(len(group)+7)),
		"empty keys":     strings.Repeat("- b:\n"+strings.Repeat("  a:\n", maxKeys-1), maxFile/(5*maxKeys)),
		"flow mapping":   "{" + strings.Repeat("a: 1, ", maxFile/6-1) + "}",
		"flow list":      "listen: [" + strings.Repeat("x,", maxFile/2-10) + "]",
		"flow pairs":     "listen: [" + strings.Repeat("a: b,", maxFile/5-10) + "]",
		"block list":     "listen:\n" + strings.Repeat("- x\n", maxFile/4-10),
		"some flow keys": "{" + strings.Repeat("a, ", maxComma-1) + "}",
		"flow no values": "{" + strings.Repeat("a: , ", maxComma-1) + "}",
		"some scopes":    "authorization_servers: {a: {resources: [{scopes: [" + strings.Repeat("x,", maxComma-10) + "]}]}}",
		"flow keys":      "{" + strings.Repeat("a, ", maxFile/3-1) + "}",
		"empty entries":  "listen:\n" + strings.Repeat("-\n", maxFile/2-10),
		"comments":       fill("# x\n"),
		"quoted":         "listen: \"" + strings.Repeat("\\n", maxFile/2-10) + "\"",
		"folded":         "listen: >\n" + strings.Repeat("  x\n\n", maxFile/5-10),
		"plain lines":    "listen: x\n" + strings.Repeat("  x\n", maxFile/4-10),
		"documents":      fill("---\n"),
		"anchors":        fill("&a "),
		"references":     "listen: '" + strings.Repeat("${GATEHOUSE_KEY}", maxFile/16-10) + "'",
		"broken colons":  fill("a: "),
		"question marks": fill("? "),
		"scopes":         "authorization_servers: {a: {resources: [{scopes: [" + strings.Repeat("x,", maxFile/2-100) + "]}]}}",
	} {
		began := time.Now()
		_, err := parse(text)
		var faults Faults
		if !errors.As(err, &faults) || len(faults) > maxFaults+1 {
			t.Errorf("%s: %d faults", name, len(faults))
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%s took %s", name, took)
		} else {
			t.Logf("%s: %s", name, took)
		}
	}
}

func TestSyntaxMessageQuotesNothing(t *testing.T) {
	_, err := parse("listen: \"\\q\"")
	if want := "gatehouse.yaml:1:11: not valid YAML: found unknown escape character"; err == nil || err.Error() != want {
		t.Errorf("the fault is %v, want %s", err, want)
	}
}
