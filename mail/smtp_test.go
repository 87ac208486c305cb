package mail_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	ours "gatehouse.dev/gatehouse/mail"
)

// server is a real mail server on a loopback address.
type server struct {
	address string
	roots   *x509.CertPool

	mu       sync.Mutex
	envelope []string // sender and recipients of each mail
	mails    []string // as they came
	refusals []error  // of the next recipients
	proven   []string // user names that signed in
	secured  []bool   // whether each mail came over TLS
}

// serverOptions change the server. The zero value has STARTTLS and demands no
// authentication.
type serverOptions struct {
	implicit bool     // TLS from the first byte
	plain    bool     // no TLS at all
	user     string   // demands authentication
	login    bool     // by LOGIN only
	names    []string // of the certificate; default: 127.0.0.1
}

func newServer(t *testing.T, o serverOptions) *server {
	t.Helper()
	s := &server{}
	certificate, roots := newCertificate(t, o.names)
	s.roots = roots
	backend := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		_, secured := c.TLSConnectionState()
		return &session{server: s, o: o, secured: secured}, nil
	}))
	backend.Domain, backend.EnableSMTPUTF8 = "mail.example", true
	backend.AllowInsecureAuth = o.plain
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = listener.Addr().String()
	cfg := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	switch {
	case o.implicit:
		listener = tls.NewListener(listener, cfg)
	case !o.plain:
		backend.TLSConfig = cfg
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = backend.Serve(listener) // until it is closed
	}()
	t.Cleanup(func() {
		// Its own Close leaves a listener that Serve has not come to yet.
		_ = backend.Close()
		_ = listener.Close()
		<-done
	})
	return s
}

// newCertificate is one of an authority of its own.
func newCertificate(t *testing.T, names []string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, DNSNames: names}
	if names == nil {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// session is one connection to the server.
type session struct {
	*server
	o       serverOptions
	secured bool
	proven  bool
	from    string
	to      []string
}

func (s *session) AuthMechanisms() []string {
	switch {
	case s.o.user == "":
		return nil
	case s.o.login:
		return []string{sasl.Login}
	}
	return []string{sasl.Plain}
}

func (s *session) Auth(string) (sasl.Server, error) {
	judge := func(user, password string) error {
		if user != s.o.user || password != "right" {
			return smtp.ErrAuthFailed
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.proven, s.server.proven = true, append(s.server.proven, user)
		return nil
	}
	if s.o.login {
		return &loginServer{judge: judge}, nil
	}
	return sasl.NewPlainServer(func(_, user, password string) error { return judge(user, password) }), nil
}

// loginServer is the server's side of LOGIN, which no standard describes.
type loginServer struct {
	judge func(user, password string) error
	step  int
	user  string
}

func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	l.step++
	switch l.step {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.user = string(response)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.judge(l.user, string(response))
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.o.user != "" && !s.proven {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refusals) > 0 {
		err := s.refusals[0]
		s.refusals = s.refusals[1:]
		if err != nil {
			return err
		}
	}
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, string(text))
	s.envelope = append(s.envelope, s.from+" > "+strings.Join(s.to, " "))
	s.server.secured = append(s.server.secured, s.secured)
	return nil
}

func (s *session) Reset()        { s.from, s.to = "", nil }
func (s *session) Logout() error { return nil }

// came are the mails that the server has.
func (s *server) came() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

// sender sends to the server.
func (s *server) sender(t *testing.T, change func(*ours.SMTPConfig)) *ours.SMTP {
	t.Helper()
	cfg := ours.SMTPConfig{Address: s.address, From: "Gatehouse <gatehouse@example.com>", Roots: s.roots}
	if change != nil {
		change(&cfg)
	}
	sender, err := ours.NewSMTP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return sender
}

var (
	at   = time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC)
	text = ours.Text{Subject: "Neue Anmeldung für Sie", Body: "Guten Tag\n\nWar das Müller?\n", Sender: "Häuser & Söhne", Language: "de"}
)

