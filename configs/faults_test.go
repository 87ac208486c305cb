package configs

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// faulty has one of each fault that a field can have.
const faulty = `listen: nowhere
public_url: http://login.example.com
base_path: auth/
operations_listen: 9090
trusted_proxies: [10.0.0.1/8, 0.0.0.0/0, 10.0.0.0/8]
tls: {certificate_file: a.crt}
database: mysql://localhost/x
key_encryption_key: c2hvcnQ=
previous_key_encryption_keys:
  - ${OLD_KEY}
  - not-base64
outgoing:
  allow_private: 127.0.0.0/8
smtp: {address: mail, from: nobody, username: u, tls: maybe}
listn: x
outgoing: {}

realms:
  default:
    login: {idle_lifetime: 48h, lifetime: 1h, remember: yes}
    users:
      - {username: "", password: x}
      - {username: alex}
      - {username: Alex, password: x, email: nowhere, roles: [admin]}
      - alex
  "no spaces": {}
authorization_servers:
  myAS:
    realm: defualt
    access_token: {format: JWT, lifetime: 25h}
    session: {refresh_grace: 1h, lifetime: 5 minutes, history: 11y}
    offline: {idle_lifetime: 500ms}
    pkce: never
    resources:
      - {identifier: "https://api.example/#x", scopes: ["a b"], introspection_clients: [nobody]}
      - {identifier: "https://api.example"}
      - {identifier: "https://api.example"}
    registration: open
    session_api:
      scopes: {read: "a b", mange: x}
      visibility: all
      custom_attributes:
        - {name: "-x", pattern: "("}
        - {name: a, updatable: "true"}
        - {name: a}
    clients:
      - client_id: one
        redirect_uris:
          - https://one.example/cb
          - http://one.example/cb
        grant_types: [authorization_code, implicit]
        client_secret: ${UNSET}
        resources: [https://other.example]
        default_max_age: 1h
        contacts: [1]
      - client_id: one
        redirect_uri: [https://one.example/cb]
        contacts:
          -
      - client_id: two
        client_secret: gehéim
        redirect_uris: [https://two.example/cb]
        id_token_signed_response_alg: none
        jwks: {keys: [{kty: oct, k: c2VjcmV0}, {kty: EC, kty: EC}]}
        jwks: {}
      - client_id: three
        client_secret: not-for-public-clients
        token_endpoint_auth_method: none
        grant_types: [authorization_code, client_credentials]
        redirect_uris: [com.example:/cb]
        introspection: true
        skip_consent: 1
  partnerAS:
    registration: token
  other: [1]
`

