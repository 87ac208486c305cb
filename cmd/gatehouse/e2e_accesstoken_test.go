//go:build unix

package main

import (
	"net/http"
	"slices"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/configs"
)

// RFC 9068 §4: a resource server verifies the token by the published keys.
func TestResourceServersVerifyAccessTokensOfEachAlgorithm(t *testing.T) {
	t.Parallel()
	for _, alg := range clients.IDTokenAlgs() {
		o := openOffice(t, "", func(cfg *configs.Config) { cfg.AuthorizationServers["myAS"].AccessToken.SigningAlg = alg })
		rp := o.party("myAS", "web")
		token := rp.SignIn(newBrowser(t)).Token.AccessToken
		verifier := func(algs ...string) *oidc.IDTokenVerifier {
			return rp.provider.Verifier(&oidc.Config{ClientID: rp.issuer, SupportedSigningAlgs: algs})
		}
		verified, err := verifier(alg).Verify(t.Context(), token)
		if err != nil || verified.Issuer != rp.issuer || len(verified.Audience) != 1 {
			t.Errorf("%s: %+v, %v", alg, verified, err)
		}
		others := slices.DeleteFunc(clients.IDTokenAlgs(), func(a string) bool { return a == alg })
		if _, err := verifier(others...).Verify(t.Context(), token); err == nil {
			t.Errorf("%s: the token is signed with one of %q", alg, others)
		}
		if rp.Userinfo(t, token) != http.StatusOK || !o.party("myAS", "inspector").Active(t, token) {
			t.Errorf("%s: the server itself refuses the token", alg)
		}
	}
}
