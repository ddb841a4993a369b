package samples

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/lab"
)

// offices are one network behind a gateway, and two behind another; a router
// between them carries anything, clear text too.
type offices struct {
	a, b         *lab.Host // the gateways
	spy          *lab.Spy
	ends         []vpnEnd // of a's side, then of b's
	aside        int      // how many are of a's side
	settings     [2][]string
	key, authKey string
}

// vpnEnd is a host and the address by which it is known there.
type vpnEnd struct {
	*lab.Host
	addr netip.Addr
}

const vpnPatience = 15 * time.Second

// newOffices is the network of FAQ 13.6: 192.168.99.0/24 behind 208.1.1.1, and
// 208.1.2.0/24 and 208.1.5.0/24 behind 208.2.2.2.
func newOffices(t *testing.T) *offices {
	t.Helper()
	lab.Need(t, "root", "tun", "sh")
	n := lab.New(t)
	host := func(name string) *lab.Host {
		h, err := n.Host(name)
		must(t, err)
		return h
	}
	o := &offices{a: host("a"), b: host("b")}
	router, a1, b1, b2 := host("router"), host("a1"), host("b1"), host("b2")
	for _, h := range []*lab.Host{o.a, o.b, router} {
		must(t, h.Forward())
	}
	for _, c := range [][2]lab.End{
		{{Host: a1, If: "eth", Addrs: []string{"192.168.99.2/24"}}, {Host: o.a, If: "lan", Addrs: []string{"192.168.99.1/24"}}},
		{{Host: o.a, If: "wan", Addrs: []string{"208.1.1.1/24"}}, {Host: router, If: "a", Addrs: []string{"208.1.1.254/24"}}},
		{{Host: router, If: "b", Addrs: []string{"208.2.2.254/24"}}, {Host: o.b, If: "wan", Addrs: []string{"208.2.2.2/24"}}},
		{{Host: o.b, If: "lan1", Addrs: []string{"208.1.2.1/24"}}, {Host: b1, If: "eth", Addrs: []string{"208.1.2.2/24"}}},
		{{Host: o.b, If: "lan2", Addrs: []string{"208.1.5.1/24"}}, {Host: b2, If: "eth", Addrs: []string{"208.1.5.2/24"}}},
	} {
		must(t, n.Connect(c[0], c[1]))
	}
	for _, r := range []struct {
		h        *lab.Host
		dst, via string
	}{
		{a1, "default", "192.168.99.1"},
		{b1, "default", "208.1.2.1"},
		{b2, "default", "208.1.5.1"},
		{o.a, "default", "208.1.1.254"},
		{o.b, "default", "208.2.2.254"},
		{router, "192.168.99.0/24", "208.1.1.1"},
		{router, "208.1.2.0/24", "208.2.2.2"},
		{router, "208.1.5.0/24", "208.2.2.2"},
	} {
		must(t, r.h.Route(r.dst, r.via))
	}
	var err error
	o.spy, err = router.Spy("b", lab.SpyOptions{Inner: []netip.Prefix{
		netip.MustParsePrefix("192.168.99.0/24"), netip.MustParsePrefix("208.1.2.0/24"), netip.MustParsePrefix("208.1.5.0/24"),
	}})
	must(t, err)
	at := netip.MustParseAddr
	o.ends = []vpnEnd{{o.a, at("208.1.1.1")}, {a1, at("192.168.99.2")}, {o.b, at("208.2.2.2")}, {b1, at("208.1.2.2")}, {b2, at("208.1.5.2")}}
	o.aside = 2
	o.key, o.authKey = "c0ffee1122334455c0ffee2233445566c0ffee3344556677", strings.Repeat("deadbeef", 5)
	common := []string{"ENC=3des", "AUTH=sha1", "SPI_OUT=%s", "SPI_IN=%s", "GW_LOCAL=%s", "GW_REMOTE=%s", "LOCAL_NETWORKS=%s", "REMOTE_NETWORKS=%s"}
	text := strings.Join(common, "\n")
	for i, s := range []string{
		fmt.Sprintf(text, "1a01", "1b02", "208.1.1.1", "208.2.2.2", "192.168.99.0/24", "208.1.2.0/24 208.1.5.0/24"),
		fmt.Sprintf(text, "1b02", "1a01", "208.2.2.2", "208.1.1.1", "208.1.2.0/24 208.1.5.0/24", "192.168.99.0/24"),
	} {
		o.settings[i] = strings.Split(s, "\n")
	}
	return o
}

