package clients

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// valid is metadata without a fault, for tests to break.
func valid() *Metadata {
	return &Metadata{ClientID: "c", RedirectURIs: []string{"https://client.example/cb"}}
}

func TestDefaultsOfRFC7591(t *testing.T) {
	var m Metadata
	m.Defaults(FormatOpaque)
	want := Metadata{
		GrantTypes: []string{"authorization_code"}, ResponseTypes: []string{"code"},
		TokenEndpointAuthMethod: "client_secret_basic", IDTokenSignedAlg: "RS256",
		ApplicationType: "web", SubjectType: "public", AccessTokenFormat: "opaque",
	}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("defaults are %+v, want %+v", m, want)
	}
	m.Defaults(FormatJWT)
	if !reflect.DeepEqual(m, want) {
		t.Errorf("a second call made %+v of it", m)
	}
	machine := Metadata{GrantTypes: []string{"client_credentials"}}
	if machine.Defaults(""); machine.ResponseTypes != nil || machine.AccessTokenFormat != "" {
		t.Errorf("a machine client got response types %q and format %q", machine.ResponseTypes, machine.AccessTokenFormat)
	}
	if !m.UsesSecret() || (&Metadata{TokenEndpointAuthMethod: AuthNone}).UsesSecret() {
		t.Error("UsesSecret is wrong")
	}
}

func TestValidMetadata(t *testing.T) {
	age := int64(0)
	rotation := false
	for name, change := range map[string]func(*Metadata){
		"smallest":        func(m *Metadata) {},
		"longest id":      func(m *Metadata) { m.ClientID = strings.Repeat("x", 255) },
		"id with a colon": func(m *Metadata) { m.ClientID = "https://client.example/ x~" },
		"loopback": func(m *Metadata) {
			m.RedirectURIs = []string{"http://localhost:9001/cb", "http://127.0.0.1/", "http://[::1]:1"}
		},
		"public":      func(m *Metadata) { m.TokenEndpointAuthMethod = "none" },
		"machine":     func(m *Metadata) { m.RedirectURIs, m.GrantTypes = nil, []string{"client_credentials"} },
		"no rotation": func(m *Metadata) { m.RefreshTokenRotation = &rotation },
		"jwks_uri": func(m *Metadata) {
			m.TokenEndpointAuthMethod, m.JWKSURI = "private_key_jwt", "https://client.example/jwks"
		},
		"http for logout": func(m *Metadata) {
			m.TokenEndpointAuthMethod, m.BackchannelLogoutURI = "none", "http://localhost:9001/logout?tenant=1"
		},
		"query in redirect": func(m *Metadata) { m.RedirectURIs = []string{"https://client.example/cb?tenant=1"} },
		"native": func(m *Metadata) {
			m.ApplicationType = "native"
			m.RedirectURIs = []string{"com.example.app:/cb", "com.example.app://cb", "https://client.example/app"}
		},
		"everything": func(m *Metadata) {
			m.ClientName, m.ClientURI, m.LogoURI = "Fotoalbum für alle", "https://client.example", "http://client.example/logo.png"
			m.PolicyURI, m.TosURI, m.Contacts = "https://client.example/#policy", "https://client.example/tos", []string{"it@client.example"}
			m.GrantTypes = []string{"authorization_code", "refresh_token", "client_credentials"}
			m.ResponseTypes, m.Scope, m.DefaultMaxAge = []string{"code"}, "openid https://api.example/read internal_login", &age
			m.IDTokenSignedAlg, m.SubjectType, m.AccessTokenFormat = "EdDSA", "public", "opaque"
			m.Resources = []string{"https://api.example", "urn:example:api"}
			m.BackchannelLogoutURI, m.BackchannelLogoutSID = "https://client.example/logout", true
			m.FrontchannelLogoutURI, m.FrontchannelLogoutSID = "https://CLIENT.example:443/front?tenant=1", true
			m.Introspection, m.SkipConsent, m.RequirePKCE = true, true, true
		},
	} {
		m := valid()
		change(m)
		if faults := m.Validate(); faults != nil {
			t.Errorf("%s: %v", name, faults)
		}
	}
}

