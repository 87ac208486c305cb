package jsonapi

import (
	_ "embed"
	"net/http"

	"gatehouse.dev/gatehouse/sessions/openapi"
)

// openAPI is the machine-readable contract (OpenAPI 3.1).
//
//go:embed openapi.yaml
var openAPI []byte

// descriptionPath is where the contract is served, below the issuer.
const descriptionPath = "/session-api.yaml"

// anyIssuer stands in the contract where its server has the issuer.
const anyIssuer = "http://localhost:8080/authorization-servers/myAS"

// describe serves the contract.
func (h *Handler) describe() http.Handler {
	return openapi.Handler(openapi.In(openAPI, anyIssuer, h.base), func(w http.ResponseWriter, r *http.Request, allow string) {
		h.refuse(w, r, descriptionPath, methodNotAllowed(allow))
	})
}
