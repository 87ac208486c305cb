package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"
)

// maxBody is how much of a request's body anybody reads, in bytes. Endpoints
// set closer limits of their own.
const maxBody = 1 << 20

// requestNote is what is noted about one request on its way through.
type requestNote struct {
	id      string // 26 characters of [A-Z2-7], made by us for every request
	address string // of the client, behind trusted proxies
	route   string // template of the route that matched; empty: none did
	server  string // authorization server; empty: none
}

type noteKey struct{}

func noteOf(ctx context.Context) *requestNote {
	if note, ok := ctx.Value(noteKey{}).(*requestNote); ok {
		return note
	}
	return &requestNote{}
}

// requestID returns the id under which the request stands in the log and on
// error pages, or the empty string outside of a request.
func requestID(ctx context.Context) string { return noteOf(ctx).id }

// clientAddress returns the client's IP address, as the trusted proxies tell it.
func clientAddress(r *http.Request) string { return noteOf(r.Context()).address }

// edge is the outermost handler of the public listener: it gives every request
// its id, recovers from panics, and writes one log event and the metrics. It
// wraps the router instead of being one of its middlewares, because those do
// not run where no route matches.
type edge struct {
	next    http.Handler
	proxies proxies
	metrics *metrics
	secure  bool // public_url is https
	logger  *slog.Logger
}

// ServeHTTP serves one request.
func (e *edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	note := &requestNote{id: rand.Text(), address: e.proxies.client(r)}
	r = r.WithContext(context.WithValue(r.Context(), noteKey{}, note))
	if r.Body != http.NoBody {
		// The limit needs the real ResponseWriter, to close the connection of a
		// sender who goes on.
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	}
	out := &response{ResponseWriter: w}
	e.metrics.inFlight.Inc()
	defer func() {
		e.metrics.inFlight.Dec()
		if p := recover(); p != nil {
			aborted := e.recovered(out, r, note, p)
			defer func() {
				if aborted {
					panic(http.ErrAbortHandler)
				}
			}()
		}
		took := time.Since(began)
		e.metrics.observe(note.route, r.Method, out.code(), took, out.lasts())
		level := slog.LevelInfo
		if out.code() >= 500 {
			level = slog.LevelWarn
		}
		handler := e.logger.Handler()
		if !handler.Enabled(r.Context(), level) {
			return
		}
		// A record of our own spares looking for the line of code that logs, which
		// is always this one. The query is left out: codes, stamps and hints travel
		// in it.
		event := slog.NewRecord(began.Add(took), level, "request", 0)
		event.AddAttrs(
			slog.String("request_id", note.id),
			slog.String("method", short(r.Method, 16)),
			slog.String("path", short(r.URL.Path, 256)),
			slog.Int("status", out.code()),
			slog.Int64("bytes", out.bytes),
			slog.Float64("duration_ms", float64(took.Microseconds())/1000),
			slog.String("as", note.server),
			slog.String("address", note.address))
		_ = handler.Handle(r.Context(), event)
	}()
	e.defaults(w.Header())
	e.next.ServeHTTP(out, r)
}

// Values of the headers that every answer begins with. They are shared: a
// handler that knows better replaces one, and what it adds to one is a copy.
var (
	noStore        = []string{"no-store"}
	defaultPolicy  = []string{"default-src 'none'; frame-ancestors 'none'; base-uri 'none'"}
	noReferrer     = []string{"no-referrer"}
	noSniff        = []string{"nosniff"}
	denyFrames     = []string{"DENY"}
	strictlySecure = []string{"max-age=31536000"}
)

// defaults sets the headers that are right for every answer whose handler does
// not know better.
func (e *edge) defaults(h http.Header) {
	h["Cache-Control"] = noStore
	h["Content-Security-Policy"] = defaultPolicy
	h["Referrer-Policy"] = noReferrer
	h["X-Content-Type-Options"] = noSniff
	h["X-Frame-Options"] = denyFrames
	if e.secure {
		h["Strict-Transport-Security"] = strictlySecure
	}
}

// recovered answers a request whose handler panicked, and tells whether the
// connection must be aborted because part of an answer has left already.
func (e *edge) recovered(out *response, r *http.Request, note *requestNote, p any) (abort bool) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return true
	}
	e.logger.ErrorContext(r.Context(), "panic", "request_id", note.id, "panic", short(fmt.Sprint(p), 512), "stack", string(debug.Stack()))
	if out.status != 0 {
		return true
	}
	clear(out.Header())
	e.defaults(out.Header())
	plainError(out, r, http.StatusInternalServerError, "server_error", "Something went wrong here. It was recorded.")
	return false
}

// response counts what is written through it.
type response struct {
	http.ResponseWriter
	status int // 0: nothing written yet
	bytes  int64
}

// WriteHeader notes the status.
func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write counts the body.
func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// lasts tells whether the answer is a stream of events, which lasts as long as
// somebody looks at a page.
func (w *response) lasts() bool { return w.Header().Get("Content-Type") == "text/event-stream" }

func (w *response) code() int {
	if w.status == 0 {
		return http.StatusOK // what net/http sends for a handler that wrote nothing
	}
	return w.status
}

// noteRoute notes which route matched. It is a middleware of the router.
func noteRoute(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if route := mux.CurrentRoute(r); route != nil {
			if template, err := route.GetPathTemplate(); err == nil {
				noteOf(r.Context()).route = template
			}
		}
		next.ServeHTTP(w, r)
	})
}

// noteServer notes to which authorization server a request went. It is a
// middleware of that server's subrouter.
func noteServer(name string) mux.MiddlewareFunc {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			noteOf(r.Context()).server = name
			next.ServeHTTP(w, r)
		})
	}
}

// methods are what unmatched tries, and what metrics tell apart.
var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// catchAll gives a router its answers where no route matches.
func catchAll(router *mux.Router) {
	router.NotFoundHandler = unmatched(router)
	router.MethodNotAllowedHandler = router.NotFoundHandler
}

// unmatched answers where no route matches: 405 with Allow (RFC 9110 §15.5.6)
// if another method would do, else 404. The router itself does not say which
// methods there are, and forgets about a method that did not match when it
// looks at the next route of a subrouter; so it is asked for each.
func unmatched(router *mux.Router) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var allow []string
		for _, method := range methods {
			probe := *r
			probe.Method = method
			var match mux.RouteMatch
			if router.Match(&probe, &match) && match.MatchErr == nil {
				allow = append(allow, method)
			}
		}
		if len(allow) == 0 {
			plainError(w, r, http.StatusNotFound, "not_found", "There is nothing at this address.")
			return
		}
		w.Header().Set("Allow", strings.Join(allow, ", "))
		plainError(w, r, http.StatusMethodNotAllowed, "method_not_allowed", "This address does not take that method.")
	})
}

// plainError answers what belongs to no part: a small page for a browser, JSON
// for everything else.
func plainError(w http.ResponseWriter, r *http.Request, status int, code, description string) {
	id := requestID(r.Context())
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		fmt.Fprintf(w, "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n"+
			"<title>%d %s</title>\n<h1>%s</h1>\n<p>%s</p>\n<p><small>Request %s</small></p>\n</html>\n",
			status, http.StatusText(status), http.StatusText(status), description, id)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, "{\"error\":%q,\"error_description\":%q,\"request_id\":%q}\n", code, description, id)
}

// short cuts what a stranger chose to a length fit for the log.
func short(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// knownMethod bounds the values of a metric's label.
func knownMethod(method string) string {
	if slices.Contains(methods, method) {
		return method
	}
	return "other"
}
