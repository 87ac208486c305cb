//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// long tells whether the variants for `make test-long` run.
func long() bool { return os.Getenv("GATEHOUSE_LONG") != "" }

// pkceVerifier belongs to every authorization request of a party.
const pkceVerifier = "the-verifier-of-every-request-in-the-tests-of-nodes"

// party is a relying party as it is registered.
type party struct{ as, id, secret, redirectURI string }

var (
	albumParty  = party{"myAS", "oidc-client", "oidc-client-demo", "http://localhost:9001/callback"}
	portalParty = party{"partnerAS", "partner-portal", "partner-portal-demo", "http://localhost:9003/callback"}
)

// houseParties are the parties that withParties registers: nobody is asked for
// consent to them.
func houseParties(as string, n int) []party {
	all := make([]party, n)
	for i := range all {
		id := fmt.Sprintf("house-%d", i)
		all[i] = party{as, id, id + "-secret", "http://localhost:9009/callback"}
	}
	return all
}

// withParties changes a configuration: the parties are registered.
func withParties(parties []party) func(string) string {
	var lines strings.Builder
	for _, p := range parties {
		fmt.Fprintf(&lines, "      - {client_id: %s, client_secret: %s, redirect_uris: [%q], grant_types: [authorization_code, refresh_token],\n"+
			"         scope: openid profile email offline_access, skip_consent: true}\n", p.id, p.secret, p.redirectURI)
	}
	return withClients(parties[0].as, lines.String())
}

// withClients changes a configuration: clients, as YAML, are added to those of
// an authorization server.
func withClients(as, clients string) func(string) string {
	return func(text string) string {
		before, after, _ := strings.Cut(text, "\n  "+as+":\n")
		own, rest, found := strings.Cut(after, "    clients:\n")
		if !found {
			panic("the configuration has no clients of " + as)
		}
		return before + "\n  " + as + ":\n" + own + "    clients:\n" + clients + rest
	}
}

// withUsers changes a configuration: the users are added, each with its name
// and "-demo" as the password.
func withUsers(names ...string) func(string) string {
	var lines strings.Builder
	lines.WriteString("    users:\n")
	for _, name := range names {
		fmt.Fprintf(&lines, "      - {username: %s, password: %s-demo}\n", name, name)
	}
	return substitute("    users:\n", lines.String())
}

// substitute changes a configuration: the first old is new.
func substitute(old, new string) func(string) string {
	return func(text string) string {
		if !strings.Contains(text, old) {
			panic("the configuration has no " + old)
		}
		return strings.Replace(text, old, new, 1)
	}
}

// desk is a party that talks to one node. Its methods may be called from many
// goroutines; a request without an answer is an error of the test.
type desk struct {
	party
	issuer string
	http   *http.Client
	t      testing.TB
}

// desks gives a party a desk at each node. All desks of one node that are made
// together share connections.
func desks(t testing.TB, nodes []*node, parties ...party) [][]*desk {
	t.Helper()
	all := make([][]*desk, len(nodes))
	for i, n := range nodes {
		client := &http.Client{Transport: wide(n)}
		for _, p := range parties {
			all[i] = append(all[i], &desk{party: p, issuer: n.Issuer(p.as), http: client, t: t})
		}
	}
	return all
}

// wide is a transport to a node for many requests at once.
func wide(n *node) *http.Transport {
	transport := n.transport().(*http.Transport)
	transport.MaxIdleConnsPerHost = 256
	return transport
}

