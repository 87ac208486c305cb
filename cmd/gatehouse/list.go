package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
)

// Forms of a list.
const (
	outputTable = "table"
	outputJSON  = "json"
)

// outputFlag adds -o, which every list has.
func outputFlag(c *cobra.Command, output *string) {
	c.Flags().StringVarP(output, "output", "o", outputTable, "`form` of the list: table or json")
}

// list writes items as a table, by the texts that row gives for one, or as a
// JSON array.
func list[T any](w io.Writer, output string, items []T, header string, row func(T) []string) error {
	switch output {
	case outputJSON:
		if items == nil {
			items = []T{}
		}
		return writeJSON(w, items)
	case outputTable:
	default:
		return usagef("--output is table or json")
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, header)
	for _, item := range items {
		cells := row(item)
		for i, cell := range cells {
			cells[i] = printable(cell)
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

func checkOutput(output string) error {
	if output != outputTable && output != outputJSON {
		return usagef("--output is table or json")
	}
	return nil
}

// maxListed bounds --limit.
const maxListed = 1000

func checkLimit(limit int) error {
	if limit < 1 || limit > maxListed {
		return usagef("--limit is from 1 to %d", maxListed)
	}
	return nil
}

// mayGoOn says of a list as long as its limit that it may be a part; more is the
// flag that shows the rest.
func mayGoOn(s streams, listed, limit int, more string) {
	if listed == limit {
		fmt.Fprintf(s.err, "gatehouse: these are the newest %d; there may be more (%s)\n", limit, more)
	}
}

func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// printable keeps what strangers chose, such as a client's name, from steering
// the terminal.
func printable(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// when is a time in a table.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