// program builds one of ours.
func program(t *testing.T, name string) string {
	t.Helper()
	p, err := lab.Build("oakley/cmd/" + name)
	must(t, err)
	return p
}

// startIPsecd runs the stack on a gateway.
func startIPsecd(t *testing.T, h *lab.Host) *lab.Process {
	t.Helper()
	p, err := h.Start(lab.Command{Path: program(t, "ipsecd"), Private: []string{lab.RunDir()}})
	must(t, err)
	if _, err := p.Log.Wait("ipsecd is ready", vpnPatience); err != nil {
		t.Fatalf("%v\n%s", err, p.Log)
	}
	return p
}

// rcvpn is the script as it is, with settings in its environment.
func rcvpn(t *testing.T, settings []string, args ...string) lab.Command {
	t.Helper()
	script, err := filepath.Abs("rc.vpn")
	must(t, err)
	return lab.Command{Path: script, Args: args, Env: append(settings, "IPSECADM="+program(t, "ipsecadm")), Private: []string{lab.RunDir()}}
}

// keyFile writes a key where its owner alone can read it.
func keyFile(t *testing.T, name, key string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, []byte(key+"\n"), 0o600))
	return path
}

// lists is what ipsecadm says of the SAs of a gateway.
func lists(t *testing.T, h *lab.Host) string {
	t.Helper()
	out, err := h.RunCommand(vpnPatience, lab.Command{Path: program(t, "ipsecadm"), Args: []string{"show"}, Private: []string{lab.RunDir()}})
	must(t, err)
	return out
}

// talks has a connection from one end to another carry something both ways.
func talks(from, to vpnEnd, timeout time.Duration) error {
	l, err := to.ListenTCP(netip.AddrPortFrom(to.addr, 0))
	if err != nil {
		return err
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.Copy(c, c)
			c.Close()
		}
	}()
	var c net.Conn
	err = from.Do(func() (err error) {
		d := net.Dialer{Timeout: timeout, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from.addr, 0)), FallbackDelay: -1}
		c, err = d.Dial("tcp", l.Addr().String())
		return err
	})
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(timeout))
	want := bytes.Repeat([]byte("from "+from.String()+" to "+to.String()), 1000)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(want)
		sent <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err = errors.Join(err, <-sent); err == nil && !bytes.Equal(got, want) {
		err = errors.New("what came back is not what was sent")
	}
	return err
}

// pairs calls visit for the six pairs of ends, both ways.
func (o *offices) pairs(visit func(from, to vpnEnd)) {
	for _, a := range o.ends[:o.aside] {
		for _, b := range o.ends[o.aside:] {
			visit(a, b)
			visit(b, a)
		}
	}
}

