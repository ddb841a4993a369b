package planetest

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// layer is one SA of a mode.
type layer struct {
	proto  ipsec.Proto
	mode   ipsec.Mode
	cipher ipsec.Cipher
	auth   ipsec.Auth
	udp    bool
}

var (
	espT   = layer{ipsec.ProtoESP, ipsec.Tunnel, ipsec.CipherAESGCM16, ipsec.AuthNone, false}
	espX   = layer{ipsec.ProtoESP, ipsec.Transport, ipsec.CipherAESGCM16, ipsec.AuthNone, false}
	cbcX   = layer{ipsec.ProtoESP, ipsec.Transport, ipsec.CipherAESCBC, ipsec.AuthHMACSHA256, false}
	udpX   = layer{ipsec.ProtoESP, ipsec.Transport, ipsec.CipherAESGCM16, ipsec.AuthNone, true}
	udpT   = layer{ipsec.ProtoESP, ipsec.Tunnel, ipsec.CipherAESGCM16, ipsec.AuthNone, true}
	ahT    = layer{ipsec.ProtoAH, ipsec.Tunnel, ipsec.CipherNone, ipsec.AuthHMACSHA256, false}
	ahX    = layer{ipsec.ProtoAH, ipsec.Transport, ipsec.CipherNone, ipsec.AuthHMACSHA1, false}
	compT  = layer{ipsec.ProtoIPComp, ipsec.Tunnel, ipsec.CipherNone, ipsec.AuthNone, false}
	compX  = layer{ipsec.ProtoIPComp, ipsec.Transport, ipsec.CipherNone, ipsec.AuthNone, false}
	inIP   = layer{ipsec.ProtoIPIP, ipsec.Tunnel, ipsec.CipherNone, ipsec.AuthNone, false}
	stacks = [][]layer{
		{espX},
		{cbcX},
		{udpX},
		{ahT},
		{ahX},
		{compT},
		{compX},
		{inIP},
		{espX, ahX},
		{espT, ahT},
		{espT, ahX},
		{compT, espT},
		{compX, espX},
		{compT, espT, ahT},
		{compX, espX, ahX},
		{compT, udpT},
		{compX, udpX},
		{inIP, espX},
		{inIP, ahX},
	}
)

func (l layer) String() string {
	s := fmt.Sprintf("%s %s", l.proto, l.mode)
	if l.udp {
		s += " UDP"
	}
	return s
}

func stackName(stack []layer) string {
	var names []string
	for _, l := range stack {
		names = append(names, l.String())
	}
	return strings.Join(names, " + ")
}

// ends are the outer addresses of two sites.
func ends(from, to *Site, v6 bool) (src, dst netip.Addr) {
	if v6 {
		return from.Addr6, to.Addr6
	}
	return from.Addr, to.Addr
}

// hosts is the selector of transport mode, and of tunnels between hosts.
func hosts(src, dst netip.Addr) ipsec.Selector {
	return ipsec.Selector{Src: netip.PrefixFrom(src, src.BitLen()), Dst: netip.PrefixFrom(dst, dst.BitLen())}
}

// build makes the SAs of a stack in one direction, outgoing ones.
func build(t *testing.T, from, to *Site, stack []layer, v6 bool, number uint64, sel ipsec.Selector) []*ipsec.SA {
	t.Helper()
	src, dst := ends(from, to, v6)
	var all []*ipsec.SA
	for i, l := range stack {
		spi, err := to.Backend.AllocSPI(ctx, dataplane.SPIRequest{Proto: l.proto, Src: src, Dst: dst})
		must(t, err)
		ci := l.cipher.Info()
		sa := &ipsec.SA{
			ID: ipsec.SAID{Dir: ipsec.Out, Proto: l.proto, SPI: spi, Dst: dst}, Src: src, Mode: l.mode, Cipher: l.cipher, Auth: l.auth,
			Key: pattern(ci.DefKey, byte(spi)), Salt: pattern(ci.Salt, byte(spi)+1), AuthKey: pattern(l.auth.Info().Key, byte(spi)+2),
			Replay: 64, Selector: sel, Flow: "c/out", Owner: ipsec.OwnerIKE, Conn: "c",
		}
		if l.proto == ipsec.ProtoIPComp {
			sa.Comp = ipsec.CompDeflate
		}
		if l.udp {
			sa.Encap = &ipsec.Encap{Local: netip.AddrPortFrom(src, 4500), Remote: netip.AddrPortFrom(dst, 4500)}
			sa.ID.Port = 4500
		}
		if len(stack) > 1 {
			sa.Bundle = ipsec.Place{ID: number, Index: uint8(i), Of: uint8(len(stack))}
		}
		all = append(all, sa)
	}
	return all
}

// receiver is the incoming half of an SA.
func receiver(sa *ipsec.SA) *ipsec.SA {
	rx := *sa
	rx.ID.Dir, rx.ID.Port, rx.Flow = ipsec.In, 0, "c/in"
	if sa.Encap != nil {
		rx.Encap = &ipsec.Encap{Local: sa.Encap.Remote, Remote: sa.Encap.Local}
	}
	return &rx
}

