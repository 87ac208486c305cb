package oauth

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"gatehouse.dev/gatehouse/sessions"
)

// authorizePost takes a request by POST (OpenID Connect Core §3.1.2.1) and
// makes it a GET. Posted from another site it came without our login cookie
// (SameSite=Lax); the GET that follows has it.
func (s *Server) authorizePost(w http.ResponseWriter, r *http.Request) {
	if !isForm(r) { // or its parameters would be overlooked
		s.cfg.Pages.Error(w, r, http.StatusUnsupportedMediaType, "invalid_request", "A posted authorization request must be application/x-www-form-urlencoded.")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxAuthorizeRequest)
	if err := r.ParseForm(); err != nil {
		e := unreadable(err)
		if e.Status == http.StatusRequestEntityTooLarge {
			e.Description = tooLong
		}
		s.cfg.Pages.Error(w, r, e.Status, e.Code, e.Description)
		return
	}
	if r.URL.RawQuery != "" {
		s.cfg.Pages.Error(w, r, http.StatusBadRequest, "invalid_request", "A posted authorization request has its parameters in the body alone.")
		return
	}
	redirect(w, s.cfg.Issuer+"/authorize?"+r.PostForm.Encode())
}

const tooLong = "The authorization request is longer than 8 KiB. Large requests belong into a pushed authorization request (PAR, RFC 9126) where the server offers it."

// authorize is the authorization endpoint (RFC 6749 §3.1, OpenID Connect Core
// §3.1.2) and the only dispatcher: it issues a code, or sends the browser to
// one page, which sends it back to the same request. Nothing is written for a
// browser that has not signed in.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		s.cfg.Pages.Error(w, r, http.StatusBadRequest, "invalid_request", "The authorization request can't be read.")
		return
	}
	a, err := s.addressee(r, query)
	if err != nil {
		// Nobody has vouched for the redirect URI yet: no redirect (RFC 9700 §4.11.2).
		e := asError(err)
		s.report(r, e)
		s.page(w, r, e)
		return
	}
	if err := s.judge(r, a); err != nil {
		s.refuse(w, r, a, err)
		return
	}
	s.dispatch(w, r, a)
}

// page shows a failure to the person at the browser.
func (s *Server) page(w http.ResponseWriter, r *http.Request, e *Error) {
	status := e.Status
	switch status {
	case http.StatusUnauthorized:
		status = http.StatusBadRequest // no credentials are asked for here
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	}
	s.cfg.Pages.Error(w, r, status, e.Code, e.Description)
}

// dispatch decides what comes next for a valid request.
func (s *Server) dispatch(w http.ResponseWriter, r *http.Request, a *authorization) {
	if err := s.loadLogin(r, a); err != nil {
		s.refuse(w, r, a, err)
		return
	}
	s.putState(w, r, a)
	need, err := a.signIn(s.now())
	if err != nil {
		s.refuse(w, r, a, err)
		return
	}
	if need {
		s.toSignIn(w, r, a)
		return
	}
	need, err = s.consent(r, a)
	if err != nil {
		s.refuse(w, r, a, err)
		return
	}
	if need {
		if a.silent() {
			s.refuse(w, r, a, refuse("consent_required", "The user has to consent."))
			return
		}
		redirect(w, s.pageURL(s.cfg.Pages.Consent, a.stamp, a.query))
		return
	}
	a.sourced = s.sourced(r)
	response, err := s.fosite.NewAuthorizeResponse(r.Context(), a.parsed, &flow{subject: a.login.UserID, request: a})
	if errors.Is(err, ErrLoginRequired) {
		// The login ended meanwhile, an ending demands fresh proof, or the
		// proof was used up by another answer to this request.
		a.stamp = s.stamps.Begin()
		s.toSignIn(w, r, a)
		return
	}
	if err != nil {
		s.refuse(w, r, a, err)
		return
	}
	s.cfg.Touch(sessions.Touch{LoginID: a.login.ID, At: s.now()})
	s.respond(w, r, a, s.withState(response.GetParameters(), a))
}

