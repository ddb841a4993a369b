package tools

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/ipsecadm"
	"oakley/internal/lab"
)

// desk is a person at a host, to whom it does not matter that a program takes a
// tenth of a second to start: commands are carried out here, by the same code, at
// the socket of the host's ipsecd.
type desk struct {
	*host
	r   ipsecadm.Runner
	out bytes.Buffer
}

// sit has a tool start the host's ipsecd, and connects to it.
func sit(t *testing.T, h *host) *desk {
	t.Helper()
	d := &desk{host: h}
	h.adm("ipcomp -cpi 1001 -src %s -dst %s", h.addr[0], h.inner[0]) // it stays for that
	pids := h.Find("ipsecd")
	if len(pids) != 1 {
		t.Fatalf("%d ipsecd on %s", len(pids), h)
	}
	c, err := ipsecd.Dial(t.Context(), filepath.Join("/proc", fmt.Sprint(pids[0]), "root", lab.RunDir(), filepath.Base(ipsecd.DefaultSocket)), ipsecd.NoEvents)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	d.r = ipsecadm.Runner{Backend: c, Out: &d.out, Local: func(a netip.Addr) bool { return slices.Contains(h.addr[:], a) }}
	d.do("flush")
	return d
}

func (d *desk) try(format string, args ...any) error {
	c, _, err := ipsecadm.Parse(strings.Fields(fmt.Sprintf(format, args...)), ipsecadm.ReadKeyFile)
	if err != nil {
		return err
	}
	d.out.Reset()
	return d.r.Run(context.Background(), c)
}

// do carries a command out, and returns what it prints.
func (d *desk) do(format string, args ...any) string {
	d.t.Helper()
	if err := d.try(format, args...); err != nil {
		d.t.Errorf("ipsecadm %s: %v", fmt.Sprintf(format, args...), err)
	}
	return d.out.String()
}

// form is a way of keying by hand, of the commands for one direction.
type form struct {
	name  string
	class lab.Class
	sas   []string // each goes on with the two ends
	group []string // each goes on with the two far ends
	flow  string
	nets  bool
}

func hash(name string, n int) string {
	return fmt.Sprintf("-auth %s -authkey %s ", name, digits(n))
}

// forms are what ipsecadm can make; all but IP in IP and SKIPJACK, which Linux has
// not.
func forms() []form {
	esp := "new esp -spi 1001 -enc aes -key " + digits(16) + " " + hash("sha1", 20)
	ah := "new ah -spi 1002 -auth sha2-256 -key " + digits(32) + " "
	all := []form{
		{"transport", lab.ESP, []string{esp}, nil, "-require", false},
		{"forced tunnel", lab.ESP, []string{esp + "-forcetunnel "}, nil, "-dontacq", false},
		{"tunnel by its flow", lab.ESP, []string{esp}, nil, "-require", true},
		{"in UDP", lab.ESPinUDP, []string{esp + "-forcetunnel -udpencap 4500 "}, nil, "", true},
		{"transport in UDP", lab.ESPinUDP, []string{esp + "-udpencap 4500 "}, nil, "-use", false},
		{"AH tunnel", lab.AH, []string{ah}, nil, "-proto ah", true},
		{"IPComp", lab.Other, []string{"ipcomp -cpi 2 "}, nil, "-proto ipcomp -use", false},
		{"AH over ESP", lab.AH, []string{esp, ah}, []string{"-spi 1001 -spi2 1002 "}, "-require", false},
		{"AH over ESP tunnel", lab.AH, []string{esp, ah}, []string{"-spi 1001 -spi2 1002 "}, "-require", true},
		{"ESP over IPComp", lab.ESP, []string{"ipcomp -cpi 1004 ", esp}, []string{"-spi 1004 -proto ipcomp -spi2 1001 -proto2 esp "}, "-proto ipcomp", true},
		{
			"AH over ESP over IPComp", lab.AH,
			[]string{"ipcomp -cpi 1004 -comp deflate ", esp, ah},
			[]string{"-spi 1001 -spi2 1002 ", "-spi 1004 -proto ipcomp -spi2 1001 -proto2 esp "},
			"-proto ipcomp", false,
		},
	}
	hashes := []struct {
		name string
		key  int
	}{{"md5", 16}, {"sha1", 20}, {"rmd160", 20}, {"sha2-256", 32}, {"sha2-384", 48}, {"sha2-512", 64}}
	for i, c := range []struct {
		enc string
		key int
	}{{"des", 8}, {"3des", 24}, {"blf", 5}, {"blf", 56}, {"cast", 5}, {"cast", 16}, {"aes", 16}, {"aes", 24}, {"aes", 32}, {"null", 0}} {
		h := hashes[i%len(hashes)]
		words := "new esp -spi 1001 -enc " + c.enc + " " + hash(h.name, h.key)
		if c.key > 0 {
			words += "-key " + digits(c.key) + " "
		}
		all = append(all, form{fmt.Sprintf("%s %d %s", c.enc, 8*c.key, h.name), lab.ESP, []string{words}, nil, "-require", false})
	}
	for _, h := range hashes {
		all = append(all, form{"ah " + h.name, lab.AH, []string{"new ah -spi 1001 -auth " + h.name + " -key " + digits(h.key) + " "}, nil, "-proto ah", false})
	}
	return all
}

