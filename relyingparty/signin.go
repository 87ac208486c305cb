package relyingparty

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// attempt is a sign-in under way. It is kept under its state.
type attempt struct {
	browser  string // key of the cookie of the browser in which it began
	nonce    string
	verifier string // PKCE code verifier (RFC 7636 §4.1)
	issuer   *issuer
}

// signIn sends the browser to the issuer (OpenID Connect Core §3.1.2.1).
func (p *RelyingParty) signIn(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := p.outgoing(r)
	defer cancel()
	// Each time: it also tells whether the browser will find anybody there.
	i, err := p.discover(ctx)
	if err != nil {
		return err
	}
	p.told.trusted.Store(i)
	browser := cookieKey(r, p.binding)
	if browser == "" {
		value := random()
		browser = keyOf(value)
		p.setCookie(w, p.binding, value)
	}
	state := random()
	a := &attempt{browser: browser, nonce: random(), verifier: oauth2.GenerateVerifier(), issuer: i}
	p.attempts.put(keyOf(state), a)
	http.Redirect(w, r, i.oauth.AuthCodeURL(state, oidc.Nonce(a.nonce), oauth2.S256ChallengeOption(a.verifier)), http.StatusSeeOther)
	return nil
}

// callback takes the authorization response (RFC 6749 §4.1.2).
func (p *RelyingParty) callback(w http.ResponseWriter, r *http.Request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return badRequest("The answer could not be read.", err)
	}
	for name, values := range query {
		if len(values) > 1 {
			return badRequest("The answer has a parameter twice.", fmt.Errorf("parameter %.50q comes twice", name))
		}
	}
	// Before anything else is believed, shown or spent: it answers a request
	// of this very browser, for the first time.
	browser := cookieKey(r, p.binding)
	a, ok := p.attempts.take(keyOf(query.Get("state")), func(a *attempt) bool { return browser != "" && a.browser == browser })
	if !ok {
		return &failure{status: http.StatusBadRequest, title: "This sign-in can't be finished", again: true,
			text:  "It was begun in another browser or too long ago, or it has been finished already.",
			cause: errors.New("unknown state")}
	}
	// RFC 9207 §2.4: also where the answer is an error.
	if iss, sent := query["iss"]; (a.issuer.sendsISS || sent) && (!sent || iss[0] != p.cfg.Issuer) {
		return &failure{status: http.StatusBadRequest, title: "This answer is from somebody else", again: true,
			text:  "It doesn't come from the authorization server that was asked.",
			cause: errors.New("iss of the authorization response")}
	}
	if code := query.Get("error"); code != "" {
		return declined(code, query.Get("error_description"))
	}
	if query.Get("code") == "" {
		return badRequest("The answer has neither a code nor an error.", errors.New("no code"))
	}
	ctx, cancel := p.outgoing(r)
	defer cancel()
	v, err := p.redeem(ctx, a, query.Get("code"))
	if err != nil {
		return err
	}
	if former := cookieKey(r, p.cookie); former != "" {
		p.visits.remove(former)
	}
	// A new value, so that whoever planted or knew the former one has nothing.
	value := random()
	v.key = keyOf(value)
	v.of = who{v.subject, v.sid}
	p.visits.put(v.key, v)
	if _, over := p.told.over.get(hashed(v.sid)); over {
		v.overElsewhere.Store(true) // the issuer's message was faster than this answer
	}
	p.setCookie(w, p.cookie, value)
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// declined is the page for an error response (RFC 6749 §4.1.2.1).
func declined(code, description string) *failure {
	f := &failure{status: http.StatusBadRequest, title: "You are not signed in", again: true, code: short(code, 100), description: short(description, 300),
		text: "The authorization server answered with an error.", cause: fmt.Errorf("error response %.100q", code)}
	switch code {
	case "access_denied":
		f.status, f.text = http.StatusOK, "You did not allow it, so nothing was shared."
	case "temporarily_unavailable", "server_error":
		f.status, f.text = http.StatusBadGateway, "The authorization server has a difficulty. Try again in a moment."
	}
	return f
}

