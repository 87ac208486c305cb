package sessions

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

const (
	// NoticeShown is how long after the end of its login a notice is still shown.
	NoticeShown = 30 * 24 * time.Hour
	// NoticeKept is how long a notice is kept, and how long a device or a network
	// from which a user has not signed in again is known.
	NoticeKept = 400 * 24 * time.Hour
	// MaxKnown is how many devices, and how many networks, are known of a user;
	// the ones that were used longest ago give way.
	MaxKnown = 50
	// MaxNotices is how many notices are kept of a user. Answered ones give way,
	// then those about logins that are all over, the oldest first. Where that
	// leaves no room, a sign-in shares the newest one instead of adding another.
	MaxNotices = 100
	// MaxMails is how many mails about sign-ins a user gets within MailWindow.
	MaxMails   = 5
	MailWindow = time.Hour

	maxOpenNotices = 20 // shown at once
)

// Noticing is what a sign-in tells of the browser that it was made in. The zero
// value: nothing is remembered, and there is no notice.
type Noticing struct {
	Device   []byte // DeviceCookie.Mark: SHA-256 of the browser's device cookie for this user
	MailTo   string // the address that a mail about it goes to; empty: none is sent
	Language string // of that mail, BCP 47
}

// Notice says that a user has signed in from a device or a network from which
// he had not signed in before.
type Notice struct {
	ID        string // 26 letters and digits, random
	UserID    string
	LoginID   string
	Device    bool // the device is new
	Network   bool // the network is new
	Address   string
	UserAgent string // at most 512 bytes
	At        time.Time
	Ended     bool // the login is over, and so are all that share the question
	Crowded   bool // it stands for sign-ins that found no room for their own
	OnlyNo    bool // whoever asks can't say that it was he: his own login is in question, or the notice is crowded
}

// Answer is what the user says of a sign-in that he was told of.
type Answer string

// Answers, as they stand in rows and forms.
const (
	AnswerYes Answer = "yes" // it was he
	AnswerNo  Answer = "no"  // it was somebody else
)

// ErrAnswer: an answer is yes or no, and yes can't be said in a login that is
// itself asked about, or to a notice that stands for other sign-ins too.
var ErrAnswer = errors.New("not an answer to a notice")

// NoticeStore keeps the notices of one realm. Store.SignIn writes them, in the
// transaction of the sign-in.
//
// A notice is about the login that left it and about those that share its
// question: logins that began, while it was not answered, in a browser that it
// made known; in the browser of the sign-in, from the network that it made
// known; or in a browser that was new itself, from that network, until the user
// knows that browser. A login is in question as long as a notice about it is not
// answered.
type NoticeStore interface {
	// OpenNotices lists notices of the user that are not answered, newest first:
	// those about a login that lives or has ended later than endedAfter, but for
	// those of the browser that asks in the login by.
	OpenNotices(ctx context.Context, userID, by string, endedAfter time.Time, limit int) ([]Notice, error)
	// AnswerNotice notes what the user said. AnswerYes counts where nothing was
	// said before. AnswerNo counts in any case, and in the same transaction ends
	// all logins that it is about with everything that began in them, detached
	// sessions too, as by ending; answers the other notices that those logins
	// left, with what shares their questions; and forgets the devices and networks
	// that became known by all of them. Once more changes nothing and is no error.
	// ErrNotFound: the user has no such notice. ErrAnswer: answer is AnswerYes,
	// and by left the notice or is in question, or the notice also stands for
	// sign-ins that found no room for one of their own.
	AnswerNotice(ctx context.Context, userID, id, by string, answer Answer, ending Ending) error
	// SweepNotices removes up to limit notices, and as many known devices and
	// networks, from before that time, and tells how many.
	SweepNotices(ctx context.Context, before time.Time, limit int) (int, error)
}

// Notices holds the rules of telling users that somebody, most often they
// themselves, has signed in from somewhere new.
//
// Nobody is asked about the sign-in of the very browser that he sits at, and
// nobody says of another one that it was he while his own is in question:
// whoever has the password would say so, and the owner would never be asked.
type Notices struct {
	Store NoticeStore      // required
	Now   func() time.Time // required
}

// Open lists what the person is to be asked about: notices without an answer,
// newest first, 20 at most, about a login that lives or ended within 30 days, but
// for those of the browser that he asks in.
func (n *Notices) Open(ctx context.Context, p Person) ([]Notice, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	found, err := n.Store.OpenNotices(ctx, p.UserID, p.Login, n.Now().Add(-NoticeShown), maxOpenNotices)
	if err != nil {
		return nil, fmt.Errorf("listing notices: %w", err)
	}
	return found, nil
}

// Answer notes what a person says of one of his notices, and ends the logins that
// it is about where it was not he. ErrNotFound: he has no such notice, and
// nothing is touched. ErrAnswer: it is no answer.
func (n *Notices) Answer(ctx context.Context, p Person, id string, answer Answer) error {
	if err := p.check(); err != nil {
		return err
	}
	if answer != AnswerYes && answer != AnswerNo {
		return ErrAnswer
	}
	ending := Ending{By: p.actor(), Reason: ReasonDisowned, At: n.Now()}
	if err := n.Store.AnswerNotice(ctx, p.UserID, id, p.Login, answer, ending); err != nil {
		return fmt.Errorf("answering a notice: %w", err)
	}
	return nil
}

// Sweep removes what is older than NoticeKept, at most limit notices and as many
// known devices and networks, and tells how many.
func (n *Notices) Sweep(ctx context.Context, limit int) (int, error) {
	return n.Store.SweepNotices(ctx, n.Now().Add(-NoticeKept), limit)
}

// Network is the network that an address counts as: its first 24 bits for IPv4,
// also where it is written as IPv6, and its first 48 bits for IPv6. What is no
// address is in none: empty.
func Network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	ip, bits := ip.Unmap().WithZone(""), 48
	if ip.Is4() {
		bits = 24
	}
	return netip.PrefixFrom(ip, bits).Masked().String()
}
