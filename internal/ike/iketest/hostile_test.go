package iketest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// lie is a datagram that somebody without keys sends.
type lie struct {
	name string
	data []byte
}

// lies are what may be said about a pair of cookies without having any keys:
// everything that has made daemons do something.
func lies(r *rand.Rand, i, c isakmp.Cookie, live []ipsec.SPI) []lie {
	var all []lie
	add := func(name string, data []byte) { all = append(all, lie{name, data}) }
	inClear := func(name string, ps ...isakmp.Payload) {
		for _, id := range []uint32{0, r.Uint32() | 1} {
			add(name, Clear(i, c, doi.ExchangeInformational, id, ps...))
			add(name+" the other way round", Clear(c, i, doi.ExchangeInformational, id, ps...))
			add(name+" without a responder", Clear(i, isakmp.Cookie{}, doi.ExchangeInformational, id, ps...))
		}
	}
	for n := range doi.Notify(31) {
		inClear("notify "+n.String(), &isakmp.Notify{DOI: doi.IPsec, Protocol: doi.ProtoISAKMP, Type: n})
	}
	both := append(bytes.Clone(i[:]), c[:]...)
	for _, n := range []doi.Notify{doi.NotifyInitialContact, doi.NotifyResponderLifetime, doi.NotifyReplayStatus, doi.NotifyConnected, doi.NotifyDPDRUThere, doi.NotifyDPDRUThereAck} {
		inClear("notify "+n.String(), &isakmp.Notify{DOI: doi.IPsec, Protocol: doi.ProtoISAKMP, SPI: both, Type: n, Data: []byte{0, 0, 0, 1}})
	}
	inClear("delete of the ISAKMP SA", &isakmp.Delete{DOI: doi.IPsec, Protocol: doi.ProtoISAKMP, SPISize: 16, SPIs: [][]byte{both}})
	for _, s := range live {
		inClear("delete of an IPsec SA", &isakmp.Delete{DOI: doi.IPsec, Protocol: doi.ProtoESP, SPISize: 4, SPIs: [][]byte{SPIBytes(s)}})
		inClear("invalid SPI", &isakmp.Notify{DOI: doi.IPsec, Protocol: doi.ProtoESP, SPI: SPIBytes(s), Type: doi.NotifyInvalidSPI})
	}
	garbage := func(n int) []byte {
		b := make([]byte, n)
		for k := range b {
			b[k] = byte(r.Uint32())
		}
		return b
	}
	for _, x := range []doi.Exchange{1, doi.ExchangeMain, 3, doi.ExchangeAggressive, doi.ExchangeInformational, doi.ExchangeTransaction, doi.ExchangeQuick, 33, 34, 35, 36, 37, 240} {
		for _, flags := range []isakmp.Flags{0, isakmp.FlagEncrypted, isakmp.FlagEncrypted | isakmp.FlagCommit, isakmp.FlagCommit} {
			for _, n := range []int{0, 1, 16, 64, 200} {
				h := isakmp.Header{Initiator: i, Responder: c, NextPayload: doi.PayloadHash, Version: isakmp.Version, Exchange: x, Flags: flags, MessageID: r.Uint32(), Length: uint32(isakmp.HeaderLen + n)}
				if x == doi.ExchangeMain && n%2 == 0 {
					continue // whoever can put these between two hosts can end their exchange: RFC 2409 section 5
				}
				add(fmt.Sprintf("%s, flags %s, %d bytes of garbage", x, flags, n), append(isakmp.AppendHeader(nil, h), garbage(n)...))
			}
		}
	}
	h := isakmp.Header{Initiator: i, Responder: c, NextPayload: doi.PayloadSA, Version: isakmp.Version, Exchange: doi.ExchangeMain, Length: 28}
	for _, v := range []uint8{0x20, 0x11, 0x00, 0xff} {
		h.Version = v
		add("another version", isakmp.AppendHeader(nil, h))
	}
	h.Version = isakmp.Version
	for _, l := range []uint32{0, 27, 29, 0x7fffffff, 0xffffffff} {
		h.Length = l
		add("a length that is a lie", isakmp.AppendHeader(nil, h))
	}
	for n := range 28 {
		add("less than a header", garbage(n))
	}
	other := c
	other[3] ^= 1
	add("main mode with another cookie", Clear(i, other, doi.ExchangeMain, 0, &isakmp.KE{Data: garbage(32)}, &isakmp.Nonce{Data: garbage(20)}))
	add("main mode with a message ID", Clear(i, c, doi.ExchangeMain, 7, &isakmp.KE{Data: garbage(32)}, &isakmp.Nonce{Data: garbage(20)}))
	return all
}

