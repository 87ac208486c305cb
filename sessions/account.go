package sessions

import (
	"context"
	"errors"
	"fmt"
)

// errPast is a mistake of the caller's.
var errPast = errors.New("a part of a history has 0 to 100 lines and begins at a position")

// History lists a part of a user's history: of the person's own, with an empty
// userID or his own id, or for an administrator of anybody's, which is recorded.
// q.UserID is not looked at. ErrForbidden, ErrUserNotFound as Of.
func (d *Directory) History(ctx context.Context, p Person, userID string, q PastQuery) (PastPage, error) {
	if err := p.check(); err != nil {
		return PastPage{}, err
	}
	if q.Limit < 0 || q.Limit > MaxPast || q.Before < 0 {
		return PastPage{}, errPast
	}
	q.UserID = p.UserID
	if userID != "" && userID != p.UserID {
		if err := d.admit(ctx, p, userID, "history of a user"); err != nil {
			return PastPage{}, err
		}
		if err := d.Store.Note(ctx, Note{Kind: NoteViewed, By: p.actor(), UserID: userID, Detail: "history of the user"}); err != nil {
			return PastPage{}, fmt.Errorf("recording a view: %w", err)
		}
		q.UserID = userID
	}
	size := q.Limit
	if size == 0 {
		size = MaxPast
	}
	q.Limit = size + 1 // one more tells whether there are more
	past, err := d.Past.Past(ctx, q)
	if err != nil {
		return PastPage{}, fmt.Errorf("reading a history: %w", err)
	}
	page := PastPage{Past: past}
	if len(past) > size {
		page = PastPage{Past: past[:size], Older: true}
	}
	return page, nil
}

// Permissions lists what the person has allowed clients of the realm's
// authorization servers, by name.
func (d *Directory) Permissions(ctx context.Context, p Person) ([]Permission, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	list, err := d.Past.Permissions(ctx, p.UserID)
	if err != nil {
		return nil, fmt.Errorf("listing permissions: %w", err)
	}
	return list, nil
}

// Withdraw takes back what the person has allowed a client of one
// authorization server: the consent is forgotten and his sessions at the client
// end, offline access with them, in one transaction. ErrNotFound: there is
// neither.
func (d *Directory) Withdraw(ctx context.Context, p Person, server, clientID string) error {
	if err := p.check(); err != nil {
		return err
	}
	if server == "" || clientID == "" {
		return fmt.Errorf("withdrawing a consent: %w", ErrNotFound)
	}
	_, err := d.Manager.End(ctx, Target{Client: clientID, AuthorizationServer: server, OfUser: p.UserID},
		Ending{By: p.actor(), Reason: ReasonConsentWithdrawn, Effects: []Effect{
			WithdrawConsent{AuthorizationServer: server, UserID: p.UserID, ClientID: clientID}}})
	return err
}

// EndOthers ends everything of the person but the login of the browser that he
// sits at, detached sessions too, in one transaction.
func (d *Directory) EndOthers(ctx context.Context, p Person) error {
	if p.Login == "" {
		return errBrowser
	}
	return d.EndAllOwn(ctx, p, true)
}

// errBrowser: without a login everything would end.
var errBrowser = errors.New("the person sits at no browser that is signed in")

// ChangePassword gives the person another password, phc being its PHC string
// and judged the one that he has proven. endOthers ends, in the same
// transaction, everything of him but the login of the browser that he sits at.
// ErrProofStale: the password was changed meanwhile, and nothing is written.
func (d *Directory) ChangePassword(ctx context.Context, p Person, phc, judged string, endOthers bool) error {
	if err := p.check(); err != nil {
		return err
	}
	if p.Login == "" || phc == "" || judged == "" {
		return errBrowser
	}
	t := Target{User: p.UserID, Nothing: true}
	if endOthers {
		t = Target{User: p.UserID, ExceptLogin: p.Login}
	}
	_, err := d.Manager.End(ctx, t, Ending{By: p.actor(), Reason: ReasonPasswordChanged, Effects: []Effect{
		SetPassword{UserID: p.UserID, PHC: phc, Judged: judged}}})
	return err
}

// Mark stands for all that lives of the person, as EntryStore.Mark. ErrNotFound:
// the login of the browser that he sits at is over.
func (d *Directory) Mark(ctx context.Context, p Person) (string, error) {
	if err := p.check(); err != nil {
		return "", err
	}
	mark, err := d.Store.Mark(ctx, p.UserID, p.Login)
	if err != nil {
		return "", fmt.Errorf("reading a mark: %w", err)
	}
	return mark, nil
}
