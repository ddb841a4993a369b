package iketest

import (
	"net/netip"
	"testing"
	"time"
)

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

// sparse is a step between moments, a longer one under the race detector and in
// short mode.
func sparse(d time.Duration) time.Duration {
	if raceEnabled || testing.Short() {
		return 5 * d
	}
	return d
}

// fewer is n, or a fraction of it under the race detector and in short mode.
func fewer(n int) int {
	if raceEnabled || testing.Short() {
		return n/6 + 1
	}
	return n
}
