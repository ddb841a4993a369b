package userspace

import (
	"context"
	"net/netip"
	"testing"

	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// FuzzIncoming gives the plane bytes that authentic packets of every mode may
// have inside, and bytes that are no packets at all: nothing panics, and what
// comes out is within the SAs' selectors. Without a secret the fuzzer could get no
// further than the ICV, so it seals with the SA's own transform first: kind says
// which.
func FuzzIncoming(f *testing.F) {
	ip := make([]byte, 92)
	plainPacket(ip, 92)
	for kind := range uint8(12) {
		f.Add(kind, uint8(4), ip)
		f.Add(kind, uint8(51), []byte{4, 4, 0, 0, 0, 0, 0x10, 1, 0, 0, 0, 1})
		f.Add(kind, uint8(108), []byte{4, 0, 0, 2, 1, 2, 3})
	}
	p, dev, _ := benchPlane(f, Options{})
	sels := ipsec.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}
	add := func(spi ipsec.SPI, proto ipsec.Proto, mode ipsec.Mode, at ipsec.Place) *inSA {
		sa := &ipsec.SA{
			ID: ipsec.SAID{Dir: ipsec.In, Proto: proto, SPI: spi, Dst: benchUs}, Src: benchPeer, Mode: mode,
			Selector: sels, Owner: ipsec.OwnerManual, Bundle: at,
		}
		switch proto {
		case ipsec.ProtoESP:
			sa.Cipher, sa.Key, sa.Salt = ipsec.CipherAESGCM16, fill(16, 3), fill(4, 5)
		case ipsec.ProtoAH:
			sa.Auth, sa.AuthKey = ipsec.AuthHMACSHA256, fill(32, 7)
		case ipsec.ProtoIPComp:
			sa.Comp = ipsec.CompDeflate
		}
		if err := p.AddSA(context.Background(), sa); err != nil {
			f.Fatal(err)
		}
		return p.in[sa.ID]
	}
	sas := []*inSA{
		add(0x1000, ipsec.ProtoESP, ipsec.Tunnel, ipsec.Place{}),
		add(0x1001, ipsec.ProtoESP, ipsec.Transport, ipsec.Place{}),
		add(0x1002, ipsec.ProtoESP, ipsec.Tunnel, ipsec.Place{ID: 1, Index: 1, Of: 2}),
		add(0x1003, ipsec.ProtoESP, ipsec.Transport, ipsec.Place{ID: 2, Index: 2, Of: 3}),
	}
	add(0x1001, ipsec.ProtoAH, ipsec.Transport, ipsec.Place{ID: 1, Index: 0, Of: 2})
	add(0x1002, ipsec.ProtoAH, ipsec.Tunnel, ipsec.Place{})
	add(2, ipsec.ProtoIPComp, ipsec.Tunnel, ipsec.Place{ID: 2, Index: 0, Of: 3})
	add(300, ipsec.ProtoIPComp, ipsec.Transport, ipsec.Place{})
	add(1, ipsec.ProtoIPIP, ipsec.Tunnel, ipsec.Place{ID: 2, Index: 1, Of: 3})
	works := map[uint8]*inWork{}
	for _, l := range p.links {
		if l.local == benchUs {
			key := l.proto
			if l.encap {
				key = 17
			}
			works[key] = newInWork(p, l)
		}
	}
	seq := uint64(0)
	f.Fuzz(func(t *testing.T, kind, next uint8, data []byte) {
		if len(data) > 60000 {
			return
		}
		w, pkt := works[50], append([]byte(nil), data...)
		switch kind % 12 {
		case 0, 1, 2, 3:
			seq++
			tr := sas[kind%12].t
			room := make([]byte, headRoom+len(data)+tailRoom)
			copy(room[headRoom:], data)
			sealed, err := tr.Seal(room, headRoom, len(data), next, seq)
			if err != nil {
				return
			}
			pkt = sealed
		case 4:
			w = works[51]
		case 5:
			w = works[108]
		case 6:
			w = works[4]
		case 7:
			w = works[41]
		case 8:
			w = works[17]
		}
		if len(pkt) == 0 {
			return
		}
		before := dev.swallow
		m := netio.Received{Data: pkt, Remote: netip.AddrPortFrom(benchPeer, 0), Local: netip.AddrPortFrom(benchUs, 0), TOS: next & 3}
		w.messages([]netio.Received{m})
		if dev.swallow > before && !sels.Match(&w.info) {
			t.Errorf("a packet came out that no SA is for: %+v", w.info)
		}
	})
}
