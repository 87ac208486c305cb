//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/html"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/configs"
)

// Where Debian and its kin have Apache and its modules.
const (
	apacheProgram = "/usr/sbin/apache2"
	apacheModules = "/usr/lib/apache2/modules"
	apacheModule  = apacheModules + "/mod_auth_openidc.so"
	apacheInstall = "sudo apt-get install --no-install-recommends libapache2-mod-auth-openidc"
)

// needsApache notes that a test is done with Apache and mod_auth_openidc, or
// leaves it out where no Debian package has them.
func needsApache(t *testing.T) {
	t.Helper()
	for _, file := range []string{apacheProgram, apacheModule} {
		if _, err := os.Stat(file); err == nil {
			continue
		}
		if _, err := os.Stat("/etc/debian_version"); err == nil {
			t.Fatalf("%s is not installed; install it with: %s", file, apacheInstall)
		}
		tookPart(t, "apache", 0) // so that the report says so
		t.Skipf("left out: Apache with mod_auth_openidc, which this test knows from Debian and Ubuntu only, has no %s here", file)
	}
	tookPart(t, "apache", 1)
}

// apache is a throw-away Apache HTTP Server that is a relying party of its own:
// mod_auth_openidc, set up as docs/relying-party.md says, protects its page.
type apache struct {
	URL      string // of the whole server; each has a loopback address of its own, since cookies don't know ports
	ClientID string

	t       testing.TB
	dir     string
	command *exec.Cmd
	exited  chan struct{} // closed when it has ended
	guard   *exec.Cmd
	alive   io.WriteCloser // of the guard: what it reads
}

// apacheConfig is what stands around the lines of the document: the folder, the
// address, the account, the modules folder, those lines.
const apacheConfig = `ServerRoot %[1]s
DefaultRuntimeDir %[1]s
PidFile %[1]s/httpd.pid
DocumentRoot %[1]s/htdocs
ErrorLog %[1]s/error.log
LogLevel warn
Listen %[2]s
ServerName %[2]s
%[3]s
LoadModule mpm_event_module %[4]s/mod_mpm_event.so
LoadModule authn_core_module %[4]s/mod_authn_core.so
LoadModule authz_core_module %[4]s/mod_authz_core.so
LoadModule authz_user_module %[4]s/mod_authz_user.so
LoadModule filter_module %[4]s/mod_filter.so
LoadModule include_module %[4]s/mod_include.so
LoadModule auth_openidc_module %[4]s/mod_auth_openidc.so

# Two processes: a logout message ends what both keep.
StartServers 2
ServerLimit 2
ThreadsPerChild 8
MinSpareThreads 4
MaxSpareThreads 16
MaxRequestWorkers 16

%[5]s
<Directory %[1]s/htdocs>
    Options Includes
    SetOutputFilter INCLUDES
</Directory>
`

// apachePage is the protected page.
const apachePage = `<!DOCTYPE html>
<title>Protected</title>
<h1>Protected</h1>
<p id="user"><!--#echo var="REMOTE_USER" --></p>
<p id="sid"><!--#echo var="OIDC_CLAIM_sid" --></p>
`

// apacheGuard ends an Apache whose test process has ended without doing so, and
// removes its folder. $1 is the process, $2 the folder.
const apacheGuard = `read -r ended || kill -TERM "$1"; cd / && rm -rf "$2"`

var apacheBlock = regexp.MustCompile("(?ms)^```apache\n(.*?)^```$.*?^```yaml\n(.*?)^```$")

// startApache starts an Apache on a free port of a loopback address, and returns
// it with the client that has to be registered for it. Its server need not run
// before the first page is opened.
func startApache(t testing.TB, address, clientID, publicURL string) (*apache, clients.Metadata) {
	t.Helper()
	match := apacheBlock.FindStringSubmatch(document(t, "docs/relying-party.md"))
	if match == nil {
		t.Fatal("docs/relying-party.md has no configuration of Apache with its client")
	}
	// Somebody else may take the port between its choice and Apache's start.
	for range 5 {
		l, err := net.Listen("tcp", address+":0")
		if err != nil {
			t.Fatal(err)
		}
		at := l.Addr().String()
		l.Close()
		a := &apache{URL: "http://" + at, ClientID: clientID, t: t}
		ours := strings.NewReplacer("https://login.example", publicURL, "https://intranet.example", a.URL, "intranet", clientID, "Intranet", "Apache "+clientID)
		if a.start(at, ours.Replace(match[1])) {
			return a, a.client(ours.Replace(match[2]))
		}
	}
	t.Fatalf("Apache finds no free port at %s", address)
	return nil, clients.Metadata{}
}

