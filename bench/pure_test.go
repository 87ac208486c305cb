package bench

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestSettings(t *testing.T) {
	full := DefaultSettings()
	tests := []struct {
		text string
		want func(*Settings)
	}{
		{"", func(*Settings) {}},
		{"1", func(*Settings) {}},
		{" \t", func(*Settings) {}},
		{"rounds=1 seconds=3", func(s *Settings) { s.Rounds, s.Round, s.Report = 1, 3*time.Second, false }},
		{"connections=16", func(s *Settings) { s.Connections, s.Report = []int{16}, false }},
		{" connections=1,8  report=yes ", func(s *Settings) { s.Connections = []int{1, 8} }},
		{"only=refresh,code", func(s *Settings) { s.Only, s.Report = []string{"refresh", "code"}, false }},
		{"most=100000", func(s *Settings) { s.Most, s.Report = 100_000, false }},
		{"report=yes", func(*Settings) {}},
		{"report=no", func(s *Settings) { s.Report = false }},
	}
	for _, tt := range tests {
		want := full
		tt.want(&want)
		got, err := ParseSettings(tt.text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q is %+v, %v; want %+v", tt.text, got, err, want)
		}
	}
	for _, text := range []string{"yes", "rounds", "rounds=", "rounds=0", "rounds=-1", "rounds=x", "seconds=1.5", "seconds=2s", "connections=", "connections=1,,2",
		"connections=1,0", "only=", "only=a,", "most=0", "report=maybe", "round=1", "2"} {
		if got, err := ParseSettings(text); err == nil {
			t.Errorf("%q is taken as %+v", text, got)
		}
	}
}

func TestSettingsChooseScenarios(t *testing.T) {
	s := Settings{Only: []string{"refresh", "introspection-jwt"}}
	for name, want := range map[string]bool{"refresh": true, "introspection jwt": true, "introspection opaque": false, "userinfo": false} {
		if s.Wants(name) != want {
			t.Errorf("%s: %t, want %t", name, !want, want)
		}
	}
	if !DefaultSettings().Wants("anything") {
		t.Error("by default not everything is measured")
	}
}

func TestSizes(t *testing.T) {
	for most, want := range map[int][]int{500: {500}, 10_000: {10_000}, 99_999: {10_000}, 1_000_000: {10_000, 100_000, 1_000_000},
		10_000_000: {10_000, 100_000, 1_000_000, 10_000_000}} {
		if got := (Settings{Most: most}).Sizes(); !reflect.DeepEqual(got, want) {
			t.Errorf("%d: %v, want %v", most, got, want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}, {[]float64{5, 5, 5, 0}, 5},
	} {
		before := append([]float64(nil), tt.values...)
		if got := Median(tt.values); got != tt.want {
			t.Errorf("median of %v is %v, want %v", tt.values, got, tt.want)
		}
		if !reflect.DeepEqual(before, tt.values) {
			t.Errorf("Median changed %v to %v", before, tt.values)
		}
	}
	if got := Median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing is %v", got)
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(100 - i) // 100 .. 1
	}
	for p, want := range map[float64]time.Duration{50: 50, 99: 99, 100: 100, 0: 1, 98.5: 99} {
		if got := Percentile(hundred, p); got != want {
			t.Errorf("%v%% is %d, want %d", p, got, want)
		}
	}
	if got := Percentile([]time.Duration{7}, 99); got != 7 {
		t.Errorf("99%% of one value is %d", got)
	}
	if got := Percentile(nil, 99); got != 0 {
		t.Errorf("99%% of nothing is %d", got)
	}
}

func result(operations int) Result { return Result{Operations: operations, Took: time.Second} }

// What is compared are rounds with one another, so that a machine that is busy
// for one round doesn't decide.
func TestRatioIsTheMedianOfTheRatios(t *testing.T) {
	c := Comparison{Threshold: 0.5,
		Product: []Result{result(50), result(500), result(90)},
		Floor:   []Result{result(100), result(10_000), result(100)}}
	if got := c.Ratio(); got != 0.5 {
		t.Errorf("ratio %v, want 0.5", got)
	}
	if !c.Passes() {
		t.Error("a ratio that is reached exactly doesn't pass")
	}
}

func TestComparisonFails(t *testing.T) {
	one := []Result{result(100)}
	broken := []Result{{Operations: 100, Took: time.Second, Errors: 1}}
	tests := []struct {
		name string
		c    Comparison
	}{
		{"below the threshold", Comparison{Threshold: 0.5, Product: []Result{result(49)}, Floor: one}},
		{"an error of the product", Comparison{Product: broken, Floor: one}},
		{"an error of the floor", Comparison{Product: one, Floor: broken}},
		{"nothing measured", Comparison{Threshold: 0.5}},
		{"nothing measured or demanded", Comparison{}},
		{"a floor that did nothing", Comparison{Threshold: 0.5, Product: one, Floor: []Result{result(0)}}},
		{"a product that did nothing", Comparison{Threshold: 0.5, Product: []Result{result(0)}, Floor: one}},
	}
	for _, tt := range tests {
		if tt.c.Passes() {
			t.Errorf("%s: passes", tt.name)
		}
	}
	if c := (Comparison{Product: one, Floor: []Result{result(10_000)}}); !c.Passes() {
		t.Error("a ratio counts where none is demanded")
	}
}

