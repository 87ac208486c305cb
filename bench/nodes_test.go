//go:build linux

package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

const (
	// nodeShare is how much of a processor a node gets, in percent: so little
	// that PostgreSQL and the client have enough left beside four of them.
	nodeShare = 20
	// nodeSessions are how many sessions are loaded.
	nodeSessions = 10_000
	// leastGain is what two nodes must do, relative to one.
	leastGain = 1.6
)

// TestNodes tells whether nodes get into each other's way: one, two and four of
// them on one PostgreSQL, none of which may use more than nodeShare, so that
// they are what is scarce. TestScale gives them all that the machine has.
func TestNodes(t *testing.T) {
	s, asked := settingsOf(t)
	if !asked {
		return
	}
	needWrk(t)
	h := newHouse(t, map[string]string{"synchronous_commit": "off"})
	first := h.serve("node-1", true)
	h.grow(0, nodeSessions)
	table, gains := measureNodes(t, h, s, first, nodeSessions, func(p *program) { share(t, p, nodeShare) })
	for operation, gain := range gains {
		if gain < leastGain {
			t.Errorf("%s: two nodes do %.2f times what one does, want at least %.1f", operation, gain, leastGain)
		}
	}
	text := conditions(t, h, s).String() + fmt.Sprintf(" A node has %d%% of a processor. Demanded of two nodes: >= %.1f.\n\n", nodeShare, leastGain) + table
	fmt.Printf("\n%s\n", text)
	writeReport(t, s, "nodes", text)
}

// share bounds a program to a part of a processor, by a control group of its
// own, of either version.
func share(t *testing.T, p *program, percent int) {
	t.Helper()
	const period = 10_000 // microseconds: short, so that it is slow rather than away
	root, limit := "/sys/fs/cgroup", map[string]string{"cpu.max": fmt.Sprint(percent*period/100, " ", period)}
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); errors.Is(err, fs.ErrNotExist) {
		root, limit = "/sys/fs/cgroup/cpu", map[string]string{"cpu.cfs_period_us": strconv.Itoa(period), "cpu.cfs_quota_us": strconv.Itoa(percent * period / 100)}
	}
	group := filepath.Join(root, fmt.Sprintf("gatehouse-bench-%d", p.PID))
	put := func(file, value string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
			t.Fatalf("a node's share of a processor can't be set, which takes root and control groups: %v", err)
		}
	}
	if _, ok := limit["cpu.max"]; ok {
		put(filepath.Join(root, "cgroup.subtree_control"), "+cpu")
	}
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatalf("a node's share of a processor can't be set, which takes root and control groups: %v", err)
	}
	t.Cleanup(func() { // while it runs: its end comes later
		put(filepath.Join(root, "cgroup.procs"), strconv.Itoa(p.PID))
		if err := os.Remove(group); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"cpu.max", "cpu.cfs_period_us", "cpu.cfs_quota_us"} {
		if value, ok := limit[name]; ok {
			put(filepath.Join(group, name), value)
		}
	}
	put(filepath.Join(group, "cgroup.procs"), strconv.Itoa(p.PID))
}
