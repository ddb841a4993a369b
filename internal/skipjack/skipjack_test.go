package skipjack

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

// The vector of the specification, version 2.0, codebook mode.
func TestVector(t *testing.T) {
	key, _ := hex.DecodeString("00998877665544332211")
	plain, _ := hex.DecodeString("33221100ddccbbaa")
	c, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	b := bytes.Clone(plain)
	c.Encrypt(b, b)
	if got := hex.EncodeToString(b); got != "2587cae27a12d300" {
		t.Errorf("encrypted to %s", got)
	}
	c.Decrypt(b, b)
	if !bytes.Equal(b, plain) {
		t.Errorf("decrypted to %x", b)
	}
}

// The specification says that F is a permutation of the bytes.
func TestTableIsAPermutation(t *testing.T) {
	var seen [256]bool
	for _, v := range f {
		if seen[v] {
			t.Errorf("%02x is there twice", v)
		}
		seen[v] = true
	}
}

func TestRoundTrip(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{})
	for range 1000 {
		key, plain := make([]byte, KeySize), make([]byte, BlockSize)
		_, _ = rng.Read(key)
		_, _ = rng.Read(plain)
		c, _ := New(key)
		b := make([]byte, BlockSize)
		c.Encrypt(b, plain)
		if bytes.Equal(b, plain) {
			t.Fatalf("%x stays %x", key, plain)
		}
		c.Decrypt(b, b)
		if !bytes.Equal(b, plain) {
			t.Fatalf("key %x: %x came back as %x", key, plain, b)
		}
	}
}

func TestKeyLength(t *testing.T) {
	for _, n := range []int{0, 9, 11} {
		if _, err := New(make([]byte, n)); err == nil {
			t.Errorf("%d bytes are taken", n)
		}
	}
}
