//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// conn is one connection that is kept open. It is not for concurrent use.
type conn struct {
	address string
	net     net.Conn
	reader  *bufio.Reader
}

// patience bounds every exchange.
const patience = 30 * time.Second

func dial(t testing.TB, address string) *conn {
	t.Helper()
	c := &conn{address: address}
	if err := c.open(); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *conn) open() (err error) {
	if c.net, err = net.DialTimeout("tcp", c.address, patience); err == nil {
		c.reader = bufio.NewReaderSize(c.net, 16<<10)
	}
	return err
}

func (c *conn) Close() {
	if c.net != nil {
		c.net.Close()
	}
}

// answer is a response with its body.
type answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// do sends a request as it goes over the wire, and reads the answer. What failed
// is closed; the next call connects anew.
func (c *conn) do(request []byte) (answer, error) {
	if c.net == nil {
		if err := c.open(); err != nil {
			return answer{}, err
		}
	}
	a, err := c.exchange(request)
	if err != nil {
		c.net.Close()
		c.net = nil
	}
	return a, err
}

func (c *conn) exchange(request []byte) (answer, error) {
	if err := c.net.SetDeadline(time.Now().Add(patience)); err != nil {
		return answer{}, err
	}
	if _, err := c.net.Write(request); err != nil {
		return answer{}, err
	}
	res, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.Close {
		err = errors.New("the server ends the connection")
	}
	return answer{res.StatusCode, res.Header, body}, err
}

// encode writes a request as it goes over the wire.
func encode(r Request) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: localhost\r\n", r.Method, r.Path)
	for name, value := range r.Header {
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
	}
	if r.Body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(r.Body))
	}
	b.WriteString("\r\n" + r.Body)
	return b.Bytes()
}

// errOver ends a worker's round before its time: there is nothing left to do.
var errOver = errors.New("nothing is left to do")

// operation is one measured unit of work over a connection of the worker's own.
type operation func(worker int, c *conn) error

// drive lets so many workers repeat an operation until the time is over. It
// also returns the first error.
func drive(t testing.TB, p *program, workers int, during time.Duration, do operation) (Result, error) {
	t.Helper()
	conns := make([]*conn, workers)
	for i := range conns {
		conns[i] = dial(t, p.Address)
	}
	type share struct {
		took   []time.Duration
		errors int
		first  error
	}
	shares := make([]share, workers)
	var wg sync.WaitGroup
	before, began := p.usage(), time.Now()
	ctx, cancel := context.WithDeadline(t.Context(), began.Add(during))
	defer cancel()
	for i := range workers {
		wg.Go(func() {
			s := &shares[i]
			for ctx.Err() == nil {
				at := time.Now()
				err := do(i, conns[i])
				switch {
				case err == nil:
					s.took = append(s.took, time.Since(at))
				case errors.Is(err, errOver):
					return
				default:
					s.errors++
					if s.first == nil {
						s.first = err
					}
				}
			}
		})
	}
	wg.Wait()
	r := Result{Took: time.Since(began)}
	after := p.usage()
	r.CPU, r.RSS = after.CPU-before.CPU, after.RSS
	var all []time.Duration
	var first error
	for i, s := range shares {
		conns[i].Close()
		all = append(all, s.took...)
		r.Errors += s.errors
		if first == nil {
			first = s.first
		}
	}
	r.Operations = len(all)
	r.P50, r.P99 = Percentile(all, 50), Percentile(all, 99)
	return r, first
}

// wrk sends requests in turn over so many connections. The time is in whole
// seconds.
func wrk(t testing.TB, dir string, p *program, connections int, during time.Duration, requests []Request) Result {
	t.Helper()
	f, err := os.CreateTemp(dir, "wrk-*.lua")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(WrkScript(requests)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(f.Name())
	before := p.usage()
	out, err := exec.Command("wrk", "--threads", "1", "--connections", fmt.Sprint(connections), "--duration", fmt.Sprintf("%ds", int(during.Seconds())),
		"--timeout", "30s", "--script", filepath.Clean(f.Name()), "http://"+p.Address).CombinedOutput()
	after := p.usage()
	if err != nil {
		t.Fatalf("wrk: %v\n%s", err, out)
	}
	r, err := ParseWrk(string(out))
	if err != nil {
		t.Fatal(err)
	}
	r.CPU, r.RSS = after.CPU-before.CPU, after.RSS
	return r
}
