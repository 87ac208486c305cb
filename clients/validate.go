package clients

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Fault is one thing that makes metadata invalid. Its message is fit for the
// operator and for error_description of a registration answer (RFC 7591
// §3.2.2); it never repeats a value.
type Fault struct {
	Field   string // the member's registered name, such as redirect_uris
	Index   int    // which element of the member, from 0; for jwks, which of its keys; -1: the whole
	Message string // what is wrong, without the name
}

// String is the fault in one line: redirect_uris[1]: must have no fragment.
func (f Fault) String() string {
	if f.Index >= 0 {
		return fmt.Sprintf("%s[%d]: %s", f.Field, f.Index, f.Message)
	}
	return f.Field + ": " + f.Message
}

// maxList bounds the elements of every list, maxText the characters of what
// people are shown.
const (
	maxList = 100
	maxText = 255
)

// Validate returns all that is invalid in the metadata, nil if nothing is.
// Members left out are judged by their defaults, so that Defaults may run
// before or after. The secret is looked at for its characters only: whether
// there has to be one depends on where the metadata come from.
func (m *Metadata) Validate() []Fault {
	v := validation{Metadata: *m}
	v.Defaults("")
	v.identity()
	v.grants()
	v.redirects()
	v.authentication()
	v.links()
	v.frontChannel()
	v.tokens()
	return v.faults
}

// validation gathers the faults of one client; its Metadata is a copy with
// defaults.
type validation struct {
	Metadata
	faults []Fault
}

func (v *validation) fault(field string, index int, message string) {
	v.faults = append(v.faults, Fault{field, index, message})
}

// check records message, unless it is empty.
func (v *validation) check(field string, index int, message string) {
	if message != "" {
		v.fault(field, index, message)
	}
}

// oneOf demands that value is one of known.
func (v *validation) oneOf(field string, index int, value string, known []string) {
	if !slices.Contains(known, value) {
		v.fault(field, index, "must be one of "+strings.Join(known, ", "))
	}
}

// list bounds a list, refuses repetitions and hands each element to check.
func (v *validation) list(field string, values []string, check func(index int, value string)) {
	if len(values) > maxList {
		v.fault(field, -1, fmt.Sprintf("has more than %d elements", maxList))
		return
	}
	for i, value := range values {
		if slices.Contains(values[:i], value) {
			v.fault(field, i, "stands there twice")
			continue
		}
		check(i, value)
	}
}

func (v *validation) identity() {
	// RFC 6749 appendix A.1. A colon is allowed: HTTP Basic carries the id
	// form-encoded (RFC 6749 §2.3.1).
	if n := len(v.ClientID); n == 0 || n > 255 || !visible(v.ClientID) {
		v.fault("client_id", -1, "must be 1 to 255 printable ASCII characters (RFC 6749 appendix A.1)")
	}
	if len(v.ClientSecret) > 1024 || !visible(v.ClientSecret) {
		v.fault("client_secret", -1, "must be at most 1024 printable ASCII characters (RFC 6749 appendix A.2)")
	}
	v.check("client_name", -1, textFault(v.ClientName))
	v.list("contacts", v.Contacts, func(i int, contact string) {
		if contact == "" {
			v.fault("contacts", i, "must not be empty")
			return
		}
		v.check("contacts", i, textFault(contact))
	})
	v.oneOf("application_type", -1, v.ApplicationType, []string{ApplicationWeb, ApplicationNative})
	v.oneOf("subject_type", -1, v.SubjectType, []string{"public"})
}

// grants checks the grant types, the response types and that they belong
// together (RFC 7591 §2.1).
func (v *validation) grants() {
	v.list("grant_types", v.GrantTypes, func(i int, grant string) {
		v.oneOf("grant_types", i, grant, GrantTypes())
	})
	v.list("response_types", v.ResponseTypes, func(i int, response string) {
		v.oneOf("response_types", i, response, []string{ResponseCode})
	})
	code := v.Allows(GrantAuthorizationCode)
	if !code && slices.Contains(v.ResponseTypes, ResponseCode) {
		v.fault("response_types", -1, "has code, so grant_types must have authorization_code (RFC 7591 §2.1)")
	}
	if code && !slices.Contains(v.ResponseTypes, ResponseCode) {
		v.fault("response_types", -1, "must have code, as grant_types has authorization_code (RFC 7591 §2.1)")
	}
	if !code && v.Allows(GrantRefreshToken) {
		v.fault("grant_types", slices.Index(v.GrantTypes, GrantRefreshToken), "refresh_token needs authorization_code beside it")
	}
	if v.Public() && v.Allows(GrantClientCredentials) {
		v.fault("grant_types", slices.Index(v.GrantTypes, GrantClientCredentials), "client_credentials is not for public clients (RFC 6749 §4.4)")
	}
	if v.Scope != "" {
		for token := range strings.SplitSeq(v.Scope, " ") {
			if !ScopeToken(token) {
				v.fault("scope", -1, "must be scope names with one space between them (RFC 6749 §3.3)")
				break
			}
		}
	}
}

func (v *validation) redirects() {
	native := v.ApplicationType == ApplicationNative
	if len(v.RedirectURIs) == 0 && v.Allows(GrantAuthorizationCode) {
		v.fault("redirect_uris", -1, "must have at least one URI, as grant_types has authorization_code")
	}
	v.list("redirect_uris", v.RedirectURIs, func(i int, uri string) {
		v.check("redirect_uris", i, redirectFault(uri, native))
	})
	v.list("post_logout_redirect_uris", v.PostLogoutRedirectURIs, func(i int, uri string) {
		v.check("post_logout_redirect_uris", i, redirectFault(uri, native))
	})
}

