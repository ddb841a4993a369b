package oakley

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"oakley/internal/doi"
)

// TestEncryptIsCBC: what Encrypt makes, the standard library opens with the key
// that appendix B derives.
func TestEncryptIsCBC(t *testing.T) {
	for s, open := range map[Suite]func([]byte) (cipher.Block, error){
		{doi.CipherDES, 0, doi.HashMD5}:       des.NewCipher,
		{doi.Cipher3DES, 0, doi.HashMD5}:      des.NewTripleDESCipher,
		{doi.CipherAES, 256, doi.HashSHA2256}: aes.NewCipher,
	} {
		k := testKeys(t, s)
		iv := k.IV([]byte("gxi"), []byte("gxr"))
		ct, next := k.Encrypt(iv, []byte("thirty-three bytes of a message.."))
		b, err := open(k.cipherKey())
		if err != nil {
			t.Fatal(err)
		}
		n := s.BlockSize()
		plain := make([]byte, len(ct))
		cipher.NewCBCDecrypter(b, iv).CryptBlocks(plain, ct)
		want := append([]byte("thirty-three bytes of a message.."), make([]byte, (n-33%n)%n)...)
		if !bytes.Equal(plain, want) {
			t.Errorf("%v: %q, expected %q: padded with zeros to a block and no more", s, plain, want)
		}
		if !bytes.Equal(next, ct[len(ct)-n:]) {
			t.Errorf("%v: next IV %x is not the last block of %x", s, next, ct)
		}
	}
}

// TestIVChain: a phase 1 and two phase 2 exchanges, as both sides see them
// (RFC 2409 appendix B). Each message's IV is the last block of the one before,
// each exchange has a chain of its own.
func TestIVChain(t *testing.T) {
	for s := range everySuite() {
		east, west := testKeys(t, s), testKeys(t, s)
		gxi, gxr := []byte("public value of the initiator"), []byte("public value of the responder")
		talk := func(from, to *Keys, ivFrom, ivTo []byte, text string) ([]byte, []byte) {
			t.Helper()
			keep := slices.Clone(ivFrom)
			plain := []byte(text)
			ct, next := from.Encrypt(ivFrom, plain)
			if string(plain) != text || !bytes.Equal(ivFrom, keep) {
				t.Fatalf("%v: Encrypt changed its arguments", s)
			}
			sent := slices.Clone(ct)
			got, next2, err := to.Decrypt(ivTo, ct)
			if err != nil || !bytes.HasPrefix(got, plain) || len(got) != len(ct) {
				t.Fatalf("%v: %q came as %q (%v)", s, text, got, err)
			}
			if len(bytes.Trim(got[len(plain):], "\x00")) != 0 || len(got)-len(plain) >= s.BlockSize() {
				t.Fatalf("%v: padding %x", s, got[len(plain):])
			}
			if !bytes.Equal(ct, sent) || !bytes.Equal(ivTo, keep) {
				t.Fatalf("%v: Decrypt changed its arguments", s)
			}
			if !bytes.Equal(next, next2) || &next[0] == &ct[len(ct)-len(next)] {
				t.Fatalf("%v: next IVs %x and %x, or a part of the message", s, next, next2)
			}
			return next, next2
		}
		a, b := talk(east, west, east.IV(gxi, gxr), west.IV(gxi, gxr), "identity of the initiator and its hash")
		a, b = talk(west, east, b, a, "identity of the responder")
		x1, y1 := east.Phase2IV(a, 0x11111111), west.Phase2IV(b, 0x11111111)
		x2, y2 := east.Phase2IV(a, 0x22222222), west.Phase2IV(b, 0x22222222)
		if bytes.Equal(x1, x2) {
			t.Fatalf("%v: two exchanges have one IV", s)
		}
		x1, y1 = talk(east, west, x1, y1, "quick mode one, message one")
		x2, y2 = talk(west, east, x2, y2, "quick mode two, message one")
		y1, x1 = talk(west, east, y1, x1, "quick mode one, message two")
		y2, x2 = talk(east, west, y2, x2, "quick mode two, message two")
		talk(east, west, x1, y1, "quick mode one, message three")
		talk(west, east, x2, y2, "quick mode two, message three")
	}
}

