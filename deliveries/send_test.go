package deliveries_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/deliveries"
)

func TestDeliveryIsOnePostOfALogoutToken(t *testing.T) {
	o := newOffice(t)
	requests := make(chan *http.Request, 1)
	r := newRecipient(t, func(w http.ResponseWriter, r *http.Request) {
		requests <- r
		w.Header().Set("Set-Cookie", "seen=1; Path=/")
	})
	cfg := o.config()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	to, _ := url.Parse(r.URL)
	jar.SetCookies(to, []*http.Cookie{{Name: "who", Value: "we"}})
	cfg.Client.Jar = jar
	o.store.add(1, deliveries.Delivery{ClientID: "album", URI: r.URL + "/backchannel?tenant=1", Alg: "ES256"})
	o.run(cfg)
	req := <-requests
	await(t, "the delivery is noted as sent", func() bool { return o.store.count(deliveries.Sent) == 1 })
	if req.Method != http.MethodPost || req.URL.RequestURI() != "/backchannel?tenant=1" || len(req.PostForm) != 1 || len(req.PostForm["logout_token"]) != 1 {
		t.Errorf("the request is %s %s %v", req.Method, req.URL.RequestURI(), req.PostForm)
	}
	for name, want := range map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Cache-Control": "no-store",
		"User-Agent": "Gatehouse/1.2.3", "Cookie": "", "Referer": "", "Authorization": ""} {
		if got := req.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	read, err := o.keys.verify(req.PostForm.Get("logout_token"), "album", o.clock.now())
	if d := o.store.all()[0]; err != nil || read.TokenID != d.ID || d.Attempts != 1 || d.LastError != "" {
		t.Errorf("token %+v, %v; delivery %+v", read, err, d)
	}
	if counted := o.outcomes(1); counted["myAS sent"] != 1 || len(counted) != 1 {
		t.Errorf("counted %v", counted)
	}
}

// Whatever else a client answers is a failure, after which it is sent the same
// delivery in a new token.
func TestOnlyAnAcknowledgementEndsADelivery(t *testing.T) {
	elsewhere := newRecipient(t, ok)
	closing := func(answer string) func(testing.TB) string {
		return func(t testing.TB) string {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = http.ReadRequest(bufio.NewReader(conn))
					_, _ = io.WriteString(conn, answer)
					_ = conn.(*net.TCPConn).CloseWrite()
					conn.Close()
				}
			}()
			return "http://" + l.Addr().String()
		}
	}
	status := func(code int) func(testing.TB) string {
		return func(t testing.TB) string {
			return newRecipient(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", elsewhere.URL)
				w.WriteHeader(code)
				if code != http.StatusNoContent {
					_, _ = io.WriteString(w, "secret=body")
				}
			}).URL
		}
	}
	for name, tt := range map[string]struct {
		uri  func(testing.TB) string
		want string // in LastError; empty: acknowledged
	}{
		"200":                 {status(200), ""},
		"204":                 {status(204), ""},
		"201":                 {status(201), "status 201"},
		"202":                 {status(202), "status 202"},
		"301":                 {status(301), "status 301: redirects are not followed"},
		"302":                 {status(302), "status 302: redirects are not followed"},
		"307":                 {status(307), "status 307: redirects are not followed"},
		"308":                 {status(308), "status 308: redirects are not followed"},
		"400":                 {status(400), "status 400"},
		"401":                 {status(401), "status 401"},
		"404":                 {status(404), "status 404"},
		"410":                 {status(410), "status 410"},
		"500":                 {status(500), "status 500"},
		"503":                 {status(503), "status 503"},
		"no answer":           {closing(""), "the connection ended without an answer"},
		"half an answer":      {closing("HTTP/1.1 2"), "no usable answer"},
		"no HTTP":             {closing("secret=body\r\n\r\n"), "no usable answer"},
		"a line of log":       {closing("HTTP/1.1 \x1b[31msecret=body\nlevel=ERROR\r\n\r\n"), "no usable answer"},
		"endless headers":     {closing("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("secret=body", 1<<18)), "answer"},
		"nobody there":        {func(testing.TB) string { return "http://127.0.0.1:1/" }, "connection refused"},
		"silence":             {func(t testing.TB) string { return newRecipient(t, hang).URL }, "no answer within 300ms"},
		"URI of no kind":      {func(testing.TB) string { return "http://127.0.0.1:port/" }, "the logout URI can't be used"},
		"another URI":         {func(testing.TB) string { return "gopher://127.0.0.1/" }, "no usable answer"},
		"certificate of none": {func(t testing.TB) string { return untrusted(t).URL }, "certificate: "},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			cfg := o.config()
			if name == "silence" { // everybody else may take his time on a slow machine
				cfg.Timeout = 300 * time.Millisecond
			}
			o.store.add(1, deliveries.Delivery{ClientID: "album", URI: tt.uri(t)})
			o.run(cfg)
			if tt.want == "" {
				await(t, "it is sent", func() bool { return o.store.count(deliveries.Sent) == 1 })
				return
			}
			await(t, "the failure is noted", func() bool { return o.store.all()[0].LastError != "" })
			d := o.store.all()[0]
			if d.State != deliveries.Waiting || d.Attempts != 1 || !strings.Contains(d.LastError, tt.want) {
				t.Errorf("%s after %d attempts, %q", d.State, d.Attempts, d.LastError)
			}
			if in := d.NextAt.Sub(o.clock.now()); in < 500*time.Millisecond || in > 2*time.Second {
				t.Errorf("it is sent again in %s", in)
			}
			for _, text := range []string{d.LastError, o.log.String()} {
				if strings.Contains(text, "secret=body") || strings.ContainsAny(d.LastError, "\x1b\n\r") || len(d.LastError) > 200 || strings.Contains(text, "eyJ") {
					t.Errorf("what the client said, or the token, is in %q", text)
				}
			}
			if counted := o.outcomes(1); counted["myAS failed"] != 1 {
				t.Errorf("counted %v", counted)
			}
		})
	}
	if got := elsewhere.got(); len(got) > 0 {
		t.Errorf("%d tokens followed a redirect", len(got))
	}
}

