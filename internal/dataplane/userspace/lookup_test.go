package userspace_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"oakley/internal/lab"
)

// packet is what the kernel is asked the way of. Without iif it is the host's
// own; without src it has none yet.
type packet struct {
	src, dst     netip.Addr
	proto        uint8
	sport, dport uint16
	mark         uint32
	iif          string
}

// nowhere is the way of a packet that the kernel refuses.
const nowhere = "nowhere"

// way asks the kernel where a host would send a packet: a device's name or
// nowhere. source is the address that it would get, when it has none.
func way(t testing.TB, h *lab.Host, p packet) (dev string, source netip.Addr) {
	t.Helper()
	must(t, h.Do(func() error {
		msg := nl.NewRtMsg()
		msg.Family, msg.Table, msg.Scope, msg.Protocol, msg.Type = unix.AF_INET, 0, 0, 0, 0
		bits := uint8(32)
		if p.dst.Is6() {
			msg.Family, bits = unix.AF_INET6, 128
		}
		msg.Dst_len = bits
		req := nl.NewNetlinkRequest(unix.RTM_GETROUTE, 0)
		req.AddData(msg)
		req.AddData(nl.NewRtAttr(unix.RTA_DST, p.dst.AsSlice()))
		if p.src.IsValid() {
			msg.Src_len = bits
			req.AddData(nl.NewRtAttr(unix.RTA_SRC, p.src.AsSlice()))
		}
		if p.proto != 0 {
			req.AddData(nl.NewRtAttr(unix.RTA_IP_PROTO, []byte{p.proto}))
		}
		if p.sport != 0 {
			req.AddData(nl.NewRtAttr(unix.RTA_SPORT, binary.BigEndian.AppendUint16(nil, p.sport)))
		}
		if p.dport != 0 {
			req.AddData(nl.NewRtAttr(unix.RTA_DPORT, binary.BigEndian.AppendUint16(nil, p.dport)))
		}
		if p.mark != 0 {
			req.AddData(nl.NewRtAttr(unix.RTA_MARK, binary.NativeEndian.AppendUint32(nil, p.mark)))
		}
		if p.iif != "" {
			i, err := net.InterfaceByName(p.iif)
			if err != nil {
				return err
			}
			req.AddData(nl.NewRtAttr(unix.RTA_IIF, binary.NativeEndian.AppendUint32(nil, uint32(i.Index))))
		}
		answer, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
		if errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH) {
			dev = nowhere
			return nil
		}
		if err != nil {
			return err
		}
		m := nl.DeserializeRtMsg(answer[0])
		if m.Type == unix.RTN_UNREACHABLE {
			dev = nowhere
			return nil
		}
		attrs, err := nl.ParseRouteAttr(answer[0][m.Len():])
		if err != nil {
			return err
		}
		for _, a := range attrs {
			switch a.Attr.Type {
			case unix.RTA_OIF:
				i, err := net.InterfaceByIndex(int(binary.NativeEndian.Uint32(a.Value)))
				if err != nil {
					return err
				}
				dev = i.Name
			case unix.RTA_PREFSRC:
				source, _ = netip.AddrFromSlice(a.Value)
			}
		}
		return nil
	}))
	return dev, source
}

// goes demands that a packet takes a way.
func goes(t testing.TB, h *lab.Host, p packet, want, why string) {
	t.Helper()
	if dev, _ := way(t, h, p); dev != want {
		t.Errorf("%s: a packet %+v on %s goes to %q, not to %q", why, p, h, dev, want)
	}
}

const device = "oakley0"

// neighbours are those whose link-layer address a host knows.
func neighbours(h *lab.Host) (map[netip.Addr]bool, error) {
	all := map[netip.Addr]bool{}
	return all, h.Do(func() error {
		list, err := netlink.NeighList(0, netlink.FAMILY_ALL)
		for i := range list {
			if a, ok := netip.AddrFromSlice(list[i].IP); ok && len(list[i].HardwareAddr) > 0 {
				all[a.Unmap()] = true
			}
		}
		return err
	})
}
