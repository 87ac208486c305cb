package oauth

import (
	"net/http"
)

// CORS wraps an endpoint that browser applications call with an access token
// or as a public client: origins of the clients' redirect URIs may read the
// answer, without credentials of the browser (Fetch §3.2). Where nothing can be
// known of an origin, fail answers in the endpoint's own form.
func (s *Server) CORS(next http.Handler, fail func(http.ResponseWriter, *http.Request, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		w.Header().Add("Vary", "Origin")
		if origin == "" {
			next.ServeHTTP(w, r)
			return
		}
		allowed, err := s.registry.allowsOrigin(r.Context(), origin)
		if err != nil {
			fail(w, r, err)
			return
		}
		if allowed {
			h := w.Header()
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After, Allow")
		}
		if preflight(r) {
			answerPreflight(w, allowed)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// cors is CORS for protocol endpoints.
func (s *Server) cors(next http.Handler) http.Handler { return s.CORS(next, s.writeError) }

// everyOrigin is the value of a header, made once.
var everyOrigin = []string{"*"}

// anyOrigin wraps what is public anyway: metadata and keys.
func anyOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Access-Control-Allow-Origin"] = everyOrigin
		if preflight(r) {
			answerPreflight(w, true)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func preflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

func answerPreflight(w http.ResponseWriter, allowed bool) {
	if allowed {
		h := w.Header()
		h.Set("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE")
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Accept")
		h.Set("Access-Control-Max-Age", "600")
	}
	w.WriteHeader(http.StatusNoContent)
}
