package dataplane_test

import (
	"net/netip"
	"slices"
	"testing"

	"oakley/internal/dataplane"
)

func TestLocals(t *testing.T) {
	v4, v6 := here.Addr(), here6.Addr()
	for _, x := range []struct {
		given        []netip.Addr
		no4, no6     bool
		want         []netip.Addr
		wantsAnError bool
	}{
		{want: []netip.Addr{any4.Addr(), any6.Addr()}},
		{no6: true, want: []netip.Addr{any4.Addr()}},
		{given: []netip.Addr{v4, v6}, no4: true, want: []netip.Addr{v6}},
		{given: []netip.Addr{v4}, no4: true, wantsAnError: true},
		{given: []netip.Addr{v4, v6}, no4: true, no6: true, wantsAnError: true},
	} {
		given := slices.Clone(x.given)
		got, err := dataplane.Locals(given, x.no4, x.no6)
		if !slices.Equal(got, x.want) || (err != nil) != x.wantsAnError || !slices.Equal(given, x.given) {
			t.Errorf("%v, without IPv4 %t, without IPv6 %t: %v, %v", x.given, x.no4, x.no6, got, err)
		}
	}
}
