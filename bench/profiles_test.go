//go:build linux

package bench

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// profilesDir is where profiles are kept, for go tool pprof.
const profilesDir = "profiles"

// topEntries are how many lines of a profile are printed.
const topEntries = 60

// TestProfiles takes a CPU and an allocation profile of the product in each
// scenario, and prints what costs most, callees included.
func TestProfiles(t *testing.T) {
	s, asked := settingsOf(t)
	if !asked {
		return
	}
	needWrk(t)
	h := newHouse(t, map[string]string{"pg_stat_statements.track": "none"})
	product := h.serve("product", true, "--profile")
	h.loadStages()
	st := newStage(t, h, product, 0, 0)
	h.exec(`VACUUM (ANALYZE)`)
	ending := &counter{}
	ending.end.Store(ownerFirst)
	if err := os.MkdirAll(profilesDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, sc := range scenarios(ending) {
		if !s.Wants(sc.name) {
			continue
		}
		sc.round(t, st, demanded, time.Second)
		during := max(2*s.Round, 3*time.Second)
		seconds := int((during - time.Second) / time.Second)
		if sc.supply != nil { // before the profiles begin
			sc.supply(st, during)
		}
		files := map[string]string{}
		var wg sync.WaitGroup
		for kind, path := range map[string]string{"cpu": "profile", "allocs": "allocs"} {
			files[kind] = filepath.Join(profilesDir, strings.ReplaceAll(sc.name, " ", "-")+"."+kind+".pprof")
			wg.Go(func() {
				if err := fetch(fmt.Sprintf("%s/debug/pprof/%s?seconds=%d", product.Operations, path, seconds), files[kind]); err != nil {
					t.Errorf("%s: %v", sc.name, err)
				}
			})
		}
		r := sc.measure(t, st, demanded, during)
		wg.Wait()
		if r.Errors > 0 {
			t.Errorf("%s: %d errors", sc.name, r.Errors)
		}
		fmt.Printf("\n=== %s: %.0f a second, %d µs of CPU each\n", sc.name, r.Rate(), r.CPUPerOperation().Microseconds())
		for _, kind := range []string{"cpu", "allocs"} {
			args := []string{"tool", "pprof", "-top", "-cum", fmt.Sprintf("-nodecount=%d", topEntries)}
			if kind == "allocs" {
				args = append(args, "-sample_index=alloc_space")
			}
			out, err := exec.Command("go", append(args, h.binary, files[kind])...).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v\n%s", files[kind], err, out)
				continue
			}
			fmt.Printf("--- %s (%s)\n%s", kind, filepath.Join("bench", files[kind]), out)
		}
	}
}

// fetch writes what a URL answers into a file.
func fetch(url, file string) (err error) {
	client := http.Client{Timeout: 2 * time.Minute}
	res, err := client.Get(url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s is answered with %s", url, res.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, res.Body)
	return err
}
