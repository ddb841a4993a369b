package ike

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Dump is the whole state as text in a fixed order, the same for the same
// state: what tests compare and a report shows. Keys and what is kept for
// people alone are not in it.
func (e *Engine) Dump() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "started %t stopped %t half-open %d requests %d\n", e.started, e.stopped, e.half.order.Len(), len(e.requests))
	for _, p := range e.sortedPhase1() {
		p.dump(&b)
		for _, q := range sortedQuicks(p) {
			fmt.Fprintf(&b, "  quick %08x %s conn %s: %s, give up %s, next %s, tries %d, pending %d, in %x\n",
				q.id, q.role, q.cs.conn.Name, q.state, stamp(q.giveUpAt), stamp(q.sending.next), q.sending.tries, q.pending, q.sending.in)
		}
	}
	for _, cs := range e.sortedConns() {
		fmt.Fprintf(&b, "connection %s wanted %t rekey %t busy %t theirs %d waiting %t acquires %d fails %d retry %s\n",
			cs.conn.Name, cs.wanted, cs.rekey, cs.busy != nil, len(cs.theirs), cs.waitsFor != nil, len(cs.acquires), cs.fails, stamp(cs.retryAt))
		for _, c := range cs.children {
			fmt.Fprintf(&b, "  child %s remote %s superseded %t deaf %t repeat %d born %s rekey %s expire %s delete %s: %s\n",
				c.role, c.remote, c.superseded, c.deaf, c.repeat, stamp(c.born), stamp(c.rekeyAt), stamp(c.expireAt), stamp(c.deleteAt), spis(c.in, c.out))
		}
	}
	return []byte(b.String())
}

func (p *phase1) dump(b *strings.Builder) {
	fmt.Fprintf(b, "isakmp %s %s peer %s local %s remote %s nat %q", p.cookies(), p.role, p.peer.Name, p.local, p.remote, p.natText())
	if n := p.neg; n != nil {
		fmt.Fprintf(b, ": %s, give up %s, next %s, tries %d, iv %x, in %x, waiters %d\n",
			n.state, stamp(n.giveUpAt), stamp(n.sending.next), n.sending.tries, n.iv, n.sending.in, len(n.waiters))
		return
	}
	ids := slices.Sorted(slices.Values(p.seen))
	fmt.Fprintf(b, ": established %s, IDs %s and %s, %s, superseded %t, rekey %s expire %s delete %s keepalive %s cache %s heard %s, seen %08x\n",
		stamp(p.established), p.localID, p.remoteID, p.chosen, p.superseded, stamp(p.rekeyAt), stamp(p.expireAt), stamp(p.deleteAt),
		stamp(p.keepAliveAt), stamp(p.cacheUntil), stamp(p.heard), ids)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05.000")
}
