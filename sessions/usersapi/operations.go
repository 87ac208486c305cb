package usersapi

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"gatehouse.dev/gatehouse/sessions"
)

// own answers GET /me/sessions.
func (h *Handler) own(c *call) (any, error) {
	found, err := h.cfg.Directory.Own(c.Context(), c.caller.Person, c.query.list)
	return c.userDocument(c.caller.UserID, found), err
}

// of answers GET /{user}/sessions.
func (h *Handler) of(c *call) (any, error) {
	found, err := h.cfg.Directory.Of(c.Context(), c.caller.Person, c.user, c.query.list)
	return c.userDocument(c.user, found), c.domainProblem(err)
}

// one answers GET /{user}/sessions/{session}.
func (h *Handler) one(c *call) (any, error) {
	found, err := h.cfg.Directory.One(c.Context(), c.caller.Person, c.user, c.id)
	if err != nil {
		return nil, c.domainProblem(err)
	}
	return c.item(found), nil
}

// all answers GET /sessions.
func (h *Handler) all(c *call) (any, error) {
	q := c.query.list
	if q.Limit == 0 {
		q.Limit = defaultLimit
	}
	page, err := h.cfg.Directory.All(c.Context(), c.caller.Person, q)
	if err != nil {
		return nil, c.domainProblem(err)
	}
	doc := &realmDocument{Resources: []session{}}
	for i := range page.Entries {
		doc.Resources = append(doc.Resources, c.item(&page.Entries[i]))
	}
	link := func(name string, position int64) string {
		values := url.Values{"limit": {strconv.Itoa(q.Limit)}, name: {strconv.FormatInt(position, 10)}}
		if c.query.filter != "" {
			values.Set("filter", c.query.filter)
		}
		return h.path + "/sessions?" + values.Encode()
	}
	if page.Newer {
		position := q.Before - 1
		if len(page.Entries) > 0 {
			position = page.Entries[0].Position
		}
		doc.Previous = link("since", position)
	}
	if page.Older {
		position := q.After + 1
		if n := len(page.Entries); n > 0 {
			position = page.Entries[n-1].Position
		}
		doc.Next = link("until", position)
	}
	return doc, nil
}

// endOwn answers DELETE /me/sessions/{session}. Whether there was such a session
// of the caller's makes no difference.
func (h *Handler) endOwn(c *call) (any, error) {
	return nil, unlessMissing(h.cfg.Directory.EndOwn(c.Context(), c.caller.Person, c.id))
}

// endAllOwn answers DELETE /me/sessions.
func (h *Handler) endAllOwn(c *call) (any, error) {
	return nil, unlessMissing(h.cfg.Directory.EndAllOwn(c.Context(), c.caller.Person, c.query.keepCurrent))
}

// end answers DELETE /{user}/sessions/{session}.
func (h *Handler) end(c *call) (any, error) {
	return nil, c.domainProblem(unlessMissing(h.cfg.Directory.End(c.Context(), c.caller.Person, c.user, c.id)))
}

// endAll answers DELETE /{user}/sessions.
func (h *Handler) endAll(c *call) (any, error) {
	return nil, c.domainProblem(unlessMissing(h.cfg.Directory.EndAll(c.Context(), c.caller.Person, c.user, c.query.keepCurrent)))
}

// unlessMissing takes what is not there for ended.
func unlessMissing(err error) error {
	if errors.Is(err, sessions.ErrNotFound) {
		return nil
	}
	return err
}

// domainProblem translates errors of the Directory.
func (c *call) domainProblem(err error) error {
	switch {
	case errors.Is(err, sessions.ErrForbidden):
		return notAdministrator(c.Method)
	case errors.Is(err, sessions.ErrUserNotFound):
		return userNotFound()
	case errors.Is(err, sessions.ErrNotFound):
		return invalidSession(http.StatusNotFound)
	case errors.Is(err, sessions.ErrTooSlow):
		p := invalidData("The filter would have to read too much. Narrow it, by a time, or with eq or sw in place of co and ew.")
		p.cause = err
		return p
	}
	return err
}
