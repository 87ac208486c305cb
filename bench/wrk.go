package bench

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Request is one HTTP request, to be sent again and again.
type Request struct {
	Method string
	Path   string // with the query
	Header map[string]string
	Body   string
}

// summaryMark begins the line that our script makes wrk print.
const summaryMark = "GATEHOUSE-SUMMARY "

// WrkScript is the Lua script with which wrk sends these requests in turn and
// tells what came of them in one line, which ParseWrk reads.
func WrkScript(requests []Request) string {
	var b strings.Builder
	b.WriteString("local requests = {}\nlocal turn = 0\n\nfunction init(args)\n")
	for _, r := range requests {
		fmt.Fprintf(&b, "  requests[#requests + 1] = wrk.format(%s, %s, {", lua(r.Method), lua(r.Path))
		for _, name := range slices.Sorted(maps.Keys(r.Header)) {
			fmt.Fprintf(&b, "[%s] = %s, ", lua(name), lua(r.Header[name]))
		}
		body := "nil"
		if r.Body != "" {
			body = lua(r.Body)
		}
		fmt.Fprintf(&b, "}, %s)\n", body)
	}
	b.WriteString(`end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('` + summaryMark + `{"requests":%d,"duration":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,"p50":%d,"p99":%d}\n',
    summary.requests, summary.duration, e.connect, e.read, e.write, e.status, e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
`)
	return b.String()
}

// lua is a text as a literal of Lua 5.1: every byte that is not plain is
// written as its number.
func lua(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(text) {
		c := text[i]
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			fmt.Fprintf(&b, `\%03d`, c)
		} else {
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// ParseWrk reads what wrk printed with our script. CPU and RSS are not wrk's to
// know.
func ParseWrk(output string) (Result, error) {
	_, rest, found := strings.Cut(output, summaryMark)
	if !found {
		return Result{}, fmt.Errorf("wrk printed no summary: %s", strconv.Quote(output))
	}
	line, _, _ := strings.Cut(rest, "\n")
	var s struct {
		Requests, Duration                    *int64 // microseconds, as all times here
		Connect, Read, Write, Status, Timeout int
		P50, P99                              int64
	}
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		return Result{}, fmt.Errorf("reading wrk's summary %s: %w", strconv.Quote(line), err)
	}
	if s.Requests == nil || s.Duration == nil || *s.Duration <= 0 {
		return Result{}, fmt.Errorf("wrk's summary %s has no requests or no duration", strconv.Quote(line))
	}
	return Result{
		// wrk counts answers of any status as requests.
		Operations: max(0, int(*s.Requests)-s.Status),
		Errors:     s.Connect + s.Read + s.Write + s.Status + s.Timeout,
		Took:       time.Duration(*s.Duration) * time.Microsecond,
		P50:        time.Duration(s.P50) * time.Microsecond,
		P99:        time.Duration(s.P99) * time.Microsecond,
	}, nil
}
