package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/ory/fosite"

	"gatehouse.dev/gatehouse/sessions"
)

// Error is what a client is told (RFC 6749 §4.1.2.1, §5.2, RFC 6750 §3.1).
// The cause stays in the log.
type Error struct {
	Status      int    // HTTP status where it is answered directly
	Code        string // the error parameter
	Description string // error_description: plain ASCII without quotes and backslashes
	cause       error
}

// Error is the code and the description.
func (e *Error) Error() string { return e.Code + ": " + e.Description }

// Unwrap is the cause, for the log.
func (e *Error) Unwrap() error { return e.cause }

func refuse(code, format string, args ...any) *Error {
	status := http.StatusBadRequest
	switch code {
	case "invalid_client", "invalid_token":
		status = http.StatusUnauthorized
	case "insufficient_scope":
		status = http.StatusForbidden
	}
	return &Error{Status: status, Code: code, Description: fmt.Sprintf(format, args...)}
}

func invalidRequest(format string, args ...any) *Error {
	return refuse("invalid_request", format, args...)
}

func invalidGrant(format string, args ...any) *Error {
	return refuse("invalid_grant", format, args...)
}

// asError is the one place where errors become what a client is told. What
// nobody classified is a server_error whose text stays in the log.
func asError(err error) *Error {
	var ours *Error
	if errors.As(err, &ours) {
		return ours
	}
	if errors.Is(err, sessions.ErrUnavailable) {
		return &Error{http.StatusServiceUnavailable, "temporarily_unavailable", "The server can't reach its storage; try again soon.", err}
	}
	var theirs *fosite.RFC6749Error
	if errors.As(err, &theirs) && theirs.CodeField < 500 {
		return &Error{theirs.CodeField, theirs.ErrorField, theirs.GetDescription(), nil}
	}
	return &Error{http.StatusInternalServerError, "server_error", "The server failed; its log knows why.", err}
}

// report logs what only the operator may read.
func (s *Server) report(r *http.Request, e *Error) {
	if e.cause != nil {
		s.cfg.Logger.ErrorContext(r.Context(), "request failed", "as", s.cfg.Name, "path", r.URL.Path,
			"request_id", s.cfg.RequestID(r.Context()), "error", e.cause.Error())
	}
}

// writeError answers a protocol endpoint (RFC 6749 §5.2).
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	e := asError(err)
	s.report(r, e)
	if e.Status == http.StatusUnauthorized {
		// RFC 6749 §5.2: a 401 names the scheme; RFC 9110 §11.6.1 demands it.
		w.Header().Set("WWW-Authenticate", `Basic realm="`+s.cfg.Issuer+`", charset="UTF-8"`)
	}
	if e.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, e.Status, map[string]string{"error": e.Code, "error_description": describable(e.Description)})
}

// writeBearerError answers an endpoint that takes an access token (RFC 6750 §3).
func (s *Server) writeBearerError(w http.ResponseWriter, r *http.Request, err error, scope string) {
	e := asError(err)
	s.report(r, e)
	challenge := `Bearer realm="` + s.cfg.Issuer + `"`
	switch {
	case errors.Is(err, sessions.ErrCallerMissing):
		// RFC 6750 §3.1: no error code where there were no credentials.
		w.Header().Set("WWW-Authenticate", challenge)
		writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "invalid_token", "error_description": "An access token is needed."})
		return
	case e.Status == http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case e.Status < http.StatusInternalServerError:
		challenge += `, error="` + e.Code + `", error_description="` + describable(e.Description) + `"`
		if e.Code == "insufficient_scope" {
			challenge += `, scope="` + scope + `"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
	}
	writeJSON(w, e.Status, map[string]string{"error": e.Code, "error_description": describable(e.Description)})
}

// describable keeps to the characters that error_description may have (RFC
// 6749 §5.2: %x20-21 / %x23-5B / %x5D-7E).
func describable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"' || r == '\\':
			return '\''
		case r < 0x20 || r > 0x7e:
			return '?'
		}
		return r
	}, s)
}

// writeJSON writes an answer that nobody may keep (RFC 6749 §5.1).
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, `{"error":"server_error"}`, http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// methods dispatches by HTTP method and answers 405 with Allow to the rest.
type methods map[string]http.HandlerFunc

func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h, ok := m[r.Method]; ok {
		h(w, r)
		return
	}
	w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(m)), ", "))
	writeJSON(w, http.StatusMethodNotAllowed, map[string]string{"error": "invalid_request",
		"error_description": "This endpoint does not take the method " + describable(r.Method) + "."})
}
