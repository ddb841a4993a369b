package iketest

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
	"oakley/internal/oakley"
)

// Observer follows all exchanges with the keys that the nodes have: it decrypts,
// knows which message of an exchange a datagram is, and can make messages as
// either side would.
type Observer struct {
	// Lenient does not complain about exchanges whose first message it did not
	// see, because the test made it.
	Lenient bool

	psks     [][]byte
	secrets  map[string][]byte // by both public values
	firsts   map[isakmp.Cookie]*first
	sessions map[[2]isakmp.Cookie]*Session
	seen     map[string]*Seen // by the datagram's bytes
	order    []*Session
}

type first struct {
	node   *Node
	saBody []byte
}

// Session is one ISAKMP SA, or what is to become one.
type Session struct {
	I, R      isakmp.Cookie
	Initiator *Node
	Responder *Node
	Keys      *oakley.Keys // nil: not known yet
	LastBlock []byte       // of main mode; nil: not done

	suite  oakley.Suite
	saBody []byte
	ke     [2][]byte
	nonce  [2][]byte
	iv     []byte
	lost   bool // its end could not be followed: one side got something else than was sent
	quicks map[uint32]*quickSeen
}

type quickSeen struct {
	initiator *Node
	iv        []byte
	messages  int
	spis      [2][]spiSeen
	ni, nr    []byte
	ke        [2][]byte // none without PFS
}

// secret is the shared secret of perfect forward secrecy, nil without.
func (q *quickSeen) secret(o *Observer) []byte { return o.secrets[secretKey(q.ke[0], q.ke[1])] }

type spiSeen struct {
	proto doi.Protocol
	spi   ipsec.SPI
}

// Seen is what the observer made of a datagram.
type Seen struct {
	Exchange doi.Exchange
	Step     int // of the exchange, from 1
	Message  *isakmp.Message
	Session  *Session
	Repeat   int // how often it was sent before
}

func newObserver() *Observer {
	return &Observer{
		secrets: map[string][]byte{}, firsts: map[isakmp.Cookie]*first{},
		sessions: map[[2]isakmp.Cookie]*Session{}, seen: map[string]*Seen{},
	}
}

// learn takes the keys of a configuration.
func (o *Observer) learn(cfg *ike.Config) {
	ps := append([]*ike.Peer{cfg.DefaultPeer}, cfg.Peers...)
	for _, p := range ps {
		if p != nil && len(p.Key) > 0 {
			o.psks = append(o.psks, p.Key)
		}
	}
}

func secretKey(a, b []byte) string {
	if bytes.Compare(a, b) > 0 {
		a, b = b, a
	}
	return string(a) + "|" + string(b)
}

func (o *Observer) secret(a, b, shared []byte) { o.secrets[secretKey(a, b)] = shared }

// Sessions are all that were seen, in order.
func (o *Observer) Sessions() []*Session { return o.order }

// Last is the last session that came to its end.
func (o *Observer) Last() *Session {
	for i := len(o.order) - 1; i >= 0; i-- {
		if o.order[i].LastBlock != nil {
			return o.order[i]
		}
	}
	return nil
}

// QuickModes is how many quick modes were begun.
func (o *Observer) QuickModes() int {
	n := 0
	for _, x := range o.order {
		n += len(x.quicks)
	}
	return n
}

// Of is what is known of a datagram that was sent before.
func (o *Observer) Of(data []byte) *Seen { return o.seen[string(data)] }

// sent follows one datagram as it leaves its sender, and checks that SAs are
// live before a message says so.
func (o *Observer) sent(n *Node, p *Packet) *Seen {
	if s := o.seen[string(p.Data)]; s != nil {
		s.Repeat++
		return s
	}
	s := o.understand(n, p.Data)
	o.seen[string(p.Data)] = s
	if s.Session != nil && s.Message != nil && s.Exchange == doi.ExchangeQuick {
		o.checkLive(n, s)
	}
	return s
}

