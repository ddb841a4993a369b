package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"oakley/internal/netio"
	"oakley/internal/tun"
)

// The forwarder without cryptography: what a tunnel of this shape can reach at
// most. It reads and writes the same devices and sockets in the same batches as
// the data plane and adds as many bytes as AES-GCM does, and that is all.

const (
	forwardDevice = "forward0"
	forwardMTU    = 1420
	headBytes     = 16 // ESP header and IV
	tailBytes     = 18 // trailer and ICV
	forwardBatch  = 128
	forwardPort   = 4500
	espProtocol   = 50
)

// forward carries packets between the TUN device and a peer until it is killed.
func forward(kind string, local, remote netip.Addr) error {
	conn, to, err := forwardConn(kind, local, remote)
	if err != nil {
		return err
	}
	dev, err := tun.Open(tun.Options{Name: forwardDevice, MTU: forwardMTU, Offload: true})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	failed := make(chan error, 2)
	go func() { failed <- forwardOut(dev, conn, to) }()
	go func() { failed <- forwardIn(dev, conn) }()
	return <-failed
}

func forwardConn(kind string, local, remote netip.Addr) (netio.Conn, netip.AddrPort, error) {
	switch kind {
	case "udp":
		c, err := netio.Host{}.OpenUDP(netio.UDPOptions{Local: netip.AddrPortFrom(local, forwardPort), Offload: true})
		return c, netip.AddrPortFrom(remote, forwardPort), err
	case "raw":
		c, err := netio.Host{}.OpenRaw(netio.RawOptions{Local: local, Proto: espProtocol})
		return c, netip.AddrPortFrom(remote, 0), err
	}
	return nil, netip.AddrPort{}, fmt.Errorf("forward %s: expected udp or raw", kind)
}

func forwardOut(dev tun.Device, conn netio.Conn, to netip.AddrPort) error {
	bufs, sizes := make([][]byte, forwardBatch), make([]int, forwardBatch)
	for i := range bufs {
		bufs[i] = make([]byte, headBytes+forwardMTU+tailBytes)
	}
	out := netio.NewSendBatch(forwardBatch, true)
	for {
		n, err := dev.Read(bufs, sizes, headBytes)
		if err != nil {
			return fmt.Errorf("reading the device: %w", err)
		}
		for i := range n {
			out.Add(bufs[i][:headBytes+sizes[i]+tailBytes], netip.AddrPort{}, to)
		}
		if _, err := conn.Send(out); errors.Is(err, net.ErrClosed) {
			return err
		}
	}
}

func forwardIn(dev tun.Device, conn netio.Conn) error {
	in := netio.NewRecvBatch(16)
	pkts := make([][]byte, 0, 1024)
	for {
		if err := conn.Recv(in); err != nil {
			return fmt.Errorf("reading the socket: %w", err)
		}
		pkts = pkts[:0]
		for i := range in.Msgs {
			for data, ok := in.Msgs[i].Next(); ok; data, ok = in.Msgs[i].Next() {
				if len(data) > headBytes+tailBytes {
					pkts = append(pkts, data[headBytes:len(data)-tailBytes])
				}
			}
		}
		if len(pkts) > 0 {
			_, _ = dev.Write(pkts)
		}
	}
}

// forwarder is a subject: two of these.
type forwarder struct{ kind string }

func (f forwarder) name() string { return "no cryptography, " + f.kind }

func (f forwarder) start(n *network) (pids [2]int, err error) {
	for i, h := range n.gateway {
		p, err := n.self(h, "forward", f.kind, wan[i].String(), wan[1-i].String())
		if err != nil {
			return pids, err
		}
		if _, err := p.Log.Wait("ready", 5*time.Second); err != nil {
			return pids, fmt.Errorf("the forwarder did not start: %w\n%s", err, p.Log)
		}
		if err := routeInto(h, forwardDevice, lan[1-i]); err != nil {
			return pids, err
		}
		pids[i] = p.Pid()
	}
	return pids, nil
}
