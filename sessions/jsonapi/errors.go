package jsonapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"gatehouse.dev/gatehouse/sessions"
)

// retryAfter is what a caller is told to wait, in seconds, while storage is away.
const retryAfter = "5"

// problem is an error with the answer that it gets. Only cause stays inside.
type problem struct {
	status        int
	code          string
	title, detail string
	source        *source
	header, value string // the header that goes with the status
	cause         error  // for the log; nil where there is nothing to know
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

// failure is a top-level document with errors (JSON:API 1.1, Error Objects).
type failure struct {
	Meta   meta          `json:"meta"`
	Errors []errorObject `json:"errors"`
}

type errorObject struct {
	ID     string  `json:"id"` // the request's, as in the log
	Status string  `json:"status"`
	Code   string  `json:"code"`
	Title  string  `json:"title"`
	Detail string  `json:"detail"`
	Source *source `json:"source,omitempty"`
}

// source has one of its members.
type source struct {
	Parameter *string `json:"parameter,omitempty"` // name of a query parameter
	Pointer   *string `json:"pointer,omitempty"`   // into the request's document (RFC 6901)
}

// problems are several errors in one answer, of one status and without headers
// and causes. It is never empty.
type problems []*problem

// Error implements error.
func (p problems) Error() string { return fmt.Sprintf("%s and %d more", p[0].code, len(p)-1) }

// refuse is the one place where errors leave and where their causes are logged.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, path string, err error) {
	var list problems
	if !errors.As(err, &list) {
		var p *problem
		if !errors.As(err, &p) {
			p = unclassified(r, err)
		}
		list = problems{p}
	}
	id, first := h.requestID(r.Context()), list[0]
	if first.cause != nil {
		level := slog.LevelError
		switch {
		case first.status == http.StatusServiceUnavailable:
			level = slog.LevelWarn
		case first.status < http.StatusInternalServerError:
			level = slog.LevelDebug
		}
		h.cfg.Logger.Log(r.Context(), level, "session API", "request_id", id,
			"method", r.Method, "path", path, "status", first.status, "code", first.code, "error", first.cause)
	}
	if first.header != "" {
		w.Header().Set(first.header, first.value)
	}
	doc := failure{Meta: h.meta()}
	for _, p := range list[:min(len(list), maxProblems)] {
		doc.Errors = append(doc.Errors, errorObject{ID: id, Status: strconv.Itoa(p.status), Code: p.code,
			Title: p.title, Detail: p.detail, Source: p.source})
	}
	h.write(w, first.status, doc)
}

// Fail answers a request that something in front of the Handler could not judge,
// in the form of this dialect.
func (h *Handler) Fail(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	h.refuse(w, r, r.URL.Path, err)
}

// unclassified answers what no other function did: storage that is away, a
// request whose time is up, and failures whose text is nobody's business.
func unclassified(r *http.Request, err error) *problem {
	if errors.Is(err, sessions.ErrUnavailable) || r.Context().Err() != nil {
		return unavailable(err)
	}
	return &problem{status: http.StatusInternalServerError, code: "INTERNAL", title: "Internal error",
		detail: "The request failed. The server's operator can find the cause under the id of this error.", cause: err}
}

func unavailable(cause error) *problem {
	return &problem{status: http.StatusServiceUnavailable, code: "TEMPORARILY_UNAVAILABLE", title: "Temporarily unavailable",
		detail: "The call took effect entirely or not at all. Try again later.", header: "Retry-After", value: retryAfter, cause: cause}
}

// callerProblem translates an error of Config.Caller.
func callerProblem(realm string, err error) error {
	switch {
	// First: where storage is away, nothing is known about the token.
	case errors.Is(err, sessions.ErrUnavailable):
		return unavailable(err)
	case errors.Is(err, sessions.ErrCallerMissing):
		// Without an error code: RFC 6750 §3.1, last paragraph.
		return &problem{status: http.StatusUnauthorized, code: "ACCESS_TOKEN_MISSING", title: "Access token missing",
			detail: "The request carries no access token.",
			header: "WWW-Authenticate", value: challenge(realm, "", "")}
	case errors.Is(err, sessions.ErrCallerInvalid):
		return accessTokenInvalid(realm, err)
	case errors.Is(err, sessions.ErrCallerNoUser):
		return noUserSession(err)
	}
	return err
}