func (o *Observer) understand(n *Node, b []byte) *Seen {
	h, err := isakmp.ParseHeader(b)
	if err != nil {
		n.World.Errorf("%s sends what has no header: %v", n.Name, err)
		return &Seen{}
	}
	if err := h.CheckLength(len(b)); err != nil {
		n.World.Errorf("%s sends %v", n.Name, err)
	}
	s := &Seen{Exchange: h.Exchange, Session: o.sessions[[2]isakmp.Cookie{h.Initiator, h.Responder}]}
	if h.Flags&isakmp.FlagEncrypted == 0 {
		m, err := isakmp.Parse(b)
		if err != nil {
			n.World.Errorf("%s sends a message that cannot be parsed: %v", n.Name, err)
			return s
		}
		s.Message = m
		if !bytes.Equal(m.Append(nil), b) { // no byte that was not written on purpose
			n.World.Errorf("%s sends bytes that mean nothing: %x", n.Name, b)
		}
		if h.Exchange == doi.ExchangeMain {
			s.Step = o.mainClear(n, s, m)
		}
		return s
	}
	if s.Session == nil || s.Session.suite.Cipher == 0 {
		return s
	}
	switch h.Exchange {
	case doi.ExchangeMain:
		s.Step = o.mainEncrypted(n, s, h, b)
	case doi.ExchangeQuick:
		o.quick(n, s, h, b)
	default:
		if s.Session.LastBlock != nil {
			s.Message, _, _ = s.Session.open(h, b, s.Session.Keys.Phase2IV(s.Session.LastBlock, h.MessageID))
		}
	}
	return s
}

func find[T isakmp.Payload](m *isakmp.Message) (p T, at int) {
	for i, q := range m.Payloads {
		if t, ok := q.(T); ok {
			return t, i
		}
	}
	return p, -1
}

// mainClear follows messages 1 to 4.
func (o *Observer) mainClear(n *Node, s *Seen, m *isakmp.Message) int {
	h := m.Header
	if sa, at := find[*isakmp.SA](m); at >= 0 {
		if h.Responder.IsZero() {
			o.firsts[h.Initiator] = &first{n, bytes.Clone(m.Body(at))}
			return 1
		}
		f := o.firsts[h.Initiator]
		if f == nil {
			f = &first{}
		}
		x := &Session{I: h.Initiator, R: h.Responder, Initiator: f.node, Responder: n, saBody: f.saBody, quicks: map[uint32]*quickSeen{}}
		x.suite = suiteOf(&sa.Proposals[0].Transforms[0])
		o.sessions[[2]isakmp.Cookie{h.Initiator, h.Responder}] = x
		o.order = append(o.order, x)
		s.Session = x
		return 2
	}
	x := s.Session
	ke, at := find[*isakmp.KE](m)
	if x == nil || at < 0 {
		return 0
	}
	no, _ := find[*isakmp.Nonce](m)
	side := 0
	if n != x.Initiator {
		side = 1
	}
	x.ke[side], x.nonce[side] = bytes.Clone(ke.Data), bytes.Clone(no.Data)
	return 3 + side
}

func suiteOf(t *isakmp.Transform) oakley.Suite {
	num := func(a doi.IKEAttr) uint16 {
		at, ok := t.Attribute(uint16(a))
		if !ok {
			return 0
		}
		v, _ := at.Uint()
		return uint16(v)
	}
	s := oakley.Suite{Cipher: doi.Cipher(num(doi.IKEEncryption)), KeyBits: int(num(doi.IKEKeyLength)), Hash: doi.Hash(num(doi.IKEHash))}
	if s.KeyBits == 0 && s.Cipher != doi.CipherDES && s.Cipher != doi.Cipher3DES {
		s.KeyBits = 128
	}
	return s
}

