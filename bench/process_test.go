//go:build linux

package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program is a server in a process of its own: the product, or the floor.
type program struct {
	Name       string
	Address    string // host:port
	Operations string // URL of the operations listener; empty: it has none
	PID        int

	t       testing.TB
	command *exec.Cmd
	log     string // file
	said    chan string
	exited  chan error
	once    sync.Once
	err     error
}

// build builds a command of this module as `make build` does.
func build(t testing.TB, dir, name, pkg string) string {
	t.Helper()
	out := filepath.Join(dir, name)
	command := exec.Command("go", "build", "-trimpath", "-o", out, pkg)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", pkg, err, text)
	}
	return out
}

// run starts a program, which says "NAME listens on URL" with or without ", for
// operations on URL", and ends it with the test.
func run(t testing.TB, dir, name, path string, args ...string) *program {
	t.Helper()
	p := &program{Name: name, t: t, said: make(chan string, 1), exited: make(chan error, 1), log: filepath.Join(dir, name+".log")}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.command = exec.Command(path, args...)
	p.command.Stderr = log // a file, as in production: no pipe that we would have to empty
	out, err := p.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	p.PID = p.command.Process.Pid
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("%s ended with %v; its log ends:\n%s", name, err, p.logTail())
		}
	})
	go func() {
		reader := bufio.NewReader(out)
		text, _ := reader.ReadString('\n')
		p.said <- text
		_, _ = io.Copy(io.Discard, reader)
		p.exited <- p.command.Wait()
	}()
	select {
	case text := <-p.said:
		_, rest, _ := strings.Cut(strings.TrimSpace(text), "listens on ")
		url, operations, _ := strings.Cut(rest, ", for operations on ")
		p.Address, p.Operations = strings.TrimPrefix(url, "http://"), operations
		if p.Address == "" {
			t.Fatalf("%s said %q; its log ends:\n%s", name, text, p.logTail())
		}
	case <-time.After(2 * time.Minute):
		t.Fatalf("%s did not start; its log ends:\n%s", name, p.logTail())
	}
	return p
}

// Stop ends the program in order.
func (p *program) Stop() error {
	p.once.Do(func() {
		if err := p.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			p.err = err
		}
		select {
		case err := <-p.exited:
			p.err = errors.Join(p.err, err)
		case <-time.After(time.Minute):
			p.err = errors.Join(p.err, errors.New("it did not end within a minute"), p.command.Process.Kill())
			p.err = errors.Join(p.err, <-p.exited)
		}
	})
	return p.err
}

func (p *program) logTail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// usage is what a process has used so far.
type usage struct {
	CPU time.Duration // user and system
	RSS int64         // bytes
}

func (p *program) usage() usage {
	p.t.Helper()
	u, err := readUsage(p.PID)
	if err != nil {
		p.t.Fatal(err)
	}
	return u
}

// tick is the unit of processor times in /proc: 1/100 s on every Linux that Go
// runs on.
const tick = 10 * time.Millisecond

// readUsage reads /proc/PID/stat (proc(5)).
func readUsage(pid int) (usage, error) {
	fields, err := stat(pid)
	if err != nil {
		return usage{}, err
	}
	var numbers [3]int64
	for i, at := range []int{statUser, statSystem, statRSS} {
		if numbers[i], err = strconv.ParseInt(fields[at], 10, 64); err != nil {
			return usage{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
	}
	return usage{CPU: time.Duration(numbers[0]+numbers[1]) * tick, RSS: numbers[2] * int64(os.Getpagesize())}, nil
}

// Fields of stat, counted from the one after the program's name.
const (
	statParent  = 1
	statUser    = 11
	statSystem  = 12
	statDeadCPU = 13 // user; system follows: of children that were waited for
	statRSS     = 21
)

func stat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	// The name stands in parentheses and may have any character in it.
	at := strings.LastIndexByte(string(text), ')')
	fields := strings.Fields(string(text[at+1:]))
	if at < 0 || len(fields) <= statRSS {
		return nil, fmt.Errorf("/proc/%d/stat can't be read", pid)
	}
	return fields, nil
}

// familyCPU is the processor time of a process and its children, those that
// have ended included: what all of PostgreSQL has used.
func familyCPU(t testing.TB, pid int) time.Duration {
	t.Helper()
	fields, err := stat(pid)
	if err != nil {
		t.Fatal(err)
	}
	var ticks int64
	for _, at := range []int{statUser, statSystem, statDeadCPU, statDeadCPU + 1} {
		n, err := strconv.ParseInt(fields[at], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	sum := time.Duration(ticks) * tick
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		child, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// A process that ends meanwhile is counted by its parent.
		if fields, err := stat(child); err == nil && fields[statParent] == strconv.Itoa(pid) {
			if u, err := readUsage(child); err == nil {
				sum += u.CPU
			}
		}
	}
	return sum
}
