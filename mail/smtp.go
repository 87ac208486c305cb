package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

// TLS is how the connection to a mail server is protected.
type TLS string

// Ways to protect it. The server's certificate is verified in both of the first.
const (
	StartTLS TLS = "starttls" // it must offer STARTTLS (RFC 3207)
	Implicit TLS = "implicit" // from the first byte on (RFC 8314 §3.3)
	NoTLS    TLS = "none"     // for a server on this machine only
)

// Bounds on what is sent.
const (
	maxSubject = 200      // bytes
	maxBody    = 16 << 10 // bytes
	maxName    = 100      // bytes
	// smtpTimeout bounds each of connecting and sending; sendTimeout, a mail.
	smtpTimeout = 15 * time.Second
	sendTimeout = 40 * time.Second
)

// ErrRefused: the mail server does not want this mail, now or later.
var ErrRefused = errors.New("the mail server refused the mail")

// errAddress is not wrapped around what was parsed, which is personal.
var errAddress = errors.New("not a mail address")

// SMTPConfig is a mail server (RFC 5321) and the sender of mails.
type SMTPConfig struct {
	Address  string // host:port; required
	From     string // mail address, perhaps with a name (RFC 5322 §3.4); required
	Username string // with Password; default: no authentication
	Password string
	TLS      TLS            // default: StartTLS
	Roots    *x509.CertPool // authorities that are trusted; default: those of the system
}

// SMTP sends mails. It is safe for concurrent use.
type SMTP struct {
	cfg  SMTPConfig
	host string
	port int
	from *netmail.Address
}

// NewSMTP checks the configuration; it does not reach the server. NoTLS is for
// servers at a loopback address.
func NewSMTP(cfg SMTPConfig) (*SMTP, error) {
	s := &SMTP{cfg: cfg}
	host, port, err := net.SplitHostPort(cfg.Address)
	if err == nil {
		s.port, err = strconv.Atoi(port)
	}
	if err != nil || host == "" {
		return nil, errors.New("mail: the server's address is not host:port")
	}
	s.host = host
	if s.from, err = netmail.ParseAddress(cfg.From); err != nil || !sendable(s.from.Address) {
		return nil, errors.New("mail: the sender is not a mail address")
	}
	if (cfg.Username == "") != (cfg.Password == "") {
		return nil, errors.New("mail: user name and password need each other")
	}
	switch cfg.TLS {
	case "":
		s.cfg.TLS = StartTLS
	case StartTLS, Implicit:
	case NoTLS:
		if !loopback(host) {
			return nil, errors.New("mail: a server that is not on this machine needs TLS")
		}
	default:
		return nil, fmt.Errorf("mail: there is no TLS %q", cfg.TLS)
	}
	return s, nil
}

// loopback tells whether a host is this machine: localhost or a loopback
// address.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Send gives a mail to the server. id is what its Message-ID is made of: the
// same for the same mail, 1 to 64 letters, digits and hyphens. ErrRefused: there
// is no use in sending it again. Errors tell neither addresses nor words of it.
func (s *SMTP) Send(ctx context.Context, to, id string, at time.Time, text Text) error {
	message, err := s.message(to, id, at, text)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	client, err := s.client(func(dialing context.Context, network, address string) (net.Conn, error) {
		dial := (&net.Dialer{}).DialContext
		if s.cfg.TLS == Implicit {
			dial = (&tls.Dialer{Config: s.tls()}).DialContext
		}
		connection, err := dial(dialing, network, address)
		if err == nil {
			// The library leaves a connection open where greeting it or signing in
			// fails, and has no end for a server that says a little now and then.
			context.AfterFunc(ctx, func() { connection.Close() })
		}
		return connection, err
	})
	if err != nil {
		return err
	}
	conversation, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return fmt.Errorf("reaching the mail server: %w", err)
	}
	err = client.SendWithSMTPClient(conversation, message)
	// It may have failed behind the mail, which counts for nothing.
	if message.IsDelivered() {
		_ = conversation.Quit()
		return nil
	}
	return verdict(err)
}

// verdict is what a failed conversation is told as. What the server said may
// name the address.
func verdict(err error) error {
	var said *gomail.SendError
	if !errors.As(err, &said) {
		return errors.New("talking to the mail server failed")
	}
	told := fmt.Errorf("%s: reply %d %s", said.Reason, said.ErrorCode(), said.EnhancedStatusCode())
	ours := []gomail.SendErrReason{gomail.ErrSMTPMailFrom, gomail.ErrSMTPRcptTo, gomail.ErrSMTPData, gomail.ErrSMTPDataClose}
	if said.ErrorCode() >= 500 && slices.Contains(ours, said.Reason) {
		return fmt.Errorf("%w: %w", ErrRefused, told)
	}
	return told
}

