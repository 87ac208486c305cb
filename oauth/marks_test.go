package oauth_test

import (
	"net/http"
	"testing"
	"time"
)

// The clocks of nodes differ: what one of them calls expired, and sweeps away,
// another one still takes.
func TestMarksOutliveWhatTheyForbidByFiveMinutes(t *testing.T) {
	const slow = 5*time.Minute - time.Second
	t.Run("revoked access token", func(t *testing.T) {
		fast := open(t, options{})
		tk := fast.jwt.authorize(fast.signedIn("alex"), "web")
		own := fast.jwt.tokens(fast.jwt.post("/token", "machine", form("grant_type", "client_credentials")))
		fast.jwt.revoke("web", tk.Access)
		fast.jwt.revoke("machine", own.Access)
		behind := fast.restarted(func(n *house) { n.wait(5*time.Minute - 2*time.Second) })
		fast.wait(5*time.Minute - 2*time.Second + slow)
		swept := func(want int) {
			t.Helper()
			got, err := fast.jwt.store.Sweep(t.Context(), time.Hour, 100)
			fast.must(err)
			if got.Marks != want {
				t.Errorf("%d marks were swept away, want %d", got.Marks, want)
			}
		}
		swept(0)
		behind.jwt.alive(tk.Access, false)
		if behind.jwt.active(own.Access) {
			t.Error("a client's revoked token is active again")
		}
		// Others are as good as that node's clock says.
		behind.jwt.alive(behind.jwt.authorize(behind.signedIn("alex"), "other").Access, true)
		fast.wait(3 * time.Second)
		swept(2)
	})
	t.Run("used assertion", func(t *testing.T) {
		fast := open(t, options{Static: assertionClients()})
		s := fast.jwt
		lives := 120 * time.Second // 60 s, and as much leeway
		used := signed(t, "ES256", "p256", clientKeys()["p256"], s.assertionClaims("asserts", nil))
		fresh := signed(t, "ES256", "p256", clientKeys()["p256"], s.assertionClaims("asserts", nil))
		s.tokens(s.assert(used))
		behind := fast.restarted(func(n *house) { n.wait(lives - time.Second) })
		fast.wait(lives - time.Second + slow)
		got, err := s.store.Sweep(t.Context(), time.Hour, 100)
		fast.must(err)
		if got.Marks != 0 {
			t.Errorf("%d marks were swept away", got.Marks)
		}
		behind.jwt.assert(used).fails(http.StatusUnauthorized, "invalid_client")
		behind.jwt.tokens(behind.jwt.assert(fresh)) // by its clock both have not expired
	})
}