func send(t *testing.T, s *ours.SMTP, to string, text ours.Text) error {
	t.Helper()
	return s.Send(t.Context(), to, "ID4711", at, text)
}

// read parses a mail that came.
func read(t *testing.T, raw string) (*mail.Message, string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		t.Fatalf("%v in\n%s", err, raw)
	}
	body, err := io.ReadAll(m.Body)
	if err != nil {
		t.Fatal(err)
	}
	return m, string(body)
}

func TestMailComesOverEachKindOfConnection(t *testing.T) {
	for name, tt := range map[string]struct {
		server serverOptions
		change func(*ours.SMTPConfig)
		secure bool
	}{
		"STARTTLS":            {serverOptions{}, nil, true},
		"TLS at once":         {serverOptions{implicit: true}, func(c *ours.SMTPConfig) { c.TLS = ours.Implicit }, true},
		"this machine":        {serverOptions{plain: true}, func(c *ours.SMTPConfig) { c.TLS = ours.NoTLS }, false},
		"PLAIN":               {serverOptions{user: "g"}, func(c *ours.SMTPConfig) { c.Username, c.Password = "g", "right" }, true},
		"LOGIN":               {serverOptions{user: "g", login: true}, func(c *ours.SMTPConfig) { c.Username, c.Password = "g", "right" }, true},
		"PLAIN, TLS at once":  {serverOptions{user: "g", implicit: true}, func(c *ours.SMTPConfig) { c.TLS, c.Username, c.Password = ours.Implicit, "g", "right" }, true},
		"PLAIN, this machine": {serverOptions{user: "g", plain: true}, func(c *ours.SMTPConfig) { c.TLS, c.Username, c.Password = ours.NoTLS, "g", "right" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, tt.server)
			if err := send(t, s.sender(t, tt.change), "alex@example.com", text); err != nil {
				t.Fatal(err)
			}
			if len(s.mails) != 1 || s.secured[0] != tt.secure || (tt.server.user != "") != (len(s.proven) == 1) {
				t.Errorf("%d mails came, over TLS %v, proven %v", len(s.mails), s.secured, s.proven)
			}
			if s.envelope[0] != "gatehouse@example.com > alex@example.com" {
				t.Errorf("the envelope is %q", s.envelope[0])
			}
		})
	}
}

