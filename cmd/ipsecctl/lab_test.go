package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// gateway is a host with an ipsecd of its own.
type gateway struct {
	*lab.Host
	t      *testing.T
	socket string
	daemon *lab.Process
	plane  *ipsecd.Client
	before lab.State
}

func newGateway(t *testing.T, h *lab.Host) *gateway {
	t.Helper()
	path, err := lab.Build("oakley/cmd/ipsecd")
	must(t, err)
	g := &gateway{Host: h, t: t, socket: filepath.Join(t.TempDir(), "sock")}
	g.before, err = h.State()
	must(t, err)
	g.daemon, err = h.Start(lab.Command{Path: path, Args: []string{"--socket", g.socket}, Private: []string{lab.RunDir()}})
	must(t, err)
	if _, err := g.daemon.Log.Wait("ipsecd is ready", patience); err != nil {
		t.Fatalf("%v\n%s", err, g.daemon.Log)
	}
	g.plane, err = ipsecd.Dial(t.Context(), g.socket, ipsecd.NoEvents)
	must(t, err)
	t.Cleanup(func() { g.plane.Close() })
	return g
}

// stop ends ipsecd, which leaves nothing behind.
func (g *gateway) stop() {
	g.t.Helper()
	if err := g.daemon.Stop(patience); err != nil {
		g.t.Errorf("%v\n%s", err, g.daemon.Log)
	}
	after, err := g.State()
	must(g.t, err)
	if d := g.before.Diff(after); d != "" {
		g.t.Errorf("ipsecd left behind on %s:\n%s", g, d)
	}
}

// ctl runs ipsecctl on the gateway.
func (g *gateway) ctl(args ...string) string {
	g.t.Helper()
	out, err := g.Run(patience, program(g.t), append(args, "-S", g.socket)...)
	must(g.t, err)
	return out
}

// says fails unless ipsecctl prints all of these, within the test's patience.
func (g *gateway) says(args string, wants ...string) {
	g.t.Helper()
	var out, missing string
	ok := lab.Until(patience, func() bool {
		out, missing = g.ctl(strings.Fields(args)...), ""
		for _, w := range wants {
			if !strings.Contains(out, w) {
				missing = w
			}
		}
		return missing == ""
	})
	if !ok {
		g.t.Errorf("ipsecctl %s on %s does not say %q:\n%s", args, g, missing, out)
	}
}

// dropped are the lines of the statistics about what was dropped. What the host
// itself says to neighbours on every device is left out: no flow takes that.
func (g *gateway) dropped() (lines string) {
	g.t.Helper()
	for line := range strings.Lines(g.ctl("-s", "stats")) {
		if strings.Contains(line, " dropped: ") && !strings.Contains(line, " dropped: no flow") || strings.Contains(line, " instead of ") {
			lines += line
		}
	}
	return lines
}

// recording is a capture that can be read while it is written.
type recording struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *recording) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(b)
}

// esp is the first ESP packet with an SPI, from its IP header on.
func (r *recording) esp(t *testing.T, spi ipsec.SPI) []byte {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := pcapgo.NewReader(bytes.NewReader(r.b.Bytes()))
	must(t, err)
	for {
		frame, _, err := p.ReadPacketData()
		if err != nil {
			t.Fatalf("no ESP packet with SPI %s in the capture: %v", spi, err)
		}
		if len(frame) > 14+28 && frame[14] == 0x45 && frame[14+9] == byte(ipsec.ProtoESP) && binary.BigEndian.Uint32(frame[14+20:]) == uint32(spi) {
			return frame[14:]
		}
	}
}

// inject sends whole IPv4 packets from a host, whatever their source says.
func inject(t *testing.T, h *lab.Host, n int, packet []byte) {
	t.Helper()
	must(t, h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		to := unix.SockaddrInet4{Addr: [4]byte(packet[16:20])}
		for range n {
			if err := unix.Sendto(fd, packet, 0, &to); err != nil {
				return err
			}
		}
		return nil
	}))
}

