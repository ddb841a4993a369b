package esp

import (
	"bytes"
	"testing"

	"oakley/internal/ipsec"
)

// RFC 3686 section 6: all nine vectors of counter mode.
func TestCounterModeOfRFC3686(t *testing.T) {
	for i, v := range []struct{ key, iv, nonce, plain, cipher string }{
		{
			"ae6852f8121067cc4bf7a5765577f39e", "0000000000000000", "00000030",
			"53696e676c6520626c6f636b206d7367", "e4095d4fb7a7b3792d6175a3261311b8",
		},
		{
			"7e24067817fae0d743d6ce1f32539163", "c0543b59da48d90b", "006cb6db",
			"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			"5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28",
		},
		{
			"7691be035e5020a8ac6e618529f9a0dc", "27777f3f4a1786f0", "00e0017b",
			"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223",
			"c1cf48a89f2ffdd9cf4652e9efdb72d74540a42bde6d7836d59a5ceaaef3105325b2072f",
		},
		{
			"16af5b145fc9f579c175f93e3bfb0eed863d06ccfdb78515", "36733c147d6d93cb", "00000048",
			"53696e676c6520626c6f636b206d7367", "4b55384fe259c9c84e7935a003cbe928",
		},
		{
			"7c5cb2401b3dc33c19e7340819e0f69c678c3db8e6f6a91a", "020c6eadc2cb500d", "0096b03b",
			"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			"453243fc609b23327edfaafa7131cd9f8490701c5ad4a79cfc1fe0ff42f4fb00",
		},
		{
			"02bf391ee8ecb159b959617b0965279bf59b60a786d3e0fe", "5cbd60278dcc0912", "0007bdfd",
			"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223",
			"96893fc55e5c722f540b7dd1ddf7e758d288bc95c69165884536c811662f2188abee0935",
		},
		{
			"776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c104", "db5672c97aa8f0b2", "00000060",
			"53696e676c6520626c6f636b206d7367", "145ad01dbf824ec7560863dc71e3e0c0",
		},
		{
			"f6d66d6bd52d59bb0796365879eff886c66dd51a5b6a99744b50590c87a23884", "c1585ef15a43d875", "00faac24",
			"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			"f05e231b3894612c49ee000b804eb2a9b8306b508f839d6a5530831d9344af1c",
		},
		{
			"ff7a617ce69148e4f1726e2f43581de2aa62d9f805532edff1eed687fb54153d", "51a51d70a1c11148", "001cc5b7",
			"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223",
			"eb6c52821d0bbbf7ce7594462aca4faab407df866569fd07f48cc0b583d6071f1ec0e6b8",
		},
	} {
		tr, err := New(&ipsec.SA{
			ID: ipsec.SAID{Proto: ipsec.ProtoESP, SPI: 0x1000}, Cipher: ipsec.CipherAESCTR,
			Key: unhex(t, v.key), Salt: unhex(t, v.nonce), Auth: ipsec.AuthHMACSHA1, AuthKey: make([]byte, 20),
		})
		if err != nil {
			t.Fatal(err)
		}
		// The vectors are of the cipher, not of packets: an IV of choice.
		pkt := append(append(make([]byte, baseHeader), unhex(t, v.iv)...), unhex(t, v.plain)...)
		s := scratches.New().(*scratch)
		tr.counter(s, pkt[16:], tr.nonce(s, pkt))
		if !bytes.Equal(pkt[16:], unhex(t, v.cipher)) {
			t.Errorf("vector %d: %x, want %s", i+1, pkt[16:], v.cipher)
		}
		tr.counter(s, pkt[16:], tr.nonce(s, pkt))
		if !bytes.Equal(pkt[16:], unhex(t, v.plain)) {
			t.Errorf("vector %d does not undo itself: %x", i+1, pkt[16:])
		}
	}
}

// RFC 7634 appendix A: a packet, sealed and opened.
func TestPacketOfRFC7634(t *testing.T) {
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(0x80 + i)
	}
	tr, err := New(&ipsec.SA{
		ID: ipsec.SAID{Proto: ipsec.ProtoESP, SPI: 0x01020304}, Cipher: ipsec.CipherChaCha20Poly1305,
		Key: key, Salt: unhex(t, "a0a1a2a3"),
	})
	if err != nil {
		t.Fatal(err)
	}
	plain := unhex(t, `45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10
0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223
2425262728292a2b2c2d2e2f3031323334353637`)
	want := unhex(t, `01020304000000051011121314151617
24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6
14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3
cbec163fac469b502773f6fb94e664da9165b82829f641e0
76aaa8266b7fb0f7b11b369907e1ad43`)
	// The RFC's IV is another number than the sequence number, from which ours
	// is made: the packet is put together as Seal does it.
	pkt := append(append(append([]byte{}, want[:16]...), plain...), 1, 2, 2, 4)
	end := len(pkt)
	pkt = append(pkt, make([]byte, 16)...)
	s := scratches.New().(*scratch)
	tr.protect(s, pkt, end, 0)
	if !bytes.Equal(pkt, want) {
		t.Fatalf("sealed to %x\nwant %x", pkt, want)
	}
	inner, next, drop := tr.Open(pkt, 0)
	if drop != ipsec.DropNone || next != 4 || !bytes.Equal(inner, plain) {
		t.Errorf("opened to %x, next header %d, %v", inner, next, drop)
	}
}

// RFC 4543 section 3.3 with nothing but the standard library: everything before
// the ICV is authenticated, IV included, and nothing is encrypted.
func TestGMACByTheBook(t *testing.T) {
	for _, esn := range []bool{false, true} {
		s := suiteByName("aes128gmac")
		tr := s.transform(t, esn)
		seq := uint64(7)
		if esn {
			seq = 3<<32 + 7
		}
		plain := []byte("in clear for everybody to read")
		pkt := seal(t, tr, plain, 4, seq)
		if !bytes.Equal(pkt[16:16+len(plain)], plain) {
			t.Errorf("ESN %t: the payload was encrypted", esn)
		}
		end := len(pkt) - 16
		aad := append([]byte{}, pkt[:4]...)
		if esn {
			aad = append(aad, 0, 0, 0, 3)
		}
		aad = append(aad, pkt[4:end]...)
		gcm, err := newGCM(s.sa().Key, 16)
		if err != nil {
			t.Fatal(err)
		}
		nonce := append(append([]byte{}, s.sa().Salt...), pkt[8:16]...)
		if tag := gcm.Seal(nil, nonce, nil, aad); !bytes.Equal(tag, pkt[end:]) {
			t.Errorf("ESN %t: ICV %x, want %x", esn, pkt[end:], tag)
		}
	}
}
