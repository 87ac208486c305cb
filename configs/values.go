package configs

import (
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// refers reports whether a value takes its text from elsewhere.
func refers(text string) bool {
	return strings.HasPrefix(text, filePrefix) || strings.Contains(text, "${")
}

const filePrefix = "file:"

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// resolve replaces each ${NAME} in a value by the environment variable of
// that name, and a whole value file:PATH (PATH may have variables) by what
// the file holds without the line break at its end. $${ stands for ${. What
// comes from elsewhere is taken as it is: a variable can't name a file, nor a
// file a variable. The second result is a fault, empty if there is none.
func (s Source) resolve(text string) (string, string) {
	expanded, fault := s.expand(text)
	if fault != "" || !strings.HasPrefix(text, filePrefix) {
		return expanded, fault
	}
	path := strings.TrimPrefix(expanded, filePrefix)
	if path == "" || s.ReadFile == nil || strings.ContainsRune(path, 0) {
		return "", "refers to a file that cannot be read"
	}
	data, err := s.ReadFile(s.relative(path))
	if err == nil && len(data) > maxValueFile {
		err = errTooLarge
	}
	switch {
	case err != nil:
		return "", fileFault(err)
	case !utf8.Valid(data):
		return "", "refers to a file that is not text in UTF-8"
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r"), ""
}

func (s Source) expand(text string) (string, string) {
	var out strings.Builder
	for {
		i := strings.Index(text, "${")
		if i < 0 {
			out.WriteString(text)
			return out.String(), ""
		}
		if strings.HasSuffix(text[:i], "$") {
			out.WriteString(text[:i] + "{")
			text = text[i+2:]
			continue
		}
		out.WriteString(text[:i])
		name, rest, closed := strings.Cut(text[i+2:], "}")
		if !closed || !variableName.MatchString(name) {
			return "", "has a malformed reference: write ${NAME}, or $${ for the characters themselves"
		}
		value, defined := "", false
		if s.Env != nil {
			value, defined = s.Env(name)
		}
		if !defined {
			return "", "refers to the environment variable " + name + ", which is not set"
		}
		if out.Len()+len(value) > maxFile || !utf8.ValidString(value) {
			return "", "refers to the environment variable " + name + ", which is too long or not UTF-8"
		}
		out.WriteString(value)
		text = rest
	}
}

// parseDuration reads a duration of Go (1h30m, 10s), in front of which there
// may be days of 24 hours: 7d, 1d12h. It must not be negative.
func parseDuration(text string) (time.Duration, bool) {
	var days time.Duration
	if digits, rest, has := strings.Cut(text, "d"); has {
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil {
			return 0, false
		}
		days, text = time.Duration(n)*day, rest
		if text == "" {
			return days, true
		}
	}
	duration, err := time.ParseDuration(text)
	if err != nil || duration < 0 || text[0] == '+' || text[0] == '-' || duration > math.MaxInt64-days {
		return 0, false
	}
	return days + duration, true
}

// parsePrefix reads an address range in CIDR form, or a single address.
func parsePrefix(text string) (netip.Prefix, bool) {
	if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" && !address.Is4In6() {
		return netip.PrefixFrom(address, address.BitLen()), true
	}
	prefix, err := netip.ParsePrefix(text)
	return prefix, err == nil && prefix == prefix.Masked() && !prefix.Addr().Is4In6()
}