func accessTokenInvalid(realm string, cause error) *problem {
	return &problem{status: http.StatusUnauthorized, code: "ACCESS_TOKEN_INVALID", title: "Access token not valid",
		detail: "The access token is malformed, expired or revoked, is not for this authorization server, or its session has ended.",
		header: "WWW-Authenticate", value: challenge(realm, "invalid_token", ""), cause: cause}
}

func noUserSession(cause error) *problem {
	return &problem{status: http.StatusForbidden, code: "NO_USER_SESSION", title: "No user session",
		detail: "The access token does not belong to a session of a user.", cause: cause}
}

func insufficientScope(realm, scope string) *problem {
	return &problem{status: http.StatusForbidden, code: "INSUFFICIENT_SCOPE", title: "Insufficient scope",
		detail: "The access token lacks a scope that this call demands.",
		header: "WWW-Authenticate", value: challenge(realm, "insufficient_scope", scope)}
}

// challenge is a Bearer challenge (RFC 6750 §3). Empty members are left out.
func challenge(realm, code, scope string) string {
	c := "Bearer realm=" + quote(realm)
	if code != "" {
		c += ", error=" + quote(code)
	}
	if scope != "" {
		c += ", scope=" + quote(strings.Join(strings.Fields(scope), " "))
	}
	return c
}

// quote makes a quoted-string (RFC 9110 §5.6.4).
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// sessionNotFound is one answer for the unknown, the ended, the malformed and
// what the caller may not see. It says nothing of the id that was asked for and
// keeps no cause, so that its bytes are the same for all.
func sessionNotFound() *problem {
	return &problem{status: http.StatusNotFound, code: "SESSION_NOT_FOUND", title: "Session not found",
		detail: "There is no such session, or it has ended."}
}

// unsupportedQueryParameter names the parameter, as JSON:API 1.1, Query
// Parameters, recommends.
func unsupportedQueryParameter(name, detail string) *problem {
	if len(name) > maxParameter {
		name = name[:maxParameter]
	}
	name = strings.ToValidUTF8(name, "\uFFFD")
	return &problem{status: http.StatusBadRequest, code: "UNSUPPORTED_QUERY_PARAMETER", title: "Unsupported query parameter",
		detail: detail, source: &source{Parameter: &name}}
}

func malformedDocument(detail string) *problem {
	return &problem{status: http.StatusBadRequest, code: "MALFORMED_DOCUMENT", title: "Malformed document", detail: detail}
}

func documentTooLarge() *problem {
	return &problem{status: http.StatusRequestEntityTooLarge, code: "DOCUMENT_TOO_LARGE", title: "Document too large",
		detail: "Documents are taken up to " + strconv.Itoa(maxDocument) + " bytes."}
}

func resourceMismatch(at string) *problem {
	return &problem{status: http.StatusConflict, code: "RESOURCE_MISMATCH", title: "Resource mismatch",
		detail: "The type or id in the document is not that of the session.", source: &source{Pointer: &at}}
}

// attributeProblem is what is wrong with the member name of the object at parent.
func attributeProblem(err error, parent, name string) *problem {
	at := pointer(parent, name)
	p := &problem{status: http.StatusUnprocessableEntity, source: &source{Pointer: &at}}
	switch {
	case errors.Is(err, sessions.ErrAttributeNotUpdatable):
		p.code, p.title = "CUSTOM_ATTRIBUTE_NOT_UPDATABLE", "Attribute not updatable"
		p.detail = "Clients may not change the attribute named in source."
	case errors.Is(err, sessions.ErrAttributeInvalid):
		p.code, p.title = "CUSTOM_ATTRIBUTE_INVALID", "Attribute not valid"
		p.detail = "The attribute named in source can't have this value."
	default:
		p.code, p.title = "CUSTOM_ATTRIBUTE_UNKNOWN", "Attribute unknown"
		p.detail = "The attribute named in source is not declared."
	}
	return p
}

func notAcceptable() *problem {
	return &problem{status: http.StatusNotAcceptable, code: "NOT_ACCEPTABLE", title: "Not acceptable",
		detail: "The answer is " + mediaType + " without parameters, which the Accept header rules out."}
}

func unsupportedMediaType() *problem {
	return &problem{status: http.StatusUnsupportedMediaType, code: "UNSUPPORTED_MEDIA_TYPE", title: "Unsupported media type",
		detail: "Content is taken as " + mediaType + " without parameters, or as application/json."}
}

func methodNotAllowed(allow string) *problem {
	return &problem{status: http.StatusMethodNotAllowed, code: "METHOD_NOT_ALLOWED", title: "Method not allowed",
		detail: "The methods of this resource are named in the Allow header.", header: "Allow", value: allow}
}
