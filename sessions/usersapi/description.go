package usersapi

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
)

// openAPI is the machine-readable contract (OpenAPI 3.1).
//
//go:embed openapi.yaml
var openAPI []byte

// descriptionPath is where the contract is served.
const descriptionPath = "/sessions-api.yaml"

// anyBase stands in the contract where its server has the base.
const anyBase = "default: http://localhost:8080/api/users/v1"

// description is the contract with this realm's address.
func (h *Handler) description() []byte {
	base, err := json.Marshal(h.cfg.Base) // a JSON string is one of YAML as well
	if err != nil {
		return openAPI // strings always marshal
	}
	return bytes.Replace(openAPI, []byte(anyBase), append([]byte("default: "), base...), 1)
}

// describe serves the contract to everybody: it says nothing about anybody.
func (h *Handler) describe() http.Handler {
	const allow = "GET, HEAD, OPTIONS"
	content := h.description()
	sum := sha256.Sum256(content)
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
			h.refuse(w, r, descriptionPath, methodNotAllowed(allow))
			return
		}
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", "application/yaml") // RFC 9512
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		_, _ = w.Write(content) // an error here is the caller's connection
	})
}
