package bench

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Settings are what a run measures. They are written "rounds=1 seconds=1".
type Settings struct {
	Rounds      int           // of each scenario and number of connections; default: 5
	Round       time.Duration // whole seconds; default: 2s
	Connections []int         // default: 1, 16, 64
	Only        []string      // names of scenarios, or parts of them; none: all
	Most        int           // sessions of the largest size that is loaded; default: 10,000,000
	Report      bool          // README.md is written; default: where all else is the default
}

// DefaultSettings are those of the figures in README.md.
func DefaultSettings() Settings {
	return Settings{Rounds: 5, Round: 2 * time.Second, Connections: []int{1, 16, 64}, Most: 10_000_000, Report: true}
}

// ParseSettings reads "name=value" pairs, separated by spaces; "1" and the
// empty text are the defaults. The names are rounds, seconds, connections (a
// list with commas), only (likewise), most and report (yes or no). Without
// report=yes, README.md is left alone by a run that is shorter, or of less, than
// by default.
func ParseSettings(text string) (Settings, error) {
	s := DefaultSettings()
	if text == "1" || strings.TrimSpace(text) == "" {
		return s, nil
	}
	s.Report = false
	for _, pair := range strings.Fields(text) {
		name, value, _ := strings.Cut(pair, "=")
		var err error
		switch name {
		case "rounds":
			s.Rounds, err = positive(value)
		case "seconds":
			var n int
			n, err = positive(value)
			s.Round = time.Duration(n) * time.Second
		case "connections":
			s.Connections = nil
			for item := range strings.SplitSeq(value, ",") {
				n, fault := positive(item)
				if fault != nil {
					err = fault
				}
				s.Connections = append(s.Connections, n)
			}
		case "only":
			s.Only = strings.Split(value, ",")
			if slices.Contains(s.Only, "") {
				err = fmt.Errorf("a name is empty")
			}
		case "most":
			s.Most, err = positive(value)
		case "report":
			s.Report = value == "yes"
			if value != "yes" && value != "no" {
				err = fmt.Errorf("%q is neither yes nor no", value)
			}
		default:
			err = fmt.Errorf("there is no such setting")
		}
		if err != nil {
			return s, fmt.Errorf("%s: %w", pair, err)
		}
	}
	return s, nil
}

func positive(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is not a whole number from 1 up", text)
	}
	return n, nil
}

// Wants tells whether a scenario is to be measured.
func (s Settings) Wants(name string) bool {
	if len(s.Only) == 0 {
		return true
	}
	name = strings.ReplaceAll(name, " ", "-")
	return slices.ContainsFunc(s.Only, func(part string) bool { return strings.Contains(name, part) })
}

// Sizes are the numbers of sessions that are loaded one after the other: powers
// of ten from 10,000 to most. Where most is less, it is the only one.
func (s Settings) Sizes() []int {
	var sizes []int
	for size := 10_000; size <= s.Most; size *= 10 {
		sizes = append(sizes, size)
	}
	if len(sizes) == 0 {
		sizes = []int{s.Most}
	}
	return sizes
}
