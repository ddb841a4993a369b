package tools

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/lab"
)

// nothing: there is nothing to show, and nothing stays that could show it.
func nothing(t *testing.T) {
	p := newPair(t)
	before := p.a.state()
	for _, c := range []struct{ tool, line, want string }{
		{"ipsecctl", "-s all", "FLOWS:\nNo flows\n\nSAD:\nNo entries\n"},
		{"ipsecctl", "-F", ""},
		{"ipsecadm", "show", ""},
		{"ipsecadm", "enable", "esp on\nah off\nip4 not in this data plane\nipcomp on\n"},
	} {
		out, err := p.a.run(c.tool, "%s", c.line)
		if err != nil || out != c.want {
			t.Errorf("%s %s: %v\n%s\nwant\n%s", c.tool, c.line, err, out, c.want)
		}
		if pids := p.a.Find("ipsecd"); len(pids) > 0 {
			t.Errorf("after %s %s there is an ipsecd", c.tool, c.line)
		}
	}
	p.a.unchanged(before)
	if out, err := p.a.run("ipsecctl", "-s all -S /var/run/other.sock"); err == nil || !strings.Contains(out, "nobody listens at /var/run/other.sock") {
		t.Errorf("%v\n%s", err, out)
	}
}

// byHand is scenario 4: two hosts, keyed by hand, as FAQ 13.6 types it.
func byHand(t *testing.T) {
	enc, auth, ah := digits(24), digits(20), digits(32)
	for _, c := range []struct {
		name, more string
		group      bool
		class      lab.Class
	}{{"transport", "", false, lab.ESP}, {"forced tunnel", "-forcetunnel", false, lab.ESP}, {"AH around ESP", "", true, lab.AH}} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t)
			before := [2]lab.State{p.a.state(), p.b.state()}
			there, here := p.b.addr[0], p.a.addr[0]
			for _, h := range []*host{p.a, p.b} {
				for _, d := range []struct {
					spi      string
					src, dst netip.Addr
				}{{"1000", here, there}, {"1001", there, here}} {
					ends := fmt.Sprintf("-src %s -dst %s", d.src, d.dst)
					h.adm("new esp -spi %s %s -enc 3des -auth sha1 -keyfile %s -authkeyfile %s %s", d.spi, ends, keyFile(t, enc), keyFile(t, auth), c.more)
					if c.group {
						h.adm("new ah -spi 2%s %s -auth sha2-256 -keyfile %s", d.spi[1:], ends, keyFile(t, ah))
						h.adm("group -dst %s -spi %s -proto esp -dst2 %s -spi2 2%s -proto2 ah", d.dst, d.spi, d.dst, d.spi[1:])
					}
				}
			}
			for _, d := range [][2]*host{{p.a, p.b}, {p.b, p.a}} {
				own, far := d[0].addr[0], d[1].addr[0]
				const line = "flow -dst %s -proto esp -addr %s 255.255.255.255 %s 255.255.255.255 %s"
				d[0].adm(line, far, own, far, "-out")
				d[0].adm(line, far, far, own, "-in")
			}
			p.passes(c.class, p.a.own(0), p.b.own(0))
			if c.name == "transport" {
				p.lookAt()
			}
			for _, h := range []*host{p.a, p.b} {
				h.adm("delspi -dst %s -spi 1000", there)
				h.adm("delspi -dst %s -spi 1001", here)
			}
			p.closed()
			for i, h := range []*host{p.a, p.b} {
				if i == 0 {
					h.adm("flush")
					p.closed() // b's flows refuse
				} else {
					h.ctl("-F")
				}
				h.unchanged(before[i])
			}
			p.passes(lab.Other, p.a.own(0), p.b.own(0))
		})
	}
}

