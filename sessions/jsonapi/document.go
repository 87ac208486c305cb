package jsonapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// mediaType is the type of every document (JSON:API 1.1, Content Negotiation).
const mediaType = "application/vnd.api+json"

// document is a top-level document with primary data. The order of the members
// here, in resource and in attributes is that of the wire; new attributes go to
// the end.
type document struct {
	Meta  meta `json:"meta"`
	Data  any  `json:"data"`  // resource or []resource
	Links any  `json:"links"` // links or *pageLinks
}

type meta struct {
	Type      string    `json:"type"`
	Timestamp timestamp `json:"timestamp"` // the server's clock
}

type links struct {
	Self string `json:"self"`
}

// resource is one OAuth 2.0 session.
type resource struct {
	Type       string     `json:"type"`
	ID         string     `json:"id"` // the sid
	Attributes attributes `json:"attributes"`
	Links      links      `json:"links"`
}

// attributes are those that were asked for; the others are nil.
type attributes struct {
	CustomAttributes        *map[string]string `json:"customAttributes,omitempty"` // never null
	ClientID                *string            `json:"clientId,omitempty"`
	ConsentTimestamp        *timestamp         `json:"consentTimestamp,omitempty"`
	AuthenticationTimestamp *timestamp         `json:"authenticationTimestamp,omitempty"`

	ClientName        *string    `json:"clientName,omitempty"`
	Scopes            *[]string  `json:"scopes,omitempty"` // never null
	CreatedTimestamp  *timestamp `json:"createdTimestamp,omitempty"`
	LastUsedTimestamp *timestamp `json:"lastUsedTimestamp,omitempty"`
	ExpiresTimestamp  *timestamp `json:"expiresTimestamp,omitempty"`
	Offline           *bool      `json:"offline,omitempty"`
	Current           *bool      `json:"current,omitempty"` // the caller's own
}

// attributeNames are the names of all attributes.
var attributeNames = []string{"customAttributes", "clientId", "consentTimestamp", "authenticationTimestamp",
	"clientName", "scopes", "createdTimestamp", "lastUsedTimestamp", "expiresTimestamp", "offline", "current"}

// timestamp is a time on the wire: RFC 3339, UTC, exactly three decimals, "Z".
// One that never was (no consent was asked for) is null.
type timestamp time.Time

// MarshalJSON implements json.Marshaler.
func (t timestamp) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte("null"), nil
	}
	return []byte(time.Time(t).UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

// resourceType is the type of every resource object.
const resourceType = "oauth2-session"

// resource describes s to the caller c, with the attributes that fields names;
// nil: all. The user's address, browser and subject stay out: they are none of
// another relying party's business.
func (h *Handler) resource(s *sessions.Session, c sessions.Caller, fields []string) resource {
	custom, scopes := s.CustomAttributes, s.Scopes
	if custom == nil {
		custom = map[string]string{}
	}
	if scopes == nil {
		scopes = []string{}
	}
	return resource{
		Type: resourceType,
		ID:   s.ID,
		Attributes: attributes{
			CustomAttributes:        pick(fields, "customAttributes", custom),
			ClientID:                pick(fields, "clientId", s.ClientID),
			ConsentTimestamp:        pick(fields, "consentTimestamp", timestamp(s.ConsentedAt)),
			AuthenticationTimestamp: pick(fields, "authenticationTimestamp", timestamp(s.AuthenticatedAt)),
			ClientName:              pick(fields, "clientName", s.ClientName),
			Scopes:                  pick(fields, "scopes", scopes),
			CreatedTimestamp:        pick(fields, "createdTimestamp", timestamp(s.CreatedAt)),
			LastUsedTimestamp:       pick(fields, "lastUsedTimestamp", timestamp(s.LastUsedAt)),
			ExpiresTimestamp:        pick(fields, "expiresTimestamp", timestamp(s.ExpiresAt)),
			Offline:                 pick(fields, "offline", s.Offline),
			Current:                 pick(fields, "current", s.ID == c.SessionID),
		},
		Links: links{Self: h.base + "/sessions/" + s.ID + "/"},
	}
}

// pick is a value that was asked for, or nil.
func pick[T any](fields []string, name string, value T) *T {
	if fields != nil && !slices.Contains(fields, name) {
		return nil
	}
	return &value
}

func (h *Handler) meta() meta {
	return meta{Type: "jsonapi.metadata.document", Timestamp: timestamp(h.cfg.Now())}
}

// write sends a document of ours. net/http leaves the body out for HEAD.
func (h *Handler) write(w http.ResponseWriter, status int, doc any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // names are sent as people wrote them; no browser takes this type for HTML
	if err := encoder.Encode(doc); err != nil {
		h.cfg.Logger.Error("encoding a JSON:API document", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	content := bytes.TrimSuffix(body.Bytes(), []byte("\n"))
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	w.WriteHeader(status)
	_, _ = w.Write(content) // an error here is the caller's connection
}
