package usersapi

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"gatehouse.dev/gatehouse/sessions"
)

// maxFilter bounds a filter, in bytes.
const maxFilter = 2048

// filterable are the attributes of filters, in lower case, with what they mean
// and the operators that they take.
var filterable = map[string]struct {
	by        string
	operators []string
}{
	"loginid":        {sessions.ByUsername, textOperators},
	"sessionid":      {sessions.ByEntryID, textOperators},
	"appname":        {sessions.ByApplication, textOperators},
	"useragent":      {sessions.ByUserAgent, textOperators},
	"ipaddress":      {sessions.ByAddress, []string{sessions.OpEqual}},
	"logintime":      {sessions.ByCreated, timeOperators},
	"lastaccesstime": {sessions.ByLastAccess, timeOperators},
}

var (
	textOperators = []string{sessions.OpEqual, sessions.OpStartsWith, sessions.OpEndsWith, sessions.OpContains}
	timeOperators = []string{sessions.OpLessEqual, sessions.OpGreaterEqual}
)

// parseFilter reads expressions "attribute operator value" joined by "and". A
// value is a string in double quotes, in which a backslash takes the next
// character as it is, or the text up to the next " and " or the end. The case of
// attributes, operators and "and" doesn't matter. Where the filter can't be
// read, it says why.
func parseFilter(text string) (conditions []sessions.Condition, fault string) {
	if len(text) > maxFilter || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return nil, "A filter is UTF-8 text of at most 2048 bytes without control characters."
	}
	for rest := text; ; {
		if len(conditions) == sessions.MaxConditions {
			return nil, "A filter has at most 16 expressions."
		}
		var attribute, operator, value string
		attribute, rest = word(rest)
		operator, rest = word(rest)
		known, ok := filterable[strings.ToLower(attribute)]
		operator = strings.ToLower(operator)
		if !ok {
			return nil, "The attributes of filters are loginId, sessionId, appName, userAgent, ipAddress, loginTime and lastAccessTime."
		}
		if !slices.Contains(known.operators, operator) {
			return nil, "Texts take eq, sw, ew and co, ipAddress takes eq, times take le and ge."
		}
		var more bool
		if value, rest, more, ok = readValue(rest); !ok || value == "" {
			return nil, "Each expression of a filter is an attribute, an operator and a value, and the next one follows behind \"and\"."
		}
		c := sessions.Condition{By: known.by, Operator: operator, Text: value}
		if slices.Contains(timeOperators, operator) {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 0 || n > maxMillis {
				return nil, "Times are milliseconds since 1970."
			}
			c.Text, c.Time = "", time.UnixMilli(n)
		}
		conditions = append(conditions, c)
		if !more {
			return conditions, ""
		}
	}
}

// maxMillis is far behind all times there are, and below where positions end.
const maxMillis = 1 << 42

// word takes the first word off a text.
func word(text string) (first, rest string) {
	text = strings.TrimLeft(text, " ")
	first, rest, _ = strings.Cut(text, " ")
	return first, rest
}

// readValue takes a value off a text, and the "and" behind it where there is
// one: more.
func readValue(text string) (value, rest string, more, ok bool) {
	text = strings.TrimLeft(text, " ")
	if !strings.HasPrefix(text, `"`) {
		end := nextAnd(text)
		if end < 0 {
			value = strings.TrimRight(text, " ")
			// An "and" that nothing follows is no part of a value.
			return value, "", false, nextAnd(value+" ") < 0
		}
		return strings.TrimRight(text[:end], " "), text[end+len(" and "):], true, true
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			if i++; i == len(text) {
				return "", "", false, false
			}
			b.WriteByte(text[i])
		case '"':
			rest = text[i+1:]
			if strings.Trim(rest, " ") == "" {
				return b.String(), "", false, true
			}
			end := nextAnd(rest)
			if end < 0 || strings.Trim(rest[:end], " ") != "" {
				return "", "", false, false // something else stands there
			}
			return b.String(), rest[end+len(" and "):], true, true
		default:
			b.WriteByte(text[i])
		}
	}
	return "", "", false, false // it does not end
}

// nextAnd is where " and " begins, or -1.
func nextAnd(text string) int {
	for i := 0; i+len(" and ") <= len(text); i++ {
		if strings.EqualFold(text[i:i+len(" and ")], " and ") {
			return i
		}
	}
	return -1
}
