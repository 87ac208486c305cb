package keys

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// marshal fills in the key set and its ETag.
func (s *state) marshal() error {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, key := range s.ordered() {
		set.Keys = append(set.Keys, publicJWK(key.record, key.public))
	}
	body, err := json.Marshal(set)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	s.jwks = body
	s.etag = []string{`"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`}
	s.length = []string{strconv.Itoa(len(body))}
	return nil
}

// JWKS returns the JSON Web Key Set (RFC 7517 §5): the public half of every
// key, next, active and retired, each with use, alg and kid. The slice is
// shared and must not be changed.
func (r *Ring) JWKS() []byte { return r.state.Load().jwks }

// JWKSHandler serves the key set to GET and HEAD, with an ETag, to be cached
// for 5 minutes; other methods get 405.
//
// The type is application/json. RFC 7517 §8.5.1 registers
// application/jwk-set+json, but nothing that names a jwks_uri (OpenID Connect
// Discovery 1.0 §3, RFC 8414 §2) demands it, the large providers send
// application/json, and there are clients and gateways that decode nothing
// else; a client that knows the registered type takes this one too.
func (r *Ring) JWKSHandler() http.Handler {
	// Values are made once and names written as they are sent: on this path the
	// headers are most of the work.
	mediaType, noSniff := []string{"application/json"}, []string{"nosniff"}
	cacheControl := []string{fmt.Sprintf("public, max-age=%d", int(jwksMaxAge.Seconds()))}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		header := w.Header()
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			header.Set("Allow", "GET, HEAD")
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
			return
		}
		s := r.state.Load() // once: the ETag must be this body's
		header["Content-Type"] = mediaType
		header["Cache-Control"] = cacheControl
		header["Etag"] = s.etag
		header["X-Content-Type-Options"] = noSniff
		if len(req.Header["If-None-Match"]) > 0 || req.Method == http.MethodHead {
			http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(s.jwks))
			return
		}
		header["Content-Length"] = s.length
		_, _ = w.Write(s.jwks)
	})
}
