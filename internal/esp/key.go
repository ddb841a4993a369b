package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"

	//lint:ignore SA1019 old peers speak it
	"golang.org/x/crypto/blowfish"
	"golang.org/x/crypto/chacha20poly1305"

	"oakley/internal/cast128"
	"oakley/internal/icv"
	"oakley/internal/ipsec"
	"oakley/internal/skipjack"
)

// blockCiphers are the CBC ciphers.
var blockCiphers = map[ipsec.Cipher]func(key []byte) (cipher.Block, error){
	ipsec.CipherDES:      des.NewCipher,
	ipsec.Cipher3DES:     des.NewTripleDESCipher,
	ipsec.CipherBlowfish: func(k []byte) (cipher.Block, error) { return blowfish.NewCipher(k) },
	ipsec.CipherCAST:     cast128.New,
	ipsec.CipherSkipjack: skipjack.New,
	ipsec.CipherAESCBC:   aes.NewCipher,
}

// Ciphers lists the encryption algorithms that New takes.
func Ciphers() []ipsec.Cipher {
	return []ipsec.Cipher{
		ipsec.CipherNull, ipsec.CipherDES, ipsec.Cipher3DES, ipsec.CipherBlowfish, ipsec.CipherCAST,
		ipsec.CipherSkipjack, ipsec.CipherAESCBC, ipsec.CipherAESCTR, ipsec.CipherAESGCM8, ipsec.CipherAESGCM12,
		ipsec.CipherAESGCM16, ipsec.CipherAESGMAC, ipsec.CipherChaCha20Poly1305,
	}
}

// Auths lists the authentication algorithms that New takes.
func Auths() []ipsec.Auth { return icv.Auths() }

// New makes an SA ready. Its errors name the SA, what it has and what is right.
// Weak DES keys are refused (RFC 2405 section 4.1), as are triple DES keys that
// come down to DES.
//
// The IVs of CBC are made with a key that is derived from the SA's own keys, so
// that the same SA always seals the same packet alike. That is right for keys
// that IKE made for one SA. Keys that a person typed and that come back with the
// same sequence numbers after a restart need NewRandom.
func New(sa *ipsec.SA) (*Transform, error) { return NewRandom(sa, nil) }

// NewRandom is New with 16 bytes of randomness in the IV key of CBC.
func NewRandom(sa *ipsec.SA, random io.Reader) (*Transform, error) {
	t, err := build(sa, random)
	if err != nil {
		return nil, fmt.Errorf("SA %s: %w", sa.ID, err)
	}
	return t, nil
}

func build(sa *ipsec.SA, random io.Reader) (*Transform, error) {
	info := sa.Cipher.Info()
	if sa.ID.Proto != ipsec.ProtoESP {
		return nil, fmt.Errorf("protocol is %s, this is ESP's sealing", sa.ID.Proto)
	}
	if !sa.Cipher.KeyLenOK(len(sa.Key)) {
		return nil, fmt.Errorf("%s takes a key of %s bytes, this one has %d", info.Name, keyLengths(info), len(sa.Key))
	}
	t := &Transform{
		spi:    uint32(sa.ID.SPI),
		esn:    sa.ESN,
		align:  max(4, info.Block),
		ivLen:  info.IV,
		icvLen: info.ICV,
	}
	if err := t.setCipher(sa, info); err != nil {
		return nil, err
	}
	if err := t.setAuth(sa, info); err != nil {
		return nil, err
	}
	if t.mode != modeCBC || sa.ID.Dir != ipsec.Out {
		return t, nil
	}
	var err error
	t.ivGen, err = newIVGen(sa, random)
	return t, err
}

