package jsonapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"gatehouse.dev/gatehouse/sessions"
)

const (
	// maxDocument bounds the body of a request, in bytes.
	maxDocument = 16 << 10
	// maxDepth bounds how deep objects and arrays in it are nested.
	maxDepth = 16
)

// readDocument reads the body of a request as far as it is taken.
func readDocument(r *http.Request) ([]byte, error) {
	if r.ContentLength > maxDocument {
		return nil, documentTooLarge()
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxDocument+1))
	switch {
	case err != nil:
		return nil, malformedDocument("The document could not be read to its end.")
	case len(body) > maxDocument:
		return nil, documentTooLarge()
	}
	return body, nil
}

// readChange reads a document that changes the session id (JSON:API 1.1,
// Updating Resources) and returns what it says of custom attributes, still to be
// judged by the Manager. The problems are all faults that can be seen without
// it; what they are about is not in the change. Members that JSON:API does not
// know, or that say nothing about the session, are left aside, as it demands.
func readChange(body []byte, id string) (map[string]any, problems, error) {
	document, err := decode(body)
	if err != nil {
		return nil, nil, malformedDocument("The document is not JSON in UTF-8 without repeated members, nested at most " + strconv.Itoa(maxDepth) + " deep.")
	}
	top, _ := document.(map[string]any)
	data, ok := top["data"].(map[string]any)
	if !ok {
		return nil, nil, malformedDocument("The document has no member data that is one resource object.")
	}
	dataType, typed := data["type"].(string)
	dataID, identified := data["id"].(string)
	if !typed || !identified {
		return nil, nil, malformedDocument("The resource object lacks type or id, or one of them is not a string.")
	}
	attributes, ok := data["attributes"].(map[string]any)
	if _, given := data["attributes"]; given && !ok {
		return nil, nil, malformedDocument("The attributes of the resource object are not an object.")
	}
	relationships, ok := data["relationships"].(map[string]any)
	if _, given := data["relationships"]; given && !ok {
		return nil, nil, malformedDocument("The relationships of the resource object are not an object.")
	}

	var found problems
	if dataType != resourceType {
		found = append(found, resourceMismatch("/data/type"))
	}
	if dataID != id {
		found = append(found, resourceMismatch("/data/id"))
	}
	if found != nil {
		return nil, nil, found // of another resource nothing else is judged
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		switch {
		case name == "customAttributes":
		case slices.Contains(attributeNames, name):
			found = append(found, attributeProblem(sessions.ErrAttributeNotUpdatable, "/data/attributes", name))
		default:
			found = append(found, attributeProblem(sessions.ErrAttributeUnknown, "/data/attributes", name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(relationships)) {
		found = append(found, attributeProblem(sessions.ErrAttributeUnknown, "/data/relationships", name))
	}
	custom, given := attributes["customAttributes"]
	change, ok := custom.(map[string]any)
	if given && !ok {
		found = append(found, attributeProblem(sessions.ErrAttributeInvalid, "/data/attributes", "customAttributes"))
	}
	return change, found, nil
}

// faultsOf are the Manager's refusals as problems; other errors stay.
func faultsOf(err error) (problems, error) {
	var faults sessions.AttributeFaults
	if !errors.As(err, &faults) {
		return nil, err
	}
	var found problems
	for _, fault := range faults {
		found = append(found, attributeProblem(fault.Err, "/data/attributes/customAttributes", fault.Name))
	}
	return found, nil
}

// pointer appends the name of a member to a JSON pointer (RFC 6901 §3).
func pointer(parent, name string) string {
	return parent + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

var errDocument = errors.New("document is malformed")

// decode reads one JSON text (RFC 8259) and nothing behind it. It refuses what
// two readers could take for two things: text that is not UTF-8, halves of
// surrogate pairs, and members that come twice, of which encoding/json would
// repair or forget some.
func decode(text []byte) (any, error) {
	if !utf8.Valid(text) || !json.Valid(text) || halfSurrogate(text) {
		return nil, errDocument
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return decodeValue(d, maxDepth)
}

// decodeValue reads the next value, in which depth levels may be nested.
func decodeValue(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDocument, err)
	}
	opening, nested := token.(json.Delim)
	switch {
	case !nested:
		return token, nil
	case depth == 0:
		return nil, errDocument
	}
	object, array := map[string]any{}, []any{}
	for d.More() {
		var name string
		if opening == '{' {
			token, err := d.Token()
			if err != nil {
				return nil, fmt.Errorf("%w: %w", errDocument, err)
			}
			name, _ = token.(string)
			if _, twice := object[name]; twice {
				return nil, errDocument
			}
		}
		value, err := decodeValue(d, depth-1)
		if err != nil {
			return nil, err
		}
		object[name], array = value, append(array, value)
	}
	if _, err := d.Token(); err != nil { // what closes it
		return nil, fmt.Errorf("%w: %w", errDocument, err)
	}
	if opening == '{' {
		return object, nil
	}
	return array, nil
}

// halfSurrogate tells whether valid JSON has an escaped half of a surrogate pair
// without the other (RFC 8259 §8.2).
func halfSurrogate(text []byte) bool {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++ // the escaped character, which can be another backslash
		if text[i] != 'u' {
			continue
		}
		first := escaped(text[i-1:])
		i += 4
		if !utf16.IsSurrogate(first) {
			continue
		}
		if utf16.DecodeRune(first, escaped(text[i+1:])) == utf8.RuneError {
			return true
		}
		i += 6
	}
	return false
}

// escaped reads the \uXXXX that text begins with; -1 where it does not.
func escaped(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}