// mainEncrypted follows messages 5 and 6. The key is the one that message 5's
// hash says.
func (o *Observer) mainEncrypted(n *Node, s *Seen, h isakmp.Header, b []byte) int {
	x := s.Session
	shared := o.secrets[secretKey(x.ke[0], x.ke[1])]
	if shared == nil {
		return 0
	}
	if n == x.Initiator {
		for _, psk := range o.psks {
			skeyid := oakley.SKEYIDPreShared(x.suite.Hash, psk, x.nonce[0], x.nonce[1])
			k, err := oakley.Derive(x.suite, skeyid, shared, x.I, x.R)
			if err != nil {
				continue
			}
			x.Keys = k
			m, next, err := x.open(h, b, k.IV(x.ke[0], x.ke[1]))
			if err != nil {
				continue
			}
			id, at := find[*isakmp.ID](m)
			hash, hashAt := find[*isakmp.Hash](m)
			if at < 0 || hashAt < 0 || !bytes.Equal(hash.Data, k.HashI(x.ke[0], x.ke[1], x.I, x.R, x.saBody, isakmp.BodyOf(id))) {
				continue
			}
			x.iv, s.Message = next, m
			return 5
		}
		x.Keys = nil
		return 5
	}
	if x.Keys == nil || x.iv == nil {
		return 6
	}
	m, next, err := x.open(h, b, x.iv)
	if err != nil { // it got another message 5 than was sent: that end is not covered by the hash
		x.lost = true
		return 6
	}
	s.Message, x.LastBlock = m, next
	return 6
}

func (x *Session) open(h isakmp.Header, b, iv []byte) (*isakmp.Message, []byte, error) {
	plain, next, err := x.Keys.Decrypt(iv, b[isakmp.HeaderLen:])
	if err != nil {
		return nil, nil, err
	}
	m, err := isakmp.ParseDecrypted(h, plain)
	if err == nil && len(bytes.Trim(plain[len(isakmp.AppendPayloads(nil, m.Payloads)):], "\x00")) > 0 {
		err = fmt.Errorf("its padding is not zero: %x", plain)
	}
	return m, next, err
}

func (o *Observer) complain(n *Node, format string, args ...any) {
	if !o.Lenient {
		n.World.Errorf(format, args...)
	}
}

// quick follows the messages of a quick mode.
func (o *Observer) quick(n *Node, s *Seen, h isakmp.Header, b []byte) {
	x := s.Session
	if x.LastBlock == nil {
		if x.lost {
			return
		}
		o.complain(n, "%s sends a quick mode message before main mode is done", n.Name)
		return
	}
	q := x.quicks[h.MessageID]
	if q == nil {
		q = &quickSeen{initiator: n, iv: x.Keys.Phase2IV(x.LastBlock, h.MessageID)}
		x.quicks[h.MessageID] = q
	}
	m, next, err := x.open(h, b, q.iv)
	if err != nil {
		o.complain(n, "%s sends a quick mode message that cannot be read: %v", n.Name, err)
		return
	}
	q.iv = next
	q.messages++
	s.Step, s.Message = q.messages, m
	if s.Step > 3 {
		o.complain(n, "%s sends a quick mode message number %d: %s", n.Name, s.Step, m)
		return
	}
	hash, at := find[*isakmp.Hash](m)
	if at != 0 || !bytes.Equal(hash.Data, q.hash(x, s.Step, h.MessageID, m)) {
		o.complain(n, "%s sends quick mode message %d with a wrong hash", n.Name, s.Step)
	}
	if ke, at := find[*isakmp.KE](m); at >= 0 && s.Step < 3 {
		q.ke[s.Step-1] = bytes.Clone(ke.Data)
	}
	if sa, at := find[*isakmp.SA](m); at >= 0 {
		for _, p := range sa.Proposals {
			v := spiSeen{proto: p.Protocol}
			for _, c := range p.SPI {
				v.spi = v.spi<<8 | ipsec.SPI(c)
			}
			q.spis[s.Step-1] = append(q.spis[s.Step-1], v)
		}
	}
}

