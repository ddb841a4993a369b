package xfrm

import (
	"errors"
	"math"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"oakley/internal/ipsec"
)

// TestPrioritiesFollowTheFlows: whatever flows come and go, of any two of them
// the kernel looks first at the one that ipsec.SPD looks at first, if anything
// but their names tells.
func TestPrioritiesFollowTheFlows(t *testing.T) {
	order := rapid.OneOf(rapid.Uint32(), rapid.Uint32Range(65530, 65550), rapid.SampledFrom([]uint32{0, 1, 2, 61439, 61440, 69631, 69632, math.MaxUint32 - 1, math.MaxUint32}))
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		n := rapid.IntRange(0, 32).Draw(t, "bits")
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 3).Draw(t, "net")), 0, 0}), n).Masked()
	})
	rapid.Check(t, func(t *rapid.T) {
		var o orders
		var flows []ipsec.Flow
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(flows) > 0 && rapid.IntRange(0, 3).Draw(t, "step") == 0 {
				i := rapid.IntRange(0, len(flows)-1).Draw(t, "which")
				o.drop(flows[i].Order)
				flows = append(flows[:i], flows[i+1:]...)
				continue
			}
			f := ipsec.Flow{Order: order.Draw(t, "order"), Selector: ipsec.Selector{
				Src: prefix.Draw(t, "src"), Dst: prefix.Draw(t, "dst"), Proto: uint8(rapid.IntRange(0, 1).Draw(t, "proto")),
				SrcPort: uint16(rapid.IntRange(0, 1).Draw(t, "sport")), DstPort: uint16(rapid.IntRange(0, 1).Draw(t, "dport")),
			}}
			if _, err := o.take(f.Order); err != nil {
				t.Fatal(err)
			}
			flows = append(flows, f)
		}
		for i := range flows {
			for j := range flows {
				a, b := &flows[i], &flows[j]
				if c := a.Compare(b); c < 0 && o.priority(a) >= o.priority(b) || c == 0 && o.priority(a) != o.priority(b) {
					t.Fatalf("order %d %s has priority %d, order %d %s has %d", a.Order, a.Selector, o.priority(a), b.Order, b.Selector, o.priority(b))
				}
			}
		}
	})
}

// TestPriorityAsDocumented: the numbers that people see in ip xfrm policy.
func TestPriorityAsDocumented(t *testing.T) {
	var o orders
	f := ipsec.Flow{Order: 65536, Selector: ipsec.Selector{Src: netA, Dst: netB}}
	if _, err := o.take(f.Order); err != nil {
		t.Fatal(err)
	}
	if got, want := o.priority(&f), uint32((65536-57344)<<18|((128-24)*129+128-24)*8+7); got != want {
		t.Errorf("priority %d, want %d", got, want)
	}
	last := 0
	for order := uint64(0); order <= math.MaxUint32; order += 1 + order/1000 {
		h := hint(uint32(order))
		if h < last || h >= slots {
			t.Fatalf("order %d has slot %d after %d", order, h, last)
		}
		last = h
	}
}

func TestTooManyOrders(t *testing.T) {
	var o orders
	for i := range uint32(slots) {
		if _, err := o.take(i * 7); err != nil {
			t.Fatalf("order %d: %v", i, err)
		}
	}
	if _, err := o.take(3); !errors.Is(err, errOrders) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := o.take(7); err != nil {
		t.Errorf("one that is there: %v", err)
	}
}

// TestReqids: one number a scope, back when nobody uses it, none given twice.
func TestReqids(t *testing.T) {
	r := newReqids(1000, 4)
	s := func(name string) scope { return scope{duty: duty{flow: ipsec.FlowID(name)}} }
	take := func(name string) uint32 {
		n, err := r.take(s(name))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	a, b, c := take("a"), take("b"), take("c")
	if a == b || b == c || a == c || !r.ours(a) || !r.ours(c) || r.ours(999) || r.ours(1004) {
		t.Errorf("%d %d %d", a, b, c)
	}
	if take("a") != a {
		t.Error("a second number for the same")
	}
	if _, err := r.take(s("d")); err == nil {
		t.Error("a fifth of four: the first is that of reserved SPIs")
	}
	r.drop(s("a"))
	if _, err := r.take(s("d")); err == nil {
		t.Error("a number that is in use was given again")
	}
	r.drop(s("a"))
	if take("d") != a {
		t.Error("a free number is not used")
	}
}
