package main

import (
	"net/http"
	"strings"
	"testing"
)

// RFC 8414 §3.1: the document at the host's root is the same, and as open to
// applications in browsers.
func TestHostRootedMetadataIsReadableFromAnywhere(t *testing.T) {
	s := startServer(t, serverOptions{})
	path := strings.TrimPrefix(s.Issuer("myAS"), s.Config.PublicURL)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/.well-known/oauth-authorization-server"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://app.example")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body := text(t, res)
	if res.StatusCode != http.StatusOK || res.Header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(body, s.Issuer("myAS")) {
		t.Errorf("%s, %v\n%s", res.Status, res.Header, body)
	}
}
