package userspace

import (
	"net/netip"
	"runtime"
	"testing"

	"oakley/internal/ipsec"
)

func endSA(i int, proto ipsec.Proto) *inSA {
	dst := netip.MustParseAddr("192.0.2.1")
	sa := &inSA{}
	sa.id = ipsec.SAID{Proto: proto, SPI: ipsec.SPI(300 + i), Dst: dst}
	sa.sa = ipsec.SA{ID: sa.id, Mode: ipsec.Tunnel, Src: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}
	return sa
}

// Of several SAs with the same ends packets meet the best, whichever come and go.
func TestEndsHaveTheirBestSA(t *testing.T) {
	table := newEndTable()
	old, young, tunnel := endSA(1, ipsec.ProtoIPComp), endSA(1, ipsec.ProtoIPComp), endSA(1, ipsec.ProtoIPIP)
	k := endsOf(&old.sa)[0]
	want := func(sa *inSA, when string) {
		t.Helper()
		if table.find(k) != sa {
			t.Errorf("%s: another SA than the best", when)
		}
	}
	want(nil, "in an empty table")
	table.enter(old)
	want(old, "alone")
	table.enter(tunnel)
	want(tunnel, "with IP in IP")
	table.enter(young)
	want(tunnel, "with a newer one of IPComp")
	table.leave(tunnel)
	want(young, "when IP in IP went")
	table.leave(young)
	want(old, "when the newer went")
	table.leave(old)
	want(nil, "when all went")
	if len(table.all) != 0 {
		t.Errorf("%d ends are left", len(table.all))
	}
	if n := testing.AllocsPerRun(100, func() { table.find(k) }); n != 0 {
		t.Errorf("%v allocations a lookup", n)
	}
}

// One more SA costs about as much among 100 000 as among a few.
func TestEndsCostLittle(t *testing.T) {
	const step = 1000
	cost := func(n int) uint64 {
		table := newEndTable()
		for i := range n {
			table.enter(endSA(i, ipsec.ProtoIPComp))
		}
		more := make([]*inSA, step)
		for i := range more {
			more[i] = endSA(n+i, ipsec.ProtoIPComp)
		}
		var ms [2]runtime.MemStats
		runtime.ReadMemStats(&ms[0])
		for _, sa := range more {
			table.enter(sa)
			table.leave(sa)
		}
		runtime.ReadMemStats(&ms[1])
		return (ms[1].TotalAlloc - ms[0].TotalAlloc) / step
	}
	small, large := cost(100), cost(100_000)
	t.Logf("bytes to enter and leave: %d among 100, %d among 100 000", small, large)
	if large > 16<<10 {
		t.Errorf("entering and leaving takes %d bytes among 100 000, %d among 100", large, small)
	}
}
