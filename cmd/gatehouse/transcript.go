package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// transcript is a transport that writes down what passes through it, for people
// to read: with line, telling headers and body of request and answer, but with
// tokens, codes, cookies and passwords cut short.
type transcript struct {
	out  io.Writer
	base http.RoundTripper
	mu   sync.Mutex // one exchange at a time
}

// Headers that a transcript shows, in this order.
var (
	shownRequest  = []string{"Authorization", "Content-Type", "Accept", "Cookie"}
	shownResponse = []string{"Content-Type", "Location", "WWW-Authenticate", "Cache-Control", "Allow", "Retry-After", "Set-Cookie"}
)

// secretParameters are cut short wherever they stand: in queries, forms and
// JSON documents.
var secretParameters = []string{
	"access_token", "assertion", "client_assertion", "client_secret", "code", "code_challenge", "code_verifier",
	"gatehouse_stamp", "id_token", "id_token_hint", "nonce", "password", "refresh_token", "request", "stamp", "state", "token",
}

// RoundTrip sends the request and writes the exchange down.
func (t *transcript) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "  > %s %s\n", r.Method, shortenURL(r.URL))
	writeHeaders(&b, ">", r.Header, shownRequest)
	if r.GetBody != nil && r.Header.Get("Content-Type") == "application/x-www-form-urlencoded" {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		sent, err := io.ReadAll(body)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "  >\n  > %s\n", shortenQuery(string(sent)))
	}
	res, err := t.base.RoundTrip(r)
	if err != nil {
		fmt.Fprintf(t.out, "%s  ! %v\n\n", b.String(), err)
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxPage))
	res.Body.Close()
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	fmt.Fprintf(&b, "  < %s %s\n", res.Proto, res.Status)
	writeHeaders(&b, "<", res.Header, shownResponse)
	if text := bodyText(res.Header.Get("Content-Type"), body); text != "" {
		b.WriteString("  <\n")
		for line := range strings.Lines(text) {
			b.WriteString("  < " + strings.TrimRight(line, "\n") + "\n")
		}
	}
	fmt.Fprintln(t.out, b.String())
	return res, nil
}

func writeHeaders(b *strings.Builder, mark string, h http.Header, names []string) {
	for _, name := range names {
		for _, value := range h.Values(name) {
			fmt.Fprintf(b, "  %s %s: %s\n", mark, name, shortenHeader(name, value))
		}
	}
}

func shortenHeader(name, value string) string {
	switch name {
	case "Authorization":
		scheme, rest, _ := strings.Cut(value, " ")
		return scheme + " " + shorten(rest)
	case "Cookie", "Set-Cookie":
		parts := strings.Split(value, "; ")
		for i, part := range parts {
			if key, secret, ok := strings.Cut(part, "="); ok && (i == 0 || name == "Cookie") {
				parts[i] = key + "=" + shorten(secret)
			}
		}
		return strings.Join(parts, "; ")
	case "Location":
		if u, err := url.Parse(value); err == nil {
			return shortenURL(u)
		}
	}
	return value
}

// shorten leaves enough of a secret to recognise it and too little to use it.
func shorten(s string) string {
	if len(s) <= 6 {
		return "…"
	}
	return s[:min(6, len(s)/3)] + "…"
}

func shortenURL(u *url.URL) string {
	plain := *u
	plain.RawQuery = ""
	if u.RawQuery == "" {
		return plain.String()
	}
	return plain.String() + "?" + shortenQuery(u.RawQuery)
}

// shortenQuery shortens the secret parameters of a query or form, and shows the
// others as people read them.
func shortenQuery(raw string) string {
	pairs := strings.Split(raw, "&")
	for i, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		switch {
		case name == "password":
			pairs[i] = name + "=…"
		case slices.Contains(secretParameters, name):
			pairs[i] = name + "=" + shorten(value)
		}
	}
	return strings.Join(pairs, "&")
}

// bodyText shows JSON with indents and secrets cut short; of a page, only how
// long it is.
func bodyText(contentType string, body []byte) string {
	kind, _, _ := strings.Cut(contentType, ";")
	switch {
	case len(body) == 0:
		return ""
	case kind == "application/json" || strings.HasSuffix(kind, "+json"):
		var indented bytes.Buffer
		if json.Indent(&indented, shortenJSON(body), "", "  ") != nil {
			return string(body)
		}
		return indented.String()
	}
	return fmt.Sprintf("(%s, %d bytes)", kind, len(body))
}

// shortenJSON shortens the secret members of the outermost object and leaves
// everything else, the order too, as it came.
func shortenJSON(body []byte) []byte {
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return body
	}
	for _, name := range secretParameters {
		var secret string
		if raw, ok := members[name]; ok && json.Unmarshal(raw, &secret) == nil {
			body = bytes.ReplaceAll(body, raw, []byte(`"`+shorten(secret)+`"`))
		}
	}
	return body
}
