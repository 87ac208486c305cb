// Package openapi serves the machine-readable description (OpenAPI 3.1) of an
// HTTP API to everybody: it says nothing about anybody. Both APIs of sessions
// have one. It imports nothing of ours.
package openapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
)

// In returns the YAML document with base as its server's default, where it has
// example.
func In(document []byte, example, base string) []byte {
	quoted, err := json.Marshal(base) // a JSON string is one of YAML as well
	if err != nil {
		return document // strings always marshal
	}
	return bytes.Replace(document, []byte("default: "+example), append([]byte("default: "), quoted...), 1)
}

// Handler answers GET and HEAD with the YAML document (RFC 9512), for an hour,
// with an ETag; OPTIONS with the methods. refuse answers any other method, with
// 405 and allow as the methods.
func Handler(document []byte, refuse func(w http.ResponseWriter, r *http.Request, allow string)) http.Handler {
	const allow = "GET, HEAD, OPTIONS"
	sum := sha256.Sum256(document)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		switch r.Method {
		case http.MethodGet, http.MethodHead:
		case http.MethodOptions:
			w.Header().Set("Allow", allow)
			w.WriteHeader(http.StatusNoContent)
			return
		default:
			w.Header().Set("Cache-Control", "no-store")
			refuse(w, r, allow)
			return
		}
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", "application/yaml")
		w.Header().Set("Content-Length", strconv.Itoa(len(document)))
		_, _ = w.Write(document) // an error here is the caller's connection
	})
}
