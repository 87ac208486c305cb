//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/configs"
)

const repository = "../.." // from this package's folder

// document reads a file of the repository.
func document(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// shellBlocks returns the README's shell blocks that contain what.
func shellBlocks(t testing.TB, what string) []string {
	t.Helper()
	var found []string
	for _, match := range shellBlock.FindAllStringSubmatch(document(t, "README.md"), -1) {
		if strings.Contains(match[1], what) {
			found = append(found, match[1])
		}
	}
	if len(found) == 0 {
		t.Fatalf("README.md has no shell block with %q", what)
	}
	return found
}

// asProgram lets the rest of a script take the built program for `go run
// ./cmd/gatehouse`, and gives a password to who asks for one.
const asProgram = `go() {
  shift 2
  if [ "$1 $2" = "users add" ]; then
    printf 'correct horse\n' | "$GATEHOUSE" "$@" --password-stdin
  else
    "$GATEHOUSE" "$@"
  fi
}
`

// shell prepares a script that ends at the first command that fails, in an
// empty home and the folder dir.
func shell(t testing.TB, dir, script string) (command *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	for _, program := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v; on Debian: apt-get install %s", err, program)
		}
	}
	command, stderr = exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script), &bytes.Buffer{}
	command.Dir, command.Stderr = dir, stderr
	command.Env = append(os.Environ(), "HOME="+dir, "GATEHOUSE="+binary.path(t), "no_proxy=localhost,127.0.0.1")
	return command, stderr
}

func TestSessionAPIByHandWorksAsTheReadmeSays(t *testing.T) {
	server := startServer(t, serverOptions{})
	script := strings.ReplaceAll(strings.Join(shellBlocks(t, "$issuer"), "\n"), "http://localhost:8080", server.URL)
	if !strings.Contains(script, server.URL) {
		t.Fatal("README.md does not say where the demo listens")
	}
	command, stderr := shell(t, t.TempDir(), script)
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr)
	}
	answers := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(answers) != 5 {
		t.Fatalf("%d lines, want 5:\n%s", len(answers), out)
	}
	type session struct {
		ID         string `json:"id"`
		Attributes struct {
			ClientID string `json:"clientId"`
			Current  bool   `json:"current"`
		} `json:"attributes"`
	}
	decode := func(i int, into any) {
		t.Helper()
		if err := json.Unmarshal([]byte(answers[i]), into); err != nil {
			t.Fatalf("line %d: %v: %s", i+1, err, answers[i])
		}
	}
	var current struct{ Data session }
	var both, left struct{ Data []session }
	var refused struct{ Errors []struct{ Code string } }
	decode(0, &current)
	decode(1, &both)
	decode(3, &left)
	decode(4, &refused)
	if current.Data.Attributes.ClientID != "oidc-client" || !current.Data.Attributes.Current {
		t.Errorf("the current session is %s", answers[0])
	}
	if len(both.Data) != 2 {
		t.Errorf("the sessions are %s", answers[1])
	}
	if answers[2] != "204" {
		t.Errorf("DELETE answers %q", answers[2])
	}
	if len(left.Data) != 1 || left.Data[0].ID != current.Data.ID {
		t.Errorf("what is left is %s", answers[3])
	}
	if len(refused.Errors) != 1 || refused.Errors[0].Code != "ACCESS_TOKEN_INVALID" {
		t.Errorf("the ended session's token is answered with %s", answers[4])
	}
}

func TestWalkOfTheReadmeSucceeds(t *testing.T) {
	command, stderr := shell(t, t.TempDir(), asProgram+shellBlocks(t, "demo --walk")[0])
	if out, err := command.Output(); err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr)
	}
}

// TestRunningItForRealWorksAsTheReadmeSays serves the sample configuration,
// with free ports, and makes a client and a user.
func TestRunningItForRealWorksAsTheReadmeSays(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "configs"), 0o700); err != nil {
		t.Fatal(err)
	}
	sample := string(configs.Sample())
	for _, key := range []string{"listen", "operations_listen"} {
		sample = setLine(key, "127.0.0.1:0")(sample)
	}
	writeFile(t, filepath.Join(dir, "configs", "gatehouse.yaml"), sample)

	serve, log := shell(t, dir, asProgram+shellBlocks(t, "gatehouse serve")[0])
	serve.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the shell and the server below it
	out, err := serve.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Kill(-serve.Process.Pid, syscall.SIGTERM); err != nil {
			t.Errorf("ending gatehouse serve: %v", err)
		}
		_ = serve.Wait() // by the signal
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, "listens on") {
		t.Fatalf("gatehouse serve said %q: %v\n%s", line, err, log)
	}

	second, stderr := shell(t, dir, asProgram+shellBlocks(t, "users add")[0])
	said, err := second.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, said, stderr)
	}
	if !strings.Contains(string(said), `"client_secret"`) {
		t.Errorf("no client was made: %s", said)
	}
}

