package ike

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
)

// connState is one connection and what is being done to keep it up.
type connState struct {
	conn       *Connection
	dynamic    bool   // made for a peer that no listed connection matches
	byPolicy   bool   // a dynamic one: after Config.Unlisted
	remoteID   string // of a dynamic one: the peer's authenticated ID
	remoteAddr netip.AddrPort
	wanted     bool
	rekey      bool // the current child is to be replaced
	children   []*child
	busy       *quick   // our own quick mode
	theirs     []*quick // the peer's, under way
	waitsFor   *phase1  // our own main mode
	acquires   []uint64
	fails      int
	hasFlows   bool // a dynamic one: its flows are there
	retryAt    time.Time
	alarm      alarm
}

func (e *Engine) addConn(cs *connState) {
	e.conns[cs.conn.Name] = cs
	e.connsOf[cs.conn.Peer] = append(e.connsOf[cs.conn.Peer], cs)
}

func (e *Engine) removeConn(cs *connState) {
	delete(e.conns, cs.conn.Name)
	l := slices.DeleteFunc(e.connsOf[cs.conn.Peer], func(o *connState) bool { return o == cs })
	if e.connsOf[cs.conn.Peer] = l; len(l) == 0 {
		delete(e.connsOf, cs.conn.Peer)
	}
	e.alarms.unset(&cs.alarm)
}

func (cs *connState) schedule(e *Engine) { e.alarms.set(&cs.alarm, cs, cs.retryAt) }

func (cs *connState) wake(e *Engine) {
	cs.retryAt = time.Time{}
	e.negotiate(cs)
}

// due tells whether a connection needs SAs that it does not have.
func (cs *connState) due() bool {
	return cs.rekey || cs.current() == nil && (cs.wanted || len(cs.acquires) > 0)
}

// sortedConns gives connections in an order that does not change from run to
// run.
func (e *Engine) sortedConns() []*connState {
	l := make([]*connState, 0, len(e.conns))
	for _, cs := range e.conns {
		l = append(l, cs)
	}
	slices.SortFunc(l, func(a, b *connState) int {
		switch {
		case a.conn.Name < b.conn.Name:
			return -1
		case a.conn.Name > b.conn.Name:
			return 1
		}
		return 0
	})
	return l
}

// start brings up what is to be kept up.
func (e *Engine) start() {
	e.started = true
	for _, cs := range e.sortedConns() {
		if cs.conn.Active {
			cs.wanted = true
			if cs.current() == nil {
				e.negotiate(cs)
			}
		}
	}
}

func (e *Engine) userInitiate(name string) {
	cs := e.conns[name]
	if cs == nil {
		e.emit(Notice{Text: fmt.Sprintf("there is no connection %q to bring up", name)})
		return
	}
	cs.wanted = true
	if cs.current() == nil {
		cs.retryAt, cs.fails = time.Time{}, 0
		e.negotiate(cs)
	}
}

// negotiate takes the next step towards a child that is needed, unless one is
// under way: ours, or the peer's.
func (e *Engine) negotiate(cs *connState) {
	if e.stopped || cs.busy != nil || cs.waitsFor != nil || !cs.due() {
		return
	}
	cs.retryAt = time.Time{}
	if cs.current() == nil {
		cs.retryAt = e.expected(cs)
	}
	cs.schedule(e)
	if len(cs.theirs) > 0 || !cs.retryAt.IsZero() {
		return
	}
	if p := e.bestPhase1(cs); p != nil {
		e.startQuick(p, cs, cs.current())
		return
	}
	peer := cs.conn.Peer
	if p := e.ownMainMode(cs); p != nil {
		cs.waitsFor = p
		p.neg.waiters = append(p.neg.waiters, cs)
		return
	}
	var remote netip.AddrPort
	if !peer.Address.IsValid() {
		if remote = cs.remoteAddr; !remote.IsValid() {
			e.failedConn(cs, &Failed{Reason: fmt.Sprintf("peer %s has no address: it has to call us", peer.Name)})
			return
		}
	}
	p := e.initiatePhase1(peer, netip.AddrPort{}, remote)
	cs.waitsFor = p
	p.neg.waiters = append(p.neg.waiters, cs)
}

