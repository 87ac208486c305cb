package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gorilla/mux"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/sessions"
)

// Bounds on the parameters of /end_session that travel on in our own URL, bytes.
const (
	maxLogoutState = 2048
	maxLogoutHint  = 512 // and of ui_locales
)

const logoutTooLong = "The logout request is longer than 8 KiB."

// Logout is what an application asked for at /end_session (OpenID Connect
// RP-Initiated Logout 1.0 §2), as far as that was proven: the sign-out page finds
// it sealed in its URL and forms.
type Logout struct {
	Server      string          // the authorization server's name
	Client      *clients.Client // nil: unknown who asks
	Verified    bool            // the client proved by an id_token_hint that it knows a session
	Subject     string          // with Verified: the hint's sub
	Session     string          // with Verified: the hint's sid; empty: it had none
	RedirectURI string          // one that Client has registered; empty: none
	State       string          // for the redirect
	Hint        string          // logout_hint: whom the client means
	UILocales   []string        // BCP 47, preferred first
	LoginID     string          // the login that the page's form was shown to; empty: it is not a form's
}

// sealedLogout is Logout as it is sealed.
type sealedLogout struct {
	Began       time.Time `json:"b"`
	ClientID    string    `json:"c,omitempty"`
	Verified    bool      `json:"v,omitempty"`
	Subject     string    `json:"u,omitempty"`
	Session     string    `json:"s,omitempty"`
	RedirectURI string    `json:"r,omitempty"`
	State       string    `json:"t,omitempty"`
	Hint        string    `json:"h,omitempty"`
	UILocales   []string  `json:"o,omitempty"`
	LoginID     string    `json:"l,omitempty"`
}

// mountLogout registers the endpoints of logout.
func (s *Server) mountLogout(r *mux.Router) {
	r.Path("/end_session").Handler(methods{http.MethodGet: s.endSession, http.MethodPost: s.endSessionPost})
	if s.cfg.SessionManagement {
		r.Path("/check_session").Handler(methods{http.MethodGet: s.checkSession, http.MethodHead: s.checkSession})
	}
}

// describeLogout adds to the metadata what Mount offers of logout (RP-Initiated
// Logout 1.0 §2.1, Front-Channel Logout 1.0 §3, Session Management 1.0 §3.3).
func (s *Server) describeLogout(metadata map[string]any) {
	metadata["end_session_endpoint"] = s.cfg.Issuer + "/end_session"
	if s.cfg.FrontChannelLogout {
		metadata["frontchannel_logout_supported"], metadata["frontchannel_logout_session_supported"] = true, true
	}
	if s.cfg.SessionManagement {
		metadata["check_session_iframe"] = s.cfg.Issuer + "/check_session"
	}
}

// endSession is the logout endpoint (RP-Initiated Logout 1.0 §2). It ends
// nothing: it proves what can be proven of the request, seals that, and sends
// the browser to the realm's sign-out page, which sees the login cookie also
// where the request was posted from another site, and decides.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request) {
	if len(r.URL.RawQuery) > maxAuthorizeRequest {
		s.logoutFails(w, r, invalidRequest("%s", logoutTooLong))
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		s.logoutFails(w, r, invalidRequest("The logout request can't be read."))
		return
	}
	s.toLogout(w, r, query)
}

// endSessionPost is the same for a form, which keeps the ID token out of URLs.
func (s *Server) endSessionPost(w http.ResponseWriter, r *http.Request) {
	if !isForm(r) { // or its parameters would be overlooked
		e := invalidRequest("A posted logout request must be application/x-www-form-urlencoded.")
		e.Status = http.StatusUnsupportedMediaType
		s.logoutFails(w, r, e)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxAuthorizeRequest)
	if err := r.ParseForm(); err != nil {
		e := unreadable(err)
		if e.Status == http.StatusRequestEntityTooLarge {
			e.Description = logoutTooLong
		}
		s.logoutFails(w, r, e)
		return
	}
	if r.URL.RawQuery != "" {
		s.logoutFails(w, r, invalidRequest("A posted logout request has its parameters in the body alone."))
		return
	}
	s.toLogout(w, r, r.PostForm)
}

// toLogout sends the browser to the sign-out page with what it was asked.
func (s *Server) toLogout(w http.ResponseWriter, r *http.Request, query url.Values) {
	l, err := s.judgeLogout(r.Context(), query)
	if err != nil {
		s.logoutFails(w, r, err)
		return
	}
	v := url.Values{pageServer: {s.cfg.Name}, pageStamp: {s.sealLogout(l)}}
	if len(l.UILocales) > 0 { // also where the seal has grown too old
		v.Set("ui_locales", strings.Join(l.UILocales, " "))
	}
	redirect(w, s.cfg.Pages.Logout+"?"+v.Encode())
}

