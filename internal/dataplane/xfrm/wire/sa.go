package wire

import "net/netip"

// SA is an SA as the kernel has it. Attributes that are nil or zero are not
// sent, and were not there when it was read.
type SA struct {
	Sel      Selector
	Dst, Src netip.Addr
	SPI      uint32
	Proto    uint8
	Limits   Limits
	Usage    Usage
	Stats    Stats
	Seq      uint32 // of the acquire that it answers
	ReqID    uint32
	Family   uint16
	Mode     Mode
	Window   uint8 // replay window of up to 32 packets; larger ones are ESN's
	Flags    uint8

	Crypt      *Alg
	Auth       *AuthAlg
	AEAD       *AEAD
	Comp       *Alg
	Encap      *Encap
	Replay     *Replay
	ESN        *ReplayESN
	Mark       *Mark
	OutMark    *Mark // set on packets that leave
	IfID       uint32
	ExtraFlags uint32
	LastUsed   uint64 // seconds since 1970
	MappingAge uint32 // seconds between two Mappings of one address
	Life       *Usage // to begin with, when the SA is added
}

// Mark is compared with a packet's mark, or put there.
type Mark struct{ Value, Mask uint32 }

// Encap is UDP encapsulation (RFC 3948). Original is what the peer's address was
// before a NAT changed it; the zero address is unknown.
type Encap struct {
	SrcPort, DstPort uint16
	Original         netip.Addr
}

// encapESPinUDP is UDP_ENCAP_ESPINUDP, with the four bytes of the non-ESP marker
// before IKE.
const encapESPinUDP = 2

const encapSize = 24

func (e *Encap) append(b []byte) []byte {
	b = native.AppendUint16(b, encapESPinUDP)
	b = net.AppendUint16(b, e.SrcPort)
	b = net.AppendUint16(b, e.DstPort)
	b = zeros(b, 2)
	return appendAddr(b, e.Original)
}

func parseEncap(v []byte, family uint16) (*Encap, error) {
	v, err := atLeast(v, encapSize)
	if err != nil {
		return nil, err
	}
	e := &Encap{SrcPort: net.Uint16(v[2:]), DstPort: net.Uint16(v[4:])}
	if a := parseAddr(v[8:], family); !a.IsUnspecified() {
		e.Original = a
	}
	return e, nil
}

func (m *Mark) append(b []byte) []byte {
	return native.AppendUint32(native.AppendUint32(b, m.Value), m.Mask)
}

func parseMark(v []byte) (*Mark, error) {
	v, err := atLeast(v, 8)
	if err != nil {
		return nil, err
	}
	return &Mark{native.Uint32(v), native.Uint32(v[4:])}, nil
}

// appendID appends what an SA is looked up by.
func appendID(b []byte, dst netip.Addr, spi uint32, proto uint8) []byte {
	b = appendAddr(b, dst)
	b = net.AppendUint32(b, spi)
	return append(b, proto, 0, 0, 0)
}

func (s *SA) appendInfo(b []byte) []byte {
	b = s.Sel.append(b)
	b = appendID(b, s.Dst, s.SPI, s.Proto)
	b = appendAddr(b, s.Src)
	b = s.Limits.append(b)
	b = s.Usage.append(b)
	b = s.Stats.append(b)
	b = native.AppendUint32(b, s.Seq)
	b = native.AppendUint32(b, s.ReqID)
	b = native.AppendUint16(b, s.Family)
	return zeros(append(b, uint8(s.Mode), s.Window, s.Flags), 7)
}

// Append appends the message of NewSA and UpdSA.
func (s *SA) Append(b []byte) []byte { return s.appendAttrs(s.appendInfo(b)) }