// changed is a copy of a packet with another SPI or sequence number.
func changed(packet []byte, spi ipsec.SPI, later uint32) []byte {
	p := bytes.Clone(packet)
	binary.BigEndian.PutUint32(p[20:], uint32(spi))
	binary.BigEndian.PutUint32(p[24:], binary.BigEndian.Uint32(p[24:])+later)
	return p
}

// cut is a copy of a packet with so much of ESP; the IP header tells the truth.
func cut(packet []byte, esp int) []byte {
	p := bytes.Clone(packet[:20+esp])
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	return p
}

// join makes a tunnel from one gateway to another: SAs with a window, as a daemon
// would make them, and a flow at each end.
func join(t *testing.T, from, to *gateway, src, dst netip.Addr, near, far netip.Prefix, spi ipsec.SPI) {
	t.Helper()
	ctx := context.Background()
	sel := ipsec.Selector{Src: near, Dst: far}
	for _, e := range []struct {
		at            *gateway
		dir           ipsec.Direction
		local, remote netip.Addr
		us, them      string
	}{{to, ipsec.In, dst, src, to.Name, from.Name}, {from, ipsec.Out, src, dst, from.Name, to.Name}} {
		ids := ipsec.IDs{LocalID: e.us + ".example", RemoteID: e.them + ".example"}
		flow := ipsec.Flow{
			ID: ipsec.FlowName("vpn", e.dir), Dir: e.dir, Selector: sel, Order: 100, Local: e.local, Remote: e.remote,
			Proto: ipsec.ProtoESP, Owner: ipsec.OwnerIKE, Conn: "vpn", IDs: ids,
		}
		must(t, e.at.plane.ApplyFlows(ctx, []ipsec.FlowChange{{Flow: flow}}))
		must(t, e.at.plane.AddSA(ctx, &ipsec.SA{
			ID: ipsec.SAID{Dir: e.dir, Proto: ipsec.ProtoESP, SPI: spi, Dst: dst}, Src: src, Selector: sel, Flow: flow.ID,
			Cipher: ipsec.CipherAESCBC, Key: bytes.Repeat([]byte{7}, 32), Auth: ipsec.AuthHMACSHA256, AuthKey: bytes.Repeat([]byte{9}, 32),
			Replay: 64, Owner: ipsec.OwnerIKE, Conn: "vpn", IDs: ids,
		}))
	}
}