// redeem exchanges the code and makes a visit of what comes back.
func (p *RelyingParty) redeem(ctx context.Context, a *attempt, code string) (*visit, error) {
	token, err := a.issuer.oauth.Exchange(ctx, code, oauth2.VerifierOption(a.verifier))
	if err != nil {
		err = tokenError(err)
		if errors.Is(err, errEnded) { // nothing had begun
			return nil, fmt.Errorf("%w: the code was refused", errRefused)
		}
		return nil, err
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return nil, fmt.Errorf("%w: no ID token", errRefused)
	}
	identity, err := p.verify(ctx, a.issuer, raw, token)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(identity.Nonce), []byte(a.nonce)) != 1 {
		return nil, fmt.Errorf("%w: ID token with another nonce", errRefused)
	}
	v := &visit{issuer: a.issuer}
	if err := v.adopt(token, identity, p.cfg.Now()); err != nil {
		return nil, err
	}
	if err := p.askUserinfo(ctx, v); err != nil {
		return nil, err
	}
	return v, nil
}

// verify judges an ID token (OpenID Connect Core §3.1.3.7) but for its nonce,
// and the type of the access token beside it.
func (p *RelyingParty) verify(ctx context.Context, i *issuer, raw string, token *oauth2.Token) (*oidc.IDToken, error) {
	if !strings.EqualFold(token.TokenType, "Bearer") {
		return nil, fmt.Errorf("%w: token type %.20q", errRefused, token.TokenType)
	}
	identity, err := i.verifier.Verify(ctx, raw)
	switch {
	case err != nil && unreachable(err):
		return nil, fmt.Errorf("%w: key set", errUnavailable)
	case err != nil:
		return nil, fmt.Errorf("%w: ID token: %s", errRefused, short(err.Error(), 300))
	case identity.Subject == "":
		return nil, fmt.Errorf("%w: ID token without sub", errRefused)
	}
	var claims struct {
		AuthorizedParty string `json:"azp"`
	}
	if err := identity.Claims(&claims); err != nil {
		return nil, fmt.Errorf("%w: ID token: claims", errRefused)
	}
	if claims.AuthorizedParty != "" && claims.AuthorizedParty != p.cfg.ClientID || claims.AuthorizedParty == "" && len(identity.Audience) > 1 {
		return nil, fmt.Errorf("%w: ID token for another party", errRefused)
	}
	if identity.AccessTokenHash != "" {
		if err := identity.VerifyAccessToken(token.AccessToken); err != nil {
			return nil, fmt.Errorf("%w: ID token for another access token", errRefused)
		}
	}
	return identity, nil
}

// askUserinfo adds what the issuer tells of the user (OpenID Connect Core
// §5.3). Without an answer the ID token's claims are all there is.
func (p *RelyingParty) askUserinfo(ctx context.Context, v *visit) error {
	if !v.issuer.userinfo {
		return nil
	}
	info, err := v.issuer.provider.UserInfo(ctx, oauth2.StaticTokenSource(&oauth2.Token{AccessToken: v.accessToken, TokenType: "Bearer"}))
	if err != nil {
		p.cfg.Logger.WarnContext(ctx, "no answer of the userinfo endpoint", "error", short(err.Error(), 300))
		return nil
	}
	// §5.3.2: otherwise these are somebody else's claims.
	if info.Subject != v.subject {
		return fmt.Errorf("%w: userinfo of another subject", errRefused)
	}
	var claims map[string]any
	if err := info.Claims(&claims); err != nil {
		return fmt.Errorf("%w: userinfo: claims", errRefused)
	}
	v.user = claims
	return nil
}

// expiry is when an access token expires by our clock; zero: it wasn't said.
func expiry(token *oauth2.Token, now time.Time) time.Time {
	if token.ExpiresIn <= 0 {
		return time.Time{}
	}
	return now.Add(time.Duration(min(token.ExpiresIn, 10*365*24*3600)) * time.Second)
}
