package ipsec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

type testFlow struct{ id FlowID }

// oracle finds what SPD.Lookup should, by the words of its description.
func oracle(flows map[FlowID]Flow, p *PacketInfo) FlowID {
	var best *Flow
	for _, f := range flows {
		if f.Dir != p.Dir || !f.Selector.Match(p) {
			continue
		}
		if best == nil || better(&f, best) {
			best = &f
		}
	}
	if best == nil {
		return ""
	}
	return best.ID
}

func better(a, b *Flow) bool {
	if a.Order != b.Order {
		return a.Order < b.Order
	}
	if x, y := a.Selector.Dst.Bits(), b.Selector.Dst.Bits(); x != y {
		return x > y
	}
	if x, y := a.Selector.Src.Bits(), b.Selector.Src.Bits(); x != y {
		return x > y
	}
	if x, y := a.Selector.Proto != 0, b.Selector.Proto != 0; x != y {
		return x
	}
	if x, y := a.Selector.DstPort != 0, b.Selector.DstPort != 0; x != y {
		return x
	}
	if x, y := a.Selector.SrcPort != 0, b.Selector.SrcPort != 0; x != y {
		return x
	}
	return a.ID < b.ID
}

// Few values, so that prefixes nest and ports collide.
var (
	genAddr4 = rapid.Custom(func(t *rapid.T) netip.Addr {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], rapid.SampledFrom([]uint32{0x0a000000, 0x0a000001, 0x0a010203, 0x0affffff, 0xc0000201, 0xc0000281, 0, 0xffffffff}).Draw(t, "addr4"))
		return netip.AddrFrom4(b)
	})
	genAddr6 = rapid.Custom(func(t *rapid.T) netip.Addr {
		return netip.MustParseAddr(rapid.SampledFrom([]string{"::", "2001:db8::", "2001:db8::1", "2001:db8:0:1::", "2001:db8:0:0:8000::", "2001:db8::8000:0:0:1", "::ffff:10.0.0.1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}).Draw(t, "addr6"))
	})
	genPort  = rapid.SampledFrom([]uint16{0, 0, 1, 2, 500, 65535})
	genProto = rapid.SampledFrom([]uint8{0, 0, 1, 6, 17, 58, 255})
)

var genFlow = rapid.Custom(func(t *rapid.T) Flow {
	f := Flow{
		ID:    FlowID(strconv.Itoa(rapid.IntRange(0, 60).Draw(t, "id"))),
		Dir:   Direction(rapid.IntRange(0, 1).Draw(t, "dir")),
		Order: rapid.SampledFrom([]uint32{0, 0, 0, 1, 7, 1 << 31, 1<<32 - 1}).Draw(t, "order"),
	}
	addr, size := genAddr4, 32
	if rapid.Bool().Draw(t, "six") {
		addr, size = genAddr6, 128
	}
	bits := rapid.OneOf(rapid.SampledFrom([]int{0, size, size / 2, size / 2}), rapid.IntRange(0, size))
	f.Selector = Selector{
		Src:   netip.PrefixFrom(addr.Draw(t, "src"), bits.Draw(t, "srcbits")),
		Dst:   netip.PrefixFrom(addr.Draw(t, "dst"), bits.Draw(t, "dstbits")),
		Proto: genProto.Draw(t, "proto"), SrcPort: genPort.Draw(t, "sport"), DstPort: genPort.Draw(t, "dport"),
	}
	return f
})

var genPacket = rapid.Custom(func(t *rapid.T) PacketInfo {
	p := PacketInfo{Version: 4, Dir: Direction(rapid.IntRange(0, 1).Draw(t, "dir")), Proto: genProto.Draw(t, "proto")}
	addr := genAddr4
	if rapid.Bool().Draw(t, "six") {
		p.Version, addr = 6, genAddr6
	}
	p.Src, p.Dst = addr.Draw(t, "src"), addr.Draw(t, "dst")
	if rapid.Bool().Draw(t, "ports") {
		p.HasPorts, p.SrcPort, p.DstPort = true, genPort.Draw(t, "sport"), genPort.Draw(t, "dport")
	}
	return p
})

func TestSPDAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var spd SPD[testFlow]
		want := make(map[FlowID]Flow)
		for range rapid.IntRange(1, 8).Draw(t, "transactions") {
			var changes []Change[testFlow]
			next := make(map[FlowID]Flow)
			for id, f := range want {
				next[id] = f
			}
			failed := false
			for _, f := range rapid.SliceOfN(genFlow, 0, 25).Draw(t, "flows") {
				c := Change[testFlow]{Flow: f, Value: &testFlow{f.ID}}
				_, there := next[f.ID]
				if there {
					// Mostly a proper removal, at times the mistake of adding it again.
					c = Change[testFlow]{Remove: true, Flow: Flow{ID: f.ID}}
					if failed = rapid.IntRange(0, 60).Draw(t, "mistake") == 0; failed {
						c = Change[testFlow]{Flow: f, Value: &testFlow{f.ID}}
					}
				}
				changes = append(changes, c)
				if failed {
					break
				}
				if there {
					delete(next, f.ID)
				} else {
					next[f.ID] = f
				}
			}
			err := spd.Apply(changes)
			if failed != (err != nil) {
				t.Fatalf("Apply: %v, mistake: %v", err, failed)
			}
			if !failed {
				want = next
			}
			if spd.Len() != len(want) {
				t.Fatalf("%d flows, want %d", spd.Len(), len(want))
			}
			for _, p := range rapid.SliceOfN(genPacket, 20, 20).Draw(t, "packets") {
				var got FlowID
				if v := spd.Lookup(&p); v != nil {
					got = v.id
				}
				if id := oracle(want, &p); id != got {
					t.Fatalf("%+v\ngot  %q %+v\nwant %q %+v", p, got, want[got], id, want[id])
				}
			}
		}
		// Down to nothing again.
		for f, v := range spd.All() {
			if v.id != f.ID || spd.Get(f.ID) != v {
				t.Fatalf("flow %q holds %q", f.ID, v.id)
			}
			if err := spd.Apply([]Change[testFlow]{{Remove: true, Flow: f}}); err != nil {
				t.Fatal(err)
			}
		}
		if root := spd.root.Load(); root != nil && *root != (spdRoot[testFlow]{}) {
			t.Fatal("an empty SPD has trees")
		}
	})
}