// stackFlows puts flows for a stack in place, in both directions of a site.
func stackFlows(t *testing.T, from, to *Site, stack []layer, v6 bool, sel ipsec.Selector) {
	t.Helper()
	src, dst := ends(from, to, v6)
	f := ipsec.Flow{Local: src, Remote: dst, Mode: stack[0].mode, Proto: stack[0].proto, Owner: ipsec.OwnerIKE, Conn: "c"}
	out, in := f, f
	out.ID, out.Dir, out.Selector = "c/out", ipsec.Out, sel
	in.ID, in.Dir, in.Selector = "c/in", ipsec.In, sel.Reverse()
	must(t, from.Backend.ApplyFlows(ctx, []ipsec.FlowChange{{Flow: out}, {Flow: in}}))
}

// stackSelector is between the hosts themselves for transport mode, between the
// networks behind them for a tunnel.
func stackSelector(from, to *Site, stack []layer, v6 bool) ipsec.Selector {
	if stack[0].mode == ipsec.Transport {
		return hosts(ends(from, to, v6))
	}
	n := nets4
	if v6 {
		n = nets6
	}
	sel := ipsec.Selector{Src: n.a, Dst: n.b}
	if from.Addr.Compare(to.Addr) > 0 {
		sel = sel.Reverse()
	}
	return sel
}

func hostOf(p netip.Prefix) netip.Addr {
	if p.IsSingleIP() {
		return p.Addr()
	}
	return host(p)
}

// long is a packet that compression shrinks.
func long(src, dst netip.Addr, number uint32) []byte {
	pkt := packet(src, dst, number)
	pkt = append(pkt, bytes.Repeat([]byte("the same again, "), 40)...)
	return relength(pkt)
}

