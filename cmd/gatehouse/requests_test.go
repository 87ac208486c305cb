package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/mux"
)

// wrapped serves a router of a few routes through the outermost handler.
func wrapped(t *testing.T) (*httptest.Server, *buffer) {
	t.Helper()
	log := &buffer{}
	router := mux.NewRouter().SkipClean(true)
	router.Use(noteRoute)
	catchAll(router)
	below := router.PathPrefix("/as/one").Subrouter()
	below.Use(noteServer("one"))
	below.HandleFunc("/things/{id}", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, requestID(r.Context())) }).Methods("GET", "DELETE")
	below.HandleFunc("/things/{id}/", func(w http.ResponseWriter, r *http.Request) {}).Methods("PUT")
	router.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("the cause") })
	router.HandleFunc("/late", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		panic("too late")
	})
	router.HandleFunc("/body", func(w http.ResponseWriter, r *http.Request) {
		var tooLarge *http.MaxBytesError
		if _, err := io.Copy(io.Discard, r.Body); errors.As(err, &tooLarge) {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	})
	e := &edge{next: router, metrics: newMetrics(), secure: true, logger: slog.New(slog.NewJSONHandler(log, nil))}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	return server, log
}

func send(t *testing.T, method, address string, body io.Reader, header http.Header) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(answer)
}

// events are the log events with that message.
func events(t *testing.T, log *buffer, message string) []map[string]any {
	t.Helper()
	var found []map[string]any
	for line := range strings.Lines(log.String()) {
		var event map[string]any
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if event["msg"] == message {
			found = append(found, event)
		}
	}
	return found
}

func TestLogEventHasNoSecrets(t *testing.T) {
	server, log := wrapped(t)
	secret := "s3cr3t"
	_, id := send(t, http.MethodGet, server.URL+"/as/one/things/7?code="+secret+"&stamp="+secret, strings.NewReader("token="+secret), http.Header{
		"Authorization": {"Bearer " + secret}, "Cookie": {"gatehouse-default=" + secret}, "User-Agent": {secret}, "Referer": {"https://x.example/?code=" + secret},
	})
	if strings.Contains(log.String(), secret) {
		t.Errorf("a secret of the request is in the log: %s", log)
	}
	found := events(t, log, "request")
	if len(found) != 1 {
		t.Fatalf("%d log events for a request, want 1", len(found))
	}
	for key, want := range map[string]any{
		"method": "GET", "path": "/as/one/things/7", "status": 200.0, "bytes": 26.0, "as": "one", "request_id": id, "address": "127.0.0.1",
	} {
		if found[0][key] != want {
			t.Errorf("%s is %v, want %v", key, found[0][key], want)
		}
	}
}

func TestLogEventIsOneLineWhateverThePath(t *testing.T) {
	server, log := wrapped(t)
	send(t, http.MethodGet, server.URL+"/%0a%0d%7b%22level%22:%22ERROR%22%7d%1b[2J"+strings.Repeat("x", 2000), nil, nil)
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines for one request", n)
	}
	if n := len(log.String()); n > 1000 {
		t.Errorf("a log event of %d bytes", n)
	}
	if strings.ContainsAny(log.String(), "\x1b\r") {
		t.Error("control characters reach the log")
	}
}

func TestRequestIDIsOurs(t *testing.T) {
	server, _ := wrapped(t)
	forged := http.Header{"X-Request-Id": {"forged"}, "Request-Id": {"forged"}, "Traceparent": {"forged"}}
	_, one := send(t, http.MethodGet, server.URL+"/as/one/things/7", nil, forged)
	_, two := send(t, http.MethodGet, server.URL+"/as/one/things/7", nil, forged)
	if len(one) != 26 || one == two || strings.Contains(one, "forged") {
		t.Errorf("request ids %q and %q", one, two)
	}
}

