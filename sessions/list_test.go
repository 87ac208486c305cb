package sessions_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

func TestAttributeDeclarationsThatCanNotBe(t *testing.T) {
	for name, list := range map[string][]sessions.Attribute{
		"no name":            {{Pattern: "x"}},
		"twice":              {{Name: "a"}, {Name: "a", Pattern: "x"}},
		"open group":         {{Name: "a", Pattern: "(x"}},
		"closes our group":   {{Name: "a", Pattern: "x)|(y"}},
		"closes our group 2": {{Name: "a", Pattern: "x)|.*(?:"}},
		"lookahead":          {{Name: "a", Pattern: "(?=x)"}},
		"quotes our anchor":  {{Name: "a", Pattern: `\Qx`}},
	} {
		if _, err := sessions.NewAttributes(list); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAttributeValues(t *testing.T) {
	long := func(n int) string { return string(slices.Repeat([]rune{'ü'}, n)) }
	declared, err := sessions.NewAttributes([]sessions.Attribute{
		{Name: "default", Updatable: true}, {Name: "either", Pattern: "red|blue", Updatable: true},
		{Name: "lines", Pattern: "(?m)^x$", Updatable: true}, {Name: "any", Pattern: "(?s).*", Updatable: true}, {Name: "frozen", Pattern: ".*"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		value any
		want  error
	}{
		{"default", "x", nil}, {"default", long(200), nil}, {"default", nil, nil}, {"either", "red", nil}, {"either", "blue", nil},
		{"any", "", nil}, {"any", "a\nb", nil}, {"lines", "x", nil},
		{"default", "", sessions.ErrAttributeInvalid}, {"default", long(201), sessions.ErrAttributeInvalid},
		{"default", "a\nb", sessions.ErrAttributeInvalid}, {"default", "a\n", sessions.ErrAttributeInvalid},
		{"default", 1, sessions.ErrAttributeInvalid}, {"default", true, sessions.ErrAttributeInvalid},
		{"default", map[string]any{}, sessions.ErrAttributeInvalid}, {"default", []any{"x"}, sessions.ErrAttributeInvalid},
		{"either", "redx", sessions.ErrAttributeInvalid}, {"either", "xblue", sessions.ErrAttributeInvalid},
		{"either", "red\n", sessions.ErrAttributeInvalid}, {"lines", "y\nx", sessions.ErrAttributeInvalid},
		{"frozen", "x", sessions.ErrAttributeNotUpdatable}, {"frozen", nil, sessions.ErrAttributeNotUpdatable}, {"frozen", 1, sessions.ErrAttributeNotUpdatable},
		{"other", "x", sessions.ErrAttributeUnknown}, {"other", nil, sessions.ErrAttributeUnknown}, {"Default", "x", sessions.ErrAttributeUnknown},
		{"", "x", sessions.ErrAttributeUnknown}, {"other", 1, sessions.ErrAttributeUnknown},
	} {
		err := declared.Check(map[string]any{c.name: c.value})
		if c.want == nil {
			if err != nil {
				t.Errorf("%s = %v: %v", c.name, c.value, err)
			}
			continue
		}
		var faults sessions.AttributeFaults
		if !errors.As(err, &faults) || len(faults) != 1 || faults[0].Name != c.name || !errors.Is(faults[0].Err, c.want) {
			t.Errorf("%s = %v: %v, want %v", c.name, c.value, err, c.want)
		}
	}
	var none *sessions.Attributes
	if none.Check(nil) != nil || none.Check(map[string]any{"a": nil}) == nil {
		t.Error("none are declared")
	}
}

// changes notes what a Manager has a store change.
type changes struct {
	*recorder
	change map[string]*string
}

func (c *changes) ChangeAttributes(_ context.Context, id, userID string, change map[string]*string) (*sessions.Session, error) {
	c.asked, c.change = "change", change
	s := c.session
	s.CustomAttributes = map[string]string{"a": "1", "no longer declared": "2"}
	return &s, nil
}

func (c *changes) End(ctx context.Context, t sessions.Target, e sessions.Ending) (int, error) {
	return ofServer{c.recorder}.End(ctx, t, e)
}

func (c *changes) Session(ctx context.Context, id, user string) (*sessions.Session, error) {
	return c.recorder.Session(ctx, id, user)
}

func (c *changes) Sessions(ctx context.Context, f sessions.Filter) ([]sessions.Session, error) {
	return c.recorder.Sessions(ctx, f)
}

func TestChangeIsJudgedByTheManager(t *testing.T) {
	declared, err := sessions.NewAttributes([]sessions.Attribute{{Name: "a", Updatable: true}, {Name: "b", Updatable: true}, {Name: "frozen"}})
	if err != nil {
		t.Fatal(err)
	}
	own := sessions.Caller{UserID: "u1", ClientID: "c1", SessionID: "s1"}
	m, r := newManager("")
	store := &changes{recorder: r}
	m.Store, m.Attributes = store, declared
	for name, change := range map[string]map[string]any{
		"unknown": {"a": "x", "c": "x"}, "frozen": {"a": "x", "frozen": nil}, "invalid": {"a": "x", "b": ""}, "no text": {"a": 1.0},
	} {
		_, err := m.Change(t.Context(), own, change)
		var faults sessions.AttributeFaults
		if !errors.As(err, &faults) || r.asked != "" {
			t.Errorf("%s: %v, asked %q", name, err, r.asked)
		}
	}
	_, err = m.Change(t.Context(), own, map[string]any{"z": "x", "frozen": "x", "b": "", "a": "ok"})
	var faults sessions.AttributeFaults
	if !errors.As(err, &faults) || len(faults) != 3 || faults[0].Name != "b" || faults[1].Name != "frozen" || faults[2].Name != "z" {
		t.Errorf("not all faults at once: %v", err)
	}
	if _, err := m.Change(t.Context(), sessions.Caller{UserID: "u1", SessionID: "s1"}, nil); err == nil || r.asked != "" {
		t.Errorf("a caller without client: %v", err)
	}
	s, err := m.Change(t.Context(), own, map[string]any{"a": "x", "b": nil})
	if err != nil || len(store.change) != 2 || *store.change["a"] != "x" || store.change["b"] != nil {
		t.Errorf("the store was told %v, %v", store.change, err)
	}
	if len(s.CustomAttributes) != 1 || s.CustomAttributes["a"] != "1" {
		t.Errorf("shown are %v", s.CustomAttributes)
	}
}

func TestUndeclaredAttributesAreNotShown(t *testing.T) {
	own := sessions.Caller{UserID: "u1", ClientID: "c1", SessionID: "s1"}
	m, r := newManager("")
	r.session.CustomAttributes = map[string]string{"address": "192.0.2.1"}
	one, err := m.One(t.Context(), own, "s1")
	if err != nil || len(one.CustomAttributes) > 0 {
		t.Errorf("One: %v, %v", one, err)
	}
	r.session.CustomAttributes = map[string]string{"address": "192.0.2.1"}
	page, err := m.List(t.Context(), own, sessions.Query{})
	if err != nil || len(page.Sessions) != 1 || len(page.Sessions[0].CustomAttributes) > 0 {
		t.Errorf("List: %v, %v", page, err)
	}
}

func TestEndAllNamesTheUserAlways(t *testing.T) {
	own := sessions.Caller{UserID: "u1", ClientID: "c1", SessionID: "s1"}
	for _, c := range []struct {
		visibility string
		keep       bool
		want       sessions.Target
	}{
		{sessions.VisibilityUser, false, sessions.Target{All: true, OfUser: "u1"}},
		{sessions.VisibilityUser, true, sessions.Target{All: true, OfUser: "u1", Except: "s1"}},
		{sessions.VisibilityClient, false, sessions.Target{All: true, OfUser: "u1", OfClient: "c1"}},
		{sessions.VisibilityClient, true, sessions.Target{All: true, OfUser: "u1", OfClient: "c1", Except: "s1"}},
	} {
		m, r := newManager(c.visibility)
		if n, err := m.EndAll(t.Context(), own, c.keep); n != 1 || err != nil {
			t.Errorf("%+v: %d, %v", c, n, err)
		}
		if r.asked != "server" || r.target != c.want || r.ending.By.String() != "client:c1" || r.ending.Reason != sessions.ReasonEndedByClient || !r.ending.At.Equal(noon) {
			t.Errorf("%+v: %s was asked for %+v, %+v", c, r.asked, r.target, r.ending)
		}
		for _, nobody := range []sessions.Caller{{}, {UserID: "u1"}, {UserID: "u1", ClientID: "c1"}, {ClientID: "c1", SessionID: "s1"}, {UserID: "u1", SessionID: "s1"}} {
			r.asked = ""
			if _, err := m.EndAll(t.Context(), nobody, c.keep); err == nil || r.asked != "" {
				t.Errorf("%+v ends all: %v", nobody, err)
			}
		}
	}
}

func TestListRefusesBadQueries(t *testing.T) {
	own := sessions.Caller{UserID: "u1", ClientID: "c1", SessionID: "s1"}
	at := &sessions.Session{ID: "s1", CreatedAt: noon}
	for name, q := range map[string]sessions.Query{
		"two positions": {After: at, Before: at}, "negative size": {Size: -1}, "too big": {Size: sessions.MaxPage + 1},
		"unknown key": {Order: sessions.Order{{By: 99}}}, "no key": {Order: sessions.Order{{}}},
	} {
		m, r := newManager("")
		if _, err := m.List(t.Context(), own, q); err == nil || r.asked != "" {
			t.Errorf("%s: %v, asked %q", name, err, r.asked)
		}
	}
	m, r := newManager("")
	if _, err := m.List(t.Context(), sessions.Caller{UserID: "u1"}, sessions.Query{}); err == nil || r.asked != "" {
		t.Errorf("a caller without client: %v", err)
	}
}

func TestListNarrows(t *testing.T) {
	own := sessions.Caller{UserID: "u1", ClientID: "c1", SessionID: "s1"}
	for _, c := range []struct {
		visibility, client string
		filter             sessions.Filter
		asked              string
	}{
		{sessions.VisibilityUser, "", sessions.Filter{UserID: "u1"}, "list"},
		{sessions.VisibilityUser, "c2", sessions.Filter{UserID: "u1", ClientID: "c2"}, "list"},
		{sessions.VisibilityClient, "", sessions.Filter{UserID: "u1", ClientID: "c1"}, "list"},
		{sessions.VisibilityClient, "c1", sessions.Filter{UserID: "u1", ClientID: "c1"}, "list"},
		{sessions.VisibilityClient, "c2", sessions.Filter{}, ""},
	} {
		for _, order := range []sessions.Order{nil, {{By: sessions.LastUsed}}} {
			m, r := newManager(c.visibility)
			if _, err := m.List(t.Context(), own, sessions.Query{ClientID: c.client, Order: order, Size: 5}); err != nil {
				t.Error(err)
			}
			r.filter.Limit = 0
			if r.asked != c.asked || r.filter != c.filter {
				t.Errorf("%+v: asked %q for %+v", c, r.asked, r.filter)
			}
		}
	}
}

func TestDefaultOrderGoesByPosition(t *testing.T) {
	own := sessions.Caller{UserID: "u1", ClientID: "c1", SessionID: "s1"}
	at := &sessions.Session{ID: "s9", CreatedAt: noon.Add(time.Hour)}
	for _, order := range []sessions.Order{nil, {{By: sessions.Created, Descending: true}}} {
		m, r := newManager("")
		r.session.CreatedAt = noon
		if page, err := m.List(t.Context(), own, sessions.Query{Order: order, After: at, Size: 1}); err != nil || len(page.Sessions) != 1 {
			t.Errorf("%v, %v", page, err)
		}
		// The last question is whether something is ahead of the page.
		if want := (sessions.Filter{UserID: "u1", Before: sessions.Position{CreatedAt: noon, ID: "s1"}, Limit: 1}); r.filter != want {
			t.Errorf("asked for %+v, want %+v", r.filter, want)
		}
	}
}