func (v *validation) authentication() {
	v.oneOf("token_endpoint_auth_method", -1, v.TokenEndpointAuthMethod, AuthMethods())
	byKey := v.TokenEndpointAuthMethod == AuthPrivateKeyJWT
	alg := v.TokenEndpointAuthAlg
	switch {
	case alg == "":
	case !byKey:
		v.fault("token_endpoint_auth_signing_alg", -1, "is for token_endpoint_auth_method private_key_jwt only")
		alg = ""
	case !slices.Contains(AssertionAlgs(), alg):
		v.oneOf("token_endpoint_auth_signing_alg", -1, alg, AssertionAlgs())
		alg = ""
	}
	switch {
	case len(v.JWKS) > 0 && v.JWKSURI != "":
		v.fault("jwks_uri", -1, "must not stand beside jwks (RFC 7591 §2)")
	case byKey && len(v.JWKS) == 0 && v.JWKSURI == "":
		v.fault("token_endpoint_auth_method", -1, "private_key_jwt needs jwks or jwks_uri")
	}
	if len(v.JWKS) > 0 {
		v.faults = append(v.faults, keyFaults(v.JWKS, byKey, alg)...)
	}
	if v.JWKSURI != "" {
		// Over plain http whoever sits in between replaces the keys.
		v.check("jwks_uri", -1, urlFault(v.JWKSURI, true))
	}
	if v.Public() && v.Introspection {
		v.fault("introspection", -1, "is not for public clients: introspection demands authentication (RFC 7662 §2.1)")
	}
	if v.Public() && !v.Rotates() {
		v.fault("refresh_token_rotation", -1, "must stay on for public clients (RFC 9700 §4.14.2)")
	}
}

func (v *validation) links() {
	for _, link := range []struct{ field, uri string }{
		{"client_uri", v.ClientURI}, {"logo_uri", v.LogoURI}, {"policy_uri", v.PolicyURI}, {"tos_uri", v.TosURI},
	} {
		if link.uri != "" {
			v.check(link.field, -1, urlFault(link.uri, false))
		}
	}
	if uri := v.BackchannelLogoutURI; uri != "" {
		// OpenID Connect Back-Channel Logout 1.0 §2.2 lets a provider take http
		// of confidential clients. This one sends nothing over plain http but to
		// itself: the message says who was where.
		v.check("backchannel_logout_uri", -1, urlFault(uri, true))
		if strings.Contains(uri, "#") {
			v.fault("backchannel_logout_uri", -1, "must have no fragment (OpenID Connect Back-Channel Logout 1.0 §2.2)")
		}
	} else if v.BackchannelLogoutSID {
		v.fault("backchannel_logout_session_required", -1, "needs backchannel_logout_uri")
	}
}

// frontChannel checks where frames of the sign-out page lead (OpenID Connect
// Front-Channel Logout 1.0 §2).
func (v *validation) frontChannel() {
	uri := v.FrontchannelLogoutURI
	if uri == "" {
		if v.FrontchannelLogoutSID {
			v.fault("frontchannel_logout_session_required", -1, "needs frontchannel_logout_uri")
		}
		return
	}
	const field = "frontchannel_logout_uri"
	fault := urlFault(uri, true)
	query := url.Values{}
	if u, err := url.Parse(uri); fault == "" && err == nil {
		query, err = url.ParseQuery(u.RawQuery)
		if err != nil {
			fault = "has a malformed query"
		}
	}
	switch {
	case fault != "":
	case strings.Contains(uri, "#"):
		fault = "must have no fragment (OpenID Connect Front-Channel Logout 1.0 §2)"
	case query.Has("iss") || query.Has("sid"):
		fault = "must not have the query parameters iss and sid, which are added to it"
	case !slices.Contains(v.Origins(), Origin(uri)):
		fault = "must have scheme, host and port of one of the redirect_uris (OpenID Connect Front-Channel Logout 1.0 §2)"
	}
	v.check(field, -1, fault)
}

func (v *validation) tokens() {
	v.oneOf("id_token_signed_response_alg", -1, v.IDTokenSignedAlg, IDTokenAlgs())
	if v.AccessTokenFormat != "" {
		v.oneOf("access_token_format", -1, v.AccessTokenFormat, []string{FormatJWT, FormatOpaque})
	}
	if v.DefaultMaxAge != nil && *v.DefaultMaxAge < 0 {
		v.fault("default_max_age", -1, "must not be negative")
	}
	v.list("resources", v.Resources, func(i int, resource string) {
		v.check("resources", i, ResourceFault(resource))
	})
}

// ScopeToken reports whether s is one scope name: a scope-token of RFC 6749
// §3.3.
func ScopeToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return s != "" && len(s) <= 255
}

// visible reports whether s has VSCHAR only (RFC 6749 appendix A).
func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e })
}

// textFault says why s must not be shown to people, "" if it may be.
func textFault(s string) string {
	switch {
	case !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxText:
		return fmt.Sprintf("must be at most %d characters of UTF-8", maxText)
	case strings.ContainsFunc(s, misleading):
		return "must have no control or text direction characters"
	}
	return ""
}

// misleading reports characters that people do not see and that change how
// they read the rest: a client could pass for another on the consent page.
func misleading(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}
