package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
)

// byHand are the two hosts that FAQ 13.6 keys by hand, and what is between them:
// a router that carries anything.
type byHand struct {
	t                *testing.T
	a, b             *gateway
	router           *lab.Host
	addrA, addrB     netip.Addr
	key, auth, ahKey string // files
	ipsecadm         string
}

// SPIs of what goes to b and to a, of ESP and of AH.
const (
	espToB, espToA = "1000", "1001"
	ahToB, ahToA   = "2000", "2001"
)

func newByHand(t *testing.T) *byHand {
	t.Helper()
	s := &byHand{t: t, addrA: netip.MustParseAddr("192.168.5.1"), addrB: netip.MustParseAddr("192.168.25.9")}
	n := lab.New(t)
	host := func(name string) *lab.Host {
		h, err := n.Host(name)
		must(t, err)
		return h
	}
	a, b := host("a"), host("b")
	s.router = host("router")
	must(t, s.router.Forward())
	for _, side := range []struct {
		h              *lab.Host
		own, gw, label string
	}{{a, "192.168.5.1", "192.168.5.254", "east"}, {b, "192.168.25.9", "192.168.25.254", "west"}} {
		must(t, n.Connect(
			lab.End{Host: side.h, If: "wan", Addrs: []string{side.own + "/24"}},
			lab.End{Host: s.router, If: side.label, Addrs: []string{side.gw + "/24"}}))
		must(t, side.h.Route("default", side.gw))
	}
	s.a, s.b = newGateway(t, a), newGateway(t, b)
	var err error
	s.ipsecadm, err = lab.Build("oakley/cmd/ipsecadm")
	must(t, err)
	s.key = s.keyFile("enc", "7762d8707255d974168cbb1d274f8bed4cbd3364aa55aa55")
	s.auth = s.keyFile("auth", "6a20367e21c66e5a40739db293cf2ef2a4e6659f")
	s.ahKey = s.keyFile("ah", strings.Repeat("0f1e2d3c", 8))
	return s
}

// newSpy watches the cable to b.
func (s *byHand) newSpy() *lab.Spy {
	s.t.Helper()
	spy, err := s.router.Spy("west", lab.SpyOptions{Marks: [][]byte{lab.PingMark()}})
	must(s.t, err)
	return spy
}

func (s *byHand) keyFile(name, hex string) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), name)
	must(s.t, os.WriteFile(path, []byte(hex+"\n"), 0o600))
	return path
}

// adm runs ipsecadm on a host, with a line as a person types it.
func (s *byHand) adm(g *gateway, format string, args ...any) string {
	s.t.Helper()
	line := strings.Fields(fmt.Sprintf(format, args...))
	out, err := g.Run(patience, s.ipsecadm, append([]string{"-S", g.socket}, line...)...)
	must(s.t, err)
	return out
}

// both runs a line on both hosts.
func (s *byHand) both(format string, args ...any) {
	s.t.Helper()
	s.adm(s.a, format, args...)
	s.adm(s.b, format, args...)
}

// esp makes both SAs on both hosts.
func (s *byHand) esp(more string) {
	s.t.Helper()
	for _, d := range s.directions(espToB, espToA) {
		s.both("new esp -spi %s -src %s -dst %s -enc 3des -auth sha1 -keyfile %s -authkeyfile %s %s", d.spi, d.src, d.dst, s.key, s.auth, more)
	}
}

type direction struct {
	spi      string
	src, dst netip.Addr
}

func (s *byHand) directions(toB, toA string) []direction {
	return []direction{{toB, s.addrA, s.addrB}, {toA, s.addrB, s.addrA}}
}

// flows makes both flows on both hosts, as the FAQ writes them.
func (s *byHand) flows(proto string) {
	s.t.Helper()
	const line = "flow -dst %s -proto %s -addr %s 255.255.255.255 %s 255.255.255.255 %s"
	for _, e := range []struct {
		g         *gateway
		own, peer netip.Addr
	}{{s.a, s.addrA, s.addrB}, {s.b, s.addrB, s.addrA}} {
		s.adm(e.g, line, e.peer, proto, e.own, e.peer, "-out")
		s.adm(e.g, line, e.peer, proto, e.peer, e.own, "-in")
	}
}

// passes proves that traffic goes both ways, and that nothing is in clear on the
// cable.
func (s *byHand) passes(class lab.Class) {
	s.t.Helper()
	spy := s.newSpy()
	for _, d := range []struct {
		from, to *gateway
		dst      netip.Addr
	}{{s.a, s.b, s.addrB}, {s.b, s.a, s.addrA}} {
		if _, err := d.from.Ping(d.dst, 3, patience); err != nil {
			s.t.Error(err)
		}
		if _, err := d.from.Send(d.to.Host, netip.AddrPortFrom(d.dst, 9100), 10<<20, time.Minute); err != nil {
			s.t.Error(err)
		}
	}
	sight := spy.Settle()
	spy.Close()
	if err := sight.Check(); err != nil {
		s.t.Error(err)
	}
	if sight.Packets[class] < 2*10<<20/1500 || sight.Protected() != sight.Packets[class] {
		s.t.Errorf("the cable carried %s, wanted %s alone", sight, class)
	}
}

