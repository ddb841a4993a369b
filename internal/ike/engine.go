// Package ike is the negotiation engine: main mode, quick mode and
// informational exchanges of RFC 2409 with NAT traversal of RFC 3947. It does
// no input and output: what happens is given to Handle, what is to be done is
// taken from Poll, and Deadline says when it wants to be called again.
//
// Whatever needs the network, the kernel, randomly long arithmetic or a
// decision of others is an Output whose result comes back as an Input, so
// waiting is a state that Dump shows. Nothing here starts a goroutine or reads
// a clock.
package ike

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/netip"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// Engine negotiates for one host. It is not safe for concurrent use: one
// goroutine owns it.
type Engine struct {
	cfg       *Config
	peerIndex map[netip.Addr]*Peer
	rand      io.Reader
	now       time.Time
	started   bool
	stopped   bool
	quiet     bool // stopped without a word to the peers

	out  []Output
	head int

	alarms   alarms
	nextReq  RequestID
	requests map[RequestID]*request

	// An ISAKMP SA is found by both cookies; before the responder's is known,
	// by the initiator's: ours in byCookie, the peer's, which is no secret,
	// with its address in firsts.
	sas      map[cookiePair]*phase1
	byCookie map[isakmp.Cookie]*phase1
	firsts   map[firstKey]*phase1
	half     halfOpen

	up map[upKey][]*phase1

	conns    map[string]*connState
	connsOf  map[*Peer][]*connState
	children map[ipsec.SAID]*child // by each of their SAs
	bundles  uint64
}

type cookiePair struct{ i, r isakmp.Cookie }

type firstKey struct {
	cookie isakmp.Cookie
	remote netip.AddrPort
}

// New makes an engine. rand gives cookies, nonces, message IDs and jitter.
func New(cfg *Config, rand io.Reader) *Engine {
	e := &Engine{
		cfg: cfg.Defaults(), peerIndex: cfg.peersByAddr(), rand: rand,
		requests: map[RequestID]*request{},
		sas:      map[cookiePair]*phase1{},
		byCookie: map[isakmp.Cookie]*phase1{},
		firsts:   map[firstKey]*phase1{},
		up:       map[upKey][]*phase1{},
		conns:    map[string]*connState{},
		connsOf:  map[*Peer][]*connState{},
		children: map[ipsec.SAID]*child{},
	}
	e.half.perAddr = map[netip.Addr]int{}
	for _, c := range cfg.Connections {
		e.addConn(&connState{conn: c})
	}
	return e
}

// Handle takes one input. Poll is to be called until it is empty before the
// next one.
func (e *Engine) Handle(now time.Time, in Input) {
	e.now = now
	switch in := in.(type) {
	case Datagram:
		e.datagram(in)
	case Timeout:
		e.fire()
	case Adopt:
		e.takeBack(in)
	case Start:
		e.start()
	case Initiate:
		e.userInitiate(in.Conn)
	case Acquire:
		e.acquire(in)
	case Expire:
		e.expire(in)
	case Mapping:
		e.mapping(in)
	case Teardown:
		e.teardown(in)
	case Shutdown:
		e.shutdown(in)
	case Reload:
		e.reload(in.Config)
	case SPIAllocated:
		e.result(in.ID, in)
	case SAInstalled:
		e.result(in.ID, in)
	case DHDone:
		e.result(in.ID, in)
	case PolicyAnswer:
		e.result(in.ID, in)
	default:
		panic(fmt.Sprintf("ike: input of unknown type %T", in)) // our own misuse, never a peer's
	}
}

// Poll returns the next thing to be done.
func (e *Engine) Poll() (Output, bool) {
	if e.head == len(e.out) {
		clear(e.out)
		e.out, e.head = e.out[:0], 0
		return nil, false
	}
	o := e.out[e.head]
	e.head++
	return o, true
}

func (e *Engine) emit(o Output) { e.out = append(e.out, o) }

// Deadline says when Timeout is wanted; false: not at all.
func (e *Engine) Deadline() (time.Time, bool) { return e.alarms.next() }

// request is one outstanding request. One whose exchange is gone stays until
// its result comes, so that what was reserved for it can be given back.
type request struct {
	done  func(Input) // nil: nobody waits any more
	proto ipsec.Proto // of an AllocSPI
	dst   netip.Addr
}

func (e *Engine) ask(done func(Input)) RequestID {
	e.nextReq++
	e.requests[e.nextReq] = &request{done: done}
	return e.nextReq
}

func (e *Engine) askSPI(proto ipsec.Proto, src, dst netip.Addr, done func(Input)) RequestID {
	id := e.ask(done)
	e.requests[id].proto, e.requests[id].dst = proto, dst
	e.emit(AllocSPI{ID: id, Proto: proto, Src: src, Dst: dst})
	return id
}

func (e *Engine) result(id RequestID, in Input) {
	r := e.requests[id]
	if r == nil {
		return
	}
	delete(e.requests, id)
	if r.done != nil {
		r.done(in)
		return
	}
	if a, ok := in.(SPIAllocated); ok && a.Err == nil {
		e.emit(DeleteSA{SAs: []ipsec.SAID{{Dir: ipsec.In, Proto: r.proto, SPI: a.SPI, Dst: r.dst}}})
	}
}

