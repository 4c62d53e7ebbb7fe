package exec

import (
	"context"
	"net"
	"net/netip"
	"strconv"

	"github.com/greatseal-io/greatseal/internal/agent/firewall"
)

// Resolver finds the addresses of names; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Dial connects to a target that a grant covers: the name is resolved once, and only
// an address that the grant allows is connected to, so that no later answer of a name
// server leads elsewhere.
func Dial(ctx context.Context, r Resolver, g *firewall.Grant, t firewall.Target) (net.Conn, error) {
	if !g.Covers(t) {
		return nil, Failed("the firewall's grant does not cover %s", t)
	}
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(t.Host); err == nil {
		addrs = []netip.Addr{a}
	} else if addrs, err = r.LookupNetIP(ctx, "ip", t.Host); err != nil {
		return nil, Failed("%s has no address", t)
	}
	err := Failed("the firewall allows none of the addresses of %s", t)
	for _, a := range addrs {
		a = a.Unmap()
		if !g.Allows(t, a) {
			continue
		}
		c, derr := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(a.String(), strconv.Itoa(int(t.Port))))
		if derr == nil {
			return c, nil
		}
		err = Stopped(ctx, Failed("%s does not answer", t))
	}
	return nil, err
}
