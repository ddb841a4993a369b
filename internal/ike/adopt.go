package ike

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"oakley/internal/ipsec"
)

// Adopt gives the engine SAs of an earlier life of this daemon that the data
// plane kept: they go on, are rekeyed before they end, and keep INITIAL-CONTACT
// from being said, which would make the peer delete them. It comes before Start.
// SAs that nobody can be the peer of are deleted.
type Adopt struct{ SAs []ipsec.SAState }

func (Adopt) input() {}

// unclaimed stands for the identity of the peer of adopted SAs until it has
// authenticated itself anew; no identification payload is so short.
const unclaimed = "?"

// adoptKey are the SAs that one quick mode made.
type adoptKey struct {
	conn  string
	group uint64
}

func (e *Engine) takeBack(in Adopt) {
	groups := map[adoptKey][]ipsec.SAState{}
	for _, s := range in.SAs {
		k := adoptKey{s.SA.Conn, s.SA.Bundle.ID}
		groups[k] = append(groups[k], s)
		e.bundles = max(e.bundles, s.SA.Bundle.ID)
	}
	keys := make([]adoptKey, 0, len(groups))
	for k := range groups {
		keys = append(keys, k)
	}
	// The oldest first, so that the newest is the current one in the end.
	slices.SortFunc(keys, func(a, b adoptKey) int {
		return cmp.Or(earliest(groups[a]).Compare(earliest(groups[b])), cmp.Compare(a.conn, b.conn), cmp.Compare(a.group, b.group))
	})
	for _, k := range keys {
		e.adoptChild(k.conn, groups[k])
	}
}

func earliest(sas []ipsec.SAState) time.Time {
	return slices.MinFunc(sas, func(a, b ipsec.SAState) int { return a.Added.Compare(b.Added) }).Added
}

func (e *Engine) adoptChild(name string, sas []ipsec.SAState) {
	slices.SortFunc(sas, func(a, b ipsec.SAState) int { return cmp.Compare(a.SA.Bundle.Index, b.SA.Bundle.Index) })
	c := &child{role: Responder, idBody: []byte(unclaimed), born: earliest(sas), begun: earliest(sas)}
	hard := sas[0].SA.Hard.Time
	var local netip.Addr
	for i := range sas {
		sa := &sas[i].SA
		if sa.ID.Dir == ipsec.In {
			c.in = append(c.in, sa.ID)
			continue
		}
		c.out = append(c.out, sa.ID)
		local, c.remote = sa.Src, netip.AddrPortFrom(sa.ID.Dst, e.cfg.Port)
		if sa.Encap != nil {
			c.remote = sa.Encap.Remote
		}
	}
	c.cs = e.conns[name]
	if c.cs == nil && c.remote.IsValid() {
		c.cs = e.adoptConn(name, c.remote, &sas[0].SA)
	}
	if c.cs == nil || len(c.in) == 0 || len(c.out) == 0 || hard == 0 {
		ids := append(slices.Clone(c.in), c.out...)
		e.emit(DeleteSA{SAs: ids, Flows: c.cs.flowsGone()})
		e.emit(Notice{Text: fmt.Sprintf("SAs of an earlier life were found and removed, for %s: %v", whyNot(c, hard), ids)})
		return
	}
	c.peer = c.cs.conn.Peer
	if c.cs.conn.Active {
		c.role = Initiator
	}
	c.expireAt = c.born.Add(hard)
	c.rekeyAt = c.born.Add(e.rekeyAfter(hard, c.role))
	if old := c.cs.current(); old != nil {
		old.superseded, old.rekeyAt, old.deleteAt = true, time.Time{}, e.now.Add(e.cfg.Grace)
		old.schedule(e)
	}
	for _, id := range append(slices.Clone(c.in), c.out...) {
		e.children[id] = c
	}
	c.cs.children = append(c.cs.children, c)
	c.cs.remoteAddr = c.remote
	c.schedule(e)
	e.emit(Phase2Found{
		Conn: name, Peer: c.peer.Name, Local: local, Remote: c.remote, In: c.in, Out: c.out, Left: c.expireAt.Sub(e.now),
	})
}

func whyNot(c *child, hard time.Duration) string {
	switch {
	case c.cs == nil:
		return "no connection has their name and no peer their address"
	case hard == 0:
		return "they have no end in time and are none of ours"
	}
	return "one direction of them is missing"
}

// claim gives adopted SAs to the peer that has authenticated itself from their
// address: from now on its deletes count for them.
func (e *Engine) claim(p *phase1) {
	for _, cs := range e.connsOf[p.peer] {
		if cs.remoteID == unclaimed && cs.remoteAddr.Addr() == p.remote.Addr() {
			cs.remoteID = string(p.idBody)
		}
		for _, c := range cs.children {
			if string(c.idBody) == unclaimed && c.remote.Addr() == p.remote.Addr() {
				c.idBody = p.idBody
			}
		}
	}
}
