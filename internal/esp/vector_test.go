package esp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"strings"
	"testing"

	"oakley/internal/ipsec"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.ReplaceAll(s, " ", ""), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RFC 3602 section 4, case 7: a tunnel-mode packet, cipher alone.
func TestOpensTheSampleOfRFC3602(t *testing.T) {
	tr, err := New(&ipsec.SA{
		ID: ipsec.SAID{Proto: ipsec.ProtoESP, SPI: 0x8765}, Cipher: ipsec.CipherAESCBC, Key: unhex(t, "0123456789abcdef0123456789abcdef"),
	})
	if err != nil {
		t.Fatal(err)
	}
	pkt := unhex(t, `0000876500000002 f4e765244f6407adf13dc1380f673f37
773b5241 a4c44922 5e4f3ce5 ed611b0c 237ca96c f74a9301 3c1b0ea1 a0cf70f8
e4ecaec7 8ac53aad 7a0f022b 859243c6 47752e94 a859352b 8a4d4d2d ecd136e5
c177f132 ad3fbfb2 201ac990 4c74ee0a 109e0ca1 e4dfe9d5 a100b842 f1c22f0d`)
	want := unhex(t, `45000054 09040000 4001f988 c0a87b03 c0a87bc8 08009f76 a90a0100 b49c083d
02a20400 08090a0b 0c0d0e0f 10111213 14151617 18191a1b 1c1d1e1f 20212223
24252627 28292a2b 2c2d2e2f 30313233 34353637`)
	spi, seq, ok := ParseHeader(pkt)
	if !ok || spi != 0x8765 || seq != 2 {
		t.Errorf("header %v %d %t", spi, seq, ok)
	}
	inner, next, drop := tr.Open(pkt, 0)
	if drop != ipsec.DropNone || next != 4 || !bytes.Equal(inner, want) {
		t.Errorf("opened to %x, next header %d, %v", inner, next, drop)
	}
}

// What Seal makes is taken apart with nothing but the standard library, as
// RFC 4303 section 2 and RFC 2403, 2404 and 4868 describe it.
func TestSealByTheBook(t *testing.T) {
	hashes := map[ipsec.Auth]func() hash.Hash{
		ipsec.AuthHMACMD5: md5.New, ipsec.AuthHMACSHA1: sha1.New, ipsec.AuthHMACSHA256: sha256.New,
		ipsec.AuthHMACSHA384: sha512.New384, ipsec.AuthHMACSHA512: sha512.New,
	}
	blocks := map[ipsec.Cipher]func([]byte) (cipher.Block, error){
		ipsec.CipherAESCBC: aes.NewCipher, ipsec.CipherDES: des.NewCipher, ipsec.Cipher3DES: des.NewTripleDESCipher,
	}
	for _, s := range suites {
		newBlock, newHash := blocks[s.cipher], hashes[s.auth]
		if newBlock == nil || newHash == nil {
			continue
		}
		for _, esn := range []bool{false, true} {
			sa := s.sa()
			plain, seq := random(9, 77), uint64(7)
			if esn {
				seq |= 5 << 32
			}
			pkt := seal(t, s.transform(t, esn), plain, 4, seq)
			icv := s.auth.Info().ICV
			body, got := pkt[:len(pkt)-icv], pkt[len(pkt)-icv:]
			m := hmac.New(newHash, sa.AuthKey)
			m.Write(body)
			if esn {
				m.Write([]byte{0, 0, 0, 5}) // RFC 4303 section 2.2.1: behind the trailer, not sent
			}
			if !bytes.Equal(m.Sum(nil)[:icv], got) {
				t.Errorf("%s, ESN %t: the ICV is not the HMAC of what it covers", s.name, esn)
			}
			block, err := newBlock(sa.Key)
			if err != nil {
				t.Fatal(err)
			}
			n := block.BlockSize()
			out := bytes.Clone(body[8+n:])
			cipher.NewCBCDecrypter(block, body[8:8+n]).CryptBlocks(out, out)
			pad := int(out[len(out)-2])
			if out[len(out)-1] != 4 || !bytes.Equal(out[:len(out)-2-pad], plain) {
				t.Errorf("%s: decrypts to %x", s.name, out)
			}
			for i, b := range out[len(out)-2-pad : len(out)-2] {
				if int(b) != i+1 {
					t.Errorf("%s: padding byte %d is %d", s.name, i, b)
				}
			}
		}
	}
}

