package sessions

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Person is a user who asks about entries of his realm: proven, and not locked.
type Person struct {
	UserID  string
	Admin   bool   // looks after the sessions of others, as the account says now
	Current Key    // session that the presented token belongs to; zero: he has presented none
	Login   string // id of the login of the browser that he sits at; empty: he sits at none
}

// errPerson: an empty id would choose everybody's entries.
var errPerson = errors.New("a person has an id")

func (p Person) check() error {
	if p.UserID == "" {
		return errPerson
	}
	return nil
}

// actor is the person as who acts.
func (p Person) actor() Actor { return Actor{Kind: ActorUser, ID: p.UserID} }

// Directory holds the rules of what people see and end of the logins and
// sessions of one realm. What administrators do is recorded, and so is what was
// refused; where it can't be recorded, it isn't done.
type Directory struct {
	Manager *Manager   // required; of the realm
	Store   EntryStore // required
	Past    PastStore  // required by History, Permissions and Withdraw
}

// EntryPage is a part of the list of a realm.
type EntryPage struct {
	Entries []Entry
	Newer   bool // there are entries ahead of the page
	Older   bool // there are entries behind it
}

// Own lists the person's own entries.
func (d *Directory) Own(ctx context.Context, p Person, q EntryQuery) ([]Entry, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	q.UserID = p.UserID
	return d.entries(ctx, q)
}

// Of lists a user's entries for an administrator. ErrForbidden: the person is
// none. ErrUserNotFound: there is no such user.
func (d *Directory) Of(ctx context.Context, p Person, userID string, q EntryQuery) ([]Entry, error) {
	if err := d.admit(ctx, p, userID, "list of a user"); err != nil {
		return nil, err
	}
	if err := d.Store.Note(ctx, Note{Kind: NoteViewed, By: p.actor(), UserID: userID, Detail: "all of the user's"}); err != nil {
		return nil, fmt.Errorf("recording a view: %w", err)
	}
	q.UserID = userID
	return d.entries(ctx, q)
}

