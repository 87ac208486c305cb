package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/mux"
)

func TestSignpostAnswersAsTheRouter(t *testing.T) {
	router := mux.NewRouter().SkipClean(true)
	router.Use(noteRoute)
	catchAll(router)
	says := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s vars=%d route=%s server=%s", text, r.Method, len(mux.Vars(r)), noteOf(r.Context()).route, noteOf(r.Context()).server)
		})
	}
	router.Handle("/plain", says("plain"))
	router.Handle("/things/{id}", says("thing"))
	router.Handle("/things/late", says("never: a variable takes it"))
	router.Handle("/read", says("read")).Methods(http.MethodGet)
	router.Handle("/either", says("get")).Methods(http.MethodGet)
	router.Handle("/either", says("any"))
	below := router.PathPrefix("/as/one").Subrouter()
	below.Use(noteServer("one"))
	below.Handle("/token", says("token"))
	below.Handle("/", says("root"))
	router.Handle("/as/one/late", says("late"))
	router.Handle("/plain", says("never: the first takes it"))

	post := newSignpost(router)
	for _, path := range []string{"/plain", "/as/one/token", "/as/one/", "/as/one/late"} {
		if _, known := post.fixed[path]; !known {
			t.Errorf("%s isn't looked up", path)
		}
	}
	if n := len(post.fixed); n != 4 {
		t.Errorf("%d paths are looked up, want 4: %v", n, post.fixed)
	}
	for _, path := range []string{"/plain", "/plain/", "/plain//", "//plain", "/things/1", "/things/late", "/read", "/either",
		"/as/one/token", "/as/one/token/", "/as/one/", "/as/one", "/as/one/late", "/none"} {
		for _, method := range append([]string{"BREW"}, methods...) {
			answer := func(h http.Handler) string {
				out := httptest.NewRecorder()
				e := &edge{next: h, metrics: newMetrics(), logger: slog.New(slog.DiscardHandler)}
				e.ServeHTTP(out, httptest.NewRequest(method, "http://id.example"+path, nil))
				body := out.Body.String()
				if out.Code >= 400 {
					body = "" // it names the request
				}
				return fmt.Sprint(out.Code, out.Header(), body)
			}
			if got, want := answer(post), answer(router); got != want {
				t.Errorf("%s %s: %s, the router says %s", method, path, got, want)
			}
		}
	}
}

func TestDefaultHeadersAreNobodysToChange(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Cache-Control", "private")
		w.Header().Set("Referrer-Policy", "same-origin")
	})
	e := &edge{next: handler, metrics: newMetrics(), logger: slog.New(slog.DiscardHandler)}
	for range 2 {
		out := httptest.NewRecorder()
		e.ServeHTTP(out, httptest.NewRequest(http.MethodGet, "/", nil))
		if got := out.Header().Values("Cache-Control"); len(got) != 2 || got[0] != "no-store" {
			t.Errorf("Cache-Control %q", got)
		}
	}
	e.next = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	out := httptest.NewRecorder()
	e.ServeHTTP(out, httptest.NewRequest(http.MethodGet, "/", nil))
	if got := out.Header().Values("Cache-Control"); len(got) != 1 || out.Header().Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("after a handler that changed them: Cache-Control %q, Referrer-Policy %q", got, out.Header().Get("Referrer-Policy"))
	}
}
