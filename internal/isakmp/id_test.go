package isakmp

import (
	"bytes"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"oakley/internal/doi"
)

func TestIDsAsPrefixes(t *testing.T) {
	id := func(typ doi.IDType, hex string) *ID { return &ID{Type: typ, Data: fromHex(hex)} }
	v6 := "20010db8000000000000000000000000"
	for _, c := range []struct {
		id     *ID
		prefix string // empty: none
		words  string
	}{
		{id(doi.IDIPv4Addr, "0a000001"), "10.0.0.1/32", "10.0.0.1"},
		{id(doi.IDIPv4Subnet, "0a010000 ffffff00"), "10.1.0.0/24", "10.1.0.0/24"},
		{id(doi.IDIPv4Subnet, "0a010005 ffffff00"), "10.1.0.0/24", "10.1.0.0/24"},
		{id(doi.IDIPv4Subnet, "0a010000 fffe0000"), "10.0.0.0/15", "10.0.0.0/15"},
		{id(doi.IDIPv4Subnet, "00000000 00000000"), "0.0.0.0/0", "0.0.0.0/0"},
		{id(doi.IDIPv4Subnet, "0a000001 ffffffff"), "10.0.0.1/32", "10.0.0.1/32"},
		{id(doi.IDIPv4Subnet, "0a000001 ffff00ff"), "", "IPV4_ADDR_SUBNET 0x0a000001ffff00ff"},
		{id(doi.IDIPv4Subnet, "0a000001"), "", "IPV4_ADDR_SUBNET 0x0a000001"},
		{id(doi.IDIPv4Range, "0a000000 0a0000ff"), "10.0.0.0/24", "10.0.0.0-10.0.0.255"},
		{id(doi.IDIPv4Range, "0a000001 0a000001"), "10.0.0.1/32", "10.0.0.1-10.0.0.1"},
		{id(doi.IDIPv4Range, "00000000 ffffffff"), "0.0.0.0/0", "0.0.0.0-255.255.255.255"},
		{id(doi.IDIPv4Range, "0a000001 0a0000ff"), "", "10.0.0.1-10.0.0.255"},
		{id(doi.IDIPv4Range, "0a000000 0a0000fe"), "", "10.0.0.0-10.0.0.254"},
		{id(doi.IDIPv4Range, "0a000040 0a0000bf"), "", "10.0.0.64-10.0.0.191"},
		{id(doi.IDIPv4Range, "0a0000ff 0a000000"), "", "IPV4_ADDR_RANGE 0x0a0000ff0a000000"},
		{id(doi.IDIPv6Addr, v6), "2001:db8::/128", "2001:db8::"},
		{id(doi.IDIPv6Subnet, v6+"ffffffff000000000000000000000000"), "2001:db8::/32", "2001:db8::/32"},
		{id(doi.IDIPv6Range, v6+"20010db8ffffffffffffffffffffffff"), "2001:db8::/32", "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"},
		{id(doi.IDFQDN, "61"), "", "fqdn a"},
		{id(doi.IDKeyID, "0a000001"), "", "key-id 0x0a000001"},
	} {
		p, ok := c.id.Prefix()
		if ok != (c.prefix != "") || ok && p.String() != c.prefix {
			t.Errorf("%s %x is %s, %t; expected %q", c.id.Type, c.id.Data, p, ok, c.prefix)
		}
		if got := c.id.String(); got != c.words {
			t.Errorf("%s %x in words is %q, expected %q", c.id.Type, c.id.Data, got, c.words)
		}
	}
}

func TestIDsWithPorts(t *testing.T) {
	id := IDFromPrefix(netip.MustParsePrefix("10.1.0.0/24"), 6, 80)
	if got := id.String(); got != "10.1.0.0/24 proto 6 port 80" {
		t.Error(got)
	}
	if got := BodyOf(id); !bytes.Equal(got, fromHex(`04 06 0050 0a010000 ffffff00`)) {
		t.Errorf("%x", got)
	}
	if !id.Equal(IDFromPrefix(netip.MustParsePrefix("10.1.0.9/24"), 6, 80)) {
		t.Error("bits behind the mask were kept")
	}
	if id.Equal(IDFromPrefix(netip.MustParsePrefix("10.1.0.0/24"), 6, 81)) {
		t.Error("another port is equal")
	}
}

func TestIDsFromAddresses(t *testing.T) {
	for addr, want := range map[string]string{
		"10.0.0.1":        `01 00 0000 0a000001`,
		"::ffff:10.0.0.1": `01 00 0000 0a000001`,
		"2001:db8::1":     `05 00 0000 20010db8000000000000000000000001`,
		"fe80::1%eth0":    `05 00 0000 fe800000000000000000000000000001`,
	} {
		if got := BodyOf(IDFromAddr(netip.MustParseAddr(addr), 0, 0)); !bytes.Equal(got, fromHex(want)) {
			t.Errorf("%s is %x", addr, got)
		}
	}
	if id := IDFromPrefix(netip.MustParsePrefix("10.0.0.1/32"), 0, 0); id.Type != doi.IDIPv4Subnet {
		t.Errorf("a prefix of one address became %s without being asked to", id.Type)
	}
}

func TestPrefixesComeBackFromIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{4, 16}).Draw(t, "bytes")
		addr, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "address"))
		p := netip.PrefixFrom(addr, rapid.IntRange(0, 8*size).Draw(t, "bits")).Masked()
		id := IDFromPrefix(p, 0, 0)
		if err := id.Check(); err != nil {
			t.Fatal(err)
		}
		if got, ok := id.Prefix(); !ok || got != p {
			t.Fatalf("%s came back as %s", p, got)
		}
		last := append([]byte{}, id.Data[:size]...)
		for i, m := range id.Data[size:] {
			last[i] |= ^m
		}
		r := &ID{Type: doi.IDIPv4Range, Data: append(append([]byte{}, id.Data[:size]...), last...)}
		if size == 16 {
			r.Type = doi.IDIPv6Range
		}
		if got, ok := r.Prefix(); !ok || got != p {
			t.Fatalf("the range of %s came back as %s", p, got)
		}
	})
}