// ownMainMode finds a main mode with the connection's peer that we started.
func (e *Engine) ownMainMode(cs *connState) *phase1 {
	for _, p := range e.byCookie {
		if p.peer == cs.conn.Peer && (!cs.dynamic || p.remote == cs.remoteAddr) {
			return p
		}
	}
	return nil
}

// failedConn notes a failure and sets the next attempt: soon at first, then
// every Check-interval.
func (e *Engine) failedConn(cs *connState, f *Failed) {
	if len(cs.theirs) == 0 { // else they wait for the peer's quick mode
		cs.endAcquires(e, errors.New(f.Reason))
	}
	if e.stopped {
		return
	}
	cs.rekey = cs.rekey && cs.current() != nil
	if !cs.due() {
		e.dropIdle(cs)
		return
	}
	pause := min(e.cfg.CheckInterval, 2*time.Second<<min(cs.fails, 10))
	cs.fails++
	cs.retryAt = e.now.Add(e.between(pause, 80, 120))
	cs.schedule(e)
}

// resume gives the connections of a peer that came to us what they wait for.
func (e *Engine) resume(p *phase1) {
	if p.role != Responder {
		return
	}
	for _, cs := range slices.Clone(e.connsOf[p.peer]) {
		// A main mode of ours that the peer has not answered so far may never get
		// there, and need not.
		unheard := false
		if own := cs.waitsFor; own != nil {
			unheard = own.neg.state == awaitSA && own.neg.sending.tries > 0
		}
		// Only who failed before is in a hurry: whoever calls us usually starts
		// its own quick mode, and a second one would be of no use.
		if cs.due() && cs.busy == nil && (unheard || cs.waitsFor == nil && cs.fails > 0) {
			cs.stopWaiting()
			cs.retryAt = e.now.Add(2 * e.cfg.RetransmitAfter)
			cs.schedule(e)
		}
	}
}

// lostChild: a connection has nothing left that carries its traffic.
func (e *Engine) lostChild(cs *connState) {
	cs.rekey = false
	if e.stopped {
		return
	}
	switch {
	case cs.wanted && e.conns[cs.conn.Name] == cs:
		if cs.busy == nil && cs.waitsFor == nil && cs.retryAt.IsZero() {
			cs.retryAt = e.now.Add(e.between(e.cfg.RetransmitAfter, 80, 120))
			cs.schedule(e)
		}
	default:
		e.dropIdle(cs)
	}
}

// dropIdle takes out a connection that was made for a peer and serves nothing
// any more.
func (e *Engine) dropIdle(cs *connState) {
	if cs == nil || !cs.dynamic || e.conns[cs.conn.Name] != cs {
		return
	}
	if len(cs.children) == 0 && len(cs.acquires) == 0 && cs.busy == nil && len(cs.theirs) == 0 && cs.waitsFor == nil {
		e.removeConn(cs)
	}
}

// connFor finds the connection that quick mode's identities mean.
func (e *Engine) connFor(p *phase1, local, remote Net) *connState {
	for _, cs := range e.connsOf[p.peer] {
		if cs.dynamic && cs.remoteID != string(p.idBody) {
			continue
		}
		if !cs.conn.ActiveOnly && cs.conn.Local.means(local, p.local.Addr()) && cs.conn.Remote.means(remote, p.remote.Addr()) {
			return cs
		}
	}
	return e.madeFor(p, local, remote)
}

// means tells whether a configured end is what the peer named.
func (n Net) means(o Net, end netip.Addr) bool {
	n = n.at(end)
	return n.Prefix.Masked() == o.Prefix.Masked() && n.Proto == o.Proto && n.Port == o.Port
}

func (n Net) String() string {
	s := "the tunnel's end"
	if n.Prefix.IsValid() {
		s = n.Prefix.String()
	}
	if n.Proto != 0 {
		s += fmt.Sprintf(" proto %d", n.Proto)
	}
	if n.Port != 0 {
		s += fmt.Sprintf(" port %d", n.Port)
	}
	return s
}

// describeNets lists what is configured with a peer, for a refused identity.
func (e *Engine) describeNets(peer *Peer) []string {
	var l []string
	for _, cs := range e.connsOf[peer] {
		l = append(l, fmt.Sprintf("%s: our %s, its %s", cs.conn.Name, cs.conn.Local, cs.conn.Remote))
	}
	slices.Sort(l)
	return l
}

