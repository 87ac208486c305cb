package usersapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// userDocument is a user's sessions; empty where there are none, as WSO2
// answers. The order of the members here and below is that of the wire; new ones
// go to the end. What is unknown is left out, never null.
type userDocument struct {
	UserID   string    `json:"userId,omitempty"`
	Sessions []session `json:"sessions,omitempty"`
}

// realmDocument is a page of the realm's sessions.
type realmDocument struct {
	Resources []session `json:"Resources"` // never null
	Previous  string    `json:"previous,omitempty"`
	Next      string    `json:"next,omitempty"`
}

// session is a login, or a session without one, with its applications.
type session struct {
	UserID         string        `json:"userId,omitempty"` // where the document doesn't say it
	Applications   []application `json:"applications"`     // never null
	UserAgent      string        `json:"userAgent,omitempty"`
	IP             string        `json:"ip,omitempty"`
	LoginTime      millis        `json:"loginTime"`
	LastAccessTime millis        `json:"lastAccessTime"`
	ID             string        `json:"id"`

	Current    bool    `json:"current"`
	ExpiryTime millis  `json:"expiryTime"`
	Device     *device `json:"device,omitempty"`
}

type application struct {
	ID      string `json:"id"`      // the client's UUID
	Subject string `json:"subject"` // the user name
	AppName string `json:"appName"`
	AppID   string `json:"appId"` // the client's number

	SessionIDs          []string `json:"sessionIds"` // each a sid
	AuthorizationServer string   `json:"authorizationServer"`
	Scopes              []string `json:"scopes"` // never null
}

// millis is a time on the wire: a string of milliseconds since 1970.
type millis time.Time

// MarshalJSON implements json.Marshaler.
func (m millis) MarshalJSON() ([]byte, error) {
	return []byte(`"` + strconv.FormatInt(time.Time(m).UnixMilli(), 10) + `"`), nil
}

func (c *call) userDocument(user string, found []sessions.Entry) any {
	if len(found) == 0 {
		return &userDocument{}
	}
	doc := &userDocument{UserID: user}
	for i := range found {
		doc.Sessions = append(doc.Sessions, c.session(&found[i]))
	}
	return doc
}

// item is a session that says whose it is.
func (c *call) item(e *sessions.Entry) session {
	s := c.session(e)
	s.UserID = e.UserID
	return s
}

func (c *call) session(e *sessions.Entry) session {
	s := session{Applications: []application{}, UserAgent: e.UserAgent, IP: e.Address, LoginTime: millis(e.CreatedAt),
		LastAccessTime: millis(e.LastAccessAt), ID: e.ID, Current: e.Has(c.caller.Current), ExpiryTime: millis(e.ExpiresAt)}
	for _, a := range e.Applications {
		scopes := a.Scopes
		if scopes == nil {
			scopes = []string{}
		}
		s.Applications = append(s.Applications, application{ID: a.ID, Subject: e.Username, AppName: a.Name,
			AppID: strconv.FormatInt(a.Number, 10), SessionIDs: []string{a.SessionID}, AuthorizationServer: a.AuthorizationServer, Scopes: scopes})
	}
	if e.Login && (e.UserAgent != "" || e.DeviceName != "") {
		s.Device = newDevice(e.UserAgent, e.DeviceName)
	}
	return s
}

// write sends a document of ours. net/http leaves the body out for HEAD. User
// agents are what strangers wrote: <, > and & are escaped, so that they are
// harmless also where somebody shows the answer as a page.
func (h *Handler) write(w http.ResponseWriter, status int, doc any) {
	content, err := json.Marshal(doc)
	if err != nil {
		h.cfg.Logger.Error("encoding an answer", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	w.WriteHeader(status)
	_, _ = w.Write(content) // an error here is the caller's connection
}