// TestRcVpnJoinsThreeNetworks is the FAQ's example of manual keying: rc.vpn on
// two gateways, and every pair of ends.
func TestRcVpnJoinsThreeNetworks(t *testing.T) {
	o := newOffices(t)
	state := func(h *lab.Host) lab.State {
		t.Helper()
		now, err := h.State()
		must(t, err)
		return now
	}
	bareA, bareB := state(o.a), state(o.b)
	da, db := startIPsecd(t, o.a), startIPsecd(t, o.b)
	key, authKey := keyFile(t, "key", o.key), keyFile(t, "authkey", o.authKey)
	a := append(o.settings[0], "KEYFILE="+key, "AUTHKEYFILE="+authKey)
	b := append(o.settings[1], "KEYFILE="+key, "AUTHKEYFILE="+authKey)
	beforeA, beforeB := withoutSockets(state(o.a)), withoutSockets(state(o.b))
	_, err := o.a.RunCommand(vpnPatience, rcvpn(t, a, "add"))
	must(t, err)
	// Half a VPN protects nothing yet, and lets nothing out.
	if err := talks(o.ends[1], o.ends[3], time.Second/2); err == nil {
		t.Error("there is a way around the tunnel")
	}
	_, err = o.b.RunCommand(vpnPatience, rcvpn(t, b, "add"))
	must(t, err)
	n := 0
	o.pairs(func(from, to vpnEnd) {
		n++
		if err := talks(from, to, vpnPatience); err != nil {
			t.Errorf("%s - %s: %v", from, to, err)
		}
	})
	if n != 12 {
		t.Errorf("%d connections, want six pairs both ways", n)
	}
	if _, err := o.ends[1].Ping(o.ends[3].addr, 5, vpnPatience); err != nil {
		t.Error(err)
	}
	if _, err := o.ends[1].Send(o.ends[4].Host, netip.AddrPortFrom(o.ends[4].addr, 9100), 10<<20, 2*vpnPatience); err != nil {
		t.Error(err)
	}
	if v := o.spy.Settle(); v.Check() != nil || v.Packets[lab.ESP] == 0 || v.Packets[lab.IKE] != 0 {
		t.Errorf("the spy saw %v: %v", v, v.Check())
	}
	for _, h := range []*lab.Host{o.a, o.b} {
		out := lists(t, h)
		if strings.Count(out, "\n") < 2 || !strings.Contains(out, "1a01") || !strings.Contains(out, "1b02") || strings.Contains(out, "c0ffee") || strings.Contains(out, "deadbeef") {
			t.Errorf("on %s:\n%s", h, out)
		}
	}

	// Twice is a mistake, and does the running VPN no harm.
	if out, err := o.a.RunCommand(vpnPatience, rcvpn(t, a, "add")); err == nil || !strings.Contains(out, "there already") {
		t.Errorf("%v\n%s", err, out)
	}
	if err := talks(o.ends[1], o.ends[3], vpnPatience); err != nil {
		t.Error(err)
	}

	// Nothing stays.
	for _, s := range []struct {
		h        *lab.Host
		settings []string
		before   lab.State
	}{{o.a, a, beforeA}, {o.b, b, beforeB}} {
		_, err := s.h.RunCommand(vpnPatience, rcvpn(t, s.settings, "del"))
		must(t, err)
		if out := lists(t, s.h); out != "" {
			t.Errorf("SAs stayed on %s:\n%s", s.h, out)
		}
		var diff string
		if !lab.Until(vpnPatience, func() bool {
			diff = s.before.Diff(withoutSockets(state(s.h)))
			return diff == ""
		}) {
			t.Errorf("on %s stayed\n%s", s.h, diff)
		}
		if out, err := s.h.RunCommand(vpnPatience, rcvpn(t, s.settings, "del")); err == nil {
			t.Errorf("deleting what is not there went well:\n%s", out)
		}
	}
	for _, d := range []*lab.Process{da, db} {
		must(t, d.Stop(vpnPatience))
		if n := d.Log.Count(" error: "); n != 0 {
			t.Errorf("%s", d.Log)
		}
	}
	if d := bareA.Diff(state(o.a)) + bareB.Diff(state(o.b)); d != "" {
		t.Errorf("ipsecd left behind\n%s", d)
	}
}

// withoutSockets leaves out what ipsecd has open while it runs, whatever it
// carries.
func withoutSockets(s lab.State) lab.State {
	return slices.DeleteFunc(s, func(line string) bool { return strings.HasPrefix(line, "socket ") })
}

