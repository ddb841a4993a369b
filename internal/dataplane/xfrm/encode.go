package xfrm

import (
	"math"
	"net/netip"
	"time"

	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// encoding is what an SA is in the kernel beyond what it is for us.
type encoding struct {
	src, dst netip.Addr // as of now; invalid: those it was made with
	reqid    uint32
	mark     *wire.Mark
	outMark  *wire.Mark
	// shares: it is of a bundle in which one nearer to the plain packet makes the
	// header of this tunnel already. For the kernel it is in transport mode.
	shares bool
}

// softSequence is where a new SA is asked for, in packets, before the sequence
// numbers of 32 bits end: a second at a million packets a second.
const softSequence = math.MaxUint32 - 1<<20

// mappingAge is how often, in seconds, the kernel tells the same new address of
// a peer behind NAT.
const mappingAge = 10

// encode is sa in the kernel's words.
func encode(sa *ipsec.SA, e encoding) *wire.SA {
	if !e.src.IsValid() {
		e.src = sa.Src
	}
	if !e.dst.IsValid() {
		e.dst = sa.ID.Dst
	}
	w := &wire.SA{
		Src: e.src, Dst: e.dst, SPI: uint32(sa.ID.SPI), Proto: uint8(sa.ID.Proto), Family: wire.FamilyOf(e.dst),
		ReqID: e.reqid, IfID: sa.Interface, Mark: e.mark, Mode: wire.ModeTransport, Limits: limits(sa),
	}
	if sa.Mode == ipsec.Tunnel && !e.shares {
		w.Mode = wire.ModeTunnel
	}
	if sa.ID.Dir == ipsec.Out {
		w.OutMark = e.outMark
	}
	kernelSelector(sa, e.shares, w)
	window(sa, w)
	transform(sa, w)
	if sa.ID.Proto == ipsec.ProtoAH && w.Family == wire.FamilyIPv4 {
		w.Flags |= wire.FlagAlign4 // RFC 4302 section 3.3.3.2.1: 32 bits, and 64 for IPv6 alone
	}
	if sa.Encap != nil {
		w.Encap = encapOf(sa)
		if sa.ID.Dir == ipsec.In {
			w.MappingAge = mappingAge
		}
	}
	return w
}

// kernelSelector: the kernel lets a packet in only if it is within the selector
// of every SA it came through, the innermost packet for all of them: an SA that
// carries what another one has made, in a bundle, has none. Going out, what a flow
// lets into its SA is the flow's business, and a selector would keep the kernel from
// finding the SA.
func kernelSelector(sa *ipsec.SA, shares bool, w *wire.SA) {
	s := &sa.Selector
	given := sa.ID.Dir == ipsec.In && !shares && sa.Bundle.Index == 0 && s.Src.IsValid() && s.Dst.IsValid()
	switch {
	case given && (w.Mode == wire.ModeTunnel || wire.FamilyOf(s.Dst.Addr()) == w.Family):
		w.Sel = selectorOf(s)
	case w.Mode == wire.ModeTunnel:
		w.Flags |= wire.FlagAFUnspec
	default:
		w.Sel.Family = w.Family
	}
}

func selectorOf(s *ipsec.Selector) wire.Selector {
	all := func(port uint16) uint16 {
		if port == 0 {
			return 0
		}
		return math.MaxUint16
	}
	return wire.Selector{
		Src: s.Src.Masked(), Dst: s.Dst.Masked(), Family: wire.FamilyOf(s.Dst.Addr()), Proto: s.Proto,
		SrcPort: s.SrcPort, SrcMask: all(s.SrcPort), DstPort: s.DstPort, DstMask: all(s.DstPort),
	}
}

// selectorFrom is the way back; what a mask hides of a port is gone.
func selectorFrom(s *wire.Selector) ipsec.Selector {
	return ipsec.Selector{Src: s.Src, Dst: s.Dst, Proto: s.Proto, SrcPort: s.SrcPort & s.SrcMask, DstPort: s.DstPort & s.DstMask}
}

// window: the kernel's old form has room for 32 packets.
func window(sa *ipsec.SA, w *wire.SA) {
	if sa.ID.Proto == ipsec.ProtoIPComp {
		return
	}
	n := min(max(sa.Replay, 0), wire.MaxWindow)
	if sa.ID.Dir == ipsec.Out {
		n = 0
	}
	if sa.ESN {
		w.Flags |= wire.FlagESN
		n = max(n, 32) // the kernel takes none without a window
	}
	if n <= 32 && !sa.ESN {
		w.Window = uint8(n)
		return
	}
	w.ESN = &wire.ReplayESN{Window: uint32(n)}
}

func encapOf(sa *ipsec.SA) *wire.Encap {
	from, to := sa.Encap.Local, sa.Encap.Remote
	if sa.ID.Dir == ipsec.In {
		from, to = to, from
	}
	e := &wire.Encap{SrcPort: from.Port(), DstPort: to.Port()}
	if wire.FamilyOf(sa.NATOA.Peer) == wire.FamilyOf(sa.ID.Dst) {
		e.Original = sa.NATOA.Peer
	}
	return e
}

// limits: the kernel counts whole seconds, and from the beginning of the one in
// which an SA was added. No SA is to end before its time, while it is in use and
// its successor is not there yet: the hard limit is a second later.
func limits(sa *ipsec.SA) wire.Limits {
	l := wire.NoLimits()
	if sa.Soft.Bytes > 0 {
		l.SoftBytes = sa.Soft.Bytes
	}
	if sa.Hard.Bytes > 0 {
		l.HardBytes = sa.Hard.Bytes
	}
	l.SoftAddSeconds, l.HardAddSeconds = seconds(sa.Soft.Time), seconds(sa.Hard.Time)
	if sa.Hard.Time > 0 {
		l.HardAddSeconds++
	}
	if sa.ID.Dir == ipsec.Out && !sa.ESN && sa.ID.Proto != ipsec.ProtoIPComp {
		l.SoftPackets = softSequence
	}
	return l
}

func seconds(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	return uint64((d + time.Second - 1) / time.Second)
}
