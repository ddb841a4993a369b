package cast128

import "encoding/binary"

// The key schedule of RFC 2144 section 2.4 as a table. Bytes 0 to 15 are x0 to
// xF, 16 to 31 are z0 to zF; words are four of them. A step mixes one word, or
// takes a subkey. The table makes K1 to K16; a second run makes K17 to K32.
type step struct {
	mix      bool
	to, from uint8 // words
	bytes    [5]uint8
	last     uint8 // the fifth byte's box, counted from 0; the others' are S5 to S8
}

var steps = [32]step{
	{mix: true, to: 4, from: 0, bytes: [5]uint8{13, 15, 12, 14, 8}, last: 6},
	{mix: true, to: 5, from: 2, bytes: [5]uint8{16, 18, 17, 19, 10}, last: 7},
	{mix: true, to: 6, from: 3, bytes: [5]uint8{23, 22, 21, 20, 9}, last: 4},
	{mix: true, to: 7, from: 1, bytes: [5]uint8{26, 25, 27, 24, 11}, last: 5},
	{bytes: [5]uint8{24, 25, 23, 22, 18}, last: 4},
	{bytes: [5]uint8{26, 27, 21, 20, 22}, last: 5},
	{bytes: [5]uint8{28, 29, 19, 18, 25}, last: 6},
	{bytes: [5]uint8{30, 31, 17, 16, 28}, last: 7},
	{mix: true, to: 0, from: 6, bytes: [5]uint8{21, 23, 20, 22, 16}, last: 6},
	{mix: true, to: 1, from: 4, bytes: [5]uint8{0, 2, 1, 3, 18}, last: 7},
	{mix: true, to: 2, from: 5, bytes: [5]uint8{7, 6, 5, 4, 17}, last: 4},
	{mix: true, to: 3, from: 7, bytes: [5]uint8{10, 9, 11, 8, 19}, last: 5},
	{bytes: [5]uint8{3, 2, 12, 13, 8}, last: 4},
	{bytes: [5]uint8{1, 0, 14, 15, 13}, last: 5},
	{bytes: [5]uint8{7, 6, 8, 9, 3}, last: 6},
	{bytes: [5]uint8{5, 4, 10, 11, 7}, last: 7},
	{mix: true, to: 4, from: 0, bytes: [5]uint8{13, 15, 12, 14, 8}, last: 6},
	{mix: true, to: 5, from: 2, bytes: [5]uint8{16, 18, 17, 19, 10}, last: 7},
	{mix: true, to: 6, from: 3, bytes: [5]uint8{23, 22, 21, 20, 9}, last: 4},
	{mix: true, to: 7, from: 1, bytes: [5]uint8{26, 25, 27, 24, 11}, last: 5},
	{bytes: [5]uint8{19, 18, 28, 29, 25}, last: 4},
	{bytes: [5]uint8{17, 16, 30, 31, 28}, last: 5},
	{bytes: [5]uint8{23, 22, 24, 25, 18}, last: 6},
	{bytes: [5]uint8{21, 20, 26, 27, 22}, last: 7},
	{mix: true, to: 0, from: 6, bytes: [5]uint8{21, 23, 20, 22, 16}, last: 6},
	{mix: true, to: 1, from: 4, bytes: [5]uint8{0, 2, 1, 3, 18}, last: 7},
	{mix: true, to: 2, from: 5, bytes: [5]uint8{7, 6, 5, 4, 17}, last: 4},
	{mix: true, to: 3, from: 7, bytes: [5]uint8{10, 9, 11, 8, 19}, last: 5},
	{bytes: [5]uint8{8, 9, 7, 6, 3}, last: 4},
	{bytes: [5]uint8{10, 11, 5, 4, 7}, last: 5},
	{bytes: [5]uint8{12, 13, 3, 2, 8}, last: 6},
	{bytes: [5]uint8{14, 15, 1, 0, 13}, last: 7},
}

// subkeys runs the schedule over a key of 16 bytes.
func subkeys(key *[16]byte) (k [32]uint32) {
	var b [32]byte
	copy(b[:], key[:])
	n := 0
	for range 2 {
		for i := range steps {
			s := &steps[i]
			v := sbox[s.last][b[s.bytes[4]]]
			for j, at := range s.bytes[:4] {
				v ^= sbox[4+j][b[at]]
			}
			if s.mix {
				v ^= binary.BigEndian.Uint32(b[4*s.from:])
				binary.BigEndian.PutUint32(b[4*s.to:], v)
				continue
			}
			k[n] = v
			n++
		}
	}
	return k
}