// unmoved gives a node a datagram that must change nothing and get at most one
// answer, and fails the test otherwise.
func (n *Node) unmoved(what, from string, data []byte) {
	n.World.T.Helper()
	before, requests, sent := n.State(), fmt.Sprint(n.Requests), n.Transmits
	n.Handle(ike.Datagram{Local: addrPort(n.Addr.String() + ":500"), Remote: addrPort(from), Data: bytes.Clone(data)})
	if after := n.State(); !bytes.Equal(before, after) {
		n.World.Errorf("%s: %s changes the state from\n%sto\n%s", n.Name, what, before, after)
	}
	if now := fmt.Sprint(n.Requests); now != requests {
		n.World.Errorf("%s: %s costs requests: %s, before %s", n.Name, what, now, requests)
	}
	if n.Transmits > sent+1 {
		n.World.Errorf("%s: %s gets %d answers", n.Name, what, n.Transmits-sent)
	}
}

// TestLies tells both sides every lie after each message of a handshake, from a
// stranger's address and from the peer's own, and the handshake goes on as if
// nothing had been.
func TestLies(t *testing.T) {
	for after := 0; after <= 9; after++ {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			t.Parallel()
			g := NewGateways(t, Setup{Suites: []ike.Suite{PFSESP}})
			count, told := 0, 0
			tell := func() {
				i, r := isakmp.Cookie{1}, isakmp.Cookie{2}
				if s := g.Observer().Sessions(); len(s) > 0 {
					i, r = s[len(s)-1].I, s[len(s)-1].R
				}
				var live []ipsec.SPI
				for _, n := range []*Node{g.West, g.East} {
					for _, sa := range n.Plane.Live(ipsec.In) {
						live = append(live, sa.ID.SPI)
					}
				}
				for _, l := range lies(g.Rand(), i, r, live) {
					told++
					for _, from := range []string{"203.0.113.66:500", "203.0.113.66:4500"} {
						g.West.unmoved(l.name, from, l.data)
						g.East.unmoved(l.name, from, l.data)
					}
					g.West.unmoved(l.name, "198.51.100.2:500", l.data)
					g.East.unmoved(l.name, "192.0.2.1:500", l.data)
				}
			}
			g.Tap = func(p *Packet) []Delivery {
				if count++; count == after {
					g.After(9*time.Millisecond, tell)
					g.After(11*time.Millisecond, tell)
				}
				return Pass(p)
			}
			if after == 0 {
				tell()
			}
			g.West.Initiate("vpn")
			g.MustUp(10 * time.Second)
			if told < 500 {
				t.Errorf("only %d lies were told", told)
			}
			if g.Since() > time.Second {
				t.Errorf("the handshake took %s", g.Since())
			}
			g.MustSettle()
		})
	}
}

// TestLiesWithoutAnExchange: a daemon that knows nobody stays as it is.
func TestLiesWithoutAnExchange(t *testing.T) {
	g := NewGateways(t, Setup{})
	for _, l := range lies(g.Rand(), isakmp.Cookie{1}, isakmp.Cookie{2}, []ipsec.SPI{4097}) {
		g.East.unmoved(l.name, "192.0.2.1:500", l.data)
	}
}

// record is all that was sent, with where it went.
type record struct {
	step step
	to   *Node
	from string
	data []byte
}

func (g *Gateways) recordAll() *[]record {
	var all []record
	g.Tap = func(p *Packet) []Delivery {
		to := g.West
		if p.To.Addr() == g.East.Addr {
			to = g.East
		}
		s := g.Observer().Of(p.Data)
		all = append(all, record{step{s.Exchange, s.Step}, to, p.From.String(), bytes.Clone(p.Data)})
		return Pass(p)
	}
	return &all
}

