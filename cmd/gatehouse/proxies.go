package main

import (
	"net/http"
	"net/netip"
	"strings"
)

// proxies are the networks of reverse proxies whose word on the client's
// address is taken.
type proxies []netip.Prefix

// client returns the IP address of the client: the connection's, unless that
// is a trusted proxy's; then the last address that X-Forwarded-For or Forwarded
// (RFC 7239) name and that is no trusted proxy's. Addresses to the left of it
// are what a stranger wrote. Where the headers end, or name no address, before
// a stranger's is found, the last proxy that is known stands for the client.
//
// A proxy that writes one of the headers passes on the other as the client sent
// it. So where both are there and disagree, neither is believed.
func (p proxies) client(r *http.Request) string {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	peer := remote.Addr().Unmap().WithZone("")
	if err != nil {
		var ok bool
		if peer, ok = parseHop(r.RemoteAddr); !ok {
			return ""
		}
	}
	if !within(peer, p) {
		return peer.String()
	}
	found := peer
	xff, forwarded := r.Header.Values("X-Forwarded-For"), r.Header.Values("Forwarded")
	if len(xff) > 0 {
		found = p.walk(peer, strings.Split(strings.Join(xff, ","), ","))
	}
	if len(forwarded) > 0 {
		other := p.walk(peer, forwardedFor(strings.Join(forwarded, ",")))
		if len(xff) > 0 && other != found {
			other = peer
		}
		found = other
	}
	return found.String()
}

// walk goes through hops from the right, the nearest first.
func (p proxies) walk(peer netip.Addr, hops []string) netip.Addr {
	known := peer
	for i := len(hops) - 1; i >= 0; i-- {
		hop, ok := parseHop(hops[i])
		if !ok {
			return known
		}
		known = hop
		if !within(hop, p) {
			return known
		}
	}
	return known
}

// parseHop reads an IP address with or without a port: "192.0.2.1",
// "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80". An IPv4
// address in IPv6 form is the IPv4 address; zones are dropped.
func parseHop(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	a, err := netip.ParseAddr(s)
	if err != nil {
		if ap, portErr := netip.ParseAddrPort(s); portErr == nil {
			a, err = ap.Addr(), nil
		} else if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
			a, err = netip.ParseAddr(s[1 : len(s)-1])
		}
	}
	if err != nil {
		return netip.Addr{}, false
	}
	return a.Unmap().WithZone(""), true
}

// forwardedFor returns the `for` parameter of each element of a Forwarded
// header (RFC 7239 §4), empty for an element without one. After a quote that
// does not close the elements can't be told apart, and one empty hop is
// returned, which stops the walk.
func forwardedFor(header string) []string {
	elements, ok := splitQuoted(header, ',')
	if !ok {
		return []string{""}
	}
	hops := make([]string, 0, len(elements))
	for _, element := range elements {
		hop := ""
		pairs, _ := splitQuoted(element, ';')
		for _, pair := range pairs {
			name, value, ok := strings.Cut(pair, "=")
			if !ok || !strings.EqualFold(strings.TrimSpace(name), "for") {
				continue
			}
			value = strings.TrimSpace(value)
			if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			hop = value
		}
		hops = append(hops, hop)
	}
	return hops
}

// splitQuoted splits at separators outside of quoted strings (RFC 9110 §5.6.4);
// false where a quoted string does not end.
func splitQuoted(s string, separator byte) ([]string, bool) {
	var parts []string
	start, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && s[i] == separator:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:]), !quoted
}

// within tells whether one of the networks contains a.
func within(a netip.Addr, networks []netip.Prefix) bool {
	for _, network := range networks {
		if network.Contains(a) {
			return true
		}
	}
	return false
}
