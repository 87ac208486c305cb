package sessions

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// DefaultPattern is what the value of a custom attribute without a source must
// match where its declaration says nothing else.
const DefaultPattern = `.{1,200}`

// Why a change of a custom attribute is refused.
var (
	// ErrAttributeUnknown: no attribute of that name is declared.
	ErrAttributeUnknown = errors.New("custom attribute is not declared")
	// ErrAttributeNotUpdatable: clients may not change the attribute.
	ErrAttributeNotUpdatable = errors.New("custom attribute may not be changed")
	// ErrAttributeInvalid: the value is no text, or does not match the pattern.
	ErrAttributeInvalid = errors.New("value of the custom attribute is not valid")
)

// Attribute declares a custom attribute that sessions of an authorization
// server may carry.
type Attribute struct {
	Name      string
	Pattern   string // RE2; the whole value must match. Default: DefaultPattern, with a source DefaultSourcedPattern
	Updatable bool   // whether a client may set and remove it
	Source    Source // where the server takes it from at each authorization. Default: none, only clients set it
}

// Attributes are the custom attributes that are declared for an authorization
// server. A nil *Attributes declares none. It is safe for concurrent use.
type Attributes struct {
	declared map[string]declaration
	sourced  []string // names of those with a source, sorted
}

type declaration struct {
	pattern   *regexp.Regexp
	updatable bool
	source    Source
}

// NewAttributes compiles declarations. It returns an error for a name that is
// empty or declared twice, for a pattern that does not compile, and for a
// source that is none.
func NewAttributes(list []Attribute) (*Attributes, error) {
	a := &Attributes{declared: make(map[string]declaration, len(list))}
	for _, attribute := range list {
		if _, twice := a.declared[attribute.Name]; twice || attribute.Name == "" {
			return nil, fmt.Errorf("custom attribute %q: its name is empty or another one's", attribute.Name)
		}
		if err := attribute.Source.check(); err != nil {
			return nil, fmt.Errorf("custom attribute %q: %w", attribute.Name, err)
		}
		pattern := attribute.Pattern
		switch {
		case pattern != "":
		case attribute.Source == (Source{}):
			pattern = DefaultPattern
		default:
			pattern = DefaultSourcedPattern
		}
		// By itself first: "a)|(b" compiles within the group, and unties the anchors.
		if _, err := regexp.Compile(pattern); err != nil {
			return nil, fmt.Errorf("custom attribute %q: %w", attribute.Name, err)
		}
		whole, err := regexp.Compile(`^(?:` + pattern + `)$`)
		if err != nil {
			return nil, fmt.Errorf("custom attribute %q: %w", attribute.Name, err)
		}
		a.declared[attribute.Name] = declaration{pattern: whole, updatable: attribute.Updatable, source: attribute.Source}
		if attribute.Source != (Source{}) {
			a.sourced = append(a.sourced, attribute.Name)
		}
	}
	slices.Sort(a.sourced)
	return a, nil
}

// AttributeFault says what is wrong with the change of one custom attribute.
type AttributeFault struct {
	Name string
	Err  error // ErrAttributeUnknown, ErrAttributeNotUpdatable, ErrAttributeInvalid; of a source also ErrAttributeAbsent
}

// AttributeFaults are all faults of one change, in order of name. It is never
// empty, and never tells a value.
type AttributeFaults []AttributeFault

// Error implements error.
func (f AttributeFaults) Error() string {
	texts := make([]string, len(f))
	for i, fault := range f {
		texts[i] = fmt.Sprintf("%q: %v", fault.Name, fault.Err)
	}
	return strings.Join(texts, "; ")
}

// Check judges a change of custom attributes as a client sent it: a string sets
// a value, nil removes it, and nothing else is a value. It returns nil, or
// AttributeFaults with every fault.
func (a *Attributes) Check(change map[string]any) error {
	var faults AttributeFaults
	for _, name := range slices.Sorted(maps.Keys(change)) {
		if err := a.check(name, change[name]); err != nil {
			faults = append(faults, AttributeFault{Name: name, Err: err})
		}
	}
	if faults == nil {
		return nil
	}
	return faults
}

func (a *Attributes) check(name string, value any) error {
	var (
		declared declaration
		known    bool
	)
	if a != nil {
		declared, known = a.declared[name]
	}
	if !known {
		return ErrAttributeUnknown
	}
	if !declared.updatable {
		return ErrAttributeNotUpdatable
	}
	if value == nil {
		return nil
	}
	text, isText := value.(string)
	if !isText || !declared.pattern.MatchString(text) {
		return ErrAttributeInvalid
	}
	return nil
}

// shown takes from a session what is not declared any more: what the operator
// took out of the configuration goes to nobody.
func (a *Attributes) shown(s *Session) {
	if len(s.CustomAttributes) == 0 {
		return
	}
	kept := make(map[string]string, len(s.CustomAttributes))
	for name, value := range s.CustomAttributes {
		if a == nil {
			break
		}
		if _, known := a.declared[name]; known {
			kept[name] = value
		}
	}
	s.CustomAttributes = kept
}
