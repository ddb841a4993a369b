package oakley

import (
	"fmt"

	"oakley/internal/doi"
)

// SKEYIDPreShared is SKEYID with a pre-shared key: prf(psk, Ni_b | Nr_b) (RFC
// 2409 section 5.4). ni and nr are the bodies of the nonce payloads.
func SKEYIDPreShared(h doi.Hash, psk, ni, nr []byte) []byte { return PRF(h, psk, ni, nr) }

// SKEYIDSignature is SKEYID with signatures: prf(Ni_b | Nr_b, g^xy) (RFC 2409
// section 5.1).
func SKEYIDSignature(h doi.Hash, ni, nr, gxy []byte) []byte {
	return PRF(h, append(ni[:len(ni):len(ni)], nr...), gxy)
}

// Keys are those of one ISAKMP SA. There are as many as there are peers, for as
// long as they are there: one slice holds them all, and cipher blocks, which
// are bigger than all keys together, are made for each message.
//
// Methods that only read may be called at the same time; DropAuth and Wipe not.
type Keys struct {
	// raw is SKEYID_d | SKEYID_a | cipher key | SKEYID.
	raw     []byte
	cipher  doi.Cipher
	hash    doi.Hash
	keyBits uint16
	size    uint8 // of each SKEYID, in bytes
	keyLen  uint8 // of the cipher key, in bytes
}

// Derive makes the keys of an ISAKMP SA from SKEYID and g^xy (RFC 2409 section
// 5), and the cipher's key from SKEYID_e (appendix B). It fails for a suite
// that Check refuses and, with ErrWeakKey, for a weak key; the arguments are
// not kept.
func Derive(s Suite, skeyid, gxy []byte, ckyI, ckyR [8]byte) (*Keys, error) {
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("no keys for suite %v: %w", s, err)
	}
	if size := hashes[s.Hash].size; len(skeyid) != size {
		return nil, fmt.Errorf("no keys for suite %v: SKEYID has %d bytes, expected %d", s, len(skeyid), size)
	}
	tail := func(n byte) [][]byte { return [][]byte{gxy, ckyI[:], ckyR[:], {n}} }
	d := PRF(s.Hash, skeyid, tail(0)...)
	a := PRF(s.Hash, skeyid, append([][]byte{d}, tail(1)...)...)
	e := PRF(s.Hash, skeyid, append([][]byte{a}, tail(2)...)...)
	defer clear(d)
	defer clear(a)
	defer clear(e)
	return assemble(s, skeyid, d, a, e)
}

// assemble makes the cipher's key from SKEYID_e (e), and puts it and the other
// keys together.
func assemble(s Suite, skeyid, d, a, e []byte) (*Keys, error) {
	key, n := e, s.keyLen()
	if n > len(e) {
		key = feedback(s.Hash, e, []byte{0}, nil, n)
		defer clear(key)
	}
	key = key[:n]
	if err := checkWeak(s.Cipher, key); err != nil {
		return nil, err
	}
	raw := make([]byte, 0, len(d)+len(a)+len(key)+len(skeyid))
	raw = append(raw, d...)
	raw = append(raw, a...)
	raw = append(raw, key...)
	raw = append(raw, skeyid...)
	return &Keys{raw, s.Cipher, s.Hash, uint16(s.KeyBits), uint8(len(d)), uint8(len(key))}, nil
}

func (k *Keys) d() []byte         { return k.raw[:k.size] }
func (k *Keys) a() []byte         { return k.raw[int(k.size) : 2*int(k.size)] }
func (k *Keys) cipherKey() []byte { return k.raw[2*int(k.size) : 2*int(k.size)+int(k.keyLen)] }

// skeyid is empty after DropAuth.
func (k *Keys) skeyid() []byte { return k.raw[2*int(k.size)+int(k.keyLen):] }

// Suite is the suite that the keys were made for.
func (k *Keys) Suite() Suite { return Suite{k.cipher, int(k.keyBits), k.hash} }

// DropAuth forgets SKEYID, which nothing needs once phase 1 is authenticated;
// HashI and HashR must not be called any more.
func (k *Keys) DropAuth() {
	if len(k.skeyid()) == 0 {
		return
	}
	old := k.raw
	k.raw = append(make([]byte, 0, len(old)-int(k.size)), old[:len(old)-int(k.size)]...)
	clear(old)
}

// Wipe overwrites all keys; what is computed with them afterwards is of no use.
func (k *Keys) Wipe() { clear(k.raw) }

// HashI is HASH_I, by which the initiator authenticates phase 1 (RFC 2409
// section 5): prf(SKEYID, g^xi | g^xr | CKY-I | CKY-R | SAi_b | IDii_b). sai and
// idii are payload bodies.
func (k *Keys) HashI(gxi, gxr []byte, ckyI, ckyR [8]byte, sai, idii []byte) []byte {
	return PRF(k.hash, k.skeyid(), gxi, gxr, ckyI[:], ckyR[:], sai, idii)
}

// HashR is HASH_R, by which the responder authenticates phase 1 (RFC 2409
// section 5): prf(SKEYID, g^xr | g^xi | CKY-R | CKY-I | SAi_b | IDir_b).
func (k *Keys) HashR(gxr, gxi []byte, ckyR, ckyI [8]byte, sai, idir []byte) []byte {
	return PRF(k.hash, k.skeyid(), gxr, gxi, ckyR[:], ckyI[:], sai, idir)
}
