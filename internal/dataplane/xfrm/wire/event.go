package wire

import "net/netip"

// Acquire: a packet met a policy and there is no SA for it. Dst, SPI, Proto and
// Src are those of the SA that is asked for.
type Acquire struct {
	Dst, Src netip.Addr
	SPI      uint32
	Proto    uint8
	Sel      Selector // of the packet
	Policy   Policy
	Seq      uint32
}

const acquireSize = said + addrSize + selSize + policySize + 16

// ParseAcquire reads MsgAcquire.
func ParseAcquire(b []byte) (*Acquire, error) {
	fixed, rest, err := body("an acquire", b, acquireSize)
	if err != nil {
		return nil, err
	}
	a := &Acquire{SPI: net.Uint32(fixed[16:]), Proto: fixed[20], Sel: parseSelector(fixed[40:]), Policy: parsePolicyInfo(fixed[96:])}
	a.Seq = native.Uint32(fixed[acquireSize-4:])
	if err := a.Policy.parseAttrs(rest); err != nil {
		return nil, err
	}
	// The message has no family of its own: its addresses are the template's, else
	// the packet's.
	family := a.Sel.Family
	for _, t := range a.Policy.Templates {
		if t.Family != FamilyNone {
			family = t.Family
			break
		}
	}
	a.Dst, a.Src = parseAddr(fixed, family), parseAddr(fixed[24:], family)
	return a, nil
}

// Append appends MsgAcquire, as the kernel would send it.
func (a *Acquire) Append(b []byte) []byte {
	b = appendID(b, a.Dst, a.SPI, a.Proto)
	b = appendAddr(b, a.Src)
	b = a.Sel.append(b)
	b = a.Policy.appendInfo(b)
	for range 3 {
		b = native.AppendUint32(b, AllAlgs)
	}
	b = native.AppendUint32(b, a.Seq)
	whole := a.Policy.Append(nil)
	return append(b, whole[policySize:]...)
}

// Expire: a limit of an SA was reached. Hard: it is gone.
type Expire struct {
	SA   SA
	Hard bool
}

const expireSize = saSize + 8

// ParseExpire reads MsgExpire.
func ParseExpire(b []byte) (*Expire, error) {
	fixed, rest, err := body("an expiry", b, expireSize)
	if err != nil {
		return nil, err
	}
	e := &Expire{SA: parseInfo(fixed), Hard: fixed[saSize] != 0}
	return e, e.SA.parseAttrs(rest)
}

// Append appends MsgExpire.
func (e *Expire) Append(b []byte) []byte {
	return e.SA.appendAttrs(appendHard(e.SA.appendInfo(b), e.Hard))
}

func appendHard(b []byte, hard bool) []byte {
	v := uint8(0)
	if hard {
		v = 1
	}
	return zeros(append(b, v), 7)
}

// Mapping: authentic packets of an SA in UDP come from another address or port.
type Mapping struct {
	SA       ID
	ReqID    uint32
	Old, New netip.AddrPort
}

const mappingSize = said + 4 + 2*addrSize + 4

// ParseMapping reads MsgMapping.
func ParseMapping(b []byte) (*Mapping, error) {
	fixed, _, err := body("a mapping", b, mappingSize)
	if err != nil {
		return nil, err
	}
	m := &Mapping{SA: parseID(fixed), ReqID: native.Uint32(fixed[24:])}
	end := func(addr, port int) netip.AddrPort {
		return netip.AddrPortFrom(parseAddr(fixed[addr:], m.SA.Family), net.Uint16(fixed[port:]))
	}
	m.Old, m.New = end(28, 60), end(44, 62)
	return m, nil
}

// Append appends MsgMapping.
func (m *Mapping) Append(b []byte) []byte {
	b = m.SA.appendFixed(b)
	b = native.AppendUint32(b, m.ReqID)
	b = appendAddr(b, m.Old.Addr())
	b = appendAddr(b, m.New.Addr())
	b = net.AppendUint16(b, m.Old.Port())
	return net.AppendUint16(b, m.New.Port())
}

// AE flags: what NewAE sets or GetAE asks for.
const (
	AEReplayThresh uint32 = 1
	AEReplay       uint32 = 2
	AELife         uint32 = 4
	AETimer        uint32 = 8
)

// AE is how far an SA has come, for who wants to carry on where another stopped.
type AE struct {
	SA           ID
	Src          netip.Addr
	Flags        uint32
	ReqID        uint32
	Replay       *Replay
	ESN          *ReplayESN
	Life         *Usage
	ReplayThresh uint32
	TimerThresh  uint32
}

const aeSize = said + addrSize + 8

// ParseAE reads NewAE.
func ParseAE(b []byte) (*AE, error) {
	fixed, rest, err := body("an SA's progress", b, aeSize)
	if err != nil {
		return nil, err
	}
	a := &AE{SA: parseID(fixed), Flags: native.Uint32(fixed[40:]), ReqID: native.Uint32(fixed[44:])}
	a.Src = parseAddr(fixed[24:], a.SA.Family)
	return a, attributes(rest, func(t attr, v []byte) (err error) {
		switch t {
		case attrReplay:
			a.Replay, err = parseReplay(v)
		case attrReplayESN:
			a.ESN, err = parseReplayESN(v)
		case attrLifeCurrent:
			if v, err = atLeast(v, curSize); err == nil {
				u := parseUsage(v)
				a.Life = &u
			}
		case attrReplayThresh:
			err = parseU32(v, &a.ReplayThresh)
		case attrTimerThresh:
			err = parseU32(v, &a.TimerThresh)
		case attrMark:
			a.SA.Mark, err = parseMark(v)
		}
		return err
	})
}

// Append appends the message of NewAE and GetAE.
func (a *AE) Append(b []byte) []byte {
	b = a.SA.appendFixed(b)
	b = appendAddr(b, a.Src)
	b = native.AppendUint32(b, a.Flags)
	b = native.AppendUint32(b, a.ReqID)
	if a.Replay != nil {
		b = appendAttr(b, attrReplay, a.Replay.append)
	}
	if a.ESN != nil {
		b = appendAttr(b, attrReplayESN, a.ESN.append)
	}
	if a.Life != nil {
		b = appendAttr(b, attrLifeCurrent, a.Life.append)
	}
	if a.ReplayThresh != 0 {
		b = appendU32(b, attrReplayThresh, a.ReplayThresh)
	}
	if a.TimerThresh != 0 {
		b = appendU32(b, attrTimerThresh, a.TimerThresh)
	}
	return appendMark(b, a.SA.Mark)
}
