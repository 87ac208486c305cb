package mail_test

import (
	"context"
	"errors"
	"log/slog"
	"mime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	ours "gatehouse.dev/gatehouse/mail"
	"gatehouse.dev/gatehouse/sessions"
)

// decoded is a header in words (RFC 2047).
func decoded(t *testing.T, header string) string {
	t.Helper()
	out, err := new(mime.WordDecoder).DecodeHeader(header)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// letters are letters in memory, with the leases that a database has.
type letters struct {
	mu      sync.Mutex
	now     time.Time
	waiting map[string]*ours.Letter
	next    map[string]time.Time
	settled map[string]ours.State
}

func newLetters(ids ...string) *letters {
	l := &letters{now: at, waiting: map[string]*ours.Letter{}, next: map[string]time.Time{}, settled: map[string]ours.State{}}
	for _, id := range ids {
		l.waiting[id] = &ours.Letter{Realm: "staff", To: "alex@example.com", Language: "de", Notice: sessions.Notice{ID: id, At: at}}
		l.next[id] = at
	}
	return l
}

func (l *letters) time() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

func (l *letters) pass(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = l.now.Add(d)
}

func (l *letters) ClaimLetters(_ context.Context, realms []string, limit int, lease time.Duration) ([]ours.Letter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []ours.Letter
	for id, one := range l.waiting {
		if len(out) < limit && !l.next[id].After(l.now) && realms[0] == one.Realm {
			one.Attempts++
			l.next[id] = l.now.Add(lease)
			out = append(out, *one)
		}
	}
	return out, nil
}

func (l *letters) SettleLetter(_ context.Context, letter ours.Letter, o ours.Outcome) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	one, ok := l.waiting[letter.Notice.ID]
	if !ok || one.Attempts != letter.Attempts {
		return ours.ErrNotFound
	}
	if l.next[letter.Notice.ID] = o.Next; o.State != ours.Waiting {
		delete(l.waiting, letter.Notice.ID)
		l.settled[letter.Notice.ID] = o.State
	}
	return nil
}

// office is a worker with its server and what it logs.
type office struct {
	*letters
	*server
	worker *ours.Worker
	log    strings.Builder
	states []ours.State
}

func newOffice(t *testing.T, ids ...string) *office {
	o := &office{letters: newLetters(ids...), server: newServer(t, serverOptions{})}
	o.worker = &ours.Worker{Store: o.letters, Sender: o.sender(t, nil), Now: o.letters.time, Logger: slog.New(slog.NewTextHandler(&o.log, nil)),
		Settled: func(_ string, s ours.State) {
			o.server.mu.Lock()
			defer o.server.mu.Unlock()
			o.states = append(o.states, s)
		},
		Compose: map[string]func(sessions.Notice, string) (ours.Text, error){"staff": func(n sessions.Notice, lang string) (ours.Text, error) {
			return ours.Text{Subject: "about " + n.ID + " in " + lang, Body: "words"}, nil
		}}}
	return o
}

func TestWorkerSendsWhatIsDueOnce(t *testing.T) {
	o := newOffice(t, "A", "B", "C", "D", "E")
	if !o.worker.Pass(t.Context()) || o.worker.Pass(t.Context()) || o.worker.Pass(t.Context()) {
		t.Error("a full batch says that there may be more, others don't")
	}
	if n := len(o.came()); n != 5 || len(o.settled) != 5 || len(o.states) != 5 {
		t.Errorf("%d mails came, %d are settled", n, len(o.settled))
	}
	if m, _ := read(t, o.came()[0]); !strings.HasPrefix(decoded(t, m.Header.Get("Subject")), "about ") {
		t.Errorf("the subject is %q", m.Header.Get("Subject"))
	}
	if strings.Contains(o.log.String(), "example.com") || strings.Contains(o.log.String(), "about") {
		t.Errorf("the log tells of addresses or words:\n%s", o.log.String())
	}
}

func TestWorkerSendsAgainForADay(t *testing.T) {
	o := newOffice(t, "A")
	for range 100 {
		o.refusals = append(o.refusals, &smtp.SMTPError{Code: 451, Message: "alex@example.com: later"})
	}
	waits := []time.Duration{}
	for o.settled["A"] == "" && len(waits) < 100 {
		if o.worker.Pass(t.Context()); o.settled["A"] != "" {
			break
		}
		wait := o.next["A"].Sub(o.letters.time())
		waits = append(waits, wait)
		o.letters.pass(wait - time.Millisecond)
		before := len(o.states)
		if o.worker.Pass(t.Context()); len(o.states) != before {
			t.Fatal("a mail is sent before its time")
		}
		o.letters.pass(time.Millisecond)
	}
	for i, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 32 * time.Minute, time.Hour, time.Hour} {
		if waits[i] != want {
			t.Errorf("wait %d is %v, want %v", i, waits[i], want)
		}
	}
	if over := o.letters.time().Sub(at); o.settled["A"] != ours.Abandoned || over < 24*time.Hour || over > 26*time.Hour {
		t.Errorf("the mail is %q after %v", o.settled["A"], over)
	}
	if strings.Contains(o.log.String(), "alex") {
		t.Errorf("the log tells the address:\n%s", o.log.String())
	}
}

func TestWorkerSendsAfterAFailure(t *testing.T) {
	o := newOffice(t, "A")
	o.refusals = []error{&smtp.SMTPError{Code: 421, Message: "later"}}
	o.worker.Pass(t.Context())
	o.letters.pass(time.Minute)
	o.worker.Pass(t.Context())
	if o.settled["A"] != ours.Sent || len(o.came()) != 1 || len(o.states) != 2 || o.states[0] != ours.Waiting {
		t.Errorf("the mail is %q, %d came, states %v", o.settled["A"], len(o.came()), o.states)
	}
}

func TestWorkerGivesUpWhatIsRefused(t *testing.T) {
	o := newOffice(t, "A")
	o.refusals = []error{&smtp.SMTPError{Code: 550, Message: "nobody"}}
	o.worker.Pass(t.Context())
	if o.settled["A"] != ours.Abandoned || len(o.came()) != 0 {
		t.Errorf("the mail is %q, %d came", o.settled["A"], len(o.came()))
	}
	o = newOffice(t, "B")
	o.worker.Compose["staff"] = func(sessions.Notice, string) (ours.Text, error) { return ours.Text{}, errors.New("no words") }
	o.worker.Pass(t.Context())
	if o.settled["B"] != "" || !o.next["B"].Equal(at.Add(time.Minute)) {
		t.Errorf("a mail without words is %q, next %v", o.settled["B"], o.next["B"])
	}
}

// A server that is ending gives back what it has begun.
func TestWorkerThatEndsGivesBack(t *testing.T) {
	o := newOffice(t, "A")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o.worker.Pass(ctx)
	if o.settled["A"] != "" || !o.next["A"].Equal(at) || len(o.came()) != 0 {
		t.Errorf("the mail is %q, next %v, %d came", o.settled["A"], o.next["A"], len(o.came()))
	}
	o.worker.Run(ctx) // returns
}
