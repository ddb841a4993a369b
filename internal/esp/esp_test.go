package esp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"oakley/internal/ipsec"
)

// suite is a pair of algorithms with key lengths.
type suite struct {
	name   string
	cipher ipsec.Cipher
	key    int
	auth   ipsec.Auth
}

var suites = []suite{
	{"null-md5", ipsec.CipherNull, 0, ipsec.AuthHMACMD5},
	{"des-md5", ipsec.CipherDES, 8, ipsec.AuthHMACMD5},
	{"3des-sha1", ipsec.Cipher3DES, 24, ipsec.AuthHMACSHA1},
	{"blowfish128-sha1", ipsec.CipherBlowfish, 16, ipsec.AuthHMACSHA1},
	{"blowfish448-sha1", ipsec.CipherBlowfish, 56, ipsec.AuthHMACSHA1},
	{"cast128-sha1", ipsec.CipherCAST, 16, ipsec.AuthHMACSHA1},
	{"cast96-md5", ipsec.CipherCAST, 12, ipsec.AuthHMACMD5},
	{"cast40-sha1", ipsec.CipherCAST, 5, ipsec.AuthHMACSHA1},
	{"skipjack-ripemd", ipsec.CipherSkipjack, 10, ipsec.AuthHMACRIPEMD160},
	{"aes128-sha1", ipsec.CipherAESCBC, 16, ipsec.AuthHMACSHA1},
	{"aes192-sha256", ipsec.CipherAESCBC, 24, ipsec.AuthHMACSHA256},
	{"aes256-sha384", ipsec.CipherAESCBC, 32, ipsec.AuthHMACSHA384},
	{"aes256-sha512", ipsec.CipherAESCBC, 32, ipsec.AuthHMACSHA512},
	{"aes128-none", ipsec.CipherAESCBC, 16, ipsec.AuthNone},
	{"aes128-xcbc", ipsec.CipherAESCBC, 16, ipsec.AuthAESXCBC},
	{"aes128ctr-sha1", ipsec.CipherAESCTR, 16, ipsec.AuthHMACSHA1},
	{"aes256ctr-xcbc", ipsec.CipherAESCTR, 32, ipsec.AuthAESXCBC},
	{"null-ripemd", ipsec.CipherNull, 0, ipsec.AuthHMACRIPEMD160},
	{"aes128gmac", ipsec.CipherAESGMAC, 16, ipsec.AuthNone},
	{"aes256gmac", ipsec.CipherAESGMAC, 32, ipsec.AuthNone},
	{"chacha20poly1305", ipsec.CipherChaCha20Poly1305, 32, ipsec.AuthNone},
	{"aes128gcm8", ipsec.CipherAESGCM8, 16, ipsec.AuthNone},
	{"aes128gcm12", ipsec.CipherAESGCM12, 16, ipsec.AuthNone},
	{"aes128gcm16", ipsec.CipherAESGCM16, 16, ipsec.AuthNone},
	{"aes192gcm16", ipsec.CipherAESGCM16, 24, ipsec.AuthNone},
	{"aes256gcm16", ipsec.CipherAESGCM16, 32, ipsec.AuthNone},
}

// random makes n bytes that are the same in every run.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	var s [32]byte
	s[0], s[1] = byte(seed), byte(seed>>8)
	_, _ = rand.NewChaCha8(s).Read(b)
	return b
}

func (s suite) sa() *ipsec.SA {
	return &ipsec.SA{
		ID:      ipsec.SAID{Proto: ipsec.ProtoESP, SPI: 0xc0ffee01, Dst: netip.MustParseAddr("192.0.2.1")},
		Cipher:  s.cipher,
		Key:     random(1, s.key),
		Salt:    random(2, s.cipher.Info().Salt),
		Auth:    s.auth,
		AuthKey: random(3, s.auth.Info().Key),
	}
}

