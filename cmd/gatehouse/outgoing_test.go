package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestOutgoingRefusesSpecialAddresses(t *testing.T) {
	refused := []string{
		"127.0.0.1", "127.8.8.8", "::1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
		"100.64.0.1", "100.100.100.200", "0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.1", "239.1.1.1", "240.0.0.1",
		"192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
		"::", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1",
		"::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "100::1", "3fff::1",
	}
	o := outgoing{}
	for _, address := range refused {
		a := netip.MustParseAddr(address)
		network := "tcp6"
		if a.Is4() {
			network = "tcp4"
		}
		if err := o.control(network, netip.AddrPortFrom(a, 443).String(), nil); !errors.Is(err, errOutgoing) {
			t.Errorf("%s: %v, want errOutgoing", address, err)
		}
	}
	for _, address := range []string{"1.1.1.1:443", "[2606:4700::1111]:443", "172.15.0.1:443", "172.32.0.1:443", "100.128.0.1:443"} {
		if err := o.control("tcp4", address, nil); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, network := range []string{"unix", "udp4", "tcp"} {
		if err := o.control(network, "1.1.1.1:443", nil); !errors.Is(err, errOutgoing) {
			t.Errorf("network %s: %v, want errOutgoing", network, err)
		}
	}
	if err := o.control("tcp4", "localhost:443", nil); !errors.Is(err, errOutgoing) {
		t.Errorf("a name where an address must be: %v, want errOutgoing", err)
	}
}

func TestOutgoingAllowsWhatTheOperatorAllows(t *testing.T) {
	o := outgoing{allowed: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}
	for address, want := range map[string]bool{"10.1.2.3:443": true, "[::ffff:10.1.2.3]:443": true, "10.2.0.1:443": false, "127.0.0.1:443": false} {
		if err := o.control("tcp4", address, nil); (err == nil) != want {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := o.controlPlain("tcp4", "10.1.2.3:80", nil); !errors.Is(err, errOutgoing) {
		t.Errorf("plain http to an allowed private address: %v, want errOutgoing", err)
	}
}

// The server answers on a loopback address, reached by number and by name: the
// name is judged by what it resolves to when the connection is made.
func TestOutgoingJudgesTheResolvedAddress(t *testing.T) {
	asked := 0
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path == "/redirect" {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}
	}))
	defer target.Close()
	byName := strings.Replace(target.URL, "127.0.0.1", "localhost", 1)

	strict := newOutgoing(nil)
	for _, address := range []string{target.URL, byName, strings.Replace(byName, "http:", "https:", 1)} {
		if res, err := strict.Get(address); !errors.Is(err, errOutgoing) {
			t.Errorf("GET %s: %v %v, want errOutgoing", address, res, err)
		}
	}
	if asked != 0 {
		t.Fatalf("the server was asked %d times", asked)
	}

	loopback := newOutgoing([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")})
	res, err := loopback.Get(target.URL + "/redirect")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusFound || asked != 1 {
		t.Errorf("status %d after %d requests, want the redirect itself after 1", res.StatusCode, asked)
	}
	for _, address := range []string{"ftp://127.0.0.1/", "file:///etc/passwd", "gopher://127.0.0.1/", strings.Replace(target.URL, "http://", "http://u:p@", 1)} {
		if _, err := loopback.Get(address); err == nil {
			t.Errorf("GET %s succeeded", address)
		}
	}
}

func TestOutgoingUsesNoProxy(t *testing.T) {
	proxied := false
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxied = true }))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	client := newOutgoing([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	if res, err := client.Get("http://proxied.invalid/"); err == nil {
		res.Body.Close()
	}
	if proxied {
		t.Error("the request went through a proxy of the environment")
	}
}