func TestPanicIsAnswered(t *testing.T) {
	server, log := wrapped(t)
	res, body := send(t, http.MethodGet, server.URL+"/panic?code=s3cr3t", nil, nil)
	var answer struct {
		Error string `json:"error"`
		ID    string `json:"request_id"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || res.StatusCode != http.StatusInternalServerError || answer.Error != "server_error" {
		t.Fatalf("%s %s", res.Status, body)
	}
	if strings.Contains(body, "the cause") {
		t.Errorf("the answer tells the cause: %s", body)
	}
	found := events(t, log, "panic")
	if len(found) != 1 || found[0]["request_id"] != answer.ID || found[0]["panic"] != "the cause" {
		t.Errorf("log events %v, want the cause under the id %s", found, answer.ID)
	}
	if strings.Contains(log.String(), "s3cr3t") {
		t.Error("the query is in the log")
	}
	if found := events(t, log, "request"); len(found) != 1 || found[0]["status"] != 500.0 {
		t.Errorf("request events %v", found)
	}
}

func TestPanicAfterTheHeadersAbortsTheConnection(t *testing.T) {
	server, log := wrapped(t)
	res, err := http.Get(server.URL + "/late")
	if err == nil {
		_, err = io.ReadAll(res.Body)
		res.Body.Close()
	}
	if err == nil {
		t.Error("half an answer looks whole")
	}
	server.Close() // waits for the handler
	if len(events(t, log, "panic")) != 1 || len(events(t, log, "request")) != 1 {
		t.Errorf("log: %s", log)
	}
}

func TestUnknownAddressesAndMethods(t *testing.T) {
	server, _ := wrapped(t)
	tests := []struct {
		method, path, accept string
		status               int
		allow, contentType   string
	}{
		{"GET", "/", "", 404, "", "application/json"},
		{"GET", "/as/one", "", 404, "", "application/json"},
		{"GET", "/as/two/things/7", "", 404, "", "application/json"},
		{"GET", "/as/one/things/7/8", "text/html", 404, "", "text/html; charset=utf-8"},
		{"GET", "//as/one/things/7", "", 404, "", "application/json"},
		{"DELETE", "/as//one/things/7", "", 404, "", "application/json"},
		{"DELETE", "/as/one/../one/things/7", "", 404, "", "application/json"},
		{"POST", "/as/one/things/7", "", 405, "GET, DELETE", "application/json"},
		{"PATCH", "/as/one/things/7", "text/html", 405, "GET, DELETE", "text/html; charset=utf-8"},
		{"DELETE", "/as/one/things/7/", "", 405, "PUT", "application/json"},
		{"BREW", "/as/one/things/7", "", 405, "GET, DELETE", "application/json"},
		{"DELETE", "/as/one/things/7", "", 200, "", "text/plain; charset=utf-8"},
	}
	for _, tt := range tests {
		res, body := send(t, tt.method, server.URL+tt.path, nil, http.Header{"Accept": {tt.accept}})
		if res.StatusCode != tt.status || res.Header.Get("Allow") != tt.allow || res.Header.Get("Content-Type") != tt.contentType {
			t.Errorf("%s %s: %d, Allow %q, %s, want %d, %q, %s\n%s", tt.method, tt.path,
				res.StatusCode, res.Header.Get("Allow"), res.Header.Get("Content-Type"), tt.status, tt.allow, tt.contentType, body)
		}
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'", "Strict-Transport-Security": "max-age=31536000",
		} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("%s %s: %s is %q, want %q", tt.method, tt.path, name, got, want)
			}
		}
	}
}

func TestBodiesAreBounded(t *testing.T) {
	server, _ := wrapped(t)
	res, _ := send(t, http.MethodPost, server.URL+"/body", bytes.NewReader(make([]byte, maxBody)), nil)
	if res.StatusCode != http.StatusOK {
		t.Errorf("a body of the limit: %s", res.Status)
	}
	res, _ = send(t, http.MethodPost, server.URL+"/body", io.MultiReader(bytes.NewReader(make([]byte, maxBody)), strings.NewReader("x")), nil)
	if res.StatusCode != http.StatusRequestEntityTooLarge || !res.Close {
		t.Errorf("a body over the limit: %s, connection closed: %t", res.Status, res.Close)
	}
}

// Strangers choose paths and methods, but not how many time series there are.
func TestMetricsAreBounded(t *testing.T) {
	m := newMetrics()
	router := mux.NewRouter().SkipClean(true)
	router.Use(noteRoute)
	router.HandleFunc("/things/{id}", func(http.ResponseWriter, *http.Request) {})
	e := &edge{next: router, metrics: m, logger: slog.New(slog.DiscardHandler)}
	for _, path := range []string{"/things/1", "/things/2", "/nothing/1", "/nothing/2"} {
		for _, method := range []string{"GET", "BREW", "WHEN"} {
			e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, path, nil))
		}
	}
	out := httptest.NewRecorder()
	m.handler().ServeHTTP(out, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	series := map[string]bool{}
	for line := range strings.Lines(out.Body.String()) {
		if strings.HasPrefix(line, "gatehouse_http_requests_total{") {
			series[strings.TrimSpace(line)] = true
		}
	}
	for _, want := range []string{
		`gatehouse_http_requests_total{method="GET",route="/things/{id}",status="200"} 2`,
		`gatehouse_http_requests_total{method="other",route="/things/{id}",status="200"} 4`,
		`gatehouse_http_requests_total{method="GET",route="none",status="404"} 2`,
		`gatehouse_http_requests_total{method="other",route="none",status="404"} 4`,
	} {
		if !series[want] {
			t.Errorf("no series %s", want)
		}
	}
	if len(series) != 4 {
		t.Errorf("%d series, want 4", len(series))
	}
	for _, name := range []string{"gatehouse_http_requests_in_flight 0", "gatehouse_http_request_duration_seconds_bucket", "go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(out.Body.String(), name) {
			t.Errorf("no %s", name)
		}
	}
}
