//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/configs"
)

// openIDClient is the folder of the relying party built on npm's openid-client.
const openIDClient = "testdata/openid-client"

// nodeFlow runs one flow of openid-client and returns what it printed, and
// whether openid-client was content with every answer.
func nodeFlow(t *testing.T, config map[string]any) (result nodeResult, ok bool) {
	t.Helper()
	took(t, "openid-client")
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("Node.js is not installed; install it with: sudo apt-get install nodejs npm")
	}
	if _, err := os.Stat(filepath.Join(openIDClient, "node_modules", "openid-client")); err != nil {
		t.Fatal("npm's openid-client is not installed; install it with: make packages")
	}
	input, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, node, "flow.mjs")
	command.Dir, command.Stdin, command.Stdout, command.Stderr = openIDClient, bytes.NewReader(input), &stdout, &stderr
	err = command.Run()
	if jsonErr := json.Unmarshal(stdout.Bytes(), &result); jsonErr != nil {
		t.Fatalf("flow.mjs printed no JSON: %v, %v\n%s%s", jsonErr, err, stdout.Bytes(), stderr.Bytes())
	}
	if err != nil && result.Failed == "" {
		t.Fatalf("flow.mjs: %v\n%s", err, stderr.Bytes())
	}
	return result, err == nil
}

// nodeResult is what flow.mjs prints, as described there.
type nodeResult struct {
	Server struct {
		Issuer       string
		SupportsPKCE bool `json:"supports_pkce"`
	}
	Pages             []string
	Tokens, Refreshed *nodeTokens
	Userinfo          map[string]any
	Introspection     map[string]map[string]any
	AfterRevocation   map[string]*bool `json:"after_revocation"`
	ClientCredentials *nodeTokens      `json:"client_credentials"`
	Logout            *bool

	Failed, Error, Message string
	ErrorDescription       string `json:"error_description"`
	Status                 int    // of the answer that openid-client failed at
}

type nodeTokens struct {
	AccessToken  string  `json:"access_token"`
	RefreshToken *string `json:"refresh_token"`
	TokenType    string  `json:"token_type"`
	Scope        string
	ExpiresIn    int `json:"expires_in"`
	Claims       map[string]any
}

// keyPair is a private key of a client and the public key set that it
// registers.
func keyPair(t *testing.T, alg string) (private map[string]any, public json.RawMessage) {
	t.Helper()
	curve := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384()}[alg]
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk := jose.JSONWebKey{Key: key, KeyID: "key of " + alg, Algorithm: alg, Use: "sig"}
	text, err := json.Marshal(jwk)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &private); err != nil {
		t.Fatal(err)
	}
	if public, err = json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{jwk.Public()}}); err != nil {
		t.Fatal(err)
	}
	return private, public
}

// withKeyClients registers clients that sign assertions, of the same ids and
// keys at every authorization server, and returns their private keys.
func withKeyClients(t *testing.T) (private map[string]map[string]any, change func(*configs.Config)) {
	t.Helper()
	private = map[string]map[string]any{}
	public := map[string]json.RawMessage{}
	for _, alg := range []string{"ES256", "ES384"} {
		private[alg], public[alg] = keyPair(t, alg)
	}
	return private, func(cfg *configs.Config) {
		for _, as := range cfg.AuthorizationServers {
			for _, alg := range []string{"ES256", "ES384"} {
				for id, m := range map[string]clients.Metadata{
					"key-": {GrantTypes: []string{clients.GrantAuthorizationCode, clients.GrantRefreshToken},
						RedirectURIs: []string{"http://localhost:9009/callback"}, Scope: "openid email"},
					"machine-": {GrantTypes: []string{clients.GrantClientCredentials}, Scope: "reports"},
				} {
					m.ClientID, m.TokenEndpointAuthMethod, m.TokenEndpointAuthAlg, m.JWKS = id+alg, clients.AuthPrivateKeyJWT, alg, public[alg]
					m.Defaults(as.AccessToken.Format)
					if faults := m.Validate(); len(faults) > 0 {
						t.Fatalf("client %s: %v", m.ClientID, faults)
					}
					as.Clients = append(as.Clients, m)
				}
			}
		}
	}
}

