package userspace

import (
	"context"
	"net/netip"
	"runtime"
	"testing"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// rekey replaces the bench flow's SA as negotiation does: new ones first.
func rekey(t testing.TB, p *Plane, old ipsec.SPI) ipsec.SPI {
	ctx := context.Background()
	spi, err := p.AllocSPI(ctx, dataplane.SPIRequest{Proto: ipsec.ProtoESP, Src: benchPeer, Dst: benchUs})
	if err != nil {
		t.Fatal(err)
	}
	sel := ipsec.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}
	out := &ipsec.SA{
		ID: ipsec.SAID{Dir: ipsec.Out, Proto: ipsec.ProtoESP, SPI: spi, Dst: benchPeer}, Src: benchUs,
		Cipher: ipsec.CipherAESGCM16, Key: fill(16, 3), Salt: fill(4, 7), Replay: 64, Selector: sel, Flow: "bench/out",
	}
	out.Soft.Time, out.Hard.Time = 1<<40, 1<<41
	in := *out
	in.ID.Dir, in.ID.Dst, in.Src, in.Selector = ipsec.In, benchUs, benchPeer, sel.Reverse()
	for _, sa := range []*ipsec.SA{&in, out} {
		if err := p.AddSA(ctx, sa); err != nil {
			t.Fatal(err)
		}
	}
	if old != 0 {
		for _, id := range []ipsec.SAID{
			{Dir: ipsec.Out, Proto: ipsec.ProtoESP, SPI: old, Dst: benchPeer},
			{Dir: ipsec.In, Proto: ipsec.ProtoESP, SPI: old, Dst: benchUs},
		} {
			if err := p.DeleteSA(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
	}
	return spi
}

// TestTheLastRekeyCostsWhatTheFirstCost counts bytes.
func TestTheLastRekeyCostsWhatTheFirstCost(t *testing.T) {
	p, _, _ := benchPlane(t, Options{})
	loop(t, p, ipsec.CipherAESGCM16, ipsec.AuthNone, false)
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var spi ipsec.SPI
	for range 500 {
		spi = rekey(t, p, spi)
	}
	goroutines, before := runtime.NumGoroutine(), heap()
	for range 10000 {
		spi = rekey(t, p, spi)
	}
	after := heap()
	for range 10 { // timers that were stopped go later
		after = min(after, heap())
	}
	if after > before+256<<10 {
		t.Errorf("10000 rekeys left %d KiB behind", (after-before)>>10)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines became %d", goroutines, n)
	}
	if len(p.in) != 2 || len(p.out) != 2 || len(p.reserved) != 0 || len(p.spis) != 2 {
		t.Errorf("%d in, %d out, %d reserved, %d SPIs are left", len(p.in), len(p.out), len(p.reserved), len(p.spis))
	}
}

// FuzzInbound: whatever comes to the sockets, and whatever an authentic peer puts
// inside, ends in a counter or at the device.
func FuzzInbound(f *testing.F) {
	pkt := make([]byte, 100)
	plainPacket(pkt, 100)
	f.Add(pkt, uint8(4), true)
	f.Add([]byte{0, 0, 0x10, 0, 0, 0, 0, 1, 2, 3}, uint8(59), false)
	f.Add([]byte{0, 0, 0, 0, 1}, uint8(41), true)
	f.Add([]byte{0xff}, uint8(0), true)
	p, _, _ := benchPlane(f, Options{})
	sa := loop(f, p, ipsec.CipherAESGCM16, ipsec.AuthNone, true)
	var udp, raw *inWork
	for _, l := range p.links {
		if l.local == benchPeer && l.encap {
			udp = newInWork(p, l)
		} else if l.local == benchPeer {
			raw = newInWork(p, l)
		}
	}
	remote, local := netip.AddrPortFrom(benchUs, 4500), netip.AddrPortFrom(benchPeer, 4500)
	f.Fuzz(func(t *testing.T, b []byte, next uint8, encap bool) {
		w := raw
		if encap {
			w = udp
		}
		w.messages([]netio.Received{{Data: append([]byte(nil), b...), Seg: int(next), Remote: remote, Local: local}})
		buf := make([]byte, headRoom+len(b)+tailRoom)
		copy(buf[headRoom:], b)
		seq, _ := sa.next()
		sealed, err := sa.t.Seal(buf, headRoom, len(b), next, seq)
		if err != nil {
			t.Skip(err)
		}
		udp.messages([]netio.Received{{Data: sealed, Remote: remote, Local: local}})
	})
}
