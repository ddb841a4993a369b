package ipsecadm

import (
	"fmt"
	"net/netip"
	"strings"

	"oakley/internal/ipsec"
)

// defaultOrder is where flows stand that do not say it, beside those of
// isakmpd.conf: the more specific selector first.
const defaultOrder = 1 << 16

// owner is the connection's name of all that is typed.
const manual = "manual"

var flowTypes = []word[ipsec.FlowType]{
	{"-require", ipsec.FlowRequire},
	{"-use", ipsec.FlowUse},
	{"-acquire", ipsec.FlowAcquire},
	{"-dontacq", ipsec.FlowDontAcq},
	{"-deny", ipsec.FlowDeny},
	{"-bypass", ipsec.FlowBypass},
	{"-permit", ipsec.FlowBypass},
}

func buildFlow(f *form) Command {
	fl := Flow{Delete: f.given["-delete"], Flow: ipsec.Flow{
		Type: f.flowType(), Dir: f.direction(), Selector: f.selector(), Order: defaultOrder,
		Proto: ipsec.ProtoESP, Owner: ipsec.OwnerManual, Conn: manual,
	}}
	if f.given["-proto"] {
		fl.Proto = f.proto
	}
	if f.given["-order"] {
		fl.Order = f.order
	}
	fl.ID = flowID(fl.Dir, fl.Selector)
	fl.LocalID = f.identity("-srcid", f.srcID, f.srcType)
	fl.RemoteID = f.identity("-dstid", f.dstID, f.dstType)
	if f.given["-spi"] {
		f.spiOf("-spi", f.spi, fl.Proto)
		f.notice("-spi does nothing on a flow: the SA is found by destination and protocol, the newest first")
	}
	if fl.Type == ipsec.FlowDeny || fl.Type == ipsec.FlowBypass {
		fl.Proto = 0
		for _, m := range []string{"-src", "-dst", "-proto", "-spi", "-srcid", "-dstid", "-srcid_type", "-dstid_type"} {
			if f.given[m] {
				f.mistake("%s is not for a flow of type %s, which has no SA", m, fl.Type)
			}
		}
		return fl
	}
	f.peers(&fl)
	return fl
}

// flowID names a flow by what it is for, so that the same command with -delete
// finds it.
func flowID(d ipsec.Direction, s ipsec.Selector) ipsec.FlowID {
	return ipsec.FlowID(fmt.Sprintf("%s %s %s", manual, d, s))
}

func (f *form) flowType() ipsec.FlowType {
	var given []string
	t, many := ipsec.FlowRequire, false
	for _, w := range flowTypes {
		if !f.given[w.name] {
			continue
		}
		many = many || len(given) > 0 && t != w.is
		t, given = w.is, append(given, w.name)
	}
	if many {
		f.mistake("%s are given: a flow has one type", strings.Join(given, " and "))
	}
	return t
}

func (f *form) direction() ipsec.Direction {
	if f.given["-in"] && f.given["-out"] {
		f.mistake("-in and -out are both given: a flow has one direction; give two commands, the second with the addresses of -addr exchanged")
	}
	if f.given["-in"] {
		return ipsec.In
	}
	return ipsec.Out
}

func (f *form) selector() ipsec.Selector {
	s := ipsec.Selector{Src: f.near, Dst: f.far, Proto: f.transport}
	network := "tcp"
	if f.transport == 17 {
		network = "udp"
	}
	if f.has("-sport") {
		s.SrcPort = f.port("-sport", network, f.sport)
	}
	if f.has("-dport") {
		s.DstPort = f.port("-dport", network, f.dport)
	}
	if s.SrcPort|s.DstPort != 0 && f.given["-transport"] && !hasPorts[f.transport] {
		f.mistake("-sport and -dport: protocol %d has no ports; tcp, udp, dccp, sctp and udplite have", f.transport)
	}
	return s
}

// hasPorts are the protocols whose ports selectors can be about.
var hasPorts = map[uint8]bool{6: true, 17: true, 33: true, 132: true, 136: true}

// peers finds the tunnel's ends: what is not said follows from a selector that is
// one host.
func (f *form) peers(fl *Flow) {
	near, far := fl.Selector.Src, fl.Selector.Dst
	if fl.Dir == ipsec.In {
		near, far = far, near
	}
	known := func(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() }
	if known(f.src) {
		fl.Local = f.src
	}
	switch {
	case known(f.dst):
		fl.Remote = f.dst
	case far.IsValid() && far.IsSingleIP():
		fl.Remote = far.Addr()
	case fl.Delete, f.given["-dst"] && !f.dst.IsValid(): // not needed, or told already
	case fl.Dir == ipsec.Out && far.IsValid():
		f.mistake("-dst is needed: which gateway is before %s?", far)
	}
	if near.IsValid() && near.IsSingleIP() && !fl.Local.IsValid() && fl.Remote.IsValid() && near.Addr().Is4() == fl.Remote.Is4() && fl.Remote == far.Addr() {
		fl.Local = near.Addr()
	}
	switch {
	case !fl.Local.IsValid() || !fl.Remote.IsValid():
	case fl.Local.Is4() != fl.Remote.Is4():
		f.mistake("-src %s and -dst %s are of two address families", fl.Local, fl.Remote)
	case fl.Local == fl.Remote:
		f.mistake("-src and -dst are both %s; also of an incoming flow -src is this side and -dst the far one", fl.Local)
	}
}