// forget stops waiting for requests.
func (e *Engine) forget(ids []RequestID) {
	for _, id := range ids {
		if r := e.requests[id]; r != nil {
			r.done = nil
		}
	}
}

// random fills b. A failing source of randomness is not to be survived.
func (e *Engine) random(b []byte) {
	if _, err := io.ReadFull(e.rand, b); err != nil {
		panic("ike: no randomness: " + err.Error())
	}
}

// between picks a point between two percentages of d: the jitter that keeps two
// sides, and a thousand tunnels, from rekeying at the same moment.
func (e *Engine) between(d time.Duration, low, high int) time.Duration {
	var b [2]byte
	e.random(b[:])
	f := float64(low) + float64(high-low)*float64(uint16(b[0])<<8|uint16(b[1]))/65536
	return time.Duration(float64(d) * f / 100)
}

// newCookie makes a cookie of ours. Its last byte is kept free, should there
// ever be several engines behind one port.
func (e *Engine) newCookie() isakmp.Cookie {
	var c isakmp.Cookie
	for c.IsZero() || e.byCookie[c] != nil {
		e.random(c[:7])
	}
	return c
}

func (e *Engine) messageID(p *phase1) uint32 {
	for {
		var b [4]byte
		e.random(b[:])
		id := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		if id != 0 && p.quicks[id] == nil && !p.seen.has(id) {
			return id
		}
	}
}

// datagram finds what a datagram belongs to. Everything in it is a claim.
func (e *Engine) datagram(d Datagram) {
	h, err := isakmp.ParseHeader(d.Data)
	if err != nil {
		e.drop(d, nil, FaultMalformed, err.Error())
		return
	}
	if int64(h.Length) != int64(len(d.Data)) {
		e.drop(d, nil, FaultMalformed, fmt.Sprintf("the header says %d bytes, the datagram has %d", h.Length, len(d.Data)))
		return
	}
	if h.Initiator.IsZero() {
		e.drop(d, nil, FaultMalformed, "the initiator's cookie is zero")
		return
	}
	if e.stopped {
		e.drop(d, nil, FaultStale, "shutting down")
		return
	}
	switch h.Exchange {
	case doi.ExchangeMain:
		e.mainDatagram(d, h)
	case doi.ExchangeQuick:
		e.quickDatagram(d, h)
	case doi.ExchangeInformational:
		e.infoDatagram(d, h)
	default:
		e.drop(d, nil, FaultIncompatible, fmt.Sprintf("exchange type %s is not spoken here", h.Exchange))
	}
}

// established finds the ISAKMP SA that protects a phase 2 message.
func (e *Engine) established(d Datagram, h isakmp.Header) *phase1 {
	p := e.sas[cookiePair{h.Initiator, h.Responder}]
	switch {
	case p == nil:
		e.drop(d, nil, FaultStale, fmt.Sprintf("%s message for cookies %s %s, which are no ISAKMP SA here (any more)", h.Exchange, h.Initiator, h.Responder))
		return nil
	case p.neg != nil:
		e.drop(d, p, FaultMisbehaved, fmt.Sprintf("%s message before phase 1 is done", h.Exchange))
		return nil
	case h.Flags&isakmp.FlagEncrypted == 0:
		e.drop(d, p, FaultUnauthentic, fmt.Sprintf("%s message in clear", h.Exchange))
		return nil
	case h.MessageID == 0:
		e.drop(d, p, FaultMisbehaved, fmt.Sprintf("%s message without a message ID", h.Exchange))
		return nil
	}
	return p
}

// drop reports a datagram that changes nothing.
func (e *Engine) drop(d Datagram, p *phase1, f Fault, reason string) {
	ev := Dropped{Remote: d.Remote, Fault: f, Reason: reason}
	if p != nil {
		ev.Peer = p.peer.Name
	}
	e.emit(ev)
}

// notifyClear answers an unauthenticated datagram with a notification in clear,
// never with more bytes than came (attack D1).
func (e *Engine) notifyClear(d Datagram, h isakmp.Header, n doi.Notify) {
	m := isakmp.Message{
		Header:   isakmp.Header{Initiator: h.Initiator, Responder: h.Responder, Version: isakmp.Version, Exchange: doi.ExchangeInformational},
		Payloads: []isakmp.Payload{&isakmp.Notify{DOI: doi.IPsec, Protocol: doi.ProtoISAKMP, Type: n}},
	}
	var id [4]byte
	e.random(id[:])
	m.Header.MessageID = uint32(id[0])<<24 | uint32(id[1])<<16 | uint32(id[2])<<8 | uint32(id[3]) | 1
	if b := m.Append(nil); len(b) <= len(d.Data) {
		e.emit(Transmit{Local: d.Local, Remote: d.Remote, Data: b})
	}
}

// digest names a datagram for the duplicate cache.
func digest(b []byte) [16]byte {
	s := sha256.Sum256(b)
	return [16]byte(s[:16])
}
