package usersapi

import (
	_ "embed"
	"net/http"

	"gatehouse.dev/gatehouse/sessions/openapi"
)

// openAPI is the machine-readable contract (OpenAPI 3.1).
//
//go:embed openapi.yaml
var openAPI []byte

// descriptionPath is where the contract is served.
const descriptionPath = "/sessions-api.yaml"

// anyBase stands in the contract where its server has the base.
const anyBase = "http://localhost:8080/api/users/v1"

// describe serves the contract.
func (h *Handler) describe() http.Handler {
	return openapi.Handler(openapi.In(openAPI, anyBase, h.cfg.Base), func(w http.ResponseWriter, r *http.Request, allow string) {
		h.refuse(w, r, descriptionPath, methodNotAllowed(allow))
	})
}