// TestReplayAndReflection sends every message of a whole life once more, to whom
// it was sent and to its sender, in order and out of it: nothing changes. A first
// message is the exception: it is as good as new.
func TestReplayAndReflection(t *testing.T) {
	g := NewGateways(t, Setup{Suites: []ike.Suite{PFSESP}})
	all := g.recordAll()
	g.Connect()
	expireSoft(g.East)
	g.Run(15 * time.Second) // with the deletes
	g.East.Handle(ike.Teardown{Name: "west", Phase1: true})
	g.Run(time.Second)
	expireSoft(g.West)
	g.Run(15 * time.Second)
	for round, wait := range []time.Duration{time.Second, 3 * time.Minute} {
		g.Run(wait)
		g.Tap = nil
		for _, r := range *all {
			other := g.West
			if r.to == g.West {
				other = g.East
			}
			if r.step != (step{doi.ExchangeMain, 1}) {
				r.to.unmoved(fmt.Sprintf("round %d: replayed %s", round, r.step), r.from, r.data)
				r.to.unmoved(fmt.Sprintf("round %d: replayed %s from elsewhere", round, r.step), "203.0.113.66:4500", r.data)
				other.unmoved(fmt.Sprintf("round %d: reflected %s", round, r.step), netOf(r.to), r.data)
			}
			other.unmoved(fmt.Sprintf("round %d: reflected %s from its own address", round, r.step), r.from, r.data)
		}
	}
	if len(*all) < 25 {
		t.Errorf("only %d messages", len(*all))
	}
	g.MustCarry()
	g.MustSettle()
}

func netOf(n *Node) string { return n.Addr.String() + ":500" }

// TestStrangerWithCookies: who only overheard an exchange cannot take part in it:
// copies of its messages in clear, from elsewhere and before the real ones.
func TestStrangerWithCookies(t *testing.T) {
	g := NewGateways(t, Setup{NATT: true})
	told := 0
	g.Tap = func(p *Packet) []Delivery {
		to := g.West
		if p.Sender == g.West {
			to = g.East
		}
		if s := g.Observer().Of(p.Data); s.Exchange == doi.ExchangeMain && s.Step >= 2 && s.Step <= 4 {
			told++
			data := bytes.Clone(p.Data)
			g.After(time.Millisecond, func() { to.unmoved("a copy from elsewhere", "203.0.113.66:500", data) })
		}
		return Pass(p)
	}
	g.Connect()
	if told != 3 {
		t.Errorf("%d messages", told)
	}
}

// TestReflectedFirstMessage: our own message 1 comes back while we wait.
func TestReflectedFirstMessage(t *testing.T) {
	g := NewGateways(t, Setup{})
	g.Tap = func(p *Packet) []Delivery {
		if p.Sender == g.West && g.Sent() == 1 {
			data := bytes.Clone(p.Data)
			g.After(time.Millisecond, func() { g.West.unmoved("our own first message", "198.51.100.2:500", data) })
		}
		return Pass(p)
	}
	g.Connect()
	if g.West.Requests["DiffieHellman"] != 2 {
		t.Errorf("%v", g.West.Requests)
	}
}

// firstMessage is what a stranger may send at any time.
func firstMessage(r *rand.Rand, ps ...isakmp.Payload) []byte {
	var c isakmp.Cookie
	binary.BigEndian.PutUint64(c[:], r.Uint64()|1)
	if len(ps) == 0 {
		p := isakmp.Proposal{Number: 1, Protocol: doi.ProtoISAKMP, Transforms: []isakmp.Transform{{Number: 1, ID: doi.IKETransformKEY, Attributes: []isakmp.Attribute{
			isakmp.Basic(uint16(doi.IKEEncryption), uint16(doi.CipherAES)), isakmp.Basic(uint16(doi.IKEKeyLength), 128),
			isakmp.Basic(uint16(doi.IKEHash), uint16(doi.HashSHA1)), isakmp.Basic(uint16(doi.IKEAuthMethod), uint16(doi.AuthPSK)),
			isakmp.Basic(uint16(doi.IKEGroup), uint16(doi.GroupCurve25519)),
		}}}}
		ps = []isakmp.Payload{&isakmp.SA{DOI: doi.IPsec, Situation: doi.SituationIdentityOnly, Proposals: []isakmp.Proposal{p}}}
	}
	return Clear(c, isakmp.Cookie{}, doi.ExchangeMain, 0, ps...)
}

