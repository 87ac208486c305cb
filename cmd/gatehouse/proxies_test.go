package main

import (
	"net/http"
	"net/netip"
	"testing"
)

func TestClientAddressBehindProxies(t *testing.T) {
	trusted := proxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("127.0.0.1/32")}
	tests := []struct {
		name      string
		trusted   proxies
		peer      string
		xff       []string
		forwarded []string
		want      string
	}{
		{"no proxy", trusted, "192.0.2.1:5000", nil, nil, "192.0.2.1"},
		{"a stranger's header is not believed", trusted, "192.0.2.1:5000", []string{"203.0.113.9"}, nil, "192.0.2.1"},
		{"a stranger's Forwarded is not believed", trusted, "192.0.2.1:5000", nil, []string{"for=203.0.113.9"}, "192.0.2.1"},
		{"nobody is trusted", nil, "10.0.0.1:5000", []string{"203.0.113.9"}, nil, "10.0.0.1"},
		{"one proxy", trusted, "10.0.0.1:5000", []string{"203.0.113.9"}, nil, "203.0.113.9"},
		{"two proxies", trusted, "10.0.0.1:5000", []string{"203.0.113.9, 10.0.0.2"}, nil, "203.0.113.9"},
		{"what the client wrote is left of its address", trusted, "10.0.0.1:5000", []string{"198.51.100.1, 203.0.113.9"}, nil, "203.0.113.9"},
		{"a client claims to be a proxy", trusted, "10.0.0.1:5000", []string{"198.51.100.1, 10.9.9.9, 203.0.113.9"}, nil, "203.0.113.9"},
		{"several header lines are one list", trusted, "10.0.0.1:5000", []string{"198.51.100.1", "203.0.113.9, 10.0.0.2"}, nil, "203.0.113.9"},
		{"all are proxies: the farthest", trusted, "10.0.0.1:5000", []string{"10.0.0.3, 10.0.0.2"}, nil, "10.0.0.3"},
		{"rubbish stops the walk at the nearest known", trusted, "10.0.0.1:5000", []string{"203.0.113.9, rubbish"}, nil, "10.0.0.1"},
		{"rubbish behind a proxy", trusted, "10.0.0.1:5000", []string{"203.0.113.9, rubbish, 10.0.0.2"}, nil, "10.0.0.2"},
		{"an empty header", trusted, "10.0.0.1:5000", []string{""}, nil, "10.0.0.1"},
		{"an empty last element", trusted, "10.0.0.1:5000", []string{"203.0.113.9,"}, nil, "10.0.0.1"},
		{"with a port", trusted, "10.0.0.1:5000", []string{"203.0.113.9:443"}, nil, "203.0.113.9"},
		{"IPv6", trusted, "[fd00::1]:5000", []string{"2001:db8::9"}, nil, "2001:db8::9"},
		{"IPv6 in brackets", trusted, "[fd00::1]:5000", []string{"[2001:db8::9]"}, nil, "2001:db8::9"},
		{"IPv6 with a port", trusted, "[fd00::1]:5000", []string{"[2001:db8::9]:443"}, nil, "2001:db8::9"},
		{"IPv4 in IPv6 form is trusted as IPv4", trusted, "[::ffff:10.0.0.1]:5000", []string{"::ffff:203.0.113.9"}, nil, "203.0.113.9"},
		{"an IPv6 stranger", trusted, "[2001:db8::1]:5000", []string{"203.0.113.9"}, nil, "2001:db8::1"},
		{"a zone is dropped", trusted, "[fe80::1%eth0]:5000", nil, nil, "fe80::1"},
		{"Forwarded", trusted, "10.0.0.1:5000", nil, []string{"for=203.0.113.9;proto=https;by=10.0.0.1"}, "203.0.113.9"},
		{"Forwarded, quoted IPv6", trusted, "10.0.0.1:5000", nil, []string{`proto=https;For="[2001:db8::9]:4711"`}, "2001:db8::9"},
		{"Forwarded, two elements", trusted, "10.0.0.1:5000", nil, []string{"for=198.51.100.1, for=203.0.113.9, for=10.0.0.2"}, "203.0.113.9"},
		{"Forwarded, a comma in quotes is no separator", trusted, "10.0.0.1:5000", nil, []string{`for=198.51.100.1;x="a,for=203.0.113.7", for=10.0.0.2;x="\",for=203.0.113.8"`}, "198.51.100.1"},
		{"Forwarded, an open quote tells nothing", trusted, "10.0.0.1:5000", nil, []string{`for=203.0.113.9, for="10.0.0.2`}, "10.0.0.1"},
		{"Forwarded, unknown", trusted, "10.0.0.1:5000", nil, []string{"for=203.0.113.9, for=unknown"}, "10.0.0.1"},
		{"Forwarded, obfuscated", trusted, "10.0.0.1:5000", nil, []string{"for=_hidden"}, "10.0.0.1"},
		{"Forwarded, without for", trusted, "10.0.0.1:5000", nil, []string{"for=203.0.113.9, proto=https"}, "10.0.0.1"},
		{"both, and they agree", trusted, "10.0.0.1:5000", []string{"203.0.113.9"}, []string{"for=203.0.113.9"}, "203.0.113.9"},
		{"both, and they disagree: Forwarded may be the client's", trusted, "10.0.0.1:5000", []string{"203.0.113.9"}, []string{"for=198.51.100.1"}, "10.0.0.1"},
		{"both, and they disagree: X-Forwarded-For may be the client's", trusted, "10.0.0.1:5000", []string{"198.51.100.1"}, []string{"for=203.0.113.9"}, "10.0.0.1"},
		{"no address at all", trusted, "@", []string{"203.0.113.9"}, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: tt.peer, Header: http.Header{}}
			for _, line := range tt.xff {
				r.Header.Add("X-Forwarded-For", line)
			}
			for _, line := range tt.forwarded {
				r.Header.Add("Forwarded", line)
			}
			if got := tt.trusted.client(r); got != tt.want {
				t.Errorf("client is %q, want %q", got, tt.want)
			}
		})
	}
}

// A header can't make anything an address that is none, nor take the word of
// the connection away from a client that is trusted by nobody.
func FuzzClientAddress(f *testing.F) {
	for _, seed := range []string{"", "203.0.113.9", `for="[2001:db8::9]:4711"`, `for="\`, ",,;;==", "for=a,for=10.0.0.1"} {
		f.Add(seed, seed)
	}
	trusted := proxies{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, xff, forwarded string) {
		r := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-For": {xff}, "Forwarded": {forwarded}}}
		if got := trusted.client(r); !netip.MustParseAddr(got).IsValid() {
			t.Errorf("client is %q", got)
		}
		r.RemoteAddr = "192.0.2.1:1"
		if got := trusted.client(r); got != "192.0.2.1" {
			t.Errorf("client is %q", got)
		}
	})
}