func TestOpenIDClientFlows(t *testing.T) {
	t.Parallel()
	private, change := withKeyClients(t)
	o := openOffice(t, "", change)
	for _, as := range bothServers {
		secret := func(id string) map[string]any {
			return map[string]any{"client_id": id, "client_secret": officeSecret(as, id)}
		}
		redirect := func(id string) string { return o.app.URL + "/" + as + "/" + id }
		inspector := secret("inspector")
		post := secret("post")
		post["auth_method"] = "client_secret_post"
		servicePost := secret("service-post")
		servicePost["auth_method"], servicePost["scope"] = "client_secret_post", "reports"
		service := secret("service")
		service["scope"] = "reports"
		flows := map[string]map[string]any{
			"client_secret_basic": merged(secret("web"), map[string]any{"redirect_uri": redirect("web"), "service": service, "introspection_client": inspector,
				"post_logout_redirect_uri": o.app.URL + byePath + "web"}),
			"client_secret_post": merged(post, map[string]any{"redirect_uri": redirect("post"), "service": servicePost}),
			"none":               {"client_id": "native", "redirect_uri": redirect("native"), "introspection_client": inspector},
			"max_age":            merged(secret("ps"), map[string]any{"redirect_uri": redirect("ps"), "authorization_parameters": map[string]string{"max_age": "60"}}),
		}
		flows["EdDSA"] = merged(secret("ed"), map[string]any{"redirect_uri": redirect("ed")})
		for alg, key := range private {
			flows["private_key_jwt "+alg] = map[string]any{"client_id": "key-" + alg, "client_jwk": key, "redirect_uri": "http://localhost:9009/callback",
				"service": map[string]any{"client_id": "machine-" + alg, "client_jwk": key, "scope": "reports"}}
		}
		for name, config := range flows {
			t.Run(as+"/"+name, func(t *testing.T) {
				config = merged(config, map[string]any{"issuer": o.Issuer(as), "insecure": true, "scope": "openid email",
					"username": "alex", "password": "alex-demo"})
				result, ok := nodeFlow(t, config)
				if !ok {
					t.Fatalf("openid-client refuses %s: %s %s %s", result.Failed, result.Error, result.ErrorDescription, result.Message)
				}
				checkNodeFlow(t, result, o.Issuer(as), config)
			})
		}
	}
}

func merged(all ...map[string]any) map[string]any {
	sum := map[string]any{}
	for _, m := range all {
		maps.Copy(sum, m)
	}
	return sum
}