// closestNets names the end that differs when the other one fits.
func (e *Engine) closestNets(peer *Peer, local, remote Net) string {
	for _, cs := range e.connsOf[peer] {
		c := cs.conn
		switch {
		case c.ActiveOnly && c.Local.Prefix == local.Prefix && c.Remote.Prefix == remote.Prefix:
			return fmt.Sprintf("connection %s is Active-only: it is never accepted from the peer", c.Name)
		case c.Local.Prefix == local.Prefix:
			return fmt.Sprintf("the peer's network: connection %s has %s, the peer asks for %s", c.Name, c.Remote, remote)
		case c.Remote.Prefix == remote.Prefix:
			return fmt.Sprintf("our network: connection %s has %s, the peer asks for %s", c.Name, c.Local, local)
		}
	}
	return ""
}

// flows are those that a dynamic connection brings along.
func (cs *connState) flows(q *quick) []ipsec.FlowChange {
	if !cs.dynamic || cs.hasFlows {
		return nil
	}
	sel := q.selector()
	f := ipsec.Flow{
		Type: ipsec.FlowRequire, Order: ipsec.OrderIKE, Local: q.p.local.Addr(), Remote: q.p.remote.Addr(), Mode: q.chosen.sas[0].offer.mode,
		Proto: ipProtos[q.chosen.sas[0].proto], Owner: ipsec.OwnerIKE, Conn: cs.conn.Name,
		Interface: cs.conn.Interface, IDs: q.p.ids,
	}
	out, in := f, f
	out.ID, out.Dir, out.Selector = flowOf(cs.conn.Name, ipsec.Out), ipsec.Out, sel
	in.ID, in.Dir, in.Selector = flowOf(cs.conn.Name, ipsec.In), ipsec.In, sel.Reverse()
	return []ipsec.FlowChange{{Flow: out}, {Flow: in}}
}

// flowsGone are those that go with a dynamic connection's last SA.
func (cs *connState) flowsGone() []ipsec.FlowChange {
	if cs == nil || !cs.hasFlows || len(cs.children) > 0 {
		return nil
	}
	cs.hasFlows = false
	return []ipsec.FlowChange{
		{Remove: true, Flow: ipsec.Flow{ID: flowOf(cs.conn.Name, ipsec.Out), Dir: ipsec.Out}},
		{Remove: true, Flow: ipsec.Flow{ID: flowOf(cs.conn.Name, ipsec.In), Dir: ipsec.In}},
	}
}

// teardown ends a connection by hand: it is no longer kept up.
func (e *Engine) teardown(in Teardown) {
	if in.Phase1 {
		peer := e.cfg.peer(in.Name)
		if peer == nil {
			e.emit(Notice{Text: fmt.Sprintf("there is no peer %q to tear down", in.Name)})
			return
		}
		for _, p := range slices.Clone(e.up[upKey{peer, ""}]) {
			e.deletePhase1(p, "torn down by request")
		}
		return
	}
	cs := e.conns[in.Name]
	if cs == nil {
		e.emit(Notice{Text: fmt.Sprintf("there is no connection %q to tear down", in.Name)})
		return
	}
	e.closeConn(cs, "torn down by request", false)
}

// closeConn ends everything that a connection has, and tells the peer. What
// listens to the last of a peer's packets goes with the connection itself.
func (e *Engine) closeConn(cs *connState, reason string, gone bool) {
	cs.wanted, cs.rekey, cs.retryAt = false, false, time.Time{}
	e.alarms.unset(&cs.alarm)
	if q := cs.busy; q != nil {
		if q.state == awaitQuick2 { // the peer may be at work
			e.withdraw(q)
		}
		e.endQuick(q)
	}
	cs.stopWaiting()
	cs.endAcquires(e, errors.New(reason))
	for _, q := range slices.Clone(cs.theirs) {
		if !q.installedIn && !e.quiet { // it got no answer yet
			e.inform(q.p, notifyPayload(doi.NotifyNoProposalChosen))
		}
		e.endQuick(q)
	}
	for _, c := range slices.Clone(cs.children) {
		if gone || !c.deaf {
			e.endChild(c, reason, true)
		}
	}
}