// logoutFails shows a failure to the person. Nothing was ended, and nobody is
// sent anywhere.
func (s *Server) logoutFails(w http.ResponseWriter, r *http.Request, err error) {
	e := asError(err)
	s.report(r, e)
	s.page(w, r, e)
}

// judgeLogout proves what can be proven of a logout request. Parameters that
// nobody knows are ignored.
func (s *Server) judgeLogout(ctx context.Context, query url.Values) (*Logout, error) {
	q := url.Values{}
	for _, name := range []string{"id_token_hint", "client_id", "logout_hint", "post_logout_redirect_uri", "state", "ui_locales"} {
		if len(query[name]) > 1 {
			return nil, invalidRequest("The parameter %s is given more than once.", name)
		}
		value := query.Get(name)
		if !utf8.ValidString(value) {
			return nil, invalidRequest("The parameter %s is not UTF-8.", name)
		}
		q.Set(name, value)
	}
	for name, most := range map[string]int{"state": maxLogoutState, "logout_hint": maxLogoutHint, "ui_locales": maxLogoutHint} {
		if len(q.Get(name)) > most {
			return nil, invalidRequest("The parameter %s is longer than %d bytes.", name, most)
		}
	}
	if strings.ContainsFunc(q.Get("state"), unicode.IsControl) {
		return nil, invalidRequest("The parameter state has control characters.")
	}
	l := &Logout{Server: s.cfg.Name, State: q.Get("state"), Hint: strings.TrimSpace(q.Get("logout_hint")), UILocales: strings.Fields(q.Get("ui_locales"))}
	id, err := s.logoutClient(ctx, l, q.Get("id_token_hint"), q.Get("client_id"))
	if err != nil {
		return nil, err
	}
	if id != "" {
		l.Client, err = s.client(ctx, id)
		switch {
		case errors.Is(err, ErrNotFound) && q.Get("client_id") == "":
			// The hint is ours, and its client has been deleted since.
			l.Client, l.Verified, l.Subject, l.Session = nil, false, "", ""
		case errors.Is(err, ErrNotFound):
			return nil, refuse("invalid_client", "The application that sent you here is not known to this server.")
		case err != nil:
			return nil, err
		}
	}
	uri := q.Get("post_logout_redirect_uri")
	switch {
	case uri == "":
	case l.Client != nil && !l.Client.MatchPostLogoutRedirectURI(uri):
		return nil, invalidRequest("The post_logout_redirect_uri is not registered for the application that sent you here.")
	case l.Client != nil && q.Get("id_token_hint") != "" && !l.Verified:
		// An error in the request: whoever asks, nobody is sent on (§4).
	case l.Client != nil:
		l.RedirectURI = uri
	case q.Get("id_token_hint") == "":
		return nil, invalidRequest("A post_logout_redirect_uri needs an id_token_hint or a client_id, so that it can be checked.")
	}
	return l, nil
}

// logoutClient finds out which client asks, by the hint or by client_id, which
// must not disagree; empty: unknown. A hint that can't be verified proves
// nothing, and the user may be asked all the same: the key may be long gone.
func (s *Server) logoutClient(ctx context.Context, l *Logout, token, clientID string) (string, error) {
	if token == "" {
		return clientID, nil
	}
	h, ok, err := s.readHint(ctx, token)
	if err != nil {
		return "", err
	}
	if !ok {
		return clientID, nil
	}
	by := h.AuthorizedParty
	switch {
	case by != "":
	case len(h.Audience) == 1:
		by = h.Audience[0]
	default:
		by = clientID // one of several, if it is
	}
	if clientID != "" && clientID != by || by == "" || !slices.Contains(h.Audience, by) {
		return "", invalidRequest("id_token_hint is not an ID token that was issued to the client_id.")
	}
	l.Verified, l.Subject, l.Session = true, h.Subject, h.Session
	return by, nil
}

// Logout reads what /end_session sealed, from the query of a GET or from the
// same fields of a form. ErrStamp where that is not ours, or older than 30
// minutes.
func (s *Server) Logout(ctx context.Context, r *http.Request) (*Logout, error) {
	plain, err := s.logouts.Open(r.FormValue(pageStamp), []byte(s.cfg.Name))
	if err != nil {
		return nil, ErrStamp
	}
	var sealed sealedLogout
	if err := json.Unmarshal(plain, &sealed); err != nil {
		return nil, ErrStamp
	}
	if age := s.cfg.Now().Sub(sealed.Began); age > StampLifetime || age < -time.Minute {
		return nil, ErrStamp
	}
	l := &Logout{Server: s.cfg.Name, Verified: sealed.Verified, Subject: sealed.Subject, Session: sealed.Session, RedirectURI: sealed.RedirectURI,
		State: sealed.State, Hint: sealed.Hint, UILocales: sealed.UILocales, LoginID: sealed.LoginID}
	if sealed.ClientID == "" {
		return l, nil
	}
	if l.Client, err = s.client(ctx, sealed.ClientID); errors.Is(err, ErrNotFound) {
		return nil, ErrStamp
	}
	return l, err
}

