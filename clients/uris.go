package clients

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxURI is the length in bytes above which no URI is accepted.
const maxURI = 2048

// MatchRedirectURI reports whether requested, the redirect_uri of an
// authorization request, is one that the client registered. It compares
// strings byte by byte (RFC 9700 §4.1.3). The one exception is RFC 8252 §7.3:
// for a native client whose registered URI begins with the loopback literal
// http://127.0.0.1 or http://[::1], the port may be any, while everything
// else must be equal. The name `localhost` is not a literal and gets no such
// freedom (RFC 8252 §8.3). A URI with a fragment, userinfo or characters
// outside RFC 3986 never matches, whatever is registered.
func (m *Metadata) MatchRedirectURI(requested string) bool {
	return m.matches(requested, m.RedirectURIs)
}

// MatchPostLogoutRedirectURI reports whether requested, the
// post_logout_redirect_uri of a logout request, is one that the client
// registered, compared byte by byte (OpenID Connect RP-Initiated Logout 1.0
// §3), with the one exception of MatchRedirectURI: a native client can't know
// its port here either.
func (m *Metadata) MatchPostLogoutRedirectURI(requested string) bool {
	return m.matches(requested, m.PostLogoutRedirectURIs)
}

// matches is the rule of MatchRedirectURI for a list of URIs.
func (m *Metadata) matches(requested string, uris []string) bool {
	if !plainURI(requested) {
		return false
	}
	if slices.Contains(uris, requested) {
		return true
	}
	if m.ApplicationType != ApplicationNative {
		return false
	}
	host, rest, ok := splitLoopback(requested)
	if !ok {
		return false
	}
	return slices.ContainsFunc(uris, func(registered string) bool {
		h, r, ok := splitLoopback(registered)
		return ok && h == host && r == rest
	})
}

// Origins are the web origins (RFC 6454 §6.2: scheme, host and, where it is
// not the scheme's own, port; lower case) of the client's http and https
// redirect URIs, sorted, each once. They are the ones to which cross-origin
// answers are shown.
func (m *Metadata) Origins() []string {
	var origins []string
	for _, raw := range m.RedirectURIs {
		if origin := Origin(raw); origin != "" {
			origins = append(origins, origin)
		}
	}
	slices.Sort(origins)
	return slices.Compact(origins)
}

// Origin is the web origin of an http or https URL, as a browser writes it (RFC
// 6454 §6.2); empty for every other string.
func Origin(raw string) string {
	u, fault := parseURI(raw)
	if fault != "" || webFault(u) != "" {
		return ""
	}
	origin := u.Scheme + "://" + strings.ToLower(u.Host)
	if u.Scheme == "https" {
		return strings.TrimSuffix(origin, ":443")
	}
	return strings.TrimSuffix(origin, ":80")
}

// splitLoopback takes http://127.0.0.1:port/rest and http://[::1]:port/rest
// apart, with or without a port, without decoding anything. Not ok is every
// other string, also one whose host merely begins like a literal.
func splitLoopback(raw string) (host, rest string, ok bool) {
	for _, host = range []string{"http://127.0.0.1", "http://[::1]"} {
		rest, ok = strings.CutPrefix(raw, host)
		if !ok {
			continue
		}
		if after, has := strings.CutPrefix(rest, ":"); has {
			digits := after[:len(after)-len(strings.TrimLeft(after, "0123456789"))]
			if !validPort(digits) {
				return "", "", false
			}
			rest = after[len(digits):]
		}
		// Anything but the start of a path or query would still belong to the
		// authority: http://127.0.0.1.example.net, http://127.0.0.1:80@example.net.
		return host, rest, rest == "" || rest[0] == '/' || rest[0] == '?'
	}
	return "", "", false
}

func validPort(digits string) bool {
	n, err := strconv.Atoi(digits)
	return err == nil && n >= 1 && n <= 65535 && digits[0] != '0' && digits[0] != '+'
}

// plainURI reports whether raw is an absolute URI without fragment and
// userinfo.
func plainURI(raw string) bool {
	u, fault := parseURI(raw)
	return fault == "" && !strings.Contains(raw, "#") && u.User == nil
}