// TestRcVpnTakesBackWhatItMade: a step that fails leaves nothing behind.
func TestRcVpnTakesBackWhatItMade(t *testing.T) {
	o := newOffices(t)
	startIPsecd(t, o.a)
	key, authKey := keyFile(t, "key", o.key), keyFile(t, "authkey", o.authKey)
	s := append(o.settings[0], "KEYFILE="+key, "AUTHKEYFILE="+authKey)
	mine := lab.Command{Path: program(t, "ipsecadm"), Private: []string{lab.RunDir()}}
	mine.Args = strings.Fields("flow -in -src 208.1.1.1 -dst 208.2.2.2 -addr 208.1.5.0/24 192.168.99.0/24")
	_, err := o.a.RunCommand(vpnPatience, mine)
	must(t, err)
	out, err := o.a.RunCommand(vpnPatience, rcvpn(t, s, "add"))
	if err == nil || !strings.Contains(out, "-delete") {
		t.Errorf("the last of the flows was there already: %v\n%s", err, out)
	}
	if out := lists(t, o.a); out != "" {
		t.Errorf("SAs stayed:\n%s", out)
	}
	mine.Args = append(mine.Args, "-delete") // it is still there, and alone
	_, err = o.a.RunCommand(vpnPatience, mine)
	must(t, err)
	_, err = o.a.RunCommand(vpnPatience, rcvpn(t, s, "add"))
	must(t, err)
	_, err = o.a.RunCommand(vpnPatience, rcvpn(t, s, "del"))
	must(t, err)
}

// TestRcVpnKeepsKeysToItself: while ipsecadm waits for its key, which comes
// through a pipe, what everybody can see of the processes is searched for keys.
func TestRcVpnKeepsKeysToItself(t *testing.T) {
	o := newOffices(t)
	startIPsecd(t, o.a)
	fifo := filepath.Join(t.TempDir(), "key")
	must(t, unix.Mkfifo(fifo, 0o600))
	s := append(o.settings[0], "KEYFILE="+fifo, "AUTHKEYFILE="+keyFile(t, "authkey", o.authKey))
	vpn, err := o.a.Start(rcvpn(t, s, "add"))
	must(t, err)
	for range 2 { // SAs
		pids := o.waitsForKey(t, fifo)
		for _, pid := range append(pids, vpn.Pid()) {
			for _, what := range []string{"cmdline", "environ"} {
				text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, what))
				must(t, err)
				if bytes.Contains(text, []byte(o.key[:8])) || bytes.Contains(text, []byte(o.authKey[:8])) {
					t.Errorf("the key is in %s of a process: %q", what, text)
				}
				if what == "cmdline" && pid != vpn.Pid() && !bytes.Contains(text, []byte("-keyfile\x00"+fifo)) {
					t.Errorf("a process that is not the one in question: %q", text)
				}
			}
		}
		f, err := os.OpenFile(fifo, os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteString(o.key + "\n")
		must(t, errors.Join(err, f.Close()))
		lab.Eventually(t, vpnPatience, "the ipsecadm that has the key ends", func() bool { return unix.Kill(pids[0], 0) != nil })
	}
	if err := vpn.Wait(vpnPatience); err != nil {
		t.Errorf("%v\n%s", err, vpn.Log)
	}
}

// waitsForKey finds the ipsecadm that opens a pipe which nobody writes to.
func (o *offices) waitsForKey(t *testing.T, fifo string) (pids []int) {
	t.Helper()
	lab.Eventually(t, vpnPatience, "an ipsecadm that waits for its key", func() bool {
		pids = nil
		for _, pid := range o.a.Find("ipsecadm") {
			if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && bytes.Contains(line, []byte(fifo)) {
				pids = append(pids, pid)
			}
		}
		return len(pids) == 1
	})
	return pids
}