func TestEachFaultHasItsPlace(t *testing.T) {
	want := strings.Split(strings.TrimSpace(`
1:9: listen
2:13: public_url
3:12: base_path
4:20: operations_listen
5:19: trusted_proxies[0]
5:31: trusted_proxies[1]
6:1: tls
7:11: database
8:21: key_encryption_key
10:5: previous_key_encryption_keys[0]
11:5: previous_key_encryption_keys[1]
13:18: outgoing.allow_private
14:1: smtp
14:17: smtp.address
14:29: smtp.from
14:55: smtp.tls
15:1: listn
16:1: outgoing
20:28: realms.default.login.idle_lifetime
20:57: realms.default.login.remember
22:20: realms.default.users[0].username
23:9: realms.default.users[1].password
24:20: realms.default.users[2].username
24:46: realms.default.users[2].email
24:63: realms.default.users[2].roles[0]
25:9: realms.default.users[3]
26:3: realms.?
29:12: authorization_servers.myAS.realm
30:28: authorization_servers.myAS.access_token.format
30:43: authorization_servers.myAS.access_token.lifetime
31:30: authorization_servers.myAS.session.refresh_grace
31:44: authorization_servers.myAS.session.lifetime
31:64: authorization_servers.myAS.session.history
32:30: authorization_servers.myAS.offline.idle_lifetime
33:11: authorization_servers.myAS.pkce
35:22: authorization_servers.myAS.resources[0].identifier
35:57: authorization_servers.myAS.resources[0].scopes[0]
35:89: authorization_servers.myAS.resources[0].introspection_clients[0]
37:22: authorization_servers.myAS.resources[2].identifier
38:19: authorization_servers.myAS.registration
40:22: authorization_servers.myAS.session_api.scopes.read
40:29: authorization_servers.myAS.session_api.scopes.mange
41:19: authorization_servers.myAS.session_api.visibility
43:18: authorization_servers.myAS.session_api.custom_attributes[0].name
43:33: authorization_servers.myAS.session_api.custom_attributes[0].pattern
44:32: authorization_servers.myAS.session_api.custom_attributes[1].updatable
45:18: authorization_servers.myAS.session_api.custom_attributes[2].name
50:13: authorization_servers.myAS.clients[0].redirect_uris[1]
51:43: authorization_servers.myAS.clients[0].grant_types[1]
52:24: authorization_servers.myAS.clients[0].client_secret
53:21: authorization_servers.myAS.clients[0].resources[0]
54:26: authorization_servers.myAS.clients[0].default_max_age
55:20: authorization_servers.myAS.clients[0].contacts[0]
56:9: authorization_servers.myAS.clients[1].redirect_uris
56:9: authorization_servers.myAS.clients[1].client_secret
56:20: authorization_servers.myAS.clients[1].client_id
57:9: authorization_servers.myAS.clients[1].redirect_uri
59:12: authorization_servers.myAS.clients[1].contacts[0]
61:24: authorization_servers.myAS.clients[2].client_secret
63:39: authorization_servers.myAS.clients[2].id_token_signed_response_alg
64:23: authorization_servers.myAS.clients[2].jwks.keys[0]
64:48: authorization_servers.myAS.clients[2].jwks.keys[1]
64:58: authorization_servers.myAS.clients[2].jwks.keys[1].kty
65:9: authorization_servers.myAS.clients[2].jwks
67:24: authorization_servers.myAS.clients[3].client_secret
69:43: authorization_servers.myAS.clients[3].grant_types[1]
70:25: authorization_servers.myAS.clients[3].redirect_uris[0]
71:24: authorization_servers.myAS.clients[3].introspection
72:23: authorization_servers.myAS.clients[3].skip_consent
74:19: authorization_servers.partnerAS.registration
75:3: authorization_servers.other
`), "\n")
	got := at(t, faulty)
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("fault %d is at %s, want %s", i, g, w)
		}
	}
	_, err := parse(faulty)
	for _, line := range []string{
		"gatehouse.yaml:15:1: listn: unknown key: did you mean listen?",
		"gatehouse.yaml:57:9: authorization_servers.myAS.clients[1].redirect_uri: unknown key: did you mean redirect_uris?",
		"gatehouse.yaml:52:24: authorization_servers.myAS.clients[0].client_secret: refers to the environment variable UNSET, which is not set",
		"gatehouse.yaml:31:44: authorization_servers.myAS.session.lifetime: must be a duration such as 30s, 12h or 7d",
	} {
		if !slices.Contains(strings.Split(err.Error(), "\n"), line) {
			t.Errorf("no line %s", line)
		}
	}
	if t.Failed() {
		t.Log(err)
	}
}