// RFC 4106 section 3 and 4: nonce of salt and IV, associated data of SPI and
// sequence number.
func TestGCMByTheBook(t *testing.T) {
	for _, s := range suites {
		if s.cipher != ipsec.CipherAESGCM16 {
			continue
		}
		sa := s.sa()
		plain := random(9, 77)
		pkt := seal(t, s.transform(t, false), plain, 41, 7)
		block, err := aes.NewCipher(sa.Key)
		if err != nil {
			t.Fatal(err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		out, err := aead.Open(nil, append(bytes.Clone(sa.Salt), pkt[8:16]...), pkt[16:], pkt[:8])
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if pad := int(out[len(out)-2]); out[len(out)-1] != 41 || !bytes.Equal(out[:len(out)-2-pad], plain) {
			t.Errorf("%s: decrypts to %x", s.name, out)
		}
	}
}

func TestEveryTruncationIsRefused(t *testing.T) {
	for _, s := range suites {
		if s.auth == ipsec.AuthNone && s.cipher.Info().ICV == 0 {
			continue
		}
		tr := s.transform(t, false)
		pkt := seal(t, tr, random(4, 40), 4, 1)
		for n := range len(pkt) {
			if _, _, drop := tr.Open(bytes.Clone(pkt[:n]), 0); drop == ipsec.DropNone {
				t.Errorf("%s: %d of %d bytes were accepted", s.name, n, len(pkt))
			}
		}
		for bit := range 8 * len(pkt) {
			bad := bytes.Clone(pkt)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, _, drop := tr.Open(bad, 0); drop == ipsec.DropNone {
				t.Errorf("%s: bit %d flipped, and it was accepted", s.name, bit)
			}
		}
	}
}

func TestEveryNextHeaderComesThrough(t *testing.T) {
	tr := suites[0].transform(t, false)
	for next := range 256 {
		pkt := seal(t, tr, []byte("12345678"), uint8(next), 1)
		if _, got, drop := tr.Open(pkt, 0); drop != ipsec.DropNone || int(got) != next {
			t.Errorf("next header %d came out as %d, %v", next, got, drop)
		}
	}
}

// Padding that lies, under a good ICV, is refused for its padding.
func TestEveryPaddingValue(t *testing.T) {
	s := suites[0] // NULL and HMAC-MD5
	tr := s.transform(t, false)
	for pad := range 256 {
		for _, honest := range []bool{true, false} {
			body := append([]byte{0xc0, 0xff, 0xee, 0x01, 0, 0, 0, 1}, make([]byte, 20)...)
			fill := min(pad, 18)
			for i := range fill {
				body[len(body)-2-fill+i] = byte(i + 1)
				if !honest {
					body[len(body)-2-fill+i] ^= 0x80
				}
			}
			body[len(body)-2], body[len(body)-1] = byte(pad), 4
			m := hmac.New(md5.New, s.sa().AuthKey)
			m.Write(body)
			_, _, drop := tr.Open(append(body, m.Sum(nil)[:12]...), 0)
			want := ipsec.DropNone
			switch {
			case pad > 18:
				want = ipsec.DropShort
			case !honest && pad > 0:
				want = ipsec.DropPadding
			}
			if drop != want && !(want == ipsec.DropShort && drop == ipsec.DropPadding) {
				t.Errorf("padding length %d, honest %t: %v, want %v", pad, honest, drop, want)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	var trs []*Transform
	for _, s := range suites {
		if s.auth == ipsec.AuthNone && s.cipher.Info().ICV == 0 {
			continue
		}
		tr := s.transform(f, false)
		trs = append(trs, tr)
		f.Add(seal(f, tr, random(7, 60), 4, 3), uint8(len(trs)-1))
		f.Add(seal(f, tr, nil, 59, 4), uint8(len(trs)-1))
	}
	good := map[string]bool{}
	for i, tr := range trs {
		for n := range 4 {
			good[string(rune(i))+string(seal(f, tr, random(7, 60), 4, uint64(n+1)))] = true
			good[string(rune(i))+string(seal(f, tr, nil, 59, uint64(n+1)))] = true
		}
	}
	f.Fuzz(func(t *testing.T, pkt []byte, which uint8) {
		i := int(which) % len(trs)
		before := string(rune(i)) + string(pkt)
		inner, _, drop := trs[i].Open(bytes.Clone(pkt), 0)
		if drop == ipsec.DropNone && !good[before] {
			t.Errorf("a packet that nobody sealed opened to %x", inner)
		}
	})
}
