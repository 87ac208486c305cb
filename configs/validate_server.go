package configs

import (
	"regexp"
	"slices"
	"time"

	"gatehouse.dev/gatehouse/clients"
)

// server checks one authorization server, whose id is name.
func (v validation) server(path, name string, s *AuthorizationServer) {
	if _, exists := v.Realms[s.Realm]; !exists && len(v.Realms) > 0 {
		v.check(path+".realm", "no such realm"+v.realmNames())
	}
	v.oneOf(path+".access_token.format", s.AccessToken.Format, clients.FormatJWT, clients.FormatOpaque)
	v.oneOf(path+".access_token.signing_alg", s.AccessToken.SigningAlg, clients.IDTokenAlgs()...)
	v.check(path+".access_token.lifetime", between(s.AccessToken.Lifetime, time.Second, day))
	v.lifetimes(path+".session", &s.Session.IdleLifetime, s.Session.Lifetime)
	v.check(path+".session.refresh_grace", between(s.Session.RefreshGrace, 0, 5*time.Minute))
	v.check(path+".session.history", between(s.Session.History, 0, maxLifetime))
	v.lifetimes(path+".offline", &s.Offline.IdleLifetime, s.Offline.Lifetime)
	v.oneOf(path+".pkce", s.PKCE, PKCEAll, PKCENonce, PKCEPublic)
	v.registration(path, s)
	v.sessionAPI(path+".session_api", s.SessionAPI)
	v.clients(path, s)
	v.resources(path, name, s)
	v.scopes(path+".scopes", s.Scopes)
}

func (v validation) registration(path string, s *AuthorizationServer) {
	at := path + ".registration"
	v.oneOf(at, s.Registration, RegistrationOff, RegistrationToken, RegistrationOpen)
	scopes := s.SessionAPI.Scopes
	if s.Registration == RegistrationOpen && (scopes.Read == "" || scopes.Manage == "") {
		v.check(at, "open lets anybody register a client whose users' tokens end sessions, so session_api.scopes must set read and manage; and this release offers off only")
		return
	}
	if s.Registration == RegistrationToken || s.Registration == RegistrationOpen {
		v.check(at, "this release offers off only: clients stand in this file")
	}
}

func (v validation) sessionAPI(path string, api SessionAPI) {
	for _, scope := range []struct{ key, value string }{{"read", api.Scopes.Read}, {"manage", api.Scopes.Manage}} {
		if scope.value != "" && !clients.ScopeToken(scope.value) {
			v.check(path+".scopes."+scope.key, "must be one scope name (RFC 6749 §3.3)")
		}
	}
	v.oneOf(path+".visibility", api.Visibility, VisibilityUser, VisibilityClient)
	seen := map[string]bool{}
	for i, attribute := range api.CustomAttributes {
		at := element(path+".custom_attributes", i)
		switch {
		case !attributeName.MatchString(attribute.Name):
			v.check(at+".name", "must be 1 to 50 letters, digits, hyphens and underscores, with a letter or digit at both ends")
		case seen[attribute.Name]:
			v.check(at+".name", "another custom attribute has this name")
		}
		seen[attribute.Name] = true
		v.customAttribute(at, &api.CustomAttributes[i])
	}
}

// attributeName is a JSON:API member name of the safe characters.
var attributeName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]{0,48}[A-Za-z0-9])?$`)

func (v validation) resources(path, name string, s *AuthorizationServer) {
	seen := map[string]bool{v.Issuer(name): true}
	for i, resource := range s.Resources {
		at := element(path+".resources", i)
		fault := clients.ResourceFault(resource.Identifier)
		if fault == "" && seen[resource.Identifier] {
			fault = "is another resource's identifier, or the issuer's"
		}
		v.check(at+".identifier", fault)
		seen[resource.Identifier] = true
		for j, scope := range resource.Scopes {
			if !clients.ScopeToken(scope) {
				v.check(element(at+".scopes", j), "must be one scope name (RFC 6749 §3.3)")
			}
		}
		for j, id := range resource.IntrospectionClients {
			v.check(element(at+".introspection_clients", j), introspectorFault(id, s.Clients))
		}
	}
	for i := range s.Clients {
		for j, resource := range s.Clients[i].Resources {
			if !seen[resource] && clients.ResourceFault(resource) == "" {
				v.check(element(element(path+".clients", i)+".resources", j), "must be the identifier of one of the authorization server's resources")
			}
		}
	}
}

func introspectorFault(id string, all []clients.Metadata) string {
	i := slices.IndexFunc(all, func(m clients.Metadata) bool { return m.ClientID == id })
	switch {
	case i < 0:
		return "must be the client_id of a client of this authorization server"
	case all[i].Public():
		return "is a public client: introspection demands authentication (RFC 7662 §2.1)"
	}
	return ""
}

func (v validation) clients(path string, s *AuthorizationServer) {
	seen := map[string]bool{}
	for i := range s.Clients {
		m := s.Clients[i]
		at := element(path+".clients", i)
		for _, fault := range m.Validate() {
			v.check(faultPath(at, fault), fault.Message)
		}
		if m.ClientID != "" && seen[m.ClientID] {
			v.check(at+".client_id", "another client of the authorization server has this id")
		}
		seen[m.ClientID] = true
		m.Defaults("")
		method := m.TokenEndpointAuthMethod
		switch {
		case m.UsesSecret() && m.ClientSecret == "":
			v.check(at+".client_secret", "is required for token_endpoint_auth_method "+method)
		case !m.UsesSecret() && m.ClientSecret != "" && slices.Contains(clients.AuthMethods(), method):
			v.check(at+".client_secret", "is not for token_endpoint_auth_method "+method)
		}
	}
}

// faultPath is the path of a fault in a client's metadata.
func faultPath(client string, fault clients.Fault) string {
	path := client + "." + fault.Field
	switch {
	case fault.Index < 0:
		return path
	case fault.Field == "jwks":
		return element(path+".keys", fault.Index)
	}
	return element(path, fault.Index)
}