// One returns one entry of a user to an administrator. ErrForbidden,
// ErrUserNotFound as Of; ErrNotFound: the user has no such entry.
func (d *Directory) One(ctx context.Context, p Person, userID, id string) (*Entry, error) {
	if err := d.admit(ctx, p, userID, "one of a user"); err != nil {
		return nil, err
	}
	if err := d.Store.Note(ctx, Note{Kind: NoteViewed, By: p.actor(), UserID: userID, Detail: "one of the user's"}); err != nil {
		return nil, fmt.Errorf("recording a view: %w", err)
	}
	found, err := d.entries(ctx, EntryQuery{UserID: userID, Conditions: []Condition{{By: ByEntryID, Operator: OpEqual, Text: id}}, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("reading an entry: %w", ErrNotFound)
	}
	return &found[0], nil
}

// All lists a page of the whole realm for an administrator. q.UserID and
// q.Offset are not looked at. Where the conditions name a user, it is recorded as
// a look at him. ErrForbidden: the person is none.
func (d *Directory) All(ctx context.Context, p Person, q EntryQuery) (EntryPage, error) {
	if err := d.admitToRealm(ctx, p, "list of the realm"); err != nil {
		return EntryPage{}, err
	}
	note := Note{Kind: NoteViewed, By: p.actor(), Detail: "all of the realm"}
	named, err := d.named(ctx, q.Conditions)
	if err != nil {
		return EntryPage{}, err
	}
	if named != "" {
		note.UserID, note.Detail = named, "the user's in the list of the realm"
	}
	if err := d.Store.Note(ctx, note); err != nil {
		return EntryPage{}, fmt.Errorf("recording a view: %w", err)
	}
	q.UserID, q.Offset = "", 0
	size := q.Limit
	if size <= 0 || size > MaxEntries {
		size = MaxEntries
	}
	q.Limit = size + 1 // one more tells whether there are more
	found, err := d.entries(ctx, q)
	if err != nil {
		return EntryPage{}, err
	}
	more := len(found) > size
	page := EntryPage{Entries: found}
	if q.After != 0 && q.Before == 0 {
		// The page ends at After, so what is too many is the newest.
		if more {
			page.Entries = found[1:]
		}
		page.Newer = more
		q.Before = q.After + 1
		if len(page.Entries) > 0 {
			q.Before = page.Entries[len(page.Entries)-1].Position
		}
		q.After = 0
		page.Older, err = d.any(ctx, q)
		return page, err
	}
	if more {
		page.Entries = found[:size]
	}
	page.Older = more
	if q.Before == 0 {
		return page, nil
	}
	q.After = q.Before - 1
	if len(page.Entries) > 0 {
		q.After = page.Entries[0].Position
	}
	q.Before = 0
	page.Newer, err = d.any(ctx, q)
	return page, err
}

// named is the id of the user to whom the conditions narrow a list by his name;
// empty where they do not, or nobody has the name: what was typed is not kept.
func (d *Directory) named(ctx context.Context, conditions []Condition) (string, error) {
	for _, c := range conditions {
		if c.By != ByUsername || c.Operator != OpEqual {
			continue
		}
		id, err := d.Store.UserNamed(ctx, c.Text)
		if err == nil {
			return id, nil
		}
		if !errors.Is(err, ErrUserNotFound) {
			return "", fmt.Errorf("looking for a user: %w", err)
		}
	}
	return "", nil
}

// EndOwn ends one of the person's own entries. ErrNotFound: it isn't there, or
// is somebody else's, and nothing is touched.
func (d *Directory) EndOwn(ctx context.Context, p Person, id string) error {
	if err := p.check(); err != nil {
		return err
	}
	return d.endOne(ctx, p, p.UserID, id, Ending{By: p.actor(), Reason: ReasonLogout})
}

// EndAllOwn ends everything of the person, detached sessions too, in one
// transaction; keepCurrent excepts the entry that the presented token belongs
// to, and for who sits at a browser its login.
func (d *Directory) EndAllOwn(ctx context.Context, p Person, keepCurrent bool) error {
	if err := p.check(); err != nil {
		return err
	}
	return d.endAll(ctx, p, p.UserID, keepCurrent, Ending{By: p.actor(), Reason: ReasonLogout})
}

// End ends one entry of a user for an administrator. ErrForbidden,
// ErrUserNotFound as Of; ErrNotFound: the user has no such entry, and nothing is
// touched.
func (d *Directory) End(ctx context.Context, p Person, userID, id string) error {
	if err := d.admit(ctx, p, userID, "end of one of a user"); err != nil {
		return err
	}
	return d.endOne(ctx, p, userID, id, d.endingFor(p, userID, id))
}

// EndAll ends everything of a user for an administrator, as EndAllOwn does.
// ErrForbidden, ErrUserNotFound as Of.
func (d *Directory) EndAll(ctx context.Context, p Person, userID string, keepCurrent bool) error {
	if err := d.admit(ctx, p, userID, "end of all of a user"); err != nil {
		return err
	}
	detail := "all"
	if keepCurrent {
		detail = "all but the current one"
	}
	return d.endAll(ctx, p, userID, keepCurrent, d.endingFor(p, userID, detail))
}

// Name gives the device of one of the person's own logins a name; one in which
// there is nothing to see takes it away. ErrNotFound: there is no such login of his. ErrDeviceName: the
// name is too long or has control characters.
func (d *Directory) Name(ctx context.Context, p Person, id, name string) error {
	if err := p.check(); err != nil {
		return err
	}
	name = strings.TrimSpace(name)
	if utf8.RuneCountInString(name) > MaxDeviceName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return ErrDeviceName
	}
	if !strings.ContainsFunc(name, visible) {
		name = ""
	}
	if err := d.Store.NameLogin(ctx, p.UserID, id, name); err != nil {
		return fmt.Errorf("naming a device: %w", err)
	}
	return nil
}