func (q *quickSeen) hash(x *Session, step int, id uint32, m *isakmp.Message) []byte {
	no, at := find[*isakmp.Nonce](m)
	switch {
	case step == 1 && at >= 0:
		q.ni = bytes.Clone(no.Data)
		return x.Keys.Hash1(id, m.After(0))
	case step == 2 && at >= 0:
		q.nr = bytes.Clone(no.Data)
		return x.Keys.Hash2(id, q.ni, m.After(0))
	}
	return x.Keys.Hash3(id, q.ni, q.nr)
}

// checkLive: quick mode's second message says that its sender listens, the third
// that its sender listens and may be sent to.
func (o *Observer) checkLive(n *Node, s *Seen) {
	q := s.Session.quicks[s.Message.Header.MessageID]
	switch s.Step {
	case 2:
		for _, v := range q.spis[1] {
			if !n.Plane.IsLive(ipsec.In, v.spi) {
				o.complain(n, "%s sends quick mode message 2, and its incoming SA %s is not live", n.Name, v.spi)
			}
		}
	case 3:
		for _, v := range q.spis[1] {
			if !n.Plane.IsLive(ipsec.Out, v.spi) {
				o.complain(n, "%s sends quick mode message 3, and its outgoing SA %s is not live", n.Name, v.spi)
			}
			for _, own := range q.spis[0] {
				if own.proto == v.proto && !n.Plane.IsLive(ipsec.In, own.spi) {
					o.complain(n, "%s sends quick mode message 3, and its incoming SA %s is not live", n.Name, own.spi)
				}
			}
		}
	}
}

// Seal makes an encrypted message of an established session.
func (x *Session) Seal(ex doi.Exchange, id uint32, iv []byte, ps ...isakmp.Payload) (datagram, next []byte) {
	return x.SealBytes(ex, id, iv, ps[0].Kind(), isakmp.AppendPayloads(nil, ps))
}

// SealBytes encrypts any bytes as the payloads of a message.
func (x *Session) SealBytes(ex doi.Exchange, id uint32, iv []byte, first doi.Payload, plain []byte) (datagram, next []byte) {
	ct, next := x.Keys.Encrypt(iv, plain)
	h := isakmp.Header{
		Initiator: x.I, Responder: x.R, NextPayload: first, Version: isakmp.Version, Exchange: ex,
		Flags: isakmp.FlagEncrypted, MessageID: id, Length: uint32(isakmp.HeaderLen + len(ct)),
	}
	return append(isakmp.AppendHeader(nil, h), ct...), next
}

// IV is the first IV of an exchange under the session.
func (x *Session) IV(id uint32) []byte { return x.Keys.Phase2IV(x.LastBlock, id) }

// Inform makes an informational message with the right hash.
func (x *Session) Inform(id uint32, ps ...isakmp.Payload) []byte {
	return x.hashed(doi.ExchangeInformational, id, ps)
}

// Quick1 makes a first quick mode message with the right hash.
func (x *Session) Quick1(id uint32, ps ...isakmp.Payload) []byte {
	return x.hashed(doi.ExchangeQuick, id, ps)
}

func (x *Session) hashed(ex doi.Exchange, id uint32, ps []isakmp.Payload) []byte {
	hash := &isakmp.Hash{Data: x.Keys.Hash1(id, isakmp.AppendPayloads(nil, ps))}
	b, _ := x.Seal(ex, id, x.IV(id), append([]isakmp.Payload{hash}, ps...)...)
	return b
}

// Clear makes a message in clear.
func Clear(i, r isakmp.Cookie, ex doi.Exchange, id uint32, ps ...isakmp.Payload) []byte {
	m := isakmp.Message{Header: isakmp.Header{Initiator: i, Responder: r, Version: isakmp.Version, Exchange: ex, MessageID: id}, Payloads: ps}
	return m.Append(nil)
}

// SPIBytes is an SPI as it goes onto the wire.
func SPIBytes(s ipsec.SPI) []byte { return binary.BigEndian.AppendUint32(nil, uint32(s)) }

func (s *Seen) String() string {
	if s.Message == nil {
		return fmt.Sprintf("%s, cannot be read", s.Exchange)
	}
	return s.Message.String()
}