// TestSpoofedFirstMessages: ten thousand of them, from as many addresses or from
// one, cost no arithmetic, get one answer at most, are forgotten, and keep nobody
// away who has the key.
func TestSpoofedFirstMessages(t *testing.T) {
	t.Parallel()
	for _, addresses := range []int{1, 10, 10_000} {
		t.Run(fmt.Sprint(addresses), func(t *testing.T) {
			g := NewGateways(t, Setup{Change: func(side string, c *ike.Config) {
				if side == "east" { // anybody may call
					c.DefaultPeer, c.Peers[0].Address = c.Peers[0], addr("")
					c.Peers = nil
				}
			}})
			g.Connect()
			g.Light = true
			g.Run(5 * time.Minute)
			quiet := g.East.Engine.Dump()
			requests := g.East.Requests["DiffieHellman"]
			var answers int
			for k := range 10_000 {
				from := fmt.Sprintf("10.%d.%d.%d:500", 100+k%addresses>>16&0xff, k%addresses>>8&0xff, k%addresses&0xff)
				data := firstMessage(g.Rand())
				was := g.East.Transmits
				g.East.Handle(ike.Datagram{Local: addrPort("198.51.100.2:500"), Remote: addrPort(from), Data: data})
				if n := g.East.Transmits - was; n > 1 {
					t.Fatalf("%d answers to one datagram", n)
				}
				answers += g.East.Transmits - was
				if k%1000 == 0 {
					g.Run(10 * time.Millisecond)
				}
			}
			if g.East.Requests["DiffieHellman"] != requests {
				t.Error("spoofed first messages cost arithmetic")
			}
			half := halfOpen(g.East)
			if most := min(1000, 20*addresses); half != most {
				t.Errorf("%d half-open exchanges, %d are to be kept", half, most)
			}
			if answers > 10_000 {
				t.Errorf("%d answers", answers)
			}
			g.MustCarry()
			// Whoever has the key gets in while it rains, and a rekey works.
			was := Count[ike.Phase1Up](g.East)
			raining := true
			g.Every(5*time.Millisecond, func() bool {
				for k := range 20 {
					g.East.Handle(ike.Datagram{Local: addrPort("198.51.100.2:500"), Remote: addrPort(fmt.Sprintf("10.1.%d.%d:500", g.Rand().IntN(256), k)), Data: firstMessage(g.Rand())})
				}
				return raining
			})
			expireSoft(g.East)
			g.West.Restart()
			g.West.Initiate("vpn")
			if !g.RunUntil(5*time.Second, func() bool { return Count[ike.Phase1Up](g.East) > was }) {
				t.Errorf("nobody gets in while it rains")
			}
			raining = false
			sent := g.East.Transmits
			g.Run(119 * time.Second)                        // a responder repeats nothing
			if more := g.East.Transmits - sent; more > 40 { // a handshake or two; hundreds if it did
				t.Errorf("the responder sent %d more datagrams on its own", more)
			}
			g.Run(10 * time.Minute)
			if n := halfOpen(g.East); n != 0 {
				t.Errorf("%d half-open exchanges are left", n)
			}
			if n := len(g.East.Engine.Dump()); n > 3*len(quiet) {
				t.Errorf("the state has %d bytes, before %d", n, len(quiet))
			}
			g.MustCarry()
		})
	}
}

func halfOpen(n *Node) (half int) {
	_, after, _ := bytes.Cut(n.Engine.Dump(), []byte("half-open "))
	fmt.Sscan(string(after), &half)
	return half
}

