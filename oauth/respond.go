package oauth

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"net/url"

	"gatehouse.dev/gatehouse/sessions"
)

// Response modes (OAuth 2.0 Multiple Response Types §2.1, OAuth 2.0 Form Post
// Response Mode §2).
const (
	modeQuery    = "query"
	modeFormPost = "form_post"
)

// redirect sends the browser on with 303, so that nothing is ever posted on
// (RFC 9700 §4.12), and without a body or a Referer that could tell the target.
func redirect(w http.ResponseWriter, target string) {
	h := w.Header()
	h.Set("Location", target)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(http.StatusSeeOther)
}

// refuse tells the client of an error through the browser (RFC 6749 §4.1.2.1).
// What is our own failure is shown to the person instead, who can try again,
// unless nobody is looking (prompt=none).
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, a *authorization, err error) {
	e := asError(err)
	s.report(r, e)
	if errors.Is(err, sessions.ErrUnavailable) && !a.silent() {
		s.page(w, r, e)
		return
	}
	s.respond(w, r, a, url.Values{"error": {e.Code}, "error_description": {describable(e.Description)}})
}

// respond sends an authorization response, with the iss of RFC 9207 §2.
func (s *Server) respond(w http.ResponseWriter, r *http.Request, a *authorization, params url.Values) {
	if a.state != "" {
		params.Set("state", a.state)
	}
	params.Set("iss", s.cfg.Issuer)
	if a.mode == modeFormPost {
		s.formPost(w, r, a, params)
		return
	}
	u, err := url.Parse(a.redirectURI)
	if err != nil {
		s.page(w, r, asError(err))
		return
	}
	// The registered query stays as it is (RFC 6749 §3.1.2).
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += params.Encode()
	redirect(w, u.String())
}

const submitScript = `document.forms[0].submit()`

var (
	formPostPage = template.Must(template.New("form_post").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Continue</title></head>
<body><form method="post" action="{{.Action}}">{{range $name, $values := .Parameters}}{{range $values}}
<input type="hidden" name="{{$name}}" value="{{.}}">{{end}}{{end}}
<noscript><p>You are signed in. / Sie sind angemeldet.</p><button type="submit">Continue / Weiter</button></noscript></form>
<script>` + submitScript + `</script></body></html>
`))
	submitHash = func() string {
		sum := sha256.Sum256([]byte(submitScript))
		return base64.StdEncoding.EncodeToString(sum[:])
	}()
)

// formPost answers by a form that posts itself (OAuth 2.0 Form Post Response
// Mode §2). No form-action in the policy: Chromium would hold it against every
// redirect that the client makes of the post.
func (s *Server) formPost(w http.ResponseWriter, r *http.Request, a *authorization, params url.Values) {
	var page bytes.Buffer
	err := formPostPage.Execute(&page, map[string]any{"Action": template.URL(a.redirectURI), "Parameters": params}) //nolint:gosec // a registered redirect URI, and its scheme was checked at registration
	if err != nil {
		s.page(w, r, asError(err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'sha256-"+submitHash+"'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	_, _ = w.Write(page.Bytes())
}
