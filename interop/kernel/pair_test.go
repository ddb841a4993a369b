package kernel

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
	"oakley/interop"
)

// pairCases are tunnels between two isakmpd, one with the kernel's IPsec and one
// with ipsecd's own.
var pairCases = []tunnelCase{
	{name: "AES-CBC with SHA1", tunnel: interop.Tunnel{P1: interop.Phase1s[5], P2: interop.Phase2s[2], PFS: true, P1Life: 10 * time.Second, P2Life: 5 * time.Second}, want: lab.ESP, rekey: true},
	{name: "SHA2-256", tunnel: interop.Tunnel{P1: interop.Phase1s[5], P2: interop.Phase2s[3]}, want: lab.ESP},
	{name: "AES-GCM", tunnel: interop.Tunnel{P1: interop.Phase1s[4], P2: interop.Phase2s[4]}, want: lab.ESP},
	{name: "3DES", tunnel: interop.Tunnel{P1: interop.Phase1s[5], P2: interop.Phase2s[1]}, want: lab.ESP},
	{name: "AH", tunnel: interop.Tunnel{P1: interop.Phase1s[5], Mode: &ah}, want: lab.AH, clear: true},
	{name: "transport", tunnel: interop.Tunnel{P1: interop.Phase1s[5], Mode: &transport}, want: lab.ESP},
	{name: "IPv6", tunnel: interop.Tunnel{P1: interop.Phase1s[5], P2: interop.Phase2s[2]}, v6: true, want: lab.ESP},
	{name: "AES-GCM behind NAT", tunnel: interop.Tunnel{P1: interop.Phase1s[5], P2: interop.Phase2s[4]}, nat: true, want: lab.ESPinUDP},
}

// withIPsecd: the kernel's IPsec and our own understand each other, whichever of
// the two begins. Behind NAT it is the initiator who is hidden.
func withIPsecd(t *testing.T) {
	var rows []*row
	for _, c := range pairCases {
		for _, initiate := range []bool{true, false} {
			rows = append(rows, &row{tunnelCase: c, initiate: initiate, plane: "kernel"})
		}
	}
	for _, r := range rows {
		t.Run(r.name+", "+r.role(), func(t *testing.T) { r.run(t, r.tryPair) })
	}
	show(t, "ipsecd", rows)
}

func (r *row) tryPair(t *testing.T) {
	s := newSite(t, lab.HowToOptions{NAT: r.nat, NewPorts: r.nat}, r.clear)
	a := s.V4
	if r.v6 {
		a = s.V6
	}
	ragweed, slippery := ends(a, r.tunnel)
	ragweed.Initiate = true
	ragweed.Plane, slippery.Plane = "kernel", "ipsecd"
	if !r.initiate {
		ragweed.Plane, slippery.Plane = slippery.Plane, ragweed.Plane
	}
	right := s.gateway(t, s.Slippery, slippery.IsakmpdConf())
	left := s.gateway(t, s.Ragweed, ragweed.IsakmpdConf())
	left.waits(t, phase2Done)
	right.waits(t, phase2Done)
	there, back := s.pings(t, a, r.tunnel, r.pace())
	if r.rekey {
		for _, line := range []string{phase2Again, phase1Again, phase2Again} {
			_, err := left.d.Log.WaitAfter(left.d.Log.Mark(), line, 30*time.Second)
			must(t, err)
			must(t, there.AwaitAnswers(20, 10*time.Second))
		}
	}
	r.count(t, there, back)
	s.saw(t, r.want, 80)
	if t.Failed() {
		report(t, left.d)
		report(t, right.d)
		dropped(t, s.Dandelion, s.Ragweed, s.Internet, s.Slippery, s.Icy)
	}
	left.ends(t)
	right.ends(t)
}

// policy lets in whoever has the how-to's passphrase, with ESP.
const policy = `KeyNote-Version: 2
Authorizer: "POLICY"
Licensees: "passphrase:mekmitasdigoat"
Conditions: app_domain == "IPsec policy" && esp_present == "yes" && esp_enc_alg != "null" -> "true";
`

// howTo is the how-to's tunnel, with its policy, and with the kernel's IPsec on both
// sides, which nobody asked for: its files say nothing of data planes.
func howTo(t *testing.T) {
	policyFile := filepath.Join(t.TempDir(), "isakmpd.policy")
	must(t, os.WriteFile(policyFile, []byte(policy), 0o600))
	s := newSite(t, lab.HowToOptions{}, false)
	tun := interop.Tunnel{
		Name: "Slippery-Ragweed", P1: interop.Phase1s[1], P2: interop.Phase2s[1], PFS: true, Initiate: true,
	}
	east, west := ends(s.V4, tun)
	file := func(t interop.Tunnel) string {
		conf := strings.Replace(t.IsakmpdConf(), "Data-plane= isakmpd\n", "Policy-file= "+policyFile+"\n", 1)
		return strings.Replace(conf, "Suites= QM-ESP-3DES-SHA-PFS-GRP2-SUITE", "Suites= QM-ESP-3DES-SHA-PFS-SUITE,QM-ESP-DES-MD5-PFS-SUITE", 1)
	}
	var gateways []*gateway
	for h, conf := range map[*lab.Host]string{s.Ragweed: file(east), s.Slippery: file(west)} {
		if !strings.Contains(conf, "DES-MD5") || strings.Contains(conf, "Data-plane") {
			t.Fatalf("this is not the how-to's file:\n%s", conf)
		}
		gateways = append(gateways, s.gateway(t, h, conf))
	}
	for _, g := range gateways {
		g.waits(t, `data plane: kernel, Linux `)
		g.waits(t, phase2Done)
	}
	for _, p := range []struct {
		from *lab.Host
		to   netip.Addr
	}{{s.Dandelion, s.V4.Icy}, {s.Icy, s.V4.Dandelion}} {
		n, err := p.from.Ping(p.to, 20, 15*time.Second)
		must(t, err)
		if n.Lost() != 0 {
			t.Errorf("%s to %s: %v", p.from, p.to, n)
		}
	}
	job, err := s.Dandelion.Send(s.Icy, netip.AddrPortFrom(s.V4.Icy, 9100), 1<<20, time.Minute)
	must(t, err)
	if !job.Intact() {
		t.Errorf("a print job: sent %x, printed %x", job.SentSum, job.GotSum)
	}
	t.Logf("a print job of %d MB in %v of the guest's time", job.Bytes>>20, job.Took.Round(time.Millisecond))
	s.saw(t, lab.ESP, 80)
	for _, g := range gateways {
		tables := g.tables(t)
		if len(tables.states) != 2 || len(tables.policies) != 3 {
			t.Errorf("%s: the kernel has %q, expected two SAs and three policies", g.host, tables)
		}
	}
	for _, g := range gateways {
		g.ends(t)
	}
}