func TestTargetsOfTheReadmeExist(t *testing.T) {
	makefile := document(t, "Makefile")
	targets := regexp.MustCompile("(?m)(?:^|`)make ([a-z-]+)").FindAllStringSubmatch(document(t, "README.md")+document(t, "CONTRIBUTING.md"), -1)
	if len(targets) < 2 {
		t.Fatalf("found %d targets", len(targets))
	}
	for _, target := range targets {
		if !strings.Contains(makefile, "\n"+target[1]+":") {
			t.Errorf("the Makefile has no target %s", target[1])
		}
	}
}

// TestPromisesNameTestsThatExist: a promise on the README names the tests that
// would fail if it were broken.
func TestPromisesNameTestsThatExist(t *testing.T) {
	_, promises, _ := strings.Cut(document(t, "README.md"), "## Promises")
	_, promises, _ = strings.Cut(promises, "|---|---|")
	promises, _, _ = strings.Cut(promises, "\n## ")
	names := regexp.MustCompile("`([A-Z][A-Za-z0-9]+)`").FindAllStringSubmatch(promises, -1)
	if len(names) < 30 {
		t.Fatalf("the README's promises name %d tests", len(names))
	}
	// Tests, fuzz targets, and the parts of storage's conformance suite.
	test := regexp.MustCompile(`(?m)^(?:func ((?:Test|Fuzz)\w+)\([tf] |\t\t\{"([A-Z]\w+)", \w+\},$)`)
	found := map[string]bool{}
	err := filepath.WalkDir(repository, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "node_modules"}, entry.Name()):
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go") && filepath.Base(path) != "storagetest.go":
			return nil
		}
		text, err := os.ReadFile(path)
		for _, match := range test.FindAllSubmatch(text, -1) {
			found[string(match[1])+string(match[2])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !found[name[1]] {
			t.Errorf("there is no %s", name[1])
		}
	}
}

// documents are the pages whose links are checked.
func documents(t testing.TB) []string {
	t.Helper()
	found := []string{"README.md", "CONTRIBUTING.md", "SECURITY.md"}
	for _, pattern := range []string{"docs/*.md", "docs/decisions/*.md"} {
		paths, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			name, err := filepath.Rel(repository, path)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, name)
		}
	}
	return found
}

func TestLinksOfTheDocumentsLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading := regexp.MustCompile(`(?m)^#+ (.*)$`)
	notInAnchor := regexp.MustCompile(`[^a-z0-9 -]`)
	for _, name := range documents(t) {
		for _, match := range link.FindAllStringSubmatch(document(t, name), -1) {
			to, err := url.Parse(match[1])
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if to.IsAbs() {
				continue
			}
			target := name
			if to.Path != "" {
				target = filepath.Join(filepath.Dir(name), to.Path)
			}
			if _, err := os.Stat(filepath.Join(repository, target)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, match[1])
				continue
			}
			if to.Fragment == "" {
				continue
			}
			var anchors []string
			for _, h := range heading.FindAllStringSubmatch(document(t, target), -1) {
				anchors = append(anchors, strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-"))
			}
			if !slices.Contains(anchors, to.Fragment) {
				t.Errorf("%s links to %s, and %s has no such heading", name, match[1], target)
			}
		}
	}
}

func TestConfigurationPageNamesEveryKey(t *testing.T) {
	page := document(t, "docs/configuration.md")
	var keys []string
	var walk func(reflect.Type)
	walk = func(of reflect.Type) {
		switch of.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(of.Elem())
		case reflect.Struct:
			for i := range of.NumField() {
				if name := of.Field(i).Tag.Get("yaml"); name != "" {
					keys = append(keys, name)
					walk(of.Field(i).Type)
				}
			}
		}
	}
	walk(reflect.TypeFor[configs.Config]())
	if len(keys) < 80 {
		t.Fatalf("found %d keys", len(keys))
	}
	for _, key := range keys {
		if !regexp.MustCompile("`[^`\n]*\\b" + key + "\\b[^`\n]*`").MatchString(page) {
			t.Errorf("docs/configuration.md does not name %s", key)
		}
	}
}

func TestAuditPageNamesEveryEvent(t *testing.T) {
	page := document(t, "docs/audit.md")
	for _, event := range audit.Types() {
		if !strings.Contains(page, "`"+string(event)+"`") {
			t.Errorf("docs/audit.md does not name %s", event)
		}
	}
	for field := range reflect.TypeFor[auditItem]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/audit.md does not explain %s", name)
		}
	}
}

func TestSessionAPIPageNamesEveryAttribute(t *testing.T) {
	page := document(t, "docs/session-api.md")
	for _, name := range attributeNames {
		if !strings.Contains(page, "`"+name+"`") || !strings.Contains(page, `"`+name+`":`) {
			t.Errorf("docs/session-api.md does not explain %s, or does not show it", name)
		}
	}
}
