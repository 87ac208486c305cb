package usersapi

import (
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// retryAfter is what a caller is told to wait, in seconds, while storage is away.
const retryAfter = "5"

// problem is an error with the answer that it gets. Only cause stays inside.
type problem struct {
	status               int
	code                 string
	message, description string
	header               http.Header // that goes with the status
	cause                error       // for the log; nil where there is nothing to know
}

// Error implements error.
func (p *problem) Error() string {
	if p.cause != nil {
		return p.code + ": " + p.cause.Error()
	}
	return p.code
}

// Unwrap returns the cause.
func (p *problem) Unwrap() error { return p.cause }

// failure is the answer to an error.
type failure struct {
	Code        string `json:"code"`
	Message     string `json:"message"`
	Description string `json:"description"`
	TraceID     string `json:"traceId"` // the request's, as in the log
}

// refuse is the one place where errors leave and where their causes are logged.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, path string, err error) {
	var p *problem
	if !errors.As(err, &p) {
		p = unclassified(r, err)
	}
	id := h.requestID(r.Context())
	if p.cause != nil {
		level := slog.LevelError
		switch {
		case p.status == http.StatusServiceUnavailable:
			level = slog.LevelWarn
		case p.status < http.StatusInternalServerError:
			level = slog.LevelDebug
		}
		h.cfg.Logger.Log(r.Context(), level, "users' session API", "request_id", id,
			"method", r.Method, "path", path, "status", p.status, "code", p.code, "error", p.cause)
	}
	for name, values := range p.header {
		w.Header()[name] = values
	}
	h.write(w, p.status, failure{p.code, p.message, p.description, id})
}

// unclassified answers what no other function did: storage that is away, a
// request whose time is up, and failures whose text is nobody's business.
func unclassified(r *http.Request, err error) *problem {
	if errors.Is(err, sessions.ErrUnavailable) || errors.Is(err, sessions.ErrTooSlow) || r.Context().Err() != nil {
		return unavailable(err)
	}
	p := &problem{status: http.StatusInternalServerError, code: "USM-15001", message: "Unable to retrieve sessions",
		description: "The request failed. The server's operator can find the cause under the traceId.", cause: err}
	if r.Method == http.MethodDelete {
		p.code, p.message = "USM-15002", "Unable to terminate sessions"
	}
	return p
}

func unavailable(cause error) *problem {
	return &problem{status: http.StatusServiceUnavailable, code: "SE-50000", message: "Temporarily unavailable",
		description: "The call took effect entirely or not at all. Try again later.", header: http.Header{"Retry-After": {retryAfter}}, cause: cause}
}

// callerProblem translates an error of Config.Caller.
func (h *Handler) callerProblem(err error) error {
	var blocked *Blocked
	switch {
	// First: where storage is away, nothing is known about the credentials.
	case errors.Is(err, sessions.ErrUnavailable):
		return unavailable(err)
	case errors.As(err, &blocked):
		return &problem{status: http.StatusTooManyRequests, code: "429", message: "Too many failed attempts",
			description: "Too many attempts have failed. The password was not looked at.",
			header:      http.Header{"Retry-After": {strconv.FormatInt(int64(blocked.Wait/time.Second), 10)}}}
	case errors.Is(err, ErrBusy):
		return &problem{status: http.StatusServiceUnavailable, code: "503", message: "Busy",
			description: "Too many passwords are being checked. Try again later.", header: http.Header{"Retry-After": {retryAfter}}, cause: err}
	case errors.Is(err, sessions.ErrCallerMissing):
		return h.unauthorized("The request carries no credentials.", "", nil)
	case errors.Is(err, sessions.ErrCallerInvalid):
		return h.unauthorized("The access token is malformed, expired or revoked, is not for an authorization server of the realm, or its session has ended.",
			"invalid_token", err)
	case errors.Is(err, ErrCredentials):
		return h.unauthorized("The credentials are not those of a user who may sign in.", "", err)
	case errors.Is(err, sessions.ErrCallerNoUser):
		return noUser(err)
	}
	return &problem{status: http.StatusInternalServerError, code: "SE-50000", message: "Internal error",
		description: "The request failed. The server's operator can find the cause under the traceId.", cause: err}
}

// unauthorized challenges for both schemes (RFC 7617 §2, RFC 6750 §3).
func (h *Handler) unauthorized(description, code string, cause error) *problem {
	return &problem{status: http.StatusUnauthorized, code: "401", message: "Unauthorized", description: description, cause: cause,
		header: http.Header{"Www-Authenticate": {"Basic realm=" + quote(h.cfg.Realm) + `, charset="UTF-8"`, challenge(h.cfg.Realm, code, "")}}}
}

func noUser(cause error) *problem {
	return &problem{status: http.StatusForbidden, code: "403", message: "Forbidden",
		description: "The access token does not belong to a user.", cause: cause}
}

func insufficientScope(realm, scope string) *problem {
	return &problem{status: http.StatusForbidden, code: "403", message: "Forbidden",
		description: "The access token lacks a scope that this call demands.",
		header:      http.Header{"Www-Authenticate": {challenge(realm, "insufficient_scope", scope)}}}
}

// notAdministrator is the same whether or not there is what was asked for.
func notAdministrator(method string) *problem {
	if method == http.MethodDelete {
		return &problem{status: http.StatusForbidden, code: "USM-10010", message: "Not authorized to terminate",
			description: "The user may not end sessions of others."}
	}
	return &problem{status: http.StatusForbidden, code: "403", message: "Forbidden",
		description: "The user may not see sessions of others."}
}

// challenge is a Bearer challenge (RFC 6750 §3). Empty members are left out.
func challenge(realm, code, scope string) string {
	c := "Bearer realm=" + quote(realm)
	if code != "" {
		c += ", error=" + quote(code)
	}
	if scope != "" {
		c += ", scope=" + quote(scope)
	}
	return c
}

// quote makes a quoted-string (RFC 9110 §5.6.4).
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func invalidUser() *problem {
	return &problem{status: http.StatusBadRequest, code: "USM-10008", message: "Invalid user",
		description: "What stands in the path can't be the id of a user."}
}

// invalidSession is about a session that can't be (400), or is not there (404).
func invalidSession(status int) *problem {
	p := &problem{status: status, code: "USM-10009", message: "Invalid session",
		description: "What stands in the path can't be the id of a session."}
	if status == http.StatusNotFound {
		p.description = "The user has no such session, or it has ended."
	}
	return p
}

func userNotFound() *problem {
	return &problem{status: http.StatusNotFound, code: "UMG-10001", message: "Unknown user",
		description: "The realm has no user with this id."}
}

func invalidData(description string) *problem {
	return &problem{status: http.StatusBadRequest, code: "USM-10011", message: "Invalid data", description: description}
}

func invalidRequest(description string) *problem {
	return &problem{status: http.StatusBadRequest, code: "UE-10000", message: "Invalid request", description: description}
}

func methodNotAllowed(allow string) *problem {
	return &problem{status: http.StatusMethodNotAllowed, code: "405", message: "Method not allowed",
		description: "The methods of this path are named in the Allow header.", header: http.Header{"Allow": {allow}}}
}