func (s suite) transform(t testing.TB, esn bool) *Transform {
	t.Helper()
	sa := s.sa()
	sa.ESN = esn
	tr, err := New(sa)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// seal seals plain in a buffer with exactly the room that was asked for.
func seal(t testing.TB, tr *Transform, plain []byte, next uint8, seq uint64) []byte {
	t.Helper()
	buf := make([]byte, tr.Overhead()+len(plain))
	copy(buf[tr.HeaderLen():], plain)
	pkt, err := tr.Seal(buf, tr.HeaderLen(), len(plain), next, seq)
	if err != nil {
		t.Fatal(err)
	}
	return pkt
}

func TestRoundTripEveryLength(t *testing.T) {
	for _, s := range suites {
		for _, esn := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/esn=%v", s.name, esn), func(t *testing.T) {
				tr := s.transform(t, esn)
				seq := uint64(1)
				if esn {
					seq = 7<<32 + 5
				}
				for n := range 130 {
					plain := random(uint64(n), n)
					pkt := seal(t, tr, plain, uint8(n), seq)
					if len(pkt) != tr.SealedLen(n) || (len(pkt)-tr.HeaderLen()-tr.icvLen)%4 != 0 {
						t.Fatalf("%d bytes: sealed to %d, SealedLen says %d", n, len(pkt), tr.SealedLen(n))
					}
					if m := tr.MaxPlain(len(pkt)); m < n || tr.SealedLen(m) > len(pkt) || tr.SealedLen(m+1) <= len(pkt) {
						t.Fatalf("MaxPlain(%d) = %d", len(pkt), m)
					}
					if spi, low, ok := ParseHeader(pkt); !ok || spi != 0xc0ffee01 || low != uint32(seq) {
						t.Fatalf("header %v %d %v", spi, low, ok)
					}
					got, next, drop := tr.Open(pkt, uint32(seq>>32))
					if drop != ipsec.DropNone || next != uint8(n) || !bytes.Equal(got, plain) {
						t.Fatalf("%d bytes: %v, next %d, %x, want %x", n, drop, next, got, plain)
					}
					seq++
				}
			})
		}
	}
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	base := suite{cipher: ipsec.CipherAESCBC, key: 16, auth: ipsec.AuthHMACSHA1}
	for _, c := range []struct {
		name   string
		change func(*ipsec.SA)
		want   string
	}{
		{"AES key", func(sa *ipsec.SA) { sa.Key = sa.Key[:15] }, "AES (CBC) takes a key of 16, 24 or 32 bytes, this one has 15"},
		{"3DES key", func(sa *ipsec.SA) { sa.Cipher = ipsec.Cipher3DES }, "3DES takes a key of 24 bytes, this one has 16"},
		{"Blowfish key", func(sa *ipsec.SA) { sa.Cipher, sa.Key = ipsec.CipherBlowfish, nil }, "Blowfish takes a key of 5 to 56 bytes"},
		{"CAST key", func(sa *ipsec.SA) { sa.Cipher, sa.Key = ipsec.CipherCAST, make([]byte, 4) }, "Cast-128 takes a key of 5 to 16 bytes, this one has 4"},
		{"CTR alone", func(sa *ipsec.SA) {
			sa.Cipher, sa.Salt, sa.Auth, sa.AuthKey = ipsec.CipherAESCTR, make([]byte, 4), 0, nil
		}, "without authentication"},
		{"auth key", func(sa *ipsec.SA) { sa.AuthKey = sa.AuthKey[1:] }, "HMAC-SHA1 takes a key of 20 bytes, this one has 19"},
		{"salt", func(sa *ipsec.SA) { sa.Cipher = ipsec.CipherAESGCM16 }, "AES (GCM) takes a salt of 4 bytes, this one has 0"},
		{"salt with CBC", func(sa *ipsec.SA) { sa.Salt = make([]byte, 4) }, "takes a salt of 0 bytes"},
		{"GCM with HMAC", func(sa *ipsec.SA) { sa.Cipher, sa.Salt = ipsec.CipherAESGCM16, make([]byte, 4) }, "takes no HMAC-SHA1 beside it"},
		{"nothing at all", func(sa *ipsec.SA) { sa.Cipher, sa.Key, sa.Auth, sa.AuthKey = ipsec.CipherNull, nil, 0, nil }, "neither encryption nor authentication"},
		{"key without algorithm", func(sa *ipsec.SA) { sa.Auth = 0 }, "key of 20 bytes without an algorithm"},
		{"unknown cipher", func(sa *ipsec.SA) { sa.Cipher, sa.Key = 99, nil }, "not available here; take one of"},
		{"unknown auth", func(sa *ipsec.SA) { sa.Auth = ipsec.AuthAESGMAC }, "not available here; take one of"},
		{"no cipher", func(sa *ipsec.SA) { sa.Cipher, sa.Key = ipsec.CipherNone, nil }, "not available here"},
		{"out of range", func(sa *ipsec.SA) { sa.Cipher, sa.Key = 200, nil }, "not available here"},
		{"auth out of range", func(sa *ipsec.SA) { sa.Auth = 200 }, "not available here"},
		{"AH", func(sa *ipsec.SA) { sa.ID.Proto = ipsec.ProtoAH }, "protocol is ah"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sa := base.sa()
			c.change(sa)
			_, err := New(sa)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "192.0.2.1/c0ffee01") {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
}
