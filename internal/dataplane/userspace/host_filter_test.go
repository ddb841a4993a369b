package userspace_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/userspace"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// What comes in clear is refused where the SPD says so and nowhere else, whatever
// flows come and go in whatever order, and after a crash too.
func TestTheFilterAgreesWithTheSPD(t *testing.T) {
	types := []ipsec.FlowType{ipsec.FlowRequire, ipsec.FlowUse, ipsec.FlowDeny, ipsec.FlowBypass, ipsec.FlowDontAcq, ipsec.FlowRequire}
	n := howTo(t)
	ipTool(t, n.Ragweed, "route add local 10.64.0.0/10 dev lo") // every address is this host's
	must(t, n.Ragweed.Sysctls(map[string]string{"net.ipv4.conf.lan.accept_local": "1"}))
	ears, mouth := listen(t, n.Ragweed), speak(t, n.Dandelion)
	before := state(t, n.Ragweed)
	seed := rand.Uint64()
	d := &deck{Rand: rand.New(rand.NewPCG(seed, 3))}
	o := &oracle{all: map[ipsec.FlowID]ipsec.Flow{}}
	east := open(t, n.Ragweed, userspace.Options{})
	check := func(round int, when string) {
		t.Helper()
		var sent []packet
		for range 60 {
			p := d.packet()
			p.proto = 17
			sent = append(sent, p)
			mouth.say(t, p, uint16(len(sent)))
		}
		mouth.say(t, packet{src: n.V4.Dandelion, dst: n.V4.RagweedLAN, sport: 9, dport: 500}, 0) // IKE always passes
		heard := ears.until(t, 0)
		for i, p := range sent {
			info := ipsec.PacketInfo{Dir: ipsec.In, Version: 4, Src: p.src, Dst: p.dst, Proto: 17, HasPorts: true, SrcPort: p.sport, DstPort: p.dport}
			f := o.spd.Lookup(&info)
			pass := f == nil || f.Type == ipsec.FlowBypass || f.Type == ipsec.FlowUse || f.Type == ipsec.FlowAcquire
			if pass != heard[uint16(i+1)] {
				t.Fatalf("seed %d, round %d, %s: with the flows\n%s%s port %d -> %s port %d passes: %v", seed, round, when, o, p.src, p.sport, p.dst, p.dport, heard[uint16(i+1)])
			}
		}
	}
	for round := range 40 {
		var changes []ipsec.FlowChange
		for _, c := range d.changes(o, types, 25) {
			if c.Flow.Dir = ipsec.In; c.Flow.ID[0] != '~' {
				changes = append(changes, c)
			}
		}
		here, there := withHome(o, changes)
		must(t, east.ApplyFlows(ctx, here))
		o.apply(t, there)
		check(round, "")
		if round%10 == 9 && len(here) > 0 {
			east.Crash()
			check(round, "after a crash")
			east = open(t, n.Ragweed, userspace.Options{Grace: 200 * time.Millisecond})
			check(round, "with a new process")
			var all []ipsec.FlowChange
			for _, f := range o.all {
				if f.ID[0] != '~' {
					all = append(all, ipsec.FlowChange{Flow: f})
				}
			}
			must(t, east.ApplyFlows(ctx, all))
			lab.Eventually(t, 10*time.Second, "the grace ends", func() bool { return !east.HasLeftovers() })
			check(round, "behind the grace")
		}
	}
	must(t, east.Close())
	if diff := before.Diff(state(t, n.Ragweed)); diff != "" {
		t.Errorf("seed %d: after the end Ragweed is not as it was:\n%s", seed, diff)
	}
}

// withHome adds for the oracle what flows exempt whose far network has their near
// one in it.
func withHome(o *oracle, changes []ipsec.FlowChange) (here, there []ipsec.FlowChange) {
	for _, c := range changes {
		f := c.Flow
		here, there = append(here, c), append(there, c)
		home := ipsec.Flow{ID: "~" + f.ID, Dir: ipsec.In, Type: ipsec.FlowBypass, Order: f.Order}
		if c.Remove {
			if h, ok := o.all[home.ID]; ok {
				there = append(there, ipsec.FlowChange{Remove: true, Flow: h})
			}
			continue
		}
		near, far := f.Selector.Dst, f.Selector.Src
		if f.Type != ipsec.FlowBypass && far.Bits() < near.Bits() && far.Contains(near.Addr()) {
			home.Selector = ipsec.Selector{Src: near, Dst: near}
			there = append(there, ipsec.FlowChange{Flow: home})
		}
	}
	return here, there
}

// socket is a raw one.
type socket struct{ fd int }

func raw(t *testing.T, h *lab.Host, proto int) (s socket) {
	t.Helper()
	must(t, h.Do(func() (err error) {
		s.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
		return err
	}))
	t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

func listen(t *testing.T, h *lab.Host) socket {
	s := raw(t, h, unix.IPPROTO_UDP)
	must(t, unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
	return s
}

func speak(t *testing.T, h *lab.Host) socket { return raw(t, h, unix.IPPROTO_RAW) }

// say sends a datagram that is about a number, from and to whatever address.
func (s socket) say(t *testing.T, p packet, about uint16) {
	t.Helper()
	b := make([]byte, 30)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP
	copy(b[12:], p.src.AsSlice())
	copy(b[16:], p.dst.AsSlice())
	binary.BigEndian.PutUint16(b[20:], p.sport)
	binary.BigEndian.PutUint16(b[22:], p.dport)
	binary.BigEndian.PutUint16(b[24:], 10)
	binary.BigEndian.PutUint16(b[28:], about)
	must(t, unix.Sendto(s.fd, b, 0, &unix.SockaddrInet4{Addr: p.dst.As4()}))
}

// until collects what is heard, up to something about last.
func (s socket) until(t *testing.T, last uint16) map[uint16]bool {
	t.Helper()
	heard := map[uint16]bool{}
	b := make([]byte, 2000)
	for {
		n, _, err := unix.Recvfrom(s.fd, b, 0)
		if err != nil {
			t.Fatal(fmt.Errorf("waiting for the last datagram: %w", err))
		}
		if n != 30 {
			continue
		}
		about := binary.BigEndian.Uint16(b[28:])
		if about == last {
			return heard
		}
		heard[about] = true
	}
}
