package iketest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/isakmp"
)

// Node is one host: an engine, what carries out its requests, and a data plane.
type Node struct {
	World  *World
	Name   string
	Addr   netip.Addr
	NAT    *NAT // it is behind one
	Config *ike.Config
	Engine *ike.Engine // nil: the host is down
	Plane  *Plane
	Faults Faults

	// Events are the engine's outputs for people, in order.
	Events []ike.Output
	// Ended are the answers to Acquire.
	Ended []ike.EndAcquire
	// Requests counts the requests by kind.
	Requests map[string]int
	// Transmits counts the datagrams sent since the node was made.
	Transmits int
	// Inputs counts what the engine was given.
	Inputs int

	seen   state // the engine's, when it was last looked at
	random *rand.ChaCha8
	life   int // counts restarts: results of a life before are nobody's
}

// NewNode adds a host that runs an engine.
func (w *World) NewNode(name, addr string, cfg *ike.Config) *Node {
	n := &Node{World: w, Name: name, Addr: netip.MustParseAddr(addr), Config: cfg, Requests: map[string]int{}}
	var key [32]byte
	for i := range key {
		key[i] = byte(w.rng.Uint32())
	}
	n.random = rand.NewChaCha8(key)
	n.Plane = newPlane(n)
	n.Engine = ike.New(cfg, n.random)
	w.nodes = append(w.nodes, n)
	w.byAddr[n.Addr] = n
	w.observer.learn(cfg)
	return n
}

// Restart is kill -9 and a new start: neither the engine nor the data plane
// knows anything any more. Start is not given.
func (n *Node) Restart() {
	n.Kill()
	n.Engine = ike.New(n.Config, n.random)
}

// Kill is kill -9.
func (n *Node) Kill() {
	n.life++
	n.Engine = nil
	n.Plane.wipe()
}

func (n *Node) timeout() { n.Handle(ike.Timeout{}) }

// Start brings up what is to be kept up.
func (n *Node) Start() { n.Handle(ike.Start{}) }

// Initiate brings up one connection.
func (n *Node) Initiate(conn string) { n.Handle(ike.Initiate{Conn: conn}) }

// receive takes a datagram from the network.
func (n *Node) receive(w *World, p *Packet) {
	switch {
	case p.ESP != nil:
		n.Plane.receive(p)
	case p.KeepOpen || n.Engine == nil:
	default:
		n.Handle(ike.Datagram{Local: p.To, Remote: p.From, Data: p.Data})
	}
}

// state is a dump, and when it was made.
type state struct {
	engine *ike.Engine
	inputs int
	dump   []byte
}

// State is the engine's dump, made once between two inputs.
func (n *Node) State() []byte {
	if n.seen.engine != n.Engine || n.seen.inputs != n.Inputs {
		n.seen = state{n.Engine, n.Inputs, n.Engine.Dump()}
	}
	return n.seen.dump
}

// outputBound is how many outputs one input may have.
const outputBound = 2000

// Handle gives the engine an input, carries out what it wants and checks what
// must hold.
func (n *Node) Handle(in ike.Input) {
	w := n.World
	if n.Engine == nil {
		return
	}
	d, isDatagram := in.(ike.Datagram)
	var before, copied []byte
	if !w.Light && isDatagram {
		before = n.State()
	}
	n.Inputs++
	w.stir()
	if !w.Light && isDatagram {
		copied = bytes.Clone(d.Data)
	}
	n.Engine.Handle(w.Now, in)
	var outs []ike.Output
	for {
		o, ok := n.Engine.Poll()
		if !ok {
			break
		}
		outs = append(outs, o)
	}
	if len(outs) > outputBound {
		w.Fatalf("%s: %d outputs for one %T", n.Name, len(outs), in)
	}
	if at, ok := n.Engine.Deadline(); ok && at.Before(w.Now) {
		if _, timed := in.(ike.Timeout); timed {
			w.Fatalf("%s: after Timeout it still wants to be called at %s, which is past", n.Name, at.Sub(Epoch))
		}
	}
	if isDatagram {
		n.checkAnswer(d, outs)
		if !w.Light {
			n.checkDropped(d, outs, before)
			if !bytes.Equal(copied, d.Data) {
				w.Errorf("%s changed the bytes of a datagram", n.Name)
			}
			for i := range d.Data { // whoever kept a reference keeps rubbish
				d.Data[i] ^= 0x5a
			}
		}
	}
	for _, o := range outs {
		n.carryOut(o)
	}
}

