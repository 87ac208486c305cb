package deliveries

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

const (
	// maxDrained is how much of an answer's body is read, so that its sender
	// sees an orderly end. What it says is of no interest.
	maxDrained = 4 << 10
	// maxReason bounds LastError, in bytes.
	maxReason = 200
)

// send makes one request of a delivery (OpenID Connect Back-Channel Logout 1.0
// §2.5) and tells why it failed; "": the client acknowledged it.
func (w *Worker) send(ctx context.Context, d *Delivery) string {
	signer, known := w.cfg.Signers[d.AuthorizationServer]
	if !known {
		return "this server's configuration has no such authorization server"
	}
	token, err := LogoutToken(signer, *d, w.cfg.Now())
	if err != nil {
		return reason(err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	form := url.Values{"logout_token": {token}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URI, strings.NewReader(form))
	if err != nil {
		return "the logout URI can't be used"
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Cache-Control", "no-store")
	req.Header.Set("User-Agent", w.cfg.UserAgent)
	res, err := w.client.Do(req)
	if err != nil {
		return w.transportFault(err)
	}
	// Nothing hangs on it: the status has said what became of the message.
	_, _ = io.CopyN(io.Discard, res.Body, maxDrained)
	_ = res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK, http.StatusNoContent:
		// §2.8: 200, for which some frameworks put 204 where the body is empty.
		return ""
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return fmt.Sprintf("status %d: redirects are not followed", res.StatusCode)
	}
	return fmt.Sprintf("status %d", res.StatusCode)
}

// transportFault says in our own words why there was no answer. The texts of
// net/http quote what the other side sent, which is not ours to keep; those of
// a connection that was not made name only addresses.
func (w *Worker) transportFault(err error) string {
	var dial *net.OpError
	var timeout net.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no answer within %s", w.cfg.Timeout)
	case errors.As(err, &certificate):
		return reason("certificate: " + certificate.Err.Error())
	case errors.As(err, &dial) && dial.Op == "dial":
		return reason(dial.Error())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection ended without an answer"
	}
	return "no usable answer"
}

// reason is text as it may be stored and shown in one line: printable ASCII,
// and not too long.
func reason(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), maxReason)]
}

// Backoff says how far apart the sendings of one delivery are: before the n-th
// repetition a random time up to First times two to the n-1, but at most Most,
// and at least a quarter of First. The times are random so that what failed
// together does not come back together.
type Backoff struct {
	First time.Duration // default: 2 s
	Most  time.Duration // default: 30 min
}

// after is the time until the next sending when so many have failed, between
// its bounds as share (0 to 1) says.
func (b Backoff) after(attempts int, share float64) time.Duration {
	ceiling := b.First
	for i := 1; i < attempts && ceiling < b.Most; i++ {
		ceiling *= 2
	}
	least := b.First / 4
	return least + time.Duration(share*float64(min(ceiling, b.Most)-least))
}
