package oauth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"slices"

	"gatehouse.dev/gatehouse/clients"
)

// SessionManagement tells whether the server offers OpenID Connect Session
// Management 1.0.
func (s *Server) SessionManagement() bool { return s.cfg.SessionManagement }

// putState brings the browser state cookie up to what /authorize has seen. A
// request without a login cookie says nothing: in a frame of another site there
// never is one.
func (s *Server) putState(w http.ResponseWriter, r *http.Request, a *authorization) {
	if s.cfg.SessionManagement && a.cookie {
		s.cfg.Cookie.State().Put(w, r, a.login)
	}
}

// withState adds session_state to a successful authentication response (OpenID
// Connect Session Management 1.0 §2): for whom the browser's state can be watched
// from a page of the client's.
func (s *Server) withState(params url.Values, a *authorization) url.Values {
	origin := clients.Origin(a.redirectURI)
	if s.cfg.SessionManagement && origin != "" && slices.Contains(a.scopes, "openid") {
		params.Set("session_state", sessionState(a.client.ClientID, origin, s.cfg.Cookie.State().Of(a.login), rand.Text()))
	}
	return params
}

// sessionState is what the script of the check session iframe computes, too:
// base64url(SHA-256(client_id " " origin " " browser state " " salt)) "." salt.
func sessionState(clientID, origin, browser, salt string) string {
	sum := sha256.Sum256([]byte(clientID + " " + origin + " " + browser + " " + salt))
	return base64.RawURLEncoding.EncodeToString(sum[:]) + "." + salt
}

// checkScript answers the messages of clients' pages (Session Management 1.0
// §3.2). It tells "unchanged" only who has a session_state made for his own
// origin, and so nothing to a page that no user of its own has signed in to. A
// client_id may have spaces, a session_state has none. No comments in here: the
// template would take them out, and the policy names the hash of the whole.
const checkScript = `"use strict";
const name = document.documentElement.dataset.cookie + "=";
const browserState = () => {
  const held = document.cookie.split("; ").find((c) => c.startsWith(name));
  return held ? held.slice(name.length) : "";
};
const digest = async (text) => {
  const sum = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return btoa(String.fromCharCode(...new Uint8Array(sum))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
};
const judge = async (message, origin) => {
  const parts = typeof message === "string" && message.length <= 1024 && /^(.+) ([A-Za-z0-9_-]{43})\.([A-Za-z0-9]{1,64})$/.exec(message);
  if (!parts) return "error";
  const state = browserState();
  const same = state !== "" && await digest(parts[1] + " " + origin + " " + state + " " + parts[3]) === parts[2];
  return same ? "unchanged" : "changed";
};
window.addEventListener("message", async (e) => {
  if (!e.source || e.source === window || !/^https?:/.test(e.origin)) return;
  let answer = "error";
  try { answer = await judge(e.data, e.origin); } catch {}
  e.source.postMessage(answer, e.origin);
});
`

var (
	checkPage = template.Must(template.New("check_session").Parse(`<!DOCTYPE html>
<html lang="en" data-cookie="{{.}}"><head><meta charset="utf-8"><meta name="robots" content="noindex"><title>Session</title></head>
<body><script>` + checkScript + `</script></body></html>
`))
	checkHash = func() string {
		sum := sha256.Sum256([]byte(checkScript))
		return base64.StdEncoding.EncodeToString(sum[:])
	}()
)

// checkSession is the check session iframe (Session Management 1.0 §3.2): a page
// without anything to see or click, which any site may have in a frame.
func (s *Server) checkSession(w http.ResponseWriter, r *http.Request) {
	var page bytes.Buffer
	if err := checkPage.Execute(&page, s.cfg.Cookie.State().Name()); err != nil {
		s.page(w, r, asError(err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	// No frame-ancestors, and no X-Frame-Options, which every answer has that says
	// nothing of it: to be framed is what this is for.
	h.Del("X-Frame-Options")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'sha256-"+checkHash+"'; base-uri 'none'; form-action 'none'")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin") // pages with COEP frame it, too
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(page.Bytes())
}
