package userspace

import (
	"slices"

	"oakley/internal/ipsec"
)

// Well-known CPIs. RFC 3173 section 3.3 lets any number of SAs between any hosts
// have the same one, so it is no name: a peer that always says 2 says it again at
// the next rekeying, before the old SA is gone. The maps of SAs keep such SAs
// apart by a port, which IPComp has no other use for; whoever asks by the name
// means one of those that have it:
//
//   - to look or change: the newest,
//   - to delete: one whose bundle has lost another SA already, or one that stands
//     alone, the oldest first. Where all are of whole bundles nobody can tell which
//     is meant until the bundle loses another SA, as it will: then it goes along.

// isShared tells whether a name may be that of several SAs.
func isShared(id ipsec.SAID) bool { return id.Proto == ipsec.ProtoIPComp && id.SPI < firstCPI }

// keep gives an SA of ours, of which there may be others with its name, its key.
// Called with mu held.
func (p *Plane) keep(id ipsec.SAID) (key ipsec.SAID) {
	if key = id; !isShared(id) {
		return key
	}
	if keys := p.same[id]; len(keys) > 0 {
		key.Port = keys[len(keys)-1].Port + 1
	}
	for p.in[key] != nil || p.out[key] != nil { // again tells that there is a free one
		key.Port++
	}
	p.same[id] = append(p.same[id], key)
	return key
}

// unkeep forgets a key. Called with mu held.
func (p *Plane) unkeep(u *usage) {
	if !isShared(u.id) {
		return
	}
	left := slices.DeleteFunc(p.same[u.id], func(k ipsec.SAID) bool { return k == u.key })
	p.same[u.id] = left
	p.owed[u.id] = min(p.owed[u.id], len(left))
	if len(left) == 0 {
		delete(p.same, u.id)
	}
	if p.owed[u.id] == 0 {
		delete(p.owed, u.id)
	}
}

// find gives the SA of a name, the newest of several. Called with mu held.
func (p *Plane) find(id ipsec.SAID) (in *inSA, out *outSA) {
	if keys := p.same[id]; isShared(id) && len(keys) > 0 {
		if p.owed[id] == len(keys) {
			return nil, nil
		}
		id = keys[len(keys)-1]
	}
	return p.in[id], p.out[id]
}

// doomed gives the SA of a name that is to be deleted; later: that is not known
// yet. Called with mu held.
func (p *Plane) doomed(id ipsec.SAID) (in *inSA, out *outSA, later bool) {
	keys := p.same[id]
	if !isShared(id) || len(keys) < 2 {
		in, out = p.find(id)
		return in, out, false
	}
	for _, k := range keys {
		if in, out = p.in[k], p.out[k]; in != nil && in.chain.Load() == nil || out != nil && p.broken(out) {
			return in, out, false
		}
	}
	return nil, nil, p.owed[id] < len(keys)
}

// broken tells whether an outgoing SA is of no whole bundle. Called with mu held.
func (p *Plane) broken(sa *outSA) bool {
	if !bundled(sa.at) {
		return true
	}
	b := p.bundlesOut[bundleOf(&sa.sa, sa.at)]
	return b == nil || b.complete() == nil
}

// settleIn and settleOut delete, of a bundle that has lost an SA, those that are
// to go along. Called with mu held.
func (p *Plane) settleIn(b *bundle[inSA]) {
	if b == nil {
		return
	}
	for _, sa := range b.all {
		if sa != nil && p.owed[sa.id] > 0 {
			p.owed[sa.id]--
			p.removeIn(sa)
		}
	}
}

func (p *Plane) settleOut(b *bundle[outSA]) {
	if b == nil {
		return
	}
	for _, sa := range b.all {
		if sa != nil && p.owed[sa.id] > 0 {
			p.owed[sa.id]--
			p.removeOut(sa)
		}
	}
}

// maxSame is how many SAs may have one name: fewer than there are ports.
const maxSame = 60000

// again tells whether an SA that stands alone is there already, under a name that
// others may have, or too many others. Called with mu held.
func (p *Plane) again(sa *ipsec.SA) bool {
	if len(p.same[sa.ID]) >= maxSame {
		return true
	}
	if bundled(sa.Bundle) {
		return false // its place tells
	}
	for _, k := range p.same[sa.ID] {
		if in := p.in[k]; in != nil && !bundled(in.at) && in.sa.Src == sa.Src && in.sa.Flow == sa.Flow {
			return true
		}
		if out := p.out[k]; out != nil && !bundled(out.at) && out.sa.Src == sa.Src && out.sa.Flow == sa.Flow {
			return true
		}
	}
	return false
}
