package sessions

import (
	"context"
	"errors"
	"time"
)

const (
	// MaxSelection is how many entries can be chosen by their ids at once.
	MaxSelection = 100
	// MaxAccounts is how many accounts of a search are shown at most.
	MaxAccounts = 20
	// MaxSearch bounds what is searched for, in bytes.
	MaxSearch = 255
	// MaxClientChoices is how many clients are offered to choose from.
	MaxClientChoices = 1000
)

// ErrSelf: an administrator can't do that to his own account.
var ErrSelf = errors.New("not to one's own account")

// Account is what administrators see of a user.
type Account struct {
	ID        string // UUID
	Username  string
	Name      string // empty: unknown
	Email     string // empty: unknown
	CreatedAt time.Time
	LockedAt  time.Time // zero: not locked
}

// ClientChoice is a client of one of the realm's authorization servers, to
// filter by.
type ClientChoice struct {
	AuthorizationServer string
	ClientID            string
	Name                string // as registered; may be empty
}

// AccountStore is what a Directory asks about the realm's users and clients.
type AccountStore interface {
	// FindAccounts lists up to limit users whose user name, e-mail address or
	// display name begins with the text: user names first, then addresses, then
	// names, each in their order. It regards neither the case of letters nor how
	// they are composed (users.SearchKey; of user names users.Key), but accents.
	// What nobody can have finds nobody.
	FindAccounts(ctx context.Context, text string, limit int) ([]Account, error)
	// Account returns a user, locked or not, or ErrUserNotFound.
	Account(ctx context.Context, userID string) (*Account, error)
	// UnlockAccount lets a locked user sign in again. ErrUserNotFound: there is
	// none.
	UnlockAccount(ctx context.Context, userID string, by Actor) error
	// ClientChoices lists up to limit clients of the realm that there are, by
	// name.
	ClientChoices(ctx context.Context, limit int) ([]ClientChoice, error)
}
