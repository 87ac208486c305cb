//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/storage/pgtest"
)

// restarted starts an ended node again, with its configuration and address.
func restarted(n *node) *node {
	n.t.Helper()
	again := &node{t: n.t, PublicURL: n.PublicURL, ConfigFile: n.ConfigFile, Log: &buffer{}, said: make(chan string, 1), exited: make(chan error, 1)}
	again.launch(binary.path(n.t))
	again.awaitReady()
	return again
}

// A node that is told to end answers the refreshes that it has begun, and what
// it answered holds after the next start.
func TestRefreshesUnderWayAtShutdownHold(t *testing.T) {
	databases := map[string]func(testing.TB) string{
		"sqlite":     func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "gatehouse.db") },
		"postgresql": func(t testing.TB) string { return pgtest.Shared(t).NewDatabase(t) },
	}
	for name, database := range databases {
		t.Run(name, func(t *testing.T) { shutdownAmidRefreshes(t, database(t)) })
	}
}

func shutdownAmidRefreshes(t *testing.T, database string) {
	jwt, opaque := houseParties("myAS", 25), houseParties("partnerAS", 25)
	parties := append(jwt, opaque...)
	nodes := startProcess(t, processOptions{Database: database, Change: []func(string) string{withParties(jwt), withParties(opaque)}})
	b := newVisitor(wide(nodes[0]), "alex", "alex-demo")
	before := desks(t, nodes, parties...)[0]
	refreshes := make([]*heldRefresh, len(parties))
	for i, d := range before {
		first := d.redeem(d.authorize(b).Get("code"))
		refreshes[i] = holdRefresh(t, nodes[0], d, first.Refresh)
	}

	// Half of them go on as the signal comes, half when it has been heard.
	stopped := make(chan error, 1)
	for i, h := range refreshes {
		if i == len(refreshes)/4 {
			go func() { stopped <- nodes[0].Stop() }()
		}
		if i == len(refreshes)/2 {
			poll(t, "the node says that it is not ready", func() bool { return notReady(nodes[0]) })
		}
		h.release()
	}
	answers := make([]tokens, len(refreshes))
	for i, h := range refreshes {
		answers[i] = h.answer()
	}
	if err := <-stopped; err != nil {
		t.Errorf("the node ended with %v:\n%s", err, nodes[0].Log)
	}

	after := desks(t, []*node{restarted(nodes[0])}, parties...)[0]
	for i, a := range answers {
		if a.Status != http.StatusOK || a.Refresh == "" {
			t.Errorf("refresh %d, begun before the signal, gets %d %s", i, a.Status, a.Error)
			continue
		}
		if !after[i].alive(a.Access) {
			t.Errorf("after the next start the access token of refresh %d is dead", i)
		}
		if again := after[i].refresh(a.Refresh); again.Status != http.StatusOK {
			t.Errorf("after the next start the refresh token of refresh %d gets %d %s", i, again.Status, again.Error)
		}
	}
}

func notReady(n *node) bool {
	res, err := http.Get(n.Operations + "/readyz")
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusServiceUnavailable
}

// heldRefresh is a refresh whose handler waits for the body.
type heldRefresh struct {
	t      *testing.T
	conn   net.Conn
	reader *bufio.Reader
	form   string
}

func holdRefresh(t *testing.T, n *node, d *desk, token string) *heldRefresh {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(n.URL, "http://"))
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(time.Minute))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	h := &heldRefresh{t: t, conn: conn, reader: bufio.NewReader(conn), form: url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {token}}.Encode()}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.issuer+"/token", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(d.id, d.secret)
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
		"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", req.URL.Path, req.Host, req.Header.Get("Authorization"), len(h.form))
	// It comes when the handler reads the body.
	line, err := h.reader.ReadString('\n')
	if err != nil || !strings.Contains(line, " 100 ") {
		t.Fatalf("the token endpoint says %q, %v", line, err)
	}
	if _, err := h.reader.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *heldRefresh) release() {
	if _, err := h.conn.Write([]byte(h.form)); err != nil {
		h.t.Errorf("sending a body: %v", err)
	}
}

func (h *heldRefresh) answer() (answer tokens) {
	res, err := http.ReadResponse(h.reader, nil)
	if err != nil {
		h.t.Errorf("reading an answer: %v", err)
		return answer
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		h.t.Errorf("reading an answer: %v", err)
	}
	answer.Status = res.StatusCode
	return answer
}
