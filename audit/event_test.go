package audit

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestIDsAreInOrderOfTime(t *testing.T) {
	at := time.Date(2031, 5, 6, 7, 8, 9, 123_000_000, time.UTC)
	times := []time.Time{time.UnixMilli(0), at.Add(-time.Hour), at.Add(-time.Millisecond), at, at.Add(time.Millisecond), at.AddDate(100, 0, 0)}
	var ids []string
	for _, at := range times {
		id := NewID(at)
		if !isID(id) || !strings.HasPrefix(id, Prefix(at)) || id < Prefix(at) || id > Prefix(at.Add(time.Millisecond)) {
			t.Errorf("%v: id %q", at, id)
		}
		ids = append(ids, id)
	}
	if !slices.IsSorted(ids) {
		t.Errorf("not in order: %q", ids)
	}
	if one, other := NewID(at), NewID(at); one == other {
		t.Error("two events have one id")
	}
	if got := Prefix(time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)); got != "000000000000" {
		t.Errorf("a time before all others: %q", got)
	}
}

func TestOnlyAlikeEventsAreCountedTogether(t *testing.T) {
	base := Event{Type: SignIn, Result: Refused, At: time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC), UserID: "alex",
		Address: "192.0.2.1", Reason: WrongCredentials, AuthorizationServer: "myAS", ClientID: "album"}
	same := base
	same.At, same.RequestID, same.LastAt = base.At.Add(50*time.Second), "other", base.At.Add(time.Hour)
	if same.CountedID() != base.CountedID() {
		t.Error("attempts of one minute are counted apart")
	}
	for name, change := range map[string]func(*Event){
		"minute":  func(e *Event) { e.At = e.At.Add(51 * time.Second) },
		"user":    func(e *Event) { e.UserID = "bea" },
		"address": func(e *Event) { e.Address = "192.0.2.2" },
		"reason":  func(e *Event) { e.Reason = Locked },
		"server":  func(e *Event) { e.AuthorizationServer = "other" },
		"client":  func(e *Event) { e.ClientID = "news" },
		"shift":   func(e *Event) { e.UserID, e.Address = e.UserID+e.Address, "" },
	} {
		other := base
		change(&other)
		if other.CountedID() == base.CountedID() {
			t.Errorf("another %s is counted as the same", name)
		}
		if !isID(other.CountedID()) {
			t.Errorf("%q is no id", other.CountedID())
		}
	}
	for _, e := range []Event{{Type: SignIn, Result: Success}, {Type: SignIn}, {Type: Consent, Result: Refused}, {Type: SessionEnded}} {
		if e.Counted() {
			t.Errorf("%+v would be counted, and so lose what makes it one act", e)
		}
	}
}

func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1":             "192.0.2.1",
		"::ffff:192.0.2.1":      "192.0.2.1",
		"2001:db8:1:2:3:4:5:6":  "2001:db8:1:2::/64",
		"2001:db8:1:2::1":       "2001:db8:1:2::/64",
		"fe80::1%eth0":          "fe80::/64",
		"::1":                   "::/64",
		"":                      "",
		"unknown":               "",
		"192.0.2.1:80":          "",
		"192.0.2.1\nforged=yes": "",
	} {
		if got := Network(address); got != want {
			t.Errorf("%q is counted by %q, want %q", address, got, want)
		}
	}
}

func TestFiltersThatCantBeAnswered(t *testing.T) {
	good := NewID(time.Now())
	for _, f := range []Filter{
		{Types: []Type{"refresh"}}, {Types: []Type{SignIn, ""}}, {Result: "maybe"},
		{Before: "x"}, {Before: good[:12]}, {Before: strings.ToUpper("abc") + good}, {Before: good + "'"}, {Before: good + strings.Repeat("A", 128)},
	} {
		if err := f.Check(); err == nil {
			t.Errorf("%+v is no fault", f)
		}
	}
	if err := (&Filter{Types: Types(), Result: Refused, Before: good}).Check(); err != nil {
		t.Error(err)
	}
}
