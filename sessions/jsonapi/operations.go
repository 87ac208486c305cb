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
func (h *Handler) current(r *http.Request, c sessions.Caller) (*document, error) {
	s, err := h.cfg.Manager.Current(r.Context(), c)
	if err != nil {
		return nil, h.currentProblem(err)
	}
	return &document{Data: h.resource(s, c), Links: &links{Self: h.base + "/session/"}}, nil
}

// endCurrent answers DELETE /session/.
func (h *Handler) endCurrent(r *http.Request, c sessions.Caller) (*document, error) {
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

// all answers GET /sessions/.
func (h *Handler) all(r *http.Request, c sessions.Caller) (*document, error) {
	list, err := h.cfg.Manager.All(r.Context(), c)
	if err != nil {
		return nil, err
	}
	data := make([]resource, 0, len(list)) // never nil: no sessions is [], not null
	for i := range list {
		data = append(data, h.resource(&list[i], c))
	}
	return &document{Data: data, Links: &links{Self: h.base + "/sessions/"}}, nil
}

// one answers GET /sessions/{id}/.
func (h *Handler) one(r *http.Request, c sessions.Caller) (*document, error) {
	s, err := h.cfg.Manager.One(r.Context(), c, pathID(r))
	if err != nil {
		return nil, sessionProblem(err)
	}
	res := h.resource(s, c)
	return &document{Data: res, Links: &links{Self: res.Links.Self}}, nil
}

// endOne answers DELETE /sessions/{id}/.
func (h *Handler) endOne(r *http.Request, c sessions.Caller) (*document, error) {
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
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			id[i] = '-'
		}
	}
	return string(id)
}