// untrusted is a server whose certificate nobody knows.
func untrusted(t testing.TB) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(ok))
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// A body is not what an answer is judged by, however long it is or lasts.
func TestBodyOfAnAnswerIsNotRead(t *testing.T) {
	o := newOffice(t)
	cfg := o.config() // its Timeout is what the slow one's body lasts; both headers must come within it
	var written atomic.Int64
	long := newRecipient(t, func(w http.ResponseWriter, r *http.Request) {
		chunk := make([]byte, 64<<10)
		for r.Context().Err() == nil {
			n, err := w.Write(chunk)
			if written.Add(int64(n)); err != nil {
				return
			}
		}
	})
	slow := newRecipient(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	o.store.add(1, deliveries.Delivery{ClientID: "long", URI: long.URL})
	o.store.add(1, deliveries.Delivery{ClientID: "slow", URI: slow.URL})
	o.run(cfg)
	await(t, "both are sent", func() bool { return o.store.count(deliveries.Sent) == 2 })
	if n := written.Load(); n > 64<<20 {
		t.Errorf("%d bytes of a body were taken", n)
	}
	if len(long.got()) != 1 || len(slow.got()) != 1 {
		t.Error("an answer with a body was not taken for an acknowledgement")
	}
}

// The addresses that may be reached are the HTTP client's to decide; that it
// refuses one is a failure with its words.
func TestRefusedAddressIsAFailure(t *testing.T) {
	o := newOffice(t)
	r := newRecipient(t, ok)
	cfg := o.config()
	dialer := &net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		return fmt.Errorf("request refused: %s is not a public address", address)
	}}
	cfg.Client = &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
	o.store.add(1, deliveries.Delivery{ClientID: "album", URI: r.URL})
	o.run(cfg)
	await(t, "it has failed", func() bool { return o.store.all()[0].LastError != "" })
	if d := o.store.all()[0]; !strings.Contains(d.LastError, "is not a public address") || len(r.got()) != 0 {
		t.Errorf("%q, sent %d times", d.LastError, len(r.got()))
	}
}
