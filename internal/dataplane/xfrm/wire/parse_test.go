package wire

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// parsers read each kind of message and write it again.
var parsers = map[Type]func(b []byte) ([]byte, error){
	NewSA:      again(ParseSA),
	UpdSA:      again(ParseSA),
	AllocSPI:   again(ParseSPIRequest),
	DelSA:      again(ParseID),
	GetSA:      again(ParseID),
	NewPolicy:  again(ParsePolicy),
	UpdPolicy:  again(ParsePolicy),
	DelPolicy:  again(ParsePolicyID),
	GetPolicy:  again(ParsePolicyID),
	NewSPDInfo: again(ParseSPDInfo),
	MsgAcquire: again(ParseAcquire),
	MsgExpire:  again(ParseExpire),
	MsgMapping: again(ParseMapping),
	NewAE:      again(ParseAE),
	FlushSA: func(b []byte) ([]byte, error) {
		p, err := ParseFlush(b)
		return AppendFlush(nil, p), err
	},
}

func again[T appender](parse func([]byte) (T, error)) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		v, err := parse(b)
		if err != nil {
			return nil, err
		}
		return v.Append(nil), nil
	}
}

// samples are messages of every kind, attributes included.
func samples(t testing.TB) map[string]sample {
	all := map[string]sample{}
	for name, g := range goldens(t) {
		for typ := range parsers {
			if typ.String() == g.typ {
				all[name] = sample{typ, g.data}
			}
		}
	}
	sa := *espSA(0x1001, 7, func(s *SA) {
		s.Crypt, s.Auth, s.ESN = cbc(), sha1(), &ReplayESN{Sent: 1<<33 + 7, Seen: 9, Window: 64, Bitmap: []uint32{1, 2}}
		s.Encap, s.LastUsed, s.MappingAge = &Encap{4500, 1025, netip.MustParseAddr("10.0.0.9")}, 1234, 5
		s.Life, s.Usage, s.Stats = &Usage{1, 2, 3, 4}, Usage{5, 6, 7, 8}, Stats{1, 2, 3}
		s.Replay = &Replay{1, 2, 3}
	})
	policy := Policy{
		Sel: sel(net1, net2), Limits: NoLimits(), Usage: Usage{1, 2, 3, 4}, Priority: 9, Index: 17, Dir: DirOut, Mark: &Mark{1, 3}, IfID: 6,
		Templates: []Template{{Src: a4, Dst: b4, Proto: esp, Family: FamilyIPv4, ReqID: 7, Mode: ModeTunnel, AuthAlgs: 5}},
	}
	id := ID{Dst: b4, SPI: 0x1001, Family: FamilyIPv4, Proto: esp}
	for name, s := range map[string]struct {
		typ Type
		msg appender
	}{
		"SA":      {NewSA, &sa},
		"acquire": {MsgAcquire, &Acquire{Src: a4, Dst: b4, Proto: esp, Sel: sel(net1, net2), Policy: policy, Seq: 77}},
		"expire":  {MsgExpire, &Expire{SA: sa, Hard: true}},
		"mapping": {MsgMapping, &Mapping{SA: id, ReqID: 7, Old: netip.AddrPortFrom(a4, 4500), New: netip.AddrPortFrom(b4, 1025)}},
		"AE":      {NewAE, &AE{SA: id, Src: a4, Flags: AEReplay | AELife, ReqID: 7, Replay: &Replay{1, 2, 3}, Life: &Usage{1, 2, 3, 4}, ReplayThresh: 8, TimerThresh: 9}},
		"AE ESN":  {NewAE, &AE{SA: ID{Dst: b6, SPI: 1, Family: FamilyIPv6, Proto: 51, Mark: &Mark{1, 2}}, Src: a6, ESN: sa.ESN}},
	} {
		all[name] = sample{s.typ, s.msg.Append(nil)}
	}
	return all
}

type sample struct {
	typ  Type
	data []byte
}

