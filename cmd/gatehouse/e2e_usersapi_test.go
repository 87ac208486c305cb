//go:build unix

package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/audit"
	"gatehouse.dev/gatehouse/configs"
	"gatehouse.dev/gatehouse/sessions"
)

// Every call, in every way to prove who one is, as each person. What the
// answers are is written down by hand; {alex} is alex's id and {login} one of
// alex's logins.
func TestUsersAPICalls(t *testing.T) {
	c := openCounter(t)
	alex := c.userID("alex")
	people := []string{"alex", "bea", "admin", "boss"}
	const ends, missed, refused, viewed = "ends", "access_refused not_found", "access_refused not_allowed", "sessions_viewed"
	type answer struct {
		status int
		code   string
		effect string // ends: what is alex's; or the event that is recorded
	}
	nobody := answer{401, "401", ""}
	forbidden, mayNotEnd := answer{403, "403", refused}, answer{403, "USM-10010", refused}
	for _, tt := range []struct {
		method, path string
		want         [4]answer // of alex, bea, admin, and another realm's boss
	}{
		{"GET", "/me/sessions", [4]answer{{200, "", ""}, {200, "", ""}, {200, "", ""}, nobody}},
		{"DELETE", "/me/sessions", [4]answer{{204, "", ends}, {204, "", ""}, {204, "", ""}, nobody}},
		{"DELETE", "/me/sessions/{login}", [4]answer{{204, "", ends}, {204, "", missed}, {204, "", missed}, nobody}},
		{"GET", "/{alex}/sessions", [4]answer{forbidden, forbidden, {200, "", viewed}, nobody}},
		{"GET", "/{alex}/sessions/{login}", [4]answer{forbidden, forbidden, {200, "", viewed}, nobody}},
		{"DELETE", "/{alex}/sessions", [4]answer{mayNotEnd, mayNotEnd, {204, "", ends}, nobody}},
		{"DELETE", "/{alex}/sessions/{login}", [4]answer{mayNotEnd, mayNotEnd, {204, "", ends}, nobody}},
		{"GET", "/sessions", [4]answer{forbidden, forbidden, {200, "", viewed}, nobody}},
	} {
		for _, way := range []string{"nothing", "cookie", "basic", "bearer", "certificate"} {
			for i, person := range people {
				want := tt.want[i]
				if way == "nothing" || way == "cookie" {
					want = nobody
				}
				name := strings.Join([]string{tt.method, tt.path, "with", way, "as", person}, " ")
				p := c.as(person, way)
				login := c.login("alex")
				base := "/api/users/v1"
				if i%2 == 1 {
					base = "/t/default/api/users/v1"
				}
				before := c.audited("default")
				r := c.call(tt.method, base, strings.NewReplacer("{alex}", alex, "{login}", login.ID).Replace(tt.path), p)
				code, _ := r.json["code"].(string)
				if r.status != want.status || code != want.code {
					t.Errorf("%s: %s, want %d %s", name, r, want.status, want.code)
				}
				if ended := !slices.Contains(c.live("alex"), login.ID); ended != (want.effect == ends) {
					t.Errorf("%s: alex's login has ended: %v", name, ended)
				}
				after := c.audited("default")
				if want.effect != ends && want.effect != "" && after[want.effect] != before[want.effect]+1 {
					t.Errorf("%s: %q was recorded %d times", name, want.effect, after[want.effect]-before[want.effect])
				}
				if asked := after["ending_requested"] - before["ending_requested"]; (asked == 1) != (person == "admin" && want.effect == ends) {
					t.Errorf("%s: ending_requested was recorded %d times", name, asked)
				}
				if want.status == 401 {
					if challenges := r.header["Www-Authenticate"]; len(challenges) != 2 || !strings.HasPrefix(challenges[0], `Basic realm="default"`) ||
						!strings.HasPrefix(challenges[1], `Bearer realm="default"`) {
						t.Errorf("%s: challenges %q", name, challenges)
					}
				}
				if want.status == 200 && tt.path != "/me/sessions" && !strings.Contains(r.body, login.ID) {
					t.Errorf("%s: %s has not alex's login", name, r)
				}
				if want.status == 200 && tt.path == "/me/sessions" && strings.Contains(r.body, login.ID) != (person == "alex") {
					t.Errorf("%s: %s", name, r)
				}
			}
		}
	}
	events, err := c.realms["default"].Events(t.Context(), audit.Filter{UserID: alex, Types: []audit.Type{audit.LoginEnded}})
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]bool{}
	for _, e := range events {
		reasons[e.Actor+" "+e.Reason] = true
	}
	if want := map[string]bool{"user:" + alex + " logout": true, "user:" + c.userID("admin") + " ended_by_admin": true}; !maps.Equal(reasons, want) {
		t.Errorf("alex's logins were ended by %v", reasons)
	}
}

