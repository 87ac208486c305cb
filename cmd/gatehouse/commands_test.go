//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/keys"
)

func TestCommandLineRefusals(t *testing.T) {
	config := writeConfig(t, "sqlite:"+filepath.Join(t.TempDir(), "gatehouse.db"), "")
	tests := []struct {
		args []string
		code int
		want string // in what is said on standard error
	}{
		{[]string{}, exitUsage, "a command is missing"},
		{[]string{"sreve"}, exitUsage, `unknown command "sreve"`},
		{[]string{"users"}, exitUsage, "a command is missing"},
		{[]string{"users", "remove"}, exitUsage, `unknown command "remove" for "gatehouse users"`},
		{[]string{"serve"}, exitUsage, "--config FILE is missing"},
		{[]string{"serve", "--port", "1"}, exitUsage, "unknown flag: --port"},
		{[]string{"serve", "file"}, exitUsage, `unexpected argument "file"`},
		{[]string{"serve", "--config", config, "--log-format", "xml"}, exitUsage, "--log-format is json or text"},
		{[]string{"serve", "--config", config, "--log-level", "loud"}, exitUsage, "--log-level is"},
		{[]string{"serve", "--config", "/nowhere/at/all"}, exitFailure, "no such file"},
		{[]string{"config", "check"}, exitUsage, "missing argument FILE"},
		{[]string{"config", "check", "/nowhere/at/all"}, exitFailure, "no such file"},
		{[]string{"users", "list", "--config", config, "--realm", "moon"}, exitUsage, `no realm "moon" is configured, but default`},
		{[]string{"users", "list", "--config", config, "-o", "xml"}, exitUsage, "--output is table or json"},
		{[]string{"users", "add", "--config", config}, exitUsage, "missing argument USERNAME"},
		{[]string{"users", "add", "kim", "--config", config}, exitUsage, "--password-stdin"},
		{[]string{"users", "add", "kim", "--config", config, "--role", "king"}, exitUsage, `no role "king"`},
		{[]string{"users", "add", "a b\x00", "--config", config, "--password-stdin"}, exitUsage, "can't be a user name"},
		{[]string{"users", "add", "kim", "--config", config, "--password-stdin"}, exitFailure, "password has 8 characters"},
		{[]string{"users", "lock", "nobody", "--config", config}, exitFailure, "no such user"},
		{[]string{"users", "unlock", "nobody", "--config", config}, exitFailure, "no such user"},
		{[]string{"users", "set-password", "nobody", "--config", config, "--password-stdin"}, exitFailure, "no such user"},
		{[]string{"clients", "list", "--config", config}, exitUsage, "--as is missing: myAS, partnerAS"},
		{[]string{"clients", "list", "--config", config, "--as", "other"}, exitUsage, `no authorization server "other" is configured, but myAS, partnerAS`},
		{[]string{"clients", "show", "nobody", "--config", config, "--as", "myAS"}, exitFailure, `no client "nobody" at myAS`},
		{[]string{"clients", "delete", "nobody", "--config", config, "--as", "myAS"}, exitFailure, `no client "nobody" at myAS`},
		{[]string{"clients", "delete", "calendar", "--config", config, "--as", "myAS"}, exitFailure, "stands in the configuration file"},
		{[]string{"clients", "add", "--id", "calendar", "--config", config, "--as", "myAS"}, exitFailure, "stands in the configuration file"},
		{[]string{"clients", "add", "--config", config, "--as", "myAS"}, exitFailure, "redirect_uris"},
		{[]string{"clients", "add", "--redirect-uri", "http://shop.example/cb#x", "--auth-method", "basic", "--config", config, "--as", "myAS"}, exitFailure, "2 faults"},
		{[]string{"sessions", "end", "--config", config, "--as", "myAS"}, exitUsage, "which sessions?"},
		{[]string{"sessions", "end", "--config", config, "--as", "myAS", "--user", "alex", "--all-of-user", "alex"}, exitUsage, "--all-of-user goes with no other choice"},
		{[]string{"sessions", "end", "--config", config, "--as", "myAS", "--session", "unknown"}, exitFailure, "no such session"},
		{[]string{"sessions", "end", "--config", config, "--as", "myAS", "--user", "nobody"}, exitFailure, "no such user"},
		{[]string{"sessions", "list", "--config", config, "--as", "myAS", "--limit", "0"}, exitUsage, "--limit is from 1 to 1000"},
		{[]string{"keys", "rotate", "--config", config, "--as", "myAS", "--alg", "HS256"}, exitFailure, `rotating "HS256"`},
		{[]string{"keys", "rewrap", "--config", config, "--as", "other"}, exitUsage, `no authorization server "other"`},
		{[]string{"audit"}, exitUsage, "a command is missing"},
		{[]string{"audit", "list"}, exitUsage, "--config FILE is missing"},
		{[]string{"audit", "list", "--config", config, "--type", "refresh"}, exitUsage, `there is no event "refresh"`},
		{[]string{"audit", "list", "--config", config, "--result", "maybe"}, exitUsage, `there is no result "maybe"`},
		{[]string{"audit", "list", "--config", config, "--since", "yesterday"}, exitUsage, "--since: "},
		{[]string{"audit", "list", "--config", config, "--until", "-1h"}, exitUsage, "--until: "},
		{[]string{"audit", "list", "--config", config, "--before", "1"}, exitUsage, "no id of an audit event"},
		{[]string{"audit", "list", "--config", config, "--limit", "1001"}, exitUsage, "--limit is from 1 to 1000"},
		{[]string{"audit", "list", "--config", config, "--address", "here"}, exitUsage, "--address is an IP address"},
		{[]string{"audit", "list", "--config", config, "--user", "nobody"}, exitFailure, "no such user"},
		{[]string{"audit", "list", "--config", config, "--realm", "moon"}, exitUsage, `no realm "moon"`},
		{[]string{"audit", "list", "--config", config}, exitOK, ""},
		{[]string{"deliveries"}, exitUsage, "a command is missing"},
		{[]string{"deliveries", "list", "--as", "myAS"}, exitUsage, "--config FILE is missing"},
		{[]string{"deliveries", "list", "--config", config}, exitUsage, "--as is missing: myAS, partnerAS"},
		{[]string{"deliveries", "list", "--config", config, "--as", "other"}, exitUsage, `no authorization server "other"`},
		{[]string{"deliveries", "list", "--config", config, "--as", "myAS", "--state", "lost"}, exitUsage, "--state is waiting, sent or abandoned"},
		{[]string{"deliveries", "list", "--config", config, "--as", "myAS", "--limit", "1001"}, exitUsage, "--limit is from 1 to 1000"},
		{[]string{"deliveries", "list", "--config", config, "--as", "myAS"}, exitOK, ""},
		{[]string{"version"}, exitOK, ""},
		{[]string{"config", "schema"}, exitOK, ""},
		{[]string{"config", "check", config}, exitOK, ""},
		{[]string{"migrate", "--config", config}, exitOK, ""},
		{[]string{"--help"}, exitOK, ""},
		{[]string{"sessions", "end", "--help"}, exitOK, ""},
	}
	for _, tt := range tests {
		code, stdout, stderr := command(t, "", tt.args...)
		if code != tt.code || !strings.Contains(stderr, tt.want) {
			t.Errorf("gatehouse %s: exit %d, %q, want %d with %q", strings.Join(tt.args, " "), code, stderr, tt.code, tt.want)
		}
		if tt.code == exitOK && stdout == "" {
			t.Errorf("gatehouse %s says nothing", strings.Join(tt.args, " "))
		}
		if tt.code == exitUsage && !strings.Contains(stderr, "--help") {
			t.Errorf("gatehouse %s does not say where help is: %q", strings.Join(tt.args, " "), stderr)
		}
	}
}