// refused proves that not one of ten pings from either side is answered.
func (s *byHand) refused() {
	s.t.Helper()
	for _, d := range []struct {
		from *gateway
		dst  netip.Addr
	}{{s.a, s.addrB}, {s.b, s.addrA}} {
		p, err := d.from.StartPing(d.dst, 20*time.Millisecond)
		must(s.t, err)
		lab.Eventually(s.t, patience, "ten pings are sent", func() bool { return p.Counts().Sent >= 10 })
		if c := p.Stop(0); c.Received > 0 {
			s.t.Errorf("pings from %s: %s", d.from, c)
		}
	}
}

// empty proves that both tables of both hosts are empty.
func (s *byHand) empty() {
	s.t.Helper()
	for _, g := range []*gateway{s.a, s.b} {
		if out := g.ctl("-s", "all"); out != "FLOWS:\nNo flows\n\nSAD:\nNo entries\n" {
			s.t.Errorf("%s still has\n%s", g, out)
		}
		if out := g.ctl("-s", "encap"); strings.Contains(out, "192.168.") {
			s.t.Errorf("%s still has\n%s", g, out)
		}
		if out := s.adm(g, "show"); strings.Contains(out, "192.168.") {
			s.t.Errorf("ipsecadm show on %s still has\n%s", g, out)
		}
	}
}

// end takes everything away and proves that nothing passes on the way there: SAs
// first, so that the flows have none; then one host's flows, so that the other's
// refuse; then those. The hosts are as they were when ipsecd has ended.
func (s *byHand) end(proto, spiA, spiB string) {
	s.t.Helper()
	spy := s.newSpy()
	for _, d := range s.directions(spiA, spiB) {
		s.both("delspi -dst %s -spi %s -proto %s", d.dst, d.spi, proto)
	}
	s.refused()
	sight := spy.Settle()
	spy.Close()
	if err := sight.Check(); err != nil {
		s.t.Error(err)
	}
	s.a.says("-s encap", "192.168.25.9/00000000/", "/require/out")
	s.adm(s.a, "flush")
	s.refused()
	s.adm(s.b, "flush")
	s.empty()
	for _, g := range []*gateway{s.a, s.b} {
		g.stop()
	}
}

// Scenario 4: two hosts, keyed by hand, in transport mode and in a tunnel; the
// first with AH around ESP too.
func TestScenario4(t *testing.T) {
	lab.Need(t, "root", "tun")
	t.Run("transport", func(t *testing.T) {
		s := newByHand(t)
		s.esp("")
		s.flows("esp")
		if got, want := s.a.ctl("-s", "all"), `FLOWS:
flow esp in from 192.168.25.9 to 192.168.5.1 peer 192.168.25.9 type require
flow esp out from 192.168.5.1 to 192.168.25.9 peer 192.168.25.9 type require

SAD:
esp transport from 192.168.5.1 to 192.168.25.9 spi 0x00001000 auth hmac-sha1 enc 3des-cbc
esp transport from 192.168.25.9 to 192.168.5.1 spi 0x00001001 auth hmac-sha1 enc 3des-cbc
`; got != want {
			t.Errorf("ipsecctl -s all prints\n%s\nwant\n%s", got, want)
		}
		if got, want := s.b.ctl("-s", "encap"), `Routing tables

Encap:
Source             Port  Destination        Port  Proto SA(Address/SPI/Proto/Type/Direction)
192.168.5.1/32     0     192.168.25.9/32    0     0     192.168.5.1/00001000/50/require/in
192.168.25.9/32    0     192.168.5.1/32     0     0     192.168.5.1/00001001/50/require/out
`; got != want {
			t.Errorf("ipsecctl -s encap prints\n%s\nwant\n%s", got, want)
		}
		s.passes(lab.ESP)
		s.a.says("-v -s sa", "\treplay window:  none", "\tmade by:        hand\n")
		s.a.says("-k -s sa", "\tauthkey 0x6a20367e21c66e5a40739db293cf2ef2a4e6659f \\\n\tenckey 0x7762d8707255d974168cbb1d274f8bed4cbd3364aa55aa55\n")
		s.end("esp", espToB, espToA)
	})
	t.Run("forced tunnel", func(t *testing.T) {
		s := newByHand(t)
		s.esp("-forcetunnel")
		s.flows("esp")
		s.a.says("-s sa", "esp tunnel from 192.168.5.1 to 192.168.25.9 spi 0x00001000 auth hmac-sha1 enc 3des-cbc\n")
		s.passes(lab.ESP)
		s.end("esp", espToB, espToA)
	})
	t.Run("AH around ESP", func(t *testing.T) {
		s := newByHand(t)
		s.esp("")
		for _, d := range s.directions(ahToB, ahToA) {
			s.both("new ah -spi %s -src %s -dst %s -auth sha2-256 -keyfile %s", d.spi, d.src, d.dst, s.ahKey)
		}
		s.both("group -dst %s -spi %s -proto esp -dst2 %s -spi2 %s -proto2 ah", s.addrB, espToB, s.addrB, ahToB)
		s.both("group -dst %s -spi %s -proto esp -dst2 %s -spi2 %s -proto2 ah", s.addrA, espToA, s.addrA, ahToA)
		s.flows("esp")
		s.passes(lab.AH)
		s.a.says("-v -s sa", "ah transport from 192.168.5.1 to 192.168.25.9 spi 0x00002000 auth hmac-sha2-256\n", ": number 2 of 2, counted from the plain packet\n")
		s.end("ah", ahToB, ahToA)
	})
}
