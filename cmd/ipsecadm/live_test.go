package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
)

func TestMain(m *testing.M) {
	code := m.Run()
	lab.RemoveBuilds()
	os.Exit(code)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const inTime = 15 * time.Second

// gateway is a host with an ipsecd.
type gateway struct {
	*lab.Host
	t       *testing.T
	program string
	addr    [2]netip.Addr   // IPv4 and IPv6, on the cable
	net     [2]netip.Prefix // behind it
	behind  *lab.Host       // a host there
	inner   [2]netip.Addr   // and its addresses
}

// adm runs ipsecadm, whose words are one text, and returns what it says.
func (g *gateway) adm(format string, args ...any) string {
	g.t.Helper()
	out, err := g.try(format, args...)
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

func (g *gateway) try(format string, args ...any) (string, error) {
	return g.RunCommand(inTime, lab.Command{Path: g.program, Args: strings.Fields(fmt.Sprintf(format, args...)), Private: []string{lab.RunDir()}})
}

// refused runs ipsecadm, which is to refuse and to say why.
func (g *gateway) refused(says, format string, args ...any) {
	g.t.Helper()
	out, err := g.try(format, args...)
	if err == nil || !strings.Contains(out, says) {
		g.t.Errorf("%q is to be refused with %q: %v\n%s", fmt.Sprintf(format, args...), says, err, out)
	}
}

// pair is two gateways on one cable, with a spy.
type pair struct {
	t    *testing.T
	a, b *gateway
}

func newPair(t *testing.T) *pair {
	t.Helper()
	lab.Need(t, "root", "tun")
	n := lab.New(t)
	p := &pair{t: t}
	adm, err := lab.Build("oakley/cmd/ipsecadm")
	must(t, err)
	stack, err := lab.Build("oakley/cmd/ipsecd")
	must(t, err)
	for i, g := range []**gateway{&p.a, &p.b} {
		h, err := n.Host([]string{"a", "b"}[i])
		must(t, err)
		*g = &gateway{Host: h, t: t, program: adm}
		for f, s := range [][3]string{
			{"192.0.2.%d", "10.%d.0.2", "10.%d.0.0/16"},
			{"2001:db8::%d", "fd00:%d::2", "fd00:%d::/64"},
		} {
			(*g).addr[f] = netip.MustParseAddr(fmt.Sprintf(s[0], i+1))
			(*g).inner[f] = netip.MustParseAddr(fmt.Sprintf(s[1], i+1))
			(*g).net[f] = netip.MustParsePrefix(fmt.Sprintf(s[2], i+1))
		}
	}
	must(t, n.Connect(p.a.end(), p.b.end()))
	for i, d := range [][2]*gateway{{p.a, p.b}, {p.b, p.a}} {
		g := d[0]
		g.behind, err = n.Host([]string{"x", "y"}[i])
		must(t, err)
		lan := lab.End{Host: g.Host, If: "lan", Addrs: []string{fmt.Sprintf("10.%d.0.1/16", i+1), fmt.Sprintf("fd00:%d::1/64", i+1)}}
		must(t, n.Connect(lan, lab.End{Host: g.behind, If: "eth", Addrs: []string{g.inner[0].String() + "/16", g.inner[1].String() + "/64"}}))
		must(t, errors.Join(
			g.Forward(), g.behind.Route("default", fmt.Sprintf("10.%d.0.1", i+1)), g.behind.Route("default", fmt.Sprintf("fd00:%d::1", i+1)),
			g.Route(d[1].net[0].String(), d[1].addr[0].String()), g.Route(d[1].net[1].String(), d[1].addr[1].String()),
		))
		s, err := d[0].Start(lab.Command{Path: stack, Private: []string{lab.RunDir()}})
		must(t, err)
		if _, err := s.Log.Wait("ipsecd is ready", inTime); err != nil {
			t.Fatalf("%v\n%s", err, s.Log)
		}
	}
	return p
}

// end is where a gateway is on the cable.
func (g *gateway) end() lab.End {
	return lab.End{Host: g.Host, If: "eth", Addrs: []string{g.addr[0].String() + "/24", g.addr[1].String() + "/64"}}
}

// both runs a command on both gateways.
func (p *pair) both(format string, args ...any) {
	p.t.Helper()
	p.a.adm(format, args...)
	p.b.adm(format, args...)
}

// sas makes an SA for each direction, at both ends. command has a %s for
// "-src ... -dst ...".
func (p *pair) sas(family int, command string) {
	p.t.Helper()
	for _, d := range [][2]*gateway{{p.a, p.b}, {p.b, p.a}} {
		p.both(command, fmt.Sprintf("-src %s -dst %s", d[0].addr[family], d[1].addr[family]))
	}
}

// flows protects what the gateways say to each other, or their networks. outer is
// the family of the tunnel.
func (p *pair) flows(family, outer int, networks bool, words string) {
	p.t.Helper()
	for _, d := range [][2]*gateway{{p.a, p.b}, {p.b, p.a}} {
		near, far := d[0].net[family], d[1].net[family]
		if !networks {
			near, far = one(d[0].addr[family]), one(d[1].addr[family])
		}
		d[0].adm("flow -src %s -dst %s -addr %s %s -out %s", d[0].addr[outer], d[1].addr[outer], near, far, words)
		d[0].adm("flow -src %s -dst %s -addr %s %s -in %s", d[0].addr[outer], d[1].addr[outer], far, near, words)
	}
}

func one(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// group groups SAs of both directions, at both ends.
func (p *pair) group(family int, words string) {
	p.t.Helper()
	for _, d := range [][2]*gateway{{p.a, p.b}, {p.b, p.a}} {
		to := d[1].addr[family]
		p.both("group -dst %s -dst2 %s %s", to, to, words)
	}
}

// traffic pings both ways and sends something long, between the gateways or
// between hosts behind them; what is on the cable is to be of a kind.
func (p *pair) traffic(kind lab.Class, family int, networks bool) {
	p.t.Helper()
	spy, err := p.a.Spy("eth", lab.SpyOptions{})
	must(p.t, err)
	defer spy.Close()
	x, y, from, to := p.a.Host, p.b.Host, p.a.addr[family], p.b.addr[family]
	if networks {
		x, y, from, to = p.a.behind, p.b.behind, p.a.inner[family], p.b.inner[family]
	}
	if _, err := x.Ping(to, 3, inTime); err != nil {
		p.t.Errorf("%v\non a:\n%s\non b:\n%s", err, p.a.adm("show"), p.b.adm("show"))
		return
	}
	if _, err := y.Ping(from, 3, inTime); err != nil {
		p.t.Error(err)
	}
	if _, err := x.Send(y, netip.AddrPortFrom(to, 9100), 1<<18, inTime); err != nil {
		p.t.Error(err)
	}
	if v := spy.Settle(); v.Packets[kind] < 12 || kind != lab.Other && v.Packets[lab.Other] > 0 {
		p.t.Errorf("on the cable were %v, expected %d of one class alone", v, kind)
	}
}

// empty flushes both and looks.
func (p *pair) empty() {
	p.t.Helper()
	p.both("flush")
	for _, g := range []*gateway{p.a, p.b} {
		if out := g.adm("show"); out != "" {
			p.t.Errorf("%s has, after flush,\n%s", g, out)
		}
	}
}

// key is n bytes in hexadecimal digits, in a file of its own or in the command.
func key(t *testing.T, modifier string, n int, file bool) string {
	t.Helper()
	digits := ""
	for i := range n {
		digits += fmt.Sprintf("%02x", byte(7*i+n))
	}
	if !file {
		return modifier + " " + digits
	}
	path := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(path, []byte(digits+"\n"), 0o600))
	return modifier + "file " + path
}

// hashes are the -auth values and their keys' lengths.
var hashes = []struct {
	name string
	key  int
}{{"md5", 16}, {"sha1", 20}, {"rmd160", 20}, {"sha2-256", 32}, {"sha2-384", 48}, {"sha2-512", 64}}

func TestEveryCipherAndHash(t *testing.T) {
	p := newPair(t)
	for i, c := range []struct {
		enc string
		key int
	}{
		{"des", 8},
		{"3des", 24},
		{"blf", 5},
		{"blf", 56},
		{"cast", 5},
		{"cast", 16},
		{"skipjack", 10},
		{"aes", 16},
		{"aes", 24},
		{"aes", 32},
		{"null", 0},
	} {
		family, h := i%2, hashes[i%len(hashes)]
		t.Run(fmt.Sprintf("%s %d %s IPv6 %t", c.enc, 8*c.key, h.name, family == 1), func(t *testing.T) {
			p.at(t)
			words := "new esp %s -spi 1001 -enc " + c.enc + " -auth " + h.name + " " + key(t, "-authkey", h.key, i%3 == 0)
			if c.key > 0 {
				words += " " + key(t, "-key", c.key, i%3 != 0)
			}
			p.sas(family, words)
			p.flows(family, family, false, "-require")
			p.traffic(lab.ESP, family, false)
			if out := p.a.adm("show -esp"); strings.Count(out, "esp transport") != 2 || p.a.adm("show -ah") != "" {
				t.Error(out)
			}
			p.empty()
		})
	}
	for i, h := range hashes {
		family := i % 2
		t.Run(fmt.Sprintf("ah %s IPv6 %t", h.name, family == 1), func(t *testing.T) {
			p.at(t)
			p.sas(family, "new ah %s -spi 1001 -auth "+h.name+" "+key(t, "-key", h.key, i%2 == 0))
			p.flows(family, family, false, "-require -proto ah")
			p.traffic(lab.AH, family, false)
			p.empty()
		})
	}
}

// at makes the gateways report to a subtest.
func (p *pair) at(t *testing.T) { p.t, p.a.t, p.b.t = t, t, t }

func TestEveryForm(t *testing.T) {
	p := newPair(t)
	esp := "new esp %s -spi 1001 -enc aes " + key(t, "-key", 16, true) + " -auth sha1 " + key(t, "-authkey", 20, true) + " "
	ah := "new ah %s -spi 1002 -auth sha2-256 " + key(t, "-key", 32, true) + " "
	for _, f := range []struct {
		name  string
		kind  lab.Class
		sas   []string
		group []string
		flow  string
		nets  bool
	}{
		{"transport", lab.ESP, []string{esp}, nil, "-require", false},
		{"forced tunnel", lab.ESP, []string{esp + "-forcetunnel"}, nil, "-dontacq", false},
		{"tunnel by its flow", lab.ESP, []string{esp}, nil, "-require", true},
		{"in UDP", lab.ESPinUDP, []string{esp + "-forcetunnel -udpencap 4500"}, nil, "", true},
		{"transport in UDP", lab.ESPinUDP, []string{esp + "-udpencap 4500"}, nil, "-use", false},
		{"AH tunnel", lab.AH, []string{ah}, nil, "-proto ah", true},
		{"IP in IP", lab.Other, []string{"ip4 %s -spi 1003"}, nil, "-proto ip4", true},
		{"IPComp", lab.Other, []string{"ipcomp %s -cpi 2"}, nil, "-proto ipcomp -use", false},
		{"AH over ESP", lab.AH, []string{esp, ah}, []string{"-spi 1001 -spi2 1002"}, "-require", false},
		{"AH over ESP tunnel", lab.AH, []string{esp, ah}, []string{"-spi 1001 -spi2 1002"}, "-require", true},
		{"ESP over IPComp", lab.ESP, []string{"ipcomp %s -cpi 1004", esp}, []string{"-spi 1004 -proto ipcomp -spi2 1001 -proto2 esp"}, "-proto ipcomp", true},
		{"ESP over IP in IP", lab.ESP, []string{"ip4 %s -spi 1003", esp}, []string{"-spi 1003 -proto 4 -spi2 1001 -proto2 50"}, "-proto 4", true},
		{
			"AH over ESP over IPComp", lab.AH,
			[]string{"ipcomp %s -cpi 1004 -comp deflate", esp, ah},
			[]string{"-spi 1001 -spi2 1002", "-spi 1004 -proto ipcomp -spi2 1001 -proto2 esp"},
			"-proto ipcomp", false,
		},
	} {
		for family := range 2 {
			t.Run(fmt.Sprintf("%s IPv6 %t", f.name, family == 1), func(t *testing.T) {
				p.at(t)
				for _, sa := range f.sas {
					p.sas(family, sa)
				}
				for _, g := range f.group {
					p.group(family, g)
				}
				p.flows(family, family, f.nets, f.flow)
				p.traffic(f.kind, family, f.nets)
				p.empty()
			})
		}
	}
}

// TestOneFamilyInTheOther: the flows decide which packets a tunnel carries.
func TestOneFamilyInTheOther(t *testing.T) {
	p := newPair(t)
	esp := "new esp %s -spi 1001 -enc aes " + key(t, "-key", 16, true) + " -auth sha1 " + key(t, "-authkey", 20, true) + " -forcetunnel"
	for inner := range 2 {
		t.Run(fmt.Sprintf("IPv6 inside %t", inner == 1), func(t *testing.T) {
			p.at(t)
			p.sas(1-inner, esp)
			p.flows(inner, 1-inner, true, "-require")
			p.traffic(lab.ESP, inner, true)
			p.a.refused("two address families", "flow -dst %s -addr %s %s", p.b.addr[1-inner], p.a.net[1-inner], p.b.net[1-inner])
			p.empty()
		})
	}
}