func TestSPDRefuses(t *testing.T) {
	p4, p6 := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")
	good := Change[testFlow]{Flow: Flow{ID: "good", Selector: Selector{Src: p4, Dst: p4}}, Value: &testFlow{"good"}}
	for _, c := range []struct {
		name string
		bad  Change[testFlow]
		want error
	}{
		{"twice", good, ErrFlowExists},
		{"remove unknown", Change[testFlow]{Remove: true, Flow: Flow{ID: "x"}}, ErrNoSuchFlow},
		{"families", Change[testFlow]{Flow: Flow{ID: "x", Selector: Selector{Src: p4, Dst: p6}}, Value: &testFlow{}}, ErrSelector},
		{"no prefix", Change[testFlow]{Flow: Flow{ID: "x", Selector: Selector{Dst: p4}}, Value: &testFlow{}}, ErrSelector},
		{"direction", Change[testFlow]{Flow: Flow{ID: "x", Dir: 2, Selector: Selector{Src: p4, Dst: p4}}, Value: &testFlow{}}, nil},
		{"no value", Change[testFlow]{Flow: Flow{ID: "x", Selector: Selector{Src: p4, Dst: p4}}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var spd SPD[testFlow]
			err := spd.Apply([]Change[testFlow]{good, c.bad})
			if err == nil || (c.want != nil && !errors.Is(err, c.want)) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if spd.Len() != 0 || spd.Lookup(&PacketInfo{Version: 4, Src: p4.Addr(), Dst: p4.Addr()}) != nil {
				t.Fatal("a refused transaction left something")
			}
		})
	}
}

// manyFlows are n flows in the shapes that gateways have: host to network, with
// a few broad ones around them.
func manyFlows(n int) []Change[testFlow] {
	rnd := rand.New(rand.NewPCG(1, 2))
	all := make([]Change[testFlow], n)
	for i := range all {
		f := Flow{ID: FlowID("flow-" + strconv.Itoa(i))}
		f.Selector = Selector{
			Src: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(rnd.Uint32()), byte(rnd.Uint32()), 0}), 24),
			Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16 + byte(i>>16), byte(i >> 8), byte(i)}), 32),
		}
		if i%1000 == 999 {
			f.Selector.Src = netip.MustParsePrefix("0.0.0.0/0")
			f.Selector.Dst = netip.PrefixFrom(f.Selector.Dst.Addr(), 8+i/1000%16).Masked()
		}
		all[i] = Change[testFlow]{Flow: f, Value: &testFlow{f.ID}}
	}
	return all
}

func packetFor(s *Selector) PacketInfo {
	return PacketInfo{Version: 4, Src: s.Src.Addr(), Dst: s.Dst.Addr(), Proto: 6, HasPorts: true, SrcPort: 1234, DstPort: 9100}
}

