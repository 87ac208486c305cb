package oauth

import (
	"net"
	"net/http"

	"gatehouse.dev/gatehouse/sessions"
	"gatehouse.dev/gatehouse/users"
)

// sourced returns what the answer to a request at /authorize makes of the custom
// attributes with a source, once the user is known; nil where none is declared.
// A value that can't be taken is left out, which is nobody's error.
func (s *Server) sourced(r *http.Request) func(*users.User) map[string]*string {
	attributes := s.cfg.Sessions.Attributes
	if len(attributes.Sources()) == 0 {
		return nil
	}
	return func(user *users.User) map[string]*string {
		change, faults := attributes.Sourced(func(source sessions.Source) string {
			switch source.Kind {
			case sessions.SourceClaim:
				value, _ := claim(user, source.Name)
				return value
			case sessions.SourceHeader:
				return onlyHeader(r, source.Name)
			case sessions.SourceUserAgent:
				return onlyHeader(r, "User-Agent")
			case sessions.SourceClientAddress:
				return s.cfg.ClientAddress(r)
			}
			return ""
		})
		for _, fault := range faults {
			s.cfg.Logger.DebugContext(r.Context(), "custom attribute left out", "attribute", fault.Name, "cause", fault.Err)
		}
		return change
	}
}

// onlyHeader is the value of a header that the request has once. Of several,
// one may be the browser's and another one a proxy's, and which is which can't
// be told.
func onlyHeader(r *http.Request, name string) string {
	if values := r.Header.Values(name); len(values) == 1 {
		return values[0]
	}
	return ""
}

// connectionAddress is the IP address at the other end of the connection.
func connectionAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// claim is a claim of the user that is a text, by its name in OpenID Connect
// Core 1.0 §5.1; address.locality and the like are the members of the address
// (§5.1.1). Empty where the account doesn't know it; false where there is no
// such claim. sub is none of them: it is what the issuer calls the user towards
// one client, and attributes are seen by others.
func claim(u *users.User, name string) (value string, known bool) {
	c := &u.Claims
	address := c.Address
	if address == nil {
		address = &users.Address{}
	}
	preferred := c.PreferredUsername
	if preferred == "" {
		preferred = u.Username
	}
	value, known = map[string]string{
		"name": c.Name, "given_name": c.GivenName, "family_name": c.FamilyName, "middle_name": c.MiddleName,
		"nickname": c.Nickname, "preferred_username": preferred, "profile": c.Profile, "picture": c.Picture, "website": c.Website,
		"gender": c.Gender, "birthdate": c.Birthdate, "zoneinfo": c.Zoneinfo, "locale": c.Locale, "email": c.Email,
		"phone_number": c.PhoneNumber, "address.formatted": address.Formatted, "address.street_address": address.StreetAddress,
		"address.locality": address.Locality, "address.region": address.Region, "address.postal_code": address.PostalCode,
		"address.country": address.Country,
	}[name]
	return value, known
}
