// Package icv makes and checks the integrity check values of ESP and AH: HMACs
// (RFC 2403, 2404, 2857, 4868) and AES-XCBC-MAC-96 (RFC 3566). A key is worked on
// once; a packet then costs no allocation. A MAC may be used by any number of
// goroutines.
package icv

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"fmt"
	"hash"
	"strings"

	//lint:ignore SA1019 old peers speak it
	"golang.org/x/crypto/ripemd160"

	"oakley/internal/ipsec"
)

// MAC makes ICVs with one key.
type MAC struct {
	alg interface {
		// sum writes the whole, uncut value of a, b and c to out, which has
		// maxSize bytes, and returns it.
		sum(out *[maxSize]byte, a, b, c []byte) []byte
	}
	length int
}

const maxSize = sha512.Size

// hashes are those of HMAC.
var hashes = map[ipsec.Auth]func() hash.Hash{
	ipsec.AuthHMACMD5:       md5.New,
	ipsec.AuthHMACSHA1:      sha1.New,
	ipsec.AuthHMACRIPEMD160: ripemd160.New,
	ipsec.AuthHMACSHA256:    sha256.New,
	ipsec.AuthHMACSHA384:    sha512.New384,
	ipsec.AuthHMACSHA512:    sha512.New,
}

// Auths lists the algorithms that New takes.
func Auths() []ipsec.Auth {
	return []ipsec.Auth{
		ipsec.AuthHMACMD5, ipsec.AuthHMACSHA1, ipsec.AuthHMACRIPEMD160,
		ipsec.AuthHMACSHA256, ipsec.AuthHMACSHA384, ipsec.AuthHMACSHA512, ipsec.AuthAESXCBC,
	}
}

// New makes a MAC of an algorithm with a key of exactly its length. AES-GMAC
// needs a nonce for each packet and is not among the algorithms.
func New(a ipsec.Auth, key []byte) (*MAC, error) {
	info := a.Info()
	newHash := hashes[a]
	if newHash == nil && a != ipsec.AuthAESXCBC {
		return nil, fmt.Errorf("authentication with %s is not available here; take one of %s", info.Name, list())
	}
	if len(key) != info.Key {
		return nil, fmt.Errorf("%s takes a key of %d bytes, this one has %d", info.Name, info.Key, len(key))
	}
	m := &MAC{length: info.ICV}
	var err error
	if newHash != nil {
		m.alg, err = newHMAC(a, newHash, key)
	} else {
		m.alg, err = newXCBC(key)
	}
	return m, err
}

func list() string {
	var names []string
	for _, a := range Auths() {
		names = append(names, a.String())
	}
	return strings.Join(names, ", ")
}

// Len is the length of the ICV in bytes, as it is in the packet.
func (m *MAC) Len() int { return m.length }

// Sum writes the ICV of a, b and c, one behind the other, to the first Len bytes
// of dst.
func (m *MAC) Sum(dst []byte, a, b, c []byte) {
	s := sums.Get().(*[maxSize]byte)
	copy(dst[:m.length], m.alg.sum(s, a, b, c))
	sums.Put(s)
}

// Verify tells, in constant time, whether icv is the one of a, b and c.
func (m *MAC) Verify(icv []byte, a, b, c []byte) bool {
	s := sums.Get().(*[maxSize]byte)
	ok := subtle.ConstantTimeCompare(m.alg.sum(s, a, b, c)[:m.length], icv) == 1
	sums.Put(s)
	return ok
}
