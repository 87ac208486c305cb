package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/sessions"
)

// Names of the parameters of a page's URL.
const (
	pageServer  = "as"
	pageStamp   = PageStamp
	pageRequest = "request"
)

// PageStamp is the field that carries what is sealed.
const PageStamp = "stamp"

// Interaction is what a page may know of the authorization request that sent
// the browser to it.
type Interaction struct {
	Server    string // the authorization server's name
	Client    *clients.Client
	Stamp     Stamp
	Scopes    []string // asked for, in the request's order
	Resources []string
	LoginHint string
	UILocales []string // BCP 47, preferred first
	Prompt    []string

	query url.Values
}

// PageServer tells for which authorization server a page was asked.
func PageServer(r *http.Request) string { return r.FormValue(pageServer) }

// pageURL is where a page is told to do its job.
func (s *Server) pageURL(page string, stamp Stamp, query url.Values) string {
	v := url.Values{pageServer: {s.cfg.Name}, pageStamp: {s.stamps.Seal(stamp, query)}, pageRequest: {withoutStamp(query).Encode()}}
	return page + "?" + v.Encode()
}

// Interaction reads what pageURL wrote, from the query of a GET or from the
// same fields of a form. ErrStamp where the stamp is not ours, not for that
// request or too old, or the client is gone.
func (s *Server) Interaction(ctx context.Context, r *http.Request) (*Interaction, error) {
	query, err := url.ParseQuery(r.FormValue(pageRequest))
	if err != nil || len(r.FormValue(pageRequest)) > maxAuthorizeRequest {
		return nil, ErrStamp
	}
	stamp, err := s.stamps.Open(r.FormValue(pageStamp), query)
	if err != nil {
		return nil, err
	}
	client, err := s.client(ctx, query.Get("client_id"))
	if errors.Is(err, ErrNotFound) {
		return nil, ErrStamp
	}
	if err != nil {
		return nil, err
	}
	return &Interaction{
		Server: s.cfg.Name, Client: client, Stamp: stamp,
		Scopes: unique(strings.Fields(query.Get("scope"))), Resources: query["resource"],
		LoginHint: query.Get("login_hint"), UILocales: strings.Fields(query.Get("ui_locales")),
		Prompt: strings.Fields(query.Get("prompt")), query: query,
	}, nil
}

// Fields are the hidden fields that a page's form must carry to find the same
// interaction again at its POST; the stamp may have been changed by the page
// (to bind a form to the login it was shown to).
func (s *Server) Fields(i *Interaction) map[string]string {
	return map[string]string{pageServer: s.cfg.Name, pageStamp: s.stamps.Seal(i.Stamp, i.query), pageRequest: i.query.Encode()}
}

// Resume is the URL that takes the browser back to the request with what the
// page decided in i.Stamp. It is always our own /authorize.
func (s *Server) Resume(i *Interaction) string {
	q := withoutStamp(i.query)
	q.Set(stampParam, s.stamps.Seal(i.Stamp, i.query))
	return s.cfg.Issuer + "/authorize?" + q.Encode()
}

// Restart is the URL that begins the authorization request of a page anew,
// whether or not its stamp is valid: always our own /authorize, which judges
// the request as any other. Empty where the page carries no request of a client
// of ours.
func (s *Server) Restart(ctx context.Context, r *http.Request) string {
	query, err := url.ParseQuery(r.FormValue(pageRequest))
	if err != nil || len(r.FormValue(pageRequest)) > maxAuthorizeRequest {
		return ""
	}
	if _, err := s.client(ctx, query.Get("client_id")); err != nil {
		return ""
	}
	return s.cfg.Issuer + "/authorize?" + withoutStamp(query).Encode()
}

// Remembered is what the user has allowed the client before and not withdrawn;
// nil where there is nothing.
func (s *Server) Remembered(ctx context.Context, userID, clientID string) (*sessions.Consent, error) {
	consent, err := s.cfg.Store.Consent(ctx, userID, clientID)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return consent, err
}

// Client is a client of this authorization server, or ErrNotFound.
func (s *Server) Client(ctx context.Context, id string) (*clients.Client, error) {
	return s.client(ctx, id)
}

// WithoutStamp is the query of an authorization request of ours as the client
// sent it.
func WithoutStamp(query url.Values) url.Values { return withoutStamp(query) }

// withoutStamp is the request as it counts: without the stamp, and without
// parameters that have no value.
func withoutStamp(query url.Values) url.Values {
	q := make(url.Values, len(query))
	for k, v := range query {
		if k != stampParam {
			q[k] = slices.Clone(v)
		}
	}
	dropEmpty(q)
	return q
}

// unique keeps the first of each.
func unique(in []string) []string {
	var out []string
	for _, v := range in {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}
