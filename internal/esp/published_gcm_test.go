package esp

import (
	"bytes"
	"testing"

	"oakley/internal/ipsec"
)

// gcmVectors are packets of draft-mcgrew-gcm-test-01, cut to the ICV that each
// cipher sends. plain ends with padding and trailer.
var gcmVectors = []struct {
	name                        string
	cipher                      ipsec.Cipher
	key, salt                   string
	esn                         bool
	high                        uint32
	header                      string // SPI, low half of the sequence number, IV
	plain, secret, tag, trailer string
}{
	{
		"128 bits, ESN, 8", ipsec.CipherAESGCM8, gcm128Key, "2e443b68", true, 0x87654321,
		gcm128Header, gcm128Plain, gcm128Secret, "459018148f6cbe72", "01020201",
	},
	{
		"128 bits, ESN, 12", ipsec.CipherAESGCM12, gcm128Key, "2e443b68", true, 0x87654321,
		gcm128Header, gcm128Plain, gcm128Secret, "459018148f6cbe722fd04796", "01020201",
	},
	{
		"128 bits, ESN, 16", ipsec.CipherAESGCM16, gcm128Key, "2e443b68", true, 0x87654321,
		gcm128Header, gcm128Plain, gcm128Secret, "459018148f6cbe722fd04796562dfdb4", "01020201",
	},
	{
		"192 bits", ipsec.CipherAESGCM16, "feffe9928665731c6d6a8f9467308308feffe9928665731c", "cafebabe", false, 0,
		"0000a5f80000000afacedbaddecaf888",
		"45000028a4ad4000400678800a01038f0a010612802306b8cb712602dd6bb03e501016d075680001",
		"a5b1f8066029aea40e598b8122de02420938b3ab33f828e687b8858b5bfbdbd0315b27452144cc77",
		"95457b9652037f5318027b5b4cd7a636", "0001",
	},
	{
		"256 bits", ipsec.CipherAESGCM16, "abbccddef00112233445566778899aababbccddef00112233445566778899aab", "11223344", false, 0,
		"4a2cbfe3000000020102030405060708",
		"4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b40101040201020201",
		"ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99def842d8e",
		"b335f4eecfdbf831824b4c4915956c96", "01020201",
	},
	{
		"GMAC", ipsec.CipherAESGMAC, gcm128Key, "22433c64", false, 0,
		"00004321000000070000000000000000", gmacPlain, gmacPlain, "f2a9a836e155106aa8dcd618e4099aaa", "01020201",
	},
}

const (
	gcm128Key    = "4c80cdefbb5d10da906ac73c3613a634"
	gcm128Header = "00004321000000004956ed7e3b244cfe"
	gcm128Plain  = "45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000" +
		"00000000045f736970045f756470037369700963796265726369747902646b000021000101020201"
	gcm128Secret = "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34" +
		"cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732"
	gmacPlain = "45000030da3a00008001df3bc0a80005c0a800010800c6cd02000700" +
		"6162636465666768696a6b6c6d6e6f707172737401020201"
)

func TestPublishedPacketsOfGCM(t *testing.T) {
	for _, v := range gcmVectors {
		tr, err := New(&ipsec.SA{
			ID: ipsec.SAID{Proto: ipsec.ProtoESP, SPI: 0x4321}, ESN: v.esn, Cipher: v.cipher,
			Key: unhex(t, v.key), Salt: unhex(t, v.salt),
		})
		if err != nil {
			t.Fatalf("%s: %v", v.name, err)
		}
		plain, tag := unhex(t, v.plain), unhex(t, v.tag)
		want := append(append(unhex(t, v.header), unhex(t, v.secret)...), tag...)
		pkt := append(append(unhex(t, v.header), plain...), make([]byte, len(tag))...)
		tr.protect(scratches.New().(*scratch), pkt, len(pkt)-len(tag), v.high)
		if !bytes.Equal(pkt, want) {
			t.Errorf("%s: %x\nwant %x", v.name, pkt, want)
			continue
		}
		if v.esn {
			if _, _, drop := tr.Open(bytes.Clone(pkt), v.high+1); drop != ipsec.DropAuth {
				t.Errorf("%s: another high half of the sequence number: %v", v.name, drop)
			}
		}
		inner, next, drop := tr.Open(pkt, v.high)
		trailer := len(unhex(t, v.trailer))
		if drop != ipsec.DropNone || next != 1 || !bytes.Equal(inner, plain[:len(plain)-trailer]) {
			t.Errorf("%s: opened to %x, next header %d, %v", v.name, inner, next, drop)
		}
	}
}
