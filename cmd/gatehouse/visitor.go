package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"

	"golang.org/x/net/html"
)

// maxPage bounds what a visitor reads of a page, in bytes.
const maxPage = 1 << 20

// errNoWay: an authorization request did not lead back to the client.
var errNoWay = errors.New("the way does not lead back to the client")

// visitor is a person with a browser of his own: it keeps cookies, fills in
// forms, follows links and redirects one by one, and runs no JavaScript.
type visitor struct {
	client   *http.Client // keeps cookies, follows no redirects
	username string
	password string
	decision string // on the consent page: allow (also when empty) or deny
}

// newVisitor opens a browser without cookies over a transport; nil: the usual one.
func newVisitor(transport http.RoundTripper, username, password string) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // without options it never fails
	}
	return &visitor{
		client: &http.Client{Transport: transport, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
		username: username,
		password: password,
	}
}

// authorize opens an authorization request and goes on, signing in and
// consenting where it is asked, until it is sent to another origin than the
// request's: that URL is the callback. Otherwise the callback is nil, and last
// is the answer that led nowhere, its body replaced by a copy in memory.
func (v *visitor) authorize(ctx context.Context, request string) (callback *url.URL, last *http.Response, err error) {
	at, err := url.Parse(request)
	if err != nil {
		return nil, nil, err
	}
	home := at.Scheme + "://" + at.Host
	next := func() (*http.Request, error) {
		return http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	}
	var asked []string // what the pages wanted, so that being asked the same thing again ends the way
	for range 12 {
		req, err := next()
		if err != nil {
			return nil, nil, err
		}
		if last, err = v.do(req); err != nil {
			return nil, nil, err
		}
		if location, err := last.Location(); err == nil && last.StatusCode/100 == 3 {
			if location.Scheme+"://"+location.Host != home {
				return location, last, nil
			}
			at = location
			next = func() (*http.Request, error) {
				return http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
			}
			continue
		}
		if last.StatusCode != http.StatusOK {
			return nil, last, errNoWay
		}
		f, wanted := v.fill(last)
		if f == nil || len(asked) > 0 && asked[len(asked)-1] == wanted {
			return nil, last, errNoWay
		}
		asked = append(asked, wanted)
		next = func() (*http.Request, error) { return f.request(ctx) }
	}
	return nil, last, errNoWay
}

// do sends a request and reads the answer into memory.
func (v *visitor) do(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodPost { // as browsers do
		req.Header.Set("Origin", req.URL.Scheme+"://"+req.URL.Host)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	req.Header.Set("Accept", "text/html")
	res, err := v.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxPage))
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

// fill finds the form that a page is about and fills it in. It also tells what
// was wanted: sign-in or consent; nil where there is no such form.
func (v *visitor) fill(page *http.Response) (f *form, wanted string) {
	for _, f := range forms(page) {
		if f.has("password") {
			f.values.Set("username", v.username)
			f.values.Set("password", v.password)
			return f, "sign-in"
		}
		if f.has("decision") {
			f.values.Set("decision", v.decision)
			if v.decision == "" {
				f.values.Set("decision", "allow")
			}
			return f, "consent"
		}
	}
	return nil, ""
}

// form is one form of a page.
type form struct {
	action *url.URL
	post   bool
	names  map[string]bool // of all fields and buttons
	values url.Values      // of the fields, as the page set them; boxes that are not ticked and buttons are left out
}

func (f *form) has(name string) bool { return f.names[name] }

// request submits the form.
func (f *form) request(ctx context.Context) (*http.Request, error) {
	if !f.post {
		action := *f.action
		action.RawQuery = f.values.Encode()
		return http.NewRequestWithContext(ctx, http.MethodGet, action.String(), nil)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.action.String(), strings.NewReader(f.values.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req, nil
}

// forms reads the forms of a page. The page's body stays readable.
func forms(page *http.Response) []*form {
	body, err := io.ReadAll(page.Body)
	page.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return nil
	}
	root, err := html.Parse(bytes.NewReader(body))
	if err != nil {
		return nil
	}
	var found []*form
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.Data == "form" {
			if f, err := readForm(page.Request.URL, n); err == nil {
				found = append(found, f)
			}
		}
	}
	return found
}

func readForm(page *url.URL, n *html.Node) (*form, error) {
	action, err := page.Parse(attribute(n, "action")) // an empty one is the page's own URL
	if err != nil {
		return nil, fmt.Errorf("action of a form: %w", err)
	}
	f := &form{action: action, post: strings.EqualFold(attribute(n, "method"), "post"), names: map[string]bool{}, values: url.Values{}}
	for field := range n.Descendants() {
		name := attribute(field, "name")
		if field.Type != html.ElementNode || name == "" {
			continue
		}
		switch field.Data {
		case "input":
			kind := strings.ToLower(attribute(field, "type"))
			f.names[name] = true
			ticked := (kind != "checkbox" && kind != "radio") || present(field, "checked")
			if kind != "submit" && ticked {
				f.values.Add(name, attribute(field, "value"))
			}
		case "button":
			f.names[name] = true
		}
	}
	return f, nil
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func present(n *html.Node, name string) bool {
	for _, a := range n.Attr {
		if a.Key == name {
			return true
		}
	}
	return false
}