// shutdown ends everything. Quiet leaves peers and SAs as they are; what is not
// agreed on yet comes to nothing in either case.
func (e *Engine) shutdown(in Shutdown) {
	e.stopped, e.quiet = true, in.Quiet
	for _, cs := range e.sortedConns() {
		if !in.Quiet {
			e.closeConn(cs, "shutting down", true)
		}
	}
	for _, p := range e.sortedPhase1() {
		if p.neg == nil && !in.Quiet {
			e.deletePhase1(p, "shutting down")
			continue
		}
		for _, q := range sortedQuicks(p) {
			e.abandonQuick(q, "shutting down")
		}
		e.endPhase1(p)
	}
}

// sortedPhase1 gives all phase 1 exchanges and SAs in a stable order.
func (e *Engine) sortedPhase1() []*phase1 {
	seen := map[*phase1]bool{}
	var l []*phase1
	add := func(p *phase1) {
		if !seen[p] {
			seen[p] = true
			l = append(l, p)
		}
	}
	for _, p := range e.sas {
		add(p)
	}
	for _, p := range e.byCookie {
		add(p)
	}
	slices.SortFunc(l, func(a, b *phase1) int {
		if c := bytes.Compare(a.icky[:], b.icky[:]); c != 0 {
			return c
		}
		return bytes.Compare(a.rcky[:], b.rcky[:])
	})
	return l
}

// reload takes a new configuration as a difference: what is the same keeps its
// SAs, what has changed or gone loses them.
func (e *Engine) reload(cfg *Config) {
	cfg.Defaults()
	old := e.cfg
	kept := map[*Peer]*Peer{}
	for _, p := range append(slices.Clone(old.Peers), old.DefaultPeer) {
		if p == nil {
			continue
		}
		if n := cfg.peer(p.Name); n != nil && reflect.DeepEqual(p, n) {
			kept[p] = n
		}
	}
	for _, cs := range e.sortedConns() {
		n := cfg.connection(cs.conn.Name)
		if cs.dynamic && samePattern(old.pattern(cs.byPolicy), cfg.pattern(cs.byPolicy)) {
			n = cs.conn
		}
		if n == nil || kept[cs.conn.Peer] == nil || !sameConnection(cs.conn, n) {
			e.closeConn(cs, "the configuration changed", true)
			e.removeConn(cs)
		}
	}
	for _, p := range e.sortedPhase1() {
		switch {
		case kept[p.peer] != nil:
		case p.neg == nil:
			e.deletePhase1(p, "the configuration changed")
		default:
			e.endPhase1(p)
		}
	}
	e.adopt(cfg, kept)
	e.cfg, e.peerIndex = cfg, cfg.peersByAddr()
	if e.started {
		e.start()
	}
}

// adopt lets what stays point into the new configuration.
func (e *Engine) adopt(cfg *Config, kept map[*Peer]*Peer) {
	for _, p := range e.sortedPhase1() {
		p.peer = kept[p.peer]
	}
	up := map[upKey][]*phase1{}
	for k, l := range e.up {
		up[upKey{kept[k.peer], k.id}] = l
	}
	e.up = up
	e.connsOf = map[*Peer][]*connState{}
	for _, cs := range e.sortedConns() {
		for _, c := range cs.children {
			c.peer = kept[c.peer]
		}
		if n := cfg.connection(cs.conn.Name); n != nil {
			cs.conn = n
			cs.wanted = cs.wanted && n.Active
		} else {
			cs.conn.Peer = kept[cs.conn.Peer]
		}
		e.connsOf[cs.conn.Peer] = append(e.connsOf[cs.conn.Peer], cs)
	}
	for _, c := range cfg.Connections {
		if e.conns[c.Name] == nil {
			e.addConn(&connState{conn: c})
		}
	}
}

// sameConnection compares all but the peer, which is compared by itself, and
// whether it is to be kept up, which costs no SA.
func sameConnection(a, b *Connection) bool {
	x, y := *a, *b
	x.Peer, y.Peer = nil, nil
	x.Active, y.Active = false, false
	return reflect.DeepEqual(x, y)
}
