package jsonapi

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"gatehouse.dev/gatehouse/sessions"
)

// contract is a validator of the description that is served.
var contract = sync.OnceValue(func() validator.Validator {
	w := httptest.NewRecorder()
	New(newFixture(nil).config).describe().ServeHTTP(w, httptest.NewRequest("GET", descriptionPath, nil))
	doc, err := libopenapi.NewDocument(w.Body.Bytes())
	if err != nil {
		panic(err)
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		panic(errs[0])
	}
	return v
})

// path turns the path of a request into one that the contract has.
var (
	oneSession = regexp.MustCompile(`^/sessions/[^/?]+/?(\?|$)`)
	known      = regexp.MustCompile(`^/(session|sessions|sessions/[^/]+)/$`)
)

func contractPath(target string) (path string, found bool) {
	path = oneSession.ReplaceAllString(target, "/sessions/x/$1")
	path, _, _ = strings.Cut(path, "?")
	if path != descriptionPath {
		path = strings.TrimSuffix(path, "/") + "/"
	}
	return path, !strings.Contains(target, "%2F") && (path == descriptionPath || known.MatchString(path))
}

// contractFaults tells what of an answer is not in the contract.
func contractFaults(method, target string, code int, header http.Header, body []byte) []string {
	path, found := contractPath(target)
	if !found || method == http.MethodOptions {
		return nil // nobody's path; OPTIONS is for all
	}
	switch method {
	case http.MethodGet, http.MethodDelete, http.MethodPatch:
		if code == http.StatusMethodNotAllowed {
			method = http.MethodGet
		}
	default: // HEAD answers like GET, and what is not allowed is described there
		method = http.MethodGet
	}
	request := httptest.NewRequest(method, "http://issuer.example"+path, nil)
	answer := &http.Response{StatusCode: code, Header: header.Clone(), Body: io.NopCloser(bytes.NewReader(body)), Request: request}
	if code == http.StatusNoContent || code == http.StatusNotModified {
		answer.Body = http.NoBody
	}
	_, errs := contract().ValidateHttpResponse(request, answer)
	var faults []string
	for _, err := range errs {
		faults = append(faults, err.Error())
		for _, failure := range err.SchemaValidationErrors {
			faults = append(faults, failure.Error())
		}
	}
	return faults
}

func TestContractIsOpenAPI(t *testing.T) {
	valid, errs := contract().ValidateDocument()
	for _, err := range errs {
		t.Error(err)
	}
	if !valid {
		t.Error("openapi.yaml is not OpenAPI 3.1")
	}
}

// The validator is worth nothing if it lets everything pass.
func TestContractFaultsAreFound(t *testing.T) {
	f := newFixture(t)
	for _, target := range []string{"/session/", "/sessions/", "/sessions/?page[size]=1", "/sessions/" + unknownID} {
		w := f.do("GET", target)
		body := w.Body.String()
		if faults := contractFaults("GET", target, w.Code, w.Header(), []byte(body)); faults != nil {
			t.Fatalf("%s: %v", target, faults)
		}
		changes := map[string]string{
			"unknown top-level member": strings.Replace(body, `{"meta"`, `{"extra":1,"meta"`, 1),
			"unknown meta member":      strings.Replace(body, `"timestamp"`, `"extra":1,"timestamp"`, 1),
			"timestamp without millis": strings.Replace(body, `.086Z`, `Z`, 1),
			"no meta":                  strings.Replace(body, `"meta"`, `"meto"`, 1),
		}
		if w.Code == 200 {
			changes["unknown attribute"] = strings.Replace(body, `"clientId"`, `"extra":1,"clientId"`, 1)
			changes["unknown member of a resource"] = strings.Replace(body, `"attributes"`, `"extra":1,"attributes"`, 1)
			changes["unknown link"] = strings.Replace(body, `"links":{`, `"links":{"extra":null,`, 1)
			changes["short id"] = strings.Replace(body, phoneID, phoneID[1:], 1)
			changes["attribute of another type"] = strings.Replace(body, `"offline":false`, `"offline":"no"`, 1)
		} else {
			changes["unknown code"] = strings.Replace(body, "SESSION_NOT_FOUND", "SESSION_LOST", 1)
			changes["number as status"] = strings.Replace(body, `"404"`, `404`, 1)
			changes["unknown member of an error"] = strings.Replace(body, `"code"`, `"extra":1,"code"`, 1)
		}
		for name, changed := range changes {
			if changed == body {
				t.Fatalf("%s: nothing changed", name)
			}
			if contractFaults("GET", target, w.Code, w.Header(), []byte(changed)) == nil {
				t.Errorf("%s, %s: not found", target, name)
			}
		}
		if contractFaults("GET", target, 418, w.Header(), []byte(body)) == nil {
			t.Errorf("%s: unknown status not found", target)
		}
		if contractFaults("GET", target, w.Code, http.Header{"Content-Type": {"application/json"}}, []byte(body)) == nil {
			t.Errorf("%s: other content type not found", target)
		}
	}
}

func TestContractIsServed(t *testing.T) {
	f := newFixture(t)
	f.denied = sessions.ErrCallerMissing
	get := f.do("GET", descriptionPath)
	if get.Code != 200 || get.Header().Get("Content-Type") != "application/yaml" ||
		get.Header().Get("Cache-Control") != "public, max-age=3600" || get.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("GET: %d %v", get.Code, get.Header())
	}
	if body := get.Body.String(); !strings.Contains(body, `default: "`+testBase+`"`) || strings.Contains(body, "localhost") ||
		len(body) < 10_000 || !strings.HasPrefix(body, "openapi: 3.1.") {
		t.Errorf("its server is not the issuer: %.500s", body)
	}
	head := f.do("HEAD", descriptionPath)
	if head.Code != 200 || head.Header().Get("ETag") == "" || head.Header().Get("Content-Length") != get.Header().Get("Content-Length") {
		t.Errorf("HEAD: %d %v", head.Code, head.Header())
	}
	if w := f.do("GET", descriptionPath, "If-None-Match", head.Header().Get("ETag")); w.Code != 304 || w.Body.Len() > 0 {
		t.Errorf("If-None-Match: %d", w.Code)
	}
	if w := f.do("GET", descriptionPath, "If-None-Match", `"other"`); w.Code != 200 {
		t.Errorf("another ETag: %d", w.Code)
	}
	if w := f.do("OPTIONS", descriptionPath); w.Code != 204 || w.Header().Get("Allow") != "GET, HEAD, OPTIONS" {
		t.Errorf("OPTIONS: %d %v", w.Code, w.Header())
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "TRACE"} {
		w := f.do(method, descriptionPath)
		checkError(t, w, 405, "METHOD_NOT_ALLOWED")
		if w.Header().Get("Allow") != "GET, HEAD, OPTIONS" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", method, w.Header())
		}
	}
	if len(f.store.calls) > 0 {
		t.Errorf("store: %v", f.store.calls)
	}
}
