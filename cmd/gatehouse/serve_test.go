//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/keys"
	"gatehouse.dev/gatehouse/storage/pgtest"
)

func TestServerFindsEverythingWhereItIsPromised(t *testing.T) {
	s := startServer(t, serverOptions{Config: func(c *configs.Config) {
		c.BasePath = "/auth-login/rest/oauth2"
		c.Realms["staff"] = c.Realms[defaultRealm]
	}})
	for path, want := range map[string]int{
		"/auth-login/rest/oauth2/authorization-servers/myAS/.well-known/openid-configuration":            200,
		"/auth-login/rest/oauth2/authorization-servers/myAS/.well-known/oauth-authorization-server":      200,
		"/.well-known/oauth-authorization-server/auth-login/rest/oauth2/authorization-servers/myAS":      200,
		"/.well-known/oauth-authorization-server/auth-login/rest/oauth2/authorization-servers/partnerAS": 200,
		"/auth-login/rest/oauth2/authorization-servers/partnerAS/jwks":                                   200,
		"/auth-login/rest/oauth2/authorization-servers/myAS/session/":                                    401,
		"/auth-login/rest/oauth2/authorization-servers/myAS/sessions":                                    401,
		"/login":                           200,
		"/realms/default/login":            200,
		"/realms/staff/login":              200,
		"/realms/unknown/login":            404,
		"/authorization-servers/myAS/jwks": 404,
		"/auth-login/rest/oauth2/authorization-servers/myASx/jwks": 404,
		"/auth-login/rest/oauth2/authorization-servers/other/jwks": 404,
		"/healthz": 404,
		"/metrics": 404,
		"/readyz":  404,
	} {
		res, body := send(t, http.MethodGet, s.URL+path, nil, nil)
		if res.StatusCode != want {
			t.Errorf("GET %s: %d, want %d\n%s", path, res.StatusCode, want, body)
		}
	}
	var metadata struct {
		Issuer string `json:"issuer"`
	}
	_, body := send(t, http.MethodGet, s.Issuer("myAS")+"/.well-known/openid-configuration", nil, nil)
	if err := json.Unmarshal([]byte(body), &metadata); err != nil || metadata.Issuer != s.Issuer("myAS") {
		t.Errorf("issuer %q, want %q", metadata.Issuer, s.Issuer("myAS"))
	}
}

func TestBrowserApplicationsReachTheSessionAPI(t *testing.T) {
	s := startServer(t, serverOptions{})
	for origin, want := range map[string]string{"http://localhost:9001": "http://localhost:9001", "https://evil.example": "", "null": ""} {
		res, _ := send(t, http.MethodOptions, s.Issuer("myAS")+"/sessions/", nil, http.Header{
			"Origin": {origin}, "Access-Control-Request-Method": {"GET"}, "Access-Control-Request-Headers": {"authorization"}})
		if got := res.Header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("origin %s: Access-Control-Allow-Origin %q, want %q", origin, got, want)
		}
	}
}

func TestUsersOfTheFileAreMadeOnce(t *testing.T) {
	database := "sqlite:" + filepath.Join(t.TempDir(), "gatehouse.db")
	kek := keys.GenerateKEK()
	change := func(password string) func(*configs.Config) {
		return func(c *configs.Config) { c.Realms[defaultRealm].Users[0].Password = configs.Secret(password) }
	}
	first := startServer(t, serverOptions{Database: database, KEK: kek, Config: change("first password")})
	first.Close()
	second := startServer(t, serverOptions{Database: database, KEK: kek, Config: change("second password")})
	callback, _ := newBrowser(t).As("alex", "second password").Authorize(authorizeURL(second.Issuer("myAS")))
	if callback != nil {
		t.Error("the file's new password works: a restart must not undo what users do")
	}
	callback, _ = newBrowser(t).As("alex", "first password").Authorize(authorizeURL(second.Issuer("myAS")))
	if callback.Get("code") == "" {
		t.Errorf("callback %v", callback)
	}
}

