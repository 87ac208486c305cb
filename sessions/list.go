package sessions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// MaxPage is how many sessions a page has at most.
	MaxPage = 1000
	// maxInMemory is how many sessions are brought into another order than the
	// store's. A user's own list is far shorter; the bound is for memory.
	maxInMemory = 10_000
)

// ErrTooMany: there are too many sessions to put them into the order asked for.
var ErrTooMany = errors.New("too many sessions for this order")

// Timestamp names one of a session's times.
type Timestamp int

// The times that lists can be ordered by.
const (
	Authenticated Timestamp = iota + 1
	Consented
	Created
	LastUsed
	Expires
)

// In returns the time of s that t names; nil for an unknown t.
func (t Timestamp) In(s *Session) *time.Time {
	switch t {
	case Authenticated:
		return &s.AuthenticatedAt
	case Consented:
		return &s.ConsentedAt
	case Created:
		return &s.CreatedAt
	case LastUsed:
		return &s.LastUsedAt
	case Expires:
		return &s.ExpiresAt
	}
	return nil
}

// OrderKey is one key of an order.
type OrderKey struct {
	By         Timestamp
	Descending bool
}

// Order is how a list is ordered, by the first key that tells two sessions
// apart. What it leaves open is decided by the default order, which the empty
// one is: newest first, then by id. So every order is total.
type Order []OrderKey

// isDefault tells whether o is the order that stores list in.
func (o Order) isDefault() bool {
	return len(o) == 0 || (len(o) == 1 && o[0] == OrderKey{By: Created, Descending: true})
}

// compare orders two sessions. Times are compared in milliseconds, as they are
// stored and shown.
func (o Order) compare(a, b *Session) int {
	for _, key := range o {
		c := cmp.Compare(key.By.In(a).UnixMilli(), key.By.In(b).UnixMilli())
		if key.Descending {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Or(cmp.Compare(b.CreatedAt.UnixMilli(), a.CreatedAt.UnixMilli()), strings.Compare(a.ID, b.ID))
}

// Query asks for one page of a list.
type Query struct {
	ClientID string // only this client's; empty: every client's
	Order    Order
	Size     int // 1 to MaxPage; 0: MaxPage
	// After and Before are positions: the page begins behind After, or ends
	// ahead of Before. Of a position, ID, CreatedAt and the times that Order
	// names are looked at; no session need be there. At most one is set.
	After, Before *Session
}

// Page is a part of a list.
type Page struct {
	Sessions []Session
	Earlier  bool // there are sessions ahead of the page
	Later    bool // there are sessions behind it
}

// errQuery is a mistake of the caller's.
var errQuery = errors.New("a query has at most one position, keys of an order that exist, and a size of 0 to 1,000")

func (q Query) check() error {
	if (q.After != nil && q.Before != nil) || q.Size < 0 || q.Size > MaxPage {
		return errQuery
	}
	for _, key := range q.Order {
		if key.By.In(&Session{}) == nil {
			return errQuery
		}
	}
	return nil
}

// List returns one page of what the caller may see. ErrTooMany: there are too
// many for an order that is not the default.
func (m *Manager) List(ctx context.Context, c Caller, q Query) (Page, error) {
	if err := errors.Join(c.check(), q.check()); err != nil {
		return Page{}, err
	}
	if q.Size == 0 {
		q.Size = MaxPage
	}
	f := Filter{UserID: c.UserID, ClientID: q.ClientID}
	if m.Visibility == VisibilityClient {
		if q.ClientID != "" && q.ClientID != c.ClientID {
			return Page{}, nil
		}
		f.ClientID = c.ClientID
	}
	list := m.page
	if !q.Order.isDefault() {
		list = m.sorted
	}
	page, err := list(ctx, f, q)
	if err != nil {
		return Page{}, fmt.Errorf("listing sessions: %w", err)
	}
	for i := range page.Sessions {
		m.Attributes.shown(&page.Sessions[i])
	}
	return page, nil
}

// Ids are letters and digits, which these stand ahead of and behind: what began
// with a position counts as a neighbour of the empty page there.
const aheadOfIDs, behindIDs = "!", "~"

// page reads one page in the store's own order, by its index.
func (m *Manager) page(ctx context.Context, f Filter, q Query) (Page, error) {
	f.Limit = q.Size + 1 // one more tells whether there are more
	f.After, f.Before = position(q.After), position(q.Before)
	found, err := m.Store.Sessions(ctx, f)
	if err != nil {
		return Page{}, err
	}
	more := len(found) > q.Size
	page := Page{}
	// On the side that it came from a page has neighbours only if they still
	// live, which the list is asked for.
	switch {
	case q.Before != nil:
		if more {
			found = found[len(found)-q.Size:]
		}
		page.Sessions, page.Earlier = found, more
		f.Before, f.After = Position{}, Position{CreatedAt: q.Before.CreatedAt, ID: aheadOfIDs}
		if len(found) > 0 {
			f.After = position(&found[len(found)-1])
		}
		page.Later, err = m.any(ctx, f)
	default:
		if more {
			found = found[:q.Size]
		}
		page.Sessions, page.Later = found, more
		if q.After == nil {
			return page, nil
		}
		f.After, f.Before = Position{}, Position{CreatedAt: q.After.CreatedAt, ID: behindIDs}
		if len(found) > 0 {
			f.Before = position(&found[0])
		}
		page.Earlier, err = m.any(ctx, f)
	}
	return page, err
}

// any tells whether f chooses a session.
func (m *Manager) any(ctx context.Context, f Filter) (bool, error) {
	f.Limit = 1
	found, err := m.Store.Sessions(ctx, f)
	return len(found) > 0, err
}

// sorted orders the caller's own sessions in memory and cuts a page out.
func (m *Manager) sorted(ctx context.Context, f Filter, q Query) (Page, error) {
	var all []Session
	for f.Limit = MaxPage; ; {
		found, err := m.Store.Sessions(ctx, f)
		if err != nil {
			return Page{}, err
		}
		all = append(all, found...)
		if len(found) < f.Limit {
			break
		}
		if len(all) >= maxInMemory {
			return Page{}, ErrTooMany
		}
		f.After = position(&found[len(found)-1])
	}
	slices.SortFunc(all, func(a, b Session) int { return q.Order.compare(&a, &b) })
	var from, to int
	switch {
	case q.After != nil:
		from = firstNotAhead(all, q.Order, q.After, true)
		to = min(len(all), from+q.Size)
	case q.Before != nil:
		to = firstNotAhead(all, q.Order, q.Before, false)
		from = max(0, to-q.Size)
	default:
		to = min(len(all), q.Size)
	}
	return Page{Sessions: all[from:to], Earlier: from > 0, Later: to < len(all)}, nil
}

// firstNotAhead is the index of the first session at or, with behind, behind
// the position.
func firstNotAhead(all []Session, o Order, at *Session, behind bool) int {
	i, found := slices.BinarySearchFunc(all, at, func(s Session, at *Session) int { return o.compare(&s, at) })
	if found && behind {
		i++
	}
	return i
}

// position is the place of a session in the store's order; nil is none.
func position(s *Session) Position {
	if s == nil {
		return Position{}
	}
	return Position{CreatedAt: s.CreatedAt, ID: s.ID}
}
