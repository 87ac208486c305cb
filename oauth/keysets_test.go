package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/clients"
	"gatehouse.dev/gatehouse/oauth"
)

func TestFailingJWKSURIIsAskedAgainAfterHalfAMinute(t *testing.T) {
	var works atomic.Bool
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		if !works.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(keySet("p256"))
	}))
	t.Cleanup(server.Close)
	remote := func(id string) clients.Client {
		return client(id, machine, func(c *clients.Client) {
			c.ClientSecret, c.TokenEndpointAuthMethod, c.JWKSURI = "", clients.AuthPrivateKeyJWT, server.URL+"/"+id
		})
	}
	h := open(t, options{Static: append(staticClients(), remote("known"), remote("unknown")), Server: func(c *oauth.Config) { c.Outgoing = server.Client() }})
	s := h.jwt
	assert := func(client, kid string) answer {
		return s.assert(signed(t, "ES256", kid, clientKeys()[kid], s.assertionClaims(client, nil)))
	}
	good := func(client string) { t.Helper(); s.tokens(assert(client, "p256")) }
	bad := func(client, kid string) {
		t.Helper()
		assert(client, kid).fails(http.StatusUnauthorized, "invalid_client")
	}
	times := func(want int64) {
		t.Helper()
		if got := asked.Swap(0); got != want {
			t.Errorf("the URI was asked %d times, want %d", got, want)
		}
	}

	// Keys that nobody has seen yet.
	bad("unknown", "p256")
	times(1)
	works.Store(true)
	h.wait(29 * time.Second)
	bad("unknown", "p256")
	times(0)
	h.wait(time.Second)
	good("unknown")
	times(1)

	// Known ones are good for an hour while the URI fails, which is asked twice a minute.
	good("known")
	times(1)
	fetched := h.now()
	works.Store(false)
	h.wait(5 * time.Minute)
	good("known")
	times(1)
	for range 3 {
		h.wait(9 * time.Second)
		good("known")
		bad("known", "another") // nor has an unknown kid it asked
	}
	times(0)
	h.wait(3 * time.Second)
	good("known")
	times(1)
	h.wait(fetched.Add(time.Hour).Sub(h.now()))
	good("known")
	times(1)
	h.wait(time.Second)
	bad("known", "p256")
	times(0)
	h.wait(time.Minute)
	bad("known", "p256")
	times(1)
	works.Store(true)
	h.wait(30 * time.Second)
	good("known")
	times(1)
}