// checkNodeFlow judges what openid-client, which was content, has got.
func checkNodeFlow(t *testing.T, r nodeResult, issuer string, config map[string]any) {
	t.Helper()
	if r.Server.Issuer != issuer || !r.Server.SupportsPKCE || !slices.Equal(r.Pages, []string{"sign-in", "consent"}) {
		t.Errorf("server %+v, pages %q", r.Server, r.Pages)
	}
	first, then := r.Tokens, r.Refreshed
	if first == nil || then == nil || first.RefreshToken == nil || then.RefreshToken == nil {
		t.Fatalf("tokens %+v, refreshed %+v", first, then)
	}
	sid, _ := first.Claims["sid"].(string)
	if first.Claims["aud"] != config["client_id"] || !isSessionID(sid) || then.Claims["sid"] != sid || then.Claims["sub"] != first.Claims["sub"] ||
		then.Claims["auth_time"] != first.Claims["auth_time"] {
		t.Errorf("claims %v, refreshed %v", first.Claims, then.Claims)
	}
	if first.Scope != "openid email" || first.ExpiresIn != 300 || first.AccessToken == then.AccessToken || *first.RefreshToken == *then.RefreshToken {
		t.Errorf("tokens %+v, refreshed %+v", first, then)
	}
	if r.Userinfo["sub"] != first.Claims["sub"] || r.Userinfo["email"] != "alex@example.com" {
		t.Errorf("userinfo %v", r.Userinfo)
	}
	for _, name := range []string{"access_token", "refresh_token"} {
		if answer := r.Introspection[name]; answer["active"] != true || answer["sid"] != sid || answer["client_id"] != config["client_id"] {
			t.Errorf("introspection of the %s: %v", name, answer)
		}
	}
	for name, want := range map[string]bool{"access_token": false, "refresh_token": true, "refresh_token_itself": false} {
		if got := r.AfterRevocation[name]; got == nil || *got != want {
			t.Errorf("after revocation, %s is active: %v, want %t", name, got, want)
		}
	}
	if _, wanted := config["post_logout_redirect_uri"]; wanted && (r.Logout == nil || !*r.Logout) {
		t.Errorf("logout: %v", r.Logout)
	}
	if _, wanted := config["service"]; wanted && (r.ClientCredentials == nil || r.ClientCredentials.AccessToken == "" || r.ClientCredentials.Scope != "reports" || r.ClientCredentials.RefreshToken != nil) {
		t.Errorf("client credentials: %+v", r.ClientCredentials)
	}
}

func TestOpenIDClientIsRefusedWithoutProof(t *testing.T) {
	t.Parallel()
	private, change := withKeyClients(t)
	o := openOffice(t, "", change)
	stranger, _ := keyPair(t, "ES256")
	stranger["kid"] = private["ES256"]["kid"]
	web := map[string]any{"client_id": "web", "client_secret": officeSecret("myAS", "web"), "redirect_uri": o.app.URL + "/myAS/web"}
	key := map[string]any{"client_id": "key-ES256", "client_jwk": private["ES256"], "redirect_uri": "http://localhost:9009/callback"}
	for name, refusal := range map[string]struct {
		config map[string]any
		failed string
		code   string // of an error; empty: the answer is a 401 with a challenge
	}{
		"wrong secret":            {merged(web, map[string]any{"client_secret": "x"}), "the code exchange", ""},
		"secret of the neighbour": {merged(web, map[string]any{"client_secret": officeSecret("partnerAS", "web")}), "the code exchange", ""},
		"no secret":               {merged(web, map[string]any{"auth_method": "none"}), "the code exchange", ""},
		"secret in the body":      {merged(web, map[string]any{"auth_method": "client_secret_post"}), "the code exchange", ""},
		"secret as a key":         {merged(web, map[string]any{"auth_method": "client_secret_jwt"}), "the code exchange", ""},
		"key of somebody else":    {merged(key, map[string]any{"client_jwk": stranger}), "the code exchange", ""},
		"key of another client":   {merged(key, map[string]any{"client_jwk": private["ES384"]}), "the code exchange", ""},
		"denied":                  {merged(web, map[string]any{"decision": "deny", "username": "bea", "password": "bea-demo"}), "the code exchange", "access_denied"},
		"wrong password":          {merged(web, map[string]any{"password": "wrong"}), "signing in", ""},
	} {
		t.Run(name, func(t *testing.T) {
			result, ok := nodeFlow(t, merged(map[string]any{"issuer": o.Issuer("myAS"), "insecure": true, "username": "alex", "password": "alex-demo"}, refusal.config))
			challenged := result.Failed == "the code exchange" && refusal.code == ""
			if ok || result.Failed != refusal.failed || result.Error != refusal.code || challenged != (result.Status == http.StatusUnauthorized) {
				t.Errorf("passed: %t; failed at %q with %q, status %d (%s), want %q with %q", ok, result.Failed, result.Error, result.Status, result.Message, refusal.failed, refusal.code)
			}
		})
	}
}