func (t *Transform) setCipher(sa *ipsec.SA, info ipsec.CipherInfo) (err error) {
	if len(sa.Salt) != info.Salt {
		return fmt.Errorf("%s takes a salt of %d bytes, this one has %d", info.Name, info.Salt, len(sa.Salt))
	}
	copy(t.salt[:], sa.Salt)
	switch sa.Cipher {
	case ipsec.CipherNull:
		return nil
	case ipsec.CipherAESCTR:
		t.mode = modeCTR
		if t.block, err = aes.NewCipher(sa.Key); err != nil {
			return err
		}
		t.aead, err = cipher.NewGCM(t.block)
		return err
	case ipsec.CipherAESGCM8, ipsec.CipherAESGCM12, ipsec.CipherAESGCM16, ipsec.CipherAESGMAC:
		t.mode = modeAEAD
		if sa.Cipher == ipsec.CipherAESGCM8 {
			t.mode = modeShort
		} else if sa.Cipher == ipsec.CipherAESGMAC {
			t.mode = modeGMAC
		}
		t.aead, err = newGCM(sa.Key, max(12, info.ICV))
		return err
	case ipsec.CipherChaCha20Poly1305:
		t.mode = modeAEAD
		t.aead, err = chacha20poly1305.New(sa.Key)
		return err
	}
	newBlock := blockCiphers[sa.Cipher]
	if newBlock == nil {
		return fmt.Errorf("encryption with %s is not available here; take one of %s", info.Name, list(Ciphers()))
	}
	if err := checkDES(sa.Cipher, sa.Key); err != nil {
		return err
	}
	t.mode = modeCBC
	t.block, err = newBlock(sa.Key)
	return err
}

func (t *Transform) setAuth(sa *ipsec.SA, info ipsec.CipherInfo) (err error) {
	if t.mode.combined() {
		if sa.Auth != ipsec.AuthNone || len(sa.AuthKey) != 0 {
			return fmt.Errorf("%s authenticates by itself and takes no %s beside it", info.Name, sa.Auth)
		}
		return nil
	}
	if sa.Auth == ipsec.AuthNone {
		switch {
		case t.mode == modeNull:
			return fmt.Errorf("neither encryption nor authentication (RFC 2410 section 4 asks for one of them)")
		case t.mode == modeCTR:
			return fmt.Errorf("%s without authentication: anybody could flip bits of the plaintext (RFC 3686 section 3.3 forbids it)", info.Name)
		case len(sa.AuthKey) != 0:
			return fmt.Errorf("an authentication key of %d bytes without an algorithm", len(sa.AuthKey))
		}
		return nil
	}
	t.icvLen = sa.Auth.Info().ICV
	t.mac, err = icv.New(sa.Auth, sa.AuthKey)
	return err
}

func newGCM(key []byte, tag int) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithTagSize(b, tag)
}

// newIVGen keys the cipher that makes IVs: a hash of a label, the SPI, the SA's
// keys and what randomness there is, so that it says nothing about either key.
func newIVGen(sa *ipsec.SA, random io.Reader) (cipher.Block, error) {
	h := sha256.New()
	h.Write([]byte("oakley esp cbc iv"))
	var n [4]byte
	for _, b := range [][]byte{binary.BigEndian.AppendUint32(nil, uint32(sa.ID.SPI)), sa.Key, sa.AuthKey} {
		binary.BigEndian.PutUint32(n[:], uint32(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	if random != nil {
		if _, err := io.CopyN(h, random, 16); err != nil {
			return nil, fmt.Errorf("no randomness for the IV key: %w", err)
		}
	}
	return aes.NewCipher(h.Sum(nil)[:16])
}

// keyLengths says which key lengths a cipher takes.
func keyLengths(i ipsec.CipherInfo) string {
	switch {
	case i.KeyStep == 0 || i.MinKey == i.MaxKey:
		return strconv.Itoa(i.MinKey)
	case i.KeyStep == 1:
		return fmt.Sprintf("%d to %d", i.MinKey, i.MaxKey)
	}
	var all []string
	for n := i.MinKey; n < i.MaxKey; n += i.KeyStep {
		all = append(all, strconv.Itoa(n))
	}
	return strings.Join(all, ", ") + " or " + strconv.Itoa(i.MaxKey)
}

func list[T fmt.Stringer](all []T) string {
	names := make([]string, len(all))
	for i, a := range all {
		names[i] = a.String()
	}
	return strings.Join(names, ", ")
}