// client is made anew for each mail: the library's keeps state.
func (s *SMTP) client(dial gomail.DialContextFunc) (*gomail.Client, error) {
	options := []gomail.Option{gomail.WithPort(s.port), gomail.WithTimeout(smtpTimeout), gomail.WithDialContextFunc(dial),
		gomail.WithTLSConfig(s.tls()), gomail.WithHELO(hello())}
	if s.cfg.TLS == StartTLS {
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	} else {
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	}
	if s.cfg.Username != "" {
		options = append(options, gomail.WithSMTPAuthCustom(&authentication{cfg: s.cfg, host: s.host}))
	}
	client, err := gomail.NewClient(s.host, options...)
	if err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	return client, nil
}

func (s *SMTP) tls() *tls.Config {
	return &tls.Config{ServerName: s.host, MinVersion: tls.VersionTLS12, RootCAs: s.cfg.Roots}
}

// hello is the machine's name, where it is one that can be said (RFC 5321
// §4.1.1.1).
func hello() string {
	name, err := os.Hostname()
	if err != nil || name == "" || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
		return "localhost"
	}
	return name
}

// authentication proves who we are by PLAIN (RFC 4616) or, where that is not
// offered, LOGIN: over TLS, or within this machine.
type authentication struct {
	cfg    SMTPConfig
	host   string
	chosen smtp.Auth
}

// Start begins with the mechanism that the server offers.
func (a *authentication) Start(server *smtp.ServerInfo) (string, []byte, error) {
	if !server.TLS && a.cfg.TLS != NoTLS {
		return "", nil, errors.New("the password is not sent without TLS")
	}
	local := a.cfg.TLS == NoTLS // a loopback address: NewSMTP
	switch {
	case slices.Contains(server.Auth, "PLAIN"):
		a.chosen = smtp.PlainAuth("", a.cfg.Username, a.cfg.Password, a.host, local)
	case slices.Contains(server.Auth, "LOGIN"):
		a.chosen = smtp.LoginAuth(a.cfg.Username, a.cfg.Password, a.host, local)
	default:
		return "", nil, errors.New("the mail server offers neither PLAIN nor LOGIN")
	}
	return a.chosen.Start(server)
}

// Next goes on with it.
func (a *authentication) Next(from []byte, more bool) ([]byte, error) {
	return a.chosen.Next(from, more)
}

// message is the mail: one address, plain text.
func (s *SMTP) message(to, id string, at time.Time, text Text) (*gomail.Msg, error) {
	// Not a list, not a name: a claim is an address or nothing.
	parsed, err := netmail.ParseAddress(to)
	if err != nil || parsed.Name != "" || !sendable(parsed.Address) {
		return nil, errAddress
	}
	if id == "" || len(id) > 64 || strings.Trim(strings.ToLower(id), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return nil, errors.New("not an id of a mail")
	}
	from := *s.from
	if text.Sender != "" {
		from.Name = text.Sender
	}
	from.Name = line(from.Name, maxName)
	_, domain, _ := strings.Cut(from.Address, "@")

	m := gomail.NewMsg(gomail.WithEncoding(gomail.EncodingQP), gomail.WithNoDefaultUserAgent())
	m.FromMailAddress(&from)
	m.ToMailAddress(&netmail.Address{Address: parsed.Address})
	m.Subject(line(text.Subject, maxSubject))
	m.SetDateWithValue(at)
	m.SetMessageIDWithValue(id + "@" + domain)
	m.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834 §5
	m.SetGenHeader("X-Auto-Response-Suppress", "All")  // for those who don't know it
	if text.Language != "" {
		m.SetGenHeader(gomail.HeaderContentLang, line(text.Language, 35))
	}
	m.SetBodyString(gomail.TypeTextPlain, paragraphs(text.Body))
	return m, nil
}

// sendable tells whether an address can stand in a command and a header as it is
// (RFC 5321 §4.1.2, without quoted local parts; RFC 6531 allows UTF-8).
func sendable(address string) bool {
	local, domain, ok := strings.Cut(address, "@")
	return ok && local != "" && domain != "" && len(address) <= 254 && utf8.ValidString(address) &&
		!strings.ContainsFunc(address, func(r rune) bool {
			return unicode.IsControl(r) || unicode.IsSpace(r) || strings.ContainsRune(`<>()[],;:\"`, r)
		}) && !strings.Contains(domain, "@")
}

// line is a text without control characters, cut to max bytes, so that it is one
// line of a header whatever is in it.
func line(text string, max int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	if len(text) > max {
		text = strings.ToValidUTF8(text[:max], "")
	}
	return strings.TrimSpace(text)
}

// paragraphs are the lines of a body, without other control characters.
func paragraphs(body string) string {
	lines := strings.Split(body, "\n")
	for i := range lines {
		lines[i] = line(lines[i], maxBody)
	}
	body = strings.Join(lines, "\r\n")
	if len(body) > maxBody {
		body = strings.ToValidUTF8(body[:maxBody], "")
	}
	return body
}
