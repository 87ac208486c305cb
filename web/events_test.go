package web_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"

	"gatehouse.dev/gatehouse/web"
)

// streaming is an open stream of events.
type streaming struct {
	t      *testing.T
	events chan string // names of events; closed when the stream is over
	status int
	header http.Header
	end    func()
}

// stream opens the stream of an account page, with header as pairs.
func (b *browser) stream(query string, header ...string) *streaming {
	b.h.t.Helper()
	ctx, cancel := context.WithCancel(b.h.t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.h.base+"/account/sessions/events"+query, nil)
	if err != nil {
		b.h.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := b.client.Do(req)
	if err != nil {
		b.h.t.Fatal(err)
	}
	s := &streaming{t: b.h.t, events: make(chan string, 100), status: res.StatusCode, header: res.Header}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(s.events)
		defer func() { _ = res.Body.Close() }()
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				s.events <- name
			}
		}
	}()
	s.end = func() { cancel(); <-done }
	b.h.t.Cleanup(s.end)
	return s
}

// next is the next event, "over" at the end of the stream, and "nothing" where
// there is none for a while.
func (s *streaming) next(patience time.Duration) string {
	s.t.Helper()
	select {
	case name, ok := <-s.events:
		if !ok {
			return "over"
		}
		return name
	case <-time.After(patience):
		return "nothing"
	}
}

func (s *streaming) want(names ...string) {
	s.t.Helper()
	for _, name := range names {
		if got := s.next(10 * time.Second); got != name {
			s.t.Fatalf("the stream tells %q, want %q", got, name)
		}
	}
}

// markOf is the mark of what a page shows.
func markOf(page answer) string {
	page.t.Helper()
	_, rest, found := strings.Cut(page.body, `data-mark="`)
	mark, _, _ := strings.Cut(rest, `"`)
	if !found || mark == "" {
		page.t.Fatalf("the page has no mark:\n%s", page.body)
	}
	return mark
}

func TestStreamTellsOfChanges(t *testing.T) {
	h := open(t, func(c *web.Config) { c.Watch = 10 * time.Millisecond })
	b, other := h.browser(), h.browser()
	mark := markOf(b.enter("alex", alexPassword))
	s := b.stream("?mark=" + mark)
	if s.status != 200 || s.header.Get("Content-Type") != "text/event-stream" || s.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v", s.status, s.header)
	}
	if got := s.next(100 * time.Millisecond); got != "nothing" {
		t.Errorf("before anything has changed the stream tells %q", got)
	}
	other.enter("alex", alexPassword)
	s.want("change")
	if a := b.do(http.MethodHead, h.base+"/account/sessions/events", ""); a.status != 404 {
		t.Errorf("HEAD of a stream: %d", a.status)
	}
	// Who comes again with what he heard last, or with an old page, is told.
	b.stream("?mark=" + mark).want("change")
	b.stream("?mark="+mark, "Last-Event-ID", markOf(b.get(h.base+"/account/sessions")))
	if again := b.stream("?mark="+mark, "Last-Event-ID", markOf(b.get(h.base+"/account/sessions"))); again.next(100*time.Millisecond) != "nothing" {
		t.Error("who heard of it is told once more")
	}
	bob := h.browser()
	bob.enter("bob", bobPassword)
	if got := s.next(100 * time.Millisecond); got != "nothing" {
		t.Errorf("what somebody else does is told as %q", got)
	}
	// An ending is a change as well.
	third := h.browser()
	third.enter("alex", alexPassword)
	s.want("change")
	third.submit(third.get(h.base + "/logout"))
	s.want("change")
	if got := s.next(100 * time.Millisecond); got != "nothing" {
		t.Errorf("an ending is told again, as %q", got)
	}
	// The end of the own login ends the stream.
	other.submit(other.get(h.base + "/account/sessions/end?what=all"))
	s.want("end", "over")
}

func TestStreamsAreBounded(t *testing.T) {
	h := open(t, func(c *web.Config) { c.Watch = 10 * time.Millisecond })
	b, second, bob := h.browser(), h.browser(), h.browser()
	mark := "?mark=" + markOf(b.enter("alex", alexPassword))
	second.enter("alex", alexPassword)
	bob.enter("bob", bobPassword)
	var open []*streaming
	for range 8 {
		open = append(open, b.stream(mark))
	}
	if s := second.stream(mark); s.status != 429 || s.header.Get("Retry-After") == "" {
		t.Errorf("the ninth stream gets %d", s.status)
	}
	if s := bob.stream(""); s.status != 200 {
		t.Errorf("somebody else's stream gets %d", s.status)
	}
	// A browser that goes makes room: it is noticed at the next event at the latest.
	open[0].end()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if s := second.stream(mark); s.status == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a stream that was given up is counted for ever")
		}
	}
	// A server that shuts down ends them.
	h.pages.Close()
	h.pages.Close()
	for _, s := range open[1:] {
		for got := ""; got != "over"; {
			if got = s.next(10 * time.Second); got == "nothing" {
				t.Fatal("a stream goes on when the server shuts down")
			}
		}
	}
	res, err := b.client.Get(h.base + "/account/sessions/events" + mark)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Errorf("a stream that begins at the shutdown: %v", err)
	}
}

// TestStreamOutlastsTheServersLimits: they are for requests that are answered at
// once.
func TestStreamOutlastsTheServersLimits(t *testing.T) {
	h := open(t, func(c *web.Config) { c.Watch = 10 * time.Millisecond })
	b, other := h.browser(), h.browser()
	mark := markOf(b.enter("alex", alexPassword))
	router := mux.NewRouter()
	h.pages.Mount(router.PathPrefix("/realms/default").Subrouter())
	server := httptest.NewUnstartedServer(router)
	const limit = time.Second
	server.Config.ReadTimeout, server.Config.WriteTimeout = limit, limit
	server.Start()
	t.Cleanup(server.Close)
	at := h.base
	h.base = server.URL + "/realms/default"
	s := b.stream("?mark=" + mark)
	h.base = at
	if got := s.next(2 * limit); got != "nothing" {
		t.Fatalf("the stream tells %q", got)
	}
	other.enter("alex", alexPassword)
	s.want("change")
	s.end()
}