func TestUsersAPITokens(t *testing.T) {
	c := openCounter(t)
	alex, admin := c.userID("alex"), c.userID("admin")
	c.login("alex")
	token := func(person, as, client, scope string) string {
		access, _, _ := c.tokens(newBrowser(t).As(username(person), peoplesPasswords[person]), as, client, scope)
		return access
	}
	adminsLogin := token("admin", "myAS", "desk", "openid internal_login")
	adminsView := token("admin", "myAS", "desk", "openid internal_session_view")
	adminsDelete := token("admin", "partnerAS", "desk", "openid internal_session_delete")
	none := token("admin", "myAS", "other", "openid")
	ended, _, sid := c.tokens(newBrowser(t).As("admin", "admin-demo"), "myAS", "desk", allScopes)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, c.Issuer("myAS")+"/sessions/"+sid+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+ended)
	if r := c.send(req); r.status != 204 {
		t.Fatalf("ending the session: %s", r)
	}
	robot := c.form(c.Issuer("myAS")+"/token", "robot", url.Values{"grant_type": {"client_credentials"}})
	if robot.json["scope"] != "reports" {
		t.Errorf("a client without a user got %s", robot)
	}
	if r := c.form(c.Issuer("myAS")+"/token", "robot", url.Values{"grant_type": {"client_credentials"}, "scope": {"internal_session_view"}}); r.status != 400 || r.failure() != "invalid_scope" {
		t.Errorf("a client without a user asks for the scope: %s", r)
	}
	values, _ := newBrowser(t).As("admin", "admin-demo").Authorize(c.Issuer("myAS") + "/authorize?" + url.Values{"response_type": {"code"}, "client_id": {"other"},
		"nonce": {"n"}, "redirect_uri": {"https://desk.example/callback"}, "scope": {"openid internal_session_view"}}.Encode())
	if values.Get("error") != "invalid_scope" {
		t.Errorf("a client that is not registered for the scope: %v", values)
	}
	robotToken, _ := robot.json["access_token"].(string)
	foreign := token("boss", "staffAS", "desk", allScopes)
	user := "/" + alex + "/sessions"
	for _, tt := range []struct {
		name, method, path string
		proof
		status int
		code   string
	}{
		{"view without its scope", "GET", user, bearerProof(adminsLogin), 403, "403"},
		{"delete without its scope", "DELETE", user, bearerProof(adminsView), 403, "403"},
		{"view with delete's scope", "GET", "/sessions", bearerProof(adminsDelete), 403, "403"},
		{"own with view's scope", "GET", "/me/sessions", bearerProof(adminsView), 403, "403"},
		{"own without any", "GET", "/me/sessions", bearerProof(none), 403, "403"},
		{"view", "GET", user, bearerProof(adminsView), 200, ""},
		{"view as a proxy sends it", "GET", user, header("Authorization", "bearer "+adminsView), 200, ""},
		{"own", "GET", "/me/sessions", bearerProof(adminsLogin), 200, ""},
		{"ended", "GET", "/me/sessions", bearerProof(ended), 401, "401"},
		{"another realm's", "GET", "/me/sessions", bearerProof(foreign), 401, "401"},
		{"another realm's administrator's", "GET", "/sessions", bearerProof(foreign), 401, "401"},
		{"without a user", "GET", "/sessions", bearerProof(robotToken), 403, "403"},
		{"without a user, own", "DELETE", "/me/sessions", bearerProof(robotToken), 403, "403"},
		{"changed", "GET", "/me/sessions", bearerProof(adminsLogin[:len(adminsLogin)-3] + "AAA"), 401, "401"},
		{"rubbish", "GET", "/me/sessions", bearerProof("a.b.c"), 401, "401"},
		{"empty", "GET", "/me/sessions", bearerProof(""), 401, "401"},
		{"unknown scheme", "GET", "/me/sessions", header("Authorization", "Digest x"), 401, "401"},
		{"scheme of another binding", "GET", "/me/sessions", header("Authorization", "DPoP "+adminsLogin), 401, "401"},
		{"in the query", "GET", "/me/sessions?access_token=" + adminsLogin, proof{}, 401, "401"},
		{"two", "GET", "/me/sessions", proof{header: http.Header{"Authorization": {"Bearer " + adminsLogin, "Bearer " + adminsLogin}}}, 401, "401"},
		{"basic and bearer", "GET", "/me/sessions", proof{header: http.Header{"Authorization": {basic("admin", "admin-demo").header.Get("Authorization"), "Bearer " + adminsLogin}}}, 401, "401"},
		{"malformed basic", "GET", "/me/sessions", header("Authorization", "Basic !"), 401, "401"},
		{"wrong password", "GET", "/me/sessions", basic("admin", "wrong"), 401, "401"},
		{"unknown user", "GET", "/me/sessions", basic("nobody", "wrong"), 401, "401"},
		{"client's secret", "GET", "/me/sessions", basic("desk", "desk-secret"), 401, "401"},
		{"delete", "DELETE", user, bearerProof(adminsDelete), 204, ""},
	} {
		r := c.call(tt.method, "/api/users/v1", tt.path, tt.proof)
		if code, _ := r.json["code"].(string); r.status != tt.status || code != tt.code {
			t.Errorf("%s: %s, want %d %s", tt.name, r, tt.status, tt.code)
		}
		challenge := strings.Join(r.header["Www-Authenticate"], "\n")
		if tt.status == 403 && strings.Contains(tt.name, "scope") && !strings.Contains(challenge, `error="insufficient_scope", scope="internal_`) {
			t.Errorf("%s: challenge %q", tt.name, challenge)
		}
		if tt.name == "ended" && !strings.Contains(challenge, `error="invalid_token"`) {
			t.Errorf("%s: challenge %q", tt.name, challenge)
		}
	}
	// The session that the token belongs to stays where that is asked for.
	access, _, _ := c.tokens(newBrowser(t).As("admin", "admin-demo"), "partnerAS", "desk", allScopes)
	c.login("admin")
	current := func(path string) (own int) {
		r := c.call("GET", "/api/users/v1", path, bearerProof(access))
		return strings.Count(r.body, `"current":true`)
	}
	if current("/me/sessions") != 1 || current("/"+admin+"/sessions") != 1 || current("/sessions") != 1 {
		t.Error("not one session is the current one")
	}
	if r := c.call("GET", "/api/users/v1", "/me/sessions", basic("admin", "admin-demo")); strings.Contains(r.body, `"current":true`) {
		t.Errorf("with a password there is a current session: %s", r)
	}
	if r := c.call("DELETE", "/api/users/v1", "/me/sessions?excludeCurrent=true", bearerProof(access)); r.status != 204 || len(c.live("admin")) != 1 || current("/me/sessions") != 1 {
		t.Errorf("%s; left: %q", r, c.live("admin"))
	}
	if r := c.call("DELETE", "/api/users/v1", "/me/sessions?excludeCurrent=false", bearerProof(access)); r.status != 204 || len(c.live("admin")) != 0 {
		t.Errorf("%s; left: %q", r, c.live("admin"))
	}
	// A role that is taken away is gone at the next call; so is a locked account.
	if _, err := c.realms["default"].End(t.Context(), sessions.Target{User: admin}, sessions.Ending{Reason: sessions.ReasonUserLocked,
		Effects: []sessions.Effect{sessions.LockUser{UserID: admin}}}); err != nil {
		t.Fatal(err)
	}
	before := c.audited("default")
	for _, p := range []proof{basic("admin", "admin-demo"), c.certificate(c.clientCA, named("admin"))} {
		if r := c.call("GET", "/api/users/v1", "/sessions", p); r.status != 401 {
			t.Errorf("of a locked account: %s", r)
		}
	}
	if n := c.audited("default")["sign_in locked"] - before["sign_in locked"]; n != 2 {
		t.Errorf("%d refusals of a locked account were recorded, want 2", n)
	}
}

