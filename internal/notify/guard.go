package notify

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// ErrPrivate is the error of an address that lies in the own network.
var ErrPrivate = errors.New("notify: the address lies in the own network: allow_private permits that")

// client makes a client that follows nobody. control sees the address that is dialled.
func client(control func(network, address string, _ syscall.RawConn) error) *http.Client {
	d := &net.Dialer{Timeout: 10 * time.Second, Control: control}
	return &http.Client{
		Timeout: 20 * time.Second,
		Transport: &http.Transport{DialContext: d.DialContext, TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 15 * time.Second, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// public refuses a connection to an address that is not a public one. It sees
// the address that is dialled, after the name was resolved.
func public(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("notify: address: %w", err)
	}
	if private(ap.Addr()) {
		return ErrPrivate
	}
	return nil
}

func private(a netip.Addr) bool {
	a = a.WithZone("").Unmap()
	special := slices.ContainsFunc(specialPrefixes(), func(p netip.Prefix) bool { return p.Contains(a) })
	return !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || special
}

// specialPrefixes are the networks of the IANA special-purpose registries (RFC
// 6890) that lead inside, or by translation may do so.
func specialPrefixes() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2002::/16", "fec0::/10",
	} {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}
