package relyingparty_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/relyingparty"
)

func none(string) string { return "" }

func TestWrongCommandLinesAreRefused(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, tt := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no client id":       {nil, 2, "--client-id is missing"},
		"unknown flag":       {[]string{"--client-id", "x", "--client-secret", "y"}, 2, "not defined"},
		"argument":           {[]string{"--client-id", "x", "y"}, 2, "unexpected argument"},
		"missing file":       {[]string{"--client-id", "x", "--client-secret-file", filepath.Join(t.TempDir(), "x")}, 1, "no such file"},
		"bad issuer":         {[]string{"--client-id", "x", "--listen", "127.0.0.1:0", "--issuer", "localhost"}, 1, "issuer"},
		"bad URL":            {[]string{"--client-id", "x", "--listen", "127.0.0.1:0", "--url", "http://localhost/x"}, 1, "has a path"},
		"port that is taken": {[]string{"--client-id", "x", "--listen", taken.Addr().String()}, 1, "address already in use"},
	} {
		var errs bytes.Buffer
		if code := relyingparty.Run(t.Context(), tt.args, none, &errs, &errs); code != tt.code || !strings.Contains(errs.String(), tt.says) {
			t.Errorf("%s: exit %d: %s", name, code, errs.String())
		}
	}
}

// The secret comes from a file or the environment; both ways sign a user in.
func TestSecretIsRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(clientSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args   []string
		getenv func(string) string
	}{
		"file": {[]string{"--client-secret-file", file}, none},
		"environment": {nil, func(name string) string {
			if name == "RELYINGPARTY_CLIENT_SECRET" {
				return clientSecret
			}
			return ""
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeIssuer(t)
			ctx, end := context.WithCancel(t.Context())
			said := make(lines, 1)
			done := make(chan int, 1)
			var errs bytes.Buffer
			go func() {
				done <- relyingparty.Run(ctx, append([]string{"--issuer", f.URL, "--client-id", clientID, "--listen", "127.0.0.1:0"}, tt.args...), tt.getenv, said, &errs)
			}()
			_, address, _ := strings.Cut(<-said, " is at ")
			address, _, _ = strings.Cut(address, "/, ")
			p := (&party{fakeIssuer: f, url: address, log: &strings.Builder{}, t: t}).anotherBrowser()
			p.signIn()
			end()
			if code := <-done; code != 0 {
				t.Errorf("exit %d: %s", code, errs.String())
			}
		})
	}
}

// lines is a writer whose writes can be waited for.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}