// everyForm: what ipsecadm can make carries traffic, between two kernels, in both
// address families.
func everyForm(t *testing.T) {
	p := newPair(t)
	a, b := sit(t, p.a), sit(t, p.b)
	ways := [][2]*desk{{a, b}, {b, a}}
	for i, f := range forms() {
		for family := range 2 {
			if i > 0 && !f.nets && family != i%2 {
				continue // between the ends themselves one is like the other
			}
			t.Run(fmt.Sprintf("%s IPv%d", f.name, 4+2*family), func(t *testing.T) {
				p.t, p.a.t, p.b.t = t, t, t
				f.make(ways, family)
				x, y := p.a.own(family), p.b.own(family)
				if f.nets {
					x, y = p.a.far(family), p.b.far(family)
				}
				p.passes(f.class, x, y)
				for _, d := range []*desk{a, b} {
					if out := d.do("show"); strings.Count(out, "made by:        hand") != 2*len(f.sas) {
						t.Errorf("%s shows\n%s", d, out)
					}
					d.do("flush")
					if out := d.do("show"); out != "" {
						t.Errorf("%s has, after flush,\n%s", d, out)
					}
				}
			})
		}
	}
}

func (f *form) make(ways [][2]*desk, family int) {
	for _, here := range []*desk{ways[0][0], ways[1][0]} {
		for _, w := range ways {
			src, dst := w[0].addr[family], w[1].addr[family]
			for _, sa := range f.sas {
				here.do("%s-src %s -dst %s", sa, src, dst)
			}
			for _, g := range f.group {
				here.do("group %s-dst %s -dst2 %s", g, dst, dst)
			}
		}
	}
	for _, w := range ways {
		near, far := one(w[0].addr[family]), one(w[1].addr[family])
		if f.nets {
			near, far = w[0].net[family], w[1].net[family]
		}
		ends := fmt.Sprintf("flow -src %s -dst %s %s", w[0].addr[family], w[1].addr[family], f.flow)
		w[0].do("%s -out -addr %s %s", ends, near, far)
		w[0].do("%s -in -addr %s %s", ends, far, near)
	}
}

func one(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// refused: what the kernel does not do is refused with what it lacks and with what
// does it; mistakes are told as by our own stack.
func refused(t *testing.T) {
	p := newPair(t)
	before := p.a.state()
	ends := fmt.Sprintf("-src %s -dst %s", p.a.addr[0], p.b.addr[0])
	esp := "new esp -spi 1001 -enc aes -key " + digits(16) + " " + hash("sha1", 20) + ends
	const who = `ipsecd's own stack can do it: "ipsecctl -F" removes what the kernel has`
	for _, c := range []struct {
		line string
		says []string
	}{
		{"ip4 -spi 1001 " + ends, []string{"the kernel takes no SA of ipip", "The kernel carries the traffic (Linux ", "it lacks IP in IP as an SA of its own (no module has it)", who}},
		{"new esp -spi 1001 -enc skipjack -key " + digits(10) + " " + hash("sha1", 20) + ends, []string{"the kernel has no Skipjack, in no module", "Skipjack (no module has it)", who}},
		{"enable ip4", []string{"switching ipip as a whole: the kernel takes no SA of ipip", who}},
		{"delspi -dst 192.0.3.1 -spi 1001", []string{"there is no esp SA to 192.0.3.1 with SPI 00001001"}},
		{"flow -delete -dst 192.0.3.1 -addr 192.0.2.1/32 192.0.3.1/32", []string{"no flow that was made by hand"}},
		{"new esp -spi 1001 -enc aes -key " + digits(16) + " " + hash("sha1", 20) + "-src 192.0.2.7 -dst 192.0.3.1", []string{"neither -src 192.0.2.7 nor -dst 192.0.3.1 is an address of this host"}},
	} {
		out, err := p.a.run("ipsecadm", "%s", c.line)
		if err == nil {
			t.Errorf("%s: went well", c.line)
		}
		for _, w := range c.says {
			if !strings.Contains(out, w) {
				t.Errorf("%s: no %q in\n%s", c.line, w, out)
			}
		}
	}
	p.a.adm("%s", esp)
	for line, says := range map[string]string{
		esp: "there already", "flow -dst 192.0.9.9 -src 192.0.9.8 -addr 10.1.0.0/16 10.9.0.0/16": "no address of this host",
	} {
		if out, err := p.a.run("ipsecadm", "%s", line); err == nil || !strings.Contains(out, says) {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
	p.a.adm("delspi -dst %s -spi 1001", p.b.addr[0])
	p.a.unchanged(before)

	// Another program has the port of ESP in UDP.
	taken, err := p.a.ListenUDP(netip.MustParseAddrPort("0.0.0.0:4500"))
	must(t, err)
	defer taken.Close()
	out, err := p.a.run("ipsecctl", "-s all")
	for _, w := range []string{"nobody listens at /var/run/ipsecd.sock", "an isakmpd that carries the traffic itself cannot be asked", "could not be started", "4500", "address already in use"} {
		if err == nil || !strings.Contains(out, w) {
			t.Errorf("with a port that is taken: %v, no %q in\n%s", err, w, out)
		}
	}
}
