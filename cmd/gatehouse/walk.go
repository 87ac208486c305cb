package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/clients"
)

// walk goes through the session API as a program, over plain HTTP, and judges
// every answer: two sign-ins of one user at two applications in two browsers,
// the current session, all sessions, the end of one, and what is left.
type walk struct {
	issuer    string // of the authorization server
	username  string
	password  string
	first     clients.Metadata // the application that asks
	second    clients.Metadata // the application whose session is ended
	out       io.Writer
	transport http.RoundTripper

	step     int
	failures int
	metadata struct {
		Issuer                string `json:"issuer"`
		AuthorizationEndpoint string `json:"authorization_endpoint"`
		TokenEndpoint         string `json:"token_endpoint"`
		JWKSURI               string `json:"jwks_uri"`
	}
	keySet []byte // JSON Web Key Set of the issuer
}

// signedIn is what an application has once its user has signed in.
type signedIn struct {
	accessToken string
	sid         string // of the ID token
	sub         string
}

// errWalk: an answer was not as documented.
var errWalk = errors.New("answers were not as documented")

// run returns nil if every answer was exactly as documented, errWalk if one was
// not (which the transcript tells), or why it could not go on.
func (w *walk) run(ctx context.Context) error {
	w.transport = &transcript{out: w.out, base: w.transport}
	w.heading("What the authorization server says of itself")
	if err := w.discover(ctx); err != nil {
		return err
	}
	w.heading("%s signs in to %s, in one browser", w.username, w.first.Name())
	one, err := w.signIn(ctx, w.first)
	if err != nil {
		return err
	}
	w.heading("%s signs in to %s, in another browser", w.username, w.second.Name())
	two, err := w.signIn(ctx, w.second)
	if err != nil {
		return err
	}
	w.check(one.sub == two.sub, "both applications know the same user")
	w.check(one.sid != two.sid, "and two sessions")

	w.heading("GET session: the one to which the token of %s belongs", w.first.Name())
	w.current(ctx, one)
	w.heading("GET sessions: all of the user's")
	w.sessions(ctx, one, map[string]string{one.sid: w.first.ClientID, two.sid: w.second.ClientID})
	w.heading("DELETE the session of %s", w.second.Name())
	w.end(ctx, one, two.sid)
	w.heading("GET sessions: one is left")
	w.sessions(ctx, one, map[string]string{one.sid: w.first.ClientID})
	w.heading("The token of %s has ended with its session", w.second.Name())
	w.refused(ctx, two)

	if w.failures > 0 {
		fmt.Fprintf(w.out, "\n%s not as documented.\n", count(w.failures, "answer"))
		return errWalk
	}
	fmt.Fprintln(w.out, "\nEvery answer was as documented.")
	return nil
}

func (w *walk) heading(format string, a ...any) {
	w.step++
	title := fmt.Sprintf("%d. %s", w.step, fmt.Sprintf(format, a...))
	fmt.Fprintf(w.out, "\n%s\n%s\n\n", title, strings.Repeat("-", len(title)))
}

// check says whether something is as documented, and counts what is not.
func (w *walk) check(ok bool, format string, a ...any) bool {
	mark := "ok"
	if !ok {
		mark = "WRONG"
		w.failures++
	}
	fmt.Fprintf(w.out, "  %s: %s\n", mark, fmt.Sprintf(format, a...))
	return ok
}

// must is check for what nothing can follow.
func (w *walk) must(ok bool, format string, a ...any) error {
	if !w.check(ok, format, a...) {
		return errWalk
	}
	return nil
}

// do sends a request as an application does.
func (w *walk) do(req *http.Request) (*http.Response, []byte, error) {
	client := &http.Client{Transport: w.transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	res, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res, body, err
}

func (w *walk) get(ctx context.Context, address string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, nil, err
	}
	return w.do(req)
}

// discover reads the metadata (OpenID Connect Discovery 1.0 §4) and the keys.
func (w *walk) discover(ctx context.Context) error {
	res, body, err := w.get(ctx, w.issuer+"/.well-known/openid-configuration")
	if err != nil {
		return err
	}
	ok := res.StatusCode == http.StatusOK && json.Unmarshal(body, &w.metadata) == nil
	if err := w.must(ok && w.metadata.Issuer == w.issuer, "it is the issuer %s", w.issuer); err != nil {
		return err
	}
	res, w.keySet, err = w.get(ctx, w.metadata.JWKSURI)
	if err != nil {
		return err
	}
	return w.must(res.StatusCode == http.StatusOK, "its keys can be had")
}

