//go:build linux

package bench

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// tokens are the answer to a token request.
type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
}

func basic(client string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(client+":"+secretOf(client)))
}

// postForm is a request of a client with its secret.
func postForm(as, endpoint, client string, form url.Values) Request {
	return Request{Method: http.MethodPost, Path: pathOf(as) + endpoint, Body: form.Encode(),
		Header: map[string]string{"Authorization": basic(client), "Content-Type": "application/x-www-form-urlencoded"}}
}

func bearer(method, as, path, token string) Request {
	return Request{Method: method, Path: pathOf(as) + path, Header: map[string]string{"Authorization": "Bearer " + token}}
}

func introspection(as, client, token string) Request {
	return postForm(as, "/introspect", client, url.Values{"token": {token}})
}

func refresh(as, client, token string) Request {
	return postForm(as, "/token", client, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

func clientCredentials(as string) Request {
	return postForm(as, "/token", programID, url.Values{"grant_type": {"client_credentials"}})
}

// authorizePath is an authorization request of an application.
func authorizePath(as, client string) string {
	return pathOf(as) + "/authorize?" + url.Values{"response_type": {"code"}, "client_id": {client}, "redirect_uri": {callback}, "scope": {appScope},
		"state": {"state-of-the-bench"}, "nonce": {"nonce-of-the-bench"}, "code_challenge": {challenge}, "code_challenge_method": {"S256"}}.Encode()
}

// flow is the whole code flow of a browser that is signed in: authorization
// request, redirect, token request.
func flow(c *conn, as, client, cookie string) (tokens, error) {
	var got tokens
	a, err := c.do(encode(Request{Method: http.MethodGet, Path: authorizePath(as, client),
		Header: map[string]string{"Cookie": "gatehouse-default=" + cookie, "Accept": "text/html"}}))
	if err != nil {
		return got, err
	}
	to, err := url.Parse(a.Header.Get("Location"))
	if err != nil {
		return got, err
	}
	code := to.Query().Get("code")
	if a.Status != http.StatusSeeOther || code == "" || !strings.HasPrefix(to.String(), callback) {
		return got, fmt.Errorf("the authorization request is answered with %d to %s %s", a.Status, to, a.Body)
	}
	a, err = c.do(encode(postForm(as, "/token", client, url.Values{"grant_type": {"authorization_code"}, "code": {code},
		"redirect_uri": {callback}, "code_verifier": {verifier}})))
	if err != nil {
		return got, err
	}
	return readTokens(a)
}

func readTokens(a answer) (tokens, error) {
	var got tokens
	if a.Status != http.StatusOK {
		return got, fmt.Errorf("the token request is answered with %d %s", a.Status, a.Body)
	}
	if err := json.Unmarshal(a.Body, &got); err != nil {
		return got, err
	}
	if got.Access == "" || got.Refresh == "" || got.ID == "" {
		return got, fmt.Errorf("a token is missing: %s", a.Body)
	}
	return got, nil
}

// mustFlow is flow that can't fail.
func mustFlow(t testing.TB, p *program, as, client string, login int) tokens {
	t.Helper()
	c := dial(t, p.Address)
	defer c.Close()
	got, err := flow(c, as, client, cookieOf(login))
	if err != nil {
		t.Fatalf("%s, login %d at %s: %v", p.Name, login, client, err)
	}
	return got
}

// expect is an error where a request is not answered with that status.
func expect(c *conn, r Request, status int) error {
	a, err := c.do(encode(r))
	if err == nil && a.Status != status {
		err = fmt.Errorf("%s %s is answered with %d %s", r.Method, r.Path, a.Status, a.Body)
	}
	return err
}