// lookAt: what is shown of scenario 4 in transport mode.
func (p *pair) lookAt() {
	for _, c := range []struct{ args, want string }{
		{"-s all", `FLOWS:
flow esp in from 192.0.3.1 to 192.0.2.1 peer 192.0.3.1 type require
flow esp out from 192.0.2.1 to 192.0.3.1 peer 192.0.3.1 type require

SAD:
esp transport from 192.0.2.1 to 192.0.3.1 spi 0x00001000 auth hmac-sha1 enc 3des-cbc
esp transport from 192.0.3.1 to 192.0.2.1 spi 0x00001001 auth hmac-sha1 enc 3des-cbc
`},
		{"-s encap", `Routing tables

Encap:
Source             Port  Destination        Port  Proto SA(Address/SPI/Proto/Type/Direction)
192.0.3.1/32       0     192.0.2.1/32       0     0     192.0.3.1/00001001/50/require/in
192.0.2.1/32       0     192.0.3.1/32       0     0     192.0.3.1/00001000/50/require/out
`},
		{"-k -s sa", `esp transport from 192.0.2.1 to 192.0.3.1 spi 0x00001000 auth hmac-sha1 enc 3des-cbc \
	authkey 0x` + digits(20) + ` \
	enckey 0x` + digits(24) + `
esp transport from 192.0.3.1 to 192.0.2.1 spi 0x00001001 auth hmac-sha1 enc 3des-cbc \
	authkey 0x` + digits(20) + ` \
	enckey 0x` + digits(24) + "\n"},
	} {
		if got := p.a.ctl("%s", c.args); got != c.want {
			p.t.Errorf("ipsecctl %s prints\n%s\nwant\n%s", c.args, got, c.want)
		}
	}
	for args, wants := range map[string][]string{
		"-v -s sa": {"\ttraffic:        4 packets, ", " bytes, headers included\n", "\tsequence:       4 last sent, of 32 bits\n", "\tsequence:       not looked at", "\tlast use:       not known: this kernel keeps no time of it\n", "\treplay window:  none", "\tmade by:        hand\n"},
		"-s stats": {"esp:\n\t2 SAs\n\t4 packets received (", "\t4 packets sent (", "ipip:\n\tthis kernel has no such SAs\n", "packets of no SA:\n"},
	} {
		got := p.a.ctl("%s", args)
		for _, w := range wants {
			if !strings.Contains(got, w) {
				p.t.Errorf("ipsecctl %s does not say %q:\n%s", args, w, got)
			}
		}
	}
	// What came in clear is counted.
	p.b.adm("flush")
	if _, err := p.b.Ping(p.a.addr[0], 1, 300*time.Millisecond); err == nil {
		p.t.Error("clear text gets in")
	}
	if got := p.a.ctl("-s stats"); !strings.Contains(got, " dropped: clear text\n") {
		p.t.Errorf("no word of what came in clear:\n%s", got)
	}
	for _, line := range []string{
		"new esp -spi 1000 -src %[1]s -dst %[2]s -enc 3des -auth sha1 -key %[3]s -authkey %[4]s",
		"new esp -spi 1001 -src %[2]s -dst %[1]s -enc 3des -auth sha1 -key %[3]s -authkey %[4]s",
		"flow -dst %[1]s -addr %[2]s/32 %[1]s/32 -out", "flow -dst %[1]s -addr %[1]s/32 %[2]s/32 -in",
	} {
		words := fmt.Sprintf(line, p.a.addr[0], p.b.addr[0], digits(24), digits(20))
		words, _, _ = strings.Cut(words, "%!(EXTRA")
		p.b.adm("%s", words)
	}
}

// killed: what a dead ipsecd has left in the kernel goes on, is shown by the next
// tool, and can be taken away.
func killed(t *testing.T) {
	p := newPair(t)
	before := p.a.state()
	p.tunnel()
	shown := p.a.ctl("-s all")
	if strings.Count(shown, "\n") != 7 {
		t.Errorf("before:\n%s", shown)
	}
	for _, h := range []*host{p.a, p.b} {
		h.kill()
	}
	p.passes(lab.ESP, p.a.own(0), p.b.own(0))
	if got := p.a.ctl("-s all"); got != shown {
		t.Errorf("after a kill\n%s\nwas\n%s", got, shown)
	}
	if len(p.a.Find("ipsecd")) != 1 {
		t.Error("there are SAs, and no ipsecd")
	}
	p.a.kill()
	p.a.adm("delspi -dst %s -spi 1000", p.b.addr[0])
	p.a.kill()
	p.a.ctl("-F")
	p.a.unchanged(before)

	// What our own stack leaves when it is killed keeps clear text in, and looking
	// does not change that.
	ours(t, p.a)
	p.a.adm("flow -dst %s -addr %s %s -out", p.b.addr[0], p.a.net[0], p.b.net[0])
	p.a.kill()
	left := p.a.state()
	for tool, line := range map[string]string{"ipsecctl": "-s all", "ipsecadm": "flush"} {
		if out, err := p.a.run(tool, "%s", line); err == nil || !strings.Contains(out, "an ipsecd with its own stack was killed, and left") {
			t.Errorf("%s %s: %v\n%s", tool, line, err, out)
		}
	}
	if d := left.Diff(p.a.state()); d != "" {
		t.Errorf("looking has changed\n%s", d)
	}
	if err := ours(t, p.a).Stop(inTime); err != nil {
		t.Error(err)
	}
	p.a.unchanged(before)
}

