package oauth

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ory/fosite"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

// authorization is one authorization request on its way.
type authorization struct {
	query       url.Values // without the stamp
	client      *clients.Client
	redirectURI string // where answers go: vouched for
	mode        string // response mode of answers
	state       string

	parsed    fosite.AuthorizeRequester
	scopes    []string
	resources []string // asked for
	audience  []string
	nonce     string
	challenge string
	prompt    []string
	maxAge    *int64 // seconds
	hint      *hint
	stamp     Stamp

	cookie       bool // the browser sent a login cookie
	login        *sessions.Login
	useNonce     bool              // the sign-in's nonce is used up by this answer
	consented    time.Time         //
	consentGiven *sessions.Consent // a decision to remember
	sourced      func(*users.User) map[string]*string
}

// silent: no page may be shown.
func (a *authorization) silent() bool { return slices.Contains(a.prompt, "none") }

// addressee finds out who asks and where an answer may go. While that is not
// proven, errors are shown to the person, never sent anywhere.
func (s *Server) addressee(r *http.Request, query url.Values) (*authorization, error) {
	a := &authorization{query: withoutStamp(query), state: query.Get("state"), mode: modeQuery}
	if len(a.query.Encode()) > maxAuthorizeRequest {
		return nil, invalidRequest("%s", tooLong)
	}
	for _, name := range []string{"client_id", "redirect_uri"} {
		if len(a.query[name]) > 1 {
			return nil, invalidRequest("The parameter %s is given more than once.", name)
		}
	}
	client, err := s.client(r.Context(), a.query.Get("client_id"))
	if errors.Is(err, ErrNotFound) {
		return nil, refuse("invalid_client", "The application that sent you here is not known to this server.")
	}
	if err != nil {
		return nil, err
	}
	a.client = client
	switch requested := a.query.Get("redirect_uri"); {
	case requested != "" && client.MatchRedirectURI(requested):
		a.redirectURI = requested
	case requested != "":
		return nil, invalidRequest("The redirect_uri is not registered for the application that sent you here.")
	case len(client.RedirectURIs) == 1 && !slices.Contains(strings.Fields(a.query.Get("scope")), "openid"):
		a.redirectURI = client.RedirectURIs[0] // RFC 6749 §3.1.2.3; OpenID Connect demands the parameter
	default:
		return nil, invalidRequest("The redirect_uri is missing.")
	}
	if a.query.Get("response_mode") == modeFormPost {
		a.mode = modeFormPost
	}
	if sealed := query.Get(stampParam); sealed != "" {
		if a.stamp, err = s.stamps.Open(sealed, a.query); err == nil {
			return a, nil
		}
		// Too old, or not for this request: begin again.
	}
	a.stamp = s.stamps.Begin()
	return a, nil
}

// judge validates the request; its errors go to the client.
func (s *Server) judge(r *http.Request, a *authorization) error {
	if name, is := repeated(a.query, "resource"); is {
		if len(a.query["state"]) > 1 {
			a.state = ""
		}
		return invalidRequest("The parameter %s is given more than once.", name)
	}
	for name, code := range map[string]string{"request": "request_not_supported", "request_uri": "request_uri_not_supported", "registration": "registration_not_supported"} {
		if a.query.Has(name) {
			return refuse(code, "The parameter %s is not supported.", name)
		}
	}
	switch a.query.Get("response_type") {
	case clients.ResponseCode: // fosite would take it in any case
	case "":
		return invalidRequest("response_type is missing.")
	default:
		return refuse("unsupported_response_type", "response_type must be code.")
	}
	switch a.query.Get("response_mode") {
	case "", modeQuery, modeFormPost:
	default:
		return invalidRequest("response_mode must be query or form_post.")
	}
	if err := s.parse(r, a); err != nil {
		return err
	}
	for _, check := range []func(*authorization) error{s.judgeScope, s.judgePKCE, s.judgePrompt} {
		if err := check(a); err != nil {
			return err
		}
	}
	return s.judgeHint(r.Context(), a)
}

// parse lets fosite validate response type, redirect URI and scopes.
func (s *Server) parse(r *http.Request, a *authorization) error {
	form := make(url.Values, len(a.query)+2)
	for k, v := range a.query {
		form[k] = v
	}
	form.Set("redirect_uri", a.redirectURI)
	if a.state == "" {
		form.Set("state", "-") // fosite refuses a request without; the answer's is a.state
	}
	ctx := r.Context()
	parsed, err := s.fosite.NewAuthorizeRequest(ctx, (&http.Request{Method: http.MethodGet, URL: r.URL, Header: http.Header{}, Form: form, PostForm: url.Values{}}).WithContext(ctx))
	if err != nil {
		return err
	}
	a.parsed = parsed
	if !a.client.Allows(clients.GrantAuthorizationCode) {
		return refuse("unauthorized_client", "The client is not registered for the grant type authorization_code.")
	}
	return nil
}

func (s *Server) judgeScope(a *authorization) error {
	a.scopes = unique(strings.Fields(a.query.Get("scope")))
	if !a.client.Allows(clients.GrantRefreshToken) {
		// OpenID Connect Core §11: ignored where it can't be had.
		a.scopes = slices.DeleteFunc(a.scopes, func(scope string) bool { return scope == "offline_access" })
	}
	a.resources = unique(a.query["resource"])
	var err error
	if a.audience, err = s.audience(a.client, a.resources); err != nil {
		return err
	}
	a.nonce = a.query.Get("nonce")
	if len(a.nonce) > 512 || !utf8.ValidString(a.nonce) || strings.ContainsRune(a.nonce, 0) {
		return invalidRequest("nonce must be text of at most 512 bytes.")
	}
	return nil
}

