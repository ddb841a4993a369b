package kernel

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
	"oakley/interop"
)

// tunnelCase is a tunnel and the network in which it is tried.
type tunnelCase struct {
	name   string
	tunnel interop.Tunnel
	v6     bool
	nat    bool   // a router that translates hides Ragweed
	rekey  bool   // both phases are renewed, by the peer, during a ping
	clear  bool   // it encrypts nothing
	own    string // the plane of ours that is tried beside the kernel; default "isakmpd"
	want   lab.Class
}

var (
	ah        = interop.Mode{Protocols: "QM-AH-SHA2-256", Swan: "ah_proposals = sha256"}
	transport = interop.Mode{Protocols: "QM-ESP-TRP-AES-128-SHA", Hosts: true}
)

var cases = []tunnelCase{
	{name: "AES-CBC with SHA1", tunnel: interop.Tunnel{P1: interop.Phase1s[2], P2: interop.Phase2s[2], PFS: true}, want: lab.ESP, rekey: true},
	{name: "SHA2-256", tunnel: interop.Tunnel{P1: interop.Phase1s[3], P2: interop.Phase2s[3]}, want: lab.ESP},
	{name: "AES-GCM", tunnel: interop.Tunnel{P1: interop.Phase1s[2], P2: interop.Phase2s[4]}, want: lab.ESP, own: "ipsecd"},
	{name: "3DES", tunnel: interop.Tunnel{P1: interop.Phase1s[2], P2: interop.Phase2s[1]}, want: lab.ESP, own: "ipsecd"},
	{name: "AH", tunnel: interop.Tunnel{P1: interop.Phase1s[5], Mode: &ah}, want: lab.AH, clear: true},
	{name: "transport", tunnel: interop.Tunnel{P1: interop.Phase1s[2], P2: interop.Phase2s[2], Mode: &transport}, want: lab.ESP},
	{name: "IPv6", tunnel: interop.Tunnel{P1: interop.Phase1s[5], P2: interop.Phase2s[4]}, v6: true, want: lab.ESP},
	{name: "AES-CBC behind NAT", tunnel: interop.Tunnel{P1: interop.Phase1s[2], P2: interop.Phase2s[2]}, nat: true, want: lab.ESPinUDP},
	{name: "AES-GCM behind NAT", tunnel: interop.Tunnel{P1: interop.Phase1s[5], P2: interop.Phase2s[4]}, nat: true, want: lab.ESPinUDP},
}

// row is one line of the table: a case, with one peer, in one role, with one
// data plane of ours.
type row struct {
	tunnelCase
	initiate bool // isakmpd does; behind NAT it is who initiates that is hidden
	plane    string

	pings, lost int
	result      string
}

func (r *row) role() string {
	if r.initiate {
		return "initiator"
	}
	return "responder"
}

// rows are what is tried with a kind of peer. The product of everything is not:
// isakmpd with the kernel's IPsec has every case with both kinds, once in either
// role; with a stack of its own every case with one kind, in either role by turns.
func (k kind) rows() []*row {
	var all []*row
	for i, c := range cases {
		odd := i%2 == 1
		all = append(all, &row{tunnelCase: c, initiate: odd != k.odd, plane: "kernel"})
		if odd != k.odd {
			all = append(all, &row{tunnelCase: c, initiate: i/2%2 == 0, plane: cmp.Or(c.own, "isakmpd")})
		}
	}
	return all
}

// all agrees on each tunnel with a daemon that leaves it to its kernel.
func (k kind) all(t *testing.T) {
	rows := k.rows()
	for _, r := range rows {
		t.Run(fmt.Sprintf("%s, %s, %s", r.name, r.plane, r.role()), func(t *testing.T) {
			r.run(t, func(t *testing.T) { r.try(t, k) })
		})
	}
	show(t, k.name, rows)
}

