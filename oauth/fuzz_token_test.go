package oauth_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/mux"
)

// tokenCodes are the error codes of the token endpoint (RFC 6749 §5.2, RFC 8707
// §2), by status.
var tokenCodes = map[int][]string{
	http.StatusBadRequest: {"invalid_request", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_target"},
	// RFC 6749 §5.2 allows 401 for invalid_client alone.
	http.StatusUnauthorized:          {"invalid_client"},
	http.StatusRequestEntityTooLarge: {"invalid_request"},
	http.StatusUnsupportedMediaType:  {"invalid_request"},
}

// FuzzTokenEndpoint posts bodies with live codes, tokens and secrets in them to
// whole authorization servers: every answer is a token response to somebody who
// had something of ours, or a registered error; nothing is our own failure.
// Values of ours differ in each process; inputs name them in capitals.
func FuzzTokenEndpoint(f *testing.F) {
	h := open(f, options{})
	b := h.signedIn("alex")
	routers := make([]*mux.Router, 2)
	values := make([][]string, 2)
	const codes = 100
	for i, s := range h.servers() {
		routers[i] = mux.NewRouter()
		s.server.Mount(routers[i])
		for range codes {
			values[i] = append(values[i], s.code(b, "web"))
		}
		values[i] = append(values[i], s.authorize(b, "norotate").Refresh)
	}
	const (
		web     = "&client_id=web&client_secret=web-secret-of-the-house"
		proof   = "PROOF"
		another = "Basic bm9ib2R5OnNlY3JldA=="
		form    = "application/x-www-form-urlencoded"
	)
	for _, seed := range []struct{ body, authorization, kind string }{
		{"grant_type=client_credentials", proof, form},
		{"grant_type=client_credentials&scope=api:read", proof, form + "; charset=utf-8"},
		{"grant_type=client_credentials&resource=https://api.example&resource=https://files.example", proof, form},
		{"grant_type=client_credentials", another, form},
		{"grant_type=authorization_code&code=CODE&redirect_uri=https://web.example/cb&code_verifier=" + verifier, "WEB", form},
		{"grant_type=authorization_code&code=CODE&redirect_uri=https://web.example/cb", "WEB", form},
		{"grant_type=authorization_code&code=CODE" + web, "", form},
		{"grant_type=refresh_token&refresh_token=REFRESH", "NOROTATE", form},
		{"grant_type=refresh_token&refresh_token=REFRESH&scope=openid+email", "NOROTATE", form},
		{"grant_type=refresh_token&refresh_token=REFRESHx&client_id=spa", "", form},
		{"grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion=a.b.c", proof, form},
		{"grant_type=client_credentials&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion=eyJhbGciOiJub25lIn0.eyJpc3MiOiJ3ZWIifQ.", "", form},
		{"", "", ""}, {"%zz", proof, form}, {"a=b;c", "Bearer x", form}, {"grant_type=x&grant_type=y\x00", "Basic", "text/plain"}, {"\xff=\xff", "Basic \xff", form},
	} {
		f.Add(seed.body, seed.authorization, seed.kind, false)
		f.Add(seed.body, seed.authorization, seed.kind, true)
	}
	proofs := strings.NewReplacer("PROOF", basic("machine", "machine-secret-of-the-house"), "WEB", basic("web", "web-secret-of-the-house"), "NOROTATE", basic("norotate", "norotate-secret-of-the-house"))
	next := make([]int, 2)
	f.Fuzz(func(t *testing.T, body, authorization, kind string, opaque bool) {
		i := 0
		if opaque {
			i = 1
		}
		known := strings.NewReplacer("CODE", values[i][next[i]], "REFRESH", values[i][codes])
		r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(known.Replace(body)))
		r.Header["Content-Type"] = []string{kind}
		if authorization != "" {
			r.Header["Authorization"] = []string{proofs.Replace(authorization)}
		}
		w := httptest.NewRecorder()
		routers[i].ServeHTTP(w, r)
		var answer struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
			Access      string `json:"access_token"`
			Type        string `json:"token_type"`
			Expires     int64  `json:"expires_in"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
			t.Fatalf("%q, %q: %d %v %s", body, authorization, w.Code, w.Header(), w.Body)
		}
		if w.Code == http.StatusOK {
			ours := strings.Contains(body, "CODE") || strings.Contains(body, "REFRESH") || strings.Contains(authorization, "PROOF") || strings.Contains(body, "-secret-of-the-house")
			if !ours || answer.Access == "" || answer.Type != "Bearer" || answer.Expires <= 0 || answer.Error != "" {
				t.Errorf("%q, %q: %s", body, authorization, w.Body)
			}
			if strings.Contains(body, "CODE") && next[i] < codes-1 {
				next[i]++
			}
			return
		}
		if !slices.Contains(tokenCodes[w.Code], answer.Error) || !describes(answer.Description) || answer.Access != "" {
			t.Errorf("%q, %q: %d %s", body, authorization, w.Code, w.Body)
		}
		if (w.Code == http.StatusUnauthorized) != strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%q, %q: %d with the challenge %q", body, authorization, w.Code, w.Header().Get("WWW-Authenticate"))
		}
	})
}
