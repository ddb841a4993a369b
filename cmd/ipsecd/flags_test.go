package main

import (
	"io"
	"net/netip"
	"reflect"
	"testing"

	"oakley/internal/dataplane/userspace"
)

// What the flags say is what the data plane is given.
func TestFlagsReachTheDataPlane(t *testing.T) {
	f, err := parseFlags([]string{
		"-4", "-N", "4501", "--device", "tun7", "--mtu", "1300", "--outer-mtu", "1480", "--df", "copy", "--no-clamp-mss",
		"--no-filters", "--no-offload", "--listen", "192.0.2.1,::ffff:192.0.2.2",
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	want := userspace.Options{
		NoIPv6: true, EncapPort: 4501, TUN: "tun7", MTU: 1300, OuterMTU: 1480, DF: userspace.DFCopy, NoClampMSS: true,
		NoFilters: true, NoTUNOffload: true, NoUDPOffload: true,
		Local: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
	}
	if !reflect.DeepEqual(f.own, want) {
		t.Errorf("%+v\nwant %+v", f.own, want)
	}
	for word, df := range dfWords {
		f, err := parseFlags([]string{"--df", word}, io.Discard)
		if err != nil || f.own.DF != df {
			t.Errorf("--df %s: %v, %v", word, f.own.DF, err)
		}
	}
}
