package cast128

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// RFC 2144 appendix B.1.
func TestVectors(t *testing.T) {
	for _, v := range []struct{ key, cipher string }{
		{"0123456712345678234567893456789a", "238b4fe5847e44b2"},
		{"01234567123456782345", "eb6a711a2c02271b"},
		{"0123456712", "7ac816d16e9b302e"},
	} {
		c, err := New(unhex(v.key))
		if err != nil {
			t.Fatal(err)
		}
		b := unhex("0123456789abcdef")
		c.Encrypt(b, b)
		if hex.EncodeToString(b) != v.cipher {
			t.Errorf("key %s: %x, want %s", v.key, b, v.cipher)
		}
		c.Decrypt(b, b)
		if hex.EncodeToString(b) != "0123456789abcdef" {
			t.Errorf("key %s: decrypted to %x", v.key, b)
		}
	}
}

// RFC 2144 appendix B.2: a million turns, each with two keys that the one before
// made.
func TestMaintenance(t *testing.T) {
	a, b := unhex("0123456712345678234567893456789a"), unhex("0123456712345678234567893456789a")
	for range 1000000 {
		c, _ := New(b)
		c.Encrypt(a[:8], a[:8])
		c.Encrypt(a[8:], a[8:])
		c, _ = New(a)
		c.Encrypt(b[:8], b[:8])
		c.Encrypt(b[8:], b[8:])
	}
	if !bytes.Equal(a, unhex("eea9d0a249fd3ba6b3436fb89d6dca92")) || !bytes.Equal(b, unhex("b2c95eb00c31ad7180ac05b8e83d696e")) {
		t.Errorf("a %x, b %x", a, b)
	}
}

func TestKeyLengths(t *testing.T) {
	for n := range 20 {
		_, err := New(make([]byte, n))
		if (err == nil) != (n >= 5 && n <= 16) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// A key of 88 to 120 bits is one with zeros behind it; one of up to 80 is not,
// for its rounds are fewer (RFC 2144 section 2.5).
func TestShortKeys(t *testing.T) {
	for n := MinKey; n < MaxKey; n++ {
		key := make([]byte, MaxKey)
		for i := range n {
			key[i] = byte(i + 1)
		}
		short, _ := New(key[:n])
		long, _ := New(key)
		a, b := make([]byte, 8), make([]byte, 8)
		short.Encrypt(a, a)
		long.Encrypt(b, b)
		if bytes.Equal(a, b) != (n > 10) {
			t.Errorf("%d bytes: %x, padded %x", n, a, b)
		}
	}
}
