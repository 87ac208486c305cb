package sessions

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// DefaultSourcedPattern is what the value of a custom attribute with a source
// must match where its declaration says nothing else: up to 500 letters, marks,
// digits, punctuation marks, symbols and spaces.
const DefaultSourcedPattern = `[\pL\pM\pN\pP\pS ]{1,500}`

// maxSourced bounds a value of a source in bytes, whatever the pattern admits:
// it is written into a row for whoever can send a browser to /authorize.
const maxSourced = 4 << 10

// Kinds of sources.
const (
	SourceClaim         = "claim"          // Name: a claim of the user (OpenID Connect Core 1.0 §5.1); address.locality and the like for members
	SourceHeader        = "header"         // Name: a header of the browser's request; whoever is no proxy of ours can write any
	SourceUserAgent     = "user_agent"     // the browser's User-Agent
	SourceClientAddress = "client_address" // the browser's IP address, as trusted proxies tell it
)

// Source is where the server itself takes the value of a custom attribute from,
// at each authorization. The zero value is none.
type Source struct {
	Kind string // one of the kinds
	Name string // of the claim or header; empty for the other kinds
}

// check returns an error for a source that is none.
func (s Source) check() error {
	switch s.Kind {
	case SourceClaim, SourceHeader:
		if s.Name == "" {
			return fmt.Errorf("source %s has no name", s.Kind)
		}
	case "", SourceUserAgent, SourceClientAddress:
		if s.Name != "" {
			return fmt.Errorf("source %q has a name", s.Kind)
		}
	default:
		return fmt.Errorf("source %q is not known", s.Kind)
	}
	return nil
}

// ErrAttributeAbsent: the source of a custom attribute says nothing.
var ErrAttributeAbsent = errors.New("source of the custom attribute has no value")

// Sources are those of the declared attributes, in order of the attributes'
// names.
func (a *Attributes) Sources() []Source {
	if a == nil {
		return nil
	}
	sources := make([]Source, len(a.sourced))
	for i, name := range a.sourced {
		sources[i] = a.declared[name].source
	}
	return sources
}

// Sourced returns what an authorization changes of a session's custom
// attributes: value tells what a source says, empty for nothing. Each attribute
// with a source is in the change: with the value if that is taken, else with
// nil, which removes what an earlier authorization or a client has set. The
// faults say what was left out and why (ErrAttributeAbsent or
// ErrAttributeInvalid), in order of name, without a value.
//
// Taken is what matches the pattern, is UTF-8 of at most 4 KiB and has no
// control characters, even where the pattern admits them.
func (a *Attributes) Sourced(value func(Source) string) (change map[string]*string, faults []AttributeFault) {
	if a == nil || len(a.sourced) == 0 {
		return nil, nil
	}
	change = make(map[string]*string, len(a.sourced))
	for _, name := range a.sourced {
		declared := a.declared[name]
		change[name] = nil
		switch text := value(declared.source); {
		case text == "":
			faults = append(faults, AttributeFault{Name: name, Err: ErrAttributeAbsent})
		case len(text) > maxSourced || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) || !declared.pattern.MatchString(text):
			faults = append(faults, AttributeFault{Name: name, Err: ErrAttributeInvalid})
		default:
			change[name] = &text
		}
	}
	return change, faults
}
