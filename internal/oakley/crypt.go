package oakley

import (
	"crypto/cipher"
	"fmt"
)

// IV is the initial vector of the first encrypted message of phase 1:
// hash(g^xi | g^xr), cut to a block (RFC 2409 appendix B).
func (k *Keys) IV(gxi, gxr []byte) []byte {
	return HashSum(k.hash, gxi, gxr)[:ciphers[k.cipher].block]
}

// Phase2IV is the initial vector of the first message of an exchange after
// phase 1: hash(last phase 1 block | M-ID), cut to a block (RFC 2409 appendix
// B).
func (k *Keys) Phase2IV(last []byte, msgid uint32) []byte {
	return HashSum(k.hash, last, messageID(msgid))[:ciphers[k.cipher].block]
}

// Encrypt encrypts the payloads of a message, padded with zeros to a whole
// block (RFC 2409 appendix B), and returns the last block as the IV of the
// exchange's next message. Its arguments stay as they are; iv is one block.
func (k *Keys) Encrypt(iv, plain []byte) (ciphertext, next []byte) {
	block := ciphers[k.cipher].block
	ciphertext = make([]byte, (len(plain)+block-1)/block*block)
	copy(ciphertext, plain)
	if len(ciphertext) == 0 {
		return ciphertext, append([]byte(nil), iv...)
	}
	cipher.NewCBCEncrypter(k.block(), iv).CryptBlocks(ciphertext, ciphertext)
	return ciphertext, append([]byte(nil), ciphertext[len(ciphertext)-block:]...)
}

// Decrypt is the reverse of Encrypt, padding included. next is to be kept only
// once the message is authenticated: until then anybody may have sent it. It
// fails for a ciphertext that is empty or no whole number of blocks.
func (k *Keys) Decrypt(iv, ciphertext []byte) (plain, next []byte, err error) {
	block := ciphers[k.cipher].block
	switch {
	case len(ciphertext) == 0:
		return nil, nil, fmt.Errorf("encrypted message without payloads: expected at least one block of %d bytes", block)
	case len(ciphertext)%block != 0:
		return nil, nil, fmt.Errorf("encrypted payloads of %d bytes: expected a multiple of the block size %d of %v", len(ciphertext), block, k.Suite())
	case len(iv) != block:
		return nil, nil, fmt.Errorf("initial vector of %d bytes: expected %d", len(iv), block)
	}
	plain = make([]byte, len(ciphertext))
	cipher.NewCBCDecrypter(k.block(), iv).CryptBlocks(plain, ciphertext)
	return plain, append([]byte(nil), ciphertext[len(ciphertext)-block:]...), nil
}

func (k *Keys) block() cipher.Block {
	b, err := ciphers[k.cipher].make(k.cipherKey())
	if err != nil {
		// Derive made the key of the length that the cipher wants.
		panic("oakley: " + err.Error())
	}
	return b
}
