package oakley

import (
	"strings"
	"testing"

	"oakley/internal/doi"
)

// TestSuiteCheck: what is accepted, what is refused and which words tell why
// (attack A4: key lengths of zero, too long, on a cipher of fixed length).
func TestSuiteCheck(t *testing.T) {
	for _, c := range []struct {
		suite Suite
		name  string
		block int
		words string // empty: accepted
	}{
		{Suite{doi.CipherDES, 0, doi.HashMD5}, "DES-MD5", 8, ""},
		{Suite{doi.Cipher3DES, 0, doi.HashMD5}, "3DES-MD5", 8, ""},
		{Suite{doi.CipherAES, 0, doi.HashSHA1}, "AES-128-SHA", 16, ""},
		{Suite{doi.CipherAES, 128, doi.HashSHA1}, "AES-128-SHA", 16, ""},
		{Suite{doi.CipherAES, 192, doi.HashSHA2256}, "AES-192-SHA2-256", 16, ""},
		{Suite{doi.CipherAES, 256, doi.HashSHA2384}, "AES-256-SHA2-384", 16, ""},
		{Suite{doi.CipherBlowfish, 0, doi.HashSHA2512}, "BLF-448-SHA2-512", 8, ""},
		{Suite{doi.CipherBlowfish, 40, doi.HashSHA1}, "BLF-40-SHA", 8, ""},
		{Suite{doi.CipherBlowfish, 128, doi.HashSHA1}, "BLF-128-SHA", 8, ""},
		{Suite{doi.CipherBlowfish, 448, doi.HashSHA1}, "BLF-448-SHA", 8, ""},
		{Suite{doi.CipherCAST, 0, doi.HashSHA1}, "CAST-128-SHA", 8, ""},
		{Suite{doi.CipherCAST, 88, doi.HashSHA1}, "CAST-88-SHA", 8, ""},

		{Suite{doi.CipherAES, 160, doi.HashSHA1}, "AES-160-SHA", 16, "key length 160"},
		{Suite{doi.CipherAES, 320, doi.HashSHA1}, "AES-320-SHA", 16, "128 to 256"},
		{Suite{doi.CipherAES, -128, doi.HashSHA1}, "AES--128-SHA", 16, "key length -128"},
		{Suite{doi.CipherAES, 65535, doi.HashSHA1}, "AES-65535-SHA", 16, "key length"},
		{Suite{doi.CipherBlowfish, 32, doi.HashSHA1}, "BLF-32-SHA", 8, "40 to 448"},
		{Suite{doi.CipherBlowfish, 129, doi.HashSHA1}, "BLF-129-SHA", 8, "steps of 8"},
		{Suite{doi.CipherBlowfish, 456, doi.HashSHA1}, "BLF-456-SHA", 8, "40 to 448"},
		{Suite{doi.CipherCAST, 40, doi.HashSHA1}, "CAST-40-SHA", 8, ""},
		{Suite{doi.CipherCAST, 136, doi.HashSHA1}, "CAST-136-SHA", 8, "40 to 128"},
		{Suite{doi.CipherDES, 64, doi.HashSHA1}, "DES-64-SHA", 8, "fixed"},
		{Suite{doi.Cipher3DES, 192, doi.HashSHA1}, "3DES-192-SHA", 8, "fixed"},
		{Suite{doi.CipherIDEA, 0, doi.HashSHA1}, "cipher 2-SHA", 0, "encryption algorithm 2"},
		{Suite{doi.CipherRC5, 128, doi.HashSHA1}, "cipher 4-128-SHA", 0, "encryption algorithm 4"},
		{Suite{0, 0, doi.HashSHA1}, "cipher 0-SHA", 0, "encryption algorithm 0"},
		{Suite{doi.CipherAES, 128, doi.HashTiger}, "AES-128-hash 3", 16, "hash algorithm 3"},
		{Suite{}, "cipher 0-hash 0", 0, "hash algorithm 0"},
	} {
		err := c.suite.Check()
		if (err == nil) != (c.words == "") || err != nil && !strings.Contains(err.Error(), c.words) {
			t.Errorf("%v: %v, expected %q", c.suite, err, c.words)
		}
		if c.suite.String() != c.name || c.suite.BlockSize() != c.block {
			t.Errorf("%q with blocks of %d, expected %q, %d", c.suite, c.suite.BlockSize(), c.name, c.block)
		}
		k, derr := Derive(c.suite, make([]byte, hashes[c.suite.Hash].size), []byte("gxy"), [8]byte{}, [8]byte{})
		if (derr == nil) != (err == nil) || derr == nil && k.Suite() != c.suite {
			t.Errorf("%v: Derive says %v, Check says %v", c.suite, derr, err)
		}
	}
}

func TestHashes(t *testing.T) {
	for h, want := range map[doi.Hash]int{1: 16, 2: 20, 4: 32, 5: 48, 6: 64} {
		n, ok := HashSize(h)
		if !ok || n != want || len(HashSum(h, []byte("a"))) != want || len(PRF(h, nil)) != want {
			t.Errorf("hash %d: %d bytes, %v", h, n, ok)
		}
		if string(HashSum(h, []byte("ab"), nil, []byte("c"))) != string(HashSum(h, []byte("abc"))) {
			t.Errorf("hash %d: parts are not one after the other", h)
		}
	}
	for _, h := range []doi.Hash{0, 3, 7, 65535} {
		if n, ok := HashSize(h); ok || n != 0 || HashSum(h, nil) != nil || PRF(h, nil, nil) != nil || SKEYIDPreShared(h, nil, nil, nil) != nil {
			t.Errorf("hash %d exists", h)
		}
	}
}
