package oakley

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"

	"oakley/internal/doi"
)

type hashInfo struct {
	name string
	size int
	make func() hash.Hash
}

// hashes are the phase 1 hashes; each one's HMAC is the PRF that goes with it,
// since no other was ever registered (RFC 2409 section 4).
var hashes = map[doi.Hash]hashInfo{
	doi.HashMD5:     {"MD5", md5.Size, md5.New},
	doi.HashSHA1:    {"SHA", sha1.Size, sha1.New},
	doi.HashSHA2256: {"SHA2-256", sha256.Size, sha256.New},
	doi.HashSHA2384: {"SHA2-384", sha512.Size384, sha512.New384},
	doi.HashSHA2512: {"SHA2-512", sha512.Size, sha512.New},
}

// HashSize is the length of a hash in bytes, and whether it is supported.
func HashSize(h doi.Hash) (int, bool) {
	i, ok := hashes[h]
	return i.size, ok
}

// HashSum is the plain hash of the parts one after the other: NAT-D payloads
// (RFC 3947 section 3.2) and initial vectors. It is nil for a hash that
// Suite.Check refuses.
func HashSum(h doi.Hash, parts ...[]byte) []byte {
	i, ok := hashes[h]
	if !ok {
		return nil
	}
	return sum(i.make(), parts)
}

// PRF is the pseudo-random function of a hash, its HMAC, over the parts one
// after the other (RFC 2409 section 4). It is nil for a hash that Suite.Check
// refuses.
func PRF(h doi.Hash, key []byte, parts ...[]byte) []byte {
	i, ok := hashes[h]
	if !ok {
		return nil
	}
	return sum(hmac.New(i.make, key), parts)
}

func sum(h hash.Hash, parts [][]byte) []byte {
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(make([]byte, 0, h.Size()))
}

// feedback is n bytes of a PRF fed back into itself: K1 = prf(key, first |
// seed), K2 = prf(key, K1 | seed) and so on, cut at n. Appendix B makes cipher
// keys of it, with a zero octet as first and no seed, and section 5.5 keying
// material, with no first and a seed.
func feedback(h doi.Hash, key, first []byte, seed [][]byte, n int) []byte {
	var out []byte
	parts := append([][]byte{first}, seed...)
	for len(out) < n {
		k := PRF(h, key, parts...)
		if k == nil {
			return nil
		}
		out = append(out, k...)
		parts[0] = k
	}
	return out[:n]
}