// request is the URL of an authorization request; more are further parameters,
// name and value in turn.
func (d *desk) request(more ...string) string {
	challenge := sha256.Sum256([]byte(pkceVerifier))
	query := url.Values{"response_type": {"code"}, "client_id": {d.id}, "redirect_uri": {d.redirectURI}, "scope": {"openid profile"},
		"state": {"a-state"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"}}
	for i := 0; i < len(more); i += 2 {
		query.Set(more[i], more[i+1])
	}
	return d.issuer + "/authorize?" + query.Encode()
}

// authorize sends a visitor through an authorization request and returns the
// parameters that the party gets; none where the way ends before.
func (d *desk) authorize(v *visitor, more ...string) url.Values {
	to, last, err := v.authorize(d.t.Context(), d.request(more...))
	if last == nil {
		d.t.Errorf("authorization request: %v", err)
		return nil
	}
	defer last.Body.Close()
	if to == nil {
		return nil
	}
	return to.Query()
}

// silent is the error (login_required) or code of a request with prompt=none.
func (d *desk) silent(v *visitor) (code, failure string) {
	answer := d.authorize(v, "prompt", "none")
	return answer.Get("code"), answer.Get("error")
}

// tokens is an answer of the token endpoint.
type tokens struct {
	Status  int
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Error   string `json:"error"`
}

// refused reports whether the answer is that the code or refresh token is no
// good.
func (t tokens) refused() bool {
	return t.Status == http.StatusBadRequest && t.Error == "invalid_grant" && t.Access+t.Refresh == ""
}

// send sends a request and reads the JSON in its answer; into may be nil.
func (d *desk) send(method, path string, form url.Values, bearer string, into any) (status int) {
	answer, err := d.ask(method, path, form, bearer)
	if err == nil && into != nil && len(bytes.TrimSpace(answer.body)) > 0 {
		err = json.Unmarshal(answer.body, into)
	}
	if err != nil {
		d.t.Errorf("%s %s: %d %s: %v", method, path, answer.status, answer.body, err)
	}
	return answer.status
}

// wholeReply is an answer, read to its end.
type wholeReply struct {
	status int
	header http.Header
	body   []byte
	took   time.Duration
}

// ask sends a request; that it has no answer, or not a whole one, is for the
// caller to judge.
func (d *desk) ask(method, path string, form url.Values, bearer string) (wholeReply, error) {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.issuer+path, body)
	if err != nil {
		return wholeReply{}, err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	switch {
	case bearer != "":
		req.Header.Set("Authorization", "Bearer "+bearer)
	case d.secret != "":
		req.SetBasicAuth(d.id, d.secret)
	}
	return readReply(d.http, req)
}

// readReply sends a request and reads the answer to its end.
func readReply(client *http.Client, req *http.Request) (wholeReply, error) {
	began := time.Now()
	res, err := client.Do(req)
	if err != nil {
		return wholeReply{}, err
	}
	defer res.Body.Close()
	answer := wholeReply{status: res.StatusCode, header: res.Header}
	answer.body, err = io.ReadAll(res.Body)
	answer.took = time.Since(began)
	return answer, err
}

// token asks the token endpoint; parameters are name and value in turn.
func (d *desk) token(parameters ...string) tokens {
	form := url.Values{}
	for i := 0; i < len(parameters); i += 2 {
		form.Set(parameters[i], parameters[i+1])
	}
	var answer tokens
	answer.Status = d.send(http.MethodPost, "/token", form, "", &answer)
	return answer
}

func (d *desk) redeem(code string) tokens {
	return d.token("grant_type", "authorization_code", "code", code, "redirect_uri", d.redirectURI, "code_verifier", pkceVerifier)
}

func (d *desk) refresh(token string) tokens {
	return d.token("grant_type", "refresh_token", "refresh_token", token)
}

// introspected is an answer of the introspection endpoint.
type introspected struct {
	Active bool   `json:"active"`
	SID    string `json:"sid"`
}

func (d *desk) introspect(token string) introspected {
	var answer introspected
	if status := d.send(http.MethodPost, "/introspect", url.Values{"token": {token}}, "", &answer); status != http.StatusOK {
		d.t.Errorf("introspection at %s: %d", d.issuer, status)
	}
	return answer
}

// userinfo and session are the statuses that an access token gets there.
func (d *desk) userinfo(access string) int {
	return d.send(http.MethodGet, "/userinfo", nil, access, nil)
}
func (d *desk) session(access string) int {
	return d.send(http.MethodGet, "/session/", nil, access, nil)
}

// end ends a session by its id and returns the status, the answer being read to
// its end.
func (d *desk) end(access, sid string) int {
	return d.send(http.MethodDelete, "/sessions/"+sid+"/", nil, access, nil)
}

// alive reports whether an access token is good everywhere.
func (d *desk) alive(access string) bool {
	return d.introspect(access).Active && d.userinfo(access) == http.StatusOK && d.session(access) == http.StatusOK
}

// lives tells at which endpoints an access token is not refused.
func (d *desk) lives(access string) (where []string) {
	if d.introspect(access).Active {
		where = append(where, "introspection")
	}
	if status := d.userinfo(access); status != http.StatusUnauthorized {
		where = append(where, fmt.Sprintf("userinfo (%d)", status))
	}
	if status := d.session(access); status != http.StatusUnauthorized {
		where = append(where, fmt.Sprintf("session (%d)", status))
	}
	return where
}

// race lets n calls go at one moment and returns how long all of them took.
func race(n int, call func(i int)) time.Duration {
	var waiting, running sync.WaitGroup
	gate := make(chan struct{})
	waiting.Add(n)
	for i := range n {
		running.Go(func() {
			waiting.Done()
			<-gate
			call(i)
		})
	}
	waiting.Wait()
	began := time.Now()
	close(gate)
	running.Wait()
	return time.Since(began)
}

// rows is a connection to a PostgreSQL database beside the servers.
type rows struct {
	*pgx.Conn
	t testing.TB
}

func openRows(t testing.TB, database string) *rows {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	r := &rows{conn, t}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return r
}

// number is the one number that a statement returns.
func (r *rows) number(statement string, args ...any) (n int64) {
	r.t.Helper()
	if err := r.QueryRow(r.t.Context(), statement, args...).Scan(&n); err != nil {
		r.t.Fatalf("%s: %v", statement, err)
	}
	return n
}

// run runs a statement that changes one row.
func (r *rows) run(statement string, args ...any) {
	r.t.Helper()
	tag, err := r.Exec(r.t.Context(), statement, args...)
	if err != nil || tag.RowsAffected() != 1 {
		r.t.Fatalf("%s: %s, %v", statement, tag, err)
	}
}

// grantID is the id of the grant that a code or refresh token belongs to.
func grantID(value string) string {
	id, _, _ := strings.Cut(value, ".")
	return id
}