// TestSmallFaults takes one fault at a time, added to a valid file.
func TestSmallFaults(t *testing.T) {
	server := func(text string) string {
		return "key_encryption_key: ${GATEHOUSE_KEY}\nauthorization_servers:\n  a:\n" + text
	}
	client := func(text string) string {
		return server("    clients: [{client_id: c, client_secret: s, redirect_uris: ['https://c.example/cb'], " + text + "}]\n")
	}
	for _, test := range []struct{ name, text, want string }{
		{"empty file", "", "1:1: key_encryption_key,1:1: authorization_servers"},
		{"no mapping", "- a", "1:1: "},
		{"a scalar", "a", "1:1: "},
		{"empty key", minimalWithout("key_encryption_key: ''"), "1:21: key_encryption_key"},
		{"empty servers", "key_encryption_key: ${GATEHOUSE_KEY}\nauthorization_servers: {}", "2:1: authorization_servers"},
		{"no server's value", "key_encryption_key: ${GATEHOUSE_KEY}\nauthorization_servers:", "2:1: authorization_servers"},
		{"no realms", minimal + "realms: {}", "3:1: realms"},
		{"the same listeners", minimal + "operations_listen: 127.0.0.1:8080", "3:20: operations_listen"},
		{"mail without TLS elsewhere", minimal + "smtp: {address: 'mail.example:25', from: g@example.com, tls: none}", "3:62: smtp.tls"},
		{"mail without TLS within the machine", minimal + "smtp: {address: '[::1]:25', from: g@example.com, tls: none}", ""},
		{"mail from a quoted name", minimal + "smtp: {address: 'mail.example:25', from: '\"a b\"@example.com'}", "3:42: smtp.from"},
		{"public URL with a path", minimal + "public_url: https://a.example/x", "3:13: public_url"},
		{"public URL with a query", minimal + "public_url: https://a.example?", "3:13: public_url"},
		{"public URL with userinfo", minimal + "public_url: https://a:b@a.example", "3:13: public_url"},
		{"public URL with a fragment", minimal + "public_url: https://a.example#", "3:13: public_url"},
		{"public URL in upper case", minimal + "public_url: https://A.example", "3:13: public_url"},
		{"public URL with the default port", minimal + "public_url: https://a.example:443", "3:13: public_url"},
		{"public URL with an empty port", minimal + "public_url: 'https://a.example:'", "3:13: public_url"},
		{"public URL with a high port", minimal + "public_url: 'https://a.example:65536'", "3:13: public_url"},
		{"public URL without scheme", minimal + "public_url: a.example", "3:13: public_url"},
		{"public URL of another scheme", minimal + "public_url: ftp://a.example", "3:13: public_url"},
		{"public URL that is no URL", minimal + "public_url: 'https://a b'", "3:13: public_url"},
		{"public URL that looks like loopback", minimal + "public_url: http://localhost.example", "3:13: public_url"},
		{"base path with dots", minimal + "base_path: /a/../b", "3:12: base_path"},
		{"base path with a slash at the end", minimal + "base_path: /a/", "3:12: base_path"},
		{"base path with an escape", minimal + "base_path: /a%2fb", "3:12: base_path"},
		{"SQLite without a path", minimal + "database: 'sqlite:'", "3:11: database"},
		{"SQLite in memory", minimal + "database: 'sqlite::memory:'", "3:11: database"},
		{"SQLite with parameters", minimal + "database: sqlite:a.db?_pragma=x", "3:11: database"},
		{"PostgreSQL without a host", minimal + "database: postgres:///x", "3:11: database"},
		{"PostgreSQL without a database", minimal + "database: postgres://h", "3:11: database"},
		{"client CA alone", minimal + "tls: {client_ca_file: x}", "3:23: tls.client_ca_file"},
		{"previous key is the current one", minimal + "previous_key_encryption_keys: ['${GATEHOUSE_KEY}']", "3:32: previous_key_encryption_keys[0]"},
		{"address range of IPv4 in IPv6", minimal + "trusted_proxies: ['::ffff:10.0.0.0/104']", "3:19: trusted_proxies[0]"},
		{"no file", minimal + "listen: file:x", "3:9: listen"},
		{"reference without end", minimal + "listen: ${X", "3:9: listen"},
		{"reference without name", minimal + "listen: ${}", "3:9: listen"},
		{"reference with a shell's default", minimal + "listen: ${X:-y}", "3:9: listen"},
		{"number for a string", minimal + "listen: 8080", "3:9: listen"},
		{"list for a string", minimal + "listen: [a]", "3:1: listen"},
		{"key that is a number", minimal + "1: x", "3:1: ?"},
		{"keys like secrets", minimal + "'hunter2 hunter2': x", "3:1: ?"},
		{"realm with a dot", minimal + "realms: {default: {}, a.b: {}}", "3:23: realms.?"},
		{"server with a slash", "key_encryption_key: ${GATEHOUSE_KEY}\nauthorization_servers: {a/b: {}}", "2:25: authorization_servers.?"},
		{"long server id", "key_encryption_key: ${GATEHOUSE_KEY}\nauthorization_servers: {" + strings.Repeat("x", 65) + ": {}}", "2:25: authorization_servers.?"},
		{"no attempts to sign in", minimal + "realms: {default: {throttle: {account: 0}}}", "3:40: realms.default.throttle.account"},
		{"too many attempts for an account", minimal + "realms: {default: {throttle: {account: 1001}}}", "3:40: realms.default.throttle.account"},
		{"negative number of attempts", minimal + "realms: {default: {throttle: {address: -1}}}", "3:40: realms.default.throttle.address"},
		{"too many attempts for an address", minimal + "realms: {default: {throttle: {address: 1000001}}}", "3:40: realms.default.throttle.address"},
		{"no window", minimal + "realms: {default: {throttle: {window: 0}}}", "3:39: realms.default.throttle.window"},
		{"a window of days", minimal + "realms: {default: {throttle: {window: 25h}}}", "3:39: realms.default.throttle.window"},
		{"throttle switched off", minimal + "realms: {default: {throttle: false}}", "3:30: realms.default.throttle"},
		{"tokens for ever", server("    access_token: {lifetime: 0}"), "4:30: authorization_servers.a.access_token.lifetime"},
		{"tokens for less than a second", server("    access_token: {lifetime: 999ms}"), "4:30: authorization_servers.a.access_token.lifetime"},
		{"tokens signed by nobody", server("    access_token: {signing_alg: none}"), "4:33: authorization_servers.a.access_token.signing_alg"},
		{"tokens signed with a shared key", server("    access_token: {signing_alg: HS256}"), "4:33: authorization_servers.a.access_token.signing_alg"},
		{"signing algorithm in lower case", server("    access_token: {signing_alg: rs256}"), "4:33: authorization_servers.a.access_token.signing_alg"},
		{"sessions for too long", server("    session: {lifetime: 3651d}"), "4:25: authorization_servers.a.session.lifetime"},
		{"negative grace", server("    session: {refresh_grace: -1s}"), "4:30: authorization_servers.a.session.refresh_grace"},
		{"open registration, scopes set", server("    registration: open\n    session_api: {scopes: {read: r, manage: m}}"), "4:19: authorization_servers.a.registration"},
		{"unknown registration", server("    registration: anybody"), "4:19: authorization_servers.a.registration"},
		{"resource that is the issuer", server("    resources: [{identifier: 'http://localhost:8080/authorization-servers/a'}]"), "4:30: authorization_servers.a.resources[0].identifier"},
		{"introspection by a public client", server("    resources: [{identifier: 'https://api.example', introspection_clients: [c]}]\n    clients: [{client_id: c, token_endpoint_auth_method: none, redirect_uris: ['https://c.example/cb']}]"), "4:77: authorization_servers.a.resources[0].introspection_clients[0]"},
		{"resource without identifier", server("    resources: [{scopes: [a]}]"), "4:17: authorization_servers.a.resources[0].identifier"},
		{"attribute without a name", server("    session_api: {custom_attributes: [{pattern: x}]}"), "4:39: authorization_servers.a.session_api.custom_attributes[0].name"},
		{"attribute pattern with an open quotation", server("    session_api: {custom_attributes: [{name: x, pattern: '\\Qx'}]}"), "4:58: authorization_servers.a.session_api.custom_attributes[0].pattern"},
		{"attribute pattern that closes a group", server("    session_api: {custom_attributes: [{name: x, pattern: 'x)|(y'}]}"), "4:58: authorization_servers.a.session_api.custom_attributes[0].pattern"},
		{"long attribute name", server("    session_api: {custom_attributes: [{name: " + strings.Repeat("x", 51) + "}]}"), "4:46: authorization_servers.a.session_api.custom_attributes[0].name"},
		{"client without id", server("    clients: [{grant_types: [client_credentials], client_secret: s}]"), "4:15: authorization_servers.a.clients[0].client_id"},
		{"confidential client without secret", server("    clients: [{client_id: c, grant_types: [client_credentials]}]"), "4:15: authorization_servers.a.clients[0].client_secret"},
		{"boolean in quotes", client("skip_consent: 'true'"), "4:103: authorization_servers.a.clients[0].skip_consent"},
		{"number in quotes", client("default_max_age: '5'"), "4:106: authorization_servers.a.clients[0].default_max_age"},
		{"number in hexadecimal", client("default_max_age: 0x10"), "4:106: authorization_servers.a.clients[0].default_max_age"},
		{"number in octal", client("default_max_age: 010"), "4:106: authorization_servers.a.clients[0].default_max_age"},
		{"fraction", client("default_max_age: 1.5"), "4:106: authorization_servers.a.clients[0].default_max_age"},
		{"jwks as a list", client("jwks: [1]"), "4:89: authorization_servers.a.clients[0].jwks"},
		{"jwks as text", client("jwks: text"), "4:95: authorization_servers.a.clients[0].jwks"},
		{"jwks of infinity", client("jwks: {keys: .inf}"), "4:89: authorization_servers.a.clients[0].jwks,4:102: authorization_servers.a.clients[0].jwks.keys"},
		{"jwks with an undefined variable", client("jwks: {keys: [{kid: '${UNSET}', kty: EC}]}"), "4:103: authorization_servers.a.clients[0].jwks.keys[0],4:109: authorization_servers.a.clients[0].jwks.keys[0].kid"},
	} {
		if got := strings.Join(at(t, test.text), ","); got != test.want {
			t.Errorf("%s: faults at %q, want %q", test.name, got, test.want)
		}
	}
}

