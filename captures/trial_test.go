package captures

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"oakley/internal/ipsec"
)

// step is one SA of a trial.
type step struct {
	proto  ipsec.Proto
	mode   ipsec.Mode
	cipher ipsec.Cipher
	keyLen int // bytes; 0: the usual length
	auth   ipsec.Auth
	udp    bool
	esn    bool
	cpi    ipsec.SPI // of IPComp; 0: a number of its own
	ends   ends
}

// ends are the addresses between which a step goes.
type ends uint8

const (
	sameEnds ends = iota
	farEnds       // the gateways' second addresses
	otherIP       // addresses of the other family
)

func (s step) v6(outer6 bool) bool { return outer6 != (s.ends == otherIP) }

func (s step) addr(at *site, outer6 bool) netip.Addr {
	if s.ends == farEnds {
		return at.far(outer6)
	}
	return at.addr(s.v6(outer6))
}

func (s step) String() string {
	name := fmt.Sprintf("%s %s", s.proto, s.mode)
	if s.udp {
		name += " in UDP"
	}
	if s.cipher != ipsec.CipherNone {
		name += " " + s.cipher.String()
	}
	if s.keyLen > 0 {
		name += fmt.Sprintf("-%d", s.keyLen*8)
	}
	if s.auth != ipsec.AuthNone {
		name += " " + s.auth.String()
	}
	if s.cpi != 0 {
		name += fmt.Sprintf(" CPI %d", uint32(s.cpi))
	}
	if s.esn {
		name += " ESN"
	}
	switch s.ends {
	case farEnds:
		name += " between other addresses"
	case otherIP:
		name += " in the other family"
	}
	return name
}

// trial is SAs that are applied together, the first nearest to the plain packet,
// and the addresses outside and inside; in transport mode they are the same.
type trial struct {
	stack          []step
	outer6, inner6 bool

	sas     []*ipsec.SA
	packets []sent
	frames  []int
}

func (tr *trial) transport() bool { return tr.stack[0].mode == ipsec.Transport }

func (tr *trial) String() string {
	var names []string
	for _, s := range tr.stack {
		names = append(names, s.String())
	}
	return fmt.Sprintf("%s, %s in %s", strings.Join(names, " + "), ipName(tr.inner6), ipName(tr.outer6))
}

func ipName(v6 bool) string {
	if v6 {
		return "ipv6"
	}
	return "ip"
}

// Networks behind the gateways.
var (
	behindA4 = netip.MustParsePrefix("10.1.0.0/24")
	behindB4 = netip.MustParsePrefix("10.2.0.0/24")
	behindA6 = netip.MustParsePrefix("fd01::/64")
	behindB6 = netip.MustParsePrefix("fd02::/64")
)

func (tr *trial) selector(n *network) ipsec.Selector {
	if tr.transport() {
		src, dst := n.a.addr(tr.outer6), n.b.addr(tr.outer6)
		return ipsec.Selector{Src: netip.PrefixFrom(src, src.BitLen()), Dst: netip.PrefixFrom(dst, dst.BitLen())}
	}
	if tr.inner6 {
		return ipsec.Selector{Src: behindA6, Dst: behindB6}
	}
	return ipsec.Selector{Src: behindA4, Dst: behindB4}
}

func member(p netip.Prefix) netip.Addr {
	if p.IsSingleIP() {
		return p.Addr()
	}
	return p.Addr().Next().Next()
}

// pattern is a key in which no byte equals its neighbour: no weak DES key.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = seed + byte(i)*37 + 11
	}
	return b
}

