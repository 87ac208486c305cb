//go:build linux

package bench

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	signInClients   = 32
	mostStarvation  = 5.0
	starvedRequests = 16 // connections that introspect
)

// starvation compares the p99 of introspection while many sign in by password
// with its quiet value, and says so in a paragraph.
func starvation(t *testing.T, h *house, s Settings, st *stage) string {
	t.Helper()
	requests := introspections("jwt")(st)
	var ratios, quiet, loaded, signIns []float64
	var sum signInCounts
	failures := 0
	for range s.Rounds {
		calm := wrk(t, h.dir, st.p, starvedRequests, s.Round, requests)
		ctx, stop := context.WithCancel(t.Context())
		var counts signInCounts
		var wg sync.WaitGroup
		for k := range signInClients {
			wg.Go(func() { signInAgainAndAgain(ctx, h, st, k, &counts) })
		}
		poll(t, "nobody can sign in", time.Minute, func() bool { return counts.done.Load() > 0 || counts.failed.Load() > 0 })
		before, began := counts.done.Load(), time.Now()
		busy := wrk(t, h.dir, st.p, starvedRequests, s.Round, requests)
		signIns = append(signIns, float64(counts.done.Load()-before)/time.Since(began).Seconds())
		stop()
		wg.Wait()
		failures += calm.Errors + busy.Errors
		sum.add(&counts)
		ratio := 0.0
		if calm.P99 > 0 {
			ratio = float64(busy.P99) / float64(calm.P99)
		}
		ratios = append(ratios, ratio)
		quiet = append(quiet, float64(calm.P99)/float64(time.Millisecond))
		loaded = append(loaded, float64(busy.P99)/float64(time.Millisecond))
	}
	ratio, word := Median(ratios), "pass"
	if !(ratio > 0 && ratio < mostStarvation) || failures > 0 || sum.failed.Load() > 0 || sum.done.Load() == 0 {
		word = "FAIL"
		t.Fail()
	}
	if first := sum.first.Load(); first != nil {
		t.Errorf("signing in: %v", *first)
	}
	return fmt.Sprintf("While %d clients sign in by password, %.0f times a second, the p99 of JWT introspection at %d connections is %.1f ms; "+
		"undisturbed it is %.1f ms. Ratio %.1f, demanded: < %.0f: %s. %d sign-ins were told to come again, because the turn of their password did not come within 5 seconds; %d errors.\n",
		signInClients, Median(signIns), starvedRequests, Median(loaded), Median(quiet), ratio, mostStarvation, word, sum.busy.Load(), failures+int(sum.failed.Load()))
}

// signInCounts count sign-ins.
type signInCounts struct {
	done, busy, failed atomic.Int64
	first              atomic.Pointer[error] // failure
}

func (c *signInCounts) add(other *signInCounts) {
	c.done.Add(other.done.Load())
	c.busy.Add(other.busy.Load())
	c.failed.Add(other.failed.Load())
	if first := other.first.Load(); first != nil {
		c.first.CompareAndSwap(nil, first)
	}
}

// signInAgainAndAgain signs one user after the other in, from an address of the
// client's own, until ctx is done.
func signInAgainAndAgain(ctx context.Context, h *house, s *stage, client int, counts *signInCounts) {
	c := &conn{address: s.p.Address}
	defer c.Close()
	for i := 0; ctx.Err() == nil; i++ {
		user := (client + signInClients*i) % (flowEnd / loginsOfUser)
		status, err := signIn(c, h.base, fmt.Sprintf("user-%d", user), fmt.Sprintf("198.51.100.%d", client+1))
		switch {
		case err != nil:
			counts.failed.Add(1)
			counts.first.CompareAndSwap(nil, &err)
		case status == http.StatusServiceUnavailable:
			counts.busy.Add(1)
		default:
			counts.done.Add(1)
		}
	}
}

var (
	hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	formAction  = regexp.MustCompile(`<form[^>]* action="([^"]*)"`)
)

// signIn opens an authorization request in a new browser and fills in the form;
// the status is 303, or 503 where the server is too busy.
func signIn(c *conn, host, username, address string) (int, error) {
	header := map[string]string{"X-Forwarded-For": address, "Accept": "text/html", "User-Agent": agentText}
	a, err := c.do(encode(Request{Method: http.MethodGet, Path: authorizePath("jwt", appID(0)), Header: header}))
	if err != nil {
		return 0, err
	}
	page, err := url.Parse(a.Header.Get("Location"))
	if err != nil || a.Status != http.StatusSeeOther {
		return 0, fmt.Errorf("the authorization request is answered with %d, %w", a.Status, err)
	}
	if a, err = c.do(encode(Request{Method: http.MethodGet, Path: page.RequestURI(), Header: header})); err != nil {
		return 0, err
	}
	form := url.Values{"username": {username}, "password": {password}}
	for _, field := range hiddenField.FindAllStringSubmatch(string(a.Body), -1) {
		form.Set(html.UnescapeString(field[1]), html.UnescapeString(field[2]))
	}
	action := page
	if found := formAction.FindStringSubmatch(string(a.Body)); found != nil {
		if action, err = page.Parse(html.UnescapeString(found[1])); err != nil {
			return 0, err
		}
	}
	post := map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Origin": "http://" + host, "Sec-Fetch-Site": "same-origin"}
	for name, value := range header {
		post[name] = value
	}
	if a, err = c.do(encode(Request{Method: http.MethodPost, Path: action.RequestURI(), Header: post, Body: form.Encode()})); err != nil {
		return 0, err
	}
	if a.Status != http.StatusServiceUnavailable && (a.Status != http.StatusSeeOther || !strings.Contains(a.Header.Get("Set-Cookie"), "gatehouse")) {
		return 0, fmt.Errorf("the sign-in of %s is answered with %d %s", username, a.Status, a.Body)
	}
	return a.Status, nil
}