func TestUsersAPICertificates(t *testing.T) {
	c := openCounter(t, func(cfg *configs.Config) { cfg.Realms["staff"].UsersAPI.CertificateUser = configs.CertificateSANMail })
	stranger := newAuthority(t, "client ca") // of the same name
	mail := func(addresses ...string) func(*x509.Certificate) {
		return func(template *x509.Certificate) { template.EmailAddresses = addresses }
	}
	for _, tt := range []struct {
		name, base string
		proof
		status int // 0: there is no connection
	}{
		{"good", "/api/users/v1", c.certificate(c.clientCA, named("alex")), 200},
		{"other letters", "/api/users/v1", c.certificate(c.clientCA, named("ALEX")), 200},
		{"unknown name", "/api/users/v1", c.certificate(c.clientCA, named("nobody")), 401},
		{"no name", "/api/users/v1", c.certificate(c.clientCA, named("")), 401},
		{"two names", "/api/users/v1", c.certificate(c.clientCA, func(template *x509.Certificate) {
			cn := asn1.ObjectIdentifier{2, 5, 4, 3}
			template.Subject = pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: cn, Value: "alex"}, {Type: cn, Value: "bea"}}}
		}), 401},
		{"another attribute", "/api/users/v1", c.certificate(c.clientCA, mail("alex")), 401},
		{"another authority", "/api/users/v1", c.certificate(stranger, named("alex")), 0},
		{"expired", "/api/users/v1", c.certificate(c.clientCA, func(template *x509.Certificate) {
			named("alex")(template)
			template.NotAfter = time.Now().Add(-time.Minute)
		}), 0},
		{"for servers", "/api/users/v1", c.certificate(c.clientCA, func(template *x509.Certificate) {
			named("alex")(template)
			template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), 0},
		{"mail in the realm that takes it", "/t/staff/api/users/v1", c.certificate(c.clientCA, mail("boss")), 200},
		{"two mails", "/t/staff/api/users/v1", c.certificate(c.clientCA, mail("boss", "alex")), 401},
		{"name in the realm that takes mail", "/t/staff/api/users/v1", c.certificate(c.clientCA, named("boss")), 401},
		{"and a token that is refused", "/api/users/v1", proof{certificate: c.certificate(c.clientCA, named("alex")).certificate,
			header: http.Header{"Authorization": {"Bearer x"}}}, 401},
		{"in headers", "/api/users/v1", proof{header: http.Header{"X-Client-Cert": {url.QueryEscape(c.clientCA.pem)}, "X-Ssl-Client-S-Dn": {"CN=alex"},
			"X-Forwarded-Client-Cert": {`Subject="CN=alex"`}, "Client-Cert": {":AAAA:"}, "X-Forwarded-User": {"alex"}}}, 401},
	} {
		if r := c.call("GET", tt.base, "/me/sessions", tt.proof); r.status != tt.status {
			t.Errorf("%s: %s, want %d", tt.name, r, tt.status)
		}
	}
}
