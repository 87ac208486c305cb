package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/oauth"
	"gatehouse.dev/gatehouse/sessions"
)

// retryAfter is the Retry-After of every 503, in seconds.
const retryAfter = "5"

// problem is an error that a page explains. Its text is catalogue keys:
// "error.<name>.title" and "error.<name>.text".
type problem struct {
	status int
	name   string
}

func (p problem) Error() string { return p.name }

// What pages refuse.
var (
	errLink        = problem{http.StatusBadRequest, "link"} // stamp or link is not valid
	errForm        = problem{http.StatusBadRequest, "form"} // fields are missing or malformed
	errFormType    = problem{http.StatusUnsupportedMediaType, "form"}
	errLarge       = problem{http.StatusRequestEntityTooLarge, "large"}
	errCrossSite   = problem{http.StatusForbidden, "crosssite"}     // another site's form
	errNotAsked    = problem{http.StatusForbidden, "notasked"}      // the consent form was shown to another login
	errMethod      = problem{http.StatusMethodNotAllowed, "method"} // Allow is set
	errMissing     = problem{http.StatusNotFound, "missing"}
	errUnavailable = problem{http.StatusServiceUnavailable, "unavailable"}
	errInternal    = problem{http.StatusInternalServerError, "internal"}
	errRequest     = problem{http.StatusBadRequest, "request"} // the application's mistake
	errCookies     = problem{http.StatusBadRequest, "cookies"}
	errStale       = problem{http.StatusForbidden, "stale"} // a form's seal is void
	errGone        = problem{http.StatusNotFound, "gone"}   // what the page is about isn't there, or isn't his
)

// errorText is what the error page shows.
type errorText struct {
	Name        string // of the problem
	Retry       bool   // trying again later can help
	Again       string // URL of ours that asks the same once more; empty: none is safe to offer
	Back        string // URL of a page of ours to go back to; empty: none
	Restart     string // URL of ours that begins the sign-in anew; empty: none
	Time        time.Time
	Code        string // of OAuth 2.0; empty: none
	Description string
	RequestID   string
	Host        string // ours, as the browser knows it
}

// fail answers with the page of an error; what nobody classified is a 500
// whose cause stays in the log.
func (p *Pages) fail(w http.ResponseWriter, r *http.Request, err error) {
	var known problem
	switch {
	case errors.As(err, &known):
	case errors.Is(err, oauth.ErrStamp):
		known = errLink
	case errors.Is(err, sessions.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		known = errUnavailable
		p.log(r, slog.LevelWarn, err)
	default:
		known = errInternal
		p.log(r, slog.LevelError, err)
	}
	p.problem(w, r, known, "", "")
}

// log writes the cause of an error page, without anything the browser sent.
func (p *Pages) log(r *http.Request, level slog.Level, err error) {
	p.cfg.Logger.LogAttrs(r.Context(), level, "page failed", slog.String("realm", p.cfg.Realm),
		slog.String("request_id", p.cfg.RequestID(r.Context())), slog.String("path", r.URL.Path), slog.Any("error", err))
}

// Error shows an error of an authorization server to a person: the status, an
// OAuth 2.0 error code and a description, both of which may be empty. It fits
// oauth.Pages.Error.
func (p *Pages) Error(w http.ResponseWriter, r *http.Request, status int, code, description string) {
	known := errRequest
	switch {
	case status == http.StatusNotFound:
		known = errMissing
	case status == http.StatusMethodNotAllowed:
		known = errMethod
	case status == http.StatusServiceUnavailable:
		known = errUnavailable
	case status >= http.StatusInternalServerError:
		known = errInternal
	}
	known.status = status
	p.problem(w, r, known, code, description)
}

// CookiesBlocked tells that the browser keeps no cookie of ours, which sign-in
// can't do without, and what to do. It fits oauth.Pages.CookiesBlocked.
func (p *Pages) CookiesBlocked(w http.ResponseWriter, r *http.Request) {
	p.problem(w, r, errCookies, "", "")
}

func (p *Pages) problem(w http.ResponseWriter, r *http.Request, known problem, code, description string) {
	if known.status == http.StatusServiceUnavailable && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", retryAfter)
	}
	e := errorText{
		Name: known.name, Retry: known.status >= http.StatusInternalServerError, Time: p.now(),
		Code: code, Description: description, RequestID: p.cfg.RequestID(r.Context()), Host: p.base.Host,
	}
	switch known {
	case errLink, errNotAsked:
		e.Restart = p.restart(r)
	case errStale, errGone, errChosen, errOwnAccount:
		e.Back = p.path + "/account/sessions"
		if strings.Contains(r.URL.Path, "/admin/") {
			e.Back = p.path + adminPath + "/sessions"
			if known != errGone { // whose page may be what isn't there
				e.Back = p.path + placePath(adminPlace(r))
			}
		}
	case errCookies:
		if e.Again = p.restart(r); e.Again == "" {
			e.Again = p.beginAgain(r)
		}
		if e.Again == "" {
			e.Again = again(r)
		}
	default:
		if e.Retry {
			e.Again = again(r)
		}
	}
	err := p.show(w, r, page{name: "error", title: "error." + known.name + ".title", status: known.status, data: e})
	if err != nil {
		p.log(r, slog.LevelError, err)
		secure(w.Header(), false)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
}

// restart is where the authorization request behind a page begins anew, or the
// empty string. Who can't answer that is no reason for another error.
func (p *Pages) restart(r *http.Request) string {
	server, ok := p.cfg.Servers[oauth.PageServer(r)]
	if !ok {
		return ""
	}
	return server.Restart(r.Context(), r)
}

// again is the path and query of a request that can be asked once more by a
// link, without what it was stamped with on its way; the empty string where it
// can't. A path that a browser would take for another host's is none of ours.
func again(r *http.Request) string {
	to := r.URL.EscapedPath()
	if r.Method != http.MethodGet || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\t\r\n") {
		return ""
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return ""
	}
	if q = oauth.WithoutStamp(q); len(q) > 0 {
		to += "?" + q.Encode()
	}
	return to
}