// TestResponderRepeatsNothing: an answer to a first message goes out once, a
// copy of the message gets a copy of it.
func TestResponderRepeatsNothing(t *testing.T) {
	g := NewGateways(t, Setup{})
	first := firstMessage(g.Rand())
	for k := 1; k <= 5; k++ {
		g.East.Inject("192.0.2.1:500", first)
		g.Run(30 * time.Second)
		if want := min(k, 4); g.East.Transmits < want || g.East.Transmits > k {
			t.Errorf("%d answers to %d copies", g.East.Transmits, k)
		}
	}
	if g.East.Requests["DiffieHellman"] != 0 || Count[ike.Failed](g.East) != 0 {
		t.Errorf("%v\n%s", g.East.Requests, g.East.Said())
	}
}

// TestRefusedFirstMessages leave nothing behind, whatever they are (attacks A6,
// A10, C7), and get at most one short answer.
func TestRefusedFirstMessages(t *testing.T) {
	g := NewGateways(t, Setup{Change: func(side string, c *ike.Config) {
		p := *c.Peers[0]
		p.Name, p.Address, p.Key = "keyless", addr("192.0.2.77"), nil
		c.Peers = append(c.Peers, &p)
	}})
	r := g.Rand()
	tr := isakmp.Transform{Number: 1, ID: doi.IKETransformKEY, Attributes: []isakmp.Attribute{isakmp.Basic(1, 7), isakmp.Basic(2, 2)}}
	sa := func(n, m int) *isakmp.SA {
		s := &isakmp.SA{DOI: doi.IPsec, Situation: doi.SituationIdentityOnly}
		for k := range n {
			p := isakmp.Proposal{Number: uint8(k), Protocol: doi.ProtoISAKMP}
			for range m {
				p.Transforms = append(p.Transforms, tr)
			}
			s.Proposals = append(s.Proposals, p)
		}
		return s
	}
	var vendors []isakmp.Payload
	for range 2000 {
		vendors = append(vendors, &isakmp.Vendor{Data: []byte{1}})
	}
	long := &isakmp.Vendor{Data: make([]byte, 60_000)}
	many := Clear(isakmp.Cookie{9}, isakmp.Cookie{}, doi.ExchangeMain, 0, sa(1, 1))
	nested := append(bytes.Clone(many[:28]), bytes.Repeat([]byte{1, 0, 0, 4}, 10_000)...)
	binary.BigEndian.PutUint32(nested[24:], uint32(len(nested)))
	for name, data := range map[string][]byte{
		"one proposal":            firstMessage(r, sa(1, 1)),
		"no proposal":             firstMessage(r, sa(0, 0)),
		"no transform":            firstMessage(r, sa(1, 0)),
		"thousands of proposals":  firstMessage(r, sa(2500, 1)),
		"thousands of transforms": firstMessage(r, sa(1, 2500)),
		"a product of both":       firstMessage(r, sa(60, 60)),
		"thousands of vendor IDs": firstMessage(r, append([]isakmp.Payload{sa(1, 1)}, vendors...)...),
		"a long vendor ID":        firstMessage(r, sa(1, 1), long),
		"an empty vendor ID":      firstMessage(r, sa(1, 1), &isakmp.Vendor{}),
		"two SAs":                 firstMessage(r, sa(1, 1), sa(1, 1)),
		"no SA":                   firstMessage(r, &isakmp.Nonce{Data: make([]byte, 20)}),
		"another DOI":             firstMessage(r, &isakmp.SA{DOI: 77, Situation: doi.SituationIdentityOnly, Proposals: sa(1, 1).Proposals}),
		"empty payloads":          nested,
		"only a header":           append(bytes.Clone(many[:24]), 0, 0, 0, 28),
	} {
		for _, from := range []string{"192.0.2.1:500", "203.0.113.5:500", "192.0.2.77:500"} {
			g.East.unmoved(name+" from "+from, from, data)
		}
	}
	good := firstMessage(r)
	g.East.unmoved("a good one from a peer without a key", "192.0.2.77:500", good)
	g.East.unmoved("a good one from a stranger", "203.0.113.5:500", good)
	if n := halfOpen(g.East); n != 0 {
		t.Errorf("%d half-open exchanges", n)
	}
	g.East.Inject("192.0.2.1:500", good)
	g.Run(time.Second)
	if n := halfOpen(g.East); n != 1 {
		t.Errorf("the good one from the peer: %d half-open exchanges", n)
	}
}