func TestMailIsPlainTextWithStableID(t *testing.T) {
	s := newServer(t, serverOptions{})
	for range 2 {
		if err := send(t, s.sender(t, nil), "alex@example.com", text); err != nil {
			t.Fatal(err)
		}
	}
	m, body := read(t, s.mails[0])
	for header, want := range map[string]string{
		"Message-Id": "<ID4711@example.com>", "Auto-Submitted": "auto-generated", "Content-Type": "text/plain; charset=UTF-8",
		"Content-Language": "de", "To": "<alex@example.com>", "Date": "Tue, 06 May 2031 07:08:09 +0000", "Mime-Version": "1.0",
	} {
		if got := m.Header.Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
	if from, err := m.Header.AddressList("From"); err != nil || len(from) != 1 || from[0].Name != text.Sender || from[0].Address != "gatehouse@example.com" {
		t.Errorf("From is %v, %v", from, err)
	}
	if subject := decoded(t, m.Header.Get("Subject")); subject != text.Subject {
		t.Errorf("the subject is %q", subject)
	}
	if !strings.Contains(body, "War das M=C3=BCller?") {
		t.Errorf("the body is %q", body)
	}
	second, _ := read(t, s.mails[1])
	if second.Header.Get("Message-Id") != m.Header.Get("Message-Id") {
		t.Error("the same mail has another Message-ID the second time")
	}
}

// Whatever a realm is called or a browser says of itself, a mail has the headers
// that we wrote, and one recipient.
func TestHeadersCannotBeInjected(t *testing.T) {
	s := newServer(t, serverOptions{})
	sender := s.sender(t, nil)
	evil := "x\r\nBcc: eve@example.com\r\n\r\nbody \x00\u2028\xff"
	for _, text := range []ours.Text{
		{Subject: evil, Body: "b", Sender: "s"},
		{Subject: "s", Body: "b", Sender: evil},
		{Subject: "s", Body: "b", Sender: "s", Language: evil},
		{Subject: strings.Repeat("ä", 5000), Body: strings.Repeat("line\r\n.\r\n", 5000), Sender: strings.Repeat("s", 5000)},
	} {
		if err := send(t, sender, "alex@example.com", text); err != nil {
			t.Errorf("sending %q: %v", text.Subject, err)
		}
	}
	for i, raw := range s.came() {
		m, body := read(t, raw)
		names := []string{}
		for name := range m.Header {
			names = append(names, name)
		}
		slices.Sort(names)
		allowed := []string{"Auto-Submitted", "Content-Language", "Content-Transfer-Encoding", "Content-Type", "Date", "From", "Message-Id",
			"Mime-Version", "Subject", "To", "X-Auto-Response-Suppress"}
		for _, name := range names {
			if !slices.Contains(allowed, name) {
				t.Errorf("a mail has the header %s", name)
			}
		}
		if s.envelope[i] != "gatehouse@example.com > alex@example.com" || len(body) > 40<<10 {
			t.Errorf("the envelope is %q, the body has %d bytes", s.envelope[i], len(body))
		}
	}
	if n := len(s.came()); n != 4 {
		t.Errorf("%d mails came, want 4", n)
	}
	for _, to := range []string{"", "alex", "alex@", "@example.com", "alex@example.com, eve@example.com", "Alex <alex@example.com>",
		"alex@example.com\r\nBcc: eve@example.com", "<alex@example.com>\r\nRCPT TO:<eve@example.com>", "\"alex\r\n\"@example.com", "\"a b\"@example.com",
		"a@b@example.com", "alex@exam ple.com", "alex@example.com\x00", strings.Repeat("a", 300) + "@example.com"} {
		if err := send(t, sender, to, text); !errors.Is(err, ours.ErrRefused) {
			t.Errorf("a mail to %q: %v, want ErrRefused", to, err)
		}
	}
	for _, id := range []string{"", "a b", "a>\r\nBcc: x", strings.Repeat("a", 65)} {
		if err := sender.Send(t.Context(), "alex@example.com", id, at, text); !errors.Is(err, ours.ErrRefused) {
			t.Errorf("a mail with id %q: %v, want ErrRefused", id, err)
		}
	}
	if n := len(s.came()); n != 4 {
		t.Errorf("%d mails came, want 4", n)
	}
}

// A password and a mail go to nobody but the server that is meant.
func TestConnectionThatProvesNothingIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		server serverOptions
		change func(*ours.SMTPConfig)
	}{
		"another host's certificate":         {serverOptions{names: []string{"mail.example"}}, nil},
		"an unknown authority":               {serverOptions{}, func(c *ours.SMTPConfig) { c.Roots = x509.NewCertPool() }},
		"an unknown authority, TLS at once":  {serverOptions{implicit: true}, func(c *ours.SMTPConfig) { c.TLS, c.Roots = ours.Implicit, x509.NewCertPool() }},
		"another certificate, TLS at once":   {serverOptions{implicit: true, names: []string{"mail.example"}}, func(c *ours.SMTPConfig) { c.TLS = ours.Implicit }},
		"no STARTTLS":                        {serverOptions{plain: true}, nil},
		"no TLS at once":                     {serverOptions{}, func(c *ours.SMTPConfig) { c.TLS = ours.Implicit }},
		"wrong password":                     {serverOptions{user: "g"}, func(c *ours.SMTPConfig) { c.Username, c.Password = "g", "wrong" }},
		"authentication that is not offered": {serverOptions{}, func(c *ours.SMTPConfig) { c.Username, c.Password = "g", "right" }},
		"no user name where one is demanded": {serverOptions{user: "g", implicit: true}, func(c *ours.SMTPConfig) { c.TLS = ours.StartTLS }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, tt.server)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			err := s.sender(t, tt.change).Send(ctx, "alex@example.com", "ID1", at, text)
			// The operator may put it right: the mail is not given up.
			if err == nil || errors.Is(err, ours.ErrRefused) || len(s.came()) > 0 || len(s.proven) > 0 {
				t.Errorf("%v, %d mails came, proven: %v", err, len(s.came()), s.proven)
			}
		})
	}
}

