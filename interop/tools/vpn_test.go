package tools

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
)

// rcvpn is scenario 5: rc.vpn alone joins two networks, with traffic in both
// directions, and takes everything back.
func rcvpn(t *testing.T, script string) {
	p := newPair(t)
	adm, err := lab.Build("oakley/cmd/ipsecadm")
	must(t, err)
	key, auth := keyFile(t, digits(32)), keyFile(t, digits(32)[2:]+"aa")
	var vpn [2]func(args ...string) (string, error)
	var before [2]lab.State
	for i, h := range []*host{p.a, p.b} {
		far := []*host{p.b, p.a}[i]
		settings := []string{
			"GW_LOCAL=" + h.addr[0].String(), "GW_REMOTE=" + far.addr[0].String(), "LOCAL_NETWORKS=" + h.net[0].String(), "REMOTE_NETWORKS=" + far.net[0].String(),
			fmt.Sprintf("SPI_OUT=%x", 0x1a01+i), fmt.Sprintf("SPI_IN=%x", 0x1a02-i), "KEYFILE=" + key, "AUTHKEYFILE=" + auth, "IPSECADM=" + adm,
		}
		vpn[i] = func(args ...string) (string, error) {
			return h.RunCommand(inTime, lab.Command{Path: script, Args: args, Env: settings, Private: []string{lab.RunDir()}})
		}
		before[i] = h.state()
	}
	x, y := p.a.far(0), p.b.far(0)
	p.passes(lab.Other, x, y)
	for i := range vpn {
		if out, err := vpn[i]("add"); err != nil || out != "" {
			t.Errorf("%v\n%s", err, out)
		}
		if i == 0 {
			p.closed() // half a VPN protects nothing yet, and lets nothing out
		}
	}
	spy := p.spy()
	for _, c := range [][2]end{{x, y}, {p.a.own(0), y}, {x, p.b.own(0)}, {p.a.own(0), p.b.own(0)}} {
		for _, d := range [][2]end{c, {c[1], c[0]}} {
			if err := talks(d[0], d[1]); err != nil {
				t.Errorf("%s to %s: %v", d[0], d[1], err)
			}
		}
	}
	if _, err := x.Send(y.Host, netip.AddrPortFrom(y.addr, 9100), 100<<10, inTime); err != nil {
		t.Error(err)
	}
	if v := spy.Settle(); v.Check() != nil || v.Packets[lab.ESP] < 100 || v.Packets[lab.Other] > 0 {
		t.Errorf("the spy saw %v: %v", v, v.Check())
	}
	spy.Close()
	if out, err := vpn[0]("add"); err == nil || !strings.Contains(out, "there already") {
		t.Errorf("twice: %v\n%s", err, out)
	}
	p.passes(lab.ESP, x, y)
	for i, h := range []*host{p.a, p.b} {
		if out, err := vpn[i]("del"); err != nil || out != "" {
			t.Errorf("%v\n%s", err, out)
		}
		h.unchanged(before[i])
	}
	p.passes(lab.Other, x, y)
}

// talks has a packet go from one address to another and back.
func talks(from, to end) error {
	at := netip.AddrPortFrom(to.addr, 7777)
	echo, err := to.Echo(at)
	if err != nil {
		return err
	}
	defer echo.Close()
	c, err := from.ListenUDP(netip.AddrPortFrom(from.addr, 0))
	if err != nil {
		return err
	}
	defer c.Close()
	err = errors.New("no answer")
	lab.Until(inTime, func() bool {
		if _, err = c.WriteToUDPAddrPort([]byte("hello"), at); err != nil {
			return false
		}
		if err = c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return true
		}
		_, _, err = c.ReadFromUDPAddrPort(make([]byte, 16))
		return err == nil
	})
	return err
}