func (s *SA) appendAttrs(b []byte) []byte {
	b = s.Crypt.attr(b, attrAlgCrypt)
	b = s.Auth.attr(b, attrAlgAuthTrunc)
	b = s.AEAD.attr(b, attrAlgAEAD)
	b = s.Comp.attr(b, attrAlgComp)
	if s.Encap != nil {
		b = appendAttr(b, attrEncap, s.Encap.append)
	}
	if s.Replay != nil {
		b = appendAttr(b, attrReplay, s.Replay.append)
	}
	if s.ESN != nil {
		b = appendAttr(b, attrReplayESN, s.ESN.append)
	}
	b = appendMark(b, s.Mark)
	if s.OutMark != nil {
		b = appendU32(b, attrOutMark, s.OutMark.Value)
		if s.OutMark.Mask != 0 {
			b = appendU32(b, attrOutMarkMask, s.OutMark.Mask)
		}
	}
	if s.Life != nil {
		b = appendAttr(b, attrLifeCurrent, s.Life.append)
	}
	for _, v := range [...]struct {
		t attr
		v uint32
	}{{attrIfID, s.IfID}, {attrExtraFlags, s.ExtraFlags}, {attrMappingAge, s.MappingAge}} {
		if v.v != 0 {
			b = appendU32(b, v.t, v.v)
		}
	}
	if s.LastUsed != 0 {
		b = appendAttr(b, attrLastUsed, func(b []byte) []byte { return native.AppendUint64(b, s.LastUsed) })
	}
	return b
}

func appendMark(b []byte, m *Mark) []byte {
	if m == nil {
		return b
	}
	return appendAttr(b, attrMark, m.append)
}

// parseInfo reads saSize bytes.
func parseInfo(b []byte) SA {
	family := native.Uint16(b[212:])
	return SA{
		Sel: parseSelector(b),
		Dst: parseAddr(b[56:], family), SPI: net.Uint32(b[72:]), Proto: b[76],
		Src:    parseAddr(b[80:], family),
		Limits: parseLimits(b[96:]), Usage: parseUsage(b[160:]), Stats: parseStats(b[192:]),
		Seq: native.Uint32(b[204:]), ReqID: native.Uint32(b[208:]),
		Family: family, Mode: Mode(b[214]), Window: b[215], Flags: b[216],
	}
}

// ParseSA reads what the kernel tells of an SA: NewSA, UpdSA, and the answers to
// GetSA and AllocSPI.
func ParseSA(b []byte) (*SA, error) {
	fixed, rest, err := body("an SA", b, saSize)
	if err != nil {
		return nil, err
	}
	s := parseInfo(fixed)
	return &s, s.parseAttrs(rest)
}

func (s *SA) parseAttrs(b []byte) error {
	return attributes(b, func(t attr, v []byte) (err error) {
		switch t {
		case attrAlgCrypt:
			s.Crypt, err = parsePlainAlg(v)
		case attrAlgComp:
			s.Comp, err = parsePlainAlg(v)
		case attrAlgAuthTrunc:
			a, n := &AuthAlg{}, [1]uint32{}
			if a.Name, a.Key, n, err = parseAlg(v, 1); err == nil {
				a.Trunc, s.Auth = n[0], a
			}
		case attrAlgAEAD:
			a, n := &AEAD{}, [1]uint32{}
			if a.Name, a.Key, n, err = parseAlg(v, 1); err == nil {
				a.ICV, s.AEAD = n[0], a
			}
		case attrEncap:
			s.Encap, err = parseEncap(v, s.Family)
		case attrReplay:
			s.Replay, err = parseReplay(v)
		case attrReplayESN:
			s.ESN, err = parseReplayESN(v)
		case attrMark:
			s.Mark, err = parseMark(v)
		case attrLifeCurrent:
			if v, err = atLeast(v, curSize); err == nil {
				u := parseUsage(v)
				s.Life = &u
			}
		case attrOutMark:
			s.outMark()
			err = parseU32(v, &s.OutMark.Value)
		case attrOutMarkMask:
			s.outMark()
			err = parseU32(v, &s.OutMark.Mask)
		case attrIfID:
			err = parseU32(v, &s.IfID)
		case attrExtraFlags:
			err = parseU32(v, &s.ExtraFlags)
		case attrMappingAge:
			err = parseU32(v, &s.MappingAge)
		case attrLastUsed:
			if v, err = atLeast(v, 8); err == nil {
				s.LastUsed = native.Uint64(v)
			}
		}
		return err
	})
}

