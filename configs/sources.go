package configs

import (
	"regexp"
	"slices"
	"strings"
)

// Values of CustomAttribute.Source; behind the last two stands a name.
const (
	SourceUserAgent     = "user_agent"
	SourceClientAddress = "client_address"
	SourceClaim         = "claim:"
	SourceHeader        = "header:"
)

// Patterns of custom attributes where the file has none.
const (
	clientPattern  = `.{1,200}`
	sourcedPattern = `[\pL\pM\pN\pP\pS ]{1,500}`
)

// ClaimSources are the claims that custom attributes may be taken from: those
// of OpenID Connect Core 1.0 §5.1 that are texts.
func ClaimSources() []string {
	return []string{
		"name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website",
		"email", "gender", "birthdate", "zoneinfo", "locale", "phone_number", "address.formatted", "address.street_address",
		"address.locality", "address.region", "address.postal_code", "address.country",
	}
}

// customAttribute checks one custom attribute and fills in what depends on
// whether the server sets it.
func (v validation) customAttribute(at string, a *CustomAttribute) {
	if a.Source != "" {
		v.check(at+".source", sourceFault(a.Source))
		// What the server vouches for is the client's to change only where the
		// operator says so.
		a.Updatable = a.Updatable && v.set(at+".updatable")
	}
	switch {
	case a.Pattern != "":
	case a.Source == "":
		a.Pattern = clientPattern
	default:
		a.Pattern = sourcedPattern
	}
	// By itself, and as it is used: a quotation that is not closed ends behind it.
	_, alone := regexp.Compile(a.Pattern)
	_, used := regexp.Compile(`^(?:` + a.Pattern + `)$`)
	if alone != nil || used != nil || len(a.Pattern) > 500 {
		v.check(at+".pattern", "must be a regular expression in RE2 syntax of at most 500 bytes")
	}
}

func sourceFault(source string) string {
	if source == SourceUserAgent || source == SourceClientAddress {
		return ""
	}
	if claim, is := strings.CutPrefix(source, SourceClaim); is {
		if !slices.Contains(ClaimSources(), claim) {
			return "claim: must be followed by one of " + strings.Join(ClaimSources(), ", ")
		}
		return ""
	}
	if header, is := strings.CutPrefix(source, SourceHeader); is {
		return headerFault(header)
	}
	return "must be user_agent, client_address, claim:NAME or header:NAME"
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")

// headerFault says why a header can't be a source: it is none, or what stands
// in it is not for relying parties or not to be believed.
func headerFault(name string) string {
	if !headerName.MatchString(name) {
		return "header: must be followed by the name of a header (RFC 9110 §5.1) of at most 100 characters"
	}
	name = strings.ToLower(name)
	for _, part := range []string{
		"authorization", "cookie", "token", "secret", "password", "passwd", "credential", "assertion", "jwt", "session",
		"api-key", "api_key", "apikey", "csrf", "xsrf", "client-cert", "client_cert", "oidc-data",
	} {
		if strings.Contains(name, part) {
			return "names a header that carries credentials"
		}
	}
	switch name {
	case "dpop", "signature":
		return "names a header that carries credentials"
	case "referer", "x-original-url", "x-original-uri", "x-rewrite-url", "x-forwarded-uri", "x-request-uri":
		return "names a header that carries the URL of a request"
	case "forwarded", "x-forwarded-for", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip":
		return "names a header that anybody can write an address into: use client_address with trusted_proxies"
	case "user-agent":
		return "must be user_agent"
	case "host", "transfer-encoding", "trailer":
		return "names a header that is not passed on"
	}
	return ""
}
