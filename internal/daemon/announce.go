package daemon

import (
	"fmt"
	"net/netip"
	"strings"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// announce says, always, what the daemon is about to do.
func (d *Daemon) announce() {
	info := d.plane.backend().Info()
	d.log.Notice("listening on "+d.socks.String(), fieldEvent, "listen")
	d.log.Notice("data plane: "+planeName(info), fieldEvent, "data-plane")
	if len(info.Lacks) > 0 {
		d.log.Notice("the data plane has not, for want of a module or of a newer kernel: "+strings.Join(info.Lacks, ", "), fieldEvent, "data-plane")
	}
	if !info.CarriesData {
		d.log.Notice("no traffic will pass: SAs are negotiated and installed nowhere")
	}
	d.warn()
}

func planeName(i dataplane.Info) string {
	if i.Detail == "" {
		return i.Name
	}
	return i.Name + ", " + i.Detail
}

// warn writes the configuration's warnings and those of the machine for it, each
// text once as long as it stays true.
func (d *Daemon) warn() {
	now := map[string]bool{}
	say := func(text string) {
		if !d.warned[text] && !now[text] {
			d.log.Warn(text)
		}
		now[text] = true
	}
	for _, w := range d.cfg.warnings {
		say(w)
	}
	if d.plane.backend().Info().CarriesData {
		for _, w := range d.forwardingWarnings() {
			say(w)
		}
	}
	d.warned = now
}

// forwardingWarnings has one line for each family that does not forward although
// a flow is for a network behind us.
func (d *Daemon) forwardingWarnings() []string {
	own := map[netip.Addr]bool{}
	if addrs, err := d.host.LocalAddrs(); err == nil {
		for _, p := range addrs {
			own[p.Addr()] = true
		}
	}
	var warnings []string
	for _, fam := range []struct {
		v6           bool
		name, sysctl string
	}{{false, "IPv4", "net.ipv4.ip_forward"}, {true, "IPv6", "net.ipv6.conf.all.forwarding"}} {
		conn, network, ok := joinsNetworks(d.cfg.flows, fam.v6, own)
		if !ok {
			continue
		}
		if on, err := d.host.Forwards(fam.v6); err != nil || on {
			continue
		}
		warnings = append(warnings, fmt.Sprintf("%s forwarding is off, so no packet of %s passes this gateway (connection %s): sysctl -w %s=1",
			fam.name, network, conn, fam.sysctl))
	}
	return warnings
}

// joinsNetworks finds a flow whose local side is more than addresses of our own.
func joinsNetworks(flows []ipsec.Flow, v6 bool, own map[netip.Addr]bool) (conn string, network netip.Prefix, ok bool) {
	for _, f := range flows {
		p := f.Selector.Src
		if f.Dir == ipsec.Out && p.Addr().Is6() == v6 && (!p.IsSingleIP() || !own[p.Addr()]) {
			return f.Conn, p, true
		}
	}
	return "", netip.Prefix{}, false
}
