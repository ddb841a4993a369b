package iketest

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// Plane is a data plane that only keeps books: which SAs are live, what was
// reserved, which flows were brought along. Packets through it carry the keys
// that they would have been sealed with.
type Plane struct {
	node     *Node
	live     map[ipsec.SAID]*liveSA
	reserved map[ipsec.SAID]bool
	pending  map[ipsec.SAID]time.Time // being installed, and when that is done
	newest   map[ipsec.FlowID][]*liveSA
	flows    map[ipsec.FlowID]ipsec.Flow
	free     time.Time // when the worker is done with all that was asked
	nextSPI  ipsec.SPI
	nextCPI  ipsec.SPI
	anyCPI   bool                // well-known ones too
	acquires map[uint64]*acquire // that were not answered yet
	acquired uint64
}

type liveSA struct {
	sa     *ipsec.SA
	remote netip.AddrPort // of one in UDP
	from   time.Time      // when traffic may take it, if there is another
	bytes  uint64
	soft   bool // the soft limit was told
	number int  // packets sent or received
}

func newPlane(n *Node) *Plane {
	p := &Plane{node: n, nextSPI: ipsec.SPI(0x1000 * (len(n.World.nodes) + 1)), nextCPI: ipsec.SPI(256 + 1000*(len(n.World.nodes)%60))}
	p.wipe()
	return p
}

// wipe forgets all but the counter of SPIs.
func (p *Plane) wipe() {
	p.live, p.reserved = map[ipsec.SAID]*liveSA{}, map[ipsec.SAID]bool{}
	p.pending, p.newest = map[ipsec.SAID]time.Time{}, map[ipsec.FlowID][]*liveSA{}
	p.flows, p.acquires = map[ipsec.FlowID]ipsec.Flow{}, map[uint64]*acquire{}
	p.free = time.Time{}
}

// enqueue does f after all that was asked before, and after ids are installed.
func (p *Plane) enqueue(d time.Duration, ids []ipsec.SAID, f func()) time.Time {
	now := p.node.World.Now
	at := now
	if !p.node.Faults.Unordered && p.free.After(at) {
		at = p.free
	}
	at = at.Add(d)
	for _, id := range ids {
		if t := p.pending[id]; t.After(at) {
			at = t
		}
	}
	if at.After(p.free) {
		p.free = at
	}
	p.node.later(at.Sub(now), f)
	return at
}

func (p *Plane) alloc(o ike.AllocSPI) {
	if err := p.node.failureOf(o); err != nil {
		p.node.answer(ike.SPIAllocated{ID: o.ID, Err: err})
		return
	}
	spi := &p.nextSPI
	if o.Proto == ipsec.ProtoIPComp {
		if spi = &p.nextCPI; *spi >= 61439 {
			*spi = 256
		}
	}
	*spi++
	p.reserved[ipsec.SAID{Dir: ipsec.In, Proto: o.Proto, SPI: *spi, Dst: o.Dst}] = true
	p.node.answer(ike.SPIAllocated{ID: o.ID, SPI: *spi})
}

// installing makes SAs live, all or none.
func (p *Plane) installing(o ike.InstallSA, d time.Duration) {
	at := p.enqueue(d, nil, func() {
		for _, sa := range o.SAs {
			delete(p.pending, sa.ID)
		}
		if err := p.node.failureOf(o); err != nil {
			p.node.answer(ike.SAInstalled{ID: o.ID, Err: err})
			return
		}
		for _, c := range o.Flows {
			p.flow(c)
		}
		for _, sa := range o.SAs {
			p.install(sa)
		}
		p.node.answer(ike.SAInstalled{ID: o.ID})
	})
	for _, sa := range o.SAs {
		p.pending[sa.ID] = at
	}
}

func (p *Plane) flow(c ipsec.FlowChange) {
	if c.Remove {
		delete(p.flows, c.Flow.ID)
		return
	}
	p.flows[c.Flow.ID] = c.Flow
}