// parseURI reads an absolute URI and says in the second result what is wrong
// with it, "" if nothing. It is stricter than net/url: only the characters of
// RFC 3986, well-formed escapes, no escaped control characters or
// backslashes, nothing escaped in the authority, no dot segments. What a
// browser reads differently from us must not pass.
func parseURI(raw string) (*url.URL, string) {
	switch {
	case raw == "":
		return nil, "must not be empty"
	case len(raw) > maxURI:
		return nil, "is longer than " + strconv.Itoa(maxURI) + " bytes"
	}
	for i := range len(raw) {
		c := raw[i]
		if !strings.ContainsRune(uriPunctuation, rune(c)) && !isAlphanumeric(c) {
			return nil, "has a character that no URI may have (RFC 3986 §2)"
		}
		if c != '%' {
			continue
		}
		escaped, err := url.PathUnescape(raw[i:min(i+3, len(raw))])
		if err != nil {
			return nil, "has a malformed percent-encoding"
		}
		if b := escaped[0]; b < 0x20 || b == 0x7f || b == '\\' {
			return nil, "has a percent-encoded control character or backslash"
		}
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, "is not a URI"
	}
	if u.Scheme == "" {
		return nil, "must be absolute, with a scheme such as https"
	}
	if _, after, _ := strings.Cut(raw, "://"); u.Host != "" && strings.Contains(before(after, "/?#"), "%") {
		return nil, "must not percent-encode the host"
	}
	for segment := range strings.SplitSeq(u.Path, "/") {
		if segment == "." || segment == ".." {
			return nil, "must not have dot segments in its path"
		}
	}
	return u, ""
}

const uriPunctuation = "-._~:/?#[]@!$&'()*+,;=%"

// before is s up to the first of chars, all of s where none occurs.
func before(s, chars string) string {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return s[:i]
	}
	return s
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// webFault says why u is not a well-formed http or https URL, "" if it is.
func webFault(u *url.URL) string {
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return "must be an https or http URL"
	case u.User != nil:
		return "must have no user name or password"
	case !validHost(u.Hostname()):
		return "must have a host name or IP address"
	case u.Port() == "" && strings.HasSuffix(u.Host, ":"), u.Port() != "" && !validPort(u.Port()):
		return "has a port that is not a number from 1 to 65535"
	}
	return ""
}

// validHost accepts IP addresses and the names that DNS and hosts files have
// (letters, digits, hyphen, underscore, dot), already in ASCII.
func validHost(host string) bool {
	if strings.Contains(host, ":") {
		_, err := netip.ParseAddr(host)
		return err == nil
	}
	for i := range len(host) {
		if !isAlphanumeric(host[i]) && !strings.ContainsRune("-._", rune(host[i])) {
			return false
		}
	}
	return host != "" && host[0] != '.' && !strings.Contains(host, "..")
}

// loopback reports whether host names the machine itself: localhost or a
// loopback address in its usual spelling.
func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && address.IsLoopback()
}

// redirectFault says why raw may not be registered as a redirect URI or
// post-logout redirect URI (RFC 6749 §3.1.2, RFC 8252 §7, RFC 9700 §2.1 and
// §4.1), "" if it may.
func redirectFault(raw string, native bool) string {
	if strings.Contains(raw, "#") {
		return "must have no fragment (RFC 6749 §3.1.2)"
	}
	if strings.Contains(raw, "*") {
		return "must have no wildcard: redirect URIs are compared as strings"
	}
	u, fault := parseURI(raw)
	if fault != "" {
		return fault
	}
	switch {
	case u.User != nil:
		return "must have no user name or password"
	case u.Scheme == "https":
		fault = webFault(u)
	case u.Scheme == "http":
		if fault = webFault(u); fault == "" && !loopback(u.Hostname()) {
			fault = "must use https: http is for loopback hosts only"
		}
	case !strings.Contains(u.Scheme, "."):
		fault = "must use https, http on a loopback host or, for a native application, a private-use scheme with a dot (RFC 8252 §7.1)"
	case !native:
		fault = "uses a private-use scheme, which is for application_type native only (RFC 8252 §7.1)"
	case u.Opaque != "" || u.Host == "" && u.Path == "":
		fault = "must have a path after its private-use scheme (RFC 8252 §7.1)"
	}
	if fault != "" {
		return fault
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "has a malformed query"
	}
	for name := range query {
		// A parameter of ours that is already there lets the client read the
		// registered value in place of the answer's.
		if slices.Contains([]string{"code", "state", "iss", "error", "error_description", "response"}, name) {
			return "must not have a query parameter of the authorization response"
		}
	}
	return ""
}

// urlFault says why raw is not an http or https URL that may be shown to
// people or called, "" if it is. secure demands https, or a loopback host.
func urlFault(raw string, secure bool) string {
	u, fault := parseURI(raw)
	if fault == "" {
		fault = webFault(u)
	}
	if fault == "" && secure && u.Scheme != "https" && !loopback(u.Hostname()) {
		fault = "must use https: http is for loopback hosts only"
	}
	return fault
}

// ResourceFault says why raw is not a resource indicator (RFC 8707 §2: an
// absolute URI without a fragment), "" if it is one.
func ResourceFault(raw string) string {
	u, fault := parseURI(raw)
	switch {
	case fault != "":
		return fault
	case strings.Contains(raw, "#"):
		return "must have no fragment (RFC 8707 §2)"
	case u.User != nil:
		return "must have no user name or password"
	case u.Scheme == "https" || u.Scheme == "http":
		return webFault(u)
	case u.Opaque == "" && u.Host == "" && u.Path == "":
		return "must be an absolute URI (RFC 8707 §2)"
	}
	return ""
}