// judgePKCE demands S256 where the configuration or the client does (RFC 7636
// §4.4.1, RFC 9700 §2.1.1).
func (s *Server) judgePKCE(a *authorization) error {
	a.challenge = a.query.Get("code_challenge")
	method := a.query.Get("code_challenge_method")
	if a.challenge == "" {
		if method != "" {
			return invalidRequest("There is a code_challenge_method without a code_challenge.")
		}
		// OAuth 2.1 §7.5.1: a confidential client may rely on the nonce.
		hasNonce := !a.client.Public() && a.nonce != "" && slices.Contains(a.scopes, "openid")
		required := a.client.RequirePKCE || a.client.Public() || s.cfg.PKCE == PKCEAll || (s.cfg.PKCE == PKCENonce && !hasNonce)
		if required {
			return invalidRequest("PKCE is required here: code_challenge is missing (RFC 7636, code_challenge_method=S256).")
		}
		return nil
	}
	if method != "S256" {
		return invalidRequest("code_challenge_method must be S256.")
	}
	if !isChallenge(a.challenge) {
		return invalidRequest("code_challenge is not the base64url form of a SHA-256 hash.")
	}
	return nil
}

// judgePrompt reads prompt and max_age (OpenID Connect Core §3.1.2.1).
func (s *Server) judgePrompt(a *authorization) error {
	a.prompt = unique(strings.Fields(a.query.Get("prompt")))
	for _, p := range a.prompt {
		if !slices.Contains([]string{"none", "login", "consent", "select_account"}, p) {
			a.prompt = nil // no value of it is followed, none included
			return invalidRequest("prompt has a value that this server does not know.")
		}
	}
	if a.silent() && len(a.prompt) > 1 {
		return invalidRequest("prompt=none stands alone.")
	}
	a.maxAge = a.client.DefaultMaxAge
	if a.query.Has("max_age") {
		n, err := strconv.ParseInt(a.query.Get("max_age"), 10, 32)
		if err != nil || n < 0 {
			return invalidRequest("max_age must be a number of seconds.")
		}
		a.maxAge = &n
	}
	return nil
}

func (s *Server) judgeHint(ctx context.Context, a *authorization) error {
	token := a.query.Get("id_token_hint")
	if token == "" {
		return nil
	}
	h, ok, err := s.readHint(ctx, token)
	if err != nil {
		return err
	}
	if !ok || !slices.Contains(h.Audience, a.client.ClientID) {
		return invalidRequest("id_token_hint is not an ID token that this server issued to this client.")
	}
	a.hint = &h
	return nil
}

// codeIssuer is the one authorize endpoint handler (fosite.AuthorizeEndpointHandler).
type codeIssuer struct{ s *Server }

var _ fosite.AuthorizeEndpointHandler = codeIssuer{}

// HandleAuthorizeEndpointRequest writes the grant and answers with its code
// (RFC 6749 §4.1.2).
func (h codeIssuer) HandleAuthorizeEndpointRequest(ctx context.Context, requester fosite.AuthorizeRequester, responder fosite.AuthorizeResponder) error {
	if !requester.GetResponseTypes().ExactOne("code") {
		return nil
	}
	code, err := h.s.grant(ctx, requester.GetSession().(*flow).request)
	if err != nil {
		return err
	}
	responder.AddParameter("code", code)
	requester.SetResponseTypeHandled("code")
	return nil
}

// grant writes one authorization and returns its code.
func (s *Server) grant(ctx context.Context, a *authorization) (string, error) {
	now := s.now()
	g := Grant{ID: randomID(grantIDLength), ClientID: a.client.ClientID, UserID: a.login.UserID, Scopes: a.scopes, Resources: a.audience,
		AuthTime: a.login.AuthTime, ACR: a.login.ACR, AMR: a.login.AMR, Nonce: a.nonce, RedirectURI: a.query.Get("redirect_uri"),
		Challenge: a.challenge, CodeExpires: now.Add(CodeLifetime), Secret: make([]byte, 32), CreatedAt: now,
		Refreshable: a.client.Allows(clients.GrantRefreshToken)}
	rand.Read(g.Secret)
	g.Offline = g.Refreshable && slices.Contains(a.scopes, "offline_access")
	if !g.Refreshable {
		g.RemovableAt = now.Add(CodeLifetime + s.cfg.AccessTokenLifetime)
	}
	code, hash := newCode(g.ID)
	g.CodeHash = hash
	n := NewGrant{Grant: g, LoginID: a.login.ID, Subject: a.login.UserID, Client: a.client.Name(), Consent: a.consentGiven, Consented: a.consented, Sourced: a.sourced,
		Session: sessions.Session{ID: randomID(sessionIDLength), ClientID: g.ClientID, ClientName: a.client.Name(), UserID: g.UserID,
			Subject: a.login.UserID, LoginID: a.login.ID, Origin: sessions.OriginBrowser, Scopes: a.scopes,
			AuthenticatedAt: a.login.AuthTime, ConsentedAt: a.consented, CustomAttributes: map[string]string{}, CreatedAt: now, LastUsedAt: now}}
	if a.useNonce {
		n.UseNonce = a.stamp.Nonce
	}
	if _, err := s.cfg.Store.InsertGrant(ctx, n); err != nil {
		if errors.Is(err, ErrNotLive) {
			return "", &Error{http.StatusForbidden, "access_denied", "The account or the application is no longer allowed to sign in here.", nil}
		}
		return "", err
	}
	return code, nil
}
