package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

const (
	// streamLifetime is how long one stream of events lasts; then the browser
	// opens another.
	streamLifetime = 10 * time.Minute
	// streamsOfUser and streamsOfRealm bound the streams that are open at once,
	// at this node.
	streamsOfUser  = 8
	streamsOfRealm = 2000
	// streamWrite is how long a browser may take to receive an event.
	streamWrite = 10 * time.Second
	// streamPulse is how often something is sent at least, so that a browser
	// that has gone is noticed, and proxies keep the connection.
	streamPulse = 30 * time.Second
)

// errStreams: there are too many streams.
var errStreams = problem{http.StatusTooManyRequests, "streams"}

// streams are the streams of events that are open.
type streams struct {
	mu     sync.Mutex
	of     map[string]int // by user id
	open   int
	closed chan struct{} // closed when no stream may go on
	once   sync.Once
}

func newStreams() *streams { return &streams{of: map[string]int{}, closed: make(chan struct{})} }

// begin counts a stream of a user; false where there are too many. The caller
// calls end when it is over.
func (s *streams) begin(user string) (end func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[user] >= streamsOfUser || s.open >= streamsOfRealm {
		return nil, false
	}
	s.of[user]++
	s.open++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open--
		if s.of[user]--; s.of[user] == 0 {
			delete(s.of, user)
		}
	}, true
}

// Close ends the streams of events, which would otherwise keep a server that
// shuts down waiting. It may be called more than once.
func (p *Pages) Close() { p.streams.once.Do(func() { close(p.streams.closed) }) }

// events tells a page that is open when something of the visitor's has changed
// (HTML Living Standard, server-sent events): "change" with another mark, and
// "end" when his login is over. It costs one statement each time that it looks.
func (p *Pages) events(w http.ResponseWriter, r *http.Request) error {
	login, user, err := p.present(r)
	if err != nil {
		return err
	}
	if login == nil {
		// To an event source, no content means to come no more.
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if r.Method == http.MethodHead {
		return errMissing // there is nothing to be told of a stream but its events
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return errCrossSite
	}
	end, ok := p.streams.begin(user.ID)
	if !ok {
		w.Header().Set("Retry-After", retryAfter)
		return errStreams
	}
	defer end()
	ctx, cancel := context.WithTimeout(r.Context(), streamLifetime)
	defer cancel()
	s := stream{Pages: p, out: w, control: http.NewResponseController(w), visitor: visitor{login, user}}
	// A browser that comes again says what it heard last.
	s.run(ctx, cmp.Or(r.Header.Get("Last-Event-ID"), r.URL.Query().Get("mark")))
	return nil
}

// stream is one stream of events.
type stream struct {
	*Pages
	out     http.ResponseWriter
	control *http.ResponseController
	visitor visitor
}

// run writes events until ctx is done, the browser has gone, the login is over,
// or the server shuts down. mark is what the page shows.
func (s *stream) run(ctx context.Context, mark string) {
	h := s.out.Header()
	protect(h, filePolicy)
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would collect events
	if !s.write("retry: 3000\n\n") {
		return
	}
	looks := time.NewTicker(s.cfg.Watch)
	defer looks.Stop()
	written := time.Now()
	for {
		now, err := s.cfg.Directory.Mark(ctx, s.visitor.person())
		switch {
		case errors.Is(err, sessions.ErrNotFound):
			s.write("event: end\ndata:\n\n")
			return
		case err != nil:
			// The database can't be reached, or the stream is over: the browser
			// comes again.
			return
		case now != mark:
			mark = now
			if !s.write(fmt.Sprintf("event: change\nid: %s\ndata: %s\n\n", mark, mark)) {
				return
			}
			written = time.Now()
		case time.Since(written) >= streamPulse:
			if !s.write(":\n\n") {
				return
			}
			written = time.Now()
		}
		select {
		case <-looks.C:
		case <-ctx.Done():
			return
		case <-s.streams.closed:
			return
		}
	}
}

// write sends a piece of the stream; false where the browser is gone. The
// server's own time limit is for answers that are given at once.
func (s *stream) write(text string) bool {
	_ = s.control.SetWriteDeadline(time.Now().Add(streamWrite)) // where it can't be, the server's own holds
	if _, err := s.out.Write([]byte(text)); err != nil {
		return false
	}
	return s.control.Flush() == nil
}
