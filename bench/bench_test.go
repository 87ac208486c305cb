//go:build linux

package bench

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// report is the file with the tables.
const report = "README.md"

// demanded is the number of connections at which thresholds hold.
const demanded = 16

func TestBench(t *testing.T) {
	s, asked := settingsOf(t)
	if !asked {
		return
	}
	needWrk(t)
	h := newHouse(t, nil)
	product := h.serve("product", true)
	h.loadStages()
	floor := h.serveFloor(product)
	stages := []*stage{newStage(t, h, product, 0, 0), newStage(t, h, floor, floorLogins, floorOwners)}
	ending := &counter{}
	ending.end.Store(ownerFirst)
	all := scenarios(ending)
	checkFloor(t, h, all, stages[0], stages[1])
	h.exec(`ALTER SYSTEM SET pg_stat_statements.track = 'none'`)
	h.exec(`SELECT pg_reload_conf()`)
	h.exec(`VACUUM (ANALYZE)`)

	var comparisons []Comparison
	for _, sc := range all {
		if !s.Wants(sc.name) {
			continue
		}
		for _, st := range stages {
			sc.round(t, st, demanded, time.Second) // caches and statements are warm then
		}
		for _, connections := range s.Connections {
			c := Comparison{Scenario: sc.name, Connections: connections}
			if connections == demanded {
				c.Threshold = sc.threshold
			}
			for round := range s.Rounds {
				order := slices.Clone(stages)
				if round%2 == 1 {
					slices.Reverse(order)
				}
				for _, st := range order {
					r := sc.round(t, st, connections, s.Round)
					if st == stages[0] {
						c.Product = append(c.Product, r)
					} else {
						c.Floor = append(c.Floor, r)
					}
				}
			}
			word := "pass"
			if !c.Passes() {
				word = "FAIL"
				t.Fail()
			}
			fmt.Printf("%s  %-26s %3d connections  %7.0f of %7.0f a second  ratio %s (>= %.1f)  %d errors\n", word, c.Scenario, connections,
				MedianOf(c.Product, Result.Rate), MedianOf(c.Floor, Result.Rate), Cut(c.Ratio()), c.Threshold, c.Errors())
			comparisons = append(comparisons, c)
		}
	}
	text := conditions(t, h, s).String() + "\n\n" + ComparisonTable(comparisons)
	if s.Wants("sign-ins") {
		text += "\n" + starvation(t, h, s, stages[0])
	}
	fmt.Printf("\n%s\n", text)
	writeReport(t, s, "bench", text)
}

func needWrk(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("wrk"); err != nil {
		t.Fatal("wrk is missing; make bench installs it, or on Debian: apt-get install wrk")
	}
}

// conditions are those of this run.
func conditions(t testing.TB, h *house, s Settings) Conditions {
	t.Helper()
	c := Conditions{Date: time.Now(), Commit: "unknown", Go: runtime.Version(), PostgreSQL: h.text(`SHOW server_version`),
		Wrk: "none", System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Settings: s}
	if commit, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output(); err == nil {
		c.Commit = strings.TrimSpace(string(commit))
		if changed, err := exec.Command("git", "status", "--porcelain", "--untracked-files=no").Output(); err != nil || len(changed) > 0 {
			c.Commit += "+"
		}
	}
	// Its exit code is 1: it wants a URL.
	if out, _ := exec.Command("wrk", "-v").CombinedOutput(); len(out) > 0 {
		if fields := strings.Fields(string(out)); len(fields) > 1 {
			c.Wrk = fields[1]
		}
	}
	return c
}

// writeReport puts a text into its section of README.md.
func writeReport(t *testing.T, s Settings, section, text string) {
	t.Helper()
	if !s.Report {
		return
	}
	before, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	after, err := Section(string(before), section, text)
	if err == nil {
		err = os.WriteFile(report, []byte(after), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