func (p *Plane) install(sa *ipsec.SA) {
	w := p.node.World
	switch {
	case p.live[sa.ID] != nil:
		w.Errorf("%s installs %s twice", p.node.Name, sa.ID)
	case sa.ID.Dir == ipsec.In && !p.reserved[sa.ID]:
		w.Errorf("%s installs %s, whose SPI is not reserved", p.node.Name, sa.ID)
	case sa.ID.SPI < 256 && (sa.ID.Proto != ipsec.ProtoIPComp || sa.ID.Dir == ipsec.In && !p.anyCPI):
		w.Errorf("%s installs %s: that SPI is reserved by RFC 4303", p.node.Name, sa.ID)
	case sa.ID.Proto == ipsec.ProtoIPComp && sa.ID.SPI > 0xffff:
		w.Errorf("%s installs %s, which is no CPI", p.node.Name, sa.ID)
	case !sa.ID.Dst.IsValid() || !sa.Src.IsValid():
		w.Errorf("%s installs an SA without ends: %s from %s", p.node.Name, sa.ID, sa.Src)
	case sa.Bundle.Of == 0 || sa.Bundle.Index >= sa.Bundle.Of || sa.Bundle.Index > 0 && sa.Mode == ipsec.Tunnel:
		w.Errorf("%s installs %s in %s mode in the place %+v", p.node.Name, sa.ID, sa.Mode, sa.Bundle)
	default:
		if err := lengths(sa); err != nil {
			w.Errorf("%s installs %s: %v", p.node.Name, sa.ID, err)
		}
	}
	delete(p.reserved, sa.ID)
	l := &liveSA{sa: sa}
	if sa.Encap != nil {
		l.remote = sa.Encap.Remote
	}
	p.live[sa.ID] = l
	l.from = w.Now.Add(sa.Defer)
	if sa.ID.Dir == ipsec.Out {
		p.newest[sa.Flow] = append(p.newest[sa.Flow], l)
	}
	if sa.Hard.Time > 0 { // the data plane's own end, should the engine forget it
		p.node.later(sa.Hard.Time, func() { p.expired(l) })
	}
}

// lengths holds an SA's keys against what its algorithms take.
func lengths(sa *ipsec.SA) error {
	ciphered, keyed := sa.Cipher != ipsec.CipherNone && sa.Cipher != ipsec.CipherNull, sa.Auth != ipsec.AuthNone
	salt, auth := sa.Cipher.Info().Salt, sa.Auth.Info().Key
	if sa.Auth == ipsec.AuthAESGMAC { // whose key lengths are those of AES
		salt, auth = 4, len(sa.AuthKey)
		if !ipsec.CipherAESGMAC.KeyLenOK(auth) {
			auth = 16
		}
	}
	switch sa.ID.Proto {
	case ipsec.ProtoESP:
		if sa.Comp != ipsec.CompNone || sa.Cipher == ipsec.CipherNone || sa.Auth == ipsec.AuthAESGMAC {
			return fmt.Errorf("ESP with %s, %s and %s", sa.Cipher, sa.Auth, sa.Comp)
		}
	case ipsec.ProtoAH:
		if sa.Comp != ipsec.CompNone || sa.Cipher != ipsec.CipherNone || !keyed {
			return fmt.Errorf("AH with %s, %s and %s", sa.Cipher, sa.Auth, sa.Comp)
		}
	case ipsec.ProtoIPComp:
		if sa.Comp == ipsec.CompNone || sa.Cipher != ipsec.CipherNone || keyed || sa.ESN {
			return fmt.Errorf("IPComp with %s, %s and %s", sa.Cipher, sa.Auth, sa.Comp)
		}
	}
	if ciphered && !sa.Cipher.KeyLenOK(len(sa.Key)) || !ciphered && len(sa.Key) > 0 || len(sa.Salt) != salt || len(sa.AuthKey) != auth {
		return fmt.Errorf("%s with a key of %d bytes and a salt of %d, %s with one of %d", sa.Cipher, len(sa.Key), len(sa.Salt), sa.Auth, len(sa.AuthKey))
	}
	return nil
}

func (p *Plane) expired(l *liveSA) {
	if p.live[l.sa.ID] == l {
		p.drop(l.sa.ID)
		p.node.Handle(ike.Expire{SA: l.sa.ID, Hard: true})
	}
}

func (p *Plane) drop(id ipsec.SAID) {
	l := p.live[id]
	if l == nil {
		return
	}
	delete(p.live, id)
	flow := l.sa.Flow
	p.newest[flow] = slices.DeleteFunc(p.newest[flow], func(o *liveSA) bool { return o == l })
}

func (p *Plane) remove(o ike.DeleteSA) {
	for _, id := range o.SAs {
		delete(p.reserved, id)
		p.drop(id)
	}
	for _, c := range o.Flows {
		p.flow(c)
	}
}

func (p *Plane) update(o ike.UpdateSA) {
	l := p.live[o.SA]
	if l == nil {
		return
	}
	if r := o.Update.Remote; r != nil {
		l.remote = *r
	}
}

// outgoing are the SAs that a flow's traffic takes now, the innermost first; none:
// there is nothing that is whole.
func (p *Plane) outgoing(f ipsec.FlowID) []*liveSA {
	var last []*liveSA
	sas := p.newest[f]
	for i := len(sas) - 1; i >= 0; i-- {
		if sas[i].sa.Bundle.Index != 0 {
			continue
		}
		b := p.bundle(sas[i])
		switch {
		case b == nil:
		case !sas[i].from.After(p.node.World.Now):
			return b
		case last == nil:
			last = b
		}
	}
	if last == nil || len(sas) == 0 {
		return nil
	}
	return last
}