func minimalWithout(key string) string {
	return key + "\nauthorization_servers: {main: {}}\n"
}

// TestOpenRegistrationDemandsScopes keeps a second reason apart from the
// first, that the release does not offer it: with both gone, anybody could
// register a client and end the sessions of its users.
func TestOpenRegistrationDemandsScopes(t *testing.T) {
	for scopes, demanded := range map[string]bool{"{}": true, "{read: r}": true, "{manage: m}": true, "{read: r, manage: m}": false} {
		_, err := parse("key_encryption_key: ${GATEHOUSE_KEY}\nauthorization_servers: {a: {registration: open, session_api: {scopes: " + scopes + "}}}")
		if err == nil || strings.Contains(err.Error(), "must set read and manage") != demanded || !strings.Contains(err.Error(), "offers off only") {
			t.Errorf("with scopes %s: %v", scopes, err)
		}
	}
}

func TestFaultsDoNotRepeatValues(t *testing.T) {
	const secret = "hunter2"
	env := func(string) (string, bool) { return secret, true }
	text := strings.ReplaceAll(`
listen: SECRET
public_url: https://SECRET:SECRET@example.com/SECRET
database: other://u:SECRET@h/d
key_encryption_key: SECRET
previous_key_encryption_keys: [SECRET, "${A}", "file:SECRET", "file:${A}"]
smtp: {address: SECRET, from: SECRET, password: SECRET}
realms: {default: {users: [{username: x, password: [SECRET]}, {username: x, password:SECRET}, SECRET]}}
authorization_servers:
  a:
    realm: SECRET
    pkce: SECRET
    resources: [{identifier: "SECRET", introspection_clients: [SECRET]}]
    session_api: {custom_attributes: [{name: "SECRET!", pattern: "(SECRET"}]}
    clients:
      - {client_id: c, client_secret: {SECRET: SECRET}, redirect_uris: ["https://u:SECRET@example.com/"], jwks: {keys: [{kty: oct, k: SECRET}]}}
      - {client_id: d, client_secret: SECRET, token_endpoint_auth_method: none, scope: '"SECRET', default_max_age: SECRET}
`, "SECRET", secret)
	_, err := Parse("x.yaml", []byte(text), env, testFiles(nil))
	var faults Faults
	if !errors.As(err, &faults) || len(faults) < 20 {
		t.Fatalf("faults are %v", err)
	}
	broken := []string{
		"key_encryption_key: |" + secret + "\n  x\n", "key_encryption_key: \"\\" + secret + "\"", "key_encryption_key: @" + secret,
		"key_encryption_key:" + secret, "key_encryption_key: !" + secret + " x", "key_encryption_key: 'x' " + secret, "key_encryption_key: *" + secret,
		"key_encryption_key: !<{" + secret + "\n", "key_encryption_key: `" + secret, "key_encryption_key: %" + secret, "key_encryption_key: {" + secret + "\n",
		"%" + secret + " x\n---\na: b", "%YAML " + secret + "\n---\na: b", "? " + secret, "key_encryption_key: >-" + secret + "\n",
	}
	for _, text := range broken {
		_, e := Parse("x.yaml", []byte(text), env, testFiles(nil))
		if e == nil {
			t.Errorf("%q has no fault", text)
			continue
		}
		err = errors.Join(err, e)
	}
	for line := range strings.Lines(err.Error()) {
		if strings.Contains(line, secret) || strings.Contains(line, "hunte") {
			t.Errorf("a secret is in %s", line)
		}
	}
}