func (s *SA) outMark() {
	if s.OutMark == nil {
		s.OutMark = &Mark{}
	}
}

func parsePlainAlg(v []byte) (*Alg, error) {
	name, key, _, err := parseAlg(v, 0)
	if err != nil {
		return nil, err
	}
	return &Alg{name, key}, nil
}

// ID names an SA. Src and Mark are for GetSA and DelSA; either may be missing.
type ID struct {
	Dst, Src netip.Addr
	SPI      uint32
	Family   uint16
	Proto    uint8
	Mark     *Mark
}

// Append appends the message of GetSA and DelSA.
func (i *ID) Append(b []byte) []byte {
	b = i.appendFixed(b)
	b = appendMark(b, i.Mark)
	if i.Src.IsValid() {
		b = appendAttr(b, attrSrcAddr, func(b []byte) []byte { return appendAddr(b, i.Src) })
	}
	return b
}

func (i *ID) appendFixed(b []byte) []byte {
	b = appendAddr(b, i.Dst)
	b = net.AppendUint32(b, i.SPI)
	b = native.AppendUint16(b, i.Family)
	return append(b, i.Proto, 0)
}

func parseID(b []byte) ID {
	family := native.Uint16(b[20:])
	return ID{Dst: parseAddr(b, family), SPI: net.Uint32(b[16:]), Family: family, Proto: b[22]}
}

// ParseID reads what Append wrote.
func ParseID(b []byte) (*ID, error) {
	fixed, rest, err := body("the name of an SA", b, said)
	if err != nil {
		return nil, err
	}
	i := parseID(fixed)
	return &i, attributes(rest, func(t attr, v []byte) (err error) {
		switch t {
		case attrMark:
			i.Mark, err = parseMark(v)
		case attrSrcAddr:
			if v, err = atLeast(v, addrSize); err == nil {
				i.Src = parseAddr(v, i.Family)
			}
		}
		return err
	})
}

// ParseDelSA reads the event that an SA was deleted.
func ParseDelSA(b []byte) (*ID, *SA, error) {
	fixed, rest, err := body("the end of an SA", b, said)
	if err != nil {
		return nil, nil, err
	}
	i := parseID(fixed)
	var s *SA
	err = attributes(rest, func(t attr, v []byte) (err error) {
		switch t {
		case attrSA:
			if v, err = atLeast(v, saSize); err == nil {
				x := parseInfo(v)
				s = &x
			}
		case attrMark:
			i.Mark, err = parseMark(v)
		}
		return err
	})
	return &i, s, err
}

// SPIRequest asks for an SPI between Min and Max for an SA of which addresses,
// protocol, mode, reqid and, to name an acquire, Seq are given.
type SPIRequest struct {
	SA       SA
	Min, Max uint32
}

// Append appends the message of AllocSPI.
func (r *SPIRequest) Append(b []byte) []byte {
	b = r.SA.appendInfo(b)
	b = native.AppendUint32(b, r.Min)
	b = native.AppendUint32(b, r.Max)
	return r.SA.appendAttrs(b)
}

// ParseSPIRequest reads what Append wrote.
func ParseSPIRequest(b []byte) (*SPIRequest, error) {
	fixed, rest, err := body("a request for an SPI", b, saSize+8)
	if err != nil {
		return nil, err
	}
	r := &SPIRequest{SA: parseInfo(fixed), Min: native.Uint32(fixed[saSize:]), Max: native.Uint32(fixed[saSize+4:])}
	return r, r.SA.parseAttrs(rest)
}

// AppendFlush appends the message of FlushSA; proto 0 is every one.
func AppendFlush(b []byte, proto uint8) []byte { return append(b, proto) }

// ParseFlush reads it.
func ParseFlush(b []byte) (proto uint8, err error) {
	fixed, _, err := body("a flush", b, 1)
	if err != nil {
		return 0, err
	}
	return fixed[0], nil
}
