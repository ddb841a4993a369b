package show

import (
	"fmt"

	"oakley/internal/ipsec"
)

// cipherName is what ipsec.conf(5) calls a cipher in output: any when the length
// of the key is not known or says nothing, else by its length in bits, salt not
// counted.
type cipherName struct {
	any    string
	byBits map[int]string
}

// aes are the names of a mode with its three key lengths.
func aes(any, format string) cipherName {
	n := cipherName{any: any, byBits: map[int]string{}}
	for _, bits := range []int{128, 192, 256} {
		n.byBits[bits] = fmt.Sprintf(format, bits)
	}
	return n
}

var cipherNames = map[ipsec.Cipher]cipherName{
	ipsec.CipherNull:             {any: "null"},
	ipsec.CipherDES:              {any: "des"},
	ipsec.Cipher3DES:             {any: "3des-cbc"},
	ipsec.CipherBlowfish:         {any: "blowfish"},
	ipsec.CipherCAST:             {any: "cast128"},
	ipsec.CipherSkipjack:         {any: "skipjack"},
	ipsec.CipherAESCBC:           {"aes", map[int]string{192: "aes-192", 256: "aes-256"}},
	ipsec.CipherAESCTR:           {"aesctr", map[int]string{192: "aes-192-ctr", 256: "aes-256-ctr"}},
	ipsec.CipherAESGCM8:          aes("aes-gcm-8", "aes-%d-gcm-8"),
	ipsec.CipherAESGCM12:         aes("aes-gcm-12", "aes-%d-gcm-12"),
	ipsec.CipherAESGCM16:         aes("aes-gcm", "aes-%d-gcm"),
	ipsec.CipherAESGMAC:          aes("aes-gmac", "aes-%d-gmac"),
	ipsec.CipherChaCha20Poly1305: {any: "chacha20-poly1305"},
}

var authNames = map[ipsec.Auth]string{
	ipsec.AuthNone:          "none",
	ipsec.AuthHMACMD5:       "hmac-md5",
	ipsec.AuthHMACSHA1:      "hmac-sha1",
	ipsec.AuthHMACRIPEMD160: "hmac-ripemd160",
	ipsec.AuthHMACSHA256:    "hmac-sha2-256",
	ipsec.AuthHMACSHA384:    "hmac-sha2-384",
	ipsec.AuthHMACSHA512:    "hmac-sha2-512",
	ipsec.AuthAESXCBC:       "aes-xcbc",
	ipsec.AuthAESGMAC:       "aes-gmac",
}

// Cipher is what ipsec.conf(5) calls a cipher with a key of so many bytes, salt
// not counted. 0 bytes: the key's length is not known.
func Cipher(c ipsec.Cipher, key int) string {
	n, ok := cipherNames[c]
	if !ok {
		return fmt.Sprintf("cipher-%d", uint8(c))
	}
	if s, ok := n.byBits[8*key]; ok {
		return s
	}
	return n.any
}

// Auth is what ipsec.conf(5) calls an authentication algorithm.
func Auth(a ipsec.Auth) string {
	if s, ok := authNames[a]; ok {
		return s
	}
	return fmt.Sprintf("auth-%d", uint8(a))
}

// ownerNames say by whom SAs and flows are made.
var ownerNames = map[ipsec.Owner]string{
	ipsec.OwnerIKE:      "isakmpd",
	ipsec.OwnerManual:   "hand",
	ipsec.OwnerPhoturis: "photurisd",
}

func owner(o ipsec.Owner) string {
	if s, ok := ownerNames[o]; ok {
		return s
	}
	return fmt.Sprintf("owner %d", uint8(o))
}

// protocols are the upper protocols that people know by name.
var protocols = map[uint8]string{
	1: "icmp", 2: "igmp", 4: "ipencap", 6: "tcp", 17: "udp", 41: "ipv6", 47: "gre", 50: "esp", 51: "ah",
	58: "ipv6-icmp", 89: "ospf", 108: "ipcomp", 112: "carp", 132: "sctp",
}

func protocol(n uint8) string {
	if s, ok := protocols[n]; ok {
		return s
	}
	return fmt.Sprint(n)
}