func TestConfigCheckNamesAllFaults(t *testing.T) {
	file := writeConfig(t, "sqlite:x.db", "", setLine("public_url", "http://id.example"), setLine("listne", "x"), setLine("listen", "nowhere"))
	code, stdout, stderr := command(t, "", "config", "check", file)
	if code != exitFailure || strings.Count(stdout, "\n") != 3 || !strings.Contains(stderr, "3 faults") {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	for line := range strings.Lines(stdout) {
		if !strings.HasPrefix(line, file+":") || strings.Count(line, ":") < 4 {
			t.Errorf("no place in %q", line)
		}
	}
	code, stdout, stderr = command(t, "", "serve", "--config", file)
	if code != exitFailure || stdout != "" || !strings.Contains(stderr, "3 faults") || !strings.Contains(stderr, "listne") {
		t.Errorf("serve: exit %d\n%s%s", code, stdout, stderr)
	}
}

// operatorFixture is a running server and the file by which commands reach its
// database.
func operatorFixture(t *testing.T) (s *testServer, operate func(stdin string, args ...string) string) {
	t.Helper()
	database, kek := "sqlite:"+filepath.Join(t.TempDir(), "gatehouse.db"), keys.GenerateKEK()
	s = startServer(t, serverOptions{Database: database, KEK: kek})
	file := writeConfig(t, database, kek)
	return s, func(stdin string, args ...string) string {
		t.Helper()
		code, stdout, stderr := command(t, stdin, append(args, "--config", file)...)
		if code != exitOK {
			t.Fatalf("gatehouse %s: exit %d: %s", strings.Join(args, " "), code, stderr)
		}
		return stdout
	}
}

func decodeJSON[T any](t *testing.T, document string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(document), &v); err != nil {
		t.Fatalf("%v in %s", err, document)
	}
	return v
}