// Two gateways, real traffic, and somebody on the way who repeats, forges, cuts
// and invents packets: every packet is counted, under its own reason.
func TestWhatIsCounted(t *testing.T) {
	lab.Need(t, "root", "tun")
	n, err := lab.New(t).HowTo(lab.HowToOptions{})
	must(t, err)
	tape := &recording{}
	spy, err := n.Spy(lab.SpyOptions{Pcap: tape})
	must(t, err)
	a := &n.V4
	ragweed, slippery := newGateway(t, n.Ragweed), newGateway(t, n.Slippery)
	const there, back = 0x1001, 0x2002
	join(t, ragweed, slippery, a.Ragweed, a.Slippery, a.NetBadplants, a.NetCarefull, there)
	join(t, slippery, ragweed, a.Slippery, a.Ragweed, a.NetCarefull, a.NetBadplants, back)

	same := func(g *gateway, args, want string) {
		t.Helper()
		if got := g.ctl(strings.Fields(args)...); got != want {
			t.Errorf("ipsecctl %s on %s prints\n%s\nwant\n%s", args, g, got, want)
		}
	}
	same(slippery, "-s all", `FLOWS:
flow esp in from 10.1.0.0/24 to 10.2.0.0/24 peer 192.0.2.2 srcid Slippery.example dstid Ragweed.example type require
flow esp out from 10.2.0.0/24 to 10.1.0.0/24 peer 192.0.2.2 srcid Slippery.example dstid Ragweed.example type require

SAD:
esp tunnel from 192.0.2.2 to 198.51.100.2 spi 0x00001001 auth hmac-sha2-256 enc aes-256
esp tunnel from 198.51.100.2 to 192.0.2.2 spi 0x00002002 auth hmac-sha2-256 enc aes-256
`)
	same(ragweed, "-s encap", `Routing tables

Encap:
Source             Port  Destination        Port  Proto SA(Address/SPI/Proto/Type/Direction)
10.2.0.0/24        0     10.1.0.0/24        0     0     198.51.100.2/00002002/50/require/in
10.1.0.0/24        0     10.2.0.0/24        0     0     198.51.100.2/00001001/50/require/out
`)

	counts, err := n.Dandelion.Ping(a.Icy, 5, patience)
	must(t, err)
	sight := spy.Settle()
	must(t, sight.Check())
	genuine := tape.esp(t, there)
	sent := many(counts.Sent)
	for _, g := range []*gateway{ragweed, slippery} {
		// A ping of the lab: IP and ICMP headers, its mark and a number.
		g.says("-s stats", "esp:\n\t2 SAs\n\t"+sent+" received (", "\n\t"+sent+" sent (")
		g.says("-v -s sa", "\ttraffic:        "+sent+", ", "\treplay window:  64 packets\n", "\tconnection:     vpn\n")
		if bad := g.dropped(); bad != "" {
			t.Errorf("nothing bad has come to %s yet:\n%s", g, bad)
		}
	}

	// Far ahead of what was sent, so that the window is not what refuses them.
	const ahead = 1 << 20
	forged := changed(genuine, there, ahead)
	forged[len(forged)-1] ^= 1
	inject(t, n.Internet, 3, genuine)
	inject(t, n.Internet, 5, forged)
	inject(t, n.Internet, 2, cut(changed(genuine, there, ahead), 8+16))
	inject(t, n.Internet, 4, cut(genuine, 6))
	inject(t, n.Internet, 7, changed(genuine, 0x6666, 0))
	slippery.says(
		"-s stats",
		"\n\t3 packets received and dropped: replay\n\t\tseen before",
		"\n\t5 packets received and dropped: authentication\n\t\tthe ICV does not match",
		"\n\t2 packets received and dropped: short\n\t\ttoo short",
		"packets of no SA:\n\t4 packets dropped: short\n\t\ttoo short",
		"\n\t7 packets dropped: unknown SPI\n\t\tno SA has the SPI",
		"\n\t"+sent+" received (",
	)
	slippery.says(
		"-v -s sa",
		"\tdropped:        2 short\n\t                3 replay\n\t                5 authentication\n",
		"packets of no SA\n\tdropped:        4 short\n\t                7 unknown SPI\n",
	)
	slippery.says("-vv -s sa", reasonOf("replay"), reasonOf("authentication"))
	slippery.says("-s stats", "esp:\n\t2 SAs\n")
	if bad := ragweed.dropped(); bad != "" {
		t.Errorf("nothing bad has come to Ragweed:\n%s", bad)
	}

	// None of it did any harm.
	if _, err := n.Icy.Ping(a.Dandelion, 3, patience); err != nil {
		t.Error(err)
	}

	for _, g := range []*gateway{ragweed, slippery} {
		same(g, "-F -s all", "FLOWS:\nNo flows\n\nSAD:\nNo entries\n")
		// What was counted is not forgotten.
		g.says("-s stats", "esp:\n\t0 SAs\n")
	}
	slippery.says("-s stats", "\n\t5 packets received and dropped: authentication\n")
	for _, g := range []*gateway{ragweed, slippery} {
		g.stop()
	}
}

func many(n int) string { return fmt.Sprintf("%d packets", n) }

// reasonOf is the beginning of the sentence about a reason.
func reasonOf(name string) string {
	return map[string]string{"replay": "\t                  seen before, or older", "authentication": "\t                  the ICV does not match"}[name]
}