// client reads the client of the document as a configuration has it.
func (a *apache) client(text string) clients.Metadata {
	a.t.Helper()
	const list = "    clients:\n"
	cfg, err := configs.Source{Name: "relying-party.md", Data: []byte(strings.Replace(string(configs.Demo()), list, list+text, 1)), AllowNoKey: true,
		Env: func(string) (string, bool) { return "secret-of-" + a.ClientID, true }}.Parse()
	if err != nil {
		a.t.Fatal(err)
	}
	return *demoClient(cfg, a.ClientID)
}

// start is false where the port is taken.
func (a *apache) start(at, lines string) bool {
	a.t.Helper()
	a.prepare(at, lines)
	said := &buffer{}
	a.command = exec.Command(apacheProgram, "-d", a.dir, "-f", filepath.Join(a.dir, "httpd.conf"), "-DFOREGROUND")
	// Its locks lie in the folder too.
	a.command.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + a.dir, "LC_ALL=C"}
	a.command.Stdout, a.command.Stderr = said, said
	a.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the guard to answer
	if err := a.command.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.exited = make(chan struct{})
	go func() {
		_ = a.command.Wait()
		close(a.exited)
	}()
	a.watch()
	a.t.Cleanup(a.stop)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		select {
		case <-a.exited:
			if strings.Contains(said.String()+a.log(), "Address already in use") {
				return false
			}
			a.t.Fatalf("Apache ended at its start:\n%s%s", said, a.log())
		case <-time.After(20 * time.Millisecond):
		}
		// It is written once all addresses are listened at.
		if _, err := os.Stat(filepath.Join(a.dir, "httpd.pid")); err == nil {
			return true
		}
	}
	a.t.Fatalf("Apache doesn't listen:\n%s%s", said, a.log())
	return false
}

// prepare makes Apache's folder. It is not of t.TempDir, whose parent is closed
// to the account that Apache's processes have where it is started by root.
func (a *apache) prepare(at, lines string) {
	a.t.Helper()
	dir, err := os.MkdirTemp("/tmp", "gatehouse-apache-")
	if err != nil {
		a.t.Fatal(err)
	}
	a.dir = dir
	page := filepath.Join(dir, "htdocs", "protected", "page.html")
	account := ""
	for _, path := range []string{dir, filepath.Dir(filepath.Dir(page)), filepath.Dir(page)} {
		if err := errors.Join(os.MkdirAll(path, 0o755), os.Chmod(path, 0o755)); err != nil {
			a.t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("www-data")
		if err != nil {
			a.t.Fatal(err)
		}
		account = fmt.Sprintf("User #%s\nGroup #%s", u.Uid, u.Gid)
	}
	writeFile(a.t, page, apachePage)
	if err := os.Chmod(page, 0o644); err != nil {
		a.t.Fatal(err)
	}
	writeFile(a.t, filepath.Join(dir, "httpd.conf"), fmt.Sprintf(apacheConfig, dir, at, account, apacheModules, lines))
}

// watch starts the guard.
func (a *apache) watch() {
	a.t.Helper()
	a.guard = exec.Command("/bin/sh", "-c", apacheGuard, "apache-guard", fmt.Sprint(a.command.Process.Pid), a.dir)
	a.guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var err error
	if a.alive, err = a.guard.StdinPipe(); err == nil {
		err = a.guard.Start()
	}
	if err != nil {
		_ = a.command.Process.Kill()
		a.t.Fatalf("starting the guard of Apache: %v", err)
	}
}

// stop ends Apache, shows what it noted where the test has failed, and removes
// its folder.
func (a *apache) stop() {
	_ = a.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-a.exited:
	case <-time.After(30 * time.Second):
		_ = a.command.Process.Kill()
		a.t.Errorf("Apache did not end:\n%s", a.log())
	}
	if log := a.log(); log != "" && a.t.Failed() {
		a.t.Logf("the error log of Apache %s:\n%s", a.ClientID, log)
	}
	_, _ = io.WriteString(a.alive, "ended\n")
	if err := a.guard.Wait(); err != nil {
		a.t.Errorf("the guard of Apache: %v", err)
	}
}