func TestWrkSummaryIsRead(t *testing.T) {
	const output = "Running 1s test @ http://127.0.0.1:1\n  1 threads and 2 connections\n" +
		`GATEHOUSE-SUMMARY {"requests":1234,"duration":1000500,"connect":1,"read":2,"write":3,"status":4,"timeout":5,"p50":210,"p99":999}` + "\nmore\n"
	got, err := ParseWrk(output)
	want := Result{Operations: 1230, Errors: 15, Took: 1000500 * time.Microsecond, P50: 210 * time.Microsecond, P99: 999 * time.Microsecond}
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for _, output := range []string{"", "unable to connect to 127.0.0.1:1 Connection refused\n", "GATEHOUSE-SUMMARY {\n", "GATEHOUSE-SUMMARY {}\n",
		`GATEHOUSE-SUMMARY {"requests":5}`, `GATEHOUSE-SUMMARY {"requests":5,"duration":0}`} {
		if got, err := ParseWrk(output); err == nil {
			t.Errorf("%q is taken as %+v", output, got)
		}
	}
}

func TestWrkScriptQuotesEverything(t *testing.T) {
	script := WrkScript([]Request{{Method: "POST", Path: "/token?a=\"b\"", Header: map[string]string{"B": "2\\", "A": "1\n"}, Body: "x=y\x00"}, {Method: "GET", Path: "/jwks"}})
	for _, want := range []string{
		`wrk.format("POST", "/token?a=\034b\034", {["A"] = "1\010", ["B"] = "2\092", }, "x=y\000")`,
		`wrk.format("GET", "/jwks", {}, nil)`,
	} {
		if !strings.Contains(script, want) {
			t.Errorf("the script lacks %s:\n%s", want, script)
		}
	}
}

func TestSectionIsReplaced(t *testing.T) {
	const document = "before\n<!-- begin: a -->\nold\n<!-- end: a -->\nbetween\n<!-- begin: b -->\nkept\n<!-- end: b -->\nafter\n"
	got, err := Section(document, "a", "\nnew\n")
	want := strings.Replace(document, "\nold\n", "\n\nnew\n\n", 1)
	if err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if again, err := Section(got, "a", "new"); err != nil || again != got {
		t.Errorf("a second time: %q, %v", again, err)
	}
	for _, broken := range []string{"", "<!-- begin: a -->", "<!-- end: a --> <!-- begin: a -->",
		"<!-- begin: a --><!-- begin: a --><!-- end: a -->"} {
		if got, err := Section(broken, "a", "x"); err == nil {
			t.Errorf("%q becomes %q", broken, got)
		}
	}
}

func TestComparisonTable(t *testing.T) {
	rounds := func(rate int) []Result {
		return []Result{{Operations: 2 * rate, Took: 2 * time.Second, CPU: time.Duration(2*rate) * 80 * time.Microsecond, P99: 1500 * time.Microsecond, RSS: 30 << 20}}
	}
	got := ComparisonTable([]Comparison{
		{Scenario: "refresh", Connections: 16, Threshold: 0.5, Product: rounds(3000), Floor: rounds(4000)},
		{Scenario: "sessions|list", Connections: 1, Threshold: 0.8, Product: rounds(3000), Floor: rounds(4000)},
		{Scenario: "code flow", Connections: 64, Product: rounds(100), Floor: rounds(100)},
	})
	for _, want := range []string{
		"| refresh | 16 | 3000 | 4000 | 0.75 | >= 0.5: pass | 80 | 80 | 1.5 | 1.5 | 30 | 30 | 0 |\n",
		"| sessions\\|list | 1 | 3000 | 4000 | 0.75 | >= 0.8: FAIL |",
		"| code flow | 64 | 100 | 100 | 1.00 |  | 80 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the table lacks %q:\n%s", want, got)
		}
	}
	lines := strings.Split(strings.TrimSpace(got), "\n")
	for _, line := range lines {
		if n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|"); n != strings.Count(lines[0], "|") {
			t.Errorf("a line of %d bars: %s", n, line)
		}
	}
}

func TestSizeTable(t *testing.T) {
	sizes := []Size{
		{Sessions: 10_000, Bytes: 20_000_000, Pages: map[string]float64{"list": 40}},
		{Sessions: 1_000_000, Bytes: 1_500_000_000, Pages: map[string]float64{"list": 50}},
	}
	got := SizeTable(sizes, []string{"list"})
	for _, want := range []string{"| 10,000 | 40.0 (1.00) | 0.0 GB | 2,000 |", "| 1,000,000 | 50.0 (1.25) | 1.5 GB | 1,500 |"} {
		if !strings.Contains(got, want) {
			t.Errorf("the table lacks %q:\n%s", want, got)
		}
	}
	if Growth(sizes, "unknown", 1) != 0 || Growth(nil, "list", 0) != 0 {
		t.Error("what was not measured grows")
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"} {
		if got := grouped(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestRatioIsNotRoundedUp(t *testing.T) {
	for ratio, want := range map[float64]string{0.5: "0.50", 0.4999: "0.49", 0.799: "0.79", 0.29: "0.29", 1.999: "1.99", 0: "0.00"} {
		if got := Cut(ratio); got != want {
			t.Errorf("%v: %s, want %s", ratio, got, want)
		}
	}
}
