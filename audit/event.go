package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// ErrCursor: Filter.Before is no id of an event.
var ErrCursor = errors.New("no id of an audit event")

// Type is what happened.
type Type string

// Types, as they stand in rows and answers.
const (
	SignIn          Type = "sign_in"     // a user proved who he is at a page, or failed to
	LoginEnded      Type = "login_ended" // a browser's sign-in is over
	Consent         Type = "consent"     // a user allowed or denied a client's request
	ConsentWithdraw Type = "consent_withdrawn"
	SessionEnded    Type = "session_ended"    // an OAuth 2.0 session that had issued tokens is over
	SessionDetached Type = "session_detached" // it outlives its login by offline access
	TokenMisuse     Type = "token_misuse"     // a used refresh token or code was used again, and its grant ended
	UserCreated     Type = "user_created"
	UserLocked      Type = "user_locked"
	UserUnlocked    Type = "user_unlocked"
	PasswordChanged Type = "password_changed"
	ClientCreated   Type = "client_created"
	ClientDeleted   Type = "client_deleted"
	KeyRotated      Type = "key_rotated"       // a signing key was made, also at the first start
	SessionsViewed  Type = "sessions_viewed"   // an administrator saw sessions of others
	EndingRequested Type = "ending_requested"  // an administrator ended sessions, or there were none
	NewDevice       Type = "new_device"        // a user signed in from a device or a network that was not known of him
	NewDeviceAnswer Type = "new_device_answer" // he said whether it was he
	AccessRefused   Type = "access_refused"    // who had proven who he is was not allowed what he asked for
)

// Types are all types, in the order of the documentation.
func Types() []Type {
	return []Type{SignIn, LoginEnded, Consent, ConsentWithdraw, SessionEnded, SessionDetached, TokenMisuse,
		UserCreated, UserLocked, UserUnlocked, PasswordChanged, ClientCreated, ClientDeleted, KeyRotated,
		SessionsViewed, EndingRequested, NewDevice, NewDeviceAnswer, AccessRefused}
}

// Result is how it ended.
type Result string

// Results, as they stand in rows and answers.
const (
	Success Result = "success"
	Refused Result = "refused" // by us, or, of a consent, by the user
)

// Reasons of refused sign-ins. Reasons of endings are those of the package
// sessions.
const (
	WrongCredentials = "wrong_credentials" //nolint:gosec // a reason: no such account, or not its password
	Locked           = "locked"            // right password, locked account
	Throttled        = "throttled"         // too many attempts before this one; the password was not looked at
)

// Reasons of refused access.
const (
	NotAllowed = "not_allowed" // no role or scope for it
	NotFound   = "not_found"   // no such user or session, or somebody else's
)

// Anonymous is the actor of a refused sign-in: nobody has proven who he is.
const Anonymous = "anonymous"

// Event is one act. Empty members are unknown or don't apply.
type Event struct {
	ID                  string    // in order of time: 12 hexadecimal digits of milliseconds, then text; set by the store
	At                  time.Time // of the first occurrence; default: now
	LastAt              time.Time // of the last one; default: At
	Count               int       // occurrences; more than 1 only where Counted. Default: 1
	Type                Type      // required
	Result              Result    // default: Success
	Reason              string    //
	Actor               string    // who, as sessions.Actor writes it: "user:<id>", "client:<client_id>", "operator:<name>", "server"; or Anonymous
	AuthorizationServer string    // name; empty: it concerns the realm
	UserID              string    // whom
	ClientID            string    //
	SessionID           string    // sid
	LoginID             string    //
	Address             string    // from where: an IP address, or a network for refused sign-ins
	RequestID           string    // as in the log; of the first occurrence
	Detail              string    // such as scopes, or a key's id and algorithm
}

// Origin is from where an act comes. The zero value is the server itself.
type Origin struct {
	Actor     string // for acts that name nobody; default: "server"
	Address   string
	RequestID string
}

// Filter chooses events; empty members choose all.
type Filter struct {
	UserID              string
	ClientID            string
	SessionID           string
	AuthorizationServer string
	Addresses           []string // any of them
	Types               []Type
	Result              Result
	Since               time.Time // not before
	Until               time.Time // before
	Before              string    // only events older than the one with this ID
	Limit               int       // 0: 1,000
}

// Check returns an error where a filter can't be answered.
func (f *Filter) Check() error {
	for _, t := range f.Types {
		if !slices.Contains(Types(), t) {
			return fmt.Errorf("there is no event %q", t)
		}
	}
	if f.Result != "" && f.Result != Success && f.Result != Refused {
		return fmt.Errorf("there is no result %q", f.Result)
	}
	if f.Before != "" && !isID(f.Before) {
		return ErrCursor
	}
	return nil
}

// isID tells whether s has the form of an id.
func isID(s string) bool {
	return len(s) > prefixLength && len(s) <= 128 &&
		strings.Trim(s[:prefixLength], "0123456789abcdef") == "" &&
		strings.Trim(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") == ""
}

const prefixLength = 12

// Prefix is how ids of events of that time begin, and so less than all of them.
func Prefix(at time.Time) string {
	return fmt.Sprintf("%0*x", prefixLength, max(at.UnixMilli(), 0))
}

// NewID returns an id for an event of that time that no other has.
func NewID(at time.Time) string { return Prefix(at) + rand.Text() }

// Minute is the time with which events that are counted together begin.
func Minute(at time.Time) time.Time { return at.UTC().Truncate(time.Minute) }

// Counted tells whether the event is counted with others alike within a minute:
// what changes nothing and can be repeated at will.
func (e *Event) Counted() bool {
	return (e.Type == SignIn && e.Result == Refused) || e.Type == SessionsViewed || e.Type == AccessRefused
}

// CountedID is the id that a counted event shares with those it is counted
// with: of the same minute, account, network, client and reason; where somebody
// has proven who he is, of the same actor and detail too.
func (e *Event) CountedID() string {
	alike := []string{string(e.Type), e.Reason, e.UserID, e.Address, e.AuthorizationServer, e.ClientID}
	if e.Type != SignIn {
		alike = append(alike, e.Actor, e.Detail)
	}
	sum := sha256.Sum256([]byte(strings.Join(alike, "\x00")))
	return Prefix(Minute(e.At)) + base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16])
}

// Network is the network that an address is counted by: the address itself for
// IPv4, also where it is written as IPv6, and the first 64 bits for IPv6, whose
// rest anybody can choose. What is no address is empty.
func Network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	ip = ip.Unmap()
	if ip.Is4() {
		return ip.String()
	}
	return netip.PrefixFrom(ip.WithZone(""), 64).Masked().String()
}
