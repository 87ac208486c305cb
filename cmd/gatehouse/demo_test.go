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
			dir := t.TempDir()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			demo := exec.CommandContext(ctx, binary.path(t), "demo", "--port", "0")
			demo.Env = append(os.Environ(), "TMPDIR="+dir)
			stderr := &buffer{}
			demo.Stderr = stderr
			out, err := demo.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := demo.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = demo.Process.Kill() })
			var said strings.Builder
			for lines := bufio.NewScanner(out); lines.Scan(); {
				said.WriteString(lines.Text() + "\n")
				if strings.HasPrefix(lines.Text(), "Ctrl-C") {
					break
				}
			}
			for _, want := range []string{"alex-demo", "/authorization-servers/myAS", "/authorization-servers/partnerAS", "--walk"} {
				if !strings.Contains(said.String(), want) {
					t.Errorf("the demo does not say %q:\n%s%s", want, said.String(), stderr)
				}
			}
			address := regexp.MustCompile(`curl (http://\S+/openid-configuration)`).FindStringSubmatch(said.String())
			if address == nil {
				t.Fatalf("no address in\n%s%s", said.String(), stderr)
			}
			if res, err := http.Get(address[1]); err != nil || res.StatusCode != http.StatusOK {
				t.Errorf("GET %s: %v %v", address[1], res, err)
			} else {
				text(t, res)
			}
			if err := demo.Process.Signal(ending); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, out)
			if err := demo.Wait(); err != nil {
				t.Errorf("%v\n%s", err, stderr)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("the demo leaves %v behind (%v)", left, err)
			}
		})
	}
}

func TestDemoSaysWhenItsPortIsTaken(t *testing.T) {
	taken := listenLoopback(t)
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	code, _, stderr := command(t, "", "demo", "--port", port)
	if code != exitFailure || !strings.Contains(stderr, "choose another with --port") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("the demo leaves %v behind (%v)", left, err)
	}
}