// tunnel makes one between a and b, with both as its ends.
func (p *pair) tunnel() {
	p.t.Helper()
	key := fmt.Sprintf("-enc aes -key %s -auth sha2-256 -authkey %s -forcetunnel", digits(16), digits(32))
	for _, d := range [][2]*host{{p.a, p.b}, {p.b, p.a}} {
		own, far := d[0].addr[0], d[1].addr[0]
		d[0].adm("new esp -spi 1000 -src %s -dst %s %s", p.a.addr[0], p.b.addr[0], key)
		d[0].adm("new esp -spi 1001 -src %s -dst %s %s", p.b.addr[0], p.a.addr[0], key)
		d[0].adm("flow -dst %s -addr %s/32 %s/32 -out", far, own, far)
		d[0].adm("flow -dst %s -addr %s/32 %s/32 -in", far, far, own)
	}
	p.passes(lab.ESP, p.a.own(0), p.b.own(0))
}

// kill ends the ipsecd of a host as nobody expects it.
func (h *host) kill() {
	h.t.Helper()
	for _, pid := range h.Find("ipsecd") {
		must(h.t, unix.Kill(pid, unix.SIGKILL))
	}
	lab.Eventually(h.t, inTime, "ipsecd is dead", func() bool { return len(h.Find("ipsecd")) == 0 })
}

// atOnce: tools that come at the same time find the same ipsecd, which is started
// once.
func atOnce(t *testing.T) {
	p := newPair(t)
	adm, err := lab.Build("oakley/cmd/ipsecadm")
	must(t, err)
	var all []*lab.Process
	const n = 4
	for i := range n {
		line := fmt.Sprintf("ipcomp -cpi %x -src %s -dst %s", 0x1000+i, p.a.addr[0], p.b.addr[0])
		tool, err := p.a.Start(lab.Command{Path: adm, Args: strings.Fields(line), Private: []string{lab.RunDir()}})
		must(t, err)
		all = append(all, tool)
	}
	for _, tool := range all {
		if err := tool.Wait(inTime); err != nil {
			t.Errorf("%v\n%s", err, tool.Log)
		}
	}
	if got := p.a.ctl("-s sa"); strings.Count(got, "ipcomp transport") != n {
		t.Errorf("of %d SAs there are\n%s", n, got)
	}
	lab.Eventually(t, inTime, "one ipsecd is left", func() bool { return len(p.a.Find("ipsecd")) == 1 })
	p.a.ctl("-F")
	lab.Eventually(t, inTime, "it ends", func() bool { return len(p.a.Find("ipsecd")) == 0 })
}

// captured: a shell that reads what a tool prints is done when the tool is.
func captured(t *testing.T) {
	p := newPair(t)
	adm, err := lab.Build("oakley/cmd/ipsecadm")
	must(t, err)
	script := filepath.Join(t.TempDir(), "script")
	must(t, os.WriteFile(script, []byte(fmt.Sprintf(`out=$(%s ipcomp -cpi 1001 -src %s -dst %s 2>&1)
echo "status $?, it said: $out"
%[1]s show | while read -r first rest; do echo "$first"; break; done
`, adm, p.a.addr[0], p.b.addr[0])), 0o600))
	sh, err := lab.Program("sh")
	must(t, err)
	out, err := p.a.RunCommand(inTime, lab.Command{Path: sh, Args: []string{script}, Private: []string{lab.RunDir()}})
	if err != nil || out != "status 0, it said: \nipcomp\n" {
		t.Errorf("%v\n%s", err, out)
	}
	if len(p.a.Find("ipsecd")) != 1 {
		t.Error("the SA has nobody who looks after it")
	}
	p.a.ctl("-F")
}