// TestRcVpnSaysWhatItWouldDo needs no network.
func TestRcVpnSaysWhatItWouldDo(t *testing.T) {
	lab.Need(t, "sh")
	run := func(settings []string, args ...string) (out string, code int) {
		t.Helper()
		var b bytes.Buffer
		p := execRcVpn(settings, args...)
		p.Stdout, p.Stderr = &b, &b
		_ = p.Run()
		return b.String(), p.ProcessState.ExitCode()
	}
	set := []string{"GW_LOCAL=2001:db8::1", "GW_REMOTE=2001:db8::2", "LOCAL_NETWORKS=fd00:1::/64 fd00:2::/64", "SPI_OUT=2001", "SPI_IN=2002", "ENC=blf", "AUTH=md5", "KEYFILE=/k", "AUTHKEYFILE=/a"}
	want := `ipsecadm new esp -src 2001:db8::1 -dst 2001:db8::2 -spi 2001 -forcetunnel -enc blf -keyfile /k -auth md5 -authkeyfile /a
ipsecadm new esp -src 2001:db8::2 -dst 2001:db8::1 -spi 2002 -forcetunnel -enc blf -keyfile /k -auth md5 -authkeyfile /a
ipsecadm flow -out -addr 2001:db8::1/128 2001:db8::2/128 -src 2001:db8::1 -dst 2001:db8::2 -proto esp -require
ipsecadm flow -in -addr 2001:db8::2/128 2001:db8::1/128 -src 2001:db8::1 -dst 2001:db8::2 -proto esp -require
ipsecadm flow -out -addr fd00:1::/64 2001:db8::2/128 -src 2001:db8::1 -dst 2001:db8::2 -proto esp -require
ipsecadm flow -in -addr 2001:db8::2/128 fd00:1::/64 -src 2001:db8::1 -dst 2001:db8::2 -proto esp -require
ipsecadm flow -out -addr fd00:2::/64 2001:db8::2/128 -src 2001:db8::1 -dst 2001:db8::2 -proto esp -require
ipsecadm flow -in -addr 2001:db8::2/128 fd00:2::/64 -src 2001:db8::1 -dst 2001:db8::2 -proto esp -require
`
	for _, how := range [][]string{{"DEBUG=1", "add"}, {"", "-n", "add"}} {
		if out, code := run(append(set, how[0]), how[1:]...); code != 0 || out != want {
			t.Errorf("%v: %d\n%s\nwant\n%s", how, code, out, want)
		}
	}
	file := filepath.Join(t.TempDir(), "vpn.conf")
	must(t, os.WriteFile(file, []byte(strings.ReplaceAll(strings.Join(set, "\n"), "fd00:1::/64 fd00:2::/64", `"fd00:1::/64 fd00:2::/64"`)), 0o600))
	if out, code := run(nil, "-f", file, "-n", "add"); code != 0 || out != want {
		t.Errorf("%d\n%s", code, out)
	}
	out, code := run(set, "-n", "del")
	if lines := strings.Split(out, "\n"); code != 0 || len(lines) != 9 || !strings.HasSuffix(lines[0], "-require -delete") || lines[7] != "ipsecadm delspi -dst 2001:db8::1 -spi 2002 -proto esp" {
		t.Errorf("%d\n%s", code, out)
	}
	for _, c := range []struct {
		settings, args []string
		says           string
	}{
		{nil, []string{"add"}, "GW_LOCAL is not set"},
		{nil, []string{"del"}, "GW_REMOTE is not set"},
		{append(set, "REMOTE_NETWORKS=10.0.0.0"), []string{"add"}, "10.0.0.0 is no network"},
		{set, nil, "usage:"},
		{set, []string{"-x", "add"}, "usage:"},
		{set, []string{"start"}, "usage:"},
		{set, []string{"-f", "/nowhere/at/all", "add"}, "cannot be read"},
	} {
		if out, code := run(append(c.settings, "IPSECADM=false"), c.args...); code != 2 || !strings.Contains(out, c.says) {
			t.Errorf("%v: %d\n%s", c.args, code, out)
		}
	}
}

// execRcVpn is the script on this machine, which it does not touch.
func execRcVpn(settings []string, args ...string) *exec.Cmd {
	c := exec.Command("./rc.vpn", args...)
	c.Env = append([]string{"PATH=" + os.Getenv("PATH")}, settings...)
	return c
}
