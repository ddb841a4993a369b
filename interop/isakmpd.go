package interop

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"oakley/internal/lab"
)

// Isakmpd is our daemon on a host.
type Isakmpd struct {
	*lab.Process
	Conf string // its configuration file
}

// StartIsakmpd runs isakmpd with a configuration and more flags than those that
// every test needs: foreground, verbose, and no policy but one that the
// configuration names. dir is a private folder
// for its files; /var/run is the daemon's own.
func StartIsakmpd(h *lab.Host, dir, conf string, flags ...string) (*Isakmpd, error) {
	if _, err := lab.Build("oakley/cmd/ipsecd"); err != nil { // isakmpd finds it beside itself
		return nil, err
	}
	prog, err := lab.Build("oakley/cmd/isakmpd")
	if err != nil {
		return nil, err
	}
	d := &Isakmpd{Conf: filepath.Join(dir, "isakmpd.conf")}
	if err := os.WriteFile(d.Conf, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	args := []string{"-d", "-v", "-c", d.Conf}
	if !strings.Contains(conf, "\nPolicy-file=") {
		args = append(args, "-K")
	}
	d.Process, err = h.Start(lab.Command{Path: prog, Args: append(args, flags...), Private: []string{lab.RunDir()}})
	if err != nil {
		return nil, err
	}
	if _, err := d.Log.Wait(listens, 10*time.Second); err != nil {
		d.Kill()
		return nil, fmt.Errorf("isakmpd on %s did not start: %w\n%s\nconfiguration:\n%s", h, err, d.Log, conf)
	}
	return d, nil
}

// listens is in the line that says that the daemon is ready.
const listens = `listening on `

// End stops the daemon and demands that it ends well.
func (d *Isakmpd) End() error {
	if err := d.Stop(10 * time.Second); err != nil {
		return fmt.Errorf("isakmpd did not end well: %w", err)
	}
	return nil
}

// IsakmpdConf writes the tunnel down as isakmpd.conf. With Initiate the daemon
// starts the tunnel by itself, else it accepts it.
func (t Tunnel) IsakmpdConf() string {
	t.Defaults()
	list := "Passive-connections"
	if t.Initiate {
		list = "Connections"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `[General]
Listen-on= %[1]s
Retransmits= 3
Exchange-max-time= 30
Data-plane= %[11]s
Default-phase-1-lifetime= %[2]d,2:86400
Default-phase-2-lifetime= %[3]d,2:86400

[Phase 1]
%[4]s= peer

[Phase 2]
%[5]s= %[6]s

[peer]
Phase= 1
Transport= udp
Local-address= %[1]s
Address= %[4]s
Configuration= main-mode
Authentication= %[7]s

[main-mode]
DOI= IPSEC
EXCHANGE_TYPE= ID_PROT
Transforms= %[8]s

[%[6]s]
Phase= 2
ISAKMP-peer= peer
Configuration= quick-mode
%[10]s
[quick-mode]
DOI= IPSEC
EXCHANGE_TYPE= QUICK_MODE
Suites= %[9]s
`, t.Local, int(t.P1Life.Seconds()), int(t.P2Life.Seconds()), t.Remote, list, t.Name, t.Secret, t.P1.Isakmpd, t.suite(), t.ids(), t.Plane)
	b.WriteString(t.sections())
	if t.hosts() {
		return b.String()
	}
	writeID(&b, "net-local", t.LocalNet)
	writeID(&b, "net-remote", t.RemoteNet)
	return b.String()
}

// hosts tells whether the tunnel's ends themselves are joined.
func (t Tunnel) hosts() bool { return t.Mode != nil && t.Mode.Hosts }

func (t Tunnel) ids() string {
	if t.hosts() {
		return ""
	}
	return "Local-ID= net-local\nRemote-ID= net-remote\n"
}

func writeID(b *strings.Builder, name string, n netip.Prefix) {
	family := "IPV4"
	if n.Addr().Is6() {
		family = "IPV6"
	}
	mask, _ := netip.AddrFromSlice(net.CIDRMask(n.Bits(), n.Addr().BitLen()))
	fmt.Fprintf(b, "\n[%s]\nID-type= %s_ADDR_SUBNET\nNetwork= %s\nNetmask= %s\n", name, family, n.Addr(), mask)
}