func TestInvalidMetadata(t *testing.T) {
	age := int64(-1)
	off := false
	many := strings.Split(strings.Repeat("https://client.example/x ", 101), " ")[:101]
	tests := []struct {
		name   string
		change func(*Metadata)
		field  string
		index  int
	}{
		{"no id", func(m *Metadata) { m.ClientID = "" }, "client_id", -1},
		{"long id", func(m *Metadata) { m.ClientID = strings.Repeat("x", 256) }, "client_id", -1},
		{"id with newline", func(m *Metadata) { m.ClientID = "a\nb" }, "client_id", -1},
		{"id beyond ASCII", func(m *Metadata) { m.ClientID = "ü" }, "client_id", -1},
		{"secret beyond ASCII", func(m *Metadata) { m.ClientSecret = "gehéim" }, "client_secret", -1},
		{"long secret", func(m *Metadata) { m.ClientSecret = strings.Repeat("x", 1025) }, "client_secret", -1},
		{"name with bidi override", func(m *Metadata) { m.ClientName = "Bank\u202eknaB" }, "client_name", -1},
		{"name with newline", func(m *Metadata) { m.ClientName = "Bank\nof" }, "client_name", -1},
		{"long name", func(m *Metadata) { m.ClientName = strings.Repeat("ü", 256) }, "client_name", -1},
		{"name not UTF-8", func(m *Metadata) { m.ClientName = "\xff" }, "client_name", -1},
		{"empty contact", func(m *Metadata) { m.Contacts = []string{"a", ""} }, "contacts", 1},
		{"contact with control character", func(m *Metadata) { m.Contacts = []string{"a\x00"} }, "contacts", 0},
		{"application type", func(m *Metadata) { m.ApplicationType = "Web" }, "application_type", -1},
		{"pairwise", func(m *Metadata) { m.SubjectType = "pairwise" }, "subject_type", -1},

		{"implicit grant", func(m *Metadata) { m.GrantTypes = []string{"authorization_code", "implicit"} }, "grant_types", 1},
		{"password grant", func(m *Metadata) { m.GrantTypes = []string{"authorization_code", "password"} }, "grant_types", 1},
		{"grant twice", func(m *Metadata) { m.GrantTypes = []string{"authorization_code", "authorization_code"} }, "grant_types", 1},
		{"refresh alone", func(m *Metadata) { m.GrantTypes = []string{"client_credentials", "refresh_token"} }, "grant_types", 1},
		{"public machine", func(m *Metadata) {
			m.TokenEndpointAuthMethod, m.GrantTypes = "none", []string{"authorization_code", "client_credentials"}
		}, "grant_types", 1},
		{"token response", func(m *Metadata) { m.ResponseTypes = []string{"code", "token"} }, "response_types", 1},
		{"hybrid response", func(m *Metadata) { m.ResponseTypes = []string{"code", "code id_token"} }, "response_types", 1},
		{"code without its grant", func(m *Metadata) {
			m.GrantTypes, m.ResponseTypes = []string{"client_credentials"}, []string{"code"}
		}, "response_types", -1},
		{"scope with quote", func(m *Metadata) { m.Scope = `openid "x"` }, "scope", -1},
		{"scope with two spaces", func(m *Metadata) { m.Scope = "openid  email" }, "scope", -1},
		{"scope with trailing newline", func(m *Metadata) { m.Scope = "openid\n" }, "scope", -1},
		{"scope with backslash", func(m *Metadata) { m.Scope = `a\b` }, "scope", -1},

		{"no redirect URI", func(m *Metadata) { m.RedirectURIs = nil }, "redirect_uris", -1},
		{"too many", func(m *Metadata) { m.RedirectURIs = many }, "redirect_uris", -1},
		{"twice", func(m *Metadata) { m.RedirectURIs = append(m.RedirectURIs, m.RedirectURIs[0]) }, "redirect_uris", 1},
		{"post-logout http", func(m *Metadata) { m.PostLogoutRedirectURIs = []string{"http://client.example/"} }, "post_logout_redirect_uris", 0},
		{"post-logout script", func(m *Metadata) { m.PostLogoutRedirectURIs = []string{"javascript:alert(1)"} }, "post_logout_redirect_uris", 0},

		{"front channel http", func(m *Metadata) { m.FrontchannelLogoutURI = "http://client.example/front" }, "frontchannel_logout_uri", -1},
		{"front channel at another host", func(m *Metadata) { m.FrontchannelLogoutURI = "https://other.example/front" }, "frontchannel_logout_uri", -1},
		{"front channel at another port", func(m *Metadata) { m.FrontchannelLogoutURI = "https://client.example:8443/front" }, "frontchannel_logout_uri", -1},
		{"front channel with a user", func(m *Metadata) { m.FrontchannelLogoutURI = "https://a@client.example/front" }, "frontchannel_logout_uri", -1},
		{"front channel with a fragment", func(m *Metadata) { m.FrontchannelLogoutURI = "https://client.example/front#x" }, "frontchannel_logout_uri", -1},
		{"front channel with sid", func(m *Metadata) { m.FrontchannelLogoutURI = "https://client.example/front?sid=1" }, "frontchannel_logout_uri", -1},
		{"front channel with iss", func(m *Metadata) { m.FrontchannelLogoutURI = "https://client.example/front?%69ss=1" }, "frontchannel_logout_uri", -1},
		{"front channel, malformed query", func(m *Metadata) { m.FrontchannelLogoutURI = "https://client.example/front?a;b" }, "frontchannel_logout_uri", -1},
		{"front channel script", func(m *Metadata) { m.FrontchannelLogoutURI = "javascript:alert(1)" }, "frontchannel_logout_uri", -1},
		{"front channel without URI", func(m *Metadata) { m.FrontchannelLogoutSID = true }, "frontchannel_logout_session_required", -1},

		{"unknown method", func(m *Metadata) { m.TokenEndpointAuthMethod = "client_secret_jwt" }, "token_endpoint_auth_method", -1},
		{"no keys", func(m *Metadata) { m.TokenEndpointAuthMethod = "private_key_jwt" }, "token_endpoint_auth_method", -1},
		{"jwks_uri over http", func(m *Metadata) { m.JWKSURI = "http://client.example/jwks" }, "jwks_uri", -1},
		{"algorithm without its method", func(m *Metadata) { m.TokenEndpointAuthAlg = "RS256" }, "token_endpoint_auth_signing_alg", -1},
		{"symmetric assertion", func(m *Metadata) {
			m.TokenEndpointAuthMethod, m.JWKSURI, m.TokenEndpointAuthAlg = "private_key_jwt", "https://client.example/jwks", "HS256"
		}, "token_endpoint_auth_signing_alg", -1},
		{"unsigned assertion", func(m *Metadata) {
			m.TokenEndpointAuthMethod, m.JWKSURI, m.TokenEndpointAuthAlg = "private_key_jwt", "https://client.example/jwks", "none"
		}, "token_endpoint_auth_signing_alg", -1},
		{"public introspection", func(m *Metadata) { m.TokenEndpointAuthMethod, m.Introspection = "none", true }, "introspection", -1},
		{"public without rotation", func(m *Metadata) { m.TokenEndpointAuthMethod, m.RefreshTokenRotation = "none", &off }, "refresh_token_rotation", -1},

		{"client_uri script", func(m *Metadata) { m.ClientURI = "javascript:alert(1)" }, "client_uri", -1},
		{"logo data", func(m *Metadata) { m.LogoURI = "data:image/png;base64,AA==" }, "logo_uri", -1},
		{"policy relative", func(m *Metadata) { m.PolicyURI = "/policy" }, "policy_uri", -1},
		{"tos without host", func(m *Metadata) { m.TosURI = "https:///tos" }, "tos_uri", -1},
		{"logout with fragment", func(m *Metadata) { m.BackchannelLogoutURI = "https://client.example/#x" }, "backchannel_logout_uri", -1},
		{"logout over http", func(m *Metadata) { m.BackchannelLogoutURI = "http://client.example/" }, "backchannel_logout_uri", -1},
		{"logout at a path", func(m *Metadata) { m.BackchannelLogoutURI = "/logout" }, "backchannel_logout_uri", -1},
		{"logout of another scheme", func(m *Metadata) { m.BackchannelLogoutURI = "com.example.app:/logout" }, "backchannel_logout_uri", -1},
		{"logout with credentials", func(m *Metadata) { m.BackchannelLogoutURI = "https://alex:secret@client.example/" }, "backchannel_logout_uri", -1},
		{"logout session without URI", func(m *Metadata) { m.BackchannelLogoutSID = true }, "backchannel_logout_session_required", -1},

		{"unsigned ID tokens", func(m *Metadata) { m.IDTokenSignedAlg = "none" }, "id_token_signed_response_alg", -1},
		{"symmetric ID tokens", func(m *Metadata) { m.IDTokenSignedAlg = "HS256" }, "id_token_signed_response_alg", -1},
		{"token format", func(m *Metadata) { m.AccessTokenFormat = "JWT" }, "access_token_format", -1},
		{"negative age", func(m *Metadata) { m.DefaultMaxAge = &age }, "default_max_age", -1},
		{"resource with fragment", func(m *Metadata) { m.Resources = []string{"https://api.example/#x"} }, "resources", 0},
		{"relative resource", func(m *Metadata) { m.Resources = []string{"https://api.example", "api"} }, "resources", 1},
		{"resource with userinfo", func(m *Metadata) { m.Resources = []string{"https://a:b@api.example"} }, "resources", 0},
		{"bare scheme as resource", func(m *Metadata) { m.Resources = []string{"urn:"} }, "resources", 0},
	}
	for _, test := range tests {
		m := valid()
		test.change(m)
		faults := m.Validate()
		if len(faults) != 1 || faults[0].Field != test.field || faults[0].Index != test.index {
			t.Errorf("%s: faults are %v, want one at %s %d", test.name, faults, test.field, test.index)
		}
	}
}