// signIn is the authorization code flow with PKCE (RFC 6749 §4.1, RFC 7636), in
// a browser of its own.
func (w *walk) signIn(ctx context.Context, app clients.Metadata) (*signedIn, error) {
	verifier, state, nonce := rand.Text()+rand.Text(), rand.Text(), rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	redirectURI := app.RedirectURIs[0]
	v := newVisitor(w.transport, w.username, w.password)
	callback, last, err := v.authorize(ctx, w.metadata.AuthorizationEndpoint+"?"+url.Values{
		"response_type":         {"code"},
		"client_id":             {app.ClientID},
		"redirect_uri":          {redirectURI},
		"scope":                 {"openid profile"},
		"state":                 {state},
		"nonce":                 {nonce},
		"code_challenge":        {base64.RawURLEncoding.EncodeToString(challenge[:])},
		"code_challenge_method": {"S256"},
	}.Encode())
	if errors.Is(err, errNoWay) {
		return nil, w.must(false, "sign-in and consent lead back to the application (they end with %s)", last.Status)
	}
	if err != nil {
		return nil, err
	}
	q := callback.Query()
	ok := strings.HasPrefix(callback.String(), redirectURI+"?") && q.Get("error") == ""
	if err := w.must(ok, "the browser is sent to %s", redirectURI); err != nil {
		return nil, err
	}
	w.check(q.Get("state") == state, "with the state of the request")
	w.check(q.Get("iss") == w.issuer, "and the issuer (RFC 9207)")
	fmt.Fprintln(w.out)

	form := url.Values{"grant_type": {"authorization_code"}, "code": {q.Get("code")}, "redirect_uri": {redirectURI}, "code_verifier": {verifier}}
	switch app.TokenEndpointAuthMethod {
	case clients.AuthNone:
		form.Set("client_id", app.ClientID)
	case clients.AuthClientSecretPost:
		form.Set("client_id", app.ClientID)
		form.Set("client_secret", app.ClientSecret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.metadata.TokenEndpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if app.TokenEndpointAuthMethod == clients.AuthClientSecretBasic {
		req.SetBasicAuth(url.QueryEscape(app.ClientID), url.QueryEscape(app.ClientSecret))
	}
	res, body, err := w.do(req)
	if err != nil {
		return nil, err
	}
	var tokens struct {
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
		IDToken     string `json:"id_token"`
	}
	ok = res.StatusCode == http.StatusOK && json.Unmarshal(body, &tokens) == nil && tokens.AccessToken != "" && strings.EqualFold(tokens.TokenType, "Bearer")
	if err := w.must(ok, "the code gives an access token"); err != nil {
		return nil, err
	}
	w.check(res.Header.Get("Content-Type") == "application/json" && res.Header.Get("Cache-Control") == "no-store", "as JSON that nobody keeps")
	claims, err := verifyIDToken(tokens.IDToken, w.keySet)
	if err := w.must(err == nil, "and an ID token that the issuer has signed"); err != nil {
		return nil, err
	}
	w.check(claims.Issuer == w.issuer && slices.Contains(claims.Audience, app.ClientID) && claims.Nonce == nonce, "for this application and this sign-in")
	if err := w.must(isSessionID(claims.SessionID), "its sid is %s", claims.SessionID); err != nil {
		return nil, err
	}
	return &signedIn{accessToken: tokens.AccessToken, sid: claims.SessionID, sub: claims.Subject}, nil
}

// call asks the session API.
func (w *walk) call(ctx context.Context, method, path string, as *signedIn) (*http.Response, []byte) {
	req, err := http.NewRequestWithContext(ctx, method, w.issuer+path, nil)
	if err == nil {
		req.Header.Set("Authorization", "Bearer "+as.accessToken)
		req.Header.Set("Accept", "application/vnd.api+json")
		var res *http.Response
		var body []byte
		if res, body, err = w.do(req); err == nil {
			return res, body
		}
	}
	w.check(false, "%s %s is answered: %v", method, path, err)
	return nil, nil
}

// current is GET /session/.
func (w *walk) current(ctx context.Context, as *signedIn) {
	res, body := w.call(ctx, http.MethodGet, "/session/", as)
	if res == nil {
		return
	}
	w.answer(res, http.StatusOK)
	data := w.document(body, w.issuer+"/session/", "data")
	if s := w.resource(data); s != nil {
		w.check(s.ID == as.sid, "its id is the sid of the ID token")
		w.check(s.Attributes.ClientID == w.first.ClientID, "its client is %s", w.first.ClientID)
		w.check(s.Attributes.Current, "it is the current one")
	}
}

// sessions is GET /sessions/: exactly the sessions of want, which has the
// client of each sid.
func (w *walk) sessions(ctx context.Context, as *signedIn, want map[string]string) {
	res, body := w.call(ctx, http.MethodGet, "/sessions/", as)
	if res == nil {
		return
	}
	w.answer(res, http.StatusOK)
	var list []json.RawMessage
	err := json.Unmarshal(w.document(body, w.issuer+"/sessions/", "data"), &list)
	if !w.check(err == nil && len(list) == len(want), "it lists %s", count(len(want), "session")) {
		return
	}
	seen := map[string]bool{}
	for _, raw := range list {
		s := w.resource(raw)
		if s == nil {
			continue
		}
		w.check(want[s.ID] != "" && want[s.ID] == s.Attributes.ClientID && !seen[s.ID], "%s is the sid of the ID token for %s", s.ID, s.Attributes.ClientID)
		w.check(s.Attributes.Current == (s.ID == as.sid), "current: %t", s.ID == as.sid)
		seen[s.ID] = true
	}
}

// end is DELETE /sessions/{id}/.
func (w *walk) end(ctx context.Context, as *signedIn, id string) {
	res, body := w.call(ctx, http.MethodDelete, "/sessions/"+id+"/", as)
	if res == nil {
		return
	}
	w.check(res.StatusCode == http.StatusNoContent, "status 204")
	w.check(len(body) == 0, "no body")
	w.check(res.Header.Get("Cache-Control") == "no-store", "Cache-Control: no-store")
}

// refused is GET /session/ with a token whose session has ended.
func (w *walk) refused(ctx context.Context, as *signedIn) {
	res, body := w.call(ctx, http.MethodGet, "/session/", as)
	if res == nil {
		return
	}
	w.answer(res, http.StatusUnauthorized)
	challenge := res.Header.Get("WWW-Authenticate")
	w.check(strings.HasPrefix(challenge, "Bearer ") && strings.Contains(challenge, `error="invalid_token"`), "the challenge says invalid_token (RFC 6750 §3.1)")
	w.problem(body, "401", "ACCESS_TOKEN_INVALID")
}
