package usersapi

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"gatehouse.dev/gatehouse/sessions"
)

// Scopes that a token must have.
const (
	ScopeLogin  = "internal_login"          // for one's own sessions
	ScopeView   = "internal_session_view"   // to see those of others
	ScopeDelete = "internal_session_delete" // to end them
)

// Errors that Config.Caller returns beside those of the package sessions.
var (
	// ErrCredentials: the user name or password, or the client certificate, is
	// nobody's who may sign in.
	ErrCredentials = errors.New("credentials are not valid")
	// ErrBusy: too many passwords are being checked.
	ErrBusy = errors.New("too many password checks at once")
)

// Blocked is returned by Config.Caller where too many attempts have failed.
type Blocked struct {
	Wait time.Duration // until another attempt may be admitted; whole seconds
}

func (b *Blocked) Error() string { return "too many failed attempts: blocked for " + b.Wait.String() }

// Caller is who calls: proven, and not locked.
type Caller struct {
	sessions.Person
	// Scoped: the caller has presented a token and may do no more than its
	// Scopes say. Otherwise he acts with all that his roles allow.
	Scoped bool
	Scopes []string
}

// Config is what the dialect of one realm is made of.
type Config struct {
	// Base is the URL that the paths are below, without a slash at its end.
	// Required.
	Base string
	// Realm is the name that challenges give. Required.
	Realm string
	// Directory holds the rules. Required.
	Directory *sessions.Directory
	// Caller proves who asks, from the request's credentials. It returns,
	// wrapped or not, sessions.ErrCallerMissing, ErrCallerInvalid,
	// ErrCallerNoUser or ErrUnavailable, ErrCredentials, ErrBusy or a *Blocked;
	// any other error is answered with 500. Required.
	Caller func(*http.Request) (Caller, error)
	// RequestID returns the id under which the request is logged; it becomes
	// the traceId of errors. Default: a random one for each error.
	RequestID func(context.Context) string
	// Logger gets the causes of failures. Default: slog.Default().
	Logger *slog.Logger
}

// Handler answers the users dialect of one realm. It is safe for concurrent use.
type Handler struct {
	cfg  Config
	path string // of Base
}

// New returns the Handler that cfg describes.
func New(cfg Config) (*Handler, error) {
	base, err := url.Parse(cfg.Base)
	if err != nil || base.Host == "" || strings.HasSuffix(cfg.Base, "/") || cfg.Realm == "" || cfg.Directory == nil || cfg.Caller == nil {
		return nil, errors.New("usersapi: an absolute base URL, a realm, a directory and a caller are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Handler{cfg: cfg, path: base.EscapedPath()}, nil
}

// call is one request that may be answered.
type call struct {
	*http.Request
	caller Caller
	query  query
	user   string // of the path
	id     string // of the path
}

// operation is one method of one path.
type operation struct {
	scope  string // demanded of a token
	admin  bool   // for administrators
	params []string
	// serve answers a request that passed every check. A nil document is a 204.
	serve func(*call) (any, error)
}

// Mount registers the paths on r, whose root is Base. All methods of a path are
// registered at once, because a router that answers 405 by itself leaves out
// Allow (RFC 9110 §15.5.6).
func (h *Handler) Mount(r *mux.Router) {
	for _, e := range []struct {
		path       string
		operations map[string]operation
	}{
		{"/me/sessions", map[string]operation{
			http.MethodGet:    {scope: ScopeLogin, params: paramsOfUser, serve: h.own},
			http.MethodDelete: {scope: ScopeLogin, params: paramsOfEnd, serve: h.endAllOwn},
		}},
		{"/me/sessions/{session}", map[string]operation{
			http.MethodDelete: {scope: ScopeLogin, serve: h.endOwn},
		}},
		{"/sessions", map[string]operation{
			http.MethodGet: {scope: ScopeView, admin: true, params: paramsOfRealm, serve: h.all},
		}},
		{"/{user}/sessions", map[string]operation{
			http.MethodGet:    {scope: ScopeView, admin: true, params: paramsOfUser, serve: h.of},
			http.MethodDelete: {scope: ScopeDelete, admin: true, params: paramsOfEnd, serve: h.endAll},
		}},
		{"/{user}/sessions/{session}", map[string]operation{
			http.MethodGet:    {scope: ScopeView, admin: true, serve: h.one},
			http.MethodDelete: {scope: ScopeDelete, admin: true, serve: h.end},
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
		doc, err := h.run(op, path, r)
		switch {
		case err != nil:
			h.refuse(w, r, path, err)
		case doc == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			h.write(w, http.StatusOK, doc)
		}
	})
}

// run makes the checks of the package comment in their order, then serves.
func (h *Handler) run(op operation, path string, r *http.Request) (any, error) {
	caller, err := h.cfg.Caller(r)
	if err != nil {
		return nil, h.callerProblem(err)
	}
	if caller.UserID == "" {
		return nil, noUser(nil)
	}
	c := &call{Request: r, caller: caller, user: mux.Vars(r)["user"], id: mux.Vars(r)["session"]}
	name := r.Method + " " + path
	switch {
	case caller.Scoped && !slices.Contains(caller.Scopes, op.scope):
		return nil, h.refused(c, name+": scope", insufficientScope(h.cfg.Realm, op.scope))
	case op.admin && !caller.Admin:
		return nil, h.refused(c, name+": role", notAdministrator(r.Method))
	}
	if c.query, err = parseQuery(r.URL.RawQuery, op.params); err != nil {
		return nil, err
	}
	if c.user != "" && !plausible(c.user) {
		return nil, invalidUser()
	}
	if c.id != "" && !plausible(c.id) {
		return nil, invalidSession(http.StatusBadRequest)
	}
	return op.serve(c)
}

// refused records that a caller was not allowed, and returns the answer.
func (h *Handler) refused(c *call, what string, answer *problem) error {
	if err := h.cfg.Directory.Refuse(c.Context(), c.caller.Person, c.user, what); !errors.Is(err, sessions.ErrForbidden) {
		return err // it could not be recorded
	}
	return answer
}

// plausible tells whether a text can be an id at all.
func plausible(id string) bool {
	if len(id) > maxID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// maxID bounds the ids of a path, in bytes.
const maxID = 128

// requestID is the traceId of an error and of its event in the log.
func (h *Handler) requestID(ctx context.Context) string {
	if h.cfg.RequestID != nil {
		if id := h.cfg.RequestID(ctx); id != "" {
			return id
		}
	}
	return rand.Text()
}
