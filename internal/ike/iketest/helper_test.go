package iketest

import "net/netip"

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// addr is an address, the invalid one for an empty string.
func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

type ipAddrPort = netip.AddrPort

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
