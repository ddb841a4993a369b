package ike_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"oakley/internal/dh"
	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// pair is two engines, a clock of its own and a network that does as it is told.
type pair struct {
	t     *testing.T
	now   time.Time
	nodes [2]*node
	queue []delivery
	lossy func(from int, n int, d ike.Transmit) bool // true: lose it
	sent  [2]int
	delay time.Duration
}

type delivery struct {
	at time.Time
	to int
	d  ike.Datagram
}

type node struct {
	e      *ike.Engine
	addr   netip.Addr
	rng    *rand.ChaCha8
	events []ike.Output
	spi    uint32
	live   map[ipsec.SAID]*ipsec.SA
	out    []ipsec.SAID // outgoing, the newest last
	allow  bool
}

func seed(b byte) (s [32]byte) { s[0] = b; return s }

func newPair(t *testing.T, a, b *ike.Config) *pair {
	p := &pair{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), delay: 10 * time.Millisecond}
	for i, c := range []*ike.Config{a, b} {
		p.nodes[i] = p.node(i, c)
	}
	return p
}

func (p *pair) node(i int, c *ike.Config) *node {
	n := &node{addr: addrs[i], rng: rand.NewChaCha8(seed(byte(len(p.queue) + i + 1))), spi: uint32(0x1000 * (i + 1)), live: map[ipsec.SAID]*ipsec.SA{}, allow: true}
	n.e = ike.New(c, n.rng)
	return n
}

var addrs = [2]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")}

func (p *pair) handle(i int, in ike.Input) {
	p.t.Helper()
	n := p.nodes[i]
	n.e.Handle(p.now, in)
	for {
		o, ok := n.e.Poll()
		if !ok {
			return
		}
		p.do(i, n, o)
	}
}

// answer gives a result back after what is being polled.
func (p *pair) do(i int, n *node, o ike.Output) {
	switch o := o.(type) {
	case ike.Transmit:
		p.sent[i]++
		if p.lossy != nil && p.lossy(i, p.sent[i], o) {
			return
		}
		local := o.Local
		if !local.Addr().IsValid() {
			local = netip.AddrPortFrom(n.addr, 500)
		}
		p.queue = append(p.queue, delivery{p.now.Add(p.delay), 1 - i, ike.Datagram{Local: o.Remote, Remote: local, Data: slices.Clone(o.Data)}})
	case ike.AllocSPI:
		n.spi++
		p.handle(i, ike.SPIAllocated{ID: o.ID, SPI: ipsec.SPI(n.spi)})
	case ike.DiffieHellman:
		g, err := dh.Lookup(o.Group)
		r := ike.DHDone{ID: o.ID, Private: o.Private, Err: err}
		if r.Private == nil {
			r.Private, r.Err = g.Generate(n.rng)
		}
		if o.Peer != nil && r.Err == nil {
			r.Shared, r.Err = r.Private.Shared(o.Peer)
		}
		p.handle(i, r)
	case ike.QueryPolicy:
		a := ike.PolicyAnswer{ID: o.ID, Allow: make([]bool, len(o.Proposals))}
		for k := range a.Allow {
			a.Allow[k] = n.allow && o.Conn != ""
		}
		p.handle(i, a)
	case ike.InstallSA:
		for _, sa := range o.SAs {
			n.live[sa.ID] = sa
			if sa.ID.Dir == ipsec.Out {
				n.out = append(n.out, sa.ID)
			}
		}
		p.handle(i, ike.SAInstalled{ID: o.ID})
	case ike.DeleteSA:
		for _, id := range o.SAs {
			delete(n.live, id)
			n.out = slices.DeleteFunc(n.out, func(x ipsec.SAID) bool { return x == id })
		}
	default:
		n.events = append(n.events, o)
	}
}

// run lets d pass.
func (p *pair) run(d time.Duration) {
	p.t.Helper()
	end := p.now.Add(d)
	for steps := 0; ; steps++ {
		if steps > 200000 {
			p.t.Fatal("the two engines do not come to rest")
		}
		next, what := end, -2
		for i, q := range p.queue {
			if !q.at.After(next) {
				next, what = q.at, i
				break
			}
		}
		for i, n := range p.nodes {
			if at, ok := n.e.Deadline(); ok && at.Before(next) {
				next, what = at, -1-i*10
			}
		}
		if next.After(p.now) {
			p.now = next
		}
		switch {
		case what == -2:
			p.now = end
			return
		case what >= 0:
			q := p.queue[what]
			p.queue = slices.Delete(p.queue, what, what+1)
			p.handle(q.to, q.d)
		case what == -1:
			p.handle(0, ike.Timeout{})
		default:
			p.handle(1, ike.Timeout{})
		}
	}
}

// reaches tells whether a packet sent by node i now arrives.
func (p *pair) reaches(i int) error {
	n, o := p.nodes[i], p.nodes[1-i]
	if len(n.out) == 0 {
		return fmt.Errorf("node %d has no outgoing SA", i)
	}
	out := n.live[n.out[len(n.out)-1]]
	in := o.live[ipsec.SAID{Dir: ipsec.In, Proto: out.ID.Proto, SPI: out.ID.SPI, Dst: o.addr}]
	if in == nil {
		return fmt.Errorf("node %d sends on %s, which the other does not listen to", i, out.ID)
	}
	if !slices.Equal(in.Key, out.Key) || !slices.Equal(in.AuthKey, out.AuthKey) || len(out.Key) == 0 {
		return fmt.Errorf("the keys of %s differ", out.ID)
	}
	return nil
}