// LogoutFields are the hidden fields with which a page's form finds the same
// request again at its POST.
func (s *Server) LogoutFields(l *Logout) map[string]string {
	return map[string]string{pageServer: s.cfg.Name, pageStamp: s.sealLogout(l)}
}

func (s *Server) sealLogout(l *Logout) string {
	sealed := sealedLogout{Began: s.now(), Verified: l.Verified, Subject: l.Subject, Session: l.Session, RedirectURI: l.RedirectURI,
		State: l.State, Hint: l.Hint, UILocales: l.UILocales, LoginID: l.LoginID}
	if l.Client != nil {
		sealed.ClientID = l.Client.ClientID
	}
	var plain bytes.Buffer
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false) // a state of such characters would grow by six
	if err := e.Encode(sealed); err != nil {
		panic(err) // strings and times always marshal
	}
	return s.logouts.Seal(plain.Bytes(), []byte(s.cfg.Name))
}

// Presence is what a browser's login has to do with a logout request.
type Presence struct {
	Login  *sessions.Login // nil: nobody is signed in
	UsedIn bool            // the hint's session is the client's, and of that login
	Meant  bool            // there is no logout_hint, or it names the login's user
}

// LogoutDecision is what comes next for a logout request.
type LogoutDecision int

// Decisions on a logout request.
const (
	LogoutAsks LogoutDecision = iota // the user is asked
	LogoutEnds                       // the login ends without a question
	LogoutOver                       // there is nothing to end
)

// Decide is the one function that judges whether a logout request may end the
// browser's login without a question (RP-Initiated Logout 1.0 §2, §6):
//
//	login  id_token_hint                        logout_hint        decision
//	none   any                                  any                nothing to end
//	one    none, or not verified                any                ask
//	one    sid of a session of another login,   any                ask
//	       of another user or client, or of
//	       no session that is known
//	one    sid of a session of this login       another user       ask
//	one    sid of a session of this login       none, or the user  end
//	one    no sid                               any                ask
//
// A hint is no credential: a session that it names, but that is not of this
// browser's login, is left alone. One without sid is of a session that has lost
// its login; whose browser this is doesn't follow from it.
func (l *Logout) Decide(p Presence) LogoutDecision {
	switch {
	case p.Login == nil:
		return LogoutOver
	case !l.Verified || l.Client == nil || !p.Meant || l.Subject != p.Login.UserID:
		return LogoutAsks
	case l.Session == "" || !p.UsedIn:
		return LogoutAsks
	}
	return LogoutEnds
}

// Return is where the browser goes when the logout is done, with the state as it
// came; empty: the application named nothing. automatic: without a click, which
// takes an ending in this browser or a client that proved itself. Otherwise
// anybody could have us send people to a client's page.
func (l *Logout) Return(ended bool) (to string, automatic bool) {
	if l.RedirectURI == "" || l.Client == nil {
		return "", false
	}
	u, err := url.Parse(l.RedirectURI)
	if err != nil {
		return "", false
	}
	if l.State != "" {
		addQuery(u, url.Values{"state": {l.State}})
	}
	return u.String(), ended || l.Verified
}

// addQuery adds parameters behind those that a registered URI has, which stay as
// they are.
func addQuery(u *url.URL, more url.Values) {
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += more.Encode()
}

// FrontChannel is what a frame has to open so that a client learns that its
// session has ended (Front-Channel Logout 1.0 §3); empty where the server or the
// client doesn't do that.
func (s *Server) FrontChannel(ctx context.Context, clientID, sid string) (string, error) {
	if !s.cfg.FrontChannelLogout {
		return "", nil
	}
	client, err := s.client(ctx, clientID)
	if errors.Is(err, ErrNotFound) || err == nil && client.FrontchannelLogoutURI == "" {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	u, err := url.Parse(client.FrontchannelLogoutURI)
	if err != nil || clients.Origin(client.FrontchannelLogoutURI) == "" {
		return "", nil // no metadata that was checked has it
	}
	addQuery(u, url.Values{"iss": {s.cfg.Issuer}, "sid": {sid}})
	return u.String(), nil
}