// log is what Apache noted, without the first part where it is long.
func (a *apache) log() string {
	text, err := os.ReadFile(filepath.Join(a.dir, "error.log"))
	if err != nil {
		return err.Error()
	}
	const most = 8 << 10
	return string(text[max(0, len(text)-most):])
}

// protected is the page for people who have signed in.
func (a *apache) protected() string { return a.URL + "/protected/page.html" }

// seen is what a browser shows that opened a protected page and followed all
// redirects.
type seen struct {
	SignIn bool   // the form that asks for the password
	User   string // whom the page welcomes
	SID    string // the id of the session that it is shown in
}

func (s seen) String() string {
	if s.SignIn {
		return "the sign-in form"
	}
	return "the page for " + s.User
}

// Open opens the protected page, follows redirects to their end and tells where
// that is: nowhere else than at the page or at the sign-in form.
func (a *apache) Open(b *browser) seen {
	b.t.Helper()
	page, s := a.follow(b, a.protected())
	if !s.SignIn && s.User == "" {
		b.t.Fatalf("%s led to %s at %s:\n%s%s", a.protected(), page.Status, page.Request.URL.Redacted(), text(b.t, page), a.log())
	}
	return s
}

// SignIn opens the protected page, signing in and consenting where it is asked,
// and returns the id of the session that came of it.
func (a *apache) SignIn(b *browser) (sid string) {
	b.t.Helper()
	page, s := a.follow(b, a.protected())
	asked := ""
	for s.User == "" {
		v := *b.visitor
		v.username, v.password, v.decision = b.Username, b.Password, b.Decision
		f, wanted := v.fill(page)
		if f == nil || wanted == asked {
			b.t.Fatalf("signing in at %s led to %s at %s:\n%s%s", a.protected(), page.Status, page.Request.URL.Redacted(), text(b.t, page), a.log())
		}
		asked = wanted
		req, err := f.request(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		if page, err = v.do(req); err != nil {
			b.t.Fatal(err)
		}
		if to, err := page.Location(); err == nil {
			page, s = a.follow(b, to.String())
		}
	}
	if s.User != b.Username || !isSessionID(s.SID) {
		b.t.Fatalf("%s welcomes %q with the sid %q", a.protected(), s.User, s.SID)
	}
	return s.SID
}

// follow opens an address and follows redirects to their end.
func (a *apache) follow(b *browser, address string) (*http.Response, seen) {
	b.t.Helper()
	for range 12 {
		page := b.Page(address)
		to, err := page.Location()
		if err != nil {
			return page, a.read(page)
		}
		address = to.String()
	}
	b.t.Fatalf("%s redirects without an end, at last to %s", a.protected(), address)
	return nil, seen{}
}

// read tells what a page is; the zero value: something else than seen knows.
func (a *apache) read(page *http.Response) (s seen) {
	a.t.Helper()
	if page.StatusCode != http.StatusOK {
		return s
	}
	for _, f := range forms(page) {
		s.SignIn = s.SignIn || f.has("password")
	}
	if !strings.HasPrefix(page.Request.URL.String(), a.protected()) {
		return s
	}
	body := text(a.t, page)
	page.Body = io.NopCloser(strings.NewReader(body))
	root, err := html.Parse(strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	for n := range root.Descendants() {
		switch attribute(n, "id") {
		case "user":
			s.User = content(n)
		case "sid":
			s.SID = content(n)
		}
	}
	return s
}

// turns waits until the page of a session gives way to the sign-in form, as it
// does some time after the server has sent its message.
func (a *apache) turns(ctx context.Context, b *browser, sid string) {
	b.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for s := a.Open(b); !s.SignIn; s = a.Open(b) {
		if s.SID != sid {
			b.t.Fatalf("at %s the session %s was followed by %s, without a sign-in", a.ClientID, sid, s.SID)
		}
		select {
		case <-ctx.Done():
			b.t.Fatalf("%s was not told of the ending in time: %v", a.ClientID, ctx.Err())
		case <-tick.C:
		}
	}
}
