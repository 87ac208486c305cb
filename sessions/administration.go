package sessions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Search finds users for an administrator by the beginning of their user name,
// e-mail address or display name: at most MaxAccounts, and one besides where there
// are more. ErrForbidden: the person
// is none. That he searched is recorded, what for is not: people type whatever
// is on their clipboard.
func (d *Directory) Search(ctx context.Context, p Person, text string) ([]Account, error) {
	if err := d.admitToRealm(ctx, p, "search for users"); err != nil {
		return nil, err
	}
	text = strings.TrimSpace(text)
	if text == "" || len(text) > MaxSearch || !utf8.ValidString(text) {
		return nil, nil
	}
	if err := d.Store.Note(ctx, Note{Kind: NoteViewed, By: p.actor(), Detail: "search for users"}); err != nil {
		return nil, fmt.Errorf("recording a view: %w", err)
	}
	found, err := d.Store.FindAccounts(ctx, text, MaxAccounts+1)
	if err != nil {
		return nil, fmt.Errorf("searching for users: %w", err)
	}
	return found, nil
}

// Account returns a user to an administrator. ErrForbidden, ErrUserNotFound as
// Of.
func (d *Directory) Account(ctx context.Context, p Person, userID string) (*Account, error) {
	if err := d.admit(ctx, p, userID, "account of a user"); err != nil {
		return nil, err
	}
	if err := d.Store.Note(ctx, Note{Kind: NoteViewed, By: p.actor(), UserID: userID, Detail: "the user's account"}); err != nil {
		return nil, fmt.Errorf("recording a view: %w", err)
	}
	account, err := d.Store.Account(ctx, userID)
	if err != nil {
		return nil, fmt.Errorf("reading an account: %w", err)
	}
	return account, nil
}

// ClientChoices lists the realm's clients for an administrator, at most
// MaxClientChoices. ErrForbidden: the person is none.
func (d *Directory) ClientChoices(ctx context.Context, p Person) ([]ClientChoice, error) {
	if err := d.admitToRealm(ctx, p, "list of clients"); err != nil {
		return nil, err
	}
	found, err := d.Store.ClientChoices(ctx, MaxClientChoices)
	if err != nil {
		return nil, fmt.Errorf("listing clients: %w", err)
	}
	return found, nil
}

// Selected lists the entries with those ids for an administrator; what isn't
// there is left out. ErrForbidden: the person is none.
func (d *Directory) Selected(ctx context.Context, p Person, ids []string) ([]Entry, error) {
	if err := d.admitToRealm(ctx, p, "selection of the realm"); err != nil {
		return nil, err
	}
	if err := d.Store.Note(ctx, Note{Kind: NoteViewed, By: p.actor(), Detail: "a selection of the realm's"}); err != nil {
		return nil, fmt.Errorf("recording a view: %w", err)
	}
	return d.selected(ctx, ids)
}

func (d *Directory) selected(ctx context.Context, ids []string) ([]Entry, error) {
	if len(ids) == 0 {
		return nil, nil // and not all of the realm
	}
	return d.entries(ctx, EntryQuery{IDs: ids})
}

// EndSelection ends the entries with those ids, whosever they are, for an
// administrator, and tells how many it ended; those that are not there, or no
// longer, are passed over. Each ends in a transaction of its own with its event:
// where one fails, those before it have ended and are counted. ErrForbidden: the
// person is none.
func (d *Directory) EndSelection(ctx context.Context, p Person, ids []string) (int, error) {
	if err := d.admitToRealm(ctx, p, "end of a selection of the realm"); err != nil {
		return 0, err
	}
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	found, err := d.selected(ctx, ids)
	if err != nil {
		return 0, err
	}
	if len(found) < len(ids) {
		if err := d.Store.Note(ctx, Note{Kind: NoteMissed, By: p.actor(), Detail: "no such session in the realm"}); err != nil {
			return 0, fmt.Errorf("recording a refusal: %w", err)
		}
	}
	n := 0
	for _, e := range found {
		err := d.endOne(ctx, p, e.UserID, e.ID, d.endingFor(p, e.UserID, e.ID))
		if err != nil && !errors.Is(err, ErrNotFound) {
			return n, err
		}
		if err == nil {
			n++
		}
	}
	return n, nil
}

// endingFor is an administrator's ending of a user's entries, recorded with it.
func (d *Directory) endingFor(p Person, userID, detail string) Ending {
	return Ending{By: p.actor(), Reason: ReasonEndedByAdmin,
		Effects: []Effect{Note{Kind: NoteEnding, By: p.actor(), UserID: userID, Detail: detail}}}
}

// Lock locks a user out for an administrator: in one transaction the account is
// locked and everything of it ends, detached sessions too. ErrForbidden,
// ErrUserNotFound as Of; ErrSelf: it is his own account, and nothing is touched.
func (d *Directory) Lock(ctx context.Context, p Person, userID string) error {
	if err := d.admit(ctx, p, userID, "lock of a user"); err != nil {
		return err
	}
	if userID == p.UserID {
		return ErrSelf
	}
	_, err := d.Manager.End(ctx, Target{User: userID}, Ending{By: p.actor(), Reason: ReasonUserLocked, Effects: []Effect{LockUser{UserID: userID}}})
	return err
}

// Unlock lets a locked user sign in again, for an administrator; what ended with
// the lock stays ended. ErrForbidden, ErrUserNotFound as Of.
func (d *Directory) Unlock(ctx context.Context, p Person, userID string) error {
	if err := d.admit(ctx, p, userID, "unlock of a user"); err != nil {
		return err
	}
	if err := d.Store.UnlockAccount(ctx, userID, p.actor()); err != nil {
		return fmt.Errorf("unlocking a user: %w", err)
	}
	return nil
}

// admitToRealm lets administrators pass to what is of no user in particular.
func (d *Directory) admitToRealm(ctx context.Context, p Person, what string) error {
	if err := p.check(); err != nil {
		return err
	}
	if !p.Admin {
		return d.Refuse(ctx, p, "", what)
	}
	return nil
}