// put puts the flows and SAs of a trial into both gateways. SPIs are made of
// its number, so that every one in the capture is another.
func (tr *trial) put(t *testing.T, n *network, number int) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	sel := tr.selector(n)
	src, dst := tr.stack[0].addr(n.a, tr.outer6), tr.stack[0].addr(n.b, tr.outer6)
	out := ipsec.Flow{
		ID: "c/out", Dir: ipsec.Out, Selector: sel, Local: src, Remote: dst,
		Mode: tr.stack[0].mode, Proto: tr.stack[0].proto, Owner: ipsec.OwnerManual, Conn: "c",
	}
	in := out
	in.ID, in.Dir, in.Local, in.Remote = "c/in", ipsec.In, dst, src
	must(n.a.ApplyFlows(ctx, []ipsec.FlowChange{{Flow: out}}))
	must(n.b.ApplyFlows(ctx, []ipsec.FlowChange{{Flow: in}}))
	for i, s := range tr.stack {
		src, dst := s.addr(n.a, tr.outer6), s.addr(n.b, tr.outer6)
		spi := ipsec.SPI(0x1000 + number*16 + i)
		info, seed := s.cipher.Info(), byte(number*8+i)
		keyLen := s.keyLen
		if keyLen == 0 {
			keyLen = info.DefKey
		}
		sa := &ipsec.SA{
			ID: ipsec.SAID{Dir: ipsec.Out, Proto: s.proto, SPI: spi, Dst: dst}, Src: src, Mode: s.mode,
			Cipher: s.cipher, Key: pattern(keyLen, seed), Salt: pattern(info.Salt, seed+1),
			Auth: s.auth, AuthKey: pattern(s.auth.Info().Key, seed+2),
			Replay: 64, ESN: s.esn, Selector: sel, Flow: "c/out", Owner: ipsec.OwnerManual, Conn: "c",
		}
		if s.proto == ipsec.ProtoIPComp {
			sa.Comp = ipsec.CompDeflate
			if s.cpi != 0 {
				sa.ID.SPI = s.cpi
			}
		}
		if len(tr.stack) > 1 {
			sa.Bundle = ipsec.Place{ID: uint64(number) + 1, Index: uint8(i), Of: uint8(len(tr.stack))}
		}
		rx := *sa
		rx.ID.Dir, rx.Flow = ipsec.In, "c/in"
		if s.udp {
			local, remote := netip.AddrPortFrom(src, 4500), netip.AddrPortFrom(dst, 4500)
			sa.Encap, rx.Encap = &ipsec.Encap{Local: local, Remote: remote}, &ipsec.Encap{Local: remote, Remote: local}
			sa.ID.Port = 4500
		}
		must(n.b.AddSA(ctx, &rx))
		must(n.a.AddSA(ctx, sa))
		tr.sas = append(tr.sas, sa)
	}
}

// classes are the class octets of a trial's packets: none, expedited forwarding
// with ECT(0), and ECT(1).
var classes = [3]uint8{0, 46<<2 | 2, 1}

// run sends the packets of a trial and takes away its flows and SAs.
func (tr *trial) run(t *testing.T, n *network, number int) {
	t.Helper()
	tr.put(t, n, number)
	sel := tr.selector(n)
	for i := range classes {
		p := numbered(member(sel.Src), member(sel.Dst), uint32(number*3+i+1), tr.String(), i == 1)
		p.tos = classes[i]
		tr.packets = append(tr.packets, p)
		tr.frames = append(tr.frames, n.carry(t, p.packet(t)))
	}
	for _, s := range []*site{n.a, n.b} {
		if err := s.Flush(t.Context(), ipsec.OwnerAny); err != nil {
			t.Fatal(err)
		}
	}
}

// shape is what the layers of a trial's packets must be called, as far as tshark
// can open them, and whether that is all the way. Tunnels that follow each other
// between the same ends share one IP header, as on OpenBSD.
func (tr *trial) shape() (names []string, open bool) {
	open = true
	front := ipName(tr.inner6)
	var outer *ipsec.SA // whose addresses the front header bears
	for i, s := range tr.stack {
		sa := tr.sas[i]
		shared := outer != nil && outer.Src == sa.Src && outer.ID.Dst == sa.ID.Dst
		if s.proto == ipsec.ProtoIPIP || s.mode == ipsec.Tunnel && !shared {
			names = append([]string{front}, names...)
			front, outer = ipName(sa.ID.Dst.Is6()), sa
		}
		if _, known := cipherNames[s.cipher]; s.proto == ipsec.ProtoESP && !known {
			names, open = nil, false // nothing inside can be seen
		}
		names = append(s.layers(), names...)
	}
	return append([]string{"raw", front}, names...), open
}

// layers are tshark's names of what a step puts behind the IP header.
func (s step) layers() (names []string) {
	if s.udp {
		names = append(names, "udp", "udpencap")
	}
	switch s.proto {
	case ipsec.ProtoIPIP:
	case ipsec.ProtoIPComp:
		names = append(names, "ipcomp", "data") // the inflated data have a name of their own
	default:
		names = append(names, s.proto.String())
	}
	return names
}
