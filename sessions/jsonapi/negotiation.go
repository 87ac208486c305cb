package jsonapi

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// acceptable tells whether the Accept header, given by its field lines, lets us
// send mediaType without parameters (JSON:API 1.1, Content Negotiation, Server
// Responsibilities). It does unless it names that type and each time with a parameter that we would have to honour.
// Other types, "*/*" among them, neither help nor hinder: a client that asks for
// application/json gets our document, one that insists on an extension of the
// JSON:API type does not.
func acceptable(lines []string) bool {
	named := false
	for _, line := range lines {
		for _, element := range split(line) {
			if !isJSONAPI(element) {
				continue
			}
			named = true
			_, params, err := mime.ParseMediaType(element)
			if err == nil && plain(params) && weight(params["q"]) > 0 {
				return true
			}
		}
	}
	return !named
}

// supportedContent tells whether the request's Content-Type can be taken. The
// JSON:API type must be without parameters but profile (JSON:API 1.1, Content
// Negotiation), whatever the method. Another type must be JSON where there is content; where
// there is none it is ignored, because many clients name a type all the same.
// Whoever reads the content demands a type, and content that is not encoded.
func supportedContent(r *http.Request, reads bool) bool {
	header := r.Header.Get("Content-Type")
	if reads && r.Header.Get("Content-Encoding") != "" {
		return false // RFC 9110 §8.4
	}
	if header == "" {
		return !reads
	}
	name, params, err := mime.ParseMediaType(header)
	switch {
	case isJSONAPI(header):
		_, weighted := params["q"] // a parameter like any other here
		return err == nil && plain(params) && !weighted
	case r.ContentLength == 0 && !reads:
		return true
	}
	return err == nil && name == "application/json"
}

// plain tells whether a JSON:API media type with these parameters is the one
// that we speak. Any profile may be asked for and is ignored; we know no
// extension; a weight is not the type's (RFC 9110 §12.4.2).
func plain(params map[string]string) bool {
	for name, value := range params {
		switch name {
		case "q", "profile":
		case "ext":
			if strings.TrimSpace(value) != "" {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// weight is the value of a q parameter; a missing one is 1, a broken one 0.
func weight(q string) float64 {
	if q == "" {
		return 1
	}
	w, err := strconv.ParseFloat(q, 64)
	if err != nil {
		return 0
	}
	return w
}

// isJSONAPI tells whether the media range names the JSON:API type, whatever its
// parameters and however broken they are.
func isJSONAPI(element string) bool {
	name, _, _ := strings.Cut(element, ";")
	return strings.EqualFold(strings.TrimSpace(name), mediaType)
}

// split cuts a list at its commas, but not within quoted strings (RFC 9110
// §5.6.1, §5.6.4). A string that is never closed lasts to the end.
func split(list string) []string {
	var elements []string
	start, quoted := 0, false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			elements = append(elements, list[start:i])
			start = i + 1
		}
	}
	return append(elements, list[start:])
}