// checkDropped: an input that was dropped has changed nothing.
func (n *Node) checkDropped(d ike.Datagram, outs []ike.Output, before []byte) {
	for _, o := range outs {
		if ev, ok := o.(ike.Dropped); ok {
			if after := n.State(); !bytes.Equal(before, after) {
				n.World.Errorf("%s: %s\nand it changed the state from\n%sto\n%s", n.Name, ev, before, after)
			}
			return
		}
	}
}

// checkAnswer: what is not authenticated gets at most one answer, never longer
// than itself; an encrypted message of no SA gets none.
func (n *Node) checkAnswer(d ike.Datagram, outs []ike.Output) {
	w := n.World
	count, size := 0, 0
	for _, o := range outs {
		if t, ok := o.(ike.Transmit); ok {
			count, size = count+1, size+len(t.Data)
		}
	}
	h, err := isakmp.ParseHeader(d.Data)
	switch {
	case count == 0:
	case err != nil:
		w.Errorf("%s answered a datagram without a header: %v", n.Name, err)
	case h.Exchange == doi.ExchangeInformational && h.Flags&isakmp.FlagEncrypted == 0:
		w.Errorf("%s answered an informational message in clear", n.Name)
	case h.Flags&isakmp.FlagEncrypted != 0:
	case count > 1:
		w.Errorf("%s gave %d answers to one message in clear: %v", n.Name, count, outs)
	case size > len(d.Data) && h.Responder.IsZero():
		w.Errorf("%s answered a first message of %d bytes with %d", n.Name, len(d.Data), size)
	}
}

// carryOut does what the engine wants.
func (n *Node) carryOut(o ike.Output) {
	w := n.World
	switch o := o.(type) {
	case ike.Transmit:
		n.Transmits++
		p := &Packet{Sender: n, From: n.source(o.Local), To: o.Remote, Data: bytes.Clone(o.Data)}
		if !w.Light {
			w.observer.sent(n, p)
		}
		w.send(p)
	case ike.KeepAlive:
		n.Requests["KeepAlive"]++
		w.send(&Packet{Sender: n, From: n.source(o.Local), To: o.Remote, KeepOpen: true})
	case ike.EndAcquire:
		n.Ended = append(n.Ended, o)
		n.Plane.enqueue(0, nil, func() { n.Plane.endAcquire(o) })
	case ike.AllocSPI, ike.InstallSA, ike.DeleteSA, ike.UpdateSA, ike.DiffieHellman, ike.QueryPolicy:
		n.Requests[fmt.Sprintf("%T", o)[len("ike."):]]++
		n.execute(o)
	default:
		n.Events = append(n.Events, o)
		if w.Transcript {
			w.remark(n, o)
		}
	}
}

// source is the address that a datagram leaves from; the system chooses the
// node's own when the engine does not.
func (n *Node) source(local netip.AddrPort) netip.AddrPort {
	if local.Addr().IsValid() {
		return local
	}
	port := local.Port()
	if port == 0 {
		port = 500
	}
	return netip.AddrPortFrom(n.Addr, port)
}

// later does something unless the host was restarted meanwhile.
func (n *Node) later(d time.Duration, f func()) {
	life := n.life
	n.World.After(d, func() {
		if n.life == life {
			f()
		}
	})
}
