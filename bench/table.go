package bench

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Section puts text between the markers of a section of a document, in the
// place of what was there:
//
//	<!-- begin: NAME -->
//	<!-- end: NAME -->
//
// A document without exactly one of each, in this order, is an error.
func Section(document, name, text string) (string, error) {
	begin, end := "<!-- begin: "+name+" -->", "<!-- end: "+name+" -->"
	if strings.Count(document, begin) != 1 || strings.Count(document, end) != 1 {
		return "", fmt.Errorf("the markers of section %s are not there once each", name)
	}
	before, rest, _ := strings.Cut(document, begin)
	_, after, found := strings.Cut(rest, end)
	if !found {
		return "", fmt.Errorf("section %s ends before it begins", name)
	}
	return before + begin + "\n\n" + strings.TrimSpace(text) + "\n\n" + end + after, nil
}

// Table is a table in Markdown; the columns but the first are aligned to the
// right. Cells have no line breaks; a bar is escaped.
func Table(head []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) {
		b.WriteByte('|')
		for _, cell := range cells {
			b.WriteString(" " + strings.ReplaceAll(cell, "|", `\|`) + " |")
		}
		b.WriteByte('\n')
	}
	line(head)
	rule := make([]string, len(head))
	for i := range rule {
		rule[i] = "---:"
	}
	rule[0] = "---"
	line(rule)
	for _, row := range rows {
		line(row)
	}
	return b.String()
}

// ComparisonTable has a line for each scenario and number of connections:
// medians over the rounds.
func ComparisonTable(comparisons []Comparison) string {
	rows := make([][]string, len(comparisons))
	for i, c := range comparisons {
		rows[i] = []string{
			c.Scenario, fmt.Sprint(c.Connections),
			rate(MedianOf(c.Product, Result.Rate)), rate(MedianOf(c.Floor, Result.Rate)),
			Cut(c.Ratio()), verdict(c),
			micros(c.Product), micros(c.Floor),
			milliseconds(c.Product), milliseconds(c.Floor),
			megabytes(c.Product), megabytes(c.Floor),
			fmt.Sprint(c.Errors()),
		}
	}
	return Table([]string{"scenario", "connections", "a second", "floor", "ratio", "demanded", "CPU µs", "floor", "p99 ms", "floor", "RSS MB", "floor", "errors"}, rows)
}

// Cut is a ratio with two decimals, never more than it is: 0.499 doesn't look
// like a threshold of 0.5 that was reached.
func Cut(ratio float64) string { return fmt.Sprintf("%.2f", math.Floor(ratio*100+1e-9)/100) }

func rate(r float64) string { return fmt.Sprintf("%.0f", r) }

func verdict(c Comparison) string {
	word := "pass"
	if !c.Passes() {
		word = "FAIL"
	}
	switch {
	case c.Threshold > 0:
		return fmt.Sprintf(">= %.1f: %s", c.Threshold, word)
	case c.Errors() > 0:
		return word
	}
	return ""
}

func micros(rounds []Result) string {
	return fmt.Sprintf("%.0f", MedianOf(rounds, func(r Result) float64 { return float64(r.CPUPerOperation()) / float64(time.Microsecond) }))
}

func milliseconds(rounds []Result) string {
	return fmt.Sprintf("%.1f", MedianOf(rounds, func(r Result) float64 { return float64(r.P99) / float64(time.Millisecond) }))
}

func megabytes(rounds []Result) string {
	return fmt.Sprintf("%.0f", MedianOf(rounds, func(r Result) float64 { return float64(r.RSS) / (1 << 20) }))
}

// Conditions are what a figure depends on.
type Conditions struct {
	Date                        time.Time
	Commit                      string // with "+" where files were changed
	Go, PostgreSQL, Wrk, System string
	CPUs                        int
	Settings                    Settings
}

// String is one paragraph.
func (c Conditions) String() string {
	return fmt.Sprintf("Measured on %s at commit %s: %s, PostgreSQL %s, wrk %s, %s, %d processors; %d rounds of %s.",
		c.Date.UTC().Format("2006-01-02"), c.Commit, c.Go, c.PostgreSQL, c.Wrk, c.System, c.CPUs, c.Settings.Rounds, c.Settings.Round)
}

// Size is what one number of sessions costs the database: pages that an
// operation touches, by the operation's name.
type Size struct {
	Sessions int
	Bytes    int64 // of the whole database
	Pages    map[string]float64
}

// Growth is how many times more pages an operation touches at a size than at
// the smallest one.
func Growth(sizes []Size, operation string, at int) float64 {
	if len(sizes) == 0 || sizes[0].Pages[operation] == 0 {
		return 0
	}
	return sizes[at].Pages[operation] / sizes[0].Pages[operation]
}

// SizeTable has a line for each size and a column for each operation.
func SizeTable(sizes []Size, operations []string) string {
	head := append([]string{"sessions"}, operations...)
	rows := make([][]string, len(sizes))
	for i, s := range sizes {
		row := []string{grouped(s.Sessions)}
		for _, operation := range operations {
			row = append(row, fmt.Sprintf("%.1f (%.2f)", s.Pages[operation], Growth(sizes, operation, i)))
		}
		rows[i] = append(row, fmt.Sprintf("%.1f GB", float64(s.Bytes)/1e9), grouped(int(s.Bytes/int64(max(s.Sessions, 1)))))
	}
	return Table(append(head, "database", "bytes a session"), rows)
}

// grouped is a number with a comma between every three digits.
func grouped(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
