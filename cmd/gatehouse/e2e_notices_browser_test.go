//go:build unix

package main

import (
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"gatehouse.dev/gatehouse/configs"
)

// mailbox is a real mail server on a loopback address, which takes mails of
// those who have the password "post".
type mailbox struct {
	address string

	mu   sync.Mutex
	more *sync.Cond // a mail came
	came []letter
}

// letter is a mail that came.
type letter struct{ to, subject, body, id string }

func newMailbox(t *testing.T) *mailbox {
	t.Helper()
	m := &mailbox{}
	m.more = sync.NewCond(&m.mu)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.address = listener.Addr().String()
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &posting{mailbox: m}, nil }))
	server.AllowInsecureAuth = true
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // until it is closed
	}()
	t.Cleanup(func() {
		_ = server.Close()
		_ = listener.Close()
		<-done
	})
	return m
}

// letters waits until n mails have come, and a bounded time at most.
func (m *mailbox) letters(t *testing.T, n int) []letter {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	late := false
	timer := time.AfterFunc(40*time.Second, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		late = true
		m.more.Broadcast()
	})
	defer timer.Stop()
	for len(m.came) < n && !late {
		m.more.Wait()
	}
	if len(m.came) < n {
		t.Fatalf("%d mails have come, want %d", len(m.came), n)
	}
	return slices.Clone(m.came)
}

// posting is one connection to a mailbox.
type posting struct {
	*mailbox
	proven bool
	to     string
}

func (p *posting) AuthMechanisms() []string { return []string{sasl.Plain} }

func (p *posting) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if p.proven = user == "gatehouse" && password == "post"; !p.proven {
			return smtp.ErrAuthFailed
		}
		return nil
	}), nil
}

func (p *posting) Mail(string, *smtp.MailOptions) error {
	if !p.proven {
		return smtp.ErrAuthRequired
	}
	return nil
}

func (p *posting) Rcpt(to string, _ *smtp.RcptOptions) error {
	p.to = to
	return nil
}

func (p *posting) Data(r io.Reader) error {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil {
		return err
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.came = append(p.came, letter{p.to, subject, string(body), m.Header.Get("Message-Id")})
	p.more.Broadcast()
	return nil
}

func (p *posting) Reset()        { p.to = "" }
func (p *posting) Logout() error { return nil }

// A sign-in from a second browser is told to its owner by mail, in his language,
// and on the account page of the first browser, where he can end it.
func TestSignInFromAnotherBrowserIsToldToItsOwner(t *testing.T) {
	t.Parallel()
	took(t, "axe-core")
	box := newMailbox(t)
	o := openOffice(t, "", func(cfg *configs.Config) {
		cfg.SMTP = configs.SMTP{Address: box.address, From: "Gatehouse <gatehouse@example.com>", Username: "gatehouse", Password: "post", TLS: configs.SMTPNoTLS}
	})
	home, second, third := openBrowser(t, browserOptions{}), openBrowser(t, browserOptions{Language: "de-CH, en;q=0.5", NoScript: true}), openBrowser(t, browserOptions{Phone: true})
	web := o.party("myAS", "trusted")
	for _, c := range []*chromium{home, second} {
		c.visit(web)
		c.at("/login")
		c.signIn("alex", "alex-demo")
		c.text("#result")
	}
	german := box.letters(t, 1)[0]
	third.visit(web)
	third.at("/login")
	third.signIn("alex", "alex-demo")
	third.text("#result")
	english := box.letters(t, 2)[1]
	for _, tt := range []struct {
		letter
		words []string
	}{
		{german, []string{"Neue Anmeldung an Ihrem Konto bei", "auf einem Gerät angemeldet", "Adresse: 127.0.0.1"}},
		{english, []string{"New sign-in to your account at", "from a device that was not used before", "Address: 127.0.0.1"}},
	} {
		all := tt.subject + "\n" + tt.body
		for _, word := range append(tt.words, o.URL+"/account/sessions") {
			if !strings.Contains(all, word) {
				t.Errorf("the mail lacks %q:\n%s", word, all)
			}
		}
		if tt.to != "alex@example.com" || !strings.HasSuffix(tt.id, "@example.com>") {
			t.Errorf("the mail %s is to %s", tt.id, tt.to)
		}
	}

	home.do(chromedp.Navigate(o.URL + "/account/sessions"))
	home.at("/account/sessions")
	if text := home.text("main"); strings.Count(text, "Was this you?") != 2 {
		t.Errorf("the account page asks:\n%s", text)
	}
	home.axe("account, asked about sign-ins")
	home.leave(`button[value="yes"]`) // the newest comes first: the phone
	home.at("/account/sessions")
	home.leave(`button[value="no"]`)
	home.at("/account/password")
	if text := home.text("main"); !strings.Contains(text, "That sign-in has been ended") {
		t.Errorf("the page says:\n%s", text)
	}
	second.do(chromedp.Navigate(o.URL + "/account/sessions"))
	second.at("/login")
	third.do(chromedp.Navigate(o.URL + "/account/sessions"))
	third.at("/account/sessions")
	if strings.Contains(o.Log.String(), "alex@example.com") {
		t.Error("the log has the address")
	}
	if n := len(box.letters(t, 2)); n != 2 {
		t.Errorf("%d mails have come, want 2", n)
	}
	answer, err := http.Get(o.Operations + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	figures, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(figures), `gatehouse_mails_total{realm="default",state="sent"} 2`) {
		t.Errorf("the figures of mails are not there:\n%s", figures)
	}
}
