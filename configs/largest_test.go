//go:build unix

package configs

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"
)

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
		began := ownCPU(t)
		_, err := parse(text)
		var faults Faults
		if !errors.As(err, &faults) || len(faults) > maxFaults+1 {
			t.Errorf("%s: %d faults", name, len(faults))
		}
		if took := ownCPU(t) - began; took > 30*time.Second {
			t.Errorf("%s took %s", name, took)
		} else {
			t.Logf("%s: %s", name, took)
		}
	}
}

// ownCPU is the processor time of this process: what else the machine does must
// not count.
func ownCPU(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
