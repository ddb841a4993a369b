package esp

import (
	"bytes"
	"testing"

	"oakley/internal/ipsec"
)

// Packets cost no allocation, whatever the suite.
func TestNothingIsAllocatedForAPacket(t *testing.T) {
	for _, s := range suites {
		tr := s.transform(t, false)
		plain := random(5, 1400)
		buf := make([]byte, tr.Overhead()+len(plain))
		var pkt []byte
		seq := uint64(0)
		sealing := testing.AllocsPerRun(20, func() {
			copy(buf[tr.HeaderLen():], plain)
			seq++
			pkt, _ = tr.Seal(buf, tr.HeaderLen(), len(plain), 4, seq)
		})
		sealed, room := bytes.Clone(pkt), make([]byte, len(pkt))
		opening := testing.AllocsPerRun(20, func() {
			copy(room, sealed)
			if _, _, drop := tr.Open(room, 0); drop != ipsec.DropNone {
				t.Fatalf("%s: %v", s.name, drop)
			}
		})
		if !raceEnabled && (sealing != 0 || opening != 0) {
			t.Errorf("%s: %v allocations to seal, %v to open", s.name, sealing, opening)
		}
	}
}
