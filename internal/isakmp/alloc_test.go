package isakmp

import (
	"fmt"
	"runtime"
	"testing"

	"oakley/internal/doi"
)

// bytesPerRun is how many bytes f allocates, on average.
func bytesPerRun(f func()) uint64 {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const runs = 20
	f()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / runs
}

// hostile are datagrams of up to 64 KB that make a careless parser allocate:
// (attacks A10 and B3).
func hostile() map[string][]byte {
	const most = 65507 // in a UDP datagram
	list := map[string][]byte{}

	full := one(func() (ps []Proposal) {
		for i := range MaxProposals {
			p := Proposal{Number: uint8(i), Protocol: doi.ProtoISAKMP}
			for k := range MaxTransforms / MaxProposals {
				p.Transforms = append(p.Transforms, Transform{Number: uint8(k), ID: 1, Attributes: attributes(MaxAttributes)})
			}
			ps = append(ps, p)
		}
		return ps
	}()...)
	list["the fullest SA that is taken"] = full
	var sas []Payload
	for range (most - HeaderLen) / (len(full) - HeaderLen) {
		m, err := Parse(full)
		if err != nil {
			panic(err)
		}
		sas = append(sas, m.Payloads[0])
	}
	list["as many of these as fit"] = message(sas...)

	spis := make([][]byte, MaxSPIs)
	for i := range spis {
		spis[i] = []byte{1, 2, 3, 4}
	}
	var deletes []Payload
	for range MaxPayloads {
		deletes = append(deletes, &Delete{DOI: doi.IPsec, Protocol: doi.ProtoESP, SPISize: 4, SPIs: spis})
	}
	list["64 deletes of 128 SPIs"] = message(deletes...)

	var tiny []Payload
	for range (most - HeaderLen) / GenericLen {
		tiny = append(tiny, &Vendor{})
	}
	list["16000 payloads"] = message(tiny...)

	chain := func(element, count int) []byte {
		b := make([]byte, 0, most)
		for i := range count {
			next := byte(0)
			if i+1 < count {
				next = 2
			}
			b = append(b, next, 0, 0, byte(element), 1, 1, 0, 1)
			if element == 16 {
				b = append(b, 0, 0, 0, 8, 1, 1, 0, 0)
			}
		}
		return b
	}
	sa := fromHex(`0000000100000001`)
	list["4000 proposals"] = around(doi.PayloadSA, append(sa, chain(16, 4000)...))
	list["8000 proposals without transforms"] = around(doi.PayloadSA, append(sa, chain(8, 8000)...))
	list["a transform of 16000 attributes"] = around(doi.PayloadSA,
		append(fromHex(`0000000100000001 0000fa10 01010001 0000fa08 01010000`), make([]byte, 64000)...))
	list["65535 SPIs claimed"] = around(doi.PayloadDelete, fromHex(`00000001 0304ffff 01020304`))
	list["a vendor ID of 60000 bytes"] = around(doi.PayloadVendor, make([]byte, 60000))
	return list
}

// TestHostileDatagramsAllocateLittle: parsing costs at most twelve bytes a byte
// that was sent and a little more, whatever is claimed.
func TestHostileDatagramsAllocateLittle(t *testing.T) {
	for name, b := range hostile() {
		t.Run(name, func(t *testing.T) {
			if len(b) > 65535 {
				t.Fatalf("%d bytes are no datagram", len(b))
			}
			_, err := Parse(b)
			got := bytesPerRun(func() { _, _ = Parse(b) })
			if limit := uint64(12*len(b) + 2048); got > limit {
				t.Errorf("%d bytes allocated for %d, the limit is %d", got, len(b), limit)
			}
			t.Logf("%d bytes allocated for %d, result: %v", got, len(b), err)
		})
	}
}

// TestRefusalsByTheHeaderAllocateAnErrorAlone: what any scanner can send costs
// next to nothing.
func TestRefusalsByTheHeaderAllocateAnErrorAlone(t *testing.T) {
	for _, c := range malformedHeaders() {
		if got := bytesPerRun(func() { _, _ = Parse(c.bytes) }); got > 512 {
			t.Errorf("%s: %d bytes", c.name, got)
		}
	}
}

// TestAllocationsOfAFirstMessage: a first message costs a fixed number of
// allocations, not one an attribute.
func TestAllocationsOfAFirstMessage(t *testing.T) {
	var ts []Transform
	for i := range 20 {
		ts = append(ts, tripleDES(uint8(i+1)))
	}
	for name, b := range map[string][]byte{
		"one transform":     firstMessage(),
		"twenty transforms": message(&SA{DOI: 1, Situation: 1, Proposals: []Proposal{phase1(ts...)}}, &Vendor{Data: VendorNATT}, &Vendor{Data: VendorDPD}),
	} {
		// The message, its payloads and where they begin; the SA, its proposals,
		// transforms and attributes; two vendor IDs.
		if got := testing.AllocsPerRun(100, func() { mustParse(b) }); got > 9 {
			t.Errorf("%s: %v allocations, at most 9 are expected", name, got)
		}
	}
}

func mustParse(b []byte) *Message {
	m, err := Parse(b)
	if err != nil {
		panic(fmt.Sprint(err))
	}
	return m
}

func BenchmarkParseMainModeSA(b *testing.B) {
	datagram := firstMessage()
	b.ReportAllocs()
	b.SetBytes(int64(len(datagram)))
	for b.Loop() {
		mustParse(datagram)
	}
}

func BenchmarkAppendMainModeSA(b *testing.B) {
	m := mustParse(firstMessage())
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = m.Append(buf[:0])
	}
}

func BenchmarkParseHostile(b *testing.B) {
	datagram := hostile()["as many of these as fit"]
	b.ReportAllocs()
	b.SetBytes(int64(len(datagram)))
	for b.Loop() {
		mustParse(datagram)
	}
}