// TestReferencesAreNotFollowedTwice keeps whoever sets a variable, or writes
// a secret's file, from reading other files and variables of the server.
func TestReferencesAreNotFollowedTwice(t *testing.T) {
	env := func(name string) (string, bool) {
		return map[string]string{"FILE": "file:/secret", "VARIABLE": "${GATEHOUSE_KEY}", "LONG": strings.Repeat("x", maxFile/2+1)}[name], true
	}
	s := Source{Env: env, ReadFile: testFiles(map[string]string{"/secret": "secret", "/reference": "file:/secret", "/variable": "${VARIABLE}"})}
	for text, want := range map[string]string{
		"${FILE}":         "file:/secret",
		"${VARIABLE}":     "${GATEHOUSE_KEY}",
		"file:/reference": "file:/secret",
		"file:/variable":  "${VARIABLE}",
		"$${FILE}":        "${FILE}",
		"a$b{c}":          "a$b{c}",
	} {
		if got, fault := s.resolve(text); got != want || fault != "" {
			t.Errorf("%q is %q (%s), want %q", text, got, fault, want)
		}
	}
	for _, text := range []string{"${LONG}${LONG}", "file:", "file:/absent", "file:/secret\x00", "file:${VARIABLE}"} {
		if got, fault := s.resolve(text); got != "" || fault == "" {
			t.Errorf("%q is %q", text, got)
		}
	}
}

func TestManyFaultsAreCounted(t *testing.T) {
	_, err := parse(minimal + "trusted_proxies: [" + strings.Repeat("x,", 1000) + "]")
	var faults Faults
	if !errors.As(err, &faults) || len(faults) != maxFaults+1 || faults[maxFaults].Message != "800 more faults are not listed" {
		t.Errorf("%d faults, the last is %s", len(faults), faults[len(faults)-1].Error())
	}
}

func TestSuggestions(t *testing.T) {
	known := []string{"client_id", "client_uri", "scope", "jwks", "jwks_uri"}
	for name, want := range map[string]string{
		"clientid": "client_id", "client-id": "client_id", "cleint_id": "client_id", "Client_ID": "client_id", "scopes": "scope", "jkws": "jwks",
		"x": "", "password": "", "id": "", "": "",
	} {
		got := suggest(name, known)
		if want != "" {
			want = ": did you mean " + want + "?"
		}
		if got != want {
			t.Errorf("for %q: %q, want %q", name, got, want)
		}
	}
}