func TestServerWithAnotherKeyDoesNotStart(t *testing.T) {
	database := "sqlite:" + filepath.Join(t.TempDir(), "gatehouse.db")
	startServer(t, serverOptions{Database: database}).Close()
	code, _, stderr := command(t, "", "keys", "list", "--as", "myAS", "--config", writeConfig(t, database, ""))
	if code != exitFailure || !strings.Contains(stderr, "key-encryption key") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// Last use is noted in memory; what is noted when the server ends is written.
func TestLastUseIsWrittenWhenTheServerEnds(t *testing.T) {
	database, kek := "sqlite:"+filepath.Join(t.TempDir(), "gatehouse.db"), keys.GenerateKEK()
	var now atomic.Pointer[time.Time]
	set := func(at time.Time) { now.Store(&at) }
	began := time.Now().UTC().Add(-20 * time.Minute).Truncate(time.Millisecond)
	set(began)
	s := startServer(t, serverOptions{Database: database, KEK: kek, Now: func() time.Time { return *now.Load() }})
	tokens := redeem(t, s.Issuer("myAS"), newBrowser(t), demoFirst)
	set(began.Add(2 * time.Minute))
	if res, body := send(t, http.MethodGet, s.Issuer("myAS")+"/session/", nil, http.Header{"Authorization": {"Bearer " + tokens.accessToken}}); res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", res.Status, body)
	}
	s.Close()
	code, stdout, stderr := command(t, "", "sessions", "list", "--as", "myAS", "-o", "json", "--config", writeConfig(t, database, kek))
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	list := decodeJSON[[]sessionItem](t, stdout)
	if len(list) != 1 || !list[0].LastUsedAt.Equal(began.Add(2*time.Minute)) {
		t.Errorf("sessions %+v, want one last used at %s", list, began.Add(2*time.Minute))
	}
}

// A request whose body is still coming when the server is told to end is
// answered, and until then the node says that it is not ready.
func TestShutdownFinishesRequests(t *testing.T) {
	s := startServer(t, serverOptions{})
	form := url.Values{"grant_type": {"client_credentials"}}.Encode()
	conn, err := net.Dial("tcp", "127.0.0.1"+strings.TrimPrefix(s.URL, "http://localhost"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reader := bufio.NewReader(conn)
	path := strings.TrimPrefix(s.Issuer("myAS"), s.URL) + "/token"
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n"+
		"Authorization: Basic cmVwb3J0czpyZXBvcnRzLWRlbW8=\r\nExpect: 100-continue\r\n\r\n", path, len(form))
	line, err := reader.ReadString('\n') // comes when the handler reads the body
	if err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("%q %v", line, err)
	}
	if _, err := reader.ReadString('\n'); err != nil {
		t.Fatal(err)
	}

	s.end()
	poll(t, "the node says that it is not ready", func() bool {
		res, err := http.Get(s.Operations + "/readyz")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusServiceUnavailable
	})
	select {
	case err := <-s.done:
		t.Fatalf("the server ended under a request: %v", err)
	default:
	}
	_, _ = io.WriteString(conn, form)
	res, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body := text(t, res); res.StatusCode != http.StatusOK || !strings.Contains(body, "access_token") {
		t.Errorf("%s %s", res.Status, body)
	}
	s.Close()
	if _, err := net.Dial("tcp", strings.TrimPrefix(s.Operations, "http://")); err == nil {
		t.Error("the operations listener is still there")
	}
}

// poll waits for what happens soon, minutes at most.
func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

func TestNodesStartTogetherAndAreOneIssuer(t *testing.T) {
	databases := map[string]func(testing.TB) string{
		"sqlite":     func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "gatehouse.db") },
		"postgresql": func(t testing.TB) string { return pgtest.Shared(t).NewDatabase(t) },
	}
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			nodes := startProcess(t, processOptions{Database: database(t), Nodes: 2})
			var keySets []string
			for _, n := range nodes {
				res, err := n.Client().Get(n.Issuer("myAS") + "/jwks")
				if err != nil {
					t.Fatal(err)
				}
				keySets = append(keySets, text(t, res))
			}
			if keySets[0] != keySets[1] || !strings.Contains(keySets[0], `"kid"`) {
				t.Error("two nodes have different keys")
			}
			// The way begins at one node and ends at the other.
			b := newBrowser(t).At(nodes[1])
			callback, final := b.Authorize(authorizeURL(nodes[1].Issuer("myAS")))
			if callback.Get("code") == "" {
				t.Fatalf("no code: %s %s", final.Status, text(t, final))
			}
			if err := nodes[0].Stop(); err != nil {
				t.Errorf("ending a node: %v\n%s", err, nodes[0].Log)
			}
			if callback, _ := b.Authorize(authorizeURL(nodes[1].Issuer("myAS"))); callback.Get("code") == "" {
				t.Error("one node's end is felt at the other")
			}
		})
	}
}

// authorizeURL is an authorization request of the demo's client oidc-client.
func authorizeURL(issuer string) string {
	return issuer + "/authorize?" + url.Values{
		"response_type": {"code"}, "client_id": {"oidc-client"}, "redirect_uri": {"http://localhost:9001/callback"},
		"scope": {"openid profile"}, "state": {"some-state"}, "nonce": {"some-nonce"},
	}.Encode()
}
