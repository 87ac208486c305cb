package oauth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/url"
	"time"

	"gatehouse.dev/gatehouse/keys"
)

// StampLifetime is how long the way through sign-in and consent may take.
const StampLifetime = 30 * time.Minute

// stampParam carries the stamp in our own URLs.
const stampParam = "gatehouse_stamp"

// ErrStamp: a stamp that is not ours, not for this request, or too old.
var ErrStamp = errors.New("stamp is not valid for this request")

// Decisions on the consent page.
const (
	DecisionAllow = "allow"
	DecisionDeny  = "deny"
)

// Stamp is what survives the way from /authorize through sign-in and consent
// and back: sealed, bound to one request of one authorization server, in the
// browser's URLs. An anonymous request therefore writes nothing.
type Stamp struct {
	Began   time.Time `json:"b"`
	Nonce   string    `json:"n"`           // becomes logins.auth_nonce at a sign-in that answers this request
	LoginID string    `json:"l,omitempty"` // the login in which the user signed in, or decided
	UserID  string    `json:"u,omitempty"`

	SignedIn  bool      `json:"s,omitempty"` // the sign-in page did its job for this request
	Decision  string    `json:"d,omitempty"` // the consent page did: allow or deny
	Scopes    []string  `json:"c,omitempty"` // what was decided on
	Resources []string  `json:"r,omitempty"`
	DecidedAt time.Time `json:"t,omitzero"`
}

// Stamps seals and opens the stamps of one authorization server.
type Stamps struct {
	Box    *keys.Box // purpose "stamp"
	Server string    // the authorization server's name, bound into each stamp
	Now    func() time.Time
}

// Begin makes a fresh stamp.
func (s Stamps) Begin() Stamp {
	return Stamp{Began: s.Now().UTC().Truncate(time.Millisecond), Nonce: rand.Text()}
}

// Seal seals a stamp for the request whose parameters are query.
func (s Stamps) Seal(stamp Stamp, query url.Values) string {
	plain, err := json.Marshal(stamp)
	if err != nil {
		panic(err) // strings and times always marshal
	}
	return s.Box.Seal(plain, s.bound(query))
}

// Open opens a stamp that was sealed for the same request, or returns ErrStamp.
func (s Stamps) Open(sealed string, query url.Values) (Stamp, error) {
	plain, err := s.Box.Open(sealed, s.bound(query))
	if err != nil {
		return Stamp{}, ErrStamp
	}
	var stamp Stamp
	if err := json.Unmarshal(plain, &stamp); err != nil {
		return Stamp{}, ErrStamp
	}
	if age := s.Now().Sub(stamp.Began); age > StampLifetime || age < -time.Minute {
		return Stamp{}, ErrStamp
	}
	return stamp, nil
}

// bound is the associated data: which server, and the hash of the request
// without the stamp itself.
func (s Stamps) bound(query url.Values) []byte {
	sum := sha256.Sum256([]byte(withoutStamp(query).Encode()))
	return append([]byte(s.Server+"\x00"), sum[:]...)
}
