package keys

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestJWKSHandler(t *testing.T) {
	h := newHouse(t)
	r := h.open()
	handler := r.JWKSHandler()
	ask := func(method, ifNoneMatch string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(method, "/jwks", nil)
		if ifNoneMatch != "" {
			req.Header.Set("If-None-Match", ifNoneMatch)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		return w
	}
	got := ask("GET", "")
	etag := got.Header().Get("ETag")
	for name, want := range map[string]string{
		"Content-Type":           "application/json",
		"Cache-Control":          "public, max-age=300",
		"X-Content-Type-Options": "nosniff",
	} {
		if value := got.Header().Get(name); value != want {
			t.Errorf("%s: %q, want %q", name, value, want)
		}
	}
	if got.Code != 200 || got.Body.String() != string(r.JWKS()) || len(etag) < 10 {
		t.Errorf("GET: %d, ETag %s, %s", got.Code, etag, got.Body)
	}
	if head := ask("HEAD", ""); head.Code != 200 || head.Body.Len() != 0 || head.Header().Get("ETag") != etag || head.Header().Get("Content-Length") == "" {
		t.Errorf("HEAD: %d, %v", head.Code, head.Header())
	}
	for _, match := range []string{etag, "W/" + etag, `"x", ` + etag, "*"} {
		if w := ask("GET", match); w.Code != http.StatusNotModified || w.Body.Len() != 0 || w.Header().Get("Cache-Control") == "" {
			t.Errorf("If-None-Match %s: %d", match, w.Code)
		}
	}
	if w := ask("GET", `"x"`); w.Code != 200 {
		t.Errorf("If-None-Match of another: %d", w.Code)
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
		if w := ask(method, ""); w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" || strings.Contains(w.Body.String(), "kty") {
			t.Errorf("%s: %d, Allow %q", method, w.Code, w.Header().Get("Allow"))
		}
	}

	// A rotation changes the ETag; a reload without change does not.
	h.reload(r)
	if ask("GET", etag).Code != http.StatusNotModified {
		t.Error("a reload without change changed the ETag")
	}
	h.rotate(r, "EdDSA", false)
	if w := ask("GET", etag); w.Code != 200 || w.Header().Get("ETag") == etag {
		t.Errorf("after a rotation: %d", w.Code)
	}
}

func TestJWKSHasAllKeysAndNothingPrivate(t *testing.T) {
	h := newHouse(t)
	r := h.open()
	h.rotate(r, "", true)
	h.advance(time.Minute)
	h.rotate(r, "", false)
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(r.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	infos := r.Keys()
	if len(set.Keys) != 12 || len(infos) != 12 {
		t.Fatalf("%d keys published, %d listed, want 12: next, active and retired of four", len(set.Keys), len(infos))
	}
	allowed := map[string]string{
		"RS256": "alg e kid kty n use", "PS256": "alg e kid kty n use",
		"ES256": "alg crv kid kty use x y", "EdDSA": "alg crv kid kty use x",
	}
	for i, key := range set.Keys {
		if key["kid"] != infos[i].ID || key["alg"] != infos[i].Algorithm || key["use"] != "sig" {
			t.Errorf("key %d: %v, want %+v", i, key, infos[i])
		}
		for member := range key {
			if !strings.Contains(" "+allowed[infos[i].Algorithm]+" ", " "+member+" ") {
				t.Errorf("key for %s has the member %q", infos[i].Algorithm, member)
			}
		}
	}
}