func TestUnfitRedirectURIsAreRefused(t *testing.T) {
	for _, uri := range []string{
		"", " ", "cb", "/cb", "//client.example/cb", "client.example/cb", "https:", "https:/cb", "https://", "https:///cb", "https://?x", "https:client.example",
		"http://client.example/cb", "http://localhost.evil.example/", "http://127.0.0.1.evil.example/", "http://127.1/", "http://0x7f.0.0.1/", "http://2130706433/",
		"http://0.0.0.0/", "http://10.0.0.1/cb", "http://[::2]/", "http://[::]/", "ftp://client.example/cb", "ws://localhost/",
		"https://client.example/cb#", "https://client.example/cb#x", "https://u@client.example/", "https://u:p@client.example/", "https://@client.example/",
		"https://*.client.example/cb", "https://client.example/*", "https://client.example:*/cb",
		"https://client.example:0/", "https://client.example:99999/", "https://client.example:/", "https://client.example:8a/",
		"https://cli ent.example/", "https://client.example/c b", "https://client.example/\tcb", "https://client.example/cb\n", "https://client.example/\x00",
		`https://client.example\cb`, `https:\\client.example/cb`, "https://client.example/%", "https://client.example/%zz", "https://client.example/?%2",
		"https://client.example/%0acb", "https://client.example/%00", "https://client.example/%5ccb", "https://client%2eexample/", "https://client.example%2f@evil.example/",
		"https://client.example/../cb", "https://client.example/a/./cb", "https://client.example/%2e%2E/cb", "https://clïent.example/cb", "https://.example/", "https://a..example/",
		"https://[::1", "https://[::1]x/", "https://[::1%25lo]/", "https://[zz]/", "https://a,b.example/", "https://client.example/<x>", "https://client.example/{x}",
		"https://client.example/cb?code=x", "https://client.example/cb?a=1&state=x", "https://client.example/cb?iss=x", "https://client.example/cb?%63ode=x", "https://client.example/cb?a;b",
		"javascript:alert(1)", "JavaScript:alert(1)", "javascript://client.example/%0aalert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "blob:https://client.example/x",
		"about:blank", "mailto:a@client.example", "urn:ietf:wg:oauth:2.0:oob", "myapp:/cb", "myapp://cb", "com.example.app:", "com.example.app:cb", "com.example.app:/cb#x", "com.example.app://user@host/cb", "com.example.app:/*", "com.example.app:/cb?code=x",
		"https://client.example/" + strings.Repeat("x", maxURI),
	} {
		m := valid()
		m.ApplicationType, m.RedirectURIs = ApplicationNative, []string{uri}
		if faults := m.Validate(); len(faults) != 1 || faults[0].Field != "redirect_uris" || faults[0].Index != 0 {
			t.Errorf("%q: faults are %v, want one", uri, faults)
		} else if uri != "" && len(uri) > 8 && strings.Contains(faults[0].Message, uri) {
			t.Errorf("%q: the fault repeats it", uri)
		}
	}
	m := valid()
	m.RedirectURIs = []string{"com.example.app:/cb"}
	if len(m.Validate()) != 1 {
		t.Error("a web client may have a private-use scheme")
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	m := &Metadata{GrantTypes: []string{"implicit"}, ResponseTypes: []string{"token"}, RedirectURIs: []string{"x"}, Scope: " ", SubjectType: "pairwise"}
	var got []string
	for _, fault := range m.Validate() {
		got = append(got, strings.SplitN(fault.String(), ":", 2)[0])
	}
	want := []string{"client_id", "subject_type", "grant_types[0]", "response_types[0]", "scope", "redirect_uris[0]"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("faults at %q, want %q", got, want)
	}
	if m.ApplicationType != "" {
		t.Error("Validate changed the metadata")
	}
}

func TestClientKeysMustBePublic(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	edPublic, edKey, _ := ed25519.GenerateKey(rand.Reader)
	key := func(key any, use string) string {
		text, err := json.Marshal(jose.JSONWebKey{Key: key, KeyID: "1", Use: use})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	set := func(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }
	// 1024 bits, as many old clients have.
	weak := `{"kty":"RSA","e":"AQAB","n":"` + strings.Repeat("v", 171) + `"}`
	const unknown = `{"kty":"OKP","crv":"X25519","x":"AAAA"}`

	for _, test := range []struct {
		name, jwks, alg string
		index           int // -2: valid
	}{
		{"RSA", set(key(&rsaKey.PublicKey, "sig")), "", -2},
		{"RSA for PS256", set(key(&rsaKey.PublicKey, "")), "PS256", -2},
		{"EC", set(key(&ecKey.PublicKey, "")), "ES256", -2},
		{"Ed25519", set(key(edPublic, "")), "EdDSA", -2},
		{"unknown type beside", set(unknown, key(edPublic, "")), "", -2},
		{"private RSA", set(key(rsaKey, "")), "", 0},
		{"private EC", set(key(&ecKey.PublicKey, ""), key(ecKey, "")), "", 1},
		{"private Ed25519", set(key(edKey, "")), "", 0},
		{"symmetric", set(key([]byte(strings.Repeat("k", 32)), "")), "", 0},
		{"private member of an unknown type", set(key(edPublic, ""), `{"kty":"OKP","crv":"X25519","x":"AAAA","d":"AAAA"}`), "", 1},
		{"empty private member", set(`{"kty":"EC","d":null}`), "", 0},
		{"weak RSA", set(weak), "", 0},
		{"broken EC", set(`{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}`), "", 0},
		{"no type", set(`{}`), "", 0},
		{"wrong algorithm", set(key(&ecKey.PublicKey, "")), "RS256", -1},
		{"wrong curve", set(key(&ecKey.PublicKey, "")), "ES384", -1},
		{"for encryption only", set(key(&rsaKey.PublicKey, "enc")), "", -1},
		{"unknown type only", set(unknown), "", -1},
		{"no keys", set(), "", -1},
		{"too many", set(strings.Split(strings.Repeat("{} ", maxKeys+1), " ")[:maxKeys+1]...), "", -1},
		{"member in upper case", `{"KEYS":[]}`, "", -1},
		{"array", `[]`, "", -1},
		{"null", `null`, "", -1},
		{"no JSON", `{"keys":`, "", -1},
		{"keys no objects", `{"keys":["x"]}`, "", -1},
	} {
		m := valid()
		m.TokenEndpointAuthMethod, m.JWKS, m.TokenEndpointAuthAlg = AuthPrivateKeyJWT, json.RawMessage(test.jwks), test.alg
		faults := m.Validate()
		if test.index == -2 {
			if faults != nil {
				t.Errorf("%s: %v", test.name, faults)
			}
			continue
		}
		if len(faults) == 0 || faults[0].Field != "jwks" || faults[0].Index != test.index {
			t.Errorf("%s: faults are %v, want one at jwks %d", test.name, faults, test.index)
		}
	}

	m := valid()
	m.TokenEndpointAuthMethod, m.JWKS, m.JWKSURI = AuthPrivateKeyJWT, json.RawMessage(set(key(edPublic, ""))), "https://client.example/jwks"
	if faults := m.Validate(); len(faults) != 1 || faults[0].Field != "jwks_uri" {
		t.Errorf("jwks beside jwks_uri: %v", faults)
	}
}
