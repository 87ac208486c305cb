package jsonapi

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// A cursor is a place in a list: the order, the times that the order looks at,
// the time of beginning and the id of a session, as text in base64url.
//
// It is neither sealed nor signed, since whoever makes one up gains nothing: a
// position only says where a list begins or ends, the list itself is of the
// user, authorization server and client that the access token says, and what is
// in a cursor stood in the answer that it came with, or could have. For the same
// reason it isn't bound to a user: another one's cursor is a place in one's own
// list, and does not tell whether there was a session.
const (
	cursorSeparator = "|"
	maxCursor       = 512 // bytes
	idLength        = 40
)

var cursorEncoding = base64.RawURLEncoding.Strict()

// lowestID and highestID are ahead of and behind every id.
var (
	lowestID  = strings.Repeat("0", idLength)
	highestID = strings.Repeat("z", idLength)
)

// Times outside of these years can't be in a cursor.
var (
	minTime = time.Time{}.UnixMilli()
	maxTime = time.Date(9999, 12, 31, 23, 59, 59, 999_000_000, time.UTC).UnixMilli()
)

// encodeCursor is the place of s in the order.
func encodeCursor(s *sessions.Session, order sessions.Order) string {
	parts := []string{orderText(order)}
	for _, by := range timesOf(order) {
		parts = append(parts, strconv.FormatInt(by.In(s).UnixMilli(), 10))
	}
	return cursorEncoding.EncodeToString([]byte(strings.Join(append(parts, s.ID), cursorSeparator)))
}

// decodeCursor reads what encodeCursor wrote for that order; false for anything
// else.
func decodeCursor(cursor string, order sessions.Order) (*sessions.Session, bool) {
	if len(cursor) > maxCursor {
		return nil, false
	}
	text, err := cursorEncoding.DecodeString(cursor)
	if err != nil {
		return nil, false
	}
	parts, times := strings.Split(string(text), cursorSeparator), timesOf(order)
	if len(parts) != len(times)+2 {
		return nil, false
	}
	s := &sessions.Session{ID: parts[len(parts)-1]}
	if len(s.ID) != idLength {
		return nil, false
	}
	for i := range len(s.ID) {
		if !alphanumeric(s.ID[i]) {
			return nil, false
		}
	}
	for i, by := range times {
		ms, err := strconv.ParseInt(parts[i+1], 10, 64)
		if err != nil || ms < minTime || ms > maxTime {
			return nil, false
		}
		*by.In(s) = time.UnixMilli(ms).UTC()
	}
	// One place has one cursor: of this order, no other base64, no "+1".
	return s, encodeCursor(s, order) == cursor
}

// timesOf are the times that a place in the order has.
func timesOf(order sessions.Order) []sessions.Timestamp {
	var times []sessions.Timestamp
	for _, key := range order {
		times = append(times, key.By)
	}
	if !slices.Contains(times, sessions.Created) {
		times = append(times, sessions.Created)
	}
	return times
}

// orderText is the value of sort that asks for the order.
func orderText(order sessions.Order) string {
	var keys []string
	for _, key := range order {
		for name, by := range sortKeys {
			if by == key.By && key.Descending {
				keys = append(keys, "-"+name)
			} else if by == key.By {
				keys = append(keys, name)
			}
		}
	}
	return strings.Join(keys, ",")
}

// pageLinks are the top-level links of a list (JSON:API 1.1, Pagination).
type pageLinks struct {
	Self  string  `json:"self"`
	First string  `json:"first"`
	Prev  *string `json:"prev"` // null where the page is the first
	Next  *string `json:"next"` // null where it is the last
}

// pageLinks are those of a page of the list that was asked for by q.
func (h *Handler) pageLinks(q query, page sessions.Page) *pageLinks {
	base := h.base + "/sessions/"
	link := func(position string, at *sessions.Session) *string {
		values := url.Values{}
		for name := range q.values {
			if name != paramAfter && name != paramBefore {
				values.Set(name, q.values.Get(name))
			}
		}
		if at != nil {
			values.Set(position, encodeCursor(at, q.list.Order))
		}
		address := withQuery(base, values)
		return &address
	}
	links := &pageLinks{Self: withQuery(base, q.values), First: *link("", nil)}
	// A page can be empty because its sessions have ended. Then the links lead
	// back over the position that it was asked for by.
	if page.Earlier {
		at := sessions.Session{}
		if len(page.Sessions) > 0 {
			at = page.Sessions[0]
		} else {
			at = *q.list.After
			at.ID = highestID
		}
		links.Prev = link(paramBefore, &at)
	}
	if page.Later {
		at := sessions.Session{}
		if len(page.Sessions) > 0 {
			at = page.Sessions[len(page.Sessions)-1]
		} else {
			at = *q.list.Before
			at.ID = lowestID
		}
		links.Next = link(paramAfter, &at)
	}
	return links
}

// withQuery appends query parameters to an address that has none.
func withQuery(address string, values url.Values) string {
	if len(values) == 0 {
		return address
	}
	return address + "?" + values.Encode()
}
