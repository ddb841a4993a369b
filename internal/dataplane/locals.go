package dataplane

import (
	"errors"
	"net/netip"
	"slices"
)

// Locals are the addresses on which a data plane listens: those that are given, or
// all of this host's, without those of a family that is switched off. It is an
// error if none is left.
func Locals(given []netip.Addr, noIPv4, noIPv6 bool) ([]netip.Addr, error) {
	if noIPv4 && noIPv6 {
		return nil, errors.New("neither IPv4 nor IPv6: one of them is needed to reach a peer")
	}
	if len(given) == 0 {
		given = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	left := slices.DeleteFunc(slices.Clone(given), func(a netip.Addr) bool {
		return a.Is4() && noIPv4 || a.Is6() && noIPv6
	})
	if len(left) == 0 {
		return nil, errors.New("no local address is left of the address family that was asked for")
	}
	return left, nil
}
