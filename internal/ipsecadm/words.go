package ipsecadm

import (
	"fmt"
	"strings"

	"oakley/internal/ipsec"
)

// word is a name that a modifier takes, and what it stands for.
type word[T any] struct {
	name string
	is   T
}

var (
	ciphers = []word[ipsec.Cipher]{
		{"des", ipsec.CipherDES},
		{"3des", ipsec.Cipher3DES},
		{"blf", ipsec.CipherBlowfish},
		{"cast", ipsec.CipherCAST},
		{"skipjack", ipsec.CipherSkipjack},
		{"aes", ipsec.CipherAESCBC},
		{"null", ipsec.CipherNull},
	}
	auths = []word[ipsec.Auth]{
		{"md5", ipsec.AuthHMACMD5},
		{"sha1", ipsec.AuthHMACSHA1},
		{"rmd160", ipsec.AuthHMACRIPEMD160},
		{"sha2-256", ipsec.AuthHMACSHA256},
		{"sha2-384", ipsec.AuthHMACSHA384},
		{"sha2-512", ipsec.AuthHMACSHA512},
	}
	protos = []word[ipsec.Proto]{
		{"esp", ipsec.ProtoESP}, {"ah", ipsec.ProtoAH}, {"ip4", ipsec.ProtoIPIP}, {"ipcomp", ipsec.ProtoIPComp},
	}
	comps   = []word[ipsec.Comp]{{"deflate", ipsec.CompDeflate}}
	idTypes = []word[idType]{{"prefix", idPrefix}, {"fqdn", idFQDN}, {"ufqdn", idUserFQDN}}
	// transports are the protocols that have names here, whatever protocols(5) has.
	transports = []word[uint8]{
		{"icmp", 1},
		{"igmp", 2},
		{"ipencap", 4},
		{"tcp", 6},
		{"egp", 8},
		{"udp", 17},
		{"dccp", 33},
		{"ipv6", 41},
		{"rsvp", 46},
		{"gre", 47},
		{"ipv6-icmp", 58},
		{"icmp6", 58},
		{"ospf", 89},
		{"ipip", 94},
		{"pim", 103},
		{"vrrp", 112},
		{"carp", 112},
		{"l2tp", 115},
		{"sctp", 132},
		{"udplite", 136},
	}
)

// counters are parts of the names of ciphers in counter mode. With a key that
// stays the same, their counter repeats after a restart, and then two packets
// show the difference of their plain texts (RFC 3686 section 3, RFC 4106 section
// 2, RFC 7634 section 2).
var counters = []string{"ctr", "gcm", "gmac", "ccm", "chacha"}

func isCounter(name string) bool {
	for _, c := range counters {
		if strings.Contains(strings.ToLower(name), c) {
			return true
		}
	}
	return false
}

func lookUp[T any](table []word[T], name string) (v T, ok bool) {
	for _, w := range table {
		if strings.EqualFold(w.name, name) {
			return w.is, true
		}
	}
	return v, false
}

// nameOf is the reverse of lookUp; "" when there is none.
func nameOf[T comparable](table []word[T], v T) string {
	for _, w := range table {
		if w.is == v {
			return w.name
		}
	}
	return ""
}

func names[T any](table []word[T]) []string {
	all := make([]string, len(table))
	for i, w := range table {
		all[i] = w.name
	}
	return all
}

func protoName(p ipsec.Proto) string {
	if n := nameOf(protos, p); n != "" {
		return n
	}
	return p.String()
}

// either is "a, b or c".
func either(all []string) string {
	if len(all) < 2 {
		return strings.Join(all, "")
	}
	return strings.Join(all[:len(all)-1], ", ") + " or " + all[len(all)-1]
}

// keyLengths says in words which keys a cipher takes.
func keyLengths(c ipsec.Cipher) string {
	i := c.Info()
	switch {
	case i.MaxKey == 0:
		return "no key"
	case i.KeyStep == 0:
		return keyBytes(i.MinKey)
	case i.KeyStep == 1:
		return fmt.Sprintf("%d to %d bytes (%d to %d hex digits)", i.MinKey, i.MaxKey, 2*i.MinKey, 2*i.MaxKey)
	}
	var bytes, digits []string
	for n := i.MinKey; n <= i.MaxKey; n += i.KeyStep {
		bytes, digits = append(bytes, fmt.Sprint(n)), append(digits, fmt.Sprint(2*n))
	}
	return fmt.Sprintf("%s bytes (%s hex digits)", either(bytes), either(digits))
}

func keyBytes(n int) string {
	if n == 1 {
		return "1 byte (2 hex digits)"
	}
	return fmt.Sprintf("%d bytes (%d hex digits)", n, 2*n)
}
