package userspace

import (
	"errors"
	"testing"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// comp is an SA of IPComp with the CPI that everybody knows, in a bundle with an
// ESP SA, for one direction.
func (s *scene) wellKnown(number uint64, dir ipsec.Direction, flow ipsec.FlowID) (comp, esp *ipsec.SA) {
	s.t.Helper()
	sel := ipsec.Selector{Src: nearNet, Dst: farNet}
	comp = &ipsec.SA{
		ID: ipsec.SAID{Dir: dir, Proto: ipsec.ProtoIPComp, SPI: 2, Dst: benchPeer}, Src: benchUs, Comp: ipsec.CompDeflate,
		Selector: sel, Flow: flow, Bundle: ipsec.Place{ID: number, Index: 0, Of: 2},
	}
	esp = &ipsec.SA{
		ID: ipsec.SAID{Dir: dir, Proto: ipsec.ProtoESP, SPI: ipsec.SPI(0x1000 * number), Dst: benchPeer}, Src: benchUs,
		Cipher: ipsec.CipherAESGCM16, Key: fill(16, byte(number)), Salt: fill(4, 7), Selector: sel, Flow: flow,
		Bundle: ipsec.Place{ID: number, Index: 1, Of: 2},
	}
	s.must(s.p.AddSA(bg, comp))
	s.must(s.p.AddSA(bg, esp))
	return comp, esp
}

// TestAKnownCPIIsManySAs: a peer that always says CPI 2 says so again when keys
// are changed, and for every connection. In whatever order the old SAs are deleted,
// the right ones go.
func TestAKnownCPIIsManySAs(t *testing.T) {
	for _, compFirst := range []bool{false, true} {
		s := newScene(t, Options{})
		sel := ipsec.Selector{Src: nearNet, Dst: farNet}
		for _, name := range []string{"a", "b"} {
			f := ipsec.Flow{ID: ipsec.FlowID(name + "/out"), Selector: sel, Local: benchUs, Remote: benchPeer, Proto: ipsec.ProtoIPComp}
			in := f
			in.ID, in.Dir = ipsec.FlowID(name+"/in"), ipsec.In
			if name == "b" {
				f.Selector.DstPort, in.Selector.DstPort = 2000, 2000
				f.Selector.Proto, in.Selector.Proto = protoUDP, protoUDP
			}
			s.must(s.p.ApplyFlows(bg, []ipsec.FlowChange{{Flow: f}, {Flow: in}}))
		}
		type pair struct{ comp, esp *ipsec.SA }
		add := func(number uint64, flow string) (in, out pair) {
			in.comp, in.esp = s.wellKnown(number, ipsec.In, ipsec.FlowID(flow+"/in"))
			out.comp, out.esp = s.wellKnown(number, ipsec.Out, ipsec.FlowID(flow+"/out"))
			return in, out
		}
		remove := func(p pair) {
			t.Helper()
			first, second := p.comp, p.esp
			if !compFirst {
				first, second = second, first
			}
			s.must(s.p.DeleteSA(bg, first.ID))
			s.must(s.p.DeleteSA(bg, second.ID))
		}
		carries := func(want *ipsec.SA, port byte) {
			t.Helper()
			pkt := datagram(nearest, farthest, 1000, false)
			clear(pkt[28:]) // what shrinks
			pkt[23] = port
			left := s.send(pkt)
			if len(left) != 1 || left[0].size() > 300 {
				t.Fatalf("comp first %t: %v left; drops %v", compFirst, sizes(left), s.p.drops.read())
			}
			if got := s.come(left); len(got) != 1 || len(got[0]) != 1000 {
				t.Fatalf("comp first %t: %d came; drops %v", compFirst, len(got), s.p.drops.read())
			}
			st, err := s.p.GetSA(bg, want.ID)
			s.must(err)
			if st.Packets == 0 {
				t.Errorf("comp first %t: %s carried nothing", compFirst, want.ID)
			}
		}
		inA, outA := add(1, "a")
		inB, outB := add(2, "b")
		carries(outA.esp, 1)
		carries(outB.esp, 0xd0) // port 2000
		newIn, newOut := add(3, "a")
		carries(newOut.esp, 1)
		carries(outB.esp, 0xd0)
		remove(outA)
		remove(inA)
		carries(newOut.esp, 1)
		carries(outB.esp, 0xd0)
		remove(outB)
		remove(inB)
		carries(newOut.esp, 1)
		if len(s.p.in) != 2 || len(s.p.out) != 2 || len(s.p.owed) != 0 {
			t.Errorf("comp first %t: %d in, %d out, %d owed", compFirst, len(s.p.in), len(s.p.out), len(s.p.owed))
		}
		remove(newOut)
		remove(newIn)
		for _, sa := range []*ipsec.SA{newIn.comp, newOut.comp} {
			if _, err := s.p.GetSA(bg, sa.ID); !errors.Is(err, dataplane.ErrNoSA) {
				t.Errorf("after all went: %v", err)
			}
			if err := s.p.DeleteSA(bg, sa.ID); !errors.Is(err, dataplane.ErrNoSA) {
				t.Errorf("deleting once more: %v", err)
			}
		}
		if len(s.p.in)+len(s.p.out)+len(s.p.same)+len(s.p.owed)+len(s.p.spis)+len(s.p.bundlesIn)+len(s.p.bundlesOut)+len(s.p.ends.all) != 0 {
			t.Errorf("comp first %t: something is left", compFirst)
		}
	}
}

// TestAKnownCPIOfManyPeers: IPComp alone, from several peers to one address.
func TestAKnownCPIOfManyPeers(t *testing.T) {
	s := newScene(t, Options{})
	sa := &ipsec.SA{
		ID: ipsec.SAID{Dir: ipsec.In, Proto: ipsec.ProtoIPComp, SPI: 2, Dst: benchPeer}, Src: benchUs, Mode: ipsec.Transport, Comp: ipsec.CompDeflate,
		Selector: ipsec.Selector{Src: single(benchUs), Dst: single(benchPeer)},
	}
	s.must(s.p.AddSA(bg, sa))
	if err := s.p.AddSA(bg, sa); !errors.Is(err, dataplane.ErrExists) {
		t.Errorf("the same SA again: %v", err)
	}
	other := *sa
	other.Src = benchPeer.Next()
	other.Selector.Src = single(other.Src)
	s.must(s.p.AddSA(bg, &other))
	send := *sa
	send.ID.Dir, send.Flow = ipsec.Out, "c/out"
	s.must(s.p.ApplyFlows(bg, []ipsec.FlowChange{{Flow: ipsec.Flow{ID: "c/out", Selector: sa.Selector, Mode: ipsec.Transport, Proto: ipsec.ProtoIPComp, Remote: benchPeer}}}))
	s.must(s.p.AddSA(bg, &send))
	pkt := datagram(benchUs, benchPeer, 1000, false)
	clear(pkt[28:])
	if got := s.come(s.send(pkt)); len(got) != 1 {
		t.Errorf("%d came; drops %v", len(got), s.p.drops.read())
	}
	s.must(s.p.DeleteSA(bg, sa.ID)) // the older one
	if got := s.come(s.send(pkt)); len(got) != 0 || s.drops(ipsec.DropUnknownSPI) != 1 {
		t.Errorf("%d came through another peer's SA; drops %v", len(got), s.p.drops.read())
	}
	s.must(s.p.DeleteSA(bg, sa.ID))
	s.must(s.p.Flush(bg, ipsec.OwnerAny))
	if len(s.p.same) != 0 || s.p.sad.Lookup(benchPeer, ipsec.ProtoIPComp, 2) != nil {
		t.Error("something is left")
	}
}

// TestAKnownCPIHasAnEnd: the names of many are bounded, and all are kept apart.
func TestAKnownCPIHasAnEnd(t *testing.T) {
	s := newScene(t, Options{})
	id := ipsec.SAID{Dir: ipsec.In, Proto: ipsec.ProtoIPComp, SPI: 2, Dst: benchPeer}
	seen := map[ipsec.SAID]bool{}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for !s.p.again(&ipsec.SA{ID: id, Bundle: ipsec.Place{ID: 1, Of: 2}}) {
		k := s.p.keep(id)
		seen[k] = true
		s.p.in[k] = &inSA{}
	}
	if len(seen) != maxSame {
		t.Errorf("%d names for %d SAs", len(seen), maxSame)
	}
	clear(s.p.in)
}