func TestRepliesDecideWhetherToSendAgain(t *testing.T) {
	s := newServer(t, serverOptions{})
	sender := s.sender(t, nil)
	later := &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "alex@example.com is busy"}
	never := &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no alex@example.com here"}
	s.refusals = []error{later, nil, never}
	err := send(t, sender, "alex@example.com", text)
	if err == nil || errors.Is(err, ours.ErrRefused) || !strings.Contains(err.Error(), "451") {
		t.Errorf("after 451: %v", err)
	}
	said := err.Error()
	if err := send(t, sender, "alex@example.com", text); err != nil || len(s.came()) != 1 {
		t.Errorf("the second time: %v, %d mails", err, len(s.came()))
	}
	if err = send(t, sender, "alex@example.com", text); !errors.Is(err, ours.ErrRefused) || !strings.Contains(err.Error(), "550") {
		t.Errorf("after 550: %v, want ErrRefused", err)
	}
	if said += err.Error(); strings.Contains(said, "alex") {
		t.Errorf("the errors tell the address: %s", said)
	}
}

// A server that says nothing, or a line now and then, is left when the time is
// over, and its connection closed.
func TestServerThatHangsIsLeft(t *testing.T) {
	for name, greeting := range map[string]string{"silent": "", "greets": "220 mail.example ESMTP\r\n", "talks": "220-mail.example\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			left := make(chan error, 1)
			go func() {
				c, err := listener.Accept()
				if err != nil {
					left <- err
					return
				}
				defer c.Close()
				_, _ = io.WriteString(c, greeting)
				_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
				_, err = io.Copy(io.Discard, bufio.NewReader(c)) // until it is closed
				left <- err
			}()
			sender, err := ours.NewSMTP(ours.SMTPConfig{Address: listener.Addr().String(), From: "g@example.com", TLS: ours.NoTLS})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // the connection is made within it
			defer cancel()
			if err := sender.Send(ctx, "alex@example.com", "ID1", at, text); err == nil || errors.Is(err, ours.ErrRefused) {
				t.Errorf("a server that hangs: %v", err)
			}
			if err := <-left; err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("the connection was not closed: %v", err)
			}
		})
	}
}

func TestSMTPConfigurationIsChecked(t *testing.T) {
	good := ours.SMTPConfig{Address: "mail.example:587", From: "Gatehouse <g@example.com>", Username: "u", Password: "p"}
	if _, err := ours.NewSMTP(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ours.SMTPConfig){
		"no port":           func(c *ours.SMTPConfig) { c.Address = "mail.example" },
		"no host":           func(c *ours.SMTPConfig) { c.Address = ":587" },
		"a port by name":    func(c *ours.SMTPConfig) { c.Address = "mail.example:submission" },
		"no sender":         func(c *ours.SMTPConfig) { c.From = "" },
		"sender with space": func(c *ours.SMTPConfig) { c.From = `"a b"@example.com` },
		"no password":       func(c *ours.SMTPConfig) { c.Password = "" },
		"no user name":      func(c *ours.SMTPConfig) { c.Username = "" },
		"no TLS elsewhere":  func(c *ours.SMTPConfig) { c.TLS = ours.NoTLS },
		"no TLS, by number": func(c *ours.SMTPConfig) { c.TLS, c.Address = ours.NoTLS, "192.0.2.1:25" },
		"unknown TLS":       func(c *ours.SMTPConfig) { c.TLS = "maybe" },
	} {
		bad := good
		change(&bad)
		if _, err := ours.NewSMTP(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