func TestUsersCommands(t *testing.T) {
	s, operate := operatorFixture(t)
	request := authorizeURL(s.Issuer("myAS"))
	signsIn := func(username, password string) bool {
		callback, _ := newBrowser(t).As(username, password).Authorize(request)
		return callback.Get("code") != ""
	}
	id := strings.TrimSpace(operate("kim's password\nnot a part of it\n", "users", "add", "Kim", "--name", "Kim Ex", "--email", "kim@example.com", "--role", "session-admin", "--password-stdin"))
	list := decodeJSON[[]userItem](t, operate("", "users", "list", "-o", "json"))
	var kim *userItem
	for i := range list {
		if list[i].ID == id {
			kim = &list[i]
		}
	}
	if len(list) != 4 || kim == nil || kim.Username != "Kim" || kim.Name != "Kim Ex" || kim.Email != "kim@example.com" || len(kim.Roles) != 1 || kim.CreatedAt.IsZero() {
		t.Fatalf("users list: %+v", list)
	}
	if table := operate("", "users", "list"); !strings.Contains(table, id) || strings.Contains(table, "argon2") {
		t.Errorf("users list:\n%s", table)
	}
	if !signsIn("kim", "kim's password") {
		t.Error("an added user can't sign in")
	}
	if code, _, stderr := command(t, "another password", "users", "add", "KIM", "--password-stdin", "--config", writeConfig(t, string(s.Config.Database), string(s.Config.KeyEncryptionKey))); code != exitFailure || !strings.Contains(stderr, "taken") {
		t.Errorf("adding the same name again: exit %d, %s", code, stderr)
	}

	// What people could not choose for themselves the operator can, and is warned.
	for _, tt := range []struct {
		what, password string
		exit           int
		says           string
	}{
		{"add lea", "Password", 0, "warning: the password is one of the commonest"},
		{"add lea.example", "lea.example", 0, "warning: the password is the user name"},
		{"set-password lea", "        ", 0, "warning: the password is one of the commonest"},
		{"set-password lea", "1234567", exitFailure, "8 characters"},
		{"set-password lea.example", "lea's password", 0, ""},
	} {
		args := append([]string{"users"}, strings.Fields(tt.what)...)
		code, _, stderr := command(t, tt.password, append(args, "--password-stdin", "--config", writeConfig(t, string(s.Config.Database), string(s.Config.KeyEncryptionKey)))...)
		if code != tt.exit || !strings.Contains(stderr, tt.says) || strings.Contains(stderr, "warning") != strings.HasPrefix(tt.says, "warning") {
			t.Errorf("%s with %q: exit %d, %s", tt.what, tt.password, code, stderr)
		}
	}
	if !signsIn("lea", "        ") || !signsIn("lea.example", "lea's password") {
		t.Error("the passwords are not those that the operator chose")
	}
	operate("kim's new password", "users", "set-password", "kim", "--password-stdin")
	if signsIn("kim", "kim's password") || !signsIn("kim", "kim's new password") {
		t.Error("the new password is not the one")
	}
	operate("", "users", "lock", id)
	if signsIn("kim", "kim's new password") {
		t.Error("a locked user signs in")
	}
	for _, item := range decodeJSON[[]userItem](t, operate("", "users", "list", "-o", "json")) {
		if item.LockedAt.IsZero() == (item.ID == id) {
			t.Errorf("%s is locked: %t", item.Username, !item.LockedAt.IsZero())
		}
	}
	operate("", "users", "unlock", "kim")
	if !signsIn("kim", "kim's new password") {
		t.Error("an unlocked user can't sign in")
	}
}

