package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"oakley/internal/lab"
)

// network is host - gateway - gateway - host, without a router between the
// gateways: what is measured is the gateways.
type network struct {
	*lab.Net
	client, server *lab.Host
	gateway        [2]*lab.Host
	dir            string // for the subjects' files, private
}

// Addresses of the network.
var (
	wan      = [2]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
	lan      = [2]netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.2.0.0/24")}
	serverIP = netip.MustParseAddr("10.2.0.2")
)

func newNetwork() (*network, error) {
	n := &network{Net: lab.Open()}
	if err := n.build(); err != nil {
		n.Close()
		return nil, fmt.Errorf("the network for measuring: %w", err)
	}
	return n, nil
}

func (n *network) build() (err error) {
	if n.dir, err = os.MkdirTemp("", "vpnbench"); err != nil {
		return err
	}
	for _, h := range []struct {
		name string
		host **lab.Host
	}{{"client", &n.client}, {"one", &n.gateway[0]}, {"two", &n.gateway[1]}, {"server", &n.server}} {
		if *h.host, err = n.Host(h.name); err != nil {
			return err
		}
	}
	end := func(h *lab.Host, ifname, addr string) lab.End {
		return lab.End{Host: h, If: ifname, Addrs: []string{addr}}
	}
	return errors.Join(
		n.Connect(end(n.client, "lan", "10.1.0.2/24"), end(n.gateway[0], "lan", "10.1.0.1/24")),
		n.Connect(end(n.gateway[0], "wan", "192.0.2.1/24"), end(n.gateway[1], "wan", "192.0.2.2/24")),
		n.Connect(end(n.gateway[1], "lan", "10.2.0.1/24"), end(n.server, "lan", "10.2.0.2/24")),
		n.gateway[0].Forward(), n.gateway[1].Forward(),
		n.client.Route("default", "10.1.0.1"), n.server.Route("default", "10.2.0.1"),
	)
}

// reachable waits until the tunnel carries packets.
func (n *network) reachable() error {
	s, err := n.client.StartPing(serverIP, 50*time.Millisecond)
	if err != nil {
		return err
	}
	defer s.Stop(0)
	if err := s.AwaitAnswers(2, 15*time.Second); err != nil {
		return fmt.Errorf("the tunnel carries nothing: %w", err)
	}
	return nil
}

// Close ends everything in the network.
func (n *network) Close() {
	n.Net.Close()
	_ = os.RemoveAll(n.dir)
}
