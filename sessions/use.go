package sessions

import "context"

// Use is a live session of a login that has issued a token: what the login is
// used for.
type Use struct {
	Key
	ClientID   string
	ClientName string // as registered; empty: it has none
	Outlives   bool   // by offline_access it goes on when the user ends the login
}

// UseStore tells what a login is used for.
type UseStore interface {
	// Uses lists what would end, or be detached, if the user ended the login
	// now, at all authorization servers of the realm: by name, MaxUses at most.
	Uses(ctx context.Context, loginID string) ([]Use, error)
	// UsedIn tells whether a session, live or ended, is the client's and of that
	// login.
	UsedIn(ctx context.Context, session Key, clientID, loginID string) (bool, error)
}

// MaxUses is how many uses of a login are listed at most.
const MaxUses = 1000
