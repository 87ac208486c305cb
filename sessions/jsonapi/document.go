package jsonapi

import (
	"bytes"
	"encoding/json"
	"net/http"
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
	Meta  meta   `json:"meta"`
	Data  any    `json:"data"` // resource or []resource
	Links *links `json:"links,omitempty"`
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

type attributes struct {
	CustomAttributes        map[string]string `json:"customAttributes"` // never null
	ClientID                string            `json:"clientId"`
	ConsentTimestamp        timestamp         `json:"consentTimestamp"`
	AuthenticationTimestamp timestamp         `json:"authenticationTimestamp"`

	ClientName        string    `json:"clientName"`
	Scopes            []string  `json:"scopes"` // never null
	CreatedTimestamp  timestamp `json:"createdTimestamp"`
	LastUsedTimestamp timestamp `json:"lastUsedTimestamp"`
	ExpiresTimestamp  timestamp `json:"expiresTimestamp"`
	Offline           bool      `json:"offline"`
	Current           bool      `json:"current"` // the caller's own
}

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

// resource describes s to the caller c. The user's address, browser and subject
// stay out: they are none of another relying party's business.
func (h *Handler) resource(s *sessions.Session, c sessions.Caller) resource {
	r := resource{
		Type: "oauth2-session",
		ID:   s.ID,
		Attributes: attributes{
			CustomAttributes:        s.CustomAttributes,
			ClientID:                s.ClientID,
			ConsentTimestamp:        timestamp(s.ConsentedAt),
			AuthenticationTimestamp: timestamp(s.AuthenticatedAt),
			ClientName:              s.ClientName,
			Scopes:                  s.Scopes,
			CreatedTimestamp:        timestamp(s.CreatedAt),
			LastUsedTimestamp:       timestamp(s.LastUsedAt),
			ExpiresTimestamp:        timestamp(s.ExpiresAt),
			Offline:                 s.Offline,
			Current:                 s.ID == c.SessionID,
		},
		Links: links{Self: h.base + "/sessions/" + s.ID + "/"},
	}
	if r.Attributes.CustomAttributes == nil {
		r.Attributes.CustomAttributes = map[string]string{}
	}
	if r.Attributes.Scopes == nil {
		r.Attributes.Scopes = []string{}
	}
	return r
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
	w.Write(content) // an error here is the caller's connection
}
