package oakley

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"fmt"

	//lint:ignore SA1019 peers of 1998 speak it (RFC 2409 appendix A)
	"golang.org/x/crypto/blowfish"

	"oakley/internal/cast128"
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
	doi.CipherCAST:     {"CAST", 8, 128, 40, 128, 8, cast128.New},
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
		return fmt.Errorf("key length %d is none of %s: use %d to %d bits in steps of %d", bits, c.name, c.min, c.max, c.step)
	}
	return nil
}

func newBlowfish(key []byte) (cipher.Block, error) { return blowfish.NewCipher(key) }