// TestReadAndWrittenAgain: what is read and written again is the same.
func TestReadAndWrittenAgain(t *testing.T) {
	for name, s := range samples(t) {
		got, err := parsers[s.typ](s.data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, ok := fixedLen[s.typ]; ok {
			if got, want := canonical(s.typ, got), canonical(s.typ, s.data); got != want {
				t.Errorf("%s: -first +second\n%s", name, cmp.Diff(want, got))
			}
			continue
		}
		if !bytes.Equal(got, s.data) {
			t.Errorf("%s:\n%x\n%x", name, s.data, got)
		}
	}
}

// TestEveryPrefix: a message that was cut is refused, or read without what is
// missing at its end; it is never read beyond its end.
func TestEveryPrefix(t *testing.T) {
	for name, s := range samples(t) {
		for n := range s.data {
			if _, err := parsers[s.typ](bytes.Clone(s.data[:n])[:n:n]); n < fixedLen[s.typ] && err == nil {
				t.Errorf("%s: %d bytes of %d were taken for a message", name, n, len(s.data))
			}
		}
	}
}

func TestEventsSayWhatHappened(t *testing.T) {
	all := samples(t)
	a, err := ParseAcquire(all["acquire"].data)
	if err != nil {
		t.Fatal(err)
	}
	if a.Dst != b4 || a.Src != a4 || a.Seq != 77 || a.Policy.Index != 17 || len(a.Policy.Templates) != 1 || a.Policy.Templates[0].ReqID != 7 || a.Policy.IfID != 6 {
		t.Errorf("acquire %+v", a)
	}
	m, err := ParseMapping(all["mapping"].data)
	if err != nil {
		t.Fatal(err)
	}
	if m.New != netip.MustParseAddrPort("192.0.2.2:1025") || m.Old != netip.MustParseAddrPort("192.0.2.1:4500") || m.SA.SPI != 0x1001 {
		t.Errorf("mapping %+v", m)
	}
	e, err := ParseExpire(all["expire"].data)
	if err != nil || !e.Hard || e.SA.SPI != 0x1001 || e.SA.ESN.Sent != 1<<33+7 {
		t.Errorf("expiry %+v, %v", e, err)
	}
}

// TestDeletionsSayWhatWas: the kernel puts the SA or policy into an attribute.
func TestDeletionsSayWhatWas(t *testing.T) {
	all := samples(t)
	id := ID{Dst: b4, SPI: 0x1001, Family: FamilyIPv4, Proto: esp}
	b := appendAttr(id.Append(nil), attrSA, func(b []byte) []byte { return append(b, all["SA"].data[:saSize]...) })
	got, sa, err := ParseDelSA(b)
	if err != nil || sa == nil || sa.ReqID != 7 || !cmp.Equal(*got, id, cmpopts.EquateComparable(netip.Addr{})) {
		t.Errorf("%+v %+v %v", got, sa, err)
	}
	policy := all["acquire"].data[96:][:policySize]
	name := PolicyID{Sel: sel(net1, net2), Index: 17, Dir: DirOut, IfID: 6}
	b = appendAttr(name.Append(nil), attrPolicy, func(b []byte) []byte { return append(b, policy...) })
	gone, p, err := ParseDelPolicy(b)
	if err != nil || p == nil || p.Priority != 9 || p.IfID != 6 || gone.Index != 17 {
		t.Errorf("%+v %+v %v", gone, p, err)
	}
}

// TestLies: lengths that promise more than there is.
func TestLies(t *testing.T) {
	algo := func(bits uint32) []byte {
		return appendAttr(make([]byte, saSize), attrAlgCrypt, func(b []byte) []byte {
			at := len(b)
			b = appendAlg(b, "cbc(aes)", seqBytes(16))
			native.PutUint32(b[at+algName:], bits)
			return b
		})
	}
	esn := func(words, window uint32) []byte {
		return appendAttr(make([]byte, saSize), attrReplayESN, func(b []byte) []byte {
			for _, v := range []uint32{words, 0, 0, 0, 0, window, 0} {
				b = native.AppendUint32(b, v)
			}
			return b
		})
	}
	tmpl := appendAttr(make([]byte, policySize), attrTmpl, func(b []byte) []byte { return zeros(b, (MaxTemplates+1)*tmplSize) })
	odd := appendAttr(make([]byte, policySize), attrTmpl, func(b []byte) []byte { return zeros(b, tmplSize-4) })
	for name, c := range map[string]struct {
		typ  Type
		data []byte
	}{
		"a key longer than the attribute":      {NewSA, algo(16*8 + 1)},
		"a key of half a gigabyte":             {NewSA, algo(1<<32 - 1)},
		"a bitmap longer than the attribute":   {NewSA, esn(2, 64)},
		"a bitmap of 16 gigabytes":             {NewSA, esn(1<<32-1, 64)},
		"a window beyond the kernel's":         {NewSA, esn(1, MaxWindow+1)},
		"seven templates":                      {NewPolicy, tmpl},
		"a template that is not whole":         {NewPolicy, odd},
		"an attribute shorter than its header": {NewSA, append(make([]byte, saSize), 3, 0, 2, 0)},
		"an attribute beyond the end":          {NewSA, append(make([]byte, saSize), 9, 0, 2, 0)},
	} {
		if _, err := parsers[c.typ](c.data); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := ParseSA(algo(16 * 8)); err != nil {
		t.Errorf("an honest key: %v", err)
	}
	if _, err := ParseSA(esn(1, 32)); err != nil {
		t.Errorf("an honest window: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(uint16(s.typ), s.data)
	}
	f.Fuzz(func(t *testing.T, typ uint16, b []byte) {
		ParseDelSA(b)
		ParseDelPolicy(b)
		parse := parsers[Type(typ)]
		if parse == nil {
			return
		}
		once, err := parse(b)
		if err != nil {
			return
		}
		// What was understood says the same when it is read again.
		twice, err := parse(once)
		if err != nil {
			t.Fatalf("what we wrote is refused: %v\n%x", err, once)
		}
		if !bytes.Equal(once, twice) {
			t.Fatalf("%x\n%x", once, twice)
		}
	})
}