func TestClientsCommands(t *testing.T) {
	s, operate := operatorFixture(t)
	added := decodeJSON[map[string]string](t, operate("", "clients", "add", "--as", "myAS", "--name", "Nightly", "--grant-type", "client_credentials", "--scope", "reports"))
	id, secret := added["client_id"], added["client_secret"]
	if len(id) != 26 || len(secret) != 43 {
		t.Fatalf("clients add: %v", added)
	}
	token := func(secret string) (status int, accessToken string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Issuer("myAS")+"/token", strings.NewReader(url.Values{"grant_type": {"client_credentials"}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.SetBasicAuth(id, secret)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body := text(t, res)
		if res.StatusCode == http.StatusOK {
			accessToken = decodeJSON[map[string]any](t, body)["access_token"].(string)
		}
		return res.StatusCode, accessToken
	}
	status, accessToken := token(secret)
	if status != http.StatusOK {
		t.Fatalf("the client with its secret: %d", status)
	}
	for _, wrong := range []string{secret + "x", strings.ToLower(secret), ""} {
		if status, _ := token(wrong); status != http.StatusUnauthorized {
			t.Errorf("the client with another secret: %d, want 401", status)
		}
	}
	active := func() bool {
		res, body := send(t, http.MethodPost, s.Issuer("myAS")+"/introspect", strings.NewReader(url.Values{"token": {accessToken}}.Encode()), http.Header{
			"Content-Type": {"application/x-www-form-urlencoded"}, "Authorization": {"Basic cmVwb3J0czpyZXBvcnRzLWRlbW8="}})
		if res.StatusCode != http.StatusOK {
			t.Fatalf("introspection: %s %s", res.Status, body)
		}
		return decodeJSON[map[string]any](t, body)["active"] == true
	}
	if !active() {
		t.Error("the client's token is not active")
	}
	table := operate("", "clients", "list", "--as", "myAS")
	document := operate("", "clients", "list", "--as", "myAS", "-o", "json")
	show := operate("", "clients", "show", id, "--as", "myAS")
	for name, text := range map[string]string{"table": table, "json": document, "show": show} {
		if !strings.Contains(text, id) || strings.Contains(text, secret) || strings.Contains(text, "calendar-demo") || strings.Contains(text, "\x1b") {
			t.Errorf("%s:\n%s", name, text)
		}
	}
	for _, item := range decodeJSON[[]clientItem](t, document) {
		want := "configuration"
		if item.ClientID == id {
			want = "database"
		}
		if item.Source != want {
			t.Errorf("%s comes from %s, want %s", item.ClientID, item.Source, want)
		}
	}
	if strings.Contains(operate("", "clients", "list", "--as", "partnerAS"), id) {
		t.Error("another authorization server has the client too")
	}
	operate("", "clients", "delete", id, "--as", "myAS")
	if active() {
		t.Error("the token of a deleted client is active")
	}
	if strings.Contains(operate("", "clients", "list", "--as", "myAS"), id) {
		t.Error("a deleted client is listed")
	}

	added = decodeJSON[map[string]string](t, operate(`{"client_id":"from-a-file","redirect_uris":["https://app.example/cb"],"token_endpoint_auth_method":"none"}`, "clients", "add", "--as", "myAS", "--metadata", "-"))
	if _, ok := added["client_secret"]; ok || added["client_id"] != "from-a-file" {
		t.Errorf("a public client: %v", added)
	}
}

func TestClientMetadataIsReadStrictly(t *testing.T) {
	file := writeConfig(t, "sqlite:"+filepath.Join(t.TempDir(), "gatehouse.db"), "")
	for _, document := range []string{"", "[]", `{"redirect_uris":["https://app.example/cb"],"redirect_uri":"https://app.example/cb"}`, `{"client_secret":"chosen","redirect_uris":["https://app.example/cb"]}`, `{"redirect_uris":"https://app.example/cb"}`} {
		if code, stdout, _ := command(t, document, "clients", "add", "--as", "myAS", "--metadata", "-", "--config", file); code != exitFailure || stdout != "" {
			t.Errorf("%s: exit %d, %s", document, code, stdout)
		}
	}
}

func TestSessionsCommands(t *testing.T) {
	s, operate := operatorFixture(t)
	issuer := s.Issuer("myAS")
	list := func(args ...string) []sessionItem {
		return decodeJSON[[]sessionItem](t, operate("", append([]string{"sessions", "list", "--as", "myAS", "-o", "json"}, args...)...))
	}
	if document := operate("", "sessions", "list", "--as", "myAS", "-o", "json"); document != "[]\n" {
		t.Errorf("no sessions: %q", document)
	}
	alex := newBrowser(t)
	one := redeem(t, issuer, alex, demoFirst)
	two := redeem(t, issuer, alex, demoSecond)
	three := redeem(t, issuer, newBrowser(t).As("bea", "bea-demo"), demoFirst)
	live := func(tokens *signedIn) bool {
		res, _ := send(t, http.MethodGet, issuer+"/session/", nil, http.Header{"Authorization": {"Bearer " + tokens.accessToken}})
		return res.StatusCode == http.StatusOK
	}
	if all := list(); len(all) != 3 || all[0].ID != three.sid || all[0].Username != "bea" || all[0].ClientID != demoFirst {
		t.Fatalf("sessions list: %+v", all)
	}
	if of := list("--user", "alex", "--client", demoSecond); len(of) != 1 || of[0].ID != two.sid {
		t.Errorf("sessions of alex at %s: %+v", demoSecond, of)
	}
	if table := operate("", "sessions", "list", "--as", "myAS"); !strings.Contains(table, one.sid) || !strings.Contains(table, "alex") {
		t.Errorf("sessions list:\n%s", table)
	}
	if of := operate("", "sessions", "list", "--as", "partnerAS", "-o", "json"); of != "[]\n" {
		t.Errorf("sessions of another authorization server: %s", of)
	}

	if out := operate("", "sessions", "end", "--as", "myAS", "--session", one.sid); out != "1 session ended\n" || live(one) || !live(two) || !live(three) {
		t.Errorf("ending one: %q, live: %t %t %t", out, live(one), live(two), live(three))
	}
	if code, _, _ := command(t, "", "sessions", "end", "--as", "myAS", "--session", three.sid, "--user", "alex", "--config", writeConfig(t, string(s.Config.Database), string(s.Config.KeyEncryptionKey))); code != exitFailure || !live(three) {
		t.Error("bea's session ended as one of alex")
	}
	if out := operate("", "sessions", "end", "--as", "myAS", "--client", demoFirst); out != "1 session ended\n" || live(three) || !live(two) {
		t.Errorf("ending a client's: %q, live: %t %t", out, live(two), live(three))
	}
	four := redeem(t, issuer, newBrowser(t).As("bea", "bea-demo"), demoSecond)
	if out := operate("", "sessions", "end", "--as", "myAS", "--user", "alex"); out != "1 session ended\n" || live(two) || !live(four) {
		t.Errorf("ending a user's: %q, live: %t %t", out, live(two), live(four))
	}
	if out := operate("", "sessions", "end", "--as", "myAS", "--user", "alex"); out != "0 sessions ended\n" {
		t.Errorf("ending a user's again: %q", out)
	}
	// An operator's ending demands fresh proof: single sign-on does not bring it back.
	if page, _ := alex.As("alex", "wrong password").Authorize(authorizeURL(issuer)); page != nil {
		t.Error("the browser's login is enough after an operator ended the session")
	}
	if out := operate("", "sessions", "end", "--as", "partnerAS", "--all-of-user", "bea"); out != "1 session ended\n" || live(four) {
		t.Errorf("ending everything of a user: %q, live: %t", out, live(four))
	}
}

func TestKeysCommands(t *testing.T) {
	_, operate := operatorFixture(t)
	list := func(document string) map[string]int {
		states := map[string]int{}
		for _, info := range decodeJSON[[]keys.Info](t, document) {
			states[info.Algorithm+" "+string(info.State)]++
		}
		return states
	}
	if got := list(operate("", "keys", "list", "--as", "myAS", "-o", "json")); len(got) != 4 || got["RS256 active"] != 1 {
		t.Fatalf("keys list: %v", got)
	}
	if got := list(operate("", "keys", "rotate", "--as", "myAS", "--alg", "ES256", "-o", "json")); got["ES256 next"] != 1 || got["ES256 active"] != 1 || got["EdDSA next"] != 0 {
		t.Errorf("keys rotate --alg ES256: %v", got)
	}
	if got := list(operate("", "keys", "rotate", "--as", "myAS", "--alg", "ES256", "--now", "-o", "json")); got["ES256 active"] != 1 || got["ES256 retired"] == 0 {
		t.Errorf("keys rotate --now: %v", got)
	}
	if table := operate("", "keys", "list", "--as", "myAS"); !strings.Contains(table, "EdDSA") || !strings.Contains(table, "retired") {
		t.Errorf("keys list:\n%s", table)
	}
	if got := list(operate("", "keys", "list", "--as", "partnerAS", "-o", "json")); got["ES256 retired"] != 0 {
		t.Errorf("another authorization server's keys: %v", got)
	}
}

func TestKeysRewrapMovesToTheNewKey(t *testing.T) {
	database, former, next := "sqlite:"+filepath.Join(t.TempDir(), "gatehouse.db"), keys.GenerateKEK(), keys.GenerateKEK()
	startServer(t, serverOptions{Database: database, KEK: former}).Close()
	both := writeConfig(t, database, next, setLine("previous_key_encryption_keys", `["`+former+`"]`))
	code, stdout, stderr := command(t, "", "keys", "rewrap", "--config", both)
	if code != exitOK || stdout != "11 keys sealed anew\n" { // four keys and a root of two authorization servers, a root of the realm
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	if _, stdout, _ := command(t, "", "keys", "rewrap", "--config", both); stdout != "0 keys sealed anew\n" {
		t.Errorf("a second time: %s", stdout)
	}
	startServer(t, serverOptions{Database: database, KEK: next}).Close()
}

func TestVersionNamesItself(t *testing.T) {
	if _, stdout, _ := command(t, "", "version"); !strings.HasPrefix(stdout, "gatehouse ") || !strings.Contains(stdout, " go1.") {
		t.Errorf("version: %q", stdout)
	}
}

// redeem signs a browser's user in to a client of the demo's authorization
// server and returns its tokens.
func redeem(t *testing.T, issuer string, b *browser, clientID string) *signedIn {
	t.Helper()
	cfg, err := demoConfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	client := demoClient(cfg, clientID)
	callback, final := b.Authorize(issuer + "/authorize?" + url.Values{
		"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {client.RedirectURIs[0]}, "scope": {"openid"}, "nonce": {"some-nonce"}, "state": {"some-state"},
	}.Encode())
	if callback.Get("code") == "" {
		t.Fatalf("no code for %s: %s %v %s", clientID, final.Status, callback, text(t, final))
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, issuer+"/token", strings.NewReader(url.Values{
		"grant_type": {"authorization_code"}, "code": {callback.Get("code")}, "redirect_uri": {client.RedirectURIs[0]},
	}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(client.ClientID, client.ClientSecret)
	res, err := b.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body := text(t, res)
	tokens := decodeJSON[map[string]any](t, body)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("token: %s %s", res.Status, body)
	}
	_, keySet := send(t, http.MethodGet, issuer+"/jwks", nil, nil)
	claims, err := verifyIDToken(tokens["id_token"].(string), []byte(keySet))
	if err != nil {
		t.Fatal(err)
	}
	return &signedIn{accessToken: tokens["access_token"].(string), sid: claims.SessionID, sub: claims.Subject}
}

func TestListsDoNotSteerTheTerminal(t *testing.T) {
	var out bytes.Buffer
	items := []string{"plain", "\x1b[2J\r\n\tred\u202e", ""}
	if err := list(&out, outputTable, items, "NAME", func(s string) []string { return []string{s} }); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "NAME\nplain\n?[2J???red?\n-\n" {
		t.Errorf("%q", got)
	}
	out.Reset()
	if err := list(&out, outputJSON, []string(nil), "", nil); err != nil || out.String() != "[]\n" {
		t.Errorf("an empty list: %q %v", out.String(), err)
	}
}