// bundle are the SAs that belong to one, itself among them, in their order; nil:
// some are not there (yet).
func (p *Plane) bundle(l *liveSA) []*liveSA {
	n := max(1, int(l.sa.Bundle.Of))
	all := make([]*liveSA, n)
	for _, o := range p.live {
		if o.sa.ID.Dir == l.sa.ID.Dir && o.sa.Conn == l.sa.Conn && o.sa.Bundle.ID == l.sa.Bundle.ID {
			all[o.sa.Bundle.Index] = o
		}
	}
	if slices.Contains(all, nil) {
		return nil
	}
	return all
}

// Live are the live SAs of one direction, by SPI.
func (p *Plane) Live(d ipsec.Direction) []*ipsec.SA {
	var sas []*ipsec.SA
	for _, l := range p.live {
		if l.sa.ID.Dir == d {
			sas = append(sas, l.sa)
		}
	}
	slices.SortFunc(sas, func(a, b *ipsec.SA) int {
		return cmp.Or(cmp.Compare(a.ID.SPI, b.ID.SPI), cmp.Compare(a.ID.Proto, b.ID.Proto))
	})
	return sas
}

// IsLive tells whether an incoming SA is live.
func (p *Plane) IsLive(d ipsec.Direction, spi ipsec.SPI) bool {
	for id := range p.live {
		if id.Dir == d && id.SPI == spi {
			return true
		}
	}
	return false
}

// Reserved is how many SPIs are reserved and not in use.
func (p *Plane) Reserved() int { return len(p.reserved) }

// Flows is how many flows negotiations have brought along.
func (p *Plane) Flows() int { return len(p.flows) }

// Settled says what is wrong with a node's books when nothing is under way: SAs
// of which the engine knows nothing, SPIs that nobody gave back.
func (n *Node) Settled() error {
	var wrong []string
	if k := n.Plane.Reserved(); k > 0 {
		wrong = append(wrong, fmt.Sprintf("%d SPIs are reserved and forgotten", k))
	}
	dump := ""
	if n.Engine != nil {
		dump = string(n.Engine.Dump())
	}
	for id := range n.Plane.live {
		if !strings.Contains(dump, fmt.Sprintf("%s %s", id.Dir, id.SPI)) {
			wrong = append(wrong, fmt.Sprintf("%s is live and the engine does not know it", id))
		}
	}
	if strings.Contains(dump, "  quick") && strings.Contains(dump, ": await") {
		wrong = append(wrong, "a quick mode is under way")
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return fmt.Errorf("%s: %s\n%s", n.Name, strings.Join(wrong, "; "), dump)
}

// sameKeys tells whether two halves of an SA fit. Transport mode through a
// translator is between other addresses on either side.
func sameKeys(a, b *ipsec.SA) bool {
	translated := a.NATOA.Peer.IsValid() && b.NATOA.Peer.IsValid()
	return a.Comp == b.Comp && a.Bundle.Index == b.Bundle.Index && a.Bundle.Of == b.Bundle.Of && a.ID.Proto == b.ID.Proto && a.ID.SPI == b.ID.SPI && a.Mode == b.Mode && a.Cipher == b.Cipher && a.Auth == b.Auth && a.ESN == b.ESN &&
		bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Salt, b.Salt) && bytes.Equal(a.AuthKey, b.AuthKey) &&
		(a.Encap == nil) == (b.Encap == nil) && (translated || a.Selector == b.Selector)
}

// Agreement says in what two nodes' SAs differ: each outgoing one of either has
// to be live as an incoming one on the other, with the same keys, and there have
// to be exactly pairs of them each way.
func Agreement(a, b *Node, pairs int) error {
	for _, side := range [][2]*Node{{a, b}, {b, a}} {
		out, in := side[0].Plane.Live(ipsec.Out), side[1].Plane.Live(ipsec.In)
		if n, m := bundles(out), bundles(in); n != pairs || m != pairs || len(in) != len(out) {
			return fmt.Errorf("%s has %d outgoing SAs or bundles, %s %d incoming ones, expected %d\n%s%s", side[0].Name, n, side[1].Name, m, pairs, side[0].dump(), side[1].dump())
		}
		for i := range out {
			if !sameKeys(out[i], in[i]) {
				return fmt.Errorf("%s sends by %+v, %s expects %+v", side[0].Name, *out[i], side[1].Name, *in[i])
			}
		}
	}
	return nil
}

// bundles counts SAs, those of a bundle as one; a bundle with gaps counts for -1000.
func bundles(sas []*ipsec.SA) int {
	type key struct {
		conn string
		id   uint64
	}
	left := map[key]int{}
	for _, sa := range sas {
		k := key{sa.Conn, sa.Bundle.ID}
		if _, seen := left[k]; !seen {
			left[k] = max(1, int(sa.Bundle.Of))
		}
		left[k]--
	}
	n := len(left)
	for _, missing := range left {
		if missing != 0 {
			n -= 1000
		}
	}
	return n
}

func (n *Node) dump() string {
	if n.Engine == nil {
		return n.Name + " is down\n"
	}
	return n.Name + ": " + string(n.Engine.Dump())
}
