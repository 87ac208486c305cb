package jsonapi

import (
	"errors"
	"net/http"

	"github.com/gorilla/mux"

	"gatehouse.dev/gatehouse/sessions"
)

// maxID bounds, in bytes, the id that a statement is given. It is longer than
// any session id, so that what is cut off can't make one.
const maxID = 64

// current answers GET /session/.
func (h *Handler) current(r *http.Request, c sessions.Caller, q query) (*document, error) {
	s, err := h.cfg.Manager.Current(r.Context(), c)
	if err != nil {
		return nil, h.currentProblem(err)
	}
	return h.currentDocument(s, c, q), nil
}

// currentDocument is the caller's own session as primary data.
func (h *Handler) currentDocument(s *sessions.Session, c sessions.Caller, q query) *document {
	return &document{Data: h.resource(s, c, q.fields), Links: links{Self: withQuery(h.base+"/session/", q.values)}}
}

// change answers PATCH /session/.
func (h *Handler) change(r *http.Request, c sessions.Caller, q query) (*document, error) {
	body, err := readDocument(r)
	if err != nil {
		return nil, err
	}
	change, found, err := readChange(body, c.SessionID)
	if err != nil {
		return nil, err
	}
	if len(found) > 0 { // what the Manager would refuse belongs beside it
		more, _ := faultsOf(h.cfg.Manager.Attributes.Check(change))
		return nil, append(found, more...)
	}
	s, err := h.cfg.Manager.Change(r.Context(), c, change)
	if err != nil {
		if found, err = faultsOf(err); err == nil {
			return nil, found
		}
		return nil, h.currentProblem(err)
	}
	return h.currentDocument(s, c, q), nil
}

// endCurrent answers DELETE /session/.
func (h *Handler) endCurrent(r *http.Request, c sessions.Caller, _ query) (*document, error) {
	if err := h.cfg.Manager.EndOne(r.Context(), c, c.SessionID); err != nil {
		return nil, h.currentProblem(err)
	}
	return nil, nil
}

// currentProblem translates errors about the caller's own session. Where it is
// gone, it ended after the token was checked: the token is one of an ended
// session, as it would have been a moment later.
func (h *Handler) currentProblem(err error) error {
	if errors.Is(err, sessions.ErrNotFound) {
		return accessTokenInvalid(h.cfg.Base, err)
	}
	return err
}

// list answers GET /sessions/.
func (h *Handler) list(r *http.Request, c sessions.Caller, q query) (*document, error) {
	page, err := h.cfg.Manager.List(r.Context(), c, q.list)
	if errors.Is(err, sessions.ErrTooMany) {
		return nil, unsupportedQueryParameter(paramSort, "There are too many sessions to sort them. The default order is not limited.")
	}
	if err != nil {
		return nil, err
	}
	data := make([]resource, 0, len(page.Sessions)) // never nil: no sessions is [], not null
	for i := range page.Sessions {
		data = append(data, h.resource(&page.Sessions[i], c, q.fields))
	}
	return &document{Data: data, Links: h.pageLinks(q, page)}, nil
}

// endAll answers DELETE /sessions/.
func (h *Handler) endAll(r *http.Request, c sessions.Caller, q query) (*document, error) {
	_, err := h.cfg.Manager.EndAll(r.Context(), c, q.keepCurrent)
	return nil, err
}

// one answers GET /sessions/{id}/.
func (h *Handler) one(r *http.Request, c sessions.Caller, q query) (*document, error) {
	s, err := h.cfg.Manager.One(r.Context(), c, pathID(r))
	if err != nil {
		return nil, sessionProblem(err)
	}
	res := h.resource(s, c, q.fields)
	return &document{Data: res, Links: links{Self: withQuery(res.Links.Self, q.values)}}, nil
}

// endOne answers DELETE /sessions/{id}/.
func (h *Handler) endOne(r *http.Request, c sessions.Caller, _ query) (*document, error) {
	if err := h.cfg.Manager.EndOne(r.Context(), c, pathID(r)); err != nil {
		return nil, sessionProblem(err)
	}
	return nil, nil
}

// sessionProblem translates errors about a session named in the path.
func sessionProblem(err error) error {
	if errors.Is(err, sessions.ErrNotFound) {
		return sessionNotFound()
	}
	return err
}

// pathID is the id in the request's path, fit for a statement. A malformed one
// is asked for like any other, so that it is answered by the same statement; but
// what a session id can't contain becomes '-', because PostgreSQL fails on a
// text with a NUL or with broken UTF-8, and an empty target would name nothing.
func pathID(r *http.Request) string {
	id := []byte(mux.Vars(r)["id"])
	if len(id) == 0 {
		return "-"
	}
	if len(id) > maxID {
		id = id[:maxID]
	}
	for i, c := range id {
		if !alphanumeric(c) {
			id[i] = '-'
		}
	}
	return string(id)
}

func alphanumeric(c byte) bool {
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')
}