func TestSPDLookupAllocatesNothing(t *testing.T) {
	var spd SPD[testFlow]
	flows := manyFlows(5000)
	if err := spd.Apply(flows); err != nil {
		t.Fatal(err)
	}
	p := packetFor(&flows[1234].Flow.Selector)
	if n := testing.AllocsPerRun(1000, func() {
		if spd.Lookup(&p) != flows[1234].Value {
			t.Fatal("wrong flow")
		}
	}); n != 0 {
		t.Fatalf("%v allocations a lookup", n)
	}
}

// Readers see all of a transaction or nothing: the two flows of each pair always
// hold the same value.
func TestSPDTransactionIsSeenWhole(t *testing.T) {
	var spd SPD[testFlow]
	// The value of the narrow flow and that of the broad one change together; a
	// reader that looks at one root sees the narrow one of its generation.
	narrow := Selector{Src: netip.MustParsePrefix("10.0.0.0/8"), Dst: netip.MustParsePrefix("192.0.2.0/24"), Proto: 6}
	broad := Selector{Src: narrow.Src, Dst: narrow.Dst}
	p := packetFor(&narrow)
	p.Dst = netip.MustParseAddr("192.0.2.7")
	p.Src = netip.MustParseAddr("10.1.1.1")
	if err := spd.Apply([]Change[testFlow]{{Flow: Flow{ID: "broad", Selector: broad}, Value: &testFlow{"broad"}}}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if spd.Lookup(&p) == nil {
					t.Error("a moment without any flow")
					return
				}
			}
		})
	}
	have := "broad"
	for i := range 3000 {
		next := "narrow"
		sel := narrow
		if have == "narrow" {
			next, sel = "broad", broad
		}
		if err := spd.Apply([]Change[testFlow]{
			{Remove: true, Flow: Flow{ID: FlowID(have)}},
			{Flow: Flow{ID: FlowID(next), Selector: sel, Order: uint32(i)}, Value: &testFlow{FlowID(next)}},
		}); err != nil {
			t.Fatal(err)
		}
		have = next
	}
	close(stop)
	wg.Wait()
}

// allocated is what f allocates, in bytes.
func allocated(f func()) uint64 {
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	f()
	runtime.ReadMemStats(&b)
	return b.TotalAlloc - a.TotalAlloc
}

// One more flow costs a path: at 100 000 flows not much more than at 100, and
// nothing that grows with their number. The growth of the map of names is
// amortised, so it is averaged over some hundreds.
func TestSPDAddIsLogarithmic(t *testing.T) {
	const step = 200
	cost := func(n int) uint64 {
		var spd SPD[testFlow]
		flows := manyFlows(n + step)
		if err := spd.Apply(flows[:n]); err != nil {
			t.Fatal(err)
		}
		return allocated(func() {
			for i := n; i < n+step; i++ {
				if err := spd.Apply(flows[i : i+1]); err != nil {
					t.Fatal(err)
				}
			}
		}) / step
	}
	small, large := cost(100), cost(100_000-step)
	t.Logf("bytes for one more flow: %d at 100, %d at 100 000", small, large)
	if large > 4*small || large > 8192 {
		t.Fatalf("%d bytes for one more flow at 100 000, %d at 100", large, small)
	}
}

func TestSPDAllIsInOrder(t *testing.T) {
	var spd SPD[testFlow]
	if err := spd.Apply(manyFlows(3000)); err != nil {
		t.Fatal(err)
	}
	var all []Flow
	for f := range spd.All() {
		all = append(all, f)
	}
	if len(all) != 3000 || !slices.IsSortedFunc(all, func(a, b Flow) int {
		if better(&a, &b) {
			return -1
		}
		return 1
	}) {
		t.Fatal("not all, or not in order")
	}
}

func BenchmarkSPDLookup(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var spd SPD[testFlow]
			flows := manyFlows(n)
			if err := spd.Apply(flows); err != nil {
				b.Fatal(err)
			}
			packets := make([]PacketInfo, 4096)
			for i := range packets {
				packets[i] = packetFor(&flows[i*7919%n].Flow.Selector)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if spd.Lookup(&packets[i%len(packets)]) == nil {
					b.Fatal("nothing found")
				}
			}
		})
	}
}

func BenchmarkSPDAdd(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var spd SPD[testFlow]
			flows := manyFlows(n + 1)
			if err := spd.Apply(flows[:n]); err != nil {
				b.Fatal(err)
			}
			add, del := flows[n:], []Change[testFlow]{{Remove: true, Flow: flows[n].Flow}}
			b.ReportAllocs()
			for b.Loop() {
				if spd.Apply(add) != nil || spd.Apply(del) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}
