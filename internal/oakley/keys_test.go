package oakley

import (
	"bytes"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"oakley/internal/doi"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestNIST: the sample values of NIST's validation of the IKEv1 key derivation
// functions (SP 800-135 section 4.1.1), for signatures and pre-shared keys.
func TestNIST(t *testing.T) {
	for _, c := range []struct {
		suite                  Suite
		ni, nr, gxy, cki, ckr  string
		skeyid, d, a, e        string
		psk, psni, psnr, pskey string
	}{
		{
			suite:  Suite{Cipher: doi.CipherAES, KeyBits: 128, Hash: doi.HashSHA1},
			ni:     "69a62284195f1680",
			nr:     "80c94ba25c8abda5",
			gxy:    "8ba4cbc73c0187301dc19a975823854dbd641c597f637f8d053a83b9514673eb",
			cki:    "8c3bcd3a69831d7f",
			ckr:    "d2d9a7ff4fbe95a7",
			skeyid: "707197817fb2d90cf54d1842606bdea59b9f4823",
			d:      "384be709a8a5e63c3ed160cfe3921c4b37d5b32d",
			a:      "48b327575abe3adba0f279849e289022a13e2b47",
			e:      "a4a415c8e0c38c0da847c356cc61c24df8025560",
			psk:    "c0",
			psni:   "03a6f25a83c8c2a3",
			psnr:   "9d958a6618f77e7f",
			pskey:  "ab3be41bc62f2ef0c41a3076d58768be77fadd2e",
		},
		{
			suite:  Suite{Cipher: doi.CipherAES, KeyBits: 256, Hash: doi.HashSHA2384},
			ni:     "cec89d845add83ef",
			nr:     "cebd43ab71d17db9",
			gxy:    "1724dbd893523764bfef8c6fa927856fccfb77ae254358cce29c2769a32915c1",
			cki:    "1c8aba986a00af0f",
			ckr:    "b049d9672f73c920",
			skeyid: "6e4514610bf82d0ab7bf0260096f6146a153c712071abb633ced813c572156c783e36874a65a64690ca701d40d56ea18",
			d:      "b083234e9ed7745911f93eb31faa66fcf88906266830eb17ef166d295cb1f86a3543b8b8efa5df918533df537e9c809c",
			a:      "938295a374aceb4147a8024c9a007dd313403fd8fd7070dbd0cfbe1ccd308dbfbb7b9e9c64049e4df44ff551016cb7b5",
			e:      "8595b249dc1fa8599729f87eb6b9dd13bfbfdfd4f9ebd78929bab6ecc402539ad32cb6e7ef4ba6a0f53da14e4df07ed4",
			psk:    "9e",
			psni:   "d6596b7e5b398534",
			psnr:   "136fbdfa8d0ceb8e",
			pskey:  "b54fa27cb4251051e44a659d73591845691d11f1874bf4e4088e5df6462d28e57a3a2af3ab4f9b746a8f5766f8785f2b",
		},
	} {
		h := c.suite.Hash
		skeyid := SKEYIDSignature(h, unhex(t, c.ni), unhex(t, c.nr), unhex(t, c.gxy))
		if hex.EncodeToString(skeyid) != c.skeyid {
			t.Errorf("%v: SKEYID %x, expected %s", c.suite, skeyid, c.skeyid)
		}
		k, err := Derive(c.suite, skeyid, unhex(t, c.gxy), [8]byte(unhex(t, c.cki)), [8]byte(unhex(t, c.ckr)))
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(k.d()); got != c.d {
			t.Errorf("%v: SKEYID_d %s, expected %s", c.suite, got, c.d)
		}
		if got := hex.EncodeToString(k.a()); got != c.a {
			t.Errorf("%v: SKEYID_a %s, expected %s", c.suite, got, c.a)
		}
		if got := hex.EncodeToString(k.cipherKey()); got != c.e[:c.suite.KeyBits/4] {
			t.Errorf("%v: cipher key %s, expected the beginning of SKEYID_e %s", c.suite, got, c.e)
		}
		if got := hex.EncodeToString(SKEYIDPreShared(h, unhex(t, c.psk), unhex(t, c.psni), unhex(t, c.psnr))); got != c.pskey {
			t.Errorf("%v: SKEYID of a pre-shared key %s, expected %s", c.suite, got, c.pskey)
		}
	}
}

// TestKeyExpansion: RFC 2409 appendix B against the values that NSS tests its
// own implementation with: 40 bytes from 20, 132 from 48.
func TestKeyExpansion(t *testing.T) {
	for _, c := range []struct {
		hash   doi.Hash
		e, key string
	}{
		{
			doi.HashSHA1, "63e81194946ebd05df7df5ebf5d8750056bf1f1d",
			"933347a07de5782247dd36d1562ffe0eecade1eb4134165257e3af1000af8ae3f165063828cbb60d",
		},
		{
			doi.HashSHA2384, "69fe7a1ac94adaeb711295f5fe004b1a8d6a0b65d05692758ce8ad2f7a45f59d7d0b596f51f7dfcf3330061888f6a94f",
			"9b9a56a512cc2c5d5bcee66d03974f2701d4634b3241df132b1d2fd31fb23f003969dd7873425f771aae298871672cbf" +
				"c908596c4d18165331b9fdff350cff787e700a140e123f2066d8d8527f53e701d23abdb3b0bc713109e33dc233c6989f" +
				"a64b95720495c859505c5c7a7487778aab59365dafe60c7264ccde55829f60143a4bb095",
		},
	} {
		e, want := unhex(t, c.e), unhex(t, c.key)
		if got := feedback(c.hash, e, []byte{0}, nil, len(want)); !bytes.Equal(got, want) {
			t.Errorf("%x, expected %x", got, want)
		}
		// Through the front door: Blowfish wants more bytes than the hash has,
		// DES fewer, and takes them from SKEYID_e itself.
		d := make([]byte, len(e))
		k, err := assemble(Suite{doi.CipherBlowfish, 320, c.hash}, d, d, d, e)
		if err != nil {
			t.Fatal(err)
		}
		expected := want[:40]
		if len(e) >= 40 {
			expected = e[:40]
		}
		if !bytes.Equal(k.cipherKey(), expected) {
			t.Errorf("key of 320 bits %x, expected %x", k.cipherKey(), expected)
		}
		if k, err = assemble(Suite{doi.CipherDES, 0, c.hash}, d, d, d, e); err != nil || !bytes.Equal(k.cipherKey(), e[:8]) {
			t.Errorf("DES key: %v", err)
		}
	}
}

// again is the key schedule once more, written down from RFC 2409 sections 5
// and appendix B without any of the package's code but the table of hashes.
type again struct {
	suite               Suite
	skeyid, d, a, e, ck []byte
}

func (r *again) prf(key []byte, parts ...[]byte) []byte {
	m := hmac.New(hashes[r.suite.Hash].make, key)
	m.Write(bytes.Join(parts, nil))
	return m.Sum(nil)
}

func newAgain(s Suite, bits int, psk, ni, nr, gxy, cki, ckr []byte) *again {
	r := &again{suite: s}
	r.skeyid = r.prf(psk, ni, nr)
	r.d = r.prf(r.skeyid, gxy, cki, ckr, []byte{0})
	r.a = r.prf(r.skeyid, r.d, gxy, cki, ckr, []byte{1})
	r.e = r.prf(r.skeyid, r.a, gxy, cki, ckr, []byte{2})
	r.ck = r.e
	if bits/8 > len(r.e) {
		k := r.prf(r.e, []byte{0})
		r.ck = k
		for len(r.ck) < bits/8 {
			k = r.prf(r.e, k)
			r.ck = append(r.ck[:len(r.ck):len(r.ck)], k...)
		}
	}
	r.ck = r.ck[:bits/8]
	return r
}

// everySuite are all ciphers and key lengths with all hashes, with the bits of
// the key that the cipher gets.
func everySuite() map[Suite]int {
	all := map[Suite]int{}
	for h := range hashes {
		for c, i := range ciphers {
			all[Suite{Cipher: c, Hash: h}] = i.bits
			for b := i.min; b != 0 && b <= i.max; b += i.step {
				all[Suite{c, b, h}] = b
			}
		}
	}
	return all
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestAgainstTheFormulas: all that is derived, for every suite.
func TestAgainstTheFormulas(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for s, bits := range everySuite() {
		psk, ni, nr, gxy := randomBytes(rnd, 9), randomBytes(rnd, 16), randomBytes(rnd, 20), randomBytes(rnd, 128)
		gxi, gxr, sai, id := randomBytes(rnd, 128), randomBytes(rnd, 128), randomBytes(rnd, 50), randomBytes(rnd, 12)
		cki, ckr := [8]byte(randomBytes(rnd, 8)), [8]byte(randomBytes(rnd, 8))
		want := newAgain(s, bits, psk, ni, nr, gxy, cki[:], ckr[:])
		k, err := Derive(s, SKEYIDPreShared(s.Hash, psk, ni, nr), gxy, cki, ckr)
		if err != nil {
			t.Fatalf("%v: %v", s, err)
		}
		id1, id2 := []byte{0, 0, 0, 7}, []byte{0xfe, 0xdc, 0xba, 0x98}
		spi := []byte{1, 2, 3, 4}
		m1 := want.prf(want.d, gxy, []byte{3}, spi, ni, nr)
		m2 := want.prf(want.d, m1, gxy, []byte{3}, spi, ni, nr)
		n1 := want.prf(want.d, []byte{2}, spi, ni, nr)
		block := s.BlockSize()
		for what, pair := range map[string][2][]byte{
			"cipher key":     {k.cipherKey(), want.ck},
			"HASH_I":         {k.HashI(gxi, gxr, cki, ckr, sai, id), want.prf(want.skeyid, gxi, gxr, cki[:], ckr[:], sai, id)},
			"HASH_R":         {k.HashR(gxr, gxi, ckr, cki, sai, id), want.prf(want.skeyid, gxr, gxi, ckr[:], cki[:], sai, id)},
			"HASH(1)":        {k.Hash1(7, sai), want.prf(want.a, id1, sai)},
			"HASH(2)":        {k.Hash2(0xfedcba98, ni, sai), want.prf(want.a, id2, ni, sai)},
			"HASH(3)":        {k.Hash3(7, ni, nr), want.prf(want.a, []byte{0}, id1, ni, nr)},
			"KEYMAT":         {k.KeyMat(nil, doi.ProtoAH, spi, ni, nr, len(n1)), n1},
			"KEYMAT short":   {k.KeyMat(nil, doi.ProtoAH, spi, ni, nr, 5), n1[:5]},
			"KEYMAT none":    {k.KeyMat(nil, doi.ProtoAH, spi, ni, nr, 0), nil},
			"KEYMAT PFS":     {k.KeyMat(gxy, doi.ProtoESP, spi, ni, nr, len(m1)+1), append(m1[:len(m1):len(m1)], m2[0])},
			"first IV":       {k.IV(gxi, gxr), HashSum(s.Hash, append(gxi[:128:128], gxr...))[:block]},
			"IV of phase 2":  {k.Phase2IV(gxi[:block], 7), HashSum(s.Hash, append(gxi[:block:block], id1...))[:block]},
			"signed SKEYID":  {SKEYIDSignature(s.Hash, ni, nr, gxy), want.prf(append(ni[:16:16], nr...), gxy)},
			"pre-shared key": {SKEYIDPreShared(s.Hash, psk, ni, nr), want.skeyid},
		} {
			if !bytes.Equal(pair[0], pair[1]) {
				t.Errorf("%v: %s %x, expected %x", s, what, pair[0], pair[1])
			}
		}
	}
}

// TestSKEYIDSignatureLeavesItsArguments: the nonces may be parts of one buffer.
func TestSKEYIDSignatureLeavesItsArguments(t *testing.T) {
	buf := []byte("nonce-inonce-r....")
	SKEYIDSignature(doi.HashSHA1, buf[:7], buf[7:14], []byte("gxy"))
	if string(buf) != "nonce-inonce-r...." {
		t.Errorf("overwritten: %q", buf)
	}
}

func TestDeriveRefusesAnotherSKEYID(t *testing.T) {
	for _, n := range []int{0, 16, 19, 21, 32} {
		if _, err := Derive(Suite{doi.CipherAES, 128, doi.HashSHA1}, make([]byte, n), nil, [8]byte{}, [8]byte{}); err == nil || !strings.Contains(err.Error(), "expected 20") {
			t.Errorf("SKEYID of %d bytes: %v", n, err)
		}
	}
}

func testKeys(t testing.TB, s Suite) *Keys {
	t.Helper()
	k, err := Derive(s, SKEYIDPreShared(s.Hash, []byte("psk"), []byte("ni"), []byte("nr")), []byte("gxy"), [8]byte{1}, [8]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestDropAuth: SKEYID is overwritten where it was, all else works on.
func TestDropAuth(t *testing.T) {
	for s := range everySuite() {
		k := testKeys(t, s)
		old := k.raw
		before := [][]byte{k.Hash1(1, nil), k.KeyMat(nil, 3, nil, nil, nil, 60), slices.Clone(k.cipherKey())}
		k.DropAuth()
		k.DropAuth()
		after := [][]byte{k.Hash1(1, nil), k.KeyMat(nil, 3, nil, nil, nil, 60), k.cipherKey()}
		for i := range before {
			if !bytes.Equal(before[i], after[i]) {
				t.Errorf("%v: value %d changed", s, i)
			}
		}
		if len(k.skeyid()) != 0 || !bytes.Equal(old, make([]byte, len(old))) {
			t.Errorf("%v: SKEYID is still there", s)
		}
		if k.Suite() != s {
			t.Errorf("%v became %v", s, k.Suite())
		}
		k.Wipe()
		if !bytes.Equal(k.raw, make([]byte, len(k.raw))) {
			t.Errorf("%v: keys are still there after Wipe", s)
		}
	}
}

// TestKeysAreSmall: one of these lives as long as each ISAKMP SA does.
func TestKeysAreSmall(t *testing.T) {
	for _, c := range []struct {
		suite Suite
		limit uint64 // bytes
	}{
		{Suite{doi.CipherAES, 128, doi.HashSHA1}, 100},
		{Suite{doi.CipherAES, 256, doi.HashSHA2256}, 136},
		{Suite{doi.CipherAES, 256, doi.HashSHA2512}, 200},
		{Suite{doi.CipherBlowfish, 448, doi.HashSHA2512}, 232},
	} {
		const n = 10000
		all := make([]*Keys, n)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range all {
			all[i] = testKeys(t, c.suite)
			all[i].DropAuth()
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		each := (after.HeapAlloc - min(before.HeapAlloc, after.HeapAlloc)) / n
		if each > c.limit {
			t.Errorf("%v: %d bytes each, expected at most %d", c.suite, each, c.limit)
		}
		t.Logf("%v: %d bytes, %d objects each", c.suite, each, (after.HeapObjects-before.HeapObjects)/n)
		runtime.KeepAlive(all)
	}
}

// TestWeakKeys: RFC 2409 appendix A, whatever the parity bits, alone and as a
// third of a 3DES key; and 3DES keys that are DES keys.
func TestWeakKeys(t *testing.T) {
	if len(weakDES) != 16 || len(slices.Compact(slices.Sorted(slices.Values(weakDES[:])))) != 16 {
		t.Fatalf("%d weak keys, not all different", len(weakDES))
	}
	good := [][]byte{unhex(t, "0123456789abcdef"), unhex(t, "23456789abcdef01"), unhex(t, "456789abcdef0123")}
	refused := func(c doi.Cipher, key []byte) bool {
		skeyid := make([]byte, 64)
		e := append(slices.Clone(key), make([]byte, 64-len(key))...)
		k, err := assemble(Suite{Cipher: c, Hash: doi.HashSHA2512}, skeyid, skeyid, skeyid, e)
		if (err != nil) != (k == nil) || err != nil && !errors.Is(err, ErrWeakKey) {
			t.Fatalf("%x: %v", key, err)
		}
		return err != nil
	}
	for _, w := range weakDES {
		for _, flip := range []uint64{0, parity, 0x0100000000000001} {
			key := unhex(t, fmt.Sprintf("%016x", w^flip))
			if !refused(doi.CipherDES, key) {
				t.Errorf("DES key %x accepted", key)
			}
			for i := range 3 {
				triple := slices.Clone(good)
				triple[i] = key
				if !refused(doi.Cipher3DES, slices.Concat(triple...)) {
					t.Errorf("3DES key with the third %x accepted", key)
				}
			}
			if refused(doi.CipherBlowfish, append(key, make([]byte, 48)...)) {
				t.Errorf("Blowfish key that begins with %x refused", key)
			}
		}
		near := unhex(t, fmt.Sprintf("%016x", w^2))
		if refused(doi.CipherDES, near) {
			t.Errorf("DES key %x refused", near)
		}
	}
	for _, c := range []struct {
		thirds  [3]int
		refused bool
	}{{[3]int{0, 1, 2}, false}, {[3]int{0, 1, 0}, false}, {[3]int{0, 0, 1}, true}, {[3]int{0, 1, 1}, true}, {[3]int{0, 0, 0}, true}} {
		key := slices.Concat(good[c.thirds[0]], good[c.thirds[1]], good[c.thirds[2]])
		if refused(doi.Cipher3DES, key) != c.refused {
			t.Errorf("3DES key of the thirds %v: refused is not %v", c.thirds, c.refused)
		}
		for i := 8; i < 16; i++ {
			key[i] ^= 1
		}
		if refused(doi.Cipher3DES, key) != c.refused {
			t.Errorf("3DES key of the thirds %v with another parity: refused is not %v", c.thirds, c.refused)
		}
	}
}
