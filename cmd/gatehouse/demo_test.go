//go:build unix

package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Ctrl-C ends the demo, and nothing of it stays.
func TestDemoLeavesNothingBehind(t *testing.T) {
	// Where the tests themselves run under nohup, children would ignore SIGHUP
	// too; a handler here makes theirs the default one.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for name, ending := range map[string]os.Signal{"Ctrl-C": os.Interrupt, "SIGTERM": syscall.SIGTERM, "the terminal is closed": syscall.SIGHUP} {
		t.Run(name, func(t *testing.T) {
			d := startDemo(t)
			for _, want := range []string{"alex-demo", "/authorization-servers/myAS", "/authorization-servers/partnerAS", "--walk"} {
				if !strings.Contains(d.Text, want) {
					t.Errorf("the demo does not say %q:\n%s%s", want, d.Text, d.Log)
				}
			}
			for _, address := range []string{d.Metadata, d.Photos + "/", d.Calendar + "/"} {
				if res, err := http.Get(address); err != nil || res.StatusCode != http.StatusOK {
					t.Errorf("GET %s: %v %v", address, res, err)
				} else {
					text(t, res)
				}
			}
			// A connection that a browser opened ahead of need is not waited for.
			ahead, err := net.Dial("tcp", strings.TrimPrefix(d.Photos, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer ahead.Close()
			if err := d.End(ending); err != nil {
				t.Errorf("%v\n%s", err, d.Log)
			}
			if left, err := os.ReadDir(d.Dir); err != nil || len(left) != 0 {
				t.Errorf("the demo leaves %v behind (%v)", left, err)
			}
			for _, address := range []string{d.Metadata, d.Photos + "/", d.Calendar + "/"} {
				if res, err := http.Get(address); err == nil {
					text(t, res)
					t.Errorf("%s still answers", address)
				}
			}
		})
	}
}

// runningDemo is `gatehouse demo` as a process of its own, on free ports.
type runningDemo struct {
	Text             string // what it says
	Metadata         string // address of the issuer's metadata
	Photos, Calendar string // addresses of the applications
	Dir              string // its directory for temporary files
	Log              *buffer

	command *exec.Cmd
	out     io.Reader
}

// startDemo starts the demo and waits until it has said what to try. It is
// killed when the test ends.
func startDemo(t *testing.T) *runningDemo {
	t.Helper()
	d := &runningDemo{Dir: t.TempDir(), Log: &buffer{}}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	d.command = exec.CommandContext(ctx, binary.path(t), "demo", "--port", "0", "--photos-port", "0", "--calendar-port", "0")
	d.command.Env = append(os.Environ(), "TMPDIR="+d.Dir)
	d.command.Stderr = d.Log
	out, err := d.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.out = out
	if err := d.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.command.Process.Kill() })
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "Ctrl-C") {
			break
		}
	}
	d.Text = said.String()
	for pattern, into := range map[string]*string{
		`curl (http://\S+/openid-configuration)`: &d.Metadata,
		`(?m)^  Photo Album +(http://\S+)$`:      &d.Photos,
		`(?m)^  Calendar +(http://\S+)$`:         &d.Calendar,
	} {
		found := regexp.MustCompile(pattern).FindStringSubmatch(d.Text)
		if found == nil {
			t.Fatalf("nothing like %s in\n%s%s", pattern, d.Text, d.Log)
		}
		*into = found[1]
	}
	return d
}

// End sends a signal and returns how the process ended.
func (d *runningDemo) End(ending os.Signal) error {
	if err := d.command.Process.Signal(ending); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, d.out)
	return d.command.Wait()
}

func TestDemoSaysWhichPortIsTaken(t *testing.T) {
	taken := listenLoopback(t)
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for flag, who := range map[string]string{"--port": "the server", "--photos-port": "Photo Album", "--calendar-port": "Calendar"} {
		// The last one given counts.
		code, _, stderr := command(t, "", "demo", "--port", "0", "--photos-port", "0", "--calendar-port", "0", flag, port)
		if code != exitFailure || !strings.Contains(stderr, who) || !strings.Contains(stderr, ":"+port) || !strings.Contains(stderr, "choose another with "+flag) {
			t.Errorf("%s: exit %d: %s", flag, code, stderr)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("the demo leaves %v behind (%v)", left, err)
	}
}