// relength mends lengths and the header's checksum of a packet of ours.
func relength(pkt []byte) []byte {
	put := func(at, n int) { pkt[at], pkt[at+1] = byte(n>>8), byte(n) }
	if pkt[0]>>4 == 6 {
		put(4, len(pkt)-40)
		put(44, len(pkt)-40)
		return pkt
	}
	put(2, len(pkt))
	put(24, len(pkt)-20)
	put(10, 0)
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(pkt[i])<<8 | uint32(pkt[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	put(10, int(^uint16(sum)))
	return pkt
}

// crosses is passes; remade: the IP header was not sent, and is another's work
// but for what a host looks at.
func crosses(t *testing.T, from, to *Site, pkt []byte, remade bool) {
	t.Helper()
	if !remade || pkt[0]>>4 == 6 {
		passes(t, from, to, pkt)
		return
	}
	from.Put(pkt)
	select {
	case got := <-to.Got:
		if len(got) != len(pkt) || !bytes.Equal(got[12:], pkt[12:]) || got[9] != pkt[9] || got[1] != pkt[1] {
			t.Fatalf("what arrived is not what was sent:\n%x\n%x", got, pkt)
		}
	case <-time.After(patience):
		t.Fatal("nothing arrived")
	}
}

func does(info dataplane.Info, stack []layer) bool {
	for _, l := range stack {
		ok := l.mode == ipsec.Tunnel || info.Transport
		found := false
		for _, p := range info.Protos {
			found = found || p == l.proto
		}
		if !ok || !found {
			return false
		}
	}
	return true
}

// everyMode: each stack of SAs carries packets both ways and counts them.
func everyMode(t *testing.T, h *Harness) {
	number := uint64(0)
	for i, stack := range stacks {
		for _, v6 := range []bool{false, true} {
			left := h.Few && v6 == ((i%2 == 0) != h.Odd)
			if left || !does(h.both(), stack) {
				continue
			}
			t.Run(fmt.Sprintf("%s IPv6 %t", stackName(stack), v6), func(t *testing.T) {
				defer func() {
					must(t, h.A.Backend.Flush(ctx, ipsec.OwnerAny))
					must(t, h.B.Backend.Flush(ctx, ipsec.OwnerAny))
				}()
				for _, d := range [][2]*Site{{h.A, h.B}, {h.B, h.A}} {
					stackFlows(t, d[0], d[1], stack, v6, stackSelector(d[0], d[1], stack, v6))
				}
				for _, d := range [][2]*Site{{h.A, h.B}, {h.B, h.A}} {
					number++
					sel := stackSelector(d[0], d[1], stack, v6)
					all := build(t, d[0], d[1], stack, v6, number, sel)
					for _, sa := range all {
						must(t, d[1].Backend.AddSA(ctx, receiver(sa)))
						must(t, d[0].Backend.AddSA(ctx, sa))
					}
					src, dst := hostOf(sel.Src), hostOf(sel.Dst)
					for _, pkt := range [][]byte{long(src, dst, 1), packet(src, dst, 2), long(src, dst, 3)} {
						if len(stack) == 1 && stack[0] == compX && len(pkt) < 200 {
							pkt = long(src, dst, 2) // what does not shrink is an ordinary packet, which no plane sees
						}
						crosses(t, d[0], d[1], pkt, stack[len(stack)-1].udp && stack[0].mode == ipsec.Transport)
					}
					st, err := d[0].Backend.GetSA(ctx, all[len(all)-1].ID)
					must(t, err)
					if st.Packets != 3 {
						t.Errorf("%s counted %d packets, want 3", st.SA.ID, st.Packets)
					}
				}
			})
		}
	}
}

// halfBundle: a bundle carries nothing before all its SAs are there, nor when one
// has gone.
func halfBundle(t *testing.T, h *Harness) {
	stack := []layer{espT, ahX}
	if !does(h.both(), stack) {
		h.notRun = true
		return
	}
	sel := stackSelector(h.A, h.B, stack, false)
	stackFlows(t, h.A, h.B, stack, false, sel)
	stackFlows(t, h.B, h.A, stack, false, sel.Reverse())
	all := build(t, h.A, h.B, stack, false, 1, sel)
	for _, sa := range all {
		must(t, h.B.Backend.AddSA(ctx, receiver(sa)))
	}
	pkt := packet(host(nets4.a), host(nets4.b), 1)
	must(t, h.A.Backend.AddSA(ctx, all[0]))
	h.A.Put(pkt)
	a := event[dataplane.Acquire](t, h.A)
	nothing(t, h.B)
	must(t, h.A.Backend.AddSA(ctx, all[1]))
	must(t, h.A.Backend.EndAcquire(ctx, a.ID, nil))
	select {
	case got := <-h.B.Got:
		if !bytes.Equal(got, pkt) {
			t.Error("what waited for the bundle arrived changed")
		}
	case <-time.After(patience):
		t.Fatal("what waited for the bundle never arrived")
	}
	passes(t, h.A, h.B, pkt)
	must(t, h.A.Backend.DeleteSA(ctx, all[1].ID))
	h.A.Put(pkt)
	nothing(t, h.B)
}

// wrongSA: authentic packets of an SA that is not their flow's are dropped, as
// are those that come through half of a bundle.
func wrongSA(t *testing.T, h *Harness) {
	if !does(h.both(), []layer{espT, ahX}) {
		h.notRun = true
		return
	}
	ready(t, h, nets4)
	before := uint64(0) // of a coarse plane
	dropped := func(id ipsec.SAID) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; {
			n := h.B.drops(t, id, ipsec.DropWrongSA)
			if n == before+1 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s dropped %d for the wrong SA, want %d", id, n, before+1)
			}
			<-time.After(time.Millisecond)
		}
		if h.B.Coarse {
			before++
		}
		nothing(t, h.B)
	}
	pkt := packet(host(nets4.a), host(nets4.b), 1)
	_, in := pair(t, h, gcm, func(tx, rx *ipsec.SA) { rx.Flow = "other/in" })
	h.A.Put(pkt)
	dropped(in) // another flow's
	_, in = pair(t, h, gcm, func(tx, rx *ipsec.SA) { rx.Bundle = ipsec.Place{ID: 9, Index: 0, Of: 2} })
	h.A.Put(pkt)
	dropped(in) // half of a bundle
	pair(t, h, gcm, func(tx, rx *ipsec.SA) {})
	passes(t, h.A, h.B, pkt)
}

// grouped: SAs that came singly are put together.
func grouped(t *testing.T, h *Harness) {
	stack := []layer{espT, ahX}
	if !does(h.both(), stack) {
		h.notRun = true
		return
	}
	sel := stackSelector(h.A, h.B, stack, false)
	stackFlows(t, h.A, h.B, stack, false, sel)
	stackFlows(t, h.B, h.A, stack, false, sel.Reverse())
	for i, sa := range build(t, h.A, h.B, stack, false, 1, sel) {
		at := sa.Bundle
		sa.Bundle = ipsec.Place{}
		if i > 0 {
			sa.Flow = ""
		}
		rx := receiver(sa)
		must(t, h.B.Backend.AddSA(ctx, rx))
		must(t, h.A.Backend.AddSA(ctx, sa))
		must(t, h.B.Backend.UpdateSA(ctx, rx.ID, ipsec.SAUpdate{Bundle: &at}))
		must(t, h.A.Backend.UpdateSA(ctx, sa.ID, ipsec.SAUpdate{Bundle: &at}))
		if i == 0 {
			h.A.Put(packet(host(nets4.a), host(nets4.b), 1))
			nothing(t, h.B)
			continue
		}
		select {
		case <-h.B.Got: // what waited
		case <-time.After(patience):
			t.Fatal("what waited for the group never arrived")
		}
		passes(t, h.A, h.B, packet(host(nets4.a), host(nets4.b), 2))
		st, err := h.A.Backend.GetSA(ctx, sa.ID)
		must(t, err)
		if st.SA.Bundle != at || st.Packets == 0 {
			t.Errorf("place %+v and %d packets, want %+v and some", st.SA.Bundle, st.Packets, at)
		}
	}
}
