package configs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// operatorsExample is the example of the operators' guide.
const operatorsExample = `
listen: 127.0.0.1:8080
public_url: http://localhost:8080          # what browsers and clients see
base_path: ""                              # e.g. /auth-login/rest/oauth2, before /authorization-servers
operations_listen: 127.0.0.1:9090          # /healthz, /readyz, /metrics; never public
trusted_proxies: []                        # CIDRs whose X-Forwarded-For / Forwarded is believed
tls: {certificate_file: "", key_file: "", client_ca_file: ""}    # optional; mutual TLS when client_ca_file is set
database: sqlite:gatehouse.db              # or postgres://user@host:5432/gatehouse
key_encryption_key: ${GATEHOUSE_KEY}       # 32 bytes in base64; any value may be ${ENV} or file:/path; the demo generates one
outgoing: {allow_private: []}              # CIDRs of private or loopback addresses that requests of ours may reach (logout, jwks_uri, …)
smtp: {address: "", from: "", username: "", password: ""}        # optional

realms:
  default:
    login: {idle_lifetime: 24h, lifetime: 720h, remember: true}
    users:                                 # created if absent; an operator's database of users needs none here
      - {username: alex, password: alex-demo, name: Alex, email: alex@example.com}
      - {username: admin, password: admin-demo, roles: [session-admin]}

authorization_servers:
  myAS:                                    # issuer: {public_url}{base_path}/authorization-servers/myAS
    realm: default
    access_token: {format: jwt, lifetime: 5m}         # or opaque
    session: {idle_lifetime: 24h, lifetime: 720h, refresh_grace: 10s, history: 720h}
    offline: {idle_lifetime: 720h, lifetime: 8760h}   # sessions with offline_access once their login is over
    pkce: nonce                            # all; nonce: unless a confidential client sends a nonce (OAuth 2.1); public: public clients only
    resources: []                          # - {identifier: https://api.example, scopes: [...], introspection_clients: [...]}
    registration: off                      # dynamic registration: off, token (initial access token), open
    session_api:
      scopes: {read: "", manage: ""}       # empty: any live user token of this authorization server
      visibility: user                     # or client
      custom_attributes:
        - {name: deviceName, pattern: ".{1,80}", updatable: true}
    clients:                               # keys are the metadata names of RFC 7591, to the letter
      - client_id: oidc-client
        client_name: Photo Album
        client_secret: oidc-client-demo
        redirect_uris: [http://localhost:9001/callback]
        post_logout_redirect_uris: [http://localhost:9001/]
        backchannel_logout_uri: http://localhost:9001/backchannel-logout
        grant_types: [authorization_code, refresh_token]
        response_types: [code]
        scope: openid profile email offline_access
        token_endpoint_auth_method: client_secret_basic
        # beyond RFC 7591: access_token_format, skip_consent, refresh_token_rotation, require_pkce, resources, introspection
`

// minimal is a valid file for tests to add to.
const minimal = "key_encryption_key: ${GATEHOUSE_KEY}\nauthorization_servers: {main: {}}\n"

func parse(text string) (*Config, error) {
	return Parse("gatehouse.yaml", []byte(text), testEnv, testFiles(nil))
}

// at are the faults of text as line:column: path.
func at(t *testing.T, text string) []string {
	t.Helper()
	_, err := parse(text)
	var faults Faults
	if err != nil && !errors.As(err, &faults) {
		t.Fatalf("%v is no Faults", err)
	}
	var out []string
	for _, f := range faults {
		out = append(out, fmt.Sprintf("%d:%d: %s", f.Line, f.Column, f.Path))
	}
	return out
}

func TestExampleOfTheGuideLoads(t *testing.T) {
	c, err := parse(operatorsExample)
	if err != nil {
		t.Fatal(err)
	}
	s := c.AuthorizationServers["myAS"]
	if s.Offline.Lifetime != 8760*time.Hour || s.Registration != RegistrationOff || len(s.Clients) != 1 ||
		s.SessionAPI.CustomAttributes[0] != (CustomAttribute{Name: "deviceName", Pattern: ".{1,80}", Updatable: true}) {
		t.Errorf("it gives %+v", s)
	}
	if u := c.Realms["default"].Users[1]; u.Username != "admin" || string(u.Password) != "admin-demo" || !slices.Equal(u.Roles, []string{RoleSessionAdmin}) {
		t.Errorf("the administrator is %+v", u)
	}
}

func TestDefaultsFillWhatIsLeftOut(t *testing.T) {
	c, err := parse(minimal)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.KeyEncryptionKey = Secret(testKey)
	want.AuthorizationServers["main"] = &AuthorizationServer{}
	want.AuthorizationServers["main"].setDefaults()
	if !reflect.DeepEqual(c, want) {
		t.Errorf("it gives %+v, want %+v", c, want)
	}
	c, err = parse(minimal + "realms:\n  default:\n  other: {login: {lifetime: 1h}}\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := c.RealmNames(); !slices.Equal(got, []string{"default", "other"}) || c.Realms["default"].Login.Lifetime != 30*day {
		t.Errorf("realms are %q, %+v", got, c.Realms["default"])
	}
	if got := c.Realms["other"].Login; got.IdleLifetime != time.Hour {
		t.Errorf("an idle lifetime that was left out is %s, longer than the lifetime", got.IdleLifetime)
	}
}

