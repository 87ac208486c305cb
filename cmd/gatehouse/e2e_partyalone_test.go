//go:build unix

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/relyingparty"
)

// The example of docs/relying-party.md, on free ports: an application at the
// other authorization server, with opaque tokens, that sees its own sessions
// only.
func TestRelyingPartyRunsAsItsPageSays(t *testing.T) {
	var port string
	server := startServer(t, serverOptions{Config: func(cfg *configs.Config) {
		free := listenLoopback(t)
		port = fmt.Sprint(portOf(free))
		free.Close()
		for i, client := range cfg.AuthorizationServers["partnerAS"].Clients {
			if client.ClientID == "partner-portal" {
				cfg.AuthorizationServers["partnerAS"].Clients[i].RedirectURIs = []string{"http://localhost:" + port + "/callback"}
			}
		}
	}})
	example := shellBlock.FindStringSubmatch(document(t, "docs/relying-party.md"))[1]
	example = strings.NewReplacer("http://localhost:8080", server.URL, ":9003", ":"+port).Replace(example)
	variable := regexp.MustCompile(`export (\w+)=(\S+)\n`).FindStringSubmatch(example)
	_, line, ok := strings.Cut(example, "go run ./cmd/relyingparty ")
	if variable == nil || !ok {
		t.Fatalf("the example is\n%s", example)
	}
	var args []string
	for _, arg := range regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(line, -1) {
		args = append(args, strings.Trim(arg, `"`))
	}
	getenv := func(name string) string {
		if name == variable[1] {
			return variable[2]
		}
		return ""
	}
	ctx, end := context.WithCancel(context.Background())
	said, out := io.Pipe()
	log := &buffer{}
	done := make(chan int, 1)
	go func() {
		done <- relyingparty.Run(ctx, args, getenv, out, log)
		out.Close()
	}()
	t.Cleanup(func() {
		end()
		if code := <-done; code != 0 {
			t.Errorf("it exits with %d:\n%s", code, log)
		}
	})
	a := &application{URL: "http://localhost:" + port, tokens: &tokenRecorder{}, t: t}
	first, err := bufio.NewReader(said).ReadString('\n')
	if err != nil || !strings.Contains(first, "Partner Portal is at "+a.URL+"/, its redirect URI is "+a.URL+"/callback") {
		t.Fatalf("it says %q, %v\n%s", first, err, log)
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	one, two := newBrowser(t), newBrowser(t)
	a.MustSignIn(one)
	a.mustShow(a.MustSignIn(two), "[Partner Portal]", "Partner Portal")
	a.Press(two, a.Open(two), "/sessions/end", 0)
	a.mustSay(a.Open(one), endedElsewhere)
}
