package sessions

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestSourcedValuesAreTakenOrLeftOut(t *testing.T) {
	const absent, invalid = "absent", "invalid"
	for name, tt := range map[string]struct {
		pattern, value string
		want           string // "" stands for value
	}{
		"plain":                         {"", "Mozilla/5.0 (X11; Linux x86_64)", ""},
		"absent":                        {"", "", absent},
		"absent, and the pattern fits":  {".*", "", absent},
		"500 characters":                {"", strings.Repeat("x", 500), ""},
		"500 characters of four bytes":  {"", strings.Repeat("\U0001F600", 500), ""},
		"501 characters":                {"", strings.Repeat("x", 501), invalid},
		"not only ASCII":                {"", "Zürich, Élysée 4 € ✓", ""},
		"tab":                           {"", "a\tb", invalid},
		"NUL":                           {"", "a\x00b", invalid},
		"line break":                    {"", "a\nb", invalid},
		"line separator":                {"", "a\u2028b", invalid},
		"next line (C1)":                {"", "a\u0085b", invalid},
		"text that turns its direction": {"", "a\u202eb", invalid},
		"not UTF-8":                     {"", "a\xffb", invalid},
		"declared pattern":              {"[A-Z]{2}", "CH", ""},
		"of another pattern":            {"[A-Z]{2}", "CHE", invalid},
		"of the pattern in the middle":  {"[A-Z]{2}", "1CH2", invalid},
		// What no pattern admits.
		"pattern that admits a line break": {"(?s).*", "a\nb", invalid},
		"pattern that admits NUL":          {"(?s).*", "a\x00b", invalid},
		"pattern that admits DEL":          {".*", "a\x7fb", invalid},
		"pattern that admits no UTF-8":     {".*", "a\xffb", invalid},
		"4 KiB":                            {".*", strings.Repeat("x", 4<<10), ""},
		"over 4 KiB":                       {".*", strings.Repeat("x", 4<<10+1), invalid},
	} {
		attributes, err := NewAttributes([]Attribute{{Name: "a", Pattern: tt.pattern, Source: Source{Kind: SourceHeader, Name: "X-A"}}, {Name: "b"}})
		if err != nil {
			t.Fatal(err)
		}
		change, faults := attributes.Sourced(func(Source) string { return tt.value })
		value, there := change["a"]
		if !there || len(change) != 1 {
			t.Errorf("%s: the change is %v, want one of a alone", name, change)
		}
		switch {
		case tt.want == "":
			if value == nil || *value != tt.value || len(faults) > 0 {
				t.Errorf("%s: left out, %v", name, faults)
			}
		case value != nil || len(faults) != 1 || faults[0].Name != "a" ||
			!errors.Is(faults[0].Err, map[string]error{absent: ErrAttributeAbsent, invalid: ErrAttributeInvalid}[tt.want]):
			t.Errorf("%s: %v, faults %v, want %s", name, value, faults, tt.want)
		case tt.value != "" && strings.Contains(fmt.Sprint(faults), tt.value):
			t.Errorf("%s: the fault has the value: %v", name, faults)
		}
	}
}

func TestSourcesAreAskedForTheirAttributes(t *testing.T) {
	attributes, err := NewAttributes([]Attribute{
		{Name: "z", Source: Source{Kind: SourceUserAgent}}, {Name: "m", Updatable: true}, {Name: "city", Source: Source{Kind: SourceClaim, Name: "address.locality"}},
		{Name: "b", Source: Source{Kind: SourceClientAddress}, Updatable: true}, {Name: "c", Source: Source{Kind: SourceHeader, Name: "X-C"}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(attributes.Sources()), "[{client_address } {header X-C} {claim address.locality} {user_agent }]"; got != want {
		t.Errorf("sources are %s, want %s", got, want)
	}
	change, faults := attributes.Sourced(func(s Source) string { return strings.TrimPrefix(s.Kind+" "+s.Name, "client_address ") })
	if len(change) != 4 || *change["c"] != "header X-C" || *change["z"] != "user_agent " || *change["city"] != "claim address.locality" || change["b"] != nil {
		t.Errorf("the change is %v", change)
	}
	if len(faults) != 1 || faults[0].Name != "b" {
		t.Errorf("the faults are %v", faults)
	}
	for name, want := range map[string]error{"z": ErrAttributeNotUpdatable, "m": nil, "b": nil, "x": ErrAttributeUnknown} {
		var found AttributeFaults
		err := attributes.Check(map[string]any{name: "x"})
		if want == nil && err != nil || want != nil && (!errors.As(err, &found) || !errors.Is(found[0].Err, want)) {
			t.Errorf("a client's change of %s: %v, want %v", name, err, want)
		}
	}
	var none *Attributes
	if change, faults := none.Sourced(func(Source) string { return "x" }); len(none.Sources()) > 0 || change != nil || faults != nil {
		t.Errorf("without declarations: %v, %v", change, faults)
	}
}

func TestUnknownSourcesAreRefused(t *testing.T) {
	for _, source := range []Source{{Kind: "cookie"}, {Kind: "cookie", Name: "x"}, {Kind: SourceHeader}, {Kind: SourceClaim}, {Name: "x"},
		{Kind: SourceUserAgent, Name: "x"}, {Kind: SourceClientAddress, Name: "x"}, {Kind: "Header", Name: "x"}} {
		if _, err := NewAttributes([]Attribute{{Name: "a", Source: source}}); err == nil {
			t.Errorf("%+v is taken", source)
		}
	}
}
