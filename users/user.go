package users

import (
	"context"
	"errors"
	"slices"
	"time"
)

// RoleSessionAdmin lets a user look after other users' sessions.
const RoleSessionAdmin = "session-admin"

// Sentinel errors of this package.
var (
	// ErrNotFound: the realm has no such user.
	ErrNotFound = errors.New("no such user")
	// ErrExists: the user name is taken in this realm.
	ErrExists = errors.New("user name is taken")
	// ErrCredentials: no such user, or not the right password; which of the two is withheld.
	ErrCredentials = errors.New("user name or password is wrong")
	// ErrLocked: the password was right, the account is locked.
	ErrLocked = errors.New("account is locked")
	// ErrBusy: no slot for a password check came free within the request's time.
	ErrBusy = errors.New("too many sign-ins at once")
)

// User is one account of a realm.
type User struct {
	ID        string    // UUID; the public `sub` claim
	Username  string    // as the user writes it; unique by Key
	Password  string    // PHC string (argon2id); empty: can't sign in by password
	Claims    Claims    // OpenID Connect Core 1.0 §5.1
	Roles     []string  //
	Salt      []byte    // 32 random bytes for pairwise subjects; never changes
	CreatedAt time.Time // UTC
	LockedAt  time.Time // zero: not locked
}

// Has reports whether the user has the role.
func (u *User) Has(role string) bool { return slices.Contains(u.Roles, role) }

// Claims are the standard claims that an account can carry, by the names of
// OpenID Connect Core 1.0 §5.1. Empty ones are left out of every answer.
type Claims struct {
	Name                string   `json:"name,omitempty"`
	GivenName           string   `json:"given_name,omitempty"`
	FamilyName          string   `json:"family_name,omitempty"`
	MiddleName          string   `json:"middle_name,omitempty"`
	Nickname            string   `json:"nickname,omitempty"`
	PreferredUsername   string   `json:"preferred_username,omitempty"` // the user name where empty
	Profile             string   `json:"profile,omitempty"`
	Picture             string   `json:"picture,omitempty"`
	Website             string   `json:"website,omitempty"`
	Gender              string   `json:"gender,omitempty"`
	Birthdate           string   `json:"birthdate,omitempty"` // YYYY-MM-DD, YYYY or 0000-MM-DD
	Zoneinfo            string   `json:"zoneinfo,omitempty"`
	Locale              string   `json:"locale,omitempty"` // BCP 47
	Email               string   `json:"email,omitempty"`
	EmailVerified       bool     `json:"email_verified,omitempty"`
	PhoneNumber         string   `json:"phone_number,omitempty"` // E.164
	PhoneNumberVerified bool     `json:"phone_number_verified,omitempty"`
	Address             *Address `json:"address,omitempty"`
	UpdatedAt           int64    `json:"updated_at,omitempty"` // Unix seconds
}

// Address is the address claim (OpenID Connect Core 1.0 §5.1.1).
type Address struct {
	Formatted     string `json:"formatted,omitempty"`
	StreetAddress string `json:"street_address,omitempty"`
	Locality      string `json:"locality,omitempty"`
	Region        string `json:"region,omitempty"`
	PostalCode    string `json:"postal_code,omitempty"`
	Country       string `json:"country,omitempty"`
}

// Store keeps the accounts of one realm. Locking an account and setting a
// password end sessions in the same transaction and are therefore effects of
// sessions.Manager.End, not calls of this interface.
type Store interface {
	// User returns the account with that id, or ErrNotFound.
	User(ctx context.Context, id string) (*User, error)
	// UserByName returns the account whose Key is key, or ErrNotFound.
	UserByName(ctx context.Context, key string) (*User, error)
	// Users lists up to limit accounts by Key, from behind after ("" is the beginning).
	Users(ctx context.Context, after string, limit int) ([]User, error)
	// InsertUser adds an account, or returns ErrExists.
	InsertUser(ctx context.Context, u *User) error
	// UnlockUser lets a locked account sign in again, or returns ErrNotFound.
	UnlockUser(ctx context.Context, id string) error
	// UpgradePassword replaces the hash old by a stronger one of the same
	// password (same account, new parameters). Nothing ends. A lost race is no error.
	UpgradePassword(ctx context.Context, id, old, phc string) error
}
