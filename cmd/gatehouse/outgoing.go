package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

// errOutgoing: a request of ours would go where it may not.
var errOutgoing = errors.New("request refused")

// outgoingTimeout bounds a request of ours, from the look-up of the name to the
// end of the body.
const outgoingTimeout = 5 * time.Second

// newOutgoing returns the client for requests that others make us send, to a
// jwks_uri for example. It speaks https (plain http only to a loopback address
// that allowed contains), follows no redirect, uses no proxy, and connects to
// no private, loopback, link-local or otherwise special address unless allowed
// contains it. The address is judged when the connection is made, after the
// name was resolved, so a name that changes its mind in between gains nothing.
// Whoever reads a body bounds it.
func newOutgoing(allowed []netip.Prefix) *http.Client {
	o := outgoing{allowed: allowed}
	transport := func(control func(network, address string, c syscall.RawConn) error) *http.Transport {
		dialer := &net.Dialer{Timeout: outgoingTimeout, KeepAlive: -1, Control: control}
		return &http.Transport{
			DialContext:            dialer.DialContext,
			ForceAttemptHTTP2:      true,
			DisableKeepAlives:      true, // few and far between; a kept connection was judged long ago
			TLSHandshakeTimeout:    outgoingTimeout,
			ResponseHeaderTimeout:  outgoingTimeout,
			MaxResponseHeaderBytes: 32 << 10,
		}
	}
	return &http.Client{
		Timeout: outgoingTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
		Transport: outgoingTransport{https: transport(o.control), http: transport(o.controlPlain)},
	}
}

// outgoingTransport judges the URL; the transport for its scheme judges the
// address.
type outgoingTransport struct{ https, http http.RoundTripper }

// RoundTrip sends a request whose URL may be asked.
func (t outgoingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.User != nil {
		return nil, fmt.Errorf("%w: credentials in the URL", errOutgoing)
	}
	switch r.URL.Scheme {
	case "https":
		return t.https.RoundTrip(r)
	case "http":
		return t.http.RoundTrip(r)
	}
	return nil, fmt.Errorf("%w: scheme %q", errOutgoing, r.URL.Scheme)
}

// outgoing judges the addresses of connections that are about to be made.
type outgoing struct{ allowed []netip.Prefix }

// controlPlain is control for plain http: only an allowed loopback address.
func (o outgoing) controlPlain(network, address string, c syscall.RawConn) error {
	if ap, err := netip.ParseAddrPort(address); err != nil || !ap.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%w: plain http to an address that is not loopback", errOutgoing)
	}
	return o.control(network, address, c)
}

// control is called with the resolved address, before the connection is made.
func (o outgoing) control(network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%w: network %s", errOutgoing, network)
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: address %q", errOutgoing, address)
	}
	a := ap.Addr().Unmap().WithZone("")
	if within(a, o.allowed) || public(a) {
		return nil
	}
	return fmt.Errorf("%w: %s is not a public address (outgoing.allow_private)", errOutgoing, a)
}

// special are the networks that are neither public nor told apart by netip's
// methods (the IANA IPv4 and IPv6 Special-Purpose Address Registries).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network
	netip.MustParsePrefix("100.64.0.0/10"),   // shared: carriers' NAT, and some clouds' metadata
	netip.MustParsePrefix("192.0.0.0/24"),    // IETF protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarking
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, and broadcast
	netip.MustParsePrefix("::/96"),           // IPv4-compatible
	netip.MustParsePrefix("64:ff9b::/96"),    // NAT64: an IPv4 address in disguise
	netip.MustParsePrefix("64:ff9b:1::/48"),  // local NAT64
	netip.MustParsePrefix("100::/64"),        // discard
	netip.MustParsePrefix("2001::/23"),       // IETF protocol assignments, Teredo
	netip.MustParsePrefix("2001:db8::/32"),   // documentation
	netip.MustParsePrefix("2002::/16"),       // 6to4: an IPv4 address in disguise
	netip.MustParsePrefix("3fff::/20"),       // documentation
	netip.MustParsePrefix("5f00::/16"),       // segment routing
	netip.MustParsePrefix("fec0::/10"),       // site-local
}

// public tells whether an address is one of the public Internet. Link-local
// ones, where clouds keep their metadata, are not.
func public(a netip.Addr) bool {
	return a.IsValid() && a.IsGlobalUnicast() && !a.IsPrivate() && !a.IsLoopback() &&
		!a.IsLinkLocalUnicast() && !within(a, special)
}