// loadLogin reads the browser's login and drops what the stamp says of another.
func (s *Server) loadLogin(r *http.Request, a *authorization) error {
	hash := s.cfg.Cookie.Hash(r)
	a.cookie = hash != nil
	if hash != nil {
		login, err := s.cfg.Logins.LoginByCookie(r.Context(), hash)
		if err != nil && !errors.Is(err, sessions.ErrNotFound) {
			return err
		}
		a.login = login
	}
	if a.login == nil || a.stamp.LoginID != a.login.ID || a.stamp.UserID != a.login.UserID {
		// A decision of another user, or in another login, is void.
		a.stamp.Decision, a.stamp.Scopes, a.stamp.Resources, a.stamp.DecidedAt = "", nil, nil, time.Time{}
	}
	return nil
}

// toSignIn sends the browser to the sign-in page, or says why it can't.
func (s *Server) toSignIn(w http.ResponseWriter, r *http.Request, a *authorization) {
	if a.silent() {
		s.refuse(w, r, a, refuse("login_required", "The user has to sign in."))
		return
	}
	if a.stamp.SignedIn && !a.cookie {
		// He did sign in, and the cookie didn't come back.
		s.cfg.Pages.CookiesBlocked(w, r)
		return
	}
	if a.stamp.SignedIn {
		a.stamp = s.stamps.Begin()
	}
	redirect(w, s.pageURL(s.cfg.Pages.Login, a.stamp, a.query))
}

// signIn is the one function that judges prompt, max_age and id_token_hint
// (OpenID Connect Core §3.1.2.1): whether the user must prove who he is now.
func (a *authorization) signIn(now time.Time) (bool, error) {
	if a.login == nil {
		return true, nil
	}
	fresh := a.login.AuthNonce != "" && a.login.AuthNonce == a.stamp.Nonce
	if a.hint != nil && a.hint.Subject != a.login.UserID {
		if fresh {
			// Somebody else than the client expected has signed in.
			return false, refuse("login_required", "Another user than that of the id_token_hint has signed in.")
		}
		return true, nil
	}
	demanded := slices.Contains(a.prompt, "login") || slices.Contains(a.prompt, "select_account")
	// Only a sign-in that answers this very request counts, and only once.
	a.useNonce = fresh && (demanded || a.maxAge != nil)
	if a.maxAge != nil && (*a.maxAge == 0 || a.login.Former || now.Sub(a.login.AuthTime) > time.Duration(*a.maxAge)*time.Second) {
		demanded = true
	}
	if !demanded {
		return false, nil
	}
	return !fresh, nil
}

// consent judges what the user has allowed: whether he must be asked.
func (s *Server) consent(r *http.Request, a *authorization) (bool, error) {
	decided := a.stamp.Decision
	if decided == DecisionDeny {
		return false, refuse("access_denied", "The user has denied the request.")
	}
	// What is remembered matters to none of these, so it isn't read.
	if decided != DecisionAllow && slices.Contains(a.prompt, "consent") {
		return true, nil
	}
	if decided != DecisionAllow && a.client.SkipConsent {
		a.consented = s.now()
		return false, nil
	}
	remembered, err := s.cfg.Store.Consent(r.Context(), a.login.UserID, a.client.ClientID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return false, err
	}
	if err != nil {
		remembered = &sessions.Consent{UserID: a.login.UserID, ClientID: a.client.ClientID}
	}
	if decided == DecisionAllow {
		a.consented = a.stamp.DecidedAt
		a.consentGiven = &sessions.Consent{UserID: a.login.UserID, ClientID: a.client.ClientID, At: a.stamp.DecidedAt,
			Scopes: unique(slices.Concat(remembered.Scopes, a.scopes)), Resources: unique(slices.Concat(remembered.Resources, a.resources))}
		return false, nil
	}
	_, scopes := narrowed(remembered.Scopes, a.scopes)
	_, resources := narrowed(remembered.Resources, a.resources)
	if remembered.At.IsZero() || !scopes || !resources {
		return true, nil
	}
	a.consented = remembered.At
	return false, nil
}