// ErrDeviceName: the name of a device can't be that.
var ErrDeviceName = errors.New("the name of a device has at most 80 characters, none of which controls anything")

// visible tells whether there is something to see of a character that stands by
// itself.
func visible(r rune) bool {
	const blank = '\u2800' // Braille without a dot, which Unicode calls a symbol
	return unicode.IsGraphic(r) && !unicode.IsSpace(r) && !unicode.IsMark(r) && r != blank &&
		!unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
}

// Refuse records that the person was refused before any rule of the Directory
// was asked, what being the call. It returns ErrForbidden, or why it could not
// be recorded.
func (d *Directory) Refuse(ctx context.Context, p Person, userID, what string) error {
	if err := p.check(); err != nil {
		return err
	}
	if known, err := d.known(ctx, userID); err != nil {
		return err
	} else if !known {
		userID = "" // what a stranger wrote is not kept as an id
	}
	if err := d.Store.Note(ctx, Note{Kind: NoteRefused, By: p.actor(), UserID: userID, Detail: what}); err != nil {
		return fmt.Errorf("recording a refusal: %w", err)
	}
	return ErrForbidden
}

// admit lets administrators pass, to users that there are. Whoever is none
// learns nothing about users.
func (d *Directory) admit(ctx context.Context, p Person, userID, what string) error {
	if err := p.check(); err != nil {
		return err
	}
	if !p.Admin {
		return d.Refuse(ctx, p, userID, what)
	}
	if userID == "" {
		return ErrUserNotFound
	}
	known, err := d.known(ctx, userID)
	if err == nil && !known {
		// That somebody looked for a user who isn't there is a use as well.
		err = d.Store.Note(ctx, Note{Kind: NoteMissed, By: p.actor(), Detail: what + ": no such user"})
		if err == nil {
			err = ErrUserNotFound
		}
	}
	return err
}

func (d *Directory) known(ctx context.Context, userID string) (bool, error) {
	if userID == "" {
		return false, nil
	}
	known, err := d.Store.HasUser(ctx, userID)
	if err != nil {
		return false, fmt.Errorf("looking for a user: %w", err)
	}
	return known, nil
}

func (d *Directory) entries(ctx context.Context, q EntryQuery) ([]Entry, error) {
	clients := 0
	for _, c := range q.Conditions {
		if c.By == ByClient {
			clients++
		}
	}
	if len(q.Conditions) > MaxConditions || clients > 1 || len(q.IDs) > MaxSelection || q.Limit < 0 || q.Offset < 0 || q.After < 0 || q.Before < 0 {
		return nil, errEntryQuery
	}
	found, err := d.Store.Entries(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("listing entries: %w", err)
	}
	return found, nil
}

// errEntryQuery is a mistake of the caller's.
var errEntryQuery = errors.New("a query has no negative numbers, at most 16 conditions, one of them on a client, and at most 100 ids")

// any tells whether q chooses an entry.
func (d *Directory) any(ctx context.Context, q EntryQuery) (bool, error) {
	q.Limit = 1
	found, err := d.entries(ctx, q)
	return len(found) > 0, err
}

func (d *Directory) endOne(ctx context.Context, p Person, userID, id string, ending Ending) error {
	_, err := d.Manager.End(ctx, Target{Entry: id, OfUser: userID}, ending)
	if errors.Is(err, ErrNotFound) {
		// The id is whatever was typed, and may be anybody's: it is not kept.
		if err := d.Store.Note(ctx, Note{Kind: NoteMissed, By: p.actor(), UserID: userID, Detail: "no such session of the user"}); err != nil {
			return fmt.Errorf("recording a refusal: %w", err)
		}
	}
	return err
}

func (d *Directory) endAll(ctx context.Context, p Person, userID string, keepCurrent bool, ending Ending) error {
	t := Target{User: userID}
	switch {
	case keepCurrent && p.Login != "":
		t.ExceptLogin = p.Login
	case keepCurrent:
		t.ExceptEntryOf = p.Current
	}
	_, err := d.Manager.End(ctx, t, ending)
	return err
}
