package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// Shapes of the session API's wire format.
var (
	sessionIDShape = regexp.MustCompile(`^[A-Za-z0-9]{40}$`)
	timestampShape = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$`)
)

func isSessionID(s string) bool { return sessionIDShape.MatchString(s) }

// attributeNames are the attributes of a session, in their order.
var attributeNames = []string{
	"customAttributes", "clientId", "consentTimestamp", "authenticationTimestamp",
	"clientName", "scopes", "createdTimestamp", "lastUsedTimestamp", "expiresTimestamp", "offline", "current",
}

// answer checks what every answer of the session API with a body has.
func (w *walk) answer(res *http.Response, status int) {
	w.check(res.StatusCode == status, "status %d", status)
	w.check(res.Header.Get("Content-Type") == "application/vnd.api+json", "Content-Type: application/vnd.api+json")
	w.check(res.Header.Get("Cache-Control") == "no-store", "Cache-Control: no-store")
}

// document checks the members of a document whose links.self is self, and
// returns the one called name.
func (w *walk) document(body []byte, self, name string) json.RawMessage {
	names, members, err := object(body)
	if !w.check(err == nil && slices.Equal(names, []string{"meta", name, "links"}), "a document of meta, %s and links", name) {
		return nil
	}
	w.meta(members["meta"])
	links := `{"self":"` + self + `"}`
	if self == w.issuer+"/sessions/" { // a list that is one page
		links = `{"self":"` + self + `","first":"` + self + `","prev":null,"next":null}`
	}
	w.check(string(members["links"]) == links, "links.self is %s", self)
	return members[name]
}

func (w *walk) meta(raw json.RawMessage) {
	names, members, err := object(raw)
	w.check(err == nil && slices.Equal(names, []string{"type", "timestamp"}) &&
		string(members["type"]) == `"jsonapi.metadata.document"` && isTimestamp(members["timestamp"]), "meta has type and time")
}

// sessionResource is what the walk reads of a session.
type sessionResource struct {
	ID         string `json:"id"`
	Attributes struct {
		ClientID string `json:"clientId"`
		Current  bool   `json:"current"`
	} `json:"attributes"`
}

// resource checks the members of a session, their order and forms, and returns
// the session, or nil.
func (w *walk) resource(raw json.RawMessage) *sessionResource {
	names, members, err := object(raw)
	ok := err == nil && slices.Equal(names, []string{"type", "id", "attributes", "links"}) && string(members["type"]) == `"oauth2-session"`
	if !w.check(ok, "a resource of type oauth2-session") {
		return nil
	}
	var s sessionResource
	if err := json.Unmarshal(raw, &s); !w.check(err == nil && isSessionID(s.ID), "with an id of 40 letters and digits") {
		return nil
	}
	w.check(string(members["links"]) == `{"self":"`+w.issuer+"/sessions/"+s.ID+`/"}`, "and a link to itself")
	names, attributes, err := object(members["attributes"])
	ok = err == nil && slices.Equal(names, attributeNames)
	w.check(ok, "its attributes are those documented, in their order")
	for name, value := range attributes {
		switch name {
		case "authenticationTimestamp", "consentTimestamp", "createdTimestamp", "lastUsedTimestamp", "expiresTimestamp":
			ok = ok && isTimestamp(value)
		case "customAttributes":
			ok = ok && len(value) > 0 && value[0] == '{'
		}
	}
	w.check(ok, "and in their forms, times in UTC with three decimals")
	return &s
}

// problem checks a document of one error.
func (w *walk) problem(body []byte, status, code string) {
	names, members, err := object(body)
	if !w.check(err == nil && slices.Equal(names, []string{"meta", "errors"}), "a document of meta and errors") {
		return
	}
	w.meta(members["meta"])
	var errs []map[string]any
	err = json.Unmarshal(members["errors"], &errs)
	w.check(err == nil && len(errs) == 1 && errs[0]["status"] == status && errs[0]["code"] == code && errs[0]["id"] != "", "one error with status %q and code %s", status, code)
}

func isTimestamp(raw json.RawMessage) bool {
	var s string
	return json.Unmarshal(raw, &s) == nil && timestampShape.MatchString(s)
}

// object reads a JSON object with its members' names in their order.
func object(raw []byte) (names []string, members map[string]json.RawMessage, err error) {
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, nil, err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return nil, nil, err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, nil, err
		}
		var skipped json.RawMessage
		if err := d.Decode(&skipped); err != nil {
			return nil, nil, err
		}
		names = append(names, name.(string)) // encoding/json allows no other name
	}
	return names, members, nil
}

// idClaims are the claims of an ID token that the walk reads.
type idClaims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  audience `json:"aud"`
	Nonce     string   `json:"nonce"`
	SessionID string   `json:"sid"`
}

// audience is one string or several (RFC 7519 §4.1.3).
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(a))
}

// verifyIDToken checks the signature against a JSON Web Key Set.
func verifyIDToken(token string, keySet []byte) (*idClaims, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(keySet, &set); err != nil {
		return nil, err
	}
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.PS256, jose.EdDSA})
	if err != nil {
		return nil, err
	}
	found := set.Key(signed.Signatures[0].Header.KeyID)
	if len(found) != 1 {
		return nil, errors.New("the key is not in the set")
	}
	payload, err := signed.Verify(found[0])
	if err != nil {
		return nil, err
	}
	var claims idClaims
	if err := json.Unmarshal(payload, &claims); err != nil {
		return nil, err
	}
	return &claims, nil
}
