package oakley

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"fmt"

	//lint:ignore SA1019 peers of 1998 speak it (RFC 2409 appendix A)
	"golang.org/x/crypto/blowfish"
	//lint:ignore SA1019 peers of 1998 speak it (RFC 2409 appendix A)
	"golang.org/x/crypto/cast5"

	"oakley/internal/doi"
)

type cipherInfo struct {
	name     string
	block    int // bytes
	bits     int // the fixed length, or the one without a key length attribute
	min, max int // bits, of the attribute; 0: it must not be there
	step     int // bits
	make     func(key []byte) (cipher.Block, error)
}

// ciphers are the phase 1 ciphers with the key lengths of RFC 2409 appendix B:
// without an attribute Blowfish has 448 bits and CAST 128; AES has 128 (RFC
// 3602 section 2.2).
var ciphers = map[doi.Cipher]cipherInfo{
	doi.CipherDES:      {name: "DES", block: 8, bits: 64, make: des.NewCipher},
	doi.Cipher3DES:     {name: "3DES", block: 8, bits: 192, make: des.NewTripleDESCipher},
	doi.CipherBlowfish: {"BLF", 8, 448, 40, 448, 8, newBlowfish},
	doi.CipherCAST:     {"CAST", 8, 128, 88, 128, 8, newCAST},
	doi.CipherAES:      {"AES", 16, 128, 128, 256, 64, aes.NewCipher},
}

func (c cipherInfo) fixed() bool { return c.max == 0 }

func (c cipherInfo) checkBits(bits int) error {
	switch {
	case bits == 0:
		return nil
	case c.fixed():
		return fmt.Errorf("key length %d with %s, whose length is fixed: RFC 2409 appendix A forbids the attribute", bits, c.name)
	case bits < c.min || bits > c.max || (bits-c.min)%c.step != 0:
		why := ""
		if c.name == "CAST" && bits >= 40 && bits <= 80 {
			why = " (shorter keys make CAST a cipher of 12 rounds, RFC 2144 section 2.5, which is not offered for phase 1)"
		}
		return fmt.Errorf("key length %d is none of %s: use %d to %d bits in steps of %d%s", bits, c.name, c.min, c.max, c.step, why)
	}
	return nil
}

func newBlowfish(key []byte) (cipher.Block, error) { return blowfish.NewCipher(key) }

// newCAST pads keys of 88 to 120 bits with zeros to 128, as RFC 2144 section
// 2.5 has it.
func newCAST(key []byte) (cipher.Block, error) {
	var padded [cast5.KeySize]byte
	copy(padded[:], key)
	return cast5.NewCipher(padded[:])
}