func TestValuesAreDecoded(t *testing.T) {
	c, err := Parse("/etc/gatehouse/gatehouse.yaml", []byte(`
public_url: https://${HOST}/
base_path: /auth/rest
operations_listen: ""
trusted_proxies: [10.0.0.0/8, fd00::/8, 192.0.2.1]
database: "postgres:///gatehouse?host=/run/postgresql"
key_encryption_key: file:keys/current
previous_key_encryption_keys: ["file:/keys/old"]
smtp: {address: "mail.example:587", from: Gatehouse <g@mail.example>, username: g, password: "a$${b}c"}
realms:
  default:
    login: {remember: "${REMEMBER}", lifetime: "${LIFETIME}"}
    users:
      - {username: alex, password: "file:alex"}
authorization_servers:
  main:
    access_token: {signing_alg: RS256}
    session: {refresh_grace: 0, history: 1d12h}
    resources: [{identifier: "https://api.example", introspection_clients: [api]}]
    clients:
      - client_id: api
        grant_types: [client_credentials]
        token_endpoint_auth_method: private_key_jwt
        jwks:
          keys:
            - {kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo, n1: 1, n2: 1.5, n3: true, n4: null, x5c: []}
        resources: ["https://api.example", "https://login.example/auth/rest/authorization-servers/main"]
      - client_id: api2
        grant_types: [client_credentials]
        token_endpoint_auth_method: private_key_jwt
        jwks: file:/keys/jwks
        default_max_age: 60
        refresh_token_rotation: true
`), func(name string) (string, bool) {
		v, ok := map[string]string{"HOST": "login.example", "REMEMBER": "false", "LIFETIME": "7d"}[name]
		return v, ok
	}, testFiles(map[string]string{
		"/etc/gatehouse/keys/current": testKey + "\r\n",
		"/keys/old":                   strings.Repeat("A", 43) + "=",
		"/etc/gatehouse/alex":         "  ${HOST}\n\n",
		"/keys/jwks":                  `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Issuer("main"); got != "https://login.example/auth/rest/authorization-servers/main" {
		t.Errorf("issuer is %s", got)
	}
	if want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("192.0.2.1/32")}; !slices.Equal(c.TrustedProxies, want) {
		t.Errorf("trusted proxies are %v", c.TrustedProxies)
	}
	if got := c.KeyEncryptionKeys(); len(got) != 2 || string(got[0]) != "0123456789abcdef0123456789abcdef" || string(got[1]) != strings.Repeat("\x00", 32) {
		t.Errorf("keys are %q", got)
	}
	if c.SMTP.Password != "a${b}c" {
		t.Errorf("the escaped password is %q", string(c.SMTP.Password))
	}
	r := c.Realms["default"]
	if r.Login.Remember || r.Login.Lifetime != 7*day || r.Users[0].Password != "  ${HOST}\n" {
		t.Errorf("the realm is %+v, password %q", r.Login, string(r.Users[0].Password))
	}
	s := c.AuthorizationServers["main"]
	if s.Session.RefreshGrace != 0 || s.Session.History != 36*time.Hour || s.AccessToken.SigningAlg != "RS256" || s.AccessToken.Format != "jwt" {
		t.Errorf("the session is %+v, access tokens %+v", s.Session, s.AccessToken)
	}
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(s.Clients[0].JWKS, &set); err != nil || set.Keys[0]["n1"] != 1.0 || set.Keys[0]["n2"] != 1.5 || set.Keys[0]["n3"] != true || set.Keys[0]["kty"] != "OKP" {
		t.Errorf("jwks are %s (%v)", s.Clients[0].JWKS, err)
	}
	if age := s.Clients[1].DefaultMaxAge; age == nil || *age != 60 || !s.Clients[1].Rotates() {
		t.Errorf("the second client is %+v", s.Clients[1])
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "10s": 10 * time.Second, "720h": 720 * time.Hour, "7d": 7 * day, "1d12h": 36 * time.Hour, "1h30m": 90 * time.Minute, "0d": 0, "1.5h": 90 * time.Minute,
	} {
		if got, ok := parseDuration(text); !ok || got != want {
			t.Errorf("%q is %s, %v; want %s", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "5", "d", "-1h", "+1h", "1.5d", "-1d", "1d-1h", "1d+1h", "1h1d", "1d1d", "1 d", "70000d", "9223372036s1d", "1w", "1D", "2562047h47m16.9s", "65535d2562047h", "s"} {
		if got, ok := parseDuration(text); ok {
			t.Errorf("%q is %s", text, got)
		}
	}
}

func TestFileIsNamedByPathAndReadOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "gatehouse.yaml")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("gatehouse.yaml", strings.Replace(minimal, "${GATEHOUSE_KEY}", "file:key", 1))
	write("key", testKey+"\n")
	if _, err := Load(path, testEnv); err != nil {
		t.Error(err)
	}
	write("key", strings.Repeat("x", maxValueFile+1))
	var faults Faults
	if _, err := Load(path, testEnv); !errors.As(err, &faults) || !strings.HasPrefix(err.Error(), path+":1:21: key_encryption_key: refers to a file of more than") {
		t.Errorf("a huge key: %v", err)
	}
	write("gatehouse.yaml", strings.Repeat("#", maxFile+1))
	if _, err := Load(path, testEnv); !errors.As(err, &faults) || len(faults) != 1 {
		t.Errorf("a huge file: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "absent"), testEnv); !errors.Is(err, fs.ErrNotExist) || errors.As(err, &faults) {
		t.Errorf("no file: %v", err)
	}
}

func TestSecretsAreNotFormatted(t *testing.T) {
	c, err := parse(minimal)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c.KeyEncryptionKey)
	if all := fmt.Sprintf("%v %+v %#v %s %q", c, c, c.KeyEncryptionKey, c.KeyEncryptionKey, c.Database) + string(text); err != nil || strings.Contains(all, testKey) || strings.Contains(all, "sqlite") {
		t.Errorf("%s (%v)", all, err)
	}
}
