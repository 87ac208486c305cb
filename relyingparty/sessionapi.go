package relyingparty

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// maxListed bounds how many sessions are shown.
const maxListed = 200

var (
	// errForbidden: the session API refuses this application (403).
	errForbidden = errors.New("the session API forbids it")
	// errMissing: there is no such session (404).
	errMissing = errors.New("no such session")
)

// sessionID is what can be the id of a session in a path.
var sessionID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// listed is one session of the user, at this or another application.
type listed struct {
	ID            string
	Application   string
	Authenticated time.Time // zero: not said
	Used          time.Time // zero: not said
	Expires       time.Time // zero: not said
	Current       bool
}

// sessionList is what the session API lists.
type sessionList struct {
	Sessions []listed // the current one first, otherwise as they came
	More     int      // that are left out
	Others   int      // of those listed, how many are not the current one
}

// list reads the user's sessions: GET {issuer}/sessions/.
func (p *RelyingParty) list(ctx context.Context, v *visit) (*sessionList, error) {
	body, err := p.call(ctx, v, http.MethodGet, "/sessions/")
	if err != nil {
		return nil, err
	}
	var document struct {
		Data []struct {
			Type       string `json:"type"`
			ID         string `json:"id"`
			Attributes struct {
				ClientID      string `json:"clientId"`
				ClientName    string `json:"clientName"`
				Authenticated string `json:"authenticationTimestamp"`
				Used          string `json:"lastUsedTimestamp"`
				Expires       string `json:"expiresTimestamp"`
				Current       bool   `json:"current"`
			} `json:"attributes"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &document); err != nil {
		return nil, fmt.Errorf("%w: session API: not a document of sessions", errRefused)
	}
	out := &sessionList{}
	for _, d := range document.Data {
		if d.Type != "oauth2-session" || !sessionID.MatchString(d.ID) {
			return nil, fmt.Errorf("%w: session API: not a session", errRefused)
		}
		s := listed{ID: d.ID, Application: short(d.Attributes.ClientName, 100), Authenticated: timestamp(d.Attributes.Authenticated),
			Used: timestamp(d.Attributes.Used), Expires: timestamp(d.Attributes.Expires), Current: d.Attributes.Current || d.ID == v.sid}
		if s.Application == "" {
			s.Application = short(d.Attributes.ClientID, 100)
		}
		if s.Current {
			out.Sessions = append([]listed{s}, out.Sessions...)
		} else {
			out.Sessions = append(out.Sessions, s)
			out.Others++
		}
	}
	if len(out.Sessions) > maxListed {
		out.More = len(out.Sessions) - maxListed
		out.Sessions = out.Sessions[:maxListed]
	}
	return out, nil
}

// timestamp reads an RFC 3339 time, zero for anything else.
func timestamp(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// end ends what a path of the session API names.
func (p *RelyingParty) end(ctx context.Context, v *visit, path string) error {
	_, err := p.call(ctx, v, http.MethodDelete, path)
	return err
}

// call calls the session API with an access token that is good for a while.
// Where that is refused all the same, new tokens tell whether it was the token
// or the session that ended. Returns errEnded, after which the visit has ended,
// errUnavailable, errForbidden, errMissing or errRefused.
func (p *RelyingParty) call(ctx context.Context, v *visit, method, path string) ([]byte, error) {
	before := v.accessToken
	if err := p.freshen(ctx, v); err != nil {
		return nil, err
	}
	status, body, err := p.ask(ctx, v, method, path)
	if err != nil {
		return nil, err
	}
	if status == http.StatusUnauthorized && v.refreshToken != "" && v.accessToken == before {
		if err := p.renew(ctx, v); err != nil {
			return nil, err
		}
		if status, body, err = p.ask(ctx, v, method, path); err != nil {
			return nil, err
		}
	}
	switch {
	case status == http.StatusOK && method == http.MethodGet, status == http.StatusNoContent && method == http.MethodDelete:
		return body, nil
	case status == http.StatusUnauthorized:
		v.end()
		return nil, fmt.Errorf("%w: session API: 401", errEnded)
	case status == http.StatusForbidden:
		return nil, errForbidden
	case status == http.StatusNotFound && method == http.MethodDelete:
		return nil, errMissing
	case status >= http.StatusInternalServerError:
		return nil, fmt.Errorf("%w: session API: %d", errUnavailable, status)
	}
	return nil, fmt.Errorf("%w: session API: %d", errRefused, status)
}

// ask makes one call of the session API. The body is that of a JSON:API
// document, nil where there is none.
func (p *RelyingParty) ask(ctx context.Context, v *visit, method, path string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(p.cfg.Issuer, "/")+path, nil) //nolint:gosec // the issuer is configured, and an id in the path was checked
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+v.accessToken)
	req.Header.Set("Accept", "application/vnd.api+json")
	res, err := p.client.Do(req) //nolint:gosec // as above
	if err != nil {
		return 0, nil, fmt.Errorf("%w: session API: %w", errUnavailable, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return res.StatusCode, nil, nil
	}
	if media, _, err := mime.ParseMediaType(res.Header.Get("Content-Type")); err != nil || media != "application/vnd.api+json" {
		return 0, nil, fmt.Errorf("%w: session API: another content type", errRefused)
	}
	body, err = io.ReadAll(res.Body)
	if errors.Is(err, errTooLarge) {
		return 0, nil, fmt.Errorf("%w: session API: %w", errRefused, err)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("%w: session API: %w", errUnavailable, err)
	}
	return res.StatusCode, body, nil
}
