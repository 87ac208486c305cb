package main

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/gorilla/mux"
)

// signpost looks up paths without variables before the router is asked. The
// router tries one route after the other, each a regular expression; with many
// authorization servers the way to the last of them is long, and its protocol
// endpoints are the busiest paths of all. What the signpost doesn't know goes
// to the router, and what it knows is answered as the router would.
type signpost struct {
	router *mux.Router
	fixed  map[string]fixedRoute
}

// fixedRoute is what the router finds at a path, whatever the method.
type fixedRoute struct {
	template string
	handler  http.Handler // with the middlewares of all routers on the way
}

// newSignpost notes the paths of a router to which all routes are added.
func newSignpost(router *mux.Router) *signpost {
	s := &signpost{router: router, fixed: map[string]fixedRoute{}}
	_ = router.Walk(func(route *mux.Route, _ *mux.Router, _ []*mux.Route) error {
		path, err := route.GetPathTemplate()
		if err != nil || route.GetHandler() == nil || strings.Contains(path, "{") {
			return nil
		}
		if _, known := s.fixed[path]; known {
			return nil // the first route of a path answers it
		}
		// Asked for each method, the router has to find the same route: one that
		// takes them all, with no earlier one in its way.
		var match mux.RouteMatch
		for _, method := range append([]string{"X-UNKNOWN"}, methods...) {
			match = mux.RouteMatch{}
			r := &http.Request{Method: method, URL: &url.URL{Path: path}, Header: http.Header{}}
			if !router.Match(r, &match) || match.MatchErr != nil || match.Route != route || len(match.Vars) > 0 {
				return nil
			}
		}
		s.fixed[path] = fixedRoute{template: path, handler: match.Handler}
		return nil
	})
	return s
}

// ServeHTTP serves a request at a fixed path, or lets the router find the way.
func (s *signpost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	route, known := s.fixed[r.URL.Path]
	if !known {
		s.router.ServeHTTP(w, r)
		return
	}
	noteOf(r.Context()).route = route.template
	route.handler.ServeHTTP(w, r)
}
