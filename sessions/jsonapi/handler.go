package jsonapi

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"gatehouse.dev/gatehouse/sessions"
)

// Config is what the dialect of one authorization server is made of.
type Config struct {
	// Base is the issuer, a URL: links begin with it and challenges name it as
	// their realm. Required.
	Base string
	// Manager holds the rules of this authorization server's sessions. Required.
	Manager *sessions.Manager
	// Caller proves who asks, from the request's credentials. It returns, wrapped
	// or not, sessions.ErrCallerMissing, ErrCallerInvalid, ErrCallerNoUser or
	// ErrUnavailable; any other error is answered with 500. Required.
	Caller func(*http.Request) (sessions.Caller, error)
	// Read and Manage are the scopes demanded for seeing sessions, and for
	// changing and ending them, separated by spaces where there are several. Default: none.
	Read, Manage string
	// RequestID returns the id under which the request is logged; it becomes the
	// id of error objects. Default: a random one for each error.
	RequestID func(context.Context) string
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Logger gets the causes of failures. Default: slog.Default().
	Logger *slog.Logger
}

// Handler answers the JSON:API dialect of one authorization server. It is safe
// for concurrent use.
type Handler struct {
	cfg  Config
	base string // cfg.Base without a trailing slash
}

// New returns the Handler that cfg describes.
func New(cfg Config) *Handler {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Handler{cfg: cfg, base: strings.TrimRight(cfg.Base, "/")}
}

// operation is one method of one endpoint.
type operation struct {
	scope  string   // demanded of the caller, several separated by spaces; empty: none
	params []string // names of the query parameters that it takes
	reads  bool     // it reads a document
	// serve answers a request that passed every check. A nil document is a 204.
	serve func(*http.Request, sessions.Caller, query) (*document, error)
}

// Mount registers the endpoints on r, the subrouter of the authorization
// server. All methods of a path are registered at once, because a router that
// answers 405 by itself leaves out Allow (RFC 9110 §15.5.6).
func (h *Handler) Mount(r *mux.Router) {
	for _, e := range []struct {
		path       string
		operations map[string]operation
	}{
		{"/session", map[string]operation{
			http.MethodGet:    {scope: h.cfg.Read, params: paramsOfOne, serve: h.current},
			http.MethodPatch:  {scope: h.cfg.Manage, params: paramsOfOne, reads: true, serve: h.change},
			http.MethodDelete: {scope: h.cfg.Manage, serve: h.endCurrent},
		}},
		{"/sessions", map[string]operation{
			http.MethodGet:    {scope: h.cfg.Read, params: paramsOfList, serve: h.list},
			http.MethodDelete: {scope: h.cfg.Manage, params: paramsOfEndAll, serve: h.endAll},
		}},
		{"/sessions/{id}", map[string]operation{
			http.MethodGet:    {scope: h.cfg.Read, params: paramsOfOne, serve: h.one},
			http.MethodDelete: {scope: h.cfg.Manage, serve: h.endOne},
		}},
	} {
		handler := h.endpoint(e.path, e.operations)
		r.Handle(e.path, handler)
		r.Handle(e.path+"/", handler)
	}
	r.Handle(descriptionPath, h.describe())
}

// endpoint is the one way of every request: headers, dispatch, checks, answer.
func (h *Handler) endpoint(path string, operations map[string]operation) http.Handler {
	if get, ok := operations[http.MethodGet]; ok {
		operations[http.MethodHead] = get
	}
	methods := []string{http.MethodOptions}
	for method := range operations {
		methods = append(methods, method)
	}
	slices.Sort(methods)
	allow := strings.Join(methods, ", ")

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Add("Vary", "Accept") // Add: a wrapper may have set Origin
		if r.Method == http.MethodOptions {
			w.Header().Set("Allow", allow)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		op, ok := operations[r.Method]
		if !ok {
			h.refuse(w, r, path, methodNotAllowed(allow))
			return
		}
		doc, err := h.run(op, r)
		switch {
		case err != nil:
			h.refuse(w, r, path, err)
		case doc == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			doc.Meta = h.meta()
			h.write(w, http.StatusOK, doc)
		}
	})
}

// run makes the checks of the package comment in their order, then serves.
func (h *Handler) run(op operation, r *http.Request) (*document, error) {
	caller, err := h.authenticate(r)
	if err != nil {
		return nil, err
	}
	if !holds(caller.Scopes, op.scope) {
		return nil, insufficientScope(h.cfg.Base, op.scope)
	}
	if !acceptable(r.Header.Values("Accept")) {
		return nil, notAcceptable()
	}
	if !supportedContent(r, op.reads) {
		return nil, unsupportedMediaType()
	}
	q, err := parseQuery(r.URL.RawQuery, op.params)
	if err != nil {
		return nil, err
	}
	return op.serve(r, caller, q)
}

// authenticate proves the caller and translates the refusals of Config.Caller.
func (h *Handler) authenticate(r *http.Request) (sessions.Caller, error) {
	caller, err := h.cfg.Caller(r)
	if err != nil {
		return sessions.Caller{}, callerProblem(h.cfg.Base, err)
	}
	// An empty member widens a sessions.Filter or a sessions.Target to everybody's
	// sessions, so it must never come from a caller.
	if caller.UserID == "" || caller.SessionID == "" {
		return sessions.Caller{}, noUserSession(nil)
	}
	if caller.ClientID == "" {
		return sessions.Caller{}, fmt.Errorf("caller of session %s has no client", caller.SessionID)
	}
	return caller, nil
}

// holds tells whether granted has every one of the demanded scopes.
func holds(granted []string, demanded string) bool {
	for _, scope := range strings.Fields(demanded) {
		if !slices.Contains(granted, scope) {
			return false
		}
	}
	return true
}

// requestID is the id of an error object and of its event in the log.
func (h *Handler) requestID(ctx context.Context) string {
	if h.cfg.RequestID != nil {
		if id := h.cfg.RequestID(ctx); id != "" {
			return id
		}
	}
	return rand.Text()
}