func (p *pair) mustTalk() {
	p.t.Helper()
	for i := range p.nodes {
		if err := p.reaches(i); err != nil {
			p.t.Error(err)
			for j, n := range p.nodes {
				p.t.Logf("node %d:\n%s", j, n.e.Dump())
				for _, ev := range n.events {
					p.t.Logf("node %d: %v", j, ev)
				}
			}
			p.t.FailNow()
		}
	}
}

func config(i int, group doi.Group) *ike.Config {
	peer := &ike.Peer{
		Name: fmt.Sprintf("node%d", 1-i), Address: addrs[1-i], Local: addrs[i], Key: []byte("mekmitasdigoat"),
		Transforms: []ike.Phase1Transform{{
			Name: "3DES-SHA", Cipher: doi.Cipher3DES, Hash: doi.HashSHA1, Auth: doi.AuthPSK, Group: doi.GroupMODP1024,
			Seconds: ike.Range{Offer: 3600, Min: 60, Max: 86400},
		}},
	}
	nets := [2]netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.2.0.0/24")}
	return &ike.Config{
		NATT: true, Peers: []*ike.Peer{peer},
		Connections: []*ike.Connection{{
			Name: "tunnel", Peer: peer, Active: true, Local: ike.Net{Prefix: nets[i]}, Remote: ike.Net{Prefix: nets[1-i]},
			Suites: []ike.Suite{{Name: "QM", Protocols: []ike.Protocol{{Proto: doi.ProtoESP, Replay: 64, Transforms: []ike.Phase2Transform{{
				Name: "XF", ID: uint8(doi.ESPAES), Auth: doi.AuthHMACSHA1, KeyLength: ike.Range{Offer: 128, Min: 128, Max: 256}, Group: group,
				Seconds: ike.Range{Offer: 1200, Min: 60, Max: 86400},
			}}}}}},
		}},
	}
}

func TestTwoEnginesAgree(t *testing.T) {
	for _, group := range []doi.Group{0, doi.GroupMODP1024, doi.GroupCurve25519} {
		t.Run(group.String(), func(t *testing.T) {
			p := newPair(t, config(0, group), config(1, group))
			p.handle(0, ike.Start{})
			p.run(5 * time.Second)
			p.mustTalk()
		})
	}
}

func TestBothStartAtOnce(t *testing.T) {
	p := newPair(t, config(0, 0), config(1, 0))
	p.handle(0, ike.Start{})
	p.handle(1, ike.Start{})
	p.run(5 * time.Second)
	p.mustTalk()
	p.run(2 * time.Minute)
	p.mustTalk()
	for i, n := range p.nodes {
		if len(n.out) != 1 {
			t.Errorf("node %d has %d outgoing SAs, one is to be left\n%s", i, len(n.out), n.e.Dump())
		}
	}
}

func TestRekeysForADay(t *testing.T) {
	p := newPair(t, config(0, 0), config(1, 0))
	p.handle(0, ike.Start{})
	p.handle(1, ike.Start{})
	p.run(5 * time.Second)
	for range 24 * 60 * 4 {
		p.run(15 * time.Second)
		p.mustTalk()
	}
	for i, n := range p.nodes {
		ups := 0
		for _, o := range n.events {
			if _, ok := o.(ike.Phase2Up); ok {
				ups++
			}
		}
		if ups < 72 || ups > 100 {
			t.Errorf("node %d had %d quick modes in a day, SAs of 20 minutes want 72 at least", i, ups)
		}
		if len(n.live) > 6 {
			t.Errorf("node %d has %d SAs after a day\n%s", i, len(n.live), n.e.Dump())
		}
	}
}

func TestEveryLostMessageIsSurvived(t *testing.T) {
	for from := range 2 {
		for lost := 1; lost <= 5; lost++ {
			t.Run(fmt.Sprintf("node %d, message %d", from, lost), func(t *testing.T) {
				p := newPair(t, config(0, doi.GroupMODP1024), config(1, doi.GroupMODP1024))
				p.lossy = func(f, n int, _ ike.Transmit) bool { return f == from && n == lost }
				p.handle(0, ike.Start{})
				p.run(20 * time.Second)
				p.mustTalk()
			})
		}
	}
}

func TestARestartedPeerComesBack(t *testing.T) {
	for who := range 2 {
		t.Run(fmt.Sprintf("node %d starts", who), func(t *testing.T) {
			p := newPair(t, config(0, 0), config(1, 0))
			p.handle(0, ike.Start{})
			p.run(5 * time.Second)
			p.mustTalk()
			p.queue = make([]delivery, 0, 8)
			p.nodes[1] = p.node(1, config(1, 0))
			p.nodes[1].spi += 100
			if who == 1 {
				p.handle(1, ike.Start{})
				p.run(10 * time.Second)
			} else {
				p.run(20 * time.Minute) // until the rekey
			}
			p.mustTalk()
		})
	}
}

func TestDifferentKeysFailWithAHint(t *testing.T) {
	a, b := config(0, 0), config(1, 0)
	b.Peers[0].Key = []byte("another")
	p := newPair(t, a, b)
	p.handle(0, ike.Start{})
	p.run(30 * time.Second)
	for i, n := range p.nodes {
		if !slices.ContainsFunc(n.events, func(o ike.Output) bool {
			f, ok := o.(ike.Failed)
			return ok && f.Hint != ""
		}) {
			t.Errorf("node %d: no failure with a hint: %v", i, n.events)
		}
	}
}
