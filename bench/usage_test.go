//go:build linux

package bench

import (
	"encoding/json"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// ownCPU is what this process has used, and what its children had that have
// ended (wrk).
func ownCPU(t testing.TB) time.Duration {
	t.Helper()
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

// postmaster is the process whose children do PostgreSQL's work.
func (h *house) postmaster(t testing.TB) int {
	t.Helper()
	fields, err := stat(int(h.number(`SELECT pg_backend_pid()`)))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(fields[statParent])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func readJSON[T any](t testing.TB, text []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return v
}

func TestUsageIsReadFromTheKernel(t *testing.T) {
	before := ownCPU(t)
	deadline := time.Now().Add(30 * time.Second)
	for ownCPU(t)-before < 5*tick { // busy until then
		if time.Now().After(deadline) {
			t.Fatal("a busy process uses no processor time")
		}
	}
	u, err := readUsage(syscall.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if u.CPU < 4*tick || u.CPU > time.Hour || u.RSS < 1<<20 || u.RSS > 1<<36 {
		t.Errorf("%+v", u)
	}
	if sum := familyCPU(t, syscall.Getpid()); sum < u.CPU-tick {
		t.Errorf("with its children the process has used %v, by itself %v", sum, u.CPU)
	}
	if _, err := readUsage(-1); err == nil {
		t.Error("a process that is not there uses something")
	}
}