// TestDecryptRefuses: every length that is no whole number of blocks, none at
// all, and an IV of another length; nothing panics.
func TestDecryptRefuses(t *testing.T) {
	for s := range everySuite() {
		k := testKeys(t, s)
		iv := k.IV(nil, nil)
		ct, _ := k.Encrypt(iv, bytes.Repeat([]byte("payload "), 9))
		for n := range len(ct) + 1 {
			plain, next, err := k.Decrypt(iv, ct[:n])
			if whole := n > 0 && n%s.BlockSize() == 0; (err == nil) != whole || (plain == nil) == whole || (next == nil) == whole {
				t.Errorf("%v: %d bytes: %v", s, n, err)
			}
		}
		for _, bad := range [][]byte{nil, iv[1:], append(slices.Clone(iv), 0)} {
			if _, _, err := k.Decrypt(bad, ct); err == nil || !strings.Contains(err.Error(), "initial vector") {
				t.Errorf("%v: IV of %d bytes: %v", s, len(bad), err)
			}
		}
	}
}

// TestEncryptNothing: no payloads make no blocks, and the chain goes on from
// the same IV.
func TestEncryptNothing(t *testing.T) {
	k := testKeys(t, Suite{doi.CipherAES, 128, doi.HashSHA1})
	iv := k.IV(nil, nil)
	ct, next := k.Encrypt(iv, nil)
	if len(ct) != 0 || !bytes.Equal(next, iv) {
		t.Errorf("%x, next %x, expected nothing, %x", ct, next, iv)
	}
}

// FuzzDecrypt: whatever arrives is refused or comes out as long as it went in,
// and encrypting it again gives the same bytes.
func FuzzDecrypt(f *testing.F) {
	suites := []Suite{
		{doi.CipherDES, 0, doi.HashMD5},
		{doi.Cipher3DES, 0, doi.HashSHA1},
		{doi.CipherCAST, 0, doi.HashSHA1},
		{doi.CipherAES, 128, doi.HashSHA2256},
		{doi.CipherAES, 256, doi.HashSHA2512},
	}
	var keys []*Keys
	for i, s := range suites {
		k := testKeys(f, s)
		keys = append(keys, k)
		ct, _ := k.Encrypt(k.IV(nil, nil), []byte("a message of some length"))
		f.Add(byte(i), ct)
		f.Add(byte(i), ct[1:])
	}
	f.Fuzz(func(t *testing.T, which byte, ct []byte) {
		k := keys[int(which)%len(keys)]
		iv := k.Phase2IV([]byte("last"), 1)
		plain, next, err := k.Decrypt(iv, ct)
		if err != nil {
			if plain != nil || next != nil {
				t.Fatal("refused, and yet something came out")
			}
			return
		}
		again, next2 := k.Encrypt(iv, plain)
		if len(plain) != len(ct) || !bytes.Equal(again, ct) || !bytes.Equal(next, next2) {
			t.Fatalf("%x became %x and %x again", ct, plain, again)
		}
	})
}

func BenchmarkDerive(b *testing.B) {
	s := Suite{doi.CipherAES, 128, doi.HashSHA1}
	skeyid, gxy := make([]byte, 20), make([]byte, 256)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Derive(s, skeyid, gxy, [8]byte{1}, [8]byte{2}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecrypt(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, s := range []Suite{{doi.CipherAES, 128, doi.HashSHA1}, {doi.Cipher3DES, 0, doi.HashMD5}, {doi.CipherBlowfish, 128, doi.HashSHA1}} {
		b.Run(s.String(), func(b *testing.B) {
			k := testKeys(b, s)
			iv := k.IV(nil, nil)
			ct := randomBytes(rnd, 320)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := k.Decrypt(iv, ct); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