// run keeps what became of a row.
func (r *row) run(t *testing.T, try func(t *testing.T)) {
	r.result = "failed"
	try(t)
	if !t.Failed() {
		r.result = "passed"
	}
}

// show prints the rows that ran.
func show(t *testing.T, peer string, rows []*row) {
	t.Helper()
	const line = "%-11s %-20s %-10s %-13s %-12s %s\n"
	var b strings.Builder
	fmt.Fprintf(&b, line, "peer", "suite or network", "we are", "plane of ours", "pings lost", "result")
	for _, r := range rows {
		if r.result != "" {
			fmt.Fprintf(&b, line, peer, r.name, r.role(), r.plane, fmt.Sprintf("%d of %d", r.lost, r.pings), r.result)
		}
	}
	t.Log(strings.TrimSpace(b.String()))
}

// every is how often a ping is sent. The guest's processor is slow: it carries no
// more than some hundred packets a second through five hosts.
const every = 50 * time.Millisecond

// pace is how often a row's pings are sent: those that last until both phases are
// renewed, less often.
func (r *row) pace() time.Duration {
	if r.rekey {
		return 2 * every
	}
	return every
}

func (r *row) try(t *testing.T, k kind) {
	s := newSite(t, lab.HowToOptions{NAT: r.nat, NewPorts: r.nat}, r.clear)
	a := s.V4
	if r.v6 {
		a = s.V6
	}
	tun := r.tunnel
	tun.Plane = r.plane
	mine, theirs := ends(a, tun)
	host, far := s.Ragweed, s.Slippery
	if r.nat && !r.initiate {
		host, far, mine, theirs = far, host, theirs, mine
	}
	mine.Initiate = r.initiate
	if r.rekey && k.p1 != 0 {
		theirs.P1Life, theirs.P2Life = k.p1, k.p2
	}
	other, err := k.start(far, t.TempDir(), theirs)
	must(t, err)
	g := s.gateway(t, host, mine.IsakmpdConf())
	if !r.initiate {
		must(t, other.Initiate(30*time.Second))
	}
	g.waits(t, phase2Done)
	must(t, other.Ready(15*time.Second))

	there, back := s.pings(t, a, tun, r.pace())
	if r.rekey {
		k.renew(t, g.d, other, there)
	}
	r.count(t, there, back)
	s.saw(t, r.want, 80)
	if t.Failed() {
		report(t, g.d)
		dropped(t, s.Dandelion, s.Ragweed, s.Internet, s.Slippery, s.Icy)
	}
	g.ends(t)
}

// pings starts pings both ways through a tunnel that is up.
func (s *site) pings(t *testing.T, a lab.Addrs, tun interop.Tunnel, every time.Duration) (there, back *lab.Stream) {
	t.Helper()
	left, right, toLeft, toRight := s.Dandelion, s.Icy, a.Dandelion, a.Icy
	if tun.Mode != nil && tun.Mode.Hosts {
		left, right, toLeft, toRight = s.Ragweed, s.Slippery, a.RagweedSeen, a.Slippery
	}
	// The first data may overtake quick mode's third message.
	_, err := left.Ping(toRight, 1, 15*time.Second)
	must(t, err)
	_, err = right.Ping(toLeft, 1, 15*time.Second)
	must(t, err)
	there, err = left.StartPing(toRight, every)
	must(t, err)
	back, err = right.StartPing(toLeft, every)
	must(t, err)
	return there, back
}

// count ends pings, of which none may be lost.
func (r *row) count(t *testing.T, pings ...*lab.Stream) {
	t.Helper()
	for _, ping := range pings {
		must(t, ping.AwaitAnswers(20, 10*time.Second))
	}
	for _, ping := range pings {
		counts := ping.Stop(5 * time.Second)
		r.pings, r.lost = r.pings+counts.Sent, r.lost+counts.Lost()
		if counts.Lost() != 0 || counts.Duplicates != 0 {
			t.Errorf("ping: %v; lost %v", counts, ping.Missing(10))
		}
	}
}
